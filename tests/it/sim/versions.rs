//! A file that was changed after it was sent, interrupted at every effect: our own earlier version
//! is replaced where that is safe, and nothing else ever is.

use dropferry::testing::engine::event::Event;
use dropferry::testing::model::{
    ChangePolicy, DirectoryName, Hold, NamePolicy, ParkReason, Replaces, SourcePath, Stage, Traits,
};

use super::check;
use super::crashes::{each_crash, told};
use super::scenarios::put_there;
use super::world::{Life, Step, World, traits};

const OLD: &[u8] = b"0123456789";
/// Longer, of the same length, and of one part.
const NEWER: [&[u8]; 3] = [b"abcdefghijklm", b"9876543210", b"ab"];

/// A world in which a file was sent, and the daemon stopped.
fn sent(seed: u64, changed: ChangePolicy, traits: Traits) -> World {
    let mut world = World::with(seed, NamePolicy::SkipIfSame, traits);
    world.settings.destinations[0].policies.changed = changed;
    world.write("run/a", OLD);
    drop(world.run());
    world
}

fn far(world: &World) -> Vec<(String, Vec<u8>)> {
    let far = world.fake.state();
    let mut files: Vec<_> = far
        .files
        .values()
        .map(|file| (file.target.name().to_owned(), file.bytes.clone()))
        .collect();
    files.sort();
    files
}

fn file(name: &str, bytes: &[u8]) -> (String, Vec<u8>) {
    (name.to_owned(), bytes.to_vec())
}

fn is_parked(life: &Life) -> bool {
    let parked = Hold::Parked { reason: ParkReason::NameTaken };
    life.engine.view().stored_uploads().iter().any(|upload| upload.state.hold == parked)
}

/// Only the newest version is there, and its row names the version that it replaced.
fn assert_replaced(world: &World, life: &Life, newer: &[u8]) {
    assert_eq!(far(world), [file("a", newer)]);
    let mut uploads = check::status(world).uploads;
    uploads.retain(|upload| matches!(upload.state.stage, Stage::Receipted { .. }));
    uploads.sort_by_key(|upload| upload.admission.id);
    let ids: Vec<_> = uploads.iter().map(|upload| upload.admission.id).collect();
    let replaced: Vec<_> = uploads
        .iter()
        .map(|upload| upload.state.supersedes.as_ref().map(|by| by.earlier.upload))
        .collect();
    assert_eq!(replaced, [None, Some(ids[0])]);
    check::at_rest(world, life);
}

#[test]
fn a_newer_version_replaces_our_own_wherever_it_is_cut() {
    let mut points = 0;
    let ways = [(false, Replaces::ByETag), (true, Replaces::ByETag), (false, Replaces::ByRenaming)];
    for (sends_whole, replaces) in ways {
        for (seed, newer) in (0..).zip(NEWER) {
            let traits = Traits { sends_whole, replaces, ..traits() };
            let mut world = sent(seed, ChangePolicy::Replace, traits);
            // The platform receives the bytes of a whole file before it finds that the name is taken.
            world.allowance = if sends_whole { 2 * newer.len() as u64 } else { 0 };
            world.write("run/a", newer);
            let story = format!("whole {sends_whole}, {replaces:?}, {} bytes", newer.len());
            let (_, life) = each_crash(&mut world, |at, mut world| {
                points += 1;
                told(format!("{story}, crash {at}"), || {
                    let life = world.run();
                    assert_replaced(&world, &life, newer);
                });
            });
            told(story, || assert_replaced(&world, &life, newer));
        }
    }
    assert!(points > 100, "only {points} points");
}

#[test]
fn what_may_not_be_replaced_is_kept_beside_the_newer_version_wherever_it_is_cut() {
    let no_replacing = Traits { replaces: Replaces::Never, ..traits() };
    for (policy, traits, newer) in [
        (ChangePolicy::KeepBoth, traits(), NEWER[0]),
        (ChangePolicy::Replace, no_replacing, NEWER[1]),
        (ChangePolicy::Replace, traits(), b""),
    ] {
        let mut world = sent(1, policy, traits);
        world.write("run/a", newer);
        let check = |world: &World, life: &Life| {
            assert_eq!(far(world), [file("a", OLD), file("a.v2", newer)]);
            check::at_rest(world, life);
        };
        let (_, life) = each_crash(&mut world, |at, mut world| {
            told(format!("{policy:?}, {} bytes, crash {at}", newer.len()), || {
                let life = world.run();
                check(&world, &life);
            });
        });
        check(&world, &life);
    }
}

/// The file at a place where a newer version takes over by renaming, interrupted at every effect:
/// the name may be free for a moment, and no version is gone before the newer one has the name.
#[test]
fn no_crash_leaves_a_name_without_the_newer_version_and_without_the_earlier_one() {
    let traits = Traits { replaces: Replaces::ByRenaming, ..traits() };
    let mut world = sent(6, ChangePolicy::Replace, traits);
    world.write("run/a", NEWER[0]);
    let (_, life) = each_crash(&mut world, |at, world| {
        let there: Vec<_> = far(&world).into_iter().map(|(_, bytes)| bytes).collect();
        let is_safe = there.iter().any(|bytes| bytes == OLD || bytes == NEWER[0]);
        assert!(is_safe, "crash {at}: {there:?}");
    });
    assert_replaced(&world, &life, NEWER[0]);
}

#[test]
fn a_file_of_others_that_takes_the_name_meanwhile_is_neither_renamed_nor_removed() {
    let traits = Traits { replaces: Replaces::ByRenaming, ..traits() };
    let mut world = sent(7, ChangePolicy::Replace, traits);
    world.write("run/a", NEWER[0]);
    let mut life = world.start();
    while world.fake.state().files.len() < 2 {
        assert_ne!(world.step(&mut life), Step::Quiet, "the newer one arrives beside");
    }
    world.fake.state().files.retain(|_, file| file.target.name() != "a");
    put_there(&world, b"other", true);
    world.settle(&mut life);
    assert!(is_parked(&life));
    let there = far(&world);
    assert_eq!(there[0], file("a", b"other"));
    assert!(there[1].0.starts_with("a.") && there[1].0.ends_with(".newer"), "{there:?}");
    assert_eq!((there.len(), &there[1].1[..]), (2, NEWER[0]));
}

#[test]
fn another_file_under_a_path_that_was_seen_empty_replaces_nothing() {
    let mut world = sent(2, ChangePolicy::Replace, traits());
    let mut life = world.run();
    world.files.clear();
    let (drop, paths) = (DirectoryName::new("drop"), vec![SourcePath::from_bytes(b"run/a")]);
    world.tell(&mut life, Event::Hint { drop, paths });
    world.settle(&mut life);
    world = world.crashed(&life, None);
    world.write("run/a", NEWER[0]);
    let life = world.run();
    assert_eq!(far(&world), [file("a", OLD), file("a.v2", NEWER[0])]);
    check::at_rest(&world, &life);
}

#[test]
fn a_file_of_others_in_the_place_of_our_own_is_left_alone() {
    for changed in [ChangePolicy::Replace, ChangePolicy::KeepBoth] {
        let mut world = sent(3, changed, traits());
        world.fake.state().files.clear();
        put_there(&world, b"other", true);
        world.write("run/a", NEWER[0]);
        let life = world.run();
        assert!(is_parked(&life));
        assert_eq!(far(&world), [file("a", b"other")]);
        check::at_rest(&world, &life);
    }
}

#[test]
fn a_newer_version_waits_where_that_is_ordered_and_a_version_of_the_same_content_is_complete() {
    let mut world = sent(4, ChangePolicy::Park, traits());
    world.write("run/a", NEWER[0]);
    let life = world.run();
    assert!(is_parked(&life));
    assert_eq!(far(&world), [file("a", OLD)]);
    let mut world = sent(5, ChangePolicy::Park, traits());
    let begun = world.fake.state().calls["begin"];
    world.write("run/a", OLD);
    let life = world.run();
    assert!(!is_parked(&life));
    assert_eq!((far(&world), world.fake.state().calls["begin"]), (vec![file("a", OLD)], begun));
    check::at_rest(&world, &life);
}

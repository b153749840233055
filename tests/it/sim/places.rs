//! Two of our sources for one place, interrupted at every effect: a file with a receipt stays there.

use dropferry::testing::model::{Hold, NamePolicy, ParkReason, Stage, Traits};

use super::check;
use super::crashes::{each_crash, told};
use super::world::{Life, World, traits};

/// Two names that become one at the platform: a byte that is not valid text is escaped there.
const SOURCES: [&[u8]; 2] = [b"run/b%FF", b"run/b\xff"];
const POLICIES: [NamePolicy; 4] =
    [NamePolicy::SkipIfSame, NamePolicy::Overwrite, NamePolicy::Rename, NamePolicy::Park];
const LONG: &[u8] = b"0123456789";

fn world(seed: u64, policy: NamePolicy, traits: Traits) -> World {
    World::with(seed, policy, traits)
}

/// Every file with a receipt is at the platform as it was when it was sent.
fn nothing_is_lost(world: &World) -> (usize, usize) {
    let (mut completed, mut parked) = (0, 0);
    for upload in &check::status(world).uploads {
        let far = world.fake.state();
        match (&upload.state.stage, upload.state.hold) {
            (Stage::Receipted { file }, _) => {
                let inode = upload.admission.file.fingerprint.inode;
                let there = far.files.get(file.id.as_str()).map(|file| &file.bytes);
                assert_eq!(there, Some(&world.versions[&inode]), "{}", upload.admission.file.path);
                completed += 1;
            }
            (_, Hold::Parked { reason: ParkReason::PlaceTakenByOurs }) => {
                let detail = upload.park_detail.clone().unwrap_or_default();
                for name in ["b%FF", "b\\xff"] {
                    assert!(detail.contains(name), "{detail} names both sources");
                }
                parked += 1;
            }
            (Stage::Ended(_), _) => {}
            other => panic!("{} ends as {other:?}", upload.admission.file.path),
        }
    }
    (completed, parked)
}

fn comes_to_rest(world: &World, life: &Life, policy: NamePolicy, is_same: bool) {
    let counts = nothing_is_lost(world);
    let expected = if is_same || policy == NamePolicy::Rename { (2, 0) } else { (1, 1) };
    assert_eq!(counts, expected, "{policy:?}, the same content: {is_same}");
    check::at_rest(world, life);
}

#[test]
fn of_two_sources_for_one_place_the_second_waits_and_then_finds_the_name_taken() {
    let mut points = 0;
    for (seed, policy) in (0..).zip(POLICIES) {
        for sends_whole in [false, true] {
            for second in [&b"abcdefghijklm"[..], LONG, b"ab"] {
                let traits = Traits { sends_whole, ..traits() };
                let mut world = world(seed, policy, traits);
                world.write_at(SOURCES[0], LONG);
                world.write_at(SOURCES[1], second);
                let is_same = second == LONG;
                let story = format!("{policy:?}, whole {sends_whole}, {} bytes", second.len());
                let (_, life) = each_crash(&mut world, |at, mut world| {
                    points += 1;
                    told(format!("{story}, crash {at}"), || {
                        let life = world.run();
                        comes_to_rest(&world, &life, policy, is_same);
                    });
                });
                told(story, || comes_to_rest(&world, &life, policy, is_same));
            }
        }
    }
    assert!(points > 400, "only {points} points");
}

#[test]
fn a_source_that_comes_later_finds_the_place_of_the_first_taken_after_a_restart_too() {
    for (seed, policy) in (0..).zip(POLICIES) {
        for order in [[0, 1], [1, 0]] {
            for restarts in [false, true] {
                let mut world = world(seed, policy, traits());
                world.write_at(SOURCES[order[0]], LONG);
                let mut life = world.run();
                if restarts {
                    world = world.crashed(&life, None);
                    life = world.start();
                }
                world.write_at(SOURCES[order[1]], b"abcdefghij");
                life.has_scanned = false;
                let drop = dropferry::testing::model::DirectoryName::new("drop");
                world.tell(&mut life, dropferry::testing::engine::event::Event::ScanNow { drop });
                world.settle(&mut life);
                comes_to_rest(&world, &life, policy, false);
            }
        }
    }
}

#[test]
fn the_same_source_in_a_newer_version_is_treated_by_policy_as_before() {
    let mut world = world(7, NamePolicy::Overwrite, traits());
    world.write_at(SOURCES[0], LONG);
    let mut life = world.run();
    world.write_at(SOURCES[0], b"abcdefghij");
    life.has_scanned = false;
    let drop = dropferry::testing::model::DirectoryName::new("drop");
    world.tell(&mut life, dropferry::testing::engine::event::Event::ScanNow { drop });
    world.settle(&mut life);
    let far = world.fake.state();
    let there: Vec<_> = far.files.values().map(|file| file.bytes.clone()).collect();
    assert_eq!(there, [b"abcdefghij".to_vec()]);
}

#[test]
fn two_destinations_with_one_target_share_its_places() {
    for policy in POLICIES {
        let mut world = world(3, policy, traits());
        world.add_destination();
        world.settings.destinations[1].folder = "runs".into();
        world.write("run/a", LONG);
        let life = world.run();
        let (completed, parked) = {
            let uploads = check::status(&world).uploads;
            let is = |word: &str| uploads.iter().filter(|upload| upload.word() == word).count();
            (is("completed"), is("parked"))
        };
        // It is the same source: a file that it finds is treated by policy, and nothing is doubled at once.
        assert_eq!(completed + parked, 2, "{policy:?}");
        check::at_rest(&world, &life);
    }
}

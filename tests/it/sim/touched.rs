//! Files that were touched or moved: the same inode, length and modification time, and perhaps a
//! different content. The content is compared if the file was sent, and never mixed if it is being
//! sent; interrupted at every effect.

use std::time::Duration;

use dropferry::testing::engine::event::Event;
use dropferry::testing::model::{
    DirectoryName, FailureKind, IgnoreReason, NamePolicy, Stage, Traits,
};

use super::acts::Fault;
use super::check;
use super::crashes::{each_crash, told};
use super::world::{Life, Step, World, traits};

const OLD: &[u8] = b"0123456789";
const NEW: &[u8] = b"9876543210";

/// A world in which everything was sent, and the daemon stopped.
fn sent(seed: u64) -> World {
    let mut world = World::with(seed, NamePolicy::Overwrite, traits());
    world.write("run/large", OLD);
    world.write("run/empty", b"");
    world.write("alone", b"aa");
    drop(world.run());
    world
}

fn calls(world: &World, operation: &str) -> u64 {
    world.fake.state().calls.get(operation).copied().unwrap_or(0)
}

fn compares(world: &World) -> u32 {
    world.act_counts.get("compare content").copied().unwrap_or(0)
}

fn far(world: &World, name: &str) -> Vec<Vec<u8>> {
    let far = world.fake.state();
    let named = far.files.values().filter(|file| file.target.name() == name);
    named.map(|file| file.bytes.clone()).collect()
}

/// Nothing was begun, and the next start finds nothing to compare.
fn assert_proved(world: &mut World, life: Life, begun: u64) {
    assert_eq!(calls(world, "begin"), begun, "something was sent again");
    check::all_arrived(world, &life);
    drop(life);
    let before = compares(world);
    drop(world.run());
    assert_eq!(compares(world), before, "it was compared again");
}

#[test]
fn touched_files_are_read_and_not_sent_wherever_it_is_cut() {
    let mut points = 0;
    for seed in 0..12 {
        let mut world = sent(seed);
        let begun = calls(&world, "begin");
        ["run/large", "run/empty", "alone"].iter().for_each(|path| world.touch(path, None));
        let (count, life) = each_crash(&mut world, |at, mut world| {
            told(format!("seed {seed}, crash {at}"), || {
                let life = world.run();
                assert_proved(&mut world, life, begun);
            });
        });
        points += count;
        assert!(compares(&world) >= 3, "they were not compared");
        assert_proved(&mut world, life, begun);
    }
    assert!(points > 120, "only {points} crash points were found");
}

#[test]
fn files_with_other_inodes_or_times_are_read_and_not_sent_wherever_it_is_cut() {
    for seed in 200..206 {
        for remounts in [true, false] {
            let mut world = sent(seed);
            let begun = calls(&world, "begin");
            match remounts {
                true => world.remount(),
                false => ["run/large", "run/empty", "alone"]
                    .iter()
                    .for_each(|path| world.stamp(path, None)),
            }
            let (_, life) = each_crash(&mut world, |at, mut world| {
                told(format!("seed {seed}, mounted again {remounts}, crash {at}"), || {
                    let life = world.run();
                    assert_proved(&mut world, life, begun);
                });
            });
            assert!(compares(&world) >= 3, "they were not compared");
            assert_proved(&mut world, life, begun);
        }
    }
}

/// A world that was interrupted while one of its files was sent; that file is a different one by now.
fn half_sent(seed: u64, reports_parts: bool, bytes: Option<&[u8]>) -> World {
    let traits = Traits { reports_parts, ..traits() };
    let mut world = World::with(seed, NamePolicy::SkipIfSame, traits);
    world.write("run/large", OLD);
    let mut life = world.start();
    let is_half = |life: &Life| {
        let uploads = life.engine.view().stored_uploads();
        uploads.iter().any(|upload| upload.state.accepted_count > 0)
    };
    while !is_half(&life) || !life.is_durable() {
        assert_ne!(world.step(&mut life), Step::Quiet);
    }
    world.stamp("run/large", bytes);
    world.crashed(&life, None)
}

#[test]
fn an_upload_whose_file_is_touched_goes_on_and_costs_one_look_wherever_it_is_cut() {
    for (seed, reports_parts) in (220..224).flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut world = half_sent(seed, reports_parts, None);
        let check = |world: &World, life: &Life| {
            assert_eq!(calls(world, "begin"), 1, "it was begun anew");
            check::all_arrived(world, life);
        };
        let (_, life) = each_crash(&mut world, |at, mut world| {
            told(format!("seed {seed}, reports {reports_parts}, crash {at}"), || {
                let life = world.run();
                check(&world, &life);
            });
        });
        check(&world, &life);
        assert!(compares(&world) <= 1, "it was read once more at most");
    }
}

#[test]
fn an_upload_whose_file_is_overwritten_ends_with_what_is_there_wherever_it_is_cut() {
    for (seed, reports_parts) in (240..244).flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut world = half_sent(seed, reports_parts, Some(NEW));
        // What differs is sent again; if the platform has a list of parts, all of it.
        world.allowance = 4 * OLD.len() as u64;
        let (_, life) = each_crash(&mut world, |at, mut world| {
            told(format!("seed {seed}, reports {reports_parts}, crash {at}"), || {
                let life = world.run();
                assert_eq!(far(&world, "large"), [NEW]);
                check::at_rest(&world, &life);
            });
        });
        assert_eq!(far(&world, "large"), [NEW]);
        check::at_rest(&world, &life);
    }
}

#[test]
fn another_content_of_the_same_inode_and_time_is_sent_wherever_it_is_cut() {
    for seed in 20..32 {
        let mut world = sent(seed);
        world.touch("run/large", Some(NEW));
        world.touch("alone", None);
        let begun = calls(&world, "begin");
        let check = |world: &World, life: &Life| {
            assert_eq!(far(world, "large"), [NEW]);
            assert_eq!(calls(world, "begin"), begun + 1, "one file changed");
            check::at_rest(world, life);
        };
        let (_, life) = each_crash(&mut world, |at, mut world| {
            told(format!("seed {seed}, crash {at}"), || {
                let life = world.run();
                assert_eq!(far(&world, "large"), [NEW]);
                check::at_rest(&world, &life);
            });
        });
        check(&world, &life);
    }
}

#[test]
fn a_file_that_is_touched_again_and_again_is_compared_in_its_last_state() {
    for seed in 40..60 {
        let mut world = sent(seed);
        world.touch("run/large", None);
        let mut life = world.start();
        while compares(&world) == 0 {
            world.step(&mut life);
        }
        world.touch("run/large", Some(NEW));
        world.tell(&mut life, Event::ScanNow { drop: DirectoryName::new("drop") });
        world.settle(&mut life);
        assert_eq!(far(&world, "large"), [NEW], "seed {seed}");
        check::at_rest(&world, &life);
    }
}

#[test]
fn a_comparison_that_fails_is_made_again() {
    let kinds = [FailureKind::SourceAway, FailureKind::LocalFault, FailureKind::SourceUnreadable];
    for (seed, kind) in (60..).zip(kinds) {
        let mut world = sent(seed);
        let begun = calls(&world, "begin");
        world.touch("run/large", None);
        let fault = |nth| Fault { act: "compare content", nth, after: false, kind };
        world.faults = vec![fault(1), fault(2)];
        let life = world.run();
        assert_eq!(compares(&world), 3, "{kind:?}");
        assert_proved(&mut world, life, begun);
    }
}

#[test]
fn a_file_that_is_overwritten_while_it_is_sent_is_never_mixed() {
    for seed in 80..100 {
        let mut world = World::with(seed, NamePolicy::Overwrite, traits());
        // What differs is sent again; if the platform has a list of parts, all of it.
        world.allowance = OLD.len() as u64;
        world.write("run/large", OLD);
        let mut life = world.start();
        let is_half = |life: &Life| {
            life.engine.view().stored_uploads().iter().any(|upload| {
                matches!(upload.state.stage, Stage::Sending { .. })
                    && upload.state.accepted_count > 0
            })
        };
        while !is_half(&life) {
            assert_ne!(world.step(&mut life), Step::Quiet);
        }
        world.touch("run/large", Some(NEW));
        world.tell(&mut life, Event::ScanNow { drop: DirectoryName::new("drop") });
        for _ in 0..1000 {
            let mixed = far(&world, "large").into_iter().find(|bytes| bytes != OLD && bytes != NEW);
            assert_eq!(mixed, None, "seed {seed}");
            if world.step(&mut life) == Step::Quiet {
                break;
            }
        }
        world.pass(Duration::from_secs(1));
        world.settle(&mut life);
        assert_eq!(far(&world, "large"), [NEW], "seed {seed}");
        check::at_rest(&world, &life);
    }
}

/// Moves a file that was sent: the daemon reports so and begins nothing, also after the next start.
fn assert_moved(world: &mut World, life: Life, begun: u64) {
    assert_eq!(calls(world, "begin"), begun, "something was sent again");
    let status = check::status(world);
    let moved = status.counts.ignored.listed.iter().filter(|one| one.reason == IgnoreReason::Moved);
    let moved: Vec<_> = moved.map(|one| one.path.to_string()).collect();
    assert_eq!(moved, ["new/alone", "renamed/empty", "renamed/large"]);
    assert!(status.uploads.iter().all(|upload| upload.word() == "completed"));
    check::at_rest(world, &life);
    drop(life);
    let before = (compares(world), world.act_counts.get("find moved").copied());
    drop(world.run());
    let after = (compares(world), world.act_counts.get("find moved").copied());
    assert_eq!(before, after, "it was asked about again");
    assert_eq!(calls(world, "begin"), begun, "something was sent again");
}

#[test]
fn what_was_moved_after_it_was_sent_is_not_sent_again_wherever_it_is_cut() {
    let mut points = 0;
    for seed in 120..132 {
        let mut world = sent(seed);
        let begun = calls(&world, "begin");
        world.rename_file("run/large", "renamed/large", false);
        world.rename_file("run/empty", "renamed/empty", false);
        world.rename_file("alone", "new/alone", true);
        let (count, life) = each_crash(&mut world, |at, mut world| {
            told(format!("seed {seed}, crash {at}"), || {
                let life = world.run();
                assert_moved(&mut world, life, begun);
            });
        });
        points += count;
        assert_moved(&mut world, life, begun);
    }
    assert!(points > 100, "only {points} crash points were found");
}

#[test]
fn another_content_in_the_inode_of_a_file_that_was_removed_is_sent() {
    for seed in 140..150 {
        let mut world = sent(seed);
        let begun = calls(&world, "begin");
        world.rename_file("run/large", "run/other", true);
        world.touch("run/other", Some(NEW));
        let life = world.run();
        assert_eq!(calls(&world, "begin"), begun + 1);
        assert_eq!(
            (far(&world, "other"), far(&world, "large")),
            (vec![NEW.to_vec()], vec![OLD.to_vec()])
        );
        check::at_rest(&world, &life);
    }
}

#[test]
fn what_was_moved_and_changes_then_is_sent_under_its_new_name() {
    for seed in 150..160 {
        let mut world = sent(seed);
        world.rename_file("run/large", "run/other", true);
        drop(world.run());
        assert_eq!(far(&world, "other"), Vec::<Vec<u8>>::new());
        // A changed mode alone changes nothing, another content does.
        world.touch("run/other", None);
        drop(world.run());
        assert_eq!(far(&world, "other"), Vec::<Vec<u8>>::new());
        world.touch("run/other", Some(NEW));
        let life = world.run();
        assert_eq!(far(&world, "other"), [NEW]);
        let status = check::status(&world);
        assert!(status.counts.ignored.listed.is_empty(), "it is not only moved any more");
        check::at_rest(&world, &life);
    }
}

//! Exports under the simulation: cut anywhere, never two jobs for one file.

use dropferry::testing::model::{FailureKind, Hold, NamePolicy, ParkReason};

use super::acts::Fault;
use super::check;
use super::crashes::{each_crash, seeds_from, told};
use super::random::Random;
use super::receipts::PowerCut;
use super::world::{Life, World, traits};

fn exporting_world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.export();
    world.write("run/large", b"0123456789");
    world.write("run/small", b"abc");
    world
}

/// Each file has one job that did not fail, and a receipt only after that job ended well.
fn one_job_each(world: &World, life: &Life) {
    check::all_arrived(world, life);
    let state = world.fake.state();
    let places: Vec<_> =
        state.jobs.iter().filter(|job| job.end.is_none()).map(|job| &job.item.place).collect();
    let mut locations: Vec<_> = places.iter().map(|place| place.location.as_str()).collect();
    locations.sort_unstable();
    assert_eq!(locations, ["raw/drop/run/large", "raw/drop/run/small"]);
    assert!(state.jobs.iter().all(|job| job.questions_left == 0), "receipts before the end");
}

#[test]
fn files_are_exported_together_and_once() {
    let mut world = exporting_world(1);
    let life = world.run();
    one_job_each(&world, &life);
    let calls = world.fake.state().calls.clone();
    assert_eq!(calls.get("start exports"), Some(&1), "{calls:?}");
    assert_eq!(calls.get("find exports"), None, "{calls:?}");
}

#[test]
fn every_crash_point_makes_one_job_for_each_file() {
    let mut points = 0;
    for seed in seeds_from(0, 5) {
        let mut world = exporting_world(seed);
        let (count, life) = each_crash(&mut world, |at, mut world| {
            told(format!("seed {seed}, crash {at}"), || {
                let life = world.run();
                one_job_each(&world, &life);
            });
        });
        one_job_each(&world, &life);
        points += count;
    }
    println!("{points} crash points with exports");
    assert!(points > 200, "only {points} crash points were found");
}

#[test]
fn every_pair_of_crash_points_makes_one_job_for_each_file() {
    each_crash(&mut exporting_world(50), |first, mut world| {
        each_crash(&mut world, |second, mut world| {
            told(format!("crash {first}, then {second}"), || {
                let life = world.run();
                one_job_each(&world, &life);
            });
        });
    });
}

#[test]
fn lost_answers_make_no_second_job() {
    for act in ["start exports", "find exports", "poll exports"] {
        for (nth, after) in [(1, false), (1, true), (2, true)] {
            for kind in [FailureKind::TimedOut, FailureKind::Unreachable, FailureKind::BadAnswer] {
                let mut world = exporting_world(7);
                world.faults = vec![Fault { act, nth, after, kind }];
                let mut life = world.start();
                told(format!("{act} {nth} {after} {kind:?}"), || world.settle(&mut life));
                one_job_each(&world, &life);
            }
        }
    }
}

#[test]
fn a_job_that_fails_in_passing_is_started_anew_and_one_that_is_refused_parks() {
    let mut world = exporting_world(3);
    world.fake.state().faults.bad_jobs = vec![
        ("large".to_owned(), FailureKind::ServerFault),
        ("small".to_owned(), FailureKind::NameTaken),
    ];
    let life = world.run();
    let uploads = life.engine.view().stored_uploads();
    let [parked] = &uploads[..] else { panic!("one upload is left: {uploads:#?}") };
    assert_eq!(parked.admission.file.path.as_bytes(), b"run/small");
    assert_eq!(parked.state.hold, Hold::Parked { reason: ParkReason::ExportRefused });
    let state = world.fake.state();
    let large = state.jobs.iter().filter(|job| job.item.place.location.ends_with("large"));
    assert_eq!(large.count(), 2, "one failed, one went well");
}

#[test]
fn a_file_that_was_found_there_is_exported_once_also_without_rows() {
    let mut world = exporting_world(4);
    let life = world.run();
    one_job_each(&world, &life);
    let mut fresh = World::with(5, NamePolicy::SkipIfSame, traits());
    fresh.export();
    fresh.fake = world.fake.twin();
    fresh.pass(std::time::Duration::from_secs(3600));
    fresh.write("run/large", b"0123456789");
    fresh.write("run/small", b"abc");
    let life = fresh.run();
    one_job_each(&fresh, &life);
    assert_eq!(fresh.fake.state().jobs.len(), 2, "the jobs of before were found");
}

#[test]
fn three_hundred_files_make_three_starts() {
    let mut world = World::new(9);
    world.export();
    for number in 0..300 {
        world.write(&format!("run/{number}"), b"x");
    }
    let life = world.run();
    check::at_rest(&world, &life);
    let state = world.fake.state();
    assert_eq!(state.jobs.len(), 300);
    let starts = state.calls.get("start exports").copied().unwrap_or(0);
    assert!((3..=6).contains(&starts), "{starts} starts for 300 files");
    let mut locations: Vec<_> = state.jobs.iter().map(|job| &job.item.place.location).collect();
    locations.sort_unstable();
    locations.dedup();
    assert_eq!(locations.len(), 300, "one job for each file");
}

#[test]
fn random_faults_and_crashes_make_one_job_for_each_file() {
    for seed in 0..60 {
        let mut world = exporting_world(seed);
        world.fault_rate = 80;
        let mut dice = Random(seed + 1);
        let mut life = world.start();
        for _ in 0..dice.below(200) {
            world.step(&mut life);
            if dice.per_mille(20) {
                world =
                    world.crashed(&life, dice.per_mille(500).then(|| dice.choose(&PowerCut::ALL)));
                life = world.start();
            }
        }
        world.fault_rate = 0;
        // An answer that was lost costs its part again.
        world.allowance = 1 << 20;
        told(format!("seed {seed}"), || {
            world.settle(&mut life);
            one_job_each(&world, &life);
        });
    }
}

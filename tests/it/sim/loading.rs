//! Stored state comes into memory piece by piece, and meanwhile nothing is mistaken for something else.

use super::check;
use super::crashes::each_crash;
use super::world::{Step, World};

/// Files that are runs of their own and a run of several files, so that all but the first are queued.
fn slow_world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.load_rate = 60;
    for name in ["run/a", "run/b", "run/c", "run/d", "alone", "other/e"] {
        world.write(name, name.as_bytes());
    }
    world
}

#[test]
fn no_scan_and_no_look_comes_before_all_that_is_stored() {
    for seed in 0..20 {
        let mut world = slow_world(seed);
        let life = world.run();
        check::all_arrived(&world, &life);
        let (begun, received) = world.sent();
        world.write("run/late", b"late");
        let mut world = world.crashed(&life, None);
        let mut life = world.start();
        while !life.engine.view().is_loaded() {
            let step = world.step(&mut life);
            assert!(!matches!(step, Step::Act("scan" | "look")), "seed {seed}: {step:?}");
        }
        assert_eq!(world.sent(), (begun, received), "nothing is under way");
        world.settle(&mut life);
        check::all_arrived(&world, &life);
        assert_eq!(world.sent().1, received + 1, "seed {seed}: one file is sent, once");
    }
}

#[test]
fn a_crash_while_many_are_queued_sends_each_once() {
    let mut points = 0;
    for seed in 0..3 {
        let mut world = slow_world(seed);
        let (count, life) = each_crash(&mut world, |at, mut world| {
            let life = world.run();
            check::all_arrived(&world, &life);
            let (_, files) = world.sent();
            assert_eq!(files, 6, "seed {seed}, crash {at}: each is there once");
        });
        check::all_arrived(&world, &life);
        points += count;
    }
    assert!(points > 100, "only {points} points");
}

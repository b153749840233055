//! Every crash point, and every pair of two, in the small world.

use super::check;
use super::world::{Cut, End, World};

const CUTS: [Cut; 4] = [Cut::BeforeCommit, Cut::AfterCommit, Cut::BeforeAct, Cut::AfterAct];

fn small_world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.write("run/large", b"0123456789");
    world.write("run/empty", b"");
    world
}

/// Effects of a run that is not cut.
fn clean_length(seed: u64) -> u64 {
    let mut world = small_world(seed);
    let (life, end) = world.run(None);
    assert_eq!(end, End::Quiet);
    let length = world.effect_count;
    check::all_arrived(&world, life, "a clean run");
    length
}

/// Cuts a run once at `at`; tells whether that point exists for this kind of cut.
fn crash_at(world: &mut World, at: u64, cut: Cut) -> bool {
    let (life, end) = world.run(Some((at, cut)));
    if end == End::Cut {
        world.crash_count += 1;
        drop(life);
        return true;
    }
    false
}

#[test]
fn a_clean_run_sends_every_byte_once() {
    let mut world = small_world(1);
    let (life, end) = world.run(None);
    assert_eq!(end, End::Quiet);
    check::all_arrived(&world, life, "a clean run");
    assert_eq!(world.fake.state().bytes_received, 10);
}

#[test]
fn every_crash_point_loses_nothing() {
    let mut points = 0;
    for seed in [1, 2, 3] {
        for at in 1..=clean_length(seed) {
            for cut in CUTS {
                let mut world = small_world(seed);
                if !crash_at(&mut world, at, cut) {
                    continue;
                }
                points += 1;
                let story = format!("seed {seed}, cut {cut:?} at effect {at}");
                let (life, end) = world.run(None);
                assert_eq!(end, End::Quiet, "{story}");
                check::all_arrived(&world, life, &story);
            }
        }
    }
    println!("{points} crash points");
    assert!(points > 150, "only {points} crash points were found");
}

#[test]
fn every_pair_of_crash_points_loses_nothing() {
    let (seed, mut pairs) = (4, 0);
    for first in 1..=clean_length(seed) {
        for cut in CUTS {
            // The second cut is counted from the first; it falls off the end when there is no more.
            for second in 1.. {
                let mut reached = false;
                for other in CUTS {
                    let mut world = small_world(seed);
                    if !crash_at(&mut world, first, cut) {
                        continue;
                    }
                    let at = world.effect_count + second;
                    if !crash_at(&mut world, at, other) {
                        continue;
                    }
                    (reached, pairs) = (true, pairs + 1);
                    let story = format!("cut {cut:?} at {first}, then {other:?} after {second}");
                    let (life, end) = world.run(None);
                    assert_eq!(end, End::Quiet, "{story}");
                    check::all_arrived(&world, life, &story);
                }
                if !reached {
                    break;
                }
            }
        }
    }
    println!("{pairs} pairs of crash points");
    assert!(pairs > 2_000, "only {pairs} pairs were found");
}

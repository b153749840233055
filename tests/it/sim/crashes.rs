//! Every crash point, and every pair of two, in the small world.

use super::check;
use super::world::{Step, World};

fn small_world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.write("run/large", b"0123456789");
    world.write("run/empty", b"");
    world
}

/// Runs a world until it is quiet, and shows what a crash would leave, after every effect: without
/// and, where a receipt is not synced, with a power cut.
fn each_crash(world: &mut World, mut visit: impl FnMut(u32, World)) -> u32 {
    let mut life = world.start();
    let mut count = 0;
    visit(count, world.crashed(&life, false));
    loop {
        let step = world.step(&mut life);
        match step {
            Step::Quiet => break,
            Step::Waited => continue,
            Step::Act(_) | Step::Committed => {}
        }
        count += 1;
        visit(count, world.crashed(&life, false));
        if step == Step::Act("rename receipt") {
            count += 1;
            visit(count, world.crashed(&life, true));
        }
    }
    check::all_arrived(world, &life);
    count + 1
}

#[test]
fn a_clean_run_sends_every_byte_once() {
    let mut world = small_world(1);
    let life = world.run();
    check::all_arrived(&world, &life);
    assert_eq!(world.fake.state().bytes_received, 10);
}

#[test]
fn every_crash_point_loses_nothing() {
    let mut points = 0;
    for seed in 0..20 {
        points += each_crash(&mut small_world(seed), |at, mut world| {
            told(format!("seed {seed}, crash {at}"), || {
                let life = world.run();
                check::all_arrived(&world, &life);
            });
        });
    }
    println!("{points} crash points");
    assert!(points > 600, "only {points} crash points were found");
}

#[test]
fn every_pair_of_crash_points_loses_nothing() {
    let mut pairs = 0;
    for seed in [100, 101] {
        each_crash(&mut small_world(seed), |first, mut world| {
            pairs += each_crash(&mut world, |second, mut world| {
                told(format!("seed {seed}, crash {first}, then crash {second}"), || {
                    let life = world.run();
                    check::all_arrived(&world, &life);
                });
            });
        });
    }
    println!("{pairs} pairs of crash points");
    assert!(pairs > 2_000, "only {pairs} pairs were found");
}

/// Does something, and says which run it was when it fails.
pub(super) fn told<T>(story: String, run: impl FnOnce() -> T) -> T {
    struct Teller(String);
    impl Drop for Teller {
        #[expect(clippy::print_stdout, reason = "captured unless the test fails")]
        fn drop(&mut self) {
            if std::thread::panicking() {
                println!("it was {}", self.0);
            }
        }
    }
    let teller = Teller(story);
    let done = run();
    drop(teller);
    done
}

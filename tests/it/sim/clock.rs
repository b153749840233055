//! A wall clock that is set while the daemon runs, forwards and backwards.

use std::time::Duration;

use dropferry::testing::model::WallTime;

use super::check;
use super::crashes::{each_crash, told};
use super::world::World;

const YEAR: Duration = Duration::from_hours(365 * 24);

fn jumped(wall: WallTime, is_forward: bool) -> WallTime {
    let year = i64::try_from(YEAR.as_nanos()).expect("a year fits");
    WallTime(if is_forward { wall.0 + year } else { wall.0 - year })
}

/// At every point of a run, followed by a start: what waits by the wall clock waits no longer than
/// it would have, and everything arrives.
#[test]
fn a_clock_that_jumps_a_year_holds_nothing_up() {
    let mut points = 0;
    for (seed, is_forward) in [(1, true), (2, false), (3, true), (4, false)] {
        let mut world = World::new(seed);
        world.fault_rate = 100;
        world.write("run/large", b"0123456789");
        world.write("run/empty", b"");
        each_crash(&mut world, |at, mut world| {
            points += 1;
            told(format!("seed {seed}, jump after {at}"), || {
                world.fault_rate = 0;
                world.allowance += 100;
                world.now.wall = jumped(world.now.wall, is_forward);
                let before = world.now.monotonic;
                let life = world.run();
                check::all_arrived(&world, &life);
                let waited = world.now.monotonic.since(before);
                assert!(waited < Duration::from_hours(2), "it waited for {waited:?}");
            });
        });
    }
    assert!(points > 100, "only {points} points");
}

//! Widths that the engine finds by itself, and parts whose size is adapted to the line.

use std::time::Duration;

use dropferry::testing::engine::event::Event;
use dropferry::testing::engine::settings::{PartWish, PartsInFlight};
use dropferry::testing::model::{
    ByteCount, DestinationName, DirectoryName, FailureKind, NamePolicy, PartLimits, Traits,
};

use super::acts::Fault;
use super::check::all_arrived;
use super::world::{Life, Step, World, traits};

const MIB: usize = 1 << 20;

fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.settings.parts_in_flight = PartsInFlight::Auto;
    for index in 0..60 {
        world.write(&format!("run/{index}"), b"four and some more");
    }
    world
}

fn width(life: &Life) -> u32 {
    life.engine.view().widths().next().expect("a destination").1
}

/// Steps until everything is there; returns the largest width and the most parts in flight, and
/// checks at each moment that the second keeps to the first.
fn widest(world: &mut World, life: &mut Life) -> (u32, usize) {
    let (mut widest, mut most, mut allowed) = (0, 0, width(life));
    while world.step(life) != Step::Quiet {
        allowed = allowed.max(width(life));
        let flying = life.part_act_count();
        assert!(flying <= allowed as usize, "{flying} fly where {allowed} may");
        (widest, most) = (widest.max(width(life)), most.max(flying));
    }
    (widest, most)
}

#[test]
fn as_many_parts_fly_as_their_success_allows_and_never_more() {
    for seed in 0..20 {
        let mut world = world(seed);
        let mut life = world.start();
        assert_eq!(width(&life), 2);
        let (widest, most) = widest(&mut world, &mut life);
        assert!(widest > 2 && most > 2, "seed {seed}: {widest}, {most}");
        all_arrived(&world, &life);
    }
}

#[test]
fn trouble_narrows_and_success_widens_again() {
    let mut world = world(3);
    for nth in 10..40 {
        world.faults.push(Fault {
            act: "put part",
            nth,
            after: false,
            kind: FailureKind::TimedOut,
        });
    }
    let mut life = world.start();
    let mut least = u32::MAX;
    while world.step(&mut life) != Step::Quiet {
        least = least.min(width(&life));
    }
    assert_eq!(least, 1);
    all_arrived(&world, &life);
}

#[test]
fn a_file_is_begun_with_parts_that_the_line_carries_in_seconds_whatever_was_admitted() {
    let limits = PartLimits { size_max: ByteCount(1 << 40), ..traits().limits };
    let limits = PartLimits { file_max: ByteCount(1 << 40), ..limits };
    let traits = Traits { limits, ..traits() };
    let mut world = World::with(5, NamePolicy::SkipIfSame, traits);
    world.settings.destinations[0].part_size = PartWish::Auto;
    world.settings.parts_in_flight = PartsInFlight::Auto;
    world.write("a", b"one part");
    let mut life = world.start();
    while life.part_act_count() == 0 {
        world.step(&mut life);
    }
    // A line of a hundred kilobytes a second: two windows.
    let to = DestinationName::new("far");
    for tick in 1..100_u64 {
        world.pass(Duration::from_millis(500));
        let sent = vec![(to.clone(), ByteCount(tick * 50_000))];
        world.tell(&mut life, Event::Sent(sent));
    }
    world.write("b", &[7; 3 * MIB]);
    world.tell(&mut life, Event::ScanNow { drop: DirectoryName::new("drop") });
    world.settle(&mut life);
    all_arrived(&world, &life);
    let count = world.fake.state().files.len();
    assert_eq!(count, 2);
    assert_eq!(world.act_counts.get("put part"), Some(&4), "one, and three of a mebibyte each");
}

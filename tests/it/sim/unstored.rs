//! A value that no row can hold: its upload is parked, and nothing else stops.

use dropferry::testing::model::{Hold, ParkReason, Scope, Verb};

use super::check;
use super::world::{Life, World};

fn holds(life: &Life) -> Vec<Hold> {
    life.stored_uploads().into_iter().map(|upload| upload.state.hold).collect()
}

#[test]
fn memory_and_rows_agree_on_what_could_not_be_stored_and_a_retry_goes_on() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        world.write("run/a", b"first file");
        world.write("run/b", b"another one");
        world.absurd = Some("a");
        let mut life = world.run();
        let parked = Hold::Parked { reason: ParkReason::CannotBeStored };
        assert_eq!(holds(&life), [parked], "seed {seed}: the other file has arrived");

        // A start compares the rows with what was in memory.
        let mut world = world.crashed(&life, None);
        let mut later = world.run();
        assert_eq!(holds(&later), [parked], "seed {seed}: it is no better after a start");

        for life in [&mut life, &mut later] {
            let mut world = world.crashed(life, None);
            world.absurd = None;
            let mut life = world.start();
            world.load_all(&mut life);
            world.order(&mut life, Verb::Retry, Scope::All);
            world.settle(&mut life);
            check::all_arrived(&world, &life);
        }
    }
}

#[test]
fn a_retry_in_the_same_life_asks_first_and_goes_on() {
    let mut world = World::new(3);
    world.write("run/a", b"first file");
    world.absurd = Some("a");
    let mut life = world.run();
    world.absurd = None;
    world.order(&mut life, Verb::Retry, Scope::All);
    world.settle(&mut life);
    check::all_arrived(&world, &life);
}

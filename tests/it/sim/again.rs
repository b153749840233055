//! A run whose name is used again, and ledgers that a check found damaged, cut at every effect.

use dropferry::testing::engine::event::Event;
use dropferry::testing::model::{LedgerFinding, LedgerPath};

use super::check;
use super::crashes::{each_crash, told};
use super::world::{Life, World};

const FIRST: &str = "drop/run.jsonl";
const SECOND: &str = "drop/run~2.jsonl";

impl World {
    fn assert_ledger(&self, path: &str, expected: &str) {
        assert_eq!(self.receipts.ledgers_of(path), [expected], "the ledger of {path}");
    }

    /// Reports the ledgers that are not valid and not yet known to be invalid, as the check of a daemon does.
    fn check_ledgers(&mut self, life: &mut Life) {
        let found = self.receipts.damaged().into_iter().filter_map(|(ledger, why)| {
            let known = self.rows().known_ledger(&ledger).expect("read");
            let damage = Some(why);
            known
                .damage
                .is_none()
                .then(|| LedgerFinding { ledger: LedgerPath::new(&*ledger), damage })
        });
        let found: Vec<_> = found.collect();
        self.receipts.forget();
        self.tell(life, Event::LedgersChecked(found));
    }
}

#[test]
fn a_run_that_comes_again_has_a_ledger_of_its_own_wherever_it_is_cut() {
    let mut points = 0;
    for seed in 0..2 {
        let mut world = World::new(seed);
        world.write("run/old", b"0123456789");
        drop(world.run());
        world.assert_ledger("run/old", FIRST);
        world.files.clear();
        each_crash(&mut world, |gone, mut world| {
            told(format!("seed {seed}, gone, crash {gone}"), || drop(world.run()));
            world.write("run/new", b"01234");
            world.write("run/other", b"");
            let mut gone_again = |at, mut world: World| {
                points += 1;
                told(format!("seed {seed}, gone, crash {gone}, again, crash {at}"), || {
                    let life = world.run();
                    check::at_rest(&world, &life);
                    world.assert_ledger("run/old", FIRST);
                    world.assert_ledger("run/new", SECOND);
                    world.assert_ledger("run/other", SECOND);
                });
            };
            if gone < 2 {
                each_crash(&mut world, gone_again);
            } else {
                gone_again(0, world);
            }
        });
    }
    assert!(points > 60, "only {points} points");
}

#[test]
fn a_run_that_stays_goes_on_in_its_ledger() {
    let mut world = World::new(7);
    world.write("run/old", b"0123456789");
    drop(world.run());
    world.write("run/late", b"01234");
    let life = world.run();
    check::all_arrived(&world, &life);
    world.assert_ledger("run/late", FIRST);
}

#[test]
fn what_a_check_of_the_ledgers_found_is_noted_wherever_it_is_cut() {
    let mut points = 0;
    for seed in 0..4 {
        let mut world = World::new(seed);
        world.write("run/old", b"0123456789");
        drop(world.run());
        world.write("run/new", b"01234");
        each_crash(&mut world, |at, mut world| {
            if !world.receipts.ledgers_of("run/new").is_empty() {
                return;
            }
            points += 1;
            let damaged = world.receipts.damage(FIRST);
            told(format!("seed {seed}, checked after {at}"), || {
                let mut life = world.start();
                world.check_ledgers(&mut life);
                // The finding is decided, and not yet durable.
                let mut world = world.crashed(&life, None);
                let mut life = world.start();
                world.check_ledgers(&mut life);
                world.settle(&mut life);
                let known = world.rows().known_ledger(FIRST).expect("read");
                assert!(known.damage.is_some(), "it is noted");
                assert!(world.receipts.bytes(FIRST) == damaged, "nothing is written over");
                world.assert_ledger("run/new", SECOND);
            });
        });
    }
    assert!(points > 20, "only {points} points");
}

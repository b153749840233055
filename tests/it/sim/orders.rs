//! The orders of operators, at every point of a run and followed by a crash.

use dropferry::testing::engine::event::Event;
use dropferry::testing::engine::orders::{Order, OrderAnswer, OrderId};
use dropferry::testing::model::{
    ClosedByHand, DirectoryName, OrderChange, RunState, Scope, SourcePath, Stage, UploadId, Verb,
};

use super::check;
use super::crashes::{each_crash, told};
use super::world::{Life, Step, World};

fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.write("run/large", b"0123456789");
    world.write("run/empty", b"");
    world
}

impl World {
    pub(super) fn order(&self, life: &mut Life, verb: Verb, scope: Scope) -> Vec<OrderChange> {
        match self.give(life, Order::Set { verb, scopes: vec![scope] }) {
            OrderAnswer::Changed(changes) => changes,
            other @ (OrderAnswer::Resending
            | OrderAnswer::HandedIn(_)
            | OrderAnswer::UnknownDestination(_)
            | OrderAnswer::Closed(_)) => {
                panic!("the answer to another order: {other:?}")
            }
        }
    }

    /// Gives an order, and returns its answer.
    pub(super) fn give(&self, life: &mut Life, order: Order) -> OrderAnswer {
        self.load_all(life);
        self.tell(life, Event::Ordered { id: OrderId(0), order });
        // Its answer is sent when everything that was decided until then is durable.
        life.commit_all();
        life.answers.pop().expect("an order is answered")
    }

    /// Lets everything in flight land, with all that follows from it without time passing.
    fn land(&mut self, life: &mut Life) {
        while !life.is_still() {
            self.step(life);
        }
    }

    pub(super) fn sent(&self) -> (u64, usize) {
        let state = self.fake.state();
        (state.calls.values().sum(), state.files.len())
    }
}

#[test]
fn a_pause_holds_over_a_crash_and_a_resume_loses_nothing() {
    let mut points = 0;
    for seed in 0..4 {
        each_crash(&mut world(seed), |at, mut world| {
            points += 1;
            told(format!("seed {seed}, paused after {at}"), || {
                let mut life = world.start();
                world.order(&mut life, Verb::Pause, Scope::All);
                world.land(&mut life);
                let before = world.sent();
                let mut world = world.crashed(&life, None);
                let mut life = world.start();
                // Files settle, scans are made, a day passes: nothing is sent.
                for _ in 0..50 {
                    if world.step(&mut life) == Step::Quiet {
                        break;
                    }
                }
                world.land(&mut life);
                assert_eq!(world.sent(), before, "calls while paused");
                world.order(&mut life, Verb::Resume, Scope::All);
                world.settle(&mut life);
                check::all_arrived(&world, &life);
            });
        });
    }
    assert!(points > 100, "only {points} points");
}

/// A run that waits for a marker which never comes, closed by hand, with a crash after every effect that follows.
#[test]
fn a_run_that_is_closed_by_hand_is_completed_with_one_line_that_says_so() {
    let mut world = world(3);
    world.settings.drops[0].runs.closing.quiet = std::time::Duration::from_hours(10_000);
    let (drop, run) = (DirectoryName::new("drop"), SourcePath::from_bytes(b"run"));
    let close = || {
        let (drop, run, by) = (drop.clone(), run.clone(), "uid 7".to_owned());
        Order::Close { drop, run, by }
    };
    let mut life = world.start();
    let is_refused = |answer: &OrderAnswer| matches!(answer, OrderAnswer::Closed(Err(_)));
    assert!(is_refused(&world.give(&mut life, close())), "it is not known yet");
    let row = |world: &World| world.rows().run(&drop, &run).expect("it can be read");
    while row(&world).is_none() {
        assert_ne!(world.step(&mut life), Step::Quiet, "it is seen");
    }
    let answer = world.give(&mut life, close());
    let closed = ClosedByHand { by: "uid 7".into(), missing: Vec::new() };
    assert_eq!(answer, OrderAnswer::Closed(Ok(closed.clone())));
    assert!(is_refused(&world.give(&mut life, close())), "it is closed");
    let check = |world: &World, life: &Life| {
        check::all_arrived(world, life);
        let row = row(world).expect("it has one");
        assert_eq!((row.state, row.completion.generation), (RunState::Completed, 1));
        assert_eq!(row.closed_by_hand, Some(closed.clone()));
        assert_eq!(world.receipts.closings(), ["uid 7"]);
        let completions = world.receipts.completions();
        assert_eq!(completions[0].forced_by.as_deref(), Some("uid 7"));
    };
    let (points, _) = each_crash(&mut world.crashed(&life, None), |at, mut world| {
        told(format!("crash {at}"), || {
            let life = world.run();
            check(&world, &life);
        });
    });
    assert!(points > 15, "only {points} points");
}

#[test]
fn what_is_given_up_leaves_nothing_behind_wherever_it_was() {
    let mut points = 0;
    for seed in 0..8 {
        each_crash(&mut world(seed), |at, mut world| {
            points += 1;
            told(format!("seed {seed}, given up after {at}"), || {
                let mut life = world.start();
                let admitted = life.stored_uploads().len();
                let changes = world.order(&mut life, Verb::Abandon, Scope::All);
                assert_eq!(changes[0].upload_count, admitted as u64);
                life.commit_all();
                let given_up: Vec<_> = check::status(&world)
                    .uploads
                    .iter()
                    .filter(|upload| !upload.state.stage.is_end() || upload.word() == "abandoned")
                    .map(|upload| upload.admission.id)
                    .collect();
                let mut world = world.crashed(&life, None);
                let life = world.run();
                let ended = check::status(&world).uploads;
                let stage = |id: &UploadId| {
                    let upload = ended.iter().find(|upload| upload.admission.id == *id);
                    upload.map(|upload| upload.state.stage.clone())
                };
                for id in &given_up {
                    let stage = stage(id);
                    assert!(matches!(stage, Some(Stage::Ended(_))), "{id}: {stage:?}");
                }
                check::at_rest(&world, &life);
            });
        });
    }
    assert!(points > 200, "only {points} points");
}

#[test]
fn orders_about_what_is_not_there_change_nothing() {
    let mut world = world(1);
    let mut life = world.start();
    let drop = DirectoryName::new("nothing");
    for verb in [Verb::Pause, Verb::Resume, Verb::Retry, Verb::Abandon] {
        for scope in [Scope::Drop(drop.clone()), Scope::Upload(UploadId(77))] {
            let changes = world.order(&mut life, verb, scope);
            assert!(!changes[0].is_known && changes[0].upload_count == 0, "{changes:?}");
        }
    }
    world.settle(&mut life);
    check::all_arrived(&world, &life);
    assert_eq!(check::status(&world).orders, []);
}

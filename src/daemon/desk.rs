//! Decides what to do with effects, without performing it: keeps writes in order, holds acts back
//! until everything before them is durable, and returns the events that the engine receives then.
//!
//! The daemon's loop and the simulation drive the same desk, one write after the other. *Promises*: an
//! act that waits for a commit starts after it, or comes back as cancelled when a record that it follows
//! from could not be stored; the engine receives [`Event::Committed`] once for each of its commits,
//! after the records of that commit that could not be stored; an answer is sent when everything written
//! before it is durable. *A crash* loses nothing: what was not durable was not done.

use std::collections::VecDeque;

use super::workers::failed;
use crate::engine::event::{Act, ActId, Effect, Event, Outcome, Setback, Unstored};
use crate::engine::orders::{OrderAnswer, OrderId};
use crate::model::{Failure, FailureKind, Record};
use crate::store::writer::{Instead, Refused};

/// See the module documentation. `C` is the context in which acts were decided: another
/// configuration may be in force when they start. `A` is an answer to an operator.
#[derive(Debug)]
pub struct Desk<C, A> {
    writes: VecDeque<Write<C, A>>,
}

/// A write that is not durable.
#[derive(Debug)]
struct Write<C, A> {
    /// The engine decided it, and is informed when it is durable.
    is_decided: bool,
    then: Vec<(ActId, Act)>,
    context: Option<C>,
    answers: Vec<A>,
}

/// A task for the shell, in order.
#[derive(Debug)]
pub enum Task<C, A> {
    /// Submit a transaction to the store; when it is durable, call [`Desk::landed`].
    Write(Vec<Record>),
    Start(C, ActId, Act),
    /// Send an answer.
    Answer(A),
    /// Pass an event to the engine.
    Tell(Event),
}

impl<C: Clone, A> Desk<C, A> {
    /// Starts with nothing pending.
    pub fn new() -> Self {
        Self { writes: VecDeque::new() }
    }

    /// Returns whether everything is durable.
    pub fn is_clear(&self) -> bool {
        self.writes.is_empty()
    }

    /// Returns the acts that wait for a commit.
    pub fn held_back(&self) -> impl Iterator<Item = &Act> {
        self.writes.iter().flat_map(|write| write.then.iter().map(|(_, act)| act))
    }

    /// Receives effects, and returns the tasks for now.
    pub fn receive(
        &mut self,
        effects: Vec<Effect>,
        context: &C,
        mut answer: impl FnMut(OrderId, OrderAnswer) -> Option<A>,
    ) -> Vec<Task<C, A>> {
        let mut tasks = Vec::with_capacity(effects.len());
        for effect in effects {
            match effect {
                Effect::Start(id, act) => tasks.push(Task::Start(context.clone(), id, act)),
                Effect::Commit { records, then } => {
                    let context = Some(context.clone());
                    let write = Write { is_decided: true, then, context, answers: Vec::new() };
                    self.writes.push_back(write);
                    tasks.push(Task::Write(records));
                }
                Effect::Answer(id, answered) => {
                    tasks.extend(answer(id, answered).and_then(|answer| self.answer(answer)));
                }
            }
        }
        tasks
    }

    /// Records were submitted that the engine did not decide, and no act waits for.
    pub fn submitted(&mut self) {
        let (then, context, answers) = (Vec::new(), None, Vec::new());
        self.writes.push_back(Write { is_decided: false, then, context, answers });
    }

    /// Holds an answer back until everything so far is durable; returns it if that is so already.
    pub fn answer(&mut self, answer: A) -> Option<Task<C, A>> {
        match self.writes.back_mut() {
            Some(last) => last.answers.push(answer),
            None => return Some(Task::Answer(answer)),
        }
        None
    }

    /// The oldest write is durable, except for its refused records; returns the resulting tasks.
    pub fn landed(&mut self, refused: &[Refused]) -> Vec<Task<C, A>> {
        let Some(Write { is_decided, then, context, answers }) = self.writes.pop_front() else {
            return Vec::new();
        };
        let mut tasks: Vec<_> = unstored(refused).map(Task::Tell).into_iter().collect();
        for (id, act) in then {
            let is_vain = refused.iter().any(|refused| refused.upload == act.upload());
            tasks.extend(match &context {
                Some(context) if !is_vain => Some(Task::Start(context.clone(), id, act)),
                Some(_) => Some(Task::Tell(Event::Outcome { act: id, outcome: cancelled() })),
                None => None,
            });
        }
        tasks.extend(answers.into_iter().map(Task::Answer));
        tasks.extend(is_decided.then_some(Task::Tell(Event::Committed)));
        tasks
    }
}

impl<C: Clone, A> Default for Desk<C, A> {
    fn default() -> Self {
        Self::new()
    }
}

/// The outcome of an act that does not start.
fn cancelled() -> Result<Outcome, Setback> {
    failed(Failure::new(FailureKind::Cancelled, "what it follows from cannot be stored"))
}

/// Returns the uploads for which the engine's memory is ahead of the rows, if there are any.
fn unstored(refused: &[Refused]) -> Option<Event> {
    let unstored = |refused: &Refused| {
        let stored = match &refused.instead {
            Instead::Parked(row) => Some(row.clone()),
            Instead::Nothing => None,
            Instead::LeftOut => return None,
        };
        Some(Unstored { upload: refused.upload?, stored, why: refused.why.clone() })
    };
    let unstored: Vec<_> = refused.iter().filter_map(unstored).collect();
    (!unstored.is_empty()).then_some(Event::Unstored(unstored))
}

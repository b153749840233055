//! The questions before a source is disposed of: is every file of its run still at every destination?
//!
//! A run may have hundreds of thousands of files, and calls are limited. So one act asks one
//! destination about a batch of files and checks their receipts, and the next batch follows its
//! answer; few runs are asked about at once. The answers of one attempt count together. A
//! destination that accepts no calls, or is paused, delays the attempt; after a long delay it
//! begins again. A file that is missing or different at any destination ends it: nothing of the run
//! is disposed of, and people are notified.
//!
//! A crash loses only answers: they are asked for again.

use std::time::Duration;

use super::super::act::IntakeAct;
use super::super::turn::{Askable, IntakeTurn};
use super::{DisposalView, Disposals, record_delay};
use crate::engine::event::{Act, ActId, Outcome, ProofCheck, ProofsChecked, Setback};
use crate::model::{
    DestinationName, DisposalDoubt, Failure, FailureKind, Monotonic, Record, SourcePath, UploadId,
};

/// Answers older than this do not count when the next batch is asked for.
const FRESH: Duration = Duration::from_hours(1);
/// Failures in a row before people are notified that no answer comes.
const UNANSWERED_MAX: u32 = 3;

/// How far the destinations of one run were asked.
#[derive(Debug)]
pub(super) struct Asked {
    /// The destinations to ask, in order.
    destinations: Vec<DestinationName>,
    /// How many of them have answered for all files.
    done_count: usize,
    /// The last upload that the next one has answered for.
    after: Option<UploadId>,
    /// When the last answer came.
    answered_at: Monotonic,
    /// Uploads with this id or a larger one are not asked about.
    before: UploadId,
    failure_count: u32,
    /// Waiting for a destination was recorded.
    is_held: bool,
}

impl Asked {
    fn new(destinations: &[DestinationName], before: UploadId, now: Monotonic) -> Self {
        Self {
            destinations: destinations.to_vec(),
            done_count: 0,
            after: None,
            answered_at: now,
            before,
            failure_count: 0,
            is_held: false,
        }
    }

    pub(super) fn before(&self) -> UploadId {
        self.before
    }

    /// Returns whether every one of these destinations has answered recently.
    pub(super) fn is_complete(&self, destinations: &[DestinationName], now: Monotonic) -> bool {
        self.next().is_none() && self.counts(destinations, now)
    }

    /// Returns whether nothing has failed since the last answer.
    pub(super) fn is_going_on(&self) -> bool {
        self.failure_count == 0
    }

    fn counts(&self, destinations: &[DestinationName], now: Monotonic) -> bool {
        self.destinations == destinations && now.since(self.answered_at) < FRESH
    }

    /// Returns the destination to ask next.
    fn next(&self) -> Option<&DestinationName> {
        self.destinations.get(self.done_count)
    }
}

impl Disposals {
    /// Asks about the next batch of each run that waits for answers, within the limits.
    pub(super) fn ask_destinations(&mut self, view: &DisposalView<'_>, turn: &mut IntakeTurn<'_>) {
        for run in self.to_ask.clone() {
            if turn.ask_slots() == 0 {
                return;
            }
            self.ask(&run, view, turn);
        }
    }

    /// Asks about the next batch of one run.
    fn ask(&mut self, run: &SourcePath, view: &DisposalView<'_>, turn: &mut IntakeTurn<'_>) {
        let (now, before) = (turn.now().monotonic, turn.around().next_upload);
        if !view.is_readable || (turn.around().is_paused)(run) {
            return;
        }
        let settings = view.settings;
        let Some(pending) = self.waiting.get_mut(run) else {
            self.to_ask.remove(run);
            return;
        };
        if pending.asked.as_ref().is_none_or(|asked| !asked.counts(&settings.destinations, now)) {
            pending.asked = Some(Asked::new(&settings.destinations, before, now));
        }
        let Some(asked) = &pending.asked else { return };
        let Some(destination) = asked.next().filter(|_| (view.is_at_rest)(run)).cloned() else {
            // All have answered, or files were added meanwhile: the next check decides.
            self.to_ask.remove(run);
            return self.look_at(run, now);
        };
        let asks = match (turn.around().destination)(&destination) {
            Askable::Unknown => return,
            Askable::Closed | Askable::Paused => {
                return self.hold_up(run, &destination, turn);
            }
            Askable::Never if !settings.disposal.unverified => {
                return self.refuse_unverified(run, &destination, turn);
            }
            Askable::Never => false,
            Askable::Now => true,
        };
        let check = ProofCheck {
            drop: turn.directory(),
            run: run.clone(),
            is_file: pending.what.is_file,
            destination: destination.clone(),
            asks,
            after: asked.after,
        };
        self.to_ask.remove(run);
        let act = Act::CheckProofs(Box::new(check));
        let what = IntakeAct::CheckProofs(run.clone());
        pending.act = Some(turn.start_at(asks.then_some(destination), what, act));
    }

    /// Records once that a run waits for a destination that accepts no calls.
    fn hold_up(
        &mut self,
        run: &SourcePath,
        destination: &DestinationName,
        turn: &mut IntakeTurn<'_>,
    ) {
        let asked = self.waiting.get_mut(run).and_then(|pending| pending.asked.as_mut());
        let Some(asked) = asked.filter(|asked| !asked.is_held) else { return };
        asked.is_held = true;
        let message = format!("it waits until {destination} takes calls, to ask what it has");
        let failure = Failure::new(FailureKind::Unreachable, message);
        record_delay(run, failure, Duration::ZERO, turn);
    }

    fn refuse_unverified(
        &mut self,
        run: &SourcePath,
        destination: &DestinationName,
        turn: &mut IntakeTurn<'_>,
    ) {
        self.to_ask.remove(run);
        let why = format!(
            "{destination} cannot be asked about what it has; dispose_unverified = true in \
             [drops.{}] lets sources go all the same",
            turn.directory()
        );
        self.delay(run, Failure::new(FailureKind::NotFound, why), turn);
    }

    /// Receives the answer of a destination about a batch of files.
    pub(in crate::engine::intake) fn proofs_checked(
        &mut self,
        run: &SourcePath,
        act: ActId,
        reply: Result<Outcome, Setback>,
        turn: &mut IntakeTurn<'_>,
    ) {
        let Some(asked) = self.returned(run, act).and_then(|pending| pending.asked.as_mut()) else {
            return;
        };
        let checked = match reply {
            Ok(Outcome::ProofsChecked(checked)) => checked,
            Ok(other) => return debug_assert!(false, "an outcome of another act: {other:?}"),
            Err(setback) => return self.ask_later(run, setback.failure, turn),
        };
        asked.failure_count = 0;
        asked.answered_at = turn.now().monotonic;
        match checked {
            ProofsChecked::UpTo(upload) => asked.after = Some(upload),
            ProofsChecked::Complete => {
                asked.done_count += 1;
                asked.after = None;
            }
            ProofsChecked::Doubted(doubt, ledger) => {
                if let Some(found) = ledger {
                    turn.record(Record::LedgerChecked(found));
                }
                let failure = Failure::new(FailureKind::NotFound, doubt.text());
                turn.doubt_found(run, Some(doubt));
                return self.delay(run, failure, turn);
            }
        }
        if asked.next().is_none() {
            turn.doubt_found(run, None);
        }
        self.to_ask.insert(run.clone());
    }

    /// Without an answer, the same batch is asked about again once the destination accepts calls.
    fn ask_later(&mut self, run: &SourcePath, failure: Failure, turn: &mut IntakeTurn<'_>) {
        if failure.kind == FailureKind::Cancelled {
            self.to_ask.insert(run.clone());
            return;
        }
        let asked = self.waiting.get_mut(run).and_then(|pending| pending.asked.as_mut());
        let Some(asked) = asked else { return };
        let Some(destination) = asked.next().cloned() else { return };
        let is_closed = (turn.around().destination)(&destination) == Askable::Closed;
        asked.failure_count += u32::from(!is_closed);
        let count = asked.failure_count;
        let message = format!("{destination} does not say what it has: {}", failure.message);
        if count == UNANSWERED_MAX && !is_closed {
            let doubt = DisposalDoubt::GoneAtDestination(message.clone());
            turn.doubt_found(run, Some(doubt));
        }
        let delay = if is_closed { Duration::ZERO } else { turn.retry_delay(count) };
        record_delay(run, Failure { message, ..failure }, delay, turn);
        match is_closed {
            true => {
                self.to_ask.insert(run.clone());
            }
            false => self.look_at(run, turn.now().monotonic.after(delay)),
        }
    }
}

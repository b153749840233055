//! What is asked before a source goes: is every file of its run still at every destination?
//!
//! A run may have hundreds of thousands of files, and calls are rationed. So one act asks one
//! destination about a batch of them, the receipts of the batch are checked in the same act, and the
//! next batch follows its answer; few runs are asked about at once. The answers of one attempt count
//! together. A destination that takes no calls, or is paused, holds the attempt up; when it was held up
//! for long, it begins again. What is absent or different at any destination ends it: nothing of the
//! run goes, and people are told.
//!
//! At a crash nothing is lost but answers: they are asked for again.

use std::time::Duration;

use super::super::event::{Act, ActId, Outcome, ProofCheck, ProofsChecked, Setback};
use super::super::intake::IntakeAct;
use super::super::runs::RunKey;
use super::super::turn::Turn;
use super::super::{Engine, Flight, FlightKind, retry};
use crate::model::{
    DestinationName, DisposalDoubt, Failure, FailureKind, Monotonic, Record, UploadId,
};

/// Runs that are asked about at once.
const ASKS_MAX: usize = 2;
/// Answers that are older than this when the next batch is asked for count no more.
const FRESH: Duration = Duration::from_hours(1);
/// Failures in a row after which people are told that there is no answer.
const UNANSWERED_MAX: u32 = 3;

/// How far the destinations of one run were asked.
#[derive(Debug)]
pub(super) struct Asked {
    /// Those that are asked, in order.
    destinations: Vec<DestinationName>,
    /// How many of them have answered for all files.
    done_count: usize,
    /// The last upload that the next one of them has answered for.
    after: Option<UploadId>,
    /// When the last answer came.
    answered_at: Monotonic,
    /// Uploads from here on are not asked about.
    pub(super) before: UploadId,
    failure_count: u32,
    /// It was said that it waits for a destination.
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

    /// Tells whether every one of these destinations has answered, lately.
    pub(super) fn is_complete(&self, destinations: &[DestinationName], now: Monotonic) -> bool {
        self.done_count == self.destinations.len() && self.counts(destinations, now)
    }

    /// Tells whether nothing has failed since the last answer.
    pub(super) fn is_going_on(&self) -> bool {
        self.failure_count == 0
    }

    fn counts(&self, destinations: &[DestinationName], now: Monotonic) -> bool {
        self.destinations == destinations && now.since(self.answered_at) < FRESH
    }
}

impl Engine {
    /// Asks about the next batch of each run that waits for answers, as far as that may be.
    pub(super) fn ask_destinations(&mut self, turn: &mut Turn) {
        let asks = self.flights.intake_acts();
        let asks = asks.filter(|(_, act)| matches!(act, IntakeAct::CheckProofs(_)));
        let mut room = ASKS_MAX.saturating_sub(asks.count());
        for key in self.proofs_wanted.clone() {
            if room == 0 {
                return;
            }
            room -= usize::from(self.ask(&key, turn));
        }
    }

    /// Asks about the next batch of one run; tells whether an act began.
    fn ask(&mut self, key: &RunKey, turn: &mut Turn) -> bool {
        let (now, before) = (turn.now.monotonic, UploadId(self.next_upload));
        let Some(files) = self.drops.get_mut(&key.0) else {
            self.proofs_wanted.remove(key);
            return false;
        };
        let is_at_rest = files.is_at_rest(&key.1);
        if files.hearing.is_away() || self.pauses.cover_run(&key.0, &key.1) {
            return false;
        }
        let settings = &files.settings;
        let Some(waiting) = files.disposals.get_mut(&key.1) else {
            self.proofs_wanted.remove(key);
            return false;
        };
        if waiting.asked.as_ref().is_none_or(|a| !a.counts(&settings.destinations, now)) {
            waiting.asked = Some(Asked::new(&settings.destinations, before, now));
        }
        let Some(asked) = &waiting.asked else { return false };
        let next = asked.destinations.get(asked.done_count).filter(|_| is_at_rest);
        let Some(destination) = next.cloned() else {
            // All have answered, or files came in the meantime: it is decided what follows.
            self.proofs_wanted.remove(key);
            waiting.at = now;
            self.disposal_timers.insert((now, key.clone()));
            return false;
        };
        let (after, is_file) = (asked.after, waiting.what.is_file);
        let Some(gate) = self.gates.get(&destination) else { return false };
        let asks = gate.settings.traits.can_inspect;
        if !asks && !settings.dispose_unverified {
            self.refuse_unverified(key, &destination, turn);
            return false;
        }
        if asks && (!gate.is_open() || self.pauses.stops(&destination)) {
            self.hold_up(key, &destination, turn);
            return false;
        }
        self.proofs_wanted.remove(key);
        let check = ProofCheck {
            drop: key.0.clone(),
            run: key.1.clone(),
            is_file,
            destination: destination.clone(),
            asks,
            after,
        };
        let kind = FlightKind::Intake(key.0.clone(), IntakeAct::CheckProofs(key.1.clone()));
        let flight = Flight { kind, upload: None, destination: asks.then_some(destination) };
        let act = self.start(flight, Act::CheckProofs(Box::new(check)), turn);
        if let Some(waiting) = self.disposal_mut(key) {
            waiting.act = Some(act);
        }
        true
    }

    /// Says once that a run waits for a destination that takes no calls.
    fn hold_up(&mut self, key: &RunKey, destination: &DestinationName, turn: &mut Turn) {
        let Some(waiting) = self.disposal_mut(key) else { return };
        let Some(asked) = waiting.asked.as_mut().filter(|asked| !asked.is_held) else { return };
        asked.is_held = true;
        let message = format!("it waits until {destination} takes calls, to ask what it has");
        let failure = Failure::new(FailureKind::Unreachable, message);
        let ((drop, run), retry_at) = (key.clone(), turn.now.wall);
        turn.record(Record::DisposalDelayed { drop, run, retry_at, failure });
    }

    fn refuse_unverified(&mut self, key: &RunKey, destination: &DestinationName, turn: &mut Turn) {
        self.proofs_wanted.remove(key);
        let why = format!(
            "{destination} cannot be asked about what it has; dispose_unverified = true in \
             [drops.{}] lets sources go all the same",
            key.0
        );
        self.delay_disposal(key, Failure::new(FailureKind::NotFound, why), turn);
    }

    pub(in crate::engine) fn on_proofs_checked(
        &mut self,
        key: &RunKey,
        act: ActId,
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let now = turn.now.monotonic;
        let waiting = self.disposal_mut(key).filter(|waiting| waiting.act == Some(act));
        let Some(waiting) = waiting else { return };
        waiting.act = None;
        let Some(asked) = &mut waiting.asked else { return };
        let checked = match reply {
            Ok(Outcome::ProofsChecked(checked)) => checked,
            Ok(other) => return debug_assert!(false, "an outcome of another act: {other:?}"),
            Err(setback) => return self.ask_later(key, setback.failure, turn),
        };
        asked.failure_count = 0;
        asked.answered_at = now;
        match checked {
            ProofsChecked::UpTo(upload) => asked.after = Some(upload),
            ProofsChecked::Complete => {
                asked.done_count += 1;
                asked.after = None;
            }
            ProofsChecked::Doubted(doubt) => {
                let failure = Failure::new(FailureKind::NotFound, doubt.text());
                self.note_doubt(key, &doubt, turn);
                return self.delay_disposal(key, failure, turn);
            }
        }
        if asked.done_count == asked.destinations.len() {
            self.end_doubts(key, turn);
        }
        self.proofs_wanted.insert(key.clone());
    }

    /// There was no answer: the same batch is asked about again, once the destination takes calls.
    fn ask_later(&mut self, key: &RunKey, failure: Failure, turn: &mut Turn) {
        if failure.kind == FailureKind::Cancelled {
            self.proofs_wanted.insert(key.clone());
            return;
        }
        let retry = self.settings.retry;
        let waiting = self.drops.get_mut(&key.0).and_then(|f| f.disposals.get_mut(&key.1));
        let Some(asked) = waiting.and_then(|waiting| waiting.asked.as_mut()) else { return };
        let Some(destination) = asked.destinations.get(asked.done_count) else { return };
        let is_closed = self.gates.get(destination).is_some_and(|gate| !gate.is_open());
        asked.failure_count += u32::from(!is_closed);
        let count = asked.failure_count;
        let message = format!("{destination} does not say what it has: {}", failure.message);
        if count == UNANSWERED_MAX && !is_closed {
            self.note_doubt(key, &DisposalDoubt::GoneAtDestination(message.clone()), turn);
        }
        let delay = match is_closed {
            true => Duration::ZERO,
            false => retry::delay(retry, count, u64::from(count)),
        };
        let ((drop, run), retry_at) = (key.clone(), turn.now.wall.after(delay));
        let failure = Failure { message, ..failure };
        turn.record(Record::DisposalDelayed { drop, run, retry_at, failure });
        if is_closed {
            self.proofs_wanted.insert(key.clone());
        } else if let Some(waiting) = self.disposal_mut(key) {
            waiting.at = turn.now.monotonic.after(delay);
            let at = waiting.at;
            self.disposal_timers.insert((at, key.clone()));
        }
    }
}

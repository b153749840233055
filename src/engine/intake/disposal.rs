//! Disposing of sources: what is proved to be elsewhere may be moved or deleted here.
//!
//! A disposal is a row from the moment its run is completed; it waits for the grace, or for want of
//! free space where the operator allows that. Then the intent is committed, and only then anything is
//! touched. Before it, every destination is asked about every file ([`ask`]); whether each file is the
//! version that was sent, and has a receipt at every destination, is proved by the act itself, just
//! before it begins, for all of the run or not at all.
//!
//! At a crash after the intent the act is done again: what is not there any more was done. Where it is
//! not to be done any more, what it had set aside is put back.

mod ask;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::ask::Asked;
use super::act::IntakeAct;
use super::turn::IntakeTurn;
use crate::engine::event::{Act, ActId, Outcome, Setback};
use crate::engine::failure;
use crate::engine::settings::{DirectorySettings, RetrySettings};
use crate::model::{Disposal, Disposition, Failure, Monotonic, Now, Record, SourcePath, UploadId};

/// A wait for a wall-clock time is looked at again so often, for that clock may jump.
const LOOK_AGAIN: Duration = Duration::from_hours(1);
/// Nothing is disposed of while the drop directory was not seen, or is paused; so often that is
/// looked at.
const UNSEEN: Duration = Duration::from_secs(1);
/// What failed is tried again at these intervals.
const DELAY: RetrySettings =
    RetrySettings { delay_min: Duration::from_mins(1), delay_max: Duration::from_hours(1) };

/// The disposals of one drop directory.
#[derive(Debug, Default)]
pub(super) struct Disposals {
    waiting: BTreeMap<SourcePath, PendingDisposal>,
    timers: BTreeSet<(Monotonic, SourcePath)>,
    /// Runs about whose files a destination is to be asked.
    to_ask: BTreeSet<SourcePath>,
}

/// A disposal that is to be done.
#[derive(Debug)]
struct PendingDisposal {
    what: Disposal,
    act: Option<ActId>,
    failure_count: u32,
    /// The act in flight only puts back what an earlier one set aside.
    puts_back: bool,
    /// When it is looked at.
    at: Monotonic,
    /// What the destinations answered so far.
    asked: Option<Asked>,
    /// The grace by the clock that does not jump: both clocks must agree that it has passed.
    grace_until: Monotonic,
}

/// What of a drop directory bears on its disposals.
pub(super) struct DisposalView<'a> {
    pub(super) settings: &'a DirectorySettings,
    /// It was seen by a scan, and can be read.
    pub(super) is_readable: bool,
    pub(super) is_short_of_space: bool,
    /// Whether nothing of a run is under way.
    pub(super) is_at_rest: &'a dyn Fn(&SourcePath) -> bool,
}

impl Disposals {
    pub(super) fn load(&mut self, what: Disposal, now: Now) {
        let remaining = now.wall.until(what.due);
        let wait = if what.is_intended { Duration::ZERO } else { remaining.min(LOOK_AGAIN) };
        let (at, grace_until) = (now.monotonic.after(wait), now.monotonic.after(remaining));
        let run = what.run.clone();
        let pending = PendingDisposal {
            what,
            act: None,
            failure_count: 0,
            puts_back: false,
            at,
            asked: None,
            grace_until,
        };
        self.waiting.insert(run.clone(), pending);
        self.timers.insert((at, run));
    }

    /// Queues the disposal of a run that was just completed.
    pub(super) fn queue(
        &mut self,
        run: &SourcePath,
        is_file: bool,
        settings: &DirectorySettings,
        turn: &mut IntakeTurn<'_>,
    ) {
        if settings.disposal.disposition == Disposition::Keep {
            return;
        }
        let (drop, run) = (turn.directory(), run.clone());
        let due = turn.now().wall.after(settings.disposal.grace);
        let what = Disposal { drop, run, is_file, due, is_intended: false };
        turn.record(Record::DisposalQueued(what.clone()));
        self.load(what, turn.now());
    }

    /// Returns when a disposal is looked at.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Starts every disposal whose time has come, as far as there is room for their acts.
    pub(super) fn advance(&mut self, view: &DisposalView<'_>, turn: &mut IntakeTurn<'_>) {
        while turn.has_run_slot()
            && self.next_deadline().is_some_and(|at| at <= turn.now().monotonic)
        {
            let Some((_, run)) = self.timers.pop_first() else { break };
            self.advance_one(&run, view, turn);
        }
        self.ask_destinations(view, turn);
    }

    fn advance_one(
        &mut self,
        run: &SourcePath,
        view: &DisposalView<'_>,
        turn: &mut IntakeTurn<'_>,
    ) {
        let (now, settings) = (turn.now(), view.settings);
        let is_paused = (turn.around().is_paused)(run);
        let Some(pending) = self.waiting.get_mut(run).filter(|pending| pending.act.is_none())
        else {
            return;
        };
        if !view.is_readable || is_paused {
            return self.look_at(run, now.monotonic.after(UNSEEN));
        }
        // A run to which files were added is queued again when it is completed again.
        if settings.disposal.disposition == Disposition::Keep || !(view.is_at_rest)(run) {
            return self.end_undone(run, turn);
        }
        let wait = pending.wait(now);
        if !wait.is_zero() && !pending.what.is_intended && !view.is_short_of_space {
            return self.look_at(run, now.monotonic.after(wait));
        }
        let is_complete =
            |asked: &mut Asked| asked.is_complete(&settings.destinations, now.monotonic);
        let Some(asked) = pending.asked.take_if(is_complete) else {
            self.to_ask.insert(run.clone());
            return;
        };
        pending.what.is_intended = true;
        let intended =
            Record::DisposalIntended { drop: turn.directory(), run: run.clone(), at: now.wall };
        turn.record(intended);
        self.act_on(run, settings.disposal.disposition.clone(), asked.before(), turn);
    }

    /// Has a disposal looked at later.
    fn look_at(&mut self, run: &SourcePath, at: Monotonic) {
        if let Some(pending) = self.waiting.get_mut(run) {
            pending.at = at;
            self.timers.insert((at, run.clone()));
        }
    }

    fn act_on(
        &mut self,
        run: &SourcePath,
        how: Disposition,
        before: UploadId,
        turn: &mut IntakeTurn<'_>,
    ) {
        let Some(pending) = self.waiting.get_mut(run) else { return };
        let (drop, of, is_file) = (turn.directory(), run.clone(), pending.what.is_file);
        let act = Act::Dispose { drop, run: of, is_file, how, before };
        pending.act = Some(turn.start(IntakeAct::Dispose(run.clone()), act));
    }

    /// Ends a disposal that is not to be done any more. Where it may have been begun, what it set aside
    /// is put back first.
    fn end_undone(&mut self, run: &SourcePath, turn: &mut IntakeTurn<'_>) {
        self.to_ask.remove(run);
        let Some(pending) = self.waiting.get_mut(run) else { return };
        if pending.what.is_intended {
            pending.puts_back = true;
            let before = turn.around().next_upload;
            return self.act_on(run, Disposition::Keep, before, turn);
        }
        self.end(run, false, turn);
    }

    fn end(&mut self, run: &SourcePath, is_done: bool, turn: &mut IntakeTurn<'_>) {
        self.waiting.remove(run);
        let (drop, at) = (turn.directory(), turn.now().wall);
        turn.record(Record::DisposalEnded { drop, run: run.clone(), is_done, at });
        turn.doubt_found(run, None);
    }

    /// Returns a disposal whose act has come back; one that was queued again meanwhile has none.
    fn returned(&mut self, run: &SourcePath, act: ActId) -> Option<&mut PendingDisposal> {
        let pending = self.waiting.get_mut(run).filter(|pending| pending.act == Some(act))?;
        pending.act = None;
        Some(pending)
    }

    /// Receives what came of moving or deleting the source of a run. Returns whether it is not there any more.
    pub(super) fn disposed(
        &mut self,
        run: &SourcePath,
        act: ActId,
        reply: Result<Outcome, Setback>,
        turn: &mut IntakeTurn<'_>,
    ) -> bool {
        let Some(pending) = self.returned(run, act) else { return false };
        let puts_back = std::mem::take(&mut pending.puts_back);
        match reply {
            Ok(_) => self.end(run, !puts_back, turn),
            Err(setback) => {
                self.delay(run, setback.failure, turn);
                return false;
            }
        }
        !puts_back
    }

    /// A run did not go: it is tried again after a while, from the beginning.
    fn delay(&mut self, run: &SourcePath, failure: Failure, turn: &mut IntakeTurn<'_>) {
        let Some(pending) = self.waiting.get_mut(run) else { return };
        pending.asked = None;
        pending.failure_count += 1;
        let count = pending.failure_count;
        let delay = failure::delay(DELAY, count, u64::from(count));
        record_delay(run, failure, delay, turn);
        self.look_at(run, turn.now().monotonic.after(delay));
    }

    /// Where free space has become short, what waits for its grace is looked at now: the oldest first,
    /// one after the other. What failed is tried again at its own time.
    pub(super) fn press(&mut self, now: Monotonic) {
        let is_under_way = |pending: &PendingDisposal| {
            pending.act.is_some() || pending.asked.as_ref().is_some_and(Asked::is_going_on)
        };
        if self.waiting.values().any(is_under_way) {
            return;
        }
        let is_fresh = |pending: &&PendingDisposal| {
            pending.act.is_none() && pending.asked.is_none() && pending.failure_count == 0
        };
        let idle = self.waiting.values().filter(is_fresh);
        let Some(oldest) = idle.min_by_key(|pending| pending.what.due) else { return };
        let run = oldest.what.run.clone();
        self.timers.remove(&(oldest.at, run.clone()));
        self.look_at(&run, now);
    }
}

impl PendingDisposal {
    fn wait(&self, now: Now) -> Duration {
        let by_wall = now.wall.until(self.what.due);
        by_wall.max(self.grace_until.since(now.monotonic)).min(LOOK_AGAIN)
    }
}

/// Records why a disposal waits, and for how long.
fn record_delay(run: &SourcePath, failure: Failure, delay: Duration, turn: &mut IntakeTurn<'_>) {
    let (drop, retry_at) = (turn.directory(), turn.now().wall.after(delay));
    turn.record(Record::DisposalDelayed { drop, run: run.clone(), retry_at, failure });
}

//! Disposal of sources: a file that is proved to be elsewhere may be moved or deleted here.
//!
//! A disposal is a row from the moment its run is completed; it waits for the grace, or for low
//! free space where the operator allows that. The intent is committed before anything is touched.
//! Before it, every destination is asked about every file ([`ask`]); the act itself proves, just
//! before it begins, that each file is the version that was sent and has a receipt at every
//! destination, for the whole run or not at all.
//!
//! After a crash behind the intent the act is repeated: a missing file was disposed of. If the
//! disposal was cancelled meanwhile, files that it had set aside are restored.

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

/// Interval for checking a wait for a wall-clock time, because that clock may jump.
const LOOK_AGAIN: Duration = Duration::from_hours(1);
/// Interval for checking again while the drop directory was not seen, or is paused: nothing is
/// disposed of then.
const UNSEEN: Duration = Duration::from_secs(1);
/// Retry delays of failed disposals.
const DELAY: RetrySettings =
    RetrySettings { delay_min: Duration::from_mins(1), delay_max: Duration::from_hours(1) };

/// The disposals of one drop directory.
#[derive(Debug, Default)]
pub(super) struct Disposals {
    waiting: BTreeMap<SourcePath, PendingDisposal>,
    timers: BTreeSet<(Monotonic, SourcePath)>,
    /// Runs for which a destination must be asked about their files.
    to_ask: BTreeSet<SourcePath>,
}

/// A disposal to carry out.
#[derive(Debug)]
struct PendingDisposal {
    what: Disposal,
    act: Option<ActId>,
    failure_count: u32,
    /// The act in flight only restores what an earlier one set aside.
    puts_back: bool,
    /// When to check it.
    at: Monotonic,
    /// The answers of the destinations so far.
    asked: Option<Asked>,
    /// The end of the grace by the monotonic clock: both clocks must agree that it has passed.
    grace_until: Monotonic,
}

/// The state of a drop directory that its disposals depend on.
pub(super) struct DisposalView<'a> {
    pub(super) settings: &'a DirectorySettings,
    /// A scan has seen it, and it can be read.
    pub(super) is_readable: bool,
    pub(super) is_short_of_space: bool,
    /// Whether no work on a run is in progress.
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

    /// Returns when the next disposal is to be checked.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Starts every disposal that is due, as far as there is room for its acts.
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
        // A run with added files is queued again when it is completed again.
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

    /// Schedules the next check of a disposal.
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

    /// Ends a cancelled disposal. Where it may have begun, the files it set aside are restored
    /// first.
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

    /// Returns a disposal whose act has ended, unless it was queued again meanwhile.
    fn returned(&mut self, run: &SourcePath, act: ActId) -> Option<&mut PendingDisposal> {
        let pending = self.waiting.get_mut(run).filter(|pending| pending.act == Some(act))?;
        pending.act = None;
        Some(pending)
    }

    /// Receives the result of moving or deleting a run's source. Returns whether the source is gone.
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

    /// Schedules a failed disposal again, from the beginning.
    fn delay(&mut self, run: &SourcePath, failure: Failure, turn: &mut IntakeTurn<'_>) {
        let Some(pending) = self.waiting.get_mut(run) else { return };
        pending.asked = None;
        pending.failure_count += 1;
        let count = pending.failure_count;
        let delay = failure::delay(DELAY, count, u64::from(count));
        record_delay(run, failure, delay, turn);
        self.look_at(run, turn.now().monotonic.after(delay));
    }

    /// When free space is low, checks disposals that wait for their grace at once: the oldest
    /// first, one after the other. Failed ones keep their own retry times.
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

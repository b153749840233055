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

use std::time::Duration;

use self::ask::Asked;
use super::event::{Act, ActId, Outcome, Setback};
use super::intake::IntakeAct;
use super::runs::RunKey;
use super::ticket::Ticket;
use super::turn::Turn;
use super::{Engine, Flight, FlightKind, retry};
use crate::model::{
    DirectoryName, Disposal, Disposition, Failure, Fingerprint, Monotonic, Now, Record, RunState,
    SourcePath, UploadId,
};

/// A wait for a wall-clock time is looked at again so often, for that clock may jump.
const LOOK_AGAIN: Duration = Duration::from_hours(1);
/// Nothing is disposed of while the drop directory was not seen, or is paused; so often that is
/// looked at.
const UNSEEN: Duration = Duration::from_secs(1);
/// What did not go is tried again at these intervals.
const DELAY: super::settings::RetrySettings = super::settings::RetrySettings {
    delay_min: Duration::from_mins(1),
    delay_max: Duration::from_hours(1),
};

/// A disposal that is to be done.
#[derive(Debug)]
pub(crate) struct Waiting {
    what: Disposal,
    act: Option<ActId>,
    failure_count: u32,
    /// The act under way only puts back what an earlier one set aside.
    puts_back: bool,
    /// When it is looked at.
    at: Monotonic,
    /// What the destinations answered so far.
    asked: Option<Asked>,
    /// The grace by the clock that does not jump: both clocks must agree that it has passed.
    grace_until: Monotonic,
}

impl Engine {
    /// Takes a disposal as it was stored.
    pub(super) fn take_disposal(&mut self, what: Disposal, now: Now) {
        let Some(files) = self.drops.get_mut(&what.drop) else { return };
        let remaining = now.wall.until(what.due);
        let wait = if what.is_intended { Duration::ZERO } else { remaining.min(LOOK_AGAIN) };
        let (at, grace_until) = (now.monotonic.after(wait), now.monotonic.after(remaining));
        let (drop, run) = (what.drop.clone(), what.run.clone());
        let waiting = Waiting {
            what,
            act: None,
            failure_count: 0,
            puts_back: false,
            at,
            asked: None,
            grace_until,
        };
        files.disposals.insert(run.clone(), waiting);
        self.disposal_timers.insert((at, (drop, run)));
    }

    /// Lines up the disposal of a run that was just completed.
    pub(super) fn queue_disposal(&mut self, key: &RunKey, is_file: bool, turn: &mut Turn) {
        let Some(files) = self.drops.get_mut(&key.0) else { return };
        if files.settings.disposition == Disposition::Keep {
            return;
        }
        let due = turn.now.wall.after(files.settings.disposition_grace);
        let what =
            Disposal { drop: key.0.clone(), run: key.1.clone(), is_file, due, is_intended: false };
        turn.record(Record::DisposalQueued(what.clone()));
        self.take_disposal(what, turn.now);
    }

    /// A file that is a drop of its own is disposed of when its last upload has its receipt.
    pub(super) fn end_file(
        &mut self,
        admission: &Ticket,
        receipted: Option<UploadId>,
        turn: &mut Turn,
    ) {
        if admission.run != admission.path || admission.is_sentinel {
            return;
        }
        let Some(files) = self.drops.get(&admission.drop) else { return };
        if files.is_all_there(&admission.path, &admission.fingerprint) {
            let key = (admission.drop.clone(), admission.path.clone());
            if let Some(id) = receipted {
                self.note_file(admission, id, turn);
            }
            self.queue_disposal(&key, true, turn);
        }
    }

    /// Returns when a disposal is looked at, unless it waits for the acts of other runs to end.
    pub(super) fn next_disposal(&self) -> Option<Monotonic> {
        self.disposal_timers.first().map(|(at, _)| *at).filter(|_| self.has_room_for_run())
    }

    /// Starts every disposal whose time has come, as far as there is room for their acts.
    pub(super) fn dispose(&mut self, turn: &mut Turn) {
        while self.next_disposal().is_some_and(|at| at <= turn.now.monotonic) {
            let Some((_, key)) = self.disposal_timers.pop_first() else { break };
            self.dispose_of(&key, turn);
        }
        self.ask_destinations(turn);
    }

    fn dispose_of(&mut self, key: &RunKey, turn: &mut Turn) {
        let Some(files) = self.drops.get_mut(&key.0) else { return };
        let how = files.settings.disposition.clone();
        let is_at_rest = files.is_at_rest(&key.1);
        let is_short = files.is_short_of_space();
        let is_seen =
            files.is_scanned && !files.hearing.is_away() && !self.pauses.cover_run(&key.0, &key.1);
        let Some(waiting) = files.disposals.get_mut(&key.1) else { return };
        if waiting.act.is_some() {
            return;
        }
        if !is_seen {
            waiting.at = turn.now.monotonic.after(UNSEEN);
            self.disposal_timers.insert((waiting.at, key.clone()));
            return;
        }
        // A run to which files were added is lined up again when it is completed again.
        if how == Disposition::Keep || !is_at_rest {
            return self.end_undone(key, turn);
        }
        let wait = waiting.wait(turn.now);
        if !wait.is_zero() && !waiting.what.is_intended && !is_short {
            waiting.at = turn.now.monotonic.after(wait);
            self.disposal_timers.insert((waiting.at, key.clone()));
            return;
        }
        let destinations = &files.settings.destinations;
        let is_complete = |asked: &Asked| asked.is_complete(destinations, turn.now.monotonic);
        let Some(asked) = waiting.asked.take_if(|asked| is_complete(asked)) else {
            self.proofs_wanted.insert(key.clone());
            return;
        };
        waiting.what.is_intended = true;
        let (drop, run) = key.clone();
        turn.record(Record::DisposalIntended { drop, run, at: turn.now.wall });
        self.act_on(key, how, asked.before, turn);
    }

    fn act_on(&mut self, key: &RunKey, how: Disposition, before: UploadId, turn: &mut Turn) {
        let Some(waiting) = self.disposal_mut(key) else { return };
        let is_file = waiting.what.is_file;
        let (drop, run) = key.clone();
        let kind = FlightKind::Intake(drop.clone(), IntakeAct::Dispose(run.clone()));
        let flight = Flight { kind, upload: None, destination: None };
        let act = self.start(flight, Act::Dispose { drop, run, is_file, how, before }, turn);
        if let Some(waiting) = self.disposal_mut(key) {
            waiting.act = Some(act);
        }
    }

    /// Ends a disposal that is not to be done any more. Where it may have been begun, what it set aside
    /// is put back first.
    fn end_undone(&mut self, key: &RunKey, turn: &mut Turn) {
        self.proofs_wanted.remove(key);
        let Some(waiting) = self.disposal_mut(key) else { return };
        if waiting.what.is_intended {
            waiting.puts_back = true;
            let before = UploadId(self.next_upload);
            return self.act_on(key, Disposition::Keep, before, turn);
        }
        self.end_disposal(key, false, turn);
    }

    fn end_disposal(&mut self, key: &RunKey, is_done: bool, turn: &mut Turn) {
        self.drops.get_mut(&key.0).and_then(|files| files.disposals.remove(&key.1));
        let (drop, run) = key.clone();
        let at = turn.now.wall;
        turn.record(Record::DisposalEnded { drop, run, is_done, at });
        self.end_doubts(key, turn);
    }

    fn disposal_mut(&mut self, key: &RunKey) -> Option<&mut Waiting> {
        self.drops.get_mut(&key.0)?.disposals.get_mut(&key.1)
    }

    pub(super) fn on_disposed(
        &mut self,
        key: &RunKey,
        act: ActId,
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        // A run that was completed again meanwhile was lined up again.
        let waiting = self.disposal_mut(key).filter(|waiting| waiting.act == Some(act));
        let Some(waiting) = waiting else { return };
        waiting.act = None;
        let puts_back = std::mem::take(&mut waiting.puts_back);
        match reply {
            Ok(_) => self.end_disposal(key, !puts_back, turn),
            Err(setback) => self.delay_disposal(key, setback.failure, turn),
        }
    }

    /// A run did not go: it is tried again after a while, from the beginning.
    fn delay_disposal(&mut self, key: &RunKey, failure: Failure, turn: &mut Turn) {
        let (drop, run) = key.clone();
        let Some(waiting) = self.disposal_mut(key) else { return };
        waiting.asked = None;
        waiting.failure_count += 1;
        let delay = retry::delay(DELAY, waiting.failure_count, u64::from(waiting.failure_count));
        waiting.at = turn.now.monotonic.after(delay);
        let at = waiting.at;
        let retry_at = turn.now.wall.after(delay);
        turn.record(Record::DisposalDelayed { drop, run, retry_at, failure });
        self.disposal_timers.insert((at, key.clone()));
    }

    /// Where free space has become short, what waits for its grace is looked at now: the oldest first,
    /// one after the other. What failed is tried again at its own time.
    pub(super) fn press_disposals(&mut self, drop: &DirectoryName, now: Now) {
        let Some(files) = self.drops.get_mut(drop).filter(|f| f.is_short_of_space()) else {
            return;
        };
        let is_under_way = |waiting: &Waiting| {
            waiting.act.is_some() || waiting.asked.as_ref().is_some_and(Asked::is_going_on)
        };
        if files.disposals.values().any(is_under_way) {
            return;
        }
        let is_fresh = |waiting: &&mut Waiting| {
            waiting.act.is_none() && waiting.asked.is_none() && waiting.failure_count == 0
        };
        let idle = files.disposals.values_mut().filter(is_fresh);
        let Some(oldest) = idle.min_by_key(|waiting| waiting.what.due) else { return };
        let key = (drop.clone(), oldest.what.run.clone());
        self.disposal_timers.remove(&(oldest.at, key.clone()));
        oldest.at = now.monotonic;
        self.disposal_timers.insert((oldest.at, key));
    }
}

impl Waiting {
    fn wait(&self, now: Now) -> Duration {
        let by_wall = now.wall.until(self.what.due);
        by_wall.max(self.grace_until.since(now.monotonic)).min(LOOK_AGAIN)
    }
}

impl super::files::Files {
    /// Tells whether nothing of a run is under way.
    fn is_at_rest(&self, run: &SourcePath) -> bool {
        match self.runs.get(run) {
            Some(run) => run.row.state == RunState::Completed && run.live.is_empty(),
            None => self.known.live(run.digest()).is_empty(),
        }
    }

    /// Tells whether a file was admitted for every destination, and no upload of it is under way.
    fn is_all_there(&self, path: &SourcePath, version: &Fingerprint) -> bool {
        let covered = self.known.covered(path.digest(), version);
        covered == Some(self.all_destinations()) && self.known.live(path.digest()).is_empty()
    }

    fn is_short_of_space(&self) -> bool {
        let floor = self.settings.disposition_free_space;
        floor.zip(self.free_space).is_some_and(|(floor, free)| free < floor)
    }
}

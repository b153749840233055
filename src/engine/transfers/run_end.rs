//! The ends of runs, for platforms that require a call for them.
//!
//! A run is at its end at a destination when every upload of it there has ended, exports included,
//! nothing of it has changed for a while, and a scan since then has found nothing more of it. A run
//! that continues after its end is a new one to the platform. An open run is a row; reporting its
//! end may be repeated, so a crash costs one call.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{TransferAct, TransferTurn};
use crate::engine::event::{Act, ActId, Outcome, Setback};
use crate::engine::{failure, plan};
use crate::model::{
    Admission, Call, DestinationName, Monotonic, Record, RunEndKey, SourcePath, UploadId, WallTime,
};

/// A run is at its end after this many quiet periods without a change.
const CLOSING: u32 = 10;
/// Interval of checks of a run whose drop directory is not configured.
const CLOSING_UNKNOWN: Duration = Duration::from_hours(1);

#[derive(Debug)]
struct Open {
    live: BTreeSet<UploadId>,
    quiet_since: WallTime,
    next_look: Monotonic,
    failure_count: u32,
    act: Option<ActId>,
}

#[derive(Debug, Default)]
pub(super) struct RunEnds {
    open: BTreeMap<RunEndKey, Open>,
    /// Unchanged ones, by the time of their next check: every event asks for the first of them.
    still: BTreeSet<(Monotonic, RunEndKey)>,
}

impl RunEnds {
    /// Changes a run, and updates the time of its next check.
    fn change(&mut self, key: &RunEndKey, change: impl FnOnce(&mut Open)) {
        let Some(open) = self.open.get_mut(key) else { return };
        let before = open.is_still().then_some(open.next_look);
        change(open);
        let after = open.is_still().then_some(open.next_look);
        if let Some(at) = before {
            self.still.remove(&(at, key.clone()));
        }
        if let Some(at) = after {
            self.still.insert((at, key.clone()));
        }
    }

    fn remove(&mut self, key: &RunEndKey) {
        if let Some(open) = self.open.remove(key) {
            self.still.remove(&(open.next_look, key.clone()));
        }
    }

    /// Drops the open runs: the destination has another target, which does not know them. Runs with
    /// open uploads are opened at the new target.
    pub(super) fn forget(&mut self, name: &DestinationName, turn: &mut TransferTurn<'_>) {
        let keys: Vec<_> = self.open.keys().cloned().collect();
        for key in keys {
            self.remove(&key);
            record_finished(name, key, turn);
        }
    }

    pub(super) fn load(&mut self, key: RunEndKey, turn: &TransferTurn<'_>) {
        let now = turn.now();
        let open = Open {
            live: BTreeSet::new(),
            quiet_since: now.wall,
            next_look: now.monotonic.after(closing_of(&key, turn)),
            failure_count: 0,
            act: None,
        };
        self.open.entry(key.clone()).or_insert(open);
        self.change(&key, |_| {});
    }

    /// Adds an upload to a run, which is opened if it was not.
    pub(super) fn join(&mut self, admission: &Admission, turn: &mut TransferTurn<'_>) {
        let Some(key) = key_of(admission) else { return };
        if !self.open.contains_key(&key) {
            let (destination, at) = (admission.destination.clone(), turn.now().wall);
            let (drop, name) = (key.drop.clone(), key.name.clone());
            turn.record(Record::RunOpened { destination, drop, name, at });
            self.load(key.clone(), turn);
        }
        self.change(&key, |open| {
            open.live.insert(admission.id);
        });
    }

    pub(super) fn leave(&mut self, admission: &Admission, turn: &TransferTurn<'_>) {
        if self.open.is_empty() {
            return;
        }
        let Some(key) = key_of(admission) else { return };
        let (now, closing) = (turn.now(), closing_of(&key, turn));
        self.change(&key, |open| {
            open.live.remove(&admission.id);
            open.quiet_since = now.wall;
            open.next_look = now.monotonic.after(closing);
        });
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.still.first().map(|(at, _)| *at)
    }

    /// Reports runs at their end to the platform.
    pub(super) fn advance(&mut self, name: &DestinationName, turn: &mut TransferTurn<'_>) {
        let now = turn.now().monotonic;
        let due = self.still.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<_> = due.map(|(_, key)| key.clone()).collect();
        for key in due {
            let act = self.is_at_its_end(&key, turn).then(|| {
                let act = Act::call(name, Call::FinishRun(key.name.clone()));
                turn.start(name, TransferAct::FinishRun(key.clone()), act)
            });
            let next_look = now.after(closing_of(&key, turn));
            self.change(&key, |open| {
                open.act = act;
                open.next_look = next_look;
            });
        }
    }

    /// Returns whether nothing of a run has changed, and a scan since then would have found new files.
    fn is_at_its_end(&self, key: &RunEndKey, turn: &TransferTurn<'_>) -> bool {
        let intake = turn.intake(&key.drop).zip(self.open.get(key));
        intake
            .is_some_and(|(intake, open)| intake.is_still(open.quiet_since, |path| has(key, path)))
    }

    /// Receives the reply to such a report.
    pub(super) fn finished(
        &mut self,
        name: &DestinationName,
        key: RunEndKey,
        reply: &Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        let (retry, now) = (turn.retry(), turn.now().monotonic);
        let is_told = reply.is_ok();
        self.change(&key, |open| {
            open.act = None;
            if !is_told {
                open.failure_count += 1;
                let delay =
                    failure::delay(retry, open.failure_count, u64::from(open.failure_count));
                open.next_look = now.after(delay);
            }
        });
        // A file that came meanwhile belongs to the next run.
        if is_told && self.open.get(&key).is_some_and(|open| open.live.is_empty()) {
            self.remove(&key);
            record_finished(name, key, turn);
        }
    }
}

fn record_finished(name: &DestinationName, key: RunEndKey, turn: &mut TransferTurn<'_>) {
    let RunEndKey { drop, name: run, .. } = key;
    let (destination, at) = (name.clone(), turn.now().wall);
    turn.record(Record::RunFinished { destination, drop, name: run, at });
}

fn closing_of(key: &RunEndKey, turn: &TransferTurn<'_>) -> Duration {
    let intake = turn.intake(&key.drop);
    intake.map_or(CLOSING_UNKNOWN, |intake| intake.settings().quiet_period * CLOSING)
}

impl Open {
    fn is_still(&self) -> bool {
        self.live.is_empty() && self.act.is_none()
    }
}

fn key_of(admission: &Admission) -> Option<RunEndKey> {
    let name = admission.target.folders().next()?.to_owned();
    let (destination, drop) = (admission.destination.clone(), admission.file.drop.clone());
    Some(RunEndKey { destination, drop, name })
}

fn has(key: &RunEndKey, path: &SourcePath) -> bool {
    let first = path.directories().next().unwrap_or_else(|| path.file_name());
    plan::readable(first) == key.name
}

//! The ends of drops, for platforms that want to be told of them.
//!
//! A drop is at its end at a destination when every upload of it there has ended, its exports too,
//! and nothing of it has changed for a while. A drop that goes on after its end is a new one to the
//! platform. That a drop is open is a row; telling its end may be repeated, so a crash in between
//! costs one call.

use std::collections::{BTreeMap, BTreeSet};

use super::event::{Act, ActId, Outcome, Setback};
use super::retry;
use super::turn::Turn;
use super::{Engine, Flight, FlightKind, plan};
use crate::model::{Admission, DestinationName, DropName, Monotonic, Record, SourcePath, UploadId};

/// A drop is at its end after this many quiet periods without a change.
const CLOSING: u32 = 10;

/// One drop at one destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DropKey {
    /// Where to.
    pub destination: DestinationName,
    /// From which drop directory.
    pub drop: DropName,
    /// The drop's own name, which is its top folder there.
    pub name: String,
}

/// What is going on in it.
#[derive(Debug)]
struct Open {
    live: BTreeSet<UploadId>,
    quiet_since: Monotonic,
    failure_count: u32,
    act: Option<ActId>,
}

/// Drops that are open.
#[derive(Debug, Default)]
pub(super) struct Ends(BTreeMap<DropKey, Open>);

impl DropKey {
    fn of(admission: &Admission) -> Option<Self> {
        Some(Self {
            destination: admission.destination.clone(),
            drop: admission.drop.clone(),
            name: admission.target.folders.first()?.clone(),
        })
    }

    /// Tells whether a file of the drop directory belongs to it.
    fn has(&self, path: &SourcePath) -> bool {
        let first = path.directories().next().unwrap_or_else(|| path.file_name());
        plan::readable(first) == self.name
    }
}

impl Engine {
    /// Takes a drop as it was stored.
    pub(super) fn open_drop(&mut self, key: DropKey, now: Monotonic) {
        let open = Open { live: BTreeSet::new(), quiet_since: now, failure_count: 0, act: None };
        self.ends.0.entry(key).or_insert(open);
    }

    /// Notes that an upload belongs to a drop; one that was not open is opened.
    pub(super) fn join_drop(&mut self, admission: &Admission, turn: &mut Turn) {
        let wants = |gate: &super::gate::Gate| gate.settings.traits.finishes_drops;
        if !self.gates.get(&admission.destination).is_some_and(wants) {
            return;
        }
        let Some(key) = DropKey::of(admission) else { return };
        if !self.ends.0.contains_key(&key) {
            turn.record(Record::DropOpened {
                destination: key.destination.clone(),
                drop: key.drop.clone(),
                name: key.name.clone(),
                at: turn.now.wall,
            });
            self.open_drop(key.clone(), turn.now.monotonic);
        }
        if let Some(open) = self.ends.0.get_mut(&key) {
            open.live.insert(admission.id);
        }
    }

    /// Notes that an upload has ended.
    pub(super) fn leave_drop(&mut self, admission: &Admission, now: Monotonic) {
        let key = DropKey::of(admission);
        if let Some(open) = key.and_then(|key| self.ends.0.get_mut(&key)) {
            open.live.remove(&admission.id);
            open.quiet_since = now;
        }
    }

    fn closing_of(&self, key: &DropKey, open: &Open) -> Option<Monotonic> {
        let quiet_period = self.drops.get(&key.drop)?.settings.quiet_period;
        let is_still = open.live.is_empty() && open.act.is_none();
        is_still.then(|| open.quiet_since.after(quiet_period * CLOSING))
    }

    /// Returns when a drop may be at its end.
    pub(super) fn next_end(&self) -> Option<Monotonic> {
        self.ends.0.iter().filter_map(|(key, open)| self.closing_of(key, open)).min()
    }

    /// Tells one destination of drops that are at their end.
    pub(super) fn finish_drops(&mut self, name: &DestinationName, turn: &mut Turn) {
        let of_it = self.ends.0.iter().filter(|(key, _)| key.destination == *name);
        let due: Vec<_> = of_it
            .filter(|(key, open)| {
                self.closing_of(key, open).is_some_and(|at| at <= turn.now.monotonic)
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            let Some(files) = self.drops.get(&key.drop) else { continue };
            let moves = files.settle.paths().any(|path| key.has(path));
            let act = (!moves).then(|| {
                let kind = FlightKind::Finish(key.clone());
                let flight = Flight { kind, upload: None, destination: Some(name.clone()) };
                let (destination, name) = (name.clone(), key.name.clone());
                self.start(flight, Act::FinishDrop { destination, name }, turn)
            });
            if let Some(open) = self.ends.0.get_mut(&key) {
                open.act = act;
                open.quiet_since = turn.now.monotonic;
            }
        }
    }

    pub(super) fn on_drop_finished(
        &mut self,
        key: &DropKey,
        reply: &Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let retry = self.settings.retry;
        let Some(open) = self.ends.0.get_mut(key) else { return };
        open.act = None;
        if reply.is_err() {
            open.failure_count += 1;
            let delay = retry::delay(retry, open.failure_count, u64::from(open.failure_count));
            open.quiet_since = turn.now.monotonic.after(delay);
            return;
        }
        // A file that came meanwhile belongs to the drop that follows.
        if open.live.is_empty() {
            self.ends.0.remove(key);
            turn.record(Record::DropFinished {
                destination: key.destination.clone(),
                drop: key.drop.clone(),
                name: key.name.clone(),
                at: turn.now.wall,
            });
        }
    }
}

//! The ends of drops, for platforms that want to be told of them.
//!
//! A drop is at its end at a destination when every upload of it there has ended, its exports too,
//! nothing of it has changed for a while, and a scan since then has shown nothing more of it. A drop
//! that goes on after its end is a new one to the platform. That a drop is open is a row; telling its end may be repeated, so a crash in between
//! costs one call.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::event::{Act, ActId, Outcome, Setback};
use super::gate::Gate;
use super::retry;
use super::ticket::Ticket;
use super::turn::Turn;
use super::{Engine, Flight, FlightKind, plan};
use crate::model::{
    Call, DestinationName, DirectoryName, Monotonic, Now, Record, SourcePath, UploadId, WallTime,
};

/// A drop is at its end after this many quiet periods without a change.
const CLOSING: u32 = 10;
/// How often a drop is looked at whose drop directory is not configured.
const CLOSING_UNKNOWN: Duration = Duration::from_hours(1);

/// One drop at one destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunEndKey {
    pub destination: DestinationName,
    /// From which drop directory.
    pub drop: DirectoryName,
    /// The drop's own name, which is its top folder there.
    pub name: String,
}

/// What is going on in it.
#[derive(Debug)]
struct Open {
    live: BTreeSet<UploadId>,
    quiet_since: WallTime,
    next_look: Monotonic,
    failure_count: u32,
    act: Option<ActId>,
}

/// Drops that are open.
#[derive(Debug, Default)]
pub(super) struct Ends {
    open: BTreeMap<RunEndKey, Open>,
    /// Those that are still, by when they are looked at: every event asks for the first of them.
    still: BTreeMap<DestinationName, BTreeSet<(Monotonic, RunEndKey)>>,
}

impl Ends {
    /// Adds a drop, unless it is there.
    fn add(&mut self, key: RunEndKey, open: Open) {
        self.open.entry(key.clone()).or_insert(open);
        self.change(&key, |_| {});
    }

    /// Changes a drop, and what is known of when it is looked at.
    fn change(&mut self, key: &RunEndKey, change: impl FnOnce(&mut Open)) {
        let Some(open) = self.open.get_mut(key) else { return };
        let before = open.is_still().then_some(open.next_look);
        change(open);
        let after = open.is_still().then_some(open.next_look);
        if before.is_none() && after.is_none() {
            return;
        }
        let still = self.still.entry(key.destination.clone()).or_default();
        if let Some(at) = before {
            still.remove(&(at, key.clone()));
        }
        if let Some(at) = after {
            still.insert((at, key.clone()));
        }
    }

    fn remove(&mut self, key: &RunEndKey) {
        let open = self.open.remove(key);
        if let Some((open, still)) = open.zip(self.still.get_mut(&key.destination)) {
            still.remove(&(open.next_look, key.clone()));
        }
    }

    /// Returns the drops of a destination that are to be looked at.
    fn due(&self, destination: &DestinationName, now: Monotonic) -> Vec<RunEndKey> {
        let still = self.still.get(destination).into_iter().flatten();
        still.take_while(|(at, _)| *at <= now).map(|(_, key)| key.clone()).collect()
    }
}

impl Open {
    fn is_still(&self) -> bool {
        self.live.is_empty() && self.act.is_none()
    }
}

impl RunEndKey {
    fn of(admission: &Ticket) -> Option<Self> {
        Some(Self {
            destination: admission.destination.clone(),
            drop: admission.drop.clone(),
            name: admission.top_folder()?.to_owned(),
        })
    }

    /// Tells whether a file of the drop directory belongs to it.
    fn has(&self, path: &SourcePath) -> bool {
        let first = path.directories().next().unwrap_or_else(|| path.file_name());
        plan::readable(first) == self.name
    }
}

impl Engine {
    /// Forgets the open drops of a destination: it has another target, which does not know them. Those of
    /// whose files open uploads go to the new target are opened there.
    pub(super) fn forget_drops_of(&mut self, destination: &DestinationName, turn: &mut Turn) {
        let of_it = self.ends.open.keys().filter(|key| key.destination == *destination);
        let keys: Vec<_> = of_it.cloned().collect();
        for key in keys {
            self.ends.remove(&key);
            let RunEndKey { destination, drop, name } = key;
            turn.record(Record::RunFinished { destination, drop, name, at: turn.now.wall });
        }
    }

    /// Takes a drop as it was stored.
    pub(super) fn open_drop(&mut self, key: RunEndKey, now: Now) {
        let open = Open {
            live: BTreeSet::new(),
            quiet_since: now.wall,
            next_look: now.monotonic.after(self.closing_of(&key)),
            failure_count: 0,
            act: None,
        };
        self.ends.add(key, open);
    }

    fn closing_of(&self, key: &RunEndKey) -> Duration {
        let intake = self.intakes.get(&key.drop);
        intake.map_or(CLOSING_UNKNOWN, |intake| intake.settings().quiet_period * CLOSING)
    }

    /// Notes that an upload belongs to a drop; one that was not open is opened.
    pub(super) fn join_drop(&mut self, admission: &Ticket, turn: &mut Turn) {
        let wants = |gate: &Gate| gate.settings.traits.finishes_drops;
        if admission.is_sentinel || !self.gates.get(&admission.destination).is_some_and(wants) {
            return;
        }
        let Some(key) = RunEndKey::of(admission) else { return };
        if !self.ends.open.contains_key(&key) {
            turn.record(Record::RunOpened {
                destination: key.destination.clone(),
                drop: key.drop.clone(),
                name: key.name.clone(),
                at: turn.now.wall,
            });
            self.open_drop(key.clone(), turn.now);
        }
        self.ends.change(&key, |open| {
            open.live.insert(admission.id);
        });
    }

    /// Notes that an upload has ended.
    pub(super) fn leave_drop(&mut self, admission: &Ticket, now: Now) {
        if self.ends.open.is_empty() {
            return;
        }
        let Some(key) = RunEndKey::of(admission) else { return };
        let closing = self.closing_of(&key);
        self.ends.change(&key, |open| {
            open.live.remove(&admission.id);
            open.quiet_since = now.wall;
            open.next_look = now.monotonic.after(closing);
        });
    }

    /// Returns when a drop may be at its end; a closed destination is told when it is open again.
    pub(super) fn next_end(&self) -> Option<Monotonic> {
        let is_open = |name: &DestinationName| {
            self.gates.get(name).is_some_and(Gate::is_open) && !self.pauses.stops(name)
        };
        let still = self.ends.still.iter().filter(|(name, _)| is_open(name));
        still.filter_map(|(_, drops)| drops.first()).map(|(at, _)| *at).min()
    }

    /// Tells one destination of drops that are at their end.
    pub(super) fn finish_drops(&mut self, name: &DestinationName, turn: &mut Turn) {
        if !self.is_loaded() {
            return;
        }
        for key in self.ends.due(name, turn.now.monotonic) {
            let act = self.is_at_its_end(&key).then(|| {
                let kind = FlightKind::Finish(key.clone());
                let flight = Flight { kind, upload: None, destination: Some(name.clone()) };
                let act = Act::call(name, Call::FinishRun(key.name.clone()));
                self.flights.start(flight, act, turn)
            });
            let next_look = turn.now.monotonic.after(self.closing_of(&key));
            self.ends.change(&key, |open| {
                open.act = act;
                open.next_look = next_look;
            });
        }
    }

    /// Whether nothing of a drop moves, and a scan since it is still would have shown what came.
    fn is_at_its_end(&self, key: &RunEndKey) -> bool {
        let intake = self.intakes.get(&key.drop).zip(self.ends.open.get(key));
        intake.is_some_and(|(intake, open)| intake.is_still(open.quiet_since, |path| key.has(path)))
    }

    pub(super) fn on_drop_finished(
        &mut self,
        key: &RunEndKey,
        reply: &Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let retry = self.settings.retry;
        let now = turn.now.monotonic;
        let is_told = reply.is_ok();
        self.ends.change(key, |open| {
            open.act = None;
            if !is_told {
                open.failure_count += 1;
                let delay = retry::delay(retry, open.failure_count, u64::from(open.failure_count));
                open.next_look = now.after(delay);
            }
        });
        // A file that came meanwhile belongs to the drop that follows.
        if is_told && self.ends.open.get(key).is_some_and(|open| open.live.is_empty()) {
            self.ends.remove(key);
            turn.record(Record::RunFinished {
                destination: key.destination.clone(),
                drop: key.drop.clone(),
                name: key.name.clone(),
                at: turn.now.wall,
            });
        }
    }
}

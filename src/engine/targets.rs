//! Which target each destination has, and what follows when that is another one.
//!
//! A destination is its target, not its name. When the configuration gives a name another address,
//! bucket or project, new files go to that one, and open uploads begin anew there. What was completed
//! stays where it is: it is not sent again by itself, and it proves nothing for disposal. Ids of remote
//! uploads mean something at the target that gave them out and nowhere else: they are removed there, or
//! wait in their rows until a destination has that target again.
//!
//! At a crash nothing is lost: an upload keeps the id of its target in its row, and a start compares it
//! with the target that its destination has.

use super::event::ActId;
use super::export::Exports;
use super::gate::{Gate, GateState};
use super::plan;
use super::turn::Turn;
use super::upload::Upload;
use super::{Engine, Flight, Stored};
use crate::model::{
    DestinationName, Fact, Now, OpenCleanup, Record, RemoteUploadId, Stage, TargetAddress,
    TargetId, UploadId,
};

/// The targets of one destination.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    /// Its own, and then those that are declared to be the same.
    current: Vec<TargetId>,
    /// From which act on it had which target.
    history: Vec<(ActId, TargetId)>,
}

impl Targets {
    /// Returns its own target.
    pub(crate) fn own(&self) -> TargetId {
        self.current.first().copied().unwrap_or_default()
    }

    /// Tells whether a target is its own, or declared to be the same.
    pub(crate) fn has(&self, target: TargetId) -> bool {
        self.current.contains(&target)
    }

    /// Returns all of them.
    pub(crate) fn all(&self) -> &[TargetId] {
        &self.current
    }

    /// Returns the one id that stands for all of them, whatever the destination's name.
    pub(crate) fn canonical(&self) -> TargetId {
        self.current.iter().min().copied().unwrap_or_default()
    }

    /// Returns the target that an act was made at.
    fn at(&self, act: ActId) -> TargetId {
        let before = self.history.iter().rev().find(|(since, _)| *since <= act);
        before.map_or_else(|| self.own(), |(_, target)| *target)
    }
}

impl Gate {
    /// Forgets what it learned of its former target; what is in flight there still counts for its width.
    fn move_to_other_target(&mut self) {
        self.state = GateState::Open;
        self.reason = None;
        self.streak = 0;
        self.exports = Exports::default();
    }
}

impl Upload {
    /// Returns the remote upload of which no file was made.
    pub(crate) fn unfinished_remote(&self) -> Option<RemoteUploadId> {
        let is_unfinished =
            matches!(self.state.stage, Stage::Sending { .. } | Stage::Completing { .. });
        self.state.stage.remote().filter(|_| is_unfinished).map(|remote| remote.id.clone())
    }
}

impl Engine {
    /// Takes the targets that were ever known.
    pub(super) fn take_targets(&mut self, stored: &Stored) {
        let known = stored.targets.iter().map(|(id, address)| (address.clone(), *id));
        self.known_targets = known.collect();
        for (destination, targets) in &stored.in_force {
            if let Some(gate) = self.gates.get_mut(destination) {
                gate.targets.current.clone_from(targets);
            }
        }
    }

    /// Finds the targets of every destination.
    pub(super) fn assign_targets(&mut self, turn: &mut Turn) {
        let names: Vec<_> = self.gates.keys().cloned().collect();
        names.iter().for_each(|name| self.assign_target(name, turn));
        for what in std::mem::take(&mut self.cleanups_elsewhere) {
            self.queue_cleanup(what, turn.now);
        }
    }

    fn assign_target(&mut self, name: &DestinationName, turn: &mut Turn) {
        let Some(settings) = self.gates.get(name).map(|gate| gate.settings.clone()) else { return };
        let own = self.id_of(settings.address, turn);
        let same = settings.same_as.iter().filter_map(|at| self.known_targets.get(at).copied());
        let mut current = vec![own];
        current.extend(same.filter(|same| *same != own));
        let next_act = self.flights.next();
        let Some(gate) = self.gates.get_mut(name) else { return };
        if gate.targets.current == current {
            return;
        }
        let is_new = gate.targets.current.is_empty();
        let is_other = !is_new && !current.contains(&gate.targets.own());
        gate.targets.current.clone_from(&current);
        gate.targets.history.push((next_act, own));
        turn.record(Record::TargetsInForce { destination: name.clone(), targets: current });
        if is_other {
            gate.move_to_other_target();
            for (remote, cleanup) in std::mem::take(&mut gate.cleanups) {
                let target = cleanup.target;
                let what = OpenCleanup { destination: name.clone(), target, remote };
                self.cleanups_elsewhere.insert(what);
            }
            self.forget_drops_of(name, turn);
        }
    }

    fn id_of(&mut self, address: TargetAddress, turn: &mut Turn) -> TargetId {
        if let Some(id) = self.known_targets.get(&address) {
            return *id;
        }
        let last = self.known_targets.values().map(|id| id.0).max().unwrap_or(0);
        let id = TargetId(last + 1);
        turn.record(Record::Target { id, address: address.clone() });
        self.known_targets.insert(address, id);
        id
    }

    /// Tells whether an act was made at a target that its destination no longer has.
    pub(super) fn is_at_former(&self, act: ActId, flight: &Flight) -> bool {
        let gate = flight.destination.as_ref().and_then(|name| self.gates.get(name));
        gate.is_some_and(|gate| !gate.targets.has(gate.targets.at(act)))
    }

    /// Returns the target that an act was made at.
    pub(super) fn target_of(&self, act: ActId, destination: &DestinationName) -> TargetId {
        self.gates.get(destination).map_or(TargetId(0), |gate| gate.targets.at(act))
    }

    /// Has an open upload begin anew where its destination has another target than it goes to. One that
    /// is verified and wants nothing but its receipt gets that.
    pub(super) fn retarget(&mut self, id: UploadId, turn: &mut Turn) {
        let Some(upload) = self.uploads.get(&id) else { return };
        let admission = &upload.admission;
        let Some(gate) = self.gates.get(&admission.destination) else { return };
        let is_verified = matches!(upload.state.stage, Stage::Verified { .. });
        if gate.targets.has(admission.target_id)
            || upload.state.stage.is_end()
            || (is_verified && !upload.wants_export(Some(gate)))
        {
            return;
        }
        let is_ending = upload.life.is_superseded || self.given_up.contains(&id);
        if is_ending && !is_verified {
            let answer = upload.superseded(turn.now);
            return self.settle_answer(id, answer, turn);
        }
        let (limits, wish) = (&gate.settings.traits.limits, gate.wish(upload.size()));
        let planned = plan::part_size(limits, wish, upload.size());
        let fact = Fact::Retargeted {
            target: gate.targets.own(),
            part_size: planned.unwrap_or(admission.part_size),
        };
        let cleanup = upload.unfinished_remote().map(|remote| OpenCleanup {
            destination: admission.destination.clone(),
            target: admission.target_id,
            remote,
        });
        if let Some(what) = cleanup {
            self.clean_up(what, turn);
        }
        self.record(id, fact, turn);
        if let Err(reason) = planned {
            let detail = reason.sentence().to_owned();
            self.record(id, Fact::Parked { reason, detail, at: turn.now.wall }, turn);
        }
    }

    /// Has a remote upload removed where it was begun.
    pub(super) fn clean_up(&mut self, what: OpenCleanup, turn: &mut Turn) {
        self.queue_cleanup(what.clone(), turn.now);
        turn.record(Record::CleanupQueued { what, at: turn.now.wall });
    }

    /// Notes a remote upload that is to be removed, now or when its target is there again.
    pub(super) fn queue_cleanup(&mut self, what: OpenCleanup, now: Now) {
        match self.gates.get_mut(&what.destination).filter(|gate| gate.targets.has(what.target)) {
            Some(gate) => gate.clean_up(what.remote, what.target, now.monotonic),
            None => {
                self.cleanups_elsewhere.insert(what);
            }
        }
    }
}

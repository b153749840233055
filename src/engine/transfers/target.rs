//! The target of a destination, and the consequences for its uploads when it changes
//! ([`crate::engine::targets`]).

use super::{TransferTurn, Transfers};
use crate::engine::event::ActId;
use crate::model::{Fact, OpenCleanup, Record, Stage, TargetId, UploadId};

#[derive(Debug, Default)]
pub(super) struct Targets {
    /// Its own, then those that are declared to be the same.
    current: Vec<TargetId>,
    /// The targets it had, each from an act on.
    history: Vec<(ActId, TargetId)>,
}

impl Targets {
    pub(super) fn own(&self) -> TargetId {
        self.current.first().copied().unwrap_or_default()
    }

    /// Returns whether a target is its own, or declared to be the same.
    pub(super) fn has(&self, target: TargetId) -> bool {
        self.current.contains(&target)
    }

    pub(super) fn all(&self) -> &[TargetId] {
        &self.current
    }

    /// Returns the one id that represents all of them, whatever the destination's name.
    pub(super) fn canonical(&self) -> TargetId {
        self.current.iter().min().copied().unwrap_or_default()
    }

    pub(super) fn at(&self, act: ActId) -> TargetId {
        let before = self.history.iter().rev().find(|(since, _)| *since <= act);
        before.map_or_else(|| self.own(), |(_, target)| *target)
    }

    pub(super) fn load(&mut self, targets: Vec<TargetId>) {
        self.current = targets;
    }
}

impl Transfers {
    pub(in crate::engine) fn load_targets(&mut self, targets: Vec<TargetId>) {
        if let Some(gate) = &mut self.gate {
            gate.targets_mut().load(targets);
        }
    }

    pub(in crate::engine) fn target(&self) -> Option<TargetId> {
        self.gate.as_ref().map(|gate| gate.targets().own())
    }

    pub(in crate::engine) fn assign_target(&mut self, turn: &mut TransferTurn<'_>) {
        let Some(gate) = &mut self.gate else { return };
        let settings = gate.settings();
        let own = turn.shared.targets.id_of(&settings.address, turn.turn);
        let same = settings.same_as.iter().filter_map(|at| turn.shared.targets.known(at));
        let mut current = vec![own];
        current.extend(same.filter(|same| *same != own));
        let targets = gate.targets_mut();
        if targets.current == current {
            return;
        }
        let is_new = targets.current.is_empty();
        let is_other = !is_new && !current.contains(&targets.own());
        targets.current.clone_from(&current);
        targets.history.push((turn.shared.flights.next(), own));
        turn.record(Record::TargetsInForce { destination: self.name.clone(), targets: current });
        if is_other {
            gate.move_to_other_target();
            turn.shared.targets.keep_cleanups(gate.take_cleanups());
            self.exports.forget();
            self.ends.forget(&self.name, turn);
        }
    }

    /// Removes the destination's configuration. Returns the clean-ups of its target.
    pub(in crate::engine) fn unconfigure(&mut self) -> Vec<OpenCleanup> {
        self.queue = super::Queue::default();
        self.exports.forget();
        self.gate.take().map(|mut gate| gate.take_cleanups()).unwrap_or_default()
    }

    /// Returns whether an act was made at a target that the destination no longer has.
    pub(super) fn is_at_former(&self, act: ActId) -> bool {
        let targets = self.gate.as_ref().map(|gate| gate.targets());
        targets.is_some_and(|targets| !targets.has(targets.at(act)))
    }

    /// Begins an open upload again if its destination has another target. A verified one that lacks
    /// only its receipt gets that.
    pub(in crate::engine) fn retarget(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let (Some(upload), Some(gate)) = (self.uploads.get(&id), &self.gate) else { return };
        let admission = upload.admission();
        let is_verified = matches!(upload.stage(), Stage::Verified { .. });
        if gate.targets().has(admission.target_id)
            || upload.stage().is_end()
            || (is_verified && !upload.wants_export(gate.exports()))
        {
            return;
        }
        let is_ending = upload.is_ending() || turn.around.orders.gives_up(id);
        if is_ending && !is_verified {
            let answer = upload.end_now(turn.now());
            return self.settle_answer(id, answer, turn);
        }
        let wish = gate.wish(upload.size());
        let planned = gate.plan(wish, upload.size(), &admission.target);
        let fact = Fact::Retargeted {
            target: gate.targets().own(),
            part_size: planned.unwrap_or(admission.part_size),
        };
        let cleanup = upload.unfinished_remote().map(|remote| OpenCleanup {
            destination: self.name.clone(),
            target: admission.target_id,
            remote,
            after: None,
        });
        if let Some(what) = cleanup {
            self.clean_up(what, turn);
        }
        self.record(id, fact, turn);
        if let Err(reason) = planned {
            let (detail, at) = (reason.sentence().to_owned(), turn.now().wall);
            self.record(id, Fact::Parked { reason, detail, at }, turn);
        }
    }

    /// Removes a remote upload at the target where it was begun.
    pub(super) fn clean_up(&mut self, what: OpenCleanup, turn: &mut TransferTurn<'_>) {
        self.queue_cleanup(what.clone(), turn);
        let at = turn.now().wall;
        turn.record(Record::CleanupQueued { what, at });
    }

    /// Queues a remote upload for removal, at once or when its target is configured again.
    pub(in crate::engine) fn queue_cleanup(
        &mut self,
        what: OpenCleanup,
        turn: &mut TransferTurn<'_>,
    ) {
        match self.gate.as_mut().filter(|gate| gate.targets().has(what.target)) {
            Some(gate) => gate.cleanups_mut().queue(what, turn.now().monotonic),
            // The upload that replaced it begins at another target.
            None => turn.shared.targets.keep_cleanups(vec![OpenCleanup { after: None, ..what }]),
        }
    }
}

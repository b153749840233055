//! Applies a fact to an upload, and schedules it accordingly.
//!
//! This is the only way in which an upload in memory changes: first the law, then the record for
//! the store, then its position: ready, waiting, parked, exported, finishing, or gone.

use super::circuit::{self, Gate};
use super::upload::{Decision, Upload};
use super::{TransferTurn, Transfers};
use crate::engine::dispatch::{Dispatch, ToIntake};
use crate::engine::intake::UploadEnd;
use crate::model::{EndReason, Fact, Hold, OpenCleanup, ParkReason, Record, Stage, UploadId};

impl Transfers {
    /// Applies one fact to memory and adds it to the turn's records.
    ///
    /// A fact that the law forbids is a defect of ours: the upload parks with reason `bug`, all others continue.
    pub(in crate::engine) fn record(
        &mut self,
        id: UploadId,
        fact: Fact,
        turn: &mut TransferTurn<'_>,
    ) {
        self.leave_place(id, &fact, turn);
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let fact = match upload.apply(&fact) {
            Ok(()) => fact,
            Err(illegal) => {
                debug_assert!(false, "upload {id}: {illegal}");
                let parked = Fact::Parked {
                    reason: ParkReason::Bug,
                    detail: illegal.to_string(),
                    at: turn.now().wall,
                };
                if upload.apply(&parked).is_err() {
                    return;
                }
                parked
            }
        };
        let disk = turn.shared.permits.disk();
        if matches!(fact, Fact::Begun { .. }) {
            disk.begun(id);
        }
        if let Fact::PartAccepted { part, .. } = fact {
            disk.accepted(upload.length_of(part));
        }
        if matches!(fact, Fact::Retouched { .. }) {
            self.tell_intake(id, ToIntake::Retouched, turn);
        }
        if let Some(gate) = self.gate.as_mut().filter(|_| fact.is_end_of_begin()) {
            gate.cleanups_mut().release(id);
        }
        turn.turn.fact(id, fact.clone());
        self.take_place(id, &fact, turn);
        self.place(id, turn);
    }

    /// Records the consequences of an answer, and schedules the upload.
    pub(in crate::engine) fn settle_answer(
        &mut self,
        id: UploadId,
        mut answer: Decision,
        turn: &mut TransferTurn<'_>,
    ) {
        self.learn(id, &answer, turn);
        let after = answer.begins_anew().then_some(id);
        for remote in answer.take_cleanups() {
            let Some(upload) = self.uploads.get(&id) else { break };
            let (destination, target) = (self.name.clone(), upload.admission().target_id);
            self.clean_up(OpenCleanup { destination, target, remote, after }, turn);
        }
        for fact in answer.into_facts() {
            self.record(id, fact, turn);
        }
        self.place(id, turn);
        self.park_if_out(id, turn);
        self.end_if_moved(id, turn);
    }

    /// Records what an answer shows about a target, the first time.
    fn learn(&mut self, id: UploadId, answer: &Decision, turn: &mut TransferTurn<'_>) {
        let Some(upload) = self.uploads.get(&id) else { return };
        let target = upload.admission().target_id;
        for (what, detail) in answer.learned() {
            if turn.shared.targets.learn(target, what) {
                let (destination, at) = (self.name.clone(), turn.now().wall);
                turn.record(Record::DestinationLearned { destination, target, what, detail, at });
            }
        }
    }

    /// Schedules an upload after a change: ready, waiting on a timer, or gone.
    pub(in crate::engine) fn place(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let now = turn.now();
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let is_paused = turn.around.orders.hold(upload.admission());
        let wants_digest = turn.wanted_digest(upload.admission()).is_some();
        if let Some(old) = upload.take_timer() {
            self.timers.remove(&(old, id));
        }
        let _was_elsewhere = match upload.state().hold {
            Hold::Parked { .. } => self.parked.insert(id),
            Hold::None | Hold::Waiting { .. } => self.parked.remove(&id),
        };
        let is_free = upload.state().hold == Hold::None && !is_paused;
        let exports = upload.wants_export(self.gate.as_ref().is_some_and(Gate::exports));
        self.exports.set_pending(id, exports && is_free);
        let is_finishing = is_free && !exports && upload.is_finishing(wants_digest);
        let _was_finishing = match is_finishing {
            true => self.finishing.insert(id),
            false => self.finishing.remove(&id),
        };
        if upload.stage().is_end() {
            self.queue.remove(upload);
            self.forget(id, turn);
            return;
        }
        let is_held = matches!(upload.state().hold, Hold::Waiting { .. });
        let _was_backing_off = match upload.stage().remote().is_some() && is_held {
            true => self.backing_off.insert(id),
            false => self.backing_off.remove(&id),
        };
        match upload.state().hold {
            Hold::None => {
                upload.end_hold();
                let is_waiting = upload.awaited().is_some();
                if exports || is_paused || is_finishing || is_waiting {
                    self.queue.remove(upload);
                } else {
                    self.queue.ready(upload);
                }
            }
            Hold::Parked { .. } => {
                upload.end_hold();
                self.queue.remove(upload);
                return;
            }
            Hold::Waiting { until } => {
                let clamped = || circuit::clamp(until, turn.retry(), now);
                upload.hold_until(clamped);
                self.queue.remove(upload);
            }
        }
        if let Some(at) = upload.next_deadline(now.monotonic) {
            upload.set_timer(at);
            self.timers.insert((at, id));
        }
    }

    fn forget(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let Some(upload) = self.uploads.remove(&id) else { return };
        self.parked.remove(&id);
        self.backing_off.remove(&id);
        if !upload.admission().file.is_sentinel {
            self.ends.leave(upload.admission(), turn);
        }
        let end = match upload.stage() {
            Stage::Ended(EndReason::SourceChanged) => UploadEnd::Superseded,
            Stage::Receipted { .. } => UploadEnd::Receipted,
            Stage::Queued
            | Stage::Beginning { .. }
            | Stage::Sending { .. }
            | Stage::Completing { .. }
            | Stage::Completed { .. }
            | Stage::Verified { .. }
            | Stage::Ended(_) => UploadEnd::Abandoned,
        };
        turn.say(Dispatch::UploadEnded(upload.file(), end));
    }

    /// Ends an upload whose source is another version, and queues the removal of what it began.
    pub(in crate::engine) fn end_changed(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let now = turn.now();
        if let Some(answer) = self.uploads.get_mut(&id).map(|upload| upload.end_changed(now)) {
            self.settle_answer(id, answer, turn);
        }
    }

    /// Ends an upload whose missing file is under another path, or whose place another upload waits for: that one is
    /// sent, and a file that comes under its path again is a new upload.
    pub(in crate::engine) fn end_if_moved(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let Some(upload) = self.uploads.get(&id).filter(|upload| upload.misses_source()) else {
            return;
        };
        if turn.shared.loading.is_some() {
            return turn.say(Dispatch::SourceMissing(id));
        }
        let ends = |other: &Upload| {
            other.awaited() == Some(id) || other.is_of_same_file(upload.admission())
        };
        if self.uploads().any(ends) {
            self.end_changed(id, turn);
        }
    }

    /// A file was admitted: uploads that wait for it under another path end.
    pub(in crate::engine) fn end_moved(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let Some(admitted) = self.uploads.get(&id).map(|upload| upload.admission()) else { return };
        let waits = |other: &UploadId| {
            let other = self.uploads.get(other);
            other.is_some_and(|other| other.misses_source() && other.is_of_same_file(admitted))
        };
        let moved: Vec<_> = self.parked.iter().copied().filter(waits).collect();
        moved.into_iter().for_each(|id| self.end_changed(id, turn));
    }

    /// Parks an upload again that an answer has changed although its drop directory or destination is removed.
    fn park_if_out(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let is_out = |upload: &Upload| {
            upload.state().hold == Hold::None
                && (self.gate.is_none() || turn.intake(&upload.admission().file.drop).is_none())
        };
        if self.upload(id).is_some_and(is_out) {
            self.park_or_release(id, turn);
        }
    }

    /// Parks an upload whose drop directory or destination is removed; releases it when they are back.
    pub(in crate::engine) fn park_or_release(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let Some(upload) = self.uploads.get(&id) else { return };
        let drop = &upload.admission().file.drop;
        if turn.shared.loading.as_ref().is_some_and(|loading| loading.has_new(drop)) {
            return;
        }
        let is_configured = self.gate.is_some() && turn.intake(drop).is_some();
        let is_parked_for_it =
            upload.state().hold == Hold::Parked { reason: ParkReason::NotConfigured };
        let fact = match (is_configured, is_parked_for_it) {
            (false, false) => Some(Fact::Parked {
                reason: ParkReason::NotConfigured,
                detail: ParkReason::NotConfigured.sentence().into(),
                at: turn.now().wall,
            }),
            (true, true) => Some(Fact::Released),
            (false, true) | (true, false) => None,
        };
        match fact {
            Some(fact) => self.record(id, fact, turn),
            None => self.place(id, turn),
        }
    }
}

//! Parts: which uploads have one to send, and sending it. [`crate::engine::permits`] limits the
//! parts in flight over all destinations.

use std::time::Duration;

use super::upload::Upload;
use super::{PartFlight, TransferAct, TransferTurn, Transfers};
use crate::engine::event::Act;
use crate::engine::flights::Flight;
use crate::engine::permits::Contender;
use crate::model::{ETagMode, Fact, Learned, Stage, UploadId};

/// A file up to this size is sent in a moment on any usable line.
const SHORT_BYTES: u64 = 64 * 1024;
/// How long receipts wait for each other while small files are being sent.
const RECEIPT_DELAY: Duration = Duration::from_secs(5);

impl Transfers {
    /// Writes receipts. They take no place from uploads that have something to send, and wait for
    /// each other while more small files are to be sent: many become durable at once.
    pub(in crate::engine) fn write_receipts(&mut self, turn: &mut TransferTurn<'_>) {
        let now = turn.now().monotonic;
        if self.finishing.is_empty() {
            self.finish_by = None;
            return;
        }
        let due = *self.finish_by.get_or_insert(now.after(RECEIPT_DELAY));
        let is_sending = turn.shared.permits.part_count() > 0;
        if is_sending && self.queue.has_small_ready() && due > now {
            return;
        }
        let room = turn.shared.permits.receipt_room();
        let due: Vec<_> = self.finishing.iter().copied().take(room).collect();
        for id in due {
            self.step_upload(id, turn);
            if self.upload(id).is_some_and(Upload::is_busy) {
                self.finishing.remove(&id);
            }
        }
        if turn.shared.permits.receipt_room() > 0 {
            // The rest cannot be finished at present.
            let is_left = !self.finishing.is_empty();
            self.finish_by = is_left.then(|| now.after(RECEIPT_DELAY));
        }
    }

    fn has_room(&self, turn: &TransferTurn<'_>) -> bool {
        let width = self.width(turn.around.settings);
        self.gate.as_ref().is_some_and(|gate| gate.admits_parts() && gate.width().flying() < width)
    }

    /// Returns whether the drop directory of an upload may have one more part in flight.
    fn has_place(&self, id: UploadId, turn: &TransferTurn<'_>) -> bool {
        let Some(drop) = self.upload(id).map(|upload| &upload.admission().file.drop) else {
            return false;
        };
        let places_max = turn.intake(drop).map(|intake| intake.settings().places_max);
        places_max.is_some_and(|max| turn.shared.permits.has_place(drop, max))
    }

    pub(in crate::engine) fn contenders(&mut self, turn: &mut TransferTurn<'_>) -> Vec<Contender> {
        if !self.has_room(turn) {
            return Vec::new();
        }
        let mut contenders = Vec::new();
        for id in self.queue.open() {
            if self.has_place(id, turn) && self.may_send_more(id, turn) {
                contenders.extend(self.contender(id, turn));
            }
        }
        contenders
    }

    fn contender(&self, id: UploadId, turn: &TransferTurn<'_>) -> Option<Contender> {
        let upload = self.uploads.get(&id)?;
        let intake = turn.intake(&upload.admission().file.drop)?;
        Some(Contender {
            upload: id,
            destination: self.name.clone(),
            drop: upload.admission().file.drop.clone(),
            priority: intake.settings().priority,
            rank: upload.admission().rank,
            flying_count: u32::try_from(upload.in_flight_count()).unwrap_or(u32::MAX),
            left_count: upload.left_count(),
        })
    }

    /// Returns whether an upload has a part to send. Only one where parts must be sent in turn, and
    /// until the first answer shows what the ETags prove.
    pub(super) fn may_send_more(&mut self, id: UploadId, turn: &TransferTurn<'_>) -> bool {
        if self.upload(id).is_none_or(|upload| turn.waits_for_directory(upload)) {
            return false;
        }
        if self.goes_whole(id) {
            return true;
        }
        let Some(upload) = self.uploads.get_mut(&id) else { return false };
        let target = upload.admission().target_id;
        let knows = [Learned::ETagsAreMd5s, Learned::ETagsAreNoDigests]
            .into_iter()
            .any(|what| turn.shared.targets.has_learned(target, what));
        let is_first = upload.state().etag_mode == ETagMode::Unknown && !knows;
        let in_turn = upload.stage().remote().is_some_and(|remote| remote.sequential);
        if (is_first || in_turn) && upload.in_flight_count() > 0 {
            return false;
        }
        upload.next_part(turn.now().monotonic).is_some()
    }

    /// Returns whether all of an upload is to be sent in one request that is not in flight yet.
    fn goes_whole(&self, id: UploadId) -> bool {
        let upload = self.uploads.get(&id).zip(self.gate.as_ref());
        upload.is_some_and(|(upload, gate)| upload.goes_whole(gate.settings()))
    }

    /// Sends the next part of an upload; returns whether it has another one that may be sent.
    pub(in crate::engine) fn send(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) -> bool {
        self.has_room(turn)
            && self.has_place(id, turn)
            && self.send_part(id, turn)
            && self.may_send_more(id, turn)
    }

    fn send_part(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) -> bool {
        let Some(upload) = self.uploads.get(&id) else { return false };
        // A crash costs at most twice what may be in flight.
        let width = self.width(turn.around.settings);
        let room = u64::from(width) * upload.admission().part_size.get();
        if !turn.shared.permits.may_be_ahead(room) {
            return false;
        }
        if self.goes_whole(id) {
            return self.send_whole(id, turn);
        }
        let Stage::Sending { remote } = upload.stage().clone() else { return false };
        let begun = if remote.part_count == 1 { self.begin(upload, turn) } else { None };
        let (Some(upload), Some(gate)) = (self.uploads.get_mut(&id), &mut self.gate) else {
            return false;
        };
        let Some(part) = upload.take_next_part(turn.now().monotonic) else { return false };
        let drop = upload.admission().file.drop.clone();
        turn.shared.permits.take_part(&self.name, &drop);
        let flown = gate.width_mut().take_off(turn.now().monotonic);
        let remote_id = remote.id.clone();
        let what =
            TransferAct::Part(PartFlight { upload: id, part, remote: remote_id, drop, flown });
        let act = Act::Put(upload.put_part(part, remote, begun));
        let act_id = turn.shared.flights.register(Flight::Transfers(self.name.clone(), what));
        gate.let_through(act_id);
        match turn.shared.permits.disk().has_begun(id) {
            true => turn.turn.free_act(act_id, act),
            false => turn.turn.act(act_id, act),
        }
        true
    }

    /// Sends all of an upload in one request. The admission serves as the intent: what was sent is
    /// recognised by the token that follows from it.
    fn send_whole(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) -> bool {
        let Some(upload) = self.uploads.get(&id) else { return false };
        if upload.size().0 > SHORT_BYTES {
            // Nothing depends on it, but people see that it is being sent.
            let at = turn.now().wall;
            self.record(id, Fact::BeginIntended { part_size: None, at }, turn);
        }
        let Some(upload) = self.uploads.get(&id) else { return false };
        let Some(begun) = self.begin(upload, turn) else { return false };
        let Some(gate) = &mut self.gate else { return false };
        let is_new = begun.replaces.is_none();
        let act = Act::Put(upload.put_whole(begun));
        let drop = upload.admission().file.drop.clone();
        turn.shared.permits.take_part(&self.name, &drop);
        let flown = gate.width_mut().take_off(turn.now().monotonic);
        let what = TransferAct::Whole { upload: id, drop, flown };
        let act_id = turn.shared.flights.register(Flight::Transfers(self.name.clone(), what));
        gate.let_through(act_id);
        // An object that a row calls completed is overwritten only after that row has changed.
        match turn.shared.permits.disk().has(id) && is_new {
            true => turn.turn.free_act(act_id, act),
            false => turn.turn.act(act_id, act),
        }
        if let Some(upload) = self.uploads.get_mut(&id) {
            upload.start_whole(act_id);
        }
        true
    }
}

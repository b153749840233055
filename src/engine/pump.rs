//! After every event: everything that may run is started, nothing else.
//!
//! The order is fixed, so that the same state always leads to the same acts: waits that are over,
//! steps of drop directories, then each destination in turn (probe, clean-up, one step of every open upload,
//! exports),
//! then parts over all destinations until permits or memory are used up.

use std::time::Duration;

use super::event::Act;
use super::gate::GateState;
use super::intake::Intake;
use super::schedule::Contender;
use super::settings::PartsInFlight;
use super::turn::Turn;
use super::upload::{Doubt, Upload, Wants};
use super::{Engine, Flight, FlightKind};
use crate::model::{
    Call, Describes, DestinationName, DestinationState, ETagMode, Fact, Hold, Learned, Monotonic,
    NamePolicy, Stage, UploadId, WholeDigest,
};

/// A file of no more is sent in a moment, on lines that are any good.
const SHORT_BYTES: u64 = 64 * 1024;
/// How long receipts wait for each other while small files wait for their turn.
const RECEIPT_DELAY: Duration = Duration::from_secs(5);
/// Receipts that are written at once.
pub(super) const RECEIPTS_MAX: usize = 256;

impl Engine {
    pub(super) fn pump(&mut self, turn: &mut Turn) {
        if self.draining {
            return;
        }
        self.wake(turn);
        self.start_reading(turn);
        self.with_intakes(turn, Intake::check_stalled);
        // What files mean, only all that is stored tells: one that is not known yet would be sent again.
        if self.is_loaded() {
            self.with_intakes(turn, Intake::advance);
        }
        let destinations: Vec<_> = self.gates.keys().cloned().collect();
        for name in &destinations {
            if self.pauses.stops(name) {
                continue;
            }
            self.turn_gate(name, turn);
            if self.gates.get(name).is_some_and(super::gate::Gate::is_open) {
                self.clean(name, turn);
                self.step_uploads(name, turn);
                self.export(name, turn);
                self.finish_drops(name, turn);
            }
        }
        self.write_receipts(turn);
        self.send_parts(&destinations, turn);
    }

    /// Has receipts written. They take no place from uploads that have something to send, and wait for
    /// each other a while as long as more small files are to be sent: many are made durable at once.
    fn write_receipts(&mut self, turn: &mut Turn) {
        let now = turn.now.monotonic;
        if self.finishing.is_empty() {
            self.finish_by = None;
            return;
        }
        let due = *self.finish_by.get_or_insert(now.after(RECEIPT_DELAY));
        if self.load.total() > 0 && self.schedule.has_small_ready() && due > now {
            return;
        }
        let room = RECEIPTS_MAX.saturating_sub(self.receipts_flying);
        let due: Vec<_> = self.finishing.iter().copied().take(room).collect();
        for id in due {
            self.step_upload(id, turn);
            if self.uploads.get(&id).is_some_and(|upload| upload.life.control.is_some()) {
                self.finishing.remove(&id);
            }
        }
        if self.receipts_flying < RECEIPTS_MAX {
            // Whatever is left cannot be finished as things are.
            let is_left = !self.finishing.is_empty();
            self.finish_by = is_left.then(|| now.after(RECEIPT_DELAY));
        }
    }

    /// Releases uploads whose wait is over.
    fn wake(&mut self, turn: &mut Turn) {
        while self.timers.first().is_some_and(|(at, _)| *at <= turn.now.monotonic) {
            let Some((_, id)) = self.timers.pop_first() else { break };
            let is_over = |upload: &Upload| {
                matches!(upload.state.hold, Hold::Waiting { .. })
                    && upload.life.hold_until.is_some_and(|until| until <= turn.now.monotonic)
            };
            match self.uploads.get(&id).is_some_and(|upload| is_over(upload)) {
                true => self.record(id, Fact::Released, turn),
                false => self.place(id, turn),
            }
        }
    }

    /// Opens a throttled destination whose pause is over; probes another.
    fn turn_gate(&mut self, name: &DestinationName, turn: &mut Turn) {
        let Some(gate) = self.gates.get_mut(name) else { return };
        let GateState::Closed { state, until } = gate.state else { return };
        if until > turn.now.monotonic {
            return;
        }
        if state == DestinationState::Throttled {
            gate.open();
            self.record_destination(name, turn);
            return;
        }
        gate.state = GateState::Probing { state };
        let kind = FlightKind::Probe;
        let flight = Flight { kind, upload: None, destination: Some(name.clone()) };
        self.start(flight, Act::call(name, Call::CheckAccess), turn);
    }

    fn clean(&mut self, name: &DestinationName, turn: &mut Turn) {
        let Some(gate) = self.gates.get(name) else { return };
        let Some(room) = gate.cleanup_room() else { return };
        let due =
            gate.cleanups.iter().filter(|(_, c)| c.act.is_none() && c.due <= turn.now.monotonic);
        let due: Vec<_> = due.map(|(remote, _)| remote.clone()).take(room).collect();
        for remote in due {
            let flight = Flight {
                kind: FlightKind::Abort(remote.clone()),
                upload: None,
                destination: Some(name.clone()),
            };
            let act = Act::call(name, Call::Abort(remote.clone()));
            let id = self.start(flight, act, turn);
            let gate = self.gates.get_mut(name);
            if let Some(cleanup) = gate.and_then(|gate| gate.cleanups.get_mut(&remote)) {
                cleanup.act = Some(id);
            }
        }
    }

    fn step_uploads(&mut self, name: &DestinationName, turn: &mut Turn) {
        self.schedule.open_more(name, self.width(name));
        for id in self.schedule.open(name) {
            self.step_upload(id, turn);
        }
    }

    fn step_upload(&mut self, id: UploadId, turn: &mut Turn) {
        let Some(upload) = self.uploads.get(&id) else { return };
        let Some(gate) = self.gates.get(&upload.admission.destination) else { return };
        if self.waits_for_drop(upload) {
            return;
        }
        let settings = &gate.settings;
        // Our digest is left with a file where it will prove that a file met again is the same.
        let proves = settings.when_name_taken == NamePolicy::SkipIfSame;
        let has_words = proves || !settings.metadata.is_empty() || !settings.tags.is_empty();
        let wants = Wants {
            describes: has_words && settings.traits.describes == Describes::AfterCompletion,
            digest: self.wanted_digest(upload),
            replaces: settings.traits.has_places && upload.replaces(settings),
        };
        if let Some(step) = upload.step(&settings.traits, wants, turn.now.monotonic) {
            self.take_step(id, step, turn);
        }
    }

    /// The digest of a whole file that its receipt shall hold.
    pub(super) fn wanted_digest(&self, upload: &Upload) -> Option<WholeDigest> {
        let intake = self.intakes.get(&upload.admission.drop);
        let intake = intake.filter(|_| !upload.admission.is_sentinel);
        intake.and_then(|intake| intake.settings().whole_digest)
    }

    fn send_parts(&mut self, destinations: &[DestinationName], turn: &mut Turn) {
        let mut contenders = self.contenders(destinations, turn.now.monotonic);
        while self.has_permit()
            && let Some(index) = self.load.choose(&contenders)
        {
            let id = contenders[index].upload;
            let sent = self.has_room(&contenders[index].destination) && self.send_part(id, turn);
            if sent && self.may_send_more(id, turn.now.monotonic) {
                contenders[index].flying_count += 1;
            } else {
                contenders.swap_remove(index);
            }
        }
    }

    fn has_permit(&self) -> bool {
        let flying = self.load.total();
        let by_memory = self.settings.memory.0 / self.settings.memory_per_part.0.max(1);
        self.may_send
            && u64::from(flying) < by_memory.max(1)
            && match self.settings.parts_in_flight {
                PartsInFlight::Auto => true,
                PartsInFlight::Fixed(count) => flying < count,
            }
    }

    /// How many parts may be on their way to a destination.
    pub(super) fn width(&self, name: &DestinationName) -> u32 {
        match (self.settings.parts_in_flight, self.gates.get(name)) {
            (PartsInFlight::Auto, Some(gate)) => gate.width.get(),
            (auto_or_fixed, _) => auto_or_fixed.most(),
        }
    }

    fn has_room(&self, name: &DestinationName) -> bool {
        self.gates.get(name).is_some_and(|gate| gate.width.flying() < self.width(name))
    }

    fn contenders(&mut self, destinations: &[DestinationName], now: Monotonic) -> Vec<Contender> {
        let mut contenders = Vec::new();
        for name in destinations {
            let is_open = self.gates.get(name).is_some_and(super::gate::Gate::is_open);
            if !is_open || !self.has_room(name) {
                continue;
            }
            for id in self.schedule.open(name) {
                if self.may_send_more(id, now) {
                    contenders.extend(self.contender(id));
                }
            }
        }
        contenders
    }

    fn contender(&self, id: UploadId) -> Option<Contender> {
        let upload = self.uploads.get(&id)?;
        let intake = self.intakes.get(&upload.admission.drop)?;
        Some(Contender {
            upload: id,
            destination: upload.admission.destination.clone(),
            drop: upload.admission.drop.clone(),
            priority: intake.settings().priority,
            rank: upload.admission.rank,
            flying_count: u32::try_from(upload.life.flying.len()).unwrap_or(u32::MAX),
        })
    }

    /// Whether an upload has a part to send. One part alone where parts must go in turn, and until
    /// the first answer tells what the ETags are worth.
    fn may_send_more(&mut self, id: UploadId, now: Monotonic) -> bool {
        if self.uploads.get(&id).is_none_or(|upload| self.waits_for_drop(upload)) {
            return false;
        }
        if self.goes_whole(id) {
            return true;
        }
        let Some(upload) = self.uploads.get_mut(&id) else { return false };
        let md5_seen = self.learned.contains(&(upload.admission.target_id, Learned::ETagsAreMd5s));
        let is_first = upload.state.etag_mode == ETagMode::Unknown && !md5_seen;
        let in_turn = upload.state.stage.remote().is_some_and(|remote| remote.sequential);
        if (is_first || in_turn) && !upload.life.flying.is_empty() {
            return false;
        }
        upload.next_part(now).is_some()
    }

    /// Whether all of an upload is to be sent in one request, and is not on its way yet.
    fn goes_whole(&self, id: UploadId) -> bool {
        let Some(upload) = self.uploads.get(&id) else { return false };
        let gate = self.gates.get(&upload.admission.destination);
        upload.life.control.is_none()
            && gate.is_some_and(|gate| {
                let replaces = gate.settings.traits.has_places && upload.replaces(&gate.settings);
                upload.goes_whole(&gate.settings.traits) && !upload.asks_for_owner(replaces)
            })
    }

    /// Sends all of an upload. Its admission is all the intent there is: by the token that follows from
    /// it, what was sent is known again.
    fn send_whole(&mut self, id: UploadId, turn: &mut Turn) -> bool {
        let Some(upload) = self.uploads.get(&id) else { return false };
        let (looks, takes_time) = (upload.life.doubt == Doubt::Ask, upload.size().0 > SHORT_BYTES);
        if takes_time {
            // Nothing depends on it; but people see that it is being sent.
            self.record(id, Fact::BeginIntended { part_size: None, at: turn.now.wall }, turn);
        }
        let Some(upload) = self.uploads.get(&id) else { return false };
        let Some(begin) = self.begin(upload) else { return false };
        let is_new = begin.replaces.is_none();
        let act = Act::Put(upload.put_whole(begin, looks));
        let (destination, drop) =
            (upload.admission.destination.clone(), upload.admission.drop.clone());
        let Some(gate) = self.gates.get_mut(&destination) else { return false };
        let flown = gate.width.take_off(turn.now.monotonic);
        self.load.add(&destination, &drop);
        let kind = FlightKind::Whole(drop, flown);
        let flight = Flight { kind, upload: Some(id), destination: Some(destination) };
        let act_id = self.flights.register(flight);
        // An object that a row calls completed is written over once that row says otherwise.
        match self.disk.has(id) && is_new {
            true => turn.free_act(act_id, act),
            false => turn.act(act_id, act),
        }
        self.be_sure(id);
        if let Some(upload) = self.uploads.get_mut(&id) {
            upload.life.control = Some(act_id);
            upload.life.is_whole_flying = true;
        }
        true
    }

    /// Whether a crash would cost no more than what may be on its way twice, were this sent as well.
    fn may_be_ahead(&mut self, id: UploadId) -> bool {
        let Some(upload) = self.uploads.get(&id) else { return false };
        let admission = &upload.admission;
        let room = u64::from(self.width(&admission.destination)) * admission.part_size.get();
        let is_within = self.disk.unproved_bytes() <= room;
        self.waits_for_disk |= !is_within;
        is_within
    }

    fn send_part(&mut self, id: UploadId, turn: &mut Turn) -> bool {
        if !self.may_be_ahead(id) {
            return false;
        }
        if self.goes_whole(id) {
            return self.send_whole(id, turn);
        }
        let Some(upload) = self.uploads.get(&id) else { return false };
        let Stage::Sending { remote } = upload.state.stage.clone() else { return false };
        let begun = match remote.part_count {
            1 => self.begin(upload),
            _ => None,
        };
        let Some(upload) = self.uploads.get_mut(&id) else { return false };
        let Some(part) = upload.take_next_part(turn.now.monotonic) else { return false };
        let admission = &upload.admission;
        let Some(gate) = self.gates.get_mut(&admission.destination) else { return false };
        let flown = gate.width.take_off(turn.now.monotonic);
        self.load.add(&admission.destination, &admission.drop);
        let flight = Flight {
            kind: FlightKind::Part(part, remote.id.clone(), admission.drop.clone(), flown),
            upload: Some(id),
            destination: Some(admission.destination.clone()),
        };
        let act = Act::Put(upload.put_part(part, remote, begun));
        let act_id = self.flights.register(flight);
        match self.disk.has_begun(id) {
            true => turn.free_act(act_id, act),
            false => turn.act(act_id, act),
        }
        true
    }

    /// Marks an upload as sure of itself: its intent is being recorded in this very call.
    pub(super) fn be_sure(&mut self, id: UploadId) {
        if let Some(upload) = self.uploads.get_mut(&id) {
            upload.life.doubt = Doubt::None;
        }
    }
}

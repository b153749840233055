//! What the engine does with units: reads, closes and completes them, one step at a time.

use super::{Tracked, UnitStep};
use crate::engine::event::{Act, Outcome, Setback};
use crate::engine::ticket::Ticket;
use crate::engine::turn::Turn;
use crate::engine::upload::Upload;
use crate::engine::{Engine, Flight, FlightKind, plan, retry};
use crate::model::{
    Admission, DropName, FailureKind, Fingerprint, Monotonic, Record, SourcePath, Target,
    UnitReading, UnitState, UploadId,
};

/// Units that are read, get their receipt or are disposed of at once. Hundreds may close in one scan,
/// and each of these acts takes a thread, a view of the rows and memory of its own.
const ACTS_MAX: usize = 4;

/// One unit of one drop directory.
pub(crate) type UnitKey = (DropName, SourcePath);

impl Engine {
    /// Has a unit looked at in this turn.
    pub(in crate::engine) fn stir(&mut self, drop: &DropName, unit: &SourcePath, at: Monotonic) {
        self.stirred.insert((at, (drop.clone(), unit.clone())));
    }

    /// Notes that an upload belongs to a unit. One that was completed is so no more.
    pub(in crate::engine) fn join_unit(&mut self, admission: &Ticket, turn: &Turn) {
        if admission.unit == admission.path || admission.is_sentinel {
            return;
        }
        let Some(files) = self.drops.get_mut(&admission.drop) else { return };
        let unit = files.units.open(&admission.drop, admission.unit.clone(), turn.now);
        unit.live.insert(admission.id);
        if unit.row.state == UnitState::Completed {
            unit.reopen(turn.now);
            files.want_scan(turn.now.monotonic);
        }
        self.stir(&admission.drop, &admission.unit, turn.now.monotonic);
    }

    /// Notes that an upload has ended.
    pub(in crate::engine) fn leave_unit(&mut self, admission: &Ticket, now: Monotonic) {
        let Some(files) = self.drops.get_mut(&admission.drop) else { return };
        let Some(unit) = files.units.get_mut(&admission.unit) else { return };
        if unit.live.remove(&admission.id) && unit.live.is_empty() {
            self.stir(&admission.drop, &admission.unit, now);
        }
    }

    /// A scan has ended that saw all it looked at.
    pub(in crate::engine) fn units_scanned(&mut self, drop: &DropName, turn: &Turn) {
        let Some(files) = self.drops.get_mut(drop) else { return };
        files.units.end_scan(files.scan_started, turn.now.monotonic);
        let moving = files.units.iter().filter(|unit| unit.row.state != UnitState::Gone);
        let names: Vec<_> = moving.map(|unit| unit.row.name.clone()).collect();
        names.iter().for_each(|unit| self.stir(drop, unit, turn.now.monotonic));
    }

    /// Takes one step for each unit with which something has happened.
    pub(in crate::engine) fn tend_units(&mut self, turn: &mut Turn) {
        while self.stirred.first().is_some_and(|(at, _)| *at <= turn.now.monotonic) {
            let Some((_, key)) = self.stirred.pop_first() else { break };
            self.tend_unit(&key, turn);
        }
        while self.has_room_for_unit()
            && let Some(key) = self.crowded.pop_first()
        {
            self.tend_unit(&key, turn);
        }
    }

    /// Tells whether one more act of a unit may begin.
    pub(in crate::engine) fn has_room_for_unit(&self) -> bool {
        let is_units = |flight: &&Flight| {
            matches!(
                flight.kind,
                FlightKind::ReadUnit(_) | FlightKind::UnitReceipt(_) | FlightKind::Dispose(_)
            )
        };
        self.flights.values().filter(is_units).count() < ACTS_MAX
    }

    fn tend_unit(&mut self, key: &UnitKey, turn: &mut Turn) {
        let (drop, name) = key;
        let has_room = self.has_room_for_unit();
        let Some(files) = self.drops.get_mut(drop) else { return };
        let closing = files.settings.closing;
        let is_settling = files.settle.has_any_below(name) || files.is_comparing_below(name);
        let Some(unit) = files.units.get_mut(name) else { return };
        if unit.row.state == UnitState::Open {
            unit.row.reason = unit.wait_reason(&files.settings, turn.now);
        }
        match unit.step(closing, is_settling, turn.now) {
            UnitStep::Nothing => {}
            UnitStep::Read | UnitStep::WriteReceipt if !has_room => {
                self.crowded.insert(key.clone());
            }
            UnitStep::Read => {
                let act = Act::ReadUnit { drop: drop.clone(), unit: name.clone() };
                self.start_for_unit(key, FlightKind::ReadUnit(key.clone()), act, turn);
            }
            UnitStep::Scan(at) => files.want_scan(at),
            UnitStep::Close => {
                unit.close(turn.now);
                files.want_scan(turn.now.monotonic);
            }
            UnitStep::SendMarkers => {
                unit.markers_go = true;
                let markers = unit.markers.clone();
                markers.into_keys().for_each(|path| files.settle.hint(path, turn.now.monotonic));
            }
            UnitStep::WriteReceipt => {
                let generation = unit.row.generation + 1;
                let (drop, unit) = (drop.clone(), name.clone());
                let act = Act::WriteUnitReceipt { drop, unit, generation };
                self.start_for_unit(key, FlightKind::UnitReceipt(key.clone()), act, turn);
            }
        }
        self.tell_unit(key, turn);
    }

    fn start_for_unit(&mut self, key: &UnitKey, kind: FlightKind, act: Act, turn: &mut Turn) {
        let id = self.start(Flight { kind, upload: None, destination: None }, act, turn);
        if let Some(unit) = self.unit_mut(key) {
            unit.act = Some(id);
        }
    }

    fn unit_mut(&mut self, key: &UnitKey) -> Option<&mut Tracked> {
        self.drops.get_mut(&key.0)?.units.get_mut(&key.1)
    }

    /// Writes a unit's row, when it differs from what was last written.
    fn tell_unit(&mut self, key: &UnitKey, turn: &mut Turn) {
        let Some(unit) = self.unit_mut(key) else { return };
        if unit.told.as_ref() != Some(&unit.row) {
            unit.told = Some(unit.row.clone());
            turn.record(Record::Unit(Box::new(unit.row.clone())));
        }
    }

    pub(in crate::engine) fn on_unit_read(
        &mut self,
        key: &UnitKey,
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let now = turn.now.monotonic;
        let is_gone =
            matches!(&reply, Err(setback) if setback.failure.kind == FailureKind::SourceGone);
        let Ok(Outcome::UnitRead(reading)) = reply else {
            if let Some(unit) = self.unit_mut(key).filter(|unit| is_gone && unit.is_closed()) {
                // Its markers are gone with it: there is no order to keep.
                unit.read_of = Some(0);
            }
            return self.put_off(key, now);
        };
        let Some(unit) = self.unit_mut(key) else { return };
        unit.act = None;
        unit.failure_count = 0;
        unit.read_of = unit.last.map(|last| last.sum);
        let had = (unit.reading.words.clone(), unit.reading.samples.clone());
        let was_named = unit.reading.is_identified;
        unit.take_reading(*reading);
        let is_named = !was_named && unit.reading.is_identified;
        let has = (unit.reading.words.clone(), unit.reading.samples.clone());
        if had != has {
            let (words, samples) = (has.0.into_iter().collect(), has.1);
            let (drop, unit) = key.clone();
            turn.record(Record::UnitWords { drop, unit, words, samples });
        }
        let foreign = match unit.is_closed() {
            true => unit.foreign_markers(),
            false => Vec::new(),
        };
        if let Some(files) = self.drops.get_mut(&key.0) {
            if is_named {
                // What waited for the words is found by a scan.
                files.want_scan(now);
            }
            foreign.into_iter().for_each(|path| files.settle.hint(path, now));
        }
        self.stir(&key.0, &key.1, now);
    }

    pub(in crate::engine) fn on_unit_receipt(
        &mut self,
        key: &UnitKey,
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let now = turn.now;
        let Ok(Outcome::UnitReceiptWritten { path, fingerprint, sha256 }) = reply else {
            return self.put_off(key, now.monotonic);
        };
        let Some(unit) = self.unit_mut(key) else { return };
        unit.act = None;
        unit.failure_count = 0;
        if !unit.live.is_empty() {
            return;
        }
        unit.row.state = UnitState::Completed;
        unit.row.reason = None;
        unit.row.generation += 1;
        unit.row.completed_at = Some(now.wall);
        unit.row.receipt_sha256 = Some(sha256);
        self.tell_unit(key, turn);
        self.note_completed(key, turn);
        self.send_sentinels(key, (path, fingerprint), turn);
        self.queue_disposal(key, false, turn);
    }

    /// What a unit wanted did not go: it is tried again after a while.
    fn put_off(&mut self, key: &UnitKey, now: Monotonic) {
        let retry = self.settings.retry;
        let Some(unit) = self.unit_mut(key) else { return };
        unit.act = None;
        unit.failure_count += 1;
        let delay = retry::delay(retry, unit.failure_count, u64::from(unit.failure_count));
        unit.not_before = now.after(delay);
        let again = unit.not_before;
        self.stir(&key.0, &key.1, again);
    }

    /// Sends the unit's receipt to each destination, where the operator wants a sentinel there.
    fn send_sentinels(&mut self, key: &UnitKey, file: (SourcePath, Fingerprint), turn: &mut Turn) {
        let Some(files) = self.drops.get(&key.0) else { return };
        let Some(name) = files.settings.sentinel.clone() else { return };
        for destination in files.settings.destinations.clone() {
            let admission = self.sentinel(key, &file, (&destination, &name), turn);
            let Some(admission) = admission else { continue };
            turn.record(Record::Admit(Box::new(admission.clone())));
            let id = admission.id;
            self.uploads.insert(id, Box::new(Upload::admitted(admission)));
            self.claim(id, turn);
            self.place(id, turn);
        }
    }

    fn sentinel(
        &mut self,
        key: &UnitKey,
        file: &(SourcePath, Fingerprint),
        to: (&crate::model::DestinationName, &str),
        turn: &Turn,
    ) -> Option<Admission> {
        let (files, gate) = (self.drops.get(&key.0)?, self.gates.get(to.0)?);
        let below = [key.1.as_bytes(), b"/", to.1.as_bytes()].concat();
        let words = plan::Words {
            drop: &files.settings,
            path: &SourcePath::from_bytes(&below),
            unit: &key.1,
            reading: files.units.reading(&key.1),
            at: turn.now.wall,
        };
        let (path, fingerprint) = file.clone();
        let limits = &gate.settings.traits.limits;
        let wish = gate.wish(fingerprint.size);
        let planned = plan::part_size(limits, wish, fingerprint.size);
        let folders = plan::folders(&gate.settings.folder, words);
        let id = UploadId(self.next_upload);
        self.next_upload += 1;
        Some(Admission {
            id,
            drop: key.0.clone(),
            unit: path.clone(),
            path,
            fingerprint,
            provenance: None,
            is_sentinel: true,
            destination: to.0.clone(),
            target_id: gate.targets.own(),
            target: Target { folders, name: to.1.to_owned() },
            part_size: planned.unwrap_or(wish),
            rank: 0,
            at: turn.now.wall,
            parked: planned.err(),
            root: None,
        })
    }
}

impl Tracked {
    fn is_closed(&self) -> bool {
        self.row.state == UnitState::Closed
    }

    fn close(&mut self, now: crate::model::Now) {
        self.row.state = UnitState::Closed;
        self.row.reason = None;
        self.row.closed_at = Some(now.wall);
        self.row.closed_file_count = self.row.file_count;
        self.is_seen_closed = false;
        self.markers_go = false;
        self.not_before = now.monotonic;
    }

    /// Files came after all of it was there: a scan counts them, then it is completed again.
    fn reopen(&mut self, now: crate::model::Now) {
        self.row.state = UnitState::Closed;
        self.row.reason = Some("files came after it was closed".into());
        self.is_seen_closed = false;
        self.not_before = now.monotonic;
    }

    /// Takes what was read; words that were frozen into names stay as they were.
    fn take_reading(&mut self, mut reading: UnitReading) {
        if self.reading.is_identified {
            let words = std::mem::take(&mut self.reading.words);
            reading.words.extend(words);
            reading.is_identified = true;
        }
        self.row.outcome.clone_from(&reading.outcome);
        self.reading = reading;
    }
}

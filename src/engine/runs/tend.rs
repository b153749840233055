//! What the engine does with runs: reads, closes and completes them, one step at a time.

use super::{RunStep, Tracked};
use crate::engine::event::{Act, Outcome, Setback};
use crate::engine::intake::IntakeAct;
use crate::engine::ticket::Ticket;
use crate::engine::turn::Turn;
use crate::engine::upload::Upload;
use crate::engine::{Engine, Flight, FlightKind, plan, retry};
use crate::model::{
    Admission, DirectoryName, FailureKind, Fingerprint, Monotonic, Record, RunReading, RunState,
    SourcePath, Target, UploadId,
};

/// Units that are read, get their receipt or are disposed of at once. Hundreds may close in one scan,
/// and each of these acts takes a thread, a view of the rows and memory of its own.
const ACTS_MAX: usize = 4;

/// One run of one drop directory.
pub(crate) type RunKey = (DirectoryName, SourcePath);

impl Engine {
    /// Has a run looked at in this turn.
    pub(in crate::engine) fn stir(
        &mut self,
        drop: &DirectoryName,
        run: &SourcePath,
        at: Monotonic,
    ) {
        self.stirred.insert((at, (drop.clone(), run.clone())));
    }

    /// Notes that an upload belongs to a run. One that was completed is so no more.
    pub(in crate::engine) fn join_run(&mut self, admission: &Ticket, turn: &Turn) {
        if admission.run == admission.path || admission.is_sentinel {
            return;
        }
        let Some(files) = self.drops.get_mut(&admission.drop) else { return };
        let run = files.runs.open(&admission.drop, admission.run.clone(), turn.now);
        run.live.insert(admission.id);
        if run.row.state == RunState::Completed {
            run.reopen(turn.now);
            files.want_scan(turn.now.monotonic);
        }
        self.stir(&admission.drop, &admission.run, turn.now.monotonic);
    }

    /// Notes that an upload has ended.
    pub(in crate::engine) fn leave_run(&mut self, admission: &Ticket, now: Monotonic) {
        let Some(files) = self.drops.get_mut(&admission.drop) else { return };
        let Some(run) = files.runs.get_mut(&admission.run) else { return };
        if run.live.remove(&admission.id) && run.live.is_empty() {
            self.stir(&admission.drop, &admission.run, now);
        }
    }

    /// A scan has ended that saw all it looked at.
    pub(in crate::engine) fn runs_scanned(&mut self, drop: &DirectoryName, turn: &Turn) {
        let Some(files) = self.drops.get_mut(drop) else { return };
        files.runs.end_scan(files.scan_started, turn.now.monotonic);
        let moving = files.runs.iter().filter(|run| run.row.state != RunState::Gone);
        let names: Vec<_> = moving.map(|run| run.row.name.clone()).collect();
        names.iter().for_each(|run| self.stir(drop, run, turn.now.monotonic));
    }

    /// Takes one step for each run with which something has happened.
    pub(in crate::engine) fn tend_runs(&mut self, turn: &mut Turn) {
        while self.stirred.first().is_some_and(|(at, _)| *at <= turn.now.monotonic) {
            let Some((_, key)) = self.stirred.pop_first() else { break };
            self.tend_run(&key, turn);
        }
        while self.has_room_for_run()
            && let Some(key) = self.crowded.pop_first()
        {
            self.tend_run(&key, turn);
        }
    }

    /// Tells whether one more act of a run may begin.
    pub(in crate::engine) fn has_room_for_run(&self) -> bool {
        self.flights.intake_acts().filter(|(_, act)| act.is_of_run()).count() < ACTS_MAX
    }

    fn tend_run(&mut self, key: &RunKey, turn: &mut Turn) {
        let (drop, name) = key;
        let has_room = self.has_room_for_run();
        let Some(files) = self.drops.get_mut(drop) else { return };
        let closing = files.settings.closing;
        let is_settling = files.settle.has_any_below(name) || files.is_comparing_below(name);
        let Some(run) = files.runs.get_mut(name) else { return };
        if run.row.state == RunState::Open {
            run.row.reason = run.wait_reason(&files.settings, turn.now);
        }
        match run.step(closing, is_settling, turn.now) {
            RunStep::Nothing => {}
            RunStep::Read | RunStep::WriteReceipt if !has_room => {
                self.crowded.insert(key.clone());
            }
            RunStep::Read => {
                let act = Act::ReadRun { drop: drop.clone(), run: name.clone() };
                self.start_for_run(key, IntakeAct::ReadRun(name.clone()), act, turn);
            }
            RunStep::Scan(at) => files.want_scan(at),
            RunStep::Close => {
                run.close(turn.now);
                files.want_scan(turn.now.monotonic);
            }
            RunStep::SendMarkers => {
                run.markers_go = true;
                let markers = run.markers.clone();
                markers.into_keys().for_each(|path| files.settle.hint(path, turn.now.monotonic));
            }
            RunStep::WriteReceipt => {
                let generation = run.row.generation + 1;
                let (drop, run) = (drop.clone(), name.clone());
                let act = Act::WriteRunReceipt { drop, run, generation };
                self.start_for_run(key, IntakeAct::WriteRunReceipt(name.clone()), act, turn);
            }
        }
        self.tell_run(key, turn);
    }

    fn start_for_run(&mut self, key: &RunKey, what: IntakeAct, act: Act, turn: &mut Turn) {
        let kind = FlightKind::Intake(key.0.clone(), what);
        let id = self.start(Flight { kind, upload: None, destination: None }, act, turn);
        if let Some(run) = self.run_mut(key) {
            run.act = Some(id);
        }
    }

    fn run_mut(&mut self, key: &RunKey) -> Option<&mut Tracked> {
        self.drops.get_mut(&key.0)?.runs.get_mut(&key.1)
    }

    /// Writes a run's row, when it differs from what was last written.
    fn tell_run(&mut self, key: &RunKey, turn: &mut Turn) {
        let Some(run) = self.run_mut(key) else { return };
        if run.told.as_ref() != Some(&run.row) {
            run.told = Some(run.row.clone());
            turn.record(Record::Unit(Box::new(run.row.clone())));
        }
    }

    pub(in crate::engine) fn on_run_read(
        &mut self,
        key: &RunKey,
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let now = turn.now.monotonic;
        let is_gone =
            matches!(&reply, Err(setback) if setback.failure.kind == FailureKind::SourceGone);
        let Ok(Outcome::RunRead(reading)) = reply else {
            if let Some(run) = self.run_mut(key).filter(|run| is_gone && run.is_closed()) {
                // Its markers are gone with it: there is no order to keep.
                run.read_of = Some(0);
            }
            return self.put_off(key, now);
        };
        let Some(run) = self.run_mut(key) else { return };
        run.act = None;
        run.failure_count = 0;
        run.read_of = run.last.map(|last| last.sum);
        let had = (run.reading.words.clone(), run.reading.samples.clone());
        let was_named = run.reading.is_identified;
        run.take_reading(*reading);
        let is_named = !was_named && run.reading.is_identified;
        let has = (run.reading.words.clone(), run.reading.samples.clone());
        if had != has {
            let (words, samples) = (has.0.into_iter().collect(), has.1);
            let (drop, run) = key.clone();
            turn.record(Record::RunWords { drop, run, words, samples });
        }
        let foreign = match run.is_closed() {
            true => run.foreign_markers(),
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

    pub(in crate::engine) fn on_run_receipt(
        &mut self,
        key: &RunKey,
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let now = turn.now;
        let Ok(Outcome::RunReceiptWritten { path, fingerprint, sha256 }) = reply else {
            return self.put_off(key, now.monotonic);
        };
        let Some(run) = self.run_mut(key) else { return };
        run.act = None;
        run.failure_count = 0;
        if !run.live.is_empty() {
            return;
        }
        run.row.state = RunState::Completed;
        run.row.reason = None;
        run.row.generation += 1;
        run.row.completed_at = Some(now.wall);
        run.row.receipt_sha256 = Some(sha256);
        self.tell_run(key, turn);
        self.note_completed(key, turn);
        self.send_sentinels(key, (path, fingerprint), turn);
        self.queue_disposal(key, false, turn);
    }

    /// What a run wanted did not go: it is tried again after a while.
    fn put_off(&mut self, key: &RunKey, now: Monotonic) {
        let retry = self.settings.retry;
        let Some(run) = self.run_mut(key) else { return };
        run.act = None;
        run.failure_count += 1;
        let delay = retry::delay(retry, run.failure_count, u64::from(run.failure_count));
        run.not_before = now.after(delay);
        let again = run.not_before;
        self.stir(&key.0, &key.1, again);
    }

    /// Sends the run's receipt to each destination, where the operator wants a sentinel there.
    fn send_sentinels(&mut self, key: &RunKey, file: (SourcePath, Fingerprint), turn: &mut Turn) {
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
        key: &RunKey,
        file: &(SourcePath, Fingerprint),
        to: (&crate::model::DestinationName, &str),
        turn: &Turn,
    ) -> Option<Admission> {
        let (files, gate) = (self.drops.get(&key.0)?, self.gates.get(to.0)?);
        let below = [key.1.as_bytes(), b"/", to.1.as_bytes()].concat();
        let words = plan::Words {
            drop: &files.settings,
            path: &SourcePath::from_bytes(&below),
            run: &key.1,
            reading: files.runs.reading(&key.1),
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
            run: path.clone(),
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
        self.row.state == RunState::Closed
    }

    fn close(&mut self, now: crate::model::Now) {
        self.row.state = RunState::Closed;
        self.row.reason = None;
        self.row.closed_at = Some(now.wall);
        self.row.closed_file_count = self.row.file_count;
        self.is_seen_closed = false;
        self.markers_go = false;
        self.not_before = now.monotonic;
    }

    /// Files came after all of it was there: a scan counts them, then it is completed again.
    fn reopen(&mut self, now: crate::model::Now) {
        self.row.state = RunState::Closed;
        self.row.reason = Some("files came after it was closed".into());
        self.is_seen_closed = false;
        self.not_before = now.monotonic;
    }

    /// Takes what was read; words that were frozen into names stay as they were.
    fn take_reading(&mut self, mut reading: RunReading) {
        if self.reading.is_identified {
            let words = std::mem::take(&mut self.reading.words);
            reading.words.extend(words);
            reading.is_identified = true;
        }
        self.row.outcome.clone_from(&reading.outcome);
        self.reading = reading;
    }
}

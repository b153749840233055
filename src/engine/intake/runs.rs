//! The runs of one drop directory: when one is closed, when all of it is there.
//!
//! What a run is, the observations say ([`Place`]); how far it is, is a row. A run is
//! - *open* while files may still come. Those that are rewritten all run long, and all of them where
//!   the operator wants so, are not sent yet;
//! - *closed* when its markers are there (where its profile knows any) and two scans, at least the
//!   closing time apart, found the same paths, sizes and times. Then a scan brings what was held;
//! - *completed* when nothing of it is unsettled and every upload of it has ended. The markers of the
//!   rule that closes this run are sent when all other files have arrived, so that a reader of the far
//!   side can rely on them. A marker of another instrument's rule is a file like any other that is held.
//!
//! A file that comes later begins a *wave*: the run is closed again, waits the closing time and for the wave's
//! own markers, which go last, and is completed once more. A run that a rule of its profile skips is *skipped*:
//! nothing of it is sent, unless it becomes another one or is closed by hand.
//!
//! Memory holds counts and one sum for each run, never its files. At a crash the row says how far it
//! was; the scans that believe it closed begin again.

use std::collections::{BTreeMap, BTreeSet};

use super::act::IntakeAct;
use super::run::{RunStep, SeenFile, TrackedRun};
use super::turn::IntakeTurn;
use crate::engine::dispatch::{Dispatch, ToTransfers, UploadFile};
use crate::engine::event::{Act, Outcome, Setback};
use crate::engine::settings::DirectorySettings;
use crate::engine::transfers::Sentinel;
use crate::model::{
    ClosedByHand, FailureKind, Monotonic, Now, Place, Record, RenamedRun, RunReading, RunRow,
    RunState, SourcePath, StoredRun, UnchangedFiles,
};

/// See the module's head.
#[derive(Debug, Default)]
pub(in crate::engine) struct Runs {
    tracked: BTreeMap<SourcePath, TrackedRun>,
    /// Runs with which something has happened, or will.
    wakes: BTreeSet<(Monotonic, SourcePath)>,
    /// Runs that wait for the acts of others to end.
    awaiting_slot: BTreeSet<SourcePath>,
}

/// What runs want of their drop directory.
#[derive(Debug, Default)]
pub(super) struct RunWants {
    /// A scan at this time.
    pub(super) scan_at: Option<Monotonic>,
    /// Looks at these files.
    pub(super) looks: Vec<SourcePath>,
}

impl Runs {
    pub(super) fn load(&mut self, stored: StoredRun, now: Monotonic) {
        self.tracked.insert(stored.row.name.clone(), TrackedRun::load(stored, now));
    }

    /// Returns what a run says of itself, as far as it was read.
    pub(in crate::engine) fn reading(&self, run: &SourcePath) -> Option<&RunReading> {
        self.tracked.get(run).map(TrackedRun::reading)
    }

    /// Returns the name of a run that is known, so that all its files share it.
    pub(in crate::engine) fn shared(&self, run: &SourcePath) -> SourcePath {
        self.tracked.get_key_value(run).map_or_else(|| run.clone(), |(name, _)| name.clone())
    }

    pub(in crate::engine) fn row(&self, run: &SourcePath) -> Option<&RunRow> {
        self.tracked.get(run).map(TrackedRun::row)
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &RunRow> {
        self.tracked.values().map(TrackedRun::row)
    }

    /// Returns whether a run is completed and nothing of it is under way; none when it is not known.
    pub(super) fn is_over(&self, run: &SourcePath) -> Option<bool> {
        self.tracked.get(run).map(TrackedRun::is_over)
    }

    /// Notes that an upload of a run was given up by an operator.
    pub(super) fn note_given_up(&mut self, upload: &UploadFile) {
        let run = self.tracked.get_mut(&upload.file.run).filter(|_| !upload.file.is_sentinel);
        if let Some(run) = run {
            run.note_given_up();
        }
    }

    /// Has a run looked at in this turn, or at a later time.
    pub(super) fn wake(&mut self, run: &SourcePath, at: Monotonic) {
        self.wakes.insert((at, run.clone()));
    }

    /// Returns when a run is to be looked at.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Notes that an upload belongs to a run.
    pub(super) fn join(&mut self, upload: &UploadFile, now: Now) {
        if upload.file.run == upload.file.path || upload.file.is_sentinel {
            return;
        }
        let opened = || {
            let row = RunRow::opened(upload.file.drop.clone(), upload.file.run.clone(), now.wall);
            TrackedRun::new(row, now.monotonic)
        };
        let run = self.tracked.entry(upload.file.run.clone()).or_insert_with(opened);
        run.join(upload.id, now.monotonic);
        self.wake(&upload.file.run, now.monotonic);
    }

    /// Notes that an upload has ended.
    pub(super) fn leave(&mut self, upload: &UploadFile, now: Monotonic) {
        let run = self.tracked.get_mut(&upload.file.run);
        if run.is_some_and(|run| run.leave(upload.id)) {
            self.wake(&upload.file.run, now);
        }
    }

    /// Notes that an upload of a run has its line.
    pub(super) fn note_line(&mut self, run: &SourcePath, now: Monotonic) {
        if self.tracked.get_mut(run).is_some_and(TrackedRun::note_line) {
            self.wake(run, now);
        }
    }

    /// Notes that a run was disposed of.
    pub(super) fn note_absence(&mut self, run: &SourcePath, now: Monotonic) {
        if let Some(tracked) = self.tracked.get_mut(run) {
            tracked.note_absence();
            self.wake(run, now);
        }
    }

    /// Returns whether a file that is not known may be sent, or waits for its run.
    pub(super) fn admits(
        &mut self,
        path: &SourcePath,
        place: Place,
        directory: &DirectorySettings,
        now: Monotonic,
    ) -> bool {
        if place.is_alone(path) {
            return true;
        }
        let name = &path.as_bytes()[..place.run_length as usize];
        let Some(run) = self.tracked.get_mut(name) else { return false };
        let may_go = run.admits(place.role, directory, now);
        if !may_go && run.is_closed() {
            self.wakes.insert((now, SourcePath::from_bytes(name)));
        }
        may_go
    }

    /// Returns whether the run of a file may be another one, under way, whose directory was renamed.
    pub(super) fn may_be_renamed(&self, path: &SourcePath, place: Place) -> bool {
        let is_going_on = |state| matches!(state, RunState::Open | RunState::Closed);
        let name = &path.as_bytes()[..place.run_length as usize];
        let run = self.tracked.get(name).filter(|_| !place.is_alone(path));
        let mut others = self.rows().filter(|row| row.name.as_bytes() != name);
        run.is_some_and(TrackedRun::may_be_renamed) && others.any(|row| is_going_on(row.state))
    }

    /// Notes that a file was seen, and counts it when that was in a scan. Returns whether its run was
    /// not known before.
    pub(super) fn observe(
        &mut self,
        directory: &DirectorySettings,
        file: SeenFile<'_>,
        now: Now,
    ) -> bool {
        if file.place.is_alone(file.path) {
            return false;
        }
        let run = &file.path.as_bytes()[..file.place.run_length as usize];
        self.observe_run(run, directory, now, |tracked| tracked.observe(file))
    }

    /// Counts files that a scan saw as they were sent. Returns whether their run was not known before.
    pub(super) fn observe_unchanged(
        &mut self,
        directory: &DirectorySettings,
        files: &UnchangedFiles,
        now: Now,
    ) -> bool {
        let note = |tracked: &mut TrackedRun| tracked.observe_unchanged(&files.tally);
        self.observe_run(files.run.as_bytes(), directory, now, note)
    }

    /// Notes something of a run, which is opened when it is not known. Returns whether it was not.
    fn observe_run(
        &mut self,
        run: &[u8],
        directory: &DirectorySettings,
        now: Now,
        note: impl FnOnce(&mut TrackedRun),
    ) -> bool {
        if let Some(tracked) = self.tracked.get_mut(run) {
            note(tracked);
            return false;
        }
        let run = SourcePath::from_bytes(run);
        let row = RunRow::opened(directory.name.clone(), run.clone(), now.wall);
        let mut tracked = TrackedRun::new(row, now.monotonic);
        note(&mut tracked);
        self.tracked.insert(run, tracked);
        true
    }

    /// Begins a scan and returns the runs that it leaves out, if any: those that have been completed,
    /// and the same, since then.
    pub(super) fn begin_scan(&mut self, rest_since: Option<Monotonic>) -> BTreeSet<SourcePath> {
        let tracked = self.tracked.iter_mut();
        let skipped = tracked.filter_map(|(name, run)| run.begin_scan(rest_since).then_some(name));
        skipped.cloned().collect()
    }

    /// Ends a scan that came to its end. It says nothing of runs of which a place was not seen.
    pub(super) fn end_scan(
        &mut self,
        unseen: &BTreeSet<SourcePath>,
        started: Monotonic,
        now: Monotonic,
    ) {
        for (name, run) in &mut self.tracked {
            let was_gone = run.row().state == RunState::Gone;
            let place = unseen.iter().find(|place| place.is_within(name) || name.is_within(place));
            run.end_scan(place, started, now);
            if !was_gone || run.row().state != RunState::Gone {
                self.wakes.insert((now, name.clone()));
            }
        }
    }

    /// Notes that the directories of runs have other names.
    pub(super) fn rename(&mut self, renamed: Vec<RenamedRun>, now: Monotonic) {
        for RenamedRun { run, name_now } in renamed {
            if let Some(tracked) = self.tracked.get_mut(&run) {
                tracked.note_name(name_now);
                self.wake(&run, now);
            }
        }
    }

    /// Returns a run that is to be looked at now.
    pub(super) fn next_due(&mut self, turn: &IntakeTurn<'_>) -> Option<SourcePath> {
        let is_due = self.next_deadline().is_some_and(|at| at <= turn.now().monotonic);
        if is_due {
            return self.wakes.pop_first().map(|(_, run)| run);
        }
        if turn.has_run_slot() { self.awaiting_slot.pop_first() } else { None }
    }

    /// Takes one step for a run; `settling` is a file of it that is seen and not quiet.
    pub(super) fn advance(
        &mut self,
        name: &SourcePath,
        directory: &DirectorySettings,
        settling: Option<&SourcePath>,
        turn: &mut IntakeTurn<'_>,
    ) -> RunWants {
        let mut wants = RunWants::default();
        let now = turn.now();
        let copy_of = self.original_of(name, directory);
        let Some(run) = self.tracked.get_mut(name) else { return wants };
        if run.note_copy_of(copy_of) {
            wants.scan_at = Some(now.monotonic);
        }
        run.explain(directory, settling, now);
        match run.step(directory.runs.closing, settling.is_some(), now) {
            RunStep::Nothing => {}
            RunStep::Read | RunStep::WriteReceipt if !turn.has_run_slot() => {
                self.awaiting_slot.insert(name.clone());
            }
            RunStep::Read => {
                let act = Act::ReadRun { drop: turn.directory(), run: name.clone() };
                run.attempt_begun(turn.start(IntakeAct::ReadRun(name.clone()), act));
            }
            RunStep::Scan(at) => wants.scan_at = Some(at),
            RunStep::Close => run.close(now),
            RunStep::SendMarkers => wants.looks = run.release_markers(),
            RunStep::WriteReceipt => {
                let generation = run.row().completion.generation + 1;
                let (drop, of) = (turn.directory(), name.clone());
                let has_sentinel = directory.runs.sentinel.is_some();
                let act = Act::WriteRunReceipt { drop, run: of, generation, has_sentinel };
                run.attempt_begun(turn.start(IntakeAct::WriteRunReceipt(name.clone()), act));
            }
        }
        if run.take_wanted_scan() {
            wants.scan_at = Some(now.monotonic);
        }
        write_row(run, turn);
        wants
    }

    /// Returns the run under way of which an open run is a copy: the same one of the instrument, opened before,
    /// whose name the other contains, or the other way round.
    fn original_of(&self, name: &SourcePath, directory: &DirectorySettings) -> Option<SourcePath> {
        let is_going_on =
            |run: &TrackedRun| matches!(run.row().state, RunState::Open | RunState::Closed);
        let has = |name: &SourcePath, part: &SourcePath| {
            let part = part.file_name();
            name.file_name().windows(part.len()).any(|found| found == part)
        };
        let run = self.tracked.get(name).filter(|_| directory.runs.closing.tells_runs_apart)?;
        let (id, opened_at) = (run.run_id()?, run.row().opened_at);
        let is_original = |(other, tracked): &(&SourcePath, &TrackedRun)| {
            is_going_on(tracked)
                && tracked.run_id() == Some(id)
                && tracked.copy_of().is_none()
                && (has(name, other) || has(other, name))
                && (tracked.row().opened_at, *other) < (opened_at, name)
        };
        let mut others = self.tracked.iter().filter(|_| run.row().state == RunState::Open);
        others.find(is_original).map(|(other, _)| other.clone())
    }

    /// Returns whether a path is of a run of which a copy is there.
    pub(super) fn has_copy(&self, path: &SourcePath) -> bool {
        let copied = self.tracked.values().filter_map(TrackedRun::copy_of);
        copied.into_iter().any(|run| path.is_within(run))
    }

    /// Closes a run by an order. What it held back is found by a scan.
    pub(super) fn close_by_hand(
        &mut self,
        name: &SourcePath,
        by: String,
        turn: &mut IntakeTurn<'_>,
    ) -> Result<ClosedByHand, &'static str> {
        let run = self.tracked.get_mut(name).ok_or("is no run of a directory")?;
        let closed = run.close_by_hand(by, turn.now())?;
        write_row(run, turn);
        self.wake(name, turn.now().monotonic);
        Ok(closed)
    }

    /// Receives what a run says of itself.
    pub(super) fn read(
        &mut self,
        name: &SourcePath,
        directory: &DirectorySettings,
        reply: Result<Outcome, Setback>,
        turn: &mut IntakeTurn<'_>,
    ) -> RunWants {
        let mut wants = RunWants::default();
        let now = turn.now().monotonic;
        let is_gone =
            matches!(&reply, Err(setback) if setback.failure.kind == FailureKind::SourceGone);
        let Some(run) = self.tracked.get_mut(name) else { return wants };
        let Ok(Outcome::RunRead(reading)) = reply else {
            if is_gone {
                run.note_gone();
            }
            self.put_off(name, turn);
            return wants;
        };
        let (was_named, was_wanted) = (run.reading().is_identified, run.is_wanted());
        if run.apply_reading(*reading) {
            let words = run.reading().words.clone().into_iter().collect();
            let samples = run.reading().samples.clone();
            let (drop, run) = (turn.directory(), name.clone());
            turn.record(Record::RunWords { drop, run, words, samples });
        }
        let is_held = directory.runs.closing.may_skip || directory.runs.closing.tells_runs_apart;
        let is_let_go = is_held && !was_wanted && run.is_wanted();
        if is_let_go || !was_named && run.reading().is_identified {
            // What waited for that is found by a scan.
            wants.scan_at = Some(now);
        }
        if run.is_closed() {
            wants.looks = run.foreign_markers();
        }
        self.wake(name, now);
        wants
    }

    /// Receives what came of writing a run's receipt. Returns whether the run is completed by it.
    pub(super) fn receipt_written(
        &mut self,
        name: &SourcePath,
        directory: &DirectorySettings,
        reply: Result<Outcome, Setback>,
        turn: &mut IntakeTurn<'_>,
    ) -> bool {
        let Ok(Outcome::RunReceiptWritten { written, sentinel }) = reply else {
            self.put_off(name, turn);
            return false;
        };
        let Some(run) = self.tracked.get_mut(name) else { return false };
        let is_completed = run.complete(written.line.clone(), turn.now());
        turn.record(Record::LedgerAppended(written));
        if is_completed {
            write_row(run, turn);
            turn.say(super::uploads::completed(run.row().clone(), directory, None));
            let group = self.completed_group(name, directory);
            group
                .into_iter()
                .for_each(|row| turn.say(super::uploads::completed(row, directory, None)));
            let Some((file, as_name)) = sentinel.zip(directory.runs.sentinel.clone()) else {
                return true;
            };
            let (drop, run) = (turn.directory(), name.clone());
            let sentinel = Sentinel { drop, run, file, name: as_name };
            for to in &directory.destinations {
                let admit = ToTransfers::AdmitSentinel(sentinel.clone());
                turn.say(Dispatch::Transfers(to.clone(), admit));
            }
        }
        is_completed
    }

    /// Returns what people call the run, of which the runs beside this one are parts, when all of these are
    /// completed: a row that is in no table, for their notice.
    fn completed_group(&self, name: &SourcePath, directory: &DirectorySettings) -> Option<RunRow> {
        let above = name.above().last().filter(|_| directory.runs.closing.has_groups)?;
        let parts = self.tracked.values().map(TrackedRun::row);
        let is_part = |row: &&RunRow| row.name.above().last() == Some(above);
        let is_there = |row: &&RunRow| !matches!(row.state, RunState::Gone | RunState::Skipped);
        let parts: Vec<_> = parts.filter(is_part).filter(is_there).collect();
        let is_whole = parts.iter().all(|row| row.state == RunState::Completed);
        let first =
            parts.iter().map(|row| row.opened_at).min().filter(|_| is_whole && parts.len() > 1)?;
        let group = RunRow::opened(directory.name.clone(), SourcePath::from_bytes(above), first);
        Some(parts.iter().fold(group, |mut group, row| {
            let (files, of_part) = (&mut group.files, &row.files);
            files.count += of_part.count;
            files.size.0 = files.size.0.saturating_add(of_part.size.0);
            files.given_up_count += of_part.given_up_count;
            group.completion.generation += row.completion.generation;
            group
        }))
    }

    /// What a run wanted has failed: it is tried again after a while.
    fn put_off(&mut self, name: &SourcePath, turn: &IntakeTurn<'_>) {
        let Some(run) = self.tracked.get_mut(name) else { return };
        let now = turn.now().monotonic;
        let again_at = run.attempt_failed(now, |failure_count| turn.retry_delay(failure_count));
        self.wake(name, again_at);
    }
}

/// Writes a run's row, when it differs from what was last written.
fn write_row(run: &mut TrackedRun, turn: &mut IntakeTurn<'_>) {
    if let Some(row) = run.row_to_write() {
        turn.record(Record::Run(Box::new(row)));
    }
}

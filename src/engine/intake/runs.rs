//! The runs of one drop directory: when a run is closed, and when it is complete.
//!
//! Observations say which run a file belongs to ([`Place`]); the state of a run is a row. A run is
//! - *open* while files may still come. Files that are rewritten throughout the run, and all files
//!   if the operator wants so, are not sent yet;
//! - *closed* when its markers are there (where its profile has any) and two scans, at least the
//!   closing time apart, found the same paths, sizes and times. Then a scan finds the held files;
//! - *completed* when all its files have settled and every upload of it has ended. The markers of the
//!   rule that closes it are sent when all other files have arrived, so that a reader at the destination
//!   can rely on them. A marker of another instrument's rule is held and sent like any other file.
//!
//! A later file begins a *wave*: the run is closed again, waits for the closing time and for the wave's
//! own markers, which are sent last, and is completed once more. A run that a rule of its profile skips
//! is *skipped*: nothing of it is sent, unless its files change or it is closed by hand.
//!
//! Memory holds counts and one sum for each run, never its files. After a crash the row gives the
//! state; the scans that show it closed begin again.

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

#[derive(Debug, Default)]
pub(in crate::engine) struct Runs {
    tracked: BTreeMap<SourcePath, TrackedRun>,
    /// Runs with a next step, by its time.
    wakes: BTreeSet<(Monotonic, SourcePath)>,
    /// Runs that wait for a free act.
    awaiting_slot: BTreeSet<SourcePath>,
}

/// What runs need from their drop directory.
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

    /// Returns what a run's own files say, as far as they were read.
    pub(in crate::engine) fn reading(&self, run: &SourcePath) -> Option<&RunReading> {
        self.tracked.get(run).map(TrackedRun::reading)
    }

    /// Returns a known run's name, so that all its files share it.
    pub(in crate::engine) fn shared(&self, run: &SourcePath) -> SourcePath {
        self.tracked.get_key_value(run).map_or_else(|| run.clone(), |(name, _)| name.clone())
    }

    pub(in crate::engine) fn row(&self, run: &SourcePath) -> Option<&RunRow> {
        self.tracked.get(run).map(TrackedRun::row)
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &RunRow> {
        self.tracked.values().map(TrackedRun::row)
    }

    /// Returns whether a run is completed and no upload of it is open; `None` when it is not known.
    pub(super) fn is_over(&self, run: &SourcePath) -> Option<bool> {
        self.tracked.get(run).map(TrackedRun::is_over)
    }

    /// Counts an upload that an operator abandoned.
    pub(super) fn note_given_up(&mut self, upload: &UploadFile) {
        let run = self.tracked.get_mut(&upload.file.run).filter(|_| !upload.file.is_sentinel);
        if let Some(run) = run {
            run.note_given_up();
        }
    }

    /// Schedules a run in this turn, or at a later time.
    pub(super) fn wake(&mut self, run: &SourcePath, at: Monotonic) {
        self.wakes.insert((at, run.clone()));
    }

    /// Returns when the next run is due.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// Adds an upload to its run.
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

    /// Removes an ended upload from its run.
    pub(super) fn leave(&mut self, upload: &UploadFile, now: Monotonic) {
        let run = self.tracked.get_mut(&upload.file.run);
        if run.is_some_and(|run| run.leave(upload.id)) {
            self.wake(&upload.file.run, now);
        }
    }

    /// An upload of a run has its ledger line.
    pub(super) fn note_line(&mut self, run: &SourcePath, now: Monotonic) {
        if self.tracked.get_mut(run).is_some_and(TrackedRun::note_line) {
            self.wake(run, now);
        }
    }

    /// A run was disposed of.
    pub(super) fn note_absence(&mut self, run: &SourcePath, now: Monotonic) {
        if let Some(tracked) = self.tracked.get_mut(run) {
            tracked.note_absence();
            self.wake(run, now);
        }
    }

    /// Returns whether an unknown file may be sent, or waits for its run.
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

    /// Returns whether the run of a file may be a renamed one that is in progress.
    pub(super) fn may_be_renamed(&self, path: &SourcePath, place: Place) -> bool {
        let is_going_on = |state| matches!(state, RunState::Open | RunState::Closed);
        let name = &path.as_bytes()[..place.run_length as usize];
        let run = self.tracked.get(name).filter(|_| !place.is_alone(path));
        let mut others = self.rows().filter(|row| row.name.as_bytes() != name);
        run.is_some_and(TrackedRun::may_be_renamed) && others.any(|row| is_going_on(row.state))
    }

    /// Records that a file was seen, and counts it when that was in a scan. Returns whether its run
    /// was not known before.
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

    /// Counts files that a scan found unchanged since they were sent. Returns whether their run is new.
    pub(super) fn observe_unchanged(
        &mut self,
        directory: &DirectorySettings,
        files: &UnchangedFiles,
        now: Now,
    ) -> bool {
        let note = |tracked: &mut TrackedRun| tracked.observe_unchanged(&files.tally);
        self.observe_run(files.run.as_bytes(), directory, now, note)
    }

    /// Applies an observation to a run, which is opened when it is not known. Returns whether it was not.
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

    /// Begins a scan and returns the runs that it leaves out: those that have been complete and
    /// unchanged since then.
    pub(super) fn begin_scan(&mut self, rest_since: Option<Monotonic>) -> BTreeSet<SourcePath> {
        let tracked = self.tracked.iter_mut();
        let skipped = tracked.filter_map(|(name, run)| run.begin_scan(rest_since).then_some(name));
        skipped.cloned().collect()
    }

    /// Ends a complete scan. It proves nothing about runs with an unseen directory.
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

    /// Applies new names of run directories.
    pub(super) fn rename(&mut self, renamed: Vec<RenamedRun>, now: Monotonic) {
        for RenamedRun { run, name_now } in renamed {
            if let Some(tracked) = self.tracked.get_mut(&run) {
                tracked.note_name(name_now);
                self.wake(&run, now);
            }
        }
    }

    /// Returns a run that is due.
    pub(super) fn next_due(&mut self, turn: &IntakeTurn<'_>) -> Option<SourcePath> {
        let is_due = self.next_deadline().is_some_and(|at| at <= turn.now().monotonic);
        if is_due {
            return self.wakes.pop_first().map(|(_, run)| run);
        }
        if turn.has_run_slot() { self.awaiting_slot.pop_first() } else { None }
    }

    /// Performs one step of a run; `settling` is a file of it that has not settled.
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

    /// Returns the run in progress that an open run is a copy of: one with the same run id, opened
    /// before, where one of the two names contains the other.
    fn original_of(&self, name: &SourcePath, directory: &DirectorySettings) -> Option<SourcePath> {
        let is_going_on =
            |run: &TrackedRun| matches!(run.row().state, RunState::Open | RunState::Closed);
        let run = self.tracked.get(name).filter(|_| directory.runs.closing.tells_runs_apart)?;
        let (id, opened_at) = (run.run_id()?, run.row().opened_at);
        let is_original = |(other, tracked): &(&SourcePath, &TrackedRun)| {
            is_going_on(tracked)
                && tracked.run_id() == Some(id)
                && tracked.copy_of().is_none()
                && are_copies(name, other)
                && (tracked.row().opened_at, *other) < (opened_at, name)
        };
        let mut others = self.tracked.iter().filter(|_| run.row().state == RunState::Open);
        others.find(is_original).map(|(other, _)| other.clone())
    }

    /// Returns the words of a run, with another `run_id` where a run that is there has the same one and is no
    /// copy of it: two directories never share a place for it.
    fn told_apart(
        &self,
        name: &SourcePath,
        mut words: BTreeMap<String, String>,
    ) -> BTreeMap<String, String> {
        let Some(id) = words.get("run_id").cloned() else { return words };
        let is_beside = |(other, run): &(&SourcePath, &TrackedRun)| {
            *other != name && run.is_there() && !are_copies(name, other)
        };
        let others = || self.tracked.iter().filter(is_beside).map(|(_, run)| run.reading());
        let is_taken =
            |id: &String| others().any(|reading| reading.words.get("run_id") == Some(id));
        let ids = std::iter::once(id.clone()).chain((2..).map(|number| format!("{id}~{number}")));
        let free = ids.take(self.tracked.len()).find(|id| !is_taken(id));
        words.extend(free.map(|id| ("run_id".to_owned(), id)));
        words
    }

    /// Returns whether a path belongs to a run that has a copy.
    pub(super) fn has_copy(&self, path: &SourcePath) -> bool {
        let copied = self.tracked.values().filter_map(TrackedRun::copy_of);
        copied.into_iter().any(|run| path.is_within(run))
    }

    /// Closes a run by an order. A scan finds the files that it held back.
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

    /// Receives what a run's own files say.
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
        let Ok(Outcome::RunRead(reading)) = reply else {
            if let Some(run) = self.tracked.get_mut(name).filter(|_| is_gone) {
                run.note_gone();
            }
            self.put_off(name, turn);
            return wants;
        };
        let words = match reading.is_identified {
            true => self.told_apart(name, reading.words.clone()),
            // A word of its path stands in until the run has written its id.
            false => reading.words.clone(),
        };
        let Some(run) = self.tracked.get_mut(name) else { return wants };
        let (was_named, was_wanted) = (run.reading().is_identified, run.is_wanted());
        if run.apply_reading(RunReading { words, ..*reading }) {
            let words = run.reading().words.clone().into_iter().collect();
            let samples = run.reading().samples.clone();
            let (drop, run) = (turn.directory(), name.clone());
            turn.record(Record::RunWords { drop, run, words, samples });
        }
        let is_held = directory.runs.closing.may_skip || directory.runs.closing.tells_runs_apart;
        let is_let_go = is_held && !was_wanted && run.is_wanted();
        if is_let_go || !was_named && run.reading().is_identified {
            // A scan finds the files that waited for that.
            wants.scan_at = Some(now);
        }
        if run.is_closed() {
            wants.looks = run.foreign_markers();
        }
        self.wake(name, now);
        wants
    }

    /// Receives the result of writing a run's receipt. Returns whether the run is completed by it.
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

    /// Returns the group that people call the run, of which this run and its neighbours are parts,
    /// when all of them are completed: a row in no table, for their notice.
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

    /// A step of a run failed: it is retried after a delay.
    fn put_off(&mut self, name: &SourcePath, turn: &IntakeTurn<'_>) {
        let Some(run) = self.tracked.get_mut(name) else { return };
        let now = turn.now().monotonic;
        let again_at = run.attempt_failed(now, |failure_count| turn.retry_delay(failure_count));
        self.wake(name, again_at);
    }
}

/// Returns whether runs with the same id count as copies of each other: one's name contains the other's.
fn are_copies(one: &SourcePath, other: &SourcePath) -> bool {
    let has = |name: &[u8], part: &[u8]| name.windows(part.len()).any(|found| found == part);
    let (one, other) = (one.file_name(), other.file_name());
    has(one, other) || has(other, one)
}

/// Writes a run's row, when it differs from what was last written.
fn write_row(run: &mut TrackedRun, turn: &mut IntakeTurn<'_>) {
    if let Some(row) = run.row_to_write() {
        turn.record(Record::Run(Box::new(row)));
    }
}

//! One run: its state, and its next step.

mod attempts;
mod markers;
mod reasons;
mod seen;

use std::collections::BTreeSet;

use self::attempts::Attempts;
use self::markers::{Markers, set_of};
use self::seen::RunScans;
pub(super) use self::seen::SeenFile;
use super::files::Closeness;
use crate::engine::event::ActId;
use crate::engine::settings::DirectorySettings;
use crate::model::{
    ByteCount, ClosedByHand, Closing, LineRef, Monotonic, Now, Role, RunReading, RunReason, RunRow,
    RunState, RunTally, RunWait, SkipVerdict, SourcePath, Start, StoredRun, UploadId,
};

/// One run in memory.
#[derive(Debug)]
pub(in crate::engine) struct TrackedRun {
    row: RunRow,
    /// The row as last written.
    written: Option<RunRow>,
    reading: RunReading,
    /// The sum over its files when it was last read.
    read_of: Option<u64>,
    /// Its open uploads.
    open: BTreeSet<UploadId>,
    scans: RunScans,
    /// Since when all of its markers are there while it is open.
    marked_since: Option<Monotonic>,
    markers: Markers,
    attempts: Attempts,
    /// When it was first seen, until a scan that began later has ended.
    found_at: Option<Monotonic>,
    /// An older run in progress with the same run id of the instrument.
    copy_of: Option<SourcePath>,
}

/// The next step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunStep {
    /// Nothing, until something happens.
    Nothing,
    /// Read what its own files say about it.
    Read,
    /// Scan at this time.
    Scan(Monotonic),
    Close,
    /// Send its markers.
    SendMarkers,
    WriteReceipt,
}

impl TrackedRun {
    pub(super) fn new(row: RunRow, now: Monotonic) -> Self {
        Self {
            row,
            written: None,
            reading: RunReading::default(),
            read_of: None,
            open: BTreeSet::new(),
            scans: RunScans::new(now),
            marked_since: None,
            markers: Markers::default(),
            attempts: Attempts::new(now),
            found_at: Some(now),
            copy_of: None,
        }
    }

    pub(super) fn load(stored: StoredRun, now: Monotonic) -> Self {
        let reading = RunReading {
            is_identified: !stored.words.is_empty(),
            words: stored.words,
            samples: stored.samples,
            outcome: stored.row.outcome.clone(),
            ..RunReading::default()
        };
        let written = Some(stored.row.clone());
        Self { reading, written, found_at: None, ..Self::new(stored.row, now) }
    }

    pub(in crate::engine) fn row(&self) -> &RunRow {
        &self.row
    }

    pub(super) fn reading(&self) -> &RunReading {
        &self.reading
    }

    /// Returns the row, when it differs from what was last written.
    pub(super) fn row_to_write(&mut self) -> Option<RunRow> {
        (self.written.as_ref() != Some(&self.row)).then(|| {
            self.written = Some(self.row.clone());
            self.row.clone()
        })
    }

    /// Counts an upload that an operator abandoned.
    pub(super) fn note_given_up(&mut self) {
        self.row.files.given_up_count += 1;
    }

    /// Adds an upload.
    pub(super) fn join(&mut self, upload: UploadId, now: Monotonic) {
        self.open.insert(upload);
        if self.row.state == RunState::Completed {
            self.begin_wave(now);
        }
    }

    /// A file came after it was completed: it is completed once more, after its closing time.
    fn begin_wave(&mut self, now: Monotonic) {
        self.row.state = RunState::Closed;
        self.scans.restart(now);
        self.attempts.restart(now);
    }

    /// Removes an ended upload. Returns whether it was the last one.
    pub(super) fn leave(&mut self, upload: UploadId) -> bool {
        self.open.remove(&upload) && self.open.is_empty()
    }

    /// Returns whether it is completed and no upload of it is open.
    pub(super) fn is_over(&self) -> bool {
        self.row.state == RunState::Completed && self.open.is_empty()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.row.state == RunState::Closed
    }

    /// Returns whether a file of it may be sent, or waits. A marker that ends a wave begins one.
    pub(super) fn admits(
        &mut self,
        role: Role,
        directory: &DirectorySettings,
        now: Monotonic,
    ) -> bool {
        let goes_last = !self.markers.may_go() && self.is_own_marker(role);
        match self.row.state {
            RunState::Open | RunState::Gone => {
                let is_named = !directory.runs.needs_words || self.reading.is_identified;
                let is_wanted = !directory.runs.closing.may_skip || self.is_wanted();
                let is_known = !directory.runs.closing.tells_runs_apart || self.read_of.is_some();
                let is_plain = role == Role::Plain && directory.runs.start == Start::AsFilesSettle;
                is_plain && is_named && is_wanted && is_known && self.copy_of.is_none()
            }
            RunState::Closed => !goes_last,
            RunState::Completed => {
                if goes_last {
                    self.begin_wave(now);
                }
                !goes_last
            }
            RunState::Skipped => false,
        }
    }

    /// Returns whether its directory may be a renamed one of another run, because no scan since has
    /// excluded that.
    pub(super) fn may_be_renamed(&self) -> bool {
        self.found_at.is_some()
    }

    /// Returns whether files of it are there, as far as is known.
    pub(super) fn is_there(&self) -> bool {
        self.row.state != RunState::Gone && !self.row.completion.ledgers.is_absent()
    }

    /// Returns the instrument's run id, where its own files give it.
    pub(super) fn run_id(&self) -> Option<&String> {
        self.reading.words.get("run_id").filter(|_| self.reading.is_identified)
    }

    pub(super) fn copy_of(&self) -> Option<&SourcePath> {
        self.copy_of.as_ref()
    }

    /// Sets the other run that it is a copy of. Returns whether it was a copy and is none any more.
    pub(super) fn note_copy_of(&mut self, other: Option<SourcePath>) -> bool {
        let was_copy = self.copy_of.is_some();
        self.copy_of = other;
        was_copy && self.copy_of.is_none()
    }

    /// Returns whether it is known that no rule of the profile skips it.
    pub(super) fn is_wanted(&self) -> bool {
        self.read_of.is_some() && self.reading.skip == SkipVerdict::No
    }

    /// Returns whether it needs a scan, and clears the request.
    pub(super) fn take_wanted_scan(&mut self) -> bool {
        self.scans.take_wanted()
    }

    /// Counts a file that a scan saw.
    pub(super) fn observe(&mut self, file: SeenFile<'_>) {
        if file.closeness != Closeness::Scan {
            return;
        }
        self.scans.count(file.path, &file.version, set_of(file.place.role));
        self.markers.note(file.path, file.place.role);
    }

    /// Counts files that a scan found unchanged since they were sent.
    pub(super) fn observe_unchanged(&mut self, files: &RunTally) {
        self.scans.count_unchanged(files);
    }

    /// Begins a scan. Returns whether the scan leaves it out, because it has been complete and unchanged since then.
    pub(super) fn begin_scan(&mut self, rest_since: Option<Monotonic>) -> bool {
        let is_skipped = rest_since.is_some_and(|since| self.is_at_rest(since));
        self.scans.begin(is_skipped);
        is_skipped
    }

    fn is_at_rest(&self, since: Monotonic) -> bool {
        let has_ended = match self.row.state {
            RunState::Completed | RunState::Gone | RunState::Skipped => true,
            RunState::Open | RunState::Closed => false,
        };
        has_ended && self.open.is_empty() && self.scans.is_same_since(since)
    }

    /// Ends a scan; `unseen` is a directory of the run that the scan could not see.
    pub(super) fn end_scan(
        &mut self,
        unseen: Option<&SourcePath>,
        started: Monotonic,
        now: Monotonic,
    ) {
        self.found_at = self.found_at.filter(|at| *at >= started);
        let Some(seen) = self.scans.end(unseen, started, now) else { return };
        if self.is_closed() && self.attempts.counts(started) {
            self.scans.note_seen_closed();
        }
        let is_marked = self.row.state == RunState::Open && self.has_markers(seen.markers());
        self.marked_since = is_marked.then(|| self.marked_since.unwrap_or(now));
        let files = seen.files();
        match (self.row.state, files.count) {
            // While its receipt is being written, its state must not change.
            (RunState::Open | RunState::Closed | RunState::Skipped, 0)
                if self.open.is_empty() && !self.attempts.is_out() && self.scans.sees_again() =>
            {
                self.row.state = RunState::Gone;
                self.row.reason = None;
                self.note_absence();
            }
            (RunState::Gone, 1..) => self.row.state = RunState::Open,
            // A disposed run keeps the file counts of its last scan.
            (RunState::Completed | RunState::Gone, 0) => return self.note_absence(),
            (RunState::Open | RunState::Closed | RunState::Completed | RunState::Skipped, _) => {}
        }
        self.row.files.count = files.count;
        self.row.files.size = ByteCount(files.bytes);
    }

    /// No file of it exists: files under its name belong to another run, with a ledger of its own.
    pub(super) fn note_absence(&mut self) {
        if self.open.is_empty() {
            self.row.completion.ledgers.note_absence();
        }
    }

    pub(super) fn note_name(&mut self, name_now: Option<SourcePath>) {
        self.row.name_now = name_now;
    }

    /// Records that its ledger has a line of one of its uploads. Returns whether it had none before.
    pub(super) fn note_line(&mut self) -> bool {
        let before = self.row.completion.ledgers;
        self.row.completion.ledgers.note_line(None);
        self.row.completion.ledgers != before
    }

    /// Returns the run's next step; `is_settling`: files of it have not settled.
    pub(super) fn step(&self, closing: Closing, is_settling: bool, now: Now) -> RunStep {
        if !self.attempts.may_begin(now.monotonic) {
            return RunStep::Nothing;
        }
        let is_moving = is_settling || !self.scans.is_seen_closed() || !self.open.is_empty();
        match self.row.state {
            RunState::Open => self.open_step(closing, is_settling, now.monotonic),
            RunState::Closed if is_moving => RunStep::Nothing,
            RunState::Closed if self.row.is_late() => self.wave_step(closing, now.monotonic),
            RunState::Closed => self.end_step(),
            RunState::Skipped if self.must_be_read(closing) => RunStep::Read,
            RunState::Completed | RunState::Gone | RunState::Skipped => RunStep::Nothing,
        }
    }

    /// Returns whether it has changed since it was last read.
    fn must_be_read(&self, closing: Closing) -> bool {
        let last = self.scans.last();
        closing.reads_runs && last.is_some_and(|last| self.read_of != Some(last.files().sum))
    }

    fn open_step(&self, closing: Closing, is_settling: bool, now: Monotonic) -> RunStep {
        let Some(last) = self.scans.last() else { return RunStep::Nothing };
        if self.must_be_read(closing) {
            return RunStep::Read;
        }
        let is_awaited = !self.has_markers(last.markers())
            || !self.reading.missing.is_empty()
            || self.copy_of.is_some();
        let RunReading { sooner_with, patience, .. } = &self.reading;
        let is_patient = *sooner_with != 0 && last.markers() & sooner_with == 0;
        let quiet = if is_patient { closing.quiet * *patience } else { closing.quiet };
        match self.scans.doubted_until(quiet) {
            _ if is_awaited || is_settling => RunStep::Nothing,
            Some(at) => RunStep::Scan(at.max(now)),
            None => RunStep::Close,
        }
    }

    /// A wave ends after the closing time, when its marker is there; after [`Closing::stale_after`]
    /// without a change, also without the marker.
    fn wave_step(&self, closing: Closing, now: Monotonic) -> RunStep {
        let is_fresh = now < self.scans.same_since().after(closing.stale_after);
        match self.scans.doubted_until(closing.quiet) {
            _ if self.must_be_read(closing) => RunStep::Read,
            _ if is_fresh && !self.reading.late.missing.is_empty() => RunStep::Nothing,
            Some(at) => RunStep::Scan(at.max(now)),
            None => self.end_step(),
        }
    }

    fn end_step(&self) -> RunStep {
        if !self.markers.are_held() {
            RunStep::WriteReceipt
        } else if self.read_of.is_none() {
            // After a restart the rows do not tell which rule closed it.
            RunStep::Read
        } else {
            RunStep::SendMarkers
        }
    }

    /// Closes it by an order. Files that have not settled still wait.
    ///
    /// # Errors
    /// Why it cannot be closed.
    pub(super) fn close_by_hand(
        &mut self,
        by: String,
        now: Now,
    ) -> Result<ClosedByHand, &'static str> {
        match self.row.state {
            RunState::Open | RunState::Skipped => {}
            RunState::Closed if self.row.is_late() && !self.reading.late.missing.is_empty() => {}
            RunState::Closed => return Err("is closed already: its files are being sent"),
            RunState::Completed => return Err("is completed already"),
            RunState::Gone => return Err("is not there: it was removed before it was completed"),
        }
        let there = self.scans.last().map_or(0, |last| last.markers());
        let is_open = self.row.state == RunState::Open;
        let marker = (is_open && !self.has_markers(there)).then(|| self.reading.waits_for.clone());
        let listed = if is_open { &self.reading.missing } else { &self.reading.late.missing };
        let missing = marker.into_iter().chain(listed.clone()).collect();
        let closed = ClosedByHand { by, missing };
        self.close(now);
        self.row.closed_by_hand = Some(closed.clone());
        Ok(closed)
    }

    pub(super) fn close(&mut self, now: Now) {
        self.row.state = RunState::Closed;
        self.row.is_stale = false;
        self.row.reason = None;
        self.row.closed_by_hand = None;
        self.row.closed_at = Some(now.wall);
        self.row.files.closed_count = self.row.files.count;
        self.scans.restart(now.monotonic);
        self.markers.hold();
        self.attempts.restart(now.monotonic);
    }

    /// Applies the durable line that completes it. Returns whether it is completed: files may have come meanwhile.
    pub(super) fn complete(&mut self, receipt: LineRef, now: Now) -> bool {
        self.attempts.end();
        if !self.open.is_empty() {
            return false;
        }
        self.row.state = RunState::Completed;
        self.row.reason = None;
        self.row.completion.generation += 1;
        self.row.completion.at = Some(now.wall);
        self.row.completion.ledgers.note_line(Some(receipt.ledger.number()));
        self.row.completion.receipt = Some(receipt);
        // A wave has other markers.
        self.markers = Markers::default();
        true
    }

    /// Allows its markers to be sent, and returns them.
    pub(super) fn release_markers(&mut self) -> Vec<SourcePath> {
        self.markers.release()
    }

    pub(super) fn attempt_begun(&mut self, act: ActId) {
        self.attempts.begin(act);
    }

    /// Reading it or writing its receipt failed. Returns when that is retried.
    pub(super) fn attempt_failed(
        &mut self,
        now: Monotonic,
        delay: impl FnOnce(u32) -> std::time::Duration,
    ) -> Monotonic {
        self.attempts.fail(now, delay)
    }

    /// A closed run is gone: the order of its markers is not kept any more.
    pub(super) fn note_gone(&mut self) {
        if self.is_closed() {
            self.read_of = Some(0);
            self.reading.late.missing.clear();
        }
    }

    /// Applies what was read; words that were frozen into names stay as they were. Returns whether
    /// words or samples have changed.
    pub(super) fn apply_reading(&mut self, mut reading: RunReading) -> bool {
        self.attempts.end();
        self.read_of = self.scans.last().map(|last| last.files().sum);
        if self.reading.is_identified {
            reading.words.extend(self.reading.words.clone());
            reading.is_identified = true;
        }
        self.row.outcome.clone_from(&reading.outcome);
        let is_other =
            reading.words != self.reading.words || reading.samples != self.reading.samples;
        self.reading = reading;
        let reason = self.reading.skip.reason();
        let reason = reason.map(|text| RunReason::new(RunWait::LeftOut, text));
        if self.row.state == RunState::Open && reason.is_some() {
            (self.row.state, self.row.reason) = (RunState::Skipped, reason);
        } else if self.row.state == RunState::Skipped && reason.is_none() {
            self.row.state = RunState::Open;
        }
        is_other
    }

    /// Returns whether a file is a marker of the rule that closes this run. Before the run is read,
    /// any marker may be.
    fn is_own_marker(&self, role: Role) -> bool {
        let (set, closers) = (set_of(role), &self.reading.closers);
        let is_own = match (self.read_of, self.row.is_late()) {
            (None, _) => true,
            (Some(_), true) => self.reading.late.ends & set != 0,
            (Some(_), false) => {
                let is_of_rule = closers.iter().any(|rule| rule & set != 0);
                closers.is_empty() || is_of_rule || self.reading.sooner_with & set != 0
            }
        };
        set != 0 && is_own
    }

    /// Returns the files that are markers by other rules only.
    pub(super) fn foreign_markers(&self) -> Vec<SourcePath> {
        self.markers.of(|role| !self.is_own_marker(role))
    }

    fn has_markers(&self, there: u64) -> bool {
        let closers = &self.reading.closers;
        closers.is_empty() || closers.iter().any(|set| there & set == *set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DirectoryName, WallTime};

    /// Its directory may have been removed behind the search for its other name, with which a scan begins.
    #[test]
    fn a_run_without_files_is_gone_when_a_second_scan_finds_none() {
        let (drop, name) = (DirectoryName::new("lab"), SourcePath::from_bytes(b"run"));
        let at = |seconds| Monotonic(std::time::Duration::from_secs(seconds));
        let mut run = TrackedRun::new(RunRow::opened(drop, name, WallTime(0)), at(0));
        for (second, state) in [(1, RunState::Open), (2, RunState::Gone)] {
            run.begin_scan(None);
            run.end_scan(None, at(second), at(second));
            assert_eq!(run.row().state, state);
            assert_eq!(run.take_wanted_scan(), state == RunState::Open, "it is asked at once");
        }
    }
}

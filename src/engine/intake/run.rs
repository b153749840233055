//! One run: what scans have counted of it, and what it wants next.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::files::Closeness;
use crate::engine::event::ActId;
use crate::engine::settings::DirectorySettings;
use crate::model::{
    ByteCount, ClosedByHand, Closing, Fingerprint, LineRef, Monotonic, Now, Place, Role,
    RunReading, RunRow, RunState, RunTally, SourcePath, Start, UploadId,
};

/// Markers of one run that are remembered by path; more than any sequencer writes.
const MARKERS_MAX: usize = 64;

/// Why a run that was completed is not any more.
const CAME_LATE: &str = "files came after it was closed";

/// One run as it was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRun {
    pub row: RunRow,
    pub words: BTreeMap<String, String>,
    pub samples: Vec<String>,
}

/// One run in memory.
#[derive(Debug)]
pub(in crate::engine) struct TrackedRun {
    row: RunRow,
    /// The row as last written.
    written: Option<RunRow>,
    reading: RunReading,
    /// The sum over its files for which it was last read.
    read_of: Option<u64>,
    /// Uploads of it that have not ended.
    open: BTreeSet<UploadId>,
    scans: RunScans,
    markers: Markers,
    attempts: Attempts,
}

/// What scans have seen of a run.
#[derive(Debug)]
struct RunScans {
    /// What the scan under way has seen.
    seen: SeenRun,
    /// What the last whole scan saw.
    last: Option<SeenRun>,
    /// How many scans in a row saw the same, and since when.
    same_count: u32,
    same_since: Monotonic,
    /// When the last whole scan began.
    last_started: Monotonic,
    /// The scan under way leaves it out.
    is_skipped: bool,
    /// A whole scan has seen it since it was closed.
    is_seen_closed: bool,
    /// A place of it that the last scan could not look at.
    unseen: Option<SourcePath>,
}

/// What one scan saw of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct SeenRun {
    files: RunTally,
    /// Markers that are there, by position.
    markers: u64,
}

#[derive(Debug, Default)]
struct Markers {
    /// Files that are a marker by some rule, with their positions in the profile's list.
    positions: BTreeMap<SourcePath, u8>,
    /// The markers of its own rule may be sent: all else is there.
    may_go: bool,
}

/// Tries to read it or to write its receipt.
#[derive(Debug)]
struct Attempts {
    act: Option<ActId>,
    failure_count: u32,
    not_before: Monotonic,
}

/// A file of a run, as it was seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeenFile<'a> {
    pub(super) path: &'a SourcePath,
    pub(super) place: Place,
    pub(super) version: Fingerprint,
    pub(super) closeness: Closeness,
}

/// What a run wants next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunStep {
    /// Nothing, until something happens.
    Nothing,
    /// That what it says of itself is read.
    Read,
    /// A scan at this time.
    Scan(Monotonic),
    Close,
    /// That its markers are sent.
    SendMarkers,
    WriteReceipt,
}

/// The set that holds one position of the profile's list of markers.
fn bit(position: u8) -> u64 {
    1 << position.min(63)
}

impl RunScans {
    fn new(now: Monotonic) -> Self {
        Self {
            seen: SeenRun::default(),
            last: None,
            same_count: 0,
            same_since: now,
            last_started: now,
            is_skipped: false,
            is_seen_closed: false,
            unseen: None,
        }
    }
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
            markers: Markers::default(),
            attempts: Attempts { act: None, failure_count: 0, not_before: now },
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
        Self { reading, written, ..Self::new(stored.row, now) }
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

    /// Notes that an upload of it was given up by an operator.
    pub(super) fn note_given_up(&mut self) {
        self.row.given_up_count += 1;
    }

    /// Notes that an upload belongs to it. Returns whether it was completed, and is not any more.
    pub(super) fn join(&mut self, upload: UploadId, now: Monotonic) -> bool {
        self.open.insert(upload);
        let was_completed = self.row.state == RunState::Completed;
        if was_completed {
            // A scan counts the files that came late, then it is completed again.
            self.row.state = RunState::Closed;
            self.scans.is_seen_closed = false;
            self.attempts.not_before = now;
        }
        was_completed
    }

    /// Notes that an upload has ended. Returns whether it was the last one.
    pub(super) fn leave(&mut self, upload: UploadId) -> bool {
        self.open.remove(&upload) && self.open.is_empty()
    }

    /// Returns whether it is completed and nothing of it is under way.
    pub(super) fn is_over(&self) -> bool {
        self.row.state == RunState::Completed && self.open.is_empty()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.row.state == RunState::Closed
    }

    /// Returns whether a file of it may be sent, or waits.
    pub(super) fn admits(&self, role: Role, directory: &DirectorySettings) -> bool {
        match self.row.state {
            RunState::Open | RunState::Gone => {
                let is_named = !directory.needs_words || self.reading.is_identified;
                role == Role::Plain && directory.start == Start::AsFilesSettle && is_named
            }
            RunState::Closed => self.markers.may_go || !self.is_own_marker(role),
            RunState::Completed => true,
        }
    }

    /// Counts a file that a scan saw.
    pub(super) fn observe(&mut self, file: SeenFile<'_>) {
        if file.closeness != Closeness::Scan {
            return;
        }
        self.scans.seen.files.add(file.path, &file.version);
        if let Role::Marker(position) = file.place.role {
            self.scans.seen.markers |= bit(position);
            if self.markers.positions.len() < MARKERS_MAX {
                self.markers.positions.insert(file.path.clone(), position);
            }
        }
    }

    /// Counts files that a scan saw as they were sent.
    pub(super) fn observe_unchanged(&mut self, files: &RunTally) {
        self.scans.seen.files.merge(files);
    }

    /// Begins a scan. Returns whether the scan leaves it out: it has been over, and the same, since then.
    pub(super) fn begin_scan(&mut self, rest_since: Option<Monotonic>) -> bool {
        self.scans.seen = SeenRun::default();
        self.scans.is_skipped = rest_since.is_some_and(|since| self.is_at_rest(since));
        self.scans.is_skipped
    }

    fn is_at_rest(&self, since: Monotonic) -> bool {
        let has_ended = matches!(self.row.state, RunState::Completed | RunState::Gone);
        let scans = &self.scans;
        has_ended && self.open.is_empty() && scans.same_count > 0 && scans.same_since <= since
    }

    /// Ends a scan; `unseen` is a place of the run that the scan could not look at.
    pub(super) fn end_scan(
        &mut self,
        unseen: Option<&SourcePath>,
        started: Monotonic,
        now: Monotonic,
    ) {
        let scans = &mut self.scans;
        if scans.is_skipped {
            return;
        }
        scans.unseen = unseen.cloned();
        if unseen.is_some() {
            (scans.same_count, scans.same_since) = (0, now);
            return;
        }
        let seen = std::mem::take(&mut scans.seen);
        if scans.last.replace(seen) == Some(seen) {
            scans.same_count = scans.same_count.saturating_add(1);
        } else {
            (scans.same_count, scans.same_since) = (0, now);
        }
        scans.last_started = started;
        scans.is_seen_closed |=
            self.row.state == RunState::Closed && started >= self.attempts.not_before;
        match (self.row.state, seen.files.count) {
            (RunState::Open | RunState::Closed, 0) if self.open.is_empty() => {
                self.row.state = RunState::Gone;
                self.row.reason = None;
                self.note_absence();
            }
            (RunState::Gone, 1..) => self.row.state = RunState::Open,
            // A run that was disposed of still had the files it had.
            (RunState::Completed | RunState::Gone, 0) => return self.note_absence(),
            (RunState::Open | RunState::Closed | RunState::Completed, _) => {}
        }
        self.row.file_count = seen.files.count;
        self.row.size = ByteCount(seen.files.bytes);
    }

    /// Notes that no file of it is there: what comes under its name is another run, with a ledger of its own.
    pub(super) fn note_absence(&mut self) {
        if self.open.is_empty() {
            self.row.ledgers.note_absence();
        }
    }

    pub(super) fn note_name(&mut self, name_now: Option<SourcePath>) {
        self.row.name_now = name_now;
    }

    /// Notes that its ledger has a line of one of its uploads. Returns whether it had none before.
    pub(super) fn note_line(&mut self) -> bool {
        let before = self.row.ledgers;
        self.row.ledgers.note_line(None);
        self.row.ledgers != before
    }

    /// Returns what the run wants; `is_settling`: files of it are seen and not quiet.
    pub(super) fn step(&self, closing: Closing, is_settling: bool, now: Now) -> RunStep {
        if self.attempts.act.is_some() || self.attempts.not_before > now.monotonic {
            return RunStep::Nothing;
        }
        let is_moving = is_settling || !self.scans.is_seen_closed || !self.open.is_empty();
        let has_no_markers = self.markers.may_go || self.markers.positions.is_empty();
        match self.row.state {
            RunState::Open => self.open_step(closing, is_settling, now.monotonic),
            RunState::Closed if is_moving => RunStep::Nothing,
            RunState::Closed if has_no_markers => RunStep::WriteReceipt,
            // After a restart the rows do not say which rule closed it.
            RunState::Closed if self.read_of.is_none() => RunStep::Read,
            RunState::Closed => RunStep::SendMarkers,
            RunState::Completed | RunState::Gone => RunStep::Nothing,
        }
    }

    fn open_step(&self, closing: Closing, is_settling: bool, now: Monotonic) -> RunStep {
        let Some(last) = self.scans.last else { return RunStep::Nothing };
        if closing.reads_runs && self.read_of != Some(last.files.sum) {
            return RunStep::Read;
        }
        if !self.has_markers(last.markers) || !self.reading.missing.is_empty() {
            return RunStep::Nothing;
        }
        let believed_at = self.scans.same_since.after(closing.quiet);
        if is_settling {
            RunStep::Nothing
        } else if self.scans.same_count == 0 || believed_at > self.scans.last_started {
            RunStep::Scan(believed_at.max(now))
        } else {
            RunStep::Close
        }
    }

    /// Closes it by an order. Its files still wait until they are quiet.
    ///
    /// # Errors
    /// Why it is not closed by that.
    pub(super) fn close_by_hand(
        &mut self,
        by: String,
        now: Now,
    ) -> Result<ClosedByHand, &'static str> {
        match self.row.state {
            RunState::Open => {}
            RunState::Closed => return Err("is closed already: its files are being sent"),
            RunState::Completed => return Err("is completed already"),
            RunState::Gone => return Err("is not there: it was removed before it was completed"),
        }
        let there = self.scans.last.map_or(0, |last| last.markers);
        let marker = (!self.has_markers(there)).then(|| self.reading.waits_for.clone());
        let missing = marker.into_iter().chain(self.reading.missing.clone()).collect();
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
        self.row.closed_file_count = self.row.file_count;
        self.scans.is_seen_closed = false;
        self.markers.may_go = false;
        self.attempts.not_before = now.monotonic;
    }

    /// Notes that the line that completes it is durable. Returns whether that completes it: files may have come.
    pub(super) fn complete(&mut self, receipt: LineRef, now: Now) -> bool {
        self.attempt_ended();
        if !self.open.is_empty() {
            return false;
        }
        self.row.state = RunState::Completed;
        self.row.reason = None;
        self.row.generation += 1;
        self.row.completed_at = Some(now.wall);
        self.row.ledgers.note_line(Some(receipt.ledger.number()));
        self.row.receipt = Some(receipt);
        true
    }

    /// Lets its markers be sent, and returns them.
    pub(super) fn release_markers(&mut self) -> Vec<SourcePath> {
        self.markers.may_go = true;
        self.markers.positions.keys().cloned().collect()
    }

    pub(super) fn attempt_begun(&mut self, act: ActId) {
        self.attempts.act = Some(act);
    }

    fn attempt_ended(&mut self) {
        self.attempts.act = None;
        self.attempts.failure_count = 0;
    }

    /// Notes that reading it or writing its receipt failed. Returns when it is tried again.
    pub(super) fn attempt_failed(
        &mut self,
        now: Monotonic,
        delay: impl FnOnce(u32) -> std::time::Duration,
    ) -> Monotonic {
        self.attempts.act = None;
        self.attempts.failure_count += 1;
        self.attempts.not_before = now.after(delay(self.attempts.failure_count));
        self.attempts.not_before
    }

    /// Notes that a closed run is not there any more: there is no order of its markers to keep.
    pub(super) fn note_gone(&mut self) {
        if self.is_closed() {
            self.read_of = Some(0);
        }
    }

    /// Applies what was read; words that were frozen into names stay as they were. Returns whether
    /// words or samples are other ones.
    pub(super) fn apply_reading(&mut self, mut reading: RunReading) -> bool {
        self.attempt_ended();
        self.read_of = self.scans.last.map(|last| last.files.sum);
        if self.reading.is_identified {
            reading.words.extend(self.reading.words.clone());
            reading.is_identified = true;
        }
        self.row.outcome.clone_from(&reading.outcome);
        let is_other =
            reading.words != self.reading.words || reading.samples != self.reading.samples;
        self.reading = reading;
        is_other
    }

    /// Returns whether a file is a marker of the rule that closes this run. Before the run was read, any
    /// marker may be.
    fn is_own_marker(&self, role: Role) -> bool {
        let Role::Marker(position) = role else { return false };
        let closers = &self.reading.closers;
        let is_known = self.read_of.is_some() && !closers.is_empty();
        !is_known || closers.iter().any(|set| set & bit(position) != 0)
    }

    /// Returns the files that are a marker by another rule only.
    pub(super) fn foreign_markers(&self) -> Vec<SourcePath> {
        let markers = self.markers.positions.iter();
        let foreign = markers.filter(|(_, position)| !self.is_own_marker(Role::Marker(**position)));
        foreign.map(|(path, _)| path.clone()).collect()
    }

    fn has_markers(&self, there: u64) -> bool {
        let closers = &self.reading.closers;
        closers.is_empty() || closers.iter().any(|set| there & set == *set)
    }

    /// Says why it is open or not completed, while it is; `settling` is a file of it that is not quiet.
    pub(super) fn explain(
        &mut self,
        directory: &DirectorySettings,
        settling: Option<&SourcePath>,
        now: Now,
    ) {
        let is_old = self.row.opened_at.until(now.wall) >= directory.closing.stale_after;
        self.row.is_stale = is_old && self.row.state == RunState::Open && self.scans.last.is_some();
        let unseen = self.scans.unseen.as_ref();
        let unseen = unseen.map(|place| format!("{place} cannot be read: let the daemon read it"));
        match self.row.state {
            RunState::Open => self.row.reason = unseen.or(self.wait_reason(directory, settling)),
            RunState::Closed => {
                // A run that came again was closed again.
                let is_late = self.row.completed_at > self.row.closed_at;
                self.row.reason = unseen.or(is_late.then(|| CAME_LATE.to_owned()));
            }
            RunState::Completed | RunState::Gone => {}
        }
    }

    fn wait_reason(
        &self,
        directory: &DirectorySettings,
        settling: Option<&SourcePath>,
    ) -> Option<String> {
        let last = self.scans.last?;
        if directory.needs_words && self.read_of.is_some() && !self.reading.is_identified {
            return Some("nothing is sent before the file that names the run is whole".into());
        }
        if let Some(first) = self.reading.missing.first() {
            return Some(format!("its manifest lists {first}, which is not there"));
        }
        if self.has_markers(last.markers) {
            let note = self.reading.notes.first().cloned();
            return note.or_else(|| self.row.is_stale.then(|| never_at_rest(settling)));
        }
        let marker = &self.reading.waits_for;
        if !self.row.is_stale {
            return Some(format!("waits for {marker}"));
        }
        let hours = directory.closing.stale_after.as_secs() / 3600;
        Some(format!("no {marker} for more than {hours} h: has the run been broken off?"))
    }
}

/// Says what keeps a run open that has all of its markers.
fn never_at_rest(settling: Option<&SourcePath>) -> String {
    let what = match settling {
        Some(path) => format!("{path} has changed again"),
        None => "files of it come, go or change".to_owned(),
    };
    format!("{what}: a run is closed when nothing of it changes any more")
}

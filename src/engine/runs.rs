//! Drops as runs: when one is closed, when all of it is there.
//!
//! What a run is, the observations say ([`Place`]); how it stands is a row. A run is
//! - *open* while files may still come. Those that are rewritten all run long, and all of them where
//!   the operator wants so, are not sent yet;
//! - *closed* when its markers are there (where its profile knows any) and two scans, at least the
//!   closing time apart, found the same paths, sizes and times. Then a scan brings what was held;
//! - *completed* when nothing of it is unsettled and every upload of it has ended. The markers of the
//!   rule that closes this run are sent when all other files have arrived, so that a reader of the far
//!   side can rely on them. A marker of another instrument's rule is a file like any other that is held.
//!   A file that comes later makes the run closed again, and it is completed once more.
//!
//! Memory holds counts and one sum for each run, never its files. At a crash the row says how far it
//! was; the scans that believe it closed begin anew. This file keeps the books of one drop directory;
//! `runs/tend.rs` is what the engine does with them.

mod tend;

pub(super) use tend::RunKey;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::event::ActId;
use super::files::Closeness;
use super::settings::DirectorySettings;
use super::ticket::Ticket;
use crate::model::{
    ByteCount, Closing, DirectoryName, Fingerprint, Monotonic, Now, Place, Role, RunReading,
    RunRow, RunState, SourcePath, Start, UploadId,
};

/// Markers of one run that are remembered by path; more than any sequencer writes.
const MARKERS_MAX: usize = 64;

/// One run as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRun {
    /// Its row.
    pub row: RunRow,
    /// Its words.
    pub words: BTreeMap<String, String>,
    /// Its samples.
    pub samples: Vec<String>,
}

/// The runs of one drop directory.
#[derive(Debug, Default)]
pub(crate) struct Units {
    tracked: BTreeMap<SourcePath, Tracked>,
}

/// One run in memory.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub(crate) row: RunRow,
    pub(crate) reading: RunReading,
    /// Uploads of it that have not ended.
    pub(crate) live: BTreeSet<UploadId>,
    told: Option<RunRow>,
    /// What the scan under way has seen of it.
    seen: Tally,
    /// What the last whole scan saw of it.
    last: Option<Tally>,
    /// How many scans in a row saw the same, and since when.
    same: (u32, Monotonic),
    /// When the last whole scan began.
    last_started: Monotonic,
    is_skipped: bool,
    /// A whole scan has seen it since it was closed.
    is_seen_closed: bool,
    /// Files that are a marker by some rule, with their positions in the profile's list.
    markers: BTreeMap<SourcePath, u8>,
    /// The markers of its own rule may be sent: all else is there.
    markers_go: bool,
    /// The sum for which it was last read.
    read_of: Option<u64>,
    /// Reading it, or writing its receipt.
    act: Option<ActId>,
    failure_count: u32,
    not_before: Monotonic,
}

/// What one scan saw of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    count: u64,
    bytes: u64,
    /// A sum over all files that does not depend on their order.
    sum: u64,
    /// Markers that are there, by position.
    markers: u64,
}

/// What a run wants next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunStep {
    /// Nothing, until something happens.
    Nothing,
    /// That what it says of itself is read.
    Read,
    /// A scan at this time.
    Scan(Monotonic),
    /// To be closed.
    Close,
    /// That its markers are sent.
    SendMarkers,
    /// Its receipt.
    WriteReceipt,
}

impl Units {
    /// Notes that an upload of a run was given up.
    pub(crate) fn note_given_up(&mut self, admission: &Ticket) {
        let run = self.tracked.get_mut(&admission.run).filter(|_| !admission.is_sentinel);
        if let Some(run) = run {
            run.row.given_up_count += 1;
        }
    }

    /// Takes a run as it was stored.
    pub(crate) fn load(&mut self, stored: StoredRun, now: Monotonic) {
        let reading = RunReading {
            is_identified: !stored.words.is_empty(),
            words: stored.words,
            samples: stored.samples,
            outcome: stored.row.outcome.clone(),
            ..RunReading::default()
        };
        let told = Some(stored.row.clone());
        let tracked = Tracked { reading, told, ..Tracked::new(stored.row, now) };
        self.tracked.insert(tracked.row.name.clone(), tracked);
    }

    /// Returns what a run says of itself, as far as it was read.
    pub(crate) fn reading(&self, run: &SourcePath) -> Option<&RunReading> {
        self.tracked.get(run).map(|tracked| &tracked.reading)
    }

    /// Returns the name of a run that is known, so that all its files share it.
    pub(crate) fn shared(&self, run: &SourcePath) -> SourcePath {
        self.tracked.get_key_value(run).map_or_else(|| run.clone(), |(name, _)| name.clone())
    }

    /// Returns one run.
    pub(crate) fn get_mut(&mut self, run: &SourcePath) -> Option<&mut Tracked> {
        self.tracked.get_mut(run)
    }

    /// Returns one run.
    pub(crate) fn get(&self, run: &SourcePath) -> Option<&Tracked> {
        self.tracked.get(run)
    }

    /// Returns every run.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Tracked> {
        self.tracked.values()
    }

    /// Returns a run, which is a new one when it was not known.
    pub(crate) fn open(&mut self, drop: &DirectoryName, run: SourcePath, now: Now) -> &mut Tracked {
        let opened =
            || Tracked::new(RunRow::opened(drop.clone(), run.clone(), now.wall), now.monotonic);
        self.tracked.entry(run.clone()).or_insert_with(opened)
    }

    /// Tells whether a file that is not known may be sent, or waits for its run.
    pub(crate) fn admits(&self, path: &SourcePath, place: Place, drop: &DirectorySettings) -> bool {
        if place.is_alone(path) {
            return true;
        }
        let run = &path.as_bytes()[..place.run_length as usize];
        let Some(tracked) = self.tracked.get(run) else { return false };
        match tracked.row.state {
            RunState::Open | RunState::Gone => {
                let is_named = !drop.needs_words || tracked.reading.is_identified;
                place.role == Role::Plain && drop.start == Start::AsFilesSettle && is_named
            }
            RunState::Closed => tracked.markers_go || !tracked.is_own_marker(place.role),
            RunState::Completed => true,
        }
    }

    /// Notes that a file was seen, and counts it when that was in a scan. Tells whether its run was
    /// not known before.
    pub(crate) fn notice(
        &mut self,
        drop: &DirectoryName,
        file: (&SourcePath, Place, Fingerprint),
        closeness: Closeness,
        now: Now,
    ) -> bool {
        let (path, place, _) = file;
        if place.is_alone(path) {
            return false;
        }
        let run = &path.as_bytes()[..place.run_length as usize];
        if let Some(tracked) = self.tracked.get_mut(run) {
            tracked.notice(file, closeness);
            return false;
        }
        self.open(drop, SourcePath::from_bytes(run), now).notice(file, closeness);
        true
    }

    /// Begins a scan and returns the runs that it leaves out, if any: those that have been completed,
    /// and the same, since then.
    pub(crate) fn begin_scan(&mut self, since: Option<Monotonic>) -> BTreeSet<SourcePath> {
        let mut skipped = BTreeSet::new();
        for (name, tracked) in &mut self.tracked {
            tracked.seen = Tally::default();
            tracked.is_skipped = since.is_some_and(|since| tracked.is_at_rest(since));
            if tracked.is_skipped {
                skipped.insert(name.clone());
            }
        }
        skipped
    }

    /// Ends a scan that saw all it looked at.
    pub(crate) fn end_scan(&mut self, started: Monotonic, now: Monotonic) {
        let seen = self.tracked.values_mut().filter(|tracked| !tracked.is_skipped);
        seen.for_each(|tracked| tracked.end_scan(started, now));
    }
}

/// The set that holds one position of the profile's list of markers.
fn bit(position: u8) -> u64 {
    1 << position.min(63)
}

impl Tally {
    fn add(&mut self, path: &SourcePath, version: Fingerprint) {
        let mut hasher = DefaultHasher::new();
        let times = (version.mtime_ns, version.ctime_ns);
        (path.as_bytes(), version.inode, version.size.0, times).hash(&mut hasher);
        self.count += 1;
        self.bytes = self.bytes.saturating_add(version.size.0);
        self.sum = self.sum.wrapping_add(hasher.finish());
    }
}

impl Tracked {
    fn new(row: RunRow, now: Monotonic) -> Self {
        Self {
            row,
            reading: RunReading::default(),
            live: BTreeSet::new(),
            told: None,
            seen: Tally::default(),
            last: None,
            same: (0, now),
            last_started: now,
            is_skipped: false,
            is_seen_closed: false,
            markers: BTreeMap::new(),
            markers_go: false,
            read_of: None,
            act: None,
            failure_count: 0,
            not_before: now,
        }
    }

    fn notice(&mut self, file: (&SourcePath, Place, Fingerprint), closeness: Closeness) {
        let (path, place, version) = file;
        if closeness != Closeness::Scan {
            return;
        }
        self.seen.add(path, version);
        if let Role::Marker(position) = place.role {
            self.seen.markers |= bit(position);
            if self.markers.len() < MARKERS_MAX {
                self.markers.insert(path.clone(), position);
            }
        }
    }

    fn is_at_rest(&self, since: Monotonic) -> bool {
        let has_ended = matches!(self.row.state, RunState::Completed | RunState::Gone);
        has_ended && self.live.is_empty() && self.same.0 > 0 && self.same.1 <= since
    }

    fn end_scan(&mut self, started: Monotonic, now: Monotonic) {
        let seen = std::mem::take(&mut self.seen);
        let is_same = self.last == Some(seen);
        self.last = Some(seen);
        self.last_started = started;
        self.same = if is_same { (self.same.0.saturating_add(1), self.same.1) } else { (0, now) };
        self.is_seen_closed |= self.row.state == RunState::Closed && started >= self.not_before;
        match (self.row.state, seen.count) {
            (RunState::Open, 0) if self.live.is_empty() => self.row.state = RunState::Gone,
            (RunState::Gone, 1..) => self.row.state = RunState::Open,
            // A run that was disposed of still had the files it had.
            (RunState::Completed | RunState::Gone, 0) => return,
            (RunState::Open | RunState::Closed | RunState::Completed, _) => {}
        }
        self.row.file_count = seen.count;
        self.row.size = ByteCount(seen.bytes);
    }

    /// Says what the run wants; `is_settling`: files of it are seen and not quiet.
    pub(crate) fn step(&self, closing: Closing, is_settling: bool, now: Now) -> RunStep {
        if self.act.is_some() || self.not_before > now.monotonic {
            return RunStep::Nothing;
        }
        match self.row.state {
            RunState::Open => self.open_step(closing, is_settling, now.monotonic),
            RunState::Closed if is_settling || !self.is_seen_closed || !self.live.is_empty() => {
                RunStep::Nothing
            }
            RunState::Closed if self.markers_go || self.markers.is_empty() => RunStep::WriteReceipt,
            // After a restart the rows do not say which rule closed it.
            RunState::Closed if self.read_of.is_none() => RunStep::Read,
            RunState::Closed => RunStep::SendMarkers,
            RunState::Completed | RunState::Gone => RunStep::Nothing,
        }
    }

    fn open_step(&self, closing: Closing, is_settling: bool, now: Monotonic) -> RunStep {
        let Some(last) = self.last else { return RunStep::Nothing };
        if closing.reads_runs && self.read_of != Some(last.sum) {
            return RunStep::Read;
        }
        if !self.has_markers(last.markers) || !self.reading.missing.is_empty() {
            return RunStep::Nothing;
        }
        let (same_count, since) = self.same;
        let believed_at = since.after(closing.quiet);
        if is_settling {
            RunStep::Nothing
        } else if same_count == 0 || believed_at > self.last_started {
            RunStep::Scan(believed_at.max(now))
        } else {
            RunStep::Close
        }
    }

    /// Tells whether a file is a marker of the rule that closes this run. Before the run was read, any
    /// marker may be.
    fn is_own_marker(&self, role: Role) -> bool {
        let Role::Marker(position) = role else { return false };
        let closers = &self.reading.closers;
        let is_known = self.read_of.is_some() && !closers.is_empty();
        !is_known || closers.iter().any(|set| set & bit(position) != 0)
    }

    /// Returns the files that are a marker by another rule only.
    fn foreign_markers(&self) -> Vec<SourcePath> {
        let foreign = self.markers.iter();
        let foreign = foreign.filter(|(_, position)| !self.is_own_marker(Role::Marker(**position)));
        foreign.map(|(path, _)| path.clone()).collect()
    }

    fn has_markers(&self, there: u64) -> bool {
        let closers = &self.reading.closers;
        closers.is_empty() || closers.iter().any(|set| there & set == *set)
    }

    /// Says why an open run is not closed, when something is missing.
    fn wait_reason(&self, drop: &DirectorySettings, now: Now) -> Option<String> {
        let (last, closing) = (self.last?, drop.closing);
        if drop.needs_words && self.read_of.is_some() && !self.reading.is_identified {
            return Some("nothing is sent before the file that names the run is whole".into());
        }
        if let Some(first) = self.reading.missing.first() {
            return Some(format!("its manifest lists {first}, which is not there"));
        }
        if self.has_markers(last.markers) {
            return self.reading.notes.first().cloned();
        }
        let marker = &self.reading.waits_for;
        let age = self.row.opened_at.until(now.wall);
        if age < closing.stale_after {
            return Some(format!("waits for {marker}"));
        }
        let hours = closing.stale_after.as_secs() / 3600;
        Some(format!("no {marker} for more than {hours} h: has the run been broken off?"))
    }
}

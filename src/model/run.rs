//! Runs: which files belong together, when they are all there, what the run's own files say about it.
//!
//! A *run* is one run folder, one cell of it, or a single file, and is named by its path below the
//! drop directory.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bytes::ByteCount;
use super::file::{Fingerprint, SourcePath};
use super::id::{DirectoryName, UploadId};
use super::ledger::{LedgerNumbers, LineRef};
use super::shown::Shown;
use super::time::WallTime;
use super::words::words;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    File,
    /// Each directory: those at the top, or where the profile says.
    Directory,
}

/// The role of a file in its run, by its path alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    Plain,
    /// Rewritten while the run is open: sent after it is closed.
    Held,
    /// A marker, by its position in the profile's list (at most 63): sent after all other files.
    Marker(u8),
}

/// A file's position among others, by its path alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// How many bytes of the path name its run; all of them where the file is its own run.
    pub run_length: u32,
    /// Smaller goes first within a drop directory.
    pub rank: u32,
    pub role: Role,
}

impl Place {
    /// Returns the place of a single file.
    pub fn alone(path: &SourcePath) -> Self {
        Self { run_length: length(path.as_bytes()), rank: 0, role: Role::Plain }
    }

    /// Returns the name of the run of the file at `path`.
    pub fn run(&self, path: &SourcePath) -> SourcePath {
        let bytes = path.as_bytes();
        let end = (self.run_length as usize).min(bytes.len());
        if end == bytes.len() { path.clone() } else { SourcePath::from_bytes(&bytes[..end]) }
    }

    /// Returns whether the file is its own run.
    pub fn is_alone(&self, path: &SourcePath) -> bool {
        self.run_length as usize >= path.as_bytes().len()
    }
}

/// What one scan saw of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunTally {
    pub count: u64,
    pub bytes: u64,
    /// A sum over all files that does not depend on their order.
    pub sum: u64,
}

impl RunTally {
    pub fn add(&mut self, path: &SourcePath, version: &Fingerprint) {
        let mut hasher = DefaultHasher::new();
        // A link, a mode or another inode after a remount is no change of content.
        (path.as_bytes(), version.size.0, version.mtime_ns).hash(&mut hasher);
        self.merge(&Self { count: 1, bytes: version.size.0, sum: hasher.finish() });
    }

    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// Returns a path's length; a path longer than the system allows never gets here.
pub(crate) fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

words! {
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum RunState {
        /// Files may still come.
        Open = "open";
        /// Its writer has finished, as its markers or a period without change show.
        Closed = "closed";
        /// Every file of it is at every destination, with its receipt.
        Completed = "completed";
        /// It was removed before it was completed.
        Gone = "gone";
        /// A rule of its profile excludes it: nothing of it is sent.
        Skipped = "skipped";
    }
}

words! {
    /// Why a run is open, not completed, or skipped.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum RunWait {
        MarkerMissing = "marker-missing", "a run is open until its marker is there";
        ManifestIncomplete = "manifest-incomplete", "a run is open until all that its manifest lists is there";
        Unnamed = "run-unnamed", "a run waits for the file that names it";
        StillChanging = "still-changing", "a run is open for it changes again and again";
        Unread = "run-unread", "a part of a run, or a list in it, cannot be read";
        CopyOf = "copy-of", "a run is the same run of the instrument as another one, which is under way";
        CameLate = "came-late", "files came after the run was closed";
        LeftOut = "left-out", "a rule of the profile leaves the run out";
    }
}

/// What a run waits for, or its problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReason {
    pub code: RunWait,
    /// The same for people, with names.
    pub text: String,
}

impl RunReason {
    pub fn new(code: RunWait, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// What a run's own files and its name say about it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunReading {
    /// `{run_id}`, `{instrument}`, `{flowcell}`, `{date}`, `{sample}`, as far as they are known.
    pub words: BTreeMap<String, String>,
    /// Samples of its sample sheet, whose names begin the names of their files.
    pub samples: Vec<String>,
    /// The files that identify the run were complete: reading them again would give the same.
    pub is_identified: bool,
    /// Marker sets that close it, each as positions in the profile's list; any one of the sets
    /// suffices. Empty when the profile has none and it closes after a period without change.
    pub closers: Vec<u64>,
    /// Optional markers: while none of them is there, the closing time is multiplied by this.
    pub sooner_with: u64,
    pub patience: u32,
    /// The missing markers for people: `CopyComplete.txt`.
    pub waits_for: String,
    pub outcome: Option<RunOutcome>,
    /// Missing files that a manifest of the run lists; the first few.
    pub missing: Vec<String>,
    /// What could not be read, for people: a list that is too long.
    pub notes: Vec<String>,
    pub late: LateMarkers,
    pub skip: SkipVerdict,
}

/// What a run's waves of late files wait for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LateMarkers {
    /// The markers that end a wave, as positions in the profile's list.
    pub ends: u64,
    /// Missing markers of waves whose files are there.
    pub missing: Vec<String>,
}

/// Whether a rule of its profile skips a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SkipVerdict {
    #[default]
    No,
    /// The deciding file is not there yet.
    Undecided,
    /// It is skipped, and why.
    Yes(String),
}

impl SkipVerdict {
    /// Returns why the run is skipped; `None` where it is not, as far as is known.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Yes(reason) => Some(reason),
            Self::No | Self::Undecided => None,
        }
    }
}

impl RunReading {
    /// Returns the sample of a file: the longest one of the sheet that, followed by `_` or `.`,
    /// begins the file's name; else the run's own.
    pub fn sample_of(&self, file_name: &[u8]) -> Option<&str> {
        let begins = |sample: &&String| {
            let rest = file_name.strip_prefix(sample.as_bytes());
            !sample.is_empty() && rest.is_some_and(|rest| matches!(rest.first(), Some(b'_' | b'.')))
        };
        let longest = self.samples.iter().filter(begins).max_by_key(|sample| sample.len());
        longest.or_else(|| self.words.get("sample")).map(String::as_str)
    }
}

/// The order that closed a run whose markers or listed files were missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedByHand {
    /// Who ordered it: `uid 1000`.
    pub by: String,
    /// What the run waited for; the first few.
    pub missing: Vec<String>,
}

impl std::fmt::Display for ClosedByHand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "closed by hand ({})", self.by)?;
        match self.missing.is_empty() {
            true => Ok(()),
            false => write!(f, " without {}", Shown(&self.missing.join(", "))),
        }
    }
}

/// The outcome of a run, in the sequencer's own word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunOutcome {
    /// The word: `RunCompleted`, `OutcomeFailed`.
    pub word: String,
    pub is_success: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRow {
    pub drop: DirectoryName,
    /// The first name it was seen with, which identifies it everywhere.
    pub name: SourcePath,
    /// The current name of its directory, where it was renamed since.
    pub name_now: Option<SourcePath>,
    pub state: RunState,
    pub reason: Option<RunReason>,
    pub files: RunFiles,
    pub opened_at: WallTime,
    pub closed_at: Option<WallTime>,
    pub completion: RunCompletion,
    pub outcome: Option<RunOutcome>,
    /// `None` where markers or a period without change closed it.
    pub closed_by_hand: Option<ClosedByHand>,
    /// It has been open for longer than runs of its kind are.
    pub is_stale: bool,
}

/// Files of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFiles {
    /// Their number and size at the last scan.
    pub count: u64,
    pub size: ByteCount,
    /// Their number when the run closed.
    pub closed_count: u64,
    /// Abandoned uploads of them.
    pub given_up_count: u64,
}

/// What proves that a run was completed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunCompletion {
    /// How often it was completed: late files complete it again.
    pub generation: u32,
    /// When it was last completed.
    pub at: Option<WallTime>,
    /// The line that states it.
    pub receipt: Option<LineRef>,
    pub ledgers: LedgerNumbers,
}

impl RunRow {
    /// Returns the row of a run that was first seen at `at`.
    pub fn opened(drop: DirectoryName, name: SourcePath, at: WallTime) -> Self {
        Self {
            drop,
            name,
            name_now: None,
            state: RunState::Open,
            reason: None,
            files: RunFiles::default(),
            opened_at: at,
            closed_at: None,
            completion: RunCompletion::default(),
            outcome: None,
            closed_by_hand: None,
            is_stale: false,
        }
    }

    /// Returns whether it was completed after it was closed: further files belong to a wave.
    pub fn is_late(&self) -> bool {
        self.completion.at.is_some() && self.completion.at >= self.closed_at
    }

    /// Returns how many files came after it was closed.
    pub fn late_count(&self) -> u64 {
        match self.closed_at {
            Some(_) => self.files.count.saturating_sub(self.files.closed_count),
            None => 0,
        }
    }
}

/// A run whose directory was found under another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenamedRun {
    pub run: SourcePath,
    /// `None` where it has its first name again, or is gone.
    pub name_now: Option<SourcePath>,
}

impl RenamedRun {
    /// Returns the path on disk of a path by the run's first name.
    pub fn on_disk(&self, path: &[u8]) -> Vec<u8> {
        let rest = path.strip_prefix(self.run.as_bytes());
        match self.name_now.as_ref().zip(rest) {
            Some((now, rest)) => [now.as_bytes(), rest].concat(),
            None => path.to_vec(),
        }
    }
}

/// What identifies a run under another name.
#[derive(Debug, Clone, Default)]
pub struct RunTrace {
    /// Some of its files, in the versions that were admitted.
    pub files: Vec<(SourcePath, Fingerprint)>,
    /// The instrument's name of it.
    pub run_id: Option<String>,
}

/// One file at one destination that has a receipt.
#[derive(Debug, Clone)]
pub struct RunFile {
    pub upload: UploadId,
    pub drop: String,
    pub path: SourcePath,
    pub destination: String,
}

/// What happens to a source when its run is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Disposition {
    Keep,
    /// It is moved below this directory.
    Move(String),
    Delete,
}

/// Digests of whole files, for receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WholeDigest {
    Md5,
    Sha256,
}

/// A disposal to carry out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disposal {
    pub drop: DirectoryName,
    pub run: SourcePath,
    pub is_file: bool,
    pub due: WallTime,
    /// It was decided, and may have been carried out in part.
    pub is_intended: bool,
}

/// When files of a run are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// As they settle, except files that are rewritten throughout the run.
    AsFilesSettle,
    WhenRunClosed,
}

/// How the runs of a drop directory are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The profile reads the run's own files; otherwise it closes after a period without change.
    pub reads_runs: bool,
    /// Its files may decide that it is skipped: nothing is sent before they are read.
    pub may_skip: bool,
    /// A directory that people call a run holds several of our runs.
    pub has_groups: bool,
    /// Files of a run identify it among the instrument's runs: nothing is sent before they are read.
    pub tells_runs_apart: bool,
    /// How long the run must be unchanged.
    pub quiet: Duration,
    /// A run that is open for longer is reported as stale.
    pub stale_after: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_another_one_by_paths_sizes_and_times_of_modification_alone() {
        let sum = |path: &[u8], version: Fingerprint| {
            let mut tally = RunTally::default();
            tally.add(&SourcePath::from_bytes(path), &version);
            tally.sum
        };
        let (size, ctime_ns) = (ByteCount(1), Some(4));
        let version = Fingerprint { device: 1, inode: 2, size, mtime_ns: 3, ctime_ns };
        let linked = Fingerprint { inode: 9, ctime_ns: Some(9), ..version };
        assert_eq!(sum(b"run/a", version), sum(b"run/a", linked));
        let others = [
            sum(b"run/b", version),
            sum(b"run/a", Fingerprint { size: ByteCount(2), ..version }),
            sum(b"run/a", Fingerprint { mtime_ns: 4, ..version }),
        ];
        assert!(others.iter().all(|other| *other != sum(b"run/a", version)));
    }

    #[test]
    fn longest_sample_that_begins_the_name_is_meant() {
        let samples = ["NA12878", "NA12878_2", "S", ""].map(str::to_owned).to_vec();
        let mut reading = RunReading { samples, ..RunReading::default() };
        let table: [(&[u8], Option<&str>); 8] = [
            (b"NA12878_S1_L001_R1_001.fastq.gz", Some("NA12878")),
            (b"NA12878_2_S2_L001_R1_001.fastq.gz", Some("NA12878_2")),
            (b"NA12878.bam", Some("NA12878")),
            (b"NA12878", None),
            (b"NA128789_S1.bam", None),
            (b"Undetermined_S0.fastq.gz", None),
            (b"S_\xff.bam", Some("S")),
            (b"_x", None),
        ];
        for (name, expected) in table {
            assert_eq!(reading.sample_of(name), expected, "{name:?}");
        }
        reading.words.insert("sample".into(), "pool".into());
        assert_eq!(reading.sample_of(b"Undetermined_S0.fastq.gz"), Some("pool"));
        assert_eq!(reading.sample_of(b"S_1.bam"), Some("S"));
    }
}

//! What a start loads from the rows for the engine.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Admission, DestinationName, DirectoryName, Disposal, IgnoreReason, KnownFile, Learned,
    OpenCleanup, PartState, PathDigest, RunRow, Scope, SourcePath, Standing, StoredNotices,
    StoredRoot, TargetAddress, TargetId, UploadId, UploadState, WallTime,
};

/// What was stored when the daemon started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredState {
    /// Uploads that have not ended; where more follows, without those that are only queued.
    pub uploads: Vec<StoredUpload>,
    /// More follows, in [`StoredRows`]. Until the last of it, no drop directory is scanned and
    /// nothing counts as ended.
    pub follows: bool,
    pub targets: StoredTargets,
    /// Runs whose end was not reported to the platform.
    pub open_runs: Vec<RunEndKey>,
    pub runs: Vec<StoredRun>,
    /// Sources that are to be disposed of.
    pub disposals: Vec<Disposal>,
    /// Paths that are not uploaded.
    pub ignored: Vec<StoredIgnored>,
    pub roots: Vec<StoredRoot>,
    /// The directories that drop directory names meant, each from an upload on.
    pub directories: Vec<(DirectoryName, UploadId, String)>,
    /// Notices to be sent.
    pub notices: StoredNotices,
    /// What operators ordered, and since when.
    pub orders: Vec<(Standing, Scope, WallTime)>,
    /// The id after the last one that was given out.
    pub next_upload: Option<UploadId>,
}

/// What follows the first load, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoredRows {
    /// Rows of drop directories that a new configuration adds, without uploads and files.
    Directories(Box<StoredState>),
    /// Uploads that are queued, and nothing more.
    Uploads(Vec<StoredUpload>),
    /// Versions whose upload is receipted or abandoned, at each destination, for files with another
    /// open upload; in the order of their uploads, because destinations may have different
    /// versions.
    Known(Vec<KnownFile>),
    /// The last portion was loaded.
    End,
}

/// One upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredUpload {
    /// The frozen admission, with its current name.
    pub admission: Admission,
    /// Its progress.
    pub state: UploadState,
    /// Its parts in order, when it has a layout.
    pub parts: Vec<PartState>,
    /// The upload that holds the place it waits for.
    pub waits_for: Option<UploadId>,
}

/// The targets of destinations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTargets {
    /// All targets, past and present.
    pub known: Vec<(TargetId, TargetAddress)>,
    /// The targets that each destination had: its current one first.
    pub in_force: Vec<(DestinationName, Vec<TargetId>)>,
    /// What answers have shown about targets.
    pub learned: Vec<(TargetId, Learned)>,
    /// Remote uploads to remove.
    pub cleanups: Vec<OpenCleanup>,
}

/// One run at one destination, whose end must be reported to the platform.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunEndKey {
    pub destination: DestinationName,
    pub drop: DirectoryName,
    /// The run's name: its top folder at the destination.
    pub name: String,
}

/// One run, with what its files say about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRun {
    pub row: RunRow,
    pub words: BTreeMap<String, String>,
    pub samples: Vec<String>,
}

/// One path that is not uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredIgnored {
    pub drop: DirectoryName,
    pub path: PathDigest,
    pub reason: IgnoreReason,
    /// Its path, where it is a directory that may not be read.
    pub unreadable: Option<SourcePath>,
}

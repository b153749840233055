//! What a start reads of the rows, and gives to the engine.

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
    /// Uploads that have not ended; where more follows, those that are more than queued.
    pub uploads: Vec<StoredUpload>,
    /// More follows, in [`StoredRows`]. Until the last of them nothing is looked for in drop directories
    /// and nothing is taken to be at its end.
    pub follows: bool,
    pub targets: StoredTargets,
    /// Runs whose end a platform has not been called for.
    pub open_runs: Vec<RunEndKey>,
    pub runs: Vec<StoredRun>,
    /// Sources that are to be disposed of.
    pub disposals: Vec<Disposal>,
    /// Paths that are not uploaded.
    pub ignored: Vec<StoredIgnored>,
    pub roots: Vec<StoredRoot>,
    /// The directories that the names of drop directories stood for, each from an upload on.
    pub directories: Vec<(DirectoryName, UploadId, String)>,
    /// Notices that are still to be sent.
    pub notices: StoredNotices,
    /// What operators ordered, and since when.
    pub orders: Vec<(Standing, Scope, WallTime)>,
    /// The id after the last one ever given.
    pub next_upload: Option<UploadId>,
}

/// What is stored and follows a start, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoredRows {
    /// What belongs to drop directories that another configuration put in, uploads and files excepted.
    Directories(Box<StoredState>),
    /// Uploads that are queued, and nothing more.
    Uploads(Vec<StoredUpload>),
    /// Versions of files whose upload ended well or was given up, at each destination, where another
    /// upload of the file is open; in the order of their uploads, for destinations may be at different
    /// versions.
    Known(Vec<KnownFile>),
    /// That was all.
    End,
}

/// One upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredUpload {
    /// What was frozen at admission, with the name in force.
    pub admission: Admission,
    /// How far it is.
    pub state: UploadState,
    /// Its parts in order, when it has a layout.
    pub parts: Vec<PartState>,
    /// The upload whose place it waits for.
    pub waits_for: Option<UploadId>,
}

/// The targets of destinations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredTargets {
    /// Every target that was ever known.
    pub known: Vec<(TargetId, TargetAddress)>,
    /// The targets that each destination had: its own first.
    pub in_force: Vec<(DestinationName, Vec<TargetId>)>,
    /// What the answers of destinations have shown of their targets.
    pub learned: Vec<(TargetId, Learned)>,
    /// Remote uploads to remove.
    pub cleanups: Vec<OpenCleanup>,
}

/// One run at one destination, which the platform is to be told the end of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunEndKey {
    pub destination: DestinationName,
    pub drop: DirectoryName,
    /// The run's name, which is its top folder there.
    pub name: String,
}

/// One run, with what its files say of it.
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

//! What a start reads, and how it reaches the machines: memory is built again from rows.

use serde::{Deserialize, Serialize};

use super::dispatch::{Dispatch, ToIntake, ToTransfers};
use super::intake::StoredPart;
use super::transfers::Upload;
use super::{RunEndKey, StoredRun};
use crate::model::{
    Admission, DestinationName, DirectoryName, Disposal, IgnoreReason, KnownFile, Learned,
    OpenCleanup, PartState, PathDigest, Scope, SourcePath, Standing, StoredNotices, StoredRoot,
    TargetAddress, TargetId, UploadId, UploadState, WallTime,
};

/// What the store holds, as the engine is told at start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Uploads that have not ended; where more follows, those that are more than queued.
    pub uploads: Vec<StoredUpload>,
    /// More follows, in [`Portion`]s. Until the last one nothing is looked for in drop directories and
    /// nothing is said to be at its end.
    pub follows: bool,
    /// Remote uploads to remove.
    pub cleanups: Vec<OpenCleanup>,
    /// Every target that was ever known.
    pub targets: Vec<(TargetId, TargetAddress)>,
    /// The targets that each destination had.
    pub in_force: Vec<(DestinationName, Vec<TargetId>)>,
    /// What the answers of destinations have shown of their targets.
    pub learned: Vec<(TargetId, Learned)>,
    /// Drops whose end a platform is still to be told.
    pub open_drops: Vec<RunEndKey>,
    pub runs: Vec<StoredRun>,
    /// Sources that are to be disposed of.
    pub disposals: Vec<Disposal>,
    /// Paths that are not uploaded.
    pub ignored: Vec<(DirectoryName, PathDigest, IgnoreReason)>,
    /// Of these, directories that may not be read.
    pub unreadable: Vec<(DirectoryName, SourcePath)>,
    pub roots: Vec<StoredRoot>,
    /// What people are still to be told.
    pub notices: StoredNotices,
    /// What operators ordered, and since when.
    pub orders: Vec<(Standing, Scope, WallTime)>,
    /// The id after the last one ever given.
    pub next_upload: Option<UploadId>,
}

/// What is stored and follows the start, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Portion {
    /// Drop directories that another configuration put in: their runs, disposals and ignored paths.
    Drops(Box<Stored>),
    /// Uploads that are queued, and nothing more.
    Uploads(Vec<StoredUpload>),
    /// Versions of files whose upload ended well or was given up, at each destination, where another
    /// upload of the file is open; in the order of their uploads, for destinations may be at different
    /// versions.
    Known(Vec<KnownFile>),
    /// That was all.
    End,
}

/// One upload as it was stored.
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

/// Says to the drop directories what is stored of them. Disposals are left: uploads come before them.
pub(super) fn directories(stored: Stored) -> impl Iterator<Item = Dispatch> {
    let ignored = stored
        .ignored
        .into_iter()
        .map(|(drop, path, reason)| part(drop, StoredPart::Ignored(path, reason)));
    let unreadable = stored.unreadable.into_iter();
    let unreadable =
        unreadable.map(|(drop, path)| part(drop, StoredPart::UnreadableDirectory(path)));
    let runs = stored
        .runs
        .into_iter()
        .map(|run| part(run.row.drop.clone(), StoredPart::Run(Box::new(run))));
    ignored.chain(unreadable).chain(runs)
}

/// Says to the drop directories what they have to dispose of.
pub(super) fn disposals(disposals: Vec<Disposal>) -> impl Iterator<Item = Dispatch> {
    let disposals = disposals.into_iter();
    disposals.map(|what| part(what.drop.clone(), StoredPart::Disposal(what)))
}

/// Says to the destinations which uploads they have.
pub(super) fn uploads(uploads: Vec<StoredUpload>) -> impl Iterator<Item = Dispatch> {
    uploads.into_iter().map(|stored| {
        let destination = stored.admission.destination.clone();
        let load = ToTransfers::Load(Box::new(Upload::restored(stored)));
        Dispatch::Transfers(destination, load)
    })
}

fn part(drop: DirectoryName, part: StoredPart) -> Dispatch {
    Dispatch::Intake(drop, ToIntake::Load(part))
}

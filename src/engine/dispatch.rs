//! The messages between the machines of the engine.
//!
//! A machine returns messages from its step; the engine delivers them after the step, in order,
//! each with all its consequences before the next. So no machine holds another one, and none
//! changes in the middle of its own step.

use super::claims::PlaceDigest;
use super::intake::{StoredPart, UploadEnd};
use super::transfers::{Sentinel, Settled, Upload};
use crate::model::{
    AdmittedFile, ByteCount, DestinationName, DirectoryName, DisposalDoubt, Fact, NameDecision,
    OpenCleanup, RunEndKey, RunRow, SourcePath, Space, UploadId,
};

/// A message with its receiver.
#[derive(Debug)]
pub(super) enum Dispatch {
    Intake(DirectoryName, ToIntake),
    Transfers(DestinationName, ToTransfers),
    /// To the destination that owns the upload; dropped once the upload has ended.
    Upload(UploadId, ToUpload),
    Notices(ToNotices),
    UploadEnded(UploadFile, UploadEnd),
    /// An upload was abandoned; it ends once it is known what was begun for it.
    UploadGivenUp(UploadId),
    /// A place is free: the upload that has waited longest for it gets it.
    PlaceFreed(PlaceDigest),
    /// The rows of uploads that wait for a place must name its holder.
    PlaceTaken(PlaceDigest),
    /// The file of this upload is missing; a move is searched for once all rows are loaded.
    SourceMissing(UploadId),
    /// A drop directory was unreadable and can be read again.
    DirectoryBack(DirectoryName),
}

/// Messages to a drop directory.
#[derive(Debug)]
pub(super) enum ToIntake {
    ScanNow,
    /// These paths may have changed.
    Hint(Vec<SourcePath>),
    /// A file that is being sent could not be opened, because it does not exist.
    Missed(SourcePath),
    /// A stored part of its state.
    Load(StoredPart),
    /// Everything known about it will be read again.
    Forget,
    /// The operator accepts the other directory at its path.
    AcceptRoot,
    /// Its health may have changed.
    WriteHealth,
    Admitted(UploadFile),
    /// An upload of a file is open.
    Joined(UploadFile),
    /// A file was touched while it was sent, and its content is what was sent.
    Retouched(UploadFile),
    GivenUp(UploadFile),
    /// An upload has ended: its run may continue.
    Left(UploadFile),
    /// What the end of an upload means for its file.
    Ended(UploadFile, UploadEnd),
}

/// Messages to a destination.
#[derive(Debug)]
pub(super) enum ToTransfers {
    Admit(Settled),
    AdmitSentinel(Sentinel),
    Load(Box<Upload>),
    /// A run that is open at its platform.
    LoadRun(RunEndKey),
    QueueCleanup(OpenCleanup),
    /// Its wait ends, also a pause that the platform asked for.
    Lift,
}

/// Messages to an upload.
#[derive(Debug, Clone)]
pub(super) enum ToUpload {
    /// Its file is another version.
    Changed,
    /// A scan saw its file; a look checks whether it can be opened.
    Seen(SourcePath),
    Readable,
    SourceGone,
    /// Its file may be under another path.
    EndIfMoved,
    /// The reason why it waits may have changed.
    Place,
    Claim,
    /// This upload holds its place.
    AwaitPlace(UploadId),
    /// Its drop directory or destination may have been added to or removed from the configuration.
    ParkOrRelease,
    /// Its destination may have another target.
    Retarget,
    /// If its place turns out to belong to another upload, it begins again later.
    RestartWaiting,
    JoinRun,
    /// Its drop directory and its run are known again.
    Rejoin,
    /// An operator retries it at once.
    Retry,
    /// An operator decided about its name.
    Decide(NameDecision),
    GiveUp,
    /// Bytes of it are in flight.
    InFlight(ByteCount),
    Record(Fact),
}

/// Input of the notices.
#[derive(Debug)]
pub(super) enum ToNotices {
    /// A run, or a file that is a run of its own, was completed by this upload.
    RunCompleted { row: Box<RunRow>, destinations: Vec<DestinationName>, upload: Option<UploadId> },
    /// Why a run that is to be disposed of is kept; `None` when the doubt is gone.
    Doubt { drop: DirectoryName, run: SourcePath, doubt: Option<DisposalDoubt> },
    /// The free space on the file system of a drop directory.
    Space { directory: String, drop: DirectoryName, space: Option<Space> },
    /// A destination accepts calls.
    DestinationAnswered(DestinationName),
    /// Waiting notices are sent at once.
    Retry,
}

impl Dispatch {
    /// Sends the same message to several uploads.
    pub(super) fn uploads(
        ids: impl IntoIterator<Item = UploadId>,
        what: ToUpload,
    ) -> impl Iterator<Item = Self> {
        ids.into_iter().map(move |id| Self::Upload(id, what.clone()))
    }
}

/// What a drop directory knows about an upload.
#[derive(Debug, Clone)]
pub(super) struct UploadFile {
    pub(super) id: UploadId,
    pub(super) file: AdmittedFile,
    pub(super) destination: DestinationName,
}

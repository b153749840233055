//! What the machines of the engine say to each other.
//!
//! A machine that takes a step says what concerns others; the engine delivers it once the step has ended, in
//! order, and each with all that follows from it before the next. So no machine holds another one, and none
//! changes in the middle of its own step.

use super::claims::PlaceDigest;
use super::intake::{StoredPart, UploadEnd};
use super::transfers::{Sentinel, Settled, Upload};
use crate::model::{
    AdmittedFile, ByteCount, DestinationName, DirectoryName, DisposalDoubt, Fact, NameDecision,
    OpenCleanup, RunEndKey, RunRow, SourcePath, Space, UploadId,
};

/// What is said, and to whom.
#[derive(Debug)]
pub(super) enum Dispatch {
    Intake(DirectoryName, ToIntake),
    Transfers(DestinationName, ToTransfers),
    /// To the destination that has the upload; to none once it has ended.
    Upload(UploadId, ToUpload),
    Notices(ToNotices),
    UploadEnded(UploadFile, UploadEnd),
    /// An upload was given up, and ends once it is known what was begun for it.
    UploadGivenUp(UploadId),
    /// A place was given up: the upload that has waited longest for it has it from here on.
    PlaceFreed(PlaceDigest),
    /// The rows of the uploads that wait for a place name the one that holds it.
    PlaceTaken(PlaceDigest),
    /// The file of this upload is not there; whether it stands elsewhere is found out once all is loaded.
    SourceMissing(UploadId),
    /// A drop directory was away and can be read again.
    DirectoryBack(DirectoryName),
}

/// Messages to a drop directory.
#[derive(Debug)]
pub(super) enum ToIntake {
    ScanNow,
    /// Something may have happened at these paths.
    Hint(Vec<SourcePath>),
    /// A file that is being sent could not be opened, for it is not there.
    Missed(SourcePath),
    /// Something that is stored of it.
    Load(StoredPart),
    /// Everything that is known of it is read again.
    Forget,
    /// The other directory that stands at its path is accepted.
    AcceptRoot,
    /// Its health may be another one.
    WriteHealth,
    Admitted(UploadFile),
    /// An upload of a file has not ended.
    Joined(UploadFile),
    /// A file was touched while it was sent, and is what was sent.
    Retouched(UploadFile),
    GivenUp(UploadFile),
    /// An upload has ended: its run may go on.
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
    /// Its wait is over, also where the far side asked for it.
    Lift,
}

/// Messages to an upload.
#[derive(Debug, Clone)]
pub(super) enum ToUpload {
    /// Its file is another version.
    Changed,
    /// A scan saw its file; whether it can be opened, a look tells.
    Seen(SourcePath),
    Readable,
    SourceGone,
    /// Its file may stand under another path.
    EndIfMoved,
    /// What holds it up may be another thing than before.
    Place,
    Claim,
    /// The upload that holds its place is this one.
    AwaitPlace(UploadId),
    /// Its drop directory or its destination may be configured, or not any more.
    ParkOrRelease,
    /// Its destination may have another target.
    Retarget,
    /// What was begun for it begins again where its place turns out to be another one's.
    RestartWaiting,
    JoinRun,
    /// Its drop directory and its run are known again.
    Rejoin,
    /// An operator has it tried at once.
    Retry,
    /// An operator decided about its name.
    Decide(NameDecision),
    GiveUp,
    /// Bytes of it are in flight.
    InFlight(ByteCount),
    Record(Fact),
}

/// What people may have to be notified of.
#[derive(Debug)]
pub(super) enum ToNotices {
    /// A run was completed, or a file that is a run of its own, by this upload.
    RunCompleted { row: Box<RunRow>, destinations: Vec<DestinationName>, upload: Option<UploadId> },
    /// A run that is to be disposed of stays; nothing speaks against it any more where there is no doubt.
    Doubt { drop: DirectoryName, run: SourcePath, doubt: Option<DisposalDoubt> },
    /// The room on the file system of a drop directory.
    Space { directory: String, drop: DirectoryName, space: Option<Space> },
    /// A destination accepts calls.
    DestinationAnswered(DestinationName),
    /// Notices that wait are sent at once.
    Retry,
}

impl Dispatch {
    /// Says the same to several uploads.
    pub(super) fn uploads(
        ids: impl IntoIterator<Item = UploadId>,
        what: ToUpload,
    ) -> impl Iterator<Item = Self> {
        ids.into_iter().map(move |id| Self::Upload(id, what.clone()))
    }
}

/// What drop directories know of an upload.
#[derive(Debug, Clone)]
pub(super) struct UploadFile {
    pub(super) id: UploadId,
    pub(super) file: AdmittedFile,
    pub(super) destination: DestinationName,
}

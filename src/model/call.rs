//! The remote operations, as data: what is asked of a destination, and what it replies.
//!
//! Each operation is described at the trait that platforms implement (`platform/contract.rs`). The engine
//! makes a [`Call`], or a [`PutRequest`] where bytes of a file go with it; `platform::call` and
//! `platform::put` make them, for the daemon and for the simulation; a [`Reply`] comes back. None of
//! them holds an address or a credential.

use super::{
    ByteCount, Completion, Description, ETag, ExportId, ExportItem, ExportJob, ExportMode,
    ExportState, Failure, FailureKind, PartNumber, PartSize, RemoteFile, RemoteFileId, RemotePart,
    RemoteUpload, RemoteUploadId, Stored, Target, WallTime,
};

/// One remote operation with all that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Asks whether the credential is accepted and lets us write to the target.
    CheckAccess,
    /// Looks a file up by its place and name.
    Locate(Target),
    /// Asks for a remote upload.
    Begin(BeginRequest),
    /// Looks for unfinished remote uploads of ours.
    FindBegun {
        /// What was to be begun.
        request: BeginRequest,
        /// Not before this time, by our clock.
        since: WallTime,
    },
    /// Asks which parts the platform knows.
    ListParts(RemoteUpload),
    /// Tells the platform about accepted parts.
    ReportParts {
        /// The upload of the parts.
        remote: RemoteUpload,
        /// What the storage said about each part.
        parts: Vec<RemotePart>,
    },
    /// Asks the platform to put the parts together.
    Complete(CompleteRequest),
    /// Asks whether the parts were put together.
    FindCompleted(CompleteRequest),
    /// Asks about a file by its id.
    Inspect(RemoteFileId),
    /// Reads a file back, and digests it.
    ReadBack {
        /// The file.
        file: RemoteFileId,
        /// Length of the parts over which its digest is taken.
        part_size: PartSize,
    },
    /// Sets metadata and tags.
    Describe {
        /// The file.
        file: RemoteFileId,
        /// Its metadata and tags.
        description: Description,
    },
    /// Looks for jobs that export these files.
    FindExports(Vec<ExportItem>),
    /// Starts jobs that export these files.
    StartExports {
        /// The files, and where each goes.
        items: Vec<ExportItem>,
        /// How they are exported.
        mode: ExportMode,
    },
    /// Asks for the state of these jobs.
    PollExports(Vec<ExportId>),
    /// Tells the platform that a run is complete, by the name of its top folder.
    FinishRun(String),
    /// Removes an unfinished remote upload.
    Abort(RemoteUploadId),
}

/// What is asked for at begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginRequest {
    /// Where the file shall stand.
    pub target: Target,
    /// Its length.
    pub size: ByteCount,
    /// The part size we wish for.
    pub part_size: PartSize,
    /// Replace a file of that name.
    pub overwrite: bool,
    /// Metadata and tags, where [`Describes::AtBegin`](crate::model::Describes::AtBegin).
    pub description: Description,
    /// A text that no other upload of ours carries, the same each time this one is begun: letters,
    /// digits and dashes.
    pub token: String,
    /// A damaged file that this upload made stands there: it is replaced, as long as it has this ETag.
    pub replaces: Option<ETag>,
}

impl BeginRequest {
    /// Returns how many parts the file makes of the size that we wish for.
    ///
    /// # Errors
    /// `BadRequest` when they are more than can be counted.
    pub fn part_count(&self) -> Result<u32, Failure> {
        let many = || Failure::new(FailureKind::BadRequest, "the file makes too many parts");
        self.part_size.count_for(self.size).ok_or_else(many)
    }

    /// Returns the upload of that id, in parts of the size that we wish for, in any order.
    ///
    /// # Errors
    /// As [`Self::part_count`].
    pub fn remote(&self, id: RemoteUploadId) -> Result<RemoteUpload, Failure> {
        let (part_size, part_count) = (self.part_size, self.part_count()?);
        Ok(RemoteUpload { id, part_size, part_count, sequential: false })
    }
}

/// What is asked for at complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteRequest {
    /// The remote upload.
    pub remote: RemoteUpload,
    /// Every part with its ETag, in order.
    pub parts: Vec<RemotePart>,
    /// What was asked for when it was begun.
    pub begun: BeginRequest,
    /// When completing was decided, by our clock.
    pub since: WallTime,
}

/// One operation that bytes of a file go with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutRequest {
    /// Sends one part.
    Part(PartRequest),
    /// Sends a file of one part, which makes it.
    Whole(WholeRequest),
}

/// Which part of which upload is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartRequest {
    /// The remote upload.
    pub remote: RemoteUpload,
    /// The part.
    pub part: PartNumber,
    /// What was asked for when it was begun, where the upload has no other part: sending it may make the
    /// file.
    pub begun: Option<BeginRequest>,
}

impl PartRequest {
    /// Returns what was asked for at begin, for an upload of one part.
    ///
    /// # Errors
    /// `LocalFault` when the upload has more parts.
    pub fn only(&self) -> Result<&BeginRequest, Failure> {
        let more = || Failure::new(FailureKind::LocalFault, "the part is not the whole file");
        self.begun.as_ref().ok_or_else(more)
    }
}

/// A file that is sent in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeRequest {
    /// What is asked for.
    pub begun: BeginRequest,
    /// It is not known whether a file of that name is there.
    pub looks: bool,
}

/// What a platform replied to an operation that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The credential is accepted.
    AccessChecked,
    /// The file of that name, or none.
    Located(Option<RemoteFile>),
    /// The remote upload.
    Begun(RemoteUpload),
    /// Remote uploads that match; the newest first.
    BegunFound(Vec<RemoteUpload>),
    /// The parts that the platform knows, where it can tell.
    PartsListed(Option<Vec<RemotePart>>),
    /// The platform knows of the parts.
    PartsReported,
    /// The file exists.
    Completed(RemoteFile),
    /// What became of a complete.
    CompletionFound(Completion),
    /// The file with that id, or none; where it was read back, with the digest of what was read.
    Inspected(Option<RemoteFile>),
    /// Metadata and tags are set.
    Described,
    /// A job for each item, or none; in order.
    ExportsFound(Vec<Option<ExportJob>>),
    /// A job for each item, or why there is none; in order.
    ExportsStarted(Vec<Result<ExportId, Failure>>),
    /// The state of each job; in order.
    ExportsPolled(Vec<Result<ExportState, Failure>>),
    /// The platform knows that the run is complete.
    RunFinished,
    /// The remote upload is gone.
    Aborted,
    /// The storage took the part.
    PartStored(Stored),
    /// The storage took the file.
    WholeStored(Whole),
}

/// What came of a file that was sent in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// What stands for the upload that was never begun.
    pub remote: RemoteUpload,
    /// What the storage answered to its only part.
    pub stored: Stored,
    /// The file. A size is told only when the answer proves it.
    pub file: RemoteFile,
}

impl Call {
    /// Names it, in stored attempts and while it is in flight.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CheckAccess => "check access",
            Self::Locate(_) => "locate",
            Self::Begin(_) => "begin",
            Self::FindBegun { .. } => "find begun",
            Self::ListParts(_) => "list parts",
            Self::ReportParts { .. } => "report parts",
            Self::Complete(_) => "complete",
            Self::FindCompleted(_) => "find completed",
            Self::Inspect(_) => "inspect",
            Self::ReadBack { .. } => "read back",
            Self::Describe { .. } => "describe",
            Self::FindExports(_) => "find exports",
            Self::StartExports { .. } => "start exports",
            Self::PollExports(_) => "poll exports",
            Self::FinishRun(_) => "finish run",
            Self::Abort(_) => "abort",
        }
    }

    /// Tells whether it changes something at the far side.
    pub fn changes(&self) -> bool {
        match self {
            Self::Begin(_)
            | Self::ReportParts { .. }
            | Self::Complete(_)
            | Self::Describe { .. }
            | Self::StartExports { .. }
            | Self::FinishRun(_)
            | Self::Abort(_) => true,
            Self::CheckAccess
            | Self::Locate(_)
            | Self::FindBegun { .. }
            | Self::ListParts(_)
            | Self::FindCompleted(_)
            | Self::Inspect(_)
            | Self::ReadBack { .. }
            | Self::FindExports(_)
            | Self::PollExports(_) => false,
        }
    }
}

impl PutRequest {
    /// Names it, as [`Call::name`] does.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Part(_) => "put part",
            Self::Whole(_) => "put whole",
        }
    }
}

//! The remote operations, as data: what is asked of a destination, and what it replies.
//!
//! Each operation is described at the trait that platforms implement (`platform/contract.rs`). The engine
//! makes a [`Call`], or a [`PutRequest`] where bytes of a file go with it; `platform::call` and
//! `platform::put` make them, for the daemon and for the simulation; a [`Reply`] comes back. None of
//! them holds an address or a credential.

use serde::{Deserialize, Serialize};

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
    Locate(Target),
    Begin(BeginRequest),
    /// Looks for unfinished remote uploads of ours.
    FindBegun {
        request: BeginRequest,
        /// Not before this time, by our clock.
        since: WallTime,
    },
    ListParts(RemoteUpload),
    ReportParts {
        remote: RemoteUpload,
        parts: Vec<RemotePart>,
    },
    Complete(CompleteRequest),
    FindCompleted(CompleteRequest),
    Inspect(RemoteFileId),
    /// Reads a file back, and digests it.
    ReadBack {
        file: RemoteFileId,
        /// Length of the parts over which its digest is taken.
        part_size: PartSize,
    },
    Describe {
        file: RemoteFileId,
        description: Description,
    },
    /// Gives a file another name in its folder.
    Rename {
        file: RemoteFileId,
        name: String,
    },
    Remove(RemoteFileId),
    FindExports(Vec<ExportItem>),
    StartExports {
        items: Vec<ExportItem>,
        mode: ExportMode,
    },
    PollExports(Vec<ExportId>),
    /// Tells the platform that a run is complete, by the name of its top folder.
    FinishRun(String),
    Abort(RemoteUploadId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BeginRequest {
    pub target: Target,
    pub size: ByteCount,
    pub part_size: PartSize,
    /// Replace a file of that name.
    pub overwrite: bool,
    /// Metadata and tags, where [`Describes::AtBegin`](crate::model::Describes::AtBegin).
    pub description: Description,
    /// A text that no other upload of ours carries, the same each time this one is begun: letters,
    /// digits and dashes.
    pub token: String,
    /// A file of ours that it replaces, as long as that has this ETag: a damaged one that this upload made, or
    /// an earlier version.
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
    pub fn remote(&self, id: RemoteUploadId) -> Result<RemoteUpload, Failure> {
        let (part_size, part_count) = (self.part_size, self.part_count()?);
        Ok(RemoteUpload { id, part_size, part_count, sequential: false })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompleteRequest {
    pub remote: RemoteUpload,
    /// Every part with its ETag, in order.
    pub parts: Vec<RemotePart>,
    pub begun: BeginRequest,
    /// When completing was decided, by our clock.
    pub since: WallTime,
}

/// One operation that bytes of a file go with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutRequest {
    Part(PartRequest),
    /// Sends a file of one part, which makes it.
    Whole(WholeRequest),
}

/// Which part of which upload is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartRequest {
    pub remote: RemoteUpload,
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
    pub begun: BeginRequest,
    /// It is not known whether a file of that name is there.
    pub looks: bool,
}

/// What a platform replied to an operation that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    AccessChecked,
    /// The file of that name, or none.
    Located(Option<RemoteFile>),
    Begun(RemoteUpload),
    /// Remote uploads that match; the newest first.
    BegunFound(Vec<RemoteUpload>),
    /// The parts that the platform knows, where it can tell.
    PartsListed(Option<Vec<RemotePart>>),
    PartsReported,
    Completed(RemoteFile),
    CompletionFound(Completion),
    /// The file with that id, or none; where it was read back, with the digest of what was read.
    Inspected(Option<RemoteFile>),
    Described,
    /// Whether the file was there.
    Renamed(bool),
    Removed,
    /// A job for each item, or none; in order.
    ExportsFound(Vec<Option<ExportJob>>),
    /// A job for each item, or why there is none; in order.
    ExportsStarted(Vec<Result<ExportId, Failure>>),
    /// The state of each job; in order.
    ExportsPolled(Vec<Result<ExportState, Failure>>),
    RunFinished,
    Aborted,
    PartStored(Stored),
    WholeStored(Whole),
}

/// What came of a file that was sent in one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
            Self::Rename { .. } => "rename",
            Self::Remove(_) => "remove",
            Self::FindExports(_) => "find exports",
            Self::StartExports { .. } => "start exports",
            Self::PollExports(_) => "poll exports",
            Self::FinishRun(_) => "finish run",
            Self::Abort(_) => "abort",
        }
    }

    /// Returns whether it changes something at the far side.
    pub fn changes(&self) -> bool {
        match self {
            Self::Begin(_)
            | Self::ReportParts { .. }
            | Self::Complete(_)
            | Self::Describe { .. }
            | Self::Rename { .. }
            | Self::Remove(_)
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

impl Reply {
    /// Returns whether bytes that were to be sent were there already.
    pub fn is_found(&self) -> bool {
        if let Self::PartStored(stored) | Self::WholeStored(Whole { stored, .. }) = self {
            stored.is_found
        } else {
            false
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

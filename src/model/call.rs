//! The remote operations as data: the question to a destination, and its reply.
//!
//! The trait that platforms implement (`platform/contract.rs`) describes each operation. The engine
//! makes a [`Call`], or a [`PutRequest`] where bytes of a file are sent; `platform::call` and
//! `platform::put` perform them, for the daemon and for the simulation, and return a [`Reply`].
//! None of them holds an address or a credential.

use serde::{Deserialize, Serialize};

use super::{
    ByteCount, Completion, Description, ETag, ExportId, ExportItem, ExportJob, ExportMode,
    ExportState, Failure, FailureKind, PartNumber, PartSize, RemoteFile, RemoteFileId, RemotePart,
    RemoteUpload, RemoteUploadId, Stored, Target, WallTime,
};

/// One remote operation with everything it needs.
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
    /// Reads a file back and digests it.
    ReadBack {
        file: RemoteFileId,
        /// Part length for the digest.
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
    /// A text that no other upload of ours has, the same each time this one is begun: letters,
    /// digits and dashes.
    pub token: String,
    /// Our own file that this one replaces while it has this ETag: a damaged one of this upload, or
    /// an earlier version.
    pub replaces: Option<ETag>,
}

impl BeginRequest {
    /// Returns how many parts of the wished size the file has.
    ///
    /// # Errors
    /// `BadRequest` when they do not fit a part number.
    pub fn part_count(&self) -> Result<u32, Failure> {
        let many = || Failure::new(FailureKind::BadRequest, "the file makes too many parts");
        self.part_size.count_for(self.size).ok_or_else(many)
    }

    /// Returns the upload with that id, with parts of the wished size that may go in any order.
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
    /// Those of which the platform was not notified, at most
    /// [`Traits::report_max`](crate::model::Traits::report_max) of them.
    pub unreported: Vec<RemotePart>,
    pub begun: BeginRequest,
    /// When we decided to complete, by our clock.
    pub since: WallTime,
}

/// One operation that sends bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutRequest {
    Part(PartRequest),
    /// Sends a file of one part in one request, which creates the file.
    Whole(WholeRequest),
}

/// The part to send, and its upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartRequest {
    pub remote: RemoteUpload,
    pub part: PartNumber,
    /// The begin request, where the upload has no other part: sending the part may create the file.
    pub begun: Option<BeginRequest>,
}

impl PartRequest {
    /// Returns the begin request of an upload with one part.
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
    /// Whether the platform must first check for a file of that name.
    pub looks: bool,
}

/// A platform's reply to an operation that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    AccessChecked,
    /// The file with that name, if there is one.
    Located(Option<RemoteFile>),
    Begun(RemoteUpload),
    /// Remote uploads that match; the newest first.
    BegunFound(Vec<RemoteUpload>),
    /// The parts that the platform has; `None` where it cannot list them.
    PartsListed(Option<Vec<RemotePart>>),
    PartsReported,
    Completed(RemoteFile),
    CompletionFound(Completion),
    /// The file with that id, if there is one; after reading back, with the digest of its content.
    Inspected(Option<RemoteFile>),
    Described,
    /// Whether the file was there.
    Renamed(bool),
    Removed,
    /// The job of each item, if there is one; in order.
    ExportsFound(Vec<Option<ExportJob>>),
    /// The job of each item, or why there is none; in order.
    ExportsStarted(Vec<Result<ExportId, Failure>>),
    /// The state of each job; in order.
    ExportsPolled(Vec<Result<ExportState, Failure>>),
    RunFinished,
    Aborted,
    PartStored(Stored),
    WholeStored(Whole),
}

/// The result of sending a file in one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whole {
    /// Stands in for the upload, which was never begun.
    pub remote: RemoteUpload,
    /// The storage's answer to its only part.
    pub stored: Stored,
    /// The file. Its size is set only when the answer proves it.
    pub file: RemoteFile,
}

impl Call {
    /// Returns its name, for stored attempts and for what is in flight.
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

    /// Returns whether it changes something at the destination.
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
    /// Returns whether the bytes to send were already there.
    pub fn is_found(&self) -> bool {
        if let Self::PartStored(stored) | Self::WholeStored(Whole { stored, .. }) = self {
            stored.is_found
        } else {
            false
        }
    }
}

impl PutRequest {
    /// Returns its name, as [`Call::name`] does.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Part(_) => "put part",
            Self::Whole(_) => "put whole",
        }
    }
}

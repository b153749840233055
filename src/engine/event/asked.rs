//! What is asked of a destination, on behalf of an upload.

use super::{Act, Source};
use crate::model::{
    ByteCount, ByteRange, Description, DestinationName, ETag, PartNumber, PartSize, PlaceSource,
    RemoteFileId, RemotePart, RemoteUpload, Target, TargetId, UploadId, WallTime,
};

/// An act at a destination on behalf of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remotely<T> {
    /// On whose behalf.
    pub upload: UploadId,
    /// Where.
    pub destination: DestinationName,
    /// What.
    pub what: T,
}

/// See [`super::Act::Locate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locate {
    /// Where it would stand.
    pub target: Target,
}

/// See [`super::Act::FindHolder`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindHolder {
    /// At which targets, which are the same.
    pub targets: Vec<TargetId>,
    /// The place.
    pub place: Target,
    /// The source that asks.
    pub source: PlaceSource,
}

/// See [`super::Act::Begin`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// Where it shall stand.
    pub target: Target,
    /// Length of the file.
    pub size: ByteCount,
    /// The part size we wish for.
    pub part_size: PartSize,
    /// Replace a file of that name.
    pub overwrite: bool,
    /// Metadata and tags, for platforms that take them here.
    pub description: Description,
    /// A text that no other upload carries, and this one always.
    pub token: String,
    /// A damaged file of this upload stands there: it is replaced, as long as it has this ETag.
    pub replaces: Option<ETag>,
}

/// See [`super::Act::FindBegun`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindBegun {
    /// What was to be begun.
    pub begin: Begin,
    /// Not before this time, by our clock.
    pub since: WallTime,
}

/// See [`super::Act::PutPart`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutPart {
    /// To which remote upload.
    pub remote: RemoteUpload,
    /// Which part.
    pub part: PartNumber,
    /// From where.
    pub source: Source,
    /// Which bytes.
    pub range: ByteRange,
    /// What was begun.
    pub begin: Box<Begin>,
}

/// See [`super::Act::PutWhole`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutWhole {
    /// What is made.
    pub begin: Box<Begin>,
    /// From where.
    pub source: Source,
    /// It is not known whether a file of that name is there.
    pub looks: bool,
}

/// See [`super::Act::Report`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// In which remote upload.
    pub remote: RemoteUpload,
    /// What the storage said about each part.
    pub parts: Vec<RemotePart>,
}

/// See [`super::Act::Complete`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complete {
    /// Which remote upload.
    pub remote: RemoteUpload,
    /// Every part with its ETag, in order.
    pub parts: Vec<RemotePart>,
    /// What was begun.
    pub begin: Box<Begin>,
    /// When completing was decided, by our clock.
    pub since: WallTime,
}

/// See [`super::Act::ReadBack`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBack {
    /// Which file.
    pub file: RemoteFileId,
    /// Length of the parts over which its digest is taken.
    pub part_size: PartSize,
}

/// See [`super::Act::Describe`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Describe {
    /// Which file.
    pub file: RemoteFileId,
    /// What to say of it.
    pub description: Description,
}

impl Act {
    /// Returns the upload on whose behalf it is done, where it is one's.
    pub fn upload(&self) -> Option<UploadId> {
        match self {
            Self::Locate(Remotely { upload, .. })
            | Self::FindHolder(Remotely { upload, .. })
            | Self::Begin(Remotely { upload, .. })
            | Self::FindBegun(Remotely { upload, .. })
            | Self::PutPart(Remotely { upload, .. })
            | Self::PutWhole(Remotely { upload, .. })
            | Self::ListParts(Remotely { upload, .. })
            | Self::Report(Remotely { upload, .. })
            | Self::Complete(Remotely { upload, .. })
            | Self::FindCompleted(Remotely { upload, .. })
            | Self::Inspect(Remotely { upload, .. })
            | Self::ReadBack(Remotely { upload, .. })
            | Self::Describe(Remotely { upload, .. })
            | Self::HashPart { upload, .. }
            | Self::HashFile { upload, .. }
            | Self::DigestFile { upload, .. }
            | Self::WriteReceipt { upload } => Some(*upload),
            Self::Scan { .. }
            | Self::ReadRun { .. }
            | Self::Look { .. }
            | Self::CompareContent { .. }
            | Self::FindMoved { .. }
            | Self::FindExports { .. }
            | Self::StartExports { .. }
            | Self::PollExports { .. }
            | Self::WriteRunReceipt { .. }
            | Self::CheckProofs(_)
            | Self::Dispose { .. }
            | Self::FinishRun { .. }
            | Self::ReadRows { .. }
            | Self::Survey
            | Self::Notify { .. }
            | Self::Abort { .. }
            | Self::Probe { .. } => None,
        }
    }
}

//! Everything that is ever written to the database, as values.
//!
//! The store writes facts and nothing else; memory, disk and recovery apply them through the one
//! law in [`super::upload`]. A run is its list of facts, so it can be logged and replayed.

use super::bytes::{ByteCount, PartNumber, PartSize};
use super::digest::{ETag, ETagMode, Md5, PartNote};
use super::export::ExportPlace;
use super::failure::{Failure, ParkReason};
use super::file::Fingerprint;
use super::id::ExportId;
use super::ledger::WrittenLine;
use super::order::NameDecision;
use super::remote::{ContentMark, RemoteFile, RemoteUpload};
use super::target::{Supersession, TargetId};
use super::time::WallTime;

/// Something that happened to one upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// We are about to ask the platform for an upload.
    BeginIntended {
        /// The part size to wish for, where it differs from that of the admission.
        part_size: Option<PartSize>,
        at: WallTime,
    },
    /// The platform has an upload for us; its part layout is frozen from here on.
    Begun {
        remote: RemoteUpload,
        at: WallTime,
    },
    /// The checkpoint: the storage has this part.
    PartAccepted {
        part: PartNumber,
        /// Digest of the bytes we read for it.
        md5: Md5,
        /// What the storage answered.
        etag: ETag,
        /// Reported instead of the ETag, where the platform asks for more or for something else.
        note: Option<PartNote>,
        /// Bytes that were sent for it this time; zero when it was already there.
        sent: ByteCount,
        at: WallTime,
    },
    PartsReported {
        parts: Vec<PartNumber>,
    },
    /// An accepted part must be sent again.
    PartReopened {
        part: PartNumber,
        /// It had been reported to the platform.
        was_reported: bool,
    },
    /// What the ETags of this upload prove.
    ETagModeLearned {
        mode: ETagMode,
    },
    /// We are about to ask the platform to put the parts together.
    CompleteIntended {
        at: WallTime,
    },
    /// The platform refused to complete and still has the upload: parts are checked again.
    CompleteWithdrawn,
    /// The file exists at the platform.
    Completed {
        file: RemoteFile,
        at: WallTime,
    },
    /// The file was already there and is equal: nothing is sent.
    FoundPresent {
        file: RemoteFile,
        at: WallTime,
    },
    /// Another name was chosen because the wished one is taken.
    Renamed {
        name: String,
    },
    /// The source has another inode or other times, but the content of the parts that were sent.
    NameDecided {
        decision: NameDecision,
    },
    Retouched {
        fingerprint: Fingerprint,
    },
    /// The file there is our own earlier version, which this one replaces, and the step of the
    /// replacement; or it is not any more.
    Superseding {
        by: Option<Supersession>,
        /// The newer file's name at the platform.
        name: Option<String>,
    },
    Described,
    /// The platform's file was compared with what we sent.
    Verified {
        /// The ETag or version mark that the file had at that moment.
        etag: Option<ETag>,
        /// The digest over all parts.
        mark: Option<ContentMark>,
        /// The digest that the platform reports for the file, where it reports one.
        there: Option<ContentMark>,
        at: WallTime,
    },
    /// The whole source was digested for the receipt, or cannot be digested any more.
    Digested {
        md5: Option<Md5>,
        sha256: Option<[u8; 32]>,
    },
    /// We are about to ask the platform to export the file.
    ExportIntended {
        place: ExportPlace,
        at: WallTime,
    },
    /// The platform has an export job for us.
    ExportStarted {
        job: ExportId,
        at: WallTime,
    },
    ExportFailed {
        message: String,
    },
    /// The file is on the volume.
    Exported {
        job: ExportId,
        /// When we learned it.
        at: WallTime,
    },
    /// The receipt line is in its ledger, synced.
    ReceiptWritten {
        written: Box<WrittenLine>,
        at: WallTime,
    },
    /// Bytes in flight: sent, and not yet covered by a checkpoint or a failure. Recorded about once
    /// a second while they change, so that a kill leaves them counted.
    InFlight {
        /// The bytes in flight of all its parts.
        bytes: ByteCount,
    },
    /// Bytes were sent without effect although nothing failed: the request was cancelled.
    SentInVain {
        bytes: ByteCount,
    },
    /// An act failed and will be retried.
    AttemptFailed {
        act: &'static str,
        part: Option<PartNumber>,
        failure: Failure,
        /// Bytes that were sent without effect.
        sent: ByteCount,
        /// When the whole upload continues; `None` when only this part waits, or nothing.
        retry_at: Option<WallTime>,
        at: WallTime,
    },
    /// The upload stops until someone or something acts.
    Parked {
        reason: ParkReason,
        /// In full, for `show`.
        detail: String,
        at: WallTime,
    },
    /// The upload may go on: its wait is over, or what parked it is gone.
    Released,
    /// The platform does not know the upload any more: begin again, with all parts open.
    RemoteGone,
    /// The platform found the parts too small or too large: begin again with parts of this size.
    PartSizeChanged {
        part_size: PartSize,
    },
    /// The destination has another target: begin again there, with all parts open.
    Retargeted {
        target: TargetId,
        /// The part size to wish for there.
        part_size: PartSize,
    },
    /// The source is another version: this upload ends, and the new version gets its own upload.
    SourceChanged {
        at: WallTime,
    },
    /// The operator abandoned the upload.
    Abandoned {
        at: WallTime,
    },
}

impl Fact {
    /// Returns the fact's name, for logs and errors.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BeginIntended { .. } => "begin-intended",
            Self::Begun { .. } => "begun",
            Self::PartAccepted { .. } => "part-accepted",
            Self::PartsReported { .. } => "parts-reported",
            Self::PartReopened { .. } => "part-reopened",
            Self::ETagModeLearned { .. } => "etag-mode-learned",
            Self::CompleteIntended { .. } => "complete-intended",
            Self::CompleteWithdrawn => "complete-withdrawn",
            Self::Completed { .. } => "completed",
            Self::FoundPresent { .. } => "found-present",
            Self::Renamed { .. } => "renamed",
            Self::NameDecided { .. } => "name-decided",
            Self::Retouched { .. } => "retouched",
            Self::Superseding { .. } => "superseding",
            Self::Described => "described",
            Self::Verified { .. } => "verified",
            Self::Digested { .. } => "digested",
            Self::ExportIntended { .. } => "export-intended",
            Self::ExportStarted { .. } => "export-started",
            Self::ExportFailed { .. } => "export-failed",
            Self::Exported { .. } => "exported",
            Self::ReceiptWritten { .. } => "receipt-written",
            Self::InFlight { .. } => "in-flight",
            Self::SentInVain { .. } => "sent-in-vain",
            Self::AttemptFailed { .. } => "attempt-failed",
            Self::Parked { .. } => "parked",
            Self::Released => "released",
            Self::RemoteGone => "remote-gone",
            Self::PartSizeChanged { .. } => "part-size-changed",
            Self::Retargeted { .. } => "retargeted",
            Self::SourceChanged { .. } => "source-changed",
            Self::Abandoned { .. } => "abandoned",
        }
    }

    /// Returns whether it ends a begin: the remote upload was begun, could not be, or is not needed any more.
    pub(crate) fn is_end_of_begin(&self) -> bool {
        matches!(
            self,
            Self::Begun { .. }
                | Self::AttemptFailed { act: "begin", .. }
                | Self::FoundPresent { .. }
                | Self::Parked { .. }
                | Self::Retargeted { .. }
                | Self::SourceChanged { .. }
                | Self::Abandoned { .. }
        )
    }

    /// Returns whether it shows that an upload progresses, or that a person attends to it.
    pub(crate) fn is_progress(&self) -> bool {
        match self {
            Self::PartAccepted { .. }
            | Self::PartsReported { .. }
            | Self::Completed { .. }
            | Self::FoundPresent { .. }
            | Self::Described
            | Self::Verified { .. }
            | Self::Exported { .. }
            | Self::ReceiptWritten { .. }
            | Self::Parked { .. }
            | Self::Retargeted { .. } => true,
            Self::BeginIntended { .. }
            | Self::Begun { .. }
            | Self::PartReopened { .. }
            | Self::ETagModeLearned { .. }
            | Self::CompleteIntended { .. }
            | Self::CompleteWithdrawn
            | Self::Renamed { .. }
            | Self::NameDecided { .. }
            | Self::Retouched { .. }
            | Self::Superseding { .. }
            | Self::Digested { .. }
            | Self::ExportIntended { .. }
            | Self::ExportStarted { .. }
            | Self::ExportFailed { .. }
            | Self::InFlight { .. }
            | Self::SentInVain { .. }
            | Self::AttemptFailed { .. }
            | Self::Released
            | Self::RemoteGone
            | Self::PartSizeChanged { .. }
            | Self::SourceChanged { .. }
            | Self::Abandoned { .. } => false,
        }
    }
}

//! Everything that may ever be written to the database, as values.
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
        /// The part size to wish for, where it is another than at admission.
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
        /// What is to be reported instead of the ETag, where the platform asks for more or other.
        note: Option<PartNote>,
        /// Bytes that went over the wire for it this time; zero when it was found there.
        sent: ByteCount,
        at: WallTime,
    },
    PartsReported {
        parts: Vec<PartNumber>,
    },
    /// A part that was accepted must be sent again.
    PartReopened {
        part: PartNumber,
        /// The platform had been told of it.
        was_reported: bool,
    },
    /// What this upload's ETags are worth.
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
    /// The file was there before and is the same: nothing is sent.
    FoundPresent {
        file: RemoteFile,
        at: WallTime,
    },
    /// Another name was chosen, because the wished one is taken.
    Renamed {
        name: String,
    },
    /// The source has another inode or other times, and the content of which parts were sent.
    NameDecided {
        decision: NameDecision,
    },
    Retouched {
        fingerprint: Fingerprint,
    },
    /// What is there is our own earlier version, which this one replaces, and how far that is; or is that no
    /// more.
    Superseding {
        by: Option<Supersession>,
        /// The name that the newer file got at the platform.
        name: Option<String>,
    },
    Described,
    /// The platform's file was compared with what we sent.
    Verified {
        /// What the storage told versions of it apart by at that moment.
        etag: Option<ETag>,
        /// The digest over all parts.
        mark: Option<ContentMark>,
        /// The digest that the platform tells of the file, where it tells one.
        there: Option<ContentMark>,
        at: WallTime,
    },
    /// The whole source was digested for the receipt, or cannot be any more.
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
        /// When we learned of it.
        at: WallTime,
    },
    /// The line that is its receipt stands in its ledger, synced.
    ReceiptWritten {
        written: Box<WrittenLine>,
        at: WallTime,
    },
    /// So many bytes of it are in flight: sent, and part of no checkpoint and of no failure yet. Recorded
    /// about once a second while that changes, so that a kill leaves them counted.
    InFlight {
        /// The bytes of all its parts in flight.
        bytes: ByteCount,
    },
    /// Bytes went over the wire in vain, and nothing failed: what was in flight was cut.
    SentInVain {
        bytes: ByteCount,
    },
    /// An act failed and will be tried again.
    AttemptFailed {
        act: &'static str,
        part: Option<PartNumber>,
        failure: Failure,
        /// Bytes that went over the wire in vain.
        sent: ByteCount,
        /// When the whole upload goes on; `None` when only this part or nothing waits.
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
    /// The platform does not know the upload any more: begin again, all parts open.
    RemoteGone,
    /// The platform found the parts too small or too large: it is begun again with parts of this size.
    PartSizeChanged {
        part_size: PartSize,
    },
    /// The destination has another target: begin again there, all parts open.
    Retargeted {
        target: TargetId,
        /// The part size to wish for there.
        part_size: PartSize,
    },
    /// The source is another version now: this upload ends, a new one is made of the new version.
    SourceChanged {
        at: WallTime,
    },
    /// The operator gave the upload up.
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

    /// Returns whether an upload that was to be begun was, could not be, or is not to be any more.
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

    /// Returns whether it shows that an upload goes on, or that somebody looks after it.
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

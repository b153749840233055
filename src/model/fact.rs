//! Everything that may ever be written to the database, as values.
//!
//! The store writes facts and nothing else; memory, disk and recovery apply them through the one
//! law in [`super::upload`]. A run is its list of facts, so it can be logged and replayed.

use super::bytes::{ByteCount, PartNumber, PartSize};
use super::digest::{ETag, ETagMode, Md5};
use super::export::ExportPlace;
use super::failure::{Failure, ParkReason};
use super::file::{Fingerprint, IgnoreReason, Provenance, SourcePath};
use super::health::{DestinationState, DropHealth, Learned};
use super::id::{DestinationName, DropName, ExportId, UploadId};
use super::notice::{Notice, NoticeId};
use super::order::OrderRecord;
use super::remote::{ContentMark, RemoteFile, RemoteUpload, Target};
use super::root::RootIdentity;
use super::target::{OpenCleanup, PlaceHolder, TargetAddress, TargetId};
use super::time::WallTime;
use super::unit::{Disposal, UnitRow};

/// One thing to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A new upload.
    Admit(Box<Admission>),
    /// Something about an upload.
    Upload(UploadId, Fact),
    /// An unfinished remote upload that must be removed, with or without an upload of ours behind it.
    CleanupQueued {
        /// What, and where.
        what: OpenCleanup,
        /// When it was queued.
        at: WallTime,
    },
    /// That clean-up failed and will be tried again.
    CleanupDelayed {
        /// What, and where.
        what: OpenCleanup,
        /// When to try again.
        retry_at: WallTime,
        /// Why it failed.
        failure: Failure,
    },
    /// That clean-up is done: the remote upload is not there.
    CleanupDone {
        /// What, and where.
        what: OpenCleanup,
    },
    /// A target that was not known before.
    Target {
        /// Its id from here on.
        id: TargetId,
        /// Where it is.
        address: TargetAddress,
    },
    /// The targets that a destination has from here on: its own first, then those that are declared to
    /// be the same.
    TargetsInForce {
        /// The destination.
        destination: DestinationName,
        /// Its targets.
        targets: Vec<TargetId>,
    },
    /// What was completed for a destination at its former targets does not count as sent: the sources
    /// are sent to its target.
    Resend {
        /// The destination.
        destination: DestinationName,
        /// Its target.
        target: TargetId,
        /// Only uploads before this one do not count.
        before: UploadId,
    },
    /// An upload waits for the place that another one holds, or does not any more.
    PlaceAwaited {
        /// The upload.
        upload: UploadId,
        /// The upload that holds the place.
        holder: Option<UploadId>,
    },
    /// A file of ours stands at a place.
    PlaceHeld {
        /// The target.
        target: TargetId,
        /// The place.
        place: Target,
        /// The upload that made it or found it, and its source.
        holder: PlaceHolder,
        /// The upload made it: what stood there before does not any more.
        is_made: bool,
    },
    /// A path that is not uploaded, and why.
    Ignored {
        /// Which drop directory.
        drop: DropName,
        /// Which path.
        path: SourcePath,
        /// Why.
        reason: IgnoreReason,
        /// Since when.
        at: WallTime,
    },
    /// A path that was ignored and is not any more.
    NotIgnored {
        /// Which drop directory.
        drop: DropName,
        /// Which path.
        path: SourcePath,
    },
    /// A file that was sent was touched since, and is still what was sent.
    Touched {
        /// Which drop directory.
        drop: DropName,
        /// Which path.
        path: SourcePath,
        /// As it stands there.
        fingerprint: Fingerprint,
    },
    /// A file that was sent stands under another name since: it is not sent again.
    Moved {
        /// Which drop directory.
        drop: DropName,
        /// Its path there.
        path: SourcePath,
        /// As it stands there.
        fingerprint: Fingerprint,
        /// Its upload, under its old name.
        upload: UploadId,
        /// Since when we know.
        at: WallTime,
    },
    /// A drop whose end the platform wants to be told.
    DropOpened {
        /// Where to.
        destination: DestinationName,
        /// From which drop directory.
        drop: DropName,
        /// The drop's own name.
        name: String,
        /// Since when.
        at: WallTime,
    },
    /// The platform was told of a drop's end.
    DropFinished {
        /// Where to.
        destination: DestinationName,
        /// From which drop directory.
        drop: DropName,
        /// The drop's own name.
        name: String,
        /// When.
        at: WallTime,
    },
    /// A unit as it stands.
    Unit(Box<UnitRow>),
    /// What a unit says of itself.
    UnitWords {
        /// In which drop directory.
        drop: DropName,
        /// Which unit.
        unit: SourcePath,
        /// Its words.
        words: Vec<(String, String)>,
        /// Its samples.
        samples: Vec<String>,
    },
    /// A source is to be disposed of, or when that is has changed.
    DisposalQueued(Disposal),
    /// We are about to dispose of it.
    DisposalIntended {
        /// In which drop directory.
        drop: DropName,
        /// Which unit.
        unit: SourcePath,
        /// When.
        at: WallTime,
    },
    /// It was not disposed of, and why.
    DisposalDelayed {
        /// In which drop directory.
        drop: DropName,
        /// Which unit.
        unit: SourcePath,
        /// When it is tried again.
        retry_at: WallTime,
        /// Why it was not done.
        failure: Failure,
    },
    /// It is disposed of, or stays after all.
    DisposalEnded {
        /// In which drop directory.
        drop: DropName,
        /// Which unit.
        unit: SourcePath,
        /// It is not there any more.
        is_done: bool,
        /// When.
        at: WallTime,
    },
    /// People are to be told; one that was not tried yet takes the place of itself.
    Notice(Box<Notice>),
    /// It was not told, and why.
    NoticeDelayed {
        /// Which.
        id: NoticeId,
        /// When it is tried again.
        retry_at: WallTime,
        /// Why it was not told.
        failure: Failure,
        /// Since when its receiver has refused it, when it does.
        refused_since: Option<WallTime>,
    },
    /// Its receiver refuses it for good: it is not tried any more.
    NoticeGivenUp {
        /// Which.
        id: NoticeId,
        /// When.
        at: WallTime,
        /// Why it was not told.
        failure: Failure,
    },
    /// Another notice tells of it too.
    NoticeFolded {
        /// Which.
        id: NoticeId,
        /// The other.
        into: NoticeId,
    },
    /// It was told.
    NoticeSent {
        /// Which.
        id: NoticeId,
        /// When.
        at: WallTime,
    },
    /// What an operator ordered, or that it holds no more.
    Order(OrderRecord),
    /// How well a drop directory is being watched.
    DropHealth(DropHealth),
    /// Which drop directories are configured; of others nothing is said any more.
    Configured(Vec<DropName>),
    /// A destination's answers have shown something of its target that is kept for good.
    DestinationLearned {
        /// Which.
        destination: DestinationName,
        /// Its target.
        target: TargetId,
        /// What.
        what: Learned,
        /// In full, for people; empty where there is nothing to add.
        detail: String,
        /// When.
        at: WallTime,
    },
    /// How a destination is doing.
    DestinationHealth {
        /// Which.
        destination: DestinationName,
        /// Platform's name, for status while the daemon is down.
        platform: String,
        /// `ok`, `throttled`, `unreachable` or `halted`.
        state: DestinationState,
        /// Why, when not ok.
        reason: Option<String>,
        /// When it is called again, while it is not.
        next_try_at: Option<WallTime>,
        /// Since when.
        at: WallTime,
    },
}

/// A new upload with its frozen plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Its id, given by the engine.
    pub id: UploadId,
    /// From which drop directory.
    pub drop: DropName,
    /// Which file.
    pub path: SourcePath,
    /// Which version of it.
    pub fingerprint: Fingerprint,
    /// Whose it was and where it lay when it was handed in; none of what a drop directory holds.
    pub provenance: Option<Box<Provenance>>,
    /// Which unit it belongs to; the file's own path where it is alone.
    pub unit: SourcePath,
    /// It is the receipt of its unit, to tell others that all is there: read from the receipts.
    pub is_sentinel: bool,
    /// To where.
    pub destination: DestinationName,
    /// The target that this name has.
    pub target_id: TargetId,
    /// Under which name there.
    pub target: Target,
    /// The part size we wish for; the platform may settle on another at begin.
    pub part_size: PartSize,
    /// Smaller goes first within a drop: position in the drop's `order` list.
    pub rank: u32,
    /// When.
    pub at: WallTime,
    /// Set when the upload cannot be planned and is parked from the start.
    pub parked: Option<ParkReason>,
    /// Which directory the drop directory is that it was seen in; none for what is in no drop
    /// directory.
    pub root: Option<RootIdentity>,
}

/// Something that happened to one upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// We are about to ask the platform for an upload.
    BeginIntended {
        /// The part size to wish for, where it is another than at admission.
        part_size: Option<PartSize>,
        /// When, by our clock.
        at: WallTime,
    },
    /// The platform has an upload for us; its part layout is frozen from here on.
    Begun {
        /// The upload.
        remote: RemoteUpload,
        /// When.
        at: WallTime,
    },
    /// The checkpoint: the storage has this part.
    PartAccepted {
        /// Which part.
        part: PartNumber,
        /// Digest of the bytes we read for it.
        md5: Md5,
        /// What the storage answered.
        etag: ETag,
        /// Bytes that went over the wire for it this time; zero when it was found there.
        sent: ByteCount,
        /// When.
        at: WallTime,
    },
    /// The platform knows of these parts.
    PartsReported {
        /// Which.
        parts: Vec<PartNumber>,
    },
    /// A part that was accepted must be sent again.
    PartReopened {
        /// Which.
        part: PartNumber,
        /// The platform had been told of it.
        was_reported: bool,
    },
    /// What this upload's ETags are worth.
    ETagModeLearned {
        /// That.
        mode: ETagMode,
    },
    /// We are about to ask the platform to put the parts together.
    CompleteIntended {
        /// When, by our clock.
        at: WallTime,
    },
    /// The platform refused to complete and still has the upload: parts are checked again.
    CompleteWithdrawn,
    /// The file exists at the platform.
    Completed {
        /// The file.
        file: RemoteFile,
        /// When.
        at: WallTime,
    },
    /// The file was there before and is the same: nothing is sent.
    FoundPresent {
        /// The file.
        file: RemoteFile,
        /// When.
        at: WallTime,
    },
    /// Another name was chosen, because the wished one is taken.
    Renamed {
        /// The name at the destination.
        name: String,
    },
    /// Metadata and tags are set.
    Described,
    /// The platform's file was compared with what we sent.
    Verified {
        /// The digest over all parts.
        mark: Option<ContentMark>,
        /// The digest that the platform tells of the file, where it tells one.
        there: Option<ContentMark>,
        /// When.
        at: WallTime,
    },
    /// The whole source was digested for the receipt, or cannot be any more.
    Digested {
        /// MD5 of the whole file.
        md5: Option<Md5>,
        /// SHA-256 of the whole file.
        sha256: Option<[u8; 32]>,
    },
    /// We are about to ask the platform to export the file.
    ExportIntended {
        /// Where to.
        place: ExportPlace,
        /// When, by our clock.
        at: WallTime,
    },
    /// The platform has an export job for us.
    ExportStarted {
        /// The job.
        job: ExportId,
        /// When.
        at: WallTime,
    },
    /// The job failed, or the platform would not make one.
    ExportFailed {
        /// What it said.
        message: String,
    },
    /// The file is on the volume.
    Exported {
        /// The job.
        job: ExportId,
        /// When we learned of it.
        at: WallTime,
    },
    /// The receipt is on disk, under its name, synced.
    ReceiptWritten {
        /// SHA-256 of the receipt file.
        sha256: [u8; 32],
        /// When.
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
        /// How many.
        bytes: ByteCount,
    },
    /// An act failed and will be tried again.
    AttemptFailed {
        /// What was tried.
        act: &'static str,
        /// For which part.
        part: Option<PartNumber>,
        /// How it failed.
        failure: Failure,
        /// Bytes that went over the wire in vain.
        sent: ByteCount,
        /// When the whole upload goes on; `None` when only this part or nothing waits.
        retry_at: Option<WallTime>,
        /// When it failed.
        at: WallTime,
    },
    /// The upload stops until someone or something acts.
    Parked {
        /// Why.
        reason: ParkReason,
        /// In full, for `show`.
        detail: String,
        /// When.
        at: WallTime,
    },
    /// The upload may go on: its wait is over, or what parked it is gone.
    Released,
    /// The platform does not know the upload any more: begin again, all parts open.
    RemoteGone,
    /// The platform found the parts too small: it is begun again with parts of this size.
    PartSizeRaised {
        /// The part size to wish for.
        part_size: PartSize,
    },
    /// The destination has another target: begin again there, all parts open.
    Retargeted {
        /// The target.
        target: TargetId,
        /// The part size to wish for there.
        part_size: PartSize,
    },
    /// The source is another version now: this upload ends, a new one is made of the new version.
    SourceChanged {
        /// When.
        at: WallTime,
    },
    /// The operator gave the upload up.
    Abandoned {
        /// When.
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
            Self::PartSizeRaised { .. } => "part-size-raised",
            Self::Retargeted { .. } => "retargeted",
            Self::SourceChanged { .. } => "source-changed",
            Self::Abandoned { .. } => "abandoned",
        }
    }
}

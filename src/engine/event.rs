//! The engine's input and output: events, and the effects that the shell performs.
//!
//! *One act, one outcome*: every [`Act`] comes back as exactly one [`Event::Outcome`] with the same
//! [`ActId`], also when it failed or was cancelled. Acts in [`Effect::Commit`] start only after the
//! commit, so an intent is durable before its act.

mod seen;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use seen::{MovedFrom, ReportWanted, Survey, Walk};

use super::orders::{Order, OrderAnswer, OrderId};
use super::settings::Settings;
use crate::model::remote::ContentMark;
use crate::model::{
    ByteCount, ByteRange, Call, Catalogued, DestinationName, DirectoryName, DisposalDoubt,
    Disposition, Failure, Fingerprint, FlowKey, Learned, LedgerFinding, Md5, Notice, Observation,
    PartNumber, PartSize, PlaceFound, PlaceSource, Provenance, PutRequest, Record, RenamedRun,
    Reply, RootIdentity, RunReading, SentinelFile, SourcePath, StoredRows, StoredUpload, Target,
    TargetId, UploadId, WatchState, WholeDigest, WrittenLine,
};

/// Identifies an act within one life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActId(pub u64);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A deadline may have passed.
    Timer,
    /// These paths may have changed.
    Hint {
        drop: DirectoryName,
        /// Files, not directories.
        paths: Vec<SourcePath>,
    },
    /// Anything in the drop directory may have changed.
    ScanNow {
        drop: DirectoryName,
    },
    /// Observations of a scan or a look; a scan sends many of them before its outcome.
    Observed {
        drop: DirectoryName,
        observations: Vec<Observation>,
        /// What the rows know about these files.
        known: Catalogued,
    },
    /// File system events became available or unavailable.
    WatchChanged {
        drop: DirectoryName,
        watch: WatchState,
        reason: Option<String>,
    },
    /// The oldest uncommitted [`Effect::Commit`] is durable.
    Committed,
    /// Records of these uploads could not be stored because of their values; sent before the
    /// [`Event::Committed`] of their commit.
    Unstored(Vec<Unstored>),
    Outcome {
        act: ActId,
        outcome: Result<Outcome, Setback>,
    },
    /// Bytes of parts sent to each destination since the start; sent twice a second while parts are
    /// in flight.
    Sent(Vec<(DestinationName, ByteCount)>),
    /// Bytes in flight of each of these uploads; sent about once a second, for uploads whose number
    /// has changed.
    InFlight(Vec<(UploadId, ByteCount)>),
    CredentialChanged {
        destination: DestinationName,
    },
    /// A client found a lasting property of the storage behind a destination.
    Learned {
        destination: DestinationName,
        what: Learned,
        detail: String,
    },
    /// A portion of the stored rows, when the start did not load all of them.
    Stored(StoredRows),
    Reconfigured(Settings),
    /// An operator gave an order; [`Effect::Answer`] answers it.
    Ordered {
        id: OrderId,
        order: Order,
    },
    /// The bandwidth limit has changed.
    RateChanged {
        /// `None` is unlimited; zero sends no parts.
        bytes_per_second: Option<u64>,
    },
    /// A check of the ledgers found that these differ from their rows.
    LedgersChecked(Vec<LedgerFinding>),
    /// Starts nothing more; acts in flight may finish.
    Drain,
}

/// An upload with a record that could not be stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unstored {
    pub upload: UploadId,
    /// The upload as its row has it; `None` where it has no row.
    pub stored: Option<Box<StoredUpload>>,
    pub why: String,
}

/// A request of the engine to the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write these in one transaction, in order; the acts wait for it and for all commits before it.
    Commit { records: Vec<Record>, then: Vec<(ActId, Act)> },
    /// Start this at once: it may be repeated without harm.
    Start(ActId, Act),
    /// Answer an order, once every commit before this is durable.
    Answer(OrderId, OrderAnswer),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadFrom {
    pub drop: DirectoryName,
    pub path: SourcePath,
    /// The version to read.
    pub fingerprint: Fingerprint,
    /// The path is that of a sentinel, below the directory of sentinels.
    pub is_sentinel: bool,
    /// Owner and file system when it was handed in.
    pub provenance: Option<Provenance>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Walk a drop directory; observations come by [`Event::Observed`], the end by [`Outcome::Scanned`].
    Scan {
        drop: DirectoryName,
        /// Directories to leave out: runs without changes for long.
        skip: Arc<BTreeSet<SourcePath>>,
        /// The identity that the directory must have, once files of it were seen.
        root: Option<RootIdentity>,
    },
    /// Read what a run's own files say about it.
    ReadRun {
        drop: DirectoryName,
        run: SourcePath,
    },
    /// Look at these files; the answer comes by [`Outcome::Looked`].
    Look {
        drop: DirectoryName,
        paths: Vec<SourcePath>,
    },
    /// Read a file once and compare it with what was last sent of it, by the rows.
    CompareContent {
        drop: DirectoryName,
        path: SourcePath,
        /// The version to read.
        fingerprint: Fingerprint,
        /// The upload to compare with, where the file was sent under another name.
        against: Option<UploadId>,
    },
    /// Find out which of these files were sent under another name that does not exist any more.
    FindMoved {
        drop: DirectoryName,
        /// The files in their present versions.
        files: Vec<(SourcePath, Fingerprint)>,
    },
    /// Find in the rows which other source of ours holds a place.
    FindHolder(Box<FindHolder>),
    Call {
        /// The upload that the call is for, unless it is for several or for none.
        upload: Option<UploadId>,
        destination: DestinationName,
        call: Box<Call>,
    },
    Put(Box<Sending>),
    /// Read one part's range and digest it.
    HashPart {
        upload: UploadId,
        part: PartNumber,
        source: ReadFrom,
        range: ByteRange,
    },
    /// Read all parts' ranges and digest their digests, to compare with an existing file.
    HashFile {
        upload: UploadId,
        source: ReadFrom,
        mark: ContentMark,
    },
    /// Check whether a file whose parts were all sent is still what was read: if it may be another
    /// version, it is read once, provided that it is quiet.
    ProveSource {
        upload: UploadId,
        source: ReadFrom,
        part_size: PartSize,
        /// The digests of the parts, in order.
        md5s: Vec<Md5>,
        /// Its version a quiet period ago, where that is not the one that was sent.
        settled: Option<Fingerprint>,
    },
    /// Read the whole file once, in order, to digest it for its receipt.
    DigestFile {
        upload: UploadId,
        source: ReadFrom,
        digest: WholeDigest,
    },
    /// Write the receipt line, from rows, and make it durable.
    WriteReceipt {
        upload: UploadId,
    },
    /// Write the line that completes a run, from rows, and make it durable.
    WriteRunReceipt {
        drop: DirectoryName,
        run: SourcePath,
        /// The number of this completion, from 1.
        generation: u32,
        /// Make the run's sentinel as well.
        has_sentinel: bool,
    },
    /// Ask a destination about some files of a run that is to be disposed of, and check their receipts.
    CheckProofs(Box<ProofCheck>),
    /// Move or delete the source of a run, all of it or nothing.
    Dispose {
        drop: DirectoryName,
        run: SourcePath,
        is_file: bool,
        /// How; `Keep` restores what an interrupted act set aside.
        how: Disposition,
        /// Uploads with this id or a larger one were not asked about, and prove nothing.
        before: UploadId,
    },
    /// Read the rows of drop directories for a new configuration: they come by [`Event::Stored`],
    /// the end by [`Outcome::RowsRead`].
    ReadRows {
        /// Which, and whether all rows are needed or only those of sent files.
        drops: Vec<(DirectoryName, bool)>,
    },
    /// Read the free space for the state, the expiry of credentials, and a period's rows.
    Survey(Option<ReportWanted>),
    Notify {
        notice: Box<Notice>,
    },
}

impl Act {
    /// Makes a call that belongs to no single upload.
    pub(super) fn call(destination: &DestinationName, call: Call) -> Self {
        Self::Call { upload: None, destination: destination.clone(), call: Box::new(call) }
    }

    /// Returns the upload that the act belongs to, if any.
    pub fn upload(&self) -> Option<UploadId> {
        match self {
            Self::Call { upload, .. } => *upload,
            Self::Put(sending) => Some(sending.upload),
            Self::FindHolder(asked) => Some(asked.upload),
            Self::HashPart { upload, .. }
            | Self::HashFile { upload, .. }
            | Self::ProveSource { upload, .. }
            | Self::DigestFile { upload, .. }
            | Self::WriteReceipt { upload } => Some(*upload),
            Self::Scan { .. }
            | Self::ReadRun { .. }
            | Self::Look { .. }
            | Self::CompareContent { .. }
            | Self::FindMoved { .. }
            | Self::WriteRunReceipt { .. }
            | Self::CheckProofs(_)
            | Self::Dispose { .. }
            | Self::ReadRows { .. }
            | Self::Survey(_)
            | Self::Notify { .. } => None,
        }
    }
}

/// A range of a file to send to a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    pub upload: UploadId,
    /// Its flow: where it goes, for counting.
    pub flow: FlowKey,
    pub request: PutRequest,
    pub source: ReadFrom,
    pub range: ByteRange,
}

/// The place in question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindHolder {
    pub upload: UploadId,
    pub targets: Vec<TargetId>,
    pub place: Target,
    pub source: PlaceSource,
}

/// Which files of a run to ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofCheck {
    pub drop: DirectoryName,
    pub run: SourcePath,
    pub is_file: bool,
    pub destination: DestinationName,
    /// The destination can be asked; otherwise only receipts are checked.
    pub asks: bool,
    /// Those after this upload; `None` begins with the first.
    pub after: Option<UploadId>,
}

/// The result of such a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProofsChecked {
    /// No doubt up to this upload, and there may be more.
    UpTo(UploadId),
    /// No doubt about any file.
    Complete,
    /// Why the run is kept, and the damaged ledger, where the rows do not know of the damage.
    Doubted(DisposalDoubt, Option<LedgerFinding>),
}

/// How an act failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setback {
    pub failure: Failure,
    /// Bytes that were sent without effect.
    pub sent: ByteCount,
}

/// How an act succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The walk has ended.
    Scanned {
        seen_count: u64,
        elapsed: Duration,
        /// Its findings about the whole drop directory.
        walk: Walk,
        /// Runs whose directories were found under another name than before.
        renamed: Vec<RenamedRun>,
    },
    /// Nothing was scanned: another directory is at the drop directory's path.
    OtherRoot {
        root: RootIdentity,
        reason: String,
    },
    /// What the run's own files say about it.
    RunRead(Box<RunReading>),
    /// One observation for each requested path that could be looked at.
    Looked {
        observations: Vec<Observation>,
        /// The identity of the drop directory.
        root: Option<RootIdentity>,
        /// What the rows know about these files.
        known: Catalogued,
        /// Files that a program holds open for writing, as far as that is visible.
        writers: BTreeSet<SourcePath>,
    },
    /// The file was read, and compared with what was sent.
    Compared {
        /// Its content is what was sent.
        is_same: bool,
    },
    /// The file was looked at, and read if it might be another version.
    SourceProved {
        /// Its present version.
        version: Fingerprint,
        /// Parts whose bytes differ from those that were sent.
        differing: Vec<PartNumber>,
    },
    /// The file was written to since the last look.
    SourceMoved {
        version: Fingerprint,
    },
    /// For each file, in order, the upload under its old name; `None` where it was not moved.
    MovedFound(Vec<Option<MovedFrom>>),
    /// The holder of the place, as far as it is ours.
    HolderFound(PlaceFound),
    Replied(Reply),
    /// Bytes of a file were read and sent.
    Sent {
        reply: Reply,
        /// Digest of the bytes that were read.
        md5: Md5,
        sent: ByteCount,
    },
    PartHashed {
        md5: Md5,
    },
    FileHashed {
        /// The digest of its part digests, in the requested layout.
        mark: ContentMark,
    },
    FileDigested {
        md5: Option<Md5>,
        sha256: Option<[u8; 32]>,
    },
    ReceiptWritten(Box<WrittenLine>),
    RunReceiptWritten {
        written: Box<WrittenLine>,
        /// The sentinel, where one is wanted.
        sentinel: Option<SentinelFile>,
    },
    /// Some files of a run were asked about, and their receipts checked.
    ProofsChecked(ProofsChecked),
    /// The source does not exist any more.
    Disposed,
    Surveyed(Survey),
    /// All rows were read.
    RowsRead,
    /// The channel accepted the notice.
    Notified,
}

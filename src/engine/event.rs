//! What the engine is told and what it asks for. The shell does the asked-for and tells the outcome.
//!
//! *One act, one outcome*: every [`Act`] handed out comes back as exactly one
//! [`Event::Outcome`] with the same [`ActId`], also when it failed or was cancelled. Acts in
//! [`Effect::Commit`] start only after the commit; that is how an intent becomes durable first.

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

/// Tells one act from another within one life of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActId(pub u64);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A deadline may have passed.
    Timer,
    /// Something may have changed at these paths.
    Hint {
        drop: DirectoryName,
        /// Where; files, not directories.
        paths: Vec<SourcePath>,
    },
    /// Something may have changed anywhere in the drop directory.
    ScanNow {
        drop: DirectoryName,
    },
    /// A scan or a look found these; a scan sends many of them before its outcome.
    Observed {
        drop: DirectoryName,
        observations: Vec<Observation>,
        /// What the rows know of these files.
        known: Catalogued,
    },
    /// Events began or ceased to arrive.
    WatchChanged {
        drop: DirectoryName,
        watch: WatchState,
        reason: Option<String>,
    },
    /// The oldest [`Effect::Commit`] that was not told of has landed.
    Committed,
    /// Records of these uploads could not be stored, for their values; told before the commit that they
    /// were in.
    Unstored(Vec<Unstored>),
    Outcome {
        act: ActId,
        outcome: Result<Outcome, Setback>,
    },
    /// So many bytes of parts have gone over the wire to each destination, since the start; told
    /// twice a second while parts are on their way.
    Sent(Vec<(DestinationName, ByteCount)>),
    /// So many bytes of each of these uploads are in flight; told about once a second, of those of which
    /// it is another number than before.
    InFlight(Vec<(UploadId, ByteCount)>),
    CredentialChanged {
        destination: DestinationName,
    },
    /// A client found something out of the storage behind a destination, for good.
    Learned {
        destination: DestinationName,
        what: Learned,
        detail: String,
    },
    /// Some of what is stored, where not all was there at the start.
    Stored(StoredRows),
    Reconfigured(Settings),
    /// An operator gave an order; [`Effect::Answer`] answers it.
    Ordered {
        id: OrderId,
        order: Order,
    },
    /// Another limit holds for what is sent.
    RateChanged {
        /// None is unlimited; zero sends no parts.
        bytes_per_second: Option<u64>,
    },
    /// A check of the ledgers found these to be otherwise than their rows say.
    LedgersChecked(Vec<LedgerFinding>),
    /// Starts nothing more; what is in flight may land.
    Drain,
}

/// An upload of which a record could not be stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unstored {
    pub upload: UploadId,
    /// What its row says; none where it has none.
    pub stored: Option<Box<StoredUpload>>,
    pub why: String,
}

/// Something the engine asks for.
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
    /// The version that is meant.
    pub fingerprint: Fingerprint,
    /// The path is one of a sentinel, below the directory of sentinels.
    pub is_sentinel: bool,
    /// Whose it was and where it lay when it was handed in.
    pub provenance: Option<Provenance>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// Walk a drop directory; observations come by [`Event::Observed`], the end by [`Outcome::Scanned`].
    Scan {
        drop: DirectoryName,
        /// Directories that are not entered: runs in which nothing has happened for long.
        skip: Arc<BTreeSet<SourcePath>>,
        /// The directory that has to stand at its path, once files of it were seen.
        root: Option<RootIdentity>,
    },
    /// Read what a run says of itself.
    ReadRun {
        drop: DirectoryName,
        run: SourcePath,
    },
    /// Look at these files; the answer comes by [`Outcome::Looked`].
    Look {
        drop: DirectoryName,
        paths: Vec<SourcePath>,
    },
    /// Compare a file with what was last sent of it, as the rows have it, by reading it once.
    CompareContent {
        drop: DirectoryName,
        path: SourcePath,
        /// The version that is meant.
        fingerprint: Fingerprint,
        /// The upload of it, where it was sent under another name.
        against: Option<UploadId>,
    },
    /// Find out which of these files were sent under another name that is gone.
    FindMoved {
        drop: DirectoryName,
        /// Which, as they stand there.
        files: Vec<(SourcePath, Fingerprint)>,
    },
    /// Find out, from the rows, which other source of ours has a place.
    FindHolder(Box<FindHolder>),
    Call {
        /// The upload on whose behalf it is made, unless it is made for several or for none.
        upload: Option<UploadId>,
        destination: DestinationName,
        call: Box<Call>,
    },
    Put(Box<Sending>),
    /// Read one part's range and hash it.
    HashPart {
        upload: UploadId,
        part: PartNumber,
        source: ReadFrom,
        range: ByteRange,
    },
    /// Read all parts' ranges and digest their digests, to compare with a file that is there.
    HashFile {
        upload: UploadId,
        source: ReadFrom,
        mark: ContentMark,
    },
    /// Find out whether a file whose parts were all sent is still what was read: where it may be another
    /// version by now, it is read once, if it is quiet.
    ProveSource {
        upload: UploadId,
        source: ReadFrom,
        part_size: PartSize,
        /// The digests of the parts, in order.
        md5s: Vec<Md5>,
        /// What it was a quiet period ago, where that is another version than was meant.
        settled: Option<Fingerprint>,
    },
    /// Read the whole file once, in order, for its receipt.
    DigestFile {
        upload: UploadId,
        source: ReadFrom,
        digest: WholeDigest,
    },
    /// Make the line durable that is the receipt, from rows.
    WriteReceipt {
        upload: UploadId,
    },
    /// Make the line durable that says that a run is complete, from rows.
    WriteRunReceipt {
        drop: DirectoryName,
        run: SourcePath,
        /// For the how manieth time it is completed.
        generation: u32,
        /// Make the file as well that tells others of it.
        has_sentinel: bool,
    },
    /// Ask a destination about some files of a run that is to be disposed of, and check their receipts.
    CheckProofs(Box<ProofCheck>),
    /// Move or delete the source of a run, all of it or nothing.
    Dispose {
        drop: DirectoryName,
        run: SourcePath,
        is_file: bool,
        /// How; keep puts back what an act that was cut set aside.
        how: Disposition,
        /// Uploads from this id on were not asked about, and prove nothing.
        before: UploadId,
    },
    /// Read what the rows have of drop directories, for another configuration: it comes by
    /// [`Event::Stored`], the end by [`Outcome::RowsRead`].
    ReadRows {
        /// Which, and whether all of it is wanted and not only which files were sent.
        drops: Vec<(DirectoryName, bool)>,
    },
    /// Look at the free space for the state, at how long the credentials last, and at a period's rows.
    Survey(Option<ReportWanted>),
    Notify {
        notice: Box<Notice>,
    },
}

impl Act {
    /// Makes a call on behalf of no single upload.
    pub(super) fn call(destination: &DestinationName, call: Call) -> Self {
        Self::Call { upload: None, destination: destination.clone(), call: Box::new(call) }
    }

    /// Returns the upload on whose behalf it is done, where it is one's.
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

/// A range of a file that is sent to a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    pub upload: UploadId,
    /// Where it goes, and with what it is counted.
    pub flow: FlowKey,
    pub request: PutRequest,
    pub source: ReadFrom,
    pub range: ByteRange,
}

/// Which place is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindHolder {
    pub upload: UploadId,
    pub targets: Vec<TargetId>,
    pub place: Target,
    pub source: PlaceSource,
}

/// Which files of a run are asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofCheck {
    pub drop: DirectoryName,
    pub run: SourcePath,
    pub is_file: bool,
    pub destination: DestinationName,
    /// The destination can be asked; otherwise only receipts are checked.
    pub asks: bool,
    /// Those after this upload; from the first when none is named.
    pub after: Option<UploadId>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProofsChecked {
    /// All is well up to this upload, and there may be more.
    UpTo(UploadId),
    /// All is well.
    Complete,
    /// Why the run stays, and the ledger that was found damaged, where the rows do not say so.
    Doubted(DisposalDoubt, Option<LedgerFinding>),
}

/// How an act failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setback {
    pub failure: Failure,
    /// Bytes that went over the wire in vain.
    pub sent: ByteCount,
}

/// How an act ended well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The walk came to its end.
    Scanned {
        seen_count: u64,
        elapsed: Duration,
        /// What it says of the drop directory as a whole.
        walk: Walk,
        /// Runs whose directories were found under another name than before.
        renamed: Vec<RenamedRun>,
    },
    /// Nothing was scanned: another directory is at the path of the drop directory.
    OtherRoot {
        root: RootIdentity,
        reason: String,
    },
    /// What the run says of itself.
    RunRead(Box<RunReading>),
    /// What stood there, one observation for each path asked for that could be looked at.
    Looked {
        observations: Vec<Observation>,
        /// Which directory the drop directory is.
        root: Option<RootIdentity>,
        /// What the rows know of these files.
        known: Catalogued,
        /// Those that a program holds open to write, as far as that is seen.
        writers: BTreeSet<SourcePath>,
    },
    /// The file was read, and compared with what was sent.
    Compared {
        /// Its content is what was sent.
        is_same: bool,
    },
    /// The file was looked at, and read where it may be another version.
    SourceProved {
        /// As it is now.
        version: Fingerprint,
        /// Parts whose bytes are others than were sent.
        differing: Vec<PartNumber>,
    },
    /// The file was written to since it was looked at last.
    SourceMoved {
        version: Fingerprint,
    },
    /// For each file, in order, the upload under its old name; none where it was not moved.
    MovedFound(Vec<Option<MovedFrom>>),
    /// Whose the place is, as far as it is ours.
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
        /// The digest of its digests, in the layout asked for.
        mark: ContentMark,
    },
    FileDigested {
        md5: Option<Md5>,
        sha256: Option<[u8; 32]>,
    },
    ReceiptWritten(Box<WrittenLine>),
    RunReceiptWritten {
        written: Box<WrittenLine>,
        /// The file that tells others of it, where one is wanted.
        sentinel: Option<SentinelFile>,
    },
    /// Some files of a run were asked about, and their receipts checked.
    ProofsChecked(ProofsChecked),
    /// The source is not there any more.
    Disposed,
    Surveyed(Survey),
    /// All of it was read.
    RowsRead,
    /// The channel accepted the notice.
    Notified,
}

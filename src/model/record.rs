//! What the store writes, one thing at a time: a new upload, a fact about one, or a row of another table.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bytes::{ByteCount, PartSize};
use super::fact::Fact;
use super::failure::{Failure, ParkReason};
use super::file::{Fingerprint, IgnoreReason, Provenance, SourcePath};
use super::health::{DestinationState, DirectoryHealth, Learned};
use super::id::{DestinationName, DirectoryName, UploadId};
use super::ledger::{LedgerFinding, WrittenLine};
use super::notice::{Notice, NoticeId, NoticeItem};
use super::order::{NameDecision, OrderRecord};
use super::remote::Target;
use super::root::RootIdentity;
use super::run::{Disposal, RunRow};
use super::target::{OpenCleanup, PlaceHolder, TargetAddress, TargetId};
use super::time::WallTime;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    Admit(Box<Admission>),
    Upload(UploadId, Fact),
    /// An unfinished remote upload that must be removed, with or without an upload of ours behind it.
    CleanupQueued {
        what: OpenCleanup,
        at: WallTime,
    },
    /// That clean-up failed and will be tried again.
    CleanupDelayed {
        what: OpenCleanup,
        retry_at: WallTime,
        failure: Failure,
    },
    /// That clean-up is done: the remote upload is not there.
    CleanupDone {
        what: OpenCleanup,
    },
    /// A target that was not known before.
    Target {
        id: TargetId,
        address: TargetAddress,
    },
    /// The targets that a destination has from here on: its own first, then those that are declared to
    /// be the same.
    TargetsInForce {
        destination: DestinationName,
        targets: Vec<TargetId>,
    },
    /// What was completed for a destination at its former targets does not count as sent: the sources
    /// are sent to its target.
    Resend {
        destination: DestinationName,
        target: TargetId,
        /// Only uploads before this one do not count.
        before: UploadId,
    },
    /// An upload waits for the place that another one holds, or does not any more.
    PlaceAwaited {
        upload: UploadId,
        /// The upload that holds the place.
        holder: Option<UploadId>,
    },
    /// A file of ours stands at a place.
    PlaceHeld {
        target: TargetId,
        place: Target,
        /// The upload that made it or found it, and its source.
        holder: PlaceHolder,
        /// The upload made it: what stood there before does not any more.
        is_made: bool,
    },
    /// A path that is not uploaded, and why.
    Ignored {
        drop: DirectoryName,
        path: SourcePath,
        reason: IgnoreReason,
        at: WallTime,
    },
    /// A path that was ignored and is not any more.
    NotIgnored {
        drop: DirectoryName,
        path: SourcePath,
    },
    /// A file that was sent was touched since, and is still what was sent.
    Touched {
        drop: DirectoryName,
        path: SourcePath,
        fingerprint: Fingerprint,
    },
    /// Nothing was at a path: what comes under it, or below it, is no newer version of what was sent.
    Absent {
        drop: DirectoryName,
        path: SourcePath,
    },
    /// A file that was sent stands under another name since: it is not sent again.
    Moved {
        drop: DirectoryName,
        path: SourcePath,
        fingerprint: Fingerprint,
        /// Its upload, under its old name.
        upload: UploadId,
        /// Since when we know.
        at: WallTime,
    },
    /// A drop whose end the platform wants to be told.
    RunOpened {
        destination: DestinationName,
        drop: DirectoryName,
        name: String,
        at: WallTime,
    },
    /// The platform was told of a drop's end.
    RunFinished {
        destination: DestinationName,
        drop: DirectoryName,
        name: String,
        at: WallTime,
    },
    /// The directory that has the name of a drop directory, from an upload on.
    DirectoryInForce {
        drop: DirectoryName,
        directory: String,
        first: UploadId,
    },
    Run(Box<RunRow>),
    /// A line that is no upload's stands in its ledger, synced.
    LedgerAppended(Box<WrittenLine>),
    /// A ledger is damaged, or whole again.
    LedgerChecked(LedgerFinding),
    /// What a run says of itself.
    RunWords {
        drop: DirectoryName,
        run: SourcePath,
        words: Vec<(String, String)>,
        samples: Vec<String>,
    },
    /// A source is to be disposed of, or when that is has changed.
    DisposalQueued(Disposal),
    /// We are about to dispose of it.
    DisposalIntended {
        drop: DirectoryName,
        run: SourcePath,
        at: WallTime,
    },
    /// It was not disposed of, and why.
    DisposalDelayed {
        drop: DirectoryName,
        run: SourcePath,
        retry_at: WallTime,
        failure: Failure,
    },
    /// It is disposed of, or stays after all.
    DisposalEnded {
        drop: DirectoryName,
        run: SourcePath,
        /// It is not there any more.
        is_done: bool,
        at: WallTime,
    },
    Notice(Box<Notice>),
    /// More files failed for the reason of a notice that was not tried yet.
    NoticeFiles {
        id: NoticeId,
        /// How many files it is about, named or not.
        file_count: u64,
        size: ByteCount,
        /// The files that were added and are named.
        items: Vec<NoticeItem>,
    },
    /// A notice was not accepted by its channel, and is tried again.
    NoticeDelayed {
        id: NoticeId,
        retry_at: WallTime,
        failure: Failure,
        /// Since when its receiver has refused it, when it does.
        refused_since: Option<WallTime>,
    },
    /// The receiver of a notice refuses it for good: it is not tried any more.
    NoticeGivenUp {
        id: NoticeId,
        at: WallTime,
        failure: Failure,
    },
    /// A notice was accepted by its channel.
    NoticeSent {
        id: NoticeId,
        at: WallTime,
    },
    /// What an operator ordered, or that it holds no more.
    Order(OrderRecord),
    /// How well a drop directory is being watched.
    DirectoryHealth(DirectoryHealth),
    /// What is configured; of other drop directories and destinations nothing is said any more.
    Configured {
        drops: Vec<DirectoryName>,
        destinations: Vec<DestinationName>,
        /// What is tried in vain for longer needs a person.
        stuck_after: Duration,
    },
    /// By how much this machine's clock is behind that of a destination, as its answers say.
    DestinationClock {
        destination: DestinationName,
        behind_ns: i64,
    },
    /// A destination's answers have shown something of its target that is kept for good.
    DestinationLearned {
        destination: DestinationName,
        target: TargetId,
        what: Learned,
        /// In full, for people; empty where there is nothing to add.
        detail: String,
        at: WallTime,
    },
    DestinationHealth {
        destination: DestinationName,
        /// Platform's name, for status while the daemon is down.
        platform: String,
        /// `ok`, `throttled`, `unreachable` or `halted`.
        state: DestinationState,
        reason: Option<String>,
        /// When it is called again, while it is not.
        next_try_at: Option<WallTime>,
        at: WallTime,
    },
}

/// A new upload with its frozen plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    pub id: UploadId,
    pub file: AdmittedFile,
    pub destination: DestinationName,
    pub target_id: TargetId,
    /// Under which name there.
    pub target: Target,
    /// The part size we wish for; the platform may settle on another at begin.
    pub part_size: PartSize,
    /// Smaller goes first within a drop: position in the drop's `order` list.
    pub rank: u32,
    pub at: WallTime,
    /// Set when the upload cannot be planned and is parked from the start.
    pub parked: Option<ParkReason>,
    /// What an operator decided about its name, which is taken.
    pub decision: Option<NameDecision>,
}

/// A file in the version in which it was admitted, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmittedFile {
    pub drop: DirectoryName,
    pub path: SourcePath,
    pub fingerprint: Fingerprint,
    /// Which run it belongs to; the file's own path where it is alone.
    pub run: SourcePath,
    /// It is the receipt of its run, which says to others that all is there: read from the receipts.
    pub is_sentinel: bool,
    /// Whose it was and where it lay when it was handed in; none of what a drop directory holds.
    pub provenance: Option<Box<Provenance>>,
    /// Which directory the drop directory is that it was seen in; none for what is in no drop
    /// directory.
    pub root: Option<RootIdentity>,
}

//! The store's unit of writing: a new upload, a fact about one, or a row of another table.

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
    /// An unfinished remote upload must be removed, whether an upload of ours owned it or not.
    CleanupQueued {
        what: OpenCleanup,
        at: WallTime,
    },
    /// The clean-up failed and will be retried.
    CleanupDelayed {
        what: OpenCleanup,
        retry_at: WallTime,
        failure: Failure,
    },
    /// The clean-up is done: the remote upload does not exist.
    CleanupDone {
        what: OpenCleanup,
    },
    /// A target that was not known before.
    Target {
        id: TargetId,
        address: TargetAddress,
    },
    /// The targets of a destination from here on: its own first, then those that are declared to be
    /// the same.
    TargetsInForce {
        destination: DestinationName,
        targets: Vec<TargetId>,
    },
    /// What was completed for a destination at former targets does not count as sent: the sources
    /// are sent to its current target.
    Resend {
        destination: DestinationName,
        target: TargetId,
        /// Only uploads with smaller ids do not count.
        before: UploadId,
    },
    /// An upload waits for the place that another one holds, or does not wait any more.
    PlaceAwaited {
        upload: UploadId,
        /// The upload that holds the place.
        holder: Option<UploadId>,
    },
    /// A file of ours is at a place.
    PlaceHeld {
        target: TargetId,
        place: Target,
        /// The upload that made or found it, and its source.
        holder: PlaceHolder,
        /// The upload made it, so the file before it does not exist any more.
        is_made: bool,
    },
    /// A path that is not uploaded, and why.
    Ignored {
        drop: DirectoryName,
        path: SourcePath,
        reason: IgnoreReason,
        at: WallTime,
    },
    /// A path that was ignored is not ignored any more.
    NotIgnored {
        drop: DirectoryName,
        path: SourcePath,
    },
    /// A sent file was touched since, and its content is still what was sent.
    Touched {
        drop: DirectoryName,
        path: SourcePath,
        fingerprint: Fingerprint,
    },
    /// Nothing was at a path: what appears at or below it later is no newer version of what was sent.
    Absent {
        drop: DirectoryName,
        path: SourcePath,
    },
    /// A sent file has another name since: it is not sent again.
    Moved {
        drop: DirectoryName,
        path: SourcePath,
        fingerprint: Fingerprint,
        /// Its upload, under its old name.
        upload: UploadId,
        /// When that was found.
        at: WallTime,
    },
    /// A run whose end must be reported to the platform.
    RunOpened {
        destination: DestinationName,
        drop: DirectoryName,
        name: String,
        at: WallTime,
    },
    /// The end of a run was reported to the platform.
    RunFinished {
        destination: DestinationName,
        drop: DirectoryName,
        name: String,
        at: WallTime,
    },
    /// From an upload on, the directory that the name of a drop directory means.
    DirectoryInForce {
        drop: DirectoryName,
        directory: String,
        first: UploadId,
    },
    Run(Box<RunRow>),
    /// A line that belongs to no upload is in its ledger, synced.
    LedgerAppended(Box<WrittenLine>),
    /// A ledger is damaged, or whole again.
    LedgerChecked(LedgerFinding),
    /// Words that a run's files give about it.
    RunWords {
        drop: DirectoryName,
        run: SourcePath,
        words: Vec<(String, String)>,
        samples: Vec<String>,
    },
    /// A source is to be disposed of, or its time for that has changed.
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
    /// It is disposed of, or is kept after all.
    DisposalEnded {
        drop: DirectoryName,
        run: SourcePath,
        /// The source does not exist any more.
        is_done: bool,
        at: WallTime,
    },
    Notice(Box<Notice>),
    /// More files failed for the reason of a notice that was not attempted yet.
    NoticeFiles {
        id: NoticeId,
        /// All files of the notice, named or not.
        file_count: u64,
        size: ByteCount,
        /// The added files that are named.
        items: Vec<NoticeItem>,
    },
    /// A channel did not accept a notice, which will be retried.
    NoticeDelayed {
        id: NoticeId,
        retry_at: WallTime,
        failure: Failure,
        /// Since when the receiver has refused it, if it does.
        refused_since: Option<WallTime>,
    },
    /// The receiver refuses a notice permanently: it is not tried any more.
    NoticeGivenUp {
        id: NoticeId,
        at: WallTime,
        failure: Failure,
    },
    /// A channel accepted a notice.
    NoticeSent {
        id: NoticeId,
        at: WallTime,
    },
    /// An operator's order, or its end.
    Order(OrderRecord),
    /// The state of watching a drop directory.
    DirectoryHealth(DirectoryHealth),
    /// The configured names; nothing is shown of other drop directories and destinations.
    Configured {
        drops: Vec<DirectoryName>,
        destinations: Vec<DestinationName>,
        /// Attempts that fail for longer need a person.
        stuck_after: Duration,
    },
    /// How far this machine's clock is behind that of a destination, by its answers.
    DestinationClock {
        destination: DestinationName,
        behind_ns: i64,
    },
    /// A destination's answers have shown a lasting property of its target.
    DestinationLearned {
        destination: DestinationName,
        target: TargetId,
        what: Learned,
        /// Text for people; empty where there is nothing to add.
        detail: String,
        at: WallTime,
    },
    DestinationHealth {
        destination: DestinationName,
        /// The platform's name, for `status` while the daemon is down.
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
    /// Its folders and name at the destination.
    pub target: Target,
    /// The part size we wish for; the platform may choose another at begin.
    pub part_size: PartSize,
    /// Smaller goes first within a drop directory: position in its `order` list.
    pub rank: u32,
    pub at: WallTime,
    /// Set when the upload cannot be planned and is parked from the start.
    pub parked: Option<ParkReason>,
    /// The operator's decision about its taken name.
    pub decision: Option<NameDecision>,
}

/// A file in its admitted version, with its provenance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmittedFile {
    pub drop: DirectoryName,
    pub path: SourcePath,
    pub fingerprint: Fingerprint,
    /// The run it belongs to; the file's own path where it is alone.
    pub run: SourcePath,
    /// It is the sentinel of its run, which is read from the receipts.
    pub is_sentinel: bool,
    /// Owner and file system when it was handed in; `None` for a file of a drop directory.
    pub provenance: Option<Box<Provenance>>,
    /// The identity of the drop directory it was seen in; `None` for a file of no drop directory.
    pub root: Option<RootIdentity>,
}

//! The vocabulary: plain values that every layer above uses.
//!
//! Nothing here does I/O, reads a clock, or knows a vendor. The types validate when they are built,
//! so that no other module handles strings that carry a meaning.

pub mod bytes;
pub mod call;
pub mod code;
pub mod digest;
pub mod export;
pub mod fact;
pub mod failure;
pub mod file;
pub mod health;
pub mod hex;
pub mod id;
pub mod ledger;
pub mod live;
pub mod notice;
pub mod order;
pub mod proof;
pub mod record;
pub mod remote;
pub mod root;
pub mod run;
pub mod shown;
pub mod stored;
pub mod target;
pub mod time;
pub mod upload;
pub mod words;

pub use bytes::{ByteCount, ByteRange, PartLimits, PartNumber, PartSize, Space};
pub use call::{
    BeginRequest, Call, CompleteRequest, PartRequest, PutRequest, Reply, Whole, WholeRequest,
};
pub use code::{Code, Reason, WaitCode};
pub use digest::{ETag, ETagEvidence, ETagLaw, ETagMode, Md5, PartNote, Stored};
pub use export::{Export, ExportItem, ExportJob, ExportMode, ExportPlace, ExportState, ExportStep};
pub use fact::Fact;
pub use failure::{FailedAttempts, Failure, FailureKind, ParkReason};
pub use file::{
    Catalogued, Fingerprint, IgnoreReason, KnownFile, Observation, PathDigest, Provenance, Seen,
    SourcePath, UnchangedFiles,
};
pub use health::{DestinationState, DirectoryHealth, HALTED_AFTER, Learned, WatchState};
pub use hex::Hex;
pub use id::{
    DestinationName, DirectoryName, ExportId, RemoteFileId, RemoteUploadId, UploadId, VersionId,
};
pub use ledger::{
    DamagedLedger, KnownLedger, LedgerFinding, LedgerHead, LedgerNumbers, LedgerPath, LineRef,
    SentinelFile, WrittenLine,
};
pub(crate) use ledger::{LEDGER_SUFFIX, split_ledger};
pub use live::{Flow, FlowKey, Live, LivePart, LivePause, LowDisk};
pub use notice::{
    Channel, Notice, NoticeFacts, NoticeGroup, NoticeId, NoticeItem, NoticeKind, NoticeNumber,
    ReportPeriod, StoredNotices, UnsentNotice,
};
pub use order::{NameDecision, OrderChange, OrderRecord, Scope, Standing, Verb};
pub use proof::{ArrivedFile, DisposalDoubt, RemoteStanding, SentFile};
pub use record::{Admission, AdmittedFile, Record};
pub use remote::{
    ChangePolicy, Completion, ContentMark, Describes, Description, Maker, NamePolicies, NamePolicy,
    OpenUpload, RemoteFile, RemotePart, RemoteUpload, Replaces, Target, Traits,
};
pub use root::{RootIdentity, StoredRoot};
pub use run::{
    ClosedByHand, Closing, Disposal, Disposition, LateMarkers, Place, RenamedRun, Role,
    RunCompletion, RunFile, RunFiles, RunOutcome, RunReading, RunReason, RunRow, RunState,
    RunTally, RunTrace, RunWait, SkipVerdict, Start, Unit, WholeDigest,
};
pub use shown::{Shown, json_shown, lines_shown, misleads};
pub use stored::{
    RunEndKey, StoredIgnored, StoredRows, StoredRun, StoredState, StoredTargets, StoredUpload,
};
pub use target::{
    EarlierVersion, FormerTarget, OpenCleanup, PlaceFound, PlaceHolder, PlaceSource, RenameStep,
    Supersession, TargetAddress, TargetId,
};
pub use time::{Monotonic, Now, WallTime, lasted};
pub use upload::{EndReason, Hold, IllegalFact, PartState, Stage, UploadState, WireBytes};

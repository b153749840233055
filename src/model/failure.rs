//! Failures as the policy sees them: a closed list of kinds, and text for people.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::WallTime;
use super::words::words;

/// Limit of the pauses that a server asks for: a header that says "in a year", or a wrong clock
/// there, must not stop a destination for a year.
pub const PAUSE_MAX: Duration = Duration::from_hours(1);

/// What went wrong, as far as it changes what happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FailureKind {
    /// No connection can be made.
    Unreachable,
    /// The connection broke during a request.
    Broken,
    /// Nothing moved for the inactivity time-out.
    TimedOut,
    /// The platform asks for a pause. Without a length, the pause is about this request only, and
    /// the delays of `[retry]` apply.
    Throttled {
        /// The length, when given; never longer than [`PAUSE_MAX`].
        after: Option<Duration>,
    },
    Maintenance,
    Unauthorized,
    /// The credential is accepted but does not permit this.
    Forbidden,
    /// The named thing does not exist.
    NotFound,
    UploadGone,
    AlreadyCompleted,
    NameTaken,
    /// The storage refused or corrupted the part; send it again.
    PartRejected,
    /// The stored file is damaged and cannot be replaced.
    Damaged,
    /// The platform could not put the parts together.
    CompleteRefused,
    /// The platform would accept larger parts.
    PartsTooSmall,
    /// The part is too large for the storage, or for a proxy before it.
    PartTooLarge,
    /// The storage quota or the budget at the platform is used up.
    Quota,
    /// The platform rejects the request as wrong: repeating it will not help.
    BadRequest,
    /// The answer could not be understood.
    BadAnswer,
    /// The platform failed; repeating may help.
    ServerFault,
    /// The source is another version than planned.
    SourceChanged,
    SourceGone,
    /// The source may not be read, or reading it failed.
    SourceUnreadable,
    /// The drop directory, or its file system, does not answer: this says nothing about the file.
    SourceAway,
    /// Reading this one file fails for the moment, or does not answer.
    SourceFailing,
    /// This machine failed: its disk, its memory.
    LocalFault,
    /// The act was cancelled because the daemon stops.
    Cancelled,
}

impl FailureKind {
    /// Returns the word that is kept in the database and printed by `show`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Broken => "broken",
            Self::TimedOut => "timed-out",
            Self::Throttled { .. } => "throttled",
            Self::Maintenance => "maintenance",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not-found",
            Self::UploadGone => "upload-gone",
            Self::AlreadyCompleted => "already-completed",
            Self::NameTaken => "name-taken",
            Self::PartRejected => "part-rejected",
            Self::Damaged => "damaged",
            Self::CompleteRefused => "complete-refused",
            Self::PartsTooSmall => "parts-too-small",
            Self::PartTooLarge => "part-too-large",
            Self::Quota => "quota",
            Self::BadRequest => "bad-request",
            Self::BadAnswer => "bad-answer",
            Self::ServerFault => "server-fault",
            Self::SourceChanged => "source-changed",
            Self::SourceGone => "source-gone",
            Self::SourceUnreadable => "source-unreadable",
            Self::SourceAway => "source-away",
            Self::SourceFailing => "source-failing",
            Self::LocalFault => "local-fault",
            Self::Cancelled => "cancelled",
        }
    }
}

/// One failed act: its kind for the policy, the rest for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind that the policy uses.
    pub kind: FailureKind,
    /// Lower-case fragment that names the thing that failed; no secrets, no signed URL.
    pub message: String,
    pub status: Option<u16>,
    /// The platform's id of the request, for its support.
    pub request_id: Option<String>,
}

impl Failure {
    /// Builds a failure without an answer behind it.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), status: None, request_id: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", self.message, self.kind.as_str())?;
        if let Some(status) = self.status {
            write!(f, ", status {status}")?;
        }
        if let Some(id) = &self.request_id {
            write!(f, ", request {id}")?;
        }
        f.write_str(")")
    }
}

impl std::error::Error for Failure {}

/// The failed attempts of an upload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempts {
    /// How many, since the last success of any kind.
    pub count: u32,
    /// Since when it makes no progress; `None` while it does.
    pub since: Option<WallTime>,
}

impl FailedAttempts {
    /// An upload with fewer failures does not count as stuck: it may have waited for an outage to end.
    pub const MANY: u32 = 5;

    /// Returns since when attempts fail, once they are [`Self::MANY`].
    pub fn in_vain_since(&self) -> Option<WallTime> {
        self.since.filter(|_| self.count >= Self::MANY)
    }
}

words! {
    /// Why an upload stopped until someone or something acts.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    pub enum ParkReason {
        NameTaken = "name-taken", "a file of that name, not proved the same, is at the destination";
        /// Another source of ours has a file with that name at the destination.
        PlaceTakenByOurs = "place-taken-by-ours",
            "another file of ours, not proved the same, has this name at the destination";
        SourceMissing = "source-missing", "the source file is not there";
        SourceUnreadable = "source-unreadable", "the source file may not be read";
        Forbidden = "forbidden", "the destination does not let this credential write";
        TargetMissing = "target-missing", "the project or folder at the destination is not there";
        BadRequest = "bad-request", "the platform calls the request wrong";
        TooLarge = "too-large",
            "the file is too large for the platform: split it, or send it to another destination";
        NameNotAllowed = "name-not-allowed", "the platform cannot carry this name: its path there is too long";
        PartCorrupt = "part-corrupt", "what was sent is stored damaged, again and again";
        /// Other ways were tried as well.
        NoProgress = "no-progress", "the destination refuses the same step again and again";
        CompleteRefused = "complete-refused", "the platform refused to put the parts together";
        SizeDiffers = "size-differs",
            "the file at the destination has another size than the source";
        ContentDiffers = "content-differs",
            "the file at the destination has another digest than was sent";
        CompletionUnknown = "completion-unknown",
            "the platform cannot tell whether the upload was completed: look there before retrying";
        ExportRefused = "export-refused", "the platform would not export the file to the volume";
        Quota = "quota", "no room at the destination";
        RestartedTooOften = "restarted-too-often", "the platform lost the upload five times";
        NotConfigured = "not-configured", "its drop or destination is not in the configuration";
        /// A value does not fit the database: a number out of range, or a row that breaks a rule.
        CannotBeStored = "cannot-be-stored", "a value of it cannot be stored in the database";
        /// A defect of dropferry: the law forbade what happened.
        Bug = "bug", "a defect of dropferry; please report it with the log";
    }
}

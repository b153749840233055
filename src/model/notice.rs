//! Notices: one message for each fact that people should know, and for each channel. A notice holds
//! facts; `notify` words them when it sends it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bytes::ByteCount;
use super::id::{DestinationName, DirectoryName, UploadId, text_id};
use super::ledger::LineRef;
use super::run::RunOutcome;
use super::time::WallTime;
use super::words::words;

/// Names one notice. Given out once, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NoticeId(pub i64);

text_id! {
    /// A configured way of notifying people, by its name: `mail`, or `mail.night` where there are several.
    /// The name is its word in the database.
    Channel
}

words! {
    /// What a notice is about: the closed list.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    pub enum NoticeKind {
        RunCompleted = "run-completed", "a run is complete at every destination";
        RunStale = "run-stale", "a run is open for longer than runs of its kind are";
        Parked = "parked", "files are parked";
        /// Files wait for long for a condition that may pass by itself, and are still retried.
        UploadStuck = "upload-stuck", "files are tried in vain for long, and still are tried";
        Deaf = "deaf", "a drop directory is unreadable";
        DestinationHalted = "destination-halted", "a destination refuses our calls";
        DestinationUnreachable = "destination-unreachable", "a destination is unreachable";
        CredentialExpiring = "credential-expiring", "a credential ends soon";
        DiskLow = "disk-low", "a file system has little free space";
        ReceiptsDamaged = "receipts-damaged",
            "a ledger does not hold, or the line of a file is not in it as it was written";
        /// A source is kept because a destination does not have what was sent.
        GoneAtDestination = "gone-at-destination",
            "a destination does not have a file as it was sent";
        Replaced = "replaced", "a file changed after it was sent: its newer version is there";
        Report = "report", "the summary of a day or a week";
        /// Sent on request, and never stored.
        Test = "test", "a test message";
    }
}

impl NoticeKind {
    /// Returns the kinds that a channel may be configured for: all but tests.
    pub fn all_told() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kind| *kind != Self::Test)
    }

    /// Conditions: they last, and a second notice says that they have ended.
    pub const CONDITIONS: [Self; 8] = [
        Self::RunStale,
        Self::Deaf,
        Self::DestinationHalted,
        Self::DestinationUnreachable,
        Self::CredentialExpiring,
        Self::DiskLow,
        Self::ReceiptsDamaged,
        Self::GoneAtDestination,
    ];
}

text_id! {
    /// The key of notices that belong together: one reason of failures, or one condition. Compared, never parsed.
    NoticeGroup
}

impl NoticeGroup {
    /// Builds the key of a kind and its distinguishing parts; only the last part may hold any character.
    pub fn of(kind: NoticeKind, parts: &[&str]) -> Self {
        Self::new([&[kind.as_str()], parts].concat().join("/"))
    }
}

words! {
    /// A number or a time in a notice.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    pub enum NoticeNumber {
        /// Files that failed.
        Count = "count";
        /// Files of a run or of a period.
        Files = "file_count";
        /// The total length of these files.
        Bytes = "size_bytes";
        /// Files that came after the run was closed.
        LateFiles = "late_file_count";
        /// How often the run was completed: late files complete it again.
        Completions = "completion_count";
        GivenUp = "given_up_count";
        /// Runs that were completed in a period.
        Runs = "completed_count";
        Parked = "parked_count";
        ParkedBytes = "parked_size_bytes";
        FreeBytes = "free_bytes";
        TotalBytes = "total_bytes";
        ExpiresAt = "expires_at";
        /// From the closing of a run to its completion.
        SecondsToThere = "seconds_to_there";
        /// The same for the runs of a period: mean and maximum.
        SecondsToThereMean = "seconds_to_there_mean";
        SecondsToThereMax = "seconds_to_there_max";
        /// Start of a period.
        From = "from";
        /// End of a period, exclusive.
        Until = "until";
    }
}

impl NoticeNumber {
    /// Returns whether it is a time, in nanoseconds since 1970.
    pub fn is_time(self) -> bool {
        matches!(self, Self::ExpiresAt | Self::From | Self::Until)
    }
}

/// The content of a notice. Each kind uses the fields that it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeFacts {
    pub drop: Option<DirectoryName>,
    /// The destinations of a completed run; or the one destination of any other notice.
    pub destinations: Vec<DestinationName>,
    /// The subject: a run, the first file, a drop directory, a destination, a directory.
    pub name: String,
    pub directory: Option<String>,
    /// The reason; for failed files, its code.
    pub reason: Option<String>,
    /// The first file's reason in full.
    pub detail: Option<String>,
    /// The outcome of a run, in the sequencer's own word.
    pub outcome: Option<RunOutcome>,
    /// The head of a completed run's ledger, with the line that states the completion.
    #[serde(default)]
    pub ledger: Option<LineRef>,
    /// The platform's own page of the run's target.
    #[serde(default)]
    pub url: Option<String>,
    pub numbers: BTreeMap<NoticeNumber, u64>,
    /// Files that failed, or runs that were completed, up to [`ITEMS_MAX`].
    pub items: Vec<NoticeItem>,
}

/// Limit of the named files or runs; more are only counted, because receivers refuse messages of
/// more than about a megabyte. `status` lists all that are parked.
pub const ITEMS_MAX: usize = 1_000;

impl NoticeFacts {
    #[must_use]
    pub fn with(mut self, number: NoticeNumber, value: u64) -> Self {
        self.numbers.insert(number, value);
        self
    }

    #[must_use]
    pub fn with_time(self, number: NoticeNumber, at: WallTime) -> Self {
        self.with(number, u64::try_from(at.0).unwrap_or(0))
    }

    /// Returns a number; zero where it is not given.
    pub fn number(&self, number: NoticeNumber) -> u64 {
        self.numbers.get(&number).copied().unwrap_or(0)
    }

    /// Adds files that failed for the same reason, and returns those that are named.
    pub fn append(&mut self, more: &Self) -> Vec<NoticeItem> {
        for number in [NoticeNumber::Count, NoticeNumber::Bytes] {
            let sum = self.number(number).saturating_add(more.number(number));
            self.numbers.insert(number, sum);
        }
        let room = ITEMS_MAX.saturating_sub(self.items.len());
        let named: Vec<_> = more.items.iter().take(room).cloned().collect();
        self.items.extend_from_slice(&named);
        named
    }
}

/// One entry of a notice's list: a failed file, or a completed run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeItem {
    /// The upload of a failed file.
    pub upload: Option<UploadId>,
    pub drop: DirectoryName,
    /// The path of the file or run, as it is shown; empty for the total of all files that are runs
    /// of their own.
    pub name: String,
    pub file_count: u64,
    pub size: ByteCount,
}

/// How often a summary is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportPeriod {
    Day,
    Week,
}

/// One message for one channel: a row of the notices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub id: NoticeId,
    pub channel: Channel,
    pub kind: NoticeKind,
    pub group: NoticeGroup,
    /// It states that the condition of its group has ended.
    pub is_over: bool,
    pub facts: NoticeFacts,
    /// When the stated event happened.
    pub at: WallTime,
    /// Not sent before this time, so that more files can be added.
    pub due: WallTime,
}

impl Notice {
    /// Returns the id that receivers see. Numbers begin at one in each database; together with the
    /// time, the id is unique among databases too.
    pub fn public_id(&self) -> String {
        format!("{:x}-{}", self.at.0, self.id.0)
    }
}

/// An unsent notice, as it was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsentNotice {
    /// The notice; its due time is that of the next attempt.
    pub notice: Notice,
    pub attempt_count: u32,
    pub refused_since: Option<WallTime>,
}

/// The notices that are loaded at a start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredNotices {
    /// Unsent notices, in order.
    pub unsent: Vec<UnsentNotice>,
    /// When the newest notice of each group was made or sent, without notices that a condition has ended.
    pub latest: Vec<(NoticeGroup, WallTime)>,
    /// Conditions that were notified and have not been notified as ended.
    pub standing: Vec<NoticeGroup>,
    /// The end of the last reported period.
    pub reported_until: Option<WallTime>,
    /// The id after the last one ever given.
    pub next: Option<NoticeId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_as_they_are_written_and_none_is_left_out() {
        for kind in NoticeKind::ALL {
            assert_eq!(NoticeKind::parse(kind.as_str()), Some(kind));
        }
        assert!(NoticeKind::CONDITIONS.iter().all(|kind| NoticeKind::ALL.contains(kind)));
    }
}

//! Notices: one message for each fact that people are to know, and each channel it goes by. A notice holds
//! facts; its wording is made where it is sent.

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
        /// Files wait for long for what may pass by itself, and are still tried.
        UploadStuck = "upload-stuck", "files are tried in vain for long, and still are tried";
        Deaf = "deaf", "a drop directory is unreadable";
        DestinationHalted = "destination-halted", "a destination refuses our calls";
        DestinationUnreachable = "destination-unreachable", "a destination is unreachable";
        CredentialExpiring = "credential-expiring", "a credential ends soon";
        DiskLow = "disk-low", "a file system has little free space";
        ReceiptsDamaged = "receipts-damaged",
            "a ledger does not hold, or the line of a file is not in it as it was written";
        /// A source is kept, because a destination does not have what was sent.
        GoneAtDestination = "gone-at-destination",
            "a destination does not have a file as it was sent";
        Replaced = "replaced", "a file changed after it was sent: its newer version is there";
        Report = "report", "the summary of a day or a week";
        /// It is sent when somebody asks for it, and never stored.
        Test = "test", "a test message";
    }
}

impl NoticeKind {
    /// Returns the kinds that a channel may be told of: all but tests.
    pub fn all_told() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|kind| *kind != Self::Test)
    }

    /// Conditions: they last, and a second notice says that they are over.
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
    /// Notices that belong together: what failed for one reason, or one condition. Compared, never parsed.
    NoticeGroup
}

impl NoticeGroup {
    /// Makes the key of a kind and what distinguishes it; only the last part may hold any character.
    pub fn of(kind: NoticeKind, parts: &[&str]) -> Self {
        Self::new([&[kind.as_str()], parts].concat().join("/"))
    }
}

words! {
    /// A number or a time that a notice states.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    pub enum NoticeNumber {
        /// Files that failed.
        Count = "count";
        /// Files of a run or of a period.
        Files = "file_count";
        /// The length of these files together.
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
        /// From the moment when a run was closed until all of it was there.
        SecondsToThere = "seconds_to_there";
        /// Of the runs of a period: on average, and at most.
        SecondsToThereMean = "seconds_to_there_mean";
        SecondsToThereMax = "seconds_to_there_max";
        /// The first moment of a period.
        From = "from";
        /// The first moment after it.
        Until = "until";
    }
}

impl NoticeNumber {
    /// Returns whether it is a time, in nanoseconds since 1970.
    pub fn is_time(self) -> bool {
        matches!(self, Self::ExpiresAt | Self::From | Self::Until)
    }
}

/// What a notice says. Each kind has the facts that it needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeFacts {
    pub drop: Option<DirectoryName>,
    /// Where a run is complete; or the one destination that it is about.
    pub destinations: Vec<DestinationName>,
    /// What it is about: a run, the first file, a drop directory, a destination, a directory.
    pub name: String,
    pub directory: Option<String>,
    /// Why; the word of a reason where files failed.
    pub reason: Option<String>,
    /// The reason in full, of the first file.
    pub detail: Option<String>,
    /// How a run ended, by its own word.
    pub outcome: Option<RunOutcome>,
    /// The head of the ledger of a run that is complete: how many lines it has with the one that says so.
    #[serde(default)]
    pub ledger: Option<LineRef>,
    /// The platform's own page of where it went.
    #[serde(default)]
    pub url: Option<String>,
    pub numbers: BTreeMap<NoticeNumber, u64>,
    /// Files that failed, or runs that were completed, up to [`ITEMS_MAX`].
    pub items: Vec<NoticeItem>,
}

/// Receivers refuse messages of more than about a megabyte: more files or runs than this are counted and
/// not named. `status` lists all that are parked.
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

    /// Returns a number; zero where it is not stated.
    pub fn number(&self, number: NoticeNumber) -> u64 {
        self.numbers.get(&number).copied().unwrap_or(0)
    }

    /// Adds files that failed for the same reason, and returns those of them that are named.
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

/// One entry of a notice's list: a file that failed, or a run that was completed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeItem {
    /// The upload, of a file that failed.
    pub upload: Option<UploadId>,
    pub drop: DirectoryName,
    /// The path of the file or run, as people read it; empty for all files that are runs of their own
    /// together.
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

/// One message by one channel: a row of the notices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    pub id: NoticeId,
    pub channel: Channel,
    pub kind: NoticeKind,
    pub group: NoticeGroup,
    /// It says that the condition of its group is over.
    pub is_over: bool,
    pub facts: NoticeFacts,
    /// When what it says happened.
    pub at: WallTime,
    /// Not sent before this time: until then files may be added to it.
    pub due: WallTime,
}

impl Notice {
    /// Returns the id that receivers see. Ids begin at one in each state: with its time an id is
    /// unique among many states, too.
    pub fn public_id(&self) -> String {
        format!("{:x}-{}", self.at.0, self.id.0)
    }
}

/// A notice that was not sent yet, as it was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsentNotice {
    /// The notice, due when it is to be tried again.
    pub notice: Notice,
    pub attempt_count: u32,
    pub refused_since: Option<WallTime>,
}

/// What a start reads of the notices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredNotices {
    /// What was not sent yet, in order.
    pub unsent: Vec<UnsentNotice>,
    /// When the newest notice of each group was made or sent; that a condition is over does not count.
    pub latest: Vec<(NoticeGroup, WallTime)>,
    /// Conditions of which people were notified, and not yet that they are over.
    pub standing: Vec<NoticeGroup>,
    /// The end of the last period that was reported.
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

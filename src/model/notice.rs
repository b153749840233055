//! What people are told: one notice for each fact that matters to them, and each channel it goes by.

use std::fmt;
use std::sync::Arc;

use super::time::WallTime;

/// Names one notice. Given out once, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NoticeId(pub i64);

/// One way by which people are told, by its name: `mail`, or `mail.night` where there are several.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(Arc<str>);

impl Channel {
    /// Takes a name, as the configuration or a row has it.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Returns the name, which is also its word in the database.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoticeKind {
    /// All of a drop is there.
    RunCompleted,
    /// Files stopped until someone acts.
    Parked,
    /// Files wait for long for what passes by itself, and are still tried.
    UploadStuck,
    /// A drop directory is not heard of, or is heard again.
    Deaf,
    /// A destination refuses us, or takes our calls again.
    DestinationHalted,
    /// A destination cannot be reached for long, or is reached again.
    DestinationUnreachable,
    /// A file system we need has little room, or enough again.
    DiskNearlyFull,
    /// A credential ends soon, or does not any more.
    CredentialFailing,
    /// A receipt is missing, or is not the one that was written.
    ReceiptsDamaged,
    /// A source stays, for a destination does not have what was sent.
    GoneAtDestination,
    /// What completed within a day.
    Digest,
    /// What was too much to be told one by one.
    Summary,
}

impl NoticeKind {
    /// Every kind; those that can be asked for come first.
    pub const ALL: [Self; 12] = [
        Self::RunCompleted,
        Self::Parked,
        Self::UploadStuck,
        Self::Deaf,
        Self::DestinationHalted,
        Self::DestinationUnreachable,
        Self::DiskNearlyFull,
        Self::CredentialFailing,
        Self::ReceiptsDamaged,
        Self::GoneAtDestination,
        Self::Digest,
        Self::Summary,
    ];
    /// Kinds that a channel can ask for. The others follow from how it is told.
    pub const ASKED: [Self; 10] = [
        Self::RunCompleted,
        Self::Parked,
        Self::UploadStuck,
        Self::Deaf,
        Self::DestinationHalted,
        Self::DestinationUnreachable,
        Self::DiskNearlyFull,
        Self::CredentialFailing,
        Self::ReceiptsDamaged,
        Self::GoneAtDestination,
    ];
    /// Kinds that last until it is told that they are over.
    pub const TROUBLES: [Self; 7] = [
        Self::Deaf,
        Self::DestinationHalted,
        Self::DestinationUnreachable,
        Self::DiskNearlyFull,
        Self::CredentialFailing,
        Self::ReceiptsDamaged,
        Self::GoneAtDestination,
    ];

    /// Returns its word in the configuration, in messages and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunCompleted => "run-completed",
            Self::Parked => "parked",
            Self::UploadStuck => "upload-stuck",
            Self::Deaf => "deaf",
            Self::DestinationHalted => "destination-halted",
            Self::DestinationUnreachable => "destination-unreachable",
            Self::DiskNearlyFull => "disk-nearly-full",
            Self::CredentialFailing => "credential-failing",
            Self::ReceiptsDamaged => "receipts-damaged",
            Self::GoneAtDestination => "gone-at-destination",
            Self::Digest => "digest",
            Self::Summary => "summary",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// One message by one channel: a row of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub id: NoticeId,
    /// By which way it goes.
    pub channel: Channel,
    /// What it is about.
    pub kind: NoticeKind,
    /// Of that kind, which: a run's name, an upload's id, a drop directory, a destination, a day.
    pub subject: String,
    /// It takes back an earlier notice of its kind and subject: heard again, ok again.
    pub is_over: bool,
    /// The JSON that is sent: the same at every try.
    pub body: String,
    /// When what it tells of happened.
    pub at: WallTime,
    /// Not sent before this time: more of the same may come.
    pub due: WallTime,
}

impl Notice {
    /// Returns the id that receivers see. Ids begin at one in each state: with its time an id is one
    /// of many states, too.
    pub fn public_id(&self) -> String {
        format!("{:x}-{}", self.at.0, self.id.0)
    }
}

/// A notice that was not sent yet, as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsentNotice {
    /// What is to be sent, due when it is to be tried again.
    pub notice: Notice,
    /// How often that was tried.
    pub attempt_count: u32,
    /// Since when its receiver has refused it.
    pub refused_since: Option<WallTime>,
}

/// What was told lately: it counts against what may be told in an hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentNotice {
    pub channel: Channel,
    /// When it was taken.
    pub sent_at: Option<WallTime>,
    /// When it was made, or was due.
    pub due: WallTime,
    pub body: String,
}

/// What the outbox holds, as a start reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredOutbox {
    /// What was not sent yet, in order.
    pub unsent: Vec<UnsentNotice>,
    /// What was made or sent within the last hour.
    pub recent: Vec<RecentNotice>,
    /// The day of each channel's last digest.
    pub digests: Vec<(Channel, String)>,
    /// What people were told of and not yet that it is over.
    pub troubles: Vec<(NoticeKind, String)>,
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
        assert!(NoticeKind::TROUBLES.iter().all(|kind| NoticeKind::ASKED.contains(kind)));
    }
}

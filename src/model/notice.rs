//! What people are told: one notice for each fact that matters to them, and each channel it goes by.

use super::time::WallTime;

/// Names one notice. Given out once, never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NoticeId(pub i64);

/// By which way people are told. Each is a file of `notify/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// A program is run for each notice.
    Command,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 1] = [Self::Command];

    /// Returns its key in the configuration, which is also its word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == word)
    }
}

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoticeKind {
    /// All of a drop is there.
    DropCompleted,
    /// Files stopped until someone acts.
    Parked,
    /// A drop directory is not heard of, or is heard again.
    Deaf,
    /// A destination refuses us, or takes our calls again.
    DestinationHalted,
}

impl NoticeKind {
    /// Every kind.
    pub const ALL: [Self; 4] =
        [Self::DropCompleted, Self::Parked, Self::Deaf, Self::DestinationHalted];

    /// Returns its word in the configuration, in messages and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DropCompleted => "drop-completed",
            Self::Parked => "parked",
            Self::Deaf => "deaf",
            Self::DestinationHalted => "destination-halted",
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
    /// Its id.
    pub id: NoticeId,
    /// By which way it goes.
    pub channel: Channel,
    /// What it is about.
    pub kind: NoticeKind,
    /// Of that kind, which: a unit's name, an upload's id, a drop directory, a destination.
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

/// A notice that was not sent yet, as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsentNotice {
    /// What is to be sent, due when it is to be tried again.
    pub notice: Notice,
    /// How often that was tried.
    pub attempt_count: u32,
}

/// What the outbox holds, as a start reads it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredOutbox {
    /// What was not sent yet, in order.
    pub unsent: Vec<UnsentNotice>,
    /// What people were told of and not yet that it is over.
    pub troubles: Vec<(NoticeKind, String)>,
    /// The id after the last one ever given.
    pub next: Option<NoticeId>,
}

//! The law of one part: open, accepted by the storage, reported to the platform.

use serde::{Deserialize, Serialize};

use super::IllegalFact;
use crate::model::{ETag, Fact, Md5, PartNote};

/// The durable state of one part.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum PartState {
    #[default]
    Open,
    Accepted {
        /// Digest of the bytes we read.
        md5: Md5,
        etag: ETag,
        /// Reported instead of the ETag.
        note: Option<PartNote>,
    },
    /// The storage has it, and it was reported to the platform.
    Reported {
        /// Digest of the bytes we read.
        md5: Md5,
        etag: ETag,
    },
}

impl PartState {
    /// Returns the note to report instead of the ETag.
    pub fn note(&self) -> Option<&PartNote> {
        if let Self::Accepted { note, .. } = self { note.as_ref() } else { None }
    }

    /// Returns digest and ETag of an accepted part.
    pub fn checkpoint(&self) -> Option<(Md5, &ETag)> {
        match self {
            Self::Open => None,
            Self::Accepted { md5, etag, .. } | Self::Reported { md5, etag } => Some((*md5, etag)),
        }
    }
}

/// Returns a part's state after one fact, or an error when the law forbids the fact.
///
/// # Errors
/// [`IllegalFact`] when the part is not in the state the fact presumes.
pub fn part_transition(part: &PartState, fact: &Fact) -> Result<PartState, IllegalFact> {
    match (fact, part) {
        (Fact::PartAccepted { md5, etag, note, .. }, PartState::Open) => {
            Ok(PartState::Accepted { md5: *md5, etag: etag.clone(), note: note.clone() })
        }
        (Fact::PartsReported { .. }, PartState::Accepted { md5, etag, .. }) => {
            Ok(PartState::Reported { md5: *md5, etag: etag.clone() })
        }
        (Fact::PartReopened { was_reported: false, .. }, PartState::Accepted { .. })
        | (Fact::PartReopened { was_reported: true, .. }, PartState::Reported { .. }) => {
            Ok(PartState::Open)
        }
        (fact, part) => Err(IllegalFact {
            stage: match part {
                PartState::Open => "open (a part)",
                PartState::Accepted { .. } => "accepted (a part)",
                PartState::Reported { .. } => "reported (a part)",
            },
            fact: fact.name().to_owned(),
        }),
    }
}

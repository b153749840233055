//! Files that are told of together.

use serde_json::Value;

use crate::model::{
    ByteCount, Channel, DestinationName, DirectoryName, Monotonic, NoticeId, NoticeKind,
    SourcePath, UploadId,
};

/// Paths named in a message; the others are counted.
const PATHS_MAX: usize = 5;

/// What belongs together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum GroupKey {
    /// Files that park of one drop directory, to one destination, for one reason.
    Parked(DirectoryName, DestinationName, String),
    /// Files of one drop directory, to one destination, that wait for long for one reason.
    Stuck(DirectoryName, DestinationName, String),
    /// Files of one drop directory that are drops of their own, and are all there.
    Completed(DirectoryName),
}

impl GroupKey {
    /// Reads of a message which group it told of, if any.
    pub(super) fn of_body(body: &str) -> Option<Self> {
        let body: Value = serde_json::from_str(body).ok()?;
        let text = |key: &str| body[key].as_str().map(str::to_owned);
        let drop = || text("drop").map(DirectoryName::new);
        match NoticeKind::parse(body["kind"].as_str()?)? {
            NoticeKind::Parked => {
                let destination = DestinationName::new(text("destination")?);
                Some(Self::Parked(drop()?, destination, text("reason")?))
            }
            NoticeKind::UploadStuck => {
                let destination = DestinationName::new(text("destination")?);
                Some(Self::Stuck(drop()?, destination, text("reason")?))
            }
            NoticeKind::RunCompleted if body["paths"].is_array() => drop().map(Self::Completed),
            NoticeKind::RunCompleted
            | NoticeKind::Deaf
            | NoticeKind::DestinationHalted
            | NoticeKind::DestinationUnreachable
            | NoticeKind::DiskNearlyFull
            | NoticeKind::CredentialFailing
            | NoticeKind::ReceiptsDamaged
            | NoticeKind::GoneAtDestination
            | NoticeKind::Digest
            | NoticeKind::Summary => None,
        }
    }
}

/// A window that is open.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) until: Monotonic,
    /// What fell into it.
    pub(super) files: Files,
    pub(super) ids: Vec<(Channel, NoticeId)>,
}

/// What is told of a group.
#[derive(Debug, Clone)]
pub(super) struct Files {
    /// The upload of the first file.
    pub(super) first: UploadId,
    /// The first paths.
    pub(super) paths: Vec<String>,
    pub(super) count: u64,
    /// How large, together.
    pub(super) size: ByteCount,
    /// Why they stopped, of the first; where they are, when they did not.
    pub(super) why: Vec<String>,
}

impl Files {
    pub(super) fn one(first: UploadId, of: (&SourcePath, ByteCount), why: Vec<String>) -> Self {
        Self { first, paths: vec![of.0.to_string()], count: 1, size: of.1, why }
    }

    /// Adds another that came later.
    pub(super) fn add(&mut self, other: Self) {
        self.count += other.count;
        self.size = ByteCount(self.size.0.saturating_add(other.size.0));
        let room = PATHS_MAX.saturating_sub(self.paths.len());
        self.paths.extend(other.paths.into_iter().take(room));
    }

    /// Names the first, and counts the others.
    pub(super) fn named(&self) -> String {
        let more = self.count - self.paths.len() as u64;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", self.paths.join(", "))
    }
}

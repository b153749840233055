//! The state of drop directories and destinations.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::DirectoryName;
use super::root::RootIdentity;
use super::time::WallTime;
use super::words::words;

words! {
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum WatchState {
        /// By events, with scans as the authority.
        Events = "events";
        Scanning = "scanning";
        /// Not at all: neither events nor a full scan in time.
        Deaf = "deaf";
    }
}

/// One drop directory's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryHealth {
    pub drop: DirectoryName,
    /// Its directory, for people.
    pub directory: String,
    pub watch: WatchState,
    /// Why events are not used, and which part is not visible.
    pub reason: Option<String>,
    /// End of the last scan that saw the whole directory.
    pub last_full_scan_at: Option<WallTime>,
    /// Files that were seen and have not settled.
    pub settling_count: u64,
    /// The directory's identity when its files were last seen.
    pub root: Option<RootIdentity>,
    /// A scan has seen it since the daemon started. Not stored.
    pub is_scanned: bool,
}

words! {
    /// Lasting properties of a destination that its answers have shown.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    pub enum Learned {
        /// An ETag was equal to the MD5 of the bytes sent.
        ETagsAreMd5s = "etags-are-md5s", "its ETags are MD5s: another one is damage";
        /// A file was intact although the ETags of its parts were not their digests.
        ETagsAreNoDigests = "etags-are-no-digests",
            "its ETags are no digests: each file is read back after it is sent";
        /// The digest of a file of many parts follows another rule than that of S3.
        FinalDigestsDiffer = "final-digests-differ",
            "it makes the digests of files of many parts by a rule of its own, so that only their parts \
             and sizes are compared";
        NoConditions = "no-conditions",
            "it knows no conditional writes: a name is looked up before it is written";
        NoTags = "no-tags", "it knows no tags: files are sent without";
        NoObjectSize = "no-object-size",
            "it knows no size at a complete: the size is compared afterwards";
        /// It accepted a request of an upload.
        Works = "works", "it has taken an upload";
        NoContentMd5 = "no-content-md5",
            "it knows no Content-MD5: parts are proved by their ETags alone";
        NoETags = "no-etags",
            "its answers to what is sent have no ETags: what arrived is looked up each time";
        NoPartLists = "no-part-lists",
            "it lists no parts of an upload: those count whose answers were recorded, the others are sent again";
    }
}

impl Learned {
    /// Returns whether people should know it: a check is missing, or work takes longer.
    pub fn is_notable(self) -> bool {
        match self {
            Self::ETagsAreMd5s | Self::Works => false,
            Self::ETagsAreNoDigests
            | Self::FinalDigestsDiffer
            | Self::NoConditions
            | Self::NoTags
            | Self::NoObjectSize
            | Self::NoContentMd5
            | Self::NoETags
            | Self::NoPartLists => true,
        }
    }
}

/// A credential that is refused once, or replaced within this time, needs no notice.
pub const HALTED_AFTER: Duration = Duration::from_mins(2);

words! {
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum DestinationState {
        /// It was not called since the daemon started.
        Unknown = "unknown";
        /// It accepts our calls.
        Ok = "ok";
        /// It asked for a pause.
        Throttled = "throttled";
        /// It does not answer; calls are retried for as long as that lasts.
        Unreachable = "unreachable";
        /// It refuses our credential, or is closed for maintenance.
        Halted = "halted";
    }
}

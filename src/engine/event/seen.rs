//! What scans and comparisons find besides observations.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::{
    DestinationName, NoticeFacts, ReportPeriod, RootIdentity, SourcePath, Space, UploadId, WallTime,
};

/// A scan's findings about the whole drop directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// It walked everything.
    pub complete: bool,
    /// Directories whose content it could not see.
    pub unseen: BTreeSet<SourcePath>,
    /// The drop directory is empty.
    pub is_empty: bool,
    /// The identity of the drop directory.
    pub root: RootIdentity,
    /// The space on its file system, where known.
    pub space: Option<Space>,
}

/// An upload of a file under a name that does not exist any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedFrom {
    pub upload: UploadId,
    /// Its time of change is that of the upload: only a directory above it was renamed.
    pub is_untouched: bool,
}

/// The summary to make: of the last complete period, unless it was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportWanted {
    pub period: ReportPeriod,
    /// The end of the last reported period.
    pub reported_until: Option<WallTime>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    pub directory: String,
    /// The free space of its file system, where known.
    pub space: Option<Space>,
    /// When each destination's credential expires, where it says so.
    pub expiries: Vec<(DestinationName, Option<WallTime>)>,
    pub report: Option<NoticeFacts>,
}

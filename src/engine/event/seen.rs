//! What scans and comparisons say beside what was seen.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::{
    DestinationName, NoticeFacts, ReportPeriod, RootIdentity, SourcePath, Space, UploadId, WallTime,
};

/// What a scan says of the drop directory as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// It came to its end.
    pub complete: bool,
    /// Places in which what was not seen may be all the same.
    pub unseen: BTreeSet<SourcePath>,
    /// Nothing at all stands in the drop directory.
    pub is_empty: bool,
    /// Which directory the drop directory is.
    pub root: RootIdentity,
    /// The room on its file system, where it can be told.
    pub space: Option<Space>,
}

/// An upload of a file under a name that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedFrom {
    pub upload: UploadId,
    /// Its time of change is that of the upload: a directory above it was renamed, and nothing else.
    pub is_untouched: bool,
}

/// Which summary is wanted: of the last period that ended, unless it was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportWanted {
    pub period: ReportPeriod,
    /// The end of the last period that was reported.
    pub reported_until: Option<WallTime>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    pub directory: String,
    /// The free space of its file system, where it is known.
    pub space: Option<Space>,
    /// When each destination's credential expires, where it says so.
    pub expiries: Vec<(DestinationName, Option<WallTime>)>,
    pub report: Option<NoticeFacts>,
}

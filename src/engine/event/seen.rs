//! What scans and comparisons say beside what was seen.

use crate::model::{RootIdentity, Space, UploadId};

/// What a scan says of the drop directory as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// Every directory was read to its end.
    pub complete: bool,
    /// Nothing at all stands in the drop directory.
    pub is_empty: bool,
    /// Which directory the drop directory is.
    pub root: RootIdentity,
    /// The room on its file system, where it can be told.
    pub space: Option<Space>,
}

/// An upload of a file under a name that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MovedFrom {
    pub upload: UploadId,
    /// Its time of change is that of the upload: a directory above it was renamed, and nothing else.
    pub is_untouched: bool,
}

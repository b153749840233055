//! The identity of a drop directory.

use serde::{Deserialize, Serialize};

use super::id::{DirectoryName, text_id};

text_id! {
    /// The identity of a directory, beyond its path: the type and the source of its mount, its path
    /// inside that mount, and its inode where the file system keeps it.
    ///
    /// A share that is mounted again is the same directory. A link, another share or another
    /// directory at the same path is not. Device numbers are excluded, because each mount may get
    /// another one. It is one line of text, made by `source`; equal texts mean equal directories.
    RootIdentity
}

/// The identity of a drop directory when its files were last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRoot {
    pub drop: DirectoryName,
    /// Its configured path.
    pub directory: String,
    pub identity: RootIdentity,
}

//! Which directory a drop directory is.

use serde::{Deserialize, Serialize};

use super::id::{DirectoryName, text_id};

text_id! {
    /// The identity of a directory, which its path alone is not: the type and the source of its mount, its
    /// path inside of that mount, and its inode where the file system keeps it.
    ///
    /// A share that is mounted again is the same directory. A link, another share or another directory at
    /// the same path is not. Device numbers are no part of it, since a mount may get another one each time.
    /// It is one line of text, made by `source`; two are the same when their texts are.
    RootIdentity
}

/// A drop directory as its files were last seen in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRoot {
    pub drop: DirectoryName,
    /// Its configured path.
    pub directory: String,
    pub identity: RootIdentity,
}

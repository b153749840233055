//! Which directory a drop directory is.

use std::fmt;
use std::sync::Arc;

/// The identity of a directory, which its path alone is not: the type and the source of its mount, its
/// path inside of that mount, and its inode where the file system keeps it.
///
/// A share that is mounted again is the same directory. A link, another share or another directory at
/// the same path is not. Device numbers are no part of it, since a mount may get another one each time.
/// It is one line of text, made by `source`; two are the same when their texts are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootIdentity(Arc<str>);

impl RootIdentity {
    /// Wraps the text of an identity.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RootIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

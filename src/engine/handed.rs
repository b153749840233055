//! Files that an operator hands in, from outside the drop directories.
//!
//! They belong to a drop directory of their own, [`DirectoryName::handed_in`], which is the whole file
//! system and is never scanned: each is admitted as it stands when it is handed in, for one
//! destination. From there on it is an upload like any other. A file that changes afterwards ends its
//! upload; whoever handed it in hands it in again.

use serde::{Deserialize, Serialize};

use super::transfers::Settled;
use crate::model::{DirectoryName, Fingerprint, Place, Provenance, SourcePath};

/// A file that is handed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedFile {
    /// Its path, relative to the root of the file system.
    pub path: SourcePath,
    /// Its path below what was handed in: it stands there under that.
    pub name: SourcePath,
    /// As it stands there.
    pub version: Fingerprint,
    /// Whose it is and where it lies: nothing else is read under its path.
    pub provenance: Provenance,
}

impl HandedFile {
    /// Returns what is admitted of it.
    pub(super) fn into_settled(self) -> Settled {
        let Self { path, name, version, provenance } = self;
        Settled {
            drop: DirectoryName::handed_in(),
            place: Place::alone(&path),
            path,
            name,
            version,
            is_unreadable: false,
            may_be_moved: false,
            provenance: Some(provenance),
        }
    }
}

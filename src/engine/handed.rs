//! Files that an operator hands in, from outside the drop directories.
//!
//! They belong to a drop directory of their own, [`DirectoryName::handed_in`], which is the whole
//! file system and is never scanned: each file is admitted in its version at that moment, for one
//! destination. From there on it is an upload like any other. A file that changes afterwards ends
//! its upload, and has to be handed in again.

use serde::{Deserialize, Serialize};

use super::transfers::Settled;
use crate::model::{DirectoryName, Fingerprint, Place, Provenance, SourcePath};

/// A file that is handed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedFile {
    /// Its path, relative to the root of the file system.
    pub path: SourcePath,
    /// Its path below the directory that was handed in: its name at the destination.
    pub name: SourcePath,
    /// Its version.
    pub version: Fingerprint,
    /// Owner and file system: no other file is read under its path.
    pub provenance: Provenance,
}

impl HandedFile {
    /// Returns the file as it is admitted.
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

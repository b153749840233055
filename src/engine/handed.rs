//! Files that an operator hands in, from outside the drop directories.
//!
//! They belong to a drop directory of their own, [`DirectoryName::handed_in`], which is the whole file
//! system and is never scanned: each is admitted as it stands when it is handed in, for one
//! destination. From there on it is an upload like any other. A file that changes afterwards ends its
//! upload; whoever handed it in hands it in again.

use serde::{Deserialize, Serialize};

use super::Engine;
use super::transfers::{Settled, Transfers};
use super::turn::Turn;
use crate::model::{
    Catalogued, DestinationName, DirectoryName, Fingerprint, Place, Provenance, SourcePath,
    UploadId,
};

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

impl Engine {
    /// Admits files for a destination. Returns the upload of each; none where this version was handed in
    /// for it before.
    pub(super) fn hand_in(
        &mut self,
        files: Vec<HandedFile>,
        known: &Catalogued,
        to: &DestinationName,
        turn: &mut Turn,
    ) -> Vec<(SourcePath, Option<UploadId>)> {
        let drop = DirectoryName::handed_in();
        if let Some(intake) = self.intakes.get_mut(&drop) {
            intake.borrow_known(known);
        }
        let admit = |file: HandedFile| {
            let upload = self.hand_in_file(&file, to, turn);
            (file.path, upload)
        };
        let admitted = files.into_iter().map(admit).collect();
        if let Some(intake) = self.intakes.get_mut(&drop) {
            intake.end_borrow();
        }
        admitted
    }

    fn hand_in_file(
        &mut self,
        file: &HandedFile,
        to: &DestinationName,
        turn: &mut Turn,
    ) -> Option<UploadId> {
        let (drop, digest) = (DirectoryName::handed_in(), file.path.digest());
        let files = self.intakes.get(&drop)?.files();
        let set = files.set_of(to);
        if set == 0 {
            return None;
        }
        match files.known().covered(digest, &file.version) {
            Some(covered) if covered & set != 0 => return None,
            Some(_) => {}
            // Uploads of another version have an end.
            None => {
                let live = files.known().live(digest);
                self.with_owners(live, turn, Transfers::end_changed);
            }
        }
        let (path, place, version) = (&file.path, Place::alone(&file.path), file.version);
        let provenance = Some(file.provenance);
        let (drop, name, is_unreadable) = (&drop, &file.name, false);
        let settled = Settled { drop, path, name, place, version, is_unreadable, provenance };
        self.admit_to(to, &settled, turn)
    }
}

//! Files that are being sent and were not there.
//!
//! A run whose directory is renamed is not there under its name until a scan finds it under the other one.
//! So a file is gone only where a scan that began after it was missed has ended, and a look after that does not
//! find it either. Until then its uploads wait, and no notice is sent. Nor is anything sent of a run that was found
//! just now while others are under way, before such a scan has ended.

use std::collections::BTreeMap;

use super::Intake;
use super::turn::IntakeTurn;
use crate::model::{Monotonic, SourcePath, UploadId};

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct MissingFiles(BTreeMap<SourcePath, Missed>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missed {
    /// A scan is awaited that begins after this.
    Since(Monotonic),
    /// Such a scan has ended.
    Scanned,
}

impl MissingFiles {
    /// Notes that a file is there.
    pub(super) fn found(&mut self, path: &SourcePath) {
        self.0.remove(path);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Notes that a scan has ended, and returns the files that are to be looked at.
    fn scanned(&mut self, started: Monotonic) -> Vec<SourcePath> {
        let is_due = |missed: &Missed| matches!(missed, Missed::Since(at) if *at <= started);
        let due = self.0.iter_mut().filter(|(_, missed)| is_due(missed));
        due.map(|(path, missed)| {
            *missed = Missed::Scanned;
            path.clone()
        })
        .collect()
    }
}

impl Intake {
    /// Has another scan made for a run that was found just now: it may be another one that was renamed.
    pub(super) fn found_run(&mut self, is_new: bool, now: Monotonic) {
        if is_new {
            self.scans.want(now);
        }
    }

    /// Notes that a file could not be opened for it is not there.
    pub(super) fn miss(&mut self, path: SourcePath, now: Monotonic) {
        if !self.settings.is_scanned {
            return;
        }
        self.files.missing.0.entry(path).or_insert(Missed::Since(now));
        self.scans.want(now);
    }

    /// Notes that a look did not find a file, with the uploads of it that are open.
    pub(super) fn not_found(
        &mut self,
        path: &SourcePath,
        open: Vec<UploadId>,
        turn: &mut IntakeTurn<'_>,
    ) {
        // The rest of a run that is moved to another file system is removed file by file.
        let is_sure =
            self.files.missing.0.get(path) == Some(&Missed::Scanned) && !self.runs.has_copy(path);
        if !open.is_empty() && self.settings.is_scanned && !is_sure {
            self.files.missing.found(path);
            return self.miss(path.clone(), turn.now().monotonic);
        }
        self.files.missing.found(path);
        turn.note_gone(path, open);
    }

    /// Has files looked at again that were missed before a scan that has ended.
    pub(super) fn look_for_missing(&mut self, started: Monotonic, now: Monotonic) {
        let paths = self.files.missing.scanned(started);
        self.hint(paths, now);
    }
}

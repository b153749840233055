//! Files that are missing while they are being sent.
//!
//! The files of a renamed run are missing under their old paths until a scan finds the run under
//! its new name. So a file is gone only after a scan that began later has ended and a further look
//! does not find it either. Until then its uploads wait, and no notice is sent. A run that was just
//! found is not sent either before such a scan, while other runs are in progress.

use std::collections::BTreeMap;

use super::Intake;
use super::turn::IntakeTurn;
use crate::model::{Monotonic, SourcePath, UploadId};

#[derive(Debug, Default)]
pub(super) struct MissingFiles(BTreeMap<SourcePath, Missed>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missed {
    /// Waits for a scan that begins after this.
    Since(Monotonic),
    /// Such a scan has ended.
    Scanned,
}

impl MissingFiles {
    /// A file exists.
    pub(super) fn found(&mut self, path: &SourcePath) {
        self.0.remove(path);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Ends a scan, and returns the files to look at.
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
    /// Schedules another scan for a run that was just found: it may be a renamed one.
    pub(super) fn found_run(&mut self, is_new: bool, now: Monotonic) {
        if is_new {
            self.scans.want(now);
        }
    }

    /// A file could not be opened because it does not exist.
    pub(super) fn miss(&mut self, path: SourcePath, now: Monotonic) {
        if !self.settings.is_scanned {
            return;
        }
        self.files.missing.0.entry(path).or_insert(Missed::Since(now));
        self.scans.want(now);
    }

    /// A look did not find a file that has these open uploads.
    pub(super) fn not_found(
        &mut self,
        path: &SourcePath,
        open: Vec<UploadId>,
        turn: &mut IntakeTurn<'_>,
    ) {
        // When a run is moved to another file system, it is removed file by file.
        let is_sure =
            self.files.missing.0.get(path) == Some(&Missed::Scanned) && !self.runs.has_copy(path);
        if !open.is_empty() && self.settings.is_scanned && !is_sure {
            self.files.missing.found(path);
            return self.miss(path.clone(), turn.now().monotonic);
        }
        self.files.missing.found(path);
        turn.note_gone(path, open);
    }

    /// Schedules looks at files that were missing before the ended scan.
    pub(super) fn look_for_missing(&mut self, started: Monotonic, now: Monotonic) {
        let paths = self.files.missing.scanned(started);
        self.hint(paths, now);
    }
}

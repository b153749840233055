//! The progress of uploads, as their drop directory receives it.

use super::turn::{IntakeTurn, UploadEnd};
use super::{Intake, Reply};
use crate::engine::dispatch::{Dispatch, ToNotices, UploadFile};
use crate::engine::event::ActId;
use crate::engine::settings::DirectorySettings;
use crate::model::{
    AdmittedFile, ClosedByHand, DestinationName, Fingerprint, Now, PathDigest, RunRow, SourcePath,
    UploadId,
};

impl Intake {
    /// Returns the uploads that end when a file is handed in for a destination: those of its other versions.
    /// `None` where this version was handed in for it before, or the destination is not configured.
    pub(in crate::engine) fn judge_handed(
        &self,
        path: PathDigest,
        version: &Fingerprint,
        to: &DestinationName,
    ) -> Option<Vec<UploadId>> {
        let set = self.files.set_of(to);
        match self.files.known().covered(path, version) {
            _ if set == 0 => None,
            Some(covered) if covered & set != 0 => None,
            Some(_) => Some(Vec::new()),
            None => Some(self.files.known().live(path)),
        }
    }

    /// Closes a run by an order.
    pub(in crate::engine) fn close_by_hand(
        &mut self,
        run: &SourcePath,
        by: String,
        turn: &mut IntakeTurn<'_>,
    ) -> Result<ClosedByHand, &'static str> {
        self.runs.close_by_hand(run, by, turn)
    }

    /// A file was admitted for a destination.
    pub(super) fn admitted(&mut self, upload: &UploadFile, now: Now) {
        let set = self.files.set_of(&upload.destination);
        self.files.known.admitted(upload.file.path.digest(), &upload.file.fingerprint, set);
        self.joined(upload, now);
    }

    /// An upload of a file is open.
    pub(super) fn joined(&mut self, upload: &UploadFile, now: Now) {
        if !upload.file.is_sentinel {
            self.files.known.began(upload.file.path.digest(), upload.id);
        }
        self.runs.join(upload, now);
    }

    /// A file was touched while it was sent, and its content is what was sent.
    pub(super) fn retouched(&mut self, file: &UploadFile) {
        self.files.touched.remove(&file.file.path);
        self.files.known.proved(file.file.path.digest(), &file.file.fingerprint);
    }

    /// Receives the result of moving or deleting a run's source.
    pub(super) fn disposed(
        &mut self,
        run: &SourcePath,
        act: ActId,
        reply: Reply,
        turn: &mut IntakeTurn<'_>,
    ) {
        if self.disposals.disposed(run, act, reply, turn) {
            self.runs.note_absence(run, turn.now().monotonic);
        }
    }

    /// Applies the end of an upload to its file.
    pub(super) fn ended(&mut self, upload: &UploadFile, end: UploadEnd, turn: &mut IntakeTurn<'_>) {
        let UploadFile { id, file: AdmittedFile { path, fingerprint, .. }, .. } = upload;
        let is_superseded = end == UploadEnd::Superseded;
        let set = self.files.set_of(&upload.destination);
        let known = &mut self.files.known;
        if is_superseded {
            // The same version may come back while uploads of it to other destinations continue.
            known.uncover(path.digest(), fingerprint, set);
        }
        known.ended(path.digest(), *id, is_superseded);
        if is_superseded && self.settings.is_scanned {
            // However the new version was found, its run waits until that settles.
            self.files.settle.note_change(path, turn.now().monotonic);
            self.hint(vec![path.clone()], turn.now().monotonic);
        }
        if self.files.touched.remove(path) && end == UploadEnd::Receipted {
            // It is compared with what was sent.
            self.hint(vec![path.clone()], turn.now().monotonic);
        }
        if end == UploadEnd::Receipted {
            self.runs.note_line(&upload.file.run, turn.now().monotonic);
        }
        if upload.file.run == *path && self.files.is_everywhere(path, fingerprint) {
            // A file that is its own run is disposed of when its last upload has its receipt.
            // One beside the parts of what people call a run is no run of its own.
            let is_beside = self.settings.runs.closing.has_groups && path.above().next().is_some();
            if end == UploadEnd::Receipted && !is_beside {
                let mut row = RunRow::opened(turn.directory(), path.clone(), turn.now().wall);
                (row.files.count, row.files.size, row.completion.generation) =
                    (1, fingerprint.size, 1);
                turn.say(completed(row, &self.settings, Some(*id)));
            }
            self.disposals.queue(path, true, &self.settings, turn);
        }
        self.files.known.release(path.digest());
    }
}

/// Reports a completed run.
pub(super) fn completed(
    row: RunRow,
    settings: &DirectorySettings,
    upload: Option<UploadId>,
) -> Dispatch {
    let (row, destinations) = (Box::new(row), settings.destinations.clone());
    Dispatch::Notices(ToNotices::RunCompleted { row, destinations, upload })
}

//! The start: memory is built again from rows.

use super::event::Effect;
use super::turn::Turn;
use super::upload::Upload;
use super::{Engine, Stored, StoredFile, StoredUpload};
use crate::model::Now;

impl Engine {
    /// Takes what is stored: first what is known of files, then the uploads that go on.
    pub(super) fn take_stored(&mut self, stored: Stored, now: Now, out: &mut Vec<Effect>) {
        let mut turn = Turn::new(now);
        for file in stored.known {
            self.remember(file, None);
        }
        for (destination, remote) in stored.cleanups {
            if let Some(gate) = self.gates.get_mut(&destination) {
                gate.clean_up(remote, now.monotonic);
            }
        }
        for (drop, path, reason) in stored.ignored {
            if let Some(files) = self.drops.get_mut(&drop) {
                files.ignored.insert(path, reason);
            }
        }
        for (drop, path) in stored.unreadable {
            if let Some(files) = self.drops.get_mut(&drop) {
                files.unreadable.insert(path);
            }
        }
        for unit in stored.units {
            if let Some(files) = self.drops.get_mut(&unit.row.drop) {
                files.units.load(unit, now.monotonic);
            }
        }
        self.take_roots(stored.roots);
        for key in stored.open_drops {
            self.open_drop(key, now);
        }
        self.take_uploads(stored.uploads, &mut turn);
        stored.disposals.into_iter().for_each(|disposal| self.take_disposal(disposal, now));
        let names: Vec<_> = self.gates.keys().cloned().collect();
        names.iter().for_each(|name| self.tell_destination(name, None, &mut turn));
        self.tell_people(&mut turn);
        turn.flush(out);
    }

    /// Takes more of the uploads that are stored, before the first event: in memory they are small,
    /// as rows they are not.
    pub fn load_more(
        &mut self,
        uploads: impl IntoIterator<Item = StoredUpload>,
        now: Now,
        out: &mut Vec<Effect>,
    ) {
        let mut turn = Turn::new(now);
        self.take_uploads(uploads, &mut turn);
        self.tell_people(&mut turn);
        turn.flush(out);
    }

    fn take_uploads(&mut self, uploads: impl IntoIterator<Item = StoredUpload>, turn: &mut Turn) {
        for upload in uploads {
            let upload = Upload::loaded(upload.admission, upload.state, upload.parts);
            self.take_upload(Box::new(upload), turn);
        }
    }

    fn take_upload(&mut self, mut upload: Box<Upload>, turn: &mut Turn) {
        let id = upload.id();
        self.next_upload = self.next_upload.max(id.0 + 1);
        if !upload.admission.is_sentinel {
            self.remember(StoredFile::of(&upload.admission), Some(id));
        }
        if let Some(files) = self.drops.get(&upload.admission.drop) {
            // One name for all, and not one for each.
            upload.admission.unit = files.units.shared(&upload.admission.unit);
        }
        self.join_drop(&upload.admission, turn);
        self.join_unit(&upload.admission, turn);
        self.uploads.insert(id, upload);
        self.park_or_release(id, turn);
    }
}

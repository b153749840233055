//! What the store could not write: memory goes back to what the rows say.
//!
//! Memory moves when a decision is made, ahead of the disk. Where the disk refuses a record for its own
//! values, its upload is taken from its row again, as at a start, and stays parked until an operator
//! retries it: then it asks before it acts. Acts that were under way for it come back to an upload that
//! does not wait for them. The record that parks it tells the store that memory agrees again.

use super::event::Unstored;
use super::turn::Turn;
use super::upload::Upload;
use super::{Engine, StoredUpload};
use crate::model::{Fact, ParkReason, UploadId};

impl Engine {
    pub(super) fn on_unstored(&mut self, refused: Vec<Unstored>, turn: &mut Turn) {
        for Unstored { upload, stored, why } in refused {
            match stored {
                Some(stored) => {
                    self.take_again(*stored, turn);
                    let reason = ParkReason::CannotBeStored;
                    let parked = Fact::Parked { reason, detail: why, at: turn.now.wall };
                    self.record(upload, parked, turn);
                }
                None => self.end_unstored(upload, turn),
            }
        }
    }

    /// Puts an upload as its row has it in the place of the one in memory.
    fn take_again(&mut self, stored: StoredUpload, turn: &mut Turn) {
        let StoredUpload { admission, state, parts, waits_for } = stored;
        let mut upload = Box::new(Upload::loaded(admission, state, parts));
        let id = upload.id();
        if waits_for.is_some() {
            upload.life.waits_for = waits_for;
        }
        self.unclaim(id, turn);
        let Some(old) = self.uploads.remove(&id) else { return self.take_upload(upload, turn) };
        self.schedule.remove(&old);
        if let Some(at) = old.life.timer {
            self.timers.remove(&(at, id));
        }
        upload.admission.run = old.admission.run.clone();
        upload.life.directory.clone_from(&old.life.directory);
        self.uploads.insert(id, upload);
        self.claim(id, turn);
    }

    /// Ends an upload that has no row: its file is known in this life, and looked at again in the next.
    fn end_unstored(&mut self, id: UploadId, turn: &mut Turn) {
        self.record(id, Fact::Abandoned { at: turn.now.wall }, turn);
    }
}

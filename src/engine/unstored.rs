//! What the store could not write: memory goes back to what the rows say.
//!
//! Memory moves when a decision is made, ahead of the disk. Where the disk refuses a record for its own
//! values, its upload is taken from its row again, as at a start, and stays parked until an operator
//! retries it: then it asks before it acts. Acts that were under way for it come back to an upload that
//! does not wait for them. The record that parks it tells the store that memory agrees again.

use super::Engine;
use super::event::Unstored;
use super::transfers::Upload;
use super::turn::Turn;
use crate::model::{Fact, ParkReason};

impl Engine {
    pub(super) fn on_unstored(&mut self, refused: Vec<Unstored>, turn: &mut Turn) {
        for Unstored { upload, stored, why } in refused {
            match stored {
                Some(stored) => {
                    let is_there = self.with_owner(upload, turn, |transfers, turn| {
                        transfers.reload(&stored, turn)
                    });
                    if is_there.is_none() {
                        self.load_upload(Upload::restored(*stored), turn);
                    }
                    let reason = ParkReason::CannotBeStored;
                    self.record(
                        upload,
                        Fact::Parked { reason, detail: why, at: turn.now.wall },
                        turn,
                    );
                }
                // It has no row: its file is known in this life, and looked at again in the next.
                None => self.record(upload, Fact::Abandoned { at: turn.now.wall }, turn),
            }
        }
    }
}

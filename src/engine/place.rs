//! Moves one upload by a fact, and puts it where it belongs then.
//!
//! This is the only way by which an upload in memory moves: the law first, then the store's line, then
//! its place among those that are ready, wait, are parked, finish, or are gone.

use super::intake::UploadEnd;
use super::turn::Turn;
use super::upload::Upload;
use super::{Engine, gate};
use crate::model::{EndReason, Fact, Hold, ParkReason, Stage, UploadId};

impl Engine {
    /// Applies one fact to memory and lines it up for the store.
    ///
    /// What the law forbids is a defect of ours: the upload parks with reason `bug`, the rest goes on.
    pub(super) fn record(&mut self, id: UploadId, fact: Fact, turn: &mut Turn) {
        self.leave_place(id, &fact, turn);
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let fact = match upload.apply(&fact) {
            Ok(()) => fact,
            Err(illegal) => {
                debug_assert!(false, "upload {id}: {illegal}");
                let parked = Fact::Parked {
                    reason: ParkReason::Bug,
                    detail: illegal.to_string(),
                    at: turn.now.wall,
                };
                if upload.apply(&parked).is_err() {
                    return;
                }
                parked
            }
        };
        if matches!(fact, Fact::Begun { .. }) {
            self.disk.begun(id);
        }
        if let Fact::PartAccepted { part, .. } = fact {
            self.disk.accepted(upload.length_of(part));
        }
        turn.fact(id, fact.clone());
        self.take_place(id, &fact, turn);
        self.place(id, turn);
    }

    /// Puts an upload where it belongs after it moved: ready, waiting on a timer, or gone.
    pub(super) fn place(&mut self, id: UploadId, turn: &mut Turn) {
        let now = turn.now;
        let is_paused = self.is_paused(id);
        let wants_digest =
            self.uploads.get(&id).is_some_and(|upload| self.wanted_digest(upload).is_some());
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        if let Some(old) = upload.life.timer {
            upload.life.timer = None;
            self.timers.remove(&(old, id));
        }
        let _was_elsewhere = match upload.state.hold {
            Hold::Parked { .. } => self.parked.insert(id),
            Hold::None | Hold::Waiting { .. } => self.parked.remove(&id),
        };
        let gate = self.gates.get_mut(&upload.admission.destination);
        let exports = upload.wants_export(gate.as_deref());
        if let Some(gate) = gate {
            let is_here = exports && upload.state.hold == Hold::None && !is_paused;
            let _was_here = match is_here {
                true => gate.exports.pending.insert(id),
                false => gate.exports.pending.remove(&id),
            };
        }
        let is_finishing = upload.state.hold == Hold::None
            && !exports
            && !is_paused
            && upload.is_finishing(wants_digest);
        let _was_finishing = match is_finishing {
            true => self.finishing.insert(id),
            false => self.finishing.remove(&id),
        };
        if upload.state.stage.is_end() {
            self.schedule.remove(upload);
            self.forget(id, turn);
            return;
        }
        match upload.state.hold {
            Hold::None => {
                upload.end_wait();
                let is_waiting = upload.life.waits_for.is_some();
                if exports || is_paused || is_finishing || is_waiting {
                    self.schedule.remove(upload);
                } else {
                    self.schedule.ready(upload);
                }
            }
            Hold::Parked { .. } => {
                upload.end_wait();
                self.schedule.remove(upload);
                return;
            }
            Hold::Waiting { until } => {
                let clamped = || gate::clamp(until, self.settings.retry, now);
                upload.life.hold_until.get_or_insert_with(clamped);
                self.schedule.remove(upload);
            }
        }
        if let Some(at) = upload.next_deadline(now.monotonic) {
            upload.life.timer = Some(at);
            self.timers.insert((at, id));
        }
    }

    fn forget(&mut self, id: UploadId, turn: &mut Turn) {
        let Some(upload) = self.uploads.remove(&id) else { return };
        self.parked.remove(&id);
        self.end_orders(id, turn);
        if upload.admission.is_sentinel {
            return;
        }
        self.leave_drop(&upload.admission, turn.now);
        if let Some(intake) = self.intakes.get_mut(&upload.admission.drop) {
            intake.left(&upload.admission, turn.now.monotonic);
        }
        match &mut self.loading {
            Some(loading) => loading.ended(*upload),
            None => self.end_known(&upload, turn),
        }
    }

    /// Notes what the end of an upload means for its file.
    pub(super) fn end_known(&mut self, upload: &Upload, turn: &mut Turn) {
        let stage = &upload.state.stage;
        let end = if *stage == Stage::Ended(EndReason::SourceChanged) {
            UploadEnd::Superseded
        } else if matches!(stage, Stage::Receipted { .. }) {
            UploadEnd::Receipted
        } else {
            UploadEnd::Abandoned
        };
        let admission = &upload.admission;
        self.with_intake(&admission.drop, turn, |intake, turn| {
            intake.ended(admission, end, turn);
        });
    }
}

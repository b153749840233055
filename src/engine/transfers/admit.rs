//! Uploads come in: files that settled, sentinels, and what was stored; and what their files do to them.

use std::sync::Arc;

use super::upload::Answer;
use super::upload::Upload;
use super::{TransferTurn, Transfers};
use crate::engine::StoredUpload;
use crate::engine::plan;
use crate::model::{
    Admission, ByteCount, DirectoryName, Fact, Failure, FailureKind, Fingerprint, Hold, Now,
    ParkReason, Place, Provenance, Record, SourcePath, Target, UploadId,
};

/// A file that is admitted, as the admission sees it.
pub(in crate::engine) struct Settled<'a> {
    pub drop: &'a DirectoryName,
    pub path: &'a SourcePath,
    /// Its path as the destination sees it.
    pub name: &'a SourcePath,
    pub place: Place,
    pub version: Fingerprint,
    pub is_unreadable: bool,
    /// Whose it is and where it lies, where that was asked.
    pub provenance: Option<Provenance>,
}

/// The receipt of a completed run, which is sent to the destination.
pub(in crate::engine) struct Sentinel<'a> {
    pub drop: &'a DirectoryName,
    pub run: &'a SourcePath,
    /// Its path below the directory of receipts.
    pub path: &'a SourcePath,
    pub version: Fingerprint,
    /// The name under which it is sent.
    pub name: &'a str,
}

impl Transfers {
    /// Admits a file. Returns its upload; none where the destination or the drop directory is not
    /// configured.
    pub(in crate::engine) fn admit(
        &mut self,
        settled: &Settled<'_>,
        turn: &mut TransferTurn<'_>,
    ) -> Option<UploadId> {
        let (intake, gate) = (turn.intake(settled.drop)?, self.gate.as_ref()?);
        let to = gate.settings();
        let run = intake.runs().shared(&settled.place.run(settled.path));
        let words = plan::Words {
            drop: intake.settings(),
            path: settled.name,
            run: if settled.place.is_alone(settled.path) { settled.name } else { &run },
            reading: intake.runs().reading(&run),
            at: turn.now().wall,
        };
        let wish = gate.wish(settled.version.size);
        let planned = plan::part_size(&to.traits.limits, wish, settled.version.size);
        let unreadable = settled.is_unreadable.then_some(ParkReason::SourceUnreadable);
        let admission = Admission {
            id: turn.shared.next_id(),
            drop: settled.drop.clone(),
            path: settled.path.clone(),
            fingerprint: settled.version,
            target: plan::target(to, words),
            part_size: planned.unwrap_or(wish),
            rank: settled.place.rank,
            at: turn.now().wall,
            parked: planned.err().or(unreadable),
            root: intake.health().root().cloned(),
            run,
            is_sentinel: false,
            provenance: settled.provenance.map(Box::new),
            target_id: gate.targets().own(),
            destination: self.name.clone(),
        };
        let id = admission.id;
        turn.shared.permits.disk().admitted(id);
        self.insert(admission, turn);
        Some(id)
    }

    /// Admits the receipt of a run.
    pub(in crate::engine) fn admit_sentinel(
        &mut self,
        sentinel: &Sentinel<'_>,
        turn: &mut TransferTurn<'_>,
    ) {
        let Some((intake, gate)) = turn.intake(sentinel.drop).zip(self.gate.as_ref()) else {
            return;
        };
        let below = [sentinel.run.as_bytes(), b"/", sentinel.name.as_bytes()].concat();
        let words = plan::Words {
            drop: intake.settings(),
            path: &SourcePath::from_bytes(&below),
            run: sentinel.run,
            reading: intake.runs().reading(sentinel.run),
            at: turn.now().wall,
        };
        let wish = gate.wish(sentinel.version.size);
        let planned = plan::part_size(&gate.settings().traits.limits, wish, sentinel.version.size);
        let folders = plan::folders(&gate.settings().folder, words);
        let admission = Admission {
            id: turn.shared.next_id(),
            drop: sentinel.drop.clone(),
            run: sentinel.path.clone(),
            path: sentinel.path.clone(),
            fingerprint: sentinel.version,
            provenance: None,
            is_sentinel: true,
            destination: self.name.clone(),
            target_id: gate.targets().own(),
            target: Target { folders, name: sentinel.name.to_owned() },
            part_size: planned.unwrap_or(wish),
            rank: 0,
            at: turn.now().wall,
            parked: planned.err(),
            root: None,
        };
        self.insert(admission, turn);
    }

    fn insert(&mut self, admission: Admission, turn: &mut TransferTurn<'_>) {
        let id = admission.id;
        turn.record(Record::Admit(Box::new(admission.clone())));
        let upload = Box::new(Upload::admitted(admission));
        self.uploads.insert(id, upload);
        self.join_run(id, turn);
        self.claim(id, turn);
        self.place(id, turn);
    }

    /// Opens the run of an upload, where the platform is told of the ends of runs.
    pub(in crate::engine) fn join_run(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let wants = self.gate.as_ref().is_some_and(|gate| gate.settings().traits.finishes_drops);
        let upload = self.uploads.get(&id).filter(|upload| !upload.admission.is_sentinel);
        if let Some(upload) = upload.filter(|_| wants) {
            self.ends.join(&upload.admission, turn);
        }
    }

    /// Loads a run that is open at the destination.
    pub(in crate::engine) fn load_run(
        &mut self,
        key: super::RunEndKey,
        turn: &mut TransferTurn<'_>,
    ) {
        self.ends.load(key, turn);
    }

    /// Loads an upload.
    pub(in crate::engine) fn load(&mut self, upload: Box<Upload>, turn: &mut TransferTurn<'_>) {
        let id = upload.id();
        self.uploads.insert(id, upload);
        self.join_run(id, turn);
        self.claim(id, turn);
        self.retarget(id, turn);
        self.park_or_release(id, turn);
    }

    /// Puts an upload as its row has it in the place of the one in memory; tells whether there was one.
    pub(in crate::engine) fn reload(
        &mut self,
        stored: &StoredUpload,
        turn: &mut TransferTurn<'_>,
    ) -> bool {
        let id = stored.admission.id;
        self.unclaim(id, turn);
        let Some(old) = self.uploads.remove(&id) else { return false };
        self.queue.remove(&old);
        if let Some(at) = old.life.timer {
            self.timers.remove(&(at, id));
        }
        let mut upload = Box::new(Upload::restored(stored.clone()));
        upload.admission.run = old.admission.run.clone();
        upload.life.directory.clone_from(&old.life.directory);
        self.uploads.insert(id, upload);
        self.claim(id, turn);
        true
    }

    /// Has the uploads of a drop directory remember its directory, for its name stands for another one or
    /// for none.
    pub(in crate::engine) fn keep_directory(&mut self, drop: &DirectoryName, directory: &Arc<str>) {
        let of_drop = self.uploads.values_mut().filter(|u| u.admission.drop == *drop);
        for upload in of_drop {
            upload.life.directory.get_or_insert_with(|| Arc::clone(directory));
        }
    }

    /// A look found a file that can be read: what parked for want of it goes on.
    pub(in crate::engine) fn release(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        if self.upload(id).is_some_and(Upload::waits_for_source) {
            self.record(id, Fact::Released, turn);
        }
    }

    /// What waited because its file could not be read goes on: its whole drop directory was away.
    pub(in crate::engine) fn release_readers(
        &mut self,
        drop: &DirectoryName,
        turn: &mut TransferTurn<'_>,
    ) {
        let waits = |upload: &&Upload| {
            upload.admission.drop == *drop
                && upload.life.failing_since.is_some()
                && matches!(upload.state.hold, Hold::Waiting { .. })
        };
        let ids: Vec<_> = self.uploads().filter(waits).map(Upload::id).collect();
        ids.into_iter().for_each(|id| self.record(id, Fact::Released, turn));
    }

    /// The file of an upload is not there. Before anything was begun for it, it ends; what may have been
    /// begun is looked for first, to be removed. One that is being sent waits for it to come back.
    pub(in crate::engine) fn source_gone(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        use crate::model::Stage::{
            Beginning, Completed, Completing, Ended, Queued, Receipted, Sending, Verified,
        };
        let Some(upload) = self.uploads.get(&id) else { return };
        let at = turn.now().wall;
        match upload.state.stage {
            Queued | Beginning { .. } => {
                if !upload.life.is_superseded {
                    self.record(id, gone(turn.now()), turn);
                    self.end_changed(id, turn);
                }
            }
            Sending { .. } if !upload.waits_for_source() => {
                let reason = ParkReason::SourceMissing;
                let detail = "the file was there when it was admitted".to_owned();
                self.record(id, Fact::Parked { reason, detail, at }, turn);
                self.end_if_moved(id, turn);
            }
            Sending { .. }
            | Completing { .. }
            | Completed { .. }
            | Verified { .. }
            | Receipted { .. }
            | Ended(_) => {}
        }
    }

    /// Has an upload go on; tells whether something had held it up. That the wait of the destination was
    /// ended counts as well.
    pub(in crate::engine) fn retry(
        &mut self,
        id: UploadId,
        is_lifted: bool,
        turn: &mut TransferTurn<'_>,
    ) -> bool {
        let Some(upload) = self.uploads.get_mut(&id) else { return false };
        upload.hurry();
        let is_released = match upload.state.hold {
            Hold::Waiting { .. } => true,
            Hold::Parked { reason } => reason != ParkReason::NotConfigured,
            Hold::None => return is_lifted,
        };
        if is_released {
            self.record(id, Fact::Released, turn);
        }
        is_released
    }

    /// Gives an upload up, and returns what follows from that.
    pub(in crate::engine) fn give_up(&mut self, id: UploadId, now: Now) -> Option<Answer> {
        let can_ask = self.gate.is_some();
        self.uploads.get_mut(&id).map(|upload| upload.give_up(can_ask, now))
    }
}

/// Says with an upload why it ends, for `show`.
fn gone(now: Now) -> Fact {
    let message = "the file was removed or moved before anything was sent";
    Fact::AttemptFailed {
        act: "look",
        part: None,
        failure: Failure::new(FailureKind::SourceGone, message),
        sent: ByteCount(0),
        retry_at: None,
        at: now.wall,
    }
}

//! The admission of uploads: settled files, sentinels, stored uploads; and the effects of file changes on them.

use super::upload::{Tried, Upload};
use super::{TransferTurn, Transfers};
use crate::engine::dispatch::{Dispatch, ToIntake, UploadFile};
use crate::engine::plan;
use crate::model::{
    Admission, AdmittedFile, DirectoryName, Fact, Failure, FailureKind, Fingerprint, Now,
    ParkReason, Place, Provenance, Record, SentinelFile, SourcePath, StoredUpload, UploadId,
};

/// A file to admit.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Settled {
    pub drop: DirectoryName,
    pub path: SourcePath,
    /// Its path as the destination sees it.
    pub name: SourcePath,
    pub place: Place,
    pub version: Fingerprint,
    pub is_unreadable: bool,
    /// A file in this version was sent under another path.
    pub may_be_moved: bool,
    /// Owner and file system, where they are known.
    pub provenance: Option<Provenance>,
}

/// The sentinel of a complete run.
#[derive(Debug, Clone)]
pub(in crate::engine) struct Sentinel {
    pub drop: DirectoryName,
    pub run: SourcePath,
    pub file: SentinelFile,
    /// The name under which it is sent.
    pub name: String,
}

impl Transfers {
    /// Admits a file, unless the destination or the drop directory is not configured.
    pub(super) fn admit(&mut self, settled: &Settled, turn: &mut TransferTurn<'_>) {
        let Some(intake) = turn.intake(&settled.drop) else { return };
        let run = intake.runs().shared(&settled.place.run(&settled.path));
        let words = plan::Words {
            drop: intake.settings(),
            path: &settled.name,
            run: if settled.place.is_alone(&settled.path) { &settled.name } else { &run },
            reading: intake.runs().reading(&run),
            at: turn.now().wall,
        };
        let file = AdmittedFile {
            drop: settled.drop.clone(),
            path: settled.path.clone(),
            fingerprint: settled.version,
            run: run.clone(),
            is_sentinel: false,
            provenance: settled.provenance.map(Box::new),
            root: intake.health().root().cloned(),
        };
        let Some(planned) = self.admission(file, words, turn) else { return };
        let unreadable = settled.is_unreadable.then_some(ParkReason::SourceUnreadable);
        let parked = planned.parked.or(unreadable);
        let admission = Admission { rank: settled.place.rank, parked, ..planned };
        let id = admission.id;
        turn.shared.permits.disk().admitted(id);
        self.insert(admission, turn);
        self.tell_intake(id, ToIntake::Admitted, turn);
        if settled.may_be_moved {
            self.end_moved(id, turn);
        }
    }

    /// Sends a message about an upload to its drop directory.
    pub(super) fn tell_intake(
        &self,
        id: UploadId,
        what: impl FnOnce(UploadFile) -> ToIntake,
        turn: &mut TransferTurn<'_>,
    ) {
        if let Some(upload) = self.uploads.get(&id) {
            let file = upload.file();
            turn.say(Dispatch::Intake(file.file.drop.clone(), what(file)));
        }
    }

    pub(super) fn admit_sentinel(&mut self, sentinel: &Sentinel, turn: &mut TransferTurn<'_>) {
        let Some(intake) = turn.intake(&sentinel.drop) else { return };
        let below = [sentinel.run.as_bytes(), b"/", sentinel.name.as_bytes()].concat();
        let words = plan::Words {
            drop: intake.settings(),
            path: &SourcePath::from_bytes(&below),
            run: &sentinel.run,
            reading: intake.runs().reading(&sentinel.run),
            at: turn.now().wall,
        };
        let path = sentinel.file.path.clone();
        let file = AdmittedFile {
            drop: sentinel.drop.clone(),
            run: path.clone(),
            path,
            fingerprint: sentinel.file.version,
            is_sentinel: true,
            provenance: None,
            root: None,
        };
        let Some(planned) = self.admission(file, words, turn) else { return };
        let target = planned.target.with_name(&sentinel.name);
        self.insert(Admission { target, ..planned }, turn);
    }

    /// Returns the admission of a file to the destination's current target.
    fn admission(
        &self,
        file: AdmittedFile,
        words: plan::Words<'_>,
        turn: &mut TransferTurn<'_>,
    ) -> Option<Admission> {
        let gate = self.gate.as_ref()?;
        let size = file.fingerprint.size;
        let wish = gate.wish(size);
        let target = plan::target(gate.settings(), words);
        let planned = gate.plan(wish, size, &target);
        Some(Admission {
            id: turn.shared.next_id(),
            file,
            destination: self.name.clone(),
            target_id: gate.targets().own(),
            target,
            part_size: planned.unwrap_or(wish),
            rank: 0,
            at: turn.now().wall,
            parked: planned.err(),
            decision: None,
        })
    }

    fn insert(&mut self, admission: Admission, turn: &mut TransferTurn<'_>) {
        let id = admission.id;
        let drop = &admission.file.drop;
        if let Some(intake) = turn.intake(drop) {
            let directory = &intake.settings().directory;
            if turn.shared.roots.admitted(drop, directory, id) {
                let (drop, directory) = (drop.clone(), directory.clone());
                turn.record(Record::DirectoryInForce { drop, directory, first: id });
            }
        }
        turn.record(Record::Admit(Box::new(admission.clone())));
        let upload = Box::new(Upload::admitted(admission));
        self.uploads.insert(id, upload);
        self.join_run(id, turn);
        self.claim(id, turn);
        self.place(id, turn);
    }

    pub(in crate::engine) fn join_run(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let wants = self.gate.as_ref().is_some_and(|gate| gate.settings().traits.finishes_runs);
        let upload = self.uploads.get(&id).filter(|upload| !upload.admission().file.is_sentinel);
        if let Some(upload) = upload.filter(|_| wants) {
            self.ends.join(upload.admission(), turn);
        }
    }

    /// Loads an upload. An abandoned one stays abandoned.
    pub(super) fn load(&mut self, upload: Box<Upload>, turn: &mut TransferTurn<'_>) {
        let id = upload.id();
        turn.shared.next_upload = turn.shared.next_upload.max(UploadId(id.0 + 1));
        self.uploads.insert(id, upload);
        self.join_intake(id, turn);
        self.join_run(id, turn);
        self.claim(id, turn);
        self.retarget(id, turn);
        self.park_or_release(id, turn);
        if turn.around.orders.gives_up(id) {
            self.give_up(id, turn);
        }
    }

    /// Adds an upload to its file and its run.
    pub(super) fn join_intake(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let Some(intake) = turn.intake(&upload.admission().file.drop) else { return };
        // All uploads of a run share one name in memory.
        upload.share_run(|run| intake.runs().shared(run));
        self.tell_intake(id, ToIntake::Joined, turn);
    }

    /// Replaces an upload in memory by its row.
    pub(in crate::engine) fn reload(&mut self, stored: StoredUpload, turn: &mut TransferTurn<'_>) {
        let id = stored.admission.id;
        self.unclaim(id, turn);
        let Some(mut old) = self.uploads.remove(&id) else { return };
        self.queue.remove(&old);
        if let Some(at) = old.take_timer() {
            self.timers.remove(&(at, id));
        }
        let mut upload = Box::new(Upload::restored(stored));
        upload.share_run(|_| old.admission().file.run.clone());
        self.uploads.insert(id, upload);
        self.claim(id, turn);
    }

    /// A look found a readable file: uploads that parked because it was not continue.
    pub(in crate::engine) fn release(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        if upload.waits_for_source() || upload.waits_to_read() {
            upload.hurry();
            self.record(id, Fact::Released, turn);
        }
    }

    /// Uploads that waited for their file continue: their whole drop directory had been away.
    pub(in crate::engine) fn release_readers(
        &mut self,
        drop: &DirectoryName,
        turn: &mut TransferTurn<'_>,
    ) {
        let waits =
            |upload: &&Upload| upload.admission().file.drop == *drop && upload.waits_to_read();
        let ids: Vec<_> = self.uploads().filter(waits).map(Upload::id).collect();
        ids.into_iter().for_each(|id| self.record(id, Fact::Released, turn));
    }

    /// The file of an upload is missing. An upload ends if nothing was begun for it; otherwise what may have
    /// been begun is searched first, to be removed. One that is being sent waits for its file to come back.
    pub(in crate::engine) fn source_gone(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        use crate::model::Stage::{
            Beginning, Completed, Completing, Ended, Queued, Receipted, Sending, Verified,
        };
        let Some(upload) = self.uploads.get(&id) else { return };
        let at = turn.now().wall;
        match upload.stage() {
            Queued | Beginning { .. } => {
                if !upload.is_ending() {
                    self.record(id, gone(turn.now()), turn);
                    self.end_changed(id, turn);
                }
            }
            // The file is under another path, and is sent from there.
            Sending { .. }
                if self.uploads().any(|other| other.is_of_same_file(upload.admission())) =>
            {
                self.end_changed(id, turn);
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

    /// Lets a held upload continue.
    pub(super) fn retry(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        upload.hurry();
        if upload.is_held_up() {
            self.record(id, Fact::Released, turn);
        }
    }

    /// Abandons an upload; it ends later if it is not known what was begun for it.
    pub(super) fn give_up(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let (can_ask, now) = (self.gate.is_some(), turn.now());
        let answer = self.uploads.get_mut(&id).map(|upload| upload.give_up(can_ask, now));
        let Some(answer) = answer else { return };
        if !answer.gives_up() {
            turn.say(Dispatch::UploadGivenUp(id));
        }
        self.settle_answer(id, answer, turn);
    }

    /// A scan saw the file of an upload: if it waits for that, a look checks whether it can be opened.
    pub(super) fn seen(&self, id: UploadId, path: SourcePath, turn: &mut TransferTurn<'_>) {
        if let Some(upload) = self.upload(id).filter(|upload| upload.waits_for_source()) {
            let drop = upload.admission().file.drop.clone();
            turn.say(Dispatch::Intake(drop, ToIntake::Hint(vec![path])));
        }
    }
}

fn gone(now: Now) -> Fact {
    let message = "the file was removed or moved before anything was sent";
    Tried::plain("look").failed(Failure::new(FailureKind::SourceGone, message), None, now)
}

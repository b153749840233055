//! The engine's ear for files: hints, observations, admission.

use super::files::{Closeness, Notice, Scan};
use super::plan;
use super::turn::Turn;
use super::upload::Upload;
use super::{Engine, StoredFile};
use crate::model::{
    Admission, ByteCount, DestinationName, DirectoryName, Fact, Failure, FailureKind, Fingerprint,
    Now, Observation, ParkReason, Place, Provenance, Record, SourcePath, UploadId,
};

/// A file that is admitted, as the admission sees it.
pub(super) struct Settled<'a> {
    pub(super) path: &'a SourcePath,
    /// Its path as the destination sees it.
    pub(super) name: &'a SourcePath,
    pub(super) place: Place,
    pub(super) version: Fingerprint,
    pub(super) unreadable: Option<String>,
    /// Whose it is and where it lies, where that was asked.
    pub(super) provenance: Option<Provenance>,
}

impl Engine {
    pub(super) fn on_hint(&mut self, drop: &DirectoryName, paths: Vec<SourcePath>, now: Now) {
        if let Some(files) = self.drops.get_mut(drop) {
            paths.into_iter().for_each(|path| files.settle.hint(path, now.monotonic));
        }
    }

    pub(super) fn on_scan_now(&mut self, drop: &DirectoryName, now: Now) {
        if let Some(files) = self.drops.get_mut(drop).filter(|files| files.settings.is_scanned) {
            files.must_scan_all = true;
            match files.scan {
                Scan::Due(_) => files.scan = Scan::Due(now.monotonic),
                Scan::Running(_) => files.scan_again = true,
            }
        }
    }

    pub(super) fn on_observed(
        &mut self,
        drop: &DirectoryName,
        observations: &[Observation],
        closeness: Closeness,
        turn: &mut Turn,
    ) {
        // What it means, only the rows tell that are being read: it is looked at again.
        let is_void = closeness == Closeness::Scan
            && self.drops.get(drop).is_some_and(|files| files.is_scan_void);
        if self.loading.is_some() || is_void {
            return;
        }
        for observation in observations {
            self.observe(drop, observation, closeness, turn);
        }
    }

    fn observe(
        &mut self,
        drop: &DirectoryName,
        seen: &Observation,
        closeness: Closeness,
        turn: &mut Turn,
    ) {
        let Some(files) = self.drops.get_mut(drop) else { return };
        let notice = files.observe(seen, closeness, turn.now);
        let was_ignored = !matches!(seen.seen, crate::model::Seen::Ignored(_))
            && !files.ignored.is_empty()
            && files.ignored.remove(&seen.path.digest()).is_some();
        if was_ignored {
            files.unreadable.remove(&seen.path);
            turn.record(Record::NotIgnored { drop: drop.clone(), path: seen.path.clone() });
        }
        match notice {
            Notice::Nothing => {}
            Notice::NewlyIgnored(reason) => turn.record(Record::Ignored {
                drop: drop.clone(),
                path: seen.path.clone(),
                reason,
                at: turn.now.wall,
            }),
            Notice::Settled { version, unreadable } => {
                let settled = Settled {
                    path: &seen.path,
                    name: &seen.path,
                    place: seen.place,
                    version,
                    unreadable,
                    provenance: None,
                };
                self.admit(drop, &settled, turn);
            }
            Notice::Touched(version) => files.queue_compare(&seen.path, version),
            Notice::MaybeMoved(version) => files.queue_find(&seen.path, seen.place, version),
            Notice::Changed(live) => live.into_iter().for_each(|id| self.end_changed(id, turn)),
            Notice::Readable(live) => match closeness {
                Closeness::Scan => self.look_closer(drop, &seen.path, &live, turn),
                Closeness::Look => self.release(live, turn),
            },
            Notice::Gone(live) => live.into_iter().for_each(|id| self.on_gone(id, turn)),
        }
    }

    /// A scan saw a file that parked uploads wait for: whether it can be read, a look will tell.
    fn look_closer(
        &mut self,
        drop: &DirectoryName,
        path: &SourcePath,
        live: &[UploadId],
        turn: &Turn,
    ) {
        let waits = |id| self.uploads.get(id).is_some_and(|upload| upload.waits_for_source());
        if live.iter().any(waits) {
            self.on_hint(drop, vec![path.clone()], turn.now);
        }
    }

    /// A look found a file that can be read: what parked for want of it goes on.
    fn release(&mut self, live: Vec<UploadId>, turn: &mut Turn) {
        for id in live {
            if self.uploads.get(&id).is_some_and(|upload| upload.waits_for_source()) {
                self.record(id, Fact::Released, turn);
            }
        }
    }

    /// The file of an upload is not there. Before anything was begun for it, it ends; what may have been
    /// begun is looked for first, to be removed. One that is being sent waits for it to come back.
    pub(super) fn on_gone(&mut self, id: UploadId, turn: &mut Turn) {
        use crate::model::Stage::{
            Beginning, Completed, Completing, Ended, Queued, Receipted, Sending, Verified,
        };
        let Some(upload) = self.uploads.get(&id) else { return };
        match upload.state.stage {
            Queued | Beginning { .. } => {
                if !upload.life.is_superseded {
                    self.tell_gone(id, turn);
                    self.end_changed(id, turn);
                }
            }
            Sending { .. } if !upload.waits_for_source() => {
                let reason = ParkReason::SourceMissing;
                let detail = "the file was there when it was admitted".to_owned();
                self.record(id, Fact::Parked { reason, detail, at: turn.now.wall }, turn);
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

    /// Notes with an upload why it ends, for `show`.
    fn tell_gone(&mut self, id: UploadId, turn: &mut Turn) {
        let message = "the file was removed or moved before anything was sent";
        let failed = Fact::AttemptFailed {
            act: "look",
            part: None,
            failure: Failure::new(FailureKind::SourceGone, message),
            sent: ByteCount(0),
            retry_at: None,
            at: turn.now.wall,
        };
        self.record(id, failed, turn);
    }

    /// Ends an upload that waits for a file which stands under another path: it is sent from there.
    pub(super) fn end_if_moved(&mut self, id: UploadId, turn: &mut Turn) {
        let Some(upload) = self.uploads.get(&id).filter(|upload| upload.misses_source()) else {
            return;
        };
        if let Some(loading) = &mut self.loading {
            loading.misses(id);
            return;
        }
        let is_there = |other: &Upload| other.is_of_same_file(&upload.admission);
        if self.uploads.values().any(|other| is_there(other)) {
            self.end_changed(id, turn);
        }
    }

    /// A file was admitted: uploads that wait for it under another path have an end.
    fn end_moved(&mut self, id: UploadId, turn: &mut Turn) {
        let Some(admitted) = self.uploads.get(&id).map(|upload| &upload.admission) else { return };
        let waits = |other: &UploadId| {
            let other = self.uploads.get(other);
            other.is_some_and(|other| other.misses_source() && other.is_of_same_file(admitted))
        };
        let moved: Vec<_> = self.parked.iter().copied().filter(waits).collect();
        moved.into_iter().for_each(|id| self.end_changed(id, turn));
    }

    pub(super) fn admit(&mut self, drop: &DirectoryName, settled: &Settled<'_>, turn: &mut Turn) {
        let Some(files) = self.drops.get_mut(drop) else { return };
        if self.loading.is_some() {
            files.settle.scanned(settled.path, settled.version, turn.now.monotonic);
            files.settle.retry(settled.path, turn.now.monotonic);
            return;
        }
        if files.known.is_moved_no_more(settled.path.digest()) {
            turn.record(Record::NotIgnored { drop: drop.clone(), path: settled.path.clone() });
        }
        let covered = files.known.covered(settled.path.digest(), &settled.version).unwrap_or(0);
        let destinations = files.settings.destinations.iter().enumerate();
        let missing: Vec<_> = destinations
            .filter(|(position, _)| covered >> position & 1 == 0)
            .map(|(_, name)| name.clone())
            .collect();
        let may_be_moved = files.known.may_be_moved(settled.path.digest(), &settled.version);
        // What parked for want of it at one destination goes on, when it is new to another.
        if settled.unreadable.is_none() {
            let live = files.known.live(settled.path.digest());
            self.release(live, turn);
        }
        for destination in missing {
            let id = self.admit_to(drop, destination, settled, turn);
            if let Some(id) = id.filter(|_| may_be_moved) {
                self.end_moved(id, turn);
            }
        }
    }

    pub(super) fn admit_to(
        &mut self,
        drop: &DirectoryName,
        destination: DestinationName,
        settled: &Settled<'_>,
        turn: &mut Turn,
    ) -> Option<UploadId> {
        let (files, gate) = (self.drops.get(drop)?, self.gates.get(&destination)?);
        let to = &gate.settings;
        let run = files.runs.shared(&settled.place.run(settled.path));
        let words = plan::Words {
            drop: &files.settings,
            path: settled.name,
            run: if settled.place.is_alone(settled.path) { settled.name } else { &run },
            reading: files.runs.reading(&run),
            at: turn.now.wall,
        };
        let wish = gate.wish(settled.version.size);
        let planned = plan::part_size(&to.traits.limits, wish, settled.version.size);
        let unreadable = settled.unreadable.as_ref().map(|_| ParkReason::SourceUnreadable);
        let admission = Admission {
            id: UploadId(self.next_upload),
            drop: drop.clone(),
            path: settled.path.clone(),
            fingerprint: settled.version,
            target: plan::target(to, words),
            part_size: planned.unwrap_or(wish),
            rank: settled.place.rank,
            at: turn.now.wall,
            parked: planned.err().or(unreadable),
            root: files.hearing.root.clone(),
            run,
            is_sentinel: false,
            provenance: settled.provenance.map(Box::new),
            target_id: gate.targets.own(),
            destination,
        };
        self.next_upload += 1;
        let id = admission.id;
        self.disk.admitted(admission.id);
        turn.record(Record::Admit(Box::new(admission.clone())));
        let upload = Box::new(Upload::admitted(admission));
        self.remember(StoredFile::of(&upload.admission), Some(id));
        self.join_drop(&upload.admission, turn);
        self.join_run(&upload.admission, turn);
        self.uploads.insert(id, upload);
        self.claim(id, turn);
        self.place(id, turn);
        Some(id)
    }

    /// Ends an upload whose source is another version, and queues what it began for removal.
    pub(super) fn end_changed(&mut self, id: UploadId, turn: &mut Turn) {
        if let Some(answer) = self.uploads.get_mut(&id).map(|upload| upload.end_changed(turn.now)) {
            self.settle_answer(id, answer, turn);
        }
    }
}

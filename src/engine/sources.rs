//! Routes between drop directories and uploads: hints and replies in, admissions and ends out.

use super::event::{ActId, Outcome, Setback};
use super::intake::{
    Askable, Closeness, CompletedFile, Finding, Intake, IntakeAct, IntakeTurn, LookReply,
    SettledFile, StoredPart, Surroundings,
};
use super::turn::Turn;
use super::upload::Upload;
use super::{Engine, Flight, FlightKind, plan};
use crate::model::{
    Admission, ByteCount, Catalogued, DestinationName, DirectoryName, Fact, Failure, FailureKind,
    Fingerprint, Hold, Now, Observation, ParkReason, Place, Provenance, Record, RootIdentity,
    RunRow, SourcePath, Space, UploadId,
};

/// A file that is admitted, as the admission sees it.
pub(super) struct Settled<'a> {
    pub(super) path: &'a SourcePath,
    /// Its path as the destination sees it.
    pub(super) name: &'a SourcePath,
    pub(super) place: Place,
    pub(super) version: Fingerprint,
    pub(super) is_unreadable: bool,
    /// Whose it is and where it lies, where that was asked.
    pub(super) provenance: Option<Provenance>,
}

impl Engine {
    /// Lets a drop directory take a step, and acts on what it finds.
    pub(super) fn with_intake<R>(
        &mut self,
        name: &DirectoryName,
        turn: &mut Turn,
        step: impl FnOnce(&mut Intake, &mut IntakeTurn<'_>) -> R,
    ) -> Option<R> {
        let intake = self.intakes.get_mut(name)?;
        let (pauses, gates) = (&self.pauses, &self.gates);
        let is_paused = |run: &SourcePath| pauses.cover_run(name, run);
        let destination = |to: &DestinationName| match gates.get(to) {
            None => Askable::Unknown,
            Some(gate) if !gate.settings.traits.can_inspect => Askable::Never,
            Some(gate) if !gate.is_open() => Askable::Closed,
            Some(_) if pauses.stops(to) => Askable::Paused,
            Some(_) => Askable::Now,
        };
        let around = Surroundings {
            retry: self.settings.retry,
            next_upload: UploadId(self.next_upload),
            is_loading: self.loading.is_some(),
            is_paused: &is_paused,
            destination: &destination,
        };
        let mut lent = IntakeTurn::new(name, turn, &mut self.flights, around);
        let returned = step(intake, &mut lent);
        for finding in lent.into_findings() {
            self.on_finding(name, finding, turn);
        }
        Some(returned)
    }

    /// Lets every drop directory take a step.
    pub(super) fn with_intakes(
        &mut self,
        turn: &mut Turn,
        step: impl Fn(&mut Intake, &mut IntakeTurn<'_>),
    ) {
        let names: Vec<_> = self.intakes.keys().cloned().collect();
        for name in names {
            self.with_intake(&name, turn, &step);
        }
    }

    fn on_finding(&mut self, drop: &DirectoryName, finding: Finding, turn: &mut Turn) {
        match finding {
            Finding::Settled(file) => self.admit(drop, file, turn),
            Finding::Changed(open) => open.into_iter().for_each(|id| self.end_changed(id, turn)),
            Finding::Readable(open) => self.release(open, turn),
            Finding::Seen(path, open) => self.look_closer(drop, path, &open, turn),
            Finding::Gone(open) => open.into_iter().for_each(|id| self.on_gone(id, turn)),
            Finding::Back => self.release_readers(drop, turn),
            Finding::Space(space) => self.note_space(drop, space),
            Finding::Health => self.write_health(drop, turn),
            Finding::RunCompleted(run, receipt) => {
                if let Some(intake) = self.intakes.get(drop)
                    && let Some(row) = intake.runs().row(&run)
                {
                    self.notices.run_completed(row, &intake.settings().destinations, None);
                }
                self.send_sentinels(&(drop.clone(), run), &receipt, turn);
            }
            Finding::FileCompleted(file) => self.note_file(drop, file, turn.now),
            Finding::Doubted(run, doubt) => self.notices.doubt_found(drop, &run, Some(&doubt)),
            Finding::DoubtsOver(run) => self.notices.doubt_found(drop, &run, None),
        }
    }

    pub(super) fn on_hint(&mut self, drop: &DirectoryName, paths: Vec<SourcePath>, now: Now) {
        if let Some(intake) = self.intakes.get_mut(drop) {
            intake.hint(paths, now.monotonic);
        }
    }

    pub(super) fn on_scan_now(&mut self, drop: &DirectoryName, now: Now) {
        if let Some(intake) = self.intakes.get_mut(drop) {
            intake.scan_now(now.monotonic);
        }
    }

    /// Lends a drop directory what the rows know of the files that are observed next.
    pub(super) fn lend_known(&mut self, drop: &DirectoryName, known: &Catalogued) {
        if let Some(intake) = self.intakes.get_mut(drop) {
            intake.borrow_known(known);
        }
    }

    /// Hands observations to their drop directory, and takes back what the rows know of them. While rows
    /// are being read, what files mean is not known: they are looked at again.
    pub(super) fn on_observed(
        &mut self,
        drop: &DirectoryName,
        observations: &[Observation],
        closeness: Closeness,
        turn: &mut Turn,
    ) {
        let is_loaded = self.loading.is_none();
        for seen in observations.iter().filter(|_| is_loaded) {
            self.with_intake(drop, turn, |intake, turn| intake.observe(seen, closeness, turn));
        }
        if let Some(intake) = self.intakes.get_mut(drop) {
            intake.end_borrow();
        }
    }

    /// Hands the reply to an act of a drop directory to the directory.
    pub(super) fn on_intake_reply(
        &mut self,
        drop: &DirectoryName,
        (act, what): (ActId, &IntakeAct),
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        match what {
            IntakeAct::Look(paths) => self.on_looked(drop, paths, reply, turn),
            IntakeAct::Scan
            | IntakeAct::Compare(_)
            | IntakeAct::FindMoved(_)
            | IntakeAct::ReadRun(_)
            | IntakeAct::WriteRunReceipt(_)
            | IntakeAct::CheckProofs(_)
            | IntakeAct::Dispose(_) => {
                self.with_intake(drop, turn, |intake, turn| {
                    intake.on_reply(act, what, reply, turn);
                });
            }
        }
    }

    fn on_looked(
        &mut self,
        drop: &DirectoryName,
        paths: &[SourcePath],
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let Some(intake) = self.intakes.get_mut(drop) else { return };
        let reply = reply.ok().filter(|_| self.loading.is_none());
        if let Some(Outcome::Looked { observations, root, known }) = reply {
            let found = LookReply { observations: &observations, root: root.as_ref() };
            intake.look_ended(Some(found), paths, turn.now);
            intake.borrow_known(&known);
            self.on_observed(drop, &observations, Closeness::Look, turn);
            self.with_intake(drop, turn, |intake, turn| intake.looked(paths, &observations, turn));
        } else {
            intake.look_ended(None, paths, turn.now);
        }
        self.write_health(drop, turn);
    }

    /// Writes how a drop directory is doing, when that differs from what was last written.
    pub(super) fn write_health(&mut self, drop: &DirectoryName, turn: &mut Turn) {
        if let Some(row) = self.intakes.get_mut(drop).and_then(Intake::health_row) {
            turn.record(Record::DirectoryHealth(row));
        }
    }

    fn note_space(&mut self, drop: &DirectoryName, space: Option<Space>) {
        let Some(intake) = self.intakes.get(drop) else { return };
        self.notices.space_found(&intake.settings().directory, Some(drop), space);
    }

    /// Notes a file that is a run of its own, and complete.
    fn note_file(&mut self, drop: &DirectoryName, file: CompletedFile, now: Now) {
        let Some(intake) = self.intakes.get(drop) else { return };
        let mut row = RunRow::opened(drop.clone(), file.path, now.wall);
        (row.file_count, row.size) = (1, file.size);
        row.generation = 1;
        self.notices.run_completed(&row, &intake.settings().destinations, Some(file.upload));
    }

    /// What waited because its file could not be read goes on: its whole drop directory was away.
    fn release_readers(&mut self, drop: &DirectoryName, turn: &mut Turn) {
        let waits = |upload: &Upload| {
            upload.admission.drop == *drop
                && upload.life.failing_since.is_some()
                && matches!(upload.state.hold, Hold::Waiting { .. })
        };
        let waiting = self.uploads.iter().filter(|(_, upload)| waits(upload));
        let ids: Vec<_> = waiting.map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.record(id, Fact::Released, turn));
    }

    /// Returns whether an upload waits for its drop directory to be back.
    pub(super) fn waits_for_drop(&self, upload: &Upload) -> bool {
        let intake = self.intakes.get(&upload.admission.drop);
        intake.is_some_and(|intake| intake.health().is_away()) && upload.needs_source()
    }

    /// Scans a drop directory at once whose storage failed at an act: whether it is away, a scan tells.
    pub(super) fn note_source(
        &mut self,
        flight: &Flight,
        reply: &Result<Outcome, Setback>,
        turn: &Turn,
    ) {
        let is_away = |setback: &Setback| matches!(setback.failure.kind, FailureKind::SourceAway);
        if !reply.as_ref().is_err_and(is_away) {
            return;
        }
        let upload = flight.upload.and_then(|id| self.uploads.get(&id));
        let drop = if let FlightKind::Intake(drop, act) = &flight.kind {
            act.reads_files().then(|| drop.clone())
        } else {
            upload.map(|upload| upload.admission.drop.clone())
        };
        if let Some(drop) = drop {
            self.on_scan_now(&drop, turn.now);
        }
    }

    /// Returns which directories the drop directories were, those that are not configured included.
    pub fn roots(&self) -> Vec<(DirectoryName, String, RootIdentity)> {
        let known = |(name, intake): (&DirectoryName, &Intake)| {
            let root = intake.health().root().cloned()?;
            Some((name.clone(), intake.settings().directory.clone(), root))
        };
        self.intakes.iter().filter_map(known).chain(self.gone_roots.iter().cloned()).collect()
    }

    /// Remembers which directories the drop directories were, also of those that are not configured:
    /// they may be again by another configuration.
    pub(super) fn load_roots(
        &mut self,
        roots: Vec<(DirectoryName, String, RootIdentity)>,
        now: Now,
    ) {
        self.gone_roots.clear();
        for (drop, directory, root) in roots {
            let intake = self.intakes.get_mut(&drop);
            match intake.filter(|intake| intake.settings().directory == directory) {
                Some(intake) => intake.load(StoredPart::Root(root), now),
                None => self.gone_roots.push((drop, directory, root)),
            }
        }
    }

    /// A scan saw a file that parked uploads wait for: whether it can be read, a look will tell.
    fn look_closer(
        &mut self,
        drop: &DirectoryName,
        path: SourcePath,
        open: &[UploadId],
        turn: &Turn,
    ) {
        let waits = |id| self.uploads.get(id).is_some_and(|upload| upload.waits_for_source());
        if open.iter().any(waits) {
            self.on_hint(drop, vec![path], turn.now);
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

    fn admit(&mut self, drop: &DirectoryName, file: SettledFile, turn: &mut Turn) {
        // What parked for want of it at one destination goes on, when it is new to another.
        if file.unreadable.is_none() {
            self.release(file.open, turn);
        }
        let settled = Settled {
            path: &file.path,
            name: &file.path,
            place: file.place,
            version: file.version,
            is_unreadable: file.unreadable.is_some(),
            provenance: None,
        };
        for destination in file.missing {
            let id = self.admit_to(drop, destination, &settled, turn);
            if let Some(id) = id.filter(|_| file.may_be_moved) {
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
        let (intake, gate) = (self.intakes.get(drop)?, self.gates.get(&destination)?);
        let to = &gate.settings;
        let run = intake.runs().shared(&settled.place.run(settled.path));
        let words = plan::Words {
            drop: intake.settings(),
            path: settled.name,
            run: if settled.place.is_alone(settled.path) { settled.name } else { &run },
            reading: intake.runs().reading(&run),
            at: turn.now.wall,
        };
        let wish = gate.wish(settled.version.size);
        let planned = plan::part_size(&to.traits.limits, wish, settled.version.size);
        let unreadable = settled.is_unreadable.then_some(ParkReason::SourceUnreadable);
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
            root: intake.health().root().cloned(),
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
        self.join_drop(&upload.admission, turn);
        if let Some(intake) = self.intakes.get_mut(drop) {
            intake.admitted(&upload.admission, turn.now);
        }
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

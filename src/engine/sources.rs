//! Routes between drop directories and uploads: hints and replies in, admissions and ends out.

use super::event::{ActId, Outcome, Setback};
use super::intake::{
    Askable, Closeness, CompletedFile, Finding, Intake, IntakeAct, IntakeTurn, LookReply,
    ReceiptFile, SettledFile, StoredPart, Surroundings,
};
use super::transfers::{Sentinel, Settled, Transfers, Upload};
use super::turn::Turn;
use super::{Engine, RunKey};
use crate::model::{
    Catalogued, DestinationName, DirectoryName, FailureKind, Now, Observation, Record,
    RootIdentity, RunRow, SourcePath, Space, UploadId,
};

impl Engine {
    /// Lets a drop directory take a step, and acts on what it finds.
    pub(super) fn with_intake<R>(
        &mut self,
        name: &DirectoryName,
        turn: &mut Turn,
        step: impl FnOnce(&mut Intake, &mut IntakeTurn<'_>) -> R,
    ) -> Option<R> {
        let intake = self.intakes.get_mut(name)?;
        let (orders, transfers) = (&self.orders, &self.transfers);
        let is_paused = |run: &SourcePath| orders.cover_run(name, run);
        let destination = |to: &DestinationName| {
            transfers.get(to).map_or(Askable::Unknown, |t| t.askable(orders.stops(to)))
        };
        let around = Surroundings {
            retry: self.settings.retry,
            next_upload: self.shared.next_upload,
            is_loading: self.loading.is_some(),
            is_paused: &is_paused,
            destination: &destination,
        };
        let mut lent = IntakeTurn::new(name, turn, &mut self.shared.flights, around);
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
            Finding::Changed(open) => self.with_owners(open, turn, Transfers::end_changed),
            Finding::Readable(open) => self.with_owners(open, turn, Transfers::release),
            Finding::Seen(path, open) => self.look_closer(drop, path, &open, turn),
            Finding::Gone(open) => self.with_owners(open, turn, Transfers::source_gone),
            Finding::Back => self.with_all_transfers(turn, |t, turn| t.release_readers(drop, turn)),
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

    /// Scans a drop directory at once whose storage failed when files of it were read: whether it is away,
    /// a scan tells.
    pub(super) fn note_source(
        &mut self,
        drop: &DirectoryName,
        act: &IntakeAct,
        reply: &Result<Outcome, Setback>,
        now: Now,
    ) {
        let is_away = |setback: &Setback| matches!(setback.failure.kind, FailureKind::SourceAway);
        if act.reads_files() && reply.as_ref().is_err_and(is_away) {
            self.on_scan_now(drop, now);
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
        let waits = |id: &UploadId| self.upload(*id).is_some_and(Upload::waits_for_source);
        if open.iter().any(waits) {
            self.on_hint(drop, vec![path], turn.now);
        }
    }

    fn admit(&mut self, drop: &DirectoryName, file: SettledFile, turn: &mut Turn) {
        // What parked for want of it at one destination goes on, when it is new to another.
        if file.unreadable.is_none() {
            self.with_owners(file.open, turn, Transfers::release);
        }
        let settled = Settled {
            drop,
            path: &file.path,
            name: &file.path,
            place: file.place,
            version: file.version,
            is_unreadable: file.unreadable.is_some(),
            provenance: None,
        };
        for destination in file.missing {
            let id = self.admit_to(&destination, &settled, turn);
            if let Some(id) = id.filter(|_| file.may_be_moved) {
                self.with_owners([id], turn, Transfers::end_moved);
            }
        }
    }

    /// Admits a file for a destination. Returns its upload.
    pub(super) fn admit_to(
        &mut self,
        destination: &DestinationName,
        settled: &Settled<'_>,
        turn: &mut Turn,
    ) -> Option<UploadId> {
        let id = self.with_transfers(destination, turn, |t, turn| t.admit(settled, turn))??;
        let admitted = self.transfers.get(destination)?.upload(id)?;
        if let Some(intake) = self.intakes.get_mut(settled.drop) {
            intake.admitted(&admitted.admission, turn.now);
        }
        Some(id)
    }

    /// Sends the receipt of a completed run to each destination, where the operator wants that.
    fn send_sentinels(&mut self, key: &RunKey, receipt: &ReceiptFile, turn: &mut Turn) {
        let (drop, run) = key;
        let Some(settings) = self.intakes.get(drop).map(Intake::settings) else { return };
        let Some(name) = settings.sentinel.clone() else { return };
        let ReceiptFile { path, version } = receipt;
        let sentinel = Sentinel { drop, run, path, version: *version, name: &name };
        for destination in settings.destinations.clone() {
            self.with_transfers(&destination, turn, |t, turn| t.admit_sentinel(&sentinel, turn));
        }
    }
}

//! One drop directory: the files in it, the runs they make, and the disposal of sources.
//!
//! Owns the files that settle, are known, compared or ignored ([`files`], [`settle`], [`compare`]),
//! the health of the directory ([`health`]), its scans ([`scans`]), its runs ([`runs`], [`run`])
//! and their disposal ([`disposal`]). Of uploads it knows only the ids: it sends its findings to
//! their owners ([`Dispatch`]) and receives their progress ([`ToIntake`]).
//!
//! A crash loses only what scans find again: runs, disposals and ignored paths are rows.

mod act;
mod compare;
mod disposal;
mod files;
mod health;
mod missing;
mod run;
mod runs;
mod scans;
mod settle;
mod turn;
mod uploads;

use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) use act::IntakeAct;
use compare::Compared;
use disposal::{DisposalView, Disposals};
pub(super) use files::Closeness;
use files::{FileStep, Files};
use health::Health;
use run::SeenFile;
use runs::{RunWants, Runs};
use scans::{RunningScan, ScanSchedule};
use settle::Settle;
use turn::SettledFile;
pub(super) use turn::{Askable, IntakeTurn, LookReply, StoredPart, Surroundings, UploadEnd};

use super::dispatch::{Dispatch, ToIntake, ToNotices, ToUpload};
use super::event::{Act, ActId, Outcome, Setback, Walk};
use super::settings::DirectorySettings;
use crate::model::{
    Catalogued, DirectoryHealth, FailureKind, IgnoreReason, Monotonic, Now, Observation, Record,
    RunState, Seen, SourcePath, UnchangedFiles, WallTime, WatchState,
};

/// Limit of files in one look.
const LOOK_MAX: usize = 1000;

/// The result of one act.
type Reply = Result<Outcome, Setback>;

/// A drop directory. See the module documentation.
#[derive(Debug)]
pub(super) struct Intake {
    settings: DirectorySettings,
    files: Files,
    health: Health,
    scans: ScanSchedule,
    runs: Runs,
    disposals: Disposals,
}

impl Intake {
    /// Starts without knowledge, with a scan due at once.
    pub(super) fn new(settings: DirectorySettings, now: Monotonic) -> Self {
        let settle = Settle::new(settings.quiet_period);
        Self {
            files: Files::new(settings.destinations.clone(), settle),
            settings,
            health: Health::default(),
            scans: ScanSchedule::new(now),
            runs: Runs::default(),
            disposals: Disposals::default(),
        }
    }

    /// Receives a message of another machine.
    pub(super) fn receive(&mut self, what: ToIntake, turn: &mut IntakeTurn<'_>) {
        let now = turn.now();
        match what {
            ToIntake::ScanNow => self.scan_now(now.monotonic),
            ToIntake::Hint(paths) => self.hint(paths, now.monotonic),
            ToIntake::Missed(path) => self.miss(path, now.monotonic),
            ToIntake::Load(part) => self.load(part, now),
            ToIntake::Forget => *self = Self::new(self.settings.clone(), now.monotonic),
            ToIntake::AcceptRoot => self.accept_root(turn),
            ToIntake::WriteHealth => {
                let row = self.health_row(now.monotonic).map(Record::DirectoryHealth);
                row.into_iter().for_each(|row| turn.record(row));
            }
            ToIntake::Admitted(file) => self.admitted(&file, now),
            ToIntake::Joined(file) => self.joined(&file, now),
            ToIntake::Retouched(file) => self.retouched(&file),
            ToIntake::GivenUp(file) => self.runs.note_given_up(&file),
            ToIntake::Left(file) => self.runs.leave(&file, now.monotonic),
            ToIntake::Ended(file, end) => self.ended(&file, end, turn),
        }
    }

    /// Replaces the settings, and keeps the state.
    pub(super) fn reconfigure(&mut self, settings: DirectorySettings) {
        self.files.set_destinations(settings.destinations.clone());
        self.files.settle.set_quiet_period(settings.quiet_period);
        self.settings = settings;
    }

    /// Adds a stored part of its state.
    fn load(&mut self, part: StoredPart, now: Now) {
        let files = &mut self.files;
        match part {
            StoredPart::Ignored(path, IgnoreReason::Moved) => files.known.moved(path),
            StoredPart::Ignored(path, reason) => files.ignored.load(path, reason),
            StoredPart::UnreadableDirectory(path) => files.ignored.load_unreadable(path),
            StoredPart::Run(run) => self.runs.load(*run, now.monotonic),
            StoredPart::Root(root) => self.health.load_root(root),
            StoredPart::Disposal(what) => self.disposals.load(what, now),
            StoredPart::Known(file) => {
                let set = files.set_of(&file.destination);
                files.known.admitted(file.path, &file.fingerprint, set);
            }
            StoredPart::AllKnown(known) => files.known.replace(known),
        }
    }

    pub(super) fn settings(&self) -> &DirectorySettings {
        &self.settings
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    pub(super) fn runs(&self) -> &Runs {
        &self.runs
    }

    pub(super) fn files(&self) -> &Files {
        &self.files
    }

    /// Returns whether nothing moves below the paths that `has` accepts, and a full scan since then
    /// has found nothing more of them.
    pub(super) fn is_still(&self, since: WallTime, has: impl Fn(&SourcePath) -> bool) -> bool {
        let is_going_on = |state| matches!(state, RunState::Open | RunState::Closed);
        let mut runs = self.runs.rows();
        self.health.has_walked(since, &has)
            && !runs.any(|run| is_going_on(run.state) && has(&run.name))
            && !self.files.settling_paths().any(has)
    }

    /// Returns its next deadline.
    pub(super) fn next_deadline(&self, has_run_slot: bool) -> Option<Monotonic> {
        let scan = self.scans.due().filter(|_| self.settings.is_scanned);
        let stalled = self.health.deadline(self.settings.scan_interval);
        let may_look = !self.health.is_away() && !self.files.is_looking;
        let look = self.files.settle.next_deadline().filter(|_| may_look);
        let disposal = self.disposals.next_deadline().filter(|_| has_run_slot);
        [scan, stalled, look, self.runs.next_deadline(), disposal].into_iter().flatten().min()
    }

    /// Schedules looks at paths that may have changed.
    pub(super) fn hint(&mut self, paths: Vec<SourcePath>, now: Monotonic) {
        paths.into_iter().for_each(|path| self.files.settle.hint(path, now));
    }

    /// Schedules a scan: anything may have changed.
    pub(super) fn scan_now(&mut self, now: Monotonic) {
        if self.settings.is_scanned {
            self.scans.ask(now);
        }
    }

    /// Discards the observations of the running scan: the rows of sent files are being read.
    pub(super) fn discard_scan(&mut self) {
        self.scans.discard();
    }

    pub(super) fn watch_changed(
        &mut self,
        watch: WatchState,
        reason: Option<String>,
        turn: &mut IntakeTurn<'_>,
    ) {
        self.health.set_watch(watch, reason);
        turn.write_health();
    }

    /// Accepts the other directory at the path, if there is one.
    fn accept_root(&mut self, turn: &mut IntakeTurn<'_>) {
        if self.health.accept_other() {
            self.scan_now(turn.now().monotonic);
            turn.write_health();
        }
    }

    /// Starts what is due: steps of runs, disposals, looks, scans and comparisons.
    pub(super) fn advance(&mut self, turn: &mut IntakeTurn<'_>) {
        while let Some(run) = self.runs.next_due(turn) {
            let settling = self.files.settling_below(&run);
            let wants = self.runs.advance(&run, &self.settings, settling, turn);
            self.grant(wants, turn.now().monotonic);
        }
        let (runs, files, health) = (&self.runs, &self.files, &self.health);
        let is_at_rest =
            |run: &SourcePath| runs.is_over(run).unwrap_or_else(|| !files.has_open(run));
        let view = DisposalView {
            settings: &self.settings,
            is_readable: health.is_scanned() && !health.is_away(),
            is_short_of_space: health.is_short_of_space(self.settings.disposal.free_space),
            is_at_rest: &is_at_rest,
        };
        self.disposals.advance(&view, turn);
        self.look(turn);
        if !self.health.is_away() {
            self.files.comparisons.advance(turn);
        }
    }

    /// Marks scans as stalled if none has shown anything for long.
    pub(super) fn check_stalled(&mut self, turn: &mut IntakeTurn<'_>) {
        if self.health.note_stalled(self.settings.scan_interval, turn.now().monotonic) {
            turn.write_health();
        }
    }

    fn look(&mut self, turn: &mut IntakeTurn<'_>) {
        let now = turn.now().monotonic;
        let room = if self.health.is_away() { 0 } else { LOOK_MAX };
        let paths = self.files.begin_look(now, room);
        if !paths.is_empty() {
            let act = Act::Look { drop: turn.directory(), paths: paths.clone() };
            turn.start(IntakeAct::Look(paths), act);
        }
        if self.settings.is_scanned && self.scans.due().is_some_and(|at| at <= now) {
            let rest_since = self.scans.rest_since(self.settings.scan_interval, now);
            let skip = self.runs.begin_scan(rest_since);
            let is_full = skip.is_empty();
            let root = self.health.root().cloned();
            let act = Act::Scan { drop: turn.directory(), skip: Arc::new(skip), root };
            self.scans.begin(turn.start(IntakeAct::Scan, act), is_full, now);
            self.health.scan_begun(now);
        }
    }

    fn grant(&mut self, wants: RunWants, now: Monotonic) {
        if let Some(at) = wants.scan_at {
            self.scans.want(at);
        }
        self.hint(wants.looks, now);
    }

    pub(super) fn borrow_known(&mut self, known: &Catalogued) {
        self.files.borrow_known(known);
    }

    /// Drops what [`Self::borrow_known`] lent about files without open uploads.
    pub(super) fn end_borrow(&mut self) {
        self.files.known.end_borrow();
    }

    /// Receives the files that a scan found unchanged since they were sent.
    pub(super) fn observe_unchanged(&mut self, files: &[UnchangedFiles], now: Now) {
        if self.scans.is_void() {
            return;
        }
        for files in files {
            let is_new = self.runs.observe_unchanged(&self.settings, files, now);
            self.found_run(is_new, now.monotonic);
        }
    }

    /// Receives one observation. Those of a scan do not count while the rows are being read.
    pub(super) fn observe(
        &mut self,
        seen: &Observation,
        closeness: Closeness,
        turn: &mut IntakeTurn<'_>,
    ) {
        let now = turn.now();
        if closeness == Closeness::Scan && self.scans.is_void() {
            return;
        }
        if let Seen::File(version) | Seen::Unreadable(version, _) = &seen.seen {
            let (path, place, version) = (&seen.path, seen.place, *version);
            let file = SeenFile { path, place, version, closeness };
            let is_new = self.runs.observe(&self.settings, file, now);
            self.found_run(is_new, now.monotonic);
        }
        let may_go = || self.runs.admits(&seen.path, seen.place, &self.settings, now.monotonic);
        let step = self.files.observe(seen, closeness, now.monotonic, may_go);
        if !matches!(seen.seen, Seen::Ignored(_)) && self.files.ignored.remove(&seen.path) {
            let (drop, path) = (turn.directory(), seen.path.clone());
            turn.record(Record::NotIgnored { drop, path });
        }
        self.act_on(step, seen, closeness, turn);
    }

    fn act_on(
        &mut self,
        step: FileStep,
        seen: &Observation,
        closeness: Closeness,
        turn: &mut IntakeTurn<'_>,
    ) {
        let (path, place) = (&seen.path, seen.place);
        match step {
            FileStep::Nothing => {}
            FileStep::NewlyIgnored(reason) => turn.record(Record::Ignored {
                drop: turn.directory(),
                path: path.clone(),
                reason,
                at: turn.now().wall,
            }),
            FileStep::Settled(version, _) | FileStep::MaybeMoved(version)
                if self.runs.may_be_renamed(path, place) =>
            {
                self.files.look_again(path, version, turn.now().monotonic);
            }
            FileStep::Settled(version, is_unreadable) => {
                let file = self.files.settled(path, place, version);
                self.files.announce(SettledFile { is_unreadable, ..file }, turn);
            }
            FileStep::Touched(version) => self.files.comparisons.queue_touched(path, version),
            FileStep::MaybeMoved(version) => {
                self.files.comparisons.queue_origin(path, place, version);
            }
            FileStep::Changed(open) => turn.tell_uploads(open, ToUpload::Changed),
            FileStep::Readable(open) => {
                let what = match closeness {
                    Closeness::Scan => ToUpload::Seen(path.clone()),
                    Closeness::Look => ToUpload::Readable,
                };
                turn.tell_uploads(open, what);
            }
            FileStep::Gone(open) => self.not_found(path, open, turn),
        }
    }

    /// The running scan shows a sign of life.
    pub(super) fn scan_active(&mut self, turn: &mut IntakeTurn<'_>) {
        // An observation may change what counts as missed.
        let was_stalled = self.health.record_scan_activity(turn.now().monotonic);
        let back = was_stalled.then(|| Dispatch::DirectoryBack(turn.directory()));
        back.into_iter().for_each(|back| turn.say(back));
        if was_stalled || self.health.is_partial() {
            turn.write_health();
        }
    }

    /// Receives the reply to one of its acts, except looks.
    pub(super) fn on_reply(
        &mut self,
        act: ActId,
        what: &IntakeAct,
        reply: Reply,
        turn: &mut IntakeTurn<'_>,
    ) {
        match what {
            IntakeAct::Scan => self.scanned(act, reply, turn),
            IntakeAct::Look(_) => {}
            IntakeAct::Compare(path) => {
                let compared = self.files.comparisons.compared(path, act, reply);
                self.compared(compared.map(|compared| (path, compared)), turn);
            }
            IntakeAct::FindMoved(paths) => {
                let compared = self.files.comparisons.origins_found(act, paths, reply);
                self.compared(compared, turn);
            }
            IntakeAct::ReadRun(run) => {
                let wants = self.runs.read(run, &self.settings, reply, turn);
                self.grant(wants, turn.now().monotonic);
            }
            IntakeAct::WriteRunReceipt(run) => {
                if self.runs.receipt_written(run, &self.settings, reply, turn) {
                    self.disposals.queue(run, false, &self.settings, turn);
                }
            }
            IntakeAct::CheckProofs(run) => self.disposals.proofs_checked(run, act, reply, turn),
            IntakeAct::Dispose(run) => self.disposed(run, act, reply, turn),
        }
    }

    /// Ends a look before its observations are received. Paths of a failed look are looked at again.
    pub(super) fn look_ended(
        &mut self,
        reply: Option<LookReply<'_>>,
        paths: &[SourcePath],
        turn: &IntakeTurn<'_>,
    ) {
        let now = turn.now();
        self.files.is_looking = false;
        match reply {
            Some(LookReply { observations, root, writers }) if self.settings.is_scanned => {
                self.files.settle.note_writers(paths, writers);
                self.health.note_root(root.cloned(), observations);
            }
            Some(_) => {}
            None => paths.iter().for_each(|path| self.files.settle.retry(path, now.monotonic)),
        }
    }

    /// Ends a look after its observations were received. Paths that could not be looked at are
    /// looked at again.
    pub(super) fn looked(
        &mut self,
        paths: &[SourcePath],
        observations: &[Observation],
        turn: &mut IntakeTurn<'_>,
    ) {
        let now = turn.now().monotonic;
        for seen in observations.iter().filter(|seen| !seen.place.is_alone(&seen.path)) {
            self.runs.wake(&seen.place.run(&seen.path), now);
        }
        if observations.len() < paths.len() {
            let seen: BTreeSet<_> = observations.iter().map(|seen| &seen.path).collect();
            let missed = paths.iter().filter(|path| !seen.contains(path));
            missed.for_each(|path| self.files.settle.retry(path, now));
        }
    }

    fn scanned(&mut self, act: ActId, reply: Reply, turn: &mut IntakeTurn<'_>) {
        // A scan of the directory that the name meant in another configuration proves nothing.
        let (Some(scan), now) = (self.scans.running(act), turn.now().monotonic) else { return };
        self.scan_active(turn);
        match reply {
            Ok(_) if scan.is_void => {}
            Ok(Outcome::Scanned { walk, renamed, .. }) => {
                self.runs.rename(renamed, now);
                self.walked(walk, scan, turn);
            }
            Ok(Outcome::OtherRoot { root, reason }) => self.health.found_other(root, reason),
            Ok(other) => debug_assert!(false, "an outcome of another act: {other:?}"),
            Err(Setback { failure, .. }) if failure.kind == FailureKind::Cancelled => {}
            Err(setback) => self.health.scan_failed(setback.failure),
        }
        let pause = self.health.pause(self.settings.scan_interval);
        self.scans.end(pause, self.settings.quiet_period, now);
        turn.write_health();
    }

    /// Receives the end of a scan.
    fn walked(&mut self, walk: Walk, scan: RunningScan, turn: &mut IntakeTurn<'_>) {
        let now = turn.now();
        if self.health.scan_ended(walk.root, walk.is_empty) {
            turn.say(Dispatch::DirectoryBack(turn.directory()));
        }
        self.health.set_free_space(walk.space.map(|space| space.free));
        turn.say(Dispatch::Notices(ToNotices::Space {
            directory: self.settings.directory.clone(),
            drop: turn.directory(),
            space: walk.space,
        }));
        let saw_all = walk.complete && walk.unseen.is_empty();
        self.health.scan_saw(saw_all, self.settings.scan_interval, now.monotonic);
        if !walk.complete {
            return;
        }
        if scan.is_full {
            for path in self.files.ignored.readable_but(&walk.unseen) {
                turn.record(Record::NotIgnored { drop: turn.directory(), path });
            }
        }
        self.runs.end_scan(&walk.unseen, scan.started, now.monotonic);
        self.look_for_missing(scan.started, now.monotonic);
        if self.health.is_short_of_space(self.settings.disposal.free_space) {
            self.disposals.press(now.monotonic);
        }
        let is_emptied = walk.is_empty && walk.unseen.is_empty();
        if scan.is_full {
            self.health.scan_was_full(walk.unseen, now.wall);
        }
        if is_emptied && self.files.all_gone(scan.started, turn) {
            // One of them may have come back behind the scan's position.
            self.scan_now(now.monotonic);
        }
    }

    fn compared<'a>(
        &mut self,
        compared: impl IntoIterator<Item = (&'a SourcePath, Compared)>,
        turn: &mut IntakeTurn<'_>,
    ) {
        for (path, compared) in compared {
            if let Some(run) = self.files.compared(path, compared, turn) {
                self.runs.wake(&run, turn.now().monotonic);
            }
        }
        turn.write_health();
    }

    /// Returns the row of its health, when it differs from what was last written.
    fn health_row(&mut self, now: Monotonic) -> Option<DirectoryHealth> {
        self.health.note_unrest(self.files.settle.unrest(now));
        let (files, count) = (&self.files, self.files.settling_count());
        self.health.row(&self.settings, count, || files.ignored.unseen())
    }
}

//! The machines, and the delivery of messages between them.
//!
//! *Owns* every machine. A machine performs a step with borrowed parts of the others
//! ([`Machines::with_intake`], [`Machines::with_transfers`]); its messages ([`Dispatch`]) are delivered here
//! before anything else happens. Events that concern more than one machine are handled here too: outcomes,
//! observations, orders, rows, a new configuration. `engine.rs` decides the order of the machines.

use std::collections::BTreeMap;

use super::dispatch::{Dispatch, ToIntake, ToTransfers, ToUpload, UploadFile};
use super::event::{ActId, Outcome, Setback, Unstored};
use super::flights::Flight;
use super::handed::HandedFile;
use super::intake::{
    Askable, Closeness, Intake, IntakeAct, IntakeTurn, LookReply, StoredPart, Surroundings,
    UploadEnd,
};
use super::loading::{self, Loading};
use super::notices::Notices;
use super::orders::{Order, OrderAnswer, OrderId, Orders};
use super::scene::Scene;
use super::settings::{DirectorySettings, Settings};
use super::shared::Shared;
use super::transfers::{Around, TransferTurn, Transfers};
use super::turn::Turn;
use super::{load, reconfigure};
use crate::model::{
    Catalogued, DestinationName, DirectoryName, Fact, FailureKind, Learned, Now, Observation,
    OpenCleanup, ParkReason, Record, SourcePath, StoredRows, StoredState, UploadId,
};

/// The result of an act.
type ActResult = Result<Outcome, Setback>;

#[derive(Debug)]
pub(super) struct Machines {
    pub(super) settings: Settings,
    pub(super) intakes: BTreeMap<DirectoryName, Intake>,
    pub(super) transfers: BTreeMap<DestinationName, Transfers>,
    pub(super) notices: Notices,
    pub(super) orders: Orders,
    pub(super) shared: Shared,
}

impl Machines {
    /// Builds the machines of a configuration. [`Self::take_stored`] comes next.
    pub(super) fn new(settings: Settings, stored: &mut StoredState, now: Now) -> Self {
        let intake = |directory: &DirectorySettings| {
            (directory.name.clone(), Intake::new(directory.clone(), now.monotonic))
        };
        let mut machines = Self {
            intakes: settings.drops.iter().map(intake).collect(),
            transfers: BTreeMap::new(),
            notices: Notices::load(&settings, std::mem::take(&mut stored.notices), now),
            orders: Orders::load(std::mem::take(&mut stored.orders)),
            shared: Shared::new(stored),
            settings,
        };
        let Self { settings, transfers, shared, .. } = &mut machines;
        reconfigure::transfers(settings, transfers, &mut shared.targets, now.monotonic);
        machines
    }

    pub(super) fn take_stored(&mut self, mut stored: StoredState, turn: &mut Turn) {
        for (destination, targets) in std::mem::take(&mut stored.targets.in_force) {
            if let Some(transfers) = self.transfers.get_mut(&destination) {
                transfers.load_targets(targets);
            }
        }
        let open_runs = std::mem::take(&mut stored.open_runs).into_iter();
        let open_runs = open_runs
            .map(|key| Dispatch::Transfers(key.destination.clone(), ToTransfers::LoadRun(key)));
        self.deliver(open_runs, turn);
        self.assign_targets(turn);
        let roots = std::mem::take(&mut stored.roots);
        let uploads = std::mem::take(&mut stored.uploads);
        let (follows, disposals) = (stored.follows, std::mem::take(&mut stored.disposals));
        self.deliver(load::directories(stored), turn);
        let roots = self.shared.roots.load(roots, &self.intakes);
        self.deliver(roots, turn);
        self.deliver(load::uploads(uploads), turn);
        self.deliver(load::disposals(disposals), turn);
        self.with_all_transfers(turn, Transfers::write_health);
        if !follows {
            self.end_loading(turn);
        }
    }

    /// Delivers messages: each with all its consequences before the next.
    pub(super) fn deliver(&mut self, said: impl IntoIterator<Item = Dispatch>, turn: &mut Turn) {
        for what in said {
            match what {
                Dispatch::Intake(name, what) => {
                    self.with_intake(&name, turn, |intake, turn| intake.receive(what, turn));
                }
                Dispatch::Transfers(name, what) => {
                    let none = || Transfers::new(name.clone());
                    self.transfers.entry(name.clone()).or_insert_with(none);
                    self.with_transfers(&name, turn, |t, turn| t.receive(what, turn));
                }
                Dispatch::Upload(id, what) => {
                    if let Some(name) = self.scene().owner(id) {
                        self.with_transfers(&name, turn, |t, turn| t.receive_for(id, what, turn));
                    }
                }
                Dispatch::Notices(what) => self.notices.receive(what, turn.now()),
                Dispatch::UploadEnded(file, end) => self.on_ended(file, end, turn),
                Dispatch::UploadGivenUp(id) => {
                    self.orders.give_up(id, turn);
                    self.deliver([Dispatch::Upload(id, ToUpload::Place)], turn);
                }
                Dispatch::PlaceFreed(place) => {
                    self.deliver(self.shared.claims.hand_over(place), turn);
                }
                Dispatch::PlaceTaken(place) => {
                    self.deliver(self.shared.claims.name_holder(place), turn);
                }
                Dispatch::SourceMissing(id) => {
                    if let Some(loading) = &mut self.shared.loading {
                        loading.misses(id);
                    }
                }
                Dispatch::DirectoryBack(drop) => {
                    self.with_all_transfers(turn, |t, turn| t.release_readers(&drop, turn));
                }
            }
        }
    }

    /// Runs a step of a drop directory, and delivers its messages.
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
            is_loading: self.shared.loading.is_some(),
            is_paused: &is_paused,
            destination: &destination,
        };
        let mut lent = IntakeTurn::new(name, turn, &mut self.shared.flights, around);
        let returned = step(intake, &mut lent);
        let said = lent.into_said();
        self.deliver(said, turn);
        Some(returned)
    }

    /// Runs a step of every drop directory.
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

    /// Runs a step of a destination, and delivers its messages.
    pub(super) fn with_transfers<R>(
        &mut self,
        name: &DestinationName,
        turn: &mut Turn,
        step: impl FnOnce(&mut Transfers, &mut TransferTurn<'_>) -> R,
    ) -> Option<R> {
        let transfers = self.transfers.get_mut(name)?;
        let around =
            Around { settings: &self.settings, intakes: &self.intakes, orders: &self.orders };
        let mut lent = TransferTurn::new(turn, &mut self.shared, around);
        let returned = step(transfers, &mut lent);
        let said = lent.into_said();
        self.deliver(said, turn);
        Some(returned)
    }

    /// Runs a step of every destination.
    pub(super) fn with_all_transfers(
        &mut self,
        turn: &mut Turn,
        step: impl Fn(&mut Transfers, &mut TransferTurn<'_>),
    ) {
        let names: Vec<_> = self.transfers.keys().cloned().collect();
        for name in names {
            self.with_transfers(&name, turn, &step);
        }
    }

    /// An upload has ended: its orders end, and its file and run may continue.
    fn on_ended(&mut self, file: UploadFile, end: UploadEnd, turn: &mut Turn) {
        self.orders.ended(file.id, turn);
        if file.file.is_sentinel {
            return;
        }
        let drop = file.file.drop.clone();
        self.deliver([Dispatch::Intake(drop.clone(), ToIntake::Left(file.clone()))], turn);
        match &mut self.shared.loading {
            Some(loading) => loading.ended(file, end),
            None => self.deliver([Dispatch::Intake(drop, ToIntake::Ended(file, end))], turn),
        }
    }

    pub(super) fn on_outcome(&mut self, act: ActId, reply: ActResult, turn: &mut Turn) {
        let Some(flight) = self.shared.flights.remove(act) else { return };
        match flight {
            Flight::Intake(drop, what, destination) => {
                if let Some(name) = destination {
                    self.with_transfers(&name, turn, |t, turn| t.note_reply(act, &reply, turn));
                }
                // Only a scan shows whether the drop directory is away.
                let is_away = |s: &Setback| matches!(s.failure.kind, FailureKind::SourceAway);
                if what.reads_files() && reply.as_ref().is_err_and(is_away) {
                    self.deliver([Dispatch::Intake(drop.clone(), ToIntake::ScanNow)], turn);
                }
                match &what {
                    IntakeAct::Look(paths) => self.on_looked(&drop, paths, reply, turn),
                    IntakeAct::Scan
                    | IntakeAct::Compare(_)
                    | IntakeAct::FindMoved(_)
                    | IntakeAct::ReadRun(_)
                    | IntakeAct::WriteRunReceipt(_)
                    | IntakeAct::CheckProofs(_)
                    | IntakeAct::Dispose(_) => {
                        self.with_intake(&drop, turn, |i, turn| {
                            i.on_reply(act, &what, reply, turn)
                        });
                    }
                }
            }
            Flight::Transfers(name, what) => {
                let scene = self.scene();
                let reply = reply.map(|outcome| scene.without_used(what.upload(), outcome));
                self.with_transfers(&name, turn, |t, turn| t.on_reply(act, what, reply, turn));
            }
            Flight::Notify(id) => self.notices.answered(id, reply.err(), turn),
            Flight::Survey => self.notices.surveyed(reply, turn.now()),
            Flight::ReadRows => self.on_rows_read(act, reply.is_ok(), turn),
        }
    }

    /// Gives observations to their drop directory, with the rows of their files for the duration.
    /// While rows are being read, files cannot be judged: they are looked at again.
    pub(super) fn on_observed(
        &mut self,
        drop: &DirectoryName,
        observations: &[Observation],
        closeness: Closeness,
        turn: &mut Turn,
    ) {
        let is_loaded = self.shared.loading.is_none();
        for seen in observations.iter().filter(|_| is_loaded) {
            self.with_intake(drop, turn, |intake, turn| intake.observe(seen, closeness, turn));
        }
        self.with_intake(drop, turn, |intake, _| intake.end_borrow());
    }

    fn on_looked(
        &mut self,
        drop: &DirectoryName,
        paths: &[SourcePath],
        reply: ActResult,
        turn: &mut Turn,
    ) {
        let reply = reply.ok().filter(|_| self.shared.loading.is_none());
        if let Some(Outcome::Looked { observations, root, known, writers }) = reply {
            let root = root.as_ref();
            let found = LookReply { observations: &observations, root, writers: &writers };
            self.with_intake(drop, turn, |intake, turn| {
                intake.look_ended(Some(found), paths, turn);
                intake.borrow_known(&known);
            });
            self.on_observed(drop, &observations, Closeness::Look, turn);
            self.with_intake(drop, turn, |intake, turn| intake.looked(paths, &observations, turn));
        } else {
            self.with_intake(drop, turn, |intake, turn| intake.look_ended(None, paths, turn));
        }
        self.deliver([Dispatch::Intake(drop.clone(), ToIntake::WriteHealth)], turn);
    }

    /// Records a new property of a target that a destination's answers have shown.
    pub(super) fn on_learned(
        &mut self,
        destination: DestinationName,
        what: Learned,
        detail: String,
        turn: &mut Turn,
    ) {
        let target = self.transfers.get(&destination).and_then(Transfers::target);
        if let Some(target) = target.filter(|at| self.shared.targets.learn(*at, what)) {
            let at = turn.now().wall;
            turn.record(Record::DestinationLearned { destination, target, what, detail, at });
        }
    }

    pub(super) fn on_ordered(&mut self, id: OrderId, order: Order, turn: &mut Turn) {
        let answer = match order {
            Order::Set { verb, scopes } => {
                let change = |scope| {
                    let scene = Scene { intakes: &self.intakes, transfers: &self.transfers };
                    let (change, said) = self.orders.change(verb, scope, scene, turn);
                    self.deliver(said, turn);
                    change
                };
                OrderAnswer::Changed(scopes.into_iter().map(change).collect())
            }
            Order::Close { drop, run, by } => {
                let close =
                    |i: &mut Intake, turn: &mut IntakeTurn<'_>| i.close_by_hand(&run, by, turn);
                let closed = self.with_intake(&drop, turn, close);
                let closed = closed.unwrap_or(Err("is no drop directory that is configured"));
                OrderAnswer::Closed(closed.map_err(str::to_owned))
            }
            Order::Resend { to } | Order::HandIn { to, .. } if !self.scene().is_configured(&to) => {
                OrderAnswer::UnknownDestination(to)
            }
            Order::Resend { to } => {
                self.resend(&to, turn);
                OrderAnswer::Resending
            }
            Order::HandIn { files, known, to } => {
                OrderAnswer::HandedIn(self.hand_in(files, &known, &to, turn))
            }
        };
        turn.answer(id, answer);
    }

    /// Admits files for a destination. Returns the upload of each; `None` where this version was
    /// handed in for it before.
    fn hand_in(
        &mut self,
        files: Vec<HandedFile>,
        known: &Catalogued,
        to: &DestinationName,
        turn: &mut Turn,
    ) -> Vec<(SourcePath, Option<UploadId>)> {
        let drop = DirectoryName::handed_in();
        self.with_intake(&drop, turn, |intake, _| intake.borrow_known(known));
        let admit = |file: HandedFile| {
            let judge = |i: &mut Intake, _: &mut IntakeTurn<'_>| {
                i.judge_handed(file.path.digest(), &file.version, to)
            };
            let Some(changed) = self.with_intake(&drop, turn, judge).flatten() else {
                return (file.path, None);
            };
            self.deliver(Dispatch::uploads(changed, ToUpload::Changed), turn);
            let (path, id) = (file.path.clone(), self.shared.next_upload);
            let admit = ToTransfers::Admit(file.into_settled());
            self.deliver([Dispatch::Transfers(to.clone(), admit)], turn);
            (path, (self.shared.next_upload != id).then_some(id))
        };
        let admitted = files.into_iter().map(admit).collect();
        self.with_intake(&drop, turn, |intake, _| intake.end_borrow());
        admitted
    }

    /// Sets memory back to the rows: memory changes with the decision, ahead of the disk. An upload
    /// with a record that the database rejects for its values is loaded from its row again, as at a
    /// start, and stays parked until an operator retries it: then it asks before it acts. Outcomes
    /// of its earlier acts are ignored. The record that parks it shows the store that memory agrees
    /// again.
    pub(super) fn on_unstored(&mut self, refused: Unstored, turn: &mut Turn) {
        let Unstored { upload, stored, why } = refused;
        let at = turn.now().wall;
        let Some(stored) = stored else {
            // It has no row: its file is known to this process, and found again by the next one.
            let ends = ToUpload::Record(Fact::Abandoned { at });
            return self.deliver([Dispatch::Upload(upload, ends)], turn);
        };
        match self.scene().owner(upload) {
            Some(name) => {
                self.with_transfers(&name, turn, |t, turn| t.reload(*stored, turn));
            }
            None => self.deliver(load::uploads(vec![*stored]), turn),
        }
        let reason = ParkReason::CannotBeStored;
        let parks = ToUpload::Record(Fact::Parked { reason, detail: why, at });
        self.deliver([Dispatch::Upload(upload, parks)], turn);
    }

    pub(super) fn on_stored(&mut self, rows: StoredRows, turn: &mut Turn) {
        if rows == StoredRows::End {
            return self.end_loading(turn);
        }
        let Shared { loading, roots, .. } = &mut self.shared;
        let Some(loading) = loading else { return };
        let scene = Scene { intakes: &self.intakes, transfers: &self.transfers };
        let said = loading.received(rows, roots, scene);
        self.deliver(said, turn);
    }

    /// Sends the files at a destination's former targets to its current target, as far as the sources are here.
    fn resend(&mut self, to: &DestinationName, turn: &mut Turn) {
        let Some(target) = self.transfers.get(to).and_then(Transfers::target) else { return };
        let (destination, before) = (to.clone(), self.shared.next_upload);
        turn.record(Record::Resend { destination, target, before });
        self.read_again(loading::directories_of(to, self.scene()), turn);
    }

    /// Schedules reading the rows of these drop directories.
    fn read_again(&mut self, unread: loading::UnreadDirectories, turn: &mut Turn) {
        if unread.is_empty() {
            return;
        }
        self.intakes.values_mut().for_each(Intake::discard_scan);
        let loading = self.shared.loading.get_or_insert_with(Loading::new);
        loading.read(unread, turn.now().monotonic);
        self.start_reading(turn);
    }

    /// Starts the act that reads rows, when it is due.
    pub(super) fn start_reading(&mut self, turn: &mut Turn) {
        let Some(loading) = &mut self.shared.loading else { return };
        let Some(act) = loading.act(turn.now().monotonic) else { return };
        loading.begun(self.shared.flights.start(Flight::ReadRows, act, turn));
    }

    fn on_rows_read(&mut self, act: ActId, is_read: bool, turn: &mut Turn) {
        let Some(loading) = &mut self.shared.loading else { return };
        let Some(read) = loading.rows_read(act, is_read, turn.now().monotonic) else { return };
        let scans: Vec<_> =
            read.keys().map(|name| Dispatch::Intake(name.clone(), ToIntake::ScanNow)).collect();
        let known =
            |(name, known)| Dispatch::Intake(name, ToIntake::Load(StoredPart::AllKnown(known)));
        self.deliver(read.into_iter().map(known), turn);
        self.end_loading(turn);
        let ids = self.scene().ids(|_| true);
        self.deliver(Dispatch::uploads(ids, ToUpload::ParkOrRelease), turn);
        // Observations of a scan before the rows were read were not compared with them.
        self.deliver(scans, turn);
    }

    pub(super) fn end_loading(&mut self, turn: &mut Turn) {
        let Some(loading) = self.shared.loading.take() else { return };
        let said = loading.end(&self.shared.claims, self.scene());
        self.deliver(said, turn);
    }

    pub(super) fn on_reconfigured(&mut self, settings: Settings, turn: &mut Turn) {
        let roots = self.shared.roots.all(&self.intakes);
        let unread = reconfigure::intakes(&settings, &mut self.intakes, turn.now().monotonic);
        let roots = self.shared.roots.load(roots, &self.intakes);
        self.deliver(roots, turn);
        self.notices.reconfigure(&settings, turn.now());
        self.settings = settings;
        let (transfers, targets) = (&mut self.transfers, &mut self.shared.targets);
        reconfigure::transfers(&self.settings, transfers, targets, turn.now().monotonic);
        self.assign_targets(turn);
        self.with_all_transfers(turn, Transfers::write_health);
        let ids = self.scene().ids(|_| true);
        self.deliver(Dispatch::uploads(ids.clone(), ToUpload::Retarget), turn);
        let scene = Scene { intakes: &self.intakes, transfers: &self.transfers };
        let claims = self.shared.claims.renew(scene);
        self.deliver(claims, turn);
        self.deliver(Dispatch::uploads(ids.clone(), ToUpload::JoinRun), turn);
        self.read_again(unread, turn);
        self.deliver(Dispatch::uploads(ids, ToUpload::ParkOrRelease), turn);
    }

    /// Assigns the targets of every destination; clean-ups of a target that is configured again are queued.
    pub(super) fn assign_targets(&mut self, turn: &mut Turn) {
        self.with_all_transfers(turn, Transfers::assign_target);
        let cleanups = self.shared.targets.take_cleanups().into_iter();
        let queue = |what: OpenCleanup| {
            Dispatch::Transfers(what.destination.clone(), ToTransfers::QueueCleanup(what))
        };
        self.deliver(cleanups.map(queue), turn);
    }

    pub(super) fn scene(&self) -> Scene<'_> {
        Scene { intakes: &self.intakes, transfers: &self.transfers }
    }
}

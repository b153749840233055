//! The engine: decides what to do next, and does nothing.
//!
//! [`Engine::handle`] takes one [`Event`] and appends [`Effect`]s; [`Engine::next_deadline`] says
//! when to call it with [`Event::Timer`]. No clock, no random source, no file system, no log above
//! debug: the same events at the same times give the same effects, byte for byte. The shell
//! (`daemon.rs`) and the simulation drive it in the same way.
//!
//! This file only routes. What is on disk in a drop directory, and what becomes of it, is `intake`; a
//! destination with all its uploads is `transfers`; who is notified of what is `notices`; what the destinations
//! share is `permits`, `claims` and `targets`; pauses and other orders are `orders`; what is still being read
//! from the rows is `loading`. What one machine says to another is a `dispatch`, and is delivered here.
//!
//! *Decide, commit, act*: everything decided in one call to `handle` is committed in one
//! transaction. Acts that change something at the far side wait for the commit
//! ([`Effect::Commit`]); reads and questions do not ([`Effect::Start`]). Memory moves when the decision is made; it is ahead of
//! the disk by at most the commits under way, and no act that cannot be repeated overtakes one.
//!
//! A crash loses this memory and nothing else: [`Engine::load`] builds it again from rows, and
//! every upload then asks before it acts.

pub mod check;
mod claims;
mod disk;
mod dispatch;
pub mod event;
mod failure;
mod flights;
pub mod handed;
mod intake;
mod known;
mod load;
mod loading;
mod notices;
pub mod orders;
mod permits;
mod plan;
mod receive;
mod reconfigure;
mod roots;
mod scene;
pub mod settings;
mod targets;
mod ticket;
mod transfers;
mod turn;
mod view;

use std::collections::BTreeMap;

use claims::Claims;
use dispatch::{Dispatch, ToIntake, ToTransfers, ToUpload};
use event::{Act, Effect, Event};
use flights::Flights;
use intake::{Askable, Closeness, Intake, IntakeAct, IntakeTurn, Surroundings, UploadEnd};
use loading::Loading;
use notices::{FailingUpload, Notices};
use orders::Orders;
use permits::Permits;
pub(crate) use plan::{Preview, Words, needs_reading};
use roots::RootRegistry;
use scene::Scene;
use settings::Settings;
use targets::TargetRegistry;
use ticket::UploadFile;
use transfers::{Around, TransferAct, TransferTurn, Transfers};
use turn::Turn;
pub(crate) use view::{Counts, Pace};

use crate::model::{
    DestinationName, DirectoryName, Monotonic, NoticeId, Now, Record, SourcePath, StoredState,
    UploadId,
};

/// The engine. See the module's head.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    intakes: BTreeMap<DirectoryName, Intake>,
    transfers: BTreeMap<DestinationName, Transfers>,
    notices: Notices,
    orders: Orders,
    shared: Shared,
}

/// What the machines share: lent to the one that takes a step.
#[derive(Debug)]
struct Shared {
    flights: Flights,
    permits: Permits,
    claims: Claims,
    targets: TargetRegistry,
    roots: RootRegistry,
    /// Not all that is stored is in memory.
    loading: Option<Loading>,
    next_upload: UploadId,
}

impl Shared {
    /// Returns the id of the next upload.
    fn next_id(&mut self) -> UploadId {
        let id = self.next_upload;
        self.next_upload = UploadId(id.0 + 1);
        id
    }
}

/// An act that was handed out and has not come back.
#[derive(Debug, Clone)]
enum Flight {
    /// An act of a drop directory; with the destination that it calls, if it calls one.
    Intake(DirectoryName, IntakeAct, Option<DestinationName>),
    Transfers(DestinationName, TransferAct),
    Notify(NoticeId),
    Survey,
    ReadRows,
}

impl Engine {
    /// Starts from what is stored. This is recovery; there is no other start.
    pub fn load(
        settings: Settings,
        mut stored: StoredState,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Self {
        let intake = |directory: &settings::DirectorySettings| {
            (directory.name.clone(), Intake::new(directory.clone(), now.monotonic))
        };
        let next_upload = stored.next_upload.unwrap_or(UploadId(1));
        let mut engine = Self {
            intakes: settings.drops.iter().map(intake).collect(),
            transfers: BTreeMap::new(),
            notices: Notices::load(&settings, std::mem::take(&mut stored.notices), now),
            orders: Orders::load(std::mem::take(&mut stored.orders)),
            shared: Shared {
                flights: Flights::new(),
                permits: Permits::new(next_upload),
                claims: Claims::default(),
                targets: TargetRegistry::load(&mut stored.targets),
                roots: RootRegistry::default(),
                loading: Some(Loading::new()),
                next_upload,
            },
            settings,
        };
        reconfigure::transfers(
            &engine.settings,
            &mut engine.transfers,
            &mut engine.shared.targets,
            now.monotonic,
        );
        let mut turn = Turn::new(now);
        engine.take_stored(stored, &mut turn);
        engine.notify(&mut turn);
        engine.flush(turn, out);
        engine
    }

    fn take_stored(&mut self, mut stored: StoredState, turn: &mut Turn) {
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
        self.shared.roots.begin(&roots, &self.intakes);
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

    /// Takes one event and appends what is to be done.
    pub fn handle(&mut self, now: Now, event: Event, out: &mut Vec<Effect>) {
        self.handle_all(now, [event], out);
    }

    /// Takes events in order and appends what is to be done after all of them: decided together, and
    /// committed together.
    pub fn handle_all(
        &mut self,
        now: Now,
        events: impl IntoIterator<Item = Event>,
        out: &mut Vec<Effect>,
    ) {
        let mut turn = Turn::new(now);
        let mut moves = false;
        for event in events {
            moves |= event != Event::Committed || self.shared.permits.waits_for_disk();
            self.take(event, &mut turn);
        }
        if moves {
            self.shared.permits.begin_turn();
            self.pump(&mut turn);
            self.notify(&mut turn);
            self.flush(turn, out);
        }
    }

    fn take(&mut self, event: Event, turn: &mut Turn) {
        let now = turn.now;
        match event {
            Event::Timer => {}
            Event::Hint { drop, paths } => {
                self.deliver([Dispatch::Intake(drop, ToIntake::Hint(paths))], turn);
            }
            Event::ScanNow { drop } => {
                self.deliver([Dispatch::Intake(drop, ToIntake::ScanNow)], turn);
            }
            Event::Observed { drop, observations, known } => {
                self.with_intake(&drop, turn, |intake, _| intake.borrow_known(&known));
                self.on_observed(&drop, &observations, Closeness::Scan, turn);
                let is_loaded = self.shared.loading.is_none();
                let unchanged = if is_loaded { &known.unchanged[..] } else { &[] };
                self.with_intake(&drop, turn, |intake, turn| {
                    intake.observe_unchanged(unchanged, now);
                    intake.scan_active(turn);
                });
            }
            Event::WatchChanged { drop, watch, reason } => {
                self.with_intake(&drop, turn, |intake, turn| {
                    intake.watch_changed(watch, reason, turn);
                });
            }
            Event::Outcome { act, outcome } => self.on_outcome(act, outcome, turn),
            Event::Committed => self.shared.permits.disk().committed(),
            Event::Unstored(refused) => {
                refused.into_iter().for_each(|refused| self.on_unstored(refused, turn));
            }
            Event::Sent(sent) => {
                for (name, bytes) in sent {
                    if let Some(transfers) = self.transfers.get_mut(&name) {
                        transfers.bytes_sent(bytes.0, now.monotonic);
                    }
                }
            }
            Event::InFlight(counts) => {
                let counts = counts.into_iter();
                let counts =
                    counts.map(|(id, bytes)| Dispatch::Upload(id, ToUpload::InFlight(bytes)));
                self.deliver(counts, turn);
            }
            Event::CredentialChanged { destination } => {
                if let Some(transfers) = self.transfers.get_mut(&destination) {
                    transfers.credential_changed(now.monotonic);
                }
            }
            Event::Learned { destination, what, detail } => {
                self.on_learned(destination, what, detail, turn);
            }
            Event::Stored(portion) => self.on_stored(portion, turn),
            Event::Reconfigured(settings) => self.on_reconfigured(settings, turn),
            Event::Ordered { id, order } => self.on_ordered(id, order, turn),
            Event::RateChanged { bytes_per_second } => {
                self.shared.permits.set_may_send(bytes_per_second != Some(0));
                self.transfers.values_mut().for_each(|t| t.rate_changed(now.monotonic));
            }
            Event::LedgersChecked(found) => {
                found.into_iter().for_each(|found| turn.record(Record::LedgerChecked(found)));
            }
            Event::Drain => self.orders.drain(),
        }
    }

    /// Delivers what machines say: each with all that follows from it before the next.
    fn deliver(&mut self, said: impl IntoIterator<Item = Dispatch>, turn: &mut Turn) {
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
                Dispatch::Notices(what) => self.notices.receive(what, turn.now),
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

    /// Lets a drop directory take a step, and delivers what it says.
    fn with_intake<R>(
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

    /// Lets every drop directory take a step.
    fn with_intakes(&mut self, turn: &mut Turn, step: impl Fn(&mut Intake, &mut IntakeTurn<'_>)) {
        let names: Vec<_> = self.intakes.keys().cloned().collect();
        for name in names {
            self.with_intake(&name, turn, &step);
        }
    }

    /// Lets a destination take a step, and delivers what it says.
    fn with_transfers<R>(
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

    /// Lets every destination take a step.
    fn with_all_transfers(
        &mut self,
        turn: &mut Turn,
        step: impl Fn(&mut Transfers, &mut TransferTurn<'_>),
    ) {
        let names: Vec<_> = self.transfers.keys().cloned().collect();
        for name in names {
            self.with_transfers(&name, turn, &step);
        }
    }

    /// An upload has ended: its orders are over, and its file and run may go on.
    fn on_ended(&mut self, file: UploadFile, end: UploadEnd, turn: &mut Turn) {
        self.orders.ended(file.id, turn);
        if file.is_sentinel {
            return;
        }
        let drop = file.drop.clone();
        self.deliver([Dispatch::Intake(drop.clone(), ToIntake::Left(file.clone()))], turn);
        match &mut self.shared.loading {
            Some(loading) => loading.ended(file, end),
            None => self.deliver([Dispatch::Intake(drop, ToIntake::Ended(file, end))], turn),
        }
    }

    /// Starts everything that may run. The order is fixed, so that the same state always leads to the same
    /// acts: waits that are over, drop directories, each destination in turn, receipts, and then parts over
    /// all destinations until permits or memory are used up.
    fn pump(&mut self, turn: &mut Turn) {
        if self.orders.is_draining() {
            return;
        }
        self.with_all_transfers(turn, Transfers::wake);
        self.start_reading(turn);
        self.with_intakes(turn, Intake::check_stalled);
        // What files mean, only all that is stored tells: one that is not known yet would be sent again.
        if self.shared.loading.is_none() {
            self.with_intakes(turn, Intake::advance);
        }
        self.with_all_transfers(turn, Transfers::advance);
        self.with_all_transfers(turn, Transfers::write_receipts);
        self.send_parts(turn);
    }

    fn send_parts(&mut self, turn: &mut Turn) {
        let mut contenders = Vec::new();
        let names: Vec<_> = self.transfers.keys().cloned().collect();
        for name in names {
            contenders.extend(self.with_transfers(&name, turn, Transfers::contenders));
        }
        let mut contenders = contenders.concat();
        while self.shared.permits.has_part(&self.settings)
            && let Some(index) = self.shared.permits.choose(&contenders)
        {
            let (id, name) = (contenders[index].upload, contenders[index].destination.clone());
            match self.with_transfers(&name, turn, |t, turn| t.send(id, turn)) {
                Some(true) => contenders[index].flying_count += 1,
                Some(false) | None => drop(contenders.swap_remove(index)),
            }
        }
    }

    /// Records the notices of a turn, and hands out what is due of them.
    fn notify(&mut self, turn: &mut Turn) {
        let scene = Scene { intakes: &self.intakes, transfers: &self.transfers };
        self.notices.end_turn(turn, |id| scene.upload(id).map(FailingUpload::of));
        if self.orders.is_draining() {
            return;
        }
        for act in self.notices.acts(turn.now.monotonic) {
            let flight = if let Act::Notify { notice } = &act {
                Flight::Notify(notice.id)
            } else {
                Flight::Survey
            };
            self.shared.flights.start(flight, act, turn);
        }
    }

    /// Hands out what a turn decided, and keeps account of what is to become durable by it.
    fn flush(&mut self, turn: Turn, out: &mut Vec<Effect>) {
        if turn.flush(out) {
            self.shared.permits.disk().handed_over();
        }
    }

    /// Returns when [`Event::Timer`] is due, if ever.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        if self.orders.is_draining() {
            return None;
        }
        let around =
            Around { settings: &self.settings, intakes: &self.intakes, orders: &self.orders };
        let transfers = self.transfers.values();
        let transfers = transfers.filter_map(|t| t.next_deadline(around, &self.shared));
        let has_run_slot = self.shared.flights.has_run_slot();
        let intakes = match &self.shared.loading {
            Some(loading) => loading.next_deadline(),
            None => self.intakes.values().filter_map(|i| i.next_deadline(has_run_slot)).min(),
        };
        transfers.chain(self.notices.next_deadline()).chain(intakes).min()
    }

    fn scene(&self) -> Scene<'_> {
        Scene { intakes: &self.intakes, transfers: &self.transfers }
    }
}

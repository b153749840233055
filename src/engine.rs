//! The engine: decides what to do next, and does nothing.
//!
//! [`Engine::handle`] takes one [`Event`] and appends [`Effect`]s; [`Engine::next_deadline`] says
//! when to call it with [`Event::Timer`]. No clock, no random source, no file system, no log above
//! debug: the same events at the same times give the same effects, byte for byte. The shell
//! (`daemon.rs`) and the simulation drive it in the same way.
//!
//! This file only routes. What is on disk in a drop directory, and what becomes of it, is `intake`; a
//! destination with all its uploads is `transfers`; who is notified of what is `notices`; what the destinations
//! share is `permits`, `claims` and `targets`; pauses and other orders are `orders`.
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
pub mod event;
mod flights;
pub(crate) mod handed;
mod intake;
mod known;
mod load;
mod notices;
pub mod orders;
mod outcomes;
mod permits;
mod plan;
mod reconfigure;
mod reread;
mod retry;
pub mod settings;
mod sources;
mod targets;
mod ticket;
mod transfers;
mod turn;
mod unstored;

use std::collections::BTreeMap;

use claims::Claims;
use event::{Act, Effect, Event};
use flights::Flights;
pub(crate) use intake::StoredRun;
use intake::{Closeness, Intake, IntakeAct, StoredPart};
use load::Loading;
pub use load::{Portion, Stored, StoredUpload};
use notices::{FailingUpload, Notices};
use orders::Orders;
use permits::Permits;
pub(crate) use plan::{Preview, needs_reading};
use settings::Settings;
use targets::TargetRegistry;
pub(crate) use transfers::RunEndKey;
use transfers::{Around, TransferAct, Transfers};
use turn::Turn;

use crate::model::{
    DestinationName, DirectoryName, KnownFile, Monotonic, NoticeId, Now, RootIdentity, SourcePath,
    UploadId,
};

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Uploads that are queued, sending or waiting.
    pub going: usize,
    /// Uploads that are parked.
    pub parked: usize,
    /// Files that are not settled.
    pub settling: usize,
}

/// How a destination is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Parts that may be on their way.
    pub width: u32,
    /// Parts that are.
    pub flying: u32,
    /// Bytes that went in a second, when that was last measured.
    pub bytes_per_second: u64,
}

/// The engine. See the module's head.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    intakes: BTreeMap<DirectoryName, Intake>,
    transfers: BTreeMap<DestinationName, Transfers>,
    notices: Notices,
    orders: Orders,
    shared: Shared,
    /// Not all that is stored is in memory.
    loading: Option<Loading>,
    draining: bool,
    /// Where drop directories were whose names stand for other directories since this life began.
    former_directories: BTreeMap<DirectoryName, String>,
    /// Which directories drop directories were that are not configured.
    gone_roots: Vec<(DirectoryName, String, RootIdentity)>,
}

/// What the machines share: lent to the one that takes a step.
#[derive(Debug)]
struct Shared {
    flights: Flights,
    permits: Permits,
    claims: Claims,
    targets: TargetRegistry,
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

/// One run of one drop directory.
type RunKey = (DirectoryName, SourcePath);

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
    pub fn load(settings: Settings, stored: Stored, now: Now, out: &mut Vec<Effect>) -> Self {
        let intake = |directory: &settings::DirectorySettings| {
            (directory.name.clone(), Intake::new(directory.clone(), now.monotonic))
        };
        let next_upload = stored.next_upload.unwrap_or(UploadId(1));
        let mut engine = Self {
            intakes: settings.drops.iter().map(intake).collect(),
            transfers: BTreeMap::new(),
            notices: Notices::load(&settings, stored.notices.clone(), now),
            orders: Orders::default(),
            shared: Shared {
                flights: Flights::new(),
                permits: Permits::new(next_upload),
                claims: Claims::default(),
                targets: TargetRegistry::default(),
                next_upload,
            },
            loading: Some(Loading::default()),
            draining: false,
            former_directories: BTreeMap::new(),
            gone_roots: Vec::new(),
            settings,
        };
        for destination in engine.settings.destinations.clone() {
            let transfers = engine.add_transfers(&destination.name);
            transfers.configure(destination, now.monotonic);
        }
        engine.take_stored(stored, now, out);
        engine
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
            self.end_turn(turn, out);
        }
    }

    fn take(&mut self, event: Event, turn: &mut Turn) {
        let now = turn.now;
        match event {
            Event::Timer => {}
            Event::Hint { drop, paths } => self.on_hint(&drop, paths, now),
            Event::ScanNow { drop } => self.on_scan_now(&drop, now),
            Event::Observed { drop, observations, known } => {
                self.lend_known(&drop, &known);
                self.on_observed(&drop, &observations, Closeness::Scan, turn);
                self.with_intake(&drop, turn, |intake, turn| intake.scan_active(turn));
            }
            Event::WatchChanged { drop, watch, reason } => {
                self.with_intake(&drop, turn, |intake, turn| {
                    intake.watch_changed(watch, reason, turn);
                });
            }
            Event::Outcome { act, outcome } => self.on_outcome(act, outcome, turn),
            Event::Committed => self.shared.permits.disk().committed(),
            Event::Unstored(refused) => self.on_unstored(refused, turn),
            Event::Sent(sent) => {
                for (name, bytes) in sent {
                    if let Some(transfers) = self.transfers.get_mut(&name) {
                        transfers.bytes_sent(bytes.0, now.monotonic);
                    }
                }
            }
            Event::InFlight(counts) => {
                for (id, bytes) in counts {
                    self.with_owner(id, turn, |t, turn| t.bytes_in_flight(id, bytes, turn));
                }
            }
            Event::CredentialChanged { destination } => {
                if let Some(transfers) = self.transfers.get_mut(&destination) {
                    transfers.credential_changed(now.monotonic);
                }
            }
            Event::Stored(portion) => self.on_stored(portion, turn),
            Event::Reconfigured(settings) => self.on_reconfigured(settings, turn),
            Event::Ordered { id, order } => self.on_ordered(id, order, turn),
            Event::RateChanged { bytes_per_second } => {
                self.shared.permits.set_may_send(bytes_per_second != Some(0));
                self.transfers.values_mut().for_each(|t| t.rate_changed(now.monotonic));
            }
            Event::Drain => self.draining = true,
        }
    }

    fn end_turn(&mut self, mut turn: Turn, out: &mut Vec<Effect>) {
        self.shared.permits.begin_turn();
        self.pump(&mut turn);
        self.notify(&mut turn);
        self.flush(turn, out);
    }

    /// Records the notices of a turn, and hands out what is due of them.
    fn notify(&mut self, turn: &mut Turn) {
        let failing = |id| {
            let upload = self.transfers.values().find_map(|transfers| transfers.upload(id))?;
            let ticket = &upload.admission;
            Some(FailingUpload {
                drop: ticket.drop.clone(),
                destination: ticket.destination.clone(),
                path: ticket.path.clone(),
                size: ticket.fingerprint.size,
                unreadable_since: upload.life.failing_since,
            })
        };
        self.notices.end_turn(turn, failing);
        if self.draining {
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
        if self.draining {
            return None;
        }
        let (around, receipts) = (self.around(), self.shared.permits.receipt_room());
        let transfers = self.transfers.values();
        let transfers = transfers.filter_map(|t| t.next_deadline(around, receipts));
        let notices = self.notices.next_deadline();
        transfers.chain(notices).chain(self.next_attention()).min()
    }

    /// Returns when a drop directory, or something in it, is due.
    fn next_attention(&self) -> Option<Monotonic> {
        if let Some(loading) = &self.loading {
            return loading.again.next_deadline();
        }
        let has_run_slot = self.shared.flights.has_run_slot();
        let intakes = self.intakes.values();
        intakes.filter_map(|intake| intake.next_deadline(has_run_slot)).min()
    }

    /// Tells whether a part is on its way.
    pub fn has_parts_on_their_way(&self) -> bool {
        self.shared.permits.part_count() > 0
    }

    /// Returns how each destination is sent to.
    pub fn paces(&self) -> impl Iterator<Item = (&DestinationName, Pace)> {
        let transfers = self.transfers.iter();
        transfers.filter_map(|(name, t)| Some((name, t.pace(&self.settings)?)))
    }

    /// Tells whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.shared.flights.is_empty()
    }

    /// Tells whether nothing is under way but looking and comparing, which a stop need not wait for.
    pub fn is_landed(&self) -> bool {
        let is_aside = |flight: &Flight| {
            matches!(flight, Flight::Intake(_, act, _) if act.only_reads())
                || matches!(flight, Flight::Transfers(_, TransferAct::Probe) | Flight::Survey)
        };
        self.shared.flights.all().all(is_aside)
    }

    /// Tells whether all that is stored is in memory.
    pub fn is_loaded(&self) -> bool {
        self.loading.is_none()
    }

    /// Tells whether anything is done for an upload, a drop or a remote upload; scans, looks, probes
    /// and notices are none of these.
    pub fn is_working(&self) -> bool {
        let is_aside = |flight: &Flight| {
            matches!(
                flight,
                Flight::Intake(_, IntakeAct::Scan | IntakeAct::Look(_), _)
                    | Flight::Transfers(_, TransferAct::Probe)
                    | Flight::Notify(_)
            )
        };
        self.loading.is_some() || self.shared.flights.all().any(|flight| !is_aside(flight))
    }

    /// Tells whether every admitted upload has ended or is parked, and nothing settles.
    pub fn is_quiet(&self) -> bool {
        self.is_loaded()
            && self.shared.flights.is_empty()
            && self.transfers.values().all(Transfers::is_quiet)
            && self.intakes.values().all(|intake| intake.files().settling_count() == 0)
            && self.notices.is_empty()
    }

    /// Tells whether a destination refuses our credential or is closed for maintenance.
    pub fn has_halted(&self) -> bool {
        self.transfers.values().any(Transfers::is_halted)
    }

    /// Counts what is going on, for one line of status.
    pub fn counts(&self) -> Counts {
        let open: usize = self.transfers.values().map(|t| t.uploads().count()).sum();
        let parked = self.transfers.values().map(Transfers::parked_count).sum();
        Counts {
            going: open - parked,
            parked,
            settling: self.intakes.values().map(|intake| intake.files().settling_count()).sum(),
        }
    }

    /// Returns every upload that has not ended as it would be stored, for comparison with rows.
    pub fn stored_uploads(&self) -> Vec<StoredUpload> {
        let stored = self.transfers.values().flat_map(Transfers::stored_uploads);
        let mut stored: Vec<_> = stored.collect();
        stored.sort_by_key(|upload| upload.admission.id);
        stored
    }

    /// Notes that a file version was admitted for a destination.
    fn remember(&mut self, file: &KnownFile, now: Now) {
        let Some(intake) = self.intakes.get_mut(&file.drop) else { return };
        let set = intake.files().set_of(&file.destination);
        intake.load(StoredPart::Known(file.path, file.fingerprint, set), now);
    }

    fn around(&self) -> Around<'_> {
        Around {
            settings: &self.settings,
            intakes: &self.intakes,
            orders: &self.orders,
            loading: self.loading.as_ref(),
        }
    }

    /// Starts everything that may run. The order is fixed, so that the same state always leads to the same
    /// acts: waits that are over, drop directories, each destination in turn, receipts, and then parts over
    /// all destinations until permits or memory are used up.
    fn pump(&mut self, turn: &mut Turn) {
        if self.draining {
            return;
        }
        self.with_all_transfers(turn, Transfers::wake);
        self.start_reading(turn);
        self.with_intakes(turn, Intake::check_stalled);
        // What files mean, only all that is stored tells: one that is not known yet would be sent again.
        if self.is_loaded() {
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
}

//! The engine: decides what to do next, and does nothing.
//!
//! [`Engine::handle`] takes one [`Event`] and appends [`Effect`]s; [`Engine::next_deadline`] says
//! when to call it with [`Event::Timer`]. No clock, no random source, no file system, no log above
//! debug: the same events at the same times give the same effects, byte for byte. The shell
//! (`daemon.rs`) and the simulation drive it in the same way.
//!
//! This file only routes. What is on disk in a drop directory, and what becomes of it, is `intake`;
//! who is notified of what is `notices`; what an upload wants
//! is `upload`, what an answer means to it is `answer`; exports are `export`, ends of drops are
//! `ends`; who may run is
//! `schedule`; what the store could not write is `unstored`; whether a
//! destination takes anything is `gate`; what a failure leads to is `retry`; what the platform's
//! part list means is `recover`.
//!
//! *Decide, commit, act*: everything decided in one call to `handle` is committed in one
//! transaction. Acts that change something at the far side wait for the commit
//! ([`Effect::Commit`]); reads and questions do not ([`Effect::Start`]). Memory moves when the decision is made; it is ahead of
//! the disk by at most the commits under way, and no act that cannot be repeated overtakes one.
//!
//! A crash loses this memory and nothing else: [`Engine::load`] builds it again from rows, and
//! every upload then asks before it acts.

mod acts;
mod answer;
pub mod check;
mod claims;
mod disk;
mod ends;
pub mod event;
mod export;
mod flights;
mod gate;
pub(crate) mod handed;
mod intake;
mod known;
mod load;
mod notices;
pub mod orders;
mod outcomes;
mod place;
mod plan;
mod pump;
mod reconfigure;
mod recover;
mod reread;
mod retry;
mod schedule;
mod sentinel;
pub mod settings;
mod sources;
mod targets;
mod ticket;
mod turn;
mod unstored;
mod upload;
mod width;

use std::collections::{BTreeMap, BTreeSet};

use acts::StepDetail;
use claims::Claims;
use disk::Disk;
use ends::Ends;
pub(crate) use ends::RunEndKey;
use event::{Act, ActId, Effect, Event};
use flights::Flights;
use gate::Gate;
pub(crate) use intake::StoredRun;
use intake::{Closeness, Intake, IntakeAct, StoredPart};
use load::Loading;
pub use load::{Portion, Stored, StoredUpload};
use notices::{FailingUpload, Notices};
use orders::Pauses;
pub(crate) use plan::{Preview, needs_reading};
use schedule::{Load, Schedule};
use settings::Settings;
use turn::Turn;
use upload::Upload;
use width::Flown;

use crate::model::{
    DestinationName, DirectoryName, Hold, KnownFile, Learned, Monotonic, NoticeId, Now,
    OpenCleanup, PartNumber, RemoteUploadId, RootIdentity, SourcePath, TargetAddress, TargetId,
    UploadId, UploadState,
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
    gates: BTreeMap<DestinationName, Gate>,
    /// What the answers of destinations have shown of their targets, for good; also of targets that are
    /// not configured now.
    learned: BTreeSet<(TargetId, Learned)>,
    uploads: BTreeMap<UploadId, Box<Upload>>,
    schedule: Schedule,
    claims: Claims,
    load: Load,
    flights: Flights,
    timers: BTreeSet<(Monotonic, UploadId)>,
    parked: BTreeSet<UploadId>,
    ends: Ends,
    notices: Notices,
    pauses: Pauses,
    /// Every target that was ever known.
    known_targets: BTreeMap<TargetAddress, TargetId>,
    /// Where drop directories were whose names stand for other directories since this life began.
    former_directories: BTreeMap<DirectoryName, String>,
    /// Remote uploads that are to be removed at targets that no destination has.
    cleanups_elsewhere: BTreeSet<OpenCleanup>,
    /// Uploads that end once it is known what was begun for them.
    given_up: BTreeSet<UploadId>,
    /// Parts may be sent.
    may_send: bool,
    next_upload: i64,
    /// What is not durable yet.
    disk: Disk,
    /// Uploads that are verified and want nothing but their receipts.
    finishing: BTreeSet<UploadId>,
    /// When receipts are written although parts are on their way.
    finish_by: Option<Monotonic>,
    /// Receipts that are being written.
    receipts_flying: usize,
    /// Something would be sent, were more of what was sent durable.
    waits_for_disk: bool,
    /// Not all that is stored is in memory.
    loading: Option<Loading>,
    draining: bool,
    /// Which directories drop directories were that are not configured.
    gone_roots: Vec<(DirectoryName, String, RootIdentity)>,
}

/// One run of one drop directory.
type RunKey = (DirectoryName, SourcePath);

/// An act that was handed out and has not come back.
#[derive(Debug, Clone)]
struct Flight {
    kind: FlightKind,
    upload: Option<UploadId>,
    destination: Option<DestinationName>,
}

#[derive(Debug, Clone)]
enum FlightKind {
    /// A step of an upload, by its name.
    Step(&'static str, StepDetail),
    /// A part in flight, to this remote upload, from this drop directory.
    Part(PartNumber, RemoteUploadId, DirectoryName, Flown),
    /// A whole file in flight, from this drop directory.
    Whole(DirectoryName, Flown),
    /// An act of a drop directory.
    Intake(DirectoryName, IntakeAct),
    /// A clean-up.
    Abort(RemoteUploadId),
    Probe,
    /// The end of a run is told to its platform.
    Finish(RunEndKey),
    Notify(NoticeId),
    Survey,
    ReadRows,
    /// A call about the exports of these uploads.
    Export(export::ExportCall, Vec<UploadId>),
}

impl Engine {
    /// Starts from what is stored. This is recovery; there is no other start.
    pub fn load(settings: Settings, stored: Stored, now: Now, out: &mut Vec<Effect>) -> Self {
        let intake = |directory: &settings::DirectorySettings| {
            (directory.name.clone(), Intake::new(directory.clone(), now.monotonic))
        };
        let mut engine = Self {
            intakes: settings.drops.iter().map(intake).collect(),
            learned: BTreeSet::new(),
            gates: settings
                .destinations
                .iter()
                .map(|destination| (destination.name.clone(), Gate::new(destination.clone())))
                .collect(),
            uploads: BTreeMap::new(),
            schedule: Schedule::default(),
            claims: Claims::default(),
            load: Load::default(),
            flights: Flights::new(),
            timers: BTreeSet::new(),
            parked: BTreeSet::new(),
            ends: Ends::default(),
            notices: Notices::load(&settings, stored.notices.clone(), now),
            pauses: Pauses::default(),
            known_targets: BTreeMap::new(),
            former_directories: BTreeMap::new(),
            cleanups_elsewhere: BTreeSet::new(),
            given_up: BTreeSet::new(),
            may_send: true,
            next_upload: stored.next_upload.map_or(1, |id| id.0),
            disk: Disk::new(stored.next_upload.unwrap_or(UploadId(1))),
            finishing: BTreeSet::new(),
            finish_by: None,
            receipts_flying: 0,
            waits_for_disk: false,
            loading: Some(Loading::default()),
            draining: false,
            gone_roots: Vec::new(),
            settings,
        };
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
            moves |= event != Event::Committed || self.waits_for_disk;
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
            Event::Committed => self.disk.committed(),
            Event::Unstored(refused) => self.on_unstored(refused, turn),
            Event::Sent(sent) => self.on_sent(&sent, now.monotonic),
            Event::InFlight(counts) => self.on_in_flight(counts, turn),
            Event::CredentialChanged { destination } => {
                self.on_credential_changed(&destination, turn);
            }
            Event::Stored(portion) => self.on_stored(portion, turn),
            Event::Reconfigured(settings) => self.on_reconfigured(settings, turn),
            Event::Ordered { id, order } => self.on_ordered(id, order, turn),
            Event::RateChanged { bytes_per_second } => self.on_rate_changed(bytes_per_second, now),
            Event::Drain => self.draining = true,
        }
    }

    fn end_turn(&mut self, mut turn: Turn, out: &mut Vec<Effect>) {
        self.waits_for_disk = false;
        self.pump(&mut turn);
        self.notify(&mut turn);
        self.flush(turn, out);
    }

    /// Records the notices of a turn, and hands out what is due of them.
    fn notify(&mut self, turn: &mut Turn) {
        let failing = |id| {
            let upload: &Upload = self.uploads.get(&id)?;
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
            let kind = if let Act::Notify { notice } = &act {
                FlightKind::Notify(notice.id)
            } else {
                FlightKind::Survey
            };
            let flight = Flight { kind, upload: None, destination: None };
            self.flights.start(flight, act, turn);
        }
    }

    /// Hands out what a turn decided, and keeps account of what is to become durable by it.
    fn flush(&mut self, turn: Turn, out: &mut Vec<Effect>) {
        if turn.flush(out) {
            self.disk.handed_over();
        }
    }

    /// Returns when [`Event::Timer`] is due, if ever.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        if self.draining {
            return None;
        }
        let active = self.gates.iter().filter(|(name, _)| !self.pauses.stops(name));
        let gates = active.filter_map(|(_, gate)| gate.next_deadline());
        let timer = self.timers.first().map(|(at, _)| *at);
        let notices = self.notices.next_deadline();
        let sources = self.next_attention();
        let receipts = self.finish_by.filter(|_| self.receipts_flying < pump::RECEIPTS_MAX);
        gates.chain(timer).chain(notices).chain(sources).chain(receipts).min()
    }

    /// Returns when a drop directory, or something in it, is due.
    fn next_attention(&self) -> Option<Monotonic> {
        if let Some(loading) = &self.loading {
            return loading.again.next_deadline();
        }
        let has_run_slot = self.flights.has_run_slot();
        let intakes = self.intakes.values();
        let intakes = intakes.filter_map(|intake| intake.next_deadline(has_run_slot));
        intakes.chain(self.next_end()).min()
    }

    /// Tells whether a part is on its way.
    pub fn has_parts_on_their_way(&self) -> bool {
        self.load.total() > 0
    }

    /// Returns how each destination is sent to.
    pub fn paces(&self) -> impl Iterator<Item = (&DestinationName, Pace)> {
        self.gates.iter().map(|(name, gate)| {
            let bytes_per_second = gate.width.bytes_per_second();
            let pace =
                Pace { width: self.width(name), flying: gate.width.flying(), bytes_per_second };
            (name, pace)
        })
    }

    /// Tells whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// Tells whether nothing is under way but looking and comparing, which a stop need not wait for.
    pub fn is_landed(&self) -> bool {
        let is_aside = |kind: &FlightKind| {
            matches!(kind, FlightKind::Intake(_, act) if act.only_reads())
                || matches!(kind, FlightKind::Probe | FlightKind::Survey)
        };
        self.flights.kinds().all(is_aside)
    }

    /// Tells whether all that is stored is in memory.
    pub fn is_loaded(&self) -> bool {
        self.loading.is_none()
    }

    /// Tells whether anything is done for an upload, a drop or a remote upload; scans, looks, probes
    /// and notices are none of these.
    pub fn is_working(&self) -> bool {
        let is_aside = |kind: &FlightKind| {
            matches!(
                kind,
                FlightKind::Intake(_, IntakeAct::Scan | IntakeAct::Look(_))
                    | FlightKind::Probe
                    | FlightKind::Notify(_)
            )
        };
        self.loading.is_some() || self.flights.kinds().any(|kind| !is_aside(kind))
    }

    /// Tells whether every admitted upload has ended or is parked, and nothing settles.
    pub fn is_quiet(&self) -> bool {
        // One that waits for a place goes on when the one that has it moves.
        let is_still = |upload: &Upload| {
            matches!(upload.state.hold, Hold::Parked { .. }) || upload.life.waits_for.is_some()
        };
        self.is_loaded()
            && self.flights.is_empty()
            && self.uploads.values().all(|upload| is_still(upload))
            && self.intakes.values().all(|intake| intake.files().settling_count() == 0)
            && self.gates.values().all(|gate| gate.cleanups.is_empty())
            && self.notices.is_empty()
    }

    /// Tells whether a destination refuses our credential or is closed for maintenance.
    pub fn has_halted(&self) -> bool {
        self.gates.values().any(Gate::is_halted)
    }

    /// Counts what is going on, for one line of status.
    pub fn counts(&self) -> Counts {
        Counts {
            going: self.uploads.len() - self.parked.len(),
            parked: self.parked.len(),
            settling: self.intakes.values().map(|intake| intake.files().settling_count()).sum(),
        }
    }

    /// Returns every upload that has not ended as it would be stored, for comparison with rows.
    pub fn stored_uploads(&self) -> Vec<StoredUpload> {
        let stored = |upload: &Upload| StoredUpload {
            admission: upload.admission.admission(),
            state: UploadState::clone(&upload.state),
            parts: upload.parts.clone(),
            waits_for: upload.life.waits_for,
        };
        self.uploads.values().map(|upload| stored(upload)).collect()
    }

    /// Notes that a file version was admitted for a destination.
    fn remember(&mut self, file: &KnownFile, now: Now) {
        let Some(intake) = self.intakes.get_mut(&file.drop) else { return };
        let set = intake.files().set_of(&file.destination);
        intake.load(StoredPart::Known(file.path, file.fingerprint, set), now);
    }

    fn start(&mut self, flight: Flight, act: Act, turn: &mut Turn) -> ActId {
        self.flights.start(flight, act, turn)
    }
}

//! One destination and all its uploads.
//!
//! Owns the open uploads and their scheduling: ready or open ([`queue`]), waiting on a timer,
//! parked, exported ([`export`]), finishing. Owns the circuit of its destination, its width, its
//! clean-ups ([`circuit`]) and the ends of its runs ([`run_end`]). An upload changes by facts alone
//! ([`place`]); its next action is a step ([`steps`]) or a part ([`send`]), and outcomes are
//! handled in [`reply`]. No other machine holds an upload: ends and freed places are sent as
//! messages ([`Dispatch`]).
//!
//! A destination that is not configured keeps its uploads, parked.
//!
//! A crash loses nothing: uploads, clean-ups and open runs are rows, and every loaded upload asks
//! before it acts.

mod admit;
mod circuit;
mod cleanup;
mod ease;
mod export;
mod place;
mod places;
mod queue;
mod recover;
mod reply;
mod run_end;
mod send;
mod steps;
mod target;
mod upload;
mod width;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use admit::{Sentinel, Settled};
use circuit::{Gate, Purpose};
use export::{ExportFlight, ExportQueue};
use queue::Queue;
use run_end::RunEnds;
pub(super) use upload::Upload;
use upload::UploadStep;
use width::Flown;

use super::dispatch::{Dispatch, ToTransfers, ToUpload};
use super::event::{Act, ActId};
use super::failure::WAITING_MAX;
use super::flights::Flight;
use super::intake::{Askable, Intake};
use super::orders::Orders;
use super::plan;
use super::settings::{DestinationSettings, PartsInFlight, RetrySettings, Settings};
use super::shared::Shared;
use super::turn::Turn;
use crate::model::{
    Admission, DestinationName, DirectoryName, Fact, Hold, Monotonic, Now, PartNumber, Record,
    RemoteUploadId, RunEndKey, StoredUpload, UploadId, WholeDigest,
};

#[derive(Debug)]
pub(super) struct Transfers {
    name: DestinationName,
    /// `None` while no destination of this name is configured.
    gate: Option<Gate>,
    uploads: BTreeMap<UploadId, Box<Upload>>,
    queue: Queue,
    timers: BTreeSet<(Monotonic, UploadId)>,
    parked: BTreeSet<UploadId>,
    /// Begun uploads that wait for a retry.
    backing_off: BTreeSet<UploadId>,
    /// Verified uploads that lack only their receipts.
    finishing: BTreeSet<UploadId>,
    /// When receipts are written although parts are in flight.
    finish_by: Option<Monotonic>,
    exports: ExportQueue,
    ends: RunEnds,
}

/// An act of a destination, as the engine keeps it until its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TransferAct {
    Step(UploadStep),
    Part(PartFlight),
    Whole {
        upload: UploadId,
        drop: DirectoryName,
        flown: Flown,
    },
    Export(ExportFlight),
    Abort(RemoteUploadId),
    Probe,
    /// The end of a run is reported to the platform.
    FinishRun(RunEndKey),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartFlight {
    upload: UploadId,
    part: PartNumber,
    remote: RemoteUploadId,
    drop: DirectoryName,
    flown: Flown,
}

impl TransferAct {
    fn is_call(&self) -> bool {
        match self {
            Self::Step(step) => step.detail.is_call(),
            Self::Part(_)
            | Self::Whole { .. }
            | Self::Export(_)
            | Self::Abort(_)
            | Self::Probe
            | Self::FinishRun(_) => true,
        }
    }

    /// Returns the purpose of the call, which decides what its refusal means.
    fn purpose(&self) -> Purpose {
        match self {
            Self::Part(_) | Self::Whole { .. } => Purpose::Upload,
            Self::Step(step) if step.goes_on() => Purpose::Upload,
            Self::Step(_) | Self::Export(_) | Self::FinishRun(_) => Purpose::Beside,
            Self::Abort(_) => Purpose::Cleanup,
            Self::Probe => Purpose::Probe,
        }
    }

    /// Returns the upload that the act belongs to, if any.
    pub(super) fn upload(&self) -> Option<UploadId> {
        match self {
            Self::Step(step) => Some(step.upload),
            Self::Part(PartFlight { upload, .. }) | Self::Whole { upload, .. } => Some(*upload),
            Self::Export(_) | Self::Abort(_) | Self::Probe | Self::FinishRun(_) => None,
        }
    }
}

/// The state of the other machines that a destination needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) settings: &'a Settings,
    pub(super) intakes: &'a BTreeMap<DirectoryName, Intake>,
    pub(super) orders: &'a Orders,
}

#[derive(Debug)]
pub(super) struct TransferTurn<'a> {
    turn: &'a mut Turn,
    shared: &'a mut Shared,
    around: Around<'a>,
    said: Vec<Dispatch>,
}

impl<'a> TransferTurn<'a> {
    pub(super) fn new(turn: &'a mut Turn, shared: &'a mut Shared, around: Around<'a>) -> Self {
        Self { turn, shared, around, said: Vec::new() }
    }

    pub(super) fn into_said(self) -> Vec<Dispatch> {
        self.said
    }

    fn now(&self) -> Now {
        self.turn.now()
    }

    fn retry(&self) -> RetrySettings {
        self.around.settings.retry
    }

    fn record(&mut self, record: Record) {
        self.turn.record(record);
    }

    fn say(&mut self, what: Dispatch) {
        self.said.push(what);
    }

    fn start(&mut self, to: &DestinationName, what: TransferAct, act: Act) -> ActId {
        self.shared.flights.start(Flight::Transfers(to.clone(), what), act, self.turn)
    }

    fn intake(&self, drop: &DirectoryName) -> Option<&'a Intake> {
        self.around.intakes.get(drop)
    }

    fn words<'u>(&self, admission: &'u Admission) -> Option<plan::Words<'u>>
    where
        'a: 'u,
    {
        let intake = self.intake(&admission.file.drop)?;
        Some(plan::Words {
            drop: intake.settings(),
            path: &admission.file.path,
            run: &admission.file.run,
            reading: intake.runs().reading(&admission.file.run),
            at: admission.at,
        })
    }

    /// Returns the whole-file digest that the receipt of an upload must contain.
    fn wanted_digest(&self, admission: &Admission) -> Option<WholeDigest> {
        let intake = self.intake(&admission.file.drop).filter(|_| !admission.file.is_sentinel);
        intake.and_then(|intake| intake.settings().whole_digest)
    }

    fn waits_for_directory(&self, upload: &Upload) -> bool {
        let intake = self.intake(&upload.admission().file.drop);
        intake.is_some_and(|intake| intake.health().is_away()) && upload.needs_source()
    }
}

impl Transfers {
    pub(super) fn new(name: DestinationName) -> Self {
        Self {
            name,
            gate: None,
            uploads: BTreeMap::new(),
            queue: Queue::default(),
            timers: BTreeSet::new(),
            parked: BTreeSet::new(),
            backing_off: BTreeSet::new(),
            finishing: BTreeSet::new(),
            finish_by: None,
            exports: ExportQueue::default(),
            ends: RunEnds::default(),
        }
    }

    pub(super) fn is_configured(&self) -> bool {
        self.gate.is_some()
    }

    pub(super) fn upload(&self, id: UploadId) -> Option<&Upload> {
        self.uploads.get(&id).map(|upload| &**upload)
    }

    pub(super) fn uploads(&self) -> impl Iterator<Item = &Upload> {
        self.uploads.values().map(|upload| &**upload)
    }

    pub(super) fn parked_count(&self) -> usize {
        self.parked.len()
    }

    pub(super) fn stored_uploads(&self) -> impl Iterator<Item = StoredUpload> {
        self.uploads().map(Upload::stored)
    }

    /// Returns whether every upload is parked or waits for another one, and no clean-up is queued.
    pub(super) fn is_quiet(&self) -> bool {
        let is_still = |upload: &Upload| {
            matches!(upload.state().hold, Hold::Parked { .. }) || upload.awaited().is_some()
        };
        self.uploads().all(is_still)
            && self.gate.as_ref().is_none_or(|gate| gate.cleanups().is_empty())
    }

    pub(super) fn is_halted(&self) -> bool {
        self.gate.as_ref().is_some_and(Gate::is_halted)
    }

    /// Returns how many parts may be in flight, where it is configured.
    pub(super) fn parts_max(&self, settings: &Settings) -> Option<u32> {
        self.gate.as_ref().map(|_| self.width(settings))
    }

    fn width(&self, settings: &Settings) -> u32 {
        match (settings.parts_in_flight, &self.gate) {
            (PartsInFlight::Auto, Some(gate)) => gate.width().get(),
            (PartsInFlight::Fixed(count), Some(gate)) => count.min(gate.width().most()),
            (auto_or_fixed, None) => auto_or_fixed.most(),
        }
    }

    /// Returns whether a drop directory may ask the destination about its files.
    pub(super) fn askable(&self, is_paused: bool) -> Askable {
        match &self.gate {
            None => Askable::Unknown,
            Some(gate) if !gate.settings().traits.can_inspect => Askable::Never,
            Some(gate) if !gate.is_open() => Askable::Closed,
            Some(_) if is_paused => Askable::Paused,
            Some(_) => Askable::Now,
        }
    }

    pub(super) fn next_deadline(&self, around: Around<'_>, shared: &Shared) -> Option<Monotonic> {
        let (is_loading, receipt_room) = (shared.loading.is_some(), shared.permits.receipt_room());
        let is_stopped = around.orders.stops(&self.name);
        let gate = self.gate.as_ref().filter(|_| !is_stopped);
        let is_open = gate.is_some_and(Gate::is_open);
        let exports = self.exports.due().filter(|_| is_open);
        let end = self.ends.next_deadline().filter(|_| is_open && !is_loading);
        let timer = self.timers.first().map(|(at, _)| *at);
        let receipts = self.finish_by.filter(|_| receipt_room > 0);
        let gate = gate.and_then(Gate::next_deadline);
        [gate, exports, end, timer, receipts].into_iter().flatten().min()
    }

    pub(super) fn wake(&mut self, turn: &mut TransferTurn<'_>) {
        let now = turn.now().monotonic;
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, id)) = self.timers.pop_first() else { break };
            match self.upload(id).is_some_and(|upload| upload.is_hold_over(now)) {
                true => self.record(id, Fact::Released, turn),
                false => self.place(id, turn),
            }
        }
    }

    /// Performs what is due at an open destination: clean-ups, one step of every open upload,
    /// exports, ends of runs. Makes one request at a closed destination whose wait has ended.
    pub(super) fn advance(&mut self, turn: &mut TransferTurn<'_>) {
        let Some(gate) = self.gate.as_mut().filter(|_| !turn.around.orders.stops(&self.name))
        else {
            return;
        };
        gate.advance(turn);
        if !gate.is_open() {
            if gate.admits() {
                self.let_one_through(turn);
            }
            return;
        }
        gate.ask_again(turn);
        gate.clean(turn);
        self.open_more(turn);
        for id in self.queue.open() {
            self.step_upload(id, turn);
        }
        self.export(turn);
        if turn.shared.loading.is_none() {
            self.ends.advance(&self.name, turn);
        }
    }

    fn open_more(&mut self, turn: &TransferTurn<'_>) {
        let may_begin = self.backing_off.len() < WAITING_MAX;
        let (width, now) = (self.width(turn.around.settings), turn.now().monotonic);
        let uploads = &mut self.uploads;
        let parts_of = |id| uploads.get_mut(&id).map_or(0, |upload| upload.sendable_count(now));
        self.queue.open_more(width, may_begin, parts_of);
    }

    /// Makes one request at a half-open destination: that of an upload, where one has a question; a
    /// part follows when parts are sent; else a probe.
    fn let_one_through(&mut self, turn: &mut TransferTurn<'_>) {
        if let Some(gate) = self.gate.as_mut().filter(|gate| gate.is_unknown()) {
            return gate.probe(turn);
        }
        self.open_more(turn);
        let mut sends = false;
        for id in self.queue.open() {
            self.step_upload(id, turn);
            if !self.gate.as_ref().is_some_and(Gate::admits) {
                return;
            }
            sends |= self.may_send_more(id, turn);
        }
        let is_free = turn.shared.permits.has_part(turn.around.settings);
        if let Some(gate) = self.gate.as_mut().filter(|_| !(sends && is_free)) {
            gate.probe(turn);
        }
    }

    /// Applies the destination's settings. They may remove the reason why it waited.
    pub(super) fn configure(&mut self, settings: DestinationSettings, now: Monotonic) {
        self.queue = Queue::default();
        match &mut self.gate {
            Some(gate) => gate.configure(settings, now),
            None => self.gate = Some(Gate::new(settings)),
        }
    }

    /// Searches the width again, because the bandwidth limit has changed.
    pub(super) fn rate_changed(&mut self, now: Monotonic) {
        if let Some(gate) = &mut self.gate {
            gate.width_mut().restart(now);
        }
    }

    pub(super) fn bytes_sent(&mut self, bytes: u64, now: Monotonic) {
        if let Some(gate) = &mut self.gate {
            gate.width_mut().tick(bytes, now);
        }
    }

    /// Tries a halted destination at once: its credential was replaced.
    pub(super) fn credential_changed(&mut self, now: Monotonic) {
        if let Some(gate) = self.gate.as_mut().filter(|gate| gate.is_halted()) {
            gate.lift(now);
        }
    }

    /// Returns whether the destination is closed, and waits.
    pub(super) fn waits(&self) -> bool {
        self.gate.as_ref().is_some_and(Gate::waits)
    }

    /// Receives a message of another machine.
    pub(super) fn receive(&mut self, what: ToTransfers, turn: &mut TransferTurn<'_>) {
        match what {
            ToTransfers::Admit(settled) => self.admit(&settled, turn),
            ToTransfers::AdmitSentinel(sentinel) => self.admit_sentinel(&sentinel, turn),
            ToTransfers::Load(upload) => self.load(upload, turn),
            ToTransfers::LoadRun(key) => self.ends.load(key, turn),
            ToTransfers::QueueCleanup(what) => self.queue_cleanup(what, turn),
            ToTransfers::Lift => {
                if let Some(gate) = &mut self.gate {
                    gate.lift(turn.now().monotonic);
                }
            }
        }
    }

    /// Receives a message of another machine to an upload.
    pub(super) fn receive_for(
        &mut self,
        id: UploadId,
        what: ToUpload,
        turn: &mut TransferTurn<'_>,
    ) {
        match what {
            ToUpload::Changed => self.end_changed(id, turn),
            ToUpload::Seen(path) => self.seen(id, path, turn),
            ToUpload::Readable => self.release(id, turn),
            ToUpload::SourceGone => self.source_gone(id, turn),
            ToUpload::EndIfMoved => self.end_if_moved(id, turn),
            ToUpload::Place => self.place(id, turn),
            ToUpload::Claim => self.claim(id, turn),
            ToUpload::AwaitPlace(holder) => self.await_place(id, Some(holder), turn),
            ToUpload::ParkOrRelease => self.park_or_release(id, turn),
            ToUpload::Retarget => self.retarget(id, turn),
            ToUpload::RestartWaiting => self.restart_waiting(id, turn),
            ToUpload::JoinRun => self.join_run(id, turn),
            ToUpload::Rejoin => {
                self.join_run(id, turn);
                self.join_intake(id, turn);
            }
            ToUpload::Retry => self.retry(id, turn),
            ToUpload::Decide(decision) => {
                self.record(id, Fact::NameDecided { decision }, turn);
                self.retry(id, turn);
            }
            ToUpload::GiveUp => self.give_up(id, turn),
            ToUpload::InFlight(bytes) => self.bytes_in_flight(id, bytes, turn),
            ToUpload::Record(fact) => self.record(id, fact, turn),
        }
    }

    pub(super) fn write_health(&mut self, turn: &mut TransferTurn<'_>) {
        if let Some(gate) = &mut self.gate {
            gate.write_health(turn);
        }
    }
}

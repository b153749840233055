//! The engine decides what to do next, and performs nothing itself.
//!
//! [`Engine::handle`] takes one [`Event`] and appends [`Effect`]s; [`Engine::next_deadline`] says
//! when to call it with [`Event::Timer`]. No clock, no random source, no file system, no log above
//! debug: the same events at the same times give the same effects, byte for byte. The shell
//! (`daemon.rs`) and the simulation drive it in the same way.
//!
//! This file has the only entry point: one turn, and the order of the machines in it. `machines` owns the
//! machines and delivers the messages between them (`dispatch`): `intake` is a drop directory, with the files
//! in it and their disposal; `transfers` is a destination with all its uploads; `notices` decides who is
//! notified of what; `orders` holds pauses and other orders; `shared` holds what destinations share:
//! `permits`, `claims`, `targets`, and `loading`, the rows that are still being read.
//!
//! *Decide, commit, act*: everything that one call to `handle` decides is committed in one transaction.
//! Acts that change something at a destination wait for the commit ([`Effect::Commit`]); reads and
//! questions do not ([`Effect::Start`]). Memory changes with the decision, so it is ahead of the disk by
//! the commits in progress, and no act that cannot be repeated overtakes one.
//!
//! A crash loses only this memory: [`Engine::load`] builds it again from rows, and every upload
//! then asks before it acts.

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
mod machines;
mod notices;
pub mod orders;
mod permits;
mod plan;
mod reconfigure;
mod roots;
mod scene;
pub mod settings;
mod shared;
mod sparse;
mod targets;
mod transfers;
mod turn;
mod view;

use dispatch::{Dispatch, ToIntake, ToUpload};
use event::{Act, Effect, Event};
use flights::Flight;
use intake::{Closeness, Intake};
use machines::Machines;
use notices::FailingUpload;
pub(crate) use plan::{Preview, Words, needs_reading};
use scene::Scene;
use settings::Settings;
use transfers::{Around, Transfers};
use turn::Turn;
pub(crate) use view::Counts;
use view::View;

use crate::model::{Monotonic, Now, Record, StoredState};

/// The engine. See the module documentation.
#[derive(Debug)]
pub struct Engine {
    machines: Machines,
}

impl Engine {
    /// Builds the engine from stored state. This is recovery; there is no other start.
    pub fn load(
        settings: Settings,
        mut stored: StoredState,
        now: Now,
        out: &mut Vec<Effect>,
    ) -> Self {
        let machines = Machines::new(settings, &mut stored, now);
        let mut engine = Self { machines };
        let mut turn = Turn::new(now);
        engine.machines.take_stored(stored, &mut turn);
        engine.notify(&mut turn);
        engine.flush(turn, out);
        engine
    }

    /// Handles one event and appends the effects.
    pub fn handle(&mut self, now: Now, event: Event, out: &mut Vec<Effect>) {
        self.handle_all(now, [event], out);
    }

    /// Handles events in order and appends the effects of all of them: decided together, and
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
            moves |= event != Event::Committed || self.machines.shared.permits.waits_for_disk();
            self.take(event, &mut turn);
        }
        if moves {
            self.machines.shared.permits.begin_turn();
            self.pump(&mut turn);
            self.notify(&mut turn);
            self.flush(turn, out);
        }
    }

    fn take(&mut self, event: Event, turn: &mut Turn) {
        let now = turn.now();
        match event {
            Event::Timer => {}
            Event::Hint { drop, paths } => {
                self.machines.deliver([Dispatch::Intake(drop, ToIntake::Hint(paths))], turn);
            }
            Event::ScanNow { drop } => {
                self.machines.deliver([Dispatch::Intake(drop, ToIntake::ScanNow)], turn);
            }
            Event::Observed { drop, observations, known } => {
                self.machines.with_intake(&drop, turn, |intake, _| intake.borrow_known(&known));
                self.machines.on_observed(&drop, &observations, Closeness::Scan, turn);
                let is_loaded = self.machines.shared.loading.is_none();
                let unchanged = if is_loaded { &known.unchanged[..] } else { &[] };
                self.machines.with_intake(&drop, turn, |intake, turn| {
                    intake.observe_unchanged(unchanged, now);
                    intake.scan_active(turn);
                });
            }
            Event::WatchChanged { drop, watch, reason } => {
                self.machines.with_intake(&drop, turn, |intake, turn| {
                    intake.watch_changed(watch, reason, turn);
                });
            }
            Event::Outcome { act, outcome } => self.machines.on_outcome(act, outcome, turn),
            Event::Committed => self.machines.shared.permits.disk().committed(),
            Event::Unstored(refused) => {
                refused.into_iter().for_each(|refused| self.machines.on_unstored(refused, turn));
            }
            Event::Sent(sent) => {
                for (name, bytes) in sent {
                    if let Some(transfers) = self.machines.transfers.get_mut(&name) {
                        transfers.bytes_sent(bytes.0, now.monotonic);
                    }
                }
            }
            Event::InFlight(counts) => {
                let counts = counts.into_iter();
                let counts =
                    counts.map(|(id, bytes)| Dispatch::Upload(id, ToUpload::InFlight(bytes)));
                self.machines.deliver(counts, turn);
            }
            Event::CredentialChanged { destination } => {
                if let Some(transfers) = self.machines.transfers.get_mut(&destination) {
                    transfers.credential_changed(now.monotonic);
                }
            }
            Event::Learned { destination, what, detail } => {
                self.machines.on_learned(destination, what, detail, turn);
            }
            Event::Stored(portion) => self.machines.on_stored(portion, turn),
            Event::Reconfigured(settings) => self.machines.on_reconfigured(settings, turn),
            Event::Ordered { id, order } => self.machines.on_ordered(id, order, turn),
            Event::RateChanged { bytes_per_second } => {
                self.machines.shared.permits.set_may_send(bytes_per_second != Some(0));
                self.machines.transfers.values_mut().for_each(|t| t.rate_changed(now.monotonic));
            }
            Event::LedgersChecked(found) => {
                found.into_iter().for_each(|found| turn.record(Record::LedgerChecked(found)));
            }
            Event::Drain => self.machines.orders.drain(),
        }
    }

    /// Starts everything that may run. The order is fixed, so that the same state always leads to
    /// the same acts: expired waits, drop directories, each destination, receipts, and then parts
    /// over all destinations until permits or memory are used up.
    fn pump(&mut self, turn: &mut Turn) {
        if self.machines.orders.is_draining() {
            return;
        }
        self.machines.with_all_transfers(turn, Transfers::wake);
        self.machines.start_reading(turn);
        self.machines.with_intakes(turn, Intake::check_stalled);
        // A file can be judged only when all rows are loaded: one whose row is missing would be sent again.
        if self.machines.shared.loading.is_none() {
            self.machines.with_intakes(turn, Intake::advance);
        }
        self.machines.with_all_transfers(turn, Transfers::advance);
        self.machines.with_all_transfers(turn, Transfers::write_receipts);
        self.send_parts(turn);
    }

    fn send_parts(&mut self, turn: &mut Turn) {
        let mut contenders = Vec::new();
        let names: Vec<_> = self.machines.transfers.keys().cloned().collect();
        for name in names {
            contenders.extend(self.machines.with_transfers(&name, turn, Transfers::contenders));
        }
        let mut contenders = contenders.concat();
        while self.machines.shared.permits.has_part(&self.machines.settings)
            && let Some(index) = self.machines.shared.permits.choose(&contenders)
        {
            let (id, name) = (contenders[index].upload, contenders[index].destination.clone());
            match self.machines.with_transfers(&name, turn, |t, turn| t.send(id, turn)) {
                Some(true) => contenders[index].flying_count += 1,
                Some(false) | None => drop(contenders.swap_remove(index)),
            }
        }
    }

    /// Records the notices of a turn, and emits those that are due.
    fn notify(&mut self, turn: &mut Turn) {
        let Machines { intakes, transfers, notices, .. } = &mut self.machines;
        let scene = Scene { intakes, transfers };
        notices.end_turn(turn, |id| scene.upload(id).map(FailingUpload::of));
        if self.machines.orders.is_draining() {
            return;
        }
        for act in self.machines.notices.acts(turn.now().monotonic) {
            let flight = if let Act::Notify { notice } = &act {
                Flight::Notify(notice.id)
            } else {
                Flight::Survey
            };
            self.machines.shared.flights.start(flight, act, turn);
        }
    }

    /// Emits what a turn decided, and tracks what will be durable by it.
    fn flush(&mut self, turn: Turn, out: &mut Vec<Effect>) {
        if turn.flush(out) {
            self.machines.shared.permits.disk().handed_over();
        }
    }

    /// Returns a read-only view for use between turns.
    pub fn view(&self) -> View<'_> {
        View::of(&self.machines)
    }

    /// Returns when [`Event::Timer`] is due, if ever.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        if self.machines.orders.is_draining() {
            return None;
        }
        let around = Around {
            settings: &self.machines.settings,
            intakes: &self.machines.intakes,
            orders: &self.machines.orders,
        };
        let transfers = self.machines.transfers.values();
        let transfers = transfers.filter_map(|t| t.next_deadline(around, &self.machines.shared));
        let flights = &self.machines.shared.flights;
        let intakes = match &self.machines.shared.loading {
            Some(loading) => loading.next_deadline(),
            None => {
                let intakes = self.machines.intakes.iter();
                intakes.filter_map(|(of, i)| i.next_deadline(flights.has_run_slot(of))).min()
            }
        };
        transfers.chain(self.machines.notices.next_deadline()).chain(intakes).min()
    }
}

//! The shell: one loop that turns inputs into events, and effects into work.
//!
//! *Owns* the engine, the store's handle, the pool and the watches. *Promises*: an act that must
//! wait for a commit starts after it; each act's outcome reaches the engine once; only this loop
//! feeds the watchdog, so the watchdog shows that the loop runs. *Never* decides what to upload,
//! retry or give up: `engine` does.
//!
//! *Start is recovery*: the work in progress is loaded, the engine is built from it, READY is sent,
//! and the queued uploads and known files are loaded while work goes on ([`loader`]); a start does
//! not need the network. *After a crash* nothing special has to be done.

pub(crate) mod adoption;
mod bandwidth;
mod build;
mod care;
mod clients;
mod context;
mod control;
pub mod desk;
mod digests;
mod files;
mod flows;
mod handed;
mod headline;
mod history;
mod hung;
mod inputs;
mod journal;
mod line;
mod live;
mod loader;
mod meters;
mod metrics;
mod notices;
mod parts;
mod perform;
mod persistence;
mod proofs;
mod pulse;
mod rates;
mod readers;
mod receipts;
pub mod recording;
mod reload;
mod renamed;
mod rows;
mod runs;
mod shutdown;
mod supervisor;
mod walker;
mod watches;
mod web;
mod workers;

pub(crate) use build::{Access, Daemon, Error, Setup, check_destinations, destination_settings};
pub use clients::clients;
pub(crate) use notices::{probe_channel, send_test};
pub use receipts::{LineSubject, append, receipt_of};
pub(crate) use renamed::read_by_first_names;
pub(crate) use web::Render;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::control::Reply;
use crate::engine::Counts;
use crate::engine::event::{Act, ActId, Effect, Event, Outcome};
use crate::model::{Monotonic, Now, Record};
use crate::platform::Destination;
use crate::sdnotify;
use crate::signals::Signal;
use context::World;
use desk::Task;
use inputs::Input;
use perform::perform;
use persistence::{Commit, StoreEvent, refused};
use shutdown::Phase;
use supervisor::warn_if_refused;

/// Interval of checking for replaced credentials while a destination is halted.
const CREDENTIAL_INTERVAL: Duration = Duration::from_secs(2);
/// Limit of events in one turn before the loop checks its other inputs.
const EVENTS_MAX: usize = 256;

/// What ended a wait of the loop.
enum Wake {
    Input(Input),
    Store(StoreEvent),
    Reply(ActId, workers::ActReply),
    Deadline,
}

impl Daemon {
    /// Runs until it is asked to stop.
    ///
    /// # Errors
    /// When a commit failed, or the database was removed: memory may be ahead of the disk, so the
    /// process must end and start again from the rows.
    pub(crate) async fn run(mut self) -> Result<(), Error> {
        self.note_configured();
        self.inputs.watch(&self.world);
        self.follow_rates();
        self.inputs.web.serve(self.setup.config.web.clone(), &self.world);
        warn_if_refused(sdnotify::ready("what is under way is loaded"));
        tracing::info!("started");
        loop {
            let wake = self.wait().await;
            let mut heard = Vec::new();
            self.take_wake(wake, &mut heard)?;
            self.take_waiting(&mut heard)?;
            self.tell_all(heard);
            self.reload_if_waiting();
            self.look_after(self.clock.now())?;
            let now = self.clock.now().monotonic;
            self.read_meters(now);
            self.phase = self.phase.at(now);
            match self.phase {
                Phase::Running => {}
                Phase::Draining { .. } if !self.is_idle() => {}
                Phase::Draining { .. } | Phase::Aborting => break,
            }
        }
        self.stop().await
    }

    fn is_idle(&self) -> bool {
        self.engine.view().is_landed() && self.persistence.is_clear()
    }

    async fn wait(&mut self) -> Wake {
        let deadline = self.deadline();
        let now = self.clock.now().monotonic;
        let sleep = async move {
            match deadline {
                Some(at) => tokio::time::sleep(at.since(now)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            input = self.inputs.next(self.engine.view().is_loaded()) => Wake::Input(input),
            stored = self.persistence.next() => Wake::Store(stored),
            (act, reply) = self.workers.next() => Wake::Reply(act, reply),
            () = sleep => Wake::Deadline,
        }
    }

    /// Returns the earliest deadline of the loop.
    fn deadline(&self) -> Option<Monotonic> {
        let engine = self.engine.next_deadline();
        let credential = self.watches_credentials().then_some(self.due.credentials);
        let meters = self.engine.view().has_parts_in_flight().then_some(self.due.meters);
        let (rates, signs) = (self.rates.deadline(), self.supervisor.deadline());
        let rows = Some(self.persistence.deadline());
        let all = [engine, credential, meters, rates, signs, rows, self.phase.deadline()];
        all.into_iter().flatten().min()
    }

    fn take_wake(&mut self, wake: Wake, heard: &mut Vec<Event>) -> Result<(), Error> {
        match wake {
            Wake::Input(Input::Signal(signal)) => self.on_signal(signal),
            Wake::Input(Input::Event(event)) => heard.push(event),
            Wake::Input(Input::Asked(asked)) => self.on_asked(asked),
            // The requesting page may be closed.
            Wake::Input(Input::Pulse(answer)) => answer.send(()).unwrap_or(()),
            Wake::Reply(act, reply) => self.on_reply(act, reply, heard),
            Wake::Store(StoreEvent::Landed(commit)) => self.on_landed(commit, heard)?,
            Wake::Store(StoreEvent::Read(portion)) => {
                self.on_stored(portion.map_err(Error::Store)?);
            }
            Wake::Store(StoreEvent::Cared(ended)) => self.on_cared(ended),
            Wake::Deadline => {
                self.look_for_credentials();
                self.look_at_timetable();
                self.tell(Event::Timer);
            }
        }
        Ok(())
    }

    fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Drain | Signal::Abort => self.on_stop(),
            Signal::Reload => self.on_reload(),
            Signal::Dump => {
                let Counts { going, parked, settling } = self.engine.view().counts();
                tracing::info!("{going} going, {parked} parked, {settling} not settled");
            }
        }
    }

    fn on_cared(&mut self, ended: care::Ended) {
        let found = self.persistence.care.on_ended(ended, self.clock.now());
        if found.iter().any(|finding| finding.damage.is_some()) {
            self.world.receipts.reread();
        }
        if !found.is_empty() {
            self.tell(Event::LedgersChecked(found));
        }
    }

    fn on_landed(&mut self, commit: Commit, heard: &mut Vec<Event>) -> Result<(), Error> {
        let tasks = self.desk.landed(&refused(commit).map_err(Error::Store)?);
        tasks.into_iter().for_each(|task| heard.extend(self.carry_out(task)));
        Ok(())
    }

    /// Collects waiting events, so that they are decided and committed together.
    fn take_waiting(&mut self, heard: &mut Vec<Event>) -> Result<(), Error> {
        while heard.len() < EVENTS_MAX {
            if let Some(commit) = self.persistence.try_landed() {
                self.on_landed(commit, heard)?;
            } else if let Some((act, reply)) = self.workers.try_next() {
                self.on_reply(act, reply, heard);
            } else if let Ok(event) = self.inputs.events.try_recv() {
                heard.push(event);
            } else {
                break;
            }
        }
        Ok(())
    }

    fn on_reply(&mut self, act: ActId, reply: workers::ActReply, heard: &mut Vec<Event>) {
        if let Ok(Outcome::Scanned { seen_count, elapsed, .. }) = &reply {
            let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            tracing::debug!(elapsed_ms, "a scan saw {seen_count} paths");
        }
        if let Ok(Outcome::Scanned { .. } | Outcome::RowsRead) = &reply {
            // Its observations are in the other channel, and come first.
            while let Ok(event) = self.inputs.events.try_recv() {
                heard.push(event);
            }
        }
        if let Ok(Outcome::OtherRoot { reason, .. }) = &reply {
            tracing::debug!("a scan ended at another directory: {reason}");
        }
        heard.push(Event::Outcome { act, outcome: reply });
        for destination in self.world.destinations.values() {
            let name = || destination.name().clone();
            let learned = |(what, detail)| Event::Learned { destination: name(), what, detail };
            heard.extend(destination.news().into_iter().map(learned));
        }
        self.note_clocks();
    }

    /// Records the clock differences of destinations that have changed.
    fn note_clocks(&mut self) {
        let clock = |destination: &Destination| {
            let (behind_ns, name) = (destination.clock_news()?, destination.name().clone());
            Some(Record::DestinationClock { destination: name, behind_ns })
        };
        let clocks: Vec<_> = self.world.destinations.values().filter_map(clock).collect();
        if !clocks.is_empty() {
            self.submit(clocks);
        }
    }

    fn tell(&mut self, event: Event) {
        self.tell_all(vec![event]);
    }

    fn tell_all(&mut self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let effects = self.engine.handle_all(self.clock.now(), events);
        self.take_effects(effects);
    }

    fn take_effects(&mut self, effects: Vec<Effect>) {
        let control = &mut self.inputs.control;
        let answer = |id, answered| control.answered(id, answered);
        for task in self.desk.receive(effects, &self.world, answer) {
            let told = self.carry_out(task);
            debug_assert_eq!(told, None, "only what is durable is told to the engine");
        }
    }

    /// Performs one task of the desk; returns events for the engine.
    fn carry_out(
        &mut self,
        task: Task<Arc<World>, (oneshot::Sender<Reply>, Reply)>,
    ) -> Option<Event> {
        match task {
            Task::Tell(event) => return Some(event),
            Task::Start(world, id, act) => self.begin(world, id, act),
            // The requester may be gone.
            Task::Answer((to, reply)) => to.send(reply).unwrap_or(()),
            Task::Write(records) => {
                let view = self.engine.view();
                self.persistence.submit(records, &|id| view.upload_shown(id));
            }
        }
        None
    }

    /// Records the configured names, so that removed ones are not shown as watched or called.
    fn note_configured(&mut self) {
        let config = &self.setup.config;
        let drops = config.drops.iter().map(|drop| drop.settings.name.clone()).collect();
        let destinations = config.destinations.iter().map(|to| to.name.clone()).collect();
        let stuck_after = config.notify.notices.stuck_after;
        self.submit(vec![Record::Configured { drops, destinations, stuck_after }]);
    }

    /// Submits records that no act waits for.
    fn submit(&mut self, records: Vec<Record>) {
        self.desk.submitted();
        self.persistence.submit(records, &|_| None);
    }

    fn begin(&mut self, world: Arc<World>, id: ActId, act: Act) {
        if !self.workers.is_cut() {
            self.workers.start(id, perform(world, act));
        }
    }

    fn on_stop(&mut self) {
        let now = self.clock.now().monotonic;
        if self.phase == Phase::Running {
            tracing::info!("draining: nothing starts, what is on its way may land");
            warn_if_refused(sdnotify::stopping("draining"));
        }
        self.phase = self.phase.drain(now);
        self.world.stopping.drains.store(true, Ordering::Relaxed);
        self.tell(Event::Drain);
    }

    fn watches_credentials(&self) -> bool {
        self.phase == Phase::Running && self.engine.view().has_halted()
    }

    fn look_for_credentials(&mut self) {
        let now = self.clock.now().monotonic;
        if !self.watches_credentials() || now < self.due.credentials {
            return;
        }
        self.due.credentials = now.after(CREDENTIAL_INTERVAL);
        let destinations = self.world.destinations.values();
        let changed: Vec<_> = destinations
            .filter(|destination| destination.credential_has_changed())
            .map(|destination| destination.name().clone())
            .collect();
        changed
            .into_iter()
            .for_each(|destination| self.tell(Event::CredentialChanged { destination }));
    }

    /// Does what is due for the database, the supervisor and monitors.
    ///
    /// # Errors
    /// When the database was removed or replaced.
    fn look_after(&mut self, now: Now) -> Result<(), Error> {
        if self.phase == Phase::Running {
            self.persistence.care_for(self.engine.view().is_working(), now);
            if self.supervisor.headline.is_due(now.monotonic) {
                let (counts, journal) = (self.engine.view().counts(), &self.persistence.journal);
                self.supervisor.say(now.monotonic, counts, journal, &self.setup.config);
            }
        }
        self.supervisor.beat(&self.world, now.monotonic);
        self.persistence.look(now.monotonic).map_err(Error::Store)
    }

    /// Cancels the remaining acts, and waits for the writer: everything submitted is written.
    async fn stop(mut self) -> Result<(), Error> {
        self.world.stopping.stop.store(true, Ordering::Relaxed);
        self.world.stopping.drains.store(true, Ordering::Relaxed);
        self.workers.abort();
        self.inputs.watchers.abort_all();
        let world = self.world;
        let stopped = self.persistence.finish(|| world.readers.close());
        stopped.await.map_err(Error::Store)?;
        tracing::info!("stopped; what is unfinished goes on at the next start");
        Ok(())
    }
}

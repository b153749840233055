//! Builds the daemon from its configuration: adapters, rows, engine, watches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::adoption;
use super::bandwidth::Bandwidth;
use super::care::DatabaseCare;
use super::context::{Channels, Source, Stopping, World};
use super::control::Control;
use super::desk::Desk;
use super::digests::DigestPool;
use super::hung::Hung;
use super::inputs::Inputs;
use super::loader::Loader;
use super::notices::ChannelClient;
use super::persistence::Persistence;
use super::rates::Rates;
use super::readers::Readers;
use super::receipts::Receipts;
use super::recording::{EngineStart, RecordedEngine, Recording};
use super::renamed;
use super::shutdown::Phase;
use super::supervisor::Supervisor;
use super::walker::Walker;
use super::web::{Render, StatusPage};
use super::workers::Workers;
use crate::clock::Clock;
use crate::config::{ChannelConfig, Config, Destination as Target, Drop};
use crate::control::Reply;
use crate::engine::event::Event;
use crate::engine::settings::{DestinationSettings, DirectorySettings, Settings};
use crate::model::{Call, Channel, DestinationName, Failure, Monotonic, StoredRoot, StoredState};
use crate::notify::Sender;
use crate::platform::Destination;
use crate::platform::contract::RightFound;
use crate::platform::http::Http;
use crate::signals::Signals;
use crate::source::{self, DirectoryRoot, Filter, MEMORY_PER_PART, PartReader};
use crate::store::rest::Rest;
use crate::store::writer::Writer;
use crate::store::{self, Runner, Store};

/// Limit of events that wait for the loop; a scan that is ahead of it waits. Each may hold a
/// thousand paths, and the allocator keeps their memory: few are enough to keep both busy.
const EVENTS_MAX: usize = 4;

/// The daemon. Built by [`Daemon::start`], run by `run`.
pub(crate) struct Daemon {
    pub(super) engine: RecordedEngine,
    pub(super) desk: Desk<Arc<World>, (oneshot::Sender<Reply>, Reply)>,
    pub(super) persistence: Persistence,
    pub(super) world: Arc<World>,
    pub(super) workers: Workers,
    pub(super) inputs: Inputs,
    pub(super) rates: Rates,
    pub(super) supervisor: Supervisor,
    pub(super) clock: Clock,
    pub(super) phase: Phase,
    pub(super) due: LoopTimers,
    pub(super) setup: Setup,
}

/// Times of the loop's next checks of state that sends no events.
#[derive(Debug)]
pub(super) struct LoopTimers {
    /// For replaced credentials of halted destinations.
    pub(super) credentials: Monotonic,
    /// For the bytes sent.
    pub(super) meters: Monotonic,
}

/// Reads the configuration again.
pub(crate) type Reader = Box<dyn Fn() -> Result<Config, crate::config::Problems> + Send>;

/// The inputs of a daemon.
pub(crate) struct Setup {
    /// The configuration.
    pub config: Config,
    /// Reads the configuration again.
    pub reader: Reader,
    /// Renders output of `status` and `show`.
    pub render: Render,
    /// The file for a recording, if one is made.
    pub recording: Option<PathBuf>,
    /// Start without a database although receipts or backups are there.
    pub is_new_state: bool,
}

/// Why a daemon cannot start, or must end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state cannot be used.
    #[error(transparent)]
    Store(store::Error),
    /// Something in the configuration cannot be used.
    #[error("{0}")]
    Configured(String),
    /// The operating system refused an operation.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
}

impl Daemon {
    /// Loads the work in progress and builds everything else from it and the configuration.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) fn start(setup: Setup, clock: Clock) -> Result<Self, Error> {
        let config = &setup.config;
        let now = clock.now();
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let runner = Runner {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            started_at: now.wall,
        };
        crate::signals::survive_file_limit().map_err(Error::Signals)?;
        let settings = store::Settings {
            directory: config.state_directory.clone(),
            is_new: setup.is_new_state,
        };
        let mut found = Vec::new();
        let opened = Writer::open_after(&settings, |writer| {
            found = adoption::prepare(config, writer)?;
            Ok(())
        });
        let (writer, loaded) = opened.map_err(Error::Store)?;
        let rest = Rest::open(&settings, &loaded).map_err(Error::Store)?;
        let rates = Rates::new(&config.transfer, loaded.bandwidth, &clock);
        let (rate, parts) = (rates.in_force().0, config.transfer.parts_in_flight.most());
        let bandwidth = Arc::new(Bandwidth::new(rate, parts, &clock));
        bandwidth.note_stopped(rates.stopped(&clock));
        let world = Arc::new(world(config, &loaded.state.roots, &clock, sender, bandwidth)?);
        recall(config, &world.destinations, &loaded.state);
        renamed::recall(&world.sources, loaded.state.runs.iter().map(|run| &run.row));
        let care = DatabaseCare::new(config, &loaded.care, now);
        let recording = setup.recording.as_deref().map(recording).transpose()?;
        let (version, settings) = (runner.version.clone(), engine_settings(config));
        let start = EngineStart { version, now, settings, stored: loaded.state };
        let (mut engine, mut first_effects) = RecordedEngine::load(recording, start);
        if !found.is_empty() {
            first_effects.extend(engine.handle_all(now, vec![Event::LedgersChecked(found)]));
        }
        let (store, thread) = Store::start(writer, &runner).map_err(Error::Store)?;
        let loader = Loader::start(rest).map_err(Error::Store)?;
        let inputs = Inputs {
            events,
            signals: Signals::listen().map_err(Error::Signals)?,
            control: Control::listen(config, &world),
            web: StatusPage::new(setup.render),
            watchers: JoinSet::new(),
        };
        let mut daemon = Self {
            engine,
            desk: Desk::new(),
            persistence: Persistence::new(store, thread, loader, care, now.monotonic),
            world,
            workers: Workers::default(),
            inputs,
            rates,
            supervisor: Supervisor::new(config, now.monotonic),
            clock,
            phase: Phase::Running,
            due: LoopTimers { credentials: now.monotonic, meters: now.monotonic },
            setup,
        };
        daemon.take_effects(first_effects);
        Ok(daemon)
    }
}

/// Passes the learned properties of targets to the clients.
fn recall(
    config: &Config,
    destinations: &BTreeMap<DestinationName, Destination>,
    stored: &StoredState,
) {
    for target in &config.destinations {
        let addresses = target.addresses();
        let ids = stored.targets.known.iter().filter(|(_, address)| addresses.contains(address));
        let ids: Vec<_> = ids.map(|(id, _)| *id).collect();
        let learned = stored.targets.learned.iter().filter(|(id, _)| ids.contains(id));
        if let Some(destination) = destinations.get(&target.name) {
            destination.know(learned.map(|(_, what)| *what));
        }
    }
}

fn recording(path: &Path) -> Result<Recording, Error> {
    let refused =
        |error| Error::Configured(format!("--record {} is refused: {error}", path.display()));
    Recording::open(path).map_err(refused)
}

pub(super) fn world(
    config: &Config,
    roots: &[StoredRoot],
    clock: &Clock,
    events: mpsc::Sender<Event>,
    bandwidth: Arc<Bandwidth>,
) -> Result<World, Error> {
    let destinations = super::clients::destinations(config, clock)?;
    let mut sources = BTreeMap::new();
    for drop in config.drops.iter().chain([&handed_in(config)]) {
        let filter =
            Filter::new(&drop.source).map_err(|error| Error::Configured(error.to_string()))?;
        let (seen, _) = tokio::sync::watch::channel(None);
        let (name, directory) = (&drop.settings.name, &drop.settings.directory);
        let is_it = |known: &&StoredRoot| known.drop == *name && known.directory == *directory;
        let root = roots.iter().find(is_it).map(|known| known.identity.clone());
        let source = Source {
            root: Arc::new(DirectoryRoot::new(name.as_str(), &drop.source.directory, root)),
            is_watched: drop.settings.is_scanned,
            filter,
            digests: DigestPool::default(),
            hung: Hung::default(),
            walker: Walker::default(),
            seen,
            space: Mutex::default(),
        };
        sources.insert(drop.settings.name.clone(), source);
    }
    let all = config.drops.iter().map(|drop| drop.settings.clone());
    let targets = all.chain([handed_in(config).settings]).map(|drop| {
        let DirectorySettings { name, destinations, .. } = drop;
        (name, destinations)
    });
    Ok(World {
        destinations,
        targets: targets.collect(),
        sources,
        channels: Channels {
            senders: config.notify.channels.iter().map(sender).collect(),
            client: ChannelClient(Http::new(&config.network).map_err(Error::Configured)?),
            disk_floor: config.notify.notices.disk_floor,
        },
        state: config.state_directory.clone(),
        receipts: Receipts::new(config.state_directory.clone()),
        readers: Readers::new(config.state_directory.clone()),
        events,
        parts: PartReader::new(config.transfer.memory),
        bandwidth,
        stopping: Stopping::default(),
        clock: clock.clone(),
    })
}

/// The drop directory of handed-in files, to any destination.
fn handed_in(config: &Config) -> Drop {
    let destinations = config.destinations.iter().map(|target| target.name.clone()).collect();
    Drop {
        settings: DirectorySettings::handed_in(destinations),
        source: source::handed::settings(),
    }
}

fn sender(config: &ChannelConfig) -> (Channel, Sender) {
    (config.settings.channel.clone(), config.sender.clone())
}

/// The result of checking a destination: our permissions there, or why it refuses us.
pub(crate) type Access = (DestinationName, Result<Vec<RightFound>, Failure>);

/// Checks that every destination accepts our credential, and tests our permissions there.
///
/// # Errors
/// When something in the configuration cannot be used.
pub(crate) async fn check_destinations(config: &Config) -> Result<Vec<Access>, Error> {
    let clock = Clock::real();
    let (events, _) = mpsc::channel(1);
    let bandwidth = Arc::new(Bandwidth::new(None, 1, &clock));
    let world = world(config, &[], &clock, events, bandwidth)?;
    let mut checks = Vec::new();
    for (name, destination) in &world.destinations {
        let checked = match destination.call(&Call::CheckAccess).await {
            Ok(_) => destination.check_rights().await,
            Err(failure) => Err(failure),
        };
        checks.push((name.clone(), checked));
    }
    Ok(checks)
}

/// Returns the engine's settings of each destination.
pub(crate) fn destination_settings(config: &Config) -> Vec<DestinationSettings> {
    engine_settings(config).destinations
}

pub(super) fn engine_settings(config: &Config) -> Settings {
    let destination = |target: &Target| DestinationSettings {
        name: target.name.clone(),
        platform: target.platform.name().into(),
        address: target.address(),
        same_as: target.same_as.clone(),
        traits: target.traits(),
        part_size: config.transfer.part_size,
        folder: target.folder.clone(),
        policies: target.policies,
        metadata: target.metadata.clone(),
        tags: target.tags.clone(),
        export: target.export.clone(),
    };
    let drops = config.drops.iter().map(|drop| drop.settings.clone());
    Settings {
        drops: drops.chain([handed_in(config).settings]).collect(),
        destinations: config.destinations.iter().map(destination).collect(),
        parts_in_flight: config.transfer.parts_in_flight,
        memory: config.transfer.memory,
        memory_per_part: MEMORY_PER_PART,
        retry: config.retry,
        channels: config.notify.channels.iter().map(|channel| channel.settings.clone()).collect(),
        notices: config.notify.notices,
    }
}

//! Runs the status page: provides its data, and answers whether the loop runs.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::context::World;
use super::history::{self, History};
use super::live;
use super::metrics;
use crate::clock::Clock;
use crate::model::{DirectoryName, Monotonic, Shown, SourcePath, UploadId};
use crate::store::Error;
use crate::store::snapshot::{Detail, Snapshot, Status, UploadShown};
use crate::web::{self, FileSearch, PULSES_MAX, PageResource, PageView, Settings};

/// Uploads that a browser shows at first.
const OVERVIEW_UPLOADS: usize = 40;
const RUN_UPLOADS: usize = 300;
/// Open uploads among which these are chosen: those in progress are among the oldest.
const OPEN_READ: u32 = 200;
/// Failed attempts of one upload that a browser shows.
const ATTEMPTS: usize = 20;
/// How long one read serves all requests.
const OVERVIEW_AGE: Duration = Duration::from_secs(1);

/// Renders JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Render {
    /// The output of `status`.
    pub status: fn(&Status) -> String,
    /// The output of `show` for one upload, below a state directory.
    pub upload: fn(&Detail, &Path) -> String,
}

/// The page's server, if there is one.
#[derive(Debug)]
pub(super) struct StatusPage {
    pulses: mpsc::Receiver<oneshot::Sender<()>>,
    pulse: mpsc::Sender<oneshot::Sender<()>>,
    settings: Option<Settings>,
    server: JoinSet<()>,
    render: Render,
    history: Arc<Mutex<History>>,
}

/// The last overview that was read.
#[derive(Debug)]
struct Overview {
    snapshot: Snapshot,
    read_at: Monotonic,
    text: String,
}

/// Reads the page's data.
struct PageReader {
    world: Arc<World>,
    render: Render,
    history: Arc<Mutex<History>>,
    overview: Mutex<Option<Overview>>,
}

impl StatusPage {
    /// Starts without a server.
    pub(super) fn new(render: Render) -> Self {
        let (pulse, pulses) = mpsc::channel(PULSES_MAX);
        let history = Arc::default();
        Self { pulses, pulse, settings: None, server: JoinSet::new(), render, history }
    }

    /// Serves at an address, or at none. Without the page the daemon does its work all the same.
    pub(super) fn serve(&mut self, settings: Option<Settings>, world: &Arc<World>) {
        while self.server.try_join_next().is_some() {}
        if settings == self.settings && !self.server.is_empty() {
            return;
        }
        let mut former = std::mem::take(&mut self.server);
        former.abort_all();
        self.settings.clone_from(&settings);
        let Some(settings) = settings else { return };
        let remembered = remember(Arc::clone(&self.history), Arc::clone(world));
        let view = self.view(world);
        self.server.spawn(async move {
            // It may have the same address.
            former.shutdown().await;
            let address = settings.address;
            let listener = match web::listen(address).await {
                Ok(listener) => listener,
                Err(error) => {
                    let cure = "set [web] listen to another address, or to \"off\"";
                    tracing::error!("no status page at {address}: {error}; {cure}");
                    return;
                }
            };
            let at = listener.local_addr().unwrap_or(address);
            tracing::info!("the status page is at http://{at}/");
            tokio::join!(web::serve(listener, view, settings), remembered);
        });
    }

    fn view(&self, world: &Arc<World>) -> PageView {
        let reader = PageReader {
            world: Arc::clone(world),
            render: self.render,
            history: Arc::clone(&self.history),
            overview: Mutex::default(),
        };
        PageView {
            read: Arc::new(move |resource| {
                reader.read(resource).map_err(|error| error.to_string())
            }),
            pulse: self.pulse.clone(),
            now: || Clock::real().now().wall,
        }
    }

    /// Waits until a request asks whether the loop runs.
    pub(super) async fn next(&mut self) -> oneshot::Sender<()> {
        match self.pulses.recv().await {
            Some(answer) => answer,
            // We hold a sender ourselves.
            None => std::future::pending().await,
        }
    }
}

/// Samples the bytes sent.
async fn remember(history: Arc<Mutex<History>>, world: Arc<World>) {
    loop {
        let sent = world.bandwidth.meters.sent_to_all();
        lock(&history).note(world.clock.now(), sent);
        tokio::time::sleep(history::INTERVAL).await;
    }
}

impl PageReader {
    fn read(&self, resource: &PageResource) -> Result<Option<String>, Error> {
        let found = match resource {
            PageResource::Overview => self.overview()?,
            PageResource::Status => (self.render.status)(&self.status()?),
            PageResource::Metrics => {
                let widths = self.world.bandwidth.meters.widths();
                metrics::render(&self.status()?, &widths)
            }
            PageResource::Trouble => trouble(&self.status()?),
            PageResource::History => lock(&self.history).json(),
            PageResource::Run { drop, run } => return self.run(drop, run),
            PageResource::Files(search) => self.files(search)?,
            PageResource::Upload(id) => return self.upload(UploadId(*id)),
        };
        Ok(Some(found))
    }

    fn status(&self) -> Result<Status, Error> {
        self.world.readers.lend(|snapshot| self.status_of(snapshot))?
    }

    fn status_of(&self, snapshot: &Snapshot) -> Result<Status, Error> {
        let (now, live) = (self.world.clock.now().wall, live::read(&self.world));
        snapshot.status_with(false, now, Some(live))
    }

    /// Reads the overview, unless that was done a moment ago.
    fn overview(&self) -> Result<String, Error> {
        let now = self.world.clock.now().monotonic;
        let mut kept = lock(&self.overview);
        if let Some(known) = kept.as_ref().filter(|known| now.since(known.read_at) < OVERVIEW_AGE) {
            return Ok(known.text.clone());
        }
        let snapshot = match kept.take() {
            Some(known) => known.snapshot,
            None => {
                let mut snapshot = Snapshot::open(&self.world.state)?;
                snapshot.list_at_most(OPEN_READ, 0);
                snapshot
            }
        };
        let mut status = self.status_of(&snapshot)?;
        keep_foremost(&mut status.uploads, OVERVIEW_UPLOADS);
        status.counts.ignored.listed.clear();
        let text = (self.render.status)(&status);
        Ok(kept.insert(Overview { snapshot, read_at: now, text }).text.clone())
    }

    fn run(&self, drop: &str, run: &str) -> Result<Option<String>, Error> {
        let drop = DirectoryName::new(drop);
        for run in named(run) {
            let snapshot = Snapshot::of_run(&self.world.state, &drop, &run)?;
            let mut status = self.status_of(&snapshot)?;
            if !status.runs.is_empty() || !status.uploads.is_empty() {
                keep_foremost(&mut status.uploads, RUN_UPLOADS);
                return Ok(Some((self.render.status)(&status)));
            }
        }
        Ok(None)
    }

    fn files(&self, search: &FileSearch) -> Result<String, Error> {
        let FileSearch { q, drop, run } = search;
        let (drop, runs) = (drop.as_deref(), run.iter().flat_map(|run| named(run)));
        let mut uploads = Vec::new();
        for run in runs.map(Some).chain(run.is_none().then_some(None)) {
            let search = |snapshot: &Snapshot| snapshot.search(q, drop, run.as_ref());
            uploads.extend(self.world.readers.lend(search)??);
        }
        Ok((self.render.status)(&Status { uploads, ..Status::default() }))
    }

    /// Reads one upload, with the state of each of its parts as one letter.
    fn upload(&self, id: UploadId) -> Result<Option<String>, Error> {
        let Some(mut detail) = self.world.readers.lend(|snapshot| snapshot.detail(id))?? else {
            return Ok(None);
        };
        let map = detail.part_map(&live::read(&self.world));
        detail.parts.clear();
        detail.attempts.truncate(ATTEMPTS);
        let upload = (self.render.upload)(&detail, &self.world.state);
        Ok(Some(format!("{{\"upload\":{upload},\"part_map\":\"{map}\"}}")))
    }
}

/// Returns the paths that a name may mean: as it is, or as a displayed path.
fn named(name: &str) -> impl Iterator<Item = SourcePath> {
    let plain = SourcePath::from_bytes(name.as_bytes());
    let shown = SourcePath::from_shown(name).filter(|shown| *shown != plain);
    std::iter::once(plain).chain(shown)
}

/// Keeps the uploads that people look for first.
fn keep_foremost(uploads: &mut Vec<UploadShown>, count: usize) {
    let order = ["sending", "waiting", "parked", "queued", "completed", "abandoned"];
    uploads.sort_by_key(|upload| order.iter().position(|word| *word == upload.word()));
    uploads.truncate(count);
}

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns why the daemon cannot do its work: drop directories that are unreadable.
fn trouble(status: &Status) -> String {
    let deaf = status.places.drops.iter().filter(|drop| drop.watch == "deaf").map(|drop| {
        let reason = drop.reason.as_deref().unwrap_or("no reason is known");
        format!("drop {} is deaf: {}", drop.name, Shown(reason))
    });
    deaf.collect::<Vec<_>>().join("; ")
}

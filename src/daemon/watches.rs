//! Watches on drop directories: each is set up off the loop, forwards its hints, and reports when
//! it cannot watch. A failed watch is retried, soon at first and then at intervals; until then
//! scans find the files.
//!
//! A watch is on a directory, not on a path: when a share was mounted there, or unmounted, or the
//! directory replaced, it gets no events any more. So it is compared with the directory at the
//! path, whenever a scan has seen that and every [`CHECK_INTERVAL`], and started again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::Sender;
use tokio::sync::watch::Receiver;
use tokio::time::MissedTickBehavior;

use crate::engine::event::Event;
use crate::model::{DirectoryName, Failure, WatchState};
use crate::source::{DirectoryRoot, Filter, RootMark, Watch, WatchHint};

/// First delay before a watch that ended is started again.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// Longest delay before a failed watch is retried: each attempt costs as much as looking at every
/// directory.
const RETRY_MAX: Duration = Duration::from_mins(5);
/// A watch that loses events sooner than this is followed by a pause: there are more changes than
/// it can read, and starting another watch, with the scan that must follow, adds to that.
const CALM: Duration = Duration::from_mins(10);
/// The reason of such a pause.
const LOST: &str = "the kernel's queue of events overflowed";
/// Interval of comparing the directory at the path with the watched one.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The reason when the watched directory is not the one at the path.
const ANOTHER: &str = "another directory is at the path of the drop directory, or none";

pub(super) struct WatchedDirectory {
    pub(super) drop: DirectoryName,
    pub(super) root: Arc<DirectoryRoot>,
    pub(super) filter: Filter,
    /// The directory that scans see there.
    pub(super) seen: Receiver<Option<RootMark>>,
    pub(super) events: Sender<Event>,
}

enum End {
    /// The kernel's queue overflowed: the scan after the next watch finds what was missed.
    Lost,
    /// It gets no events any more.
    Failed(String),
}

/// The loop has ended.
struct Closed;

impl WatchedDirectory {
    /// Watches the drop directory until the loop has ended.
    pub(super) async fn watch(mut self) {
        let (mut pause, mut loss_pause) = (RETRY_MIN, Duration::ZERO);
        loop {
            let end = match start(&self.root, &self.filter).await {
                Ok(watch) => {
                    pause = RETRY_MIN;
                    self.forward_calmly(watch, &mut loss_pause).await
                }
                Err(reason) => Ok(End::Failed(reason)),
            };
            let waited = match end {
                Ok(End::Lost) if loss_pause.is_zero() => {
                    loss_pause = RETRY_MIN;
                    Ok(())
                }
                Ok(End::Lost) => self.wait(LOST.to_owned(), &mut loss_pause).await,
                Ok(End::Failed(reason)) => self.wait(reason, &mut pause).await,
                Err(closed) => Err(closed),
            };
            if waited.is_err() {
                return;
            }
        }
    }

    /// Reports that the drop directory is only scanned, and waits until another watch may succeed.
    async fn wait(&mut self, reason: String, pause: &mut Duration) -> Result<(), Closed> {
        self.tell(WatchState::Scanning, Some(reason)).await?;
        let before = *self.seen.borrow();
        let another = self.seen.wait_for(|seen| *seen != before && seen.is_some());
        match tokio::time::timeout(*pause, another).await {
            Ok(Ok(_)) => *pause = RETRY_MIN,
            Ok(Err(_)) => return Err(Closed),
            Err(_) => *pause = (*pause * 2).min(RETRY_MAX),
        }
        Ok(())
    }

    /// Forwards hints until the watch ends. Resets the pause if the watch lasted long enough.
    async fn forward_calmly(
        &mut self,
        watch: Watch,
        loss_pause: &mut Duration,
    ) -> Result<End, Closed> {
        let mut forwarding = std::pin::pin!(self.forward(watch));
        if let Ok(end) = tokio::time::timeout(CALM, forwarding.as_mut()).await {
            return end;
        }
        *loss_pause = Duration::ZERO;
        forwarding.await
    }

    /// Forwards hints until the watch ends.
    async fn forward(&mut self, mut watch: Watch) -> Result<End, Closed> {
        self.tell(WatchState::Events, None).await?;
        // Files from before the watch give no hints.
        self.send(Event::ScanNow { drop: self.drop.clone() }).await?;
        self.seen.mark_unchanged();
        let mut checks = tokio::time::interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                hint = watch.next() => {
                    if let Some(end) = self.take(hint).await? {
                        return Ok(end);
                    }
                }
                changed = self.seen.changed() => {
                    changed.map_err(|_| Closed)?;
                    if *self.seen.borrow_and_update() != Some(watch.root()) {
                        return Ok(End::Failed(ANOTHER.to_owned()));
                    }
                }
                _ = checks.tick() => {
                    if let Some(reason) = self.check(&watch).await {
                        self.send(Event::ScanNow { drop: self.drop.clone() }).await?;
                        return Ok(End::Failed(reason.to_owned()));
                    }
                }
            }
        }
    }

    /// Returns why a watch gets no events any more, if so.
    async fn check(&self, watch: &Watch) -> Option<&'static str> {
        let is_another = seen_at(&self.root).await != Some(watch.root());
        watch.end().or(is_another.then_some(ANOTHER))
    }

    async fn take(&self, hint: WatchHint) -> Result<Option<End>, Closed> {
        let drop = self.drop.clone();
        match hint {
            WatchHint::Paths(paths) => {
                let renamed = self.root.renamed();
                let paths = paths.iter().map(|path| renamed.by_first_name(path).into_owned());
                self.send(Event::Hint { drop, paths: paths.collect() }).await?;
            }
            WatchHint::ScanNow => self.send(Event::ScanNow { drop }).await?,
            WatchHint::Lost => {
                let path = self.root.path().display().to_string();
                tracing::debug!(path, "events were lost: it is watched again, and scanned");
                return Ok(Some(End::Lost));
            }
            WatchHint::Failed { reason } => {
                self.send(Event::ScanNow { drop }).await?;
                return Ok(Some(End::Failed(reason)));
            }
        }
        Ok(None)
    }

    async fn tell(&self, watch: WatchState, reason: Option<String>) -> Result<(), Closed> {
        self.send(Event::WatchChanged { drop: self.drop.clone(), watch, reason }).await
    }

    async fn send(&self, event: Event) -> Result<(), Closed> {
        self.events.send(event).await.map_err(|_| Closed)
    }
}

async fn start(root: &Arc<DirectoryRoot>, filter: &Filter) -> Result<Watch, String> {
    let (root, filter) = (Arc::clone(root), filter.clone());
    match tokio::task::spawn_blocking(move || Watch::start(&root, filter)).await {
        Ok(started) => started.map_err(|error| Failure::from(error).message),
        Err(_) => Err("the daemon stops".into()),
    }
}

async fn seen_at(root: &Arc<DirectoryRoot>) -> Option<RootMark> {
    let root = Arc::clone(root);
    let checked = tokio::task::spawn_blocking(move || root.check()).await;
    checked.ok()?.ok().map(|(_, mark)| mark)
}

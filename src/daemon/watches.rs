//! Watches on drop directories: each is set up off the loop, forwards its hints, and says when it
//! cannot watch. What cannot be watched is tried again now and then; until then scans find the files.

use std::time::Duration;

use tokio::sync::mpsc::Sender;

use crate::engine::event::Event;
use crate::model::{DropName, Failure, WatchState};
use crate::source::{Filter, Watch, WatchHint};

/// How often a directory that could not be watched is tried again.
const RETRY_INTERVAL: Duration = Duration::from_mins(5);

/// Watches one drop directory until the loop is gone.
pub(super) async fn watch(
    drop: DropName,
    directory: std::path::PathBuf,
    filter: Filter,
    events: Sender<Event>,
) {
    loop {
        let reason = match start(&directory, &filter).await {
            Ok(watch) => {
                let watched = Event::WatchChanged {
                    drop: drop.clone(),
                    watch: WatchState::Events,
                    reason: None,
                };
                // What was there before the watch gives no hints.
                let scan = Event::ScanNow { drop: drop.clone() };
                if events.send(watched).await.is_err() || events.send(scan).await.is_err() {
                    return;
                }
                let Some(reason) = forward(&drop, watch, &events).await else { return };
                reason
            }
            Err(reason) => reason,
        };
        let event = Event::WatchChanged {
            drop: drop.clone(),
            watch: WatchState::Scanning,
            reason: Some(reason),
        };
        if events.send(event).await.is_err() {
            return;
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

async fn start(directory: &std::path::Path, filter: &Filter) -> Result<Watch, String> {
    let (directory, filter) = (directory.to_owned(), filter.clone());
    match tokio::task::spawn_blocking(move || Watch::start(&directory, filter)).await {
        Ok(started) => started.map_err(|error| Failure::from(error).message),
        Err(_) => Err("the daemon stops".into()),
    }
}

/// Forwards hints until the watch fails, and returns why; `None` when nobody listens any more.
async fn forward(drop: &DropName, mut watch: Watch, events: &Sender<Event>) -> Option<String> {
    loop {
        let drop = drop.clone();
        let event = match watch.next().await {
            WatchHint::Paths(paths) => Event::Hint { drop, paths },
            WatchHint::ScanNow => Event::ScanNow { drop },
            WatchHint::Failed { reason } => return Some(reason),
        };
        events.send(event).await.ok()?;
    }
}

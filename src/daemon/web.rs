//! Runs the status page: gives it what it shows, and answers when it asks whether the loop turns.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::context::World;
use super::metrics;
use crate::model::Shown;
use crate::store::snapshot::Status;
use crate::web::{self, PULSES_MAX, PageView, Read, Settings};

/// Renders what `status` shows, as JSON.
pub(crate) type Render = fn(&Status) -> String;

/// The page's server, when there is one.
#[derive(Debug)]
pub(super) struct StatusPage {
    pulses: mpsc::Receiver<oneshot::Sender<()>>,
    pulse: mpsc::Sender<oneshot::Sender<()>>,
    settings: Option<Settings>,
    server: JoinSet<()>,
    render: Render,
}

impl StatusPage {
    /// Starts without a server.
    pub(super) fn new(render: Render) -> Self {
        let (pulse, pulses) = mpsc::channel(PULSES_MAX);
        Self { pulses, pulse, settings: None, server: JoinSet::new(), render }
    }

    /// Serves at an address, or at none. Without the page the daemon does its work all the same.
    pub(super) fn serve(&mut self, settings: Option<Settings>, world: &Arc<World>) {
        while self.server.try_join_next().is_some() {}
        if settings == self.settings && !self.server.is_empty() {
            return;
        }
        self.server.abort_all();
        self.settings.clone_from(&settings);
        let Some(Settings { address, hosts }) = settings else { return };
        let view = self.view(world);
        self.server.spawn(async move {
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
            web::serve(listener, view, hosts).await;
        });
    }

    fn view(&self, world: &Arc<World>) -> PageView {
        let (render, meters) = (self.render, Arc::clone(&world.bandwidth));
        let metrics = move |status: &Status| metrics::render(status, &meters.meters.paces());
        PageView {
            status: reading(world, render),
            metrics: reading(world, metrics),
            trouble: reading(world, trouble),
            pulse: self.pulse.clone(),
        }
    }

    /// Waits until someone asks whether the loop turns.
    pub(super) async fn next(&mut self) -> oneshot::Sender<()> {
        match self.pulses.recv().await {
            Some(answer) => answer,
            // We hold a sender ourselves.
            None => std::future::pending().await,
        }
    }
}

fn reading(world: &Arc<World>, show: impl Fn(&Status) -> String + Send + Sync + 'static) -> Read {
    let world = Arc::clone(world);
    Arc::new(move || {
        let now = world.clock.now().wall;
        let read = world.readers.lend(|snapshot| snapshot.status(false, now));
        let status = read.and_then(|status| status).map_err(|error| error.to_string())?;
        Ok(show(&status))
    })
}

/// Why the daemon cannot do its work: drop directories that are not heard of.
fn trouble(status: &Status) -> String {
    let deaf = status.drops.iter().filter(|drop| drop.watch == "deaf").map(|drop| {
        let reason = drop.reason.as_deref().unwrap_or("no reason is known");
        format!("drop {} is deaf: {}", drop.name, Shown(reason))
    });
    deaf.collect::<Vec<_>>().join("; ")
}

//! The loop's inputs: hints and observations, signals, requests of operators, and pings of the
//! status page, which asks whether the loop runs.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::context::World;
use super::control::{Control, Ready};
use super::watches::WatchedDirectory;
use super::web::StatusPage;
use crate::engine::event::Event;
use crate::signals::{Signal, Signals};

#[derive(Debug)]
pub(super) struct Inputs {
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) signals: Signals,
    pub(super) control: Control,
    pub(super) web: StatusPage,
    /// The watches on drop directories.
    pub(super) watchers: JoinSet<()>,
}

/// One input.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one is alive at a time, and is moved on at once")]
pub(super) enum Input {
    Event(Event),
    Signal(Signal),
    Asked(Ready),
    /// To be answered by the loop itself.
    Pulse(oneshot::Sender<()>),
}

impl Inputs {
    /// Waits for the next input; for an operator's request only if it can be carried out.
    pub(super) async fn next(&mut self, takes_requests: bool) -> Input {
        tokio::select! {
            signal = self.signals.next() => Input::Signal(signal),
            asked = self.control.next(), if takes_requests => Input::Asked(asked),
            answer = self.web.next() => Input::Pulse(answer),
            Some(event) = self.events.recv() => Input::Event(event),
        }
    }

    /// Watches the drop directories of a configuration, in place of the former ones.
    pub(super) fn watch(&mut self, world: &World) {
        self.watchers.abort_all();
        for (drop, source) in world.sources.iter().filter(|(_, source)| source.is_watched) {
            let watched = WatchedDirectory {
                drop: drop.clone(),
                root: Arc::clone(&source.root),
                filter: source.filter.clone(),
                seen: source.seen.subscribe(),
                events: world.events.clone(),
            };
            self.watchers.spawn(watched.watch());
        }
    }
}

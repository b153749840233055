//! Heartbeats, sent by the loop itself: when it hangs, they stop.
//!
//! A beat proves only that the daemon runs: a notice reports an unreadable drop directory. Beats
//! are sent while the loop runs, also while it drains. A missed one is not repeated, so nothing
//! about them is stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;

use super::context::World;
use crate::model::Monotonic;
use crate::notify::heartbeat;
use crate::telemetry::scrub;

/// Limit of beats in flight: more would be a queue of late ones.
const RUNNING_MAX: usize = 8;

/// When each heartbeat is due.
#[derive(Debug)]
pub(super) struct Pulse {
    due: Vec<(heartbeat::Settings, Monotonic, Arc<AtomicBool>)>,
    running: JoinSet<()>,
}

impl Pulse {
    /// Begins with one beat for each.
    pub(super) fn new(settings: &[heartbeat::Settings], now: Monotonic) -> Self {
        let fresh = |beat: &heartbeat::Settings| (beat.clone(), now, Arc::default());
        Self { due: settings.iter().map(fresh).collect(), running: JoinSet::new() }
    }

    /// Returns when the next beat is due.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.due.iter().map(|(_, due, _)| *due).min()
    }

    /// Sends the beats that are due.
    pub(super) fn beat(&mut self, world: &Arc<World>, now: Monotonic) {
        let Self { due, running } = self;
        while running.try_join_next().is_some() {}
        for (settings, due, fails) in due.iter_mut().filter(|(_, due, _)| *due <= now) {
            *due = now.after(settings.every);
            if running.len() >= RUNNING_MAX {
                continue;
            }
            let (world, settings, fails) = (Arc::clone(world), settings.clone(), Arc::clone(fails));
            running.spawn(async move {
                let sent = heartbeat::send(&settings, world.means()).await;
                let failed_before = fails.swap(sent.is_err(), Ordering::Relaxed);
                match sent {
                    Err(failure) if !failed_before => {
                        let (kind, why) = (failure.kind.as_str(), scrub(&failure.message));
                        tracing::warn!(kind, "the heartbeat does not arrive: {why}");
                    }
                    Ok(()) if failed_before => tracing::info!("the heartbeat arrives again"),
                    Ok(()) | Err(_) => {}
                }
            });
        }
    }
}

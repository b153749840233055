//! Signs of life, sent by the loop itself: when it hangs, they stop.
//!
//! systemd receives the watchdog and the status line; monitors elsewhere receive the heartbeats.

use std::sync::Arc;
use std::time::Duration;

use super::context::World;
use super::headline::Headline;
use super::journal::Journal;
use super::pulse::Pulse;
use crate::config::Config;
use crate::engine::Counts;
use crate::model::Monotonic;
use crate::sdnotify;

#[derive(Debug)]
pub(super) struct Supervisor {
    /// The interval of feeding the watchdog, and the next time.
    watchdog: Option<(Duration, Monotonic)>,
    pub(super) headline: Headline,
    pub(super) pulse: Pulse,
}

impl Supervisor {
    pub(super) fn new(config: &Config, now: Monotonic) -> Self {
        Self {
            watchdog: sdnotify::watchdog_interval().map(|interval| (interval, now)),
            headline: Headline::new(now),
            pulse: Pulse::new(&config.notify.heartbeats, now),
        }
    }

    /// Returns when the next sign is due.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        let watchdog = self.watchdog.map(|(_, due)| due);
        watchdog.into_iter().chain(self.pulse.next_deadline()).min()
    }

    /// Sends the signs that are due.
    pub(super) fn beat(&mut self, world: &Arc<World>, now: Monotonic) {
        if let Some((interval, due)) = &mut self.watchdog
            && *due <= now
        {
            warn_if_refused(sdnotify::watchdog());
            *due = now.after(*interval);
        }
        self.pulse.beat(world, now);
    }

    /// Sends the status line.
    pub(super) fn say(
        &mut self,
        now: Monotonic,
        counts: Counts,
        journal: &Journal,
        config: &Config,
    ) {
        let line = self.headline.line(now, counts, journal, config);
        warn_if_refused(sdnotify::status(&line));
    }
}

/// Logs that a supervisor does not answer, and continues.
pub(super) fn warn_if_refused(result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::warn!("the supervisor cannot be notified: {error}");
    }
}

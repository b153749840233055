//! One destination as the engine sees it: whether it takes acts now, and what is under way there.
//!
//! A destination that is unreachable, throttled or halted takes nothing; the uploads for it keep
//! their state and hold no worker. While it is closed one probe at a time asks whether it is back,
//! so an outage costs one small call per delay, however many uploads wait.

use std::collections::BTreeMap;

use super::Engine;
use super::event::ActId;
use super::export::Exports;
use super::plan;
use super::retry::{self, Closing};
use super::settings::{DestinationSettings, RetrySettings};
use super::turn::Turn;
use super::width::Width;
use crate::model::{
    ByteCount, DestinationName, DestinationState, Monotonic, PartSize, Record, RemoteUploadId,
    WallTime,
};

/// Clean-ups under way at one destination.
const CLEANUP_MAX: usize = 2;

/// A destination's gate.
#[derive(Debug)]
pub(crate) struct Gate {
    /// What was configured.
    pub(crate) settings: DestinationSettings,
    /// Whether it takes acts.
    pub(crate) state: GateState,
    /// Failures in a row that closed it or might.
    pub(crate) streak: u32,
    /// Its ETags have been MD5s in this life.
    pub(crate) md5_seen: bool,
    /// How many parts may be on their way to it.
    pub(crate) width: Width,
    /// Files on their way to a volume.
    pub(crate) exports: Exports,
    /// Remote uploads to remove: when to try again, how often it failed, the act under way.
    pub(crate) cleanups: BTreeMap<RemoteUploadId, Cleanup>,
}

/// Whether a destination takes acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GateState {
    /// It does.
    Open,
    /// It does not, until a probe at `until` finds otherwise.
    Closed {
        /// What `status` calls it.
        state: DestinationState,
        /// When to probe.
        until: Monotonic,
    },
    /// A probe is under way.
    Probing {
        /// What `status` calls it.
        state: DestinationState,
    },
}

/// One remote upload to remove.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cleanup {
    /// Not before.
    pub(crate) due: Monotonic,
    /// How often it failed.
    pub(crate) failure_count: u32,
    /// The act under way.
    pub(crate) act: Option<ActId>,
}

impl Gate {
    /// Starts open.
    pub(crate) fn new(settings: DestinationSettings) -> Self {
        Self {
            settings,
            state: GateState::Open,
            streak: 0,
            md5_seen: false,
            width: Width::new(),
            exports: Exports::default(),
            cleanups: BTreeMap::new(),
        }
    }

    /// Tells whether acts may start.
    pub(crate) fn is_open(&self) -> bool {
        self.state == GateState::Open
    }

    /// Returns the part size to wish for.
    pub(crate) fn wish(&self, size: ByteCount) -> PartSize {
        plan::wish(self.settings.part_size, size, self.width.speed())
    }

    /// Tells whether it refuses us, rather than failing.
    pub(crate) fn is_halted(&self) -> bool {
        matches!(
            self.state,
            GateState::Closed { state: DestinationState::Halted, .. }
                | GateState::Probing { state: DestinationState::Halted }
        )
    }

    /// Closes it.
    pub(crate) fn close(&mut self, closing: Closing, retry: RetrySettings, now: Monotonic) {
        let seed = u64::from(
            self.settings
                .name
                .as_str()
                .bytes()
                .fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte))),
        );
        let pause = closing.pause.unwrap_or_else(|| retry::delay(retry, self.streak.max(1), seed));
        let until = now.after(pause);
        self.state = GateState::Closed { state: closing.state, until };
    }

    /// Queues a remote upload for removal.
    pub(crate) fn clean_up(&mut self, remote: RemoteUploadId, due: Monotonic) {
        self.cleanups.entry(remote).or_insert(Cleanup { due, failure_count: 0, act: None });
    }
}

/// Converts a stored wall-clock deadline to our clock: clamped, so that a clock that was set back
/// parks nothing for a year.
pub(crate) fn clamp(until: WallTime, retry: RetrySettings, now: crate::model::Now) -> Monotonic {
    now.monotonic.after(now.wall.until(until).min(retry.delay_max.max(retry.delay_min * 10)))
}

impl Gate {
    /// Returns when it wants attention by itself.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        match self.state {
            GateState::Closed { until, .. } => Some(until),
            GateState::Probing { .. } => None,
            GateState::Open => {
                let waiting = self.cleanups.values().filter(|cleanup| cleanup.act.is_none());
                let cleanup = self.cleanup_room().and_then(|_| waiting.map(|c| c.due).min());
                cleanup.into_iter().chain(self.exports.due).min()
            }
        }
    }

    /// Returns how many clean-ups may start, unless none may.
    pub(crate) fn cleanup_room(&self) -> Option<usize> {
        let flying = self.cleanups.values().filter(|cleanup| cleanup.act.is_some()).count();
        CLEANUP_MAX.checked_sub(flying).filter(|room| *room > 0)
    }
}

impl Engine {
    /// Writes how a destination is doing.
    pub(super) fn tell_destination(
        &mut self,
        name: &DestinationName,
        reason: Option<String>,
        turn: &mut Turn,
    ) {
        let Some(gate) = self.gates.get(name) else { return };
        let state = match &gate.state {
            GateState::Open => DestinationState::Ok,
            GateState::Closed { state, .. } | GateState::Probing { state } => *state,
        };
        let platform = gate.settings.platform.clone();
        self.note_state(name, state, reason.as_deref(), turn);
        turn.record(Record::DestinationHealth {
            destination: name.clone(),
            platform,
            state,
            reason,
            at: turn.now.wall,
        });
    }
}

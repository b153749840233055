//! The bandwidth, shared by all parts in flight, and adjustable meanwhile.
//!
//! *Promises*: a change applies at once, also to waiting parts; parts are served in the order of
//! their requests. A rate of zero cancels the parts in flight: they did not fail, and a server
//! would drop a connection that is held for hours.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::meters::Meters;
use crate::clock::Clock;
use crate::limiter::{ByteBudget, Rate, Reservation};
use crate::model::{Failure, FailureKind, LivePause};

/// With smaller pieces the overhead exceeds the content.
const SLICE_MIN: usize = 512;
/// Reads are never larger.
const SLICE_MAX: usize = 256 * 1024;
/// Size of pieces without a limit: what a slow line sends in a moment, so that counts move steadily.
const SLICE_COUNTED: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Bandwidth {
    state: Mutex<BandwidthState>,
    /// Counts changes, and wakes waiting parts.
    changed: watch::Sender<u64>,
    clock: Clock,
    /// Bytes sent so far.
    pub(crate) meters: Meters,
}

#[derive(Debug)]
struct BandwidthState {
    rate: Rate,
    budget: ByteBudget,
    /// Bytes sent at a time: few enough that each part moves many times a second.
    slice: usize,
    /// Tickets of an earlier budget are invalid in this one.
    epoch: u64,
    /// Why the rate is zero.
    stopped: Option<LivePause>,
}

impl Bandwidth {
    /// Shares a rate among parts.
    pub(crate) fn new(rate: Rate, parts_in_flight: u32, clock: &Clock) -> Self {
        let budget = ByteBudget::new(rate.unwrap_or(0), clock.now().monotonic);
        let state = BandwidthState {
            rate,
            budget,
            slice: slice(rate, parts_in_flight),
            epoch: 0,
            stopped: None,
        };
        let (changed, _) = watch::channel(0);
        let meters = Meters::default();
        Self { state: Mutex::new(state), changed, clock: clock.clone(), meters }
    }

    /// Changes the rate, also for waiting parts.
    pub(crate) fn set(&self, rate: Rate, parts_in_flight: u32) {
        let now = self.clock.now().monotonic;
        let mut state = self.lock();
        match (state.rate, rate) {
            (Some(_), Some(per_second)) => state.budget.set_rate(per_second, now),
            (None, _) | (_, None) => {
                state.budget = ByteBudget::new(rate.unwrap_or(0), now);
                state.epoch += 1;
            }
        }
        state.rate = rate;
        state.slice = slice(rate, parts_in_flight);
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Sets why nothing may be sent.
    pub(crate) fn note_stopped(&self, why: Option<LivePause>) {
        self.lock().stopped = why;
    }

    /// Returns why nothing may be sent, if so.
    pub(crate) fn stopped(&self) -> Option<LivePause> {
        self.lock().stopped.clone()
    }

    /// Returns how many bytes are sent at a time.
    pub(crate) fn slice(&self) -> usize {
        self.lock().slice
    }

    /// Returns whether the rate is limited.
    pub(crate) fn is_limited(&self) -> bool {
        self.lock().rate.is_some()
    }

    /// Waits until this many bytes may be sent.
    ///
    /// # Errors
    /// `Cancelled` when nothing may be sent at all.
    pub(crate) async fn pace(&self, bytes: u64) -> Result<(), Failure> {
        let Some((ticket, epoch)) = self.reserve(bytes) else { return Ok(()) };
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let wait = {
                let mut state = self.lock();
                if state.rate == Some(0) {
                    return Err(stopped());
                }
                if state.epoch != epoch {
                    return Ok(());
                }
                state.budget.wait(ticket, self.clock.now().monotonic)
            };
            if wait.is_zero() {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                // We hold the sender ourselves.
                _ = changed.changed() => {}
            }
        }
    }

    fn reserve(&self, bytes: u64) -> Option<(Reservation, u64)> {
        let now = self.clock.now().monotonic;
        let mut state = self.lock();
        state.rate?;
        let ticket = state.budget.reserve(bytes, now);
        Some((ticket, state.epoch))
    }

    fn lock(&self) -> MutexGuard<'_, BandwidthState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stopped() -> Failure {
    Failure::new(FailureKind::Cancelled, "the bandwidth is 0: nothing is sent")
}

fn slice(rate: Rate, parts_in_flight: u32) -> usize {
    let Some(per_second) = rate else { return SLICE_COUNTED };
    let slice = per_second / u64::from(parts_in_flight.max(1)) / 4;
    usize::try_from(slice).unwrap_or(usize::MAX).clamp(SLICE_MIN, SLICE_MAX)
}

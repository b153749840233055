//! Attempts to read a run or to write its receipt: one at a time, with growing delays after failures.

use std::time::Duration;

use crate::engine::event::ActId;
use crate::model::Monotonic;

#[derive(Debug)]
pub(super) struct Attempts {
    act: Option<ActId>,
    failure_count: u32,
    not_before: Monotonic,
}

impl Attempts {
    pub(super) fn new(now: Monotonic) -> Self {
        Self { act: None, failure_count: 0, not_before: now }
    }

    pub(super) fn may_begin(&self, now: Monotonic) -> bool {
        self.act.is_none() && self.not_before <= now
    }

    /// Returns whether an attempt is in progress.
    pub(super) fn is_out(&self) -> bool {
        self.act.is_some()
    }

    pub(super) fn begin(&mut self, act: ActId) {
        self.act = Some(act);
    }

    pub(super) fn end(&mut self) {
        (self.act, self.failure_count) = (None, 0);
    }

    /// An attempt failed. Returns when the next one may begin.
    pub(super) fn fail(
        &mut self,
        now: Monotonic,
        delay: impl FnOnce(u32) -> Duration,
    ) -> Monotonic {
        self.act = None;
        self.failure_count += 1;
        self.not_before = now.after(delay(self.failure_count));
        self.not_before
    }

    /// Allows the next attempt at once; only what is seen from here on counts.
    pub(super) fn restart(&mut self, now: Monotonic) {
        self.not_before = now;
    }

    pub(super) fn counts(&self, started: Monotonic) -> bool {
        started >= self.not_before
    }
}

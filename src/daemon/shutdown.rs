//! The phases of stopping the daemon.
//!
//! A first request drains: nothing starts, acts in flight may finish, for at most [`DRAIN_LIMIT`].
//! A second request, or the limit, aborts: acts in flight are cancelled. Neither loses anything,
//! because the rows are the only state; draining only saves sending some bytes again.

use std::time::Duration;

use crate::model::Monotonic;

/// Time limit of a drain. The unit's `TimeoutStopSec` is larger.
pub(crate) const DRAIN_LIMIT: Duration = Duration::from_mins(1);

/// Whether and how the daemon stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    /// It starts nothing and waits for acts in flight, until then.
    Draining {
        /// When it stops waiting.
        until: Monotonic,
    },
    /// It cancels acts in flight.
    Aborting,
}

impl Phase {
    /// Returns the phase after a request to stop.
    pub(crate) fn drain(self, now: Monotonic) -> Self {
        match self {
            Self::Running => Self::Draining { until: now.after(DRAIN_LIMIT) },
            Self::Draining { .. } | Self::Aborting => Self::Aborting,
        }
    }

    /// Returns the phase at a time.
    pub(crate) fn at(self, now: Monotonic) -> Self {
        match self {
            Self::Draining { until } if until <= now => Self::Aborting,
            Self::Running | Self::Draining { .. } | Self::Aborting => self,
        }
    }

    /// Returns when the phase changes by itself.
    pub(crate) fn deadline(self) -> Option<Monotonic> {
        match self {
            Self::Draining { until } => Some(until),
            Self::Running | Self::Aborting => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Monotonic = Monotonic(Duration::ZERO);

    #[test]
    fn the_first_request_drains_and_the_second_aborts() {
        let draining = Phase::Running.drain(START);
        assert_eq!(draining, Phase::Draining { until: START.after(DRAIN_LIMIT) });
        assert_eq!(draining.drain(START), Phase::Aborting);
        assert_eq!(Phase::Aborting.drain(START), Phase::Aborting);
    }

    #[test]
    fn a_drain_ends_at_its_limit() {
        let draining = Phase::Running.drain(START);
        assert_eq!(draining.at(START.after(DRAIN_LIMIT / 2)), draining);
        assert_eq!(draining.at(START.after(DRAIN_LIMIT)), Phase::Aborting);
        assert_eq!(Phase::Running.at(START.after(DRAIN_LIMIT)), Phase::Running);
    }
}

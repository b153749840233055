//! The one place that reads time and randomness.

use std::hash::{BuildHasher, RandomState};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::model::{Monotonic, Now, WallTime};

/// Both clocks. Copies share one origin.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts counting.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads time")]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Reads both clocks.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads time")]
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos());
        Now {
            monotonic: Monotonic(self.origin.elapsed()),
            wall: WallTime(i64::try_from(wall).unwrap_or(i64::MAX)),
        }
    }

    /// Returns the instant of a moment, for timers.
    pub fn instant(&self, at: Monotonic) -> Instant {
        self.origin + at.0
    }
}

/// Returns a number that differs from run to run.
pub fn seed() -> u64 {
    RandomState::new().hash_one(0)
}

//! A client's time source: the machine's clock, or one of a test.

use std::fmt;
use std::sync::Arc;

use crate::clock::Clock;
use crate::model::Now;

/// Reads the time for code that gets none from its caller: limits, expiries of signed addresses, elapsed times.
#[derive(Clone)]
pub(crate) struct TimeSource(Arc<dyn Fn() -> Now + Send + Sync>);

impl TimeSource {
    /// Takes the time from a function.
    pub(crate) fn new(now: impl Fn() -> Now + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> Now {
        (self.0)()
    }
}

impl From<Clock> for TimeSource {
    fn from(clock: Clock) -> Self {
        Self::new(move || clock.now())
    }
}

impl From<&Clock> for TimeSource {
    fn from(clock: &Clock) -> Self {
        Self::from(clock.clone())
    }
}

impl fmt::Debug for TimeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TimeSource").field(&self.now()).finish()
    }
}

//! What all destinations of one account share: the call budget, and the platform's clock; and how a
//! client reaches its platform.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::answer::parse_date;
use super::credential::Credential;
use super::http::{Http, Response, TimeSource};
use crate::limiter::{Announcement, CallBudget};
use crate::model::WallTime;

/// A budget that is paused is asked again this often, for a pause may be found to be over.
const BUDGET_NAP_MAX: Duration = Duration::from_secs(30);
/// Machines of one account come back from a pause this far apart, beyond one second.
const JITTER_MAX_MS: i64 = 4000;

/// How far a platform's clock may be behind when something is judged to be newer than an intent.
pub(super) const CLOCK_SLACK: Duration = Duration::from_mins(5);

/// What a client reaches its platform by. Copies share it.
#[derive(Debug, Clone)]
pub struct Link {
    pub(super) http: Http,
    pub(super) credential: Arc<Credential>,
    pub(super) account: Account,
    pub(super) time: TimeSource,
}

impl Link {
    /// Takes connections, and what an account is let in with.
    pub fn new(
        http: Http,
        credential: Arc<Credential>,
        account: Account,
        time: impl Into<TimeSource>,
    ) -> Self {
        let time = time.into();
        Self { http: http.with_time(time.clone()), credential, account, time }
    }
}

/// Budget and clock difference of one account. Copies share them.
#[derive(Debug, Clone)]
pub struct Account {
    shared: Arc<Mutex<Shared>>,
    time: TimeSource,
}

#[derive(Debug)]
struct Shared {
    budget: CallBudget,
    /// The platform's clock minus ours, nanoseconds.
    clock_offset_ns: i64,
}

impl Account {
    /// Starts with a fixed rate, or with what is documented of Seven Bridges until it is announced.
    pub fn new(calls_per_second: Option<f64>, time: impl Into<TimeSource>) -> Self {
        let time = time.into();
        let budget = CallBudget::new(calls_per_second, time.now().monotonic);
        Self { shared: Arc::new(Mutex::new(Shared { budget, clock_offset_ns: 0 })), time }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Shared) -> T) -> T {
        act(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[cfg(test)]
    pub(super) fn paused_until(
        &self,
        now: crate::model::Monotonic,
    ) -> Option<crate::model::Monotonic> {
        self.with(|shared| shared.budget.paused_until(now))
    }

    /// Waits until a call may be made, and counts it.
    pub(super) async fn wait_for_budget(&self) {
        loop {
            let now = self.time.now().monotonic;
            let Err(until) = self.with(|shared| shared.budget.take(now)) else { return };
            tokio::time::sleep(until.since(now).min(BUDGET_NAP_MAX)).await;
        }
    }

    /// Takes from an answer what it says of the platform's clock.
    pub(super) fn learn_clock(&self, response: &Response) {
        if let Some(date) = response.header("date").and_then(parse_date) {
            let offset = date.0.saturating_sub(self.time.now().wall.0);
            self.with(|shared| shared.clock_offset_ns = offset);
        }
    }

    /// Takes what a platform announces of its limits.
    pub(super) fn announced(&self, said: Announcement) {
        let now = self.time.now().monotonic;
        self.with(|shared| shared.budget.announced(said, now));
    }

    /// Pauses all calls: the platform refused one.
    pub(super) fn refused(&self, pause: Option<Duration>) {
        let now = self.time.now();
        let jitter = 1000 + (now.wall.0 / 1000).rem_euclid(JITTER_MAX_MS);
        let jitter = Duration::from_millis(jitter.unsigned_abs());
        self.with(|shared| shared.budget.refused(pause, jitter, now.monotonic));
    }

    /// Returns the platform's time, as far as its answers told.
    pub(super) fn platform_time(&self) -> WallTime {
        self.to_platform_time(self.time.now().wall)
    }

    /// Tells whether what the platform's clock says of something is not before a time by ours, with
    /// room for a platform that is behind what its answers told.
    pub(super) fn is_since(&self, theirs: WallTime, ours: WallTime) -> bool {
        theirs.after(CLOCK_SLACK) >= self.to_platform_time(ours)
    }

    /// Returns what the platform's clock showed at a time by ours.
    pub(super) fn to_platform_time(&self, ours: WallTime) -> WallTime {
        let offset = self.with(|shared| shared.clock_offset_ns);
        WallTime(ours.0.saturating_add(offset))
    }
}

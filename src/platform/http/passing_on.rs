//! How long the answer to a body may take that has left: a proxy or a filter may take all of it at once, and
//! pass it on as slowly as its line is.
//!
//! Owns what is known of hosts: those whose answers came too late are waited for longer the next time. At a
//! crash it is learned again, by an answer that comes too late.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::ByteCount;

/// A body is held to be passed on at this rate at least, a megabit a second, unless its answer comes too late.
const RATE_MIN: u64 = 125_000;
/// So often is the time doubled: then 8 kilobits a second are waited for.
const DOUBLED_MAX: u32 = 7;
/// No answer is waited for longer.
const TIME_MAX: Duration = Duration::from_hours(1);

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct SlowHosts(Mutex<BTreeMap<String, u32>>);

impl SlowHosts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how long a body of that length may be on its way after it has left.
    pub(super) fn passing_on(&self, host: &str, length: ByteCount) -> Duration {
        let doubled = self.lock().get(host).copied().unwrap_or(0);
        let seconds = (length.0 / RATE_MIN).saturating_mul(1 << doubled);
        Duration::from_secs(seconds).min(TIME_MAX)
    }

    /// Notes that an answer did not come in that time.
    pub(super) fn note_late(&self, host: &str) {
        let mut hosts = self.lock();
        let doubled = hosts.entry(host.to_owned()).or_default();
        *doubled = DOUBLED_MAX.min(*doubled + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_what_was_sent_and_with_answers_that_came_too_late() {
        let hosts = SlowHosts::default();
        let part = ByteCount(64 << 20);
        let seconds = || hosts.passing_on("far", part).as_secs();
        assert_eq!(hosts.passing_on("far", ByteCount(1000)), Duration::ZERO);
        assert_eq!(seconds(), 536);
        hosts.note_late("far");
        assert_eq!(seconds(), 1072);
        (0..100).for_each(|_| hosts.note_late("far"));
        assert_eq!(seconds(), 3600);
        assert_eq!(hosts.passing_on("other", part).as_secs(), 536, "of one host alone");
    }
}

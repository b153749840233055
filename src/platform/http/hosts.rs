//! What is known about hosts: how long one may take to pass on a body, and whether its connections
//! can be reused.
//!
//! A proxy or a filter may accept a whole body at once, and pass it on as slowly as its line is:
//! after answers that came too late, later ones are waited for longer. A balancer may break every
//! reused connection, or drop it silently: where many requests break, each gets a new connection
//! for a while. A crash resets this, and failing requests teach it again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::{ByteCount, FailureKind};

/// Assumed minimum rate of passing a body on, a megabit per second, until an answer comes too late.
const RATE_MIN: u64 = 125_000;
/// Limit of doublings: down to 8 kilobits per second.
const DOUBLED_MAX: u32 = 7;
/// Longest wait for an answer.
const TIME_MAX: Duration = Duration::from_hours(1);
/// A broken request weighs as much as this many answers: connections are reused in a network that
/// loses one request in ten, and not at a host that breaks every second one.
const BROKEN_WEIGHT: u32 = 2;
/// Broken requests of that weight, beyond the answers, are no accident: five in turn with answers.
const BROKEN_MAX: u32 = 6;
/// This many requests get new connections before reuse is tried again.
const ALONE_COUNT: u32 = 200;

#[derive(Debug, Default)]
pub(super) struct Hosts(Mutex<BTreeMap<String, HostState>>);

#[derive(Debug, Default)]
struct HostState {
    doubled: u32,
    broken: u32,
    /// This many of the next requests get new connections.
    alone: u32,
}

impl Hosts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, HostState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how long a body of that length may take to be passed on.
    pub(super) fn passing_on(&self, host: &str, length: ByteCount) -> Duration {
        let doubled = self.lock().get(host).map_or(0, |state| state.doubled);
        let seconds = (length.0 / RATE_MIN).saturating_mul(1 << doubled);
        Duration::from_secs(seconds).min(TIME_MAX)
    }

    /// An answer did not come in that time.
    pub(super) fn note_late(&self, host: &str) {
        let mut hosts = self.lock();
        let state = hosts.entry(host.to_owned()).or_default();
        state.doubled = DOUBLED_MAX.min(state.doubled + 1);
    }

    /// A request ended with an answer, or with this failure.
    pub(super) fn note_end(&self, host: &str, failed: Option<FailureKind>) {
        let mut hosts = self.lock();
        let is_broken = matches!(failed, Some(FailureKind::Broken | FailureKind::TimedOut));
        if !is_broken {
            if let Some(state) = hosts.get_mut(host).filter(|_| failed.is_none()) {
                state.broken = state.broken.saturating_sub(1);
            }
            return;
        }
        let state = hosts.entry(host.to_owned()).or_default();
        state.broken += BROKEN_WEIGHT;
        if state.broken >= BROKEN_MAX {
            (state.broken, state.alone) = (0, ALONE_COUNT);
        }
    }

    /// Returns whether the next request to a host gets a new connection.
    pub(super) fn is_alone(&self, host: &str) -> bool {
        let mut hosts = self.lock();
        let Some(state) = hosts.get_mut(host).filter(|state| state.alone > 0) else { return false };
        state.alone -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_what_was_sent_and_with_answers_that_came_too_late() {
        let hosts = Hosts::default();
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

    /// Every `nth` request breaks; returns after how many the first one got a new connection.
    fn alone_after(nth: u32) -> Option<u32> {
        let hosts = Hosts::default();
        (1..1000_u32).find(|number| {
            let failed = number.is_multiple_of(nth).then_some(FailureKind::Broken);
            hosts.note_end("far", failed);
            assert!(!hosts.is_alone("other"));
            hosts.is_alone("far")
        })
    }

    #[test]
    fn a_host_that_breaks_every_second_request_gets_a_connection_for_each_for_a_while() {
        assert_eq!(alone_after(1), Some(3));
        assert_eq!(alone_after(2), Some(10));
        assert_eq!((alone_after(4), alone_after(10)), (None, None));
        let hosts = Hosts::default();
        (0..3).for_each(|_| hosts.note_end("far", Some(FailureKind::TimedOut)));
        let count = (0..1000).filter(|_| hosts.is_alone("far")).count();
        assert_eq!(count, 200);
    }
}

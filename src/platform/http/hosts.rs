//! What is known of the hosts that are spoken to: how long one may take to pass on a body that has left, and
//! whether it takes a connection that is used twice.
//!
//! A proxy or a filter may take all of a body at once, and pass it on as slowly as its line is: where answers
//! came too late, they are waited for longer the next time. A balancer may break every connection that is used
//! twice, or forget it in silence: where many requests break, each gets a connection of its own for a while.
//! At a crash it is learned again, by requests that fail.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::{ByteCount, FailureKind};

/// A body is held to be passed on at this rate at least, a megabit a second, unless its answer comes too late.
const RATE_MIN: u64 = 125_000;
/// So often is the time doubled: then 8 kilobits a second are waited for.
const DOUBLED_MAX: u32 = 7;
/// No answer is waited for longer.
const TIME_MAX: Duration = Duration::from_hours(1);
/// A request that breaks weighs as much as so many answers: of a network that loses one request in ten the
/// connections are kept, of a host that breaks every second one they are not.
const BROKEN_WEIGHT: u32 = 2;
/// Broken requests of that weight, beyond the answers, are no accident: it is five in turn with answers.
const BROKEN_MAX: u32 = 6;
/// So many requests have connections of their own before it is tried again to keep some.
const ALONE_COUNT: u32 = 200;

#[derive(Debug, Default)]
pub(super) struct Hosts(Mutex<BTreeMap<String, HostState>>);

#[derive(Debug, Default)]
struct HostState {
    doubled: u32,
    broken: u32,
    /// So many of the next requests have connections of their own.
    alone: u32,
}

impl Hosts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, HostState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how long a body of that length may be on its way after it has left.
    pub(super) fn passing_on(&self, host: &str, length: ByteCount) -> Duration {
        let doubled = self.lock().get(host).map_or(0, |state| state.doubled);
        let seconds = (length.0 / RATE_MIN).saturating_mul(1 << doubled);
        Duration::from_secs(seconds).min(TIME_MAX)
    }

    /// Notes that an answer did not come in that time.
    pub(super) fn note_late(&self, host: &str) {
        let mut hosts = self.lock();
        let state = hosts.entry(host.to_owned()).or_default();
        state.doubled = DOUBLED_MAX.min(state.doubled + 1);
    }

    /// Notes how a request ended: with an answer, or by what failure.
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

    /// Returns whether the next request to a host has a connection of its own.
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

    /// Of so many requests every `nth` breaks; returns after how many the first had a connection of its own.
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

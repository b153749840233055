//! The present rate of each run to each destination.
//!
//! Bytes are counted by seconds when they are passed to a connection, and subtracted when their
//! part fails: a rate measures what arrives. After [`SILENCE`] without a byte it is zero. *At a
//! crash* nothing is lost: no rate is stored.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::{FlowKey, Monotonic, Now, WallTime};

/// Seconds of a rate: parts begin and end in less on most lines.
const SECONDS: u64 = 6;
/// After this long without a byte the rate is zero.
const SILENCE: Duration = Duration::from_secs(4);
/// Parts in flight without a byte for this long are shown as stalled.
const STALL: Duration = Duration::from_secs(10);
/// Remembered flows from which on ended ones are removed.
const FLOWS_MAX: usize = 64;

/// The bytes of one run to one destination.
#[derive(Debug, Default)]
pub(crate) struct FlowMeter(Mutex<RecentBytes>);

#[derive(Debug, Default)]
struct RecentBytes {
    /// Bytes by second, the oldest first.
    seconds: VecDeque<(u64, u64)>,
    /// When a byte was last sent, or a part of it began.
    moved_at: Monotonic,
}

impl FlowMeter {
    /// A part begins.
    pub(super) fn begin(&self, now: Monotonic) {
        self.lock().moved_at = now;
    }

    pub(super) fn count(&self, bytes: u64, now: Monotonic) {
        let mut recent = self.lock();
        recent.moved_at = now;
        let second = now.0.as_secs();
        match recent.seconds.back_mut().filter(|(at, _)| *at == second) {
            Some((_, sum)) => *sum += bytes,
            None => recent.seconds.push_back((second, bytes)),
        }
        while recent.seconds.front().is_some_and(|(at, _)| at + SECONDS <= second) {
            recent.seconds.pop_front();
        }
    }

    /// Subtracts bytes that were sent without effect.
    pub(super) fn take_off(&self, bytes: u64) {
        let mut left = bytes;
        for (_, sum) in self.lock().seconds.iter_mut().rev() {
            let off = left.min(*sum);
            *sum -= off;
            left -= off;
        }
    }

    fn rate(&self, now: Monotonic) -> u64 {
        let recent = self.lock();
        let first = now.0.as_secs().saturating_sub(SECONDS - 1);
        let in_time = recent.seconds.iter().filter(|(second, _)| *second >= first);
        let (mut since, mut sum) = (now.0.as_secs(), 0_u64);
        for (second, bytes) in in_time {
            since = since.min(*second);
            sum = sum.saturating_add(*bytes);
        }
        if now.since(recent.moved_at) >= SILENCE {
            return 0;
        }
        let elapsed_ms = now.since(Monotonic(Duration::from_secs(since))).as_millis().max(1000);
        u64::try_from(u128::from(sum) * 1000 / elapsed_ms).unwrap_or(u64::MAX)
    }

    fn is_over(&self, now: Monotonic) -> bool {
        now.since(self.lock().moved_at) >= Duration::from_secs(SECONDS)
    }

    fn stalled_since(&self, now: Now) -> Option<WallTime> {
        let silent = now.monotonic.since(self.lock().moved_at);
        let nanos = i64::try_from(silent.as_nanos()).unwrap_or(i64::MAX);
        (silent >= STALL).then(|| WallTime(now.wall.0.saturating_sub(nanos)))
    }

    fn lock(&self) -> MutexGuard<'_, RecentBytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The flows of the last seconds.
#[derive(Debug, Default)]
pub(super) struct Flows(BTreeMap<FlowKey, Arc<FlowMeter>>);

/// The present state of a flow.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FlowNow {
    pub(super) key: FlowKey,
    pub(super) bytes_per_second: u64,
    pub(super) stalled_since: Option<WallTime>,
}

impl Flows {
    pub(super) fn of(&mut self, key: &FlowKey, now: Monotonic) -> Arc<FlowMeter> {
        if self.0.len() >= FLOWS_MAX && !self.0.contains_key(key) {
            self.0.retain(|_, flow| Arc::strong_count(flow) > 1 || !flow.is_over(now));
        }
        Arc::clone(self.0.entry(key.clone()).or_default())
    }

    /// Lists flows that are active or ended within the last seconds.
    pub(super) fn now(&self, now: Now) -> Vec<FlowNow> {
        let flows = self.0.iter();
        let flows =
            flows.filter(|(_, flow)| Arc::strong_count(flow) > 1 || flow.rate(now.monotonic) > 0);
        let shown = flows.map(|(key, flow)| FlowNow {
            key: key.clone(),
            bytes_per_second: flow.rate(now.monotonic),
            stalled_since: flow.stalled_since(now).filter(|_| Arc::strong_count(flow) > 1),
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DestinationName, DirectoryName, SourcePath};

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    #[test]
    fn a_rate_is_of_the_last_seconds_and_zero_after_a_silence() {
        let flow = FlowMeter::default();
        for second in 0..10 {
            flow.count(100, at(second * 1000));
        }
        assert_eq!(flow.rate(at(9_999)), 100);
        assert!((50..100).contains(&flow.rate(at(12_000))), "the silence counts");
        assert_eq!(flow.rate(at(13_000)), 0);
        flow.count(60, at(20_000));
        assert_eq!(flow.rate(at(20_000)), 60, "what went long ago does not count");
        flow.count(1, at(23_000));
        assert_eq!(flow.rate(at(23_999)), 15, "a line that all but stopped");
    }

    #[test]
    fn what_went_in_vain_is_no_rate() {
        let flow = FlowMeter::default();
        flow.count(70, at(500));
        flow.count(30, at(1500));
        flow.take_off(90);
        assert_eq!(flow.rate(at(2000)), 5);
        flow.take_off(90);
        assert_eq!(flow.rate(at(2000)), 0);
    }

    #[test]
    fn parts_without_a_byte_stall_and_what_has_ended_is_forgotten() {
        let mut flows = Flows::default();
        let key = |run: &[u8]| FlowKey {
            destination: DestinationName::new("far"),
            drop: DirectoryName::new("lab"),
            run: SourcePath::from_bytes(run),
        };
        let part = flows.of(&key(b"run1"), at(0));
        part.begin(at(0));
        let now = |millis| Now { monotonic: at(millis), wall: WallTime(1_000_000_000_000) };
        assert_eq!(flows.now(now(9_000))[0].stalled_since, None);
        let stalled = &flows.now(now(10_000))[0];
        assert_eq!(stalled.stalled_since, Some(WallTime(990_000_000_000)));
        drop(part);
        assert_eq!(flows.now(now(10_000)), []);
        for run in 0..100_u8 {
            drop(flows.of(&key(&[run]), at(20_000)));
        }
        assert!(flows.0.len() <= FLOWS_MAX, "{}", flows.0.len());
    }
}

//! Bytes sent recently: in steps of ten seconds for the last hour, of five minutes for the last day.
//!
//! Kept in memory: a row every ten seconds would be an extra commit, and `/metrics` serves longer
//! histories. *A crash* loses it; the page shows since when it is known.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::{ByteCount, Monotonic, Now, WallTime};
use crate::receipt::rfc3339;

/// Interval of sampling.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct History {
    since: Option<WallTime>,
    last: ByteCount,
    hour: Ring,
    day: Ring,
}

/// Bytes sent in each of the newest intervals of one length.
#[derive(Debug)]
struct Ring {
    step: Duration,
    count_max: usize,
    /// The interval of the last number, counted from the start of the process.
    newest: u64,
    bytes: VecDeque<u64>,
}

impl Default for History {
    fn default() -> Self {
        let ring = |step, count_max| Ring { step, count_max, newest: 0, bytes: [0].into() };
        Self {
            since: None,
            last: ByteCount(0),
            hour: ring(INTERVAL, 360),
            day: ring(Duration::from_mins(5), 288),
        }
    }
}

impl History {
    /// Applies the bytes sent since the start.
    pub(super) fn note(&mut self, now: Now, sent: ByteCount) {
        self.since.get_or_insert(now.wall);
        let more = sent.0.saturating_sub(self.last.0);
        self.last = sent;
        self.hour.add(now.monotonic, more);
        self.day.add(now.monotonic, more);
    }

    /// Renders both as JSON: the last number is the newest, of an unfinished interval.
    pub(super) fn json(&self) -> String {
        let (hour, day) = (self.hour.json(), self.day.json());
        let since = rfc3339(self.since.unwrap_or_default());
        format!("{{\"since\":\"{since}\",\"hour\":{hour},\"day\":{day}}}")
    }
}

impl Ring {
    fn add(&mut self, now: Monotonic, bytes: u64) {
        let index = now.0.as_secs() / self.step.as_secs();
        let passed = usize::try_from(index.saturating_sub(self.newest)).unwrap_or(usize::MAX);
        self.bytes.extend(std::iter::repeat_n(0, passed.min(self.count_max)));
        self.newest = self.newest.max(index);
        let excess = self.bytes.len().saturating_sub(self.count_max);
        self.bytes.drain(..excess);
        if let Some(newest) = self.bytes.back_mut() {
            *newest += bytes;
        }
    }

    fn json(&self) -> String {
        let bytes: Vec<_> = self.bytes.iter().map(u64::to_string).collect();
        let (step, count) = (self.step.as_secs(), self.count_max);
        format!("{{\"step_seconds\":{step},\"count\":{count},\"bytes\":[{}]}}", bytes.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { monotonic: Monotonic(Duration::from_secs(seconds)), wall: WallTime(7_000_000_000) }
    }

    #[test]
    fn what_was_sent_stands_in_its_interval_and_silence_is_nothing() {
        let mut history = History::default();
        for (seconds, sent) in [(3, 5), (9, 7), (10, 20), (45, 21)] {
            history.note(at(seconds), ByteCount(sent));
        }
        assert_eq!(history.hour.bytes, [7, 13, 0, 0, 1]);
        assert_eq!(history.day.bytes, [21]);
    }

    #[test]
    fn it_holds_an_hour_and_a_day_however_long_nothing_was_noted() {
        let mut history = History::default();
        for hour in 0..100 {
            history.note(at(hour * 3600), ByteCount(hour));
        }
        history.note(at(10_000_000), ByteCount(1000));
        assert_eq!((history.hour.bytes.len(), history.day.bytes.len()), (360, 288));
        assert_eq!(history.day.bytes.iter().sum::<u64>(), 901);
        assert!(
            history
                .json()
                .starts_with("{\"since\":\"1970-01-01T00:00:07Z\",\"hour\":{\"step_seconds\":10,")
        );
    }
}

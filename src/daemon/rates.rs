//! The bandwidth in force: the ordered one, else that of the timetable, else the configured one.
//!
//! The timetable is read again at each full minute of the wall clock, when its periods begin and
//! end; so a clock that was set, a change to summer time or a machine that slept take effect within
//! a minute.

use std::time::Duration;

use super::Daemon;
use crate::clock::Clock;
use crate::config::Transfer;
use crate::engine::event::Event;
use crate::limiter::{Rate, Timetable};
use crate::model::{LivePause, Monotonic, WallTime};

const MINUTE: Duration = Duration::from_mins(1);
/// The timetable repeats every week.
const WEEK_MINUTES: u32 = 7 * 24 * 60;

#[derive(Debug)]
pub(super) struct Rates {
    base: Rate,
    timetable: Timetable,
    ordered: Option<Rate>,
    in_force: Rate,
    /// The engine's rate: unlimited, until it receives another.
    told: Rate,
    due: Monotonic,
}

impl Rates {
    /// Starts with the configured rate, and the order of an earlier process.
    pub(super) fn new(transfer: &Transfer, ordered: Option<Rate>, clock: &Clock) -> Self {
        let now = clock.now();
        let (base, timetable) = (transfer.bandwidth, transfer.timetable.clone());
        let due = now.monotonic;
        let mut rates = Self { base, timetable, ordered, in_force: base, told: None, due };
        rates.in_force = rates.asked(clock);
        rates.due = now.monotonic.after(until_full_minute(now.wall));
        rates
    }

    pub(super) fn configure(&mut self, transfer: &Transfer) {
        self.base = transfer.bandwidth;
        self.timetable = transfer.timetable.clone();
    }

    /// Applies an order, or its end.
    pub(super) fn order(&mut self, ordered: Option<Rate>) {
        self.ordered = ordered;
    }

    /// Returns the rate in force, and whether it was ordered.
    pub(super) fn in_force(&self) -> (Rate, bool) {
        (self.in_force, self.ordered.is_some())
    }

    /// Returns when the timetable is read again.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        (!self.timetable.is_empty()).then_some(self.due)
    }

    fn asked(&self, clock: &Clock) -> Rate {
        let by_table = || {
            let is_asked = !self.timetable.is_empty();
            is_asked.then(|| self.timetable.rate_at(clock.local_now())).flatten()
        };
        self.ordered.or_else(by_table).unwrap_or(self.base)
    }
}

impl Rates {
    /// Returns why nothing is sent, if so, and when that ends by the timetable.
    pub(super) fn stopped(&self, clock: &Clock) -> Option<LivePause> {
        if self.in_force != Some(0) {
            return None;
        }
        let pause = |reason: &str, until| LivePause { reason: reason.to_owned(), until };
        if self.ordered.is_some() {
            return Some(pause("the bandwidth is 0 by an order", None));
        }
        let now = clock.now().wall;
        if self.timetable.rate_at(clock.local_at(now)).is_none() {
            return Some(pause("the bandwidth is 0 by [transfer] bandwidth", None));
        }
        let minute = |count: u32| now.after(until_full_minute(now) + MINUTE * count);
        let mut minutes = (0..WEEK_MINUTES).map(minute);
        let rate_at = |at| self.timetable.rate_at(clock.local_at(at)).unwrap_or(self.base);
        let until = minutes.find(|at| rate_at(*at) != Some(0));
        Some(pause("the bandwidth is 0 by the timetable", until))
    }
}

fn until_full_minute(now: WallTime) -> Duration {
    let minute = i64::try_from(MINUTE.as_nanos()).unwrap_or(i64::MAX);
    let into = now.0.rem_euclid(minute);
    Duration::from_nanos((minute - into).unsigned_abs())
}

impl Daemon {
    /// Reads the timetable when it is due.
    pub(super) fn look_at_timetable(&mut self) {
        let now = self.clock.now();
        if self.rates.deadline().is_some_and(|due| due <= now.monotonic) {
            self.rates.due = now.monotonic.after(until_full_minute(now.wall));
            self.follow_rates();
        }
    }

    /// Applies the rate in force.
    pub(super) fn follow_rates(&mut self) {
        let rate = self.rates.asked(&self.clock);
        if rate != self.rates.in_force {
            let said = match rate {
                None => "unlimited".to_owned(),
                Some(0) => "0: nothing is sent".to_owned(),
                Some(rate) => format!("{}/s", crate::model::ByteCount(rate)),
            };
            tracing::info!("bandwidth is {said}");
        }
        self.rates.in_force = rate;
        let parts = self.setup.config.transfer.parts_in_flight.most();
        self.world.bandwidth.set(rate, parts);
        self.world.bandwidth.note_stopped(self.rates.stopped(&self.clock));
        if self.rates.told != rate {
            self.rates.told = rate;
            self.tell(Event::RateChanged { bytes_per_second: rate });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_full_minute_is_never_now_and_never_far() {
        for (at, wait) in [(0, 60), (1, 59), (59, 1), (60, 60), (-1, 1)] {
            let wall = WallTime(at * 1_000_000_000);
            assert_eq!(until_full_minute(wall), Duration::from_secs(wait), "{at}");
        }
    }
}

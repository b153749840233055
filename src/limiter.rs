//! Budgets: API calls, and bytes per second.
//!
//! Owns the arithmetic of both and nothing else: time comes in as a value, the caller waits.
//! [`CallBudget`] is shared by all destinations of one credential, because the platform counts
//! their calls together; it follows the limit that the platform announces, stays a quarter below
//! it, spreads the remaining calls when few are left, and stops completely on request.
//! [`ByteBudget`] spreads the bytes of all parts over time.
//!
//! *Promises*: a call budget never allows more calls than its rate and burst, whatever the order of
//! requests; a byte budget keeps its rate within a tenth over any ten seconds, and a change of rate
//! also applies to waiting parts. *Never* sleeps, and never reads a clock.
//!
//! A crash loses only saved calls and bytes: the next start has a full burst of calls, for which
//! the quarter below the limit leaves room, and no saved bytes.

mod timetable;

use std::time::Duration;

pub(crate) use timetable::{Days, Period, Rate, Timetable};

use crate::model::Monotonic;
use crate::model::failure::PAUSE_MAX;

/// The window in which Seven Bridges counts calls.
const WINDOW: Duration = Duration::from_mins(5);
/// Calls per second until the platform announces a limit: a quarter below 1000 in the window.
const RATE_DEFAULT: f64 = 2.5;
/// A rate below one call in a hundred seconds would look like a hang.
const RATE_MIN: f64 = 0.01;
/// Shortest pause: a platform whose clock is behind may announce one that has passed.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// With fewer calls left in the window, the rest are spread over the remaining time.
const REMAINING_LOW: u64 = 50;

/// A platform's announcement of its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Announcement {
    /// Calls in a window.
    pub limit: Option<u64>,
    /// Calls left in this window.
    pub remaining: Option<u64>,
    /// Time until this window ends.
    pub reset_in: Option<Duration>,
}

/// The budget of calls.
#[derive(Debug)]
pub(crate) struct CallBudget {
    per_second: f64,
    burst: f64,
    available: f64,
    counted_at: Monotonic,
    paused_until: Option<Monotonic>,
    /// The slower rate while few calls are left, and until when it applies.
    slow: Option<(f64, Monotonic)>,
    is_fixed: bool,
    /// The calls in a window that the platform announced.
    limit: Option<u64>,
}

impl CallBudget {
    /// Starts with the vendor's documented limit, or with a fixed rate.
    pub(crate) fn new(calls_per_second: Option<f64>, now: Monotonic) -> Self {
        let wished = calls_per_second.filter(|rate| rate.is_finite());
        let per_second = wished.unwrap_or(RATE_DEFAULT).max(RATE_MIN);
        let burst = (per_second * 20.0).max(1.0);
        Self {
            per_second,
            burst,
            available: burst,
            counted_at: now,
            paused_until: None,
            slow: None,
            is_fixed: wished.is_some(),
            limit: None,
        }
    }

    /// Takes one call, or returns when to ask again.
    ///
    /// # Errors
    /// The time at which a call may be free; always later than `now`.
    pub(crate) fn take(&mut self, now: Monotonic) -> Result<(), Monotonic> {
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Err(until);
        }
        self.paused_until = None;
        let rate = self.rate(now);
        let earned = now.since(self.counted_at).as_secs_f64() * rate;
        self.available = (self.available + earned).min(self.burst);
        self.counted_at = self.counted_at.max(now);
        if self.available >= 1.0 {
            self.available -= 1.0;
            return Ok(());
        }
        let wait = Duration::from_secs_f64((1.0 - self.available) / rate);
        Err(now.after(wait.max(Duration::from_millis(1))))
    }

    /// Returns when a call is free; not later than `now` when one is.
    pub(crate) fn free_at(&self, now: Monotonic) -> Monotonic {
        let mut asked = Self { ..*self };
        asked.take(now).err().unwrap_or(now)
    }

    /// Returns the maximum of calls in a window of the platform's.
    pub(crate) fn calls_in_window(&self) -> u64 {
        self.limit.unwrap_or_else(|| {
            std::time::Duration::from_secs_f64(self.per_second * WINDOW.as_secs_f64()).as_secs()
        })
    }

    /// Returns until when no call may be made at all, if so.
    pub(crate) fn paused_until(&self, now: Monotonic) -> Option<Monotonic> {
        self.paused_until.filter(|until| *until > now)
    }

    /// Returns whether no call may be made at all.
    pub(crate) fn is_paused(&self, now: Monotonic) -> bool {
        self.paused_until(now).is_some()
    }

    /// Ends a pause. Calls that were not earned during the pause stay lost.
    pub(crate) fn lift(&mut self, now: Monotonic) {
        if self.paused_until.take().is_some() {
            self.available = self.available.max(1.0);
            self.counted_at = now;
        }
    }

    /// Follows the platform's announcement. It can only lower a fixed rate.
    pub(crate) fn announced(&mut self, said: Announcement, now: Monotonic) {
        if let Some(limit) = said.limit.filter(|limit| *limit > 0 && !self.is_fixed) {
            self.limit = Some(limit);
            let limit = as_float(limit);
            self.per_second = (0.75 * limit / WINDOW.as_secs_f64()).max(RATE_MIN);
            self.burst = (limit / 20.0).max(1.0);
            self.available = self.available.min(self.burst);
        }
        let Some(left) = said.remaining else { return };
        // A small limit must not count as nearly used up from its first call on.
        let low = said.limit.map_or(REMAINING_LOW, |limit| REMAINING_LOW.min(limit / 4));
        if left >= low {
            self.slow = None;
            return;
        }
        let rest = said.reset_in.unwrap_or(WINDOW).clamp(PAUSE_MIN, PAUSE_MAX);
        let rate = (as_float(left) / rest.as_secs_f64()).clamp(RATE_MIN, self.per_second);
        self.slow = Some((rate, now.after(rest)));
        // Saved calls exceed what the platform has left.
        self.available = self.available.min(1.0);
    }

    /// Stops all calls: the platform refused one. `pause` is its request, `jitter` keeps machines
    /// of one account from resuming at once. Returns the pause that was set, which never ends a
    /// longer one.
    pub(crate) fn refused(
        &mut self,
        pause: Duration,
        jitter: Duration,
        now: Monotonic,
    ) -> Duration {
        let wished = pause.saturating_add(jitter);
        let pause = wished.clamp(PAUSE_MIN, PAUSE_MAX);
        let until = now.after(pause);
        self.paused_until = Some(self.paused_until.map_or(until, |set| set.max(until)));
        // Nothing is earned during the pause: the first call afterwards tests the limit.
        self.available = self.available.min(1.0);
        self.counted_at = self.counted_at.max(until);
        self.slow = None;
        pause
    }

    fn rate(&mut self, now: Monotonic) -> f64 {
        self.slow = self.slow.filter(|(_, until)| *until > now);
        self.slow.map_or(self.per_second, |(rate, _)| rate)
    }
}

#[expect(clippy::cast_precision_loss, reason = "call limits are far below 2^53")]
fn as_float(count: u64) -> f64 {
    count as f64
}

/// Limit of what is saved while nothing is sent, as time: a twentieth of the ten seconds over which
/// the rate is kept.
const SAVED_MAX: Duration = Duration::from_millis(500);
const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// The budget of bytes, shared by all parts in flight.
///
/// A sender takes a [`Reservation`] and waits until it is due; reservations become due in the order
/// in which they were taken, so no part starves. One whose holder gave up is simply not used: its
/// bytes count as sent.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    per_second: u64,
    /// Bytes of all reservations, times 10^9.
    taken: u128,
    /// Bytes earned by time, times 10^9.
    paid: u128,
    counted_at: Monotonic,
}

/// A position in the queue of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reservation(u128);

impl ByteBudget {
    /// Starts without savings. A rate of zero stops everything.
    pub(crate) fn new(per_second: u64, now: Monotonic) -> Self {
        Self { per_second, taken: 0, paid: 0, counted_at: now }
    }

    /// Changes the rate, also for waiting parts: they call [`Self::wait`] again.
    pub(crate) fn set_rate(&mut self, per_second: u64, now: Monotonic) {
        self.count(now);
        self.per_second = per_second;
        let saved_max = u128::from(per_second).saturating_mul(SAVED_MAX.as_nanos());
        self.paid = self.paid.min(self.taken.saturating_add(saved_max));
    }

    /// Reserves this many bytes.
    pub(crate) fn reserve(&mut self, bytes: u64, now: Monotonic) -> Reservation {
        self.count(now);
        self.taken = self.taken.saturating_add(u128::from(bytes) * NANOS_PER_SECOND);
        Reservation(self.taken)
    }

    /// Returns how long a reservation has to wait at the present rate; `Duration::MAX` when stopped.
    pub(crate) fn wait(&mut self, ticket: Reservation, now: Monotonic) -> Duration {
        self.count(now);
        let owed = ticket.0.saturating_sub(self.paid);
        match (owed, self.per_second) {
            (0, _) => Duration::ZERO,
            (_, 0) => Duration::MAX,
            (owed, rate) => {
                let nanos = owed.div_ceil(u128::from(rate));
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        }
    }

    fn count(&mut self, now: Monotonic) {
        let elapsed = now.since(self.counted_at);
        self.counted_at = self.counted_at.max(now);
        let rate = u128::from(self.per_second);
        let ahead_max = self.taken.saturating_add(rate.saturating_mul(SAVED_MAX.as_nanos()));
        let earned = elapsed.as_nanos().saturating_mul(rate);
        // Savings above the cap are lost.
        self.paid = self.paid.saturating_add(earned).min(ahead_max.max(self.paid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl ByteBudget {
        /// Takes the bytes at once and returns how long to wait before sending them.
        fn take(&mut self, bytes: u64, now: Monotonic) -> Duration {
            let ticket = self.reserve(bytes, now);
            self.wait(ticket, now)
        }
    }

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    fn calls_in(budget: &mut CallBudget, from: u64, until: u64) -> usize {
        (from..until).filter(|millis| budget.take(at(*millis)).is_ok()).count()
    }

    fn left(remaining: u64, reset_in: u64) -> Announcement {
        Announcement {
            limit: Some(1000),
            remaining: Some(remaining),
            reset_in: Some(Duration::from_secs(reset_in)),
        }
    }

    #[test]
    fn calls_keep_below_the_documented_limit() {
        let mut budget = CallBudget::new(None, at(0));
        let calls = calls_in(&mut budget, 0, 300_000);
        assert!((750..=850).contains(&calls), "{calls} calls in a window of 1000");
    }

    #[test]
    fn an_announced_limit_is_followed() {
        let mut budget = CallBudget::new(None, at(0));
        let said =
            Announcement { limit: Some(1_000_000), remaining: Some(999_000), reset_in: None };
        budget.announced(said, at(0));
        assert!(calls_in(&mut budget, 0, 1_000) >= 999);
        budget.announced(Announcement { limit: Some(300), ..said }, at(1_000));
        let calls = calls_in(&mut budget, 1_000, 301_000);
        assert!((225..=245).contains(&calls), "{calls} calls in a window of 300");
    }

    #[test]
    fn a_fixed_rate_is_not_raised_by_what_is_announced() {
        let mut budget = CallBudget::new(Some(1.0), at(0));
        budget.announced(left(900, 100), at(0));
        let calls = calls_in(&mut budget, 0, 100_000);
        assert!((100..=121).contains(&calls), "{calls} calls in 100 s");
    }

    #[test]
    fn what_is_left_is_spread_over_the_rest_of_the_window() {
        let mut budget = CallBudget::new(None, at(0));
        budget.announced(left(10, 100), at(0));
        let calls = calls_in(&mut budget, 0, 100_000);
        assert!((9..=11).contains(&calls), "{calls} calls of 10 that were left");
        assert!(calls_in(&mut budget, 100_000, 140_000) > 90, "the next window is a new one");
        budget.announced(left(10, 100), at(140_000));
        budget.announced(left(999, 300), at(141_000));
        assert!(calls_in(&mut budget, 141_000, 181_000) > 90, "plenty is left again");
    }

    #[test]
    fn a_refusal_stops_all_calls_for_as_long_as_asked() {
        let mut budget = CallBudget::new(None, at(0));
        budget.refused(Duration::from_secs(60), Duration::from_secs(1), at(0));
        assert_eq!(budget.take(at(1)), Err(at(61_000)));
        assert_eq!(budget.paused_until(at(60_999)), Some(at(61_000)));
        assert_eq!(budget.take(at(61_000)), Ok(()));
        assert!(budget.take(at(61_001)).is_err(), "nothing is saved up during a pause");
    }

    #[test]
    fn a_pause_is_believed_within_bounds() {
        let mut budget = CallBudget::new(None, at(0));
        let jitter = Duration::from_secs(3);
        for (asked, set) in
            [(0, 3), (10, 13), (327, 330), (3599, 3600), (99_999, 3600), (u64::MAX, 3600)]
        {
            let pause = budget.refused(Duration::from_secs(asked), jitter, at(0));
            assert_eq!(pause, Duration::from_secs(set), "{asked:?}");
        }
        let pause = budget.refused(Duration::ZERO, Duration::ZERO, at(0));
        assert_eq!(pause, PAUSE_MIN);
        assert_eq!(budget.take(at(1)), Err(at(3_600_000)), "a shorter pause ends no longer one");
    }

    #[test]
    fn a_pause_that_is_lifted_lets_one_call_through_at_once() {
        let mut budget = CallBudget::new(Some(0.1), at(0));
        budget.refused(Duration::from_secs(600), Duration::ZERO, at(0));
        assert_eq!(budget.take(at(1000)), Err(at(600_000)));
        budget.lift(at(2000));
        assert_eq!(budget.take(at(2000)), Ok(()));
        assert_eq!(budget.take(at(2001)), Err(at(12_000)), "and then the rate holds");
        budget.lift(at(2002));
        assert!(budget.take(at(2003)).is_err(), "there is nothing to lift");
    }

    #[test]
    fn absurd_rates_are_survived() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::MIN_POSITIVE, 1e300] {
            let mut budget = CallBudget::new(Some(rate), at(0));
            assert!(calls_in(&mut budget, 0, 100) >= 1, "{rate}");
        }
        let mut budget = CallBudget::new(None, at(0));
        let all = Some(u64::MAX);
        budget.announced(
            Announcement { limit: all, remaining: all, reset_in: Some(Duration::MAX) },
            at(0),
        );
        budget.announced(
            Announcement { limit: Some(0), remaining: Some(0), reset_in: Some(Duration::ZERO) },
            at(0),
        );
        assert!(calls_in(&mut budget, 0, 2_000) >= 1);
    }

    #[test]
    fn a_clock_that_goes_back_earns_nothing() {
        let mut budget = CallBudget::new(Some(1.0), at(0));
        calls_in(&mut budget, 10_000, 10_020);
        assert!(budget.take(at(10_020)).is_err());
        assert!(budget.take(at(0)).is_err());
        assert!(budget.take(at(10_021)).is_err(), "the second from 0 to 10 is not earned twice");
    }

    /// Sends pieces for ten seconds from `start`, and returns how many bytes were due by then.
    fn bytes_in_ten_seconds(budget: &mut ByteBudget, start: Duration, piece: u64) -> u64 {
        let (mut now, mut sent) = (start, 0);
        loop {
            now = now.saturating_add(budget.take(piece, Monotonic(now)));
            if now >= start + Duration::from_secs(10) {
                return sent;
            }
            sent += piece;
        }
    }

    #[test]
    fn bytes_keep_to_their_rate_over_any_ten_seconds() {
        for (rate, piece) in [(1_000_000, 65_536), (50_000_000, 65_536), (1000, 1), (100_000, 900)]
        {
            let mut budget = ByteBudget::new(rate, at(0));
            for start in [0, 30, 1000] {
                let start = Duration::from_secs(start);
                let sent = bytes_in_ten_seconds(&mut budget, start, piece);
                let wished = rate * 9 - piece..=rate * 11;
                assert!(wished.contains(&sent), "{sent} bytes at {rate} from {start:?}");
            }
        }
    }

    #[test]
    fn a_rate_of_zero_stops_until_it_is_raised() {
        let mut budget = ByteBudget::new(0, at(0));
        let ticket = budget.reserve(1000, at(0));
        assert_eq!(budget.wait(ticket, at(99_000)), Duration::MAX);
        budget.set_rate(1000, at(100_000));
        assert_eq!(budget.wait(ticket, at(100_000)), Duration::from_secs(1));
        assert_eq!(budget.wait(ticket, at(101_000)), Duration::ZERO);
    }

    #[test]
    fn tickets_come_due_in_order_and_at_the_rate_of_the_day() {
        let mut budget = ByteBudget::new(1000, at(0));
        let first = budget.reserve(1000, at(0));
        let second = budget.reserve(1000, at(0));
        assert_eq!(budget.wait(first, at(0)), Duration::from_secs(1));
        assert_eq!(budget.wait(second, at(0)), Duration::from_secs(2));
        budget.set_rate(4000, at(500));
        assert_eq!(budget.wait(first, at(500)), Duration::from_millis(125));
        assert_eq!(budget.wait(second, at(1_000)), Duration::ZERO);
    }

    /// A working day by the timetable and a virtual clock: each ten seconds have what their rates
    /// allow, also those in which the rate changes, with eight parts that always want to send.
    #[test]
    fn any_ten_seconds_of_a_timetable_are_within_a_tenth() {
        use jiff::civil::{Time, date};
        let time = |hour, minute| Time::constant(hour, minute, 0, 0);
        let slow =
            Period { days: Days::ALL, from: time(0, 1), until: time(0, 3), rate: Some(1_000_000) };
        let stop = Period { from: time(0, 3), until: time(0, 4), rate: Some(0), ..slow };
        let (table, base) = (Timetable::new(vec![slow, stop]), 8_000_000);
        let midnight = date(2026, 11, 20).at(0, 0, 0, 0);
        let rate_at = |second: u64| {
            let at = midnight + jiff::SignedDuration::from_secs(second.cast_signed());
            table.rate_at(at).unwrap_or(Some(base)).expect("limited")
        };
        let piece = 65_536;
        let mut budget = ByteBudget::new(rate_at(0), at(0));
        let mut tickets: Vec<_> = (0..8).map(|_| budget.reserve(piece, at(0))).collect();
        let mut sent = vec![0_u64; 300];
        for millis in 0..300_000 {
            let second = millis / 1000;
            if millis % 60_000 == 0 {
                budget.set_rate(rate_at(second), at(millis));
            }
            for ticket in &mut tickets {
                while budget.wait(*ticket, at(millis)).is_zero() {
                    sent[usize::try_from(second).expect("small")] += piece;
                    *ticket = budget.reserve(piece, at(millis));
                }
            }
        }
        for start in 0..290 {
            let allowed: u64 = (start..start + 10).map(rate_at).sum();
            let from = usize::try_from(start).expect("small");
            let found: u64 = sent[from..from + 10].iter().sum();
            // Eight pieces are in progress at either end of a window.
            let slack = allowed / 10 + 8 * piece;
            assert!(found.abs_diff(allowed) <= slack, "{found} of {allowed} from {start} s");
        }
    }
}

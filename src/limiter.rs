//! Budgets: calls to an API, and bytes a second. Pure: time comes in, the wait is the caller's.
//!
//! The call budget is shared by all destinations of one credential, for the platform counts them
//! together. It follows the limit that the platform announces, stays a quarter below it, slows down
//! when little is left, and stops altogether when told to.

use std::time::Duration;

use crate::model::Monotonic;

/// The window over which Seven Bridges counts calls.
const WINDOW: Duration = Duration::from_mins(5);
/// The pause after a 429 that says nothing.
const PAUSE_DEFAULT: Duration = WINDOW;
/// No announced pause is believed beyond this.
const PAUSE_MAX: Duration = Duration::from_secs(330);
/// Below this many calls left in the window, the rest are spread over what is left of it.
const REMAINING_LOW: u64 = 50;

/// Calls that may be made.
#[derive(Debug)]
pub struct CallBudget {
    per_second: f64,
    burst: f64,
    available: f64,
    counted_at: Monotonic,
    paused_until: Option<Monotonic>,
    fixed: bool,
}

impl CallBudget {
    /// Starts with the vendor's documented limit in mind, or with a fixed rate.
    pub fn new(calls_per_second: Option<f64>, now: Monotonic) -> Self {
        let per_second = calls_per_second.unwrap_or(2.5).max(0.01);
        let burst = (per_second * 20.0).max(1.0);
        Self {
            per_second,
            burst,
            available: burst,
            counted_at: now,
            paused_until: None,
            fixed: calls_per_second.is_some(),
        }
    }

    /// Takes one call, or says when to ask again.
    ///
    /// # Errors
    /// The moment at which a call may be free.
    pub fn take(&mut self, now: Monotonic) -> Result<(), Monotonic> {
        if let Some(until) = self.paused_until.filter(|until| *until > now) {
            return Err(until);
        }
        self.paused_until = None;
        let earned = now.since(self.counted_at).as_secs_f64() * self.per_second;
        self.available = (self.available + earned).min(self.burst);
        self.counted_at = now;
        if self.available >= 1.0 {
            self.available -= 1.0;
            return Ok(());
        }
        Err(now.after(Duration::from_secs_f64((1.0 - self.available) / self.per_second)))
    }

    /// Follows what the platform announces: the limit, and how many calls are left of it.
    pub fn announced(&mut self, limit: u64, remaining: Option<u64>, now: Monotonic) {
        if !self.fixed && limit > 0 {
            #[expect(clippy::cast_precision_loss, reason = "limits are small numbers")]
            let limit = limit as f64;
            self.per_second = (0.75 * limit / WINDOW.as_secs_f64()).max(0.01);
            self.burst = (limit / 20.0).max(1.0);
        }
        if remaining.is_some_and(|left| left < REMAINING_LOW) {
            self.available = self.available.min(0.0);
            self.counted_at = now;
        }
    }

    /// Stops all calls: the platform refused one. `pause` is what it asked for.
    pub fn refused(
        &mut self,
        pause: Option<Duration>,
        jitter: Duration,
        now: Monotonic,
    ) -> Duration {
        let pause =
            pause.unwrap_or(PAUSE_DEFAULT).clamp(Duration::from_secs(1), PAUSE_MAX) + jitter;
        let until = now.after(pause);
        self.paused_until = Some(self.paused_until.map_or(until, |set| set.max(until)));
        self.available = self.available.min(1.0);
        pause
    }
}

/// Bytes that may be sent.
#[derive(Debug)]
pub struct ByteBudget {
    per_second: u64,
    available: i128,
    counted_at: Monotonic,
}

/// The most that is saved up while nothing is sent, as time.
const SAVED_MAX: Duration = Duration::from_millis(500);

impl ByteBudget {
    /// Starts empty. Zero stops everything.
    pub fn new(per_second: u64, now: Monotonic) -> Self {
        Self { per_second, available: 0, counted_at: now }
    }

    /// Takes the bytes at once and says how long to wait before sending them.
    pub fn take(&mut self, bytes: u64, now: Monotonic) -> Duration {
        let nanos = i128::try_from(now.since(self.counted_at).as_nanos()).unwrap_or(i128::MAX);
        let saved_max =
            i128::from(self.per_second) * SAVED_MAX.as_nanos().cast_signed() / 1_000_000_000;
        let earned = nanos.saturating_mul(i128::from(self.per_second)) / 1_000_000_000;
        self.available = self.available.saturating_add(earned).min(saved_max);
        self.counted_at = now;
        self.available -= i128::from(bytes);
        if self.available >= 0 {
            return Duration::ZERO;
        }
        match self.per_second {
            0 => Duration::MAX,
            rate => {
                let nanos = self.available.unsigned_abs() * 1_000_000_000 / u128::from(rate);
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic(Duration::from_millis(millis))
    }

    fn calls_in(budget: &mut CallBudget, from: u64, until: u64) -> usize {
        (from..until).filter(|millis| budget.take(at(*millis)).is_ok()).count()
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
        budget.announced(1_000_000, Some(999_000), at(0));
        assert!(calls_in(&mut budget, 0, 1_000) >= 999);
    }

    #[test]
    fn a_refusal_stops_all_calls_for_as_long_as_asked() {
        let mut budget = CallBudget::new(None, at(0));
        budget.refused(Some(Duration::from_secs(60)), Duration::from_secs(1), at(0));
        assert_eq!(budget.take(at(1)), Err(at(61_000)));
        assert_eq!(budget.take(at(61_000)), Ok(()));
        let pause = budget.refused(Some(Duration::from_hours(9)), Duration::ZERO, at(61_000));
        assert_eq!(pause, PAUSE_MAX, "no pause is believed beyond the window");
    }

    #[test]
    fn bytes_keep_to_their_rate_over_any_ten_seconds() {
        let mut budget = ByteBudget::new(1_000_000, at(0));
        let (mut now, mut sent) = (Duration::ZERO, 0_u64);
        while now < Duration::from_secs(10) {
            now += budget.take(65_536, Monotonic(now));
            sent += 65_536;
        }
        assert!((9_000_000..=11_000_000).contains(&sent), "{sent} bytes in ten seconds");
    }

    #[test]
    fn a_rate_of_zero_stops() {
        assert_eq!(ByteBudget::new(0, at(0)).take(1, at(99)), Duration::MAX);
    }
}

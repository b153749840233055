//! The one place that reads time and randomness.
//!
//! Owns the two clocks of the process: a monotonic one for intervals and deadlines, counted from
//! the creation of the [`Clock`], and the wall clock for stored and shown times. It promises that
//! the monotonic part never goes back and that both parts of a [`Now`] are read together.
//!
//! It must never sleep or wake a task: waiting is the shell's business.
//!
//! A crash loses nothing, because nothing is kept: monotonic moments have no meaning in the next
//! process and are never stored.
//!
//! The daemon creates one real clock and clones it; tests create a manual one and move it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::{Monotonic, Now, WallTime};

/// Reads the time, or returns the one it was set to. Clones share the same time.
#[derive(Debug, Clone)]
pub struct Clock(Arc<ClockKind>);

#[derive(Debug)]
enum ClockKind {
    Real { origin: Instant },
    Manual { now: Mutex<Now>, seed: u64 },
}

impl Clock {
    /// Returns the clock of this machine; its monotonic part starts at zero.
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the clocks")]
    pub fn real() -> Self {
        Self(Arc::new(ClockKind::Real { origin: Instant::now() }))
    }

    /// Returns a clock that stays at `wall` until it is moved, and always gives `seed`.
    pub fn manual(wall: WallTime, seed: u64) -> Self {
        let now = Now { monotonic: Monotonic(Duration::ZERO), wall };
        Self(Arc::new(ClockKind::Manual { now: Mutex::new(now), seed }))
    }

    /// Returns the present moment on both clocks.
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the clocks")]
    pub fn now(&self) -> Now {
        match &*self.0 {
            ClockKind::Real { origin } => {
                Now { monotonic: Monotonic(origin.elapsed()), wall: wall_time(SystemTime::now()) }
            }
            ClockKind::Manual { now, .. } => *now.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Returns the present wall-clock time in the system's time zone.
    pub fn local_now(&self) -> jiff::civil::DateTime {
        self.local_at(self.now().wall)
    }

    /// Returns the wall-clock time of a moment in the system's time zone.
    pub fn local_at(&self, at: WallTime) -> jiff::civil::DateTime {
        let at = jiff::Timestamp::from_nanosecond(i128::from(at.0));
        at.unwrap_or_default().to_zoned_datetime(jiff::tz::TimeZone::system()).datetime()
    }

    /// Returns a moment for people: to the second, in the system's time zone, with its name.
    pub fn local_text(&self, at: WallTime) -> String {
        let at = jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or_default();
        let at = at.to_zoned_datetime(jiff::tz::TimeZone::system());
        at.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
    }

    /// Returns the local time and the name of the time zone.
    ///
    /// # Errors
    /// When the time zone in `TZ` is not known: then local time is UTC.
    pub fn local_shown(&self) -> Result<String, String> {
        let asked = std::env::var("TZ").unwrap_or_default();
        let zone = jiff::tz::TimeZone::try_system();
        if zone.is_err() && !asked.is_empty() {
            return Err(format!(
                "TZ = {asked:?} is no time zone that is known here: it is taken for UTC"
            ));
        }
        let zone = zone.unwrap_or(jiff::tz::TimeZone::UTC);
        let time = self.local_now().strftime("%H:%M");
        Ok(format!("{time} {}", zone.iana_name().unwrap_or("by /etc/localtime")))
    }

    /// Returns an unpredictable number, for jitter and request ids; not for secrets.
    pub fn seed(&self) -> u64 {
        match &*self.0 {
            // Each `RandomState` has keys from the operating system's generator.
            ClockKind::Real { .. } => RandomState::new().build_hasher().finish(),
            ClockKind::Manual { seed, .. } => *seed,
        }
    }

    /// Moves a manual clock forward, both parts alike. Has no effect on a real clock.
    pub fn advance(&self, by: Duration) {
        self.set(|now| Now { monotonic: now.monotonic.after(by), wall: now.wall.after(by) });
    }

    /// Sets the wall part of a manual clock, also backwards. Has no effect on a real clock.
    pub fn set_wall(&self, wall: WallTime) {
        self.set(|now| Now { wall, ..now });
    }

    fn set(&self, change: impl FnOnce(Now) -> Now) {
        if let ClockKind::Manual { now, .. } = &*self.0 {
            let mut now = now.lock().unwrap_or_else(PoisonError::into_inner);
            *now = change(*now);
        }
    }
}

/// Converts a system time to nanoseconds since 1970, clamped to the range.
pub(crate) fn wall_time(time: SystemTime) -> WallTime {
    let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => WallTime(nanos(after)),
        Err(before) => WallTime(-nanos(before.duration())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_stands_until_moved_and_clones_share_it() {
        let clock = Clock::manual(WallTime(1_000), 7);
        let clone = clock.clone();
        assert_eq!(clock.now(), clone.now());
        clone.advance(Duration::from_nanos(50));
        assert_eq!(clock.now().wall, WallTime(1_050));
        assert_eq!(clock.now().monotonic, Monotonic(Duration::from_nanos(50)));
        assert_eq!(clock.seed(), 7);
    }

    #[test]
    fn wall_set_back_leaves_the_monotonic_part() {
        let clock = Clock::manual(WallTime(1_000), 0);
        clock.advance(Duration::from_secs(1));
        clock.set_wall(WallTime(-5));
        assert_eq!(clock.now().wall, WallTime(-5));
        assert_eq!(clock.now().monotonic, Monotonic(Duration::from_secs(1)));
    }

    #[test]
    fn real_clock_goes_on_and_takes_no_orders() {
        let clock = Clock::real();
        let before = clock.now();
        clock.advance(Duration::from_secs(1_000_000));
        clock.set_wall(WallTime(0));
        let after = clock.now();
        assert!(after.monotonic >= before.monotonic);
        assert!(after.monotonic.since(before.monotonic) < Duration::from_secs(1_000));
        assert!(after.wall > WallTime(1_500_000_000_000_000_000), "the year is past 2017");
    }

    #[test]
    fn seeds_differ() {
        let clock = Clock::real();
        assert_ne!(clock.seed(), clock.seed());
    }

    #[test]
    fn times_before_1970_are_negative() {
        assert_eq!(wall_time(UNIX_EPOCH - Duration::from_nanos(3)), WallTime(-3));
        assert_eq!(wall_time(UNIX_EPOCH), WallTime(0));
    }
}

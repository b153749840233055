//! This machine's clock: whether it was set while the daemon ran. Its difference from the
//! destinations' clocks is reported with them.

use std::time::Duration;

use super::lines::Checks;
use crate::cli::render;
use crate::clock::Clock;
use crate::model::WallTime;
use crate::store::snapshot::Status;

/// A smaller change is normal clock discipline.
const JUMP_MIN: Duration = Duration::from_secs(60);
/// The kernel's ticks per second, on every architecture that Linux still runs on.
const TICKS_PER_SECOND: u64 = 100;

pub(super) fn check(status: Option<&Status>, clock: &Clock) -> Checks {
    let mut checks = Checks::of("clock");
    let Some(daemon) = status.and_then(|status| status.process.daemon.as_ref()) else {
        return checks;
    };
    let now = clock.now().wall;
    let cure = "keep the clock right by itself: timedatectl set-ntp true";
    if now.until(daemon.started_at) > JUMP_MIN {
        let ahead = render::duration(now.until(daemon.started_at).as_secs());
        let found = format!("the daemon started {ahead} from now: the clock was set back");
        checks.warn("here", found, cure);
        return checks;
    }
    let is_running = status.is_some_and(|status| status.process.is_running);
    let age = is_running.then(|| age_of(daemon.pid)).flatten();
    let Some(age) = age else {
        checks.ok("here", "nothing says that it was set");
        return checks;
    };
    match moved(daemon.started_at, now, age) {
        Some((by, way)) => {
            let by = render::duration(by.as_secs());
            checks.warn("here", format!("it was set {way} by {by} since the daemon started"), cure);
        }
        None => checks.ok("here", "it was not set since the daemon started"),
    }
    checks
}

/// The time zone, which a timetable uses.
pub(super) fn zone(clock: &Clock) -> Checks {
    let mut checks = Checks::of("clock");
    match clock.local_shown() {
        Ok(shown) => checks.ok("zone", format!("local time is {shown}")),
        Err(why) => checks.warn("zone", why, ZONE_CURE),
    }
    checks
}

/// How to correct a time zone.
pub(in crate::cli) const ZONE_CURE: &str =
    "set TZ to a name that timedatectl list-timezones shows, or leave it out";

/// How much, and in which direction, the clock was set since a process of that age recorded its start.
fn moved(started: WallTime, now: WallTime, age: Duration) -> Option<(Duration, &'static str)> {
    // The start by the present clock.
    let born = WallTime(now.0.saturating_sub(i64::try_from(age.as_nanos()).ok()?));
    let (forward, back) = (started.until(born), born.until(started));
    if forward > JUMP_MIN {
        Some((forward, "forward"))
    } else if back > JUMP_MIN {
        Some((back, "back"))
    } else {
        None
    }
}

/// Returns the age of a process, by a clock that cannot be set.
fn age_of(pid: u32) -> Option<Duration> {
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may contain anything, and ends with the last parenthesis.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let born = Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
    Some(Duration::try_from_secs_f64(uptime).ok()?.saturating_sub(born))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_told_from_one_that_was_not() {
        let at = |seconds: i64| WallTime(seconds * 1_000_000_000);
        let age = Duration::from_secs(500);
        assert_eq!(moved(at(1000), at(1501), age), None);
        let hour = Duration::from_secs(3600);
        assert_eq!(moved(at(1000), at(1500 + 3600), age), Some((hour, "forward")));
        assert_eq!(moved(at(5000), at(1900), age), Some((Duration::from_secs(3600), "back")));
    }

    #[test]
    fn this_process_is_not_old() {
        let age = age_of(std::process::id()).expect("there is a /proc");
        assert!(age < Duration::from_secs(24 * 3600), "{age:?}");
    }
}

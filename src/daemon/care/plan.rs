//! When the database is copied, checked and tidied: a pure decision.
//!
//! Earlier jobs are known by wall-clock time only, and that clock may have been set since: a job in
//! the future was recorded by a wrong clock and is due again; one long ago is due once. After the
//! start only the monotonic clock counts. So no change of the clock delays anything for long, and
//! none runs a job twice in a row.

use std::time::Duration;

use crate::config;
use crate::model::{Monotonic, Now, WallTime};
use crate::store::care::Cared;

/// No job runs sooner after a start, which has other work.
const AFTER_START: Duration = Duration::from_mins(1);
/// Delay after a failure, unless the job is due earlier anyway.
const AFTER_FAILURE: Duration = Duration::from_hours(1);
/// Nothing may have been sent for this long before idle work begins.
const IDLE_MIN: Duration = Duration::from_secs(1);
/// Interval of tidying: a tenth of the time that parts are kept, within these bounds.
const TIDY_MIN: Duration = Duration::from_secs(1);
const TIDY_MAX: Duration = Duration::from_hours(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CareJob {
    /// Copies the database, whatever else happens.
    Backup,
    /// Removes old rows, and returns free space; while idle.
    Tidy,
    /// Checks the database; while idle.
    Check,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    every: Option<Duration>,
    at: Monotonic,
}

impl Due {
    fn new(every: Option<Duration>, last: Option<WallTime>, now: Now) -> Self {
        let interval = every.unwrap_or_default();
        let wait = match last {
            Some(last) if last <= now.wall => interval.saturating_sub(last.until(now.wall)),
            Some(_) | None => Duration::ZERO,
        };
        Self { every, at: now.monotonic.after(wait.max(interval.min(AFTER_START))) }
    }

    fn deadline(&self) -> Option<Monotonic> {
        self.every.map(|_| self.at)
    }

    fn ended(&mut self, is_done: bool, now: Monotonic) {
        let every = self.every.unwrap_or_default();
        self.at = now.after(if is_done { every } else { every.min(AFTER_FAILURE) });
    }

    fn configure(&mut self, every: Option<Duration>, now: Monotonic) {
        let wait = every.unwrap_or_default();
        self.at = match self.every {
            Some(before) => Monotonic((self.at.0 + wait).saturating_sub(before)),
            None => now.after(wait),
        };
        self.every = every;
    }
}

/// Returns the present time, unless the clock was set forward since the start: then the time it
/// would show. Old rows are removed by this time, and a removal cannot be undone.
pub(super) fn present(started: Now, now: Now) -> WallTime {
    let lived = now.monotonic.since(started.monotonic);
    now.wall.min(started.wall.after(lived))
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    backup: Due,
    tidy: Due,
    check: Due,
}

fn tidy_interval(config: &config::Care) -> Option<Duration> {
    let keep = config.keep_parts.unwrap_or(Duration::MAX);
    Some((keep / 10).clamp(TIDY_MIN, TIDY_MAX))
}

impl Plan {
    /// Starts with the history of earlier processes.
    pub(super) fn new(config: &config::Care, cared: &Cared, now: Now) -> Self {
        Self {
            backup: Due::new(config.backup_interval, cared.backup_at, now),
            tidy: Due::new(tidy_interval(config), None, now),
            // A damaged ledger may have been restored while the daemon was down.
            check: Due::new(
                config.check_interval,
                cared.checked_at.filter(|_| !cared.has_damaged_ledger),
                now,
            ),
        }
    }

    pub(super) fn configure(&mut self, config: &config::Care, now: Monotonic) {
        self.backup.configure(config.backup_interval, now);
        self.tidy.configure(tidy_interval(config), now);
        self.check.configure(config.check_interval, now);
    }

    /// Returns the next job and its time, if nothing has been sent since `idle_since`.
    pub(super) fn next(&self, idle_since: Option<Monotonic>) -> Option<(Monotonic, CareJob)> {
        let idle = idle_since.map(|since| since.after(IDLE_MIN));
        let when_idle = |due: &Due| Some(due.deadline()?.max(idle?));
        let jobs = [
            self.backup.deadline().map(|at| (at, CareJob::Backup)),
            when_idle(&self.tidy).map(|at| (at, CareJob::Tidy)),
            when_idle(&self.check).map(|at| (at, CareJob::Check)),
        ];
        jobs.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Records that a job succeeded, or failed.
    pub(super) fn ended(&mut self, job: CareJob, is_done: bool, now: Monotonic) {
        match job {
            CareJob::Backup => self.backup.ended(is_done, now),
            CareJob::Tidy => self.tidy.ended(is_done, now),
            CareJob::Check => self.check.ended(is_done, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);
    const START: Now = Now { monotonic: Monotonic(DAY), wall: WallTime(1_800_000_000_000_000_000) };

    fn config() -> config::Care {
        config::Care {
            keep_parts: Some(90 * DAY),
            backup_interval: Some(DAY),
            backups_kept: 7,
            check_interval: Some(7 * DAY),
        }
    }

    #[test]
    fn a_copy_is_due_by_when_it_was_last_made_however_the_clock_was_set() {
        let hours = |hours: i64| WallTime(START.wall.0 - hours * 3_600_000_000_000);
        let table = [
            (None, AFTER_START),
            (Some(hours(0)), DAY),
            (Some(hours(18)), DAY / 4),
            (Some(hours(24)), AFTER_START),
            (Some(hours(24 * 365)), AFTER_START),
            // The clock was set back: by an hour, by a year.
            (Some(hours(-1)), AFTER_START),
            (Some(hours(-24 * 365)), AFTER_START),
        ];
        for (last, wait) in table {
            let cared = Cared { backup_at: last, ..Cared::default() };
            let plan = Plan::new(&config(), &cared, START);
            let due = START.monotonic.after(wait);
            assert_eq!(plan.next(None), Some((due, CareJob::Backup)), "{last:?}");
        }
    }

    #[test]
    fn what_was_done_is_due_again_after_its_interval_and_what_failed_within_the_hour() {
        let mut plan = Plan::new(&config(), &Cared::default(), START);
        plan.ended(CareJob::Backup, true, START.monotonic);
        assert_eq!(plan.next(None), Some((START.monotonic.after(DAY), CareJob::Backup)));
        plan.ended(CareJob::Backup, false, START.monotonic);
        let soon = START.monotonic.after(AFTER_FAILURE);
        assert_eq!(plan.next(None), Some((soon, CareJob::Backup)));
    }

    #[test]
    fn idle_work_waits_until_nothing_was_sent_for_a_while() {
        let never = config::Care { backup_interval: None, ..config() };
        let mut plan = Plan::new(&never, &Cared::default(), START);
        assert_eq!(plan.next(None), None);
        let late = START.monotonic.after(DAY);
        let begin = late.after(IDLE_MIN);
        assert_eq!(plan.next(Some(late)), Some((begin, CareJob::Tidy)));
        plan.ended(CareJob::Tidy, true, begin);
        assert_eq!(plan.next(Some(late)), Some((begin, CareJob::Check)));
        plan.ended(CareJob::Check, true, begin);
        assert_eq!(plan.next(Some(late)), Some((begin.after(TIDY_MAX), CareJob::Tidy)));
    }

    #[test]
    fn a_clock_set_forward_makes_nothing_old() {
        let lived = Duration::from_hours(3);
        for (set, shown) in [(0, 0), (24 * 365, 0), (-2, -2)] {
            let at = |hours: i64| WallTime(START.wall.after(lived).0 + hours * 3_600_000_000_000);
            let now = Now { monotonic: START.monotonic.after(lived), wall: at(set) };
            assert_eq!(present(START, now), at(shown), "{set}");
        }
    }

    #[test]
    fn another_interval_counts_from_the_last_time() {
        let mut plan = Plan::new(&config(), &Cared::default(), START);
        plan.ended(CareJob::Backup, true, START.monotonic);
        let hourly = config::Care { backup_interval: Some(DAY / 24), ..config() };
        plan.configure(&hourly, START.monotonic);
        assert_eq!(plan.next(None), Some((START.monotonic.after(DAY / 24), CareJob::Backup)));
        plan.configure(&config::Care { backup_interval: None, ..config() }, START.monotonic);
        assert_eq!(plan.next(None), None);
        plan.configure(&config(), START.monotonic);
        assert_eq!(plan.next(None), Some((START.monotonic.after(DAY), CareJob::Backup)));
    }

    #[test]
    fn what_is_kept_for_a_short_time_is_looked_at_more_often() {
        let interval = |keep_parts| tidy_interval(&config::Care { keep_parts, ..config() });
        assert_eq!(interval(None), Some(TIDY_MAX));
        assert_eq!(interval(Some(Duration::from_mins(1))), Some(Duration::from_secs(6)));
        assert_eq!(interval(Some(Duration::from_millis(10))), Some(TIDY_MIN));
    }
}

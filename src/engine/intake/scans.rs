//! When a drop directory is scanned, and which runs a scan leaves out.

use std::time::Duration;

use crate::engine::event::ActId;
use crate::model::Monotonic;

/// A completed run is at rest this many scan intervals after its last change, and a full scan
/// follows this many after the last one: at the default of five minutes, an hour.
const REST_INTERVALS: u32 = 12;
/// Pause after a scan during which another one was requested.
const SCAN_AGAIN_PAUSE: Duration = Duration::from_secs(1);

/// The scans of one drop directory.
#[derive(Debug)]
pub(super) struct ScanSchedule {
    scan: Scan,
    /// The next scan leaves out nothing.
    must_be_full: bool,
    /// When the last full scan began.
    full_at: Option<Monotonic>,
}

#[derive(Debug, Clone, Copy)]
enum Scan {
    Due(Monotonic),
    Running(RunningScan),
}

/// A scan under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunningScan {
    act: ActId,
    pub(super) started: Monotonic,
    /// It leaves out nothing.
    pub(super) is_full: bool,
    /// Its observations do not count: it is not known what was sent.
    pub(super) is_void: bool,
    /// Another scan was requested meanwhile.
    again: bool,
    /// Another scan is wanted by this time.
    wanted_at: Option<Monotonic>,
}

impl ScanSchedule {
    pub(super) fn new(now: Monotonic) -> Self {
        Self { scan: Scan::Due(now), must_be_full: false, full_at: None }
    }

    /// Returns when a scan is due, unless one is running.
    pub(super) fn due(&self) -> Option<Monotonic> {
        match self.scan {
            Scan::Due(at) => Some(at),
            Scan::Running(_) => None,
        }
    }

    /// Returns whether a scan is running whose observations do not count.
    pub(super) fn is_void(&self) -> bool {
        matches!(self.scan, Scan::Running(running) if running.is_void)
    }

    /// Returns the running scan if this is its act.
    pub(super) fn running(&self, act: ActId) -> Option<RunningScan> {
        match self.scan {
            Scan::Running(running) if running.act == act => Some(running),
            Scan::Running(_) | Scan::Due(_) => None,
        }
    }

    /// Requests a full scan at once.
    pub(super) fn ask(&mut self, now: Monotonic) {
        self.must_be_full = true;
        match &mut self.scan {
            Scan::Due(at) => *at = now,
            Scan::Running(running) => running.again = true,
        }
    }

    /// Requests a scan at this time at the latest; but never without a pause after the last.
    pub(super) fn want(&mut self, at: Monotonic) {
        match &mut self.scan {
            Scan::Due(due) => *due = at.min(*due),
            Scan::Running(running) => {
                running.wanted_at = Some(running.wanted_at.map_or(at, |wanted| wanted.min(at)));
            }
        }
    }

    /// Discards the observations of the running scan.
    pub(super) fn discard(&mut self) {
        if let Scan::Running(running) = &mut self.scan {
            running.is_void = true;
        }
    }

    /// Returns since when a run must be at rest to be left out by a scan that begins now; `None`
    /// when the scan is full.
    pub(super) fn rest_since(&mut self, interval: Duration, now: Monotonic) -> Option<Monotonic> {
        let rest = interval.saturating_mul(REST_INTERVALS);
        let is_due = self.full_at.is_none_or(|at| now.since(at) >= rest);
        let is_full = std::mem::take(&mut self.must_be_full) || is_due;
        let since = Monotonic(now.0.saturating_sub(rest));
        (!is_full && now.0 >= rest).then_some(since)
    }

    pub(super) fn begin(&mut self, act: ActId, is_full: bool, now: Monotonic) {
        if is_full {
            self.full_at = Some(now);
        }
        self.scan = Scan::Running(RunningScan {
            act,
            started: now,
            is_full,
            is_void: false,
            again: false,
            wanted_at: None,
        });
    }

    /// Ends the running scan; the next one follows after `pause`, or sooner when it was requested.
    pub(super) fn end(&mut self, pause: Duration, quiet_period: Duration, now: Monotonic) {
        let Scan::Running(running) = self.scan else { return };
        self.must_be_full |= running.is_void;
        let pause = if running.again || running.is_void { SCAN_AGAIN_PAUSE } else { pause };
        let regular = now.after(pause);
        let soonest = now.after(quiet_period.min(pause));
        let due = running.wanted_at.map_or(regular, |wanted| wanted.max(soonest).min(regular));
        self.scan = Scan::Due(due);
    }
}

//! The width: how many parts are in flight to one destination, where the configuration gives no number.
//!
//! It is found by trial. The traffic in a window of some seconds is compared with that before the
//! width was changed: more parts stay when they bring a sixth of what they could, fewer stay when
//! they cost next to nothing. Fewer are tried where parts are slow, because each lost one is
//! expensive there: on a bad line the width is the smallest that is about as fast as any, down to
//! one part. At the start each trial doubles, afterwards it adds a quarter, and unsuccessful trials
//! become rare. Trouble on the line halves the width, once for all parts that were in flight
//! together. Parts that the platform refuses lower it by one each ([`super::ease`]).
//!
//! *Not misled* by an idle queue, since a window with fewer parts than the width proves nothing; by
//! a bandwidth limit, since more parts bring nothing under it and [`Width::restart`] starts the
//! search again when it is lifted; by small files, since parts are counted besides bytes.
//!
//! *A crash* resets it, and it is found again in seconds. A destination's gate owns one.

use std::time::Duration;

use super::ease::Ease;
use crate::engine::settings::WIDTH_MAX;
use crate::model::{FailureKind, Monotonic};

/// One part shows nothing about two; many would delay each other for minutes on a slow line.
const WIDTH_START: u32 = 2;
/// At the start, parts that end at once justify one more, up to this many.
const EASY_MAX: u32 = 8;
/// A part that took no longer counts as ended at once.
const EASY_TIME: Duration = Duration::from_secs(4);
/// After a change connections fill their buffers: the traffic then is no measure.
const SETTLE: Duration = Duration::from_millis(500);
/// Shortest window.
const WINDOW_MIN: Duration = Duration::from_millis(1500);
/// Longest window with a quarter of [`WINDOW_BYTES`].
const WINDOW_ENOUGH: Duration = Duration::from_secs(8);
/// Longest window with any traffic.
const WINDOW_MAX: Duration = Duration::from_secs(20);
/// Bytes for each part of the width that end a window: many times the counted pieces.
const WINDOW_BYTES: u64 = 1024 * 1024;
/// A part with a higher rate is cheap to lose: no smaller width is tried.
const SLOW: u64 = 2 * 1024 * 1024;
/// Parts in a window that suffice to compare parts per second.
const PARTS_MIN: u64 = 20;
/// Pause after an unsuccessful trial; doubled each time.
const HOLD_MIN: Duration = Duration::from_secs(10);
/// Longest pause: lines change within minutes.
const HOLD_MAX: Duration = Duration::from_secs(160);

#[derive(Debug, Clone)]
pub(crate) struct Width {
    width: u32,
    traffic: Traffic,
    /// Since when the width is unchanged, with parts in flight.
    steady_since: Monotonic,
    window: Option<Mark>,
    /// No trial has been unsuccessful.
    is_young: bool,
    trial: Option<Trial>,
    goes_down: bool,
    pause: TrialPause,
    /// Parts up to this one were in flight when the width was last halved.
    halved_for: u64,
    found: Option<Goodput>,
    speed: Option<u64>,
    ease: Ease,
}

/// Parts in flight, now and in the past.
#[derive(Debug, Clone)]
struct Traffic {
    flying: u32,
    /// Sum of the times that parts were in flight, up to `counted_to`.
    flown: Duration,
    counted_to: Monotonic,
    taken_off_count: u64,
    landed_count: u64,
}

/// When another width may be tried.
#[derive(Debug, Clone)]
struct TrialPause {
    until: Monotonic,
    next: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Monotonic,
    sent: u64,
    landed_count: u64,
    flown: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    from: u32,
    base: Goodput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Goodput {
    bytes_per_second: u64,
    /// Parts in a thousand seconds; `None` where too few ended to tell.
    parts: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flown {
    number: u64,
    since: Monotonic,
}

/// How a part ended, as far as the line is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Landing {
    Arrived,
    /// The line failed.
    Trouble,
    /// The platform or something else failed.
    Failed(FailureKind),
}

impl Landing {
    /// Returns what a failure of this kind shows about the line.
    pub(crate) fn of_failure(kind: FailureKind) -> Self {
        use FailureKind::{Broken, TimedOut, Unreachable};
        match matches!(kind, TimedOut | Unreachable | Broken) {
            true => Self::Trouble,
            false => Self::Failed(kind),
        }
    }
}

impl Width {
    pub(crate) fn new() -> Self {
        let zero = Monotonic(Duration::ZERO);
        Self {
            width: WIDTH_START,
            traffic: Traffic {
                flying: 0,
                flown: Duration::ZERO,
                counted_to: zero,
                taken_off_count: 0,
                landed_count: 0,
            },
            steady_since: zero,
            window: None,
            is_young: true,
            trial: None,
            goes_down: false,
            pause: TrialPause { until: zero, next: HOLD_MIN },
            halved_for: 0,
            found: None,
            speed: None,
            ease: Ease::default(),
        }
    }

    pub(crate) fn get(&self) -> u32 {
        self.width.min(self.ease.most())
    }

    /// Returns how many parts the platform accepts without refusing some, whatever the width is.
    pub(crate) fn most(&self) -> u32 {
        self.ease.most()
    }

    pub(crate) fn flying(&self) -> u32 {
        self.traffic.flying
    }

    /// Returns the bytes per second of one part, once that is known.
    pub(crate) fn speed(&self) -> Option<u64> {
        self.speed
    }

    pub(crate) fn take_off(&mut self, now: Monotonic) -> Flown {
        // The moment between two parts is no pause.
        if self.traffic.flying == 0 && now.since(self.traffic.counted_to) >= SETTLE {
            self.settle(now);
        }
        self.traffic.count(now);
        self.traffic.flying += 1;
        self.traffic.taken_off_count += 1;
        Flown { number: self.traffic.taken_off_count, since: now }
    }

    pub(crate) fn land(&mut self, part: Flown, how: Landing, now: Monotonic) {
        self.traffic.count(now);
        let failed = if let Landing::Failed(kind) = how { Some(kind) } else { None };
        if how != Landing::Trouble {
            self.ease.landed(failed, self.traffic.flying);
        }
        self.traffic.flying = self.traffic.flying.saturating_sub(1);
        match how {
            Landing::Arrived => {
                self.traffic.landed_count += 1;
                let is_easy = self.is_young && self.trial.is_none() && self.width < EASY_MAX;
                if is_easy
                    && now.since(part.since) <= EASY_TIME
                    && self.traffic.flying + 1 >= self.width
                {
                    self.change(self.width + 1, now);
                }
            }
            Landing::Trouble => self.halve(part, now),
            Landing::Failed(_) => {}
        }
    }

    /// Updates the bytes sent since the start of the process.
    pub(crate) fn tick(&mut self, sent: u64, now: Monotonic) {
        self.traffic.count(now);
        // Until enough have ended, a narrowed width has no effect to measure.
        if self.traffic.flying > self.width {
            return self.settle(now);
        }
        if self.traffic.flying == 0 {
            return;
        }
        let Some(mark) = self.window else {
            if now.since(self.steady_since) >= SETTLE {
                self.open_window(sent, now);
            }
            return;
        };
        let (lasted, bytes) = (now.since(mark.at), sent.saturating_sub(mark.sent));
        let landed_count = self.traffic.landed_count - mark.landed_count;
        let full = WINDOW_BYTES * u64::from(self.width);
        let enough = match (bytes >= full || landed_count >= PARTS_MIN, bytes >= full / 4) {
            (true, _) => WINDOW_MIN,
            (false, true) => WINDOW_ENOUGH,
            (false, false) => WINDOW_MAX,
        };
        if lasted < enough || bytes == 0 {
            return;
        }
        let flown = self.traffic.flown.saturating_sub(mark.flown);
        self.learn_speed(bytes, landed_count, flown);
        let parts = (landed_count >= PARTS_MIN).then(|| per_second(landed_count * 1000, lasted));
        let found = Goodput { bytes_per_second: per_second(bytes, lasted), parts };
        self.found = Some(found);
        self.open_window(sent, now);
        // Fewer parts were in flight than the width allows: nothing is known about the width.
        match flown.as_millis() * 5 < lasted.as_millis() * u128::from(self.width) * 4 {
            true => self.go_without(now),
            false => self.judge(found, now),
        }
    }

    /// A limit of the line may be gone: the search begins again from here.
    pub(crate) fn restart(&mut self, now: Monotonic) {
        self.give_up_trial(now);
        self.is_young = true;
        self.goes_down = false;
        self.pause.reset(now);
        self.settle(now);
    }

    fn open_window(&mut self, sent: u64, now: Monotonic) {
        let (landed_count, flown) = (self.traffic.landed_count, self.traffic.flown);
        self.window = Some(Mark { at: now, sent, landed_count, flown });
    }

    fn settle(&mut self, now: Monotonic) {
        self.steady_since = now;
        self.window = None;
    }

    fn change(&mut self, width: u32, now: Monotonic) {
        let width = width.clamp(1, WIDTH_MAX);
        if width != self.width {
            self.width = width;
            self.settle(now);
        }
    }

    /// Ignores parts that were in flight when the width was last halved.
    fn halve(&mut self, part: Flown, now: Monotonic) {
        if part.number <= self.halved_for {
            return;
        }
        self.halved_for = self.traffic.taken_off_count;
        let from = self.trial.take().map_or(self.width, |trial| trial.from.min(self.width));
        self.is_young = false;
        self.goes_down = false;
        self.pause.reset(now.after(HOLD_MIN));
        self.change(from / 2, now);
    }

    /// Small parts show round trips rather than the line's rate.
    fn learn_speed(&mut self, bytes: u64, landed_count: u64, flown: Duration) {
        let is_large = bytes >= landed_count.max(1) * (WINDOW_BYTES / 4);
        if is_large && flown >= WINDOW_MIN {
            let speed = per_second(bytes, flown);
            self.speed = Some(self.speed.map_or(speed, |old| old / 2 + speed / 2));
        }
    }

    fn judge(&mut self, found: Goodput, now: Monotonic) {
        match self.trial.take() {
            None => self.go_on(found, now),
            Some(trial) if self.width > trial.from => match trial.gains(found, self.width) {
                true => self.win(found, now),
                false => self.lose(trial, now),
            },
            Some(trial) => match trial.keeps(found, self.width) {
                true => self.win(found.best(trial.base), now),
                false => self.lose(trial, now),
            },
        }
    }

    fn win(&mut self, found: Goodput, now: Monotonic) {
        self.pause.reset(now);
        self.go_on(found, now);
    }

    fn lose(&mut self, trial: Trial, now: Monotonic) {
        let was_down = self.width < trial.from;
        self.change(trial.from, now);
        self.goes_down = !was_down;
        // After the first unsuccessful trial the other direction is tried at once.
        if !std::mem::take(&mut self.is_young) {
            self.pause.extend(now);
        }
    }

    /// Tries the next width, when its time has come.
    fn go_on(&mut self, base: Goodput, now: Monotonic) {
        if now < self.pause.until {
            return;
        }
        let is_slow = self.speed.is_some_and(|speed| speed < SLOW);
        let at_end = match self.goes_down {
            true => self.width == 1 || !is_slow,
            false => self.width == WIDTH_MAX,
        };
        if at_end {
            self.goes_down = !self.goes_down;
            self.is_young = false;
            self.pause.extend(now);
            return;
        }
        let step = (self.width / 4).max(1);
        let next = match (self.goes_down, self.is_young) {
            (true, _) => self.width - step,
            (false, true) => self.width * 2,
            (false, false) => self.width + step,
        };
        self.trial = Some(Trial { from: self.width, base });
        self.change(next, now);
    }

    /// The trial needs more parts than there are to send: it is not repeated at once.
    fn go_without(&mut self, now: Monotonic) {
        if self.trial.is_some() {
            self.pause.until = now.after(HOLD_MIN);
        }
        self.give_up_trial(now);
    }

    fn give_up_trial(&mut self, now: Monotonic) {
        if let Some(trial) = self.trial.take() {
            self.change(trial.from, now);
        }
    }
}

impl Traffic {
    fn count(&mut self, now: Monotonic) {
        self.flown = self.flown.saturating_add(now.since(self.counted_to) * self.flying);
        self.counted_to = self.counted_to.max(now);
    }
}

impl TrialPause {
    /// The next trial is at `at`, and pauses are short again.
    fn reset(&mut self, at: Monotonic) {
        (self.until, self.next) = (at, HOLD_MIN);
    }

    /// A trial was unsuccessful: the next pause is twice as long.
    fn extend(&mut self, now: Monotonic) {
        self.until = now.after(self.next);
        self.next = (self.next * 2).min(HOLD_MAX);
    }
}

impl Trial {
    /// Returns whether more parts, up to `width`, brought a sixth of what they could have.
    fn gains(self, found: Goodput, width: u32) -> bool {
        let (from, to, base) = (u64::from(self.from), u64::from(width), self.base);
        let has = |now: u64, before: u64| {
            u128::from(now) * u128::from(6 * from) > u128::from(before) * u128::from(5 * from + to)
        };
        has(found.bytes_per_second, base.bytes_per_second)
            || found.parts.zip(base.parts).is_some_and(|(now, before)| has(now, before))
    }

    /// Returns whether fewer parts, down to `width`, cost no more than an eighth of what they could have.
    fn keeps(self, found: Goodput, width: u32) -> bool {
        let (from, to, base) = (u64::from(self.from), u64::from(width), self.base);
        let has = |now: u64, before: u64| {
            u128::from(now) * u128::from(8 * from) >= u128::from(before) * u128::from(7 * from + to)
        };
        let parts_keep = match (found.parts, base.parts) {
            (Some(now), Some(before)) => has(now, before),
            (None, Some(_)) => false,
            (Some(_) | None, None) => true,
        };
        has(found.bytes_per_second, base.bytes_per_second) && parts_keep
    }
}

impl Goodput {
    /// A rate that fell a little at a time is compared with its start.
    fn best(self, other: Self) -> Self {
        Self {
            bytes_per_second: self.bytes_per_second.max(other.bytes_per_second),
            parts: self.parts.max(other.parts),
        }
    }
}

fn per_second(count: u64, time: Duration) -> u64 {
    let ms = time.as_millis().max(1);
    u64::try_from(u128::from(count) * 1000 / ms).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

//! What waits for one channel: one notice at a time, in order, tried until it is taken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::daily::Day;
use super::{PAUSE, WINDOW};
use crate::engine::event::Setback;
use crate::engine::retry;
use crate::engine::settings::{ChannelSettings, DigestSettings, RetrySettings};
use crate::model::{
    FailureKind, Monotonic, Notice, NoticeId, NoticeKind, Now, Record, UnsentNotice, WallTime,
};

/// A channel that fails is asked again at these intervals.
const DELAY: RetrySettings =
    RetrySettings { delay_min: Duration::from_secs(1), delay_max: Duration::from_mins(5) };
/// A notice that its receiver refuses is sent again at these.
const REFUSED_DELAY: RetrySettings =
    RetrySettings { delay_min: Duration::from_secs(1), delay_max: Duration::from_hours(1) };
/// A notice is given up when it was refused for this long,
const REFUSED_MAX: Duration = Duration::from_hours(24);
/// and this often: a clock that was set forward is no day of tries.
const TRIES_MIN: u32 = 20;
/// What was sent longer ago counts against no limit.
const HOUR: Duration = Duration::from_hours(1);
/// The longest that a window or a day is waited for after a start.
const DUE_MAX: Duration = Duration::from_hours(25);

/// When a notice is due, and which it is: its place in the order.
type Key = (Monotonic, NoticeId);

/// One notice that waits.
#[derive(Debug)]
struct Waiting {
    notice: Notice,
    attempt_count: u32,
    refused_since: Option<WallTime>,
}

#[derive(Debug)]
pub(super) struct Post {
    /// What it is told of.
    pub(super) on: BTreeSet<NoticeKind>,
    /// The day of its last digest.
    pub(super) last_day: Option<String>,
    /// Its digest of this day, when it is to have one.
    pub(super) day: Option<Day>,
    is_configured: bool,
    per_hour: Option<u32>,
    digest: Option<DigestSettings>,
    /// What waits for it, also while it is being sent.
    waiting: BTreeMap<Key, Waiting>,
    /// When it took the last notices, as many as it may take in an hour.
    taken: VecDeque<Monotonic>,
    flying: Option<Key>,
    not_before: Monotonic,
    failure_count: u32,
}

impl Post {
    /// Starts with nothing to send.
    pub(super) fn new(now: Monotonic) -> Self {
        Self {
            on: BTreeSet::new(),
            last_day: None,
            day: None,
            is_configured: false,
            per_hour: None,
            digest: None,
            waiting: BTreeMap::new(),
            taken: VecDeque::new(),
            flying: None,
            not_before: now,
            failure_count: 0,
        }
    }

    pub(super) fn set(&mut self, settings: &ChannelSettings, now: Now) {
        self.is_configured = true;
        self.on.clone_from(&settings.on);
        self.per_hour = settings.per_hour;
        if self.digest != settings.digest || self.day.is_none() {
            self.digest.clone_from(&settings.digest);
            self.begin_day(now);
        }
    }

    /// Is not configured any more, until it is set.
    pub(super) fn unset(&mut self) {
        self.is_configured = false;
        self.on.clear();
    }

    /// Begins the day of the next digest, where there is to be one.
    pub(super) fn begin_day(&mut self, now: Now) {
        let digest = self.digest.as_ref();
        self.day = digest.and_then(|digest| Day::after(digest, self.last_day.as_deref(), now));
    }

    /// Tells whether it wants a kind one by one.
    pub(super) fn is_told_at_once(&self, kind: NoticeKind) -> bool {
        let is_gathered = kind == NoticeKind::RunCompleted && self.day.is_some();
        self.on.contains(&kind) && !is_gathered
    }

    /// Tells whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn line_up(&mut self, notice: Notice, due: Monotonic) {
        let waiting = Waiting { attempt_count: 0, refused_since: None, notice };
        self.waiting.insert((due, waiting.notice.id), waiting);
    }

    /// Returns a notice whose window is open.
    pub(super) fn waiting(&mut self, due: Monotonic, id: NoticeId) -> Option<&mut Notice> {
        self.waiting.get_mut(&(due, id)).map(|waiting| &mut waiting.notice)
    }

    /// Takes a notice as it was stored; times are clamped, for the wall clock may have been set.
    pub(super) fn take_stored(&mut self, unsent: UnsentNotice, now: Now) {
        let UnsentNotice { notice, attempt_count, refused_since } = unsent;
        let wait = now.wall.until(notice.due);
        let mut due = now.monotonic;
        if attempt_count == 0 {
            // A window that seems longer than any is one of another clock.
            let window = if wait > PAUSE + WINDOW { WINDOW } else { PAUSE + WINDOW };
            let max = if notice.kind == NoticeKind::Digest { DUE_MAX } else { window };
            due = due.after(wait.min(max));
        } else if refused_since.is_some() {
            due = due.after(wait.min(REFUSED_DELAY.delay_max));
        } else {
            self.not_before = self.not_before.max(due.after(wait.min(DELAY.delay_max)));
            self.failure_count = self.failure_count.max(attempt_count);
        }
        if let Some(day) = self.day.as_mut().filter(|_| attempt_count == 0) {
            day.take_stored(&notice, due);
        }
        self.waiting.insert((due, notice.id), Waiting { notice, attempt_count, refused_since });
    }

    /// Takes when it took a notice of the last hour.
    pub(super) fn take_sent(&mut self, ago: Duration, now: Monotonic) {
        // The clock begins with the process: what was before is counted from its beginning.
        let at = Monotonic(now.0.saturating_sub(ago));
        let place = self.taken.partition_point(|taken| *taken <= at);
        self.taken.insert(place, at);
    }

    /// Returns when it may take one more within its limit.
    fn room_at(&self) -> Monotonic {
        let limit = self.per_hour.and_then(|limit| usize::try_from(limit).ok());
        let first = limit.and_then(|limit| self.taken.len().checked_sub(limit));
        let first = first.and_then(|index| self.taken.get(index));
        first.map_or(Monotonic(Duration::ZERO), |at| at.after(HOUR))
    }

    /// Returns when the channel is to be asked, unless it is being asked; or when its day is over.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        let day = self.day.as_ref().filter(|_| self.is_configured).map(|day| day.due);
        [self.next_try(), day].into_iter().flatten().min()
    }

    fn next_try(&self) -> Option<Monotonic> {
        let is_free = self.flying.is_none() && self.is_configured;
        let ((due, _), _) = self.waiting.first_key_value().filter(|_| is_free)?;
        Some((*due).max(self.not_before).max(self.room_at()))
    }

    /// Tells whether its digest is to be sent.
    pub(super) fn is_day_over(&self, now: Monotonic) -> bool {
        self.is_configured && self.day.as_ref().is_some_and(|day| day.due <= now)
    }

    /// Takes away what its limit held back, when it may take one notice again and two or more wait.
    pub(super) fn take_held(&mut self, now: Monotonic) -> Vec<Notice> {
        let room = self.room_at();
        let is_held = |key: &Key, waiting: &Waiting| key.0 < room && waiting.attempt_count == 0;
        let is_due = self.next_try().is_some_and(|at| at <= now);
        let held = self.waiting.iter().filter(|(key, waiting)| is_held(key, waiting));
        let held: Vec<_> = held.map(|(key, _)| *key).collect();
        if !is_due || held.len() < 2 {
            return Vec::new();
        }
        let taken = held.iter().filter_map(|key| self.waiting.remove(key));
        taken.map(|waiting| waiting.notice).collect()
    }

    /// Returns what the channel is to be asked to take now.
    pub(super) fn next(&mut self, now: Monotonic) -> Option<Notice> {
        self.next_try().filter(|at| *at <= now)?;
        let (key, waiting) = self.waiting.first_key_value()?;
        self.flying = Some(*key);
        Some(waiting.notice.clone())
    }

    /// Has the channel asked again at once.
    pub(super) fn hurry(&mut self, now: Monotonic) {
        self.not_before = self.not_before.min(now);
    }

    /// Tells whether the channel is being asked to take this notice.
    pub(super) fn is_sending(&self, id: NoticeId) -> bool {
        self.flying.is_some_and(|(_, flying)| flying == id)
    }

    /// Takes the channel's answer, and returns what is to be written of it.
    pub(super) fn on_answer(&mut self, setback: Option<Setback>, now: Now) -> Option<Record> {
        let key = self.flying.take()?;
        let id = key.1;
        let Some(Setback { failure, .. }) = setback else {
            self.failure_count = 0;
            self.waiting.remove(&key);
            self.count(now.monotonic);
            return Some(Record::NoticeSent { id, at: now.wall });
        };
        if failure.kind == FailureKind::Cancelled {
            return None;
        }
        let mut waiting = self.waiting.remove(&key)?;
        waiting.attempt_count = waiting.attempt_count.saturating_add(1);
        let is_wrong = failure.kind == FailureKind::BadRequest;
        let is_refused = is_wrong || failure.kind == FailureKind::LocalFault;
        let since = waiting.refused_since.unwrap_or(now.wall);
        waiting.refused_since = is_refused.then_some(since);
        let is_long = waiting.attempt_count >= TRIES_MIN && since.until(now.wall) >= REFUSED_MAX;
        if is_refused && is_long {
            return Some(Record::NoticeGivenUp { id, at: now.wall, failure });
        }
        let (count, refused_since) = (waiting.attempt_count, waiting.refused_since);
        let delay = if is_wrong {
            let delay = retry::delay(REFUSED_DELAY, count, id.0.unsigned_abs());
            self.waiting.insert((now.monotonic.after(delay), id), waiting);
            delay
        } else {
            self.waiting.insert(key, waiting);
            self.failure_count = self.failure_count.saturating_add(1);
            let delay = retry::delay(DELAY, self.failure_count, id.0.unsigned_abs());
            let asked = asked_pause(failure.kind).min(HOUR);
            let delay = delay.max(asked);
            self.not_before = now.monotonic.after(delay);
            delay
        };
        let retry_at = now.wall.after(delay);
        Some(Record::NoticeDelayed { id, retry_at, failure, refused_since })
    }

    fn count(&mut self, now: Monotonic) {
        let Some(limit) = self.per_hour.and_then(|limit| usize::try_from(limit).ok()) else {
            self.taken.clear();
            return;
        };
        self.taken.push_back(now);
        let surplus = self.taken.len().saturating_sub(limit);
        self.taken.drain(..surplus);
    }
}

/// Returns how long the channel asks not to be called.
fn asked_pause(kind: FailureKind) -> Duration {
    if let FailureKind::Throttled { after: Some(pause) } = kind { pause } else { Duration::ZERO }
}

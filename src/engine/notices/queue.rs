//! The notices of one channel: sent one at a time, in order, until each is accepted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::PAUSE;
use crate::engine::event::Setback;
use crate::engine::failure;
use crate::engine::settings::RetrySettings;
use crate::model::{
    ByteCount, FailureKind, Monotonic, Notice, NoticeFacts, NoticeId, NoticeKind, NoticeNumber,
    Now, Record, UnsentNotice, WallTime,
};

/// Retry delays of a channel that fails.
const DELAY: RetrySettings =
    RetrySettings { delay_min: Duration::from_secs(1), delay_max: Duration::from_mins(5) };
/// Retry delays of a notice that its receiver refuses.
const REFUSED_DELAY: RetrySettings =
    RetrySettings { delay_min: Duration::from_secs(1), delay_max: Duration::from_hours(1) };
/// A notice is given up when it was refused for this long,
const REFUSED_MAX: Duration = Duration::from_hours(24);
/// and this often: a clock that was set forward does not count as a day of attempts.
const TRIES_MIN: u32 = 20;
/// The longest pause that a receiver may ask for.
const ASKED_PAUSE_MAX: Duration = Duration::from_hours(1);

/// When a notice is due, and its id, which gives the order.
type Key = (Monotonic, NoticeId);

/// One waiting notice.
#[derive(Debug)]
struct Waiting {
    notice: Notice,
    attempt_count: u32,
    refused_since: Option<WallTime>,
}

/// One channel's notices.
#[derive(Debug)]
pub(super) struct NoticeQueue {
    /// The kinds it wants; `None` while it is not configured.
    on: Option<BTreeSet<NoticeKind>>,
    /// Its notices, including the one that is being sent.
    waiting: BTreeMap<Key, Waiting>,
    sending: Option<Key>,
    not_before: Monotonic,
    failure_count: u32,
}

impl NoticeQueue {
    /// Starts empty, and not configured.
    pub(super) fn new(now: Monotonic) -> Self {
        Self {
            on: None,
            waiting: BTreeMap::new(),
            sending: None,
            not_before: now,
            failure_count: 0,
        }
    }

    /// Sets the kinds that the channel wants; `None` when it is not configured.
    pub(super) fn configure(&mut self, on: Option<&BTreeSet<NoticeKind>>) {
        self.on = on.cloned();
    }

    /// Returns whether the channel wants notices of a kind.
    pub(super) fn wants(&self, kind: NoticeKind) -> bool {
        self.on.as_ref().is_some_and(|on| on.contains(&kind))
    }

    /// Returns whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a notice.
    pub(super) fn push(&mut self, notice: Notice, due: Monotonic) {
        let waiting = Waiting { attempt_count: 0, refused_since: None, notice };
        self.waiting.insert((due, waiting.notice.id), waiting);
    }

    /// Adds files to a notice that is not due yet, and returns what is to be written of it.
    pub(super) fn add_files(
        &mut self,
        due: Monotonic,
        id: NoticeId,
        more: &NoticeFacts,
    ) -> Option<Record> {
        let facts = &mut self.waiting.get_mut(&(due, id))?.notice.facts;
        let items = facts.append(more);
        let size = ByteCount(facts.number(NoticeNumber::Bytes));
        Some(Record::NoticeFiles { id, file_count: facts.number(NoticeNumber::Count), size, items })
    }

    /// Adds a notice as it was stored, and returns its position. Times are clamped, because the
    /// wall clock may have been set.
    pub(super) fn restore(&mut self, unsent: UnsentNotice, now: Now) -> Key {
        let UnsentNotice { notice, attempt_count, refused_since } = unsent;
        let wait = now.wall.until(notice.due);
        let mut due = now.monotonic;
        if attempt_count == 0 {
            due = due.after(wait.min(PAUSE));
        } else if refused_since.is_some() {
            due = due.after(wait.min(REFUSED_DELAY.delay_max));
        } else {
            self.not_before = self.not_before.max(due.after(wait.min(DELAY.delay_max)));
            self.failure_count = self.failure_count.max(attempt_count);
        }
        let key = (due, notice.id);
        self.waiting.insert(key, Waiting { notice, attempt_count, refused_since });
        key
    }

    /// Returns when the channel is tried, unless it is being tried.
    pub(super) fn next_try(&self) -> Option<Monotonic> {
        let is_free = self.sending.is_none() && self.on.is_some();
        let ((due, _), _) = self.waiting.first_key_value().filter(|_| is_free)?;
        Some((*due).max(self.not_before))
    }

    /// Returns the notice that is to be sent now.
    pub(super) fn next(&mut self, now: Monotonic) -> Option<Notice> {
        self.next_try().filter(|at| *at <= now)?;
        let (key, waiting) = self.waiting.first_key_value()?;
        self.sending = Some(*key);
        Some(waiting.notice.clone())
    }

    /// Retries the channel at once.
    pub(super) fn hurry(&mut self, now: Monotonic) {
        self.not_before = self.not_before.min(now);
    }

    /// Returns whether this notice is being sent.
    pub(super) fn is_sending(&self, id: NoticeId) -> bool {
        self.sending.is_some_and(|(_, sending)| sending == id)
    }

    /// Applies the channel's answer, and returns what is to be written of it.
    pub(super) fn on_answer(&mut self, setback: Option<Setback>, now: Now) -> Option<Record> {
        let key = self.sending.take()?;
        let id = key.1;
        let Some(Setback { failure, .. }) = setback else {
            self.failure_count = 0;
            self.waiting.remove(&key);
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
            let delay = failure::delay(REFUSED_DELAY, count, id.0.unsigned_abs());
            self.waiting.insert((now.monotonic.after(delay), id), waiting);
            delay
        } else {
            self.waiting.insert(key, waiting);
            self.failure_count = self.failure_count.saturating_add(1);
            let delay = failure::delay(DELAY, self.failure_count, id.0.unsigned_abs());
            let delay = delay.max(asked_pause(failure.kind).min(ASKED_PAUSE_MAX));
            self.not_before = now.monotonic.after(delay);
            delay
        };
        let retry_at = now.wall.after(delay);
        Some(Record::NoticeDelayed { id, retry_at, failure, refused_since })
    }
}

/// Returns how long the channel asks not to be called.
fn asked_pause(kind: FailureKind) -> Duration {
    if let FailureKind::Throttled { after: Some(pause) } = kind { pause } else { Duration::ZERO }
}

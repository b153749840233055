//! What waits for one channel: one notice at a time, in order, tried until it is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::WINDOW;
use crate::engine::event::Setback;
use crate::engine::retry;
use crate::engine::settings::RetrySettings;
use crate::model::{
    FailureKind, Monotonic, Notice, NoticeId, NoticeKind, Now, Record, UnsentNotice,
};

/// A notice that was not taken is sent again at these intervals.
const DELAY: RetrySettings =
    RetrySettings { delay_min: Duration::from_secs(1), delay_max: Duration::from_mins(5) };

/// When a notice is due, and which it is: its place in the order.
type Key = (Monotonic, NoticeId);

/// One channel's notices.
#[derive(Debug)]
pub(super) struct Post {
    /// What it is told of.
    pub(super) on: BTreeSet<NoticeKind>,
    /// What waits for it, also while it is being sent.
    pub(super) waiting: BTreeMap<Key, Notice>,
    flying: Option<Key>,
    not_before: Monotonic,
    failure_count: u32,
}

impl Post {
    /// Starts with nothing to send.
    pub(super) fn new(now: Monotonic) -> Self {
        let (waiting, on) = (BTreeMap::new(), BTreeSet::new());
        Self { on, waiting, flying: None, not_before: now, failure_count: 0 }
    }

    /// Takes a notice as it was stored; times are clamped, for the wall clock may have been set.
    pub(super) fn take_stored(&mut self, unsent: UnsentNotice, now: Now) {
        let UnsentNotice { notice, attempt_count } = unsent;
        let wait = now.wall.until(notice.due);
        let mut due = now.monotonic;
        if attempt_count == 0 {
            due = due.after(wait.min(WINDOW));
        } else {
            self.not_before = self.not_before.max(due.after(wait.min(DELAY.delay_max)));
            self.failure_count = self.failure_count.max(attempt_count);
        }
        self.waiting.insert((due, notice.id), notice);
    }

    /// Returns when the channel is to be asked, unless it is being asked.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        let ((due, _), _) = self.waiting.first_key_value().filter(|_| self.flying.is_none())?;
        Some((*due).max(self.not_before))
    }

    /// Returns what the channel is to be asked to take now.
    pub(super) fn next(&mut self, now: Monotonic) -> Option<Notice> {
        self.next_deadline().filter(|at| *at <= now)?;
        let (key, notice) = self.waiting.first_key_value()?;
        self.flying = Some(*key);
        Some(notice.clone())
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
            return Some(Record::NoticeSent { id, at: now.wall });
        };
        if failure.kind == FailureKind::Cancelled {
            return None;
        }
        self.failure_count = self.failure_count.saturating_add(1);
        let delay = retry::delay(DELAY, self.failure_count, id.0.unsigned_abs());
        self.not_before = now.monotonic.after(delay);
        Some(Record::NoticeDelayed { id, retry_at: now.wall.after(delay), failure })
    }
}

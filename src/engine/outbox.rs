//! What people are told: which facts, in which words, when, and whether it was taken.
//!
//! *Decide, commit, act* holds for messages too. A notice is a row that is committed in one transaction
//! with the fact it is about, one for each channel that wants its kind; only then is the channel asked
//! to take it, and asked again with growing delays, for as long as it fails. A
//! channel takes one notice at a time, in order. Nothing else ever waits for a channel.
//!
//! Files that park for one reason within [`WINDOW`] of the first are one notice. It is a row from the
//! first file on, due when the window ends; each further file is written into it in one transaction
//! with its parking.
//!
//! *At a crash* a row is whole or its fact is not there either. A window that was open is not opened
//! again: its row goes as it stands, and a file that parks afterwards begins another. A notice that was
//! taken and not marked is sent again, byte for byte, with the id it had. What people were told of a
//! drop directory or a destination is read from the rows, so that a start repeats nothing and its end
//! is told once.

mod post;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::post::Post;
use self::words::Message;
use super::event::{Act, Outcome, Setback};
use super::settings::ChannelSettings;
use super::turn::Turn;
use super::{Engine, Flight, FlightKind};
use crate::model::{Channel, Monotonic, Notice, NoticeId, NoticeKind, Now, Record, StoredOutbox};

/// Files that park for one reason within this time of the first are one notice.
const WINDOW: Duration = Duration::from_secs(30);
/// Everything that is to be told, and what was told of troubles that last.
#[derive(Debug)]
pub(crate) struct Outbox {
    posts: BTreeMap<Channel, Post>,
    troubles: BTreeSet<(NoticeKind, String)>,
    groups: BTreeMap<words::GroupKey, Group>,
    next: i64,
}

/// Files that parked within one window.
#[derive(Debug)]
struct Group {
    until: Monotonic,
    files: words::Parked,
    ids: Vec<(Channel, NoticeId)>,
}

impl Outbox {
    /// Starts from what is stored.
    pub(super) fn load(channels: &[ChannelSettings], stored: StoredOutbox, now: Now) -> Self {
        let mut outbox = Self {
            posts: Channel::ALL.map(|channel| (channel, Post::new(now.monotonic))).into(),
            troubles: stored.troubles.into_iter().collect(),
            groups: BTreeMap::new(),
            next: stored.next.map_or(1, |id| id.0),
        };
        outbox.reconfigure(channels);
        for unsent in stored.unsent {
            if let Some(post) = outbox.posts.get_mut(&unsent.notice.channel) {
                post.take_stored(unsent, now);
            }
        }
        outbox
    }

    /// Goes by other settings. What waits for a channel that is gone waits on.
    pub(super) fn reconfigure(&mut self, channels: &[ChannelSettings]) {
        self.posts.values_mut().for_each(|post| post.on.clear());
        for settings in channels {
            if let Some(post) = self.posts.get_mut(&settings.channel) {
                post.on.clone_from(&settings.on);
            }
        }
    }

    /// Tells whether nothing is to be told.
    pub(super) fn is_empty(&self) -> bool {
        self.posts.values().all(|post| post.waiting.is_empty())
    }

    /// Returns when a channel is to be asked.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        self.posts.values().filter_map(Post::next_deadline).min()
    }

    /// Has every channel asked again at once.
    pub(super) fn retry(&mut self, now: Monotonic) {
        self.posts.values_mut().for_each(|post| post.hurry(now));
    }

    fn is_wanted(&self, kind: NoticeKind) -> bool {
        self.posts.values().any(|post| post.on.contains(&kind))
    }

    /// Lines a message up for every channel that wants its kind, and returns its notices.
    fn post(
        &mut self,
        what: &Message,
        wait: Duration,
        turn: &mut Turn,
    ) -> Vec<(Channel, NoticeId)> {
        let due = (turn.now.monotonic.after(wait), turn.now.wall.after(wait));
        let mut ids = Vec::new();
        for (channel, post) in
            self.posts.iter_mut().filter(|(_, post)| post.on.contains(&what.kind))
        {
            let id = NoticeId(self.next);
            self.next += 1;
            let notice = what.notice((id, *channel), turn.now.wall, due.1);
            turn.record(Record::Notice(Box::new(notice.clone())));
            post.waiting.insert((due.0, id), notice);
            ids.push((*channel, id));
        }
        ids
    }

    /// Tells of a trouble that lasts, once; or that it is over, when it was told.
    pub(super) fn trouble(&mut self, what: &Message, turn: &mut Turn) {
        let key = (what.kind, what.subject.clone());
        let is_news = match what.is_over {
            true => self.troubles.remove(&key),
            false => self.is_wanted(what.kind) && self.troubles.insert(key),
        };
        if is_news {
            self.post(what, Duration::ZERO, turn);
        }
    }

    /// Tells whether people were told of a trouble, and not that it is over.
    pub(super) fn is_troubled(&self, kind: NoticeKind, subject: &str) -> bool {
        self.troubles.contains(&(kind, subject.to_owned()))
    }

    /// Tells of a completed drop.
    pub(super) fn complete(&mut self, what: &Message, turn: &mut Turn) {
        self.post(what, Duration::ZERO, turn);
    }

    /// Adds a parked file to its window, or opens one.
    fn park(&mut self, key: words::GroupKey, file: words::Parked, turn: &mut Turn) {
        let Some(group) = self.groups.get_mut(&key) else {
            let ids = self.post(&Message::parked(&key, &file), WINDOW, turn);
            let until = turn.now.monotonic.after(WINDOW);
            self.groups.insert(key, Group { until, files: file, ids });
            return;
        };
        group.files.add(file);
        let message = Message::parked(&key, &group.files);
        for (channel, id) in &group.ids {
            let post = self.posts.get_mut(channel);
            let notice = post.and_then(|post| post.waiting.get_mut(&(group.until, *id)));
            if let Some(notice) = notice {
                notice.body = message.body(*id, notice.at);
                turn.record(Record::Notice(Box::new(notice.clone())));
            }
        }
    }

    /// Returns what a channel is to be asked to take now.
    fn next(&mut self, channel: Channel, now: Monotonic) -> Option<Notice> {
        self.posts.get_mut(&channel)?.next(now)
    }
}

impl Engine {
    /// Lines up what people are told of this turn, and asks idle channels to take what is due.
    pub(super) fn tell_people(&mut self, turn: &mut Turn) {
        let now = turn.now.monotonic;
        self.outbox.groups.retain(|_, group| group.until > now);
        if self.outbox.is_wanted(NoticeKind::Parked) {
            for (key, file) in self.parked_in(turn) {
                self.outbox.park(key, file, turn);
            }
        }
        if self.draining {
            return;
        }
        for channel in Channel::ALL {
            let Some(notice) = self.outbox.next(channel, now) else { continue };
            let kind = FlightKind::Notify(notice.id);
            let flight = Flight { kind, upload: None, destination: None };
            self.start(flight, Act::Notify { notice: Box::new(notice) }, turn);
        }
    }

    pub(super) fn on_notified(
        &mut self,
        id: NoticeId,
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let post = self.outbox.posts.values_mut().find(|post| post.is_sending(id));
        if let Some(record) = post.and_then(|post| post.on_answer(reply.err(), turn.now)) {
            turn.record(record);
        }
    }
}

#[cfg(test)]
mod tests;

//! What people are told: which facts, in which words, when, and whether it was taken.
//!
//! *Decide, commit, act* holds for messages too. A notice is a row that is committed in one transaction
//! with the fact it is about, one for each channel that wants its kind; only then is the channel asked
//! to take it, and asked again with growing delays, for as long as it fails. A
//! channel takes one notice at a time, in order. Nothing else ever waits for a channel.
//!
//! *What belongs together is one notice*: files that park for one reason, and files that are drops of
//! their own. It is a row from the first file on, due when its window ends; each further file is
//! written into it in one transaction with its fact. A window is [`WINDOW`] long, and longer where the
//! last one of its kind ended less than [`PAUSE`] ago. A digest is the window of a day.
//!
//! *Not too much*: a channel may have a limit of messages in an hour. What waits when it is reached is
//! told by one summary when the hour allows the next; each notice keeps its row, which names that one.
//!
//! *What is refused*: a notice that its receiver calls wrong steps aside for the others, and is given up
//! after a day of tries. An outage of the way there is never a reason to give up.
//!
//! *At a crash* a row is whole or its fact is not there either. A window that was open is not opened
//! again: its row goes as it stands, and a file that parks afterwards begins another; the window of a
//! day goes on. A notice that was
//! taken and not marked is sent again, byte for byte, with the id it had. What people were told of a
//! drop directory or a destination is read from the rows, so that a start repeats nothing and its end
//! is told once.

mod daily;
mod facts;
mod group;
mod post;
mod watch;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::daily::Item;
use self::group::{Files, Group, GroupKey};
use self::post::Post;
use self::watch::Watch;
use self::words::Message;
use super::event::{Act, Outcome, Setback};
use super::settings::ChannelSettings;
use super::turn::Turn;
use super::{Engine, Flight, FlightKind};
use crate::model::{
    ByteCount, Channel, Monotonic, Notice, NoticeId, NoticeKind, Now, RecentNotice, Record,
    StoredOutbox, UnsentNotice,
};

/// Files that park for one reason within this time of the first are one notice.
const WINDOW: Duration = Duration::from_secs(30);
/// One group of files is told of again only after this time; what comes meanwhile is gathered.
const PAUSE: Duration = Duration::from_hours(1);

/// Everything that is to be told, and what was told of troubles that last.
#[derive(Debug)]
pub(crate) struct Outbox {
    posts: BTreeMap<Channel, Post>,
    troubles: BTreeSet<(NoticeKind, String)>,
    groups: BTreeMap<GroupKey, Group>,
    /// When each group may be told of again.
    pauses: BTreeMap<GroupKey, Monotonic>,
    watch: Watch,
    next: i64,
}

impl Outbox {
    /// Starts from what is stored.
    pub(super) fn load(channels: &[ChannelSettings], stored: StoredOutbox, now: Now) -> Self {
        let mut outbox = Self {
            posts: BTreeMap::new(),
            troubles: stored.troubles.into_iter().collect(),
            groups: BTreeMap::new(),
            pauses: BTreeMap::new(),
            watch: Watch::new(now.monotonic),
            next: stored.next.map_or(1, |id| id.0),
        };
        for (channel, day) in stored.digests {
            let is_open = |unsent: &UnsentNotice| {
                let Notice { channel: of, kind, subject, due, .. } = &unsent.notice;
                let is_this = (of, *kind, subject) == (&channel, NoticeKind::Digest, &day);
                is_this && unsent.attempt_count == 0 && *due > now.wall
            };
            if !stored.unsent.iter().any(is_open) {
                outbox.post_of(&channel, now).last_day = Some(day);
            }
        }
        for unsent in &stored.unsent {
            outbox.post_of(&unsent.notice.channel, now);
        }
        for recent in &stored.recent {
            outbox.take_recent(recent, now);
        }
        outbox.reconfigure(channels, now);
        for unsent in stored.unsent {
            outbox.post_of(&unsent.notice.channel.clone(), now).take_stored(unsent, now);
        }
        outbox
    }

    fn post_of(&mut self, channel: &Channel, now: Now) -> &mut Post {
        let fresh = || Post::new(now.monotonic);
        self.posts.entry(channel.clone()).or_insert_with(fresh)
    }

    /// Takes what was told within the last hour.
    fn take_recent(&mut self, recent: &RecentNotice, now: Now) {
        if let Some(sent_at) = recent.sent_at {
            let ago = sent_at.until(now.wall);
            self.post_of(&recent.channel, now).take_sent(ago, now.monotonic);
        }
        if let Some(key) = GroupKey::of_body(&recent.body) {
            let wait = now.wall.until(recent.due.after(PAUSE)).min(PAUSE);
            let until = self.pauses.entry(key).or_insert(now.monotonic);
            *until = (*until).max(now.monotonic.after(wait));
        }
    }

    /// Goes by other settings. What waits for a channel that is gone waits on.
    pub(super) fn reconfigure(&mut self, channels: &[ChannelSettings], now: Now) {
        self.posts.values_mut().for_each(Post::unset);
        for settings in channels {
            self.post_of(&settings.channel, now).set(settings, now);
        }
    }

    /// Tells whether nothing is to be told.
    pub(super) fn is_empty(&self) -> bool {
        self.posts.values().all(Post::is_empty)
    }

    /// Returns when a channel is to be asked, or something looked at.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        let posts = self.posts.values().filter_map(Post::next_deadline);
        posts.chain(self.watch.next_deadline(self.watches())).min()
    }

    /// Has every channel asked again at once.
    pub(super) fn retry(&mut self, now: Monotonic) {
        self.posts.values_mut().for_each(|post| post.hurry(now));
    }

    fn is_wanted(&self, kind: NoticeKind) -> bool {
        self.posts.values().any(|post| post.on.contains(&kind))
    }

    fn give_id(&mut self) -> NoticeId {
        let id = NoticeId(self.next);
        self.next += 1;
        id
    }

    /// Lines a message up for every channel that wants its kind at once, and returns its notices.
    fn post(
        &mut self,
        what: &Message,
        wait: Duration,
        turn: &mut Turn,
    ) -> Vec<(Channel, NoticeId)> {
        let wants = self.posts.iter().filter(|(_, post)| post.is_told_at_once(what.kind));
        let channels: Vec<_> = wants.map(|(channel, _)| channel.clone()).collect();
        let line_up = |channel: Channel| {
            let id = self.post_to(&channel, what, wait, turn);
            (channel, id)
        };
        channels.into_iter().map(line_up).collect()
    }

    fn post_to(
        &mut self,
        channel: &Channel,
        what: &Message,
        wait: Duration,
        turn: &mut Turn,
    ) -> NoticeId {
        let id = self.give_id();
        let now = turn.now;
        let notice = what.notice((id, channel), now.wall, now.wall.after(wait));
        turn.record(Record::Notice(Box::new(notice.clone())));
        self.post_of(channel, now).line_up(notice, now.monotonic.after(wait));
        id
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
    fn complete(&mut self, what: &Message, item: &Item, turn: &mut Turn) {
        self.post(what, Duration::ZERO, turn);
        self.add_to_digests(item, turn);
    }

    /// Adds a file to the window of its group, or opens one.
    fn gather(&mut self, key: GroupKey, file: Files, turn: &mut Turn) {
        let now = turn.now.monotonic;
        let Some(group) = self.groups.get_mut(&key) else {
            let pause = self.pauses.get(&key).map_or(Duration::ZERO, |until| until.since(now));
            let wait = pause.max(WINDOW);
            let ids = self.post(&Message::gathered(&key, &file), wait, turn);
            let until = now.after(wait);
            self.pauses.insert(key.clone(), until.after(PAUSE));
            self.groups.insert(key, Group { until, files: file, ids });
            return;
        };
        group.files.add(file);
        let message = Message::gathered(&key, &group.files);
        for (channel, id) in &group.ids {
            let post = self.posts.get_mut(channel);
            let notice = post.and_then(|post| post.waiting(group.until, *id));
            if let Some(notice) = notice {
                notice.body = message.body(notice);
                turn.record(Record::Notice(Box::new(notice.clone())));
            }
        }
    }

    /// Ends windows whose time is over.
    fn end_windows(&mut self, now: Monotonic) {
        self.groups.retain(|_, group| group.until > now);
        self.pauses.retain(|_, until| *until > now);
    }

    /// Replaces what a limit held back by one notice that tells of all of it.
    fn fold(&mut self, channel: &Channel, turn: &mut Turn) {
        let Some(post) = self.posts.get_mut(channel) else { return };
        let held = post.take_held(turn.now.monotonic);
        if held.is_empty() {
            return;
        }
        let into = self.post_to(channel, &Message::summary(&held), Duration::ZERO, turn);
        held.iter().for_each(|notice| turn.record(Record::NoticeFolded { id: notice.id, into }));
    }

    /// Returns what a channel is to be asked to take now.
    fn next(&mut self, channel: &Channel, now: Monotonic) -> Option<Notice> {
        self.posts.get_mut(channel)?.next(now)
    }
}

impl Engine {
    /// Lines up what people are told of this turn, and asks idle channels to take what is due.
    pub(super) fn tell_people(&mut self, turn: &mut Turn) {
        self.outbox.end_windows(turn.now.monotonic);
        if self.outbox.is_wanted(NoticeKind::Parked) {
            for (key, file) in self.parked_in(turn) {
                self.outbox.gather(key, file, turn);
            }
        }
        if self.outbox.is_wanted(NoticeKind::UploadStuck) {
            for (key, file) in self.stuck_in(turn) {
                self.outbox.gather(key, file, turn);
            }
        }
        self.end_days(turn);
        if self.draining {
            return;
        }
        self.watch_over(turn);
        let channels: Vec<_> = self.outbox.posts.keys().cloned().collect();
        for channel in &channels {
            self.outbox.fold(channel, turn);
            let Some(notice) = self.outbox.next(channel, turn.now.monotonic) else { continue };
            let kind = FlightKind::Notify(notice.id);
            let flight = Flight { kind, upload: None, destination: None };
            self.start(flight, Act::Notify { notice: Box::new(notice) }, turn);
        }
    }

    /// Sends the digests whose day is over.
    fn end_days(&mut self, turn: &mut Turn) {
        if !self.outbox.posts.values().any(|post| post.is_day_over(turn.now.monotonic)) {
            return;
        }
        let sizes = self.parked.iter().filter_map(|id| self.uploads.get(id));
        let sizes = sizes.map(|upload| upload.admission.fingerprint.size.0);
        let size = ByteCount(sizes.fold(0, u64::saturating_add));
        self.outbox.end_days((self.parked.len() as u64, size), turn);
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

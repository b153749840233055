//! Digests: what completed within a day, and what is parked at its end, told once.
//!
//! A day ends at the hour of the settings, in local time, and is named by its date. Its notice is a row
//! from the first completion on; a day on which nothing completed has one only when something is
//! parked. A start goes on with the row of the day it finds.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Outbox;
use super::words::Message;
use crate::engine::settings::DigestSettings;
use crate::engine::turn::Turn;
use crate::model::{ByteCount, Channel, Monotonic, Notice, NoticeId, NoticeKind, Now, Record};

/// Drops that are named in a digest; the others are counted.
const ITEMS_MAX: usize = 200;

/// A completed drop, or files that are drops of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) drop: String,
    /// The drop's name; none for files that are drops of their own.
    pub(super) name: Option<String>,
    pub(super) file_count: u64,
    pub(super) size_bytes: u64,
}

/// What a digest says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    /// What completed, as far as there is room.
    pub(super) completed: Vec<Item>,
    /// How many drops completed.
    pub(super) completed_count: u64,
    /// How many files they have.
    pub(super) file_count: u64,
    /// How large they are.
    pub(super) size_bytes: u64,
    /// How many files are parked.
    pub(super) parked_count: u64,
    /// How large they are.
    pub(super) parked_size_bytes: u64,
}

impl Content {
    fn add(&mut self, item: &Item) {
        self.completed_count += 1;
        self.file_count += item.file_count;
        self.size_bytes = self.size_bytes.saturating_add(item.size_bytes);
        let has_room = self.completed.len() < ITEMS_MAX;
        let same = |known: &&mut Item| (&known.drop, &known.name) == (&item.drop, &item.name);
        match self.completed.iter_mut().find(same) {
            // Late files complete a drop again: what counts is what it is then.
            Some(known) if item.name.is_some() => {
                self.completed_count -= 1;
                self.file_count -= known.file_count;
                self.size_bytes = self.size_bytes.saturating_sub(known.size_bytes);
                *known = item.clone();
            }
            Some(known) => {
                known.file_count += item.file_count;
                known.size_bytes = known.size_bytes.saturating_add(item.size_bytes);
            }
            None if has_room => self.completed.push(item.clone()),
            None => {}
        }
    }
}

/// The day that is running.
#[derive(Debug)]
pub(super) struct Day {
    /// When it is over.
    pub(super) due: Monotonic,
    name: String,
    content: Content,
    id: Option<NoticeId>,
}

impl Day {
    /// Returns the day that runs, as long as it is another than the last.
    pub(super) fn after(settings: &DigestSettings, last: Option<&str>, now: Now) -> Option<Self> {
        let moment = Timestamp::from_nanosecond(i128::from(now.wall.0)).ok()?;
        let mut date = moment.to_zoned(settings.zone.clone()).date();
        // A clock that was set back does not repeat a day.
        loop {
            let end = date.at(settings.hour, 0, 0, 0).to_zoned(settings.zone.clone()).ok()?;
            let wait = end.timestamp().duration_since(moment);
            let name = date.to_string();
            if wait.is_positive() && last.is_none_or(|last| last < name.as_str()) {
                let due = now.monotonic.after(wait.unsigned_abs());
                return Some(Self { due, name, content: Content::default(), id: None });
            }
            date = date.tomorrow().ok()?;
        }
    }

    /// Goes on with the notice of a day, when it is this one's.
    pub(super) fn take_stored(&mut self, notice: &Notice, due: Monotonic) {
        let content = serde_json::from_str(&notice.body);
        if notice.kind == NoticeKind::Digest
            && notice.subject == self.name
            && let Ok(content) = content
        {
            (self.due, self.content, self.id) = (due, content, Some(notice.id));
        }
    }
}

impl Outbox {
    /// Adds what completed to the day of each channel that has digests.
    pub(super) fn add_to_digests(&mut self, item: &Item, turn: &mut Turn) {
        let wants = self
            .posts
            .iter()
            .filter(|(_, post)| post.day.is_some() && post.on.contains(&NoticeKind::RunCompleted));
        let channels: Vec<_> = wants.map(|(channel, _)| channel.clone()).collect();
        for channel in channels {
            let day = self.posts.get_mut(&channel).and_then(|post| post.day.as_mut());
            day.into_iter().for_each(|day| day.content.add(item));
            self.write_day(&channel, turn);
        }
    }

    /// Writes a day as it stands.
    fn write_day(&mut self, channel: &Channel, turn: &mut Turn) {
        let Some(post) = self.posts.get_mut(channel) else { return };
        let Some(day) = &post.day else { return };
        let message = Message::digest(&day.name, &day.content);
        let (due, id, name) = (day.due, day.id, day.name.clone());
        let Some(id) = id else {
            post.last_day = Some(name);
            let id = self.post_to(channel, &message, due.since(turn.now.monotonic), turn);
            let day = self.posts.get_mut(channel).and_then(|post| post.day.as_mut());
            day.into_iter().for_each(|day| day.id = Some(id));
            return;
        };
        if let Some(notice) = post.waiting(due, id) {
            notice.body = message.body(notice);
            turn.record(Record::Notice(Box::new(notice.clone())));
        }
    }

    /// Ends the days that are over, and begins the next.
    pub(super) fn end_days(&mut self, parked: (u64, ByteCount), turn: &mut Turn) {
        let now = turn.now;
        let over = self.posts.iter().filter(|(_, post)| post.is_day_over(now.monotonic));
        let over: Vec<_> = over.map(|(channel, _)| channel.clone()).collect();
        for channel in over {
            let Some(post) = self.posts.get_mut(&channel) else { continue };
            let Some(day) = &mut post.day else { continue };
            (day.content.parked_count, day.content.parked_size_bytes) = (parked.0, parked.1.0);
            if day.id.is_some() || parked.0 > 0 {
                self.write_day(&channel, turn);
            }
            self.post_of(&channel, now).begin_day(now);
        }
    }
}

//! Notices: decides who is notified of what, and when. Wording and sending are elsewhere.
//!
//! *In*: the records of each turn, and what is in no record: completed runs, free space, answers of
//! destinations, surveys. *Out*: records of notices, committed in one transaction with their fact,
//! one for each channel that wants their kind; and the acts that pass them to their channels. A
//! channel handles one notice at a time, in order, and is retried with growing delays for as long
//! as it fails. Nothing else waits for a channel.
//!
//! *A completed run* is a notice of its own, always and at once: other programs react to it.
//!
//! *Failed files* make one notice for each group of (kind, drop directory, destination, reason):
//! the first at once; files that fail within [`PAUSE`] after it are added, one by one, to the next
//! one, which is sent when the pause ends, and begins another pause.
//!
//! *A condition* is notified when it begins and when it ends. One that begins again within the
//! pause of its group is held back, and notified at the end of the pause if it still holds.
//!
//! *At a crash* a notice's row and its fact are committed together or not at all. A notice that was
//! accepted and not recorded is sent again with the same id. Pauses and conditions are read from
//! the rows. A condition that is held back has no row, and is found again.

mod failed;
mod message;
mod outages;
mod queue;

use std::collections::BTreeMap;
use std::time::Duration;

pub(super) use self::failed::FailingUpload;
use self::failed::Stuck;
use self::message::Message;
use self::outages::Outages;
use self::queue::NoticeQueue;
use super::dispatch::ToNotices;
use super::event::{Act, Outcome, ReportWanted, Setback};
use super::settings::{ChannelSettings, DestinationSettings, NoticeSettings, Settings};
use super::turn::Turn;
use crate::model::{
    Channel, DestinationName, DirectoryName, DisposalDoubt, Monotonic, NoticeGroup, NoticeId,
    NoticeKind, NoticeNumber, Now, Record, RunRow, SourcePath, Space, StoredNotices, UploadId,
    WallTime,
};

/// After a notice of a group, the next one waits this long. People need about an hour to deal with
/// a failure; all further failures in that time cost them one more message.
const PAUSE: Duration = Duration::from_hours(1);
/// Interval of checking the state directory and the credentials.
const SURVEY_INTERVAL: Duration = Duration::from_mins(10);
/// Kinds of notices that list files.
const LISTS: [NoticeKind; 3] = [NoticeKind::Parked, NoticeKind::UploadStuck, NoticeKind::Replaced];
/// People need some days to get another credential.
const EXPIRY_WARNING: Duration = Duration::from_hours(7 * 24);

/// The notices. See the module documentation.
#[derive(Debug)]
pub(super) struct Notices {
    settings: NoticeSettings,
    queues: BTreeMap<Channel, NoticeQueue>,
    /// Conditions that hold.
    conditions: BTreeMap<NoticeGroup, Condition>,
    pauses: BTreeMap<NoticeGroup, Pause>,
    outages: Outages,
    stuck: Stuck,
    /// Findings of this turn that are in no record.
    found: Vec<Message>,
    /// When the next survey begins; `None` while one is running.
    survey_due: Option<Monotonic>,
    reported_until: Option<WallTime>,
    next_id: i64,
    /// The platforms' own web pages of destinations.
    pages: BTreeMap<DestinationName, String>,
}

/// A condition that holds.
#[derive(Debug)]
enum Condition {
    Notified,
    /// It began within the pause of its group.
    Held {
        message: Box<Message>,
        until: Monotonic,
    },
}

/// The time after a notice of a group.
#[derive(Debug)]
struct Pause {
    until: Monotonic,
    /// The notices that are sent at its end, and collect all files until then.
    open: Vec<(Channel, NoticeId)>,
}

impl Notices {
    /// Starts from stored notices.
    pub(super) fn load(settings: &Settings, stored: StoredNotices, now: Now) -> Self {
        let standing = stored.standing.into_iter().map(|group| (group, Condition::Notified));
        let mut notices = Self {
            settings: settings.notices,
            queues: BTreeMap::new(),
            conditions: standing.collect(),
            pauses: BTreeMap::new(),
            outages: Outages::default(),
            stuck: Stuck::default(),
            found: Vec::new(),
            survey_due: Some(now.monotonic),
            reported_until: stored.reported_until,
            next_id: stored.next.map_or(1, |id| id.0),
            pages: BTreeMap::new(),
        };
        for (group, at) in stored.latest {
            // A clock that was set back does not lengthen a pause.
            let left = now.wall.until(at.after(PAUSE)).min(PAUSE);
            if !left.is_zero() {
                notices.pauses.insert(group, Pause::new(now.monotonic.after(left)));
            }
        }
        notices.reconfigure(settings, now);
        for unsent in stored.unsent {
            let (group, channel) = (unsent.notice.group.clone(), unsent.notice.channel.clone());
            let is_list = LISTS.contains(&unsent.notice.kind);
            let is_open = is_list && unsent.attempt_count == 0;
            let (due, id) = notices.queue(&channel, now).restore(unsent, now);
            if is_open && due > now.monotonic {
                let pause = notices.pauses.entry(group).or_insert(Pause::new(due));
                pause.until = due;
                pause.open.push((channel, id));
            }
        }
        notices
    }

    fn queue(&mut self, channel: &Channel, now: Now) -> &mut NoticeQueue {
        self.queues.entry(channel.clone()).or_insert_with(|| NoticeQueue::new(now.monotonic))
    }

    /// Replaces the settings. Notices of a removed channel keep waiting.
    pub(super) fn reconfigure(&mut self, settings: &Settings, now: Now) {
        self.settings = settings.notices;
        let page = |to: &DestinationSettings| Some((to.name.clone(), to.address.page()?));
        self.pages = settings.destinations.iter().filter_map(page).collect();
        self.queues.values_mut().for_each(|queue| queue.configure(None));
        for ChannelSettings { channel, on } in &settings.channels {
            self.queue(channel, now).configure(Some(on));
        }
    }

    /// Returns whether no notice waits to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.values().all(NoticeQueue::is_empty)
    }

    /// Returns when a channel is tried, a condition needs a notice, or a survey begins.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        let queues = self.queues.values().filter_map(NoticeQueue::next_try);
        let held = self.conditions.values().filter_map(|condition| match condition {
            Condition::Held { until, .. } => Some(*until),
            Condition::Notified => None,
        });
        let outages = self.outages.next_deadline();
        let survey = self.survey_due.filter(|_| self.surveys());
        queues.chain(held).chain(outages).chain(survey).min()
    }

    /// Retries every channel at once.
    fn retry(&mut self, now: Monotonic) {
        self.queues.values_mut().for_each(|queue| queue.hurry(now));
    }

    fn is_wanted(&self, kind: NoticeKind) -> bool {
        self.queues.values().any(|queue| queue.wants(kind))
    }

    fn reports(&self) -> bool {
        self.settings.report.is_some() && self.is_wanted(NoticeKind::Report)
    }

    fn surveys(&self) -> bool {
        let looks = [NoticeKind::DiskLow, NoticeKind::CredentialExpiring];
        looks.into_iter().any(|kind| self.is_wanted(kind)) || self.reports()
    }

    /// Receives a message of another machine.
    pub(super) fn receive(&mut self, what: ToNotices, now: Now) {
        match what {
            ToNotices::RunCompleted { row, destinations, upload } => {
                self.run_completed(&row, &destinations, upload);
            }
            ToNotices::Doubt { drop, run, doubt } => self.doubt_found(&drop, &run, doubt.as_ref()),
            ToNotices::Space { directory, drop, space } => {
                self.space_found(&directory, Some(&drop), space);
            }
            ToNotices::DestinationAnswered(name) => self.destination_answered(&name),
            ToNotices::Retry => self.retry(now.monotonic),
        }
    }

    /// Records a completed run; for a file that is a run of its own, with its upload.
    fn run_completed(
        &mut self,
        row: &RunRow,
        destinations: &[DestinationName],
        upload: Option<UploadId>,
    ) {
        let which =
            upload.map_or(row.completion.generation.to_string(), |id| format!("upload-{id}"));
        self.found.push(Message::completed(row, destinations, &which));
    }

    /// A destination accepts calls.
    fn destination_answered(&mut self, name: &DestinationName) {
        self.outages.end(name);
        if !self.conditions.is_empty() {
            self.found.push(Message::unreachable(name, None));
            self.found.push(Message::halted(name, None));
        }
    }

    /// Records why a run that is to be disposed of is kept; or that the doubt is gone.
    fn doubt_found(
        &mut self,
        drop: &DirectoryName,
        run: &SourcePath,
        doubt: Option<&DisposalDoubt>,
    ) {
        use NoticeKind::{GoneAtDestination, ReceiptsDamaged};
        let reason = doubt.map(DisposalDoubt::text);
        match doubt {
            Some(DisposalDoubt::ReceiptDamaged(_)) => {
                self.found.push(Message::run(ReceiptsDamaged, drop, run, reason));
            }
            Some(DisposalDoubt::GoneAtDestination(_)) => {
                self.found.push(Message::run(GoneAtDestination, drop, run, reason));
            }
            None if self.conditions.is_empty() => {}
            None => {
                let kinds = [ReceiptsDamaged, GoneAtDestination];
                self.found.extend(kinds.map(|kind| Message::run(kind, drop, run, None)));
            }
        }
    }

    /// Records the free space of the file system of a drop directory or of the state.
    fn space_found(&mut self, directory: &str, drop: Option<&DirectoryName>, space: Option<Space>) {
        let Some(space) = space else { return };
        let mut message = Message::free_space(directory, drop.cloned(), space);
        let was_low = self.conditions.contains_key(&message.group);
        message.is_over = !self.settings.disk_floor.is_low(space, was_low);
        self.found.push(message);
    }

    /// Receives the result of a survey.
    pub(super) fn surveyed(&mut self, reply: Result<Outcome, Setback>, now: Now) {
        self.survey_due = Some(now.monotonic.after(SURVEY_INTERVAL));
        let Ok(Outcome::Surveyed(survey)) = reply else { return };
        self.space_found(&survey.directory, None, survey.space);
        for (name, expires_at) in survey.expiries {
            let is_soon = |at: &WallTime| now.wall.until(*at) <= EXPIRY_WARNING;
            self.found.push(Message::credential(&name, expires_at.filter(is_soon)));
        }
        if let Some(report) = survey.report {
            let until = i64::try_from(report.number(NoticeNumber::Until));
            self.reported_until = until.ok().map(WallTime).or(self.reported_until);
            self.found.push(Message::report(report));
        }
    }

    /// Receives a channel's answer.
    pub(super) fn answered(&mut self, id: NoticeId, setback: Option<Setback>, turn: &mut Turn) {
        let queue = self.queues.values_mut().find(|queue| queue.is_sending(id));
        if let Some(record) = queue.and_then(|queue| queue.on_answer(setback, turn.now())) {
            turn.record(record);
        }
    }

    /// Records the notices of a turn.
    pub(super) fn end_turn(
        &mut self,
        turn: &mut Turn,
        upload: impl Fn(UploadId) -> Option<FailingUpload>,
    ) {
        let now = turn.now();
        self.end_pauses(now.monotonic);
        for record in turn.records() {
            self.found.extend(Message::conditions_in(record));
            self.outages.note(record, self.settings.unreachable_after, now.monotonic);
        }
        self.found.extend(self.outages.lasting(now.monotonic));
        let failed = self.stuck.failed_in(turn, self.settings.stuck_after, upload);
        for message in std::mem::take(&mut self.found) {
            self.note(message, turn);
        }
        for message in failed {
            self.add_files(message, turn);
        }
        self.end_holds(turn);
    }

    /// Returns the acts that are due: notices for free channels, and a survey.
    pub(super) fn acts(&mut self, now: Monotonic) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.surveys() && self.survey_due.is_some_and(|at| at <= now) {
            self.survey_due = None;
            let period = self.settings.report.filter(|_| self.reports());
            let reported_until = self.reported_until;
            acts.push(Act::Survey(period.map(|period| ReportWanted { period, reported_until })));
        }
        let due = self.queues.values_mut().filter_map(|queue| queue.next(now));
        acts.extend(due.map(|notice| Act::Notify { notice: Box::new(notice) }));
        acts
    }

    /// Ends pauses. A notice that is sent at the end of one begins another.
    fn end_pauses(&mut self, now: Monotonic) {
        self.pauses.retain(|_, pause| {
            if pause.until > now {
                return true;
            }
            let is_sent = !std::mem::take(&mut pause.open).is_empty();
            pause.until = pause.until.after(PAUSE);
            is_sent && pause.until > now
        });
    }

    /// Records a message, unless it reports nothing new.
    fn note(&mut self, message: Message, turn: &mut Turn) {
        let now = turn.now().monotonic;
        if !NoticeKind::CONDITIONS.contains(&message.kind) {
            self.post(&message, now, turn);
            return;
        }
        if message.is_over {
            if let Some(Condition::Notified) = self.conditions.remove(&message.group) {
                self.post(&message, now, turn);
            }
            return;
        }
        if self.conditions.contains_key(&message.group) || !self.is_wanted(message.kind) {
            return;
        }
        let Some(pause) = self.pauses.get(&message.group) else {
            return self.begin(message, turn);
        };
        let until = pause.until;
        let group = message.group.clone();
        self.conditions.insert(group, Condition::Held { message: Box::new(message), until });
    }

    /// Notifies of the begin of a condition.
    fn begin(&mut self, message: Message, turn: &mut Turn) {
        let now = turn.now().monotonic;
        self.pauses.insert(message.group.clone(), Pause::new(now.after(PAUSE)));
        self.post(&message, now, turn);
        self.conditions.insert(message.group, Condition::Notified);
    }

    /// Notifies of conditions that were held back and still hold.
    fn end_holds(&mut self, turn: &mut Turn) {
        let now = turn.now().monotonic;
        let due = self.conditions.iter().filter_map(|(group, condition)| match condition {
            Condition::Held { until, message } if *until <= now => {
                Some((group.clone(), Message::clone(message)))
            }
            Condition::Held { .. } | Condition::Notified => None,
        });
        for (group, message) in due.collect::<Vec<_>>() {
            self.conditions.remove(&group);
            self.begin(message, turn);
        }
    }

    /// Adds files to the notices at the end of their group's pause, or makes notices.
    fn add_files(&mut self, message: Message, turn: &mut Turn) {
        let now = turn.now().monotonic;
        let pause = self.pauses.get(&message.group);
        let (due, open) = pause.map_or((now, &[][..]), |pause| (pause.until, &pause.open));
        if open.is_empty() {
            let open = self.post(&message, due, turn);
            if !open.is_empty() {
                let pause = self.pauses.entry(message.group);
                let pause = pause.or_insert(Pause::new(now.after(PAUSE)));
                pause.open = if due > now { open } else { Vec::new() };
            }
            return;
        }
        for (channel, id) in open {
            let queue = self.queues.get_mut(channel);
            let added = queue.and_then(|queue| queue.add_files(due, *id, &message.facts));
            added.into_iter().for_each(|record| turn.record(record));
        }
    }

    /// Records a message for every channel that wants its kind, and returns its notices.
    fn post(
        &mut self,
        message: &Message,
        due: Monotonic,
        turn: &mut Turn,
    ) -> Vec<(Channel, NoticeId)> {
        let now = turn.now();
        let mut posted = Vec::new();
        for (channel, queue) in &mut self.queues {
            if !queue.wants(message.kind) {
                continue;
            }
            let id = NoticeId(self.next_id);
            self.next_id += 1;
            let mut notice =
                message.notice(id, channel, now.wall, now.wall.after(due.since(now.monotonic)));
            let mut named = notice.facts.destinations.iter();
            notice.facts.url = named.find_map(|to| self.pages.get(to)).cloned();
            turn.record(Record::Notice(Box::new(notice.clone())));
            queue.push(notice, due);
            posted.push((channel.clone(), id));
        }
        posted
    }
}

impl Pause {
    fn new(until: Monotonic) -> Self {
        Self { until, open: Vec::new() }
    }
}

#[cfg(test)]
mod tests;

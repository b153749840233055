//! Facts in words: the JSON of each message, and which facts become one.

use serde_json::{Map, Value, json};

use crate::engine::Engine;
use crate::engine::gate::Gate;
use crate::engine::turn::Turn;
use crate::engine::units::UnitKey;
use crate::model::{
    ByteCount, Channel, DestinationName, DestinationState, DropName, Fact, Notice, NoticeId,
    NoticeKind, ParkReason, Record, SourcePath, UnitRow, UploadId, WallTime, WatchState,
};

/// Paths named in a message; the others are counted.
const PATHS_MAX: usize = 5;

/// Files that park of one drop directory, to one destination, for one reason, belong together.
pub(super) type GroupKey = (DropName, DestinationName, &'static str);

/// One message, before it has an id.
#[derive(Debug)]
pub(in crate::engine) struct Message {
    pub(super) kind: NoticeKind,
    pub(super) subject: String,
    pub(super) is_over: bool,
    fields: Map<String, Value>,
}

/// Files that parked for one reason.
#[derive(Debug, Clone)]
pub(super) struct Parked {
    first: UploadId,
    paths: Vec<String>,
    count: u64,
    size: ByteCount,
    reason: ParkReason,
    detail: String,
}

impl Parked {
    /// Adds another that parked later.
    pub(super) fn add(&mut self, other: Self) {
        self.count += other.count;
        self.size = ByteCount(self.size.0.saturating_add(other.size.0));
        let room = PATHS_MAX.saturating_sub(self.paths.len());
        self.paths.extend(other.paths.into_iter().take(room));
    }
}

impl Message {
    fn new(what: (NoticeKind, String, bool), said: (Option<&DropName>, &str), more: Value) -> Self {
        let ((kind, subject, is_over), (drop, text)) = (what, said);
        let mut fields = if let Value::Object(fields) = more { fields } else { Map::new() };
        fields.insert("schema".into(), 1.into());
        fields.insert("kind".into(), kind.as_str().into());
        fields.insert("drop".into(), drop.map(DropName::as_str).into());
        fields.insert("text".into(), text.into());
        Self { kind, subject, is_over, fields }
    }

    /// Renders it under its id.
    pub(super) fn body(&self, id: NoticeId, at: WallTime) -> String {
        let moment = jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or_default();
        let mut fields = self.fields.clone();
        // Ids begin at one in each state: with its time an id is one of many states, too.
        fields.insert("id".into(), format!("{:x}-{}", at.0, id.0).into());
        fields.insert("at".into(), moment.to_string().into());
        Value::Object(fields).to_string()
    }

    pub(super) fn notice(&self, to: (NoticeId, Channel), at: WallTime, due: WallTime) -> Notice {
        let (id, channel) = to;
        let (kind, subject, is_over) = (self.kind, self.subject.clone(), self.is_over);
        Notice { id, channel, kind, subject, is_over, body: self.body(id, at), at, due }
    }

    fn completed(row: &UnitRow, destinations: &[DestinationName]) -> Self {
        let (name, late) = (row.name.to_string(), row.late_count());
        let names: Vec<_> = destinations.iter().map(DestinationName::as_str).collect();
        let all =
            if row.given_up_count == 0 { "is all" } else { "is, as far as it was not given up," };
        let mut text = format!("{name} of {} {all} at {}: ", row.drop, names.join(", "));
        text += &format!("{}, {}", files(row.file_count), row.size);
        if late > 0 {
            text += &format!(", {late} of them after it was closed");
        }
        if row.given_up_count > 0 {
            text += &format!("; uploads given up by an operator: {}", row.given_up_count);
        }
        if let Some(outcome) = &row.outcome {
            text += &format!("; the run ended as {}", outcome.word);
        }
        let more = json!({
            "name": name, "destinations": names, "file_count": row.file_count,
            "size_bytes": row.size.0, "late_file_count": late, "completion_count": row.generation, "given_up_count": row.given_up_count,
            "outcome": row.outcome.as_ref().map(|outcome| &outcome.word),
            "outcome_is_success": row.outcome.as_ref().map(|outcome| outcome.is_success),
        });
        Self::new((NoticeKind::DropCompleted, name, false), (Some(&row.drop), &text), more)
    }

    /// Files that parked together.
    pub(super) fn parked(key: &GroupKey, files: &Parked) -> Self {
        let (drop, destination, word) = key;
        let more = files.count - files.paths.len() as u64;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let is_are = if files.count == 1 { "is" } else { "are" };
        let mut text = format!(
            "{} of {drop} {is_are} parked on the way to {destination}, because {}: {}{more}",
            self::files(files.count),
            files.reason.sentence(),
            files.paths.join(", ")
        );
        if files.detail != files.reason.sentence() {
            text += &format!(" ({})", files.detail);
        }
        let more = json!({
            "name": files.paths.first(), "destination": destination.as_str(),
            "count": files.count, "size_bytes": files.size.0, "paths": files.paths,
            "first_upload": files.first.0, "reason": word, "detail": files.detail,
        });
        let subject = files.first.to_string();
        Self::new((NoticeKind::Parked, subject, false), (Some(drop), &text), more)
    }

    fn hearing(drop: &DropName, directory: &str, deafness: Option<&str>) -> Self {
        let (state, text) = match deafness {
            Some(why) => ("deaf", format!("drop directory {drop} ({directory}) is deaf: {why}")),
            None => ("heard", format!("drop directory {drop} ({directory}) is heard again")),
        };
        let name = drop.as_str();
        let more =
            json!({ "name": name, "directory": directory, "state": state, "reason": deafness });
        let what = (NoticeKind::Deaf, name.to_owned(), deafness.is_none());
        Self::new(what, (Some(drop), &text), more)
    }

    fn halt(destination: &DestinationName, halted: Option<&str>) -> Self {
        let (state, text) = match halted {
            Some(why) => ("halted", format!("destination {destination} is halted: {why}")),
            None => ("ok", format!("destination {destination} takes our calls again")),
        };
        let name = destination.as_str();
        let more = json!({ "name": name, "state": state, "reason": halted });
        let what = (NoticeKind::DestinationHalted, name.to_owned(), halted.is_none());
        Self::new(what, (None, &text), more)
    }
}

fn files(count: u64) -> String {
    if count == 1 { "1 file".into() } else { format!("{count} files") }
}

impl Engine {
    /// Returns what this turn's records park.
    pub(super) fn parked_in(&self, turn: &Turn) -> Vec<(GroupKey, Parked)> {
        let file = |record: &Record| {
            if let Record::Admit(admission) = record {
                let reason = admission.parked?;
                let to = (&admission.drop, &admission.destination);
                let of = (&admission.path, admission.fingerprint.size);
                return Some(parked((admission.id, reason), to, of, reason.sentence()));
            }
            let Record::Upload(id, Fact::Parked { reason, detail, .. }) = record else {
                return None;
            };
            let admission = &self.uploads.get(id)?.admission;
            let to = (&admission.drop, &admission.destination);
            Some(parked((*id, *reason), to, (&admission.path, admission.fingerprint.size), detail))
        };
        turn.records().iter().filter_map(file).collect()
    }

    /// Tells that a unit was completed.
    pub(in crate::engine) fn note_completed(&mut self, key: &UnitKey, turn: &mut Turn) {
        let Some(files) = self.drops.get(&key.0) else { return };
        let Some(unit) = files.units.get(&key.1) else { return };
        let message = Message::completed(&unit.row, &files.settings.destinations);
        self.outbox.complete(&message, turn);
    }

    /// Tells that a drop directory is deaf; or heard again, once a scan of this life has seen it.
    pub(in crate::engine) fn note_hearing(&mut self, drop: &DropName, turn: &mut Turn) {
        let Some(files) = self.drops.get(drop) else { return };
        let (watch, why) = &files.watch;
        let is_deaf = *watch == WatchState::Deaf;
        let by_watch = is_deaf.then(|| why.as_deref().unwrap_or("it cannot be watched"));
        let deafness = files.hearing.deafness().or(by_watch);
        let was_told = self.outbox.is_troubled(NoticeKind::Deaf, drop.as_str());
        if deafness.is_some() != was_told && (deafness.is_some() || files.is_scanned) {
            let message = Message::hearing(drop, &files.settings.directory, deafness);
            self.outbox.trouble(&message, turn);
        }
    }

    /// Tells that a destination refuses us.
    pub(in crate::engine) fn note_halt(
        &mut self,
        name: &DestinationName,
        state: DestinationState,
        reason: Option<&str>,
        turn: &mut Turn,
    ) {
        if state == DestinationState::Halted {
            let message = Message::halt(name, Some(reason.unwrap_or("it refuses our calls")));
            self.outbox.trouble(&message, turn);
        }
    }

    /// Tells that a destination takes our calls again, when it was said to refuse them.
    pub(in crate::engine) fn note_answering(&mut self, name: &DestinationName, turn: &mut Turn) {
        // An answer that was on its way when the destination was closed says nothing.
        let is_open = self.gates.get(name).is_some_and(Gate::is_open);
        if is_open && self.outbox.is_troubled(NoticeKind::DestinationHalted, name.as_str()) {
            self.outbox.trouble(&Message::halt(name, None), turn);
        }
    }
}

/// One file that parked, and what it is grouped by.
pub(super) fn parked(
    what: (UploadId, ParkReason),
    to: (&DropName, &DestinationName),
    of: (&SourcePath, ByteCount),
    detail: &str,
) -> (GroupKey, Parked) {
    let ((first, reason), (path, size)) = (what, of);
    let paths = vec![path.to_string()];
    let files = Parked { first, paths, count: 1, size, reason, detail: detail.to_owned() };
    ((to.0.clone(), to.1.clone(), reason.as_str()), files)
}

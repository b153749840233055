//! Facts in words: the JSON of each message.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::daily::Content;
use super::group::{Files, GroupKey};
use crate::engine::RunKey;
use crate::model::{
    ByteCount, Channel, DestinationName, DirectoryName, Notice, NoticeId, NoticeKind, RunRow,
    Space, WallTime,
};

/// Texts that a summary repeats; the others are counted.
const TEXTS_MAX: usize = 20;

/// One message, before it has an id.
#[derive(Debug)]
pub(in crate::engine) struct Message {
    pub(super) kind: NoticeKind,
    pub(super) subject: String,
    pub(super) is_over: bool,
    fields: Map<String, Value>,
}

impl Message {
    fn new(
        what: (NoticeKind, String, bool),
        said: (Option<&DirectoryName>, &str),
        more: Value,
    ) -> Self {
        let ((kind, subject, is_over), (drop, text)) = (what, said);
        let mut fields = if let Value::Object(fields) = more { fields } else { Map::new() };
        fields.insert("schema".into(), 1.into());
        fields.insert("kind".into(), kind.as_str().into());
        fields.insert("drop".into(), drop.map(DirectoryName::as_str).into());
        fields.insert("text".into(), text.into());
        Self { kind, subject, is_over, fields }
    }

    /// Renders it as the body of a notice.
    pub(super) fn body(&self, notice: &Notice) -> String {
        let mut fields = self.fields.clone();
        fields.insert("id".into(), notice.public_id().into());
        fields.insert("at".into(), moment(notice.at).into());
        Value::Object(fields).to_string()
    }

    pub(super) fn notice(&self, to: (NoticeId, &Channel), at: WallTime, due: WallTime) -> Notice {
        let (kind, subject, is_over) = (self.kind, self.subject.clone(), self.is_over);
        let (id, channel, body) = (to.0, to.1.clone(), String::new());
        let mut notice = Notice { id, channel, kind, subject, is_over, body, at, due };
        notice.body = self.body(&notice);
        notice
    }

    /// A directory that is a drop.
    pub(super) fn completed(row: &RunRow, destinations: &[DestinationName]) -> Self {
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
        Self::new((NoticeKind::RunCompleted, name, false), (Some(&row.drop), &text), more)
    }

    /// Files that belong together.
    pub(super) fn gathered(key: &GroupKey, files: &Files) -> Self {
        match key {
            GroupKey::Parked(drop, destination, word) => {
                Self::parked((drop, destination, word), files)
            }
            GroupKey::Stuck(drop, destination, word) => {
                Self::stuck((drop, destination, word), files)
            }
            GroupKey::Completed(drop) => Self::completed_files(drop, files),
        }
    }

    fn completed_files(drop: &DirectoryName, files: &Files) -> Self {
        let is_are = if files.count == 1 { "is" } else { "are" };
        let (count, at) = (self::files(files.count), files.why.join(", "));
        let text = format!("{count} of {drop} {is_are} at {at}, {}: {}", files.size, files.named());
        let more = json!({
            "name": files.paths.first(), "destinations": files.why, "file_count": files.count,
            "size_bytes": files.size.0, "paths": files.paths, "first_upload": files.first.0,
        });
        let subject = files.first.to_string();
        Self::new((NoticeKind::RunCompleted, subject, false), (Some(drop), &text), more)
    }

    fn parked(of: (&DirectoryName, &DestinationName, &str), files: &Files) -> Self {
        let (drop, destination, word) = of;
        let is_are = if files.count == 1 { "is" } else { "are" };
        let (sentence, detail) = (files.why.first(), files.why.last());
        let mut text = format!(
            "{} of {drop} {is_are} parked on the way to {destination}, because {}: {}",
            self::files(files.count),
            sentence.map_or("", String::as_str),
            files.named()
        );
        if let Some(detail) = detail.filter(|detail| Some(*detail) != sentence) {
            text += &format!(" ({detail})");
        }
        let more = json!({
            "name": files.paths.first(), "destination": destination.as_str(),
            "count": files.count, "size_bytes": files.size.0, "paths": files.paths,
            "first_upload": files.first.0, "reason": word, "detail": detail,
        });
        let subject = files.first.to_string();
        Self::new((NoticeKind::Parked, subject, false), (Some(drop), &text), more)
    }

    fn stuck(of: (&DirectoryName, &DestinationName, &str), files: &Files) -> Self {
        let (drop, destination, word) = of;
        let waits = if files.count == 1 { "waits" } else { "wait" };
        let detail = files.why.first();
        let text = format!(
            "{} of {drop} {waits} for an hour or longer on the way to {destination}: {} ({}); \
             it is still tried",
            self::files(files.count),
            files.named(),
            detail.map_or("", String::as_str)
        );
        let more = json!({
            "name": files.paths.first(), "destination": destination.as_str(),
            "count": files.count, "size_bytes": files.size.0, "paths": files.paths,
            "first_upload": files.first.0, "reason": word, "detail": detail,
        });
        let subject = files.first.to_string();
        Self::new((NoticeKind::UploadStuck, subject, false), (Some(drop), &text), more)
    }

    /// A drop directory that is deaf, or heard again.
    pub(super) fn hearing(drop: &DirectoryName, directory: &str, deafness: Option<&str>) -> Self {
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

    /// A destination that refuses us, or takes our calls again.
    pub(super) fn halt(destination: &DestinationName, halted: Option<&str>) -> Self {
        let (state, text) = match halted {
            Some(why) => ("halted", format!("destination {destination} is halted: {why}")),
            None => ("ok", format!("destination {destination} takes our calls again")),
        };
        Self::of_destination(NoticeKind::DestinationHalted, destination, (state, &text), halted)
    }

    /// A destination that cannot be reached for long, or is reached again.
    pub(super) fn reach(destination: &DestinationName, away: Option<&str>) -> Self {
        let (state, text) = match away {
            Some(why) => {
                let text = format!(
                    "destination {destination} cannot be reached: {why}; what is to go there waits"
                );
                ("unreachable", text)
            }
            None => ("ok", format!("destination {destination} is reached again")),
        };
        Self::of_destination(NoticeKind::DestinationUnreachable, destination, (state, &text), away)
    }

    /// A credential that ends soon, or does not any more.
    pub(super) fn expiry(destination: &DestinationName, at: Option<WallTime>) -> Self {
        let at = at.map(moment);
        let (state, text) = match &at {
            Some(at) => ("ending", format!("the credential of {destination} ends at {at}")),
            None => ("ok", format!("the credential of {destination} does not end soon any more")),
        };
        let kind = NoticeKind::CredentialFailing;
        let mut message = Self::of_destination(kind, destination, (state, &text), None);
        message.is_over = at.is_none();
        message.fields.insert("expires_at".into(), at.into());
        message
    }

    fn of_destination(
        kind: NoticeKind,
        destination: &DestinationName,
        said: (&str, &str),
        reason: Option<&str>,
    ) -> Self {
        let name = destination.as_str();
        let more = json!({ "name": name, "state": said.0, "reason": reason });
        Self::new((kind, name.to_owned(), reason.is_none()), (None, said.1), more)
    }

    /// A file system that has little room, or enough again.
    pub(super) fn room(
        place: (&str, Option<&DirectoryName>),
        space: Space,
        is_short: bool,
    ) -> Self {
        let (directory, drop) = place;
        let Space { free, total } = space;
        let (state, verb) = if is_short { ("short", "has only") } else { ("ok", "has again") };
        let text = format!("the file system of {directory} {verb} {free} free of {total}");
        let more = json!({
            "name": directory, "directory": directory, "state": state, "free_bytes": free.0,
            "total_bytes": total.0,
        });
        let what = (NoticeKind::DiskNearlyFull, directory.to_owned(), !is_short);
        Self::new(what, (drop, &text), more)
    }

    /// A run that stays although it is to be disposed of; without a reason, it may go again.
    pub(super) fn doubt(kind: NoticeKind, run: &RunKey, reason: Option<&str>) -> Self {
        let (drop, name) = (&run.0, run.1.to_string());
        let text = match (kind, reason) {
            (NoticeKind::ReceiptsDamaged, Some(why)) => {
                format!("a receipt of {name} of {drop} is damaged: {why}")
            }
            (_, Some(why)) => format!("{name} of {drop} is not disposed of: {why}"),
            (_, None) => format!("{name} of {drop} is proved again"),
        };
        let state = if reason.is_some() { "stays" } else { "ok" };
        let more = json!({ "name": name, "state": state, "reason": reason });
        let subject = format!("{drop}/{name}");
        Self::new((kind, subject, reason.is_none()), (Some(drop), &text), more)
    }

    /// What completed until the end of a day.
    pub(super) fn digest(day: &str, content: &Content) -> Self {
        let (count, size) = (content.completed_count, ByteCount(content.size_bytes));
        let drops = if count == 1 { "1 drop is".into() } else { format!("{count} drops are") };
        let mut text = format!("{drops} complete: {}, {size}", files(content.file_count));
        if content.parked_count > 0 {
            let parked = ByteCount(content.parked_size_bytes);
            text += &format!("; parked: {}, {parked}", files(content.parked_count));
        }
        let more = serde_json::to_value(content).unwrap_or_default();
        let mut message =
            Self::new((NoticeKind::Digest, day.to_owned(), false), (None, &text), more);
        message.fields.insert("name".into(), day.into());
        message
    }

    /// What was too much to be told one by one.
    pub(super) fn summary(held: &[Notice]) -> Self {
        let bodies = held.iter().map(|notice| serde_json::from_str(&notice.body));
        let bodies: Vec<Value> = bodies.filter_map(Result::ok).collect();
        let texts: Vec<_> = bodies.iter().filter_map(|body| body["text"].as_str()).collect();
        let more = texts.len().saturating_sub(TEXTS_MAX);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let told = texts.iter().copied().take(TEXTS_MAX).collect::<Vec<_>>().join("; ");
        let text = format!("{} messages in one: {told}{more}", held.len());
        let subject = held.first().map_or(String::new(), |notice| notice.id.0.to_string());
        let more = json!({ "name": null, "count": held.len(), "notices": bodies });
        Self::new((NoticeKind::Summary, subject, false), (None, &text), more)
    }
}

fn moment(at: WallTime) -> String {
    Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or_default().to_string()
}

fn files(count: u64) -> String {
    if count == 1 { "1 file".into() } else { format!("{count} files") }
}

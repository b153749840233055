//! The JSON of a notice: its facts, and a sentence for people. The same facts give the same bytes.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::model::{
    ByteCount, Code, DestinationName, DirectoryName, Hex, Notice, NoticeFacts, NoticeItem,
    NoticeKind, NoticeNumber, ParkReason, WallTime,
};

/// Limit of paths in the sentence; the list has more.
const PATHS_MAX: usize = 5;

/// Returns the body for programs and webhooks.
pub fn body(notice: &Notice) -> Value {
    let facts = &notice.facts;
    let mut body = json!({
        "schema": 1, "id": notice.public_id(), "kind": notice.kind.as_str(),
        "host": host(), "version": env!("CARGO_PKG_VERSION"), "url": facts.url,
        "cure": cure(notice), "at": moment(notice.at), "drop": facts.drop.as_ref().map(DirectoryName::as_str),
        "name": facts.name, "text": text(notice),
    });
    for (number, value) in &facts.numbers {
        body[number.as_str()] = match number.is_time() {
            true => time(facts, *number).into(),
            false => (*value).into(),
        };
    }
    if let Some(directory) = &facts.directory {
        body["directory"] = directory.as_str().into();
    }
    if NoticeKind::CONDITIONS.contains(&notice.kind) {
        body["state"] = state(notice.kind, notice.is_over).into();
        body["reason"] = facts.reason.as_deref().into();
    }
    match notice.kind {
        NoticeKind::RunCompleted => {
            let names = facts.destinations.iter().map(DestinationName::as_str);
            body["destinations"] = names.collect::<Vec<_>>().into();
            body["closed_by_hand"] = facts.detail.as_deref().into();
            body["outcome"] = facts.outcome.as_ref().map(|outcome| &*outcome.word).into();
            let is_success = facts.outcome.as_ref().map(|outcome| outcome.is_success);
            body["outcome_is_success"] = is_success.into();
            body["ledger"] = facts.ledger.as_ref().map_or(Value::Null, |head| {
                json!({
                    "name": head.ledger.as_str(), "count": head.seq,
                    "sha256": Hex(&head.sha256).to_string(),
                })
            });
        }
        NoticeKind::Parked | NoticeKind::UploadStuck | NoticeKind::Replaced => {
            let first = facts.items.first().and_then(|item| item.upload);
            body["destination"] = facts.destinations.first().map(DestinationName::as_str).into();
            body["paths"] = facts.items.iter().map(|item| &*item.name).collect::<Vec<_>>().into();
            body["first_upload"] = first.map(|id| id.0).into();
            body["reason"] = facts.reason.as_deref().into();
            body["detail"] = facts.detail.as_deref().into();
        }
        NoticeKind::Report => {
            body["completed"] = facts.items.iter().map(completed).collect::<Vec<_>>().into();
        }
        NoticeKind::RunStale
        | NoticeKind::Deaf
        | NoticeKind::DestinationHalted
        | NoticeKind::DestinationUnreachable
        | NoticeKind::CredentialExpiring
        | NoticeKind::DiskLow
        | NoticeKind::ReceiptsDamaged
        | NoticeKind::GoneAtDestination
        | NoticeKind::Test => {}
    }
    body
}

/// Returns this machine's name: forty machines may send to one receiver.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Returns the cure, where there is one.
fn cure(notice: &Notice) -> Option<String> {
    let cure = Code::Notice(notice.kind).cure().filter(|_| !notice.is_over)?;
    let first = notice.facts.items.first().and_then(|item| item.upload);
    Some(first.map_or(cure.to_owned(), |id| cure.replace("show ID", &format!("show {id}"))))
}

fn completed(item: &NoticeItem) -> Value {
    let name = Some(&item.name).filter(|name| !name.is_empty());
    json!({
        "drop": item.drop.as_str(), "name": name, "file_count": item.file_count,
        "size_bytes": item.size.0,
    })
}

/// The word for the state of a condition.
fn state(kind: NoticeKind, is_over: bool) -> &'static str {
    let (state, over) = match kind {
        NoticeKind::Deaf => ("deaf", "readable"),
        NoticeKind::DestinationHalted => ("halted", "ok"),
        NoticeKind::DestinationUnreachable => ("unreachable", "ok"),
        NoticeKind::CredentialExpiring => ("ending", "ok"),
        NoticeKind::DiskLow => ("short", "ok"),
        NoticeKind::RunStale => ("stale", "ok"),
        NoticeKind::ReceiptsDamaged
        | NoticeKind::GoneAtDestination
        | NoticeKind::RunCompleted
        | NoticeKind::Parked
        | NoticeKind::UploadStuck
        | NoticeKind::Replaced
        | NoticeKind::Report
        | NoticeKind::Test => ("stays", "ok"),
    };
    if is_over { over } else { state }
}

/// Returns it as one sentence.
fn text(notice: &Notice) -> String {
    let (facts, is_over) = (&notice.facts, notice.is_over);
    let name = &facts.name;
    let drop = facts.drop.as_ref().map_or("", DirectoryName::as_str);
    let why = facts.reason.as_deref().unwrap_or_default();
    let directory = facts.directory.as_deref().unwrap_or_default();
    let bytes = |number| ByteCount(facts.number(number));
    match notice.kind {
        NoticeKind::RunCompleted => completed_text(facts, drop),
        NoticeKind::Parked | NoticeKind::UploadStuck | NoticeKind::Replaced => {
            failed_text(notice.kind, facts, drop)
        }
        NoticeKind::Deaf if is_over => {
            format!("drop directory {drop} ({directory}) is readable again")
        }
        NoticeKind::Deaf => format!("drop directory {drop} ({directory}) is unreadable: {why}"),
        NoticeKind::DestinationHalted if is_over => {
            format!("destination {name} accepts our calls again")
        }
        NoticeKind::DestinationHalted => format!("destination {name} is halted: {why}"),
        NoticeKind::DestinationUnreachable if is_over => {
            format!("destination {name} is reached again")
        }
        NoticeKind::DestinationUnreachable => {
            format!("destination {name} cannot be reached: {why}; what is to go there waits")
        }
        NoticeKind::CredentialExpiring if is_over => {
            format!("the credential of {name} does not end soon any more")
        }
        NoticeKind::CredentialExpiring => {
            format!("the credential of {name} ends at {}", time(facts, NoticeNumber::ExpiresAt))
        }
        NoticeKind::DiskLow => format!(
            "the file system of {name} has {} {} free of {}",
            if is_over { "again" } else { "only" },
            bytes(NoticeNumber::FreeBytes),
            bytes(NoticeNumber::TotalBytes)
        ),
        NoticeKind::ReceiptsDamaged if is_over && facts.drop.is_none() => {
            format!("the ledger {name} is whole again")
        }
        NoticeKind::ReceiptsDamaged | NoticeKind::GoneAtDestination if is_over => {
            format!("{name} of {drop} is proved again")
        }
        NoticeKind::ReceiptsDamaged if facts.drop.is_none() => {
            format!("the ledger {name} is damaged: {why}; what comes goes into the next one")
        }
        NoticeKind::ReceiptsDamaged => format!("a receipt of {name} of {drop} is damaged: {why}"),
        NoticeKind::GoneAtDestination => format!("{name} of {drop} is not disposed of: {why}"),
        NoticeKind::RunStale if is_over => format!("{name} of {drop} is open no more"),
        NoticeKind::RunStale => format!("{name} of {drop} is open for long: {why}"),
        NoticeKind::Report => report_text(facts),
        NoticeKind::Test => "this is a test message: this channel works".to_owned(),
    }
}

fn completed_text(facts: &NoticeFacts, drop: &str) -> String {
    let names: Vec<_> = facts.destinations.iter().map(DestinationName::as_str).collect();
    let given_up = facts.number(NoticeNumber::GivenUp);
    let all = if given_up == 0 { "is all" } else { "is, as far as it was not given up," };
    let (files, size) = (files(facts, NoticeNumber::Files), facts.number(NoticeNumber::Bytes));
    let mut text = format!("{} of {drop} {all} at {}: {files}", facts.name, names.join(", "));
    text += &format!(", {}", ByteCount(size));
    let late = facts.number(NoticeNumber::LateFiles);
    if late > 0 {
        text += &format!(", {late} of them after it was closed");
    }
    if given_up > 0 {
        text += &format!("; uploads given up by an operator: {given_up}");
    }
    if let Some(closed) = &facts.detail {
        text += &format!("; it was {closed}");
    }
    if let Some(outcome) = &facts.outcome {
        text += &format!("; the run ended as {}", outcome.word);
    }
    if let Some(head) = &facts.ledger {
        text += &format!("; head of its ledger: line {}, {}", head.seq, Hex(&head.sha256));
    }
    text
}

fn failed_text(kind: NoticeKind, facts: &NoticeFacts, drop: &str) -> String {
    let paths: Vec<_> = facts.items.iter().take(PATHS_MAX).map(|item| &*item.name).collect();
    let count = facts.number(NoticeNumber::Count);
    let more = count.saturating_sub(paths.len() as u64);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let named = format!("{}{more}", paths.join(", "));
    let destination = facts.destinations.first().map_or("", DestinationName::as_str);
    let (reason, detail) = (facts.reason.as_deref(), facts.detail.as_deref().unwrap_or_default());
    let files = files(facts, NoticeNumber::Count);
    if kind == NoticeKind::UploadStuck {
        let waits = if count == 1 { "waits" } else { "wait" };
        return format!(
            "{files} of {drop} {waits} for long on the way to {destination}: {named} ({detail}); it is \
             still tried"
        );
    }
    if kind == NoticeKind::Replaced {
        let how = match reason {
            Some("kept-both") => "is beside the earlier one, which could not be replaced",
            _ => "took the place of the earlier one",
        };
        return format!(
            "{files} of {drop} changed after being sent; at {destination} the newer version {how}: \
             {named}"
        );
    }
    let is_are = if count == 1 { "is" } else { "are" };
    let sentence = match reason.and_then(ParkReason::parse) {
        Some(reason) => reason.sentence(),
        None => detail,
    };
    let detail = if detail == sentence { String::new() } else { format!(" ({detail})") };
    format!(
        "{files} of {drop} {is_are} parked on the way to {destination}, because {sentence}: \
         {named}{detail}"
    )
}

fn report_text(facts: &NoticeFacts) -> String {
    let runs = match facts.number(NoticeNumber::Runs) {
        1 => "1 run is".to_owned(),
        count => format!("{count} runs are"),
    };
    let size = ByteCount(facts.number(NoticeNumber::Bytes));
    let mut text = format!("{runs} complete: {}, {size}", files(facts, NoticeNumber::Files));
    if facts.number(NoticeNumber::Parked) > 0 {
        let size = ByteCount(facts.number(NoticeNumber::ParkedBytes));
        text += &format!("; parked: {}, {size}", files(facts, NoticeNumber::Parked));
    }
    text
}

fn time(facts: &NoticeFacts, number: NoticeNumber) -> String {
    moment(WallTime(i64::try_from(facts.number(number)).unwrap_or(i64::MAX)))
}

fn moment(at: WallTime) -> String {
    Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or_default().to_string()
}

fn files(facts: &NoticeFacts, number: NoticeNumber) -> String {
    match facts.number(number) {
        1 => "1 file".into(),
        count => format!("{count} files"),
    }
}

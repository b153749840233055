//! Notices as text for a mail or a chat message, made from the JSON of a notice. Names and reasons
//! are escaped, so that they cannot begin a line or a header.

use serde_json::Value;

use crate::model::{ByteCount, NoticeKind, Shown, lasted};

/// Limit of a subject's length.
const SUBJECT_MAX: usize = 120;
/// Limit of list lines in a chat message, as receivers refuse long ones; the others are counted.
const CHAT_LINES_MAX: usize = 20;
/// Facts of a message, with their labels.
const LABELS: [(&str, &str); 18] = [
    ("host", "Machine"),
    ("drop", "Drop directory"),
    ("name", "Name"),
    ("destination", "Destination"),
    ("destinations", "Destinations"),
    ("url", "There"),
    ("file_count", "Files"),
    ("late_file_count", "Late files"),
    ("size_bytes", "Size"),
    ("seconds_to_there", "From end to there"),
    ("seconds_to_there_mean", "On average"),
    ("seconds_to_there_max", "At most"),
    ("outcome", "The run ended as"),
    ("reason", "Reason"),
    ("expires_at", "Ends"),
    ("from", "From (UTC)"),
    ("until", "Until (UTC)"),
    ("at", "Time (UTC)"),
];

fn text(body: &Value, key: &str) -> String {
    Shown(body[key].as_str().unwrap_or("")).to_string()
}

fn count(body: &Value, key: &str) -> u64 {
    body[key].as_u64().unwrap_or(0)
}

/// Returns one sentence and the beginning of the list.
pub(super) fn short(body: &Value) -> String {
    let list = list(body, CHAT_LINES_MAX);
    [vec![text(body, "text")], list].concat().join("\n")
}

pub(super) fn subject(kind: NoticeKind, is_over: bool, body: &Value) -> String {
    let (name, drop) = (text(body, "name"), text(body, "drop"));
    let subject = match (kind, is_over) {
        (NoticeKind::RunCompleted, _) => format!("{name} is complete"),
        (NoticeKind::RunStale, false) => format!("{name} is open for long"),
        (NoticeKind::RunStale, true) => format!("{name} is open no more"),
        (NoticeKind::Replaced, _) => {
            let count = count(body, "count");
            let files = if count == 1 { "file" } else { "files" };
            format!("{drop}: {count} {files} changed after being sent")
        }
        (NoticeKind::Parked, _) => {
            let count = count(body, "count");
            format!("{drop}: {count} {} parked", if count == 1 { "file" } else { "files" })
        }
        (NoticeKind::UploadStuck, _) => {
            let count = count(body, "count");
            format!("{drop}: {count} {} stuck", if count == 1 { "file" } else { "files" })
        }
        (NoticeKind::Deaf, false) => format!("drop directory {name} is unreadable"),
        (NoticeKind::Deaf, true) => format!("drop directory {name} is readable again"),
        (NoticeKind::DestinationHalted, false) => format!("destination {name} is halted"),
        (NoticeKind::DestinationUnreachable, false) => {
            format!("destination {name} cannot be reached")
        }
        (NoticeKind::DestinationHalted | NoticeKind::DestinationUnreachable, true) => {
            format!("destination {name} is fine again")
        }
        (NoticeKind::DiskLow, false) => format!("little free space on {name}"),
        (NoticeKind::DiskLow, true) => format!("free space again on {name}"),
        (NoticeKind::CredentialExpiring, false) => format!("the credential of {name} ends soon"),
        (NoticeKind::CredentialExpiring, true) => format!("the credential of {name} is renewed"),
        (NoticeKind::ReceiptsDamaged, false) => format!("receipts of {name} are damaged"),
        (NoticeKind::ReceiptsDamaged, true) => format!("receipts of {name} are whole again"),
        (NoticeKind::GoneAtDestination, false) => {
            format!("{name} stays: a destination does not have it as it was sent")
        }
        (NoticeKind::GoneAtDestination, true) => {
            format!("{name} is at every destination as it was sent")
        }
        (NoticeKind::Report, _) => format!("report: {}", text(body, "text")),
        (NoticeKind::Test, _) => "test message".to_owned(),
    };
    let cut: String = subject.chars().take(SUBJECT_MAX).collect();
    match text(body, "host") {
        host if host.is_empty() => format!("[dropferry] {cut}"),
        host => format!("[dropferry {host}] {cut}"),
    }
}

pub(super) fn mail(kind: NoticeKind, is_over: bool, body: &Value) -> String {
    let mut mail = format!("{}\n\n", text(body, "text"));
    // A list has no name of its own.
    let is_list = body["paths"].is_array() || kind == NoticeKind::Report;
    for (label, value) in facts(is_list, body) {
        mail += &format!("{:18}{value}\n", format!("{label}:"));
    }
    let listed = list(body, usize::MAX);
    if !listed.is_empty() {
        mail += &format!("\n{}\n", listed.join("\n"));
    }
    if let Some(advice) = advice(is_over, body) {
        mail += &format!("\n{advice}\n");
    }
    mail
}

/// The facts of a message, with their labels.
fn facts(is_list: bool, body: &Value) -> impl Iterator<Item = (&'static str, String)> {
    let labels = LABELS.iter().filter(move |(key, _)| *key != "name" || !is_list);
    labels.filter_map(|(key, label)| Some((*label, shown(key, &body[*key])?)))
}

/// The same, for a chat card.
pub(super) fn card(body: &Value) -> Vec<(&'static str, String)> {
    let is_list = body["paths"].is_array() || body["kind"] == NoticeKind::Report.as_str();
    facts(is_list, body).collect()
}

/// The cure, for a chat.
pub(super) fn cure(body: &Value) -> Option<String> {
    advice(false, body)
}

fn shown(key: &str, value: &Value) -> Option<String> {
    match value {
        Value::Number(number) if key == "size_bytes" => {
            Some(ByteCount(number.as_u64()?).to_string())
        }
        Value::Number(number) if key.starts_with("seconds_") => Some(lasted(number.as_u64()?)),
        Value::Number(number) if key == "late_file_count" && number.as_u64() == Some(0) => None,
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if !text.is_empty() => Some(Shown(text).to_string()),
        Value::Array(items) if !items.is_empty() => {
            let shown = |item: &Value| item.as_str().map(|text| Shown(text).to_string());
            Some(items.iter().filter_map(shown).collect::<Vec<_>>().join(", "))
        }
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            None
        }
    }
}

/// The list in a message: paths, or the runs of a report.
fn list(body: &Value, lines_max: usize) -> Vec<String> {
    let items = |key: &str| body[key].as_array().map_or(&[][..], Vec::as_slice);
    let mut lines: Vec<String> = Vec::new();
    let paths = items("paths").iter().filter_map(Value::as_str);
    lines.extend(paths.map(|path| format!("  {}", Shown(path))));
    for item in items("completed") {
        let size = ByteCount(count(item, "size_bytes"));
        let name = Shown(item["name"].as_str().unwrap_or("files that are runs of their own"));
        let (drop, files) = (text(item, "drop"), count(item, "file_count"));
        let files = if files == 1 { "1 file".into() } else { format!("{files} files") };
        lines.push(format!("  {drop}: {name}, {files}, {size}"));
    }
    let named = lines.len().min(lines_max);
    let counted = ["count", "completed_count"].iter().map(|key| count(body, key)).max();
    let more = counted.unwrap_or(0).max(lines.len() as u64) - named as u64;
    lines.truncate(named);
    if more > 0 && !lines.is_empty() {
        lines.push(format!("  and {more} more"));
    }
    lines
}

/// What the reader can do.
fn advice(is_over: bool, body: &Value) -> Option<String> {
    if is_over {
        return Some("There is nothing to do.".into());
    }
    Some(text(body, "cure")).filter(|cure| !cure.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn people_read_a_report() {
        let body = json!({
            "name": "a week", "text": "1 run is complete: 5 files, 30 B; parked: 1 file, 2 B",
            "completed": [
                { "drop": "lab", "name": "run1", "file_count": 4, "size_bytes": 20 },
                { "drop": "lab", "name": null, "file_count": 1, "size_bytes": 10 },
            ],
            "completed_count": 1, "file_count": 5, "size_bytes": 30, "at": "2026-11-21T06:00:00Z",
        });
        let kind = NoticeKind::Report;
        assert_eq!(
            subject(kind, false, &body),
            "[dropferry] report: 1 run is complete: 5 files, 30 B; parked: 1 file, 2 B"
        );
        insta::assert_snapshot!(mail(kind, false, &body), @r"
        1 run is complete: 5 files, 30 B; parked: 1 file, 2 B

        Files:            5
        Size:             30 B
        Time (UTC):       2026-11-21T06:00:00Z

          lab: run1, 4 files, 20 B
          lab: files that are runs of their own, 1 file, 10 B
        ");
    }

    #[test]
    fn people_read_of_files_that_are_parked_and_what_they_may_do() {
        let body = json!({
            "drop": "lab", "name": "run/a", "destination": "far", "count": 40, "size_bytes": 2000,
            "paths": ["run/a", "run/b"], "first_upload": 17, "reason": "name-taken",
            "cure": "Look at it: `dropferry show 17`.",
            "text": "40 files of lab are parked on the way to far", "at": "2026-11-21T06:00:00Z",
        });
        assert_eq!(subject(NoticeKind::Parked, false, &body), "[dropferry] lab: 40 files parked");
        insta::assert_snapshot!(mail(NoticeKind::Parked, false, &body), @r"
        40 files of lab are parked on the way to far

        Drop directory:   lab
        Destination:      far
        Size:             1.9 KiB
        Reason:           name-taken
        Time (UTC):       2026-11-21T06:00:00Z

          run/a
          run/b
          and 38 more

        Look at it: `dropferry show 17`.
        ");
        let over = json!({ "name": "far\r\nBcc: x@y", "text": "destination far is reached again" });
        let kind = NoticeKind::DestinationUnreachable;
        assert_eq!(
            subject(kind, true, &over),
            "[dropferry] destination far\\r\\nBcc: x@y is fine again",
            "a name begins no header"
        );
        assert!(mail(kind, true, &over).ends_with("There is nothing to do.\n"));
    }
}

//! `show`: everything about a run, about one upload, or about each named object.

pub(super) mod run;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use self::run::NamedRun;
use super::status::StatusReader;
use super::status::json::{disposal_json, upload_json};
use super::what::{What, WhatError};
use super::{Common, Exit, render};
use crate::model::{AdmittedFile, Scope, Shown, SourcePath, UploadId, json_shown};
use crate::receipt;
use crate::store::snapshot::{Attempt, DestinationShown, Detail, DisposalShown, Snapshot};

/// Limit of uploads that are shown in full.
const SHOWN_MAX: usize = 100;

#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    /// An upload's id, a destination, a drop directory, DROP/RUN, the end of a path, or a glob
    #[arg(value_name = "WHAT")]
    which: std::ffi::OsString,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(common: &Common, arguments: &ShowArguments) -> anyhow::Result<Exit> {
    let state = common.state_directory()?;
    let snapshot = Snapshot::open(&state)?;
    let asked = &arguments.which;
    let path = SourcePath::from_bytes(asked.as_bytes());
    let moved = snapshot.moved_to(&path)?;
    let what = match What::read(&snapshot, std::slice::from_ref(asked)) {
        Err(WhatError::Nothing { .. }) if !moved.is_empty() => What::default(),
        what => what?,
    };
    let scopes = what.scopes();
    if let ([Scope::Run(drop, run)], true) = (&scopes[..], moved.is_empty()) {
        let page = NamedRun { drop, run, state: &state };
        if let Some(exit) = page.show(common, arguments.json)? {
            return Ok(exit);
        }
    }
    let (_, status) = StatusReader::new(common)?.read(&[], false)?;
    let mut ids = Vec::new();
    for scope in what.scopes() {
        ids.extend(snapshot.uploads_of(&scope, SHOWN_MAX + 1)?);
    }
    ids.sort_unstable_by(|one, other| other.cmp(one));
    ids.dedup();
    if ids.len() > SHOWN_MAX {
        ids.truncate(SHOWN_MAX);
        render::talk(&format!("the newest {SHOWN_MAX} uploads are shown"));
    }
    let mut destinations = snapshot.destinations()?;
    for to in &mut destinations {
        let live = status.places.destinations.iter().find(|live| live.name == to.name);
        live.into_iter().for_each(|live| to.clone_from(live));
    }
    let is_named = |to: &&DestinationShown| {
        let is_it =
            |scope: &Scope| matches!(scope, Scope::Destination(name) if name.as_str() == to.name);
        what.scopes().iter().any(is_it)
    };
    let named: Vec<_> = destinations.iter().filter(is_named).collect();
    let mut found = Vec::new();
    for id in ids.into_iter().chain(moved.iter().map(|(id, _)| *id)) {
        found.extend(snapshot.detail_of(id, &status)?);
    }
    if found.is_empty() && named.is_empty() {
        bail!("there is no upload of {}", Shown(&asked.to_string_lossy()));
    }
    let found = FoundUploads { asked, snapshot: &snapshot, found, moved, state: &state };
    match arguments.json {
        true => render::json(&found.to_json(&destinations)?)?,
        false => render::data(&found.to_text(&named)?)?,
    }
    Ok(Exit::Fine)
}

/// The uploads that a word names, if it names no run.
struct FoundUploads<'a> {
    asked: &'a OsStr,
    snapshot: &'a Snapshot,
    found: Vec<Detail>,
    /// Uploads of files that were moved to the requested path, with their former paths.
    moved: Vec<(UploadId, SourcePath)>,
    state: &'a Path,
}

impl FoundUploads<'_> {
    fn to_json(&self, destinations: &[DestinationShown]) -> anyhow::Result<Value> {
        let mut all = Vec::new();
        for detail in &self.found {
            let mut shown = to_json(detail, self.state);
            let disposal = disposal_of(self.snapshot, detail)?;
            shown["disposal"] = disposal.as_ref().map_or(Value::Null, disposal_json);
            let to = &detail.upload.admission.destination;
            let to = destinations.iter().find(|shown| shown.name == to.as_str());
            let learned = to.map_or(&[][..], |to| &to.learned);
            let words: Vec<_> = learned.iter().map(|what| what.as_str()).collect();
            shown["destination_learned"] = words.into();
            if self.moved.iter().any(|(id, _)| *id == detail.upload.admission.id) {
                shown["moved_to"] = self.asked.to_string_lossy().into();
            }
            all.push(shown);
        }
        let is_number = self.asked.to_str().is_some_and(|text| text.parse::<i64>().is_ok());
        Ok(match is_number {
            true => all.into_iter().next().unwrap_or(Value::Null),
            false => Value::Array(all),
        })
    }

    fn to_text(&self, named: &[&DestinationShown]) -> anyhow::Result<String> {
        let said = self.moved.iter().map(|(id, old)| {
            let name = self.asked.to_string_lossy();
            format!("{} was uploaded as {old} (upload {id}) and moved since\n", Shown(&name))
        });
        let destinations = named.iter().map(|to| destination_text(to));
        let mut shown: Vec<_> = said.chain(destinations).collect();
        for detail in &self.found {
            let disposal = disposal_of(self.snapshot, detail)?;
            shown.push(to_text(detail, disposal.as_ref(), self.state));
        }
        Ok(shown.join("\n"))
    }
}

/// Describes a destination's state, and its missing checks.
fn destination_text(to: &DestinationShown) -> String {
    let DestinationShown { name, state, platform, reason, .. } = to;
    let reason = reason.as_ref().map_or(String::new(), |reason| format!(": {}", Shown(reason)));
    let said = to.clock_text().into_iter().chain(to.notable().map(str::to_owned));
    let said: String = said.map(|said| format!("  {said}\n")).collect();
    format!("destination {name} ({platform}) is {state}{reason}\n{said}")
}

/// Renders one upload as JSON text.
pub(super) fn rendered(detail: &Detail, state: &Path) -> String {
    json_shown(&to_json(detail, state).to_string()).into_owned()
}

fn to_json(detail: &Detail, state: &Path) -> Value {
    let mut shown = upload_json(&detail.upload);
    let parts = detail.parts.iter().map(|part| {
        json!({
            "number": part.number.get(), "md5": part.md5.to_string(), "etag": part.etag.as_str(),
            "reported": part.reported, "accepted_at": render::time(Some(part.accepted_at)),
        })
    });
    let attempts = detail.attempts.iter().map(|attempt| {
        json!({
            "act": attempt.act, "part": attempt.part, "kind": attempt.kind, "status": attempt.status,
            "request_id": attempt.request_id, "message": attempt.message,
            "at": render::time(Some(attempt.at)), "retry_at": render::time(attempt.retry_at),
        })
    });
    let more = json!({
        "schema": 2,
        "stage": detail.upload.state.stage.as_str(),
        "remote_upload_id": detail.remote.upload_id,
        "remote_name": detail.remote.name,
        "admitted_at": render::time(Some(detail.upload.admission.at)),
        "begun_at": render::time(detail.times.begun_at),
        "verified_at": render::time(detail.times.verified_at),
        "receipted_at": render::time(detail.times.receipted_at),
        "ended_at": render::time(detail.times.ended_at),
        "export": detail.export.as_ref().map(|export| json!({
            "volume": export.volume, "location": export.location, "state": export.state,
            "job": export.job, "error": export.error,
            "exported_at": render::time(export.exported_at),
        })),
        "bytes_sent": detail.upload.state.wire.sent.0,
        "restart_count": detail.upload.state.restart_count,
        "last_error": detail.upload.last_error.as_ref().map(|last| &last.text),
        "pruned_at": render::time(detail.times.pruned_at),
        "receipt": receipt_of(detail, state).map(|(ledger, _)| ledger),
        "receipt_line": detail.receipt.as_ref().map(|line| line.seq),
        "parts": parts.collect::<Vec<_>>(),
        "attempts": attempts.collect::<Vec<_>>(),
    });
    if let (Value::Object(shown), Value::Object(more)) = (&mut shown, more) {
        shown.extend(more);
    }
    shown
}

/// Returns the position of its receipt line, once there is one.
fn receipt_of(detail: &Detail, state: &Path) -> Option<(String, u64)> {
    let line = detail.receipt.as_ref()?;
    let path = receipt::directory(state).join(line.ledger.as_str());
    Some((path.display().to_string(), line.seq))
}

/// Returns the state of the disposal of a file's run, if its source is to be disposed of.
fn disposal_of(snapshot: &Snapshot, detail: &Detail) -> anyhow::Result<Option<DisposalShown>> {
    let AdmittedFile { drop, run, .. } = &detail.upload.admission.file;
    Ok(snapshot.disposal(drop, run)?)
}

fn disposal_text(disposal: &DisposalShown) -> String {
    let due = render::moment(Some(disposal.due_at));
    match (disposal.is_done, &disposal.failure) {
        (true, _) => "disposed of".into(),
        (false, Some(failure)) => format!("stays: {}", Shown(failure)),
        (false, None) => format!("is disposed of from {due} on"),
    }
}

/// Returns the state in words, with the stage reached.
fn state_shown(word: &str, stage: &str) -> String {
    match (word, stage) {
        ("parked", "queued") => "parked before it was begun".to_owned(),
        ("parked", "completing") => "parked when it was to be completed".to_owned(),
        ("parked", stage) => format!("parked while {stage}"),
        (word, stage) if word == stage => word.to_owned(),
        (word, stage) => format!("{word} ({stage})"),
    }
}

/// Lists everything about one upload except its attempts: names and values.
pub(super) fn rows(
    detail: &Detail,
    disposal: Option<&DisposalShown>,
    state: &Path,
) -> Vec<Vec<String>> {
    let upload = &detail.upload;
    let admission = &upload.admission;
    let at = render::moment;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let size = admission.file.fingerprint.size.0;
    let mut rows = vec![
        row("upload", admission.id.to_string()),
        row("file", format!("{} ({})", admission.file.path, render::bytes(size))),
        row("from drop", admission.file.drop.to_string()),
        row("to", admission.destination.to_string()),
        row("state", state_shown(upload.word(), upload.state.stage.as_str())),
    ];
    let reason = upload.reason();
    rows.extend(reason.as_ref().map(|reason| row("because", reason.text.clone())));
    rows.extend(reason.and_then(|reason| reason.cure()).map(|cure| row("cure", cure)));
    rows.extend([
        row(
            "accepted",
            format!(
                "{} of {} in {} of {} parts",
                render::bytes(upload.accepted_bytes),
                render::bytes(size),
                upload.there_count(),
                upload.part_count
            ),
        ),
        row("sent", render::bytes(upload.state.wire.sent.0)),
        row("admitted", at(Some(admission.at))),
        row("begun", at(detail.times.begun_at)),
        row("completed", at(upload.completed_at)),
        row("verified", at(detail.times.verified_at)),
        row("receipt", at(detail.times.receipted_at)),
        row("source", disposal.map_or("stays".into(), disposal_text)),
        row("remote upload", detail.remote.upload_id.clone().unwrap_or("-".into())),
        row("remote file", upload.remote_id.clone().unwrap_or("-".into())),
        row("remote name", detail.remote.name.clone().unwrap_or("-".into())),
    ]);
    rows.extend(detail.export.as_ref().map(|export| {
        row("export", format!("{} to {}: {}", export.state, export.volume, export.location))
    }));
    rows.extend(
        receipt_of(detail, state)
            .map(|(ledger, line)| row("receipt line", format!("{line} of {ledger}"))),
    );
    rows.extend(detail.times.pruned_at.map(|_| {
        let kept = match detail.times.receipted_at {
            Some(_) => "the parts stand in the receipt",
            None => "there is no receipt",
        };
        row("parts", format!("removed with attempts on {}; {kept}", at(detail.times.pruned_at)))
    }));
    rows.extend(upload.last_error.as_ref().map(|last| row("last failure", last.text.clone())));
    rows
}

/// Describes when and how an attempt failed.
pub(super) fn attempt_text(attempt: &Attempt) -> String {
    let part = attempt.part.map_or(String::new(), |part| format!(" {part}"));
    let (at, Attempt { act, message, kind, .. }) = (render::moment(Some(attempt.at)), attempt);
    format!("{at} {}{part}: {} ({})", Shown(act), Shown(message), Shown(kind))
}

fn to_text(detail: &Detail, disposal: Option<&DisposalShown>, state: &Path) -> String {
    let mut text = render::table(&rows(detail, disposal, state));
    for attempt in detail.attempts.iter().take(10) {
        text.push_str(&format!("  {}\n", attempt_text(attempt)));
    }
    text
}

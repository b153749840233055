//! The columns that single facts write: those in neither the upload's state nor other tables.

use rusqlite::types::Value;

use super::super::exports::{exported_columns, intended_columns, started_columns};
use crate::model::{ContentMark, ETag, Fact, Failure, Supersession, WallTime};
use crate::store::rows::{self, exact};
use crate::store::writer::Result;

/// Columns of what the platform reported about a verified file; the others stay unchanged.
fn found_columns(
    there: Option<&ContentMark>,
    etag: Option<&ETag>,
) -> Result<Vec<(&'static str, Value)>> {
    let mut columns = Vec::new();
    if there.is_some() {
        let mark = rows::mark_columns(there)?;
        columns.extend(["remote_mark_part_size_bytes", "remote_mark_md5"].into_iter().zip(mark));
    }
    if etag.is_some() {
        columns.push(("remote_etag", rows::etag_column(etag)));
    }
    Ok(columns)
}

/// Returns the columns of the replaced earlier version, and of the newer file's new name.
fn superseded_columns(
    by: Option<&Supersession>,
    name: Option<&String>,
) -> Vec<(&'static str, Value)> {
    let name = name.map(|name| ("remote_name", Value::from(name.clone())));
    rows::superseding_columns(by).into_iter().chain(name).collect()
}

fn failed_columns(failure: &Failure) -> [(&'static str, Value); 2] {
    [("last_error", &*failure.to_string()), ("last_error_kind", failure.kind.as_str())]
        .map(|(column, value)| (column, Value::Text(value.to_owned())))
}

/// Returns the columns that belong to one fact alone: those in neither the upload's state nor other
/// tables.
pub(super) fn columns(fact: &Fact) -> Result<Vec<(&'static str, Value)>> {
    let time = |column, at: WallTime| (column, Value::from(at.0));
    let text = |column, text: &str| (column, Value::from(text.to_owned()));
    Ok(match fact {
        Fact::BeginIntended { part_size, at } => {
            let size = part_size.map(|size| exact(size.get())).transpose()?;
            let size = size.map(|size| ("wished_part_size_bytes", Value::from(size)));
            size.into_iter().chain([time("begin_intended_at_ns", *at)]).collect()
        }
        Fact::Begun { remote, at } => {
            [&rows::remote_columns(Some(remote))?[..], &[time("begun_at_ns", *at)]].concat()
        }
        Fact::RemoteGone => {
            let own = [("remote_file_id", Value::Null), ("completed_at_ns", Value::Null)];
            [&rows::remote_columns(None)?[..], &own].concat()
        }
        Fact::Retargeted { target, part_size } => {
            let own = [
                ("target_id", i64::from(target.0).into()),
                ("wished_part_size_bytes", exact(part_size.get())?.into()),
                ("export_state", Value::Null),
            ];
            [&rows::remote_columns(None)?[..], &rows::superseding_columns(None), &own].concat()
        }
        Fact::CompleteIntended { at } => vec![time("complete_intended_at_ns", *at)],
        Fact::Completed { file, at } | Fact::FoundPresent { file, at } => {
            [&rows::file_columns(file)?[..], &[time("completed_at_ns", *at)]].concat()
        }
        Fact::Renamed { name } => {
            [&rows::superseding_columns(None)[..], &[text("target_name", name)]].concat()
        }
        Fact::NameDecided { decision } => vec![text("name_decision", decision.as_str())],
        Fact::Retouched { fingerprint } => rows::version_columns(fingerprint).into(),
        Fact::Superseding { by, name } => superseded_columns(by.as_ref(), name.as_ref()),
        Fact::PartSizeChanged { part_size } => {
            vec![("wished_part_size_bytes", exact(part_size.get())?.into())]
        }
        Fact::Verified { mark, there, etag, at } => {
            let sent = rows::mark_columns(mark.as_ref())?;
            let mut columns = found_columns(there.as_ref(), etag.as_ref())?;
            columns.extend(["mark_part_size_bytes", "mark_md5"].into_iter().zip(sent));
            columns.push(time("verified_at_ns", *at));
            columns
        }
        Fact::Digested { md5, sha256 } => vec![
            ("whole_md5", md5.map(|md5| md5.0.to_vec()).into()),
            ("whole_sha256", sha256.map(|sha256| sha256.to_vec()).into()),
        ],
        Fact::ExportIntended { place, at } => intended_columns(place, *at).into(),
        Fact::ExportStarted { job, at } => started_columns(job, *at).into(),
        Fact::ExportFailed { message } => {
            vec![text("export_state", "failed"), text("export_error", message)]
        }
        Fact::Exported { job, at } => exported_columns(job, *at).into(),
        Fact::ReceiptWritten { at, .. } => {
            vec![time("receipted_at_ns", *at), time("ended_at_ns", *at)]
        }
        Fact::AttemptFailed { failure, .. } => failed_columns(failure).into(),
        Fact::Parked { detail, .. } => vec![text("park_detail", detail)],
        Fact::SourceChanged { at } | Fact::Abandoned { at } => vec![time("ended_at_ns", *at)],
        Fact::PartAccepted { .. }
        | Fact::PartsReported { .. }
        | Fact::PartReopened { .. }
        | Fact::ETagModeLearned { .. }
        | Fact::CompleteWithdrawn
        | Fact::Described
        | Fact::InFlight { .. }
        | Fact::SentInVain { .. }
        | Fact::Released => Vec::new(),
    })
}

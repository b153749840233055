//! `exports`: export jobs to attached volumes, and their states.

use clap::Args;
use serde_json::{Value, json};

use super::{Common, Exit, render};
use crate::store::snapshot::{ExportShown, Snapshot, UploadShown};

/// Limit of listed completed exports, unless all are requested.
const DONE_SHOWN: u32 = 100;

#[derive(Debug, Args)]
pub(super) struct ExportsArguments {
    /// List all completed exports, not only the last hundred
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(common: &Common, arguments: &ExportsArguments) -> anyhow::Result<Exit> {
    let mut exports = Snapshot::open(&common.state_directory()?)?.exports()?;
    let mut done_count = 0;
    exports.retain(|(_, export)| {
        done_count += u32::from(export.state == "completed");
        arguments.all || export.state != "completed" || done_count <= DONE_SHOWN
    });
    if arguments.json {
        let shown: Vec<_> =
            exports.iter().map(|(upload, export)| to_json(upload, export)).collect();
        render::json(&json!({"schema": 1, "exports": shown}))?;
        return Ok(Exit::Fine);
    }
    if exports.is_empty() {
        render::data("no exports")?;
        return Ok(Exit::Fine);
    }
    let head = ["upload", "file", "to", "state", "since", "because"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head.to_vec())
        .chain(exports.iter().map(|(upload, export)| row(upload, export)))
        .collect();
    render::data(&render::table(&rows))?;
    Ok(Exit::Fine)
}

fn row(upload: &UploadShown, export: &ExportShown) -> Vec<String> {
    let since = export.exported_at.or(export.started_at).or(export.intended_at);
    vec![
        upload.admission.id.to_string(),
        upload.admission.file.path.to_string(),
        format!("{}: {}", export.volume, export.location),
        export.state.clone(),
        render::moment(since),
        export.error.clone().filter(|_| export.state != "completed").unwrap_or_default(),
    ]
}

fn to_json(upload: &UploadShown, export: &ExportShown) -> Value {
    json!({
        "upload_id": upload.admission.id.0,
        "drop": upload.admission.file.drop.as_str(),
        "path": upload.admission.file.path.to_string(),
        "destination": upload.admission.destination.as_str(),
        "volume": export.volume,
        "location": export.location,
        "state": export.state,
        "job": export.job,
        "error": export.error,
        "intended_at": render::time(export.intended_at),
        "started_at": render::time(export.started_at),
        "exported_at": render::time(export.exported_at),
    })
}

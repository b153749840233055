//! `exports`: export jobs to attached volumes, and how they stand.

use clap::Args;
use serde_json::{Value, json};

use super::{Common, Exit, render};
use crate::store::snapshot::{ExportShown, Snapshot, UploadShown};

#[derive(Debug, Args)]
pub(super) struct ExportsArguments {
    /// Those that are done as well
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(common: &Common, arguments: &ExportsArguments) -> anyhow::Result<Exit> {
    let mut exports = Snapshot::open(&common.state_directory()?)?.exports()?;
    exports.retain(|(_, export)| arguments.all || arguments.json || export.state != "completed");
    if arguments.json {
        let shown: Vec<_> =
            exports.iter().map(|(upload, export)| to_json(upload, export)).collect();
        render::json(&json!({"schema": 1, "exports": shown}))?;
        return Ok(Exit::Fine);
    }
    if exports.is_empty() {
        render::data(if arguments.all { "no exports" } else { "no exports that are not done" })?;
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
        render::time(since).as_str().unwrap_or("-").to_owned(),
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

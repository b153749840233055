//! `upload`: hands files to the running daemon once, from outside the drop directories.

use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::{Common, Exit, ask, render, status};
use crate::control::{Handed, Reply, Request};
use crate::model::UploadId;
use crate::store::snapshot::{Detail, Snapshot};

/// How often it is looked how far they are.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

#[derive(Debug, Args)]
pub(super) struct UploadArguments {
    /// Files, and directories with all files below them
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The destination, by its name in the configuration
    #[arg(long, value_name = "DESTINATION")]
    to: String,
    /// Wait until all are there, or stand still; the exit code tells which
    #[arg(long)]
    wait: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(common: &Common, arguments: &UploadArguments) -> anyhow::Result<Exit> {
    let mut paths = Vec::new();
    for path in &arguments.paths {
        // Links on the way are the daemon's to follow: it may see another tree than we do.
        let path =
            std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))?;
        paths.push(path.as_os_str().as_bytes().to_vec());
    }
    let reply = ask::ask(common, &Request::Upload { paths, to: arguments.to.clone() })?;
    let Reply::HandedIn { uploads, left_out } = reply else { return ask::odd(&reply) };
    if !arguments.json {
        tell(&uploads, &left_out)?;
    }
    let ids: Vec<_> = uploads.iter().filter_map(|handed| handed.upload).map(UploadId).collect();
    let ended = match arguments.wait {
        true => wait(&Snapshot::open(&common.state_directory()?)?, &ids)?,
        false => Vec::new(),
    };
    if arguments.json {
        render::json(&to_json(&uploads, &left_out, &ended))?;
    }
    let is_there = |detail: &Detail| detail.upload.word() == "completed";
    for detail in ended.iter().filter(|detail| !is_there(detail)) {
        let upload = &detail.upload;
        let reason = upload.reason().unwrap_or_default();
        render::talk(&format!("upload {} is {}: {reason}", upload.admission.id, upload.word()));
    }
    let is_fine = left_out.is_empty() && ended.iter().all(is_there);
    Ok(if is_fine { Exit::Fine } else { Exit::Failed })
}

fn tell(uploads: &[Handed], left_out: &[(String, String)]) -> std::io::Result<()> {
    let line = |handed: &Handed| match handed.upload {
        Some(id) => vec![format!("upload {id}"), handed.path.clone()],
        None => vec!["handed in before".to_owned(), handed.path.clone()],
    };
    render::data(render::table(&uploads.iter().map(line).collect::<Vec<_>>()).trim_end())?;
    for (path, why) in left_out {
        render::talk(&format!("left out: {path}: {why}"));
    }
    Ok(())
}

fn to_json(uploads: &[Handed], left_out: &[(String, String)], ended: &[Detail]) -> Value {
    let left_out: Vec<_> =
        left_out.iter().map(|(path, reason)| json!({ "path": path, "reason": reason })).collect();
    let ended: Vec<_> = ended.iter().map(|detail| status::upload_json(&detail.upload)).collect();
    json!({ "schema": 1, "uploads": uploads, "left_out": left_out, "ended": ended })
}

/// Waits until every upload has ended or is parked.
fn wait(snapshot: &Snapshot, ids: &[UploadId]) -> anyhow::Result<Vec<Detail>> {
    let bar = bar();
    loop {
        let mut details = Vec::new();
        for id in ids {
            details.extend(snapshot.detail(*id)?);
        }
        let sum = |of: fn(&Detail) -> u64| details.iter().map(of).sum::<u64>();
        bar.set_length(sum(|detail| detail.upload.admission.fingerprint.size.0));
        bar.set_position(sum(|detail| detail.upload.accepted_bytes));
        let is_still =
            |detail: &Detail| matches!(detail.upload.word(), "completed" | "abandoned" | "parked");
        let still = details.iter().filter(|detail| is_still(detail)).count();
        bar.set_message(format!("{still} of {} files", details.len()));
        if still == details.len() {
            bar.finish_and_clear();
            return Ok(details);
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

fn bar() -> ProgressBar {
    let target = match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let style = ProgressStyle::with_template(
        "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left, {msg}",
    );
    let bar = ProgressBar::with_draw_target(None, target);
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

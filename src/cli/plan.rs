//! `plan`: what would be uploaded, to where, in how many parts, and what is left out, and why.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use clap::Args;
use serde_json::{Value, json};

use super::{Common, Exit, render};
use crate::clock::Clock;
use crate::config::Drop;
use crate::daemon;
use crate::engine::Preview;
use crate::engine::settings::DestinationSettings;
use crate::model::{Observation, Seen};
use crate::source::{Filter, scan};

#[derive(Debug, Args)]
pub(super) struct PlanArguments {
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(common: &Common, arguments: &PlanArguments) -> anyhow::Result<Exit> {
    let config = common.load()?;
    let targets = daemon::destination_settings(&config);
    for drop in &config.drops {
        walk(drop, &targets, arguments.json)?;
    }
    Ok(Exit::Fine)
}

fn walk(drop: &Drop, targets: &[DestinationSettings], json: bool) -> anyhow::Result<()> {
    let filter = Filter::new(&drop.source)?;
    let at = Clock::real().now().wall;
    let mut printed = Ok(());
    scan(&drop.source.directory, (&filter, &BTreeSet::new()), |observations| {
        let mut lines = String::new();
        for seen in &observations {
            for line in lines_of(drop, seen, targets, at) {
                lines.push_str(&if json { line.to_string() } else { sentence(&line) });
                lines.push('\n');
            }
        }
        printed = render::data(&lines);
        if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    printed?;
    Ok(())
}

fn lines_of(
    drop: &Drop,
    seen: &Observation,
    targets: &[DestinationSettings],
    at: crate::model::WallTime,
) -> Vec<Value> {
    let name = drop.settings.name.as_str();
    let path = seen.path.to_string();
    let version = match &seen.seen {
        Seen::File(version) | Seen::Unreadable(version, _) => *version,
        Seen::Ignored(reason) => {
            return vec![
                json!({"drop": name, "path": path, "fate": "ignored", "reason": reason.sentence()}),
            ];
        }
        Seen::Gone => return Vec::new(),
    };
    let to = targets.iter().filter(|target| drop.settings.destinations.contains(&target.name));
    to.map(|target| match Preview::of(&drop.settings, target, (seen, version.size), (None, at)) {
        Ok(preview) => json!({
            "drop": name, "path": path, "fate": "upload", "destination": target.name.as_str(),
            "size_bytes": version.size.0, "part_size_bytes": preview.part_size.get(),
            "part_count": preview.part_count, "remote_folder": preview.target.folders.join("/"),
            "remote_name": preview.target.name,
        }),
        Err(reason) => json!({
            "drop": name, "path": path, "fate": "parked", "destination": target.name.as_str(),
            "reason": reason.sentence(),
        }),
    })
    .collect()
}

fn sentence(line: &Value) -> String {
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    let (drop, path) = (text("drop"), text("path"));
    match line["fate"].as_str() {
        Some("upload") => {
            let place = [text("remote_folder"), text("remote_name")].join("/");
            let size = render::bytes(line["size_bytes"].as_u64().unwrap_or(0));
            let parts = &line["part_count"];
            format!(
                "{drop}: {path} → {}:{} ({size}, {parts} parts)",
                text("destination"),
                place.trim_start_matches('/')
            )
        }
        Some("parked") => {
            format!("{drop}: {path} cannot go to {}: {}", text("destination"), text("reason"))
        }
        Some(_) | None => format!("{drop}: {path} is left out: {}", text("reason")),
    }
}

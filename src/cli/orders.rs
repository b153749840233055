//! `pause`, `resume`, `retry`, `abandon`: one order to the running daemon, and what it changed.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::{Common, Exit, ask, render};
use crate::control::{Change, Reply, Request, Target};
use crate::model::{Scope, Shown, SourcePath, Verb};
use crate::store::snapshot::Snapshot;
use crate::{clock::Clock, control::Target::Upload};

/// Things in one request: whatever their paths, it is no longer than one may be.
const TARGETS_AT_ONCE: usize = 50;

#[derive(Debug, Args)]
pub(super) struct OrderArguments {
    /// An upload's id or path, the name of a drop directory or of a destination, or DROP/RUN
    #[arg(value_name = "ID|PATH|NAME", required_unless_present_any = ["all", "drop", "destination"])]
    which: Vec<OsString>,
    /// All of a drop directory
    #[arg(long, value_name = "NAME")]
    drop: Vec<String>,
    /// All that goes to a destination
    #[arg(long, value_name = "NAME")]
    destination: Vec<String>,
    /// Everything
    #[arg(long, conflicts_with_all = ["which", "drop", "destination"])]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ResumeArguments {
    #[command(flatten)]
    order: OrderArguments,
    /// Accept the directory that stands at the path of the drop directory in the place of the one
    /// whose files are known
    #[arg(long)]
    accept_root: bool,
}

pub(super) fn resume(common: &Common, arguments: &ResumeArguments) -> anyhow::Result<Exit> {
    let verb = if arguments.accept_root { Verb::AcceptRoot } else { Verb::Resume };
    execute(common, verb, &arguments.order)
}

#[derive(Debug, Args)]
pub(super) struct RetryArguments {
    #[command(flatten)]
    orders: OrderArguments,
    /// Send to a destination's changed target what its former one has, as far as the sources are here
    #[arg(long, conflicts_with_all = ["all", "drop"])]
    resend: bool,
}

/// `retry`: what waits or is parked is tried again; or a changed target gets what the old one has.
pub(super) fn retry(common: &Common, arguments: &RetryArguments) -> anyhow::Result<Exit> {
    if !arguments.resend {
        return execute(common, Verb::Retry, &arguments.orders);
    }
    let named = arguments.orders.which.iter().map(|word| word.to_string_lossy().into_owned());
    let destinations: Vec<String> =
        named.chain(arguments.orders.destination.iter().cloned()).collect();
    let status =
        Snapshot::open(&common.state_directory()?)?.status(false, Clock::real().now().wall)?;
    for to in &destinations {
        if !status.destinations.iter().any(|known| known.name == *to) {
            bail!("{to} is no destination\nhint: dropferry status lists them");
        }
    }
    let mut resent = Vec::new();
    for to in &destinations {
        let reply = ask::ask(common, &Request::Resend { to: to.clone() })?;
        if !matches!(reply, Reply::Resending) {
            return ask::odd(&reply);
        }
        let former = status.former_targets.iter().filter(|former| former.destination == *to);
        let count: u64 = former.map(|former| former.completed_count).sum();
        resent.push(json!({ "destination": to, "completed_elsewhere_count": count }));
        if !arguments.orders.json {
            render::data(&format!(
                "destination {to}: {count} uploads were completed at former targets; their sources are \
                 sent to the new one, as far as they are here"
            ))?;
        }
    }
    if arguments.orders.json {
        render::json(&json!({ "schema": 1, "resent": resent }))?;
    }
    Ok(Exit::Fine)
}

pub(super) fn execute(
    common: &Common,
    verb: Verb,
    arguments: &OrderArguments,
) -> anyhow::Result<Exit> {
    // Names are looked up in the database, which may never have been made.
    ask::check(common)?;
    let mut changes = Vec::new();
    for some in targets(common, arguments)?.chunks(TARGETS_AT_ONCE) {
        let reply = ask::ask(common, &Request::order(verb, some.to_vec()))?;
        let Reply::Changed(changed) = reply else { return ask::odd(&reply) };
        changes.extend(changed);
    }
    if arguments.json {
        render::json(&json!({ "schema": 1, "changes": changes }))?;
    } else {
        let lines: Vec<_> = changes.iter().map(|change| said(verb, change)).collect();
        render::data(&lines.join("\n"))?;
    }
    let is_done = changes.iter().all(|change| change.is_known);
    Ok(if is_done { Exit::Fine } else { Exit::Failed })
}

fn targets(common: &Common, arguments: &OrderArguments) -> anyhow::Result<Vec<Target>> {
    if arguments.all {
        return Ok(vec![Target::All]);
    }
    let drops = arguments.drop.iter().cloned().map(Target::Drop);
    let destinations = arguments.destination.iter().cloned().map(Target::Destination);
    let mut targets: Vec<_> = drops.chain(destinations).collect();
    if !arguments.which.is_empty() {
        let names = Names::read(common)?;
        for word in &arguments.which {
            targets.extend(names.find(word)?);
        }
    }
    Ok(targets)
}

/// What a word may name.
struct Names {
    snapshot: Snapshot,
    drops: Vec<String>,
    destinations: Vec<String>,
}

impl Names {
    fn read(common: &Common) -> anyhow::Result<Self> {
        let snapshot = Snapshot::open(&common.state_directory()?)?;
        let status = snapshot.status(false, Clock::real().now().wall)?;
        let drops = status.drops.into_iter().map(|drop| drop.name).collect();
        let destinations = status.destinations.into_iter().map(|to| to.name).collect();
        Ok(Self { snapshot, drops, destinations })
    }

    fn find(&self, word: &OsString) -> anyhow::Result<Vec<Target>> {
        let text = word.to_str();
        if let Some(id) = text.and_then(|text| text.parse().ok()) {
            return Ok(vec![Upload(id)]);
        }
        let is_one_of = |names: &[String]| names.iter().any(|name| Some(name.as_str()) == text);
        match (is_one_of(&self.drops), is_one_of(&self.destinations)) {
            (true, true) => bail!(
                "{} names a drop directory and a destination\nhint: say which: --drop or --destination",
                Shown(&word.to_string_lossy())
            ),
            (true, false) => return Ok(vec![Target::Drop(word.to_string_lossy().into())]),
            (false, true) => return Ok(vec![Target::Destination(word.to_string_lossy().into())]),
            (false, false) => {}
        }
        let bytes = word.as_bytes();
        let uploads = self.snapshot.find(&SourcePath::from_bytes(bytes))?;
        if !uploads.is_empty() {
            return Ok(uploads.into_iter().map(|id| Upload(id.0)).collect());
        }
        let in_drop = self.drops.iter().find_map(|drop| {
            let rest = bytes.strip_prefix(drop.as_bytes())?.strip_prefix(b"/")?;
            Some(Target::Run { drop: drop.clone(), path: rest.to_vec() })
        });
        match in_drop {
            Some(unit) => Ok(vec![unit]),
            None => bail!(
                "{} is no upload, no drop directory and no destination\n\
                 hint: dropferry status lists them",
                Shown(&word.to_string_lossy())
            ),
        }
    }
}

fn said(verb: Verb, change: &Change) -> String {
    let of = Scope::from(change.of.clone());
    if !change.is_known && verb == Verb::AcceptRoot {
        return format!("{of}: no other directory stands at its path");
    }
    if !change.is_known {
        return format!("{of}: there is none that has not ended");
    }
    let count = match change.upload_count {
        1 => "1 upload".to_owned(),
        count => format!("{count} uploads"),
    };
    match verb {
        Verb::Pause => format!("{of} is paused: {count}"),
        Verb::Resume => format!("{of} goes on: {count}"),
        Verb::Retry => format!("{of} is tried again: {count} that waited or parked"),
        Verb::Abandon => format!("{of} is given up: {count}"),
        Verb::AcceptRoot => {
            format!("{of}: the directory at its path is accepted: {count} go on")
        }
    }
}

//! `pause`, `resume`, `retry`, `abandon`: one order to the running daemon, and its changes.

use std::ffi::OsString;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::what::What;
use super::{Common, Exit, ask, render};
use crate::clock::Clock;
use crate::control::{ControlRequest, Reply};
use crate::model::{DestinationName, DirectoryName, NameDecision, OrderChange, Scope, Verb};
use crate::store::snapshot::Snapshot;

/// Limit of scopes in one request, so that it is within its length limit whatever their paths.
const SCOPES_AT_ONCE: usize = 50;

#[derive(Debug, Args)]
pub(super) struct OrderArguments {
    /// An upload's id, a destination, a drop directory, DROP/RUN, the end of a path, or a glob
    #[arg(value_name = "WHAT", required_unless_present_any = ["all", "drop", "destination"])]
    which: Vec<OsString>,
    /// Everything from a drop directory
    #[arg(long, value_name = "NAME")]
    drop: Vec<String>,
    /// Everything for a destination
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
    /// Accept the directory at the path of the drop directory in place of the one whose files are
    /// known
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
    /// Send the files at a destination's former target to its changed one, as far as the sources are here
    #[arg(long, conflicts_with_all = ["all", "drop"])]
    resend: bool,
    /// Replace the file that has the name. Uploads parked for another reason are left unchanged
    #[arg(long, conflicts_with_all = ["resend", "keep_both"])]
    overwrite: bool,
    /// Send uploads that are parked because their name is taken under another name
    #[arg(long, conflicts_with = "resend")]
    keep_both: bool,
}

/// `retry`: retries waiting and parked uploads; or sends to a changed target what the former one has.
pub(super) fn retry(common: &Common, arguments: &RetryArguments) -> anyhow::Result<Exit> {
    let verb = match (arguments.overwrite, arguments.keep_both) {
        (true, _) => Verb::Decide(NameDecision::Overwrite),
        (_, true) => Verb::Decide(NameDecision::KeepBoth),
        _ => Verb::Retry,
    };
    if !arguments.resend {
        return execute(common, verb, &arguments.orders);
    }
    let snapshot = Snapshot::open(&common.state_directory()?)?;
    let status = snapshot.status(false, Clock::real().now().wall)?;
    let mut destinations = arguments.orders.destination.clone();
    for scope in What::read(&snapshot, &arguments.orders.which)?.scopes() {
        match scope {
            Scope::Destination(name) => destinations.push(name.to_string()),
            other @ (Scope::All | Scope::Drop(_) | Scope::Run(..) | Scope::Upload(_)) => {
                bail!("{other} is no destination\nhint: dropferry status lists them")
            }
        }
    }
    for to in &destinations {
        if !status.places.destinations.iter().any(|known| known.name == *to) {
            bail!("{to} is no destination\nhint: dropferry status lists them");
        }
    }
    let mut resent = Vec::new();
    for to in &destinations {
        let reply = ask::ask(common, &ControlRequest::Resend { to: to.clone() })?;
        if !matches!(reply, Reply::Resending) {
            return ask::odd(&reply);
        }
        let former = status.places.former_targets.iter().filter(|former| former.destination == *to);
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
    // Names are looked up in the database, which may not exist yet.
    ask::check(common)?;
    let mut changes = Vec::new();
    for some in scopes(common, arguments)?.chunks(SCOPES_AT_ONCE) {
        let reply = ask::ask(common, &ControlRequest::Order { verb, of: some.to_vec() })?;
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

fn scopes(common: &Common, arguments: &OrderArguments) -> anyhow::Result<Vec<Scope>> {
    if arguments.all {
        return Ok(vec![Scope::All]);
    }
    let drops = arguments.drop.iter().cloned().map(DirectoryName::new).map(Scope::Drop);
    let destinations = arguments.destination.iter().cloned().map(DestinationName::new);
    let mut scopes: Vec<_> = drops.chain(destinations.map(Scope::Destination)).collect();
    if !arguments.which.is_empty() {
        let snapshot = Snapshot::open(&common.state_directory()?)?;
        scopes.extend(What::read(&snapshot, &arguments.which)?.scopes());
    }
    Ok(scopes)
}

fn said(verb: Verb, change: &OrderChange) -> String {
    let of = &change.of;
    if !change.is_known && verb == Verb::AcceptRoot {
        return format!("{of}: no other directory is at its path");
    }
    if !change.is_known {
        return format!("{of}: there is none that has not ended");
    }
    if (verb, change.upload_count) == (Verb::Retry, 0) {
        return format!("{of}: nothing waits or is parked");
    }
    if let (Verb::Decide(_), 0) = (verb, change.upload_count) {
        return format!("{of}: nothing is parked because its name is taken");
    }
    let count = match change.upload_count {
        1 => "1 upload".to_owned(),
        count => format!("{count} uploads"),
    };
    match verb {
        Verb::Pause => format!("{of} is paused: {count}"),
        Verb::Resume => format!("{of} goes on: {count}"),
        Verb::Retry => format!("{of} is tried again: {count} that waited or parked"),
        Verb::Decide(NameDecision::Overwrite) => {
            format!("{of} is tried again, and replaces the file that has the name: {count}")
        }
        Verb::Decide(NameDecision::KeepBoth) => {
            format!("{of} is tried again under another name: {count}")
        }
        Verb::Abandon => format!("{of} is given up: {count}"),
        Verb::AcceptRoot => {
            format!("{of}: the directory at its path is accepted: {count} go on")
        }
    }
}

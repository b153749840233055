//! `close`: closes a run by hand although its markers or listed files are missing.

use std::ffi::OsString;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::what::What;
use super::{Common, Exit, ask, render};
use crate::control::{ControlRequest, Reply};
use crate::model::{Scope, Shown};
use crate::store::snapshot::Snapshot;

#[derive(Debug, Args)]
pub(super) struct CloseArguments {
    /// DROP/RUN, or the run's name where only one has it
    #[arg(value_name = "RUN")]
    run: OsString,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(common: &Common, arguments: &CloseArguments) -> anyhow::Result<Exit> {
    // Names are looked up in the database, which may not exist yet.
    ask::check(common)?;
    let snapshot = Snapshot::open(&common.state_directory()?)?;
    let word = std::slice::from_ref(&arguments.run);
    let asked = Shown(&arguments.run.to_string_lossy()).to_string();
    let scopes = What::read(&snapshot, word)?.scopes();
    let (drop, run) = match &scopes[..] {
        [Scope::Run(drop, run)] => (drop.clone(), run.clone()),
        [scope] => bail!("{scope} is no run of a directory\nhint: dropferry status lists the runs"),
        several => {
            let names: Vec<_> = several.iter().take(10).map(ToString::to_string).collect();
            let (count, names) = (several.len(), names.join(", "));
            bail!("{asked} means {count} things: {names}\nhint: name one run, as DROP/RUN")
        }
    };
    let name = Scope::Run(drop.clone(), run.clone());
    let request = ControlRequest::Close { drop: drop.clone(), run: run.clone() };
    let reply = ask::ask(common, &request)?;
    let Reply::Closed(closed) = reply else { return ask::odd(&reply) };
    if arguments.json {
        render::json(&json!({ "schema": 1, "closed": {
            "drop": drop.as_str(), "name": run.to_string(), "by": closed.by, "missing": closed.missing,
        }}))?;
    } else {
        render::data(&format!("{name} is {closed}; its files are sent as they settle"))?;
    }
    Ok(Exit::Fine)
}

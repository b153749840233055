//! `log-level`: shows or sets the level of the running daemon's log, until it stops.

use clap::Args;
use serde_json::json;

use super::{Common, Exit, ask, parse_level, render};
use crate::control::{ControlRequest, Reply};
use crate::telemetry::Level;

#[derive(Debug, Args)]
pub(super) struct LogLevelArguments {
    /// error, warn, info, debug or trace [default: show it]
    #[arg(value_parser = parse_level)]
    level: Option<Level>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(common: &Common, arguments: &LogLevelArguments) -> anyhow::Result<Exit> {
    let set = arguments.level.map(|level| level.as_str().to_owned());
    let reply = ask::ask(common, &ControlRequest::LogLevel { set })?;
    let Reply::LogLevel(level) = reply else { return ask::odd(&reply) };
    if arguments.json {
        render::json(&json!({ "schema": 1, "log_level": level }))?;
    } else {
        render::data(&format!("log level is {level}"))?;
    }
    Ok(Exit::Fine)
}

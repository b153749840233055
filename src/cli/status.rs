//! `status`: is my run there yet, and does anything need me?
//!
//! Reads the database, whether the daemon runs or not, and asks a running one for what only it knows.

pub(super) mod attention;
pub(super) mod json;
pub(super) mod progress;
pub(super) mod text;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::what::What;
use super::{Common, Exit, ask, layout, render};
use crate::clock::Clock;
use crate::model::WallTime;
use crate::store::Kind;
use crate::store::snapshot::{Snapshot, Status};

#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    /// An upload's id, a destination, a drop directory, DROP/RUN, the end of a path, or a glob; all when
    /// left out
    #[arg(value_name = "WHAT")]
    which: Vec<OsString>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show it again every second
    #[arg(long)]
    watch: bool,
    /// Exit with 6 when something needs a person, with 5 when the daemon does not run
    #[arg(long)]
    check: bool,
    /// List all ended uploads, not the last hundred
    #[arg(long)]
    all: bool,
}

pub(super) fn execute(common: &Common, arguments: &StatusArguments) -> anyhow::Result<Exit> {
    let directory = common.state_directory()?;
    let clock = Clock::real();
    loop {
        let status = read(common, &directory, arguments, clock.now().wall)?;
        if arguments.watch && std::io::stdout().is_terminal() {
            render::clear()?;
        }
        if arguments.json {
            render::json(&json::to_json(&status))?;
        } else {
            render::sheet(&text::sheet(&status, layout::terminal_width()))?;
        }
        if !arguments.watch {
            return Ok(if arguments.check { check(&status, common) } else { Exit::Fine });
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn read(
    common: &Common,
    directory: &Path,
    arguments: &StatusArguments,
    now: WallTime,
) -> anyhow::Result<Status> {
    match Snapshot::open(directory) {
        Ok(mut snapshot) => {
            if !arguments.which.is_empty() {
                let what = What::read(&snapshot, &arguments.which)?;
                snapshot.select(&what.scopes())?;
            }
            Ok(snapshot.status_with(arguments.all, now, ask::live(common))?)
        }
        Err(error) if error.kind == Kind::Missing && arguments.which.is_empty() => {
            render::talk("no daemon has run on this state yet");
            Ok(Status { read_at: now, ..Status::default() })
        }
        Err(error) => Err(error.into()),
    }
}

fn check(status: &Status, common: &Common) -> Exit {
    if status.process.is_running && ask::is_socket_gone(common) {
        render::talk("a daemon runs, but its control socket is not there: it takes no orders");
        return Exit::Attention;
    }
    judge(status)
}

/// A daemon that does not run sends nothing, whatever else there is.
fn judge(status: &Status) -> Exit {
    match (status.process.is_running, attention::list(status).is_empty()) {
        (false, _) => Exit::NotRunning,
        (true, false) => Exit::Attention,
        (true, true) => Exit::Fine,
    }
}

#[cfg(test)]
mod tests;

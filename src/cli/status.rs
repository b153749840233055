//! `status`: whether runs have arrived, and whether anything needs a person.
//!
//! Reads the database, whether the daemon runs or not, and asks a running one for what only it knows.

pub(super) mod attention;
pub(super) mod json;
mod merge;
pub(super) mod progress;
pub(super) mod runs;
pub(super) mod text;
mod watch;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::what::What;
use super::{Common, Exit, ask, layout, render};
use crate::clock::Clock;
use crate::model::Scope;
use crate::store::Kind;
use crate::store::snapshot::{Snapshot, Status};

/// Interval of reading again.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    /// An upload's id, a destination, a drop directory, DROP/RUN, the end of a path, or a glob
    /// [default: all]
    #[arg(value_name = "WHAT")]
    which: Vec<OsString>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Follow it: on a terminal as a full-screen view (? shows its keys), else printed every second
    #[arg(long, conflicts_with_all = ["check", "all"])]
    watch: bool,
    /// Exit with 6 when something needs a person, with 5 when the daemon does not run
    #[arg(long)]
    check: bool,
    /// List all ended uploads, not only the last hundred
    #[arg(long)]
    all: bool,
    /// Show the output of `status --json` of several machines, one file for each
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["which", "watch", "all"])]
    merge: Vec<PathBuf>,
}

/// The sources of a status: the rows, and the running daemon.
pub(super) struct StatusReader<'a> {
    common: &'a Common,
    directory: PathBuf,
    clock: Clock,
}

pub(super) fn execute(common: &Common, arguments: &StatusArguments) -> anyhow::Result<Exit> {
    if !arguments.merge.is_empty() {
        return merge::execute(&arguments.merge, arguments.json, arguments.check);
    }
    let reader = StatusReader::new(common)?;
    if arguments.watch && !arguments.json && std::io::stdout().is_terminal() {
        return watch::execute(&reader, &arguments.which);
    }
    loop {
        let status = reader.read_named(&arguments.which, arguments.all)?;
        if status.is_none() {
            let state = reader.directory.display();
            render::talk(&format!("no daemon has run on this state ({state}) yet"));
        }
        let status = status.unwrap_or_else(|| reader.nothing());
        if arguments.json {
            render::json(&json::to_json(&status))?;
        } else {
            render::sheet(&text::sheet(&status, layout::terminal_width()))?;
        }
        if !arguments.watch {
            return Ok(if arguments.check { check(&status, common) } else { Exit::Fine });
        }
        std::thread::sleep(INTERVAL);
    }
}

impl<'a> StatusReader<'a> {
    pub(super) fn new(common: &'a Common) -> anyhow::Result<Self> {
        let directory = common.state_directory()?;
        Ok(Self { common, directory, clock: Clock::real() })
    }

    /// Reads these scopes, or everything.
    pub(super) fn read(&self, scopes: &[Scope], all: bool) -> anyhow::Result<(Snapshot, Status)> {
        let mut snapshot = Snapshot::open(&self.directory)?;
        if !scopes.is_empty() {
            snapshot.select(scopes)?;
        }
        let (now, live) = (self.clock.now().wall, ask::live(self.common));
        let status = snapshot.status_with(all, now, live)?;
        Ok((snapshot, status))
    }

    /// Reads the scopes of these words, or everything; `None` where no daemon has run yet.
    fn read_named(&self, words: &[OsString], all: bool) -> anyhow::Result<Option<Status>> {
        let scopes = match Snapshot::open(&self.directory) {
            Ok(_) if words.is_empty() => Vec::new(),
            Ok(snapshot) => What::read(&snapshot, words)?.scopes(),
            Err(error) if error.kind == Kind::Missing && words.is_empty() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(self.read(&scopes, all)?.1))
    }

    /// Returns the status without anything to read.
    fn nothing(&self) -> Status {
        Status { read_at: self.clock.now().wall, ..Status::default() }
    }
}

fn check(status: &Status, common: &Common) -> Exit {
    if status.process.is_running && ask::is_socket_gone(common) {
        render::talk("a daemon runs, but its control socket is not there: it takes no orders");
        return Exit::Attention;
    }
    judge(status)
}

/// A daemon that does not run sends nothing, which outweighs all else.
fn judge(status: &Status) -> Exit {
    match (status.process.is_running, attention::list(status).is_empty()) {
        (false, _) => Exit::NotRunning,
        (true, false) => Exit::Attention,
        (true, true) => Exit::Fine,
    }
}

#[cfg(test)]
mod tests;

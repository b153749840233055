//! `run`: the daemon, in the foreground.

use std::path::PathBuf;

use clap::Args;
use rustix::fs::Mode;

use super::{Common, Exit, show, status};
use crate::clock::Clock;
use crate::config::{Config, locate};
use crate::daemon::{Daemon, Render, Setup};

/// Created files are for the owner, and readable by the group: state and receipts contain names.
const UMASK: Mode = Mode::from_raw_mode(0o027);

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// Append all events to FILE, for a replay: paths and names, and no secrets
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Start without a database although receipts or backups are there: it is not known then what was sent
    #[arg(long)]
    new_state: bool,
}

pub(super) fn execute(common: &Common, arguments: &RunArguments) -> anyhow::Result<Exit> {
    keep_memory_private();
    restrict_umask();
    let (asked, recording) = (common.config.clone(), arguments.record.clone());
    let reader = move || {
        let environment = |name: &str| std::env::var(name).ok();
        let config = Config::load(&locate(asked.as_deref(), &environment), &environment)?;
        recording.iter().try_for_each(|file| config.check_apart("the recording", file))?;
        Ok(config)
    };
    let config = reader()?;
    config.warnings.iter().for_each(|warning| tracing::warn!("{}", warning.message));
    if !config.transfer.timetable.is_empty() {
        match Clock::real().local_shown() {
            Ok(zone) => tracing::info!("the timetable goes by local time, which is {zone}"),
            Err(why) => tracing::warn!("the timetable goes by local time: {why}"),
        }
    }
    // Two threads: one for the network, one for the rest. Files are read on threads of their own.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (recording, is_new_state) = (arguments.record.clone(), arguments.new_state);
    let ended = runtime.block_on(async {
        let reader = Box::new(reader);
        let render = Render { status: status::json::rendered, upload: show::rendered };
        let setup = Setup { config, reader, render, recording, is_new_state };
        let daemon = Daemon::start(setup, Clock::real())?;
        daemon.run().await
    });
    // Cancelled acts may still read, and their reads may hang: they are not waited for, however the
    // daemon ended.
    runtime.shutdown_background();
    // A reader of only the log needs to know it too.
    ended.inspect_err(|error| tracing::error!("the daemon ends: {error}"))?;
    Ok(Exit::Fine)
}

/// Sets the umask: files for the owner, readable by the group.
pub(super) fn restrict_umask() {
    rustix::process::umask(rustix::process::umask(UMASK) | UMASK);
}

/// Protects credentials in memory from other processes of the same user, and from core dumps.
fn keep_memory_private() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("memory is not kept from processes of the same user: {error}");
    }
}

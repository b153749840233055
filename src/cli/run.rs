//! `run`: the daemon, in the foreground.

use super::{Common, Exit, status};
use crate::clock::Clock;
use crate::config::{Config, locate};
use crate::daemon::{Daemon, Setup};

pub(super) fn execute(common: &Common) -> anyhow::Result<Exit> {
    keep_memory_private();
    let config = common.load()?;
    config.warnings.iter().for_each(|warning| tracing::warn!("{}", warning.message));
    let asked = common.config.clone();
    let reader = move || {
        let environment = |name: &str| std::env::var(name).ok();
        Config::load(&locate(asked.as_deref(), &environment), &environment)
    };
    // Two threads: the network, and what it must not wait for. Files are read on threads of their own.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = runtime.block_on(async {
        let setup = Setup { config, reader: Box::new(reader), render: status::rendered };
        let daemon = Daemon::start(setup, Clock::real())?;
        daemon.run().await
    });
    // Acts that were cut may still read, and their reads may hang: they are not waited for, however the
    // daemon ended.
    runtime.shutdown_background();
    ended?;
    Ok(Exit::Fine)
}

/// Keeps credentials in memory from other processes of the same user, and from core dumps.
fn keep_memory_private() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!("memory is not kept from processes of the same user: {error}");
    }
}

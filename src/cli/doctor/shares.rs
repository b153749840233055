//! Does every drop directory answer at all?
//!
//! One on a share whose server is gone may never, and whoever asks it cannot be stopped: not even a
//! process that ends gets rid of a thread that asks. So a child asks, which is left behind.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Args;

use super::lines::Checks;
use crate::cli::{Common, Exit};
use crate::clock::Clock;
use crate::config::{Config, locate};

/// A directory that answers does so within this time.
const LIMIT: Duration = Duration::from_secs(5);
/// How often a child is looked after.
const TICK: Duration = Duration::from_millis(5);

#[derive(Debug, Args)]
pub(crate) struct AnswersArguments {
    /// The directory
    directory: PathBuf,
}

/// What the child does.
pub(crate) fn answer(arguments: &AnswersArguments) -> Exit {
    let directory = &arguments.directory;
    // Any answer will do.
    drop(std::fs::metadata(directory));
    drop(std::fs::read_dir(directory).map(|mut entries| entries.next().is_some()));
    Exit::Fine
}

/// Also tells whether any is silent.
pub(super) fn check(common: &Common) -> (Checks, bool) {
    let mut checks = Checks::of("drop");
    let environment = |name: &str| std::env::var(name).ok();
    let path = locate(common.config.as_deref(), &environment);
    // What is wrong with the configuration is said where it is looked at.
    let named = Config::load_drop_directories(&path, &environment).unwrap_or_default();
    let asked: Vec<_> = named.into_iter().map(|named| (ask(&named.1), named)).collect();
    let clock = Clock::real();
    let mut is_silent = false;
    for (child, (name, directory)) in asked {
        if child.is_some_and(|child| !ends(child, &clock)) {
            is_silent = true;
            silent(&mut checks, &name, &directory.display().to_string(), LIMIT);
        }
    }
    (checks, is_silent)
}

pub(super) fn silent(checks: &mut Checks, name: &str, shown: &str, limit: Duration) {
    checks.fail(
        name,
        format!("{shown} does not answer within {} s", limit.as_secs()),
        "mount its share again; the daemon goes on by itself once it answers",
    );
}

/// Has a child ask; `None` when there is none to be had, which says nothing of the directory.
fn ask(directory: &std::path::Path) -> Option<Child> {
    let mut child = Command::new(std::env::current_exe().ok()?);
    child.arg("answers").arg(directory);
    child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
}

/// Waits for a child, no longer than all of them together may take.
fn ends(mut child: Child, clock: &Clock) -> bool {
    loop {
        match child.try_wait() {
            Ok(None) if clock.now().monotonic.0 < LIMIT => std::thread::sleep(TICK),
            Ok(None) => {
                // It ends once the share answers, or at once where it can.
                child.kill().ok();
                return false;
            }
            Ok(Some(_)) | Err(_) => return true,
        }
    }
}

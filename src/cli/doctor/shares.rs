//! Checks that every drop directory answers at all.
//!
//! A share whose server is gone may never answer, and an access to it cannot be cancelled: even the end
//! of a process waits for a thread that hangs there. So a child process asks, which is abandoned.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::Args;

use super::lines::Checks;
use crate::cli::{Common, Exit};
use crate::clock::Clock;
use crate::config::{Config, locate};

/// Time limit of an answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Interval of checking a child.
const TICK: Duration = Duration::from_millis(5);

#[derive(Debug, Args)]
pub(crate) struct AnswersArguments {
    /// The directory
    directory: PathBuf,
}

/// The child's work.
pub(crate) fn answer(arguments: &AnswersArguments) -> Exit {
    let directory = &arguments.directory;
    // Any answer will do.
    drop(std::fs::metadata(directory));
    drop(std::fs::read_dir(directory).map(|mut entries| entries.next().is_some()));
    Exit::Fine
}

/// Also returns whether any does not answer.
pub(super) fn check(common: &Common) -> (Checks, bool) {
    let mut checks = Checks::of("drop");
    let environment = |name: &str| std::env::var(name).ok();
    let path = locate(common.config.as_deref(), &environment);
    // Problems of the configuration are reported elsewhere.
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

/// Starts a child that asks; `None` if that is impossible, which says nothing about the directory.
fn ask(directory: &std::path::Path) -> Option<Child> {
    let mut child = Command::new(std::env::current_exe().ok()?);
    child.arg("answers").arg(directory);
    child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
}

/// Waits for a child, within the limit of all of them together.
fn ends(mut child: Child, clock: &Clock) -> bool {
    loop {
        match child.try_wait() {
            Ok(None) if clock.now().monotonic.0 < LIMIT => std::thread::sleep(TICK),
            Ok(None) => {
                // It ends once the share answers, or at once where possible.
                child.kill().ok();
                return false;
            }
            Ok(Some(_)) | Err(_) => return true,
        }
    }
}

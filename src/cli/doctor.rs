//! `doctor`: checks everything that may be wrong, with the cure of each problem.
//!
//! One file for each group of checks; each returns lines, and none stops the others. Works whether
//! the daemon runs or not, and writes no state. Checks that may hang, on a share or a server, have
//! a time limit. Nothing at a destination is changed, except by the tests of `check-config
//! --online`, and by the removal of our own orphans on request.

mod attention;
mod channels;
mod clock;
mod configuration;
mod credentials;
mod cures;
mod daemon;
mod database;
mod destinations;
mod drops;
mod lines;
mod orphans;
mod page;
mod place;
mod receipts;
mod shares;
mod watches;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;

pub(super) use self::clock::ZONE_CURE;
use self::lines::{CheckState, Checks, DoctorCheck};
pub(super) use self::shares::{AnswersArguments, answer};
use super::{Common, Exit, render};
use crate::clock::Clock;
use crate::config::{Config, duration_argument};
use crate::store::snapshot::{Snapshot, Status};
use crate::store::{Error, Kind};

/// Time limit of checks that may hang.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Make no network requests
    #[arg(long)]
    offline: bool,
    /// Remove unfinished remote uploads that are provably ours and not needed
    #[arg(long, conflicts_with = "offline")]
    abort_orphans: bool,
    /// Remove them without asking for confirmation
    #[arg(long, requires = "abort_orphans")]
    yes: bool,
    /// Remove only those that were begun longer ago than this
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = duration_argument)]
    older_than: Duration,
}

pub(super) fn execute(common: &Common, arguments: &DoctorArguments) -> anyhow::Result<Exit> {
    let mut report = Report { json: arguments.json, checks: Vec::new() };
    let (silent, is_silent) = shares::check(common);
    report.add(silent)?;
    let configured = configuration::check(common, is_silent);
    report.add(configured.checks)?;
    let clock = Clock::real();
    let mut status = None;
    let mut is_new = false;
    if let Some(directory) = &configured.state_directory {
        let (checks, answers) = place::check(directory);
        report.add(checks)?;
        if answers {
            let found = state_of(directory, &clock);
            is_new = found.as_ref().is_err_and(|error| matches!(error.kind, Kind::Missing));
            report.add(database::check(directory, &found))?;
            status = found.ok();
        }
        if status.is_some() {
            report.add(receipts::check(directory))?;
        }
        report.add(daemon::check(status.as_ref(), is_new, &clock))?;
        report.add(daemon::check_socket(common, status.as_ref()))?;
        report.add(clock::check(status.as_ref(), &clock))?;
        report.add(clock::zone(&clock))?;
    }
    let mut directory_count = 0;
    if let Some(config) = &configured.config {
        let (checks, count) = drops::check(config, status.as_ref());
        report.add(checks)?;
        report.add(page::check(config, status.as_ref()))?;
        directory_count = count;
    }
    report.add(watches::check(directory_count))?;
    if let Some(status) = &status {
        let held = configured.state_directory.as_deref().map_or(Vec::new(), attention::held);
        report.add(attention::check(status, &held, clock.now().wall))?;
        report.add(attention::learned(status))?;
    }
    if let Some(config) = &configured.config {
        report.add(credentials::check(config, status.as_ref(), clock.now().wall))?;
        if !arguments.offline {
            online(&mut report, config, &clock, arguments)?;
        }
    }
    report.end()?;
    let needs_someone =
        status.as_ref().is_some_and(|s| !super::status::attention::list(s).is_empty());
    Ok(match (report.has_failed(), configured.is_readable) {
        (_, false) => Exit::Configuration,
        // Damaged proof needs a person, whatever else is wrong.
        (true, true) if report.has_damage() => Exit::Attention,
        (true, true) => Exit::Failed,
        (false, true) if needs_someone => Exit::Attention,
        (false, true) => Exit::Fine,
    })
}

fn state_of(directory: &std::path::Path, clock: &Clock) -> Result<Status, Error> {
    Snapshot::open(directory)?.status(false, clock.now().wall)
}

/// Checks the destinations.
fn online(
    report: &mut Report,
    config: &Arc<Config>,
    clock: &Clock,
    arguments: &DoctorArguments,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let clients = match crate::daemon::clients(config, clock) {
        Ok(clients) => clients,
        Err(error) => {
            let mut checks = Checks::of("destination");
            checks.fail("all", error.to_string(), "correct what it names; then ask again");
            return Ok(report.add(checks)?);
        }
    };
    report.add(runtime.block_on(destinations::check(config, &clients, clock)))?;
    report.add(runtime.block_on(channels::check(config, clock)))?;
    let wish = orphans::Wish {
        abort: arguments.abort_orphans,
        yes: arguments.yes,
        older_than: arguments.older_than,
    };
    report.add(runtime.block_on(orphans::check(config, &clients, &wish, clock.now().wall)))?;
    // A DNS look-up that hangs must not delay the end of the process.
    runtime.shutdown_background();
    Ok(())
}

/// The findings so far.
struct Report {
    json: bool,
    checks: Vec<DoctorCheck>,
}

impl Report {
    /// Adds the lines of a group, and prints them unless all are printed as JSON.
    fn add(&mut self, checks: Checks) -> std::io::Result<()> {
        let checks = checks.into_list();
        if !self.json {
            checks.iter().try_for_each(|check| render::data(&check.to_string()))?;
        }
        self.checks.extend(checks);
        Ok(())
    }

    fn count(&self, state: CheckState) -> usize {
        self.checks.iter().filter(|check| check.state == state).count()
    }

    fn has_failed(&self) -> bool {
        self.count(CheckState::Fail) > 0
    }

    fn has_damage(&self) -> bool {
        let is_damage =
            |check: &DoctorCheck| check.group == "receipts" && check.state == CheckState::Fail;
        self.checks.iter().any(is_damage)
    }

    fn end(&self) -> std::io::Result<()> {
        if !self.json {
            let (warned, failed) = (self.count(CheckState::Warn), self.count(CheckState::Fail));
            return render::data(&format!(
                "\n{} ok, {warned} to look at, {failed} failed",
                self.count(CheckState::Ok)
            ));
        }
        let check = |check: &DoctorCheck| {
            json!({
                "group": check.group, "name": check.name, "state": check.state.word(),
                "found": check.found, "cure": check.cure,
            })
        };
        let checks: Vec<_> = self.checks.iter().map(check).collect();
        render::json(&json!({ "schema": 1, "checks": checks }))
    }
}

/// Runs a check that may hang on a thread of its own; `None` if it does, and the thread is abandoned.
pub(super) fn bounded<T: Send + 'static>(
    limit: Duration,
    check: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, answer) = std::sync::mpsc::sync_channel(1);
    // The receiver may be gone.
    let run = move || drop(done.send(check()));
    std::thread::Builder::new().name("check".into()).spawn(run).ok()?;
    answer.recv_timeout(limit).ok()
}

/// The content of the configuration.
struct Configured {
    checks: Checks,
    config: Option<Arc<Config>>,
    state_directory: Option<PathBuf>,
    /// It could be parsed as a configuration.
    is_readable: bool,
}

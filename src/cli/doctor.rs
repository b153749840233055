//! `doctor`: everything that may be wrong, each with its cure.
//!
//! One file for each group of checks; each gives lines, and none stops the others. Works whether the
//! daemon runs or not, and writes no state. What may hang, a share or a far side, is asked within a
//! time. Nothing at a destination is touched, but for what `check-config --online` does, and for
//! orphans that are ours when they are to be removed.

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

/// What may hang is given up after this time.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Ask nothing of the network
    #[arg(long)]
    offline: bool,
    /// Remove unfinished remote uploads that are provably ours and that nothing needs
    #[arg(long, conflicts_with = "offline")]
    abort_orphans: bool,
    /// Remove them without asking
    #[arg(long, requires = "abort_orphans")]
    yes: bool,
    /// Remove none that was begun later than this ago
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
        // Proof that is damaged is for a person, whatever else there is.
        (true, true) if report.has_damage() => Exit::Attention,
        (true, true) => Exit::Failed,
        (false, true) if needs_someone => Exit::Attention,
        (false, true) => Exit::Fine,
    })
}

fn state_of(directory: &std::path::Path, clock: &Clock) -> Result<Status, Error> {
    Snapshot::open(directory)?.status(false, clock.now().wall)
}

/// Asks the destinations.
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
    // A look-up of a name that hangs must not hold the process back.
    runtime.shutdown_background();
    Ok(())
}

/// What was found so far.
struct Report {
    json: bool,
    checks: Vec<DoctorCheck>,
}

impl Report {
    /// Takes the lines of a group, and shows them unless all are to be shown as JSON.
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

/// Runs what may hang on a thread of its own; `None` when it does, and the thread is left behind.
pub(super) fn bounded<T: Send + 'static>(
    limit: Duration,
    check: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, answer) = std::sync::mpsc::sync_channel(1);
    // Nobody may be left who wants to know.
    let run = move || drop(done.send(check()));
    std::thread::Builder::new().name("check".into()).spawn(run).ok()?;
    answer.recv_timeout(limit).ok()
}

/// What the configuration gave.
struct Configured {
    checks: Checks,
    config: Option<Arc<Config>>,
    state_directory: Option<PathBuf>,
    /// It is a configuration at all.
    is_readable: bool,
}

//! `wait`: returns when a run is there, when something of it needs a person, or when time is up.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::status::progress;
use super::status::{attention, text};
use super::what::What;
use super::{Common, Exit, ask, layout, render};
use crate::clock::Clock;
use crate::config::parse_duration;
use crate::model::{RunState, Scope};
use crate::store::snapshot::{Snapshot, Status};

const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// A daemon that is started again, for a new version say, is waited for.
const RESTART_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct WaitArguments {
    /// A run: DROP/RUN, or its name or any end of it where only one is meant; also an upload or a file
    #[arg(value_name = "RUN")]
    which: OsString,
    /// Return with exit code 7 after this time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|unit| format!("allowed: {}", unit.allowed))
}

pub(super) fn execute(common: &Common, arguments: &WaitArguments) -> anyhow::Result<Exit> {
    let directory = common.state_directory()?;
    let words = std::slice::from_ref(&arguments.which);
    let scopes = What::read(&Snapshot::open(&directory)?, words)?.scopes();
    let clock = Clock::real();
    let bar = bar();
    let mut ran_at = clock.now().monotonic;
    let mut has_run = false;
    loop {
        let now = clock.now();
        let status = look(common, &directory, &scopes, &clock)?;
        show(&bar, &status);
        if is_there(&status)? {
            bar.finish_and_clear();
            render::data(&said(&status))?;
            return Ok(Exit::Fine);
        }
        if !attention::list(&status).is_empty() {
            bar.finish_and_clear();
            let mut sheet = layout::Sheet::new(layout::terminal_width());
            text::verdict(&mut sheet, &status);
            render::talk(sheet.plain().trim_end());
            return Ok(Exit::Attention);
        }
        if status.process.is_running {
            (ran_at, has_run) = (now.monotonic, true);
        } else if !has_run || now.monotonic.since(ran_at) > RESTART_LIMIT {
            bar.finish_and_clear();
            render::talk(
                "dropferry is not running: nothing is sent\nhint: systemctl start dropferry",
            );
            return Ok(Exit::NotRunning);
        }
        // The clock of this process begins with it.
        if arguments.timeout.is_some_and(|limit| now.monotonic.0 >= limit) {
            bar.finish_and_clear();
            render::talk(&format!("time is up: {}", said(&status)));
            return Ok(Exit::TimeUp);
        }
        let left = arguments.timeout.map(|limit| limit.saturating_sub(now.monotonic.0));
        std::thread::sleep(left.unwrap_or(LOOK_INTERVAL).min(LOOK_INTERVAL));
    }
}

fn look(
    common: &Common,
    directory: &Path,
    scopes: &[Scope],
    clock: &Clock,
) -> anyhow::Result<Status> {
    let mut snapshot = Snapshot::open(directory)?;
    snapshot.select(scopes)?;
    Ok(snapshot.status_with(false, clock.now().wall, ask::live(common))?)
}

/// Tells whether all that is meant is there: runs are complete, and no upload is open.
fn is_there(status: &Status) -> anyhow::Result<bool> {
    for run in &status.runs {
        let name = format!("{}/{}", run.row.drop, run.row.name);
        match run.row.state {
            RunState::Gone => bail!("{name} was taken away before it was complete"),
            RunState::Skipped => bail!("{name} is not sent: a rule of its profile leaves it out"),
            RunState::Open | RunState::Closed | RunState::Completed => {}
        }
    }
    let is_complete = status.runs.iter().all(|run| run.row.state == RunState::Completed);
    let is_open = |state: &str| !matches!(state, "completed" | "abandoned");
    let mut tallies = status.counts.tallies.iter();
    Ok(is_complete && !tallies.any(|tally| is_open(&tally.state) && tally.upload_count > 0))
}

/// Says how far it is.
fn said(status: &Status) -> String {
    let total = progress::sum(status, |tally| tally.size_bytes);
    let accepted = progress::sum(status, |tally| tally.accepted_bytes);
    let count = |word: &str| {
        let tally = status.counts.tallies.iter().find(|tally| tally.state == word);
        tally.map_or(0, |tally| tally.upload_count)
    };
    let files: u64 = status.counts.tallies.iter().map(|tally| tally.upload_count).sum();
    format!(
        "{} of {} files, {} of {} are there",
        count("completed"),
        files - count("abandoned"),
        render::bytes(accepted),
        render::bytes(total)
    )
}

fn show(bar: &ProgressBar, status: &Status) {
    let in_flight = progress::sum(status, |tally| tally.bytes_in_flight);
    let accepted = progress::sum(status, |tally| tally.accepted_bytes);
    bar.set_length(progress::sum(status, |tally| tally.size_bytes));
    bar.set_position(accepted.saturating_add(in_flight));
    let mut words = Vec::new();
    let flows = status.runs.iter().flat_map(|run| {
        run.tallies.iter().map(move |tally| progress::RunProgress::of(status, run, tally))
    });
    let flows: Vec<_> = flows.collect();
    let rate: u64 = flows.iter().filter_map(|flow| flow.rate).sum();
    if rate > 0 {
        words.push(format!("{}/s", render::bytes(rate)));
    }
    let left: Option<Vec<u64>> = flows.iter().map(|flow| flow.seconds_left).collect();
    match left.and_then(|left| left.into_iter().max()) {
        Some(left) if left > 0 => words.push(format!("about {} left", render::duration(left))),
        Some(_) => {}
        None => words.push("time left unknown".to_owned()),
    }
    let reasons = status.runs.iter().filter_map(|run| run.row.reason.as_ref());
    words.extend(reasons.map(|reason| reason.text.clone()).take(1));
    bar.set_message(words.join(", "));
    bar.tick();
}

fn bar() -> ProgressBar {
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:30} {percent}% of {total_bytes}, {msg}");
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

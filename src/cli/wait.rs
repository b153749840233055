//! `wait`: returns when a run has arrived, when something of it needs a person, or after a time-out.

use std::ffi::OsString;
use std::time::Duration;

use super::bar::Bar;
use super::status::progress::{self, RunProgress};
use super::status::{StatusReader, attention, text};
use super::what::What;
use super::{Common, Exit, layout, render};
use crate::clock::Clock;
use crate::config::duration_argument;
use crate::model::{Monotonic, RunRow, RunState, Scope};
use crate::store::snapshot::{Snapshot, Status, Tally, UploadShown};
use anyhow::bail;
use clap::Args;

const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Wait for a daemon that is restarted, for example for a new version.
const RESTART_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(super) struct WaitArguments {
    /// A run: DROP/RUN, or its name or any end of it where only one is meant; also an upload or a file
    #[arg(value_name = "RUN")]
    which: OsString,
    /// Return with exit code 7 after this time
    #[arg(long, value_name = "DURATION", value_parser = duration_argument)]
    timeout: Option<Duration>,
}

/// The run or upload to wait for, read at intervals, with a progress bar.
pub(super) struct WaitProgress<'a> {
    reader: StatusReader<'a>,
    scopes: Vec<Scope>,
    clock: Clock,
    bar: Bar,
    /// When a daemon was last seen running.
    ran_at: Option<Monotonic>,
}

impl<'a> WaitProgress<'a> {
    pub(super) fn new(common: &'a Common, scopes: Vec<Scope>) -> anyhow::Result<Self> {
        let (reader, clock) = (StatusReader::new(common)?, Clock::real());
        Ok(Self { reader, scopes, clock, bar: Bar::new(), ran_at: None })
    }

    /// Reads the progress, and shows it.
    pub(super) fn look(&mut self) -> anyhow::Result<Status> {
        let (_, status) = self.reader.read(&self.scopes, false)?;
        if status.process.is_running {
            self.ran_at = Some(self.clock.now().monotonic);
        }
        let gone = progress::sum(&status, |tally| tally.accepted_bytes + tally.bytes_in_flight);
        let total = progress::sum(&status, |tally| tally.size_bytes);
        let ahead = self.ahead(&status)?;
        self.bar.show(gone, total, &words(&status, ahead));
        Ok(status)
    }

    /// Returns whether no daemon runs any more, and prints that.
    pub(super) fn is_in_vain(&self) -> bool {
        let now = self.clock.now().monotonic;
        let is_down = self.ran_at.is_none_or(|at| now.since(at) > RESTART_LIMIT);
        if is_down {
            self.end();
            render::talk(
                "dropferry is not running: nothing is sent\nhint: systemctl start dropferry",
            );
        }
        is_down
    }

    /// Counts uploads that are sent before, while none of these has begun.
    fn ahead(&self, status: &Status) -> anyhow::Result<usize> {
        let begun = |tally: &Tally| tally.accepted_bytes > 0 || tally.bytes_in_flight > 0;
        if open_count(status) == 0 || status.counts.tallies.iter().any(begun) {
            return Ok(0);
        }
        let Some(first) = status.uploads.iter().map(|upload| upload.admission.id).min() else {
            return Ok(0);
        };
        let others = self.reader.read(&[], false)?.1.uploads;
        let is_before = |other: &&UploadShown| {
            let is_open = matches!(other.word(), "queued" | "sending");
            is_open && (other.admission.id < first || other.state.wire.in_flight.0 > 0)
        };
        Ok(others.iter().filter(is_before).count())
    }

    pub(super) fn end(&self) {
        self.bar.end();
    }

    /// Returns whether everything has arrived: runs are complete, and no upload is open.
    fn is_there(&self, status: &Status) -> anyhow::Result<bool> {
        let mut is_complete = true;
        let is_named = |row: &&RunRow| self.scopes.iter().any(|scope| scope.covers_run(row));
        for row in status.runs.iter().map(|run| &run.row).filter(is_named) {
            let name = format!("{}/{}", row.drop, row.name);
            match row.state {
                RunState::Gone => bail!("{name} was taken away before it was complete"),
                RunState::Skipped => {
                    bail!("{name} is not sent: a rule of its profile leaves it out")
                }
                RunState::Open | RunState::Closed => is_complete = false,
                RunState::Completed => {}
            }
        }
        let is_open = |state: &str| !matches!(state, "completed" | "abandoned");
        let mut tallies = status.counts.tallies.iter();
        Ok(is_complete && !tallies.any(|tally| is_open(&tally.state) && tally.upload_count > 0))
    }
}

pub(super) fn execute(common: &Common, arguments: &WaitArguments) -> anyhow::Result<Exit> {
    let words = std::slice::from_ref(&arguments.which);
    let scopes = What::read(&Snapshot::open(&common.state_directory()?)?, words)?.scopes();
    let mut waiting = WaitProgress::new(common, scopes)?;
    loop {
        let status = waiting.look()?;
        if waiting.is_there(&status)? {
            waiting.end();
            render::data(&said(&status))?;
            return Ok(Exit::Fine);
        }
        if !attention::list(&status).is_empty() {
            waiting.end();
            let mut sheet = layout::Sheet::new(layout::terminal_width());
            text::verdict(&mut sheet, &status);
            render::talk(sheet.plain().trim_end());
            return Ok(Exit::Attention);
        }
        if waiting.is_in_vain() {
            return Ok(Exit::NotRunning);
        }
        // This process's clock starts with it.
        let now = waiting.clock.now().monotonic.0;
        if arguments.timeout.is_some_and(|limit| now >= limit) {
            waiting.end();
            render::talk(&format!("time is up: {}", said(&status)));
            return Ok(Exit::TimeUp);
        }
        let left = arguments.timeout.map(|limit| limit.saturating_sub(now));
        std::thread::sleep(left.unwrap_or(LOOK_INTERVAL).min(LOOK_INTERVAL));
    }
}

/// Returns the progress as text.
pub(super) fn said(status: &Status) -> String {
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

/// Counts uploads that may still be sent.
pub(super) fn open_count(status: &Status) -> u64 {
    let is_open = |tally: &&Tally| matches!(tally.state.as_str(), "queued" | "sending" | "waiting");
    status.counts.tallies.iter().filter(is_open).map(|tally| tally.upload_count).sum()
}

/// Returns the rate, the time left, and what it waits for.
fn words(status: &Status, ahead: usize) -> String {
    let runs = status
        .runs
        .iter()
        .flat_map(|run| run.tallies.iter().map(move |tally| RunProgress::of(status, run, tally)));
    let files = status.single_files.iter();
    let files = files.map(|(drop, tally)| RunProgress::of_files(status, drop, tally));
    let flows: Vec<_> = runs.chain(files).collect();
    let mut words = Vec::new();
    let rate: u64 = flows.iter().filter_map(|flow| flow.rate).sum();
    if rate > 0 {
        words.push(format!("{}/s", render::bytes(rate)));
    }
    if ahead > 0 {
        let plural = if ahead == 1 { "upload" } else { "uploads" };
        words.push(format!("waits behind {ahead} {plural}"));
    }
    let left: Option<Vec<u64>> = flows.iter().map(|flow| flow.seconds_left).collect();
    match left.and_then(|left| left.into_iter().max()) {
        Some(left) if left > 0 => words.push(format!("about {} left", render::duration(left))),
        Some(_) => {}
        None => words.push("time left unknown".to_owned()),
    }
    let of_runs = status.runs.iter().filter_map(|run| run.row.reason.as_ref());
    let of_runs = of_runs.map(|reason| reason.text.clone());
    let of_files = status.uploads.iter().filter(|upload| upload.word() == "waiting");
    let of_files = of_files.filter_map(|upload| upload.reason()).map(|reason| reason.text);
    words.extend(of_runs.chain(of_files).take(1));
    words.join(", ")
}

//! Runs for people: the progress of each at each of its destinations.

use super::progress::RunProgress;
use crate::cli::layout::{self, Sheet, Tone};
use crate::cli::render;
use crate::model::{DirectoryName, RunState, Shown, SourcePath};
use crate::store::snapshot::{RunShown, RunTallyShown, Status};

/// Limit of listed runs, counted per destination.
const RUNS_MAX: usize = 20;
const BAR_COLUMNS: usize = 20;
const BAR_MIN: usize = 5;

/// Shows the progress of one run at each of its destinations.
pub(in crate::cli) fn run(sheet: &mut Sheet, status: &Status, run: &RunShown) {
    for tally in &run.tallies {
        say(sheet, &run_line(status, run, tally));
        tally.url.iter().for_each(|url| sheet.say(Tone::Faint, 4, url));
    }
    if run.tallies.is_empty() {
        say(sheet, &unsent_line(run));
    }
}

/// The progress of a run at one destination.
pub(in crate::cli) struct RunLine {
    pub(in crate::cli) drop: DirectoryName,
    /// `None` for the total of the files that are runs of their own.
    pub(in crate::cli) run: Option<SourcePath>,
    pub(in crate::cli) name: String,
    pub(in crate::cli) to: String,
    pub(in crate::cli) said: String,
    pub(in crate::cli) tone: Tone,
    pub(in crate::cli) progress: RunProgress,
    pub(in crate::cli) is_open: bool,
    pub(in crate::cli) completed_count: u64,
}

/// Lists runs at their destinations: active ones, then waiting ones, then ended ones; each the
/// newest first.
pub(in crate::cli) fn lines(status: &Status) -> Vec<RunLine> {
    let mut lines = Vec::new();
    for run in &status.runs {
        lines.extend(run.tallies.iter().map(|tally| run_line(status, run, tally)));
        if run.tallies.is_empty() {
            lines.push(unsent_line(run));
        }
    }
    for (drop, tally) in &status.single_files {
        let progress = RunProgress::of_files(status, drop, tally);
        lines.push(RunLine {
            drop: DirectoryName::new(drop.as_str()),
            run: None,
            name: format!("{drop}: files at the top"),
            to: tally.destination.clone(),
            said: said_of_files(tally),
            tone: if tally.parked_count > 0 { Tone::Bad } else { Tone::Plain },
            progress,
            is_open: false,
            completed_count: tally.completed_count,
        });
    }
    sort(&mut lines);
    lines
}

pub(super) fn sort(lines: &mut [RunLine]) {
    lines.sort_by_key(|line| {
        let moves = line.progress.rate.is_some_and(|rate| rate > 0);
        (!moves, line.progress.accepted_bytes >= line.progress.bytes && !line.is_open)
    });
}

/// Shows the progress of all runs.
pub(super) fn runs(sheet: &mut Sheet, status: &Status) {
    let lines = lines(status);
    if lines.is_empty() {
        return;
    }
    sheet.line(Tone::Plain, String::new());
    sheet.say(Tone::Title, 0, "runs");
    let more = lines.len().saturating_sub(RUNS_MAX);
    lines.iter().take(RUNS_MAX).for_each(|line| say(sheet, line));
    if more > 0 {
        sheet.say(Tone::Faint, 2, &format!("and {more} more"));
    }
}

/// Shows the progress of a run at one destination.
pub(in crate::cli) fn say(sheet: &mut Sheet, line: &RunLine) {
    let to = format!(" to {}", Shown(&line.to));
    let to = if line.to.is_empty() { String::new() } else { to };
    let name = Shown(&line.name).to_string();
    let room = sheet
        .width()
        .map_or(usize::MAX, |width| width.saturating_sub(2 + layout::width(&to)).max(20));
    sheet.line(line.tone, format!("  {}{to}", layout::shortened(&name, room)));
    if line.progress.bytes > 0 || line.progress.file_count > 0 {
        let text = bar_text(line);
        let room = sheet.width().map_or(BAR_COLUMNS, |width| {
            width.saturating_sub(4 + 3 + layout::width(&text)).clamp(BAR_MIN, BAR_COLUMNS)
        });
        let (gone, bytes) = (line.progress.gone_bytes(), line.progress.bytes);
        sheet.say(Tone::Plain, 4, &format!("{} {text}", layout::bar(gone, bytes, room)));
    }
    if !line.said.is_empty() {
        sheet.say(Tone::Faint, 4, &line.said);
    }
}

/// Returns the progress in numbers, the rate and the time left.
fn bar_text(line: &RunLine) -> String {
    let progress = &line.progress;
    let mut text = format!(
        "{:>5} of {}, {} of {} files",
        render::percent(progress.gone_bytes(), progress.bytes),
        render::bytes(progress.bytes),
        line.completed_count,
        progress.file_count
    );
    let is_done = progress.accepted_bytes >= progress.bytes;
    if let Some(rate) = progress.rate.filter(|rate| *rate > 0 && !is_done) {
        text.push_str(&format!(", {}/s", render::bytes(rate)));
        if let Some(left) = progress.seconds_left.filter(|left| *left > 0) {
            let least = if line.is_open { ">" } else { "" };
            text.push_str(&format!(", {least}{}", render::duration(left)));
        }
    }
    text
}

/// Returns the state of a run in words.
fn said_of_run(run: &RunShown, tally: &RunTallyShown) -> String {
    let row = &run.row;
    let reason = row.reason.as_ref().map(|reason| reason.text.clone());
    let is_there = tally.completed_count == tally.upload_count.max(row.files.count);
    let mut said = match row.state {
        _ if tally.parked_count > 0 => format!("{} parked", tally.parked_count),
        RunState::Completed if row.files.given_up_count > 0 => {
            "there, as far as it was not given up".to_owned()
        }
        RunState::Completed => "all there".to_owned(),
        RunState::Gone => "taken away before it was complete".to_owned(),
        RunState::Skipped => format!("skipped: {}", reason.clone().unwrap_or_default()),
        RunState::Open if is_there => format!(
            "open, all that is complete so far is there ({} of {}){}",
            tally.completed_count,
            tally.upload_count.max(row.files.count),
            reason.as_ref().map_or(String::new(), |reason| format!("; {reason}"))
        ),
        RunState::Open => {
            format!("open{}", reason.as_ref().map_or(String::new(), |why| format!(": {why}")))
        }
        RunState::Closed => format!(
            "closed, being sent{}",
            reason.as_ref().map_or(String::new(), |why| format!(": {why}"))
        ),
    };
    if let Some(closed) = &row.closed_by_hand {
        said.push_str(&format!("; closed by hand ({})", closed.by));
    }
    said
}

fn said_of_files(tally: &RunTallyShown) -> String {
    match tally.parked_count {
        0 if tally.completed_count == tally.upload_count => "all there".to_owned(),
        0 => String::new(),
        count => format!("{count} parked"),
    }
}

fn run_line(status: &Status, run: &RunShown, tally: &RunTallyShown) -> RunLine {
    let row = &run.row;
    let tone = match row.state {
        _ if tally.parked_count > 0 => Tone::Bad,
        RunState::Completed => Tone::Good,
        RunState::Open | RunState::Closed | RunState::Gone | RunState::Skipped => Tone::Plain,
    };
    RunLine {
        drop: row.drop.clone(),
        run: Some(row.name.clone()),
        name: format!("{}/{}", row.drop, row.name),
        to: tally.destination.clone(),
        said: said_of_run(run, tally),
        tone,
        progress: RunProgress::of(status, run, tally),
        is_open: row.state == RunState::Open,
        completed_count: tally.completed_count,
    }
}

/// The line of a run without admitted files.
fn unsent_line(run: &RunShown) -> RunLine {
    let row = &run.row;
    let reason = row.reason.as_ref();
    let reason = reason.map_or(String::new(), |reason| format!(": {}", reason.text));
    RunLine {
        drop: row.drop.clone(),
        run: Some(row.name.clone()),
        name: format!("{}/{}", row.drop, row.name),
        to: String::new(),
        said: format!("{}{reason}", row.state.as_str()),
        tone: Tone::Plain,
        progress: RunProgress {
            file_count: 0,
            bytes: 0,
            accepted_bytes: 0,
            in_flight_bytes: 0,
            rate: None,
            seconds_left: None,
            stalled_since: None,
        },
        is_open: true,
        completed_count: 0,
    }
}

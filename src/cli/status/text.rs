//! `status` for people: the verdict, what needs someone, runs, files, places.

use super::attention::{self, Matter};
use super::progress::{self, RunProgress};
use crate::cli::layout::{self, Sheet, Tone};
use crate::cli::render;
use crate::model::{RunState, Scope, Shown, Standing, WallTime};
use crate::store::snapshot::{DestinationShown, RunShown, RunTallyShown, Status, UploadShown};

/// What needs someone is listed so far; the rest is counted.
const MATTERS_MAX: usize = 5;
/// Runs at their destinations that are listed.
const RUNS_MAX: usize = 20;
/// Files that are listed.
const FILES_MAX: usize = 20;
const BAR_COLUMNS: usize = 20;
const BAR_MIN: usize = 5;
/// A life, in its order.
const STATES: [&str; 6] = ["queued", "sending", "waiting", "parked", "completed", "abandoned"];

/// Renders all that is shown to people.
pub(in crate::cli) fn sheet(status: &Status, width: Option<usize>) -> Sheet {
    let mut sheet = Sheet::new(width);
    verdict(&mut sheet, status);
    totals(&mut sheet, status);
    runs(&mut sheet, status);
    files(&mut sheet, status);
    places(&mut sheet, status);
    sheet
}

/// Says in the first lines whether all is well, and what to do when it is not.
pub(in crate::cli) fn verdict(sheet: &mut Sheet, status: &Status) {
    let matters = attention::list(status);
    if !status.process.is_running {
        let stops = match &status.process.daemon {
            Some(_) => {
                "dropferry is not running: nothing is sent; what follows is where it stopped"
            }
            None => "dropferry is not running: no daemon has run on this state",
        };
        sheet.say(Tone::Bad, 0, stops);
        sheet.say(Tone::Plain, 2, "cure: systemctl start dropferry, or: dropferry run");
    }
    let waits = waits(status);
    let count = matters.len();
    match (count, waits.is_empty(), status.process.is_running) {
        (0, true, true) => {
            let text = format!("all well{}", doing(status));
            sheet.say(Tone::Good, 0, &text);
        }
        (0, false, true) => {
            let text =
                format!("nothing needs someone; it waits, and goes on by itself{}", doing(status));
            sheet.say(Tone::Waits, 0, &text);
        }
        (0, _, false) => {}
        (1, ..) => sheet.say(Tone::Bad, 0, &format!("1 thing needs someone{}", doing(status))),
        _ => sheet.say(Tone::Bad, 0, &format!("{count} things need someone{}", doing(status))),
    }
    for matter in matters.iter().take(MATTERS_MAX) {
        say_matter(sheet, matter);
    }
    if count > MATTERS_MAX {
        sheet.say(Tone::Bad, 2, &format!("and {} more: dropferry doctor", count - MATTERS_MAX));
    }
    for (text, cure) in waits {
        sheet.say(Tone::Waits, 2, &text);
        cure.iter().for_each(|cure| sheet.say(Tone::Plain, 4, cure));
    }
}

pub(in crate::cli) fn say_matter(sheet: &mut Sheet, matter: &Matter) {
    sheet.say(Tone::Bad, 2, &format!("! {}", matter.line()));
    if let Some(cure) = matter.cure() {
        sheet.say(Tone::Plain, 4, &format!("cure: {cure}"));
    }
}

/// Says how fast it goes, and for how long.
fn doing(status: &Status) -> String {
    let rate = progress::rate(status).filter(|rate| *rate > 0);
    let open = |state: &str| matches!(state, "queued" | "sending" | "waiting");
    let is_open =
        status.counts.tallies.iter().any(|tally| open(&tally.state) && tally.upload_count > 0);
    match (rate, progress::seconds_left(status), is_open) {
        (_, _, false) if status.counts.settling_count > 0 => ": files settle".into(),
        (_, _, false) => open_runs(status),
        (Some(rate), Some(left), true) if left > 0 => {
            format!(": {}/s, about {} left", render::bytes(rate), render::duration(left))
        }
        (Some(rate), ..) => format!(": {}/s", render::bytes(rate)),
        (None, ..) => String::new(),
    }
}

/// Says what open runs wait for, while nothing is to be sent.
fn open_runs(status: &Status) -> String {
    let open = status.runs.iter().filter(|run| run.row.state == RunState::Open);
    let mut open = open.filter_map(|run| Some((&run.row, run.row.reason.as_ref()?)));
    let Some((row, reason)) = open.next() else { return ": nothing to send".into() };
    let more = match open.count() {
        0 => String::new(),
        count => format!(", and {count} more are open"),
    };
    format!(": {}/{} is open, {}{more}", row.drop, row.name, reason.text)
}

/// What waits and goes on by itself: destinations, the hour, lines that stall. Each with what ends it now.
fn waits(status: &Status) -> Vec<(String, Option<String>)> {
    let now = status.read_at;
    let mut said = Vec::new();
    let away = |to: &&DestinationShown| {
        matches!(to.state.as_str(), "throttled" | "unreachable" | "paused")
    };
    for to in status.places.destinations.iter().filter(away) {
        if to.state == "unreachable" && !to.has_worked() {
            continue;
        }
        let cure = match to.state.as_str() {
            "paused" => format!("to go on: dropferry resume {}", to.name),
            _ => format!("at once: dropferry retry {}", to.name),
        };
        said.push((place_line(to, now), Some(cure)));
    }
    if let Some(stopped) = status.process.live.as_ref().and_then(|live| live.stopped.as_ref()) {
        let until = stopped.until.map_or(String::new(), |at| format!(", for {}", ahead(now, at)));
        let cure = "at once: dropferry bandwidth unlimited";
        said.push((format!("nothing is sent: {}{until}", stopped.reason), Some(cure.to_owned())));
    }
    for flow in status.process.live.iter().flat_map(|live| &live.flows) {
        let Some(since) = flow.stalled_since else { continue };
        let key = &flow.key;
        let run =
            if key.run.as_bytes().is_empty() { String::new() } else { format!("/{}", key.run) };
        let text = format!(
            "{}{run} to {}: stalled, no byte has gone for {}; it is tried again by itself",
            key.drop,
            key.destination,
            ago(since, now)
        );
        said.push((text, Some("why: dropferry doctor".to_owned())));
    }
    for (standing, scope, since) in &status.orders {
        let is_shown = !matches!(scope, Scope::Destination(_) | Scope::All)
            || status.places.destinations.is_empty();
        if *standing == Standing::Paused && is_shown {
            let text = format!("{scope} is paused since {} ago", ago(*since, now));
            said.push((text, Some("to go on: dropferry resume".to_owned())));
        }
    }
    said
}

fn totals(sheet: &mut Sheet, status: &Status) {
    let total = progress::sum(status, |tally| tally.size_bytes);
    let accepted = progress::sum(status, |tally| tally.accepted_bytes);
    let in_flight = progress::sum(status, |tally| tally.bytes_in_flight);
    let mut counts = Vec::new();
    if status.selection.counts_settling() {
        counts.push(("settling", status.counts.settling_count));
    }
    for state in STATES {
        let tally = status.counts.tallies.iter().find(|tally| tally.state == state);
        counts.push((state, tally.map_or(0, |tally| tally.upload_count)));
    }
    counts.push(("ignored", status.counts.ignored.count));
    let counts: Vec<_> = counts.into_iter().filter(|(_, count)| *count > 0).collect();
    if counts.is_empty() {
        return;
    }
    let mut text = format!(
        "{} of {} there ({})",
        render::bytes(accepted),
        render::bytes(total),
        render::percent(accepted, total)
    );
    if status.process.is_running && in_flight > 0 {
        text.push_str(&format!(", {} on their way", render::bytes(in_flight)));
    }
    let again = progress::sum(status, |tally| tally.bytes_sent_again);
    if again > 0 {
        text.push_str(&format!(", {} sent again", render::bytes(again)));
    }
    let words: Vec<_> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    sheet.say(Tone::Plain, 0, &words.join(", "));
    if total > 0 {
        sheet.say(Tone::Plain, 0, &text);
    }
}

/// Says how far one run is at each of its destinations.
pub(in crate::cli) fn run(sheet: &mut Sheet, status: &Status, run: &RunShown) {
    for tally in &run.tallies {
        say_run(sheet, &run_line(status, run, tally));
        tally.url.iter().for_each(|url| sheet.say(Tone::Faint, 4, url));
    }
    if run.tallies.is_empty() {
        say_run(sheet, &unsent_line(run));
    }
}

/// How far a run is at one destination.
struct RunLine {
    name: String,
    to: String,
    said: String,
    tone: Tone,
    progress: RunProgress,
    is_open: bool,
    completed_count: u64,
}

fn runs(sheet: &mut Sheet, status: &Status) {
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
            name: format!("{drop}: files at the top"),
            to: tally.destination.clone(),
            said: said_of_files(tally),
            tone: if tally.parked_count > 0 { Tone::Bad } else { Tone::Plain },
            progress,
            is_open: false,
            completed_count: tally.completed_count,
        });
    }
    if lines.is_empty() {
        return;
    }
    // What goes, then what is to go, then what has ended; the newest first among each.
    lines.sort_by_key(|line| {
        let moves = line.progress.rate.is_some_and(|rate| rate > 0);
        (!moves, line.progress.accepted_bytes >= line.progress.bytes && !line.is_open)
    });
    sheet.line(Tone::Plain, String::new());
    sheet.say(Tone::Title, 0, "runs");
    let more = lines.len().saturating_sub(RUNS_MAX);
    lines.iter().take(RUNS_MAX).for_each(|line| say_run(sheet, line));
    if more > 0 {
        sheet.say(Tone::Faint, 2, &format!("and {more} more"));
    }
}

fn say_run(sheet: &mut Sheet, line: &RunLine) {
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

/// How far it is in numbers, how fast it goes and for how long.
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

/// Says in words how far a run is.
pub(in crate::cli) fn said_of_run(run: &RunShown, tally: &RunTallyShown) -> String {
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
        name: format!("{}/{}", row.drop, row.name),
        to: tally.destination.clone(),
        said: said_of_run(run, tally),
        tone,
        progress: RunProgress::of(status, run, tally),
        is_open: row.state == RunState::Open,
        completed_count: tally.completed_count,
    }
}

/// A run of which nothing was admitted.
fn unsent_line(run: &RunShown) -> RunLine {
    let row = &run.row;
    let reason = row.reason.as_ref();
    let reason = reason.map_or(String::new(), |reason| format!(": {}", reason.text));
    RunLine {
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

fn files(sheet: &mut Sheet, status: &Status) {
    let is_shown =
        |upload: &&UploadShown| matches!(upload.word(), "sending" | "waiting" | "parked");
    let shown: Vec<_> = status.uploads.iter().filter(is_shown).collect();
    if shown.is_empty() {
        return;
    }
    sheet.line(Tone::Plain, String::new());
    sheet.say(Tone::Title, 0, "files");
    say_files(sheet, status, &shown, FILES_MAX);
}

/// Lists files, at most so many.
pub(in crate::cli) fn say_files(
    sheet: &mut Sheet,
    status: &Status,
    shown: &[&UploadShown],
    count_max: usize,
) {
    let mut last_reason = None;
    for upload in shown.iter().take(count_max) {
        say_file(sheet, upload);
        // One reason for many is said once.
        let reason = upload.reason().map(|reason| reason.text);
        if let Some(text) = reason.as_ref().filter(|_| reason != last_reason) {
            let next = upload.retry_at();
            let next = next
                .map_or(String::new(), |at| format!("; next try in {}", ahead(status.read_at, at)));
            sheet.say(Tone::Faint, 6, &format!("{text}{next}"));
        }
        last_reason = reason;
    }
    let more = shown.len().saturating_sub(count_max);
    if more > 0 {
        sheet.say(Tone::Faint, 2, &format!("and {more} more"));
    }
}

fn say_file(sheet: &mut Sheet, upload: &UploadShown) {
    let admission = &upload.admission;
    let size = admission.file.fingerprint.size.0;
    let gone = upload.accepted_bytes.saturating_add(upload.state.wire.in_flight.0).min(size);
    let head = format!(
        "  {:>4} {:7} {:>5} of {:>9}  ",
        admission.id.to_string(),
        upload.word(),
        render::percent(gone, size),
        render::bytes(size)
    );
    let tail = format!(" to {}", Shown(admission.destination.as_str()));
    let room = sheet.width().map_or(usize::MAX, |width| {
        width.saturating_sub(layout::width(&head) + layout::width(&tail)).max(12)
    });
    let path = layout::shortened(&admission.file.path.to_string(), room);
    let tone = if upload.word() == "parked" { Tone::Bad } else { Tone::Plain };
    sheet.line(tone, format!("{head}{path}{tail}"));
}

fn places(sheet: &mut Sheet, status: &Status) {
    let now = status.read_at;
    sheet.line(Tone::Plain, String::new());
    sheet.say(Tone::Title, 0, "places");
    for drop in &status.places.drops {
        let scanned = drop.last_full_scan_at.map_or("not scanned yet".to_owned(), |at| {
            format!("last full scan {} ago", ago(at, now))
        });
        let reason = drop.reason.as_ref().map_or(String::new(), |why| format!(": {why}"));
        let tone = if drop.watch == "deaf" { Tone::Bad } else { Tone::Plain };
        sheet.say(tone, 2, &format!("drop {}, {}, {scanned}{reason}", drop.name, drop.watch));
    }
    for to in &status.places.destinations {
        let tone = match to.state.as_str() {
            "ok" | "unknown" => Tone::Plain,
            "halted" => Tone::Bad,
            _ => Tone::Waits,
        };
        let mut text = format!("destination {}", place_line(to, now));
        if let Some(clock) = to.clock_text() {
            text.push_str(&format!("; {clock}"));
        }
        sheet.say(tone, 2, &text);
    }
    for former in &status.places.former_targets {
        sheet.say(Tone::Faint, 2, &former.sentence());
    }
    if let Some(daemon) = status.process.daemon.as_ref().filter(|_| status.process.is_running) {
        let text = format!(
            "dropferry {} on {}, pid {}, runs for {}",
            daemon.version,
            render::host(),
            daemon.pid,
            ago(daemon.started_at, now)
        );
        sheet.say(Tone::Faint, 2, &text);
    }
    if let Some(why) = &status.notices.given_up_why {
        let count = status.notices.given_up_count;
        sheet.say(Tone::Faint, 2, &format!("{count} notices were given up, the last by {why}"));
    }
}

/// Says how a destination does.
fn place_line(to: &DestinationShown, now: WallTime) -> String {
    let state = match to.state.as_str() {
        "unknown" => "not asked yet",
        other => other,
    };
    let is_timed = !matches!(to.state.as_str(), "ok" | "unknown") && !to.is_paced;
    let since = if is_timed { format!(" for {}", ago(to.since, now)) } else { String::new() };
    let reason = to.reason.as_ref().map_or(String::new(), |why| format!(": {why}"));
    let next = to.next_try_at.map_or(String::new(), |at| {
        let what = if to.is_paced { "next call" } else { "tried again" };
        format!("; {what} in {}", ahead(now, at))
    });
    format!("{} ({}) is {state}{since}{reason}{next}", to.name, to.platform)
}

fn ago(at: WallTime, now: WallTime) -> String {
    render::duration(at.until(now).as_secs())
}

fn ahead(now: WallTime, at: WallTime) -> String {
    render::duration(now.until(at).as_secs())
}

//! `status` for people: the verdict, matters that need a person, runs, files, places.

use super::attention::{self, Matter};
use super::progress;
use super::runs::runs;
use crate::cli::layout::{self, Sheet, Tone};
use crate::cli::render;
use crate::model::{FlowKey, RunState, Scope, Shown, Standing, WallTime};
use crate::store::snapshot::{DestinationShown, DropShown, RunShown, Status, UploadShown};

/// Limit of listed matters; the rest is counted.
const MATTERS_MAX: usize = 5;
/// Limit of listed files.
const FILES_MAX: usize = 20;
/// The states in the order of a life.
const STATES: [&str; 6] = ["queued", "sending", "waiting", "parked", "completed", "abandoned"];

/// Renders everything for people.
pub(in crate::cli) fn sheet(status: &Status, width: Option<usize>) -> Sheet {
    let mut sheet = Sheet::new(width);
    verdict(&mut sheet, status);
    totals(&mut sheet, status);
    runs(&mut sheet, status);
    files(&mut sheet, status);
    places(&mut sheet, status);
    sheet
}

/// Shows in the first lines whether all is well, and what to do when it is not.
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
            let how = match is_stopped_by_order(status) {
                true => "what was stopped waits until it is let go on",
                false => "it waits, and goes on by itself",
            };
            sheet.say(Tone::Waits, 0, &format!("nothing needs someone; {how}{}", doing(status)));
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

/// Returns the rate and the time left.
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

/// Describes what open runs wait for, while nothing is to be sent.
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

/// Returns whether a pause, or a zero rate without an end in the timetable, stops anything.
fn is_stopped_by_order(status: &Status) -> bool {
    let stopped = status.process.live.as_ref().and_then(|live| live.stopped.as_ref());
    status.orders.iter().any(|(standing, ..)| *standing == Standing::Paused)
        || stopped.is_some_and(|stopped| stopped.until.is_none())
}

/// Returns waits that end by themselves: destinations, the timetable, stalled lines. Each with a command that ends it.
pub(in crate::cli) fn waits(status: &Status) -> Vec<(String, Option<String>)> {
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
        let (key, since) = (&flow.key, flow.stalled_since);
        let Some(since) = since.filter(|_| is_listed(status, key)) else { continue };
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
            said.push((
                text,
                Some("to go on: dropferry resume --all, or what was paused".to_owned()),
            ));
        }
    }
    said
}

/// Returns whether a flow belongs to the selection.
fn is_listed(status: &Status, key: &FlowKey) -> bool {
    match key.run.as_bytes().is_empty() {
        true => status.single_files.iter().any(|(drop, _)| drop == key.drop.as_str()),
        false => {
            let is_it = |run: &RunShown| (&run.row.drop, &run.row.name) == (&key.drop, &key.run);
            status.runs.iter().any(is_it)
        }
    }
}

pub(in crate::cli) fn totals(sheet: &mut Sheet, status: &Status) {
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

/// Lists files, up to a limit.
pub(in crate::cli) fn say_files(
    sheet: &mut Sheet,
    status: &Status,
    shown: &[&UploadShown],
    count_max: usize,
) {
    let mut last_reason = None;
    for upload in shown.iter().take(count_max) {
        say_file(sheet, upload);
        // A reason that many files share is printed once.
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
    status.places.drops.iter().for_each(|drop| say_drop(sheet, drop, now));
    status.places.destinations.iter().for_each(|to| say_destination(sheet, to, now));
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
    notices_line(status).iter().for_each(|said| sheet.say(Tone::Faint, 2, said));
}

/// Describes the notices that were given up.
pub(in crate::cli) fn notices_line(status: &Status) -> Option<String> {
    let why = status.notices.given_up_why.as_ref()?;
    let count = status.notices.given_up_count;
    Some(format!("{count} notices were given up, the last by {why}"))
}

/// Describes how a drop directory is watched.
pub(in crate::cli) fn say_drop(sheet: &mut Sheet, drop: &DropShown, now: WallTime) {
    let scanned = drop
        .last_full_scan_at
        .map_or("not scanned yet".to_owned(), |at| format!("last full scan {} ago", ago(at, now)));
    let reason = drop.reason.as_ref().map_or(String::new(), |why| format!(": {why}"));
    let tone = if drop.watch == "deaf" { Tone::Bad } else { Tone::Plain };
    sheet.say(tone, 2, &format!("drop {}, {}, {scanned}{reason}", drop.name, drop.watch));
}

pub(in crate::cli) fn say_destination(sheet: &mut Sheet, to: &DestinationShown, now: WallTime) {
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

/// Describes a destination's state.
fn place_line(to: &DestinationShown, now: WallTime) -> String {
    let state = match to.state.as_str() {
        "unknown" => "not asked yet",
        other => other,
    };
    let is_timed = !matches!(to.state.as_str(), "ok" | "unknown") && !to.is_paced;
    let since = if is_timed { format!(" for {}", ago(to.since, now)) } else { String::new() };
    let reason = to.reason.as_ref().map_or(String::new(), |why| format!(": {why}"));
    let next = to.next_try_at.map_or(String::new(), |at| match (to.is_paced, at <= now) {
        (true, _) => format!("; next call in {}", ahead(now, at)),
        (false, true) => "; being tried again".to_owned(),
        (false, false) => format!("; tried again in {}", ahead(now, at)),
    });
    format!("{} ({}) is {state}{since}{reason}{next}", to.name, to.platform)
}

fn ago(at: WallTime, now: WallTime) -> String {
    render::duration(at.until(now).as_secs())
}

fn ahead(now: WallTime, at: WallTime) -> String {
    render::duration(now.until(at).as_secs())
}

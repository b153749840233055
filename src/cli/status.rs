//! `status`: is my run there yet, and does anything need me?
//!
//! Reads the database, whether the daemon runs or not.

pub(super) mod attention;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use self::attention::Matter;
use super::what::What;
use super::{Common, Exit, ask, render};
use crate::clock::Clock;
use crate::model::{
    ByteCount, DamagedLedger, FormerTarget, RunState, Scope, Shown, Standing, WallTime, json_shown,
};
use crate::store::Kind;
use crate::store::snapshot::{
    Database, DisposalShown, Run, RunShown, Snapshot, Status, UploadShown,
};

/// Uploads shown to people before "and so many more".
const LINES_MAX: usize = 20;

#[derive(Debug, Args)]
pub(super) struct StatusArguments {
    /// An upload's id, a destination, a drop directory, DROP/RUN, the end of a path, or a glob; all when
    /// left out
    #[arg(value_name = "WHAT")]
    which: Vec<OsString>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show it again every second
    #[arg(long)]
    watch: bool,
    /// Exit with 6 when something stands in "attention": it needs a person
    #[arg(long)]
    check: bool,
    /// List all ended uploads, not the last hundred
    #[arg(long)]
    all: bool,
}

pub(super) fn execute(common: &Common, arguments: &StatusArguments) -> anyhow::Result<Exit> {
    let directory = common.state_directory()?;
    let clock = Clock::real();
    loop {
        let now = clock.now().wall;
        let (status, runs) = read(&directory, arguments, now)?;
        if arguments.watch && std::io::stdout().is_terminal() {
            render::clear()?;
        }
        if arguments.json {
            render::json(&to_json(&status))?;
        } else {
            render::data(&to_text(&status, &runs, now))?;
        }
        if !arguments.watch {
            return Ok(if arguments.check { check(&status, common) } else { Exit::Fine });
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn read(
    directory: &std::path::Path,
    arguments: &StatusArguments,
    now: WallTime,
) -> anyhow::Result<(Status, Vec<Run>)> {
    match Snapshot::open(directory) {
        Ok(mut snapshot) => {
            if !arguments.which.is_empty() {
                let what = What::read(&snapshot, &arguments.which)?;
                snapshot.select(&what.scopes())?;
            }
            let runs = if arguments.json { Vec::new() } else { snapshot.runs()? };
            Ok((snapshot.status(arguments.all, now)?, runs))
        }
        Err(error) if error.kind == Kind::Missing && arguments.which.is_empty() => {
            render::talk("no daemon has run on this state yet");
            Ok((Status::default(), Vec::new()))
        }
        Err(error) => Err(error.into()),
    }
}

fn check(status: &Status, common: &Common) -> Exit {
    if status.is_running && ask::is_socket_gone(common) {
        render::talk("a daemon runs, but its control socket is not there: it takes no orders");
        return Exit::Attention;
    }
    judge(status)
}

fn judge(status: &Status) -> Exit {
    if attention::list(status).is_empty() { Exit::Fine } else { Exit::Attention }
}

/// Renders the contract's JSON, as text.
pub(super) fn rendered(status: &Status) -> String {
    json_shown(&to_json(status).to_string()).into_owned()
}

/// Renders the contract's JSON.
fn to_json(status: &Status) -> Value {
    let daemon = status.daemon.as_ref();
    let settling = status.selection.counts_settling().then_some(status.settling_count);
    let mut counts =
        BTreeMap::from([("settling", settling), ("ignored", Some(status.ignored_count))]);
    for word in ["queued", "sending", "waiting", "completed", "parked", "abandoned"] {
        let tally = status.tallies.iter().find(|tally| tally.state == word);
        counts.insert(word, Some(tally.map_or(0, |tally| tally.upload_count)));
    }
    let sum = |of: fn(&crate::store::snapshot::Tally) -> u64| -> u64 {
        status
            .tallies
            .iter()
            .filter(|tally| tally.state != "abandoned")
            .map(of)
            .fold(0, u64::saturating_add)
    };
    let (accepted, in_flight) = (sum(|t| t.accepted_bytes), sum(|t| t.bytes_in_flight));
    // What was in flight when the daemon ended was cut, and will be sent again.
    let (in_flight, cut) = if status.is_running { (in_flight, 0) } else { (0, in_flight) };
    let orders =
        status.orders.iter().map(|(standing, scope, at)| order_json(*standing, scope, *at));
    let rate = status.selection.measures_rate().then_some(status.rate_bytes_per_second);
    let drops = status.drops.iter().map(|drop| {
        json!({
            "name": drop.name, "directory": drop.directory, "watch": drop.watch,
            "last_full_scan_at": render::time(drop.last_full_scan_at), "reason": drop.reason,
        })
    });
    let destinations = status.destinations.iter().map(|destination| {
        json!({
            "name": destination.name, "platform": destination.platform,
            "state": destination.state, "reason": destination.reason,
            "since": render::time(Some(destination.since)),
            "next_try_at": render::time(destination.next_try_at),
            "clock_behind_seconds": destination.clock_behind_ns / 1_000_000_000,
            "learned": destination.learned.iter().map(|what| what.as_str()).collect::<Vec<_>>(),
            "former_targets": former_targets(status, &destination.name),
        })
    });
    json!({
        "schema": 1,
        "daemon": {
            "running": status.is_running,
            "version": daemon.map(|daemon| daemon.version.clone()),
            "pid": daemon.filter(|_| status.is_running).map(|daemon| daemon.pid),
            "started_at": render::time(daemon.map(|daemon| daemon.started_at)),
        },
        "drops": drops.collect::<Vec<_>>(),
        "destinations": destinations.collect::<Vec<_>>(),
        "counts": counts,
        "bytes": {
            "total": sum(|t| t.size_bytes), "accepted": accepted,
            "rate_per_second": rate,
            "in_flight": in_flight, "sent_again": sum(|t| t.bytes_sent_again).saturating_add(cut),
        },
        "database": database_json(&status.database),
        "notices": {
            "waiting": status.notices.waiting_count, "failure": status.notices.failure,
            "given_up": status.notices.given_up_count,
            "given_up_why": status.notices.given_up_why,
        },
        "attention": attention::list(status).iter().map(Matter::json).collect::<Vec<_>>(),
        "orders": orders.collect::<Vec<_>>(),
        "runs": status.runs.iter().map(run_json).collect::<Vec<_>>(),
        "uploads": status.uploads.iter().map(upload_json).collect::<Vec<_>>(),
        "uploads_left_out": left_out(status),
        "ignored": status.ignored.iter().map(|ignored| json!({
            "drop": ignored.drop, "path": ignored.path.to_string(), "reason": ignored.reason.sentence(),
        })).collect::<Vec<_>>(),
    })
}

/// Renders how the database itself is.
fn database_json(database: &Database) -> Value {
    let Database { care, size_bytes, wal_bytes, .. } = database;
    let verdict = care.verdict.as_ref();
    json!({
        "checked_at": render::time(care.checked_at),
        "is_sound": verdict.map(|verdict| verdict.is_sound),
        "detail": verdict.and_then(|verdict| verdict.detail.clone()),
        "backup_at": render::time(care.backup_at), "backup_failure": care.backup_failure,
        "size_bytes": size_bytes, "wal_bytes": wal_bytes,
    })
}

fn order_json(standing: Standing, scope: &Scope, since: WallTime) -> Value {
    json!({
        "standing": standing.as_str(), "of": scope.to_string(), "since": render::time(Some(since)),
    })
}

/// Renders how the disposal of a run stands.
pub(super) fn disposal_json(disposal: &DisposalShown) -> Value {
    json!({
        "done": disposal.is_done, "due_at": render::time(Some(disposal.due_at)),
        "failure": disposal.failure,
    })
}

/// Renders one drop as a run.
fn run_json(run: &RunShown) -> Value {
    let row = &run.row;
    let tallies = run.tallies.iter().map(|tally| {
        json!({
            "name": tally.destination, "uploads": tally.upload_count,
            "completed": tally.completed_count, "parked": tally.parked_count,
        })
    });
    let disposal = run.disposal.as_ref().map(disposal_json);
    json!({
        "drop": row.drop.as_str(), "name": row.name.to_string(),
        "name_now": row.name_now.as_ref().map(ToString::to_string), "state": row.state.as_str(),
        "reason": row.reason, "file_count": row.file_count, "size_bytes": row.size.0,
        "late_file_count": row.late_count(), "completion_count": row.generation,
        "given_up_count": row.given_up_count,
        "closed_by_hand": row.closed_by_hand,
        "outcome": row.outcome.as_ref().map(|outcome| outcome.word.clone()),
        "stale": row.is_stale,
        "outcome_is_success": row.outcome.as_ref().map(|outcome| outcome.is_success),
        "opened_at": render::time(Some(row.opened_at)), "closed_at": render::time(row.closed_at),
        "completed_at": render::time(row.completed_at), "words": run.words,
        "destinations": tallies.collect::<Vec<_>>(), "disposal": disposal,
    })
}

/// How many unfinished uploads are counted and not listed.
fn left_out(status: &Status) -> u64 {
    let is_open = |state: &str| !matches!(state, "completed" | "abandoned");
    let open = status.tallies.iter().filter(|tally| is_open(&tally.state));
    let listed = status.uploads.iter().filter(|upload| is_open(upload.word())).count() as u64;
    open.map(|tally| tally.upload_count).sum::<u64>().saturating_sub(listed)
}

/// Renders one upload as the contract's JSON has it.
pub(super) fn upload_json(upload: &UploadShown) -> Value {
    json!({
        "id": upload.admission.id.0,
        "drop": upload.admission.drop.as_str(),
        "path": upload.admission.path.to_string(),
        "destination": upload.admission.destination.as_str(),
        "state": upload.word(),
        "reason": upload.reason(),
        "size_bytes": upload.admission.fingerprint.size.0,
        "accepted_bytes": upload.accepted_bytes,
        "in_flight_bytes": upload.state.bytes_in_flight.0,
        "sent_again_bytes": upload.state.bytes_sent_again(ByteCount(upload.accepted_bytes)).0,
        "part_size_bytes": upload.part_size_bytes,
        "part_count": upload.part_count,
        "accepted_part_count": upload.state.accepted_count,
        "attempt_count": upload.state.failed.count,
        "retry_at": render::time(upload.retry_at()),
        "remote_id": upload.remote_id,
        "completed_at": render::time(upload.completed_at),
    })
}

/// Renders the table for people.
fn to_text(status: &Status, runs: &[Run], now: WallTime) -> String {
    let mut text = headline(status, now);
    let mut rows = Vec::new();
    for drop in &status.drops {
        let scanned = drop.last_full_scan_at.map_or("not scanned yet".to_owned(), |at| {
            format!("last full scan {} ago", render::duration(at.until(now).as_secs()))
        });
        let reason = drop.reason.clone().unwrap_or_default();
        rows.push(vec![format!("drop {}", drop.name), drop.watch.clone(), scanned, reason]);
    }
    for destination in &status.destinations {
        let mut reason = destination.reason.clone().unwrap_or_default();
        if let Some(wait) = destination.next_try_at.map(|at| now.until(at).as_secs()) {
            reason.push_str(&format!("; tried again in {}", render::duration(wait)));
        }
        if let Some(clock) = destination.clock_text() {
            let before = if reason.is_empty() { "" } else { "; " };
            reason.push_str(&format!("{before}{clock}"));
        }
        let name = format!("destination {}", destination.name);
        rows.push(vec![name, destination.state.clone(), destination.platform.clone(), reason]);
    }
    text.push_str(&render::table(&rows));
    for former in &status.former_targets {
        text.push_str(&former.sentence());
        text.push('\n');
    }
    text.push_str(&ordered(status, now));
    text.push_str(&progress(status));
    let lines = runs.iter().map(run_line).chain(status.runs.iter().filter_map(skipped_line));
    text.push_str(&render::table(&lines.collect::<Vec<_>>()));
    text.push_str(&parked(status));
    attention::waits(status).iter().for_each(|matter| text.push_str(&matter.lines()));
    text.push_str(&untold(status));
    text.push_str(&ailing(&status.database));
    text
}

/// What was completed at targets that a destination no longer has.
fn former_targets(status: &Status, destination: &str) -> Vec<Value> {
    let of_it = status.former_targets.iter().filter(|former| former.destination == destination);
    let json = |former: &FormerTarget| {
        let target = former.address.as_ref().map(ToString::to_string);
        json!({ "target": target, "completed_count": former.completed_count })
    };
    of_it.map(json).collect()
}

fn ordered(status: &Status, now: WallTime) -> String {
    let pauses = status.orders.iter().filter(|(standing, _, _)| *standing == Standing::Paused);
    let line = |(_, scope, since): &(Standing, Scope, WallTime)| {
        format!("{scope} is paused since {} ago\n", render::duration(since.until(now).as_secs()))
    };
    pauses.map(line).collect()
}

fn headline(status: &Status, now: WallTime) -> String {
    match &status.daemon {
        Some(daemon) if status.is_running => format!(
            "dropferry {} is running (pid {}, for {})\n",
            daemon.version,
            daemon.pid,
            render::duration(daemon.started_at.until(now).as_secs())
        ),
        Some(_) | None => "dropferry is not running; what follows is where it stopped\n".into(),
    }
}

fn progress(status: &Status) -> String {
    let live: Vec<_> = status.tallies.iter().filter(|t| t.state != "abandoned").collect();
    let total = live.iter().map(|tally| tally.size_bytes).fold(0, u64::saturating_add);
    let accepted = live.iter().map(|tally| tally.accepted_bytes).fold(0, u64::saturating_add);
    let mut words = Vec::new();
    if status.selection.counts_settling() {
        words.push(format!("{} settling", status.settling_count));
    }
    words.extend(
        status.tallies.iter().map(|tally| format!("{} {}", tally.upload_count, tally.state)),
    );
    words.push(format!("{} ignored", status.ignored_count));
    let mut text = format!("\n{}\n", words.join(", "));
    text.push_str(&format!(
        "{} of {} there ({})",
        render::bytes(accepted),
        render::bytes(total),
        render::percent(accepted, total)
    ));
    let rate = if status.selection.measures_rate() { status.rate_bytes_per_second } else { 0 };
    if let Some(seconds) = total.saturating_sub(accepted).checked_div(rate) {
        let eta = render::duration(seconds);
        text.push_str(&format!(", {}/s, about {eta} left", render::bytes(rate)));
    }
    text.push('\n');
    let moving = |upload: &&UploadShown| matches!(upload.word(), "sending" | "waiting");
    let mut rows: Vec<_> = status.uploads.iter().filter(moving).map(line).collect();
    let more = rows.len().saturating_sub(LINES_MAX);
    rows.truncate(LINES_MAX);
    text.push_str(&render::table(&rows));
    if more > 0 {
        text.push_str(&format!("and {more} more\n"));
    }
    text
}

/// Is my run there yet?
fn run_line(run: &Run) -> Vec<String> {
    let name = match run.name.as_bytes() {
        b"" => format!("{}: files at the top", run.drop),
        _ => format!("{}: {}", run.drop, run.name),
    };
    let there =
        format!("{} of {} files at {}", run.completed_count, run.file_count, run.destination);
    let all_there = run.completed_count == run.file_count;
    let note = match (run.parked_count, run.state) {
        (0, Some(RunState::Completed)) if run.given_up_count == 0 => "all there".to_owned(),
        (0, Some(RunState::Completed)) => "there, as far as it was not given up".to_owned(),
        (0, Some(RunState::Gone)) => "taken away before it was complete".to_owned(),
        (_, Some(RunState::Skipped)) | (0, Some(RunState::Open | RunState::Closed))
            if run.reason.is_some() =>
        {
            run.reason.clone().unwrap_or_default()
        }
        (0, Some(RunState::Open) | None) if all_there => {
            "there, as far as it has settled".to_owned()
        }
        (0, Some(RunState::Closed)) => "closed, being sent".to_owned(),
        (0, Some(RunState::Open | RunState::Skipped) | None) => String::new(),
        (count, _) => format!("{count} parked"),
    };
    let by_hand = run.closed_by.as_ref();
    let by_hand = by_hand.map(|by| format!("{note}; closed by hand ({by})"));
    vec![name, there, by_hand.unwrap_or(note)]
}

/// Why is my run not there, and will not be?
fn skipped_line(run: &RunShown) -> Option<Vec<String>> {
    let row = &run.row;
    let is_meant = row.state == RunState::Skipped && run.tallies.is_empty();
    let reason = row.reason.clone().unwrap_or_default();
    is_meant.then(|| vec![format!("{}: {}", row.drop, row.name), "skipped".into(), reason])
}

fn line(upload: &UploadShown) -> Vec<String> {
    vec![
        upload.admission.id.to_string(),
        upload.word().to_owned(),
        render::percent(upload.accepted_bytes, upload.admission.fingerprint.size.0),
        upload.admission.path.to_string(),
        upload.reason().unwrap_or_default(),
    ]
}

fn parked(status: &Status) -> String {
    let parked = status.uploads.iter().filter(|upload| upload.word() == "parked");
    let tally = status.tallies.iter().find(|tally| tally.state == "parked");
    let count = tally.map_or(0, |tally| tally.upload_count);
    if count == 0 {
        return String::new();
    }
    let mut rows: Vec<_> = parked.take(LINES_MAX).map(line).collect();
    rows.iter_mut().for_each(|row| {
        row.remove(2);
    });
    let mut text = format!("\nparked, and waiting for someone to act:\n{}", render::table(&rows));
    let more = count.saturating_sub(rows.len() as u64);
    if more > 0 {
        text.push_str(&format!("and {more} more\n"));
    }
    text
}

/// Says what people are not told, and why.
fn untold(status: &Status) -> String {
    let (notices, mut text) = (&status.notices, String::new());
    let counted = |count, one: &str, many: &str| match count {
        1 => format!("1 notice {one}"),
        count => format!("{count} notices {many}"),
    };
    if let Some(failure) = &notices.failure {
        let waits = counted(notices.waiting_count, "waits", "wait");
        text += &format!("\n{waits} to be told: {}\n", Shown(failure));
    }
    if let Some(why) = &notices.given_up_why {
        let was = counted(notices.given_up_count, "was", "were");
        text += &format!("\n{was} given up, the last by {}\n", Shown(why));
    }
    text
}

/// Says what is wrong with the database itself.
fn ailing(database: &Database) -> String {
    let care = &database.care;
    let mut text = String::new();
    if let Some(verdict) = care.verdict.as_ref().filter(|verdict| !verdict.is_sound) {
        let detail = verdict.detail.as_deref().unwrap_or("nothing more is known");
        text.push_str(&format!("\nthe database is damaged: {}\n", Shown(detail)));
        text.push_str("hint: stop the daemon and restore a backup, see docs/backup.md\n");
    }
    for DamagedLedger { ledger, why } in &database.damaged_ledgers {
        text.push_str(&format!(
            "\nthe ledger {} is damaged: {}\n",
            Shown(ledger.as_str()),
            Shown(why)
        ));
    }
    if !database.damaged_ledgers.is_empty() {
        text.push_str("hint: restore it from a backup of the state directory\n");
    }
    if let Some(failure) = &care.backup_failure {
        text.push_str(&format!("\nthe database was not backed up: {}\n", Shown(failure)));
    }
    text
}

#[cfg(test)]
mod tests;

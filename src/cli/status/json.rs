//! The JSON of `status`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::attention::{self, Matter};
use super::progress::{self, RunProgress};
use crate::cli::render;
use crate::model::{
    ByteCount, Code, DamagedLedger, DestinationName, FormerTarget, Reason, RunReason, Scope,
    SourcePath, Standing, WaitCode, WallTime, json_shown,
};
use crate::store::snapshot::{
    Database, DestinationShown, DisposalShown, RunShown, RunTallyShown, Status, Tally, UploadShown,
};

/// Renders the JSON, as text.
pub(in crate::cli) fn rendered(status: &Status) -> String {
    json_shown(&to_json(status).to_string()).into_owned()
}

/// Renders the JSON.
pub(super) fn to_json(status: &Status) -> Value {
    let daemon = status.process.daemon.as_ref();
    let orders =
        status.orders.iter().map(|(standing, scope, at)| order_json(*standing, scope, *at));
    let drops = status.places.drops.iter().map(|drop| {
        let reason = Code::of_watch(&drop.watch).zip(drop.reason.as_ref());
        let reason = reason.map(|(code, text)| Reason::new(code, text));
        json!({
            "name": drop.name, "directory": drop.directory, "watch": drop.watch,
            "last_full_scan_at": render::time(drop.last_full_scan_at),
            "reason": reason_json(reason.as_ref()),
        })
    });
    let destinations = status.places.destinations.iter().map(|to| destination_json(status, to));
    json!({
        "schema": 2,
        "host": render::host(),
        "state_id": (!status.database.id.is_empty()).then_some(&status.database.id),
        "at": render::time(Some(status.read_at)),
        "daemon": {
            "running": status.process.is_running,
            "version": daemon.map(|daemon| daemon.version.clone()),
            "pid": daemon.filter(|_| status.process.is_running).map(|daemon| daemon.pid),
            "started_at": render::time(daemon.map(|daemon| daemon.started_at)),
        },
        "drops": drops.collect::<Vec<_>>(),
        "destinations": destinations.collect::<Vec<_>>(),
        "counts": counts_json(status),
        "bytes": bytes_json(status),
        "database": database_json(&status.database),
        "notices": {
            "waiting": status.notices.waiting_count, "failure": status.notices.failure,
            "given_up": status.notices.given_up_count,
            "given_up_why": status.notices.given_up_why,
        },
        "attention": attention::list(status).iter().map(Matter::json).collect::<Vec<_>>(),
        "orders": orders.collect::<Vec<_>>(),
        "runs": status.runs.iter().map(|run| run_json(status, run)).collect::<Vec<_>>(),
        "uploads": status.uploads.iter().map(upload_json).collect::<Vec<_>>(),
        "uploads_left_out": left_out(status),
        "ignored": status.counts.ignored.listed.iter().map(|ignored| json!({
            "drop": ignored.drop, "path": ignored.path.to_string(),
            "reason": reason_json(Some(&Reason::new(
                Code::Ignored(ignored.reason), ignored.reason.sentence(),
            ))),
        })).collect::<Vec<_>>(),
    })
}

fn counts_json(status: &Status) -> Value {
    let settling = status.selection.counts_settling().then_some(status.counts.settling_count);
    let mut counts =
        BTreeMap::from([("settling", settling), ("ignored", Some(status.counts.ignored.count))]);
    for word in ["queued", "sending", "waiting", "completed", "parked", "abandoned"] {
        let tally = status.counts.tallies.iter().find(|tally| tally.state == word);
        counts.insert(word, Some(tally.map_or(0, |tally| tally.upload_count)));
    }
    json!(counts)
}

fn bytes_json(status: &Status) -> Value {
    let sum = |of: fn(&Tally) -> u64| progress::sum(status, of);
    // Bytes that were in flight when the daemon ended were lost, and will be sent again.
    let in_flight = sum(|t| t.bytes_in_flight);
    let (in_flight, cut) = if status.process.is_running { (in_flight, 0) } else { (0, in_flight) };
    json!({
        "total": sum(|t| t.size_bytes), "accepted": sum(|t| t.accepted_bytes),
        "in_flight": in_flight, "rate_per_second": progress::rate(status),
        "seconds_left": progress::seconds_left(status),
        "sent_again": sum(|t| t.bytes_sent_again).saturating_add(cut),
    })
}

/// Renders the reason of a state.
pub(in crate::cli) fn reason_json(reason: Option<&Reason>) -> Value {
    reason.map_or(Value::Null, |reason| {
        json!({ "code": reason.code.as_str(), "text": reason.text, "cure": reason.cure() })
    })
}

fn destination_json(status: &Status, to: &DestinationShown) -> Value {
    let paused = (to.state == "paused").then_some(Code::Wait(WaitCode::Paused));
    let reason = Code::of_destination(&to.state).or(paused).map(|code| {
        let text = to.reason.clone().unwrap_or_else(|| code.text().to_owned());
        let destination = Some(DestinationName::new(&*to.name));
        Reason { destination, ..Reason::new(code, text) }
    });
    let rate = progress::rate_to(status, &to.name);
    let parts = status.process.live.as_ref().map(|live| {
        live.flows_to(&to.name).map(|flow| u64::from(flow.parts_in_flight)).sum::<u64>()
    });
    json!({
        "name": to.name, "platform": to.platform, "state": to.state,
        "reason": reason_json(reason.as_ref()),
        "since": render::time(Some(to.since)), "next_try_at": render::time(to.next_try_at),
        "rate_per_second": rate,
        "parts_in_flight": parts.or((!status.process.is_running).then_some(0)),
        "clock_behind_seconds": to.clock_behind_ns / 1_000_000_000,
        "learned": to.learned.iter().map(|what| what.as_str()).collect::<Vec<_>>(),
        "former_targets": former_targets(status, &to.name),
    })
}

/// Renders the state of the database.
fn database_json(database: &Database) -> Value {
    let Database { id: _, care, size_bytes, wal_bytes, damaged_ledgers } = database;
    let verdict = care.verdict.as_ref();
    let damaged = damaged_ledgers
        .iter()
        .map(|DamagedLedger { ledger, why }| json!({ "ledger": ledger.as_str(), "why": why }));
    json!({
        "checked_at": render::time(care.checked_at),
        "is_sound": verdict.map(|verdict| verdict.is_sound),
        "detail": verdict.and_then(|verdict| verdict.detail.clone()),
        "backup_at": render::time(care.backup_at), "backup_failure": care.backup_failure,
        "size_bytes": size_bytes, "wal_bytes": wal_bytes,
        "damaged_ledgers": damaged.collect::<Vec<_>>(),
    })
}

fn order_json(standing: Standing, scope: &Scope, since: WallTime) -> Value {
    json!({
        "standing": standing.as_str(), "of": scope.to_string(), "since": render::time(Some(since)),
    })
}

/// Renders the state of a run's disposal.
pub(in crate::cli) fn disposal_json(disposal: &DisposalShown) -> Value {
    json!({
        "done": disposal.is_done, "due_at": render::time(Some(disposal.due_at)),
        "failure": disposal.failure,
    })
}

/// Renders one run.
pub(in crate::cli) fn run_json(status: &Status, run: &RunShown) -> Value {
    let row = &run.row;
    let reason = row.reason.as_ref();
    let reason =
        reason.map(|RunReason { code, text }| Reason::new(Code::Run(*code), text.as_str()));
    let mut orders = status.orders.iter();
    let held_by =
        orders.find(|(standing, scope, _)| *standing == Standing::Paused && scope.covers_run(row));
    let tallies = run.tallies.iter().map(|tally| tally_json(status, run, tally));
    let disposal = run.disposal.as_ref().map(disposal_json);
    let last_activity = progress::last_activity(status, run);
    json!({
        "drop": row.drop.as_str(), "name": row.name.to_string(),
        "name_now": row.name_now.as_ref().map(ToString::to_string), "state": row.state.as_str(),
        "reason": reason_json(reason.as_ref()), "file_count": row.files.count,
        "file_bytes": row.files.size.0,
        "late_file_count": row.late_count(), "wave_count": row.completion.generation,
        "given_up_count": row.files.given_up_count,
        "closed_by_hand": row.closed_by_hand,
        "outcome": row.outcome.as_ref().map(|outcome| outcome.word.clone()),
        "stale": row.is_stale,
        "outcome_is_success": row.outcome.as_ref().map(|outcome| outcome.is_success),
        "opened_at": render::time(Some(row.opened_at)), "closed_at": render::time(row.closed_at),
        "completed_at": render::time(row.completion.at),
        "last_activity_at": render::time(Some(last_activity)),
        "held_by": held_by.map(|(_, scope, _)| format!("{scope} is paused")),
        "words": run.words,
        "destinations": tallies.collect::<Vec<_>>(), "disposal": disposal,
    })
}

fn tally_json(status: &Status, run: &RunShown, tally: &RunTallyShown) -> Value {
    let progress = RunProgress::of(status, run, tally);
    json!({
        "name": tally.destination, "file_count": progress.file_count,
        "completed_count": tally.completed_count, "parked_count": tally.parked_count,
        "bytes": progress.bytes, "accepted_bytes": progress.accepted_bytes,
        "in_flight_bytes": progress.in_flight_bytes,
        "rate_per_second": progress.rate, "seconds_left": progress.seconds_left,
        "stalled_since": render::time(progress.stalled_since), "url": tally.url,
    })
}

/// Returns the number of unfinished uploads that are counted but not listed.
fn left_out(status: &Status) -> u64 {
    let is_open = |state: &str| !matches!(state, "completed" | "abandoned");
    let open = status.counts.tallies.iter().filter(|tally| is_open(&tally.state));
    let listed = status.uploads.iter().filter(|upload| is_open(upload.word())).count() as u64;
    open.map(|tally| tally.upload_count).sum::<u64>().saturating_sub(listed)
}

/// Returns the bytes of a path, where its displayed text is not exactly the name.
pub(in crate::cli) fn path_bytes(path: &SourcePath) -> Option<String> {
    let is_plain = path.to_string().as_bytes() == path.as_bytes();
    (!is_plain).then(|| STANDARD.encode(path.as_bytes()))
}

/// Renders one upload.
pub(in crate::cli) fn upload_json(upload: &UploadShown) -> Value {
    let admission = &upload.admission;
    json!({
        "id": admission.id.0,
        "drop": admission.file.drop.as_str(),
        "run": admission.file.run.to_string(),
        "path": admission.file.path.to_string(),
        "path_bytes": path_bytes(&admission.file.path),
        "destination": admission.destination.as_str(),
        "state": upload.word(),
        "reason": reason_json(upload.reason().as_ref()),
        "size_bytes": admission.file.fingerprint.size.0,
        "accepted_bytes": upload.accepted_bytes,
        "in_flight_bytes": upload.state.wire.in_flight.0,
        "sent_again_bytes": upload.state.bytes_sent_again(ByteCount(upload.accepted_bytes)).0,
        "part_size_bytes": upload.part_size_bytes,
        "part_count": upload.part_count,
        "accepted_part_count": upload.there_count(),
        "attempt_count": upload.state.failed.count,
        "retry_at": render::time(upload.retry_at()),
        "remote_id": upload.remote_id,
        "completed_at": render::time(upload.completed_at),
    })
}

/// Returns what was completed at former targets of a destination.
fn former_targets(status: &Status, destination: &str) -> Vec<Value> {
    let of_it =
        status.places.former_targets.iter().filter(|former| former.destination == destination);
    let json = |former: &FormerTarget| {
        let target = former.address.as_ref().map(ToString::to_string);
        json!({ "target": target, "completed_count": former.completed_count })
    };
    of_it.map(json).collect()
}

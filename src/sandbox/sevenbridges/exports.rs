//! Volume exports: jobs from files to objects of an attached volume, one by one and in bulk.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::calls::{Call, Outcome, Success};
use super::world::{Refusal, World, time};
use crate::sandbox::stand::Stand;
use crate::sandbox::unix_time;

/// The attached volume.
pub(super) const VOLUME: &str = "lab/archive";
/// Items of one bulk call.
const BULK_MAX: usize = 100;

/// Jobs and objects of the volume.
#[derive(Debug, Default)]
pub(super) struct Exports {
    jobs: Vec<Job>,
    /// Objects by key, with the source file of each.
    objects: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Job {
    id: String,
    file: String,
    location: String,
    overwrite: bool,
    started_at: u64,
    /// Polls until it ends.
    questions_left: u64,
    end: Option<Result<(), Refusal>>,
}

pub(super) fn dispatch(state: &mut Stand<World>, call: &Call, operation: &str) -> Outcome {
    if !call.is_advanced() {
        state.ledger.breach(format!("{operation}: sent without X-SBG-Advance-Access"));
    }
    match operation {
        "export" => {
            let job = start(state, &call.body, call)?;
            Success::new(201, job)
        }
        "exports" => {
            if call.query("volume").is_some_and(|volume| volume != VOLUME) {
                return Err(Refusal::new(404, 9010, "Requested volume does not exist."));
            }
            state.world.exports.jobs.iter_mut().for_each(Job::advance);
            let jobs = state.world.exports.jobs.iter().rev().map(|job| job.show(&call.base));
            let jobs = jobs.collect();
            Success::list(call, jobs)
        }
        "export-job" => {
            let id = call.segments.get(2).cloned().unwrap_or_default();
            ask(state, &id, &call.base).map(|job| Success::new(200, job))?
        }
        "bulk-exports" => {
            let items = call.body.get("items").and_then(Value::as_array).cloned();
            let items = bulk(items)?;
            let started = items.iter().map(|item| start(state, item, call));
            let started = started.collect::<Vec<_>>();
            Success::new(200, wrapped(started))
        }
        _ => {
            let ids = bulk(call.body.get("export_ids").and_then(Value::as_array).cloned())?;
            let ids = ids.iter().map(|id| id.as_str().unwrap_or_default().to_owned());
            let ids: Vec<_> = ids.collect();
            let told = ids.iter().map(|id| ask(state, id, &call.base)).collect::<Vec<_>>();
            Success::new(200, wrapped(told))
        }
    }
}

/// Returns the items of a bulk call.
pub(super) fn bulk(items: Option<Vec<Value>>) -> Result<Vec<Value>, Refusal> {
    items
        .filter(|items| (1..=BULK_MAX).contains(&items.len()))
        .ok_or_else(|| Refusal::new(400, 9001, "Between 1 and 100 items are expected."))
}

/// Returns the body of an answer to a bulk call.
pub(super) fn wrapped(items: Vec<Result<Value, Refusal>>) -> Value {
    let item = |item| match item {
        Ok(job) => json!({"resource": job}),
        Err(refusal) => json!({"error": show_error(&refusal)}),
    };
    json!({"items": items.into_iter().map(item).collect::<Vec<_>>()})
}

fn show_error(refusal: &Refusal) -> Value {
    json!({"status": refusal.status, "code": refusal.code, "message": refusal.message, "more_info": ""})
}

fn start(state: &mut Stand<World>, item: &Value, call: &Call) -> Result<Value, Refusal> {
    let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (file, location) = (text("/source/file"), text("/destination/location"));
    if text("/destination/volume") != VOLUME {
        return Err(Refusal::new(404, 9010, "Requested volume does not exist."));
    }
    if state.world.entries.get(file).is_none_or(|entry| entry.parts.is_none()) {
        return Err(Refusal::new(404, 5002, "Requested file does not exist."));
    }
    if location.is_empty() {
        return Err(Refusal::new(400, 9103, "Location is missing."));
    }
    if state.world.aliases.contains(file) {
        return Err(Refusal::new(400, 9006, "An alias cannot be exported."));
    }
    let is_same = |job: &&Job| job.file == file && job.location == location && !job.has_failed();
    if state.world.exports.jobs.iter().any(|job| is_same(&job)) {
        state.ledger.breach(format!("export: two jobs for {location}"));
    }
    let job = Job {
        id: state.new_id(32),
        file: file.to_owned(),
        location: location.to_owned(),
        overwrite: item.get("overwrite").and_then(Value::as_bool).unwrap_or(false),
        started_at: unix_time().as_secs(),
        questions_left: state.switches.sevenbridges.exports.questions,
        end: None,
    };
    let end = judge(state, &job);
    if end.is_ok() && call.query("copy_only").is_none_or(|word| !word.eq_ignore_ascii_case("true"))
    {
        state.world.aliases.insert(job.file.clone());
    }
    let job = Job { end: Some(end), ..job };
    let shown = job.show(&call.base);
    state.world.exports.jobs.push(job);
    Ok(shown)
}

/// Returns how a job will end.
fn judge(state: &mut Stand<World>, job: &Job) -> Result<(), Refusal> {
    let fails = state
        .switches
        .sevenbridges
        .exports
        .fails_once
        .iter()
        .position(|end| job.location.ends_with(end));
    if let Some(index) = fails {
        state.switches.sevenbridges.exports.fails_once.remove(index);
        return Err(Refusal::new(500, 9100, "Volume service is not available."));
    }
    let is_taken =
        state.switches.sevenbridges.exports.taken.iter().any(|end| job.location.ends_with(end))
            || state.world.exports.objects.contains_key(&job.location);
    if is_taken && !job.overwrite {
        return Err(Refusal::new(409, 9107, "Location on volume already contains a file."));
    }
    state.world.exports.objects.insert(job.location.clone(), job.file.clone());
    Ok(())
}

fn ask(state: &mut Stand<World>, id: &str, base: &str) -> Result<Value, Refusal> {
    let job = state.world.exports.jobs.iter_mut().find(|job| job.id == id);
    let job = job.ok_or_else(|| Refusal::new(404, 9002, "Requested export does not exist."))?;
    job.advance();
    Ok(job.show(base))
}

impl Job {
    fn advance(&mut self) {
        self.questions_left = self.questions_left.saturating_sub(1);
    }

    fn has_failed(&self) -> bool {
        matches!(self.end, Some(Err(_)))
    }

    fn show(&self, base: &str) -> Value {
        let mut shown = json!({
            "href": format!("{base}/storage/exports/{}", self.id),
            "id": self.id,
            "overwrite": self.overwrite,
            "source": {"file": self.file},
            "destination": {"volume": VOLUME, "location": self.location},
            "properties": {"sse_algorithm": "AES256"},
            "started_on": time(self.started_at),
        });
        let end = self.end.as_ref().filter(|_| self.questions_left == 0);
        shown["state"] = json!(match end {
            None => "RUNNING",
            Some(Ok(())) => "COMPLETED",
            Some(Err(_)) => "FAILED",
        });
        if end.is_some() {
            shown["finished_on"] = json!(time(unix_time().as_secs()));
        }
        match end {
            Some(Ok(())) => shown["result"] = json!({"id": self.file}),
            Some(Err(refusal)) => shown["error"] = show_error(refusal),
            None => {}
        }
        shown
    }
}

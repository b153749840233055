//! Exports to an attached volume: started and polled in bulk.
//!
//! Owns the three bulk calls. Every item of a bulk answer is judged by itself, because the call
//! succeeds even if every item failed; the answer has the order of the request. Jobs cannot be
//! cancelled, and starting has no key that would make it repeatable: the list of jobs is the only
//! way to learn of one with a lost answer.

use std::time::Duration;

use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::answers::SevenBridgesCall;
use super::wire::bad;
use super::{PAGES_MAX, SevenBridges};
use crate::model::{
    ExportId, ExportItem, ExportJob, ExportMode, ExportState, Failure, FailureKind,
};
use crate::platform::answer;
use crate::platform::contract::{Answer, Exports};
use crate::platform::http::Patience;

/// Jobs on one page of a list.
const PAGE: usize = 100;
/// The platform takes long to start a hundred jobs.
pub(super) const BULK_PATIENCE: Patience =
    Patience { silence: Duration::from_mins(2), in_all: Duration::from_mins(2) };

#[derive(Serialize)]
struct ExportSource<'a> {
    file: &'a str,
}

#[derive(Serialize)]
struct ExportDestination<'a> {
    volume: &'a str,
    location: &'a str,
}

#[derive(Serialize)]
struct ExportLine<'a> {
    source: ExportSource<'a>,
    destination: ExportDestination<'a>,
    overwrite: bool,
}

#[derive(Serialize)]
struct Items<'a> {
    items: Vec<ExportLine<'a>>,
}

#[derive(Serialize)]
struct Ids<'a> {
    export_ids: Vec<&'a str>,
}

#[derive(Debug, Deserialize)]
struct Bulk {
    items: Vec<BulkItem>,
}

#[derive(Debug, Deserialize)]
struct BulkItem {
    resource: Option<ExportJobBody>,
    error: Option<serde_json::Value>,
}

/// A job, in any of the calls that return it.
#[derive(Debug, Deserialize)]
struct ExportJobBody {
    id: Option<String>,
    state: Option<String>,
    source: Option<JobSource>,
    destination: Option<JobDestination>,
    error: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct JobSource {
    file: Option<String>,
}

#[derive(Debug, Deserialize)]
struct JobDestination {
    volume: Option<String>,
    location: Option<String>,
}

impl ExportJobBody {
    fn id(&self) -> Result<ExportId, Failure> {
        let is_usable = |id: &&str| {
            !id.is_empty() && id.len() <= 200 && id.bytes().all(|b| b.is_ascii_graphic())
        };
        self.id
            .as_deref()
            .filter(is_usable)
            .map(ExportId::new)
            .ok_or_else(|| bad("the platform named an export job without a usable id"))
    }

    fn state(&self) -> Result<ExportState, Failure> {
        match self.state.as_deref().map(str::to_ascii_uppercase).as_deref() {
            Some("COMPLETED") => Ok(ExportState::Completed),
            Some("FAILED") => Ok(ExportState::Failed(item_failure(self.error.as_ref()))),
            Some("PENDING" | "RUNNING" | "PREPARING" | "QUEUED") => Ok(ExportState::Pending),
            Some(_) | None => Err(bad("the platform named an export job in no known state")),
        }
    }

    fn is_of(&self, item: &ExportItem) -> bool {
        let file = self.source.as_ref().and_then(|source| source.file.as_deref());
        let place = self.destination.as_ref();
        let volume = place.and_then(|place| place.volume.as_deref());
        let location = place.and_then(|place| place.location.as_deref());
        file == Some(item.file.as_str())
            && volume.is_none_or(|volume| volume == item.place.volume)
            && location == Some(&item.place.location)
    }
}

/// Returns the failure of an item: the vendor's code decides.
fn item_failure(error: Option<&serde_json::Value>) -> Failure {
    let field = |name: &str| error.and_then(|error| error.get(name));
    let number = |name: &str| field(name).and_then(serde_json::Value::as_u64);
    let code = number("code");
    let status = number("status").and_then(|status| u16::try_from(status).ok());
    let kind = match (status, code) {
        (_, Some(9000 | 9100)) | (Some(500..=599), None) => FailureKind::ServerFault,
        (_, Some(9107)) => FailureKind::NameTaken,
        (_, Some(9020)) | (Some(403), _) => FailureKind::Forbidden,
        (_, Some(9002)) | (Some(404), _) => FailureKind::NotFound,
        _ => FailureKind::BadRequest,
    };
    let said = field("message").and_then(serde_json::Value::as_str).unwrap_or("no reason is given");
    let code = code.map_or_else(String::new, |code| format!(" (code {code})"));
    Failure { status, ..Failure::new(kind, format!("{}{code}", answer::clip(said))) }
}

/// Pairs a bulk answer with the requested items.
fn paired(bulk: Bulk, count: usize) -> Result<Vec<Result<ExportJobBody, Failure>>, Failure> {
    if bulk.items.len() != count {
        return Err(bad("the platform answered for another number of items than was asked for"));
    }
    let item = |item: BulkItem| match item.resource {
        Some(job) if item.error.is_none() => Ok(job),
        Some(_) | None => Err(item_failure(item.error.as_ref())),
    };
    Ok(bulk.items.into_iter().map(item).collect())
}

impl SevenBridges {
    async fn start_jobs(
        &self,
        items: &[ExportItem],
        mode: ExportMode,
    ) -> Result<Vec<Result<ExportId, Failure>>, Failure> {
        let items_of = items.iter().map(|item| ExportLine {
            source: ExportSource { file: item.file.as_str() },
            destination: ExportDestination {
                volume: &item.place.volume,
                location: &item.place.location,
            },
            overwrite: mode.overwrite,
        });
        let body = Items { items: items_of.collect() };
        let copy_only = if mode.copy_only { "true" } else { "false" };
        let url = self.url("bulk/storage/exports/create", &[("copy_only", copy_only)])?;
        let response = self.call_json(SevenBridgesCall::Export, Method::POST, url, &body).await?;
        let started = paired(answer::parse(&response)?, items.len())?;
        Ok(started.into_iter().map(|job| job.and_then(|job| job.id())).collect())
    }

    async fn poll_jobs(
        &self,
        jobs: &[ExportId],
    ) -> Result<Vec<Result<ExportState, Failure>>, Failure> {
        let body = Ids { export_ids: jobs.iter().map(ExportId::as_str).collect() };
        let url = self.url("bulk/storage/exports/get", &[])?;
        let response = self.call_json(SevenBridgesCall::Export, Method::POST, url, &body).await?;
        let told = paired(answer::parse(&response)?, jobs.len())?;
        Ok(told.into_iter().map(|job| job.and_then(|job| job.state())).collect())
    }

    /// Lists the jobs of a volume until each item has been found or the list ends.
    async fn find_jobs(&self, items: &[ExportItem]) -> Result<Vec<Option<ExportJob>>, Failure> {
        let mut found: Vec<Option<ExportJob>> = vec![None; items.len()];
        let Some(volume) = items.first().map(|item| item.place.volume.clone()) else {
            return Ok(found);
        };
        for page in 0..PAGES_MAX {
            let (offset, limit) = ((page * PAGE).to_string(), PAGE.to_string());
            let query = [
                ("volume", volume.as_str()),
                ("offset", &offset),
                ("limit", &limit),
                ("fields", "_all"),
            ];
            let response = self.get(SevenBridgesCall::Export, "storage/exports", &query).await?;
            let listed: super::wire::SevenBridgesPage<ExportJobBody> = answer::parse(&response)?;
            let count = listed.items.len();
            for job in &listed.items {
                let of = items.iter().position(|item| job.is_of(item));
                let Some(slot) = of.and_then(|index| found.get_mut(index)) else { continue };
                let state = job.state()?;
                if slot.is_none() && !matches!(state, ExportState::Failed(_)) {
                    *slot = Some(ExportJob { id: job.id()?, state });
                }
            }
            if count < PAGE || found.iter().all(Option::is_some) {
                break;
            }
        }
        Ok(found)
    }
}

impl Exports for SevenBridges {
    fn find<'a>(&'a self, items: &'a [ExportItem]) -> Answer<'a, Vec<Option<ExportJob>>> {
        Box::pin(self.find_jobs(items))
    }

    fn start<'a>(
        &'a self,
        items: &'a [ExportItem],
        mode: ExportMode,
    ) -> Answer<'a, Vec<Result<ExportId, Failure>>> {
        Box::pin(self.start_jobs(items, mode))
    }

    fn poll<'a>(&'a self, jobs: &'a [ExportId]) -> Answer<'a, Vec<Result<ExportState, Failure>>> {
        Box::pin(self.poll_jobs(jobs))
    }
}

//! Seven Bridges, CAVATICA, CGC and BDC: API v2, one project, one credential.
//!
//! Owns the conversation with the API: how a call is budgeted, authorised, sent and judged. What is
//! said in it is in `uploads` (an upload from begin to complete), `files` (files, metadata, access)
//! and `folders`; shapes are in `wire`, the meaning of refusals in `answers`.
//!
//! The vendor's rules that shape this: the platform settles the part size, so the one in the answer
//! counts; signed addresses are fetched just before use and never kept; bytes go to a storage host
//! with exactly the headers told, never with our token; parts are reported in batches, for calls are
//! rationed per account (1000 in five minutes); a lost upload is a 404.
//!
//! *Promises*: the token goes to the base URL's host alone; a refused token is read again before it
//! is used again; the platform's clock is learned from its answers, so a workstation whose clock is
//! wrong still judges the ends of addresses and windows rightly. *Never* retries, sleeps only for the
//! call budget, and keeps nothing but the ids of folders. What a [`Failure`] leads to is the engine's.
//!
//! At a crash: see the three lines of every operation in [`super::contract`].

mod answers;
mod files;
mod folders;
mod uploads;
mod wire;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderValue;
use reqwest::{Method, Url};
use serde::Serialize;

use super::answer::{not_a_page, parse_date};
use super::contract::{Answer, BeginRequest, CompleteRequest, PartBody, PartRequest, Platform};
use super::credential::Credential;
use super::http::{Http, Request, Response, TimeSource, header_map, parse_url};
use crate::limiter::{Announcement, CallBudget};
use crate::model::{
    ByteCount, Completion, Describes, Description, ETag, Failure, FailureKind, PartLimits,
    RemoteFile, RemoteFileId, RemotePart, RemoteUpload, RemoteUploadId, Target, Traits, WallTime,
};
use answers::Call;
use folders::Folders;
use wire::Place;

const MIB: u64 = 1024 * 1024;

/// What the vendor's documents and clients agree on.
pub const TRAITS: Traits = Traits {
    limits: PartLimits {
        size_min: ByteCount(5 * MIB),
        size_max: ByteCount(5 * 1024 * MIB),
        count_max: 10_000,
        file_max: ByteCount(5 * 1024 * 1024 * MIB),
    },
    reports_parts: true,
    report_max: 25,
    describes: Describes::AfterCompletion,
    wants_md5_first: false,
};

/// Putting ten thousand parts together takes its time.
const COMPLETE_PATIENCE: Duration = Duration::from_mins(5);
/// Machines of one account come back from a pause this far apart, beyond one second.
const JITTER_MAX_MS: i64 = 4000;
/// A budget that is paused is asked again this often, for a pause may be found to be over.
const BUDGET_NAP_MAX: Duration = Duration::from_secs(30);

/// A configured target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Such as `https://cavatica-api.sbgenomics.com/v2`.
    pub base_url: String,
    /// `owner/short-name`.
    pub project: String,
}

/// Budget and clock difference of one account, shared by all its destinations.
#[derive(Debug, Clone)]
pub struct Account {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    budget: CallBudget,
    /// The platform's clock minus ours, nanoseconds.
    clock_offset_ns: i64,
}

impl Account {
    /// Starts with the documented limit, or a fixed rate.
    pub fn new(calls_per_second: Option<f64>, time: impl Into<TimeSource>) -> Self {
        let budget = CallBudget::new(calls_per_second, time.into().now().monotonic);
        Self { shared: Arc::new(Mutex::new(Shared { budget, clock_offset_ns: 0 })) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Shared) -> T) -> T {
        act(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The client.
#[derive(Debug)]
pub struct SevenBridges {
    http: Http,
    base: Url,
    project: String,
    credential: Arc<Credential>,
    account: Account,
    time: TimeSource,
    folders: Folders,
    traits: Traits,
}

impl SevenBridges {
    /// Builds the client.
    ///
    /// # Errors
    /// When the base URL is none.
    pub fn new(
        settings: &Settings,
        http: Http,
        credential: Arc<Credential>,
        account: Account,
        time: impl Into<TimeSource>,
    ) -> Result<Self, Failure> {
        let mut base = parse_url(&settings.base_url)?;
        base.set_query(None);
        base.set_fragment(None);
        let time = time.into();
        Ok(Self {
            http: http.with_time(time.clone()),
            base,
            project: settings.project.clone(),
            credential,
            account,
            time,
            folders: Folders::default(),
            traits: TRAITS,
        })
    }

    /// Allows smaller parts than the vendor does: for the sandbox and the tests.
    #[must_use]
    pub fn with_part_size_min(mut self, size_min: ByteCount) -> Self {
        self.traits.limits.size_min = size_min;
        self
    }

    /// Returns an address below the base. A slash in the path separates; everything else that
    /// means something in an address is escaped.
    fn url(&self, path: &str, query: &[(&str, &str)]) -> Result<Url, Failure> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Failure::new(FailureKind::BadRequest, "base_url can have no paths"))?
            .pop_if_empty()
            .extend(path.split('/').filter(|segment| !segment.is_empty()));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
            // A plus sign of a value is escaped by then: these are spaces.
            let plain = url.query().map(|query| query.replace('+', "%20"));
            url.set_query(plain.as_deref());
        }
        Ok(url)
    }

    /// Waits for the budget, makes one call, and learns from the answer's headers.
    async fn call(
        &self,
        call: Call,
        method: Method,
        url: Url,
        body: Option<Bytes>,
    ) -> Result<Response, Failure> {
        self.wait_for_budget().await;
        let token = self.credential.token()?;
        let mut headers = header_map([("x-sbg-auth-token", token.reveal())].into_iter())?;
        // The vendor marks the content type as required also where there is no content.
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("accept", HeaderValue::from_static("application/json"));
        let patience = (call == Call::Complete).then_some(COMPLETE_PATIENCE);
        let response = self.http.send(method, url, Request { headers, body, patience }).await?;
        self.learn(&response);
        match response.status {
            200..=204 => not_a_page(response),
            _ => Err(answers::classify(call, &response, self.platform_time())),
        }
    }

    async fn call_json(
        &self,
        call: Call,
        method: Method,
        url: Url,
        body: &impl Serialize,
    ) -> Result<Response, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| {
            Failure::new(FailureKind::LocalFault, format!("the request cannot be written: {error}"))
        })?;
        self.call(call, method, url, Some(body.into())).await
    }

    async fn get(
        &self,
        call: Call,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Response, Failure> {
        self.call(call, Method::GET, self.url(path, query)?, None).await
    }

    async fn wait_for_budget(&self) {
        loop {
            let now = self.time.now().monotonic;
            let Err(until) = self.account.with(|shared| shared.budget.take(now)) else { return };
            tokio::time::sleep(until.since(now).min(BUDGET_NAP_MAX)).await;
        }
    }

    /// Takes from an answer what it says of the platform's clock and limits, and of our token.
    fn learn(&self, response: &Response) {
        let now = self.time.now();
        if let Some(date) = response.header("date").and_then(parse_date) {
            self.account.with(|shared| shared.clock_offset_ns = date.0.saturating_sub(now.wall.0));
        }
        let theirs = self.platform_time();
        let number = |name| response.header(name).and_then(|text| text.trim().parse().ok());
        let said = Announcement {
            limit: number("x-ratelimit-limit"),
            remaining: number("x-ratelimit-remaining"),
            reset_in: answers::reset_in(response, theirs),
        };
        self.account.with(|shared| shared.budget.announced(said, now.monotonic));
        match response.status {
            401 => self.credential.forget(),
            429 => {
                let pause = answers::announced_pause(response, theirs);
                let jitter = 1000 + (now.wall.0 / 1000).rem_euclid(JITTER_MAX_MS);
                let jitter = Duration::from_millis(jitter.unsigned_abs());
                self.account.with(|shared| shared.budget.refused(pause, jitter, now.monotonic));
            }
            _ => {}
        }
    }

    /// Returns the platform's time, as far as its answers told.
    fn platform_time(&self) -> WallTime {
        self.to_platform_time(self.time.now().wall)
    }

    fn to_platform_time(&self, ours: WallTime) -> WallTime {
        let offset = self.account.with(|shared| shared.clock_offset_ns);
        WallTime(ours.0.saturating_add(offset))
    }

    fn place<'a>(&'a self, folder: Option<&'a str>) -> Place<'a> {
        folder.map_or(Place::Project(&self.project), Place::Parent)
    }
}

impl Platform for SevenBridges {
    fn traits(&self) -> Traits {
        self.traits
    }

    fn check_access(&self) -> Answer<'_, ()> {
        Box::pin(self.check())
    }

    fn locate<'a>(&'a self, target: &'a Target) -> Answer<'a, Option<RemoteFile>> {
        Box::pin(self.locate_file(target))
    }

    fn begin<'a>(&'a self, request: &'a BeginRequest) -> Answer<'a, RemoteUpload> {
        Box::pin(self.begin_upload(request))
    }

    fn find_begun<'a>(
        &'a self,
        request: &'a BeginRequest,
        since: WallTime,
    ) -> Answer<'a, Vec<RemoteUpload>> {
        Box::pin(self.find_uploads(request, since))
    }

    fn put_part<'a>(&'a self, request: &'a PartRequest, body: PartBody) -> Answer<'a, ETag> {
        Box::pin(self.put(&request.remote, request.part, body))
    }

    fn list_parts<'a>(&'a self, remote: &'a RemoteUpload) -> Answer<'a, Option<Vec<RemotePart>>> {
        Box::pin(async { self.listed_parts(remote).await.map(Some) })
    }

    fn report_parts<'a>(
        &'a self,
        remote: &'a RemoteUpload,
        parts: &'a [RemotePart],
    ) -> Answer<'a, ()> {
        Box::pin(self.report(remote, parts))
    }

    fn complete<'a>(&'a self, request: &'a CompleteRequest) -> Answer<'a, RemoteFile> {
        Box::pin(self.complete_upload(&request.remote))
    }

    fn find_completed<'a>(&'a self, request: &'a CompleteRequest) -> Answer<'a, Completion> {
        Box::pin(self.completion_of(request))
    }

    fn inspect<'a>(&'a self, file: &'a RemoteFileId) -> Answer<'a, Option<RemoteFile>> {
        Box::pin(self.inspect_file(file))
    }

    fn describe<'a>(
        &'a self,
        file: &'a RemoteFileId,
        description: &'a Description,
    ) -> Answer<'a, ()> {
        Box::pin(self.describe_file(file, description))
    }

    fn abort<'a>(&'a self, remote: &'a RemoteUploadId) -> Answer<'a, ()> {
        Box::pin(self.abort_upload(remote))
    }
}

#[cfg(test)]
mod tests;

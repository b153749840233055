//! Seven Bridges, CAVATICA, CGC and BDC: API v2, one project, one credential.
//!
//! Owns the vendor's specifics of a call: headers, limits, judgement. The calls are in `uploads`
//! (an upload from begin to complete), `files` (files, metadata, access), `folders`, `bulk`
//! (questions about many files in one call) and `exports` (to attached volumes); shapes are in
//! `wire`, the meaning of refusals in `answers`.
//!
//! The vendor's rules behind the design: the platform chooses the part size, so the one in the
//! answer counts; signed addresses are fetched just before use and never kept; bytes are sent to a
//! storage host with exactly the given headers, never with our token; calls are limited per account
//! (1000 in five minutes), so parts are reported in batches or as their upload is completed, and
//! files are described and inspected together; a lost upload is a 404.
//!
//! *Promises*: those of [`super::api`], and that only the ids of folders are kept. *Never* retries:
//! the engine decides what a [`Failure`] leads to.
//!
//! At a crash: see the three lines of every operation in [`super::contract`].

mod answers;
mod bulk;
mod exports;
mod files;
mod folders;
mod uploads;
mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderValue;
use reqwest::{Method, Url};
use serde::Serialize;

use super::account::Link;
use super::answer::{answered, not_a_page};
use super::api::{Api, json, json_headers};
use super::contract::{
    Answer, BeginRequest, CompleteRequest, Exports, PartBody, PartRequest, Platform,
};
use super::http::{COMPLETE_LIMIT, Patience, Request, Response};
use crate::limiter::Announcement;
use crate::model::{
    ByteCount, Completion, Describes, Description, ETagLaw, Failure, FailureKind, OpenUpload,
    PartLimits, RemoteFile, RemoteFileId, RemotePart, RemoteUpload, RemoteUploadId, Replaces,
    Stored, Target, Traits, WallTime,
};
use answers::SevenBridgesCall;
use bulk::Batches;
use folders::Folders;
use wire::FolderPlace;

const MIB: u64 = 1024 * 1024;

/// The limits that the vendor's documentation and clients agree on.
pub(crate) const TRAITS: Traits = Traits {
    limits: PartLimits {
        size_min: ByteCount(5 * MIB),
        size_max: ByteCount(5 * 1024 * MIB),
        count_max: 10_000,
        file_max: ByteCount(5 * 1024 * 1024 * MIB),
        path_max: ByteCount(u64::MAX),
    },
    reports_parts: true,
    report_max: 25,
    describes: Describes::AfterCompletion,
    finishes_runs: false,
    has_places: true,
    wants_md5_first: false,
    sends_whole: false,
    can_inspect: true,
    replaces: Replaces::ByRenaming,
    parts_need_account: true,
    etags: ETagLaw::Mostly { reads_back: false },
};

/// Header lines of the platform's own answers.
const MARKS: [&str; 2] = ["x-request-id", "x-ratelimit-limit"];
const UNMARKED: &str = "an answer with nothing in it that the platform did not make: is a proxy or a portal in \
    between?";
/// Limit of pages of a list: nobody has ten thousand uploads or jobs in progress.
const PAGES_MAX: usize = 100;
/// The platform takes long to put ten thousand parts together.
const COMPLETE_PATIENCE: Patience =
    Patience { silence: Duration::from_mins(5), in_all: COMPLETE_LIMIT };

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Such as `https://cavatica-api.sbgenomics.com/v2`.
    pub base_url: String,
    /// `owner/short-name`.
    pub project: String,
}

#[derive(Debug)]
pub(crate) struct SevenBridges {
    api: Api,
    project: String,
    folders: Folders,
    bulk: Batches,
    /// It completes uploads only once all parts are reported by calls of their own.
    completes_reported: AtomicBool,
    /// Its answers have marks: one without comes from something else.
    gives_marks: AtomicBool,
}

impl SevenBridges {
    /// Builds the client.
    pub(crate) fn new(settings: &Settings, link: Link) -> Result<Self, Failure> {
        let api = Api::new(&settings.base_url, "x-sbg-auth-token", "", link)?;
        Ok(Self {
            api,
            project: settings.project.clone(),
            folders: Folders::default(),
            bulk: Batches::default(),
            completes_reported: AtomicBool::new(false),
            gives_marks: AtomicBool::new(false),
        })
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> Result<Url, Failure> {
        self.api.url(path.split('/'), query)
    }

    /// Waits for the budget, makes one call, and applies the answer's headers.
    async fn call(
        &self,
        call: SevenBridgesCall,
        method: Method,
        url: Url,
        body: Option<Bytes>,
    ) -> Result<Response, Failure> {
        // The vendor requires the content type also without a body.
        let mut headers = json_headers(true);
        let patience = match call {
            SevenBridgesCall::Complete => Some(COMPLETE_PATIENCE),
            SevenBridgesCall::Export | SevenBridgesCall::Bulk => Some(exports::BULK_PATIENCE),
            SevenBridgesCall::General | SevenBridgesCall::Begin | SevenBridgesCall::Upload => None,
        };
        if call == SevenBridgesCall::Export {
            // Required by the documentation of some of the vendor's platforms, harmless at the others.
            headers.insert("x-sbg-advance-access", HeaderValue::from_static("advance"));
        }
        let request = Request { headers, body, patience, answer_max: None };
        let response = self.api.send(method, url, request).await?;
        self.learn(&response);
        let is_marked = self.is_marked(&response);
        self.api.judged(|now| match response.status {
            // Reports have an empty answer; a proxy or a portal may answer anything like that.
            200..=204 if !is_marked && response.body.is_empty() => {
                Err(answered(&response, FailureKind::BadAnswer, UNMARKED.to_owned()))
            }
            200..=204 => not_a_page(&response).map(|()| response),
            _ => Err(answers::classify(call, &response, now)),
        })
    }

    async fn call_json(
        &self,
        call: SevenBridgesCall,
        method: Method,
        url: Url,
        body: &impl Serialize,
    ) -> Result<Response, Failure> {
        self.call(call, method, url, Some(json(body)?)).await
    }

    async fn get(
        &self,
        call: SevenBridgesCall,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Response, Failure> {
        self.call(call, Method::GET, self.url(path, query)?, None).await
    }

    /// Returns whether an answer has the platform's marks, or may be its own without them.
    fn is_marked(&self, response: &Response) -> bool {
        let has_some = MARKS.iter().any(|name| response.header(name).is_some());
        if has_some {
            self.gives_marks.store(true, Ordering::Relaxed);
        }
        has_some || !self.gives_marks.load(Ordering::Relaxed)
    }

    /// Applies an answer's information about the platform's limits.
    fn learn(&self, response: &Response) {
        let account = &self.api.link.account;
        let theirs = account.platform_time();
        let number = |name| response.header(name).and_then(|text| text.trim().parse().ok());
        account.announced(Announcement {
            limit: number("x-ratelimit-limit"),
            remaining: number("x-ratelimit-remaining"),
            reset_in: answers::reset_in(response, theirs),
        });
    }

    fn place<'a>(&'a self, folder: Option<&'a str>) -> FolderPlace<'a> {
        folder.map_or(FolderPlace::Project(&self.project), FolderPlace::Parent)
    }
}

impl Platform for SevenBridges {
    fn traits(&self) -> Traits {
        TRAITS
    }

    fn check_access(&self) -> Answer<'_, ()> {
        Box::pin(self.check())
    }

    fn account(&self) -> Answer<'_, Option<String>> {
        Box::pin(self.owner())
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

    fn list_open<'a>(&'a self, _: &'a str) -> Answer<'a, Option<Vec<OpenUpload>>> {
        Box::pin(async { self.open_uploads().await.map(Some) })
    }

    fn put_part<'a>(&'a self, request: &'a PartRequest, body: PartBody) -> Answer<'a, Stored> {
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
        Box::pin(self.complete_upload(request))
    }

    fn find_completed<'a>(&'a self, request: &'a CompleteRequest) -> Answer<'a, Completion> {
        Box::pin(self.completion_of(request))
    }

    fn inspect<'a>(&'a self, file: &'a RemoteFileId) -> Answer<'a, Option<RemoteFile>> {
        Box::pin(self.inspect_file(file))
    }

    fn joins_calls(&self) -> bool {
        true
    }

    fn describe<'a>(
        &'a self,
        file: &'a RemoteFileId,
        description: &'a Description,
    ) -> Answer<'a, ()> {
        Box::pin(self.describe_file(file, description))
    }

    fn rename<'a>(&'a self, file: &'a RemoteFileId, name: &'a str) -> Answer<'a, bool> {
        Box::pin(self.rename_file(file, name))
    }

    fn remove<'a>(&'a self, file: &'a RemoteFileId) -> Answer<'a, ()> {
        Box::pin(self.remove_file(file))
    }

    fn exports(&self) -> Option<&dyn Exports> {
        Some(self)
    }

    fn abort<'a>(&'a self, remote: &'a RemoteUploadId) -> Answer<'a, ()> {
        Box::pin(self.abort_upload(remote))
    }
}

#[cfg(test)]
mod tests;

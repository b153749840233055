//! Illumina BaseSpace, v1pre3: files of AppResults, one region, one token.
//!
//! Owns the protocol with the platform: how a request is addressed, sent and judged. The sequence
//! of calls is in `files` (files of parts), `singles` (files sent in one call), `places` (projects
//! and AppResults) and `listing` (existing files); `wire` has the shapes, `answers` the table of
//! errors.
//!
//! The vendor's rules behind the design: a missing id looks like a forbidden one, so a refused
//! upload is checked again, and the token too, before it counts as gone; lists show no pending
//! file, so an initiate with a lost answer leaves an invisible orphan; a file sent in one call
//! cannot be sent again blindly, so its path is looked up first; AppResults have no unique names,
//! so one is created only after none was found; files are added only while the AppResult is
//! Running, and never replaced.
//!
//! *Promises*: this client never completes two files with one path, as far as lists show the
//! existing ones. *Never* retries, never follows a redirect.
//!
//! At a crash: see the three lines of every operation in [`super::contract`].

mod answers;
mod files;
mod listing;
mod places;
mod singles;
mod wire;

use std::future::ready;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderValue};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::answers::BaseSpaceCall;
use self::listing::Listings;
use self::places::PlaceIds;
use self::singles::Posts;
use super::account::Link;
use super::answer::of_another;
use super::api::{Api, json};
use super::contract::{
    Answer, BeginRequest, CompleteRequest, PartBody, PartRequest, Platform, RightFound,
};
use super::http::{COMPLETE_LIMIT, Patience, Request, Response, header_map};
use crate::model::{
    ByteCount, Completion, Describes, ETagLaw, Failure, PartLimits, RemoteFile, RemoteFileId,
    RemotePart, RemoteUpload, RemoteUploadId, Replaces, Stored, Target, Traits, WallTime,
};

/// Sizes that are valid by every interpretation of the vendor's "5MB" and "25MB".
pub(crate) const TRAITS: Traits = Traits {
    limits: PartLimits {
        size_min: ByteCount(5_242_880),
        size_max: ByteCount(25_000_000),
        count_max: 10_000,
        file_max: ByteCount(250_000_000_000),
        path_max: ByteCount(u64::MAX),
    },
    reports_parts: false,
    report_max: 1,
    describes: Describes::Never,
    finishes_runs: false,
    has_places: true,
    wants_md5_first: true,
    sends_whole: false,
    can_inspect: true,
    replaces: Replaces::Never,
    parts_need_account: true,
    etags: ETagLaw::Md5s,
};

/// The platform takes long to put ten thousand parts together.
const COMPLETE_PATIENCE: Patience =
    Patience { silence: Duration::from_mins(5), in_all: COMPLETE_LIMIT };
/// The content type of every file.
const CONTENT_TYPE: &str = "application/octet-stream";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Such as `https://api.basespace.illumina.com/v1pre3`.
    pub base_url: String,
    pub place: BaseSpacePlace,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaseSpacePlace {
    /// Into the AppResult with this id.
    AppResult(String),
    /// Into an AppResult named after the first folder, in the project with this id (decimal digits)
    /// or name. Both are created when missing, except a project given by its id.
    Project(String),
}

#[derive(Debug)]
pub(crate) struct BaseSpace {
    api: Api,
    place: BaseSpacePlace,
    places: PlaceIds,
    listings: Listings,
    posts: Posts,
}

#[derive(Debug)]
struct BaseSpaceRequest<'a> {
    call: BaseSpaceCall,
    method: Method,
    path: String,
    query: Vec<(&'a str, &'a str)>,
    /// Small content with its type.
    content: Option<(&'static str, Bytes)>,
}

impl<'a> BaseSpaceRequest<'a> {
    fn get(call: BaseSpaceCall, path: impl Into<String>) -> Self {
        let path = path.into();
        Self { call, method: Method::GET, path, query: Vec::new(), content: None }
    }

    /// Without a body, except for the query.
    fn post(call: BaseSpaceCall, path: impl Into<String>) -> Self {
        let content = Some((CONTENT_TYPE, Bytes::new()));
        Self { method: Method::POST, content, ..Self::get(call, path) }
    }

    fn query(mut self, name: &'a str, value: &'a str) -> Self {
        self.query.push((name, value));
        self
    }

    fn json(mut self, body: &impl Serialize) -> Result<Self, Failure> {
        self.content = Some(("application/json", json(body)?));
        Ok(self)
    }
}

impl BaseSpace {
    /// Builds the client.
    pub(crate) fn new(settings: &Settings, link: Link) -> Result<Self, Failure> {
        Ok(Self {
            api: Api::new(&settings.base_url, "x-access-token", "", link)?,
            place: settings.place.clone(),
            places: PlaceIds::default(),
            listings: Listings::default(),
            posts: Posts::default(),
        })
    }

    /// Waits for the budget, makes one call, and judges the answer.
    async fn call(&self, ask: BaseSpaceRequest<'_>) -> Result<Response, Failure> {
        let url = self.api.url(ask.path.split('/'), &ask.query)?;
        let mut headers = HeaderMap::new();
        let patience = (ask.call == BaseSpaceCall::Complete).then_some(COMPLETE_PATIENCE);
        let body = ask.content.map(|(kind, body)| {
            headers.insert("content-type", HeaderValue::from_static(kind));
            // Some servers refuse a POST without a length, also one without a body.
            headers.insert("content-length", HeaderValue::from(body.len()));
            body
        });
        let request = Request { headers, body, patience, answer_max: None };
        let response = self.api.send(ask.method, url, request).await?;
        self.judge(ask.call, response)
    }

    /// Makes one call and returns the content of its envelope.
    async fn ask<T: DeserializeOwned>(&self, ask: BaseSpaceRequest<'_>) -> Result<T, Failure> {
        wire::response(&self.call(ask).await?)
    }

    /// Sends the bytes of a part or a file, and judges the answer.
    async fn send<T: DeserializeOwned>(
        &self,
        ask: BaseSpaceRequest<'_>,
        body: PartBody,
    ) -> Result<T, Failure> {
        let url = self.api.url(ask.path.split('/'), &ask.query)?;
        let mut headers = HeaderMap::new();
        if let Some((kind, _)) = ask.content {
            headers.insert("content-type", HeaderValue::from_static(kind));
        }
        if let Some(digest) = body.content_md5() {
            headers.extend(header_map([("content-md5", digest.as_str())].into_iter())?);
        }
        let response = self.api.send_part(ask.method, url, headers, body).await?;
        wire::response(&self.judge(ask.call, response)?)
    }

    fn judge(&self, call: BaseSpaceCall, response: Response) -> Result<Response, Failure> {
        self.api.judged(|now| match answers::refusal(call, &response, now) {
            None => Ok(response),
            Some(failure) if self.api.is_of_another(&response, wire::has_form(&response.body)) => {
                Err(of_another(failure))
            }
            Some(failure) => Err(failure),
        })
    }
}

impl Platform for BaseSpace {
    fn traits(&self) -> Traits {
        TRAITS
    }

    fn check_access(&self) -> Answer<'_, ()> {
        Box::pin(self.check())
    }

    fn account(&self) -> Answer<'_, Option<String>> {
        Box::pin(self.owner())
    }

    fn check_rights(&self) -> Answer<'_, Vec<RightFound>> {
        Box::pin(ready(Ok(vec![RightFound::untried()])))
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
        Box::pin(self.find_pending(request, since))
    }

    fn put_part<'a>(&'a self, request: &'a PartRequest, body: PartBody) -> Answer<'a, Stored> {
        Box::pin(self.put(request, body))
    }

    fn list_parts<'a>(&'a self, remote: &'a RemoteUpload) -> Answer<'a, Option<Vec<RemotePart>>> {
        Box::pin(self.listed_parts(remote))
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

    fn finish_run<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        Box::pin(self.finish_app_result(name))
    }

    fn abort<'a>(&'a self, remote: &'a RemoteUploadId) -> Answer<'a, ()> {
        Box::pin(self.abort_upload(remote))
    }
}

#[cfg(test)]
mod tests;

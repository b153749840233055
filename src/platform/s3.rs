//! S3: any compatible endpoint, one bucket, one set of keys.
//!
//! Owns the protocol with the storage: how a request is addressed, signed, sent and judged. The sequence
//! of calls is in `uploads` (multipart) and `objects` (existing objects, and files of one part);
//! `address` builds keys and addresses, `wire` reads and writes XML, `answers` has the error codes.
//!
//! The rules behind the design: a file of one part is one `PutObject`, so it leaves no orphan; a
//! complete may answer 200 and carry an error; repeated, it may answer that the upload is gone, so the
//! object is looked up before anything is begun again; the ETag of a multipart object is the MD5 of the
//! MD5s of its parts, which proves equality without storing a digest; with keys of KMS or of the
//! customer an ETag proves nothing. Requests are signed in their headers, each separately, so that keys
//! can be replaced at any time; the body is not part of the signature, but its MD5 is.
//!
//! *Promises*: another writer's object is not overwritten where the storage supports conditional
//! requests, unless the operator wants it; after a refusal for a wrong time, signatures use the
//! storage's time; header lines that the storage does not support are left out. *Never* retries,
//! never follows a redirect.
//!
//! At a crash: see the three lines of every operation in [`super::contract`].

mod address;
mod answers;
mod metadata;
mod names;
mod objects;
mod options;
mod rights;
mod uploads;
mod wire;

pub(super) use self::address::signed_until;
pub(crate) use self::rights::CheckSettings;
pub(super) use self::wire::text_in;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Method, Url};

use self::address::Addressing;
use self::answers::S3Call;
use self::names::Names;
use self::options::{Attempted, Options};
use super::account::Link;
use super::answer::of_another;
use super::contract::{
    Answer, BeginRequest, CompleteRequest, PartBody, PartRequest, Platform, RightFound, Whole,
    WholeRequest,
};
use super::http::{COMPLETE_LIMIT, Patience, Request, Response, header_map};
use super::signature::{Signing, UNSIGNED};
use crate::model::{
    ByteCount, Completion, Describes, ETagLaw, Failure, FailureKind, Learned, OpenUpload,
    PartLimits, PartSize, RemoteFile, RemoteFileId, RemotePart, RemoteUpload, RemoteUploadId,
    Replaces, Stored, Target, Traits, WallTime,
};

const MIB: u64 = 1024 * 1024;

/// The limits that AWS documents and compatible storages share.
pub const TRAITS: Traits = Traits {
    limits: PartLimits {
        size_min: ByteCount(5 * MIB),
        size_max: ByteCount(5 * 1024 * MIB),
        count_max: 10_000,
        file_max: ByteCount(5 * 1024 * 1024 * MIB),
        path_max: ByteCount(address::KEY_MAX as u64),
    },
    reports_parts: false,
    report_max: 1,
    describes: Describes::AtBegin,
    finishes_runs: false,
    has_places: true,
    wants_md5_first: true,
    sends_whole: true,
    can_inspect: true,
    replaces: Replaces::ByETag,
    parts_need_account: true,
    etags: ETagLaw::Mostly { reads_back: true },
};

/// Putting parts together can take minutes.
pub(super) const COMPLETE_PATIENCE: Patience =
    Patience { silence: Duration::from_mins(10), in_all: COMPLETE_LIMIT };

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Such as `https://s3.eu-central-1.amazonaws.com`.
    pub base_url: String,
    pub region: String,
    pub bucket: String,
    /// The bucket is in the path, not in the host name.
    pub path_style: bool,
    /// The operator accepts plain HTTP.
    pub allow_plain_http: bool,
    /// Additional settings of each object.
    pub object: ObjectSettings,
    /// The requester pays.
    pub requester_pays: bool,
    /// Server-side encryption, where requested.
    pub encryption: Encryption,
    pub checks: CheckSettings,
}

/// Settings of an object that are not left to the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectSettings {
    /// Such as `STANDARD_IA`; the storage defines the classes.
    pub storage_class: Option<String>,
    /// Such as `bucket-owner-full-control`.
    pub acl: Option<String>,
}

/// How objects are encrypted at rest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Encryption {
    #[default]
    Bucket,
    /// With the storage's own key.
    Storage,
    /// With the key service, with this key or its default one.
    Kms(Option<String>),
    /// With a key of ours, 32 bytes in a file, which the storage does not keep.
    Customer(std::path::PathBuf),
}

#[derive(Debug)]
pub(crate) struct S3 {
    addressing: Addressing,
    encryption: Encryption,
    object: ObjectSettings,
    requester_pays: bool,
    checks: CheckSettings,
    link: Link,
    names: Names,
    options: Options,
    /// Its answers carry request ids: one without comes from something else.
    gives_ids: AtomicBool,
}

#[derive(Debug, Default)]
struct S3Request<'a> {
    /// The object; `None` for the bucket.
    key: Option<&'a str>,
    query: Vec<(&'a str, String)>,
    /// Signed and sent.
    headers: Vec<(String, String)>,
    body: Option<Bytes>,
    /// The offset of the signature's time from our clock.
    dated: i64,
}

impl<'a> S3Request<'a> {
    fn object(key: &'a str) -> Self {
        Self { key: Some(key), ..Self::default() }
    }

    fn query(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Wants names in a list encoded: no text of XML holds every character that a key may have.
    fn with_encoded_names(self) -> Self {
        self.query("encoding-type", "url")
    }

    fn headers(mut self, headers: Vec<(String, String)>) -> Self {
        self.headers.extend(headers);
        self
    }
}

impl S3 {
    /// Builds the client.
    pub(crate) fn new(settings: &Settings, link: Link) -> Result<Self, Failure> {
        Ok(Self {
            addressing: Addressing::new(settings)?,
            encryption: settings.encryption.clone(),
            object: settings.object.clone(),
            requester_pays: settings.requester_pays,
            checks: settings.checks.clone(),
            link,
            names: Names::default(),
            options: Options::default(),
            gives_ids: AtomicBool::new(false),
        })
    }

    /// Signs and sends a request, and judges the answer.
    async fn call(
        &self,
        call: S3Call,
        method: Method,
        mut ask: S3Request<'_>,
    ) -> Result<Response, Failure> {
        self.link.account.wait_for_budget().await?;
        self.options.without(call, ask.key.unwrap_or_default(), &mut ask.headers);
        let (url, headers) = self.signed(&method, &mut ask).await?;
        let patience = (call == S3Call::Complete).then_some(COMPLETE_PATIENCE);
        let request = Request { headers, body: ask.body.take(), patience, answer_max: None };
        let response = self.link.http.send(method, url, request).await?;
        self.judge(call, &ask, response)
    }

    /// Signs and sends a request with a part's bytes, and judges the answer.
    async fn send(
        &self,
        call: S3Call,
        mut ask: S3Request<'_>,
        body: PartBody,
    ) -> Result<Response, Failure> {
        self.options.without(call, ask.key.unwrap_or_default(), &mut ask.headers);
        let (url, headers) = self.signed(&Method::PUT, &mut ask).await?;
        let response = self.link.http.send_part(Method::PUT, url, headers, body).await?;
        self.judge(call, &ask, response)
    }

    fn judge(
        &self,
        call: S3Call,
        ask: &S3Request<'_>,
        response: Response,
    ) -> Result<Response, Failure> {
        self.link.account.learn_clock(&response);
        let refusal = answers::refusal(call, &response, self.link.account.platform_time());
        let is_of_lines = |failure: &&Failure| {
            failure.kind == FailureKind::BadRequest && matches!(failure.status, Some(400 | 501))
        };
        let judged = Attempted {
            call,
            key: ask.key.unwrap_or_default(),
            headers: &ask.headers,
            refusal: refusal.as_ref().map(|failure| failure.message.as_str()),
            is_of_lines: refusal.as_ref().filter(is_of_lines).is_some(),
            is_of_the_unknown: answers::is_of_the_unknown(&response),
        };
        let is_tried_otherwise = self.options.judge(&judged);
        let refusal = refusal.map(|failure| self.of_its_time(failure, ask.dated));
        match refusal {
            None => {
                if response.has_request_id() {
                    self.gives_ids.store(true, Ordering::Relaxed);
                }
                Ok(response)
            }
            Some(failure) if self.is_of_another(&response) => Err(of_another(failure)),
            Some(failure) if is_tried_otherwise => {
                Err(Failure { kind: FailureKind::ServerFault, ..failure })
            }
            Some(failure) => {
                if matches!(failure.kind, FailureKind::Unauthorized | FailureKind::Forbidden) {
                    self.link.credential.forget();
                }
                Err(failure)
            }
        }
    }

    /// Returns whether a 404 comes from a balancer without a working storage behind it.
    fn is_of_another(&self, response: &Response) -> bool {
        response.status == 404
            && self.gives_ids.load(Ordering::Relaxed)
            && !response.has_request_id()
            && wire::error(&response.body).is_none()
    }

    /// When the clocks differ by more than signatures tolerate, a refusal may be due to that: the next
    /// attempt is signed with the storage's time. The answer to a HEAD has no body that could say so.
    fn of_its_time(&self, failure: Failure, dated: i64) -> Failure {
        if !matches!(failure.status, Some(400 | 401 | 403)) {
            return failure;
        }
        let Some(by) = self.link.account.correct_signing(dated) else { return failure };
        let (minutes, way) =
            (by.unsigned_abs() / 60_000_000_000, if by > 0 { "behind" } else { "ahead of" });
        let message = format!(
            "{}; this machine's clock is {minutes} min {way} the storage's, by which requests are \
             signed from here on",
            failure.message
        );
        Failure { kind: FailureKind::ServerFault, message, ..failure }
    }

    async fn signed(
        &self,
        method: &Method,
        ask: &mut S3Request<'_>,
    ) -> Result<(Url, HeaderMap), Failure> {
        let keys = self.link.credential.keys().await?;
        ask.dated = self.link.account.signing_offset();
        let at = WallTime(self.link.time.now().wall.0.saturating_add(ask.dated));
        let (url, mut lines) = (self.addressing.url(ask), ask.headers.clone());
        if self.requester_pays {
            lines.push(("x-amz-request-payer".to_owned(), "requester".to_owned()));
        }
        let region = self.addressing.region();
        let signing = Signing { service: "s3", region, keys: &keys, at };
        let lines = signing.lines(method, &url, lines, UNSIGNED);
        let lines = lines.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        // They are ours: an unsendable one will never be sendable.
        let map = header_map(lines).map_err(|_| {
            Failure::new(FailureKind::BadRequest, "a header of the request cannot be sent")
        })?;
        Ok((url, map))
    }

    /// Returns the condition that nothing but the file to be replaced may be overwritten, where it
    /// is wanted and supported.
    fn condition(&self, begun: &BeginRequest) -> Vec<(String, String)> {
        match &begun.replaces {
            // It has no ETag to name, and was checked just before.
            Some(etag) if etag.as_str().is_empty() => Vec::new(),
            Some(etag) => vec![("if-match".to_owned(), format!("\"{etag}\""))],
            None if begun.overwrite => Vec::new(),
            None => vec![("if-none-match".to_owned(), "*".to_owned())],
        }
    }
}

impl Platform for S3 {
    fn traits(&self) -> Traits {
        TRAITS
    }

    fn check_access(&self) -> Answer<'_, ()> {
        Box::pin(self.check())
    }

    fn check_rights(&self) -> Answer<'_, Vec<RightFound>> {
        Box::pin(self.rights())
    }

    fn news(&self) -> Vec<(Learned, String)> {
        self.options.news()
    }

    fn know(&self, what: Learned) {
        self.options.leave_out(what);
    }

    fn known(&self) -> Vec<Learned> {
        self.options.left_out()
    }

    fn locate<'a>(&'a self, target: &'a Target) -> Answer<'a, Option<RemoteFile>> {
        Box::pin(self.locate_object(target))
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

    fn list_open<'a>(&'a self, below: &'a str) -> Answer<'a, Option<Vec<OpenUpload>>> {
        Box::pin(self.open_uploads(below))
    }

    fn put_part<'a>(&'a self, request: &'a PartRequest, body: PartBody) -> Answer<'a, Stored> {
        Box::pin(self.put(request, body))
    }

    fn put_whole<'a>(&'a self, request: &'a WholeRequest, body: PartBody) -> Answer<'a, Whole> {
        Box::pin(self.put_whole_object(request, body))
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
        Box::pin(self.inspect_object(file))
    }

    fn read_back<'a>(
        &'a self,
        file: &'a RemoteFileId,
        part_size: PartSize,
    ) -> Answer<'a, Option<RemoteFile>> {
        Box::pin(self.read_object_back(file, part_size))
    }

    fn abort<'a>(&'a self, remote: &'a RemoteUploadId) -> Answer<'a, ()> {
        Box::pin(self.abort_upload(remote))
    }
}

#[cfg(test)]
mod tests;

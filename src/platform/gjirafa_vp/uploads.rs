//! One upload at Gjirafa VP, from begin to complete or abort.
//!
//! Owns the sequence of calls for each operation; see [`crate::platform::contract`] for what is true
//! when an answer is lost. An empty file goes by one request, for storages take no empty part there;
//! everything else is a multipart upload, which alone can be resumed.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::json;

use super::addresses::{Found, Signed};
use super::wire::{self, Resource, resource};
use super::{Call, GjirafaVp, PART_COUNT_MAX};
use crate::model::{
    Completion, ETag, Failure, FailureKind, RemoteFile, RemotePart, RemoteUpload, RemoteUploadId,
    WallTime,
};
use crate::platform::answer::{answered, classify_storage};
use crate::platform::contract::{BeginRequest, CompleteRequest, PartBody, PartRequest};

/// An address is not used this close to its end.
const EXPIRY_MARGIN: Duration = Duration::from_mins(10);
/// The upload of the check, which exists nowhere.
const PROBE: &str = "dropferry-check";

impl GjirafaVp {
    /// Asks for something harmless: what is not there is not there for those who may ask.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        unless_gone(self.listing(PROBE).await).map(drop)
    }

    pub(super) async fn begin_upload(
        &self,
        request: &BeginRequest,
    ) -> Result<RemoteUpload, Failure> {
        let part_count = request.part_size.count_for(request.size);
        let part_count = part_count.filter(|count| *count <= PART_COUNT_MAX).ok_or_else(|| {
            Failure::new(FailureKind::BadRequest, "the file makes too many parts")
        })?;
        let id = match request.size.0 {
            0 => self.begin_single(request).await?,
            _ => self.begin_multipart(request, part_count).await?,
        };
        Ok(RemoteUpload { id, part_size: request.part_size, part_count, sequential: false })
    }

    async fn begin_single(&self, request: &BeginRequest) -> Result<RemoteUploadId, Failure> {
        let begun: wire::SingleBegun =
            self.call(Call::Single, Some(wire::single_body(request))).await?;
        let key = wire::usable(Some(&begun.request_key))?;
        let urls = [(1, wire::storage_url(&begun.url)?)].into();
        self.addresses.keep(key, Signed { urls, expires_at: WallTime(i64::MAX) }, None);
        Ok(wire::single_id(key))
    }

    async fn begin_multipart(
        &self,
        request: &BeginRequest,
        part_count: u32,
    ) -> Result<RemoteUploadId, Failure> {
        let body = wire::begin_body(request, part_count);
        let begun: wire::Begun = self.call(Call::Begin, Some(body)).await?;
        let id = RemoteUploadId::new(wire::usable(begun.request_key.as_deref())?);
        let now = self.account.platform_time();
        match wire::signed(begun.presigned_url, Some(part_count), now) {
            Ok(signed) => self.addresses.keep(id.as_str(), signed, None),
            Err(failure) => {
                // What cannot be used is not left behind; what it was refused for is what counts.
                drop(self.abort_upload(&id).await);
                return Err(failure);
            }
        }
        Ok(id)
    }

    /// Has the parts of an upload signed anew, which only an open one is.
    async fn resume(&self, key: &str) -> Result<(), Failure> {
        let body = wire::resume_body(key);
        let begun: wire::Begun = self.call(Call::Resume(key), Some(body)).await?;
        if begun.request_key.is_some_and(|other| other != key) {
            return Err(wire::bad("another upload than was to be resumed"));
        }
        let signed = wire::signed(begun.presigned_url, None, self.account.platform_time())?;
        self.addresses.keep(key, signed, Some(self.time.now().monotonic));
        Ok(())
    }

    /// Resumes an upload in its turn, and tells whether it is open.
    async fn is_open(&self, key: &str) -> Result<bool, Failure> {
        let turn = self.addresses.turn(key);
        let _turn = turn.lock().await;
        unless_gone(self.resume(key).await).map(|resumed| resumed.is_some())
    }

    async fn address_of(&self, key: &str, part: u32) -> Result<Option<Found>, Failure> {
        let find = || {
            let until = self.account.platform_time().after(EXPIRY_MARGIN);
            self.addresses.find(key, part, Some(until))
        };
        if let Some(found) = find() {
            return Ok(Some(found));
        }
        let turn = self.addresses.turn(key);
        let _turn = turn.lock().await;
        if let Some(found) = find() {
            return Ok(Some(found));
        }
        self.resume(key).await?;
        Ok(self.addresses.find(key, part, None))
    }

    pub(super) async fn put(&self, request: &PartRequest, body: PartBody) -> Result<ETag, Failure> {
        let part = request.part.get();
        let (key, found) = match resource(&request.remote.id) {
            Resource::Single(key) => (key, self.addresses.find(key, part, None)),
            Resource::Multipart(key) => (key, self.address_of(key, part).await?),
        };
        // An address of one request cannot be had again; one that a resume leaves out neither.
        let found = found.ok_or_else(|| {
            Failure::new(FailureKind::UploadGone, "there is no address for the part any more")
        })?;
        let lot = found.lot();
        let response = self.http.send_part(Method::PUT, found.url, HeaderMap::new(), body).await?;
        if !matches!(response.status, 200 | 201) {
            let failure = classify_storage(&response);
            if matches!(response.status, 400 | 403 | 404) {
                self.addresses.refused(key, lot, self.time.now().monotonic);
            }
            return match (failure.kind, resource(&request.remote.id)) {
                // A resume may have moved it; only the API knows whether it is there.
                (FailureKind::UploadGone, Resource::Multipart(_)) => {
                    self.listed_parts(&request.remote).await?;
                    Err(Failure { kind: FailureKind::PartRejected, ..failure })
                }
                _ => Err(failure),
            };
        }
        let etag = ETag::from_header(response.header("etag").unwrap_or_default());
        if etag.as_str().is_empty() {
            let message = "the storage took the bytes and gave no ETag for them".to_owned();
            return Err(answered(&response, FailureKind::PartRejected, message));
        }
        Ok(etag)
    }

    async fn listing(&self, key: &str) -> Result<Vec<wire::Listed>, Failure> {
        self.call(Call::List(key), None).await
    }

    pub(super) async fn listed_parts(
        &self,
        remote: &RemoteUpload,
    ) -> Result<Option<Vec<RemotePart>>, Failure> {
        let Resource::Multipart(key) = resource(&remote.id) else { return Ok(None) };
        match self.listing(key).await {
            // Storages list a thousand at once: what is beyond them may be there.
            Ok(listed) if listed.len() == 1000 && remote.part_count > 1000 => Ok(None),
            Ok(listed) => Ok(Some(wire::whole_parts(&listed, remote))),
            Err(failure) if failure.kind == FailureKind::UploadGone => {
                if self.is_open(key).await? {
                    Ok(Some(Vec::new()))
                } else {
                    Err(failure)
                }
            }
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn complete_upload(
        &self,
        request: &CompleteRequest,
    ) -> Result<RemoteFile, Failure> {
        let key = match resource(&request.remote.id) {
            Resource::Single(key) => {
                self.succeed(key).await?;
                key
            }
            Resource::Multipart(key) => {
                let listed = match self.listing(key).await {
                    Err(failure) if failure.kind == FailureKind::UploadGone => {
                        if self.is_open(key).await? { Vec::new() } else { return Err(failure) }
                    }
                    other => other?,
                };
                self.send_complete(key, &wire::proved(request, &listed)?).await?;
                key
            }
        };
        self.addresses.remove(key);
        Ok(wire::file(key, &request.begun))
    }

    async fn send_complete(&self, key: &str, parts: &[(u32, &str)]) -> Result<(), Failure> {
        let body = wire::complete_body(key, parts);
        match self.call(Call::Complete(key), Some(body)).await? {
            true => Ok(()),
            false => Err(wire::bad("a complete that it calls a success and that is none")),
        }
    }

    /// Ends an upload of one request, or learns that there is a file.
    async fn succeed(&self, key: &str) -> Result<(), Failure> {
        let success: wire::Success = self.call(Call::Success(key), None).await?;
        match success.download_path.is_empty() {
            true => Err(wire::bad("a file that is nowhere")),
            false => Ok(()),
        }
    }

    /// Whatever still has parts and can be resumed was not completed. Otherwise the complete is
    /// repeated once, then the file is asked for; where nothing tells, nothing is concluded.
    pub(super) async fn completion_of(
        &self,
        request: &CompleteRequest,
    ) -> Result<Completion, Failure> {
        let (Resource::Multipart(key) | Resource::Single(key)) = resource(&request.remote.id);
        let done = || {
            self.addresses.remove(key);
            Ok(Completion::Done(wire::file(key, &request.begun)))
        };
        if let Resource::Multipart(_) = resource(&request.remote.id) {
            let listed = unless_gone(self.listing(key).await)?.unwrap_or_default();
            let sent = request.parts.iter().map(|part| (part.number.get(), part.etag.as_str()));
            let parts = match (listed.is_empty(), wire::proved(request, &listed)) {
                (true, _) => sent.collect(),
                // A listing may outlive the upload, but only whole: less was never completed.
                (false, Ok(parts)) if !self.is_open(key).await? => parts,
                (false, _) => return Ok(Completion::Pending),
            };
            if unless_refused(self.send_complete(key, &parts).await)?.is_some() {
                return done();
            }
            if unless_refused(self.succeed(key).await)?.is_some() {
                return done();
            }
            if listed.is_empty() && self.is_open(key).await? {
                return Ok(Completion::Pending);
            }
        } else if unless_refused(self.succeed(key).await)?.is_some() {
            return done();
        }
        let why = format!("no call tells whether {key} was completed: look for the file there");
        Ok(Completion::Unknown(why))
    }

    pub(super) async fn abort_upload(&self, id: &RemoteUploadId) -> Result<(), Failure> {
        let Resource::Multipart(key) = resource(id) else { return Ok(()) };
        self.addresses.remove(key);
        let body = json!({"requestKey": key});
        match unless_gone(self.call(Call::Abort(key), Some(body)).await)? {
            Some(true) | None => Ok(()),
            Some(false) => Err(wire::bad("an abort that it calls a success and that is none")),
        }
    }
}

/// Turns "not there" into nothing.
fn unless_gone<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match answer {
        Err(failure) if failure.kind == FailureKind::UploadGone => Ok(None),
        other => other.map(Some),
    }
}

/// Turns the platform's own word that it will not do it into nothing.
fn unless_refused<T>(answer: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match unless_gone(answer) {
        Err(failure)
            if matches!(failure.kind, FailureKind::CompleteRefused | FailureKind::BadRequest) =>
        {
            Ok(None)
        }
        other => other,
    }
}

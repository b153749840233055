//! One upload at Gjirafa VP, from begin to complete or abort.
//!
//! Owns the sequence of calls for each operation; see [`crate::platform::contract`] for what is true
//! when an answer is lost. An empty file goes by one request, for a storage may take no empty part;
//! everything else is a multipart upload, which alone can be resumed.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::addresses::Signed;
use super::wire::{self, key_of};
use super::{Call, GjirafaVp, PART_COUNT_MAX};
use crate::model::{
    Completion, ETag, Failure, FailureKind, RemoteFile, RemotePart, RemoteUpload, RemoteUploadId,
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
        unless_gone(self.call::<Value>(Call::List(PROBE), None).await).map(drop)
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
        let body = wire::single_body(request);
        let begun: wire::SingleBegun = self.call(Call::Single, Some(body)).await?;
        let key = wire::usable(Some(&begun.request_key))?;
        let url = wire::storage_url(&begun.url)?;
        self.addresses.of(key).lock().await.urls.insert(1, url);
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
        match wire::signed(begun.presigned_url, Some(part_count), self.account.platform_time()) {
            Ok(signed) => *self.addresses.of(id.as_str()).lock().await = signed,
            Err(failure) => {
                // What cannot be used is not left behind; why it cannot be is what counts.
                drop(self.abort_upload(&id).await);
                return Err(failure);
            }
        }
        Ok(id)
    }

    /// Has the parts of an upload signed anew, which only an open one is.
    async fn resume(&self, key: &str, signed: &mut Signed) -> Result<(), Failure> {
        let begun: wire::Begun = self.call(Call::Resume, Some(wire::resume_body(key))).await?;
        if begun.request_key.is_some_and(|other| other != key) {
            return Err(wire::bad("another upload than was to be resumed"));
        }
        *signed = wire::signed(begun.presigned_url, None, self.account.platform_time())?;
        signed.renewed_at = Some(self.time.now().monotonic);
        Ok(())
    }

    async fn is_open(&self, key: &str) -> Result<bool, Failure> {
        let shared = self.addresses.of(key);
        let resumed = self.resume(key, &mut *shared.lock().await).await;
        unless_gone(resumed).map(|resumed| resumed.is_some())
    }

    /// Returns the address of a part. That of a single request cannot be had again; one that a
    /// resume leaves out neither.
    async fn address_of(&self, id: &RemoteUploadId, part: u32) -> Result<Url, Failure> {
        let (key, is_single) = key_of(id);
        let shared = self.addresses.of(key);
        let mut signed = shared.lock().await;
        let until = self.account.platform_time().after(EXPIRY_MARGIN);
        let is_alive = signed.expires_at.is_none_or(|end| until <= end);
        if !(is_single || is_alive && signed.urls.contains_key(&part)) {
            self.resume(key, &mut signed).await?;
        }
        let lost = || Failure::new(FailureKind::UploadGone, "there is no address for the part");
        signed.urls.get(&part).cloned().ok_or_else(lost)
    }

    pub(super) async fn put(&self, request: &PartRequest, body: PartBody) -> Result<ETag, Failure> {
        let (id, part) = (&request.remote.id, request.part.get());
        let (key, is_single) = key_of(id);
        let url = self.address_of(id, part).await?;
        let sent = self.http.send_part(Method::PUT, url.clone(), HeaderMap::new(), body);
        let response = sent.await?;
        let etag = ETag::from_header(response.header("etag").unwrap_or_default());
        if !matches!(response.status, 200 | 201) {
            let failure = classify_storage(&response);
            if matches!(response.status, 400 | 403 | 404) {
                let now = self.time.now().monotonic;
                self.addresses.of(key).lock().await.refused(part, &url, now);
            }
            if failure.kind == FailureKind::UploadGone && !is_single {
                // A resume may have moved it: only the API knows whether it is there.
                self.listing(key).await?;
                return Err(Failure { kind: FailureKind::PartRejected, ..failure });
            }
            return Err(failure);
        }
        if etag.as_str().is_empty() {
            let message = "the storage took the bytes and gave no ETag for them".to_owned();
            return Err(answered(&response, FailureKind::PartRejected, message));
        }
        Ok(etag)
    }

    /// Lists the parts that arrived; none did of an upload that has no list and is open.
    async fn listing(&self, key: &str) -> Result<Vec<wire::Listed>, Failure> {
        match self.call(Call::List(key), None).await {
            Err(failure) if failure.kind == FailureKind::UploadGone => {
                if self.is_open(key).await? {
                    Ok(Vec::new())
                } else {
                    Err(failure)
                }
            }
            other => other,
        }
    }

    pub(super) async fn listed_parts(
        &self,
        remote: &RemoteUpload,
    ) -> Result<Option<Vec<RemotePart>>, Failure> {
        let (key, false) = key_of(&remote.id) else { return Ok(None) };
        let listed = self.listing(key).await?;
        // Storages list a thousand at once: what is beyond them may be there.
        let is_cut = listed.len() == 1000 && remote.part_count > 1000;
        Ok((!is_cut).then(|| wire::whole_parts(&listed, remote)))
    }

    pub(super) async fn complete_upload(
        &self,
        request: &CompleteRequest,
    ) -> Result<RemoteFile, Failure> {
        let (key, is_single) = key_of(&request.remote.id);
        if is_single {
            self.succeed(key).await?;
        } else {
            let listed = self.listing(key).await?;
            self.send_complete(key, &wire::proved(request, &listed)?).await?;
        }
        self.addresses.remove(key);
        Ok(wire::file(key, &request.begun))
    }

    async fn send_complete(&self, key: &str, parts: &[(u32, &str)]) -> Result<(), Failure> {
        match self.call(Call::Complete, Some(wire::complete_body(key, parts))).await? {
            true => Ok(()),
            false => Err(wire::bad("a complete that is called a success and is none")),
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

    /// What still has parts and can be resumed was not completed. Otherwise the complete is repeated
    /// once, then the file is asked for; where nothing tells, nothing is concluded.
    pub(super) async fn completion_of(
        &self,
        request: &CompleteRequest,
    ) -> Result<Completion, Failure> {
        let (key, is_single) = key_of(&request.remote.id);
        let mut is_done = false;
        if !is_single {
            let listed = unless_gone(self.call(Call::List(key), None).await)?;
            let listed: Vec<_> = listed.unwrap_or_default();
            let proved = wire::proved(request, &listed);
            // A list may outlive its upload, but only whole: what lacks a part was never completed.
            if !listed.is_empty() && (proved.is_err() || self.is_open(key).await?) {
                return Ok(Completion::Pending);
            }
            let sent = request.parts.iter().map(|part| (part.number.get(), part.etag.as_str()));
            let parts = proved.unwrap_or_else(|_| sent.collect());
            is_done = unless_refused(self.send_complete(key, &parts).await)?.is_some();
        }
        if is_done || unless_refused(self.succeed(key).await)?.is_some() {
            self.addresses.remove(key);
            return Ok(Completion::Done(wire::file(key, &request.begun)));
        }
        if !is_single && self.is_open(key).await? {
            return Ok(Completion::Pending);
        }
        let why = format!("no call tells whether {key} was completed: look for the file there");
        Ok(Completion::Unknown(why))
    }

    pub(super) async fn abort_upload(&self, id: &RemoteUploadId) -> Result<(), Failure> {
        let (key, false) = key_of(id) else { return Ok(()) };
        self.addresses.remove(key);
        let aborted = self.call(Call::Abort, Some(json!({"requestKey": key}))).await;
        match unless_gone(aborted)?.unwrap_or(true) {
            true => Ok(()),
            false => Err(wire::bad("an abort that is called a success and is none")),
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
    let refused = [FailureKind::CompleteRefused, FailureKind::BadRequest];
    match answer {
        Err(failure) if refused.contains(&failure.kind) => Ok(None),
        other => unless_gone(other),
    }
}

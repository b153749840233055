//! One upload at Gjirafa VP, from begin to complete or abort.
//!
//! Owns the sequence of calls for each operation; see [`crate::platform::contract`] for the state
//! after a lost answer. An empty file is sent in one request, because a storage may accept no empty
//! part; everything else is a multipart upload, because only that can be resumed: an interrupted
//! single request would remain, and its file begin again at every kill.

use std::future::ready;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use serde_json::{Value, json};

use super::addresses::{Address, LIFE_HOURS, Signed};
use super::wire::{self, SINGLE, key_of};
use super::{GjirafaCall, GjirafaVp, PART_COUNT_MAX, TRAITS};
use crate::model::{
    Completion, Failure, FailureKind, RemoteFile, RemoteFileId, RemotePart, RemoteUpload,
    RemoteUploadId, Stored, Traits,
};
use crate::platform::answer::{bad, classify_storage, stored, unless};
use crate::platform::contract::{
    Answer, BeginRequest, CompleteRequest, PartBody, PartRequest, Platform, RightFound,
};

/// An address is not used this close to its expiry.
const EXPIRY_MARGIN: Duration = Duration::from_mins(10);
/// The upload of the check, which does not exist.
const PROBE: &str = "dropferry-check";
/// It does not exist, or is not open any more.
const GONE: [FailureKind; 1] = [FailureKind::UploadGone];
/// The platform itself refuses it.
const REFUSED: [FailureKind; 3] =
    [FailureKind::UploadGone, FailureKind::CompleteRefused, FailureKind::BadRequest];

impl Platform for GjirafaVp {
    fn traits(&self) -> Traits {
        TRAITS
    }

    /// Sends a harmless request: only an authorised caller learns that the object does not exist.
    fn check_access(&self) -> Answer<'_, ()> {
        let listed = self.call::<Value>(GjirafaCall::List(PROBE), None);
        Box::pin(async { unless(&GONE, listed.await).map(drop) })
    }

    fn check_rights(&self) -> Answer<'_, Vec<RightFound>> {
        Box::pin(ready(Ok(vec![RightFound::untried()])))
    }

    fn begin<'a>(&'a self, request: &'a BeginRequest) -> Answer<'a, RemoteUpload> {
        Box::pin(async {
            let part_count = request.part_count()?;
            if part_count > PART_COUNT_MAX {
                return Err(Failure::new(FailureKind::BadRequest, "the file makes too many parts"));
            }
            let (name, size) = (wire::file_name(request.target.name()), request.size.0);
            let mut body = json!({"fileName": name, "contentLength": size,
                "mimeType": "application/octet-stream", "enableDuplicateCheck": false});
            let is_single = size == 0;
            if !is_single {
                // Here the length is a string.
                body["contentLength"] = size.to_string().into();
                body["partsNumber"] = part_count.into();
                body["presignedUrlExpiryTimeHours"] = LIFE_HOURS.into();
            }
            let call = if is_single { GjirafaCall::Single } else { GjirafaCall::Begin };
            let begun: wire::Begun = self.call(call, Some(body)).await?;
            let key = wire::usable(begun.request_key.as_deref())?;
            let only = |presigned_url| vec![Address { part_number: 1, presigned_url }];
            let (id, addresses) = match is_single {
                true => (format!("{SINGLE}{key}"), begun.url.map(only)),
                false => (key.to_owned(), begun.presigned_url),
            };
            let remote = request.remote(RemoteUploadId::new(id))?;
            let now = self.api.link.account.platform_time();
            let signed = Signed::take(addresses, Some(part_count), &self.api.base, now);
            if signed.is_err() {
                // An unusable upload is aborted; the reason why it is unusable is the result.
                drop(self.abort(&remote.id).await);
            }
            *self.addresses.of(key).lock().await = signed?;
            Ok(remote)
        })
    }

    fn put_part<'a>(&'a self, request: &'a PartRequest, body: PartBody) -> Answer<'a, Stored> {
        Box::pin(async move {
            let (key, is_single) = key_of(&request.remote.id);
            let (part, link) = (request.part.get(), &self.api.link);
            let url = self.address_of(key, is_single, part).await?;
            let sent = link.http.send_part(Method::PUT, url.clone(), HeaderMap::new(), body);
            let response = sent.await?;
            if matches!(response.status, 200 | 201) {
                return stored(&response);
            }
            let failure = classify_storage(&response);
            if matches!(response.status, 400 | 403 | 404) {
                let now = link.time.now().monotonic;
                self.addresses.of(key).lock().await.refused(part, &url, now);
            }
            if failure.kind == FailureKind::UploadGone && !is_single {
                // A resume may have replaced the addresses: only the API knows whether the upload exists.
                self.listing(key).await?;
                return Err(Failure { kind: FailureKind::PartRejected, ..failure });
            }
            Err(failure)
        })
    }

    fn list_parts<'a>(&'a self, remote: &'a RemoteUpload) -> Answer<'a, Option<Vec<RemotePart>>> {
        Box::pin(async {
            let (key, false) = key_of(&remote.id) else { return Ok(None) };
            self.listing(key).await.map(|listed| Some(wire::whole_parts(&listed, remote)))
        })
    }

    fn complete<'a>(&'a self, request: &'a CompleteRequest) -> Answer<'a, RemoteFile> {
        Box::pin(async {
            let (key, is_single) = key_of(&request.remote.id);
            if is_single {
                self.succeed(key).await?;
            } else {
                let listed = self.listing(key).await?;
                self.put_together(key, &wire::proved(request, &listed)?).await?;
            }
            self.addresses.remove(key);
            Ok(wire::file(key, &request.begun))
        })
    }

    /// An upload that still has parts and can be resumed was not completed. Otherwise the complete
    /// is repeated once, then the file is asked for; without an answer, nothing is concluded.
    fn find_completed<'a>(&'a self, request: &'a CompleteRequest) -> Answer<'a, Completion> {
        Box::pin(async {
            let (key, is_single) = key_of(&request.remote.id);
            let mut is_done = false;
            if !is_single {
                let listed = unless(&GONE, self.call(GjirafaCall::List(key), None).await)?;
                let listed: Vec<_> = listed.unwrap_or_default();
                let proved = wire::proved(request, &listed);
                // A list may outlive its upload, but only a complete one.
                if !listed.is_empty() && (proved.is_err() || self.is_open(key).await?) {
                    return Ok(Completion::Pending);
                }
                let sent = request.parts.iter().map(|part| (part.number.get(), part.etag.as_str()));
                let parts = proved.unwrap_or_else(|_| sent.collect());
                is_done = unless(&REFUSED, self.put_together(key, &parts).await)?.is_some();
            }
            if is_done || unless(&REFUSED, self.succeed(key).await)?.is_some() {
                self.addresses.remove(key);
                return Ok(Completion::Done(wire::file(key, &request.begun)));
            }
            if !is_single && self.is_open(key).await? {
                return Ok(Completion::Pending);
            }
            let why = format!("no call tells whether {key} was completed: look for the file there");
            Ok(Completion::Unknown(why))
        })
    }

    /// There is no call that returns a file. The answer is what the listing before complete proved,
    /// kept in the id; whether the file still exists is unknown.
    fn inspect<'a>(&'a self, file: &'a RemoteFileId) -> Answer<'a, Option<RemoteFile>> {
        Box::pin(std::future::ready(Ok(wire::remembered(file))))
    }

    fn abort<'a>(&'a self, id: &'a RemoteUploadId) -> Answer<'a, ()> {
        Box::pin(async {
            let (key, false) = key_of(id) else { return Ok(()) };
            self.addresses.remove(key);
            unless(&GONE, self.done(GjirafaCall::Abort, json!({"requestKey": key})).await).map(drop)
        })
    }
}

impl GjirafaVp {
    /// Renews the signatures of an upload's parts, which works only for an open one.
    async fn resume(&self, key: &str, signed: &mut Signed) -> Result<(), Failure> {
        let body = json!({"requestKey": key, "presignedUrlExpiryTimeHours": LIFE_HOURS});
        let begun: wire::Begun = self.call(GjirafaCall::Resume, Some(body)).await?;
        if begun.request_key.is_some_and(|other| other != key) {
            return Err(bad("another upload than was to be resumed"));
        }
        let now = self.api.link.account.platform_time();
        *signed = Signed::take(begun.presigned_url, None, &self.api.base, now)?;
        signed.renewed_at = Some(self.api.link.time.now().monotonic);
        Ok(())
    }

    async fn is_open(&self, key: &str) -> Result<bool, Failure> {
        let shared = self.addresses.of(key);
        let resumed = self.resume(key, &mut *shared.lock().await).await;
        unless(&GONE, resumed).map(|resumed| resumed.is_some())
    }

    /// Returns the address of a part. That of a single request cannot be renewed, nor one that a
    /// resume leaves out.
    async fn address_of(&self, key: &str, is_single: bool, part: u32) -> Result<Url, Failure> {
        let shared = self.addresses.of(key);
        let mut signed = shared.lock().await;
        let until = self.api.link.account.platform_time().after(EXPIRY_MARGIN);
        let is_alive = signed.expires_at.is_none_or(|end| until <= end);
        if !(is_single || is_alive && signed.urls.contains_key(&part)) {
            self.resume(key, &mut signed).await?;
        }
        let lost = || Failure::new(FailureKind::UploadGone, "there is no address for the part");
        signed.urls.get(&part).cloned().ok_or_else(lost)
    }

    /// Lists the parts that arrived; an open upload without a list has none.
    async fn listing(&self, key: &str) -> Result<Vec<wire::GjirafaPart>, Failure> {
        let listed: Result<_, Failure> = self.call(GjirafaCall::List(key), None).await;
        let is_gone = listed.as_ref().is_err_and(|failure| GONE.contains(&failure.kind));
        if is_gone && self.is_open(key).await? { Ok(Vec::new()) } else { listed }
    }

    /// Completes, without permitting missing parts.
    async fn put_together(&self, key: &str, parts: &[(u32, &str)]) -> Result<(), Failure> {
        let part = |(number, etag): &(u32, &str)| json!({"partNumber": number, "eTag": etag});
        let parts: Vec<_> = parts.iter().map(part).collect();
        let body = json!({"requestKey": key, "allowPartialComplete": false, "parts": parts});
        self.done(GjirafaCall::Complete, body).await
    }

    /// Makes a call whose result says whether it succeeded.
    async fn done(&self, call: GjirafaCall<'_>, body: Value) -> Result<(), Failure> {
        let is_done: bool = self.call(call, Some(body)).await?;
        is_done.then_some(()).ok_or_else(|| bad("a success that is none"))
    }

    /// Ends an upload of one request, or learns that the file exists.
    async fn succeed(&self, key: &str) -> Result<(), Failure> {
        let success: Value = self.call(GjirafaCall::Success(key), None).await?;
        let is_somewhere = success["downloadPath"].as_str().is_some_and(|path| !path.is_empty());
        is_somewhere.then_some(()).ok_or_else(|| bad("a file that is nowhere"))
    }
}

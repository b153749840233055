//! One upload at S3, from begin to complete or abort.
//!
//! Owns the sequence of calls for each operation; see [`crate::platform::contract`] for the state
//! after a lost answer. Another writer's upload on our key differs from one of ours with a lost
//! answer only by its time: only an upload that was begun since our intent counts.

use reqwest::Method;

use super::address::{Resource, key_of, resource, single_id, upload_id};
use super::answers::S3Call;
use super::objects::{is_hidden, is_replaced, version_of};
use super::rights::PROBE;
use super::{Encryption, S3, S3Request, metadata, wire};
use crate::model::{
    Completion, Failure, FailureKind, Learned, OpenUpload, PartNumber, RemoteFile, RemoteFileId,
    RemotePart, RemoteUpload, RemoteUploadId, Stored, WallTime,
};
use crate::platform::answer::{is_keyed, stored, told, unless};
use crate::platform::contract::{BeginRequest, CompleteRequest, PartBody, PartRequest};
use crate::platform::mark;

/// The part size, stored with each object of many parts: its ETag is meaningless without it.
pub(super) const PART_SIZE_HEADER: &str = "x-amz-meta-dropferry-part-size";
/// The token of our request, stored with each object.
pub(super) const TOKEN_HEADER: &str = "x-amz-meta-dropferry-upload";
/// Limit of pages: ten thousand parts are ten pages.
const PAGES_MAX: usize = 20;
const PAGE_PARTS: u32 = 1000;

impl S3 {
    pub(super) async fn begin_upload(
        &self,
        request: &BeginRequest,
    ) -> Result<RemoteUpload, Failure> {
        let key = key_of(&request.target)?;
        if request.part_count()? > 1 {
            return self.create(&key, request).await;
        }
        request.remote(single_id(&key, &request.token))
    }

    /// Creates an upload of many parts.
    pub(super) async fn create(
        &self,
        key: &str,
        request: &BeginRequest,
    ) -> Result<RemoteUpload, Failure> {
        let mut headers = self.object_headers(request)?;
        headers.push((PART_SIZE_HEADER.to_owned(), request.part_size.get().to_string()));
        if !request.token.is_empty() {
            headers.push((TOKEN_HEADER.to_owned(), request.token.clone()));
        }
        let ask = S3Request::object(key).query("uploads", "").headers(headers);
        let response = self.call(S3Call::Create, Method::POST, ask).await?;
        let id = wire::created(&response.body).ok_or_else(|| bad("no id of the new upload"))?;
        request.remote(upload_id(key, &id))
    }

    /// Returns the headers of a new object: type, class, ACL, metadata, tags, encryption.
    pub(super) fn object_headers(
        &self,
        request: &BeginRequest,
    ) -> Result<Vec<(String, String)>, Failure> {
        let mut headers = vec![("content-type".to_owned(), "application/octet-stream".to_owned())];
        let said =
            [("x-amz-storage-class", &self.object.storage_class), ("x-amz-acl", &self.object.acl)];
        let said = said.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        headers.extend(said.map(|(name, value)| (name.to_owned(), value)));
        for (key, value) in &request.description.metadata {
            let value = metadata::header_value(value).into_owned();
            headers.push((format!("x-amz-meta-{}", key.to_lowercase()), value));
        }
        if !request.description.tags.is_empty() {
            let tags = metadata::tagging(&request.description.tags);
            headers.push(("x-amz-tagging".to_owned(), tags));
        }
        let encryption = |end: &str| format!("x-amz-server-side-encryption{end}");
        match &self.encryption {
            Encryption::Bucket => {}
            Encryption::Storage => headers.push((encryption(""), "AES256".to_owned())),
            Encryption::Kms(key) => {
                headers.push((encryption(""), "aws:kms".to_owned()));
                let key = key.iter().cloned();
                headers.extend(key.map(|key| (encryption("-aws-kms-key-id"), key)));
            }
            Encryption::Customer(_) => headers.extend(self.customer_key()?),
        }
        Ok(headers)
    }

    pub(super) async fn find_uploads(
        &self,
        request: &BeginRequest,
        since: WallTime,
    ) -> Result<Vec<RemoteUpload>, Failure> {
        if request.part_count()? == 1 {
            return Ok(Vec::new());
        }
        let key = key_of(&request.target)?;
        let mut found = self.uploads_of(&key).await?;
        let is_since = |at| self.link.account.is_since(at, since);
        found.retain(|upload| upload.initiated_at.is_some_and(is_since));
        found.sort_by_key(|upload| std::cmp::Reverse(upload.initiated_at));
        found.iter().map(|listed| request.remote(upload_id(&key, &listed.id))).collect()
    }

    /// Lists the uploads in progress on a key; none where the storage cannot list them.
    pub(super) async fn uploads_of(&self, key: &str) -> Result<Vec<wire::Listed>, Failure> {
        let mut found = self.uploads_below(key).await?.unwrap_or_default();
        found.retain(|upload| upload.key == key);
        Ok(found)
    }

    /// Lists the uploads in progress whose keys have this prefix, except those of checks.
    pub(super) async fn open_uploads(
        &self,
        below: &str,
    ) -> Result<Option<Vec<OpenUpload>>, Failure> {
        let open = |listed: wire::Listed| OpenUpload {
            id: upload_id(&listed.key, &listed.id),
            begun_at: listed.initiated_at,
            place: listed.key,
            size: None,
        };
        let found = self.uploads_below(below).await?;
        let others = |found: Vec<wire::Listed>| {
            found.into_iter().filter(|upload| !is_of_a_check(&upload.key)).map(open).collect()
        };
        Ok(found.map(others))
    }

    /// Lists the uploads in progress whose keys have this prefix; `None` where the storage cannot.
    async fn uploads_below(&self, prefix: &str) -> Result<Option<Vec<wire::Listed>>, Failure> {
        let mut found = Vec::new();
        let mut next: Option<(String, String)> = None;
        for _ in 0..PAGES_MAX {
            let (key_marker, id_marker) = next.clone().unwrap_or_default();
            let mut ask = S3Request::default().with_encoded_names();
            if next.is_some() {
                ask = ask.query("key-marker", key_marker);
            }
            ask = ask.query("prefix", prefix);
            if next.is_some() {
                ask = ask.query("upload-id-marker", id_marker);
            }
            let ask = ask.query("uploads", "");
            let response = match self.call(S3Call::General, Method::GET, ask).await {
                Err(failure) if matches!(failure.status, Some(405 | 501)) => return Ok(None),
                other => other?,
            };
            let page = wire::uploads(&response.body).ok_or_else(|| bad("no list of uploads"))?;
            found.extend(page.uploads);
            match page.next {
                Some(marker) if Some(&marker) > next.as_ref() => next = Some(marker),
                Some(_) | None => break,
            }
        }
        Ok(Some(found))
    }

    pub(super) async fn put(
        &self,
        request: &PartRequest,
        body: PartBody,
    ) -> Result<Stored, Failure> {
        let (key, upload) = match resource(&request.remote.id)? {
            Resource::Single(key, token) => {
                return self.put_only_part(key, token, request.only()?, body).await;
            }
            Resource::Upload(key, upload) => (key, upload),
        };
        let mut headers = self.customer_key()?;
        headers.extend(digest_header(&body));
        let ask = S3Request::object(key)
            .query("partNumber", request.part.to_string())
            .query("uploadId", upload)
            .headers(headers);
        let response = self.send(S3Call::Upload, ask, body).await?;
        let answered = stored(&response);
        if answered.is_ok() || self.options.left_out().contains(&Learned::NoPartLists) {
            return answered;
        }
        // Some gateways omit the ETag: the list of parts has it.
        let page = self.page_of_parts(key, upload, request.part.get() - 1, 1).await;
        let listed = page.ok().and_then(|page| page.parts).unwrap_or_default();
        let part = listed.into_iter().find(|part| part.number == request.part);
        answered.or_else(|failure| match part {
            Some(part) => {
                self.options.learn_no_etags(&failure);
                Ok(Stored { etag: part.etag, ..told(&response) })
            }
            None => Err(failure),
        })
    }

    /// Lists the parts of an upload; `None` where the storage lists none, or not all of them: then
    /// our rows count.
    pub(super) async fn listed_parts(
        &self,
        remote: &RemoteUpload,
    ) -> Result<Option<Vec<RemotePart>>, Failure> {
        let (key, upload) = match resource(&remote.id)? {
            Resource::Single(key, token) => {
                let ours = self.ours(key, token).await?;
                let number = PartNumber::from_index(0);
                let part =
                    |(stored, _): (Stored, _)| RemotePart { number, etag: stored.etag, note: None };
                return Ok(Some(ours.map(part).into_iter().collect()));
            }
            Resource::Upload(key, upload) => (key, upload),
        };
        if self.options.left_out().contains(&Learned::NoPartLists) {
            return Ok(None);
        }
        let listed = self.parts_of(key, upload).await;
        let refused = listed.as_ref().err().filter(|failure| is_list_refused(failure));
        match (refused, &listed) {
            (Some(refused), _) => {
                self.options.judge_list(Some(&refused.message));
                return Ok(None);
            }
            (None, Ok(_)) => self.options.judge_list(None),
            (None, Err(_)) => {}
        }
        listed
    }

    /// Lists the parts of an upload with many.
    pub(super) async fn parts_of(
        &self,
        key: &str,
        upload: &str,
    ) -> Result<Option<Vec<RemotePart>>, Failure> {
        let mut found = Vec::new();
        let mut marker = 0;
        for _ in 0..PAGES_MAX {
            let page = self.page_of_parts(key, upload, marker, PAGE_PARTS).await?;
            let Some(parts) = page.parts else { return Ok(None) };
            found.extend(parts);
            match page.next {
                Some(next) if next > marker => marker = next,
                // The pages repeat: our rows count.
                Some(_) => return Ok(None),
                None => return Ok(Some(found)),
            }
        }
        Ok(None)
    }

    /// Lists some parts of an upload, those after a number.
    async fn page_of_parts(
        &self,
        key: &str,
        upload: &str,
        after: u32,
        count: u32,
    ) -> Result<wire::Parts, Failure> {
        let mut ask = S3Request::object(key).query("max-parts", count.to_string());
        if after > 0 {
            ask = ask.query("part-number-marker", after.to_string());
        }
        let ask = ask.query("uploadId", upload).headers(self.customer_key()?);
        let response = self.call(S3Call::Parts, Method::GET, ask).await?;
        wire::parts(&response.body).ok_or_else(|| bad("no list of parts"))
    }

    pub(super) async fn complete_upload(
        &self,
        request: &CompleteRequest,
    ) -> Result<RemoteFile, Failure> {
        let (key, upload) = match resource(&request.remote.id)? {
            Resource::Single(key, token) => {
                let lost = || {
                    let message = "the object that was sent is not there";
                    Failure::new(FailureKind::CompleteRefused, message)
                };
                return self.ours(key, token).await?.map(|(_, file)| file).ok_or_else(lost);
            }
            Resource::Upload(key, upload) => (key, upload),
        };
        self.look_before_complete(key, request).await?;
        let mut headers = self.condition(&request.begun);
        headers.push(("content-type".to_owned(), "application/xml".to_owned()));
        headers.push(("x-amz-mp-object-size".to_owned(), request.begun.size.0.to_string()));
        let body = wire::complete_body(&request.parts).into();
        let ask = S3Request {
            body: Some(body),
            ..S3Request::object(key).query("uploadId", upload).headers(headers)
        };
        let response = self.call(S3Call::Complete, Method::POST, ask).await?;
        let etag = wire::completed(&response.body)
            .ok_or_else(|| bad("something else than a completed upload"))?;
        self.names.take(key);
        let (size, part_size) = (request.begun.size, request.remote.part_size);
        let sent = wire::mark_of_parts(&request.parts, part_size).filter(|_| !is_keyed(&response));
        let mark = mark::of_etag(&etag, size, Some(part_size.get())).filter(|_| sent.is_some());
        // A digest of the same parts proves their length.
        let size = (mark.is_some() && mark == sent).then_some(size);
        let file = RemoteFile::known_as(RemoteFileId::new(key), request.begun.target.name(), size);
        let mark = mark.filter(|_| size.is_some());
        Ok(RemoteFile { mark, etag: Some(etag), version: version_of(&response), ..file })
    }

    /// Checks the name again: not every storage supports the condition that prevents an overwrite.
    /// An object that equals our parts may be ours, of a complete with a lost answer: then the
    /// storage decides about completing again.
    async fn look_before_complete(
        &self,
        key: &str,
        request: &CompleteRequest,
    ) -> Result<(), Failure> {
        if request.begun.overwrite || self.is_replaced(key, request).await? {
            return Ok(());
        }
        let found = match self.inspect_object(&RemoteFileId::new(key)).await {
            // Without permission to list, a missing object looks like a forbidden one.
            Err(failure) if is_hidden(&failure) => None,
            other => other?,
        };
        let Some(found) = found else { return Ok(()) };
        let sent = wire::mark_of_parts(&request.parts, request.remote.part_size);
        if found.size == Some(request.begun.size) && found.mark.is_some() && found.mark == sent {
            return Ok(());
        }
        let message = "an object of that name is there";
        Err(Failure::new(FailureKind::NameTaken, message))
    }

    /// Returns whether the existing object is the one that this upload replaces.
    async fn is_replaced(&self, key: &str, request: &CompleteRequest) -> Result<bool, Failure> {
        if request.begun.replaces.is_none() {
            return Ok(false);
        }
        let found = self.head(key).await?;
        Ok(found.is_some_and(|found| is_replaced(&request.begun, &found)))
    }

    /// An upload that is gone was completed if the object has the ETag of its parts, or our token,
    /// or, where ETags prove nothing, our size and a time since the intent. A list of its parts
    /// shows whether it is gone, else completing once more.
    pub(super) async fn completion_of(
        &self,
        request: &CompleteRequest,
    ) -> Result<Completion, Failure> {
        let (key, upload) = match resource(&request.remote.id)? {
            Resource::Single(key, token) => {
                let ours = self.ours(key, token).await?;
                return Ok(ours.map_or(Completion::Pending, |(_, file)| Completion::Done(file)));
            }
            Resource::Upload(key, upload) => (key, upload),
        };
        let gone = [FailureKind::UploadGone];
        match self.parts_of(key, upload).await {
            Err(failure) if is_list_refused(&failure) => {
                let completed = self.complete_upload(request).await;
                if let Some(file) = unless(&gone, completed)? {
                    return Ok(Completion::Done(file));
                }
            }
            listed => {
                if unless(&gone, listed)?.is_some() {
                    return Ok(Completion::Pending);
                }
            }
        }
        let Some(found) = self.head(key).await? else { return Ok(Completion::Gone) };
        let file = self.known(key, &found).await?;
        let is_new = file.created_at.is_none_or(|at| self.link.account.is_since(at, request.since));
        let proof = file.mark.zip(wire::mark_of_parts(&request.parts, request.remote.part_size));
        // Some storages compute the ETag of the whole by another rule.
        let has_token = found.header(TOKEN_HEADER) == Some(&request.begun.token);
        let is_ours = match proof {
            Some((there, sent)) if there.part_size == sent.part_size => {
                there == sent || (has_token && is_new)
            }
            Some(_) | None => is_new,
        };
        let is_ours = is_ours && file.size == Some(request.begun.size);
        Ok(if is_ours { Completion::Done(file) } else { Completion::Gone })
    }

    pub(super) async fn abort_upload(&self, id: &RemoteUploadId) -> Result<(), Failure> {
        let Ok(Resource::Upload(key, upload)) = resource(id) else { return Ok(()) };
        let ask = S3Request::object(key).query("uploadId", upload);
        let aborted = self.call(S3Call::Upload, Method::DELETE, ask).await;
        unless(&[FailureKind::UploadGone], aborted).map(drop)
    }
}

/// Returns whether we may not list the parts of an upload, whatever else is permitted.
fn is_list_refused(failure: &Failure) -> bool {
    matches!(failure.kind, FailureKind::Forbidden | FailureKind::NotFound)
        || matches!(failure.status, Some(405 | 501))
}

fn is_of_a_check(key: &str) -> bool {
    key.rsplit('/').next().is_some_and(|name| name.starts_with(PROBE))
}

/// Returns the digest that the storage compares the bytes with.
pub(super) fn digest_header(body: &PartBody) -> Option<(String, String)> {
    body.content_md5().map(|digest| ("content-md5".to_owned(), digest))
}

fn bad(what: &str) -> Failure {
    Failure::new(FailureKind::BadAnswer, format!("the storage answered with {what}"))
}

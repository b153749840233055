//! Objects: looked at, sent in one request; and whether we may write at all.
//!
//! A file of one part is one `PutObject`: nothing is begun and nothing can be left over. A token in
//! the object's metadata says later whether it was our request that made it.

use reqwest::Method;

use super::address::{key_of, single_id, upload_id};
use super::answers::Call;
use super::uploads::{PART_SIZE_HEADER, TOKEN_HEADER};
use super::{Ask, Encryption, S3};
use crate::model::{
    ByteCount, Description, ETag, Failure, FailureKind, Md5, PartSize, RemoteFile, RemoteFileId,
    Target,
};
use crate::platform::answer::{page, parse_date, stored};
use crate::platform::contract::{BeginRequest, PartBody, Whole, WholeRequest};
use crate::platform::credential::read_secret_bytes;
use crate::platform::http::Response;
use crate::platform::mark;

/// The object of the check, which is never completed.
pub(super) const PROBE: &str = ".dropferry-check";

impl S3 {
    pub(super) async fn locate_object(
        &self,
        target: &Target,
    ) -> Result<Option<RemoteFile>, Failure> {
        match self.head(&key_of(target)?).await {
            Ok(None) => Ok(None),
            Ok(Some(response)) => self.known(&key_of(target)?, &response).await.map(Some),
            // Without permission to list, a missing object looks like a forbidden one.
            Err(failure) if failure.status == Some(403) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn inspect_object(
        &self,
        file: &RemoteFileId,
    ) -> Result<Option<RemoteFile>, Failure> {
        match self.head(file.as_str()).await? {
            Some(response) => self.known(file.as_str(), &response).await.map(Some),
            None => Ok(None),
        }
    }

    /// Asks for an object's headers; `None` when it is not there.
    pub(super) async fn head(&self, key: &str) -> Result<Option<Response>, Failure> {
        let ask = Ask::object(key).headers(self.customer_key()?);
        match self.call(Call::Head, Method::HEAD, ask).await {
            Ok(response) if is_of_a_storage(&response) => Ok(Some(response)),
            Ok(response) => Err(page(&response)),
            Err(failure) if failure.status == Some(404) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Turns an object's headers into what is known of it. An object of many parts that somebody
    /// else put there tells its part size by its first part.
    async fn known(&self, key: &str, head: &Response) -> Result<RemoteFile, Failure> {
        let size = length_of(head);
        let etag = etag_of(head);
        let mut part_size = head.header(PART_SIZE_HEADER).and_then(|text| text.parse().ok());
        if part_size.is_none() && etag.as_str().contains('-') {
            let ask = Ask::object(key).query("partNumber", "1").headers(self.customer_key()?);
            let first = self.call(Call::Head, Method::HEAD, ask).await;
            part_size = first.ok().and_then(|first| length_of(&first)).map(|length| length.0);
        }
        Ok(RemoteFile {
            id: RemoteFileId::new(key),
            name: key.rsplit('/').next().unwrap_or(key).to_owned(),
            size,
            mark: size
                .filter(|_| is_plain(head))
                .and_then(|size| mark::of_etag(&etag, size, part_size)),
            created_at: head.header("last-modified").and_then(parse_date),
        })
    }

    /// Makes an object of one part.
    async fn put_object(
        &self,
        (key, token): (&str, &str),
        begun: &BeginRequest,
        body: PartBody,
    ) -> Result<Response, Failure> {
        let mut headers = self.object_headers(begun)?;
        headers.push((TOKEN_HEADER.to_owned(), token.to_owned()));
        headers.push((PART_SIZE_HEADER.to_owned(), begun.part_size.get().to_string()));
        headers.extend(self.condition(begun.overwrite));
        headers.extend(super::uploads::digest_header(&body));
        let ask = Ask::object(key).headers(headers);
        self.send(Call::PutObject, ask, body).await
    }

    /// Sends the only part of an upload that was begun.
    pub(super) async fn put_only_part(
        &self,
        (key, token): (&str, &str),
        begun: &BeginRequest,
        body: PartBody,
    ) -> Result<ETag, Failure> {
        match self.put_object((key, token), begun, body).await {
            Ok(response) => stored(&response),
            Err(failure) => self.ours_or(failure, key, token).await.map(|(etag, _)| etag),
        }
    }

    /// Sends a whole file. What stands there under its name is looked at first where it is not known
    /// and must not be replaced: not every storage knows conditions.
    pub(super) async fn put_whole_object(
        &self,
        request: &WholeRequest,
        body: PartBody,
    ) -> Result<Whole, Failure> {
        let begun = &request.begun;
        let key = key_of(&begun.target)?;
        let whole = |(etag, file)| {
            let remote = begun.remote(single_id(&key, &begun.token))?;
            Ok(Whole { remote, etag, file })
        };
        if request.looks && !begun.overwrite && !self.is_known_free(&key).await {
            match self.head(&key).await {
                Ok(None) => {}
                Ok(Some(found)) if found.header(TOKEN_HEADER) == Some(&begun.token) => {
                    let file = self.known(&key, &found).await?;
                    return whole((etag_of(&found), file));
                }
                Ok(Some(_)) => {
                    let message = "an object of that name is there";
                    return Err(Failure::new(FailureKind::NameTaken, message));
                }
                // Without permission to list, a missing object looks like a forbidden one.
                Err(failure) if failure.status == Some(403) => {}
                Err(failure) => return Err(failure),
            }
        }
        let (length, md5) = (body.length, body.md5);
        match self.put_object((&key, &begun.token), begun, body).await {
            Ok(response) => {
                self.names.take(&key);
                let etag = stored(&response)?;
                let is_proved = md5.is_some() && Md5::parse(etag.as_str()) == md5;
                let size = (is_proved && is_plain(&response)).then_some(length);
                let mark =
                    size.and_then(|size| mark::of_etag(&etag, size, Some(begun.part_size.get())));
                let name = &begun.target.name;
                let file = RemoteFile::known_as(RemoteFileId::new(&key), name, size);
                whole((etag, RemoteFile { mark, ..file }))
            }
            Err(failure) => whole(self.ours_or(failure, &key, &begun.token).await?),
        }
    }

    /// Returns the object when its name is taken by an earlier attempt of ours that arrived without our
    /// learning of it.
    async fn ours_or(
        &self,
        failure: Failure,
        key: &str,
        token: &str,
    ) -> Result<(ETag, RemoteFile), Failure> {
        if failure.kind != FailureKind::NameTaken {
            return Err(failure);
        }
        self.ours(key, token).await?.ok_or(failure)
    }

    /// Returns the object when our request made it.
    pub(super) async fn ours(
        &self,
        key: &str,
        token: &str,
    ) -> Result<Option<(ETag, RemoteFile)>, Failure> {
        let Some(response) = self.head(key).await? else { return Ok(None) };
        if response.header(TOKEN_HEADER) != Some(token) {
            return Ok(None);
        }
        Ok(Some((etag_of(&response), self.known(key, &response).await?)))
    }

    /// Returns the headers that name a customer's key, where there is one.
    pub(super) fn customer_key(&self) -> Result<Vec<(String, String)>, Failure> {
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD;
        use md5::{Digest, Md5};
        let Encryption::Customer(file) = &self.encryption else { return Ok(Vec::new()) };
        let unusable = |why: &str| {
            let message = format!("the customer key in {} cannot be used: {why}", file.display());
            Failure::new(FailureKind::Unauthorized, message)
        };
        let key = read_secret_bytes(file, true).map_err(|error| unusable(&error.to_string()))?;
        if key.len() != 32 {
            return Err(unusable("it is not 32 bytes long"));
        }
        let encoded = STANDARD.encode(&key);
        crate::telemetry::register_secret(&encoded);
        let name = |end: &str| format!("x-amz-server-side-encryption-customer-{end}");
        Ok(vec![
            (name("algorithm"), "AES256".to_owned()),
            (name("key"), encoded),
            (name("key-md5"), STANDARD.encode(Md5::digest(&key))),
        ])
    }

    /// Does what an upload does, on an object of its own that is never completed, and names the
    /// permission that is missing. What an earlier check left behind, for its answer was lost, is
    /// removed; so another machine may remove ours meanwhile.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        let target = Target { folders: Vec::new(), name: PROBE.into() };
        let part_size = PartSize::new(super::TRAITS.limits.size_min.0)
            .ok_or_else(|| Failure::new(FailureKind::LocalFault, "parts of no length"))?;
        let request = BeginRequest {
            target,
            size: ByteCount(0),
            part_size,
            overwrite: false,
            description: Description::default(),
            token: String::new(),
        };
        for left in self.uploads_of(PROBE).await? {
            self.abort_upload(&upload_id(PROBE, &left.id)).await?;
        }
        let created = self.create(PROBE, &request).await?;
        let listed = self.listed_parts(&created).await;
        self.abort_upload(&created.id).await?;
        match listed {
            Err(failure) if failure.kind != FailureKind::UploadGone => Err(failure),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// A head has no body by which a portal's page could be told: a storage names the object's ETag, or
/// the request.
fn is_of_a_storage(head: &Response) -> bool {
    head.header("etag").is_some() || head.header("x-amz-request-id").is_some()
}

/// Tells whether an object's ETag is a digest of its content: not with keys of KMS or of the customer.
fn is_plain(response: &Response) -> bool {
    let encryption = |end: &str| response.header(&format!("x-amz-server-side-encryption{end}"));
    encryption("-customer-algorithm").is_none()
        && !encryption("").unwrap_or_default().starts_with("aws:kms")
}

fn etag_of(response: &Response) -> ETag {
    ETag::from_header(response.header("etag").unwrap_or_default())
}

fn length_of(response: &Response) -> Option<ByteCount> {
    response.header("content-length")?.trim().parse().ok().and_then(ByteCount::of_file)
}

//! Objects: looked at, sent in one request; and whether we may write at all.
//!
//! A file of one part is one `PutObject`: nothing is begun and nothing can be left over. A token in
//! the object's metadata says later whether it was our request that made it.

use reqwest::Method;

use super::address::{key_of, upload_id};
use super::answers::Call;
use super::uploads::{PART_SIZE_HEADER, TOKEN_HEADER};
use super::{Ask, Encryption, S3};
use crate::model::{
    ByteCount, Description, ETag, Failure, FailureKind, PartSize, RemoteFile, RemoteFileId, Target,
};
use crate::platform::answer::{page, parse_date, stored};
use crate::platform::contract::{BeginRequest, PartBody};
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
        let etag = ETag::from_header(head.header("etag").unwrap_or_default());
        let mut part_size = head.header(PART_SIZE_HEADER).and_then(|text| text.parse().ok());
        if part_size.is_none() && etag.as_str().contains('-') {
            let ask = Ask::object(key).query("partNumber", "1").headers(self.customer_key()?);
            let first = self.call(Call::Head, Method::HEAD, ask).await;
            part_size = first.ok().and_then(|first| length_of(&first)).map(|length| length.0);
        }
        let is_plain = head.header("x-amz-server-side-encryption-customer-algorithm").is_none()
            && !head.header("x-amz-server-side-encryption").unwrap_or("").starts_with("aws:kms");
        Ok(RemoteFile {
            id: RemoteFileId::new(key),
            name: key.rsplit('/').next().unwrap_or(key).to_owned(),
            size,
            mark: size.filter(|_| is_plain).and_then(|size| mark::of_etag(&etag, size, part_size)),
            created_at: head.header("last-modified").and_then(parse_date),
        })
    }

    /// Sends a file of one part.
    pub(super) async fn put_object(
        &self,
        (key, token): (&str, &str),
        begun: &BeginRequest,
        body: PartBody,
    ) -> Result<ETag, Failure> {
        let mut headers = self.object_headers(begun)?;
        headers.push((TOKEN_HEADER.to_owned(), token.to_owned()));
        headers.push((PART_SIZE_HEADER.to_owned(), begun.part_size.get().to_string()));
        headers.extend(self.condition(begun.overwrite));
        headers.extend(super::uploads::digest_header(&body));
        let ask = Ask::object(key).headers(headers);
        match self.send(Call::PutObject, ask, body).await {
            Ok(response) => stored(&response),
            // An earlier attempt of ours may have arrived without our learning of it.
            Err(failure) if failure.kind == FailureKind::NameTaken => {
                self.ours(key, token).await?.map(|(etag, _)| etag).ok_or(failure)
            }
            Err(failure) => Err(failure),
        }
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
        let etag = ETag::from_header(response.header("etag").unwrap_or_default());
        Ok(Some((etag, self.known(key, &response).await?)))
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
        let key = std::fs::read(file).map_err(|error| unusable(&error.to_string()))?;
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

fn length_of(response: &Response) -> Option<ByteCount> {
    response.header("content-length")?.trim().parse().ok().map(ByteCount)
}

//! Objects: looked up, or sent in one request.
//!
//! A file of one part is one `PutObject`: nothing is begun and nothing can remain. A token in the
//! object's metadata shows later whether our request created it.

use reqwest::Method;

use super::address::{key_of, single_id};
use super::answers::S3Call;
use super::uploads::{PART_SIZE_HEADER, TOKEN_HEADER};
use super::{Encryption, S3, S3Request, wire};
use crate::model::{
    ByteCount, ContentMark, Failure, FailureKind, Learned, Maker, Md5, PartNumber, PartSize,
    RemoteFile, RemoteFileId, Stored, Target, VersionId,
};
use crate::platform::answer::{answered, is_keyed, page, parse_date, stored, told};
use crate::platform::contract::{BeginRequest, PartBody, Whole, WholeRequest};
use crate::platform::http::Response;
use crate::platform::mark;
use crate::platform::secret::read_secret_bytes;

/// Bytes of an object that are read at a time.
const READ_BYTES: u64 = 1024 * 1024;

impl S3 {
    pub(super) async fn locate_object(
        &self,
        target: &Target,
    ) -> Result<Option<RemoteFile>, Failure> {
        match self.head(&key_of(target)?).await {
            Ok(None) => Ok(None),
            Ok(Some(response)) => {
                let file = self.known(&key_of(target)?, &response).await?;
                Ok(Some(RemoteFile { maker: maker_of(&response), ..file }))
            }
            // Without permission to list, a missing object looks like a forbidden one.
            Err(failure) if is_hidden(&failure) => Ok(None),
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

    /// Returns an object's headers; `None` when it does not exist.
    pub(super) async fn head(&self, key: &str) -> Result<Option<Response>, Failure> {
        let ask = S3Request::object(key).headers(self.customer_key()?);
        match self.call(S3Call::Head, Method::HEAD, ask).await {
            Ok(response) if is_of_a_storage(&response) => Ok(Some(response)),
            Ok(response) => Err(page(&response)),
            Err(failure) if failure.kind == FailureKind::NotFound => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Builds a remote file from an object's headers. Another writer's object of many parts shows
    /// its part size by its first part.
    pub(super) async fn known(&self, key: &str, head: &Response) -> Result<RemoteFile, Failure> {
        let size = match length_of(head) {
            Some(size) => Some(size),
            None => self.size_otherwise(key).await?,
        };
        let etag = told(head).etag;
        let mut part_size = head.header(PART_SIZE_HEADER).and_then(|text| text.parse().ok());
        if part_size.is_none() && etag.as_str().contains('-') {
            let ask = S3Request::object(key).query("partNumber", "1").headers(self.customer_key()?);
            let first = self.call(S3Call::Head, Method::HEAD, ask).await;
            part_size = first.ok().and_then(|first| length_of(&first)).map(|length| length.0);
        }
        Ok(RemoteFile {
            id: RemoteFileId::new(key),
            name: key.rsplit('/').next().unwrap_or(key).to_owned(),
            size,
            mark: size
                .filter(|_| !is_keyed(head))
                .and_then(|size| mark::of_etag(&etag, size, part_size)),
            created_at: head.header("last-modified").and_then(parse_date),
            etag: Some(etag).filter(|etag| !etag.as_str().is_empty()),
            version: version_of(head),
            maker: None,
        })
    }

    /// Finds the size of an object whose headers lack it, as with gateways that compress: by
    /// reading one byte, else by a list.
    async fn size_otherwise(&self, key: &str) -> Result<Option<ByteCount>, Failure> {
        let mut headers = self.customer_key()?;
        headers.push(("range".to_owned(), "bytes=0-0".to_owned()));
        let ask = S3Request::object(key).headers(headers);
        let first = self.call(S3Call::Get, Method::GET, ask).await;
        let range = first.as_ref().ok().and_then(|first| first.header("content-range"));
        let whole = range.and_then(|range| range.rsplit_once('/')?.1.trim().parse().ok());
        if whole.is_some() {
            return Ok(whole.and_then(ByteCount::of_file));
        }
        let ask = S3Request::default().with_encoded_names();
        let ask = ask.query("list-type", "2").query("max-keys", "1");
        let listed = self.call(S3Call::General, Method::GET, ask.query("prefix", key)).await;
        let size = listed.ok().and_then(|listed| wire::size_of(&listed.body, key));
        match (size, first) {
            (Some(size), _) => Ok(ByteCount::of_file(size)),
            // It may exist again later.
            (None, Err(failure)) if failure.status.is_none() => Err(failure),
            (None, _) => Ok(None),
        }
    }

    /// Creates an object of one part.
    async fn put_object(
        &self,
        key: &str,
        token: &str,
        begun: &BeginRequest,
        body: PartBody,
    ) -> Result<Response, Failure> {
        let mut headers = self.object_headers(begun)?;
        headers.push((TOKEN_HEADER.to_owned(), token.to_owned()));
        headers.push((PART_SIZE_HEADER.to_owned(), begun.part_size.get().to_string()));
        headers.extend(self.condition(begun));
        headers.extend(super::uploads::digest_header(&body));
        let ask = S3Request::object(key).headers(headers);
        self.send(S3Call::PutObject, ask, body).await
    }

    /// Sends the only part of a begun upload.
    pub(super) async fn put_only_part(
        &self,
        key: &str,
        token: &str,
        begun: &BeginRequest,
        body: PartBody,
    ) -> Result<Stored, Failure> {
        match self.put_object(key, token, begun, body).await {
            Ok(response) => match stored(&response) {
                Err(failure) => {
                    let arrived = self.arrived(&response, failure, key, begun).await;
                    arrived.map(|(stored, _)| stored)
                }
                stored => stored,
            },
            Err(failure) => self.ours_or(failure, key, token).await.map(|(stored, _)| stored),
        }
    }

    /// Sends a whole file. Its name is looked up first where it is not known, or where only one
    /// version of it may be replaced: not every storage supports conditions. An object of an
    /// earlier request of ours is returned; its content is not judged here.
    pub(super) async fn put_whole_object(
        &self,
        request: &WholeRequest,
        body: PartBody,
    ) -> Result<Whole, Failure> {
        let begun = &request.begun;
        let key = key_of(&begun.target)?;
        let remote = begun.remote(single_id(&key, &begun.token))?;
        let whole = |(stored, file)| Ok(Whole { remote, stored, file });
        let looks = request.looks
            || begun.replaces.is_some()
            || self.options.left_out().contains(&Learned::NoConditions);
        if looks && !begun.overwrite && !self.is_known_free(&key).await {
            match self.head(&key).await {
                Ok(None) => {}
                Ok(Some(found)) if is_replaced(begun, &found) => {}
                Ok(Some(found)) if found.header(TOKEN_HEADER) == Some(&begun.token) => {
                    return whole((told_of(&found), self.known(&key, &found).await?));
                }
                Ok(Some(_)) => {
                    let message = "an object of that name is there";
                    return Err(Failure::new(FailureKind::NameTaken, message));
                }
                // Without permission to list, a missing object looks like a forbidden one.
                Err(failure) if is_hidden(&failure) => {}
                Err(failure) => return Err(failure),
            }
        }
        let (length, md5) = (body.length, body.md5);
        match self.put_object(&key, &begun.token, begun, body).await {
            Ok(response) => {
                self.names.take(&key);
                let (stored, version) = (stored(&response), version_of(&response));
                let stored = match stored {
                    Ok(stored) => stored,
                    Err(failure) => {
                        return whole(self.arrived(&response, failure, &key, begun).await?);
                    }
                };
                let etag = &stored.etag;
                let is_proved = md5.is_some() && Md5::parse(etag.as_str()) == md5;
                let size = (is_proved && !stored.is_keyed).then_some(length);
                let mark =
                    size.and_then(|size| mark::of_etag(etag, size, Some(begun.part_size.get())));
                let name = begun.target.name();
                let file = RemoteFile::known_as(RemoteFileId::new(&key), name, size);
                let etag = Some(stored.etag.clone());
                whole((stored, RemoteFile { mark, etag, version, ..file }))
            }
            Err(failure) => whole(self.ours_or(failure, &key, &begun.token).await?),
        }
    }

    /// Returns the object after an answer without an ETag, as some gateways give it, if it is ours. If the
    /// look fails and the answer named the request, the storage has it: it is looked up later.
    async fn arrived(
        &self,
        response: &Response,
        failure: Failure,
        key: &str,
        begun: &BeginRequest,
    ) -> Result<(Stored, RemoteFile), Failure> {
        match self.ours(key, &begun.token).await {
            Ok(Some((stored, file))) if file.size == Some(begun.size) => {
                self.options.learn_no_etags(&failure);
                Ok((Stored { is_found: false, ..stored }, file))
            }
            Ok(_) => Err(failure),
            Err(_) if response.has_request_id() => {
                let id = RemoteFileId::new(key);
                Ok((told(response), RemoteFile::known_as(id, begun.target.name(), None)))
            }
            Err(unseen) => Err(unseen),
        }
    }

    /// Returns the object if an earlier attempt of ours created it without a known answer, and took
    /// its name.
    async fn ours_or(
        &self,
        failure: Failure,
        key: &str,
        token: &str,
    ) -> Result<(Stored, RemoteFile), Failure> {
        if failure.kind != FailureKind::NameTaken {
            return Err(failure);
        }
        self.ours(key, token).await?.ok_or(failure)
    }

    /// Returns the object if our request created it.
    pub(super) async fn ours(
        &self,
        key: &str,
        token: &str,
    ) -> Result<Option<(Stored, RemoteFile)>, Failure> {
        let Some(response) = self.head(key).await? else { return Ok(None) };
        if response.header(TOKEN_HEADER) != Some(token) {
            return Ok(None);
        }
        Ok(Some((told_of(&response), self.known(key, &response).await?)))
    }

    /// Reads an object back in pieces, all of the same version, and digests it.
    pub(super) async fn read_object_back(
        &self,
        file: &RemoteFileId,
        part_size: PartSize,
    ) -> Result<Option<RemoteFile>, Failure> {
        use md5::{Digest, Md5 as Hasher};
        let key = file.as_str();
        let Some(head) = self.head(key).await? else { return Ok(None) };
        let known = self.known(key, &head).await?;
        let Some((size, part_count)) = known
            .size
            .and_then(|size| part_size.count_for(size).map(|part_count| (size, part_count)))
        else {
            return Ok(Some(RemoteFile { mark: None, ..known }));
        };
        let mut digests = Hasher::new();
        for index in 0..part_count as usize {
            let range = part_size.range_of(PartNumber::from_index(index), size);
            let end = range.offset + range.length;
            let (mut offset, mut part) = (range.offset, Hasher::new());
            while offset < end {
                let length = (end - offset).min(READ_BYTES);
                let headers = [
                    ("range".to_owned(), format!("bytes={offset}-{}", offset + length - 1)),
                    ("if-match".to_owned(), format!("\"{}\"", told(&head).etag)),
                ];
                let headers = self.customer_key()?.into_iter().chain(headers).collect();
                let ask = S3Request::object(key).headers(headers);
                let piece = self.call(S3Call::Get, Method::GET, ask).await?;
                if piece.body.len() as u64 != length {
                    let message = "the storage gave another piece of the object than was asked for";
                    return Err(answered(&piece, FailureKind::BadAnswer, message.to_owned()));
                }
                part.update(&piece.body);
                offset += length;
            }
            digests.update(part.finalize());
        }
        let md5_of_parts = Md5(digests.finalize().into());
        Ok(Some(RemoteFile { mark: Some(ContentMark { part_size, md5_of_parts }), ..known }))
    }

    /// Returns the headers with a customer's key, where there is one.
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
}

/// Returns whether a refused look-up may concern a missing object: without permission to list, that
/// looks forbidden.
pub(super) fn is_hidden(failure: &Failure) -> bool {
    failure.status == Some(403) && failure.kind != FailureKind::ServerFault
}

/// Returns whether the existing object is the version to be replaced. One without an ETag is, if
/// our request created it.
pub(super) fn is_replaced(begun: &BeginRequest, found: &Response) -> bool {
    let etag = told(found).etag;
    let is_ours = || found.header(TOKEN_HEADER) == Some(&begun.token);
    begun.replaces.as_ref() == Some(&etag) && (!etag.as_str().is_empty() || is_ours())
}

/// A HEAD has no body that could show a portal's page: a storage's answer has the object's ETag, or
/// a request id.
fn is_of_a_storage(head: &Response) -> bool {
    head.header("etag").is_some() || head.header("x-amz-request-id").is_some()
}

/// Returns what the answer says about an object of an earlier request.
fn told_of(head: &Response) -> Stored {
    Stored { is_found: true, ..told(head) }
}

/// Returns the object version in an answer, where its bucket keeps several.
pub(super) fn version_of(response: &Response) -> Option<VersionId> {
    response.header("x-amz-version-id").map(VersionId::new)
}

fn maker_of(head: &Response) -> Option<Maker> {
    let token = head.header(TOKEN_HEADER)?.to_owned();
    Some(Maker { token, etag: told(head).etag })
}

fn length_of(response: &Response) -> Option<ByteCount> {
    response.header("content-length")?.trim().parse().ok().and_then(ByteCount::of_file)
}

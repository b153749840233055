//! Keys, addresses, and the ids of uploads.
//!
//! An upload at S3 is identified by key and id together; it is stored as the resource in every call
//! about it: `KEY?uploadId=ID`. A file of one part has no upload; it is stored as `KEY?put=TOKEN`,
//! and the token is stored with the object to prove that it is ours.

use std::time::Duration;

use reqwest::Url;

use super::{S3Request, Settings};
use crate::model::{Failure, FailureKind, RemoteUploadId, Target, WallTime};
use crate::platform::answer::parse_time;
use crate::platform::http::base_url;
use crate::platform::signature::{escaped, query};

/// Longest key, in bytes.
pub(super) const KEY_MAX: usize = 1024;
/// Between the key and the id of a multipart upload.
const UPLOAD: &str = "?uploadId=";
/// Between the key and the token of a single request.
const SINGLE: &str = "?put=";

/// How objects of one bucket are addressed.
#[derive(Debug)]
pub(super) struct Addressing {
    /// The bucket's address, without a trailing slash.
    bucket: Url,
    region: String,
}

impl Addressing {
    pub(super) fn new(settings: &Settings) -> Result<Self, Failure> {
        let mut bucket = base_url(&settings.base_url, settings.allow_plain_http)?;
        bucket.set_query(None);
        bucket.set_fragment(None);
        let bad = |why: &str| Failure::new(FailureKind::BadRequest, why);
        if settings.path_style {
            let path = format!("{}/{}", bucket.path().trim_end_matches('/'), settings.bucket);
            bucket.set_path(&path);
        } else {
            let host = bucket.host_str().ok_or_else(|| bad("base_url has no host"))?;
            let host = format!("{}.{host}", settings.bucket);
            bucket
                .set_host(Some(&host))
                .map_err(|_| bad("the bucket cannot stand in a host name: set path_style"))?;
        }
        Ok(Self { bucket, region: settings.region.clone() })
    }

    /// Returns the address of an object or of the bucket.
    pub(super) fn url(&self, ask: &S3Request<'_>) -> Url {
        let mut url = self.bucket.clone();
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{path}/{}", escaped(ask.key.unwrap_or_default(), true)));
        let query = query(ask.query.iter().map(|(name, value)| (*name, value.as_str())));
        url.set_query(Some(query.as_str()).filter(|query| !query.is_empty()));
        url
    }

    /// Returns the region in signatures.
    pub(super) fn region(&self) -> &str {
        &self.region
    }
}

/// Returns the expiry of an address that was signed by the rules of S3, old or new; `None` when it
/// has none.
pub(in crate::platform) fn signed_until(url: &Url) -> Option<WallTime> {
    let of = |name| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value);
    let seconds = |name| of(name)?.parse().ok().map(Duration::from_secs);
    let from = of("X-Amz-Date").and_then(|text| parse_time(&text));
    let end = from.zip(seconds("X-Amz-Expires")).map(|(from, life)| from.after(life));
    end.or_else(|| seconds("Expires").map(|end| WallTime(0).after(end)))
}

/// Returns the key of a file.
///
/// # Errors
/// `BadRequest` for names that storages and proxies rewrite, and for keys that are too long.
pub(super) fn key_of(target: &Target) -> Result<String, Failure> {
    let bad = |message| Err(Failure::new(FailureKind::BadRequest, message));
    if let Some(name) = target.names().find(|name| ["", ".", ".."].contains(name)) {
        return bad(format!("the name {name:?} cannot stand in a key"));
    }
    if let Some(name) = target.names().find(|name| name.contains('/')) {
        return bad(format!("the name {name:?} holds a slash"));
    }
    let key = target.path().to_owned();
    if key.len() > KEY_MAX {
        let length = key.len();
        return bad(format!("the key has {length} bytes, and S3 takes {KEY_MAX}"));
    }
    Ok(key)
}

/// The meaning of a stored id.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resource<'a> {
    /// A multipart upload: key and id.
    Upload(&'a str, &'a str),
    /// A file of one part: key and token.
    Single(&'a str, &'a str),
}

/// Parses a stored id.
///
/// # Errors
/// `UploadGone` when it is not one of ours.
pub(super) fn resource(id: &RemoteUploadId) -> Result<Resource<'_>, Failure> {
    let text = id.as_str();
    if let Some((key, upload)) = text.rsplit_once(UPLOAD) {
        return Ok(Resource::Upload(key, upload));
    }
    match text.rsplit_once(SINGLE) {
        Some((key, token)) => Ok(Resource::Single(key, token)),
        None => Err(Failure::new(FailureKind::UploadGone, "this is the id of no S3 upload")),
    }
}

pub(super) fn upload_id(key: &str, upload: &str) -> RemoteUploadId {
    RemoteUploadId::new(format!("{key}{UPLOAD}{upload}"))
}

pub(super) fn single_id(key: &str, token: &str) -> RemoteUploadId {
    RemoteUploadId::new(format!("{key}{SINGLE}{token}"))
}

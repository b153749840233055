//! What the tests of all clients start from: a way to reach a stub, and what is asked of a platform.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::account::{Account, Link};
use super::contract::{BeginRequest, CompleteRequest, PartBody, PartRequest};
use super::credential::{Credential, CredentialSource};
use super::http::stub::Stub;
use super::http::{Http, Settings, TimeSource};
use crate::model::{
    ByteCount, Description, ETag, Monotonic, Now, PartNumber, PartSize, RemotePart, RemoteUpload,
    RemoteUploadId, Target, WallTime,
};

/// A stub, and a client of it.
pub(super) struct Bench<P> {
    pub(super) stub: Stub,
    pub(super) platform: P,
    /// Holds the secret.
    pub(super) file: tempfile::NamedTempFile,
}

impl<P> Bench<P> {
    /// Method and path of every request, without what all have in common.
    pub(super) fn lines(&self, root: &str) -> Vec<String> {
        self.stub.lines().iter().map(|line| line.replace(root, "")).collect()
    }
}

/// Returns a link with a secret, and the file that holds it.
pub(super) fn link(
    secret: &str,
    calls_per_second: Option<f64>,
    time: TimeSource,
) -> (Link, tempfile::NamedTempFile) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), secret).expect("written");
    let credential = Arc::new(Credential::new(CredentialSource::File(file.path().into())));
    let inactivity_timeout = Duration::from_secs(5);
    let network = Settings { proxy: None, ca_file: None, inactivity_timeout };
    let http = Http::new(&network).expect("a client");
    let account = Account::new(calls_per_second, time.clone());
    (Link::new(http, credential, account, time), file)
}

/// A clock that stands still.
pub(super) fn frozen(wall: WallTime) -> TimeSource {
    TimeSource::new(move || Now { monotonic: Monotonic(Duration::ZERO), wall })
}

pub(super) fn target(folders: &[&str], name: &str) -> Target {
    Target { folders: folders.iter().map(|&f| f.to_owned()).collect(), name: name.into() }
}

pub(super) fn completing(
    begun: BeginRequest,
    id: &str,
    parts: Vec<RemotePart>,
    since: WallTime,
) -> CompleteRequest {
    CompleteRequest { remote: remote(&begun, id), parts, begun, since }
}

pub(super) fn sending(begun: BeginRequest, id: &str, part: u32) -> PartRequest {
    PartRequest { remote: remote(&begun, id), part: number(part), begun }
}

pub(super) fn remote(begun: &BeginRequest, id: &str) -> RemoteUpload {
    begun.remote(RemoteUploadId::new(id)).expect("few parts")
}

/// Asks for a file of so many bytes, in parts of so many.
pub(super) fn request(target: Target, size: u64, part_size: u64) -> BeginRequest {
    let part_size = PartSize::new(part_size).expect("not zero");
    let (size, description) = (ByteCount(size), Description::default());
    let token = "token".to_owned();
    BeginRequest { target, size, part_size, overwrite: false, description, token }
}

pub(super) fn number(number: u32) -> PartNumber {
    PartNumber::new(number).expect("not zero")
}

pub(super) fn part(part: u32, etag: &str) -> RemotePart {
    RemotePart { number: number(part), etag: ETag::from_header(etag) }
}

/// A body with its digest.
pub(super) fn body(bytes: &'static [u8]) -> PartBody {
    use md5::{Digest, Md5};
    let md5 = Some(crate::model::Md5(Md5::digest(bytes).into()));
    let chunks = stream::iter([Ok(Bytes::from_static(bytes))]).boxed();
    PartBody { length: ByteCount(bytes.len() as u64), md5, chunks }
}

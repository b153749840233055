//! The common base of all clients' tests: a link to a stub, and requests.

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
    /// Method and path of every request, without the common prefix.
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
    let network = Settings {
        proxy: None,
        proxy_credential: None,
        no_proxy: None,
        ca_file: None,
        inactivity_timeout,
    };
    let http = Http::new(&network).expect("a client");
    let account = Account::new(calls_per_second, time.clone());
    (Link::new(http, credential, account, time), file)
}

/// A clock that does not move.
pub(super) fn frozen(wall: WallTime) -> TimeSource {
    TimeSource::new(move || Now { monotonic: Monotonic(Duration::ZERO), wall })
}

pub(super) fn target(folders: &[&str], name: &str) -> Target {
    Target::new(folders, name)
}

pub(super) fn completing(
    begun: BeginRequest,
    id: &str,
    parts: Vec<RemotePart>,
    since: WallTime,
) -> CompleteRequest {
    let unreported = parts.clone();
    CompleteRequest { remote: remote(&begun, id), parts, unreported, begun, since }
}

pub(super) fn sending(begun: BeginRequest, id: &str, part: u32) -> PartRequest {
    PartRequest { remote: remote(&begun, id), part: number(part), begun: Some(begun) }
}

pub(super) fn remote(begun: &BeginRequest, id: &str) -> RemoteUpload {
    begun.remote(RemoteUploadId::new(id)).expect("few parts")
}

/// A request for a file of that length, in parts of that length.
pub(super) fn request(target: Target, size: u64, part_size: u64) -> BeginRequest {
    let part_size = PartSize::new(part_size).expect("not zero");
    let (size, description) = (ByteCount(size), Description::default());
    let token = "token".to_owned();
    BeginRequest { target, size, part_size, overwrite: false, description, token, replaces: None }
}

pub(super) fn number(number: u32) -> PartNumber {
    PartNumber::new(number).expect("not zero")
}

pub(super) fn part(part: u32, etag: &str) -> RemotePart {
    RemotePart { number: number(part), etag: ETag::from_header(etag), note: None }
}

pub(super) fn body(bytes: &'static [u8]) -> PartBody {
    use md5::{Digest, Md5};
    let md5 = Some(crate::model::Md5(Md5::digest(bytes).into()));
    let chunks = stream::iter([Ok(Bytes::from_static(bytes))]).boxed();
    PartBody { length: ByteCount(bytes.len() as u64), md5, chunks }
}

/// Answers that a server may send to fill the memory: lists of many small pieces, and of fewer with
/// long texts, at the limits and beyond them.
pub(super) fn floods(bytes_max: usize) -> impl Iterator<Item = String> {
    let pieces = ["{}", "0", "{\"a\":0}", "{\"a\":{\"b\":\"\"}}"];
    let counts = [4_600, 8_000, 10_500, 32_000, 80_000];
    let many = pieces.into_iter().flat_map(move |piece| {
        counts.into_iter().map(move |count| listed(piece, count, bytes_max))
    });
    let long = [200, bytes_max].into_iter().flat_map(move |length| {
        let text = "x".repeat(length.min(bytes_max / 2));
        [listed(&format!("{{\"a\":\"\\n{text}\"}}"), usize::MAX, bytes_max)]
    });
    many.chain(long)
}

fn listed(piece: &str, count: usize, bytes_max: usize) -> String {
    let count = count.min(bytes_max.saturating_sub(100) / (piece.len() + 1)).max(1);
    let mut list = String::with_capacity(count * (piece.len() + 1) + 100);
    list.push('[');
    for index in 0..count {
        list.push_str(if index == 0 { "" } else { "," });
        list.push_str(piece);
    }
    list.push(']');
    list
}

/// Returns by how many MiB the memory of a process grows that only runs `act`, in the test with
/// this name: the test runs itself in a child process, where this returns `None`.
pub(super) fn peak_mib(test: &str, act: impl FnOnce()) -> Option<u64> {
    const CHILD: &str = "DROPFERRY_TEST_MEASURES";
    let memory = |what: &str| -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("a line");
        line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number")
    };
    if std::env::var_os(CHILD).is_some() {
        std::fs::write("/proc/self/clear_refs", "5").expect("the peak begins anew");
        let (before, program) = (memory("VmRSS:"), memory("RssFile:"));
        act();
        // Pages of the program that were loaded meanwhile do not belong to the answer.
        let read_in = memory("RssFile:").saturating_sub(program);
        println!("\npeak={}", memory("VmHWM:").saturating_sub(before + read_in));
        return None;
    }
    let mut child = std::process::Command::new(std::env::current_exe().expect("a program"));
    let output = child.args([test, "--exact", "--nocapture"]).env(CHILD, "1").output();
    let output = output.expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let peak = text.lines().find_map(|line| line.strip_prefix("peak=")?.parse::<u64>().ok());
    Some(peak.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr))) / 1024)
}

pub(super) fn answer(body: String) -> super::http::Response {
    let headers = reqwest::header::HeaderMap::new();
    super::http::Response { status: 200, headers, body: body.into() }
}

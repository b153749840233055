//! Does with a platform what the engine does, by the contract alone.

use bytes::Bytes;
use dropferry::testing::model::{
    ByteCount, Completion, Description, Failure, FailureKind, Md5, PartNumber, PartSize,
    RemoteFile, RemotePart, RemoteUpload, Target, WallTime,
};
use dropferry::testing::platform::contract::{
    BeginRequest, CompleteRequest, PartBody, PartRequest,
};
use futures_util::StreamExt;
use md5::{Digest, Md5 as Hasher};

use super::PART;
use super::sites::Site;

/// Faults come one at a time; more tries than this mean that the driver goes in circles.
const TRIES_MAX: usize = 30;

/// A file to be sent.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) target: Target,
    pub(super) content: Vec<u8>,
}

impl Sent {
    pub(super) fn new(name: &str, content: Vec<u8>) -> Self {
        let target = Target::new(["runs", "a b"], name);
        Self { target, content }
    }

    fn part(&self, number: PartNumber) -> &[u8] {
        let from = (number.index() * usize::try_from(PART).expect("small")).min(self.content.len());
        let to = (from + usize::try_from(PART).expect("small")).min(self.content.len());
        &self.content[from..to]
    }

    /// The digest over the digests of all parts.
    pub(super) fn digest(&self, part_size: PartSize) -> Md5 {
        let length = usize::try_from(part_size.get()).unwrap_or(usize::MAX);
        let mut hasher = Hasher::new();
        self.content.chunks(length).for_each(|part| hasher.update(Hasher::digest(part)));
        Md5(hasher.finalize().into())
    }
}

pub(super) fn bytes(size: u64, seed: u64) -> Vec<u8> {
    super::super::stage::noise(usize::try_from(size).expect("small"), seed + 1)
}

pub(super) fn request(site: &Site, sent: &Sent, overwrite: bool) -> BeginRequest {
    BeginRequest {
        target: site.target(&sent.target),
        size: ByteCount(sent.content.len() as u64),
        part_size: PartSize::new(PART).expect("not zero"),
        overwrite,
        description: Description::default(),
        token: token(sent),
        replaces: None,
    }
}

/// A token that differs for each content and is the same each time.
fn token(sent: &Sent) -> String {
    let name = format!("{:?}", sent.target);
    Md5(Hasher::digest([name.as_bytes(), &sent.content].concat()).into()).to_string()
}

pub(super) fn part_request(
    remote: &RemoteUpload,
    number: u32,
    begun: &BeginRequest,
) -> PartRequest {
    let part = PartNumber::new(number).expect("from 1");
    let begun = (remote.part_count == 1).then(|| begun.clone());
    PartRequest { remote: remote.clone(), part, begun }
}

pub(super) fn complete_request(
    remote: &RemoteUpload,
    parts: &[RemotePart],
    begun: &BeginRequest,
) -> CompleteRequest {
    let (remote, parts, begun) = (remote.clone(), parts.to_vec(), begun.clone());
    CompleteRequest { remote, parts, unreported: Vec::new(), begun, since: now() }
}

#[expect(clippy::disallowed_methods, reason = "the stand-ins keep the real time")]
pub(super) fn now() -> WallTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    WallTime(i64::try_from(since.expect("after 1970").as_nanos()).expect("before 2262"))
}

/// Sends a part once.
pub(super) async fn try_put(
    site: &Site,
    part: &PartRequest,
    sent: &Sent,
) -> Result<RemotePart, Failure> {
    let content = sent.part(part.part).to_vec();
    let md5 = Md5(Hasher::digest(&content).into());
    let length = ByteCount(content.len() as u64);
    let chunks = futures_util::stream::iter([Ok(Bytes::from(content))]).boxed();
    let body = PartBody { length, md5: Some(md5), chunks };
    let etag = site.platform.put_part(part, body).await?.etag;
    Ok(RemotePart { number: part.part, etag, note: None })
}

/// Uploads a file, even if anything fails once.
pub(super) async fn drive(site: &Site, sent: &Sent) -> RemoteFile {
    let request = request(site, sent, false);
    let since = now();
    let mut in_doubt = false;
    for _ in 0..TRIES_MAX {
        let begun = match in_doubt {
            true => site.platform.find_begun(&request, since).await.map(|mut found| found.pop()),
            false => Ok(None),
        };
        let remote = match begun {
            Ok(Some(remote)) => Ok(remote),
            Ok(None) => site.platform.begin(&request).await,
            Err(failure) => Err(failure),
        };
        match remote {
            Ok(remote) => match send(site, &remote, Vec::new(), sent).await {
                Some(file) => return file,
                None => in_doubt = false,
            },
            Err(_) => in_doubt = true,
        }
    }
    panic!("{}: {} does not arrive", site.name, sent.target.name())
}

/// Sends what is missing and completes.
pub(super) async fn finish(
    site: &Site,
    remote: &RemoteUpload,
    put: Vec<RemotePart>,
    sent: &Sent,
) -> RemoteFile {
    send(site, remote, put, sent).await.expect("the upload is there")
}

/// As [`finish`]; `None` if the upload is gone and a new one must be begun.
async fn send(
    site: &Site,
    remote: &RemoteUpload,
    mut put: Vec<RemotePart>,
    sent: &Sent,
) -> Option<RemoteFile> {
    let request = request(site, sent, false);
    for _ in 0..TRIES_MAX {
        for number in 1..=remote.part_count {
            if put.iter().any(|part| part.number.get() == number) {
                continue;
            }
            match try_put(site, &part_request(remote, number, &request), sent).await {
                Ok(part) => put.push(part),
                Err(failure) if failure.kind == FailureKind::UploadGone => return None,
                Err(_) => {}
            }
        }
        put.sort_by_key(|part| part.number);
        if put.len() < remote.part_count as usize {
            continue;
        }
        if site.platform.traits().reports_parts
            && site.platform.report_parts(remote, &put).await.is_err()
        {
            continue;
        }
        let asked = complete_request(remote, &put, &request);
        match site.platform.complete(&asked).await {
            Ok(file) => return Some(file),
            Err(failure) if failure.kind == FailureKind::CompleteRefused => {
                let listed = site.platform.list_parts(remote).await.ok().flatten();
                put = listed.unwrap_or_default();
                continue;
            }
            Err(_) => {}
        }
        match find(site, &asked).await {
            Completion::Done(file) => return Some(file),
            Completion::Pending => {}
            Completion::Gone => return None,
            Completion::Unknown(why) => panic!("{}: {why}", site.name),
        }
    }
    panic!("{}: {} is not completed", site.name, sent.target.name())
}

async fn find(site: &Site, asked: &CompleteRequest) -> Completion {
    for _ in 0..TRIES_MAX {
        if let Ok(completion) = site.platform.find_completed(asked).await {
            return completion;
        }
    }
    panic!("{}: what became of a complete is not told", site.name)
}

/// Uploads a file without a second try.
pub(super) async fn upload_once(
    site: &Site,
    sent: &Sent,
    overwrite: bool,
) -> Result<RemoteFile, Failure> {
    let request = request(site, sent, overwrite);
    let remote = site.platform.begin(&request).await?;
    let mut put = Vec::new();
    for number in 1..=remote.part_count {
        let tried = try_put(site, &part_request(&remote, number, &request), sent).await;
        put.push(give_up(site, &remote, tried).await?);
    }
    if site.platform.traits().reports_parts {
        site.platform.report_parts(&remote, &put).await?;
    }
    let done = site.platform.complete(&complete_request(&remote, &put, &request)).await;
    give_up(site, &remote, done).await
}

/// Removes an upload that failed.
async fn give_up<T>(
    site: &Site,
    remote: &RemoteUpload,
    tried: Result<T, Failure>,
) -> Result<T, Failure> {
    if tried.is_err() {
        site.platform.abort(&remote.id).await.expect("aborted");
    }
    tried
}

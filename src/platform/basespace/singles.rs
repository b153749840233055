//! Files sent in one call: nothing is begun, nothing can remain, and nothing may be sent again
//! blindly.
//!
//! Owns the paths that are known to be unsent: those that were begun in this process and not sent
//! yet. Any other path is looked up before its file is sent; after a restart these are all. An
//! existing file counts as ours when its length is ours, and its digest too where the vendor
//! reports one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::Method;

use super::answers::{BaseSpaceCall, is_conflict};
use super::listing::{ListedFile, ListingDoubt};
use super::places::Goal;
use super::{BaseSpace, BaseSpaceRequest, wire};
use crate::model::{
    ByteCount, Completion, ETag, Failure, FailureKind, Maker, Md5, Monotonic, PartSize, RemoteFile,
    RemoteUpload, RemoteUploadId, WallTime,
};
use crate::platform::contract::{BeginRequest, CompleteRequest, PartBody, PartRequest};

/// Larger files are sent in parts.
const SINGLE_MAX: u64 = 5_242_880;
/// Prefix of the AppResult's id, in the id of an upload that has no file yet.
const SINGLE: &str = "single:";
/// Limit of remembered paths; a dropped one is looked up before it is sent.
const POSTS_MAX: usize = 100_000;
/// How long before the start of the process an unknown request may have been made, by the platform's clock.
const UNKNOWN_FOR: Duration = Duration::from_hours(1);

/// What is known about sending a path.
#[derive(Debug, Clone)]
enum PathPost {
    /// Nothing was sent.
    Unsent,
    /// It was sent without a clear answer.
    Unclear { from: WallTime, until: Option<Monotonic> },
    /// It was sent, and made this file, whose content is not known to be right.
    Made { file: String, token: String },
}

/// Paths, with their AppResults, to be sent in one call.
#[derive(Debug, Default)]
pub(super) struct Posts {
    known: Mutex<HashMap<(String, String), PathPost>>,
}

impl Posts {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<(String, String), PathPost>) -> T) -> T {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, app_result: &str, path: &str, post: PathPost) {
        self.with(|known| {
            if known.len() >= POSTS_MAX {
                known.clear();
            }
            known.insert((app_result.to_owned(), path.to_owned()), post);
        });
    }

    fn get(&self, app_result: &str, path: &str) -> Option<PathPost> {
        self.with(|known| known.get(&(app_result.to_owned(), path.to_owned())).cloned())
    }

    /// Adds a path that was not sent, as far as this process knows.
    fn begin(&self, app_result: &str, path: &str) {
        if self.get(app_result, path).is_none() {
            self.set(app_result, path, PathPost::Unsent);
        }
    }

    fn end(&self, app_result: &str, path: &str) {
        self.with(|known| known.remove(&(app_result.to_owned(), path.to_owned())));
    }

    /// Returns the doubt about a path that was sent without a clear answer.
    pub(super) fn doubt(&self, app_result: &str, path: &str) -> Option<ListingDoubt> {
        match self.get(app_result, path) {
            Some(PathPost::Unclear { from, until }) => Some(ListingDoubt { from, until }),
            Some(PathPost::Unsent | PathPost::Made { .. }) | None => None,
        }
    }

    /// Returns which upload of this process made a file and is not known to be completed.
    pub(super) fn maker(&self, app_result: &str, path: &str, file: &str) -> Option<Maker> {
        let PathPost::Made { file: made, token } = self.get(app_result, path)? else { return None };
        (made == file).then(|| Maker { token, etag: ETag::from_header("") })
    }

    fn is_unsent(&self, app_result: &str, path: &str) -> bool {
        matches!(self.get(app_result, path), Some(PathPost::Unsent))
    }
}

/// Returns whether a file is sent in one call.
pub(super) fn is_single(request: &BeginRequest) -> bool {
    request.size.0 <= SINGLE_MAX && request.part_size.count_for(request.size) == Some(1)
}

/// Returns the AppResult of an upload that has no file yet.
pub(super) fn single_of(id: &RemoteUploadId) -> Option<&str> {
    id.as_str().strip_prefix(SINGLE)
}

/// The result of looking up a path.
enum FoundPath {
    Ours(ListedFile),
    Another,
    Nothing,
}

/// Compares the files of a path with ours: by the digest where there is one, else by the length,
/// because the path was free when it was begun. Empty files are equal, whatever a digest says.
fn judge(files: Vec<ListedFile>, size: ByteCount, md5: Option<Md5>) -> FoundPath {
    let is_there = !files.is_empty();
    let is_ours = |file: &ListedFile| {
        let told = file.etag.as_ref().and_then(|etag| Md5::parse(etag.as_str()));
        let is_told_so = told.zip(md5).is_none_or(|(told, sent)| told == sent);
        file.size == Some(size) && (is_told_so || size == ByteCount(0))
    };
    match files.into_iter().find(is_ours) {
        Some(file) => FoundPath::Ours(file),
        None if is_there => FoundPath::Another,
        None => FoundPath::Nothing,
    }
}

impl BaseSpace {
    /// Makes no call: the file comes with its bytes. Its one part is as long as the file, because
    /// the file's digest covers that.
    pub(super) fn begin_single(
        &self,
        goal: &Goal,
        app_result: &str,
        size: ByteCount,
    ) -> Result<RemoteUpload, Failure> {
        self.posts.begin(app_result, &goal.path);
        let part_size = PartSize::new(size.0.max(1))
            .ok_or_else(|| Failure::new(FailureKind::LocalFault, "a part of no length"))?;
        let id = RemoteUploadId::new(format!("{SINGLE}{app_result}"));
        Ok(RemoteUpload { id, part_size, part_count: 1, sequential: false })
    }

    /// Sends a file, unless an earlier attempt has arrived.
    pub(super) async fn put_single(
        &self,
        app_result: &str,
        request: &PartRequest,
        body: PartBody,
    ) -> Result<ETag, Failure> {
        let goal = self.goal(&request.only()?.target)?;
        let (size, md5) = (body.length, body.md5);
        if !self.posts.is_unsent(app_result, &goal.path)
            && let Some(etag) = self.arrived(app_result, &goal, size, md5).await?
        {
            drain(body).await?;
            return Ok(etag);
        }
        match self.post(app_result, &goal, body).await {
            Ok(file) => {
                let token = request.only()?.token.clone();
                let made = PathPost::Made { file: file.id.clone(), token };
                self.posts.set(app_result, &goal.path, made);
                let etag = self.check_posted(app_result, &goal, &file, size)?;
                self.undamaged(&file, etag, md5.filter(|_| size.0 > 0)).await
            }
            Err(failure) if is_conflict(&failure) => {
                self.arrived(app_result, &goal, size, md5).await?.ok_or(failure)
            }
            Err(failure) => Err(self.refused_in(&goal, app_result, failure).await),
        }
    }

    /// Returns the digest of a file that an earlier attempt created.
    ///
    /// # Errors
    /// Also `NameTaken` when a different file is there.
    async fn arrived(
        &self,
        app_result: &str,
        goal: &Goal,
        size: ByteCount,
        md5: Option<Md5>,
    ) -> Result<Option<ETag>, Failure> {
        let doubt = self.doubt_of(app_result, goal);
        let found = match self.look_up(app_result, &goal.path, Some(doubt)).await {
            Ok(found) => found,
            Err(failure) => return Err(self.refused_in(goal, app_result, failure).await),
        };
        match judge(found, size, md5) {
            FoundPath::Ours(file) => {
                self.posts.end(app_result, &goal.path);
                Ok(Some(file.etag.unwrap_or_else(|| ETag::from_header(""))))
            }
            FoundPath::Another => {
                let message = format!("another file of the path {:?} is there", goal.path);
                Err(Failure::new(FailureKind::NameTaken, message))
            }
            FoundPath::Nothing => Ok(None),
        }
    }

    /// Returns the doubt about a file of an earlier attempt or an earlier process.
    fn doubt_of(&self, app_result: &str, goal: &Goal) -> ListingDoubt {
        let earlier = || {
            let unknown_for = i64::try_from(UNKNOWN_FOR.as_nanos()).unwrap_or(i64::MAX);
            let now = self.moment();
            let from = WallTime(now.theirs.0.saturating_sub(unknown_for));
            ListingDoubt { from, until: Some(now.monotonic) }
        };
        self.posts.doubt(app_result, &goal.path).unwrap_or_else(earlier)
    }

    async fn post(
        &self,
        app_result: &str,
        goal: &Goal,
        body: PartBody,
    ) -> Result<wire::BaseSpaceFile, Failure> {
        self.api.link.account.wait_for_budget().await?;
        let from = self.moment().theirs;
        // Set first, because a call that is dropped midway may have arrived.
        self.posts.set(app_result, &goal.path, PathPost::Unclear { from, until: None });
        let mut ask =
            BaseSpaceRequest::post(BaseSpaceCall::Single, format!("appresults/{app_result}/files"))
                .query("name", &goal.name);
        if !goal.directory.is_empty() {
            ask = ask.query("directory", &goal.directory);
        }
        let answer = self
            .send::<wire::BaseSpaceFile>(BaseSpaceRequest { method: Method::POST, ..ask }, body)
            .await;
        if answer.is_err() {
            let until = Some(self.moment().monotonic);
            self.posts.set(app_result, &goal.path, PathPost::Unclear { from, until });
        }
        answer
    }

    fn check_posted(
        &self,
        app_result: &str,
        goal: &Goal,
        file: &wire::BaseSpaceFile,
        size: ByteCount,
    ) -> Result<ETag, Failure> {
        if file.status() != wire::UploadStatus::Complete {
            let message = "the platform took the file and does not call it complete";
            return Err(Failure::new(FailureKind::ServerFault, message));
        }
        self.note(app_result, &goal.path, file);
        if file.size.is_some_and(|stored| stored != size.0) {
            let message = "the platform stored another number of bytes than were sent";
            return Err(Failure::new(FailureKind::PartRejected, message));
        }
        Ok(file.etag().unwrap_or_else(|| ETag::from_header("")))
    }

    /// Returns the digest of a sent file if it is that of its bytes; on a difference the file is
    /// looked up again, because an answer may be damaged too.
    ///
    /// # Errors
    /// `Damaged` when the platform has other bytes: it does not allow a file to be replaced.
    async fn undamaged(
        &self,
        file: &wire::BaseSpaceFile,
        etag: ETag,
        md5: Option<Md5>,
    ) -> Result<ETag, Failure> {
        let differs = |etag: &ETag| {
            !etag.as_str().is_empty()
                && md5.is_some_and(|md5| Md5::parse(etag.as_str()) != Some(md5))
        };
        if !differs(&etag) {
            return Ok(if md5.is_some() { etag } else { ETag::from_header("") });
        }
        let shown: wire::BaseSpaceFile = self
            .ask(BaseSpaceRequest::get(BaseSpaceCall::Look, format!("files/{}", file.id)))
            .await?;
        let etag = shown.etag().unwrap_or_else(|| ETag::from_header(""));
        if differs(&etag) {
            let message = format!(
                "file {} is stored with another digest than it was sent with, and no file can be \
                 replaced there: remove it, then retry",
                file.id
            );
            return Err(Failure::new(FailureKind::Damaged, message));
        }
        Ok(etag)
    }

    /// Returns the sent file, from the answer or from lists.
    async fn posted(
        &self,
        app_result: &str,
        request: &CompleteRequest,
    ) -> Result<Option<RemoteFile>, Failure> {
        let goal = self.goal(&request.begun.target)?;
        let md5 = request.parts.first().and_then(|part| Md5::parse(part.etag.as_str()));
        let ours = |files| match judge(files, request.begun.size, md5) {
            FoundPath::Ours(file) => Some(file.remote(&goal.name)),
            FoundPath::Another | FoundPath::Nothing => None,
        };
        if let Some(file) = ours(self.remembered(app_result, &goal.path)) {
            return Ok(Some(file));
        }
        let doubt = self.doubt_of(app_result, &goal);
        Ok(ours(self.look_up(app_result, &goal.path, Some(doubt)).await?))
    }

    pub(super) async fn complete_single(
        &self,
        app_result: &str,
        request: &CompleteRequest,
    ) -> Result<RemoteFile, Failure> {
        let file = self.posted(app_result, request).await?.ok_or_else(|| {
            let message = "the file that was sent is not there";
            Failure::new(FailureKind::CompleteRefused, message)
        })?;
        self.posts.end(app_result, &self.goal(&request.begun.target)?.path);
        Ok(file)
    }

    pub(super) async fn completion_of_single(
        &self,
        app_result: &str,
        request: &CompleteRequest,
    ) -> Result<Completion, Failure> {
        let found = self.posted(app_result, request).await?;
        Ok(found.map_or(Completion::Pending, Completion::Done))
    }
}

/// Reads the body to its end, because its reader only then confirms the source.
async fn drain(mut body: PartBody) -> Result<(), Failure> {
    while let Some(chunk) = body.chunks.next().await {
        chunk.map_err(|error| {
            Failure::new(FailureKind::SourceUnreadable, format!("the source failed: {error}"))
        })?;
    }
    Ok(())
}

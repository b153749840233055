//! Files of parts, from initiate to complete or abort; and existing files.
//!
//! Owns the sequence of calls for each operation; see [`crate::platform::contract`] for the state
//! after a lost answer. The id of an upload is the id of its file, or, for a file that is sent in
//! one call, that of its AppResult (see `singles`).

use reqwest::Method;

use super::answers::{BaseSpaceCall, is_conflict, is_missing};
use super::listing::before;
use super::places::{Goal, MissingAppResult};
use super::singles::{is_single, single_of};
use super::wire::UploadStatus;
use super::{BaseSpace, BaseSpaceRequest, wire};
use crate::model::{
    Completion, ETag, Failure, FailureKind, PartNumber, RemoteFile, RemoteFileId, RemotePart,
    RemoteUpload, RemoteUploadId, Stored, Target, WallTime,
};
use crate::platform::answer::bad;
use crate::platform::contract::{BeginRequest, CompleteRequest, PartBody, PartRequest};

/// Limit of pages of parts: ten thousand parts are ten pages.
const PAGES_MAX: usize = 20;

impl BaseSpace {
    pub(super) async fn locate_file(&self, target: &Target) -> Result<Option<RemoteFile>, Failure> {
        let goal = self.goal(target)?;
        let Some(app_result) = self.app_result(&goal.app_result, MissingAppResult::Leave).await?
        else {
            return Ok(None);
        };
        match self.standing(&app_result, &goal).await {
            // A missing AppResult has no files; another one may have replaced it.
            Err(failure) if is_missing(&failure) && self.places.forget(&goal.app_result) => {
                match self.app_result(&goal.app_result, MissingAppResult::Leave).await? {
                    Some(app_result) => self.standing(&app_result, &goal).await,
                    None => Ok(None),
                }
            }
            other => other,
        }
    }

    /// Returns the file at a path, looked up by id, not only listed.
    async fn standing(&self, app_result: &str, goal: &Goal) -> Result<Option<RemoteFile>, Failure> {
        let doubt = self.posts.doubt(app_result, &goal.path);
        for known in self.look_up(app_result, &goal.path, doubt).await? {
            match self.inspect_file(&RemoteFileId::new(&known.id)).await? {
                Some(file) => {
                    let maker = self.posts.maker(app_result, &goal.path, &known.id);
                    return Ok(Some(RemoteFile { maker, ..file }));
                }
                None => self.forget_file(app_result, &goal.path, &known.id),
            }
        }
        Ok(None)
    }

    pub(super) async fn begin_upload(
        &self,
        request: &BeginRequest,
    ) -> Result<RemoteUpload, Failure> {
        let goal = self.goal(&request.target)?;
        let was_known = self.places.known(&goal.app_result).is_some();
        match self.begin_at(&goal, request).await {
            Err(failure)
                if is_missing(&failure) && self.places.forget(&goal.app_result) && was_known =>
            {
                self.begin_at(&goal, request).await
            }
            other => other,
        }
    }

    async fn begin_at(&self, goal: &Goal, request: &BeginRequest) -> Result<RemoteUpload, Failure> {
        let made = self.app_result(&goal.app_result, MissingAppResult::Make).await?;
        let app_result = made.ok_or_else(|| {
            Failure::new(FailureKind::ServerFault, "an AppResult was made and is not shown")
        })?;
        if request.overwrite && self.standing(&app_result, goal).await?.is_some() {
            let message = format!(
                "{:?} is in AppResult {app_result}, where no file can be replaced",
                goal.path
            );
            return Err(Failure::new(FailureKind::BadRequest, message));
        }
        if is_single(request) {
            return self.begin_single(goal, &app_result, request.size);
        }
        request.part_count()?;
        let file = self.initiate(&app_result, goal).await?;
        request.remote(RemoteUploadId::new(&file.id))
    }

    async fn initiate(
        &self,
        app_result: &str,
        goal: &Goal,
    ) -> Result<wire::BaseSpaceFile, Failure> {
        let mut ask = BaseSpaceRequest::post(
            BaseSpaceCall::Initiate,
            format!("appresults/{app_result}/files"),
        )
        .query("name", &goal.name);
        if !goal.directory.is_empty() {
            ask = ask.query("directory", &goal.directory);
        }
        match self.ask(ask.query("multipart", "true")).await {
            Err(failure) if is_conflict(&failure) => {
                Err(self.conflict(app_result, goal, failure).await)
            }
            other => other,
        }
    }

    /// Returns whether a conflict means that the path is taken.
    async fn conflict(&self, app_result: &str, goal: &Goal, failure: Failure) -> Failure {
        match self.standing(app_result, goal).await {
            Ok(Some(_)) => Failure { kind: FailureKind::NameTaken, ..failure },
            Ok(None) => failure,
            Err(other) => other,
        }
    }

    /// Lists usually show no pending files: then there is nothing to find.
    pub(super) async fn find_pending(
        &self,
        request: &BeginRequest,
        since: WallTime,
    ) -> Result<Vec<RemoteUpload>, Failure> {
        if request.part_count().is_err() {
            return Ok(Vec::new());
        }
        let goal = self.goal(&request.target)?;
        if is_single(request) {
            return Ok(Vec::new());
        }
        let Some(app_result) = self.app_result(&goal.app_result, MissingAppResult::Leave).await?
        else {
            return Ok(Vec::new());
        };
        let since = before(self.api.link.account.to_platform_time(since));
        let mut found = match self.list_files(&app_result, Some(since)).await {
            Err(failure) if is_missing(&failure) => {
                return match self.refused_in(&goal, &app_result, failure).await {
                    // When its AppResult is gone, everything begun in it is too.
                    gone if gone.kind == FailureKind::UploadGone => Ok(Vec::new()),
                    other => Err(other),
                };
            }
            other => other?,
        };
        found.retain(|file| {
            file.path() == goal.path
                && file.status() == UploadStatus::Pending
                && file.created_at().is_some_and(|at| at >= since)
        });
        found.sort_by_key(|file| std::cmp::Reverse(file.created_at()));
        found.iter().map(|file| request.remote(RemoteUploadId::new(&file.id))).collect()
    }

    pub(super) async fn put(
        &self,
        request: &PartRequest,
        body: PartBody,
    ) -> Result<Stored, Failure> {
        let id = &request.remote.id;
        if let Some(app_result) = single_of(id) {
            return self.put_single(app_result, request, body).await.map(Stored::from);
        }
        let length = body.length.0;
        let ask = BaseSpaceRequest::get(
            BaseSpaceCall::Part,
            format!("files/{id}/parts/{}", request.part),
        );
        let part = match self.send(BaseSpaceRequest { method: Method::PUT, ..ask }, body).await {
            Ok(part) => part,
            Err(failure) => return Err(self.judge_upload(id.as_str(), failure).await),
        };
        check_part(&part, request.part, length).map(Stored::from)
    }

    /// Looks up a file by its id, which must be one of ours.
    ///
    /// # Errors
    /// `UploadGone` when a valid token cannot see it.
    async fn file(&self, id: &str) -> Result<wire::BaseSpaceFile, Failure> {
        let looked =
            self.ask(BaseSpaceRequest::get(BaseSpaceCall::Look, format!("files/{id}"))).await;
        let gone = |failure: Failure| {
            let message = format!("file {id} is not there any more");
            Failure { kind: FailureKind::UploadGone, message, ..failure }
        };
        match looked {
            Err(failure) if failure.status == Some(410) => Err(gone(failure)),
            Err(failure) if failure.kind == FailureKind::Forbidden => {
                self.check_token().await?;
                Err(gone(failure))
            }
            other => other,
        }
    }

    /// Judges a refusal about an upload by looking up its file, because missing ids look like
    /// forbidden ones.
    async fn judge_upload(&self, id: &str, failure: Failure) -> Failure {
        if !is_missing(&failure) && !is_conflict(&failure) {
            return failure;
        }
        let as_kind = |kind, failure| Failure { kind, ..failure };
        match self.file(id).await.map(|file| file.status()) {
            Ok(UploadStatus::Aborted) => as_kind(FailureKind::UploadGone, failure),
            Ok(UploadStatus::Complete) => as_kind(FailureKind::AlreadyCompleted, failure),
            Ok(UploadStatus::Pending | UploadStatus::Undefined) => failure,
            Err(other) => other,
        }
    }

    pub(super) async fn listed_parts(
        &self,
        remote: &RemoteUpload,
    ) -> Result<Option<Vec<RemotePart>>, Failure> {
        if single_of(&remote.id).is_some() {
            return Ok(None);
        }
        let id = remote.id.as_str();
        match self.file(id).await?.status() {
            UploadStatus::Pending | UploadStatus::Undefined => {}
            UploadStatus::Complete | UploadStatus::Aborted => {
                let message = format!("the upload of file {id} has ended");
                return Err(Failure::new(FailureKind::UploadGone, message));
            }
        }
        match self.parts_of(id).await {
            // Listing parts is not documented.
            Err(failure)
                if matches!(failure.kind, FailureKind::NotFound | FailureKind::BadAnswer) =>
            {
                Ok(None)
            }
            Err(failure) => Err(self.judge_upload(id, failure).await),
            other => other,
        }
    }

    async fn parts_of(&self, id: &str) -> Result<Option<Vec<RemotePart>>, Failure> {
        let mut found = Vec::new();
        for _ in 0..PAGES_MAX {
            let offset = found.len().to_string();
            let ask = BaseSpaceRequest::get(BaseSpaceCall::Look, format!("files/{id}/parts"))
                .query("Offset", &offset)
                .query("Limit", "1000");
            let page: wire::BaseSpacePage<wire::BaseSpacePart> = self.ask(ask).await?;
            let is_empty = page.items.is_empty();
            for part in page.items {
                let number = part.number.and_then(PartNumber::new);
                let Some((number, etag)) = number.zip(part.etag()) else { return Ok(None) };
                found.push(RemotePart { number, etag, note: None });
            }
            if is_empty || page.total_count.is_none_or(|total| found.len() >= total) {
                return Ok(Some(found));
            }
        }
        Err(bad("a list of parts without end"))
    }

    pub(super) async fn complete_upload(
        &self,
        request: &CompleteRequest,
    ) -> Result<RemoteFile, Failure> {
        if let Some(app_result) = single_of(&request.remote.id) {
            return self.complete_single(app_result, request).await;
        }
        let id = request.remote.id.as_str();
        let ask = BaseSpaceRequest::post(BaseSpaceCall::Complete, format!("files/{id}"));
        let file: wire::BaseSpaceFile = match self.ask(ask.query("uploadstatus", "complete")).await
        {
            Ok(file) => file,
            Err(failure) => self.after_refusal(request, failure).await?,
        };
        self.completed(request, &file)
    }

    /// A refused complete may have had its effect before.
    async fn after_refusal(
        &self,
        request: &CompleteRequest,
        failure: Failure,
    ) -> Result<wire::BaseSpaceFile, Failure> {
        if !is_missing(&failure) && !is_conflict(&failure) {
            return Err(failure);
        }
        let file = self.file(request.remote.id.as_str()).await?;
        match file.status() {
            UploadStatus::Complete => Ok(file),
            UploadStatus::Aborted => Err(Failure { kind: FailureKind::UploadGone, ..failure }),
            UploadStatus::Pending | UploadStatus::Undefined if is_conflict(&failure) => {
                let goal = self.goal(&request.begun.target)?;
                match self.app_result(&goal.app_result, MissingAppResult::Leave).await? {
                    Some(app_result) => Err(self.conflict(&app_result, &goal, failure).await),
                    None => Err(failure),
                }
            }
            UploadStatus::Pending | UploadStatus::Undefined => Err(failure),
        }
    }

    fn completed(
        &self,
        request: &CompleteRequest,
        file: &wire::BaseSpaceFile,
    ) -> Result<RemoteFile, Failure> {
        if file.status() != UploadStatus::Complete {
            let message = "the platform answered to complete with a file that is not";
            return Err(Failure::new(FailureKind::ServerFault, message));
        }
        let wanted = request.begun.size.0;
        if let Some(size) = file.size.filter(|size| *size != wanted) {
            let message = format!("the parts were put together to {size} bytes, not to {wanted}");
            return Err(Failure::new(FailureKind::CompleteRefused, message));
        }
        let goal = self.goal(&request.begun.target)?;
        if let Some(app_result) = self.places.known(&goal.app_result) {
            self.note(&app_result, &goal.path, file);
        }
        Ok(file.remote())
    }

    pub(super) async fn completion_of(
        &self,
        request: &CompleteRequest,
    ) -> Result<Completion, Failure> {
        if let Some(app_result) = single_of(&request.remote.id) {
            return self.completion_of_single(app_result, request).await;
        }
        let file = match self.file(request.remote.id.as_str()).await {
            Err(failure) if failure.kind == FailureKind::UploadGone => return Ok(Completion::Gone),
            other => other?,
        };
        match file.status() {
            UploadStatus::Complete => Ok(match self.completed(request, &file) {
                Ok(file) => Completion::Done(file),
                // It has ended with too few bytes, and accepts no more.
                Err(_) => Completion::Gone,
            }),
            UploadStatus::Pending => Ok(Completion::Pending),
            UploadStatus::Aborted => Ok(Completion::Gone),
            UploadStatus::Undefined => Err(undefined()),
        }
    }

    pub(super) async fn inspect_file(
        &self,
        id: &RemoteFileId,
    ) -> Result<Option<RemoteFile>, Failure> {
        let looked =
            self.ask(BaseSpaceRequest::get(BaseSpaceCall::Look, format!("files/{id}"))).await;
        let file: wire::BaseSpaceFile = match looked {
            Err(failure) if is_missing(&failure) => return Ok(None),
            other => other?,
        };
        match file.status() {
            UploadStatus::Complete => Ok(Some(file.remote())),
            UploadStatus::Aborted => Ok(None),
            UploadStatus::Pending => {
                let message = "the completed file is still shown as pending";
                Err(Failure::new(FailureKind::ServerFault, message))
            }
            UploadStatus::Undefined => Err(undefined()),
        }
    }

    pub(super) async fn abort_upload(&self, id: &RemoteUploadId) -> Result<(), Failure> {
        if single_of(id).is_some() {
            return Ok(());
        }
        let ask = BaseSpaceRequest::post(BaseSpaceCall::Abort, format!("files/{id}"));
        match self.call(ask.query("uploadstatus", "aborted")).await {
            Ok(_) => Ok(()),
            Err(failure) if is_conflict(&failure) || is_missing(&failure) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

/// Checks the platform's answer to a part; the engine compares the digest.
fn check_part(
    part: &wire::BaseSpacePart,
    number: PartNumber,
    length: u64,
) -> Result<ETag, Failure> {
    if part.number.is_some_and(|told| told != number.get()) {
        return Err(bad("the number of another part"));
    }
    if part.size.is_some_and(|told| told != length) {
        let message = format!("part {number} was stored with another length than it was sent with");
        return Err(Failure::new(FailureKind::PartRejected, message));
    }
    match (part.etag(), part.size) {
        (Some(etag), _) => Ok(etag),
        (None, Some(_)) => Ok(ETag::from_header("")),
        (None, None) => Err(bad("neither length nor digest of the part")),
    }
}

fn undefined() -> Failure {
    Failure::new(FailureKind::ServerFault, "the platform does not say in which state the file is")
}

//! One upload at Seven Bridges, from begin to complete or abort.
//!
//! Owns the sequence of calls for each operation on an upload; see [`crate::platform::contract`]
//! for the state after a lost answer. It never holds a part, and keeps a signed address only for
//! the one request it was fetched for.

use std::sync::atomic::Ordering;

use reqwest::Method;

use super::answers::SevenBridgesCall;
use super::folders::FolderPath;
use super::{MIB, PAGES_MAX, SevenBridges, TRAITS, files, wire};
use crate::model::{
    ByteCount, Completion, Failure, FailureKind, OpenUpload, PartNumber, PartSize, RemoteFile,
    RemotePart, RemoteUpload, RemoteUploadId, Stored, WallTime,
};
use crate::platform::answer;
use crate::platform::contract::{BeginRequest, CompleteRequest, PartBody};
use crate::platform::http::{part_url, prescribed_headers};

/// Items on one page of a list: the vendor's maximum.
const PAGE: usize = 100;
/// If the platform chooses too many parts, larger ones are wished for, for this number.
const PART_COUNT_WISH: u64 = 9000;

impl SevenBridges {
    pub(super) async fn begin_upload(
        &self,
        request: &BeginRequest,
    ) -> Result<RemoteUpload, Failure> {
        files::check_names(&request.target)?;
        let path = request.target.folder();
        let folder = self.make_folders(path).await?;
        match self.begin_in(request, folder.as_deref()).await {
            // A cached folder that does not exist any more is created again, once.
            Err(failure) if failure.kind == FailureKind::NotFound && self.folders.forget(path) => {
                let folder = self.make_folders(path).await?;
                self.begin_in(request, folder.as_deref()).await
            }
            other => other,
        }
    }

    async fn begin_in(
        &self,
        request: &BeginRequest,
        folder: Option<&str>,
    ) -> Result<RemoteUpload, Failure> {
        let begun = self.initialise(request, folder, request.part_size).await?;
        if begun.part_count <= TRAITS.limits.count_max {
            return Ok(begun);
        }
        self.abort_upload(&begun.id).await?;
        let begun = self.initialise(request, folder, larger_wish(request)).await?;
        if begun.part_count <= TRAITS.limits.count_max {
            return Ok(begun);
        }
        self.abort_upload(&begun.id).await?;
        let message = format!(
            "the platform settles on parts of {} for a file of {}, which makes more than the {} it allows",
            ByteCount(begun.part_size.get()),
            request.size,
            TRAITS.limits.count_max
        );
        Err(Failure::new(FailureKind::BadRequest, message))
    }

    async fn initialise(
        &self,
        request: &BeginRequest,
        folder: Option<&str>,
        wish: PartSize,
    ) -> Result<RemoteUpload, Failure> {
        let query: &[_] = if request.overwrite { &[("overwrite", "true")] } else { &[] };
        let body = wire::BeginBody {
            place: self.place(folder),
            name: request.target.name(),
            size: request.size.0,
            part_size: wish.get(),
        };
        let url = self.url("upload/multipart", query)?;
        let response = self.call_json(SevenBridgesCall::Begin, Method::POST, url, &body).await?;
        answer::parse::<wire::SevenBridgesUpload>(&response)?.layout(request.size, wish)
    }

    async fn details(
        &self,
        id: &RemoteUploadId,
        with_parts: bool,
    ) -> Result<wire::SevenBridgesUpload, Failure> {
        let query = [("list_parts", if with_parts { "true" } else { "false" })];
        let path = format!("upload/multipart/{id}");
        answer::parse_list(&self.get(SevenBridgesCall::Upload, &path, &query).await?)
    }

    pub(super) async fn find_uploads(
        &self,
        request: &BeginRequest,
        since: WallTime,
    ) -> Result<Vec<RemoteUpload>, Failure> {
        let FolderPath::Folder(folder) = self.find_folders(request.target.folder()).await? else {
            return Ok(Vec::new());
        };
        let listed = self.uploads_in_progress().await?;
        let root = match &folder {
            Some(_) => None,
            None => self.root_folder().await?,
        };
        let mut found = Vec::new();
        for upload in listed {
            let at = upload.initiated_at().filter(|at| self.api.link.account.is_since(*at, since));
            let (Some(at), Some(request_name)) = (at, upload.name.as_deref()) else { continue };
            if request_name != request.target.name() {
                continue;
            }
            let id = upload.id()?;
            let told = match self.details(&id, false).await {
                Err(failure) if failure.kind == FailureKind::UploadGone => continue,
                other => other?,
            };
            let project = told.project.as_deref().or(upload.project.as_deref());
            let parent = told.parent.as_deref().or(upload.parent.as_deref());
            let is_there = match &folder {
                Some(id) => parent == Some(id),
                None => {
                    project == Some(&self.project)
                        && parent.is_none_or(|p| root.as_deref() == Some(p))
                }
            };
            if is_there {
                let layout = told.layout(request.size, request.part_size)?;
                // One with too many parts was abandoned when it was begun.
                if layout.part_count <= TRAITS.limits.count_max {
                    found.push((at, RemoteUpload { id, ..layout }));
                }
            }
        }
        found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Ok(found.into_iter().map(|(_, upload)| upload).collect())
    }

    /// Lists the uploads in progress, except those into other projects.
    pub(super) async fn open_uploads(&self) -> Result<Vec<OpenUpload>, Failure> {
        let mut listed = self.uploads_in_progress().await?;
        let is_here =
            |upload: &wire::SevenBridgesUpload| upload.project.as_ref() == Some(&self.project);
        listed.retain(|upload| upload.project.is_none() || is_here(upload));
        let open = |upload: wire::SevenBridgesUpload| {
            Ok(OpenUpload {
                id: upload.id()?,
                size: upload.size.and_then(ByteCount::of_file),
                begun_at: upload.initiated_at(),
                place: upload.name.unwrap_or_default(),
            })
        };
        listed.into_iter().map(open).collect()
    }

    pub(super) async fn uploads_in_progress(
        &self,
    ) -> Result<Vec<wire::SevenBridgesUpload>, Failure> {
        let mut uploads: Vec<wire::SevenBridgesUpload> = Vec::new();
        for _ in 0..PAGES_MAX {
            let (offset, limit) = (uploads.len().to_string(), PAGE.to_string());
            let query = [("offset", offset.as_str()), ("limit", limit.as_str())];
            let response = self.get(SevenBridgesCall::General, "upload/multipart", &query).await?;
            let total = response.header("x-total-matching-query").and_then(|t| t.parse().ok());
            let page: wire::SevenBridgesPage<wire::SevenBridgesUpload> = answer::parse(&response)?;
            let count = page.items.len();
            uploads.extend(page.items);
            // A platform that reports the total may return shorter pages than requested.
            let is_last = total.map_or(count < PAGE, |total: usize| uploads.len() >= total);
            if count == 0 || is_last {
                break;
            }
        }
        Ok(uploads)
    }

    async fn signed_part(
        &self,
        remote: &RemoteUpload,
        part: PartNumber,
    ) -> Result<wire::SignedPart, Failure> {
        let path = format!("upload/multipart/{}/part/{part}", remote.id);
        let response = self.get(SevenBridgesCall::Upload, &path, &[]).await?;
        answer::parse(&response)
    }

    pub(super) async fn put(
        &self,
        remote: &RemoteUpload,
        part: PartNumber,
        body: PartBody,
    ) -> Result<Stored, Failure> {
        let signed = self.signed_part(remote, part).await?;
        let method = signed.method().ok_or_else(|| {
            Failure::new(FailureKind::BadAnswer, "the platform names a method that sends no bytes")
        })?;
        let url = part_url(signed.url.reveal(), &self.api.base)?;
        let headers = prescribed_headers(signed.headers(), &url, body.length)?;
        let response = self.api.link.http.send_part(method, url, headers, body).await?;
        if !signed.is_success(response.status) {
            return Err(answer::classify_storage(&response));
        }
        let stored = Stored { note: signed.collect(&response)?, ..answer::told(&response) };
        if stored.etag.as_str().is_empty() && signed.wants_etag() {
            let message = format!("the storage took part {part} and gave no ETag for it");
            return Err(answer::answered(&response, FailureKind::PartRejected, message));
        }
        Ok(stored)
    }

    pub(super) async fn listed_parts(
        &self,
        remote: &RemoteUpload,
    ) -> Result<Vec<RemotePart>, Failure> {
        let told = self.details(&remote.id, true).await?;
        if told.part_size.is_some_and(|bytes| bytes != remote.part_size.get()) {
            let message = "the platform has the upload in another part size";
            return Err(Failure::new(FailureKind::UploadGone, message));
        }
        told.listed_parts()
    }

    pub(super) async fn report(
        &self,
        remote: &RemoteUpload,
        parts: &[RemotePart],
    ) -> Result<(), Failure> {
        if parts.is_empty() {
            return Ok(());
        }
        let url = self.url(&format!("upload/multipart/{}", remote.id), &[])?;
        let body = wire::PartsBody::of(parts);
        self.call_json(SevenBridgesCall::Upload, Method::POST, url, &body).await.map(drop)
    }

    /// The documents let the call report parts. Where it is refused with parts, they are reported by
    /// a call of their own; where that helps, always.
    pub(super) async fn complete_upload(
        &self,
        request: &CompleteRequest,
    ) -> Result<RemoteFile, Failure> {
        use FailureKind::{BadRequest, CompleteRefused};
        let (remote, unreported) = (&request.remote, &*request.unreported);
        if unreported.is_empty() || self.completes_reported.load(Ordering::Relaxed) {
            self.report(remote, unreported).await?;
            return self.complete_with(remote, &[]).await;
        }
        match self.complete_with(remote, unreported).await {
            Err(failure) if matches!(failure.kind, BadRequest | CompleteRefused) => {}
            other => return other,
        }
        self.report(remote, unreported).await?;
        let file = self.complete_with(remote, &[]).await?;
        self.completes_reported.store(true, Ordering::Relaxed);
        Ok(file)
    }

    async fn complete_with(
        &self,
        remote: &RemoteUpload,
        parts: &[RemotePart],
    ) -> Result<RemoteFile, Failure> {
        let url = self.url(&format!("upload/multipart/{}/complete", remote.id), &[])?;
        let body = wire::PartsBody::of(parts);
        let response = self.call_json(SevenBridgesCall::Complete, Method::POST, url, &body).await?;
        answer::parse::<wire::SevenBridgesFile>(&response)?.remote()
    }

    /// An upload that is gone was completed or was lost; in the latter case no file with its name,
    /// its size and a later time exists.
    pub(super) async fn completion_of(
        &self,
        request: &CompleteRequest,
    ) -> Result<Completion, Failure> {
        let told = self.details(&request.remote.id, false).await;
        if answer::unless(&[FailureKind::UploadGone], told)?.is_some() {
            return Ok(Completion::Pending);
        }
        let found = self.locate_file(&request.begun.target).await?;
        let ours = found.filter(|file| {
            let is_since = |at| self.api.link.account.is_since(at, request.since);
            let is_new = file.created_at.is_none_or(is_since);
            file.size == Some(request.begun.size) && is_new
        });
        Ok(ours.map_or(Completion::Gone, Completion::Done))
    }

    pub(super) async fn abort_upload(&self, id: &RemoteUploadId) -> Result<(), Failure> {
        let url = self.url(&format!("upload/multipart/{id}"), &[])?;
        let failure = match self.call(SevenBridgesCall::Upload, Method::DELETE, url, None).await {
            Ok(_) => return Ok(()),
            Err(failure) => failure,
        };
        let is_gone = match failure.kind == FailureKind::ServerFault {
            // "Failed to abort" (8009) is also the answer for an upload that is gone.
            true => self.is_gone(id).await,
            false => matches!(failure.kind, FailureKind::UploadGone | FailureKind::NotFound),
        };
        if is_gone { Ok(()) } else { Err(failure) }
    }

    async fn is_gone(&self, id: &RemoteUploadId) -> bool {
        let told = self.details(id, false).await;
        told.is_err_and(|failure| failure.kind == FailureKind::UploadGone)
    }
}

/// Returns a part size that gives few enough parts, never below the first wish.
fn larger_wish(request: &BeginRequest) -> PartSize {
    let larger = request.size.0.div_ceil(PART_COUNT_WISH).div_ceil(MIB).saturating_mul(MIB);
    PartSize::new(larger).map_or(request.part_size, |larger| larger.max(request.part_size))
}

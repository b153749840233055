//! Seven Bridges, CAVATICA, CGC and BDC: API v2, one project, one credential.
//!
//! The vendor's rules that shape this file: the platform settles the part size, so the one in the
//! answer counts; signed addresses are fetched just before use and never kept; bytes go to a storage
//! host with exactly the headers told, never with our token; parts are reported in batches, for
//! calls are rationed per account (1000 in five minutes); a lost upload is a 404.
//!
//! *Never* retries, sleeps only for the call budget, and keeps nothing but the ids of folders. A
//! call that failed has said so in a [`Failure`]; what that leads to is the engine's.

mod folders;
mod wire;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderValue;
use reqwest::{Method, Url};
use serde::Serialize;

use super::contract::{Answer, BeginRequest, PartBody, Platform};
use super::credential::Credential;
use super::http::{Http, Request, Response, header_map, parse_url};
use crate::clock::Clock;
use crate::limiter::CallBudget;
use crate::model::{
    ByteCount, Description, ETag, Failure, FailureKind, PartLimits, PartNumber, PartSize,
    RemoteFile, RemoteFileId, RemotePart, RemoteUpload, RemoteUploadId, Target, Traits, WallTime,
};
use folders::Folders;
use wire::{Call, Place};

const MIB: u64 = 1024 * 1024;

/// What the vendor's documents and clients agree on.
pub const TRAITS: Traits = Traits {
    limits: PartLimits {
        size_min: ByteCount(5 * MIB),
        size_max: ByteCount(5 * 1024 * MIB),
        count_max: 10_000,
        file_max: ByteCount(5 * 1024 * 1024 * MIB),
    },
    reports_parts: true,
    report_max: 25,
    can_list_parts: true,
    wants_md5_first: false,
};

/// Names are at most this long.
const NAME_MAX: usize = 255;
/// Putting ten thousand parts together takes its time.
const COMPLETE_PATIENCE: Duration = Duration::from_mins(5);
/// An address is not used this close to its end.
const EXPIRY_MARGIN: Duration = Duration::from_mins(1);
/// How far a platform's clock may be behind ours when an upload is judged to be newer than an intent.
const CLOCK_SLACK: Duration = Duration::from_mins(5);
/// Items on one page of a list.
const PAGE: usize = 100;
/// Pages read at most: nobody has ten thousand uploads in progress.
const PAGES_MAX: usize = 100;
/// Limits of metadata.
const METADATA_KEY_MAX: usize = 100;
const METADATA_VALUE_MAX: usize = 300;

/// A configured target.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Such as `https://cavatica-api.sbgenomics.com/v2`.
    pub base_url: String,
    /// `owner/short-name`.
    pub project: String,
}

/// Budget and clock difference of one account, shared by all its destinations.
#[derive(Debug, Clone)]
pub struct Account {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    budget: CallBudget,
    /// The platform's clock minus ours, nanoseconds.
    clock_offset_ns: i64,
}

impl Account {
    /// Starts with the documented limit, or a fixed rate.
    pub fn new(calls_per_second: Option<f64>, clock: &Clock) -> Self {
        let budget = CallBudget::new(calls_per_second, clock.now().monotonic);
        Self { shared: Arc::new(Mutex::new(Shared { budget, clock_offset_ns: 0 })) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Shared) -> T) -> T {
        act(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The client.
#[derive(Debug)]
pub struct SevenBridges {
    http: Http,
    base: Url,
    project: String,
    credential: Arc<Credential>,
    account: Account,
    clock: Clock,
    folders: Folders,
}

impl SevenBridges {
    /// Builds the client.
    ///
    /// # Errors
    /// When the base URL is none.
    pub fn new(
        settings: &Settings,
        http: Http,
        credential: Arc<Credential>,
        account: Account,
        clock: Clock,
    ) -> Result<Self, Failure> {
        let base = parse_url(settings.base_url.trim_end_matches('/'))?;
        let project = settings.project.clone();
        Ok(Self { http, base, project, credential, account, clock, folders: Folders::default() })
    }

    /// Returns an address below the base; ids with a slash stay as they are.
    fn url(&self, path: &str, query: &[(&str, &str)]) -> Result<Url, Failure> {
        let mut url = parse_url(&format!("{}{path}", self.base))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    /// Waits for the budget, makes one call, and learns from the answer's headers.
    async fn call(
        &self,
        call: Call,
        method: Method,
        url: Url,
        body: Option<Bytes>,
    ) -> Result<Response, Failure> {
        self.wait_for_budget().await;
        let mut request = Request { body, ..Request::default() };
        let token = self.credential.token()?;
        let secret = header_map([("x-sbg-auth-token", token.reveal())].into_iter())?;
        request.headers.extend(secret);
        request.headers.insert("content-type", HeaderValue::from_static("application/json"));
        request.headers.insert("accept", HeaderValue::from_static("application/json"));
        request.patience = (call == Call::Complete).then_some(COMPLETE_PATIENCE);
        let path = url.path().to_owned();
        let response = self.http.send(method.clone(), url, request).await?;
        tracing::trace!(status = response.status, "{method} {path}");
        self.learn(&response);
        match response.status {
            200..=204 => Ok(response),
            _ => Err(wire::classify(call, &response, self.platform_time())),
        }
    }

    async fn call_json(
        &self,
        call: Call,
        method: Method,
        url: Url,
        body: &impl Serialize,
    ) -> Result<Response, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| {
            Failure::new(FailureKind::LocalFault, format!("the request cannot be written: {error}"))
        })?;
        self.call(call, method, url, Some(body.into())).await
    }

    async fn wait_for_budget(&self) {
        loop {
            let now = self.clock.now().monotonic;
            let Err(until) = self.account.with(|shared| shared.budget.take(now)) else { return };
            tokio::time::sleep(until.since(now)).await;
        }
    }

    fn learn(&self, response: &Response) {
        let now = self.clock.now();
        let number = |name| response.header(name).and_then(|text| text.parse().ok());
        let date = response.header("date").and_then(wire::parse_date);
        let pause = wire::announced_pause(response, self.platform_time());
        self.account.with(|shared| {
            if let Some(date) = date {
                shared.clock_offset_ns = date.0.saturating_sub(now.wall.0);
            }
            if let Some(limit) = number("x-ratelimit-limit") {
                shared.budget.announced(limit, number("x-ratelimit-remaining"), now.monotonic);
            }
            if response.status == 429 {
                let jitter = Duration::from_millis(1000 + self.clock.seed() % 4000);
                shared.budget.refused(pause, jitter, now.monotonic);
            }
        });
    }

    /// Returns the platform's time, as far as its answers told.
    fn platform_time(&self) -> WallTime {
        let offset = self.account.with(|shared| shared.clock_offset_ns);
        WallTime(self.clock.now().wall.0.saturating_add(offset))
    }

    fn place<'a>(&'a self, folder: Option<&'a str>) -> Place<'a> {
        folder.map_or(Place::Project(&self.project), Place::Parent)
    }

    async fn find_file(
        &self,
        folder: Option<&str>,
        name: &str,
    ) -> Result<Option<wire::File>, Failure> {
        let place = self.place(folder);
        let query = [place.query(), ("name", name), ("fields", "_all")];
        let response =
            self.call(Call::General, Method::GET, self.url("/files", &query)?, None).await?;
        let mut found: wire::Page<wire::File> = wire::parse(&response)?;
        found.items.retain(|file| file.name.as_deref() == Some(name));
        match found.items.len() {
            0 | 1 => Ok(found.items.pop()),
            count => Err(Failure::new(
                FailureKind::BadAnswer,
                format!("the platform shows {count} files of one name in one folder"),
            )),
        }
    }

    async fn initialise(
        &self,
        request: &BeginRequest,
        folder: Option<&str>,
        wish: PartSize,
    ) -> Result<RemoteUpload, Failure> {
        let overwrite = [("overwrite", "true")];
        let query = if request.overwrite { &overwrite[..] } else { &[] };
        let body = wire::BeginBody {
            place: self.place(folder),
            name: &request.target.name,
            size: request.size.0,
            part_size: wish.get(),
        };
        let url = self.url("/upload/multipart", query)?;
        let response = self.call_json(Call::Begin, Method::POST, url, &body).await?;
        let told: wire::Upload = wire::parse(&response)?;
        layout(told, request.size, wish)
    }

    async fn begin_at(&self, request: &BeginRequest) -> Result<RemoteUpload, Failure> {
        check_names(&request.target)?;
        let folder = self.make_folders(&request.target.folders).await?;
        let mut begun = self.initialise(request, folder.as_deref(), request.part_size).await;
        if is_missing_folder(&begun) && folder.is_some() {
            self.folders.forget(&request.target.folders);
            let folder = self.make_folders(&request.target.folders).await?;
            begun = self.initialise(request, folder.as_deref(), request.part_size).await;
        }
        let begun = begun?;
        if begun.part_count <= TRAITS.limits.count_max {
            return Ok(begun);
        }
        // The platform settled on parts so small that they would be too many: ask for larger ones.
        self.abort_upload(&begun.id).await?;
        let larger = request.size.0.div_ceil(u64::from(TRAITS.limits.count_max - 1000));
        let wish = PartSize::new(larger.next_multiple_of(MIB)).unwrap_or(request.part_size);
        let begun = self.initialise(request, folder.as_deref(), wish).await?;
        if begun.part_count <= TRAITS.limits.count_max {
            return Ok(begun);
        }
        self.abort_upload(&begun.id).await?;
        let message = "the platform's part size makes more parts than it allows";
        Err(Failure::new(FailureKind::BadRequest, message))
    }

    async fn details(
        &self,
        id: &RemoteUploadId,
        with_parts: bool,
    ) -> Result<wire::Upload, Failure> {
        let query = [("list_parts", if with_parts { "true" } else { "false" })];
        let url = self.url(&format!("/upload/multipart/{id}"), &query)?;
        wire::parse(&self.call(Call::Upload, Method::GET, url, None).await?)
    }

    async fn find_begun_at(
        &self,
        request: &BeginRequest,
        since: WallTime,
    ) -> Result<Vec<RemoteUpload>, Failure> {
        let folder = match self.find_folders(&request.target.folders).await? {
            Found::Folder(folder) => folder,
            Found::Missing => return Ok(Vec::new()),
        };
        let mut found = Vec::new();
        for upload in self.uploads_in_progress().await? {
            let place = match &folder {
                Some(id) => upload.parent.as_deref() == Some(id),
                None => upload.parent.is_none() && upload.project.as_deref() == Some(&self.project),
            };
            let at = upload.initiated.as_deref().and_then(wire::parse_time);
            let is_new = at.is_some_and(|at| at.after(CLOCK_SLACK) >= since);
            if place && is_new && upload.name.as_deref() == Some(&request.target.name) {
                found.extend(upload.upload_id.map(|id| (at, RemoteUploadId::new(id))));
            }
        }
        found.sort_by(|one, other| other.0.cmp(&one.0));
        let mut uploads = Vec::new();
        for (_, id) in found {
            match self.details(&id, false).await {
                Ok(told) => uploads.push(layout(told, request.size, request.part_size)?),
                Err(failure) if failure.kind == FailureKind::UploadGone => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(uploads)
    }

    async fn uploads_in_progress(&self) -> Result<Vec<wire::Upload>, Failure> {
        let mut uploads = Vec::new();
        for page in 0..PAGES_MAX {
            let (offset, limit) = ((page * PAGE).to_string(), PAGE.to_string());
            let query = [("offset", offset.as_str()), ("limit", limit.as_str())];
            let url = self.url("/upload/multipart", &query)?;
            let response = self.call(Call::General, Method::GET, url, None).await?;
            let told: wire::Page<wire::Upload> = wire::parse(&response)?;
            let count = told.items.len();
            uploads.extend(told.items);
            if count < PAGE {
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
        for _ in 0..2 {
            let url = self.url(&format!("/upload/multipart/{}/part/{part}", remote.id), &[])?;
            let response = self.call(Call::Upload, Method::GET, url, None).await?;
            let signed: wire::SignedPart = wire::parse(&response)?;
            let now = self.platform_time();
            if signed.expires_at().is_none_or(|expires| now.after(EXPIRY_MARGIN) < expires) {
                return Ok(signed);
            }
        }
        let message = "the platform gives addresses that have expired";
        Err(Failure::new(FailureKind::BadAnswer, message))
    }

    async fn put(
        &self,
        remote: &RemoteUpload,
        part: PartNumber,
        body: PartBody,
    ) -> Result<ETag, Failure> {
        let signed = self.signed_part(remote, part).await?;
        let method = signed.method.as_deref().unwrap_or("PUT");
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| Failure::new(FailureKind::BadAnswer, "the platform names no method"))?;
        let headers = header_map(signed.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())))?;
        let url = parse_url(&signed.url)?;
        let response = self.http.send_part(method, url, headers, body).await?;
        if !signed.is_success(response.status) {
            return Err(wire::classify_storage(&response));
        }
        match response.header("etag") {
            Some(etag) if !etag.trim_matches('"').is_empty() => Ok(ETag::from_header(etag)),
            Some(_) | None if !signed.wants_etag() => Ok(ETag::from_header("")),
            Some(_) | None => {
                let message = "the storage took the part and gave no ETag for it";
                Err(Failure::new(FailureKind::PartRejected, message))
            }
        }
    }

    async fn report(&self, remote: &RemoteUpload, parts: &[RemotePart]) -> Result<(), Failure> {
        let url = self.url(&format!("/upload/multipart/{}", remote.id), &[])?;
        let body = wire::ReportBody { parts: parts.iter().map(wire::Part::report).collect() };
        self.call_json(Call::Upload, Method::POST, url, &body).await.map(drop)
    }

    async fn abort_upload(&self, id: &RemoteUploadId) -> Result<(), Failure> {
        let url = self.url(&format!("/upload/multipart/{id}"), &[])?;
        match self.call(Call::Upload, Method::DELETE, url, None).await {
            Err(failure) if failure.kind != FailureKind::UploadGone => Err(failure),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn describe_file(&self, file: &RemoteFileId, said: &Description) -> Result<(), Failure> {
        let mark = said.mark.map(|mark| (wire::MARK_KEY.to_owned(), wire::render_mark(mark)));
        let pairs: Vec<_> = said.metadata.iter().cloned().chain(mark).collect();
        if let Some((key, _)) = pairs
            .iter()
            .find(|(key, value)| key.len() > METADATA_KEY_MAX || value.len() > METADATA_VALUE_MAX)
        {
            let message = format!(
                "metadata {key:?} is too long: keys have at most {METADATA_KEY_MAX} bytes, values {METADATA_VALUE_MAX}"
            );
            return Err(Failure::new(FailureKind::BadRequest, message));
        }
        if !pairs.is_empty() {
            let body: std::collections::BTreeMap<_, _> = pairs.into_iter().collect();
            let url = self.url(&format!("/files/{file}/metadata"), &[])?;
            self.call_json(Call::General, Method::PATCH, url, &body).await?;
        }
        if !said.tags.is_empty() {
            let url = self.url(&format!("/files/{file}/tags"), &[])?;
            self.call_json(Call::General, Method::PUT, url, &said.tags).await?;
        }
        Ok(())
    }

    async fn check(&self) -> Result<(), Failure> {
        self.call(Call::General, Method::GET, self.url("/user", &[])?, None).await?;
        let url = self.url(&format!("/projects/{}", self.project), &[])?;
        let response = self.call(Call::General, Method::GET, url, None).await?;
        let project: wire::Project = wire::parse(&response)?;
        if project.forbids_writing() {
            let message = format!("this credential may not write to project {}", self.project);
            return Err(Failure::new(FailureKind::Forbidden, message));
        }
        Ok(())
    }
}

/// Where a folder path leads.
enum Found {
    /// To this folder, or to the project's top.
    Folder(Option<String>),
    /// Nowhere yet.
    Missing,
}

fn is_missing_folder<T>(begun: &Result<T, Failure>) -> bool {
    begun.as_ref().is_err_and(|failure| failure.kind == FailureKind::NotFound)
}

/// Reads the layout that the platform settled on.
fn layout(told: wire::Upload, size: ByteCount, wish: PartSize) -> Result<RemoteUpload, Failure> {
    let bad = |message| Failure::new(FailureKind::BadAnswer, message);
    let part_size = match told.part_size {
        Some(bytes) => {
            PartSize::new(bytes).ok_or_else(|| bad("the platform settled on parts of no length"))?
        }
        None => wish,
    };
    Ok(RemoteUpload {
        id: RemoteUploadId::new(
            told.upload_id.ok_or_else(|| bad("an upload without id was told"))?,
        ),
        part_count: part_size
            .count_for(size)
            .ok_or_else(|| bad("the platform settled on absurdly small parts"))?,
        part_size,
        sequential: told.parallel_uploads == Some(false),
    })
}

fn check_names(target: &Target) -> Result<(), Failure> {
    let bad = |message| Err(Failure::new(FailureKind::BadRequest, message));
    let is_long = |name: &String| name.chars().count() > NAME_MAX;
    if target.folders.iter().chain([&target.name]).any(is_long) {
        return bad(format!(
            "a name is longer than the {NAME_MAX} characters that the platform takes"
        ));
    }
    if target.folders.iter().any(|name| name.starts_with("__")) {
        return bad(
            "a folder's name starts with two underscores, which the platform refuses".into()
        );
    }
    Ok(())
}

impl Platform for SevenBridges {
    fn traits(&self) -> Traits {
        TRAITS
    }

    fn check_access(&self) -> Answer<'_, ()> {
        Box::pin(self.check())
    }

    fn locate<'a>(&'a self, target: &'a Target) -> Answer<'a, Option<RemoteFile>> {
        Box::pin(async move {
            let Found::Folder(folder) = self.find_folders(&target.folders).await? else {
                return Ok(None);
            };
            let found = self.find_file(folder.as_deref(), &target.name).await;
            if is_missing_folder(&found) && folder.is_some() {
                self.folders.forget(&target.folders);
                return Ok(None);
            }
            found?.map(wire::File::remote).transpose()
        })
    }

    fn begin<'a>(&'a self, request: &'a BeginRequest) -> Answer<'a, RemoteUpload> {
        Box::pin(self.begin_at(request))
    }

    fn find_begun<'a>(
        &'a self,
        request: &'a BeginRequest,
        since: WallTime,
    ) -> Answer<'a, Vec<RemoteUpload>> {
        Box::pin(self.find_begun_at(request, since))
    }

    fn put_part<'a>(
        &'a self,
        remote: &'a RemoteUpload,
        part: PartNumber,
        body: PartBody,
    ) -> Answer<'a, ETag> {
        Box::pin(self.put(remote, part, body))
    }

    fn list_parts<'a>(&'a self, remote: &'a RemoteUpload) -> Answer<'a, Vec<RemotePart>> {
        Box::pin(async move {
            let told = self.details(&remote.id, true).await?;
            if told.part_size.is_some_and(|bytes| bytes != remote.part_size.get()) {
                let message = "the platform has the upload in another part size";
                return Err(Failure::new(FailureKind::UploadGone, message));
            }
            Ok(told.parts.iter().filter_map(wire::Part::listed).collect())
        })
    }

    fn report_parts<'a>(
        &'a self,
        remote: &'a RemoteUpload,
        parts: &'a [RemotePart],
    ) -> Answer<'a, ()> {
        Box::pin(self.report(remote, parts))
    }

    fn complete<'a>(
        &'a self,
        remote: &'a RemoteUpload,
        _: &'a [RemotePart],
    ) -> Answer<'a, RemoteFile> {
        Box::pin(async move {
            let url = self.url(&format!("/upload/multipart/{}/complete", remote.id), &[])?;
            let response = self
                .call(Call::Complete, Method::POST, url, Some(Bytes::from_static(b"{}")))
                .await?;
            wire::parse::<wire::File>(&response)?.remote()
        })
    }

    fn inspect<'a>(&'a self, file: &'a RemoteFileId) -> Answer<'a, Option<RemoteFile>> {
        Box::pin(async move {
            let url = self.url(&format!("/files/{file}"), &[("fields", "_all")])?;
            match self.call(Call::General, Method::GET, url, None).await {
                Ok(response) => wire::parse::<wire::File>(&response)?.remote().map(Some),
                Err(failure) if failure.kind == FailureKind::NotFound => Ok(None),
                Err(failure) => Err(failure),
            }
        })
    }

    fn describe<'a>(
        &'a self,
        file: &'a RemoteFileId,
        description: &'a Description,
    ) -> Answer<'a, ()> {
        Box::pin(self.describe_file(file, description))
    }

    fn abort<'a>(&'a self, remote: &'a RemoteUploadId) -> Answer<'a, ()> {
        Box::pin(self.abort_upload(remote))
    }
}

//! A platform in memory: behaves like Seven Bridges, strictly, and keeps a ledger.
//!
//! For the simulation and the conformance tests. As the remote side, it survives crashes of the
//! daemon. Its futures need no runtime: they wait only for the bytes of a part.

mod exports;
mod stored;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;

use self::stored::is_whole;
use super::contract::{
    Answer, BeginRequest, CompleteRequest, Exports, PartBody, PartRequest, Platform, Whole,
    WholeRequest,
};
use crate::model::{
    ByteCount, Completion, Describes, Description, ETag, ExportItem, ExportState, Failure,
    FailureKind, PartNumber, PartSize, RemoteFile, RemoteFileId, RemotePart, RemoteUpload,
    RemoteUploadId, Stored, Target, Traits, WallTime,
};

/// How far its clock may be behind the client's.
const CLOCK_SLACK: Duration = Duration::from_mins(5);

/// The platform; copies are handles to the same one.
#[derive(Debug, Clone)]
pub struct Fake {
    traits: Traits,
    state: Arc<Mutex<FakeState>>,
}

#[derive(Debug, Clone, Default)]
pub struct FakeState {
    pub files: BTreeMap<String, FakeFile>,
    /// Uploads in progress by id.
    pub uploads: BTreeMap<String, FakeUpload>,
    /// Bytes received, including repeated ones.
    pub bytes_received: u64,
    /// Bytes received beyond the first complete arrival of each part.
    pub bytes_received_again: u64,
    /// Bytes received for each upload of the sender, by its token, and the length of its file: it
    /// may have several uploads here.
    received: BTreeMap<String, (u64, u64)>,
    pub calls: BTreeMap<&'static str, u64>,
    pub now: WallTimeOrZero,
    /// Finished runs, with their numbers of files at that time.
    pub finished: Vec<(String, usize)>,
    /// Export jobs, the oldest first.
    pub jobs: Vec<FakeJob>,
    pub faults: FakeFaults,
    counter: u64,
}

/// Deviations from a platform without faults.
#[derive(Debug, Clone, Default)]
pub struct FakeFaults {
    /// It does not answer.
    pub is_down: bool,
    /// It refuses the credential.
    pub is_revoked: bool,
    /// Files with this name are refused with this kind.
    pub refused: Option<(&'static str, FailureKind)>,
    /// Its ETags are not MD5s, and it reports that.
    pub is_opaque: bool,
    /// Its ETags are not MD5s, and differ each time; it does not report that.
    pub is_unlike: bool,
    /// This many of the next parts and files are stored with a wrong byte.
    pub damages: u32,
    /// It gives no ETags.
    pub is_silent: bool,
    /// It cannot list its parts.
    pub lists_no_parts: bool,
    /// The results of the next jobs, by the end of their location.
    pub bad_jobs: Vec<(String, FailureKind)>,
    /// The part size it chooses, whatever is wished.
    pub part_size: Option<PartSize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeJob {
    /// The requested item.
    pub item: ExportItem,
    /// Polls until it ends.
    pub questions_left: u32,
    pub end: Option<FailureKind>,
}

impl FakeJob {
    fn state(&self) -> ExportState {
        match self.end {
            _ if self.questions_left > 0 => ExportState::Pending,
            None => ExportState::Completed,
            Some(kind) => ExportState::Failed(Failure::new(kind, "the job failed")),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WallTimeOrZero(pub WallTime);

impl Default for WallTimeOrZero {
    fn default() -> Self {
        Self(WallTime(0))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeFile {
    pub target: Target,
    pub bytes: Vec<u8>,
    pub description: Description,
    created_at: WallTime,
    /// Of the request that created it.
    token: Option<String>,
    etag: ETag,
}

#[derive(Debug, Clone)]
pub struct FakeUpload {
    /// Its position in the order of all begins.
    serial: u64,
    request: BeginRequest,
    remote: RemoteUpload,
    initiated_at: WallTime,
    stored: BTreeMap<PartNumber, (ETag, Vec<u8>)>,
    reported: BTreeMap<PartNumber, ETag>,
}

type Result<T> = std::result::Result<T, Failure>;

fn refuse<T>(kind: FailureKind, why: &str) -> Result<T> {
    Err(Failure::new(kind, why))
}

impl Fake {
    /// Starts empty.
    pub fn new(traits: Traits) -> Self {
        Self { traits, state: Arc::default() }
    }

    /// Returns another platform with the same content, for a run that takes another course from here.
    pub fn twin(&self) -> Self {
        Self { traits: self.traits, state: Arc::new(Mutex::new(self.state().clone())) }
    }

    /// Returns its whole state, to read or to change.
    pub fn state(&self) -> MutexGuard<'_, FakeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, operation: &'static str) -> Result<MutexGuard<'_, FakeState>> {
        let mut state = self.state();
        *state.calls.entry(operation).or_default() += 1;
        match (state.faults.is_down, state.faults.is_revoked) {
            (true, _) => refuse(FailureKind::Unreachable, "nobody answers"),
            (false, true) => refuse(FailureKind::Unauthorized, "the token is not accepted"),
            (false, false) => Ok(state),
        }
    }

    fn initiate(&self, request: &BeginRequest) -> Result<RemoteUpload> {
        let mut state = self.enter("begin")?;
        if let Some((_, kind)) =
            state.faults.refused.filter(|(name, _)| *name == request.target.name())
        {
            return refuse(kind, "files of this name are refused");
        }
        let standing = state.find(&request.target);
        let is_taken = standing.is_some_and(|id| !state.is_at(&id, request.replaces.as_ref()));
        if !request.overwrite && is_taken {
            return refuse(FailureKind::NameTaken, "a file of that name is there");
        }
        let part_size = state.faults.part_size.unwrap_or(request.part_size);
        let Some(part_count) = part_size.count_for(request.size) else {
            return refuse(FailureKind::BadRequest, "too many parts");
        };
        let id = RemoteUploadId::new(state.new_id("upload"));
        let remote = RemoteUpload { id, part_size, part_count, sequential: false };
        let upload = FakeUpload {
            serial: state.counter,
            request: request.clone(),
            remote: remote.clone(),
            initiated_at: state.now.0,
            stored: BTreeMap::new(),
            reported: BTreeMap::new(),
        };
        state.uploads.insert(remote.id.as_str().to_owned(), upload);
        Ok(remote)
    }

    async fn receive(&self, request: &PartRequest, body: PartBody) -> Result<Stored> {
        let PartRequest { remote, part, .. } = request;
        if is_whole(&remote.id) {
            let whole = WholeRequest { begun: request.only()?.clone(), looks: false };
            return self.take_whole(&whole, body).await.map(|whole| whole.stored);
        }
        drop(self.enter("put part")?);
        let bytes = self.arrive(body).await?;
        let mut state = self.state();
        let length = bytes.len() as u64;
        let bytes = state.damage(bytes);
        let stored = state.tell(&bytes);
        let Some(upload) = state.uploads.get_mut(remote.id.as_str()) else {
            state.arrived(length, true);
            return refuse(FailureKind::UploadGone, "no such upload");
        };
        let again = upload.stored.insert(*part, (stored.etag.clone(), bytes)).is_some();
        let (token, size) = (upload.request.token.clone(), upload.request.size);
        state.arrived(length, again);
        state.arrived_for(token, size, length);
        Ok(stored)
    }

    fn put_together(&self, request: &CompleteRequest) -> Result<RemoteFile> {
        let mut state = self.enter("complete")?;
        if is_whole(&request.remote.id) {
            let lost = || Failure::new(FailureKind::CompleteRefused, "the file is not there");
            return state.made_by(&request.remote.id).ok_or_else(lost);
        }
        let Some(upload) = state.uploads.get(request.remote.id.as_str()).cloned() else {
            return refuse(FailureKind::UploadGone, "no such upload");
        };
        let stored = upload.stored.iter().map(|(number, (etag, _))| (*number, etag.clone()));
        let known: BTreeMap<_, _> = if self.traits.reports_parts {
            let now = request.unreported.iter().map(|part| (part.number, part.etag.clone()));
            upload.reported.into_iter().chain(now).collect()
        } else {
            stored.clone().collect()
        };
        let size: usize = upload.stored.values().map(|(_, bytes)| bytes.len()).sum();
        let is_whole = known.len() == upload.remote.part_count as usize
            && known == stored.collect()
            && size as u64 == upload.request.size.0;
        if !is_whole {
            return refuse(FailureKind::CompleteRefused, "parts are missing or are others");
        }
        let target = upload.request.target.clone();
        match state.find(&target) {
            Some(old)
                if upload.request.overwrite
                    || state.is_at(&old, request.begun.replaces.as_ref()) =>
            {
                state.files.remove(&old);
            }
            Some(_) => return refuse(FailureKind::NameTaken, "a file of that name is there"),
            None => {}
        }
        state.uploads.remove(request.remote.id.as_str());
        let id = state.new_id("file");
        let etag = ETag::from_header(&format!("{id}-parts"));
        let token = Some(upload.request.token.clone());
        let file = FakeFile {
            target,
            bytes: upload.stored.into_values().flat_map(|(_, bytes)| bytes).collect(),
            description: match self.traits.describes {
                Describes::AtBegin => upload.request.description,
                Describes::AfterCompletion | Describes::Never => Description::default(),
            },
            created_at: state.now.0,
            token,
            etag,
        };
        let shown = file.show(&id);
        state.files.insert(id, file);
        Ok(shown)
    }

    /// Receives all bytes of a part, or returns why they end early.
    async fn arrive(&self, body: PartBody) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut chunks = body.chunks;
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                Err(error) => {
                    self.state().arrived(bytes.len() as u64, true);
                    let failure = error.get_ref().and_then(|inner| inner.downcast_ref::<Failure>());
                    let broken = || Failure::new(FailureKind::SourceUnreadable, error.to_string());
                    return Err(failure.cloned().unwrap_or_else(broken));
                }
            }
        }
        Ok(bytes)
    }

    fn of_upload<T>(
        &self,
        operation: &'static str,
        id: &RemoteUploadId,
        act: impl FnOnce(&mut FakeUpload) -> T,
    ) -> Result<T> {
        let mut state = self.enter(operation)?;
        match state.uploads.get_mut(id.as_str()) {
            Some(upload) => Ok(act(upload)),
            None => refuse(FailureKind::UploadGone, "no such upload"),
        }
    }
}

impl FakeState {
    fn new_id(&mut self, what: &str) -> String {
        self.counter += 1;
        format!("{what}-{}", self.counter)
    }

    fn find(&self, target: &Target) -> Option<String> {
        self.files.iter().find(|(_, file)| file.target == *target).map(|(id, _)| id.clone())
    }

    fn completion(&self, request: &CompleteRequest) -> Completion {
        if self.uploads.contains_key(request.remote.id.as_str()) {
            return Completion::Pending;
        }
        if is_whole(&request.remote.id) {
            let made = self.made_by(&request.remote.id);
            return made.map_or(Completion::Pending, Completion::Done);
        }
        let is_ours = |file: &&FakeFile| {
            file.bytes.len() as u64 == request.begun.size.0
                && file.created_at.after(CLOCK_SLACK) >= request.since
        };
        let id = self.find(&request.begun.target);
        let file = id.as_ref().and_then(|id| self.files.get(id)).filter(is_ours);
        match id.zip(file) {
            Some((id, file)) => Completion::Done(file.show(&id)),
            None => Completion::Gone,
        }
    }

    fn arrived(&mut self, bytes: u64, again: bool) {
        self.bytes_received += bytes;
        self.bytes_received_again += if again { bytes } else { 0 };
    }
}

impl FakeFile {
    fn show(&self, id: &str) -> RemoteFile {
        RemoteFile {
            id: RemoteFileId::new(id),
            name: self.target.name().to_owned(),
            size: Some(ByteCount(self.bytes.len() as u64)),
            mark: self.description.mark,
            created_at: Some(self.created_at),
            etag: Some(self.etag.clone()),
            version: None,
            maker: None,
        }
    }
}

impl Platform for Fake {
    fn traits(&self) -> Traits {
        self.traits
    }

    fn check_access(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(self.enter("check access").map(drop)))
    }

    fn locate<'a>(&'a self, target: &'a Target) -> Answer<'a, Option<RemoteFile>> {
        let found = self.enter("locate").map(|state| {
            let id = state.find(target)?;
            let show = |file: &FakeFile| RemoteFile { maker: file.maker(), ..file.show(&id) };
            state.files.get(&id).map(show)
        });
        Box::pin(std::future::ready(found))
    }

    fn begin<'a>(&'a self, request: &'a BeginRequest) -> Answer<'a, RemoteUpload> {
        Box::pin(std::future::ready(self.initiate(request)))
    }

    fn find_begun<'a>(
        &'a self,
        request: &'a BeginRequest,
        since: WallTime,
    ) -> Answer<'a, Vec<RemoteUpload>> {
        let found = self.enter("find begun").map(|state| {
            let is_ours = |upload: &&FakeUpload| {
                upload.request.target == request.target
                    && upload.initiated_at.after(CLOCK_SLACK) >= since
            };
            let mut ours: Vec<_> = state.uploads.values().filter(is_ours).collect();
            ours.sort_by_key(|upload| Reverse(upload.serial));
            ours.into_iter().map(|upload| upload.remote.clone()).collect()
        });
        Box::pin(std::future::ready(found))
    }

    fn put_part<'a>(&'a self, request: &'a PartRequest, body: PartBody) -> Answer<'a, Stored> {
        Box::pin(self.receive(request, body))
    }

    fn put_whole<'a>(&'a self, request: &'a WholeRequest, body: PartBody) -> Answer<'a, Whole> {
        Box::pin(self.take_whole(request, body))
    }

    fn list_parts<'a>(&'a self, remote: &'a RemoteUpload) -> Answer<'a, Option<Vec<RemotePart>>> {
        let reports = self.traits.reports_parts;
        let tells = !self.state().faults.lists_no_parts;
        if is_whole(&remote.id) {
            return Box::pin(std::future::ready(self.only_part(&remote.id)));
        }
        let listed = self.of_upload("list parts", &remote.id, |upload| {
            let part = |(number, etag): (&PartNumber, &ETag)| RemotePart {
                number: *number,
                etag: etag.clone(),
                note: None,
            };
            if reports {
                return upload.reported.iter().map(part).collect();
            }
            upload.stored.iter().map(|(number, (etag, _))| part((number, etag))).collect()
        });
        Box::pin(std::future::ready(listed.map(|parts| tells.then_some(parts))))
    }

    fn report_parts<'a>(
        &'a self,
        remote: &'a RemoteUpload,
        parts: &'a [RemotePart],
    ) -> Answer<'a, ()> {
        let reported = self.of_upload("report", &remote.id, |upload| {
            upload.reported.extend(parts.iter().map(|part| (part.number, part.etag.clone())));
        });
        Box::pin(std::future::ready(reported))
    }

    fn complete<'a>(&'a self, request: &'a CompleteRequest) -> Answer<'a, RemoteFile> {
        Box::pin(std::future::ready(self.put_together(request)))
    }

    fn find_completed<'a>(&'a self, request: &'a CompleteRequest) -> Answer<'a, Completion> {
        let found = self.enter("find completed").map(|state| state.completion(request));
        Box::pin(std::future::ready(found))
    }

    fn inspect<'a>(&'a self, file: &'a RemoteFileId) -> Answer<'a, Option<RemoteFile>> {
        let found = self
            .enter("inspect")
            .map(|state| state.files.get(file.as_str()).map(|found| found.show(file.as_str())));
        Box::pin(std::future::ready(found))
    }

    fn read_back<'a>(
        &'a self,
        file: &'a RemoteFileId,
        part_size: PartSize,
    ) -> Answer<'a, Option<RemoteFile>> {
        Box::pin(std::future::ready(self.read(file, part_size)))
    }

    fn describe<'a>(
        &'a self,
        file: &'a RemoteFileId,
        description: &'a Description,
    ) -> Answer<'a, ()> {
        let said =
            self.enter("describe").and_then(|mut state| match state.files.get_mut(file.as_str()) {
                Some(found) => {
                    found.description = description.clone();
                    Ok(())
                }
                None => refuse(FailureKind::NotFound, "no such file"),
            });
        Box::pin(std::future::ready(said))
    }

    fn rename<'a>(&'a self, file: &'a RemoteFileId, name: &'a str) -> Answer<'a, bool> {
        Box::pin(std::future::ready(self.give_name(file, name)))
    }

    fn remove<'a>(&'a self, file: &'a RemoteFileId) -> Answer<'a, ()> {
        Box::pin(std::future::ready(self.take_away(file)))
    }

    fn finish_run<'a>(&'a self, name: &'a str) -> Answer<'a, ()> {
        let told = self.enter("finish run").map(|mut state| {
            let count = state.files.len();
            state.finished.push((name.to_owned(), count));
        });
        Box::pin(std::future::ready(told))
    }

    fn exports(&self) -> Option<&dyn Exports> {
        Some(self)
    }

    fn abort<'a>(&'a self, remote: &'a RemoteUploadId) -> Answer<'a, ()> {
        let removed = self.enter("abort").map(|mut state| {
            state.uploads.remove(remote.as_str());
        });
        Box::pin(std::future::ready(removed))
    }
}

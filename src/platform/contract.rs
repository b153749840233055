//! What every platform must be able to do, and what is true when an answer is lost.
//!
//! Each operation's doc has three fixed lines: *repeatable?*, *if the answer is lost*, *failures*.
//! An operation never retries by itself, never sleeps (but for the call budget), and maps whatever
//! happened onto a [`Failure`] with a kind from the closed list. Success is one explicit arm.
//! Bodies of parts come as a stream: an operation must never hold a whole part in memory.

use std::future::ready;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::model::{
    ByteCount, Completion, Description, ExportId, ExportItem, ExportJob, ExportMode, ExportState,
    Failure, FailureKind, Learned, Md5, OpenUpload, PartSize, RemoteFile, RemoteFileId, RemotePart,
    RemoteUpload, RemoteUploadId, Stored, Target, Traits, WallTime,
};

pub use crate::model::call::{BeginRequest, CompleteRequest, PartRequest, Whole, WholeRequest};

pub type Answer<'a, T> = BoxFuture<'a, Result<T, Failure>>;

/// One part's bytes, on their way.
pub struct PartBody {
    /// Exactly how many bytes the stream gives.
    pub length: ByteCount,
    /// Their digest, where [`Traits::wants_md5_first`].
    pub md5: Option<Md5>,
    /// The bytes in order; an error ends the request without the part being accepted.
    pub chunks: BoxStream<'static, Result<Bytes, std::io::Error>>,
}

impl PartBody {
    /// Returns the digest as a `Content-MD5` header says it.
    pub fn content_md5(&self) -> Option<String> {
        self.md5.map(|md5| STANDARD.encode(md5.0))
    }
}

/// A right that uploads use, and whether we have it.
#[derive(Debug, Clone)]
pub struct RightFound {
    /// What it is for, with its name at the vendor.
    pub right: &'static str,
    pub state: RightState,
    /// Nothing works without it.
    pub is_needed: bool,
    /// What goes without it, or does not.
    pub without: &'static str,
}

impl RightFound {
    /// The right to write, which is tried by nothing less than a file.
    pub fn untried() -> Self {
        let without = "nothing can be uploaded; a trial would leave something behind";
        Self { right: "to write", state: RightState::NotTried, is_needed: true, without }
    }
}

#[derive(Debug, Clone)]
pub enum RightState {
    Granted,
    Refused(Failure),
    /// It cannot be told, and why.
    Unknown(&'static str),
    NotTried,
}

/// A platform with one account, project and credential.
pub trait Platform: Send + Sync {
    /// Returns how this platform differs from the others.
    fn traits(&self) -> Traits;

    /// Asks whether the platform takes our credential and lets us write to the target.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened.
    /// Failures: any but those of parts and uploads.
    fn check_access(&self) -> Answer<'_, ()>;

    /// Returns whose credential it is, where the platform says so.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened. Failures: as [`Self::check_access`].
    /// By default it is not known.
    fn account(&self) -> Answer<'_, Option<String>> {
        Box::pin(ready(Ok(None)))
    }

    /// Tries each right that uploads use, and leaves nothing behind.
    ///
    /// Repeatable: yes. If the answer is lost: an unfinished upload of the check may be there, which no
    /// list of ours shows. Failures: as [`Self::check_access`]; a right that is refused is none.
    /// By default none is tried beyond what that finds out.
    fn check_rights(&self) -> Answer<'_, Vec<RightFound>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    /// Returns what was found out of the storage since this was asked last, with what it said. It is kept
    /// for good.
    fn news(&self) -> Vec<(Learned, String)> {
        Vec::new()
    }

    /// Goes by what was found out before.
    fn know(&self, _what: Learned) {}

    /// Returns what it goes by, so that another client of the same target can.
    fn known(&self) -> Vec<Learned> {
        Vec::new()
    }

    /// Looks a file up by its place and name. Makes no folder.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened. A missing folder is `None`.
    /// By default nothing is found: for platforms where no file can be looked up.
    fn locate<'a>(&'a self, _target: &'a Target) -> Answer<'a, Option<RemoteFile>> {
        Box::pin(ready(Ok(None)))
    }

    /// Asks for a remote upload; folders are made when missing.
    ///
    /// Repeatable: no. If the answer is lost: a remote upload without owner may exist, see
    /// [`Self::find_begun`]. Failures: also `NameTaken`, `Quota`, `BadRequest`, `NotFound`.
    fn begin<'a>(&'a self, request: &'a BeginRequest) -> Answer<'a, RemoteUpload>;

    /// Finds unfinished remote uploads of ours for this request that were begun at or after
    /// `since` (five minutes of clock difference allowed), the newest first.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened.
    /// By default none is found: for platforms that list no uploads. One whose begin had no answer
    /// is nameless there, and stays behind without ever being completed.
    fn find_begun<'a>(
        &'a self,
        _request: &'a BeginRequest,
        _since: WallTime,
    ) -> Answer<'a, Vec<RemoteUpload>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    /// Lists the unfinished remote uploads that the credential can see, whoever began them; only
    /// those whose place begins with `below`, where the platform knows such a thing. `None` where it
    /// lists no uploads.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened.
    /// By default it lists none.
    fn list_open<'a>(&'a self, _below: &'a str) -> Answer<'a, Option<Vec<OpenUpload>>> {
        Box::pin(ready(Ok(None)))
    }

    /// Sends one part and returns what the storage answered.
    ///
    /// Repeatable: yes, same bytes, same number; an only part that made the file is [`Stored::is_found`].
    /// If the answer is lost: the part may be stored.
    /// Failures: also `PartRejected`, `UploadGone`; `NameTaken` where the only part makes the file.
    fn put_part<'a>(&'a self, request: &'a PartRequest, body: PartBody) -> Answer<'a, Stored>;

    /// Sends a file of one part, which makes it.
    ///
    /// Repeatable: yes, same bytes, same token: what an earlier request of ours made is the answer, as
    /// [`Stored::is_found`], and stays unless it is what the request replaces. If the answer is lost: the
    /// file may exist.
    /// Failures: also `PartRejected`; `NameTaken` when a file is there that carries another token, and is
    /// not to be replaced.
    /// By default it is refused: for platforms without [`Traits::sends_whole`].
    fn put_whole<'a>(&'a self, _request: &'a WholeRequest, _body: PartBody) -> Answer<'a, Whole> {
        let message = "the platform takes no file in one request";
        Box::pin(ready(Err(Failure::new(FailureKind::BadRequest, message))))
    }

    /// Returns the parts the platform knows of, or `None` where it cannot tell: then what we have a
    /// checkpoint for counts.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened. Failures: also `UploadGone`.
    fn list_parts<'a>(&'a self, remote: &'a RemoteUpload) -> Answer<'a, Option<Vec<RemotePart>>>;

    /// Tells the platform about accepted parts, at most [`Traits::report_max`].
    ///
    /// Repeatable: yes. If the answer is lost: it may know or not. Failures: also `UploadGone`.
    /// By default nobody is told: for platforms without [`Traits::reports_parts`].
    fn report_parts<'a>(
        &'a self,
        _remote: &'a RemoteUpload,
        _parts: &'a [RemotePart],
    ) -> Answer<'a, ()> {
        Box::pin(ready(Ok(())))
    }

    /// Asks the platform to put the parts together.
    ///
    /// Repeatable: only after asking what is true. If the answer is lost: the file may exist.
    /// Failures: also `CompleteRefused` (the upload may still be there), `UploadGone`
    /// (completed before, or lost), `NameTaken`.
    fn complete<'a>(&'a self, request: &'a CompleteRequest) -> Answer<'a, RemoteFile>;

    /// Finds out whether a complete had its effect: its answer was lost, or the upload is said to
    /// be gone. A file counts as ours only when nothing speaks against it.
    ///
    /// Repeatable: yes, but for platforms that can be asked only by completing once more. If the
    /// answer is lost: it is asked again.
    fn find_completed<'a>(&'a self, request: &'a CompleteRequest) -> Answer<'a, Completion>;

    /// Returns the file with that id, or `None`.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened.
    fn inspect<'a>(&'a self, file: &'a RemoteFileId) -> Answer<'a, Option<RemoteFile>>;

    /// Reads a file back, and returns it with a digest that is taken of its bytes, over parts of the
    /// given length; `None` when it is not there.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened.
    /// By default it is refused: for platforms whose [`ETagLaw`](crate::model::ETagLaw) does not need it.
    fn read_back<'a>(
        &'a self,
        _file: &'a RemoteFileId,
        _part_size: PartSize,
    ) -> Answer<'a, Option<RemoteFile>> {
        let message = "the platform gives no file back";
        Box::pin(ready(Err(Failure::new(FailureKind::BadRequest, message))))
    }

    /// Sets metadata and tags of a file.
    ///
    /// Repeatable: yes. If the answer is lost: they may be set.
    /// By default nothing is set: for platforms that describe at begin, or never.
    fn describe<'a>(
        &'a self,
        _file: &'a RemoteFileId,
        _description: &'a Description,
    ) -> Answer<'a, ()> {
        Box::pin(ready(Ok(())))
    }

    /// Gives a file another name in its folder; returns whether the file is there.
    ///
    /// Repeatable: yes. If the answer is lost: it may have the name. Failures: also `NameTaken`.
    /// By default it is refused: for platforms without [`Replaces::ByRenaming`](crate::model::Replaces).
    fn rename<'a>(&'a self, _file: &'a RemoteFileId, _name: &'a str) -> Answer<'a, bool> {
        let message = "the platform renames no file";
        Box::pin(ready(Err(Failure::new(FailureKind::BadRequest, message))))
    }

    /// Removes a file. "Not found" is success.
    ///
    /// Repeatable: yes. If the answer is lost: it may be gone.
    /// By default it is refused, as [`Self::rename`] is.
    fn remove<'a>(&'a self, _file: &'a RemoteFileId) -> Answer<'a, ()> {
        let message = "the platform removes no file";
        Box::pin(ready(Err(Failure::new(FailureKind::BadRequest, message))))
    }

    /// Says that all of a run is there, where [`Traits::finishes_runs`]; by the name of its top
    /// folder. "Not found" and "finished before" are success.
    ///
    /// Repeatable: yes. If the answer is lost: it may be known.
    fn finish_run<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Returns its exports, where it has such a thing.
    fn exports(&self) -> Option<&dyn Exports> {
        None
    }

    /// Removes an unfinished remote upload. "Not found" is success.
    ///
    /// Repeatable: yes. If the answer is lost: it may be gone.
    fn abort<'a>(&'a self, remote: &'a RemoteUploadId) -> Answer<'a, ()>;
}

/// Exports to an attached volume, for platforms that have them.
pub trait Exports: Send + Sync {
    /// Looks for the newest job for each item that has not failed; in order.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened.
    fn find<'a>(&'a self, items: &'a [ExportItem]) -> Answer<'a, Vec<Option<ExportJob>>>;

    /// Asks for a job for each item, at most 100; in order, each with its own refusal.
    ///
    /// Repeatable: no. If the answer is lost: some jobs or all may exist, see [`Self::find`].
    fn start<'a>(
        &'a self,
        items: &'a [ExportItem],
        mode: ExportMode,
    ) -> Answer<'a, Vec<Result<ExportId, Failure>>>;

    /// Asks how jobs stand, at most 100; in order.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened.
    fn poll<'a>(&'a self, jobs: &'a [ExportId]) -> Answer<'a, Vec<Result<ExportState, Failure>>>;
}

/// A platform behind a pointer, as the daemon holds it.
pub type SharedPlatform = Arc<dyn Platform>;

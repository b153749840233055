//! The operations of every platform, and the state after a lost answer.
//!
//! Each operation's doc has three fixed lines: *repeatable?*, *if the answer is lost*, *failures*.
//! An operation never retries by itself, never sleeps (except for the call budget), and maps every
//! error to a [`Failure`] with a kind from the closed list. Success is one explicit arm. Bodies of
//! parts are streams: an operation must never hold a whole part in memory.

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

/// The bytes of one part, as a stream.
pub struct PartBody {
    /// The exact number of bytes in the stream.
    pub length: ByteCount,
    /// Their digest, where [`Traits::wants_md5_first`].
    pub md5: Option<Md5>,
    /// The bytes in order; an error ends the request without the part being accepted.
    pub chunks: BoxStream<'static, Result<Bytes, std::io::Error>>,
}

impl PartBody {
    /// Returns the digest as the value of a `Content-MD5` header.
    pub fn content_md5(&self) -> Option<String> {
        self.md5.map(|md5| STANDARD.encode(md5.0))
    }
}

/// A permission that uploads need, and whether we have it.
#[derive(Debug, Clone)]
pub struct RightFound {
    /// Its purpose, with its name at the vendor.
    pub right: &'static str,
    pub state: RightState,
    /// Nothing works without it.
    pub is_needed: bool,
    /// The consequence of lacking it.
    pub without: &'static str,
}

impl RightFound {
    /// The permission to write, which can only be tested by creating a file.
    pub fn untried() -> Self {
        let without = "nothing can be uploaded; a trial would leave something behind";
        Self { right: "to write", state: RightState::NotTried, is_needed: true, without }
    }
}

#[derive(Debug, Clone)]
pub enum RightState {
    Granted,
    Refused(Failure),
    /// It is not known, and why.
    Unknown(&'static str),
    NotTried,
}

/// A platform with one account, project and credential.
pub trait Platform: Send + Sync {
    /// Returns how this platform differs from the others.
    fn traits(&self) -> Traits;

    /// Checks that the platform accepts our credential and permits writing to the target.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened.
    /// Failures: any but those of parts and uploads.
    fn check_access(&self) -> Answer<'_, ()>;

    /// Returns the account of the credential, where the platform reports it.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened. Failures: as [`Self::check_access`].
    /// By default it is unknown.
    fn account(&self) -> Answer<'_, Option<String>> {
        Box::pin(ready(Ok(None)))
    }

    /// Tests each permission that uploads need, and leaves nothing behind.
    ///
    /// Repeatable: yes. If the answer is lost: an unfinished upload of the check may remain, which
    /// no list of ours shows. Failures: as [`Self::check_access`]; a refused permission is no
    /// failure. By default no further permission is tested.
    fn check_rights(&self) -> Answer<'_, Vec<RightFound>> {
        Box::pin(ready(Ok(Vec::new())))
    }

    /// Returns the properties of the storage that were found since the last call, with the answers
    /// that showed them. They are kept permanently.
    fn news(&self) -> Vec<(Learned, String)> {
        Vec::new()
    }

    /// Applies a property that was found earlier.
    fn know(&self, _what: Learned) {}

    /// Returns the properties it applies, for another client of the same target.
    fn known(&self) -> Vec<Learned> {
        Vec::new()
    }

    /// Looks up a file by its folder and name. Creates no folder.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened. A missing folder is `None`.
    /// By default nothing is found: for platforms where no file can be looked up.
    fn locate<'a>(&'a self, _target: &'a Target) -> Answer<'a, Option<RemoteFile>> {
        Box::pin(ready(Ok(None)))
    }

    /// Begins a remote upload; folders are created when missing.
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
    /// those whose location begins with `below`, where the platform supports that. `None` where it
    /// cannot list uploads.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened.
    /// By default `None`.
    fn list_open<'a>(&'a self, _below: &'a str) -> Answer<'a, Option<Vec<OpenUpload>>> {
        Box::pin(ready(Ok(None)))
    }

    /// Sends one part and returns the storage's answer.
    ///
    /// Repeatable: yes, same bytes, same number; an only part that created the file is
    /// [`Stored::is_found`]. If the answer is lost: the part may be stored. Failures: also
    /// `PartRejected`, `UploadGone`; `NameTaken` where the only part creates the file.
    fn put_part<'a>(&'a self, request: &'a PartRequest, body: PartBody) -> Answer<'a, Stored>;

    /// Sends a file of one part, which creates the file.
    ///
    /// Repeatable: yes, same bytes, same token: a file of an earlier request of ours is returned as
    /// [`Stored::is_found`], and stays unless the request replaces exactly that one. If the answer
    /// is lost: the file may exist. Failures: also `PartRejected`; `NameTaken` when a file with
    /// another token is there that must not be replaced. By default refused: for platforms without
    /// [`Traits::sends_whole`].
    fn put_whole<'a>(&'a self, _request: &'a WholeRequest, _body: PartBody) -> Answer<'a, Whole> {
        let message = "the platform takes no file in one request";
        Box::pin(ready(Err(Failure::new(FailureKind::BadRequest, message))))
    }

    /// Returns the parts the platform has, or `None` where it cannot list them: then our
    /// checkpoints count.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened. Failures: also `UploadGone`.
    fn list_parts<'a>(&'a self, remote: &'a RemoteUpload) -> Answer<'a, Option<Vec<RemotePart>>>;

    /// Reports accepted parts, at most [`Traits::report_max`].
    ///
    /// Repeatable: yes. If the answer is lost: they may be reported. Failures: also `UploadGone`.
    /// By default nothing is reported: for platforms without [`Traits::reports_parts`].
    fn report_parts<'a>(
        &'a self,
        _remote: &'a RemoteUpload,
        _parts: &'a [RemotePart],
    ) -> Answer<'a, ()> {
        Box::pin(ready(Ok(())))
    }

    /// Asks the platform to put the parts together. Reports those of which it was not notified.
    ///
    /// Repeatable: only after asking for the state. If the answer is lost: the file may exist.
    /// Failures: also `CompleteRefused` (the upload may still exist), `UploadGone` (completed
    /// before, or lost), `NameTaken`.
    fn complete<'a>(&'a self, request: &'a CompleteRequest) -> Answer<'a, RemoteFile>;

    /// Finds out whether a complete had its effect: its answer was lost, or the upload is reported
    /// as gone. A file counts as ours only when nothing contradicts it.
    ///
    /// Repeatable: yes, except at platforms where the only way to ask is to complete again. If the
    /// answer is lost: it is asked again.
    fn find_completed<'a>(&'a self, request: &'a CompleteRequest) -> Answer<'a, Completion>;

    /// Returns whether [`Self::inspect`] and [`Self::describe`] of several files are one call each: then they
    /// need no permit, for they wait for each other.
    fn joins_calls(&self) -> bool {
        false
    }

    /// Returns the file with that id, or `None`.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened.
    fn inspect<'a>(&'a self, file: &'a RemoteFileId) -> Answer<'a, Option<RemoteFile>>;

    /// Reads a file back, and returns it with a digest of its bytes, over parts of the given
    /// length; `None` when it does not exist.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened.
    /// By default refused: for platforms whose [`ETagLaw`](crate::model::ETagLaw) does not need it.
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

    /// Renames a file in its folder; returns whether the file exists.
    ///
    /// Repeatable: yes. If the answer is lost: it may have the name. Failures: also `NameTaken`.
    /// By default refused: for platforms without [`Replaces::ByRenaming`](crate::model::Replaces).
    fn rename<'a>(&'a self, _file: &'a RemoteFileId, _name: &'a str) -> Answer<'a, bool> {
        let message = "the platform renames no file";
        Box::pin(ready(Err(Failure::new(FailureKind::BadRequest, message))))
    }

    /// Removes a file. "Not found" is success.
    ///
    /// Repeatable: yes. If the answer is lost: it may be gone.
    /// By default refused, like [`Self::rename`].
    fn remove<'a>(&'a self, _file: &'a RemoteFileId) -> Answer<'a, ()> {
        let message = "the platform removes no file";
        Box::pin(ready(Err(Failure::new(FailureKind::BadRequest, message))))
    }

    /// Reports that a run is complete, where [`Traits::finishes_runs`]; by the name of its top
    /// folder. "Not found" and "finished before" are success.
    ///
    /// Repeatable: yes. If the answer is lost: it may be reported.
    fn finish_run<'a>(&'a self, _: &'a str) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Returns its export operations, where it has them.
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
    /// Finds for each item the newest job that has not failed; in order.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened.
    fn find<'a>(&'a self, items: &'a [ExportItem]) -> Answer<'a, Vec<Option<ExportJob>>>;

    /// Starts a job for each item, at most 100; in order, each with its own refusal.
    ///
    /// Repeatable: no. If the answer is lost: some jobs or all may exist, see [`Self::find`].
    fn start<'a>(
        &'a self,
        items: &'a [ExportItem],
        mode: ExportMode,
    ) -> Answer<'a, Vec<Result<ExportId, Failure>>>;

    /// Returns the states of jobs, at most 100; in order.
    ///
    /// Repeatable: yes. If the answer is lost: nothing happened.
    fn poll<'a>(&'a self, jobs: &'a [ExportId]) -> Answer<'a, Vec<Result<ExportState, Failure>>>;
}

/// A platform behind a pointer, as the daemon holds it.
pub type SharedPlatform = Arc<dyn Platform>;

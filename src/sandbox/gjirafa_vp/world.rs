//! The state: uploads, open and completed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::PROJECT;
use crate::sandbox::stand::{Holds, RemoteFile};
use crate::sandbox::storage::StoredPart;

#[derive(Debug, Default)]
pub(in crate::sandbox) struct World {
    pub(super) uploads: BTreeMap<String, Upload>,
    /// Number of uploads so far.
    pub(super) details: u64,
}

/// The phase of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    Completed,
    Aborted,
}

/// An upload, in any phase.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) request_key: String,
    /// Its id in the storage.
    pub(super) upload_id: String,
    pub(super) details_id: u64,
    pub(super) name: String,
    pub(super) types: ContentTypes,
    /// Announced length in bytes.
    pub(super) length: Option<u64>,
    /// Set when duplicates are to be refused.
    pub(super) hash: Option<String>,
    /// `None` for a single upload.
    pub(super) parts_number: Option<u32>,
    pub(super) phase: Phase,
    /// The number of resumes.
    pub(super) generation: u64,
    pub(super) parts: BTreeMap<u32, Part>,
    /// Parts that were dropped.
    pub(super) lost: BTreeSet<u32>,
}

/// The content types of an upload.
#[derive(Debug, Clone, Default)]
pub(super) struct ContentTypes {
    pub(super) mime: Option<String>,
    /// The signed content type of a single upload.
    pub(super) signed: Option<String>,
}

/// A part in the storage.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) stored: StoredPart,
    /// Without quotes.
    pub(super) etag: String,
    /// Seconds since 1970.
    pub(super) arrived_at: u64,
}

impl World {
    pub(in crate::sandbox) fn new() -> Self {
        Self::default()
    }

    /// Returns a multipart upload, in any phase.
    pub(super) fn multipart(&mut self, key: &str) -> Result<&mut Upload, Refusal> {
        let found = self.uploads.get_mut(key).filter(|upload| upload.parts_number.is_some());
        found.ok_or_else(Refusal::not_found)
    }

    /// Returns an upload by its id in the storage, in any phase.
    pub(super) fn stored_as(&mut self, upload_id: &str) -> Option<&mut Upload> {
        self.uploads.values_mut().find(|upload| upload.upload_id == upload_id)
    }

    /// Returns whether a file with this hash was completed with the check on.
    pub(super) fn has_hash(&self, hash: &str) -> bool {
        let done = |upload: &Upload| upload.phase == Phase::Completed;
        self.uploads.values().any(|upload| done(upload) && upload.hash.as_deref() == Some(hash))
    }
}

impl Upload {
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Returns the number of stored bytes.
    pub(super) fn size(&self) -> u64 {
        self.parts.values().map(|part| part.stored.length).sum()
    }
}

impl Holds for World {
    fn files(&self) -> Vec<RemoteFile> {
        let done = self.uploads.values().filter(|upload| upload.phase == Phase::Completed);
        let show = |upload: &Upload| RemoteFile {
            id: upload.request_key.clone(),
            name: upload.name.clone(),
            project: PROJECT.to_owned(),
            folder: String::new(),
            size: upload.size(),
            metadata: Map::new(),
            tags: Vec::new(),
            parts: upload.parts.values().map(|part| part.stored.path.clone()).collect(),
        };
        done.map(show).collect()
    }

    fn open_uploads(&self) -> Vec<String> {
        let open = self.uploads.values().filter(|upload| upload.is_open());
        open.map(|upload| upload.request_key.clone()).collect()
    }

    fn vanish(&mut self, id: Option<&str>) {
        self.uploads.retain(|key, upload| !upload.is_open() || id.is_some_and(|id| id != key));
    }
}

/// A failed answer.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The upload does not exist.
    pub(super) fn not_found() -> Self {
        Self::new(404, "Result Not Found")
    }
}

/// The envelope of every answer.
pub(super) fn envelope(outcome: &Result<Value, Refusal>) -> (u16, Value) {
    let (status, errors, result) = match outcome {
        Ok(result) => (200, Vec::new(), result.clone()),
        Err(refusal) => (refusal.status, vec![refusal.message.as_str()], Value::Null),
    };
    let body = json!({
        "success": outcome.is_ok(), "errors": errors, "messages": [], "result": result,
        "resultInfo": null, "statusCode": status,
    });
    (status, body)
}

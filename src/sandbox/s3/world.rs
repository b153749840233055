//! The state: objects and uploads in progress.

use std::collections::BTreeMap;

use md5::{Digest, Md5};
use serde_json::{Map, Value};

use crate::sandbox::digits::{hex, unhex};
use crate::sandbox::stand::{Holds, RemoteFile};
use crate::sandbox::storage::StoredPart;

#[derive(Debug, Default)]
pub(in crate::sandbox) struct World {
    pub(super) objects: BTreeMap<String, Object>,
    pub(super) uploads: BTreeMap<String, Upload>,
    /// Completed uploads: a complete may be repeated.
    pub(super) completed: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) parts: Vec<StoredPart>,
    pub(super) etag: String,
    /// Its version, where the bucket keeps them.
    pub(super) version: Option<String>,
    pub(super) said: Said,
    pub(super) created_at: u64,
}

/// The metadata of an object.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    /// Headers that are returned, such as metadata and type.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) tags: Vec<String>,
    /// MD5 of the customer's key.
    pub(super) customer_key: Option<String>,
}

/// An upload in progress.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) said: Said,
    pub(super) initiated_at: u64,
    /// The returned ETag, and the bytes.
    pub(super) parts: BTreeMap<u32, (String, StoredPart)>,
}

impl World {
    pub(in crate::sandbox) fn new() -> Self {
        Self::default()
    }
}

impl Object {
    pub(super) fn size(&self) -> u64 {
        self.parts.iter().map(|part| part.length).sum()
    }
}

/// The ETag of an object of many parts: the MD5 of their MD5s, and their number.
pub(super) fn etag_of_many(parts: &[StoredPart]) -> String {
    let mut hasher = Md5::new();
    for part in parts {
        hasher.update(unhex(&part.md5));
    }
    format!("{}-{}", hex(&hasher.finalize()), parts.len())
}

impl Holds for World {
    fn files(&self) -> Vec<RemoteFile> {
        let file = |(key, object): (&String, &Object)| {
            let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
            let metadata = object.said.headers.iter().filter_map(|(header, value)| {
                let name = header.strip_prefix("x-amz-meta-")?;
                Some((name.to_owned(), Value::String(value.clone())))
            });
            RemoteFile {
                id: key.clone(),
                name: name.to_owned(),
                project: super::BUCKET.to_owned(),
                folder: folder.to_owned(),
                size: object.size(),
                metadata: metadata.collect::<Map<_, _>>(),
                tags: object.said.tags.clone(),
                parts: object.parts.iter().map(|part| part.path.clone()).collect(),
            }
        };
        self.objects.iter().map(file).collect()
    }

    fn open_uploads(&self) -> Vec<String> {
        self.uploads.keys().cloned().collect()
    }

    fn vanish(&mut self, id: Option<&str>) {
        self.uploads.retain(|known, _| id.is_some_and(|id| id != known));
    }
}

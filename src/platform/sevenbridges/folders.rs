//! Folders at Seven Bridges: found, created level by level, cached.
//!
//! Owns a cache of folder ids, and nothing more: an id that turns out to be gone is dropped, and
//! the folder is looked up again. Two machines may create the same folder at once; the one that
//! gets "exists" looks it up. A folder that was created by a request with a lost answer is found
//! the next time. A crash loses the cache, which costs one call per folder.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use reqwest::Method;

use super::answers::SevenBridgesCall;
use super::{SevenBridges, wire};
use crate::model::{Failure, FailureKind};
use crate::platform::answer;

/// Limit of cached folders: a drop directory may need one for every run, for years.
const REMEMBERED_MAX: usize = 10_000;

pub(super) enum FolderPath {
    /// This folder, or the project's top.
    Folder(Option<String>),
    Missing,
}

/// What to do about a missing folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MissingFolder {
    Make,
    Leave,
}

/// Ids of folders, by path.
#[derive(Debug, Default)]
pub(super) struct Folders {
    ids: Mutex<HashMap<String, String>>,
    /// One upload at a time creates folders: the others use its result.
    making: tokio::sync::Mutex<()>,
}

impl Folders {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, String>) -> T) -> T {
        act(&mut self.ids.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn get(&self, path: &str) -> Option<String> {
        self.with(|ids| ids.get(path).cloned())
    }

    fn remember(&self, path: &str, id: &str) {
        self.with(|ids| {
            if ids.len() >= REMEMBERED_MAX {
                ids.clear();
            }
            ids.insert(path.to_owned(), id.to_owned());
        });
    }

    /// Drops a folder and those above it. Returns whether any of them was cached.
    pub(super) fn forget(&self, path: &str) -> bool {
        self.with(|ids| levels(path).filter(|level| ids.remove(*level).is_some()).count() > 0)
    }
}

/// Returns a folder path and those above it, the topmost first.
fn levels(path: &str) -> impl Iterator<Item = &str> {
    let inner = path.match_indices('/').map(|(at, _)| &path[..at]);
    inner.chain(Some(path).filter(|path| !path.is_empty()))
}

fn last_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl SevenBridges {
    /// Returns the folder of a path; creates nothing.
    pub(super) async fn find_folders(&self, path: &str) -> Result<FolderPath, Failure> {
        self.walk_afresh(path, MissingFolder::Leave).await
    }

    /// Returns the folder of a path, created when missing; `None` is the project's top.
    pub(super) async fn make_folders(&self, path: &str) -> Result<Option<String>, Failure> {
        if let Some(id) = self.folders.get(path) {
            return Ok(Some(id));
        }
        let _alone = self.folders.making.lock().await;
        match self.walk_afresh(path, MissingFolder::Make).await? {
            FolderPath::Folder(folder) => Ok(folder),
            FolderPath::Missing => {
                let message = "a folder was made and is not shown";
                Err(Failure::new(FailureKind::ServerFault, message))
            }
        }
    }

    /// Walks a path; if cached ids are invalid, once more without the cache.
    async fn walk_afresh(&self, path: &str, lacking: MissingFolder) -> Result<FolderPath, Failure> {
        match self.walk(path, lacking).await {
            Err(failure) if failure.kind == FailureKind::NotFound && self.folders.forget(path) => {
                self.walk(path, lacking).await
            }
            other => other,
        }
    }

    async fn walk(&self, path: &str, lacking: MissingFolder) -> Result<FolderPath, Failure> {
        if let Some(id) = self.folders.get(path) {
            return Ok(FolderPath::Folder(Some(id)));
        }
        let mut folder = None;
        for path in levels(path) {
            let parent = folder.as_deref();
            let mut id = self.folders.get(path);
            if id.is_none() {
                id = self.find_folder(parent, path).await?;
            }
            folder = match (id, lacking) {
                (Some(id), _) => Some(id),
                (None, MissingFolder::Leave) => return Ok(FolderPath::Missing),
                (None, MissingFolder::Make) => Some(self.make_folder(parent, path).await?),
            };
        }
        Ok(FolderPath::Folder(folder))
    }

    async fn find_folder(
        &self,
        parent: Option<&str>,
        path: &str,
    ) -> Result<Option<String>, Failure> {
        let name = last_name(path);
        let Some(found) = self.find_file(parent, name).await? else { return Ok(None) };
        if !found.is_folder() {
            let message = format!("a file is where folder {name:?} is wanted");
            return Err(Failure::new(FailureKind::BadRequest, message));
        }
        self.remembered(path, found).map(Some)
    }

    async fn make_folder(&self, parent: Option<&str>, path: &str) -> Result<String, Failure> {
        let name = last_name(path);
        let body = wire::FolderBody { place: self.place(parent), name, kind: "folder" };
        let url = self.url("files", &[])?;
        match self.call_json(SevenBridgesCall::General, Method::POST, url, &body).await {
            Ok(response) => self.remembered(path, answer::parse(&response)?),
            // Another process created it just before.
            Err(failure) if failure.kind == FailureKind::NameTaken => {
                self.find_folder(parent, path).await?.ok_or_else(|| {
                    let message = format!("folder {name:?} exists and is not shown");
                    Failure { kind: FailureKind::ServerFault, message, ..failure }
                })
            }
            Err(failure) => Err(failure),
        }
    }

    fn remembered(&self, path: &str, folder: wire::SevenBridgesFile) -> Result<String, Failure> {
        let id = folder.remote()?.id;
        self.folders.remember(path, id.as_str());
        Ok(id.as_str().to_owned())
    }
}

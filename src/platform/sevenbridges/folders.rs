//! Folders at Seven Bridges: found, made level by level, remembered.
//!
//! The memory is a cache and nothing more: an id that turns out to be gone is forgotten, and the
//! folder is looked up again. Two machines may make the same folder at once; the one that is told
//! "exists" looks it up.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use reqwest::Method;

use super::wire::{self, Call};
use super::{Found, SevenBridges};
use crate::model::{Failure, FailureKind};

/// Ids of folders, by path.
#[derive(Debug, Default)]
pub(super) struct Folders {
    ids: Mutex<HashMap<Vec<String>, String>>,
    /// One upload at a time makes folders: the others find them made.
    making: tokio::sync::Mutex<()>,
}

impl Folders {
    fn get(&self, path: &[String]) -> Option<String> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    fn remember(&self, path: &[String], id: &str) {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        ids.insert(path.to_owned(), id.to_owned());
    }

    /// Forgets a folder and those above it.
    pub(super) fn forget(&self, path: &[String]) {
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        (0..=path.len()).for_each(|depth| {
            ids.remove(&path[..depth]);
        });
    }
}

impl SevenBridges {
    /// Returns where a folder path leads; makes nothing.
    pub(super) async fn find_folders(&self, path: &[String]) -> Result<Found, Failure> {
        if let Some(id) = self.folders.get(path) {
            return Ok(Found::Folder(Some(id)));
        }
        let mut folder = None;
        for depth in 1..=path.len() {
            folder = match self.folders.get(&path[..depth]) {
                Some(id) => Some(id),
                None => match self.find_folder(folder.as_deref(), &path[..depth]).await? {
                    Some(id) => Some(id),
                    None => return Ok(Found::Missing),
                },
            };
        }
        Ok(Found::Folder(folder))
    }

    /// Returns the folder of a path, made when missing; `None` is the project's top.
    pub(super) async fn make_folders(&self, path: &[String]) -> Result<Option<String>, Failure> {
        if let Some(id) = self.folders.get(path) {
            return Ok(Some(id));
        }
        let _alone = self.folders.making.lock().await;
        let mut folder = None;
        for depth in 1..=path.len() {
            let path = &path[..depth];
            folder = match self.folders.get(path) {
                Some(id) => Some(id),
                None => match self.find_folder(folder.as_deref(), path).await? {
                    Some(id) => Some(id),
                    None => Some(self.make_folder(folder.as_deref(), path).await?),
                },
            };
        }
        Ok(folder)
    }

    async fn find_folder(
        &self,
        parent: Option<&str>,
        path: &[String],
    ) -> Result<Option<String>, Failure> {
        let Some(name) = path.last() else { return Ok(None) };
        let Some(found) = self.find_file(parent, name).await? else { return Ok(None) };
        if !found.is_folder() {
            let message = format!("a file stands where folder {name:?} is wanted");
            return Err(Failure::new(FailureKind::BadRequest, message));
        }
        let id = found.remote()?.id;
        self.folders.remember(path, id.as_str());
        Ok(Some(id.as_str().to_owned()))
    }

    async fn make_folder(&self, parent: Option<&str>, path: &[String]) -> Result<String, Failure> {
        let name = path.last().map_or("", String::as_str);
        let body = wire::FolderBody { place: self.place(parent), name, kind: "folder" };
        let url = self.url("/files", &[])?;
        let response = match self.call_json(Call::General, Method::POST, url, &body).await {
            Err(failure) if failure.kind == FailureKind::NameTaken => {
                let missing =
                    || Failure::new(FailureKind::ServerFault, "a folder exists and is not shown");
                return self.find_folder(parent, path).await?.ok_or_else(missing);
            }
            other => other?,
        };
        let id = wire::parse::<wire::File>(&response)?.remote()?.id;
        self.folders.remember(path, id.as_str());
        Ok(id.as_str().to_owned())
    }
}

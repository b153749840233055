//! The state: projects, folders, files, uploads in progress.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::exports::Exports;
use crate::sandbox::stand::{Holds, RemoteFile};
use crate::sandbox::storage::StoredPart;

#[derive(Debug)]
pub(in crate::sandbox) struct World {
    pub(super) projects: Vec<String>,
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) uploads: BTreeMap<String, Upload>,
    pub(super) window: Window,
    pub(super) exports: Exports,
    /// Files that were moved to a volume.
    pub(super) aliases: BTreeSet<String>,
}

/// A project's top, or a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Project(String),
    Folder(String),
}

/// A file or folder.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) created_at: u64,
    pub(super) metadata: Map<String, Value>,
    pub(super) tags: Vec<String>,
    /// `None` for a folder.
    pub(super) parts: Option<Vec<StoredPart>>,
}

/// An upload in progress.
#[derive(Debug, Clone)]
pub(super) struct Upload {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) size: u64,
    pub(super) part_size: u64,
    pub(super) overwrite: bool,
    pub(super) initiated_at: u64,
    pub(super) stored: BTreeMap<u32, StoredPart>,
    /// The storage's ETag of each part.
    pub(super) given: BTreeMap<u32, String>,
    pub(super) reported: BTreeMap<u32, String>,
}

/// Calls counted in the current window.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) ends_at: u64,
    pub(super) used: u64,
}

impl World {
    pub(in crate::sandbox) fn new(projects: &[String]) -> Self {
        Self {
            projects: projects.to_vec(),
            entries: BTreeMap::new(),
            uploads: BTreeMap::new(),
            window: Window::default(),
            exports: Exports::default(),
            aliases: BTreeSet::new(),
        }
    }

    /// Drops uploads that were idle for too long.
    pub(super) fn expire(&mut self, now: u64, life: u64) {
        self.uploads.retain(|_, upload| upload.initiated_at + life > now);
    }

    fn path_of(&self, place: &Place) -> (String, String) {
        let mut names = Vec::new();
        let mut at = place;
        loop {
            match at {
                Place::Project(project) => {
                    names.reverse();
                    return (project.clone(), names.join("/"));
                }
                Place::Folder(id) => {
                    let Some(folder) = self.entries.get(id) else { return Default::default() };
                    names.push(folder.name.clone());
                    at = &folder.place;
                }
            }
        }
    }

    /// Returns a folder or a project's top, if it exists.
    pub(super) fn find_place(
        &self,
        project: Option<&str>,
        parent: Option<&str>,
    ) -> Result<Place, Refusal> {
        match (project, parent) {
            (Some(_), Some(_)) => Err(Refusal::new(400, 5031, "Specify either project or parent.")),
            (None, None) => Err(Refusal::new(400, 5029, "Neither project nor parent is given.")),
            (Some(project), None) if project.split('/').count() != 2 => {
                Err(Refusal::new(400, 8010, "Malformed project id."))
            }
            (Some(project), None) => match self.projects.iter().any(|known| known == project) {
                true => Ok(Place::Project(project.to_owned())),
                false => Err(Refusal::new(404, 3002, "Requested project does not exist.")),
            },
            (None, Some(parent)) => match self.entries.get(parent) {
                Some(entry) if entry.parts.is_none() => Ok(Place::Folder(parent.to_owned())),
                Some(_) => Err(Refusal::new(400, 5022, "Parent is not a folder.")),
                None => Err(Refusal::new(404, 5002, "Requested file does not exist.")),
            },
        }
    }

    /// Returns the file or folder with a name.
    pub(super) fn find(&self, place: &Place, name: &str) -> Option<&Entry> {
        self.entries.values().find(|entry| entry.place == *place && entry.name == name)
    }
}

impl Holds for World {
    fn files(&self) -> Vec<RemoteFile> {
        let files = self.entries.values().filter_map(|entry| {
            let parts = entry.parts.as_ref()?;
            let (project, folder) = self.path_of(&entry.place);
            Some(RemoteFile {
                id: entry.id.clone(),
                name: entry.name.clone(),
                project,
                folder,
                size: entry.size(),
                metadata: entry.metadata.clone(),
                tags: entry.tags.clone(),
                parts: parts.iter().map(|part| part.path.clone()).collect(),
            })
        });
        files.collect()
    }

    fn open_uploads(&self) -> Vec<String> {
        self.uploads.keys().cloned().collect()
    }

    fn vanish(&mut self, id: Option<&str>) {
        self.uploads.retain(|known, _| id.is_some_and(|id| id != known));
    }
}

impl Entry {
    pub(super) fn size(&self) -> u64 {
        self.parts.iter().flatten().map(|part| part.length).sum()
    }

    /// Renders it in the API's form.
    pub(super) fn show(&self, base: &str, upper_case: bool) -> Value {
        let kind = if self.parts.is_some() { "file" } else { "folder" };
        let kind = if upper_case { kind.to_uppercase() } else { kind.to_owned() };
        let mut shown = json!({
            "href": format!("{base}/files/{}", self.id),
            "id": self.id,
            "name": self.name,
            "type": kind,
            "created_on": time(self.created_at),
            "modified_on": time(self.created_at),
        });
        if let Place::Project(project) = &self.place {
            shown["project"] = json!(project);
        }
        if let Place::Folder(parent) = &self.place {
            shown["parent"] = json!(parent);
        }
        if self.parts.is_some() {
            shown["size"] = json!(self.size());
            shown["metadata"] = Value::Object(self.metadata.clone());
            shown["tags"] = json!(self.tags);
            shown["origin"] = json!({});
            shown["storage"] =
                json!({"type": "PLATFORM", "hosted_on_locations": ["aws:us-east-1"]});
        }
        shown
    }
}

/// Formats a time as the API does.
pub(super) fn time(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(0);
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// A failed answer.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: u32,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, code: u32, message: &str) -> Self {
        Self { status, code, message: message.to_owned() }
    }

    /// The upload does not exist: completed, removed or expired.
    pub(super) fn no_upload() -> Self {
        Self::new(404, 8003, "Requested upload does not exist.")
    }
}

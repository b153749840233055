//! The state: projects, AppResults, AppSessions, files with their parts.

use std::collections::BTreeMap;
use std::time::Duration;

use md5::{Digest, Md5};
use serde_json::{Map, Value, json};

use super::wire::{Refusal, date, parse_id};
use super::{APP_RESULT, MultipartEtag, PROJECT};
use crate::sandbox::digits::{hex, unhex};
use crate::sandbox::faults::Switches;
use crate::sandbox::stand::{Holds, RemoteFile};
use crate::sandbox::storage::{self, StoredPart};
use crate::sandbox::unix_time;

/// The token's owner.
const USER: &str = "900100";
const SESSION_FIRST: u64 = 650_000_001;
const FILE_FIRST: u64 = 11_900_000_001;

#[derive(Debug, Default)]
pub(in crate::sandbox) struct World {
    pub(super) projects: BTreeMap<u64, Project>,
    pub(super) app_results: BTreeMap<u64, AppResult>,
    pub(super) sessions: BTreeMap<u64, Session>,
    pub(super) files: BTreeMap<u64, File>,
    files_made: u64,
}

#[derive(Debug)]
pub(super) struct Project {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) created_at: Duration,
}

#[derive(Debug)]
pub(super) struct AppResult {
    pub(super) id: u64,
    pub(super) project: u64,
    pub(super) session: u64,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) created_at: Duration,
}

#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) status: SessionStatus,
    pub(super) summary: String,
    pub(super) created_at: Duration,
}

/// The state of an AppSession, and of its AppResults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionStatus {
    Running,
    Complete,
    NeedsAttention,
    TimedOut,
    Aborted,
}

/// The state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileStatus {
    Pending,
    Complete,
    Aborted,
}

/// A file, from its first call on.
#[derive(Debug)]
pub(super) struct File {
    pub(super) id: u64,
    pub(super) app_result: u64,
    pub(super) name: String,
    pub(super) path: String,
    pub(super) content_type: String,
    pub(super) status: FileStatus,
    /// It came in one call, without parts.
    pub(super) is_single: bool,
    pub(super) stored: BTreeMap<u32, StoredPart>,
    pub(super) created_at: Duration,
    pub(super) modified_at: Duration,
    pub(super) lag: Lag,
}

/// A file's stale state, which reads see for a while.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// The file before its last change; `None` when it did not exist.
    pub(super) before: Option<Value>,
    pub(super) reads_left: u64,
}

impl SessionStatus {
    const ALL: [Self; 5] =
        [Self::Running, Self::Complete, Self::NeedsAttention, Self::TimedOut, Self::Aborted];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Complete => "Complete",
            Self::NeedsAttention => "NeedsAttention",
            Self::TimedOut => "TimedOut",
            Self::Aborted => "Aborted",
        }
    }

    /// Parses a status in any case.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str().eq_ignore_ascii_case(text))
    }

    /// Returns whether it is final.
    pub(super) fn is_terminal(self) -> bool {
        match self {
            Self::Complete | Self::Aborted => true,
            Self::Running | Self::NeedsAttention | Self::TimedOut => false,
        }
    }
}

impl FileStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Complete => "complete",
            Self::Aborted => "aborted",
        }
    }
}

/// Returns the storage's ETag for bytes with an MD5.
pub(super) fn etag_of(md5: &str, switches: &Switches) -> Option<String> {
    match switches.storage_etag.as_str() {
        "none" => None,
        "kms" | "salted" => Some(storage::salted(md5)),
        _ => Some(md5.to_owned()),
    }
}

fn next_id<T>(map: &BTreeMap<u64, T>, first: u64) -> u64 {
    map.last_key_value().map_or(first, |(id, _)| id + 1)
}

impl World {
    pub(in crate::sandbox) fn new() -> Self {
        let mut world = Self::default();
        let project = world.add_project("demo");
        let session = world.add_session("demo");
        world.add_app_result(project, session, "demo", "");
        world
    }

    pub(super) fn add_project(&mut self, name: &str) -> u64 {
        let id = next_id(&self.projects, parse_id(PROJECT));
        let project = Project { id, name: name.to_owned(), created_at: unix_time() };
        self.projects.insert(id, project);
        id
    }

    /// Creates an AppSession, running.
    pub(super) fn add_session(&mut self, name: &str) -> u64 {
        let id = next_id(&self.sessions, SESSION_FIRST);
        let session = Session {
            id,
            name: name.to_owned(),
            status: SessionStatus::Running,
            summary: String::new(),
            created_at: unix_time(),
        };
        self.sessions.insert(id, session);
        id
    }

    /// Creates an AppResult, also if there is one with that name.
    pub(super) fn add_app_result(
        &mut self,
        project: u64,
        session: u64,
        name: &str,
        description: &str,
    ) -> u64 {
        let id = next_id(&self.app_results, parse_id(APP_RESULT));
        let app_result = AppResult {
            id,
            project,
            session,
            name: name.to_owned(),
            description: description.to_owned(),
            created_at: unix_time(),
        };
        self.app_results.insert(id, app_result);
        id
    }

    /// Returns the id of the next file; ids of vanished files are not reused.
    pub(super) fn new_file_id(&mut self) -> u64 {
        self.files_made += 1;
        FILE_FIRST + self.files_made - 1
    }

    /// Returns the state of the AppSession of an AppResult.
    pub(super) fn status_of(&self, app_result: u64) -> Result<SessionStatus, Refusal> {
        let session = self.app_results.get(&app_result).map(|app_result| app_result.session);
        let session = session.and_then(|session| self.sessions.get(&session));
        session.map(|session| session.status).ok_or_else(|| Refusal::denied("AppResult"))
    }

    /// Files can be added only while the AppSession runs.
    pub(super) fn check_running(&self, app_result: u64) -> Result<(), Refusal> {
        match self.status_of(app_result)? {
            SessionStatus::Running => Ok(()),
            status @ (SessionStatus::Complete
            | SessionStatus::NeedsAttention
            | SessionStatus::TimedOut
            | SessionStatus::Aborted) => Err(Refusal::forbidden(format!(
                "WRITE access to this AppResult is not allowed: its AppSession is {}.",
                status.as_str()
            ))),
        }
    }

    /// Returns whether there is a complete file with that path.
    pub(super) fn is_taken(&self, app_result: u64, path: &str) -> bool {
        self.files.values().any(|file| {
            file.app_result == app_result
                && file.path == path
                && file.status == FileStatus::Complete
        })
    }

    fn total_size(&self, belongs: impl Fn(&File) -> bool) -> u64 {
        self.files.values().filter(|file| belongs(file)).map(File::size).sum()
    }

    pub(super) fn show_project(&self, project: &Project) -> Value {
        let href = format!("v1pre3/projects/{}", project.id);
        let is_inside = |file: &File| {
            let app_result = self.app_results.get(&file.app_result);
            app_result.is_some_and(|app_result| app_result.project == project.id)
        };
        json!({
            "Id": project.id.to_string(), "Href": href, "Name": project.name, "Description": "",
            "DateCreated": date(project.created_at), "DateModified": date(project.created_at),
            "UserOwnedBy": show_owner(),
            "HrefSamples": format!("{href}/samples"),
            "HrefAppResults": format!("{href}/appresults"),
            "HrefBaseSpaceUI": format!("https://basespace.example.org/projects/{}", project.id),
            "Properties": no_properties(&href),
            "HasCollaborators": false,
            "TotalSize": self.total_size(is_inside),
        })
    }

    pub(super) fn show_app_result(&self, app_result: &AppResult) -> Value {
        let href = format!("v1pre3/appresults/{}", app_result.id);
        let session = self.sessions.get(&app_result.session);
        json!({
            "Id": app_result.id.to_string(), "Href": href, "Name": app_result.name,
            "Description": app_result.description,
            "Status": session.map(|session| session.status.as_str()),
            "StatusSummary": session.map(|session| &session.summary),
            "UserOwnedBy": show_owner(),
            "DateCreated": date(app_result.created_at),
            "TotalSize": self.total_size(|file| file.app_result == app_result.id),
            "HrefFiles": format!("{href}/files"),
            "References": [],
            "Properties": no_properties(&href),
            "AppSession": session.map(Session::show),
        })
    }

    /// Shows a file as a request for that file alone does.
    pub(super) fn show_file(&self, file: &File, switches: &Switches) -> Value {
        let mut shown = file.show(switches);
        shown["UploadStatus"] = json!(file.status.as_str());
        if let Some(app_result) = self.app_results.get(&file.app_result) {
            shown["ParentAppResult"] = self.show_app_result(app_result);
        }
        if file.status == FileStatus::Pending && switches.basespace.parts_listed {
            shown["HrefParts"] = json!(format!("v1pre3/files/{}/parts", file.id));
        }
        shown
    }
}

impl Holds for World {
    fn files(&self) -> Vec<RemoteFile> {
        let complete = self.files.values().filter(|file| file.status == FileStatus::Complete);
        let show = |file: &File| RemoteFile {
            id: file.id.to_string(),
            name: file.name.clone(),
            project: self
                .app_results
                .get(&file.app_result)
                .map(|app_result| app_result.name.clone())
                .unwrap_or_default(),
            folder: file.path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned(),
            size: file.size(),
            metadata: Map::new(),
            tags: Vec::new(),
            parts: file.stored.values().map(|part| part.path.clone()).collect(),
        };
        complete.map(show).collect()
    }

    fn open_uploads(&self) -> Vec<String> {
        let pending = self.files.values().filter(|file| file.status == FileStatus::Pending);
        pending.map(|file| file.id.to_string()).collect()
    }

    fn vanish(&mut self, id: Option<&str>) {
        self.files.retain(|known, file| {
            file.status != FileStatus::Pending || id.is_some_and(|id| id != known.to_string())
        });
    }
}

impl Session {
    pub(super) fn show(&self) -> Value {
        json!({
            "Id": self.id.to_string(), "Href": format!("v1pre3/appsessions/{}", self.id),
            "Name": self.name, "Status": self.status.as_str(), "StatusSummary": self.summary,
            "UserCreatedBy": show_owner(), "DateCreated": date(self.created_at),
        })
    }
}

impl File {
    /// Returns its length; 0 until it is complete.
    pub(super) fn size(&self) -> u64 {
        match self.status {
            FileStatus::Complete => self.stored.values().map(|part| part.length).sum(),
            FileStatus::Pending | FileStatus::Aborted => 0,
        }
    }

    fn etag(&self, switches: &Switches) -> Option<String> {
        if self.status != FileStatus::Complete {
            return None;
        }
        if self.is_single {
            return etag_of(&self.stored.values().next()?.md5, switches);
        }
        match switches.basespace.multipart_etag {
            MultipartEtag::Joined => {
                let mut hasher = Md5::new();
                for part in self.stored.values() {
                    hasher.update(unhex(&etag_of(&part.md5, switches)?));
                }
                Some(format!("{}-{}", hex(&hasher.finalize()), self.stored.len()))
            }
            MultipartEtag::None => None,
        }
    }

    /// Shows it as an item of a list.
    pub(super) fn show(&self, switches: &Switches) -> Value {
        let href = format!("v1pre3/files/{}", self.id);
        let mut shown = json!({
            "Id": self.id.to_string(), "IdAsLong": self.id, "Href": href,
            "HrefContent": format!("{href}/content"),
            "Name": self.name, "ContentType": self.content_type, "Size": self.size(),
            "Path": self.path, "IsArchived": false,
            "DateCreated": date(self.created_at), "DateModified": date(self.modified_at),
        });
        if let Some(etag) = self.etag(switches) {
            shown["ETag"] = json!(etag);
        }
        shown
    }
}

/// Shows the token's owner, in full.
pub(super) fn show_user(created_at: Duration) -> Value {
    let mut user = show_owner();
    let href = format!("v1pre3/users/{USER}");
    user["Email"] = json!("lab@example.org");
    user["DateLastActive"] = json!(date(unix_time()));
    user["DateCreated"] = json!(date(created_at));
    user["HrefRuns"] = json!(format!("{href}/runs"));
    user["HrefProjects"] = json!(format!("{href}/projects"));
    user["Roles"] = json!([]);
    user
}

fn show_owner() -> Value {
    json!({
        "Id": USER, "Href": format!("v1pre3/users/{USER}"), "Name": "Core Lab",
        "GravatarUrl": "https://gravatar.example.org/core-lab",
    })
}

fn no_properties(href: &str) -> Value {
    let href = format!("{href}/properties");
    json!({"Items": [], "DisplayedCount": 0, "TotalCount": 0, "Href": href})
}

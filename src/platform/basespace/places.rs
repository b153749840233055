//! Projects and AppResults: found, created when missing, cached.
//!
//! Owns a cache of ids, and nothing more: an id that turns out to be gone is dropped and looked up
//! again. AppResults have no unique names, so one is created only right after a list showed none,
//! and by one upload at a time; one that was created by a request with a lost answer is found by
//! the next attempt. A crash loses the cache, which costs a call for each AppResult.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::answers::{BaseSpaceCall, is_missing};
use super::{BaseSpace, BaseSpacePlace, BaseSpaceRequest, wire};
use crate::model::{Failure, FailureKind, Monotonic, Target};
use crate::platform::answer;

/// Limit of cached AppResults: a drop directory needs one for every run, for years.
const REMEMBERED_MAX: usize = 10_000;
/// How long a missing AppResult is not looked up again.
const MISSING_FOR: Duration = Duration::from_secs(10);
/// Items of one page, which are long.
const PAGE_LIMIT: usize = 200;
/// Limit of pages.
const PAGES_MAX: usize = 1000;
/// The closing text of an AppSession.
const FINISHED: &str = "all files of the drop are there";
/// The description of AppResults that we create.
const DESCRIPTION: &str = "files uploaded by dropferry";

/// What to do about a missing AppResult.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MissingAppResult {
    Make,
    Leave,
}

/// The location of a file at this platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Goal {
    /// Name of the AppResult; empty where it is given by its id.
    pub(super) app_result: String,
    /// Folders in it, joined.
    pub(super) directory: String,
    pub(super) name: String,
    /// Directory and name.
    pub(super) path: String,
}

#[derive(Debug, Default)]
pub(super) struct PlaceIds {
    memory: Mutex<Memory>,
    /// One upload at a time looks up and creates: the others use its result.
    making: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Memory {
    project: Option<String>,
    app_results: HashMap<String, String>,
    missing: HashMap<String, Monotonic>,
}

impl PlaceIds {
    fn with<T>(&self, act: impl FnOnce(&mut Memory) -> T) -> T {
        act(&mut self.memory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the cached AppResult.
    pub(super) fn known(&self, name: &str) -> Option<String> {
        self.with(|memory| memory.app_results.get(name).cloned())
    }

    fn remember(&self, name: &str, id: &str) {
        self.with(|memory| {
            if memory.app_results.len() >= REMEMBERED_MAX {
                memory.app_results.clear();
            }
            memory.missing.remove(name);
            memory.app_results.insert(name.to_owned(), id.to_owned());
        });
    }

    fn remember_missing(&self, name: &str, now: Monotonic) {
        self.with(|memory| {
            memory.missing.retain(|_, at| now.since(*at) < MISSING_FOR);
            memory.missing.insert(name.to_owned(), now);
        });
    }

    fn is_missing(&self, name: &str, now: Monotonic) -> bool {
        let is_new = |at: &Monotonic| now.since(*at) < MISSING_FOR;
        self.with(|memory| memory.missing.get(name).is_some_and(is_new))
    }

    /// Drops an AppResult. Returns whether it was cached.
    pub(super) fn forget(&self, name: &str) -> bool {
        self.with(|memory| memory.app_results.remove(name).is_some())
    }

    fn forget_project(&self) -> bool {
        self.with(|memory| memory.project.take().is_some())
    }
}

impl BaseSpace {
    /// Returns the location of a target.
    ///
    /// # Errors
    /// `BadRequest` for impossible names.
    pub(super) fn goal(&self, target: &Target) -> Result<Goal, Failure> {
        let bad = |message: String| Failure::new(FailureKind::BadRequest, message);
        if let Some(name) = target.names().find(|name| name.is_empty() || name.contains('/')) {
            return Err(bad(format!("the name {name:?} is empty or holds a slash")));
        }
        let (first, rest) = target.folder().split_once('/').unwrap_or((target.folder(), ""));
        let (app_result, directory) = match &self.place {
            BaseSpacePlace::AppResult(_) => (String::new(), target.folder()),
            BaseSpacePlace::Project(_) if first.is_empty() => {
                return Err(bad("there is no folder to name an AppResult after".to_owned()));
            }
            BaseSpacePlace::Project(_) => (first.to_owned(), rest),
        };
        let (directory, name) = (directory.to_owned(), target.name().to_owned());
        let path = if directory.is_empty() { name.clone() } else { format!("{directory}/{name}") };
        Ok(Goal { app_result, directory, name, path })
    }

    /// Returns the AppResult with that name, which accepts files.
    pub(super) async fn app_result(
        &self,
        name: &str,
        lacking: MissingAppResult,
    ) -> Result<Option<String>, Failure> {
        let known = || self.places.known(name);
        if let Some(id) = known() {
            return Ok(Some(id));
        }
        let _alone = self.places.making.lock().await;
        if let Some(id) = known() {
            return Ok(Some(id));
        }
        let now = self.api.link.time.now().monotonic;
        if lacking == MissingAppResult::Leave && self.places.is_missing(name, now) {
            return Ok(None);
        }
        let found = match &self.place {
            BaseSpacePlace::AppResult(id) => Some(self.given_app_result(id).await?),
            BaseSpacePlace::Project(_) => self.app_result_in_project(name, lacking).await?,
        };
        match &found {
            Some(id) => self.places.remember(name, id),
            None => self.places.remember_missing(name, now),
        }
        Ok(found)
    }

    async fn given_app_result(&self, id: &str) -> Result<String, Failure> {
        let found: wire::AppResult = self
            .ask(BaseSpaceRequest::get(BaseSpaceCall::General, format!("appresults/{id}")))
            .await?;
        if !found.is_running() {
            let message = format!(
                "AppResult {id} is {:?}: files can be added only while it is Running",
                found.status
            );
            return Err(Failure::new(FailureKind::Forbidden, message));
        }
        Ok(found.id)
    }

    /// Looks up an AppResult; if the cached ids of the project are invalid, once more without the
    /// cache.
    async fn app_result_in_project(
        &self,
        name: &str,
        lacking: MissingAppResult,
    ) -> Result<Option<String>, Failure> {
        let was_known = self.places.with(|memory| memory.project.is_some());
        match self.find_or_make(name, lacking).await {
            Err(failure) if is_missing(&failure) && self.places.forget_project() && was_known => {
                self.find_or_make(name, lacking).await
            }
            other => other,
        }
    }

    async fn find_or_make(
        &self,
        name: &str,
        lacking: MissingAppResult,
    ) -> Result<Option<String>, Failure> {
        let Some(project) = self.project(lacking).await? else { return Ok(None) };
        let path = format!("projects/{project}/appresults");
        let is_it = |found: &wire::AppResult| found.name == name && found.is_running();
        let query = [("SortBy", "DateCreated"), ("SortDir", "Desc")];
        let found = self.find_in_list(&path, &query, is_it).await?;
        match (found, lacking) {
            (Some(found), _) => Ok(Some(found.id)),
            (None, MissingAppResult::Leave) => Ok(None),
            (None, MissingAppResult::Make) => {
                let named = wire::Named { name, description: DESCRIPTION };
                let made: wire::AppResult = self
                    .ask(BaseSpaceRequest::post(BaseSpaceCall::General, path).json(&named)?)
                    .await?;
                Ok(Some(made.id))
            }
        }
    }

    async fn project(&self, lacking: MissingAppResult) -> Result<Option<String>, Failure> {
        let BaseSpacePlace::Project(wanted) = &self.place else { return Ok(None) };
        if let Some(id) = self.places.with(|memory| memory.project.clone()) {
            return Ok(Some(id));
        }
        let is_id = wanted.bytes().all(|byte| byte.is_ascii_digit());
        let found = if is_id {
            Some(
                self.ask(BaseSpaceRequest::get(
                    BaseSpaceCall::General,
                    format!("projects/{wanted}"),
                ))
                .await?,
            )
        } else {
            let is_it = |found: &wire::BaseSpaceProject| found.name == *wanted;
            let query = [("Name", wanted.as_str()), ("SortBy", "Id"), ("SortDir", "Asc")];
            self.find_in_list("users/current/projects", &query, is_it).await?
        };
        let project: wire::BaseSpaceProject = match (found, lacking) {
            (Some(found), _) => found,
            (None, MissingAppResult::Leave) => return Ok(None),
            // The vendor returns an existing one, so this may be repeated.
            (None, MissingAppResult::Make) => {
                let named = wire::Named { name: wanted, description: "" };
                self.ask(BaseSpaceRequest::post(BaseSpaceCall::General, "projects").json(&named)?)
                    .await?
            }
        };
        self.places.with(|memory| memory.project = Some(project.id.clone()));
        Ok(Some(project.id))
    }

    /// Pages through a list until the wanted item is found.
    async fn find_in_list<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        is_it: impl Fn(&T) -> bool,
    ) -> Result<Option<T>, Failure> {
        let limit = PAGE_LIMIT.to_string();
        let mut offset = 0;
        for _ in 0..PAGES_MAX {
            let start = offset.to_string();
            let mut ask = BaseSpaceRequest::get(BaseSpaceCall::General, path);
            ask.query.extend_from_slice(query);
            let ask = ask.query("Offset", &start).query("Limit", &limit);
            let page: wire::BaseSpacePage<T> = self.ask(ask).await?;
            offset += page.items.len();
            let is_last =
                page.items.is_empty() || page.total_count.is_some_and(|total| offset >= total);
            if let Some(found) = page.items.into_iter().find(|item| is_it(item)) {
                return Ok(Some(found));
            }
            if is_last {
                return Ok(None);
            }
        }
        Err(answer::bad("a list without end"))
    }

    /// Completes the AppSession of an AppResult that we created, which accepts no files from then
    /// on. Does nothing if no session is running.
    pub(super) async fn finish_app_result(&self, name: &str) -> Result<(), Failure> {
        if let BaseSpacePlace::AppResult(_) = &self.place {
            return Ok(());
        }
        let Some(id) = self.app_result(name, MissingAppResult::Leave).await? else { return Ok(()) };
        let ask = BaseSpaceRequest::get(BaseSpaceCall::General, format!("appresults/{id}"));
        let found: wire::AppResult = self.ask(ask).await?;
        self.places.forget(name);
        let Some(session) = found.session().filter(|_| found.is_running()) else { return Ok(()) };
        let ask = BaseSpaceRequest::post(BaseSpaceCall::General, format!("appsessions/{session}"));
        let ask = ask.query("status", "complete").query("statussummary", FINISHED);
        let told: wire::AppSession = self.ask(ask).await?;
        match told.is_complete() {
            true => Ok(()),
            false => Err(answer::bad("an AppSession that is not complete")),
        }
    }

    /// Checks the token: an object that is refused to a valid token does not exist.
    pub(super) async fn check_token(&self) -> Result<(), Failure> {
        self.owner().await.map(drop)
    }

    /// Returns the name of the token's owner.
    pub(super) async fn owner(&self) -> Result<Option<String>, Failure> {
        let ask = BaseSpaceRequest::get(BaseSpaceCall::General, "users/current");
        let user: wire::BaseSpaceUser = self.ask(ask).await?;
        Ok(user.name.as_deref().map(answer::clip))
    }

    /// Judges a refusal in an AppResult: `UploadGone` when the AppResult has ended, so that another
    /// one is looked up.
    pub(super) async fn refused_in(&self, goal: &Goal, id: &str, failure: Failure) -> Failure {
        if !is_missing(&failure) {
            return failure;
        }
        self.places.forget(&goal.app_result);
        let gone = || {
            let message = format!("AppResult {id} takes no files any more");
            Failure { kind: FailureKind::UploadGone, message, ..failure.clone() }
        };
        let ask = BaseSpaceRequest::get(BaseSpaceCall::General, format!("appresults/{id}"));
        match self.ask::<wire::AppResult>(ask).await {
            Ok(found) if found.is_running() => failure,
            Ok(_) => gone(),
            Err(other) if is_missing(&other) => match self.check_token().await {
                Ok(()) => gone(),
                Err(other) => other,
            },
            Err(other) => other,
        }
    }

    /// Checks token and location.
    pub(super) async fn check(&self) -> Result<(), Failure> {
        self.check_token().await?;
        match &self.place {
            BaseSpacePlace::AppResult(id) => self.given_app_result(id).await.map(drop),
            BaseSpacePlace::Project(_) => {
                let _alone = self.places.making.lock().await;
                self.places.forget_project();
                self.project(MissingAppResult::Leave).await.map(drop)
            }
        }
    }
}

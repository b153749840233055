//! Finds free names, for many files at a time.
//!
//! Before a small file is sent, its name is looked up: not every storage supports the condition
//! that would prevent an overwrite. A run has thousands of files, so after a few look-ups their
//! folder is listed, and one answer reports a thousand names; where many folders have few files
//! each, the folder above is listed with everything below it. Names that are in a list, or in a
//! folder too large to list, are looked up one by one, and all names are where listing is not
//! permitted. A list is valid for a few seconds, and includes names sent meanwhile.
//!
//! A crash loses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Method;

use super::answers::S3Call;
use super::{S3, S3Request, wire};
use crate::model::{Failure, Monotonic};

/// How long a list is valid, and look-ups are counted.
const LIFE: Duration = Duration::from_secs(10);
/// The cost of a list in look-ups.
const QUESTIONS_MIN: u32 = 12;
/// Listing a folder with everything below may be useless: it may hold far more names than are needed.
const QUESTIONS_BELOW_MIN: u32 = 2 * QUESTIONS_MIN;
/// Names in a page, limited by S3.
const PAGE: usize = 1000;
/// Limit of pages read of a folder; one with more is too large.
const PAGES_MAX: usize = 3;
/// Limit of remembered folders: those of the runs being sent.
const FOLDERS_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Names(Mutex<BTreeMap<String, NamedFolder>>);

#[derive(Debug)]
struct NamedFolder {
    since: Monotonic,
    question_count: u32,
    /// It was listed, or could not be.
    is_tried: bool,
    list: Option<List>,
}

#[derive(Debug)]
struct List {
    scope: ListScope,
    taken: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListScope {
    Folder,
    /// And in the folders below it.
    Tree,
}

/// How to find out about one name.
#[derive(Debug, PartialEq, Eq)]
enum Advice<'a> {
    /// The name is free.
    Free,
    Ask,
    List(&'a str, ListScope),
}

impl Names {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, NamedFolder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advise<'a>(&self, key: &'a str, now: Monotonic) -> Advice<'a> {
        let mut folders = self.lock();
        folders.retain(|_, folder| now.since(folder.since) < LIFE);
        for (name, scope) in folders_of(key) {
            let list = folders.get(name).and_then(|folder| folder.list.as_ref());
            if let Some(list) =
                list.filter(|list| list.scope == ListScope::Tree || list.scope == scope)
            {
                return if list.taken.contains(key) { Advice::Ask } else { Advice::Free };
            }
        }
        if folders.len() >= FOLDERS_MAX {
            // Folders with many look-ups will be needed again.
            folders.retain(|_, f| f.list.is_some() || f.question_count >= QUESTIONS_MIN / 2);
        }
        let mut advice = Advice::Ask;
        for (name, scope) in folders_of(key) {
            if !folders.contains_key(name) && folders.len() >= FOLDERS_MAX {
                continue;
            }
            let new = || NamedFolder { since: now, question_count: 0, is_tried: false, list: None };
            let folder = folders.entry(name.to_owned()).or_insert_with(new);
            if matches!(advice, Advice::List(_, ListScope::Tree)) {
                // That list may answer the following look-ups.
                folder.question_count = 0;
                continue;
            }
            folder.question_count = folder.question_count.saturating_add(1);
            let enough = match scope {
                ListScope::Folder => QUESTIONS_MIN,
                ListScope::Tree => QUESTIONS_BELOW_MIN,
            };
            let is_due = !folder.is_tried && folder.question_count >= enough;
            if is_due && advice == Advice::Ask {
                folder.is_tried = true;
                advice = Advice::List(name, scope);
            }
        }
        advice
    }

    fn listed(&self, folder: &str, list: List, now: Monotonic) {
        let listed =
            NamedFolder { since: now, question_count: 0, is_tried: true, list: Some(list) };
        self.lock().insert(folder.to_owned(), listed);
    }

    /// A folder cannot be listed, nor can those above it.
    fn not_listed(&self, folder: &str) {
        let mut folders = self.lock();
        for (name, _) in folders_of(folder) {
            folders.entry(name.to_owned()).and_modify(|folder| folder.is_tried = true);
        }
    }

    /// Records that a name is taken.
    pub(super) fn take(&self, key: &str) {
        let mut folders = self.lock();
        for (name, _) in folders_of(key) {
            if let Some(list) = folders.get_mut(name).and_then(|folder| folder.list.as_mut()) {
                list.taken.insert(key.to_owned());
            }
        }
    }
}

impl S3 {
    /// Returns whether a name is known to be free without a look-up.
    pub(super) async fn is_known_free(&self, key: &str) -> bool {
        let now = || self.link.time.now().monotonic;
        match self.names.advise(key, now()) {
            Advice::Free => true,
            Advice::Ask => false,
            Advice::List(folder, scope) => {
                let asked_at = now();
                // Without permission, or in a folder that is too large, names are looked up one by one.
                let Ok(Some(taken)) = self.names_in(folder, scope).await else {
                    self.names.not_listed(folder);
                    return false;
                };
                let is_free = !taken.contains(key);
                self.names.listed(folder, List { scope, taken }, asked_at);
                is_free
            }
        }
    }

    /// Lists a folder; `None` when it is too large.
    async fn names_in(
        &self,
        folder: &str,
        scope: ListScope,
    ) -> Result<Option<BTreeSet<String>>, Failure> {
        let mut names = BTreeSet::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut ask = S3Request::default();
            if let Some(token) = next {
                ask = ask.query("continuation-token", token);
            }
            if scope == ListScope::Folder {
                ask = ask.query("delimiter", "/");
            }
            let ask = ask
                .with_encoded_names()
                .query("list-type", "2")
                .query("max-keys", PAGE.to_string())
                .query("prefix", folder);
            let response = self.call(S3Call::General, Method::GET, ask).await?;
            let Some(page) = wire::names(&response.body) else { return Ok(None) };
            names.extend(page.names);
            match page.next {
                None => return Ok(Some(names)),
                token => next = token,
            }
        }
        Ok(None)
    }
}

/// Returns the folder of a key and those above it, each as a prefix of the key.
fn folders_of(key: &str) -> impl Iterator<Item = (&str, ListScope)> {
    let ends = key.rmatch_indices('/').map(|(at, _)| at + 1).chain([0]);
    let scopes = std::iter::once(ListScope::Folder).chain(std::iter::repeat(ListScope::Tree));
    ends.map(|end| &key[..end]).zip(scopes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    fn list<const N: usize>(scope: ListScope, taken: [&str; N]) -> List {
        List { scope, taken: taken.map(str::to_owned).into() }
    }

    #[test]
    fn a_folder_is_listed_once_after_a_few_questions() {
        let names = Names::default();
        let keys: Vec<_> = (0..20).map(|n| format!("a/{n}")).collect();
        let advice: Vec<_> = keys.iter().map(|key| names.advise(key, at(1))).collect();
        assert_eq!(advice.iter().filter(|advice| **advice != Advice::Ask).count(), 1);
        assert_eq!(advice[11], Advice::List("a/", ListScope::Folder));
        assert_eq!(names.advise("b/1", at(1)), Advice::Ask, "another folder");
        names.listed("a/", list(ListScope::Folder, ["a/1"]), at(1));
        assert_eq!(names.advise("a/1", at(2)), Advice::Ask);
        assert_eq!(names.advise("a/2", at(2)), Advice::Free);
        assert_eq!(names.advise("a/b/2", at(2)), Advice::Ask, "what is deeper is not in the list");
        names.take("a/2");
        names.take("nowhere/2");
        assert_eq!(names.advise("a/2", at(2)), Advice::Ask);
        assert_eq!(names.advise("a/3", at(12)), Advice::Ask, "an old list is not believed");
    }

    #[test]
    fn many_folders_with_few_files_are_listed_from_above() {
        let names = Names::default();
        let keys: Vec<_> = (0..200).map(|n| format!("run/lane/{}/{n}", n / 4)).collect();
        let advice: Vec<_> = keys.iter().map(|key| names.advise(key, at(1))).collect();
        assert_eq!(advice[23], Advice::List("run/lane/", ListScope::Tree));
        assert_eq!(advice.iter().position(|advice| *advice != Advice::Ask), Some(23));
        assert_eq!(advice[47], Advice::List("run/", ListScope::Tree), "that list has not come");
        names.listed("run/lane/", list(ListScope::Tree, ["run/lane/1/4"]), at(1));
        assert_eq!(names.advise("run/lane/1/4", at(2)), Advice::Ask);
        assert_eq!(names.advise("run/lane/99/x", at(2)), Advice::Free);
        names.take("run/lane/99/x");
        assert_eq!(names.advise("run/lane/99/x", at(2)), Advice::Ask);
        assert_eq!(names.advise("run/other", at(2)), Advice::Ask);
    }

    #[test]
    fn what_is_above_a_folder_that_cannot_be_listed_is_not_tried() {
        let names = Names::default();
        let keys: Vec<_> = (0..100).map(|n| format!("run/lane/{n}/x")).collect();
        let mut lists = 0;
        for key in &keys {
            if let Advice::List(folder, _) = names.advise(key, at(1)) {
                names.not_listed(folder);
                lists += 1;
            }
        }
        assert_eq!(lists, 1);
    }

    #[test]
    fn few_folders_are_remembered_and_those_that_are_met_again() {
        let names = Names::default();
        for folder in 0..1000 {
            names.advise(&format!("{folder}/x"), at(1));
        }
        let folders = names.lock().keys().cloned().collect::<Vec<_>>();
        assert!(folders.len() <= FOLDERS_MAX && folders.contains(&String::new()), "{folders:?}");
        names.advise("x", at(20));
        assert_eq!(names.lock().len(), 1);
    }
}

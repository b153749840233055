//! Which names are free, asked about many at a time.
//!
//! Before a small file is sent, what stands under its name is looked at: not every storage knows the
//! condition that would keep it from being replaced. A run has thousands of them in one folder, so after
//! a few questions the folder is listed, and one answer tells of a thousand names. Names that are in the
//! list, or in a folder too large to be listed, are asked about one by one as before; so they are where
//! listing is not permitted. A list is believed for a few seconds, and knows what was sent meanwhile.
//!
//! At a crash nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Method;

use super::answers::Call;
use super::{Ask, S3, wire};
use crate::model::{Failure, Monotonic};

/// How long a list is believed, and questions about single names count.
const LIFE: Duration = Duration::from_secs(10);
/// A list costs what a dozen questions do.
const QUESTIONS_MIN: u32 = 12;
/// Names in a page, as S3 limits them.
const PAGE: usize = 1000;
/// Pages that are read of a folder; one that has more is too large.
const PAGES_MAX: usize = 3;
/// Folders that are remembered: those of the runs that are being sent.
const FOLDERS_MAX: usize = 64;

/// What is known of folders.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<BTreeMap<String, Folder>>);

#[derive(Debug)]
struct Folder {
    since: Monotonic,
    question_count: u32,
    /// The names that are taken; `None` until it is listed, or when it cannot be.
    taken: Option<BTreeSet<String>>,
}

/// What to do about one name.
#[derive(Debug, PartialEq, Eq)]
enum Advice {
    /// Nothing stands there.
    Free,
    /// Ask about it.
    Ask,
    /// List its folder.
    List,
}

impl Names {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Folder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advise(&self, key: &str, now: Monotonic) -> Advice {
        let mut folders = self.lock();
        folders.retain(|_, folder| now.since(folder.since) < LIFE);
        let name = folder_of(key);
        if !folders.contains_key(name) && folders.len() >= FOLDERS_MAX {
            return Advice::Ask;
        }
        let new = || Folder { since: now, question_count: 0, taken: None };
        let folder = folders.entry(name.to_owned()).or_insert_with(new);
        if let Some(taken) = &folder.taken {
            return if taken.contains(key) { Advice::Ask } else { Advice::Free };
        }
        folder.question_count = folder.question_count.saturating_add(1);
        if folder.question_count == QUESTIONS_MIN { Advice::List } else { Advice::Ask }
    }

    fn listed(&self, folder: &str, taken: BTreeSet<String>, now: Monotonic) {
        let mut folders = self.lock();
        let taken = Some(taken);
        folders.insert(folder.to_owned(), Folder { since: now, question_count: 0, taken });
    }

    /// Notes that a name is taken.
    pub(super) fn take(&self, key: &str) {
        let mut folders = self.lock();
        if let Some(taken) = folders.get_mut(folder_of(key)).and_then(|f| f.taken.as_mut()) {
            taken.insert(key.to_owned());
        }
    }
}

impl S3 {
    /// Tells whether nothing stands under a name, as far as that is known without asking about it.
    pub(super) async fn is_known_free(&self, key: &str) -> bool {
        let now = || self.link.time.now().monotonic;
        match self.names.advise(key, now()) {
            Advice::Free => true,
            Advice::Ask => false,
            Advice::List => {
                let (folder, asked_at) = (folder_of(key), now());
                // Without permission, or of a folder that is too large, names are asked about one by one.
                let Ok(Some(taken)) = self.names_in(folder).await else { return false };
                let is_free = !taken.contains(key);
                self.names.listed(folder, taken, asked_at);
                is_free
            }
        }
    }

    /// Lists a folder, without those in it; `None` when it is too large.
    async fn names_in(&self, folder: &str) -> Result<Option<BTreeSet<String>>, Failure> {
        let mut names = BTreeSet::new();
        let mut next: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut ask = Ask::default();
            if let Some(token) = next {
                ask = ask.query("continuation-token", token);
            }
            let ask = ask
                .query("delimiter", "/")
                .query("list-type", "2")
                .query("max-keys", PAGE.to_string())
                .query("prefix", folder);
            let response = self.call(Call::General, Method::GET, ask).await?;
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

/// Returns a key up to its name.
fn folder_of(key: &str) -> &str {
    &key[..key.rfind('/').map_or(0, |at| at + 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    #[test]
    fn a_folder_is_listed_once_after_a_few_questions() {
        let names = Names::default();
        let advice: Vec<_> = (0..20).map(|n| names.advise(&format!("a/{n}"), at(1))).collect();
        assert_eq!(advice.iter().filter(|advice| **advice == Advice::List).count(), 1);
        assert_eq!(advice[11], Advice::List);
        assert_eq!(names.advise("b/1", at(1)), Advice::Ask, "another folder");
        names.listed("a/", BTreeSet::from(["a/1".to_owned()]), at(1));
        assert_eq!(names.advise("a/1", at(2)), Advice::Ask);
        assert_eq!(names.advise("a/2", at(2)), Advice::Free);
        assert_eq!(names.advise("a/b/2", at(2)), Advice::Ask, "what is deeper is not in the list");
        names.take("a/2");
        names.take("nowhere/2");
        assert_eq!(names.advise("a/2", at(2)), Advice::Ask);
        assert_eq!(names.advise("a/3", at(12)), Advice::Ask, "an old list is not believed");
    }

    #[test]
    fn few_folders_are_remembered() {
        let names = Names::default();
        for folder in 0..1000 {
            names.advise(&format!("{folder}/x"), at(1));
        }
        assert_eq!(names.lock().len(), FOLDERS_MAX);
        names.advise("x", at(20));
        assert_eq!(names.lock().len(), 1);
    }
}

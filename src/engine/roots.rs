//! Which directories the drop directories were, those that are not configured included: they may be again by
//! another configuration, and uploads outlive the directory that their drop directory's name stood for.
//! An upload is of the directory that the name stood for when it was admitted; rows say from which upload
//! on that was which.

use std::collections::BTreeMap;

use super::dispatch::{Dispatch, ToIntake};
use super::intake::{Intake, StoredPart};
use crate::model::{DirectoryName, StoredRoot, StoredState, UploadId};

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct RootRegistry {
    /// Where drop directories were, each from an upload on.
    directories: BTreeMap<DirectoryName, BTreeMap<UploadId, String>>,
    /// Directories of names that are not configured, or stand for others.
    gone: Vec<StoredRoot>,
}

impl RootRegistry {
    /// Takes what is stored of the directories that names stood for.
    pub(super) fn new(stored: &mut StoredState) -> Self {
        let mut registry = Self::default();
        for (drop, first, directory) in std::mem::take(&mut stored.directories) {
            registry.directories.entry(drop).or_default().insert(first, directory);
        }
        registry
    }

    /// Notes in which directory the file of an upload was when it was admitted; tells whether that is
    /// another one than that of the upload before.
    pub(super) fn admitted(&mut self, drop: &DirectoryName, directory: &str, id: UploadId) -> bool {
        if self.directory_of(drop, id) == Some(directory) {
            return false;
        }
        let of_drop = self.directories.entry(drop.clone()).or_default();
        of_drop.insert(id, directory.to_owned());
        true
    }

    /// Returns the directory that an upload's file was in when it was admitted.
    pub(super) fn directory_of(&self, drop: &DirectoryName, id: UploadId) -> Option<&str> {
        let (_, directory) = self.directories.get(drop)?.range(..=id).next_back()?;
        Some(directory)
    }

    /// Remembers roots, in place of all before.
    pub(super) fn load(
        &mut self,
        roots: Vec<StoredRoot>,
        intakes: &BTreeMap<DirectoryName, Intake>,
    ) -> Vec<Dispatch> {
        self.gone.clear();
        let mut said = Vec::new();
        for known in roots {
            let intake = intakes.get(&known.drop);
            if intake.is_some_and(|intake| intake.settings().directory == known.directory) {
                let load = ToIntake::Load(StoredPart::Root(known.identity));
                said.push(Dispatch::Intake(known.drop, load));
            } else {
                self.gone.push(known);
            }
        }
        said
    }

    /// Returns every root that is known.
    pub(super) fn all(&self, intakes: &BTreeMap<DirectoryName, Intake>) -> Vec<StoredRoot> {
        let known = |(name, intake): (&DirectoryName, &Intake)| {
            let identity = intake.health().root().cloned()?;
            let directory = intake.settings().directory.clone();
            Some(StoredRoot { drop: name.clone(), directory, identity })
        };
        intakes.iter().filter_map(known).chain(self.gone.iter().cloned()).collect()
    }
}

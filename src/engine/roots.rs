//! The identities and paths of drop directories, including those that are not configured: a later
//! configuration may add them again, and uploads outlive the directory that their drop directory's
//! name meant. An upload belongs to the directory that the name meant when it was admitted; rows
//! record since which upload the name means which directory.

use std::collections::BTreeMap;

use super::dispatch::{Dispatch, ToIntake};
use super::intake::{Intake, StoredPart};
use crate::model::{DirectoryName, StoredRoot, StoredState, UploadId};

#[derive(Debug, Default)]
pub(super) struct RootRegistry {
    /// The paths of drop directories, each from an upload on.
    directories: BTreeMap<DirectoryName, BTreeMap<UploadId, String>>,
    /// Directories of names that are not configured, or mean other directories.
    gone: Vec<StoredRoot>,
}

impl RootRegistry {
    /// Builds it from the stored directories.
    pub(super) fn new(stored: &mut StoredState) -> Self {
        let mut registry = Self::default();
        for (drop, first, directory) in std::mem::take(&mut stored.directories) {
            registry.directories.entry(drop).or_default().insert(first, directory);
        }
        registry
    }

    /// Records the directory of an admitted upload's file; returns whether it differs from that of
    /// the upload before.
    pub(super) fn admitted(&mut self, drop: &DirectoryName, directory: &str, id: UploadId) -> bool {
        if self.directory_of(drop, id) == Some(directory) {
            return false;
        }
        let of_drop = self.directories.entry(drop.clone()).or_default();
        of_drop.insert(id, directory.to_owned());
        true
    }

    /// Returns the directory of an upload's file when it was admitted.
    pub(super) fn directory_of(&self, drop: &DirectoryName, id: UploadId) -> Option<&str> {
        let (_, directory) = self.directories.get(drop)?.range(..=id).next_back()?;
        Some(directory)
    }

    /// Replaces the remembered roots.
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

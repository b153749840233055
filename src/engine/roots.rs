//! Which directories the drop directories were, those that are not configured included: they may be again by
//! another configuration, and uploads outlive the directory that their drop directory's name stood for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::dispatch::{Dispatch, ToIntake};
use super::intake::{Intake, StoredPart};
use crate::model::{DirectoryName, StoredRoot};

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct RootRegistry {
    /// Where drop directories were whose names stand for other directories since this life began.
    former: BTreeMap<DirectoryName, Arc<str>>,
    /// Directories of names that are not configured, or stand for others.
    gone: Vec<StoredRoot>,
}

impl RootRegistry {
    /// Notes which names stood for other directories when this life began.
    pub(super) fn begin(
        &mut self,
        roots: &[StoredRoot],
        intakes: &BTreeMap<DirectoryName, Intake>,
    ) {
        for StoredRoot { drop: name, directory, .. } in roots {
            let now = intakes.get(name).map(|intake| &intake.settings().directory);
            if now.is_some_and(|now| now != directory) {
                self.former.insert(name.clone(), directory.as_str().into());
            }
        }
    }

    /// Returns the directory of a name that stands for another one since this life began.
    pub(super) fn former(&self, drop: &DirectoryName) -> Option<Arc<str>> {
        self.former.get(drop).cloned()
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

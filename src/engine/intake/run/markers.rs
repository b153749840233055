//! The markers of a run: which of its files are markers, and whether they may be sent.

use std::collections::BTreeMap;

use crate::model::{Role, SourcePath};

/// Limit of the markers of one run that are kept by path; no sequencer writes more.
const MARKERS_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Markers {
    /// Files that are markers by any rule and were seen unsent.
    roles: BTreeMap<SourcePath, Role>,
    /// Those of the applied rule may be sent: all other files have arrived.
    may_go: bool,
}

/// Returns the set of the one marker that a file is, by its position in the profile's list; the
/// empty set for any other file.
pub(super) fn set_of(role: Role) -> u64 {
    match role {
        Role::Marker(position) => 1 << position.min(63),
        Role::Plain | Role::Held => 0,
    }
}

impl Markers {
    pub(super) fn note(&mut self, path: &SourcePath, role: Role) {
        if set_of(role) != 0 && self.roles.len() < MARKERS_MAX {
            self.roles.insert(path.clone(), role);
        }
    }

    pub(super) fn may_go(&self) -> bool {
        self.may_go
    }

    pub(super) fn hold(&mut self) {
        self.may_go = false;
    }

    /// Returns whether markers wait.
    pub(super) fn are_held(&self) -> bool {
        !self.may_go && !self.roles.is_empty()
    }

    /// Allows them to be sent, and returns them.
    pub(super) fn release(&mut self) -> Vec<SourcePath> {
        self.may_go = true;
        self.roles.keys().cloned().collect()
    }

    /// Returns those with some roles.
    pub(super) fn of(&self, is_meant: impl Fn(Role) -> bool) -> Vec<SourcePath> {
        let meant = self.roles.iter().filter(|(_, role)| is_meant(**role));
        meant.map(|(path, _)| path.clone()).collect()
    }
}

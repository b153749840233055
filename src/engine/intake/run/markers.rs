//! The markers of a run: which of its files they are, and whether they may be sent.

use std::collections::BTreeMap;

use crate::model::{Role, SourcePath};

/// Markers of one run that are remembered by path; more than any sequencer writes.
const MARKERS_MAX: usize = 64;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Markers {
    /// Files that are a marker by some rule, as far as they were seen unsent.
    roles: BTreeMap<SourcePath, Role>,
    /// Those of the rule in force may be sent: all else is there.
    may_go: bool,
}

/// Returns the set of the one marker that a file is, by its position in the profile's list; the empty set for
/// any other file.
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

    /// Returns whether there are any that wait.
    pub(super) fn are_held(&self) -> bool {
        !self.may_go && !self.roles.is_empty()
    }

    /// Lets them be sent, and returns them.
    pub(super) fn release(&mut self) -> Vec<SourcePath> {
        self.may_go = true;
        self.roles.keys().cloned().collect()
    }

    /// Returns those of some roles.
    pub(super) fn of(&self, is_meant: impl Fn(Role) -> bool) -> Vec<SourcePath> {
        let meant = self.roles.iter().filter(|(_, role)| is_meant(**role));
        meant.map(|(path, _)| path.clone()).collect()
    }
}

//! The targets of destinations, and the consequences of a changed target.
//!
//! A destination is its target, not its name. When the configuration gives a name another address,
//! bucket or project, new files go there, and open uploads begin again there. What was completed
//! stays where it is: it is not sent again automatically, and proves nothing for disposal. Ids of
//! remote uploads are valid only at the target that gave them out: the uploads are removed there,
//! or wait in their rows until a destination has that target again.
//!
//! A crash loses nothing: an upload's row has the id of its target, and a start compares it with
//! the destination's target.

use std::collections::{BTreeMap, BTreeSet};

use super::turn::Turn;
use crate::model::{Learned, OpenCleanup, Record, StoredTargets, TargetAddress, TargetId};

/// Every target, past and present, with what is known of it independent of the destination's name.
#[derive(Debug)]
pub(super) struct TargetRegistry {
    known: BTreeMap<TargetAddress, TargetId>,
    /// Lasting properties of targets that answers have shown; also of targets that are not
    /// configured.
    learned: BTreeSet<(TargetId, Learned)>,
    /// Remote uploads to remove at targets that no destination has.
    cleanups: BTreeSet<OpenCleanup>,
}

impl TargetRegistry {
    /// Builds it from the stored targets.
    pub(super) fn load(stored: &mut StoredTargets) -> Self {
        let known = std::mem::take(&mut stored.known).into_iter();
        Self {
            known: known.map(|(id, address)| (address, id)).collect(),
            learned: std::mem::take(&mut stored.learned).into_iter().collect(),
            cleanups: std::mem::take(&mut stored.cleanups).into_iter().collect(),
        }
    }

    /// Returns the id of a target, if it has one.
    pub(super) fn known(&self, address: &TargetAddress) -> Option<TargetId> {
        self.known.get(address).copied()
    }

    /// Returns the id of a target, and gives it one if it has none.
    pub(super) fn id_of(&mut self, address: &TargetAddress, turn: &mut Turn) -> TargetId {
        if let Some(id) = self.known(address) {
            return id;
        }
        let last = self.known.values().map(|id| id.0).max().unwrap_or(0);
        let id = TargetId(last + 1);
        turn.record(Record::Target { id, address: address.clone() });
        self.known.insert(address.clone(), id);
        id
    }

    /// Records a property of a target; returns whether it is new.
    pub(super) fn learn(&mut self, target: TargetId, what: Learned) -> bool {
        self.learned.insert((target, what))
    }

    /// Returns whether a target is known to have a property.
    pub(super) fn has_learned(&self, target: TargetId, what: Learned) -> bool {
        self.learned.contains(&(target, what))
    }

    /// Keeps remote uploads to remove at targets that no destination has.
    pub(super) fn keep_cleanups(&mut self, cleanups: Vec<OpenCleanup>) {
        self.cleanups.extend(cleanups);
    }

    /// Removes and returns them.
    pub(super) fn take_cleanups(&mut self) -> BTreeSet<OpenCleanup> {
        std::mem::take(&mut self.cleanups)
    }

    /// Removes a finished one; returns whether it was there.
    pub(super) fn cleanup_done(&mut self, what: &OpenCleanup) -> bool {
        self.cleanups.remove(what)
    }
}

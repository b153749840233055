//! Which target each destination has, and what follows when that is another one.
//!
//! A destination is its target, not its name. When the configuration gives a name another address,
//! bucket or project, new files go to that one, and open uploads begin anew there. What was completed
//! stays where it is: it is not sent again by itself, and it proves nothing for disposal. Ids of remote
//! uploads mean something at the target that gave them out and nowhere else: they are removed there, or
//! wait in their rows until a destination has that target again.
//!
//! At a crash nothing is lost: an upload keeps the id of its target in its row, and a start compares it
//! with the target that its destination has.

use std::collections::{BTreeMap, BTreeSet};

use super::turn::Turn;
use crate::model::{Learned, OpenCleanup, Record, StoredTargets, TargetAddress, TargetId};

/// Every target that was ever known, and what holds for it whichever destination has it.
#[derive(Debug)]
pub(super) struct TargetRegistry {
    known: BTreeMap<TargetAddress, TargetId>,
    /// What the answers of destinations have shown of their targets, for good; also of targets that are
    /// not configured now.
    learned: BTreeSet<(TargetId, Learned)>,
    /// Remote uploads that are to be removed at targets that no destination has.
    cleanups: BTreeSet<OpenCleanup>,
}

impl TargetRegistry {
    /// Takes what is stored.
    pub(super) fn load(stored: &mut StoredTargets) -> Self {
        let known = std::mem::take(&mut stored.known).into_iter();
        Self {
            known: known.map(|(id, address)| (address, id)).collect(),
            learned: std::mem::take(&mut stored.learned).into_iter().collect(),
            cleanups: std::mem::take(&mut stored.cleanups).into_iter().collect(),
        }
    }

    /// Returns the id of a target, when it was ever known.
    pub(super) fn known(&self, address: &TargetAddress) -> Option<TargetId> {
        self.known.get(address).copied()
    }

    /// Returns the id of a target; one that was never known gets one.
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

    /// Notes what an answer shows of a target; tells whether that is news.
    pub(super) fn learn(&mut self, target: TargetId, what: Learned) -> bool {
        self.learned.insert((target, what))
    }

    /// Returns whether answers have shown something of a target.
    pub(super) fn has_learned(&self, target: TargetId, what: Learned) -> bool {
        self.learned.contains(&(target, what))
    }

    /// Keeps remote uploads that are to be removed at targets that no destination has.
    pub(super) fn keep_cleanups(&mut self, cleanups: Vec<OpenCleanup>) {
        self.cleanups.extend(cleanups);
    }

    /// Returns them, and forgets them.
    pub(super) fn take_cleanups(&mut self) -> BTreeSet<OpenCleanup> {
        std::mem::take(&mut self.cleanups)
    }

    /// Notes that one of them is gone; tells whether it was one.
    pub(super) fn cleanup_done(&mut self, what: &OpenCleanup) -> bool {
        self.cleanups.remove(what)
    }
}

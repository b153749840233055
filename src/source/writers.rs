//! Files that programs hold open to write, as far as the events of a local disk show it.
//!
//! A file that was written to is held open until the event of a writer that closes it. That is a hint that
//! prolongs a quiet period, never one that shortens it. *Not seen*: writers of other machines, on a share;
//! writes through a mapping of memory; a writer that has not written since the watch began; that of several
//! writers one is left. At most [`WRITERS_MAX`] files are kept. *At a crash* nothing is lost: the next life knows
//! of no writer until one writes.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::SourcePath;

/// Files kept at most; of more, nothing is known.
const WRITERS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct OpenWriters(Mutex<BTreeSet<SourcePath>>);

impl OpenWriters {
    pub(super) fn wrote(&self, path: &SourcePath) {
        let mut files = self.files();
        if files.len() < WRITERS_MAX && !files.contains(path) {
            files.insert(path.clone());
        }
    }

    /// Notes that a writer closed a file, or that nothing is under its name any more.
    pub(super) fn closed(&self, path: &SourcePath) {
        self.files().remove(path);
    }

    pub(super) fn forget_all(&self) {
        self.files().clear();
    }

    /// Returns the files that are held open.
    pub(crate) fn all(&self) -> BTreeSet<SourcePath> {
        self.files().clone()
    }

    fn files(&self) -> MutexGuard<'_, BTreeSet<SourcePath>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! Views of the rows, for acts that read some: opened once, reused.
//!
//! Opening one takes longer than reading an upload. *Promises* to keep few of them, none of which
//! is in a transaction, so that none blocks a WAL checkpoint. *At a crash* nothing is lost.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::store::Error;
use crate::store::snapshot::Snapshot;

/// Limit of unused views that are kept; each has a small cache.
const IDLE_MAX: usize = 4;

/// Views of one state directory.
#[derive(Debug)]
pub(crate) struct Readers {
    state: PathBuf,
    idle: Mutex<Vec<Snapshot>>,
}

impl Readers {
    /// Starts without any.
    pub(crate) fn new(state: PathBuf) -> Self {
        Self { state, idle: Mutex::default() }
    }

    /// Lends one for a read, and keeps it afterwards.
    pub(crate) fn lend<T>(&self, read: impl FnOnce(&Snapshot) -> T) -> Result<T, Error> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let snapshot = kept.map_or_else(|| Snapshot::open(&self.state), Ok)?;
        let read = read(&snapshot);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(snapshot);
        }
        Ok(read)
    }

    /// Closes the unused ones.
    pub(crate) fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

//! Maintenance of the database file: copies, and integrity checks.
//!
//! Both read through a connection of their own, on their caller's thread, so that no commit waits
//! for them; both can be cancelled by a [`Halt`]. The writer records their results
//! ([`super::Store::tend`]) and does the work that changes rows or the file: removing old rows,
//! returning free pages, checkpointing a large WAL.
//!
//! *Never* writes to the database in use; removes no copy before a newer one is complete, checked
//! and durable. *At a crash* a partial copy remains under another name, and the next copy removes
//! it.

mod backup;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, ErrorCode, InterruptHandle};

pub(super) use backup::before_migration;
pub(crate) use backup::{Backups, back_up};

use super::schema::{self, FILE_NAME};
use super::{Error, Kind};
use crate::model::WallTime;

/// Limit of findings in a report on a damaged database; one is enough to know.
const FINDINGS_MAX: u32 = 10;

/// Cancels a copy or a check. Clones share one state.
#[derive(Clone, Default)]
pub(crate) struct Halt(Arc<Halting>);

#[derive(Default)]
struct Halting {
    is_asked: AtomicBool,
    statement: Mutex<Option<InterruptHandle>>,
}

impl std::fmt::Debug for Halt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Halt").field(&self.is_asked()).finish()
    }
}

impl Halt {
    /// Requests the end. A statement that begins at the same moment may miss it: ask again until
    /// the work has ended.
    pub(crate) fn ask(&self) {
        self.0.is_asked.store(true, Ordering::Relaxed);
        let statement = self.0.statement.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(statement) = &*statement {
            statement.interrupt();
        }
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.0.is_asked.load(Ordering::Relaxed)
    }

    /// Makes the statements of a connection end on request.
    fn reach(&self, connection: &Connection) {
        let mut statement = self.0.statement.lock().unwrap_or_else(PoisonError::into_inner);
        *statement = Some(connection.get_interrupt_handle());
    }
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckVerdict {
    pub is_sound: bool,
    pub detail: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cared {
    /// When it was last copied.
    pub backup_at: Option<WallTime>,
    /// Why the last copy failed, when it did.
    pub backup_failure: Option<String>,
    /// When it was last checked completely.
    pub checked_at: Option<WallTime>,
    /// The result of that check.
    pub verdict: Option<CheckVerdict>,
    /// A ledger was found damaged, and is not whole again.
    pub has_damaged_ledger: bool,
}

/// Returns the lengths of the database and of its WAL; zero for a missing file.
pub(crate) fn sizes(directory: &Path) -> (u64, u64) {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    let path = directory.join(FILE_NAME);
    (size(&path), size(&path.with_extension("db-wal")))
}

/// Checks the whole database; `None` when cancelled.
///
/// # Errors
/// When it cannot be opened or read, which proves nothing about damage.
pub(crate) fn check(directory: &Path, halt: &Halt) -> Result<Option<CheckVerdict>, Error> {
    let connection = schema::open_for_reading(directory)?;
    let pragma = format!("PRAGMA integrity_check({FINDINGS_MAX})");
    verdict_of(&connection, &pragma, halt)
        .map_err(|source| Error::sqlite("check the database", &directory.join(FILE_NAME), source))
}

fn verdict_of(
    connection: &Connection,
    pragma: &str,
    halt: &Halt,
) -> Result<Option<CheckVerdict>, rusqlite::Error> {
    halt.reach(connection);
    if halt.is_asked() {
        return Ok(None);
    }
    let read = || -> Result<Vec<String>, rusqlite::Error> {
        connection.prepare(pragma)?.query_map([], |row| row.get(0))?.collect()
    };
    match read() {
        Ok(found) if found == ["ok"] => Ok(Some(CheckVerdict { is_sound: true, detail: None })),
        Ok(found) => Ok(Some(CheckVerdict { is_sound: false, detail: Some(found.join("; ")) })),
        Err(error) => match error.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => Ok(None),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Ok(Some(CheckVerdict { is_sound: false, detail: Some(error.to_string()) }))
            }
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests;

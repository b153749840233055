//! Care for the database file: copies of it, and a look whether it is sound.
//!
//! Both read through a connection of their own, on a thread of their caller's, so that no commit
//! waits for them; both can be asked to end early, by a [`Halt`]. What they found is written by the
//! writer ([`super::Store::tend`]), which also does what changes rows or the file: removing what is
//! kept no longer, giving free pages back, folding a large WAL.
//!
//! *Never* touches the database that is in use; removes no copy before a newer one is whole,
//! checked and durable. *At a crash* a copy that was not whole stays behind under another name, and
//! the next one removes it.

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

/// Findings told of a damaged database; one is enough to know.
const FINDINGS_MAX: u32 = 10;

/// Tells a copy or a check to end early. Clones are one and the same.
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
    /// Asks for the end. A statement that begins at this instant is not reached: ask again until it
    /// has ended.
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

    /// Makes the statements of a connection end when asked.
    fn reach(&self, connection: &Connection) {
        let mut statement = self.0.statement.lock().unwrap_or_else(PoisonError::into_inner);
        *statement = Some(connection.get_interrupt_handle());
    }
}

/// How the database was found.
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
    /// When it was last checked to the end.
    pub checked_at: Option<WallTime>,
    /// What that check found.
    pub verdict: Option<CheckVerdict>,
    /// Some ledger was found damaged, and not whole again.
    pub has_damaged_ledger: bool,
}

/// Returns the length of the database and of the WAL beside it, as far as they are there.
pub(crate) fn sizes(directory: &Path) -> (u64, u64) {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    let path = directory.join(FILE_NAME);
    (size(&path), size(&path.with_extension("db-wal")))
}

/// Checks the whole database; `None` when it was asked to end early.
///
/// # Errors
/// When it cannot be opened or read, which says nothing about whether it is sound.
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

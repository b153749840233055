//! Receipts: lines of ledgers, which prove uploads.
//!
//! One append-only ledger for each run; files that are their own runs share one for each month. `line.rs`
//! says what a line says, `ledger.rs` how lines are chained and checked, `place.rs` what ledgers are called,
//! `append.rs` how lines become durable, `sentinel.rs` what is sent to say that a run is complete.
//!
//! *Promises*: a line that was answered is durable, and its place and digest are what its row keeps. *At a
//! crash* see `append.rs`.

mod append;
mod audit;
pub mod ledger;
pub mod line;
pub mod place;
pub mod sentinel;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

pub use append::Appender;
pub(crate) use append::{LedgerRows, LineFault, WantedLine, WantedLines, set_tail_aside};
pub(crate) use audit::{LedgerVerdict, audit};

use crate::model::{LineRef, RunRow, WallTime};

/// Returns a moment as RFC 3339 in UTC, or the start of time when it cannot be written so.
pub(crate) fn rfc3339(at: WallTime) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or_default().to_string()
}

/// Reads a moment as RFC 3339 has it.
pub(crate) fn parse_rfc3339(text: &str) -> Option<WallTime> {
    let at = text.parse::<jiff::Timestamp>().ok()?;
    i64::try_from(at.as_nanosecond()).ok().map(WallTime)
}

pub fn directory(state: &Path) -> PathBuf {
    state.join("receipts")
}

/// Opens a ledger for reading. A pipe in its place would be waited for.
///
/// # Errors
/// `NotFound` when it is not there, `InvalidData` when it is no file.
pub(crate) fn open(ledger: &Path) -> io::Result<File> {
    match fs::symlink_metadata(ledger)?.is_file() {
        true => File::open(ledger),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "it is no file")),
    }
}

/// Reads the line that a row names.
///
/// # Errors
/// When it is not there, or is not the one that was written.
pub(crate) fn read(state: &Path, line: &LineRef) -> Result<ledger::LedgerLine, LineFault> {
    append::read_line(state, line)
}

/// Checks that a line is there, and is the one that was written.
pub fn check(state: &Path, line: Option<&LineRef>) -> Result<(), LineFault> {
    let none = || LineFault::Damaged("is missing: its row names none".into());
    read(state, line.ok_or_else(none)?).map(|_| ())
}

/// Returns what is wrong with the line that says that a run is complete, in words.
pub(crate) fn run_damage(state: &Path, run: &RunRow) -> Option<String> {
    let damage = check(state, Some(run.completion.receipt.as_ref()?)).err()?;
    Some(format!("the receipt of {} {damage}", run.name))
}

/// Makes a directory and those above it, each known to the disk before the next is relied on.
fn make_durable(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = directory.parent().unwrap_or(Path::new("."));
    make_durable(above)?;
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => sync(above),
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

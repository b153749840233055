//! Receipts: ledger lines that prove uploads.
//!
//! One append-only ledger for each run; files that are their own runs share one for each month.
//! `line.rs` defines the content of lines, `ledger.rs` their chain and its check, `place.rs` the names
//! of ledgers, `append.rs` their durability, `sentinel.rs` the file that reports a complete run.
//!
//! *Promises*: an answered line is durable, and its row keeps its position and digest. *At a crash*
//! see `append.rs`.

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

/// Formats a time as RFC 3339 in UTC; the Unix epoch if it cannot be represented.
pub(crate) fn rfc3339(at: WallTime) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or_default().to_string()
}

/// Parses a time in RFC 3339.
pub(crate) fn parse_rfc3339(text: &str) -> Option<WallTime> {
    let at = text.parse::<jiff::Timestamp>().ok()?;
    i64::try_from(at.as_nanosecond()).ok().map(WallTime)
}

pub fn directory(state: &Path) -> PathBuf {
    state.join("receipts")
}

/// Opens a ledger for reading. Does not wait for a pipe in its place.
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
/// When it is missing, or differs from the one that was written.
pub(crate) fn read(state: &Path, line: &LineRef) -> Result<ledger::LedgerLine, LineFault> {
    append::read_line(state, line)
}

/// Checks that a line is there, and is the one that was written.
pub fn check(state: &Path, line: Option<&LineRef>) -> Result<(), LineFault> {
    let none = || LineFault::Damaged("is missing: its row names none".into());
    read(state, line.ok_or_else(none)?).map(|_| ())
}

/// Describes what is wrong with the line that completes a run.
pub(crate) fn run_damage(state: &Path, run: &RunRow) -> Option<String> {
    let damage = check(state, Some(run.completion.receipt.as_ref()?)).err()?;
    Some(format!("the receipt of {} {damage}", run.name))
}

/// Creates a directory and its parents, each durable before the next.
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

//! Copies of the database, in `STATE/backups`.
//!
//! A copy is made page by page within one read transaction, so it shows one moment whatever is
//! written meanwhile. It is written under another name, checked, made durable and only then
//! renamed; after that the oldest copies are removed. A name with a future time comes from a wrong
//! clock, and counts as the oldest.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::{Error, Halt, Kind, WallTime, schema, verdict_of};
use crate::store::schema::FILE_NAME;

const DIRECTORY: &str = "backups";
/// The name of a copy begins with this; the time follows.
const PREFIX: &str = "dropferry-";
const SUFFIX: &str = ".db";
/// The name of a partial copy.
const PARTIAL: &str = "backup.partial";
/// Pages in one step: a mebibyte between two checks of the disk and of the halt.
const PAGES: i32 = 256;
/// Pause between two steps, so that a copy does not take the whole disk bandwidth.
const PAUSE: Duration = Duration::from_millis(2);
/// Space that must stay free for the database itself: its own length, within these bounds.
const RESERVE_MIN: u64 = 16 << 20;
const RESERVE_MAX: u64 = 256 << 20;

/// How copies are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backups {
    pub kept: usize,
    /// The time in the copy's name.
    pub at: WallTime,
}

/// Copies the database of a state directory; `None` when cancelled.
///
/// # Errors
/// When there is no space for it, or it could not be written: then nothing of it is left, and no
/// older copy was removed.
pub(crate) fn back_up(
    directory: &Path,
    backups: Backups,
    halt: &Halt,
) -> Result<Option<PathBuf>, Error> {
    let source = schema::open_for_reading(directory)?;
    let Some(copy) = copy(&source, directory, backups.at, halt)? else { return Ok(None) };
    remove_oldest(&copy, backups)
        .map_err(|error| Error::io("remove copies beside", &copy, error))?;
    Ok(Some(copy))
}

/// Copies an unused database before its migration; its name has the time of its last change.
pub(in crate::store) fn before_migration(
    source: &Connection,
    directory: &Path,
) -> Result<PathBuf, Error> {
    let path = directory.join(FILE_NAME);
    let written = fs::metadata(&path).and_then(|file| file.modified());
    let written = written.map_err(|error| Error::io("copy the database", &path, error))?;
    let at = jiff::Timestamp::try_from(written).unwrap_or_default().as_nanosecond();
    let at = WallTime(i64::try_from(at).unwrap_or(i64::MAX));
    let copied = copy(source, directory, at, &Halt::default())?;
    copied.ok_or_else(|| interrupted(&path))
}

fn interrupted(path: &Path) -> Error {
    let kind = Kind::Failed { detail: "it was interrupted".into() };
    Error { doing: "copy the database", path: path.to_owned(), kind }
}

/// Makes a complete, checked and durable copy under its name.
fn copy(
    source: &Connection,
    directory: &Path,
    at: WallTime,
    halt: &Halt,
) -> Result<Option<PathBuf>, Error> {
    let place = directory.join(DIRECTORY);
    let (partial, copy) = (place.join(PARTIAL), place.join(name_at(at)));
    let failed = |error| Error::io("copy the database to", &copy, error);
    fs::create_dir_all(&place).map_err(failed)?;
    remove_partial(&place).map_err(failed)?;
    let made = fill(source, &partial, halt).and_then(|is_whole| {
        if is_whole {
            name(&partial, &copy).map_err(failed)?;
        }
        Ok(is_whole)
    });
    match made {
        Ok(true) => Ok(Some(copy)),
        Ok(false) => remove_partial(&place).map_err(failed).map(|()| None),
        Err(error) => {
            // The first failure is the one to report; the next copy removes the rest.
            remove_partial(&place).unwrap_or(());
            Err(error)
        }
    }
}

/// Writes and checks; false when cancelled.
fn fill(source: &Connection, partial: &Path, halt: &Halt) -> Result<bool, Error> {
    let failed = |error| Error::sqlite("copy the database to", partial, error);
    let size = |pages: i32, page: u64| u64::from(pages.unsigned_abs()) * page;
    let page: u64 = source
        .query_row("PRAGMA page_size", [], |row| row.get::<_, u32>(0))
        .map_err(failed)?
        .into();
    // All steps read within it; otherwise each commit would restart the copy.
    let moment = source.unchecked_transaction().map_err(failed)?;
    let pages: i32 = moment.query_row("PRAGMA page_count", [], |row| row.get(0)).map_err(failed)?;
    moment.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(failed)?;
    look_at_room(partial, size(pages, page), size(pages, page))?;
    let mut target = Connection::open(partial).map_err(failed)?;
    // It is made durable as a whole, or removed.
    for (pragma, value) in [("journal_mode", "OFF"), ("synchronous", "OFF")] {
        target.pragma_update(None, pragma, value).map_err(failed)?;
    }
    let steps = Backup::new(&moment, &mut target).map_err(failed)?;
    while steps.step(PAGES).map_err(failed)? != StepResult::Done {
        if halt.is_asked() {
            return Ok(false);
        }
        look_at_room(partial, size(steps.progress().remaining, page), size(pages, page))?;
        std::thread::sleep(PAUSE);
    }
    drop(steps);
    drop(target);
    moment.finish().map_err(failed)?;
    is_sound(partial, halt)
}

/// Fails when the copy would leave too little space for the database itself.
fn look_at_room(partial: &Path, needed: u64, whole: u64) -> Result<(), Error> {
    let place = partial.parent().unwrap_or(partial);
    // Where the free space is not reported, a full file system shows when writing.
    let Ok(found) = rustix::fs::statvfs(place) else { return Ok(()) };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let needed = needed + whole.clamp(RESERVE_MIN, RESERVE_MAX);
    if free >= needed {
        return Ok(());
    }
    let (free, needed) = (crate::model::ByteCount(free), crate::model::ByteCount(needed));
    let detail = format!("{free} are free, {needed} are needed to keep the database going too");
    Err(Error {
        doing: "copy the database to",
        path: place.to_owned(),
        kind: Kind::Failed { detail },
    })
}

fn is_sound(partial: &Path, halt: &Halt) -> Result<bool, Error> {
    let failed = |error| Error::sqlite("check the copy", partial, error);
    let copy = schema::open_copy(partial).map_err(failed)?;
    match verdict_of(&copy, "PRAGMA quick_check(1)", halt).map_err(failed)? {
        None => Ok(false),
        Some(verdict) if verdict.is_sound => Ok(true),
        Some(verdict) => {
            let kind = Kind::Corrupt { detail: verdict.detail.unwrap_or_default() };
            Err(Error { doing: "check the copy", path: partial.to_owned(), kind })
        }
    }
}

/// Makes a copy durable under its name.
fn name(partial: &Path, copy: &Path) -> io::Result<()> {
    File::open(partial)?.sync_all()?;
    fs::rename(partial, copy)?;
    File::open(copy.parent().unwrap_or(copy))?.sync_all()
}

/// Removes a partial copy, and SQLite's files beside it.
fn remove_partial(place: &Path) -> io::Result<()> {
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn name_at(at: WallTime) -> String {
    let at = jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or_default();
    format!("{PREFIX}{}{SUFFIX}", at.strftime("%Y%m%dT%H%M%SZ"))
}

/// Removes the oldest copies beyond the number to keep.
fn remove_oldest(copy: &Path, backups: Backups) -> io::Result<()> {
    let Some(place) = copy.parent() else { return Ok(()) };
    let mut names = Vec::new();
    for entry in fs::read_dir(place)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            names.push(name);
        }
    }
    for name in beyond(names, &name_at(backups.at), backups.kept) {
        fs::remove_file(place.join(name))?;
    }
    Ok(())
}

/// Returns the names beyond those to keep, where `last` is the newest copy.
fn beyond(mut names: Vec<String>, last: &str, kept: usize) -> Vec<String> {
    names.sort_by_key(|name| (name.as_str() <= last, name.clone()));
    let count = names.len().saturating_sub(kept.max(1));
    names.truncate(count);
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_and_those_of_a_wrong_clock_before_them() {
        let name = |at: &str| at.to_string();
        let table = [
            (vec!["a", "b", "c"], "c", 3, vec![]),
            (vec!["c", "a", "b"], "c", 2, vec!["a"]),
            (vec!["a", "b", "c"], "c", 0, vec!["a", "b"]),
            // The clock was set back: earlier copies count as older.
            (vec!["x", "y", "b"], "b", 2, vec!["x"]),
            (vec!["a", "b", "y"], "b", 2, vec!["y"]),
        ];
        for (names, last, kept, gone) in table {
            let names = names.into_iter().map(name).collect();
            assert_eq!(beyond(names, last, kept), gone, "{last} {kept}");
        }
    }

    #[test]
    fn names_sort_by_time() {
        assert_eq!(name_at(WallTime(0)), "dropferry-19700101T000000Z.db");
        assert_eq!(name_at(WallTime(1_800_000_000_999_999_999)), "dropferry-20270115T080000Z.db");
    }
}

//! Replaces the database by a copy of it, and keeps the old files.
//!
//! *Promises*: a copy that is damaged, or of a newer program, is refused before anything is touched; nothing is
//! removed; the file with the database's name is at every moment the old one, missing, or the complete copy.
//! *After a crash* in between, a start finds no database beside receipts and says so, and the restore is repeated.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::schema::{self, FILE_NAME};
use super::{Error, Kind, directory, lock};
use crate::model::{UploadId, WallTime};

/// The database and SQLite's files beside it.
const FILES: [&str; 3] = [FILE_NAME, "dropferry.db-wal", "dropferry.db-shm"];
/// The copy's name until it is complete.
const PARTIAL: &str = "dropferry.db.restored";

/// Puts a copy in place. Returns where the old files are kept, if there were any.
///
/// # Errors
/// When a daemon runs, the copy is damaged, or the disk failed.
pub(crate) fn put_back(state: &Path, copy: &Path, at: WallTime) -> Result<Option<PathBuf>, Error> {
    directory::make(state)?;
    directory::check(state)?;
    let _lock = lock::take(state)?;
    look_at(copy)?;
    let failed = |error| Error::io("put a copy in the place of", &state.join(FILE_NAME), error);
    let partial = state.join(PARTIAL);
    fs::copy(copy, &partial).map_err(failed)?;
    File::open(&partial).and_then(|file| file.sync_all()).map_err(failed)?;
    let kept = set_aside(state, at).map_err(failed)?;
    fs::rename(&partial, state.join(FILE_NAME)).map_err(failed)?;
    sync(state).map_err(failed)?;
    Ok(kept)
}

/// Makes room for a rebuilt database: a damaged one is moved aside. Returns where it is kept.
///
/// # Errors
/// When a daemon runs, the database is intact and has uploads, or the disk failed.
pub(crate) fn make_room(state: &Path, at: WallTime) -> Result<Option<PathBuf>, Error> {
    directory::make(state)?;
    directory::check(state)?;
    let _lock = lock::take(state)?;
    let path = state.join(FILE_NAME);
    if directory::lack(state).is_some() {
        return Ok(None);
    }
    let is_damage = |error: &Error| matches!(error.kind, Kind::Corrupt { .. });
    match count(&path) {
        Ok(0) => Ok(None),
        Ok(count) => Err(Error {
            doing: "rebuild",
            path: path.clone(),
            kind: Kind::Refused {
                detail: format!("it is sound, and knows of {count} uploads"),
                cure: format!(
                    "start the daemon: it adopts what receipts say beyond that; or move {} away",
                    path.display()
                ),
            },
        }),
        Err(error) if is_damage(&error) => {
            set_aside(state, at).map_err(|error| Error::io("set aside", &path, error))
        }
        Err(error) => Err(error),
    }
}

/// Returns the number of uploads in an intact database. One without tables has none.
fn count(path: &Path) -> Result<i64, Error> {
    let failed = |source| Error::sqlite("read", path, source);
    let connection = Connection::open(path).map_err(failed)?;
    if schema::known_version(&connection, path)? == 0 {
        return Ok(0);
    }
    schema::check_file(&connection, path)?;
    connection.query_row("SELECT count(*) FROM uploads", [], |row| row.get(0)).map_err(failed)
}

/// Refuses anything but an intact database of this program version or an older one.
fn look_at(copy: &Path) -> Result<(), Error> {
    let connection = open_copy(copy)?;
    schema::known_version(&connection, copy)?;
    schema::check_file(&connection, copy)?;
    let sql = "SELECT max(id) FROM uploads";
    let read: Result<Option<i64>, _> = connection.query_row(sql, [], |row| row.get(0));
    read.map(|_| ()).map_err(|source| {
        let detail = format!("it is no database of dropferry: {source}");
        Error { doing: "use the copy", path: copy.to_owned(), kind: Kind::Corrupt { detail } }
    })
}

fn open_copy(copy: &Path) -> Result<Connection, Error> {
    schema::open_copy(copy).map_err(|source| Error::sqlite("open the copy", copy, source))
}

/// Moves the files of the database into a new directory.
fn set_aside(state: &Path, at: WallTime) -> io::Result<Option<PathBuf>> {
    let there: Vec<_> = FILES.iter().filter(|name| state.join(name).exists()).collect();
    if there.is_empty() {
        return Ok(None);
    }
    let at = jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or_default();
    let at = at.strftime("%Y%m%dT%H%M%SZ");
    let place = |number: u32| match number {
        1 => state.join(format!("replaced-{at}")),
        _ => state.join(format!("replaced-{at}-{number}")),
    };
    let kept = (1..).map(place).find(|place| !place.exists());
    let kept = kept.ok_or_else(|| io::Error::other("no name is free"))?;
    fs::create_dir(&kept)?;
    // The database first: one without its WAL would be opened as if it were complete; a WAL alone is refused.
    for name in there {
        fs::rename(state.join(name), kept.join(name))?;
    }
    sync(&kept)?;
    sync(state)?;
    Ok(Some(kept))
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Returns the last id that any copy of the database, or one that was moved aside, has given out.
/// Unreadable ones are skipped.
pub(super) fn last_id(state: &Path) -> Option<UploadId> {
    let named = |directory: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let is_aside = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"replaced-"))
    };
    let aside = named(state).into_iter().filter(is_aside).map(|path| path.join(FILE_NAME));
    let copies = named(&state.join("backups")).into_iter().chain(aside);
    let last = |copy: PathBuf| {
        let id: Option<i64> = open_copy(&copy)
            .ok()?
            .query_row(
                "SELECT max(ifnull((SELECT max(id) FROM uploads), 0), ids_above) FROM care",
                [],
                |row| row.get(0),
            )
            .ok()?;
        id.map(UploadId)
    };
    copies.filter_map(last).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Settings;
    use crate::store::writer::Writer;

    fn state() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings { directory: directory.path().to_owned(), is_new: false };
        let (writer, _) = Writer::open(&settings).unwrap();
        writer.leave();
        directory
    }

    #[test]
    fn what_is_no_sound_database_is_refused_and_nothing_is_touched() {
        let state = state();
        let before = fs::read(state.path().join(FILE_NAME)).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let copy = elsewhere.path().join("copy.db");
        let other = Connection::open(&copy).unwrap();
        other.execute_batch("CREATE TABLE other (id)").unwrap();
        drop(other);
        let text = elsewhere.path().join("text");
        fs::write(&text, "no database").unwrap();
        for refused in [copy, text, elsewhere.path().join("missing")] {
            let error = put_back(state.path(), &refused, WallTime(0)).unwrap_err().to_string();
            assert!(error.contains(&*refused.to_string_lossy()), "{error}");
            assert_eq!(fs::read(state.path().join(FILE_NAME)).unwrap(), before);
        }
    }

    #[test]
    fn what_stood_there_is_kept_however_often() {
        let state = state();
        let elsewhere = tempfile::tempdir().unwrap();
        let copy = elsewhere.path().join("copy.db");
        fs::copy(state.path().join(FILE_NAME), &copy).unwrap();
        fs::write(state.path().join(FILE_NAME), "damaged").unwrap();
        let first = put_back(state.path(), &copy, WallTime(0)).unwrap().expect("it is kept");
        assert_eq!(fs::read(first.join(FILE_NAME)).unwrap(), b"damaged");
        let second = put_back(state.path(), &copy, WallTime(0)).unwrap().expect("it is kept");
        assert_ne!(first, second);
        let settings = Settings { directory: state.path().to_owned(), is_new: false };
        Writer::open(&settings).unwrap();
    }
}

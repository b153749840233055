//! Opens the database file: pragmas, integrity, migrations.
//!
//! Nothing is ever deleted or repaired here. The kinds of the store's files are checked before they
//! are opened (`directory`). A database that is damaged, or newer than this program, is refused
//! with its cure (damage in a large one ends the daemon when it is found, a few seconds after the
//! start); an older one is first copied to the backups and then migrated, each step in one
//! transaction.

use std::path::Path;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};

use super::directory::{self, Lack};
use super::{Error, Kind, READ, care, lock};

/// The database's name in the state directory.
pub(super) const FILE_NAME: &str = "dropferry.db";

/// Every migration in order; the database's `user_version` counts the applied ones. Until the first
/// release a change of the schema edits the first.
const MIGRATIONS: &[M<'static>] = &[M::up(include_str!("../../migrations/0001_initial.sql"))];

/// A writer waits this long for readers that hold the WAL.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// A database up to this length is checked in some ten milliseconds.
const CHECKED_AT_OPEN: u64 = 16 << 20;

/// How often, and at which interval, a reader looks for a database that a daemon may be creating.
const MAKING_LOOKS: u32 = 40;
const MAKING_PAUSE: Duration = Duration::from_millis(50);

/// Cache of one reader: it reads single rows, or all of a table once.
const READER_CACHE_KIB: i64 = 256;

/// Statements that a connection keeps prepared: more than it has, because those of uploads and of
/// `status` take about as long to prepare as to run.
const STATEMENTS_MAX: usize = 64;

/// Opens the database for writing, creates it when missing, and migrates it.
#[cfg(test)]
pub(super) fn open_for_writing(directory: &Path) -> Result<Connection, Error> {
    let connection = open(directory)?;
    bring_up_to_date(connection, directory)
}

/// Opens the database for writing, unchanged.
pub(super) fn open(directory: &Path) -> Result<Connection, Error> {
    let path = directory.join(FILE_NAME);
    let failed = |source| Error::sqlite("open the database", &path, source);
    let connection = Connection::open(&path).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    match is_checked_at_open(directory) {
        true => check(&connection, directory)?,
        false => look(&connection, &path)?,
    }
    Ok(connection)
}

/// Prepares an open database for writing, and creates or migrates its tables.
pub(super) fn bring_up_to_date(
    mut connection: Connection,
    directory: &Path,
) -> Result<Connection, Error> {
    let path = directory.join(FILE_NAME);
    let failed = |source| Error::sqlite("open the database", &path, source);
    // Effective only before the first table is created; an older file reuses its free pages.
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    // NORMAL may lose committed rows at a power failure; a lost ETag is a part sent again, a lost
    // completion is a guess.
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", "ON").map_err(failed)?;
    migrate(&mut connection, &path, MIGRATIONS)?;
    Ok(connection)
}

/// Opens the database for reading, whether a daemon runs on it or not. Waits for one that a daemon
/// is creating at this moment: it looks like a lost one.
pub(super) fn open_for_reading(directory: &Path) -> Result<Connection, Error> {
    for _ in 0..MAKING_LOOKS {
        match look_for_reading(directory) {
            Err(Error { kind: Kind::Lost { .. }, .. })
                if lock::is_taken(directory) == Some(true) =>
            {
                std::thread::sleep(MAKING_PAUSE);
            }
            looked => return looked,
        }
    }
    look_for_reading(directory)
}

fn look_for_reading(directory: &Path) -> Result<Connection, Error> {
    let path = directory.join(FILE_NAME);
    directory::check_kinds(directory)?;
    // Checked before it is opened: a first start may create it between a failing open and a check.
    if let Some(lack) = directory::lack(directory) {
        directory::refuse_loss(directory, lack)?;
        return Err(Error { doing: READ, path, kind: Kind::Missing });
    }
    let failed = |source| Error::sqlite(READ, &path, source);
    // No two threads use one connection at a time.
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = |uri: &str| Connection::open_with_flags(uri, flags);
    let uri = format!("file:{}", percent_encoded(&path));
    let connection = open(&uri).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    // The first statement: if it fails, all others would too.
    if version(&connection).is_ok() {
        return readable(connection, directory);
    }
    // A read-only directory has no space for the WAL's index; without a WAL beside the file, no
    // process writes and the file alone is the state.
    let has_wal = std::fs::metadata(path.with_extension("db-wal")).is_ok_and(|wal| wal.len() > 0);
    if has_wal {
        return readable(connection, directory);
    }
    readable(open(&format!("{uri}?immutable=1")).map_err(failed)?, directory)
}

/// Prepares a database for reading, unless it is empty: the file of a first start has no tables
/// yet.
fn readable(connection: Connection, directory: &Path) -> Result<Connection, Error> {
    let path = &directory.join(FILE_NAME);
    let failed = |source| Error::sqlite(READ, path, source);
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    match known_version(&connection, path)? {
        0 => {
            directory::refuse_loss(directory, Lack::Empty)?;
            let kind = Kind::Missing;
            Err(Error { doing: READ, path: path.to_owned(), kind })
        }
        older if older < MIGRATIONS.len() => {
            let detail = format!("it has version {older}; the daemon brings it up to date");
            let kind = Kind::Migration { detail };
            Err(Error { doing: READ, path: path.to_owned(), kind })
        }
        _ => {
            connection.pragma_update(None, "cache_size", -READER_CACHE_KIB).map_err(failed)?;
            refuse_loss(&connection, directory)?;
            Ok(connection)
        }
    }
}

/// Refuses a database without uploads beside receipts of uploads, unless it was created so.
pub(super) fn refuse_loss(connection: &Connection, directory: &Path) -> Result<(), Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM uploads) OR is_new_state FROM care";
    let is_meant = connection
        .query_row(sql, [], |row| row.get::<_, bool>(0))
        .map_err(|source| Error::sqlite("read", &directory.join(FILE_NAME), source))?;
    if is_meant { Ok(()) } else { directory::refuse_loss(directory, Lack::NoUploads) }
}

/// Opens a database that no process writes, without creating files beside it.
pub(super) fn open_copy(copy: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(format!("file:{}?immutable=1", percent_encoded(copy)), flags)
}

fn percent_encoded(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'_').remove(b'-');
    percent_encode(path.as_os_str().as_bytes(), PLAIN).to_string()
}

pub(super) fn version(connection: &Connection) -> Result<usize, rusqlite::Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0)).map(|v| v as usize)
}

pub(super) fn known_version(connection: &Connection, path: &Path) -> Result<usize, Error> {
    let found = version(connection).map_err(|e| Error::sqlite("read the version of", path, e))?;
    if found > MIGRATIONS.len() {
        let kind = Kind::Newer { found, known: MIGRATIONS.len() };
        return Err(Error { doing: "open the database", path: path.to_owned(), kind });
    }
    Ok(found)
}

/// Returns whether a database is small enough to be checked at once. A larger one is checked in the
/// background, by [`super::rest::Rest`].
pub(super) fn is_checked_at_open(directory: &Path) -> bool {
    std::fs::metadata(directory.join(FILE_NAME)).is_ok_and(|found| found.len() <= CHECKED_AT_OPEN)
}

/// Refuses a file that is no database, or whose tables cannot be read.
fn look(connection: &Connection, path: &Path) -> Result<(), Error> {
    connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        .map_err(|source| Error::sqlite("check the database", path, source))
}

/// Refuses a damaged database. An empty file is a new one.
pub(super) fn check(connection: &Connection, directory: &Path) -> Result<(), Error> {
    check_file(connection, &directory.join(FILE_NAME))
}

pub(super) fn check_file(connection: &Connection, path: &Path) -> Result<(), Error> {
    let failed = |source| Error::sqlite("check the database", path, source);
    let verdict: String =
        connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if verdict == "ok" {
        return Ok(());
    }
    let kind = Kind::Corrupt { detail: verdict };
    Err(Error { doing: "check the database", path: path.to_owned(), kind })
}

/// Applies the missing migrations; a database with data is copied first.
fn migrate(connection: &mut Connection, path: &Path, steps: &[M<'_>]) -> Result<(), Error> {
    let found = known_version(connection, path)?;
    if found > 0 && found < steps.len() {
        care::before_migration(connection, path.parent().unwrap_or(Path::new(".")))?;
    }
    Migrations::from_slice(steps).to_latest(connection).map_err(|source| Error {
        doing: "migrate the database",
        path: path.to_owned(),
        kind: Kind::Migration { detail: source.to_string() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_valid() {
        Migrations::from_slice(MIGRATIONS).validate().expect("every migration applies");
    }

    #[test]
    fn an_older_database_is_copied_before_it_is_migrated() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(FILE_NAME);
        let mut connection =
            with_upload(open_for_writing(directory.path()).expect("a new database"));
        let steps =
            [&MIGRATIONS[0], &M::up("ALTER TABLE uploads ADD COLUMN later TEXT")].map(M::clone);
        migrate(&mut connection, &path, &steps).expect("an older database");
        let id: i64 = connection
            .query_row("SELECT id FROM uploads WHERE later IS NULL", [], |row| row.get(0))
            .expect("the row is there");
        assert_eq!((id, version(&connection).expect("has one")), (7, 2));
        let copies = directory.path().join("backups").read_dir().expect("a directory");
        let copies: Vec<_> = copies.map(|entry| entry.expect("an entry").path()).collect();
        let [copy] = &*copies else { panic!("one copy: {copies:?}") };
        assert_eq!(version(&Connection::open(copy).expect("opens")).expect("has one"), 1);
    }

    fn with_upload(connection: Connection) -> Connection {
        let sql = "INSERT INTO uploads (id, drop_name, path, destination, device, inode, size_bytes, \
            mtime_ns, target_folder, target_name, wished_part_size_bytes, rank, stage, hold, \
            etag_mode, accepted_count, accepted_bytes, reported_count, restart_count, \
            attempt_count, described, bytes_sent, admitted_at_ns, target_id) VALUES (7, 'd', x'61', \
            'far', 1, 1, 3, 1, '', 'a', 5, 0, 'queued', 'none', 'unknown', 0, 0, 0, 0, 0, 0, 0, 1, \
            1)";
        connection.execute(sql, []).expect("a row");
        connection
    }

    #[test]
    fn words_that_the_law_does_not_know_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let database = with_upload(open_for_writing(directory.path()).expect("a new database"));
        let set = |column: &str, word: &str| {
            let sql = format!("UPDATE uploads SET {column} = ?1, begin_intended_at_ns = 1");
            database.execute(&sql, [word])
        };
        let known = [
            ("stage", "beginning"),
            ("hold", "none"),
            ("etag_mode", "opaque"),
            ("export_state", "started"),
        ];
        for (column, word) in known {
            assert_eq!(set(column, word), Ok(1), "{column}");
            assert!(set(column, "other").is_err(), "{column}");
        }
    }

    #[test]
    fn no_row_of_an_upload_makes_a_table_to_be_checked() {
        let mut database = Connection::open_in_memory().expect("opened");
        Migrations::from_slice(MIGRATIONS).to_latest(&mut database).expect("migrated");
        let update = "UPDATE uploads SET stage = ?1, hold = ?2, etag_mode = ?3, export_state = ?4, \
            ended_at_ns = ?5, pruned_at_ns = ?6 WHERE id = ?7";
        let insert = "INSERT INTO uploads (drop_name, stage, hold, etag_mode) \
            VALUES (?1, ?2, ?3, ?4)";
        for sql in [update, insert] {
            let mut steps = database.prepare(&format!("EXPLAIN {sql}")).expect("prepared");
            let unbound = rusqlite::params_from_iter(std::iter::repeat_n(
                rusqlite::types::Null,
                steps.parameter_count(),
            ));
            let steps = steps.query_map(unbound, |row| row.get::<_, String>("opcode"));
            let steps: Vec<_> = steps.expect("explained").map(|step| step.expect("read")).collect();
            assert!(steps.len() > 10 && !steps.contains(&"OpenEphemeral".to_owned()), "{sql}");
        }
    }

    #[test]
    fn a_newer_database_is_refused_with_both_versions() {
        let directory = tempfile::tempdir().expect("a directory");
        let connection = open_for_writing(directory.path()).expect("a new database");
        connection.pragma_update(None, "user_version", 99).expect("doctored");
        drop(connection);
        for error in [
            open_for_writing(directory.path()).expect_err("newer"),
            open_for_reading(directory.path()).expect_err("newer"),
        ] {
            let text = error.to_string();
            assert!(
                text.contains("99") && text.contains(&format!("version {}", MIGRATIONS.len())),
                "{text}"
            );
        }
    }

    #[test]
    fn damage_is_refused_and_nothing_is_deleted() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(FILE_NAME);
        std::fs::write(&path, vec![7; 8192]).expect("written");
        let error = open_for_writing(directory.path()).expect_err("not a database");
        assert!(matches!(error.kind, Kind::Corrupt { .. }), "{error}");
        assert!(error.hint().is_some());
        assert_eq!(std::fs::read(&path).expect("still there"), vec![7; 8192]);
    }
}

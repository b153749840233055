//! Copies and checks of a real file, while it is written.

use std::time::Duration;

use super::*;
use crate::store::writer::Writer;
use crate::store::{Settings, Store, Tend, Tended};

const AT: WallTime = WallTime(1_800_000_000_000_000_000);

fn filled(rows: u32) -> (tempfile::TempDir, Connection) {
    let directory = tempfile::tempdir().unwrap();
    let connection = schema::open_for_writing(directory.path()).unwrap();
    connection.execute_batch("CREATE TABLE more (id INTEGER PRIMARY KEY, text TEXT)").unwrap();
    add(&connection, rows);
    (directory, connection)
}

fn add(connection: &Connection, rows: u32) {
    let sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
        INSERT INTO more (text) SELECT hex(randomblob(500)) FROM n";
    connection.execute(sql, [rows]).unwrap();
}

fn count(path: &Path) -> u32 {
    let copy = Connection::open(path).unwrap();
    copy.query_row("SELECT count(*) FROM more", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_copy_is_of_one_moment_while_rows_are_written() {
    let (directory, connection) = filled(8_000);
    let backups = Backups { kept: 7, at: AT };
    let copy = std::thread::scope(|scope| {
        let place = directory.path();
        let copying = scope.spawn(move || back_up(place, backups, &Halt::default()));
        while !copying.is_finished() {
            add(&connection, 10);
        }
        copying.join().unwrap().unwrap().unwrap()
    });
    assert!(copy.ends_with("backups/dropferry-20270115T080000Z.db"), "{}", copy.display());
    assert_eq!((count(&copy) - 8_000) % 10, 0, "a transaction is there whole or not at all");
}

#[test]
fn so_many_copies_are_kept_and_what_was_not_whole_goes() {
    let (directory, _connection) = filled(1);
    let place = directory.path().join("backups");
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("backup.partial"), "torn").unwrap();
    std::fs::write(place.join("mine.db"), "not ours").unwrap();
    for day in 0..5 {
        let at = AT.after(Duration::from_hours(24 * day));
        back_up(directory.path(), Backups { kept: 2, at }, &Halt::default()).unwrap().unwrap();
    }
    let mut names: Vec<_> =
        place.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let kept = ["dropferry-20270118T080000Z.db", "dropferry-20270119T080000Z.db", "mine.db"];
    assert_eq!(names, kept);
}

#[test]
fn a_copy_that_is_not_wanted_any_more_leaves_nothing() {
    let (directory, _connection) = filled(8_000);
    let halt = Halt::default();
    halt.ask();
    let backups = Backups { kept: 1, at: AT };
    assert_eq!(back_up(directory.path(), backups, &halt).unwrap(), None);
    assert_eq!(directory.path().join("backups").read_dir().unwrap().count(), 0);
}

#[test]
fn a_sound_database_is_and_a_damaged_one_is_not() {
    let (directory, connection) = filled(500);
    let sound = CheckVerdict { is_sound: true, detail: None };
    assert_eq!(check(directory.path(), &Halt::default()).unwrap(), Some(sound));
    connection.execute_batch("CREATE INDEX odd ON more (text)").unwrap();
    // An index that does not match its table.
    connection
        .execute_batch(
            "PRAGMA writable_schema = ON; \
             UPDATE sqlite_schema SET sql = 'CREATE INDEX odd ON more (id)' WHERE name = 'odd'",
        )
        .unwrap();
    drop(connection);
    let verdict = check(directory.path(), &Halt::default()).unwrap().unwrap();
    assert!(!verdict.is_sound && verdict.detail.is_some(), "{verdict:?}");
}

#[test]
fn a_check_ends_when_it_is_told_to() {
    let (directory, _connection) = filled(40_000);
    let halt = Halt::default();
    let ended = std::thread::scope(|scope| {
        let checking = scope.spawn(|| check(directory.path(), &halt));
        while !checking.is_finished() {
            halt.ask();
            std::thread::yield_now();
        }
        checking.join().unwrap().unwrap()
    });
    assert_eq!(ended, None);
}

#[test]
fn what_was_done_is_written_and_read_back_and_free_pages_go() {
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { directory: directory.path().to_owned(), is_new: false };
    let (writer, loaded) = Writer::open(&settings).unwrap();
    assert_eq!(loaded.care, Cared::default());
    let other = Connection::open(directory.path().join(FILE_NAME)).unwrap();
    other.busy_timeout(Duration::from_secs(5)).unwrap();
    other.execute_batch("CREATE TABLE more (id INTEGER PRIMARY KEY, text TEXT)").unwrap();
    add(&other, 30_000);
    other.execute_batch("DROP TABLE more").unwrap();
    drop(other);
    let runner = crate::store::Runner { pid: 1, version: "0".into(), started_at: AT };
    let (store, thread) = Store::start(writer, &runner).unwrap();
    let tend = |tend| store.tend(tend).blocking_recv().unwrap().unwrap();
    let verdict = CheckVerdict { is_sound: false, detail: Some("odd".into()) };
    tend(Tend::BackupEnded { at: AT, failure: None });
    tend(Tend::BackupEnded { at: AT.after(Duration::from_secs(1)), failure: Some("full".into()) });
    tend(Tend::Checked { at: AT, verdict: verdict.clone() });
    let before = std::fs::metadata(directory.path().join(FILE_NAME)).unwrap().len();
    let mut steps = 0;
    while tend(Tend::FreePages) == Tended::More {
        steps += 1;
    }
    assert_eq!(tend(Tend::FoldLog), Tended::Done);
    drop(store);
    thread.finish();
    let after = std::fs::metadata(directory.path().join(FILE_NAME)).unwrap().len();
    assert!(steps > 10 && after < before / 4, "{steps} steps, {before} to {after} bytes");
    let (_, loaded) = Writer::open(&settings).unwrap();
    let cared = Cared {
        backup_at: Some(AT),
        backup_failure: Some("full".into()),
        checked_at: Some(AT),
        verdict: Some(verdict),
        has_damaged_ledger: false,
    };
    assert_eq!(loaded.care, cared);
}

#[test]
fn a_wal_that_a_reader_holds_is_folded_when_it_has_let_go() {
    let directory = tempfile::tempdir().unwrap();
    let (writer, _) =
        Writer::open(&Settings { directory: directory.path().to_owned(), is_new: false }).unwrap();
    let reader = Connection::open(directory.path().join(FILE_NAME)).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM uploads;").unwrap();
    let runner = crate::store::Runner { pid: 1, version: "0".into(), started_at: AT };
    let (store, thread) = Store::start(writer, &runner).unwrap();
    let fold = || {
        assert_eq!(store.tend(Tend::FoldLog).blocking_recv().unwrap().unwrap(), Tended::Done);
        sizes(directory.path()).1
    };
    assert!(fold() > 0, "it is held");
    reader.execute_batch("COMMIT").unwrap();
    assert_eq!(fold(), 0);
    drop(store);
    thread.finish();
}

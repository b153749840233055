//! The state directory: its owner, its writers, and the kinds of the store's files in it.
//!
//! *Promises*: only a plain file or a directory of its own is opened under these names; a directory
//! that others may write to is refused; a missing or empty database is not created again beside the
//! files of an earlier one, unless an operator orders that. *Never* removes anything and never
//! changes a mode. It checks by name (`lstat`) and opens no database: a process that closes a
//! second handle of a database loses the locks that SQLite holds on it.

use std::fs::{self, DirBuilder, FileType, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::schema::FILE_NAME;
use super::{Error, Kind, lock};

/// The mode of a created directory: members of the group may read.
const MODE: u32 = 0o750;
/// Write permission for others than the owner.
const OTHERS_WRITE: u32 = 0o022;
/// In a directory of this mode nobody removes or renames another user's files: the root of an
/// in-memory file system, as containers mount one.
const STICKY: u32 = 0o1000;

/// The store's files in the state directory.
const FILES: [&str; 5] =
    [FILE_NAME, "dropferry.db-wal", "dropferry.db-shm", "dropferry.db-journal", lock::FILE_NAME];
const RECEIPTS: &str = "receipts";
const SENTINELS: &str = "sentinels";
const BACKUPS: &str = "backups";
/// Limit of directories searched for a receipt.
const LOOKED_INTO_MAX: usize = 10_000;

pub(super) fn make(directory: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(MODE)
        .create(directory)
        .map_err(|source| Error::io("make the state directory", directory, source))
}

/// Refuses a state directory that others may write to or that belongs to another user, and anything
/// but a file under the name of one.
///
/// # Errors
/// The problem and its cure. A missing directory is accepted.
pub(super) fn check(directory: &Path) -> Result<(), Error> {
    let found = match fs::metadata(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => {
            found.map_err(|error| Error::io("look at the state directory", directory, error))?
        }
    };
    let shown = directory.display();
    let (mode, us) = (found.mode() & 0o7777, rustix::process::geteuid().as_raw());
    if !found.is_dir() {
        return Err(refused(
            directory,
            "it is no directory".into(),
            "correct [state] directory".into(),
        ));
    }
    if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
        let detail = format!("others may write to it (mode {mode:04o})");
        return Err(refused(directory, detail, format!("chmod go-w {shown}")));
    }
    if found.uid() != us {
        let kind = Kind::Foreign { owner: found.uid(), us };
        return Err(Error { doing: "use", path: directory.to_owned(), kind });
    }
    if mode & OTHERS_WRITE != 0 {
        check_owners(directory, us)?;
    }
    check_kinds(directory)
}

/// Refuses files of another user under the names of the store.
fn check_owners(directory: &Path, us: u32) -> Result<(), Error> {
    for name in FILES.iter().chain(&[RECEIPTS, SENTINELS, BACKUPS]) {
        let path = directory.join(name);
        let owner = fs::symlink_metadata(&path).ok().map(|found| found.uid());
        if let Some(owner) = owner.filter(|owner| *owner != us) {
            return Err(Error { doing: "use", path, kind: Kind::Foreign { owner, us } });
        }
    }
    Ok(())
}

/// Refuses anything but a plain file under the name of a store file, and anything but a directory
/// under that of one.
pub(super) fn check_kinds(directory: &Path) -> Result<(), Error> {
    for name in FILES {
        check_kind(&directory.join(name), "file", FileType::is_file)?;
    }
    for name in [RECEIPTS, SENTINELS, BACKUPS] {
        check_kind(&directory.join(name), "directory", FileType::is_dir)?;
    }
    check_wal(directory)
}

/// Refuses a database whose WAL was removed. SQLite creates the WAL before its index and removes it
/// after that: an index alone means that someone else removed the WAL.
fn check_wal(directory: &Path) -> Result<(), Error> {
    let index = directory.join("dropferry.db-shm");
    let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
    let path = directory.join("dropferry.db-wal");
    // A daemon that stops meanwhile removes the index before the WAL; one that starts creates the
    // WAL before the index, so it is checked once more.
    let is_alone = |index: &Path| !is_there(&path) && is_there(index) && !is_there(&path);
    if !is_alone(&index) || !is_there(&directory.join(FILE_NAME)) {
        return Ok(());
    }
    let detail = "it was removed, and what was written last with it".to_owned();
    let cure = format!(
        "put it back or restore a copy, as docs/backup.md says; to go on with what is left, remove {}",
        index.display()
    );
    Err(refused(&path, detail, cure))
}

fn check_kind(path: &Path, wanted: &str, is_wanted: fn(&FileType) -> bool) -> Result<(), Error> {
    // A path without access fails when it is opened.
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if is_wanted(&found.file_type()) {
        return Ok(());
    }
    let detail = format!("it is {}, and a {wanted} must stand there", kind_of(found.file_type()));
    let cure = format!("move {} aside; dropferry never makes such a thing there", path.display());
    Err(refused(path, detail, cure))
}

fn kind_of(found: FileType) -> &'static str {
    if found.is_symlink() {
        "a symbolic link"
    } else if found.is_fifo() {
        "a named pipe"
    } else if found.is_socket() {
        "a socket"
    } else if found.is_dir() {
        "a directory"
    } else if found.is_file() {
        "a file"
    } else {
        "a device"
    }
}

fn refused(path: &Path, detail: String, cure: String) -> Error {
    Error { doing: "use", path: path.to_owned(), kind: Kind::Refused { detail, cure } }
}

/// What a database lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    /// There is no file.
    Missing,
    /// The file is empty.
    Empty,
    /// It has tables, but no uploads.
    NoUploads,
}

impl Lack {
    /// Returns it as part of a sentence about the database.
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::Missing => "it is not there",
            Self::Empty => "it is empty",
            Self::NoUploads => "it knows of no upload",
        }
    }
}

/// Returns what the database lacks, if anything.
pub(super) fn lack(directory: &Path) -> Option<Lack> {
    match fs::symlink_metadata(directory.join(FILE_NAME)) {
        Ok(found) if found.len() == 0 => Some(Lack::Empty),
        Err(error) if error.kind() == ErrorKind::NotFound => Some(Lack::Missing),
        Ok(_) | Err(_) => None,
    }
}

/// Refuses to start without a database beside the files of an earlier one.
pub(super) fn refuse_loss(directory: &Path, lack: Lack) -> Result<(), Error> {
    let Some(remains) = remains(directory, lack) else { return Ok(()) };
    let path = directory.join(FILE_NAME);
    Err(Error {
        doing: "open the database",
        path,
        kind: Kind::Lost { lack: lack.sentence(), remains },
    })
}

/// Returns what an earlier database has left. Copies may be of one without uploads.
fn remains(directory: &Path, lack: Lack) -> Option<&'static str> {
    let wal = directory.join("dropferry.db-wal");
    let is_copy = |name: &str| name.starts_with("dropferry-") && name.ends_with(".db");
    let has_copy = || {
        let entries = fs::read_dir(directory.join(BACKUPS)).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| is_copy(&entry.file_name().to_string_lossy()))
    };
    if has_file(directory.join(RECEIPTS)) {
        Some("receipts")
    } else if lack != Lack::NoUploads && has_copy() {
        Some("backups")
    } else if lack != Lack::NoUploads && fs::metadata(wal).is_ok_and(|found| found.len() > 0) {
        Some("its WAL")
    } else {
        None
    }
}

/// Returns whether a directory contains any file.
fn has_file(directory: PathBuf) -> bool {
    let mut directories = vec![directory];
    for _ in 0..LOOKED_INTO_MAX {
        let Some(directory) = directories.pop() else { return false };
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(found) if found.is_dir() => directories.push(entry.path()),
                Ok(_) | Err(_) => return true,
            }
        }
    }
    true
}

/// Moves the WAL of a missing database aside, because SQLite would remove it.
pub(super) fn set_aside_wal(directory: &Path) -> Result<(), Error> {
    for name in ["dropferry.db-wal", "dropferry.db-shm"] {
        let path = directory.join(name);
        if !path.exists() {
            continue;
        }
        let place = |number: u32| directory.join(format!("{name}.lost-{number}"));
        let free = (1..).map(place).find(|place| !place.exists());
        let moved = free.map_or(Ok(()), |place| fs::rename(&path, place));
        moved.map_err(|error| Error::io("set aside", &path, error))?;
    }
    Ok(())
}

/// The files of the open database, as they were when it was opened.
#[derive(Debug, Clone)]
pub(super) struct InUse {
    files: Vec<(PathBuf, Option<Identity>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl InUse {
    /// Records which files the database consists of.
    pub(super) fn of(directory: &Path) -> Self {
        let names = [FILE_NAME, "dropferry.db-wal", "dropferry.db-shm"];
        let files = names.map(|name| directory.join(name));
        Self { files: files.map(|path| (path.clone(), identity(&path))).into() }
    }

    /// Checks that they are there and unchanged.
    ///
    /// # Errors
    /// When one was removed or replaced: later writes go to a file that no start will find.
    pub(super) fn look(&self) -> Result<(), Error> {
        for (path, before) in &self.files {
            if before.is_some() && identity(path) != *before {
                return Err(Error { doing: "go on with", path: path.clone(), kind: Kind::Gone });
            }
        }
        Ok(())
    }
}

fn identity(path: &Path) -> Option<Identity> {
    let found: Metadata = fs::symlink_metadata(path).ok()?;
    Some(Identity { device: found.dev(), inode: found.ino() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;
    use crate::skipped::skipped;
    use crate::store::snapshot::Snapshot;
    use crate::store::writer::Writer;
    use crate::store::{Settings, schema};

    fn open(directory: &Path, is_new: bool) -> Result<Writer, Error> {
        let settings = Settings { directory: directory.to_owned(), is_new };
        Writer::open(&settings).map(|(writer, _)| writer)
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused_with_the_cure() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("state");
        open(&state, false).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&state) & 0o027, 0, "made for the owner, and the group to read");
        assert_eq!(mode(&state.join(lock::FILE_NAME)), 0o600);
        for refused in [0o777, 0o770, 0o702, 0o2775] {
            fs::set_permissions(&state, fs::Permissions::from_mode(refused)).unwrap();
            let error = open(&state, false).unwrap_err();
            assert!(error.to_string().contains("others may write"), "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("chmod go-w")));
            assert_eq!(check(&state).unwrap_err().to_string(), error.to_string());
        }
        fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
        open(&state, false).unwrap();
    }

    #[test]
    fn where_nobody_removes_what_is_ours_only_what_others_left_is_refused() {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        drop(open(place.path(), false).unwrap());
        let planted = place.path().join("dropferry.db-wal");
        fs::write(&planted, "").unwrap();
        if std::os::unix::fs::chown(&planted, Some(12_345), None).is_err() {
            return skipped("only root gives files away");
        }
        let error = open(place.path(), false).unwrap_err();
        assert_eq!(error.kind, Kind::Foreign { owner: 12_345, us: 0 });
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        let place = tempfile::tempdir().unwrap();
        if std::os::unix::fs::chown(place.path(), Some(12_345), None).is_err() {
            return skipped("only root gives files away");
        }
        let error = open(place.path(), false).unwrap_err();
        assert!(error.to_string().contains("belongs to user 12345"), "{error}");
    }

    #[test]
    fn nothing_is_opened_that_is_no_file_and_nobody_waits() {
        let files = FILES.map(|name| (name, true));
        let names = files.into_iter().chain([(RECEIPTS, false), (BACKUPS, false)]);
        for (name, is_file) in names {
            for kind in ["fifo", "socket", "link", "dangling", "other"] {
                let place = tempfile::tempdir().unwrap();
                let path = place.path().join(name);
                let elsewhere = place.path().join("elsewhere");
                match kind {
                    "fifo" => mkfifoat(CWD, &path, Mode::RWXU).unwrap(),
                    "socket" => drop(UnixListener::bind(&path).unwrap()),
                    "link" => {
                        match is_file {
                            true => fs::write(&elsewhere, "").unwrap(),
                            false => fs::create_dir(&elsewhere).unwrap(),
                        }
                        symlink(&elsewhere, &path).unwrap();
                    }
                    "dangling" => symlink(&elsewhere, &path).unwrap(),
                    _ if is_file => fs::create_dir(&path).unwrap(),
                    _ => fs::write(&path, "").unwrap(),
                }
                let is_refused = |error: Error| {
                    matches!(error.kind, Kind::Refused { .. }) && error.hint().is_some()
                };
                assert!(is_refused(open(place.path(), true).unwrap_err()), "{name} {kind}: writer");
                assert!(
                    is_refused(Snapshot::open(place.path()).unwrap_err()),
                    "{name} {kind}: reader"
                );
            }
        }
    }

    #[test]
    fn no_database_is_begun_beside_what_another_left_unless_that_is_asked_for() {
        for remains in
            ["receipts/lab/a.1.json", "backups/dropferry-20260101T000000Z.db", "dropferry.db-wal"]
        {
            for empty in [false, true] {
                let place = tempfile::tempdir().unwrap();
                let path = place.path().join(remains);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, "left").unwrap();
                let database = place.path().join(FILE_NAME);
                if empty {
                    fs::write(&database, "").unwrap();
                }
                for error in [
                    open(place.path(), false).unwrap_err(),
                    Snapshot::open(place.path()).unwrap_err(),
                ] {
                    assert!(matches!(error.kind, Kind::Lost { .. }), "{remains}: {error}");
                    let hint = error.hint().unwrap();
                    assert!(hint.contains("restore --receipts") && hint.contains("copy"), "{hint}");
                }
                assert_eq!(fs::read(&path).unwrap(), b"left", "nothing was touched");
                assert_eq!(database.exists(), empty);
                drop(open(place.path(), true).unwrap());
                drop(open(place.path(), false).expect("it was meant, and stays so"));
                Snapshot::open(place.path()).expect("read");
            }
        }
    }

    #[test]
    fn a_wal_that_was_removed_after_a_kill_is_missed() {
        let place = tempfile::tempdir().unwrap();
        let connection = schema::open_for_writing(place.path()).unwrap();
        // A kill leaves all three files.
        let killed = tempfile::tempdir().unwrap();
        for name in [FILE_NAME, "dropferry.db-wal", "dropferry.db-shm"] {
            fs::copy(place.path().join(name), killed.path().join(name)).unwrap();
        }
        drop(connection);
        schema::open_for_reading(killed.path()).unwrap();
        fs::remove_file(killed.path().join("dropferry.db-wal")).unwrap();
        for error in
            [open(killed.path(), false).unwrap_err(), Snapshot::open(killed.path()).unwrap_err()]
        {
            assert!(error.to_string().contains("db-wal: it was removed"), "{error}");
        }
        fs::remove_file(killed.path().join("dropferry.db-shm")).unwrap();
        open(killed.path(), false).expect("what is left was accepted");
    }

    #[test]
    fn a_database_without_uploads_is_lost_beside_receipts_and_new_beside_copies() {
        let place = tempfile::tempdir().unwrap();
        drop(open(place.path(), false).unwrap());
        fs::create_dir_all(place.path().join("receipts/lab")).unwrap();
        fs::create_dir(place.path().join("backups")).unwrap();
        fs::write(place.path().join("backups/dropferry-20260101T000000Z.db"), "").unwrap();
        drop(open(place.path(), false).expect("a daemon that has had nothing to do"));
        fs::write(place.path().join("receipts/lab/a.1.json"), "").unwrap();
        assert!(matches!(open(place.path(), false).unwrap_err().kind, Kind::Lost { .. }));
        assert!(matches!(Snapshot::open(place.path()).unwrap_err().kind, Kind::Lost { .. }));
    }

    #[test]
    fn a_database_that_is_removed_or_replaced_while_it_is_used_is_noticed() {
        let place = tempfile::tempdir().unwrap();
        let connection = schema::open_for_writing(place.path()).unwrap();
        let in_use = InUse::of(place.path());
        in_use.look().unwrap();
        for name in [FILE_NAME, "dropferry.db-wal"] {
            let (path, aside) = (place.path().join(name), place.path().join("aside"));
            fs::rename(&path, &aside).unwrap();
            assert_eq!(in_use.look().unwrap_err().kind, Kind::Gone, "{name} was removed");
            fs::copy(&aside, &path).unwrap();
            assert_eq!(in_use.look().unwrap_err().kind, Kind::Gone, "{name} was replaced");
            fs::rename(&aside, &path).unwrap();
            in_use.look().unwrap();
        }
        drop(connection);
    }
}

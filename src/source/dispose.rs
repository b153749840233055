//! Moving or deleting a source that is proved to be elsewhere.
//!
//! The only code that changes a drop directory. It promises to touch nothing but regular files whose
//! fingerprint, taken just before, is the proved one; to touch nothing at all when any wanted file of
//! the unit is not proved; never to follow a link, and never to replace a file at the place it moves
//! to. What was left out of the upload stays where it is. Directories that have become empty are
//! removed.
//!
//! A crash in between leaves each file in one of its two places, or whole in both; doing it again goes
//! on from there. The shell calls it, on a blocking thread.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::beneath::Root;
use super::scan::scan_below;
use super::{Error, Filter};
use crate::model::{Disposition, FailureKind, Fingerprint, Observation, Seen, SourcePath};

/// Read at once when a file is copied to another file system.
const COPY_BYTES: usize = 1 << 20;

/// What is disposed of.
#[derive(Debug, Clone, Copy)]
pub struct Disposable<'a> {
    /// The drop directory.
    pub root: &'a Path,
    /// The unit in it.
    pub unit: &'a SourcePath,
    /// The unit is a file.
    pub is_file: bool,
}

/// Versions of files that are proved to be elsewhere.
pub type Proved = BTreeMap<SourcePath, Fingerprint>;

/// Moves or deletes every file of the unit, or none when one is not proved.
///
/// # Errors
/// `SourceChanged` names the first file that is not the proved version; others say what the operating
/// system refused.
pub fn dispose(
    what: &Disposable<'_>,
    filter: &Filter,
    proved: &Proved,
    how: &Disposition,
) -> Result<(), Error> {
    let root = Root::open(what.root)?;
    let files = match what.is_file {
        true => check_file(&root, what.unit, proved)?,
        false => check_directory(what, filter, proved)?,
    };
    let (mut synced, mut touched) = (BTreeSet::new(), BTreeSet::new());
    for (path, mut version) in files.iter().map(|(path, version)| (path, *version)) {
        // Another name of a file that is gone under its first: that itself moved the time of change.
        if !touched.insert(version.inode) {
            version.ctime_ns = None;
        }
        let Some(parent) = parent_of(&root, path, version)? else { continue };
        match how {
            Disposition::Keep => return Ok(()),
            Disposition::Delete => remove(&parent, path)?,
            Disposition::Move(to) => {
                synced.insert(move_file(&root, &parent, (path, version), Path::new(to))?);
            }
        }
    }
    synced.iter().try_for_each(|directory| sync(directory))?;
    remove_empty(&root, what, files.iter().map(|(path, _)| path));
    Ok(())
}

fn sync(directory: &Path) -> Result<(), Error> {
    let synced = File::open(directory).and_then(|file| file.sync_all());
    synced.map_err(|source| Error::of_directory("sync", directory, source))
}

fn unproved(path: &SourcePath, why: &str) -> Error {
    Error {
        doing: "dispose of",
        path: path.to_string(),
        kind: FailureKind::SourceChanged,
        source: io::Error::other(why.to_owned()),
    }
}

fn check(path: &SourcePath, found: Fingerprint, proved: &Proved) -> Result<Fingerprint, Error> {
    match proved.get(path) {
        Some(version) if version.is_untouched(&found) => Ok(found),
        Some(_) => Err(unproved(path, "it is another version than the one that was uploaded")),
        None => Err(unproved(path, "it has no receipt at every destination")),
    }
}

/// The unit's file, unless it is not there any more.
fn check_file(
    root: &Root,
    path: &SourcePath,
    proved: &Proved,
) -> Result<Vec<(SourcePath, Fingerprint)>, Error> {
    match root.stat(path) {
        Ok(stat) => Ok(vec![(path.clone(), check(path, stat.fingerprint, proved)?)]),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(Vec::new()),
        Err(errno) => Err(Error::of_file("look at", path, errno)),
    }
}

/// Every wanted file of the unit, when all are proved.
fn check_directory(
    what: &Disposable<'_>,
    filter: &Filter,
    proved: &Proved,
) -> Result<Vec<(SourcePath, Fingerprint)>, Error> {
    let mut files = Vec::new();
    let mut refused = None;
    if let Err(Errno::NOENT) = Root::open(what.root)?.stat(what.unit) {
        return Ok(files);
    }
    let summary = scan_below(what.root, what.unit, filter, |observations| {
        for Observation { path, seen, .. } in observations {
            let checked = match seen {
                Seen::File(found) | Seen::Unreadable(found, _) => check(&path, found, proved),
                Seen::Ignored(_) | Seen::Gone => continue,
            };
            match checked {
                Ok(version) => files.push((path, version)),
                Err(error) => {
                    refused = Some(error);
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    match refused {
        Some(error) => Err(error),
        None if !summary.complete => Err(unproved(what.unit, "not all of it can be looked at")),
        None => Ok(files),
    }
}

/// Opens the directory of a file that is still the proved version; none when it is gone.
fn parent_of(
    root: &Root,
    path: &SourcePath,
    version: Fingerprint,
) -> Result<Option<OwnedFd>, Error> {
    let doing = |errno| Error::of_file("look at", path, errno);
    let stat = match root.stat(path) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        stat => stat.map_err(doing)?,
    };
    if !stat.fingerprint.is_untouched(&version) || !stat.file_type.is_file() {
        return Err(unproved(path, "it changed just now"));
    }
    root.open_directory(&directory_of(path)).map(Some).map_err(doing)
}

fn directory_of(path: &SourcePath) -> SourcePath {
    let length = path.as_bytes().len().saturating_sub(path.file_name().len() + 1);
    SourcePath::from_bytes(&path.as_bytes()[..length])
}

fn name_of(path: &SourcePath) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(path.file_name()))
}

fn remove(parent: &OwnedFd, path: &SourcePath) -> Result<(), Error> {
    match rustix::fs::unlinkat(parent, name_of(path), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(Error::of_file("delete", path, errno)),
    }
}

/// Moves a file and returns the directory it stands in then.
fn move_file(
    root: &Root,
    parent: &OwnedFd,
    file: (&SourcePath, Fingerprint),
    to: &Path,
) -> Result<PathBuf, Error> {
    let (path, _) = file;
    let place = to.join(path.as_path());
    let directory = place.parent().unwrap_or(to).to_owned();
    fs::create_dir_all(&directory)
        .map_err(|source| Error::of_directory("make", &directory, source))?;
    let cwd = rustix::fs::CWD;
    let flags = RenameFlags::NOREPLACE;
    match rustix::fs::renameat_with(parent, name_of(path), cwd, &place, flags) {
        Ok(()) => {}
        Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::EXIST) => {
            copy_over(root, file, &place)?;
            remove(parent, path)?;
        }
        Err(errno) => return Err(Error::of_file("move", path, errno)),
    }
    Ok(directory)
}

/// Copies a file to another file system so that it is whole and durable there. A file that stands
/// there already is left, and must be the same.
fn copy_over(
    root: &Root,
    (path, version): (&SourcePath, Fingerprint),
    place: &Path,
) -> Result<(), Error> {
    let doing = |source: io::Error| Error::new("move", path, source);
    let open = || root.open_file(path).map(File::from).map_err(|errno| doing(errno.into()));
    if !place.exists() {
        let partial = partial_of(place);
        let mut copy = File::create(&partial).map_err(doing)?;
        io::copy(&mut open()?, &mut copy).map_err(doing)?;
        let mtime = std::time::UNIX_EPOCH
            + std::time::Duration::from_nanos(u64::try_from(version.mtime_ns).unwrap_or(0));
        copy.set_modified(mtime).map_err(doing)?;
        copy.sync_all().map_err(doing)?;
        let flags = RenameFlags::NOREPLACE;
        let (cwd, named) = (rustix::fs::CWD, rustix::fs::CWD);
        match rustix::fs::renameat_with(cwd, &partial, named, place, flags) {
            Err(Errno::INVAL | Errno::NOSYS) => fs::rename(&partial, place).map_err(doing)?,
            renamed => renamed.map_err(|errno| doing(errno.into()))?,
        }
        sync(place.parent().unwrap_or(place))?;
    }
    let same = is_same(&mut open()?, &mut File::open(place).map_err(doing)?).map_err(doing)?;
    if !same {
        let why = format!("{} is there already and is another file", place.display());
        return Err(unproved(path, &why));
    }
    parent_of(root, path, version).map(|_| ())
}

fn partial_of(place: &Path) -> PathBuf {
    let bytes = place.file_name().map_or(&b""[..], OsStrExt::as_bytes);
    // A name may be as long as the file system takes, so the copy's own is short.
    let mut hash = std::hash::DefaultHasher::new();
    std::hash::Hash::hash(bytes, &mut hash);
    place.with_file_name(format!(".{:016x}.partial", std::hash::Hasher::finish(&hash)))
}

fn is_same(one: &mut File, other: &mut File) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; COPY_BYTES], vec![0; COPY_BYTES]);
    loop {
        let (a, b) = (fill(one, &mut left)?, fill(other, &mut right)?);
        if left[..a] != right[..b] {
            return Ok(false);
        }
        if a == 0 {
            return Ok(true);
        }
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read(&mut buffer[done..])? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

/// Removes the directories that have become empty, the deepest first; never the drop directory.
fn remove_empty<'a>(
    root: &Root,
    what: &Disposable<'a>,
    files: impl Iterator<Item = &'a SourcePath>,
) {
    let mut directories: BTreeSet<SourcePath> = BTreeSet::new();
    for file in files.chain([what.unit]) {
        let mut directory = directory_of(file);
        while !directory.as_bytes().is_empty() {
            let above = directory_of(&directory);
            directories.insert(std::mem::replace(&mut directory, above));
        }
    }
    if !what.is_file {
        directories.insert(what.unit.clone());
    }
    for directory in directories.iter().rev() {
        let Ok(parent) = root.open_directory(&directory_of(directory)) else { continue };
        // What is not empty stays, and what stays harms nobody.
        rustix::fs::unlinkat(&parent, name_of(directory), AtFlags::REMOVEDIR).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{filter, path};
    use super::*;

    struct Place {
        outer: tempfile::TempDir,
    }

    impl Place {
        fn new(files: &[(&str, &str)]) -> Self {
            let outer = tempfile::tempdir().unwrap();
            for (name, content) in files {
                let file = outer.path().join("drop").join(name);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, content).unwrap();
            }
            Self { outer }
        }

        fn root(&self) -> PathBuf {
            self.outer.path().join("drop")
        }

        fn proved(&self, names: &[&str]) -> Proved {
            let root = Root::open(&self.root()).unwrap();
            let proved = |name: &&str| (path(name), root.stat(&path(name)).unwrap().fingerprint);
            names.iter().map(proved).collect()
        }

        fn dispose(&self, unit: &str, proved: &Proved, how: &Disposition) -> Result<(), Error> {
            let is_file = self.root().join(unit).is_file();
            let (root, unit) = (self.root(), path(unit));
            let what = Disposable { root: &root, unit: &unit, is_file };
            dispose(&what, &filter(&[], &["*.jpg"], &[]), proved, how)
        }

        fn away(&self) -> Disposition {
            Disposition::Move(self.outer.path().join("away").display().to_string())
        }

        fn has(&self, name: &str) -> bool {
            self.outer.path().join(name).exists()
        }
    }

    #[test]
    fn a_whole_unit_is_deleted_with_its_directories_and_no_other() {
        let place = Place::new(&[("run/a", "1"), ("run/deep/b", "2"), ("run2/c", "3")]);
        let proved = place.proved(&["run/a", "run/deep/b"]);
        place.dispose("run", &proved, &Disposition::Delete).unwrap();
        assert!(!place.has("drop/run") && place.has("drop/run2/c"));
        place.dispose("run", &proved, &Disposition::Delete).expect("what is not there is done");
    }

    #[test]
    fn one_file_that_is_not_proved_keeps_all_of_the_unit() {
        let place = Place::new(&[("run/a", "1"), ("run/deep/b", "2")]);
        let error = place.dispose("run", &place.proved(&["run/a"]), &Disposition::Delete);
        assert_eq!(error.unwrap_err().kind, FailureKind::SourceChanged);
        assert!(place.has("drop/run/a") && place.has("drop/run/deep/b"));
        let proved = place.proved(&["run/a", "run/deep/b"]);
        fs::write(place.root().join("run/deep/b"), "other").unwrap();
        place.dispose("run", &proved, &place.away()).unwrap_err();
        assert!(place.has("drop/run/a") && !place.has("away"));
    }

    #[test]
    fn what_was_left_out_stays() {
        let place = Place::new(&[("run/a", "1"), ("run/t/x.jpg", "2")]);
        place.dispose("run", &place.proved(&["run/a"]), &Disposition::Delete).unwrap();
        assert!(!place.has("drop/run/a") && place.has("drop/run/t/x.jpg"));
    }

    #[test]
    fn a_unit_is_moved_and_an_interrupted_move_goes_on() {
        let place = Place::new(&[("run/a", "1"), ("run/deep/b", "2")]);
        let proved = place.proved(&["run/a", "run/deep/b"]);
        fs::create_dir_all(place.outer.path().join("away/run")).unwrap();
        fs::rename(place.root().join("run/a"), place.outer.path().join("away/run/a")).unwrap();
        place.dispose("run", &proved, &place.away()).unwrap();
        assert!(!place.has("drop/run") && place.has("away/run/a") && place.has("away/run/deep/b"));
    }

    #[test]
    fn a_file_in_the_way_is_never_replaced() {
        let place = Place::new(&[("a", "mine")]);
        fs::create_dir_all(place.outer.path().join("away")).unwrap();
        fs::write(place.outer.path().join("away/a"), "other").unwrap();
        let proved = place.proved(&["a"]);
        let error = place.dispose("a", &proved, &place.away()).unwrap_err();
        assert!(error.source.to_string().contains("another file"), "{error}");
        assert!(place.has("drop/a"));
        fs::write(place.outer.path().join("away/a"), "mine").unwrap();
        place.dispose("a", &proved, &place.away()).unwrap();
        assert!(!place.has("drop/a"), "the same file is there whole: a copy that was interrupted");
    }

    #[test]
    fn another_file_system_gets_a_whole_copy_with_its_time() {
        let shared = Path::new("/dev/shm");
        let Ok(other) = tempfile::tempdir_in(shared) else { return };
        let place = Place::new(&[("run/a", "content")]);
        let proved = place.proved(&["run/a"]);
        let modified = fs::metadata(place.root().join("run/a")).unwrap().modified().unwrap();
        let how = Disposition::Move(other.path().display().to_string());
        place.dispose("run", &proved, &how).unwrap();
        let moved = other.path().join("run/a");
        assert_eq!(fs::read(&moved).unwrap(), b"content");
        assert_eq!(fs::metadata(moved).unwrap().modified().unwrap(), modified);
        assert!(!place.has("drop/run"));
    }
}

//! Proves that a file has the planned length, before it is read and after, and determines its version.
//!
//! See [`super`] for the promises. The path is checked as well as the open file, and failures are
//! distinguished: the file is gone, not readable, or the whole drop directory is unreadable.

use std::fs::File;
use std::io;

use rustix::fd::AsFd;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::super::beneath::{LinkEnd, Root, Stat, stat_fd};
use super::super::handed::provenance;
use super::super::{Error, SourceFile};
use super::CHUNK_BYTES;
use crate::model::{Fingerprint, SourcePath};

/// Opens the file, writes dirty pages back, and proves that it is the planned version.
pub(super) fn open(source: &SourceFile) -> Result<File, Error> {
    open_and(source, |file| {
        if source.fingerprint.size.0 > CHUNK_BYTES as u64 {
            // Where a file system cannot, the fingerprint has to suffice.
            rustix::fs::fdatasync(file).ok();
        }
    })
}

/// As [`open`], for a file that was already written back in this version.
pub(super) fn open_clean(source: &SourceFile) -> Result<File, Error> {
    open_and(source, |_| {})
}

fn open_and(source: &SourceFile, write_back: impl FnOnce(&File)) -> Result<File, Error> {
    let root = source.root.open()?;
    let fd = match root.open_file(&source.path) {
        Err(Errno::LOOP) if source.provenance.is_none() => {
            let target = follow(&root, &source.path)?;
            root.open_file(&target)
        }
        opened => opened,
    };
    let file = File::from(fd.map_err(|errno| not_read(&root, source, "open", errno))?);
    write_back(&file);
    prove_open(source, &file).or_else(|changed| say_gone(&root, source, changed))?;
    Ok(file)
}

/// Proves that the open file and the file at its path still have the planned length.
///
/// The path is checked first: replacing a file changes the open one as well.
pub(super) fn prove(source: &SourceFile, file: &File) -> Result<(), Error> {
    let root = source.root.open()?;
    find_below(&root, source)?;
    prove_open(source, file).or_else(|changed| say_gone(&root, source, changed))
}

/// Returns the version at the path, if it has the planned length.
pub(super) fn find(source: &SourceFile) -> Result<Fingerprint, Error> {
    find_below(&source.root.open()?, source)
}

fn find_below(root: &Root, source: &SourceFile) -> Result<Fingerprint, Error> {
    let doing = |errno| not_read(root, source, "look at", errno);
    let mut stat = root.stat(&source.path).map_err(doing)?;
    if stat.file_type == FileType::Symlink && source.provenance.is_none() {
        stat = root.stat(&follow(root, &source.path)?).map_err(doing)?;
    }
    compare(source, &stat)?;
    Ok(stat.fingerprint)
}

/// Proves that the file at the path is the planned version, untouched.
pub(super) fn prove_version(source: &SourceFile) -> Result<(), Error> {
    if source.fingerprint.is_untouched(&find(source)?) {
        return Ok(());
    }
    Err(Error::changed(&source.path, "it was touched or written to".to_owned()))
}

/// Removing a file changes the open one as well: "gone" takes precedence over "changed".
fn say_gone(root: &Root, source: &SourceFile, changed: Error) -> Result<(), Error> {
    match root.stat(&source.path) {
        Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => {
            Err(not_read(root, source, "look at", errno))
        }
        Ok(_) | Err(_) => Err(changed),
    }
}

/// Returns why a file cannot be read: it counts as missing only if the drop directory has any
/// content, and as unreadable only if the drop directory is readable.
fn not_read(root: &Root, source: &SourceFile, doing: &'static str, errno: Errno) -> Error {
    let is_missing = matches!(errno, Errno::NOENT | Errno::NOTDIR);
    match root.is_empty() {
        Ok(true) if is_missing => Error::empty(source.root.path()),
        Ok(_) => Error::of_file(doing, &source.path, errno),
        Err(error) => error,
    }
}

/// As [`not_read`], for an open file.
pub(super) fn not_read_on(source: &SourceFile, doing: &'static str, error: io::Error) -> Error {
    match (source.root.open(), Errno::from_io_error(&error)) {
        (Ok(root), Some(errno)) => not_read(&root, source, doing, errno),
        (Ok(_), None) => Error::of_file(doing, &source.path, error),
        (Err(away), _) => away,
    }
}

/// Proves that the open file is still the planned version.
pub(super) fn prove_open(source: &SourceFile, file: &File) -> Result<(), Error> {
    let stat = stat_fd(file).map_err(|errno| not_read_on(source, "look at", errno.into()))?;
    compare(source, &stat)?;
    let Some(planned) = source.provenance else { return Ok(()) };
    let found = provenance(file.as_fd(), &stat)
        .map_err(|errno| not_read_on(source, "look at", errno.into()))?;
    if found == planned {
        return Ok(());
    }
    let how = "it belongs to another user, or lies on another file system".to_owned();
    Err(Error::changed(&source.path, how))
}

fn follow(root: &Root, path: &SourcePath) -> Result<SourcePath, Error> {
    match root.resolve(path) {
        LinkEnd::Inside(target) => Ok(target),
        LinkEnd::Outside => {
            Err(Error::changed(path, "it leads out of the drop directory".to_owned()))
        }
        LinkEnd::Broken => Err(Error::of_file("follow", path, Errno::NOENT)),
        LinkEnd::Failing(errno) => Err(Error::of_file("follow", path, errno)),
    }
}

/// Refuses anything but a file of the planned length. Whether it is the planned version is checked
/// after all of it was read, because a file may be touched at any time.
fn compare(source: &SourceFile, found: &Stat) -> Result<(), Error> {
    if found.file_type != FileType::RegularFile {
        return Err(Error::changed(&source.path, "it is not a regular file".to_owned()));
    }
    let (planned, size) = (source.fingerprint.size.0, found.fingerprint.size.0);
    if planned == size {
        return Ok(());
    }
    let how = format!("it had {planned} bytes and has {size}");
    Err(Error::changed(&source.path, how))
}

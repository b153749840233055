//! The directory that files are moved to, which others may write to as well.
//!
//! It promises never to follow a link below that directory: each component is opened in the one
//! before, with `O_NOFOLLOW`; nor to replace anything, nor to mistake the file itself for a copy of
//! itself. A copy is made under a random name with `O_EXCL`, is durable before it has its own name,
//! and only then its source is removed. Created directories are made durable with their parents.
//!
//! *At a crash* a file is complete in one of its two places, or in both; a partial copy remains
//! under its random name, and the next act of the run that copies to that directory removes it.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;

use super::super::Error;
use super::super::beneath::{Root, Stat, stat_fd};
use super::aside::{Aside, OpenEntry, is_same_file, look, rename_free};
use super::{directory_of, name_of, unproved};
use crate::model::SourcePath;

/// Bytes read at a time when files are compared.
const COMPARE_BYTES: usize = 1 << 20;
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The open target directory, and the directory below it of the last file.
#[derive(Debug)]
pub(super) struct MoveTarget<'a> {
    to: &'a Path,
    top: OwnedFd,
    current: Option<(SourcePath, OwnedFd)>,
    /// Prefix of the names of partial copies of this run.
    partial: String,
}

impl<'a> MoveTarget<'a> {
    /// Opens the target directory, which must differ from the drop directory.
    pub(super) fn open(to: &'a Path, root: &Root, unit: &SourcePath) -> Result<Self, Error> {
        let failed = |errno| Error::of_file("open", &shown(to), errno);
        // The operator may have configured a link.
        let flags = DIRECTORY.difference(OFlags::NOFOLLOW);
        let top = rustix::fs::openat(CWD, to, flags, Mode::empty()).map_err(failed)?;
        let drop = root.open_directory(&SourcePath::from_bytes(b"")).and_then(stat_fd);
        if is_same_file(&stat_fd(&top).map_err(failed)?, &drop.map_err(failed)?) {
            return Err(unproved(unit, "move_to is the drop directory itself"));
        }
        let partial = format!(".dropferry-{}-", unit.digest());
        Ok(Self { to, top, current: None, partial })
    }

    /// Checks that a file may be moved to its place, before it is touched.
    pub(super) fn check(
        &mut self,
        path: &SourcePath,
        source: &Stat,
        root: &Root,
    ) -> Result<(), Error> {
        let directory = self.directory(path)?;
        match look(directory, name_of(path)) {
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::of_file("look at the place of", path, errno)),
            Ok(found) if is_same_file(&found, source) => {
                Err(self.refuse(path, "is the file itself"))
            }
            Ok(found) if !found.file_type.is_file() => {
                Err(self.refuse(path, "is there already and is no file"))
            }
            Ok(_) => {
                let opened = root.open_file(path).map(File::from);
                let source = opened.map_err(|errno| Error::of_file("open", path, errno))?;
                self.has_same(path, &source).map(drop)
            }
        }
    }

    fn refuse(&self, path: &SourcePath, why: &str) -> Error {
        let place = shown(&self.to.join(path.as_path()));
        unproved(path, &format!("{place} {why}"))
    }

    pub(super) fn take(&mut self, aside: &Aside<'_>) -> Result<(), Error> {
        let path = aside.path;
        let directory = self.directory(path)?;
        let to = OpenEntry::new(directory, name_of(path));
        match rename_free(OpenEntry::new(aside.parent, aside.private()), to) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST | Errno::XDEV) => {}
            Err(errno) => return Err(Error::of_file("move", path, errno)),
        }
        let moved = |error: io::Error| Error::new("move", path, error);
        let source = aside.open().map_err(moved)?;
        if !self.has_same(path, &source)? {
            self.copy(aside, source)?;
        }
        let (_, directory) = self.current.as_ref().expect("it was opened above");
        sync(directory).map_err(|errno| moved(errno.into()))?;
        aside.remove()
    }

    /// Returns whether a file with the content of `source` is already at its place, and durable: a
    /// copy from before a kill.
    fn has_same(&mut self, path: &SourcePath, source: &File) -> Result<bool, Error> {
        let directory = self.directory(path)?;
        let failed = |errno: Errno| Error::of_file("look at the place of", path, errno);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let found = match rustix::fs::openat(directory, name_of(path), flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(false),
            Err(Errno::LOOP) => return Err(self.refuse(path, "is there already and is no file")),
            found => found.map_err(failed)?,
        };
        let (there, here) = (stat_fd(&found).map_err(failed)?, stat_fd(source).map_err(failed)?);
        if !there.file_type.is_file() {
            return Err(self.refuse(path, "is there already and is no file"));
        }
        if is_same_file(&there, &here) {
            return Err(self.refuse(path, "is the file itself"));
        }
        let compare = || -> io::Result<bool> {
            let found = File::from(found);
            Ok(is_same(source, &found)? && found.sync_all().is_ok())
        };
        match compare().map_err(|error| Error::new("compare", path, error))? {
            true => Ok(true),
            false => Err(self.refuse(path, "is there already and is another file")),
        }
    }

    /// Copies a file to another file system, complete and durable.
    fn copy(&mut self, aside: &Aside<'_>, source: File) -> Result<(), Error> {
        let path = aside.path;
        let partial = format!("{}{:016x}.partial", self.partial, random());
        let directory = self.directory(path)?;
        let copied = copy_to(directory, Path::new(&partial), aside, source);
        if copied.is_err() {
            // A file that cannot be removed does no harm.
            rustix::fs::unlinkat(directory, Path::new(&partial), AtFlags::empty()).ok();
        }
        copied.map_err(|error| Error::new("move", path, error))
    }

    /// Removes the partial copies that an act of this run left in the directory of a file.
    pub(super) fn sweep(&mut self, path: &SourcePath) -> Result<(), Error> {
        let partial = self.partial.clone();
        let directory = self.directory(path)?;
        let sweep = || -> Result<(), Errno> {
            let mut listing = Dir::read_from(directory)?;
            while let Some(entry) = listing.read() {
                let entry = entry?;
                let name = entry.file_name();
                let is_ours = name.to_bytes().starts_with(partial.as_bytes());
                if is_ours && name.to_bytes().ends_with(b".partial") {
                    rustix::fs::unlinkat(directory, name, AtFlags::empty()).ok();
                }
            }
            Ok(())
        };
        sweep().map_err(|errno| Error::of_file("clean up the place of", path, errno))
    }

    /// Makes the moved files durable.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.leave()
    }

    fn leave(&mut self) -> Result<(), Error> {
        let Some((path, directory)) = self.current.take() else { return Ok(()) };
        sync(&directory).map_err(|errno| Error::of_file("sync", &path, errno))
    }

    /// Returns the directory that a file is moved to, created if missing.
    fn directory(&mut self, path: &SourcePath) -> Result<&OwnedFd, Error> {
        let wanted = directory_of(path);
        if self.current.as_ref().is_none_or(|(current, _)| *current != wanted) {
            self.leave()?;
            let opened = self.open_below(&wanted).map_err(|errno| match errno {
                Errno::LOOP | Errno::NOTDIR => {
                    let why = "has a directory above it that is a link or a file";
                    self.refuse(path, why)
                }
                errno => Error::of_file("make the directory of", path, errno),
            })?;
            self.current = Some((wanted, opened));
        }
        Ok(&self.current.as_ref().expect("it was opened just now").1)
    }

    fn open_below(&self, wanted: &SourcePath) -> Result<OwnedFd, Errno> {
        let mut above = rustix::fs::openat(&self.top, c".", DIRECTORY, Mode::empty())?;
        let components = wanted.as_bytes().split(|byte| *byte == b'/');
        for name in components.filter(|name| !name.is_empty()) {
            if name == b".." {
                return Err(Errno::XDEV);
            }
            let name = Path::new(std::ffi::OsStr::from_bytes(name));
            let opened = match rustix::fs::openat(&above, name, DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) => {
                    match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o777)) {
                        Ok(()) => sync(&above)?,
                        Err(Errno::EXIST) => {}
                        Err(errno) => return Err(errno),
                    }
                    rustix::fs::openat(&above, name, DIRECTORY, Mode::empty())
                }
                opened => opened,
            };
            above = opened?;
        }
        Ok(above)
    }
}

/// Makes the names in a directory durable, where its file system supports that.
fn sync(directory: &OwnedFd) -> Result<(), Errno> {
    match rustix::fs::fsync(directory) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(()),
        synced => synced,
    }
}

fn copy_to(
    directory: &OwnedFd,
    partial: &Path,
    aside: &Aside<'_>,
    mut source: File,
) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&source)?.st_mode & 0o777);
    let mut copy = File::from(rustix::fs::openat(directory, partial, flags, mode)?);
    io::copy(&mut source, &mut copy)?;
    let mtime = u64::try_from(aside.version.mtime_ns).unwrap_or(0);
    copy.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_nanos(mtime))?;
    copy.sync_all()?;
    aside.check(&source)?;
    rename_free(
        OpenEntry::new(directory, partial),
        OpenEntry::new(directory, name_of(aside.path)),
    )?;
    let found = look(directory, name_of(aside.path))?;
    match is_same_file(&found, &stat_fd(&copy)?) {
        true => Ok(()),
        false => Err(io::Error::other("its copy was replaced by another file")),
    }
}

fn shown(path: &Path) -> SourcePath {
    SourcePath::from_bytes(path.as_os_str().as_bytes())
}

/// A number that others cannot predict.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Compares two files from their start.
fn is_same(mut one: &File, mut other: &File) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; COMPARE_BYTES], vec![0; COMPARE_BYTES]);
    loop {
        let (a, b) = (fill(&mut one, &mut left)?, fill(&mut other, &mut right)?);
        if left[..a] != right[..b] {
            io::Seek::rewind(&mut one)?;
            return Ok(false);
        }
        if a == 0 {
            return Ok(true);
        }
    }
}

fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read(&mut buffer[done..])? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

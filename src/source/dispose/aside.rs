//! A file to be removed, under a private name in its own directory.
//!
//! `unlink` and `rename` act on a name, whatever version has it at that moment. So a file is
//! renamed to a private name first and checked there: nothing that is written under its own name
//! from then on can be lost. Another version is renamed back, never over another file; when its
//! name is taken by then, it stays beside it as `NAME.kept-1`.
//!
//! Private names are not observed: no scan, no look and no event reports them. *At a crash* one
//! file of an act may be under its private name; the next act of the run finds it by that name,
//! which contains its own name (or the digest of its path, if that would be too long), and
//! continues or restores it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::super::Error;
use super::super::beneath::{Stat, stat_fd};
use super::{name_of, unproved};
use crate::model::{Fingerprint, SourcePath};

/// Prefix of a private name; the file's own name follows.
const PREFIX: &[u8] = b".dropferry-going-";
/// Prefix if that would be too long; the digest of its path follows.
const LONG_PREFIX: &[u8] = b".dropferry-gone-";
/// Longest file name on Linux file systems, in bytes.
const NAME_MAX: usize = 255;
/// Limit of names that are tried beside a taken one.
const KEPT_MAX: u32 = 1_000;

/// Returns whether a file name is one of disposal.
pub(in crate::source) fn is_private(name: &[u8]) -> bool {
    name.starts_with(PREFIX) || name.starts_with(LONG_PREFIX)
}

pub(super) fn private_name(path: &SourcePath) -> OsString {
    let short = [PREFIX, path.file_name()].concat();
    OsString::from_vec(match short.len() <= NAME_MAX {
        true => short,
        false => [LONG_PREFIX, path.digest().to_string().as_bytes()].concat(),
    })
}

/// Returns the name that a file had before its private one, where that contains it.
pub(super) fn own_name(private: &[u8]) -> Option<&[u8]> {
    private.strip_prefix(PREFIX)
}

pub(super) fn private_names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut found = Vec::new();
    let mut listing = Dir::read_from(directory)?;
    while let Some(entry) = listing.read() {
        let name = entry?.file_name().to_bytes().to_vec();
        if is_private(&name) {
            found.push(name);
        }
    }
    Ok(found)
}

/// Returns the `Stat` of a name in an open directory, of a link itself and not of its target, and never from a cache.
pub(super) fn look(directory: impl AsFd, name: &Path) -> Result<Stat, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    stat_fd(rustix::fs::openat(directory, name, flags, Mode::empty())?)
}

/// A name in an open directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenEntry<'a> {
    pub(super) directory: &'a OwnedFd,
    pub(super) name: &'a Path,
}

impl<'a> OpenEntry<'a> {
    pub(super) fn new(directory: &'a OwnedFd, name: &'a Path) -> Self {
        Self { directory, name }
    }
}

/// Renames without replacing. Where the file system cannot guarantee that, by a link; where it has
/// no links either, the name is checked just before.
pub(super) fn rename_free(from: OpenEntry<'_>, to: OpenEntry<'_>) -> Result<(), Errno> {
    let flags = RenameFlags::NOREPLACE;
    match rustix::fs::renameat_with(from.directory, from.name, to.directory, to.name, flags) {
        Err(Errno::INVAL | Errno::NOSYS) => {}
        renamed => return renamed,
    }
    let none = AtFlags::empty();
    match rustix::fs::linkat(from.directory, from.name, to.directory, to.name, none) {
        Ok(()) => return rustix::fs::unlinkat(from.directory, from.name, none),
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK | Errno::INVAL) => {}
        Err(errno) => return Err(errno),
    }
    match look(to.directory, to.name) {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => rustix::fs::renameat(from.directory, from.name, to.directory, to.name),
        Err(errno) => Err(errno),
    }
}

/// A file under its private name.
#[derive(Debug)]
pub(super) struct Aside<'a> {
    pub(super) parent: &'a OwnedFd,
    pub(super) path: &'a SourcePath,
    pub(super) private: OsString,
    /// Its version; a rename changes the time of change.
    pub(super) version: Fingerprint,
}

impl<'a> Aside<'a> {
    /// Adopts a file that an earlier act left under its private name.
    pub(super) fn left(parent: &'a OwnedFd, path: &'a SourcePath, version: Fingerprint) -> Self {
        Self { parent, path, private: private_name(path), version }
    }

    /// Renames a file to its private name and checks it there; `None` when it is gone.
    ///
    /// # Errors
    /// When it is another version than `version`; then it has its own name again.
    pub(super) fn set(
        parent: &'a OwnedFd,
        path: &'a SourcePath,
        version: Fingerprint,
    ) -> Result<Option<Self>, Error> {
        let aside = Self::left(parent, path, version);
        let private = Path::new(&aside.private);
        match rename_free(OpenEntry::new(parent, name_of(path)), OpenEntry::new(parent, private)) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::EXIST) => {
                let why = format!("{} is in the way, beside it", aside.private.display());
                return Err(unproved(path, &why));
            }
            Err(errno) => return Err(Error::of_file("set aside", path, errno)),
        }
        match look(parent, private) {
            Ok(stat) if stat.file_type.is_file() && stat.fingerprint.same_version(&version) => {
                Ok(Some(aside))
            }
            Ok(_) => Err(put_back(parent, &aside.private, path)
                .err()
                .unwrap_or_else(|| unproved(path, "it changed just now"))),
            Err(errno) => Err(Error::of_file("look at", path, errno)),
        }
    }

    pub(super) fn private(&self) -> &Path {
        Path::new(&self.private)
    }

    /// Opens it for reading, and checks its version.
    pub(super) fn open(&self) -> io::Result<std::fs::File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(self.parent, self.private(), flags, Mode::empty())?;
        self.check(&file)?;
        Ok(file.into())
    }

    /// Checks that an open file has its version.
    pub(super) fn check(&self, file: impl AsFd) -> io::Result<()> {
        match stat_fd(file)?.fingerprint.same_version(&self.version) {
            true => Ok(()),
            false => Err(io::Error::other("it changed just now")),
        }
    }

    pub(super) fn remove(&self) -> Result<(), Error> {
        match rustix::fs::unlinkat(self.parent, self.private(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::of_file("delete", self.path, errno)),
        }
    }
}

/// Restores the name of `path`, or one beside it, of a file under a private name.
///
/// # Errors
/// When it cannot have its own name: the message gives the one it has.
pub(super) fn put_back(parent: &OwnedFd, private: &OsStr, path: &SourcePath) -> Result<(), Error> {
    let own = OpenEntry::new(parent, Path::new(private));
    let doing = |errno| Error::of_file("put back", path, errno);
    match rename_free(own, OpenEntry::new(parent, name_of(path))) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(doing(errno)),
    }
    let (mine, other) = (look(parent, own.name).map_err(doing)?, look(parent, name_of(path)));
    if other.is_ok_and(|other| is_same_file(&mine, &other)) {
        // A link that was to become the rename.
        return rustix::fs::unlinkat(parent, own.name, AtFlags::empty()).map_err(doing);
    }
    for number in 1..=KEPT_MAX {
        let kept = [path.file_name(), format!(".kept-{number}").as_bytes()].concat();
        match rename_free(own, OpenEntry::new(parent, Path::new(OsStr::from_bytes(&kept)))) {
            Ok(()) => {
                let why = format!(
                    "it changed just now, twice; the version before the last is beside it, as {}",
                    SourcePath::from_bytes(&kept)
                );
                return Err(unproved(path, &why));
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(doing(errno)),
        }
    }
    Err(doing(Errno::EXIST))
}

/// Returns whether both are the same file, under any names.
pub(super) fn is_same_file(one: &Stat, other: &Stat) -> bool {
    let (one, other) = (&one.fingerprint, &other.fingerprint);
    (one.device, one.inode) == (other.device, other.inode)
}

//! Opens and inspects files below a drop directory, and never outside of it.
//!
//! Owns the only calls that turn a [`SourcePath`] into a file descriptor. It promises to resolve a
//! path from a row, a hint or a directory listing without following any symbolic link, so that
//! replacing a directory by a link between two looks has no effect. A link is followed only on
//! purpose: it is resolved to its target first, and the target is then opened by the same rules.
//!
//! There are two ways to open: `openat2` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`; and,
//! where the kernel lacks it (before 5.6, or a seccomp filter that forbids it), component by
//! component with `O_NOFOLLOW`. The choice is made once, with a path that is not in any drop
//! directory: an error of a file system in one, be it `EPERM` or `ENOSYS`, concerns only that file.
//!
//! It never writes. A crash loses nothing. Called by `root`, `scan`, `look`, `part` and `run`.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::Error;
use super::renamed::RenamedRuns;
use super::root::{OpenRoot, RootMark, identify, location_of, mark_of};
use crate::model::{ByteCount, Fingerprint, SourcePath};

/// How often `openat2` is retried when a concurrent rename made the kernel unsure.
const RESOLVE_TRIES: usize = 8;

/// Whether this process may use `openat2`.
static HAS_OPENAT2: LazyLock<bool> = LazyLock::new(|| {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat2(CWD, c"/", flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    !matches!(opened, Err(Errno::NOSYS | Errno::PERM))
});

/// The result of `statx`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat {
    pub(super) file_type: FileType,
    pub(super) fingerprint: Fingerprint,
    pub(super) link_count: u32,
    pub(super) owner: u32,
}

/// The target of a symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LinkEnd {
    /// This path in the drop directory.
    Inside(SourcePath),
    /// Outside of the drop directory.
    Outside,
    /// A missing target, itself, or a place where we may not look.
    Broken,
    /// Its storage fails for the moment.
    Failing(Errno),
}

/// An open drop directory.
#[derive(Debug)]
pub(super) struct Root {
    directory: PathBuf,
    fd: OwnedFd,
    /// Its identity, once that was determined.
    found: OnceCell<OpenRoot>,
    owner: OnceCell<u32>,
    renamed: Arc<RenamedRuns>,
}

impl Root {
    /// Opens the directory at a path, which may be a symbolic link.
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, directory, flags, Mode::empty())
            .map_err(|errno| Error::of_directory("open drop directory", directory, errno))?;
        let (found, owner, renamed) = (OnceCell::new(), OnceCell::new(), Arc::default());
        Ok(Self { directory: directory.to_owned(), fd, found, owner, renamed })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Sets its identity.
    pub(super) fn with(self, found: OpenRoot) -> Self {
        Self { found: OnceCell::from(found), ..self }
    }

    /// Sets the renamed runs in it: all paths use their first names.
    pub(super) fn with_renamed(self, renamed: Arc<RenamedRuns>) -> Self {
        Self { renamed, ..self }
    }

    pub(super) fn renamed(&self) -> &RenamedRuns {
        &self.renamed
    }

    /// Opens the directory at `path` for listing; the empty path is the drop directory.
    pub(super) fn open_directory(&self, path: &SourcePath) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        if path.as_bytes().is_empty() {
            return rustix::fs::openat(&self.fd, c".", flags | OFlags::CLOEXEC, Mode::empty());
        }
        self.open_at(path, flags)
    }

    /// Opens the file at `path` for reading, without waiting for a writer if it is a pipe.
    pub(super) fn open_file(&self, path: &SourcePath) -> Result<OwnedFd, Errno> {
        self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    /// Returns the `Stat` of `path`, of a link itself and not of its target.
    pub(super) fn stat(&self, path: &SourcePath) -> Result<Stat, Errno> {
        stat_fd(&self.open_at(path, OFlags::PATH)?)
    }

    /// Resolves the link at `path`.
    pub(super) fn resolve(&self, path: &SourcePath) -> LinkEnd {
        let resolved = fs::canonicalize(&self.directory).and_then(|root| {
            Ok((fs::canonicalize(root.join(self.renamed.on_disk(path).as_path()))?, root))
        });
        let (target, root) = match resolved {
            Ok(resolved) => resolved,
            Err(error) => {
                let passing = Errno::from_io_error(&error).filter(|errno| is_passing(*errno));
                return passing.map_or(LinkEnd::Broken, LinkEnd::Failing);
            }
        };
        match target.strip_prefix(&root) {
            Ok(inside) => LinkEnd::Inside(SourcePath::from_bytes(inside.as_os_str().as_bytes())),
            Err(_) => LinkEnd::Outside,
        }
    }

    /// Returns whether the drop directory's path still leads to the directory that was opened.
    pub(super) fn is_still_there(&self) -> Result<bool, Error> {
        Ok(Self::open(&self.directory)?.mark()? == self.mark()?)
    }

    /// Returns its mark, which is valid as long as it stays mounted.
    pub(super) fn mark(&self) -> Result<RootMark, Error> {
        mark_of(&self.fd).map_err(|errno| self.not_looked_at(errno))
    }

    /// Returns its path without links.
    pub(super) fn location(&self) -> Result<PathBuf, Error> {
        location_of(&self.fd).map_err(|error| self.not_looked_at(error))
    }

    pub(super) fn found(&self) -> Result<OpenRoot, Error> {
        if let Some(found) = self.found.get() {
            return Ok(found.clone());
        }
        let found = identify(&self.fd).map_err(|error| self.not_looked_at(error))?;
        Ok(self.found.get_or_init(|| found).clone())
    }

    /// Returns whether a file is a further name of one whose owner owns neither its directory nor the
    /// drop directory: a user with write access here may have linked a file that user may not read.
    pub(super) fn is_foreign_link(&self, path: &SourcePath, stat: &Stat) -> Result<bool, Errno> {
        if stat.link_count <= 1 {
            return Ok(false);
        }
        let owner = match self.owner.get() {
            Some(owner) => *owner,
            None => stat_fd(&self.fd)?.owner,
        };
        if self.owner.get_or_init(|| owner) == &stat.owner {
            return Ok(false);
        }
        let above = path.as_bytes().len().saturating_sub(path.file_name().len() + 1);
        match &path.as_bytes()[..above] {
            [] => Ok(true),
            above => Ok(self.stat(&SourcePath::from_bytes(above))?.owner != stat.owner),
        }
    }

    fn not_looked_at(&self, why: impl Into<io::Error>) -> Error {
        Error::of_directory("look at drop directory", &self.directory, why)
    }

    /// Returns whether the drop directory is empty.
    pub(super) fn is_empty(&self) -> Result<bool, Error> {
        let failed = |errno| Error::of_directory("read drop directory", &self.directory, errno);
        let path = SourcePath::from_bytes(b"");
        let mut listing = self.open_directory(&path).and_then(Dir::new).map_err(failed)?;
        while let Some(entry) = listing.read() {
            let entry = entry.map_err(failed)?;
            if entry.file_name() != c"." && entry.file_name() != c".." {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn open_at(&self, path: &SourcePath, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = self.renamed.on_disk(path);
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match *HAS_OPENAT2 {
            true => open_at_once(self.fd.as_fd(), path.as_path(), flags),
            false => open_stepwise(self.fd.as_fd(), path.as_path(), flags),
        }
    }
}

fn open_at_once(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..RESOLVE_TRIES {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

fn open_stepwise(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let name = |part| match part {
        Component::Normal(name) => Ok(name),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => {
            Err(Errno::XDEV)
        }
    };
    let names: Vec<&OsStr> = path.components().map(name).collect::<Result<_, _>>()?;
    let (last, above) = names.split_last().ok_or(Errno::NOENT)?;
    let mut at: Option<OwnedFd> = None;
    for name in above {
        let from = at.as_ref().map_or(root, AsFd::as_fd);
        at = Some(rustix::fs::openat(from, *name, step, Mode::empty())?);
    }
    rustix::fs::openat(at.as_ref().map_or(root, AsFd::as_fd), *last, flags, Mode::empty())
}

/// Returns the `Stat` of an open file.
pub(super) fn stat_fd(fd: impl AsFd) -> Result<Stat, Errno> {
    statx(fd, c"", AtFlags::EMPTY_PATH)
}

/// Returns the `Stat` of a name in an open directory, of a link itself and not of its target.
///
/// A network file system may answer from its cache: scans are compared with later scans.
pub(super) fn stat_entry(directory: impl AsFd, name: &std::ffi::CStr) -> Result<Stat, Errno> {
    statx(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC)
}

fn statx(fd: impl AsFd, path: &std::ffi::CStr, flags: AtFlags) -> Result<Stat, Errno> {
    let times = StatxFlags::MTIME | StatxFlags::CTIME;
    let owner = StatxFlags::UID | StatxFlags::NLINK;
    let mask = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::SIZE | times | owner;
    let found = rustix::fs::statx(fd, path, flags | AtFlags::NO_AUTOMOUNT, mask)?;
    let has_ctime = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::CTIME);
    let nanoseconds = |at: rustix::fs::StatxTimestamp| {
        at.tv_sec.saturating_mul(1_000_000_000).saturating_add(at.tv_nsec.into())
    };
    Ok(Stat {
        file_type: FileType::from_raw_mode(found.stx_mode.into()),
        fingerprint: Fingerprint {
            device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
            inode: found.stx_ino,
            size: ByteCount(found.stx_size),
            mtime_ns: nanoseconds(found.stx_mtime),
            ctime_ns: has_ctime.then(|| nanoseconds(found.stx_ctime)),
        },
        link_count: found.stx_nlink,
        owner: found.stx_uid,
    })
}

/// Returns whether this process lacks a resource, which says nothing about the file.
pub(super) fn is_exhausted(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM)
}

/// Returns whether storage fails temporarily: an unavailable share, a starting server, a stale
/// handle. It does not show whether the file exists.
pub(super) fn is_passing(errno: Errno) -> bool {
    const PASSING: [Errno; 16] = [
        Errno::STALE,
        Errno::IO,
        Errno::AGAIN,
        Errno::NOTCONN,
        Errno::TIMEDOUT,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NETDOWN,
        Errno::NETUNREACH,
        Errno::CONNABORTED,
        Errno::CONNREFUSED,
        Errno::CONNRESET,
        Errno::SHUTDOWN,
        Errno::REMOTEIO,
        Errno::NODEV,
        Errno::NOMEDIUM,
    ];
    PASSING.contains(&errno)
}

/// Returns the operating system's text why something may not be opened.
pub(super) fn words(errno: Errno) -> String {
    io::Error::from(errno).to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::tests::path;
    use super::*;
    use crate::skipped::skipped;

    type Way = fn(BorrowedFd<'_>, &Path, OFlags) -> Result<OwnedFd, Errno>;

    #[test]
    fn neither_way_of_opening_leads_out_or_follows_a_link() {
        let outer = tempfile::tempdir().unwrap();
        let at = |name: &str| outer.path().join(name);
        ["drop/dir", "elsewhere"].iter().for_each(|name| fs::create_dir_all(at(name)).unwrap());
        ["drop/dir/file", "drop/file", "secret", "elsewhere/file"]
            .iter()
            .for_each(|name| fs::write(at(name), "").unwrap());
        symlink("../secret", at("drop/link")).unwrap();
        symlink("../elsewhere", at("drop/away")).unwrap();
        symlink("dir", at("drop/inside")).unwrap();
        let root = Root::open(&at("drop")).unwrap();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for way in [open_at_once as Way, open_stepwise] {
            let open = |name: &str| way(root.fd.as_fd(), Path::new(name), flags);
            assert!(open("dir/file").is_ok() && open("file").is_ok());
            let refused = ["../secret", "/etc/passwd", "dir/../../secret", "link", "away/file"];
            for name in refused.iter().chain(&["inside/file"]) {
                let errno = open(name).unwrap_err();
                assert!(matches!(errno, Errno::XDEV | Errno::LOOP | Errno::NOTDIR), "{name}");
            }
            let link = way(root.fd.as_fd(), Path::new("link"), flags | OFlags::PATH).unwrap();
            assert_eq!(stat_fd(link).unwrap().file_type, FileType::Symlink);
        }
    }

    #[test]
    fn hard_links_count_only_to_files_of_others() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::create_dir(at("dir")).unwrap();
        for name in ["dir/a", "a", "alone"] {
            fs::write(at(name), "").unwrap();
        }
        fs::hard_link(at("dir/a"), at("dir/b")).unwrap();
        fs::hard_link(at("a"), at("b")).unwrap();
        let is_foreign = |name: &str| {
            let opened = Root::open(root.path()).unwrap();
            let stat = opened.stat(&path(name)).unwrap();
            opened.is_foreign_link(&path(name), &stat).unwrap()
        };
        assert_eq!(["dir/b", "b", "alone"].map(is_foreign), [false; 3], "a backup's");
        let give = |name: &str| std::os::unix::fs::chown(at(name), Some(65534), None);
        if give("a").is_err() {
            return skipped("only root gives files away");
        }
        ["dir/a", "alone"].iter().for_each(|name| give(name).unwrap());
        assert_eq!(["dir/b", "b", "alone"].map(is_foreign), [true, true, false]);
        give("dir").unwrap();
        assert_eq!(["dir/b", "b"].map(is_foreign), [false, true], "its directory's owner has it");
    }

    #[test]
    fn directory_swapped_for_a_link_leads_nowhere() {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join("drop")).unwrap();
        fs::create_dir_all(outer.path().join("elsewhere")).unwrap();
        fs::write(outer.path().join("elsewhere/file"), "").unwrap();
        symlink("../elsewhere", outer.path().join("drop/dir")).unwrap();
        let root = Root::open(&outer.path().join("drop")).unwrap();
        assert_eq!(root.open_directory(&path("dir")).unwrap_err(), Errno::NOTDIR);
        assert_eq!(root.open_file(&path("dir/file")).unwrap_err(), Errno::LOOP);
        assert_eq!(root.stat(&path("dir/file")).unwrap_err(), Errno::LOOP);
        assert_eq!(root.resolve(&path("dir")), LinkEnd::Outside);
    }

    #[test]
    fn drop_directory_may_itself_be_a_link() {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join("real")).unwrap();
        fs::write(outer.path().join("real/file"), "").unwrap();
        symlink("file", outer.path().join("real/link")).unwrap();
        symlink("real", outer.path().join("drop")).unwrap();
        let root = Root::open(&outer.path().join("drop")).unwrap();
        assert!(root.open_file(&path("file")).is_ok());
        assert_eq!(root.resolve(&path("link")), LinkEnd::Inside(path("file")));
        assert!(root.is_still_there().unwrap());
    }
}

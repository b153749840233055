//! Opening and looking at things beneath a drop directory, and never outside of it.
//!
//! Owns the only calls that turn a [`SourcePath`] into a file descriptor. It promises that a path
//! from a row, a hint or a directory listing is resolved without following any symbolic link
//! (`openat2` with `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`), so that a directory that is swapped
//! for a link between two looks leads nowhere. A link is followed on purpose only: it is resolved to
//! its target first, and the target is then opened by the same rules.
//!
//! Where the kernel has no `openat2` (before 5.6, or a seccomp filter that forbids it) plain
//! `openat` with `O_NOFOLLOW` stands in, which guards the last component only.
//!
//! It never writes. At a crash nothing is lost. Called by `scan`, `look`, `part` and
//! `run`.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, StatxFlags};
use rustix::io::Errno;

use super::Error;
use crate::model::{ByteCount, Fingerprint, RootIdentity, SourcePath};

/// How often `openat2` is tried again when a rename beside it made the kernel unsure.
const RESOLVE_TRIES: usize = 8;

/// What `statx` says about one thing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stat {
    pub(super) file_type: FileType,
    pub(super) fingerprint: Fingerprint,
    /// The user whose it is.
    pub(super) owner: u32,
}

/// Where a symbolic link leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    /// To this path in the drop directory.
    Inside(SourcePath),
    /// Out of the drop directory.
    Outside,
    /// To nothing, to itself, or to where we may not look.
    Broken,
    /// Its storage fails for the moment.
    Failing(Errno),
}

/// An open drop directory.
#[derive(Debug)]
pub(super) struct Root {
    directory: PathBuf,
    fd: OwnedFd,
}

impl Root {
    /// Opens the drop directory; the directory itself may be named by a symbolic link.
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, directory, flags, Mode::empty())
            .map_err(|errno| Error::of_directory("open drop directory", directory, errno))?;
        Ok(Self { directory: directory.to_owned(), fd })
    }

    /// Opens the listing of the directory at `path`; the empty path is the drop directory.
    pub(super) fn open_directory(&self, path: &SourcePath) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        if path.as_bytes().is_empty() {
            return rustix::fs::openat(&self.fd, c".", flags | OFlags::CLOEXEC, Mode::empty());
        }
        self.open_at(path, flags)
    }

    /// Opens the file at `path` for reading, without waiting for a writer should it be a pipe.
    pub(super) fn open_file(&self, path: &SourcePath) -> Result<OwnedFd, Errno> {
        self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    /// Looks at what stands at `path`, a link itself and not its target.
    pub(super) fn stat(&self, path: &SourcePath) -> Result<Stat, Errno> {
        stat_fd(&self.open_at(path, OFlags::PATH)?)
    }

    /// Finds out where the link at `path` leads.
    pub(super) fn resolve(&self, path: &SourcePath) -> Link {
        let resolved = fs::canonicalize(&self.directory)
            .and_then(|root| Ok((fs::canonicalize(root.join(path.as_path()))?, root)));
        let (target, root) = match resolved {
            Ok(resolved) => resolved,
            Err(error) => {
                let passing = Errno::from_io_error(&error).filter(|errno| is_passing(*errno));
                return passing.map_or(Link::Broken, Link::Failing);
            }
        };
        match target.strip_prefix(&root) {
            Ok(inside) => Link::Inside(SourcePath::from_bytes(inside.as_os_str().as_bytes())),
            Err(_) => Link::Outside,
        }
    }

    /// Tells whether the drop directory's path still leads to the directory that was opened.
    pub(super) fn is_still_there(&self) -> Result<bool, Error> {
        let before = self.identity()?;
        Ok(Self::open(&self.directory)?.identity()? == before)
    }

    /// Returns which directory it is.
    pub(super) fn identity(&self) -> Result<RootIdentity, Error> {
        let stat = stat_fd(&self.fd).map_err(|errno| {
            Error::of_directory("look at drop directory", &self.directory, errno)
        })?;
        let Fingerprint { device, inode, .. } = stat.fingerprint;
        Ok(RootIdentity { device, inode })
    }

    /// Tells whether nothing at all stands in the drop directory.
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
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        for _ in 0..RESOLVE_TRIES {
            match rustix::fs::openat2(&self.fd, path.as_path(), flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::NOSYS | Errno::PERM) => return self.open_at_plainly(path, flags),
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    fn open_at_plainly(&self, path: &SourcePath, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = path.as_path();
        if !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Errno::XDEV);
        }
        rustix::fs::openat(&self.fd, path, flags, Mode::empty())
    }
}

/// Looks at an open file.
pub(super) fn stat_fd(fd: impl AsFd) -> Result<Stat, Errno> {
    statx(fd, c"", AtFlags::EMPTY_PATH)
}

/// Looks at a name in an open directory, a link itself and not its target.
///
/// A network file system may answer from its cache: a scan compares with what the next one sees.
pub(super) fn stat_entry(directory: impl AsFd, name: &std::ffi::CStr) -> Result<Stat, Errno> {
    statx(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC)
}

fn statx(fd: impl AsFd, path: &std::ffi::CStr, flags: AtFlags) -> Result<Stat, Errno> {
    let times = StatxFlags::MTIME | StatxFlags::CTIME;
    let mask = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::SIZE | StatxFlags::UID | times;
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
        owner: found.stx_uid,
    })
}

/// Tells whether this process ran out of something, which says nothing about the file.
pub(super) fn is_exhausted(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM)
}

/// Tells whether storage fails in a way that passes: a share that is away, a server that is starting,
/// a handle that went stale. It says nothing about whether the file is there.
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

/// Says in the operating system's words why something may not be opened.
pub(super) fn words(errno: Errno) -> String {
    io::Error::from(errno).to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::super::tests::path;
    use super::*;

    #[test]
    fn plain_opening_guards_dots_and_the_last_component() {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join("drop/dir")).unwrap();
        fs::write(outer.path().join("secret"), "").unwrap();
        fs::write(outer.path().join("drop/dir/file"), "").unwrap();
        symlink("../secret", outer.path().join("drop/link")).unwrap();
        let root = Root::open(&outer.path().join("drop")).unwrap();
        let open = |name| root.open_at_plainly(&path(name), OFlags::RDONLY | OFlags::NOFOLLOW);
        assert!(open("dir/file").is_ok());
        assert_eq!(open("../secret").unwrap_err(), Errno::XDEV);
        assert_eq!(open("/etc/passwd").unwrap_err(), Errno::XDEV);
        assert_eq!(open("link").unwrap_err(), Errno::LOOP);
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
        assert_eq!(root.resolve(&path("dir")), Link::Outside);
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
        assert_eq!(root.resolve(&path("link")), Link::Inside(path("file")));
        assert!(root.is_still_there().unwrap());
    }
}

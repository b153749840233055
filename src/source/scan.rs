//! The walk and the look: what stands at every path, or at these.
//!
//! A walk is bounded in memory by the depth of the tree and one batch. It goes by directory handles
//! and never through a link, so a directory that is swapped for a link while we walk leads nowhere.
//! It does not open files; a look does, to learn whether they may be read.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Source;
use crate::model::{
    ByteCount, Failure, FailureKind, Fingerprint, IgnoreReason, Observation, Seen, SourcePath,
};

/// Observations handed on at once.
pub const BATCH_MAX: usize = 1000;
/// Directories within directories. Deeper ones would exhaust file handles.
const DEPTH_MAX: usize = 200;

/// What a walk came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Paths seen.
    pub seen_count: u64,
    /// Directories that could not be read.
    pub unreadable_count: u64,
}

/// Walks a drop directory and hands observations on in batches. `take` says whether to go on.
///
/// # Errors
/// When the drop directory itself cannot be read.
pub fn scan(
    source: &Source,
    take: &mut dyn FnMut(Vec<Observation>) -> bool,
) -> Result<Summary, Failure> {
    let top = rustix::fs::open(
        &source.directory,
        OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .and_then(Dir::new)
    .map_err(|error| directory_failure(source, error))?;
    let mut walk =
        Walk { source, take, batch: Vec::new(), summary: Summary::default(), stopped: false };
    walk.run(top);
    walk.flush();
    Ok(walk.summary)
}

fn directory_failure(source: &Source, error: Errno) -> Failure {
    let kind = match error {
        Errno::NOENT | Errno::NOTDIR => FailureKind::SourceGone,
        _ => FailureKind::SourceUnreadable,
    };
    let directory = source.directory.display();
    Failure::new(kind, format!("the drop directory {directory} cannot be read: {error}"))
}

struct Walk<'a> {
    source: &'a Source,
    take: &'a mut dyn FnMut(Vec<Observation>) -> bool,
    batch: Vec<Observation>,
    summary: Summary,
    stopped: bool,
}

impl Walk<'_> {
    /// Walks with a stack of its own, so that no depth of tree can exhaust the thread's.
    fn run(&mut self, top: Dir) {
        let mut stack = vec![(top, SourcePath::from_bytes(b""))];
        while let Some((directory, path)) = stack.last_mut() {
            if self.stopped {
                return;
            }
            match directory.read() {
                None => {
                    stack.pop();
                }
                Some(Err(_)) => {
                    let path = path.clone();
                    stack.pop();
                    self.unreadable(path);
                }
                Some(Ok(entry)) => {
                    let name = entry.file_name().to_bytes();
                    if matches!(name, b"." | b"..") {
                        continue;
                    }
                    let below = join(path, name);
                    let Ok(handle) = directory.fd() else { continue };
                    let found =
                        rustix::fs::statat(handle, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW);
                    let Ok(stat) = found else { continue };
                    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                        let opened = rustix::fs::openat(
                            handle,
                            entry.file_name(),
                            OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC,
                            Mode::empty(),
                        );
                        let deep = stack.len() >= DEPTH_MAX;
                        if let Some(opened) = self.enter(&below, opened, deep) {
                            stack.push((opened, below));
                        }
                    } else {
                        self.saw(below, &stat);
                    }
                }
            }
        }
    }

    fn enter(
        &mut self,
        path: &SourcePath,
        opened: Result<rustix::fd::OwnedFd, Errno>,
        deep: bool,
    ) -> Option<Dir> {
        if self.source.filter.prunes(path) {
            self.push(path.clone(), Seen::Ignored(IgnoreReason::Filtered));
            return None;
        }
        match opened.and_then(Dir::new) {
            Ok(_) if deep => {
                self.unreadable(path.clone());
                None
            }
            Ok(directory) => Some(directory),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => None,
            Err(_) => {
                self.unreadable(path.clone());
                None
            }
        }
    }

    fn unreadable(&mut self, path: SourcePath) {
        self.summary.unreadable_count += 1;
        self.push(path, Seen::Ignored(IgnoreReason::DirectoryUnreadable));
    }

    fn saw(&mut self, path: SourcePath, stat: &Stat) {
        let seen = if self.source.filter.takes(&path) {
            classify(self.source, &path, stat)
        } else {
            Seen::Ignored(IgnoreReason::Filtered)
        };
        self.push(path, seen);
    }

    fn push(&mut self, path: SourcePath, seen: Seen) {
        self.summary.seen_count += 1;
        let rank = self.source.filter.rank(&path);
        self.batch.push(Observation { path, seen, rank });
        if self.batch.len() >= BATCH_MAX {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if !batch.is_empty() && !(self.take)(batch) {
            self.stopped = true;
        }
    }
}

fn join(directory: &SourcePath, name: &[u8]) -> SourcePath {
    if directory.as_bytes().is_empty() {
        return SourcePath::from_bytes(name);
    }
    SourcePath::from_bytes(&[directory.as_bytes(), b"/", name].concat())
}

/// Returns the identity that a `stat` shows.
#[expect(
    clippy::useless_conversion,
    reason = "the widths of these fields differ between platforms"
)]
pub(crate) fn fingerprint(stat: &Stat) -> Fingerprint {
    let seconds = i64::from(stat.st_mtime);
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Fingerprint {
        device: u64::from(stat.st_dev),
        inode: u64::from(stat.st_ino),
        size: ByteCount(u64::try_from(stat.st_size).unwrap_or(0)),
        mtime_ns: seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds),
    }
}

fn classify(source: &Source, path: &SourcePath, stat: &Stat) -> Seen {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Seen::File(fingerprint(stat)),
        FileType::Symlink => classify_link(source, path),
        FileType::Socket => Seen::Ignored(IgnoreReason::Socket),
        FileType::Fifo => Seen::Ignored(IgnoreReason::Fifo),
        FileType::CharacterDevice | FileType::BlockDevice => Seen::Ignored(IgnoreReason::Device),
        FileType::Directory | FileType::Unknown => Seen::Gone,
    }
}

/// A link counts when it leads to a regular file inside the drop directory.
fn classify_link(source: &Source, path: &SourcePath) -> Seen {
    let (Ok(target), Ok(top)) =
        (source.directory.join(path.as_path()).canonicalize(), source.directory.canonicalize())
    else {
        return Seen::Ignored(IgnoreReason::LinkBroken);
    };
    if !target.starts_with(&top) {
        return Seen::Ignored(IgnoreReason::LinkOutside);
    }
    match rustix::fs::stat(&target) {
        Err(_) => Seen::Ignored(IgnoreReason::LinkBroken),
        Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Seen::File(fingerprint(&stat)),
            FileType::Directory => Seen::Ignored(IgnoreReason::LinkToDirectory),
            FileType::Socket => Seen::Ignored(IgnoreReason::Socket),
            FileType::Fifo => Seen::Ignored(IgnoreReason::Fifo),
            FileType::CharacterDevice | FileType::BlockDevice => {
                Seen::Ignored(IgnoreReason::Device)
            }
            FileType::Symlink | FileType::Unknown => Seen::Ignored(IgnoreReason::LinkBroken),
        },
    }
}

/// Looks at these paths, and opens the files to learn whether they may be read.
pub fn look(source: &Source, paths: &[SourcePath]) -> Vec<Observation> {
    let observe = |path: &SourcePath| Observation {
        path: path.clone(),
        seen: look_at(source, path),
        rank: source.filter.rank(path),
    };
    paths.iter().map(observe).collect()
}

fn look_at(source: &Source, path: &SourcePath) -> Seen {
    if !source.filter.takes(path) {
        return Seen::Ignored(IgnoreReason::Filtered);
    }
    let full = source.directory.join(path.as_path());
    let seen = match rustix::fs::lstat(&full) {
        Ok(stat) => classify(source, path, &stat),
        Err(Errno::NOENT | Errno::NOTDIR) => Seen::Gone,
        // What cannot even be looked at is found, and judged, by the scan of its directory.
        Err(_) => Seen::Gone,
    };
    let Seen::File(version) = seen else { return seen };
    match open_file(&source.directory, path) {
        Ok(_) => seen,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Seen::Gone,
        Err(error) => Seen::Unreadable(version, error.to_string()),
    }
}

/// Opens a file below a drop directory for reading; no link on the way may lead out of it.
pub(crate) fn open_file(directory: &Path, path: &SourcePath) -> io::Result<File> {
    use rustix::fs::ResolveFlags;
    let top = rustix::fs::open(
        directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let name = OsStr::from_bytes(path.as_bytes());
    match rustix::fs::openat2(&top, name, flags, Mode::empty(), ResolveFlags::BENEATH) {
        Ok(handle) => Ok(File::from(handle)),
        // A kernel or sandbox without openat2, or an absolute link that stays inside.
        Err(Errno::NOSYS | Errno::PERM | Errno::XDEV) => open_checked(directory, path),
        Err(error) => Err(error.into()),
    }
}

fn open_checked(directory: &Path, path: &SourcePath) -> io::Result<File> {
    let target = directory.join(path.as_path()).canonicalize()?;
    if !target.starts_with(directory.canonicalize()?) {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "a link leads out of the drop directory",
        ));
    }
    let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(target)
}

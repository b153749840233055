//! Files that programs hold open for writing, as far as that is visible here.
//!
//! Two hints: a file with write events on a local disk counts as open until the event of a writer
//! that closes it; and `/proc` lists the open files of the visible processes, those of the same
//! user, or all for root. Both prolong a quiet period, and never shorten one. *Not seen*: writers
//! of other machines, on a share; those of other users and in other mount namespaces that began to
//! write before the watch did; writes through a memory mapping. At most [`WRITERS_MAX`] files are
//! kept. *At a crash* nothing is lost: the next start looks again.

use std::collections::BTreeSet;
use std::fs::{canonicalize, read_dir, read_link, read_to_string};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::{Monotonic, SourcePath};

/// Limit of kept files; nothing is known about others.
const WRITERS_MAX: usize = 10_000;
/// Minimum interval of reading `/proc`: a machine has thousands of open files, and looks may follow each other at once.
const PROC_INTERVAL: Duration = Duration::from_secs(1);
/// Limit of open files that are checked in `/proc` at once.
const OPEN_MAX: usize = 50_000;

#[derive(Debug, Default)]
pub(crate) struct OpenWriters(Mutex<HeldOpen>);

#[derive(Debug, Default)]
struct HeldOpen {
    /// From events of the disk.
    wrote: BTreeSet<SourcePath>,
    /// From `/proc`, with the time of reading.
    open: BTreeSet<SourcePath>,
    open_at: Option<Monotonic>,
}

impl OpenWriters {
    pub(super) fn wrote(&self, path: &SourcePath) {
        let files = &mut self.seen().wrote;
        if files.len() < WRITERS_MAX && !files.contains(path) {
            files.insert(path.clone());
        }
    }

    /// A writer closed a file, or the file does not exist any more.
    pub(super) fn closed(&self, path: &SourcePath) {
        self.seen().wrote.remove(path);
    }

    pub(super) fn forget_all(&self) {
        self.seen().wrote.clear();
    }

    /// Returns the files below a drop directory that are held open.
    pub(crate) fn all(&self, root: &Path, now: Monotonic) -> BTreeSet<SourcePath> {
        let is_due = |at: Monotonic| now.since(at) >= PROC_INTERVAL;
        if self.seen().open_at.is_none_or(is_due) {
            let open = open_below(root);
            let mut seen = self.seen();
            (seen.open, seen.open_at) = (open, Some(now));
        }
        let seen = self.seen();
        seen.wrote.union(&seen.open).cloned().collect()
    }

    fn seen(&self) -> MutexGuard<'_, HeldOpen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the files below a directory that `/proc` shows as open for writing. Unreadable entries
/// are skipped.
fn open_below(root: &Path) -> BTreeSet<SourcePath> {
    let Ok(root) = canonicalize(root) else { return BTreeSet::new() };
    let processes = read_dir("/proc").into_iter().flatten().flatten();
    let is_process = |name: &std::ffi::OsStr| name.as_bytes().iter().all(u8::is_ascii_digit);
    let processes = processes.filter(|one| is_process(&one.file_name()));
    let open = processes.flat_map(|one| read_dir(one.path().join("fd")).into_iter().flatten());
    let below = open.flatten().take(OPEN_MAX).filter_map(|fd| {
        let link = read_link(fd.path()).ok()?;
        let path = link.strip_prefix(&root).ok()?;
        let writes = writes(&fd.path())?;
        (writes && path != Path::new(""))
            .then(|| SourcePath::from_bytes(path.as_os_str().as_bytes()))
    });
    below.take(WRITERS_MAX).collect()
}

/// Returns whether an open file may be written, by the octal flags in `/proc/PID/fdinfo/FD`.
fn writes(fd: &Path) -> Option<bool> {
    let info = fd.parent()?.with_file_name("fdinfo").join(fd.file_name()?);
    let info = read_to_string(info).ok()?;
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    Some(u32::from_str_radix(flags.trim(), 8).ok()? & 3 != 0)
}

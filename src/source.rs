//! Local files: finding them, watching them, reading them, proving they have not changed.
//!
//! Owns all access to a drop directory. *Events for speed, scans for truth*: a [`watch::Watch`]
//! only gives hints where to look; [`scan::scan`] walks the whole directory and finds files;
//! [`look::look`] looks at single paths. All three give [`crate::model::Observation`]s or hints for
//! them. [`part`] reads and hashes ranges, and proves before and after reading that the file is
//! still the planned version. A [`Profile`] describes a kind of run folder; [`read_run`] reads a
//! run's own files by the profile.
//!
//! It promises never to leave the drop directory by a symbolic link, never to open anything but a
//! regular file for reading, and never to hold more of a file in memory than
//! [`part::MEMORY_PER_PART`]. Only [`dispose`](mod@dispose) changes anything. It must never decide
//! what is uploaded, or wait for anything but the disk and the reader of its stream.
//!
//! A crash loses nothing: no state is kept between two calls; the next scan sees everything.
//!
//! The shell calls it, from blocking threads where a function is not `async`.

mod beneath;
pub(crate) mod dispose;
pub(crate) mod filter;
mod guard;
pub(crate) mod handed;
mod leftovers;
pub(crate) mod look;
pub(crate) mod part;
mod patterns;
pub(crate) mod profile;
mod renamed;
pub(crate) mod root;
pub(crate) mod run;
pub mod scan;
pub(crate) mod watch;
mod writers;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;

use crate::model::{
    ByteCount, DirectoryName, Failure, FailureKind, Fingerprint, Provenance, SourcePath, Space,
    Unit,
};

pub(crate) use dispose::{Disposable, dispose};
pub use filter::Filter;
pub(crate) use handed::prove;
pub(crate) use look::{look, look_counting};
pub(crate) use part::{
    Attend, Digested, MEMORY_PER_PART, PartBytes, PartReader, PartsProof, Room, Together,
    WantedRange,
};
pub(crate) use patterns::PatternError;
pub use profile::Profile;
pub(crate) use renamed::{RenamedRuns, find_renamed};
pub use root::DirectoryRoot;
pub(crate) use root::RootMark;
pub(crate) use run::read_run;
pub(crate) use scan::ScanSummary;
pub use scan::scan;
pub(crate) use watch::{Watch, WatchHint, network_file_system};

/// The settings of one drop directory for finding files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub name: DirectoryName,
    pub directory: PathBuf,
    pub unit: Unit,
    /// Files to upload; empty means all. See [`filter`] for the syntax of patterns.
    pub include: Vec<String>,
    /// Files not to upload, even if included.
    pub exclude: Vec<String>,
    /// Files to send first, in this order.
    pub order: Vec<String>,
    /// The profile of its content.
    pub profile: Arc<Profile>,
    /// Every file was requested explicitly: files that systems and programs leave behind are wanted too.
    pub takes_all: bool,
}

/// One version of one file in a drop directory, for reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SourceFile {
    pub root: Arc<DirectoryRoot>,
    /// The file, relative to it.
    pub path: SourcePath,
    /// The planned version; of another one, only one of the same length is read.
    pub fingerprint: Fingerprint,
    /// Owner and file system when it was handed in; no other file is read under its path.
    pub provenance: Option<Provenance>,
}

/// Returns the space on the file system of a directory, where it is known.
pub(crate) fn space(directory: &Path) -> Option<Space> {
    let found = rustix::fs::statvfs(directory).ok()?;
    let bytes = |blocks: u64| ByteCount(blocks.saturating_mul(found.f_frsize));
    Some(Space { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
}

/// A failed operation on a drop directory or a file in it.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {path}")]
pub struct Error {
    /// The operation, as a verb phrase that the path completes.
    pub doing: &'static str,
    /// The file or directory.
    pub path: String,
    /// The kind for the policy.
    pub kind: FailureKind,
    /// The operating system's error, or the finding.
    #[source]
    pub source: io::Error,
}

impl Error {
    fn new(doing: &'static str, path: impl ToString, source: io::Error) -> Self {
        let kind = kind_of(&source);
        Self { doing, path: path.to_string(), kind, source }
    }

    /// A failure at the drop directory itself says nothing about the files in it.
    fn of_directory(doing: &'static str, directory: &Path, source: impl Into<io::Error>) -> Self {
        let mut error = Self::new(doing, directory.display(), source.into());
        if error.kind != FailureKind::LocalFault {
            error.kind = FailureKind::SourceAway;
        }
        error
    }

    /// An empty drop directory may be the mount point of a share that is not mounted, so a file
    /// that is missing in it may exist; a scan decides.
    fn empty(directory: &Path) -> Self {
        Self::of_directory(
            "find files in drop directory",
            directory,
            io::Error::other("it is empty"),
        )
    }

    fn of_file(doing: &'static str, path: &SourcePath, source: impl Into<io::Error>) -> Self {
        Self::new(doing, path, source.into())
    }

    /// Adds the byte offset in the file.
    fn at(mut self, offset: u64) -> Self {
        self.source =
            io::Error::new(self.source.kind(), format!("{} (at byte {offset})", self.source));
        self
    }

    fn changed(path: &SourcePath, how: String) -> Self {
        Self {
            doing: "use the planned version of",
            path: path.to_string(),
            kind: FailureKind::SourceChanged,
            source: io::Error::other(how),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.kind, format!("{error}: {}", error.source))
    }
}

/// Maps an error of the file system to a failure kind.
///
/// A missing file is gone; a lack of resources of this process is its own fault; failing storage
/// will come back; anything else means that the source cannot be read.
fn kind_of(error: &io::Error) -> FailureKind {
    match Errno::from_io_error(error) {
        Some(Errno::NOENT | Errno::NOTDIR) => FailureKind::SourceGone,
        Some(errno) if beneath::is_exhausted(errno) => FailureKind::LocalFault,
        Some(errno) if beneath::is_passing(errno) => FailureKind::SourceFailing,
        _ => FailureKind::SourceUnreadable,
    }
}

#[cfg(test)]
mod tests {
    use rustix::thread::{CapabilitySet, CapabilitySets};

    use super::*;

    pub(super) fn settings() -> Settings {
        Settings {
            name: DirectoryName::new("test"),
            directory: PathBuf::from("/nowhere"),
            unit: Unit::Directory,
            include: Vec::new(),
            exclude: Vec::new(),
            order: Vec::new(),
            profile: Profile::plain(),
            takes_all: false,
        }
    }

    pub(super) fn filter(include: &[&str], exclude: &[&str], order: &[&str]) -> Filter {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        let settings = Settings {
            include: owned(include),
            exclude: owned(exclude),
            order: owned(order),
            ..settings()
        };
        Filter::new(&settings).unwrap()
    }

    pub(super) fn path(bytes: impl AsRef<[u8]>) -> SourcePath {
        SourcePath::from_bytes(bytes.as_ref())
    }

    /// Runs `act` in a thread without capabilities, so that file modes apply also where root runs the tests.
    pub(super) fn without_capabilities<T: Send>(act: impl FnOnce() -> T + Send) -> T {
        let none = CapabilitySet::empty();
        let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
        let act = || {
            rustix::thread::set_capabilities(None, sets).unwrap();
            act()
        };
        std::thread::scope(|scope| scope.spawn(act).join().unwrap())
    }

    #[test]
    fn kinds_follow_the_operating_system() {
        let kind = |errno: Errno| kind_of(&errno.into());
        assert_eq!(kind(Errno::NOENT), FailureKind::SourceGone);
        assert_eq!(kind(Errno::ACCESS), FailureKind::SourceUnreadable);
        assert_eq!(kind(Errno::MFILE), FailureKind::LocalFault);
        for errno in [Errno::STALE, Errno::IO, Errno::NOTCONN, Errno::TIMEDOUT, Errno::HOSTDOWN] {
            assert_eq!(kind(errno), FailureKind::SourceFailing, "{errno}");
        }
    }

    #[test]
    fn what_fails_at_the_drop_directory_says_nothing_about_its_files() {
        let kind = |errno: Errno| Error::of_directory("open", Path::new("/drop"), errno).kind;
        for errno in [Errno::NOENT, Errno::ACCESS, Errno::IO, Errno::STALE, Errno::NOTDIR] {
            assert_eq!(kind(errno), FailureKind::SourceAway, "{errno}");
        }
        assert_eq!(kind(Errno::NFILE), FailureKind::LocalFault);
    }

    #[test]
    fn failure_names_act_noun_and_cause() {
        let error = Error::of_file("open", &path("a\nb"), Errno::NOENT);
        let failure = Failure::from(error);
        assert_eq!(failure.kind, FailureKind::SourceGone);
        assert!(failure.message.starts_with("cannot open a\\nb: No such file"), "{failure}");
    }
}

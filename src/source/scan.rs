//! The walk over a drop directory that finds every file.
//!
//! Owns the authoritative view of the files: events may be lost, a scan is not. It promises one
//! observation for every path that is not a directory, plus one for each directory that may not be
//! read or is pruned, in batches of at most [`BATCH_MAX`], some of them empty; and that
//! [`ScanSummary::complete`] is true only if the walk ended and the drop directory is still the one
//! it began with. Then a path that was not seen is gone, unless it is in a directory of
//! [`ScanSummary::unseen`].
//!
//! Private names of disposal are left out: their files are being disposed of.
//!
//! Depth first, one directory open at a time, and names are passed on as they are read: memory
//! holds one batch and the seen directories that were not entered yet, never the whole tree. Files
//! are not opened, and links are only resolved, not followed.
//!
//! A file that comes or goes during the walk may be seen or not; the next scan settles it. A crash loses
//! nothing. The shell calls it on a thread of its own, one scan of a drop directory at a time.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::ops::ControlFlow;

use rustix::fd::AsFd;
use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

use super::beneath::{Root, is_exhausted, is_passing, stat_entry};
use super::dispose::is_private;
use super::look::{link, regular, special};
use super::renamed::ListedAs;
use super::root::RootMark;
use super::{DirectoryRoot, Error, Filter};
use crate::model::{IgnoreReason, Observation, RootIdentity, Seen, SourcePath};

/// Limit of observations in one batch: large enough that passing it on is cheap compared with the
/// walk, small enough that the engine's turn stays short.
pub const BATCH_MAX: usize = 1_000;

/// Directories after which the observations are passed on, even if there are none: the task that
/// waits for the scan sees that it moves, also where every directory takes seconds.
const PULSE_DIRECTORIES: u64 = 64;

/// Bytes of one kernel listing: about a thousand names. One buffer serves the whole walk.
const LISTING_BYTES: usize = 64 << 10;

/// Limit of unseen directories that are listed; with more of them the walk counts as incomplete.
const UNSEEN_MAX: usize = 1_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanSummary {
    /// The number of observations.
    pub seen_count: u64,
    /// The number of directories that were read, including the drop directory.
    pub directory_count: u64,
    /// The walk ended.
    pub complete: bool,
    /// Directories that could not be read completely, and files without a `Stat`.
    pub unseen: BTreeSet<SourcePath>,
    /// The drop directory is empty.
    pub is_empty: bool,
    /// The identity of the drop directory.
    pub root: RootIdentity,
    /// Its mark, valid as long as it stays mounted.
    pub mark: RootMark,
}

impl ScanSummary {
    /// Returns whether a path that was not seen does not exist.
    pub fn saw_all(&self) -> bool {
        self.complete && self.unseen.is_empty()
    }

    fn miss(&mut self, place: SourcePath) {
        if self.unseen.len() < UNSEEN_MAX {
            self.unseen.insert(place);
        } else {
            self.complete = false;
        }
    }
}

/// Walks the drop directory `root` and passes observations to `batch`, which may stop the walk.
/// Directories in `skip` are not entered.
///
/// # Errors
/// When the drop directory is missing, is not the expected one, was replaced during the walk, or
/// may not be read (`SourceAway`), or this process lacks handles or memory (`LocalFault`).
pub fn scan(
    root: &DirectoryRoot,
    filter: &Filter,
    skip: &BTreeSet<SourcePath>,
    batch: impl FnMut(Vec<Observation>) -> ControlFlow<()>,
) -> Result<ScanSummary, Error> {
    walk(root.open_anew()?, filter, skip, SourcePath::from_bytes(b""), batch)
}

/// Walks one directory of the drop directory `root`, as [`scan`] does.
pub(super) fn scan_below(
    root: &DirectoryRoot,
    directory: &SourcePath,
    filter: &Filter,
    batch: impl FnMut(Vec<Observation>) -> ControlFlow<()>,
) -> Result<ScanSummary, Error> {
    walk(root.open()?, filter, &BTreeSet::new(), directory.clone(), batch)
}

fn walk(
    root: Root,
    filter: &Filter,
    skip: &BTreeSet<SourcePath>,
    from: SourcePath,
    batch: impl FnMut(Vec<Observation>) -> ControlFlow<()>,
) -> Result<ScanSummary, Error> {
    let found = root.found()?;
    let summary = ScanSummary {
        seen_count: 0,
        directory_count: 0,
        complete: true,
        unseen: BTreeSet::new(),
        is_empty: true,
        root: found.identity,
        mark: found.mark,
    };
    let mut walk = TreeWalk {
        root,
        filter,
        skip,
        emit: batch,
        batch: Vec::new(),
        pending: vec![from],
        path: Vec::new(),
        summary,
    };
    let flow = walk.run()?;
    let mut summary = walk.summary;
    if flow.is_break() {
        summary.complete = false;
    } else if !walk.root.is_still_there()? {
        let doing = "finish scanning drop directory";
        return Err(Error::of_directory(doing, walk.root.directory(), Errno::STALE));
    }
    Ok(summary)
}

struct TreeWalk<'a, F> {
    root: Root,
    filter: &'a Filter,
    skip: &'a BTreeSet<SourcePath>,
    emit: F,
    batch: Vec<Observation>,
    /// Directories to enter; the last one first.
    pending: Vec<SourcePath>,
    /// The present path, in one buffer for all.
    path: Vec<u8>,
    summary: ScanSummary,
}

/// Why one directory was not read completely.
enum DirectoryHalt {
    Stopped,
    Failed(Errno),
}

impl From<Errno> for DirectoryHalt {
    fn from(errno: Errno) -> Self {
        Self::Failed(errno)
    }
}

impl<F: FnMut(Vec<Observation>) -> ControlFlow<()>> TreeWalk<'_, F> {
    fn run(&mut self) -> Result<ControlFlow<()>, Error> {
        let mut listing = Vec::with_capacity(LISTING_BYTES);
        while let Some(path) = self.pending.pop() {
            let flow = match self.read_directory(&path, &mut listing) {
                Ok(()) => ControlFlow::Continue(()),
                Err(DirectoryHalt::Stopped) => ControlFlow::Break(()),
                Err(DirectoryHalt::Failed(errno)) if path.as_bytes().is_empty() => {
                    let doing = "read drop directory";
                    return Err(Error::of_directory(doing, self.root.directory(), errno));
                }
                Err(DirectoryHalt::Failed(errno)) => self.miss_directory(path, errno)?,
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(self.flush())
    }

    fn read_directory(
        &mut self,
        path: &SourcePath,
        listing: &mut Vec<u8>,
    ) -> Result<(), DirectoryHalt> {
        let directory = self.root.open_directory(path)?;
        self.path.clear();
        self.path.extend_from_slice(path.as_bytes());
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        let stem = self.path.len();
        let mut entries = RawDir::new(&directory, listing.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Err(Errno::INTR) => continue,
                // It was removed while it was read.
                Err(Errno::NOENT) => break,
                other => other?,
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            self.summary.is_empty = false;
            if is_private(name.to_bytes()) {
                continue;
            }
            self.path.truncate(stem);
            self.path.extend_from_slice(name.to_bytes());
            if self.visit(&directory, name, entry.file_type())?.is_break() {
                return Err(DirectoryHalt::Stopped);
            }
        }
        self.summary.directory_count += 1;
        // A sign of life from trees with few files, which rarely fill a batch.
        if self.summary.directory_count.is_multiple_of(PULSE_DIRECTORIES)
            && (self.emit)(std::mem::take(&mut self.batch)).is_break()
        {
            return Err(DirectoryHalt::Stopped);
        }
        Ok(())
    }

    /// Observes [`Self::path`], which is `name` in an open directory.
    fn visit(
        &mut self,
        directory: impl AsFd,
        name: &CStr,
        listed_as: FileType,
    ) -> Result<ControlFlow<()>, Errno> {
        if listed_as == FileType::Directory {
            return Ok(self.find_directory());
        }
        let stat = match stat_entry(directory, name) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(ControlFlow::Continue(())),
            // One file that fails for the moment does not stop its directory.
            Err(errno) if is_passing(errno) => {
                self.summary.miss(SourcePath::from_bytes(&self.path));
                return Ok(ControlFlow::Continue(()));
            }
            Err(errno) => return Err(errno),
        };
        // Some listings do not give the type, and the entry may have changed.
        if stat.file_type == FileType::Directory {
            return Ok(self.find_directory());
        }
        let path = SourcePath::from_bytes(&self.path);
        let seen = if let Some(reason) = self.filter.refusal(&path) {
            Seen::Ignored(reason)
        } else if stat.file_type == FileType::RegularFile {
            regular(&self.root, &path, &stat)?
        } else if stat.file_type == FileType::Symlink {
            link(&self.root, &path)?
        } else {
            special(stat.file_type)
        };
        Ok(self.see(path, seen))
    }

    fn find_directory(&mut self) -> ControlFlow<()> {
        let path = SourcePath::from_bytes(&self.path);
        let path = match self.root.renamed().listed(&path) {
            ListedAs::Itself => path,
            ListedAs::Run(first) => first,
            ListedAs::InTheWay => return self.see(path, Seen::Ignored(IgnoreReason::NameInUse)),
        };
        if let Some(reason) = self.filter.pruning(&path) {
            return self.see(path, Seen::Ignored(reason));
        }
        if !self.skip.contains(&path) {
            self.pending.push(path);
        }
        ControlFlow::Continue(())
    }

    /// Continues without a directory: a vanished one is no loss, any other is recorded as unseen.
    fn miss_directory(&mut self, path: SourcePath, errno: Errno) -> Result<ControlFlow<()>, Error> {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Ok(ControlFlow::Continue(())),
            errno if is_exhausted(errno) => Err(Error::of_file("read directory", &path, errno)),
            _ => {
                self.summary.miss(path.clone());
                let is_long = errno == Errno::NAMETOOLONG;
                let reason = match is_long {
                    true => IgnoreReason::PathTooLong,
                    false => IgnoreReason::DirectoryUnreadable,
                };
                Ok(self.see(path, Seen::Ignored(reason)))
            }
        }
    }

    fn see(&mut self, path: SourcePath, seen: Seen) -> ControlFlow<()> {
        self.summary.seen_count += 1;
        if self.batch.is_empty() {
            self.batch.reserve_exact(BATCH_MAX);
        }
        self.batch.push(Observation { place: self.filter.place_of(&path, &seen), path, seen });
        if self.batch.len() < BATCH_MAX {
            return ControlFlow::Continue(());
        }
        self.flush()
    }

    fn flush(&mut self) -> ControlFlow<()> {
        if self.batch.is_empty() {
            return ControlFlow::Continue(());
        }
        (self.emit)(std::mem::take(&mut self.batch))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::super::tests::{filter, path, settings, without_capabilities};
    use super::super::{Profile, Settings};
    use super::*;
    use crate::model::{ByteCount, FailureKind};

    fn scan_all(root: &Path, filter: &Filter) -> (BTreeMap<SourcePath, Seen>, ScanSummary) {
        let mut found = BTreeMap::new();
        let summary = scan(&DirectoryRoot::at(root), filter, &BTreeSet::new(), |batch| {
            assert!(batch.len() <= BATCH_MAX);
            for one in batch {
                assert!(found.insert(one.path, one.seen).is_none(), "seen twice");
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        (found, summary)
    }

    fn scan_plain(root: &Path) -> (BTreeMap<SourcePath, Seen>, ScanSummary) {
        scan_all(root, &filter(&[], &[], &[]))
    }

    #[test]
    fn empty_directory_is_a_complete_scan_of_nothing() {
        let root = tempfile::tempdir().unwrap();
        let (found, summary) = scan_plain(root.path());
        assert!(found.is_empty());
        assert_eq!((summary.seen_count, summary.directory_count), (0, 1));
        assert!(summary.complete && summary.is_empty);
        fs::create_dir(root.path().join("run")).unwrap();
        assert!(!scan_plain(root.path()).1.is_empty, "a directory is not nothing");
    }

    #[test]
    fn many_directories_without_files_show_that_the_walk_moves() {
        let root = tempfile::tempdir().unwrap();
        (0..200).for_each(|n| fs::create_dir(root.path().join(n.to_string())).unwrap());
        let mut signs = 0;
        scan(&DirectoryRoot::at(root.path()), &filter(&[], &[], &[]), &BTreeSet::new(), |_| {
            signs += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(signs, 3);
    }

    #[test]
    fn replaced_directory_is_another() {
        let outer = tempfile::tempdir().unwrap();
        let (one, two) = (outer.path().join("drop"), outer.path().join("other"));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&two).unwrap();
        let before = scan_plain(&one).1.root;
        assert_eq!(scan_plain(&one).1.root, before);
        fs::remove_dir(&one).unwrap();
        fs::rename(&two, &one).unwrap();
        assert_ne!(scan_plain(&one).1.root, before);
    }

    #[test]
    fn odd_things_are_seen_and_named() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let _socket = UnixListener::bind(at("socket")).unwrap();
        mkfifoat(CWD, at("fifo"), Mode::RWXU).unwrap();
        fs::create_dir_all(at("dir/deeper")).unwrap();
        fs::write(at("dir/deeper/file"), "12345").unwrap();
        symlink("dir/deeper/file", at("in")).unwrap();
        symlink(at("dir/deeper/file"), at("in-absolute")).unwrap();
        symlink("../in", at("dir/chain")).unwrap();
        symlink("dir", at("to-dir")).unwrap();
        symlink("..", at("dir/up")).unwrap();
        symlink("/etc", at("out-dir")).unwrap();
        symlink("/etc/passwd", at("out")).unwrap();
        symlink("nothing", at("broken")).unwrap();
        symlink("loop", at("loop")).unwrap();

        let (found, summary) = scan_plain(root.path());
        let file = found[&path("dir/deeper/file")].clone();
        assert!(matches!(file, Seen::File(found) if found.size == ByteCount(5)));
        for link in ["in", "in-absolute", "dir/chain"] {
            assert_eq!(found[&path(link)], file, "{link}");
        }
        let ignored = [
            ("socket", IgnoreReason::Socket),
            ("fifo", IgnoreReason::Fifo),
            ("to-dir", IgnoreReason::LinkToDirectory),
            ("dir/up", IgnoreReason::LinkToDirectory),
            ("out-dir", IgnoreReason::LinkOutside),
            ("out", IgnoreReason::LinkOutside),
            ("broken", IgnoreReason::LinkBroken),
            ("loop", IgnoreReason::LinkBroken),
        ];
        for (name, reason) in ignored {
            assert_eq!(found[&path(name)], Seen::Ignored(reason), "{name}");
        }
        assert_eq!(found.len(), 12);
        assert_eq!((summary.seen_count, summary.directory_count), (12, 3));
        assert!(summary.complete && !summary.is_empty);
    }

    #[test]
    fn names_may_be_any_bytes() {
        let root = tempfile::tempdir().unwrap();
        let long = vec![b'x'; 255];
        let names: [&[u8]; 5] = [b"\xff\xfe", b"new\nline", b" ", b"-rf *", &long];
        for name in names {
            fs::write(root.path().join(OsStr::from_bytes(name)), "").unwrap();
        }
        let (found, _) = scan_plain(root.path());
        for name in names {
            assert!(matches!(found[&path(name)], Seen::File(_)), "{name:?}");
        }
    }

    #[test]
    fn fingerprints_of_scan_and_look_are_equal() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "abc").unwrap();
        symlink("a", root.path().join("b")).unwrap();
        let plain = filter(&[], &[], &[]);
        let (found, _) = scan_all(root.path(), &plain);
        let looked = super::super::look(
            &DirectoryRoot::at(root.path()),
            &plain,
            found.keys().cloned().collect(),
        );
        for one in looked.unwrap() {
            assert_eq!(found[&one.path], one.seen);
        }
    }

    #[test]
    fn filtered_files_are_rows_and_pruned_directories_are_one_row() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("thumbs/deep")).unwrap();
        fs::write(root.path().join("thumbs/deep/a.jpg"), "").unwrap();
        fs::write(root.path().join("x.bak"), "").unwrap();
        fs::write(root.path().join("x.gz"), "").unwrap();
        let (found, summary) = scan_all(root.path(), &filter(&[], &["thumbs/**", "*.bak"], &[]));
        assert_eq!(found[&path("thumbs")], Seen::Ignored(IgnoreReason::Filtered));
        assert_eq!(found[&path("x.bak")], Seen::Ignored(IgnoreReason::Filtered));
        assert!(matches!(found[&path("x.gz")], Seen::File(_)));
        assert_eq!(found.len(), 3);
        assert_eq!(summary.directory_count, 1);
        assert!(summary.saw_all());
    }

    #[test]
    fn what_the_profile_leaves_out_says_so_in_a_scan_and_in_a_look() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("run/Thumbnail_Images/L001")).unwrap();
        for name in ["run/Thumbnail_Images/L001/a.jpg", "run/Thumbs.db", "run/RunInfo.xml"] {
            fs::write(root.path().join(name), "").unwrap();
        }
        let profile = Profile::builtin("illumina").unwrap();
        let mut settings = Settings { profile, ..settings() };
        let illumina = Filter::new(&settings).unwrap();
        let (found, summary) = scan_all(root.path(), &illumina);
        let by_profile = Seen::Ignored(IgnoreReason::ByProfile);
        assert_eq!(found[&path("run/Thumbnail_Images")], by_profile);
        assert_eq!(found[&path("run/Thumbs.db")], Seen::Ignored(IgnoreReason::LeftOver));
        assert!(matches!(found[&path("run/RunInfo.xml")], Seen::File(_)));
        assert_eq!((found.len(), summary.directory_count), (3, 2));
        let thumbnail = vec![path("run/Thumbnail_Images/L001/a.jpg")];
        let looked =
            super::super::look(&DirectoryRoot::at(root.path()), &illumina, thumbnail.clone())
                .unwrap();
        assert_eq!(looked[0].seen, by_profile);

        settings.include = vec!["**".to_owned(), "*.jpg".to_owned()];
        let asked = Filter::new(&settings).unwrap();
        let (found, _) = scan_all(root.path(), &asked);
        assert!(matches!(found[&thumbnail[0]], Seen::File(_)));
        assert_eq!(found[&path("run/Thumbs.db")], Seen::Ignored(IgnoreReason::LeftOver));
    }

    #[test]
    fn unreadable_directory_is_a_place_that_was_not_seen() {
        let root = tempfile::tempdir().unwrap();
        let closed = root.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::write(root.path().join("open"), "").unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        let (found, summary) = without_capabilities(|| {
            assert!(fs::read_dir(&closed).is_err(), "it cannot be read");
            scan_plain(root.path())
        });
        let unreadable = Seen::Ignored(IgnoreReason::DirectoryUnreadable);
        assert_eq!(found[&path("closed")], unreadable);
        assert_eq!(found.len(), 2);
        assert_eq!(summary.unseen, BTreeSet::from([path("closed")]));
        assert!(summary.complete && !summary.saw_all());
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn directory_too_deep_for_a_path_is_said_to_be_so() {
        let root = tempfile::tempdir().unwrap();
        let name = "d".repeat(250);
        let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::RDONLY;
        let mut at = rustix::fs::open(root.path(), flags, Mode::empty()).unwrap();
        for _ in 0..20 {
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, &name, flags, Mode::empty()).unwrap();
        }
        let (found, summary) = scan_plain(root.path());
        assert_eq!(found.len(), 1);
        assert!(found.values().all(|seen| *seen == Seen::Ignored(IgnoreReason::PathTooLong)));
        assert!(summary.unseen.iter().eq(found.keys()) && !summary.saw_all());
    }

    #[test]
    fn missing_drop_directory_and_file_in_its_place_are_errors() {
        let root = tempfile::tempdir().unwrap();
        let plain = filter(&[], &[], &[]);
        let missing = root.path().join("missing");
        let kind = |path: &Path| {
            scan(&DirectoryRoot::at(path), &plain, &BTreeSet::new(), |_| ControlFlow::Continue(()))
                .unwrap_err()
                .kind
        };
        assert_eq!(kind(&missing), FailureKind::SourceAway);
        fs::write(&missing, "a file").unwrap();
        assert_eq!(kind(&missing), FailureKind::SourceAway);
    }

    #[test]
    fn drop_directory_replaced_during_the_walk_is_an_error() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("drop");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a"), "").unwrap();
        let result =
            scan(&DirectoryRoot::at(&root), &filter(&[], &[], &[]), &BTreeSet::new(), |_| {
                fs::rename(&root, outer.path().join("moved")).unwrap();
                fs::create_dir(&root).unwrap();
                ControlFlow::Continue(())
            });
        assert_eq!(result.unwrap_err().kind, FailureKind::SourceAway);
    }

    #[test]
    fn large_tree_comes_in_bounded_batches_and_can_be_stopped() {
        let root = tempfile::tempdir().unwrap();
        for directory in 0..20 {
            let directory = root.path().join(format!("d{directory}"));
            fs::create_dir(&directory).unwrap();
            fs::write(directory.join("0"), "").unwrap();
            // Links to one file: creating that many files takes longer than all other tests.
            (1..1_000).for_each(|n| {
                fs::hard_link(directory.join("0"), directory.join(n.to_string())).unwrap();
            });
        }
        let (found, summary) = scan_plain(root.path());
        assert_eq!(found.len(), 20_000);
        assert_eq!((summary.seen_count, summary.directory_count), (20_000, 21));

        let mut batches = 0;
        let summary =
            scan(&DirectoryRoot::at(root.path()), &filter(&[], &[], &[]), &BTreeSet::new(), |_| {
                batches += 1;
                if batches == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
        assert_eq!(batches, 3);
        assert_eq!(summary.seen_count, 3_000);
        assert!(!summary.complete);
    }
}

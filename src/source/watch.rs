//! Events of a drop directory, turned into hints where to look.
//!
//! Owns the operating system's watch. An event is only a hint to look: it is never trusted, and losing
//! one costs time until the next scan, never a file. It promises that nothing is lost *silently*: when
//! our queue overflows, when an event has no path, and when a directory was created or moved, the hint
//! is [`WatchHint::ScanNow`]; when the kernel's queue overflowed it is [`WatchHint::Lost`]; when
//! watching cannot continue, it is [`WatchHint::Failed`] with the reason, and the drop directory is only
//! scanned. An unmount silences a watch without a hint: [`Watch::end`] reports it.
//!
//! The callback runs on the watcher's own thread and never blocks: it adds the path to a bounded
//! set and wakes the reader. A file that grows event by event is one path in that set. Events of
//! opening and reading are dropped there, because our own reading would cause them. Directory links
//! are not followed and pruned directories give no hints.
//!
//! Network file systems report only this machine's changes, so they are refused at the start. A
//! crash loses nothing: the scan at the start finds what happened meanwhile. The shell owns one
//! [`Watch`] for each drop directory, in a task of its own.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::EventKind;
use notify::event::{AccessKind, AccessMode, CreateKind, Event, ModifyKind, RemoveKind};
use rustix::io::Errno;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use self::tree::Tree;
use super::dispose::is_private;
use super::guard::Guard;
use super::root::RootMark;
use super::writers::OpenWriters;
use super::{DirectoryRoot, Error, Filter};
use crate::model::{FailureKind, SourcePath};

mod tree;

/// Limit of paths that wait to be looked at. Beyond it, a scan is cheaper than that many looks.
const PENDING_MAX: usize = 10_000;

/// How long hints are collected before they are passed on: a growing file costs at most five looks a second.
const GATHER: Duration = Duration::from_millis(200);

/// File systems whose events lack other machines' changes: magic number of `statfs`, name.
const REMOTE_FILE_SYSTEMS: [(u64, &str); 12] = [
    (0x6969, "NFS"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x517B, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00C3_6400, "Ceph"),
    (0x0BD0_0BD0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x5346_414F, "AFS"),
    (0x0116_1970, "GFS2"),
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WatchHint {
    /// At these paths, each at most once.
    Paths(Vec<SourcePath>),
    ScanNow,
    /// The kernel's queue overflowed and events were lost. New directories may not be watched, so
    /// the watch is useless: start another one, and scan.
    Lost,
    /// No more events come. The watch is useless and should be dropped; files are found by scanning
    /// until a watch can be started again.
    Failed {
        reason: String,
    },
}

/// A watch on one drop directory; dropping it ends it.
pub(crate) struct Watch {
    shared: Arc<WatchShared>,
    gathering: Option<Pin<Box<Sleep>>>,
    /// New directories that are being added to the watch.
    adding: Option<JoinHandle<notify::Result<()>>>,
    guard: Guard,
    root: RootMark,
    tree: Arc<Tree>,
}

impl Watch {
    /// Begins to watch `root` and everything below it.
    ///
    /// Slow for large trees (some 20 µs for each directory, and half a second for a million files):
    /// call it on a blocking thread. Existing files give no hints; a scan after the start finds
    /// them.
    ///
    /// # Errors
    /// When the directory is missing or not the expected one, is on a file system without useful
    /// events, or the system's limits are reached. `Failure::from(error).message` is for operators.
    pub(crate) fn start(root: &DirectoryRoot, filter: Filter) -> Result<Self, Error> {
        let ((_, mark), writers) = (root.check()?, root.writers());
        let root = std::path::absolute(root.path())
            .map_err(|source| Error::of_directory("watch", root.path(), source))?;
        refuse_remote(&root)?;
        writers.forget_all();
        let shared = Arc::new(WatchShared::default());
        let callback = Callback {
            root: root.clone(),
            filter: filter.clone(),
            shared: Arc::clone(&shared),
            writers,
        };
        let tree = Tree::start(root.clone(), filter, callback).map_err(|e| refusal(&root, e))?;
        let limited = |errno: Errno| refusal(&root, notify::Error::io(errno.into()));
        let guard = Guard::start(&root).map_err(limited)?;
        let (gathering, adding, tree) = (None, None, Arc::new(tree));
        Ok(Self { shared, gathering, adding, guard, root: mark, tree })
    }

    /// Returns the mark of the watched directory. The directory at its path may be another by then.
    pub(crate) fn root(&self) -> RootMark {
        self.root
    }

    /// Returns how the drop directory ended under the watch, if it has since the last call: such a
    /// watch gives no hints any more.
    pub(crate) fn end(&self) -> Option<&'static str> {
        self.guard.end()
    }

    /// Waits for the next hint. Hints come at most once in 200 ms.
    ///
    /// May be dropped and called again at any point without losing a hint.
    pub(crate) async fn next(&mut self) -> WatchHint {
        loop {
            if let Some(adding) = &mut self.adding {
                let added = adding.await;
                self.adding = None;
                self.shared.pending().add(match added {
                    Ok(Err(error)) => WatchNotice::Failed(reason(&error)),
                    // Only a scan sees files that were in them before they were watched.
                    Ok(Ok(())) | Err(_) => WatchNotice::ScanNow,
                });
                if let Some(hint) = self.shared.pending().take() {
                    return hint;
                }
            }
            if let Some(sleep) = &mut self.gathering {
                sleep.as_mut().await;
                self.gathering = None;
                if self.add_directories() {
                    continue;
                }
                if let Some(hint) = self.shared.pending().take() {
                    return hint;
                }
            }
            if self.shared.pending().is_empty() {
                self.shared.wake.notified().await;
            }
            self.gathering = Some(Box::pin(tokio::time::sleep(GATHER)));
        }
    }

    /// Begins to watch new directories, if there are any.
    fn add_directories(&mut self) -> bool {
        let directories = std::mem::take(&mut self.shared.pending().directories);
        if directories.is_empty() {
            return false;
        }
        let tree = Arc::clone(&self.tree);
        let add = move || {
            let highest = directories.iter().filter(|path| !is_below_any(path, &directories));
            highest.cloned().try_for_each(|path| tree.watch_below(path))
        };
        self.adding = Some(tokio::task::spawn_blocking(add));
        true
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// Returns whether a directory above a path is one of these.
fn is_below_any(path: &SourcePath, directories: &BTreeSet<SourcePath>) -> bool {
    path.above().any(|above| directories.contains(above))
}

/// State shared by the callback and the reader.
#[derive(Debug, Default)]
struct WatchShared {
    pending: Mutex<PendingPaths>,
    wake: tokio::sync::Notify,
}

impl WatchShared {
    fn pending(&self) -> MutexGuard<'_, PendingPaths> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, notice: WatchNotice) {
        self.pending().add(notice);
        self.wake.notify_one();
    }
}

/// A finding of the callback.
#[derive(Debug, PartialEq, Eq)]
enum WatchNotice {
    Path(SourcePath),
    /// A directory was created or changed: it must be watched.
    Directory(SourcePath),
    ScanNow,
    Lost,
    Failed(String),
}

#[derive(Debug, Default)]
struct PendingPaths {
    paths: BTreeSet<SourcePath>,
    directories: BTreeSet<SourcePath>,
    scan_now: bool,
    lost: bool,
    failed: Option<String>,
}

impl PendingPaths {
    fn is_empty(&self) -> bool {
        self.paths.is_empty()
            && self.directories.is_empty()
            && !self.scan_now
            && !self.lost
            && self.failed.is_none()
    }

    fn add(&mut self, notice: WatchNotice) {
        match notice {
            WatchNotice::Path(path) => {
                self.paths.insert(path);
                if self.paths.len() > PENDING_MAX {
                    self.paths.clear();
                    self.scan_now = true;
                }
            }
            WatchNotice::Directory(path) => {
                self.directories.insert(path);
                if self.directories.len() > PENDING_MAX {
                    self.directories.clear();
                    self.lost = true;
                }
            }
            WatchNotice::ScanNow => self.scan_now = true,
            WatchNotice::Lost => self.lost = true,
            WatchNotice::Failed(reason) => self.failed = Some(reason),
        }
    }

    fn take(&mut self) -> Option<WatchHint> {
        if let Some(reason) = self.failed.take() {
            return Some(WatchHint::Failed { reason });
        }
        if std::mem::take(&mut self.lost) {
            return Some(WatchHint::Lost);
        }
        if std::mem::take(&mut self.scan_now) {
            return Some(WatchHint::ScanNow);
        }
        let paths = std::mem::take(&mut self.paths);
        (!paths.is_empty()).then(|| WatchHint::Paths(paths.into_iter().collect()))
    }
}

/// Runs on the watcher's thread.
struct Callback {
    root: PathBuf,
    filter: Filter,
    shared: Arc<WatchShared>,
    writers: Arc<OpenWriters>,
}

impl notify::EventHandler for Callback {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        match event {
            Ok(event) => self.read_event(&event),
            // A directory that is gone again needs no watch, but its parent may have changed.
            Err(error) if is_missing(&error) => self.shared.leave(WatchNotice::ScanNow),
            Err(error) => self.shared.leave(WatchNotice::Failed(reason(&error))),
        }
    }
}

impl Callback {
    fn read_event(&self, event: &Event) {
        if is_mere_access(event.kind) {
            return;
        }
        if event.need_rescan() {
            return self.shared.leave(WatchNotice::Lost);
        }
        if event.paths.is_empty() {
            return self.shared.leave(WatchNotice::ScanNow);
        }
        for path in &event.paths {
            if let Some(notice) = self.read_path(event.kind, path) {
                self.shared.leave(notice);
            }
        }
    }

    fn read_path(&self, kind: EventKind, path: &Path) -> Option<WatchNotice> {
        let Ok(inside) = path.strip_prefix(&self.root) else { return Some(WatchNotice::ScanNow) };
        if inside.as_os_str().is_empty() {
            return Some(self.read_root_event(kind));
        }
        let inside = SourcePath::from_bytes(inside.as_os_str().as_bytes());
        if is_private(inside.file_name()) {
            return None;
        }
        if self.filter.is_pruned_away(&inside) || self.filter.prunes(&inside) {
            return None;
        }
        if kind == EventKind::Remove(RemoveKind::Folder) {
            return Some(WatchNotice::ScanNow);
        }
        if concerns_directory(kind, path) {
            return Some(WatchNotice::Directory(inside));
        }
        self.note_writer(kind, &inside);
        Some(WatchNotice::Path(inside))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the kinds are notify's and may grow")]
    fn note_writer(&self, kind: EventKind, path: &SourcePath) {
        match kind {
            EventKind::Modify(ModifyKind::Data(_)) => self.writers.wrote(path),
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(_) => self.writers.closed(path),
            _ => {}
        }
    }

    fn read_root_event(&self, kind: EventKind) -> WatchNotice {
        if matches!(kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))) {
            return WatchNotice::Failed("the drop directory was removed or renamed".to_owned());
        }
        WatchNotice::ScanNow
    }
}

/// Returns whether an event is only an access. Closing after writing is more than that.
#[expect(clippy::wildcard_enum_match_arm, reason = "the kinds are notify's and may grow")]
fn is_mere_access(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    }
}

/// Returns whether a whole subtree may have appeared or become readable.
///
/// Events of renames and changed permissions do not give the type, so the path is looked at; only
/// local file systems are watched, and that look takes a microsecond.
#[expect(clippy::wildcard_enum_match_arm, reason = "the kinds are notify's and may grow")]
fn concerns_directory(kind: EventKind, path: &Path) -> bool {
    match kind {
        EventKind::Create(CreateKind::Folder) => true,
        EventKind::Create(CreateKind::File) | EventKind::Remove(RemoveKind::File) => false,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)) => false,
        _ => std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()),
    }
}

fn refuse_remote(root: &Path) -> Result<(), Error> {
    let fd = rustix::fs::open(root, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
    let found = fd
        .and_then(rustix::fs::fstatfs)
        .map_err(|errno| Error::of_directory("watch", root, errno))?;
    match remote_name(found.f_type) {
        None => Ok(()),
        Some(name) => {
            let why = format!("it lies on {name}, whose events do not tell what other machines do");
            Err(Error::of_directory("watch", root, io::Error::other(why)))
        }
    }
}

/// Returns the name of a directory's file system, if other machines can write to it.
pub(crate) fn network_file_system(directory: &Path) -> io::Result<Option<&'static str>> {
    Ok(remote_name(rustix::fs::statfs(directory)?.f_type))
}

/// Returns the name of a file system that needs scanning; `statfs` sign-extends some numbers.
fn remote_name(magic: impl Into<i64>) -> Option<&'static str> {
    let magic = magic.into().cast_unsigned() & 0xFFFF_FFFF;
    REMOTE_FILE_SYSTEMS.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}

fn is_missing(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound | notify::ErrorKind::WatchNotFound => true,
        notify::ErrorKind::Io(source) => source.kind() == io::ErrorKind::NotFound,
        notify::ErrorKind::Generic(_)
        | notify::ErrorKind::InvalidConfig(_)
        | notify::ErrorKind::MaxFilesWatch => false,
    }
}

/// Returns why no events come, for operators, with the cure where there is one.
fn reason(error: &notify::Error) -> String {
    let errno = match &error.kind {
        notify::ErrorKind::MaxFilesWatch => Some(Errno::NOSPC),
        notify::ErrorKind::Io(source) => Errno::from_io_error(source),
        notify::ErrorKind::Generic(_)
        | notify::ErrorKind::PathNotFound
        | notify::ErrorKind::WatchNotFound
        | notify::ErrorKind::InvalidConfig(_) => None,
    };
    match errno {
        Some(Errno::NOSPC) => "the limit of watches is reached; raise fs.inotify.max_user_watches",
        Some(Errno::MFILE) => {
            "the limit of watchers or open files is reached; raise fs.inotify.max_user_instances"
        }
        Some(_) | None => return error.to_string(),
    }
    .to_owned()
}

fn refusal(root: &Path, error: notify::Error) -> Error {
    let missing = is_missing(&error);
    let mut refused = Error::of_directory("watch", root, io::Error::other(reason(&error)));
    refused.kind = if missing { FailureKind::SourceAway } else { FailureKind::LocalFault };
    refused
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use notify::event::{DataChange, Flag, RenameMode};

    use super::super::tests::{filter, path};
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn next(watch: &mut Watch) -> WatchHint {
        tokio::time::timeout(PATIENCE, watch.next()).await.expect("a hint comes")
    }

    fn watch(root: &Path) -> Watch {
        Watch::start(&DirectoryRoot::at(root), filter(&[], &["pruned/**"], &[])).unwrap()
    }

    fn callback(root: &str) -> Callback {
        let shared = Arc::new(WatchShared::default());
        let (filter, writers) = (filter(&[], &["pruned/**"], &[]), Arc::default());
        Callback { root: root.into(), filter, shared, writers }
    }

    fn tell(callback: &mut Callback, kind: EventKind, paths: &[&str]) -> Option<WatchHint> {
        let event = paths.iter().fold(Event::new(kind), |event, path| event.add_path(path.into()));
        notify::EventHandler::handle_event(callback, Ok(event));
        callback.shared.pending().take()
    }

    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));

    #[tokio::test]
    async fn written_file_is_hinted_at_once() {
        let root = tempfile::tempdir().unwrap();
        let mut watch = watch(root.path());
        let mut file = fs::File::create(root.path().join("a")).unwrap();
        (0..100).for_each(|_| file.write_all(b"x").unwrap());
        drop(file);
        assert_eq!(next(&mut watch).await, WatchHint::Paths(vec![path("a")]));
    }

    #[tokio::test]
    async fn reading_gives_no_hint() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "x").unwrap();
        let mut watch = watch(root.path());
        fs::read(root.path().join("a")).unwrap();
        fs::write(root.path().join("b"), "x").unwrap();
        assert_eq!(next(&mut watch).await, WatchHint::Paths(vec![path("b")]));
    }

    #[tokio::test]
    async fn made_directory_calls_for_a_scan_and_is_watched_afterwards() {
        let root = tempfile::tempdir().unwrap();
        let mut watch = watch(root.path());
        fs::create_dir(root.path().join("d")).unwrap();
        assert_eq!(next(&mut watch).await, WatchHint::ScanNow);
        fs::write(root.path().join("d/a"), "x").unwrap();
        assert_eq!(next(&mut watch).await, WatchHint::Paths(vec![path("d/a")]));
    }

    #[tokio::test]
    async fn whatever_comes_with_a_directory_is_watched_and_what_is_pruned_is_not() {
        let outer = tempfile::tempdir().unwrap();
        for directory in ["drop/pruned/x", "run/b/c"] {
            fs::create_dir_all(outer.path().join(directory)).unwrap();
        }
        let root = outer.path().join("drop");
        let mut watch = watch(&root);
        fs::rename(outer.path().join("run"), root.join("run")).unwrap();
        assert_eq!(next(&mut watch).await, WatchHint::ScanNow);
        fs::write(root.join("pruned/x/a"), "x").unwrap();
        fs::write(root.join("run/b/c/a"), "x").unwrap();
        assert_eq!(next(&mut watch).await, WatchHint::Paths(vec![path("run/b/c/a")]));
        fs::rename(root.join("run"), root.join("moved")).unwrap();
        while next(&mut watch).await != WatchHint::ScanNow {}
        fs::write(root.join("moved/b/c/a"), "xx").unwrap();
        let is_it =
            |hint| matches!(hint, WatchHint::Paths(all) if all.contains(&path("moved/b/c/a")));
        while !is_it(next(&mut watch).await) {}
    }

    #[test]
    fn directories_below_others_are_told() {
        let all: BTreeSet<_> = ["a", "a-b", "c/d"].map(path).into();
        let below = ["a", "a/b", "a-b/c/d", "c/d", "c/e", "c/d/e/f", "ab"].map(path);
        let told = below.map(|path| is_below_any(&path, &all));
        assert_eq!(told, [false, true, true, false, false, true, false]);
    }

    #[tokio::test]
    async fn directory_moved_in_calls_for_a_scan() {
        let outer = tempfile::tempdir().unwrap();
        fs::create_dir_all(outer.path().join("drop")).unwrap();
        fs::create_dir_all(outer.path().join("run")).unwrap();
        let mut watch = watch(&outer.path().join("drop"));
        fs::rename(outer.path().join("run"), outer.path().join("drop/run")).unwrap();
        assert_eq!(next(&mut watch).await, WatchHint::ScanNow);
    }

    #[tokio::test]
    async fn removed_drop_directory_is_said_to_fail() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("drop");
        fs::create_dir(&root).unwrap();
        let mut watch = watch(&root);
        fs::remove_dir(&root).unwrap();
        assert!(matches!(next(&mut watch).await, WatchHint::Failed { .. }));
    }

    #[tokio::test]
    async fn dropped_wait_loses_no_hint() {
        let root = tempfile::tempdir().unwrap();
        let mut watch = watch(root.path());
        fs::write(root.path().join("a"), "x").unwrap();
        let mut hint = None;
        for _ in 0..200 {
            let wait = tokio::time::timeout(Duration::from_millis(10), watch.next());
            hint = wait.await.ok();
            if hint.is_some() {
                break;
            }
        }
        assert_eq!(hint, Some(WatchHint::Paths(vec![path("a")])));
    }

    #[tokio::test]
    async fn directory_that_may_not_be_read_is_watched_once_it_may() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().unwrap();
        let closed = root.path().join("closed");
        fs::create_dir(&closed).unwrap();
        let mode = |mode| fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o000);
        let mut watch = watch(root.path());
        mode(0o700);
        assert_eq!(next(&mut watch).await, WatchHint::ScanNow);
        fs::write(closed.join("a"), "x").unwrap();
        assert_eq!(next(&mut watch).await, WatchHint::Paths(vec![path("closed/a")]));
    }

    #[test]
    fn flood_becomes_a_scan() {
        let mut callback = callback("/drop");
        for n in 0..=PENDING_MAX {
            let path = format!("/drop/{n}");
            let event = Event::new(WRITTEN).add_path(path.into());
            notify::EventHandler::handle_event(&mut callback, Ok(event));
        }
        assert_eq!(callback.shared.pending().take(), Some(WatchHint::ScanNow));
        assert_eq!(callback.shared.pending().take(), None);
    }

    #[test]
    fn overflow_ends_the_watch_and_events_without_a_path_call_for_a_scan() {
        let mut callback = callback("/drop");
        let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        notify::EventHandler::handle_event(&mut callback, Ok(overflow));
        assert_eq!(callback.shared.pending().take(), Some(WatchHint::Lost));
        assert_eq!(tell(&mut callback, EventKind::Any, &[]), Some(WatchHint::ScanNow));
        assert_eq!(tell(&mut callback, WRITTEN, &["/elsewhere"]), Some(WatchHint::ScanNow));
    }

    #[test]
    fn events_are_read_by_kind() {
        let mut callback = callback("/drop");
        let a = || Some(WatchHint::Paths(vec![path("a")]));
        let close = |mode| EventKind::Access(AccessKind::Close(mode));
        assert_eq!(tell(&mut callback, WRITTEN, &["/drop/a"]), a());
        assert_eq!(tell(&mut callback, close(AccessMode::Write), &["/drop/a"]), a());
        assert_eq!(tell(&mut callback, close(AccessMode::Read), &["/drop/a"]), None);
        let open = EventKind::Access(AccessKind::Open(AccessMode::Any));
        assert_eq!(tell(&mut callback, open, &["/drop/a"]), None);
        let moved = EventKind::Modify(ModifyKind::Name(RenameMode::Both));
        let both = WatchHint::Paths(vec![path("a"), path("b")]);
        assert_eq!(tell(&mut callback, moved, &["/drop/a", "/drop/b"]), Some(both));
        assert_eq!(tell(&mut callback, WRITTEN, &["/drop/pruned/a"]), None);
        let removed = EventKind::Remove(RemoveKind::Folder);
        assert_eq!(tell(&mut callback, removed, &["/drop/d"]), Some(WatchHint::ScanNow));
        assert!(matches!(tell(&mut callback, removed, &["/drop"]), Some(WatchHint::Failed { .. })));
    }

    #[test]
    fn limits_are_failures_with_a_cure_and_vanished_directories_are_not() {
        let mut callback = callback("/drop");
        let mut fail = |error| {
            notify::EventHandler::handle_event(&mut callback, Err(error));
            callback.shared.pending().take()
        };
        let limit = notify::Error::new(notify::ErrorKind::MaxFilesWatch);
        let handles = notify::Error::io(Errno::MFILE.into());
        for (error, cure) in [(limit, "max_user_watches"), (handles, "max_user_instances")] {
            let Some(WatchHint::Failed { reason }) = fail(error) else { panic!("not a failure") };
            assert!(reason.contains(cure), "{reason}");
        }
        let gone = notify::Error::new(notify::ErrorKind::PathNotFound);
        assert_eq!(fail(gone), Some(WatchHint::ScanNow));
    }

    #[test]
    fn missing_directory_and_network_file_systems_are_refused() {
        let error =
            Watch::start(&DirectoryRoot::at("/no/such/drop"), filter(&[], &[], &[])).unwrap_err();
        assert_eq!(error.kind, FailureKind::SourceAway);
        assert_eq!(remote_name(0x6969), Some("NFS"));
        assert_eq!(remote_name(0xFF53_4D42_u32.cast_signed()), Some("CIFS"));
        assert_eq!(remote_name(0x517B), Some("SMB"));
        assert_eq!(remote_name(0xFE53_4D42_u32), Some("SMB2"));
        assert_eq!(remote_name(0x6573_5546), Some("FUSE"));
        assert_eq!(remote_name(0x0102_1997), Some("9P"));
        for (magic, local) in [(0xEF53, "ext4"), (0x5846_5342, "XFS"), (0x0102_1994, "tmpfs")] {
            assert_eq!(remote_name(magic), None, "{local}");
        }
    }
}

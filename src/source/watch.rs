//! Hints: the kernel says "look here". Never the truth, only the reason to look sooner.
//!
//! Hints are gathered in a bounded set, so a file that is written a thousand times is one path, and
//! the callback never blocks. When the set is full, when the kernel's queue overflowed, or when a
//! directory came or went, the hint is "scan". Reading our own files makes no hints. What cannot be
//! watched (limits, network shares) is said, and scanned.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{CreateKind, EventKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Config, Event, RecommendedWatcher, RecursiveMode, Watcher};
use std::os::unix::ffi::OsStrExt;
use tokio::sync::Notify;

use crate::model::SourcePath;

/// Paths gathered at most; more mean "scan".
const PATHS_MAX: usize = 10_000;

/// What may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// These files.
    Paths(Vec<SourcePath>),
    /// Anything.
    Scan,
}

/// A watched directory; dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    gathered: Arc<Gathered>,
    _watcher: RecommendedWatcher,
}

#[derive(Debug, Default)]
struct Gathered {
    set: Mutex<Set>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Set {
    paths: BTreeSet<SourcePath>,
    scan: bool,
}

/// Takes a [`Watch`]'s hints.
#[derive(Debug, Clone)]
pub struct Hints {
    gathered: Arc<Gathered>,
}

impl Watch {
    /// Watches a directory and all below.
    ///
    /// # Errors
    /// Says in words why it cannot be watched: then it must be scanned.
    pub fn start(directory: &Path) -> Result<Self, String> {
        if let Some(reason) = network_file_system(directory) {
            return Err(reason);
        }
        let top = directory.canonicalize().map_err(|error| error.to_string())?;
        let gathered = Arc::new(Gathered::default());
        let sink = Arc::clone(&gathered);
        let root = top.clone();
        let take = move |event: notify::Result<Event>| sink.take(&root, event);
        let mut watcher =
            RecommendedWatcher::new(take, Config::default()).map_err(|error| explain(&error))?;
        watcher.watch(&top, RecursiveMode::Recursive).map_err(|error| explain(&error))?;
        Ok(Self { gathered, _watcher: watcher })
    }

    /// Returns where its hints come out.
    pub fn hints(&self) -> Hints {
        Hints { gathered: Arc::clone(&self.gathered) }
    }
}

impl Hints {
    /// Waits for hints and takes all there are.
    pub async fn next(&self) -> Hint {
        loop {
            if let Some(hint) = self.gathered.drain() {
                return hint;
            }
            self.gathered.wake.notified().await;
        }
    }
}

impl Gathered {
    fn take(&self, top: &Path, event: notify::Result<Event>) {
        let Ok(event) = event else {
            return self.scan();
        };
        if event.need_rescan() {
            return self.scan();
        }
        match event.kind {
            EventKind::Access(_) => {}
            EventKind::Create(CreateKind::Folder)
            | EventKind::Remove(RemoveKind::Folder)
            | EventKind::Modify(ModifyKind::Name(
                RenameMode::Any | RenameMode::To | RenameMode::Both | RenameMode::Other,
            )) => self.scan_or_look(top, event.paths),
            EventKind::Any
            | EventKind::Create(_)
            | EventKind::Modify(_)
            | EventKind::Remove(_)
            | EventKind::Other => self.look(top, event.paths),
        }
    }

    /// A rename may have brought a directory with all that is in it.
    fn scan_or_look(&self, top: &Path, paths: Vec<PathBuf>) {
        if paths.iter().any(|path| path.is_dir()) {
            self.scan();
        } else {
            self.look(top, paths);
        }
    }

    fn look(&self, top: &Path, paths: Vec<PathBuf>) {
        if paths.is_empty() {
            return self.scan();
        }
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        for path in paths {
            match path.strip_prefix(top) {
                Ok(below) if !below.as_os_str().is_empty() => {
                    set.paths.insert(SourcePath::from_bytes(below.as_os_str().as_bytes()));
                }
                Ok(_) | Err(_) => set.scan = true,
            }
        }
        if set.paths.len() > PATHS_MAX {
            set.paths.clear();
            set.scan = true;
        }
        drop(set);
        self.wake.notify_one();
    }

    fn scan(&self) {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).scan = true;
        self.wake.notify_one();
    }

    fn drain(&self) -> Option<Hint> {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        let paths = std::mem::take(&mut set.paths);
        if std::mem::take(&mut set.scan) {
            return Some(Hint::Scan);
        }
        (!paths.is_empty()).then(|| Hint::Paths(paths.into_iter().collect()))
    }
}

/// `ENOSPC` and `EMFILE` mean limits of the kernel, not a full disk.
fn explain(error: &notify::Error) -> String {
    let code = if let notify::ErrorKind::Io(io) = &error.kind { io.raw_os_error() } else { None };
    match code {
        Some(28) => {
            "the limit of watched directories is reached (fs.inotify.max_user_watches)".into()
        }
        Some(24) => "the limit of watchers is reached (fs.inotify.max_user_instances)".into(),
        Some(_) | None => match &error.kind {
            notify::ErrorKind::MaxFilesWatch => {
                "the limit of watched directories is reached (fs.inotify.max_user_watches)".into()
            }
            _ => error.to_string(),
        },
    }
}

/// Other hosts write to these without an event here.
fn network_file_system(directory: &Path) -> Option<String> {
    let kind = match rustix::fs::statfs(directory).ok()?.f_type {
        0x6969 => "NFS",
        0x517B | 0xFE53_4D42 | 0xFF53_4D42 => "SMB",
        0x6573_5546 => "FUSE",
        0x0102_1997 => "9p",
        0x00C3_6400 => "Ceph",
        _ => return None,
    };
    Some(format!("{kind} gives no events for what other hosts write"))
}

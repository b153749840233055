//! The directories of a drop directory, each watched by itself.
//!
//! The recursive watch of `notify` looks at every file to find the directories, which costs as much as a
//! scan. Here only directory listings are read, which give the types. *Promises*: each directory is watched
//! before it is listed, so one that is created meanwhile is in the listing, or is reported; pruned ones are
//! not watched. Reported ones must be passed to [`Tree::watch_below`]: they are not watched until then. One
//! that may not be read is left out, and scans report it; its parent reports when it becomes readable.
//!
//! Blocks, and must not be called on the watcher's own thread. A crash loses nothing.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use notify::{EventHandler, RecommendedWatcher, RecursiveMode, Watcher};

use super::{Filter, is_missing};
use crate::model::SourcePath;

/// A watched tree; dropping it ends the watch.
pub(super) struct Tree {
    root: PathBuf,
    filter: Filter,
    watcher: Mutex<RecommendedWatcher>,
}

impl Tree {
    /// Begins to watch the drop directory and everything below it.
    pub(super) fn start(
        root: PathBuf,
        filter: Filter,
        handler: impl EventHandler,
    ) -> notify::Result<Self> {
        let config = notify::Config::default().with_follow_symlinks(false);
        let watcher = Mutex::new(RecommendedWatcher::new(handler, config)?);
        let tree = Self { root, filter, watcher };
        tree.watch(&tree.root)?;
        tree.watch_listed(SourcePath::from_bytes(b""))?;
        Ok(tree)
    }

    pub(super) fn watch_below(&self, directory: SourcePath) -> notify::Result<()> {
        if self.try_watch(&directory)? { self.watch_listed(directory) } else { Ok(()) }
    }

    fn watch_listed(&self, directory: SourcePath) -> notify::Result<()> {
        let mut pending = vec![directory];
        while let Some(above) = pending.pop() {
            for directory in self.directories(&above)? {
                if self.try_watch(&directory)? {
                    pending.push(directory);
                }
            }
        }
        Ok(())
    }

    /// Watches a directory, unless it is gone or may not be read.
    fn try_watch(&self, directory: &SourcePath) -> notify::Result<bool> {
        match self.watch(&self.place(directory)) {
            Err(error) if is_out_of_reach(&error) => Ok(false),
            watched => watched.map(|()| true),
        }
    }

    /// Lists the directories in a directory, without pruned ones; none when it is gone or unreadable.
    fn directories(&self, above: &SourcePath) -> notify::Result<Vec<SourcePath>> {
        let mut found = Vec::new();
        let place = self.place(above);
        let failed = |error| notify::Error::io(error).add_path(place.clone());
        let listed = match fs::read_dir(&place).map_err(failed) {
            Err(error) if is_out_of_reach(&error) => return Ok(found),
            listed => listed?,
        };
        for entry in listed {
            let entry = entry.map_err(failed)?;
            // An entry without a type is gone.
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            let path = above.child(entry.file_name().as_bytes());
            if !self.filter.prunes(&path) {
                found.push(path);
            }
        }
        Ok(found)
    }

    fn place(&self, directory: &SourcePath) -> PathBuf {
        match directory.as_bytes() {
            [] => self.root.clone(),
            _ => self.root.join(directory.as_path()),
        }
    }

    fn watch(&self, place: &std::path::Path) -> notify::Result<()> {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        watcher.watch(place, RecursiveMode::NonRecursive)
    }
}

/// Returns whether a directory is gone, or may not be read.
fn is_out_of_reach(error: &notify::Error) -> bool {
    use io::ErrorKind::{NotADirectory, PermissionDenied};
    is_missing(error)
        || matches!(&error.kind, notify::ErrorKind::Io(source)
            if matches!(source.kind(), NotADirectory | PermissionDenied))
}

//! What scans have seen of a run: its files, its markers, and since when it is unchanged.

use crate::engine::intake::files::Closeness;
use crate::model::{Fingerprint, Monotonic, Place, RunTally, SourcePath};

#[derive(Debug)]
pub(super) struct RunScans {
    /// What the running scan has seen.
    seen: SeenRun,
    /// What the last complete scan saw.
    last: Option<SeenRun>,
    /// How many scans in a row saw the same, and since when.
    same_count: u32,
    same_since: Monotonic,
    /// When the last complete scan began.
    last_started: Monotonic,
    /// The running scan leaves it out.
    is_skipped: bool,
    /// A complete scan has seen it since it was closed, or since its wave began.
    is_seen_closed: bool,
    /// A scan is needed and was not requested yet.
    is_wanted: bool,
    /// A directory of it that the last scan could not see.
    unseen: Option<SourcePath>,
    newest: NewestChange,
    /// The file that changed, by the last scan that found a newer time of change.
    changed: Option<SourcePath>,
}

/// The newest time of change in a run, which finds changed files without keeping the files in memory.
#[derive(Debug, Default)]
struct NewestChange {
    /// Over all scans but the running one; `None` before the first.
    before_ns: Option<i64>,
    ns: i64,
    /// The file with that time, where it is newer than before.
    path: Option<SourcePath>,
}

impl NewestChange {
    fn note(&mut self, path: &SourcePath, version: &Fingerprint) {
        let at = version.ctime_ns.unwrap_or(version.mtime_ns);
        if at > self.ns {
            self.ns = at;
            self.path = self.before_ns.filter(|before| at > *before).map(|_| path.clone());
        }
    }

    fn end_scan(&mut self) -> Option<SourcePath> {
        self.before_ns = Some(self.ns);
        self.path.take()
    }
}

/// A file of a run, as a scan or look saw it.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine::intake) struct SeenFile<'a> {
    pub(in crate::engine::intake) path: &'a SourcePath,
    pub(in crate::engine::intake) place: Place,
    pub(in crate::engine::intake) version: Fingerprint,
    pub(in crate::engine::intake) closeness: Closeness,
}

/// What one scan saw of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SeenRun {
    files: RunTally,
    /// Markers that exist, by position.
    markers: u64,
}

impl SeenRun {
    pub(super) fn files(&self) -> &RunTally {
        &self.files
    }

    pub(super) fn markers(&self) -> u64 {
        self.markers
    }
}

impl RunScans {
    pub(super) fn new(now: Monotonic) -> Self {
        Self {
            seen: SeenRun::default(),
            last: None,
            same_count: 0,
            same_since: now,
            last_started: now,
            is_skipped: false,
            is_seen_closed: false,
            is_wanted: false,
            unseen: None,
            newest: NewestChange::default(),
            changed: None,
        }
    }

    pub(super) fn last(&self) -> Option<SeenRun> {
        self.last
    }

    pub(super) fn unseen(&self) -> Option<&SourcePath> {
        self.unseen.as_ref()
    }

    /// Returns the file that changed last, as far as scans have shown it.
    pub(super) fn changed(&self) -> Option<&SourcePath> {
        self.changed.as_ref()
    }

    pub(super) fn is_seen_closed(&self) -> bool {
        self.is_seen_closed
    }

    /// Returns whether a scan is needed that was not requested; it counts as requested from here on.
    pub(super) fn take_wanted(&mut self) -> bool {
        std::mem::take(&mut self.is_wanted)
    }

    /// Counts a file, and the markers that it is, by position.
    pub(super) fn count(&mut self, path: &SourcePath, version: &Fingerprint, markers: u64) {
        self.seen.files.add(path, version);
        self.seen.markers |= markers;
        self.newest.note(path, version);
    }

    pub(super) fn count_unchanged(&mut self, files: &RunTally) {
        self.seen.files.merge(files);
    }

    /// The run was closed, or a wave of it begins: only what is seen from here on counts.
    pub(super) fn restart(&mut self, now: Monotonic) {
        (self.same_count, self.same_since) = (0, now);
        (self.is_seen_closed, self.is_wanted) = (false, true);
    }

    pub(super) fn begin(&mut self, is_skipped: bool) {
        self.seen = SeenRun::default();
        self.is_skipped = is_skipped;
    }

    /// Ends a scan; `unseen` is a directory of the run that it could not see. Returns what it saw,
    /// if that was complete.
    pub(super) fn end(
        &mut self,
        unseen: Option<&SourcePath>,
        started: Monotonic,
        now: Monotonic,
    ) -> Option<SeenRun> {
        if self.is_skipped {
            return None;
        }
        self.unseen = unseen.cloned();
        let changed = self.newest.end_scan();
        let seen = std::mem::take(&mut self.seen);
        if unseen.is_some() {
            (self.same_count, self.same_since) = (0, now);
            return None;
        }
        if self.last.replace(seen) == Some(seen) {
            self.same_count = self.same_count.saturating_add(1);
        } else {
            (self.same_count, self.same_since) = (0, now);
            self.changed = changed;
        }
        self.last_started = started;
        Some(seen)
    }

    pub(super) fn note_seen_closed(&mut self) {
        self.is_seen_closed = true;
    }

    /// Returns whether the scan before saw the same; if not, the next one is wanted at once.
    pub(super) fn sees_again(&mut self) -> bool {
        self.is_wanted |= self.same_count == 0;
        self.same_count > 0
    }

    pub(super) fn is_same_since(&self, since: Monotonic) -> bool {
        self.same_count > 0 && self.same_since <= since
    }

    /// Returns since when scans have seen the same.
    pub(super) fn same_since(&self) -> Monotonic {
        self.same_since
    }

    /// Returns when a scan is needed before the run counts as unchanged; `None` when none is.
    pub(super) fn doubted_until(&self, quiet: std::time::Duration) -> Option<Monotonic> {
        let believed_at = self.same_since.after(quiet);
        (self.same_count == 0 || believed_at > self.last_started).then_some(believed_at)
    }
}

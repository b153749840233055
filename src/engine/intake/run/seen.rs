//! What scans have seen of a run: how much of it, which markers, and since when it is the same.

use crate::engine::intake::files::Closeness;
use crate::model::{Fingerprint, Monotonic, Place, RunTally, SourcePath};

/// See the module's head.
#[derive(Debug)]
pub(super) struct RunScans {
    /// What the scan under way has seen.
    seen: SeenRun,
    /// What the last whole scan saw.
    last: Option<SeenRun>,
    /// How many scans in a row saw the same, and since when.
    same_count: u32,
    same_since: Monotonic,
    /// When the last whole scan began.
    last_started: Monotonic,
    /// The scan under way leaves it out.
    is_skipped: bool,
    /// A whole scan has seen it since it was closed, or since its wave began.
    is_seen_closed: bool,
    /// A scan is wanted, and was not asked for yet.
    is_wanted: bool,
    /// A place of it that the last scan could not look at.
    unseen: Option<SourcePath>,
    newest: NewestChange,
    /// The file that the last scan saw changed, of those that changed the newest one.
    changed: Option<SourcePath>,
}

/// The newest time of change in a run, which shows what of it changes without memory of its files.
#[derive(Debug, Default)]
struct NewestChange {
    /// Of all scans but the one under way; none before the first.
    before_ns: Option<i64>,
    ns: i64,
    /// The file that has it, where it is newer than before.
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

/// A file of a run, as it was seen.
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
    /// Markers that are there, by position.
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

    /// Returns the file that changed last, as far as scans have shown that.
    pub(super) fn changed(&self) -> Option<&SourcePath> {
        self.changed.as_ref()
    }

    pub(super) fn is_seen_closed(&self) -> bool {
        self.is_seen_closed
    }

    /// Returns whether a scan is wanted that was not asked for yet; it is, from here on.
    pub(super) fn take_wanted(&mut self) -> bool {
        std::mem::take(&mut self.is_wanted)
    }

    /// Counts a file that is a marker of these positions, if any.
    pub(super) fn count(&mut self, path: &SourcePath, version: &Fingerprint, markers: u64) {
        self.seen.files.add(path, version);
        self.seen.markers |= markers;
        self.newest.note(path, version);
    }

    pub(super) fn count_unchanged(&mut self, files: &RunTally) {
        self.seen.files.merge(files);
    }

    /// The run was closed, or a wave of it begins: what counts is what is seen from here on.
    pub(super) fn restart(&mut self, now: Monotonic) {
        (self.same_count, self.same_since) = (0, now);
        (self.is_seen_closed, self.is_wanted) = (false, true);
    }

    pub(super) fn begin(&mut self, is_skipped: bool) {
        self.seen = SeenRun::default();
        self.is_skipped = is_skipped;
    }

    /// Ends a scan; `unseen` is a place of the run that it could not look at. Returns what it saw, when that
    /// was all of it.
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

    pub(super) fn is_same_since(&self, since: Monotonic) -> bool {
        self.same_count > 0 && self.same_since <= since
    }

    /// Returns since when scans saw the same.
    pub(super) fn same_since(&self) -> Monotonic {
        self.same_since
    }

    /// Returns when a scan is to be made before what was seen is believed to be all; none when it is.
    pub(super) fn doubted_until(&self, quiet: std::time::Duration) -> Option<Monotonic> {
        let believed_at = self.same_since.after(quiet);
        (self.same_count == 0 || believed_at > self.last_started).then_some(believed_at)
    }
}

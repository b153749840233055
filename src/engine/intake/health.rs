//! The health of a drop directory: whether it can be read, how it is watched, and what scans miss.
//!
//! *Away*: the directory cannot be opened or read, or another one is at its path: a link, another
//! share, the mount point of a share that is not mounted. Then no file in it counts as gone:
//! uploads that need their source wait, looks wait, and a scan is made every [`AWAY_PAUSE`] until
//! it is back, or an operator accepts the other directory. The same directory, empty, was emptied
//! by someone. Until a file was seen, any directory at its path is accepted.
//!
//! *Stalled*: for two scan intervals no scan ended or showed anything. A scan that hangs in the
//! kernel never fails, so this deadline is the only sign of it.
//!
//! Either makes the directory unreadable (`deaf`), whatever the state of its watch. A scan that could not
//! read everything is no full scan, and is reported with its reason; runs that were read completely continue.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::engine::settings::DirectorySettings;
use crate::model::{
    ByteCount, DirectoryHealth, Failure, FailureKind, Monotonic, Observation, RootIdentity, Seen,
    SourcePath, WallTime, WatchState,
};

/// Scan interval while a drop directory is away, unless the configured one is shorter: such a scan
/// ends at its first step.
const AWAY_PAUSE: Duration = Duration::from_secs(10);
/// Scan intervals without an observation after which a drop directory is unreadable.
const STALLED_INTERVALS: u32 = 2;
/// The reason of a drop directory whose scans stall.
const STALLED: &str = "for two scan intervals no scan has ended or shown anything: \
    does its file system answer?";

/// What is known about one drop directory as a whole.
#[derive(Debug)]
pub(in crate::engine) struct Health {
    /// The identity it must have, once files of it were seen.
    root: Option<RootIdentity>,
    reach: Reach,
    /// When a scan last showed anything or ended, or the first one began.
    active_at: Option<Monotonic>,
    /// Since when no scan has seen everything, and whether that has lasted.
    partial: Option<Partial>,
    watch: WatchState,
    /// Why it is not watched by events.
    watch_reason: Option<String>,
    /// Files in it that do not settle.
    unrest: Option<String>,
    /// End of the last scan that saw everything.
    last_full_scan_at: Option<WallTime>,
    /// The last scan that left out no run: its end, and the directories it could not see.
    last_walk: Option<(WallTime, BTreeSet<SourcePath>)>,
    /// A scan has ended since the start.
    is_scanned: bool,
    /// Free space on its file system, at the last scan.
    free_space: Option<ByteCount>,
    /// The row as last written.
    written: Option<DirectoryHealth>,
}

/// Whether the directory can be read, by its last scan.
#[derive(Debug)]
enum Reach {
    Readable,
    /// No scan ends or shows anything.
    Stalled,
    /// This machine lacks a resource that a scan needs.
    Failed(String),
    Away {
        reason: String,
        /// Another directory that is at its path.
        other: Option<RootIdentity>,
    },
}

#[derive(Debug, Clone, Copy)]
struct Partial {
    since: Monotonic,
    is_long: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            root: None,
            reach: Reach::Readable,
            active_at: None,
            partial: None,
            watch: WatchState::Scanning,
            watch_reason: None,
            unrest: None,
            last_full_scan_at: None,
            last_walk: None,
            is_scanned: false,
            free_space: None,
            written: None,
        }
    }
}

impl Health {
    /// Returns the identity it must have, once files of it were seen.
    pub(in crate::engine) fn root(&self) -> Option<&RootIdentity> {
        self.root.as_ref()
    }

    /// Returns whether its files are unreachable, which proves nothing about them.
    pub(in crate::engine) fn is_away(&self) -> bool {
        matches!(self.reach, Reach::Away { .. })
    }

    /// Returns whether a scan has ended since the start.
    pub(in crate::engine) fn is_scanned(&self) -> bool {
        self.is_scanned
    }

    /// Returns whether a scan that ended since then has looked at all paths that `has` accepts.
    pub(super) fn has_walked(&self, since: WallTime, has: impl Fn(&SourcePath) -> bool) -> bool {
        let walk = self.last_walk.as_ref();
        walk.is_some_and(|(at, unseen)| *at >= since && !unseen.iter().any(has))
    }

    fn scan_failure(&self) -> Option<&str> {
        match &self.reach {
            Reach::Readable => None,
            Reach::Stalled => Some(STALLED),
            Reach::Failed(reason) | Reach::Away { reason, .. } => Some(reason),
        }
    }

    /// Returns whether there is less free space than `floor`.
    pub(super) fn is_short_of_space(&self, floor: Option<ByteCount>) -> bool {
        floor.zip(self.free_space).is_some_and(|(floor, free)| free < floor)
    }

    /// Returns whether the last scan missed a part of it.
    pub(super) fn is_partial(&self) -> bool {
        self.partial.is_some()
    }

    /// Returns the pause after a scan.
    pub(super) fn pause(&self, scan_interval: Duration) -> Duration {
        match self.reach {
            Reach::Failed(_) | Reach::Away { .. } => scan_interval.min(AWAY_PAUSE),
            Reach::Readable | Reach::Stalled => scan_interval,
        }
    }

    /// Returns when its scans will count as stalled, unless they do already.
    pub(super) fn deadline(&self, scan_interval: Duration) -> Option<Monotonic> {
        let active_at = self.active_at.filter(|_| matches!(self.reach, Reach::Readable))?;
        Some(active_at.after(scan_interval.saturating_mul(STALLED_INTERVALS)))
    }

    /// Marks its scans as stalled if the deadline has passed; returns whether they became so.
    pub(super) fn note_stalled(&mut self, scan_interval: Duration, now: Monotonic) -> bool {
        let is_stalled = self.deadline(scan_interval).is_some_and(|at| at <= now);
        if is_stalled {
            self.reach = Reach::Stalled;
        }
        is_stalled
    }

    pub(super) fn scan_begun(&mut self, now: Monotonic) {
        self.active_at.get_or_insert(now);
    }

    /// A scan ended or showed something. Returns whether scans were stalled.
    pub(super) fn record_scan_activity(&mut self, now: Monotonic) -> bool {
        self.active_at = Some(now);
        let was_stalled = matches!(self.reach, Reach::Stalled);
        if was_stalled {
            self.reach = Reach::Readable;
        }
        was_stalled
    }

    /// A scan ended before it saw anything.
    pub(super) fn scan_failed(&mut self, failure: Failure) {
        let reason = failure.message;
        let other = match std::mem::replace(&mut self.reach, Reach::Readable) {
            Reach::Away { other, .. } => other,
            Reach::Readable | Reach::Stalled | Reach::Failed(_) => None,
        };
        self.reach = match failure.kind == FailureKind::SourceAway {
            true => Reach::Away { reason, other },
            false => Reach::Failed(reason),
        };
    }

    /// Another directory is at its path than the one whose files are known.
    pub(super) fn found_other(&mut self, other: RootIdentity, reason: String) {
        self.reach = Reach::Away { reason, other: Some(other) };
    }

    /// Returns whether another directory is at the path.
    pub(in crate::engine) fn has_other(&self) -> bool {
        matches!(&self.reach, Reach::Away { other: Some(_), .. })
    }

    /// Accepts the other directory at its path. Returns whether there is one.
    pub(super) fn accept_other(&mut self) -> bool {
        let Reach::Away { other, .. } = &mut self.reach else { return false };
        let Some(other) = other.take() else { return false };
        self.root = Some(other);
        true
    }

    /// A scan ended, so the directory is there; its identity counts if it is not empty. Returns
    /// whether it was away.
    pub(super) fn scan_ended(&mut self, root: RootIdentity, is_empty: bool) -> bool {
        if !is_empty {
            self.root.get_or_insert(root);
        }
        self.is_scanned = true;
        let was_away = self.is_away();
        self.reach = Reach::Readable;
        was_away
    }

    /// Sets the identity of the directory when files are seen before the first scan ends.
    pub(super) fn note_root(&mut self, root: Option<RootIdentity>, seen: &[Observation]) {
        let is_file = |one: &Observation| matches!(one.seen, Seen::File(_) | Seen::Unreadable(..));
        if let Some(root) = root.filter(|_| seen.iter().any(is_file)) {
            self.root.get_or_insert(root);
        }
    }

    pub(super) fn load_root(&mut self, root: RootIdentity) {
        self.root = Some(root);
    }

    pub(super) fn set_free_space(&mut self, free: Option<ByteCount>) {
        self.free_space = free;
    }

    pub(super) fn set_watch(&mut self, watch: WatchState, reason: Option<String>) {
        self.watch = watch;
        self.watch_reason = reason;
    }

    pub(super) fn note_unrest(&mut self, unrest: Option<String>) {
        self.unrest = unrest;
    }

    /// Records whether the ended scan saw everything that it looked at.
    pub(super) fn scan_saw(&mut self, all: bool, scan_interval: Duration, now: Monotonic) {
        let since = self.partial.map_or(now, |partial| partial.since);
        let is_long = now.since(since) >= scan_interval.saturating_mul(STALLED_INTERVALS);
        self.partial = (!all).then_some(Partial { since, is_long });
    }

    /// A scan ended that left out no run; `unseen` is what it could not look at.
    pub(super) fn scan_was_full(&mut self, unseen: BTreeSet<SourcePath>, at: WallTime) {
        if unseen.is_empty() {
            self.last_full_scan_at = Some(at);
        }
        self.last_walk = Some((at, unseen));
    }

    /// Returns the row, when it differs from what was last written. `unseen` describes what scans miss.
    pub(super) fn row(
        &mut self,
        settings: &DirectorySettings,
        settling_count: usize,
        unseen: impl FnOnce() -> String,
    ) -> Option<DirectoryHealth> {
        let (watch, reason) = match self.scan_failure() {
            Some(failure) => (WatchState::Deaf, Some(failure.to_owned())),
            None => {
                let missed = self.partial.map(|partial| {
                    let lasting =
                        if partial.is_long { ", for two scan intervals or longer" } else { "" };
                    format!("{}{lasting}", unseen())
                });
                let said = [self.watch_reason.clone(), missed, self.unrest.clone()];
                let parts: Vec<_> = said.into_iter().flatten().collect();
                (self.watch, (!parts.is_empty()).then(|| parts.join("; ")))
            }
        };
        let row = DirectoryHealth {
            drop: settings.name.clone(),
            directory: settings.directory.clone(),
            watch,
            reason,
            last_full_scan_at: self.last_full_scan_at,
            settling_count: settling_count as u64,
            root: self.root.clone(),
            is_scanned: self.is_scanned,
        };
        (self.written.as_ref() != Some(&row)).then(|| {
            self.written = Some(row.clone());
            row
        })
    }
}

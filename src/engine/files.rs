//! One drop directory as the engine sees it: what is known, what settles, what is ignored.
//!
//! Takes observations and says what follows from each ([`Notice`]); admitting, parking and
//! releasing uploads is the engine's. A known file whose version has not changed costs one look-up
//! in a scan and nothing between scans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::compare::Comparing;
use super::dispose::Waiting;
use super::event::ActId;
use super::hearing::Hearing;
use super::known::KnownFiles;
use super::runs::Units;
use super::settings::DirectorySettings;
use super::settle::Settle;
use crate::model::{
    ByteCount, DirectoryHealth, Fingerprint, IgnoreReason, Monotonic, Now, Observation, PathDigest,
    Seen, SourcePath, UploadId, WallTime, WatchState,
};

/// So many scan intervals after its last change a completed run is at rest, and so many after the last
/// full scan another is made: at the usual five minutes an hour.
const REST_INTERVALS: u32 = 12;

/// A drop directory.
#[derive(Debug)]
pub(crate) struct Files {
    /// What was configured.
    pub(crate) settings: DirectorySettings,
    /// Files that are not settled.
    pub(crate) settle: Settle,
    /// Files that are quiet and may be what was sent: touched since, or moved.
    pub(crate) comparing: BTreeMap<SourcePath, Comparing>,
    /// Of these, those of which it is still to be asked whether they were moved.
    pub(crate) unplaced: Vec<SourcePath>,
    /// Files that were admitted, in their newest version.
    pub(crate) known: KnownFiles,
    /// Paths that are never uploaded; a run may have as many of them as files.
    pub(crate) ignored: BTreeMap<PathDigest, IgnoreReason>,
    /// Of these, directories that may not be read.
    pub(crate) unreadable: BTreeSet<SourcePath>,
    /// How it is watched, and why not by events.
    pub(crate) watch: (WatchState, Option<String>),
    /// Whether it is there, and whether scans tell anything.
    pub(crate) hearing: Hearing,
    /// End of the last scan that saw everything.
    pub(crate) last_full_scan_at: Option<WallTime>,
    /// A look is under way. One at a time: the next one waits until what this one settled is
    /// committed, so that memory never holds more than one look's admissions ahead of the disk.
    pub(crate) is_looking: bool,
    /// When to scan, or the scan under way.
    pub(crate) scan: Scan,
    /// A scan was asked for while one was under way.
    pub(crate) scan_again: bool,
    /// When the last scan began.
    pub(crate) scan_started: Monotonic,
    /// The scan looks at everything, also where nothing has happened for long.
    pub(crate) scan_is_full: bool,
    /// A scan has come to its end since the start.
    pub(crate) is_scanned: bool,
    /// The next scan must look everywhere.
    pub(crate) must_scan_all: bool,
    /// What the scan under way sees does not count: it is not known what was sent.
    pub(crate) is_scan_void: bool,
    /// When the last scan began that left out nothing.
    pub(crate) full_scan_at: Option<Monotonic>,
    pub(crate) scan_wanted: Option<Monotonic>,
    /// Its runs.
    pub(crate) runs: Units,
    /// Free space on its file system, at the last scan.
    pub(crate) free_space: Option<ByteCount>,
    /// Sources that are to be disposed of.
    pub(crate) disposals: BTreeMap<SourcePath, Waiting>,
    /// The row as last written.
    pub(crate) told: Option<DirectoryHealth>,
}

/// When a drop directory is scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scan {
    /// At this time.
    Due(Monotonic),
    /// This act is a scan of it.
    Running(ActId),
}

/// What follows from one observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Nothing.
    Nothing,
    /// The file is settled: admit it.
    Settled {
        /// Which version.
        version: Fingerprint,
        /// Why it may not be read, when it may not.
        unreadable: Option<String>,
    },
    /// The file is settled, and may be one that was sent under another path.
    MaybeMoved(Fingerprint),
    /// The file was touched since it was sent, and is quiet again: compare it.
    Touched(Fingerprint),
    /// The file is another version than the one these uploads were planned for.
    Changed(Vec<UploadId>),
    /// The file is the version these uploads were planned for, and can be read.
    Readable(Vec<UploadId>),
    /// The file of these uploads is not there.
    Gone(Vec<UploadId>),
    /// The path is not uploaded; the reason was not known before.
    NewlyIgnored(IgnoreReason),
}

/// How close an observation was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closeness {
    /// A scan: the file was not opened.
    Scan,
    /// A look: the file was opened.
    Look,
}

impl Files {
    /// Starts knowing nothing, with a scan due at once.
    pub(crate) fn new(settings: DirectorySettings, now: Monotonic) -> Self {
        Self {
            settle: Settle::new(settings.quiet_period),
            settings,
            comparing: BTreeMap::new(),
            unplaced: Vec::new(),
            known: KnownFiles::default(),
            ignored: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            watch: (WatchState::Scanning, None),
            hearing: Hearing::default(),
            last_full_scan_at: None,
            is_looking: false,
            scan: Scan::Due(now),
            scan_again: false,
            scan_started: now,
            scan_is_full: true,
            is_scanned: false,
            must_scan_all: false,
            is_scan_void: false,
            full_scan_at: None,
            scan_wanted: None,
            runs: Units::default(),
            free_space: None,
            disposals: BTreeMap::new(),
            told: None,
        }
    }

    /// Returns how many files are not settled, or settled and not known to be what was sent.
    pub(crate) fn settling_count(&self) -> usize {
        self.settle.len() + self.comparing.len()
    }

    /// Notes that a path is never uploaded.
    pub(crate) fn ignore(&mut self, path: PathDigest, reason: IgnoreReason) {
        self.ignored.insert(path, reason);
    }

    /// All destinations of the drop, as a set of positions.
    pub(crate) fn all_destinations(&self) -> u64 {
        let count = self.settings.destinations.len();
        if count >= 64 { u64::MAX } else { (1 << count) - 1 }
    }

    /// Begins a scan, and returns the directories that it leaves out. One that was asked for because
    /// something may have happened anywhere leaves out none.
    pub(crate) fn begin_scan(&mut self, now: Monotonic) -> Arc<BTreeSet<SourcePath>> {
        self.scan_started = now;
        self.is_scan_void = false;
        self.scan_wanted = None;
        let rest = self.settings.scan_interval.saturating_mul(REST_INTERVALS);
        let is_due = self.full_scan_at.is_none_or(|at| now.since(at) >= rest);
        let is_full = std::mem::take(&mut self.must_scan_all) || is_due;
        let since = Monotonic(now.0.saturating_sub(rest));
        let skipped = self.runs.begin_scan((!is_full && now.0 >= rest).then_some(since));
        self.scan_is_full = skipped.is_empty();
        if self.scan_is_full {
            self.full_scan_at = Some(now);
        }
        Arc::new(skipped)
    }

    /// Has the next scan made no later than this; but never without a pause after the last.
    pub(crate) fn want_scan(&mut self, at: Monotonic) {
        match &mut self.scan {
            Scan::Due(due) => *due = at.min(*due),
            Scan::Running(_) => {
                self.scan_wanted = Some(self.scan_wanted.map_or(at, |wanted| wanted.min(at)));
            }
        }
    }

    /// Returns when the next scan is due after one that has ended.
    pub(crate) fn next_scan(&self, pause: Duration, now: Monotonic) -> Monotonic {
        let regular = now.after(pause);
        let soonest = now.after(self.settings.quiet_period.min(pause));
        self.scan_wanted.map_or(regular, |wanted| wanted.max(soonest).min(regular))
    }

    /// Takes one observation and says what follows. Changed files become candidates here.
    pub(crate) fn observe(&mut self, seen: &Observation, closeness: Closeness, now: Now) -> Notice {
        if let Seen::File(version) | Seen::Unreadable(version, _) = &seen.seen {
            let file = (&seen.path, seen.place, *version);
            let is_new = self.runs.notice(&self.settings.name, file, closeness, now);
            if is_new && self.settings.closing.reads_runs {
                self.want_scan(now.monotonic);
            }
        }
        let now = now.monotonic;
        match &seen.seen {
            Seen::File(version) => self.observe_file(seen, (*version, None), closeness, now),
            Seen::Unreadable(version, why) => {
                self.observe_file(seen, (*version, Some(why)), closeness, now)
            }
            Seen::Ignored(reason) => {
                self.forget_settling(&seen.path);
                let before = self.ignored.insert(seen.path.digest(), *reason);
                if *reason == IgnoreReason::DirectoryUnreadable {
                    self.unreadable.insert(seen.path.clone());
                }
                if before == Some(*reason) {
                    Notice::Nothing
                } else {
                    Notice::NewlyIgnored(*reason)
                }
            }
            Seen::Gone => {
                self.forget_settling(&seen.path);
                Notice::Gone(self.known.live(seen.path.digest()))
            }
        }
    }

    fn observe_file(
        &mut self,
        seen: &Observation,
        found: (Fingerprint, Option<&String>),
        closeness: Closeness,
        now: Monotonic,
    ) -> Notice {
        let (path, (version, unreadable)) = (&seen.path, found);
        let digest = path.digest();
        let (covered, live) = (self.known.covered(digest, &version), self.known.live(digest));
        if covered == Some(self.all_destinations()) {
            self.settle.forget(path);
            return match (live.is_empty(), unreadable) {
                (true, _) | (false, Some(_)) => Notice::Nothing,
                (false, None) => Notice::Readable(live),
            };
        }
        if covered.is_none() && !live.is_empty() {
            self.settle.scanned(path, version, now);
            if closeness == Closeness::Look {
                self.settle.retry(path, now);
            }
            return Notice::Changed(live);
        }
        let is_touched = self.known.is_touched(digest, &version);
        let may_go = !self.is_comparing(path, &version)
            && match is_touched {
                true => unreadable.is_none(),
                false => self.runs.admits(path, seen.place, &self.settings),
            };
        if !may_go {
            self.settle.forget(path);
            return Notice::Nothing;
        }
        match closeness {
            Closeness::Scan => {
                self.settle.scanned(path, version, now);
                Notice::Nothing
            }
            Closeness::Look if !self.settle.looked(path, version, now) => Notice::Nothing,
            Closeness::Look if is_touched => Notice::Touched(version),
            Closeness::Look
                if unreadable.is_none() && self.known.may_be_moved(digest, &version) =>
            {
                Notice::MaybeMoved(version)
            }
            Closeness::Look => Notice::Settled { version, unreadable: unreadable.cloned() },
        }
    }

    /// Takes the files to look at now, at most `limit`; none while a look is under way.
    pub(crate) fn take_look(&mut self, now: Monotonic, limit: usize) -> Vec<SourcePath> {
        if self.is_looking {
            return Vec::new();
        }
        let paths = self.settle.take_due(now, limit);
        self.is_looking = !paths.is_empty();
        paths
    }

    /// Returns the row, when it differs from what was last written.
    pub(crate) fn health(&mut self) -> Option<DirectoryHealth> {
        let deafness = self.hearing.deafness();
        let watch = if deafness.is_some() { WatchState::Deaf } else { self.watch.0 };
        let parts: Vec<_> = match deafness {
            Some(deafness) => vec![deafness.to_owned()],
            None => self.watch.1.clone().into_iter().chain(self.missed()).collect(),
        };
        let health = DirectoryHealth {
            drop: self.settings.name.clone(),
            directory: self.settings.directory.clone(),
            watch,
            reason: (!parts.is_empty()).then(|| parts.join("; ")),
            last_full_scan_at: self.last_full_scan_at,
            settling_count: self.settling_count() as u64,
            root: self.hearing.root.clone(),
        };
        (self.told.as_ref() != Some(&health)).then(|| {
            self.told = Some(health.clone());
            health
        })
    }
}

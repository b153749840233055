//! One drop directory as the engine sees it: what is known, what settles, what is ignored.
//!
//! Takes observations and says what follows from each ([`Notice`]); admitting, parking and
//! releasing uploads is the engine's. A known file whose version has not changed costs one look-up
//! in a scan and nothing between scans.

use std::collections::BTreeMap;

use super::event::ActId;
use super::known::KnownFiles;
use super::settings::DropSettings;
use super::settle::Settle;
use crate::model::{
    DropHealth, Fingerprint, IgnoreReason, Monotonic, Observation, PathDigest, Seen, SourcePath,
    UploadId, WallTime, WatchState,
};

/// A drop directory.
#[derive(Debug)]
pub(crate) struct Files {
    /// What was configured.
    pub(crate) settings: DropSettings,
    /// Files that are not settled.
    pub(crate) settle: Settle,
    /// Files that were admitted, in their newest version.
    pub(crate) known: KnownFiles,
    /// Paths that are never uploaded; a run may have as many of them as files.
    pub(crate) ignored: BTreeMap<PathDigest, IgnoreReason>,
    /// How it is watched, and why not by events.
    pub(crate) watch: (WatchState, Option<String>),
    /// Why the last scan did not see the directory.
    pub(crate) scan_failure: Option<String>,
    /// End of the last scan that saw everything.
    pub(crate) last_full_scan_at: Option<WallTime>,
    /// A look is under way. One at a time: the next one waits until what this one settled is
    /// committed, so that memory never holds more than one look's admissions ahead of the disk.
    pub(crate) is_looking: bool,
    /// When to scan, or the scan under way.
    pub(crate) scan: Scan,
    /// A scan was asked for while one was under way.
    pub(crate) scan_again: bool,
    /// The row as last written.
    pub(crate) told: Option<DropHealth>,
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
    pub(crate) fn new(settings: DropSettings, now: Monotonic) -> Self {
        Self {
            settle: Settle::new(settings.quiet_period),
            settings,
            known: KnownFiles::default(),
            ignored: BTreeMap::new(),
            watch: (WatchState::Scanning, None),
            scan_failure: None,
            last_full_scan_at: None,
            is_looking: false,
            scan: Scan::Due(now),
            scan_again: false,
            told: None,
        }
    }

    /// All destinations of the drop, as a set of positions.
    pub(crate) fn all_destinations(&self) -> u64 {
        let count = self.settings.destinations.len();
        if count >= 64 { u64::MAX } else { (1 << count) - 1 }
    }

    /// Takes one observation and says what follows. Changed files become candidates here.
    pub(crate) fn observe(
        &mut self,
        seen: &Observation,
        closeness: Closeness,
        now: Monotonic,
    ) -> Notice {
        match &seen.seen {
            Seen::File(version) => self.observe_file(&seen.path, (*version, None), closeness, now),
            Seen::Unreadable(version, why) => {
                self.observe_file(&seen.path, (*version, Some(why)), closeness, now)
            }
            Seen::Ignored(reason) => {
                self.settle.forget(&seen.path);
                let before = self.ignored.insert(seen.path.digest(), *reason);
                if before == Some(*reason) {
                    Notice::Nothing
                } else {
                    Notice::NewlyIgnored(*reason)
                }
            }
            Seen::Gone => {
                self.settle.forget(&seen.path);
                Notice::Gone(self.known.live(seen.path.digest()))
            }
        }
    }

    fn observe_file(
        &mut self,
        path: &SourcePath,
        found: (Fingerprint, Option<&String>),
        closeness: Closeness,
        now: Monotonic,
    ) -> Notice {
        let (version, unreadable) = found;
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
        match closeness {
            Closeness::Scan => {
                self.settle.scanned(path, version, now);
                Notice::Nothing
            }
            Closeness::Look if self.settle.looked(path, version, now) => {
                Notice::Settled { version, unreadable: unreadable.cloned() }
            }
            Closeness::Look => Notice::Nothing,
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

    /// Returns when something is due by itself.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        let scan = match self.scan {
            Scan::Due(at) => Some(at),
            Scan::Running(_) => None,
        };
        let look = self.settle.next_deadline().filter(|_| !self.is_looking);
        scan.into_iter().chain(look).min()
    }

    /// Returns the row, when it differs from what was last written.
    pub(crate) fn health(&mut self) -> Option<DropHealth> {
        let watch = if self.scan_failure.is_some() { WatchState::Deaf } else { self.watch.0 };
        let health = DropHealth {
            drop: self.settings.name.clone(),
            directory: self.settings.directory.clone(),
            watch,
            reason: self.scan_failure.clone().or_else(|| self.watch.1.clone()),
            last_full_scan_at: self.last_full_scan_at,
            settling_count: self.settle.len() as u64,
        };
        (self.told.as_ref() != Some(&health)).then(|| {
            self.told = Some(health.clone());
            health
        })
    }
}

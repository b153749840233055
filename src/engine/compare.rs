//! Files that were touched after they were sent: is their content still what was sent?
//!
//! A known file whose time of change alone is another one may have been given another mode, owner or
//! link, or another content in the same inode, of the same length, with its time of modification set
//! back. Once it is quiet it is read here and compared with the digests that the rows have of it. The
//! same: its rows take the time of change, and nothing is sent. Another: it is a new version like any.
//!
//! Few are read at once ([`COMPARES_MAX`]), for a `chmod -R` touches a whole archive; the others wait
//! in the order of their paths. While the drop directory is away none is read.
//!
//! At a crash nothing is stored that is not so: a scan finds the file touched again.

use std::ops::Bound::{Included, Unbounded};

use super::event::{Act, ActId, Outcome, Setback};
use super::files::Files;
use super::turn::Turn;
use super::{Engine, Flight, FlightKind};
use crate::model::{DropName, FailureKind, Fingerprint, Record, SourcePath};

/// Files read at once: reading them must not slow down what is written beside them.
const COMPARES_MAX: usize = 2;

/// A file that is compared, or waits for it.
#[derive(Debug)]
pub(crate) struct Comparing {
    /// Which version.
    version: Fingerprint,
    /// It is being read.
    act: Option<ActId>,
}

impl Files {
    /// Lines a touched file up to be compared.
    pub(crate) fn queue_compare(&mut self, path: &SourcePath, version: Fingerprint) {
        self.comparing.insert(path.clone(), Comparing { version, act: None });
    }

    /// Tells whether a file is compared in this version. One that is another by now is not any more.
    pub(crate) fn is_comparing(&mut self, path: &SourcePath, version: &Fingerprint) -> bool {
        let is_same = self.comparing.get(path).map(|file| file.version.is_untouched(version));
        if is_same == Some(false) {
            self.comparing.remove(path);
        }
        is_same == Some(true)
    }

    /// Tells whether any file below a directory is compared.
    pub(crate) fn is_comparing_below(&self, directory: &SourcePath) -> bool {
        let below = [directory.as_bytes(), b"/"].concat();
        let mut from = self.comparing.range::<[u8], _>((Included(below.as_slice()), Unbounded));
        from.next().is_some_and(|(path, _)| path.as_bytes().starts_with(&below))
    }

    /// Drops what was lined up for a path.
    pub(crate) fn forget_settling(&mut self, path: &SourcePath) {
        self.settle.forget(path);
        self.comparing.remove(path);
    }
}

impl Engine {
    /// Has touched files read, a few at once.
    pub(super) fn compare(&mut self, drop: &DropName, turn: &mut Turn) {
        let is_compare = |flight: &&Flight| matches!(flight.kind, FlightKind::Compare(..));
        let Some(files) = self.drops.get(drop).filter(|files| !files.hearing.is_away()) else {
            return;
        };
        if files.comparing.is_empty() {
            return;
        }
        let room = COMPARES_MAX.saturating_sub(self.flights.values().filter(is_compare).count());
        // Those that are being read are few, and stand anywhere among those that wait.
        let waiting = files.comparing.iter().filter(|(_, file)| file.act.is_none()).take(room);
        let next: Vec<_> = waiting.map(|(path, file)| (path.clone(), file.version)).collect();
        for (path, fingerprint) in next {
            let kind = FlightKind::Compare(drop.clone(), path.clone());
            let act = Act::CompareContent { drop: drop.clone(), path: path.clone(), fingerprint };
            let id = self.start(Flight { kind, upload: None, destination: None }, act, turn);
            let files = self.drops.get_mut(drop);
            if let Some(file) = files.and_then(|files| files.comparing.get_mut(&path)) {
                file.act = Some(id);
            }
        }
    }

    pub(super) fn on_compared(
        &mut self,
        (drop, path): (&DropName, &SourcePath),
        act: ActId,
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let now = turn.now.monotonic;
        let Some(files) = self.drops.get_mut(drop) else { return };
        if files.comparing.get(path).is_none_or(|file| file.act != Some(act)) {
            return;
        }
        let Some(Comparing { version, .. }) = files.comparing.remove(path) else { return };
        match reply {
            Ok(Outcome::Compared { is_same: true }) => {
                files.known.proved(path.digest(), &version);
                turn.record(Record::Touched {
                    drop: drop.clone(),
                    path: path.clone(),
                    fingerprint: version,
                });
                let covered = files.known.covered(path.digest(), &version);
                if covered != Some(files.all_destinations()) {
                    files.settle.hint(path.clone(), now);
                }
            }
            Ok(Outcome::Compared { is_same: false }) => {
                files.known.forget(path.digest());
                files.settle.scanned(path, version, now);
            }
            Ok(other) => debug_assert!(false, "an outcome of another act: {other:?}"),
            // What became of it, a look tells; what could not be read is read again after it.
            Err(Setback { failure, .. }) if failure.kind != FailureKind::Cancelled => {
                files.settle.scanned(path, version, now);
                files.settle.retry(path, now);
            }
            Err(_) => files.settle.scanned(path, version, now),
        }
        self.tell_drop(drop, turn);
    }
}

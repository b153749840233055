//! Files that may already have been sent: touched since, or moved.
//!
//! A known file of the same length with another inode or time may have another mode, owner, link,
//! inode number or time, or other content. Once it is quiet it is read and compared with the
//! digests in its rows. If they are equal, its rows are updated and nothing is sent; else it is a
//! new version.
//!
//! An unknown file whose inode, size and time are those of a sent file may have been moved. The rows and
//! the disk are asked: a file was moved if it has its receipt at every destination and its old path does
//! not exist any more; a copy and a hard link are files of their own. Renaming a directory changes
//! nothing in its files, so they are trusted. Renaming a file changes its time of change, as creating
//! another one in its inode does, so it is read and compared like a touched file. A moved file is known
//! under its new path from then on, and has a row among the ignored ones.
//!
//! Few are read at once, because a `chmod -R` touches a whole archive; the others wait in the order
//! of their paths. None is read or asked about while the drop directory is unreadable.
//!
//! A crash loses only the result: a scan finds the file touched, or moved, again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Included, Unbounded};

use super::act::IntakeAct;
use super::turn::IntakeTurn;
use crate::engine::event::{Act, ActId, MovedFrom, Outcome, Setback};
use crate::model::{FailureKind, Fingerprint, Place, SourcePath, UploadId};

/// Files in one question, as many as in a look.
const ASKED_MAX: usize = 1000;

/// The files of one drop directory that are compared, or wait for it.
#[derive(Debug, Default)]
pub(super) struct Comparisons {
    files: BTreeMap<SourcePath, Comparison>,
    /// Those for which the question whether they were moved is open.
    unplaced: Vec<SourcePath>,
}

#[derive(Debug)]
struct Comparison {
    version: Fingerprint,
    check: Check,
    /// The act that reads it or asks about it.
    act: Option<ActId>,
}

/// The question about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// Is it what was sent under its path?
    Touched,
    /// Was it sent under another path that is gone?
    Origin(Place),
    /// Is it what was sent under another path by this upload?
    Moved(Place, UploadId),
}

/// The result of comparing a file.
#[derive(Debug)]
pub(super) enum Compared {
    /// Its content is what was sent under its path.
    Unchanged(Fingerprint),
    /// This upload sent it under another path.
    Moved(Fingerprint, Place, UploadId),
    /// It was sent under no other path.
    New(Fingerprint, Place),
    /// Its content differs from what was sent under its path.
    Changed(Fingerprint),
    /// The act was cancelled.
    Cancelled(Fingerprint),
    /// It could not be read or asked about.
    Failed(Fingerprint),
}

impl Comparisons {
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &SourcePath> {
        self.files.keys()
    }

    /// Queues a touched file.
    pub(super) fn queue_touched(&mut self, path: &SourcePath, version: Fingerprint) {
        self.files.insert(path.clone(), Comparison { version, check: Check::Touched, act: None });
    }

    /// Queues a file that may have been moved.
    pub(super) fn queue_origin(&mut self, path: &SourcePath, place: Place, version: Fingerprint) {
        let check = Check::Origin(place);
        self.files.insert(path.clone(), Comparison { version, check, act: None });
        self.unplaced.push(path.clone());
    }

    pub(super) fn forget(&mut self, path: &SourcePath) {
        self.files.remove(path);
    }

    pub(super) fn clear(&mut self) {
        self.files.clear();
        self.unplaced.clear();
    }

    /// Returns whether a file is being compared in this version; drops it if it has another version.
    pub(super) fn has(&mut self, path: &SourcePath, version: &Fingerprint) -> bool {
        let is_same = self.files.get(path).map(|file| file.version.same_stamp(version));
        if is_same == Some(false) {
            self.files.remove(path);
        }
        is_same == Some(true)
    }

    /// Returns a file below a directory that is being compared.
    pub(super) fn any_below(&self, directory: &SourcePath) -> Option<&SourcePath> {
        let below = [directory.as_bytes(), b"/"].concat();
        let mut from = self.files.range::<[u8], _>((Included(below.as_slice()), Unbounded));
        from.next().map(|(path, _)| path).filter(|path| path.as_bytes().starts_with(&below))
    }

    /// Reads a few files at once, and asks about those that may have been moved.
    pub(super) fn advance(&mut self, turn: &mut IntakeTurn<'_>) {
        if self.files.is_empty() {
            return;
        }
        self.find_moved(turn);
        let against = |check| match check {
            Check::Touched => Some(None),
            Check::Moved(_, upload) => Some(Some(upload)),
            Check::Origin(_) => None,
        };
        let waiting = self.files.iter_mut().filter(|(_, file)| file.act.is_none());
        let ready = waiting.filter_map(|(path, file)| Some((path, against(file.check)?, file)));
        for (path, against, file) in ready.take(turn.compare_slots()) {
            let (drop, fingerprint) = (turn.directory(), file.version);
            let act = Act::CompareContent { drop, path: path.clone(), fingerprint, against };
            file.act = Some(turn.start(IntakeAct::Compare(path.clone()), act));
        }
    }

    /// Asks about files that may have been moved, one batch at a time.
    fn find_moved(&mut self, turn: &mut IntakeTurn<'_>) {
        if self.unplaced.is_empty() || turn.is_finding_moved() {
            return;
        }
        let count = self.unplaced.len().min(ASKED_MAX);
        let batch: BTreeSet<_> = self.unplaced.drain(..count).collect();
        let is_unasked =
            |file: &&Comparison| matches!(file.check, Check::Origin(_)) && file.act.is_none();
        let asked = |path: SourcePath| {
            let version = self.files.get(&path).filter(is_unasked)?.version;
            Some((path, version))
        };
        let asked: Vec<_> = batch.into_iter().filter_map(asked).collect();
        if asked.is_empty() {
            return;
        }
        let paths: Vec<_> = asked.iter().map(|(path, _)| path.clone()).collect();
        let act = Act::FindMoved { drop: turn.directory(), files: asked };
        let id = turn.start(IntakeAct::FindMoved(paths.clone()), act);
        for path in paths {
            if let Some(file) = self.files.get_mut(&path) {
                file.act = Some(id);
            }
        }
    }

    /// Receives the comparison of one file; returns `None` when it is not wanted any more.
    pub(super) fn compared(
        &mut self,
        path: &SourcePath,
        act: ActId,
        reply: Result<Outcome, Setback>,
    ) -> Option<Compared> {
        let Comparison { version, check, .. } = self.remove(path, act)?;
        match (reply, check) {
            (Ok(Outcome::Compared { is_same: true }), Check::Moved(place, upload)) => {
                Some(Compared::Moved(version, place, upload))
            }
            (Ok(Outcome::Compared { is_same: false }), Check::Moved(place, _)) => {
                Some(Compared::New(version, place))
            }
            (Ok(Outcome::Compared { is_same: true }), Check::Touched | Check::Origin(_)) => {
                Some(Compared::Unchanged(version))
            }
            (Ok(Outcome::Compared { is_same: false }), Check::Touched | Check::Origin(_)) => {
                Some(Compared::Changed(version))
            }
            (Ok(other), _) => {
                debug_assert!(false, "an outcome of another act: {other:?}");
                None
            }
            (Err(Setback { failure, .. }), _) if failure.kind == FailureKind::Cancelled => {
                Some(Compared::Cancelled(version))
            }
            (Err(_), _) => Some(Compared::Failed(version)),
        }
    }

    /// Receives which files of a batch were moved. Those that must still be read are queued again.
    pub(super) fn origins_found<'a>(
        &mut self,
        act: ActId,
        paths: &'a [SourcePath],
        reply: Result<Outcome, Setback>,
    ) -> Vec<(&'a SourcePath, Compared)> {
        let found = match reply {
            Ok(Outcome::MovedFound(found)) => Some(found),
            Ok(other) => {
                debug_assert!(false, "an outcome of another act: {other:?}");
                None
            }
            Err(_) => None,
        };
        let of = |number: usize| found.as_ref().and_then(|found| found.get(number).copied());
        let compared = |(number, path)| Some((path, self.origin_found(path, act, of(number))?));
        paths.iter().enumerate().filter_map(compared).collect()
    }

    /// `found` is `None` when the batch failed.
    fn origin_found(
        &mut self,
        path: &SourcePath,
        act: ActId,
        found: Option<Option<MovedFrom>>,
    ) -> Option<Compared> {
        let file = self.remove(path, act)?;
        let Check::Origin(place) = file.check else { return None };
        match found {
            None => Some(Compared::Failed(file.version)),
            Some(None) => Some(Compared::New(file.version, place)),
            Some(Some(MovedFrom { upload, is_untouched: true })) => {
                Some(Compared::Moved(file.version, place, upload))
            }
            Some(Some(MovedFrom { upload, is_untouched: false })) => {
                let check = Check::Moved(place, upload);
                self.files.insert(path.clone(), Comparison { check, act: None, ..file });
                None
            }
        }
    }

    /// Removes a file whose answer has come, if it is still wanted.
    fn remove(&mut self, path: &SourcePath, act: ActId) -> Option<Comparison> {
        let is_it = self.files.get(path).is_some_and(|file| file.act == Some(act));
        if is_it { self.files.remove(path) } else { None }
    }
}

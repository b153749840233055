//! Files that may be what was sent already: touched since, or moved.
//!
//! A known file whose time of change alone is another one may have been given another mode, owner or
//! link, or another content in the same inode, of the same length, with its time of modification set
//! back. Once it is quiet it is read here and compared with the digests that the rows have of it. The
//! same: its rows take the time of change, and nothing is sent. Another: it is a new version like any.
//!
//! A file that is not known, but whose inode, size and time are those of one that was sent, may have
//! been moved. The rows and the disk are asked: moved is what has its receipt at every destination
//! and stands under its old path no more; a copy and a hard link are files of their own. To rename a
//! directory changes nothing in its files, and they are believed. To rename a file moves its time of
//! change, as making another one in its inode does, so it is read and compared like one that was
//! touched. What was moved is known under its new path from then on, and is a row of what is ignored.
//!
//! Few are read at once ([`COMPARES_MAX`]), for a `chmod -R` touches a whole archive; the others wait
//! in the order of their paths. While the drop directory is away none is read or asked about.
//!
//! At a crash nothing is stored that is not so: a scan finds the file touched, or moved, again.

use std::ops::Bound::{Included, Unbounded};

use super::event::{Act, ActId, MovedFrom, Outcome, Setback};
use super::files::Files;
use super::intake::IntakeAct;
use super::sources::Settled;
use super::turn::Turn;
use super::{Engine, Flight, FlightKind};
use crate::model::{
    DirectoryName, FailureKind, Fingerprint, Monotonic, Place, Record, SourcePath, UploadId,
};

/// Files read at once: reading them must not slow down what is written beside them.
const COMPARES_MAX: usize = 2;
/// Files that are asked about at once, as in a look.
const ASKED_MAX: usize = 1000;

/// A file that is compared, or waits for it.
#[derive(Debug)]
pub(crate) struct Comparing {
    /// Which version.
    version: Fingerprint,
    /// What is to be found out.
    question: Question,
    /// It is being read or asked about.
    act: Option<ActId>,
}

/// What is to be found out about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// Is it what was sent under its path?
    Touched,
    /// Was it sent under another path that is gone?
    Whence(Place),
    /// Is it what was sent under another path by this upload?
    Moved(Place, UploadId),
}

impl Files {
    /// Lines a touched file up to be compared.
    pub(crate) fn queue_compare(&mut self, path: &SourcePath, version: Fingerprint) {
        let comparing = Comparing { version, question: Question::Touched, act: None };
        self.comparing.insert(path.clone(), comparing);
    }

    /// Lines up a file of which it is to be asked whether it was moved.
    pub(crate) fn queue_find(&mut self, path: &SourcePath, place: Place, version: Fingerprint) {
        let comparing = Comparing { version, question: Question::Whence(place), act: None };
        self.comparing.insert(path.clone(), comparing);
        self.unplaced.push(path.clone());
    }

    /// Takes the files to ask about.
    fn take_unplaced(&mut self) -> Vec<(SourcePath, Fingerprint)> {
        let count = self.unplaced.len().min(ASKED_MAX);
        let taken = self.unplaced.drain(..count).collect::<std::collections::BTreeSet<_>>();
        let is_asked =
            |file: &&Comparing| matches!(file.question, Question::Whence(_)) && file.act.is_none();
        let asked = |path: SourcePath| {
            let version = self.comparing.get(&path).filter(is_asked)?.version;
            Some((path, version))
        };
        taken.into_iter().filter_map(asked).collect()
    }

    /// Takes a file whose answer has come, if it is still asked for.
    fn take_compared(&mut self, path: &SourcePath, act: ActId) -> Option<Comparing> {
        let is_it = self.comparing.get(path).is_some_and(|file| file.act == Some(act));
        if is_it { self.comparing.remove(path) } else { None }
    }

    /// What became of a file, a look tells; what could not be read is read again after it.
    fn compare_again(&mut self, path: &SourcePath, version: Fingerprint, now: Monotonic) {
        self.settle.scanned(path, version, now);
        self.settle.retry(path, now);
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
    /// Has touched files read, a few at once, and asks about those that may have been moved.
    pub(super) fn compare(&mut self, drop: &DirectoryName, turn: &mut Turn) {
        let Some(files) = self.drops.get(drop).filter(|files| !files.hearing.is_away()) else {
            return;
        };
        if files.comparing.is_empty() {
            return;
        }
        self.find_moved(drop, turn);
        let reads =
            self.flights.intake_acts().filter(|(_, act)| matches!(act, IntakeAct::Compare(_)));
        let room = COMPARES_MAX.saturating_sub(reads.count());
        let Some(files) = self.drops.get(drop) else { return };
        let ready = |file: &Comparing| match file.question {
            Question::Touched => file.act.is_none().then_some((file.version, None)),
            Question::Moved(_, upload) => {
                file.act.is_none().then_some((file.version, Some(upload)))
            }
            Question::Whence(_) => None,
        };
        let waiting = files.comparing.iter().filter_map(|(path, file)| Some((path, ready(file)?)));
        let next: Vec<_> = waiting.take(room).map(|(path, what)| (path.clone(), what)).collect();
        for (path, (fingerprint, against)) in next {
            let kind = FlightKind::Intake(drop.clone(), IntakeAct::Compare(path.clone()));
            let (drop_name, of) = (drop.clone(), path.clone());
            let act = Act::CompareContent { drop: drop_name, path: of, fingerprint, against };
            let id = self.start(Flight { kind, upload: None, destination: None }, act, turn);
            self.note_asked(drop, &[path], id);
        }
    }

    /// Asks about files that may have been moved, one batch at a time.
    fn find_moved(&mut self, drop: &DirectoryName, turn: &mut Turn) {
        let is_find = |(of, act): (&DirectoryName, &IntakeAct)| {
            of == drop && matches!(act, IntakeAct::FindMoved(_))
        };
        let is_asking = self.flights.intake_acts().any(is_find);
        let Some(files) = self.drops.get_mut(drop).filter(|files| !files.unplaced.is_empty())
        else {
            return;
        };
        if is_asking {
            return;
        }
        let asked = files.take_unplaced();
        if asked.is_empty() {
            return;
        }
        let paths: Vec<_> = asked.iter().map(|(path, _)| path.clone()).collect();
        let kind = FlightKind::Intake(drop.clone(), IntakeAct::FindMoved(paths.clone()));
        let act = Act::FindMoved { drop: drop.clone(), files: asked };
        let id = self.start(Flight { kind, upload: None, destination: None }, act, turn);
        self.note_asked(drop, &paths, id);
    }

    fn note_asked(&mut self, drop: &DirectoryName, paths: &[SourcePath], act: ActId) {
        let Some(files) = self.drops.get_mut(drop) else { return };
        for path in paths {
            if let Some(file) = files.comparing.get_mut(path) {
                file.act = Some(act);
            }
        }
    }

    pub(super) fn on_compared(
        &mut self,
        (drop, path): (&DirectoryName, &SourcePath),
        act: ActId,
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let now = turn.now.monotonic;
        let Some(files) = self.drops.get_mut(drop) else { return };
        let Some(file) = files.take_compared(path, act) else { return };
        match (reply, file.question) {
            (Ok(Outcome::Compared { is_same: true }), Question::Moved(place, upload)) => {
                self.note_moved(drop, (path, place, file.version), upload, turn);
            }
            (Ok(Outcome::Compared { is_same: false }), Question::Moved(place, _)) => {
                let version = file.version;
                let settled = Settled {
                    path,
                    name: path,
                    place,
                    version,
                    unreadable: None,
                    provenance: None,
                };
                self.admit(drop, &settled, turn);
            }
            (Ok(Outcome::Compared { is_same: true }), Question::Touched | Question::Whence(_)) => {
                self.note_proved(drop, path, file.version, turn);
            }
            (Ok(Outcome::Compared { is_same: false }), Question::Touched | Question::Whence(_)) => {
                files.known.forget(path.digest());
                files.settle.scanned(path, file.version, now);
            }
            (Ok(other), _) => debug_assert!(false, "an outcome of another act: {other:?}"),
            (Err(Setback { failure, .. }), _) if failure.kind == FailureKind::Cancelled => {
                files.settle.scanned(path, file.version, now);
            }
            (Err(_), _) => files.compare_again(path, file.version, now),
        }
        self.tell_drop(drop, turn);
    }

    pub(super) fn on_moved_found(
        &mut self,
        drop: &DirectoryName,
        (act, paths): (ActId, &[SourcePath]),
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let found = match reply {
            Ok(Outcome::MovedFound(found)) => Some(found),
            Ok(other) => {
                debug_assert!(false, "an outcome of another act: {other:?}");
                None
            }
            Err(_) => None,
        };
        for (number, path) in paths.iter().enumerate() {
            let Some(files) = self.drops.get_mut(drop) else { return };
            let Some(file) = files.take_compared(path, act) else { continue };
            let Question::Whence(place) = file.question else { continue };
            match found.as_ref().and_then(|found| found.get(number).copied()) {
                None => files.compare_again(path, file.version, turn.now.monotonic),
                Some(None) => {
                    let settled = Settled {
                        path,
                        name: path,
                        place,
                        version: file.version,
                        unreadable: None,
                        provenance: None,
                    };
                    self.admit(drop, &settled, turn);
                }
                Some(Some(MovedFrom { upload, is_untouched: true })) => {
                    self.note_moved(drop, (path, place, file.version), upload, turn);
                }
                Some(Some(MovedFrom { upload, is_untouched: false })) => {
                    let question = Question::Moved(place, upload);
                    let comparing = Comparing { question, act: None, ..file };
                    files.comparing.insert(path.clone(), comparing);
                }
            }
        }
        self.tell_drop(drop, turn);
    }

    /// A touched file is what was sent.
    fn note_proved(
        &mut self,
        drop: &DirectoryName,
        path: &SourcePath,
        version: Fingerprint,
        turn: &mut Turn,
    ) {
        let Some(files) = self.drops.get_mut(drop) else { return };
        files.known.proved(path.digest(), &version);
        let (drop, of) = (drop.clone(), path.clone());
        turn.record(Record::Touched { drop, path: of, fingerprint: version });
        if files.known.covered(path.digest(), &version) != Some(files.all_destinations()) {
            files.settle.hint(path.clone(), turn.now.monotonic);
        }
    }

    /// A file is what was sent under another path, at every destination.
    fn note_moved(
        &mut self,
        drop: &DirectoryName,
        (path, place, version): (&SourcePath, Place, Fingerprint),
        upload: UploadId,
        turn: &mut Turn,
    ) {
        let Some(files) = self.drops.get_mut(drop) else { return };
        let everywhere = files.all_destinations();
        files.known.admitted(path.digest(), &version, everywhere);
        files.known.moved(path.digest());
        turn.record(Record::Moved {
            drop: drop.clone(),
            path: path.clone(),
            fingerprint: version,
            upload,
            at: turn.now.wall,
        });
        if !place.is_alone(path) {
            self.stir(drop, &place.run(path), turn.now.monotonic);
        }
    }
}

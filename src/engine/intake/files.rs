//! The files of one drop directory: which settle, which are known, which are compared or ignored.
//!
//! Returns the consequence of each observation ([`FileStep`]). A known file whose version has not
//! changed costs one look-up per scan and nothing between scans.

use std::collections::{BTreeMap, BTreeSet};

use super::compare::{Compared, Comparisons};
use super::missing::MissingFiles;
use super::settle::Settle;
use super::turn::{IntakeTurn, SettledFile};
use crate::engine::dispatch::{Dispatch, ToTransfers, ToUpload};
use crate::engine::known::KnownFiles;
use crate::engine::transfers::Settled;
use crate::model::{
    Catalogued, DestinationName, Fingerprint, IgnoreReason, Monotonic, Observation, PathDigest,
    Place, Record, Seen, SourcePath, UploadId,
};

/// Linux opens no path of 4096 bytes or more, and one more file name must fit below that.
const LONG_PATH: usize = 4096 - 256;

#[derive(Debug)]
pub(in crate::engine) struct Files {
    /// The destinations of the drop directory; the sets in `known` hold positions in it.
    destinations: Vec<DestinationName>,
    pub(super) settle: Settle,
    pub(super) comparisons: Comparisons,
    /// Admitted files, in their newest version.
    pub(super) known: KnownFiles,
    pub(super) ignored: IgnoredPaths,
    /// Files that were touched since the admission of their open uploads.
    pub(super) touched: BTreeSet<SourcePath>,
    pub(super) missing: MissingFiles,
    /// A look is in progress. One at a time: the next one waits until the files that this one settled
    /// are committed, so that memory never holds more than one look's admissions ahead of the disk.
    pub(super) is_looking: bool,
}

/// The consequence of one observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileStep {
    Nothing,
    /// The file is settled: admit it; true where it may not be read.
    Settled(Fingerprint, bool),
    /// The file is settled, and may have been sent under another path.
    MaybeMoved(Fingerprint),
    /// The file may have been touched since it was sent, and is quiet again: compare it.
    Touched(Fingerprint),
    /// The file is another version than that of these uploads.
    Changed(Vec<UploadId>),
    /// The file is the version of these uploads, and can be read.
    Readable(Vec<UploadId>),
    /// The file of these uploads does not exist.
    Gone(Vec<UploadId>),
    /// The path is not uploaded, for a reason that is new.
    NewlyIgnored(IgnoreReason),
}

/// How an observation was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Closeness {
    /// A scan: the file was not opened.
    Scan,
    /// A look: the file was opened.
    Look,
}

/// Paths that are never uploaded; a run may have as many of them as files.
#[derive(Debug, Default)]
pub(super) struct IgnoredPaths {
    reasons: BTreeMap<PathDigest, IgnoreReason>,
    /// Those that are directories which may not be read.
    unreadable: BTreeSet<SourcePath>,
}

impl IgnoredPaths {
    pub(super) fn load(&mut self, path: PathDigest, reason: IgnoreReason) {
        self.reasons.insert(path, reason);
    }

    pub(super) fn load_unreadable(&mut self, path: SourcePath) {
        self.unreadable.insert(path);
    }

    /// Adds a path that is not uploaded. Returns whether that is new.
    fn insert(&mut self, path: &SourcePath, reason: IgnoreReason) -> bool {
        if reason.hides_files() {
            self.unreadable.insert(path.clone());
        }
        self.reasons.insert(path.digest(), reason) != Some(reason)
    }

    /// Removes a path that may be uploaded. Returns whether that is new.
    pub(super) fn remove(&mut self, path: &SourcePath) -> bool {
        let was_ignored = !self.reasons.is_empty() && self.reasons.remove(&path.digest()).is_some();
        if was_ignored {
            self.unreadable.remove(path);
        }
        was_ignored
    }

    /// Records that all directories except these are readable. Returns those that were not before.
    pub(super) fn readable_but(&mut self, unseen: &BTreeSet<SourcePath>) -> BTreeSet<SourcePath> {
        let were: BTreeSet<_> = self.unreadable.difference(unseen).cloned().collect();
        self.unreadable.retain(|path| unseen.contains(path));
        were.iter().for_each(|path| {
            self.reasons.remove(&path.digest());
        });
        were
    }

    /// Describes what a scan does not see.
    pub(super) fn unseen(&self) -> String {
        let mut directories = self.unreadable.iter();
        match (directories.next(), directories.count()) {
            (None, _) => "some files could not be looked at for the moment".to_owned(),
            (Some(first), _) if first.as_bytes().len() > LONG_PATH => {
                let top = first.as_bytes().split(|byte| *byte == b'/').next().unwrap_or_default();
                let top = SourcePath::from_bytes(top);
                format!("below {top} a path is too long for the system: what is there is not seen")
            }
            (Some(first), 0) => format!("directory {first} cannot be read"),
            (Some(first), more) => format!("directory {first} and {more} more cannot be read"),
        }
    }
}

impl Files {
    pub(super) fn new(destinations: Vec<DestinationName>, settle: Settle) -> Self {
        Self {
            destinations,
            settle,
            comparisons: Comparisons::default(),
            known: KnownFiles::default(),
            ignored: IgnoredPaths::default(),
            touched: BTreeSet::new(),
            missing: MissingFiles::default(),
            is_looking: false,
        }
    }

    /// Returns how many files are not settled, or settled and not known to have been sent.
    pub(in crate::engine) fn settling_count(&self) -> usize {
        self.settle.len() + self.comparisons.len()
    }

    /// Returns the paths of these files.
    pub(super) fn settling_paths(&self) -> impl Iterator<Item = &SourcePath> {
        self.settle.paths().chain(self.comparisons.paths())
    }

    /// Returns a file below a directory that settles or is compared.
    pub(super) fn settling_below(&self, directory: &SourcePath) -> Option<&SourcePath> {
        self.settle.any_below(directory).or_else(|| self.comparisons.any_below(directory))
    }

    /// Lends what the rows know about files.
    pub(super) fn borrow_known(&mut self, known: &Catalogued) {
        for file in &known.sent {
            let set = self.set_of(&file.destination);
            self.known.borrow(file.path, &file.fingerprint, set);
        }
        known.elsewhere.iter().for_each(|version| self.known.borrow_elsewhere(version));
    }

    /// Returns all destinations, as a set of positions.
    pub(super) fn everywhere(&self) -> u64 {
        let count = self.destinations.len();
        if count >= 64 { u64::MAX } else { (1 << count) - 1 }
    }

    /// Returns the set of one destination.
    pub(in crate::engine) fn set_of(&self, destination: &DestinationName) -> u64 {
        let position = self.destinations.iter().position(|name| name == destination);
        position.filter(|position| *position < 64).map_or(0, |position| 1_u64 << position)
    }

    /// Returns the destinations that a file was admitted for in this version. Inodes and times of
    /// change are ignored where they are not stable.
    fn covered(&self, path: PathDigest, version: &Fingerprint) -> Option<u64> {
        let by_stamp = || self.known.covered_by_stamp(path, version);
        let is_restless = self.settle.is_restless();
        self.known.covered(path, version).or_else(|| is_restless.then(by_stamp).flatten())
    }

    /// Returns the destinations for which a version of a file was not admitted.
    pub(super) fn missing(&self, path: PathDigest, version: &Fingerprint) -> Vec<DestinationName> {
        let covered = self.covered(path, version).unwrap_or(0);
        let destinations = self.destinations.iter().enumerate();
        let missing = destinations.filter(|(position, _)| covered >> position & 1 == 0);
        missing.map(|(_, name)| name.clone()).collect()
    }

    /// Returns whether a file was admitted for every destination, and no upload of it is open.
    pub(super) fn is_everywhere(&self, path: &SourcePath, version: &Fingerprint) -> bool {
        let covered = self.covered(path.digest(), version);
        covered == Some(self.everywhere()) && self.known.live(path.digest()).is_empty()
    }

    /// Returns whether an upload of a file has not ended.
    pub(super) fn has_open(&self, path: &SourcePath) -> bool {
        !self.known.live(path.digest()).is_empty()
    }

    /// Replaces the destinations. Sets of destinations are kept as positions, so the positions are
    /// translated.
    pub(super) fn set_destinations(&mut self, destinations: Vec<DestinationName>) {
        let places: BTreeMap<_, _> =
            destinations.iter().enumerate().map(|(place, name)| (name, place)).collect();
        let moved: Vec<_> =
            self.destinations.iter().map(|name| places.get(name).copied()).collect();
        self.known.translate(|old| {
            let bits = moved.iter().enumerate().filter(|(place, _)| old >> place & 1 == 1);
            bits.filter_map(|(_, place)| *place).fold(0, |set, place| set | 1 << place)
        });
        self.destinations = destinations;
    }

    /// Returns a file to send, with what is known about it.
    pub(super) fn settled(
        &self,
        path: &SourcePath,
        place: Place,
        version: Fingerprint,
    ) -> SettledFile {
        let digest = path.digest();
        SettledFile {
            path: path.clone(),
            place,
            version,
            is_unreadable: false,
            missing: self.missing(digest, &version),
            open: self.known.live(digest),
            may_be_moved: self.known.may_be_moved(digest, &version),
        }
    }

    /// Emits a file to send; while rows are being read it is looked at again.
    pub(super) fn announce(&mut self, file: SettledFile, turn: &mut IntakeTurn<'_>) {
        if turn.around().is_loading {
            return self.look_again(&file.path, file.version, turn.now().monotonic);
        }
        if self.known.is_moved_no_more(file.path.digest()) {
            turn.record(Record::NotIgnored { drop: turn.directory(), path: file.path.clone() });
        }
        admit(file, turn);
    }

    /// The drop directory is empty: someone removed all its files. Returns whether any file had
    /// been settling since before that scan began.
    pub(super) fn all_gone(&mut self, scan_started: Monotonic, turn: &mut IntakeTurn<'_>) -> bool {
        self.comparisons.clear();
        self.missing.clear();
        turn.tell_uploads(self.known.all_live().collect(), ToUpload::SourceGone);
        self.settle.forget_before(scan_started)
    }

    /// Applies the result of a comparison. Returns the run that has one more file by it, if any.
    pub(super) fn compared(
        &mut self,
        path: &SourcePath,
        compared: Compared,
        turn: &mut IntakeTurn<'_>,
    ) -> Option<SourcePath> {
        let (now, digest) = (turn.now(), path.digest());
        match compared {
            Compared::Unchanged(version) => {
                self.known.proved(digest, &version);
                let (drop, of) = (turn.directory(), path.clone());
                turn.record(Record::Touched { drop, path: of, fingerprint: version });
                if !self.missing(digest, &version).is_empty() {
                    self.settle.hint(path.clone(), now.monotonic);
                }
            }
            Compared::Moved(version, place, upload) => {
                self.known.moved(digest);
                let (drop, of, at) = (turn.directory(), path.clone(), now.wall);
                turn.record(Record::Moved { drop, path: of, fingerprint: version, upload, at });
                return (!place.is_alone(path)).then(|| place.run(path));
            }
            Compared::New(version, place) => {
                self.announce(self.settled(path, place, version), turn);
            }
            Compared::Changed(version) => {
                self.known.forget(digest);
                self.settle.scanned(path, version, now.monotonic);
            }
            Compared::Cancelled(version) => self.settle.scanned(path, version, now.monotonic),
            Compared::Failed(version) => self.look_again(path, version, now.monotonic),
        }
        None
    }

    pub(in crate::engine) fn known(&self) -> &KnownFiles {
        &self.known
    }

    /// Drops a file that settles or is compared.
    fn forget(&mut self, path: &SourcePath) {
        self.settle.forget(path);
        self.comparisons.forget(path);
    }

    /// Schedules another look at a file.
    pub(super) fn look_again(&mut self, path: &SourcePath, version: Fingerprint, now: Monotonic) {
        self.settle.scanned(path, version, now);
        self.settle.retry(path, now);
    }

    /// Returns the files to look at now, at most `limit`; none while a look is in progress.
    pub(super) fn begin_look(&mut self, now: Monotonic, limit: usize) -> Vec<SourcePath> {
        if self.is_looking {
            return Vec::new();
        }
        let paths = self.settle.take_due(now, limit);
        self.is_looking = !paths.is_empty();
        paths
    }

    /// Receives one observation and returns its consequence. Changed files become candidates here.
    /// `may_go` says whether a file of this path may be sent at present.
    pub(super) fn observe(
        &mut self,
        seen: &Observation,
        closeness: Closeness,
        now: Monotonic,
        may_go: impl FnOnce() -> bool,
    ) -> FileStep {
        match &seen.seen {
            Seen::File(version) => {
                let found = FoundFile { version: *version, is_unreadable: false, closeness };
                self.observe_file(&seen.path, found, now, may_go)
            }
            Seen::Unreadable(version, _) => {
                let found = FoundFile { version: *version, is_unreadable: true, closeness };
                self.observe_file(&seen.path, found, now, may_go)
            }
            Seen::Ignored(reason) => {
                self.forget(&seen.path);
                match self.ignored.insert(&seen.path, *reason) {
                    true => FileStep::NewlyIgnored(*reason),
                    false => FileStep::Nothing,
                }
            }
            Seen::Gone => {
                self.forget(&seen.path);
                FileStep::Gone(self.known.live(seen.path.digest()))
            }
        }
    }

    fn observe_file(
        &mut self,
        path: &SourcePath,
        found: FoundFile,
        now: Monotonic,
        may_go: impl FnOnce() -> bool,
    ) -> FileStep {
        let FoundFile { version, is_unreadable, closeness } = found;
        self.missing.found(path);
        let digest = path.digest();
        let (covered, live) = (self.covered(digest, &version), self.known.live(digest));
        let is_touched = covered.is_none() && self.known.is_touched(digest, &version);
        // A file that is touched while it is sent is read before the upload completes.
        if covered == Some(self.everywhere()) || (is_touched && !live.is_empty()) {
            self.settle.forget(path);
            if is_touched {
                self.touched.insert(path.clone());
            }
            return match (live.is_empty(), is_unreadable) {
                (true, _) | (false, true) => FileStep::Nothing,
                (false, false) => FileStep::Readable(live),
            };
        }
        if self.known.is_changed(digest, &version) {
            self.settle.note_change(path, now);
        }
        if covered.is_none() && !live.is_empty() {
            self.settle.scanned(path, version, now);
            if closeness == Closeness::Look {
                self.settle.retry(path, now);
            }
            return FileStep::Changed(live);
        }
        let is_wanted = !self.comparisons.has(path, &version)
            && if is_touched { !is_unreadable } else { may_go() };
        if !is_wanted {
            self.settle.forget(path);
            return FileStep::Nothing;
        }
        if closeness == Closeness::Scan {
            self.settle.scanned(path, version, now);
            return FileStep::Nothing;
        }
        let is_settled = self.settle.looked(path, version, now);
        let may_be_moved = || !is_unreadable && self.known.may_be_moved(digest, &version);
        match is_settled {
            false => FileStep::Nothing,
            true if is_touched => FileStep::Touched(version),
            true if may_be_moved() => FileStep::MaybeMoved(version),
            true => FileStep::Settled(version, is_unreadable),
        }
    }
}

/// Admits a file for each destination that lacks this version. Uploads that parked because the file
/// was missing continue.
fn admit(file: SettledFile, turn: &mut IntakeTurn<'_>) {
    let SettledFile { path, place, version, is_unreadable, missing, open, may_be_moved } = file;
    if !is_unreadable {
        turn.tell_uploads(open, ToUpload::Readable);
    }
    let drop = turn.directory();
    let settled = Settled {
        drop,
        name: path.clone(),
        path,
        place,
        version,
        is_unreadable,
        may_be_moved,
        provenance: None,
    };
    for destination in missing {
        turn.say(Dispatch::Transfers(destination, ToTransfers::Admit(settled.clone())));
    }
}

/// A file as it was found.
struct FoundFile {
    version: Fingerprint,
    is_unreadable: bool,
    closeness: Closeness,
}

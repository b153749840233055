//! Which files were admitted: in which version, for which destinations, and which of their uploads
//! are open.
//!
//! The rows hold all of it. Memory holds the files with open uploads and, while observations are
//! received, the rows of the observed files ([`KnownFiles::borrow`]). It answers about a given
//! path, and cannot list paths. Two versions of one path with the same digest do not happen in
//! practice; the file would wait for its next change.
//!
//! A file of the same length with another inode or time was *touched*: its content may have
//! changed, or only its mode. Until it is compared it is known in no version.

mod filter;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use self::filter::BloomFilter;
use crate::model::{ByteCount, Fingerprint, PathDigest, UploadId};

/// The admitted files of one drop directory, in their newest version.
#[derive(Debug, Default)]
pub(crate) struct KnownFiles {
    files: BTreeMap<PathDigest, Known>,
    /// The versions of these files, with their paths.
    versions: BTreeSet<(u64, PathDigest)>,
    /// Open uploads, by the path of their file.
    live: BTreeSet<(PathDigest, UploadId)>,
    /// Files that were sent under another path.
    moved: BTreeSet<PathDigest>,
    /// Files that are known only while observations are received.
    borrowed: BTreeSet<PathDigest>,
    /// Versions of files that were sent under other paths than the observed ones.
    elsewhere: BTreeSet<u64>,
    /// Files that were compared, with other content than their rows say.
    outdated: BTreeSet<PathDigest>,
}

/// An admitted file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    /// The digest of its version, without the time of change.
    version: u64,
    size: ByteCount,
    mtime_ns: i64,
    /// A digest of that time, or [`UNKNOWN`].
    changed: u32,
    /// The destinations it was admitted for, by position.
    covered: u64,
}

/// Replaces an unknown time of change.
const UNKNOWN: u32 = 0;

impl Known {
    fn of(version: &Fingerprint) -> Self {
        let changed = version.ctime_ns.map_or(UNKNOWN, |at| digest(at.cast_unsigned()));
        let Fingerprint { size, mtime_ns, .. } = *version;
        Self { version: version.version_digest(), size, mtime_ns, changed, covered: 0 }
    }

    /// As [`Fingerprint::is_untouched`].
    fn is_untouched(&self, other: &Self) -> bool {
        let is_known = self.changed != UNKNOWN && other.changed != UNKNOWN;
        self.version == other.version && (!is_known || self.changed == other.changed)
    }
}

/// Half of the bits of a product that mixes all of them; never [`UNKNOWN`].
fn digest(at: u64) -> u32 {
    let mixed = at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    u32::from_be_bytes([mixed[0], mixed[1], mixed[2], mixed[3]]).max(1)
}

impl KnownFiles {
    /// Adds what a row says about a file that is or will be observed. What memory knows of the file
    /// is newer.
    pub(crate) fn borrow(&mut self, path: PathDigest, version: &Fingerprint, destination: u64) {
        let is_newer = self.files.contains_key(&path) && !self.borrowed.contains(&path);
        if !is_newer && !self.outdated.contains(&path) {
            self.borrowed.insert(path);
            self.admit(path, version, destination);
        }
    }

    /// Adds a version that was sent under a path that is not observed.
    pub(crate) fn borrow_elsewhere(&mut self, version: &Fingerprint) {
        self.elsewhere.insert(version.version_digest());
    }

    /// Drops what rows said, after the observations were received.
    pub(crate) fn end_borrow(&mut self) {
        self.elsewhere.clear();
        for path in std::mem::take(&mut self.borrowed) {
            self.release(path);
        }
    }

    /// Drops a file without open uploads: the rows know it.
    pub(crate) fn release(&mut self, path: PathDigest) {
        if self.live(path).is_empty() && !self.borrowed.contains(&path) {
            self.remove(path);
        }
    }

    /// Returns the destinations that a file was admitted for in this version; `None` if the path is
    /// unknown or known in another version.
    pub(crate) fn covered(&self, path: PathDigest, version: &Fingerprint) -> Option<u64> {
        let known = self.files.get(&path)?;
        known.is_untouched(&Known::of(version)).then_some(known.covered)
    }

    /// As [`Self::covered`], by length and time of modification alone.
    pub(crate) fn covered_by_stamp(&self, path: PathDigest, version: &Fingerprint) -> Option<u64> {
        let known = self.files.get(&path)?;
        let is_same = (known.size, known.mtime_ns) == (version.size, version.mtime_ns);
        is_same.then_some(known.covered)
    }

    /// Returns whether a file may have the content that is known, but was touched since.
    pub(crate) fn is_touched(&self, path: PathDigest, version: &Fingerprint) -> bool {
        let (known, seen) = (self.files.get(&path), Known::of(version));
        known.is_some_and(|known| known.size == seen.size && !known.is_untouched(&seen))
    }

    /// Returns whether a file is known with another length.
    pub(crate) fn is_changed(&self, path: PathDigest, version: &Fingerprint) -> bool {
        self.files.get(&path).is_some_and(|known| known.size != version.size)
    }

    /// Returns whether an unknown file may be a known one under another path.
    pub(crate) fn may_be_moved(&self, path: PathDigest, version: &Fingerprint) -> bool {
        let seen = version.version_digest();
        let lowest = PathDigest::lowest();
        let same = self.versions.range((seen, lowest)..).take_while(|(of, _)| *of == seen);
        let is_known = self.files.get(&path).is_some_and(|known| known.version == seen);
        !is_known && (self.elsewhere.contains(&seen) || same.count() > 0)
    }

    pub(crate) fn moved(&mut self, path: PathDigest) {
        self.moved.insert(path);
    }

    /// Removes the mark that it was sent under another path. Returns whether it had the mark.
    pub(crate) fn is_moved_no_more(&mut self, path: PathDigest) -> bool {
        self.moved.remove(&path)
    }

    /// A touched file has the same content as before.
    pub(crate) fn proved(&mut self, path: PathDigest, version: &Fingerprint) {
        if let Some(known) = self.files.get(&path).filter(|known| known.size == version.size) {
            let covered = known.covered;
            self.remove(path);
            let known = Known { covered, ..Known::of(version) };
            self.versions.insert((known.version, path));
            self.files.insert(path, known);
        }
    }

    /// The file differs from what its rows say.
    pub(crate) fn forget(&mut self, path: PathDigest) {
        self.outdated.insert(path);
        self.remove(path);
    }

    /// Returns the open uploads of a file, in the order of admission.
    pub(crate) fn live(&self, path: PathDigest) -> Vec<UploadId> {
        let range = (path, UploadId(i64::MIN))..=(path, UploadId(i64::MAX));
        self.live.range(range).map(|(_, id)| *id).collect()
    }

    pub(crate) fn all_live(&self) -> impl Iterator<Item = UploadId> {
        self.live.iter().map(|(_, id)| *id)
    }

    /// A file was admitted in a version for a destination. A version that differs from the last one
    /// is covered for that destination alone.
    pub(crate) fn admitted(&mut self, path: PathDigest, version: &Fingerprint, destination: u64) {
        self.outdated.remove(&path);
        self.admit(path, version, destination);
    }

    fn admit(&mut self, path: PathDigest, version: &Fingerprint, destination: u64) {
        let seen = Known::of(version);
        let before = self.files.get(&path).filter(|known| known.is_untouched(&seen)).copied();
        let mut known = before.unwrap_or(seen);
        if seen.changed != UNKNOWN {
            known.changed = seen.changed;
        }
        known.covered |= destination;
        if before.is_none() {
            self.remove(path);
            self.versions.insert((known.version, path));
        }
        self.files.insert(path, known);
    }

    fn remove(&mut self, path: PathDigest) {
        if let Some(known) = self.files.remove(&path) {
            self.versions.remove(&(known.version, path));
        }
    }

    /// A file does not count as sent to a destination in this version any more.
    pub(crate) fn uncover(&mut self, path: PathDigest, version: &Fingerprint, destination: u64) {
        let seen = Known::of(version);
        if let Some(known) = self.files.get_mut(&path).filter(|known| known.is_untouched(&seen)) {
            known.covered &= !destination;
        }
    }

    pub(crate) fn began(&mut self, path: PathDigest, upload: UploadId) {
        self.live.insert((path, upload));
    }

    /// An upload of a file ended. A file whose last upload was superseded is unknown: its new
    /// version settles like a new file.
    pub(crate) fn ended(&mut self, path: PathDigest, upload: UploadId, is_superseded: bool) {
        self.live.remove(&(path, upload));
        if is_superseded && self.live(path).is_empty() {
            self.remove(path);
        }
    }

    /// Replaces the known files by the rows; open uploads and moved files stay.
    pub(crate) fn replace(&mut self, read: Self) {
        (self.files, self.versions) = (read.files, read.versions);
    }

    /// Translates every set of destinations, because their positions have changed.
    pub(crate) fn translate(&mut self, translated: impl Fn(u64) -> u64) {
        self.files.values_mut().for_each(|known| known.covered = translated(known.covered));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{ByteCount, SourcePath};

    /// The same without the digests.
    #[derive(Debug, Default)]
    struct Naive(BTreeMap<SourcePath, (Fingerprint, u64, Vec<UploadId>)>);

    #[derive(Debug, Clone)]
    enum Step {
        Admit { path: u8, version: u64, destination: u32 },
        End { path: u8, nth: usize, is_superseded: bool },
        Swap,
    }

    fn path(number: u8) -> SourcePath {
        SourcePath::from_bytes(format!("run/{number}").as_bytes())
    }

    /// Another size, another time, another inode, or another device, which makes no version.
    fn version(number: u64) -> Fingerprint {
        let (inode, size) = (number & 1, ByteCount(number >> 1 & 1));
        let mtime_ns = i64::from(number >> 2 & 1 == 1);
        let ctime_ns = Some(i64::from(number >> 4 & 1 == 1));
        Fingerprint { device: number >> 3 & 1, inode, size, mtime_ns, ctime_ns }
    }

    fn swapped(covered: u64) -> u64 {
        (covered & 1) << 1 | covered >> 1 & 1
    }

    impl Naive {
        fn admit(&mut self, path: SourcePath, version: Fingerprint, bit: u64, upload: UploadId) {
            let known = self.0.entry(path).or_insert((version, 0, Vec::new()));
            if !known.0.is_untouched(&version) {
                (known.0, known.1) = (version, 0);
            }
            known.1 |= bit;
            known.2.push(upload);
        }

        fn live(&self, path: &SourcePath) -> Vec<UploadId> {
            self.0.get(path).map(|known| known.2.clone()).unwrap_or_default()
        }

        fn end(&mut self, path: &SourcePath, upload: UploadId, is_superseded: bool) {
            let Some(known) = self.0.get_mut(path) else { return };
            known.2.retain(|id| *id != upload);
            if is_superseded && known.2.is_empty() {
                self.0.remove(path);
            }
        }

        fn covered(&self, path: &SourcePath, version: &Fingerprint) -> Option<u64> {
            let known = self.0.get(path)?;
            known.0.is_untouched(version).then_some(known.1)
        }
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..3_u8, 0..32_u64, 0..2_u32).prop_map(|(path, version, destination)| {
                Step::Admit { path, version, destination }
            }),
            3 => (0..3_u8, 0..3_usize, any::<bool>()).prop_map(|(path, nth, is_superseded)| {
                Step::End { path, nth, is_superseded }
            }),
            1 => Just(Step::Swap),
        ]
    }

    fn take(step: &Step, id: i64, known: &mut KnownFiles, naive: &mut Naive) {
        match *step {
            Step::Admit { path: number, version: of, destination } => {
                let (path, version, bit) = (path(number), version(of), 1 << destination);
                known.admitted(path.digest(), &version, bit);
                known.began(path.digest(), UploadId(id));
                naive.admit(path, version, bit, UploadId(id));
            }
            Step::End { path: number, nth, is_superseded } => {
                let path = path(number);
                let Some(upload) = naive.live(&path).get(nth).copied() else { return };
                known.ended(path.digest(), upload, is_superseded);
                naive.end(&path, upload, is_superseded);
            }
            Step::Swap => {
                known.translate(swapped);
                naive.0.values_mut().for_each(|known| known.1 = swapped(known.1));
            }
        }
    }

    proptest! {
        #[test]
        fn it_answers_as_a_plain_map_would(steps in proptest::collection::vec(step(), 0..60)) {
            let (mut known, mut naive) = (KnownFiles::default(), Naive::default());
            for (id, step) in (1..).zip(&steps) {
                take(step, id, &mut known, &mut naive);
                for path in (0..3).map(path) {
                    prop_assert_eq!(known.live(path.digest()), naive.live(&path));
                    for version in (0..32).map(version) {
                        let answer = known.covered(path.digest(), &version);
                        prop_assert_eq!(answer, naive.covered(&path, &version));
                    }
                }
            }
        }
    }

    #[test]
    fn a_touched_file_is_in_no_version_until_it_is_compared() {
        let of = |ctime_ns| Fingerprint { ctime_ns, ..version(1) };
        let (mut known, path) = (KnownFiles::default(), path(1).digest());
        known.admitted(path, &of(None), 1);
        known.admitted(path, &of(Some(5)), 2);
        assert_eq!(known.covered(path, &of(Some(5))), Some(3), "what was unknown is learned");
        assert_eq!(
            (known.covered(path, &of(Some(6))), known.is_touched(path, &of(Some(6)))),
            (None, true)
        );
        assert!(!known.is_touched(path, &of(None)) && !known.is_touched(path, &version(2)));
        known.proved(path, &of(Some(6)));
        assert_eq!(known.covered(path, &of(Some(6))), Some(3));
        known.forget(path);
        assert_eq!(
            (known.covered(path, &of(Some(6))), known.is_touched(path, &of(Some(7)))),
            (None, false)
        );
    }
}

//! Known files in little room: one sorted row of 19 bytes for each.
//!
//! What was added last lies in a small map until there is enough of it to be merged into the row;
//! what is changed or removed is so in its place. Paths are told apart by half of their digest: among
//! ten million files two of one drop directory have the same once in hundreds of thousands of such
//! directories, and then one of them waits for its next change.

use std::collections::BTreeMap;

use crate::model::{Fingerprint, PathDigest};

/// A file that was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// Which version, its time of change left out.
    pub(super) version: Version,
    /// What stands for that time, or [`UNKNOWN`].
    pub(super) changed: u32,
    /// Which of the drop's destinations it was admitted for, by position.
    pub(super) covered: u64,
}

/// What stands for a version: three quarters of its digest. Two versions of one path are taken for one
/// once in hundreds of millions of millions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version([u8; 6]);

impl Version {
    fn of(version: &Fingerprint) -> Self {
        let [_, _, kept @ ..] = version.version_digest().to_be_bytes();
        Self(kept)
    }

    pub(super) fn number(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

/// Stands for a time of change that is not known.
pub(super) const UNKNOWN: u32 = 0;

impl Known {
    pub(super) fn of(version: &Fingerprint) -> Self {
        let changed = version.ctime_ns.map_or(UNKNOWN, |at| digest(at.cast_unsigned()));
        Self { version: Version::of(version), changed, covered: 0 }
    }

    /// As [`Fingerprint::is_untouched`].
    pub(super) fn is_untouched(&self, other: &Self) -> bool {
        let is_known = self.changed != UNKNOWN && other.changed != UNKNOWN;
        self.version == other.version && (!is_known || self.changed == other.changed)
    }
}

/// Half of the bits of a product that mixes all of them; never [`UNKNOWN`].
fn digest(at: u64) -> u32 {
    let mixed = at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    u32::from_be_bytes([mixed[0], mixed[1], mixed[2], mixed[3]]).max(1)
}

type Path = [u8; 8];

/// One file; bytes alone, for anything wider would be aligned.
#[derive(Debug, Clone, Copy)]
struct Entry {
    path: Path,
    version: Version,
    changed: [u8; 4],
    /// Position of its destinations in [`Table::sets`], or [`NONE`].
    set: u8,
}

/// Marks a file that was removed.
const NONE: u8 = u8::MAX;
/// So many files are merged at least; few in tests, so that they are.
const MERGE_MIN: usize = if cfg!(test) { 2 } else { 1024 };
/// And this share of all, so that each is moved a few times only.
const MERGE_SHARE: usize = 32;

/// How often a guess is mended: each time what it is off by shrinks to about its root.
const GUESSES: usize = 2;

/// Returns a share of a count.
fn share(of_all: u64, count: usize) -> usize {
    let place = (u128::from(of_all) * count as u128) >> u64::BITS;
    usize::try_from(place).unwrap_or(count)
}

/// Files by path.
#[derive(Debug, Default)]
pub(super) struct Table {
    sorted: Vec<Entry>,
    recent: BTreeMap<Path, Entry>,
    /// How many of the sorted ones were removed.
    removed_count: usize,
    /// Every set of destinations that there is; a handful.
    sets: Vec<u64>,
}

impl Table {
    pub(super) fn get(&self, path: PathDigest) -> Option<Known> {
        let path = path.head();
        let entry = match self.position(path) {
            Ok(index) => self.sorted.get(index)?,
            Err(_) => self.recent.get(&path)?,
        };
        Some(Known {
            version: entry.version,
            changed: u32::from_be_bytes(entry.changed),
            covered: *self.sets.get(usize::from(entry.set))?,
        })
    }

    pub(super) fn set(&mut self, path: PathDigest, known: Known) {
        let entry = Entry {
            path: path.head(),
            version: known.version,
            changed: known.changed.to_be_bytes(),
            set: self.set_of(known.covered),
        };
        if let Ok(index) = self.position(entry.path) {
            let old = std::mem::replace(&mut self.sorted[index], entry);
            self.removed_count -= usize::from(old.is_removed());
            return;
        }
        self.recent.insert(entry.path, entry);
        if self.recent.len() >= MERGE_MIN.max(self.sorted.len() / MERGE_SHARE) {
            self.merge();
        }
    }

    pub(super) fn remove(&mut self, path: PathDigest) {
        let path = path.head();
        match self.position(path) {
            Ok(index) => {
                self.removed_count += usize::from(!self.sorted[index].is_removed());
                self.sorted[index].set = NONE;
            }
            Err(_) => {
                self.recent.remove(&path);
            }
        }
    }

    /// Replaces every set of destinations.
    pub(super) fn translate(&mut self, translated: impl Fn(u64) -> u64) {
        self.sets.iter_mut().for_each(|set| *set = translated(*set));
    }

    /// Finds where a path stands, or would. Digests are spread evenly, so where it stands is known within
    /// a few entries once it was looked up where it would on average; halving all of them would wait for
    /// memory at each step.
    fn position(&self, path: Path) -> Result<usize, usize> {
        let count = self.sorted.len();
        let mut at = share(u64::from_be_bytes(path), count);
        for _ in 0..GUESSES {
            let Some(entry) = self.sorted.get(at) else { break };
            let (wanted, found) = (u64::from_be_bytes(path), u64::from_be_bytes(entry.path));
            let off = share(wanted.abs_diff(found), count);
            at = if wanted < found { at.saturating_sub(off) } else { at.saturating_add(off) };
        }
        let (mut low, mut high) = (at.min(count), at.min(count));
        let mut step = 1;
        while low > 0 && self.sorted[low - 1].path >= path {
            low = low.saturating_sub(step);
            step *= 2;
        }
        step = 1;
        while high < count && self.sorted[high].path <= path {
            high = high.saturating_add(step).min(count);
            step *= 2;
        }
        let found = self.sorted[low..high].binary_search_by_key(&path, |entry| entry.path);
        found.map(|index| low + index).map_err(|index| low + index)
    }

    /// Returns where a set of destinations stands. Where there are more than anybody has, it is the
    /// empty one: the file is looked for at its destinations.
    fn set_of(&mut self, covered: u64) -> u8 {
        let found = self.sets.iter().position(|set| *set == covered);
        let index = found.unwrap_or_else(|| {
            let last = usize::from(NONE - 1);
            if self.sets.len() <= last {
                self.sets.push(if self.sets.len() == last { 0 } else { covered });
            }
            self.sets.len() - 1
        });
        u8::try_from(index).unwrap_or(NONE - 1)
    }

    /// Merges what is recent from behind, in place: a copy would be as large as all of it.
    fn merge(&mut self) {
        if self.removed_count > 0 {
            self.sorted.retain(|entry| !entry.is_removed());
            self.removed_count = 0;
        }
        let recent = std::mem::take(&mut self.recent);
        let Some(blank) = recent.values().next().copied() else { return };
        let mut from = self.sorted.len();
        let mut to = from + recent.len();
        self.sorted.reserve_exact(recent.len());
        self.sorted.resize(to, blank);
        for entry in recent.into_values().rev() {
            while from > 0 && self.sorted[from - 1].path > entry.path {
                (from, to) = (from - 1, to - 1);
                self.sorted[to] = self.sorted[from];
            }
            to -= 1;
            self.sorted[to] = entry;
        }
    }
}

impl Entry {
    fn is_removed(&self) -> bool {
        self.set == NONE
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_known_file_is_small() {
        assert_eq!(size_of::<Entry>(), 19);
    }

    #[test]
    fn each_of_many_is_found_and_no_other() {
        let (mut table, path) = (Table::default(), |n: u32| PathDigest::of(&n.to_le_bytes()));
        let known = |n: u32| Known { version: Version([0; 6]), changed: n, covered: 1 };
        (0..20_000).for_each(|n| table.set(path(n), known(n)));
        table.merge();
        assert!((0..20_000).all(|n| table.get(path(n)) == Some(known(n))));
        assert!((20_000..40_000).all(|n| table.get(path(n)).is_none()));
    }

    proptest! {
        #[test]
        fn it_holds_what_a_map_would(
            steps in proptest::collection::vec((0..40_u8, 0..4_u64, any::<bool>()), 0..200),
        ) {
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            for (number, covered, is_set) in steps {
                let path = PathDigest::of(&[number]);
                let version = Version([0, 0, 0, 0, 0, number]);
                let known = Known { version, changed: 7, covered };
                if is_set {
                    table.set(path, known);
                    map.insert(path, known);
                } else {
                    table.remove(path);
                    map.remove(&path);
                }
                for path in (0..40).map(|number| PathDigest::of(&[number])) {
                    prop_assert_eq!(table.get(path), map.get(&path).copied());
                }
            }
        }
    }
}

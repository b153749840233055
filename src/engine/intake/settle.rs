//! Which observed files have been quiet long enough, and when to look again.
//!
//! A file is settled when two looks, at least one quiet period apart by the monotonic clock, found the same
//! version of it, untouched in between. Times prove nothing (copies keep old ones, shares set them back after
//! each write, clocks are wrong), so they are only compared for equality. A hint about a candidate costs
//! nothing: the scheduled look will see the change. One instance serves one drop directory.
//!
//! A file of which only the inode or time of change moves from look to look settles when its length and
//! time of modification were stable for [`PATIENCE`] quiet periods: a backup links it every few seconds,
//! or the file system gives other numbers each time. A file that a program visibly holds open for
//! writing waits until it is closed, for [`WRITER_PATIENCE`] at most. If no file is stable, the
//! directory is *restless*. A file that changes after it settled has a longer quiet period from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Included, Unbounded};
use std::time::Duration;

use crate::model::{Fingerprint, Monotonic, SourcePath};

/// Quiet periods after which inode and time of change are ignored: a backup that links a file at
/// one look does not do so at all of the next ones.
const PATIENCE: u32 = 6;
/// This many files in a row that settled so make the directory restless.
const RESTLESS_COUNT: u32 = 3;
/// A quiet period is doubled at most this often: from half a minute to a quarter of an hour.
const DOUBLINGS_MAX: u32 = 5;
/// A file that was quiet for long enough and is held open by a writer waits at most this much
/// longer: some programs keep files open until they end.
const WRITER_PATIENCE: Duration = Duration::from_hours(1);
/// How long a change of a settled file counts.
const CHANGE_COUNTS: Duration = Duration::from_hours(1);
/// Limit of files whose changes are remembered.
const CHANGED_MAX: usize = 1_000;

/// Candidates of one drop directory.
#[derive(Debug)]
pub(crate) struct Settle {
    quiet_period: Duration,
    candidates: BTreeMap<SourcePath, Candidate>,
    due: BTreeSet<(Monotonic, SourcePath)>,
    /// Files that changed after they had settled.
    changed: BTreeMap<SourcePath, Changes>,
    /// Files that were quiet for long enough, but are held open by a writer.
    held: BTreeSet<SourcePath>,
    /// Files in a row that settled although their inodes or times of change moved.
    restless_count: u32,
}

/// How often a file changed after it had settled.
#[derive(Debug)]
struct Changes {
    count: u32,
    last: Monotonic,
}

#[derive(Debug)]
struct Candidate {
    /// The version last seen; `None` after a mere hint.
    version: Option<Fingerprint>,
    /// Since when it has that version.
    since: Monotonic,
    /// Since when its length and time of modification are stable.
    stamp_since: Monotonic,
    /// When to look; `None` while a look is in progress.
    due: Option<Monotonic>,
    /// A program held it open for writing at the last look.
    has_writer: bool,
}

impl Candidate {
    fn hinted(now: Monotonic) -> Self {
        Self { version: None, since: now, stamp_since: now, due: Some(now), has_writer: false }
    }

    fn is_untouched(&self, seen: &Fingerprint) -> bool {
        self.version.is_some_and(|version| version.is_untouched(seen))
    }
}

impl Settle {
    /// Starts with no candidates.
    pub(crate) fn new(quiet_period: Duration) -> Self {
        Self {
            quiet_period,
            candidates: BTreeMap::new(),
            due: BTreeSet::new(),
            changed: BTreeMap::new(),
            held: BTreeSet::new(),
            restless_count: 0,
        }
    }

    /// Changes the quiet period for files that are seen from here on.
    pub(crate) fn set_quiet_period(&mut self, quiet_period: Duration) {
        self.quiet_period = quiet_period;
    }

    /// Returns whether inodes or times of change are not stable here.
    pub(crate) fn is_restless(&self) -> bool {
        self.restless_count >= RESTLESS_COUNT
    }

    /// Records that a settled file has another version, once for each version.
    pub(crate) fn note_change(&mut self, path: &SourcePath, now: Monotonic) {
        if self.candidates.get(path).is_some_and(|candidate| candidate.version.is_some()) {
            return;
        }
        self.changed.retain(|_, changes| now.since(changes.last) < CHANGE_COUNTS);
        if self.changed.len() < CHANGED_MAX {
            let changes =
                self.changed.entry(path.clone()).or_insert(Changes { count: 0, last: now });
            (changes.count, changes.last) = (changes.count.saturating_add(1), now);
        }
    }

    /// Describes what does not settle here, for people.
    pub(crate) fn unrest(&self, now: Monotonic) -> Option<String> {
        if self.is_restless() {
            let text = "inode numbers or times of change never hold still here: files are compared \
                by length and time of modification, and no source is disposed of";
            return Some(text.to_owned());
        }
        if let Some(path) = self.held.first() {
            return Some(format!(
                "a program holds {path} open to write: it is sent once it is closed, or after an hour"
            ));
        }
        let is_recent = |changes: &Changes| now.since(changes.last) < CHANGE_COUNTS;
        let mut again = self.changed.iter().filter(|(_, one)| one.count > 1 && is_recent(one));
        let (path, Changes { count, .. }) = again.next()?;
        Some(format!("{path} changed {count} times after it had settled: raise quiet_period"))
    }

    /// Returns how long a file must be quiet.
    fn quiet_period_of(&self, path: &SourcePath) -> Duration {
        let count = self.changed.get(path).map_or(0, |changes| changes.count);
        self.quiet_period * (1 << count.min(DOUBLINGS_MAX))
    }

    /// Returns how many files are not settled.
    pub(crate) fn len(&self) -> usize {
        self.candidates.len()
    }

    /// Returns a file below a directory that is not settled.
    pub(crate) fn any_below(&self, directory: &SourcePath) -> Option<&SourcePath> {
        let below = [directory.as_bytes(), b"/"].concat();
        let mut from = self.candidates.range::<[u8], _>((Included(below.as_slice()), Unbounded));
        from.next().map(|(path, _)| path).filter(|path| path.as_bytes().starts_with(&below))
    }

    /// Returns every file that is not settled.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &SourcePath> {
        self.candidates.keys()
    }

    /// Schedules a look at `path` at once, unless one is scheduled.
    pub(crate) fn hint(&mut self, path: SourcePath, now: Monotonic) {
        if !self.candidates.contains_key(&path) {
            self.candidates.insert(path.clone(), Candidate::hinted(now));
            self.due.insert((now, path));
        }
    }

    /// Receives what a scan saw. Never settles a file: only a look does, because it also tries to open it.
    pub(crate) fn scanned(&mut self, path: &SourcePath, version: Fingerprint, now: Monotonic) {
        if self.candidates.get(path).is_none_or(|c| !c.is_untouched(&version)) {
            self.restart(path, version, now);
        }
    }

    /// Records which of the files in a look are held open by writers.
    pub(crate) fn note_writers(&mut self, looked: &[SourcePath], writers: &BTreeSet<SourcePath>) {
        for path in looked {
            if let Some(candidate) = self.candidates.get_mut(path) {
                candidate.has_writer = writers.contains(path);
            }
        }
    }

    /// Receives what a look saw; returns whether the file is settled, and then no candidate any more.
    pub(crate) fn looked(
        &mut self,
        path: &SourcePath,
        version: Fingerprint,
        now: Monotonic,
    ) -> bool {
        if self.candidates.get(path).is_none_or(|c| !c.is_untouched(&version)) {
            self.restart(path, version, now);
        }
        let period = self.quiet_period_of(path);
        let Some(Candidate { since, stamp_since, has_writer, .. }) = self.candidates.get(path)
        else {
            return false;
        };
        let (quiet, patient) = (since.after(period), stamp_since.after(period * PATIENCE));
        if quiet.min(patient) > now {
            self.schedule(path, quiet.min(patient));
            return false;
        }
        if *has_writer && now < quiet.min(patient).after(WRITER_PATIENCE) {
            self.held.insert(path.clone());
            self.schedule(path, now.after(period.max(Duration::from_secs(1))));
            return false;
        }
        self.restless_count = if quiet <= now { 0 } else { self.restless_count.saturating_add(1) };
        self.forget(path);
        true
    }

    /// Drops a candidate: it is gone, or known to be uploaded.
    pub(crate) fn forget(&mut self, path: &SourcePath) {
        self.held.remove(path);
        if let Some((path, candidate)) = self.candidates.remove_entry(path)
            && let Some(due) = candidate.due
        {
            self.due.remove(&(due, path));
        }
    }

    /// Drops the candidates that were not seen since `at`; returns whether there were any.
    pub(crate) fn forget_before(&mut self, at: Monotonic) -> bool {
        let old = self.candidates.iter().filter(|(_, candidate)| candidate.since < at);
        let old: Vec<_> = old.map(|(path, _)| path.clone()).collect();
        old.iter().for_each(|path| self.forget(path));
        !old.is_empty()
    }

    /// Schedules a look again whose answer is missing.
    pub(crate) fn retry(&mut self, path: &SourcePath, now: Monotonic) {
        self.schedule(path, now.after(self.quiet_period.max(Duration::from_secs(1))));
    }

    /// Removes and returns the candidates to look at, at most `limit`.
    pub(crate) fn take_due(&mut self, now: Monotonic, limit: usize) -> Vec<SourcePath> {
        let mut taken = Vec::new();
        while taken.len() < limit && self.next_deadline().is_some_and(|due| due <= now) {
            let Some((_, path)) = self.due.pop_first() else { break };
            if let Some(candidate) = self.candidates.get_mut(&path) {
                candidate.due = None;
            }
            taken.push(path);
        }
        taken
    }

    /// Returns when the next look is due.
    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        self.due.first().map(|(due, _)| *due)
    }

    fn restart(&mut self, path: &SourcePath, version: Fingerprint, now: Monotonic) {
        let period = self.quiet_period_of(path);
        let candidate = self.candidates.entry(path.clone()).or_insert(Candidate::hinted(now));
        let has_stamp = candidate.version.is_some_and(|before| before.same_stamp(&version));
        (candidate.version, candidate.since) = (Some(version), now);
        self.held.remove(path);
        if !has_stamp {
            candidate.stamp_since = now;
        }
        // Scans that see another inode each time must not delay the look for ever.
        let patient = candidate.stamp_since.after(period * PATIENCE);
        self.schedule(path, now.after(period).min(patient));
    }

    fn schedule(&mut self, path: &SourcePath, at: Monotonic) {
        if let Some(candidate) = self.candidates.get_mut(path) {
            if let Some(old) = candidate.due.replace(at) {
                self.due.remove(&(old, path.clone()));
            }
            self.due.insert((at, path.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ByteCount;

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    fn version(size: u64) -> Fingerprint {
        Fingerprint { device: 1, inode: 2, size: ByteCount(size), mtime_ns: 3, ctime_ns: None }
    }

    fn path() -> SourcePath {
        SourcePath::from_bytes(b"run/a")
    }

    #[test]
    fn two_equal_looks_one_quiet_period_apart_settle() {
        let mut settle = Settle::new(Duration::from_secs(10));
        settle.scanned(&path(), version(1), at(0));
        assert_eq!(settle.next_deadline(), Some(at(10)));
        assert_eq!(settle.take_due(at(9), 9), []);
        assert_eq!(settle.take_due(at(10), 9), [path()]);
        assert!(settle.looked(&path(), version(1), at(10)));
        assert_eq!((settle.len(), settle.next_deadline()), (0, None));
    }

    #[test]
    fn a_change_starts_the_quiet_period_again() {
        let mut settle = Settle::new(Duration::from_secs(10));
        settle.scanned(&path(), version(1), at(0));
        settle.take_due(at(10), 9);
        assert!(!settle.looked(&path(), version(2), at(10)));
        assert_eq!(settle.next_deadline(), Some(at(20)));
        settle.scanned(&path(), version(3), at(15));
        assert_eq!(settle.next_deadline(), Some(at(25)));
        settle.take_due(at(25), 9);
        assert!(settle.looked(&path(), version(3), at(25)));
    }

    #[test]
    fn a_change_that_only_the_time_of_change_tells_starts_the_quiet_period_again() {
        let touched = |at| Fingerprint { ctime_ns: Some(at), ..version(1) };
        let mut settle = Settle::new(Duration::from_secs(10));
        settle.scanned(&path(), touched(1), at(0));
        settle.scanned(&path(), touched(2), at(5));
        assert_eq!(settle.next_deadline(), Some(at(15)));
        settle.take_due(at(15), 9);
        assert!(!settle.looked(&path(), touched(3), at(15)));
        settle.take_due(at(25), 9);
        assert!(settle.looked(&path(), touched(3), at(25)));
    }

    #[test]
    fn a_file_whose_inode_never_holds_still_settles_by_length_and_time() {
        let mut settle = Settle::new(Duration::from_secs(10));
        for (file, begin) in (0_u64..3).map(|file| (file, file * 100)) {
            let path = SourcePath::from_bytes(format!("run/{file}").as_bytes());
            assert!(!settle.is_restless());
            let seen = |at: u64| Fingerprint { inode: at, ..version(1) };
            // Scans come more often than looks.
            settle.scanned(&path, seen(begin), at(begin));
            let mut now = begin;
            let settled = loop {
                now += 5;
                settle.scanned(&path, seen(now), at(now));
                let due = settle.take_due(at(now), 9);
                if due.contains(&path) && settle.looked(&path, seen(now + 1), at(now)) {
                    break now;
                }
            };
            assert_eq!(settled - begin, 60);
        }
        assert!(settle.is_restless() && settle.unrest(at(400)).is_some());
        settle.hint(path(), at(500));
        settle.take_due(at(500), 9);
        settle.looked(&path(), version(1), at(500));
        assert!(settle.looked(&path(), version(1), at(510)) && !settle.is_restless());
    }

    #[test]
    fn a_file_that_changes_after_it_settled_must_be_quiet_for_longer() {
        let mut settle = Settle::new(Duration::from_secs(10));
        let quiet = |settle: &mut Settle, size, begin| {
            settle.note_change(&path(), at(begin));
            settle.scanned(&path(), version(size), at(begin));
            settle.note_change(&path(), at(begin));
            let due = settle.next_deadline().expect("a look is due").since(at(begin));
            settle.take_due(at(begin).after(due), 9);
            assert!(settle.looked(&path(), version(size), at(begin).after(due)));
            due.as_secs()
        };
        assert_eq!(quiet(&mut settle, 1, 0), 20);
        assert_eq!(settle.unrest(at(100)), None, "once is a correction");
        assert_eq!(quiet(&mut settle, 2, 200), 40);
        assert!(settle.unrest(at(300)).is_some_and(|text| text.contains("run/a changed 2 times")));
        assert!((3..20).all(|n| quiet(&mut settle, n, n * 1000) <= 320));
        assert_eq!(settle.unrest(at(90_000)), None, "that was long ago");
    }

    #[test]
    fn a_file_that_a_writer_holds_open_waits_until_it_is_closed_and_no_longer_than_an_hour() {
        let mut settle = Settle::new(Duration::from_secs(10));
        let look = |settle: &mut Settle, is_open: bool, seconds| {
            let held = BTreeSet::from_iter(is_open.then(path));
            settle.take_due(at(seconds), 9);
            settle.note_writers(&[path()], &held);
            settle.looked(&path(), version(1), at(seconds))
        };
        settle.scanned(&path(), version(1), at(0));
        assert!(!look(&mut settle, true, 10) && !look(&mut settle, true, 3_600));
        assert_eq!(settle.next_deadline(), Some(at(3_610)));
        assert!(settle.unrest(at(3_600)).is_some_and(|text| text.contains("run/a open to write")));
        assert!(look(&mut settle, true, 3_610));
        assert_eq!(settle.unrest(at(3_610)), None);
        settle.scanned(&path(), version(1), at(4_000));
        assert!(!look(&mut settle, true, 4_010) && look(&mut settle, false, 4_020));
    }

    #[test]
    fn scans_alone_never_settle_and_never_postpone() {
        let mut settle = Settle::new(Duration::from_secs(10));
        settle.scanned(&path(), version(1), at(0));
        settle.scanned(&path(), version(1), at(50));
        assert_eq!((settle.len(), settle.next_deadline()), (1, Some(at(10))));
    }

    #[test]
    fn hints_about_a_candidate_cost_nothing() {
        let mut settle = Settle::new(Duration::from_secs(10));
        for second in 0..5 {
            settle.hint(path(), at(second));
        }
        assert_eq!(settle.take_due(at(5), 9), [path()]);
        settle.hint(path(), at(6));
        assert_eq!(settle.next_deadline(), None, "a look is under way");
        assert!(!settle.looked(&path(), version(1), at(6)));
        assert_eq!(settle.next_deadline(), Some(at(16)));
    }

    #[test]
    fn a_quiet_period_of_zero_settles_at_the_first_look() {
        let mut settle = Settle::new(Duration::ZERO);
        settle.hint(path(), at(1));
        settle.take_due(at(1), 9);
        assert!(settle.looked(&path(), version(1), at(1)));
    }

    #[test]
    fn a_lost_look_is_made_again() {
        let mut settle = Settle::new(Duration::from_secs(10));
        settle.hint(path(), at(0));
        settle.take_due(at(0), 9);
        settle.retry(&path(), at(1));
        assert_eq!(settle.next_deadline(), Some(at(11)));
    }
}

//! Which observed files have been quiet long enough, and when to look again.
//!
//! A file is settled when two looks, at least one quiet period apart by our own monotonic clock,
//! found the same version of it, untouched in between. Times prove nothing (copies keep old ones,
//! shares set them back after each write, clocks lie), so they are only compared, never judged. A hint about a file that is already a candidate
//! costs nothing: the look that is due will see the change. One instance serves one drop directory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Included, Unbounded};
use std::time::Duration;

use crate::model::{Fingerprint, Monotonic, SourcePath};

/// Candidates of one drop directory.
#[derive(Debug)]
pub(crate) struct Settle {
    quiet_period: Duration,
    candidates: BTreeMap<SourcePath, Candidate>,
    due: BTreeSet<(Monotonic, SourcePath)>,
}

#[derive(Debug)]
struct Candidate {
    /// The version last seen; none after a mere hint.
    version: Option<Fingerprint>,
    /// Since when that version stands.
    since: Monotonic,
    /// When to look; none while a look is under way.
    due: Option<Monotonic>,
}

impl Settle {
    /// Starts with no candidates.
    pub(crate) fn new(quiet_period: Duration) -> Self {
        Self { quiet_period, candidates: BTreeMap::new(), due: BTreeSet::new() }
    }

    /// Changes the quiet period for what is seen from here on.
    pub(crate) fn set_quiet_period(&mut self, quiet_period: Duration) {
        self.quiet_period = quiet_period;
    }

    /// Returns how many files are not settled.
    pub(crate) fn len(&self) -> usize {
        self.candidates.len()
    }

    /// Tells whether any file below a directory is not settled.
    pub(crate) fn has_any_below(&self, directory: &SourcePath) -> bool {
        let below = [directory.as_bytes(), b"/"].concat();
        let mut from = self.candidates.range::<[u8], _>((Included(below.as_slice()), Unbounded));
        from.next().is_some_and(|(path, _)| path.as_bytes().starts_with(&below))
    }

    /// Returns every file that is not settled.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &SourcePath> {
        self.candidates.keys()
    }

    /// Notes that something may have happened at `path`: looks at once unless a look is coming.
    pub(crate) fn hint(&mut self, path: SourcePath, now: Monotonic) {
        if !self.candidates.contains_key(&path) {
            self.candidates
                .insert(path.clone(), Candidate { version: None, since: now, due: Some(now) });
            self.due.insert((now, path));
        }
    }

    /// Notes what a scan saw. Never settles a file: only a look does, for it also tries to open it.
    pub(crate) fn scanned(&mut self, path: &SourcePath, version: Fingerprint, now: Monotonic) {
        let known = self.candidates.get(path);
        if known.is_none_or(|c| c.version.is_none_or(|v| !v.is_untouched(&version))) {
            self.restart(path, version, now);
        }
    }

    /// Notes what a look saw, and tells whether the file is settled (and no candidate any more).
    pub(crate) fn looked(
        &mut self,
        path: &SourcePath,
        version: Fingerprint,
        now: Monotonic,
    ) -> bool {
        let quiet_since = match self.candidates.get(path) {
            Some(c) if c.version.is_some_and(|v| v.is_untouched(&version)) => c.since,
            Some(_) | None => {
                self.restart(path, version, now);
                now
            }
        };
        if now.since(quiet_since) >= self.quiet_period {
            self.forget(path);
            return true;
        }
        self.schedule(path, quiet_since.after(self.quiet_period));
        false
    }

    /// Drops a candidate: it is gone, or known to be uploaded.
    pub(crate) fn forget(&mut self, path: &SourcePath) {
        if let Some((path, candidate)) = self.candidates.remove_entry(path)
            && let Some(due) = candidate.due
        {
            self.due.remove(&(due, path));
        }
    }

    /// Drops the candidates that nothing was heard of since `at`, and tells whether there were any.
    pub(crate) fn forget_before(&mut self, at: Monotonic) -> bool {
        let old = self.candidates.iter().filter(|(_, candidate)| candidate.since < at);
        let old: Vec<_> = old.map(|(path, _)| path.clone()).collect();
        old.iter().for_each(|path| self.forget(path));
        !old.is_empty()
    }

    /// Schedules a look again whose answer did not come.
    pub(crate) fn retry(&mut self, path: &SourcePath, now: Monotonic) {
        self.schedule(path, now.after(self.quiet_period.max(Duration::from_secs(1))));
    }

    /// Takes the candidates to look at, at most `limit`.
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
        let candidate = self.candidates.entry(path.clone()).or_insert(Candidate {
            version: None,
            since: now,
            due: None,
        });
        candidate.version = Some(version);
        candidate.since = now;
        self.schedule(path, now.after(self.quiet_period));
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

//! The compiled patterns of a profile over paths: runs, and the roles of files.

use globset::{Candidate, GlobMatcher, GlobSet};

use crate::model::Role;
use crate::source::patterns::{Candidates, Ordered, Patterns};

/// A profile's classification of one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::source) struct Class {
    pub(in crate::source) role: Role,
    /// The position of the first pattern of `first` that matches.
    pub(in crate::source) first: Option<usize>,
}

impl Class {
    pub(in crate::source) const PLAIN: Self = Self { role: Role::Plain, first: None };
}

#[derive(Debug, Clone)]
pub(super) struct Matching {
    pub(super) runs: GlobSet,
    /// Directories above runs: a file directly in one belongs to no run.
    pub(super) above: GlobSet,
    /// Markers, by position; relative to the run.
    pub(super) markers: Vec<GlobMatcher>,
    pub(super) any_marker: GlobSet,
    pub(super) first: Ordered,
    pub(super) any_first: Patterns,
    pub(super) held: Patterns,
    pub(super) written_once: Patterns,
    pub(super) never_empty: Patterns,
    pub(super) left_out: Patterns,
    /// Directories below a run whose whole content is left out.
    pub(super) left_out_below: GlobSet,
}

impl Matching {
    /// Returns the length of the shortest ancestor directory that is a run, else of the top one;
    /// `None` for a file at the top, or directly above runs.
    pub(super) fn run_of(&self, path: &[u8]) -> Option<usize> {
        let top = || path.iter().position(|byte| *byte == b'/').filter(|_| !self.is_above(path));
        self.run_by_pattern(path).or_else(top)
    }

    fn is_above(&self, path: &[u8]) -> bool {
        let directory = path.iter().rposition(|byte| *byte == b'/').map(|at| &path[..at]);
        !self.above.is_empty()
            && directory.is_some_and(|it| self.above.is_match_candidate(&Candidate::from_bytes(it)))
    }

    /// Returns whether the file at `path`, relative to its run, is incomplete while it is empty.
    pub(super) fn is_never_empty(&self, path: &[u8]) -> bool {
        self.never_empty.matches(&Candidates::of(path))
    }

    fn run_by_pattern(&self, path: &[u8]) -> Option<usize> {
        if self.runs.is_empty() {
            return None;
        }
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes
            .map(|(at, _)| at)
            .find(|at| self.runs.is_match_candidate(&Candidate::from_bytes(&path[..*at])))
    }

    /// Returns the classification of the file at `path`, relative to its run.
    pub(super) fn classify(&self, path: &[u8]) -> Class {
        if self.is_empty() {
            return Class::PLAIN;
        }
        let candidates = Candidates::of(path);
        if self.any_marker.is_match_candidate(&candidates.path)
            && let Some(role) = self.marker(&candidates)
        {
            return Class { role, first: None };
        }
        let is_first = self.any_first.matches(&candidates);
        let first = is_first.then(|| self.first.position(&candidates)).flatten();
        let is_held = self.held.matches(&candidates) && !self.written_once.matches(&candidates);
        Class { role: if is_held { Role::Held } else { Role::Plain }, first }
    }

    fn is_empty(&self) -> bool {
        self.markers.is_empty() && self.any_first.is_empty() && self.held.is_empty()
    }

    fn marker(&self, candidates: &Candidates<'_>) -> Option<Role> {
        let found = |glob: &GlobMatcher| glob.is_match_candidate(&candidates.path);
        u8::try_from(self.markers.iter().position(found)?).ok().map(Role::Marker)
    }

    /// Returns whether the file at `path`, relative to its run, is left out.
    pub(super) fn leaves_out(&self, path: &[u8]) -> bool {
        self.left_out.matches(&Candidates::of(path))
    }

    /// Returns whether everything below a directory is left out.
    ///
    /// If runs are found by patterns, only within a run: below another directory there may still be
    /// a run.
    pub(super) fn leaves_out_below(&self, directory: &[u8]) -> bool {
        if self.left_out_below.is_empty() {
            return false;
        }
        let run = match self.runs.is_empty() {
            true => self.run_of(directory),
            false => self.run_by_pattern(directory),
        };
        let below = |run: usize| Candidate::from_bytes(&directory[run + 1..]);
        run.is_some_and(|run| self.left_out_below.is_match_candidate(&below(run)))
    }
}

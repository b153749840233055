//! Which files of a drop directory are wanted, which are sent first, and which run each belongs to.
//!
//! Owns the compiled patterns of one drop directory: `include`, `exclude` and `order`, and those of
//! its profile. It promises the same answer to the scan, to a look and to the watcher, so that a
//! file is never wanted by one and unwanted by another. It never touches the file system: it only
//! sees paths, once for each file of each scan, and allocates nothing then.
//!
//! A pattern without a slash is compared with the file's name, at any depth: `*.xml`. One with a
//! slash is compared with the path relative to the drop directory: `raw/**`, `*/out.csv`; a leading
//! slash anchors a bare name at the top: `/README`. `*` and `?` stop at slashes, `**` does not.
//! An empty `include` means everything; `exclude` wins over `include`. Patterns of the profile are
//! relative to the run, and take large and small letters for the same.
//!
//! Files that systems and copying programs leave behind (`leftovers`) are not wanted. Files that the profile
//! leaves out are sent if a pattern of `include` requests them; `**`, `**/*` and `*` are not such requests.
//!
//! A directory is pruned, that is not entered at all, when an `exclude` pattern ends in `/**` and
//! the rest of it matches the directory; also by a pattern of the profile, unless `include`
//! requests specific files.
//!
//! Called by `scan`, `look` and `watch`; built by the shell from [`super::Settings`].

use std::sync::Arc;

use globset::{Candidate, GlobSet};

use super::leftovers::Leftovers;
use super::patterns::{Candidates, Ordered, Patterns, Rules};
use super::profile::{Class, Profile};
use super::{PatternError, Settings};
use crate::model::{IgnoreReason, Place, Role, Seen, SourcePath, Unit};

/// Patterns of `include` that request no specific files.
const EVERYTHING: [&str; 3] = ["**", "**/*", "*"];

/// The compiled patterns of one drop directory.
#[derive(Debug, Clone)]
pub struct Filter {
    include: Option<Patterns>,
    /// Specific requests of the user, which the profile may leave out.
    asked_for: Patterns,
    /// `None` where every file was requested.
    leftovers: Option<Leftovers>,
    exclude: Patterns,
    pruned: GlobSet,
    pub(super) order: Ordered,
    unit: Unit,
    pub(super) profile: Arc<Profile>,
}

impl Filter {
    /// Compiles the patterns of `settings`.
    ///
    /// # Errors
    /// [`PatternError`] names the first pattern that is not a glob.
    pub fn new(settings: &Settings) -> Result<Self, PatternError> {
        let rules = Rules::exact("include");
        let asked_for: Vec<_> = settings
            .include
            .iter()
            .filter(|pattern| !EVERYTHING.contains(&pattern.as_str()))
            .cloned()
            .collect();
        let includes_all =
            settings.include.is_empty() || settings.include.iter().any(|pattern| pattern == "**");
        let include = (!includes_all).then(|| Patterns::new(rules, &settings.include));
        let leftovers = (!settings.takes_all).then(|| Leftovers::new(&settings.include));
        let exclude = Rules::exact("exclude");
        Ok(Self {
            include: include.transpose()?,
            asked_for: Patterns::new(rules, &asked_for)?,
            leftovers: leftovers.transpose()?,
            exclude: Patterns::new(exclude, &settings.exclude)?,
            pruned: exclude.directories(&settings.exclude)?,
            order: Ordered::new(Rules::exact("order"), &settings.order)?,
            unit: settings.unit,
            profile: Arc::clone(&settings.profile),
        })
    }

    /// Returns whether the file at `path` is wanted.
    pub fn admits(&self, path: &SourcePath) -> bool {
        self.refusal(path).is_none()
    }

    /// Returns why the file at `path` is not wanted; `None` when it is.
    pub fn refusal(&self, path: &SourcePath) -> Option<IgnoreReason> {
        if self.leftovers.as_ref().is_some_and(|left| left.has_file(path.as_bytes())) {
            return Some(IgnoreReason::LeftOver);
        }
        let has_rules = self.include.is_some() || !self.exclude.is_empty();
        if !has_rules && !self.profile.leaves_out_any() {
            return None;
        }
        let candidates = Candidates::of(path.as_bytes());
        let is_included = self.include.as_ref().is_none_or(|set| set.matches(&candidates));
        if !is_included || self.exclude.matches(&candidates) {
            return Some(IgnoreReason::Filtered);
        }
        let is_left_out = self.profile.leaves_out_any()
            && self.profile.leaves_out(self.within_run(path))
            && !self.asked_for.matches(&candidates);
        is_left_out.then_some(IgnoreReason::ByProfile)
    }

    /// Returns whether everything below `directory` is excluded, so that it need not be entered.
    pub fn prunes(&self, directory: &SourcePath) -> bool {
        self.pruning(directory).is_some()
    }

    /// Returns why `directory` need not be entered; `None` when it must.
    pub fn pruning(&self, directory: &SourcePath) -> Option<IgnoreReason> {
        self.pruning_of(directory.as_bytes())
    }

    fn pruning_of(&self, directory: &[u8]) -> Option<IgnoreReason> {
        if self.leftovers.as_ref().is_some_and(|left| left.has_directory(directory)) {
            return Some(IgnoreReason::LeftOver);
        }
        if self.pruned.is_match_candidate(&Candidate::from_bytes(directory)) {
            return Some(IgnoreReason::Filtered);
        }
        let is_left_out = self.asked_for.is_empty()
            && self.unit == Unit::Directory
            && self.profile.leaves_out_below(directory);
        is_left_out.then_some(IgnoreReason::ByProfile)
    }

    /// Returns whether `path` lies below a pruned directory.
    pub fn is_pruned_away(&self, path: &SourcePath) -> bool {
        path.above().any(|directory| self.pruning_of(directory).is_some())
    }

    /// Returns the position of the file at `path` among others.
    pub fn place(&self, path: &SourcePath) -> Place {
        let bytes = path.as_bytes();
        let alone = Place::alone(path);
        let run = self.run_of(bytes);
        let run_length = run.and_then(|length| u32::try_from(length).ok());
        // A single file waits for nothing: it has no marker, and nothing is held.
        let class = match run {
            Some(length) => self.profile.classify(&bytes[length + 1..]),
            None => Class::PLAIN,
        };
        Place {
            run_length: run_length.unwrap_or(alone.run_length),
            rank: self.rank_of(bytes, class),
            role: class.role,
        }
    }

    /// Returns the position of an observed file among others: an empty file that is never empty
    /// when it is complete is sent after its run is closed.
    pub fn place_of(&self, path: &SourcePath, seen: &Seen) -> Place {
        let place = self.place(path);
        let is_empty = matches!(seen, Seen::File(version) if version.size.0 == 0);
        let waits = || {
            place.role == Role::Plain
                && !place.is_alone(path)
                && self.profile.is_never_empty(self.within_run(path))
        };
        if is_empty && waits() { Place { role: Role::Held, ..place } } else { place }
    }

    /// Returns the rank of the file at `path` in the order of sending.
    ///
    /// First the drop directory's own `order`, by position; then the files that the profile sends
    /// first, by position; then most files; markers last of all, whatever `order` says.
    pub fn rank(&self, path: &SourcePath) -> u32 {
        self.place(path).rank
    }

    fn rank_of(&self, path: &[u8], class: Class) -> u32 {
        let many = self.order.len() + self.profile.first_count();
        let rank = match class.role {
            Role::Marker(_) => many + 1,
            Role::Plain | Role::Held => {
                let ordered = (self.order.len() > 0)
                    .then(|| self.order.position(&Candidates::of(path)))
                    .flatten();
                let first = class.first.map(|position| self.order.len() + position);
                ordered.or(first).unwrap_or(many)
            }
        };
        u32::try_from(rank).unwrap_or(u32::MAX)
    }

    /// Returns how many bytes of `path` name its run; `None` for a single file.
    fn run_of(&self, path: &[u8]) -> Option<usize> {
        match self.unit {
            Unit::Directory => self.profile.run_of(path),
            Unit::File => None,
        }
    }

    /// Returns the path below the run; for a single file, its name.
    fn within_run<'a>(&self, path: &'a SourcePath) -> &'a [u8] {
        self.run_of(path.as_bytes())
            .map_or(path.file_name(), |length| &path.as_bytes()[length + 1..])
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::filter;
    use super::*;

    fn path(text: &str) -> SourcePath {
        SourcePath::from_bytes(text.as_bytes())
    }

    #[test]
    fn empty_lists_admit_everything() {
        let all = filter(&[], &[], &[]);
        assert!(all.admits(&path("a/b/c")));
        assert_eq!(all.rank(&path("a")), 0);
    }

    #[test]
    fn pattern_without_slash_matches_the_name_at_any_depth() {
        let xml = filter(&["*.xml"], &[], &[]);
        assert!(xml.admits(&path("RunInfo.xml")));
        assert!(xml.admits(&path("a/b/RunInfo.xml")));
        assert!(!xml.admits(&path("a.xml/b")));
    }

    #[test]
    fn star_stops_at_a_slash_and_two_stars_do_not() {
        let one = filter(&["raw/*.csv"], &[], &[]);
        assert!(one.admits(&path("raw/x.csv")));
        assert!(!one.admits(&path("raw/deep/x.csv")));
        let two = filter(&["raw/**"], &[], &[]);
        assert!(two.admits(&path("raw/deep/x.csv")));
        assert!(!two.admits(&path("other/x.csv")));
        assert!(filter(&["**"], &[], &[]).admits(&path("a/b/c")));
    }

    #[test]
    fn leading_slash_anchors_at_the_top() {
        let top = filter(&["/README"], &[], &[]);
        assert!(top.admits(&path("README")));
        assert!(!top.admits(&path("a/README")));
    }

    #[test]
    fn exclude_wins_over_include() {
        let both = filter(&["*.gz"], &["tmp-*"], &[]);
        assert!(both.admits(&path("a.gz")));
        assert!(!both.admits(&path("x/tmp-a.gz")));
    }

    #[test]
    fn directory_patterns_prune() {
        let thumbs = filter(&[], &["**/Thumbnail_Images/**", "/top/**", "*.tmp"], &[]);
        assert!(thumbs.prunes(&path("Thumbnail_Images")));
        assert!(thumbs.prunes(&path("a/b/Thumbnail_Images")));
        assert!(thumbs.prunes(&path("top")));
        assert!(!thumbs.prunes(&path("a/top")));
        assert!(!thumbs.prunes(&path("a.tmp")));
        assert!(!thumbs.admits(&path("a/Thumbnail_Images/x.jpg")));
        assert!(thumbs.is_pruned_away(&path("a/Thumbnail_Images/deep/x.jpg")));
        assert!(!thumbs.is_pruned_away(&path("a/Thumbnail_Images")));
    }

    #[test]
    fn excluding_everything_prunes_no_directory_by_accident() {
        assert!(!filter(&[], &["**"], &[]).prunes(&path("a")));
    }

    #[test]
    fn rank_is_the_first_match_or_the_length() {
        let order = filter(&[], &[], &["*.xml", "SampleSheet*.csv", "late/**"]);
        assert_eq!(order.rank(&path("d/RunInfo.xml")), 0);
        assert_eq!(order.rank(&path("SampleSheet_1.csv")), 1);
        assert_eq!(order.rank(&path("late/RunInfo.xml")), 0);
        assert_eq!(order.rank(&path("late/x")), 2);
        assert_eq!(order.rank(&path("x")), 3);
    }

    #[test]
    fn names_that_are_not_utf8_are_matched() {
        let gz = filter(&["*.gz"], &[], &[]);
        assert!(gz.admits(&SourcePath::from_bytes(b"\xff\n.gz")));
        assert!(!gz.admits(&SourcePath::from_bytes(b"\xff")));
    }

    #[test]
    fn bad_pattern_is_named_with_its_list() {
        let settings =
            Settings { exclude: vec!["a[".to_owned()], ..super::super::tests::settings() };
        let error = Filter::new(&settings).unwrap_err();
        assert_eq!(error.to_string(), "pattern \"a[\" in exclude is not understood");
    }
}

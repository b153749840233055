//! Which files of a drop directory are wanted, and which go first.
//!
//! Owns the compiled patterns of one drop: `include`, `exclude` and `order`. It promises the same
//! answer to the scan, to a look and to the watcher, so that a file is never wanted by one and
//! unwanted by another. It never touches the file system: it sees paths only.
//!
//! A pattern without a slash is compared with the file's name, at any depth: `*.xml`. One with a
//! slash is compared with the path relative to the drop directory: `raw/**`, `*/out.csv`; a leading
//! slash anchors a bare name at the top: `/README`. `*` and `?` stop at slashes, `**` does not.
//! An empty `include` means everything; `exclude` wins over `include`.
//!
//! A directory is pruned, that is not entered at all, when an `exclude` pattern ends in `/**` and
//! what stands before that matches the directory.
//!
//! Called by `scan`, `look` and `watch`; built by the shell from [`super::Settings`].

use globset::{Candidate, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

use super::Settings;
use crate::model::{Place, Role, SourcePath, Unit};

/// A pattern that could not be understood.
#[derive(Debug, thiserror::Error)]
#[error("pattern \"{pattern}\" in {list} is not understood")]
pub struct PatternError {
    /// Which setting it stands in: `include`, `exclude` or `order`.
    pub list: &'static str,
    /// The pattern as it was written.
    pub pattern: String,
    /// What is wrong with it.
    #[source]
    pub source: globset::Error,
}

/// The compiled patterns of one drop.
#[derive(Debug, Clone)]
pub struct Filter {
    include: Option<Patterns>,
    exclude: Patterns,
    pruned: GlobSet,
    order: Vec<Pattern>,
    unit: Unit,
}

impl Filter {
    /// Compiles the patterns of `settings`.
    ///
    /// # Errors
    /// [`PatternError`] names the first pattern that is not a glob.
    pub fn new(settings: &Settings) -> Result<Self, PatternError> {
        let include = match settings.include.as_slice() {
            [] => None,
            patterns => Some(Patterns::new("include", patterns)?),
        };
        Ok(Self {
            include,
            exclude: Patterns::new("exclude", &settings.exclude)?,
            pruned: pruned_directories(&settings.exclude)?,
            order: compile_order(&settings.order)?,
            unit: settings.unit,
        })
    }

    /// Tells whether the file at `path` is wanted.
    pub fn admits(&self, path: &SourcePath) -> bool {
        let candidates = Candidates::of(path);
        let included = self.include.as_ref().is_none_or(|set| set.matches(&candidates));
        included && !self.exclude.matches(&candidates)
    }

    /// Tells whether everything below `directory` is excluded, so that it need not be entered.
    pub fn prunes(&self, directory: &SourcePath) -> bool {
        self.pruned.is_match_candidate(&Candidate::from_bytes(directory.as_bytes()))
    }

    /// Tells whether `path` lies below a pruned directory.
    pub fn is_pruned_away(&self, path: &SourcePath) -> bool {
        let bytes = path.as_bytes();
        let slashes = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        !self.pruned.is_empty()
            && slashes
                .map(|(at, _)| &bytes[..at])
                .any(|directory| self.pruned.is_match_candidate(&Candidate::from_bytes(directory)))
    }

    /// Returns where the file at `path` stands among others.
    pub fn place(&self, path: &SourcePath) -> Place {
        let alone = Place { rank: self.rank(path), ..Place::alone(path) };
        let top = match self.unit {
            Unit::Directory => path.as_bytes().iter().position(|byte| *byte == b'/'),
            Unit::File => None,
        };
        let unit_length = top.and_then(|at| u32::try_from(at).ok()).unwrap_or(alone.unit_length);
        Place { unit_length, role: Role::Plain, ..alone }
    }

    /// Returns the position of the first `order` pattern that matches, or the length of the list.
    pub fn rank(&self, path: &SourcePath) -> u32 {
        let candidates = Candidates::of(path);
        let first = self.order.iter().position(|pattern| pattern.matches(&candidates));
        u32::try_from(first.unwrap_or(self.order.len())).unwrap_or(u32::MAX)
    }
}

/// The two texts that patterns are compared with.
struct Candidates<'a> {
    name: Candidate<'a>,
    path: Candidate<'a>,
}

impl<'a> Candidates<'a> {
    fn of(path: &'a SourcePath) -> Self {
        Self {
            name: Candidate::from_bytes(path.file_name()),
            path: Candidate::from_bytes(path.as_bytes()),
        }
    }
}

/// Patterns of which any may match.
#[derive(Debug, Clone)]
struct Patterns {
    names: GlobSet,
    paths: GlobSet,
}

impl Patterns {
    fn new(list: &'static str, patterns: &[String]) -> Result<Self, PatternError> {
        let mut names = GlobSetBuilder::new();
        let mut paths = GlobSetBuilder::new();
        for pattern in patterns {
            match by_path(pattern) {
                Some(anchored) => paths.add(compile(list, anchored)?),
                None => names.add(compile(list, pattern)?),
            };
        }
        let build = |set: &GlobSetBuilder| {
            set.build().map_err(|source| refuse(list, &patterns.join(", "), source))
        };
        Ok(Self { names: build(&names)?, paths: build(&paths)? })
    }

    fn matches(&self, candidates: &Candidates<'_>) -> bool {
        self.names.is_match_candidate(&candidates.name)
            || self.paths.is_match_candidate(&candidates.path)
    }
}

/// One pattern whose position matters.
#[derive(Debug, Clone)]
enum Pattern {
    Name(GlobMatcher),
    Path(GlobMatcher),
}

impl Pattern {
    fn matches(&self, candidates: &Candidates<'_>) -> bool {
        match self {
            Self::Name(glob) => glob.is_match_candidate(&candidates.name),
            Self::Path(glob) => glob.is_match_candidate(&candidates.path),
        }
    }
}

fn compile_order(patterns: &[String]) -> Result<Vec<Pattern>, PatternError> {
    let one = |pattern: &String| {
        Ok(match by_path(pattern) {
            Some(anchored) => Pattern::Path(compile("order", anchored)?.compile_matcher()),
            None => Pattern::Name(compile("order", pattern)?.compile_matcher()),
        })
    };
    patterns.iter().map(one).collect()
}

fn pruned_directories(exclude: &[String]) -> Result<GlobSet, PatternError> {
    let mut set = GlobSetBuilder::new();
    for pattern in exclude {
        let directory = pattern.strip_suffix("/**").map(|kept| kept.trim_start_matches('/'));
        if let Some(directory) = directory.filter(|kept| !kept.is_empty()) {
            set.add(compile("exclude", directory)?);
        }
    }
    set.build().map_err(|source| refuse("exclude", &exclude.join(", "), source))
}

/// Returns the pattern to compare with the whole path; `None` when it is for names.
fn by_path(pattern: &str) -> Option<&str> {
    pattern.contains('/').then(|| pattern.trim_start_matches('/'))
}

fn compile(list: &'static str, pattern: &str) -> Result<globset::Glob, PatternError> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
        .map_err(|source| refuse(list, pattern, source))
}

fn refuse(list: &'static str, pattern: &str, source: globset::Error) -> PatternError {
    PatternError { list, pattern: pattern.to_owned(), source }
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

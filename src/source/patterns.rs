//! Compiled patterns over paths, for the lists of drop directories and profiles.
//!
//! A pattern without a slash is compared with the file's name, at any depth; one with a slash with
//! the whole path, relative to the base of its list. Matching allocates nothing: it happens for
//! every file of every scan. It never touches the file system.
//!
//! Called by `filter`, for the lists of a drop directory, and by `profile`, for those of a profile.

use globset::{Candidate, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};

#[derive(Debug, thiserror::Error)]
#[error("pattern \"{pattern}\" in {list} is not understood")]
pub struct PatternError {
    /// Its setting: `include`, `exclude` or `order`.
    pub list: &'static str,
    pub pattern: String,
    #[source]
    pub source: globset::Error,
}

/// The matching rules of a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) list: &'static str,
    /// Case is ignored.
    pub(super) ignores_case: bool,
}

impl Rules {
    /// The rules of a drop directory's own lists.
    pub(super) fn exact(list: &'static str) -> Self {
        Self { list, ignores_case: false }
    }

    /// The rules of a profile's lists.
    pub(super) fn loose(list: &'static str) -> Self {
        Self { list, ignores_case: true }
    }

    pub(super) fn compile(self, pattern: &str) -> Result<globset::Glob, PatternError> {
        GlobBuilder::new(pattern)
            .literal_separator(true)
            .case_insensitive(self.ignores_case)
            .build()
            .map_err(|source| self.refuse(pattern, source))
    }

    fn refuse(self, pattern: &str, source: globset::Error) -> PatternError {
        PatternError { list: self.list, pattern: pattern.to_owned(), source }
    }

    /// Compiles patterns that are all compared with whole paths.
    pub(super) fn paths<'a>(
        self,
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<GlobSet, PatternError> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            set.add(self.compile(pattern)?);
        }
        set.build().map_err(|source| self.refuse("", source))
    }

    /// Returns the directories below which everything matches: those of patterns that end in `/**`.
    pub(super) fn directories(self, patterns: &[String]) -> Result<GlobSet, PatternError> {
        let kept = |pattern: &'_ String| -> Option<String> {
            let directory = pattern.strip_suffix("/**")?.trim_start_matches('/');
            (!directory.is_empty()).then(|| directory.to_owned())
        };
        let directories: Vec<_> = patterns.iter().filter_map(kept).collect();
        self.paths(directories.iter().map(String::as_str))
    }
}

/// The two texts that patterns are compared with.
pub(super) struct Candidates<'a> {
    pub(super) name: Candidate<'a>,
    pub(super) path: Candidate<'a>,
}

impl<'a> Candidates<'a> {
    pub(super) fn of(path: &'a [u8]) -> Self {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        Self { name: Candidate::from_bytes(name), path: Candidate::from_bytes(path) }
    }
}

/// Patterns without an order.
#[derive(Debug, Clone)]
pub(super) struct Patterns {
    names: GlobSet,
    paths: GlobSet,
}

impl Patterns {
    pub(super) fn new(rules: Rules, patterns: &[String]) -> Result<Self, PatternError> {
        let anchored = patterns.iter().filter_map(|pattern| by_path(pattern));
        let bare = patterns.iter().filter(|pattern| by_path(pattern).is_none());
        Ok(Self { names: rules.paths(bare.map(String::as_str))?, paths: rules.paths(anchored)? })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.paths.is_empty()
    }

    pub(super) fn matches(&self, candidates: &Candidates<'_>) -> bool {
        self.names.is_match_candidate(&candidates.name)
            || self.paths.is_match_candidate(&candidates.path)
    }
}

/// Patterns whose order matters.
#[derive(Debug, Clone)]
pub(super) struct Ordered(Vec<Pattern>);

#[derive(Debug, Clone)]
enum Pattern {
    Name(GlobMatcher),
    Path(GlobMatcher),
}

impl Ordered {
    pub(super) fn new(rules: Rules, patterns: &[String]) -> Result<Self, PatternError> {
        let one = |pattern: &String| {
            Ok(match by_path(pattern) {
                Some(anchored) => Pattern::Path(rules.compile(anchored)?.compile_matcher()),
                None => Pattern::Name(rules.compile(pattern)?.compile_matcher()),
            })
        };
        Ok(Self(patterns.iter().map(one).collect::<Result<_, _>>()?))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the position of the first that matches.
    pub(super) fn position(&self, candidates: &Candidates<'_>) -> Option<usize> {
        self.0.iter().position(|pattern| match pattern {
            Pattern::Name(glob) => glob.is_match_candidate(&candidates.name),
            Pattern::Path(glob) => glob.is_match_candidate(&candidates.path),
        })
    }
}

/// Returns the pattern for the whole path; `None` when it is for names.
fn by_path(pattern: &str) -> Option<&str> {
    pattern.contains('/').then(|| pattern.trim_start_matches('/'))
}

//! A profile's rules for a run's own files, checked and compiled: where each word is, what closes
//! the run, where samples, outcome and manifest are. `run` applies them.

use globset::GlobMatcher;
use regex::bytes::Regex;

/// Files of a run by a pattern, with one matcher for each component of the path below the run.
#[derive(Debug, Clone)]
pub(in crate::source) struct FilePattern {
    pub(in crate::source) text: String,
    /// Directories, then the file.
    pub(in crate::source) parts: Vec<GlobMatcher>,
}

/// The source of a word.
#[derive(Debug, Clone)]
pub(in crate::source) enum Origin {
    /// The run's own path: the group named after the word.
    Path(Regex),
    File(FilePattern, Spot),
}

/// The position of a value in a file.
#[derive(Debug, Clone)]
pub(in crate::source) enum Spot {
    /// An element's text or an attribute.
    Xml(XmlPath),
    /// A member; names from the outermost.
    Json(Vec<String>),
    /// A line `key=value`.
    Key(String),
    /// The file's name: the group named after the word.
    Name(Regex),
}

/// An element of a document, `RunInfo/Run`, and optionally an attribute of it, `@Id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) struct XmlPath {
    /// Local names from the outermost; `*` matches any.
    pub(in crate::source) elements: Vec<String>,
    pub(in crate::source) attribute: Option<String>,
}

impl XmlPath {
    /// Parses `RunInfo/Run@Id`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (elements, attribute) = match text.split_once('@') {
            Some((elements, attribute)) => (elements, Some(attribute)),
            None => (text, None),
        };
        let elements: Vec<_> = elements.split('/').map(str::to_owned).collect();
        let is_whole = elements.iter().all(|name| !name.is_empty()) && attribute != Some("");
        is_whole.then(|| Self { elements, attribute: attribute.map(str::to_owned) })
    }
}

#[derive(Debug, Clone)]
pub(in crate::source) struct CloseRule {
    /// Conditions: each of these words must match one of its patterns.
    pub(in crate::source) when: Vec<(&'static str, Vec<GlobMatcher>)>,
    /// Any of these sets of markers.
    pub(in crate::source) any_of: Vec<u64>,
    /// Optional markers, as a set of positions: without any of them the closing time is multiplied
    /// by this.
    pub(in crate::source) sooner_with: u64,
    pub(in crate::source) patience: u32,
    /// The same for people.
    pub(in crate::source) waits_for: String,
}

#[derive(Debug, Clone)]
pub(in crate::source) struct SamplesRule {
    pub(in crate::source) file: FilePattern,
    /// The first of these that exists; empty: the file is one table.
    pub(in crate::source) sections: Vec<String>,
    /// Each of these that exists.
    pub(in crate::source) columns: Vec<String>,
}

/// Where a run gives its outcome.
#[derive(Debug, Clone)]
pub(in crate::source) struct OutcomeRule {
    pub(in crate::source) file: FilePattern,
    pub(in crate::source) spot: Spot,
    pub(in crate::source) success: Vec<String>,
}

/// Where a run lists its files.
#[derive(Debug, Clone)]
pub(in crate::source) struct ManifestRule {
    pub(in crate::source) file: FilePattern,
    /// `None`: a line is one cell.
    pub(in crate::source) separator: Option<u8>,
    pub(in crate::source) column: Column,
    /// Only lines with an absolute path count.
    pub(in crate::source) is_absolute: bool,
}

/// The cell of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) enum Column {
    /// Counted from 0.
    Number(usize),
    /// By the first line.
    Name(String),
}

/// Files that come after a run was completed, below one directory, and the markers that end them.
#[derive(Debug, Clone)]
pub(in crate::source) struct WaveRule {
    pub(in crate::source) below: FilePattern,
    /// Any of these, below the directory.
    pub(in crate::source) ends: Vec<FilePattern>,
    /// The same as a set of marker positions.
    pub(in crate::source) markers: u64,
}

/// When a run is skipped.
#[derive(Debug, Clone)]
pub(in crate::source) struct SkipRule {
    /// The file that decides, once it exists.
    pub(in crate::source) file: FilePattern,
    /// The required value; `None` where the file alone decides.
    pub(in crate::source) says: Option<(Spot, Vec<GlobMatcher>)>,
    /// None of these exists.
    pub(in crate::source) lacks: Vec<FilePattern>,
    pub(in crate::source) reason: String,
}

#[derive(Debug, Clone, Default)]
pub(in crate::source) struct Reading {
    pub(in crate::source) identified_by: Vec<FilePattern>,
    pub(in crate::source) closes: Vec<CloseRule>,
    pub(in crate::source) waves: Vec<WaveRule>,
    pub(in crate::source) skips: Vec<SkipRule>,
    pub(in crate::source) words: Vec<(&'static str, Vec<Origin>)>,
    pub(in crate::source) samples: Vec<SamplesRule>,
    pub(in crate::source) outcome: Vec<OutcomeRule>,
    pub(in crate::source) manifest: Vec<ManifestRule>,
}

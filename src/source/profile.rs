//! Sequencer profiles: descriptions of kinds of run folders, as data.
//!
//! A profile defines which directories are runs, what closes one, what is sent first, what is held
//! until then, what is never sent unless requested, and where a run's own files name it. Several
//! are compiled in from `config/profiles/`; a file beside the configuration adds another or
//! replaces one. A new instrument needs a file and no code; `docs/profiles.md` documents every key.
//!
//! Owns the keys of such a file, their checks, and the compiled patterns over paths. It promises
//! that matching a path allocates nothing and costs a few microseconds, because it is done for each
//! file of each scan. It never touches the file system: [`super::run`] reads a run by these rules.
//!
//! Built by `config`, used by [`super::Filter`] and by [`super::run`].

mod check;
mod matching;
mod raw;
mod reading;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub(super) use matching::Class;
pub(super) use reading::{
    CloseRule, Column, FilePattern, ManifestRule, Origin, Reading, SkipRule, Spot, XmlPath,
};

use matching::Matching;

use crate::model::Closing;

/// The names of the profiles that are compiled in.
pub(crate) const NAMES: [&str; 11] = [
    "plain",
    "illumina",
    "nanopore",
    "pacbio",
    "element",
    "mgi",
    "iontorrent",
    "10x",
    "bionano",
    "microscopy",
    "massspec",
];

/// Their files, in the same order.
const TEXTS: [&str; NAMES.len()] = [
    include_str!("../../config/profiles/plain.toml"),
    include_str!("../../config/profiles/illumina.toml"),
    include_str!("../../config/profiles/nanopore.toml"),
    include_str!("../../config/profiles/pacbio.toml"),
    include_str!("../../config/profiles/element.toml"),
    include_str!("../../config/profiles/mgi.toml"),
    include_str!("../../config/profiles/iontorrent.toml"),
    include_str!("../../config/profiles/10x.toml"),
    include_str!("../../config/profiles/bionano.toml"),
    include_str!("../../config/profiles/microscopy.toml"),
    include_str!("../../config/profiles/massspec.toml"),
];

/// An error in a profile's file.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is no TOML, or has an unknown key or a wrong type.
    #[error("the profile is not understood: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A value is not possible.
    #[error("{message}")]
    Value {
        /// Its position in the file, if it has one.
        span: Option<Range<usize>>,
        /// The key, the value, and the problem.
        message: String,
        hint: Option<String>,
    },
}

/// The description of a kind of run folder.
#[derive(Debug, Clone)]
pub struct Profile {
    name: String,
    raw: raw::ProfileKeys,
    quiet_periods: u32,
    stale_after: Duration,
    markers: Vec<String>,
    matching: Matching,
    reading: Reading,
}

impl PartialEq for Profile {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.raw == other.raw
    }
}

impl Eq for Profile {}

impl Profile {
    /// Returns the compiled-in profile of this name.
    pub fn builtin(name: &str) -> Option<Arc<Self>> {
        static PARSED: [OnceLock<Arc<Profile>>; NAMES.len()] =
            [const { OnceLock::new() }; NAMES.len()];
        let index = NAMES.iter().position(|known| *known == name)?;
        let parse = || {
            let parsed = Self::parse(name, TEXTS[index]);
            Arc::new(parsed.expect("a test parses every profile that is compiled in"))
        };
        Some(Arc::clone(PARSED[index].get_or_init(parse)))
    }

    /// Returns the profile without rules: runs are the directories at the top, and close after a
    /// period without change.
    pub fn plain() -> Arc<Self> {
        Self::builtin(NAMES[0]).expect("the first of the names is compiled in")
    }

    /// Parses and checks the text of a profile.
    ///
    /// # Errors
    /// [`ProfileError`] names the first problem, with its position and what is allowed.
    pub fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        let own: raw::ProfileKeys = toml::from_str(text)?;
        let raw = match own.based_on.clone() {
            Some(base) => own.or(check::base(&base)?),
            None => own,
        };
        check::profile(name, raw)
    }

    /// Returns its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its description for people.
    pub fn description(&self) -> &str {
        self.raw.description.as_deref().unwrap_or_default()
    }

    /// Returns how its runs are closed in a drop directory with this quiet period.
    pub fn closing(&self, quiet_period: Duration) -> Closing {
        Closing {
            reads_runs: self.reads_runs(),
            may_skip: !self.reading.skips.is_empty(),
            has_groups: self.raw.notify_above == Some(true),
            tells_runs_apart: self.is_identified_by_files(),
            quiet: quiet_period * self.quiet_periods,
            stale_after: self.stale_after,
        }
    }

    /// Returns how many quiet periods a run must be unchanged before it counts as closed: after its
    /// markers are there, or without markers.
    pub fn quiet_periods(&self) -> u32 {
        self.quiet_periods
    }

    /// Returns how long a run may lack its markers before it is reported.
    pub fn stale_after(&self) -> Duration {
        self.stale_after
    }

    /// Returns whether files of a run identify it among the instrument's runs.
    pub(crate) fn is_identified_by_files(&self) -> bool {
        !self.reading.identified_by.is_empty()
    }

    /// Returns whether this profile reads any of a run's own files.
    pub fn reads_runs(&self) -> bool {
        let Reading { closes, words, samples, outcome, manifest, skips, .. } = &self.reading;
        let has_markers = !self.markers.is_empty() || !closes.is_empty();
        let has_words = words.iter().any(|(_, origins)| !origins.is_empty());
        has_markers
            || has_words
            || !(samples.is_empty()
                && outcome.is_empty()
                && manifest.is_empty()
                && skips.is_empty())
    }

    /// Returns every marker's pattern; positions are those of [`crate::model::Role::Marker`].
    pub fn markers(&self) -> &[String] {
        &self.markers
    }

    /// Returns the rules for a run's own files.
    pub(super) fn reading(&self) -> &Reading {
        &self.reading
    }

    pub(super) fn run_of(&self, path: &[u8]) -> Option<usize> {
        self.matching.run_of(path)
    }

    pub(super) fn classify(&self, path: &[u8]) -> Class {
        self.matching.classify(path)
    }

    /// Returns whether the file at `path`, relative to its run, is incomplete while it is empty.
    pub(super) fn is_never_empty(&self, path: &[u8]) -> bool {
        self.matching.is_never_empty(path)
    }

    pub(super) fn first_count(&self) -> usize {
        self.matching.first.len()
    }

    pub(super) fn leaves_out_any(&self) -> bool {
        !self.matching.left_out.is_empty()
    }

    pub(super) fn leaves_out(&self, path: &[u8]) -> bool {
        self.matching.leaves_out(path)
    }

    pub(super) fn leaves_out_below(&self, directory: &[u8]) -> bool {
        self.matching.leaves_out_below(directory)
    }
}

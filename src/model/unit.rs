//! Drops as units: which files belong together, when they are all there, what the run says of itself.
//!
//! A *unit* is what an operator calls a drop: one run folder, one cell of it, or a file on its own.
//! It is named by its path below the drop directory.

use std::collections::BTreeMap;

use super::file::SourcePath;

/// What a drop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Each file.
    File,
    /// Each directory: those at the top, or where the profile says.
    Directory,
}

/// What a file is to its unit, by its path alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// One of many.
    Plain,
    /// Rewritten while the unit is open: sent after it is closed.
    Held,
    /// A marker, by its position in the profile's list (at most 63): sent after all others.
    Marker(u8),
}

/// Where a file stands among others, by its path alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// How many bytes of the path name its unit; all of them where the file is its own unit.
    pub unit_length: u32,
    /// Smaller goes first within a drop directory.
    pub rank: u32,
    /// What it is to its unit.
    pub role: Role,
}

impl Place {
    /// The place of a file on its own.
    pub fn alone(path: &SourcePath) -> Self {
        Self { unit_length: length(path.as_bytes()), rank: 0, role: Role::Plain }
    }

    /// Returns the name of the unit of the file at `path`.
    pub fn unit(&self, path: &SourcePath) -> SourcePath {
        let bytes = path.as_bytes();
        let end = (self.unit_length as usize).min(bytes.len());
        if end == bytes.len() { path.clone() } else { SourcePath::from_bytes(&bytes[..end]) }
    }

    /// Tells whether the file is its own unit.
    pub fn is_alone(&self, path: &SourcePath) -> bool {
        self.unit_length as usize >= path.as_bytes().len()
    }
}

/// Returns a path's length; a longer one than the system allows cannot come here.
pub(crate) fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// How far a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnitState {
    /// Files may still come.
    Open,
    /// Its writer is done with it, by its markers or for want of change.
    Closed,
    /// Every file of it is at every destination, with its receipt.
    Completed,
}

impl UnitState {
    /// Every state, for reading rows back.
    pub const ALL: [Self; 3] = [Self::Open, Self::Closed, Self::Completed];

    /// Returns the word used in the database and in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Completed => "completed",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// What a unit's own files and its name say of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitReading {
    /// `{run_id}`, `{instrument}`, `{flowcell}`, `{date}`, `{sample}`, as far as they are known.
    pub words: BTreeMap<String, String>,
    /// Samples of its sample sheet, whose names begin the names of their files.
    pub samples: Vec<String>,
    /// The files that name the run were there and whole: reading again would say the same.
    pub is_identified: bool,
    /// Which markers close it, as a set of positions in the profile's list: any one of the sets.
    /// Empty when the profile has none and it closes for want of change.
    pub closers: Vec<u64>,
    /// The same for people: `CopyComplete.txt`.
    pub waits_for: String,
    /// How the run ended, where it says so.
    pub outcome: Option<UnitOutcome>,
    /// Files that a manifest of the run lists and that are not there; the first few.
    pub missing: Vec<String>,
}

/// How a run ended, by its own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitOutcome {
    /// The word: `RunCompleted`, `OutcomeFailed`.
    pub word: String,
    /// Whether it is a word for success.
    pub is_success: bool,
}

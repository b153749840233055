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
    /// What could not be looked at, for people: a list that is too long.
    pub notes: Vec<String>,
}

impl UnitReading {
    /// Returns the sample that a file is of: the longest of the sheet with whose name and `_` or `.` the
    /// file's name begins, else the run's own.
    pub fn sample_of(&self, file_name: &[u8]) -> Option<&str> {
        let begins = |sample: &&String| {
            let rest = file_name.strip_prefix(sample.as_bytes());
            !sample.is_empty() && rest.is_some_and(|rest| matches!(rest.first(), Some(b'_' | b'.')))
        };
        let longest = self.samples.iter().filter(begins).max_by_key(|sample| sample.len());
        longest.or_else(|| self.words.get("sample")).map(String::as_str)
    }
}

/// How a run ended, by its own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitOutcome {
    /// The word: `RunCompleted`, `OutcomeFailed`.
    pub word: String,
    /// Whether it is a word for success.
    pub is_success: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_sample_that_begins_the_name_is_meant() {
        let samples = ["NA12878", "NA12878_2", "S", ""].map(str::to_owned).to_vec();
        let mut reading = UnitReading { samples, ..UnitReading::default() };
        let table: [(&[u8], Option<&str>); 8] = [
            (b"NA12878_S1_L001_R1_001.fastq.gz", Some("NA12878")),
            (b"NA12878_2_S2_L001_R1_001.fastq.gz", Some("NA12878_2")),
            (b"NA12878.bam", Some("NA12878")),
            (b"NA12878", None),
            (b"NA128789_S1.bam", None),
            (b"Undetermined_S0.fastq.gz", None),
            (b"S_\xff.bam", Some("S")),
            (b"_x", None),
        ];
        for (name, expected) in table {
            assert_eq!(reading.sample_of(name), expected, "{name:?}");
        }
        reading.words.insert("sample".into(), "pool".into());
        assert_eq!(reading.sample_of(b"Undetermined_S0.fastq.gz"), Some("pool"));
        assert_eq!(reading.sample_of(b"S_1.bam"), Some("S"));
    }
}

//! Ledgers of receipts, as rows and acts refer to them: which line proves what, and a ledger's length.

use serde::{Deserialize, Serialize};

use super::file::{Fingerprint, SourcePath};
use super::id::text_id;

text_id! {
    /// A ledger's path below the directory of receipts.
    LedgerPath
}

/// The suffix of a ledger's file name.
pub(crate) const LEDGER_SUFFIX: &str = ".jsonl";

/// Splits a ledger's path into the stem that all ledgers of its run share, and its number. The
/// first one has no number in its name, the next is `<run>~2.jsonl`: it continues a damaged ledger,
/// or belongs to another run of that name.
pub(crate) fn split_ledger(path: &str) -> (&str, u32) {
    let stem = path.strip_suffix(LEDGER_SUFFIX).unwrap_or(path);
    // A digest behind `~` is longer than any number.
    let numbered = stem.rsplit_once('~').filter(|(base, digits)| {
        let is_number = !digits.is_empty() && digits.len() < 16 && !base.ends_with('/');
        is_number && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    match numbered.and_then(|(base, digits)| Some((base, digits.parse().ok()?))) {
        Some((base, number)) => (base, number),
        None => (stem, 1),
    }
}

impl LedgerPath {
    /// Returns its number among the ledgers of its run, from 1.
    pub fn number(&self) -> u32 {
        split_ledger(self.as_str()).1
    }
}

/// The ledgers that the runs of one name use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerNumbers {
    /// The number of the first ledger with lines of the current run.
    pub first: u32,
    /// The number of the last ledger with a line of any run of that name; zero if there is none.
    pub last: u32,
}

impl Default for LedgerNumbers {
    fn default() -> Self {
        Self { first: 1, last: 0 }
    }
}

impl LedgerNumbers {
    /// Records that a ledger, by default the first one, has a line of the run.
    pub fn note_line(&mut self, number: Option<u32>) {
        self.last = self.last.max(number.unwrap_or(self.first));
    }

    /// Returns whether the run was absent since the last line.
    pub fn is_absent(&self) -> bool {
        self.last > 0 && self.first > self.last
    }

    /// Records that the run is gone: whatever appears under its name is another run.
    pub fn note_absence(&mut self) {
        self.first = self.first.max(self.last.saturating_add(1));
    }
}

/// The end of a ledger, which the next line continues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerHead {
    /// Number of lines.
    pub count: u64,
    /// Digest of the last line; zeros when there is none.
    pub sha256: [u8; 32],
    /// Length in bytes.
    pub length: u64,
}

/// The position of a line, and its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineRef {
    /// The ledger, by its path below the directory of receipts.
    pub ledger: LedgerPath,
    /// The line's number, from 1.
    pub seq: u64,
    /// The line's offset in bytes.
    pub offset: u64,
    pub sha256: [u8; 32],
}

/// A durable line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenLine {
    pub line: LineRef,
    /// The durable end of its ledger.
    pub head: LedgerHead,
    /// A damaged ledger of the same name, which this line's ledger continues.
    pub damaged: Option<DamagedLedger>,
}

/// A ledger that differs from its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedLedger {
    pub ledger: LedgerPath,
    pub why: String,
}

/// The result of checking a ledger that differs from its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerFinding {
    pub ledger: LedgerPath,
    /// Why it is damaged; `None` when it is whole again.
    pub damage: Option<String>,
}

/// What the rows know about a ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownLedger {
    /// Its durable end.
    pub head: LedgerHead,
    /// Why it is damaged, if it is.
    pub damage: Option<String>,
}

/// The file that is sent to show others that a run is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentinelFile {
    /// Its path below the directory of sentinels.
    pub path: SourcePath,
    pub version: Fingerprint,
}

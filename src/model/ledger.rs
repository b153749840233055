//! Ledgers of receipts, as rows and acts know them: which line proves what, and how far a ledger goes.

use serde::{Deserialize, Serialize};

use super::file::{Fingerprint, SourcePath};
use super::id::text_id;

text_id! {
    /// A ledger, by its path below the directory of receipts.
    LedgerPath
}

/// How a ledger's file name ends.
pub(crate) const LEDGER_SUFFIX: &str = ".jsonl";

/// Splits the path of a ledger into what all ledgers of its run share, and its number. The first one has none
/// in its name, the next is `<run>~2.jsonl`: one that follows a damaged ledger, or is of another run of that
/// name.
pub(crate) fn split_ledger(path: &str) -> (&str, u32) {
    let stem = path.strip_suffix(LEDGER_SUFFIX).unwrap_or(path);
    // Digests behind `~` are longer than any number.
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
    /// Returns which one it is of the ledgers of its run, from 1.
    pub fn number(&self) -> u32 {
        split_ledger(self.as_str()).1
    }
}

/// Which ledgers of its name a run uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerNumbers {
    /// The number of the first one for lines of the run that is there.
    pub first: u32,
    /// The number of the last one that has a line of any run of that name; zero when none has.
    pub last: u32,
}

impl Default for LedgerNumbers {
    fn default() -> Self {
        Self { first: 1, last: 0 }
    }
}

impl LedgerNumbers {
    /// Notes that a ledger, or else the first one, has a line of the run.
    pub fn note_line(&mut self, number: Option<u32>) {
        self.last = self.last.max(number.unwrap_or(self.first));
    }

    /// Returns whether the run was not there since the last line.
    pub fn is_absent(&self) -> bool {
        self.last > 0 && self.first > self.last
    }

    /// Notes that the run is not there any more: what comes under its name is another run.
    pub fn note_absence(&mut self) {
        self.first = self.first.max(self.last.saturating_add(1));
    }
}

/// How far a ledger goes: what its next line continues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerHead {
    /// Lines.
    pub count: u64,
    /// Digest of the last one; zeros when there is none.
    pub sha256: [u8; 32],
    /// Bytes.
    pub length: u64,
}

/// Where a line is, and its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineRef {
    /// The ledger, by its path below the directory of receipts.
    pub ledger: LedgerPath,
    /// Which line it is, from 1.
    pub seq: u64,
    /// Where it begins, in bytes.
    pub offset: u64,
    pub sha256: [u8; 32],
}

/// A line that is durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenLine {
    pub line: LineRef,
    /// How far its ledger is known to be durable.
    pub head: LedgerHead,
    /// A ledger of the same name that is damaged, and was not gone on with.
    pub damaged: Option<DamagedLedger>,
}

/// A ledger that is not as the rows know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedLedger {
    pub ledger: LedgerPath,
    pub why: String,
}

/// What a check found of a ledger that is not as its row says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerFinding {
    pub ledger: LedgerPath,
    /// Why it is damaged; none when it is whole again.
    pub damage: Option<String>,
}

/// What the rows know of a ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownLedger {
    /// How far it is known to be durable.
    pub head: LedgerHead,
    /// Why it is damaged, where it is.
    pub damage: Option<String>,
}

/// The file that tells others that a run is complete, as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentinelFile {
    /// Its path below the directory of sentinels.
    pub path: SourcePath,
    pub version: Fingerprint,
}

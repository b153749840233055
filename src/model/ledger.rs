//! Ledgers of receipts, as rows and acts know them: which line proves what, and how far a ledger goes.

use serde::{Deserialize, Serialize};

use super::file::{Fingerprint, SourcePath};
use super::id::text_id;

text_id! {
    /// A ledger, by its path below the directory of receipts.
    LedgerPath
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

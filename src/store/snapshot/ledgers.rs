//! What is read of ledgers.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, Row};

use super::Snapshot;
use crate::model::{DamagedLedger, KnownLedger, LedgerHead, LedgerPath, UploadId};
use crate::store::Error;
use crate::store::rows::{self, IS_OPEN};

type Result<T> = std::result::Result<T, Error>;

impl Snapshot {
    /// Returns how far a ledger is known to be durable: not at all, when no row names it.
    pub fn known_ledger(&self, name: &str) -> Result<KnownLedger> {
        let sql =
            "SELECT length_bytes, line_count, head_sha256, damage FROM ledgers WHERE name = ?1";
        let read = |row: &Row<'_>| {
            let (length, count) = (rows::unsigned_at(row, 0)?, rows::unsigned_at(row, 1)?);
            let head = LedgerHead { count, sha256: row.get(2)?, length };
            Ok(KnownLedger { head, damage: row.get(3)? })
        };
        let found = self.connection.prepare_cached(sql);
        let found = found.and_then(|mut found| found.query_row([name], read).optional());
        found.map(Option::unwrap_or_default).map_err(|source| self.failed(source))
    }

    /// Lists the ledgers that were found damaged.
    pub(super) fn read_damaged_ledgers(&self) -> rusqlite::Result<Vec<DamagedLedger>> {
        let sql = "SELECT name, damage FROM ledgers WHERE damage IS NOT NULL ORDER BY name";
        let read = |row: &Row<'_>| {
            Ok(DamagedLedger {
                ledger: LedgerPath::new(row.get::<_, String>(0)?),
                why: row.get(1)?,
            })
        };
        self.list(sql, read)
    }

    /// Returns the uploads that are verified and have no receipt yet.
    pub fn awaiting_receipts(&self) -> Result<BTreeSet<UploadId>> {
        let sql = format!("SELECT id FROM uploads WHERE {IS_OPEN} AND stage = 'verified'");
        let listed = self.list(&sql, |row| row.get(0).map(UploadId));
        listed.map(BTreeSet::from_iter).map_err(|source| self.failed(source))
    }
}

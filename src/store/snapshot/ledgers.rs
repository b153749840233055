//! Reads the rows of ledgers.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, Row};

use super::{RunOfUpload, Snapshot};
use crate::model::{
    DamagedLedger, KnownLedger, LedgerHead, LedgerPath, LineRef, StoredUpload, UploadId,
};
use crate::store::Error;
use crate::store::columns::COLUMN_COUNT;
use crate::store::rows::{self, IS_OPEN};

type Result<T> = std::result::Result<T, Error>;

const KNOWN: &str = "SELECT name, length_bytes, line_count, head_sha256, damage FROM ledgers";

fn read_known(row: &Row<'_>) -> rusqlite::Result<(LedgerPath, KnownLedger)> {
    let (length, count) = (rows::unsigned_at(row, 1)?, rows::unsigned_at(row, 2)?);
    let head = LedgerHead { count, sha256: row.get(3)?, length };
    Ok((LedgerPath::new(row.get::<_, String>(0)?), KnownLedger { head, damage: row.get(4)? }))
}

/// Reads the run's columns for the receipt of an upload: the last columns of an upload's detail.
pub(super) fn read_run(row: &Row<'_>) -> rusqlite::Result<Option<RunOfUpload>> {
    let Some(first_ledger) = row.get(COLUMN_COUNT + 5)? else { return Ok(None) };
    let completed_in = row.get::<_, Option<String>>(COLUMN_COUNT + 7)?.map(LedgerPath::new);
    Ok(Some(RunOfUpload { first_ledger, generation: row.get(COLUMN_COUNT + 6)?, completed_in }))
}

impl Snapshot {
    /// Returns how far a ledger is known to be durable; zero when no row names it.
    pub fn known_ledger(&self, name: &str) -> Result<KnownLedger> {
        let sql = format!("{KNOWN} WHERE name = ?1");
        let found = self.connection.prepare_cached(&sql);
        let found = found.and_then(|mut found| found.query_row([name], read_known).optional());
        let found = found.map(|found| found.map(|(_, known)| known));
        found.map(Option::unwrap_or_default).map_err(|source| self.failed(source))
    }

    /// Lists the ledgers with how far each is known to be durable, in the order of their names.
    pub fn known_ledgers(&self) -> Result<Vec<(LedgerPath, KnownLedger)>> {
        let listed = self.list(&format!("{KNOWN} ORDER BY name"), read_known);
        listed.map_err(|source| self.failed(source))
    }

    /// Returns uploads with a receipt, and the line of each: those after one upload, in order.
    pub fn receipt_lines(
        &self,
        after: Option<UploadId>,
        count_max: u32,
    ) -> Result<Vec<(UploadId, LineRef)>> {
        let sql = "SELECT u.id, l.name, u.ledger_seq, u.ledger_offset, u.receipt_sha256 \
            FROM uploads u JOIN ledgers l ON l.id = u.ledger_id \
            WHERE u.id > ?1 ORDER BY u.id LIMIT ?2";
        let read = |row: &Row<'_>| {
            let line = LineRef {
                ledger: LedgerPath::new(row.get::<_, String>(1)?),
                seq: rows::unsigned_at(row, 2)?,
                offset: rows::unsigned_at(row, 3)?,
                sha256: row.get(4)?,
            };
            Ok((UploadId(row.get(0)?), line))
        };
        let key = (after.map_or(i64::MIN, |id| id.0), count_max);
        self.rows_of(sql, key, read).map_err(|source| self.failed(source))
    }

    /// Returns an upload as it is stored.
    pub fn stored_upload(&self, id: UploadId) -> Result<Option<StoredUpload>> {
        let sql = "SELECT * FROM uploads WHERE id = ?1";
        let read = |row: &Row<'_>| rows::read_upload(&self.connection, row);
        let found = self.connection.prepare_cached(sql);
        let found = found.and_then(|mut found| found.query_row([id.0], read).optional());
        found.map_err(|source| self.failed(source))
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

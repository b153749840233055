//! Writes how far each ledger is known to be durable.

use rusqlite::Connection;
use rusqlite::types::Value;

use super::Result;
use super::record::drop_count;
use crate::model::{LedgerFinding, LedgerHead, LedgerPath, WrittenLine};
use crate::store::rows::exact;

/// The ledger that was written last: one ledger gets many lines, and all lines of a batch have one head.
#[derive(Debug)]
pub(super) struct LastLedger {
    name: LedgerPath,
    id: i64,
    head: LedgerHead,
}

/// Writes how far a ledger is durable, and that another one is damaged. Returns the number of its
/// row.
pub(super) fn note(
    connection: &Connection,
    written: &WrittenLine,
    last: &mut Option<LastLedger>,
) -> Result<i64> {
    if let Some(damaged) = &written.damaged {
        let sql = "INSERT INTO ledgers (name, length_bytes, line_count, head_sha256, damage) \
            VALUES (?1, 0, 0, zeroblob(32), ?2) ON CONFLICT (name) DO UPDATE SET damage = ?2";
        let row = (damaged.ledger.as_str(), &damaged.why);
        connection.prepare_cached(sql)?.execute(row).map(drop_count)?;
    }
    let (name, head) = (&written.line.ledger, written.head);
    if let Some(last) = last
        && last.name == *name
        && last.head.count >= head.count
    {
        return Ok(last.id);
    }
    let sql = "INSERT INTO ledgers (name, length_bytes, line_count, head_sha256) \
        VALUES (?1, ?2, ?3, ?4) ON CONFLICT (name) DO UPDATE SET length_bytes = ?2, \
        line_count = ?3, head_sha256 = ?4 WHERE line_count < ?3";
    let row = (name.as_str(), exact(head.length)?, exact(head.count)?, head.sha256);
    connection.prepare_cached(sql)?.execute(row).map(drop_count)?;
    let sql = "SELECT id FROM ledgers WHERE name = ?1";
    let id = connection.prepare_cached(sql)?.query_row([name.as_str()], |row| row.get(0))?;
    *last = Some(LastLedger { name: name.clone(), id, head });
    Ok(id)
}

/// Writes that a ledger is damaged, or whole again.
pub(super) fn write_found(connection: &Connection, found: &LedgerFinding) -> Result<()> {
    let sql = "UPDATE ledgers SET damage = ?2 WHERE name = ?1";
    let row = (found.ledger.as_str(), &found.damage);
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

/// Returns the columns of an upload with the position of its receipt.
pub(super) fn columns(written: &WrittenLine, ledger: i64) -> Result<[(&'static str, Value); 4]> {
    let line = &written.line;
    Ok([
        ("ledger_id", ledger.into()),
        ("ledger_seq", exact(line.seq)?.into()),
        ("ledger_offset", exact(line.offset)?.into()),
        ("receipt_sha256", line.sha256.to_vec().into()),
    ])
}

//! The writer's maintenance of the database, when nothing else is to be written.
//!
//! Each call is short, so that a commit waits for it no longer than for another commit; the caller
//! asks again while work is left. Failures here do not poison the store.

use std::time::Duration;

use rusqlite::{Connection, Row, TransactionBehavior};

use super::{Result, Writer};
use crate::model::WallTime;
use crate::store::care::{Cared, CheckVerdict};
use crate::store::rows::IS_ENDED;
use crate::store::schema::BUSY_TIMEOUT;
use crate::store::{Tend, Tended};

/// Limit of part rows removed in one transaction; those of one upload may be more.
const PARTS_MAX: u64 = 2_000;
/// Uploads checked in one transaction.
const UPLOADS_MAX: u32 = 200;
/// Finished clean-ups removed in one transaction.
const CLEANUPS_MAX: u32 = 500;
/// Pages returned to the file system in one transaction: a mebibyte.
const PAGES: u32 = 256;
/// Free pages to keep for new rows.
const FREE_PAGES_KEPT: u32 = 1_024;

impl Writer {
    /// Does one piece of maintenance.
    pub(super) fn tend(&mut self, tend: &Tend) -> Result<Tended> {
        match tend {
            Tend::Prune { ended_before, at } => self.prune(*ended_before, *at),
            Tend::FreePages => self.free_pages(),
            Tend::FoldLog => self.fold_log(),
            Tend::BackupEnded { at, failure } => {
                let sql = "UPDATE care SET backup_failure = ?2, \
                    backup_at_ns = CASE WHEN ?2 IS NULL THEN ?1 ELSE backup_at_ns END";
                self.connection.execute(sql, (at.0, failure)).map(|_| Tended::Done)
            }
            Tend::Checked { at, verdict } => {
                let sql = "UPDATE care SET checked_at_ns = ?1, is_sound = ?2, detail = ?3";
                let row = (at.0, verdict.is_sound, &verdict.detail);
                self.connection.execute(sql, row).map(|_| Tended::Done)
            }
        }
    }

    /// Removes parts and failed attempts of the uploads that ended first, and finished clean-ups.
    fn prune(&mut self, ended_before: WallTime, at: WallTime) -> Result<Tended> {
        let behaviour = TransactionBehavior::Immediate;
        let transaction = self.connection.transaction_with_behavior(behaviour)?;
        let uploads = unpruned(&transaction, ended_before)?;
        for id in &uploads {
            // The MD5 of an only part is that of the file, which lists of receipts still need.
            let sql = "UPDATE uploads SET pruned_at_ns = ?2, whole_md5 = ifnull(whole_md5, \
                CASE WHEN part_count = 1 THEN (SELECT md5 FROM parts WHERE upload_id = ?1) END) \
                WHERE id = ?1";
            transaction.prepare_cached(sql)?.execute((id, at.0))?;
            for sql in [
                "DELETE FROM parts WHERE upload_id = ?1",
                "DELETE FROM attempts WHERE upload_id = ?1",
            ] {
                transaction.prepare_cached(sql)?.execute([id])?;
            }
        }
        let sql = "DELETE FROM cleanups WHERE (destination, target_id, remote_upload_id) IN (SELECT \
            destination, target_id, remote_upload_id FROM cleanups WHERE done = 1 AND queued_at_ns < ?1 \
            LIMIT ?2)";
        let forgotten = transaction.execute(sql, (ended_before.0, CLEANUPS_MAX))?;
        transaction.commit()?;
        Ok(if uploads.is_empty() && forgotten == 0 { Tended::Done } else { Tended::More })
    }

    /// Returns pages, in a file created to allow it; otherwise they are reused.
    fn free_pages(&self) -> Result<Tended> {
        let number = |pragma: &str| -> Result<u32> {
            self.connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))
        };
        const INCREMENTAL: u32 = 2;
        let free = number("freelist_count")?;
        if free <= FREE_PAGES_KEPT || number("auto_vacuum")? != INCREMENTAL {
            return Ok(Tended::Done);
        }
        self.connection.execute_batch(&format!("PRAGMA incremental_vacuum({PAGES})"))?;
        Ok(Tended::More)
    }

    /// Checkpoints and truncates the WAL, unless a reader holds it: then later.
    fn fold_log(&self) -> Result<Tended> {
        self.connection.busy_timeout(Duration::ZERO)?;
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let folded = self.connection.query_row(sql, [], |_| Ok(Tended::Done));
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        folded
    }
}

fn unpruned_sql() -> String {
    format!(
        "SELECT id, accepted_count FROM uploads WHERE {IS_ENDED} AND pruned_at_ns IS NULL \
         AND ended_at_ns < ?1 ORDER BY ended_at_ns LIMIT {UPLOADS_MAX}"
    )
}

/// Returns the uploads whose parts are removed next.
fn unpruned(connection: &Connection, ended_before: WallTime) -> Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(&unpruned_sql())?;
    let mut rows = statement.query([ended_before.0])?;
    let (mut uploads, mut parts) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        uploads.push(row.get(0)?);
        parts += u64::from(row.get::<_, u32>(1)?);
        if parts >= PARTS_MAX {
            break;
        }
    }
    Ok(uploads)
}

/// Reads the state of the maintenance.
pub(in crate::store) fn load(connection: &Connection) -> Result<Cared> {
    let sql = "SELECT *, EXISTS (SELECT 1 FROM ledgers WHERE damage IS NOT NULL) \
        AS has_damaged_ledger FROM care";
    connection.query_row(sql, [], |row: &Row<'_>| {
        let time =
            |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(WallTime));
        let detail: Option<String> = row.get("detail")?;
        let is_sound: Option<bool> = row.get("is_sound")?;
        Ok(Cared {
            backup_at: time("backup_at_ns")?,
            backup_failure: row.get("backup_failure")?,
            checked_at: time("checked_at_ns")?,
            has_damaged_ledger: row.get("has_damaged_ledger")?,
            verdict: is_sound.map(|is_sound| CheckVerdict { is_sound, detail }),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_is_found_without_a_look_at_every_upload() {
        let directory = tempfile::tempdir().unwrap();
        let connection = crate::store::schema::open_for_writing(directory.path()).unwrap();
        let sql = format!("EXPLAIN QUERY PLAN {}", unpruned_sql());
        let mut statement = connection.prepare(&sql).unwrap();
        let rows = statement.query_map([0], |row| row.get::<_, String>("detail")).unwrap();
        let plan = rows.collect::<Result<Vec<_>>>().unwrap().join("; ");
        assert_eq!(plan, "SEARCH uploads USING INDEX uploads_unpruned (ended_at_ns<?)");
    }
}

//! What waits for too long: uploads that keep failing, and runs that stay open.

use rusqlite::Row;

use super::{Result, Snapshot, Status, Tally, rows};
use crate::model::{FailedAttempts, ParkReason, SourcePath, UploadId, WallTime};

/// Uploads of one drop directory that have failed at one destination for longer than `stuck_after`.
#[derive(Debug, Clone)]
pub struct StuckUploads {
    pub drop: String,
    pub destination: String,
    pub count: u64,
    /// The one that has failed for longest, since when, and its last failure.
    pub first: UploadId,
    pub since: WallTime,
    pub reason: Option<String>,
}

/// Uploads of one run that are parked at one destination for one reason.
#[derive(Debug, Clone)]
pub struct ParkedUploads {
    pub drop: String,
    /// `None` for files on their own.
    pub run: Option<SourcePath>,
    pub destination: String,
    pub reason: ParkReason,
    pub count: u64,
    /// The oldest of them.
    pub first: UploadId,
    /// Why that one is parked, in full.
    pub detail: Option<String>,
}

/// A run that has been open for longer than runs of its kind are.
#[derive(Debug, Clone)]
pub struct StaleRun {
    pub drop: String,
    pub run: SourcePath,
    pub reason: Option<String>,
}

/// Limit of listed groups of parked uploads.
const PARKED_MAX: usize = 100;

impl Snapshot {
    /// Lists parked uploads. Reads every open upload, unless none is parked.
    pub(super) fn read_parked(&self, status: &Status) -> Result<Vec<ParkedUploads>> {
        let is_parked = |tally: &Tally| tally.state == "parked" && tally.upload_count > 0;
        if !status.counts.tallies.iter().any(is_parked) {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT drop_name, run, destination, park_reason, count(*), min(id), park_detail \
             FROM uploads WHERE {} AND hold = 'parked' AND {} \
             GROUP BY drop_name, run, destination, park_reason ORDER BY min(id) LIMIT {PARKED_MAX}",
            rows::IS_OPEN,
            self.selection.of_uploads()
        );
        self.rows_of(&sql, [], |row: &Row<'_>| {
            let run = row.get_ref(1)?.as_blob_or_null()?.map(SourcePath::from_bytes);
            let reason = ParkReason::parse(row.get_ref(3)?.as_str()?);
            Ok(ParkedUploads {
                drop: row.get(0)?,
                run,
                destination: row.get(2)?,
                reason: reason.ok_or(rusqlite::Error::InvalidQuery)?,
                count: rows::unsigned_at(row, 4)?,
                first: UploadId(row.get(5)?),
                detail: row.get(6)?,
            })
        })
    }

    /// Lists stuck uploads. One that waits for its destination is not attempted, so it is not stuck.
    pub(super) fn read_stuck(&self, now: WallTime) -> Result<Vec<StuckUploads>> {
        let sql = format!(
            "SELECT u.drop_name, u.destination, count(*), u.id, \
             min(u.failing_since_ns), u.last_error \
             FROM uploads u INDEXED BY uploads_failing JOIN destination_health h USING (destination) \
             WHERE u.failing_since_ns <= ?1 - (SELECT stuck_after_ns FROM daemon) \
             AND u.attempt_count >= {} AND h.state IN ('ok', 'throttled') AND {} GROUP BY u.drop_name, u.destination",
            FailedAttempts::MANY,
            self.selection.of_uploads()
        );
        self.rows_of(&sql, [now.0], |row: &Row<'_>| {
            Ok(StuckUploads {
                drop: row.get(0)?,
                destination: row.get(1)?,
                count: rows::unsigned_at(row, 2)?,
                first: UploadId(row.get(3)?),
                since: WallTime(row.get(4)?),
                reason: row.get(5)?,
            })
        })
    }

    /// Lists stale runs of configured drop directories.
    pub(super) fn read_stale(&self) -> Result<Vec<StaleRun>> {
        let sql = format!(
            "SELECT drop_name, run, runs.reason FROM runs INDEXED BY runs_stale \
             JOIN drop_health USING (drop_name) WHERE is_stale = 1 AND is_configured = 1 AND {}",
            self.selection.of_runs()
        );
        self.list(&sql, |row: &Row<'_>| {
            let run = SourcePath::from_bytes(row.get_ref(1)?.as_blob()?);
            Ok(StaleRun { drop: row.get(0)?, run, reason: row.get(2)? })
        })
    }
}

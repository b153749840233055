//! Writes failed attempts.

use rusqlite::{Connection, named_params};

use super::Result;
use crate::model::{Fact, PartNumber, UploadId};

/// Attempts kept for each upload.
const KEPT: u32 = 50;

/// Writes and counts a failed attempt, and removes the oldest beyond those kept.
pub(super) fn write(connection: &Connection, id: UploadId, fact: &Fact) -> Result<()> {
    let Fact::AttemptFailed { act, part, failure, retry_at, at, .. } = fact else {
        return Ok(());
    };
    let sql = "INSERT INTO attempts (upload_id, act, part, kind, status, request_id, message, at_ns, \
        retry_at_ns) VALUES (:upload, :act, :part, :kind, :status, :request, :message, :at, :retry)";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":upload": id.0,
        ":act": act,
        ":part": part.map(PartNumber::get),
        ":kind": failure.kind.as_str(),
        ":status": failure.status,
        ":request": failure.request_id,
        ":message": failure.message,
        ":at": at.0,
        ":retry": retry_at.map(|at| at.0),
    })?;
    let sql = "INSERT INTO failures (destination, kind, failure_count) \
        SELECT destination, :kind, 1 FROM uploads WHERE id = :upload \
        ON CONFLICT (destination, kind) DO UPDATE SET failure_count = failure_count + 1";
    let values = named_params! { ":upload": id.0, ":kind": failure.kind.as_str() };
    connection.prepare_cached(sql)?.execute(values)?;
    let sql = "DELETE FROM attempts WHERE upload_id = ?1 AND id <= (SELECT id FROM attempts \
        WHERE upload_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
    connection.prepare_cached(sql)?.execute((id.0, KEPT))?;
    Ok(())
}

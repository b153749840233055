//! Writes targets and places, and reads them at a start.

use rusqlite::Connection;

use super::record::drop_count;
use crate::model::{
    DestinationName, Failure, OpenCleanup, PlaceHolder, RemoteUploadId, Target, TargetAddress,
    TargetId, UploadId, WallTime,
};

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// Writes a target that was not known before.
pub(super) fn write_target(
    connection: &Connection,
    id: TargetId,
    address: &TargetAddress,
) -> Result<()> {
    let sql = "INSERT INTO targets VALUES (?1, ?2, ?3, ?4)";
    let TargetAddress { platform, base_url, container } = address;
    connection.prepare_cached(sql)?.execute((id.0, platform, base_url, container)).map(drop_count)
}

/// Writes the targets of a destination: its own first.
pub(super) fn write_in_force(
    connection: &Connection,
    destination: &DestinationName,
    targets: &[TargetId],
) -> Result<()> {
    let sql = "DELETE FROM destination_targets WHERE destination = ?1";
    connection.prepare_cached(sql)?.execute([destination.as_str()])?;
    let sql = "INSERT INTO destination_targets VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    for (position, target) in (0_i64..).zip(targets) {
        let row = (destination.as_str(), target.0, position);
        connection.prepare_cached(sql)?.execute(row)?;
    }
    Ok(())
}

/// Writes that uploads at former targets do not count as sent.
pub(super) fn write_resend(
    connection: &Connection,
    destination: &DestinationName,
    target: TargetId,
    before: UploadId,
) -> Result<()> {
    let sql = "INSERT OR REPLACE INTO resends VALUES (?1, ?2, ?3)";
    let row = (destination.as_str(), target.0, before.0);
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

/// Writes which upload holds the place that an upload waits for.
pub(super) fn await_place(
    connection: &Connection,
    upload: UploadId,
    holder: Option<UploadId>,
) -> Result<()> {
    let sql = "UPDATE uploads SET waits_for = ?2 WHERE id = ?1";
    let row = (upload.0, holder.map(|holder| holder.0));
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

/// Writes the holder of a place. A file that an upload made replaces everything recorded there; a
/// file that it found belongs to its source as well.
pub(super) fn hold_place(
    connection: &Connection,
    target: TargetId,
    place: &Target,
    holder: &PlaceHolder,
    is_made: bool,
) -> Result<()> {
    let (folder, name) = (place.folder(), place.name());
    if is_made {
        let sql = "DELETE FROM places WHERE target_id = ?1 AND folder = ?2 AND name = ?3";
        connection.prepare_cached(sql)?.execute((target.0, &folder, name))?;
    }
    let sql = "INSERT OR REPLACE INTO places VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let PlaceHolder { upload, source } = holder;
    let row = (target.0, &folder, name, &source.directory, source.path.as_bytes(), upload.0);
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

/// Writes a remote upload to remove.
pub(super) fn queue_cleanup(
    connection: &Connection,
    what: &OpenCleanup,
    at: WallTime,
) -> Result<()> {
    let sql = "INSERT INTO cleanups (destination, target_id, remote_upload_id, queued_at_ns, \
        after_upload) VALUES (?1, ?2, ?3, ?4, ?5) \
        ON CONFLICT DO UPDATE SET done = 0, after_upload = ?5";
    let after = what.after.map(|upload| upload.0);
    let row = (what.destination.as_str(), what.target.0, what.remote.as_str(), at.0, after);
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

/// Writes why one was not removed, and when that is retried.
pub(super) fn delay_cleanup(
    connection: &Connection,
    what: &OpenCleanup,
    retry_at: WallTime,
    failure: &Failure,
) -> Result<()> {
    let sql = "UPDATE cleanups SET retry_at_ns = ?4, failure = ?5 \
        WHERE destination = ?1 AND target_id = ?2 AND remote_upload_id = ?3";
    let row = (
        what.destination.as_str(),
        what.target.0,
        what.remote.as_str(),
        retry_at.0,
        failure.to_string(),
    );
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

/// Writes that one does not exist any more.
pub(super) fn end_cleanup(connection: &Connection, what: &OpenCleanup) -> Result<()> {
    let sql = "UPDATE cleanups SET done = 1 \
        WHERE destination = ?1 AND target_id = ?2 AND remote_upload_id = ?3";
    let row = (what.destination.as_str(), what.target.0, what.remote.as_str());
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

/// Reads every target, past and present.
pub(in crate::store) fn load(connection: &Connection) -> Result<Vec<(TargetId, TargetAddress)>> {
    let sql = "SELECT id, platform, base_url, container FROM targets ORDER BY id";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let (platform, base_url, container) = (row.get(1)?, row.get(2)?, row.get(3)?);
        Ok((TargetId(row.get(0)?), TargetAddress { platform, base_url, container }))
    })?;
    rows.collect()
}

/// Reads the targets that each destination had.
pub(super) fn load_in_force(
    connection: &Connection,
) -> Result<Vec<(DestinationName, Vec<TargetId>)>> {
    let sql =
        "SELECT destination, target_id FROM destination_targets ORDER BY destination, position";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut found: Vec<(DestinationName, Vec<TargetId>)> = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, target) = (row.get_ref(0)?.as_str()?, TargetId(row.get(1)?));
        match found.last_mut().filter(|(last, _)| last.as_str() == name) {
            Some((_, targets)) => targets.push(target),
            None => found.push((DestinationName::new(name), vec![target])),
        }
    }
    Ok(found)
}

/// Reads the remote uploads to remove. One that was replaced by another is kept as long as that is
/// still to be begun.
pub(super) fn load_cleanups(connection: &Connection) -> Result<Vec<OpenCleanup>> {
    let sql = "SELECT cleanups.destination, cleanups.target_id, cleanups.remote_upload_id, uploads.id \
        FROM cleanups LEFT JOIN uploads ON uploads.id = after_upload \
        AND stage IN ('queued', 'beginning') AND hold <> 'parked' WHERE cleanups.done = 0";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(OpenCleanup {
            destination: DestinationName::new(row.get::<_, String>(0)?),
            target: TargetId(row.get(1)?),
            remote: RemoteUploadId::new(row.get::<_, String>(2)?),
            after: row.get::<_, Option<i64>>(3)?.map(UploadId),
        })
    })?;
    rows.collect()
}

//! Writes rows of files besides their uploads: ignored and touched ones.

use rusqlite::{Connection, OptionalExtension, named_params};

use super::Result;
use super::record::drop_count;
use crate::model::{DirectoryName, Fingerprint, IgnoreReason, SourcePath, UploadId, WallTime};
use crate::store::rows::exact;

/// Writes an ignored path with its reason.
pub(super) fn ignore(
    connection: &Connection,
    drop: &DirectoryName,
    path: &SourcePath,
    reason: IgnoreReason,
    at: WallTime,
) -> Result<()> {
    let sql = "INSERT INTO ignored (drop_name, path, reason, at_ns) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT DO UPDATE SET reason = ?3, at_ns = ?4, moved_upload = NULL, ctime_ns = NULL";
    let row = (drop.as_str(), path.as_bytes(), reason.as_str(), at.0);
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

/// Writes that a path is not ignored any more.
pub(super) fn ignore_no_more(
    connection: &Connection,
    drop: &DirectoryName,
    path: &SourcePath,
) -> Result<()> {
    let sql = "DELETE FROM ignored WHERE drop_name = ?1 AND path = ?2";
    connection.prepare_cached(sql)?.execute((drop.as_str(), path.as_bytes())).map(drop_count)
}

/// Records with an ignored path which upload sent its file under another name: a later file with
/// that name does not replace what was sent.
pub(super) fn note_move(
    connection: &Connection,
    drop: &DirectoryName,
    path: &SourcePath,
    upload: UploadId,
    seen: &Fingerprint,
) -> Result<()> {
    let sql = "UPDATE ignored SET moved_upload = ?3, ctime_ns = ?4 \
        WHERE drop_name = ?1 AND path = ?2";
    let row = (drop.as_str(), path.as_bytes(), upload.0, seen.ctime_ns);
    connection.prepare_cached(sql)?.execute(row)?;
    let sql = "SELECT path FROM uploads WHERE id = ?1";
    let read = |row: &rusqlite::Row<'_>| Ok(SourcePath::from_bytes(row.get_ref(0)?.as_blob()?));
    let left = connection.prepare_cached(sql)?.query_row([upload.0], read).optional()?;
    left.map_or(Ok(()), |left| note_absent(connection, drop, &left))
}

/// Records that a path was empty: later files at or below it are no newer versions of what was sent from it.
pub(super) fn note_absent(
    connection: &Connection,
    drop: &DirectoryName,
    path: &SourcePath,
) -> Result<()> {
    let sql = "UPDATE uploads SET source_was_absent = 1 WHERE drop_name = ?1 \
        AND (path = ?2 OR (path > ?3 AND path < ?4)) \
        AND stage = 'receipted' AND source_was_absent = 0";
    // Paths below it begin with the path and a slash; `0` is the next character.
    let [first, last] = [b"/", b"0"].map(|end| [path.as_bytes(), end].concat());
    connection
        .prepare_cached(sql)?
        .execute((drop.as_str(), path.as_bytes(), first, last))
        .map(drop_count)
}

/// Sets the inode and times of the newest sent version of a file, at every destination. Older
/// versions of the same length may have other content.
pub(super) fn touch(
    connection: &Connection,
    drop: &DirectoryName,
    path: &SourcePath,
    seen: &Fingerprint,
) -> Result<()> {
    // Its own newest upload, or the one it was moved from.
    let sql = "SELECT path, inode, mtime_ns, ctime_ns FROM uploads WHERE size_bytes = ?3 \
        AND id = ifnull((SELECT moved_upload FROM ignored WHERE drop_name = ?1 AND path = ?2), \
            (SELECT max(id) FROM uploads WHERE drop_name = ?1 AND path = ?2 AND sentinel = 0 \
                AND stage = 'receipted'))";
    let read = |row: &rusqlite::Row<'_>| {
        let path: Vec<u8> = row.get(0)?;
        Ok((path, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?, row.get::<_, Option<i64>>(3)?))
    };
    let key = (drop.as_str(), path.as_bytes(), exact(seen.size.0)?);
    let newest = connection.prepare_cached(sql)?.query_row(key, read).optional()?;
    let Some((sent_path, inode, mtime_ns, ctime_ns)) = newest else { return Ok(()) };
    let sql = "UPDATE uploads SET device = :device, inode = :inode, mtime_ns = :mtime, \
        ctime_ns = :ctime WHERE path = :path AND drop_name = :drop AND sentinel = 0 \
        AND stage = 'receipted' AND size_bytes = :size \
        AND inode = :old_inode AND mtime_ns = :old_mtime AND ctime_ns IS :old_ctime";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":device": seen.device.cast_signed(),
        ":inode": seen.inode.cast_signed(),
        ":mtime": seen.mtime_ns,
        ":ctime": seen.ctime_ns,
        ":path": sent_path,
        ":drop": drop.as_str(),
        ":size": exact(seen.size.0)?,
        ":old_inode": inode,
        ":old_mtime": mtime_ns,
        ":old_ctime": ctime_ns,
    })?;
    let sql = "UPDATE ignored SET ctime_ns = ?3 \
        WHERE drop_name = ?1 AND path = ?2 AND moved_upload IS NOT NULL";
    let row = (drop.as_str(), path.as_bytes(), seen.ctime_ns);
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

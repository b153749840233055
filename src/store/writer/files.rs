//! What is written of files beside their uploads: which are ignored, which were touched.

use rusqlite::{Connection, named_params};

use crate::model::{DropName, Fingerprint, IgnoreReason, Record, SourcePath};
use crate::store::rows::signed;

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// Writes one record about a file.
#[expect(clippy::wildcard_enum_match_arm, reason = "called with the records of files only")]
pub(super) fn write(connection: &Connection, record: &Record) -> Result<()> {
    match record {
        Record::Ignored { drop, path, reason, at } => {
            let sql = "INSERT INTO ignored (drop_name, path, reason, at_ns) VALUES (?1, ?2, ?3, ?4) \
                ON CONFLICT DO UPDATE SET reason = ?3, at_ns = ?4, moved_upload = NULL, ctime_ns = NULL";
            let row = (drop.as_str(), path.as_bytes(), reason.as_str(), at.0);
            connection.prepare_cached(sql)?.execute(row)?;
        }
        Record::NotIgnored { drop, path } => {
            let sql = "DELETE FROM ignored WHERE drop_name = ?1 AND path = ?2";
            connection.prepare_cached(sql)?.execute((drop.as_str(), path.as_bytes()))?;
        }
        Record::Touched { drop, path, fingerprint } => {
            touch(connection, (drop, path), fingerprint)?
        }
        Record::Moved { drop, path, fingerprint, upload, at } => {
            let sql = "INSERT INTO ignored (drop_name, path, reason, at_ns, moved_upload, ctime_ns) \
                VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET reason = ?3, at_ns = ?4, \
                moved_upload = ?5, ctime_ns = ?6";
            let key = (drop.as_str(), path.as_bytes(), IgnoreReason::Moved.as_str());
            let row = (key.0, key.1, key.2, at.0, upload.0, fingerprint.ctime_ns);
            connection.prepare_cached(sql)?.execute(row)?;
        }
        _ => {}
    }
    Ok(())
}

/// Gives the newest version that was sent of a file, at every destination, its time of change. Older
/// ones may have been another content in the same inode, of the same size and time.
fn touch(
    connection: &Connection,
    (drop, path): (&DropName, &SourcePath),
    seen: &Fingerprint,
) -> Result<()> {
    let sql = "UPDATE uploads SET ctime_ns = :ctime WHERE path = :path AND drop_name = :drop \
        AND sentinel = 0 AND stage = 'receipted' \
        AND inode = :inode AND size_bytes = :size AND mtime_ns = :mtime \
        AND ctime_ns IS (SELECT ctime_ns FROM uploads WHERE path = :path AND drop_name = :drop \
            AND sentinel = 0 AND stage = 'receipted' ORDER BY id DESC LIMIT 1)";
    connection.prepare_cached(sql)?.execute(named_params! {
        ":ctime": seen.ctime_ns,
        ":path": path.as_bytes(),
        ":drop": drop.as_str(),
        ":inode": seen.inode.cast_signed(),
        ":size": signed(seen.size.0),
        ":mtime": seen.mtime_ns,
    })?;
    let sql = "UPDATE ignored SET ctime_ns = ?3 \
        WHERE drop_name = ?1 AND path = ?2 AND moved_upload IS NOT NULL";
    connection.prepare_cached(sql)?.execute((drop.as_str(), path.as_bytes(), seen.ctime_ns))?;
    Ok(())
}

//! What a start reads: everything that has not ended, and what is known of what has.
//!
//! There may be hundreds of thousands of either. Uploads are read page by page; of a file that is
//! known, only what tells it and its version from others is kept; names are shared.

use rusqlite::{Connection, Row};

use crate::model::{
    ByteCount, DestinationName, DropName, Fingerprint, IgnoreReason, PathDigest, RemoteUploadId,
    UploadId,
};
use crate::store::rows::{self, ENDED};
use crate::store::{KnownFile, Loaded, LoadedUpload};

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// Uploads in one page.
const PAGE: u32 = 1_000;

/// Reads everything that a start needs; of the unfinished uploads, the first page.
pub(super) fn load(connection: &Connection) -> Result<Loaded> {
    let next: Option<i64> =
        connection.query_row("SELECT max(id) + 1 FROM uploads", [], |r| r.get(0))?;
    Ok(Loaded {
        uploads: uploads(connection, UploadId(i64::MIN))?,
        known: load_known(connection)?,
        cleanups: load_cleanups(connection)?,
        open_drops: load_open_drops(connection)?,
        ignored: load_ignored(connection)?,
        next_upload: next.map(UploadId),
    })
}

/// Reads the page of unfinished uploads that follows an upload.
pub(super) fn uploads(connection: &Connection, after: UploadId) -> Result<Vec<LoadedUpload>> {
    let sql = format!(
        "SELECT * FROM uploads WHERE stage NOT IN {ENDED} AND id > ?1 ORDER BY id LIMIT {PAGE}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut names = Names::default();
    let read = |row: &Row<'_>| {
        let mut upload = rows::read_upload(connection, row)?;
        names.share(&mut upload.admission.drop, &mut upload.admission.destination);
        Ok(upload)
    };
    statement.query_map([after.0], read)?.collect()
}

/// Names that were read before. Thousands of rows in a row have the same.
#[derive(Default)]
struct Names(Option<(DropName, DestinationName)>);

impl Names {
    /// Replaces names by those of the row before, when they are the same.
    fn share(&mut self, drop: &mut DropName, destination: &mut DestinationName) {
        match &self.0 {
            Some((known_drop, known)) if known_drop == drop && known == destination => {
                (*drop, *destination) = (known_drop.clone(), known.clone());
            }
            Some(_) | None => self.0 = Some((drop.clone(), destination.clone())),
        }
    }
}

fn load_known(connection: &Connection) -> Result<Vec<KnownFile>> {
    let sql = "SELECT drop_name, path, destination, device, inode, size_bytes, mtime_ns, max(id) \
        FROM uploads WHERE stage IN ('receipted', 'abandoned') GROUP BY drop_name, path, destination \
        ORDER BY max(id)";
    let mut statement = connection.prepare(sql)?;
    let mut names = Names::default();
    let files = statement.query_map([], |row| {
        let mut drop = DropName::new(row.get::<_, String>(0)?);
        let mut destination = DestinationName::new(row.get::<_, String>(2)?);
        names.share(&mut drop, &mut destination);
        Ok(KnownFile {
            drop,
            path: PathDigest::of(row.get_ref(1)?.as_blob()?),
            destination,
            fingerprint: Fingerprint {
                device: row.get::<_, i64>(3)?.cast_unsigned(),
                inode: row.get::<_, i64>(4)?.cast_unsigned(),
                size: ByteCount(rows::unsigned(row, "size_bytes")?),
                mtime_ns: row.get(6)?,
            },
        })
    })?;
    files.collect()
}

fn load_open_drops(connection: &Connection) -> Result<Vec<(DestinationName, DropName, String)>> {
    let sql = "SELECT destination, drop_name, name FROM drops WHERE finished_at_ns IS NULL";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let (destination, drop) = (row.get::<_, String>(0)?, row.get::<_, String>(1)?);
        Ok((DestinationName::new(destination), DropName::new(drop), row.get(2)?))
    })?;
    rows.collect()
}

fn load_cleanups(connection: &Connection) -> Result<Vec<(DestinationName, RemoteUploadId)>> {
    let mut statement =
        connection.prepare("SELECT destination, remote_upload_id FROM cleanups WHERE done = 0")?;
    let rows = statement.query_map([], |row| {
        let (destination, remote) = (row.get::<_, String>(0)?, row.get::<_, String>(1)?);
        Ok((DestinationName::new(destination), RemoteUploadId::new(remote)))
    })?;
    rows.collect()
}

fn load_ignored(connection: &Connection) -> Result<Vec<(DropName, PathDigest, IgnoreReason)>> {
    let mut statement = connection.prepare("SELECT drop_name, path, reason FROM ignored")?;
    let rows = statement.query_map([], |row| {
        let reason = IgnoreReason::parse(row.get_ref(2)?.as_str()?);
        let path = PathDigest::of(row.get_ref(1)?.as_blob()?);
        Ok(reason.map(|reason| {
            (DropName::new(row.get::<_, String>(0).unwrap_or_default()), path, reason)
        }))
    })?;
    rows.filter_map(Result::transpose).collect()
}

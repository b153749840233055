//! What a start reads: everything that has not ended, and what is known of what has.
//!
//! There may be hundreds of thousands of either. Uploads are read page by page; of a file that is
//! known, only what tells it and its version from others is kept; names are shared.

use rusqlite::{Connection, Row};

use crate::model::{
    ByteCount, DestinationName, Disposal, DropName, Fingerprint, IgnoreReason, PathDigest,
    RemoteUploadId, RootIdentity, SourcePath, UnitRow, UploadId, WallTime,
};
use crate::store::rows::{self, ENDED};
use crate::store::{KnownFile, Loaded, LoadedUpload, UnitWords};

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
        units: load_units(connection)?,
        disposals: load_disposals(connection)?,
        ignored: load_ignored(connection)?,
        unreadable: load_unreadable(connection)?,
        roots: load_roots(connection)?,
        outbox: super::outbox::load(connection)?,
        orders: super::orders::load(connection)?,
        bandwidth: super::orders::load_bandwidth(connection)?,
        care: super::tend::load(connection)?,
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
    /// Returns names, which are those of the row before when they are the same.
    fn of(&mut self, drop: &str, destination: &str) -> (DropName, DestinationName) {
        match &self.0 {
            Some(names) if names.0.as_str() == drop && names.1.as_str() == destination => {
                names.clone()
            }
            Some(_) | None => {
                let names = (DropName::new(drop), DestinationName::new(destination));
                self.0.insert(names).clone()
            }
        }
    }

    /// Replaces names by those of the row before, when they are the same.
    fn share(&mut self, drop: &mut DropName, destination: &mut DestinationName) {
        let names = self.of(drop.as_str(), destination.as_str());
        (*drop, *destination) = names;
    }
}

/// In the order of their uploads: a later version takes the place of an earlier one. Read in the order
/// of the table, for grouped by path it would take as long again.
fn load_known(connection: &Connection) -> Result<Vec<KnownFile>> {
    let sql = "SELECT id, drop_name, path, destination, device, inode, size_bytes, mtime_ns, ctime_ns \
        FROM uploads WHERE stage IN ('receipted', 'abandoned') AND sentinel = 0 ORDER BY id";
    let mut known = load_known_by(connection, sql)?;
    let sql = "SELECT i.moved_upload, i.drop_name, i.path, s.destination, s.device, s.inode, \
        s.size_bytes, s.mtime_ns, i.ctime_ns FROM ignored i JOIN uploads u ON u.id = i.moved_upload \
        JOIN uploads s ON s.path = u.path AND s.drop_name = u.drop_name AND s.inode = u.inode \
            AND s.size_bytes = u.size_bytes AND s.mtime_ns = u.mtime_ns \
        WHERE s.stage = 'receipted' AND s.sentinel = 0 AND i.moved_upload IS NOT NULL";
    let moved = load_known_by(connection, sql)?;
    if !moved.is_empty() {
        known.extend(moved);
        known.sort_by_key(|(id, _)| *id);
    }
    Ok(known.into_iter().map(|(_, file)| file).collect())
}

fn load_known_by(connection: &Connection, sql: &str) -> Result<Vec<(i64, KnownFile)>> {
    let mut statement = connection.prepare(sql)?;
    let mut names = Names::default();
    let files = statement.query_map([], |row| {
        let (drop, destination) = names.of(row.get_ref(1)?.as_str()?, row.get_ref(3)?.as_str()?);
        let file = KnownFile {
            drop,
            path: PathDigest::of(row.get_ref(2)?.as_blob()?),
            destination,
            fingerprint: Fingerprint {
                device: row.get::<_, i64>(4)?.cast_unsigned(),
                inode: row.get::<_, i64>(5)?.cast_unsigned(),
                size: ByteCount(rows::unsigned_at(row, 6)?),
                mtime_ns: row.get(7)?,
                ctime_ns: row.get(8)?,
            },
        };
        Ok((row.get(0)?, file))
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

fn load_roots(connection: &Connection) -> Result<Vec<(DropName, String, RootIdentity)>> {
    let sql = "SELECT drop_name, directory, root_device, root_inode FROM drop_health \
        WHERE root_device IS NOT NULL AND root_inode IS NOT NULL";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        let (device, inode) = (row.get::<_, i64>(2)?, row.get::<_, i64>(3)?);
        let root = RootIdentity { device: device.cast_unsigned(), inode: inode.cast_unsigned() };
        Ok((DropName::new(row.get::<_, String>(0)?), row.get(1)?, root))
    })?;
    rows.collect()
}

fn load_unreadable(connection: &Connection) -> Result<Vec<(DropName, SourcePath)>> {
    let sql = "SELECT drop_name, path FROM ignored WHERE reason = ?1";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([IgnoreReason::DirectoryUnreadable.as_str()], |row| {
        let path = SourcePath::from_bytes(row.get_ref(1)?.as_blob()?);
        Ok((DropName::new(row.get::<_, String>(0)?), path))
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

fn load_units(connection: &Connection) -> Result<Vec<(UnitRow, UnitWords)>> {
    let mut statement = connection.prepare("SELECT * FROM units ORDER BY drop_name, unit")?;
    let rows = statement.query_map([], rows::read_unit)?.collect::<Result<Vec<_>>>()?;
    let sql = "SELECT word, value FROM unit_words WHERE drop_name = ?1 AND unit = ?2 \
        ORDER BY word, number";
    let mut words = connection.prepare(sql)?;
    let mut units = Vec::with_capacity(rows.len());
    for unit in rows {
        let key = (unit.drop.as_str(), unit.name.as_bytes());
        let said = words.query_map(key, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let said = said.collect::<Result<Vec<_>>>()?;
        units.push((unit, said));
    }
    Ok(units)
}

fn load_disposals(connection: &Connection) -> Result<Vec<Disposal>> {
    let sql = "SELECT drop_name, unit, is_file, due_at_ns, intended_at_ns FROM disposals \
        WHERE ended_at_ns IS NULL";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([], |row| {
        Ok(Disposal {
            drop: DropName::new(row.get::<_, String>(0)?),
            unit: SourcePath::from_bytes(row.get_ref(1)?.as_blob()?),
            is_file: row.get(2)?,
            due: WallTime(row.get(3)?),
            is_intended: row.get::<_, Option<i64>>(4)?.is_some(),
        })
    })?;
    rows.collect()
}

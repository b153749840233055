//! What is read of drops as units: their rows, their files, what may be disposed of.

use std::collections::BTreeMap;
use std::io;

use rusqlite::{OptionalExtension, Row};

use super::Snapshot;
use crate::model::{
    ByteCount, DestinationName, DropName, Fingerprint, Md5, SourcePath, UnitFile, UnitRow,
    UploadId, WallTime,
};
use crate::store::{Error, rows};

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// A unit as it is listed.
#[derive(Debug, Clone)]
pub struct UnitShown {
    /// Its row.
    pub row: UnitRow,
    /// What it says of itself.
    pub words: BTreeMap<String, String>,
    /// Its uploads at each destination.
    pub tallies: Vec<UnitTally>,
    /// Whether its source was disposed of, or why not yet.
    pub disposal: Option<DisposalShown>,
}

/// Uploads of one unit at one destination.
#[derive(Debug, Clone)]
pub struct UnitTally {
    /// To where.
    pub destination: String,
    /// How many.
    pub upload_count: u64,
    /// Of these, completed.
    pub completed_count: u64,
    /// Of these, parked.
    pub parked_count: u64,
}

/// How the disposal of a unit's source stands.
#[derive(Debug, Clone)]
pub struct DisposalShown {
    /// When it is due.
    pub due_at: WallTime,
    /// Why the last try failed.
    pub failure: Option<String>,
    /// It is done.
    pub is_done: bool,
}

/// Every upload with a receipt that is the newest of its path at its destination.
const FILES: &str = "SELECT u.id, u.drop_name, u.path, u.size_bytes, u.mtime_ns, u.destination, \
    u.remote_file_id, u.remote_name, ifnull(u.whole_md5, \
        CASE WHEN u.part_count = 1 THEN (SELECT md5 FROM parts WHERE upload_id = u.id) END) AS md5, \
    u.whole_sha256, u.mark_md5, u.mark_part_size_bytes, u.completed_at_ns FROM uploads u ";
/// Newer uploads of the same path to the same destination leave the older ones out.
const NEWEST: &str = "AND NOT EXISTS (SELECT 1 FROM uploads n WHERE n.path = u.path \
    AND n.drop_name = u.drop_name AND n.destination = u.destination AND n.id > u.id \
    AND n.stage = 'receipted') ORDER BY u.path, u.destination";

/// What lists the newest units.
pub(super) fn newest_sql(limit: u32) -> String {
    format!("SELECT * FROM units ORDER BY opened_at_ns DESC, unit LIMIT {limit}")
}

impl Snapshot {
    /// Returns the row of one unit.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn unit(
        &self,
        drop: &DropName,
        unit: &SourcePath,
    ) -> std::result::Result<Option<UnitRow>, Error> {
        let sql = "SELECT * FROM units WHERE drop_name = ?1 AND unit = ?2";
        let key = (drop.as_str(), unit.as_bytes());
        let row = self.connection.query_row(sql, key, rows::read_unit).optional();
        row.map_err(|source| self.failed(source))
    }

    /// Lists units, the newest first.
    pub(super) fn read_units(&self, limit: u32) -> Result<Vec<UnitShown>> {
        let rows = self.list(&newest_sql(limit), rows::read_unit)?;
        rows.into_iter().map(|row| self.shown(row)).collect()
    }

    fn shown(&self, row: UnitRow) -> Result<UnitShown> {
        let key = (row.drop.as_str(), row.name.as_bytes());
        let sql = "SELECT word, value FROM unit_words \
            WHERE drop_name = ?1 AND unit = ?2 AND word <> 'samples'";
        let words = self.rows_of(sql, key, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let sql = "SELECT destination, upload_count, completed_count, parked_count \
            FROM unit_tallies WHERE drop_name = ?1 AND unit = ?2";
        let tallies = self.rows_of(sql, key, |row| {
            Ok(UnitTally {
                destination: row.get(0)?,
                upload_count: rows::unsigned_at(row, 1)?,
                completed_count: rows::unsigned_at(row, 2)?,
                parked_count: rows::unsigned_at(row, 3)?,
            })
        })?;
        let sql = "SELECT due_at_ns, failure, is_done FROM disposals \
            WHERE drop_name = ?1 AND unit = ?2 AND (is_done OR ended_at_ns IS NULL)";
        let disposal = self.rows_of(sql, key, |row| {
            let due_at = WallTime(row.get(0)?);
            Ok(DisposalShown { due_at, failure: row.get(1)?, is_done: row.get(2)? })
        })?;
        let disposal = disposal.into_iter().next();
        Ok(UnitShown { words: words.into_iter().collect(), tallies, disposal, row })
    }

    pub(super) fn rows_of<T>(
        &self,
        sql: &str,
        key: (&str, &[u8]),
        read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.connection.prepare_cached(sql)?.query_map(key, read)?.collect()
    }

    /// Hands out every file of a unit that has a receipt, in the order of their paths.
    ///
    /// # Errors
    /// When the database cannot be read, or the taker fails.
    pub fn unit_files(
        &self,
        drop: &DropName,
        unit: &SourcePath,
        take: &mut dyn FnMut(UnitFile) -> io::Result<()>,
    ) -> io::Result<()> {
        let sql = format!(
            "{FILES} WHERE u.drop_name = ?1 AND u.unit = ?2 AND u.stage = 'receipted' {NEWEST}"
        );
        self.each_file(&sql, (drop.as_str(), unit.as_bytes()), take)
    }

    /// Hands out every file that has a receipt, of one drop directory or of all.
    ///
    /// # Errors
    /// When the database cannot be read, or the taker fails.
    pub fn receipted_files(
        &self,
        drop: Option<&str>,
        take: &mut dyn FnMut(UnitFile) -> io::Result<()>,
    ) -> io::Result<()> {
        let sql = format!(
            "{FILES} WHERE (?1 IS NULL OR u.drop_name = ?1) AND u.sentinel = 0 \
             AND u.stage = 'receipted' {NEWEST}"
        );
        self.each_file(&sql, [drop], take)
    }

    fn each_file(
        &self,
        sql: &str,
        key: impl rusqlite::Params,
        take: &mut dyn FnMut(UnitFile) -> io::Result<()>,
    ) -> io::Result<()> {
        let failed = |source| io::Error::other(self.failed(source));
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(key).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            take(read_file(row).map_err(failed)?)?;
        }
        Ok(())
    }

    /// Returns the versions of a unit's files that have a receipt at every one of `targets`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn proved_files(
        &self,
        key: (&DropName, &SourcePath),
        is_file: bool,
        targets: &[DestinationName],
    ) -> std::result::Result<BTreeMap<SourcePath, Fingerprint>, Error> {
        self.read_proved(key, is_file, targets).map_err(|source| self.failed(source))
    }

    fn read_proved(
        &self,
        key: (&DropName, &SourcePath),
        is_file: bool,
        targets: &[DestinationName],
    ) -> Result<BTreeMap<SourcePath, Fingerprint>> {
        let of = if is_file { "path = ?2 AND unit IS NULL" } else { "unit = ?2" };
        let sql = format!(
            "SELECT path, destination, device, inode, size_bytes, mtime_ns, ctime_ns FROM uploads \
             WHERE drop_name = ?1 AND {of} AND stage = 'receipted' AND sentinel = 0 ORDER BY id"
        );
        let key = (key.0.as_str(), key.1.as_bytes());
        let found = self.rows_of(&sql, key, |row| {
            let path = SourcePath::from_bytes(row.get_ref(0)?.as_blob()?);
            Ok((path, (row.get::<_, String>(1)?, read_version(row)?)))
        })?;
        let mut newest: BTreeMap<_, BTreeMap<String, Fingerprint>> = BTreeMap::new();
        for (path, (destination, version)) in found {
            newest.entry(path).or_default().insert(destination, version);
        }
        let proved = newest.into_iter().filter_map(|(path, versions)| {
            let version = *versions.get(targets.first()?.as_str())?;
            let is_everywhere = targets.iter().all(|target| {
                versions.get(target.as_str()).is_some_and(|there| there.is_untouched(&version))
            });
            is_everywhere.then_some((path, version))
        });
        Ok(proved.collect())
    }
}

pub(super) fn read_version(row: &Row<'_>) -> Result<Fingerprint> {
    Ok(Fingerprint {
        device: row.get::<_, i64>("device")?.cast_unsigned(),
        inode: row.get::<_, i64>("inode")?.cast_unsigned(),
        size: ByteCount(rows::unsigned(row, "size_bytes")?),
        mtime_ns: row.get("mtime_ns")?,
        ctime_ns: row.get("ctime_ns")?,
    })
}

fn read_file(row: &Row<'_>) -> Result<UnitFile> {
    let md5 = |column: &'static str| -> Result<Option<Md5>> {
        let bytes = row.get_ref(column)?.as_blob_or_null()?;
        bytes.map(|bytes| rows::md5_of(bytes, column)).transpose()
    };
    let part_size = row.get::<_, Option<i64>>("mark_part_size_bytes")?;
    Ok(UnitFile {
        upload: UploadId(row.get("id")?),
        drop: row.get("drop_name")?,
        path: SourcePath::from_bytes(row.get_ref("path")?.as_blob()?),
        size: ByteCount(rows::unsigned(row, "size_bytes")?),
        mtime_ns: row.get("mtime_ns")?,
        destination: row.get("destination")?,
        remote_id: row.get("remote_file_id")?,
        remote_name: row.get("remote_name")?,
        md5: md5("md5")?,
        sha256: row.get("whole_sha256")?,
        parts_md5: md5("mark_md5")?,
        part_size_bytes: part_size.map(i64::cast_unsigned),
        completed_at: row.get::<_, Option<i64>>("completed_at_ns")?.map(WallTime),
    })
}

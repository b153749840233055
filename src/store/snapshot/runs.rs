//! Reads runs: their rows, their files, and the disposal of their sources.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row};

use super::Snapshot;
use super::selection::Selection;
use crate::model::{
    ArrivedFile, ByteCount, DestinationName, DirectoryName, ETag, Fingerprint, RemoteFileId,
    RootIdentity, RunFile, RunRow, RunTrace, SentFile, SourcePath, TargetAddress, UploadId,
    WallTime,
};
use crate::store::{Error, rows};

type Result<T> = std::result::Result<T, rusqlite::Error>;

#[derive(Debug, Clone)]
pub struct RunShown {
    pub row: RunRow,
    pub words: BTreeMap<String, String>,
    pub tallies: Vec<RunTallyShown>,
    /// Whether its source was disposed of, or why not yet.
    pub disposal: Option<DisposalShown>,
}

/// Uploads of one run at one destination.
#[derive(Debug, Clone)]
pub struct RunTallyShown {
    pub destination: String,
    pub upload_count: u64,
    pub completed_count: u64,
    pub parked_count: u64,
    /// Sums over its uploads.
    pub size_bytes: u64,
    pub accepted_bytes: u64,
    /// When one of them was last admitted, begun or completed.
    pub last_activity_at: WallTime,
    /// Its web page at the platform, where that is known.
    pub url: Option<String>,
}

/// The state of the disposal of a run's source.
#[derive(Debug, Clone)]
pub struct DisposalShown {
    pub due_at: WallTime,
    /// Why the last attempt failed.
    pub failure: Option<String>,
    pub is_done: bool,
}

/// A run whose disposal is held up.
#[derive(Debug, Clone)]
pub struct HeldDisposal {
    pub drop: String,
    pub run: SourcePath,
    pub failure: String,
}

/// Identifies a run.
#[derive(Debug, Clone, Copy)]
pub struct RunRef<'a> {
    pub drop: &'a DirectoryName,
    pub run: &'a SourcePath,
    pub is_file: bool,
}

impl RunRef<'_> {
    fn condition(&self) -> &'static str {
        if self.is_file { "path = ?2 AND run IS NULL" } else { "run = ?2" }
    }

    fn key(&self) -> (&str, &[u8]) {
        (self.drop.as_str(), self.run.as_bytes())
    }
}

/// The conditions under which a run's files count as arrived.
#[derive(Debug, Clone, Copy)]
pub struct Proving<'a> {
    pub run: RunRef<'a>,
    /// Where all of them must be.
    pub destinations: &'a [DestinationName],
    /// Uploads with this id or a larger one prove nothing.
    pub before: UploadId,
    /// The drop directory's identity: a file from another directory proves nothing.
    pub root: &'a RootIdentity,
}

/// The newest upload of a path at a destination.
struct NewestUpload {
    upload: UploadId,
    root: Option<RootIdentity>,
    version: Fingerprint,
}

/// Whether an upload is at a target of its destination: a file elsewhere proves nothing.
const AT_TARGET: &str = "EXISTS (SELECT 1 FROM destination_targets d \
    WHERE d.destination = uploads.destination AND d.target_id = uploads.target_id)";

/// Every receipted upload that is the newest of its path at its destination.
const FILES: &str = "SELECT u.id, u.drop_name, u.path, u.destination FROM uploads u ";
/// Excludes uploads with a newer one of the same path and destination.
const NEWEST: &str = "AND NOT EXISTS (SELECT 1 FROM uploads n WHERE n.path = u.path \
    AND n.drop_name = u.drop_name AND n.destination = u.destination AND n.id > u.id \
    AND n.stage = 'receipted') ORDER BY u.path, u.destination";

pub(super) fn newest_sql(selection: Selection, limit: u32) -> String {
    let is_selected = selection.of_runs();
    format!("SELECT * FROM runs WHERE {is_selected} ORDER BY opened_at_ns DESC, run LIMIT {limit}")
}

impl Snapshot {
    /// Returns the row of one run.
    pub fn run(
        &self,
        drop: &DirectoryName,
        run: &SourcePath,
    ) -> std::result::Result<Option<RunRow>, Error> {
        let sql = "SELECT * FROM runs WHERE drop_name = ?1 AND run = ?2";
        let key = (drop.as_str(), run.as_bytes());
        let row = self.connection.query_row(sql, key, rows::read_run).optional();
        row.map_err(|source| self.failed(source))
    }

    /// Returns the runs of a drop directory whose directories are searched for when they are not at
    /// their names: those in progress, and those that were found under another name before.
    pub fn runs_with_directories(
        &self,
        drop: &DirectoryName,
    ) -> std::result::Result<Vec<SourcePath>, Error> {
        let sql = "SELECT run FROM runs WHERE drop_name = ?1 \
            AND (state IN ('open', 'closed') OR name_now IS NOT NULL)";
        let read = |row: &Row<'_>| Ok(SourcePath::from_bytes(row.get_ref(0)?.as_blob()?));
        self.rows_of(sql, [drop.as_str()], read).map_err(|source| self.failed(source))
    }

    /// Returns some files of a run, the newest first, in the admitted versions, and the
    /// instrument's run id.
    pub fn trace_of_run(
        &self,
        drop: &DirectoryName,
        run: &SourcePath,
        limit: u32,
    ) -> std::result::Result<RunTrace, Error> {
        let sql = "SELECT path, device, inode, size_bytes, mtime_ns, ctime_ns FROM uploads \
            WHERE drop_name = ?1 AND run = ?2 AND sentinel = 0 ORDER BY id DESC LIMIT ?3";
        let key = (drop.as_str(), run.as_bytes(), limit);
        let read = |row: &Row<'_>| {
            let version = rows::read_version(row, 1)?;
            Ok((SourcePath::from_bytes(row.get_ref(0)?.as_blob()?), version))
        };
        let files = self.rows_of(sql, key, read).map_err(|source| self.failed(source))?;
        let sql =
            "SELECT value FROM run_words WHERE drop_name = ?1 AND run = ?2 AND word = 'run_id'";
        let words = self.rows_of(sql, (drop.as_str(), run.as_bytes()), |row| row.get(0));
        let run_id = words.map_err(|source| self.failed(source))?.pop();
        Ok(RunTrace { files, run_id })
    }

    /// Returns whether a sentinel was admitted, and no upload of it is open.
    pub fn is_sentinel_sent(&self, path: &SourcePath) -> std::result::Result<bool, Error> {
        let sql = format!(
            "SELECT count(*) > 0 AND ifnull(sum({}), 0) = 0 FROM uploads \
            WHERE path = ?1 AND sentinel = 1",
            rows::IS_OPEN
        );
        let read = self.connection.query_row(&sql, [path.as_bytes()], |row| row.get(0));
        read.map_err(|source| self.failed(source))
    }

    /// Lists runs, the newest first.
    pub(super) fn read_runs(&self, limit: u32) -> Result<Vec<RunShown>> {
        let rows = self.list(&newest_sql(self.selection, limit), rows::read_run)?;
        rows.into_iter().map(|row| self.shown(row)).collect()
    }

    fn shown(&self, row: RunRow) -> Result<RunShown> {
        let key = (row.drop.as_str(), row.name.as_bytes());
        let sql = "SELECT word, value FROM run_words \
            WHERE drop_name = ?1 AND run = ?2 AND word <> 'samples'";
        let words = self.rows_of(sql, key, |row| Ok((row.get(0)?, row.get(1)?)))?;
        let tallies = self.read_run_tallies(&row.drop, &row.name)?;
        let disposal = self.read_disposal(&row.drop, &row.name)?;
        Ok(RunShown { words: words.into_iter().collect(), tallies, disposal, row })
    }

    /// Lists the progress of a run at each destination; for an empty name, that of the files that
    /// are runs of their own.
    pub(super) fn read_run_tallies(
        &self,
        drop: &DirectoryName,
        run: &SourcePath,
    ) -> Result<Vec<RunTallyShown>> {
        let sql = "SELECT r.destination, upload_count, r.completed_count, parked_count, \
            size_bytes, accepted_bytes, last_activity_at_ns, t.platform, t.base_url, t.container \
            FROM run_tallies r LEFT JOIN destination_targets d \
            ON d.destination = r.destination AND d.position = 0 \
            LEFT JOIN targets t ON t.id = d.target_id \
            WHERE drop_name = ?1 AND run = ?2 AND upload_count > 0";
        self.rows_of(sql, (drop.as_str(), run.as_bytes()), |row| {
            let platform: Option<String> = row.get(7)?;
            let address = platform.map(|platform| -> Result<TargetAddress> {
                Ok(TargetAddress { platform, base_url: row.get(8)?, container: row.get(9)? })
            });
            Ok(RunTallyShown {
                destination: row.get(0)?,
                upload_count: rows::unsigned_at(row, 1)?,
                completed_count: rows::unsigned_at(row, 2)?,
                parked_count: rows::unsigned_at(row, 3)?,
                size_bytes: rows::unsigned_at(row, 4)?,
                accepted_bytes: rows::unsigned_at(row, 5)?,
                last_activity_at: WallTime(row.get(6)?),
                url: address.transpose()?.and_then(|address| address.page()),
            })
        })
    }

    /// Lists the progress of the files that are runs of their own, by drop directory.
    pub(super) fn read_single_files(&self) -> Result<Vec<(String, RunTallyShown)>> {
        let sql = format!(
            "SELECT DISTINCT drop_name FROM run_tallies WHERE run = x'' AND {}",
            self.selection.of_run_tallies()
        );
        let drops: Vec<String> = self.list(&sql, |row| row.get(0))?;
        let alone = SourcePath::from_bytes(b"");
        let mut found = Vec::new();
        for drop in drops {
            let tallies = self.read_run_tallies(&DirectoryName::new(&*drop), &alone)?;
            found.extend(tallies.into_iter().map(|tally| (drop.clone(), tally)));
        }
        Ok(found)
    }

    /// Returns the state of a run's disposal; `None` when its source is kept.
    pub fn disposal(
        &self,
        drop: &DirectoryName,
        run: &SourcePath,
    ) -> std::result::Result<Option<DisposalShown>, Error> {
        let read = self.read_disposal(drop, run);
        read.map_err(|source| self.failed(source))
    }

    fn read_disposal(
        &self,
        drop: &DirectoryName,
        run: &SourcePath,
    ) -> Result<Option<DisposalShown>> {
        let sql = "SELECT due_at_ns, failure, is_done FROM disposals \
            WHERE drop_name = ?1 AND run = ?2 AND (is_done OR ended_at_ns IS NULL)";
        let disposal = self.rows_of(sql, (drop.as_str(), run.as_bytes()), |row| {
            let due_at = WallTime(row.get(0)?);
            Ok(DisposalShown { due_at, failure: row.get(1)?, is_done: row.get(2)? })
        })?;
        Ok(disposal.into_iter().next())
    }

    /// Returns some runs whose disposal is held up, and why.
    pub fn held_disposals(&self, count_max: u32) -> std::result::Result<Vec<HeldDisposal>, Error> {
        let sql = format!(
            "SELECT drop_name, run, failure FROM disposals \
             WHERE ended_at_ns IS NULL AND failure IS NOT NULL LIMIT {count_max}"
        );
        let read = |row: &Row<'_>| {
            let run = SourcePath::from_bytes(row.get_ref(1)?.as_blob()?);
            Ok(HeldDisposal { drop: row.get(0)?, run, failure: row.get(2)? })
        };
        self.list(&sql, read).map_err(|source| self.failed(source))
    }

    pub fn receipted_runs(&self) -> std::result::Result<Vec<RunRow>, Error> {
        let sql = "SELECT * FROM runs WHERE receipt_sha256 IS NOT NULL ORDER BY drop_name, run";
        self.list(sql, rows::read_run).map_err(|source| self.failed(source))
    }

    pub(super) fn rows_of<T>(
        &self,
        sql: &str,
        key: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.connection.prepare_cached(sql)?.query_map(key, read)?.collect()
    }

    /// Passes every receipted file to `take`, in the order of their paths.
    pub fn receipted_files(&self, mut take: impl FnMut(RunFile)) -> std::result::Result<(), Error> {
        let sql = format!("{FILES} WHERE u.sentinel = 0 AND u.stage = 'receipted' {NEWEST}");
        let mut read = || -> Result<()> {
            let mut statement = self.connection.prepare_cached(&sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                take(RunFile {
                    upload: UploadId(row.get(0)?),
                    drop: row.get(1)?,
                    path: SourcePath::from_bytes(row.get_ref(2)?.as_blob()?),
                    destination: row.get(3)?,
                });
            }
            Ok(())
        };
        read().map_err(|source| self.failed(source))
    }

    /// Counts the files of a run that have arrived for a destination, but at none of its present targets.
    pub fn completed_at_former(&self, run: &RunRef<'_>) -> std::result::Result<u64, Error> {
        let of = run.condition();
        let sql = format!(
            "SELECT count(*) FROM (SELECT 1 FROM uploads WHERE drop_name = ?1 AND {of} \
             AND stage = 'receipted' AND sentinel = 0 GROUP BY path, destination \
             HAVING NOT max({AT_TARGET}))"
        );
        let read = || {
            let mut statement = self.connection.prepare_cached(&sql)?;
            statement.query_row(run.key(), |row| rows::unsigned_at(row, 0))
        };
        read().map_err(|source| self.failed(source))
    }

    /// Returns the versions of a run's files that are proved to be at every one of its destinations.
    pub fn proved_files(
        &self,
        what: &Proving<'_>,
    ) -> std::result::Result<BTreeMap<SourcePath, Fingerprint>, Error> {
        self.read_proved(what).map_err(|source| self.failed(source))
    }

    fn read_proved(&self, what: &Proving<'_>) -> Result<BTreeMap<SourcePath, Fingerprint>> {
        let of = what.run.condition();
        let sql = format!(
            "SELECT path, destination, id, root, device, inode, size_bytes, mtime_ns, ctime_ns \
             FROM uploads WHERE drop_name = ?1 AND {of} AND stage = 'receipted' AND sentinel = 0 \
             AND {AT_TARGET} ORDER BY id"
        );
        let found = self.rows_of(&sql, what.run.key(), |row| {
            let path = SourcePath::from_bytes(row.get_ref(0)?.as_blob()?);
            let root = row.get::<_, Option<String>>(3)?.map(RootIdentity::new);
            let upload = UploadId(row.get(2)?);
            let newest = NewestUpload { upload, root, version: read_version(row)? };
            Ok((path, row.get::<_, String>(1)?, newest))
        })?;
        let mut by_path: BTreeMap<_, BTreeMap<String, NewestUpload>> = BTreeMap::new();
        for (path, destination, newest) in found {
            by_path.entry(path).or_default().insert(destination, newest);
        }
        let proved = by_path.into_iter().filter_map(|(path, uploads)| {
            let version = uploads.get(what.destinations.first()?.as_str())?.version;
            let proves = |newest: &NewestUpload| {
                let is_of_root = newest.root.as_ref() == Some(what.root);
                newest.upload < what.before && is_of_root && newest.version.is_untouched(&version)
            };
            let is_everywhere = what
                .destinations
                .iter()
                .all(|destination| uploads.get(destination.as_str()).is_some_and(proves));
            is_everywhere.then_some((path, version))
        });
        Ok(proved.collect())
    }

    /// Returns some arrived files of a run at a destination, the newest upload of each path, in the
    /// order of their ids: those after one upload.
    pub fn arrived_files(
        &self,
        run: &RunRef<'_>,
        destination: &DestinationName,
        after: Option<UploadId>,
        count_max: u32,
    ) -> std::result::Result<Vec<ArrivedFile>, Error> {
        let read = || self.read_arrived(run, destination, after, count_max);
        read().map_err(|source| self.failed(source))
    }

    fn read_arrived(
        &self,
        run: &RunRef<'_>,
        destination: &DestinationName,
        after: Option<UploadId>,
        count_max: u32,
    ) -> Result<Vec<ArrivedFile>> {
        let of = run.condition();
        let sql = format!(
            "SELECT u.id, u.path, u.size_bytes, u.etag_mode, u.remote_file_id, \
             ifnull(u.mark_part_size_bytes, u.remote_mark_part_size_bytes), \
             ifnull(u.mark_md5, u.remote_mark_md5), u.remote_mark_part_size_bytes, \
             u.remote_mark_md5, u.remote_etag, u.receipt_sha256, \
             u.ledger_seq, u.ledger_offset, l.name AS ledger \
             FROM uploads u LEFT JOIN ledgers l ON l.id = u.ledger_id WHERE u.drop_name = ?1 AND u.{of} AND u.destination = ?3 AND u.id > ?4 \
             AND u.stage = 'receipted' AND u.sentinel = 0 \
             AND EXISTS (SELECT 1 FROM destination_targets d \
                WHERE d.destination = u.destination AND d.target_id = u.target_id) \
             AND NOT EXISTS (SELECT 1 FROM uploads n WHERE n.path = u.path \
                AND n.drop_name = u.drop_name AND n.destination = u.destination AND n.id > u.id \
                AND n.stage = 'receipted' AND n.sentinel = 0) ORDER BY u.id LIMIT ?5"
        );
        let (drop, run) = run.key();
        let key = (drop, run, destination.as_str(), after.map_or(0, |id| id.0), count_max);
        let mut statement = self.connection.prepare_cached(&sql)?;
        let found = statement.query_map(key, |row| {
            Ok(ArrivedFile {
                upload: UploadId(row.get(0)?),
                path: SourcePath::from_bytes(row.get_ref(1)?.as_blob()?),
                sent: SentFile {
                    size: ByteCount(rows::unsigned_at(row, 2)?),
                    etag_mode: rows::etag_mode(row.get_ref(3)?.as_str()?)?,
                    mark: rows::mark(row, 5, 6)?,
                    told: rows::mark(row, 7, 8)?,
                    etag: row.get::<_, Option<String>>(9)?.map(|etag| ETag::from_header(&etag)),
                },
                remote: RemoteFileId::new(row.get::<_, String>(4)?),
                receipt: rows::read_line(row)?,
            })
        })?;
        found.collect()
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

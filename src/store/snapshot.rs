//! The SQL that reads, for `status`, `show` and the receipts. Opens the file read-only, whether the
//! daemon runs or not, and never changes it. Returns plain values; the surface renders them.

use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};
use sha2::{Digest, Sha256};

use super::columns::{COLUMN_COUNT, at};
use super::process::Process;
use super::rows::{self, IS_ENDED, IS_OPEN};
use super::schema::{self, FILE_NAME};
use super::{Error, lock};
use crate::model::remote::ContentMark;
use crate::model::{
    ByteCount, ETag, IgnoreReason, Live, Md5, PartNumber, PartSize, SourcePath, Standing,
    TargetAddress, UploadId, WallTime,
};

mod catalogue;
mod files;
mod health;
mod held;
mod ledgers;
mod page;
mod places;
mod report;
mod runs;
mod selection;
mod shown;
mod targets;
mod waiting;
mod what;

pub use self::files::Sent;
pub use self::health::{FileHealth, Ownership, ReadUpload};
use self::places::{DESTINATIONS, read_destination};
pub use self::runs::{DisposalShown, HeldDisposal, Proving, RunRef, RunShown, RunTallyShown};
pub use self::selection::Selection;
pub use self::waiting::{ParkedUploads, StaleRun, StuckUploads};
pub use self::what::{FileUploads, KnownNames, NamedPath};

pub use self::shown::{
    Attempt, Awaited, DaemonShown, Database, DestinationShown, Detail, DropShown, ExportShown,
    FileCounts, FileDigests, Ignored, IgnoredShown, LastError, NoticesShown, PartShown,
    PlacesShown, ProcessShown, RemoteShown, RunOfUpload, StageTimes, Status, Tally, TroubleShown,
    UploadShown, Wait,
};

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// Limit of listed unfinished uploads; counts are always exact.
const OPEN_MAX: u32 = 1_000;
/// Limit of listed ignored paths.
const IGNORED_MAX: u32 = 10_000;
/// Limit of listed ended uploads, unless all are requested.
const ENDED_SHOWN: u32 = 100;

/// A view of the state at one moment.
#[derive(Debug)]
pub struct Snapshot {
    connection: Connection,
    directory: PathBuf,
    selection: Selection,
    /// Limits of the listed unfinished and ended uploads.
    open_max: u32,
    ended_max: u32,
}

impl Snapshot {
    /// Opens the state of a directory.
    ///
    /// # Errors
    /// See [`super::Kind`]; `Missing` when no daemon ever ran there.
    pub fn open(directory: &Path) -> std::result::Result<Self, Error> {
        let connection = schema::open_for_reading(directory)?;
        Ok(Self {
            connection,
            directory: directory.to_owned(),
            selection: Selection::All,
            open_max: OPEN_MAX,
            ended_max: ENDED_SHOWN,
        })
    }

    /// Sets how many uploads `status` lists.
    pub fn list_at_most(&mut self, open: u32, ended: u32) {
        (self.open_max, self.ended_max) = (open, ended);
    }

    fn failed(&self, source: rusqlite::Error) -> Error {
        Error::sqlite("read", &self.directory.join(FILE_NAME), source)
    }

    /// Reads everything in `read` from one moment. That is also faster, because SQLite keeps its cache.
    pub fn at_one_moment<T>(&self, read: impl FnOnce() -> T) -> std::result::Result<T, Error> {
        let failed = |source| self.failed(source);
        let transaction = self.connection.unchecked_transaction().map_err(failed)?;
        let found = read();
        transaction.finish().map_err(failed)?;
        Ok(found)
    }

    /// Returns everything `status` shows of the selection, except what only the running daemon knows.
    pub fn status(&self, all: bool, now: WallTime) -> std::result::Result<Status, Error> {
        self.status_with(all, now, None)
    }

    /// As [`Self::status`], with what the running daemon reported.
    pub fn status_with(
        &self,
        all: bool,
        now: WallTime,
        live: Option<Live>,
    ) -> std::result::Result<Status, Error> {
        self.read_status(all, now, live).map_err(|source| self.failed(source))
    }

    fn read_status(&self, all: bool, now: WallTime, live: Option<Live>) -> Result<Status> {
        let connection = &self.connection;
        // One transaction, so that counts and lists are of one moment.
        let transaction = connection.unchecked_transaction()?;
        let daemon = self.read_daemon()?;
        let is_running =
            lock::is_taken(&self.directory) == Some(true) || self.is_process_alive()?;
        let orders = super::writer::orders::load(connection)?;
        let mut uploads = self.list_uploads(all)?;
        uploads.iter_mut().for_each(|upload| upload.note_orders(&orders));
        let mut destinations = self.list(
            &format!(
                "{DESTINATIONS} WHERE is_configured = 1 AND {} ORDER BY destination",
                self.selection.of_destinations()
            ),
            read_destination,
        )?;
        let live = live.filter(|_| is_running);
        let pauses = orders.iter().filter(|(order, ..)| *order == Standing::Paused);
        let pauses: Vec<_> = pauses.map(|(_, scope, at)| (scope, *at)).collect();
        destinations
            .iter_mut()
            .for_each(|to: &mut DestinationShown| to.note_live(live.as_ref(), &pauses));
        let mut status = Status {
            selection: self.selection,
            read_at: now,
            notices: self.read_notices()?,
            single_files: self.read_single_files()?,
            runs: self.read_runs(if all { OPEN_MAX } else { ENDED_SHOWN })?,
            orders,
            database: self.read_database()?,
            uploads,
            process: ProcessShown { is_running, daemon, live },
            places: PlacesShown {
                drops: self.read_drops()?,
                destinations,
                former_targets: self.read_former()?,
            },
            trouble: TroubleShown {
                stuck: self.read_stuck(now)?,
                stale: self.read_stale()?,
                parked: Vec::new(),
            },
            counts: FileCounts {
                tallies: self.read_tallies()?,
                settling_count: self.count_settling()?,
                ignored: IgnoredShown {
                    count: self.count_ignored()?,
                    listed: self.list_ignored(all)?,
                },
            },
        };
        self.note_held(&mut status)?;
        status.trouble.parked = self.read_parked(&status)?;
        transaction.finish()?;
        if self.selection != Selection::All {
            status.keep_listed();
        }
        Ok(status)
    }

    fn read_database(&self) -> Result<Database> {
        let care = super::writer::tend::load(&self.connection)?;
        let (size_bytes, wal_bytes) = super::care::sizes(&self.directory);
        let damaged_ledgers = self.read_damaged_ledgers()?;
        let id = state_id(&self.directory);
        Ok(Database { id, care, size_bytes, wal_bytes, damaged_ledgers })
    }

    fn list<T>(&self, sql: &str, read: impl FnMut(&Row<'_>) -> Result<T>) -> Result<Vec<T>> {
        self.connection.prepare_cached(sql)?.query_map([], read)?.collect()
    }

    fn read_notices(&self) -> Result<NoticesShown> {
        self.connection.query_row(&notices_sql(), [], |row| {
            Ok(NoticesShown {
                waiting_count: rows::unsigned_at(row, 0)?,
                failure: row.get(1)?,
                given_up_count: rows::unsigned_at(row, 2)?,
                given_up_why: row.get(3)?,
            })
        })
    }

    fn list_ignored(&self, all: bool) -> Result<Vec<Ignored>> {
        let sql = ignored_sql(self.selection, if all { IGNORED_MAX } else { ENDED_SHOWN });
        let read = |row: &Row<'_>| {
            let reason = IgnoreReason::parse(row.get_ref(2)?.as_str()?);
            Ok(Ignored {
                drop: row.get(0)?,
                path: SourcePath::from_bytes(row.get_ref(1)?.as_blob()?),
                reason: reason.ok_or(rusqlite::Error::InvalidQuery)?,
            })
        };
        self.list(&sql, read)
    }

    fn list_uploads(&self, all: bool) -> Result<Vec<UploadShown>> {
        let mut uploads = self.list(&open_sql(self.selection, self.open_max), read_upload)?;
        uploads.iter_mut().try_for_each(|upload| self.name_awaited(upload))?;
        let ended_max = (!all).then_some(self.ended_max);
        uploads.extend(self.list(&ended_sql(self.selection, ended_max), read_upload)?);
        Ok(uploads)
    }

    /// Reads the file of the upload that an upload waits for.
    fn name_awaited(&self, upload: &mut UploadShown) -> Result<()> {
        let Some(awaited) = &mut upload.awaits else { return Ok(()) };
        let sql = "SELECT drop_name, path FROM uploads WHERE id = ?1";
        let read = |row: &Row<'_>| {
            let path = SourcePath::from_bytes(row.get_ref(1)?.as_blob()?);
            Ok(format!("{}/{path}", row.get_ref(0)?.as_str()?))
        };
        let mut statement = self.connection.prepare_cached(sql)?;
        awaited.file = statement.query_row([awaited.upload.0], read).optional()?;
        Ok(())
    }

    fn read_daemon(&self) -> Result<Option<DaemonShown>> {
        let row = self.connection.query_row("SELECT * FROM daemon WHERE id = 1", [], |row| {
            Ok(DaemonShown {
                pid: row.get("pid")?,
                version: row.get("version")?,
                started_at: WallTime(row.get("started_at_ns")?),
            })
        });
        // A daemon that has only claimed the state has no version yet.
        Ok(row.optional()?.filter(|daemon| !daemon.version.is_empty()))
    }

    /// Returns whether the process in the daemon's row runs.
    fn is_process_alive(&self) -> Result<bool> {
        let sql = "SELECT process FROM daemon WHERE process IS NOT NULL";
        let found: Option<String> =
            self.connection.query_row(sql, [], |row| row.get(0)).optional()?;
        Ok(found.and_then(|text| Process::parse(&text)).is_some_and(|process| process.is_alive()))
    }

    /// Returns one upload in full, if there is one of that id.
    pub fn detail(&self, id: UploadId) -> std::result::Result<Option<Detail>, Error> {
        let read = || -> Result<Option<Detail>> {
            let Some(mut detail) = self.read_detail(id)? else { return Ok(None) };
            self.name_awaited(&mut detail.upload)?;
            Ok(Some(detail))
        };
        read().map_err(|source| self.failed(source))
    }

    /// As [`Self::detail`], with the reason why it waits, as in a status.
    pub fn detail_of(
        &self,
        id: UploadId,
        status: &Status,
    ) -> std::result::Result<Option<Detail>, Error> {
        let mut detail = self.detail(id)?;
        let held = held::HeldBy::list(status);
        detail.iter_mut().for_each(|detail| {
            detail.upload.note_orders(&status.orders);
            detail.upload.note_held(&held);
        });
        Ok(detail)
    }

    /// Returns one upload from its own rows: all that its receipt needs.
    pub fn proof(&self, id: UploadId) -> std::result::Result<Option<Detail>, Error> {
        self.read_detail(id).map_err(|source| self.failed(source))
    }

    fn read_detail(&self, id: UploadId) -> Result<Option<Detail>> {
        let sql = "SELECT uploads.*, ifnull(h.platform, '') AS platform, l.name AS ledger, \
            t.platform AS target_platform, t.base_url, t.container, \
            r.first_ledger, r.generation, r.ledger AS completed_in FROM uploads \
            LEFT JOIN destination_health h ON h.destination = uploads.destination \
            LEFT JOIN ledgers l ON l.id = uploads.ledger_id \
            LEFT JOIN targets t ON t.id = uploads.target_id \
            LEFT JOIN runs r ON r.drop_name = uploads.drop_name AND r.run = uploads.run \
            WHERE uploads.id = ?1";
        let detail =
            self.connection.prepare_cached(sql)?.query_row([id.0], read_detail).optional()?;
        let Some(mut detail) = detail else { return Ok(None) };
        detail.parts = self.parts(id)?;
        // Most have none.
        if detail.upload.state.failed.count > 0 || detail.upload.last_error.is_some() {
            detail.attempts = self.attempts(id)?;
        }
        Ok(Some(detail))
    }

    /// Lists every export, the newest upload first.
    pub fn exports(&self) -> std::result::Result<Vec<(UploadShown, ExportShown)>, Error> {
        let sql = "SELECT * FROM uploads WHERE export_state IS NOT NULL ORDER BY id DESC";
        let read = |row: &Row<'_>| Ok((read_upload(row)?, read_shown_export(row)?));
        let listed = self.list(sql, read).map_err(|error| self.failed(error))?;
        Ok(listed.into_iter().filter_map(|(upload, export)| Some((upload, export?))).collect())
    }

    fn parts(&self, id: UploadId) -> Result<Vec<PartShown>> {
        let sql = "SELECT number, md5, etag, reported, accepted_at_ns FROM parts \
            WHERE upload_id = ?1 ORDER BY number";
        let mut statement = self.connection.prepare_cached(sql)?;
        let parts = statement.query_map([id.0], |row| {
            let number = PartNumber::new(row.get(0)?).ok_or(rusqlite::Error::InvalidQuery)?;
            let md5 = rows::md5_of(row.get_ref(1)?.as_blob()?, "parts.md5")?;
            let etag = ETag::from_header(row.get_ref(2)?.as_str()?);
            let (reported, accepted_at) = (row.get(3)?, WallTime(row.get(4)?));
            Ok(PartShown { number, md5, etag, reported, accepted_at })
        })?;
        parts.collect()
    }

    fn attempts(&self, id: UploadId) -> Result<Vec<Attempt>> {
        let sql = "SELECT act, part, kind, status, request_id, message, at_ns, retry_at_ns \
            FROM attempts WHERE upload_id = ?1 ORDER BY id DESC";
        let mut statement = self.connection.prepare_cached(sql)?;
        let attempts = statement.query_map([id.0], |row| {
            Ok(Attempt {
                act: row.get(0)?,
                part: row.get(1)?,
                kind: row.get(2)?,
                status: row.get(3)?,
                request_id: row.get(4)?,
                message: row.get(5)?,
                at: WallTime(row.get(6)?),
                retry_at: row.get::<_, Option<i64>>(7)?.map(WallTime),
            })
        })?;
        attempts.collect()
    }
}

/// Returns what tells a state directory of this machine from any other, and says neither.
fn state_id(directory: &Path) -> String {
    let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let digest = Sha256::new()
        .chain_update(b"dropferry")
        .chain_update(machine)
        .chain_update(directory.as_os_str().as_encoded_bytes())
        .finalize();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn open_sql(selection: Selection, most: u32) -> String {
    let is_selected = selection.of_uploads();
    format!("SELECT * FROM uploads WHERE {IS_OPEN} AND {is_selected} ORDER BY id LIMIT {most}")
}

fn ended_sql(selection: Selection, most: Option<u32>) -> String {
    let limit = most.map_or(String::new(), |most| format!("LIMIT {most}"));
    let is_selected = selection.of_uploads();
    format!(
        "SELECT * FROM uploads WHERE {IS_ENDED} AND {is_selected} \
        ORDER BY ended_at_ns DESC, id DESC {limit}"
    )
}

fn ignored_sql(selection: Selection, limit: u32) -> String {
    format!(
        "SELECT drop_name, path, reason FROM ignored WHERE {} \
        ORDER BY at_ns DESC, drop_name, path LIMIT {limit}",
        selection.of_ignored()
    )
}

/// Names the index: the planner would use that of sent notices, which has given up ones too.
fn notices_sql() -> String {
    const WAITS: &str = "notices INDEXED BY notices_unsent \
        WHERE sent_at_ns IS NULL AND given_up_at_ns IS NULL";
    format!(
        "SELECT count(*), \
        (SELECT failure FROM {WAITS} AND failure IS NOT NULL ORDER BY id LIMIT 1), \
        (SELECT count(*) FROM notices WHERE given_up_at_ns IS NOT NULL), \
        (SELECT channel || ': ' || failure FROM notices WHERE given_up_at_ns IS NOT NULL \
            ORDER BY id DESC LIMIT 1) FROM {WAITS}"
    )
}

fn read_tally(row: &Row<'_>) -> Result<Tally> {
    Ok(Tally {
        state: row.get("state")?,
        upload_count: rows::unsigned(row, "upload_count")?,
        size_bytes: rows::unsigned(row, "size_bytes")?,
        accepted_bytes: rows::unsigned(row, "accepted_bytes")?,
        bytes_sent: rows::unsigned(row, "bytes_sent")?,
        bytes_sent_again: rows::unsigned(row, "bytes_sent_again")?,
        bytes_in_flight: rows::unsigned(row, "bytes_in_flight")?,
    })
}

fn time(row: &Row<'_>, column: usize) -> Result<Option<WallTime>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(WallTime))
}

fn read_upload(row: &Row<'_>) -> Result<UploadShown> {
    let (admission, state) = (rows::read_admission(row)?, rows::read_state(row)?);
    let layout = rows::read_remote(row)?;
    let part_size = layout.as_ref().map_or(admission.part_size, |remote| remote.part_size);
    let wished = admission.part_size.count_for(admission.file.fingerprint.size).unwrap_or(0);
    Ok(UploadShown {
        part_size_bytes: PartSize::get(part_size),
        part_count: layout.map_or(wished, |remote| remote.part_count),
        accepted_bytes: rows::unsigned_at(row, at!("accepted_bytes"))?,
        park_detail: row.get(at!("park_detail"))?,
        last_error: LastError::read(row)?,
        remote_id: row.get(at!("remote_file_id"))?,
        completed_at: time(row, at!("completed_at_ns"))?,
        ordered: None,
        waits_for: None,
        awaits: row
            .get::<_, Option<i64>>(at!("waits_for"))?
            .map(|id| Awaited { upload: UploadId(id), file: None }),
        admission,
        state,
    })
}

fn read_detail(row: &Row<'_>) -> Result<Detail> {
    let mark = match row.get::<_, Option<i64>>(at!("mark_part_size_bytes"))? {
        Some(bytes) => PartSize::new(bytes.cast_unsigned()).and_then(|part_size| {
            let md5 = row.get_ref(at!("mark_md5")).ok()?.as_blob().ok()?.try_into().ok()?;
            Some(ContentMark { part_size, md5_of_parts: Md5(md5) })
        }),
        None => None,
    };
    Ok(Detail {
        upload: read_upload(row)?,
        receipt: match row.get_ref(at!("receipt_sha256"))? == ValueRef::Null {
            true => None,
            false => rows::read_line(row)?,
        },
        run: ledgers::read_run(row)?,
        export: read_shown_export(row)?,
        parts: Vec::new(),
        attempts: Vec::new(),
        remote: RemoteShown {
            upload_id: row.get(at!("remote_upload_id"))?,
            name: row.get(at!("remote_name"))?,
            platform: row.get(COLUMN_COUNT)?,
            target: read_target(row)?,
        },
        times: StageTimes {
            begun_at: time(row, at!("begun_at_ns"))?,
            verified_at: time(row, at!("verified_at_ns"))?,
            receipted_at: time(row, at!("receipted_at_ns"))?,
            ended_at: time(row, at!("ended_at_ns"))?,
            pruned_at: time(row, at!("pruned_at_ns"))?,
        },
        digests: FileDigests {
            mark,
            md5: row.get::<_, Option<[u8; 16]>>(at!("whole_md5"))?.map(Md5),
            sha256: row.get(at!("whole_sha256"))?,
        },
    })
}

fn read_target(row: &Row<'_>) -> Result<Option<TargetAddress>> {
    let Some(platform) = row.get(COLUMN_COUNT + 2)? else { return Ok(None) };
    let (base_url, container) = (row.get(COLUMN_COUNT + 3)?, row.get(COLUMN_COUNT + 4)?);
    Ok(Some(TargetAddress { platform, base_url, container }))
}

fn read_shown_export(row: &Row<'_>) -> Result<Option<ExportShown>> {
    let Some(state) = row.get::<_, Option<String>>(at!("export_state"))? else { return Ok(None) };
    Ok(Some(ExportShown {
        volume: row.get(at!("export_volume"))?,
        location: row.get(at!("export_location"))?,
        state,
        job: row.get(at!("export_job"))?,
        error: row.get(at!("export_error"))?,
        intended_at: time(row, at!("export_intended_at_ns"))?,
        started_at: time(row, at!("export_started_at_ns"))?,
        exported_at: time(row, at!("exported_at_ns"))?,
    }))
}

/// The length of a file at its admission.
pub fn size_of(upload: &UploadShown) -> ByteCount {
    upload.admission.file.fingerprint.size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_status_shows_is_found_by_indexes() {
        let directory = tempfile::tempdir().unwrap();
        let connection = schema::open_for_writing(directory.path()).unwrap();
        let all = Selection::All;
        let shown = [
            open_sql(all, OPEN_MAX),
            ended_sql(all, Some(ENDED_SHOWN)),
            ignored_sql(all, 1),
            notices_sql(),
            runs::newest_sql(all, 1),
        ];
        for sql in shown {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = statement.query_map([], |row| row.get::<_, String>("detail")).unwrap();
            for step in steps.map(Result::unwrap) {
                let is_found = step.contains(" INDEX ") || step.starts_with("SCALAR SUBQUERY");
                assert!(is_found, "{step}, in {sql}");
            }
        }
    }
}

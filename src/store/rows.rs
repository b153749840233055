//! Conversion between rows and values: the one place that knows the columns of `uploads` and `parts`.
//!
//! `read_state` reads what `state_cells` writes; a property test checks both.
//! A row that does not parse is damage, and reading it fails; nothing is guessed.

mod run;

use std::collections::BTreeMap;

use rusqlite::types::{ToSqlOutput, Type, Value, ValueRef};
use rusqlite::{Connection, Row, params};

pub(super) use run::read_run;

use super::columns::at;
use crate::model::remote::ContentMark;
use crate::model::{
    Admission, AdmittedFile, ByteCount, DestinationName, DirectoryName, ETag, ETagMode,
    EarlierVersion, EndReason, Export, ExportId, ExportPlace, ExportStep, FailedAttempts,
    Fingerprint, Hold, LedgerPath, LineRef, Md5, NameDecision, ParkReason, PartNote, PartNumber,
    PartSize, PartState, Provenance, RemoteFile, RemoteFileId, RemoteUpload, RemoteUploadId,
    RenameStep, RootIdentity, SourcePath, Stage, StoredUpload, Supersession, Target, TargetId,
    UploadId, UploadState, VersionId, WallTime, WireBytes,
};

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// The condition of open uploads, as the indexes spell it. It is not `IN (…)`: a list of more than
/// two is a table that SQLite builds for every row that is written.
pub(super) const IS_OPEN: &str =
    "stage <> 'receipted' AND stage <> 'source-changed' AND stage <> 'abandoned'";
/// The condition of ended uploads, as the indexes spell it.
pub(super) const IS_ENDED: &str =
    "(stage = 'receipted' OR stage = 'source-changed' OR stage = 'abandoned')";

/// A column with content that the program never writes.
fn damaged(column: &str) -> rusqlite::Error {
    let message = format!("column {column} holds something that dropferry never writes");
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, message.into())
}

pub(super) fn unsigned(row: &Row<'_>, column: &'static str) -> Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| damaged(column))
}

pub(super) fn unsigned_at(row: &Row<'_>, index: usize) -> Result<u64> {
    u64::try_from(row.get::<_, i64>(index)?).map_err(|_| damaged(name_of(row, index)))
}

/// Reads a version of a file from the columns device, inode, size, mtime and ctime, the first of
/// which is at `index`.
pub(super) fn read_version(row: &Row<'_>, index: usize) -> Result<Fingerprint> {
    Ok(Fingerprint {
        device: row.get::<_, i64>(index)?.cast_unsigned(),
        inode: row.get::<_, i64>(index + 1)?.cast_unsigned(),
        size: ByteCount(unsigned_at(row, index + 2)?),
        mtime_ns: row.get(index + 3)?,
        ctime_ns: row.get(index + 4)?,
    })
}

fn name_of<'a>(row: &'a Row<'_>, index: usize) -> &'a str {
    row.as_ref().column_name(index).unwrap_or("unknown")
}

/// Converts a number to a column value.
///
/// # Errors
/// When it does not fit the column: it is never changed to fit.
pub(super) fn exact(value: u64) -> Result<i64> {
    i64::try_from(value).map_err(|_| {
        let message = format!("{value} is larger than a row can hold");
        rusqlite::Error::ToSqlConversionFailure(message.into())
    })
}

/// Converts a count or a sum to a column value; a larger one becomes the maximum.
pub(super) fn saturated(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn md5_of(bytes: &[u8], column: &str) -> Result<Md5> {
    bytes.try_into().map(Md5).map_err(|_| damaged(column))
}

/// Reads a digest over parts, when both of its columns are set.
pub(super) fn mark(row: &Row<'_>, size: usize, digest: usize) -> Result<Option<ContentMark>> {
    let (Some(bytes), Some(md5)) =
        (row.get::<_, Option<i64>>(size)?, row.get::<_, Option<Vec<u8>>>(digest)?)
    else {
        return Ok(None);
    };
    let part_size = part_size(bytes, name_of(row, size))?;
    Ok(Some(ContentMark { part_size, md5_of_parts: md5_of(&md5, name_of(row, digest))? }))
}

fn part_size(bytes: i64, column: &str) -> Result<PartSize> {
    u64::try_from(bytes).ok().and_then(PartSize::new).ok_or_else(|| damaged(column))
}

/// Reads the position of a receipt line, if there is one: the column `ledger` has its ledger's name.
pub(super) fn read_line(row: &Row<'_>) -> Result<Option<LineRef>> {
    let Some(sha256) = row.get("receipt_sha256")? else { return Ok(None) };
    Ok(Some(LineRef {
        ledger: LedgerPath::new(row.get::<_, String>("ledger")?),
        seq: unsigned(row, "ledger_seq")?,
        offset: unsigned(row, "ledger_offset")?,
        sha256,
    }))
}

/// Reads the frozen admission; like all functions below, from a row that begins with every column
/// of `uploads`.
pub(super) fn read_admission(row: &Row<'_>) -> Result<Admission> {
    let folder: String = row.get(at!("target_folder"))?;
    let path = SourcePath::from_bytes(row.get_ref(at!("path"))?.as_blob()?);
    let run = row.get_ref(at!("run"))?.as_blob_or_null()?.map(SourcePath::from_bytes);
    Ok(Admission {
        id: UploadId(row.get(at!("id"))?),
        file: AdmittedFile {
            drop: DirectoryName::new(row.get::<_, String>(at!("drop_name"))?),
            run: run.unwrap_or_else(|| path.clone()),
            path,
            is_sentinel: row.get(at!("sentinel"))?,
            fingerprint: Fingerprint {
                device: row.get::<_, i64>(at!("device"))?.cast_unsigned(),
                inode: row.get::<_, i64>(at!("inode"))?.cast_unsigned(),
                size: ByteCount(unsigned_at(row, at!("size_bytes"))?),
                mtime_ns: row.get(at!("mtime_ns"))?,
                ctime_ns: row.get(at!("ctime_ns"))?,
            },
            provenance: read_provenance(row)?.map(Box::new),
            root: row.get::<_, Option<String>>(at!("root"))?.map(RootIdentity::new),
        },
        destination: DestinationName::new(row.get::<_, String>(at!("destination"))?),
        target_id: TargetId(row.get(at!("target_id"))?),
        target: Target::new(folder.split('/'), row.get_ref(at!("target_name"))?.as_str()?),
        part_size: part_size(row.get(at!("wished_part_size_bytes"))?, "wished_part_size_bytes")?,
        rank: row.get(at!("rank"))?,
        at: WallTime(row.get(at!("admitted_at_ns"))?),
        parked: None,
        decision: row
            .get_ref(at!("name_decision"))?
            .as_str_or_null()?
            .and_then(NameDecision::parse),
    })
}

fn read_provenance(row: &Row<'_>) -> Result<Option<Provenance>> {
    let owner: Option<u32> = row.get(at!("source_owner"))?;
    let file_system: Option<i64> = row.get(at!("source_file_system"))?;
    let file_system = file_system.map(i64::cast_unsigned);
    Ok(owner.zip(file_system).map(|(owner, file_system)| Provenance { owner, file_system }))
}

/// Reads what a destination's ETags prove.
pub(super) fn etag_mode(word: &str) -> Result<ETagMode> {
    ETagMode::parse(word).ok_or_else(|| damaged("etag_mode"))
}

pub(super) fn read_state(row: &Row<'_>) -> Result<UploadState> {
    let mode: String = row.get(at!("etag_mode"))?;
    Ok(UploadState {
        stage: read_stage(row)?,
        hold: read_hold(row)?,
        etag_mode: etag_mode(&mode)?,
        accepted_count: row.get(at!("accepted_count"))?,
        reported_count: row.get(at!("reported_count"))?,
        restart_count: row.get(at!("restart_count"))?,
        failed: FailedAttempts {
            count: row.get(at!("attempt_count"))?,
            since: row.get::<_, Option<i64>>(at!("failing_since_ns"))?.map(WallTime),
        },
        described: row.get(at!("described"))?,
        digested: row.get(at!("digested"))?,
        export: read_export(row)?,
        supersedes: read_supersession(row)?.map(Box::new),
        wire: WireBytes {
            sent: ByteCount(unsigned_at(row, at!("bytes_sent"))?),
            in_flight: ByteCount(unsigned_at(row, at!("bytes_in_flight"))?),
        },
    })
}

fn read_supersession(row: &Row<'_>) -> Result<Option<Supersession>> {
    let Some(upload) = row.get(at!("supersedes"))? else { return Ok(None) };
    let earlier = EarlierVersion {
        upload: UploadId(upload),
        file: RemoteFileId::new(row.get::<_, String>(at!("superseded_file_id"))?),
        etag: row
            .get::<_, Option<String>>(at!("superseded_etag"))?
            .map(|etag| ETag::from_header(&etag)),
    };
    let step = row.get::<_, Option<String>>(at!("superseding_step"))?;
    let parse = |word: String| RenameStep::parse(&word).ok_or_else(|| damaged("superseding_step"));
    Ok(Some(Supersession { earlier, renames: step.map(parse).transpose()? }))
}

/// Reads an upload's export, when one was intended.
pub(super) fn read_export(row: &Row<'_>) -> Result<Option<Export>> {
    let Some(word) = row.get::<_, Option<String>>(at!("export_state"))? else { return Ok(None) };
    let place = ExportPlace {
        volume: row.get(at!("export_volume"))?,
        location: row.get(at!("export_location"))?,
    };
    let step = match word.as_str() {
        "intended" => {
            ExportStep::Intended { since: WallTime(row.get(at!("export_intended_at_ns"))?) }
        }
        "started" => {
            ExportStep::Started { job: ExportId::new(row.get::<_, String>(at!("export_job"))?) }
        }
        "failed" => ExportStep::Failed,
        "completed" => ExportStep::Done,
        _ => return Err(damaged("export_state")),
    };
    Ok(Some(Export { place, step }))
}

fn read_stage(row: &Row<'_>) -> Result<Stage> {
    let word: String = row.get(at!("stage"))?;
    let since = |column| row.get(column).map(WallTime);
    Ok(match word.as_str() {
        "queued" => Stage::Queued,
        "beginning" => Stage::Beginning { since: since(at!("begin_intended_at_ns"))? },
        "sending" => Stage::Sending { remote: read_remote(row)?.ok_or_else(|| damaged("stage"))? },
        "completing" => Stage::Completing {
            remote: read_remote(row)?.ok_or_else(|| damaged("stage"))?,
            since: since(at!("complete_intended_at_ns"))?,
        },
        "completed" => Stage::Completed { file: read_file(row)?, remote: read_remote(row)? },
        "verified" => Stage::Verified { file: read_file(row)?, remote: read_remote(row)? },
        "receipted" => Stage::Receipted { file: read_file(row)? },
        "source-changed" => Stage::Ended(EndReason::SourceChanged),
        "abandoned" => Stage::Ended(EndReason::Abandoned),
        _ => return Err(damaged("stage")),
    })
}

fn read_hold(row: &Row<'_>) -> Result<Hold> {
    let word: String = row.get(at!("hold"))?;
    Ok(match word.as_str() {
        "none" => Hold::None,
        "waiting" => Hold::Waiting { until: WallTime(row.get(at!("retry_at_ns"))?) },
        "parked" => {
            let reason: String = row.get(at!("park_reason"))?;
            let reason = ParkReason::parse(&reason).ok_or_else(|| damaged("park_reason"))?;
            Hold::Parked { reason }
        }
        _ => return Err(damaged("hold")),
    })
}

/// Reads the remote upload and its layout, when there is or was one.
pub(super) fn read_remote(row: &Row<'_>) -> Result<Option<RemoteUpload>> {
    let Some(id) = row.get::<_, Option<String>>(at!("remote_upload_id"))? else { return Ok(None) };
    Ok(Some(RemoteUpload {
        id: RemoteUploadId::new(id),
        part_size: part_size(row.get(at!("part_size_bytes"))?, "part_size_bytes")?,
        part_count: row.get(at!("part_count"))?,
        sequential: row.get(at!("sequential"))?,
    }))
}

fn read_file(row: &Row<'_>) -> Result<RemoteFile> {
    let size = row.get::<_, Option<i64>>(at!("remote_size_bytes"))?;
    Ok(RemoteFile {
        id: RemoteFileId::new(row.get::<_, String>(at!("remote_file_id"))?),
        name: row.get(at!("remote_name"))?,
        size: size.map(|bytes| ByteCount(bytes.cast_unsigned())),
        mark: mark(row, at!("remote_mark_part_size_bytes"), at!("remote_mark_md5"))?,
        created_at: row.get::<_, Option<i64>>(at!("remote_created_at_ns"))?.map(WallTime),
        etag: row
            .get::<_, Option<String>>(at!("remote_etag"))?
            .map(|etag| ETag::from_header(&etag)),
        version: row.get::<_, Option<String>>(at!("remote_version_id"))?.map(VersionId::new),
        maker: None,
    })
}

/// Reads an upload with its parts; a part without a row is open.
pub(super) fn read_upload(connection: &Connection, row: &Row<'_>) -> Result<StoredUpload> {
    let (admission, state) = (read_admission(row)?, read_state(row)?);
    let waits_for = row.get::<_, Option<i64>>(at!("waits_for"))?.map(UploadId);
    let count = state.stage.remote().map_or(0, |remote| remote.part_count);
    let mut parts = vec![PartState::Open; count as usize];
    if state.accepted_count == 0 {
        return Ok(StoredUpload { admission, state, parts, waits_for });
    }
    for (number, part) in read_parts(connection, admission.id)? {
        *parts.get_mut(number.index()).ok_or_else(|| damaged("parts.number"))? = part;
    }
    Ok(StoredUpload { admission, state, parts, waits_for })
}

fn read_parts(connection: &Connection, id: UploadId) -> Result<Vec<(PartNumber, PartState)>> {
    let sql =
        "SELECT number, md5, etag, reported, note FROM parts WHERE upload_id = ?1 ORDER BY number";
    let mut statement = connection.prepare_cached(sql)?;
    let parts = statement.query_map([id.0], |row| {
        let number = PartNumber::new(row.get(0)?).ok_or_else(|| damaged("parts.number"))?;
        Ok((number, part_of(row, 1)?))
    })?;
    parts.collect()
}

/// Reads one part; open when it has no row.
pub(super) fn read_part(
    connection: &Connection,
    id: UploadId,
    number: PartNumber,
) -> Result<PartState> {
    let sql = "SELECT md5, etag, reported, note FROM parts WHERE upload_id = ?1 AND number = ?2";
    let mut rows = connection.prepare_cached(sql)?;
    let mut rows = rows.query((id.0, number.get()))?;
    match rows.next()? {
        Some(row) => part_of(row, 0),
        None => Ok(PartState::Open),
    }
}

/// Reads a part from the columns that begin at `first`: digest, ETag, reported, note.
fn part_of(row: &Row<'_>, first: usize) -> Result<PartState> {
    let md5: Vec<u8> = row.get(first)?;
    let (md5, etag) = (md5_of(&md5, "parts.md5")?, row.get::<_, String>(first + 1)?);
    let etag = ETag::from_header(&etag);
    if row.get(first + 2)? {
        return Ok(PartState::Reported { md5, etag });
    }
    let note: Option<String> = row.get(first + 3)?;
    let note = note.map(|note| PartNote::new(&note).ok_or_else(|| damaged("parts.note")));
    Ok(PartState::Accepted { md5, etag, note: note.transpose()? })
}

/// Inserts an admitted upload.
pub(super) fn insert(
    connection: &Connection,
    admission: &Admission,
    state: &UploadState,
) -> Result<()> {
    let sql = "INSERT INTO uploads (id, drop_name, path, destination, device, inode, size_bytes, \
        mtime_ns, ctime_ns, target_folder, target_name, wished_part_size_bytes, rank, stage, hold, \
        park_reason, park_detail, etag_mode, accepted_count, accepted_bytes, reported_count, \
        restart_count, attempt_count, described, bytes_sent, admitted_at_ns, run, sentinel, \
        source_owner, source_file_system, root, target_id) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, 'queued', ?14, ?15, ?16, \
        'unknown', 0, 0, 0, 0, 0, 0, 0, ?17, ?18, ?19, ?20, ?21, ?22, ?23)";
    let reason = match state.hold {
        Hold::Parked { reason } => Some(reason),
        Hold::None | Hold::Waiting { .. } => None,
    };
    connection.prepare_cached(sql)?.execute(params![
        admission.id.0,
        admission.file.drop.as_str(),
        admission.file.path.as_bytes(),
        admission.destination.as_str(),
        admission.file.fingerprint.device.cast_signed(),
        admission.file.fingerprint.inode.cast_signed(),
        exact(admission.file.fingerprint.size.0)?,
        admission.file.fingerprint.mtime_ns,
        admission.file.fingerprint.ctime_ns,
        admission.target.folder(),
        admission.target.name(),
        exact(admission.part_size.get())?,
        admission.rank,
        if reason.is_some() { "parked" } else { "none" },
        reason.map(ParkReason::as_str),
        reason.map(ParkReason::sentence),
        admission.at.0,
        (admission.file.run != admission.file.path).then(|| admission.file.run.as_bytes()),
        admission.file.is_sentinel,
        admission.file.provenance.as_ref().map(|of| of.owner),
        admission.file.provenance.as_ref().map(|of| of.file_system.cast_signed()),
        admission.file.root.as_ref().map(RootIdentity::as_str),
        admission.target_id.0,
    ])?;
    Ok(())
}

/// A column of an upload, with its value.
pub(super) type Cell<'a> = (&'static str, ValueRef<'a>);

/// Returns the columns of an upload's state; those of single facts belong to the writer.
pub(super) fn state_cells(state: &UploadState, accepted_bytes: u64) -> [Cell<'static>; 15] {
    use ValueRef::{Integer, Null};
    let text = |word: &'static str| ValueRef::Text(word.as_bytes());
    let (hold, retry_at, reason) = match state.hold {
        Hold::None => ("none", Null, Null),
        Hold::Waiting { until } => ("waiting", Integer(until.0), Null),
        Hold::Parked { reason } => ("parked", Null, text(reason.as_str())),
    };
    [
        ("stage", text(state.stage.as_str())),
        ("hold", text(hold)),
        ("retry_at_ns", retry_at),
        ("park_reason", reason),
        ("etag_mode", text(state.etag_mode.as_str())),
        ("accepted_count", Integer(state.accepted_count.into())),
        ("accepted_bytes", Integer(saturated(accepted_bytes))),
        ("reported_count", Integer(state.reported_count.into())),
        ("restart_count", Integer(state.restart_count.into())),
        ("attempt_count", Integer(state.failed.count.into())),
        ("failing_since_ns", state.failed.since.map_or(Null, |at| Integer(at.0))),
        ("described", Integer(state.described.into())),
        ("digested", Integer(state.digested.into())),
        ("bytes_sent", Integer(saturated(state.wire.sent.0))),
        ("bytes_in_flight", Integer(saturated(state.wire.in_flight.0))),
    ]
}

/// Writes some columns of an upload. The same columns in the same order make the same statement.
pub(super) fn update<'a>(
    connection: &Connection,
    id: UploadId,
    cells: impl Iterator<Item = Cell<'a>> + Clone,
) -> Result<()> {
    let mut sql = String::with_capacity(512);
    for (column, _) in cells.clone() {
        sql.push_str(if sql.is_empty() { "UPDATE uploads SET " } else { ", " });
        sql.push_str(column);
        sql.push_str(" = ?");
    }
    if sql.is_empty() {
        return Ok(());
    }
    sql.push_str(" WHERE id = ?");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut last = 0;
    for (_, value) in cells {
        last += 1;
        statement.raw_bind_parameter(last, ToSqlOutput::Borrowed(value))?;
    }
    statement.raw_bind_parameter(last + 1, id.0)?;
    statement.raw_execute()?;
    Ok(())
}

/// Columns of an upload, with their values.
pub(super) type Columns = BTreeMap<&'static str, Value>;

/// Returns the columns of a remote upload and its layout, or of none.
pub(super) fn remote_columns(remote: Option<&RemoteUpload>) -> Result<[(&'static str, Value); 4]> {
    let part_size = remote.map(|remote| exact(remote.part_size.get())).transpose()?;
    Ok([
        ("remote_upload_id", remote.map(|remote| remote.id.as_str().to_owned()).into()),
        ("part_size_bytes", part_size.into()),
        ("part_count", remote.map(|remote| i64::from(remote.part_count)).into()),
        ("sequential", remote.is_some_and(|remote| remote.sequential).into()),
    ])
}

pub(super) fn file_columns(file: &RemoteFile) -> Result<[(&'static str, Value); 8]> {
    let size = file.size.map(|size| exact(size.0)).transpose()?;
    let [mark_part_size, mark_md5] = mark_columns(file.mark.as_ref())?;
    Ok([
        ("remote_file_id", file.id.as_str().to_owned().into()),
        ("remote_name", file.name.clone().into()),
        ("remote_size_bytes", size.into()),
        ("remote_created_at_ns", file.created_at.map(|at| at.0).into()),
        ("remote_mark_part_size_bytes", mark_part_size),
        ("remote_mark_md5", mark_md5),
        ("remote_etag", etag_column(file.etag.as_ref())),
        ("remote_version_id", file.version.as_ref().map(|id| id.as_str().to_owned()).into()),
    ])
}

/// Returns the columns of a version that are not its length.
pub(super) fn version_columns(version: &Fingerprint) -> [(&'static str, Value); 4] {
    [
        ("device", version.device.cast_signed().into()),
        ("inode", version.inode.cast_signed().into()),
        ("mtime_ns", version.mtime_ns.into()),
        ("ctime_ns", version.ctime_ns.into()),
    ]
}

/// Returns the columns of the earlier version that an upload replaces, if any.
pub(super) fn superseding_columns(by: Option<&Supersession>) -> [(&'static str, Value); 4] {
    let earlier = by.map(|by| &by.earlier);
    let step = by.and_then(|by| by.renames).map(RenameStep::as_str);
    [
        ("supersedes", earlier.map(|earlier| earlier.upload.0).into()),
        ("superseded_file_id", earlier.map(|earlier| earlier.file.as_str().to_owned()).into()),
        ("superseded_etag", etag_column(earlier.and_then(|earlier| earlier.etag.as_ref()))),
        ("superseding_step", step.map(str::to_owned).into()),
    ]
}

/// Returns the column of a file's ETag.
pub(super) fn etag_column(etag: Option<&ETag>) -> Value {
    etag.map(|etag| etag.as_str().to_owned()).into()
}

/// Returns the two columns of a digest over parts: the part size, and the digest.
pub(super) fn mark_columns(mark: Option<&ContentMark>) -> Result<[Value; 2]> {
    let part_size = mark.map(|mark| exact(mark.part_size.get())).transpose()?;
    Ok([part_size.into(), mark.map(|mark| mark.md5_of_parts.0.to_vec()).into()])
}

//! Facts about uploads, as they reach the rows.
//!
//! A transaction writes the state of each upload that it moves once, however many facts it brings: a small
//! file's whole life may be one of them. Facts go through the law one by one all the same, and what lies
//! in other tables, a part's checkpoint or a failed attempt, is written as it comes.
//!
//! What was admitted or moved is remembered, within bounds, so that it is not read again. Facts are all
//! that ever moves an upload's state, and all of them come by here: so what is remembered is what the
//! rows say, until a transaction fails, and then nothing is written any more.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension};

use super::super::columns::at;
use super::super::rows::{self, Cell, Columns, signed};
use super::rate::Accepted;
use super::{Result, attempts};
use crate::model::upload::{part_transition, transition};
use crate::model::{
    Admission, ByteCount, Fact, IllegalFact, ParkReason, PartNumber, PartState, Stage, UploadId,
    UploadState, WallTime,
};

/// Counts as sent what was in flight when the last process ended: nothing is any more.
pub(super) fn land(connection: &Connection) -> Result<()> {
    let sql = "UPDATE uploads SET bytes_sent = bytes_sent + bytes_in_flight, bytes_in_flight = 0 \
        WHERE bytes_in_flight > 0";
    connection.execute(sql, [])?;
    Ok(())
}

/// Uploads remembered between transactions: many more than are sent at once. They take a MiB.
const MOVED_MAX: usize = 2_048;
/// Admitted uploads remembered until they move: what a scan finds before its first files are sent. They
/// take half a MiB.
const ADMITTED_MAX: usize = 16_384;

/// What is known of uploads, and what the transaction has moved so far.
#[derive(Debug, Default)]
pub(super) struct Moves {
    uploads: BTreeMap<UploadId, Moved>,
    /// Sizes of those that were admitted and that no fact has moved.
    admitted: BTreeMap<UploadId, ByteCount>,
    /// Those whose rows are behind.
    behind: Vec<UploadId>,
    /// What the transaction added to the bytes accepted.
    pub(super) accepted: Accepted,
}

/// An upload as the transaction has it.
#[derive(Debug)]
struct Moved {
    state: UploadState,
    size: ByteCount,
    accepted_bytes: u64,
    /// What its row says of its state.
    written: [Cell<'static>; 14],
    /// Columns that belong to single facts that came, the last of each.
    columns: Columns,
    is_behind: bool,
}

impl Moves {
    /// Writes a new upload.
    pub(super) fn admit(&mut self, connection: &Connection, admission: &Admission) -> Result<()> {
        rows::insert(connection, admission, &UploadState::admitted(admission.parked))?;
        if admission.parked.is_none() && self.admitted.len() < ADMITTED_MAX {
            self.admitted.insert(admission.id, admission.fingerprint.size);
        }
        Ok(())
    }

    /// Takes one fact; returns it when the law forbids it: then the upload is parked instead.
    pub(super) fn take(
        &mut self,
        connection: &Connection,
        id: UploadId,
        fact: &Fact,
    ) -> Result<Option<IllegalFact>> {
        let upload = match self.uploads.entry(id) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(free) => {
                let admitted = self.admitted.remove(&id).map(Moved::admitted);
                match admitted.map_or_else(|| read(connection, id), |upload| Ok(Some(upload)))? {
                    Some(upload) => free.insert(upload),
                    None => {
                        let fact = fact.name().into();
                        return Ok(Some(IllegalFact { stage: "unknown to the store", fact }));
                    }
                }
            }
        };
        let judged = judge(connection, id, upload, fact)?;
        let parked;
        let (fact, next, parts, illegal) = match judged {
            Ok((next, parts)) => (fact, next, parts, None),
            Err(illegal) => {
                let (reason, detail) = (ParkReason::Bug, illegal.to_string());
                parked = Fact::Parked { reason, detail, at: WallTime(0) };
                let Ok(next) = transition(&upload.state, &parked) else { return Ok(Some(illegal)) };
                (&parked, next, Vec::new(), Some(illegal))
            }
        };
        if !upload.is_behind {
            upload.is_behind = true;
            self.behind.push(id);
        }
        upload.take(connection, (id, fact), next, &mut self.accepted)?;
        parts.iter().try_for_each(|part| write_part(connection, id, fact, part))?;
        Ok(illegal)
    }

    /// Writes the state of every upload that was moved, in the order of their rows.
    pub(super) fn write(&mut self, connection: &Connection) -> Result<()> {
        self.behind.sort_unstable();
        for id in self.behind.drain(..) {
            if let Some(upload) = self.uploads.get_mut(&id) {
                upload.write(connection, id)?;
                if upload.state.stage.is_end() {
                    self.uploads.remove(&id);
                }
            }
        }
        Ok(())
    }

    /// Keeps for the next transaction what this one, which is durable, leaves behind.
    pub(super) fn kept(mut self) -> Self {
        if self.uploads.len() > MOVED_MAX {
            self.uploads.clear();
        }
        self.accepted = Accepted::default();
        self
    }
}

impl Moved {
    fn new(state: UploadState, size: ByteCount, accepted_bytes: u64) -> Self {
        let written = rows::state_cells(&state, accepted_bytes);
        Self { state, size, accepted_bytes, written, columns: Columns::new(), is_behind: false }
    }

    fn admitted(size: ByteCount) -> Self {
        Self::new(UploadState::admitted(None), size, 0)
    }

    /// Writes what its row does not say.
    fn write(&mut self, connection: &Connection, id: UploadId) -> Result<()> {
        let cells = rows::state_cells(&self.state, self.accepted_bytes);
        let own = self.columns.iter().map(|(column, value)| (*column, value.into()));
        let other = cells.iter().zip(&self.written).filter(|(cell, written)| cell != written);
        rows::update(connection, id, own.chain(other.map(|(cell, _)| *cell)))?;
        self.written = cells;
        self.columns.clear();
        self.is_behind = false;
        Ok(())
    }

    /// Moves by a fact that the law allows, and writes what belongs to it alone.
    fn take(
        &mut self,
        connection: &Connection,
        (id, fact): (UploadId, &Fact),
        next: UploadState,
        accepted: &mut Accepted,
    ) -> Result<()> {
        write_beside(connection, id, fact)?;
        if let Fact::PartAccepted { part, sent, at, .. } = fact {
            accepted.bytes += if sent.0 > 0 { self.part_length(*part) } else { 0 };
            accepted.at_ns = accepted.at_ns.max(at.0);
        }
        self.accepted_bytes = self.accepted_after(fact);
        self.columns.extend(moment(fact).map(|(column, at)| (column, at.0.into())));
        self.columns.extend(columns(fact));
        self.state = next;
        Ok(())
    }

    /// How many bytes are accepted after a fact.
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other fact changes what is accepted")]
    fn accepted_after(&self, fact: &Fact) -> u64 {
        let bytes = self.accepted_bytes;
        match fact {
            Fact::PartAccepted { part, .. } => bytes + self.part_length(*part),
            Fact::PartReopened { part, .. } => bytes.saturating_sub(self.part_length(*part)),
            Fact::FoundPresent { .. } => self.size.0,
            Fact::RemoteGone => 0,
            _ => bytes,
        }
    }

    fn part_length(&self, part: PartNumber) -> u64 {
        let Stage::Sending { remote } = &self.state.stage else { return 0 };
        remote.part_size.range_of(part, self.size).length
    }
}

fn read(connection: &Connection, id: UploadId) -> Result<Option<Moved>> {
    let sql = "SELECT * FROM uploads WHERE id = ?1";
    let read = connection.prepare_cached(sql)?.query_row([id.0], |row| {
        let size = ByteCount(rows::unsigned_at(row, at!("size_bytes"))?);
        let accepted_bytes = rows::unsigned_at(row, at!("accepted_bytes"))?;
        Ok(Moved::new(rows::read_state(row)?, size, accepted_bytes))
    });
    read.optional()
}

type Judged = std::result::Result<(UploadState, Vec<(PartNumber, PartState)>), IllegalFact>;

/// Applies the law to the upload and to every part the fact names, before anything is written.
fn judge(connection: &Connection, id: UploadId, upload: &Moved, fact: &Fact) -> Result<Judged> {
    let next = match transition(&upload.state, fact) {
        Ok(next) => next,
        Err(illegal) => return Ok(Err(illegal)),
    };
    let mut moved = Vec::new();
    for number in parts_named(fact) {
        // A part has a row once it was accepted.
        let part = match upload.state.accepted_count {
            0 => PartState::Open,
            _ => rows::read_part(connection, id, *number)?,
        };
        match part_transition(&part, fact) {
            Ok(part) => moved.push((*number, part)),
            Err(illegal) => return Ok(Err(illegal)),
        }
    }
    Ok(Ok((next, moved)))
}

fn parts_named(fact: &Fact) -> &[PartNumber] {
    if let Fact::PartsReported { parts } = fact {
        parts
    } else if let Fact::PartAccepted { part, .. } | Fact::PartReopened { part, .. } = fact {
        std::slice::from_ref(part)
    } else {
        &[]
    }
}

fn write_part(
    connection: &Connection,
    id: UploadId,
    fact: &Fact,
    part: &(PartNumber, PartState),
) -> Result<()> {
    let (number, state) = part;
    let at = if let Fact::PartAccepted { at, .. } = fact { at.0 } else { 0 };
    match state {
        PartState::Open => {
            let sql = "DELETE FROM parts WHERE upload_id = ?1 AND number = ?2";
            connection.prepare_cached(sql)?.execute((id.0, number.get()))?;
        }
        PartState::Accepted { md5, etag } => {
            let sql = "INSERT INTO parts (upload_id, number, md5, etag, reported, accepted_at_ns) \
                VALUES (?1, ?2, ?3, ?4, 0, ?5)";
            let row = (id.0, number.get(), md5.0, etag.as_str(), at);
            connection.prepare_cached(sql)?.execute(row)?;
        }
        PartState::Reported { .. } => {
            let sql = "UPDATE parts SET reported = 1 WHERE upload_id = ?1 AND number = ?2";
            connection.prepare_cached(sql)?.execute((id.0, number.get()))?;
        }
    }
    Ok(())
}

/// Which column keeps the time of a fact.
#[expect(clippy::wildcard_enum_match_arm, reason = "the time of every other fact is not kept")]
fn moment(fact: &Fact) -> Option<(&'static str, WallTime)> {
    match fact {
        Fact::BeginIntended { at, .. } => Some(("begin_intended_at_ns", *at)),
        Fact::Begun { at, .. } => Some(("begun_at_ns", *at)),
        Fact::CompleteIntended { at } => Some(("complete_intended_at_ns", *at)),
        Fact::Completed { at, .. } | Fact::FoundPresent { at, .. } => {
            Some(("completed_at_ns", *at))
        }
        Fact::Verified { at, .. } => Some(("verified_at_ns", *at)),
        Fact::SourceChanged { at } | Fact::Abandoned { at } => Some(("ended_at_ns", *at)),
        _ => None,
    }
}

/// Returns the columns that belong to one fact alone.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other fact is all in the state")]
fn columns(fact: &Fact) -> Vec<(&'static str, Value)> {
    match fact {
        Fact::BeginIntended { part_size: Some(part_size), .. }
        | Fact::PartSizeRaised { part_size } => {
            vec![("wished_part_size_bytes", signed(part_size.get()).into())]
        }
        Fact::Begun { remote, .. } => rows::remote_columns(Some(remote)).into(),
        Fact::RemoteGone => rows::remote_columns(None).into(),
        Fact::Completed { file, .. } | Fact::FoundPresent { file, .. } => {
            rows::file_columns(file).into()
        }
        Fact::Renamed { name } => vec![("target_name", name.clone().into())],
        Fact::Verified { mark, .. } => vec![
            ("mark_part_size_bytes", mark.map(|mark| signed(mark.part_size.get())).into()),
            ("mark_md5", mark.map(|mark| mark.md5_of_parts.0.to_vec()).into()),
        ],
        Fact::Digested { md5, sha256 } => vec![
            ("whole_md5", md5.map(|md5| md5.0.to_vec()).into()),
            ("whole_sha256", sha256.map(|sha256| sha256.to_vec()).into()),
        ],
        Fact::ReceiptWritten { sha256, at } => vec![
            ("receipt_sha256", sha256.to_vec().into()),
            ("receipted_at_ns", at.0.into()),
            ("ended_at_ns", at.0.into()),
        ],
        Fact::Parked { detail, .. } => vec![("park_detail", detail.clone().into())],
        _ => Vec::new(),
    }
}

/// Writes what a fact means beside the state of its upload.
#[expect(clippy::wildcard_enum_match_arm, reason = "every other fact is all in the row")]
fn write_beside(connection: &Connection, id: UploadId, fact: &Fact) -> Result<()> {
    match fact {
        Fact::RemoteGone => {
            let sql = "DELETE FROM parts WHERE upload_id = ?1";
            connection.prepare_cached(sql)?.execute([id.0])?;
        }
        Fact::ExportIntended { .. }
        | Fact::ExportStarted { .. }
        | Fact::ExportFailed { .. }
        | Fact::Exported { .. } => rows::write_export(connection, id, fact)?,
        Fact::AttemptFailed { act, part, failure, retry_at, at, .. } => {
            attempts::write(connection, id, (act, *part, failure), (*at, *retry_at))?;
        }
        _ => {}
    }
    Ok(())
}

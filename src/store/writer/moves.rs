//! Applies facts about uploads to the rows.
//!
//! A transaction writes the state of each changed upload once, however many facts it brings: a
//! small file's whole life may be in one. Facts go through the law one by one all the same, and
//! rows of other tables, such as a part's checkpoint or a failed attempt, are written at once.
//!
//! Admitted and changed uploads are remembered, within limits, so that they are not read again.
//! Only facts change an upload's state, and all of them pass here: so memory equals the rows until
//! a transaction fails, after which nothing is written any more.

mod columns;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension};

use super::super::columns::at;
use super::super::rows::{self, Cell, Columns};
use super::refused::Written;
use super::tallies::{Counted, CountedFor, Tallies};
use super::{Result, attempts, ledgers};
use crate::model::upload::{part_transition, transition};
use crate::model::{
    Admission, ByteCount, DestinationName, DirectoryName, Fact, IllegalFact, ParkReason, PartNote,
    PartNumber, PartState, SourcePath, Stage, TargetId, UploadId, UploadState, WallTime, WireBytes,
    WrittenLine,
};

/// Counts the bytes that were in flight when the last process ended as sent.
pub(super) fn land(connection: &Connection) -> Result<()> {
    let transaction = connection.unchecked_transaction()?;
    let sql = "SELECT id FROM uploads WHERE bytes_in_flight > 0";
    let ids = connection
        .prepare(sql)?
        .query_map([], |row| row.get(0).map(UploadId))?
        .collect::<Result<Vec<_>>>()?;
    let mut moves = Moves::default();
    for id in ids {
        let Some(mut upload) = read(connection, id)? else { continue };
        let WireBytes { sent, in_flight } = upload.state.wire;
        let sent = ByteCount(sent.0.saturating_add(in_flight.0));
        upload.state.wire = WireBytes { sent, in_flight: ByteCount(0) };
        moves.uploads.insert(id, upload);
        moves.behind.push(id);
    }
    moves.write(connection)?;
    transaction.commit()
}

/// Limit of remembered uploads: many more than are sent at once. They take a MiB.
const MOVED_MAX: usize = 2_048;
/// Limit of remembered admissions without facts: as many as a scan finds before its first files are
/// sent. They take a MiB.
const ADMITTED_MAX: usize = 16_384;

/// Remembered uploads, and the changes of the transaction.
#[derive(Debug, Default)]
pub(super) struct Moves {
    uploads: BTreeMap<UploadId, Moved>,
    /// Admitted uploads without facts.
    admitted: BTreeMap<UploadId, Admitted>,
    /// Those whose rows are behind.
    behind: Vec<UploadId>,
    /// Those with a refused record, which memory has not reloaded from their rows.
    refused: BTreeSet<UploadId>,
    ledger: Option<ledgers::LastLedger>,
    tallies: Tallies,
}

/// What is known of an upload from its admission.
#[derive(Debug)]
struct Admitted {
    size: ByteCount,
    target: TargetId,
    counted_for: CountedFor,
}

/// An upload within the transaction.
#[derive(Debug)]
struct Moved {
    state: UploadState,
    admitted: Admitted,
    accepted_bytes: u64,
    /// What it adds to the counts in the rows.
    counted: Counted,
    /// Its state in its row.
    written: [Cell<'static>; 15],
    /// Columns of single facts, the last value of each.
    columns: Columns,
    is_behind: bool,
}

impl Moves {
    /// Starts with the uploads that had a record refused.
    pub(super) fn knowing(refused: BTreeSet<UploadId>) -> Self {
        Self { refused, ..Self::default() }
    }

    /// Returns the uploads with a refused record.
    pub(super) fn refused(&self) -> BTreeSet<UploadId> {
        self.refused.clone()
    }

    /// Adds an upload with a refused record.
    pub(super) fn refuse(&mut self, id: UploadId) {
        self.refused.insert(id);
    }

    /// Drops all remembered uploads: their rows are authoritative.
    pub(super) fn forget(&mut self) {
        self.uploads.clear();
        self.admitted.clear();
        self.behind.clear();
        self.ledger = None;
        self.tallies = Tallies::default();
    }

    /// Returns whether a fact follows from a refused one. The engine parks or ends an upload after
    /// it has reloaded it from its row.
    fn leaves_out(&mut self, id: UploadId, fact: &Fact) -> bool {
        if self.refused.is_empty() || !self.refused.contains(&id) {
            return false;
        }
        let reason = ParkReason::CannotBeStored;
        if matches!(fact, Fact::Parked { reason: found, .. } if *found == reason) {
            self.refused.remove(&id);
            return false;
        }
        true
    }

    /// Writes a new upload.
    pub(super) fn admit(&mut self, connection: &Connection, admission: &Admission) -> Result<()> {
        let state = UploadState::admitted(admission.parked);
        rows::insert(connection, admission, &state)?;
        let (size, counted_for) = (admission.file.fingerprint.size, CountedFor::of(admission));
        self.tallies.admitted(&counted_for, admission, Counted::of(&state, size, 0));
        if admission.parked.is_none() && self.admitted.len() < ADMITTED_MAX {
            let target = admission.target_id;
            self.admitted.insert(admission.id, Admitted { size, target, counted_for });
        }
        Ok(())
    }

    /// Applies one fact. A forbidden one parks the upload instead.
    pub(super) fn take(
        &mut self,
        connection: &Connection,
        id: UploadId,
        fact: &Fact,
    ) -> Result<Written> {
        if self.leaves_out(id, fact) {
            return Ok(Written::LeftOut(id));
        }
        let upload = match self.uploads.entry(id) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(free) => {
                let admitted = self.admitted.remove(&id).map(Moved::admitted);
                match admitted.map_or_else(|| read(connection, id), |upload| Ok(Some(upload)))? {
                    Some(upload) => free.insert(upload),
                    None => {
                        let fact = fact.name().into();
                        let stage = "unknown to the store";
                        return Ok(Written::Illegal(IllegalFact { stage, fact }));
                    }
                }
            }
        };
        let judged = judge(connection, id, upload, fact)?;
        let parked;
        let (fact, next, parts, written) = match judged {
            Ok((next, parts)) => (fact, next, parts, Written::AsItIs),
            Err(illegal) => {
                let (reason, detail) = (ParkReason::Bug, illegal.to_string());
                parked = Fact::Parked { reason, detail, at: WallTime(0) };
                let Ok(next) = transition(&upload.state, &parked) else {
                    return Ok(Written::Illegal(illegal));
                };
                (&parked, next, Vec::new(), Written::Illegal(illegal))
            }
        };
        if !upload.is_behind {
            upload.is_behind = true;
            self.behind.push(id);
        }
        upload.take(connection, (id, fact), next)?;
        if let Fact::ReceiptWritten { written, .. } = fact {
            let ledger = ledgers::note(connection, written, &mut self.ledger)?;
            upload.columns.extend(ledgers::columns(written, ledger)?);
        }
        let mut parts = parts.iter();
        parts.try_for_each(|(number, state)| write_part(connection, id, fact, *number, state))?;
        Ok(written)
    }

    /// Writes how far a ledger is durable after a line that belongs to no upload.
    pub(super) fn appended(
        &mut self,
        connection: &Connection,
        written: &WrittenLine,
    ) -> Result<()> {
        ledgers::note(connection, written, &mut self.ledger).map(|_| ())
    }

    /// Writes the state of every upload that was moved, in the order of their rows, and what that adds to the
    /// counts.
    pub(super) fn write(&mut self, connection: &Connection) -> Result<()> {
        self.behind.sort_unstable();
        for id in self.behind.drain(..) {
            if let Some(upload) = self.uploads.get_mut(&id) {
                upload.write(connection, id, &mut self.tallies)?;
                if upload.state.stage.is_end() {
                    self.uploads.remove(&id);
                }
            }
        }
        self.tallies.write(connection)
    }

    /// Keeps what the next transaction needs, after this one is durable.
    pub(super) fn kept(mut self) -> Self {
        if self.uploads.len() > MOVED_MAX {
            self.uploads.clear();
        }
        self
    }
}

impl Moved {
    fn new(state: UploadState, admitted: Admitted, accepted_bytes: u64) -> Self {
        let written = rows::state_cells(&state, accepted_bytes);
        let counted = Counted::of(&state, admitted.size, accepted_bytes);
        let (columns, is_behind) = (Columns::new(), false);
        Self { state, admitted, accepted_bytes, counted, written, columns, is_behind }
    }

    fn admitted(admitted: Admitted) -> Self {
        Self::new(UploadState::admitted(None), admitted, 0)
    }

    /// Writes what its row does not say, and counts it.
    fn write(
        &mut self,
        connection: &Connection,
        id: UploadId,
        tallies: &mut Tallies,
    ) -> Result<()> {
        let cells = rows::state_cells(&self.state, self.accepted_bytes);
        let own = self.columns.iter().map(|(column, value)| (*column, value.into()));
        let other = cells.iter().zip(&self.written).filter(|(cell, written)| cell != written);
        rows::update(connection, id, own.chain(other.map(|(cell, _)| *cell)))?;
        let now = Counted::of(&self.state, self.admitted.size, self.accepted_bytes);
        let moved = [std::mem::replace(&mut self.counted, now), now];
        let Admitted { target, counted_for, .. } = &self.admitted;
        tallies.moved(counted_for, *target, moved, self.last_time());
        self.written = cells;
        self.columns.clear();
        self.is_behind = false;
        Ok(())
    }

    /// Returns the last of the times at which something of its run happened that are to be written.
    fn last_time(&self) -> Option<i64> {
        let columns = ["begun_at_ns", "completed_at_ns", "receipted_at_ns"];
        let times = columns.iter().filter_map(|column| match self.columns.get(column)? {
            Value::Integer(at) => Some(*at),
            Value::Null | Value::Real(_) | Value::Text(_) | Value::Blob(_) => None,
        });
        times.max()
    }

    /// Moves by a fact that the law allows, and writes what belongs to it alone.
    fn take(
        &mut self,
        connection: &Connection,
        (id, fact): (UploadId, &Fact),
        next: UploadState,
    ) -> Result<()> {
        write_beside(connection, id, fact)?;
        self.accepted_bytes = self.accepted_after(fact);
        self.columns.extend(columns::columns(fact)?);
        if let Fact::Retargeted { target, .. } = fact {
            self.admitted.target = *target;
        }
        self.state = next;
        Ok(())
    }

    /// Returns the accepted bytes after a fact.
    fn accepted_after(&self, fact: &Fact) -> u64 {
        let bytes = self.accepted_bytes;
        match fact {
            Fact::PartAccepted { part, .. } => bytes.saturating_add(self.part_length(*part)),
            Fact::PartReopened { part, .. } => bytes.saturating_sub(self.part_length(*part)),
            Fact::FoundPresent { .. } => self.admitted.size.0,
            Fact::RemoteGone | Fact::Retargeted { .. } => 0,
            Fact::BeginIntended { .. }
            | Fact::Begun { .. }
            | Fact::PartsReported { .. }
            | Fact::ETagModeLearned { .. }
            | Fact::CompleteIntended { .. }
            | Fact::CompleteWithdrawn
            | Fact::Completed { .. }
            | Fact::Renamed { .. }
            | Fact::NameDecided { .. }
            | Fact::Retouched { .. }
            | Fact::Superseding { .. }
            | Fact::Described
            | Fact::Verified { .. }
            | Fact::Digested { .. }
            | Fact::ExportIntended { .. }
            | Fact::ExportStarted { .. }
            | Fact::ExportFailed { .. }
            | Fact::Exported { .. }
            | Fact::ReceiptWritten { .. }
            | Fact::InFlight { .. }
            | Fact::SentInVain { .. }
            | Fact::AttemptFailed { .. }
            | Fact::Parked { .. }
            | Fact::PartSizeChanged { .. }
            | Fact::Released
            | Fact::SourceChanged { .. }
            | Fact::Abandoned { .. } => bytes,
        }
    }

    fn part_length(&self, part: PartNumber) -> u64 {
        let Stage::Sending { remote } = &self.state.stage else { return 0 };
        remote.part_size.range_of(part, self.admitted.size).length
    }
}

fn read(connection: &Connection, id: UploadId) -> Result<Option<Moved>> {
    let sql = "SELECT * FROM uploads WHERE id = ?1";
    let read = connection.prepare_cached(sql)?.query_row([id.0], |row| {
        let size = ByteCount(rows::unsigned_at(row, at!("size_bytes"))?);
        let accepted_bytes = rows::unsigned_at(row, at!("accepted_bytes"))?;
        let counted_for = CountedFor {
            drop: DirectoryName::new(row.get_ref(at!("drop_name"))?.as_str()?),
            run: SourcePath::from_bytes(row.get_ref(at!("run"))?.as_blob_or_null()?.unwrap_or(b"")),
            destination: DestinationName::new(row.get_ref(at!("destination"))?.as_str()?),
            is_sentinel: row.get(at!("sentinel"))?,
        };
        let admitted = Admitted { size, target: TargetId(row.get(at!("target_id"))?), counted_for };
        Ok(Moved::new(rows::read_state(row)?, admitted, accepted_bytes))
    });
    read.optional()
}

type Judged = std::result::Result<(UploadState, Vec<(PartNumber, PartState)>), IllegalFact>;

/// Applies the law to the upload and to every part of the fact, before anything is written.
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
    number: PartNumber,
    state: &PartState,
) -> Result<()> {
    let at = if let Fact::PartAccepted { at, .. } = fact { at.0 } else { 0 };
    match state {
        PartState::Open => {
            let sql = "DELETE FROM parts WHERE upload_id = ?1 AND number = ?2";
            connection.prepare_cached(sql)?.execute((id.0, number.get()))?;
        }
        PartState::Accepted { md5, etag, note } => {
            let sql = "INSERT INTO parts (upload_id, number, md5, etag, reported, accepted_at_ns, note) \
                VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6)";
            let note = note.as_ref().map(PartNote::as_str);
            let row = (id.0, number.get(), md5.0, etag.as_str(), at, note);
            connection.prepare_cached(sql)?.execute(row)?;
        }
        PartState::Reported { .. } => {
            let sql =
                "UPDATE parts SET reported = 1, note = NULL WHERE upload_id = ?1 AND number = ?2";
            connection.prepare_cached(sql)?.execute((id.0, number.get()))?;
        }
    }
    Ok(())
}

/// Writes a fact's rows other than those of its upload and parts.
fn write_beside(connection: &Connection, id: UploadId, fact: &Fact) -> Result<()> {
    match fact {
        Fact::RemoteGone | Fact::Retargeted { .. } => {
            let sql = "DELETE FROM parts WHERE upload_id = ?1";
            connection.prepare_cached(sql)?.execute([id.0]).map(|_| ())
        }
        Fact::AttemptFailed { .. } => attempts::write(connection, id, fact),
        Fact::BeginIntended { .. }
        | Fact::Begun { .. }
        | Fact::PartAccepted { .. }
        | Fact::PartsReported { .. }
        | Fact::PartReopened { .. }
        | Fact::ETagModeLearned { .. }
        | Fact::CompleteIntended { .. }
        | Fact::CompleteWithdrawn
        | Fact::Completed { .. }
        | Fact::FoundPresent { .. }
        | Fact::Renamed { .. }
        | Fact::NameDecided { .. }
        | Fact::Retouched { .. }
        | Fact::Superseding { .. }
        | Fact::Described
        | Fact::Verified { .. }
        | Fact::Digested { .. }
        | Fact::ExportIntended { .. }
        | Fact::ExportStarted { .. }
        | Fact::ExportFailed { .. }
        | Fact::Exported { .. }
        | Fact::ReceiptWritten { .. }
        | Fact::InFlight { .. }
        | Fact::SentInVain { .. }
        | Fact::PartSizeChanged { .. }
        | Fact::Parked { .. }
        | Fact::Released
        | Fact::SourceChanged { .. }
        | Fact::Abandoned { .. } => Ok(()),
    }
}

//! Facts about uploads, as they reach the rows.
//!
//! A transaction reads each upload that it moves once and writes its state once, however many facts it
//! brings: a small file's whole life may be one of them. Facts go through the law one by one all the
//! same, and what lies in other tables, a part's checkpoint or a failed attempt, is written as it comes.
//! Nothing else in a transaction asks for an upload's state.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension};

use super::super::columns::at;
use super::super::rows::{self, Columns, signed};
use super::rate::Accepted;
use super::{Result, attempts};
use crate::model::upload::{part_transition, transition};
use crate::model::{
    ByteCount, Fact, IllegalFact, ParkReason, PartNumber, PartState, Stage, UploadId, UploadState,
    WallTime,
};

/// What a transaction has moved so far.
#[derive(Debug, Default)]
pub(super) struct Moves {
    uploads: BTreeMap<UploadId, Moved>,
    /// What it added to the bytes accepted.
    pub(super) accepted: Accepted,
}

/// An upload as the transaction has it.
#[derive(Debug)]
struct Moved {
    state: UploadState,
    size: ByteCount,
    accepted_bytes: u64,
    /// Columns that belong to single facts that came, the last of each.
    columns: Columns,
    /// Its row is behind.
    is_ahead: bool,
}

impl Moves {
    /// Takes one fact; returns it when the law forbids it: then the upload is parked instead.
    pub(super) fn take(
        &mut self,
        connection: &Connection,
        id: UploadId,
        fact: &Fact,
    ) -> Result<Option<IllegalFact>> {
        let upload = match self.uploads.entry(id) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(free) => match read(connection, id)? {
                Some(upload) => free.insert(upload),
                None => {
                    let fact = fact.name().into();
                    return Ok(Some(IllegalFact { stage: "unknown to the store", fact }));
                }
            },
        };
        match judge(connection, id, upload, fact)? {
            Ok((next, parts)) => {
                upload.take(connection, (id, fact), next, &mut self.accepted)?;
                parts.iter().try_for_each(|part| write_part(connection, id, fact, part))?;
                Ok(None)
            }
            Err(illegal) => {
                let parked = Fact::Parked {
                    reason: ParkReason::Bug,
                    detail: illegal.to_string(),
                    at: WallTime(0),
                };
                if let Ok(next) = transition(&upload.state, &parked) {
                    upload.take(connection, (id, &parked), next, &mut self.accepted)?;
                }
                Ok(Some(illegal))
            }
        }
    }

    /// Writes the state of every upload that was moved.
    pub(super) fn write(&mut self, connection: &Connection) -> Result<()> {
        let ahead = self.uploads.iter_mut().filter(|(_, upload)| upload.is_ahead);
        ahead.into_iter().try_for_each(|(id, upload)| {
            let bytes = upload.accepted_bytes;
            rows::write_state(connection, *id, (&upload.state, bytes), &upload.columns)
        })
    }
}

impl Moved {
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
        self.is_ahead = true;
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
        Ok(Moved {
            state: rows::read_state(row)?,
            size: ByteCount(rows::unsigned_at(row, at!("size_bytes"))?),
            accepted_bytes: rows::unsigned_at(row, at!("accepted_bytes"))?,
            columns: Columns::new(),
            is_ahead: false,
        })
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
        match part_transition(&rows::read_part(connection, id, *number)?, fact) {
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
        Fact::BeginIntended { part_size: Some(part_size), .. } => {
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

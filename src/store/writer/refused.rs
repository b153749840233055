//! Records that the database refuses for their own values.
//!
//! A number that does not fit a column, a row that breaks a rule: the transaction is written again,
//! record by record, each within a savepoint. A refused record is rolled back, its upload is parked
//! instead, and all others continue. Any other failure, above all of the disk, is not handled here:
//! it poisons the store.
//!
//! Memory is ahead of the rows by the refused records. So facts about such an upload are left out until
//! the engine has reloaded it from its row, and says so with [`Fact::Parked`] for this very reason.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior};

use super::moves::Moves;
use super::{Result, Writer, files, write_record};
use crate::model::{
    Admission, AdmittedFile, ByteCount, Fact, IgnoreReason, IllegalFact, ParkReason, PartSize,
    Record, StoredUpload, UploadId, WallTime,
};
use crate::store::rows;

/// The largest part size of a row that replaces an admission which could not be stored.
const PART_SIZE_MAX: u64 = 1 << 40;

/// The result of writing one transaction.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Facts that the law forbade; their uploads are parked.
    pub illegal: Vec<IllegalFact>,
    /// Records that could not be stored.
    pub refused: Vec<Refused>,
}

/// A record that was not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The index of its batch.
    pub batch: usize,
    /// Its upload, if it is about one.
    pub upload: Option<UploadId>,
    /// What was written instead.
    pub instead: Instead,
    /// Why it was not stored.
    pub why: String,
}

/// What was written instead of a refused record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instead {
    /// Its upload is parked, with this row.
    Parked(Box<StoredUpload>),
    /// Nothing; its upload, if any, has no readable row.
    Nothing,
    /// It follows from an earlier refused record.
    LeftOut,
}

/// How one record was written.
#[derive(Debug)]
pub(super) enum Written {
    AsItIs,
    /// The law forbade it; its upload is parked.
    Illegal(IllegalFact),
    /// Not at all: it follows from an earlier refused record.
    LeftOut(UploadId),
}

/// Returns whether an error concerns the values alone, and not the disk or the database.
pub(super) fn is_of_values(error: &rusqlite::Error) -> bool {
    use ErrorCode::{ConstraintViolation, ParameterOutOfRange, TooBig, TypeMismatch};
    if let Some(code) = error.sqlite_error_code() {
        return matches!(code, ConstraintViolation | TypeMismatch | TooBig | ParameterOutOfRange);
    }
    matches!(
        error,
        rusqlite::Error::ToSqlConversionFailure(_)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
    )
}

impl Applied {
    /// Returns whether every record was written unchanged.
    pub fn is_whole(&self) -> bool {
        self.illegal.is_empty() && self.refused.is_empty()
    }

    /// Adds the result of a record of a batch.
    pub(super) fn note(&mut self, batch: usize, written: Written) {
        match written {
            Written::AsItIs => {}
            Written::Illegal(illegal) => self.illegal.push(illegal),
            Written::LeftOut(upload) => self.refused.push(Refused {
                batch,
                upload: Some(upload),
                instead: Instead::LeftOut,
                why: "an earlier record of its upload was refused".into(),
            }),
        }
    }
}

impl Writer {
    /// Writes records one by one; those that the database refuses are left out.
    pub(super) fn write_each(&mut self, batches: &[Vec<Record>]) -> Result<Applied> {
        let mut moves = std::mem::take(&mut self.moves);
        let mut transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut applied = Applied::default();
        for (batch, records) in batches.iter().enumerate() {
            for record in records {
                match write_one(&mut transaction, record, &mut moves) {
                    Ok(written) => applied.note(batch, written),
                    Err(error) if is_of_values(&error) => {
                        moves.forget();
                        let refused = refuse(&mut transaction, record, &error, &mut moves)?;
                        applied.refused.push(Refused { batch, ..refused });
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        transaction.commit()?;
        self.committed(moves);
        Ok(applied)
    }
}

/// Writes one record and the resulting state, or nothing of it.
fn write_one(
    transaction: &mut Transaction<'_>,
    record: &Record,
    moves: &mut Moves,
) -> Result<Written> {
    let savepoint = transaction.savepoint()?;
    let written = write_record(&savepoint, record, moves)?;
    moves.write(&savepoint)?;
    savepoint.commit()?;
    Ok(written)
}

/// Parks the upload of a refused record, if it is about one.
fn refuse(
    transaction: &mut Transaction<'_>,
    record: &Record,
    error: &rusqlite::Error,
    moves: &mut Moves,
) -> Result<Refused> {
    let why = error.to_string();
    let mut refused = Refused { batch: 0, upload: None, instead: Instead::Nothing, why };
    if let Record::Admit(admission) = record {
        refused.upload = Some(admission.id);
        refused.instead = stand_in(transaction, admission, &refused.why, moves)?;
        moves.refuse(admission.id);
    } else if let Record::Upload(id, fact) = record {
        refused.upload = Some(*id);
        refused.why = format!("{}: {}", fact.name(), refused.why);
        let detail = refused.why.clone();
        let parked = Fact::Parked { reason: ParkReason::CannotBeStored, detail, at: WallTime(0) };
        refused.instead = instead(transaction, *id, |connection| {
            moves.take(connection, *id, &parked)?;
            moves.write(connection)
        })?;
        moves.forget();
        moves.refuse(*id);
    }
    Ok(refused)
}

/// Writes a parked row instead of a refused admission; if that is refused too, its path is ignored.
fn stand_in(
    transaction: &mut Transaction<'_>,
    admission: &Admission,
    why: &str,
    moves: &mut Moves,
) -> Result<Instead> {
    let (mut row, reason) = (admission.clone(), ParkReason::CannotBeStored);
    row.file.fingerprint.size = ByteCount(row.file.fingerprint.size.0.min(i64::MAX.unsigned_abs()));
    row.part_size = PartSize::new(row.part_size.get().min(PART_SIZE_MAX)).unwrap_or(row.part_size);
    row.parked = Some(reason);
    let parked = instead(transaction, row.id, |connection| {
        moves.admit(connection, &row)?;
        moves.write(connection)?;
        let detail = ("park_detail", ValueRef::Text(why.as_bytes()));
        rows::update(connection, row.id, std::iter::once(detail))
    })?;
    if parked != Instead::Nothing {
        return Ok(parked);
    }
    moves.forget();
    let Admission { file: AdmittedFile { drop, path, .. }, at, .. } = admission;
    let savepoint = transaction.savepoint()?;
    match files::ignore(&savepoint, drop, path, IgnoreReason::CannotBeStored, *at) {
        Ok(()) => savepoint.commit()?,
        Err(error) if is_of_values(&error) => {}
        Err(error) => return Err(error),
    }
    Ok(Instead::Nothing)
}

/// Writes the replacement of a record, and reads the row of its upload; nothing if that is refused
/// as well.
fn instead(
    transaction: &mut Transaction<'_>,
    id: UploadId,
    write: impl FnOnce(&Connection) -> Result<()>,
) -> Result<Instead> {
    let savepoint = transaction.savepoint()?;
    let read = |connection: &Connection| {
        let mut statement = connection.prepare_cached("SELECT * FROM uploads WHERE id = ?1")?;
        statement.query_row([id.0], |row| rows::read_upload(connection, row)).optional()
    };
    match write(&savepoint).and_then(|()| read(&savepoint)) {
        Ok(Some(row)) => {
            savepoint.commit()?;
            Ok(Instead::Parked(Box::new(row)))
        }
        Ok(None) => Ok(Instead::Nothing),
        Err(error) if is_of_values(&error) => Ok(Instead::Nothing),
        Err(error) => Err(error),
    }
}

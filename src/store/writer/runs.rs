//! Writes runs, and the disposal of their sources.

use rusqlite::{Connection, named_params};

use super::Result;
use super::record::drop_count;
use crate::model::{DirectoryName, Disposal, Failure, RunRow, SourcePath, WallTime};
use crate::store::rows::saturated;

/// Writes that a source is about to be disposed of.
pub(super) fn intend_disposal(
    connection: &Connection,
    drop: &DirectoryName,
    run: &SourcePath,
    at: WallTime,
) -> Result<()> {
    let sql = "UPDATE disposals SET intended_at_ns = ?3 WHERE drop_name = ?1 AND run = ?2";
    let row = (drop.as_str(), run.as_bytes(), at.0);
    connection.prepare_cached(sql)?.execute(row)?;
    super::files::note_absent(connection, drop, run)
}

/// Writes that a source could not be disposed of, and when that is retried.
pub(super) fn delay_disposal(
    connection: &Connection,
    drop: &DirectoryName,
    run: &SourcePath,
    retry_at: WallTime,
    failure: &Failure,
) -> Result<()> {
    let sql = "UPDATE disposals SET retry_at_ns = ?3, failure = ?4 \
        WHERE drop_name = ?1 AND run = ?2";
    let row = (drop.as_str(), run.as_bytes(), retry_at.0, failure.to_string());
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

/// Writes that the disposal of a source has ended.
pub(super) fn end_disposal(
    connection: &Connection,
    drop: &DirectoryName,
    run: &SourcePath,
    is_done: bool,
    at: WallTime,
) -> Result<()> {
    let sql = "UPDATE disposals SET ended_at_ns = ?3, is_done = ?4, failure = NULL \
        WHERE drop_name = ?1 AND run = ?2";
    let row = (drop.as_str(), run.as_bytes(), at.0, is_done);
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

pub(super) fn write_row(connection: &Connection, row: &RunRow) -> Result<()> {
    let sql = "INSERT INTO runs VALUES (:drop, :run, :state, :reason, :files, :size, :closed_files, \
        :generation, :opened, :closed, :completed, :receipt, :outcome, :success, \
        :given_up, :ledger, :seq, :offset, :first, :last, :closed_by, :closed_without, :name_now, \
        :stale, :reason_code) \
        ON CONFLICT DO UPDATE SET state = :state, reason = :reason, reason_code = :reason_code, file_count = :files, \
        size_bytes = :size, closed_file_count = :closed_files, generation = :generation, \
        closed_at_ns = :closed, completed_at_ns = :completed, receipt_sha256 = :receipt, \
        outcome = :outcome, outcome_is_success = :success, given_up_count = :given_up, \
        ledger = :ledger, ledger_seq = :seq, ledger_offset = :offset, \
        first_ledger = :first, last_ledger = :last, closed_by = :closed_by, \
        closed_without = :closed_without, name_now = :name_now, is_stale = :stale";
    let (receipt, by_hand) = (row.completion.receipt.as_ref(), row.closed_by_hand.as_ref());
    connection.prepare_cached(sql)?.execute(named_params! {
        ":drop": row.drop.as_str(),
        ":run": row.name.as_bytes(),
        ":state": row.state.as_str(),
        ":reason": row.reason.as_ref().map(|reason| reason.text.as_str()),
        ":reason_code": row.reason.as_ref().map(|reason| reason.code.as_str()),
        ":files": saturated(row.files.count),
        ":size": saturated(row.files.size.0),
        ":closed_files": saturated(row.files.closed_count),
        ":generation": row.completion.generation,
        ":given_up": saturated(row.files.given_up_count),
        ":opened": row.opened_at.0,
        ":closed": row.closed_at.map(|at| at.0),
        ":completed": row.completion.at.map(|at| at.0),
        ":receipt": receipt.map(|line| line.sha256),
        ":ledger": receipt.map(|line| line.ledger.as_str()),
        ":seq": receipt.map(|line| saturated(line.seq)),
        ":offset": receipt.map(|line| saturated(line.offset)),
        ":name_now": row.name_now.as_ref().map(SourcePath::as_bytes),
        ":first": row.completion.ledgers.first,
        ":last": row.completion.ledgers.last,
        ":stale": row.is_stale,
        ":outcome": row.outcome.as_ref().map(|outcome| outcome.word.as_str()),
        ":closed_by": by_hand.map(|closed| closed.by.as_str()),
        ":closed_without": by_hand.map(|closed| closed.missing.join("\n")),
        ":success": row.outcome.as_ref().map(|outcome| outcome.is_success),
    })?;
    match row.completion.ledgers.is_absent() {
        true => super::files::note_absent(connection, &row.drop, &row.name),
        false => Ok(()),
    }
}

/// Writes what a run's files say about it; its samples are words named `samples`.
pub(super) fn write_words(
    connection: &Connection,
    drop: &DirectoryName,
    run: &SourcePath,
    words: &[(String, String)],
    samples: &[String],
) -> Result<()> {
    let words = words.iter().map(|(word, value)| (word.as_str(), value.as_str()));
    let samples = samples.iter().map(|sample| ("samples", sample.as_str()));
    let (drop, run) = (drop.as_str(), run.as_bytes());
    let sql = "DELETE FROM run_words WHERE drop_name = ?1 AND run = ?2";
    connection.prepare_cached(sql)?.execute((drop, run))?;
    let sql = "INSERT INTO run_words VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut insert = connection.prepare_cached(sql)?;
    for (number, (word, value)) in words.chain(samples).enumerate() {
        insert.execute((drop, run, word, saturated(number as u64), value))?;
    }
    Ok(())
}

/// Writes that a source is to be disposed of.
pub(super) fn queue_disposal(connection: &Connection, what: &Disposal) -> Result<()> {
    let sql = "INSERT INTO disposals (drop_name, run, is_file, due_at_ns) VALUES (?1, ?2, ?3, ?4) \
        ON CONFLICT DO UPDATE SET is_file = ?3, due_at_ns = ?4, intended_at_ns = NULL, \
        retry_at_ns = NULL, failure = NULL, ended_at_ns = NULL, is_done = 0";
    let row = (what.drop.as_str(), what.run.as_bytes(), what.is_file, what.due.0);
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

//! Writes one record to its rows.
//!
//! The one match over all records: a new one does not compile until it is stored here.

use rusqlite::Connection;

use super::moves::Moves;
use super::refused::Written;
use super::{Result, files, ledgers, notices, orders, runs, targets};
use crate::model::{
    DestinationName, DirectoryHealth, DirectoryName, IgnoreReason, Record, RootIdentity, WallTime,
};
use crate::store::rows::saturated;

pub(super) fn write_record(
    connection: &Connection,
    record: &Record,
    moves: &mut Moves,
) -> Result<Written> {
    match record {
        Record::Admit(admission) => moves.admit(connection, admission)?,
        Record::Upload(id, fact) => return moves.take(connection, *id, fact),
        Record::CleanupQueued { what, at } => targets::queue_cleanup(connection, what, *at)?,
        Record::CleanupDelayed { what, retry_at, failure } => {
            targets::delay_cleanup(connection, what, *retry_at, failure)?;
        }
        Record::CleanupDone { what } => targets::end_cleanup(connection, what)?,
        Record::Target { id, address } => targets::write_target(connection, *id, address)?,
        Record::TargetsInForce { destination, targets } => {
            targets::write_in_force(connection, destination, targets)?;
        }
        Record::Resend { destination, target, before } => {
            targets::write_resend(connection, destination, *target, *before)?;
        }
        Record::PlaceAwaited { upload, holder } => {
            targets::await_place(connection, *upload, *holder)?;
        }
        Record::PlaceHeld { target, place, holder, is_made } => {
            targets::hold_place(connection, *target, place, holder, *is_made)?;
        }
        Record::Ignored { drop, path, reason, at } => {
            files::ignore(connection, drop, path, *reason, *at)?;
        }
        Record::NotIgnored { drop, path } => files::ignore_no_more(connection, drop, path)?,
        Record::Touched { .. } => write_touched(connection, record)?,
        Record::Absent { drop, path } => files::note_absent(connection, drop, path)?,
        Record::Moved { .. } => write_moved(connection, record)?,
        Record::RunOpened { destination, drop, name, at } => {
            open_run_end(connection, destination, drop, name, *at)?;
        }
        Record::RunFinished { destination, drop, name, at } => {
            finish_run(connection, destination, drop, name, *at)?;
        }
        Record::DirectoryInForce { .. } => write_directory(connection, record)?,
        Record::Run(row) => runs::write_row(connection, row)?,
        Record::LedgerAppended(written) => moves.appended(connection, written)?,
        Record::LedgerChecked(found) => ledgers::write_found(connection, found)?,
        Record::RunWords { drop, run, words, samples } => {
            runs::write_words(connection, drop, run, words, samples)?;
        }
        Record::DisposalQueued(what) => runs::queue_disposal(connection, what)?,
        Record::DisposalIntended { drop, run, at } => {
            runs::intend_disposal(connection, drop, run, *at)?;
        }
        Record::DisposalDelayed { drop, run, retry_at, failure } => {
            runs::delay_disposal(connection, drop, run, *retry_at, failure)?;
        }
        Record::DisposalEnded { drop, run, is_done, at } => {
            runs::end_disposal(connection, drop, run, *is_done, *at)?;
        }
        Record::Notice(notice) => notices::write_notice(connection, notice)?,
        Record::NoticeFiles { id, file_count, size, items } => {
            notices::add_files(connection, *id, *file_count, *size, items)?;
        }
        Record::NoticeDelayed { id, retry_at, failure, refused_since } => {
            notices::delay(connection, *id, *retry_at, failure, *refused_since)?;
        }
        Record::NoticeGivenUp { id, at, failure } => {
            notices::give_up(connection, *id, *at, failure)?;
        }
        Record::NoticeSent { id, at } => notices::note_sent(connection, *id, *at)?,
        Record::Order(order) => orders::write(connection, order)?,
        Record::DestinationLearned { .. } => write_learned(connection, record)?,
        Record::DirectoryHealth(health) => write_drop_health(connection, health)?,
        Record::Configured { .. } => note_configured(connection, record)?,
        Record::DestinationClock { .. } => write_clock(connection, record)?,
        Record::DestinationHealth { .. } => write_destination_health(connection, record)?,
    }
    Ok(Written::AsItIs)
}

fn write_touched(connection: &Connection, record: &Record) -> Result<()> {
    let Record::Touched { drop, path, fingerprint } = record else { return Ok(()) };
    files::touch(connection, drop, path, fingerprint)
}

fn write_clock(connection: &Connection, record: &Record) -> Result<()> {
    let Record::DestinationClock { destination, behind_ns } = record else { return Ok(()) };
    let sql = "UPDATE destination_health SET clock_behind_ns = ?2 WHERE destination = ?1";
    connection.prepare_cached(sql)?.execute((destination.as_str(), behind_ns)).map(drop_count)
}

fn write_directory(connection: &Connection, record: &Record) -> Result<()> {
    let Record::DirectoryInForce { drop, directory, first } = record else { return Ok(()) };
    let sql = "INSERT OR REPLACE INTO drop_directories VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute((drop.as_str(), first.0, directory)).map(drop_count)
}

fn write_moved(connection: &Connection, record: &Record) -> Result<()> {
    let Record::Moved { drop, path, fingerprint, upload, at } = record else { return Ok(()) };
    files::ignore(connection, drop, path, IgnoreReason::Moved, *at)?;
    files::note_move(connection, drop, path, *upload, fingerprint)
}

fn write_learned(connection: &Connection, record: &Record) -> Result<()> {
    let Record::DestinationLearned { target, what, detail, at, .. } = record else {
        return Ok(());
    };
    let sql = "INSERT INTO target_learned VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
    let row = (i64::from(target.0), what.as_str(), detail, at.0);
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

fn write_destination_health(connection: &Connection, record: &Record) -> Result<()> {
    let Record::DestinationHealth { destination, platform, state, reason, next_try_at, at } =
        record
    else {
        return Ok(());
    };
    let sql = "INSERT INTO destination_health VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, 0) \
        ON CONFLICT DO UPDATE SET platform = ?2, state = ?3, reason = ?4, \
        since_ns = CASE WHEN state = ?3 THEN since_ns ELSE ?5 END, next_try_at_ns = ?6";
    let next_try_at = next_try_at.map(|at| at.0);
    let row = (destination.as_str(), platform, state.as_str(), reason, at.0, next_try_at);
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

/// Ignores how many rows a statement changed.
pub(super) fn drop_count(_: usize) {}

fn open_run_end(
    connection: &Connection,
    destination: &DestinationName,
    drop: &DirectoryName,
    name: &str,
    at: WallTime,
) -> Result<()> {
    let sql = "INSERT INTO run_ends (destination, drop_name, name, opened_at_ns) \
        VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET opened_at_ns = ?4, \
        finished_at_ns = NULL";
    let row = (destination.as_str(), drop.as_str(), name, at.0);
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

fn finish_run(
    connection: &Connection,
    destination: &DestinationName,
    drop: &DirectoryName,
    name: &str,
    at: WallTime,
) -> Result<()> {
    let sql = "UPDATE run_ends SET finished_at_ns = ?4 \
        WHERE destination = ?1 AND drop_name = ?2 AND name = ?3";
    let row = (destination.as_str(), drop.as_str(), name, at.0);
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

fn write_drop_health(connection: &Connection, health: &DirectoryHealth) -> Result<()> {
    let sql = "INSERT INTO drop_health VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1) \
        ON CONFLICT DO UPDATE SET directory = ?2, watch = ?3, reason = ?4, \
        last_full_scan_at_ns = ?5, settling_count = ?6, root = ?7";
    let row = (
        health.drop.as_str(),
        &health.directory,
        health.watch.as_str(),
        &health.reason,
        health.last_full_scan_at.map(|at| at.0),
        saturated(health.settling_count),
        health.root.as_ref().map(RootIdentity::as_str),
    );
    connection.prepare_cached(sql)?.execute(row).map(drop_count)
}

fn note_configured(connection: &Connection, record: &Record) -> Result<()> {
    let Record::Configured { drops, destinations, stuck_after } = record else { return Ok(()) };
    let stuck_after_ns = i64::try_from(stuck_after.as_nanos()).unwrap_or(i64::MAX);
    connection.execute("UPDATE daemon SET stuck_after_ns = ?1", [stuck_after_ns])?;
    connection.execute("UPDATE drop_health SET is_configured = 0", ())?;
    connection.execute("UPDATE destination_health SET is_configured = 0", ())?;
    let sql = "UPDATE drop_health SET is_configured = 1 WHERE drop_name = ?1";
    let mut set = connection.prepare_cached(sql)?;
    drops.iter().try_for_each(|name| set.execute([name.as_str()]).map(drop_count))?;
    let sql = "UPDATE destination_health SET is_configured = 1 WHERE destination = ?1";
    let mut set = connection.prepare_cached(sql)?;
    destinations.iter().try_for_each(|name| set.execute([name.as_str()]).map(drop_count))
}

//! The one writer: collect what waits, begin, apply, commit, then answer.
//!
//! The thread takes the first submission and whatever is already waiting behind it, up to a bound. So
//! batches form by themselves under load, and latency when idle is one commit. Only in a crowd, when
//! the last transaction was a large one, it lingers for a few milliseconds: thousands of small files
//! would be committed by the dozen, each time with the disk's flush and the pages of every index.
//! [`Writer`] is the same thing without the thread, for the simulation.
//!
//! Facts go through the law. What the law forbids is a defect of ours: the upload is parked with
//! reason `bug`, which is written instead, and the rest of the batch goes on.

mod attempts;
mod files;
mod load;
mod moves;
pub(super) mod orders;
mod outbox;
mod rate;
pub(super) mod tend;
mod units;

use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::mpsc::Receiver;

use self::moves::Moves;
use self::rate::Rate;
use super::lock::{self, Lock};
use super::rows::signed;
use super::schema::{self, FILE_NAME};
use super::{Error, Loaded, Runner, Settings, Submission};
use crate::model::{IllegalFact, Record, RootIdentity};

/// Submissions in one transaction: bounds how long the first one waits for the others.
const BATCH_MAX: usize = 512;

/// Records in a transaction from which on there is a crowd: no single upload makes as many.
const CROWD_MIN: usize = 32;
/// How long the thread lingers in a crowd; nothing but small files waits for it.
const LINGER: Duration = Duration::from_millis(5);

/// Commits after which SQLite folds the WAL into the database as it grows. The first ones of a life would
/// be held up by what the last life left: after a crash tens of megabytes.
const UNFOLDED_COMMITS: u32 = 64;
/// Pages from which on it does: its own default.
const FOLDED_PAGES: u32 = 1000;

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// The read-write connection, with the lock that makes it the only one.
#[derive(Debug)]
pub struct Writer {
    connection: Connection,
    settings: Settings,
    rate: Rate,
    /// What the rows say of the uploads that are under way.
    moves: Moves,
    commit_count: u32,
    _lock: Lock,
}

impl Writer {
    /// Opens the state and reads what is under way; [`super::rest::Rest`] reads the rest.
    ///
    /// # Errors
    /// See [`super::Kind`].
    pub fn open(settings: &Settings) -> std::result::Result<(Self, Loaded), Error> {
        let directory = &settings.directory;
        std::fs::create_dir_all(directory)
            .map_err(|source| Error::io("make the state directory", directory, source))?;
        let lock = lock::take(directory)?;
        let connection = schema::open_for_writing(directory)?;
        let loaded = connection
            .pragma_update(None, "wal_autocheckpoint", 0)
            .and_then(|()| moves::land(&connection))
            .and_then(|()| outbox::prune(&connection))
            .and_then(|_| load::load(&connection))
            .map_err(|source| Error::sqlite("read", &directory.join(FILE_NAME), source))?;
        let settings = settings.clone();
        let (rate, moves) = (Rate::default(), Moves::default());
        Ok((Self { connection, settings, rate, moves, commit_count: 0, _lock: lock }, loaded))
    }

    pub(super) fn directory(&self) -> &std::path::Path {
        &self.settings.directory
    }

    /// Notes who runs on this state.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn introduce(&mut self, runner: &Runner) -> std::result::Result<(), Error> {
        let sql = "INSERT INTO daemon (id, pid, version, started_at_ns) VALUES (1, ?1, ?2, ?3) \
            ON CONFLICT (id) DO UPDATE SET pid = ?1, version = ?2, started_at_ns = ?3, \
            rate_bytes_per_second = 0";
        let row = (runner.pid, &runner.version, runner.started_at.0);
        self.connection.execute(sql, row).map_err(|source| self.failed(source))?;
        Ok(())
    }

    /// Applies batches in order in one transaction. Returns what the law forbade.
    ///
    /// # Errors
    /// When anything could not be written: then nothing was, and the writer must not be used again.
    pub fn apply(
        &mut self,
        batches: &[Vec<Record>],
    ) -> std::result::Result<Vec<IllegalFact>, Error> {
        self.write(batches).map_err(|source| self.failed(source))
    }

    fn failed(&self, source: rusqlite::Error) -> Error {
        Error::sqlite("write to", &self.settings.directory.join(FILE_NAME), source)
    }

    fn write(&mut self, batches: &[Vec<Record>]) -> Result<Vec<IllegalFact>> {
        let mut illegal = Vec::new();
        if batches.iter().all(Vec::is_empty) {
            return Ok(illegal);
        }
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // What a failure leaves of it is nobody's.
        let mut moves = std::mem::take(&mut self.moves);
        for record in batches.iter().flatten() {
            illegal.extend(write_record(&transaction, record, &mut moves)?);
        }
        moves.write(&transaction)?;
        if moves.accepted.bytes > 0 {
            self.rate.write(&transaction, &moves.accepted)?;
        }
        transaction.commit()?;
        self.moves = moves.kept();
        self.commit_count = self.commit_count.saturating_add(1);
        if self.commit_count == UNFOLDED_COMMITS
            && let Err(error) =
                self.connection.pragma_update(None, "wal_autocheckpoint", FOLDED_PAGES)
        {
            tracing::warn!("the WAL is not folded into the database as it grows: {error}");
        }
        Ok(illegal)
    }

    /// Folds the WAL into the database.
    fn fold(&self) {
        if let Err(error) =
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        {
            tracing::warn!("the WAL was not folded into the database: {error}");
        }
    }
}

/// Runs until every handle is gone. A failed commit answers everyone with the error, now and later.
pub(super) fn run(mut writer: Writer, mut inbox: Receiver<Submission>) {
    let mut poison: Option<Error> = None;
    let mut is_crowded = false;
    while let Some(first) = inbox.blocking_recv() {
        if is_crowded {
            std::thread::sleep(LINGER);
        }
        let waiting = std::iter::from_fn(|| inbox.try_recv().ok()).take(BATCH_MAX - 1);
        let (mut batches, mut answers, mut tended) = (Vec::new(), Vec::new(), Vec::new());
        for submission in std::iter::once(first).chain(waiting) {
            match submission {
                Submission::Records(records, answer) => {
                    batches.push(records);
                    answers.push(answer);
                }
                Submission::Tend(tend, answer) => tended.push((tend, answer)),
            }
        }
        is_crowded = batches.iter().map(Vec::len).sum::<usize>() >= CROWD_MIN;
        if poison.is_none() {
            match writer.apply(&batches) {
                Ok(illegal) => illegal.iter().for_each(|fact| {
                    tracing::error!("{fact}: its upload is parked");
                }),
                Err(error) => poison = Some(error),
            }
        }
        for answer in answers {
            // Whoever gave up waiting needs no answer.
            drop(answer.send(poison.clone().map_or(Ok(()), Err)));
        }
        for (tend, answer) in tended {
            let done = match &poison {
                None => writer.tend(&tend).map_err(|source| writer.failed(source)),
                Some(error) => Err(error.clone()),
            };
            drop(answer.send(done));
        }
    }
    if poison.is_none() {
        writer.fold();
    }
}

fn write_record(
    connection: &Connection,
    record: &Record,
    moves: &mut Moves,
) -> Result<Option<IllegalFact>> {
    match record {
        Record::Admit(admission) => moves.admit(connection, admission)?,
        Record::Upload(id, fact) => return moves.take(connection, *id, fact),
        Record::CleanupQueued { destination, remote, at } => {
            let sql = "INSERT INTO cleanups (destination, remote_upload_id, queued_at_ns) \
                VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET done = 0";
            let row = (destination.as_str(), remote.as_str(), at.0);
            connection.prepare_cached(sql)?.execute(row)?;
        }
        Record::CleanupDelayed { destination, remote, retry_at, failure } => {
            let sql = "UPDATE cleanups SET retry_at_ns = ?3, failure = ?4 \
                WHERE destination = ?1 AND remote_upload_id = ?2";
            let row = (destination.as_str(), remote.as_str(), retry_at.0, failure.to_string());
            connection.prepare_cached(sql)?.execute(row)?;
        }
        Record::CleanupDone { destination, remote } => {
            let sql =
                "UPDATE cleanups SET done = 1 WHERE destination = ?1 AND remote_upload_id = ?2";
            connection.prepare_cached(sql)?.execute((destination.as_str(), remote.as_str()))?;
        }
        Record::Ignored { .. }
        | Record::NotIgnored { .. }
        | Record::Touched { .. }
        | Record::Moved { .. } => {
            files::write(connection, record)?;
        }
        Record::DropOpened { destination, drop, name, at } => {
            let sql = "INSERT INTO drops (destination, drop_name, name, opened_at_ns) \
                VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET opened_at_ns = ?4, \
                finished_at_ns = NULL";
            let row = (destination.as_str(), drop.as_str(), name, at.0);
            connection.prepare_cached(sql)?.execute(row)?;
        }
        Record::DropFinished { destination, drop, name, at } => {
            let sql = "UPDATE drops SET finished_at_ns = ?4 \
                WHERE destination = ?1 AND drop_name = ?2 AND name = ?3";
            let row = (destination.as_str(), drop.as_str(), name, at.0);
            connection.prepare_cached(sql)?.execute(row)?;
        }
        Record::Unit(_)
        | Record::UnitWords { .. }
        | Record::DisposalQueued(_)
        | Record::DisposalIntended { .. }
        | Record::DisposalDelayed { .. }
        | Record::DisposalEnded { .. } => units::write(connection, record)?,
        Record::Notice(_)
        | Record::NoticeDelayed { .. }
        | Record::NoticeGivenUp { .. }
        | Record::NoticeFolded { .. }
        | Record::NoticeSent { .. } => outbox::write(connection, record)?,
        Record::Order(order) => orders::write(connection, order)?,
        Record::DropHealth(_) | Record::DestinationHealth { .. } | Record::Configured(_) => {
            write_health(connection, record)?
        }
    }
    Ok(None)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "called with the records of health only")]
fn write_health(connection: &Connection, record: &Record) -> Result<()> {
    match record {
        Record::DropHealth(health) => {
            let sql = "INSERT INTO drop_health VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1) \
                ON CONFLICT DO UPDATE SET directory = ?2, watch = ?3, reason = ?4, \
                last_full_scan_at_ns = ?5, settling_count = ?6, root = ?7";
            connection.prepare_cached(sql)?.execute((
                health.drop.as_str(),
                &health.directory,
                health.watch.as_str(),
                &health.reason,
                health.last_full_scan_at.map(|at| at.0),
                signed(health.settling_count),
                health.root.as_ref().map(RootIdentity::as_str),
            ))?;
        }
        Record::Configured(drops) => {
            connection.prepare_cached("UPDATE drop_health SET is_configured = 0")?.execute(())?;
            let sql = "UPDATE drop_health SET is_configured = 1 WHERE drop_name = ?1";
            let mut set = connection.prepare_cached(sql)?;
            for name in drops {
                set.execute([name.as_str()])?;
            }
        }
        Record::DestinationHealth { destination, platform, state, reason, next_try_at, at } => {
            let sql = "INSERT INTO destination_health VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                ON CONFLICT DO UPDATE SET platform = ?2, state = ?3, reason = ?4, \
                since_ns = CASE WHEN state = ?3 THEN since_ns ELSE ?5 END, next_try_at_ns = ?6";
            let next_try_at = next_try_at.map(|at| at.0);
            let row = (destination.as_str(), platform, state.as_str(), reason, at.0, next_try_at);
            connection.prepare_cached(sql)?.execute(row)?;
        }
        _ => {}
    }
    Ok(())
}

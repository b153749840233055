//! The one writer: collect submissions, begin, apply, commit, then answer.
//!
//! The thread takes the first submission and everything that waits behind it, up to a limit. So
//! batches form by themselves under load, and the latency when idle is one commit. Only in a crowd,
//! after a large transaction, it waits a few milliseconds more: thousands of small files would
//! otherwise be committed by the dozen, each time with a disk flush and the pages of every index.
//! [`Writer`] is the same without the thread, for the simulation.
//!
//! Facts go through the law. A fact that the law forbids is a defect of ours: the upload is parked
//! with reason `bug`, which is written instead, and the rest of the batch continues. A record that
//! the database refuses for its own values parks its upload as well (`refused`).

mod attempts;
mod exports;
mod files;
mod ledgers;
pub(super) mod load;
mod moves;
mod notices;
pub(super) mod orders;
mod record;
mod refused;
mod runs;
mod tallies;
pub(super) mod targets;
pub(super) mod tend;

pub use self::refused::{Applied, Instead, Refused};

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use tokio::sync::mpsc::Receiver;

use self::moves::Moves;
use self::record::write_record;
use self::refused::is_of_values;
use super::directory::{self, Lack};
use super::lock::{self, Lock};
use super::process::Process;
use super::schema::{self, FILE_NAME};
use super::{Error, Kind, Loaded, Runner, Settings, Submission};
use crate::model::Record;

/// Limit of submissions in one transaction, which bounds the wait of the first one.
const BATCH_MAX: usize = 512;

/// Records in a transaction that make a crowd: no single upload makes as many.
const CROWD_MIN: usize = 32;
/// How long the thread waits in a crowd; only small files are delayed by it.
const LINGER: Duration = Duration::from_millis(5);

/// Commits after which SQLite checkpoints the WAL as it grows. Otherwise the first ones of a
/// process would be delayed by the WAL of the last one: tens of megabytes after a crash.
const UNFOLDED_COMMITS: u32 = 64;
/// WAL pages for such a checkpoint: SQLite's default.
const FOLDED_PAGES: u32 = 1000;

type Result<T> = std::result::Result<T, rusqlite::Error>;

/// The read-write connection, with the lock that makes it the only one.
#[derive(Debug)]
pub struct Writer {
    connection: Connection,
    settings: Settings,
    /// The rows of the uploads in progress.
    moves: Moves,
    commit_count: u32,
    _lock: Lock,
}

impl Writer {
    /// Opens the state and reads what is in progress; [`super::rest::Rest`] reads the rest.
    ///
    /// # Errors
    /// See [`super::Kind`].
    pub fn open(settings: &Settings) -> std::result::Result<(Self, Loaded), Error> {
        Self::open_after(settings, |_| Ok(()))
    }

    /// Opens the state, lets `prepare` update the rows, and then reads what is in progress.
    ///
    /// # Errors
    /// See [`super::Kind`].
    pub fn open_after(
        settings: &Settings,
        prepare: impl FnOnce(&mut Self) -> std::result::Result<(), Error>,
    ) -> std::result::Result<(Self, Loaded), Error> {
        let directory = &settings.directory;
        directory::make(directory)?;
        directory::check(directory)?;
        let lock = lock::take(directory)?;
        let connection = open_database(settings)?;
        // Where others may create files, one may have been created meanwhile.
        directory::check(directory)?;
        let failed = |source| Error::sqlite("read", &directory.join(FILE_NAME), source);
        connection
            .pragma_update(None, "wal_autocheckpoint", 0)
            .and_then(|()| moves::land(&connection))
            .and_then(|()| notices::prune(&connection))
            .map_err(failed)?;
        let (settings, moves) = (settings.clone(), Moves::default());
        let mut writer = Self { connection, settings, moves, commit_count: 0, _lock: lock };
        prepare(&mut writer)?;
        let loaded = load::load(&writer.connection).map_err(failed)?;
        Ok((writer, loaded))
    }

    /// Raises the next id above those in copies of the database, which may be newer than it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn raise_ids(&mut self) -> std::result::Result<(), Error> {
        let Some(last) = super::restore::last_id(self.directory()) else { return Ok(()) };
        let sql = "UPDATE care SET ids_above = max(ids_above, ?1)";
        let raised = self.connection.execute(sql, [last.0]);
        raised.map(|_| ()).map_err(|source| self.failed(source))
    }

    pub(super) fn directory(&self) -> &std::path::Path {
        &self.settings.directory
    }

    /// Records which daemon runs on this state.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn introduce(&mut self, runner: &Runner) -> std::result::Result<(), Error> {
        let sql = "UPDATE daemon SET pid = ?1, version = ?2, started_at_ns = ?3";
        let row = (runner.pid, &runner.version, runner.started_at.0);
        self.connection.execute(sql, row).map_err(|source| self.failed(source))?;
        Ok(())
    }

    /// Applies batches in order in one transaction. Returns the records that were not written
    /// unchanged: those that the law forbade, and those that the database cannot store.
    ///
    /// # Errors
    /// When the disk or the database failed: then nothing was written, and the writer must not be
    /// used any more.
    pub fn apply(&mut self, batches: &[Vec<Record>]) -> std::result::Result<Applied, Error> {
        let refused = self.moves.refused();
        let written = match self.write(batches) {
            Err(error) if is_of_values(&error) => {
                self.moves = Moves::knowing(refused);
                self.write_each(batches)
            }
            written => written,
        };
        written.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: rusqlite::Error) -> Error {
        Error::sqlite("write to", &self.settings.directory.join(FILE_NAME), source)
    }

    fn write(&mut self, batches: &[Vec<Record>]) -> Result<Applied> {
        let mut applied = Applied::default();
        if batches.iter().all(Vec::is_empty) {
            return Ok(applied);
        }
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // After a failure they are useless.
        let mut moves = std::mem::take(&mut self.moves);
        for (batch, records) in batches.iter().enumerate() {
            for record in records {
                applied.note(batch, write_record(&transaction, record, &mut moves)?);
            }
        }
        moves.write(&transaction)?;
        transaction.commit()?;
        self.committed(moves);
        Ok(applied)
    }

    /// Keeps the state after a durable transaction.
    fn committed(&mut self, moves: Moves) {
        self.moves = moves.kept();
        self.commit_count = self.commit_count.saturating_add(1);
        if self.commit_count == UNFOLDED_COMMITS
            && let Err(error) =
                self.connection.pragma_update(None, "wal_autocheckpoint", FOLDED_PAGES)
        {
            tracing::warn!("the WAL is not folded into the database as it grows: {error}");
        }
    }

    /// Limits the growth of the database to that many pages, as a nearly full disk does.
    #[cfg(test)]
    pub(super) fn limit_growth(&self, pages: u32) {
        let connection = &self.connection;
        let count = connection.query_row("PRAGMA page_count", [], |row| row.get::<_, u32>(0));
        let most = count.expect("counted") + pages;
        connection.pragma_update(None, "max_page_count", most).expect("limited");
    }

    /// Records that no daemon runs here any more, and checkpoints the WAL.
    pub fn leave(&self) {
        if let Err(error) = self.connection.execute("UPDATE daemon SET process = NULL", []) {
            tracing::warn!("the end of this process is not noted: {error}");
        }
        if let Err(error) =
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        {
            tracing::warn!("the WAL was not folded into the database: {error}");
        }
    }
}

/// Opens the database, unless it was lost or another daemon runs on it.
fn open_database(settings: &Settings) -> std::result::Result<Connection, Error> {
    let Settings { directory, is_new } = settings;
    let failed = |source| Error::sqlite("read", &directory.join(FILE_NAME), source);
    let lack = directory::lack(directory);
    match lack {
        Some(_) if *is_new => directory::set_aside_wal(directory)?,
        Some(lack) => directory::refuse_loss(directory, lack)?,
        None => {}
    }
    let connection = schema::open(directory)?;
    let is_blank = schema::version(&connection).map_err(failed)? == 0;
    if is_blank && !is_new {
        directory::refuse_loss(directory, Lack::Empty)?;
    }
    let mut connection = schema::bring_up_to_date(connection, directory)?;
    if !claim(&mut connection).map_err(failed)? {
        let path = directory.join(FILE_NAME);
        return Err(Error { doing: "open", path, kind: Kind::Locked });
    }
    if *is_new {
        // A database without uploads is intended, whatever files are beside it.
        connection.execute("UPDATE care SET is_new_state = 1", []).map_err(failed)?;
    }
    schema::refuse_loss(&connection, directory)?;
    Ok(connection)
}

/// Records this process as the running one, and checks the previous one in the same transaction;
/// false if that still runs, although the lock is free or shared.
fn claim(connection: &mut Connection) -> Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let sql = "SELECT process FROM daemon WHERE process IS NOT NULL";
    let found: Option<String> = transaction.query_row(sql, [], |row| row.get(0)).optional()?;
    let (found, own) = (found.and_then(|text| Process::parse(&text)), Process::own());
    if found.is_some_and(|process| Some(process) != own && process.is_alive()) {
        return Ok(false);
    }
    let sql = "INSERT INTO daemon (id, pid, version, started_at_ns, process) VALUES (1, ?1, '', 0, ?2) \
        ON CONFLICT (id) DO UPDATE SET process = ?2";
    transaction.execute(sql, (std::process::id(), own.map(|process| process.to_string())))?;
    transaction.commit()?;
    Ok(true)
}

/// Runs until every handle is dropped. After a failed commit every submission is answered with the error.
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
        let mut refused = Vec::new();
        if poison.is_none() {
            match writer.apply(&batches) {
                Ok(applied) => {
                    log(&applied);
                    refused = applied.refused;
                }
                Err(error) => poison = Some(error),
            }
        }
        for (batch, answer) in answers.into_iter().enumerate() {
            let refused: Vec<_> =
                refused.extract_if(.., |refused| refused.batch == batch).collect();
            // A caller that gave up waiting needs no answer.
            drop(answer.send(poison.clone().map_or(Ok(refused), Err)));
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
        writer.leave();
    }
}

/// Logs records that were not written unchanged.
fn log(applied: &Applied) {
    for fact in &applied.illegal {
        tracing::error!("{fact}: its upload is parked");
    }
    for Refused { upload, instead, why, .. } in &applied.refused {
        let upload_id = upload.map(|id| id.0);
        match instead {
            Instead::Parked(_) => {
                tracing::error!(upload_id, "cannot be stored, and is parked: {why}")
            }
            Instead::Nothing => tracing::error!(upload_id, "a record cannot be stored: {why}"),
            Instead::LeftOut => tracing::debug!(upload_id, "a record is left out: {why}"),
        }
    }
}

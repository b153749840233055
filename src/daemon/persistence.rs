//! The loop's access to the rows: writing, loading the rest after a start, and maintenance.
//!
//! *Owns* the store and everything that works on it, so that all of it ends in one order
//! ([`Persistence::finish`]). *Promises*: transactions are written in the order of submission, and
//! each state change has its line in the log. *After a crash* nothing has to be done: what was not
//! durable was not done.

use std::time::Duration;

use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::oneshot;

use super::care::{DatabaseCare, Ended};
use super::journal::{Journal, NameOf};
use super::loader::Loader;
use crate::model::{Monotonic, Now, Record, StoredRows};
use crate::store::writer::Refused;
use crate::store::{CommitAnswer, Error, Store, Thread};

/// Interval of checking that the database is still the one that is written to.
const STATE_INTERVAL: Duration = Duration::from_secs(10);

/// The store's answer to a transaction; an error when the store has ended.
pub(super) type Commit = Result<Result<Vec<Refused>, Error>, oneshot::error::RecvError>;

#[derive(Debug)]
pub(super) struct Persistence {
    store: Store,
    thread: Thread,
    /// Submitted transactions, in order.
    commits: FuturesOrdered<CommitAnswer>,
    pub(super) loader: Loader,
    pub(super) care: DatabaseCare,
    pub(super) journal: Journal,
    /// Time of the next check of the database file.
    look_due: Monotonic,
}

/// An event of the store.
#[derive(Debug)]
pub(super) enum StoreEvent {
    /// The oldest transaction is durable, or failed.
    Landed(Commit),
    /// A portion of the rows after a start.
    Read(Result<StoredRows, Error>),
    /// A maintenance job ended.
    Cared(Ended),
}

impl Persistence {
    pub(super) fn new(
        store: Store,
        thread: Thread,
        loader: Loader,
        care: DatabaseCare,
        now: Monotonic,
    ) -> Self {
        let (commits, journal) = (FuturesOrdered::new(), Journal::default());
        Self { store, thread, commits, loader, care, journal, look_due: now }
    }

    /// Submits a transaction.
    pub(super) fn submit(&mut self, records: Vec<Record>, name_of: NameOf<'_>) {
        self.journal.note(&records, name_of);
        self.commits.push_back(self.store.submit(records));
    }

    /// Waits for the next event; forever while nothing is in progress.
    pub(super) async fn next(&mut self) -> StoreEvent {
        tokio::select! {
            Some(commit) = self.commits.next() => StoreEvent::Landed(commit),
            portion = self.loader.next() => StoreEvent::Read(portion),
            ended = self.care.next() => StoreEvent::Cared(ended),
        }
    }

    /// Returns the answer to the oldest transaction, if it is there already.
    pub(super) fn try_landed(&mut self) -> Option<Commit> {
        self.commits.next().now_or_never().flatten()
    }

    /// Returns whether everything that was submitted is durable.
    pub(super) fn is_clear(&self) -> bool {
        self.commits.is_empty()
    }

    /// Returns the next deadline.
    pub(super) fn deadline(&self) -> Monotonic {
        self.care.deadline().map_or(self.look_due, |due| due.min(self.look_due))
    }

    /// Starts due maintenance, and cancels jobs that must wait.
    pub(super) fn care_for(&mut self, is_sending: bool, now: Now) {
        self.care.look(&self.store, is_sending, now);
    }

    /// Checks, when due, whether the database was removed or replaced: later writes would be lost.
    pub(super) fn look(&mut self, now: Monotonic) -> Result<(), Error> {
        if self.look_due <= now {
            self.look_due = now.after(STATE_INTERVAL);
            self.thread.look()?;
        }
        Ok(())
    }

    /// Waits until everything submitted is durable, and ends. `closed` is called when nothing more
    /// is written, before the database is closed.
    pub(super) async fn finish(mut self, closed: impl FnOnce()) -> Result<(), Error> {
        while let Some(commit) = self.commits.next().await {
            refused(commit)?;
        }
        // The last connection that closes removes the WAL.
        self.thread.look()?;
        // It writes through the store, which ends when all handles are dropped.
        self.care.finish();
        self.loader.finish();
        drop(self.store);
        closed();
        self.thread.finish();
        Ok(())
    }
}

/// Returns the refused records of a commit.
pub(super) fn refused(commit: Commit) -> Result<Vec<Refused>, Error> {
    commit.unwrap_or_else(|_| Err(Error::poisoned()))
}

//! The rows, as the loop uses them: what it writes, what a start leaves to be read, and the care for both.
//!
//! *Owns* the store and everything that works on it, so that all of it ends in one order
//! ([`Persistence::finish`]). *Promises*: transactions are written in the order in which they were submitted,
//! and each state change has its line in the log. *At a crash* nothing is to be done here: what was not
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

/// How often it is looked whether the database is still the one that is written to.
const STATE_INTERVAL: Duration = Duration::from_secs(10);

/// What the store answers to a transaction; none when it has ended.
pub(super) type Commit = Result<Result<Vec<Refused>, Error>, oneshot::error::RecvError>;

#[derive(Debug)]
pub(super) struct Persistence {
    store: Store,
    thread: Thread,
    /// Transactions under way, in order.
    commits: FuturesOrdered<CommitAnswer>,
    pub(super) loader: Loader,
    pub(super) care: DatabaseCare,
    pub(super) journal: Journal,
    /// When it is looked whether the database is still there.
    look_due: Monotonic,
}

/// What the rows have to say.
#[derive(Debug)]
pub(super) enum StoreEvent {
    /// The oldest transaction is durable, or failed.
    Landed(Commit),
    /// Some of what a start leaves for later.
    Read(Result<StoredRows, Error>),
    /// A job of the care for the database ended.
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

    /// Waits for what is next; for ever while nothing is under way.
    pub(super) async fn next(&mut self) -> StoreEvent {
        tokio::select! {
            Some(commit) = self.commits.next() => StoreEvent::Landed(commit),
            portion = self.loader.next() => StoreEvent::Read(portion),
            ended = self.care.next() => StoreEvent::Cared(ended),
        }
    }

    /// Returns the answer to the oldest transaction, when it is there already.
    pub(super) fn try_landed(&mut self) -> Option<Commit> {
        self.commits.next().now_or_never().flatten()
    }

    /// Returns whether everything that was submitted is durable.
    pub(super) fn is_clear(&self) -> bool {
        self.commits.is_empty()
    }

    /// Returns when something is due by itself.
    pub(super) fn deadline(&self) -> Monotonic {
        self.care.deadline().map_or(self.look_due, |due| due.min(self.look_due))
    }

    /// Begins what is due for the database, and gives up what has to wait.
    pub(super) fn care_for(&mut self, is_sending: bool, now: Now) {
        self.care.look(&self.store, is_sending, now);
    }

    /// Looks, when that is due, whether the database was removed or replaced: what would be written is lost.
    pub(super) fn look(&mut self, now: Monotonic) -> Result<(), Error> {
        if self.look_due <= now {
            self.look_due = now.after(STATE_INTERVAL);
            self.thread.look()?;
        }
        Ok(())
    }

    /// Waits until everything that was submitted is durable, and ends. `closed` is called when nothing is
    /// written any more, before the database is closed.
    pub(super) async fn finish(mut self, closed: impl FnOnce()) -> Result<(), Error> {
        while let Some(commit) = self.commits.next().await {
            refused(commit)?;
        }
        // The last connection that closes removes the WAL.
        self.thread.look()?;
        // It writes through the store, which ends when all have let go of it.
        self.care.finish();
        self.loader.finish();
        drop(self.store);
        closed();
        self.thread.finish();
        Ok(())
    }
}

/// Returns what of a commit could not be stored.
pub(super) fn refused(commit: Commit) -> Result<Vec<Refused>, Error> {
    commit.unwrap_or_else(|_| Err(Error::poisoned()))
}

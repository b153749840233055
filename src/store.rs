//! The store: the rows, which are the only state.
//!
//! *Owns* `STATE/dropferry.db` and its lock. One writer thread holds the one read-write connection;
//! everybody else sends it [`Record`]s through [`Store::submit`] and is answered after the commit.
//! Readers open a [`snapshot::Snapshot`], while the daemon runs or while it is down. [`care`] copies
//! and checks the file.
//!
//! *Promises*: what was answered with `Ok` survives a power cut (WAL, `synchronous=FULL`); records
//! are applied in the order of submission; those of one submission in one transaction; every fact
//! about an upload goes through the law in `model/upload.rs`, and `CHECK`s repeat it.
//!
//! *Never*: deletes or repairs a database; retries a commit that failed. A failed commit poisons the
//! store: every waiter gets the error, nothing more is written, and the process must end, for what
//! it remembers may be more than what is on disk.
//!
//! *At a crash* the WAL has every answered transaction whole and no other; the next start reads it.

pub mod care;
mod columns;
mod lock;
pub mod rest;
mod rows;
mod schema;
pub mod snapshot;
pub mod writer;

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use crate::model::{
    Admission, DestinationName, Disposal, DropName, Fingerprint, IgnoreReason, PartState,
    PathDigest, Record, RemoteUploadId, RootIdentity, Scope, SourcePath, Standing, StoredOutbox,
    UnitRow, UploadId, UploadState, WallTime,
};

/// Tells whether a daemon runs on a state directory.
pub fn is_in_use(directory: &Path) -> bool {
    lock::is_taken(directory)
}

/// Where the state is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The state directory; made when missing.
    pub directory: PathBuf,
}

/// Who runs on this state, for `status`.
#[derive(Debug, Clone)]
pub struct Runner {
    /// Process id.
    pub pid: u32,
    /// Program version.
    pub version: String,
    /// When it started.
    pub started_at: WallTime,
}

/// What was stored when the store was opened.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Uploads that have not ended and are more than queued; [`rest::Rest`] reads the others, so that
    /// they are never all in memory in full.
    pub uploads: Vec<LoadedUpload>,
    /// Remote uploads to remove.
    pub cleanups: Vec<(DestinationName, RemoteUploadId)>,
    /// Drops whose end a platform is still to be told.
    pub open_drops: Vec<(DestinationName, DropName, String)>,
    /// Drops as units, with their words; the samples of its sheet are words named `samples`.
    pub units: Vec<(UnitRow, UnitWords)>,
    /// Sources that are to be disposed of.
    pub disposals: Vec<Disposal>,
    /// Paths that are not uploaded.
    pub ignored: Vec<(DropName, PathDigest, IgnoreReason)>,
    /// Of these, directories that may not be read.
    pub unreadable: Vec<(DropName, SourcePath)>,
    /// Drop directories: where each was, and which directory, when its files were last seen.
    pub roots: Vec<(DropName, String, RootIdentity)>,
    /// What people are still to be told.
    pub outbox: StoredOutbox,
    /// What operators ordered, and since when.
    pub orders: Vec<(Standing, Scope, WallTime)>,
    /// The rate that was ordered: bytes a second, none is unlimited.
    pub bandwidth: Option<Option<u64>>,
    /// How the database is cared for.
    pub care: care::Cared,
    /// The id after the last one ever given.
    pub next_upload: Option<UploadId>,
}

/// Words of a unit and what it says under them.
pub type UnitWords = Vec<(String, String)>;

/// One upload as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedUpload {
    /// What was frozen, with the name in force.
    pub admission: Admission,
    /// How far it is.
    pub state: UploadState,
    /// Its parts in order, when it has a layout.
    pub parts: Vec<PartState>,
}

/// One file that was uploaded or given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFile {
    /// From which drop directory.
    pub drop: DropName,
    /// Which file.
    pub path: PathDigest,
    /// Which version.
    pub fingerprint: Fingerprint,
    /// To where.
    pub destination: DestinationName,
}

/// The answer to a submission, after its commit.
pub type Answer = oneshot::Receiver<Result<(), Error>>;

/// Submissions that may wait for the writer. The daemon submits one per turn of its loop, and the
/// engine bounds what can be under way, so this many never pile up; if they did, the writer is stuck.
const QUEUE_MAX: usize = 65_536;

/// The handle: cheap to clone, safe to share.
#[derive(Debug, Clone)]
pub struct Store {
    submissions: mpsc::Sender<Submission>,
}

/// The writer thread; joined by [`Thread::finish`].
#[derive(Debug)]
pub struct Thread {
    handle: JoinHandle<()>,
}

/// What the writer does for the database itself, one short piece at a time.
#[derive(Debug, Clone)]
pub enum Tend {
    /// Removes parts and failed attempts of uploads that ended before a moment.
    Prune {
        /// The moment.
        ended_before: WallTime,
        /// When they are removed.
        at: WallTime,
    },
    /// Gives free pages back to the file system.
    FreePages,
    /// Folds the WAL into the database and cuts it, unless a reader holds it.
    FoldLog,
    /// Notes how a copy ended.
    BackupEnded {
        /// When.
        at: WallTime,
        /// Why there is none.
        failure: Option<String>,
    },
    /// Notes what a check found.
    Checked {
        /// When.
        at: WallTime,
        /// What.
        verdict: care::Verdict,
    },
}

/// Whether there is more of the same to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tended {
    /// There is none.
    Done,
    /// There may be.
    More,
}

#[derive(Debug)]
enum Submission {
    Records(Vec<Record>, oneshot::Sender<Result<(), Error>>),
    Tend(Tend, oneshot::Sender<Result<Tended, Error>>),
}

impl Store {
    /// Lets a writer run on a thread of its own, once all was read that a start needs.
    ///
    /// # Errors
    /// When there is no such thread to be had, or nothing can be written.
    pub fn start(mut writer: writer::Writer, runner: &Runner) -> Result<(Self, Thread), Error> {
        writer.introduce(runner)?;
        let path = writer.directory().to_owned();
        let (submissions, inbox) = mpsc::channel(QUEUE_MAX);
        let run = move || writer::run(writer, inbox);
        let handle = std::thread::Builder::new()
            .name("store".into())
            .spawn(run)
            .map_err(|source| Error::io("start the writer for", &path, source))?;
        Ok((Self { submissions }, Thread { handle }))
    }

    /// Lines records up to be written in one transaction, after all that was submitted before. The
    /// answer comes after the commit; an empty list is a barrier.
    pub fn submit(&self, records: Vec<Record>) -> Answer {
        let (answer, receiver) = oneshot::channel();
        self.hand_over(Submission::Records(records, answer));
        receiver
    }

    /// Asks for one piece of care, after all that was submitted before. What fails of it poisons
    /// nothing.
    pub fn tend(&self, tend: Tend) -> oneshot::Receiver<Result<Tended, Error>> {
        let (answer, receiver) = oneshot::channel();
        self.hand_over(Submission::Tend(tend, answer));
        receiver
    }

    fn hand_over(&self, submission: Submission) {
        let Err(refused) = self.submissions.try_send(submission) else { return };
        // A receiver that is gone needs no answer.
        match refused.into_inner() {
            Submission::Records(_, answer) => drop(answer.send(Err(Error::poisoned()))),
            Submission::Tend(_, answer) => drop(answer.send(Err(Error::poisoned()))),
        }
    }

    /// Writes records and waits for the commit.
    ///
    /// # Errors
    /// When the commit failed, now or before.
    pub async fn commit(&self, records: Vec<Record>) -> Result<(), Error> {
        self.submit(records).await.unwrap_or_else(|_| Err(Error::poisoned()))
    }
}

impl Thread {
    /// Waits until everything submitted is written and the WAL is folded into the database. All
    /// handles must be gone.
    pub fn finish(self) {
        // A panic aborts the process, so the thread can only have ended well.
        drop(self.handle.join());
    }
}

/// What went wrong with the state.
#[derive(Debug, Clone)]
pub struct Error {
    /// What we were doing.
    doing: &'static str,
    /// To which file.
    path: PathBuf,
    /// Why it failed.
    pub kind: Kind,
}

/// Why it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Another daemon runs on this state.
    Locked,
    /// The database was written by a newer program.
    Newer {
        /// Its version.
        found: usize,
        /// The newest this program knows.
        known: usize,
    },
    /// The database is damaged.
    Corrupt {
        /// What the check said.
        detail: String,
    },
    /// There is no database.
    Missing,
    /// A migration failed; the database is as it was.
    Migration {
        /// Why.
        detail: String,
    },
    /// The disk or SQLite failed.
    Failed {
        /// Why.
        detail: String,
    },
    /// A commit failed before; nothing is written any more.
    Poisoned,
}

impl Error {
    fn sqlite(doing: &'static str, path: &Path, source: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{CannotOpen, DatabaseCorrupt, NotADatabase};
        let detail = source.to_string();
        let kind = match source.sqlite_error_code() {
            Some(DatabaseCorrupt | NotADatabase) => Kind::Corrupt { detail },
            Some(CannotOpen) if !path.exists() => Kind::Missing,
            _ => Kind::Failed { detail },
        };
        Self { doing, path: path.to_owned(), kind }
    }

    fn io(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self { doing, path: path.to_owned(), kind: Kind::Failed { detail: source.to_string() } }
    }

    /// The error of everything after a failed commit.
    pub fn poisoned() -> Self {
        Self { doing: "write to", path: "the database".into(), kind: Kind::Poisoned }
    }

    /// Returns what an operator can do about it, when we know.
    pub fn hint(&self) -> Option<String> {
        match &self.kind {
            Kind::Locked => {
                Some("stop the other daemon, or give this one another [state] directory".into())
            }
            Kind::Newer { .. } => {
                Some("install the version of dropferry that last ran on this state".into())
            }
            Kind::Corrupt { .. } => Some(format!(
                "nothing was deleted; move {} and its -wal and -shm files aside and restore a backup, \
                 or start without: files are found again and compared with the destination",
                self.path.display()
            )),
            Kind::Missing => Some("start the daemon once, or check [state] directory".into()),
            Kind::Migration { .. } => Some("the database is as it was; report the message".into()),
            Kind::Failed { .. } | Kind::Poisoned => {
                Some("check free space, permissions and the health of the disk".into())
            }
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "cannot {} {}: ", self.doing, self.path.display())?;
        match &self.kind {
            Kind::Locked => f.write_str("another daemon runs on this state"),
            Kind::Newer { found, known } => {
                write!(f, "it has version {found}, this program knows up to version {known}")
            }
            Kind::Corrupt { detail } => write!(f, "the database is damaged: {detail}"),
            Kind::Missing => f.write_str("it is not there"),
            Kind::Migration { detail } | Kind::Failed { detail } => f.write_str(detail),
            Kind::Poisoned => f.write_str("a commit failed before, nothing is written any more"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;

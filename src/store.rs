//! The store: the rows, which are the only state.
//!
//! *Owns* `STATE/dropferry.db` and its lock. One writer thread holds the one read-write connection;
//! all other modules send it [`Record`]s through [`Store::submit`] and are answered after the
//! commit. Readers open a [`snapshot::Snapshot`], whether the daemon runs or not. [`care`] copies
//! and checks the file.
//!
//! *Promises*: a submission that was answered with `Ok` survives a power cut (WAL, `synchronous=FULL`);
//! records are applied in the order of submission, those of one submission in one transaction; every
//! fact about an upload goes through the law in `model/upload.rs`, and `CHECK`s repeat it.
//!
//! *Never*: deletes or repairs a database; retries a commit that the disk failed. Such a failure
//! poisons the store: every waiter gets the error, nothing more is written, and the process must
//! end, because its memory may be ahead of the disk. A record that is refused for its own values is
//! no such failure: its upload is parked, and the submission's answer names it.
//!
//! *At a crash* the WAL holds every answered transaction completely and no other; the next start reads it.

pub(crate) mod care;
mod columns;
mod directory;
mod lock;
mod process;
pub mod rest;
pub(crate) mod restore;
mod rows;
mod schema;
pub mod snapshot;
pub mod writer;

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use crate::model::{Record, StoredState, WallTime};

/// Returns whether a daemon runs on a state directory.
pub(crate) fn is_in_use(directory: &Path) -> bool {
    lock::is_taken(directory) == Some(true)
}

#[derive(Debug, Clone)]
pub struct Settings {
    /// The state directory; created when missing.
    pub directory: PathBuf,
    /// Start without a database, although receipts or copies of one are there.
    pub is_new: bool,
}

/// Checks a state directory before anything in it is opened: who may write there, the kinds of its
/// files, whether its database was lost.
pub(crate) fn check(path: &Path) -> Result<(), Error> {
    directory::check(path)?;
    directory::lack(path).map_or(Ok(()), |lack| directory::refuse_loss(path, lack))
}

/// The daemon that runs on this state, for `status`.
#[derive(Debug, Clone)]
pub struct Runner {
    pub pid: u32,
    pub version: String,
    pub started_at: WallTime,
}

/// What was loaded when the store was opened. [`rest::Rest`] reads the queued uploads in portions,
/// so that they are never all in memory in full.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The engine's initial state.
    pub state: StoredState,
    /// The ordered bandwidth in bytes per second; inner `None` for unlimited.
    pub bandwidth: Option<Option<u64>>,
    pub care: care::Cared,
}

/// The answer to a submission, after its commit: the records that could not be stored.
pub(crate) type CommitAnswer = oneshot::Receiver<Result<Vec<writer::Refused>, Error>>;

/// Limit of submissions that wait for the writer. The daemon submits one per turn of its loop, and the
/// engine bounds the work in progress, so this many never queue; if they did, the writer is stuck.
const QUEUE_MAX: usize = 65_536;

/// The handle: cheap to clone, safe to share.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    submissions: mpsc::Sender<Submission>,
}

/// The writer thread; joined by [`Thread::finish`].
#[derive(Debug)]
pub(crate) struct Thread {
    handle: JoinHandle<()>,
    in_use: directory::InUse,
}

/// Maintenance that the writer does on the database, one short piece at a time.
#[derive(Debug, Clone)]
pub(crate) enum Tend {
    /// Removes parts and failed attempts of uploads that ended before a moment.
    Prune {
        ended_before: WallTime,
        at: WallTime,
    },
    /// Returns free pages to the file system.
    FreePages,
    /// Checkpoints and truncates the WAL, unless a reader holds it.
    FoldLog,
    BackupEnded {
        at: WallTime,
        /// Why there is none.
        failure: Option<String>,
    },
    Checked {
        at: WallTime,
        verdict: care::CheckVerdict,
    },
}

/// Whether more of the same is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tended {
    /// Nothing is left.
    Done,
    More,
}

#[derive(Debug)]
enum Submission {
    Records(Vec<Record>, oneshot::Sender<Result<Vec<writer::Refused>, Error>>),
    Tend(Tend, oneshot::Sender<Result<Tended, Error>>),
}

impl Store {
    /// Starts a writer on its own thread, after the rows that a start needs were read.
    pub(crate) fn start(
        mut writer: writer::Writer,
        runner: &Runner,
    ) -> Result<(Self, Thread), Error> {
        writer.introduce(runner)?;
        let path = writer.directory().to_owned();
        let in_use = directory::InUse::of(&path);
        let (submissions, inbox) = mpsc::channel(QUEUE_MAX);
        let run = move || writer::run(writer, inbox);
        let handle = std::thread::Builder::new()
            .name("store".into())
            .spawn(run)
            .map_err(|source| Error::io("start the writer for", &path, source))?;
        Ok((Self { submissions }, Thread { handle, in_use }))
    }

    /// Queues records for one transaction, after everything submitted before. The answer comes
    /// after the commit; an empty list is a barrier.
    pub(crate) fn submit(&self, records: Vec<Record>) -> CommitAnswer {
        let (answer, receiver) = oneshot::channel();
        self.hand_over(Submission::Records(records, answer));
        receiver
    }

    /// Requests one piece of maintenance, after everything submitted before. Its failures do not
    /// poison the store.
    pub(crate) fn tend(&self, tend: Tend) -> oneshot::Receiver<Result<Tended, Error>> {
        let (answer, receiver) = oneshot::channel();
        self.hand_over(Submission::Tend(tend, answer));
        receiver
    }

    fn hand_over(&self, submission: Submission) {
        let Err(refused) = self.submissions.try_send(submission) else { return };
        // A dropped receiver needs no answer.
        match refused.into_inner() {
            Submission::Records(_, answer) => drop(answer.send(Err(Error::poisoned()))),
            Submission::Tend(_, answer) => drop(answer.send(Err(Error::poisoned()))),
        }
    }
}

impl Thread {
    /// Checks that the database files are still those that are written to.
    ///
    /// # Errors
    /// When one was removed or replaced: later writes are lost.
    pub(crate) fn look(&self) -> Result<(), Error> {
        self.in_use.look()
    }

    /// Waits until everything submitted is written and the WAL is checkpointed. All handles must be
    /// dropped.
    pub(crate) fn finish(self) {
        // A panic aborts the process, so the thread can only have ended well.
        drop(self.handle.join());
    }
}

/// What went wrong with the state.
#[derive(Debug, Clone)]
pub struct Error {
    doing: &'static str,
    path: PathBuf,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Another daemon runs on this state.
    Locked,
    /// The database was written by a newer program.
    Newer {
        found: usize,
        /// The newest version that this program knows.
        known: usize,
    },
    Corrupt {
        detail: String,
    },
    Missing,
    /// It is missing or empty, although an earlier one has left files.
    Lost {
        lack: &'static str,
        remains: &'static str,
    },
    /// It was removed or replaced while it was in use.
    Gone,
    /// The state directory belongs to another user.
    Foreign {
        owner: u32,
        /// The user of this process.
        us: u32,
    },
    /// Others may write to it, or it is of the wrong kind.
    Refused {
        detail: String,
        /// What an operator can do.
        cure: String,
    },
    /// A migration failed; the database is unchanged.
    Migration {
        detail: String,
    },
    /// The disk or SQLite failed.
    Failed {
        detail: String,
    },
    /// A commit failed earlier; nothing more is written.
    Poisoned,
}

/// The action of readers, for errors.
const READ: &str = "open the database for reading";

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

    /// Returns the error of every submission after a failed commit.
    pub fn poisoned() -> Self {
        Self { doing: "write to", path: "the database".into(), kind: Kind::Poisoned }
    }

    /// Returns the ways to get a database back.
    fn ways(&self) -> String {
        format!(
            "dropferry restore --backup FILE puts a copy back ({} may have one), \
             dropferry restore --receipts rebuilds it from the receipts; see docs/backup.md",
            self.path.with_file_name("backups").display()
        )
    }

    /// Returns what an operator can do, where that is known.
    pub fn hint(&self) -> Option<String> {
        match &self.kind {
            Kind::Locked => {
                Some("stop the other daemon, or give this one another [state] directory".into())
            }
            Kind::Newer { .. } => {
                Some("install the version of dropferry that last ran on this state".into())
            }
            Kind::Corrupt { .. } => Some(format!("nothing was deleted; {}", self.ways())),
            Kind::Missing => Some(
                "start the daemon, or set [state] directory to where it keeps its state".into(),
            ),
            Kind::Lost { .. } => Some(self.ways()),
            Kind::Gone => Some(
                "what the daemon knew since is lost; put the file back or restore a copy, as \
                 docs/backup.md says, then start it again"
                    .into(),
            ),
            Kind::Foreign { us, .. } => Some(format!(
                "run this as its owner, or give it away: chown -R {us} {}",
                self.path.display()
            )),
            Kind::Refused { cure, .. } => Some(cure.clone()),
            Kind::Migration { .. } => Some("the database is as it was; report the message".into()),
            Kind::Failed { .. } | Kind::Poisoned => {
                Some("check free space, permissions and the health of the disk".into())
            }
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.kind == Kind::Missing && self.doing == READ {
            let state = self.path.parent().unwrap_or(&self.path);
            return write!(f, "no daemon has run on this state ({}) yet", state.display());
        }
        write!(f, "cannot {} {}: ", self.doing, self.path.display())?;
        match &self.kind {
            Kind::Locked => f.write_str("another daemon runs on this state"),
            Kind::Newer { found, known } => {
                write!(f, "it has version {found}, this program knows up to version {known}")
            }
            Kind::Corrupt { detail } => write!(f, "the database is damaged: {detail}"),
            Kind::Missing => f.write_str("it is not there"),
            Kind::Lost { lack, remains } => {
                write!(f, "{lack}, although an earlier one left {remains}")
            }
            Kind::Gone => f.write_str("it was removed or replaced while the daemon ran"),
            Kind::Foreign { owner, us } => {
                write!(f, "it belongs to user {owner}, and this is user {us}")
            }
            Kind::Refused { detail, .. } => f.write_str(detail),
            Kind::Migration { detail } | Kind::Failed { detail } => f.write_str(detail),
            Kind::Poisoned => f.write_str("a commit failed before, nothing is written any more"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;

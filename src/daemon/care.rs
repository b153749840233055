//! Maintenance of the database and the ledgers while the daemon runs: copies, checks, tidying.
//!
//! The loop decides when ([`plan::Plan`]) and knows whether it is idle; the work runs on a thread
//! of its own, one job at a time, and its result comes back to the loop, which logs it. Checks and
//! tidying are cancelled when something is to be sent, and everything when the daemon stops.
//!
//! *Never* stops the daemon: a failure is a line in the log and in `status`, and is retried. *After
//! a crash* nothing has to be done: the next copy removes a partial one.

mod ledgers;
mod plan;

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use self::plan::{CareJob, Plan};
use crate::config;
use crate::model::{LedgerFinding, Monotonic, Now, WallTime};
use crate::store::care::{self, Backups, Cared, CheckVerdict, Halt};
use crate::store::{Error, Store, Tend, Tended};

/// From this length on the WAL is checkpointed while idle: twice its usual length.
const WAL_LARGE: u64 = 8 << 20;
/// Interval at which a stop checks whether the thread has ended.
const STOP_PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct DatabaseCare {
    config: config::Care,
    directory: PathBuf,
    plan: Plan,
    started: Now,
    /// Nothing has been sent since then.
    idle_since: Option<Monotonic>,
    running: Option<Running>,
    /// The last copy failed: the failure is logged once, until a copy succeeds.
    is_copy_failing: bool,
    sender: mpsc::Sender<Ended>,
    ended: mpsc::Receiver<Ended>,
}

#[derive(Debug)]
struct Running {
    job: CareJob,
    halt: Halt,
    thread: JoinHandle<()>,
}

/// How a job ended; `None` where it was cancelled.
#[derive(Debug)]
pub(super) enum Ended {
    Backup(Result<Option<PathBuf>, Error>),
    Check(Result<Option<Checked>, Error>),
    Tidy(Result<Option<()>, Error>),
}

/// The result of a check.
#[derive(Debug)]
pub(super) struct Checked {
    verdict: CheckVerdict,
    ledgers: Vec<LedgerFinding>,
}

/// The inputs of a job on its thread.
struct Work {
    directory: PathBuf,
    store: Store,
    halt: Halt,
    at: WallTime,
}

impl DatabaseCare {
    /// Starts with the history of earlier processes.
    pub(super) fn new(config: &config::Config, cared: &Cared, now: Now) -> Self {
        let (sender, ended) = mpsc::channel(1);
        Self {
            config: config.care.clone(),
            directory: config.state_directory.clone(),
            plan: Plan::new(&config.care, cared, now),
            started: now,
            idle_since: Some(now.monotonic),
            running: None,
            is_copy_failing: false,
            sender,
            ended,
        }
    }

    pub(super) fn configure(&mut self, config: &config::Care, now: Monotonic) {
        self.plan.configure(config, now);
        self.config = config.clone();
    }

    /// Returns when the next job is due.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        match self.running {
            Some(_) => None,
            None => self.plan.next(self.idle_since).map(|(at, _)| at),
        }
    }

    pub(super) async fn next(&mut self) -> Ended {
        match self.ended.recv().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    /// Records and logs how a job ended. Returns the ledgers that differ from their rows.
    pub(super) fn on_ended(&mut self, ended: Ended, now: Now) -> Vec<LedgerFinding> {
        let mut found = Vec::new();
        let Some(Running { job, thread, .. }) = self.running.take() else { return found };
        // It has sent its result; a panic would have ended the process.
        thread.join().unwrap_or(());
        let is_done = match ended {
            Ended::Backup(Ok(None)) | Ended::Check(Ok(None)) | Ended::Tidy(Ok(None)) => {
                return found;
            }
            Ended::Backup(Ok(Some(copy))) => {
                let bytes = std::fs::metadata(&copy).map_or(0, |found| found.len());
                tracing::info!(path = %copy.display(), bytes, "the database is backed up");
                self.is_copy_failing = false;
                true
            }
            Ended::Backup(Err(error)) => {
                if !std::mem::replace(&mut self.is_copy_failing, true) {
                    tracing::warn!("the database is not backed up: {error}");
                }
                false
            }
            Ended::Check(Ok(Some(Checked { verdict, ledgers }))) => {
                if verdict.is_sound {
                    tracing::info!("the database is sound");
                } else {
                    let detail = verdict.detail.unwrap_or_default();
                    tracing::error!("the database is damaged: {detail}; restore a backup");
                }
                found = ledgers;
                true
            }
            Ended::Check(Err(error)) => {
                tracing::warn!("the database cannot be checked: {error}");
                false
            }
            Ended::Tidy(Ok(Some(()))) => true,
            Ended::Tidy(Err(error)) => {
                tracing::warn!("the database is not tidied: {error}");
                false
            }
        };
        self.plan.ended(job, is_done, now.monotonic);
        found
    }

    /// Starts due jobs, and cancels those that must wait.
    pub(super) fn look(&mut self, store: &Store, is_sending: bool, now: Now) {
        self.idle_since = match is_sending {
            true => None,
            false => self.idle_since.or(Some(now.monotonic)),
        };
        if let Some(running) = &self.running {
            if is_sending && running.job != CareJob::Backup {
                running.halt.ask();
            }
            return;
        }
        match self.plan.next(self.idle_since) {
            Some((at, job)) if at <= now.monotonic => self.begin(job, store, now),
            Some(_) | None => {}
        }
    }

    fn begin(&mut self, job: CareJob, store: &Store, now: Now) {
        let halt = Halt::default();
        let (directory, store) = (self.directory.clone(), store.clone());
        let work = Work { directory, store, halt: halt.clone(), at: now.wall };
        let (kept, keep_parts) = (self.config.backups_kept, self.config.keep_parts);
        let sender = self.sender.clone();
        let present = plan::present(self.started, now);
        let run = move || {
            let ended = match job {
                CareJob::Backup => Ended::Backup(work.back_up(kept)),
                CareJob::Check => Ended::Check(work.check()),
                CareJob::Tidy => Ended::Tidy(work.tidy(keep_parts, present)),
            };
            // A loop that has ended needs no result.
            sender.blocking_send(ended).unwrap_or(());
        };
        match std::thread::Builder::new().name("care".into()).spawn(run) {
            Ok(thread) => self.running = Some(Running { job, halt, thread }),
            Err(error) => {
                tracing::warn!("there is no thread to care for the database: {error}");
                self.plan.ended(job, false, now.monotonic);
            }
        }
    }

    /// Cancels the running job, and waits for its end.
    pub(super) fn finish(mut self) {
        self.ended.close();
        let Some(Running { halt, thread, .. }) = self.running.take() else { return };
        while !thread.is_finished() {
            halt.ask();
            std::thread::sleep(STOP_PAUSE);
        }
        thread.join().unwrap_or(());
    }
}

impl Work {
    fn back_up(&self, kept: usize) -> Result<Option<PathBuf>, Error> {
        let made = care::back_up(&self.directory, Backups { kept, at: self.at }, &self.halt);
        let failure = match &made {
            Ok(None) => return made,
            Ok(Some(_)) => None,
            Err(error) => Some(error.to_string()),
        };
        self.tend(Tend::BackupEnded { at: self.at, failure })?;
        made
    }

    fn check(&self) -> Result<Option<Checked>, Error> {
        let Some(verdict) = care::check(&self.directory, &self.halt)? else { return Ok(None) };
        let found = ledgers::check(&self.directory, &self.halt)?;
        let Some(ledgers) = found else { return Ok(None) };
        self.tend(Tend::Checked { at: self.at, verdict: verdict.clone() })?;
        Ok(Some(Checked { verdict, ledgers }))
    }

    fn tidy(&self, keep: Option<Duration>, present: WallTime) -> Result<Option<()>, Error> {
        let mut tends = Vec::new();
        if let Some(keep) = keep {
            let keep = i64::try_from(keep.as_nanos()).unwrap_or(i64::MAX);
            let ended_before = WallTime(present.0.saturating_sub(keep));
            tends.push(Tend::Prune { ended_before, at: self.at });
        }
        tends.push(Tend::FreePages);
        for tend in tends {
            while self.tend(tend.clone())? == Tended::More {
                if self.halt.is_asked() {
                    return Ok(None);
                }
            }
        }
        let (_, wal_bytes) = care::sizes(&self.directory);
        if wal_bytes > WAL_LARGE {
            self.tend(Tend::FoldLog)?;
        }
        ledgers::remove_sent_sentinels(&self.directory)?;
        Ok(Some(()))
    }

    fn tend(&self, tend: Tend) -> Result<Tended, Error> {
        self.store.tend(tend).blocking_recv().unwrap_or_else(|_| Err(Error::poisoned()))
    }
}

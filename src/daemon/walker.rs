//! The thread on which a drop directory is walked.
//!
//! Results of a walk are freed on other threads, and the allocator keeps that much memory for each
//! thread that ever walked. So all walks of a drop directory run on one permanent thread, and the
//! daemon's memory does not grow with their number. *At a crash* nothing is lost.

use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::sync::oneshot;

use super::workers::{ActReply, cancelled, failed};
use crate::model::{Failure, FailureKind};

type WalkJob = Box<dyn FnOnce() + Send>;

/// Limit of waiting walks: the engine requests one at a time, and a cancelled one may remain.
const JOBS_MAX: usize = 4;

/// The thread of one drop directory; started by the first walk, ends with its owner.
#[derive(Debug, Default)]
pub(crate) struct Walker {
    jobs: OnceLock<SyncSender<WalkJob>>,
}

impl Walker {
    /// Runs a walk after those before it.
    pub(crate) async fn run(&self, walk: impl FnOnce() -> ActReply + Send + 'static) -> ActReply {
        let (answer, walked) = oneshot::channel();
        // A cancelled caller needs no answer.
        let job: WalkJob = Box::new(move || drop(answer.send(walk())));
        let refused = match self.jobs() {
            Ok(jobs) => jobs.try_send(job).err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = refused {
            let message = format!("the thread that walks the drop directory: {why}");
            return failed(Failure::new(FailureKind::LocalFault, message));
        }
        walked.await.unwrap_or_else(|_| cancelled())
    }

    fn jobs(&self) -> std::io::Result<&SyncSender<WalkJob>> {
        if let Some(jobs) = self.jobs.get() {
            return Ok(jobs);
        }
        let (sender, inbox) = sync_channel::<WalkJob>(JOBS_MAX);
        let work = move || inbox.iter().for_each(|job| job());
        std::thread::Builder::new().name("walker".into()).spawn(work)?;
        Ok(self.jobs.get_or_init(|| sender))
    }
}

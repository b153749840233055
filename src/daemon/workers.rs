//! The pool: every act runs here, and returns exactly one outcome.
//!
//! The engine decides how many run at once (permits, lanes, one look and one scan per drop
//! directory); the pool delays none and starts nothing by itself. A cancelled act returns an
//! outcome too, so the engine's counts are always correct.

use std::future::Future;

use tokio::task::JoinSet;

use crate::engine::event::{ActId, Outcome, Setback};
use crate::model::{ByteCount, Failure, FailureKind};

/// The result of an act.
pub(crate) type ActReply = Result<Outcome, Setback>;

#[derive(Debug, Default)]
pub(crate) struct Workers {
    running: JoinSet<(ActId, ActReply)>,
    cut: bool,
}

impl Workers {
    pub(crate) fn start(
        &mut self,
        id: ActId,
        act: impl Future<Output = ActReply> + Send + 'static,
    ) {
        self.running.spawn(async move { (id, act.await) });
    }

    /// Waits for the next act to end; never returns while none runs.
    pub(crate) async fn next(&mut self) -> (ActId, ActReply) {
        loop {
            match self.running.join_next().await {
                Some(Ok(ended)) => return ended,
                // Only a cancelled task gets here: a panic ends the process. Its outcome is not needed any more.
                Some(Err(_)) => {}
                None => std::future::pending::<()>().await,
            }
        }
    }

    /// Returns an act that has ended already, if any has.
    pub(crate) fn try_next(&mut self) -> Option<(ActId, ActReply)> {
        self.running.try_join_next().and_then(Result::ok)
    }

    pub(crate) fn abort(&mut self) {
        self.cut = true;
        self.running.abort_all();
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut
    }
}

/// The outcome of an act that was cancelled because the daemon stops.
pub(crate) fn cancelled() -> ActReply {
    failed(Failure::new(FailureKind::Cancelled, "the daemon stops"))
}

/// The outcome of an act that failed before any byte was sent.
pub(crate) fn failed<T>(failure: Failure) -> Result<T, Setback> {
    Err(Setback { failure, sent: ByteCount(0) })
}

/// A failure of this machine, not of a destination.
pub(crate) fn local(why: impl std::fmt::Display) -> Failure {
    Failure::new(FailureKind::LocalFault, why.to_string())
}

/// Runs blocking code on a thread of its own.
pub(crate) async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Setback> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.or_else(failed),
        Err(_) => failed(Failure::new(FailureKind::Cancelled, "the daemon stops")),
    }
}

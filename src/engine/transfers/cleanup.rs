//! Remote uploads to remove at a destination: queued in rows, removed a few at a time, retried for
//! as long as it takes.
//!
//! One that was replaced by another is kept until that was begun, or its begin was refused: some
//! platforms accept no second one beside it. Its row names the upload, so a start keeps it too.

use std::collections::BTreeMap;

use super::{TransferAct, TransferTurn};
use crate::engine::event::{Act, ActId, Outcome, Setback};
use crate::engine::failure;
use crate::model::{
    Call, DestinationName, Monotonic, OpenCleanup, Record, RemoteUploadId, TargetId, UploadId,
};

const CLEANUP_MAX: usize = 2;

#[derive(Debug, Default)]
pub(super) struct Cleanups(BTreeMap<RemoteUploadId, Cleanup>);

/// When to retry, the failures so far, and the act in flight.
#[derive(Debug, Clone, Copy)]
struct Cleanup {
    target: TargetId,
    due: Monotonic,
    failure_count: u32,
    act: Option<ActId>,
    /// It waits until this upload has begun another one.
    waits_for: Option<UploadId>,
}

impl Cleanup {
    fn is_waiting(&self) -> bool {
        self.act.is_none() && self.waits_for.is_none()
    }
}

impl Cleanups {
    pub(super) fn queue(&mut self, what: OpenCleanup, due: Monotonic) {
        let OpenCleanup { target, remote, after: waits_for, .. } = what;
        let cleanup = Cleanup { target, due, failure_count: 0, act: None, waits_for };
        self.0.entry(remote).or_insert(cleanup);
    }

    /// Returns whether a remote upload is to be removed.
    pub(super) fn has(&self, remote: &RemoteUploadId) -> bool {
        self.0.contains_key(remote)
    }

    pub(super) fn release(&mut self, upload: UploadId) {
        let held = self.0.values_mut().filter(|cleanup| cleanup.waits_for == Some(upload));
        held.for_each(|cleanup| cleanup.waits_for = None);
    }

    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        let waiting = self.0.values().filter(|cleanup| cleanup.is_waiting());
        self.room().and_then(|_| waiting.map(|cleanup| cleanup.due).min())
    }

    /// Returns how many may start, unless none may.
    fn room(&self) -> Option<usize> {
        let count = self.0.values().filter(|cleanup| cleanup.act.is_some()).count();
        CLEANUP_MAX.checked_sub(count).filter(|room| *room > 0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes and returns its queue.
    pub(super) fn take(&mut self, destination: &DestinationName) -> Vec<OpenCleanup> {
        let what = |(remote, cleanup): (_, Cleanup)| OpenCleanup {
            destination: destination.clone(),
            target: cleanup.target,
            remote,
            after: cleanup.waits_for,
        };
        std::mem::take(&mut self.0).into_iter().map(what).collect()
    }

    pub(super) fn start(&mut self, name: &DestinationName, turn: &mut TransferTurn<'_>) {
        let Some(room) = self.room() else { return };
        let now = turn.now().monotonic;
        let due = self.0.iter_mut().filter(|(_, c)| c.is_waiting() && c.due <= now);
        for (remote, cleanup) in due.take(room) {
            let act = Act::call(name, Call::Abort(remote.clone()));
            cleanup.act = Some(turn.start(name, TransferAct::Abort(remote.clone()), act));
        }
    }

    pub(super) fn ended(
        &mut self,
        act: ActId,
        what: OpenCleanup,
        reply: Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        let cleanup = self.0.get_mut(&what.remote).filter(|c| c.act == Some(act));
        let Some(cleanup) = cleanup else {
            if reply.is_ok() && turn.shared.targets.cleanup_done(&what) {
                turn.record(Record::CleanupDone { what });
            }
            return;
        };
        let what = OpenCleanup { target: cleanup.target, ..what };
        let Err(Setback { failure, .. }) = reply else {
            self.0.remove(&what.remote);
            return turn.record(Record::CleanupDone { what });
        };
        cleanup.act = None;
        cleanup.failure_count += 1;
        let count = cleanup.failure_count;
        let delay = failure::long_delay(turn.retry(), count, count.into());
        cleanup.due = turn.now().monotonic.after(delay);
        let retry_at = turn.now().wall.after(delay);
        turn.record(Record::CleanupDelayed { what, retry_at, failure });
    }
}

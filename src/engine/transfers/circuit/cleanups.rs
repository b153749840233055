//! Remote uploads that are to be removed at a destination, a few at a time.

use super::{CLEANUP_MAX, Cleanup, Gate};
use crate::engine::event::{Act, ActId, Outcome, Setback};
use crate::engine::failure;
use crate::engine::transfers::{TransferAct, TransferTurn};
use crate::model::{Call, Monotonic, OpenCleanup, Record, RemoteUploadId, TargetId};

impl Gate {
    /// Returns how many clean-ups may start, unless none may.
    pub(super) fn cleanup_room(&self) -> Option<usize> {
        let count = self.cleanups.values().filter(|cleanup| cleanup.act.is_some()).count();
        CLEANUP_MAX.checked_sub(count).filter(|room| *room > 0)
    }

    pub(in crate::engine::transfers) fn is_clean(&self) -> bool {
        self.cleanups.is_empty()
    }

    pub(in crate::engine::transfers) fn clean_up(
        &mut self,
        remote: RemoteUploadId,
        target: TargetId,
        due: Monotonic,
    ) {
        let cleanup = Cleanup { target, due, failure_count: 0, act: None };
        self.cleanups.entry(remote).or_insert(cleanup);
    }

    /// Returns what was queued for removal, and forgets it.
    pub(in crate::engine::transfers) fn take_cleanups(&mut self) -> Vec<OpenCleanup> {
        let destination = &self.settings.name;
        let what = |(remote, cleanup): (_, Cleanup)| OpenCleanup {
            destination: destination.clone(),
            target: cleanup.target,
            remote,
        };
        std::mem::take(&mut self.cleanups).into_iter().map(what).collect()
    }

    pub(in crate::engine::transfers) fn clean(&mut self, turn: &mut TransferTurn<'_>) {
        let Some(room) = self.cleanup_room() else { return };
        let (name, now) = (&self.settings.name, turn.now().monotonic);
        let due = self.cleanups.iter_mut().filter(|(_, c)| c.act.is_none() && c.due <= now);
        for (remote, cleanup) in due.take(room) {
            let act = Act::call(name, Call::Abort(remote.clone()));
            cleanup.act = Some(turn.start(name, TransferAct::Abort(remote.clone()), act));
        }
    }

    pub(in crate::engine::transfers) fn cleaned(
        &mut self,
        act: ActId,
        remote: RemoteUploadId,
        reply: Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        let destination = self.settings.name.clone();
        let what = OpenCleanup { destination, target: self.targets.at(act), remote };
        let cleanup = self.cleanups.get_mut(&what.remote).filter(|c| c.act == Some(act));
        let Some(cleanup) = cleanup else {
            if reply.is_ok() && turn.shared.targets.cleanup_done(&what) {
                turn.record(Record::CleanupDone { what });
            }
            return;
        };
        let what = OpenCleanup { target: cleanup.target, ..what };
        let Err(Setback { failure, .. }) = reply else {
            self.cleanups.remove(&what.remote);
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

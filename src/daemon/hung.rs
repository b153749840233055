//! File reads that hang, and what must not wait for them.
//!
//! A read that hangs in the kernel cannot be ended, only abandoned: its thread stays, and its act
//! fails as with a storage error, and frees its place. *Promises*: slow reads are left alone,
//! because only a read without any progress for [`LIMIT`] is abandoned; a file is not read again
//! before its abandoned read has returned; at most [`HUNG_MAX`] threads are abandoned for one
//! device of one drop directory. While one read hangs, another one on the same device is abandoned
//! after [`SUSPECT_LIMIT`]; while the daemon drains, [`DRAIN_LIMIT`] applies.
//!
//! *At a crash* nothing is lost: the file is read again.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::context::World;
use super::workers::cancelled;
use crate::engine::event::Setback;
use crate::model::{ByteCount, DirectoryName, Failure, FailureKind, SourcePath};
use crate::source::Attend;

/// Interval of checking for progress.
pub(super) const TICK: Duration = Duration::from_secs(1);
/// Ticks after which parts that are read together are separated from a read without progress.
pub(super) const SPLIT_TICKS: u32 = 2;
/// Ticks after which a read is abandoned: until then it keeps its place among the parts in flight.
/// A disk that spins up takes longer; its file is read again a moment later.
const LIMIT: u32 = 5;
/// The same on a device where another read hangs.
const SUSPECT_LIMIT: u32 = 2;
/// The same while the daemon stops.
const DRAIN_LIMIT: u32 = 3;
/// Limit of hanging reads of one device: each keeps a thread and its memory.
const HUNG_MAX: usize = 4;

/// Returns whether an abandoned read has returned.
type HasReturned = Box<dyn FnMut() -> bool + Send>;

struct Left {
    path: SourcePath,
    device: u64,
    has_returned: HasReturned,
}

/// Abandoned reads of one drop directory.
#[derive(Default)]
pub(crate) struct Hung(Mutex<Vec<Left>>);

impl fmt::Debug for Hung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hung").finish_non_exhaustive()
    }
}

impl Hung {
    /// Returns whether a file has an abandoned read that has not returned.
    pub(super) fn is(&self, path: &SourcePath) -> bool {
        self.left().iter().any(|left| left.path == *path)
    }

    /// Fails if a read of the file, or too many of its device, hang.
    pub(super) fn check(&self, path: &SourcePath, device: u64) -> Result<(), Failure> {
        let left = self.left();
        let why = if left.iter().any(|left| left.path == *path) {
            "an earlier read of it has not come back"
        } else if left.iter().filter(|left| left.device == device).count() >= HUNG_MAX {
            "other reads of its file system have not come back"
        } else {
            return Ok(());
        };
        Err(failing(path, why))
    }

    /// Adds an abandoned read.
    pub(super) fn leave(&self, path: SourcePath, device: u64, has_returned: HasReturned) {
        self.left().push(Left { path, device, has_returned });
    }

    /// Returns the ticks that a read of a device may go without progress.
    pub(super) fn limit(&self, world: &World, device: u64) -> u32 {
        if self.left().iter().any(|left| left.device == device) {
            SUSPECT_LIMIT
        } else {
            limit(world)
        }
    }

    fn left(&self) -> MutexGuard<'_, Vec<Left>> {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain_mut(|left| !(left.has_returned)());
        left
    }
}

/// Builds the failure of a file that does not answer.
pub(super) fn failing(path: &SourcePath, why: &str) -> Failure {
    Failure::new(FailureKind::SourceFailing, format!("cannot read {path}: {why}"))
}

pub(super) fn given_up(path: &SourcePath) -> Failure {
    failing(path, "its storage does not answer")
}

/// Counts ticks without progress.
#[derive(Debug, Default)]
pub(super) struct ReadPatience {
    progress: u64,
    still: u32,
}

impl ReadPatience {
    /// Applies the progress at a tick, and returns the ticks without any.
    pub(super) fn tick(&mut self, progress: u64) -> u32 {
        self.still = if progress == self.progress { self.still + 1 } else { 0 };
        self.progress = progress;
        self.still
    }
}

/// Ticks after which a look skips its present path, which is looked at again later.
pub(super) const LOOK_LIMIT: u32 = 3;

/// Returns the ticks that a read may go without progress.
pub(super) fn limit(world: &World) -> u32 {
    if world.stopping.drains.load(Ordering::Relaxed) { DRAIN_LIMIT } else { LIMIT }
}

/// Waits for the result of a read; `None` when it makes no progress for too long.
pub(super) async fn unless_still<T>(
    limit: impl Fn() -> u32,
    progress: impl Fn() -> u64,
    wait: impl Future<Output = T>,
) -> Option<T> {
    let (mut wait, mut patience) = (pin!(wait), ReadPatience::default());
    loop {
        if let Ok(done) = tokio::time::timeout(TICK, wait.as_mut()).await {
            return Some(done);
        }
        if patience.tick(progress()) >= limit() {
            return None;
        }
    }
}

/// A stop flag for reading that also counts the chunks.
#[derive(Debug)]
pub(super) struct Watched<'a> {
    stop: &'a AtomicBool,
    chunks: &'a AtomicU64,
}

impl Attend for Watched<'_> {
    fn is_stopped(&self) -> bool {
        self.chunks.fetch_add(1, Ordering::Relaxed);
        self.stop.is_stopped()
    }
}

pub(super) struct WatchedRead {
    /// The drop directory; `None` for a file of our own.
    pub(super) drop: Option<DirectoryName>,
    pub(super) path: SourcePath,
    /// The device of the file.
    pub(super) device: u64,
    /// The read can as well be done after the next start.
    pub(super) may_wait: bool,
}

/// Reads on a thread of its own, and abandons it when it hangs.
pub(super) async fn read<T: Send + 'static>(
    world: &Arc<World>,
    what: WatchedRead,
    work: impl FnOnce(&World, &Watched<'_>) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Setback> {
    let refuse = |failure| Err(Setback { failure, sent: ByteCount(0) });
    let source = what.drop.as_ref().and_then(|drop| world.sources.get(drop));
    if let Some(Err(failure)) = source.map(|source| source.hung.check(&what.path, what.device)) {
        return refuse(failure);
    }
    let chunks = Arc::new(AtomicU64::new(0));
    let (counted, reader) = (Arc::clone(&chunks), Arc::clone(world));
    let may_wait = what.may_wait;
    let mut thread = tokio::task::spawn_blocking(move || {
        let stop = if may_wait { &reader.stopping.drains } else { &reader.stopping.stop };
        work(&reader, &Watched { stop, chunks: &counted })
    });
    let progress = || chunks.load(Ordering::Relaxed);
    let most = || source.map_or_else(|| limit(world), |s| s.hung.limit(world, what.device));
    match unless_still(most, progress, &mut thread).await {
        Some(Ok(done)) => done.or_else(refuse),
        Some(Err(_)) => {
            cancelled().and_then(|_| refuse(Failure::new(FailureKind::Cancelled, "cut")))
        }
        None => {
            if let Some(source) = source {
                let has_returned = Box::new(move || thread.is_finished());
                source.hung.leave(what.path.clone(), what.device, has_returned);
            }
            refuse(given_up(&what.path))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_hangs_is_not_read_again_before_its_read_came_back() {
        let (hung, back) = (Hung::default(), Arc::new(AtomicBool::new(false)));
        let path = |name: &str| SourcePath::from_bytes(name.as_bytes());
        let returned = Arc::clone(&back);
        hung.leave(path("a"), 1, Box::new(move || returned.load(Ordering::Relaxed)));
        assert!(hung.is(&path("a")) && !hung.is(&path("b")));
        let refused = hung.check(&path("a"), 1).unwrap_err();
        assert_eq!(refused.kind, FailureKind::SourceFailing);
        hung.check(&path("b"), 1).unwrap();
        (1..HUNG_MAX).for_each(|n| hung.leave(path(&n.to_string()), 1, Box::new(|| false)));
        assert!(hung.check(&path("b"), 1).is_err(), "too many hang");
        hung.check(&path("b"), 2).expect("another device");
        back.store(true, Ordering::Relaxed);
        hung.check(&path("a"), 1).unwrap();
    }

    #[test]
    fn slow_reads_are_not_still_ones() {
        let mut patience = ReadPatience::default();
        assert_eq!([1, 1, 1, 2, 2].map(|done| patience.tick(done)), [0, 1, 2, 0, 1]);
    }
}

//! The digests of one drop directory's parts: the queue of wanted ones, and the threads that serve it.
//!
//! A task that wants a digest queues it ([`queue`]) and starts a thread if none serves the queue: one
//! thread digests everything that is wanted, in parallel lanes. While the task waits it checks that the
//! threads make progress. When one does not, the parts of other files go to threads of their own; after
//! a longer time, its read is abandoned ([`super::hung`]). *At a crash* nothing is lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use self::queue::{DigestQueue, For};
use super::context::{Source, World, drop_of};
use super::hung::{self, ReadPatience, TICK};
use crate::model::{DirectoryName, Failure, FailureKind, Monotonic, UploadId};
use crate::source::{Digested, Together, WantedRange};

mod queue;

#[derive(Debug, Default)]
pub(crate) struct DigestPool {
    queue: DigestQueue,
    threads: Mutex<Vec<DigestThread>>,
}

#[derive(Debug)]
struct DigestThread {
    together: Arc<Together<For>>,
    thread: JoinHandle<()>,
    patience: ReadPatience,
    /// Time of the next check.
    due: Monotonic,
}

/// Digests a part; of a file of many parts also the following ones, where the upload is given.
pub(super) async fn digest(
    world: &Arc<World>,
    drop: &DirectoryName,
    part_of: Option<UploadId>,
    wanted: WantedRange,
) -> Result<Digested, Failure> {
    let source = drop_of(world, drop)?;
    let (answer, mut answered) = oneshot::channel();
    let must_serve = match part_of {
        Some(upload) => source.digests.queue.join_part(upload, wanted, answer, world.parts.lanes()),
        None => source.digests.queue.join(wanted, answer),
    };
    if must_serve {
        let thread = start(world, drop, Together::default());
        source.digests.threads().push(thread);
    }
    loop {
        match tokio::time::timeout(TICK, &mut answered).await {
            Ok(Ok(digested)) => return digested,
            Ok(Err(_)) => return Err(Failure::new(FailureKind::Cancelled, "the daemon stops")),
            Err(_) => check_threads(world, drop, source),
        }
    }
}

impl DigestPool {
    fn threads(&self) -> MutexGuard<'_, Vec<DigestThread>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn start(world: &Arc<World>, drop: &DirectoryName, together: Together<For>) -> DigestThread {
    let together = Arc::new(together);
    let (reader, name, parts) = (Arc::clone(world), drop.clone(), Arc::clone(&together));
    let thread = tokio::task::spawn_blocking(move || serve(&reader, &name, &parts));
    let due = world.clock.now().monotonic.after(TICK);
    DigestThread { together, thread, patience: ReadPatience::default(), due }
}

fn serve(world: &World, drop: &DirectoryName, together: &Together<For>) {
    let Ok(source) = drop_of(world, drop) else { return };
    let (queue, lanes) = (&source.digests.queue, world.parts.lanes());
    let more = |most, in_progress| queue.take(most, in_progress, lanes);
    let done = |whom, digested| queue.done(whom, digested);
    world.parts.digest_together(together, more, done, &world.stopping.stop);
}

/// Checks that the threads make progress, and relieves or abandons those that do not.
fn check_threads(world: &Arc<World>, drop: &DirectoryName, source: &Source) {
    let now = world.clock.now().monotonic;
    let mut left = Vec::new();
    let mut threads = source.digests.threads();
    for mut thread in std::mem::take(&mut *threads) {
        if thread.thread.is_finished() {
            continue;
        }
        if thread.due > now {
            threads.push(thread);
            continue;
        }
        thread.due = now.after(TICK);
        let still = thread.patience.tick(thread.together.step_count());
        if still >= hung::SPLIT_TICKS {
            let others = thread.together.split().into_iter();
            threads.extend(others.map(|others| start(world, drop, others)));
        }
        let limit = match thread.together.busy() {
            Some(file) => source.hung.limit(world, file.fingerprint.device),
            None => hung::limit(world),
        };
        match (still >= limit).then(|| thread.together.give_up()).flatten() {
            Some(given_up) => left.push((given_up, thread.thread)),
            None => threads.push(thread),
        }
    }
    // A task that gets its answer may start a thread.
    std::mem::drop(threads);
    for ((file, tags), thread) in left {
        let (path, device) = (file.path.clone(), file.fingerprint.device);
        source.hung.leave(path, device, Box::new(move || thread.is_finished()));
        for whom in tags {
            source.digests.queue.done(whom, Err(hung::given_up(&file.path)));
        }
    }
}

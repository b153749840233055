//! The threads that digest parts of one drop directory, and what happens when one of them hangs.
//!
//! Whoever waits for a digest looks now and then whether the thread that makes it moves. When it does not,
//! the parts of other files go to threads of their own; when it does not for longer, what it reads is given up
//! ([`super::hung`]). *At a crash* nothing is lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::JoinHandle;

use super::digests::For;
use super::hung::{self, Patience};
use super::perform::{Source, World, drop_of};
use crate::model::{DirectoryName, Monotonic};
use crate::source::Together;

/// See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Servings(Mutex<Vec<Serving>>);

#[derive(Debug)]
struct Serving {
    together: Arc<Together<For>>,
    thread: JoinHandle<()>,
    patience: Patience,
    /// When it is looked at next.
    due: Monotonic,
}

impl Servings {
    fn lock(&self) -> MutexGuard<'_, Vec<Serving>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Digests what is wanted of a drop directory, on a thread of its own.
pub(super) fn start(world: &Arc<World>, drop: &DirectoryName, source: &Source) {
    let serving = serve(world, drop, Together::default());
    source.servings.lock().push(serving);
}

fn serve(world: &Arc<World>, drop: &DirectoryName, together: Together<For>) -> Serving {
    let together = Arc::new(together);
    let (reader, name, parts) = (Arc::clone(world), drop.clone(), Arc::clone(&together));
    let thread = tokio::task::spawn_blocking(move || digest(&reader, &name, &parts));
    let due = world.clock.now().monotonic.after(hung::TICK);
    Serving { together, thread, patience: Patience::default(), due }
}

fn digest(world: &World, drop: &DirectoryName, together: &Together<For>) {
    let Ok(source) = drop_of(world, drop) else { return };
    let lanes = world.parts.lanes();
    let more = |most, under_way| source.digests.take(most, under_way, lanes);
    let done = |whom, digested| source.digests.done(whom, digested);
    world.parts.digest_together(together, more, done, &world.stop);
}

/// Looks whether the threads move, and does what is needed where one does not.
pub(super) fn watch_over(world: &Arc<World>, drop: &DirectoryName, source: &Source) {
    let now = world.clock.now().monotonic;
    let mut left = Vec::new();
    let mut servings = source.servings.lock();
    for mut serving in std::mem::take(&mut *servings) {
        if serving.thread.is_finished() {
            continue;
        }
        if serving.due > now {
            servings.push(serving);
            continue;
        }
        serving.due = now.after(hung::TICK);
        let still = serving.patience.tick(serving.together.step_count());
        if still >= hung::SPLIT_TICKS {
            let others = serving.together.split().into_iter();
            servings.extend(others.map(|others| serve(world, drop, others)));
        }
        let limit = match serving.together.busy() {
            Some(file) => source.hung.limit(world, file.fingerprint.device),
            None => hung::limit(world),
        };
        match (still >= limit).then(|| serving.together.give_up()).flatten() {
            Some(given_up) => left.push((given_up, serving.thread)),
            None => servings.push(serving),
        }
    }
    // Whoever gets an answer may ask for a thread.
    std::mem::drop(servings);
    for ((file, tags), thread) in left {
        let (path, device) = (file.path.clone(), file.fingerprint.device);
        source.hung.leave(path, device, Box::new(move || thread.is_finished()));
        for whom in tags {
            source.digests.done(whom, Err(hung::given_up(&file.path)));
        }
    }
}

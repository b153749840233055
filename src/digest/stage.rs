//! What many threads ask for at the same time, hashed side by side.
//!
//! A stage has no thread of its own. Who comes while nobody leads becomes the leader: it hashes its
//! own bytes at once, and between short runs lets in whoever came meanwhile. Guests sleep until
//! their bytes are done. The leader leaves with the end of its own bytes and hands what is
//! unfinished to the guest with the most bytes left, which then leads, so that leaders change
//! seldom.
//!
//! - A lone caller never sleeps and never hands anything to another thread.
//! - Nobody waits for lanes to fill; a lane that falls empty is given to who waits longest.
//! - Where more wait than a pass has room for, a second leader goes to work, on a machine with more
//!   than one core. More would take the cores from those who read and send.

use std::collections::VecDeque;
use std::iter;
use std::num::NonZero;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use bytes::{Buf, Bytes};

use super::kernel::{self, Job};
use super::{BLOCK, Hasher, Width};

/// Blocks of each message between two looks at who waits: 8 KiB are some ten microseconds.
const RUN: usize = 128;
/// Leaders at one time.
const LEADERS_MAX: usize = 2;

/// The stage that all readers of the process share; a copy is the same stage.
#[derive(Debug, Clone)]
pub struct Stage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    width: Width,
    leaders_max: usize,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    leaders: usize,
    /// Who sleeps and is with no leader, longest first. Empty when nobody leads.
    waiting: VecDeque<Guest>,
}

/// A message and the whole blocks that it has yet to take.
#[derive(Debug)]
struct Work {
    hasher: Hasher,
    blocks: Bytes,
}

/// The work of a thread that sleeps.
#[derive(Debug)]
struct Guest {
    work: Work,
    /// Holds one answer, and there is one: telling it never blocks.
    wake: SyncSender<Answer>,
}

#[derive(Debug)]
enum Answer {
    Done(Hasher),
    Lead(Work),
}

impl Stage {
    /// Opens a stage as wide as the machine.
    pub fn new() -> Self {
        Self::with_width(Width::best())
    }

    /// Opens a stage of this width, or of the widest that is here where the machine lacks it.
    pub fn with_width(width: Width) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let leaders_max = cores.min(LEADERS_MAX);
        let shared = Shared { width, leaders_max, queue: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Returns how many messages it digests side by side.
    pub fn width(&self) -> Width {
        self.shared.width
    }

    /// Appends the bytes to the message, together with what other threads ask for meanwhile, and
    /// returns it. Blocks until then.
    pub fn advance(&self, mut hasher: Hasher, bytes: Bytes) -> Hasher {
        let (blocks, rest) = hasher.lead(&bytes);
        hasher.keep(rest);
        let end = bytes.len() - rest.len();
        let blocks = bytes.slice(end - blocks.len() * BLOCK..end);
        if blocks.is_empty() {
            return hasher;
        }
        self.shared.take_part(Work { hasher, blocks })
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn take_part(&self, work: Work) -> Hasher {
        let mut queue = self.queue();
        let is_crowded = queue.waiting.len() >= self.width.room();
        if queue.leaders == 0 || (is_crowded && queue.leaders < self.leaders_max) {
            queue.leaders += 1;
            drop(queue);
            return self.lead(work);
        }
        let (wake, answer) = sync_channel(1);
        queue.waiting.push_back(Guest { work, wake });
        drop(queue);
        match answer.recv().expect("a leader answers every guest") {
            Answer::Done(hasher) => hasher,
            Answer::Lead(work) => self.lead(work),
        }
    }

    /// Works until the leader's own bytes are done.
    fn lead(&self, mut own: Work) -> Hasher {
        let mut guests = Vec::new();
        while !own.is_done() {
            self.let_in(&mut guests);
            let works = iter::once(&mut own).chain(guests.iter_mut().map(|guest| &mut guest.work));
            self.run(works);
            for guest in guests.extract_if(.., |guest| guest.work.is_done()) {
                guest.tell(|work| Answer::Done(work.hasher));
            }
        }
        self.hand_on(guests);
        own.hasher
    }

    /// Fills the lanes beside the leader's with who waits longest.
    fn let_in(&self, guests: &mut Vec<Guest>) {
        let mut queue = self.queue();
        let free = (self.width.room() - 1).saturating_sub(guests.len());
        let count = free.min(queue.waiting.len());
        guests.extend(queue.waiting.drain(..count));
    }

    /// Advances all by as much as the shortest has, or a run.
    fn run<'a>(&self, works: impl Iterator<Item = &'a mut Work>) {
        let mut works: Vec<_> = works.collect();
        let left = works.iter().map(|work| work.blocks.len() / BLOCK);
        let count = left.min().unwrap_or(0).min(RUN);
        let jobs = works.iter_mut().map(|work| {
            let (blocks, _) = work.blocks.as_chunks();
            Job { state: &mut work.hasher.state, blocks }
        });
        kernel::step(self.width, &mut jobs.collect::<Vec<_>>(), count);
        for work in works {
            work.blocks.advance(count * BLOCK);
        }
    }

    /// Ends a leader's part. What is unfinished keeps its place before those who came later.
    fn hand_on(&self, unfinished: Vec<Guest>) {
        let mut queue = self.queue();
        for guest in unfinished.into_iter().rev() {
            queue.waiting.push_front(guest);
        }
        let is_enough = queue.leaders > 1 && queue.waiting.len() < self.width.room();
        let next = if is_enough { None } else { queue.take_longest() };
        if next.is_none() {
            queue.leaders -= 1;
        }
        drop(queue);
        if let Some(guest) = next {
            guest.tell(Answer::Lead);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Takes out the guest with the most bytes left.
    fn take_longest(&mut self) -> Option<Guest> {
        let left = |guest: &Guest| guest.work.blocks.len();
        let (index, _) = self.waiting.iter().enumerate().max_by_key(|(_, guest)| left(guest))?;
        self.waiting.remove(index)
    }
}

impl Work {
    fn is_done(&self) -> bool {
        self.blocks.is_empty()
    }
}

impl Guest {
    fn tell(self, answer: impl FnOnce(Work) -> Answer) {
        self.wake.try_send(answer(self.work)).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Barrier;
    use std::sync::mpsc::Receiver;

    use md5::Digest;

    use super::*;
    use crate::model::Md5;

    fn bytes(seed: u8, length: usize) -> Bytes {
        (0..length)
            .map(|at| seed ^ at.to_le_bytes()[0].wrapping_mul(31) ^ at.to_le_bytes()[1])
            .collect()
    }

    fn reference(bytes: &[u8]) -> Md5 {
        Md5(md5::Md5::digest(bytes).into())
    }

    fn work(blocks: &Bytes) -> Work {
        let mut hasher = Hasher::new();
        hasher.lead(blocks);
        Work { hasher, blocks: blocks.clone() }
    }

    /// A guest in the queue, as of a thread that sleeps.
    fn seat(stage: &Stage, blocks: &Bytes) -> Receiver<Answer> {
        let (wake, answer) = sync_channel(1);
        stage.shared.queue().waiting.push_back(Guest { work: work(blocks), wake });
        answer
    }

    /// Reads messages in pieces of all sizes on as many threads, all at once.
    fn read_at_once(stage: &Stage, threads: u8) {
        let start = Barrier::new(threads.into());
        thread::scope(|scope| {
            for seed in 0..threads {
                let (stage, start) = (stage.clone(), &start);
                scope.spawn(move || {
                    let whole = bytes(seed, 60_000 + 7_001 * usize::from(seed));
                    let mut hasher = Hasher::new();
                    let (mut at, mut piece) = (0, 1 + usize::from(seed));
                    start.wait();
                    while at < whole.len() {
                        let end = whole.len().min(at + piece);
                        hasher = stage.advance(hasher, whole.slice(at..end));
                        (at, piece) = (end, piece * 3 % 40_009);
                    }
                    assert_eq!(hasher.finish(), reference(&whole), "message {seed}");
                });
            }
        });
        let queue = stage.shared.queue();
        assert!(queue.leaders == 0 && queue.waiting.is_empty(), "{queue:?}");
    }

    #[test]
    fn threads_that_share_a_stage_get_what_each_would_get_alone() {
        for width in Width::all_here() {
            for threads in [1, 2, 5, 40] {
                read_at_once(&Stage::with_width(width), threads);
            }
        }
    }

    #[test]
    fn a_lone_caller_never_sleeps() {
        let (stage, whole) = (Stage::new(), bytes(1, 256 * 1024));
        let sleeps = || {
            let status = fs::read_to_string("/proc/thread-self/status").expect("on Linux");
            let (_, rest) = status.split_once("\nvoluntary_ctxt_switches:").expect("counted");
            rest.lines().next().map(|line| line.trim().to_owned())
        };
        let mut hasher = stage.advance(Hasher::new(), whole.clone());
        let before = sleeps();
        for _ in 0..20 {
            hasher = stage.advance(hasher, whole.clone());
        }
        assert_eq!(sleeps(), before);
        assert_eq!(hasher.finish(), reference(&whole.repeat(21)));
    }

    #[test]
    fn a_leader_takes_guests_along_and_hands_on_what_is_unfinished() {
        let stage = Stage::new();
        stage.shared.queue().leaders = 1;
        let [short, long, longest] = [1, 6, 9].map(|runs| bytes(runs, usize::from(runs) * 8_192));
        let own = bytes(2, 8_192 * 4);
        let (first, second, third) =
            (seat(&stage, &short), seat(&stage, &long), seat(&stage, &longest));
        let hasher = stage.shared.lead(work(&own));
        assert_eq!(hasher.finish(), reference(&own));
        let Ok(Answer::Done(hasher)) = first.try_recv() else { panic!("it is done") };
        assert_eq!(hasher.finish(), reference(&short));
        assert!(second.try_recv().is_err(), "it waits for the next leader");
        let Ok(Answer::Lead(rest)) = third.try_recv() else { panic!("it leads") };
        assert_eq!(rest.blocks.len(), longest.len() - own.len(), "each took as much as the leader");
        assert_eq!(stage.shared.lead(rest).finish(), reference(&longest));
        let Ok(Answer::Done(hasher)) = second.try_recv() else { panic!("it is done") };
        assert_eq!(hasher.finish(), reference(&long));
        assert_eq!(stage.shared.queue().leaders, 0);
    }

    #[test]
    fn a_crowd_gets_a_second_leader_and_keeps_one_of_them() {
        let mut stage = Stage::with_width(Width::Scalar);
        Arc::get_mut(&mut stage.shared).expect("one copy").leaders_max = LEADERS_MAX;
        stage.shared.queue().leaders = 1;
        let blocks = bytes(3, 8_192);
        let crowd: Vec<_> = (0..5).map(|_| seat(&stage, &blocks)).collect();
        let hasher = stage.advance(Hasher::new(), blocks.clone());
        assert_eq!(
            hasher.finish(),
            reference(&blocks),
            "it led, for nobody else is there to do it"
        );
        let done = crowd.iter().filter(|answer| matches!(answer.try_recv(), Ok(Answer::Done(_))));
        assert_eq!(done.count(), 3, "a pass takes four");
        assert_eq!(stage.shared.queue().leaders, 1, "two that wait are few enough for one leader");
    }
}

//! Digests parts in parallel: one chunk of each is read at a time, and all are digested together.
//!
//! One thread does this for all parts that are wanted at once. So a lane costs no thread, small files are
//! done by the dozen, and a later part joins at the next chunk. The bytes of a part are *kept* if memory was
//! reserved for all of it, and sent from there; of any other only the digest is kept, and its bytes are read
//! again to be sent ([`super::body`]). Parts of one file in the same group share the open file.
//!
//! A read that hangs must not delay the others. So the parts are in a [`Together`], and the thread
//! removes one while it reads it. A monitor that sees no step end takes the parts of other files
//! away ([`Together::split`]) and gives them to other threads; a cancelled part
//! ([`Together::give_up`]) fails at once, and the thread that reads it ends when the read does.

use std::collections::VecDeque;
use std::fs::File;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::fs::Advice;

use super::super::SourceFile;
use super::buffers::Room;
use super::proof::{open, prove, prove_open};
use super::{
    Attend, CHUNK_BYTES, ColdPages, PartReader, check_range, fill, go_on, is_cold, prepare_to_read,
};
use crate::digest::{Hasher, advance};
use crate::model::{ByteRange, Failure, Md5};

/// Limit of parts at once: the widest lanes.
pub(crate) const TOGETHER_MAX: usize = 32;
/// How far ahead the disk is asked for data that is not in memory.
const AHEAD_BYTES: u64 = 4 * CHUNK_BYTES as u64;
/// Bytes read at a time of each part while none is kept: sixteen of them stay in a core's own cache
/// until they are digested.
const WINDOW_BYTES: u64 = 64 * 1024;

/// A part to digest.
#[derive(Debug)]
pub(crate) struct WantedRange {
    pub file: SourceFile,
    pub range: ByteRange,
    /// Memory for all of it, if its bytes are to be kept.
    pub room: Option<Room>,
}

/// A part that was read, digested and proved.
#[derive(Debug)]
pub(crate) struct Digested {
    pub md5: Md5,
    /// Its bytes, if memory was reserved for them.
    pub kept: Option<Kept>,
    /// Its pages were not in memory before.
    pub is_cold: bool,
}

/// The bytes of a part, in memory.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(super) chunks: Vec<Bytes>,
    pub(super) cold: Option<ColdPages>,
}

/// Parts that one thread digests together, each with its tag.
pub(crate) struct Together<T> {
    group: Mutex<PartGroup<T>>,
    step_count: AtomicU64,
}

struct PartGroup<T> {
    /// Parts whose file is not open yet.
    come: VecDeque<(WantedRange, T)>,
    jobs: VecDeque<(PartJob, T)>,
    /// The part that the thread reads: it is nowhere else meanwhile.
    busy: Option<(SourceFile, T)>,
    /// The others were taken away: no more join.
    is_split: bool,
}

struct PartJob {
    wanted: WantedRange,
    file: Arc<File>,
    is_cold: bool,
    at: u64,
    hasher: Hasher,
    /// Bytes that were read and not kept yet.
    chunk: Bytes,
    /// They are in the digest: a part that is taken from a thread continues from that state.
    is_hashed: bool,
    chunks: Vec<Bytes>,
}

impl<T> Default for Together<T> {
    fn default() -> Self {
        Self { group: Mutex::default(), step_count: AtomicU64::new(0) }
    }
}

impl<T> Default for PartGroup<T> {
    fn default() -> Self {
        Self { come: VecDeque::new(), jobs: VecDeque::new(), busy: None, is_split: false }
    }
}

/// Returns the group of a file, created if there is none.
fn of<'a, T>(
    groups: &'a mut Vec<(SourceFile, PartGroup<T>)>,
    file: &SourceFile,
) -> &'a mut PartGroup<T> {
    let known = groups.iter().position(|(known, _)| known == file);
    let index = known.unwrap_or_else(|| {
        groups.push((file.clone(), PartGroup::default()));
        groups.len() - 1
    });
    &mut groups[index].1
}

impl<T> std::fmt::Debug for Together<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Together").finish_non_exhaustive()
    }
}

impl<T> Together<T> {
    /// Returns the number of finished steps: while it does not change, one part is being read.
    pub(crate) fn step_count(&self) -> u64 {
        self.step_count.load(Ordering::Relaxed)
    }

    /// Returns the file that is being read.
    pub(crate) fn busy(&self) -> Option<SourceFile> {
        self.lock().busy.as_ref().map(|(file, _)| file.clone())
    }

    /// Takes away the parts of other files than the one being read, if there is one: each file's
    /// for a thread of its own, as the next may hang too, and at least one thread. Only once.
    pub(crate) fn split(&self) -> Vec<Self> {
        let mut group = self.lock();
        let Some(file) = group.busy.as_ref().map(|(file, _)| file.clone()) else {
            return Vec::new();
        };
        if std::mem::replace(&mut group.is_split, true) {
            return Vec::new();
        }
        let mut others: Vec<(SourceFile, PartGroup<T>)> = Vec::new();
        for (wanted, tag) in std::mem::take(&mut group.come) {
            let to = if wanted.file == file { &mut *group } else { of(&mut others, &wanted.file) };
            to.come.push_back((wanted, tag));
        }
        for (job, tag) in std::mem::take(&mut group.jobs) {
            let is_same = job.wanted.file == file;
            let to = if is_same { &mut *group } else { of(&mut others, &job.wanted.file) };
            to.jobs.push_back((job, tag));
        }
        let mut others: Vec<_> = others
            .into_iter()
            .map(|(_, group)| Self { group: group.into(), ..Self::default() })
            .collect();
        if others.is_empty() {
            // For later parts: this thread accepts no more.
            others.push(Self::default());
        }
        others
    }

    /// Cancels the part that is being read, and those that wait behind it; returns their file and tags.
    pub(crate) fn give_up(&self) -> Option<(SourceFile, Vec<T>)> {
        let mut group = self.lock();
        let (file, tag) = group.busy.take()?;
        let come = std::mem::take(&mut group.come).into_iter().map(|(_, tag)| tag);
        let jobs = std::mem::take(&mut group.jobs).into_iter().map(|(_, tag)| tag);
        Some((file, [tag].into_iter().chain(come).chain(jobs).collect()))
    }

    fn lock(&self) -> MutexGuard<'_, PartGroup<T>> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs an action on a part that may never return; `None` if the part was cancelled meanwhile.
    fn step<W>(&self, file: SourceFile, tag: T, act: impl FnOnce() -> W) -> Option<(W, T)> {
        self.lock().busy = Some((file, tag));
        let done = act();
        self.step_count.fetch_add(1, Ordering::Relaxed);
        self.lock().busy.take().map(|(_, tag)| (done, tag))
    }
}

/// The parts were taken from the thread.
struct Taken;

impl PartReader {
    /// Digests parts until no more are given, and returns each with its tag. `more` is called at
    /// each chunk with the limit of further parts, and with the number in progress. Blocks.
    ///
    /// Each fails as [`Self::hash_range`] does, without affecting the others.
    pub(crate) fn digest_together<T>(
        &self,
        together: &Together<T>,
        mut more: impl FnMut(usize, usize) -> Vec<(WantedRange, T)>,
        mut done: impl FnMut(T, Result<Digested, Failure>),
        stop: &impl Attend,
    ) {
        let aside = self.buffers.aside();
        loop {
            let (under_way, is_split) = {
                let group = together.lock();
                (group.jobs.len() + group.come.len(), group.is_split)
            };
            let room = TOGETHER_MAX.saturating_sub(under_way);
            let come = if is_split { Vec::new() } else { more(room, under_way) };
            if come.is_empty() && under_way == 0 {
                return;
            }
            together.lock().come.extend(come);
            let read = begin_all(together, &mut done).and_then(|()| {
                let is_held = |(job, _): &(PartJob, T)| job.wanted.room.is_some();
                let is_any_held = together.lock().jobs.iter().any(is_held);
                let step = if is_any_held { CHUNK_BYTES as u64 } else { WINDOW_BYTES };
                each(together, &mut done, |job| {
                    go_on(&job.wanted.file, stop)?;
                    job.read(&aside, step)
                })
            });
            if read.is_err() {
                return;
            }
            // Nothing is being read, so nothing is taken away.
            let mut jobs = std::mem::take(&mut together.lock().jobs);
            let fresh = jobs.iter_mut().filter(|(job, _)| !job.is_hashed);
            let lanes = fresh.map(|(job, _)| (&mut job.hasher, job.chunk.as_ref()));
            advance(self.width, &mut lanes.collect::<Vec<_>>());
            jobs.iter_mut().for_each(|(job, _)| job.is_hashed = true);
            together.lock().jobs = jobs;
            if each(together, &mut done, PartJob::keep).is_err() {
                return;
            }
            let jobs = std::mem::take(&mut together.lock().jobs);
            let (ended, going): (VecDeque<_>, _) =
                jobs.into_iter().partition(|(job, _)| job.is_read());
            together.lock().jobs = going;
            ended.into_iter().for_each(|(job, tag)| done(tag, Ok(job.end())));
        }
    }
}

/// Opens the files of the new parts.
fn begin_all<T>(
    together: &Together<T>,
    done: &mut impl FnMut(T, Result<Digested, Failure>),
) -> Result<(), Taken> {
    loop {
        let (wanted, tag, shared) = {
            let mut group = together.lock();
            let Some((wanted, tag)) = group.come.pop_front() else { return Ok(()) };
            let shared = wanted.shared_file(&group.jobs);
            (wanted, tag, shared)
        };
        let begun = together.step(wanted.file.clone(), tag, || PartJob::begin(wanted, shared));
        match begun.ok_or(Taken)? {
            (Ok(job), tag) => together.lock().jobs.push_back((job, tag)),
            (Err(failure), tag) => done(tag, Err(failure)),
        }
    }
}

/// Runs an action on each part; those that fail are finished.
fn each<T>(
    together: &Together<T>,
    done: &mut impl FnMut(T, Result<Digested, Failure>),
    mut act: impl FnMut(&mut PartJob) -> Result<(), Failure>,
) -> Result<(), Taken> {
    let count = together.lock().jobs.len();
    for _ in 0..count {
        let Some((mut job, tag)) = together.lock().jobs.pop_front() else { return Ok(()) };
        let acted = together.step(job.wanted.file.clone(), tag, || act(&mut job).map(|()| job));
        match acted.ok_or(Taken)? {
            (Ok(job), tag) => together.lock().jobs.push_back((job, tag)),
            (Err(failure), tag) => done(tag, Err(failure)),
        }
    }
    Ok(())
}

impl WantedRange {
    /// Returns the file, if another part of it is in the group: it was written back when it was
    /// opened, and later stores changed its times.
    fn shared_file<T>(&self, jobs: &VecDeque<(PartJob, T)>) -> Option<Arc<File>> {
        let job = jobs.iter().rev().find(|(job, _)| job.wanted.file == self.file);
        job.map(|(job, _)| Arc::clone(&job.file))
    }

    fn open(&self, shared: Option<Arc<File>>) -> Result<Arc<File>, Failure> {
        check_range(&self.file, self.range)?;
        let Some(file) = shared else { return Ok(Arc::new(open(&self.file)?)) };
        prove_open(&self.file, &file)?;
        Ok(file)
    }
}

impl PartJob {
    fn begin(wanted: WantedRange, shared: Option<Arc<File>>) -> Result<Self, Failure> {
        let file = wanted.open(shared)?;
        prepare_to_read(&file, wanted.range);
        let is_cold = is_cold(&file, wanted.range);
        let at = wanted.range.offset;
        let (hasher, chunk, chunks) = (Hasher::new(), Bytes::new(), Vec::new());
        Ok(Self { wanted, file, is_cold, at, hasher, chunk, is_hashed: true, chunks })
    }

    fn left(&self) -> u64 {
        self.wanted.range.offset + self.wanted.range.length - self.at
    }

    fn is_read(&self) -> bool {
        self.left() == 0
    }

    fn read(&mut self, aside: &Room, step: u64) -> Result<(), Failure> {
        if self.is_read() || !self.chunk.is_empty() {
            return Ok(());
        }
        let room = self.wanted.room.as_ref().unwrap_or(aside);
        let mut chunk = room.take(self.left().min(step));
        fill(&self.file, &self.wanted.file, self.at, chunk.as_mut())?;
        self.at += chunk.len() as u64;
        self.chunk = Bytes::from_owner(chunk);
        self.is_hashed = false;
        let done = self.at - self.wanted.range.offset;
        if self.is_cold && self.left() > 0 && done.is_multiple_of(CHUNK_BYTES as u64) {
            let length = NonZeroU64::new(self.left().min(AHEAD_BYTES));
            // Only advice.
            rustix::fs::fadvise(&self.file, self.at, length, Advice::WillNeed).ok();
        }
        Ok(())
    }

    /// Keeps the digested bytes if they are to be kept, and proves the file after the last.
    fn keep(&mut self) -> Result<(), Failure> {
        let chunk = std::mem::take(&mut self.chunk);
        if self.wanted.room.is_some() && !chunk.is_empty() {
            self.chunks.push(chunk);
        }
        if self.is_read() {
            prove(&self.wanted.file, &self.file)?;
        }
        Ok(())
    }

    fn end(self) -> Digested {
        let Self { wanted: WantedRange { range, room, .. }, file, is_cold, hasher, chunks, .. } =
            self;
        let cold = is_cold.then_some(ColdPages { file, range });
        let kept = room.map(|_| Kept { chunks, cold });
        Digested { md5: hasher.finish(), kept, is_cold }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::AtomicBool;

    use md5::Digest;

    use super::super::tests::source;
    use super::*;
    use crate::model::ByteCount;

    const LENGTH: u64 = 3 * WINDOW_BYTES + 17;

    fn bytes(name: &str) -> Vec<u8> {
        name.bytes().cycle().zip(0..LENGTH).map(|(byte, _)| byte).collect()
    }

    /// Splits the group while a read of "hung" is stuck, after that many steps of the thread.
    fn digests_after_split(reads: u32, is_hashed: bool) -> BTreeMap<&'static str, Md5> {
        let root = tempfile::tempdir().unwrap();
        let together = Together::default();
        for name in ["hung", "one", "two"] {
            std::fs::write(root.path().join(name), bytes(name)).unwrap();
            let range = ByteRange { offset: 0, length: LENGTH };
            let wanted = WantedRange { file: source(root.path(), name), range, room: None };
            together.lock().come.push_back((wanted, name));
        }
        let reader = PartReader::new(ByteCount(0));
        let mut fail = |name, digested: Result<Digested, Failure>| panic!("{name}: {digested:?}");
        assert!(begin_all(&together, &mut fail).is_ok());
        let aside = reader.buffers.aside();
        for _ in 0..reads {
            let read = |job: &mut PartJob| job.read(&aside, WINDOW_BYTES);
            assert!(each(&together, &mut fail, read).is_ok());
        }
        if is_hashed {
            let mut group = together.lock();
            let lanes = group.jobs.iter_mut();
            let lanes = lanes.map(|(job, _)| (&mut job.hasher, job.chunk.as_ref()));
            advance(reader.width, &mut lanes.collect::<Vec<_>>());
            group.jobs.iter_mut().for_each(|(job, _)| job.is_hashed = true);
        }
        let (hung, tag) = together.lock().jobs.pop_front().unwrap();
        let mut found = BTreeMap::new();
        let hangs = || {
            let others = together.split();
            assert_eq!(others.len(), 2, "each for a thread of its own");
            assert!(together.split().is_empty(), "they are taken away once");
            let mut done = |name, digested: Result<Digested, Failure>| match digested {
                Ok(digested) => {
                    found.insert(name, digested.md5);
                }
                Err(failure) => panic!("{name}: {failure}"),
            };
            for other in &others {
                reader.digest_together(other, |_, _| vec![], &mut done, &AtomicBool::new(false));
            }
            let (file, tags) = together.give_up().expect("it hangs");
            assert_eq!((file.path.as_bytes(), tags), (&b"hung"[..], vec!["hung"]));
        };
        let back = together.step(hung.wanted.file.clone(), tag, hangs);
        assert!(back.is_none(), "whoever comes back finds that it was given up");
        found
    }

    #[test]
    fn parts_that_are_taken_from_a_thread_that_hangs_keep_their_digests() {
        let md5 = |name| Md5(md5::Md5::digest(bytes(name)).into());
        let expected = BTreeMap::from(["one", "two"].map(|name| (name, md5(name))));
        for (reads, is_hashed) in [(0, false), (1, false), (1, true)] {
            assert_eq!(digests_after_split(reads, is_hashed), expected, "{reads} {is_hashed}");
        }
    }
}

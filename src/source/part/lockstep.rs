//! Parts whose digest is wanted before they are sent: read a chunk of each at a time, and digested side
//! by side.
//!
//! One thread does it for all parts that are wanted at once. So a lane costs no thread, small files are
//! done by the dozen, and a part that comes later joins at the next chunk. A part is *held* where there
//! is room for all of it, and is sent from there; of another the digest is kept, and the open file, from
//! which it is read again. Parts of one file that are under way together share it.

use std::fs::File;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use rustix::fs::Advice;
use tokio::sync::oneshot;

use super::super::SourceFile;
use super::again::{Known, Opened};
use super::buffers::Room;
use super::proof::{open, prove, prove_open};
use super::{
    CHUNK_BYTES, ColdPages, PartRead, PartReader, PartStream, Prepared, check_range, fill, go_on,
    is_cold, prepare_to_read,
};
use crate::digest::{Hasher, advance};
use crate::model::{ByteCount, ByteRange, Failure, Md5};

/// Parts at once: what the widest lanes take.
pub const TOGETHER_MAX: usize = 32;
/// How far ahead the disk is asked for what is not in memory.
const AHEAD_BYTES: u64 = 4 * CHUNK_BYTES as u64;
/// What is read at once of each part while none is held: sixteen of them stay in a core's own cache
/// until they are digested.
const WINDOW_BYTES: u64 = 64 * 1024;

/// A part whose digest is wanted.
#[derive(Debug)]
pub struct Wanted {
    /// Of which file.
    pub file: SourceFile,
    /// Which bytes.
    pub range: ByteRange,
    /// Room for all of it, where it is to be held.
    pub room: Option<Room>,
    /// The file, where other parts of it were read.
    pub opened: Opened,
    /// What it was digested to before its file was closed: it is opened, and not read.
    pub digested: Option<PartRead>,
}

/// What was wanted.
#[derive(Debug)]
pub enum Digested {
    /// The part in memory.
    Held(Prepared),
    /// What was read of it, and let go of.
    Read(Known),
}

/// A part under way.
struct Job<T> {
    wanted: Wanted,
    tag: T,
    file: Arc<File>,
    is_cold: bool,
    at: u64,
    hasher: Hasher,
    chunk: Bytes,
    chunks: Vec<Bytes>,
}

impl PartReader {
    /// Digests parts until no more are given, and hands each back with its tag. `more` is asked for at
    /// most so many at each chunk, and told how many others are under way. Blocks.
    ///
    /// Each fails as [`Self::hash_range`] does, without a word to the others.
    pub fn digest_together<T>(
        &self,
        mut more: impl FnMut(usize, usize) -> Vec<(Wanted, T)>,
        mut done: impl FnMut(T, Result<Digested, Failure>),
        stop: &AtomicBool,
    ) {
        let aside = self.buffers.aside();
        let mut jobs: Vec<Job<T>> = Vec::new();
        loop {
            let come = more(TOGETHER_MAX - jobs.len(), jobs.len());
            if come.is_empty() && jobs.is_empty() {
                return;
            }
            for (wanted, tag) in come {
                let shared = wanted.shared_file(&jobs);
                match Job::begin(wanted, tag, shared) {
                    Ok(job) if job.wanted.digested.is_some() => {
                        let (tag, digested) = job.end();
                        done(tag, digested);
                    }
                    Ok(job) => jobs.push(job),
                    Err((tag, failure)) => done(tag, Err(failure)),
                }
            }
            if jobs.is_empty() {
                // Whoever gives more was told of these, and is to be asked again.
                continue;
            }
            let is_any_held = jobs.iter().any(|job| job.wanted.room.is_some());
            let step = if is_any_held { CHUNK_BYTES as u64 } else { WINDOW_BYTES };
            jobs = each(jobs, &mut done, |job| {
                go_on(&job.wanted.file, stop)?;
                job.read(&aside, step)
            });
            let lanes = jobs.iter_mut().map(|job| (&mut job.hasher, job.chunk.as_ref()));
            advance(self.stage.width(), &mut lanes.collect::<Vec<_>>());
            jobs = each(jobs, &mut done, Job::keep);
            let (ended, going) = jobs.into_iter().partition(Job::is_read);
            jobs = going;
            ended.into_iter().for_each(|job: Job<T>| {
                let (tag, digested) = job.end();
                done(tag, digested);
            });
        }
    }
}

/// Does something to each job; those that fail are done.
fn each<T>(
    jobs: Vec<Job<T>>,
    done: &mut impl FnMut(T, Result<Digested, Failure>),
    mut act: impl FnMut(&mut Job<T>) -> Result<(), Failure>,
) -> Vec<Job<T>> {
    let mut left = Vec::with_capacity(jobs.len());
    for mut job in jobs {
        match act(&mut job) {
            Ok(()) => left.push(job),
            Err(failure) => done(job.tag, Err(failure)),
        }
    }
    left
}

impl Wanted {
    /// Wants a part, to be held where there is room for it.
    pub fn new(file: SourceFile, range: ByteRange, room: Option<Room>) -> Self {
        Self { file, range, room, opened: Opened::default(), digested: None }
    }

    /// Returns the file, where another part of it is under way: it was written back when it was opened,
    /// and what was stored into it since moved its times.
    fn shared_file<T>(&self, jobs: &[Job<T>]) -> Option<Arc<File>> {
        if self.range.length >= self.file.fingerprint.size.0 {
            return None;
        }
        let job = jobs.iter().rev().find(|job| job.wanted.file == self.file);
        job.map(|job| Arc::clone(&job.file)).or_else(|| self.opened.file())
    }

    fn open(&self, shared: Option<Arc<File>>) -> Result<Arc<File>, Failure> {
        check_range(&self.file, self.range)?;
        let Some(file) = shared else { return Ok(Arc::new(open(&self.file)?)) };
        prove_open(&self.file, &file)?;
        Ok(file)
    }
}

impl<T> Job<T> {
    fn begin(wanted: Wanted, tag: T, shared: Option<Arc<File>>) -> Result<Self, (T, Failure)> {
        let file = match wanted.open(shared) {
            Ok(file) => file,
            Err(failure) => return Err((tag, failure)),
        };
        prepare_to_read(&file, wanted.range);
        let is_cold = is_cold(&file, wanted.range);
        let at = wanted.range.offset;
        let (hasher, chunk, chunks) = (Hasher::new(), Bytes::new(), Vec::new());
        Ok(Self { wanted, tag, file, is_cold, at, hasher, chunk, chunks })
    }

    fn left(&self) -> u64 {
        self.wanted.range.offset + self.wanted.range.length - self.at
    }

    fn is_read(&self) -> bool {
        self.left() == 0
    }

    fn read(&mut self, aside: &Room, step: u64) -> Result<(), Failure> {
        if self.is_read() {
            return Ok(());
        }
        let room = self.wanted.room.as_ref().unwrap_or(aside);
        let mut chunk = room.take(self.left().min(step));
        fill(&self.file, &self.wanted.file, self.at, chunk.as_mut())?;
        self.at += chunk.len() as u64;
        self.chunk = Bytes::from_owner(chunk);
        let done = self.at - self.wanted.range.offset;
        if self.is_cold && self.left() > 0 && done.is_multiple_of(CHUNK_BYTES as u64) {
            let length = NonZeroU64::new(self.left().min(AHEAD_BYTES));
            // Advice only.
            rustix::fs::fadvise(&self.file, self.at, length, Advice::WillNeed).ok();
        }
        Ok(())
    }

    /// Keeps what was digested where it is to be held; and proves the file once all was read.
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

    fn end(self) -> (T, Result<Digested, Failure>) {
        let Wanted { file: source, range, room, opened: _, digested } = self.wanted;
        let read = digested.unwrap_or_else(|| PartRead {
            md5: self.hasher.finish(),
            bytes: ByteCount(range.length),
        });
        let (file, is_cold) = (self.file, self.is_cold);
        let digested = match room {
            Some(_) => Digested::Held(held(
                self.chunks,
                read,
                is_cold.then_some(ColdPages { file, range }),
            )),
            None => Digested::Read(Known { read, source, range, file, is_cold }),
        };
        (self.tag, Ok(digested))
    }
}

fn held(chunks: Vec<Bytes>, read: PartRead, cold: Option<ColdPages>) -> Prepared {
    let (told, ending) = oneshot::channel();
    let md5: Option<Md5> = Some(read.md5);
    // Whoever does not await the ending does not want it.
    told.send(Ok((read, cold))).ok();
    Prepared { md5, chunks: PartStream::Held(chunks.into_iter()), ending }
}

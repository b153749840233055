//! The bytes of a digested part for a request: kept in memory, or read again.
//!
//! Bytes that are read again are usually in the page cache, so the task that sends them reads them
//! itself, without waiting. A chunk that is not in memory, the first one, before which the file is
//! opened, and the last one, after which the file is proved, are read by a blocking thread; after a
//! chunk was not in memory, the next one is read while the one before it is sent.
//!
//! The bytes are not hashed again: the storage gets the digest and compares, or its ETag is
//! compared. The file was written back before it was digested, so a later store changes its times,
//! and the proof finds it. *At a crash* nothing is lost.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{FutureExt, Stream};
use rustix::io::ReadWriteFlags;
use tokio::task::JoinHandle;

use super::super::SourceFile;
use super::buffers::{Chunk, Room};
use super::lockstep::Kept;
use super::proof::{open_clean, prove};
use super::{CHUNK_BYTES, ColdPages, cancelled, check_range, fill};
use crate::model::{ByteRange, Failure};

/// The bytes of one part, in order. Dropping it ends the reading.
///
/// An error item carries a [`Failure`] inside and is the last item. Must be polled inside a tokio runtime.
#[derive(Debug)]
pub(crate) struct PartBytes {
    from: From,
    ending: Ending,
}

#[derive(Debug)]
enum From {
    Memory(std::vec::IntoIter<Bytes>),
    File(Box<PartReread>),
    Ended,
}

/// How reading a part ended: set after the last chunk or an error; never when the bytes were
/// dropped before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ending(Arc<OnceLock<Result<Option<ColdPages>, Failure>>>);

impl Ending {
    /// Returns how it ended, and the pages that reading brought into memory.
    pub(crate) fn get(&self) -> Option<&Result<Option<ColdPages>, Failure>> {
        self.0.get()
    }

    /// Drops the pages that reading brought into memory from the page cache.
    pub(crate) fn forget_pages(&self) {
        if let Some(Ok(Some(pages))) = self.get() {
            pages.forget();
        }
    }

    /// Returns whether reading is over: the bytes were dropped, and no thread is in a read.
    pub(crate) fn is_left(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// Reads a part again.
#[derive(Debug)]
struct PartReread {
    source: SourceFile,
    range: ByteRange,
    is_cold: bool,
    room: Room,
    /// `None` until the first chunk was read.
    file: Option<Arc<File>>,
    /// Offset of the next chunk that is not being read.
    at: u64,
    reading: Option<JoinHandle<Result<ReadStep, Failure>>>,
    /// A chunk was not in memory: the next one is read ahead.
    reads_ahead: bool,
    is_proved: bool,
}

#[derive(Debug)]
struct ReadStep {
    file: Arc<File>,
    /// `None` for an empty part.
    chunk: Option<Chunk>,
}

impl PartBytes {
    /// Sends the bytes in memory.
    pub(crate) fn kept(kept: Kept) -> Self {
        let ending = Ending::default();
        // There is no other copy of it yet.
        ending.0.set(Ok(kept.cold)).ok();
        Self { from: From::Memory(kept.chunks.into_iter()), ending }
    }

    /// Reads a digested part again, in reserved memory.
    pub(crate) fn read_again(
        source: SourceFile,
        range: ByteRange,
        is_cold: bool,
        room: Room,
    ) -> Self {
        let reader = PartReread {
            source,
            range,
            is_cold,
            room,
            file: None,
            at: range.offset,
            reading: None,
            reads_ahead: false,
            is_proved: false,
        };
        Self { from: From::File(Box::new(reader)), ending: Ending::default() }
    }

    /// Returns the handle that shows how reading ended.
    pub(crate) fn ending(&self) -> Ending {
        self.ending.clone()
    }
}

impl Stream for PartBytes {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let reader = match &mut this.from {
            From::Memory(chunks) => return Poll::Ready(chunks.next().map(Ok)),
            From::Ended => return Poll::Ready(None),
            From::File(reader) => reader,
        };
        let (item, ending) = match ready!(reader.poll_chunk(&this.ending, context)) {
            Ok(Some(chunk)) if !reader.is_proved => return Poll::Ready(Some(Ok(chunk))),
            Ok(chunk) => (chunk.map(Ok), Ok(reader.cold_pages())),
            Err(failure) => (Some(Err(io::Error::other(failure.clone()))), Err(failure)),
        };
        this.from = From::Ended;
        // It is set once.
        this.ending.0.set(ending).ok();
        Poll::Ready(item)
    }
}

impl PartReread {
    fn end(&self) -> u64 {
        self.range.offset.saturating_add(self.range.length)
    }

    fn cold_pages(&mut self) -> Option<ColdPages> {
        let file = self.file.take().filter(|_| self.is_cold)?;
        Some(ColdPages { file, range: self.range })
    }

    fn poll_chunk(
        &mut self,
        ending: &Ending,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Failure>> {
        if self.reading.is_none() && !self.reads_ahead {
            if let Some(chunk) = self.read_from_memory() {
                return Poll::Ready(Ok(Some(chunk)));
            }
            self.reads_ahead = self.file.is_some() && self.end() - self.at > CHUNK_BYTES as u64;
        }
        let mut reading = self.reading.take().unwrap_or_else(|| self.start(ending));
        let Poll::Ready(joined) = reading.poll_unpin(context) else {
            self.reading = Some(reading);
            return Poll::Pending;
        };
        // The runtime ends.
        let step = joined.unwrap_or_else(|_| Err(cancelled(&self.source)))?;
        self.file = Some(step.file);
        self.is_proved = self.at == self.end();
        if self.reads_ahead && !self.is_proved {
            self.reading = Some(self.start(ending));
        }
        Poll::Ready(Ok(step.chunk.map(Bytes::from_owner)))
    }

    /// Returns the next chunk, if it is not the last and is in memory.
    fn read_from_memory(&mut self) -> Option<Bytes> {
        let left = self.end() - self.at;
        let file = self.file.as_ref().filter(|_| left > CHUNK_BYTES as u64)?;
        let mut chunk = self.room.take(left);
        let into = &mut [IoSliceMut::new(chunk.as_mut())];
        let read = rustix::io::preadv2(file, into, self.at, ReadWriteFlags::NOWAIT);
        // On any failure, the blocking thread finds the reason.
        let count = read.ok().filter(|count| *count > 0)?;
        chunk.cut(count);
        self.at += count as u64;
        Some(Bytes::from_owner(chunk))
    }

    /// Reads the next chunk on a blocking thread.
    fn start(&mut self, ending: &Ending) -> JoinHandle<Result<ReadStep, Failure>> {
        let (source, file, range) = (self.source.clone(), self.file.clone(), self.range);
        let (at, left) = (self.at, self.end() - self.at);
        let (room, held) = (self.room.clone(), ending.clone());
        self.at += left.min(CHUNK_BYTES as u64);
        tokio::task::spawn_blocking(move || {
            let step = read_step(&source, file, range, at, &room);
            mem::drop(held);
            step
        })
    }
}

/// Opens the file if needed, reads a chunk, and proves the file after the last one.
fn read_step(
    source: &SourceFile,
    file: Option<Arc<File>>,
    range: ByteRange,
    at: u64,
    room: &Room,
) -> Result<ReadStep, Failure> {
    let file = match file {
        Some(file) => file,
        None => {
            check_range(source, range)?;
            Arc::new(open_clean(source)?)
        }
    };
    let left = range.offset + range.length - at;
    let mut chunk = (left > 0).then(|| room.take(left));
    if let Some(chunk) = &mut chunk {
        fill(&file, source, at, chunk.as_mut())?;
    }
    if left <= CHUNK_BYTES as u64 {
        prove(source, &file)?;
    }
    Ok(ReadStep { file, chunk })
}

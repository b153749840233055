//! Reading one range of a planned file: hashing it, and proving that it was the planned version.
//!
//! Owns the bytes between the disk and the request body. A [`PartReader`] gives a part in one of two
//! ways. *Held*: all of it is read into memory that was reserved for it, hashed on the way, proved, and
//! sent from there; for platforms that want the digest before the bytes, as long as the budget has room
//! ([`lockstep`]).
//! *Streamed*: it is read while it is sent; by a blocking thread that hashes it, or for the second time
//! where its digest is known ([`again`]): whatever is not small, of which more is digested side by side
//! than there is room for.
//! Beside the bytes is an ending: the digest of exactly the bytes that were given, or why reading
//! failed. Hashing is done in lanes that all readers of the process share, see [`crate::digest`].
//!
//! It promises that a file that is not the planned version never becomes an accepted part: the
//! fingerprint is compared when the file is opened, and again, on the open file and on its path,
//! after the last byte was read and *before the last chunk is given*. So a file that changed,
//! shrank, or was replaced makes the request break off before its body is complete. A part without
//! bytes has no chunk to hold back: whoever sends one must await the ending before believing it, and
//! does well to do so for all parts.
//!
//! Part of the fingerprint is the time of change, which nobody can set back. It moves also when only
//! mode, owner, name or links of a file do, and whether the content did cannot be told from there: a
//! `chmod` during an upload costs a new one. Reading, and writing back what is dirty, moves nothing.
//!
//! A store through a writable mapping moves the modification time only when it makes a clean page
//! dirty. So a file that takes more than one read is written back before it is read: its pages are
//! clean then, and whatever a writer stores from there on is seen in the fingerprint. Files of one
//! read are spared the flush of the disk: a store into a page of theirs that is dirty stays unseen
//! until the kernel has written it back, some 30 s after it became so.
//!
//! Each byte is copied once in here, by the kernel, from the page cache into a page-aligned buffer
//! ([`buffers`]); hashing reads it there, and the connection takes it from there without a copy but
//! the kernel's own, or that of encryption. A part that is not held, and whose digest must be known
//! first, is read twice. Memory is `transfer.memory`, for all parts together: a part is held only if its
//! length is free, and streamed through [`MEMORY_PER_PART`], whatever its length: the reader stops when
//! nobody takes chunks, and ends when the stream is dropped. Files are never mapped into memory: a
//! truncation would kill the process. Pages that had to be fetched from the disk are forgotten once
//! their part has arrived ([`ColdPages`]): an instrument keeps its own.
//!
//! At a crash nothing is lost. Called by the shell: on blocking threads, with a flag that ends them
//! early, but for what is `async` or says otherwise.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use md5::Digest;
use rustix::fs::Advice;
use rustix::io::ReadWriteFlags;
use tokio::sync::{mpsc, oneshot};

pub use self::again::{Again, Known, Opened, Resting};
pub use self::buffers::Room;
use self::buffers::{BUFFER_BYTES, Buffers, CHUNK_BYTES, Chunk};
pub use self::lockstep::{Digested, TOGETHER_MAX, Together, Wanted};
use self::proof::{not_read_on, open, prove};
use super::{Error, SourceFile};
use crate::digest::{Hasher, Stage};
use crate::model::{
    ByteCount, ByteRange, ContentMark, Failure, FailureKind, Md5, PartNumber, PartSize, WholeDigest,
};

mod again;
mod buffers;
mod lockstep;
mod proof;
#[cfg(test)]
mod tests;

/// Chunks that wait between the reading thread and the request body: one that is taken next and one
/// behind it, so that neither side waits for the other's turn.
const CHANNEL_CHUNKS: u32 = 2;

/// Chunks that exist at once for one streamed part: one being read, [`CHANNEL_CHUNKS`] waiting, and
/// three with the taker, since hyper gathers up to 408 KiB (two chunks) and a wrapper may hold one.
const CHUNKS_PER_STREAM: u32 = 1 + CHANNEL_CHUNKS + 3;

/// Most memory that one streamed part takes, whatever its length.
pub const MEMORY_PER_PART: ByteCount = ByteCount(CHUNKS_PER_STREAM as u64 * BUFFER_BYTES);

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartRead {
    /// Digest of the bytes.
    pub md5: Md5,
    /// How many they were: the length of the range.
    pub bytes: ByteCount,
}

/// How reading a part ended: what was read, and the pages that it brought into memory.
pub type Ending = Result<(PartRead, Option<ColdPages>), Failure>;

/// A part that is ready to be sent.
#[derive(Debug)]
pub struct Prepared {
    /// Its digest, where it was wanted first.
    pub md5: Option<Md5>,
    /// Its bytes, in order.
    pub chunks: PartStream,
    /// How reading ended: there once the last chunk was taken or an error was given. `Cancelled`, or
    /// its sender dropped, when the stream was dropped before or the runtime shuts down.
    pub ending: oneshot::Receiver<Ending>,
}

/// The bytes of one part, in order. Dropping it ends the reading.
///
/// An error item carries a [`Failure`] inside and is the last item.
#[derive(Debug)]
pub enum PartStream {
    /// All of them, in memory.
    Held(std::vec::IntoIter<Bytes>),
    /// As they are read.
    Read(mpsc::Receiver<io::Result<Bytes>>),
    /// As they are asked for; none only while this changes into the one above.
    Again(Option<Box<Again>>),
}

impl Stream for PartStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut *self {
            Self::Held(chunks) => Poll::Ready(chunks.next().map(Ok)),
            Self::Read(chunks) => chunks.poll_recv(context),
            Self::Again(again) => {
                if let Some(chunk) = again.as_mut().and_then(|again| again.chunk()) {
                    return Poll::Ready(Some(Ok(chunk)));
                }
                let Some(again) = again.take() else { return Poll::Ready(None) };
                let mut chunks = again.go_on_blocking();
                let polled = chunks.poll_recv(context);
                *self = Self::Read(chunks);
                polled
            }
        }
    }
}

/// Pages of a file that were not in memory before it was read here.
#[derive(Debug)]
pub struct ColdPages {
    file: Arc<File>,
    range: ByteRange,
}

impl ColdPages {
    /// Lets the system forget them: other files' pages had to go for them, and nobody else reads them.
    pub fn forget(self) {
        let length = NonZeroU64::new(self.range.length);
        // Advice only.
        rustix::fs::fadvise(&*self.file, self.range.offset, length, Advice::DontNeed).ok();
    }
}

/// Asked at every chunk that is read: whether reading goes on.
pub trait Attend {
    /// Tells whether reading is to stop.
    fn is_stopped(&self) -> bool;
}

impl Attend for AtomicBool {
    fn is_stopped(&self) -> bool {
        self.load(Ordering::Relaxed)
    }
}

/// Reads parts: one for the process, for its memory and its lanes are shared by all of them.
#[derive(Debug, Clone)]
pub struct PartReader {
    buffers: Buffers,
    stage: Stage,
}

impl PartReader {
    /// Starts with a budget of memory.
    pub fn new(memory: ByteCount) -> Self {
        Self { buffers: Buffers::new(memory, CHUNKS_PER_STREAM), stage: Stage::new() }
    }

    /// Returns how many parts are best digested side by side.
    pub fn lanes(&self) -> usize {
        self.stage.width().lanes()
    }

    /// Reserves room for a whole part, where the budget has it.
    pub fn try_room_for_whole(&self, length: u64) -> Option<Room> {
        self.buffers.try_whole(length)
    }

    /// Waits for the room that a part of any length is streamed through.
    pub async fn room_for_stream(&self) -> Room {
        self.buffers.some(CHUNKS_PER_STREAM).await
    }

    /// Reads and hashes a part on a blocking thread while it is sent. Must be called inside a tokio
    /// runtime.
    pub fn stream(&self, source: SourceFile, range: ByteRange, room: Room) -> Prepared {
        let (sender, chunks) = mpsc::channel(CHANNEL_CHUNKS as usize);
        let (told, ending) = oneshot::channel();
        let stage = self.stage.clone();
        tokio::task::spawn_blocking(move || {
            let reading = Reading::open(&source, range);
            let read =
                reading.and_then(|reading| feed(reading, &room, Digesting::On(&stage), &sender));
            tell(read, told, &sender);
        });
        Prepared { md5: None, chunks: PartStream::Read(chunks), ending }
    }

    /// Reads `range` of `source` and returns its digest. Blocks.
    ///
    /// # Errors
    /// `SourceChanged`, `SourceGone`, `SourceUnreadable`, `SourceAway`, `LocalFault`; `Cancelled` once
    /// `stop` is set.
    pub fn hash_range(
        &self,
        source: &SourceFile,
        range: ByteRange,
        stop: &impl Attend,
    ) -> Result<PartRead, Failure> {
        let file = open(source)?;
        let md5 = self.hash((&file, source), range, stop)?;
        prove(source, &file)?;
        Ok(PartRead { md5, bytes: ByteCount(range.length) })
    }

    /// Reads all of `source` in parts of `part_size` and returns the digest over the parts' digests.
    /// Blocks.
    ///
    /// # Errors
    /// As [`Self::hash_range`].
    pub fn hash_file(
        &self,
        source: &SourceFile,
        part_size: PartSize,
        stop: &impl Attend,
    ) -> Result<ContentMark, Failure> {
        let size = source.fingerprint.size;
        let count = part_size.count_for(size).ok_or_else(|| {
            let length = part_size.get();
            let message = format!("{} has too many parts of {length} bytes", source.path);
            Failure::new(FailureKind::LocalFault, message)
        })?;
        let file = open(source)?;
        let mut over_parts = Hasher::new();
        for part in (1..=count).filter_map(PartNumber::new) {
            let md5 = self.hash((&file, source), part_size.range_of(part, size), stop)?;
            over_parts.update(&md5.0);
        }
        prove(source, &file)?;
        Ok(ContentMark { part_size, md5_of_parts: over_parts.finish() })
    }

    fn hash(
        &self,
        from: (&File, &SourceFile),
        range: ByteRange,
        stop: &impl Attend,
    ) -> Result<Md5, Failure> {
        let mut hasher = Hasher::new();
        read_chunks(from, range, &self.buffers.aside(), |chunk| {
            go_on(from.1, stop)?;
            hasher = self.stage.advance(std::mem::take(&mut hasher), Bytes::from_owner(chunk));
            Ok(())
        })?;
        Ok(hasher.finish())
    }

    /// Reads the whole file in order and digests it. Blocks.
    ///
    /// # Errors
    /// When it is not the planned version, at its begin or at its end, or `stop` was set.
    pub fn digest_file(
        &self,
        source: &SourceFile,
        digest: WholeDigest,
        stop: &impl Attend,
    ) -> Result<WholeDigests, Failure> {
        let whole = ByteRange { offset: 0, length: source.fingerprint.size.0 };
        if digest == WholeDigest::Md5 {
            return self.hash_range(source, whole, stop).map(|read| (Some(read.md5), None));
        }
        let file = open(source)?;
        let mut sha256 = sha2::Sha256::new();
        read_chunks((&file, source), whole, &self.buffers.aside(), |chunk| {
            go_on(source, stop)?;
            sha256.update(chunk.as_ref());
            Ok(())
        })?;
        prove(source, &file)?;
        Ok((None, Some(sha256.finalize().into())))
    }
}

/// MD5 and SHA-256 of a whole file, as far as they were asked for.
pub type WholeDigests = (Option<Md5>, Option<[u8; 32]>);

/// A part that is being read.
struct Reading<'a> {
    source: &'a SourceFile,
    file: Arc<File>,
    range: ByteRange,
    /// Where reading goes on.
    at: u64,
    is_cold: bool,
}

impl<'a> Reading<'a> {
    fn open(source: &'a SourceFile, range: ByteRange) -> Result<Self, Failure> {
        let file = Arc::new(open(source)?);
        let is_cold = is_cold(&file, range);
        Ok(Self { source, file, range, at: range.offset, is_cold })
    }
}

/// Where a part's digest comes from.
#[derive(Clone, Copy)]
enum Digesting<'a> {
    /// Its bytes are hashed as they are read.
    On(&'a Stage),
    /// It is known.
    Done(Md5),
}

/// Reads, hashes unless the digest is known, proves and gives what is left of a part. The last chunk is
/// given only after the proof.
fn feed(
    reading: Reading<'_>,
    room: &Room,
    digesting: Digesting<'_>,
    chunks: &mpsc::Sender<io::Result<Bytes>>,
) -> Ending {
    let Reading { source, file, range, at, is_cold } = reading;
    let mut hasher = Hasher::new();
    let mut left = range.offset.saturating_add(range.length).saturating_sub(at);
    let rest = ByteRange { offset: at, length: left };
    read_chunks((&file, source), rest, room, |chunk| {
        left -= chunk.len() as u64;
        let bytes = Bytes::from_owner(chunk);
        if let Digesting::On(stage) = digesting {
            hasher = stage.advance(std::mem::take(&mut hasher), bytes.clone());
        }
        if left == 0 {
            prove(source, &file)?;
        }
        chunks.blocking_send(Ok(bytes)).map_err(|_| cancelled(source))
    })?;
    if range.length == 0 {
        prove(source, &file)?;
    }
    let md5 = match digesting {
        Digesting::On(_) => hasher.finish(),
        Digesting::Done(md5) => md5,
    };
    let read = PartRead { md5, bytes: ByteCount(range.length) };
    Ok((read, is_cold.then_some(ColdPages { file, range })))
}

/// Says how reading ended, to both who may ask.
fn tell(read: Ending, told: oneshot::Sender<Ending>, chunks: &mpsc::Sender<io::Result<Bytes>>) {
    let failure = read.as_ref().err().cloned();
    // Whoever does not await the ending does not want it.
    told.send(read).ok();
    if let Some(failure) = failure {
        chunks.blocking_send(Err(io::Error::other(failure))).ok();
    }
}

fn go_on(source: &SourceFile, stop: &impl Attend) -> Result<(), Failure> {
    if stop.is_stopped() { Err(cancelled(source)) } else { Ok(()) }
}

fn cancelled(source: &SourceFile) -> Failure {
    let message = format!("reading {} was given up", source.path);
    Failure::new(FailureKind::Cancelled, message)
}

/// Tells whether the end of a range must come from the disk. Its begin says nothing: the part before
/// it may have been read ahead into it. Asking fetches the page, so the answer holds once.
fn is_cold(file: &File, range: ByteRange) -> bool {
    let Some(last) = range.offset.saturating_add(range.length).checked_sub(1) else { return false };
    let mut byte = [0];
    let into = &mut [IoSliceMut::new(&mut byte)];
    // A file system that cannot tell is left alone.
    rustix::io::preadv2(file, into, last, ReadWriteFlags::NOWAIT) == Err(rustix::io::Errno::AGAIN)
}

/// Refuses a range that the planned version does not have.
fn check_range(source: &SourceFile, range: ByteRange) -> Result<(), Failure> {
    let end = range.offset.checked_add(range.length);
    if end.is_some_and(|end| end <= source.fingerprint.size.0) {
        return Ok(());
    }
    let message = format!("planned range lies beyond the end of {}", source.path);
    Err(Failure::new(FailureKind::LocalFault, message))
}

/// Tells the system that a range is read in order, if it takes more than one read.
fn prepare_to_read(file: &File, range: ByteRange) {
    if range.length > CHUNK_BYTES as u64 {
        let length = NonZeroU64::new(range.length);
        // Advice only: a file system that does not take it reads as well.
        rustix::fs::fadvise(file, range.offset, length, Advice::Sequential).ok();
    }
}

/// Reads the range in chunks and hands out each; stops at the first failure.
fn read_chunks(
    (file, source): (&File, &SourceFile),
    range: ByteRange,
    room: &Room,
    mut give: impl FnMut(Chunk) -> Result<(), Failure>,
) -> Result<(), Failure> {
    check_range(source, range)?;
    prepare_to_read(file, range);
    let end = range.offset + range.length;
    let mut offset = range.offset;
    while offset < end {
        let mut chunk = room.take(end - offset);
        fill(file, source, offset, chunk.as_mut())?;
        offset += chunk.len() as u64;
        give(chunk)?;
    }
    Ok(())
}

/// Fills the buffer from the file; a file that ends before is not the planned one.
fn fill(file: &File, source: &SourceFile, at: u64, buffer: &mut [u8]) -> Result<(), Error> {
    let mut done = 0;
    while done < buffer.len() {
        let offset = at + done as u64;
        match file.read_at(&mut buffer[done..], offset) {
            Ok(0) => {
                let how = format!("it ends after {offset} bytes");
                return Err(Error::changed(&source.path, how));
            }
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(not_read_on(source, "read", error).at(offset)),
        }
    }
    Ok(())
}

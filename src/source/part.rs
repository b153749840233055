//! Reads ranges of a planned file, digests them, and proves that it was the planned version.
//!
//! Owns the bytes between the disk and the request body. Each part is digested before it is sent, in parallel
//! with others ([`lockstep`]), whether the platform needs the digest first or not: the storage's answer is
//! compared with it. A small file is *kept*: all of it is read into reserved memory, and sent from there. A
//! larger one is read again while it is sent ([`body`]), usually from the page cache.
//!
//! It promises that a file that is not the planned version never becomes an accepted part: the
//! fingerprint is compared when the file is opened, and again, on the open file and on its path,
//! after the last byte was read and *before the last chunk is passed on*. So a file that changed,
//! shrank, or was replaced ends the request before its body is complete. An empty part has no chunk
//! to hold back: its sender must check the ending before trusting it, and should do so for all
//! parts.
//!
//! The fingerprint includes the time of change, which programs cannot set. It also moves when only
//! mode, owner, name or links of a file change, with the same content: a `chmod` during an upload
//! costs another read. Reading, and writing dirty pages back, changes nothing.
//!
//! A store through a writable mapping updates the modification time only when it makes a clean page
//! dirty. So a file that takes more than one read is written back before it is digested: its pages
//! are clean then, and later stores show in the fingerprint. Files of one read are spared the disk
//! flush: a store into a dirty page of one is not detected until the kernel has written the page
//! back, some 30 s after it became dirty.
//!
//! Each read copies a byte once, by the kernel, from the page cache into a page-aligned buffer
//! ([`buffers`]); hashing reads it there, and the connection sends it from there without a further
//! copy but the kernel's own, or that of encryption. Memory is `transfer.memory`, for all parts
//! together: a part is kept only if its length is free, and read again through [`MEMORY_PER_PART`]
//! otherwise: reading pauses while no chunk is consumed, and ends when they are dropped. Files are
//! never mapped into memory: a truncation would kill the process. Pages that had to be read from
//! the disk are dropped from the cache once their part has arrived ([`ColdPages`]): an instrument
//! keeps its own.
//!
//! A crash loses nothing. Called by the shell, on blocking threads unless `async` or stated
//! otherwise, with a flag that cancels the work.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use md5::Digest;
use rustix::fs::Advice;
use rustix::io::ReadWriteFlags;

pub(crate) use self::body::PartBytes;
pub(crate) use self::buffers::Room;
use self::buffers::{BUFFER_BYTES, Buffers, CHUNK_BYTES};
pub(crate) use self::lockstep::{Digested, Together, WantedRange};
use self::proof::{not_read_on, open};
use super::{Error, SourceFile};
use crate::digest::{Hasher, VectorWidth};
use crate::model::{
    ByteCount, ByteRange, ContentMark, Failure, FailureKind, Fingerprint, Md5, PartNumber,
    PartSize, WholeDigest,
};

mod body;
mod buffers;
mod lockstep;
mod proof;
#[cfg(test)]
mod tests;

/// Chunks that exist at once for one part that is read again: one being read, and three with the
/// connection, since hyper gathers up to 408 KiB (two chunks) and a wrapper may hold one.
const CHUNKS_PER_PART: u32 = 4;

/// Most memory of one part that is read again, whatever its length.
pub(crate) const MEMORY_PER_PART: ByteCount = ByteCount(CHUNKS_PER_PART as u64 * BUFFER_BYTES);

/// Pages of a file that were not in memory before it was read here.
#[derive(Debug)]
pub(crate) struct ColdPages {
    file: Arc<File>,
    range: ByteRange,
}

impl ColdPages {
    /// Drops them from the page cache: they displaced other files' pages, and no other process reads them.
    pub(crate) fn forget(&self) {
        let length = NonZeroU64::new(self.range.length);
        // Only advice.
        rustix::fs::fadvise(&*self.file, self.range.offset, length, Advice::DontNeed).ok();
    }
}

/// Called at every chunk that is read: whether reading continues.
pub(crate) trait Attend {
    /// Returns whether reading is to stop.
    fn is_stopped(&self) -> bool;
}

impl Attend for AtomicBool {
    fn is_stopped(&self) -> bool {
        self.load(Ordering::Relaxed)
    }
}

/// Reads parts: one for the process, because all parts share its memory and its lanes.
#[derive(Debug, Clone)]
pub(crate) struct PartReader {
    buffers: Buffers,
    width: VectorWidth,
}

impl PartReader {
    /// Starts with a memory budget.
    pub(crate) fn new(memory: ByteCount) -> Self {
        Self { buffers: Buffers::new(memory, CHUNKS_PER_PART), width: VectorWidth::best() }
    }

    /// Returns how many parts are best digested in parallel.
    pub(crate) fn lanes(&self) -> usize {
        self.width.lanes()
    }

    /// Reserves memory for a whole part, if the budget has it.
    pub(crate) fn try_room_for_whole(&self, length: u64) -> Option<Room> {
        self.buffers.try_whole(length)
    }

    /// Waits for the memory in which a part of any length is read again.
    pub(crate) async fn room_to_read_again(&self) -> Room {
        self.buffers.some(CHUNKS_PER_PART).await
    }

    /// Reads `range` of `source` and returns its digest. Blocks.
    ///
    /// # Errors
    /// `SourceChanged`, `SourceGone`, `SourceUnreadable`, `SourceAway`, `LocalFault`; `Cancelled` once
    /// `stop` is set.
    pub(crate) fn hash_range(
        &self,
        source: &SourceFile,
        range: ByteRange,
        stop: &impl Attend,
    ) -> Result<Md5, Failure> {
        let md5s = self.hash_ranges(source, &[range], stop)?;
        Ok(md5s[0])
    }

    /// Reads all of `source` in parts of `part_size` and returns the digest over the parts' digests.
    /// Blocks.
    pub(crate) fn hash_file(
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
        let parts = (1..=count).filter_map(PartNumber::new);
        let ranges: Vec<_> = parts.map(|part| part_size.range_of(part, size)).collect();
        let mut over_parts = Hasher::new();
        for md5 in self.hash_ranges(source, &ranges, stop)? {
            over_parts.update(&md5.0);
        }
        Ok(ContentMark { part_size, md5_of_parts: over_parts.finish() })
    }

    /// Reads ranges in parallel and returns their digests, in order. Blocks. The first failure
    /// cancels the others.
    pub(crate) fn hash_ranges(
        &self,
        source: &SourceFile,
        ranges: &[ByteRange],
        stop: &impl Attend,
    ) -> Result<Vec<Md5>, Failure> {
        let mut left = ranges.iter().enumerate();
        let (mut md5s, mut failed) = (vec![Md5([0; 16]); ranges.len()], None);
        let stop = OrFailed { stop, has_failed: Cell::new(false) };
        let more = |_: usize, under_way: usize| {
            let count =
                if stop.has_failed.get() { 0 } else { self.lanes().saturating_sub(under_way) };
            let wanted = |range| WantedRange { file: source.clone(), range, room: None };
            left.by_ref().take(count).map(|(index, range)| (wanted(*range), index)).collect()
        };
        let done = |index: usize, digested: Result<Digested, Failure>| match digested {
            Ok(digested) => md5s[index] = digested.md5,
            Err(failure) => {
                stop.has_failed.set(true);
                failed.get_or_insert(failure);
            }
        };
        self.digest_together(&Together::default(), more, done, &stop);
        failed.map_or(Ok(md5s), Err)
    }

    /// Checks whether a file is still what was read of it, range by range. If it may be another version,
    /// it is read, provided that its time of modification is the planned one or `settled`. Blocks.
    ///
    /// # Errors
    /// As [`Self::hash_range`].
    pub(crate) fn prove_parts(
        &self,
        source: &SourceFile,
        sent: &[(ByteRange, Md5)],
        settled: Option<&Fingerprint>,
        stop: &impl Attend,
    ) -> Result<PartsProof, Failure> {
        // Opening it writes dirty pages back, without which its times may be old.
        drop(open(source)?);
        let (planned, version) = (&source.fingerprint, proof::find(source)?);
        if planned.is_untouched(&version) {
            return Ok(PartsProof::Read { version, differing: Vec::new() });
        }
        let is_quiet = |before: &Fingerprint| before.same_stamp(&version);
        if !is_quiet(planned) && !settled.is_some_and(is_quiet) {
            return Ok(PartsProof::Moved(version));
        }
        let ranges: Vec<_> = sent.iter().map(|(range, _)| *range).collect();
        let md5s = self.hash_ranges(source, &ranges, stop)?;
        let after = proof::find(source)?;
        if !after.same_stamp(&version) {
            return Ok(PartsProof::Moved(after));
        }
        let both = sent.iter().zip(&md5s).enumerate();
        let differing = both.filter(|(_, ((_, sent), read))| sent != *read);
        let differing = differing.map(|(index, _)| PartNumber::from_index(index)).collect();
        Ok(PartsProof::Read { version, differing })
    }

    /// Reads the whole file in order and digests it. Blocks.
    ///
    /// # Errors
    /// When it is not the planned version, at its start or at its end, or `stop` was set.
    pub(crate) fn digest_file(
        &self,
        source: &SourceFile,
        digest: WholeDigest,
        stop: &impl Attend,
    ) -> Result<WholeDigests, Failure> {
        let whole = ByteRange { offset: 0, length: source.fingerprint.size.0 };
        if digest == WholeDigest::Md5 {
            proof::prove_version(source)?;
            let md5 = self.hash_range(source, whole, stop)?;
            proof::prove_version(source)?;
            return Ok((Some(md5), None));
        }
        proof::prove_version(source)?;
        let file = open(source)?;
        prepare_to_read(&file, whole);
        let (mut sha256, room) = (sha2::Sha256::new(), self.buffers.aside());
        let mut at = 0;
        while at < whole.length {
            go_on(source, stop)?;
            let mut chunk = room.take(whole.length - at);
            fill(&file, source, at, chunk.as_mut())?;
            at += chunk.len() as u64;
            sha256.update(chunk.as_ref());
        }
        proof::prove_version(source)?;
        Ok((None, Some(sha256.finalize().into())))
    }
}

/// The state of a file since its parts were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PartsProof {
    /// Its present version, and the parts with other bytes.
    Read { version: Fingerprint, differing: Vec<PartNumber> },
    /// It was just written to or touched.
    Moved(Fingerprint),
}

/// MD5 and SHA-256 of a whole file, as far as they were requested.
pub(crate) type WholeDigests = (Option<Md5>, Option<[u8; 32]>);

/// Cancels reading on request, or when a range has failed.
struct OrFailed<'a, T> {
    stop: &'a T,
    has_failed: Cell<bool>,
}

impl<T: Attend> Attend for OrFailed<'_, T> {
    fn is_stopped(&self) -> bool {
        self.stop.is_stopped() || self.has_failed.get()
    }
}

fn go_on(source: &SourceFile, stop: &impl Attend) -> Result<(), Failure> {
    if stop.is_stopped() { Err(cancelled(source)) } else { Ok(()) }
}

fn cancelled(source: &SourceFile) -> Failure {
    let message = format!("reading {} was given up", source.path);
    Failure::new(FailureKind::Cancelled, message)
}

/// Returns whether the end of a range must come from the disk. Its start proves nothing: the part before
/// it may have been read ahead into it. The check itself loads the page, so the answer is valid once.
fn is_cold(file: &File, range: ByteRange) -> bool {
    let Some(last) = range.offset.saturating_add(range.length).checked_sub(1) else { return false };
    let mut byte = [0];
    let into = &mut [IoSliceMut::new(&mut byte)];
    // A file system without this call is left alone.
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

/// Advises the system that a range is read in order, if it takes more than one read.
fn prepare_to_read(file: &File, range: ByteRange) {
    if range.length > CHUNK_BYTES as u64 {
        let length = NonZeroU64::new(range.length);
        // Only advice: a file system without it reads as well.
        rustix::fs::fadvise(file, range.offset, length, Advice::Sequential).ok();
    }
}

/// Fills the buffer from the file; a file that ends earlier is not the planned one.
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

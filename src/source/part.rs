//! Reading one range of a planned file: hashing it, and proving that it was the planned version.
//!
//! Owns the bytes between the disk and the request body. [`read_part`] gives them as a stream that a
//! blocking thread fills, and beside it an outcome: the MD5 of exactly the bytes that were given, or
//! why reading failed. [`hash_range`] and [`hash_file`] read without giving.
//!
//! It promises that a file that is not the planned version never becomes an accepted part: the
//! fingerprint is compared when the file is opened, and again, on the open file and on its path,
//! after the last byte was read and *before the last chunk is given*. So a file that changed,
//! shrank, or was replaced makes the request break off before its body is complete. A part without
//! bytes has no chunk to hold back: whoever sends one must await the outcome before believing it, and
//! does well to do so for all parts.
//!
//! Part of the fingerprint is the time of change, which nobody can set back. It moves also when only
//! mode, owner, name or links of a file do, and whether the content did cannot be told from there: a
//! `chmod` during an upload costs a new one. Reading, and writing back what is dirty, moves nothing.
//!
//! A store through a writable mapping moves the modification time only when it makes a clean page
//! dirty. So a file that takes more than one read is written back before each reading: its pages are
//! clean then, and whatever a writer stores from there on is seen in the fingerprint. Files of one
//! read are spared the flush of the disk: a store into a page of theirs that is dirty stays unseen
//! until the kernel has written it back, some 30 s after it became so.
//!
//! Memory for one part never exceeds [`MEMORY_PER_PART`], whatever its length: the reader stops when
//! nobody takes chunks, and ends when the stream is dropped. Files are never mapped into memory: a
//! truncation would kill the process.
//!
//! At a crash nothing is lost. Called by the shell: `read_part` inside a tokio runtime, the others on
//! blocking threads, with a flag that ends them early.

use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use md5::Digest;
use rustix::fs::{Advice, FileType};
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};

use super::beneath::{Link, Root, Stat, stat_fd};
use super::{Error, SourceFile};
use crate::model::{
    ByteCount, ByteRange, ContentMark, Failure, FailureKind, Fingerprint, Md5, PartNumber,
    PartSize, SourcePath, WholeDigest,
};

/// Bytes read at once. Larger reads save nothing measurable; smaller ones cost system calls.
const CHUNK_BYTES: usize = 256 * 1024;

/// Chunks that wait between the reading thread and the request body: one that is taken next and one
/// behind it, so that neither side waits for the other's turn.
const CHANNEL_CHUNKS: usize = 2;

/// Chunks that exist at once for one part: one being read, [`CHANNEL_CHUNKS`] waiting, and three
/// with the taker, since hyper gathers up to 408 KiB (two chunks) and a wrapper may hold one.
const CHUNKS_PER_PART: u64 = 1 + CHANNEL_CHUNKS as u64 + 3;

/// Buffers start on a page: reading into the middle of one doubles the kernel's work on some
/// processors.
const PAGE_BYTES: usize = 4096;

/// Most memory that one part in flight takes here, whatever its length.
pub const MEMORY_PER_PART: ByteCount =
    ByteCount(CHUNKS_PER_PART * (CHUNK_BYTES + PAGE_BYTES) as u64);

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartRead {
    /// Digest of the bytes.
    pub md5: Md5,
    /// How many they were: the length of the range.
    pub bytes: ByteCount,
}

/// The bytes of one part, in order. Dropping it ends the reading.
///
/// An error item carries a [`Failure`] inside and is the last item.
#[derive(Debug)]
pub struct PartStream {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
}

impl Stream for PartStream {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks.poll_recv(context)
    }
}

/// Reads `range` of `source` on a blocking thread and returns its bytes and, beside them, the
/// outcome.
///
/// The outcome is there once the last chunk was taken or an error was given; it is `Cancelled` when
/// the stream was dropped before, and its sender is dropped when the runtime shuts down. Must be
/// called inside a tokio runtime.
pub fn read_part(
    source: SourceFile,
    range: ByteRange,
) -> (PartStream, oneshot::Receiver<Result<PartRead, Failure>>) {
    let (sender, chunks) = mpsc::channel(CHANNEL_CHUNKS);
    let (told, outcome) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let read = feed(&source, range, &sender);
        let failure = read.as_ref().err().cloned();
        // Whoever does not await the outcome does not want it.
        told.send(read).ok();
        if let Some(failure) = failure {
            sender.blocking_send(Err(io::Error::other(failure))).ok();
        }
    });
    (PartStream { chunks }, outcome)
}

/// Reads `range` of `source` and returns its digest.
///
/// # Errors
/// `SourceChanged`, `SourceGone`, `SourceUnreadable`, `SourceAway`, `LocalFault`; `Cancelled` once
/// `stop` is set.
pub fn hash_range(
    source: &SourceFile,
    range: ByteRange,
    stop: &AtomicBool,
) -> Result<PartRead, Failure> {
    let file = open(source)?;
    let mut md5 = md5::Md5::new();
    hash_into(&mut md5, &file, source, range, stop)?;
    prove(source, &file)?;
    Ok(PartRead { md5: Md5(md5.finalize().into()), bytes: ByteCount(range.length) })
}

/// Reads all of `source` in parts of `part_size` and returns the digest over the parts' digests.
///
/// # Errors
/// As [`hash_range`].
pub fn hash_file(
    source: &SourceFile,
    part_size: PartSize,
    stop: &AtomicBool,
) -> Result<ContentMark, Failure> {
    let size = source.fingerprint.size;
    let count = part_size.count_for(size).ok_or_else(|| {
        let message = format!("{} has too many parts of {} bytes", source.path, part_size.get());
        Failure::new(FailureKind::LocalFault, message)
    })?;
    let file = open(source)?;
    let mut over_parts = md5::Md5::new();
    for part in (1..=count).filter_map(PartNumber::new) {
        let mut md5 = md5::Md5::new();
        hash_into(&mut md5, &file, source, part_size.range_of(part, size), stop)?;
        over_parts.update(md5.finalize());
    }
    prove(source, &file)?;
    Ok(ContentMark { part_size, md5_of_parts: Md5(over_parts.finalize().into()) })
}

/// Reads, hashes, proves and gives one range. The last chunk is given only after the proof.
fn feed(
    source: &SourceFile,
    range: ByteRange,
    chunks: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<PartRead, Failure> {
    let file = open(source)?;
    let mut md5 = md5::Md5::new();
    let mut left = range.length;
    read_chunks(&file, source, range, |chunk| {
        md5.update(chunk.as_ref());
        left -= chunk.length as u64;
        if left == 0 {
            prove(source, &file)?;
        }
        chunks.blocking_send(Ok(Bytes::from_owner(chunk))).map_err(|_| cancelled(source))
    })?;
    if range.length == 0 {
        prove(source, &file)?;
    }
    Ok(PartRead { md5: Md5(md5.finalize().into()), bytes: ByteCount(range.length) })
}

/// Reads the whole file in order and digests it.
///
/// # Errors
/// When it is not the planned version, at its begin or at its end, or `stop` was set.
pub fn digest_file(
    source: &SourceFile,
    digest: WholeDigest,
    stop: &AtomicBool,
) -> Result<WholeDigests, Failure> {
    let file = open(source)?;
    let whole = ByteRange { offset: 0, length: source.fingerprint.size.0 };
    let (mut md5, mut sha256) = (md5::Md5::new(), sha2::Sha256::new());
    read_chunks(&file, source, whole, |chunk| {
        if stop.load(Ordering::Relaxed) {
            return Err(cancelled(source));
        }
        match digest {
            WholeDigest::Md5 => md5.update(chunk.as_ref()),
            WholeDigest::Sha256 => sha256.update(chunk.as_ref()),
        }
        Ok(())
    })?;
    prove(source, &file)?;
    Ok(match digest {
        WholeDigest::Md5 => (Some(Md5(md5.finalize().into())), None),
        WholeDigest::Sha256 => (None, Some(sha256.finalize().into())),
    })
}

/// MD5 and SHA-256 of a whole file, as far as they were asked for.
pub type WholeDigests = (Option<Md5>, Option<[u8; 32]>);

fn hash_into(
    md5: &mut md5::Md5,
    file: &File,
    source: &SourceFile,
    range: ByteRange,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    read_chunks(file, source, range, |chunk| {
        if stop.load(Ordering::Relaxed) {
            return Err(cancelled(source));
        }
        md5.update(chunk.as_ref());
        Ok(())
    })
}

fn cancelled(source: &SourceFile) -> Failure {
    let message = format!("reading {} was given up", source.path);
    Failure::new(FailureKind::Cancelled, message)
}

/// Reads the range in chunks and hands out each; stops at the first failure.
fn read_chunks(
    file: &File,
    source: &SourceFile,
    range: ByteRange,
    mut give: impl FnMut(Chunk) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let end = range.offset.checked_add(range.length);
    let Some(end) = end.filter(|end| *end <= source.fingerprint.size.0) else {
        let message = format!("planned range lies beyond the end of {}", source.path);
        return Err(Failure::new(FailureKind::LocalFault, message));
    };
    let length = NonZeroU64::new(range.length);
    // Advice only: a file system that does not take it reads as well.
    rustix::fs::fadvise(file, range.offset, length, Advice::Sequential).ok();
    let pool = Pool::for_length(range.length);
    let mut offset = range.offset;
    while offset < end {
        let mut chunk = pool.take(end - offset);
        fill(file, source, offset, chunk.as_mut())?;
        offset += chunk.length as u64;
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
            Err(error) => return Err(not_read_on(source, "read", error)),
        }
    }
    Ok(())
}

/// Opens the file and proves that it is the planned version.
fn open(source: &SourceFile) -> Result<File, Error> {
    let root = Root::open(&source.root)?;
    let fd = match root.open_file(&source.path) {
        Err(Errno::LOOP) => {
            let target = follow(&root, &source.path)?;
            root.open_file(&target)
        }
        opened => opened,
    };
    let file = File::from(fd.map_err(|errno| not_read(&root, source, ("open", errno)))?);
    if source.fingerprint.size.0 > CHUNK_BYTES as u64 {
        // Where a file system cannot, the fingerprint tells what it tells.
        rustix::fs::fdatasync(&file).ok();
    }
    prove_open(source, &file).or_else(|changed| say_gone(&root, source, changed))?;
    Ok(file)
}

/// Proves that the open file and what its path leads to are still the planned version.
///
/// The path comes first: to replace a file changes the open one as well.
fn prove(source: &SourceFile, file: &File) -> Result<(), Error> {
    let root = Root::open(&source.root)?;
    let doing = |errno| not_read(&root, source, ("look at", errno));
    let mut stat = root.stat(&source.path).map_err(doing)?;
    if stat.file_type == FileType::Symlink {
        stat = root.stat(&follow(&root, &source.path)?).map_err(doing)?;
    }
    compare(source, stat)?;
    prove_open(source, file).or_else(|changed| say_gone(&root, source, changed))
}

/// Removing a file changes the open one as well: that it is gone goes before that it changed.
fn say_gone(root: &Root, source: &SourceFile, changed: Error) -> Result<(), Error> {
    match root.stat(&source.path) {
        Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => {
            Err(not_read(root, source, ("look at", errno)))
        }
        Ok(_) | Err(_) => Err(changed),
    }
}

/// Says why a file is not read: that it is not there can be told only where anything is, and that it
/// may not be read only where the drop directory may.
fn not_read(root: &Root, source: &SourceFile, failed: (&'static str, Errno)) -> Error {
    let (doing, errno) = failed;
    let is_missing = matches!(errno, Errno::NOENT | Errno::NOTDIR);
    match root.is_empty() {
        Ok(true) if is_missing => Error::empty(&source.root),
        Ok(_) => Error::of_file(doing, &source.path, errno),
        Err(error) => error,
    }
}

/// As [`not_read`], of a file that is open.
fn not_read_on(source: &SourceFile, doing: &'static str, error: io::Error) -> Error {
    match (Root::open(&source.root), Errno::from_io_error(&error)) {
        (Ok(root), Some(errno)) => not_read(&root, source, (doing, errno)),
        (Ok(_), None) => Error::of_file(doing, &source.path, error),
        (Err(away), _) => away,
    }
}

fn prove_open(source: &SourceFile, file: &File) -> Result<(), Error> {
    let stat = stat_fd(file).map_err(|errno| not_read_on(source, "look at", errno.into()))?;
    compare(source, stat)
}

fn follow(root: &Root, path: &SourcePath) -> Result<SourcePath, Error> {
    match root.resolve(path) {
        Link::Inside(target) => Ok(target),
        Link::Outside => Err(Error::changed(path, "it leads out of the drop directory".to_owned())),
        Link::Broken => Err(Error::of_file("follow", path, Errno::NOENT)),
        Link::Failing(errno) => Err(Error::of_file("follow", path, errno)),
    }
}

fn compare(source: &SourceFile, found: Stat) -> Result<(), Error> {
    let planned = &source.fingerprint;
    if found.file_type != FileType::RegularFile {
        return Err(Error::changed(&source.path, "it is not a regular file".to_owned()));
    }
    if planned.is_untouched(&found.fingerprint) {
        return Ok(());
    }
    Err(Error::changed(&source.path, difference(planned, &found.fingerprint)))
}

fn difference(planned: &Fingerprint, found: &Fingerprint) -> String {
    if planned.inode != found.inode {
        "it was replaced by another file".to_owned()
    } else if planned.size != found.size {
        format!("it had {} bytes and has {}", planned.size.0, found.size.0)
    } else if planned.mtime_ns != found.mtime_ns {
        "it was written to".to_owned()
    } else {
        "it was changed, and its time of modification set back or left".to_owned()
    }
}

/// Buffers of one part that are used again as soon as the taker drops them.
#[derive(Debug)]
struct Pool {
    buffer_bytes: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    /// Makes a pool whose buffers are no larger than a part of `length` needs.
    fn for_length(length: u64) -> Arc<Self> {
        let chunk = usize::try_from(length).map_or(CHUNK_BYTES, |length| length.min(CHUNK_BYTES));
        let buffer_bytes = chunk.next_multiple_of(PAGE_BYTES) + PAGE_BYTES;
        Arc::new(Self { buffer_bytes, free: Mutex::new(Vec::new()) })
    }

    /// Returns a page-aligned chunk of at most `left` bytes.
    fn take(self: &Arc<Self>, left: u64) -> Chunk {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let memory = free.unwrap_or_else(|| vec![0; self.buffer_bytes]);
        let start = memory.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
        let length = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        Chunk { memory, start, length, pool: Arc::clone(self) }
    }
}

/// A filled piece of a pooled buffer; goes back to its pool when dropped.
#[derive(Debug)]
struct Chunk {
    memory: Vec<u8>,
    start: usize,
    length: usize,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl AsMut<[u8]> for Chunk {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        self.pool.free.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use futures_util::StreamExt;

    use super::super::tests::path;
    use super::*;

    const CHUNK: u64 = CHUNK_BYTES as u64;
    static GO: AtomicBool = AtomicBool::new(false);

    fn content(length: u64) -> Vec<u8> {
        (0..length).map(|n| u8::try_from((n * 31 + n / 251) % 256).unwrap()).collect()
    }

    fn digest(bytes: &[u8]) -> Md5 {
        Md5(md5::Md5::digest(bytes).into())
    }

    fn source(root: &Path, name: &str) -> SourceFile {
        let directory = Root::open(root).unwrap();
        let mut stat = directory.stat(&path(name)).unwrap();
        if let (FileType::Symlink, Link::Inside(target)) =
            (stat.file_type, directory.resolve(&path(name)))
        {
            stat = directory.stat(&target).unwrap();
        }
        SourceFile { root: root.to_owned(), path: path(name), fingerprint: stat.fingerprint }
    }

    /// Makes a drop directory with one file of `length` bytes.
    fn drop_with(length: u64) -> (tempfile::TempDir, PathBuf, SourceFile) {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, content(length)).unwrap();
        // A drop directory that is empty may be one whose share is away.
        fs::create_dir(root.path().join("run")).unwrap();
        let source = source(root.path(), "file");
        (root, file, source)
    }

    fn whole(source: &SourceFile) -> ByteRange {
        ByteRange { offset: 0, length: source.fingerprint.size.0 }
    }

    /// Takes all chunks; the failure is the one inside the last item.
    async fn drain(stream: &mut PartStream) -> (Vec<u8>, Option<Failure>) {
        let mut bytes = Vec::new();
        while let Some(item) = stream.next().await {
            match item {
                Ok(chunk) => bytes.extend_from_slice(&chunk),
                Err(error) => {
                    let inner = error.into_inner().unwrap().downcast::<Failure>().unwrap();
                    assert!(stream.next().await.is_none(), "an error is the last item");
                    return (bytes, Some(*inner));
                }
            }
        }
        (bytes, None)
    }

    #[tokio::test]
    async fn bytes_and_digest_of_a_range_are_those_of_the_file() {
        let (_root, _, source) = drop_with(3 * CHUNK + 17);
        let all = content(3 * CHUNK + 17);
        let ranges = [(0, 1), (0, CHUNK), (1, CHUNK), (CHUNK, CHUNK + 1), (0, 3 * CHUNK + 17)];
        for (offset, length) in ranges {
            let range = ByteRange { offset, length };
            let (mut stream, outcome) = read_part(source.clone(), range);
            let (bytes, failure) = drain(&mut stream).await;
            assert_eq!(failure, None);
            let start = usize::try_from(offset).unwrap();
            let wanted = &all[start..start + usize::try_from(length).unwrap()];
            assert!(bytes == wanted);
            let read = PartRead { md5: digest(wanted), bytes: ByteCount(length) };
            assert_eq!(outcome.await.unwrap(), Ok(read));
            assert_eq!(hash_range(&source, range, &GO), Ok(read));
        }
    }

    #[tokio::test]
    async fn empty_part_has_no_chunk_and_is_proved_all_the_same() {
        let (_root, file, source) = drop_with(0);
        let (mut stream, outcome) = read_part(source.clone(), whole(&source));
        assert_eq!(drain(&mut stream).await, (Vec::new(), None));
        assert_eq!(outcome.await.unwrap().unwrap().md5, digest(b""));

        fs::write(&file, "more").unwrap();
        let (mut stream, outcome) = read_part(source.clone(), whole(&source));
        let (_, failure) = drain(&mut stream).await;
        assert_eq!(failure.unwrap().kind, FailureKind::SourceChanged);
        assert_eq!(outcome.await.unwrap().unwrap_err().kind, FailureKind::SourceChanged);
    }

    /// Changes the file while it is being read: the body must break off before its end.
    async fn change_during_read(change: impl FnOnce(&Path)) -> Failure {
        let length = 8 * CHUNK;
        let (_root, file, source) = drop_with(length);
        let (mut stream, outcome) = read_part(source.clone(), whole(&source));
        let first = stream.next().await.unwrap().unwrap();
        change(&file);
        let (rest, failure) = drain(&mut stream).await;
        assert!(((first.len() + rest.len()) as u64) < length, "the last chunk was given");
        let failure = failure.unwrap();
        assert_eq!(outcome.await.unwrap(), Err(failure.clone()));
        failure
    }

    #[tokio::test]
    async fn growing_file_breaks_off_the_body() {
        let failure = change_during_read(|file| {
            fs::OpenOptions::new().append(true).open(file).unwrap().write_all(b"x").unwrap();
        });
        let failure = failure.await;
        assert_eq!(failure.kind, FailureKind::SourceChanged);
        assert!(failure.message.contains("bytes and has"), "{failure}");
    }

    #[tokio::test]
    async fn truncated_file_breaks_off_the_body() {
        let failure = change_during_read(|file| {
            fs::OpenOptions::new().write(true).open(file).unwrap().set_len(10).unwrap();
        });
        let failure = failure.await;
        assert_eq!(failure.kind, FailureKind::SourceChanged);
        assert!(failure.message.contains("it ends after"), "{failure}");
    }

    #[tokio::test]
    async fn file_written_in_place_breaks_off_the_body() {
        let failure = change_during_read(|file| {
            let file = fs::OpenOptions::new().write(true).open(file).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
        });
        assert_eq!(failure.await.kind, FailureKind::SourceChanged);
    }

    #[tokio::test]
    async fn file_written_in_place_whose_time_is_set_back_breaks_off_the_body() {
        let failure = change_during_read(|file| {
            let time = fs::metadata(file).unwrap().modified().unwrap();
            let mut file = fs::OpenOptions::new().write(true).open(file).unwrap();
            file.write_all(b"other").unwrap();
            file.set_modified(time).unwrap();
        });
        let failure = failure.await;
        assert_eq!(failure.kind, FailureKind::SourceChanged);
        assert!(failure.message.contains("time of modification"), "{failure}");
    }

    #[tokio::test]
    async fn replaced_file_breaks_off_the_body() {
        let failure = change_during_read(|file| {
            let other = file.with_extension("other");
            fs::write(&other, content(8 * CHUNK)).unwrap();
            let modified = fs::metadata(file).unwrap().modified().unwrap();
            fs::File::open(&other).unwrap().set_modified(modified).unwrap();
            fs::rename(&other, file).unwrap();
        });
        let failure = failure.await;
        assert_eq!(failure.kind, FailureKind::SourceChanged);
        assert!(failure.message.contains("replaced"), "{failure}");
    }

    #[tokio::test]
    async fn removed_file_breaks_off_the_body() {
        let failure = change_during_read(|file| fs::remove_file(file).unwrap()).await;
        assert_eq!(failure.kind, FailureKind::SourceGone);
    }

    #[tokio::test]
    async fn other_version_is_refused_before_a_byte_is_read() {
        let (_root, file, source) = drop_with(100);
        fs::write(&file, content(101)).unwrap();
        let (mut stream, outcome) = read_part(source.clone(), whole(&source));
        let (bytes, failure) = drain(&mut stream).await;
        assert!(bytes.is_empty());
        assert_eq!(failure.unwrap().kind, FailureKind::SourceChanged);
        assert!(outcome.await.unwrap().is_err());
        let hashed = hash_range(&source, whole(&source), &GO);
        assert_eq!(hashed.unwrap_err().kind, FailureKind::SourceChanged);
    }

    #[test]
    fn missing_file_is_gone_unless_nothing_is_there_or_the_drop_directory_is_away() {
        let (root, file, source) = drop_with(1);
        fs::remove_file(&file).unwrap();
        let hash = || hash_range(&source, whole(&source), &GO).unwrap_err();
        assert_eq!(hash().kind, FailureKind::SourceGone);
        assert!(hash().message.starts_with("cannot open file"), "{}", hash());
        fs::remove_dir(root.path().join("run")).unwrap();
        assert_eq!(hash().kind, FailureKind::SourceAway);
        assert!(hash().message.contains("it is empty"), "{}", hash());
        drop(root);
        assert_eq!(hash().kind, FailureKind::SourceAway);
        assert!(hash().message.starts_with("cannot open drop directory"), "{}", hash());
    }

    #[test]
    fn directory_in_the_file_s_place_is_another_version() {
        let (_root, file, source) = drop_with(1);
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        let failure = hash_range(&source, whole(&source), &GO).unwrap_err();
        assert_eq!(failure.kind, FailureKind::SourceChanged);
    }

    #[test]
    fn range_beyond_the_end_is_our_own_fault() {
        let (_root, _, source) = drop_with(10);
        for (offset, length) in [(0, 11), (10, 1), (11, 0), (u64::MAX, 2)] {
            let failure = hash_range(&source, ByteRange { offset, length }, &GO).unwrap_err();
            assert_eq!(failure.kind, FailureKind::LocalFault, "{offset} {length}");
        }
    }

    #[test]
    fn links_inside_are_read_and_links_outside_are_not() {
        let (root, _, _) = drop_with(10);
        symlink("file", root.path().join("link")).unwrap();
        let linked = source(root.path(), "link");
        let read = hash_range(&linked, whole(&linked), &GO).unwrap();
        assert_eq!(read.md5, digest(&content(10)));

        fs::remove_file(root.path().join("link")).unwrap();
        symlink("/etc/passwd", root.path().join("link")).unwrap();
        let failure = hash_range(&linked, whole(&linked), &GO).unwrap_err();
        assert_eq!(failure.kind, FailureKind::SourceChanged);
        fs::remove_file(root.path().join("link")).unwrap();
        symlink("nothing", root.path().join("link")).unwrap();
        let failure = hash_range(&linked, whole(&linked), &GO).unwrap_err();
        assert_eq!(failure.kind, FailureKind::SourceGone);
    }

    #[tokio::test]
    async fn dropped_stream_ends_the_reader() {
        let (_root, _, source) = drop_with(20 * CHUNK);
        let (mut stream, outcome) = read_part(source.clone(), whole(&source));
        stream.next().await.unwrap().unwrap();
        drop(stream);
        assert_eq!(outcome.await.unwrap().unwrap_err().kind, FailureKind::Cancelled);
    }

    #[test]
    fn hashing_ends_when_told() {
        let (_root, _, source) = drop_with(10);
        let stop = AtomicBool::new(true);
        let failure = hash_range(&source, whole(&source), &stop).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Cancelled);
        let failure = hash_file(&source, PartSize::new(3).unwrap(), &stop).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Cancelled);
    }

    #[test]
    fn mark_is_the_digest_over_the_parts_digests() {
        let all = content(2 * CHUNK + 5);
        for (length, part_size) in [(0, 8), (8, 8), (9, 8), (2 * CHUNK + 5, CHUNK + 1)] {
            let (_root, _, source) = drop_with(length);
            let bytes = &all[..usize::try_from(length).unwrap()];
            let mut chunks: Vec<_> = bytes.chunks(usize::try_from(part_size).unwrap()).collect();
            if chunks.is_empty() {
                chunks.push(&[]);
            }
            let digests: Vec<u8> = chunks.iter().flat_map(|chunk| digest(chunk).0).collect();
            let part_size = PartSize::new(part_size).unwrap();
            let mark = hash_file(&source, part_size, &GO).unwrap();
            assert_eq!(mark, ContentMark { part_size, md5_of_parts: digest(&digests) });
        }
    }

    #[test]
    fn chunks_are_aligned_and_their_buffers_used_again() {
        let pool = Pool::for_length(10 * CHUNK);
        let first = pool.take(10 * CHUNK);
        assert_eq!(first.as_ref().len(), CHUNK_BYTES);
        assert_eq!(first.as_ref().as_ptr().align_offset(PAGE_BYTES), 0);
        let address = first.as_ref().as_ptr();
        drop(Bytes::from_owner(first));
        let second = pool.take(5);
        assert_eq!((second.as_ref().as_ptr(), second.as_ref().len()), (address, 5));
        assert!(Pool::for_length(1).buffer_bytes <= 2 * PAGE_BYTES);
    }
}

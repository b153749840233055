//! The bytes of one part, proved to come from the planned version of the file.
//!
//! The fingerprint is compared on the open handle before the first byte and after the last, and the
//! path is looked at once more, for the file may have been replaced. The last piece is held back
//! until that has held: a file that changed while it was read makes the request fail before the
//! far side has the whole part, never after. The MD5 is taken as the bytes pass, so each byte is
//! read from disk once.
//!
//! A reader thread keeps at most [`PIECES_AHEAD`] pieces waiting, so a part of any size holds no more
//! than [`MEMORY_PER_PART`] in memory. Dropping the stream stops the reader at its next piece.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use md5::{Digest, Md5 as Hasher};
use tokio::sync::{mpsc, oneshot};

use super::scan::{fingerprint, open_file};
use crate::model::remote::ContentMark;
use crate::model::{
    ByteCount, ByteRange, Failure, FailureKind, Fingerprint, Md5, PartNumber, SourcePath,
};

/// Bytes read at once.
const PIECE: usize = 256 * 1024;
/// Pieces that wait for the network.
const PIECES_AHEAD: usize = 2;
/// The most one part on its way holds in memory: the piece being read, the one held back, those
/// waiting, and the one being sent.
pub const MEMORY_PER_PART: ByteCount = ByteCount((PIECE * (PIECES_AHEAD + 3)) as u64);
/// Buffers start on a page: reading into a misaligned one costs twice the kernel's time.
const PAGE: usize = 4096;

/// One version of one file.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// The drop directory.
    pub directory: PathBuf,
    /// The file in it.
    pub path: SourcePath,
    /// The planned version.
    pub fingerprint: Fingerprint,
}

/// A part that was read to its end and proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartRead {
    /// Digest of its bytes.
    pub md5: Md5,
    /// How many.
    pub length: ByteCount,
}

/// What becomes of a reading: known once the stream has ended.
pub type Verdict = oneshot::Receiver<Result<PartRead, Failure>>;

/// The pieces of a part, in order.
pub type Pieces = BoxStream<'static, io::Result<Bytes>>;

/// Starts to read a part. Must be called on a tokio runtime.
pub fn read_part(file: SourceFile, range: ByteRange) -> (Pieces, Verdict) {
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let (verdict, outcome) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let read = feed(&file, range, &sender);
        if let Err(failure) = &read {
            // A stream that is gone needs no error; the verdict says it too.
            drop(sender.blocking_send(Err(io::Error::other(failure.clone()))));
        }
        drop(verdict.send(read));
    });
    let pieces = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|piece| (piece, receiver))
    });
    (pieces.boxed(), outcome)
}

fn feed(
    file: &SourceFile,
    range: ByteRange,
    sink: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<PartRead, Failure> {
    let opened = file.open()?;
    let mut held: Option<Bytes> = None;
    let mut hasher = Hasher::new();
    let stopped = || Failure::new(FailureKind::Cancelled, "nobody takes the bytes any more");
    let send = |piece| sink.blocking_send(Ok(piece)).map_err(|_| stopped());
    pieces(&opened, range, file, &mut |piece| {
        hasher.update(&piece);
        held.replace(piece).map_or(Ok(()), send)
    })?;
    file.prove(&opened)?;
    held.map_or(Ok(()), send)?;
    Ok(PartRead { md5: Md5(hasher.finalize().into()), length: ByteCount(range.length) })
}

/// Reads a range piece by piece.
fn pieces(
    opened: &File,
    range: ByteRange,
    file: &SourceFile,
    take: &mut dyn FnMut(Bytes) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut done = 0;
    while done < range.length {
        let wanted = usize::try_from(range.length - done).unwrap_or(PIECE).min(PIECE);
        let mut buffer = vec![0; wanted + PAGE];
        let start = buffer.as_ptr().align_offset(PAGE).min(PAGE);
        let piece = &mut buffer[start..start + wanted];
        opened.read_exact_at(piece, range.offset + done).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => file.changed("it became shorter"),
            _ => file.unreadable(&error),
        })?;
        take(Bytes::from(buffer).slice(start..start + wanted))?;
        done += wanted as u64;
    }
    Ok(())
}

/// Reads a range and digests it.
///
/// # Errors
/// When it cannot be read, or the file is another version.
pub fn hash_range(file: &SourceFile, range: ByteRange) -> Result<Md5, Failure> {
    let opened = file.open()?;
    let md5 = digest(&opened, range, file)?;
    file.prove(&opened)?;
    Ok(md5)
}

/// Reads the whole file in a layout and digests the digests of its parts.
///
/// # Errors
/// When it cannot be read, or the file is another version.
pub fn hash_file(file: &SourceFile, layout: ContentMark) -> Result<ContentMark, Failure> {
    let opened = file.open()?;
    let size = file.fingerprint.size;
    let count = layout.part_size.count_for(size).unwrap_or(u32::MAX);
    let mut digests = Hasher::new();
    for number in (1..=count).filter_map(PartNumber::new) {
        digests.update(digest(&opened, layout.part_size.range_of(number, size), file)?.0);
    }
    file.prove(&opened)?;
    Ok(ContentMark { md5_of_parts: Md5(digests.finalize().into()), ..layout })
}

fn digest(opened: &File, range: ByteRange, file: &SourceFile) -> Result<Md5, Failure> {
    let mut hasher = Hasher::new();
    pieces(opened, range, file, &mut |piece| {
        hasher.update(&piece);
        Ok(())
    })?;
    Ok(Md5(hasher.finalize().into()))
}

impl SourceFile {
    /// Opens the file and proves that it is the planned version.
    fn open(&self) -> Result<File, Failure> {
        let opened =
            open_file(&self.directory, &self.path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => self.gone(),
                _ => self.unreadable(&error),
            })?;
        self.prove_handle(&opened)?;
        Ok(opened)
    }

    /// Proves that the handle, and the path, still are the planned version.
    fn prove(&self, opened: &File) -> Result<(), Failure> {
        self.prove_handle(opened)?;
        let stat =
            rustix::fs::stat(self.directory.join(self.path.as_path())).map_err(|_| self.gone())?;
        if fingerprint(&stat).same_version(&self.fingerprint) {
            Ok(())
        } else {
            Err(self.changed("another file stands in its place"))
        }
    }

    fn prove_handle(&self, opened: &File) -> Result<(), Failure> {
        let stat = rustix::fs::fstat(opened).map_err(|error| self.unreadable(&error.into()))?;
        if fingerprint(&stat).same_version(&self.fingerprint) {
            Ok(())
        } else {
            Err(self.changed("its size, time or inode is another"))
        }
    }

    fn changed(&self, how: &str) -> Failure {
        Failure::new(FailureKind::SourceChanged, format!("{} changed: {how}", self.path))
    }

    fn gone(&self) -> Failure {
        Failure::new(FailureKind::SourceGone, format!("{} is not there", self.path))
    }

    fn unreadable(&self, error: &io::Error) -> Failure {
        let message = format!("{} cannot be read: {error}", self.path);
        Failure::new(FailureKind::SourceUnreadable, message)
    }
}

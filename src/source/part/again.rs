//! Parts that were digested and let go of: read again while they are sent.
//!
//! What was digested a moment ago still lies in memory, and is copied from there by whoever asks for the
//! next chunk: no thread is woken for it. What does not, and the last chunk, which leaves only once the
//! file was proved, is read on a blocking thread; so is all of it where a file system cannot tell.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use rustix::io::ReadWriteFlags;
use tokio::sync::{mpsc, oneshot};

use super::super::SourceFile;
use super::buffers::Room;
use super::{
    CHANNEL_CHUNKS, CHUNK_BYTES, Digesting, Ending, PartRead, PartReader, PartStream, Prepared,
    Reading, Wanted, feed,
};
use crate::model::ByteRange;

/// A part that was digested, and the file to read it from again.
#[derive(Debug)]
pub struct Known {
    /// What was read.
    pub read: PartRead,
    pub(super) source: SourceFile,
    pub(super) range: ByteRange,
    pub(super) file: Arc<File>,
    pub(super) is_cold: bool,
}

/// A file, as long as parts of it are read or sent.
#[derive(Debug, Clone, Default)]
pub struct Opened(Weak<File>);

impl Opened {
    pub(super) fn file(&self) -> Option<Arc<File>> {
        self.0.upgrade()
    }
}

/// A part that was digested and that nobody has asked for: it keeps no file open, for a file that is
/// open takes its room on the disk even when it is removed, and its file system cannot be unmounted.
#[derive(Debug)]
pub struct Resting {
    read: PartRead,
    source: SourceFile,
    range: ByteRange,
    is_cold: bool,
}

impl Known {
    /// Returns its file, to be found as long as it is open.
    pub fn opened(&self) -> Opened {
        Opened(Arc::downgrade(&self.file))
    }

    /// Lets go of the file.
    pub fn rest(self) -> Resting {
        let Self { read, source, range, file: _, is_cold } = self;
        Resting { read, source, range, is_cold }
    }
}

impl Resting {
    /// Returns the part, if its file is open still, since other parts of it are under way.
    ///
    /// # Errors
    /// With what is wanted to have it opened again.
    pub fn wake(self, opened: &Opened) -> Result<Known, Box<Wanted>> {
        let Self { read, source, range, is_cold } = self;
        match opened.file() {
            Some(file) => Ok(Known { read, source, range, file, is_cold }),
            None => {
                let wanted = Wanted::new(source, range, None);
                Err(Box::new(Wanted { digested: Some(read), ..wanted }))
            }
        }
    }
}

/// A part on its way, for the second time.
#[derive(Debug)]
pub struct Again {
    known: Known,
    room: Room,
    at: u64,
    told: oneshot::Sender<Ending>,
}

impl PartReader {
    /// Reads a part whose digest is known while it is sent. It is not hashed again: the storage is told
    /// the digest, and compares. The stream must be polled inside a tokio runtime.
    pub fn send_known(&self, known: Known, room: Room) -> Prepared {
        let (told, ending) = oneshot::channel();
        let (md5, at) = (Some(known.read.md5), known.range.offset);
        let chunks = PartStream::Again(Some(Box::new(Again { known, room, at, told })));
        Prepared { md5, chunks, ending }
    }
}

impl Again {
    /// Returns the next chunk, if there is one before the last and it lies in memory.
    pub(super) fn chunk(&mut self) -> Option<Bytes> {
        let left = self.known.range.offset + self.known.range.length - self.at;
        if left <= CHUNK_BYTES as u64 {
            return None;
        }
        let mut chunk = self.room.take(left);
        let into = &mut [IoSliceMut::new(chunk.as_mut())];
        let read = rustix::io::preadv2(&*self.known.file, into, self.at, ReadWriteFlags::NOWAIT);
        // Whatever failed, a reader that waits finds out.
        let count = read.ok().filter(|count| *count > 0)?;
        chunk.cut(count);
        self.at += count as u64;
        Some(Bytes::from_owner(chunk))
    }

    /// Has what is left read by a thread that may wait.
    pub(super) fn go_on_blocking(self) -> mpsc::Receiver<io::Result<Bytes>> {
        let Self { known, room, at, told } = self;
        let (sender, chunks) = mpsc::channel(CHANNEL_CHUNKS as usize);
        tokio::task::spawn_blocking(move || {
            let Known { read, source, range, file, is_cold } = known;
            let reading = Reading { source: &source, file, range, at, is_cold };
            super::tell(feed(reading, &room, Digesting::Done(read.md5), &sender), told, &sender);
        });
        chunks
    }
}

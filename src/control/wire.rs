//! One end of a connection: lines, and the descriptors that come with them.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::FILES_MAX;

const READ_BYTES: usize = 64 * 1024;
/// Of a line that is too long, this much is read and discarded, so that its sender gets to read the
/// refusal.
const FORGOTTEN_MAX: usize = 16 * 1024 * 1024;
/// Room for the descriptors of one message.
const ROOM: usize = rustix::cmsg_space!(ScmRights(FILES_MAX));

/// Descriptors from a peer.
///
/// Closing one may wait for the file system behind it, which the peer chose: so they are closed on
/// a thread that may block.
#[derive(Debug, Default)]
pub(crate) struct Descriptors(Vec<OwnedFd>);

impl Descriptors {
    /// Returns them, in the order in which they were passed.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd)
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        let descriptors = std::mem::take(&mut self.0);
        if descriptors.is_empty() {
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(descriptors))),
            Err(_) => drop(descriptors),
        }
    }
}

#[derive(Debug)]
pub(super) enum WireLine {
    /// A line, without its line feed, and its descriptors.
    Whole(Vec<u8>, Descriptors),
    /// A line above the limit.
    TooLong,
    /// More descriptors than a line may have.
    TooManyDescriptors,
    /// The peer has closed its side.
    End,
}

#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
    /// Bytes that were read beyond the requested line.
    read: Vec<u8>,
    passed: Descriptors,
    has_lost_descriptors: bool,
}

impl Wire {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            read: Vec::new(),
            passed: Descriptors::default(),
            has_lost_descriptors: false,
        }
    }

    /// Reads a line of at most `bytes_max` bytes. The caller limits the time.
    pub(super) async fn line(&mut self, bytes_max: usize) -> io::Result<WireLine> {
        let mut searched = 0;
        let mut forgotten = 0;
        loop {
            let end = self.read[searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end.map(|end| searched + end) {
                let mut line: Vec<u8> = self.read.drain(..=end).collect();
                line.pop();
                return Ok(self.whole(line, forgotten > 0 || end > bytes_max));
            }
            searched = self.read.len();
            if self.read.len() > bytes_max {
                forgotten += self.read.len();
                searched = 0;
                self.read.clear();
            }
            if forgotten > FORGOTTEN_MAX {
                return Ok(WireLine::TooLong);
            }
            if self.receive().await? == 0 {
                let rest = std::mem::take(&mut self.read);
                let has_ended = rest.is_empty() && forgotten == 0;
                return Ok(if has_ended { WireLine::End } else { self.whole(rest, forgotten > 0) });
            }
        }
    }

    fn whole(&mut self, line: Vec<u8>, is_too_long: bool) -> WireLine {
        let passed = std::mem::take(&mut self.passed);
        let has_lost_descriptors = std::mem::take(&mut self.has_lost_descriptors);
        if is_too_long {
            WireLine::TooLong
        } else if has_lost_descriptors || passed.0.len() > FILES_MAX {
            WireLine::TooManyDescriptors
        } else {
            WireLine::Whole(line, passed)
        }
    }

    /// Reads some bytes, and the descriptors that come with them.
    async fn receive(&mut self) -> io::Result<usize> {
        let mut bytes = vec![0; READ_BYTES];
        let Self { stream, passed, has_lost_descriptors, .. } = self;
        let socket = &*stream;
        let read = || {
            let mut room = [MaybeUninit::uninit(); ROOM];
            let mut room = RecvAncillaryBuffer::new(&mut room);
            let into = &mut [IoSliceMut::new(&mut bytes)];
            let got = rustix::net::recvmsg(socket, into, &mut room, RecvFlags::CMSG_CLOEXEC)?;
            for message in room.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    passed.0.extend(descriptors);
                }
            }
            // Descriptors above the limit of one line are not kept.
            *has_lost_descriptors |=
                got.flags.contains(ReturnFlags::CTRUNC) || passed.0.len() > FILES_MAX;
            if passed.0.len() > FILES_MAX {
                drop(std::mem::take(passed));
            }
            Ok(got.bytes)
        };
        let count = stream.async_io(Interest::READABLE, read).await?;
        self.read.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// Sends a line, including its end, with descriptors. The caller limits the time.
    pub(super) async fn send(&mut self, line: &[u8], passed: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut sent = 0;
        while sent < line.len() {
            let socket = &self.stream;
            let write = || {
                let mut room = [MaybeUninit::uninit(); ROOM];
                let mut room = SendAncillaryBuffer::new(&mut room);
                // They are sent with the first byte.
                if sent == 0
                    && !passed.is_empty()
                    && !room.push(SendAncillaryMessage::ScmRights(passed))
                {
                    return Err(io::Error::other("too many descriptors for one message"));
                }
                let from = &[IoSlice::new(&line[sent..])];
                Ok(rustix::net::sendmsg(socket, from, &mut room, SendFlags::NOSIGNAL)?)
            };
            sent += self.stream.async_io(Interest::WRITABLE, write).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn pair() -> (Wire, Wire) {
        let (one, other) = UnixStream::pair().unwrap();
        (Wire::new(one), Wire::new(other))
    }

    fn whole(line: WireLine) -> (Vec<u8>, usize) {
        let WireLine::Whole(line, passed) = line else { panic!("not whole: {line:?}") };
        (line, passed.iter().len())
    }

    #[tokio::test]
    async fn descriptors_come_with_their_line() {
        let (mut here, mut there) = pair();
        let files: Vec<_> = (0..FILES_MAX).map(|_| File::open("/dev/null").unwrap()).collect();
        let passed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        here.send(b"first\n", &passed).await.unwrap();
        assert_eq!(whole(there.line(9).await.unwrap()), (b"first".to_vec(), FILES_MAX));
        here.send(b"second\nthird", &[]).await.unwrap();
        assert_eq!(whole(there.line(9).await.unwrap()), (b"second".to_vec(), 0));
        drop(here);
        assert_eq!(whole(there.line(9).await.unwrap()), (b"third".to_vec(), 0));
        assert!(matches!(there.line(9).await.unwrap(), WireLine::End));
    }

    #[tokio::test]
    async fn more_descriptors_than_a_line_may_have_are_refused() {
        let (mut here, mut there) = pair();
        let file = File::open("/dev/null").unwrap();
        let passed = vec![file.as_fd(); FILES_MAX];
        here.send(b"a", &passed).await.unwrap();
        here.send(b"b\n", &passed[..1]).await.unwrap();
        assert!(matches!(there.line(9).await.unwrap(), WireLine::TooManyDescriptors));
        assert!(there.passed.0.is_empty(), "none is kept");
        here.send(b"next\n", &[]).await.unwrap();
        assert_eq!(whole(there.line(9).await.unwrap()), (b"next".to_vec(), 0));
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_read_to_its_end_and_not_kept() {
        let (mut here, mut there) = pair();
        let file = File::open("/dev/null").unwrap();
        let line = [vec![b'x'; 1 << 20], b"\nnext\n".to_vec()].concat();
        let (passed, read) = ([file.as_fd()], async {
            assert!(matches!(there.line(1000).await.unwrap(), WireLine::TooLong));
            assert_eq!(whole(there.line(1000).await.unwrap()), (b"next".to_vec(), 0));
        });
        let (sent, ()) = tokio::join!(here.send(&line, &passed), read);
        sent.unwrap();
    }
}

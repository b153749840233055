//! What comes over a connection: heads, and bodies that are thrown away.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use md5::{Digest, Md5};
use rustix::net::{RecvFlags, recv};
use rustls::{ServerConnection, StreamOwned};

use super::wire::Request;

/// No head is longer.
const HEAD_MAX: usize = 64 * 1024;
/// How much is thrown away, or read, by one call.
const STEP: usize = 1024 * 1024;
/// No list of parts is longer: ten thousand of them.
const SMALL_MAX: u64 = 4 * 1024 * 1024;

/// A body that has come.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// Without frames.
    pub(super) length: u64,
    /// Where the server digests.
    pub(super) md5: Option<[u8; 16]>,
    /// Of requests that carry no object.
    pub(super) text: String,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

/// The server's end of a connection, with what came and was not looked at yet.
pub(super) struct Incoming {
    stream: Stream,
    /// From `at` to `end`: read, and not taken.
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    /// Never written to where the kernel throws away.
    step: Vec<u8>,
}

impl Incoming {
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self::new(Stream::Plain(stream))
    }

    pub(super) fn tls(connection: ServerConnection, stream: TcpStream) -> Self {
        Self::new(Stream::Tls(Box::new(StreamOwned::new(connection, stream))))
    }

    fn new(stream: Stream) -> Self {
        Self { stream, buffer: vec![0; HEAD_MAX], at: 0, end: 0, step: vec![0; STEP] }
    }

    /// Returns the next head, without the empty line; `None` when the client is gone.
    pub(super) fn head(&mut self) -> io::Result<Option<String>> {
        loop {
            let known = &self.buffer[self.at..self.end];
            if let Some(length) = find(known, b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&known[..length]).into_owned();
                self.at += length + 4;
                return Ok(Some(head));
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Reads more behind what is there; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.at..self.end, 0);
        self.end -= self.at;
        self.at = 0;
        if self.end == self.buffer.len() {
            return Err(io::Error::other("a head or line that is too long"));
        }
        let free = &mut self.buffer[self.end..];
        let count = match &mut self.stream {
            Stream::Plain(stream) => stream.read(free)?,
            Stream::Tls(stream) => stream.read(free)?,
        };
        self.end += count;
        Ok(count > 0)
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Reads the body of a request that carries no object.
    pub(super) fn small_body(&mut self, request: &Request) -> io::Result<Received> {
        let length = request.content_length();
        if length > SMALL_MAX {
            return Err(io::Error::other("a body that is too long"));
        }
        let mut text = Vec::new();
        while (text.len() as u64) < length {
            if self.at == self.end && !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let wanted = usize::try_from(length).unwrap_or(usize::MAX) - text.len();
            let taken = wanted.min(self.end - self.at);
            text.extend_from_slice(&self.buffer[self.at..self.at + taken]);
            self.at += taken;
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        Ok(Received { length, md5: None, text })
    }

    /// Throws a body away, digesting it where that is asked for.
    pub(super) fn large_body(&mut self, request: &Request, hashes: bool) -> io::Result<Received> {
        let mut digest = hashes.then(|| Payload::new(request.is_aws_chunked()));
        let came = if request.is_chunked() {
            self.chunks(&mut digest)?
        } else {
            let length = request.content_length();
            self.discard(length, &mut digest)?;
            length
        };
        // Where the signature's frames are within, the client says what is in them.
        let decoded = request.header("x-amz-decoded-content-length");
        let length = decoded.and_then(|text| text.parse().ok()).unwrap_or(came);
        let md5 = digest.map(|payload| payload.md5.finalize().into());
        Ok(Received { length, md5, text: String::new() })
    }

    /// Takes chunks to the last, which is empty, and the lines after it.
    fn chunks(&mut self, digest: &mut Option<Payload>) -> io::Result<u64> {
        let mut all = 0;
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or("").trim();
            let size = u64::from_str_radix(size, 16)
                .map_err(|_| io::Error::other(format!("not the size of a chunk: {line}")))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(all);
            }
            self.discard(size, digest)?;
            self.line()?;
            all += size;
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            let known = &self.buffer[self.at..self.end];
            if let Some(length) = find(known, b"\r\n") {
                let line = String::from_utf8_lossy(&known[..length]).into_owned();
                self.at += length + 2;
                return Ok(line);
            }
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn discard(&mut self, length: u64, digest: &mut Option<Payload>) -> io::Result<()> {
        let mut left = usize::try_from(length).map_err(io::Error::other)?;
        let known = left.min(self.end - self.at);
        if let Some(digest) = digest {
            digest.take(&self.buffer[self.at..self.at + known]);
        }
        self.at += known;
        left -= known;
        while left > 0 {
            let step = &mut self.step[..left.min(STEP)];
            let count = match &mut self.stream {
                Stream::Plain(stream) if digest.is_none() => {
                    recv(stream, step, RecvFlags::TRUNC)?.1
                }
                Stream::Plain(stream) => stream.read(step)?,
                Stream::Tls(stream) => stream.read(step)?,
            };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(digest) = digest {
                digest.take(&self.step[..count]);
            }
            left -= count;
        }
        Ok(())
    }
}

/// Digests a body, and leaves the signature's frames out where it has them.
struct Payload {
    md5: Md5,
    is_framed: bool,
    /// Bytes of the frame that are to come.
    left: usize,
    /// The line between two frames, as far as it came.
    line: Vec<u8>,
    /// The last frame came; the lines behind it are of no interest.
    ended: bool,
}

impl Payload {
    fn new(is_framed: bool) -> Self {
        Self { md5: Md5::new(), is_framed, left: 0, line: Vec::new(), ended: false }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        if !self.is_framed {
            self.md5.update(bytes);
            return;
        }
        while !bytes.is_empty() && !self.ended {
            let count = self.left.min(bytes.len());
            self.md5.update(&bytes[..count]);
            self.left -= count;
            bytes = &bytes[count..];
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(bytes.len(), |at| at + 1);
            if self.left > 0 {
                continue;
            }
            self.line.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if end.is_some() {
                self.begin_frame();
            }
        }
    }

    /// Reads the line before a frame; the one that ends the frame before it is empty.
    fn begin_frame(&mut self) {
        let line = String::from_utf8_lossy(&self.line).trim().to_owned();
        self.line.clear();
        if !line.is_empty() {
            let size = line.split(';').next().unwrap_or_default();
            self.left = usize::from_str_radix(size, 16).unwrap_or(0);
            self.ended = self.left == 0;
        }
    }
}

fn find(bytes: &[u8], word: &[u8]) -> Option<usize> {
    bytes.windows(word.len()).position(|window| window == word)
}

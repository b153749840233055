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
        let mut md5 = hashes.then(Md5::new);
        let length = if request.is_chunked() {
            // HTTP's chunks around those of the signature are nothing that a client sends to a
            // server that understands either.
            self.chunks(&mut md5)?
        } else if request.is_aws_chunked() && hashes {
            self.chunks(&mut md5)?
        } else {
            self.discard(request.content_length(), &mut md5)?;
            let decoded = request.header("x-amz-decoded-content-length");
            decoded.and_then(|text| text.parse().ok()).unwrap_or(request.content_length())
        };
        let md5 = md5.map(|md5| md5.finalize().into());
        Ok(Received { length, md5, text: String::new() })
    }

    /// Takes chunks to the last, which is empty, and the lines after it.
    fn chunks(&mut self, md5: &mut Option<Md5>) -> io::Result<u64> {
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
            self.discard(size, md5)?;
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

    fn discard(&mut self, length: u64, md5: &mut Option<Md5>) -> io::Result<()> {
        let mut left = usize::try_from(length).map_err(io::Error::other)?;
        let known = left.min(self.end - self.at);
        if let Some(md5) = md5 {
            md5.update(&self.buffer[self.at..self.at + known]);
        }
        self.at += known;
        left -= known;
        while left > 0 {
            let step = &mut self.step[..left.min(STEP)];
            let count = match &mut self.stream {
                Stream::Plain(stream) if md5.is_none() => recv(stream, step, RecvFlags::TRUNC)?.1,
                Stream::Plain(stream) => stream.read(step)?,
                Stream::Tls(stream) => stream.read(step)?,
            };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(md5) = md5 {
                md5.update(&self.step[..count]);
            }
            left -= count;
        }
        Ok(())
    }
}

fn find(bytes: &[u8], word: &[u8]) -> Option<usize> {
    bytes.windows(word.len()).position(|window| window == word)
}

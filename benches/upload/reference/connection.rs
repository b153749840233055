//! One connection to the far side: requests by hand.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use rustls::{ClientConnection, StreamOwned};

/// How much is encrypted at once.
const STEP: usize = 64 * 1024;

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A connection, and what was read beyond the last answer.
pub(super) struct Connection {
    stream: Stream,
    host: String,
    answer: Vec<u8>,
}

/// What was answered, as far as it matters.
pub(super) struct Answer {
    pub(super) etag: String,
    pub(super) body: String,
}

impl Connection {
    pub(super) fn open(address: &str, certificate: Option<&Path>) -> io::Result<Self> {
        let plain = TcpStream::connect(address)?;
        plain.set_nodelay(true)?;
        let stream = match certificate {
            None => Stream::Plain(plain),
            Some(certificate) => {
                let config = crate::tls::client(certificate)?;
                let connection = ClientConnection::new(config, crate::tls::name());
                let connection = connection.map_err(io::Error::other)?;
                Stream::Tls(Box::new(StreamOwned::new(connection, plain)))
            }
        };
        Ok(Self { stream, host: address.to_owned(), answer: Vec::new() })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes),
            Stream::Tls(stream) => {
                bytes.chunks(STEP).try_for_each(|chunk| stream.write_all(chunk))?;
                stream.flush()
            }
        }
    }

    pub(super) fn head(&mut self, line: &str, length: u64, more: &str) -> io::Result<()> {
        let host = &self.host;
        let head =
            format!("{line} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{more}\r\n");
        self.write_all(head.as_bytes())
    }

    /// Sends a body that lies in memory.
    pub(super) fn send(&mut self, line: &str, body: &[u8], more: &str) -> io::Result<Answer> {
        self.head(line, body.len() as u64, more)?;
        self.write_all(body)?;
        self.answered()
    }

    /// Sends a range of a file without looking at it.
    pub(super) fn send_file(
        &mut self,
        line: &str,
        file: &File,
        (mut at, length): (u64, u64),
    ) -> io::Result<Answer> {
        self.head(line, length, "")?;
        let Stream::Plain(stream) = &self.stream else {
            return Err(io::Error::other("the kernel does not encrypt"));
        };
        let end = at + length;
        while at < end {
            let left = usize::try_from(end - at).map_err(io::Error::other)?;
            if rustix::fs::sendfile(stream, file, Some(&mut at), left)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.answered()
    }

    /// Writes bytes of a body whose head was sent.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    /// Waits for the answer, and fails unless it is a good one.
    pub(super) fn answered(&mut self) -> io::Result<Answer> {
        self.answer.clear();
        let mut buffer = [0; 4096];
        let end = loop {
            if let Some(at) = self.answer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more(&mut buffer)?;
        };
        let head = String::from_utf8_lossy(&self.answer[..end]).into_owned();
        let header = |name: &str| {
            let mut lines = head.lines();
            lines.find_map(|line| Some(line.strip_prefix(name)?.trim_matches([' ', ':', '"'])))
        };
        let length = header("Content-Length").and_then(|text| text.parse().ok()).unwrap_or(0);
        while self.answer.len() < end + length {
            self.read_more(&mut buffer)?;
        }
        let body = String::from_utf8_lossy(&self.answer[end..]).into_owned();
        if !head.starts_with("HTTP/1.1 200") {
            return Err(io::Error::other(format!("{head}{body}")));
        }
        Ok(Answer { etag: header("ETag").unwrap_or_default().to_owned(), body })
    }

    fn read_more(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let count = match &mut self.stream {
            Stream::Plain(stream) => stream.read(buffer)?,
            Stream::Tls(stream) => stream.read(buffer)?,
        };
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.answer.extend_from_slice(&buffer[..count]);
        Ok(())
    }
}

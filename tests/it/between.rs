//! A server between the daemon and the sandbox that answers in the sandbox's place or changes its answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use super::stage::Stage;

/// A request that was received and not yet answered.
pub(crate) struct Asked {
    /// Method and path.
    pub(crate) line: String,
    pub(crate) body: Vec<u8>,
    head: String,
}

/// The answer to a request.
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// Header lines, without those about the connection or about the length of a body that is there.
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

impl Answered {
    pub(crate) fn new(status: u16, body: &str) -> Self {
        let headers = "content-type: application/json\r\n".to_owned();
        Self { status, headers, body: body.as_bytes().to_vec() }
    }
}

impl Asked {
    /// Forwards the request to the sandbox and returns its answer.
    pub(crate) fn forward(&self, sandbox: &str) -> Answered {
        let mut stream = TcpStream::connect(sandbox).expect("the sandbox listens");
        // A body in an HTTP/1.0 answer ends with its connection and is not chunked.
        let head = self.head.replacen(" HTTP/1.1\r\n", " HTTP/1.0\r\nconnection: close\r\n", 1);
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(&self.body).expect("sent");
        let mut reader = BufReader::new(stream);
        let head = head_of(&mut reader).expect("an answer");
        let mut body = Vec::new();
        reader.read_to_end(&mut body).expect("whole");
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        let is_kept = |line: &&str| {
            let lower = line.to_ascii_lowercase();
            // The content length in an answer to HEAD is about a body that is not there.
            let is_length = lower.starts_with("content-length") && !self.line.starts_with("HEAD ");
            let ours = ["connection", "transfer-encoding"];
            !line.is_empty() && !is_length && !ours.iter().any(|name| lower.starts_with(name))
        };
        let headers = head.split("\r\n").skip(1).filter(is_kept);
        let headers = headers.map(|line| format!("{line}\r\n")).collect();
        Answered { status, headers, body }
    }
}

/// Puts the server in front of the sandbox of a stage, for as long as the test runs.
pub(crate) fn stand(
    stage: &Stage,
    answer: impl Fn(&Asked, &str) -> Answered + Send + Sync + 'static,
) -> SocketAddr {
    let sandbox = stage.url("").trim_start_matches("http://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let config = std::fs::read_to_string(stage.path("config.toml")).expect("read");
    let config = config.replace(&sandbox, &address.to_string());
    std::fs::write(stage.path("config.toml"), config).expect("written");
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answer, sandbox) = (Arc::clone(&answer), sandbox.clone());
            std::thread::spawn(move || serve(stream, |asked| answer(asked, &sandbox)));
        }
    });
    address
}

/// Answers the requests of one connection until it ends.
fn serve(stream: TcpStream, answer: impl Fn(&Asked) -> Answered) {
    let mut reader = BufReader::new(stream);
    while let Some(head) = head_of(&mut reader) {
        let line = head.lines().next().unwrap_or_default();
        let line = line.trim_end_matches(" HTTP/1.1").to_owned();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        let mut body = vec![0; length.unwrap_or(0)];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let Answered { status, headers, body } = answer(&Asked { line, body, head });
        let length = match headers.contains("content-length:") {
            true => String::new(),
            false => format!("content-length: {}\r\n", body.len()),
        };
        let head = format!("HTTP/1.1 {status} X\r\n{headers}{length}\r\n");
        let stream = reader.get_mut();
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
            return;
        }
    }
}

/// Reads a head with its empty line; `None` if the connection has ended.
fn head_of(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

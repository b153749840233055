//! A receiver of webhooks and heartbeats that fails on request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// What the receiver does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// Answers with a status.
    Status(u16),
    /// Answers 200 with the page of a captive portal.
    Portal,
    /// Accepts the request, and never answers.
    Hang,
}

/// One request, and its outcome.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) line: String,
    headers: Vec<(String, String)>,
    pub(super) body: String,
    pub(super) reply: Reply,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// Whether the receiver has it: it was answered with success, or the answer was lost.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self.reply, Reply::Status(200..=299) | Reply::Hang)
    }
}

type Plan = Box<dyn Fn(usize, &str) -> Reply + Send>;

/// A receiver; its thread ends with the tests.
pub(super) struct Receiver {
    pub(super) port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    /// Starts; `plan` decides the outcome of a request by its number and its body.
    pub(super) fn new(plan: impl Fn(usize, &str) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (kept, plan): (_, Plan) = (Arc::clone(&requests), Box::new(plan));
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming().filter_map(Result::ok) {
                open.extend(serve(stream, &kept, &plan));
            }
        });
        Self { port, requests }
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

/// Serves one request, and returns its connection when it is to stay open.
fn serve(stream: TcpStream, kept: &Mutex<Vec<Request>>, plan: &Plan) -> Option<TcpStream> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).expect("text");
    let line = line.trim().to_owned();
    let mut requests = kept.lock().expect("not poisoned");
    let reply = plan(requests.len(), &body);
    requests.push(Request { line, headers, body, reply });
    drop(requests);
    answer(stream, reply)
}

fn answer(mut stream: TcpStream, reply: Reply) -> Option<TcpStream> {
    let (status, text) = match reply {
        Reply::Hang => return Some(stream),
        Reply::Status(status) => (status, "well"),
        Reply::Portal => (200, "<!DOCTYPE html><title>Please log in</title>"),
    };
    let head = format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: ");
    stream.write_all(format!("{head}{}\r\n\r\n{text}", text.len()).as_bytes()).ok()?;
    None
}

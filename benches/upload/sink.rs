//! The far side: an S3 server in a process of its own that keeps what it was told and no byte of it; and
//! beside it a platform with calls of its own ([`calls`]).
//!
//! A thread for each connection, blocking sockets. Bodies are thrown away in the kernel (`recv` with
//! `MSG_TRUNC`) and never copied; so the server's own work is small beside a client's and the same for
//! each of them. An ETag is then the digest that the request announced, or `discarded-1` where it
//! announced none. With `--hash` bodies are read and digested, so an ETag proves the bytes; with TLS
//! they are read too, for the kernel cannot decrypt them.
//!
//! The parent reads the address from standard output. When standard input ends, the process prints
//! what it counted as one line of JSON and exits.

mod body;
mod calls;
mod objects;
mod wire;

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use self::body::{Incoming, Received};
use self::calls::{CALLS, Calls, PARTS};
use self::objects::{Answer, Objects};
use self::wire::Request;

/// How the server behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mode {
    /// Computes the MD5 of what comes.
    pub(crate) hashes: bool,
    /// Speaks TLS.
    pub(crate) tls: bool,
}

/// What the server counted. Times are Unix nanoseconds, 0 when it never was.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Requests of every kind.
    pub(crate) requests: u64,
    /// Those with the bytes of a part or an object.
    pub(crate) puts: u64,
    /// Their bytes, as the client meant them: without the frames of `aws-chunked`.
    pub(crate) bytes: u64,
    /// Those of them that announced an MD5.
    pub(crate) announced: u64,
    /// Objects that are complete.
    pub(crate) objects: u64,
    /// Bytes of them.
    pub(crate) object_bytes: u64,
    /// Connections that were made.
    pub(crate) connections: u64,
    /// When the first request came that was about an object.
    pub(crate) first_request_ns: u64,
    /// When the first body began.
    pub(crate) first_body_ns: u64,
    /// When the last answer about an object was given.
    pub(crate) last_answer_ns: u64,
}

#[derive(Debug, Default)]
struct Tally {
    requests: AtomicU64,
    puts: AtomicU64,
    bytes: AtomicU64,
    announced: AtomicU64,
    connections: AtomicU64,
    first_request_ns: AtomicU64,
    first_body_ns: AtomicU64,
    last_answer_ns: AtomicU64,
}

impl Tally {
    fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    fn first(moment: &AtomicU64) {
        if moment.load(Ordering::Relaxed) == 0 {
            // Of several that come at once, which one wins does not matter.
            moment.store(now_ns(), Ordering::Relaxed);
        }
    }
}

struct Server {
    mode: Mode,
    tally: Tally,
    objects: Mutex<Objects>,
    calls: Mutex<Calls>,
    tls: Option<Arc<rustls::ServerConfig>>,
}

/// Runs until standard input ends; then prints [`Counts`].
pub(crate) fn serve(mode: Mode, certificate: Option<&super::tls::Files>) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let tls = certificate.filter(|_| mode.tls).map(super::tls::server).transpose()?;
    let server = Arc::new(Server {
        mode,
        tally: Tally::default(),
        objects: Mutex::default(),
        calls: Mutex::default(),
        tls,
    });
    println!("{}", listener.local_addr()?);
    let accepting = Arc::clone(&server);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let server = Arc::clone(&accepting);
            Tally::add(&server.tally.connections, 1);
            std::thread::spawn(move || server.converse(stream));
        }
    });
    io::copy(&mut io::stdin(), &mut io::sink())?;
    println!("{}", serde_json::to_string(&server.counts())?);
    Ok(())
}

impl Server {
    fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let objects = self.objects.lock().expect("no panic").size();
        let files = self.calls.lock().expect("no panic").size();
        let tally = &self.tally;
        Counts {
            requests: read(&tally.requests),
            puts: read(&tally.puts),
            bytes: read(&tally.bytes),
            announced: read(&tally.announced),
            objects: objects.0 + files.0,
            object_bytes: objects.1 + files.1,
            connections: read(&tally.connections),
            first_request_ns: read(&tally.first_request_ns),
            first_body_ns: read(&tally.first_body_ns),
            last_answer_ns: read(&tally.last_answer_ns),
        }
    }

    /// Answers one connection until the client has had enough.
    fn converse(&self, stream: TcpStream) {
        stream.set_nodelay(true).ok();
        let ended = match &self.tls {
            None => self.answer_all(&mut Incoming::plain(stream)),
            Some(tls) => match rustls::ServerConnection::new(Arc::clone(tls)) {
                Ok(connection) => self.answer_all(&mut Incoming::tls(connection, stream)),
                Err(error) => Err(io::Error::other(error)),
            },
        };
        let is_usual = |kind| {
            use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
            matches!(kind, BrokenPipe | ConnectionReset | UnexpectedEof)
        };
        if let Err(error) = ended
            && !is_usual(error.kind())
        {
            eprintln!("sink: {error}");
        }
    }

    fn answer_all(&self, incoming: &mut Incoming) -> io::Result<()> {
        while let Some(head) = incoming.head()? {
            let request = Request::parse(&head)
                .ok_or_else(|| io::Error::other(format!("not a request: {head}")))?;
            Tally::add(&self.tally.requests, 1);
            if request.key.is_some() {
                Tally::first(&self.tally.first_request_ns);
            }
            if request.expects_continue() {
                incoming.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let received = self.receive(incoming, &request)?;
            let answer = self.answer(&request, &received);
            incoming.write_all(&rendered(&answer, request.method == "HEAD"))?;
            if request.key.is_some() {
                self.tally.last_answer_ns.store(now_ns(), Ordering::Relaxed);
            }
            if request.closes() {
                break;
            }
        }
        Ok(())
    }

    fn answer(&self, request: &Request, received: &Received) -> Answer {
        match request.bucket.as_str() {
            CALLS => self.calls.lock().expect("no panic").answer(request, received),
            PARTS => self.calls.lock().expect("no panic").put(request, received),
            _ => self.objects.lock().expect("no panic").answer(request, received),
        }
    }

    fn receive(&self, incoming: &mut Incoming, request: &Request) -> io::Result<Received> {
        let is_put = request.method == "PUT" && request.key.is_some();
        if !is_put {
            return incoming.small_body(request);
        }
        Tally::first(&self.tally.first_body_ns);
        let received = incoming.large_body(request, self.mode.hashes)?;
        Tally::add(&self.tally.puts, 1);
        Tally::add(&self.tally.bytes, received.length);
        Tally::add(&self.tally.announced, u64::from(request.content_md5().is_some()));
        Ok(received)
    }
}

fn rendered(answer: &Answer, is_head: bool) -> Vec<u8> {
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    let date = printer.timestamp_to_rfc9110_string(&jiff::Timestamp::now()).unwrap_or_default();
    let mut text = format!(
        "HTTP/1.1 {}\r\nDate: {date}\r\nServer: sink\r\nx-amz-request-id: 0000000000000001\r\n",
        answer.status
    );
    if answer.length_of_body() {
        text += &format!("Content-Length: {}\r\n", answer.body.len());
    }
    for (name, value) in &answer.headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    if !is_head {
        text += &answer.body;
    }
    text.into_bytes()
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

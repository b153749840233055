//! The only user of the HTTP client: requests out, answers in, by inactivity time-outs.
//!
//! *Promises*: an answer's body is bounded; a part's body is streamed with its exact length and
//! never held; a request that moves no byte for the inactivity time-out fails as `TimedOut`, one
//! that moves a byte now and then may take as long as it takes; redirects are not followed, for a
//! captive portal would lead a token elsewhere; no error text carries a URL.
//!
//! *Never* retries, and never decides what a status means: that is each platform's `wire`.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use http_body::{Frame, SizeHint};
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Url};

use super::contract::PartBody;
use crate::model::{Failure, FailureKind};

/// Answers longer than this are not read: ten thousand listed parts take about one MB.
const ANSWER_MAX: usize = 8 * 1024 * 1024;
/// A connection must stand within this time.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);

/// How to reach the network.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A proxy, instead of the usual environment variables.
    pub proxy: Option<String>,
    /// Certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
    /// A request that moves nothing for this long fails.
    pub inactivity_timeout: Duration,
}

/// The client.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client,
    inactivity_timeout: Duration,
}

/// A request without its address.
#[derive(Debug, Default)]
pub struct Request {
    /// Header lines; values that are secret must be marked so.
    pub headers: HeaderMap,
    /// A body that is small.
    pub body: Option<Bytes>,
    /// Longer than usual may pass before the answer comes.
    pub patience: Option<Duration>,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Header lines.
    pub headers: HeaderMap,
    /// The body, whole.
    pub body: Bytes,
}

impl Response {
    /// Returns a header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl Http {
    /// Builds the client.
    ///
    /// # Errors
    /// When the proxy is no URL, or the certificates cannot be read; says which.
    pub fn new(settings: &Settings) -> Result<Self, String> {
        // A second installation finds the first one in place, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut builder = Client::builder()
            .user_agent(concat!("dropferry/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .http1_only()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(32);
        if let Some(proxy) = &settings.proxy {
            let proxy = reqwest::Proxy::all(proxy)
                .map_err(|error| format!("the proxy cannot be used: {}", error.without_url()))?;
            builder = builder.proxy(proxy);
        }
        if let Some(file) = &settings.ca_file {
            let unusable = |why: String| format!("{} cannot be used: {why}", file.display());
            let pem = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| unusable(error.to_string()))?;
            builder = builder.tls_certs_merge(certificates);
        }
        let client = builder.build().map_err(|error| describe(&error.without_url()))?;
        Ok(Self { client, inactivity_timeout: settings.inactivity_timeout })
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// `Unreachable`, `TimedOut`, or `BadAnswer` when the answer is too long.
    pub async fn send(
        &self,
        method: Method,
        url: Url,
        request: Request,
    ) -> Result<Response, Failure> {
        let mut outgoing = self.client.request(method, url).headers(request.headers);
        if let Some(body) = request.body {
            outgoing = outgoing.body(body);
        }
        let limit = request.patience.unwrap_or(self.inactivity_timeout);
        let progress = Progress::default();
        within(limit, &progress, receive(outgoing, &progress)).await
    }

    /// Sends a part and reads the answer.
    ///
    /// # Errors
    /// As [`Self::send`]; and what made the stream of bytes end early, when that was it.
    pub async fn send_part(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: PartBody,
    ) -> Result<Response, Failure> {
        let progress = Progress::default();
        let streamed = Streamed {
            chunks: Mutex::new(body.chunks),
            left: body.length.0,
            progress: progress.clone(),
        };
        let outgoing = self
            .client
            .request(method, url)
            .headers(headers)
            .header(CONTENT_LENGTH, body.length.0)
            .body(reqwest::Body::wrap(streamed));
        within(self.inactivity_timeout, &progress, receive(outgoing, &progress)).await
    }
}

/// Builds a header map; a value that is not sendable is left out of the error's text.
///
/// # Errors
/// `BadAnswer`, for such headers come from a platform.
pub fn header_map<'a>(
    lines: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<HeaderMap, Failure> {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        let unusable = || {
            Failure::new(
                FailureKind::BadAnswer,
                "the platform asks for a header that cannot be sent",
            )
        };
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| unusable())?;
        value.set_sensitive(true);
        map.insert(name, value);
    }
    Ok(map)
}

/// Parses an address that a platform gave or the operator configured.
///
/// # Errors
/// `BadAnswer` when it is none, or not `https` and not on this machine.
pub fn parse_url(text: &str) -> Result<Url, Failure> {
    let bad = |why| Failure::new(FailureKind::BadAnswer, why);
    let url = Url::parse(text).map_err(|_| bad("the address is not a URL"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(bad("the address is neither https nor on this machine")),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

/// Counts what moves.
#[derive(Debug, Clone, Default)]
struct Progress(Arc<AtomicU64>);

impl Progress {
    fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Lets a request run for as long as something moves at least once in every `limit`.
async fn within(
    limit: Duration,
    progress: &Progress,
    request: impl Future<Output = Result<Response, Failure>>,
) -> Result<Response, Failure> {
    tokio::pin!(request);
    let mut seen = progress.count();
    loop {
        match tokio::time::timeout(limit, &mut request).await {
            Ok(answer) => return answer,
            Err(_) if progress.count() != seen => seen = progress.count(),
            Err(_) => {
                let message = format!("nothing moved for {} s", limit.as_secs_f32());
                return Err(Failure::new(FailureKind::TimedOut, message));
            }
        }
    }
}

async fn receive(
    outgoing: reqwest::RequestBuilder,
    progress: &Progress,
) -> Result<Response, Failure> {
    let mut incoming = outgoing.send().await.map_err(transport_failure)?;
    progress.note();
    let (status, headers) = (incoming.status().as_u16(), incoming.headers().clone());
    let mut body = BytesMut::new();
    while let Some(chunk) = incoming.chunk().await.map_err(transport_failure)? {
        progress.note();
        if body.len() + chunk.len() > ANSWER_MAX {
            return Err(Failure {
                status: Some(status),
                ..Failure::new(
                    FailureKind::BadAnswer,
                    "the answer is longer than any that is expected",
                )
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response { status, headers, body: body.freeze() })
}

/// Maps a transport error; a failure of the source that ended the body comes through as it was.
fn transport_failure(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(failure) = current.downcast_ref::<Failure>() {
            return failure.clone();
        }
        if let Some(io) = current.downcast_ref::<io::Error>()
            && let Some(failure) = io.get_ref().and_then(|inner| inner.downcast_ref::<Failure>())
        {
            return failure.clone();
        }
        cause = current.source();
    }
    let kind = if error.is_timeout() { FailureKind::TimedOut } else { FailureKind::Unreachable };
    Failure::new(kind, describe(&error))
}

/// Joins an error and its causes, each said once.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(current) = cause {
        let said = current.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = current.source();
    }
    text
}

/// A part's body: exactly as long as announced, never held.
struct Streamed {
    chunks: Mutex<BoxStream<'static, io::Result<Bytes>>>,
    left: u64,
    progress: Progress,
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let chunks = this.chunks.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let polled = chunks.as_mut().poll_next(context);
        if let Poll::Ready(Some(Ok(chunk))) = &polled {
            this.progress.note();
            this.left = this.left.saturating_sub(chunk.len() as u64);
        }
        polled.map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

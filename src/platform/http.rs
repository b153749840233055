//! The only user of the HTTP client: requests, answers, inactivity time-outs.
//!
//! Owns the connections. *Promises*: an answer is limited in its header lines, body and time; a
//! part's body is streamed with its exact length and never held, and its last piece is sent only
//! after the source has confirmed its version, so a source that fails at its end never makes an
//! accepted part; a request that moves no byte for the inactivity time-out fails as `TimedOut`,
//! while a body that keeps moving has no time limit; redirects are not followed, because a captive
//! portal would lead a token elsewhere; this machine is never reached through a proxy; no error
//! text contains a URL. The rules of a platform for a part are checked in `http/prescribed.rs`.
//!
//! *Never* retries, and never decides what a status means: that is in each platform's `wire`.
//!
//! At a crash the server sees a broken connection; [`super::contract`] says what that means for
//! each operation.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use reqwest::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use reqwest::{Client, Method, Url};

use self::body::{Progress, Streamed};
use self::hosts::Hosts;
use self::network::{ProxyPlace, certificates, proxy, register_proxies};
use super::contract::PartBody;
use crate::model::{Failure, FailureKind, Shown};
use crate::telemetry::scrub;

pub(crate) use self::network::{Proxies, is_own_host};
pub(crate) use self::prescribed::{
    base_url, canonical_url, is_loopback, parse_url, part_url, prescribed_headers,
};
pub(crate) use self::time::TimeSource;

mod body;
mod hosts;
mod network;
mod pinned;
mod prescribed;
mod private;
mod time;

/// Limit of an answer's length: ten thousand listed parts take about one MB.
pub(super) const ANSWER_MAX: usize = 3 * 1024 * 1024;
/// Answers of platforms and storages have about twenty header lines.
const HEADER_COUNT_MAX: usize = 64;
/// Names and values of all header lines together: servers accept no more from a client either.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// A connection must be established within this time.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// An answer must be complete this long after the request was sent: the longest, a page of a list,
/// takes seconds on a slow line.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);
/// A trickling answer is cancelled after this many inactivity time-outs, if that is sooner.
const TRICKLE_MAX: u32 = 20;
/// Limit while a storage puts a file together and sends signs of life: afterwards the outcome is
/// asked for.
pub(super) const COMPLETE_LIMIT: Duration = Duration::from_mins(30);
/// Checks for movement in one inactivity time-out.
const LOOKS: u32 = 8;
/// Idle connections kept for each host: as many as parts may be in flight to one.
const IDLE_MAX: usize = 32;
/// Idle connections are closed before storages do so, usually after a minute.
const IDLE_LIMIT: Duration = Duration::from_secs(50);
/// Limit of a request id's length.
const REQUEST_ID_MAX: usize = 120;

/// The network settings.
#[derive(Clone)]
pub struct Settings {
    /// A proxy, instead of the usual environment variables.
    pub proxy: Option<String>,
    /// A file with the proxy's user and password.
    pub proxy_credential: Option<PathBuf>,
    /// Hosts to reach without it, instead of the usual environment variable.
    pub no_proxy: Option<String>,
    /// Certificates to trust besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// A request that moves nothing for this long fails.
    pub inactivity_timeout: Duration,
}

impl fmt::Debug for Settings {
    /// Omits the proxy's address, which may contain a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("proxy", &self.proxy.as_ref().map(|_| "[redacted]"))
            .field("proxy_credential", &self.proxy_credential)
            .field("no_proxy", &self.no_proxy)
            .field("ca_file", &self.ca_file)
            .field("inactivity_timeout", &self.inactivity_timeout)
            .finish()
    }
}

/// The client. Copies share their connections.
#[derive(Clone)]
pub(crate) struct Http {
    outside: Client,
    /// For this machine, without a proxy.
    inside: Client,
    proxies: Arc<Proxies>,
    inactivity_timeout: Duration,
    hosts: Arc<Hosts>,
    time: Option<TimeSource>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("inactivity_timeout", &self.inactivity_timeout)
            .finish_non_exhaustive()
    }
}

/// A request without its address.
#[derive(Debug, Default)]
pub(crate) struct Request {
    /// Header lines; secret values must be marked as sensitive.
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
    /// The answer may take long.
    pub patience: Option<Patience>,
    /// Limit of the answer's length, where it may be longer than usual.
    pub answer_max: Option<usize>,
}

/// Time limits of a call that takes longer than usual.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Longest time without a byte.
    pub silence: Duration,
    /// Time to the complete answer.
    pub in_all: Duration,
}

/// Time limits of one exchange.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Longest time without movement.
    silence: Duration,
    /// Additional time after the body was sent: a proxy that accepted it may be passing it on.
    passing_on: Duration,
    /// From the end of the request's body to the end of the answer.
    answer: Duration,
    answer_bytes: usize,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Response {
    /// Returns a header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the server's request id, with limited length: the platform's or the storage's.
    pub(crate) fn request_id(&self) -> Option<String> {
        self.raw_request_id().map(|id| scrub(id).chars().take(REQUEST_ID_MAX).collect())
    }

    pub(crate) fn has_request_id(&self) -> bool {
        self.raw_request_id().is_some()
    }

    fn raw_request_id(&self) -> Option<&str> {
        self.header("x-request-id").or_else(|| self.header("x-amz-request-id"))
    }
}

impl Http {
    /// Builds the client.
    ///
    /// # Errors
    /// When the proxy is no URL, or the certificates cannot be read; names which.
    pub(crate) fn new(settings: &Settings) -> Result<Self, String> {
        // A second installation fails because the first is in place, which is fine.
        drop(rustls::crypto::ring::default_provider().install_default());
        register_proxies(settings.proxy.as_deref());
        let tls = settings.ca_file.as_deref().map(|file| {
            let unusable = |why| format!("{} cannot be used: {why}", file.display());
            pinned::settings(certificates(file)?).map_err(unusable)
        });
        let tls = tls.transpose()?;
        let configured = proxy(settings)?;
        let build = |proxied: bool| {
            let mut builder = Client::builder()
                .user_agent(concat!("dropferry/", env!("CARGO_PKG_VERSION")))
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .connect_timeout(CONNECT_LIMIT)
                .http1_only()
                .tcp_nodelay(true)
                .tcp_keepalive(IDLE_LIMIT)
                .pool_idle_timeout(IDLE_LIMIT)
                .pool_max_idle_per_host(IDLE_MAX);
            if let Some(tls) = &tls {
                builder = builder.tls_backend_preconfigured(tls.clone());
            }
            if !proxied {
                builder = builder.no_proxy();
            } else if let Some(proxy) = &configured {
                builder = builder.proxy(proxy.clone());
            }
            builder.build().map_err(|error| root_cause(&error.without_url()))
        };
        let (outside, inside) = (build(true)?, build(false)?);
        let inactivity_timeout = settings.inactivity_timeout;
        let proxies = Arc::new(Proxies::new(settings));
        let hosts = Arc::default();
        Ok(Self { outside, inside, proxies, inactivity_timeout, hosts, time: None })
    }

    /// Adds the answer's duration to trace lines.
    #[must_use]
    pub(crate) fn with_time(self, time: TimeSource) -> Self {
        Self { time: Some(time), ..self }
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// `Unreachable`, `TimedOut`, or `BadAnswer` when the answer is too long.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: Url,
        request: Request,
    ) -> Result<Response, Failure> {
        let place = self.place(&method, &url);
        let mut outgoing = self.client(&url).request(method, url).headers(request.headers);
        if let Some(body) = request.body {
            outgoing = outgoing.body(body);
        }
        let mut limits = self.limits();
        if let Some(patience) = request.patience {
            limits.silence = limits.silence.max(patience.silence);
            limits.answer = patience.in_all.max(limits.silence);
        }
        limits.answer_bytes = request.answer_max.unwrap_or(ANSWER_MAX);
        self.exchange(outgoing, &place, limits, &Progress::sent()).await
    }

    fn limits(&self) -> Limits {
        let silence = self.inactivity_timeout;
        let answer = ANSWER_LIMIT.min(silence.saturating_mul(TRICKLE_MAX)).max(silence);
        Limits { silence, passing_on: Duration::ZERO, answer, answer_bytes: ANSWER_MAX }
    }

    /// Sends a part and reads the answer. The headers are sent unchanged; the length is the body's.
    ///
    /// # Errors
    /// As [`Self::send`]; and the failure of the byte stream, if that ended the request.
    pub(crate) async fn send_part(
        &self,
        method: Method,
        url: Url,
        mut headers: HeaderMap,
        mut body: PartBody,
    ) -> Result<Response, Failure> {
        let place = self.place(&method, &url);
        let length = body.length;
        headers.remove(TRANSFER_ENCODING);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.length.0));
        let is_empty = body.length.0 == 0;
        let progress = if is_empty { Progress::sent() } else { Progress::default() };
        let outgoing = self.client(&url).request(method, url).headers(headers);
        let outgoing = if is_empty {
            // Nothing else would read how the stream of an empty part ended.
            while let Some(chunk) = body.chunks.next().await {
                body::expect_empty(chunk)?;
            }
            outgoing.body(Bytes::new())
        } else {
            outgoing.body(reqwest::Body::wrap(Streamed::new(body, progress.clone())))
        };
        let passing_on = self.hosts.passing_on(&place.host, length);
        let limits = self.limits();
        let limits = Limits { passing_on, answer: limits.answer + passing_on, ..limits };
        let answer = self.exchange(outgoing, &place, limits, &progress).await;
        let is_late = answer.as_ref().is_err_and(|late| late.kind == FailureKind::TimedOut);
        if is_late && progress.is_sent() {
            self.hosts.note_late(&place.host);
        }
        answer
    }

    fn client(&self, url: &Url) -> &Client {
        if is_own_host(url) { &self.inside } else { &self.outside }
    }

    fn place(&self, method: &Method, url: &Url) -> RequestPlace {
        let host = url.host_str().unwrap_or("nowhere").to_owned();
        let (path, proxy) = (url.path().to_owned(), self.proxies.of(url));
        RequestPlace { method: method.clone(), host, path, proxy }
    }

    async fn exchange(
        &self,
        mut outgoing: reqwest::RequestBuilder,
        place: &RequestPlace,
        limits: Limits,
        progress: &Progress,
    ) -> Result<Response, Failure> {
        if self.hosts.is_alone(&place.host) {
            outgoing = outgoing.header(CONNECTION, "close");
        }
        let begun = self.time.as_ref().map(TimeSource::now);
        let received = receive(outgoing, place, progress, limits.answer_bytes);
        let answer = match within(limits, &place.host, progress, received).await {
            Err(failure) => {
                Err(network::explained(failure, &place.host, place.proxy.as_ref()).await)
            }
            answer => answer,
        };
        self.hosts.note_end(&place.host, answer.as_ref().err().map(|failure| failure.kind));
        let elapsed = self.time.as_ref().zip(begun).map(|(time, begun)| {
            u64::try_from(time.now().monotonic.since(begun.monotonic).as_millis())
        });
        let elapsed_ms = elapsed.and_then(Result::ok);
        match &answer {
            Ok(answer) => {
                let status = answer.status;
                // Computed only where it is logged.
                tracing::trace!(
                    path = %place,
                    status,
                    request_id = answer.request_id(),
                    elapsed_ms,
                    "answer received"
                );
            }
            Err(failure) => {
                tracing::trace!(path = %place, kind = failure.kind.as_str(), elapsed_ms, "no answer");
            }
        }
        answer
    }
}

/// The address of a request without possible secrets: no query, no user, no fragment.
struct RequestPlace {
    method: Method,
    host: String,
    path: String,
    proxy: Option<ProxyPlace>,
}

impl fmt::Display for RequestPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.method, self.host, self.path)
    }
}

pub(crate) fn is_header_name(text: &str) -> bool {
    HeaderName::from_bytes(text.as_bytes()).is_ok()
}

/// Builds a header map; an unsendable value is left out of the error's text.
///
/// # Errors
/// `BadAnswer`, because such headers come from a platform.
pub(crate) fn header_map<'a>(
    lines: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<HeaderMap, Failure> {
    let unusable = || {
        Failure::new(FailureKind::BadAnswer, "the platform asks for a header that cannot be sent")
    };
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| unusable())?;
        value.set_sensitive(true);
        map.try_insert(name, value).map_err(|_| unusable())?;
    }
    Ok(map)
}

/// Runs a request for as long as something moves within the limits; a stall may be noticed an
/// eighth later.
async fn within(
    limits: Limits,
    host: &str,
    progress: &Progress,
    request: impl Future<Output = Result<Response, Failure>>,
) -> Result<Response, Failure> {
    tokio::pin!(request);
    let step = limits.silence / LOOKS;
    let (mut seen, mut idle, mut answering) = (progress.count(), Duration::ZERO, Duration::ZERO);
    let silence = || match progress.is_sent() {
        true => limits.silence.saturating_add(limits.passing_on),
        false => limits.silence,
    };
    while idle < silence() {
        if let Ok(answer) = tokio::time::timeout(step, &mut request).await {
            return answer;
        }
        let count = progress.count();
        idle = if count == seen { idle.saturating_add(step) } else { Duration::ZERO };
        seen = count;
        if progress.is_sent() {
            answering = answering.saturating_add(step);
            if answering > limits.answer {
                let message = format!("{host} answers too slowly to be waited for");
                return Err(Failure::new(FailureKind::TimedOut, message));
            }
        }
    }
    Err(stalled(silence(), host, progress))
}

fn stalled(limit: Duration, host: &str, progress: &Progress) -> Failure {
    let limit = limit.as_secs_f32();
    let message = if progress.waits_for_source() {
        format!("the source gave nothing to send for {limit} s")
    } else {
        format!("nothing moved between here and {host} for {limit} s")
    };
    Failure::new(FailureKind::TimedOut, message)
}

async fn receive(
    outgoing: reqwest::RequestBuilder,
    place: &RequestPlace,
    progress: &Progress,
    body_max: usize,
) -> Result<Response, Failure> {
    let broken = |error| network::failure_of(error, &place.host, place.proxy.as_ref());
    let mut incoming = outgoing.send().await.map_err(broken)?;
    progress.note();
    // It may have come before all was sent.
    progress.set_sent();
    let status = incoming.status().as_u16();
    let bad = |message: &str, request_id| {
        let failure = Failure::new(FailureKind::BadAnswer, message);
        Err(Failure { status: Some(status), request_id, ..failure })
    };
    if !prescribed::is_bounded(incoming.headers()) {
        return bad("the answer has more header lines than any that is expected", None);
    }
    let headers = incoming.headers().clone();
    let mut response = Response { status, headers, body: Bytes::new() };
    let mut body: Vec<u8> = Vec::new();
    while let Some(chunk) = incoming.chunk().await.map_err(broken)? {
        progress.note();
        let length = body.len() + chunk.len();
        if length > body_max {
            return bad("the answer is longer than any that is expected", response.request_id());
        }
        if length > body.capacity() {
            // Doubled, as a vector does by itself, but never beyond the limit.
            body.reserve_exact((2 * body.capacity()).clamp(length, body_max) - body.len());
        }
        body.extend_from_slice(&chunk);
    }
    response.body = body.into();
    Ok(response)
}

/// Any error of a library.
type LibraryError = dyn std::error::Error + 'static;

/// Returns the text of the innermost cause; the outer ones only say that something failed.
fn root_cause(error: &LibraryError) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    Shown(&scrub(&innermost.to_string())).to_string()
}

#[cfg(test)]
pub(crate) mod stub;
#[cfg(test)]
mod tests;

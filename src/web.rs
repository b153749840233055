//! The status page, `/metrics` and `/healthz`, over HTTP.
//!
//! *Owns* the listener, the page's files and what is checked of a request. *Promises*: nothing is
//! changed by any request; only `GET` and `HEAD` are answered; a request whose `Host` is not exactly
//! one of ours is refused, so that a page of another site cannot read this one through a browser of
//! the lab (DNS rebinding); connections are few and short, so that a peer that holds them open takes
//! neither descriptors nor the page from others; `/healthz` is answered by the daemon's loop, so it is
//! well when the loop turns. *Never* reads rows itself: what is shown is given as functions, called on
//! threads that may block.
//!
//! *At a crash* nothing is lost. The daemon runs one.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// A loop that does not answer for this long does not turn.
const PULSE_LIMIT: Duration = Duration::from_secs(5);
/// Requests that wait for the loop.
pub(crate) const PULSES_MAX: usize = 16;

/// Connections at once. Browsers and monitors hold few.
const CONNECTIONS_MAX: usize = 64;
/// A peer sends the head of its request within this time.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// A connection serves one request, and ends within this time: what is shown may be large and the
/// line slow, but a peer that does not read is not waited for.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);
/// Pause after a connection could not be accepted: out of descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

const PAGE: &str = include_str!("web/page.html");
const SCRIPT: &str = include_str!("web/script.js");
const STYLE: &str = include_str!("web/style.css");
/// The page fetches from where it came, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub address: SocketAddr,
    /// Names it answers to, besides the node's own, `localhost` and addresses of this machine.
    pub hosts: Vec<String>,
}

/// Reads something to show, or says why it cannot.
pub(crate) type Read = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

#[derive(Clone)]
pub(crate) struct PageView {
    pub status: Read,
    pub metrics: Read,
    /// Why the daemon cannot do its work; empty when it can.
    pub trouble: Read,
    /// Asks the daemon's loop for a sign of life.
    pub pulse: mpsc::Sender<oneshot::Sender<()>>,
}

impl std::fmt::Debug for PageView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageView").finish_non_exhaustive()
    }
}

/// Takes the address.
pub(crate) async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers until it is dropped. Where there are too many connections, the oldest one ends: a peer
/// that holds them open keeps no other user out.
pub(crate) async fn serve(listener: TcpListener, view: PageView, hosts: Vec<String>) {
    let hosts: Arc<[String]> = hosts.into();
    let mut connections = JoinSet::new();
    let mut oldest_first = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        oldest_first.retain(|open: &tokio::task::AbortHandle| !open.is_finished());
        while connections.len() >= CONNECTIONS_MAX {
            if let Some(oldest) = oldest_first.pop_front() {
                oldest.abort();
            }
            // Ended, or cut.
            drop(connections.join_next().await);
        }
        let Ok(local) = stream.local_addr() else { continue };
        let ours = HostNames { local: local.ip(), hosts: Arc::clone(&hosts) };
        let router = router(view.clone(), ours);
        oldest_first.push_back(connections.spawn(converse(stream, router)));
    }
}

fn router(view: PageView, ours: HostNames) -> Router {
    let page = |kind: &'static str, text: &'static str| get(async move || typed(kind, text.into()));
    Router::new()
        .route("/", page("text/html; charset=utf-8", PAGE))
        .route("/script.js", page("text/javascript; charset=utf-8", SCRIPT))
        .route("/style.css", page("text/css; charset=utf-8", STYLE))
        .route("/api/status", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .layer(middleware::from_fn_with_state(ours, guard))
        .with_state(view)
}

async fn converse(stream: TcpStream, router: Router) {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_LIMIT).keep_alive(false);
    let connection =
        server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match tokio::time::timeout(CONNECTION_LIMIT, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a connection to the status page ended: {error}"),
        Err(_) => tracing::debug!("a connection to the status page took too long"),
    }
}

async fn status(State(view): State<PageView>) -> Response {
    shown("application/json", view.status).await
}

async fn metrics(State(view): State<PageView>) -> Response {
    shown("text/plain; version=0.0.4; charset=utf-8", view.metrics).await
}

async fn shown(kind: &'static str, read: Read) -> Response {
    match off_the_loop(read).await {
        Ok(text) => typed(kind, text),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn health(State(view): State<PageView>) -> Response {
    let unwell =
        |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response();
    let (answer, pulse) = oneshot::channel();
    let turn = async { view.pulse.send(answer).await.is_ok() && pulse.await.is_ok() };
    if !tokio::time::timeout(PULSE_LIMIT, turn).await.unwrap_or(false) {
        return unwell(format!("the loop has not turned for {} s", PULSE_LIMIT.as_secs()));
    }
    match off_the_loop(view.trouble).await {
        Ok(trouble) if trouble.is_empty() => "well\n".into_response(),
        Ok(why) | Err(why) => unwell(why),
    }
}

async fn off_the_loop(read: Read) -> Result<String, String> {
    tokio::task::spawn_blocking(move || read()).await.unwrap_or_else(|_| Err("cut".into()))
}

fn typed(kind: &'static str, text: String) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
}

/// Refuses what is no reading, and what was meant for another machine.
async fn guard(State(ours): State<HostNames>, request: Request, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return (StatusCode::METHOD_NOT_ALLOWED, "nothing is changed here\n").into_response();
    }
    if !ours.are_asked(&request) {
        return (StatusCode::MISDIRECTED_REQUEST, "that is not this machine\n").into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What this machine is called.
#[derive(Debug, Clone)]
struct HostNames {
    /// The address that a connection came to.
    local: IpAddr,
    hosts: Arc<[String]>,
}

impl HostNames {
    /// Returns whether a request names this machine and no other: by one `Host`, and by its target where
    /// that is absolute.
    fn are_asked(&self, request: &Request) -> bool {
        let mut named = request.headers().get_all(HOST).iter();
        let (host, more) = (named.next(), named.next());
        let is_host_ours =
            host.and_then(|host| host.to_str().ok()).is_some_and(|host| self.include(host));
        let is_target_ours = request.uri().authority().is_none_or(|to| self.include(to.as_str()));
        is_host_ours && more.is_none() && is_target_ours
    }

    /// Compares exactly: a name below ours, or one that begins with ours, is another's to give away.
    /// An address is ours if it is a loopback address, the one that the connection came to, or
    /// configured; the short forms of addresses (`127.1`) are names.
    fn include(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        if let Ok(address) = name.parse::<IpAddr>()
            && (address.is_loopback() || address == self.local)
        {
            return true;
        }
        let node = rustix::system::uname();
        let node = node.nodename().to_string_lossy();
        let configured = self.hosts.iter().map(String::as_str);
        let mut names = configured.chain(["localhost", node.as_ref()]);
        !name.is_empty() && names.any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// Takes the port and the brackets of an IPv6 address off a `Host`. The port is not compared: a
/// tunnel may come by another one.
fn without_port(host: &str) -> Option<&str> {
    let (name, rest) = match host.strip_prefix('[') {
        Some(bracketed) => {
            let (name, rest) = bracketed.split_once(']')?;
            name.parse::<std::net::Ipv6Addr>().ok()?;
            (name, rest)
        }
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> HostNames {
        let hosts = ["seq-07.lab.example".to_owned(), "10.9.8.7".to_owned()];
        HostNames { local: IpAddr::from([10, 0, 0, 7]), hosts: hosts.into() }
    }

    #[test]
    fn only_exact_names_and_addresses_of_this_machine_are_ours() {
        let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let ours = [
            "127.0.0.1:8377",
            "127.0.0.1",
            "127.8.9.1:80",
            "[::1]:8377",
            "[::1]",
            "localhost",
            "LocalHost:9000",
            "10.0.0.7",
            "10.9.8.7:8377",
            "SEQ-07.lab.example:8377",
            &node,
            &format!("{node}:8377"),
        ];
        for host in ours {
            assert!(names().include(host), "{host}");
        }
    }

    #[test]
    fn names_and_addresses_of_others_are_refused() {
        let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let below = format!("{node}.evil.example");
        let with_port = format!("{below}:8377");
        let others = [
            "evil.example",
            "evil.example:8377",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "seq-07",
            "seq-07.lab.example.evil.example",
            "evil.seq-07.lab.example",
            "seq-07.lab.example.",
            &below,
            &with_port,
            "1.2.3.4",
            "10.0.0.8",
            "[fe80::1]",
            "[localhost]",
            "[::1",
            "::1",
            "127.1",
            "0x7f.1",
            "2130706433",
            "localhost:",
            "localhost:80:80",
            "localhost:80x",
            "user@localhost",
            "localhost,evil.example",
            "localhost/",
            "",
            ":80",
        ];
        for host in others {
            assert!(!names().include(host), "{host}");
        }
    }
}

//! The status page, `/metrics` and `/healthz`, over HTTP.
//!
//! *Owns* the listener, the page's files and what is checked of a request. *Promises*: nothing is
//! changed by any request; only `GET` and `HEAD` are answered; a `Host` that is a name of somebody
//! else's is refused, so that a page of theirs cannot read this one through a browser of the lab;
//! `/healthz` is answered by the daemon's loop, so it is well when the loop turns. *Never* reads rows
//! itself: what is shown is given as functions, called on threads that may block.
//!
//! *At a crash* nothing is lost. The daemon runs one.

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
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

/// A loop that does not answer for this long does not turn.
const PULSE_LIMIT: Duration = Duration::from_secs(5);
/// Requests that wait for the loop.
pub const PULSES_MAX: usize = 16;

const PAGE: &str = include_str!("web/page.html");
const SCRIPT: &str = include_str!("web/script.js");
const STYLE: &str = include_str!("web/style.css");
/// The page fetches from where it came, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Reads something to show, or says why it cannot.
pub type Read = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// What is shown.
#[derive(Clone)]
pub struct View {
    /// The JSON of `status`.
    pub status: Read,
    /// Prometheus' text.
    pub metrics: Read,
    /// Why the daemon cannot do its work; empty when it can.
    pub trouble: Read,
    /// Asks the daemon's loop for a sign of life.
    pub pulse: mpsc::Sender<oneshot::Sender<()>>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

/// Takes the address.
///
/// # Errors
/// When it is taken, or not this machine's.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers until it is dropped.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, view: View) -> std::io::Result<()> {
    let page = |kind: &'static str, text: &'static str| get(async move || typed(kind, text.into()));
    let router = Router::new()
        .route("/", page("text/html; charset=utf-8", PAGE))
        .route("/script.js", page("text/javascript; charset=utf-8", SCRIPT))
        .route("/style.css", page("text/css; charset=utf-8", STYLE))
        .route("/api/status", get(status))
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .layer(middleware::from_fn(guard))
        .with_state(view);
    axum::serve(listener, router).await
}

async fn status(State(view): State<View>) -> Response {
    shown("application/json", view.status).await
}

async fn metrics(State(view): State<View>) -> Response {
    shown("text/plain; version=0.0.4; charset=utf-8", view.metrics).await
}

async fn shown(kind: &'static str, read: Read) -> Response {
    match off_the_loop(read).await {
        Ok(text) => typed(kind, text),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn health(State(view): State<View>) -> Response {
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
async fn guard(request: Request, next: Next) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return (StatusCode::METHOD_NOT_ALLOWED, "nothing is changed here\n").into_response();
    }
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(is_ours) {
        return (StatusCode::MISDIRECTED_REQUEST, "that is not this machine\n").into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An address cannot be another's name; a name is ours when it is this machine's.
fn is_ours(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let node = rustix::system::uname();
    let node = node.nodename().to_string_lossy();
    let short = |name: &str| name.split('.').next().unwrap_or(name).to_ascii_lowercase();
    name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || (!node.is_empty() && short(name) == short(&node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_are_not_ours() {
        let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
        for host in ["127.0.0.1:8377", "[::1]:8377", "localhost", "10.0.0.7", "[fe80::1]", &node] {
            assert!(is_ours(host), "{host}");
        }
        for host in ["evil.example", "evil.example:8377", "127.0.0.1.evil.example", "", ":80"] {
            assert!(!is_ours(host), "{host}");
        }
    }
}

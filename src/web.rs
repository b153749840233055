//! The status page, `/metrics` and `/healthz`, over HTTP.
//!
//! *Owns* the listener, the page's files and the checks of a request. *Promises*: no request
//! changes anything; only `GET` and `HEAD` are answered, and `POST` of a password to the login
//! form; a request whose `Host` is not exactly one of ours is refused ([`hosts`]); with a password
//! only `/healthz` is shown to a peer without a login ([`login`]); connections are few and short,
//! so that a peer that holds them open takes neither descriptors nor the page from others; the
//! daemon's loop answers `/healthz`, so it reports health only while the loop runs. *Never* reads
//! rows itself: a function returns the content, called on blocking threads.
//!
//! A page contains its first data, then follows `/api/events` ([`events`]).
//!
//! *A crash* loses only logins. The daemon runs one.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::model::WallTime;

mod events;
mod hosts;
mod login;

use events::Events;
use hosts::HostNames;
use login::LoginGate;
pub use login::Password;

/// A loop that does not answer within this time hangs.
const PULSE_LIMIT: Duration = Duration::from_secs(5);
/// Limit of requests that wait for the loop.
pub(crate) const PULSES_MAX: usize = 16;

/// Limit of connections. Browsers and monitors hold few.
const CONNECTIONS_MAX: usize = 64;
/// Time in which a peer must send the head of its request.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// Time limit of a connection, which serves one request: the content may be large and the line slow, but
/// a peer that does not read is not waited for. A browser that follows events connects again.
const CONNECTION_LIMIT: Duration = Duration::from_secs(60);
/// Pause after a connection could not be accepted, mostly for lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);
/// Limit of a posted body: only a password.
const BODY_MAX: usize = 4 * 1024;

const PAGE: &str = include_str!("web/page.html");
const SCRIPT: &str = concat!(include_str!("web/elements.js"), include_str!("web/script.js"));
const STYLE: &str = include_str!("web/style.css");
/// The page may fetch only from its own origin.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub address: SocketAddr,
    /// Host names it answers to, besides the node's own, `localhost` and addresses of this machine.
    pub hosts: Vec<String>,
    /// The password that a peer must give before it sees anything.
    pub password: Option<Password>,
}

/// The resources of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageResource {
    /// The output of `status`.
    Status,
    /// The part of it that a browser shows first.
    Overview,
    Run {
        drop: String,
        run: String,
    },
    /// Uploads whose paths contain a text.
    Files(FileSearch),
    Upload(i64),
    /// Bytes sent in the last hour and the last day.
    History,
    Metrics,
    /// Why the daemon cannot do its work; empty when it can.
    Trouble,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FileSearch {
    /// The text, in any case.
    pub q: String,
    /// Only in this drop directory.
    pub drop: Option<String>,
    /// Only in this run.
    pub run: Option<String>,
}

/// Reads a resource, or returns why it cannot; `None` when it does not exist.
pub type Read = Arc<dyn Fn(&PageResource) -> Result<Option<String>, String> + Send + Sync>;

#[derive(Clone)]
pub struct PageView {
    pub read: Read,
    /// Asks the daemon's loop for a sign of life.
    pub pulse: mpsc::Sender<oneshot::Sender<()>>,
    /// Reads the wall clock.
    pub now: fn() -> WallTime,
}

impl std::fmt::Debug for PageView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageView").finish_non_exhaustive()
    }
}

/// State shared by all connections.
#[derive(Debug, Clone)]
struct Site {
    view: PageView,
    events: Arc<Events>,
    login: Option<Arc<LoginGate>>,
}

/// Binds the address.
pub async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers until it is dropped. If there are too many connections, the oldest one is closed, so
/// that a peer that holds them open keeps no other user out.
pub async fn serve(listener: TcpListener, view: PageView, settings: Settings) {
    let hosts: Arc<[String]> = settings.hosts.into();
    let port = listener.local_addr().map_or(0, |at| at.port());
    let login =
        settings.password.map(|password| Arc::new(LoginGate::new(password, port, view.now)));
    let site = Site { events: Arc::default(), login, view };
    let mut followers = JoinSet::new();
    followers.spawn(Arc::clone(&site.events).follow(Arc::clone(&site.view.read)));
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
            // Ended or cancelled.
            drop(connections.join_next().await);
        }
        let Ok(local) = stream.local_addr() else { continue };
        let ours = HostNames { local: local.ip(), hosts: Arc::clone(&hosts) };
        let router = router(site.clone(), ours);
        oldest_first.push_back(connections.spawn(converse(stream, router)));
    }
}

fn router(site: Site, ours: HostNames) -> Router {
    let file = |kind: &'static str, text: &'static str| get(async move || typed(kind, text.into()));
    Router::new()
        .route("/", get(overview_page))
        .route("/runs/{drop}/{*run}", get(run_page))
        .route("/uploads/{id}", get(upload_page))
        .route("/script.js", file("text/javascript; charset=utf-8", SCRIPT))
        .route("/style.css", file("text/css; charset=utf-8", STYLE))
        .route(
            "/api/status",
            get(async |State(site): State<Site>| json(site, PageResource::Status).await),
        )
        .route(
            "/api/page",
            get(async |State(site): State<Site>| json(site, PageResource::Overview).await),
        )
        .route(
            "/api/history",
            get(async |State(site): State<Site>| json(site, PageResource::History).await),
        )
        .route("/api/runs/{drop}/{*run}", get(run_data))
        .route("/api/uploads/{id}", get(upload_data))
        .route("/api/files", get(files))
        .route("/api/events", get(events::listen))
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/login", post(login::log_in))
        .layer(middleware::from_fn_with_state(site.clone(), login::admit))
        .layer(middleware::from_fn_with_state(ours, guard))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(site)
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

async fn overview_page(State(site): State<Site>, uri: Uri) -> Response {
    page(site, &uri, PageResource::Overview).await
}

async fn run_page(
    State(site): State<Site>,
    uri: Uri,
    Path((drop, run)): Path<(String, String)>,
) -> Response {
    page(site, &uri, PageResource::Run { drop, run }).await
}

async fn upload_page(State(site): State<Site>, uri: Uri, Path(id): Path<i64>) -> Response {
    page(site, &uri, PageResource::Upload(id)).await
}

async fn run_data(State(site): State<Site>, Path((drop, run)): Path<(String, String)>) -> Response {
    json(site, PageResource::Run { drop, run }).await
}

async fn upload_data(State(site): State<Site>, Path(id): Path<i64>) -> Response {
    json(site, PageResource::Upload(id)).await
}

async fn files(State(site): State<Site>, Query(search): Query<FileSearch>) -> Response {
    json(site, PageResource::Files(search)).await
}

async fn metrics(State(site): State<Site>) -> Response {
    shown("application/openmetrics-text; version=1.0.0; charset=utf-8", site, PageResource::Metrics)
        .await
}

async fn json(site: Site, resource: PageResource) -> Response {
    shown("application/json", site, resource).await
}

async fn shown(kind: &'static str, site: Site, resource: PageResource) -> Response {
    match off_the_loop(site.view.read, resource).await {
        Ok(text) => typed(kind, text),
        Err(refused) => refused,
    }
}

/// Fills the page with its first data. Links are relative, because a proxy may serve it below a path.
async fn page(site: Site, uri: &Uri, resource: PageResource) -> Response {
    match off_the_loop(site.view.read, resource).await {
        Ok(data) => {
            // No text within the data may end the element that contains it.
            let data = data.replace('<', "\\u003c");
            let page = PAGE.replace("{up}", &up(uri.path())).replace("{data}", &data);
            typed("text/html; charset=utf-8", page)
        }
        Err(refused) => refused,
    }
}

async fn health(State(site): State<Site>) -> Response {
    let unwell =
        |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response();
    let (answer, pulse) = oneshot::channel();
    let turn = async { site.view.pulse.send(answer).await.is_ok() && pulse.await.is_ok() };
    if !tokio::time::timeout(PULSE_LIMIT, turn).await.unwrap_or(false) {
        return unwell(format!("the loop has not turned for {} s", PULSE_LIMIT.as_secs()));
    }
    match off_the_loop(site.view.read, PageResource::Trouble).await {
        Ok(trouble) if trouble.is_empty() => "well\n".into_response(),
        Ok(why) => unwell(why),
        Err(refused) => refused,
    }
}

/// Reads a resource, or returns the error response.
async fn off_the_loop(read: Read, resource: PageResource) -> Result<String, Response> {
    let found = tokio::task::spawn_blocking(move || read(&resource)).await;
    match found.unwrap_or_else(|_| Err("cut".into())) {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err((StatusCode::NOT_FOUND, "there is no such thing\n").into_response()),
        Err(why) => Err((StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()),
    }
}

/// Returns the relative path from a path to the page.
fn up(path: &str) -> String {
    format!("./{}", "../".repeat(path.matches('/').count().saturating_sub(1)))
}

fn typed(kind: &'static str, text: String) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
}

/// Refuses requests other than reads, and those meant for another machine.
async fn guard(State(ours): State<HostNames>, request: Request, next: Next) -> Response {
    let is_login = *request.method() == Method::POST && request.uri().path() == "/login";
    if !is_login && !matches!(*request.method(), Method::GET | Method::HEAD) {
        return (StatusCode::METHOD_NOT_ALLOWED, "nothing is changed here\n").into_response();
    }
    if !ours.are_asked(&request) {
        return (StatusCode::MISDIRECTED_REQUEST, "that is not this machine\n").into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("referrer-policy", HeaderValue::from_static("same-origin"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

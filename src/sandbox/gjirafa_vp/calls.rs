//! Handles requests: the table of calls, authorisation, the envelope.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::any;
use serde_json::Value;

use super::world::{Refusal, World, envelope};
use super::{PROJECT, bucket, complete, uploads};
use crate::sandbox::Shared;
use crate::sandbox::faulting::{self, BODY_MAX, json_response};
use crate::sandbox::server::Breaker;
use crate::sandbox::stand::{Stand, lock};

pub(super) type Sandbox = Stand<World>;
pub(super) type Outcome = Result<Value, Refusal>;

/// The existing calls.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Operation {
    Start,
    /// With the request key.
    ListParts(String),
    Resume,
    Abort,
    Complete,
    Single,
    /// With the request key.
    Success(String),
    Unknown,
}

impl Operation {
    /// Parses method and path; also returns the project.
    fn parse(method: &Method, path: &str) -> (Self, String) {
        let segments: Vec<_> = path.split('/').collect();
        let ["api", "projects", project, "uploads", rest @ ..] = segments.as_slice() else {
            return (Self::Unknown, String::new());
        };
        let operation = match (method.as_str(), rest) {
            ("POST", ["multipart"]) => Self::Start,
            ("GET", ["url", "multipart", key, "parts"]) => Self::ListParts((*key).to_owned()),
            ("POST", ["multipart-resume"]) => Self::Resume,
            ("PUT", ["multipart-abort"]) => Self::Abort,
            ("PUT", ["multipart-complete"]) => Self::Complete,
            ("POST", ["url"]) => Self::Single,
            ("POST", ["success", key]) => Self::Success((*key).to_owned()),
            _ => Self::Unknown,
        };
        (operation, (*project).to_owned())
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::ListParts(_) => "list-parts",
            Self::Resume => "resume",
            Self::Abort => "abort",
            Self::Complete => "complete",
            Self::Single => "single",
            Self::Success(_) => "success",
            Self::Unknown => "unknown",
        }
    }

    fn has_body(&self) -> bool {
        match self {
            Self::Start | Self::Resume | Self::Abort | Self::Complete | Self::Single => true,
            Self::ListParts(_) | Self::Success(_) | Self::Unknown => false,
        }
    }
}

pub(super) struct Call {
    method: Method,
    path: String,
    operation: Operation,
    project: String,
    headers: HeaderMap,
    bytes: Bytes,
    /// Parsed when the call is accepted and has one.
    pub(super) body: Value,
    /// `http://host`, which is also the storage's.
    pub(super) host: String,
}

impl Call {
    /// Returns a field of the body; one that is null is absent.
    pub(super) fn field(&self, name: &str) -> Option<&Value> {
        self.body.get(name).filter(|value| !value.is_null())
    }

    /// Returns a string in the body, if it is there; any other type is refused.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let wrong = || Refusal::new(400, format!("{name} must be a string"));
        self.field(name).map(|value| value.as_str().ok_or_else(wrong)).transpose()
    }

    /// Returns the key of the upload in the body.
    pub(super) fn request_key(&self) -> Result<&str, Refusal> {
        let key = self.text("requestKey")?.filter(|key| !key.is_empty());
        key.ok_or_else(|| Refusal::new(400, "requestKey is required"))
    }
}

pub(in crate::sandbox) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/gjirafa", any(api))
        .route("/gjirafa/", any(api))
        .route("/gjirafa/{*rest}", any(api))
        .route("/gjirafa-storage/{*rest}", any(storage))
}

async fn api(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(breaker): ConnectInfo<Breaker>,
    path: Option<Path<String>>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, BODY_MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let host = head.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1");
    let host = format!("http://{host}");
    let path = path.map(|Path(path)| path).unwrap_or_default();
    let (operation, project) = Operation::parse(&head.method, &path);
    let name = operation.name();
    let call = Call {
        method: head.method,
        path,
        operation,
        project,
        headers: head.headers,
        bytes,
        body: Value::Null,
        host,
    };
    let work = async { respond(&shared, call) };
    faulting::perform(&shared.gjirafa_vp, name, &breaker, work).await
}

async fn storage(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(breaker): ConnectInfo<Breaker>,
    request: Request,
) -> Response {
    let work = bucket::put(&shared, request);
    faulting::perform(&shared.gjirafa_vp, "put", &breaker, work).await
}

fn respond(shared: &Shared, mut call: Call) -> Response {
    let mut state = lock(&shared.gjirafa_vp);
    if state.switches.maintenance {
        let page = "<html><head><title>503 Backend fetch failed</title></head>\
                    <body><h1>Error 503 Backend fetch failed</h1></body></html>";
        return (StatusCode::SERVICE_UNAVAILABLE, Html(page)).into_response();
    }
    let outcome =
        admit(shared, &mut state, &mut call).and_then(|()| dispatch(shared, &mut state, &call));
    let (status, body) = envelope(&outcome);
    json_response(status, Some(&body))
}

/// Checks route, key, project and the form of the body, in this order.
fn admit(shared: &Shared, state: &mut Sandbox, call: &mut Call) -> Result<(), Refusal> {
    if call.operation == Operation::Unknown {
        state.ledger.breach(format!("{} {} is no call", call.method, call.path));
        return Err(Refusal::not_found());
    }
    let switches = &state.switches.gjirafa_vp;
    let key = call.headers.get(switches.auth_header.as_str()).and_then(|key| key.to_str().ok());
    let wanted = format!("{}{}", switches.auth_prefix, shared.settings.token);
    if key != Some(&wanted) || state.switches.token_revoked {
        return Err(Refusal::new(401, "Unauthorized"));
    }
    if call.project != PROJECT {
        return Err(Refusal::new(403, "Forbidden"));
    }
    if !call.operation.has_body() {
        return Ok(());
    }
    let kind = call.headers.get("content-type").and_then(|kind| kind.to_str().ok());
    if !kind.is_some_and(|kind| kind.starts_with("application/json")) {
        state.ledger.breach(format!("{}: sent without its content type", call.operation.name()));
        return Err(Refusal::new(415, "Unsupported Media Type"));
    }
    let body = serde_json::from_slice(&call.bytes).ok().filter(Value::is_object);
    call.body = body.ok_or_else(|| {
        state.ledger.breach(format!("{}: the body is no JSON object", call.operation.name()));
        Refusal::new(400, "Bad Request")
    })?;
    Ok(())
}

fn dispatch(shared: &Shared, state: &mut Sandbox, call: &Call) -> Outcome {
    match &call.operation {
        Operation::Start => uploads::start(shared, state, call),
        Operation::ListParts(key) => uploads::list(state, key),
        Operation::Resume => uploads::resume(shared, state, call),
        Operation::Abort => uploads::abort(state, call),
        Operation::Complete => complete::complete(shared, state, call),
        Operation::Single => uploads::single(shared, state, call),
        Operation::Success(key) => uploads::success(state, key),
        Operation::Unknown => Err(Refusal::not_found()),
    }
}

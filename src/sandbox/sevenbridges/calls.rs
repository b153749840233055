//! Handles requests: authorisation, budget, faults, files and folders.

use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use serde_json::{Map, Value, json};

use super::world::World;
use super::world::{Entry, Place, Refusal};
use super::{exports, uploads};
use crate::sandbox::faulting::{self, BODY_MAX, json_response};
use crate::sandbox::server::Breaker;
use crate::sandbox::stand::{Stand, lock};
use crate::sandbox::{Shared, unix_time};

type Sandbox = Stand<World>;

/// One API call, parsed.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) segments: Vec<String>,
    query: Vec<(String, String)>,
    pub(super) body: Value,
    /// `http://host/v2`.
    pub(super) base: String,
    /// The whole requested address.
    href: String,
    headers: HeaderMap,
}

/// A success: status and body, and the total number of items if it is a list.
pub(super) struct Success {
    pub(super) status: u16,
    pub(super) body: Option<Value>,
    pub(super) total: Option<usize>,
}

pub(super) type Outcome = Result<Success, Refusal>;

impl Success {
    pub(super) fn new(status: u16, body: Value) -> Outcome {
        Ok(Self { status, body: Some(body), total: None })
    }

    pub(super) fn empty(status: u16) -> Outcome {
        Ok(Self { status, body: None, total: None })
    }

    pub(super) fn list(call: &Call, items: Vec<Value>) -> Outcome {
        let number = |name, default: usize| {
            call.query(name).and_then(|text| text.parse().ok()).unwrap_or(default)
        };
        let (offset, limit) = (number("offset", 0), number("limit", 50).clamp(1, 100));
        let total = items.len();
        let page: Vec<_> = items.into_iter().skip(offset).take(limit).collect();
        let body = json!({"href": call.href, "items": page, "links": []});
        Ok(Self { status: 200, body: Some(body), total: Some(total) })
    }
}

impl Call {
    /// Returns the first value of a query parameter.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Returns whether a query parameter is true, in any case.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.query(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Returns a string in the body.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.body.get(name).and_then(Value::as_str)
    }

    /// Returns whether the header for new parts of the API is set.
    pub(super) fn is_advanced(&self) -> bool {
        self.headers.get("x-sbg-advance-access").is_some_and(|value| value == "advance")
    }

    fn operation(&self) -> &'static str {
        let segments: Vec<_> = self.segments.iter().map(String::as_str).collect();
        match (self.method.as_str(), segments.as_slice()) {
            ("GET", ["user"]) => "user",
            ("GET", ["rate_limit"]) => "rate-limit",
            ("GET", ["projects"]) => "projects",
            ("GET", ["projects", _, _]) => "project",
            ("GET", ["files"]) => "find",
            ("POST", ["files"]) => "folder",
            ("GET", ["files", _]) => "file",
            ("GET", ["files", _, "list"]) => "list-folder",
            ("PATCH", ["files", _]) => "edit",
            ("DELETE", ["files", _]) => "delete",
            ("PATCH" | "PUT", ["files", _, "metadata"]) => "metadata",
            ("PUT", ["files", _, "tags"]) => "tags",
            ("POST", ["upload", "multipart"]) => "initialise",
            ("GET", ["upload", "multipart"]) => "list",
            ("GET", ["upload", "multipart", _]) => "details",
            ("GET", ["upload", "multipart", _, "part", _]) => "part-url",
            ("POST", ["upload", "multipart", _, "part"]) => "report",
            ("POST", ["upload", "multipart", _]) => "report-many",
            ("POST", ["upload", "multipart", _, "complete"]) => "complete",
            ("DELETE", ["upload", "multipart", _]) => "abort",
            ("POST", ["storage", "exports"]) => "export",
            ("GET", ["storage", "exports"]) => "exports",
            ("GET", ["storage", "exports", _]) => "export-job",
            ("POST", ["bulk", "storage", "exports", "create"]) => "bulk-exports",
            ("POST", ["bulk", "storage", "exports", "get"]) => "bulk-export-jobs",
            ("POST", ["bulk", "files", "get"]) => "bulk-files",
            ("POST", ["bulk", "files", "edit"]) => "bulk-edit",
            ("GET", []) => "root",
            _ => "unknown",
        }
    }
}

pub(in crate::sandbox) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v2", any(api))
        .route("/v2/", any(api))
        .route("/v2/{*rest}", any(api))
        .route("/storage/{upload}/{part}", any(storage))
}

async fn api(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(breaker): ConnectInfo<Breaker>,
    request: Request,
) -> Response {
    let Some(call) = parse(request).await else { return StatusCode::BAD_REQUEST.into_response() };
    let operation = call.operation();
    let work = async { respond(&shared, &call, operation) };
    faulting::perform(&shared.sevenbridges, operation, &breaker, work).await
}

async fn storage(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(breaker): ConnectInfo<Breaker>,
    request: Request,
) -> Response {
    let work = uploads::put(&shared, request);
    faulting::perform(&shared.sevenbridges, "put", &breaker, work).await
}

async fn parse(request: Request) -> Option<Call> {
    let (head, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, BODY_MAX).await.ok()?;
    let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).ok()? };
    let host = head.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1");
    let path = head.uri.path().strip_prefix("/v2").unwrap_or_default();
    Some(Call {
        method: head.method,
        segments: path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
        query: parse_query(&head.uri),
        body,
        base: format!("http://{host}/v2"),
        href: format!("http://{host}{}", head.uri),
        headers: head.headers,
    })
}

pub(super) fn parse_query(uri: &Uri) -> Vec<(String, String)> {
    Query::<Vec<(String, String)>>::try_from_uri(uri).map(|query| query.0).unwrap_or_default()
}

fn respond(shared: &Shared, call: &Call, operation: &str) -> Response {
    let mut state = lock(&shared.sevenbridges);
    let now = unix_time().as_secs();
    let outcome = admit(shared, &mut state, call, operation, now);
    let outcome = outcome.and_then(|()| dispatch(shared, &mut state, call, operation));
    let mut response = match &outcome {
        Ok(success) => json_response(success.status, success.body.as_ref()),
        Err(refusal) => refuse(refusal),
    };
    state.counter += 1;
    let limit = shared.settings.rate_limit;
    let numbers = [
        ("x-ratelimit-limit", limit),
        ("x-ratelimit-remaining", limit.saturating_sub(state.world.window.used)),
        ("x-ratelimit-reset", state.world.window.ends_at),
        ("x-request-id", state.counter),
    ];
    let total = outcome.ok().and_then(|success| success.total);
    let total = total.map(|total| ("x-total-matching-query", total as u64));
    for (name, number) in numbers.into_iter().chain(total) {
        response.headers_mut().insert(name, HeaderValue::from(number));
    }
    response
}

/// Checks token, maintenance and budget, in this order.
fn admit(
    shared: &Shared,
    state: &mut Sandbox,
    call: &Call,
    operation: &str,
    now: u64,
) -> Result<(), Refusal> {
    if operation == "root" {
        return Ok(());
    }
    let token = call.headers.get("x-sbg-auth-token").and_then(|token| token.to_str().ok());
    if token != Some(&shared.settings.token) || state.switches.token_revoked {
        return Err(Refusal::new(401, 90001, "Unauthorized"));
    }
    if state.switches.maintenance {
        return Err(Refusal::new(503, 0, "The platform is under maintenance."));
    }
    if now >= state.world.window.ends_at {
        state.world.window.ends_at = now + shared.settings.rate_window.as_secs().max(1);
        state.world.window.used = 0;
    }
    if state.world.window.used >= shared.settings.rate_limit {
        state.ledger.breach(format!("{operation}: called beyond the rate limit"));
        return Err(Refusal::new(429, 1000, "Rate limit exceeded! Check response headers."));
    }
    state.world.window.used += 1;
    let life = state.switches.upload_life;
    state.world.expire(now, life);
    Ok(())
}

fn dispatch(shared: &Shared, state: &mut Sandbox, call: &Call, operation: &str) -> Outcome {
    match operation {
        "root" => Success::new(200, json!({"upload_url": format!("{}/upload", call.base)})),
        "user" => {
            Success::new(200, json!({"href": format!("{}/user", call.base), "username": "lab"}))
        }
        "rate-limit" => {
            let left = shared.settings.rate_limit - state.world.window.used;
            let rate = json!({"limit": shared.settings.rate_limit, "remaining": left, "reset": state.world.window.ends_at});
            let instance = json!({"limit": -1, "remaining": 1});
            Success::new(
                200,
                json!({"rate": rate, "instance_limit": instance, "instance": instance}),
            )
        }
        "projects" => {
            let projects = state.world.projects.iter().map(|id| show_project(call, id)).collect();
            Success::list(call, projects)
        }
        "project" => {
            let id = call.segments[1..].join("/");
            state.world.find_place(Some(&id), None)?;
            Success::new(200, show_project(call, &id))
        }
        "initialise" | "list" | "details" | "part-url" | "report" | "report-many" | "complete"
        | "abort" => uploads::dispatch(shared, state, call, operation),
        "export" | "exports" | "export-job" | "bulk-exports" | "bulk-export-jobs" => {
            exports::dispatch(state, call, operation)
        }
        "bulk-files" | "bulk-edit" => many_files(state, call, operation),
        "unknown" => {
            state.ledger.breach(format!("{} {} is no call", call.method, call.segments.join("/")));
            Err(Refusal::new(404, 90003, "Resource not found."))
        }
        _ => files(state, call, operation),
    }
}

fn show_project(call: &Call, id: &str) -> Value {
    let name = id.split('/').next_back().unwrap_or(id);
    json!({
        "href": format!("{}/projects/{id}", call.base), "id": id, "name": name, "type": "v2",
        "permissions": {"read": true, "write": true, "copy": true, "execute": true, "admin": false},
    })
}

fn files(state: &mut Sandbox, call: &Call, operation: &str) -> Outcome {
    let upper = state.switches.sevenbridges.upper_case_types;
    if operation == "find" {
        let place = state.world.find_place(call.query("project"), call.query("parent"))?;
        let wanted: Vec<_> = call.query.iter().filter(|(key, _)| key == "name").collect();
        let matches = |entry: &&Entry| {
            entry.place == place
                && (wanted.is_empty() || wanted.iter().any(|(_, name)| *name == entry.name))
        };
        let found = state.world.entries.values().filter(matches);
        return Success::list(call, found.map(|entry| entry.show(&call.base, upper)).collect());
    }
    if operation == "folder" {
        return make_folder(state, call);
    }
    let id = call.segments.get(1).cloned().unwrap_or_default();
    let missing = || Refusal::new(404, 5002, "Requested file does not exist.");
    match operation {
        "list-folder" => {
            let place = Place::Folder(id);
            let found = state.world.entries.values().filter(|entry| entry.place == place);
            Success::list(call, found.map(|entry| entry.show(&call.base, upper)).collect())
        }
        "delete" => {
            state.world.entries.remove(&id).ok_or_else(missing)?;
            Success::empty(204)
        }
        _ => {
            let entry = state.world.entries.get(&id).ok_or_else(missing)?;
            let name = call.text("name").filter(|_| operation == "edit");
            let there = name.and_then(|name| state.world.find(&entry.place, name));
            if there.is_some_and(|there| there.id != id) {
                return Err(Refusal::new(409, 5003, "File already exists."));
            }
            let entry = state.world.entries.get_mut(&id).ok_or_else(missing)?;
            edit(entry, call, operation)?;
            let shown = match operation {
                "metadata" => Value::Object(entry.metadata.clone()),
                "tags" => json!(entry.tags),
                _ => entry.show(&call.base, upper),
            };
            Success::new(200, shown)
        }
    }
}

/// Shows or edits up to a hundred files; each has its own answer.
fn many_files(state: &mut Sandbox, call: &Call, operation: &str) -> Outcome {
    let key = if operation == "bulk-edit" { "items" } else { "file_ids" };
    let items = exports::bulk(call.body.get(key).and_then(Value::as_array).cloned())?;
    let upper = state.switches.sevenbridges.upper_case_types;
    let mut answer = |item: &Value| {
        let id = item.as_str().or_else(|| item.get("id")?.as_str()).unwrap_or_default();
        let missing = || Refusal::new(404, 5002, "Requested file does not exist.");
        let entry = state.world.entries.get_mut(id).ok_or_else(missing)?;
        if let Some(pairs) = item.get("metadata") {
            let pairs = pairs.as_object().ok_or_else(|| bad_metadata("an object is expected"))?;
            check_metadata(pairs)?;
            entry.metadata.extend(pairs.clone());
        }
        if let Some(tags) = item.get("tags").and_then(Value::as_array) {
            entry.tags = tags.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        }
        Ok(entry.show(&call.base, upper))
    };
    let answers = items.iter().map(&mut answer).collect();
    Success::new(200, exports::wrapped(answers))
}

/// Changes metadata, tags or name; `PATCH` of metadata merges.
fn edit(entry: &mut Entry, call: &Call, operation: &str) -> Result<(), Refusal> {
    let (metadata, tags) = match operation {
        "metadata" => (Some(&call.body), None),
        "tags" => (None, Some(&call.body)),
        "edit" => (call.body.get("metadata"), call.body.get("tags")),
        _ => return Ok(()),
    };
    if let Some(metadata) = metadata {
        let pairs = metadata.as_object().ok_or_else(|| bad_metadata("an object is expected"))?;
        check_metadata(pairs)?;
        if call.method == Method::PUT || operation == "edit" {
            entry.metadata.clear();
        }
        entry.metadata.extend(pairs.clone());
    }
    if let Some(tags) = tags.and_then(Value::as_array) {
        entry.tags = tags.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    }
    if let Some(name) = call.text("name").filter(|_| operation == "edit") {
        name.clone_into(&mut entry.name);
    }
    Ok(())
}

fn bad_metadata(why: &str) -> Refusal {
    Refusal::new(400, 5006, &format!("Metadata validation failed: {why}."))
}

fn check_metadata(pairs: &Map<String, Value>) -> Result<(), Refusal> {
    let fits = |(key, value): (&String, &Value)| {
        key.len() <= 100 && value.as_str().is_some_and(|value| value.len() <= 300)
    };
    if pairs.len() > 1000 || !pairs.iter().all(fits) {
        return Err(bad_metadata("at most 1000 texts of 300 bytes, keys of 100 bytes"));
    }
    Ok(())
}

fn make_folder(state: &mut Sandbox, call: &Call) -> Outcome {
    let name = call.text("name").unwrap_or_default();
    if call.text("type") != Some("folder") {
        return Err(Refusal::new(400, 5012, "Only type folder can be created."));
    }
    if name.is_empty() || name.contains('/') || name.starts_with("__") || name.chars().count() > 255
    {
        state.ledger.breach(format!("folder: the name {name:?} is not allowed"));
        return Err(Refusal::new(400, 5024, "Invalid name."));
    }
    let place = state.world.find_place(call.text("project"), call.text("parent"))?;
    if state.world.find(&place, name).is_some() {
        return Err(Refusal::new(409, 5030, "Folder already exists."));
    }
    let entry = Entry {
        id: state.new_id(24),
        name: name.to_owned(),
        place,
        created_at: unix_time().as_secs(),
        metadata: Map::new(),
        tags: Vec::new(),
        parts: None,
    };
    let shown = entry.show(&call.base, state.switches.sevenbridges.upper_case_types);
    state.world.entries.insert(entry.id.clone(), entry);
    Success::new(201, shown)
}

fn refuse(refusal: &Refusal) -> Response {
    let body = json!({
        "status": refusal.status, "code": refusal.code, "message": refusal.message,
        "more_info": format!("http://docs.cavatica.org/docs/api-status-codes/#{}", refusal.code),
    });
    json_response(refusal.status, Some(&body))
}

//! Parses requests, and builds answers in the vendor's form.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::sandbox::faulting::BODY_MAX;

type Pairs = Vec<(String, String)>;

/// One parsed call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) path: String,
    query: Pairs,
    body: Pairs,
    headers: HeaderMap,
}

/// The route of a call; impossible ids are 0, and so are part numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    User,
    Projects,
    MakeProject,
    Project(u64),
    MakeAppResult(u64),
    AppResults(u64),
    AppResult(u64),
    AppSession(u64),
    SetAppSession(u64),
    Initiate(u64),
    Single(u64),
    ListFiles(u64),
    Put(u64, u32),
    ListParts(u64),
    Complete(u64),
    Abort(u64),
    /// An `uploadstatus` with any other value.
    OddStatus(u64),
    File(u64),
    Unknown,
}

impl Route {
    /// Returns its name in the ledger and in faults.
    pub(super) fn operation(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Projects => "projects",
            Self::MakeProject => "make-project",
            Self::Project(_) => "project",
            Self::MakeAppResult(_) => "make-appresult",
            Self::AppResults(_) => "appresults",
            Self::AppResult(_) => "appresult",
            Self::AppSession(_) => "appsession",
            Self::SetAppSession(_) => "set-appsession",
            Self::Initiate(_) => "initiate",
            Self::Single(_) => "single",
            Self::ListFiles(_) => "list-files",
            Self::Put(..) => "put",
            Self::ListParts(_) => "list-parts",
            Self::Complete(_) => "complete",
            Self::Abort(_) => "abort",
            Self::File(_) => "file",
            Self::OddStatus(_) | Self::Unknown => "unknown",
        }
    }
}

/// Parses an id in the vendor's form.
pub(super) fn parse_id(text: &str) -> u64 {
    text.parse().ok().filter(|id: &u64| id.to_string() == text).unwrap_or(0)
}

impl Call {
    /// Parses a request. Bytes of a file are left in the body, parameters are not.
    pub(super) async fn read(request: Request) -> (Self, Body) {
        let (head, body) = request.into_parts();
        let mut call = Self {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: parse_form(&head.uri),
            body: Pairs::new(),
            headers: head.headers,
        };
        if call.carries_bytes() {
            return (call, body);
        }
        let bytes = axum::body::to_bytes(body, BODY_MAX).await.unwrap_or_default();
        call.body = parse_body(&bytes);
        (call, Body::empty())
    }

    fn carries_bytes(&self) -> bool {
        // Without a name in the query, the body has the parameters.
        let is_named = find(&self.query, "name").is_some();
        let route = self.route();
        matches!(route, Route::Put(..)) || (is_named && matches!(route, Route::Single(_)))
    }

    /// Returns a parameter from the query, else from the body; its name in lower case.
    pub(super) fn param(&self, name: &str) -> Option<&str> {
        find(&self.query, name).or_else(|| find(&self.body, name))
    }

    /// Returns a required parameter.
    pub(super) fn require(&self, name: &str) -> Result<&str, Refusal> {
        self.param(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| Refusal::bad_request(format!("The parameter {name} is required.")))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the announced length of the body.
    pub(super) fn content_length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// Returns a token in the query, which should not be there.
    pub(super) fn query_token(&self) -> Option<&str> {
        find(&self.query, "access_token")
    }

    /// Returns the token, in whichever way it was sent.
    pub(super) fn token(&self) -> Option<&str> {
        let bearer = || {
            let (scheme, token) = self.header("authorization")?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        };
        self.header("x-access-token").or_else(bearer).or_else(|| self.query_token())
    }

    /// Returns its route.
    pub(super) fn route(&self) -> Route {
        let path = self.path.strip_prefix("/basespace").unwrap_or_default();
        let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let ["v1pre3", segments @ ..] = segments.as_slice() else { return Route::Unknown };
        match (self.method.as_str(), segments) {
            ("GET", ["users", "current"]) => Route::User,
            ("GET", ["users", "current", "projects"]) => Route::Projects,
            ("POST", ["projects"]) => Route::MakeProject,
            ("GET", ["projects", id]) => Route::Project(parse_id(id)),
            ("POST", ["projects", id, "appresults"]) => Route::MakeAppResult(parse_id(id)),
            ("GET", ["projects", id, "appresults"]) => Route::AppResults(parse_id(id)),
            ("GET", ["appresults", id]) => Route::AppResult(parse_id(id)),
            ("GET", ["appsessions", id]) => Route::AppSession(parse_id(id)),
            ("POST", ["appsessions", id]) => Route::SetAppSession(parse_id(id)),
            ("GET", ["appresults", id, "files"]) => Route::ListFiles(parse_id(id)),
            ("POST", ["appresults", id, "files"]) => {
                let multipart = self.param("multipart").unwrap_or_default();
                let is_multipart = multipart.eq_ignore_ascii_case("true");
                (if is_multipart { Route::Initiate } else { Route::Single })(parse_id(id))
            }
            ("PUT", ["files", id, "parts", number]) => {
                let number = u32::try_from(parse_id(number)).unwrap_or(0);
                Route::Put(parse_id(id), number)
            }
            ("GET", ["files", id, "parts"]) => Route::ListParts(parse_id(id)),
            ("GET", ["files", id]) => Route::File(parse_id(id)),
            ("POST", ["files", id]) => {
                let status = self.param("uploadstatus").unwrap_or_default().to_ascii_lowercase();
                match status.as_str() {
                    "complete" => Route::Complete(parse_id(id)),
                    "aborted" => Route::Abort(parse_id(id)),
                    _ => Route::OddStatus(parse_id(id)),
                }
            }
            _ => Route::Unknown,
        }
    }
}

fn find<'a>(pairs: &'a Pairs, name: &str) -> Option<&'a str> {
    pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Parses a query as a form, its names in lower case.
fn parse_form(uri: &Uri) -> Pairs {
    let pairs = Query::<Pairs>::try_from_uri(uri).map(|query| query.0).unwrap_or_default();
    pairs.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
}

/// Parses parameters in a body, if it is JSON or a form; otherwise there are none.
fn parse_body(bytes: &[u8]) -> Pairs {
    if let Ok(Value::Object(object)) = serde_json::from_slice(bytes) {
        let pair = |(name, value): (String, Value)| {
            let value = match value {
                Value::String(text) => text,
                Value::Bool(_) | Value::Number(_) => value.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => return None,
            };
            Some((name.to_ascii_lowercase(), value))
        };
        return object.into_iter().filter_map(pair).collect();
    }
    let form = std::str::from_utf8(bytes).ok().filter(|text| text.contains('='));
    let uri = form.and_then(|form| Uri::try_from(format!("/?{}", form.trim())).ok());
    uri.map(|uri| parse_form(&uri)).unwrap_or_default()
}

/// A success: status and `Response`.
#[derive(Debug)]
pub(super) struct Success {
    pub(super) status: u16,
    pub(super) response: Value,
}

pub(super) type Outcome = Result<Success, Refusal>;

impl Success {
    pub(super) fn new(status: u16, response: Value) -> Outcome {
        Ok(Self { status, response })
    }
}

/// A failed answer.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    code: Option<&'static str>,
    message: String,
}

impl Refusal {
    fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code: Some(code), message: message.into() }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(super) fn bad_token() -> Self {
        let message = "The access token is invalid, expired or revoked.";
        Self::new(401, "BASESPACE.COMMON.AUTHENTICATION_FAILURE", message)
    }

    /// Missing, or not the caller's: the vendor does not distinguish these.
    pub(super) fn denied(kind: &str) -> Self {
        let message = format!("You do not have permission to access this {kind}.");
        Self::new(403, "BASESPACE.COMMON.INSUFFICIENT_RESOURCE_PERMISSIONS", message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(403, "Forbidden", message)
    }

    pub(super) fn no_route() -> Self {
        Self { status: 404, code: None, message: "The requested resource was not found.".into() }
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "Conflict", message)
    }

    pub(super) fn too_large() -> Self {
        Self::new(413, "RequestEntityTooLarge", "A part has at most 26214400 bytes.")
    }

    pub(super) fn maintenance() -> Self {
        Self::new(503, "ServiceUnavailable", "BaseSpace is down for maintenance.")
    }

    fn envelope(&self) -> Value {
        let Some(code) = self.code else {
            return json!({"ResponseStatus": {"Message": self.message}, "Notifications": []});
        };
        json!({
            "ResponseStatus": {"ErrorCode": code, "Message": self.message},
            "Notifications": [{"Type": "error", "Item": self.message}],
        })
    }
}

/// Returns the vendor's notification.
fn downtime(now: Duration) -> Value {
    json!([{"Type": "Downtime", "Item": {
        "Id": "1", "Title": "Planned downtime",
        "Message": "BaseSpace will not be available for two hours.",
        "StartedOn": date(now + Duration::from_hours(24)),
        "ExpectedToEndOn": date(now + Duration::from_hours(26)),
    }}])
}

/// Additional content of an answer.
#[derive(Debug)]
pub(super) struct Dress<'a> {
    pub(super) now: Duration,
    /// 22 unique digits.
    pub(super) unique: &'a str,
    pub(super) is_read: bool,
    pub(super) notification: bool,
}

/// Renders an answer: compact, chunked, without its length.
pub(super) fn render(outcome: &Outcome, dress: &Dress<'_>) -> Response {
    let (status, envelope) = match outcome {
        Ok(success) => {
            let notes = if dress.notification { downtime(dress.now) } else { json!([]) };
            let body = json!({
                "Response": success.response, "ResponseStatus": {}, "Notifications": notes,
            });
            (success.status, body)
        }
        Err(refusal) => (refusal.status, refusal.envelope()),
    };
    let stamp = timestamp(dress.now).strftime("%Y.%m.%d.%H.%M.%S").to_string();
    let mut headers = vec![
        ("content-type", "application/json; charset=utf-8".to_owned()),
        ("cache-control", "no-cache, no-store, must-revalidate".to_owned()),
        ("x-content-type-options", "nosniff".to_owned()),
        ("x-request-id", format!("{stamp}.{}", dress.unique)),
    ];
    if dress.is_read {
        headers.push(("x-basespace-source", "readonly".to_owned()));
    }
    let mut response = chunked(status, envelope.to_string().into());
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}

fn chunked(status: u16, bytes: Bytes) -> Response {
    let once = futures_util::stream::iter([Ok::<_, Infallible>(bytes)]);
    (StatusCode::from_u16(status).unwrap_or_default(), Body::from_stream(once)).into_response()
}

/// Moves a wrong ETag from the header, where faults put it, to the body, where the vendor has it.
pub(super) async fn move_etag(mut response: Response) -> Response {
    let Some(etag) = response.headers_mut().remove("etag") else { return response };
    let (head, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, BODY_MAX).await.unwrap_or_default();
    let mut envelope: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let known = envelope.pointer_mut("/Response/ETag");
    let bytes = match known {
        Some(known) => {
            *known = json!(etag.to_str().unwrap_or_default().trim_matches('"'));
            envelope.to_string().into()
        }
        None => bytes,
    };
    let mut response = chunked(head.status.as_u16(), bytes);
    *response.headers_mut() = head.headers;
    response.headers_mut().remove("content-length");
    response
}

fn timestamp(time: Duration) -> jiff::Timestamp {
    let seconds = i64::try_from(time.as_secs()).unwrap_or_default();
    jiff::Timestamp::from_second(seconds).unwrap_or_default()
}

/// Formats a time as the API does, with seven digits.
pub(super) fn date(time: Duration) -> String {
    let seconds = timestamp(time).strftime("%Y-%m-%dT%H:%M:%S").to_string();
    format!("{seconds}.{:07}Z", time.subsec_nanos() / 100)
}

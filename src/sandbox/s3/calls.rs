//! Handles requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::complete::complete;
use super::lists::{list_objects, list_parts, list_uploads};
use super::signature::{self, Signed, pairs, unescape};
use super::world::{Object, Said, Upload, World};
use super::xml::{date, escape, no_upload, precondition, refuse, xml};
use super::{ACCESS_KEY, BUCKET};
use crate::sandbox::faulting::{self, BODY_MAX};
use crate::sandbox::server::Breaker;
use crate::sandbox::stand::{Stand, lock};
use crate::sandbox::storage::{self, StoredPart};
use crate::sandbox::{Shared, unix_time};

const PARTS_MAX: u32 = 10_000;
const PART_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// Header with the version of an object, where the bucket keeps several.
pub(super) const VERSION_HEADER: &str = "x-amz-version-id";

pub(super) type Sandbox = Stand<World>;

impl Sandbox {
    /// Returns the id of a new version, where the bucket keeps them.
    pub(super) fn new_version(&mut self) -> Option<String> {
        self.switches.s3.keeps_versions.then(|| self.new_id(32))
    }
}

/// One parsed request.
pub(super) struct Call {
    method: String,
    path: String,
    query: String,
    pairs: Vec<(String, String)>,
    headers: HeaderMap,
    bucket: String,
    pub(super) key: String,
}

impl Call {
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn operation(&self) -> &'static str {
        let has = |name| self.query(name).is_some();
        match (self.method.as_str(), self.key.is_empty()) {
            ("PUT", false) if has("uploadId") => "upload-part",
            ("PUT", false) => "put-object",
            ("POST", false) if has("uploads") => "create",
            ("POST", false) if has("uploadId") => "complete",
            ("GET", false) if has("uploadId") => "list-parts",
            ("DELETE", false) if has("uploadId") => "abort",
            ("DELETE", false) => "delete-object",
            ("HEAD", false) => "head",
            ("GET", false) => "get",
            ("GET", true) if has("uploads") => "list-uploads",
            ("GET", true) => "list-objects",
            ("HEAD", true) => "head-bucket",
            _ => "unknown",
        }
    }
}

pub(in crate::sandbox) fn routes() -> Router<Arc<Shared>> {
    Router::new().fallback(any)
}

async fn any(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(breaker): ConnectInfo<Breaker>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let decoded = unescape(&path);
    let (bucket, key) = decoded.trim_start_matches('/').split_once('/').unwrap_or((&decoded, ""));
    let call = Call {
        method: head.method.as_str().to_owned(),
        pairs: pairs(&query),
        headers: head.headers,
        bucket: bucket.trim_matches('/').to_owned(),
        key: key.to_owned(),
        path,
        query,
    };
    let operation = call.operation();
    let work = async {
        let mut answer = answer(&shared, &call, operation, body).await;
        let id = lock(&shared.s3).new_id(16);
        let date = date(unix_time().as_secs());
        let stamps = [("x-amz-request-id", id.to_uppercase()), ("date", date)];
        insert(answer.headers_mut(), stamps);
        answer
    };
    faulting::perform_on(&shared.s3, operation, &call.key, &breaker, work).await
}

async fn answer(shared: &Shared, call: &Call, operation: &str, body: Body) -> Response {
    if let Err(refusal) = admit(shared, call) {
        return refusal;
    }
    match operation {
        "upload-part" | "put-object" => return receive(shared, call, operation, body).await,
        _ => {}
    }
    let Ok(body) = axum::body::to_bytes(body, BODY_MAX).await else {
        return refuse(400, "IncompleteBody", "the body is cut");
    };
    let mut state = lock(&shared.s3);
    match operation {
        "create" => create(&mut state, call),
        "complete" => complete(shared, &mut state, call, &String::from_utf8_lossy(&body)),
        "list-parts" => list_parts(&state, call),
        "abort" => abort(&mut state, call),
        "list-uploads" => list_uploads(&state, call),
        "list-objects" => list_objects(&state, call),
        "delete-object" => {
            state.world.objects.remove(&call.key);
            StatusCode::NO_CONTENT.into_response()
        }
        "head" | "get" => show(&mut state, call),
        "head-bucket" => StatusCode::OK.into_response(),
        _ => {
            state.ledger.breach(format!("{} {} is no call", call.method, call.path));
            refuse(405, "MethodNotAllowed", "this is no call")
        }
    }
}

#[expect(clippy::result_large_err, reason = "one refusal a request, made and sent at once")]
fn admit(shared: &Shared, call: &Call) -> Result<(), Response> {
    let mut state = lock(&shared.s3);
    if state.switches.maintenance {
        return Err(refuse(503, "ServiceUnavailable", "Please reduce your request rate."));
    }
    let signed = Signed {
        method: &call.method,
        path: &call.path,
        query: &call.query,
        headers: &call.headers,
    };
    let now = i64::try_from(unix_time().as_secs()).unwrap_or(0);
    let key = if state.switches.token_revoked { "REVOKED" } else { ACCESS_KEY };
    if let Err((code, message)) = signature::check(&signed, key, &shared.settings.token, now) {
        if code == "AccessDenied" && message.contains("not signed") {
            state.ledger.breach("a header was sent that is not signed");
        }
        let status = if code.starts_with("Auth") || code == "InvalidArgument" { 400 } else { 403 };
        return Err(refuse(status, code, message));
    }
    if call.header("content-encoding").is_some_and(|value| value.contains("aws-chunked")) {
        return Err(refuse(501, "NotImplemented", "chunked signatures are not known here"));
    }
    if call.bucket != BUCKET {
        return Err(refuse(404, "NoSuchBucket", "The specified bucket does not exist"));
    }
    if call.key.len() > 1024 {
        return Err(refuse(400, "KeyTooLongError", "Your key is too long"));
    }
    Ok(())
}

fn said(headers: &HeaderMap) -> Said {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    let comes_back = |name: &str| {
        name.starts_with("x-amz-meta-")
            || name == "content-type"
            || name == "x-amz-server-side-encryption"
            || name == "x-amz-server-side-encryption-customer-algorithm"
    };
    let kept = headers.iter().filter(|(name, _)| comes_back(name.as_str()));
    let tags = headers.get("x-amz-tagging").map(text).unwrap_or_default();
    Said {
        headers: kept.map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
        tags: tags.split('&').filter(|tag| !tag.is_empty()).map(unescape).collect(),
        customer_key: headers.get("x-amz-server-side-encryption-customer-key-md5").map(text),
    }
}

fn create(state: &mut Sandbox, call: &Call) -> Response {
    let id = state.new_id(40);
    let upload = Upload {
        key: call.key.clone(),
        said: said(&call.headers),
        initiated_at: unix_time().as_secs(),
        parts: BTreeMap::new(),
    };
    state.ledger.begun_count += 1;
    state.world.uploads.insert(id.clone(), upload);
    let root = match state.switches.s3.other_roots {
        true => "InitiateMultipartUpload",
        false => "InitiateMultipartUploadResult",
    };
    let key = escape(&call.key);
    xml(
        200,
        &format!(
            "<{root} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Bucket>{BUCKET}</Bucket>\
         <Key>{key}</Key><UploadId>{id}</UploadId></{root}>"
        ),
    )
}

/// Receives a part or a whole object into a file, and checks it.
async fn receive(shared: &Shared, call: &Call, operation: &str, body: Body) -> Response {
    let id = call.query("uploadId").unwrap_or(&call.key).to_owned();
    let number: u32 = call.query("partNumber").map_or(1, |text| text.parse().unwrap_or(0));
    let is_part = operation == "upload-part";
    let announced: Option<u64> = call.header("content-length").and_then(|text| text.parse().ok());
    {
        let mut state = lock(&shared.s3);
        if announced.is_none() {
            state.ledger.breach(format!("{operation}: sent without its length"));
            return refuse(411, "MissingContentLength", "You must provide the length");
        }
        if let Err(refusal) = check_target(&mut state, call, is_part, number) {
            return refusal;
        }
    }
    let place = {
        let name = lock(&shared.s3).new_id(32);
        shared.settings.place(&format!("s3-{name}"))
    };
    let gone = |length| lock(&shared.s3).ledger.arrived(&id, number, length, false);
    let stored = storage::receive(&place, body, gone).await;
    let mut state = lock(&shared.s3);
    match stored {
        Ok(stored) if Some(stored.length) == announced && stored.length <= PART_MAX => {
            let has_digest = call.header("content-md5");
            if has_digest.is_some_and(|digest| digest != base64_of(&stored.sent_md5)) {
                state.ledger.arrived(&id, number, stored.length, false);
                return refuse(400, "BadDigest", "The Content-MD5 you specified did not match");
            }
            state.ledger.arrived(&id, number, stored.length, true);
            keep(&mut state, call, is_part.then_some((id.as_str(), number)), stored)
        }
        Ok(stored) => {
            state.ledger.arrived(&id, number, stored.length, false);
            refuse(400, "IncompleteBody", "The request body terminated unexpectedly")
        }
        Err(torn) => {
            state.ledger.arrived(&id, number, torn.length, false);
            refuse(400, "RequestTimeout", "Your socket connection was not read from in time")
        }
    }
}

#[expect(clippy::result_large_err, reason = "one refusal a request, made and sent at once")]
fn check_target(
    state: &mut Sandbox,
    call: &Call,
    is_part: bool,
    number: u32,
) -> Result<(), Response> {
    if !is_part {
        return match refused_by_condition(state, call) {
            true => Err(precondition()),
            false => Ok(()),
        };
    }
    if !(1..=PARTS_MAX).contains(&number) {
        state.ledger.breach(format!("upload-part: part {number}"));
        return Err(refuse(400, "InvalidArgument", "Part number must be between 1 and 10000"));
    }
    let id = call.query("uploadId").unwrap_or_default();
    let key = said(&call.headers).customer_key;
    match state.world.uploads.get(id).filter(|upload| upload.key == call.key) {
        Some(upload) if upload.said.customer_key == key => Ok(()),
        Some(_) => Err(refuse(400, "InvalidRequest", "The customer key is missing or another")),
        None => Err(no_upload()),
    }
}

fn keep(
    state: &mut Sandbox,
    call: &Call,
    part: Option<(&str, u32)>,
    stored: StoredPart,
) -> Response {
    let is_keyed = state.switches.storage_etag == "kms";
    let etag = match state.switches.storage_etag.as_str() {
        "kms" | "unlike" => state.new_id(32),
        "salted" => storage::salted(&stored.md5),
        _ => stored.md5.clone(),
    };
    let mut version = None;
    match part {
        Some((id, number)) => {
            let Some(upload) = state.world.uploads.get_mut(id) else { return no_upload() };
            upload.parts.insert(number, (etag.clone(), stored));
        }
        None => {
            if refused_by_condition(state, call) {
                return precondition();
            }
            version = state.new_version();
            let object = Object {
                parts: vec![stored],
                etag: etag.clone(),
                version: version.clone(),
                said: said(&call.headers),
                created_at: unix_time().as_secs(),
            };
            state.ledger.begun_count += 1;
            state.world.objects.insert(call.key.clone(), object);
        }
    }
    let mut response = StatusCode::OK.into_response();
    let told = (state.switches.storage_etag != "none").then(|| ("etag", format!("\"{etag}\"")));
    insert(response.headers_mut(), told);
    insert(response.headers_mut(), version.map(|version| (VERSION_HEADER, version)));
    if is_keyed {
        insert(response.headers_mut(), [("x-amz-server-side-encryption", "aws:kms".to_owned())]);
    }
    response
}

pub(super) fn refused_by_condition(state: &Sandbox, call: &Call) -> bool {
    let standing = state.world.objects.get(&call.key).map(|object| object.etag.as_str());
    let is_taken = call.header("if-none-match") == Some("*") && standing.is_some();
    let wanted = call.header("if-match").map(|etag| etag.trim_matches('"'));
    let is_another = wanted.is_some_and(|etag| standing != Some(etag));
    !state.switches.s3.ignores_conditions && (is_taken || is_another)
}

fn abort(state: &mut Sandbox, call: &Call) -> Response {
    let id = call.query("uploadId").unwrap_or_default();
    match state.world.uploads.remove(id) {
        Some(_) => StatusCode::NO_CONTENT.into_response(),
        None => no_upload(),
    }
}

/// Shows an object's headers, and its bytes when they are requested.
fn show(state: &mut Sandbox, call: &Call) -> Response {
    let changed = state.switches.s3.changing_object_etag.then(|| state.new_id(32));
    let Some(object) = state.world.objects.get(&call.key) else {
        return refuse(404, "NoSuchKey", "The specified key does not exist.");
    };
    if object.said.customer_key != said(&call.headers).customer_key {
        return refuse(400, "InvalidRequest", "The customer key is missing or another");
    }
    let part: Option<usize> = call.query("partNumber").and_then(|text| text.parse().ok());
    let size = part.map_or(object.size(), |number| {
        object.parts.get(number.saturating_sub(1)).map_or(0, |part| part.length)
    });
    let range = call.header("range").and_then(|text| range_of(text, size));
    let length = range.map_or(size, |(from, to)| to - from + 1);
    let body = match call.method.as_str() {
        "GET" => match read(object, range) {
            Ok(bytes) => Body::from(bytes),
            Err(_) => return refuse(500, "InternalError", "the bytes cannot be read"),
        },
        _ => Body::empty(),
    };
    let status = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    if let Some((from, to)) = range {
        insert(headers, [("content-range", format!("bytes {from}-{to}/{size}"))]);
    }
    for (name, value) in &object.said.headers {
        insert(headers, [(name.as_str(), value.clone())]);
    }
    insert(
        headers,
        [("content-length", length.to_string()), ("last-modified", date(object.created_at))],
    );
    let etag = changed.filter(|_| object.parts.len() > 1);
    let etag =
        etag.map_or_else(|| object.etag.clone(), |etag| format!("{etag}-{}", object.parts.len()));
    let told = (state.switches.storage_etag != "none").then(|| ("etag", format!("\"{etag}\"")));
    insert(headers, told);
    if state.switches.storage_etag == "kms" {
        insert(headers, [("x-amz-server-side-encryption", "aws:kms".to_owned())]);
    }
    insert(headers, object.version.clone().map(|version| (VERSION_HEADER, version)));
    if part.is_some() {
        insert(headers, [("x-amz-mp-parts-count", object.parts.len().to_string())]);
    }
    response
}

/// Returns the first and the last byte of a range header.
fn range_of(text: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let from = from.parse().ok().filter(|from| *from < size)?;
    Some((from, to.parse().unwrap_or(u64::MAX).min(size - 1)))
}

/// Reads an object, or a range of it.
fn read(object: &Object, range: Option<(u64, u64)>) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let mut reader = storage::read(&object.parts)?;
    let (skip, take) = range.map_or((0, u64::MAX), |(from, to)| (from, to - from + 1));
    std::io::copy(&mut reader.by_ref().take(skip), &mut std::io::sink())?;
    reader.take(take).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn insert<'a>(
    headers: &mut HeaderMap,
    lines: impl IntoIterator<Item = (&'a str, String)>,
) {
    for (name, value) in lines {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
}

fn base64_of(md5: &str) -> String {
    let raw = (0..md5.len()).step_by(2).filter_map(|at| md5.get(at..at + 2));
    STANDARD.encode(raw.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect::<Vec<_>>())
}

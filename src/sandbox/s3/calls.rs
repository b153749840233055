//! From requests to the world and back.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::signature::{self, Signed, pairs, unescape};
use super::world::{Object, Said, Upload, World, etag_of_many};
use super::{ACCESS_KEY, BUCKET};
use crate::sandbox::faulting::{self, BODY_MAX};
use crate::sandbox::server::Breaker;
use crate::sandbox::stand::{Stand, lock};
use crate::sandbox::storage::{self, StoredPart};
use crate::sandbox::{Shared, unix_time};

const PARTS_MAX: u32 = 10_000;
const PART_MAX: u64 = 5 * 1024 * 1024 * 1024;

type Sandbox = Stand<World>;

/// One request, taken apart.
struct Call {
    method: String,
    /// As it came.
    path: String,
    query: String,
    pairs: Vec<(String, String)>,
    headers: HeaderMap,
    bucket: String,
    key: String,
}

impl Call {
    fn query(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn header(&self, name: &str) -> Option<&str> {
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
    faulting::perform(&shared.s3, operation, &breaker, work).await
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
        "head" | "get" => show(&state, call),
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

/// Receives a part or a whole object into a file, and judges it.
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
        shared.settings.directory.join("parts").join(format!("s3-{name}"))
    };
    let gone = |length| lock(&shared.s3).ledger.arrived(&id, number, length, false);
    let stored = storage::receive(&place, body, gone).await;
    let mut state = lock(&shared.s3);
    match stored {
        Ok(stored) if Some(stored.length) == announced && stored.length <= PART_MAX => {
            let has_digest = call.header("content-md5");
            if has_digest.is_some_and(|digest| digest != base64_of(&stored.md5)) {
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
    let is_opaque = state.switches.storage_etag == "kms";
    let etag = if is_opaque { state.new_id(32) } else { stored.md5.clone() };
    match part {
        Some((id, number)) => {
            let Some(upload) = state.world.uploads.get_mut(id) else { return no_upload() };
            upload.parts.insert(number, (etag.clone(), stored));
        }
        None => {
            if refused_by_condition(state, call) {
                return precondition();
            }
            let object = Object {
                parts: vec![stored],
                etag: etag.clone(),
                said: said(&call.headers),
                created_at: unix_time().as_secs(),
            };
            state.ledger.begun_count += 1;
            state.world.objects.insert(call.key.clone(), object);
        }
    }
    let mut response = StatusCode::OK.into_response();
    insert(response.headers_mut(), [("etag", format!("\"{etag}\""))]);
    if is_opaque {
        insert(response.headers_mut(), [("x-amz-server-side-encryption", "aws:kms".to_owned())]);
    }
    response
}

fn refused_by_condition(state: &Sandbox, call: &Call) -> bool {
    call.header("if-none-match") == Some("*")
        && !state.switches.s3.ignores_conditions
        && state.world.objects.contains_key(&call.key)
}

fn complete(shared: &Shared, state: &mut Sandbox, call: &Call, body: &str) -> Response {
    let id = call.query("uploadId").unwrap_or_default().to_owned();
    let Some(upload) = state.world.uploads.get(&id).cloned() else {
        let repeated = state.world.completed.get(&id).filter(|key| **key == call.key);
        return match repeated.and_then(|key| state.world.objects.get(key)) {
            Some(object) if !state.switches.s3.complete_twice_is_gone => {
                completed(state, call, &object.etag)
            }
            Some(_) | None => no_upload(),
        };
    };
    if call.header("content-type").is_some_and(|kind| kind.contains("form-urlencoded")) {
        state.ledger.breach("complete: sent as a form");
        return refuse(400, "InvalidRequest", "a form is not expected");
    }
    let listed = listed_parts(body);
    if let Err((code, message)) = check_parts(shared, &upload, &listed) {
        state.ledger.breach(format!("complete: {code}"));
        return refuse(400, code, message);
    }
    if refused_by_condition(state, call) {
        return precondition();
    }
    let parts: Vec<_> = upload.parts.into_values().map(|(_, stored)| stored).collect();
    let is_opaque = state.switches.storage_etag == "kms" || state.switches.s3.strange_object_etag;
    let etag = if is_opaque { state.new_id(32) } else { etag_of_many(&parts) };
    let object =
        Object { parts, etag: etag.clone(), said: upload.said, created_at: unix_time().as_secs() };
    state.world.uploads.remove(&id);
    state.world.objects.insert(call.key.clone(), object);
    state.world.completed.insert(id, call.key.clone());
    completed(state, call, &etag)
}

fn completed(state: &Sandbox, call: &Call, etag: &str) -> Response {
    let root = match state.switches.s3.other_roots {
        true => "CompleteMultipartUploadResponse",
        false => "CompleteMultipartUploadResult",
    };
    let key = escape(&call.key);
    // Keep-alive blanks come before the document.
    xml(
        200,
        &format!(
            " \n <{root}><Bucket>{BUCKET}</Bucket><Key>{key}</Key><ETag>&quot;{etag}&quot;</ETag></{root}>"
        ),
    )
}

/// Numbers and ETags of the parts in the body of a complete.
fn listed_parts(body: &str) -> Vec<(u32, String)> {
    let between = |text: &str, name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(value, _)| value.trim().to_owned())
    };
    let part = |text: &str| {
        let etag = between(text, "ETag")?.replace("&quot;", "\"");
        Some((between(text, "PartNumber")?.parse().ok()?, etag.trim_matches('"').to_owned()))
    };
    body.split("<Part>").skip(1).filter_map(part).collect()
}

fn check_parts(
    shared: &Shared,
    upload: &Upload,
    listed: &[(u32, String)],
) -> Result<(), (&'static str, &'static str)> {
    if listed.is_empty() {
        return Err(("MalformedXML", "no part is listed"));
    }
    if !listed.is_sorted_by(|one, other| one.0 < other.0) {
        return Err(("InvalidPartOrder", "The list of parts was not in ascending order"));
    }
    for (number, etag) in listed {
        if upload.parts.get(number).map(|(given, _)| given) != Some(etag) {
            return Err(("InvalidPart", "One or more of the parts could not be found"));
        }
    }
    let last = listed.last().map(|(number, _)| *number);
    let is_small = |(number, (_, stored)): (&u32, &(String, StoredPart))| {
        Some(*number) != last && stored.length < shared.settings.part_size_min
    };
    if upload.parts.iter().any(is_small) {
        return Err(("EntityTooSmall", "Your proposed upload is smaller than the minimum"));
    }
    if listed.len() != upload.parts.len() {
        return Err(("InvalidPart", "parts were left out"));
    }
    Ok(())
}

fn list_parts(state: &Sandbox, call: &Call) -> Response {
    let id = call.query("uploadId").unwrap_or_default();
    let Some(upload) = state.world.uploads.get(id).filter(|upload| upload.key == call.key) else {
        return no_upload();
    };
    let after = call.query("part-number-marker").and_then(|text| text.parse().ok()).unwrap_or(0);
    let page = call.query("max-parts").and_then(|text| text.parse().ok()).unwrap_or(1000);
    let page = page.min(state.switches.s3.page);
    let left: Vec<_> = upload.parts.range(after + 1..).collect();
    let is_truncated = left.len() > page;
    let mut body = String::new();
    for (number, (etag, stored)) in left.iter().take(page) {
        let etag = match state.switches.s3.lists_no_etags {
            true => String::new(),
            false => format!("<ETag>&quot;{etag}&quot;</ETag>"),
        };
        body.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber>{etag}<Size>{}</Size></Part>",
            stored.length
        ));
    }
    let next = left.iter().take(page).next_back().map_or(0, |(number, _)| **number);
    let root = if state.switches.s3.other_roots { "ListPartsResponse" } else { "ListPartsResult" };
    xml(
        200,
        &format!(
            "<{root}><UploadId>{id}</UploadId><NextPartNumberMarker>{next}</NextPartNumberMarker>\
         <IsTruncated>{is_truncated}</IsTruncated>{body}</{root}>"
        ),
    )
}

fn abort(state: &mut Sandbox, call: &Call) -> Response {
    let id = call.query("uploadId").unwrap_or_default();
    match state.world.uploads.remove(id) {
        Some(_) => StatusCode::NO_CONTENT.into_response(),
        None => no_upload(),
    }
}

fn list_uploads(state: &Sandbox, call: &Call) -> Response {
    if state.switches.s3.lists_no_uploads {
        return refuse(501, "NotImplemented", "uploads cannot be listed");
    }
    let prefix = call.query("prefix").unwrap_or_default();
    let mut found: Vec<_> =
        state.world.uploads.iter().filter(|(_, upload)| upload.key.starts_with(prefix)).collect();
    found.sort_by_key(|(id, upload)| (&upload.key, upload.initiated_at, *id));
    let marker = call.query("upload-id-marker");
    let skip = marker.and_then(|id| found.iter().position(|(known, _)| *known == id));
    let skip = skip.map_or(0, |index| index + 1);
    let left = &found[skip..];
    let page = state.switches.s3.page;
    let mut body = String::new();
    for (id, upload) in left.iter().take(page) {
        body.push_str(&format!(
            "<Upload><Key>{}</Key><UploadId>{id}</UploadId><Initiated>{}</Initiated></Upload>",
            escape(&upload.key),
            iso(upload.initiated_at)
        ));
    }
    if let Some((id, upload)) = left.iter().take(page).next_back() {
        let key = escape(&upload.key);
        body.push_str(&format!(
            "<NextKeyMarker>{key}</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>"
        ));
    }
    let is_truncated = left.len() > page;
    xml(
        200,
        &format!(
            "<ListMultipartUploadsResult><IsTruncated>{is_truncated}</IsTruncated>{body}\
         </ListMultipartUploadsResult>"
        ),
    )
}

fn list_objects(state: &Sandbox, call: &Call) -> Response {
    let prefix = call.query("prefix").unwrap_or_default();
    let mut body = String::new();
    for (key, object) in state.world.objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
        body.push_str(&format!(
            "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>&quot;{}&quot;</ETag>\
             <Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
            escape(key),
            iso(object.created_at),
            object.etag,
            object.size()
        ));
    }
    xml(
        200,
        &format!(
            "<ListBucketResult><Name>{BUCKET}</Name><IsTruncated>false</IsTruncated>{body}\
         </ListBucketResult>"
        ),
    )
}

/// Shows an object's headers, and its bytes when they are asked for.
fn show(state: &Sandbox, call: &Call) -> Response {
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
    let body = match call.method.as_str() {
        "GET" => {
            let mut bytes = Vec::new();
            let read = storage::read(&object.parts)
                .and_then(|mut reader| std::io::Read::read_to_end(&mut reader, &mut bytes));
            if read.is_err() {
                return refuse(500, "InternalError", "the bytes cannot be read");
            }
            Body::from(bytes)
        }
        _ => Body::empty(),
    };
    let mut response = (StatusCode::OK, body).into_response();
    let headers = response.headers_mut();
    for (name, value) in &object.said.headers {
        insert(headers, [(name.as_str(), value.clone())]);
    }
    insert(
        headers,
        [
            ("content-length", size.to_string()),
            ("etag", format!("\"{}\"", object.etag)),
            ("last-modified", date(object.created_at)),
        ],
    );
    if part.is_some() {
        insert(headers, [("x-amz-mp-parts-count", object.parts.len().to_string())]);
    }
    response
}

fn insert<'a>(headers: &mut HeaderMap, lines: impl IntoIterator<Item = (&'a str, String)>) {
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

fn no_upload() -> Response {
    refuse(404, "NoSuchUpload", "The specified multipart upload does not exist.")
}

fn precondition() -> Response {
    refuse(412, "PreconditionFailed", "At least one of the pre-conditions did not hold")
}

fn refuse(status: u16, code: &str, message: &str) -> Response {
    xml(status, &format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"))
}

fn xml(status: u16, body: &str) -> Response {
    let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}");
    let text = if body.starts_with(' ') { body.to_owned() } else { text };
    let kind = [("content-type", "application/xml")];
    (StatusCode::from_u16(status).unwrap_or_default(), kind, text).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn timestamp(seconds: u64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or(0)).unwrap_or_default()
}

fn iso(seconds: u64) -> String {
    timestamp(seconds).strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

fn date(seconds: u64) -> String {
    timestamp(seconds).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

//! The storage: signed addresses, and arriving parts.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::calls::Sandbox;
use super::world::{Part, Upload};
use crate::sandbox::digits::hex;
use crate::sandbox::stand::lock;
use crate::sandbox::storage::{self, StoredPart};
use crate::sandbox::{Shared, unix_time};

const DATE: &str = "%Y%m%dT%H%M%SZ";

/// The lifetime of an address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    /// Seconds since 1970.
    pub(super) since: u64,
    pub(super) seconds: u64,
}

/// Returns the address for uploading a part.
pub(super) fn sign(
    shared: &Shared,
    host: &str,
    upload: &Upload,
    part: u32,
    lease: Lease,
) -> String {
    let path = path(shared, upload, upload.generation, part, lease);
    format!("{host}{path}")
}

/// Path and query of a signed address.
fn path(shared: &Shared, upload: &Upload, generation: u64, part: u32, lease: Lease) -> String {
    let (id, date, seconds) = (&upload.upload_id, date(lease.since), lease.seconds);
    let unsigned = format!(
        "/gjirafa-storage/{id}/{part}?partNumber={part}&uploadId={id}\
         &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=sandbox%2Fs3%2Faws4_request\
         &X-Amz-Date={date}&X-Amz-Expires={seconds}&X-Amz-SignedHeaders=host"
    );
    let secret = format!("{}:{generation}:{unsigned}", shared.settings.directory.display());
    format!("{unsigned}&X-Amz-Signature={}", hex(&Sha256::digest(secret)))
}

fn timestamp(seconds: u64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or(0)).unwrap_or_default()
}

fn date(seconds: u64) -> String {
    timestamp(seconds).strftime(DATE).to_string()
}

fn parse_date(text: &str) -> Option<u64> {
    let at = jiff::civil::DateTime::strptime(DATE, text).ok()?;
    let at = at.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok()?;
    u64::try_from(at.timestamp().as_second()).ok()
}

/// Formats a time as listings do, an hour east of Greenwich.
pub(super) fn local_time(seconds: u64) -> String {
    timestamp(seconds + 3600).strftime("%Y-%m-%dT%H:%M:%S+01:00").to_string()
}

/// An accepted request.
struct Admitted {
    upload_id: String,
    request_key: String,
    part: u32,
    announced: u64,
}

pub(super) async fn put(shared: &Shared, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let admitted = {
        let mut state = lock(&shared.gjirafa_vp);
        match admit(shared, &mut state, &head.method, &head.uri, &head.headers) {
            Ok(admitted) => admitted,
            Err(refusal) => return refusal.into_response(),
        }
    };
    let name = {
        let mut state = lock(&shared.gjirafa_vp);
        format!("gjirafa-{}-{}-{}", admitted.upload_id, admitted.part, state.new_id(16))
    };
    let place = shared.settings.place(&name);
    let gone = |length| {
        let ledger = &mut lock(&shared.gjirafa_vp).ledger;
        ledger.arrived(&admitted.request_key, admitted.part, length, false);
    };
    let (length, code) = match storage::receive(&place, body, gone).await {
        Ok(stored) if stored.length == admitted.announced => {
            return keep(shared, &admitted, stored);
        }
        Ok(stored) => (stored.length, "IncompleteBody"),
        Err(torn) => (torn.length, "RequestTimeout"),
    };
    let mut state = lock(&shared.gjirafa_vp);
    state.ledger.arrived(&admitted.request_key, admitted.part, length, false);
    Answer(400, code).into_response()
}

/// Checks headers, address and upload, in this order.
fn admit(
    shared: &Shared,
    state: &mut Sandbox,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Admitted, Answer> {
    let key_header = state.switches.gjirafa_vp.auth_header.as_str();
    if headers.contains_key("authorization") || headers.contains_key(key_header) {
        state.ledger.breach("put: a credential was sent to the storage");
        return Err(Answer(400, "InvalidArgument"));
    }
    let mismatch = Answer(403, "SignatureDoesNotMatch");
    if method != Method::PUT {
        state.ledger.breach(format!("put: {method} is not what was signed"));
        return Err(mismatch);
    }
    let Some((upload_id, part)) = parse_path(uri.path()) else {
        state.ledger.breach(format!("put: {} was never signed", uri.path()));
        return Err(Answer(404, "NoSuchKey"));
    };
    let is_revoking = state.switches.gjirafa_vp.revoke_old_urls;
    let Some(upload) = state.world.stored_as(upload_id) else {
        return Err(Answer(404, "NoSuchUpload"));
    };
    let upload = &*upload;
    if let Some(header) = unsigned_header(headers, upload.types.signed.as_deref()) {
        state.ledger.breach(format!("put: {header} is not as it was signed"));
        return Err(mismatch);
    }
    let Some(announced) = number(headers, "content-length") else {
        state.ledger.breach("put: sent without its length");
        return Err(Answer(411, "MissingContentLength"));
    };
    let (generation, expires_at) = match verify(shared, upload, part, uri) {
        Some(found) => found,
        None => {
            state.ledger.breach("put: the address is not as it was signed");
            return Err(mismatch);
        }
    };
    if unix_time().as_secs() >= expires_at || (is_revoking && generation != upload.generation) {
        return Err(Answer(403, "AccessDenied"));
    }
    if !upload.is_open() {
        return Err(Answer(404, "NoSuchUpload"));
    }
    let (upload_id, request_key) = (upload_id.to_owned(), upload.request_key.clone());
    Ok(Admitted { upload_id, request_key, part, announced })
}

fn parse_path(path: &str) -> Option<(&str, u32)> {
    let (id, part) = path.strip_prefix("/gjirafa-storage/")?.split_once('/')?;
    Some((id, part.parse().ok()?))
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// Returns the first header that the signature covers and that differs from the signed one.
fn unsigned_header(headers: &HeaderMap, content_type: Option<&str>) -> Option<String> {
    if headers.get("content-type").map(HeaderValue::as_bytes) != content_type.map(str::as_bytes) {
        return Some("content-type".into());
    }
    let mut names = headers.keys().map(|name| name.as_str());
    names.find(|name| *name == "content-md5" || name.starts_with("x-amz-")).map(str::to_owned)
}

/// Returns the resume that signed an address, and its expiry; the address must be exact.
fn verify(shared: &Shared, upload: &Upload, part: u32, uri: &Uri) -> Option<(u64, u64)> {
    let given = uri.path_and_query()?.as_str();
    let of = |name: &str| {
        let mut pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let since = parse_date(of("X-Amz-Date")?)?;
    let lease = Lease { since, seconds: of("X-Amz-Expires")?.parse().ok()? };
    let is_from = |generation: &u64| path(shared, upload, *generation, part, lease) == given;
    let generation = (0..=upload.generation).rev().find(is_from)?;
    Some((generation, since.saturating_add(lease.seconds)))
}

fn keep(shared: &Shared, admitted: &Admitted, stored: StoredPart) -> Response {
    let mut state = lock(&shared.gjirafa_vp);
    let state = &mut *state;
    let (number, length) = (admitted.part, stored.length);
    let Some(upload) = state.world.stored_as(&admitted.upload_id).filter(|found| found.is_open())
    else {
        state.ledger.arrived(&admitted.request_key, number, length, false);
        return Answer(404, "NoSuchUpload").into_response();
    };
    let is_keyed = state.switches.storage_etag == "kms";
    let (shown, etag) = match state.switches.storage_etag.as_str() {
        "none" => (false, stored.md5.clone()),
        "kms" | "salted" => (true, storage::salted(&stored.md5)),
        _ => (true, stored.md5.clone()),
    };
    let is_lost = state.switches.gjirafa_vp.lose_part == Some(number) && upload.lost.insert(number);
    let header = HeaderValue::try_from(format!("\"{etag}\"")).ok().filter(|_| shown);
    if !is_lost {
        let part = Part { stored, etag, arrived_at: unix_time().as_secs() };
        upload.parts.insert(number, part);
    }
    state.ledger.arrived(&admitted.request_key, number, length, !is_lost);
    let mut response = StatusCode::OK.into_response();
    if let Some(header) = header {
        response.headers_mut().insert("etag", header);
    }
    if is_keyed {
        let header = HeaderValue::from_static("aws:kms");
        response.headers_mut().insert("x-amz-server-side-encryption", header);
    }
    response
}

/// A refusal of the storage: status and code.
struct Answer(u16, &'static str);

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let Self(status, code) = self;
        let message = if code == "AccessDenied" { "Request has expired" } else { code };
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        let status = StatusCode::from_u16(status).unwrap_or_default();
        (status, [("content-type", "application/xml")], body).into_response()
    }
}

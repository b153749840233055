//! Multipart uploads: initialise, sign, receive, report, complete, abort.

use std::collections::BTreeMap;

use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::calls::{Call, Outcome, Success, parse_query};
use super::world::{Entry, Place, Refusal, Upload, World, time};
use crate::sandbox::digits::hex;
use crate::sandbox::stand::{Stand, lock};
use crate::sandbox::storage::{self, StoredPart};
use crate::sandbox::{Shared, unix_time};

type Sandbox = Stand<World>;

const MIB: u64 = 1024 * 1024;
const PART_MAX: u64 = 5 * 1024 * MIB;
const PARTS_MAX: u64 = 10_000;
const FILE_MAX: u64 = 5 * 1024 * 1024 * MIB;
/// The vendor's choice when a wish cannot be granted.
const PART_DEFAULT: u64 = 32 * MIB;

pub(super) fn dispatch(
    shared: &Shared,
    state: &mut Sandbox,
    call: &Call,
    operation: &str,
) -> Outcome {
    match operation {
        "initialise" => return initialise(shared, state, call),
        "list" => {
            let uploads = state.world.uploads.values().map(|upload| show(upload, &call.base, None));
            let uploads = uploads.collect();
            return Success::list(call, uploads);
        }
        _ => {}
    }
    let id = call.segments.get(2).cloned().unwrap_or_default();
    let Some(upload) = state.world.uploads.get(&id) else {
        if operation == "complete" {
            state.ledger.call("complete-on-gone");
        }
        return Err(Refusal::no_upload());
    };
    match operation {
        "details" => {
            let parts = call.is_set("list_parts").then_some(upload);
            Success::new(200, show(upload, &call.base, parts))
        }
        "part-url" => sign(shared, state, call, &id),
        "report" => report(state, &id, std::slice::from_ref(&call.body), 8014),
        "report-many" => match call.body.get("parts").and_then(Value::as_array).cloned() {
            Some(parts) => report(state, &id, &parts, 8015),
            None => Err(Refusal::new(400, 8015, "Invalid list of parts.")),
        },
        "complete" => {
            if let Some(parts) = call.body.get("parts").and_then(Value::as_array) {
                report(state, &id, parts, 8015)?;
            }
            complete(shared, state, call, &id)
        }
        _ => {
            state.world.uploads.remove(&id);
            Success::empty(204)
        }
    }
}

fn initialise(shared: &Shared, state: &mut Sandbox, call: &Call) -> Outcome {
    let place = state.world.find_place(call.text("project"), call.text("parent"))?;
    let name = call.text("name").unwrap_or_default();
    let size = call.body.get("size").and_then(Value::as_u64).unwrap_or(0);
    if name.is_empty() || name.contains('/') || name.chars().count() > 255 || size > FILE_MAX {
        state.ledger.breach(format!("initialise: name {name:?} or size {size} is not allowed"));
        return Err(Refusal::new(400, 8013, "Invalid initialization request."));
    }
    let overwrite = call.is_set("overwrite");
    let taken = state.world.find(&place, name).is_some();
    let name = if taken && !overwrite && state.switches.sevenbridges.clash_renames {
        format!("_1_{name}")
    } else {
        if taken && !overwrite && !state.switches.sevenbridges.clash_at_complete {
            return Err(name_taken(state));
        }
        name.to_owned()
    };
    let in_progress = |upload: &Upload| upload.place == place && upload.name == name;
    if state.switches.sevenbridges.second_init_refused
        && state.world.uploads.values().any(in_progress)
    {
        return Err(Refusal::new(409, 8006, "Upload already exists."));
    }
    let upload = Upload {
        id: state.new_id(64),
        name,
        place,
        size,
        part_size: settle_part_size(shared, state, call, size),
        overwrite,
        initiated_at: unix_time().as_secs(),
        stored: BTreeMap::new(),
        given: BTreeMap::new(),
        reported: BTreeMap::new(),
    };
    let mut shown = show(&upload, &call.base, None);
    shown["size"] = json!(size);
    state.ledger.begun_count += 1;
    shown["parallel_uploads"] = json!(!state.switches.sevenbridges.sequential);
    state.world.uploads.insert(upload.id.clone(), upload);
    Success::new(200, shown)
}

fn name_taken(state: &Sandbox) -> Refusal {
    let code = if state.switches.sevenbridges.swap_8004_8005 { 8004 } else { 8005 };
    Refusal::new(409, code, "File already exists.")
}

fn settle_part_size(shared: &Shared, state: &Sandbox, call: &Call, size: u64) -> u64 {
    if let Some(fixed) = state.switches.part_size {
        return fixed;
    }
    let wish = call.body.get("part_size").and_then(Value::as_u64).unwrap_or(PART_DEFAULT);
    let min = shared.settings.part_size_min.max(1);
    if (min..=PART_MAX).contains(&wish) && size.div_ceil(wish) <= PARTS_MAX {
        return wish;
    }
    size.div_ceil(PARTS_MAX).next_multiple_of(MIB).max(PART_DEFAULT)
}

fn show(upload: &Upload, base: &str, parts: Option<&Upload>) -> Value {
    let mut shown = json!({
        "href": format!("{base}/upload/multipart/{}", upload.id),
        "upload_id": upload.id,
        "name": upload.name,
        "initiated": time(upload.initiated_at),
        "part_size": upload.part_size,
        "uploaded_parts_count": upload.reported.len(),
    });
    let (key, value) = match &upload.place {
        Place::Project(project) => ("project", project),
        Place::Folder(folder) => ("parent", folder),
    };
    shown[key] = json!(value);
    if let Some(listed) = parts {
        let part = |(number, etag): (&u32, &String)| json!({"part_number": number, "response": {"headers": {"ETag": etag}}});
        shown["parts"] = listed.reported.iter().map(part).collect();
    }
    shown
}

fn signature(shared: &Shared, upload: &str, part: &str, expires: u64) -> String {
    let secret = format!("{}:{upload}:{part}:{expires}", shared.settings.directory.display());
    hex(&Sha256::digest(secret))
}

fn sign(shared: &Shared, state: &mut Sandbox, call: &Call, id: &str) -> Outcome {
    let Some(upload) = state.world.uploads.get(id) else { return Err(Refusal::no_upload()) };
    let part = call.segments.get(4).cloned().unwrap_or_default();
    let count = upload.size.div_ceil(upload.part_size).max(1);
    let number: u64 = part.parse().unwrap_or(0);
    if !(1..=PARTS_MAX).contains(&number) {
        return Err(Refusal::new(400, 8012, "Part number is missing or invalid."));
    }
    if number > count {
        state.ledger.breach(format!("part-url: part {number} of {count} was asked for"));
    }
    let expires = unix_time().as_secs() + state.switches.url_life;
    let signature = signature(shared, id, &part, expires);
    let host = call.base.trim_end_matches("/v2");
    let codes = json!([200]);
    let under_report = state.switches.sevenbridges.success_codes_under_report;
    let etag = (state.switches.storage_etag != "none").then_some("ETag");
    let others = state.switches.sevenbridges.report_headers.keys().map(String::as_str);
    let wanted: Vec<_> = etag.into_iter().chain(others).collect();
    let mut signed = json!({
        "method": "PUT",
        "url": format!("{host}/storage/{id}/{part}?expires={expires}&signature={signature}"),
        "expires": match state.switches.sevenbridges.expires_format.as_str() {
            "s" => json!(expires),
            "ms" => json!(expires * 1000),
            "missing" => Value::Null,
            _ => json!(time(expires)),
        },
        "headers": state.switches.sevenbridges.put_headers,
        "report": {"headers": wanted, "body": {}},
    });
    if under_report {
        signed["report"]["success_codes"] = codes;
    } else {
        signed["success_codes"] = codes;
    }
    Success::new(200, signed)
}

/// Receives a part at the storage's address.
pub(super) async fn put(shared: &Shared, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let segments: Vec<_> = head.uri.path().split('/').collect();
    let (Some(id), Some(part)) = (segments.get(2), segments.get(3)) else {
        return xml(404, "NoSuchKey");
    };
    let (id, part) = ((*id).to_owned(), (*part).to_owned());
    if let Err(refusal) = check_put(shared, &head, &id, &part) {
        return refusal;
    }
    let number = part.parse().unwrap_or(0);
    let place = {
        let mut state = lock(&shared.sevenbridges);
        let name = format!("{id}-{part}-{}", state.new_id(16));
        shared.settings.place(&name)
    };
    let announced = content_length(&head.headers);
    let gone = |length| lock(&shared.sevenbridges).ledger.arrived(&id, number, length, false);
    match storage::receive(&place, body, gone).await {
        Ok(stored) if Some(stored.length) == announced => keep(shared, &id, number, stored),
        Ok(stored) => {
            lock(&shared.sevenbridges).ledger.arrived(&id, number, stored.length, false);
            xml(400, "IncompleteBody")
        }
        Err(torn) => {
            lock(&shared.sevenbridges).ledger.arrived(&id, number, torn.length, false);
            xml(400, "RequestTimeout")
        }
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get("content-length")?.to_str().ok()?.parse().ok()
}

#[expect(clippy::result_large_err, reason = "one refusal a request, made and sent at once")]
fn check_put(shared: &Shared, head: &Parts, id: &str, number: &str) -> Result<(), Response> {
    let (headers, query) = (&head.headers, parse_query(&head.uri));
    let mut state = lock(&shared.sevenbridges);
    if headers.contains_key("x-sbg-auth-token") || headers.contains_key("authorization") {
        state.ledger.breach("put: a credential was sent to the storage");
        return Err(xml(400, "InvalidRequest"));
    }
    if content_length(headers).is_none() {
        state.ledger.breach("put: sent without its length");
        return Err(xml(411, "MissingContentLength"));
    }
    if headers.contains_key("content-type")
        && !state.switches.sevenbridges.put_headers.contains_key("content-type")
    {
        state.ledger.breach("put: sent with a content type that was not asked for");
        return Err(xml(403, "SignatureDoesNotMatch"));
    }
    let demanded = state.switches.sevenbridges.put_headers.iter();
    let missing = demanded.filter(|(name, value)| {
        headers.get(name.as_str()).and_then(|found| found.to_str().ok()) != Some(value.as_str())
    });
    if missing.count() > 0 || head.method != Method::PUT {
        return Err(xml(403, "SignatureDoesNotMatch"));
    }
    let of = |name: &str| query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
    let expires: u64 = of("expires").parse().unwrap_or(0);
    if of("signature") != signature(shared, id, number, expires) {
        return Err(xml(403, "SignatureDoesNotMatch"));
    }
    if unix_time().as_secs() >= expires {
        return Err(xml(403, "AccessDenied"));
    }
    match state.world.uploads.contains_key(id) {
        true => Ok(()),
        false => Err(xml(404, "NoSuchUpload")),
    }
}

fn keep(shared: &Shared, id: &str, number: u32, stored: StoredPart) -> Response {
    let mut state = lock(&shared.sevenbridges);
    let etag = match state.switches.storage_etag.as_str() {
        "none" => String::new(),
        "kms" | "salted" => storage::salted(&stored.md5),
        "unlike" => state.new_id(32),
        _ => stored.md5.clone(),
    };
    let is_keyed = state.switches.storage_etag == "kms";
    let others = state.switches.sevenbridges.report_headers.clone();
    state.ledger.arrived(id, number, stored.length, true);
    let Some(upload) = state.world.uploads.get_mut(id) else { return xml(404, "NoSuchUpload") };
    upload.given.insert(number, etag.clone());
    upload.stored.insert(number, stored);
    let mut response = StatusCode::OK.into_response();
    if let Ok(etag) = HeaderValue::try_from(format!("\"{etag}\""))
        && etag != "\"\""
    {
        response.headers_mut().insert("etag", etag);
    }
    for (name, value) in &others {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    if is_keyed {
        let header = HeaderValue::from_static("aws:kms");
        response.headers_mut().insert("x-amz-server-side-encryption", header);
    }
    response
}

fn xml(status: u16, code: &str) -> Response {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
    (StatusCode::from_u16(status).unwrap_or_default(), body).into_response()
}

fn report(state: &mut Sandbox, id: &str, parts: &[Value], code: u32) -> Outcome {
    let malformed = || Refusal::new(400, code, "Invalid part report.");
    for part in parts {
        let number = part.get("part_number").and_then(Value::as_u64).ok_or_else(malformed)?;
        let number = u32::try_from(number).map_err(|_| malformed())?;
        let reported = part.pointer("/response/headers").ok_or_else(malformed)?;
        let others = &state.switches.sevenbridges.report_headers;
        let is_told = |(name, value): (&String, &String)| {
            reported.get(name).and_then(Value::as_str) == Some(value)
        };
        if !others.iter().all(is_told) {
            let breach = format!("report: part {number} without the headers that were asked for");
            state.ledger.breach(breach);
        }
        // A storage without ETags has none reported where other headers are.
        let none = (state.switches.storage_etag == "none").then_some("");
        let etag = reported.get("ETag").and_then(Value::as_str).or(none).ok_or_else(malformed)?;
        let etag = etag.trim_matches('"').to_owned();
        let Some(upload) = state.world.uploads.get_mut(id) else {
            return Err(Refusal::no_upload());
        };
        let given = upload.given.get(&number).cloned();
        upload.reported.insert(number, etag.clone());
        if given.as_ref() != Some(&etag) {
            state.ledger.breach(format!(
                "report: part {number} was reported with an ETag that was not given"
            ));
        }
    }
    Success::empty(200)
}

fn complete(shared: &Shared, state: &mut Sandbox, call: &Call, id: &str) -> Outcome {
    let Some(upload) = state.world.uploads.get(id).cloned() else {
        return Err(Refusal::no_upload());
    };
    if let Err(why) = check_parts(shared, &upload) {
        state.ledger.breach(format!("complete: {why}"));
        return Err(Refusal::new(400, 8007, "Failed to complete the upload."));
    }
    let taken = state.world.find(&upload.place, &upload.name).map(|entry| entry.id.clone());
    match taken {
        Some(old) if upload.overwrite => {
            state.world.entries.remove(&old);
        }
        Some(_) => return Err(name_taken(state)),
        None => {}
    }
    let entry = Entry {
        id: state.new_id(24),
        name: upload.name,
        place: upload.place,
        created_at: unix_time().as_secs(),
        metadata: Map::new(),
        tags: Vec::new(),
        parts: Some(upload.stored.into_values().collect()),
    };
    let shown = entry.show(&call.base, state.switches.sevenbridges.upper_case_types);
    state.world.entries.insert(entry.id.clone(), entry);
    state.world.uploads.remove(id);
    Success::new(201, shown)
}

/// The storage's checks when it puts parts together.
fn check_parts(shared: &Shared, upload: &Upload) -> Result<(), String> {
    let count = u32::try_from(upload.stored.len()).unwrap_or(u32::MAX);
    if upload.reported.len() != upload.stored.len() || count == 0 {
        return Err(format!("{} parts reported, {count} stored", upload.reported.len()));
    }
    for (number, etag) in &upload.reported {
        if upload.given.get(number) != Some(etag) {
            return Err(format!("part {number} is not the one that was reported"));
        }
    }
    if upload.stored.keys().copied().ne(1..=count) {
        return Err("a part is missing".into());
    }
    let small = upload
        .stored
        .iter()
        .find(|(number, part)| **number != count && part.length < shared.settings.part_size_min);
    if let Some((number, part)) = small {
        return Err(format!("part {number} has only {} bytes", part.length));
    }
    let sum: u64 = upload.stored.values().map(|part| part.length).sum();
    if sum != upload.size {
        return Err(format!("{sum} bytes stored, {} announced", upload.size));
    }
    Ok(())
}

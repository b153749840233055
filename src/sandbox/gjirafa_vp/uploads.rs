//! The operations on an upload, except complete: start, list, resume, abort; single uploads.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::bucket::{self, Lease};
use super::calls::{Call, Outcome, Sandbox};
use super::world::{ContentTypes, Phase, Refusal, Upload};
use super::{EtagForm, Switches};
use crate::sandbox::{Shared, faults, unix_time};

const PARTS_MAX: u64 = 10_000;
const NAME_MAX: usize = 255;
/// Default lifetime of an address in hours.
const LIFE_DEFAULT: u64 = 12;
const LIFE_MAX: u64 = 168;

/// Begins a multipart upload.
pub(super) fn start(shared: &Shared, state: &mut Sandbox, call: &Call) -> Outcome {
    let count = call.field("partsNumber").and_then(Value::as_u64);
    let Some(count) = count.filter(|count| (1..=PARTS_MAX).contains(count)) else {
        state.ledger.breach("start: partsNumber is not within 1 to 10000");
        return Err(Refusal::new(400, "partsNumber must be between 1 and 10000"));
    };
    let length = match call.field("contentLength") {
        None => None,
        Some(Value::String(text)) => Some(parse_length(text)?),
        Some(number) if !state.switches.gjirafa_vp.strict_length => Some(whole(number)?),
        Some(_) => return Err(Refusal::new(400, "contentLength must be a string")),
    };
    let lease = lease(state, call)?;
    let upload = Upload {
        length,
        parts_number: u32::try_from(count).ok(),
        ..prepare(state, call, "start")?
    };
    let answer = show(shared, state, call, &upload, lease);
    state.ledger.begun_count += 1;
    state.world.uploads.insert(upload.request_key.clone(), upload);
    Ok(answer)
}

fn parse_length(text: &str) -> Result<u64, Refusal> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let length = text.parse().ok().filter(|_| digits);
    length.ok_or_else(|| Refusal::new(400, "contentLength must be a decimal number"))
}

fn whole(number: &Value) -> Result<u64, Refusal> {
    number.as_u64().ok_or_else(|| Refusal::new(400, "contentLength must be a whole number"))
}

/// Returns the lifetime of addresses, from now on.
fn lease(state: &mut Sandbox, call: &Call) -> Result<Lease, Refusal> {
    let hours = call.field("presignedUrlExpiryTimeHours");
    let hours = hours.map_or(Some(LIFE_DEFAULT), Value::as_u64);
    let Some(hours) = hours.filter(|hours| (1..=LIFE_MAX).contains(hours)) else {
        state.ledger.breach("presignedUrlExpiryTimeHours is not within 1 to 168");
        return Err(Refusal::new(400, "presignedUrlExpiryTimeHours must be between 1 and 168"));
    };
    let switched = state.switches.url_life;
    let is_default = switched == faults::Switches::default().url_life;
    let seconds = if is_default { hours * 3600 } else { switched };
    Ok(Lease { since: unix_time().as_secs(), seconds })
}

/// Parses what both kinds of upload begin with.
fn prepare(state: &mut Sandbox, call: &Call, operation: &str) -> Result<Upload, Refusal> {
    let name = call.text("fileName")?.unwrap_or_default();
    let is_bad = name.contains('/') || name.chars().any(char::is_control);
    if name.is_empty() || name.len() > NAME_MAX || is_bad {
        state.ledger.breach(format!("{operation}: the file name {name:?} is not allowed"));
        return Err(Refusal::new(400, "fileName is not valid"));
    }
    let is_checked = match call.field("enableDuplicateCheck") {
        None => false,
        Some(Value::Bool(is_checked)) => *is_checked,
        Some(_) => return Err(Refusal::new(400, "enableDuplicateCheck must be a boolean")),
    };
    let hash = call.text("fileHash")?.filter(|_| is_checked).map(str::to_owned);
    if is_checked && hash.is_none() {
        return Err(Refusal::new(400, "fileHash is required for the duplicate check"));
    }
    if hash.as_deref().is_some_and(|hash| state.world.has_hash(hash)) {
        return Err(Refusal::new(400, "The file exists already"));
    }
    state.world.details += 1;
    Ok(Upload {
        request_key: format!("rk-{}", state.new_id(32)),
        upload_id: format!("u-{}", state.new_id(32)),
        details_id: 70_000 + state.world.details,
        name: name.to_owned(),
        types: ContentTypes { mime: call.text("mimeType")?.map(str::to_owned), signed: None },
        length: None,
        hash,
        parts_number: None,
        phase: Phase::Open,
        generation: 0,
        parts: BTreeMap::new(),
        lost: BTreeSet::new(),
    })
}

/// Renders an upload with addresses for its parts.
fn show(shared: &Shared, state: &Sandbox, call: &Call, upload: &Upload, lease: Lease) -> Value {
    let switches = &state.switches.gjirafa_vp;
    let is_missing_only = switches.resume_urls_missing_only && upload.generation > 0;
    let wanted = |number: &u32| !(is_missing_only && upload.parts.contains_key(number));
    let address = |number: u32| {
        let address = bucket::sign(shared, &call.host, upload, number, lease);
        json!({"partNumber": number, "presignedUrl": address})
    };
    let count = upload.parts_number.unwrap_or(0);
    let addresses = (1..=count).filter(wanted).map(address).collect();
    json!({
        "uploadId": upload.upload_id, "requestKey": upload.request_key,
        "presignedUrl": order(switches, addresses), "uploadFileDetailsId": upload.details_id,
    })
}

/// Returns items unchanged, or in another order, the same every time.
fn order(switches: &Switches, mut items: Vec<Value>) -> Vec<Value> {
    if switches.shuffle {
        let third = items.len() / 3;
        items.reverse();
        items.rotate_left(third);
    }
    items
}

/// Lists the parts that arrived.
pub(super) fn list(state: &mut Sandbox, key: &str) -> Outcome {
    let switches = &state.switches.gjirafa_vp;
    let upload = state.world.multipart(key)?;
    let is_there = match upload.phase {
        Phase::Open => true,
        Phase::Completed => switches.list_after_complete,
        Phase::Aborted => false,
    };
    if !is_there {
        return Err(Refusal::not_found());
    }
    let listed = upload.parts.iter().take(switches.list_cap.unwrap_or(usize::MAX));
    let listed = listed.map(|(number, part)| {
        let etag = match switches.etag_form {
            EtagForm::Any | EtagForm::Bare => part.etag.clone(),
            EtagForm::Quoted => format!("\"{}\"", part.etag),
        };
        json!({
            "size": part.stored.length, "lastModified": bucket::local_time(part.arrived_at),
            "partNumber": number, "eTag": etag,
        })
    });
    Ok(Value::Array(order(switches, listed.collect())))
}

/// Renews the signatures of an open upload's parts.
pub(super) fn resume(shared: &Shared, state: &mut Sandbox, call: &Call) -> Outcome {
    let lease = lease(state, call)?;
    let new_id = format!("u-{}", state.new_id(32));
    let is_renamed = state.switches.gjirafa_vp.resume_new_id;
    let upload = state.world.multipart(call.request_key()?)?;
    if !upload.is_open() {
        return Err(Refusal::new(400, "The upload is completed or aborted"));
    }
    upload.generation += 1;
    if is_renamed {
        upload.upload_id = new_id;
        upload.parts.clear();
    }
    let upload = upload.clone();
    Ok(show(shared, state, call, &upload, lease))
}

/// Aborts an open upload.
pub(super) fn abort(state: &mut Sandbox, call: &Call) -> Outcome {
    let is_deleting = state.switches.gjirafa_vp.abort_deletes;
    let upload = state.world.multipart(call.request_key()?)?;
    match upload.phase {
        Phase::Open => {}
        Phase::Aborted => return Err(Refusal::not_found()),
        Phase::Completed => {
            state.ledger.breach("abort: after complete");
            if !is_deleting {
                return Err(Refusal::new(400, "The upload is completed"));
            }
        }
    }
    upload.phase = Phase::Aborted;
    upload.parts.clear();
    Ok(json!(true))
}

/// Begins an upload of one piece.
pub(super) fn single(shared: &Shared, state: &mut Sandbox, call: &Call) -> Outcome {
    if state.switches.gjirafa_vp.single_refused {
        return Err(Refusal::new(400, "Single uploads are not available"));
    }
    let length = call.field("contentLength").map(whole).transpose()?;
    let signed = call.text("contentType")?.map(str::to_owned);
    let lease = lease(state, call)?;
    let mut upload = prepare(state, call, "single")?;
    (upload.length, upload.types.signed) = (length, signed);
    let answer = json!({
        "uploadFileDetailsId": upload.details_id, "requestKey": upload.request_key,
        "url": bucket::sign(shared, &call.host, &upload, 1, lease),
        "filePath": file_path(&upload),
    });
    state.ledger.begun_count += 1;
    state.world.uploads.insert(upload.request_key.clone(), upload);
    Ok(answer)
}

fn file_path(upload: &Upload) -> String {
    format!("uploads/{}/{}", upload.request_key, upload.name)
}

/// Ends a single upload that arrived, and returns the location of a file.
pub(super) fn success(state: &mut Sandbox, key: &str) -> Outcome {
    let has_multipart = state.switches.gjirafa_vp.success_after_multipart;
    let upload = state.world.uploads.get_mut(key).ok_or_else(Refusal::not_found)?;
    let is_single = upload.parts_number.is_none();
    if is_single && upload.is_open() && !upload.parts.is_empty() {
        upload.phase = Phase::Completed;
    }
    if upload.phase != Phase::Completed || !(is_single || has_multipart) {
        return Err(Refusal::not_found());
    }
    let content_type = upload.types.signed.as_deref().or(upload.types.mime.as_deref());
    Ok(json!({
        "downloadPath": file_path(upload),
        "contentType": content_type.unwrap_or("application/octet-stream"),
    }))
}

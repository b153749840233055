//! Puts parts together.

use axum::response::Response;

use super::BUCKET;
use super::calls::{Call, Sandbox, VERSION_HEADER, insert, refused_by_condition};
use super::world::{Object, Upload, etag_of_many};
use super::xml::{escape, no_upload, precondition, refuse, xml};
use crate::sandbox::storage::StoredPart;
use crate::sandbox::{Shared, unix_time};

pub(super) fn complete(shared: &Shared, state: &mut Sandbox, call: &Call, body: &str) -> Response {
    let id = call.query("uploadId").unwrap_or_default().to_owned();
    let Some(upload) = state.world.uploads.get(&id).cloned() else {
        let repeated = state.world.completed.get(&id).filter(|key| **key == call.key);
        return match repeated.and_then(|key| state.world.objects.get(key)) {
            Some(object) if !state.switches.s3.complete_twice_is_gone => {
                completed(state, call, object)
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
    let is_opaque = state.switches.storage_etag != "md5" || state.switches.s3.strange_object_etag;
    let etag = if is_opaque { state.new_id(32) } else { etag_of_many(&parts) };
    let version = state.new_version();
    let created_at = unix_time().as_secs();
    let object = Object { parts, etag, version, said: upload.said, created_at };
    state.world.uploads.remove(&id);
    state.world.completed.insert(id, call.key.clone());
    let answer = completed(state, call, &object);
    state.world.objects.insert(call.key.clone(), object);
    answer
}

fn completed(state: &Sandbox, call: &Call, object: &Object) -> Response {
    let root = match state.switches.s3.other_roots {
        true => "CompleteMultipartUploadResponse",
        false => "CompleteMultipartUploadResult",
    };
    let (key, etag) = (escape(&call.key), &object.etag);
    // Keep-alive blanks come before the document.
    let mut answer = xml(
        200,
        &format!(
            " \n <{root}><Bucket>{BUCKET}</Bucket><Key>{key}</Key><ETag>&quot;{etag}&quot;</ETag></{root}>"
        ),
    );
    insert(answer.headers_mut(), object.version.clone().map(|version| (VERSION_HEADER, version)));
    answer
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

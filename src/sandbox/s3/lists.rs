//! Lists: parts of an upload, uploads of the bucket, objects.

use axum::response::Response;

use super::BUCKET;
use super::calls::{Call, Sandbox};
use super::signature;
use super::xml::{escape, iso, no_upload, refuse, xml};

/// Writes a key as the request wants it: no text of XML holds every character.
fn listed(call: &Call, key: &str) -> String {
    match call.query("encoding-type") {
        Some("url") => signature::escape(key).replace("%20", "+").replace("%2F", "/"),
        Some(_) | None => escape(key),
    }
}

/// Says how keys are written.
fn encoding(call: &Call) -> &'static str {
    match call.query("encoding-type") {
        Some("url") => "<EncodingType>url</EncodingType>",
        Some(_) | None => "",
    }
}

pub(super) fn list_parts(state: &Sandbox, call: &Call) -> Response {
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

pub(super) fn list_uploads(state: &Sandbox, call: &Call) -> Response {
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
            listed(call, &upload.key),
            iso(upload.initiated_at)
        ));
    }
    if let Some((id, upload)) = left.iter().take(page).next_back() {
        let key = listed(call, &upload.key);
        body.push_str(&format!(
            "<NextKeyMarker>{key}</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>"
        ));
    }
    let is_truncated = left.len() > page;
    xml(
        200,
        &format!(
            "<ListMultipartUploadsResult>{}<IsTruncated>{is_truncated}</IsTruncated>{body}\
         </ListMultipartUploadsResult>",
            encoding(call)
        ),
    )
}

pub(super) fn list_objects(state: &Sandbox, call: &Call) -> Response {
    let prefix = call.query("prefix").unwrap_or_default();
    let mut body = String::new();
    for (key, object) in state.world.objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
        body.push_str(&format!(
            "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>&quot;{}&quot;</ETag>\
             <Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>",
            listed(call, key),
            iso(object.created_at),
            object.etag,
            object.size()
        ));
    }
    xml(
        200,
        &format!(
            "<ListBucketResult><Name>{BUCKET}</Name>{}<IsTruncated>false</IsTruncated>{body}\
         </ListBucketResult>",
            encoding(call)
        ),
    )
}

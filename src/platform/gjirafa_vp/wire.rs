//! Gjirafa VP's JSON: envelope, results and ids, and their validation.
//!
//! A call succeeded only when HTTP, the envelope's flag and its status all say so. Otherwise the
//! status decides, and the text is for people.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::GjirafaCall;
use super::addresses::Address;
use crate::model::{
    ByteCount, ETag, Failure, FailureKind, PartNumber, RemoteFile, RemoteFileId, RemotePart,
    RemoteUpload, RemoteUploadId, WallTime,
};
use crate::platform::answer::{
    answered, bad, is_foreign, not_a_page, parse, parse_error, patience, refusal, retry_after,
    texts,
};
use crate::platform::contract::{BeginRequest, CompleteRequest};
use crate::platform::http::Response;

/// Longest file name, in bytes.
const NAME_MAX: usize = 255;
/// Longest request key, in bytes.
const KEY_MAX: usize = 1024;
/// Prefix of the key of an upload of one request.
pub(super) const SINGLE: &str = "single:";

/// The envelope of every answer, with optional fields.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Envelope {
    success: Option<bool>,
    /// A list of texts, or lists of texts by field.
    errors: Value,
    messages: Value,
    result: Value,
    status_code: Option<i64>,
}

/// Returns the result of a call that succeeded.
pub(super) fn judge<T: DeserializeOwned>(
    call: GjirafaCall<'_>,
    response: &Response,
    now: WallTime,
) -> Result<T, Failure> {
    let is_fine = |status: i64| (200..300).contains(&status);
    let bad = |what: &str| answered(response, FailureKind::BadAnswer, bad(what).message);
    if !is_fine(response.status.into()) {
        return Err(refused(call, response, response.status, now));
    }
    not_a_page(response)?;
    let envelope: Envelope = parse(response)?;
    match (envelope.success, envelope.status_code) {
        // The parser's own message may quote a signed address.
        (Some(true), status) if status.is_none_or(is_fine) => {
            serde_json::from_value(envelope.result).map_err(|_| bad("a result of another shape"))
        }
        (Some(true), _) => Err(bad("a success, and with a status that denies it")),
        // The envelope's own status counts, if it is plausible.
        (Some(false), status) => {
            drop(envelope);
            let status = status.and_then(|status| u16::try_from(status).ok());
            let status = status.filter(|status| (400..600).contains(status)).unwrap_or(400);
            Err(refused(call, response, status, now))
        }
        (None, _) => Err(bad("no word on whether it succeeded")),
    }
}

/// Returns whether a body is an envelope with a result.
pub(super) fn has_form(body: &[u8]) -> bool {
    let envelope: Envelope = parse_error(body).unwrap_or_default();
    envelope.success.is_some() || envelope.status_code.is_some() || !envelope.errors.is_null()
}

fn refused(call: GjirafaCall<'_>, response: &Response, status: u16, now: WallTime) -> Failure {
    let kind = kind_of(call, status, is_foreign(&response.body), retry_after(response, now));
    let (_, _, noun) = call.shape();
    let envelope: Envelope = parse_error(&response.body).unwrap_or_default();
    let said = texts(&Value::Array(vec![envelope.errors, envelope.messages]));
    let said = if said.is_empty() { said } else { format!(": {said}") };
    answered(response, kind, refusal(response, status, noun, &said))
}

fn kind_of(
    call: GjirafaCall<'_>,
    status: u16,
    is_foreign: bool,
    pause: Option<Duration>,
) -> FailureKind {
    if let Some(kind) = patience(status, pause) {
        return kind;
    }
    match (status, call) {
        (401, _) => FailureKind::Unauthorized,
        (407, _) => FailureKind::Unreachable,
        (500..=599, _) => FailureKind::ServerFault,
        (400..=499, _) if is_foreign => FailureKind::BadAnswer,
        (403, _) => FailureKind::Forbidden,
        (400, GjirafaCall::Complete) => FailureKind::CompleteRefused,
        (404, GjirafaCall::Begin | GjirafaCall::Single) => FailureKind::NotFound,
        // It does not exist, or is not open any more.
        (
            400,
            GjirafaCall::Resume
            | GjirafaCall::List(_)
            | GjirafaCall::Abort
            | GjirafaCall::Success(_),
        )
        | (404, _) => FailureKind::UploadGone,
        (400..=499, _) => FailureKind::BadRequest,
        _ => FailureKind::BadAnswer,
    }
}

/// A begun or resumed upload.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Begun {
    pub(super) request_key: Option<String>,
    pub(super) presigned_url: Option<Vec<Address>>,
    /// For an upload of one request.
    pub(super) url: Option<String>,
}

/// A part that arrived.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GjirafaPart {
    part_number: u32,
    size: u64,
    /// With or without quotes, as it must be repeated.
    e_tag: String,
}

/// Splits an id: the request key, and whether the upload is a single request.
pub(super) fn key_of(id: &RemoteUploadId) -> (&str, bool) {
    let single = id.as_str().strip_prefix(SINGLE).map(|key| (key, true));
    single.unwrap_or((id.as_str(), false))
}

/// Returns the key of a begun upload, if it is usable.
pub(super) fn usable(key: Option<&str>) -> Result<&str, Failure> {
    let is_plain = |key: &&str| {
        let is_known = !["", ".", ".."].contains(key) && !key.starts_with(SINGLE);
        is_known && key.len() <= KEY_MAX && !key.contains(char::is_control)
    };
    key.filter(is_plain).ok_or_else(|| bad("an upload without a usable key"))
}

/// Returns the name to send for a file.
pub(super) fn file_name(name: &str) -> String {
    let plain = |c: char| if c == '/' || c.is_control() { '_' } else { c };
    let mut name: String = name.chars().map(plain).collect();
    name.truncate(name.floor_char_boundary(NAME_MAX));
    name
}

/// Returns the listed parts with their planned length; only the last may be shorter.
pub(super) fn whole_parts(listed: &[GjirafaPart], remote: &RemoteUpload) -> Vec<RemotePart> {
    let full = remote.part_size.get();
    let part = |part: &GjirafaPart| {
        let is_last = part.part_number == remote.part_count;
        let is_whole = part.size == full || (is_last && (1..full).contains(&part.size));
        let number = PartNumber::new(part.part_number).filter(|_| is_whole)?;
        Some(RemotePart { number, etag: ETag::from_header(&part.e_tag), note: None })
    };
    listed.iter().filter_map(part).collect()
}

/// Returns number and ETag, as listed, of every part in order, if the listing proves the file.
///
/// # Errors
/// `CompleteRefused` when a part is missing or different.
pub(super) fn proved<'a>(
    request: &CompleteRequest,
    listed: &'a [GjirafaPart],
) -> Result<Vec<(u32, &'a str)>, Failure> {
    let refused = |what: String| Failure::new(FailureKind::CompleteRefused, what);
    let count = request.remote.part_count as usize;
    if listed.len() != count || request.parts.len() != count {
        return Err(refused(format!("the platform lists {} parts of {count}", listed.len())));
    }
    let prove = |(index, sent): (usize, &RemotePart)| {
        let number = PartNumber::from_index(index);
        let planned = request.remote.part_size.range_of(number, request.begun.size).length;
        let is_ours = |found: &&GjirafaPart| {
            let etag = ETag::from_header(&found.e_tag);
            sent.number == number && found.size == planned && etag == sent.etag
        };
        let found = listed.iter().find(|found| found.part_number == number.get());
        let found = found.filter(is_ours).map(|found| (number.get(), found.e_tag.as_str()));
        found.ok_or_else(|| refused(format!("the platform does not list part {number} as sent")))
    };
    request.parts.iter().enumerate().map(prove).collect()
}

/// Returns a completed file. Its length is kept in its id, because it cannot be asked for later.
pub(super) fn file(key: &str, request: &BeginRequest) -> RemoteFile {
    let id = RemoteFileId::new(format!("{key}:{}", request.size.0));
    RemoteFile::known_as(id, file_name(request.target.name()), Some(request.size))
}

pub(super) fn remembered(id: &RemoteFileId) -> Option<RemoteFile> {
    let (key, size) = id.as_str().rsplit_once(':')?;
    Some(RemoteFile::known_as(id.clone(), key, Some(ByteCount(size.parse().ok()?))))
}

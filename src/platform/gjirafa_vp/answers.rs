//! What an answer of the API means: pure functions, one envelope, one table.
//!
//! A call succeeded only when HTTP, the envelope's flag and its status all say so. Otherwise the
//! status decides, and the text is for people.

use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Call;
use crate::model::{Failure, FailureKind, WallTime};
use crate::platform::answer::{
    answered, clip, is_foreign, not_a_page, parse, refusal, retry_after,
};
use crate::platform::http::Response;

/// What is around every answer; fields come and go.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Envelope {
    success: Option<bool>,
    /// A list of texts, or lists of texts by field.
    errors: Value,
    messages: Value,
    result: Value,
    /// Repeats the HTTP status.
    status_code: Option<i64>,
}

/// Returns the result of a call that succeeded.
pub(super) fn judge<T: DeserializeOwned>(
    call: Call<'_>,
    response: &Response,
    now: WallTime,
) -> Result<T, Failure> {
    let is_fine = |status: i64| (200..300).contains(&status);
    let bad = |message: &str| answered(response, FailureKind::BadAnswer, message.to_owned());
    if !is_fine(response.status.into()) {
        return Err(refused(call, response, response.status, now));
    }
    not_a_page(response)?;
    let envelope: Envelope = parse(response)?;
    match (envelope.success, envelope.status_code) {
        // The parser's own text may quote a signed address.
        (Some(true), status) if status.is_none_or(is_fine) => {
            serde_json::from_value(envelope.result)
                .map_err(|_| bad("the platform answered with a result of another shape"))
        }
        (Some(true), _) => {
            Err(bad("the platform says that it succeeded, with a status that denies it"))
        }
        // What the envelope says of itself counts, where it can be believed.
        (Some(false), status) => {
            let status = status.and_then(|status| u16::try_from(status).ok());
            let status = status.filter(|status| (400..600).contains(status)).unwrap_or(400);
            Err(refused(call, response, status, now))
        }
        (None, _) => Err(bad("the platform answered without saying whether it succeeded")),
    }
}

fn refused(call: Call<'_>, response: &Response, status: u16, now: WallTime) -> Failure {
    let kind = kind_of(call, status, is_foreign(&response.body), retry_after(response, now));
    let (_, _, noun) = call.shape();
    answered(response, kind, refusal(response, status, noun, &said(&response.body)))
}

/// The table.
fn kind_of(call: Call<'_>, status: u16, is_foreign: bool, pause: Option<Duration>) -> FailureKind {
    match (status, call) {
        (401 | 403, _) => FailureKind::Unauthorized,
        (407, _) => FailureKind::Unreachable,
        // A gateway that asks for a pause gets it too.
        (408 | 429, _) => FailureKind::Throttled { after: pause },
        (503, _) if pause.is_some() => FailureKind::Throttled { after: pause },
        (500..=599, _) => FailureKind::ServerFault,
        (400..=499, _) if is_foreign => FailureKind::BadAnswer,
        (400, Call::Complete) => FailureKind::CompleteRefused,
        (404, Call::Begin | Call::Single) => FailureKind::NotFound,
        // Not there, or not open any more.
        (400, Call::Resume | Call::List(_) | Call::Abort | Call::Success(_)) | (404, _) => {
            FailureKind::UploadGone
        }
        (400..=499, _) => FailureKind::BadRequest,
        _ => FailureKind::BadAnswer,
    }
}

/// Returns what the platform says to people, after a colon.
fn said(body: &[u8]) -> String {
    let envelope: Envelope = serde_json::from_slice(body).unwrap_or_default();
    let mut texts = Vec::new();
    [&envelope.errors, &envelope.messages].into_iter().for_each(|said| collect(said, &mut texts));
    if texts.is_empty() { String::new() } else { format!(": {}", clip(&texts.join("; "))) }
}

fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

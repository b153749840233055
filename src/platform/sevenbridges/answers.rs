//! The meaning of Seven Bridges' answers: pure functions, one table.
//!
//! Owns the vendor's status codes. Any key of an error body may be missing, so the HTTP status
//! decides first, then the vendor's `code`; the message is kept for people only, cut and cleaned.
//!
//! Answers that the platform itself did not write need care. A gateway, a filter or a captive
//! portal answers with a page; a 404 from one of those must never count as "the upload is gone",
//! nor a 403 as "you may not", because either would cost an operator a day. So a 4xx with a body
//! other than JSON is a `BadAnswer`, which is retried.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::model::failure::PAUSE_MAX;
use crate::model::{Failure, FailureKind, WallTime};
use crate::platform::answer::{
    answered, clip, is_page, parse_error, patience, refusal, retry_after,
};
use crate::platform::http::Response;

/// The call of an answer, as far as the answer's meaning depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SevenBridgesCall {
    /// Anything that is not about one upload in progress.
    General,
    Begin,
    /// Anything about one upload in progress.
    Upload,
    Complete,
    Export,
    /// About many files.
    Bulk,
}

impl SevenBridgesCall {
    /// Returns its name for people.
    fn noun(self) -> &'static str {
        match self {
            Self::General => "the call",
            Self::Begin => "to begin the upload",
            Self::Upload => "a call about the upload",
            Self::Complete => "to complete the upload",
            Self::Export => "a call about exports",
            Self::Bulk => "a call about many files",
        }
    }
}

/// An error's body, as far as it could be parsed.
#[derive(Debug, Default)]
struct ErrorBody {
    code: Option<i64>,
    message: Option<String>,
    /// The body is neither JSON nor empty, so the platform did not write it.
    is_foreign: bool,
}

fn read_error(body: &[u8]) -> ErrorBody {
    let code = |value: &Value| value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
    match parse_error::<Map<String, Value>>(body) {
        Some(error) => ErrorBody {
            code: error.get("code").and_then(code),
            message: error.get("message").and_then(Value::as_str).map(clip),
            is_foreign: false,
        },
        None => ErrorBody { is_foreign: !body.trim_ascii().is_empty(), ..ErrorBody::default() },
    }
}

/// Turns a failed answer into a failure.
pub(super) fn classify(call: SevenBridgesCall, response: &Response, now: WallTime) -> Failure {
    let said = read_error(&response.body);
    let kind = kind_of(call, response, &said, now);
    let what = match (&said.message, said.code) {
        (Some(message), Some(code)) => format!(": {message} (code {code})"),
        (Some(message), None) => format!(": {message}"),
        (None, Some(code)) => format!(" (code {code})"),
        (None, None) if is_page(&response.body) => " with a web page".to_owned(),
        (None, None) => " without a message".to_owned(),
    };
    answered(response, kind, refusal(response, response.status, call.noun(), &what))
}

/// The table: HTTP status first, then `code`.
fn kind_of(
    call: SevenBridgesCall,
    response: &Response,
    said: &ErrorBody,
    now: WallTime,
) -> FailureKind {
    let pause = announced_pause(response, now);
    match (response.status, said.code) {
        (401, _) | (400..=599, Some(90001)) => FailureKind::Unauthorized,
        (400..=599, Some(1000)) => FailureKind::Throttled { after: pause },
        (503, Some(0)) => FailureKind::Maintenance,
        (429, _) => FailureKind::Throttled { after: pause },
        // Every answer has the end of the window: only a requested pause counts here.
        (status, _) if let Some(kind) = patience(status, retry_after(response, now)) => kind,
        (407, _) => FailureKind::Unreachable,
        (400..=599, Some(8007)) if call == SevenBridgesCall::Complete => {
            FailureKind::CompleteRefused
        }
        // "Try again" by their text, whatever the status: part not reserved, storage service busy,
        // abort failed, consistency violated.
        (400..=599, Some(8007 | 8008 | 8009 | 9000 | 9100 | 13004 | 90004 | 90005)) => {
            FailureKind::ServerFault
        }
        (500..=506 | 508..=599, _) => FailureKind::ServerFault,
        (400..=499, _) if said.is_foreign => FailureKind::BadAnswer,
        // The vendor's own 404 has a body: this is a balancer without a working API behind it.
        (404, None) if response.body.trim_ascii().is_empty() => FailureKind::BadAnswer,
        (404 | 410, code) => missing(call, code),
        (409, code) => conflict(call, code),
        (403, _) => FailureKind::Forbidden,
        (402 | 413 | 507, _) => FailureKind::Quota,
        (400..=499, _) => FailureKind::BadRequest,
        _ => FailureKind::BadAnswer,
    }
}

/// Returns which object is missing: the upload itself, or the project, user or folder around it.
fn missing(call: SevenBridgesCall, code: Option<i64>) -> FailureKind {
    match (call, code) {
        (_, Some(8003)) => FailureKind::UploadGone,
        (_, Some(2002 | 3002 | 5002 | 5026)) => FailureKind::NotFound,
        (SevenBridgesCall::Upload | SevenBridgesCall::Complete, _) => FailureKind::UploadGone,
        (
            SevenBridgesCall::General
            | SevenBridgesCall::Begin
            | SevenBridgesCall::Export
            | SevenBridgesCall::Bulk,
            _,
        ) => FailureKind::NotFound,
    }
}

fn conflict(call: SevenBridgesCall, code: Option<i64>) -> FailureKind {
    match (call, code) {
        // Another unfinished upload has the name, until it ends or expires. No file exists, so
        // "name taken" would make the engine search for one.
        (SevenBridgesCall::Begin, Some(8006)) => FailureKind::ServerFault,
        (SevenBridgesCall::Upload | SevenBridgesCall::Export | SevenBridgesCall::Bulk, _) => {
            FailureKind::BadRequest
        }
        (SevenBridgesCall::General | SevenBridgesCall::Begin | SevenBridgesCall::Complete, _) => {
            FailureKind::NameTaken
        }
    }
}

/// Returns the time until the call limit's window ends, up to [`PAUSE_MAX`].
pub(super) fn reset_in(response: &Response, now: WallTime) -> Option<Duration> {
    let reset: i64 = response.header("x-ratelimit-reset")?.trim().parse().ok()?;
    let reset = WallTime(reset.checked_mul(1_000_000_000)?);
    (reset > now).then(|| now.until(reset).min(PAUSE_MAX))
}

/// Returns the pause that a platform requests.
pub(super) fn announced_pause(response: &Response, now: WallTime) -> Option<Duration> {
    retry_after(response, now).or_else(|| reset_in(response, now))
}

#[cfg(test)]
mod tests;

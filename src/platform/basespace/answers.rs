//! The meaning of BaseSpace's answers: pure functions, one table.
//!
//! The HTTP status decides, unless an envelope says otherwise: a call may answer 200 and carry an
//! error, which counts by its code. An answer that the platform itself did not write (a gateway's
//! page) never counts as its own.

use super::wire::{self, Complaint};
use crate::model::{Failure, FailureKind, WallTime};
use crate::platform::answer::{self, answered, clip, is_page, not_a_page, patience, retry_after};
use crate::platform::http::Response;

/// The call of an answer, as far as the answer's meaning depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BaseSpaceCall {
    /// Anything about the account, projects and AppResults.
    General,
    Look,
    /// Beginning a file of parts.
    Initiate,
    /// Sending a file in one call.
    Single,
    Part,
    /// Completing a file of parts.
    Complete,
    Abort,
}

impl BaseSpaceCall {
    /// Returns its name for people.
    fn noun(self) -> &'static str {
        match self {
            Self::General => "the call",
            Self::Look => "to show files",
            Self::Initiate => "to begin the upload",
            Self::Single => "the file",
            Self::Part => "the part",
            Self::Complete => "to complete the upload",
            Self::Abort => "to abort the upload",
        }
    }
}

/// Returns the failure of an answer; `None` when it is a success.
pub(super) fn refusal(call: BaseSpaceCall, response: &Response, now: WallTime) -> Option<Failure> {
    let said = wire::said(&response.body);
    let is_success = (200..300).contains(&response.status);
    if is_success && said.code.is_none() && said.message.is_none() {
        return not_a_page(response).err();
    }
    let status = status_of(response.status, &said);
    let kind = kind_of(call, status, response, &said, now);
    let message = message(call, status, response, &said);
    Some(Failure { status: Some(status), ..answered(response, kind, message) })
}

/// Returns the status that the answer's code stands for.
fn status_of(status: u16, said: &Complaint) -> u16 {
    let code = said.code.as_deref().unwrap_or("");
    let is_success = (200..300).contains(&status);
    match code {
        _ if code.contains("AUTHENTICATION_FAILURE") => 401,
        _ if code.contains("INSUFFICIENT_RESOURCE_PERMISSIONS") => 403,
        _ if code.contains("RESOURCE_REMOVED") => 410,
        _ if !is_success => status,
        "Unauthorized" => 401,
        "Forbidden" => 403,
        "Conflict" => 409,
        "BadRequest" => 400,
        _ if code.ends_with("_INVALID") => 400,
        _ => 500,
    }
}

fn message(call: BaseSpaceCall, status: u16, response: &Response, said: &Complaint) -> String {
    let what = match (&said.message, &said.code) {
        (Some(message), Some(code)) => format!(": {} ({})", clip(message), clip(code)),
        (Some(text), None) | (None, Some(text)) => format!(": {}", clip(text)),
        (None, None) if is_page(&response.body) => " with a web page".to_owned(),
        (None, None) => " without a message".to_owned(),
    };
    let refused = answer::refusal(response, status, call.noun(), &what);
    match status {
        401 => {
            format!("{refused}; a token is good in its own region only: is base_url that region")
        }
        404 => format!("{refused}; there is no such call, so base_url is wrong"),
        _ => refused,
    }
}

fn kind_of(
    call: BaseSpaceCall,
    status: u16,
    response: &Response,
    said: &Complaint,
    now: WallTime,
) -> FailureKind {
    let names_digest = || {
        let text = said.message.as_deref().unwrap_or("").to_ascii_lowercase();
        text.contains("md5")
    };
    if let Some(kind) = patience(status, retry_after(response, now)) {
        return kind;
    }
    match status {
        401 => FailureKind::Unauthorized,
        407 => FailureKind::Unreachable,
        402 | 507 => FailureKind::Quota,
        // We never send large parts: a proxy refused it as too large, and may accept it later.
        413 | 500..=599 => FailureKind::ServerFault,
        400..=499 if said.is_foreign => FailureKind::BadAnswer,
        403 => FailureKind::Forbidden,
        // The vendor's own 404 has a body: this is a balancer without a working API behind it.
        404 if response.body.trim_ascii().is_empty() => FailureKind::BadAnswer,
        404 | 410 => FailureKind::NotFound,
        // The state of the upload is looked up before anything follows from this.
        409 => FailureKind::ServerFault,
        400 if call == BaseSpaceCall::Part || names_digest() => FailureKind::PartRejected,
        400 if call == BaseSpaceCall::Complete => FailureKind::CompleteRefused,
        400..=499 => FailureKind::BadRequest,
        _ => FailureKind::BadAnswer,
    }
}

/// Returns whether the object is missing or not ours: the vendor does not distinguish these.
pub(super) fn is_missing(failure: &Failure) -> bool {
    matches!(
        (failure.status, failure.kind),
        (Some(403 | 404 | 410), FailureKind::Forbidden | FailureKind::NotFound)
    )
}

/// Returns whether the platform itself reports a conflict.
pub(super) fn is_conflict(failure: &Failure) -> bool {
    failure.status == Some(409) && failure.kind == FailureKind::ServerFault
}

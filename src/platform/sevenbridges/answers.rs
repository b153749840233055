//! What an answer of Seven Bridges or its storage means: pure functions, one table.
//!
//! Owns the vendor's status codes. Any key of an error body may be missing, so the HTTP status
//! decides first, then the vendor's `code`; the message is kept for people only, cut and cleaned.
//!
//! An answer that the platform itself did not write is judged with care. A gateway, a filter or a
//! captive portal answers with a page; a 404 from one of those must never count as "the upload is
//! gone", nor a 403 as "you may not", for either would cost an operator a day. So a 4xx whose body
//! is something other than JSON is a `BadAnswer`, which is tried again.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::model::{Failure, FailureKind, WallTime};
use crate::platform::http::Response;

/// Vendor messages are cut here.
const MESSAGE_MAX: usize = 300;
/// A storage's error says what it has to say in its first bytes.
const STORAGE_BODY_MAX: usize = 4096;

/// Which call an answer belongs to, as far as its meaning depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// Anything that is not about one upload in progress.
    General,
    /// Initialising an upload.
    Begin,
    /// Anything about one upload in progress.
    Upload,
    /// Completing one.
    Complete,
}

impl Call {
    /// Says it to people.
    fn noun(self) -> &'static str {
        match self {
            Self::General => "the call",
            Self::Begin => "to begin the upload",
            Self::Upload => "a call about the upload",
            Self::Complete => "to complete the upload",
        }
    }
}

/// Parses the body of a call that succeeded.
///
/// # Errors
/// `BadAnswer` when it is not what the call answers with, such as a portal's page.
pub(super) fn parse<T: serde::de::DeserializeOwned>(response: &Response) -> Result<T, Failure> {
    serde_json::from_slice(&response.body).map_err(|error| {
        // The parser's own text may quote the body, and a body may hold a signed address.
        let what = match error.classify() {
            serde_json::error::Category::Eof if response.body.is_empty() => "nothing",
            serde_json::error::Category::Eof => "half of an answer",
            serde_json::error::Category::Data => "an answer of another shape",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => "no JSON",
        };
        answered(response, FailureKind::BadAnswer, format!("the platform answered with {what}"))
    })
}

/// Passes a successful answer on, unless somebody else wrote it: a portal answers with 200 too.
///
/// # Errors
/// `BadAnswer` when it is a web page.
pub(super) fn not_a_page(response: Response) -> Result<Response, Failure> {
    if is_page(&response.body) {
        let message = "the platform answered with a web page: is a portal or a filter in between";
        return Err(answered(&response, FailureKind::BadAnswer, message.to_owned()));
    }
    Ok(response)
}

fn is_page(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<')
}

/// An error's body, as far as it could be read.
#[derive(Debug, Default)]
struct Said {
    code: Option<i64>,
    message: Option<String>,
    /// The body is neither JSON nor empty: somebody else than the platform wrote it.
    is_foreign: bool,
}

fn read_error(body: &[u8]) -> Said {
    let code = |value: &Value| value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
    match serde_json::from_slice::<Map<String, Value>>(body) {
        Ok(error) => Said {
            code: error.get("code").and_then(code),
            message: error.get("message").and_then(Value::as_str).map(clip),
            is_foreign: false,
        },
        Err(_) => Said { is_foreign: !body.trim_ascii().is_empty(), ..Said::default() },
    }
}

/// Turns an answer that is no success into a failure.
pub(super) fn classify(call: Call, response: &Response, now: WallTime) -> Failure {
    let said = read_error(&response.body);
    let kind = kind_of(call, response, &said, now);
    let what = match (&said.message, said.code) {
        (Some(message), Some(code)) => format!(": {message} (code {code})"),
        (Some(message), None) => format!(": {message}"),
        (None, Some(code)) => format!(" (code {code})"),
        (None, None) if is_page(&response.body) => " with a web page".to_owned(),
        (None, None) => " without a message".to_owned(),
    };
    let message = match response.status {
        300..=399 => format!(
            "the platform's address leads elsewhere{}: base_url is wrong, or a portal is in between",
            redirect_host(response)
        ),
        407 => "the proxy asks for credentials".to_owned(),
        _ => format!("the platform refused {}{what}", call.noun()),
    };
    answered(response, kind, message)
}

/// Names the host of a redirect; the rest of the address may be secret.
fn redirect_host(response: &Response) -> String {
    let url = response.header("location").and_then(|text| reqwest::Url::parse(text).ok());
    let host = url.as_ref().and_then(|url| url.host_str());
    host.map_or_else(String::new, |host| format!(", to {}", clip(host)))
}

fn answered(response: &Response, kind: FailureKind, message: String) -> Failure {
    Failure { kind, message, status: Some(response.status), request_id: response.request_id() }
}

/// The table: HTTP status first, then `code`.
fn kind_of(call: Call, response: &Response, said: &Said, now: WallTime) -> FailureKind {
    let throttled = || FailureKind::Throttled { after: announced_pause(response, now) };
    match (response.status, said.code) {
        (401, _) | (400..=599, Some(90001)) => FailureKind::Unauthorized,
        (429, _) | (400..=599, Some(1000)) => throttled(),
        (503, Some(0)) => FailureKind::Maintenance,
        (407, _) => FailureKind::Unreachable,
        (400..=599, Some(8007)) if call == Call::Complete => FailureKind::CompleteRefused,
        // "Try again" by their text, whatever the status: part not reserved, storage service busy,
        // abort failed, consistency violated.
        (400..=599, Some(8007 | 8008 | 8009 | 9000 | 9100 | 13004 | 90004 | 90005)) => {
            FailureKind::ServerFault
        }
        (408 | 425 | 500..=506 | 508..=599, _) => FailureKind::ServerFault,
        (400..=499, _) if said.is_foreign => FailureKind::BadAnswer,
        (404 | 410, code) => missing(call, code),
        (409, code) => conflict(call, code),
        (403, _) => FailureKind::Forbidden,
        (402 | 413 | 507, _) => FailureKind::Quota,
        (400..=499, _) => FailureKind::BadRequest,
        _ => FailureKind::BadAnswer,
    }
}

/// What is missing: the upload itself, or the project, user or folder around it?
fn missing(call: Call, code: Option<i64>) -> FailureKind {
    match (call, code) {
        (_, Some(8003)) => FailureKind::UploadGone,
        (_, Some(2002 | 3002 | 5002 | 5026)) => FailureKind::NotFound,
        (Call::Upload | Call::Complete, _) => FailureKind::UploadGone,
        (Call::General | Call::Begin, _) => FailureKind::NotFound,
    }
}

fn conflict(call: Call, code: Option<i64>) -> FailureKind {
    match (call, code) {
        // Somebody's unfinished upload has the name: it ends or expires some day. No file stands
        // there, so "name taken" would send the engine looking for one in vain.
        (Call::Begin, Some(8006)) => FailureKind::ServerFault,
        (Call::Upload, _) => FailureKind::BadRequest,
        (Call::General | Call::Begin | Call::Complete, _) => FailureKind::NameTaken,
    }
}

/// Returns how long a platform asks us to wait.
pub(super) fn announced_pause(response: &Response, now: WallTime) -> Option<Duration> {
    let retry_after = response.header("retry-after").map(str::trim);
    if let Some(seconds) = retry_after.and_then(|text| text.parse().ok()) {
        return Some(Duration::from_secs(seconds));
    }
    if let Some(at) = retry_after.and_then(super::wire::parse_date) {
        return Some(now.until(at));
    }
    reset_in(response, now)
}

/// Returns how long it is until the window of the call limit ends.
pub(super) fn reset_in(response: &Response, now: WallTime) -> Option<Duration> {
    let reset: i64 = response.header("x-ratelimit-reset")?.trim().parse().ok()?;
    let reset = WallTime(reset.checked_mul(1_000_000_000)?);
    (reset > now).then(|| now.until(reset))
}

/// Turns a storage's answer that is no success into a failure.
///
/// The rules are those of S3. Nothing of the body is shown but its `<Code>`, for bodies of storages
/// repeat what was signed.
pub(super) fn classify_storage(response: &Response) -> Failure {
    let body = &response.body[..response.body.len().min(STORAGE_BODY_MAX)];
    let body = String::from_utf8_lossy(body);
    let code = storage_code(&body);
    let kind = match (response.status, code) {
        (404, Some("NoSuchUpload")) => FailureKind::UploadGone,
        (400, Some("EntityTooLarge" | "EntityTooSmall" | "InvalidPart")) => FailureKind::BadRequest,
        (407, _) => FailureKind::Unreachable,
        (429 | 408 | 500..=599, _) => FailureKind::ServerFault,
        // An address that expired or is not accepted, a body that arrived late or damaged: the next
        // attempt gets another address and sends the bytes again.
        (400..=499, _) => FailureKind::PartRejected,
        _ => FailureKind::BadAnswer,
    };
    let word = code.map_or_else(String::new, |code| format!(": {code}"));
    let message = match response.status {
        200..=299 => {
            "the storage answered with a status that the platform does not count as success"
        }
        300..=399 => "the storage's address leads elsewhere: a portal may be in between",
        _ => "the storage refused the part",
    };
    answered(response, kind, format!("{message}{word}"))
}

fn storage_code(body: &str) -> Option<&str> {
    let (_, rest) = body.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_word = code.len() < 60 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then_some(code)
}

/// Cuts a text from outside to a length and to printable characters.
fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MESSAGE_MAX).collect()
}

#[cfg(test)]
mod tests;

//! The meaning of an HTTP answer from any server: pure functions.
//!
//! Answers that the platform itself did not write need care: a gateway, a filter or a captive
//! portal answers with a page, also with status 200. Texts from outside are cut and cleaned, and
//! never contain possible secrets.

use std::time::Duration;

use serde_json::Value;

use super::bounded;
use super::http::Response;
use crate::model::failure::PAUSE_MAX;
use crate::model::{ETag, Failure, FailureKind, Shown, Stored, WallTime};
use crate::telemetry::scrub;

/// Limit of a vendor's message.
const MESSAGE_MAX: usize = 300;
/// Of a longer text from outside, only this many bytes are read.
const WINDOW: usize = 64 * 1024;
/// No secret is longer: at the end of a cut text, this many bytes may be part of one.
const SECRET_MAX: usize = 8 * 1024;
/// A storage's error is complete within its first bytes.
pub(super) const STORAGE_BODY_MAX: usize = 4096;

/// Parses the body of a call that succeeded.
///
/// # Errors
/// `BadAnswer` when the body does not match the call, such as a portal's page, or is too long.
pub(super) fn parse<T: serde::de::DeserializeOwned>(response: &Response) -> Result<T, Failure> {
    parse_bounded(response, bounded::PIECES_MAX)
}

/// Parses a list that may be long, into items that keep only a part of it.
pub(super) fn parse_list<T: serde::de::DeserializeOwned>(
    response: &Response,
) -> Result<T, Failure> {
    parse_bounded(response, bounded::LIST_PIECES_MAX)
}

fn parse_bounded<T: serde::de::DeserializeOwned>(
    response: &Response,
    pieces_max: usize,
) -> Result<T, Failure> {
    let bad = |what: &str| {
        let message = format!("the platform answered with {what}");
        answered(response, FailureKind::BadAnswer, message)
    };
    if !bounded::check(&response.body, pieces_max) {
        return Err(bad("more than any answer holds"));
    }
    serde_json::from_slice(&response.body).map_err(|error| {
        // The parser's own message may quote the body, which may contain a signed address.
        bad(match error.classify() {
            serde_json::error::Category::Eof if response.body.is_empty() => "nothing",
            serde_json::error::Category::Eof => "half of an answer",
            serde_json::error::Category::Data => "an answer of another shape",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => "no JSON",
        })
    })
}

/// Parses the body of an error, if it has the platform's form and an acceptable size.
pub(super) fn parse_error<T: serde::de::DeserializeOwned>(body: &[u8]) -> Option<T> {
    bounded::check(body, bounded::PIECES_MAX).then(|| serde_json::from_slice(body).ok())?
}

/// Refuses a page of something else than the platform: a portal answers with 200 too.
///
/// # Errors
/// `BadAnswer` when it is a web page.
pub(super) fn not_a_page(response: &Response) -> Result<(), Failure> {
    if is_page(&response.body) { Err(page(response)) } else { Ok(()) }
}

/// Makes the failure of a web page where an answer should be.
pub(super) fn page(response: &Response) -> Failure {
    let message = "a web page answered: is a portal or a filter in between";
    answered(response, FailureKind::BadAnswer, message.to_owned())
}

/// Builds the failure of an answer with unexpected content.
pub(super) fn bad(what: &str) -> Failure {
    Failure::new(FailureKind::BadAnswer, format!("the platform answered with {what}"))
}

/// Returns whether a body is neither JSON nor empty, so that the platform did not write it.
pub(super) fn is_foreign(body: &[u8]) -> bool {
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    !is_json && !body.trim_ascii().is_empty()
}

/// Describes a refused call with the refusal's message.
pub(super) fn refusal(response: &Response, status: u16, noun: &str, said: &str) -> String {
    match status {
        300..=399 => format!(
            "the platform's address leads elsewhere{}: base_url is wrong, or a portal is in between",
            redirect_host(response)
        ),
        407 => "the proxy asks for credentials".to_owned(),
        _ => format!("the platform refused {noun}{said}"),
    }
}

/// Returns the storage's identifier of the received bytes.
///
/// # Errors
/// `PartRejected` when there is none.
pub(super) fn stored(response: &Response) -> Result<Stored, Failure> {
    let stored = told(response);
    if stored.etag.as_str().is_empty() {
        let message = "the storage took the bytes and gave no ETag for them".to_owned();
        return Err(answered(response, FailureKind::PartRejected, message));
    }
    Ok(stored)
}

/// Returns what a storage's answer says about its bytes; the ETag is empty where it gives none.
pub(super) fn told(response: &Response) -> Stored {
    let etag = ETag::from_header(response.header("etag").unwrap_or_default());
    Stored { is_keyed: is_keyed(response), ..etag.into() }
}

/// Returns whether a storage reports encryption with a key of KMS or of the customer: then its
/// ETags are no digests.
pub(super) fn is_keyed(response: &Response) -> bool {
    let encryption = |end: &str| response.header(&format!("x-amz-server-side-encryption{end}"));
    encryption("-customer-algorithm").is_some()
        || encryption("").unwrap_or_default().starts_with("aws:kms")
}

/// Turns failures of these kinds into `None`.
pub(super) fn unless<T>(
    kinds: &[FailureKind],
    answer: Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    match answer {
        Err(failure) if kinds.contains(&failure.kind) => Ok(None),
        other => other.map(Some),
    }
}

/// Returns whether a body is a page or other markup.
pub(super) fn is_page(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<')
}

/// Returns the host of a redirect; the rest of the address may be secret.
fn redirect_host(response: &Response) -> String {
    let url = response.header("location").and_then(|text| reqwest::Url::parse(text).ok());
    let host = url.as_ref().and_then(|url| url.host_str());
    host.map_or_else(String::new, |host| format!(", to {}", clip(host)))
}

/// Builds the failure of a refusal without the platform's marks.
pub(super) fn of_another(failure: Failure) -> Failure {
    let message = format!("{}, without an id: another server answers", failure.message);
    Failure { kind: FailureKind::BadAnswer, message, ..failure }
}

pub(super) fn answered(response: &Response, kind: FailureKind, message: String) -> Failure {
    Failure { kind, message, status: Some(response.status), request_id: response.request_id() }
}

/// Returns the pause that a platform requests, up to [`PAUSE_MAX`]; `None` if it cannot be parsed.
pub(super) fn retry_after(response: &Response, now: WallTime) -> Option<Duration> {
    let text = response.header("retry-after")?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let pause = if is_number {
        // A number with too many digits is as absurd as a year.
        text.parse().map_or(PAUSE_MAX, Duration::from_secs)
    } else {
        now.until(parse_date(text)?)
    };
    Some(pause.min(PAUSE_MAX))
}

/// Returns the failure kind of an answer that asks to wait; `None` for any other.
///
/// Without a pause it concerns one request: a time-out, or one request too many.
pub(super) fn patience(status: u16, pause: Option<Duration>) -> Option<FailureKind> {
    match (status, pause) {
        (408 | 425 | 429 | 503, Some(_)) | (429, None) => {
            Some(FailureKind::Throttled { after: pause })
        }
        (408 | 425, None) => Some(FailureKind::TimedOut),
        _ => None,
    }
}

pub(super) fn parse_date(text: &str) -> Option<WallTime> {
    wall_time(jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?)
}

/// Parses a time in a body.
pub(super) fn parse_time(text: &str) -> Option<WallTime> {
    wall_time(text.trim().parse().ok()?)
}

fn wall_time(time: jiff::Timestamp) -> Option<WallTime> {
    i64::try_from(time.as_nanosecond()).ok().map(WallTime)
}

/// Turns a storage's failed answer into a failure.
///
/// The rules are those of S3. Only `<Code>` of the body is shown, because storages repeat the
/// signed text in bodies.
pub(super) fn classify_storage(response: &Response) -> Failure {
    let body = &response.body[..response.body.len().min(STORAGE_BODY_MAX)];
    let body = String::from_utf8_lossy(body);
    let code = storage_code(&body);
    let kind = match (response.status, code) {
        (404, Some("NoSuchUpload")) => FailureKind::UploadGone,
        (413, _) | (400, Some("EntityTooLarge")) => FailureKind::PartTooLarge,
        (400, Some("EntityTooSmall" | "InvalidPart")) => FailureKind::BadRequest,
        (407, _) => FailureKind::Unreachable,
        (429 | 408 | 500..=599, _) => FailureKind::ServerFault,
        // An expired or refused address, a late or damaged body: the next attempt gets another
        // address and sends the bytes again.
        (400..=499, _) => FailureKind::PartRejected,
        _ => FailureKind::BadAnswer,
    };
    let word = code.map_or_else(String::new, |code| format!(": {}", clip(code)));
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

/// Returns all texts in a JSON value, for people.
pub(super) fn texts(value: &Value) -> String {
    fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
        match value {
            Value::String(text) if texts.len() < MESSAGE_MAX => {
                texts.push(start_of(text, WINDOW));
            }
            Value::String(_) => {}
            Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
            Value::Object(fields) => fields.values().for_each(|value| collect(value, texts)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut texts = Vec::new();
    collect(value, &mut texts);
    let mut joined = String::new();
    for text in texts {
        joined.push_str(if joined.is_empty() { "" } else { "; " });
        joined.push_str(text);
        if joined.len() > WINDOW {
            break;
        }
    }
    clip(&joined)
}

/// Cleans a text from outside for display: removes our secrets before a cut could leave half of
/// one, escapes unusual characters, and cuts it.
pub(super) fn clip(text: &str) -> String {
    let window = start_of(text, WINDOW);
    let scrubbed = scrub(window);
    let whole = match window.len() == text.len() {
        true => &scrubbed,
        false => start_of(&scrubbed, scrubbed.len().saturating_sub(SECRET_MAX)),
    };
    Shown(whole).to_string().chars().take(MESSAGE_MAX).collect()
}

fn start_of(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderMap;

    use super::*;

    #[test]
    fn a_pause_that_is_asked_for_is_believed_for_an_hour() {
        let now = WallTime(1_739_264_600_000_000_000);
        let asked = |value: &str| {
            let value = value.parse().expect("a value");
            let headers = HeaderMap::from_iter([("retry-after".parse().expect("a name"), value)]);
            let response = Response { status: 429, headers, body: bytes::Bytes::new() };
            retry_after(&response, now)
        };
        for (value, seconds) in [
            ("0", 0),
            (" 7 ", 7),
            ("3600", 3600),
            ("3601", 3600),
            ("31536000", 3600),
            ("18446744073709551615", 3600),
            ("18446744073709551616", 3600),
            ("99999999999999999999999999", 3600),
            ("Tue, 11 Feb 2025 09:05:00 GMT", 100),
            ("Tue, 11 Feb 2025 09:00:00 GMT", 0),
            ("Wed, 11 Feb 2026 09:05:00 GMT", 3600),
            ("Mon, 11 Feb 2250 09:05:00 GMT", 3600),
        ] {
            assert_eq!(asked(value), Some(Duration::from_secs(seconds)), "{value:?}");
        }
        for odd in ["", "soon", "-5", "1e9", "+7", "Tue, 31 Feb 2025 09:05:00 GMT", "1739264700Z"] {
            assert_eq!(asked(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn only_a_pause_with_a_length_is_more_than_one_requests_matter() {
        let pause = Some(Duration::from_secs(7));
        for status in [408, 425, 429, 503] {
            let asked = Some(FailureKind::Throttled { after: pause });
            assert_eq!(patience(status, pause), asked, "{status}");
        }
        assert_eq!(patience(429, None), Some(FailureKind::Throttled { after: None }));
        assert_eq!(patience(408, None), Some(FailureKind::TimedOut));
        assert_eq!(patience(425, None), Some(FailureKind::TimedOut));
        for status in [200, 400, 404, 500, 503] {
            assert_eq!(patience(status, None), None, "{status}");
        }
    }

    #[test]
    fn texts_are_found_at_any_depth() {
        let value = serde_json::json!([["no"], {"size": ["too\nlarge"], "code": 7}, null, true]);
        assert_eq!(texts(&value), "no; too\\nlarge");
    }

    #[test]
    fn what_is_cut_holds_no_half_of_a_secret() {
        crate::telemetry::register_secret("clip-planted-token-0123456789");
        for before in 270..310 {
            let text = format!("{} clip-planted-token-0123456789", "x".repeat(before));
            let clipped = clip(&text);
            assert!(!clipped.contains("clip"), "{clipped}");
            assert!(clipped.len() <= MESSAGE_MAX);
        }
        let flood = "clip-planted-token-0123456789 ".repeat(100_000);
        assert!(!clip(&flood).contains("clip"));
        assert_eq!(clip("a\u{202e}b\u{1b}[2J\n"), "a\\u{202e}b\\u{1b}[2J\\n");
    }
}

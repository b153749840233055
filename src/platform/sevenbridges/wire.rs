//! Seven Bridges on the wire: bodies, and pure functions from an answer to a result.
//!
//! Unknown fields are ignored and never sent back. Any key of an error body may be missing, and a
//! gateway answers with HTML, so the HTTP status decides first, then the vendor's `code`, and the
//! message is only kept for people.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::remote::ContentMark;
use crate::model::{
    ByteCount, ETag, Failure, FailureKind, Md5, PartNumber, PartSize, RemoteFile, RemoteFileId,
    RemotePart, WallTime,
};
use crate::platform::http::Response;

/// The metadata key that holds our digest.
pub(super) const MARK_KEY: &str = "dropferry_digest";
/// Vendor messages are cut here.
const MESSAGE_MAX: usize = 300;

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

/// Body of an initialisation.
#[derive(Debug, Serialize)]
pub(super) struct BeginBody<'a> {
    #[serde(flatten)]
    pub(super) place: Place<'a>,
    pub(super) name: &'a str,
    pub(super) size: u64,
    pub(super) part_size: u64,
}

/// A project's top, or a folder: never both.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Place<'a> {
    Project(&'a str),
    Parent(&'a str),
}

impl Place<'_> {
    /// Returns it as a query parameter.
    pub(super) fn query(&self) -> (&'static str, &str) {
        match self {
            Self::Project(id) => ("project", id),
            Self::Parent(id) => ("parent", id),
        }
    }
}

/// Body of a new folder.
#[derive(Debug, Serialize)]
pub(super) struct FolderBody<'a> {
    #[serde(flatten)]
    pub(super) place: Place<'a>,
    pub(super) name: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
}

/// An upload in progress, in any of the calls that tell of it.
#[derive(Debug, Deserialize)]
pub(super) struct Upload {
    pub(super) upload_id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) project: Option<String>,
    pub(super) parent: Option<String>,
    pub(super) part_size: Option<u64>,
    pub(super) parallel_uploads: Option<bool>,
    pub(super) initiated: Option<String>,
    #[serde(default)]
    pub(super) parts: Vec<Part>,
}

/// A part in lists and reports.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Part {
    part_number: u32,
    response: PartResponse,
}

#[derive(Debug, Serialize, Deserialize)]
struct PartResponse {
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

impl Part {
    /// Returns a report of a part.
    pub(super) fn report(part: &RemotePart) -> Self {
        let headers = BTreeMap::from([("ETag".to_owned(), part.etag.to_string())]);
        Self { part_number: part.number.get(), response: PartResponse { headers } }
    }

    /// Returns what a list says of a part.
    pub(super) fn listed(&self) -> Option<RemotePart> {
        let is_etag = |(name, _): &(&String, &String)| name.eq_ignore_ascii_case("etag");
        let etag = self.response.headers.iter().find(is_etag).map_or("", |(_, value)| value);
        Some(RemotePart {
            number: PartNumber::new(self.part_number)?,
            etag: ETag::from_header(etag),
        })
    }
}

/// Body of a report of several parts.
#[derive(Debug, Serialize)]
pub(super) struct ReportBody {
    pub(super) parts: Vec<Part>,
}

/// A signed address for one part.
#[derive(Debug, Deserialize)]
pub(super) struct SignedPart {
    pub(super) method: Option<String>,
    pub(super) url: String,
    #[serde(default)]
    pub(super) expires: serde_json::Value,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    success_codes: Option<Vec<u16>>,
    #[serde(default)]
    report: SignedReport,
}

#[derive(Debug, Default, Deserialize)]
struct SignedReport {
    headers: Option<Vec<String>>,
    success_codes: Option<Vec<u16>>,
}

impl SignedPart {
    /// Tells whether the storage's status means that it has the part.
    pub(super) fn is_success(&self, status: u16) -> bool {
        let codes = self.success_codes.as_ref().or(self.report.success_codes.as_ref());
        codes.map_or(status == 200, |codes| codes.contains(&status))
    }

    /// Tells whether the platform wants the ETag reported.
    pub(super) fn wants_etag(&self) -> bool {
        let wanted = self.report.headers.as_ref();
        wanted.is_none_or(|names| names.iter().any(|name| name.eq_ignore_ascii_case("etag")))
    }

    /// Returns when the address expires, when that is told in a form that we know.
    pub(super) fn expires_at(&self) -> Option<WallTime> {
        let number = match &self.expires {
            serde_json::Value::String(text) => {
                if let Some(time) = parse_time(text) {
                    return Some(time);
                }
                text.trim().parse::<i64>().ok()?
            }
            serde_json::Value::Number(number) => number.as_i64()?,
            _ => return None,
        };
        let nanos = match number {
            100_000_000_000_000.. => number.checked_mul(1_000)?,
            100_000_000_000.. => number.checked_mul(1_000_000)?,
            0.. => number.checked_mul(1_000_000_000)?,
            _ => return None,
        };
        Some(WallTime(nanos))
    }
}

/// A file or folder.
#[derive(Debug, Deserialize)]
pub(super) struct File {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    size: Option<u64>,
    created_on: Option<String>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, serde_json::Value>>,
}

impl File {
    /// Tells whether it is a folder; the case of the word differs between calls.
    pub(super) fn is_folder(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("folder"))
    }

    /// Returns it in our words.
    ///
    /// # Errors
    /// `BadAnswer` when it has no id or name.
    pub(super) fn remote(self) -> Result<RemoteFile, Failure> {
        let mark = self.metadata.as_ref().and_then(|metadata| metadata.get(MARK_KEY));
        let mark = mark.and_then(serde_json::Value::as_str).and_then(parse_mark);
        let created_at = self.created_on.as_deref().and_then(parse_time);
        match (self.id, self.name) {
            (Some(id), Some(name)) => Ok(RemoteFile {
                id: RemoteFileId::new(id),
                name,
                size: self.size.map(ByteCount),
                mark,
                created_at,
            }),
            _ => Err(Failure::new(FailureKind::BadAnswer, "a file without id or name was told")),
        }
    }
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
}

/// A project, as far as we ask.
#[derive(Debug, Deserialize)]
pub(super) struct Project {
    permissions: Option<Permissions>,
}

#[derive(Debug, Deserialize)]
struct Permissions {
    write: Option<bool>,
}

impl Project {
    /// Tells whether the platform says that we may not write.
    pub(super) fn forbids_writing(&self) -> bool {
        self.permissions.as_ref().and_then(|p| p.write) == Some(false)
    }
}

/// Returns our digest as it is left with a file.
pub(super) fn render_mark(mark: ContentMark) -> String {
    format!("{}:{}", mark.part_size.get(), mark.md5_of_parts)
}

fn parse_mark(text: &str) -> Option<ContentMark> {
    let (size, md5) = text.split_once(':')?;
    Some(ContentMark {
        part_size: PartSize::new(size.parse().ok()?)?,
        md5_of_parts: Md5::parse(md5)?,
    })
}

/// Parses a time as the API writes it.
pub(super) fn parse_time(text: &str) -> Option<WallTime> {
    let time: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok().map(WallTime)
}

/// Parses the `Date` header.
pub(super) fn parse_date(text: &str) -> Option<WallTime> {
    let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    i64::try_from(time.as_nanosecond()).ok().map(WallTime)
}

/// Parses the body of a call that succeeded.
///
/// # Errors
/// `BadAnswer` when it is not what the call answers with, such as a portal's page.
pub(super) fn parse<T: serde::de::DeserializeOwned>(response: &Response) -> Result<T, Failure> {
    serde_json::from_slice(&response.body).map_err(|error| {
        let what = if looks_like_html(&response.body) { "a web page" } else { "something else" };
        let message = format!("the platform answered with {what}: {}", clip(&error.to_string()));
        answered(response, FailureKind::BadAnswer, message)
    })
}

fn looks_like_html(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'<')
}

#[derive(Debug, Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    code: Option<i64>,
    #[serde(default)]
    message: Option<serde_json::Value>,
}

/// Turns an answer that is no success into a failure.
pub(super) fn classify(call: Call, response: &Response, now: WallTime) -> Failure {
    let body: ErrorBody = serde_json::from_slice(&response.body).unwrap_or_default();
    let kind = kind_of(call, response, body.code, now);
    let said = match &body.message {
        Some(serde_json::Value::String(text)) => clip(text),
        Some(_) | None if looks_like_html(&response.body) => "a web page".to_owned(),
        Some(_) | None => "no message".to_owned(),
    };
    let message = match body.code {
        Some(code) => format!("the platform refused with code {code}: {said}"),
        None => format!("the platform refused: {said}"),
    };
    answered(response, kind, message)
}

fn answered(response: &Response, kind: FailureKind, message: String) -> Failure {
    let request_id = response.header("x-request-id").map(clip);
    Failure { kind, message, status: Some(response.status), request_id }
}

/// The table of `code`s, by HTTP status first.
fn kind_of(call: Call, response: &Response, code: Option<i64>, now: WallTime) -> FailureKind {
    let code = code.unwrap_or(-1);
    match (response.status, code) {
        (401, _) | (_, 90001) => FailureKind::Unauthorized,
        (429, _) | (_, 1000) => FailureKind::Throttled { after: announced_pause(response, now) },
        (503, 0) => FailureKind::Maintenance,
        (_, 8007) if call == Call::Complete => FailureKind::CompleteRefused,
        (_, 8008 | 13004 | 9000 | 9100) => FailureKind::ServerFault,
        (404 | 410, 8003) => FailureKind::UploadGone,
        (404 | 410, _) if matches!(call, Call::Upload | Call::Complete) => FailureKind::UploadGone,
        (409, _) => FailureKind::NameTaken,
        (403, _) => FailureKind::Forbidden,
        (404 | 410, _) => FailureKind::NotFound,
        (402 | 413 | 507, _) => FailureKind::Quota,
        (408 | 425 | 500..=599, _) => FailureKind::ServerFault,
        (400..=499, _) => FailureKind::BadRequest,
        _ => FailureKind::BadAnswer,
    }
}

/// Returns how long a platform asks us to wait.
pub(super) fn announced_pause(response: &Response, now: WallTime) -> Option<Duration> {
    if let Some(seconds) = response.header("retry-after").and_then(|text| text.parse().ok()) {
        return Some(Duration::from_secs(seconds));
    }
    let reset: i64 = response.header("x-ratelimit-reset")?.parse().ok()?;
    Some(now.until(WallTime(reset.checked_mul(1_000_000_000)?)))
}

/// Turns a storage's answer that is no success into a failure.
pub(super) fn classify_storage(response: &Response) -> Failure {
    let body = String::from_utf8_lossy(&response.body[..response.body.len().min(2000)]);
    let says = |word| body.contains(word);
    let kind = match response.status {
        404 if says("NoSuchUpload") => FailureKind::UploadGone,
        400 if says("EntityTooLarge") || says("EntityTooSmall") => FailureKind::BadRequest,
        // An address that expired or is not accepted: the next attempt gets another.
        403 | 404 => FailureKind::PartRejected,
        400 | 412 | 422 => FailureKind::PartRejected,
        429 | 503 => FailureKind::ServerFault,
        500..=599 | 408 => FailureKind::ServerFault,
        _ => FailureKind::BadAnswer,
    };
    let word = storage_code(&body).map_or_else(String::new, |code| format!(": {code}"));
    let message = format!("the storage refused the part{word}");
    Failure { kind, message, status: Some(response.status), request_id: None }
}

/// The `<Code>` of a storage's error; nothing else of its body is shown, for it may hold addresses.
fn storage_code(body: &str) -> Option<&str> {
    let (_, rest) = body.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    (code.len() < 60 && code.bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some(code)
}

/// Cuts a text from outside to a length and to printable characters.
fn clip(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MESSAGE_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use reqwest::header::HeaderMap;

    const NOW: WallTime = WallTime(1_739_264_600_000_000_000);

    fn response(status: u16, body: &str) -> Response {
        Response {
            status,
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn kind(call: Call, status: u16, body: &str) -> FailureKind {
        classify(call, &response(status, body), NOW).kind
    }

    #[test]
    fn every_documented_refusal_has_its_kind() {
        use Call::{Begin, Complete, General, Upload};
        use FailureKind as K;
        for (call, status, code, expected) in [
            (General, 401, 90001, K::Unauthorized),
            (General, 400, 90001, K::Unauthorized),
            (General, 503, 0, K::Maintenance),
            (General, 503, 2000, K::ServerFault),
            (General, 403, 2001, K::Forbidden),
            (General, 404, 3002, K::NotFound),
            (General, 404, 5002, K::NotFound),
            (General, 409, 5030, K::NameTaken),
            (Begin, 400, 8013, K::BadRequest),
            (Begin, 403, 8001, K::Forbidden),
            (Begin, 409, 8005, K::NameTaken),
            (Begin, 409, 8004, K::NameTaken),
            (Begin, 409, 8006, K::NameTaken),
            (Upload, 404, 8003, K::UploadGone),
            (Upload, 400, 8012, K::BadRequest),
            (Upload, 500, 8008, K::ServerFault),
            (Upload, 503, 8008, K::ServerFault),
            (Complete, 400, 8007, K::CompleteRefused),
            (Complete, 500, 8007, K::CompleteRefused),
            (Complete, 404, 8003, K::UploadGone),
            (General, 500, 90004, K::ServerFault),
            (General, 415, 90008, K::BadRequest),
            (General, 429, 1000, K::Throttled { after: None }),
        ] {
            let body = format!(r#"{{"status":{status},"code":{code},"message":"m"}}"#);
            assert_eq!(kind(call, status, &body), expected, "{status} {code}");
        }
    }

    #[test]
    fn hostile_and_broken_bodies_are_judged_by_status() {
        let long = format!(r#"{{"message":"{}"}}"#, "x\\n".repeat(1_000_000));
        let hostile = ["", "<html>oops", "{\"code\":", "[]", "{\"code\":\"8003\"}", "null", &long];
        for body in hostile {
            let failure = classify(Call::General, &response(502, body), NOW);
            assert_eq!(failure.kind, FailureKind::ServerFault, "{}", &body[..body.len().min(20)]);
            assert!(failure.message.len() < 500 && !failure.message.contains('\n'));
            assert_eq!(kind(Call::General, 302, body), FailureKind::BadAnswer);
        }
        let portal =
            parse::<Page<File>>(&response(200, "<html>log in</html>")).expect_err("a page");
        assert_eq!(portal.kind, FailureKind::BadAnswer);
        assert!(portal.message.contains("a web page"), "{portal}");
        assert!(parse::<Upload>(&response(200, r#"{"part_size":1e400}"#)).is_err());
        assert!(parse::<Upload>(&response(200, r#"{"part_size":-5}"#)).is_err());
    }

    #[test]
    fn expiry_is_read_in_every_form_that_the_documents_show() {
        let expires = |value: &str| {
            let body = format!(r#"{{"url":"u","expires":{value}}}"#);
            serde_json::from_str::<SignedPart>(&body).expect("parses").expires_at()
        };
        let expected = Some(WallTime(1_739_305_800_000_000_000));
        for form in [
            r#""2025-02-11T20:30:00Z""#,
            "1739305800",
            "1739305800000",
            "1739305800000000",
            r#""1739305800""#,
        ] {
            assert_eq!(expires(form), expected, "{form}");
        }
        for form in ["null", "\"soon\"", "-1", "{}", "1e300"] {
            assert_eq!(expires(form), None, "{form}");
        }
    }

    #[test]
    fn success_codes_are_read_from_both_places() {
        let signed = |body: &str| serde_json::from_str::<SignedPart>(body).expect("parses");
        assert!(signed(r#"{"url":"u"}"#).is_success(200));
        assert!(!signed(r#"{"url":"u"}"#).is_success(201));
        assert!(signed(r#"{"url":"u","success_codes":[201]}"#).is_success(201));
        assert!(signed(r#"{"url":"u","report":{"success_codes":[204]}}"#).is_success(204));
        assert!(signed(r#"{"url":"u"}"#).wants_etag());
        assert!(signed(r#"{"url":"u","report":{"headers":["etag"]}}"#).wants_etag());
        assert!(!signed(r#"{"url":"u","report":{"headers":[]}}"#).wants_etag());
    }

    #[test]
    fn a_pause_is_read_from_either_header() {
        let mut response = response(429, "{}");
        response.headers.insert("x-ratelimit-reset", "1739264700".parse().expect("a value"));
        assert_eq!(announced_pause(&response, NOW), Some(Duration::from_secs(100)));
        response.headers.insert("retry-after", "7".parse().expect("a value"));
        assert_eq!(announced_pause(&response, NOW), Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_storages_refusal_shows_its_code_and_no_address() {
        let body =
            "<Error><Code>AccessDenied</Code><Url>https://b/?X-Amz-Signature=s</Url></Error>";
        let failure = classify_storage(&response(403, body));
        assert_eq!(failure.kind, FailureKind::PartRejected);
        assert_eq!(failure.message, "the storage refused the part: AccessDenied");
        let gone = classify_storage(&response(404, "<Code>NoSuchUpload</Code>"));
        assert_eq!(gone.kind, FailureKind::UploadGone);
        assert_eq!(classify_storage(&response(503, "SlowDown")).kind, FailureKind::ServerFault);
    }

    #[test]
    fn our_mark_is_read_back() {
        let mark = ContentMark {
            part_size: PartSize::new(64).expect("not zero"),
            md5_of_parts: Md5([9; 16]),
        };
        assert_eq!(parse_mark(&render_mark(mark)), Some(mark));
        assert_eq!(parse_mark("0:00"), None);
    }

    #[test]
    fn dates_are_read() {
        assert_eq!(
            parse_date("Tue, 11 Feb 2025 20:30:00 GMT"),
            Some(WallTime(1_739_305_800_000_000_000))
        );
    }
}

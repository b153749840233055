//! Seven Bridges' JSON: the shapes of bodies, and pure functions from a body to a value.
//!
//! Owns all knowledge of the vendor's JSON. Unknown fields are ignored and never sent back. An
//! optional field with an unexpected type counts as absent; a required one makes the answer a
//! `BadAnswer`. Ids are opaque, but one that would change the path of an address is refused. Signed
//! addresses print as `[redacted]`.
//!
//! The meaning of failed answers is in [`super::answers`].

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::model::{
    ByteCount, ContentMark, ETag, Failure, FailureKind, Md5, PartNote, PartNumber, PartSize,
    RemoteFile, RemoteFileId, RemotePart, RemoteUpload, RemoteUploadId, WallTime,
};
use crate::platform::answer::parse_time;
use crate::platform::bounded::{Small, file_size, lenient, list};
use crate::platform::http::Response;

/// The metadata key of our digest.
pub(super) const MARK_KEY: &str = "dropferry_digest";
/// Real ids have 24 to 64 characters.
const ID_MAX: usize = 200;
/// Header names in one report: the vendor's documentation shows one.
const HEADERS_MAX: usize = 32;
/// Real names have at most 255 characters; a longer one belongs to no answer of ours.
const NAME_MAX: usize = 4096;

#[derive(Debug, Serialize)]
pub(super) struct BeginBody<'a> {
    #[serde(flatten)]
    pub(super) place: FolderPlace<'a>,
    pub(super) name: &'a str,
    pub(super) size: u64,
    pub(super) part_size: u64,
}

/// A project's top, or a folder: never both.
#[derive(Debug, Clone, Copy, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum FolderPlace<'a> {
    Project(&'a str),
    Parent(&'a str),
}

impl<'a> FolderPlace<'a> {
    pub(super) fn query(self) -> (&'static str, &'a str) {
        match self {
            Self::Project(id) => ("project", id),
            Self::Parent(id) => ("parent", id),
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct FolderBody<'a> {
    #[serde(flatten)]
    pub(super) place: FolderPlace<'a>,
    pub(super) name: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
}

#[derive(Debug, Serialize)]
pub(super) struct RenameBody<'a> {
    pub(super) name: &'a str,
}

/// A list of parts, each with its ETag.
#[derive(Debug, Serialize)]
pub(super) struct PartsBody {
    pub(super) parts: Vec<ReportedPart>,
}

impl PartsBody {
    pub(super) fn of(parts: &[RemotePart]) -> Self {
        Self { parts: parts.iter().map(ReportedPart::report).collect() }
    }
}

/// An upload in progress, in any of the calls that return it.
#[derive(Debug, Deserialize)]
pub(super) struct SevenBridgesUpload {
    pub(super) upload_id: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) name: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) project: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) parent: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub(super) size: Option<u64>,
    pub(super) part_size: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    parallel_uploads: Option<bool>,
    #[serde(default, deserialize_with = "lenient")]
    initiated: Option<String>,
    parts: Option<ListedParts>,
}

impl SevenBridgesUpload {
    /// Returns its id.
    ///
    /// # Errors
    /// `BadAnswer` when it has no usable one.
    pub(super) fn id(&self) -> Result<RemoteUploadId, Failure> {
        checked_id(self.upload_id.as_deref(), "an upload").map(RemoteUploadId::new)
    }

    /// Returns the layout that the platform chose; ours where it gives none.
    ///
    /// # Errors
    /// `BadAnswer` when no file could be sent in it.
    pub(super) fn layout(&self, size: ByteCount, wish: PartSize) -> Result<RemoteUpload, Failure> {
        let part_size = self.part_size.map_or(Some(wish), PartSize::new);
        let part_size =
            part_size.ok_or_else(|| bad("the platform settled on parts that cannot be so long"))?;
        let part_count = part_size
            .count_for(size)
            .ok_or_else(|| bad("the platform settled on absurdly small parts"))?;
        let sequential = self.parallel_uploads == Some(false);
        Ok(RemoteUpload { id: self.id()?, part_size, part_count, sequential })
    }

    /// Returns when it was begun, by the platform's clock.
    pub(super) fn initiated_at(&self) -> Option<WallTime> {
        self.initiated.as_deref().and_then(parse_time)
    }

    /// Returns the parts that were reported to the platform.
    ///
    /// # Errors
    /// `BadAnswer` when it returns none although they were requested, or one twice.
    pub(super) fn listed_parts(&self) -> Result<Vec<RemotePart>, Failure> {
        let shown =
            self.parts.as_ref().ok_or_else(|| bad("the platform shows no list of parts"))?;
        let mut parts = BTreeMap::new();
        for part in &shown.0 {
            let part =
                part.listed().ok_or_else(|| bad("the platform shows a part without number"))?;
            if parts.insert(part.number, part).is_some() {
                return Err(bad("the platform shows a part twice"));
            }
        }
        Ok(parts.into_values().collect())
    }
}

/// The parts that were reported to the platform.
#[derive(Debug, Deserialize)]
struct ListedParts(#[serde(deserialize_with = "list")] Vec<ListedPart>);

#[derive(Debug, Deserialize)]
struct ListedPart {
    part_number: u32,
    response: Option<ListedResponse>,
}

#[derive(Debug, Deserialize)]
struct ListedResponse {
    headers: Option<ListedHeaders>,
}

/// The ETag among the reported header lines: of ten thousand parts nothing else is kept.
#[derive(Debug, Default)]
struct ListedHeaders {
    etag: Option<String>,
}

impl<'de> Deserialize<'de> for ListedHeaders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderLines;
        impl<'de> Visitor<'de> for HeaderLines {
            type Value = ListedHeaders;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("header lines")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut lines: A) -> Result<ListedHeaders, A::Error> {
                let mut headers = ListedHeaders::default();
                while let Some(name) = lines.next_key::<String>()? {
                    if name.eq_ignore_ascii_case("etag") {
                        let value: Small = lines.next_value()?;
                        headers.etag = value.0.as_str().map(str::to_owned);
                    } else {
                        lines.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(headers)
            }
        }
        deserializer.deserialize_map(HeaderLines)
    }
}

impl ListedPart {
    fn listed(&self) -> Option<RemotePart> {
        let headers = self.response.as_ref().and_then(|response| response.headers.as_ref());
        let etag = headers.and_then(|headers| headers.etag.as_deref()).unwrap_or("");
        let number = PartNumber::new(self.part_number)?;
        Some(RemotePart { number, etag: ETag::from_header(etag), note: None })
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ReportedPart {
    part_number: u32,
    response: Option<PartResponse>,
}

#[derive(Debug, Serialize)]
struct PartResponse {
    headers: Option<BTreeMap<String, Value>>,
}

impl ReportedPart {
    pub(super) fn report(part: &RemotePart) -> Self {
        let etag = || BTreeMap::from([("ETag".to_owned(), Value::String(part.etag.to_string()))]);
        let noted = part.note.as_ref().and_then(|note| serde_json::from_str(note.as_str()).ok());
        let headers = Some(noted.unwrap_or_else(etag));
        Self { part_number: part.number.get(), response: Some(PartResponse { headers }) }
    }
}

/// An address that is as good as a credential: prints as `[redacted]`.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct SignedUrl(String);

impl SignedUrl {
    /// Returns the address, for the one request it is for.
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A signed address for one part, and how to use it.
#[derive(Deserialize)]
pub(super) struct SignedPart {
    method: Option<String>,
    pub(super) url: SignedUrl,
    headers: Option<BTreeMap<String, String>>,
    #[serde(default, deserialize_with = "lenient")]
    success_codes: Option<Vec<u16>>,
    #[serde(default, deserialize_with = "lenient")]
    report: Option<SignedReport>,
}

#[derive(Deserialize)]
struct SignedReport {
    #[serde(default, deserialize_with = "lenient")]
    headers: Option<Vec<String>>,
    #[serde(default, deserialize_with = "lenient")]
    success_codes: Option<Vec<u16>>,
}

impl SignedPart {
    /// Returns the method; `None` for one that carries no bytes.
    pub(super) fn method(&self) -> Option<reqwest::Method> {
        match self.method.as_deref() {
            None | Some("PUT" | "put") => Some(reqwest::Method::PUT),
            Some("POST" | "post") => Some(reqwest::Method::POST),
            Some(_) => None,
        }
    }

    /// Returns exactly the header lines to send.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().flatten().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns whether the storage's status means success.
    pub(super) fn is_success(&self, status: u16) -> bool {
        let below = self.report.as_ref().and_then(|report| report.success_codes.as_ref());
        let codes = self.success_codes.as_ref().or(below).filter(|codes| !codes.is_empty());
        codes.map_or(status == 200, |codes| codes.contains(&status))
    }

    /// Collects from the storage's answer what the platform wants reported, under the requested
    /// names; `None` where that is the ETag alone. A missing header is left out.
    ///
    /// # Errors
    /// `BadAnswer` when more is requested than is kept.
    pub(super) fn collect(&self, response: &Response) -> Result<Option<PartNote>, Failure> {
        let wanted = self.report.as_ref().and_then(|report| report.headers.as_ref());
        let is_etag = |name: &String| name.eq_ignore_ascii_case("etag");
        let Some(wanted) = wanted.filter(|names| !names.iter().all(is_etag)) else {
            return Ok(None);
        };
        let value = |name: &String| {
            let all = response.headers.get_all(name.as_str()).iter();
            let all: Vec<_> = all.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
            let text = (!all.is_empty()).then(|| all.join(", "))?;
            // As it is reported where nothing else is requested.
            Some(if is_etag(name) { ETag::from_header(&text).to_string() } else { text })
        };
        let found = wanted.iter().take(HEADERS_MAX + 1);
        let found: BTreeMap<_, _> = found.filter_map(|name| Some((name, value(name)?))).collect();
        let text = serde_json::to_string(&found).unwrap_or_default();
        let note = PartNote::new(&text).filter(|_| wanted.len() <= HEADERS_MAX);
        note.map(Some).ok_or_else(|| bad("the platform wants more headers reported than are kept"))
    }

    /// Returns whether the platform requires the ETag.
    pub(super) fn wants_etag(&self) -> bool {
        let wanted = self.report.as_ref().and_then(|report| report.headers.as_ref());
        wanted.is_none_or(|names| names.iter().any(|name| name.eq_ignore_ascii_case("etag")))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct SevenBridgesFile {
    id: Option<String>,
    pub(super) name: Option<String>,
    #[serde(default, rename = "type", deserialize_with = "lenient")]
    kind: Option<String>,
    #[serde(default, deserialize_with = "file_size")]
    size: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    created_on: Option<String>,
    #[serde(default)]
    metadata: Small,
}

impl SevenBridgesFile {
    /// Returns whether it is a folder; the case of the word differs between calls.
    pub(super) fn is_folder(&self) -> bool {
        self.kind.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("folder"))
    }

    /// Returns it as a remote file. A folder is a file without size: its name is taken all the same.
    ///
    /// # Errors
    /// `BadAnswer` when it has no usable id or name.
    pub(super) fn remote(self) -> Result<RemoteFile, Failure> {
        let id = RemoteFileId::new(checked_id(self.id.as_deref(), "a file")?);
        let size = if self.is_folder() { None } else { self.size.map(ByteCount) };
        let mark = self.metadata.0.get(MARK_KEY).and_then(Value::as_str).and_then(parse_mark);
        let created_at = self.created_on.as_deref().and_then(parse_time);
        match self.name {
            Some(name) if !name.is_empty() && name.len() <= NAME_MAX => {
                Ok(RemoteFile { mark, created_at, ..RemoteFile::known_as(id, name, size) })
            }
            Some(_) | None => Err(bad("the platform named a file without a usable name")),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub(super) struct SevenBridgesPage<T> {
    #[serde(deserialize_with = "list")]
    pub(super) items: Vec<T>,
}

/// The fields of a project in use.
#[derive(Debug, Deserialize)]
pub(super) struct SevenBridgesProject {
    #[serde(default, deserialize_with = "lenient")]
    pub(super) root_folder: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    permissions: Option<Permissions>,
}

#[derive(Debug, Deserialize)]
struct Permissions {
    #[serde(default, deserialize_with = "lenient")]
    write: Option<bool>,
}

impl SevenBridgesProject {
    /// Returns whether the platform says that we may not write.
    pub(super) fn forbids_writing(&self) -> bool {
        self.permissions.as_ref().and_then(|permissions| permissions.write) == Some(false)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct TokenOwner {
    pub(super) username: Option<String>,
}

/// Builds the failure of an unusable answer.
pub(super) fn bad(message: &str) -> Failure {
    Failure::new(FailureKind::BadAnswer, message)
}

/// Refuses ids that could not be one segment of an address.
fn checked_id(id: Option<&str>, of: &str) -> Result<String, Failure> {
    let usable = |id: &&str| {
        (1..=ID_MAX).contains(&id.len())
            && *id != "."
            && *id != ".."
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
    };
    let id = id.filter(usable);
    id.map(str::to_owned)
        .ok_or_else(|| bad(&format!("the platform named {of} without a usable id")))
}

/// Returns our digest as it is stored with a file.
pub(super) fn render_mark(mark: ContentMark) -> String {
    format!("{}:{}", mark.part_size.get(), mark.md5_of_parts)
}

fn parse_mark(text: &str) -> Option<ContentMark> {
    let (size, md5) = text.split_once(':')?;
    let part_size = PartSize::new(size.parse().ok()?)?;
    Some(ContentMark { part_size, md5_of_parts: Md5::parse(md5)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(body: &str) -> SignedPart {
        serde_json::from_str(body).expect("parses")
    }

    fn upload(body: &str) -> SevenBridgesUpload {
        serde_json::from_str(body).expect("parses")
    }

    fn size(bytes: u64) -> PartSize {
        PartSize::new(bytes).expect("not zero")
    }

    #[test]
    fn a_recorded_initialisation_is_read() {
        let told = upload(
            r#"{"href":"https://cavatica-api.sbgenomics.com/v2/upload/multipart/q7Rk",
                "upload_id":"q7RkXn0b","project":"nwlab/novaseq-runs","name":"a.fastq.gz",
                "size":7340032000,"part_size":67108864,"parallel_uploads":true,"more":{"a":[1]}}"#,
        );
        let layout = told.layout(ByteCount(7_340_032_000), size(5)).expect("usable");
        assert_eq!(layout.id, RemoteUploadId::new("q7RkXn0b"));
        assert_eq!((layout.part_size, layout.part_count), (size(67_108_864), 110));
        assert!(!layout.sequential);
    }

    #[test]
    fn a_layout_is_the_platforms_or_ours_and_never_absurd() {
        let layout = |body: &str, bytes| upload(body).layout(ByteCount(bytes), size(10));
        let ours = layout(r#"{"upload_id":"u"}"#, 25).expect("ours");
        assert_eq!((ours.part_size, ours.part_count), (size(10), 3));
        let empty = layout(r#"{"upload_id":"u","part_size":100}"#, 0).expect("one empty part");
        assert_eq!(empty.part_count, 1);
        assert!(layout(r#"{"upload_id":"u","parallel_uploads":false}"#, 1).expect("u").sequential);
        assert!(!layout(r#"{"upload_id":"u","parallel_uploads":"no"}"#, 1).expect("u").sequential);
        let large = layout(r#"{"upload_id":"u","part_size":5497558138880}"#, 25);
        assert_eq!(large.expect("one part").part_count, 1);
        for body in [
            r#"{"upload_id":"u","part_size":0}"#,
            r#"{"upload_id":"u","part_size":5497558138881}"#,
            r#"{"upload_id":"u","part_size":9223372036854775808}"#,
            r#"{"upload_id":"u","part_size":18446744073709551615}"#,
            r#"{"part_size":5}"#,
            "{}",
        ] {
            assert_eq!(layout(body, 25).expect_err(body).kind, FailureKind::BadAnswer);
        }
        let many = layout(r#"{"upload_id":"u","part_size":1}"#, u64::MAX);
        assert_eq!(many.expect_err("too many").kind, FailureKind::BadAnswer);
        for body in [r#"{"part_size":-5}"#, r#"{"part_size":1e400}"#, r#"{"part_size":1.5}"#, "[]"]
        {
            assert!(serde_json::from_str::<SevenBridgesUpload>(body).is_err(), "{body}");
        }
    }

    #[test]
    fn an_id_that_leads_astray_is_refused() {
        let long = "x".repeat(201);
        for id in ["", ".", "..", "a/b", "a?b", "a#b", "a b", "a%2f", "a\u{e9}", "a\nb", &long] {
            let told = upload(&serde_json::json!({ "upload_id": id }).to_string());
            assert_eq!(told.id().expect_err(id).kind, FailureKind::BadAnswer);
        }
        assert!(upload(r#"{"upload_id":"aZ0-_.~"}"#).id().is_ok());
    }

    #[test]
    fn listed_parts_come_in_order_without_quotes() {
        let told = upload(
            r#"{"upload_id":"u","parts":[
                {"part_number":2,"response":{"headers":{"etag":"\"bb\""}}},
                {"part_number":1,"response":{"headers":{"ETag":"aa","X":7}}},
                {"part_number":3},{"part_number":4,"response":{"headers":{"ETag":null}}}]}"#,
        );
        let parts = told.listed_parts().expect("listed");
        let seen: Vec<_> = parts.iter().map(|p| (p.number.get(), p.etag.as_str())).collect();
        assert_eq!(seen, [(1, "aa"), (2, "bb"), (3, ""), (4, "")]);
        for parts in ["null", r#"[{"part_number":0}]"#, r#"[{"part_number":1},{"part_number":1}]"#]
        {
            let told = upload(&format!(r#"{{"upload_id":"u","parts":{parts}}}"#));
            assert_eq!(told.listed_parts().expect_err(parts).kind, FailureKind::BadAnswer);
        }
    }

    #[test]
    fn success_codes_are_read_from_both_places() {
        assert!(signed(r#"{"url":"u"}"#).is_success(200));
        assert!(!signed(r#"{"url":"u"}"#).is_success(201));
        assert!(signed(r#"{"url":"u","success_codes":[201]}"#).is_success(201));
        assert!(!signed(r#"{"url":"u","success_codes":[201]}"#).is_success(200));
        assert!(signed(r#"{"url":"u","report":{"success_codes":[204]}}"#).is_success(204));
        for odd in ["null", "[]", "\"200\"", "[-1]", "[99999999999]"] {
            let body = format!(r#"{{"url":"u","success_codes":{odd}}}"#);
            assert!(signed(&body).is_success(200) && !signed(&body).is_success(403), "{odd}");
        }
    }

    #[test]
    fn an_etag_is_wanted_unless_the_platform_says_otherwise() {
        for (report, wants) in [
            (r#"{"headers":["etag"]}"#, true),
            (r#"{"headers":["ETag","X"]}"#, true),
            (r#"{"headers":[]}"#, false),
            (r#"{"headers":["x-other"]}"#, false),
            ("{}", true),
            ("null", true),
            ("7", true),
        ] {
            let body = format!(r#"{{"url":"u","report":{report}}}"#);
            assert_eq!(signed(&body).wants_etag(), wants, "{report}");
        }
        assert!(signed(r#"{"url":"u"}"#).wants_etag());
    }

    #[test]
    fn only_methods_that_carry_bytes_are_used() {
        let method = |name: &str| signed(&format!(r#"{{"url":"u","method":{name}}}"#)).method();
        assert_eq!(method("null"), Some(reqwest::Method::PUT));
        assert_eq!(method("\"PUT\""), Some(reqwest::Method::PUT));
        assert_eq!(method("\"POST\""), Some(reqwest::Method::POST));
        assert_eq!(method("\"DELETE\""), None);
    }

    #[test]
    fn a_signed_address_does_not_print_itself() {
        assert_eq!(format!("{:?}", signed(r#"{"url":"planted"}"#).url), "[redacted]");
    }

    #[test]
    fn a_recorded_file_is_read() {
        let body = r#"{"href":"h","id":"65a1f0c2e4b0aa11bb22cc33","name":"S1.gz","type":"FILE",
            "size":7340032000,"created_on":"2025-02-11T09:02:11Z","origin":{},"tags":[],
            "metadata":{"sample":null,"n":5,"dropferry_digest":"64:09090909090909090909090909090909"}}"#;
        let file: SevenBridgesFile = serde_json::from_str(body).expect("parses");
        assert!(!file.is_folder());
        let file = file.remote().expect("a file");
        assert_eq!(file.size, Some(ByteCount(7_340_032_000)));
        assert_eq!(file.created_at, Some(WallTime(1_739_264_531_000_000_000)));
        let mark = ContentMark { part_size: size(64), md5_of_parts: Md5([9; 16]) };
        assert_eq!(file.mark, Some(mark));
        assert_eq!(parse_mark(&render_mark(mark)), Some(mark));
    }

    #[test]
    fn odd_files_are_read_as_far_as_they_go() {
        let file = |body: &str| {
            serde_json::from_str::<SevenBridgesFile>(body).map(SevenBridgesFile::remote)
        };
        let folder = file(r#"{"id":"f","name":"n","type":"FOLDER","size":7}"#).expect("parses");
        assert_eq!(folder.expect("a folder").size, None);
        for metadata in
            ["null", "[]", "7", r#"{"dropferry_digest":7}"#, r#"{"dropferry_digest":"x"}"#]
        {
            let body = format!(r#"{{"id":"f","name":"n","metadata":{metadata}}}"#);
            assert_eq!(file(&body).expect("parses").expect("a file").mark, None, "{metadata}");
        }
        for body in ["{}", r#"{"id":"f"}"#, r#"{"name":"n"}"#, r#"{"id":"f","name":""}"#] {
            assert!(file(body).expect("parses").is_err(), "{body}");
        }
        for body in [r#"{"id":7,"name":"n"}"#, r#"{"id":"f","name":"n","size":-1}"#, "[]", "null"] {
            assert!(file(body).is_err(), "{body}");
        }
        for text in ["", ":", "0:09090909090909090909090909090909", "5:09", "-5:x", "5"] {
            assert_eq!(parse_mark(text), None, "{text}");
        }
    }

    #[test]
    fn dates_are_read() {
        let date = Some(WallTime(1_739_305_800_000_000_000));
        assert_eq!(crate::platform::answer::parse_date("Tue, 11 Feb 2025 20:30:00 GMT"), date);
        assert_eq!(crate::platform::answer::parse_date("yesterday"), None);
    }
}

//! BaseSpace's JSON: envelopes, and the few fields in use. Unknown ones are ignored.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::model::{
    ByteCount, ContentMark, ETag, Failure, PartSize, RemoteFile, RemoteFileId, WallTime,
};
use crate::platform::answer::{is_foreign, parse_error, parse_list, parse_time};
use crate::platform::bounded::{Small, file_size, list};
use crate::platform::http::Response;
use crate::platform::mark;

/// A longer id is invalid.
const ID_MAX: usize = 64;
/// Part sizes that this vendor's clients use. The first is the largest that we send, to which larger
/// wishes are cut: several sizes may give the same number of parts, and only one can be tried.
const PART_SIZES: [u64; 4] = [25_000_000, 20_971_520, 26_214_400, 25_600_000];

/// The error in an answer.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    /// The body is neither JSON nor empty, so the platform did not write it.
    pub(super) is_foreign: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ErrorAnswer {
    error_code: Option<String>,
    message: Option<String>,
    message_formatted: Option<String>,
    response_status: Option<BaseSpaceStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct BaseSpaceStatus {
    error_code: Option<String>,
    message: Option<String>,
}

/// Parses the error in an answer, from the envelope or from the top level.
pub(super) fn said(body: &[u8]) -> Complaint {
    let Some(top) = parse_error::<ErrorAnswer>(body) else {
        return Complaint { is_foreign: is_foreign(body), ..Complaint::default() };
    };
    let status = top.response_status.unwrap_or_default();
    let given = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    Complaint {
        code: given(status.error_code).or(given(top.error_code)),
        message: given(status.message).or(given(top.message_formatted)).or(given(top.message)),
        is_foreign: false,
    }
}

/// Returns whether a body is an error in the vendor's form.
pub(super) fn has_form(body: &[u8]) -> bool {
    let Complaint { code, message, .. } = said(body);
    code.is_some() || message.is_some()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BaseSpaceEnvelope<T> {
    response: T,
}

/// Returns the content of an answer's envelope.
///
/// # Errors
/// `BadAnswer` when it does not match the call.
pub(super) fn response<T: serde::de::DeserializeOwned>(response: &Response) -> Result<T, Failure> {
    parse_list::<BaseSpaceEnvelope<T>>(response).map(|envelope| envelope.response)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", bound(deserialize = "T: Deserialize<'de>"))]
pub(super) struct BaseSpacePage<T> {
    #[serde(deserialize_with = "list")]
    pub(super) items: Vec<T>,
    pub(super) total_count: Option<usize>,
}

/// The account of a token.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BaseSpaceUser {
    #[serde(rename = "Id", deserialize_with = "id")]
    _id: String,
    pub(super) name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BaseSpaceProject {
    #[serde(deserialize_with = "id")]
    pub(super) id: String,
    #[serde(default)]
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AppResult {
    #[serde(deserialize_with = "id")]
    pub(super) id: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) status: String,
    app_session: Option<AppSession>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AppSession {
    #[serde(deserialize_with = "id")]
    id: String,
    #[serde(default)]
    status: String,
}

impl AppSession {
    /// Returns whether it was completed.
    pub(super) fn is_complete(&self) -> bool {
        self.status.eq_ignore_ascii_case("complete")
    }
}

impl AppResult {
    /// Returns the id of its AppSession, where given.
    pub(super) fn session(&self) -> Option<&str> {
        self.app_session.as_ref().map(|session| session.id.as_str())
    }

    /// Returns whether it accepts files.
    pub(super) fn is_running(&self) -> bool {
        self.status.eq_ignore_ascii_case("running")
    }
}

/// The body with the name of a new project or AppResult.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Named<'a> {
    pub(super) name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) description: &'a str,
}

/// The state of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UploadStatus {
    /// Parts may be sent.
    Pending,
    /// It is complete, and read only.
    Complete,
    /// It was aborted.
    Aborted,
    /// Any other state, in the vendor's word.
    Undefined,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BaseSpaceFile {
    #[serde(deserialize_with = "id")]
    pub(super) id: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    path: String,
    #[serde(default, deserialize_with = "file_size")]
    pub(super) size: Option<u64>,
    upload_status: Option<String>,
    date_created: Option<String>,
    #[serde(rename = "ETag")]
    etag: Option<String>,
}

impl BaseSpaceFile {
    /// Returns its state; a file that was completed long ago has none.
    pub(super) fn status(&self) -> UploadStatus {
        let Some(word) = &self.upload_status else { return UploadStatus::Complete };
        match word.to_ascii_lowercase().as_str() {
            "pending" => UploadStatus::Pending,
            "complete" => UploadStatus::Complete,
            "aborted" => UploadStatus::Aborted,
            _ => UploadStatus::Undefined,
        }
    }

    /// Returns its path in the AppResult, without a leading slash.
    pub(super) fn path(&self) -> &str {
        let path = self.path.trim_start_matches('/');
        if path.is_empty() { &self.name } else { path }
    }

    /// Returns the storage's ETag of its content, where there is one.
    pub(super) fn etag(&self) -> Option<ETag> {
        etag(self.etag.as_deref())
    }

    pub(super) fn created_at(&self) -> Option<WallTime> {
        self.date_created.as_deref().and_then(parse_time)
    }

    /// Returns it as a remote file.
    pub(super) fn remote(&self) -> RemoteFile {
        let size = self.size.map(ByteCount);
        RemoteFile {
            id: RemoteFileId::new(&self.id),
            name: self.name.clone(),
            size,
            mark: size.zip(self.etag()).and_then(|(size, etag)| mark_of(&etag, size)),
            created_at: self.created_at(),
            etag: None,
            version: None,
            maker: None,
        }
    }
}

fn etag(text: Option<&str>) -> Option<ETag> {
    text.map(ETag::from_header).filter(|etag| !etag.as_str().is_empty())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BaseSpacePart {
    pub(super) number: Option<u32>,
    #[serde(default, deserialize_with = "file_size")]
    pub(super) size: Option<u64>,
    #[serde(rename = "ETag")]
    etag: Option<String>,
}

impl BaseSpacePart {
    pub(super) fn etag(&self) -> Option<ETag> {
        etag(self.etag.as_deref())
    }
}

/// Returns what an ETag proves. The part size is not reported: the sizes in use are tried, then the
/// roundest one with the same number of parts.
pub(super) fn mark_of(etag: &ETag, size: ByteCount) -> Option<ContentMark> {
    let Some((_, count)) = etag.as_str().split_once('-') else {
        return mark::of_etag(etag, size, None);
    };
    let count: u64 = count.parse().ok().filter(|count| *count > 0)?;
    let fits = |part_size: &u64| {
        let made = PartSize::new(*part_size).and_then(|part_size| part_size.count_for(size));
        made.map(u64::from) == Some(count)
    };
    let least = size.0.div_ceil(count).max(1);
    let rounded = (0..=20).rev().map(|shift| least.next_multiple_of(1 << shift));
    let part_size = PART_SIZES.into_iter().chain(rounded).find(fits);
    mark::of_etag(etag, size, part_size)
}

/// Parses an id, which the vendor writes as text, and in some lists as a number.
fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = match Small::deserialize(deserializer)?.0 {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
    };
    let is_usable = !text.is_empty()
        && text.len() <= ID_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    is_usable.then_some(text).ok_or_else(|| serde::de::Error::custom("no id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_of_many_parts_proves_what_the_planners_sizes_make() {
        let digest = "0".repeat(32);
        for (size, count, expected) in [
            (57_995_799, 3, Some(25_000_000)),
            (100_000_000, 5, Some(20_971_520)),
            (250_000_000_000, 10_000, Some(25_000_000)),
            (24 << 20, 96, Some(256 << 10)),
            (100 << 20, 4, Some(26_214_400)),
            (10, 0, None),
        ] {
            let etag = ETag::from_header(&format!("\"{digest}-{count}\""));
            let mark = mark_of(&etag, ByteCount(size));
            assert_eq!(mark.map(|mark| mark.part_size.get()), expected, "{size} in {count}");
        }
        let whole = mark_of(&ETag::from_header(&digest), ByteCount(7)).expect("an MD5");
        assert_eq!(whole.part_size.get(), 7);
        assert_eq!(mark_of(&ETag::from_header("opaque"), ByteCount(7)), None);
    }
}

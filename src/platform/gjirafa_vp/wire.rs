//! Gjirafa VP on the wire: results and bodies, ids, and what must hold of them before use.

use std::time::Duration;

use serde::Deserialize;

use super::addresses::Signed;
use crate::model::{
    ByteCount, ETag, Failure, FailureKind, PartNumber, RemoteFile, RemoteFileId, RemotePart,
    RemoteUpload, RemoteUploadId, WallTime,
};
use crate::platform::answer::bad;
use crate::platform::contract::{BeginRequest, CompleteRequest};
use crate::platform::http::parse_url;
use crate::platform::s3::signed_until;

/// Hours that signed addresses are asked to live; the vendor allows 1 to 168.
pub(super) const LIFE_HOURS: u64 = 48;
/// Longest file name, in bytes.
const NAME_MAX: usize = 255;
/// Longest request key, in bytes.
const KEY_MAX: usize = 1024;
/// Before the key of an upload of one request.
pub(super) const SINGLE: &str = "single:";

/// An upload that was begun or resumed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Begun {
    pub(super) request_key: Option<String>,
    pub(super) presigned_url: Option<Vec<Address>>,
    /// Of an upload of one request.
    pub(super) url: Option<String>,
}

/// The signed address of a part.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Address {
    pub(super) part_number: u32,
    pub(super) presigned_url: String,
}

/// A part that arrived.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    part_number: u32,
    size: u64,
    /// With quotes or without, as it must be repeated.
    e_tag: String,
}

/// Takes a remembered id apart: the request key, and whether the upload is a single request.
pub(super) fn key_of(id: &RemoteUploadId) -> (&str, bool) {
    let single = id.as_str().strip_prefix(SINGLE).map(|key| (key, true));
    single.unwrap_or((id.as_str(), false))
}

/// Returns the key of an upload that was begun, when it can be used.
pub(super) fn usable(key: Option<&str>) -> Result<&str, Failure> {
    let is_plain = |key: &&str| {
        let is_known = !["", ".", ".."].contains(key) && !key.starts_with(SINGLE);
        is_known && key.len() <= KEY_MAX && !key.contains(char::is_control)
    };
    key.filter(is_plain).ok_or_else(|| bad("an upload without a usable key"))
}

/// Returns the name that a file is sent under.
pub(super) fn file_name(name: &str) -> String {
    let plain = |c: char| if c == '/' || c.is_control() { '_' } else { c };
    let mut name: String = name.chars().map(plain).collect();
    name.truncate(name.floor_char_boundary(NAME_MAX));
    name
}

/// Takes addresses, by their numbers; of an upload just begun there must be all `count` of them.
///
/// # Errors
/// `BadRequest` when parts are counted from 0, which no guess puts right; `BadAnswer`.
pub(super) fn signed(
    addresses: Option<Vec<Address>>,
    count: Option<u32>,
    now: WallTime,
) -> Result<Signed, Failure> {
    let mut signed = Signed::default();
    for address in addresses.ok_or_else(|| bad("no addresses"))? {
        if address.part_number == 0 {
            let message = "the platform counts parts from 0, which this client does not know";
            return Err(Failure::new(FailureKind::BadRequest, message));
        }
        let url = parse_url(&address.presigned_url)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad(
                "an address with a user name, which would be sent as an authorisation",
            ));
        }
        // One that does not say when it ends does so when it was asked to.
        let end = signed_until(&url).unwrap_or(now.after(Duration::from_hours(LIFE_HOURS)));
        signed.expires_at = Some(signed.expires_at.map_or(end, |first| first.min(end)));
        if signed.urls.insert(address.part_number, url).is_some() {
            return Err(bad("two addresses for one part"));
        }
    }
    let is_all = |count| signed.urls.keys().copied().eq(1..=count);
    match count.is_none_or(is_all) {
        true => Ok(signed),
        false => Err(bad("addresses for other parts than were asked for")),
    }
}

/// Returns the parts of a listing that have a planned length; only the last may be shorter.
pub(super) fn whole_parts(listed: &[Listed], remote: &RemoteUpload) -> Vec<RemotePart> {
    let full = remote.part_size.get();
    let part = |part: &Listed| {
        let is_last = part.part_number == remote.part_count;
        let is_whole = part.size == full || (is_last && (1..full).contains(&part.size));
        let number = PartNumber::new(part.part_number).filter(|_| is_whole)?;
        Some(RemotePart { number, etag: ETag::from_header(&part.e_tag) })
    };
    listed.iter().filter_map(part).collect()
}

/// Returns number and ETag, as listed, of every part in order, when the listing proves the file.
///
/// # Errors
/// `CompleteRefused` when a part is missing, or another than we sent.
pub(super) fn proved<'a>(
    request: &CompleteRequest,
    listed: &'a [Listed],
) -> Result<Vec<(u32, &'a str)>, Failure> {
    let refused = |what: String| Failure::new(FailureKind::CompleteRefused, what);
    let count = request.remote.part_count as usize;
    if listed.len() != count || request.parts.len() != count {
        let message = format!("the platform lists {} parts of {count}", listed.len());
        return Err(refused(message));
    }
    let prove = |(index, sent): (usize, &RemotePart)| {
        let number = PartNumber::from_index(index);
        let planned = request.remote.part_size.range_of(number, request.begun.size).length;
        let is_ours = |found: &&Listed| {
            let etag = ETag::from_header(&found.e_tag);
            sent.number == number && found.size == planned && etag == sent.etag
        };
        let found = listed.iter().find(|found| found.part_number == number.get());
        let found = found.filter(is_ours).map(|found| (number.get(), found.e_tag.as_str()));
        found.ok_or_else(|| refused(format!("the platform does not list part {number} as sent")))
    };
    request.parts.iter().enumerate().map(prove).collect()
}

/// Returns a completed file. Its length is kept in its id, for nobody can be asked for it later.
pub(super) fn file(key: &str, request: &BeginRequest) -> RemoteFile {
    let id = RemoteFileId::new(format!("{key}:{}", request.size.0));
    RemoteFile::known_as(id, file_name(&request.target.name), Some(request.size))
}

/// Returns what the id of a file holds.
pub(super) fn remembered(id: &RemoteFileId) -> Option<RemoteFile> {
    let (key, size) = id.as_str().rsplit_once(':')?;
    Some(RemoteFile::known_as(id.clone(), key, Some(ByteCount(size.parse().ok()?))))
}

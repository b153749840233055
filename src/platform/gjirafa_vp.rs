//! Gjirafa VP: files of one project, sent as multipart uploads.
//!
//! Owns the calls. Their sequence is in `uploads`, signed addresses are in `addresses`, shapes and
//! their meaning in `wire`.
//!
//! The vendor's rules behind the design: the key of an upload is its only name, and nothing can be looked up,
//! so a begin with a lost answer leaves an upload that nobody can name and that is never completed; a
//! complete always says `allowPartialComplete: false`, and only after a listing showed every part complete,
//! because otherwise a file with gaps would count as finished; the outcome of a complete with a lost answer
//! may stay unknown, and then nothing is begun again. There are no folders and no metadata.
//!
//! *Promises*: the key is sent only to the base URL's host, never to the storage; a signed address
//! is used unchanged, with no header but the length. *Never* retries, never follows a redirect.
//!
//! At a crash: see the three lines of every operation in [`super::contract`].

mod addresses;
mod uploads;
mod wire;

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::addresses::Addresses;
use super::account::Link;
use super::answer::of_another;
use super::api::{Api, json_headers};
use super::http::Request;
use super::s3;
use crate::model::{ByteCount, Describes, ETagLaw, Failure, PartLimits, Replaces, Traits};

/// A listing of more parts may be truncated without notice.
const PART_COUNT_MAX: u32 = 1000;

/// The longest answer with addresses: those of a thousand parts, each with a token of a few
/// kilobytes in it.
const ADDRESSES_MAX: usize = 6 * 1024 * 1024;

/// The rules of the storage behind it, which is S3-like; the vendor publishes none.
pub(crate) const TRAITS: Traits = Traits {
    limits: PartLimits {
        count_max: PART_COUNT_MAX,
        file_max: ByteCount(PART_COUNT_MAX as u64 * s3::TRAITS.limits.size_max.0),
        path_max: ByteCount(u64::MAX),
        ..s3::TRAITS.limits
    },
    describes: Describes::Never,
    finishes_runs: false,
    has_places: false,
    wants_md5_first: false,
    sends_whole: false,
    can_inspect: false,
    replaces: Replaces::Never,
    parts_need_account: false,
    etags: ETagLaw::Mostly { reads_back: false },
    ..s3::TRAITS
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The API's address, to which `/api/projects/…` is appended.
    pub base_url: String,
    pub project: String,
    /// The header with the key.
    pub auth_header: String,
    /// The text before the key, such as `"Bearer "`.
    pub auth_prefix: String,
}

/// The call; with the request key where it is in the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GjirafaCall<'a> {
    Begin,
    Single,
    Resume,
    List(&'a str),
    Complete,
    Abort,
    Success(&'a str),
}

impl<'a> GjirafaCall<'a> {
    /// Returns the method, the segments below `uploads`, and the name for people.
    fn shape(self) -> (Method, Vec<&'a str>, &'static str) {
        let (get, post, put) = (Method::GET, Method::POST, Method::PUT);
        match self {
            Self::Begin => (post, vec!["multipart"], "to begin an upload"),
            Self::Single => (post, vec!["url"], "to begin an upload"),
            Self::Resume => (post, vec!["multipart-resume"], "to sign the parts anew"),
            Self::List(key) => (get, vec!["url", "multipart", key, "parts"], "to list the parts"),
            Self::Complete => (put, vec!["multipart-complete"], "to complete the upload"),
            Self::Abort => (put, vec!["multipart-abort"], "to abort the upload"),
            Self::Success(key) => (post, vec!["success", key], "to tell where the file is"),
        }
    }
}

/// The client. It has no `Debug` output, because it holds signed addresses.
pub(crate) struct GjirafaVp {
    api: Api,
    project: String,
    addresses: Addresses,
}

impl GjirafaVp {
    /// Builds the client.
    pub(crate) fn new(settings: &Settings, link: Link) -> Result<Self, Failure> {
        let Settings { base_url, auth_header, auth_prefix, .. } = settings;
        let api = Api::new(base_url, auth_header, auth_prefix, link)?;
        let (project, addresses) = (settings.project.clone(), Addresses::default());
        Ok(Self { api, project, addresses })
    }

    /// Makes one call, and returns the content of its envelope.
    async fn call<T: DeserializeOwned>(
        &self,
        call: GjirafaCall<'_>,
        body: Option<Value>,
    ) -> Result<T, Failure> {
        let (method, path, _) = call.shape();
        let root = ["api", "projects", &self.project, "uploads"];
        let url = self.api.url(root.into_iter().chain(path), &[])?;
        let headers = json_headers(body.is_some());
        let body = body.map(|body| body.to_string().into());
        let patience = (call == GjirafaCall::Complete).then_some(s3::COMPLETE_PATIENCE);
        let gives_addresses = matches!(call, GjirafaCall::Begin | GjirafaCall::Resume);
        let answer_max = gives_addresses.then_some(ADDRESSES_MAX);
        let request = Request { headers, body, patience, answer_max };
        let response = self.api.send(method, url, request).await?;
        self.api.judged(|now| {
            let is_of_another = self.api.is_of_another(&response, wire::has_form(&response.body));
            let judged = wire::judge(call, &response, now);
            judged.map_err(|failure| if is_of_another { of_another(failure) } else { failure })
        })
    }
}

#[cfg(test)]
mod tests;

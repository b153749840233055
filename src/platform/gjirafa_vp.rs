//! Gjirafa VP: files of one project, sent as multipart uploads.
//!
//! Owns the conversation with the API: how a call is addressed, authorised, sent and judged. The
//! sequence of calls is in `uploads`; `addresses` keeps signed addresses, in memory only; `wire` has
//! the shapes and what must hold of them, `answers` the envelope and the error table.
//!
//! The rules that shape this: the key of an upload is its only name, and nothing can be looked up, so
//! a begin whose answer is lost leaves an upload that nobody can name, never completed; a complete
//! always says `allowPartialComplete: false`, and only after a listing showed every part whole, for
//! otherwise a file with holes would pass as finished; what became of a complete whose answer is lost
//! may stay unknown, and then nothing is begun anew. There are no folders and no metadata.
//!
//! *Promises*: the key goes to the base URL's host alone, never to the storage; a signed address is
//! sent as it was given, without any header but the length. *Never* retries, never follows a redirect.
//!
//! At a crash: see the three lines of every operation in [`super::contract`].

mod addresses;
mod answers;
mod uploads;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::addresses::Addresses;
use super::account::Account;
use super::contract::{Answer, BeginRequest, CompleteRequest, PartBody, PartRequest, Platform};
use super::credential::Credential;
use super::http::{Http, Request, TimeSource, header_map, parse_url};
use crate::model::{
    ByteCount, Completion, Describes, Description, ETag, Failure, FailureKind, PartLimits,
    RemoteFile, RemoteFileId, RemotePart, RemoteUpload, RemoteUploadId, Target, Traits, WallTime,
};

const MIB: u64 = 1024 * 1024;
/// A listing of more parts may be cut off without a word.
const PART_COUNT_MAX: u32 = 1000;

/// The rules of the storage behind it; the vendor publishes none.
pub const TRAITS: Traits = Traits {
    limits: PartLimits {
        size_min: ByteCount(5 * MIB),
        size_max: ByteCount(5 * 1024 * MIB),
        count_max: PART_COUNT_MAX,
        file_max: ByteCount(PART_COUNT_MAX as u64 * 5 * 1024 * MIB),
    },
    reports_parts: false,
    report_max: 1,
    describes: Describes::Never,
    finishes_drops: false,
    wants_md5_first: false,
};

/// Putting parts together can take minutes.
const COMPLETE_PATIENCE: Duration = Duration::from_mins(10);

/// A configured target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The API's address, to which `/api/projects/…` is added.
    pub base_url: String,
    /// The project's id.
    pub project: String,
    /// The header that carries the key.
    pub auth_header: String,
    /// What stands before the key, such as `"Bearer "`.
    pub auth_prefix: String,
}

impl Settings {
    /// Tells whether a project can stand in an address.
    pub fn is_project(text: &str) -> bool {
        let is_plain = |c: char| !c.is_control() && !"/?#".contains(c);
        !["", ".", ".."].contains(&text) && text.chars().all(is_plain)
    }

    /// Tells whether a header can have this name.
    pub fn is_header(text: &str) -> bool {
        HeaderName::from_bytes(text.as_bytes()).is_ok()
    }

    /// Tells whether this can stand before the key in a header.
    pub fn is_prefix(text: &str) -> bool {
        text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    }
}

/// Which call is made; with the request key where the address names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call<'a> {
    Begin,
    Single,
    Resume,
    List(&'a str),
    Complete,
    Abort,
    Success(&'a str),
}

impl<'a> Call<'a> {
    /// Returns the method, and the segments below `uploads`.
    fn place(self) -> (Method, Vec<&'a str>) {
        match self {
            Self::Begin => (Method::POST, vec!["multipart"]),
            Self::Single => (Method::POST, vec!["url"]),
            Self::Resume => (Method::POST, vec!["multipart-resume"]),
            Self::List(key) => (Method::GET, vec!["url", "multipart", key, "parts"]),
            Self::Complete => (Method::PUT, vec!["multipart-complete"]),
            Self::Abort => (Method::PUT, vec!["multipart-abort"]),
            Self::Success(key) => (Method::POST, vec!["success", key]),
        }
    }
}

/// The client.
#[derive(Debug)]
pub struct GjirafaVp {
    http: Http,
    base: Url,
    settings: Settings,
    credential: Arc<Credential>,
    account: Account,
    time: TimeSource,
    addresses: Addresses,
}

impl GjirafaVp {
    /// Builds the client.
    ///
    /// # Errors
    /// When the base URL is none.
    pub fn new(
        settings: &Settings,
        http: Http,
        credential: Arc<Credential>,
        account: Account,
        time: impl Into<TimeSource>,
    ) -> Result<Self, Failure> {
        let mut base = parse_url(&settings.base_url)?;
        base.set_query(None);
        base.set_fragment(None);
        let (time, settings) = (time.into(), settings.clone());
        let (http, addresses) = (http.with_time(time.clone()), Addresses::default());
        Ok(Self { http, base, settings, credential, account, time, addresses })
    }

    /// Waits for the budget, makes one call, and reads what its envelope holds.
    async fn call<T: DeserializeOwned>(
        &self,
        call: Call<'_>,
        body: Option<Value>,
    ) -> Result<T, Failure> {
        let (method, path) = call.place();
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Failure::new(FailureKind::BadRequest, "base_url can have no paths"))?
            .pop_if_empty()
            .extend(["api", "projects", &self.settings.project, "uploads"])
            .extend(path);
        self.account.wait_for_budget().await;
        let key = self.credential.token()?;
        let key = format!("{}{}", self.settings.auth_prefix, key.reveal());
        let mut headers = header_map([(self.settings.auth_header.as_str(), &*key)].into_iter())?;
        headers.insert("accept", HeaderValue::from_static("application/json"));
        if body.is_some() {
            headers.insert("content-type", HeaderValue::from_static("application/json"));
        }
        let body = body.map(|body| body.to_string().into());
        let patience = (call == Call::Complete).then_some(COMPLETE_PATIENCE);
        let request = Request { headers, body, patience };
        let response = self.http.send(method, url, request).await?;
        self.account.learn_clock(&response);
        let answer = answers::judge(call, &response, self.account.platform_time());
        let kind = answer.as_ref().err().map(|failure| failure.kind);
        if kind == Some(FailureKind::Unauthorized) {
            self.credential.forget();
        }
        if let Some(FailureKind::Throttled { after }) = kind {
            self.account.refused(after);
        }
        answers::shaped(answer?, &response)
    }
}

impl Platform for GjirafaVp {
    fn traits(&self) -> Traits {
        TRAITS
    }

    fn check_access(&self) -> Answer<'_, ()> {
        Box::pin(self.check())
    }

    /// Nothing can be looked up by its name.
    fn locate<'a>(&'a self, _: &'a Target) -> Answer<'a, Option<RemoteFile>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn begin<'a>(&'a self, request: &'a BeginRequest) -> Answer<'a, RemoteUpload> {
        Box::pin(self.begin_upload(request))
    }

    /// There is no list of uploads: one whose begin had no answer is nameless, and stays behind
    /// without ever being completed.
    fn find_begun<'a>(&'a self, _: &'a BeginRequest, _: WallTime) -> Answer<'a, Vec<RemoteUpload>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn put_part<'a>(&'a self, request: &'a PartRequest, body: PartBody) -> Answer<'a, ETag> {
        Box::pin(self.put(request, body))
    }

    fn list_parts<'a>(&'a self, remote: &'a RemoteUpload) -> Answer<'a, Option<Vec<RemotePart>>> {
        Box::pin(self.listed_parts(remote))
    }

    fn report_parts<'a>(&'a self, _: &'a RemoteUpload, _: &'a [RemotePart]) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn complete<'a>(&'a self, request: &'a CompleteRequest) -> Answer<'a, RemoteFile> {
        Box::pin(self.complete_upload(request))
    }

    fn find_completed<'a>(&'a self, request: &'a CompleteRequest) -> Answer<'a, Completion> {
        Box::pin(self.completion_of(request))
    }

    /// There is no call that asks for a file. The answer is what the listing before complete proved,
    /// kept in the id; that the file is still there is not known.
    fn inspect<'a>(&'a self, file: &'a RemoteFileId) -> Answer<'a, Option<RemoteFile>> {
        Box::pin(std::future::ready(Ok(wire::remembered(file))))
    }

    fn describe<'a>(&'a self, _: &'a RemoteFileId, _: &'a Description) -> Answer<'a, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn abort<'a>(&'a self, remote: &'a RemoteUploadId) -> Answer<'a, ()> {
        Box::pin(self.abort_upload(remote))
    }
}

#[cfg(test)]
mod tests;

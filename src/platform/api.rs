//! A client for platforms with a JSON API: one base address, one token.
//!
//! Owns the base address, and how a call is addressed, budgeted, authorised and sent. The platform
//! module passes in a pure function that judges answers.
//!
//! *Promises*: the token is sent below the base URL only; a refused one is read again before it is
//! used again; the platform's clock is learned from every answer, so that a workstation with a
//! wrong clock still judges times correctly. *Never* retries, and sleeps only for the call budget.
//!
//! A crash loses only what is learned again.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use serde::Serialize;

use super::account::Link;
use super::contract::PartBody;
use super::http::{Request, Response, base_url, header_map};
use crate::model::{Failure, FailureKind, WallTime};

/// The API of one platform, with one account.
#[derive(Debug)]
pub(super) struct Api {
    /// Its connections also serve other hosts, such as a storage, without the token.
    pub(super) link: Link,
    pub(super) base: Url,
    token_header: String,
    token_prefix: String,
    /// Its successful answers carry request ids.
    gives_ids: AtomicBool,
}

impl Api {
    /// Builds it from the base address, and the header that carries the token after a prefix.
    pub(super) fn new(
        address: &str,
        token_header: &str,
        token_prefix: &str,
        link: Link,
    ) -> Result<Self, Failure> {
        let mut base = base_url(address, false)?;
        base.set_query(None);
        base.set_fragment(None);
        let (token_header, token_prefix) = (token_header.to_owned(), token_prefix.to_owned());
        let gives_ids = AtomicBool::new(false);
        Ok(Self { link, base, token_header, token_prefix, gives_ids })
    }

    /// Returns an address below the base, with reserved characters escaped. Empty segments are left
    /// out.
    pub(super) fn url<'a>(
        &self,
        segments: impl IntoIterator<Item = &'a str>,
        query: &[(&str, &str)],
    ) -> Result<Url, Failure> {
        let mut url = self.base.clone();
        url.path_segments_mut()
            .map_err(|()| Failure::new(FailureKind::BadRequest, "base_url can have no paths"))?
            .pop_if_empty()
            .extend(segments.into_iter().filter(|segment| !segment.is_empty()));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
            // A plus sign in a value is escaped already: these are spaces.
            let plain = url.query().map(|query| query.replace('+', "%20"));
            url.set_query(plain.as_deref());
        }
        Ok(url)
    }

    /// Waits for the budget and makes one call.
    ///
    /// # Errors
    /// When there is no token or no answer, or the account's calls are paused; an answer of any
    /// status is no error.
    pub(super) async fn send(
        &self,
        method: Method,
        url: Url,
        request: Request,
    ) -> Result<Response, Failure> {
        self.link.account.wait_for_budget().await?;
        let headers = self.authorised(request.headers)?;
        let response = self.link.http.send(method, url, Request { headers, ..request }).await?;
        self.link.account.learn_clock(&response);
        if (200..300).contains(&response.status) && response.has_request_id() {
            self.gives_ids.store(true, Ordering::Relaxed);
        }
        Ok(response)
    }

    /// Returns whether a refusal or "not found" lacks the platform's marks, so that a balancer
    /// without a working API behind it, or a filter, sent it. `has_form` says whether its body is
    /// an error in the platform's form.
    pub(super) fn is_of_another(&self, response: &Response, has_form: bool) -> bool {
        matches!(response.status, 403 | 404 | 410)
            && !has_form
            && !response.has_request_id()
            && self.gives_ids.load(Ordering::Relaxed)
    }

    /// Sends the bytes of a part, outside of the budget.
    pub(super) async fn send_part(
        &self,
        method: Method,
        url: Url,
        headers: HeaderMap,
        body: PartBody,
    ) -> Result<Response, Failure> {
        let response =
            self.link.http.send_part(method, url, self.authorised(headers)?, body).await?;
        self.link.account.learn_clock(&response);
        Ok(response)
    }

    /// Judges an answer with the platform's time, and acts on its failure: a refused token is
    /// dropped, and a requested pause is applied.
    pub(super) fn judged<T>(
        &self,
        judge: impl FnOnce(WallTime) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let answer = judge(self.link.account.platform_time());
        let kind = answer.as_ref().err().map(|failure| failure.kind);
        if matches!(kind, Some(FailureKind::Unauthorized | FailureKind::Forbidden)) {
            self.forget_token();
        }
        if let Some(FailureKind::Throttled { after: Some(pause) }) = kind {
            self.link.account.refused(pause);
        }
        answer
    }

    /// Drops the token, so that it is read again.
    pub(super) fn forget_token(&self) {
        self.link.credential.forget();
    }

    fn authorised(&self, mut headers: HeaderMap) -> Result<HeaderMap, Failure> {
        let token = self.link.credential.token()?;
        let line = format!("{}{}", self.token_prefix, token.reveal());
        let line = header_map([(self.token_header.as_str(), line.as_str())].into_iter());
        headers.extend(line.map_err(|_| {
            let message = "the token holds characters that no header can carry";
            Failure::new(FailureKind::Unauthorized, message)
        })?);
        Ok(headers)
    }
}

/// Returns the header lines of a call with a JSON answer, with or without a body.
pub(super) fn json_headers(has_content: bool) -> HeaderMap {
    let json = HeaderValue::from_static("application/json");
    let content_type = has_content.then(|| (CONTENT_TYPE, json.clone()));
    [(ACCEPT, json)].into_iter().chain(content_type).collect()
}

/// Serializes a body.
pub(super) fn json(body: &impl Serialize) -> Result<Bytes, Failure> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|error| {
        Failure::new(FailureKind::LocalFault, format!("the request cannot be written: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Monotonic;
    use crate::platform::bench::{frozen, link};

    #[test]
    fn a_refusal_without_marks_is_somebody_elses_once_the_platform_was_seen_to_give_some() {
        let (link, _file) = link("first", Some(1.0), frozen(WallTime(0)));
        let api = Api::new("https://far.example", "x-key", "", link).expect("an API");
        let answer = |status, id: Option<&str>| {
            let id = id.map(|id| ("x-request-id", id));
            let headers = header_map(id.into_iter()).expect("headers");
            Response { status, headers, body: Bytes::new() }
        };
        assert!(!api.is_of_another(&answer(404, None), false), "it may give none");
        api.gives_ids.store(true, Ordering::Relaxed);
        for status in [403, 404, 410] {
            assert!(api.is_of_another(&answer(status, None), false), "{status}");
            assert!(!api.is_of_another(&answer(status, Some("7")), false), "{status}");
            assert!(!api.is_of_another(&answer(status, None), true), "{status}: in its form");
        }
        assert!(!api.is_of_another(&answer(401, None), false));
    }

    #[test]
    fn a_refused_token_is_read_again_and_a_pause_is_made() {
        let (link, file) = link("first", Some(1.0), frozen(WallTime(0)));
        let api = Api::new("https://far.example", "x-key", "Bearer ", link).expect("an API");
        let sent = || {
            let headers = api.authorised(json_headers(false)).expect("a token");
            headers["x-key"].to_str().expect("text").to_owned()
        };
        assert_eq!(sent(), "Bearer first");
        std::fs::write(file.path(), "second").expect("written");
        let judged =
            |kind| api.judged::<()>(|_| Err(Failure::new(kind, "no"))).map_err(|no| no.kind);
        assert_eq!(judged(FailureKind::Unauthorized), Err(FailureKind::Unauthorized));
        assert_eq!(sent(), "Bearer second");
        let zero = Monotonic(Duration::ZERO);
        assert_eq!(api.link.account.paused_until(zero), None);
        let throttled = FailureKind::Throttled { after: Some(Duration::from_secs(9)) };
        assert_eq!(judged(throttled), Err(throttled));
        assert!(api.link.account.paused_until(zero) > Some(Monotonic(Duration::from_secs(9))));
        assert_eq!(api.judged(|_| Ok(7)), Ok(7));
    }
}

//! Calls to addresses that are secrets themselves: a webhook's, a monitor's. Logs show only the
//! host.

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::{Http, Progress, RequestPlace, Response, parse_url};
use crate::model::{Failure, FailureKind};

impl Http {
    /// Posts a body, or sends a GET when there is none.
    ///
    /// # Errors
    /// `Unauthorized` when the address cannot be used; else as [`Http::send`].
    pub(crate) async fn call_private(
        &self,
        address: &str,
        lines: &[(&'static str, String)],
        body: Option<String>,
    ) -> Result<Response, Failure> {
        let unusable = |failure: Failure| Failure { kind: FailureKind::Unauthorized, ..failure };
        let url = parse_url(address).map_err(unusable)?;
        let method = if body.is_some() { Method::POST } else { Method::GET };
        let place = RequestPlace { path: "/…".to_owned(), ..self.place(&method, &url) };
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let wrong = |_| Failure::new(FailureKind::BadRequest, "a header cannot be sent");
            let mut value = HeaderValue::from_str(value).map_err(wrong)?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_static(name), value);
        }
        let mut outgoing = self.client(&url).request(method, url).headers(headers);
        if let Some(body) = body {
            outgoing = outgoing.body(Bytes::from(body));
        }
        self.exchange(outgoing, &place, self.limits(), &Progress::sent()).await
    }
}

//! Injects the requested faults around the work of any call.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::faults::Action;
use super::server::Breaker;
use super::stand::Control;
use super::storage;

/// Longest body of an API call.
pub(super) const BODY_MAX: usize = 16 * 1024 * 1024;

/// Counts a call, and does its work unless a fault replaces it.
pub(super) async fn perform(
    stand: &dyn Control,
    operation: &str,
    breaker: &Breaker,
    work: impl Future<Output = Response>,
) -> Response {
    perform_on(stand, operation, "", breaker, work).await
}

/// As [`perform`], for a call about an object.
pub(super) async fn perform_on(
    stand: &dyn Control,
    operation: &str,
    key: &str,
    breaker: &Breaker,
    work: impl Future<Output = Response>,
) -> Response {
    let (before, after) = stand.take_faults(operation, key);
    let corrupts = matches!(before, Some(Action::Corrupt));
    if let Some(answer) = misbehave(before, breaker).await {
        return answer;
    }
    spoil(after, storage::CORRUPTS.scope(corrupts, work).await, breaker).await
}

/// Applies a fault before the work; `None` continues.
async fn misbehave(action: Option<Action>, breaker: &Breaker) -> Option<Response> {
    match action? {
        Action::Reset => {
            breaker.break_it();
            Some(StatusCode::INTERNAL_SERVER_ERROR.into_response())
        }
        Action::Answer { status, body, headers } => {
            let mut response = match &body {
                // A string is the body itself: some vendors answer in something else than JSON.
                Value::String(text) => {
                    (StatusCode::from_u16(status).unwrap_or_default(), text.clone()).into_response()
                }
                Value::Null => json_response(status, None),
                Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    json_response(status, Some(&body))
                }
            };
            for (name, value) in headers {
                if let (Ok(name), Ok(value)) =
                    (HeaderName::try_from(name), HeaderValue::try_from(value))
                {
                    response.headers_mut().insert(name, value);
                }
            }
            Some(response)
        }
        Action::Html(status) => {
            let page = axum::response::Html("<html><body>Bad gateway</body></html>");
            Some((StatusCode::from_u16(status).unwrap_or_default(), page).into_response())
        }
        Action::Stall(milliseconds) => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            None
        }
        Action::Truncate | Action::WrongEtag | Action::Corrupt => None,
    }
}

/// Applies a fault after the work.
async fn spoil(action: Option<Action>, response: Response, breaker: &Breaker) -> Response {
    let Some(action) = action else { return response };
    match action {
        Action::Truncate => {
            let (head, body) = response.into_parts();
            let whole = axum::body::to_bytes(body, BODY_MAX).await.unwrap_or_default();
            let half = whole.slice(..whole.len() / 2);
            (head.status, half).into_response()
        }
        Action::WrongEtag => {
            let mut response = response;
            let wrong = HeaderValue::from_static("\"00000000000000000000000000000bad\"");
            response.headers_mut().insert("etag", wrong);
            response
        }
        Action::Reset
        | Action::Answer { .. }
        | Action::Html(_)
        | Action::Stall(_)
        | Action::Corrupt => misbehave(Some(action), breaker).await.unwrap_or(response),
    }
}

/// Renders an answer in JSON, or without a body.
pub(super) fn json_response(status: u16, body: Option<&Value>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or_default();
    match body {
        Some(body) => (status, axum::Json(body)).into_response(),
        None => (status, Body::empty()).into_response(),
    }
}

//! XML answers, and the storage's time formats.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

pub(super) fn no_upload() -> Response {
    refuse(404, "NoSuchUpload", "The specified multipart upload does not exist.")
}

pub(super) fn precondition() -> Response {
    refuse(412, "PreconditionFailed", "At least one of the pre-conditions did not hold")
}

pub(super) fn refuse(status: u16, code: &str, message: &str) -> Response {
    xml(status, &format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>"))
}

pub(super) fn xml(status: u16, body: &str) -> Response {
    let text = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}");
    let text = if body.starts_with(' ') { body.to_owned() } else { text };
    let kind = [("content-type", "application/xml")];
    (StatusCode::from_u16(status).unwrap_or_default(), kind, text).into_response()
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn timestamp(seconds: u64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(i64::try_from(seconds).unwrap_or(0)).unwrap_or_default()
}

pub(super) fn iso(seconds: u64) -> String {
    timestamp(seconds).strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

pub(super) fn date(seconds: u64) -> String {
    timestamp(seconds).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

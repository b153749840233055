//! A webhook: the notice is posted as JSON to an address that a file holds.
//!
//! Each request has the notice's id in `X-Dropferry-Id` and `Idempotency-Key`. Where there is a secret it
//! is signed: `X-Dropferry-Signature: t=SECONDS,v1=HEX`, with HEX the HMAC-SHA256 of the seconds since
//! 1970, a point, and the body.
//!
//! Taken is what is answered with a status of the two hundreds, by the receiver and not by a page that
//! stands before it: HTML is no answer. Some receivers say in such an answer that they failed.

use std::path::PathBuf;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{ChannelAnswer, Means, Parcel, body, secret, words};
use crate::model::{Failure, FailureKind, Hex, Notice, Shown, json_shown};

const ANSWER_MAX: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub url_file: PathBuf,
    /// Holds what requests are signed with.
    pub secret_file: Option<PathBuf>,
    /// What the receiver understands.
    pub format: WebhookFormat,
}

/// What a receiver understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookFormat {
    /// All that is known of the notice, with a sentence as `text`.
    Json,
    /// Slack, and those that take its messages: Mattermost, Rocket.Chat.
    Slack,
    /// Microsoft Teams: a card, as a workflow posts it.
    Teams,
}

/// Posts a notice.
///
/// # Errors
/// `BadRequest` when the receiver calls it wrong; other kinds when it was not reached, or failed.
pub(crate) async fn send(
    settings: &Settings,
    notice: &Notice,
    means: Means<'_>,
) -> Result<String, Failure> {
    let address = secret::read(&settings.url_file, means)?;
    let body = settings.format.render(&body(notice));
    let id = notice.public_id();
    let mut headers = vec![
        ("content-type", "application/json".to_owned()),
        ("idempotency-key", id.clone()),
        ("x-dropferry-id", id),
        ("x-dropferry-kind", notice.kind.as_str().to_owned()),
    ];
    if let Some(file) = &settings.secret_file {
        let key = secret::read(file, means)?;
        let seconds = means.at.0.div_euclid(1_000_000_000);
        headers.push(("x-dropferry-signature", signature(&key, seconds, &body)));
    }
    let parcel = Parcel { address: &address, headers, body: Some(body) };
    judge(&means.carrier.carry(parcel).await?)
}

/// Asks for the address: whatever answers there is no page that stands before it.
///
/// # Errors
/// When nothing answers, or what does is not the receiver.
pub(crate) async fn probe(settings: &Settings, means: Means<'_>) -> Result<String, Failure> {
    let address = secret::read(&settings.url_file, means)?;
    let parcel = Parcel { address: &address, headers: Vec::new(), body: None };
    let answer = means.carrier.carry(parcel).await?;
    match answer.status {
        // Receivers of messages refuse to be read.
        400..=499 => Ok(format!("it answers (status {})", answer.status)),
        _ => judge(&answer),
    }
}

fn signature(key: &str, seconds: i64, body: &str) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key of any length is taken");
    mac.update(format!("{seconds}.{body}").as_bytes());
    format!("t={seconds},v1={}", Hex(&mac.finalize().into_bytes()))
}

/// Turns an answer into whether the notice was taken.
pub(super) fn judge(answer: &ChannelAnswer) -> Result<String, Failure> {
    let text = answer.text.trim_start();
    let start: String = text.chars().take(9).collect::<String>().to_ascii_lowercase();
    let is_page = start.starts_with("<!doctype") || start.starts_with("<html");
    let said: String = text.chars().take(ANSWER_MAX).collect();
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let failed = |kind, why: &str| {
        let mut said = said.clone();
        if is_page || said.is_empty() {
            said = "nothing that can be repeated".into();
        }
        let status = Some(answer.status);
        let message = format!("the webhook {why}: {}", Shown(&said));
        Err(Failure { status, ..Failure::new(kind, message) })
    };
    match answer.status {
        200..=299 if is_page => {
            failed(FailureKind::Unreachable, "was answered by a page that stands before it")
        }
        // Microsoft's connectors say so, with status 200.
        200..=299 if text.starts_with("Webhook message delivery failed") => {
            failed(FailureKind::ServerFault, "failed")
        }
        200..=299 => Ok(format!("status {} {}", answer.status, Shown(&said)).trim_end().to_owned()),
        300..=399 => failed(FailureKind::Unreachable, "leads elsewhere, and is not followed"),
        408 | 425 => failed(FailureKind::ServerFault, "asks to be called later"),
        429 => failed(FailureKind::Throttled { after: answer.retry_after }, "asks for a pause"),
        400..=499 => failed(FailureKind::BadRequest, "refuses the notice"),
        _ => failed(FailureKind::ServerFault, "failed"),
    }
}

impl WebhookFormat {
    fn render(self, body: &Value) -> String {
        let text = words::short(body);
        match self {
            Self::Json => json_shown(&body.to_string()).into_owned(),
            Self::Slack => {
                let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                json!({ "text": text }).to_string()
            }
            Self::Teams => json!({
                "type": "message",
                "attachments": [{
                    "contentType": "application/vnd.microsoft.card.adaptive",
                    "content": {
                        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                        "type": "AdaptiveCard",
                        "version": "1.2",
                        "body": [{ "type": "TextBlock", "text": text, "wrap": true }],
                    },
                }],
            })
            .to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_has_its_text_where_its_receiver_looks_for_it() {
        let body = json!({ "id": "1", "text": "a <b> & c" });
        let slack: Value = serde_json::from_str(&WebhookFormat::Slack.render(&body)).expect("JSON");
        assert_eq!(slack, json!({ "text": "a &lt;b&gt; &amp; c" }));
        let teams: Value = serde_json::from_str(&WebhookFormat::Teams.render(&body)).expect("JSON");
        let block = &teams["attachments"][0]["content"]["body"][0];
        assert_eq!((&block["type"], &block["text"]), (&json!("TextBlock"), &json!("a <b> & c")));
        assert_eq!(WebhookFormat::Json.render(&body), body.to_string());
    }

    #[test]
    fn a_signature_is_what_others_compute() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
        let known = "t=1700000000,v1=\
            a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03";
        assert_eq!(signature("key", 1_700_000_000, "{\"a\":1}"), known);
    }

    #[test]
    fn taken_is_what_the_receiver_itself_takes() {
        let answer = |status, text: &str| {
            let answer = ChannelAnswer { status, retry_after: None, text: text.into() };
            judge(&answer).map(drop).map_err(|failure| failure.kind)
        };
        for (status, text) in [(200, "ok"), (202, ""), (204, ""), (200, "1"), (201, "{}")] {
            assert_eq!(answer(status, text), Ok(()), "{status} {text}");
        }
        use FailureKind::{BadRequest, ServerFault, Throttled, Unreachable};
        for (status, text, kind) in [
            (200, "\n <!DOCTYPE html><title>Log in", Unreachable),
            (200, "<HTML>", Unreachable),
            (302, "", Unreachable),
            (200, "Webhook message delivery failed with error: 429", ServerFault),
            (400, "invalid_payload", BadRequest),
            (404, "no_service", BadRequest),
            (408, "", ServerFault),
            (429, "", Throttled { after: None }),
            (500, "", ServerFault),
        ] {
            assert_eq!(answer(status, text), Err(kind), "{status} {text}");
        }
    }
}

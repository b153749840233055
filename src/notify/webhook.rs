//! A webhook: posts the notice as JSON to an address that is read from a file.
//!
//! Each request has the notice's id in `X-Dropferry-Id` and `Idempotency-Key`. With a secret it is
//! signed: `X-Dropferry-Signature: t=SECONDS,v1=HEX`, where HEX is the HMAC-SHA256 of the seconds
//! since 1970, a dot, and the body.
//!
//! A status of 200 to 299 means accepted, if the receiver sent it and not a login page before it:
//! HTML is no answer. Some receivers report a failure in such an answer.

use std::path::PathBuf;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{ChannelAnswer, Means, Parcel, body, secret, words};
use crate::model::{Failure, FailureKind, Hex, Notice, Shown, json_shown};

const ANSWER_MAX: usize = 200;
/// Slack's limits of a title, of a text, of a field, and of the number of fields.
const SLACK_TITLE_MAX: usize = 150;
const SLACK_TEXT_MAX: usize = 3000;
const SLACK_FIELD_MAX: usize = 2000;
const SLACK_FIELDS_MAX: usize = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub url_file: PathBuf,
    /// The file with the signing key.
    pub secret_file: Option<PathBuf>,
    /// The format that the receiver expects.
    pub format: WebhookFormat,
}

/// The format of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookFormat {
    /// Everything known about the notice, with a sentence as `text`.
    Json,
    /// Slack, and compatible servers: Mattermost, Rocket.Chat.
    Slack,
    /// Microsoft Teams: a card, as workflows expect it.
    Teams,
}

/// Posts a notice.
///
/// # Errors
/// `BadRequest` when the receiver rejects it; other kinds when it was not reached, or failed.
pub(crate) async fn send(
    settings: &Settings,
    notice: &Notice,
    means: Means<'_>,
) -> Result<String, Failure> {
    let address = secret::read(&settings.url_file, means)?;
    let body = body(notice);
    let title = words::subject(notice.kind, notice.is_over, &body);
    let body = settings.format.render(&body, &title);
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

/// Requests the address, to check that the receiver itself answers and not a login page.
///
/// # Errors
/// When nothing answers, or something else than the receiver.
pub(crate) async fn probe(settings: &Settings, means: Means<'_>) -> Result<String, Failure> {
    let address = secret::read(&settings.url_file, means)?;
    let parcel = Parcel { address: &address, headers: Vec::new(), body: None };
    let answer = means.carrier.carry(parcel).await?;
    match answer.status {
        // Receivers of messages refuse GET requests.
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

/// Returns whether an answer accepts the notice.
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
            failed(FailureKind::Unreachable, "was answered by a web page in its place")
        }
        // Microsoft's connectors report failures with status 200.
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
    fn render(self, body: &Value, title: &str) -> String {
        let (text, facts, cure) = (words::short(body), words::card(body), words::cure(body));
        match self {
            Self::Json => json_shown(&body.to_string()).into_owned(),
            Self::Slack => {
                let plain = |text: &str| {
                    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
                };
                let cut = |text: &str, most| text.chars().take(most).collect::<String>();
                let marked = |text: String| json!({ "type": "mrkdwn", "text": text });
                let section = |text: &str| json!({ "type": "section", "text": marked(cut(&plain(text), SLACK_TEXT_MAX)) });
                let heading = json!({ "type": "plain_text", "text": cut(title, SLACK_TITLE_MAX) });
                let mut blocks = vec![json!({ "type": "header", "text": heading }), section(&text)];
                let field = |(label, value): &(&str, String)| {
                    marked(cut(&format!("*{label}*\n{}", plain(value)), SLACK_FIELD_MAX))
                };
                let fields: Vec<_> = facts.iter().take(SLACK_FIELDS_MAX).map(field).collect();
                if !fields.is_empty() {
                    blocks.push(json!({ "type": "section", "fields": fields }));
                }
                blocks.extend(cure.iter().map(|cure| section(cure)));
                json!({ "text": plain(&text), "blocks": blocks }).to_string()
            }
            Self::Teams => {
                let line = |text: &str| json!({ "type": "TextBlock", "text": text, "wrap": true });
                let mut heading = line(title);
                heading["weight"] = "bolder".into();
                let fact =
                    |(label, value): &(&str, String)| json!({ "title": label, "value": value });
                let facts: Vec<_> = facts.iter().map(fact).collect();
                let facts = json!({ "type": "FactSet", "facts": facts });
                let blocks = [heading, line(&text), facts].into_iter();
                let blocks: Vec<_> = blocks.chain(cure.iter().map(|cure| line(cure))).collect();
                json!({
                    "type": "message",
                    "attachments": [{
                        "contentType": "application/vnd.microsoft.card.adaptive",
                        "content": {
                            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                            "type": "AdaptiveCard",
                            "version": "1.2",
                            "body": blocks,
                        },
                    }],
                })
                .to_string()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_has_its_text_where_its_receiver_looks_for_it() {
        let body = json!({
            "id": "1", "text": "a <b> & c", "host": "seq-07", "drop": "lab", "cure": "mount it",
        });
        let rendered = |format: WebhookFormat| -> Value {
            serde_json::from_str(&format.render(&body, "[dropferry seq-07] it")).expect("JSON")
        };
        let slack = rendered(WebhookFormat::Slack);
        assert_eq!(slack["text"], "a &lt;b&gt; &amp; c");
        let [title, text, facts, cure] = &slack["blocks"].as_array().expect("blocks")[..] else {
            panic!("{slack}")
        };
        assert_eq!(title["text"]["text"], "[dropferry seq-07] it");
        assert_eq!(text["text"]["text"], "a &lt;b&gt; &amp; c");
        assert_eq!(facts["fields"][0]["text"], "*Machine*\nseq-07");
        assert_eq!(cure["text"]["text"], "mount it");
        let teams = rendered(WebhookFormat::Teams);
        let blocks = teams["attachments"][0]["content"]["body"].as_array().expect("blocks");
        assert_eq!(
            (&blocks[0]["text"], &blocks[1]["text"]),
            (&json!("[dropferry seq-07] it"), &json!("a <b> & c"))
        );
        assert_eq!(blocks[2]["facts"][1], json!({ "title": "Drop directory", "value": "lab" }));
        assert_eq!(blocks[3]["text"], "mount it");
        assert_eq!(rendered(WebhookFormat::Json), body);
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

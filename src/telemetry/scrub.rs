//! What never reaches the log: registered secrets, and the values of signed query strings.
//!
//! Every line is read once more before it leaves, whatever field or message it came from. That is
//! the last line of defence; types that print as `[redacted]` are the first.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::{PoisonError, RwLock};

use tracing_subscriber::fmt::MakeWriter;

/// Shorter texts are not registered: replacing them would garble the log and hide nothing.
const SECRET_BYTES_MIN: usize = 6;

/// What stands in place of a secret.
pub(super) const REDACTED: &str = "[redacted]";

/// Names, in lower case, after which a value is a secret, whoever put it there.
const SECRET_MARKS: [&str; 12] = [
    "x-amz-signature=",
    "x-amz-credential=",
    "x-amz-security-token=",
    "x-goog-signature=",
    "x-goog-credential=",
    "awsaccesskeyid=",
    "credential=",
    "signature=",
    "sig=",
    "token=",
    "bearer ",
    "x-sbg-auth-token: ",
];

/// The registered secrets, the longest first: a secret inside a longer one must not split it.
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Sees to it that `secret` never appears in the log, also as JSON and `Debug` escape it.
/// Texts of less than six bytes are not taken.
pub fn register_secret(secret: &str) {
    let secret = secret.trim();
    if secret.len() < SECRET_BYTES_MIN {
        return;
    }
    let debug = unquoted(format!("{secret:?}"));
    let forms = [json_escaped(secret), json_escaped(&debug), debug, secret.to_owned()];
    let mut secrets = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    for form in forms {
        if !secrets.contains(&form) {
            secrets.push(form);
        }
    }
    secrets.sort_by_key(|form| std::cmp::Reverse(form.len()));
}

fn json_escaped(text: &str) -> String {
    unquoted(serde_json::Value::from(text).to_string())
}

/// Takes the quotation marks off both ends.
fn unquoted(mut text: String) -> String {
    text.pop();
    text.split_off(1)
}

/// Replaces every registered secret and every value of a signed query string by `[redacted]`.
///
/// The log goes through it by itself; error texts for other channels may be passed here.
pub fn scrub(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    for secret in secrets.iter() {
        if text.contains(secret.as_str()) {
            text = Cow::Owned(text.replace(secret.as_str(), REDACTED));
        }
    }
    match scrub_marked(&text) {
        Some(scrubbed) => Cow::Owned(scrubbed),
        None => text,
    }
}

/// Replaces the values after [`SECRET_MARKS`]; `None` when there is none.
fn scrub_marked(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let mut scrubbed = String::new();
    let mut done = 0;
    while let Some((start, end)) = next_marked(&lower, done) {
        scrubbed.push_str(&text[done..start]);
        scrubbed.push_str(REDACTED);
        done = end;
    }
    scrubbed.push_str(&text[done..]);
    (done > 0).then_some(scrubbed)
}

/// Finds the first value after a mark at or behind `from` in lower-case text.
fn next_marked(lower: &str, mut from: usize) -> Option<(usize, usize)> {
    loop {
        let start = from + first_value(&lower[from..])?;
        let length = lower[start..].find(ends_a_value).unwrap_or(lower.len() - start);
        if length > 0 && !lower[start..].starts_with(REDACTED) {
            return Some((start, start + length));
        }
        from = start;
    }
}

/// Returns where the first value after a mark begins.
fn first_value(lower: &str) -> Option<usize> {
    let after = |mark: &&str| {
        let mut found = lower.match_indices(*mark).map(|(at, _)| at);
        found.find(|at| begins_a_word(lower, *at)).map(|at| at + mark.len())
    };
    SECRET_MARKS.iter().filter_map(after).min()
}

/// Tells whether a name begins here, and is not the end of a longer one such as `design=`.
fn begins_a_word(text: &str, at: usize) -> bool {
    !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '-')
}

fn ends_a_value(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '&' | '"' | '\'' | '<' | '>' | ')' | ',' | '\\')
}

/// Makes writers that scrub what passes.
#[derive(Debug)]
pub(super) struct Scrubber<M>(pub(super) M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Scrubber<M> {
    type Writer = ScrubbingWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        ScrubbingWriter(self.0.make_writer())
    }
}

/// Scrubs each write by itself: the subscriber writes an event at once.
#[derive(Debug)]
pub(super) struct ScrubbingWriter<W>(W);

impl<W: Write> Write for ScrubbingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        // A repeated line is written as nothing.
        if bytes.is_empty() {
            return Ok(());
        }
        self.0.write_all(scrub(&String::from_utf8_lossy(bytes)).as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_queries_are_replaced_and_the_rest_is_kept() {
        let cases = [
            (
                "PUT https://h/o?partNumber=3&X-Amz-Signature=abc123&x=1 failed",
                "PUT https://h/o?partNumber=3&X-Amz-Signature=[redacted]&x=1 failed",
            ),
            ("u?Signature=a%2Fb&Signature=c", "u?Signature=[redacted]&Signature=[redacted]"),
            ("{\"u\":\"h?sig=zzz\",\"n\":1}", "{\"u\":\"h?sig=[redacted]\",\"n\":1}"),
            ("authorization: Bearer abc.def", "authorization: Bearer [redacted]"),
            (
                "AWS4-HMAC-SHA256 Credential=AKIA/x/aws4_request, SignedHeaders=host, Signature=ab",
                "AWS4-HMAC-SHA256 Credential=[redacted], SignedHeaders=host, Signature=[redacted]",
            ),
            ("design=good sig= end", "design=good sig= end"),
            ("token=[redacted] sig=x", "token=[redacted] sig=[redacted]"),
            ("ümlaut sig=ü&ß", "ümlaut sig=[redacted]&ß"),
            ("nothing here", "nothing here"),
        ];
        for (said, written) in cases {
            assert_eq!(scrub(said), written);
        }
    }

    #[test]
    fn longer_secret_is_replaced_whole_and_short_ones_not_at_all() {
        register_secret("abcdef-inner");
        register_secret("abcdef-inner-outer");
        register_secret("tiny");
        assert_eq!(scrub("x abcdef-inner-outer tiny"), "x [redacted] tiny");
    }
}

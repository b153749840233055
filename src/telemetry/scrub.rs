//! Removes registered secrets, and the values of signed query strings, from all text that leaves the process.
//!
//! Log lines, errors, notices and rows are scrubbed before they leave, whatever field or message a
//! secret came by. That is the last line of defence; types that print as `[redacted]` are the first.
//!
//! A secret is found in any case, as JSON and `Debug` escape it, percent-encoded, in hexadecimal
//! and in base64, also as a part of a longer encoded text.

use std::borrow::Cow;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use tracing_subscriber::fmt::MakeWriter;

use crate::model::{Hex, json_shown};

/// Shorter texts are not registered: replacing them would garble the log and hide nothing.
const SECRET_BYTES_MIN: usize = 6;
/// Shorter pieces of base64 occur in other texts by chance.
const BASE64_MIN: usize = 8;

/// Replaces a secret.
pub(super) const REDACTED: &str = "[redacted]";

/// Names, in lower case, whose values are secrets, whatever their source.
const SECRET_MARKS: [&str; 19] = [
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
    "password=",
    "passwd=",
    "secret=",
    "apikey=",
    "api_key=",
    "bearer ",
    "authorization: basic ",
    "x-access-token: ",
    "x-sbg-auth-token: ",
];

/// The registered secrets in every form, in lower case.
static SECRETS: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Registers a secret, so that it never leaves the process as text, in any form. Texts of less than
/// six bytes are not registered.
pub(crate) fn register_secret(secret: &str) {
    let secret = secret.trim();
    if secret.len() < SECRET_BYTES_MIN {
        return;
    }
    let debug = unquoted(format!("{secret:?}"));
    let hex = Hex(secret.as_bytes()).to_string();
    let plain = [json_escaped(secret), json_escaped(&debug), debug, hex, secret.to_owned()];
    let mut secrets = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    for form in plain.into_iter().chain(in_base64(secret)) {
        let form = form.to_ascii_lowercase();
        if !secrets.contains(&form) {
            secrets.push(form);
        }
    }
}

/// Returns the base64 forms of a text at each of the three possible alignments, in both alphabets;
/// without the characters that depend on the neighbouring bytes.
fn in_base64(secret: &str) -> impl Iterator<Item = String> {
    let at = |before: usize| {
        let padded = [&vec![0; before], secret.as_bytes()].concat();
        let encoded = STANDARD_NO_PAD.encode(&padded);
        let (first, last) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
        encoded.get(first..last).unwrap_or_default().to_owned()
    };
    let forms = (0..3).map(at).collect::<Vec<_>>().into_iter();
    let both = forms.flat_map(|form| [form.replace('+', "-").replace('/', "_"), form]);
    both.filter(|form| form.len() >= BASE64_MIN)
}

fn json_escaped(text: &str) -> String {
    unquoted(serde_json::Value::from(text).to_string())
}

/// Removes the quotation marks from both ends.
fn unquoted(mut text: String) -> String {
    text.pop();
    text.split_off(1)
}

/// Replaces every registered secret, every value of a signed query string and every user in an
/// address by `[redacted]`.
///
/// The log passes it automatically; any other text about a failure must be passed here.
pub(crate) fn scrub(text: &str) -> Cow<'_, str> {
    let text = scrub_secrets(text);
    match scrub_marked(&text) {
        Some(scrubbed) => Cow::Owned(scrubbed),
        None => text,
    }
}

/// Replaces every registered secret, and nothing that only looks like one: for data.
pub(crate) fn scrub_secrets(text: &str) -> Cow<'_, str> {
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    if secrets.is_empty() {
        return Cow::Borrowed(text);
    }
    let lower = text.to_ascii_lowercase();
    let mut found: Vec<Range<usize>> = Vec::new();
    for secret in secrets.iter() {
        found.extend(lower.match_indices(secret).map(|(at, _)| at..at + secret.len()));
    }
    if let Some(decoded) = Decoded::of(&lower) {
        secrets.iter().for_each(|secret| decoded.find(secret, &mut found));
    }
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    found.sort_by_key(|range| range.start);
    let mut scrubbed = String::with_capacity(text.len());
    let mut done = 0;
    for range in found {
        if range.start >= done {
            scrubbed.push_str(&text[done..range.start]);
            scrubbed.push_str(REDACTED);
        }
        done = done.max(range.end);
    }
    scrubbed.push_str(&text[done..]);
    Cow::Owned(scrubbed)
}

/// A text with `%41` read as `A`.
struct Decoded<'a> {
    text: &'a str,
    bytes: Vec<u8>,
    /// The position of each byte in the text.
    places: Vec<usize>,
}

impl<'a> Decoded<'a> {
    /// Returns `None` where nothing is encoded.
    fn of(text: &'a str) -> Option<Self> {
        let source = text.as_bytes();
        let encoded = |at: usize| {
            let digits = source.get(at + 1..at + 3).filter(|_| source[at] == b'%')?;
            u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        let first = text.find('%')?;
        if !text[first..].match_indices('%').any(|(at, _)| encoded(first + at).is_some()) {
            return None;
        }
        let (mut bytes, mut places, mut at) = (Vec::new(), Vec::new(), 0);
        while at < source.len() {
            places.push(at);
            let byte = encoded(at);
            bytes.push(byte.unwrap_or(source[at]).to_ascii_lowercase());
            at += if byte.is_some() { 3 } else { 1 };
        }
        Some(Self { text, bytes, places })
    }

    fn find(&self, secret: &str, found: &mut Vec<Range<usize>>) {
        let place = |at: usize| self.places.get(at).copied().unwrap_or(self.text.len());
        for (at, bytes) in self.bytes.windows(secret.len()).enumerate() {
            if bytes == secret.as_bytes() {
                let start = self.text.floor_char_boundary(place(at));
                found.push(start..self.text.ceil_char_boundary(place(at + secret.len())));
            }
        }
    }
}

/// Replaces the values after [`SECRET_MARKS`] and the users in addresses; `None` when there is none.
fn scrub_marked(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let mut scrubbed = String::new();
    let mut done = 0;
    loop {
        let next = [next_marked(&lower, done), next_user(&lower, done)];
        let Some((start, end)) = next.into_iter().flatten().min() else { break };
        scrubbed.push_str(&text[done..start]);
        scrubbed.push_str(REDACTED);
        done = end;
    }
    scrubbed.push_str(&text[done..]);
    (done > 0).then_some(scrubbed)
}

/// Finds the first user, with password, in an address from `from` on.
fn next_user(lower: &str, mut from: usize) -> Option<(usize, usize)> {
    loop {
        let start = from + lower[from..].find("://")? + 3;
        let rest = &lower[start..];
        let length = rest.find(|c| matches!(c, '/' | '?' | '#') || ends_a_value(c));
        let authority = &rest[..length.unwrap_or(rest.len())];
        match authority.rfind('@') {
            Some(length) if &authority[..length] != REDACTED => {
                return Some((start, start + length));
            }
            Some(_) | None => from = start,
        }
    }
}

/// Finds the first value after a mark from `from` on, in lower-case text.
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

/// Returns whether a name begins here, and is not the end of a longer one such as `design=`.
fn begins_a_word(text: &str, at: usize) -> bool {
    !text[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '-')
}

fn ends_a_value(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(c, '&' | '"' | '\'' | '<' | '>' | ')' | ',' | '\\')
}

/// Makes writers that scrub their input.
#[derive(Debug)]
pub(super) struct Scrubber<M> {
    pub(super) inner: M,
    /// The output is JSON, and is escaped as such; text was escaped field by field.
    pub(super) is_json: bool,
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Scrubber<M> {
    type Writer = ScrubbingWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        ScrubbingWriter { inner: self.inner.make_writer(), is_json: self.is_json }
    }
}

/// Scrubs each write separately: the subscriber writes an event at once.
#[derive(Debug)]
pub(super) struct ScrubbingWriter<W> {
    inner: W,
    is_json: bool,
}

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
        let text = String::from_utf8_lossy(bytes);
        let text = scrub(&text);
        let text = if self.is_json { json_shown(&text) } else { text };
        self.inner.write_all(text.as_bytes())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
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
            (
                "https://us:p%40ss@h/x to http://h@/ at a@b",
                "https://[redacted]@h/x to http://[redacted]@/ at a@b",
            ),
            (
                "Password=abc, authorization: Basic dTpw",
                "Password=[redacted], authorization: Basic [redacted]",
            ),
            ("nothing here", "nothing here"),
        ];
        for (said, written) in cases {
            assert_eq!(scrub(said), written);
        }
    }

    #[test]
    fn a_secret_is_found_in_every_form() {
        use base64::engine::general_purpose::{STANDARD, URL_SAFE};
        let secret = "Pl4nted/Secret+Key==x";
        register_secret(secret);
        let percent = |upper: bool| -> String {
            let one = |byte| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
            secret.bytes().map(one).collect()
        };
        let mut forms = vec![
            secret.to_owned(),
            secret.to_uppercase(),
            Hex(secret.as_bytes()).to_string(),
            "Pl4nted%2FSecret%2BKey%3D%3Dx".to_owned(),
            "Pl4nted%2fSecret+Key==x".to_owned(),
            percent(true),
            percent(false),
        ];
        for around in ["", "u", "us", "user:"] {
            let text = format!("{around}{secret}{around}");
            forms.extend([STANDARD.encode(&text), URL_SAFE.encode(&text)]);
        }
        for form in forms {
            let said = format!("100 % of übung {form} said 5%");
            let scrubbed = scrub(&said);
            let left = scrubbed.replace(REDACTED, "");
            // The text around the encoded secret is kept.
            assert!(scrubbed.contains(REDACTED), "{form}: {scrubbed}");
            assert!(left.len() < "100 % of übung  said 5%".len() + 20, "{form}: {scrubbed}");
            assert!(scrubbed.starts_with("100 % of übung ") && scrubbed.ends_with(" said 5%"));
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

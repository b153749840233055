//! Metadata and tags in S3 header lines, which are printable ASCII.
//!
//! Any other value is encoded by RFC 2047 (`=?UTF-8?B?…?=`): S3 decodes it before it stores it, and
//! encodes it again when it returns it. Values that a signer or a proxy would change, with spaces
//! at the ends or several in a row, are encoded too, and those that look encoded. Names of runs and
//! files may contain anything, and none of it may stop an upload.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Start and end of an encoded word.
const WORD: (&str, &str) = ("=?UTF-8?B?", "?=");
/// Bytes in one encoded word: RFC 2047 allows 75 characters, 12 of them for start and end.
const WORD_BYTES: usize = 45;

/// Returns a metadata value for a header.
pub(super) fn header_value(value: &str) -> Cow<'_, str> {
    if is_plain(value) {
        return Cow::Borrowed(value);
    }
    let words =
        chunks(value).map(|chunk| format!("{}{}{}", WORD.0, STANDARD.encode(chunk), WORD.1));
    Cow::Owned(words.collect::<Vec<_>>().join(" "))
}

fn is_plain(value: &str) -> bool {
    let is_printable = value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    is_printable && value.trim_ascii() == value && !value.contains("  ") && !value.contains("=?")
}

/// Splits a text into pieces of a length, never within a character.
fn chunks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (chunk, left) = rest.split_at(rest.floor_char_boundary(WORD_BYTES));
        rest = left;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Returns the value of the tagging header. Characters that S3 does not accept in tags become `_`.
pub(super) fn tagging(tags: &[String]) -> String {
    let mut pairs = reqwest::Url::parse("x:/").expect("a constant");
    for tag in tags {
        let (key, value) = tag.split_once('=').unwrap_or((tag, ""));
        pairs.query_pairs_mut().append_pair(&tag_text(key), &tag_text(value));
    }
    pairs.query().unwrap_or_default().replace('+', "%20")
}

fn tag_text(text: &str) -> String {
    let is_taken = |c: char| c.is_alphanumeric() || " +-=._:/@".contains(c);
    text.chars().map(|c| if is_taken(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes a value as a mail reader would: white space between encoded words is dropped.
    fn decoded(header: &str) -> String {
        if !header.contains(WORD.0) {
            return header.to_owned();
        }
        let words = header.split(' ').map(|word| {
            let word = word.strip_prefix(WORD.0).and_then(|word| word.strip_suffix(WORD.1));
            STANDARD.decode(word.expect("a frame")).expect("base64")
        });
        String::from_utf8(words.flatten().collect()).expect("UTF-8")
    }

    #[test]
    fn what_a_header_carries_goes_as_it_is() {
        for plain in ["", "run1", "a b", "251128_A00123_0042", "x=y; z", "~!@#$%^&*()", "?=", "="] {
            assert_eq!(header_value(plain), plain);
        }
    }

    #[test]
    fn any_other_value_is_encoded_and_comes_back_whole() {
        let long = "ü".repeat(400);
        for value in [
            "übung",
            "a\nb",
            "a\r\nx-amz-acl: public-read",
            "\0",
            "\u{7f}",
            "\t",
            " lead",
            "trail ",
            "two  spaces",
            "=?UTF-8?B?YQ==?=",
            "\u{202e}gnp.exe",
            "日本語",
            "🧬",
            &long,
        ] {
            let header = header_value(value);
            assert!(is_sendable(&header), "{value:?}: {header:?}");
            assert_eq!(decoded(&header), value, "{header:?}");
            assert!(header.split(' ').all(|word| word.len() <= 75), "{header:?}");
        }
        assert_eq!(header_value("übung"), "=?UTF-8?B?w7xidW5n?=");
    }

    fn is_sendable(header: &str) -> bool {
        let is_collapsed = header.split_whitespace().collect::<Vec<_>>().join(" ") == header;
        is_collapsed && header.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
    }

    #[test]
    fn tags_hold_what_tags_may_hold() {
        let tagging = |tags: &[&str]| {
            super::tagging(&tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(tagging(&["dropferry", "run=a b+c"]), "dropferry=&run=a%20b%2Bc");
        assert_eq!(tagging(&["run=übung"]), "run=%C3%BCbung");
        assert_eq!(tagging(&["run=a\nb\0c&d?e"]), "run=a_b_c_d_e");
        assert_eq!(tagging(&[]), "");
    }
}

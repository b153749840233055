//! Text from outside, escaped for people.
//!
//! Names of files, answers of platforms and words of orders may contain terminal controls,
//! characters that change the writing direction, and invisible ones. Such text is escaped here, and
//! nowhere else: in lines by [`Shown`], in JSON by [`json_shown`], whole output by [`lines_shown`].
//! Escaping twice changes nothing.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Displays a text with every misleading character escaped: `\n`, `\u{1b}`, `\u{202e}`.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(misleads) {
            let (plain, odd) = rest.split_at(at);
            f.write_str(plain)?;
            let mut odd = odd.chars();
            odd.next().map_or(Ok(()), |c| write!(f, "{}", c.escape_default()))?;
            rest = odd.as_str();
        }
        f.write_str(rest)
    }
}

/// Returns whether a character does not only show itself: it controls a terminal, breaks a line,
/// changes the writing direction, or is invisible.
///
/// Joiners (U+200C, U+200D) are plain: words of some languages need them.
pub fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Escapes a text of several lines; line breaks and tabs stay.
pub fn lines_shown(text: &str) -> Cow<'_, str> {
    let misleads = |c: char| misleads(c) && c != '\n' && c != '\t';
    escaped(text, misleads, |out, c| write!(out, "{}", c.escape_default()))
}

/// Escapes a JSON document without changing its value: such characters occur only inside strings,
/// where `\u` sequences are allowed.
pub fn json_shown(document: &str) -> Cow<'_, str> {
    let misleads = |c: char| misleads(c) && !c.is_ascii_whitespace();
    escaped(document, misleads, |out, c| {
        let mut runs = [0; 2];
        c.encode_utf16(&mut runs).iter().try_for_each(|run| write!(out, "\\u{run:04x}"))
    })
}

fn escaped(
    text: &str,
    misleads: impl Fn(char) -> bool + Copy,
    escape: impl Fn(&mut String, char) -> fmt::Result,
) -> Cow<'_, str> {
    if !text.contains(misleads) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match misleads(c) {
            // Writing to a string cannot fail.
            true => escape(&mut out, c).unwrap_or(()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each misleading kind.
    const ODD: &str = "\0\t\n\r\u{7}\u{1b}[2J\u{7f}\u{85}\u{9b}31m\u{ad}\u{61c}\u{180e}\u{200b}\
        \u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{206f}\u{feff}\
        \u{fff9}\u{e0001}\u{e007f}";

    #[test]
    fn nothing_that_misleads_is_left_and_the_rest_stays() {
        let shown = Shown(ODD).to_string();
        assert!(!shown.contains(misleads), "{shown:?}");
        assert!(shown.starts_with("\\u{0}\\t\\n\\r\\u{7}\\u{1b}[2J"), "{shown}");
        assert_eq!(Shown(&shown).to_string(), shown, "twice is as once");
        for plain in ["", "a b/c.bam", "übung 試料 😀 ن\u{200c}", "back\\slash"] {
            assert_eq!(Shown(plain).to_string(), plain);
        }
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(lines_shown("a\tb\nc\u{1b}[0m\r\n"), "a\tb\nc\\u{1b}[0m\\r\n");
        assert!(matches!(lines_shown("a\n"), Cow::Borrowed("a\n")));
    }

    #[test]
    fn json_says_the_same() {
        let value = serde_json::json!({ "name": ODD, "list": [ODD, 1] });
        for document in [value.to_string(), format!("{value:#}\n")] {
            let shown = json_shown(&document);
            assert!(!shown.contains(|c: char| misleads(c) && c != '\n'), "{shown:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
        }
    }
}

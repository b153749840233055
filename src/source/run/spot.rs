//! Extracts one value from the text of a file, or from a name.

use regex::bytes::Regex;
use serde_json::Value;

use super::xml;
use crate::source::profile::Spot;

/// Returns the value at a position of a text; `None` when it is missing or the text is incomplete.
pub(super) fn read(spot: &Spot, text: &str) -> Option<String> {
    match spot {
        Spot::Xml(path) => xml::find(text, path),
        Spot::Json(names) => member(&serde_json::from_str(text).ok()?, names),
        Spot::Key(key) => key_value(text, key),
        Spot::Name(_) => None,
    }
}

/// Returns what a named group matches in a path or name.
pub(super) fn group(regex: &Regex, name: &str, text: &[u8]) -> Option<String> {
    let found = regex.captures(text)?.name(name)?;
    Some(String::from_utf8_lossy(found.as_bytes()).into_owned())
}

fn member(value: &Value, names: &[String]) -> Option<String> {
    let Some((first, rest)) = names.split_first() else {
        return match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(is_true) => Some(is_true.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
    };
    let members = value.as_object()?;
    let exact = members.get(first);
    let (_, found) = match exact {
        Some(found) => (first, found),
        None => members.iter().find(|(name, _)| name.eq_ignore_ascii_case(first))?,
    };
    member(found, rest)
}

fn key_value(text: &str, key: &str) -> Option<String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let mut found = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case(key));
    found.next().map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_whatever_their_case_and_only_in_whole_documents() {
        let names = |text: &str| Spot::Json(text.split('.').map(str::to_owned).collect());
        let text = r#"{"RunName": "r1", "Side": 2, "Run": {"Id": "x"}, "Empty": null}"#;
        let table = [
            ("RunName", Some("r1")),
            ("runname", Some("r1")),
            ("Side", Some("2")),
            ("Run.Id", Some("x")),
            ("Run", None),
            ("Empty", None),
            ("Other", None),
        ];
        for (path, expected) in table {
            assert_eq!(read(&names(path), text).as_deref(), expected, "{path}");
        }
        for broken in ["", "{\"RunName\": \"r", "<html></html>", "[]", "\u{fffd}"] {
            assert_eq!(read(&names("RunName"), broken), None, "{broken}");
        }
    }

    #[test]
    fn keys_are_lines() {
        let text = "instrument=PC24B243\r\nsample_id = S 1\r\nempty=\r\nno line";
        let value = |key: &str| read(&Spot::Key(key.into()), text);
        assert_eq!(value("instrument").as_deref(), Some("PC24B243"));
        assert_eq!(value("Sample_ID").as_deref(), Some("S 1"));
        assert_eq!(value("empty"), None);
        assert_eq!(value("no line"), None);
    }
}

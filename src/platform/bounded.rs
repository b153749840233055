//! Limits of an answer's JSON, against excessive memory.
//!
//! A few megabytes of `[{},{},…]` become hundreds of megabytes of values. So the pieces of a
//! document are counted before it is parsed ([`check`]), a list has a maximum length ([`list`]), a
//! value of unknown shape is small or null ([`Small`]), and impossible numbers are refused.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::model::ByteCount;

/// Pieces of an answer that becomes values of any shape, each a few hundred bytes at worst.
pub(super) const PIECES_MAX: usize = 32 * 1024;
/// Pieces of a list whose items keep little: ten thousand parts with a few header lines each.
pub(super) const LIST_PIECES_MAX: usize = 256 * 1024;
/// Items of any list: more than a platform returns in one page, and as many as an upload has parts.
const ITEMS_MAX: usize = 10_000;
/// Pieces of a value of unknown shape: platforms accept a thousand keys of metadata.
const SMALL_MAX: usize = 4 * 1024;

/// Returns whether a document has at most that many pieces: keys, and starts and ends of items.
pub(super) fn check(document: &[u8], pieces_max: usize) -> bool {
    let (mut count, mut in_text, mut is_escaped) = (0, false, false);
    for byte in document {
        match (in_text, byte) {
            (true, _) if is_escaped => is_escaped = false,
            (true, b'\\') => is_escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b',' | b':' | b'[' | b'{') => count += 1,
            _ => {}
        }
    }
    count <= pieces_max
}

/// Reads a list of at most [`ITEMS_MAX`] items.
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct List<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(item) = items.next_element()? {
                if list.len() == ITEMS_MAX {
                    return Err(A::Error::custom("too long a list"));
                }
                list.push(item);
            }
            Ok(list)
        }
    }
    deserializer.deserialize_seq(List(PhantomData))
}

/// Parses the length of a file or a part; `None` for an impossible one.
pub(super) fn file_size<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    let size = Option::<u64>::deserialize(deserializer)?;
    match size.is_none_or(|size| ByteCount::of_file(size).is_some()) {
        true => Ok(size),
        false => Err(D::Error::custom("no length of a file")),
    }
}

/// Parses a value of the wanted type; anything else counts as absent.
pub(super) fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let Small(value) = Small::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

/// A value of any shape; one with more than [`SMALL_MAX`] pieces is null.
#[derive(Debug, Default)]
pub(super) struct Small(pub(super) Value);

impl<'de> Deserialize<'de> for Small {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut left = SMALL_MAX;
        let value = deserializer.deserialize_any(Counted(&mut left))?;
        Ok(Self(if left == 0 { Value::Null } else { value }))
    }
}

/// Builds a value while pieces are left, and skips the rest.
struct Counted<'a>(&'a mut usize);

impl<'de> serde::de::DeserializeSeed<'de> for Counted<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        *self.0 = self.0.saturating_sub(1);
        match *self.0 {
            0 => IgnoredAny::deserialize(deserializer).map(|_| Value::Null),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Counted<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Counted(self.0))? {
            if *self.0 > 0 {
                list.push(item);
            }
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(Counted(self.0))?;
            if *self.0 > 0 {
                map.insert(name, value);
            }
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_counted_outside_of_texts() {
        let document = br#"{"a,{[:\"":[1,"x\\",{}],"b":null}"#;
        assert!(check(document, 8) && !check(document, 7));
        assert!(check(b"", 0) && check(b"\"{{{{\"", 0));
    }

    #[test]
    fn a_small_value_is_as_it_is_and_a_large_one_is_nothing() {
        let read = |text: &str| serde_json::from_str::<Small>(text).expect("JSON").0;
        for text in [r#"{"a":[1,-2,0.5,"x",null,true,{"b":{}}]}"#, "[]", "\"x\"", "7"] {
            assert_eq!(read(text), serde_json::from_str::<Value>(text).expect("JSON"));
        }
        let large = format!("[{}1]", "1,".repeat(SMALL_MAX));
        assert_eq!(read(&large), Value::Null);
        assert_eq!(read(&format!("{{\"a\":{large}}}")), Value::Null);
    }

    #[test]
    fn absurd_lists_and_sizes_are_refused() {
        #[derive(Deserialize)]
        struct Page {
            #[serde(deserialize_with = "list")]
            items: Vec<u8>,
            #[serde(default, deserialize_with = "file_size")]
            size: Option<u64>,
        }
        let read = |count: usize, size: &str| {
            let items = vec!["1"; count].join(",");
            let page = serde_json::from_str::<Page>(&format!(r#"{{"items":[{items}]{size}}}"#));
            page.map(|page| (page.items.len(), page.size)).ok()
        };
        assert_eq!(read(10_000, ""), Some((10_000, None)));
        assert_eq!(read(10_001, ""), None);
        assert_eq!(read(0, r#","size":5"#), Some((0, Some(5))));
        assert_eq!(read(0, r#","size":null"#), Some((0, None)));
        for size in ["9223372036854775808", "18446744073709551615", "1125899906842625", "-1", "1e3"]
        {
            assert_eq!(read(0, &format!(r#","size":{size}"#)), None, "{size}");
        }
    }
}

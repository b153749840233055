//! JSON texts of values in lines.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{ETagMode, Hex, Md5, WallTime};
use crate::receipt::rfc3339;

/// Moments as RFC 3339 in UTC.
pub(super) mod moment {
    use super::*;

    pub(in crate::receipt::line) fn serialize<S: Serializer>(
        at: &Option<WallTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        at.map(rfc3339).serialize(serializer)
    }

    pub(in crate::receipt::line) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<WallTime>, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_moment(&text).map(Some).ok_or_else(|| D::Error::custom("no time: RFC 3339"))
    }
}

/// Parses a time that [`rfc3339`] wrote.
pub fn parse_moment(text: &str) -> Option<WallTime> {
    let at: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(at.as_nanosecond()).ok().map(WallTime)
}

pub(super) mod md5_text {
    use super::*;

    pub(in crate::receipt::line) fn serialize<S: Serializer>(
        md5: &Option<Md5>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match md5 {
            Some(md5) => serializer.collect_str(md5),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::receipt::line) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Md5>, D::Error> {
        required::deserialize(deserializer).map(Some)
    }

    pub(in crate::receipt::line) mod required {
        use super::*;

        pub(in crate::receipt::line) fn serialize<S: Serializer>(
            md5: &Md5,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            serializer.collect_str(md5)
        }

        pub(in crate::receipt::line) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Md5, D::Error> {
            let text = <&str>::deserialize(deserializer)?;
            Md5::parse(text).ok_or_else(|| D::Error::custom("no MD5: 32 hexadecimal digits"))
        }
    }
}

pub(super) mod sha256_text {
    use super::*;

    pub(in crate::receipt::line) fn serialize<S: Serializer>(
        sha256: &Option<[u8; 32]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match sha256 {
            Some(sha256) => serializer.collect_str(&Hex(sha256)),
            None => serializer.serialize_none(),
        }
    }

    pub(in crate::receipt::line) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<[u8; 32]>, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        let wrong = || D::Error::custom("no SHA-256: 64 hexadecimal digits");
        parse_sha256(text).map(Some).ok_or_else(wrong)
    }
}

/// Parses 64 hexadecimal digits.
pub fn parse_sha256(text: &str) -> Option<[u8; 32]> {
    let (head, tail) = text.split_at_checked(32)?;
    let (head, tail) = (Md5::parse(head)?, Md5::parse(tail)?);
    [head.0, tail.0].concat().try_into().ok()
}

pub(super) mod etag_mode {
    use super::*;

    pub(in crate::receipt::line) fn serialize<S: Serializer>(
        mode: &Option<ETagMode>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        mode.map(ETagMode::as_str).serialize(serializer)
    }

    pub(in crate::receipt::line) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<ETagMode>, D::Error> {
        // A mode of a later version proves nothing that this one understands.
        Ok(ETagMode::parse(<&str>::deserialize(deserializer)?))
    }
}

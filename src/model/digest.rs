//! Digests of content, ETags, and what may be concluded from comparing the two.

use std::fmt;

use super::hex::Hex;

/// An MD5 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Md5(pub [u8; 16]);

impl Md5 {
    /// Parses 32 hexadecimal digits of either case.
    pub fn parse(hex: &str) -> Option<Self> {
        let digits = hex.as_bytes();
        if digits.len() != 32 {
            return None;
        }
        let mut out = [0; 16];
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_value(pair[0])? << 4 | hex_value(pair[1])?;
        }
        Some(Self(out))
    }
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

impl fmt::Display for Md5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for Md5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Md5({self})")
    }
}

/// The remote's word for an accepted part, without the quotes around it.
///
/// Empty where a storage gives none and the platform does not ask for one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ETag(String);

impl ETag {
    /// Takes a header's value and strips the quotes.
    pub fn from_header(value: &str) -> Self {
        Self(value.trim().trim_matches('"').to_owned())
    }

    /// Returns the bare text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the ETags of one upload have shown themselves to be.
///
/// A storage without encryption by key service answers with the part's MD5; one with it answers
/// with 32 digits that are something else. It is learned per upload and kept in its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ETagMode {
    /// No part accepted yet.
    Unknown,
    /// An ETag has equalled its part's MD5: from here on a difference is a corrupt transfer.
    Md5,
    /// ETags say nothing about content: never compared.
    Opaque,
}

/// What an ETag says about a part whose MD5 we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the MD5 of what we read.
    Equal,
    /// It looks like an MD5 and is another one.
    Differs,
    /// It is not an MD5, or the upload's ETags are opaque.
    Silent,
}

impl ETagMode {
    /// Compares one part's ETag with the MD5 of the bytes read for it.
    pub fn judge(self, etag: &ETag, md5: Md5) -> Verdict {
        match (self, Md5::parse(etag.as_str())) {
            (Self::Opaque, _) | (_, None) => Verdict::Silent,
            (Self::Unknown | Self::Md5, Some(said)) if said == md5 => Verdict::Equal,
            (Self::Unknown | Self::Md5, Some(_)) => Verdict::Differs,
        }
    }
}

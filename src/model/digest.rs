//! Digests of content, ETags, and the conclusions from comparing them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::hex::Hex;
use super::words::words;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// The remote's identifier of an accepted part, without the quotes around it.
///
/// Empty where a storage gives none and the platform does not ask for one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ETag(String);

impl ETag {
    /// Parses a header's value: strips the quotes, and the weak mark that proxies add.
    pub fn from_header(value: &str) -> Self {
        let value = value.trim();
        Self(value.strip_prefix("W/").unwrap_or(value).trim_matches('"').to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The storage's answer to an accepted part, or to an accepted file of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    pub etag: ETag,
    /// The answer names a key (of a key service, or the customer's), so the ETag is no digest.
    pub is_keyed: bool,
    /// It was already there: an earlier request of ours sent it, and this one may have sent nothing.
    pub is_found: bool,
    /// Reported instead of the ETag, where the platform asks for more or for something else.
    pub note: Option<PartNote>,
}

/// The text that a platform's client reports for a part; opaque to every other module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartNote(Box<str>);

impl PartNote {
    /// Limit of a note's length: one is kept for each part that is not reported yet.
    pub const BYTES_MAX: usize = 4096;

    /// Returns a note; `None` when it is too long.
    pub fn new(text: &str) -> Option<Self> {
        (text.len() <= Self::BYTES_MAX).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<ETag> for Stored {
    fn from(etag: ETag) -> Self {
        Self { etag, is_keyed: false, is_found: false, note: None }
    }
}

/// What a platform's documentation promises about its ETags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ETagLaw {
    /// They are MD5s. A missing one proves nothing; a different one is damage.
    Md5s,
    /// They are MD5s unless the storage encrypts with a key or computes them by its own rule.
    Mostly {
        /// Stored content can be read back, so that such a rule can be proved.
        reads_back: bool,
    },
}

words! {
    /// How the content of one upload's parts is proved. Learned per upload and kept in its row.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum ETagMode {
        /// No part accepted yet.
        Unknown = "unknown";
        Md5 = "md5";
        /// The storage stated that its ETags are no digests: each part was sent with its MD5, and
        /// the size must agree.
        Opaque = "opaque";
        /// ETags that look like digests are none: the whole file must be read back.
        ReadBack = "read-back";
    }
}

/// The conclusion from the ETag of a part whose MD5 we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The ETag is the MD5 of the bytes we read.
    Equal,
    /// The storage stated that the ETag is no digest.
    Silent,
    /// The ETag looks like a digest and is none: the bytes must be read back.
    Unproved,
    Differs,
}

/// What is known about ETags when one is judged.
#[derive(Debug, Clone, Copy)]
pub struct ETagEvidence<'a> {
    /// What the platform's documents promise.
    pub law: ETagLaw,
    /// What the upload's other parts have shown.
    pub mode: ETagMode,
    /// An ETag was equal to its part's MD5 at this destination.
    pub md5_seen: bool,
    /// A file was intact at this destination although its ETags were other digests.
    pub no_digests: bool,
    /// The ETag that an earlier request got for the same part, where it was not the part's MD5.
    pub earlier: Option<&'a ETag>,
}

impl ETagEvidence<'_> {
    /// Judges the storage's answer to a part whose MD5 we know.
    pub fn judge(&self, stored: &Stored, md5: Md5) -> Verdict {
        let said = Md5::parse(stored.etag.as_str());
        let ETagLaw::Mostly { reads_back } = self.law else {
            return match said {
                Some(said) if said == md5 => Verdict::Equal,
                None if stored.etag.as_str().is_empty() => Verdict::Silent,
                Some(_) | None => Verdict::Differs,
            };
        };
        match said {
            None => Verdict::Silent,
            Some(_) if stored.is_keyed => Verdict::Silent,
            Some(said) if said == md5 => Verdict::Equal,
            Some(_) if !reads_back || self.md5_seen => Verdict::Differs,
            Some(_) => match self.mode {
                ETagMode::Md5 => Verdict::Differs,
                ETagMode::ReadBack => Verdict::Unproved,
                ETagMode::Unknown | ETagMode::Opaque if self.no_digests => Verdict::Unproved,
                ETagMode::Unknown | ETagMode::Opaque => match self.earlier {
                    Some(earlier) if *earlier != stored.etag => Verdict::Unproved,
                    Some(_) | None => Verdict::Differs,
                },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: Md5 = Md5([7; 16]);
    const OTHER: &str = "0cc175b9c0f1b6a831c399e269772661";
    const THIRD: &str = "92eb5ffee6ae2fec3ad71c777531578f";

    fn evidence(law: ETagLaw, mode: ETagMode) -> ETagEvidence<'static> {
        ETagEvidence { law, mode, md5_seen: false, no_digests: false, earlier: None }
    }

    fn judge(evidence: ETagEvidence<'_>, etag: &str, is_keyed: bool) -> Verdict {
        evidence.judge(&Stored { is_keyed, ..ETag::from_header(etag).into() }, MD5)
    }

    #[test]
    fn what_an_etag_proves() {
        use ETagMode::{Md5 as Md5s, Opaque, ReadBack, Unknown};
        use Verdict::{Differs, Equal, Silent, Unproved};
        let storage = ETagLaw::Mostly { reads_back: true };
        let blind = ETagLaw::Mostly { reads_back: false };
        let (md5, upper) = (MD5.to_string(), MD5.to_string().to_uppercase());
        // Law, mode, seen here, earlier ETag, ETag, key named: verdict.
        type Row<'a> = (ETagLaw, ETagMode, bool, Option<&'a str>, &'a str, bool, Verdict);
        let table: [Row<'_>; 22] = [
            (storage, Unknown, false, None, &md5, false, Equal),
            (storage, Unknown, false, None, &upper, false, Equal),
            (storage, ReadBack, false, Some(OTHER), &md5, false, Equal),
            // The storage states it.
            (storage, Unknown, false, None, OTHER, true, Silent),
            (storage, Md5s, true, Some(OTHER), OTHER, true, Silent),
            (storage, Unknown, true, None, "opaque-3", false, Silent),
            (storage, Md5s, true, None, "7c-1", false, Silent),
            (blind, Unknown, true, None, OTHER, true, Silent),
            (blind, Unknown, false, None, "", false, Silent),
            // One failure, or the same one twice, is damage.
            (storage, Unknown, false, None, OTHER, false, Differs),
            (storage, Unknown, false, Some(OTHER), OTHER, false, Differs),
            (storage, Opaque, false, None, OTHER, false, Differs),
            // Two different ones require a proof, where one is possible.
            (storage, Unknown, false, Some(OTHER), THIRD, false, Unproved),
            (storage, ReadBack, false, None, THIRD, false, Unproved),
            (blind, Unknown, false, Some(OTHER), THIRD, false, Differs),
            // One match anywhere refutes it.
            (storage, Md5s, false, Some(OTHER), THIRD, false, Differs),
            (storage, Unknown, true, Some(OTHER), THIRD, false, Differs),
            (storage, ReadBack, true, Some(OTHER), THIRD, false, Differs),
            // The vendor states it.
            (ETagLaw::Md5s, Unknown, false, Some(OTHER), THIRD, true, Differs),
            (ETagLaw::Md5s, Unknown, false, None, "opaque-3", false, Differs),
            (ETagLaw::Md5s, Unknown, false, None, &md5, false, Equal),
            (ETagLaw::Md5s, Md5s, true, None, "", false, Silent),
        ];
        for (law, mode, md5_seen, earlier, etag, is_keyed, expected) in table {
            let earlier = earlier.map(ETag::from_header);
            let evidence =
                ETagEvidence { md5_seen, earlier: earlier.as_ref(), ..evidence(law, mode) };
            let row = format!("{evidence:?}: {etag:?}, key named: {is_keyed}");
            assert_eq!(judge(evidence, etag, is_keyed), expected, "{row}");
        }
    }

    #[test]
    fn what_was_learned_of_a_storage_saves_the_second_sending_until_one_match_refutes_it() {
        let storage = ETagLaw::Mostly { reads_back: true };
        let learned = ETagEvidence { no_digests: true, ..evidence(storage, ETagMode::Unknown) };
        assert_eq!(judge(learned, OTHER, false), Verdict::Unproved);
        assert_eq!(judge(learned, &MD5.to_string(), false), Verdict::Equal);
        let refuted = ETagEvidence { md5_seen: true, ..learned };
        assert_eq!(judge(refuted, OTHER, false), Verdict::Differs);
        let blind = ETagEvidence { law: ETagLaw::Mostly { reads_back: false }, ..learned };
        assert_eq!(judge(blind, OTHER, false), Verdict::Differs);
    }

    #[test]
    fn an_etag_is_taken_out_of_its_quotes_and_of_what_a_proxy_put_before_them() {
        for text in ["\"e\"", "e", " \"e\" ", "W/\"e\""] {
            assert_eq!(ETag::from_header(text).as_str(), "e", "{text}");
        }
    }
}

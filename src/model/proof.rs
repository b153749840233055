//! The present state of a file at its destination, compared with what was sent.
//!
//! `verify` prints it; disposal requires it: a source is removed only while every file of its run
//! is at every destination as it was sent.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bytes::ByteCount;
use super::digest::{ETag, ETagMode, Md5};
use super::file::SourcePath;
use super::id::{RemoteFileId, UploadId};
use super::ledger::LineRef;
use super::remote::{ContentMark, RemoteFile};

/// What is known here about a sent file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentFile {
    pub size: ByteCount,
    pub mark: Option<ContentMark>,
    /// The digest that the destination reported when the file was verified.
    pub told: Option<ContentMark>,
    pub etag: Option<ETag>,
    /// What the destination's ETags prove.
    pub etag_mode: ETagMode,
}

/// One file of a run at one destination, from its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrivedFile {
    pub upload: UploadId,
    pub path: SourcePath,
    pub sent: SentFile,
    pub remote: RemoteFileId,
    /// Its receipt line.
    pub receipt: Option<LineRef>,
}

/// Why a run is not disposed of, where that is more than a passing failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DisposalDoubt {
    /// A receipt is missing, or differs from the one that was written.
    ReceiptDamaged(String),
    /// A file is not at a destination as it was sent, or cannot be checked.
    GoneAtDestination(String),
}

impl DisposalDoubt {
    /// Returns it as text.
    pub fn text(&self) -> &str {
        match self {
            Self::ReceiptDamaged(text) | Self::GoneAtDestination(text) => text,
        }
    }
}

/// The result of comparing a file at a destination with what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteStanding {
    /// Size and digest are equal.
    Same,
    /// The size is equal, and there is no digest to compare.
    SameSize,
    /// The size is equal, and the destination's own kind of digest has not changed since the file
    /// was verified.
    AsVerified,
    /// The size is equal, and the digest covers parts of another size.
    OtherParts,
    /// The size is equal, and the digest is of another kind.
    OtherKind,
    OtherSize {
        there: ByteCount,
        sent: ByteCount,
    },
    OtherDigest {
        there: Md5,
        sent: Md5,
    },
    /// Its ETag differs from the verified one, or is missing: it was replaced since.
    Replaced,
    /// The destination does not report its size.
    NoSize,
    /// The destination has no such file.
    NotThere,
}

impl RemoteStanding {
    /// Compares what was sent with what the destination reports of the file.
    pub fn of(sent: &SentFile, there: Option<&RemoteFile>) -> Self {
        let Some(there) = there else { return Self::NotThere };
        match there.size {
            Some(size) if size != sent.size => {
                return Self::OtherSize { there: size, sent: sent.size };
            }
            Some(_) => {}
            None => return Self::NoSize,
        }
        // Empty files are equal, whatever a digest says.
        let has_bytes = sent.size.0 > 0;
        let is_replaced = has_bytes && sent.etag.is_some() && sent.etag != there.etag;
        let marks = sent.mark.zip(there.mark).filter(|_| has_bytes);
        let Some((ours, theirs)) = marks else {
            return if is_replaced { Self::Replaced } else { Self::SameSize };
        };
        let is_one_part = |mark: &ContentMark| mark.part_size.count_for(sent.size) == Some(1);
        let is_comparable =
            ours.part_size == theirs.part_size || (is_one_part(&ours) && is_one_part(&theirs));
        // Equal digests cover the same parts, also where the platform's part size is a guess.
        if ours.md5_of_parts == theirs.md5_of_parts {
            return Self::Same;
        }
        if is_replaced && !(is_comparable && sent.etag_mode == ETagMode::Md5) {
            return Self::Replaced;
        }
        let is_proved_otherwise = matches!(sent.etag_mode, ETagMode::Md5 | ETagMode::Opaque);
        if is_proved_otherwise && sent.told == Some(theirs) {
            return Self::AsVerified;
        }
        match (is_comparable, sent.etag_mode) {
            (false, _) => Self::OtherParts,
            (true, ETagMode::Md5 | ETagMode::Unknown) => {
                Self::OtherDigest { there: theirs.md5_of_parts, sent: ours.md5_of_parts }
            }
            // The reported ETag is no digest of the content.
            (true, ETagMode::Opaque | ETagMode::ReadBack) => Self::OtherKind,
        }
    }

    /// Returns whether it permits to remove the source: everything that the destination reports agrees.
    pub fn lets_source_go(self, etag_mode: ETagMode) -> bool {
        match self {
            Self::Same | Self::SameSize | Self::AsVerified => true,
            // ETags that were no digests when it was sent prove nothing either way.
            Self::OtherParts | Self::OtherKind => {
                matches!(etag_mode, ETagMode::Opaque | ETagMode::ReadBack)
            }
            Self::OtherSize { .. }
            | Self::OtherDigest { .. }
            | Self::Replaced
            | Self::NoSize
            | Self::NotThere => false,
        }
    }
}

impl fmt::Display for RemoteStanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("size and digest"),
            Self::SameSize => f.write_str("size; no digest to compare"),
            Self::AsVerified => {
                f.write_str("size, and its own digest is what it was when the file was verified")
            }
            Self::OtherParts => f.write_str("size; its digest is over other parts"),
            Self::OtherKind => {
                f.write_str("the size is the same, and its digest is of another kind")
            }
            Self::OtherSize { there, sent } => {
                write!(f, "size: {} bytes there, {} sent", there.0, sent.0)
            }
            Self::OtherDigest { there, sent } => write!(f, "digest: {there} there, {sent} sent"),
            Self::Replaced => {
                f.write_str("its ETag is not the one of when it was verified: it was replaced")
            }
            Self::NoSize => f.write_str("the platform does not tell its size"),
            Self::NotThere => f.write_str("the destination does not have it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PartSize;

    fn mark(part_size: u64, md5: u8) -> Option<ContentMark> {
        let part_size = PartSize::new(part_size).unwrap();
        Some(ContentMark { part_size, md5_of_parts: Md5([md5; 16]) })
    }

    #[test]
    fn a_source_goes_only_for_what_agrees_in_all_that_is_told() {
        let there = |size, mark| {
            let id = RemoteFileId::new("f");
            Some(RemoteFile { mark, ..RemoteFile::known_as(id, "f", size) })
        };
        let size = Some(ByteCount(10));
        let (md5, opaque, unknown) = (ETagMode::Md5, ETagMode::Opaque, ETagMode::Unknown);
        let table = [
            (md5, mark(4, 1), there(size, mark(4, 1)), true),
            (md5, mark(4, 1), there(size, None), true),
            (md5, None, there(size, mark(4, 1)), true),
            (md5, mark(10, 1), there(size, mark(64, 1)), true),
            (md5, mark(4, 1), there(size, mark(5, 1)), true),
            (md5, mark(4, 1), there(size, mark(4, 2)), false),
            (md5, mark(4, 1), there(size, mark(10, 2)), false),
            (unknown, mark(4, 1), there(size, mark(4, 2)), false),
            (opaque, mark(4, 1), there(size, mark(4, 2)), true),
            (opaque, mark(4, 1), there(size, mark(10, 2)), true),
            (md5, mark(4, 1), there(Some(ByteCount(9)), mark(4, 1)), false),
            (md5, mark(4, 1), there(None, mark(4, 1)), false),
            (md5, mark(4, 1), None, false),
            // A digest by another rule, unchanged.
            (md5, mark(4, 1), there(size, mark(64, 9)), true),
            (opaque, mark(4, 1), there(size, mark(64, 9)), true),
            (unknown, mark(4, 1), there(size, mark(64, 9)), false),
            (ETagMode::ReadBack, mark(4, 1), there(size, mark(4, 2)), true),
        ];
        for (etag_mode, ours, there, expected) in table {
            let told = mark(64, 9);
            let sent = SentFile { size: ByteCount(10), mark: ours, told, etag: None, etag_mode };
            let found = RemoteStanding::of(&sent, there.as_ref());
            assert_eq!(found.lets_source_go(etag_mode), expected, "{found:?}");
        }
    }

    #[test]
    fn a_file_with_another_etag_or_none_was_replaced_unless_its_content_is_proved() {
        let etag = |text| Some(ETag::from_header(text));
        let modes = [ETagMode::Md5, ETagMode::Opaque, ETagMode::ReadBack, ETagMode::Unknown];
        for (etag_mode, there, mark_there, expected) in modes.into_iter().flat_map(|mode| {
            [
                (mode, etag("\"a-3\""), None, true),
                (mode, etag("\"b-2\""), None, false),
                (mode, etag("W/\"b-3\""), None, false),
                (mode, None, None, false),
                (mode, etag("\"b-2\""), mark(6, 7), false),
                (mode, None, mark(6, 7), false),
                (mode, etag("\"b\""), mark(4, 1), true),
            ]
        }) {
            let size = ByteCount(10);
            let (sent_mark, told) = (mark(4, 1), mark(4, 1));
            let sent = SentFile { size, mark: sent_mark, told, etag: etag("\"a-3\""), etag_mode };
            let file = RemoteFile::known_as(RemoteFileId::new("f"), "f", Some(size));
            let file = RemoteFile { mark: mark_there, etag: there, ..file };
            let found = RemoteStanding::of(&sent, Some(&file));
            assert_eq!(found.lets_source_go(etag_mode), expected, "{etag_mode:?} {found:?}");
            assert_eq!(found == RemoteStanding::Replaced, !expected, "{etag_mode:?} {found:?}");
        }
    }
}

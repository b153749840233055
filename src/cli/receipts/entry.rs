//! A ledger line for listings: its file and its digests. Only these are parsed, with few copies,
//! because a run may have hundreds of thousands of lines, and each is read twice.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::cli::what::MeantFile;
use crate::model::UploadId;
use crate::receipt::line::LineKind;

/// Lines without a file have only a kind, and maybe an id.
#[derive(Debug, Deserialize)]
pub(super) struct Entry<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    id: Option<i64>,
    #[serde(borrow, default)]
    pub(super) drop: Cow<'a, str>,
    #[serde(borrow, default)]
    path: Cow<'a, str>,
    /// The path in base64, where `path` is not exactly the name.
    #[serde(borrow, default)]
    path_bytes: Cow<'a, str>,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) mtime_ns: i64,
    #[serde(borrow, default)]
    pub(super) destination: EntryDestination<'a>,
    #[serde(borrow, default)]
    parts: Vec<EntryPart<'a>>,
    #[serde(borrow, default)]
    whole_file_digests: EntryDigests<'a>,
    /// It is the run's sentinel, and no file of the drop directory.
    #[serde(default)]
    sentinel: bool,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct EntryDestination<'a> {
    #[serde(borrow, default)]
    pub(super) name: Cow<'a, str>,
}

#[derive(Debug, Deserialize)]
struct EntryPart<'a> {
    #[serde(borrow)]
    md5: Cow<'a, str>,
}

#[derive(Debug, Default, Deserialize)]
struct EntryDigests<'a> {
    #[serde(borrow, default)]
    md5: Cow<'a, str>,
    #[serde(borrow, default)]
    sha256: Cow<'a, str>,
}

/// A digest that other programs can check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SumFormat {
    Md5,
    Sha256,
}

impl Entry<'_> {
    /// Returns whether it proves that a file is at a destination.
    pub(super) fn is_of_file(&self) -> bool {
        matches!(self.kind(), Some(LineKind::Upload | LineKind::FoundAgain)) && !self.sentinel
    }

    pub(super) fn kind(&self) -> Option<LineKind> {
        LineKind::parse(&self.kind)
    }

    pub(super) fn upload(&self) -> Option<UploadId> {
        self.id.map(UploadId)
    }

    /// Returns the path as people read it.
    pub(super) fn shown_path(&self) -> &str {
        &self.path
    }

    /// Returns the exact path.
    pub(super) fn path(&self) -> Cow<'_, [u8]> {
        let text = Cow::Borrowed(self.path.as_bytes());
        match &*self.path_bytes {
            "" => text,
            base64 => STANDARD.decode(base64).map_or(text, Cow::Owned),
        }
    }

    /// Returns the digest of the whole file; its MD5 is that of its only part, if none was requested.
    pub(super) fn digest(&self, format: SumFormat) -> Option<&str> {
        let whole = match format {
            SumFormat::Md5 => &self.whole_file_digests.md5,
            SumFormat::Sha256 => &self.whole_file_digests.sha256,
        };
        match (&self.parts[..], format) {
            _ if !whole.is_empty() => Some(whole),
            ([only], SumFormat::Md5) => Some(&only.md5),
            (_, SumFormat::Md5 | SumFormat::Sha256) => None,
        }
    }

    /// Passes on the file as words may refer to it.
    pub(super) fn with_file<T>(&self, tell: impl FnOnce(&MeantFile<'_>) -> T) -> T {
        tell(&MeantFile {
            upload: UploadId(self.id.unwrap_or_default()),
            drop: &self.drop,
            path: &self.path(),
            destination: &self.destination.name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Entry<'_> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_path_is_read_to_the_letter_and_an_only_part_has_the_digest_of_its_file() {
        let read = entry(
            r#"{"kind":"upload","id":7,"drop":"lab","path":"a\\xff","path_bytes":"Yf8=",
            "destination":{"name":"far"},"parts":[{"number":1,"md5":"ab","etag":"x"}],"odd":[1]}"#,
        );
        assert_eq!((&*read.path(), read.upload()), (&b"a\xff"[..], Some(UploadId(7))));
        assert_eq!(
            (read.digest(SumFormat::Md5), read.digest(SumFormat::Sha256)),
            (Some("ab"), None)
        );
        let read = entry(
            r#"{"kind":"found-again","path":"ä","whole_file_digests":{"sha256":"cd"},
            "parts":[{"md5":"1"},{"md5":"2"}]}"#,
        );
        assert_eq!(
            (read.digest(SumFormat::Md5), read.digest(SumFormat::Sha256)),
            (None, Some("cd"))
        );
        assert_eq!(&*read.path(), "ä".as_bytes());
        assert!(read.is_of_file() && !entry(r#"{"kind":"exported","id":7}"#).is_of_file());
        assert!(!entry(r#"{"kind":"upload","path":"DONE","sentinel":true}"#).is_of_file());
    }
}

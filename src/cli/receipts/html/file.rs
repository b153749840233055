//! A file's fields that only the page shows.

use std::borrow::Cow;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub(super) struct PageFile<'a> {
    #[serde(borrow, default)]
    pub(super) destination: PageDestination<'a>,
    /// MD5 over the MD5s of all parts, and their number.
    #[serde(borrow, default)]
    pub(super) content_digest: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) root: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) place: Cow<'a, str>,
    /// RFC 3339, as is `verified_at`.
    #[serde(borrow, default)]
    pub(super) begun_at: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) verified_at: Cow<'a, str>,
    #[serde(default)]
    pub(super) attempt_count: u64,
    #[serde(default)]
    pub(super) bytes_sent: u64,
    #[serde(default)]
    pub(super) bytes_sent_again: u64,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct PageDestination<'a> {
    #[serde(borrow, default)]
    pub(super) platform: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) base_url: Cow<'a, str>,
    #[serde(borrow, default)]
    bucket: Cow<'a, str>,
    #[serde(borrow, default)]
    project: Cow<'a, str>,
}

impl PageDestination<'_> {
    /// Returns the bucket or the project.
    pub(super) fn container(&self) -> &str {
        if self.bucket.is_empty() { &self.project } else { &self.bucket }
    }
}

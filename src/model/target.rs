//! The identity of a destination: its target, not its name.
//!
//! The configuration may give a name another address, bucket or project. What was completed at the
//! former target stays there and proves nothing at the current one, so every upload keeps the id of
//! the target that it was sent to.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::ETag;
use super::file::SourcePath;
use super::id::{DestinationName, RemoteFileId, RemoteUploadId, UploadId};
use super::remote::RemoteFile;
use super::words::words;

/// Identifies one target for the lifetime of the database.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TargetId(pub u32);

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The address of a target. Two destinations with the same address are one target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TargetAddress {
    pub platform: String,
    /// The platform's address, in its canonical form.
    pub base_url: String,
    /// The bucket, project or `AppResult`.
    pub container: String,
}

impl TargetAddress {
    /// Returns whether its container is called a bucket.
    pub fn has_buckets(&self) -> bool {
        self.platform == "s3"
    }

    /// Returns the platform's own web page of it, where one is known.
    pub fn page(&self) -> Option<String> {
        let host = self.base_url.strip_prefix("https://")?.split('/').next()?;
        let container = &self.container;
        match self.platform.as_str() {
            "sevenbridges" => {
                let site = host.strip_suffix("api.sbgenomics.com")?;
                let site = if site.is_empty() { "igor" } else { site.strip_suffix('-')? };
                Some(format!("https://{site}.sbgenomics.com/u/{container}/files/"))
            }
            "basespace" => {
                let site = host.strip_prefix("api.").filter(|site| site.starts_with("basespace."));
                site.or_else(|| host.strip_prefix("api.").filter(|s| s.contains(".sh.basespace.")))
                    .map(|site| format!("https://{site}/"))
            }
            "s3" if host.ends_with(".amazonaws.com") => {
                Some(format!("https://s3.console.aws.amazon.com/s3/buckets/{container}"))
            }
            _ => None,
        }
    }
}

impl fmt::Display for TargetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} at {}", self.platform, self.container, self.base_url)
    }
}

/// Uploads that were completed at a target that their destination no longer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerTarget {
    pub destination: String,
    /// The target; `None` when its row is missing.
    pub address: Option<TargetAddress>,
    /// How many uploads were completed there.
    pub completed_count: u64,
}

impl FormerTarget {
    /// Returns a sentence for operators.
    pub fn sentence(&self) -> String {
        let Self { destination, address, completed_count } = self;
        let uploads = if *completed_count == 1 { "upload was" } else { "uploads were" };
        let address =
            address.as_ref().map_or_else(|| "another target".to_owned(), ToString::to_string);
        format!(
            "destination {destination}: {completed_count} {uploads} completed at its former target \
             ({address}): they stay there, are not sent again by themselves and prove nothing for \
             disposal; dropferry retry {destination} --resend sends them to the new one, same_as \
             declares the two to be the same"
        )
    }
}

/// A remote upload to remove.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OpenCleanup {
    pub destination: DestinationName,
    pub target: TargetId,
    pub remote: RemoteUploadId,
    /// The upload that replaced it by another one: it is kept until that is begun, or is not needed.
    pub after: Option<UploadId>,
}

/// The source of a place: a path below a drop directory, independent of that directory's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceSource {
    /// The drop directory's path; for a sentinel, a stand-in for the receipts of its drop directory.
    pub directory: String,
    pub path: SourcePath,
}

impl fmt::Display for PlaceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.directory.trim_end_matches('/'), self.path)
    }
}

/// The upload that made the file at a place, and its source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceHolder {
    pub upload: UploadId,
    pub source: PlaceSource,
}

/// The file that an earlier upload of the same source left at a place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierVersion {
    pub upload: UploadId,
    pub file: RemoteFileId,
    /// The verified ETag.
    pub etag: Option<ETag>,
}

impl EarlierVersion {
    /// Returns whether a file found at its place is still this one.
    pub fn is(&self, found: &RemoteFile) -> bool {
        let is_other = self.etag.as_ref().zip(found.etag.as_ref()).is_some_and(|(a, b)| a != b);
        self.file == found.id && !is_other
    }
}

/// How an upload replaces an earlier version of its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supersession {
    pub earlier: EarlierVersion,
    /// The next rename, where the platform cannot replace a file in one step.
    pub renames: Option<RenameStep>,
}

words! {
    /// The steps that swap the names of two files, each durable before its act.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub enum RenameStep {
        /// The newer file is sent under a name of its own.
        Beside = "beside";
        /// The earlier file gets another name.
        Aside = "aside";
        /// The newer file gets the name.
        In = "in";
        /// The newer file gets the name, which no file has.
        Alone = "alone";
        /// The earlier file is removed.
        Out = "out";
    }
}

/// What the rows know of a place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceFound {
    /// Another source of ours that holds it.
    pub other: Option<PlaceHolder>,
    /// The earlier version of the same source there.
    pub earlier: Option<EarlierVersion>,
    /// The source of that version was disposed of, or its path was seen empty since.
    pub was_absent: bool,
}

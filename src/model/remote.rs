//! Remote objects, in terms that fit every platform.

use serde::{Deserialize, Serialize};

use super::bytes::{ByteCount, PartLimits, PartNumber, PartSize};
use super::digest::{ETag, ETagLaw, Md5, PartNote};
use super::id::{RemoteFileId, RemoteUploadId, VersionId};

/// A file's location at its destination: its folders from the top of the project or bucket down, and its
/// name. Frozen at admission, and one allocation, because hundreds of thousands may be queued.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The folders, each followed by a slash, and the name.
    path: Box<str>,
    /// Offset of the name: a name may contain a slash, a folder cannot.
    name_at: u32,
}

impl Target {
    /// Builds a target from folders and a name; empty folders are left out.
    pub fn new<F: AsRef<str>>(folders: impl IntoIterator<Item = F>, name: &str) -> Self {
        let mut path = String::new();
        for folder in folders {
            let folder = folder.as_ref();
            if !folder.is_empty() {
                path.push_str(folder);
                path.push('/');
            }
        }
        let name_at = super::run::length(path.as_bytes());
        path.push_str(name);
        Self { path: path.into(), name_at }
    }

    /// Returns the target with another name in the same folders.
    #[must_use]
    pub fn with_name(&self, name: &str) -> Self {
        let path = [&self.path[..self.name_at as usize], name].concat();
        Self { path: path.into(), name_at: self.name_at }
    }

    /// Returns its folders from the top down.
    pub fn folders(&self) -> impl DoubleEndedIterator<Item = &str> + Clone {
        self.path[..self.name_at as usize].split_terminator('/')
    }

    /// Returns its folders with slashes between them; empty at the top.
    pub fn folder(&self) -> &str {
        self.path[..self.name_at as usize].trim_end_matches('/')
    }

    pub fn name(&self) -> &str {
        &self.path[self.name_at as usize..]
    }

    /// Returns its folders and its name with slashes between them.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns its folders, then its name.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.folders().chain([self.name()])
    }
}

/// An upload in progress at a platform, with its frozen part layout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteUpload {
    pub id: RemoteUploadId,
    /// Length of every part but the last, as the platform chose it.
    pub part_size: PartSize,
    pub part_count: u32,
    /// Parts must go one at a time.
    pub sequential: bool,
}

/// An unfinished upload, as a platform lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpload {
    pub id: RemoteUploadId,
    /// The location of its file, for people: a key, or a name.
    pub place: String,
    pub size: Option<ByteCount>,
    /// When it was begun, by the platform's clock, where it is reported.
    pub begun_at: Option<super::time::WallTime>,
}

/// A part that the platform has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemotePart {
    /// Reported instead of the ETag.
    pub note: Option<PartNote>,
    pub number: PartNumber,
    pub etag: ETag,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    pub id: RemoteFileId,
    /// Its actual name; a platform may have renamed it.
    pub name: String,
    pub size: Option<ByteCount>,
    /// The digest that dropferry stored with it, if it did.
    pub mark: Option<ContentMark>,
    /// When it was created, by the platform's clock, where it is reported.
    pub created_at: Option<super::time::WallTime>,
    /// The storage's mark of this version of the content.
    pub etag: Option<ETag>,
    /// Its version id, where the storage keeps several versions under one name.
    pub version: Option<VersionId>,
    /// The request that created it, where it was looked up by name and the platform keeps that.
    pub maker: Option<Maker>,
}

/// What a file records about the request that created it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    pub token: String,
    /// The file's ETag, the condition for replacing it.
    pub etag: ETag,
}

impl RemoteFile {
    /// Builds a file with nothing else known.
    pub fn known_as(id: RemoteFileId, name: impl Into<String>, size: Option<ByteCount>) -> Self {
        Self {
            id,
            name: name.into(),
            size,
            mark: None,
            created_at: None,
            etag: None,
            version: None,
            maker: None,
        }
    }
}

/// A digest over the digests of all parts, stored with a remote file so that equality can be proved
/// later without a download: MD5 of the concatenated part MD5s, at a given part size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentMark {
    /// Part size of the digest.
    pub part_size: PartSize,
    /// MD5 over the binary MD5s of the parts in order.
    pub md5_of_parts: Md5,
}

/// What is stored with a file besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// Key and value pairs, in order.
    pub metadata: Vec<(String, String)>,
    pub tags: Vec<String>,
    /// Our own digest, when it is to be stored with the file.
    pub mark: Option<ContentMark>,
}

/// The action when a file with the same name is at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NamePolicy {
    /// Equal content counts as uploaded; other content parks the upload.
    SkipIfSame,
    Overwrite,
    Rename,
    Park,
}

/// The action when an earlier version of a file, sent by us, is at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChangePolicy {
    /// It is replaced, where that is safe; else both are kept.
    Replace,
    /// The newer version gets another name.
    KeepBoth,
    Park,
}

/// The actions for a file that has the name of an upload at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NamePolicies {
    /// For a file that is not ours.
    pub taken: NamePolicy,
    /// For our own earlier version.
    pub changed: ChangePolicy,
}

/// When a platform accepts metadata and tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Describes {
    /// With the request that begins the upload.
    AtBegin,
    /// By a call of its own once the file exists.
    AfterCompletion,
    Never,
}

/// The outcome of a complete request, as far as the platform knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Completion {
    /// It was completed: the file.
    Done(RemoteFile),
    /// The upload still exists: it was not completed.
    Pending,
    /// Neither the upload nor its file exists.
    Gone,
    /// The platform cannot say, so beginning again could create a second file.
    Unknown(String),
}

/// How a platform replaces one known file by another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Replaces {
    Never,
    /// In one step, on the condition that it has a given ETag.
    ByETag,
    /// Files are renamed and removed by their ids.
    ByRenaming,
}

/// How a platform differs from the others, as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traits {
    pub limits: PartLimits,
    /// Accepted parts must be reported before completing.
    pub reports_parts: bool,
    pub report_max: u32,
    /// When metadata and tags can be set.
    pub describes: Describes,
    /// It must be called when a run is complete.
    pub finishes_runs: bool,
    /// No two files can have the same place.
    pub has_places: bool,
    /// The MD5 of a part must be known before it is sent.
    pub wants_md5_first: bool,
    /// A file of one part is one request, which creates the file: nothing is begun or completed.
    pub sends_whole: bool,
    /// It can report a file by its id.
    pub can_inspect: bool,
    pub replaces: Replaces,
    /// A call of the account sends a part or fetches its address, so a pause of the account stops
    /// parts too.
    pub parts_need_account: bool,
    pub etags: ETagLaw,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_its_folders_and_its_name() {
        for (folders, name, folder, path) in [
            (&[] as &[&str], "a", "", "a"),
            (&["runs"], "a.b", "runs", "runs/a.b"),
            (&["runs", "ä b", "c"], "with/slash", "runs/ä b/c", "runs/ä b/c/with/slash"),
            (&["", "runs", ""], "a", "runs", "runs/a"),
            (&["runs/x"], "a", "runs/x", "runs/x/a"),
        ] {
            let target = Target::new(folders, name);
            assert_eq!((target.folder(), target.name(), target.path()), (folder, name, path));
            let whole: Vec<_> = target.folders().collect();
            assert_eq!(whole.join("/"), folder, "{folders:?}");
            assert_eq!(target.names().last(), Some(name));
        }
    }

    #[test]
    fn a_new_name_leaves_the_folders() {
        let target = Target::new(["runs", "x"], "a");
        assert_eq!(target.with_name("a.v2"), Target::new(["runs", "x"], "a.v2"));
    }
}

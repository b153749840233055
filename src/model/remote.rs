//! Remote things, in words that fit every platform.

use serde::{Deserialize, Serialize};

use super::bytes::{ByteCount, PartLimits, PartNumber, PartSize};
use super::digest::{ETag, ETagLaw, Md5, PartNote};
use super::id::{RemoteFileId, RemoteUploadId, VersionId};

/// Where a file shall stand at its destination: its folders from the top of the project or bucket down, and
/// its name. Frozen at admission, and in one allocation: hundreds of thousands may be queued.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The folders, each followed by a slash, and the name.
    path: Box<str>,
    /// Where the name begins: a name may hold a slash, a folder cannot.
    name_at: u32,
}

impl Target {
    /// Returns the target of a name in folders; empty ones are left out.
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

    /// Returns the target of another name in the same folders.
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
    /// Length of every part but the last, as the platform settled it.
    pub part_size: PartSize,
    pub part_count: u32,
    /// Parts must go one at a time.
    pub sequential: bool,
}

/// An unfinished upload, as a platform lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpload {
    pub id: RemoteUploadId,
    /// Where its file would stand, for people: a key, or a name.
    pub place: String,
    pub size: Option<ByteCount>,
    /// When it was begun, by the platform's clock, where told.
    pub begun_at: Option<super::time::WallTime>,
}

/// A part the platform says it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemotePart {
    /// What is reported of it instead of the ETag.
    pub note: Option<PartNote>,
    pub number: PartNumber,
    pub etag: ETag,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteFile {
    pub id: RemoteFileId,
    /// The name it really has; a platform may have renamed it.
    pub name: String,
    pub size: Option<ByteCount>,
    /// The digest that dropferry left with it, where it did.
    pub mark: Option<ContentMark>,
    /// When it was made, by the platform's clock, where told.
    pub created_at: Option<super::time::WallTime>,
    /// What the storage tells versions of its content apart by.
    pub etag: Option<ETag>,
    /// Which version it is, where the storage keeps several under one name.
    pub version: Option<VersionId>,
    /// Which request made it, where it was looked up by its name and the platform keeps that.
    pub maker: Option<Maker>,
}

/// What a file says of the request that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    pub token: String,
    /// The file's ETag, by which it is replaced and no other.
    pub etag: ETag,
}

impl RemoteFile {
    /// Builds a file of which nothing else is known.
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

/// A digest over the digests of all parts, left with a remote file so that sameness can be proved
/// later without a download: MD5 of the concatenated part MD5s, at a given part size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentMark {
    /// Part size the digest was taken with.
    pub part_size: PartSize,
    /// MD5 over the binary MD5s of the parts in order.
    pub md5_of_parts: Md5,
}

/// What is said about a file besides its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Description {
    /// Key and value pairs, in order.
    pub metadata: Vec<(String, String)>,
    pub tags: Vec<String>,
    /// Our own digest, when it shall be left with the file.
    pub mark: Option<ContentMark>,
}

/// What to do when a file of the same name is at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NamePolicy {
    /// The same content counts as uploaded; another parks the upload.
    SkipIfSame,
    Overwrite,
    Rename,
    Park,
}

/// What to do when an earlier version of a file, sent by us, is at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChangePolicy {
    /// It is replaced, where that is safe; else both are kept.
    Replace,
    /// The newer version gets another name.
    KeepBoth,
    Park,
}

/// What to do about a file that is at the destination under the name of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NamePolicies {
    /// It is a stranger's.
    pub taken: NamePolicy,
    /// It is our own earlier version.
    pub changed: ChangePolicy,
}

/// When a platform takes metadata and tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Describes {
    /// With the request that begins the upload.
    AtBegin,
    /// By a call of its own once the file exists.
    AfterCompletion,
    Never,
}

/// What became of a remote upload that was to be completed, as far as the platform can tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Completion {
    /// It was completed: here is the file.
    Done(RemoteFile),
    /// It is still there: nothing was completed.
    Pending,
    /// Neither it nor its file is there.
    Gone,
    /// The platform cannot tell, so that beginning again could make a second file.
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
    /// When metadata and tags can be said.
    pub describes: Describes,
    /// It has to be called when all of a run is there.
    pub finishes_runs: bool,
    /// A file has a place there that no two files can have.
    pub has_places: bool,
    /// The MD5 of a part must be known before it is sent.
    pub wants_md5_first: bool,
    /// A file of one part is one request, which makes the file: nothing is begun or completed.
    pub sends_whole: bool,
    /// It can be asked about a file by its id.
    pub can_inspect: bool,
    pub replaces: Replaces,
    /// A part is sent by a call of the account, or its address is asked for by one: a pause of the account
    /// holds it too.
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

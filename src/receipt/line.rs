//! The content of ledger lines: kinds, members, and their JSON.
//!
//! A line is one JSON object without spaces. Its members have a fixed order: those of every line,
//! those of its kind, its own digest. Members without a value are left out. `ledger.rs` adds the
//! digest and defines the chain.
//!
//! A reader ignores unknown members, and reads a line of an unknown kind as [`LineBody::Other`]:
//! the ledger of a later version can still be checked.

mod texts;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::texts::{etag_mode, md5_text, moment, sha256_text};
pub use self::texts::{parse_moment, parse_sha256};
use super::rfc3339;
use crate::model::words::words;
use crate::model::{ETagMode, Hex, Md5, SourcePath, UploadId, WallTime};

words! {
    /// The kinds of lines.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum LineKind {
        /// A file was sent and verified.
        Upload = "upload";
        /// Another version replaced the file at a place.
        Superseded = "superseded";
        /// A file is on a volume.
        Exported = "exported";
        /// Every file of a run is at every destination.
        RunCompleted = "run-completed";
        /// An operator closed a run by hand.
        ClosedByHand = "closed-by-hand";
        /// A run or a file has another name from here on.
        Renamed = "renamed";
        /// A file was already at the destination, and was verified there without sending a byte.
        FoundAgain = "found-again";
        /// Another host continues the run.
        Handover = "handover";
    }
}

/// What a line has besides the common members.
#[derive(Debug, Clone, PartialEq)]
pub enum LineBody {
    Upload(Box<UploadLine>),
    FoundAgain(Box<UploadLine>),
    Exported(ExportedLine),
    RunCompleted(Box<RunCompletedLine>),
    ClosedByHand(Box<ClosedByHandLine>),
    /// A kind that this version only reads, or does not know.
    Other {
        kind: String,
        members: serde_json::Map<String, serde_json::Value>,
    },
}

/// One file that is verified at one destination, with everything needed to restore its row.
#[derive(Debug, Clone, PartialEq)]
pub struct UploadLine {
    pub source: LineSource,
    pub target: LineTarget,
    pub proof: LineProof,
    pub course: LineCourse,
}

/// The upload and its local file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LineSource {
    pub id: UploadId,
    pub drop: String,
    /// The run's path as people read it; `None` for a file that is its own run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Its bytes in base64, where the text is not exactly the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_bytes: Option<String>,
    /// The file's path below the drop directory, as people read it.
    pub path: String,
    /// Its bytes in base64, where the text is not exactly the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_bytes: Option<String>,
    pub size: u64,
    /// Time of last modification, nanoseconds since 1970.
    pub mtime_ns: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctime_ns: Option<i64>,
    pub inode: u64,
    /// The identity of the drop directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// It is the sentinel of its run.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sentinel: bool,
}

impl LineSource {
    /// Returns the file's path; `None` when the line's `path_bytes` is no base64.
    pub fn path(&self) -> Option<SourcePath> {
        path_of(&self.path, self.path_bytes.as_deref())
    }

    /// Returns the path of its run, which is the file's own where it is its own run.
    pub fn run(&self) -> Option<SourcePath> {
        let Some(run) = &self.run else { return self.path() };
        path_of(run, self.run_bytes.as_deref())
    }
}

/// The remote file's location.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LineTarget {
    pub destination: LineDestination,
    /// The number of the target in the database that wrote the line.
    pub target: u32,
    /// The key, or folder and name, at the destination.
    pub place: String,
    pub remote_id: String,
    /// Its name there.
    pub remote_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_id: Option<String>,
    /// Its ETag when it was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_etag: Option<String>,
}

impl LineTarget {
    /// Returns the folders of its place, joined, and its name.
    pub fn folder_and_name(&self) -> (&str, &str) {
        self.place.rsplit_once('/').unwrap_or(("", &self.place))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LineDestination {
    pub name: String,
    pub platform: String,
    pub base_url: String,
    /// The bucket, on a platform that has buckets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    /// The project or `AppResult`, on any other platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
}

impl LineDestination {
    /// Returns the bucket or the project.
    pub fn container(&self) -> &str {
        self.bucket.as_deref().or(self.project.as_deref()).unwrap_or_default()
    }
}

/// The proof that the remote content equals the local content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LineProof {
    /// How the content of the parts was proved; `None` where nothing was sent.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "etag_mode")]
    pub etag_mode: Option<ETagMode>,
    /// How often the run had been completed at admission, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<u32>,
    /// The upload whose file this one replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<UploadId>,
    /// The order that decided about a taken name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced_by: Option<String>,
    /// Length of every part but the last.
    pub part_size: u64,
    /// Every part in order; empty where nothing was sent.
    #[serde(default)]
    pub parts: Vec<LinePart>,
    /// The MD5 over the MD5s of the parts, and their number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_digest: Option<String>,
    /// The destination's own digest of the file, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "md5_text")]
    pub remote_digest: Option<Md5>,
    /// The part length of [`Self::remote_digest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_part_size: Option<u64>,
    #[serde(default)]
    pub whole_file_digests: WholeFileDigests,
}

impl LineProof {
    /// Returns the MD5 over the MD5s of the parts.
    pub fn md5_of_parts(&self) -> Option<Md5> {
        Md5::parse(self.content_digest.as_deref()?.split('-').next()?)
    }

    /// Returns the MD5 of the whole file: the requested one, or that of its only part.
    pub fn whole_md5(&self) -> Option<Md5> {
        let only = || self.parts.first().filter(|_| self.parts.len() == 1).map(|part| part.md5);
        self.whole_file_digests.md5.or_else(only)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WholeFileDigests {
    #[serde(default, skip_serializing_if = "Option::is_none", with = "md5_text")]
    pub md5: Option<Md5>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "sha256_text")]
    pub sha256: Option<[u8; 32]>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinePart {
    pub number: u32,
    pub offset: u64,
    pub length: u64,
    #[serde(with = "md5_text::required")]
    pub md5: Md5,
    /// The storage's identifier of the part.
    pub etag: String,
}

/// The course of the upload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LineCourse {
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment")]
    pub begun_at: Option<WallTime>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment")]
    pub completed_at: Option<WallTime>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment")]
    pub verified_at: Option<WallTime>,
    pub bytes_sent: u64,
    pub bytes_sent_again: u64,
    /// Failed attempts.
    pub attempt_count: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportedLine {
    pub id: UploadId,
    pub volume: String,
    /// The object's key, below the volume's own prefix.
    pub location: String,
    pub job: String,
    /// When it was known to be there.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment")]
    pub exported_at: Option<WallTime>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunCompletedLine {
    pub drop: String,
    /// The run's path as people read it.
    pub run: String,
    /// Its bytes in base64, where the text is not exactly the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_bytes: Option<String>,
    /// How often the run has been completed, including this time.
    pub wave: u32,
    pub file_count: u64,
    pub bytes: u64,
    /// Files that came after the run was closed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub late_file_count: u64,
    /// Abandoned uploads.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub given_up_count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment")]
    pub opened_at: Option<WallTime>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment")]
    pub closed_at: Option<WallTime>,
    /// The outcome of the run, in the sequencer's own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Who closed it by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forced_by: Option<String>,
}

/// A run was closed by an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClosedByHandLine {
    pub drop: String,
    /// The run's path as people read it.
    pub run: String,
    /// Its bytes in base64, where the text is not exactly the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_bytes: Option<String>,
    /// Who ordered it.
    pub by: String,
    /// Missing markers and listed files; the first few.
    #[serde(default)]
    pub missing: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "moment")]
    pub closed_at: Option<WallTime>,
}

impl RunCompletedLine {
    /// Returns the run's path; `None` when the line's `run_bytes` is no base64.
    pub fn run(&self) -> Option<SourcePath> {
        path_of(&self.run, self.run_bytes.as_deref())
    }
}

impl ClosedByHandLine {
    /// Returns the run's path; `None` when the line's `run_bytes` is no base64.
    pub fn run(&self) -> Option<SourcePath> {
        path_of(&self.run, self.run_bytes.as_deref())
    }
}

/// Returns a path as in a line: a text for people, and its bytes where those differ from the text.
pub fn path_texts(path: &SourcePath) -> (String, Option<String>) {
    let text = path.to_string();
    let bytes = (text.as_bytes() != path.as_bytes()).then(|| STANDARD.encode(path.as_bytes()));
    (text, bytes)
}

fn path_of(text: &str, bytes: Option<&str>) -> Option<SourcePath> {
    match bytes {
        Some(bytes) => Some(SourcePath::from_bytes(&STANDARD.decode(bytes).ok()?)),
        None => Some(SourcePath::from_bytes(text.as_bytes())),
    }
}

impl LineBody {
    /// Returns the word for its kind.
    pub fn kind(&self) -> &str {
        match self {
            Self::Upload(_) => LineKind::Upload.as_str(),
            Self::FoundAgain(_) => LineKind::FoundAgain.as_str(),
            Self::Exported(_) => LineKind::Exported.as_str(),
            Self::RunCompleted(_) => LineKind::RunCompleted.as_str(),
            Self::ClosedByHand(_) => LineKind::ClosedByHand.as_str(),
            Self::Other { kind, .. } => kind,
        }
    }

    /// Returns the file of the line, if it was verified at its destination.
    pub fn upload(&self) -> Option<&UploadLine> {
        match self {
            Self::Upload(line) | Self::FoundAgain(line) => Some(line),
            Self::Exported(_)
            | Self::RunCompleted(_)
            | Self::ClosedByHand(_)
            | Self::Other { .. } => None,
        }
    }

    /// Writes its members, each after a comma.
    pub(super) fn write_members(&self, out: &mut Vec<u8>) {
        match self {
            Self::Upload(line) | Self::FoundAgain(line) => {
                write_members(out, &line.source);
                write_members(out, &line.target);
                write_members(out, &line.proof);
                write_members(out, &line.course);
            }
            Self::Exported(line) => write_members(out, line),
            Self::RunCompleted(line) => write_members(out, line),
            Self::ClosedByHand(line) => write_members(out, line),
            Self::Other { members, .. } => write_members(out, members),
        }
    }

    /// Parses the content of a line of a kind.
    ///
    /// # Errors
    /// When members of its kind are missing or are of another type.
    pub(super) fn parse(kind: &str, text: &[u8]) -> serde_json::Result<Self> {
        match LineKind::parse(kind) {
            Some(LineKind::Upload) => Ok(Self::Upload(Box::new(UploadLine::parse(text)?))),
            Some(LineKind::FoundAgain) => Ok(Self::FoundAgain(Box::new(UploadLine::parse(text)?))),
            Some(LineKind::Exported) => Ok(Self::Exported(serde_json::from_slice(text)?)),
            Some(LineKind::RunCompleted) => {
                Ok(Self::RunCompleted(Box::new(serde_json::from_slice(text)?)))
            }
            Some(LineKind::ClosedByHand) => {
                Ok(Self::ClosedByHand(Box::new(serde_json::from_slice(text)?)))
            }
            Some(LineKind::Superseded | LineKind::Renamed | LineKind::Handover) | None => {
                let mut members: serde_json::Map<String, serde_json::Value> =
                    serde_json::from_slice(text)?;
                for common in ["kind", "seq", "prev", "at", "host", "version", "sha256"] {
                    members.remove(common);
                }
                Ok(Self::Other { kind: kind.to_owned(), members })
            }
        }
    }
}

impl UploadLine {
    /// Each group reads its members from the same text: a flattened structure would first build a
    /// copy of the whole.
    pub(crate) fn parse(text: &[u8]) -> serde_json::Result<Self> {
        fn group<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
            serde_json::from_slice(text)
        }
        Ok(Self {
            source: group(text)?,
            target: group(text)?,
            proof: group(text)?,
            course: group(text)?,
        })
    }
}

impl UploadLine {
    /// Returns the file's entry in listings and sentinels.
    pub(crate) fn summary(&self) -> serde_json::Value {
        let Self { source, target, proof, course } = self;
        serde_json::json!({
            "path": source.path, "size_bytes": source.size,
            "mtime": rfc3339(WallTime(source.mtime_ns)),
            "destination": target.destination.name, "remote_id": target.remote_id,
            "remote_name": target.remote_name, "md5": proof.whole_md5().map(|md5| md5.to_string()),
            "sha256": proof.whole_file_digests.sha256.map(|sha256| Hex(&sha256).to_string()),
            "parts_md5": proof.md5_of_parts().map(|md5| md5.to_string()),
            "part_size_bytes": proof.part_size, "completed_at": course.completed_at.map(rfc3339),
            "upload_id": source.id.0,
        })
    }
}

/// Writes the members of a value that serializes as an object, each after a comma.
fn write_members(out: &mut Vec<u8>, value: &impl Serialize) {
    let start = out.len();
    serde_json::to_writer(&mut *out, value).expect("plain values always serialise");
    // `{}` has no members.
    if out.len() - start <= 2 {
        out.truncate(start);
        return;
    }
    out[start] = b',';
    out.pop();
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests;

//! Local files: path, identity, and what one look at a path found.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use md5::Digest;
use serde::{Deserialize, Serialize};

use super::bytes::ByteCount;
use super::hex::Hex;
use super::id::{DestinationName, DirectoryName};
use super::run::{Place, RunTally};
use super::shown::misleads;
use super::words::words;

/// A path relative to its drop directory, as raw bytes: names need not be UTF-8.
///
/// `Display` is lossless: bytes that are not UTF-8, backslashes and characters that mislead a reader
/// (see [`misleads`]) are escaped (`\xff`, `\\`, `\n`, `\u{202e}`), so two different paths never look
/// the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "WrittenPath", into = "WrittenPath")]
pub struct SourcePath(Arc<[u8]>);

/// A path in JSON: a string where it is UTF-8.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum WrittenPath {
    Text(String),
    Bytes(Vec<u8>),
}

impl From<WrittenPath> for SourcePath {
    fn from(written: WrittenPath) -> Self {
        match written {
            WrittenPath::Text(text) => Self(text.into_bytes().into()),
            WrittenPath::Bytes(bytes) => Self(bytes.into()),
        }
    }
}

impl From<SourcePath> for WrittenPath {
    fn from(path: SourcePath) -> Self {
        let not_text = |error: std::string::FromUtf8Error| Self::Bytes(error.into_bytes());
        String::from_utf8(path.0.to_vec()).map_or_else(not_text, Self::Text)
    }
}

impl SourcePath {
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Returns a digest that is kept where the paths themselves would need too much memory.
    pub fn digest(&self) -> PathDigest {
        PathDigest::of(&self.0)
    }

    pub fn file_name(&self) -> &[u8] {
        self.0.rsplit(|byte| *byte == b'/').next().unwrap_or(&self.0)
    }

    /// Returns the path of the entry with this name; the empty path is the drop directory.
    pub fn child(&self, name: &[u8]) -> Self {
        let separator: &[u8] = if self.0.is_empty() { b"" } else { b"/" };
        Self::from_bytes(&[&self.0, separator, name].concat())
    }

    /// Returns whether it is a directory, or a path below it.
    pub fn is_within(&self, directory: &Self) -> bool {
        let below = self.0.strip_prefix(directory.as_bytes());
        below.is_some_and(|rest| rest.first().is_none_or(|first| *first == b'/'))
    }

    /// Returns the rest of a path below a directory.
    pub fn below(&self, directory: &Self) -> Option<Self> {
        let rest = self.0.strip_prefix(directory.as_bytes())?.strip_prefix(b"/")?;
        Some(Self::from_bytes(rest))
    }

    /// Returns the paths of the directories above it, the highest first; none for a file at the top.
    pub fn above(&self) -> impl Iterator<Item = &[u8]> {
        let slashes = self.0.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        slashes.map(|(at, _)| &self.0[..at])
    }

    /// Returns the components before the last, in order; none for a file at the top.
    pub fn directories(&self) -> impl Iterator<Item = &[u8]> {
        let end = self.0.len() - self.file_name().len();
        self.0[..end].split(|byte| *byte == b'/').filter(|part| !part.is_empty())
    }
}

impl std::borrow::Borrow<[u8]> for SourcePath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// A digest of a path: 16 bytes, however long the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PathDigest([u8; 16]);

impl PathDigest {
    /// Computes the digest of a path's bytes.
    pub fn of(path: &[u8]) -> Self {
        Self(md5::Md5::digest(path).into())
    }

    pub fn head(self) -> [u8; 8] {
        self.0.first_chunk().copied().unwrap_or_default()
    }

    /// Returns the digest that sorts before all others.
    pub fn lowest() -> Self {
        Self([0; 16])
    }
}

impl fmt::Display for PathDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl SourcePath {
    /// Parses a path as `Display` writes it; `None` for any other text.
    pub fn from_shown(text: &str) -> Option<Self> {
        let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
        while let Some((plain, escaped)) = rest.split_once('\\') {
            bytes.extend_from_slice(plain.as_bytes());
            let kind = escaped.chars().next()?;
            let after = &escaped[kind.len_utf8()..];
            rest = match kind {
                '\\' | '\'' | '"' => {
                    bytes.push(u8::try_from(kind).ok()?);
                    after
                }
                't' | 'n' | 'r' => {
                    bytes.push(match kind {
                        't' => b'\t',
                        'n' => b'\n',
                        _ => b'\r',
                    });
                    after
                }
                'x' => {
                    bytes.push(u8::from_str_radix(after.get(..2)?, 16).ok()?);
                    &after[2..]
                }
                'u' => {
                    let (digits, after) = after.strip_prefix('{')?.split_once('}')?;
                    let c = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    after
                }
                _ => return None,
            };
        }
        bytes.extend_from_slice(rest.as_bytes());
        Some(Self::from_bytes(&bytes))
    }
}

impl fmt::Display for SourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if misleads(c) || c == '\\' {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    write!(f, "{c}")?;
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for SourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourcePath({self})")
    }
}

/// Identity of one version of a file, from one `stat`.
///
/// A process can set the time of modification, and a new file may get the inode of the one before,
/// so equal inode, size and time may hide different content. The time of change cannot be set; but
/// it also moves when only the mode, the owner, the name or the number of links changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Device number. Only a hint: a share may get another one when it is mounted again.
    pub device: u64,
    pub inode: u64,
    pub size: ByteCount,
    /// Time of last modification, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Time of last change of content or attributes, nanoseconds since 1970; `None` where the file
    /// system has none, or the row is older than the column.
    pub ctime_ns: Option<i64>,
}

impl Fingerprint {
    /// Returns whether both may be the same version of the same file. Where their times of change
    /// differ, only the content can prove it. The device is ignored.
    pub fn same_version(&self, other: &Self) -> bool {
        (self.inode, self.size, self.mtime_ns) == (other.inode, other.size, other.mtime_ns)
    }

    /// Returns whether both are the same version and the file was not touched in between. Where a
    /// time of change is unknown, only the rest is compared.
    pub fn is_untouched(&self, other: &Self) -> bool {
        let moved = self.ctime_ns.zip(other.ctime_ns).is_some_and(|(one, two)| one != two);
        self.same_version(other) && !moved
    }

    /// Returns whether both have the same length and time of modification: all that is left to
    /// compare on a file system whose inodes or times of change are not stable.
    pub fn same_stamp(&self, other: &Self) -> bool {
        (self.size, self.mtime_ns) == (other.size, other.mtime_ns)
    }

    /// Returns a digest that is equal for fingerprints that may be the same version.
    pub fn version_digest(&self) -> u64 {
        digest_of([self.inode, self.size.0, self.mtime_ns.cast_unsigned()])
    }
}

/// The owner and file system of a file that was handed in. Both must be the same when it is read,
/// because the daemon may have more rights than the user who handed it in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The owner's user id.
    pub owner: u32,
    /// A digest of the identity of the file system.
    pub file_system: u64,
}

impl Provenance {
    pub fn new(owner: u32, file_system: [u64; 3]) -> Self {
        Self { owner, file_system: digest_of(file_system) }
    }
}

/// Returns the first 64 bits of the MD5 of numbers.
fn digest_of(numbers: [u64; 3]) -> u64 {
    let mut hasher = md5::Md5::new();
    numbers.iter().for_each(|number| hasher.update(number.to_le_bytes()));
    let [a, b, c, d, e, f, g, h, ..]: [u8; 16] = hasher.finalize().into();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// A version of a file that was sent to a destination, or abandoned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownFile {
    pub drop: DirectoryName,
    /// Its path below the drop directory.
    pub path: PathDigest,
    pub fingerprint: Fingerprint,
    pub destination: DestinationName,
}

/// What the rows know about observed files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Catalogued {
    /// Versions that were sent under the observed paths, in order: of two with one path, the later
    /// one is newer.
    pub sent: Vec<KnownFile>,
    /// Observed versions that were sent under other paths.
    pub elsewhere: Vec<Fingerprint>,
    /// Files that a scan found unchanged since they were sent to every destination; they are not
    /// among its observations.
    pub unchanged: Vec<UnchangedFiles>,
}

/// The unchanged files of one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnchangedFiles {
    pub run: SourcePath,
    pub tally: RunTally,
}

/// The result of one look at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The path, relative to the drop directory.
    pub path: SourcePath,
    pub seen: Seen,
    pub place: Place,
}

/// What was found at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// A regular file that we may open.
    File(Fingerprint),
    /// A regular file that we may not open, and why.
    Unreadable(Fingerprint, String),
    /// Something that is never uploaded.
    Ignored(IgnoreReason),
    /// Nothing.
    Gone,
}

words! {
    /// Why a path is never uploaded. Each is a row that an operator can read.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    pub enum IgnoreReason {
        LinkOutside = "link-outside", "symbolic link that leads out of the drop directory";
        /// A symbolic link to a directory: its entries are seen under their own paths.
        LinkToDirectory = "link-to-directory", "symbolic link to a directory";
        LinkBroken = "link-broken", "symbolic link to nothing";
        Socket = "socket", "socket, not a file";
        Fifo = "fifo", "named pipe, not a file";
        Device = "device", "device, not a file";
        Filtered = "filtered", "left out by include or exclude";
        ByProfile = "by-profile", "left out by the profile";
        /// A recycle bin, a partially copied file, and the like.
        LeftOver = "left-over", "left behind by a system, a share or a program that copies";
        DirectoryUnreadable = "directory-unreadable", "directory that may not be read";
        PathTooLong = "path-too-long", "its path is longer than the system takes (4096 bytes; 255 for a name)";
        /// A further name of a file that belongs neither to the owner of its directory nor to that
        /// of the drop directory.
        HardLink = "hard-link",
            "hard link to a file of another owner than its directory and the drop directory";
        Moved = "moved", "was uploaded under another name and moved since";
        /// The renamed run keeps that name in the database.
        NameInUse = "name-in-use", "its name is the first name of a run that was renamed";
        CannotBeStored = "cannot-be-stored", "a value of it cannot be stored in the database";
    }
}

impl IgnoreReason {
    /// Returns whether files below it may be invisible.
    pub fn hides_files(self) -> bool {
        matches!(self, Self::DirectoryUnreadable | Self::PathTooLong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_json_is_a_string_where_it_is_text_and_is_read_back_either_way() {
        for (bytes, json) in
            [(&b"run/a \xc3\xa4"[..], "\"run/a ä\""), (b"a\xff", "[97,255]"), (b"", "\"\"")]
        {
            let path = SourcePath::from_bytes(bytes);
            assert_eq!(serde_json::to_string(&path).expect("written"), json);
            assert_eq!(serde_json::from_str::<SourcePath>(json).expect("read"), path);
        }
    }
}

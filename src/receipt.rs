//! Receipts: the files that prove uploads, made from rows.
//!
//! *Promises*: the same rows give the same bytes, for every value comes from rows and none from a
//! clock; a receipt under its name is whole, and durable when [`write_all()`] has returned. *At a crash*
//! in between, a temporary file may stay behind, which the next write of the same receipt replaces.
//!
//! Names may be any bytes, so a name that would be too long with its suffix is cut and marked with
//! a digest of the whole.

pub mod ledger;
pub mod line;
pub mod place;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

pub use run::{run_path, write_run};

use crate::model::remote::ContentMark;
use crate::model::{
    ByteCount, ETag, ETagMode, Hex, Md5, PartNumber, PartSize, RootIdentity, RunFile, RunRow,
    SourcePath, UploadId, WallTime, json_shown,
};

/// Longest file name that Linux file systems take, in bytes.
const NAME_MAX: usize = 255;
/// Longest path below the directory of receipts: with that directory and the name of an unfinished file it is
/// no longer than Linux takes.
const BELOW_MAX: usize = 3072;
/// Read at once when a receipt is checked.
const READ_BYTES: usize = 64 << 10;

/// Everything a receipt says.
#[derive(Debug, Clone)]
pub struct Receipt {
    pub upload: UploadId,
    pub source: ReceiptSource,
    pub target: ReceiptTarget,
    /// Length of every part but the last.
    pub part_size: PartSize,
    /// Every part in order; empty when the file was there before.
    pub parts: Vec<ReceiptPart>,
    pub digests: ReceiptDigests,
    /// When the upload was begun; `None` when the file was there before.
    pub begun_at: Option<WallTime>,
    pub completed_at: Option<WallTime>,
    pub verified_at: Option<WallTime>,
    /// Where the file was exported to, if anywhere.
    pub export: Option<ReceiptExport>,
    /// Bytes that went over the wire.
    pub bytes_sent: u64,
    pub attempt_count: usize,
}

#[derive(Debug, Clone)]
pub struct ReceiptSource {
    pub drop: String,
    pub path: SourcePath,
    pub size: ByteCount,
    /// Its time of modification, nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Which directory the drop directory was that it was read from.
    pub root: Option<RootIdentity>,
}

#[derive(Debug, Clone)]
pub struct ReceiptTarget {
    pub destination: String,
    pub platform: String,
    pub remote_id: String,
    pub remote_name: String,
}

#[derive(Debug, Clone, Default)]
pub struct ReceiptDigests {
    /// Digest over all parts.
    pub mark: Option<ContentMark>,
    /// The digest that the platform reports for the file, where it has one.
    pub remote_mark: Option<ContentMark>,
    /// How the content of its parts was proved; `None` when the file was there before.
    pub etag_mode: Option<ETagMode>,
    /// MD5 of the whole file, where it was asked for.
    pub whole_md5: Option<Md5>,
    /// SHA-256 of the whole file, where it was asked for.
    pub whole_sha256: Option<[u8; 32]>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ReceiptExport {
    pub volume: String,
    /// The object's key, below the volume's own prefix.
    pub location: String,
    pub job: String,
    /// When it was known to be there.
    #[serde(rename = "exported_at", serialize_with = "serialize_time")]
    pub at: Option<WallTime>,
}

#[derive(Debug, Clone)]
pub struct ReceiptPart {
    pub number: PartNumber,
    /// Digest of its bytes.
    pub md5: Md5,
    /// The storage's word for it.
    pub etag: ETag,
}

#[derive(Serialize)]
struct PartLine {
    number: u32,
    offset: u64,
    length: u64,
    md5: String,
    etag: String,
}

fn serialize_time<S: Serializer>(at: &Option<WallTime>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(rfc3339).serialize(serializer)
}

impl Serialize for Receipt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { source, target, digests, .. } = self;
        let accepted = if self.parts.is_empty() { 0 } else { source.size.0 };
        let content =
            digests.mark.map(|mark| format!("{}-{}", mark.md5_of_parts, self.parts.len()));
        let remote = digests.remote_mark.map(|mark| mark.md5_of_parts.to_string());
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("schema", &1)?;
        map.serialize_entry("upload_id", &self.upload.0)?;
        map.serialize_entry("drop", &source.drop)?;
        map.serialize_entry("path", &source.path.to_string())?;
        map.serialize_entry("size_bytes", &source.size.0)?;
        map.serialize_entry("mtime", &rfc3339(WallTime(source.mtime_ns)))?;
        map.serialize_entry("root", &source.root.as_ref().map(RootIdentity::as_str))?;
        map.serialize_entry("destination", &target.destination)?;
        map.serialize_entry("platform", &target.platform)?;
        map.serialize_entry("remote_id", &target.remote_id)?;
        map.serialize_entry("remote_name", &target.remote_name)?;
        map.serialize_entry("part_size_bytes", &self.part_size.get())?;
        map.serialize_entry("parts", &self.part_lines())?;
        map.serialize_entry("content_digest", &content)?;
        map.serialize_entry("remote_digest", &remote)?;
        map.serialize_entry("etag_mode", &digests.etag_mode.map(ETagMode::as_str))?;
        map.serialize_entry("whole_file_digests", &digests.of_the_whole())?;
        map.serialize_entry("already_there", &self.parts.is_empty())?;
        map.serialize_entry("begun_at", &self.begun_at.map(rfc3339))?;
        map.serialize_entry("completed_at", &self.completed_at.map(rfc3339))?;
        map.serialize_entry("verified_at", &self.verified_at.map(rfc3339))?;
        if let Some(export) = &self.export {
            map.serialize_entry("export", export)?;
        }
        map.serialize_entry("bytes_sent", &self.bytes_sent)?;
        map.serialize_entry("bytes_sent_again", &self.bytes_sent.saturating_sub(accepted))?;
        map.serialize_entry("attempt_count", &self.attempt_count)?;
        map.serialize_entry("dropferry_version", env!("CARGO_PKG_VERSION"))?;
        map.end()
    }
}

impl Receipt {
    fn part_lines(&self) -> Vec<PartLine> {
        let line = |part: &ReceiptPart| {
            let range = self.part_size.range_of(part.number, self.source.size);
            PartLine {
                number: part.number.get(),
                offset: range.offset,
                length: range.length,
                md5: part.md5.to_string(),
                etag: part.etag.to_string(),
            }
        };
        self.parts.iter().map(line).collect()
    }
}

impl ReceiptDigests {
    fn of_the_whole(&self) -> BTreeMap<&'static str, String> {
        let md5 = self.whole_md5.map(|md5| ("md5", md5.to_string()));
        let sha256 = self.whole_sha256.map(|sha256| ("sha256", Hex(&sha256).to_string()));
        md5.into_iter().chain(sha256).collect()
    }
}

/// Returns a moment as RFC 3339 in UTC, or the start of time when it cannot be written so.
pub(crate) fn rfc3339(at: WallTime) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or_default().to_string()
}

/// Returns the receipt's bytes: JSON, indented, ending in a line feed.
pub fn render(receipt: &Receipt) -> Vec<u8> {
    let text = serde_json::to_string_pretty(receipt).expect("plain values always serialise");
    format!("{}\n", json_shown(&text)).into_bytes()
}

pub fn directory(state: &Path) -> PathBuf {
    state.join("receipts")
}

/// Returns where the receipt of an upload is: `STATE/receipts/<drop>/<path>.<upload id>.json`, with names
/// and paths cut that no file system takes, and `~` behind a directory that is called like a receipt.
pub(crate) fn path_for(state: &Path, drop: &str, path: &SourcePath, upload: UploadId) -> PathBuf {
    directory(state).join(below(drop, path, &format!(".{upload}.json")).as_path())
}

/// Returns the path of a receipt below the directory of receipts.
fn below(drop: &str, path: &SourcePath, suffix: &str) -> SourcePath {
    let drop = fitting(drop.as_bytes(), b"");
    let mut place = drop.clone();
    for directory in path.directories() {
        let mark: &[u8] = if directory.ends_with(b".json") { b"~" } else { b"" };
        place.push(b'/');
        place.extend(fitting(directory, mark));
    }
    place.push(b'/');
    place.extend(fitting(path.file_name(), suffix.as_bytes()));
    if place.len() > BELOW_MAX {
        let whole = Hex(&Sha256::digest(path.as_bytes())).to_string();
        place = [&drop[..], b"/~long/", whole.as_bytes(), suffix.as_bytes()].concat();
    }
    SourcePath::from_bytes(&place)
}

/// Returns a name with something behind it, cut where it is too long for a file system.
fn fitting(name: &[u8], suffix: &[u8]) -> Vec<u8> {
    if name.len() + suffix.len() <= NAME_MAX {
        return [name, suffix].concat();
    }
    let mark = format!("~{}", Hex(&Sha256::digest(name)[..8]));
    let kept = NAME_MAX - suffix.len() - mark.len();
    [&name[..kept], mark.as_bytes(), suffix].concat()
}

/// Writes receipts so that each is whole and durable under its name, and returns the SHA-256 of each, or
/// why the disk would not take it; nothing is under its name then, or the one before.
///
/// Together they cost the disk little more than one: all are going to it before the first is
/// waited for, all are there before the first is named, and each directory is waited for once.
pub(crate) fn write_all(receipts: &[(PathBuf, Vec<u8>)]) -> Vec<io::Result<[u8; 32]>> {
    let mut made = BTreeSet::new();
    let begun = receipts.iter().map(|(place, bytes)| {
        if !made.contains(parent(place)) {
            make_durable(parent(place))?;
            made.insert(parent(place));
        }
        PendingReceipt::begin(place, bytes)
    });
    let begun: Vec<_> = begun.collect();
    let there: Vec<_> =
        begun.into_iter().map(|begun| begun.and_then(PendingReceipt::sync)).collect();
    let named: Vec<_> =
        there.into_iter().map(|there| there.and_then(PendingReceipt::name)).collect();
    let mut directories: BTreeMap<&Path, Option<io::Error>> = BTreeMap::new();
    for ((place, _), _) in receipts.iter().zip(&named).filter(|(_, named)| named.is_ok()) {
        let directory = parent(place);
        directories.entry(directory).or_insert_with(|| sync(directory).err());
    }
    let ends = named.into_iter().zip(receipts).map(|(named, (place, _))| {
        let digest = named?;
        match directories.get(parent(place)) {
            Some(Some(error)) => Err(io::Error::new(error.kind(), error.to_string())),
            Some(None) | None => Ok(digest),
        }
    });
    ends.collect()
}

/// Why a receipt does not prove anything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiptDamage {
    #[error("is missing")]
    Missing,
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("is not the one that was written: its SHA-256 is another")]
    Changed,
}

/// Checks that a receipt is the one that was written, by the digest that its row holds.
pub(crate) fn check(place: &Path, written: Option<[u8; 32]>) -> Result<(), ReceiptDamage> {
    let is_missing = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    };
    let damage = |error: io::Error| match is_missing(&error) {
        true => ReceiptDamage::Missing,
        false => ReceiptDamage::Unreadable(error),
    };
    // A pipe in its place would be waited for.
    if !fs::symlink_metadata(place).map_err(damage)?.is_file() {
        return Err(ReceiptDamage::Unreadable(io::Error::other("it is no file")));
    }
    let found = sha256_of(place).map_err(damage)?;
    if written == Some(found) { Ok(()) } else { Err(ReceiptDamage::Changed) }
}

/// Returns what is wrong with the receipt of a run as a whole, in words.
pub(crate) fn run_damage(state: &Path, run: &RunRow) -> Option<String> {
    let written = run.receipt_sha256?;
    let place = run_path(run.drop.as_str(), &run.name, run.generation);
    let damage = check(&directory(state).join(place.as_path()), Some(written)).err()?;
    Some(format!("the receipt of {} {damage}", run.name))
}

/// Returns what is wrong with the receipt of a file, in words.
pub(crate) fn file_damage(state: &Path, file: &RunFile) -> Option<String> {
    let place = path_for(state, &file.drop, &file.path, file.upload);
    let damage = check(&place, file.receipt_sha256).err()?;
    Some(format!("the receipt of {}, upload {}, {damage}", file.path, file.upload))
}

fn sha256_of(place: &Path) -> io::Result<[u8; 32]> {
    let (mut file, mut buffer) = (File::open(place)?, vec![0; READ_BYTES]);
    let mut sha256 = Sha256::new();
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(sha256.finalize().into()),
            count => sha256.update(&buffer[..count]),
        }
    }
}

/// A receipt under its temporary name, going to the disk.
struct PendingReceipt<'a> {
    place: &'a Path,
    temporary: PathBuf,
    file: File,
    digest: [u8; 32],
}

impl<'a> PendingReceipt<'a> {
    fn begin(place: &'a Path, bytes: &[u8]) -> io::Result<Self> {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        let temporary = parent(place).join(format!(".{}.partial", Hex(&digest[..8])));
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        // Advice, by which Linux begins to write what is dirty.
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).ok();
        Ok(Self { place, temporary, file, digest })
    }

    /// Waits until the disk has its bytes, and their length.
    fn sync(self) -> io::Result<Self> {
        self.file.sync_data()?;
        Ok(self)
    }

    fn name(self) -> io::Result<[u8; 32]> {
        fs::rename(&self.temporary, self.place)?;
        Ok(self.digest)
    }
}

fn parent(place: &Path) -> &Path {
    place.parent().unwrap_or(Path::new("."))
}

/// Makes a directory and those above it, each known to the disk before the next is relied on.
fn make_durable(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let above = directory.parent().unwrap_or(Path::new("."));
    make_durable(above)?;
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => sync(above),
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn data() -> Receipt {
        Receipt {
            upload: UploadId(17),
            source: ReceiptSource {
                drop: "novaseq".into(),
                path: SourcePath::from_bytes(b"run 1/a\xff.gz"),
                size: ByteCount(5),
                mtime_ns: 1_000_000_000,
                root: Some(RootIdentity::new("ext4 ab /data 7")),
            },
            target: ReceiptTarget {
                destination: "cavatica".into(),
                platform: "sevenbridges".into(),
                remote_id: "65a1".into(),
                remote_name: "a%FF.gz".into(),
            },
            part_size: PartSize::new(4).expect("not zero"),
            parts: (1..=2)
                .map(|number| ReceiptPart {
                    number: PartNumber::new(number).expect("from 1"),
                    md5: Md5([1; 16]),
                    etag: ETag::from_header("\"e\""),
                })
                .collect(),
            digests: ReceiptDigests { etag_mode: Some(ETagMode::Md5), ..ReceiptDigests::default() },
            begun_at: Some(WallTime(0)),
            completed_at: None,
            verified_at: None,
            export: None,
            bytes_sent: 9,
            attempt_count: 1,
        }
    }

    fn write(place: &Path, bytes: &[u8]) -> io::Result<[u8; 32]> {
        write_all(&[(place.to_owned(), bytes.to_vec())]).remove(0)
    }

    #[test]
    fn a_receipt_is_json_with_every_part_in_place() {
        let value: serde_json::Value =
            serde_json::from_slice(&render(&data())).expect("a receipt is JSON");
        assert_eq!(value["path"], "run 1/a\\xff.gz");
        assert_eq!(value["mtime"], "1970-01-01T00:00:01Z");
        assert_eq!(value["parts"][1]["offset"], 4);
        assert_eq!(value["parts"][1]["length"], 1);
        assert_eq!(value["bytes_sent_again"], 4);
        assert_eq!(value["etag_mode"], "md5");
    }

    #[test]
    fn names_keep_their_bytes_and_fit_the_file_system() {
        let state = Path::new("/s");
        let place = path_for(state, "d", &data().source.path, UploadId(17));
        assert_eq!(place.as_os_str().as_bytes(), b"/s/receipts/d/run 1/a\xff.gz.17.json");
        let long = SourcePath::from_bytes(&[b'n'; 255]);
        let other = SourcePath::from_bytes(&[vec![b'n'; 254], vec![b'm']].concat());
        let (long, other) =
            (path_for(state, "d", &long, UploadId(1)), path_for(state, "d", &other, UploadId(1)));
        assert_eq!(long.file_name().map(OsStrExt::as_bytes).map(<[u8]>::len), Some(255));
        assert_ne!(long, other);
    }

    #[test]
    fn any_name_and_any_path_has_a_receipt_of_its_own() {
        let directory = tempfile::tempdir().expect("a directory");
        let deep = [vec![b'd'; 200], b"/".to_vec()].concat().repeat(20);
        let names: [&[u8]; 8] = [
            b"x",
            b"x.1.json/y",
            b"x.1.json/y.1.json/z",
            b"x.drop-1.json/y",
            &[&[b'n'; 250][..], b".json/y"].concat(),
            &[&deep[..], b"one"].concat(),
            &[&deep[..], b"two"].concat(),
            &[b'm'; 255],
        ];
        let drops = ["d".to_owned(), "e".repeat(300)];
        let mut places = BTreeSet::new();
        for (drop, name) in drops.iter().flat_map(|drop| names.map(|name| (drop, name))) {
            let path = SourcePath::from_bytes(name);
            let run = super::directory(directory.path()).join(run_path(drop, &path, 1).as_path());
            for place in [path_for(directory.path(), drop, &path, UploadId(1)), run] {
                write(&place, b"{}").unwrap_or_else(|error| panic!("{path}: {error}"));
                assert!(places.insert(place), "{path}");
            }
        }
    }

    #[test]
    fn writing_again_gives_the_same_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = path_for(directory.path(), "d", &data().source.path, UploadId(17));
        let bytes = render(&data());
        let first = write(&place, &bytes).expect("written");
        assert_eq!(write(&place, &bytes).expect("written again"), first);
        assert_eq!(fs::read(&place).expect("there"), bytes);
        let beside = place.parent().expect("has one").read_dir().expect("listed").count();
        assert_eq!(beside, 1, "no temporary file stays");
    }
}

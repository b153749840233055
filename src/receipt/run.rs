//! The receipt of a run: the list of all its files with their digests.
//!
//! A run may have hundreds of thousands of files, so the receipt is written as its rows are read, one
//! file a line. The same rows give the same bytes here too.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{below, directory, make_durable, rfc3339, sync};
use crate::model::{
    ByteCount, Fingerprint, Hex, RunFile, RunRow, SourcePath, WallTime, json_shown,
};

/// What a receipt's first lines say.
#[derive(Serialize)]
struct Head<'a> {
    schema: u32,
    drop: &'a str,
    name: String,
    generation: u32,
    outcome: Option<&'a str>,
    opened_at: String,
    closed_at: Option<String>,
    late_file_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    given_up_count: u64,
    dropferry_version: &'static str,
}

#[derive(Serialize)]
struct FileLine<'a> {
    path: String,
    size_bytes: u64,
    mtime: String,
    destination: &'a str,
    remote_id: &'a str,
    remote_name: &'a str,
    md5: Option<String>,
    sha256: Option<String>,
    parts_md5: Option<String>,
    part_size_bytes: Option<u64>,
    completed_at: Option<String>,
    upload_id: i64,
}

/// Returns where a run's receipt is below the directory of receipts:
/// `<drop>/<run>.drop-<generation>.json`.
pub fn run_path(drop: &str, run: &SourcePath, generation: u32) -> SourcePath {
    below(drop, run, &format!(".drop-{generation}.json"))
}

/// Writes a run's receipt so that it is whole and durable under its name; returns the SHA-256 of its
/// bytes, and its fingerprint.
///
/// # Errors
/// When the disk would not take it, or the files cannot be listed; nothing is under its name then.
pub fn write_run(
    state: &Path,
    place: &SourcePath,
    (row, generation): (&RunRow, u32),
    files: impl FnOnce(&mut dyn FnMut(RunFile) -> io::Result<()>) -> io::Result<()>,
) -> io::Result<([u8; 32], Fingerprint)> {
    let place: PathBuf = directory(state).join(place.as_path());
    let parent = place.parent().unwrap_or(state);
    make_durable(parent)?;
    let name = place.file_name().map_or(&b""[..], OsStrExt::as_bytes);
    let temporary = parent.join(format!(".{}.partial", Hex(&Sha256::digest(name)[..8])));
    let mut out =
        Hashing { file: BufWriter::new(File::create(&temporary)?), sha256: Sha256::new() };
    write_json(&mut out, row, generation, files)?;
    let Hashing { file, sha256 } = out;
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    fs::rename(&temporary, &place)?;
    sync(parent)?;
    Ok((sha256.finalize().into(), fingerprint(&file.metadata()?)))
}

fn fingerprint(found: &fs::Metadata) -> Fingerprint {
    let seconds = found.mtime().saturating_mul(1_000_000_000);
    Fingerprint {
        device: found.dev(),
        inode: found.ino(),
        size: ByteCount(found.size()),
        mtime_ns: seconds.saturating_add(found.mtime_nsec()),
        // No one writes receipts but we; a link to one by a backup makes no other version of it.
        ctime_ns: None,
    }
}

fn write_json(
    out: &mut impl Write,
    row: &RunRow,
    generation: u32,
    files: impl FnOnce(&mut dyn FnMut(RunFile) -> io::Result<()>) -> io::Result<()>,
) -> io::Result<()> {
    let head = Head {
        schema: 1,
        drop: row.drop.as_str(),
        name: row.name.to_string(),
        generation,
        outcome: row.outcome.as_ref().map(|outcome| outcome.word.as_str()),
        opened_at: rfc3339(row.opened_at),
        closed_at: row.closed_at.map(rfc3339),
        late_file_count: row.late_count(),
        given_up_count: row.given_up_count,
        dropferry_version: env!("CARGO_PKG_VERSION"),
    };
    let head = serde_json::to_string(&head)?;
    let head = head.strip_suffix('}').unwrap_or(&head);
    write!(out, "{},\"files\":[", json_shown(head))?;
    let (mut count, mut bytes) = (0_u64, 0_u64);
    files(&mut |file| {
        out.write_all(if count == 0 { b"\n" } else { b",\n" })?;
        count += 1;
        bytes = bytes.saturating_add(file.size.0);
        out.write_all(json_shown(&serde_json::to_string(&line(&file))?).as_bytes())
    })?;
    writeln!(out, "\n],\"file_count\":{count},\"size_bytes\":{bytes}}}")
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn line(file: &RunFile) -> FileLine<'_> {
    FileLine {
        path: file.path.to_string(),
        size_bytes: file.size.0,
        mtime: rfc3339(WallTime(file.mtime_ns)),
        destination: &file.destination,
        remote_id: &file.remote_id,
        remote_name: &file.remote_name,
        md5: file.md5.map(|md5| md5.to_string()),
        sha256: file.sha256.map(|sha256| Hex(&sha256).to_string()),
        parts_md5: file.parts_md5.map(|md5| md5.to_string()),
        part_size_bytes: file.part_size_bytes,
        completed_at: file.completed_at.map(rfc3339),
        upload_id: file.upload.0,
    }
}

/// Digests what is written as it passes.
struct Hashing<W> {
    file: W,
    sha256: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.sha256.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DirectoryName, Md5, UploadId};

    #[test]
    fn a_run_s_receipt_is_json_with_a_line_for_each_file() {
        let state = tempfile::tempdir().unwrap();
        let run = SourcePath::from_bytes(b"group/run\n1");
        let row = RunRow::opened(DirectoryName::new("lab"), run.clone(), WallTime(0));
        let place = run_path("lab", &run, 1);
        let file = RunFile {
            upload: UploadId(1),
            drop: "lab".into(),
            path: SourcePath::from_bytes(b"group/run\n1/a"),
            size: ByteCount(3),
            mtime_ns: 1,
            destination: "far".into(),
            remote_id: "id".into(),
            remote_name: "a".into(),
            md5: Some(Md5([1; 16])),
            sha256: None,
            parts_md5: None,
            part_size_bytes: None,
            receipt_sha256: None,
            completed_at: None,
        };
        let files = |take: &mut dyn FnMut(RunFile) -> io::Result<()>| {
            take(file.clone())?;
            take(file.clone())
        };
        let (sha256, version) = write_run(state.path(), &place, (&row, 1), files).unwrap();
        let bytes = fs::read(directory(state.path()).join(place.as_path())).unwrap();
        assert_eq!(<[u8; 32]>::from(Sha256::digest(&bytes)), sha256);
        assert_eq!(version.size.0, bytes.len() as u64);
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["files"].as_array().unwrap().len(), 2);
        assert_eq!((&json["file_count"], &json["size_bytes"]), (&2.into(), &6.into()));
        let again = write_run(state.path(), &place, (&row, 1), files).unwrap();
        assert_eq!(again.0, sha256, "the same rows give the same bytes");
    }

    #[test]
    fn the_longest_name_still_has_a_receipt() {
        let place = run_path("lab", &SourcePath::from_bytes(&[b'x'; 255]), 12);
        assert_eq!(place.file_name().len(), 255);
        assert!(place.file_name().ends_with(b".drop-12.json"));
    }
}

//! The sentinel: the file that shows others that a run is complete.
//!
//! It is JSON: the run, the head of its ledger with the line that completes the run, and its files with their
//! digests, each on a line of its own. It is made only from lines of the run's ledgers, so the same lines
//! give the same bytes. It is kept below `STATE/sentinels`, under its final name only when complete, until it
//! was sent and the daemon is idle. *After a crash* before it was recorded it is made again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::ledger::LedgerReader;
use super::line::{LineBody, RunCompletedLine, UploadLine};
use super::place::LedgerName;
use super::{make_durable, rfc3339, sync};
use crate::model::{
    ByteCount, Fingerprint, Hex, LineRef, PathDigest, SentinelFile, SourcePath, json_shown,
};

/// Returns the directory of sentinels.
pub fn directory(state: &Path) -> PathBuf {
    state.join("sentinels")
}

/// Writes a run's sentinel and makes it durable: `completed` is its last line.
///
/// # Errors
/// When the disk fails, or a ledger cannot be read.
pub fn write(
    state: &Path,
    run: &SourcePath,
    first: &LedgerName,
    completed: &LineRef,
) -> io::Result<SentinelFile> {
    let (newest, line) = newest_lines(state, first, completed)?;
    // It replaces the one of an earlier run with that name.
    let named = first.numbered(1);
    let stem = named.as_str().trim_end_matches(".jsonl");
    let place = format!("{stem}.drop-{}.json", line.wave);
    let path = directory(state).join(&place);
    let parent = path.parent().unwrap_or(state);
    make_durable(parent)?;
    let temporary = path.with_extension("partial");
    let mut out = BufWriter::new(File::create(&temporary)?);
    begin(&mut out, run, &line, completed)?;
    let (mut count, mut bytes) = (0_u64, 0_u64);
    each_line(state, first, completed, &mut |number, seq, body| {
        let Some(upload) = body.upload().filter(|upload| is_newest(&newest, upload, number, seq))
        else {
            return Ok(());
        };
        out.write_all(if count == 0 { b"\n" } else { b",\n" })?;
        count += 1;
        bytes = bytes.saturating_add(upload.source.size);
        out.write_all(json_shown(&upload.summary().to_string()).as_bytes())
    })?;
    writeln!(out, "\n],\"file_count\":{count},\"size_bytes\":{bytes}}}")?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    sync(parent)?;
    let version = fingerprint(&file.metadata()?);
    Ok(SentinelFile { path: SourcePath::from_bytes(place.as_bytes()), version })
}

/// Removes sentinels that the rows show as sent.
///
/// # Errors
/// When the directory cannot be read, or a file cannot be removed.
pub(crate) fn remove_sent(state: &Path, is_sent: impl Fn(&SourcePath) -> bool) -> io::Result<()> {
    let top = directory(state);
    for drop in entries_of(&top)? {
        for file in entries_of(&drop)? {
            let path = file.strip_prefix(&top).unwrap_or(&file);
            if is_sent(&SourcePath::from_bytes(path.as_os_str().as_encoded_bytes())) {
                fs::remove_file(&file)?;
            }
        }
    }
    Ok(())
}

/// Returns the entries of a directory; none when it is no directory.
fn entries_of(directory: &Path) -> io::Result<Vec<PathBuf>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

type Newest = BTreeMap<PathDigest, (u32, u64)>;

/// Returns the newest line of each path and destination, and the last line's content.
fn newest_lines(
    state: &Path,
    first: &LedgerName,
    completed: &LineRef,
) -> io::Result<(Newest, RunCompletedLine)> {
    let (mut newest, mut last) = (Newest::new(), None);
    each_line(state, first, completed, &mut |number, seq, body| {
        if let Some(upload) = body.upload() {
            newest.insert(key(upload), (number, seq));
        }
        if let LineBody::RunCompleted(line) = body {
            last = Some((**line).clone());
        }
        Ok(())
    })?;
    let last = last.ok_or_else(|| io::Error::other("the ledger has no line of that run"))?;
    Ok((newest, last))
}

fn is_newest(newest: &Newest, upload: &UploadLine, number: u32, seq: u64) -> bool {
    !upload.source.sentinel && newest.get(&key(upload)) == Some(&(number, seq))
}

fn key(upload: &UploadLine) -> PathDigest {
    let (source, target) = (&upload.source, &upload.target);
    let text = json!([source.path, source.path_bytes, target.destination.name]);
    PathDigest::of(text.to_string().as_bytes())
}

/// Passes on every line of a run's ledgers up to one; of a damaged ledger, its valid lines.
fn each_line(
    state: &Path,
    first: &LedgerName,
    last: &LineRef,
    take: &mut dyn FnMut(u32, u64, &LineBody) -> io::Result<()>,
) -> io::Result<()> {
    let end = LedgerName::parse(last.ledger.as_str()).map_or(1, |name| name.number());
    for number in first.number()..=end {
        let file = match super::open(&first.numbered(number).path(state)) {
            Err(error) if number < end && error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        for line in LedgerReader::new(BufReader::new(file)) {
            let line = match line {
                Ok(line) => line,
                Err(_) if number < end => break,
                Err(fault) => return Err(io::Error::other(fault)),
            };
            take(number, line.seq, &line.body().map_err(io::Error::other)?)?;
            if number == end && line.seq == last.seq {
                break;
            }
        }
    }
    Ok(())
}

fn begin(
    out: &mut impl Write,
    run: &SourcePath,
    line: &RunCompletedLine,
    completed: &LineRef,
) -> io::Result<()> {
    let head = json!({
        "schema": 2, "drop": line.drop, "name": run.to_string(), "generation": line.wave,
        "outcome": line.outcome, "opened_at": line.opened_at.map(rfc3339),
        "closed_at": line.closed_at.map(rfc3339), "late_file_count": line.late_file_count,
        "given_up_count": line.given_up_count, "forced_by": line.forced_by,
        "dropferry_version": env!("CARGO_PKG_VERSION"),
        "ledger": {
            "name": completed.ledger.as_str(), "count": completed.seq,
            "sha256": Hex(&completed.sha256).to_string(),
        },
    });
    let head = head.to_string();
    let head = head.strip_suffix('}').unwrap_or(&head);
    write!(out, "{},\"files\":[", json_shown(head))
}

fn fingerprint(found: &fs::Metadata) -> Fingerprint {
    let seconds = found.mtime().saturating_mul(1_000_000_000);
    Fingerprint {
        device: found.dev(),
        inode: found.ino(),
        size: ByteCount(found.size()),
        mtime_ns: seconds.saturating_add(found.mtime_nsec()),
        // Only dropferry writes sentinels; a backup's link to one makes no other version of it.
        ctime_ns: None,
    }
}

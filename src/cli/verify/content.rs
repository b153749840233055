//! Reads a source again, and compares it with the sent parts.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{FileVerdict, JudgedFile, sent_mark};
use crate::config::{Config, Drop};
use crate::daemon::read_by_first_names;
use crate::model::{ByteCount, DirectoryName, Failure, FailureKind, Fingerprint, PartSize};
use crate::source::{DirectoryRoot, Filter, MEMORY_PER_PART, PartReader, SourceFile};
use crate::store::snapshot::{Detail, Snapshot};

/// Drop directories, each set up as in the daemon.
pub(super) type Roots = BTreeMap<DirectoryName, Arc<DirectoryRoot>>;

/// Sets up each drop directory with its renamed runs.
pub(super) fn roots(config: &Config, rows: &Snapshot) -> anyhow::Result<Roots> {
    let root = |drop: &Drop| {
        let (name, filter) = (drop.settings.name.clone(), Filter::new(&drop.source)?);
        let root = DirectoryRoot::at(&drop.source.directory);
        read_by_first_names(rows, &name, &root, &filter)?;
        Ok((name, Arc::new(root)))
    };
    config.drops.iter().map(root).collect()
}

pub(super) fn compare(roots: &Roots, detail: &Detail) -> JudgedFile {
    match read(roots, detail) {
        Ok(judged) => judged,
        Err(failure) if failure.kind == FailureKind::SourceGone => {
            (FileVerdict::Unknown, "the source is not there any more".into())
        }
        Err(failure) => (FileVerdict::Unknown, format!("the source cannot be read: {failure}")),
    }
}

fn read(roots: &Roots, detail: &Detail) -> Result<JudgedFile, Failure> {
    let admission = &detail.upload.admission;
    let Some(root) = roots.get(&admission.file.drop) else {
        return Ok((FileVerdict::Unknown, "its drop is not in the configuration".into()));
    };
    let renamed = root.renamed();
    let place = root.path().join(renamed.on_disk(&admission.file.path).as_path());
    let meta = std::fs::metadata(&place).map_err(|error| {
        let is_gone = error.kind() == std::io::ErrorKind::NotFound;
        let kind = if is_gone { FailureKind::SourceGone } else { FailureKind::SourceUnreadable };
        Failure::new(kind, error.to_string())
    })?;
    let sent = admission.file.fingerprint.size;
    if meta.len() != sent.0 {
        let found = format!("the source has {} bytes, {} were sent", meta.len(), sent.0);
        return Ok((FileVerdict::Differs, found));
    }
    // The present version, whichever it is: only its content matters.
    let mtime_ns = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
    let (device, inode, size) = (meta.dev(), meta.ino(), ByteCount(meta.len()));
    let fingerprint = Fingerprint { device, inode, size, mtime_ns, ctime_ns: None };
    let root = Arc::clone(root);
    hold(
        detail,
        &SourceFile { root, path: admission.file.path.clone(), fingerprint, provenance: None },
    )
}

/// Compares every part of a source with its row; if parts have none, the digest over all of them.
fn hold(detail: &Detail, source: &SourceFile) -> Result<JudgedFile, Failure> {
    let stop = AtomicBool::new(false);
    let reader = PartReader::new(MEMORY_PER_PART);
    let part_size = PartSize::new(detail.upload.part_size_bytes);
    let has_parts = detail.parts.len() == detail.upload.part_count as usize;
    if let Some(part_size) = part_size.filter(|_| has_parts) {
        for part in &detail.parts {
            let range = part_size.range_of(part.number, source.fingerprint.size);
            if reader.hash_range(source, range, &stop)? != part.md5 {
                let found = format!("part {} of the source is not what was sent", part.number);
                return Ok((FileVerdict::Differs, found));
            }
        }
        let count = detail.parts.len();
        let plural = if count == 1 { "part" } else { "parts" };
        return Ok((FileVerdict::Same, format!("{count} {plural} of the source")));
    }
    let Some(mark) = sent_mark(detail) else {
        return Ok((FileVerdict::Unknown, "no row has a digest of what was sent".into()));
    };
    Ok(match reader.hash_file(source, mark.part_size, &stop)? == mark {
        true => (FileVerdict::Same, "all of the source".into()),
        false => (FileVerdict::Differs, "the source is not what was sent".into()),
    })
}

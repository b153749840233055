//! Converts ledger lines to rows, facts and values.

use crate::model::{
    Admission, ByteCount, ContentMark, DirectoryName, ETag, ExportId, ExportPlace, Fact,
    Fingerprint, Md5, PartSize, RemoteFile, RemoteFileId, RunRow, Stage, UploadState, VersionId,
    WallTime, WrittenLine,
};
use crate::model::{LedgerHead, LineRef};
use crate::receipt::ledger::LedgerLine;
use crate::receipt::line::{ExportedLine, LineBody, UploadLine, parse_moment};
use crate::receipt::place::LedgerName;

/// Returns the row of the run in a line, as for a run that was first seen.
pub(super) fn opened_run(body: &LineBody, at: WallTime) -> Option<RunRow> {
    let (drop, run) = match body {
        LineBody::Upload(line) | LineBody::FoundAgain(line) if line.source.run.is_some() => {
            (&line.source.drop, line.source.run()?)
        }
        LineBody::RunCompleted(line) => (&line.drop, line.run()?),
        LineBody::ClosedByHand(line) => (&line.drop, line.run()?),
        LineBody::Upload(_)
        | LineBody::FoundAgain(_)
        | LineBody::Exported(_)
        | LineBody::Other { .. } => return None,
    };
    Some(RunRow::opened(DirectoryName::new(&**drop), run, at))
}

/// Returns the time of writing of a line.
pub(super) fn moment(line: &LedgerLine) -> WallTime {
    parse_moment(&line.at).unwrap_or(WallTime(0))
}

pub(super) fn written(name: &LedgerName, line: &LedgerLine) -> WrittenLine {
    let length = line.offset + line.raw.len() as u64 + 1;
    WrittenLine {
        line: LineRef {
            ledger: name.ledger_path(),
            seq: line.seq,
            offset: line.offset,
            sha256: line.sha256,
        },
        head: LedgerHead { count: line.seq, sha256: line.sha256, length },
        damaged: None,
    }
}

/// Returns whether both are for the same file at the same destination.
pub(super) fn is_same(stored: &Admission, said: &Admission) -> bool {
    let of = |one: &Admission| {
        let Fingerprint { size, mtime_ns, .. } = one.file.fingerprint;
        (one.file.drop.clone(), one.file.path.clone(), one.destination.clone(), size, mtime_ns)
    };
    of(stored) == of(said)
}

/// Returns the facts to record before an upload's line; `None` where the upload has ended.
pub(super) fn facts(
    line: &UploadLine,
    at: WallTime,
    state: Option<&UploadState>,
    exported: Option<&ExportedLine>,
) -> Option<Vec<Fact>> {
    let (is_begun, is_completed, is_verified) = match state.map(|state| &state.stage) {
        None | Some(Stage::Queued) => (false, false, false),
        Some(Stage::Beginning { .. } | Stage::Sending { .. } | Stage::Completing { .. }) => {
            (true, false, false)
        }
        Some(Stage::Completed { .. }) => (true, true, false),
        Some(Stage::Verified { .. }) => (true, true, true),
        Some(Stage::Receipted { .. } | Stage::Ended(_)) => return None,
    };
    let (course, proof) = (&line.course, &line.proof);
    let at = course.verified_at.unwrap_or(at);
    let mut facts = Vec::new();
    if is_begun && !is_completed {
        facts.push(Fact::RemoteGone);
    }
    if !is_completed {
        let file = remote_file(line);
        facts.push(Fact::FoundPresent { file, at: course.completed_at.unwrap_or(at) });
    }
    if !is_verified {
        let mark = mark(proof.part_size, proof.md5_of_parts());
        let etag = line.target.remote_etag.as_deref().map(ETag::from_header);
        facts.push(Fact::Verified { mark, there: remote_mark(line), etag, at });
    }
    if let Some(exported) = exported.filter(|_| state.is_none_or(|state| state.export.is_none())) {
        let place =
            ExportPlace { volume: exported.volume.clone(), location: exported.location.clone() };
        let at = exported.exported_at.unwrap_or(at);
        facts.push(Fact::ExportIntended { place, at });
    }
    if let Some(exported) = exported {
        let (job, at) = (ExportId::new(&*exported.job), exported.exported_at.unwrap_or(at));
        facts.push(Fact::Exported { job, at });
    }
    let digests = &proof.whole_file_digests;
    if digests.md5.is_some() || digests.sha256.is_some() {
        facts.push(Fact::Digested { md5: digests.md5, sha256: digests.sha256 });
    }
    Some(facts)
}

fn mark(part_size: u64, md5: Option<Md5>) -> Option<ContentMark> {
    Some(ContentMark { part_size: PartSize::new(part_size)?, md5_of_parts: md5? })
}

fn remote_mark(line: &UploadLine) -> Option<ContentMark> {
    let proof = &line.proof;
    mark(proof.remote_part_size.unwrap_or(proof.part_size), proof.remote_digest)
}

fn remote_file(line: &UploadLine) -> RemoteFile {
    RemoteFile {
        id: RemoteFileId::new(&*line.target.remote_id),
        name: line.target.remote_name.clone(),
        size: Some(ByteCount(line.source.size)),
        mark: remote_mark(line),
        created_at: None,
        etag: line.target.remote_etag.as_deref().map(ETag::from_header),
        version: line.target.version_id.as_deref().map(VersionId::new),
        maker: None,
    }
}

//! From rows to lines of ledgers.
//!
//! Lines that are requested while others are being written are written together: a thread handles
//! all that wait, and ends when none do. *After a crash* an unanswered act is repeated; the
//! appender finds a line that was written already.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::context::World;
use super::line::{ServedQueue, served};
use super::workers::local;
use crate::model::{
    ByteCount, DirectoryName, ETagMode, Failure, Hex, KnownLedger, PartSize, RemoteFile,
    RootIdentity, RunRow, Shown, SourcePath, Stage, TargetAddress, UploadId, WallTime, WrittenLine,
};
use crate::receipt::line::{
    ClosedByHandLine, ExportedLine, LineBody, LineCourse, LineDestination, LineKind, LinePart,
    LineProof, LineSource, LineTarget, RunCompletedLine, UploadLine, WholeFileDigests, path_texts,
};
use crate::receipt::place::LedgerName;
use crate::receipt::{Appender, LedgerRows, WantedLine, WantedLines};
use crate::store::snapshot::{Detail, PartShown, Snapshot};

/// Limit of lines that are written together: they share the disk's latency, and are in memory at the same time.
const TOGETHER_MAX: usize = 256;

/// Lines to write, and the appender that writes them.
#[derive(Debug)]
pub(crate) struct Receipts {
    waiting: ServedQueue<AwaitedLine>,
    appender: Mutex<Appender>,
    /// Ledgers are read again before anything is appended.
    must_reread: AtomicBool,
}

/// The subject of a line.
#[derive(Debug)]
pub enum LineSubject {
    /// An upload that is verified.
    Upload(UploadId),
    /// A run that is complete; `generation` counts its completions, from 1.
    Run { drop: DirectoryName, run: SourcePath, generation: u32 },
}

/// A line that a task waits for.
#[derive(Debug)]
struct AwaitedLine {
    subject: LineSubject,
    answer: oneshot::Sender<Result<WrittenLine, Failure>>,
}

impl Receipts {
    pub(super) fn new(state: PathBuf) -> Self {
        let host = crate::notify::host();
        let appender = Mutex::new(Appender::new(state, host));
        Self { waiting: ServedQueue::default(), appender, must_reread: AtomicBool::new(false) }
    }

    /// A ledger was found damaged: all are read again before anything is appended.
    pub(super) fn reread(&self) {
        self.must_reread.store(true, Ordering::Relaxed);
    }
}

/// Writes a line, together with those of concurrent requests.
pub(super) async fn write(
    world: &Arc<World>,
    subject: LineSubject,
) -> Result<WrittenLine, Failure> {
    let (answer, answered) = oneshot::channel();
    if world.receipts.waiting.join(AwaitedLine { subject, answer }) {
        let world = Arc::clone(world);
        tokio::task::spawn_blocking(move || serve(&world));
    }
    served(answered).await
}

fn serve(world: &World) {
    let Receipts { waiting, appender, must_reread } = &world.receipts;
    loop {
        let (subjects, answers): (Vec<_>, Vec<_>) = waiting
            .take(TOGETHER_MAX)
            .into_iter()
            .map(|asked| (asked.subject, asked.answer))
            .unzip();
        if subjects.is_empty() {
            return;
        }
        let at = world.clock.now().wall;
        let mut appender = appender.lock().unwrap_or_else(PoisonError::into_inner);
        if must_reread.swap(false, Ordering::Relaxed) {
            appender.forget();
        }
        let written = world.readers.lend(|rows| append(&mut appender, rows, at, &subjects));
        let written =
            written.unwrap_or_else(|error| subjects.iter().map(|_| Err(local(&error))).collect());
        for (written, answer) in written.into_iter().zip(answers) {
            // The act may have been cancelled.
            if answer.send(written).is_err() {
                appender.forget();
            }
        }
    }
}

/// Makes lines from rows and makes them durable. Returns the line of each subject.
pub fn append(
    appender: &mut Appender,
    rows: &Snapshot,
    at: WallTime,
    subjects: &[LineSubject],
) -> Vec<Result<WrittenLine, Failure>> {
    let (mut wanted, mut places) = (Vec::new(), Vec::new());
    // Without a transaction each statement would be one, with locks of its own and no cache from the last.
    let read = rows.at_one_moment(|| {
        for subject in subjects {
            places.push(wanted_of(rows, subject).map(|lines| wanted.push(lines)));
        }
    });
    if let Err(error) = read {
        return subjects.iter().map(|_| Err(local(&error))).collect();
    }
    let written = appender.append(at, &wanted, &RowsOf(rows));
    let said = wanted.iter().zip(&written).filter(|(_, written)| written.is_ok());
    said.for_each(|(lines, _)| note_arrival(lines));
    let mut written = written.into_iter();
    let answer = |place: Result<(), Failure>| {
        place?;
        let none = || Err(io::Error::other("it was not answered"));
        let written = written.next().unwrap_or_else(none);
        written.map_err(|error| local(format!("a receipt cannot be written: {error}")))
    };
    places.into_iter().map(answer).collect()
}

/// Logs the one line of a file: it has arrived, and is proved.
fn note_arrival(lines: &WantedLines) {
    let WantedLine::Upload { body: LineBody::Upload(line) | LineBody::FoundAgain(line), .. } =
        &lines.what
    else {
        return;
    };
    let (source, destination, course) = (&line.source, &line.target.destination.name, &line.course);
    let (upload_id, path, size) = (source.id.0, Shown(&source.path), ByteCount(source.size));
    let took = course.begun_at.zip(course.completed_at).map_or(String::new(), |(begun, ended)| {
        format!(" in {:.1} s", begun.until(ended).as_secs_f64())
    });
    let found = matches!(lines.what, WantedLine::Upload { body: LineBody::FoundAgain(_), .. });
    let how = if found { "was there already, the same".to_owned() } else { format!("sent{took}") };
    tracing::info!(upload_id, %destination, "{path} is at {destination}: {size}, {how}, verified");
}

struct RowsOf<'a>(&'a Snapshot);

impl LedgerRows for RowsOf<'_> {
    fn known(&self, ledger: &str) -> io::Result<KnownLedger> {
        self.0.known_ledger(ledger).map_err(io::Error::other)
    }

    fn awaiting(&self) -> io::Result<BTreeSet<UploadId>> {
        self.0.awaiting_receipts().map_err(io::Error::other)
    }
}

fn wanted_of(rows: &Snapshot, subject: &LineSubject) -> Result<WantedLines, Failure> {
    match subject {
        LineSubject::Upload(upload) => {
            let detail = rows.proof(*upload).map_err(local)?;
            let detail = detail.ok_or_else(|| local(format!("upload {upload} has no row")))?;
            let ledger = ledger_of(&detail);
            let not_verified =
                || local(format!("upload {upload} is not verified, and so has no receipt"));
            let exported = exported_of(&detail);
            let body = receipt_of(detail).ok_or_else(not_verified)?;
            Ok(WantedLines { ledger, what: WantedLine::Upload { body, exported } })
        }
        LineSubject::Run { drop, run, generation } => {
            let row = rows.run(drop, run).map_err(local)?;
            let row = row.ok_or_else(|| local(format!("run {run} has no row")))?;
            let ledger =
                LedgerName::of_run(drop.as_str(), run).numbered(row.completion.ledgers.first);
            let line = Box::new(completed_of(&row, *generation));
            let before = closed_by_hand_of(&row).into_iter().chain(renamed_of(&row)).collect();
            Ok(WantedLines { ledger, what: WantedLine::RunCompleted { line, before } })
        }
    }
}

/// Returns the first ledger for the line of an upload: that of its run, or of the month in which a
/// single file was admitted.
fn ledger_of(detail: &Detail) -> LedgerName {
    let admission = &detail.upload.admission;
    let drop = admission.file.drop.as_str();
    if admission.file.run == admission.file.path {
        return LedgerName::of_files(drop, admission.at);
    }
    let number = detail.run.as_ref().map(|run| match &run.completed_in {
        // The run of the sentinel may be gone.
        Some(ledger) if admission.file.is_sentinel => ledger.number(),
        Some(_) | None => run.first_ledger,
    });
    LedgerName::of_run(drop, &admission.file.run).numbered(number.unwrap_or(1))
}

fn completed_of(row: &RunRow, generation: u32) -> RunCompletedLine {
    let (run, run_bytes) = path_texts(&row.name);
    RunCompletedLine {
        drop: row.drop.as_str().to_owned(),
        run,
        run_bytes,
        wave: generation,
        file_count: row.files.count,
        bytes: row.files.size.0,
        late_file_count: row.late_count(),
        given_up_count: row.files.given_up_count,
        opened_at: Some(row.opened_at),
        closed_at: row.closed_at,
        outcome: row.outcome.as_ref().map(|outcome| outcome.word.clone()),
        forced_by: row.closed_by_hand.as_ref().map(|closed| closed.by.clone()),
    }
}

/// Returns the line that a run was closed by hand, if it has not been completed since.
fn closed_by_hand_of(row: &RunRow) -> Option<LineBody> {
    let closed = row.closed_by_hand.clone().filter(|_| !row.is_late())?;
    let (run, run_bytes) = path_texts(&row.name);
    Some(LineBody::ClosedByHand(Box::new(ClosedByHandLine {
        drop: row.drop.as_str().to_owned(),
        run,
        run_bytes,
        by: closed.by,
        missing: closed.missing,
        closed_at: row.closed_at,
    })))
}

/// Returns the line that a run was renamed, if it has not been completed before.
fn renamed_of(row: &RunRow) -> Option<LineBody> {
    let now = row.name_now.as_ref().filter(|_| !row.is_late())?;
    let (names, drop) = ([("run", &row.name), ("run_now", now)], row.drop.as_str());
    let mut members = serde_json::Map::from_iter([("drop".to_owned(), drop.into())]);
    for (member, path) in names {
        let (text, bytes) = path_texts(path);
        members.insert(member.to_owned(), text.into());
        members.extend(bytes.map(|bytes| (format!("{member}_bytes"), bytes.into())));
    }
    Some(LineBody::Other { kind: LineKind::Renamed.as_str().to_owned(), members })
}

fn exported_of(detail: &Detail) -> Option<ExportedLine> {
    let export = detail.export.as_ref().filter(|export| export.exported_at.is_some())?;
    Some(ExportedLine {
        id: detail.upload.admission.id,
        volume: export.volume.clone(),
        location: export.location.clone(),
        job: export.job.clone().unwrap_or_default(),
        exported_at: export.exported_at,
    })
}

/// Returns the content of an upload's receipt; `None` before it is verified.
pub fn receipt_of(detail: Detail) -> Option<LineBody> {
    let file = match &detail.upload.state.stage {
        Stage::Verified { file, .. } | Stage::Receipted { file } => file.clone(),
        Stage::Queued
        | Stage::Beginning { .. }
        | Stage::Sending { .. }
        | Stage::Completing { .. }
        | Stage::Completed { .. }
        | Stage::Ended(_) => return None,
    };
    let is_found = detail.parts.is_empty();
    let course = course_of(&detail);
    let source = source_of(&detail);
    let line = Box::new(UploadLine {
        source,
        proof: proof_of(&detail, &file)?,
        target: target_of(detail, file),
        course,
    });
    Some(if is_found { LineBody::FoundAgain(line) } else { LineBody::Upload(line) })
}

fn source_of(detail: &Detail) -> LineSource {
    let admission = &detail.upload.admission;
    let (path, path_bytes) = path_texts(&admission.file.path);
    let run = (admission.file.run != admission.file.path).then(|| path_texts(&admission.file.run));
    let (run, run_bytes) = run.map_or((None, None), |(run, bytes)| (Some(run), bytes));
    LineSource {
        id: admission.id,
        drop: admission.file.drop.as_str().to_owned(),
        run,
        run_bytes,
        path,
        path_bytes,
        size: admission.file.fingerprint.size.0,
        mtime_ns: admission.file.fingerprint.mtime_ns,
        ctime_ns: admission.file.fingerprint.ctime_ns,
        inode: admission.file.fingerprint.inode,
        root: admission.file.root.as_ref().map(|root: &RootIdentity| root.as_str().to_owned()),
        sentinel: admission.file.is_sentinel,
    }
}

fn target_of(detail: Detail, file: RemoteFile) -> LineTarget {
    let admission = detail.upload.admission;
    let address = detail.remote.target.unwrap_or_else(|| TargetAddress {
        platform: detail.remote.platform,
        base_url: String::new(),
        container: String::new(),
    });
    let (bucket, project) = match address.has_buckets() {
        true => (Some(address.container), None),
        false => (None, Some(address.container)),
    };
    LineTarget {
        destination: LineDestination {
            name: admission.destination.as_str().to_owned(),
            platform: address.platform,
            base_url: address.base_url,
            bucket,
            project,
        },
        target: admission.target_id.0,
        place: admission.target.path().to_owned(),
        remote_id: file.id.as_str().to_owned(),
        remote_name: file.name,
        version_id: file.version.map(|version| version.as_str().to_owned()),
        remote_etag: file.etag.map(|etag| etag.as_str().to_owned()),
    }
}

fn proof_of(detail: &Detail, file: &RemoteFile) -> Option<LineProof> {
    let part_size = PartSize::new(detail.upload.part_size_bytes)?;
    let size = detail.upload.admission.file.fingerprint.size;
    let part = |part: &PartShown| {
        let range = part_size.range_of(part.number, size);
        LinePart {
            number: part.number.get(),
            offset: range.offset,
            length: range.length,
            md5: part.md5,
            etag: part.etag.as_str().to_owned(),
        }
    };
    let content = detail.digests.mark.or(file.mark);
    let mode = detail.upload.state.etag_mode;
    let remote_size = file.mark.map(|mark| mark.part_size.get());
    // The digest has a part size of its own, which is that of the upload if anything was sent.
    let part_size_told = content.map_or(part_size, |mark| mark.part_size);
    Some(LineProof {
        etag_mode: Some(mode).filter(|mode| *mode != ETagMode::Unknown),
        wave: detail.run.as_ref().map(|run| run.generation),
        supersedes: detail.upload.state.supersedes.as_ref().map(|by| by.earlier.upload),
        forced_by: None,
        part_size: if detail.parts.is_empty() { part_size_told } else { part_size }.get(),
        parts: detail.parts.iter().map(part).collect(),
        content_digest: content.map(|mark| {
            let count = mark.part_size.count_for(size).unwrap_or(1);
            format!("{}-{count}", Hex(&mark.md5_of_parts.0))
        }),
        remote_digest: file.mark.map(|mark| mark.md5_of_parts),
        remote_part_size: remote_size.filter(|remote| *remote != part_size_told.get()),
        whole_file_digests: WholeFileDigests {
            md5: detail.digests.md5,
            sha256: detail.digests.sha256,
        },
    })
}

fn course_of(detail: &Detail) -> LineCourse {
    let size = detail.upload.admission.file.fingerprint.size.0;
    let accepted = if detail.parts.is_empty() { 0 } else { size };
    let bytes_sent = detail.upload.state.wire.sent.0;
    LineCourse {
        begun_at: detail.times.begun_at,
        completed_at: detail.upload.completed_at,
        verified_at: detail.times.verified_at,
        bytes_sent,
        bytes_sent_again: bytes_sent.saturating_sub(accepted),
        attempt_count: detail.attempts.len() as u64,
    }
}

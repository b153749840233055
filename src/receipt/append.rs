//! The appender: makes lines durable at the end of their ledgers.
//!
//! *Owns* the end of every ledger while the daemon runs; nothing else writes to one. *Promises*: an answered
//! line is durable; lines of one batch and ledger cost one write and one sync; a complete line is never
//! removed or changed. It reads a ledger once in each process before it appends: as far as the rows know it,
//! it must be valid and equal to them, else it is damaged. A file that was changed from outside is read
//! again. A damaged ledger is never written to; the next number of the same name continues it.
//!
//! *After a crash* the file may have lines that no row knows. Complete lines that continue the
//! chain are adopted: a request for such a line is answered with it, and it is not written again.
//! An incomplete tail is cut off, and kept beside the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::ledger::{LedgerFault, LedgerLine, LedgerReader, LineStamp, shortfall};
use super::line::{ExportedLine, LineBody, RunCompletedLine, UploadLine};
use super::place::{LedgerName, torn_path};
use super::{make_durable, sync};
use crate::model::{
    DamagedLedger, KnownLedger, LedgerHead, LedgerPath, LineRef, PathDigest, UploadId, WallTime,
    WrittenLine,
};

/// Bytes copied at a time when lines are written again.
const COPY_BYTES: usize = 1 << 20;
/// Limit of damaged ledgers of one name that are skipped.
const NUMBER_MAX: usize = 1_000;

/// Lines that a ledger must contain.
#[derive(Debug)]
pub struct WantedLines {
    /// The first ledger for lines of its run.
    pub ledger: LedgerName,
    pub what: WantedLine,
}

#[derive(Debug)]
pub enum WantedLine {
    Upload {
        /// [`LineBody::Upload`] or [`LineBody::FoundAgain`].
        body: LineBody,
        /// Where it was exported to, if it was: a line of its own after that of the upload.
        exported: Option<ExportedLine>,
    },
    RunCompleted {
        line: Box<RunCompletedLine>,
        /// That it was closed by hand, or renamed: lines of their own before it.
        before: Vec<LineBody>,
    },
}

/// The rows, as the appender queries them.
pub trait LedgerRows {
    /// Returns how far a ledger is known to be durable.
    fn known(&self, ledger: &str) -> io::Result<KnownLedger>;

    /// Returns the uploads whose lines a ledger may have although no row names them.
    fn awaiting(&self) -> io::Result<BTreeSet<UploadId>>;
}

/// Appends to the ledgers of one state directory.
#[derive(Debug)]
pub struct Appender {
    state: PathBuf,
    host: String,
    /// Ends of ledgers, by the first ledger for lines of their run.
    ends: BTreeMap<LedgerName, LedgerEnd>,
}

/// The end of a ledger that was read completely.
#[derive(Debug)]
struct LedgerEnd {
    name: LedgerName,
    ledger: LedgerPath,
    head: LedgerHead,
    /// The file after the last write; a changed one is read again before anything is appended.
    left: Option<FileMark>,
    /// Lines that no row names.
    adopted: BTreeMap<UploadId, AdoptedLine>,
    /// The last line, if it completes the run.
    completed: Option<(RunCompletedLine, LineRef)>,
    /// The last line of each kind that may be before that one.
    before: BTreeMap<String, LineBody>,
    /// Its directory entry may not be durable.
    is_new: bool,
    /// The ledger before it that was found damaged, and is not reported yet.
    damaged: Option<DamagedLedger>,
}

/// Shows whether others changed or replaced a file.
#[derive(Debug, PartialEq, Eq)]
struct FileMark {
    inode: u64,
    length: u64,
    ctime_ns: i128,
}

impl FileMark {
    fn of(found: &fs::Metadata) -> Self {
        let ctime_ns = i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec());
        Self { inode: found.ino(), length: found.len(), ctime_ns }
    }
}

/// The line of an upload that no row names.
#[derive(Debug)]
struct AdoptedLine {
    identity: PathDigest,
    line: LineRef,
    is_exported: bool,
}

/// Why a ledger cannot be continued.
enum EndFault {
    Damaged(String),
    Unreadable(io::Error),
}

impl From<io::Error> for EndFault {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

impl Appender {
    pub fn new(state: PathBuf, host: String) -> Self {
        Self { state, host, ends: BTreeMap::new() }
    }

    /// Makes lines durable, those of each ledger together. Returns the line of each wanted one; for
    /// an exported upload, the line of the upload.
    pub fn append(
        &mut self,
        at: WallTime,
        wanted: &[WantedLines],
        rows: &dyn LedgerRows,
    ) -> Vec<io::Result<WrittenLine>> {
        let mut by_ledger: BTreeMap<&LedgerName, Vec<usize>> = BTreeMap::new();
        for (index, wanted) in wanted.iter().enumerate() {
            by_ledger.entry(&wanted.ledger).or_default().push(index);
        }
        let mut answers: BTreeMap<usize, io::Result<WrittenLine>> = BTreeMap::new();
        for (ledger, indexes) in by_ledger {
            let lines: Vec<_> = indexes.iter().map(|index| &wanted[*index].what).collect();
            match self.append_to(ledger, at, &lines, rows) {
                Ok(written) => answers.extend(indexes.into_iter().zip(written.into_iter().map(Ok))),
                Err(error) => answers.extend(indexes.into_iter().map(|index| {
                    (index, Err(io::Error::new(error.kind(), format!("{ledger}: {error}"))))
                })),
            }
        }
        answers.into_values().collect()
    }

    /// Drops what it knows of ledgers: each is read again before anything is appended. Needed where
    /// an answer did not reach its requester.
    pub fn forget(&mut self) {
        self.ends.clear();
    }

    /// After any failure, the ledger is read again before anything is appended.
    fn append_to(
        &mut self,
        first: &LedgerName,
        at: WallTime,
        lines: &[&WantedLine],
        rows: &dyn LedgerRows,
    ) -> io::Result<Vec<WrittenLine>> {
        let kept = self.ends.remove(first);
        let path = |end: &LedgerEnd| end.name.path(&self.state);
        let is_as_left = |end: &LedgerEnd| {
            let found = fs::symlink_metadata(path(end));
            found.is_ok_and(|found| end.left == Some(FileMark::of(&found)))
        };
        let mut end = match kept {
            Some(end) if is_as_left(&end) => end,
            kept => self.open(first, at, kept.as_ref(), rows)?,
        };
        let (mut bytes, start) = (Vec::new(), end.head.length);
        let stamp = LineStamp { at, host: &self.host };
        let written: Vec<_> = lines.iter().map(|line| end.take(line, &stamp, &mut bytes)).collect();
        if !bytes.is_empty() {
            let file = OpenOptions::new().write(true).open(path(&end))?;
            file.write_all_at(&bytes, start)?;
            file.sync_data()?;
            end.left = Some(FileMark::of(&file.metadata()?));
            if end.is_new {
                sync(path(&end).parent().unwrap_or(&self.state))?;
                end.is_new = false;
            }
        }
        let (head, mut damaged) = (end.head, end.damaged.take());
        let written =
            written.into_iter().map(|line| WrittenLine { line, head, damaged: damaged.take() });
        let written = written.collect();
        self.ends.insert(first.clone(), end);
        Ok(written)
    }

    /// Finds the ledger to continue, and reads it.
    fn open(
        &self,
        first: &LedgerName,
        at: WallTime,
        left: Option<&LedgerEnd>,
        rows: &dyn LedgerRows,
    ) -> io::Result<LedgerEnd> {
        let mut damaged = None;
        for number in (first.number()..).take(NUMBER_MAX) {
            let name = first.numbered(number);
            let mut known = rows.known(name.as_str())?;
            if known.damage.is_some() {
                continue;
            }
            if let Some(left) = left.filter(|left| left.name == name) {
                // The rows may be behind what this process has written.
                known.head =
                    if left.head.count > known.head.count { left.head } else { known.head };
            }
            match LedgerEnd::read(&self.state, name, at, known.head, rows) {
                Ok(end) => return Ok(LedgerEnd { damaged, ..end }),
                Err(EndFault::Unreadable(error)) => return Err(error),
                Err(EndFault::Damaged(why)) => {
                    let ledger = first.numbered(number).ledger_path();
                    damaged = Some(DamagedLedger { ledger, why });
                }
            }
        }
        Err(io::Error::other("a thousand ledgers of this name are damaged"))
    }
}

impl LedgerEnd {
    /// Reads a ledger, adopts lines that the rows do not know, and cuts off an incomplete tail.
    fn read(
        state: &Path,
        name: LedgerName,
        at: WallTime,
        known: LedgerHead,
        rows: &dyn LedgerRows,
    ) -> Result<Self, EndFault> {
        let path = name.path(state);
        let Some(file) = open_file(&path, known)? else {
            return Ok(Self::new(name));
        };
        let awaited = if known.count > 0 { rows.awaiting()? } else { BTreeSet::new() };
        let mut end = Self { is_new: true, ..Self::new(name) };
        let mut reader = LedgerReader::new(BufReader::with_capacity(COPY_BYTES, &file));
        let mut torn = None;
        for line in &mut reader {
            match line {
                Ok(line) => end.read_line(&line, known, &awaited)?,
                Err(LedgerFault::Unreadable(error)) => return Err(error.into()),
                Err(fault) if fault.is_torn() => torn = Some(fault),
                Err(fault) => return Err(EndFault::Damaged(fault.to_string())),
            }
        }
        end.head = reader.head();
        if let Some(why) = shortfall(end.head, known) {
            return Err(EndFault::Damaged(torn.map_or(why, |fault| fault.to_string())));
        }
        if torn.is_some() {
            cut_tail(&file, &path, end.head.length, at)?;
        }
        write_again(&file, known.length, end.head.length)?;
        end.left = Some(FileMark::of(&file.metadata()?));
        Ok(end)
    }

    fn new(name: LedgerName) -> Self {
        Self {
            ledger: name.ledger_path(),
            name,
            head: LedgerHead::default(),
            left: None,
            adopted: BTreeMap::new(),
            completed: None,
            before: BTreeMap::new(),
            is_new: true,
            damaged: None,
        }
    }

    /// Applies a valid line.
    fn read_line(
        &mut self,
        line: &LedgerLine,
        known: LedgerHead,
        awaited: &BTreeSet<UploadId>,
    ) -> Result<(), EndFault> {
        if let Some(why) = line.departure(known) {
            return Err(EndFault::Damaged(why));
        }
        let is_unknown = line.seq > known.count;
        self.completed = None;
        // Of the lines that every row knows, only awaited ones may be adopted.
        if !is_unknown && awaited.is_empty() && line.seq < known.count {
            return Ok(());
        }
        let body = line.body().map_err(|fault| EndFault::Damaged(fault.to_string()))?;
        let at = LineRef {
            ledger: self.ledger.clone(),
            seq: line.seq,
            offset: line.offset,
            sha256: line.sha256,
        };
        match body {
            LineBody::Upload(upload) | LineBody::FoundAgain(upload) => {
                let id = upload.source.id;
                if is_unknown || awaited.contains(&id) {
                    let identity = identity(&upload);
                    self.adopted.insert(id, AdoptedLine { identity, line: at, is_exported: false });
                }
            }
            LineBody::Exported(exported) => {
                if let Some(adopted) = self.adopted.get_mut(&exported.id) {
                    adopted.is_exported = true;
                }
            }
            LineBody::RunCompleted(completed) => self.completed = Some((*completed, at)),
            before @ (LineBody::ClosedByHand(_) | LineBody::Other { .. }) => {
                self.before.insert(before.kind().to_owned(), before);
            }
        }
        Ok(())
    }

    /// Returns the wanted line: an existing one, or one that is appended to `out`.
    fn take(&mut self, wanted: &WantedLine, stamp: &LineStamp<'_>, out: &mut Vec<u8>) -> LineRef {
        match wanted {
            WantedLine::Upload { body, exported } => {
                let adopted = body.upload().and_then(|line| {
                    let adopted = self.adopted.remove(&line.source.id);
                    adopted.filter(|adopted| adopted.identity == identity(line))
                });
                let is_exported = adopted.as_ref().is_some_and(|adopted| adopted.is_exported);
                let at = adopted
                    .map(|adopted| adopted.line)
                    .unwrap_or_else(|| self.write(body, stamp, out));
                if let Some(exported) = exported.as_ref().filter(|_| !is_exported) {
                    self.write(&LineBody::Exported(exported.clone()), stamp, out);
                }
                at
            }
            WantedLine::RunCompleted { line, before } => {
                if let Some((there, at)) = &self.completed
                    && there == &**line
                {
                    return at.clone();
                }
                for body in before {
                    if self.before.get(body.kind()) != Some(body) {
                        self.write(body, stamp, out);
                        self.before.insert(body.kind().to_owned(), body.clone());
                    }
                }
                let at = self.write(&LineBody::RunCompleted(line.clone()), stamp, out);
                self.completed = Some(((**line).clone(), at.clone()));
                at
            }
        }
    }

    fn write(&mut self, body: &LineBody, stamp: &LineStamp<'_>, out: &mut Vec<u8>) -> LineRef {
        let offset = self.head.length;
        let sha256 = self.head.append(out, stamp, body);
        self.completed = None;
        LineRef { ledger: self.ledger.clone(), seq: self.head.count, offset, sha256 }
    }
}

/// Identifies a file at a destination: an id may have been given out twice, if a database was lost.
fn identity(line: &UploadLine) -> PathDigest {
    let (source, target) = (&line.source, &line.target);
    let text = serde_json::json!([
        source.drop,
        source.path,
        source.path_bytes,
        source.size,
        source.mtime_ns,
        target.destination.name,
        target.remote_id
    ]);
    PathDigest::of(text.to_string().as_bytes())
}

/// Opens a ledger, or creates one where none is known; `None` when it was created.
fn open_file(path: &Path, known: LedgerHead) -> Result<Option<File>, EndFault> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound && known.count > 0 => {
            return Err(EndFault::Damaged("it is missing".into()));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_durable(path.parent().unwrap_or(path))?;
            File::create_new(path)?;
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    // Opening a pipe in its place would wait.
    if !found.is_file() {
        return Err(EndFault::Damaged("it is no file".into()));
    }
    Ok(Some(OpenOptions::new().read(true).write(true).open(path)?))
}

/// Cuts off what follows the complete lines of a ledger that is not being written, as [`cut_tail`] does.
///
/// # Errors
/// When it cannot be opened, copied or cut.
pub(crate) fn set_tail_aside(path: &Path, from: u64, at: WallTime) -> io::Result<()> {
    cut_tail(&OpenOptions::new().read(true).write(true).open(path)?, path, from, at)
}

/// Cuts off an incomplete tail, after keeping it under another name.
fn cut_tail(file: &File, path: &Path, from: u64, at: WallTime) -> io::Result<()> {
    let kept = torn_path(path, at);
    let mut tail = file;
    tail.seek(SeekFrom::Start(from))?;
    let copied = File::create(&kept).and_then(|mut copy| {
        io::copy(&mut tail, &mut copy)?;
        copy.sync_all()
    });
    if let Err(error) = copied {
        // Each attempt would leave another one.
        fs::remove_file(&kept).ok();
        return Err(error);
    }
    sync(path.parent().unwrap_or(path))?;
    file.set_len(from)?;
    file.sync_all()?;
    let (ledger, kept) = (path.display(), kept.display());
    tracing::info!("{ledger} ended in a line that was not whole: its tail is kept as {kept}");
    Ok(())
}

/// Writes lines over themselves and syncs them: they may be only in memory, and after a failed sync
/// another one proves nothing about data that is not written again.
fn write_again(file: &File, from: u64, to: u64) -> io::Result<()> {
    if from >= to {
        return Ok(());
    }
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = from;
    while at < to {
        let length = (to - at).min(COPY_BYTES as u64);
        let chunk = &mut buffer[..usize::try_from(length).unwrap_or(COPY_BYTES)];
        file.read_exact_at(chunk, at)?;
        file.write_all_at(chunk, at)?;
        at += length;
    }
    file.sync_data()
}

/// Reads the line that a row names, and checks that it is the one.
pub(super) fn read_line(state: &Path, line: &LineRef) -> Result<LedgerLine, LineFault> {
    let wrong = |what: &str| LineFault::Damaged(what.to_owned());
    let name = LedgerName::parse(line.ledger.as_str()).ok_or_else(|| wrong("has no ledger"))?;
    let path = name.path(state);
    let mut file = super::open(&path).map_err(|error| {
        let is = |kinds: &[io::ErrorKind]| kinds.contains(&error.kind());
        if is(&[io::ErrorKind::NotFound, io::ErrorKind::NotADirectory]) {
            wrong("is missing: its ledger is not there")
        } else if is(&[io::ErrorKind::InvalidData]) {
            wrong("is missing: its ledger is no file")
        } else {
            LineFault::Unreadable(error)
        }
    })?;
    file.seek(SeekFrom::Start(line.offset)).map_err(LineFault::Unreadable)?;
    // The line itself names its predecessor.
    let found = LedgerReader::at(BufReader::new(file.take(u64::MAX)), line.seq, line.offset).next();
    match found {
        None => Err(wrong("is missing: its ledger ends before it")),
        Some(Err(LedgerFault::Unreadable(error))) => Err(LineFault::Unreadable(error)),
        Some(Err(fault)) => Err(LineFault::Damaged(format!("does not hold: {fault}"))),
        Some(Ok(found)) if found.sha256 != line.sha256 => {
            Err(wrong("is not the one that was written: its SHA-256 is another"))
        }
        Some(Ok(found)) => Ok(found),
    }
}

/// Why a line proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum LineFault {
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("{0}")]
    Damaged(String),
}

#[cfg(test)]
mod tests;

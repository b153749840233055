//! Updates the rows from ledgers whose lines are newer.
//!
//! The rows may be older than the ledgers: a copy was restored, a WAL was rolled back, the database
//! was lost. Lines beyond those that the rows know become rows by the same records and the same law
//! as in an upload's normal course, before a process does anything else. So nothing is sent twice,
//! and no id is given twice.
//!
//! *Promises*: a ledger whose length equals its row costs one check of the length; lines are adopted
//! only as far as the chain is valid; only the tail after the last complete line is moved aside. *After
//! a crash* in between, the written rows stay, and the rest is adopted at the next start.

mod lines;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::Path;

use self::lines::{facts, is_same, moment, opened_run, written};
use crate::clock::Clock;
use crate::config::Config;
use crate::model::{
    Admission, AdmittedFile, ByteCount, ClosedByHand, DestinationName, DirectoryName, Fact,
    Fingerprint, KnownLedger, LedgerFinding, LedgerHead, LedgerPath, PartSize, PlaceHolder,
    PlaceSource, Record, RootIdentity, RunCompletion, RunFiles, RunOutcome, RunRow, RunState,
    Target, TargetAddress, TargetId, UploadId, WallTime, WrittenLine,
};
use crate::receipt::ledger::{LedgerFault, LedgerLine, LedgerReader};
use crate::receipt::line::{ExportedLine, LineBody, LineKind, RunCompletedLine, UploadLine};
use crate::receipt::place::{LedgerName, ledgers};
use crate::receipt::{self, LedgerVerdict};
use crate::store::Error;
use crate::store::snapshot::Snapshot;
use crate::store::writer::Writer;

/// Limit of records in one transaction.
const TOGETHER_MAX: usize = 1_000;

/// The result of the adoption.
#[derive(Debug, Default)]
pub(crate) struct Adopted {
    /// Ledgers with more lines than the rows knew.
    pub(crate) ledgers: usize,
    pub(crate) uploads: usize,
    pub(crate) runs: usize,
    /// Ledgers that could not be adopted, and why.
    pub(crate) faults: Vec<(String, String)>,
    /// Ledgers that differ from their rows: damaged, or whole again.
    pub(crate) found: Vec<LedgerFinding>,
}

/// Updates the rows before a process starts work, and logs the result. Returns the ledgers that
/// differ from their rows.
///
/// # Errors
/// As [`adopt`].
pub(super) fn prepare(config: &Config, writer: &mut Writer) -> Result<Vec<LedgerFinding>, Error> {
    let settings = config.drops.iter().map(|drop| &drop.settings);
    let directories = settings.map(|drop| (drop.name.clone(), drop.directory.clone())).collect();
    let adopted = adopt(&config.state_directory, directories, writer)?;
    let Adopted { ledgers, uploads, runs, faults, found } = adopted;
    if ledgers > 0 {
        tracing::info!(
            "receipts said more than the database: {uploads} uploads and {runs} runs of {ledgers} ledgers are \
             known again"
        );
    }
    for (ledger, why) in faults {
        tracing::error!("receipts are damaged: {ledger}: {why}");
    }
    Ok(found)
}

/// Updates the rows from the ledgers; `directories` are the paths of drop directories, by name.
///
/// # Errors
/// When the rows cannot be read or written. An invalid ledger is a fault of its own, and stops no
/// other.
pub(crate) fn adopt(
    state: &Path,
    directories: BTreeMap<DirectoryName, String>,
    writer: &mut Writer,
) -> Result<Adopted, Error> {
    let rows = Snapshot::open(state)?;
    let mut known: BTreeMap<_, _> = rows.known_ledgers()?.into_iter().collect();
    let targets = rows.targets()?;
    let mut adoption = Adoption {
        state,
        writer,
        rows,
        targets,
        directories,
        records: Vec::new(),
        adopted: Adopted::default(),
    };
    let names = ledgers(state).unwrap_or_else(|error| {
        adoption.fault("receipts", &error);
        Vec::new()
    });
    for name in names {
        let known = known.remove(&name.ledger_path()).unwrap_or_default();
        adoption.look_at(&name, &known)?;
    }
    for (name, known) in known.into_iter().filter(|(_, known)| known.head.count > 0) {
        adoption.damage(name.as_str(), &known, "it is missing");
    }
    adoption.write()?;
    Ok(adoption.adopted)
}

struct Adoption<'a> {
    state: &'a Path,
    writer: &'a mut Writer,
    rows: Snapshot,
    targets: BTreeMap<TargetAddress, TargetId>,
    /// Paths of drop directories, by name.
    directories: BTreeMap<DirectoryName, String>,
    records: Vec<Record>,
    adopted: Adopted,
}

impl Adoption<'_> {
    fn look_at(&mut self, name: &LedgerName, known: &KnownLedger) -> Result<(), Error> {
        if known.damage.is_some() {
            self.look_again(name, known);
            return Ok(());
        }
        let length = match fs::metadata(name.path(self.state)) {
            Ok(found) => found.len(),
            Err(error) => {
                self.fault(name.as_str(), &error);
                return Ok(());
            }
        };
        match length.cmp(&known.head.length) {
            Ordering::Equal => Ok(()),
            Ordering::Less => {
                let why = format!("it has {length} bytes, and had {}", known.head.length);
                self.damage(name.as_str(), known, &why);
                Ok(())
            }
            Ordering::Greater => self.take(name, known),
        }
    }

    /// Records that a damaged ledger is whole again, if it is. Its lines are adopted at the next start.
    fn look_again(&mut self, name: &LedgerName, known: &KnownLedger) {
        let ledger = name.ledger_path();
        match receipt::audit(self.state, &ledger, known.head, || false) {
            Ok(LedgerVerdict::Holds(_)) => {
                self.adopted.found.push(LedgerFinding { ledger, damage: None });
            }
            Ok(LedgerVerdict::Damaged(why)) => self.fault(name.as_str(), &why),
            Ok(LedgerVerdict::Halted) => {}
            Err(error) => self.fault(name.as_str(), &error),
        }
    }

    /// Adopts the lines beyond the known end of a ledger.
    fn take(&mut self, name: &LedgerName, known: &KnownLedger) -> Result<(), Error> {
        let exported = match self.exported(name, known) {
            Ok(exported) => exported,
            Err(error) => {
                self.fault(name.as_str(), &error);
                return Ok(());
            }
        };
        let mut reader = match self.reader(name, known) {
            Ok(reader) => reader.peekable(),
            Err(error) => {
                self.fault(name.as_str(), &error);
                return Ok(());
            }
        };
        self.adopted.ledgers += 1;
        if name.number() > 1 {
            // The rows from earlier ledgers are needed for the run.
            self.write()?;
        }
        let (mut last, mut run, mut owner) = (None, None, None);
        while let Some(line) = reader.next() {
            let line = match line {
                Ok(line) => line,
                Err(fault) if fault.is_torn() => {
                    let last: Option<&WrittenLine> = last.as_ref();
                    self.set_tail_aside(name, last.map_or(known.head, |last| last.head));
                    break;
                }
                Err(LedgerFault::Unreadable(error)) => {
                    self.fault(name.as_str(), &error);
                    break;
                }
                Err(fault) => {
                    self.damage(name.as_str(), known, &fault.to_string());
                    break;
                }
            };
            let written = written(name, &line);
            let body = line.body();
            if owner.is_none() {
                owner = body.as_ref().ok().and_then(|body| opened_run(body, moment(&line)));
            }
            match body {
                Ok(LineBody::Upload(upload) | LineBody::FoundAgain(upload)) => {
                    let exported = exported.get(&upload.source.id);
                    self.upload(&upload, &written, moment(&line), exported)?;
                    if !upload.source.sentinel {
                        run = run.map(|row| RunRow { state: RunState::Closed, ..row });
                    }
                }
                Ok(LineBody::RunCompleted(completed)) => {
                    let is_end = |next: &Result<_, LedgerFault>| {
                        next.as_ref().is_err_and(LedgerFault::is_torn)
                    };
                    if reader.peek().is_none_or(is_end) && self.is_under_way(&completed)? {
                        // The run requests this line itself, and continues from it.
                        break;
                    }
                    run = self.completed(&completed, &line, &written)?.or(run);
                }
                Ok(LineBody::Exported(_) | LineBody::ClosedByHand(_) | LineBody::Other { .. }) => {}
                Err(fault) => self.fault(name.as_str(), &fault),
            }
            last = Some(written);
            if self.records.len() >= TOGETHER_MAX {
                self.write()?;
            }
        }
        let run = self.with_ledger(run, owner, name)?;
        self.records.extend(run.map(|row| Record::Run(Box::new(row))));
        self.records.extend(last.map(|written| Record::LedgerAppended(Box::new(written))));
        Ok(())
    }

    /// Moves the tail after the last complete line aside. The next append would do so, but a completed run has none.
    fn set_tail_aside(&mut self, name: &LedgerName, head: LedgerHead) {
        let at = Clock::real().now().wall;
        if let Err(error) = receipt::set_tail_aside(&name.path(self.state), head.length, at) {
            self.fault(name.as_str(), &error);
        }
    }

    /// Returns the row of a ledger's run, with the ledger's number; `opened` is the row where there
    /// is none yet.
    fn with_ledger(
        &self,
        row: Option<RunRow>,
        opened: Option<RunRow>,
        name: &LedgerName,
    ) -> Result<Option<RunRow>, Error> {
        let row = match (row, opened) {
            (Some(row), _) => Some(row),
            (None, Some(opened)) => {
                let is_watched = self.directories.contains_key(&opened.drop);
                self.rows.run(&opened.drop, &opened.name)?.or(Some(opened).filter(|_| is_watched))
            }
            (None, None) => None,
        };
        let Some(mut row) = row else { return Ok(None) };
        let number = name.number();
        // A further ledger continues a damaged one; otherwise the run came again.
        let before = name.numbered(number.saturating_sub(1));
        let is_new = number > row.completion.ledgers.last && !self.is_damaged(&before)?;
        if is_new {
            row.completion.ledgers.first = number;
        }
        row.completion.ledgers.note_line(Some(number));
        Ok(Some(row))
    }

    fn is_damaged(&self, name: &LedgerName) -> Result<bool, Error> {
        let is_found = self.adopted.faults.iter().any(|(ledger, _)| ledger == name.as_str());
        Ok(is_found || self.rows.known_ledger(name.as_str())?.damage.is_some())
    }

    fn reader(
        &self,
        name: &LedgerName,
        known: &KnownLedger,
    ) -> io::Result<LedgerReader<BufReader<File>>> {
        let mut file = receipt::open(&name.path(self.state))?;
        file.seek(SeekFrom::Start(known.head.length))?;
        Ok(LedgerReader::behind(BufReader::new(file), known.head))
    }

    /// Returns where uploads were exported to. An export's line follows the upload's, whose row has both.
    fn exported(
        &self,
        name: &LedgerName,
        known: &KnownLedger,
    ) -> io::Result<BTreeMap<UploadId, ExportedLine>> {
        let lines = self.reader(name, known)?.map_while(Result::ok);
        let lines = lines.filter(|line| line.kind == LineKind::Exported.as_str());
        let exported = lines.filter_map(|line| match line.body() {
            Ok(LineBody::Exported(exported)) => Some((exported.id, exported)),
            Ok(_) | Err(_) => None,
        });
        Ok(exported.collect())
    }

    /// Brings the row of an upload to the state in its line.
    fn upload(
        &mut self,
        line: &UploadLine,
        written: &WrittenLine,
        at: WallTime,
        exported: Option<&ExportedLine>,
    ) -> Result<(), Error> {
        let id = line.source.id;
        let Some(admission) = self.admission(line, at) else {
            self.fault(written.line.ledger.as_str(), &format!("upload {id} is not understood"));
            return Ok(());
        };
        let stored = self.rows.stored_upload(id)?;
        if stored.as_ref().is_some_and(|stored| !is_same(&stored.admission, &admission)) {
            let why = format!("upload {id} is another file by the rows");
            self.fault(written.line.ledger.as_str(), &why);
            return Ok(());
        }
        let state = stored.as_ref().map(|stored| &stored.state);
        let Some(mut facts) = facts(line, at, state, exported) else { return Ok(()) };
        facts.push(Fact::ReceiptWritten { written: Box::new(written.clone()), at });
        self.adopted.uploads += 1;
        self.hold_place(&admission);
        if stored.is_none() {
            self.records.push(Record::Admit(Box::new(admission)));
        }
        self.records.extend(facts.into_iter().map(|fact| Record::Upload(id, fact)));
        Ok(())
    }

    fn admission(&mut self, line: &UploadLine, at: WallTime) -> Option<Admission> {
        let (source, to) = (&line.source, &line.target.destination);
        let address = TargetAddress {
            platform: to.platform.clone(),
            base_url: to.base_url.clone(),
            container: to.container().to_owned(),
        };
        let (folder, name) = line.target.folder_and_name();
        Some(Admission {
            id: source.id,
            file: AdmittedFile {
                drop: DirectoryName::new(&*source.drop),
                path: source.path()?,
                run: source.run()?,
                fingerprint: Fingerprint {
                    // No identity includes it.
                    device: 0,
                    inode: source.inode,
                    size: ByteCount(source.size),
                    mtime_ns: source.mtime_ns,
                    ctime_ns: source.ctime_ns,
                },
                provenance: None,
                is_sentinel: source.sentinel,
                root: source.root.clone().map(RootIdentity::new),
            },
            destination: DestinationName::new(&*to.name),
            target_id: self.target(address),
            target: Target::new(folder.split('/'), name),
            part_size: PartSize::new(line.proof.part_size)?,
            rank: 0,
            at: line.course.begun_at.unwrap_or(at),
            parked: None,
            decision: None,
        })
    }

    fn target(&mut self, address: TargetAddress) -> TargetId {
        if let Some(id) = self.targets.get(&address) {
            return *id;
        }
        let last = self.targets.values().map(|id| id.0).max().unwrap_or(0);
        let id = TargetId(last + 1);
        self.records.push(Record::Target { id, address: address.clone() });
        self.targets.insert(address, id);
        id
    }

    /// Records the holder of a file's place, if its drop directory is still configured.
    fn hold_place(&mut self, of: &Admission) {
        let Some(directory) = self.directories.get(&of.file.drop).filter(|_| !of.file.is_sentinel)
        else {
            return;
        };
        let source = PlaceSource { directory: directory.clone(), path: of.file.path.clone() };
        self.records.push(Record::PlaceHeld {
            target: of.target_id,
            place: of.target.clone(),
            holder: PlaceHolder { upload: of.id, source },
            is_made: true,
        });
    }

    /// Returns whether a run was about to write this line, by its row.
    fn is_under_way(&self, said: &RunCompletedLine) -> Result<bool, Error> {
        let Some(name) = said.run() else { return Ok(false) };
        let row = self.rows.run(&DirectoryName::new(&*said.drop), &name)?;
        Ok(row.is_some_and(|row| {
            row.state == RunState::Closed && row.completion.generation + 1 == said.wave
        }))
    }

    /// Returns the row of a run that is complete by its ledger, but not by its row.
    fn completed(
        &mut self,
        said: &RunCompletedLine,
        line: &LedgerLine,
        written: &WrittenLine,
    ) -> Result<Option<RunRow>, Error> {
        let drop = DirectoryName::new(&*said.drop);
        let Some(name) = said.run() else { return Ok(None) };
        let before = self.rows.run(&drop, &name)?;
        if before.as_ref().is_some_and(|row| row.completion.generation >= said.wave) {
            return Ok(None);
        }
        let at = moment(line);
        let row =
            before.unwrap_or_else(|| RunRow::opened(drop, name, said.opened_at.unwrap_or(at)));
        self.adopted.runs += 1;
        let is_success = row.outcome.as_ref().is_none_or(|outcome| outcome.is_success);
        let outcome = said.outcome.clone().map(|word| RunOutcome { word, is_success });
        let by_hand = said.forced_by.clone();
        let by_hand = by_hand.map(|by| ClosedByHand { by, missing: Vec::new() });
        Ok(Some(RunRow {
            state: RunState::Completed,
            reason: None,
            closed_at: said.closed_at.or(row.closed_at),
            outcome: outcome.or_else(|| row.outcome.clone()),
            closed_by_hand: row.closed_by_hand.clone().or(by_hand),
            is_stale: false,
            completion: RunCompletion {
                generation: said.wave,
                at: Some(at),
                receipt: Some(written.line.clone()),
                ..row.completion.clone()
            },
            files: RunFiles {
                count: said.file_count,
                size: ByteCount(said.bytes),
                closed_count: said.file_count.saturating_sub(said.late_file_count),
                given_up_count: said.given_up_count,
            },
            ..row
        }))
    }

    fn fault(&mut self, ledger: &str, why: &dyn std::fmt::Display) {
        self.adopted.faults.push((ledger.to_owned(), why.to_string()));
    }

    /// Records that a ledger differs from what was written.
    fn damage(&mut self, ledger: &str, known: &KnownLedger, why: &str) {
        self.fault(ledger, &why);
        if known.head.count > 0 && known.damage.is_none() {
            let (ledger, damage) = (LedgerPath::new(ledger), Some(why.to_owned()));
            self.adopted.found.push(LedgerFinding { ledger, damage });
        }
    }

    fn write(&mut self) -> Result<(), Error> {
        let applied = self.writer.apply(&[std::mem::take(&mut self.records)])?;
        let illegal = applied.illegal.iter().map(ToString::to_string);
        let refused = applied.refused.iter().map(|refused| refused.why.clone());
        let faults = illegal.chain(refused).map(|why| ("the rows".to_owned(), why));
        self.adopted.faults.extend(faults);
        Ok(())
    }
}

//! The existing ledgers, their runs, and their lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::what::{What, is_below};
use crate::model::{DirectoryName, Scope, SourcePath};
use crate::receipt;
use crate::receipt::ledger::{LedgerFault, LedgerHead, LedgerLine, LedgerReader};
use crate::receipt::line::LineBody;
use crate::receipt::place::{LedgerName, ledgers, unescaped};
use crate::store::snapshot::{KnownNames, Snapshot};

/// Limit of uploads whose ledger is looked up; for more, all ledgers are read.
const LOOKED_UP_MAX: usize = 1_000;
const READ_BYTES: usize = 256 << 10;
/// Attempts to read an incomplete end of a ledger: the daemon may be writing it.
const UNFINISHED_TRIES: u32 = 10;
const UNFINISHED_PAUSE: Duration = Duration::from_millis(20);

/// All ledgers of a state directory.
#[derive(Debug)]
pub(super) struct Shelf {
    state: PathBuf,
    runs: Vec<RunLedgers>,
}

/// The ledgers of one run, or of a drop directory's files that are their own runs, in order.
#[derive(Debug)]
pub(super) struct RunLedgers {
    pub(super) drop: DirectoryName,
    /// `None` for files that are their own runs.
    pub(super) run: Option<SourcePath>,
    pub(super) names: Vec<LedgerName>,
}

/// How far a ledger is valid, and why no further.
#[derive(Debug)]
pub(super) struct CheckedLedger {
    pub(super) name: LedgerName,
    pub(super) head: LedgerHead,
    pub(super) fault: Option<LedgerFault>,
}

impl Shelf {
    /// Lists the existing ledgers, and those in the rows.
    pub(super) fn read(state: &Path, snapshot: Option<&Snapshot>) -> anyhow::Result<Self> {
        let mut by_run: BTreeMap<_, Vec<LedgerName>> = BTreeMap::new();
        let known = snapshot.map(Snapshot::known_ledgers).transpose()?.unwrap_or_default();
        let known = known.iter().filter_map(|(ledger, _)| LedgerName::parse(ledger.as_str()));
        let names: BTreeSet<_> = ledgers(state)?.into_iter().chain(known).collect();
        for name in names {
            by_run.entry(owner_of(state, &name)).or_default().push(name);
        }
        let run = |((drop, run), mut names): (_, Vec<LedgerName>)| {
            names.sort_by_cached_key(|name| (name.numbered(1), name.number()));
            RunLedgers { drop, run, names }
        };
        Ok(Self { state: state.to_owned(), runs: by_run.into_iter().map(run).collect() })
    }

    /// Returns the drop directories and the runs with a ledger.
    pub(super) fn names(&self) -> KnownNames {
        let run = |one: &RunLedgers| Some((one.drop.clone(), one.run.clone()?));
        KnownNames {
            directories: self.runs.iter().map(|one| one.drop.clone()).collect(),
            destinations: Vec::new(),
            runs: self.runs.iter().filter_map(run).collect(),
            renamed: Vec::new(),
        }
    }

    /// Returns the runs whose ledgers may have selected lines.
    pub(super) fn chosen(
        &self,
        what: Option<&What>,
        snapshot: Option<&Snapshot>,
    ) -> anyhow::Result<Vec<&RunLedgers>> {
        let Some(what) = what else { return Ok(self.runs.iter().collect()) };
        let mut scopes = what.scopes();
        let is_upload = |scope: &Scope| matches!(scope, Scope::Upload(_));
        if scopes.iter().filter(|scope| is_upload(scope)).count() > LOOKED_UP_MAX {
            return Ok(self.runs.iter().collect());
        }
        for scope in &mut scopes {
            let Scope::Upload(id) = scope else { continue };
            let detail = snapshot.map(|snapshot| snapshot.detail(*id)).transpose()?.flatten();
            if let Some(detail) = detail {
                let admission = detail.upload.admission;
                *scope = Scope::Run(admission.file.drop, admission.file.run);
            }
        }
        let is_meant = |one: &&RunLedgers| scopes.iter().any(|scope| self.may_have(one, scope));
        Ok(self.runs.iter().filter(is_meant).collect())
    }

    fn may_have(&self, one: &RunLedgers, scope: &Scope) -> bool {
        match scope {
            Scope::All | Scope::Destination(_) | Scope::Upload(_) => true,
            Scope::Drop(drop) => *drop == one.drop,
            Scope::Run(drop, run) => {
                let is_own = |own: &SourcePath| is_below(own.as_bytes(), run.as_bytes());
                let has_own = |other: &RunLedgers| {
                    other.drop == *drop && other.run.as_ref().is_some_and(is_own)
                };
                // If the run has a ledger, its lines are in no other.
                has_own(one)
                    || (one.drop == *drop && one.run.is_none() && !self.runs.iter().any(has_own))
            }
        }
    }

    /// Reads and checks the lines of a run, with their positions; in each ledger up to the first
    /// invalid one.
    pub(super) fn check<E>(
        &self,
        run: &RunLedgers,
        mut each: impl FnMut(u64, &LedgerLine) -> Result<(), E>,
    ) -> Result<Vec<CheckedLedger>, E> {
        let mut position = 0;
        let check = |name| {
            self.check_one(name, |line| {
                each(position, line)?;
                position += 1;
                Ok(())
            })
        };
        run.names.iter().map(check).collect()
    }

    pub(super) fn check_one<E>(
        &self,
        name: &LedgerName,
        mut each: impl FnMut(&LedgerLine) -> Result<(), E>,
    ) -> Result<CheckedLedger, E> {
        let mut checked =
            CheckedLedger { name: name.clone(), head: LedgerHead::EMPTY, fault: None };
        for tries_left in (0..UNFINISHED_TRIES).rev() {
            checked.fault = self.check_from(&mut checked.head, name, &mut each)?;
            match &checked.fault {
                Some(LedgerFault::Torn { .. }) if tries_left > 0 => thread::sleep(UNFINISHED_PAUSE),
                Some(_) | None => break,
            }
        }
        Ok(checked)
    }

    /// Continues after a head, to the end or to the first invalid line.
    fn check_from<E>(
        &self,
        head: &mut LedgerHead,
        name: &LedgerName,
        each: &mut impl FnMut(&LedgerLine) -> Result<(), E>,
    ) -> Result<Option<LedgerFault>, E> {
        let opened = open(&name.path(&self.state));
        let file = match opened
            .and_then(|mut file| file.seek(SeekFrom::Start(head.length)).map(|_| file))
        {
            Ok(file) => file,
            Err(error) => return Ok(Some(error.into())),
        };
        let (mut lines, mut fault) = (LedgerReader::behind(file, *head), None);
        for line in &mut lines {
            match line {
                Ok(line) => each(&line)?,
                Err(found) => fault = Some(found),
            }
        }
        *head = lines.head();
        Ok(fault)
    }

    /// Returns the ledgers of a run in their full length, unchecked.
    pub(super) fn unchecked(&self, run: &RunLedgers) -> Vec<CheckedLedger> {
        let unchecked = |name: &LedgerName| {
            let length = fs::metadata(name.path(&self.state)).map_or(0, |found| found.len());
            let head = LedgerHead { length, ..LedgerHead::EMPTY };
            CheckedLedger { name: name.clone(), head, fault: None }
        };
        run.names.iter().map(unchecked).collect()
    }

    /// Reads lines again, with their positions, as far as their ledgers were checked.
    pub(super) fn reread<E: From<io::Error>>(
        &self,
        checked: &[CheckedLedger],
        mut each: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut line, mut position) = (Vec::new(), 0);
        for CheckedLedger { name, head, .. } in checked.iter().filter(|one| one.head.length > 0) {
            let mut file = open(&name.path(&self.state))?.take(head.length);
            while file.read_until(b'\n', &mut line)? > 0 {
                each(position, &line)?;
                position += 1;
                line.clear();
            }
        }
        Ok(())
    }
}

/// Returns the run of a ledger: by its name, or by its first line if the name was cut.
fn owner_of(state: &Path, name: &LedgerName) -> (DirectoryName, Option<SourcePath>) {
    let first = name.numbered(1);
    let file = first.as_str().rsplit('/').next().unwrap_or_default();
    let file = file.strip_suffix(".jsonl").unwrap_or(file);
    let said = || first_line_owner(&name.path(state));
    let drop = unescaped(name.drop()).map(|drop| String::from_utf8_lossy(&drop).into_owned());
    let drop = drop.or_else(|| said().map(|(drop, _)| drop));
    let run = || {
        let run = unescaped(file).map(|run| SourcePath::from_bytes(&run));
        let run = run.or_else(|| said().and_then(|(_, run)| run));
        run.unwrap_or_else(|| SourcePath::from_bytes(file.as_bytes()))
    };
    let drop = DirectoryName::new(drop.unwrap_or_else(|| name.drop().to_owned()));
    (drop, (!name.is_of_files()).then(run))
}

fn first_line_owner(path: &Path) -> Option<(String, Option<SourcePath>)> {
    let line = LedgerReader::new(open(path).ok()?).next()?.ok()?;
    match line.body().ok()? {
        LineBody::Upload(line) | LineBody::FoundAgain(line) => {
            Some((line.source.drop.clone(), line.source.run()))
        }
        LineBody::RunCompleted(line) => Some((line.drop.clone(), line.run())),
        LineBody::ClosedByHand(line) => Some((line.drop.clone(), line.run())),
        LineBody::Exported(_) | LineBody::Other { .. } => None,
    }
}

fn open(path: &Path) -> io::Result<BufReader<File>> {
    receipt::open(path).map(|file| BufReader::with_capacity(READ_BYTES, file))
}

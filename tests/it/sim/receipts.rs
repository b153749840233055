//! Ledgers as a disk keeps them: a line is visible as soon as it is appended, and survives a power cut only once it
//! is synced. They are files in the state directory, written by the daemon's own appender.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use dropferry::testing::daemon::{self, LineSubject};
use dropferry::testing::model::{Failure, LineRef, UploadId, WallTime, WrittenLine};
use dropferry::testing::receipt::ledger::{LedgerFault, LedgerLine, LedgerReader};
use dropferry::testing::receipt::line::{LineBody, RunCompletedLine};
use dropferry::testing::receipt::place::{LedgerName, ledgers};
use dropferry::testing::receipt::{Appender, check};
use dropferry::testing::store::snapshot::Snapshot;

#[derive(Debug)]
pub(super) struct Receipts {
    state: PathBuf,
    appender: Appender,
    /// How many bytes of each ledger a power cut leaves.
    durable: BTreeMap<LedgerName, u64>,
    /// Lines that were answered: none of them may go.
    answered: Vec<LineRef>,
}

/// What a power cut makes of bytes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PowerCut {
    Lost,
    Torn,
    Zeros,
    Kept,
}

/// Something of a ledger.
type OfLedger<T> = (LedgerName, T);

impl PowerCut {
    pub(super) const ALL: [Self; 4] = [Self::Lost, Self::Torn, Self::Zeros, Self::Kept];
}

impl Receipts {
    pub(super) fn new(state: &Path) -> Self {
        let (state, durable) = (state.to_owned(), BTreeMap::new());
        let appender = Appender::new(state.clone(), "sim".into());
        Self { state, appender, durable, answered: Vec::new() }
    }

    /// Appends a line; it is not durable before [`Self::sync`].
    pub(super) fn append(
        &mut self,
        rows: &Snapshot,
        at: WallTime,
        subject: LineSubject,
    ) -> Result<WrittenLine, Failure> {
        let written = daemon::append(&mut self.appender, rows, at, &[subject]);
        written.into_iter().next().expect("one answer")
    }

    /// Makes everything in the ledger of a line durable; that line is then acknowledged.
    pub(super) fn sync(&mut self, written: &WrittenLine) {
        let name = LedgerName::parse(written.line.ledger.as_str()).expect("a name");
        let length = fs::metadata(name.path(&self.state)).map_or(0, |found| found.len());
        self.durable.insert(name, length);
        self.answered.push(written.line.clone());
    }

    /// An append that failed may leave a part of the line.
    pub(super) fn fail(&mut self, written: &WrittenLine, is_torn: bool) {
        let name = LedgerName::parse(written.line.ledger.as_str()).expect("a name");
        let durable = self.durable.get(&name).copied().unwrap_or(0);
        // A line that was there already is written once and not torn.
        let is_last = written.line.seq == written.head.count && written.line.offset >= durable;
        if is_torn && is_last {
            let file = fs::OpenOptions::new().write(true).open(name.path(&self.state));
            let length = (written.line.offset + written.head.length) / 2;
            file.expect("it is there").set_len(length).expect("cut");
        }
        self.forget();
    }

    /// An acknowledgement did not arrive: ledgers are read again.
    pub(super) fn forget(&mut self) {
        self.appender.forget();
    }

    /// What a crash leaves behind, in another state directory.
    pub(super) fn crashed(&self, to: &Path, power_cut: Option<PowerCut>) -> Self {
        for name in ["receipts", "sentinels"] {
            copy(&self.state.join(name), &to.join(name));
        }
        let mut crashed = Self::new(to);
        crashed.durable.clone_from(&self.durable);
        crashed.answered.clone_from(&self.answered);
        if let Some(cut) = power_cut {
            for name in ledgers(to).expect("listed") {
                let durable = self.durable.get(&name).copied().unwrap_or(0);
                cut_power(&name.path(to), durable, cut);
            }
        }
        crashed
    }

    /// Returns every line of every ledger, and why a ledger is not valid.
    fn lines(&self) -> (Vec<OfLedger<LedgerLine>>, Vec<OfLedger<LedgerFault>>) {
        let (mut found, mut faults) = (Vec::new(), Vec::new());
        for name in ledgers(&self.state).expect("listed") {
            let file = fs::File::open(name.path(&self.state)).expect("it opens");
            for line in LedgerReader::new(BufReader::new(file)) {
                match line {
                    Ok(line) => found.push((name.clone(), line)),
                    Err(fault) => faults.push((name.clone(), fault)),
                }
            }
        }
        (found, faults)
    }

    /// Returns the lines that prove uploads, with their uploads.
    pub(super) fn of_uploads(&self) -> Vec<(UploadId, LineRef)> {
        let (lines, _) = self.lines();
        let upload = |(name, line): (LedgerName, LedgerLine)| {
            let body = line.body().expect("it fits its kind");
            let at = LineRef {
                ledger: name.as_str().to_owned().into(),
                seq: line.seq,
                offset: line.offset,
                sha256: line.sha256,
            };
            Some((body.upload()?.source.id, at))
        };
        lines.into_iter().filter_map(upload).collect()
    }

    /// Returns the ledgers that have a line of a file, by their paths below the directory of receipts.
    pub(super) fn ledgers_of(&self, path: &str) -> Vec<String> {
        let ledger = |(name, line): (LedgerName, LedgerLine)| {
            let body = line.body().expect("it fits its kind");
            let is_of_file = body.upload().is_some_and(|upload| upload.source.path == path);
            is_of_file.then(|| name.as_str().to_owned())
        };
        self.lines().0.into_iter().filter_map(ledger).collect()
    }

    /// Returns the ledgers that are not valid, and why.
    pub(super) fn damaged(&self) -> Vec<(String, String)> {
        let faults = self.lines().1.into_iter().filter(|(_, fault)| !fault.is_torn());
        faults.map(|(name, fault)| (name.as_str().to_owned(), fault.to_string())).collect()
    }

    /// Changes a ledger, and returns its new content.
    pub(super) fn damage(&self, ledger: &str) -> Vec<u8> {
        let mut bytes = self.bytes(ledger);
        let at = bytes.windows(7).position(|text| text == b"\"size\":").expect("a size") + 7;
        bytes[at] ^= 1;
        fs::write(self.path(ledger), &bytes).expect("written");
        bytes
    }

    pub(super) fn bytes(&self, ledger: &str) -> Vec<u8> {
        fs::read(self.path(ledger)).expect("read")
    }

    fn path(&self, ledger: &str) -> PathBuf {
        LedgerName::parse(ledger).expect("a name").path(&self.state)
    }

    /// Returns the lines that say that a run is complete.
    pub(super) fn completions(&self) -> Vec<RunCompletedLine> {
        let completed = |(_, line): (LedgerName, LedgerLine)| match line.body() {
            Ok(LineBody::RunCompleted(line)) => Some(*line),
            Ok(_) | Err(_) => None,
        };
        self.lines().0.into_iter().filter_map(completed).collect()
    }

    /// Returns the operators who closed runs by hand, one for each line.
    pub(super) fn closings(&self) -> Vec<String> {
        let closed = |(_, line): (LedgerName, LedgerLine)| match line.body() {
            Ok(LineBody::ClosedByHand(line)) => Some(line.by),
            Ok(_) | Err(_) => None,
        };
        self.lines().0.into_iter().filter_map(closed).collect()
    }

    /// Returns whether a line is there as it was written, and durable.
    pub(super) fn holds(&self, line: Option<&LineRef>) -> bool {
        let is_durable = |line: &LineRef| {
            let name = LedgerName::parse(line.ledger.as_str()).expect("a name");
            self.durable.get(&name).is_some_and(|length| *length > line.offset)
        };
        check(&self.state, line).is_ok() && line.is_some_and(is_durable)
    }

    /// Returns whether an upload has its line, durable.
    pub(super) fn proves(&self, upload: UploadId) -> bool {
        self.of_uploads().iter().any(|(id, line)| *id == upload && self.holds(Some(line)))
    }

    /// Every chain is valid up to what a failed append may have left; no acknowledged line is lost.
    pub(super) fn assert_kept(&self) {
        for (name, fault) in self.lines().1 {
            assert!(fault.is_torn(), "{name}: {fault}");
        }
        for line in &self.answered {
            assert!(check(&self.state, Some(line)).is_ok(), "{line:?} was answered, and is gone");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let Ok(entries) = fs::read_dir(from) else { return };
    fs::create_dir_all(to).expect("made");
    for entry in entries {
        let (from, name) = entry.map(|entry| (entry.path(), entry.file_name())).expect("read");
        match from.is_dir() {
            true => copy(&from, &to.join(name)),
            false => drop(fs::copy(&from, to.join(name)).expect("copied")),
        }
    }
}

fn cut_power(path: &Path, durable: u64, cut: PowerCut) {
    let mut bytes = fs::read(path).expect("read");
    let (whole, kept) = (bytes.len(), usize::try_from(durable).expect("small"));
    if whole == kept {
        return;
    }
    match cut {
        PowerCut::Lost if kept == 0 => return fs::remove_file(path).expect("removed"),
        PowerCut::Lost => bytes.truncate(kept),
        PowerCut::Torn => bytes.truncate(kept + (whole - kept) / 2),
        PowerCut::Zeros => bytes[kept..].fill(0),
        PowerCut::Kept => {}
    }
    fs::write(path, bytes).expect("written");
}

//! `receipts`: the receipts as a list, as the ledger lines themselves, as a page to print, or as
//! lines that other programs check; and the validity of the ledgers.
//!
//! Reads ledgers, and from the database only the meaning of a word: without one, drop directories
//! and runs are still found. Every line is checked when it is read; of a damaged ledger only the
//! lines before the damage are shown.

mod check;
mod entry;
mod html;
mod newest;

use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{self, Write};

use clap::Args;
use serde_json::json;

use self::entry::{Entry, SumFormat};
use self::newest::NewestLines;
use super::render::{Form, Lines};
use super::shelf::{CheckedLedger, RunLedgers, Shelf};
use super::what::What;
use super::{Common, Exit, render};
use crate::model::{Hex, RenamedRun, Scope, Shown, SourcePath, UploadId, WallTime};
use crate::receipt::line::{UploadLine, parse_sha256};
use crate::receipt::place::ledgers;
use crate::receipt::rfc3339;
use crate::store::Kind;
use crate::store::snapshot::{NamedPath, Snapshot};

#[derive(Debug, Args)]
pub(super) struct ReceiptsArguments {
    /// An upload's id, a destination, a drop directory, DROP/RUN, the end of a path, or a glob
    /// [default: all]
    #[arg(value_name = "WHAT")]
    which: Option<OsString>,
    /// Output format; paths in md5sum and sha256sum lines are relative to the drop directory
    #[arg(long, value_enum, default_value = "table")]
    format: ReceiptFormat,
    /// Only files sent to this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// Print the ledger lines themselves
    #[arg(long, conflicts_with_all = ["format", "check"])]
    print: bool,
    /// Verify the chain of each ledger, from its first line to its last
    #[arg(long, conflicts_with_all = ["format", "destination"])]
    check: bool,
    /// The SHA-256 of a line, from a notice or a page: check whether it is the last one
    #[arg(long, value_name = "HASH", requires = "check", value_parser = head)]
    head: Option<WantedHead>,
}

/// The digest of a line that a ledger must contain.
#[derive(Debug, Clone, Copy)]
struct WantedHead([u8; 32]);

fn head(text: &str) -> Result<WantedHead, String> {
    parse_sha256(text).map(WantedHead).ok_or_else(|| "allowed: 64 hexadecimal digits".to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ReceiptFormat {
    Table,
    Json,
    Csv,
    Md5sum,
    Sha256sum,
    Html,
}

impl ReceiptFormat {
    fn sums(self) -> Option<SumFormat> {
        match self {
            Self::Md5sum => Some(SumFormat::Md5),
            Self::Sha256sum => Some(SumFormat::Sha256),
            Self::Table | Self::Json | Self::Csv | Self::Html => None,
        }
    }
}

pub(super) fn execute(common: &Common, arguments: &ReceiptsArguments) -> anyhow::Result<Exit> {
    let state = common.state_directory()?;
    let snapshot = match Snapshot::open(&state) {
        Ok(snapshot) => Some(snapshot),
        Err(error) if is_lost(&error) && !ledgers(&state)?.is_empty() => {
            render::talk(&format!(
                "{error}\nhint: drop directories and runs are found by their ledgers"
            ));
            None
        }
        Err(error) => return Err(error.into()),
    };
    let shelf = Shelf::read(&state, snapshot.as_ref())?;
    let what = arguments
        .which
        .as_ref()
        .map(|word| What::read_with(snapshot.as_ref(), shelf.names(), std::slice::from_ref(word)));
    let what = what.transpose()?;
    let runs = shelf.chosen(what.as_ref(), snapshot.as_ref())?;
    let filter = LineFilter { what: what.as_ref(), destination: arguments.destination.as_deref() };
    let names = snapshot.as_ref().map(Snapshot::names).transpose()?;
    let renamed = names.unwrap_or_default().renamed;
    let chosen = Chosen { shelf: &shelf, runs, filter, renamed };
    if arguments.check {
        return check::execute(&chosen, snapshot.as_ref(), arguments.head.map(|head| head.0));
    }
    let mut listing = Listing::new(arguments);
    listing.begin()?;
    chosen.runs.iter().try_for_each(|run| listing.add_run(&chosen, run))?;
    listing.end()?;
    let found = &listing.found;
    if arguments.format == ReceiptFormat::Table && !arguments.print && found.count > 0 {
        let plural = if found.count == 1 { "receipt" } else { "receipts" };
        render::talk(&format!("{} {plural}, {}", found.count, render::bytes(found.bytes)));
    }
    let is_named = arguments.which.is_some() || arguments.destination.is_some();
    Ok(listing.found.judge(is_named))
}

/// Returns whether an error means that there is no database any more.
fn is_lost(error: &crate::store::Error) -> bool {
    match error.kind {
        Kind::Missing | Kind::Corrupt { .. } | Kind::Lost { .. } => true,
        Kind::Locked
        | Kind::Newer { .. }
        | Kind::Gone
        | Kind::Foreign { .. }
        | Kind::Refused { .. }
        | Kind::Migration { .. }
        | Kind::Failed { .. }
        | Kind::Poisoned => false,
    }
}

/// The selection: the runs whose ledgers are read, and which of their lines.
struct Chosen<'a> {
    shelf: &'a Shelf,
    runs: Vec<&'a RunLedgers>,
    filter: LineFilter<'a>,
    /// Runs whose directories have another name: the directory's name, and the run's.
    renamed: Vec<(NamedPath, SourcePath)>,
}

impl Chosen<'_> {
    /// Returns the name of a run and that of its directory, if they differ.
    fn name_now(&self, run: &RunLedgers) -> Option<RenamedRun> {
        let own = run.run.as_ref()?;
        let mut renamed = self.renamed.iter();
        let ((_, now), _) = renamed.find(|((drop, _), name)| (drop, name) == (&run.drop, own))?;
        Some(RenamedRun { run: own.clone(), name_now: Some(now.clone()) })
    }

    /// Checks the ledgers of a run, and finds the newest line of each file at the same time: both take
    /// about as long.
    fn checked_newest(
        &self,
        run: &RunLedgers,
        sums: Option<SumFormat>,
    ) -> anyhow::Result<(Vec<CheckedLedger>, NewestLines)> {
        let unchecked = self.shelf.unchecked(run);
        let (checked, newest) = std::thread::scope(|scope| {
            let checking = scope.spawn(|| self.shelf.check(run, |_, _| io::Result::Ok(())));
            let newest = self.newest(&unchecked, sums);
            (checking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), newest)
        });
        let checked = checked?;
        let mut lengths = checked.iter().zip(&unchecked);
        match lengths.all(|(checked, unchecked)| checked.head.length == unchecked.head.length) {
            true => Ok((checked, newest?)),
            // One is damaged, or was appended to.
            false => self.newest(&checked, sums).map(|newest| (checked, newest)),
        }
    }

    fn newest(
        &self,
        ledgers: &[CheckedLedger],
        sums: Option<SumFormat>,
    ) -> anyhow::Result<NewestLines> {
        let mut newest = NewestLines::new(sums);
        self.shelf.reread(ledgers, |position, raw| {
            let entry: Entry<'_> = serde_json::from_slice(raw)?;
            if entry.is_of_file() && self.filter.covers(&entry) {
                newest.note(position, &entry);
            }
            anyhow::Ok(())
        })?;
        Ok(newest)
    }
}

/// The selection of lines.
struct LineFilter<'a> {
    what: Option<&'a What>,
    destination: Option<&'a str>,
}

impl LineFilter<'_> {
    /// Returns whether a line of a file is selected.
    fn covers(&self, entry: &Entry<'_>) -> bool {
        self.destination.is_none_or(|name| name == entry.destination.name)
            && self.what.is_none_or(|what| entry.with_file(|file| what.covers(file)))
    }

    /// Returns the selection within a run, to be called for its lines in order.
    fn of_run(&self, run: &RunLedgers) -> RunFilter<'_> {
        let is_all = |scope: Scope| match scope {
            Scope::All => true,
            Scope::Drop(drop) => drop == run.drop,
            Scope::Run(drop, name) => drop == run.drop && run.run.as_ref() == Some(&name),
            Scope::Destination(_) | Scope::Upload(_) => false,
        };
        let is_all = self.destination.is_none()
            && self.what.is_none_or(|what| what.scopes().into_iter().any(is_all));
        RunFilter { filter: self, is_all, uploads: HashSet::new() }
    }
}

/// The selected lines of a run: all, or those of selected files with what was done to these.
struct RunFilter<'a> {
    filter: &'a LineFilter<'a>,
    is_all: bool,
    uploads: HashSet<UploadId>,
}

impl RunFilter<'_> {
    fn includes(&mut self, entry: &Entry<'_>) -> bool {
        let is_meant = self.is_all
            || match entry.is_of_file() {
                true => self.filter.covers(entry),
                false => entry.upload().is_some_and(|id| self.uploads.contains(&id)),
            };
        if is_meant && !self.is_all {
            self.uploads.extend(entry.upload());
        }
        is_meant
    }
}

/// The columns of CSV.
const CSV_HEADER: [&str; 11] = [
    "drop",
    "path",
    "size_bytes",
    "mtime",
    "destination",
    "remote_id",
    "remote_name",
    "md5",
    "sha256",
    "completed_at",
    "upload_id",
];

/// The listed receipts, and the problems.
#[derive(Debug, Default)]
struct ListedReceipts {
    count: u64,
    bytes: u64,
    without_digest: u64,
    damage: Vec<String>,
}

impl ListedReceipts {
    fn note(&mut self, checked: &[CheckedLedger]) {
        let damage = checked.iter().filter_map(|one| {
            let fault = one.fault.as_ref()?;
            Some(format!("the ledger {} does not hold: {fault}", one.name))
        });
        self.damage.extend(damage);
    }

    fn judge(&self, is_named: bool) -> Exit {
        self.damage.iter().for_each(|damage| render::talk(damage));
        if !self.damage.is_empty() {
            render::talk("hint: restore it from a backup of the state directory");
        }
        if self.without_digest > 0 {
            let files = match self.without_digest {
                1 => "1 file has".to_owned(),
                count => format!("{count} files have"),
            };
            render::talk(&format!(
                "{files} no such digest of the whole file in a receipt\n\
                 hint: a file that is sent in one part has its MD5; for others, and for SHA-256, \
                 whole_file_digest = \"md5\" or \"sha256\" in [drops.NAME] makes one from then on"
            ));
        }
        let is_empty = self.count == 0 && self.damage.is_empty() && is_named;
        if is_empty {
            render::talk("there is no receipt of that");
        }
        match is_empty || self.without_digest > 0 || !self.damage.is_empty() {
            true => Exit::Failed,
            false => Exit::Fine,
        }
    }
}

/// Writes the lines of one listing.
struct Listing<'a> {
    out: Lines<io::StdoutLock<'static>>,
    arguments: &'a ReceiptsArguments,
    found: ListedReceipts,
    /// The run that is listed, where its directory has another name.
    renamed: Option<RenamedRun>,
}

impl<'a> Listing<'a> {
    fn new(arguments: &'a ReceiptsArguments) -> Self {
        let form = match arguments.format {
            _ if arguments.print => Form::Bytes,
            ReceiptFormat::Table | ReceiptFormat::Csv | ReceiptFormat::Html => Form::Text,
            ReceiptFormat::Json => Form::Json,
            ReceiptFormat::Md5sum | ReceiptFormat::Sha256sum => Form::Bytes,
        };
        let found = ListedReceipts::default();
        Self { out: Lines::new(form), arguments, found, renamed: None }
    }

    fn begin(&mut self) -> io::Result<()> {
        match self.arguments.format {
            ReceiptFormat::Json => self.out.write_all(b"["),
            ReceiptFormat::Csv => self.add_record(CSV_HEADER),
            ReceiptFormat::Html => html::begin(&mut self.out),
            ReceiptFormat::Table | ReceiptFormat::Md5sum | ReceiptFormat::Sha256sum => Ok(()),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        match self.arguments.format {
            ReceiptFormat::Json => self.out.write_all(b"\n]\n")?,
            ReceiptFormat::Html => html::end(&mut self.out)?,
            ReceiptFormat::Table
            | ReceiptFormat::Csv
            | ReceiptFormat::Md5sum
            | ReceiptFormat::Sha256sum => {}
        }
        self.out.flush()
    }

    fn add_run(&mut self, chosen: &Chosen<'_>, run: &RunLedgers) -> anyhow::Result<()> {
        if self.arguments.print {
            return self.print_run(chosen, run);
        }
        if self.arguments.format == ReceiptFormat::Html {
            return html::write_run(&mut self.out, chosen, run, &mut self.found);
        }
        let (checked, newest) = chosen.checked_newest(run, self.arguments.format.sums())?;
        self.found.note(&checked);
        self.renamed = chosen.name_now(run);
        chosen.shelf.reread(&checked, |position, raw| {
            let entry: Entry<'_> = serde_json::from_slice(raw)?;
            let is_meant = entry.is_of_file() && chosen.filter.covers(&entry);
            match is_meant && newest.is_newest(position, &entry) {
                true => self.add(&entry, raw),
                false => Ok(()),
            }
        })
    }

    /// Prints lines unchanged: those of the selected files with what was done to them, or all.
    fn print_run(&mut self, chosen: &Chosen<'_>, run: &RunLedgers) -> anyhow::Result<()> {
        let mut meant = chosen.filter.of_run(run);
        let checked = chosen.shelf.check(run, |_, line| {
            if meant.includes(&serde_json::from_slice(&line.raw)?) {
                self.found.count += 1;
                self.out.write_all(&line.raw)?;
                self.out.write_all(b"\n")?;
            }
            anyhow::Ok(())
        })?;
        self.found.note(&checked);
        Ok(())
    }

    fn add(&mut self, entry: &Entry<'_>, raw: &[u8]) -> anyhow::Result<()> {
        self.found.count += 1;
        self.found.bytes += entry.size;
        if let Some(format) = self.arguments.format.sums() {
            return Ok(self.add_sum(entry, format)?);
        }
        let line = UploadLine::parse(raw)?;
        match self.arguments.format {
            ReceiptFormat::Json => self.add_json(&line)?,
            ReceiptFormat::Csv => self.add_csv(&line)?,
            ReceiptFormat::Table
            | ReceiptFormat::Md5sum
            | ReceiptFormat::Sha256sum
            | ReceiptFormat::Html => self.add_row(&line)?,
        }
        Ok(())
    }

    fn add_row(
        &mut self,
        UploadLine { source, target, course, .. }: &UploadLine,
    ) -> io::Result<()> {
        writeln!(
            self.out,
            "{:>7}  {}  {:>10}  {}: {}  {}",
            source.id.to_string(),
            render::moment(course.completed_at),
            render::bytes(source.size),
            Shown(&source.drop),
            Shown(&source.path),
            Shown(&target.destination.name)
        )
    }

    fn add_json(&mut self, line: &UploadLine) -> io::Result<()> {
        self.out.write_all(if self.found.count == 1 { b"\n" } else { b",\n" })?;
        let mut value = line.summary();
        value["drop"] = json!(line.source.drop);
        value["run"] = json!(line.source.run);
        value["place"] = json!(line.target.place);
        serde_json::to_writer(&mut self.out, &value).map_err(io::Error::from)
    }

    fn add_csv(&mut self, line: &UploadLine) -> io::Result<()> {
        let UploadLine { source, target, proof, course } = line;
        let sha256 = proof.whole_file_digests.sha256;
        let fields = [
            source.drop.clone(),
            source.path.clone(),
            source.size.to_string(),
            rfc3339(WallTime(source.mtime_ns)),
            target.destination.name.clone(),
            target.remote_id.clone(),
            target.remote_name.clone(),
            proof.whole_md5().map(|md5| md5.to_string()).unwrap_or_default(),
            sha256.map(|sha256| Hex(&sha256).to_string()).unwrap_or_default(),
            course.completed_at.map(rfc3339).unwrap_or_default(),
            source.id.to_string(),
        ];
        self.add_record(fields.map(|field| cell(&field)))
    }

    fn add_record<const N: usize, F: AsRef<[u8]>>(&mut self, fields: [F; N]) -> io::Result<()> {
        let mut record =
            csv::WriterBuilder::new().buffer_capacity(1 << 10).from_writer(&mut self.out);
        record.write_record(fields)?;
        // Dropping it would also flush its output.
        record.into_inner().map(drop).map_err(csv::IntoInnerError::into_error)
    }

    /// One line as the GNU programs write and check it: the name is the file's on disk; if it
    /// contains a backslash or a line break, it is escaped and the line begins with a backslash.
    fn add_sum(&mut self, entry: &Entry<'_>, format: SumFormat) -> io::Result<()> {
        let Some(digest) = entry.digest(format) else {
            self.found.without_digest += 1;
            return Ok(());
        };
        let name = match &self.renamed {
            Some(renamed) => Cow::Owned(renamed.on_disk(&entry.path())),
            None => entry.path(),
        };
        let is_odd = name.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
        write!(self.out, "{}{digest}  ", if is_odd { "\\" } else { "" })?;
        for piece in name.split_inclusive(|byte| matches!(byte, b'\\' | b'\n' | b'\r')) {
            let (plain, escaped): (_, &[u8]) = match piece {
                [plain @ .., b'\\'] => (plain, b"\\\\"),
                [plain @ .., b'\n'] => (plain, b"\\n"),
                [plain @ .., b'\r'] => (plain, b"\\r"),
                plain => (plain, b""),
            };
            self.out.write_all(plain)?;
            self.out.write_all(escaped)?;
        }
        self.out.write_all(b"\n")
    }
}

/// Returns the content of a field, escaped, and never a formula of a spreadsheet.
fn cell(field: &str) -> String {
    let is_formula = field.starts_with(['=', '+', '-', '@', '\t', '\r']);
    format!("{}{}", if is_formula { "'" } else { "" }, Shown(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_no_formula_and_holds_no_line_break() {
        for (field, written) in [
            ("a b", "a b"),
            ("a,\"b\"", "a,\"b\""),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\\t=1"),
            ("\r=1", "'\\r=1"),
            ("=HYPERLINK(\"x\",1)", "'=HYPERLINK(\"x\",1)"),
            ("a\u{1b}[2J\nb", "a\\u{1b}[2J\\nb"),
        ] {
            assert_eq!(cell(field), written);
        }
    }
}

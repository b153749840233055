//! `receipts`: what has arrived, as a list, as the receipts themselves, or as lines that other
//! programs check.
//!
//! Reads the rows, from which the receipts were rendered; `--print` shows the files. Each receipt that is
//! listed is checked by the digest in its row.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Args;
use serde_json::json;

use super::render::{Form, Lines};
use super::what::What;
use super::{Common, Exit, render};
use crate::model::{Hex, RunFile, Shown};
use crate::receipt;
use crate::store::snapshot::Snapshot;

/// Damaged receipts that are named; the others are counted.
const DAMAGE_SHOWN: usize = 20;

#[derive(Debug, Args)]
pub(super) struct ReceiptsArguments {
    /// An upload's id, a destination, a drop directory, DROP/RUN, the end of a path, or a glob; all when
    /// left out
    #[arg(value_name = "WHAT")]
    which: Option<OsString>,
    /// How they are written; md5sum and sha256sum lines are relative to the drop directory
    #[arg(long, value_enum, default_value = "table")]
    format: ReceiptFormat,
    /// Only what went to this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// Print the receipts themselves
    #[arg(long, conflicts_with = "format")]
    print: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ReceiptFormat {
    Table,
    Json,
    Csv,
    Md5sum,
    Sha256sum,
}

/// Writes the lines of one listing.
struct ReceiptListing<'a, W> {
    out: W,
    arguments: &'a ReceiptsArguments,
    state: &'a std::path::Path,
    count: u64,
    without_digest: u64,
    /// What is wrong with receipts: the first few, and how many.
    damage: Vec<String>,
    damaged_count: u64,
    /// The path before, for a file that went to several destinations is one line to `md5sum`.
    last: Option<(String, crate::model::SourcePath)>,
}

pub(super) fn execute(common: &Common, arguments: &ReceiptsArguments) -> anyhow::Result<Exit> {
    let state = common.state_directory()?;
    let snapshot = Snapshot::open(&state)?;
    let what =
        arguments.which.as_ref().map(|word| What::read(&snapshot, std::slice::from_ref(word)));
    let what = what.transpose()?;
    let form = match arguments.format {
        _ if arguments.print => Form::Json,
        ReceiptFormat::Table | ReceiptFormat::Csv => Form::Text,
        ReceiptFormat::Json => Form::Json,
        ReceiptFormat::Md5sum | ReceiptFormat::Sha256sum => Form::Bytes,
    };
    let mut listing = ReceiptListing {
        out: Lines::new(form),
        arguments,
        state: &state,
        count: 0,
        without_digest: 0,
        damage: Vec::new(),
        damaged_count: 0,
        last: None,
    };
    listing.begin()?;
    snapshot.receipted_files(None, &mut |file| {
        let is_there = arguments.destination.as_ref().is_none_or(|name| *name == file.destination);
        match is_there && what.as_ref().is_none_or(|what| what.covers_file(&file)) {
            true => listing.add(&file),
            false => Ok(()),
        }
    })?;
    for run in snapshot.receipted_runs()? {
        if what.as_ref().is_none_or(|what| what.covers_run(&run)) {
            listing.note(receipt::run_damage(&state, &run));
        }
    }
    listing.end()?;
    let (count, without_digest) = (listing.count, listing.without_digest);
    if listing.damaged_count > 0 {
        listing.damage.iter().for_each(|damage| render::talk(damage));
        render::talk(&format!(
            "{} receipts do not hold\nhint: restore them from a backup of the state directory",
            listing.damaged_count
        ));
        return Ok(Exit::Failed);
    }
    if without_digest > 0 {
        render::talk(&format!(
            "{without_digest} files in several parts have no digest of the whole file\n\
             hint: whole_file_digest = \"md5\" or \"sha256\" in [drops.NAME] makes one from then on"
        ));
        return Ok(Exit::Failed);
    }
    if count == 0 && arguments.which.is_some() {
        render::talk("there is no receipt of that");
        return Ok(Exit::Failed);
    }
    Ok(Exit::Fine)
}

impl<W: Write> ReceiptListing<'_, W> {
    fn begin(&mut self) -> io::Result<()> {
        match self.arguments.format {
            ReceiptFormat::Json => self.out.write_all(b"["),
            ReceiptFormat::Csv => self.out.write_all(
                b"drop,path,size_bytes,mtime,destination,remote_id,remote_name,md5,sha256,\
                  completed_at,upload_id\n",
            ),
            ReceiptFormat::Table | ReceiptFormat::Md5sum | ReceiptFormat::Sha256sum => Ok(()),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        if self.arguments.format == ReceiptFormat::Json {
            self.out.write_all(b"\n]\n")?;
        }
        self.out.flush()
    }

    fn note(&mut self, damage: Option<String>) {
        self.damaged_count += u64::from(damage.is_some());
        self.damage.extend(damage.filter(|_| self.damage.len() < DAMAGE_SHOWN));
    }

    fn add(&mut self, file: &RunFile) -> io::Result<()> {
        self.count += 1;
        let damage = receipt::file_damage(self.state, file);
        let is_damaged = damage.is_some();
        self.note(damage);
        if self.arguments.print {
            return if is_damaged { Ok(()) } else { self.print(file) };
        }
        match self.arguments.format {
            ReceiptFormat::Table => writeln!(
                self.out,
                "{:>7}  {}  {:>10}  {}: {}  {}",
                file.upload.to_string(),
                file.completed_at.map(receipt::rfc3339).unwrap_or_default(),
                render::bytes(file.size.0),
                file.drop,
                file.path,
                file.destination
            ),
            ReceiptFormat::Json => self.add_json(file),
            ReceiptFormat::Csv => self.add_csv(file),
            ReceiptFormat::Md5sum => self.add_sum(file, file.md5.map(|md5| md5.to_string())),
            ReceiptFormat::Sha256sum => {
                self.add_sum(file, file.sha256.map(|sha| Hex(&sha).to_string()))
            }
        }
    }

    fn print(&mut self, file: &RunFile) -> io::Result<()> {
        let place = receipt::path_for(self.state, &file.drop, &file.path, file.upload);
        let receipt = std::fs::read(&place);
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", place.display()))
        };
        self.out.write_all(&receipt.map_err(named)?)
    }

    fn add_json(&mut self, file: &RunFile) -> io::Result<()> {
        self.out.write_all(if self.count == 1 { b"\n" } else { b",\n" })?;
        let value = json!({
            "drop": file.drop, "path": file.path.to_string(), "size_bytes": file.size.0,
            "mtime": receipt::rfc3339(crate::model::WallTime(file.mtime_ns)),
            "destination": file.destination, "remote_id": file.remote_id,
            "remote_name": file.remote_name, "md5": file.md5.map(|md5| md5.to_string()),
            "sha256": file.sha256.map(|sha256| Hex(&sha256).to_string()),
            "parts_md5": file.parts_md5.map(|md5| md5.to_string()),
            "part_size_bytes": file.part_size_bytes,
            "completed_at": render::time(file.completed_at), "upload_id": file.upload.0,
        });
        serde_json::to_writer(&mut self.out, &value).map_err(io::Error::from)
    }

    fn add_csv(&mut self, file: &RunFile) -> io::Result<()> {
        let fields = [
            file.drop.clone(),
            file.path.to_string(),
            file.size.0.to_string(),
            receipt::rfc3339(crate::model::WallTime(file.mtime_ns)),
            file.destination.clone(),
            file.remote_id.clone(),
            file.remote_name.clone(),
            file.md5.map(|md5| md5.to_string()).unwrap_or_default(),
            file.sha256.map(|sha256| Hex(&sha256).to_string()).unwrap_or_default(),
            file.completed_at.map(receipt::rfc3339).unwrap_or_default(),
            file.upload.to_string(),
        ];
        writeln!(self.out, "{}", fields.map(|field| cell(&field)).join(","))
    }

    /// One line as the GNU programs write and check it: a name with a backslash or a line break is
    /// escaped, and the line begins with a backslash then.
    fn add_sum(&mut self, file: &RunFile, digest: Option<String>) -> io::Result<()> {
        let key = (file.drop.clone(), file.path.clone());
        if self.last.as_ref() == Some(&key) {
            return Ok(());
        }
        let Some(digest) = digest else {
            self.without_digest += 1;
            return Ok(());
        };
        self.last = Some(key);
        let name = file.path.as_bytes();
        let is_odd = name.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
        write!(self.out, "{}{digest}  ", if is_odd { "\\" } else { "" })?;
        for byte in name {
            match byte {
                b'\\' => self.out.write_all(b"\\\\")?,
                b'\n' => self.out.write_all(b"\\n")?,
                b'\r' => self.out.write_all(b"\\r")?,
                byte => self.out.write_all(&[*byte])?,
            }
        }
        self.out.write_all(b"\n")
    }
}

/// A field of RFC 4180: escaped, quoted when it must be, and never a formula of a spreadsheet.
fn cell(field: &str) -> String {
    let is_formula = field.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let field = format!("{}{}", if is_formula { "'" } else { "" }, Shown(field));
    match field.contains(['"', ',']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_no_formula_and_holds_no_line_break() {
        for (field, written) in [
            ("a b", "a b"),
            ("a,\"b\"", "\"a,\"\"b\"\"\""),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\\t=1"),
            ("\r=1", "'\\r=1"),
            ("=HYPERLINK(\"x\",1)", "\"'=HYPERLINK(\"\"x\"\",1)\""),
            ("a\u{1b}[2J\nb", "a\\u{1b}[2J\\nb"),
        ] {
            assert_eq!(cell(field), written);
        }
    }
}

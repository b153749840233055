//! Receipts of a state without ledgers: listed from the rows that they were rendered from, each checked by
//! the digest in its row.

use std::io::{self, Write};
use std::path::Path;

use anyhow::bail;
use serde_json::json;

use super::{ReceiptFormat, ReceiptsArguments, cell};
use crate::cli::render::{Form, Lines};
use crate::cli::what::What;
use crate::cli::{Exit, render};
use crate::model::{Hex, RunFile};
use crate::receipt;
use crate::store::snapshot::Snapshot;

/// Damaged receipts that are named; the others are counted.
const DAMAGE_SHOWN: usize = 20;

/// Writes the lines of one listing.
struct RowListing<'a, W> {
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

pub(super) fn execute(state: &Path, arguments: &ReceiptsArguments) -> anyhow::Result<Exit> {
    let snapshot = Snapshot::open(state)?;
    if arguments.check || arguments.format == ReceiptFormat::Html {
        bail!("there is no ledger yet");
    }
    let what =
        arguments.which.as_ref().map(|word| What::read(&snapshot, std::slice::from_ref(word)));
    let what = what.transpose()?;
    let form = match arguments.format {
        _ if arguments.print => Form::Json,
        ReceiptFormat::Table | ReceiptFormat::Csv | ReceiptFormat::Html => Form::Text,
        ReceiptFormat::Json => Form::Json,
        ReceiptFormat::Md5sum | ReceiptFormat::Sha256sum => Form::Bytes,
    };
    let mut listing = RowListing {
        out: Lines::new(form),
        arguments,
        state,
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
            listing.note(receipt::run_damage(state, &run));
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

impl<W: Write> RowListing<'_, W> {
    fn begin(&mut self) -> io::Result<()> {
        match self.arguments.format {
            ReceiptFormat::Json => self.out.write_all(b"["),
            ReceiptFormat::Csv => self.out.write_all(
                b"drop,path,size_bytes,mtime,destination,remote_id,remote_name,md5,sha256,\
                  completed_at,upload_id\n",
            ),
            ReceiptFormat::Table
            | ReceiptFormat::Md5sum
            | ReceiptFormat::Sha256sum
            | ReceiptFormat::Html => Ok(()),
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
            ReceiptFormat::Table | ReceiptFormat::Html => writeln!(
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
        writeln!(self.out, "{}", fields.map(|field| quoted(&cell(&field))).join(","))
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

/// A field of RFC 4180.
fn quoted(field: &str) -> String {
    match field.contains(['"', ',']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

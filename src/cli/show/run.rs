//! A run: its progress at each destination, missing and stuck files, receipts.

use std::path::Path;

use serde_json::{Value, json};

use super::super::layout::{self, Sheet, Tone};
use super::super::status::json::{run_json, upload_json};
use super::super::status::progress;
use super::super::status::{StatusReader, attention, runs, text};
use super::super::{Exit, render};
use crate::cli::Common;
use crate::model::{DirectoryName, Scope, SourcePath};
use crate::receipt;
use crate::store::snapshot::{RunShown, Status, UploadShown};

/// Limit of listed files that have not arrived.
const FILES_MAX: usize = 20;

/// One run, from the database.
pub(in crate::cli) struct NamedRun<'a> {
    pub(in crate::cli) drop: &'a DirectoryName,
    pub(in crate::cli) run: &'a SourcePath,
    pub(in crate::cli) state: &'a Path,
}

impl NamedRun<'_> {
    /// Shows the run, if there is one with that name.
    pub(super) fn show(&self, common: &Common, as_json: bool) -> anyhow::Result<Option<Exit>> {
        let scope = Scope::Run(self.drop.clone(), self.run.clone());
        let (_, status) = StatusReader::new(common)?.read(&[scope], false)?;
        let is_it = |run: &&RunShown| (&run.row.drop, &run.row.name) == (self.drop, self.run);
        let Some(run) = status.runs.iter().find(is_it) else { return Ok(None) };
        if as_json {
            render::json(&self.json(&status, run))?;
        } else {
            let mut sheet = Sheet::new(layout::terminal_width());
            self.say(&mut sheet, &status, run);
            missing(&mut sheet, &status);
            render::sheet(&sheet)?;
        }
        Ok(Some(Exit::Fine))
    }

    fn json(&self, status: &Status, run: &RunShown) -> Value {
        let mut shown = run_json(status, run);
        let uploads: Vec<_> = status.uploads.iter().map(upload_json).collect();
        let matters: Vec<_> = attention::list(status).iter().map(attention::Matter::json).collect();
        shown["schema"] = 2.into();
        shown["attention"] = matters.into();
        shown["uploads"] = uploads.into();
        shown["receipt"] = self
            .receipt(run)
            .map_or(Value::Null, |(ledger, line)| json!({ "ledger": ledger, "line": line }));
        shown
    }

    /// Returns the line that completes the run, once there is one.
    fn receipt(&self, run: &RunShown) -> Option<(String, u64)> {
        let line = run.row.completion.receipt.as_ref()?;
        let path = receipt::directory(self.state).join(line.ledger.as_str());
        Some((path.display().to_string(), line.seq))
    }

    /// Shows everything about the run except its files.
    pub(in crate::cli) fn say(&self, sheet: &mut Sheet, status: &Status, run: &RunShown) {
        let (row, now) = (&run.row, status.read_at);
        sheet.say(Tone::Title, 0, &format!("{}/{}", row.drop, row.name));
        if let Some(name) = &row.name_now {
            sheet.say(Tone::Plain, 2, &format!("its directory is called {name} now"));
        }
        for matter in attention::list(status) {
            text::say_matter(sheet, &matter);
        }
        runs::run(sheet, status, run);
        let at = render::moment;
        let ago = |at: crate::model::WallTime| render::duration(at.until(now).as_secs());
        let last = progress::last_activity(status, run);
        let mut rows = vec![
            ("opened", at(Some(row.opened_at))),
            ("closed", at(row.closed_at)),
            ("complete", at(row.completion.at)),
            ("last activity", format!("{} ago", ago(last))),
            ("waves", row.completion.generation.to_string()),
        ];
        rows.extend(run.disposal.as_ref().map(|shown| ("source", super::disposal_text(shown))));
        let receipt = self.receipt(run);
        rows.extend(receipt.map(|(ledger, line)| ("receipt", format!("line {line} of {ledger}"))));
        rows.extend(run.words.iter().map(|(word, value)| (word.as_str(), value.clone())));
        for (name, value) in rows {
            sheet.say(Tone::Plain, 2, &format!("{} {value}", layout::padded(name, 13)));
        }
    }
}

/// Lists files that have not arrived, stuck ones first.
fn missing(sheet: &mut Sheet, status: &Status) {
    let is_missing = |upload: &&UploadShown| !matches!(upload.word(), "completed" | "abandoned");
    let mut missing: Vec<_> = status.uploads.iter().filter(is_missing).collect();
    if missing.is_empty() {
        return;
    }
    let place = |word: &str| ["parked", "waiting", "sending"].iter().position(|of| *of == word);
    missing.sort_by_key(|upload| place(upload.word()).unwrap_or(usize::MAX));
    sheet.line(Tone::Plain, String::new());
    sheet.say(Tone::Title, 0, "files that are not there");
    text::say_files(sheet, status, &missing, FILES_MAX);
}

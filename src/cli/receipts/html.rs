//! The page of a run: one self-contained file, to print, to file and to hand over.
//!
//! Written while the lines are read, which is twice and once more for each list at its end: so the
//! memory does not grow with the run. Every text of a line is escaped, once for people ([`Shown`])
//! and once for HTML; the page has no script, and no links.

mod file;
mod summary;

use std::fmt;
use std::io::{self, Write};

use self::file::PageFile;
use self::summary::{DestinationTotals, RunSummary};
use super::entry::{Entry, SumFormat};
use super::newest::NewestLines;
use super::{Chosen, ListedReceipts};
use crate::cli::render;
use crate::cli::shelf::{CheckedLedger, RunLedgers};
use crate::clock::Clock;
use crate::model::{Hex, Shown, WallTime};
use crate::receipt::line::{ExportedLine, LineKind};
use crate::receipt::rfc3339;

const STYLE: &str = include_str!("page.css");

/// A line's text, escaped for the page.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = Shown(self.0).to_string();
        let mut rest = &*shown;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

pub(super) fn begin(out: &mut impl Write) -> io::Result<()> {
    write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'\">\n<title>Receipt</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
    )
}

pub(super) fn end(out: &mut impl Write) -> io::Result<()> {
    let at = rfc3339(Clock::real().now().wall);
    let version = env!("CARGO_PKG_VERSION");
    writeln!(out, "<p>Printed at {at} by dropferry {version}.</p>\n</body>\n</html>")
}

/// Writes the part of one run.
pub(super) fn write_run(
    out: &mut impl Write,
    chosen: &Chosen<'_>,
    run: &RunLedgers,
    found: &mut ListedReceipts,
) -> anyhow::Result<()> {
    let mut summary = RunSummary::default();
    let mut newest = NewestLines::new(None);
    let mut meant = chosen.filter.of_run(run);
    let checked = chosen.shelf.check(run, |position, line| {
        let entry: Entry<'_> = serde_json::from_slice(&line.raw)?;
        if meant.includes(&entry) {
            if entry.is_of_file() {
                newest.note(position, &entry);
            }
            summary.note(line, &entry)?;
        }
        anyhow::Ok(())
    })?;
    found.note(&checked);
    if summary.line_count == 0 {
        return Ok(());
    }
    found.count += 1;
    let page = RunPage { chosen, run, checked: &checked, newest: &newest };
    page.write_head(out, &summary)?;
    page.write_files(out)?;
    if summary.file_count > newest.count() as u64 {
        page.write_replaced(out)?;
    }
    if summary.export_count > 0 {
        page.write_exports(out)?;
    }
    Ok(writeln!(out, "</section>")?)
}

struct RunPage<'a> {
    chosen: &'a Chosen<'a>,
    run: &'a RunLedgers,
    checked: &'a [CheckedLedger],
    newest: &'a NewestLines,
}

impl RunPage<'_> {
    fn write_head(&self, out: &mut impl Write, summary: &RunSummary) -> io::Result<()> {
        let name =
            self.run.run.as_ref().map_or("files on their own".to_owned(), ToString::to_string);
        writeln!(out, "<section class=\"run\">\n<h1>Receipt of {}</h1>", Escaped(&name))?;
        for CheckedLedger { name, fault, .. } in self.checked {
            if let Some(fault) = fault {
                let (name, fault) = (Escaped(name.as_str()), fault.to_string());
                writeln!(
                    out,
                    "<p class=\"damage\">Damage: the ledger {name} does not hold: {}. This page has \
                     what comes before.</p>",
                    Escaped(&fault)
                )?;
            }
        }
        writeln!(out, "<h2>What, when and from where</h2>\n<dl>")?;
        for (name, value) in self.facts(summary) {
            writeln!(out, "<dt>{}</dt><dd>{}</dd>", Escaped(name), Escaped(&value))?;
        }
        writeln!(out, "</dl>\n<h2>To where</h2>")?;
        write_table(out, &["Destination", "Platform", "Address", "Files", "Size"])?;
        for (name, totals) in &summary.destinations {
            let DestinationTotals { platform, address, file_count, bytes } = totals;
            let (count, size) = (file_count.to_string(), render::bytes(*bytes));
            write_row(out, &[name, platform, address, &count, &size])?;
        }
        writeln!(out, "</tbody></table>\n<h2>The chain, and how to check it</h2>")?;
        write_table(out, &["Ledger", "Lines", "Head (SHA-256 of the last line)", "It"])?;
        for CheckedLedger { name, head, fault } in self.checked {
            let (count, sha256) = (head.count.to_string(), Hex(&head.sha256).to_string());
            let verdict = if fault.is_none() { "holds" } else { "is damaged" };
            write_row(out, &[name.as_str(), &count, &sha256, verdict])?;
        }
        writeln!(out, "</tbody></table>")?;
        let what = match &self.run.run {
            Some(run) => format!("{}/{run}", self.run.drop),
            None => format!("{}/", self.run.drop),
        };
        writeln!(
            out,
            "<p>Each line of a ledger holds the SHA-256 of the line before. <code>dropferry receipts \
             {} --check --head HEAD</code> reads all of it and finds this head; docs/receipts.md has a \
             script that does the same without dropferry.</p>",
            Escaped(&what)
        )
    }

    fn facts(&self, summary: &RunSummary) -> Vec<(&'static str, String)> {
        let mut facts = vec![
            ("Drop directory", self.run.drop.to_string()),
            ("Which directory it was", summary.roots.join(", ")),
            ("Host", summary.hosts.join(", ")),
        ];
        let (completed, course) = (summary.completed.as_ref(), &summary.course);
        let moments = [
            ("First seen", completed.and_then(|run| run.opened_at)),
            ("Closed by its writer", completed.and_then(|run| run.closed_at)),
            ("First upload begun", course.begun_at),
            ("Last file verified", course.verified_at),
        ];
        facts.extend(moments.into_iter().filter_map(|(name, at)| Some((name, rfc3339(at?)))));
        facts.extend(summary.closings.iter().map(|text| ("Closed by hand", text.clone())));
        facts.extend(summary.completions.iter().map(|text| ("Completed", text.clone())));
        let outcome = completed.and_then(|run| run.outcome.clone());
        facts.extend(outcome.map(|word| ("It ended as", word)));
        facts.push(("Interruptions", course.interruptions()));
        let replaced = summary.file_count.saturating_sub(self.newest.count() as u64);
        let counts = [
            ("At the destination before", course.found_count),
            ("Replaced versions", replaced),
            ("Exports to volumes", summary.export_count),
        ];
        facts.extend(counts.map(|(name, count)| {
            (name, if count == 0 { "none".into() } else { count.to_string() })
        }));
        facts.extend(
            summary.others.iter().map(|(kind, count)| ("Other lines", format!("{count} {kind}"))),
        );
        facts
    }

    /// Passes on the selected files: the newest version of each, or the replaced ones.
    fn each_file(
        &self,
        is_newest: bool,
        mut take: impl FnMut(&Entry<'_>, &PageFile<'_>) -> io::Result<()>,
    ) -> anyhow::Result<()> {
        let filter = &self.chosen.filter;
        self.chosen.shelf.reread(self.checked, |position, raw| {
            let entry: Entry<'_> = serde_json::from_slice(raw)?;
            let is_meant = entry.is_of_file()
                && filter.covers(&entry)
                && self.newest.is_newest(position, &entry) == is_newest;
            if is_meant {
                take(&entry, &serde_json::from_slice(raw)?)?;
            }
            anyhow::Ok(())
        })
    }

    fn write_files(&self, out: &mut impl Write) -> anyhow::Result<()> {
        writeln!(out, "<h2>Files</h2>")?;
        write_table(out, &["File", "Size", "Modified", "To", "Digest", "Verified"])?;
        self.each_file(true, |entry, file| write_file(out, entry, file))?;
        Ok(writeln!(out, "</tbody></table>")?)
    }

    fn write_replaced(&self, out: &mut impl Write) -> anyhow::Result<()> {
        writeln!(out, "<h2>Versions that were replaced later</h2>")?;
        write_table(out, &["File", "Size", "Modified", "To", "Digest", "Verified"])?;
        self.each_file(false, |entry, file| write_file(out, entry, file))?;
        Ok(writeln!(out, "</tbody></table>")?)
    }

    fn write_exports(&self, out: &mut impl Write) -> anyhow::Result<()> {
        writeln!(out, "<h2>Exports to attached volumes</h2>")?;
        write_table(out, &["Upload", "Volume", "Location", "Job", "There since"])?;
        let mut meant = self.chosen.filter.of_run(self.run);
        self.chosen.shelf.reread(self.checked, |_, raw| {
            let entry: Entry<'_> = serde_json::from_slice(raw)?;
            if meant.includes(&entry) && entry.kind() == Some(LineKind::Exported) {
                let ExportedLine { id, volume, location, job, exported_at } =
                    serde_json::from_slice(raw)?;
                let at = exported_at.map(rfc3339).unwrap_or_default();
                write_row(out, &[&id.to_string(), &volume, &location, &job, &at])?;
            }
            anyhow::Ok(())
        })?;
        Ok(writeln!(out, "</tbody></table>")?)
    }
}

fn write_table(out: &mut impl Write, columns: &[&str]) -> io::Result<()> {
    write!(out, "<table><thead><tr>")?;
    columns.iter().try_for_each(|name| write!(out, "<th>{}</th>", Escaped(name)))?;
    writeln!(out, "</tr></thead><tbody>")
}

fn write_row(out: &mut impl Write, cells: &[&str]) -> io::Result<()> {
    write!(out, "<tr>")?;
    cells.iter().try_for_each(|cell| write!(out, "<td>{}</td>", Escaped(cell)))?;
    writeln!(out, "</tr>")
}

fn write_file(out: &mut impl Write, entry: &Entry<'_>, file: &PageFile<'_>) -> io::Result<()> {
    let to = format!("{}: {}", entry.destination.name, file.place);
    let (size, modified) = (render::bytes(entry.size), rfc3339(WallTime(entry.mtime_ns)));
    let digests = digests(entry, file);
    write_row(out, &[entry.shown_path(), &size, &modified, &to, &digests, &file.verified_at])
}

/// Returns the digests in the line, the strongest first.
fn digests(entry: &Entry<'_>, file: &PageFile<'_>) -> String {
    let sha256 = entry.digest(SumFormat::Sha256).map(|it| format!("SHA-256 {it}"));
    let md5 = entry.digest(SumFormat::Md5).map(|md5| format!("MD5 {md5}"));
    let known: Vec<_> = sha256.into_iter().chain(md5).collect();
    match (&known[..], &*file.content_digest) {
        ([], "") => "none".into(),
        ([], parts) => format!("MD5 of the MD5s of its parts {parts}"),
        (known, _) => known.join(", "),
    }
}

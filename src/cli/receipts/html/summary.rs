//! The summary of a run's lines.

use std::collections::BTreeMap;

use super::file::PageFile;
use crate::cli::receipts::entry::Entry;
use crate::cli::render;
use crate::model::{ClosedByHand, WallTime};
use crate::receipt::ledger::{LedgerFault, LedgerLine};
use crate::receipt::line::{ClosedByHandLine, LineBody, LineKind, RunCompletedLine, parse_moment};

/// Limit of named hosts, directories and completions; more are not expected.
const NAMED_MAX: usize = 20;

#[derive(Debug, Default)]
pub(super) struct RunSummary {
    pub(super) line_count: u64,
    /// Lines of files, including those that were replaced later.
    pub(super) file_count: u64,
    pub(super) hosts: Vec<String>,
    pub(super) roots: Vec<String>,
    pub(super) course: CourseTotals,
    pub(super) destinations: BTreeMap<String, DestinationTotals>,
    /// The times of its completions.
    pub(super) completions: Vec<String>,
    /// The run's last completion.
    pub(super) completed: Option<RunCompletedLine>,
    /// Each time it was closed by hand.
    pub(super) closings: Vec<String>,
    pub(super) export_count: u64,
    /// Lines of kinds that this version only reads.
    pub(super) others: BTreeMap<String, u64>,
}

/// Totals over all uploads.
#[derive(Debug, Default)]
pub(super) struct CourseTotals {
    pub(super) begun_at: Option<WallTime>,
    pub(super) verified_at: Option<WallTime>,
    pub(super) found_count: u64,
    interrupted_count: u64,
    attempt_count: u64,
    bytes_sent: u64,
    bytes_sent_again: u64,
}

#[derive(Debug, Default)]
pub(super) struct DestinationTotals {
    pub(super) platform: String,
    pub(super) address: String,
    pub(super) file_count: u64,
    pub(super) bytes: u64,
}

impl RunSummary {
    /// Adds a line; most are of files, which are parsed only as far as needed.
    ///
    /// # Errors
    /// When its members do not fit its kind.
    pub(super) fn note(&mut self, line: &LedgerLine, entry: &Entry<'_>) -> Result<(), LedgerFault> {
        self.line_count += 1;
        name(&mut self.hosts, &line.host);
        if entry.is_of_file() {
            self.note_file(entry, &line.members()?);
            return Ok(());
        }
        match line.body()? {
            LineBody::Upload(_) | LineBody::FoundAgain(_) => {}
            LineBody::Exported(_) => self.export_count += 1,
            LineBody::RunCompleted(run) => {
                let RunCompletedLine { wave, file_count, bytes, given_up_count, .. } = *run;
                let given_up = match given_up_count {
                    0 => String::new(),
                    count => format!(", {count} uploads given up"),
                };
                let bytes = render::bytes(bytes);
                let text =
                    format!("{}, wave {wave}: {file_count} files, {bytes}{given_up}", line.at);
                name(&mut self.completions, &text);
                self.completed = Some(*run);
            }
            LineBody::ClosedByHand(closed) => {
                let ClosedByHandLine { by, missing, .. } = *closed;
                let text = format!("{}, {}", line.at, ClosedByHand { by, missing });
                name(&mut self.closings, &text);
            }
            LineBody::Other { kind, .. } => *self.others.entry(kind).or_default() += 1,
        }
        Ok(())
    }

    fn note_file(&mut self, entry: &Entry<'_>, file: &PageFile<'_>) {
        self.file_count += 1;
        self.course.found_count += u64::from(entry.kind() == Some(LineKind::FoundAgain));
        if !file.root.is_empty() {
            name(&mut self.roots, &file.root);
        }
        self.course.note(file);
        let to = &file.destination;
        let totals = self.destinations.entry(entry.destination.name.to_string()).or_default();
        totals.platform.clear();
        totals.platform.push_str(&to.platform);
        totals.address.clear();
        [to.container(), " at ", &to.base_url]
            .into_iter()
            .for_each(|text| totals.address.push_str(text));
        totals.file_count += 1;
        totals.bytes = totals.bytes.saturating_add(entry.size);
    }
}

impl CourseTotals {
    fn note(&mut self, file: &PageFile<'_>) {
        let [begun_at, verified_at] =
            [&file.begun_at, &file.verified_at].map(|at| parse_moment(at));
        self.begun_at = [self.begun_at, begun_at].into_iter().flatten().min();
        self.verified_at = self.verified_at.max(verified_at);
        self.interrupted_count += u64::from(file.attempt_count > 0);
        self.attempt_count = self.attempt_count.saturating_add(file.attempt_count);
        self.bytes_sent = self.bytes_sent.saturating_add(file.bytes_sent);
        self.bytes_sent_again = self.bytes_sent_again.saturating_add(file.bytes_sent_again);
    }

    /// Describes the interruptions and their cost.
    pub(super) fn interruptions(&self) -> String {
        let again = render::bytes(self.bytes_sent_again);
        let sent = render::bytes(self.bytes_sent);
        match (self.attempt_count, self.bytes_sent_again) {
            (0, 0) => format!("none; {sent} sent, nothing of it twice"),
            (attempts, _) => {
                let uploads = self.interrupted_count;
                format!(
                    "failed attempts: {attempts}, of {uploads} uploads; {again} of {sent} sent again"
                )
            }
        }
    }
}

fn name(known: &mut Vec<String>, text: &str) {
    if known.len() < NAMED_MAX && !known.iter().any(|one| one == text) {
        known.push(text.to_owned());
    }
}

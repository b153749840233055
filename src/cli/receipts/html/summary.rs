//! What the lines of a run say of it as a whole.

use std::collections::BTreeMap;

use crate::cli::render;
use crate::model::WallTime;
use crate::receipt::ledger::LedgerLine;
use crate::receipt::line::{LineBody, RunCompletedLine, UploadLine};

/// Different hosts, directories and completions that are named; there is no reason for more.
const NAMED_MAX: usize = 20;

#[derive(Debug, Default)]
pub(super) struct RunSummary {
    pub(super) line_count: u64,
    /// Lines of files, those that were replaced later among them.
    pub(super) file_count: u64,
    pub(super) hosts: Vec<String>,
    pub(super) roots: Vec<String>,
    pub(super) course: CourseTotals,
    pub(super) destinations: BTreeMap<String, DestinationTotals>,
    /// When it was completed, each time.
    pub(super) completions: Vec<String>,
    /// The run as it was completed last.
    pub(super) completed: Option<RunCompletedLine>,
    pub(super) export_count: u64,
    /// Lines of kinds that this version only reads.
    pub(super) others: BTreeMap<String, u64>,
}

/// How the uploads went, all together.
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
    pub(super) fn note(&mut self, line: &LedgerLine, body: &LineBody) {
        self.line_count += 1;
        name(&mut self.hosts, &line.host);
        match body {
            LineBody::Upload(file) if !file.source.sentinel => self.note_file(file, true),
            LineBody::FoundAgain(file) if !file.source.sentinel => self.note_file(file, false),
            LineBody::Upload(_) | LineBody::FoundAgain(_) => {}
            LineBody::Exported(_) => self.export_count += 1,
            LineBody::RunCompleted(run) => {
                let RunCompletedLine { wave, file_count, bytes, given_up_count, .. } = &**run;
                let given_up = match given_up_count {
                    0 => String::new(),
                    count => format!(", {count} uploads given up"),
                };
                let bytes = render::bytes(*bytes);
                let text =
                    format!("{}, wave {wave}: {file_count} files, {bytes}{given_up}", line.at);
                name(&mut self.completions, &text);
                self.completed = Some((**run).clone());
            }
            LineBody::Other { kind, .. } => *self.others.entry(kind.clone()).or_default() += 1,
        }
    }

    fn note_file(&mut self, file: &UploadLine, was_sent: bool) {
        self.file_count += 1;
        file.source.root.iter().for_each(|root| name(&mut self.roots, root));
        self.course.note(file, was_sent);
        let destination = &file.target.destination;
        let totals = self.destinations.entry(destination.name.clone()).or_default();
        totals.platform.clone_from(&destination.platform);
        totals.address = format!("{} at {}", destination.container(), destination.base_url);
        totals.file_count += 1;
        totals.bytes = totals.bytes.saturating_add(file.source.size);
    }
}

impl CourseTotals {
    fn note(&mut self, file: &UploadLine, was_sent: bool) {
        let course = &file.course;
        self.begun_at = [self.begun_at, course.begun_at].into_iter().flatten().min();
        self.verified_at = self.verified_at.max(course.verified_at);
        self.found_count += u64::from(!was_sent);
        self.interrupted_count += u64::from(course.attempt_count > 0);
        self.attempt_count = self.attempt_count.saturating_add(course.attempt_count);
        self.bytes_sent = self.bytes_sent.saturating_add(course.bytes_sent);
        self.bytes_sent_again = self.bytes_sent_again.saturating_add(course.bytes_sent_again);
    }

    /// Says what was interrupted, and what it cost.
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

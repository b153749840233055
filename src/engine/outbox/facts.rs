//! Which facts people are told of.

use std::time::Duration;

use super::daily::Item;
use super::group::{Files, GroupKey};
use super::words::Message;
use crate::engine::Engine;
use crate::engine::RunKey;
use crate::engine::gate::Gate;
use crate::engine::intake::CompletedFile;
use crate::engine::ticket::Ticket;
use crate::engine::turn::Turn;
use crate::model::{
    ByteCount, DestinationName, DirectoryName, DisposalDoubt, Fact, NoticeKind, ParkReason, Record,
    SourcePath, UploadId,
};

/// What waits longer for what passes by itself is told to people.
const STUCK_AFTER: Duration = Duration::from_hours(1);

impl Engine {
    /// Returns what this turn's records park.
    pub(super) fn parked_in(&self, turn: &Turn) -> Vec<(GroupKey, Files)> {
        let file = |record: &Record| {
            if let Record::Admit(admission) = record {
                let reason = admission.parked?;
                let to = (&admission.drop, &admission.destination);
                let of = (&admission.path, admission.fingerprint.size);
                return Some(parked((admission.id, reason), to, of, reason.sentence()));
            }
            let Record::Upload(id, Fact::Parked { reason, detail, .. }) = record else {
                return None;
            };
            let admission = &self.uploads.get(id)?.admission;
            let to = (&admission.drop, &admission.destination);
            Some(parked((*id, *reason), to, (&admission.path, admission.fingerprint.size), detail))
        };
        turn.records().iter().filter_map(file).collect()
    }

    /// Returns the uploads whose file cannot be read for as long as [`STUCK_AFTER`] by the end of the wait
    /// that begins in this turn, once each.
    pub(super) fn stuck_in(&mut self, turn: &Turn) -> Vec<(GroupKey, Files)> {
        let mut stuck = Vec::new();
        for record in turn.records() {
            let Record::Upload(id, Fact::AttemptFailed { failure, retry_at, .. }) = record else {
                continue;
            };
            let (Some(until), Some(upload)) = (retry_at, self.uploads.get_mut(id)) else {
                continue;
            };
            let Some(since) = upload.life.failing_since else { continue };
            let waited = turn.now.monotonic.since(since) + turn.now.wall.until(*until);
            if waited < STUCK_AFTER || std::mem::replace(&mut upload.life.is_told_stuck, true) {
                continue;
            }
            let Ticket { drop, destination, path, fingerprint, .. } = &upload.admission;
            let word = failure.kind.as_str().to_owned();
            let key = GroupKey::Stuck(drop.clone(), destination.clone(), word);
            let why = vec![failure.message.clone()];
            stuck.push((key, Files::one(*id, (path, fingerprint.size), why)));
        }
        stuck
    }

    /// Tells that a run was completed.
    pub(in crate::engine) fn note_completed(&mut self, key: &RunKey, turn: &mut Turn) {
        let Some(intake) = self.intakes.get(&key.0) else { return };
        let Some(row) = intake.runs().row(&key.1) else { return };
        let message = Message::completed(row, &intake.settings().destinations);
        let item = Item {
            drop: key.0.as_str().to_owned(),
            name: Some(row.name.to_string()),
            file_count: row.file_count,
            size_bytes: row.size.0,
        };
        self.outbox.complete(&message, &item, turn);
    }

    /// Tells that a file which is a drop of its own is at every destination.
    pub(in crate::engine) fn note_file(
        &mut self,
        drop: &DirectoryName,
        done: &CompletedFile,
        turn: &mut Turn,
    ) {
        let Some(intake) = self.intakes.get(drop) else { return };
        if !self.outbox.is_wanted(NoticeKind::RunCompleted) {
            return;
        }
        let names = intake.settings().destinations.iter();
        let names = names.map(|name| name.as_str().to_owned()).collect();
        let file = Files::one(done.upload, (&done.path, done.size), names);
        let item = Item {
            drop: drop.as_str().to_owned(),
            name: None,
            file_count: 1,
            size_bytes: done.size.0,
        };
        self.outbox.gather(GroupKey::Completed(drop.clone()), file, turn);
        self.outbox.add_to_digests(&item, turn);
    }

    /// Tells why a run that is to be disposed of stays.
    pub(in crate::engine) fn note_doubt(
        &mut self,
        key: &RunKey,
        doubt: &DisposalDoubt,
        turn: &mut Turn,
    ) {
        let kind = match doubt {
            DisposalDoubt::ReceiptDamaged(_) => NoticeKind::ReceiptsDamaged,
            DisposalDoubt::GoneAtDestination(_) => NoticeKind::GoneAtDestination,
        };
        self.outbox.trouble(&Message::doubt(kind, key, Some(doubt.text())), turn);
    }

    /// Tells that nothing speaks against the disposal of a run any more, when something did.
    pub(in crate::engine) fn end_doubts(&mut self, key: &RunKey, turn: &mut Turn) {
        for kind in [NoticeKind::ReceiptsDamaged, NoticeKind::GoneAtDestination] {
            self.outbox.trouble(&Message::doubt(kind, key, None), turn);
        }
    }

    /// Tells that a drop directory is deaf; or heard again, once a scan of this life has seen it.
    pub(in crate::engine) fn note_hearing(&mut self, drop: &DirectoryName, turn: &mut Turn) {
        let Some(intake) = self.intakes.get(drop) else { return };
        let reason = intake.health().unreadable_reason();
        let was_told = self.outbox.is_troubled(NoticeKind::Deaf, drop.as_str());
        if reason.is_some() != was_told && (reason.is_some() || intake.health().is_scanned()) {
            let message = Message::hearing(drop, &intake.settings().directory, reason);
            self.outbox.trouble(&message, turn);
        }
    }

    /// Tells that a destination takes our calls again, when it was said not to.
    pub(in crate::engine) fn note_answering(&mut self, name: &DestinationName, turn: &mut Turn) {
        // An answer that was on its way when the destination was closed says nothing.
        if !self.gates.get(name).is_some_and(Gate::is_open) {
            return;
        }
        self.end_outage(name, turn);
        if self.outbox.is_troubled(NoticeKind::DestinationHalted, name.as_str()) {
            self.outbox.trouble(&Message::halt(name, None), turn);
        }
    }
}

/// One file that parked, and what it is grouped by.
pub(super) fn parked(
    what: (UploadId, ParkReason),
    to: (&DirectoryName, &DestinationName),
    of: (&SourcePath, ByteCount),
    detail: &str,
) -> (GroupKey, Files) {
    let (id, reason) = what;
    let why = vec![reason.sentence().to_owned(), detail.to_owned()];
    let key = GroupKey::Parked(to.0.clone(), to.1.clone(), reason.as_str().to_owned());
    (key, Files::one(id, of, why))
}

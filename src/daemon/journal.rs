//! One line for each change of an upload's state, made from the records that make the change, so that
//! the log and the rows cannot disagree.
//!
//! An upload's first failures are worth an info line; from the third on it is degraded, and a warning;
//! parking needs a person, and is an error.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    ByteCount, DamagedLedger, DestinationName, DestinationState, DirectoryHealth, DirectoryName,
    Fact, Failure, Learned, LedgerFinding, OpenCleanup, OrderRecord, PartNumber, Record, RunReason,
    RunRow, RunState, SourcePath, UploadId, WatchState, WrittenLine,
};

/// From this failure of an upload on, a failure is a warning.
const WARN_FROM: u32 = 3;

/// What the log must remember between lines.
#[derive(Debug, Default)]
pub(super) struct Journal {
    failures: BTreeMap<UploadId, u32>,
    /// What was last said of each run that has not completed.
    runs: BTreeMap<(DirectoryName, SourcePath), (RunState, Option<RunReason>)>,
    pub(super) deaf: BTreeSet<DirectoryName>,
    /// What was last said of each destination.
    pub(super) destinations: BTreeMap<DestinationName, (DestinationState, Option<String>)>,
    /// Bytes that went over the wire in parts that were accepted, since the start.
    pub(super) sent: ByteCount,
}

impl Journal {
    /// Logs what is about to be committed.
    pub(super) fn note(&mut self, records: &[Record]) {
        for record in records {
            match record {
                Record::Admit(admission) => {
                    let (upload_id, path) = (admission.id.0, admission.path.to_string());
                    tracing::info!(upload_id, path, destination = %admission.destination, "admitted");
                }
                Record::Upload(id, fact) => self.note_fact(*id, fact),
                Record::DestinationHealth { destination, state, reason, .. } => {
                    self.note_destination(destination, *state, reason.as_deref());
                }
                Record::DestinationLearned { destination, what, detail, .. } => {
                    note_learned(destination, *what, detail);
                }
                Record::CleanupDelayed { what, failure, .. } => note_cleanup(what, failure),
                Record::DirectoryHealth(health) => self.note_drop(health),
                Record::RunFinished { destination, name, .. } => {
                    tracing::info!(%destination, path = name, "all of the drop is there");
                }
                Record::Unit(row) => self.note_run(row),
                Record::LedgerAppended(written) => note_ledger(written),
                Record::LedgerChecked(LedgerFinding { ledger, damage }) => match damage {
                    Some(why) => tracing::error!("the ledger {ledger} is damaged: {why}"),
                    None => tracing::info!("the ledger {ledger} is whole again"),
                },
                Record::DisposalDelayed { run, failure, .. } => note_disposal(run, failure),
                Record::DisposalEnded { run, is_done: true, .. } => {
                    tracing::info!(path = run.to_string(), "its source is disposed of");
                }
                Record::NoticeDelayed { failure, .. } => {
                    let kind = failure.kind.as_str();
                    tracing::warn!(kind, "a notice is not accepted yet: {}", failure.message);
                }
                Record::NoticeGivenUp { id, failure, .. } => {
                    let kind = failure.kind.as_str();
                    tracing::error!(kind, "notice {} is given up: {}", id.0, failure.message);
                }
                Record::NoticeSent { id, .. } => tracing::info!("notice {} is sent", id.0),
                Record::Notice(notice) => {
                    let kind = notice.kind.as_str();
                    tracing::debug!(kind, "notice {} of {}", notice.id.0, notice.group.as_str());
                }
                Record::NoticeFiles { id, file_count, .. } => {
                    tracing::debug!("notice {} is about {file_count} files more", id.0);
                }
                Record::Target { id, address } => tracing::debug!("target {id} is {address}"),
                Record::Resend { destination, before, .. } => {
                    tracing::info!(%destination, "what was completed before upload {before} at other targets is sent again");
                }
                Record::PlaceAwaited { upload, holder } => note_wait(*upload, *holder),
                Record::Order(order) => note_order(order),
                Record::RunWords { .. }
                | Record::DisposalQueued(_)
                | Record::DisposalIntended { .. }
                | Record::DisposalEnded { is_done: false, .. }
                | Record::RunOpened { .. }
                | Record::CleanupQueued { .. }
                | Record::CleanupDone { .. }
                | Record::Configured { .. }
                | Record::DestinationClock { .. }
                | Record::TargetsInForce { .. }
                | Record::PlaceHeld { .. }
                | Record::Ignored { .. }
                | Record::Touched { .. }
                | Record::Absent { .. }
                | Record::Moved { .. }
                | Record::NotIgnored { .. } => {}
            }
        }
    }

    /// One line for each change of a destination's state, or of the reason for it; not for each try.
    fn note_destination(
        &mut self,
        destination: &DestinationName,
        state: DestinationState,
        reason: Option<&str>,
    ) {
        let said = (state, reason.map(str::to_owned));
        // It is asked at once: the answer is worth a line.
        if state == DestinationState::Unknown {
            return;
        }
        if self.destinations.get(destination) == Some(&said) {
            return;
        }
        let (word, reason) = (state.as_str(), reason.unwrap_or("it is tried"));
        tracing::info!(%destination, "destination is {word}: {reason}");
        self.destinations.insert(destination.clone(), said);
    }

    /// One line for each change of a run's state, or of the reason why it does not change.
    fn note_run(&mut self, row: &RunRow) {
        let key = (row.drop.clone(), row.name.clone());
        let said = (row.state, row.reason.clone());
        if self.runs.get(&key) == Some(&said) {
            return;
        }
        let (path, state) = (row.name.to_string(), row.state.as_str());
        let ended =
            row.outcome.as_ref().map(|outcome| format!("the run ended as {}", outcome.word));
        let why = row
            .reason
            .as_ref()
            .map(|reason| reason.text.clone())
            .or(ended)
            .map_or(String::new(), |why| format!(": {why}"));
        tracing::info!(path, "drop is {state}{why}");
        match row.state {
            RunState::Completed | RunState::Gone | RunState::Skipped => self.runs.remove(&key),
            RunState::Open | RunState::Closed => self.runs.insert(key, said),
        };
    }

    fn note_drop(&mut self, health: &DirectoryHealth) {
        let (watch, reason) = (health.watch.as_str(), health.reason.as_deref());
        let (path, reason) = (&health.directory, reason.unwrap_or("nothing to say"));
        let is_deaf = health.watch == WatchState::Deaf;
        if is_deaf && self.deaf.insert(health.drop.clone()) {
            tracing::error!(path, "drop directory is deaf: {reason}");
        } else if !is_deaf && self.deaf.remove(&health.drop) {
            tracing::info!(path, "drop directory is heard again");
        } else {
            tracing::debug!(path, "drop directory: {watch}, {reason}");
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "every other fact is a line for debugging")]
    fn note_fact(&mut self, id: UploadId, fact: &Fact) {
        let upload_id = id.0;
        match fact {
            Fact::PartAccepted { sent, .. } => {
                self.sent.0 += sent.0;
                tracing::debug!(upload_id, "{}", fact.name());
            }
            Fact::Begun { remote, .. } => {
                tracing::info!(upload_id, part_count = remote.part_count, "begun");
            }
            Fact::Completed { .. } => tracing::info!(upload_id, "completed"),
            Fact::FoundPresent { .. } => {
                tracing::info!(upload_id, "the same file is there: nothing is sent");
            }
            Fact::ReceiptWritten { written, .. } => {
                note_ledger(written);
                self.failures.remove(&id);
                tracing::info!(upload_id, "verified, and its receipt is durable");
            }
            Fact::AttemptFailed { act, part, failure, .. } => {
                self.note_failure(id, act, *part, failure)
            }
            Fact::Exported { .. } => tracing::info!(upload_id, "exported"),
            Fact::RemoteGone => {
                tracing::warn!(upload_id, "the platform does not have the upload: it begins again");
            }
            Fact::Retargeted { .. } => {
                tracing::warn!(
                    upload_id,
                    "its destination has another target: it begins anew there"
                );
            }
            Fact::Parked { reason, detail, .. } => {
                tracing::error!(upload_id, "parked because {}: {detail}", reason.sentence());
            }
            Fact::Abandoned { .. } => {
                self.failures.remove(&id);
                tracing::warn!(upload_id, "given up by the operator");
            }
            Fact::SourceChanged { .. } => {
                self.failures.remove(&id);
                tracing::warn!(upload_id, "the source changed: its new version is a new upload");
            }
            other => tracing::debug!(upload_id, "{}", other.name()),
        }
    }

    fn note_failure(
        &mut self,
        id: UploadId,
        act: &str,
        part: Option<PartNumber>,
        failure: &Failure,
    ) {
        let count = self.failures.entry(id).or_default();
        *count += 1;
        let (upload_id, attempt, kind) = (id.0, *count, failure.kind.as_str());
        let (part, status) = (part.map(PartNumber::get), failure.status);
        let request_id = failure.request_id.as_deref();
        if attempt < WARN_FROM {
            tracing::info!(
                upload_id,
                part,
                attempt,
                kind,
                status,
                request_id,
                "{act}: {}",
                failure.message
            );
        } else {
            tracing::warn!(
                upload_id,
                part,
                attempt,
                kind,
                status,
                request_id,
                "{act}: {}",
                failure.message
            );
        }
    }
}

fn note_learned(destination: &DestinationName, what: Learned, detail: &str) {
    match what {
        Learned::Works | Learned::ETagsAreMd5s => {
            tracing::debug!(%destination, "{}", what.sentence())
        }
        Learned::ETagsAreNoDigests
        | Learned::FinalDigestsDiffer
        | Learned::NoConditions
        | Learned::NoTags
        | Learned::NoObjectSize
        | Learned::NoContentMd5 => {
            tracing::warn!(%destination, "{}: {detail}", what.sentence());
        }
    }
}

/// Logs that an upload waits for the place that another one has, or does not any more.
fn note_wait(upload: UploadId, holder: Option<UploadId>) {
    let upload_id = upload.0;
    match holder {
        Some(holder) => {
            tracing::info!(upload_id, "waits for upload {holder}, which has the same place");
        }
        None => tracing::debug!(upload_id, "waits for no other upload any more"),
    }
}

/// Logs that a ledger was found damaged.
fn note_ledger(written: &WrittenLine) {
    if let Some(DamagedLedger { ledger, why }) = &written.damaged {
        tracing::error!("the ledger {ledger} is damaged: {why}; what comes goes into the next one");
    }
}

fn note_cleanup(what: &OpenCleanup, failure: &Failure) {
    let (destination, kind) = (&what.destination, failure.kind.as_str());
    tracing::warn!(%destination, kind, "a remote upload is not removed yet: {failure}");
}

fn note_disposal(run: &SourcePath, failure: &Failure) {
    let (path, kind) = (run.to_string(), failure.kind.as_str());
    tracing::warn!(path, kind, "its source is not disposed of: {failure}");
}

fn note_order(order: &OrderRecord) {
    match order {
        OrderRecord::Stands { standing, scope, .. } => {
            tracing::info!("{scope} is {} by an order", standing.as_str());
        }
        OrderRecord::Over { standing, scope } => {
            tracing::info!("{scope} is not {} any more", standing.as_str());
        }
        // What holds is said where it is put into force.
        OrderRecord::Bandwidth { .. } => {}
    }
}

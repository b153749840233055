//! One log line for each change of an upload's state, made from the records of the change, so that
//! the log and the rows cannot disagree.
//!
//! An upload's first failures are info lines; from the third on a failure is a warning; parking
//! needs a person, and is an error.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    ByteCount, DamagedLedger, DestinationName, DestinationState, DirectoryHealth, DirectoryName,
    Fact, Failure, Learned, LedgerFinding, OpenCleanup, OrderRecord, PartNumber, Record, RunReason,
    RunRow, RunState, Shown, SourcePath, UploadId, WatchState, WrittenLine,
};

/// From this failure of an upload on, a failure is a warning.
const WARN_FROM: u32 = 3;

/// Returns the path and destination of an open upload.
pub(super) type NameOf<'a> = &'a dyn Fn(UploadId) -> Option<String>;

/// State between log lines.
#[derive(Debug, Default)]
pub(super) struct Journal {
    failures: BTreeMap<UploadId, u32>,
    /// The last logged state of each run that has not completed.
    runs: BTreeMap<(DirectoryName, SourcePath), (RunState, Option<RunReason>)>,
    pub(super) deaf: BTreeSet<DirectoryName>,
    /// The last logged state of each destination.
    pub(super) destinations: BTreeMap<DestinationName, (DestinationState, Option<String>)>,
    /// Bytes of accepted parts, since the start.
    pub(super) sent: ByteCount,
}

impl Journal {
    /// Logs the records of the next commit.
    pub(super) fn note(&mut self, records: &[Record], name_of: NameOf<'_>) {
        for record in records {
            match record {
                Record::Admit(admission) => {
                    let (upload_id, path) = (admission.id.0, admission.file.path.to_string());
                    let destination = &admission.destination;
                    tracing::debug!(upload_id, "{path} is to go to {destination}");
                }
                Record::Upload(id, fact) => self.note_fact(*id, fact, name_of),
                Record::DestinationHealth { destination, state, reason, .. } => {
                    self.note_destination(destination, *state, reason.as_deref());
                }
                Record::DestinationLearned { destination, what, detail, .. } => {
                    note_learned(destination, *what, detail);
                }
                Record::CleanupDelayed { what, failure, .. } => note_cleanup(what, failure),
                Record::DirectoryHealth(health) => self.note_drop(health),
                Record::RunFinished { destination, name, .. } => {
                    tracing::info!(%destination, "{} is finished at {destination}", Shown(name));
                }
                Record::Run(row) => self.note_run(row),
                Record::LedgerAppended(written) => note_ledger(written),
                Record::LedgerChecked(LedgerFinding { ledger, damage }) => match damage {
                    Some(why) => tracing::error!("the ledger {ledger} is damaged: {why}"),
                    None => tracing::info!("the ledger {ledger} is whole again"),
                },
                Record::DisposalDelayed { run, failure, .. } => note_disposal(run, failure),
                Record::DisposalEnded { run, is_done: true, .. } => {
                    tracing::info!("the source of {run} is disposed of");
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
                | Record::DirectoryInForce { .. }
                | Record::PlaceHeld { .. }
                | Record::Ignored { .. }
                | Record::Touched { .. }
                | Record::Absent { .. }
                | Record::Moved { .. }
                | Record::NotIgnored { .. } => {}
            }
        }
    }

    /// Logs each change of a destination's state: a warning when it does not accept uploads, and a
    /// line when that has ended. Other reasons for the same state are debug lines.
    fn note_destination(
        &mut self,
        destination: &DestinationName,
        state: DestinationState,
        reason: Option<&str>,
    ) {
        let said = (state, reason.map(str::to_owned));
        // It is asked at once, and the answer is logged.
        if state == DestinationState::Unknown {
            return;
        }
        if self.destinations.get(destination) == Some(&said) {
            return;
        }
        let (word, why) = (state.as_str(), reason.map_or(String::new(), |why| format!(": {why}")));
        let before = self.destinations.insert(destination.clone(), said).map(|(state, _)| state);
        match state {
            _ if before == Some(state) => {
                tracing::debug!(%destination, "destination {destination} is still {word}{why}");
            }
            DestinationState::Unreachable | DestinationState::Halted => {
                tracing::warn!(%destination, "destination {destination} is {word}{why}");
            }
            DestinationState::Unknown => {
                tracing::debug!(%destination, "destination {destination} is not asked yet{why}");
            }
            DestinationState::Ok | DestinationState::Throttled => {
                tracing::info!(%destination, "destination {destination} is {word}{why}");
            }
        }
    }

    /// Logs each change of a run's state, or of the reason why it waits.
    fn note_run(&mut self, row: &RunRow) {
        let key = (row.drop.clone(), row.name.clone());
        let said = (row.state, row.reason.clone());
        if self.runs.get(&key) == Some(&said) {
            return;
        }
        let (name, drop, state) = (&row.name, &row.drop, row.state.as_str());
        let ended =
            row.outcome.as_ref().map(|outcome| format!("the run ended as {}", outcome.word));
        let why = row
            .reason
            .as_ref()
            .map(|reason| reason.text.clone())
            .or(ended)
            .map_or(String::new(), |why| format!(": {why}"));
        match row.state {
            RunState::Completed | RunState::Gone | RunState::Skipped => {
                let size = (row.files.count, row.files.size);
                tracing::info!(
                    "run {name} of {drop} is {state}{why}: {} files, {}",
                    size.0,
                    size.1
                );
            }
            RunState::Open | RunState::Closed => {
                tracing::debug!("run {name} of {drop} is {state}{why}");
            }
        }
        self.runs.insert(key, said);
    }

    fn note_drop(&mut self, health: &DirectoryHealth) {
        let (watch, reason) = (health.watch.as_str(), health.reason.as_deref());
        let (path, drop) = (&health.directory, &health.drop);
        let reason = reason.unwrap_or("nothing to say");
        let is_deaf = health.watch == WatchState::Deaf;
        if is_deaf && self.deaf.insert(health.drop.clone()) {
            tracing::error!(path, "drop directory {drop} is deaf: {reason}");
        } else if !is_deaf && self.deaf.remove(&health.drop) {
            tracing::info!(path, "drop directory {drop} can be read again");
        } else {
            tracing::debug!(path, "drop directory {drop}: {watch}, {reason}");
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "every other fact is a line for debugging")]
    fn note_fact(&mut self, id: UploadId, fact: &Fact, name_of: NameOf<'_>) {
        let upload_id = id.0;
        let name = || name_of(id).unwrap_or_else(|| format!("upload {id}"));
        match fact {
            Fact::PartAccepted { sent, .. } => {
                self.sent.0 += sent.0;
                tracing::debug!(upload_id, "{}", fact.name());
            }
            Fact::Begun { remote, .. } => {
                let part_count = remote.part_count;
                tracing::debug!(upload_id, part_count, "begun");
            }
            Fact::Completed { .. } => tracing::debug!(upload_id, "completed"),
            Fact::FoundPresent { .. } => {
                tracing::debug!(upload_id, "the same file is there: nothing is sent");
            }
            Fact::ReceiptWritten { written, .. } => {
                note_ledger(written);
                self.failures.remove(&id);
                tracing::debug!(upload_id, "its receipt is recorded");
            }
            Fact::AttemptFailed { act, part, failure, .. } => {
                self.note_failure(id, &format!("{}: {act}", name()), *part, failure)
            }
            Fact::Exported { .. } => tracing::debug!(upload_id, "exported"),
            Fact::RemoteGone => {
                let name = name();
                tracing::warn!(
                    upload_id,
                    "{name} begins again: its upload there cannot be completed"
                );
            }
            Fact::Retargeted { .. } => {
                let name = name();
                tracing::warn!(
                    upload_id,
                    "{name} starts again: its destination has another target"
                );
            }
            Fact::Parked { reason, detail, .. } => {
                let (name, sentence) = (name(), reason.sentence());
                tracing::error!(upload_id, "{name} is parked because {sentence}: {detail}");
            }
            Fact::Abandoned { .. } => {
                self.failures.remove(&id);
                tracing::warn!(upload_id, "{} is given up by the operator", name());
            }
            Fact::SourceChanged { .. } => {
                self.failures.remove(&id);
                let name = name();
                tracing::warn!(
                    upload_id,
                    "{name}: the source changed: its new version is a new upload"
                );
            }
            other => tracing::debug!(upload_id, "{}", other.name()),
        }
    }

    fn note_failure(
        &mut self,
        id: UploadId,
        doing: &str,
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
                "{doing}: {}",
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
                "{doing}: {}",
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
        | Learned::NoContentMd5
        | Learned::NoETags
        | Learned::NoPartLists => {
            tracing::warn!(%destination, "{}: {detail}", what.sentence());
        }
    }
}

/// Logs that an upload waits for the place of another one, or does not any more.
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
    tracing::warn!(path, kind, "the source of {run} is not disposed of: {failure}");
}

fn note_order(order: &OrderRecord) {
    match order {
        OrderRecord::Stands { standing, scope, .. } => {
            tracing::info!("{scope} is {} by an order", standing.as_str());
        }
        OrderRecord::Over { standing, scope } => {
            tracing::info!("{scope} is not {} any more", standing.as_str());
        }
        // The rate is logged where it takes effect.
        OrderRecord::Bandwidth { .. } => {}
    }
}

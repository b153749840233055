//! The law of an upload: which fact may follow which state, and what it leads to.
//!
//! Only [`transition`] knows. The engine applies it to memory, the store's writer to rows, and recovery to what it
//! loads, so the three cannot disagree. The acts that follow are decided in `engine/transfers/upload.rs`.
//!
//! An upload has a *stage*, which only facts move, and a *hold* on top of it, which says whether it
//! may continue. Parking and waiting keep the stage, so a stop loses nothing.
//!
//! ```text
//! Queued ─► Beginning ─► Sending ─► Completing ─► Completed ─► Verified ─► Receipted
//!    └──────── found present ───────────────────────▲
//! any before Completed ─► Ended(SourceChanged); any before Receipted ─► Ended(Abandoned)
//! Beginning, Sending, Completing ─► Queued when the platform lost the upload
//! any before Receipted ─► Queued when the destination has another target
//! Completed ─► Queued when the completed file is not what was sent
//! ```
//! While it is Verified, its file may be exported: intended ─► started ─► done, or failed and retried.

mod part;

use serde::{Deserialize, Serialize};

pub use self::part::{PartState, part_transition};

use super::bytes::ByteCount;
use super::digest::ETagMode;
use super::export::{Export, ExportStep};
use super::fact::Fact;
use super::failure::{FailedAttempts, ParkReason};
use super::remote::{RemoteFile, RemoteUpload};
use super::target::{RenameStep, Supersession};
use super::time::WallTime;

/// The durable state of one upload, without its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadState {
    pub stage: Stage,
    pub hold: Hold,
    pub etag_mode: ETagMode,
    pub accepted_count: u32,
    /// Parts that were reported to the platform.
    pub reported_count: u32,
    /// How often the platform lost the upload.
    pub restart_count: u32,
    pub failed: FailedAttempts,
    pub described: bool,
    /// The whole source was digested, where the receipt requires that.
    pub digested: bool,
    pub wire: WireBytes,
    /// Its export, once one was intended.
    pub export: Option<Export>,
    /// The earlier version that it replaces.
    pub supersedes: Option<Box<Supersession>>,
}

/// The traffic of an upload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireBytes {
    /// Bytes sent, also without effect; without those in flight.
    pub sent: ByteCount,
    /// Bytes in flight at the last count. After a kill they count as sent.
    pub in_flight: ByteCount,
}

impl UploadState {
    /// Returns the word that status uses for it, as the column `state` of its row has it.
    pub fn word(&self) -> &'static str {
        match (&self.stage, self.hold) {
            (Stage::Receipted { .. }, _) => "completed",
            (Stage::Ended(_), _) => "abandoned",
            (_, Hold::Parked { .. }) => "parked",
            (_, Hold::Waiting { .. }) => "waiting",
            (Stage::Queued, Hold::None) => "queued",
            (
                Stage::Beginning { .. }
                | Stage::Sending { .. }
                | Stage::Completing { .. }
                | Stage::Completed { .. }
                | Stage::Verified { .. },
                Hold::None,
            ) => "sending",
        }
    }

    pub fn admitted(parked: Option<ParkReason>) -> Self {
        Self {
            stage: Stage::Queued,
            hold: parked.map_or(Hold::None, |reason| Hold::Parked { reason }),
            etag_mode: ETagMode::Unknown,
            accepted_count: 0,
            reported_count: 0,
            restart_count: 0,
            failed: FailedAttempts::default(),
            described: false,
            digested: false,
            wire: WireBytes::default(),
            export: None,
            supersedes: None,
        }
    }
}

impl UploadState {
    /// Returns how many bytes were sent more than once, given how many are accepted.
    pub fn bytes_sent_again(&self, accepted: ByteCount) -> ByteCount {
        ByteCount(self.wire.sent.0.saturating_sub(accepted.0))
    }

    /// Moves bytes from in flight to sent.
    fn landed(&mut self, sent: ByteCount) {
        self.wire.sent = ByteCount(self.wire.sent.0.saturating_add(sent.0));
        // This may also subtract bytes of other parts that were sent since the last count; the next
        // count, a second later, corrects it.
        self.wire.in_flight = ByteCount(self.wire.in_flight.0.saturating_sub(sent.0));
    }

    fn attempt_failed(&mut self, retry_at: Option<WallTime>, sent: ByteCount, at: WallTime) {
        self.failed.since.get_or_insert(at);
        self.failed.count = self.failed.count.saturating_add(1);
        self.landed(sent);
        if let (Some(until), Hold::None | Hold::Waiting { .. }) = (retry_at, self.hold) {
            self.hold = Hold::Waiting { until };
        }
    }

    /// Returns the next rename before the earlier version of its file is replaced.
    pub fn rename_step(&self) -> Option<RenameStep> {
        self.supersedes.as_ref()?.renames
    }

    /// Returns whether its file is complete but has not taken the place of the earlier version.
    pub fn is_renaming(&self) -> bool {
        matches!(self.stage, Stage::Verified { .. }) && self.rename_step().is_some()
    }

    /// Returns whether an export was intended and is not done.
    pub fn is_exporting(&self) -> bool {
        self.export.as_ref().is_some_and(|export| export.step != ExportStep::Done)
    }
}

/// The progress of an upload. Each stage carries its own data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Admitted; nothing exists remotely.
    Queued,
    /// We asked for a remote upload, or were about to.
    Beginning {
        since: WallTime,
    },
    Sending {
        remote: RemoteUpload,
    },
    /// We asked to put the parts together, or were about to.
    Completing {
        remote: RemoteUpload,
        since: WallTime,
    },
    Completed {
        file: RemoteFile,
        /// The layout it was sent in; `None` when the file was already there.
        remote: Option<RemoteUpload>,
    },
    /// The remote file was compared with what was sent.
    Verified {
        file: RemoteFile,
        /// The layout it was sent in; `None` when the file was already there.
        remote: Option<RemoteUpload>,
    },
    /// Its receipt is durable: the good end.
    Receipted {
        file: RemoteFile,
    },
    Ended(EndReason),
}

impl Stage {
    /// Returns the word in the database.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Beginning { .. } => "beginning",
            Self::Sending { .. } => "sending",
            Self::Completing { .. } => "completing",
            Self::Completed { .. } => "completed",
            Self::Verified { .. } => "verified",
            Self::Receipted { .. } => "receipted",
            Self::Ended(EndReason::SourceChanged) => "source-changed",
            Self::Ended(EndReason::Abandoned) => "abandoned",
        }
    }

    /// Returns the remote upload that has parts or may have them.
    pub fn remote(&self) -> Option<&RemoteUpload> {
        match self {
            Self::Sending { remote } | Self::Completing { remote, .. } => Some(remote),
            Self::Completed { remote, .. } | Self::Verified { remote, .. } => remote.as_ref(),
            Self::Queued | Self::Beginning { .. } | Self::Receipted { .. } | Self::Ended(_) => None,
        }
    }

    /// Returns whether the upload has ended.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Receipted { .. } | Self::Ended(_))
    }
}

/// Ends other than a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EndReason {
    /// The source is another version.
    SourceChanged,
    Abandoned,
}

/// Whether an upload may continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    None,
    Waiting {
        until: WallTime,
    },
    /// Not until someone or something acts.
    Parked {
        reason: ParkReason,
    },
}

/// A fact that the law does not allow in this state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{fact} is not allowed while an upload is {stage}")]
pub struct IllegalFact {
    pub stage: &'static str,
    pub fact: String,
}

/// Returns the state after one fact, or an error when the law forbids the fact.
pub fn transition(state: &UploadState, fact: &Fact) -> Result<UploadState, IllegalFact> {
    let mut next = state.clone();
    match fact {
        Fact::BeginIntended { .. }
        | Fact::Begun { .. }
        | Fact::CompleteIntended { .. }
        | Fact::CompleteWithdrawn
        | Fact::Completed { .. }
        | Fact::FoundPresent { .. }
        | Fact::Verified { .. }
        | Fact::ReceiptWritten { .. }
        | Fact::RemoteGone
        | Fact::Retargeted { .. }
        | Fact::SourceChanged { .. }
        | Fact::Abandoned { .. } => {
            let stage = next_stage(state, fact).ok_or_else(|| illegal(state, fact))?;
            enter(&mut next, stage, fact);
        }
        Fact::PartAccepted { .. } | Fact::PartsReported { .. } | Fact::PartReopened { .. } => {
            count_parts(&mut next, fact).ok_or_else(|| illegal(state, fact))?;
        }
        Fact::ETagModeLearned { mode } if matches!(state.stage, Stage::Sending { .. }) => {
            next.etag_mode = *mode;
        }
        Fact::Renamed { .. } if state.stage.is_before_completed() => next.supersedes = None,
        Fact::NameDecided { .. } | Fact::Retouched { .. } if state.stage.is_before_completed() => {}
        Fact::Superseding { by, name } => {
            supersede(&mut next, by.as_ref(), name.as_ref()).ok_or_else(|| illegal(state, fact))?;
        }
        Fact::PartSizeChanged { .. } if state.stage == Stage::Queued => {}
        Fact::Described if matches!(state.stage, Stage::Completed { .. }) => next.described = true,
        Fact::Digested { .. } if matches!(state.stage, Stage::Verified { .. }) => {
            next.digested = true;
        }
        Fact::ExportIntended { .. }
        | Fact::ExportStarted { .. }
        | Fact::ExportFailed { .. }
        | Fact::Exported { .. } => {
            next.export = Some(next_export(state, fact).ok_or_else(|| illegal(state, fact))?);
        }
        Fact::AttemptFailed { retry_at, sent, at, .. } if !state.stage.is_end() => {
            next.attempt_failed(*retry_at, *sent, *at);
        }
        Fact::InFlight { bytes } if !state.stage.is_end() => next.wire.in_flight = *bytes,
        Fact::SentInVain { bytes } if !state.stage.is_end() => next.landed(*bytes),
        Fact::Parked { reason, .. } if !state.stage.is_end() => {
            next.hold = Hold::Parked { reason: *reason };
        }
        Fact::Released if !state.stage.is_end() => {
            if matches!(state.hold, Hold::Parked { .. }) {
                next.failed.count = 0;
            }
            next.hold = Hold::None;
        }
        Fact::ETagModeLearned { .. }
        | Fact::Renamed { .. }
        | Fact::NameDecided { .. }
        | Fact::Retouched { .. }
        | Fact::PartSizeChanged { .. }
        | Fact::Described
        | Fact::Digested { .. }
        | Fact::InFlight { .. }
        | Fact::SentInVain { .. }
        | Fact::AttemptFailed { .. }
        | Fact::Parked { .. }
        | Fact::Released => return Err(illegal(state, fact)),
    }
    if fact.is_progress() || next.stage.is_end() {
        next.failed.since = None;
    }
    Ok(next)
}

/// Sets which earlier version is replaced, and the step of that; `None` where nothing may be replaced.
fn supersede(
    next: &mut UploadState,
    by: Option<&Supersession>,
    name: Option<&String>,
) -> Option<()> {
    let may_be = next.stage == Stage::Queued || by.is_some() && next.is_renaming();
    next.supersedes = may_be.then(|| by.cloned().map(Box::new))?;
    if let (Stage::Verified { file, .. }, Some(name)) = (&mut next.stage, name) {
        file.name.clone_from(name);
    }
    Some(())
}

/// Enters a stage, with no attempts counted yet; a failed begin keeps them. Some facts drop the
/// former remote upload, and with it everything that was done with its file.
fn enter(next: &mut UploadState, stage: Stage, fact: &Fact) {
    let is_to_begin = |stage: &Stage| matches!(stage, Stage::Queued | Stage::Beginning { .. });
    if !is_to_begin(&next.stage) || !is_to_begin(&stage) {
        next.failed.count = 0;
    }
    next.stage = stage;
    next.hold = Hold::None;
    if matches!(fact, Fact::RemoteGone) {
        forget_parts(next);
        next.restart_count = next.restart_count.saturating_add(1);
    }
    if matches!(fact, Fact::Retargeted { .. }) {
        forget_parts(next);
        (next.described, next.digested, next.export) = (false, false, None);
        next.supersedes = None;
    }
}

fn illegal(state: &UploadState, fact: &Fact) -> IllegalFact {
    IllegalFact { stage: state.stage.as_str(), fact: fact.name().to_owned() }
}

impl Stage {
    pub fn is_before_completed(&self) -> bool {
        match self {
            Self::Queued
            | Self::Beginning { .. }
            | Self::Sending { .. }
            | Self::Completing { .. } => true,
            Self::Completed { .. }
            | Self::Verified { .. }
            | Self::Receipted { .. }
            | Self::Ended(_) => false,
        }
    }
}

/// The table of stages; `None` is forbidden.
fn next_stage(state: &UploadState, fact: &Fact) -> Option<Stage> {
    use Stage::{Beginning, Completed, Completing, Ended, Queued, Receipted, Sending, Verified};
    Some(match (&state.stage, fact) {
        (Queued | Beginning { .. }, Fact::BeginIntended { at, .. }) => Beginning { since: *at },
        (Beginning { .. }, Fact::Begun { remote, .. }) => Sending { remote: remote.clone() },
        (Sending { remote }, Fact::CompleteIntended { at }) if all_parts_known(state, remote) => {
            Completing { remote: remote.clone(), since: *at }
        }
        (Completing { remote, .. }, Fact::CompleteWithdrawn) => Sending { remote: remote.clone() },
        (Completing { remote, .. }, Fact::Completed { file, .. }) => {
            Completed { file: file.clone(), remote: Some(remote.clone()) }
        }
        (Queued, Fact::FoundPresent { file, .. }) => Completed { file: file.clone(), remote: None },
        (Completed { file, remote }, Fact::Verified { there, etag, .. }) => {
            let etag = etag.clone().or_else(|| file.etag.clone());
            let file = RemoteFile { mark: there.or(file.mark), etag, ..file.clone() };
            Verified { file, remote: remote.clone() }
        }
        (Verified { file, .. }, Fact::ReceiptWritten { .. })
            if !state.is_exporting() && !state.is_renaming() =>
        {
            Receipted { file: file.clone() }
        }
        (Beginning { .. } | Sending { .. } | Completing { .. }, Fact::RemoteGone) => Queued,
        (stage, Fact::Retargeted { .. }) if !stage.is_end() => Queued,
        // The completed file was found to differ from what was sent.
        (Completed { remote: Some(_), .. }, Fact::RemoteGone) => Queued,
        (stage, Fact::SourceChanged { .. }) if stage.is_before_completed() => {
            Ended(EndReason::SourceChanged)
        }
        (stage, Fact::Abandoned { .. }) if !stage.is_end() => Ended(EndReason::Abandoned),
        (_, _) => return None,
    })
}

/// The table of exports: only for a verified file.
fn next_export(state: &UploadState, fact: &Fact) -> Option<Export> {
    if !matches!(state.stage, Stage::Verified { .. }) {
        return None;
    }
    let step = state.export.as_ref().map(|export| &export.step);
    let (place, step) = match (step, fact) {
        (None | Some(ExportStep::Failed), Fact::ExportIntended { place, at }) => {
            (Some(place), ExportStep::Intended { since: *at })
        }
        (Some(ExportStep::Intended { .. }), Fact::ExportStarted { job, .. }) => {
            (None, ExportStep::Started { job: job.clone() })
        }
        (
            Some(ExportStep::Intended { .. } | ExportStep::Started { .. }),
            Fact::ExportFailed { .. },
        ) => (None, ExportStep::Failed),
        (Some(ExportStep::Intended { .. } | ExportStep::Started { .. }), Fact::Exported { .. }) => {
            (None, ExportStep::Done)
        }
        _ => return None,
    };
    let kept = || state.export.as_ref().map(|export| export.place.clone());
    Some(Export { place: place.cloned().or_else(kept)?, step })
}

fn all_parts_known(state: &UploadState, remote: &RemoteUpload) -> bool {
    state.accepted_count == remote.part_count
}

fn forget_parts(next: &mut UploadState) {
    next.accepted_count = 0;
    next.reported_count = 0;
    next.etag_mode = ETagMode::Unknown;
    next.described = false;
}

/// Updates the part counts; `None` when they would leave their bounds.
#[expect(clippy::wildcard_enum_match_arm, reason = "only called with the three facts of parts")]
fn count_parts(next: &mut UploadState, fact: &Fact) -> Option<()> {
    let Stage::Sending { remote } = &next.stage else { return None };
    let part_count = remote.part_count;
    match fact {
        Fact::PartAccepted { part, sent, .. } => {
            next.accepted_count += 1;
            next.landed(*sent);
            next.failed.count = 0;
            (part.get() <= part_count && next.accepted_count <= part_count).then_some(())
        }
        Fact::PartsReported { parts } => {
            next.reported_count += u32::try_from(parts.len()).ok()?;
            (next.reported_count <= next.accepted_count).then_some(())
        }
        Fact::PartReopened { was_reported, .. } => {
            next.accepted_count = next.accepted_count.checked_sub(1)?;
            next.reported_count = next.reported_count.checked_sub(u32::from(*was_reported))?;
            (next.reported_count <= next.accepted_count).then_some(())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;

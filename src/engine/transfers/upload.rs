//! One upload: its stored state, and its next step.
//!
//! # The crash table of an upload
//! [`UploadState`] and the parts are stored; both change only by facts, through the law in
//! `model/upload.rs`. Everything else here ([`Doubt`], waits, parts in flight) lasts as long as the
//! process, and a loaded upload starts in doubt: it asks before it acts.
//!
//! | stage | in doubt it asks | without doubt it |
//! |---|---|---|
//! | queued | is a file of that name there? | records the intent, begins; or sends all of it at once |
//! | beginning | is there a remote upload of ours? | records the intent again, begins |
//! | sending | which parts does the platform have? (where it can list them) | sends parts, reports them, checks that the source is unchanged, completes |
//! | completing | was it completed? | completes |
//! | completed | – | describes, then compares the file with what was sent, or reads it back; a different one is replaced |
//! | verified | – | replaces an earlier version, where that is done by renaming (`replace.rs`) |
//! | verified | is there an export job of ours? (`transfers/export.rs`) | exports and digests the file, where that is configured; writes the receipt |
//!
//! Doubt comes back whenever an answer is lost: to `begin` and `complete`, because repeating those
//! blindly makes a second file; never to a part, because sending the same bytes under the same
//! number is harmless. An upload has one act in flight at a time, besides its parts.
//!
//! Nothing here does I/O or knows the platform; [`answer`] turns outcomes into facts,
//! `transfers/steps.rs` turns a [`Step`] into an act.

mod answer;
mod export;
mod failed;
mod life;
mod name;
mod parts;
mod replace;
mod stored;

use std::sync::LazyLock;

pub(super) use self::answer::{AnswerContext, Decision, Tried};
pub(super) use self::export::{ExportCall, LINGER};
use self::life::{Doubt, Life, SourceProof};
use crate::engine::dispatch::UploadFile;
use crate::engine::event::{ReadFrom, Sending};
use crate::engine::settings::DestinationSettings;
use crate::engine::sparse::{AtStart, Sparse};
use crate::model::remote::ContentMark;
use crate::model::upload::{part_transition, transition};
use crate::model::{
    Admission, AdmittedFile, BeginRequest, ByteCount, ByteRange, CompleteRequest, Describes,
    ETagMode, Fact, Fingerprint, FlowKey, Hold, IllegalFact, Monotonic, NamePolicy, ParkReason,
    PartNumber, PartRequest, PartSize, PartState, PutRequest, RemoteFile, RemoteFileId, RemotePart,
    RemoteUpload, SourcePath, Stage, StoredUpload, Traits, UploadId, UploadState, WholeDigest,
    WholeRequest,
};

/// One upload in memory. A queued one is little more than its admission.
#[derive(Debug)]
pub(crate) struct Upload {
    /// The frozen admission.
    admission: Admission,
    /// It had one part when it was admitted or loaded: its lane stays the same whatever is begun.
    is_small: bool,
    state: Sparse<UploadState>,
    /// The state of its parts; empty before it is begun.
    parts: Box<[PartState]>,
    life: Sparse<Life>,
}

/// The next step of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Locate,
    /// Ask the rows which other source of ours holds the place.
    FindHolder,
    /// Compare the source with the file at the destination.
    HashFile(ContentMark),
    /// Record the intent, begin.
    Begin,
    FindBegun,
    ListParts(RemoteUpload),
    /// Read a part that the platform has and that has no checkpoint.
    HashPart(PartNumber, ByteRange),
    Report(RemoteUpload, Vec<RemotePart>),
    /// Check that the source is still what was sent; with its version a quiet period ago, if it was
    /// written to since.
    ProveSource(Option<Fingerprint>),
    /// Record the intent, complete.
    Complete(RemoteUpload, Vec<RemotePart>),
    /// Ask whether it was completed.
    FindCompleted(RemoteUpload, Vec<RemotePart>),
    Describe(RemoteFile),
    /// Compare the file with what was sent.
    Inspect(RemoteFile),
    /// Read the file back in the layout in which it was sent, and compare it.
    ReadBack(RemoteFile, PartSize),
    Rename(RemoteFileId, String),
    Remove(RemoteFileId),
    /// Digest the whole source, for the receipt.
    DigestFile(WholeDigest),
    WriteReceipt,
}

/// A step of an upload in flight, with the name of its act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UploadStep {
    pub(super) upload: UploadId,
    pub(super) name: &'static str,
    pub(super) detail: StepDetail,
}

impl UploadStep {
    /// Returns whether the upload needs the step's answer to continue.
    pub(super) fn goes_on(&self) -> bool {
        matches!(self.name, "begin" | "list parts" | "report parts" | "complete")
    }
}

/// What the answer to a step is judged by, besides its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StepDetail {
    /// A call; a report names its parts.
    Call(Vec<PartNumber>),
    /// It reads rows or the source.
    Local,
    HashPart(PartNumber),
    Digest,
    Receipt,
}

impl Step {
    /// Returns whether the step calls the destination.
    pub(super) fn is_call(&self) -> bool {
        match self {
            Self::FindHolder
            | Self::HashFile(_)
            | Self::HashPart(..)
            | Self::ProveSource(_)
            | Self::DigestFile(_)
            | Self::WriteReceipt => false,
            Self::Locate
            | Self::Begin
            | Self::FindBegun
            | Self::ListParts(_)
            | Self::Report(..)
            | Self::Complete(..)
            | Self::FindCompleted(..)
            | Self::Describe(_)
            | Self::Rename(..)
            | Self::Remove(_)
            | Self::Inspect(_)
            | Self::ReadBack(..) => true,
        }
    }
}

impl StepDetail {
    pub(super) fn is_call(&self) -> bool {
        matches!(self, Self::Call(_))
    }
}

impl Upload {
    pub(crate) fn needs_source(&self) -> bool {
        match &self.state.stage {
            Stage::Queued | Stage::Beginning { .. } => true,
            Stage::Sending { remote } => self.state.accepted_count < remote.part_count,
            Stage::Completing { .. }
            | Stage::Completed { .. }
            | Stage::Verified { .. }
            | Stage::Receipted { .. }
            | Stage::Ended(_) => false,
        }
    }

    pub(crate) fn admitted(admission: Admission) -> Self {
        let state = UploadState::admitted(admission.parked);
        Self::loaded(admission, state, Vec::new())
    }

    fn loaded(admission: Admission, state: UploadState, parts: Vec<PartState>) -> Self {
        let is_small = admission.file.fingerprint.size.0 <= admission.part_size.get();
        Self {
            admission,
            is_small,
            state: state.into(),
            parts: parts.into(),
            life: Sparse::empty(),
        }
    }

    pub(crate) fn restored(stored: StoredUpload) -> Self {
        let StoredUpload { admission, state, parts, waits_for } = stored;
        let mut upload = Self::loaded(admission, state, parts);
        upload.await_place(waits_for);
        upload
    }

    pub(crate) fn stored(&self) -> StoredUpload {
        StoredUpload {
            admission: self.admission.clone(),
            state: UploadState::clone(&self.state),
            parts: self.parts.to_vec(),
            waits_for: self.awaited(),
        }
    }

    pub(crate) fn id(&self) -> UploadId {
        self.admission.id
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    pub(crate) fn is_small(&self) -> bool {
        self.is_small
    }

    /// Returns what its drop directory knows of it.
    pub(in crate::engine) fn file(&self) -> UploadFile {
        let Admission { id, file, destination, .. } = &self.admission;
        UploadFile { id: *id, file: file.clone(), destination: destination.clone() }
    }

    pub(crate) fn state(&self) -> &UploadState {
        &self.state
    }

    pub(crate) fn stage(&self) -> &Stage {
        &self.state.stage
    }

    pub(crate) fn size(&self) -> ByteCount {
        self.admission.file.fingerprint.size
    }

    fn seed(&self) -> u64 {
        u64::try_from(self.id().0).unwrap_or(0)
    }

    /// Makes it share its run's name with the other uploads of the run.
    pub(crate) fn share_run(&mut self, shared: impl FnOnce(&SourcePath) -> SourcePath) {
        self.admission.file.run = shared(&self.admission.file.run);
    }

    /// Applies one fact, in memory as the writer does in the rows.
    ///
    /// # Errors
    /// [`IllegalFact`] when the law forbids it; nothing has changed then.
    pub(crate) fn apply(&mut self, fact: &Fact) -> Result<(), IllegalFact> {
        let next = transition(&self.state, fact)?;
        match fact {
            Fact::PartAccepted { part, .. } => {
                self.move_part(*part, fact)?;
            }
            Fact::PartReopened { part, .. } => self.move_part(*part, fact)?,
            Fact::PartsReported { parts } => {
                parts.iter().try_for_each(|part| self.move_part(*part, fact))?;
                self.life.parts.reported();
            }
            Fact::NameDecided { decision } => self.admission.decision = Some(*decision),
            Fact::Retouched { fingerprint } => self.admission.file.fingerprint = *fingerprint,
            Fact::Begun { remote, .. } => {
                self.parts = vec![PartState::Open; remote.part_count as usize].into();
                self.life.parts.forget_layout();
            }
            Fact::RemoteGone => {
                self.parts = Box::default();
                self.life.parts.forget_layout();
            }
            Fact::Retargeted { target, part_size } => {
                (self.admission.target_id, self.admission.part_size) = (*target, *part_size);
                self.parts = Box::default();
                self.life.move_to_other_target();
            }
            Fact::Renamed { name } => {
                self.admission.target = self.admission.target.with_name(name);
                self.life.name.forget_owner();
            }
            Fact::Parked { .. } | Fact::Released => self.life.name.forget_owner(),
            Fact::BeginIntended { part_size: Some(part_size), .. }
            | Fact::PartSizeChanged { part_size } => self.admission.part_size = *part_size,
            Fact::BeginIntended { part_size: None, .. }
            | Fact::ETagModeLearned { .. }
            | Fact::CompleteIntended { .. }
            | Fact::CompleteWithdrawn
            | Fact::Completed { .. }
            | Fact::FoundPresent { .. }
            | Fact::Superseding { .. }
            | Fact::Described
            | Fact::Verified { .. }
            | Fact::Digested { .. }
            | Fact::ExportIntended { .. }
            | Fact::ExportStarted { .. }
            | Fact::ExportFailed { .. }
            | Fact::Exported { .. }
            | Fact::ReceiptWritten { .. }
            | Fact::InFlight { .. }
            | Fact::SentInVain { .. }
            | Fact::AttemptFailed { .. }
            | Fact::SourceChanged { .. }
            | Fact::Abandoned { .. } => {}
        }
        if fact.is_progress() {
            self.life.went_on();
        }
        if SourceProof::ends_with(fact) {
            self.life.source = SourceProof::Unknown;
        }
        *self.state = next;
        Ok(())
    }

    fn move_part(&mut self, number: PartNumber, fact: &Fact) -> Result<(), IllegalFact> {
        let index = number.index();
        let Some(part) = self.parts.get_mut(index) else {
            return Err(IllegalFact { stage: self.state.stage.as_str(), fact: fact.name().into() });
        };
        *part = part_transition(part, fact)?;
        if *part == PartState::Open {
            self.life.parts.reopened(index);
        }
        Ok(())
    }

    pub(crate) fn length_of(&self, part: PartNumber) -> u64 {
        let Some(remote) = self.state.stage.remote() else { return 0 };
        remote.part_size.range_of(part, self.size()).length
    }

    /// Returns whether only the receipt is left to write.
    pub(crate) fn is_finishing(&self, wants_digest: bool) -> bool {
        matches!(self.state.stage, Stage::Verified { .. })
            && !self.state.is_renaming()
            && (!wants_digest || self.state.digested)
    }

    /// Returns whether the layout of a remote upload covers the file exactly.
    pub(crate) fn fits_in(&self, remote: &RemoteUpload) -> bool {
        remote.part_size.count_for(self.size()) == Some(remote.part_count)
    }

    /// Returns whether an operator can end what holds it up.
    pub(in crate::engine) fn is_held_up(&self) -> bool {
        match self.state.hold {
            Hold::Waiting { .. } => true,
            Hold::Parked { reason } => reason != ParkReason::NotConfigured,
            Hold::None => false,
        }
    }

    /// Returns whether its file may be that of another upload, under another path or in another drop directory.
    pub(crate) fn is_of_same_file(&self, other: &Admission) -> bool {
        let own = &self.admission;
        (&own.file.drop, &own.file.path) != (&other.file.drop, &other.file.path)
            && own.destination == other.destination
            && own.file.fingerprint.same_version(&other.file.fingerprint)
    }

    pub(crate) fn step(
        &self,
        to: &DestinationSettings,
        digest: Option<WholeDigest>,
        now: Monotonic,
    ) -> Option<Step> {
        if self.is_busy() || self.state.hold != Hold::None {
            return None;
        }
        if self.asks_for_owner(to) {
            return Some(Step::FindHolder);
        }
        if self.goes_whole(to) {
            return None;
        }
        match (&self.state.stage, self.life.doubt) {
            (Stage::Queued, Doubt::None) | (Stage::Beginning { .. }, Doubt::None) => {
                Some(Step::Begin)
            }
            (Stage::Queued, Doubt::Ask) => Some(self.locate()),
            (Stage::Beginning { .. }, Doubt::Ask) => Some(Step::FindBegun),
            (Stage::Sending { remote }, Doubt::Ask) => {
                self.life.parts.is_none_in_flight().then(|| Step::ListParts(remote.clone()))
            }
            (Stage::Sending { remote }, Doubt::None) => self.sending_step(remote, &to.traits, now),
            (Stage::Completing { remote, .. }, Doubt::Ask) => {
                Some(Step::FindCompleted(remote.clone(), self.all_parts()))
            }
            (Stage::Completing { remote, .. }, Doubt::None) => {
                Some(Step::Complete(remote.clone(), self.all_parts()))
            }
            (Stage::Completed { file, .. }, _) if !self.state.described && describes(to) => {
                Some(Step::Describe(file.clone()))
            }
            (Stage::Completed { file, remote }, _) => Some(self.verify(file, remote.as_ref())),
            (Stage::Verified { file, .. }, _) if self.state.is_renaming() => {
                self.replacing_step(file)
            }
            (Stage::Verified { .. }, _) => match digest {
                Some(digest) if !self.state.digested => Some(Step::DigestFile(digest)),
                Some(_) | None => Some(Step::WriteReceipt),
            },
            (Stage::Receipted { .. } | Stage::Ended(_), _) => None,
        }
    }

    /// Returns whether the next step is to send all of it in one request. The same act asks whether
    /// a file of its name exists, unless that is known.
    pub(crate) fn goes_whole(&self, to: &DestinationSettings) -> bool {
        let may_ask = || !self.life.name.must_be_located() && !self.is_ending();
        let is_unbegun = matches!(self.state.stage, Stage::Queued | Stage::Beginning { .. })
            && (self.life.doubt == Doubt::None || may_ask());
        let may_go = is_unbegun && self.state.hold == Hold::None && !self.is_busy();
        let is_one_part = self.admission.part_size.count_for(self.size()) == Some(1);
        to.traits.sends_whole && may_go && is_one_part && !self.asks_for_owner(to)
    }

    fn verify(&self, file: &RemoteFile, remote: Option<&RemoteUpload>) -> Step {
        match remote.filter(|_| self.state.etag_mode == ETagMode::ReadBack) {
            Some(remote) => Step::ReadBack(file.clone(), remote.part_size),
            None => Step::Inspect(file.clone()),
        }
    }

    /// Returns a text that no other upload has, of another database either.
    pub(crate) fn token(&self) -> String {
        let Admission { id, at, file, .. } = &self.admission;
        format!("{:x}-{:x}-{}", id.0, at.0, file.path.digest())
    }

    pub(crate) fn complete(
        &self,
        remote: RemoteUpload,
        parts: Vec<RemotePart>,
        begun: BeginRequest,
        traits: &Traits,
    ) -> Option<CompleteRequest> {
        let Stage::Completing { since, .. } = self.state.stage else { return None };
        let unreported = self.unreported_parts(traits);
        Some(CompleteRequest { remote, parts, unreported, begun, since })
    }

    pub(crate) fn source(&self) -> ReadFrom {
        let file = &self.admission.file;
        ReadFrom {
            drop: file.drop.clone(),
            path: file.path.clone(),
            fingerprint: file.fingerprint,
            is_sentinel: file.is_sentinel,
            provenance: file.provenance.as_deref().copied(),
        }
    }

    fn sending(&self, request: PutRequest, range: ByteRange) -> Box<Sending> {
        let AdmittedFile { drop, run, path, .. } = &self.admission.file;
        let destination = &self.admission.destination;
        let run = if run == path { SourcePath::from_bytes(b"") } else { run.clone() };
        let flow = FlowKey { destination: destination.clone(), drop: drop.clone(), run };
        Box::new(Sending { upload: self.id(), flow, request, source: self.source(), range })
    }

    /// Returns the request for the whole file. In doubt the platform first checks whether its name is taken.
    pub(crate) fn put_whole(&self, begun: BeginRequest) -> Box<Sending> {
        let range = ByteRange { offset: 0, length: begun.size.0 };
        let looks = self.is_in_doubt();
        self.sending(PutRequest::Whole(WholeRequest { begun, looks }), range)
    }

    /// Returns the request for a part; with the begin request, where the upload has no other part.
    pub(crate) fn put_part(
        &self,
        part: PartNumber,
        remote: RemoteUpload,
        begun: Option<BeginRequest>,
    ) -> Box<Sending> {
        let range = remote.part_size.range_of(part, self.size());
        self.sending(PutRequest::Part(PartRequest { remote, part, begun }), range)
    }
}

/// Returns whether metadata, tags or our digest are set after completion. The digest is stored with
/// a file where it can prove later that a found file is the same.
fn describes(to: &DestinationSettings) -> bool {
    let proves = to.policies.taken == NamePolicy::SkipIfSame;
    let has_words = proves || !to.metadata.is_empty() || !to.tags.is_empty();
    has_words && to.traits.describes == Describes::AfterCompletion
}

impl AtStart for UploadState {
    fn at_start() -> &'static Self {
        static AT_START: LazyLock<UploadState> = LazyLock::new(|| UploadState::admitted(None));
        &AT_START
    }
}

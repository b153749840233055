//! One upload: its stored state, and what it wants to do next.
//!
//! # The crash table, as this file keeps it
//! What is stored is [`UploadState`] and the parts; both move only by facts, through the law in
//! `model/upload.rs`. Everything else here ([`Doubt`], waits, what flies) lives and dies with the
//! process, and an upload that is loaded starts in doubt: it asks before it acts.
//!
//! | stage | in doubt it asks | sure of itself it |
//! |---|---|---|
//! | queued | is a file of that name there? | records the intent, begins; or sends all of it at once |
//! | beginning | is there a remote upload of ours? | records the intent anew, begins |
//! | sending | which parts do you know? (where it can tell) | sends parts, reports them, completes |
//! | completing | was it completed? | completes |
//! | completed | – | describes, then compares the file with what was sent, or reads it back; one that differs is replaced |
//! | verified | is there an export job of ours? (`transfers/export.rs`) | has the file exported and digested, where that is configured; writes the receipt |
//!
//! Doubt comes back whenever an answer is lost: to `begin` and `complete`, because repeating those
//! blindly makes a second file; never to a part, because sending the same bytes under the same
//! number is harmless. An upload asks for one thing at a time, its parts excepted.
//!
//! Nothing here does I/O or knows which platform it speaks to; [`answer`] turns what came back into
//! facts, `transfers/steps.rs` turns a [`Step`] into an act.

mod answer;
mod life;

use std::sync::LazyLock;
use std::time::Duration;

pub(crate) use self::answer::{Answer, ETagMemory, Put, Tried, WholePut, in_vain};
pub(crate) use self::life::{Damage, Doubt, Life};
use crate::engine::StoredUpload;
use crate::engine::claims::Owner;
use crate::engine::ticket::{AtStart, Sparse, Ticket};
use crate::model::remote::ContentMark;
use crate::model::upload::{part_transition, transition};
use crate::model::{
    Admission, ByteCount, ByteRange, ETagMode, Fact, Hold, IllegalFact, Md5, Monotonic, ParkReason,
    PartNumber, PartSize, PartState, RemoteFile, RemotePart, RemoteUpload, Stage, Traits, UploadId,
    UploadState, WholeDigest,
};

/// A report waits at most this long for more parts to join it.
const REPORT_DELAY: Duration = Duration::from_secs(30);

/// One upload in memory. One that is queued is little more than its ticket.
#[derive(Debug)]
pub(crate) struct Upload {
    /// What was frozen at admission.
    pub(crate) admission: Ticket,
    pub(crate) state: Sparse<UploadState>,
    /// What is stored about its parts; empty before it is begun.
    pub(crate) parts: Vec<PartState>,
    /// What is not stored.
    pub(crate) life: Sparse<Life>,
}

/// What an upload wants next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Look the file up by its name.
    Locate,
    /// Ask the rows which other source of ours has the place.
    FindHolder,
    /// Compare the source with the file that stands there.
    HashFile(ContentMark),
    /// Record the intent, begin.
    Begin,
    /// Look for remote uploads of ours.
    FindBegun,
    /// Ask which parts the platform knows.
    ListParts(RemoteUpload),
    /// Read a part that the platform has and we have no checkpoint for.
    HashPart(PartNumber, ByteRange),
    Report(RemoteUpload, Vec<RemotePart>),
    /// Record the intent, complete.
    Complete(RemoteUpload, Vec<RemotePart>),
    /// Ask whether it was completed.
    FindCompleted(RemoteUpload, Vec<RemotePart>),
    /// Set metadata and tags.
    Describe(RemoteFile),
    /// Compare the file with what was sent.
    Inspect(RemoteFile),
    /// Read the file back in the layout in which it was sent, and compare it.
    ReadBack(RemoteFile, PartSize),
    /// Digest the whole source, for the receipt.
    DigestFile(WholeDigest),
    WriteReceipt,
}

/// What is wanted of an upload that its own rows do not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wants {
    /// Metadata and tags are set after completion.
    pub(crate) describes: bool,
    /// A digest of the whole file stands in the receipt.
    pub(crate) digest: Option<WholeDigest>,
    /// Whatever stands under its name is replaced, unless it belongs to another source of ours.
    pub(crate) replaces: bool,
}

impl Upload {
    /// Returns whether it cannot go on without reading its source.
    pub(super) fn needs_source(&self) -> bool {
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

    /// Takes an upload that was just admitted.
    pub(crate) fn admitted(admission: Admission) -> Self {
        let state = UploadState::admitted(admission.parked);
        Self::loaded(admission, state, Vec::new())
    }

    /// Takes an upload as it was stored.
    pub(crate) fn loaded(admission: Admission, state: UploadState, parts: Vec<PartState>) -> Self {
        Self { admission: admission.into(), state: state.into(), parts, life: Sparse::empty() }
    }

    /// Takes an upload as its row has it.
    pub(crate) fn restored(stored: StoredUpload) -> Self {
        let StoredUpload { admission, state, parts, waits_for } = stored;
        let mut upload = Self::loaded(admission, state, parts);
        if waits_for.is_some() {
            upload.life.waits_for = waits_for;
        }
        upload
    }

    pub(crate) fn id(&self) -> UploadId {
        self.admission.id
    }

    /// Returns the length of the file.
    pub(crate) fn size(&self) -> ByteCount {
        self.admission.fingerprint.size
    }

    /// Moves by one fact, in memory as the writer moves the rows.
    ///
    /// # Errors
    /// [`IllegalFact`] when the law forbids it; nothing has moved then.
    pub(crate) fn apply(&mut self, fact: &Fact) -> Result<(), IllegalFact> {
        let next = transition(&self.state, fact)?;
        match fact {
            Fact::PartAccepted { part, .. } | Fact::PartReopened { part, .. } => {
                self.move_part(*part, fact)?;
            }
            Fact::PartsReported { parts } => {
                parts.iter().try_for_each(|part| self.move_part(*part, fact))?;
                self.life.unreported_since = None;
            }
            Fact::Begun { remote, .. } => {
                self.parts = vec![PartState::Open; remote.part_count as usize];
                self.life.forget_parts();
            }
            Fact::RemoteGone => {
                self.parts = Vec::new();
                self.life.forget_parts();
            }
            Fact::Retargeted { target, part_size } => {
                (self.admission.target_id, self.admission.part_size) = (*target, *part_size);
                self.parts = Vec::new();
                let Life { timer, waits_for, .. } = *self.life;
                let directory = self.life.directory.take();
                *self.life = Life { timer, waits_for, directory, ..Life::new() };
            }
            Fact::Renamed { name } => {
                self.admission.rename(name);
                self.life.forget_owner();
            }
            Fact::Parked { .. } | Fact::Released => self.life.forget_owner(),
            Fact::BeginIntended { part_size: Some(part_size), .. }
            | Fact::PartSizeRaised { part_size } => self.admission.part_size = *part_size,
            Fact::BeginIntended { part_size: None, .. }
            | Fact::ETagModeLearned { .. }
            | Fact::CompleteIntended { .. }
            | Fact::CompleteWithdrawn
            | Fact::Completed { .. }
            | Fact::FoundPresent { .. }
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
            self.life.cursor = self.life.cursor.min(index);
        }
        Ok(())
    }

    /// Returns the length of a part.
    pub(crate) fn length_of(&self, part: PartNumber) -> u64 {
        let Some(remote) = self.state.stage.remote() else { return 0 };
        remote.part_size.range_of(part, self.size()).length
    }

    /// Tells whether nothing is left to do but to write the receipt.
    pub(crate) fn is_finishing(&self, wants_digest: bool) -> bool {
        matches!(self.state.stage, Stage::Verified { .. }) && (!wants_digest || self.state.digested)
    }

    /// Tells whether the layout of a remote upload covers the file exactly.
    pub(crate) fn fits_in(&self, remote: &RemoteUpload) -> bool {
        remote.part_size.count_for(self.size()) == Some(remote.part_count)
    }

    /// Tells whether a remote upload may have been begun that we do not know of.
    pub(crate) fn may_have_begun(&self) -> bool {
        self.life.is_whole_flying
            || matches!(self.state.stage, Stage::Beginning { .. })
                && (self.life.control.is_some() || self.life.doubt != Doubt::None)
    }

    /// Tells whether something holds it up that an operator can end.
    pub(in crate::engine) fn is_held_up(&self) -> bool {
        match self.state.hold {
            Hold::Waiting { .. } => true,
            Hold::Parked { reason } => reason != ParkReason::NotConfigured,
            Hold::None => false,
        }
    }

    /// Ends every wait: what failed is tried again at once.
    pub(crate) fn hurry(&mut self) {
        self.life.part_waits.clear();
        self.life.hold_until = None;
    }

    /// Notes that it does not wait any more.
    pub(crate) fn end_wait(&mut self) {
        if self.life.hold_until.is_some() {
            self.life.hold_until = None;
        }
    }

    /// Tells whether it is parked for a reason that looking at the source can lift.
    pub(crate) fn waits_for_source(&self) -> bool {
        matches!(
            self.state.hold,
            Hold::Parked { reason: ParkReason::SourceMissing | ParkReason::SourceUnreadable }
        )
    }

    /// Tells whether it is parked because its file is not there.
    pub(crate) fn misses_source(&self) -> bool {
        self.state.hold == Hold::Parked { reason: ParkReason::SourceMissing }
    }

    /// Tells whether it is of what may be the same file as another upload's, under another path.
    pub(crate) fn is_of_same_file(&self, other: &Ticket) -> bool {
        let own = &self.admission;
        own.drop == other.drop
            && own.path != other.path
            && own.destination == other.destination
            && own.fingerprint.same_version(&other.fingerprint)
    }

    /// Returns what it wants to do next besides sending parts.
    pub(crate) fn step(&self, traits: &Traits, wants: Wants, now: Monotonic) -> Option<Step> {
        if self.life.control.is_some() || self.state.hold != Hold::None {
            return None;
        }
        if self.asks_for_owner(wants.replaces) {
            return Some(Step::FindHolder);
        }
        if self.goes_whole(traits) {
            return None;
        }
        match (&self.state.stage, self.life.doubt) {
            (Stage::Queued, Doubt::None) | (Stage::Beginning { .. }, Doubt::None) => {
                Some(Step::Begin)
            }
            (Stage::Queued, Doubt::Ask) => Some(self.locate()),
            (Stage::Beginning { .. }, Doubt::Ask) => Some(Step::FindBegun),
            (Stage::Sending { remote }, Doubt::Ask) => {
                self.life.flying.is_empty().then(|| Step::ListParts(remote.clone()))
            }
            (Stage::Sending { remote }, Doubt::None) => self.sending_step(remote, traits, now),
            (Stage::Completing { remote, .. }, Doubt::Ask) => {
                Some(Step::FindCompleted(remote.clone(), self.all_parts()))
            }
            (Stage::Completing { remote, .. }, Doubt::None) => {
                Some(Step::Complete(remote.clone(), self.all_parts()))
            }
            (Stage::Completed { file, .. }, _) if wants.describes && !self.state.described => {
                Some(Step::Describe(file.clone()))
            }
            (Stage::Completed { file, remote }, _) => Some(self.verify(file, remote.as_ref())),
            (Stage::Verified { .. }, _) => match wants.digest {
                Some(digest) if !self.state.digested => Some(Step::DigestFile(digest)),
                Some(_) | None => Some(Step::WriteReceipt),
            },
            (Stage::Receipted { .. } | Stage::Ended(_), _) => None,
        }
    }

    /// Tells whether the next thing is to send all of it in one request. Whether a file of its name is
    /// there is asked by the same act, unless that is known to be so.
    pub(crate) fn goes_whole(&self, traits: &Traits) -> bool {
        let may_go = self.state.hold == Hold::None
            && match self.state.stage {
                Stage::Queued => {
                    self.life.doubt == Doubt::None
                        || !(self.life.name_met || matches!(self.life.owner, Owner::Ours(_)))
                }
                Stage::Beginning { .. } => self.life.doubt == Doubt::None,
                Stage::Sending { .. }
                | Stage::Completing { .. }
                | Stage::Completed { .. }
                | Stage::Verified { .. }
                | Stage::Receipted { .. }
                | Stage::Ended(_) => false,
            };
        traits.sends_whole && may_go && self.admission.part_size.count_for(self.size()) == Some(1)
    }

    fn verify(&self, file: &RemoteFile, remote: Option<&RemoteUpload>) -> Step {
        match remote.filter(|_| self.state.etag_mode == ETagMode::ReadBack) {
            Some(remote) => Step::ReadBack(file.clone(), remote.part_size),
            None => Step::Inspect(file.clone()),
        }
    }

    fn locate(&self) -> Step {
        match self.life.found.as_ref().and_then(|file| file.mark) {
            Some(mark) => Step::HashFile(mark),
            None => Step::Locate,
        }
    }

    fn sending_step(&self, remote: &RemoteUpload, traits: &Traits, now: Monotonic) -> Option<Step> {
        if let Some(number) = self.life.doubtful.keys().next() {
            return Some(Step::HashPart(*number, remote.part_size.range_of(*number, self.size())));
        }
        let all_accepted =
            self.state.accepted_count == remote.part_count && self.life.flying.is_empty();
        let pending = self.state.accepted_count - self.state.reported_count;
        let overdue = self.report_deadline().is_some_and(|deadline| deadline <= now);
        if traits.reports_parts
            && pending > 0
            && (all_accepted || pending >= traits.report_max || overdue)
        {
            let unreported = |part: &PartState| matches!(part, PartState::Accepted { .. });
            let parts = self.remote_parts(unreported, traits.report_max as usize);
            return Some(Step::Report(remote.clone(), parts));
        }
        all_accepted.then(|| Step::Complete(remote.clone(), self.all_parts()))
    }

    /// Returns when accepted parts are reported although they are few.
    pub(crate) fn report_deadline(&self) -> Option<Monotonic> {
        self.life.unreported_since.map(|since| since.after(REPORT_DELAY))
    }

    fn all_parts(&self) -> Vec<RemotePart> {
        self.remote_parts(|_| true, usize::MAX)
    }

    fn remote_parts(&self, wanted: impl Fn(&PartState) -> bool, limit: usize) -> Vec<RemotePart> {
        let numbered = self.parts.iter().enumerate().filter(|(_, part)| wanted(part));
        let parts = numbered.filter_map(|(index, part)| {
            let (_, etag) = part.checkpoint()?;
            Some(RemotePart {
                number: PartNumber::from_index(index),
                etag: etag.clone(),
                note: part.note().cloned(),
            })
        });
        parts.take(limit).collect()
    }

    /// Returns the next part that may be sent, moving the cursor past closed parts.
    pub(crate) fn next_part(&mut self, now: Monotonic) -> Option<PartNumber> {
        let may_send = matches!(self.state.stage, Stage::Sending { .. })
            && self.state.hold == Hold::None
            && self.life.doubt == Doubt::None;
        if !may_send {
            return None;
        }
        let is_open = |part: &PartState| *part == PartState::Open;
        let life = &mut *self.life;
        life.cursor += self.parts[life.cursor..].iter().take_while(|p| !is_open(p)).count();
        let life = &self.life;
        let rest = self.parts.iter().enumerate().skip(life.cursor).filter(|(_, p)| is_open(p));
        rest.map(|(index, _)| PartNumber::from_index(index)).find(|number| {
            !life.flying.contains(number)
                && !life.doubtful.contains_key(number)
                && life.part_waits.get(number).is_none_or(|(until, _)| *until <= now)
        })
    }

    /// Returns the next time at which it wants attention by itself. A part or a report that is due
    /// already gets it at every turn of the engine; a hold is released by its timer alone, also one
    /// that was over when it was loaded.
    pub(crate) fn next_deadline(&self, now: Monotonic) -> Option<Monotonic> {
        let waits = self.life.part_waits.values().map(|(until, _)| *until);
        let ahead = waits.chain(self.report_deadline()).filter(|at| *at > now);
        ahead.chain(self.life.hold_until).min()
    }

    /// Returns the digest over all parts, when all have one.
    pub(crate) fn content_mark(&self) -> Option<ContentMark> {
        let remote = self.state.stage.remote()?;
        let digests: Option<Vec<Md5>> =
            self.parts.iter().map(|part| part.checkpoint().map(|(md5, _)| md5)).collect();
        let digests = digests.filter(|list| list.len() == remote.part_count as usize)?;
        Some(ContentMark { part_size: remote.part_size, md5_of_parts: digest_of(&digests) })
    }
}

pub(crate) fn digest_of(digests: &[Md5]) -> Md5 {
    use md5::{Digest, Md5 as Hasher};
    let mut hasher = Hasher::new();
    digests.iter().for_each(|digest| hasher.update(digest.0));
    Md5(hasher.finalize().into())
}

impl AtStart for UploadState {
    fn at_start() -> &'static Self {
        static AT_START: LazyLock<UploadState> = LazyLock::new(UploadState::new_at_start);
        &AT_START
    }

    fn new_at_start() -> Self {
        Self::admitted(None)
    }
}

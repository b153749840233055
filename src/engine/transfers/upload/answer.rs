//! Turns the outcomes for one upload into facts: one function per outcome, none of them acts.
//!
//! Success depends on exactly one arm each: a file counts as completed when the platform confirmed
//! our complete, or when the platform found it after a complete with a lost answer; as verified
//! when its length equals the source's, and its content is proved (`stored.rs`). Failures are
//! handled in `failed.rs`.

use std::time::Duration;

use super::life::{Doubt, SourceProof};
use super::stored::Put;
use super::{StepDetail, Upload, UploadStep};
use crate::engine::event::{Outcome, Setback};
use crate::engine::settings::{DestinationSettings, RetrySettings};
use crate::model::{
    ByteCount, Completion, Fact, Failure, FailureKind, Learned, Now, ParkReason, PartNumber,
    RemoteFile, RemoteUpload, RemoteUploadId, Reply, Stage, Traits, WallTime,
};

/// The consequences of an outcome.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(super) facts: Vec<Fact>,
    pub(super) cleanups: Vec<RemoteUploadId>,
    /// An ETag was the MD5 of what was sent.
    pub(super) is_md5_seen: bool,
    /// The file was read back intact, and the ETags of its parts are other digests.
    pub(super) no_digests: bool,
    /// The digest of a file of many proved parts follows another rule: both digests, for people.
    pub(super) strange_digest: Option<String>,
}

impl Decision {
    pub(crate) const NONE: Self = Self {
        facts: Vec::new(),
        cleanups: Vec::new(),
        is_md5_seen: false,
        no_digests: false,
        strange_digest: None,
    };

    pub(crate) fn fact(fact: Fact) -> Self {
        Self::of(vec![fact])
    }

    pub(crate) fn of(facts: Vec<Fact>) -> Self {
        Self { facts, ..Self::NONE }
    }

    /// Counts bytes that were sent without effect, where no other fact does.
    pub(crate) fn in_vain(bytes: ByteCount) -> Self {
        let facts = (bytes.0 > 0).then_some(Fact::SentInVain { bytes });
        Self::of(facts.into_iter().collect())
    }

    /// The file is there, as sent. Who made it is not kept.
    pub(super) fn present(file: RemoteFile, now: Now) -> Self {
        Self::fact(Fact::FoundPresent { file: RemoteFile { maker: None, ..file }, at: now.wall })
    }

    pub(super) fn park(reason: ParkReason, detail: impl Into<String>, at: WallTime) -> Self {
        Self::fact(Fact::Parked { reason, detail: detail.into(), at })
    }

    pub(super) fn after(mut self, fact: Fact) -> Self {
        self.facts.insert(0, fact);
        self
    }

    pub(crate) fn gives_up(&self) -> bool {
        self.facts.iter().any(|fact| matches!(fact, Fact::Abandoned { .. }))
    }

    pub(crate) fn begins_anew(&self) -> bool {
        self.facts.contains(&Fact::RemoteGone)
    }

    /// Returns what it shows about a target, with the details for people.
    pub(crate) fn learned(&self) -> impl Iterator<Item = (Learned, String)> {
        let md5s = self.is_md5_seen.then(|| (Learned::ETagsAreMd5s, String::new()));
        let none = self.no_digests.then(|| (Learned::ETagsAreNoDigests, String::new()));
        let strange = self.strange_digest.clone();
        let strange = strange.map(|detail| (Learned::FinalDigestsDiffer, detail));
        md5s.into_iter().chain(none).chain(strange)
    }

    pub(crate) fn take_cleanups(&mut self) -> Vec<RemoteUploadId> {
        std::mem::take(&mut self.cleanups)
    }

    pub(crate) fn into_facts(self) -> Vec<Fact> {
        self.facts
    }
}

/// What an answer is judged by, besides the upload that it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerContext<'a> {
    /// `None` while no destination of this name is configured.
    pub(in crate::engine::transfers) destination: Option<&'a DestinationSettings>,
    /// An ETag of the target was equal to the MD5 of what was sent.
    pub(in crate::engine::transfers) md5_seen: bool,
    /// A file was read back intact there, and its ETags were other digests.
    pub(in crate::engine::transfers) no_digests: bool,
    /// Final digests are known to follow another rule there.
    pub(in crate::engine::transfers) finals_differ: bool,
    /// The destination is closed; a failed call is repeated when it opens.
    pub(in crate::engine::transfers) is_closed: bool,
    pub(in crate::engine::transfers) retry: RetrySettings,
    /// How long the source must be unchanged before it is read.
    pub(in crate::engine::transfers) quiet_period: Duration,
    /// If its file is missing, a scan searches it under another name.
    pub(in crate::engine::transfers) is_scanned: bool,
    pub(in crate::engine::transfers) now: Now,
}

impl<'a> AnswerContext<'a> {
    pub(super) fn traits(self) -> Option<&'a Traits> {
        self.destination.map(|to| &to.traits)
    }
}

/// What is known of a failed act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tried {
    pub(super) act: &'static str,
    pub(super) part: Option<PartNumber>,
    pub(super) sent: ByteCount,
}

impl Tried {
    /// An act without part and bytes.
    pub(crate) fn plain(act: &'static str) -> Self {
        Self { act, part: None, sent: ByteCount(0) }
    }

    pub(crate) fn failed(self, failure: Failure, retry_at: Option<WallTime>, now: Now) -> Fact {
        let Self { act, part, sent } = self;
        Fact::AttemptFailed { act, part, failure, sent, retry_at, at: now.wall }
    }
}

impl Upload {
    pub(crate) fn on_part(
        &mut self,
        part: PartNumber,
        reply: Result<Outcome, Setback>,
        context: AnswerContext<'_>,
    ) -> Decision {
        match reply {
            Ok(Outcome::Sent { reply: Reply::PartStored(stored), md5, sent }) => {
                self.on_part_put(part, Put { stored, md5, sent }, context)
            }
            Ok(other) => self.on_mismatch(&other, context),
            Err(Setback { failure, sent }) => {
                self.on_failed(failure, Tried { act: "put part", part: Some(part), sent }, context)
            }
        }
    }

    pub(crate) fn on_step(
        &mut self,
        step: &UploadStep,
        reply: Result<Outcome, Setback>,
        context: AnswerContext<'_>,
    ) -> Decision {
        match reply {
            Ok(outcome) => self.on_outcome(&step.detail, outcome, context),
            // A source that was removed after it arrived cannot be digested; its arrival is proved.
            Err(Setback { failure, .. })
                if step.detail == StepDetail::Digest
                    && matches!(
                        failure.kind,
                        FailureKind::SourceGone | FailureKind::SourceChanged
                    ) =>
            {
                Decision::fact(Fact::Digested { md5: None, sha256: None })
            }
            Err(Setback { failure, sent }) => {
                self.on_failed(failure, Tried { act: step.name, part: None, sent }, context)
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "an outcome of another act is one case")]
    fn on_outcome(
        &mut self,
        detail: &StepDetail,
        outcome: Outcome,
        context: AnswerContext<'_>,
    ) -> Decision {
        let (now, at) = (context.now, context.now.wall);
        match (outcome, detail) {
            (Outcome::HolderFound(found), _) => self.on_holder_found(found, context),
            (Outcome::FileHashed { mark }, _) => self.on_file_hashed(mark, context),
            (Outcome::SourceProved { version, differing }, _) => {
                self.on_source_proved(version, &differing)
            }
            (Outcome::SourceMoved { version: seen }, _) => {
                let due = now.monotonic.after(context.quiet_period);
                self.life.source = SourceProof::Moving { seen, due };
                Decision::NONE
            }
            (Outcome::PartHashed { md5 }, StepDetail::HashPart(part)) => {
                self.on_part_hashed(*part, md5, now)
            }
            (Outcome::FileDigested { md5, sha256 }, _) => {
                Decision::fact(Fact::Digested { md5, sha256 })
            }
            (Outcome::ReceiptWritten(written), _) => {
                Decision::fact(Fact::ReceiptWritten { written, at })
            }
            (Outcome::Sent { reply: Reply::WholeStored(whole), md5, sent }, _) => {
                self.on_whole_put(whole, md5, sent, context)
            }
            (Outcome::Replied(reply), StepDetail::Call(reported)) => match reply {
                Reply::Located(found) => self.on_located(found, context),
                Reply::Begun(remote) => self.adopt(remote, Doubt::None, now),
                Reply::BegunFound(found) => self.on_found_begun(found, now),
                Reply::PartsListed(parts) => self.on_parts_listed(parts, context),
                Reply::PartsReported => self.on_reported(reported, now),
                Reply::Completed(file) => Decision::fact(Fact::Completed { file, at }),
                Reply::CompletionFound(found) => self.on_completion_found(found, now),
                Reply::Inspected(found) => self.on_inspected(found, context),
                Reply::Described => Decision::fact(Fact::Described),
                Reply::Renamed(is_there) => self.on_renamed(is_there, context),
                Reply::Removed => self.on_removed(),
                other => self.on_mismatch(&Outcome::Replied(other), context),
            },
            (other, _) => self.on_mismatch(&other, context),
        }
    }

    /// An outcome that does not belong to its act is a defect of the shell: retried, never trusted.
    fn on_mismatch(&mut self, outcome: &Outcome, context: AnswerContext<'_>) -> Decision {
        debug_assert!(false, "an outcome of another act: {outcome:?}");
        self.life.doubt = Doubt::Ask;
        let why = "the answer belongs to another question";
        let failure = Failure::new(FailureKind::LocalFault, why);
        self.on_failed(failure, Tried::plain("unknown"), context)
    }

    /// The outcome of a complete whose answer was lost, or whose upload is reported as gone.
    fn on_completion_found(&mut self, completion: Completion, now: Now) -> Decision {
        match completion {
            Completion::Done(file) => Decision::fact(Fact::Completed { file, at: now.wall }),
            Completion::Pending => {
                self.life.doubt = Doubt::None;
                Decision::NONE
            }
            Completion::Gone => self.start_over(now),
            Completion::Unknown(why) => {
                Decision::park(ParkReason::CompletionUnknown, why, now.wall)
            }
        }
    }

    /// The platform has an upload of ours; a found one may have parts, so they are listed.
    fn adopt(&mut self, remote: RemoteUpload, doubt: Doubt, now: Now) -> Decision {
        if !matches!(self.state.stage, Stage::Beginning { .. }) {
            return Decision { cleanups: vec![remote.id], ..Decision::NONE };
        }
        if self.is_ending() {
            return Decision { cleanups: vec![remote.id], ..self.end_now(now) };
        }
        if !self.fits_in(&remote) {
            let detail = "the platform's part size and part count do not cover the file";
            let parked = Decision::park(ParkReason::BadRequest, detail, now.wall);
            return Decision { cleanups: vec![remote.id], ..parked };
        }
        self.life.doubt = doubt;
        self.life.name.accepted();
        Decision::fact(Fact::Begun { remote, at: now.wall })
    }

    /// Remote uploads that may be ours: the newest in which the file fits is adopted; the others,
    /// including those for other versions of it, are removed.
    fn on_found_begun(&mut self, found: Vec<RemoteUpload>, now: Now) -> Decision {
        let is_wanted = |remote: &RemoteUpload| !self.is_ending() && self.fits_in(remote);
        let (wanted, others): (Vec<_>, Vec<_>) = found.into_iter().partition(is_wanted);
        let mut wanted = wanted.into_iter();
        let mut answer = match wanted.next() {
            Some(newest) => self.adopt(newest, Doubt::Ask, now),
            None if self.is_ending() => self.end_now(now),
            None => self.on_none_begun(now),
        };
        answer.cleanups.extend(wanted.chain(others).map(|remote| remote.id));
        answer
    }

    fn on_none_begun(&mut self, now: Now) -> Decision {
        self.life.doubt = Doubt::None;
        match self.life.name.take_refused() {
            true => self.start_over(now),
            false => Decision::NONE,
        }
    }
}

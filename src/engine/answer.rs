//! Turns what came back for one upload into facts: one function per outcome, none of them acts.
//!
//! Success hangs on exactly one arm each: a file counts as completed when the platform said so to
//! our complete, or when the platform found it after a complete whose answer was lost; as verified
//! when its length equals the source's, and its digest what was sent where the platform tells one.

use std::time::Duration;

mod failed;

pub(super) use failed::in_vain;

use super::claims::Owner;
use super::settings::RetrySettings;
use super::upload::{Doubt, Upload, digest_of};
use crate::model::digest::Verdict as ETagVerdict;
use crate::model::remote::ContentMark;
use crate::model::{
    ByteCount, Completion, ETag, ETagMode, Fact, Failure, FailureKind, Md5, NamePolicy, Now,
    ParkReason, PartNumber, PartState, PlaceHolder, RemoteFile, RemotePart, RemoteUpload,
    RemoteUploadId, Stage, WallTime,
};

/// A damaged part is sent this often before the upload parks.
const PART_MISMATCH_MAX: u32 = 3;
/// A complete is refused this often before the upload starts over.
const REFUSAL_MAX: u32 = 3;
/// The platform may lose an upload this often in one life of the daemon. What a kill loses, an address
/// that was in memory alone, is not the platform's doing: it costs one in each life.
const RESTART_MAX: u32 = 5;
/// Names tried under the policy `rename`.
const RENAME_MAX: u32 = 100;
/// After a complete without answer: the platform may still be at it.
const COMPLETE_PAUSE: Duration = Duration::from_secs(10);

/// What follows from an outcome.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// What happened, in order.
    pub(crate) facts: Vec<Fact>,
    /// Remote uploads that must be removed.
    pub(crate) cleanups: Vec<RemoteUploadId>,
}

impl Answer {
    pub(crate) fn fact(fact: Fact) -> Self {
        Self { facts: vec![fact], ..Self::default() }
    }

    fn park(reason: ParkReason, detail: impl Into<String>, at: WallTime) -> Self {
        Self::fact(Fact::Parked { reason, detail: detail.into(), at })
    }
}

/// What a failed act was, as far as its failure is judged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tried {
    /// Its name, kept with the attempt.
    pub(crate) act: &'static str,
    /// Which part.
    pub(crate) part: Option<PartNumber>,
    /// Bytes that went in vain.
    pub(crate) sent: ByteCount,
    /// The destination takes nothing any more; the act goes again when it does.
    pub(crate) closed: bool,
}

impl Upload {
    /// A file of our name is there, or none is.
    pub(crate) fn on_located(
        &mut self,
        found: Option<RemoteFile>,
        policy: NamePolicy,
        now: Now,
    ) -> Answer {
        let Some(file) = found else {
            self.life.doubt = Doubt::None;
            return Answer::default();
        };
        if self.life.owner == Owner::Unknown {
            // Whose it is comes first, and then this again.
            self.life.found = Some(file);
            return Answer::default();
        }
        if let Owner::Ours(holder) = &self.life.owner {
            let holder = (**holder).clone();
            return self.meet_ours(file, &holder, policy, now);
        }
        match policy {
            NamePolicy::Overwrite => {
                self.life.doubt = Doubt::None;
                Answer::default()
            }
            NamePolicy::Rename => self.rename(now),
            // An equal length proves sameness only when it is zero, and then whatever a digest says.
            NamePolicy::SkipIfSame if file.size == Some(ByteCount(0)) && self.size().0 == 0 => {
                Answer::fact(Fact::FoundPresent { file, at: now.wall })
            }
            NamePolicy::SkipIfSame if file.size == Some(self.size()) && file.mark.is_some() => {
                self.life.found = Some(file);
                Answer::default()
            }
            NamePolicy::SkipIfSame | NamePolicy::Park => {
                Answer::park(ParkReason::NameTaken, name_taken(&file), now.wall)
            }
        }
    }

    /// The rows say whose a file under our name is.
    pub(crate) fn on_holder_found(
        &mut self,
        holder: Option<PlaceHolder>,
        policy: NamePolicy,
        now: Now,
    ) -> Answer {
        if self.state.stage != Stage::Queued {
            return Answer::default();
        }
        self.life.owner = holder.map_or(Owner::NoneOfOurs, |holder| Owner::Ours(Box::new(holder)));
        match self.life.found.take() {
            Some(file) => self.on_located(Some(file), policy, now),
            None => Answer::default(),
        }
    }

    /// A file of another source of ours has our name: it is never replaced. The same content is
    /// complete.
    fn meet_ours(
        &mut self,
        file: RemoteFile,
        holder: &PlaceHolder,
        policy: NamePolicy,
        now: Now,
    ) -> Answer {
        if file.size == Some(self.size()) {
            if self.size().0 == 0 {
                return Answer::fact(Fact::FoundPresent { file, at: now.wall });
            }
            if file.mark.is_some() {
                self.life.found = Some(file);
                return Answer::default();
            }
        }
        self.differ_from_ours(holder, policy, now)
    }

    fn differ_from_ours(&mut self, holder: &PlaceHolder, policy: NamePolicy, now: Now) -> Answer {
        if policy == NamePolicy::Rename {
            return self.rename(now);
        }
        let own = &self.admission;
        let PlaceHolder { upload, source } = holder;
        let detail = format!(
            "upload {upload} of {source} holds {}, and {}/{} is another file",
            own.target_path(),
            own.drop,
            own.path,
        );
        Answer::park(ParkReason::PlaceTakenByOurs, detail, now.wall)
    }

    fn rename(&mut self, now: Now) -> Answer {
        self.life.name_version += 1;
        if self.life.name_version > RENAME_MAX {
            return Answer::park(ParkReason::NameTaken, "a hundred names are taken", now.wall);
        }
        let original = super::plan::readable(self.admission.path.file_name());
        let name = super::plan::next_name(&original, self.life.name_version);
        Answer::fact(Fact::Renamed { name })
    }

    /// What became of a complete whose answer was lost, or whose upload is said to be gone.
    pub(crate) fn on_completion_found(&mut self, completion: Completion, now: Now) -> Answer {
        match completion {
            Completion::Done(file) => Answer::fact(Fact::Completed { file, at: now.wall }),
            Completion::Pending => {
                self.life.doubt = Doubt::None;
                Answer::default()
            }
            Completion::Gone => self.start_over(Vec::new(), now),
            Completion::Unknown(why) => Answer::park(ParkReason::CompletionUnknown, why, now.wall),
        }
    }

    /// The source was read in the layout of the file that stands there.
    pub(crate) fn on_file_hashed(
        &mut self,
        mark: ContentMark,
        policy: NamePolicy,
        now: Now,
    ) -> Answer {
        let holder = match &self.life.owner {
            Owner::Ours(holder) => Some((**holder).clone()),
            Owner::Unknown | Owner::NoneOfOurs => None,
        };
        match self.life.found.take() {
            Some(file) if file.mark == Some(mark) => {
                Answer::fact(Fact::FoundPresent { file, at: now.wall })
            }
            Some(file) => match holder {
                Some(holder) => self.differ_from_ours(&holder, policy, now),
                None => Answer::park(ParkReason::NameTaken, name_taken(&file), now.wall),
            },
            None => Answer::default(),
        }
    }

    /// The platform has an upload for us; one that was found may have parts, so they are asked for.
    pub(crate) fn on_begun(&mut self, remote: RemoteUpload, doubt: Doubt, now: Now) -> Answer {
        if !matches!(self.state.stage, Stage::Beginning { .. }) {
            return Answer { cleanups: vec![remote.id], ..Answer::default() };
        }
        if self.life.is_superseded {
            return Answer { cleanups: vec![remote.id], ..self.superseded(now) };
        }
        if !self.fits_in(&remote) {
            let detail = "the platform's part size and part count do not cover the file";
            let answer = Answer::park(ParkReason::BadRequest, detail, now.wall);
            return Answer { cleanups: vec![remote.id], ..answer };
        }
        self.life.doubt = doubt;
        self.life.name_taken = false;
        Answer::fact(Fact::Begun { remote, at: now.wall })
    }

    /// Remote uploads that may be ours: the newest in which the file fits is adopted, the others,
    /// begun for other versions of it too, are removed.
    pub(crate) fn on_found_begun(&mut self, found: Vec<RemoteUpload>, now: Now) -> Answer {
        let is_wanted = |remote: &RemoteUpload| !self.life.is_superseded && self.fits_in(remote);
        let (wanted, others): (Vec<_>, Vec<_>) = found.into_iter().partition(is_wanted);
        let mut wanted = wanted.into_iter();
        let mut answer = match wanted.next() {
            Some(newest) => self.on_begun(newest, Doubt::Ask, now),
            None if self.life.is_superseded => self.superseded(now),
            None => self.on_none_begun(now),
        };
        answer.cleanups.extend(wanted.chain(others).map(|remote| remote.id));
        answer
    }

    fn on_none_begun(&mut self, now: Now) -> Answer {
        self.life.doubt = Doubt::None;
        if std::mem::take(&mut self.life.name_taken) {
            return self.start_over(Vec::new(), now);
        }
        Answer::default()
    }

    /// Compares what the platform knows with what we know; what has a checkpoint counts where it
    /// cannot tell.
    pub(crate) fn on_parts_listed(
        &mut self,
        listed: Option<Vec<RemotePart>>,
        reports: bool,
    ) -> Answer {
        self.life.doubt = Doubt::None;
        let Some(listed) = listed else { return Answer::default() };
        let compared = super::recover::compare(&self.parts, &listed, reports);
        self.life.doubtful = compared.doubtful;
        Answer { facts: compared.repairs, ..Answer::default() }
    }

    /// A part that the platform has was read: it counts when the digest agrees.
    pub(crate) fn on_part_hashed(&mut self, part: PartNumber, md5: Md5, now: Now) -> Answer {
        let is_open = self.parts.get(part.index()) == Some(&PartState::Open);
        match self.life.doubtful.remove(&part) {
            Some(etag) if is_open && Md5::parse(etag.as_str()) == Some(md5) => Answer {
                facts: vec![
                    Fact::PartAccepted { part, md5, etag, sent: ByteCount(0), at: now.wall },
                    Fact::PartsReported { parts: vec![part] },
                ],
                ..Answer::default()
            },
            Some(_) | None => Answer::default(),
        }
    }

    /// The storage took a part.
    pub(crate) fn on_part_put(
        &mut self,
        part: PartNumber,
        put: (ETag, Md5, ByteCount),
        now: Now,
    ) -> Answer {
        let (etag, md5, sent) = put;
        let mode = self.state.etag_mode;
        let learned = match (mode.judge(&etag, md5), mode) {
            (ETagVerdict::Equal, ETagMode::Unknown) => Some(ETagMode::Md5),
            (ETagVerdict::Silent, ETagMode::Unknown) => Some(ETagMode::Opaque),
            (ETagVerdict::Equal | ETagVerdict::Silent, _) => None,
            (ETagVerdict::Differs, ETagMode::Unknown)
                if self.life.mismatches.contains_key(&part) =>
            {
                Some(ETagMode::Opaque)
            }
            (ETagVerdict::Differs, _) => return self.on_part_damaged(part, sent, now),
        };
        self.life.mismatches.remove(&part);
        self.life.part_waits.remove(&part);
        self.life.failing_since = None;
        self.life.is_told_stuck = false;
        self.life.unreported_since.get_or_insert(now.monotonic);
        let accepted = Fact::PartAccepted { part, md5, etag, sent, at: now.wall };
        let learned = learned.map(|mode| Fact::ETagModeLearned { mode });
        Answer { facts: learned.into_iter().chain([accepted]).collect(), ..Answer::default() }
    }

    /// The storage took the file in one request: what a begin, a part and a complete would have said,
    /// and what an inspection would where the answer proves that all of it is there.
    pub(crate) fn on_whole_put(
        &mut self,
        (remote, file): (RemoteUpload, RemoteFile),
        put: (ETag, Md5, ByteCount),
        is_told_all: bool,
        now: Now,
    ) -> Answer {
        let is_awaited = matches!(self.state.stage, Stage::Queued | Stage::Beginning { .. });
        if !is_awaited || !self.fits_in(&remote) {
            return Answer::default();
        }
        let md5 = put.1;
        let is_proved = self.state.etag_mode.judge(&put.0, md5) == ETagVerdict::Equal;
        let part = PartNumber::from_index(0);
        let mark = ContentMark { part_size: remote.part_size, md5_of_parts: digest_of(&[md5]) };
        let is_intended = self.state.stage != Stage::Queued;
        let intent = Fact::BeginIntended { part_size: None, at: now.wall };
        let mut answer = Answer::default();
        answer.facts.extend((!is_intended).then_some(intent));
        answer.facts.push(Fact::Begun { remote, at: now.wall });
        answer.facts.extend(self.on_part_put(part, put, now).facts);
        if !answer.facts.iter().any(|fact| matches!(fact, Fact::PartAccepted { .. })) {
            return answer;
        }
        let is_verified =
            is_proved && is_told_all && file.size == Some(self.size()) && file.mark == Some(mark);
        answer.facts.push(Fact::CompleteIntended { at: now.wall });
        answer.facts.push(Fact::Completed { file, at: now.wall });
        if is_verified {
            answer.facts.push(Fact::Verified { mark: Some(mark), at: now.wall });
        }
        answer
    }

    fn on_part_damaged(&mut self, part: PartNumber, sent: ByteCount, now: Now) -> Answer {
        let count = self.life.mismatches.entry(part).or_default();
        *count += 1;
        let count = *count;
        let message = format!("part {part} arrived with another digest than it was read with");
        let failure = Failure::new(FailureKind::PartRejected, message.clone());
        let failed = Fact::AttemptFailed {
            act: "put part",
            part: Some(part),
            failure,
            sent,
            retry_at: None,
            at: now.wall,
        };
        let parked = (count >= PART_MISMATCH_MAX).then_some(Fact::Parked {
            reason: ParkReason::PartCorrupt,
            detail: message,
            at: now.wall,
        });
        Answer { facts: [failed].into_iter().chain(parked).collect(), ..Answer::default() }
    }

    /// The platform was told of these parts.
    pub(crate) fn on_reported(&mut self, parts: Vec<PartNumber>, now: Now) -> Answer {
        let still = |part: &PartNumber| {
            matches!(self.parts.get(part.index()), Some(PartState::Accepted { .. }))
        };
        let parts: Vec<_> = parts.into_iter().filter(still).collect();
        let pending = self.state.accepted_count - self.state.reported_count;
        let left = pending as usize > parts.len();
        self.life.unreported_since = left.then_some(now.monotonic);
        if parts.is_empty() {
            return Answer::default();
        }
        Answer::fact(Fact::PartsReported { parts })
    }

    /// The file was asked for by its id.
    pub(crate) fn on_inspected(
        &mut self,
        found: Option<RemoteFile>,
        settings: RetrySettings,
        now: Now,
    ) -> Answer {
        let mark = self.content_mark();
        if let Some((sent, there)) = mark.zip(found.as_ref().and_then(|file| file.mark))
            && self.state.etag_mode == ETagMode::Md5
            && sent.part_size == there.part_size
            && sent.md5_of_parts != there.md5_of_parts
        {
            let detail = format!("{} there, {} sent", there.md5_of_parts, sent.md5_of_parts);
            return Answer::park(ParkReason::ContentDiffers, detail, now.wall);
        }
        match found.map(|file| file.size) {
            Some(Some(size)) if size == self.size() => {
                Answer::fact(Fact::Verified { mark, at: now.wall })
            }
            Some(Some(size)) => {
                let detail = format!("{} bytes there, {} bytes here", size.0, self.size().0);
                Answer::park(ParkReason::SizeDiffers, detail, now.wall)
            }
            Some(None) => {
                let failure =
                    Failure::new(FailureKind::BadAnswer, "the file was told without its size");
                self.on_failed(failure, Tried::plain("inspect"), settings, now)
            }
            None if self.state.attempt_count < RESTART_MAX => {
                let failure =
                    Failure::new(FailureKind::ServerFault, "the completed file is not there");
                self.on_failed(failure, Tried::plain("inspect"), settings, now)
            }
            None => {
                Answer::park(ParkReason::TargetMissing, "the completed file is not there", now.wall)
            }
        }
    }
}

impl Tried {
    /// An act without part and bytes.
    pub(crate) fn plain(act: &'static str) -> Self {
        Self { act, part: None, sent: ByteCount(0), closed: false }
    }
}

fn name_taken(file: &RemoteFile) -> String {
    let size = file.size.map_or(String::new(), |size| format!(" of {} bytes", size.0));
    let proof = match file.mark {
        Some(_) => "its digest does not prove the same content",
        None => "there is no digest to compare",
    };
    format!("file {}{size} stands under this name, and {proof}", file.id)
}

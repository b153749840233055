//! What the storage's answers prove of the bytes it has: parts that arrived, were damaged, or must be
//! read back; the whole file at its end.
//!
//! | the ETag is | and | then |
//! |---|---|---|
//! | the MD5 of what was read | | the part counts; a part that counted without that is sent again |
//! | no digest by the storage's own word | | the part counts |
//! | another digest | the documents promise MD5s, or one was seen, or it cannot be read back | it is damaged: sent again, parked after [`DAMAGE_MAX`] times |
//! | another digest | an earlier sending was given the same one | the same |
//! | another digest | an earlier sending was given yet another one | it counts, and the file is read back before it is verified |
//!
//! | at the end | then |
//! |---|---|
//! | the size differs | parked |
//! | it was read back and differs | it is ours and damaged: begun again, and replaced |
//! | one part, proved, and the file's digest differs | the same where a file can be replaced, else parked |
//! | many parts, each proved, and the file's digest differs | verified: a rule of its own, told once for each destination |

use super::super::{Damage, Upload, digest_of};
use super::{Answer, RESTART_MAX, Tried};
use crate::engine::settings::RetrySettings;
use crate::model::digest::Verdict;
use crate::model::remote::ContentMark;
use crate::model::{
    ByteCount, ETagEvidence, ETagLaw, ETagMode, Fact, Failure, FailureKind, Md5, Now, ParkReason,
    PartNumber, PartState, RemoteFile, RemoteUpload, Stage, Stored,
};

/// A damaged part is sent this often before the upload parks.
const DAMAGE_MAX: u32 = 5;

/// What the storage answered to bytes that were sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Put {
    pub(crate) stored: Stored,
    /// Digest of the bytes that were read.
    pub(crate) md5: Md5,
    /// How many went over the wire.
    pub(crate) sent: ByteCount,
}

/// What came of a file that was sent in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WholePut {
    /// What stands for its upload.
    pub(crate) remote: RemoteUpload,
    pub(crate) file: RemoteFile,
    /// The answer to its only part.
    pub(crate) put: Put,
    /// Nothing is left to be said of it.
    pub(crate) is_told_all: bool,
}

/// What is known of a destination's ETags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ETagMemory {
    /// What its platform's documents promise.
    pub(crate) law: ETagLaw,
    /// One has equalled the MD5 of what was sent.
    pub(crate) md5_seen: bool,
    /// A file of one part is one request, which can be repeated to replace what it made.
    pub(crate) sends_whole: bool,
}

impl Default for ETagMemory {
    fn default() -> Self {
        let law = ETagLaw::Mostly { reads_back: false };
        Self { law, md5_seen: true, sends_whole: false }
    }
}

impl Upload {
    /// A part that the platform has was read: it counts when the digest agrees.
    pub(crate) fn on_part_hashed(&mut self, part: PartNumber, md5: Md5, now: Now) -> Answer {
        let is_open = self.parts.get(part.index()) == Some(&PartState::Open);
        let Some(etag) = self.life.doubtful.remove(&part) else { return Answer::default() };
        if !is_open {
            return Answer::default();
        }
        if Md5::parse(etag.as_str()) != Some(md5) {
            self.note_damage(part, &etag);
            return Answer::default();
        }
        let put = Put { stored: etag.into(), md5, sent: ByteCount(0) };
        let answer = self.accept(part, put, Verdict::Equal, now);
        let reported = Fact::PartsReported { parts: vec![part] };
        Answer { facts: answer.facts.into_iter().chain([reported]).collect(), ..answer }
    }

    /// The storage took a part.
    pub(crate) fn on_part_put(
        &mut self,
        part: PartNumber,
        put: Put,
        memory: ETagMemory,
        now: Now,
    ) -> Answer {
        let verdict = self.judge(part, &put, memory);
        match verdict {
            Verdict::Differs => self.on_part_damaged(part, &put, now),
            Verdict::Equal | Verdict::Silent | Verdict::Unproved => {
                self.life.part_waits.remove(&part);
                self.life.failing_since = None;
                self.life.unreported_since.get_or_insert(now.monotonic);
                self.accept(part, put, verdict, now)
            }
        }
    }

    fn judge(&self, part: PartNumber, put: &Put, memory: ETagMemory) -> Verdict {
        let evidence = ETagEvidence {
            law: memory.law,
            mode: self.state.etag_mode,
            md5_seen: memory.md5_seen,
            earlier: self.life.damage.get(&part).map(|damage| &damage.etag),
        };
        evidence.judge(&put.stored, put.md5)
    }

    /// A part counts, and may show what the others are worth.
    fn accept(&mut self, part: PartNumber, put: Put, verdict: Verdict, now: Now) -> Answer {
        use ETagMode::{Md5 as Md5s, Opaque, ReadBack, Unknown};
        let mode = match (verdict, self.state.etag_mode) {
            (Verdict::Equal, Unknown | Md5s | ReadBack) => Md5s,
            (Verdict::Equal, Opaque) => Opaque,
            (Verdict::Silent, Unknown | Md5s | Opaque) => Opaque,
            (Verdict::Unproved, _) | (Verdict::Silent, ReadBack) => ReadBack,
            (Verdict::Differs, mode) => mode,
        };
        let is_refuted = mode == Md5s && self.state.etag_mode == ReadBack;
        let reopened = if is_refuted { self.reopen_unproved() } else { Vec::new() };
        let learned = (mode != self.state.etag_mode).then_some(Fact::ETagModeLearned { mode });
        if verdict == Verdict::Equal {
            self.life.damage.remove(&part);
        }
        let Put { stored: Stored { etag, note, .. }, md5, sent } = put;
        let accepted = Fact::PartAccepted { part, md5, etag, note, sent, at: now.wall };
        Answer {
            facts: reopened.into_iter().chain(learned).chain([accepted]).collect(),
            is_md5_seen: verdict == Verdict::Equal,
            ..Answer::default()
        }
    }

    /// Parts that counted although their ETags look like other digests: ETags are digests after all.
    fn reopen_unproved(&self) -> Vec<Fact> {
        let parts = self.parts.iter().enumerate();
        let unproved = parts.filter_map(|(index, part)| {
            let (md5, etag) = part.checkpoint()?;
            let part = PartNumber::from_index(index);
            let was_reported = matches!(self.parts[index], PartState::Reported { .. });
            let differs = Md5::parse(etag.as_str()).is_some_and(|said| said != md5);
            differs.then_some(Fact::PartReopened { part, was_reported })
        });
        unproved.collect()
    }

    fn note_damage(&mut self, part: PartNumber, etag: &crate::model::ETag) -> &mut Damage {
        if self.parts.len() <= 1 {
            self.life.replaces = Some(etag.clone());
        }
        let damage = self.life.damage.entry(part);
        let damage = damage.or_insert_with(|| Damage { count: 0, etag: etag.clone() });
        damage.etag.clone_from(etag);
        damage
    }

    fn on_part_damaged(&mut self, part: PartNumber, put: &Put, now: Now) -> Answer {
        let Put { stored, md5, sent } = put;
        let damage = self.note_damage(part, &stored.etag);
        damage.count += 1;
        let count = damage.count;
        let message = format!(
            "part {part} is stored with the digest {}, and was read with {md5}",
            stored.etag
        );
        let failure = Failure::new(FailureKind::PartRejected, message.clone());
        let failed = Fact::AttemptFailed {
            act: "put part",
            part: Some(part),
            failure,
            sent: *sent,
            retry_at: None,
            at: now.wall,
        };
        let parked = (count >= DAMAGE_MAX).then(|| {
            self.life.damage.remove(&part);
            let detail = format!("{message}: the {count}th time");
            Fact::Parked { reason: ParkReason::PartCorrupt, detail, at: now.wall }
        });
        Answer { facts: [failed].into_iter().chain(parked).collect(), ..Answer::default() }
    }

    /// The storage took the file in one request: what a begin, a part and a complete would have said,
    /// and what an inspection would where the answer proves that all of it is there.
    pub(crate) fn on_whole_put(&mut self, whole: WholePut, memory: ETagMemory, now: Now) -> Answer {
        let WholePut { remote, file, put, is_told_all } = whole;
        let is_awaited = matches!(self.state.stage, Stage::Queued | Stage::Beginning { .. });
        if !is_awaited || !self.fits_in(&remote) {
            return Answer::default();
        }
        let part = PartNumber::from_index(0);
        let verdict = self.judge(part, &put, memory);
        let md5_of_parts = digest_of(&[put.md5]);
        let mark = ContentMark { part_size: remote.part_size, md5_of_parts };
        let is_intended = self.state.stage != Stage::Queued;
        let intent = Fact::BeginIntended { part_size: None, at: now.wall };
        let mut facts = Vec::new();
        facts.extend((!is_intended).then_some(intent));
        facts.push(Fact::Begun { remote, at: now.wall });
        let answer = self.on_part_put(part, put, memory, now);
        facts.extend(answer.facts);
        let answer = Answer { facts, ..answer };
        if matches!(verdict, Verdict::Differs | Verdict::Unproved) {
            return answer;
        }
        let is_verified = verdict == Verdict::Equal
            && is_told_all
            && file.size == Some(self.size())
            && file.mark == Some(mark);
        let mut facts = answer.facts;
        let etag = file.etag.clone();
        facts.push(Fact::CompleteIntended { at: now.wall });
        facts.push(Fact::Completed { file, at: now.wall });
        if is_verified {
            let (mark, there) = (Some(mark), Some(mark));
            facts.push(Fact::Verified { mark, there, etag, at: now.wall });
        }
        Answer { facts, ..answer }
    }

    /// The file was asked for by its id, or read back.
    pub(crate) fn on_inspected(
        &mut self,
        found: Option<RemoteFile>,
        memory: ETagMemory,
        settings: RetrySettings,
        now: Now,
    ) -> Answer {
        let missing = "the completed file is not there";
        match found {
            Some(file) if file.size == Some(self.size()) => self.on_content_told(file, memory, now),
            Some(RemoteFile { size: Some(size), .. }) => {
                let detail = format!("{} bytes there, {} bytes here", size.0, self.size().0);
                Answer::park(ParkReason::SizeDiffers, detail, now.wall)
            }
            Some(RemoteFile { size: None, .. }) => {
                let failure =
                    Failure::new(FailureKind::BadAnswer, "the file was told without its size");
                self.on_failed(failure, Tried::plain("inspect"), settings, now)
            }
            None if self.state.attempt_count < RESTART_MAX => {
                let failure = Failure::new(FailureKind::ServerFault, missing);
                self.on_failed(failure, Tried::plain("inspect"), settings, now)
            }
            None => Answer::park(ParkReason::TargetMissing, missing, now.wall),
        }
    }

    /// The file is as long as the source, and has the digest of its content, where one is known.
    fn on_content_told(
        &mut self,
        RemoteFile { mark: there, etag, .. }: RemoteFile,
        memory: ETagMemory,
        now: Now,
    ) -> Answer {
        let sent = self.content_mark();
        let differs = sent.zip(there).filter(|(sent, there)| {
            sent.part_size == there.part_size && sent.md5_of_parts != there.md5_of_parts
        });
        let differs = differs.map(|(sent, there)| {
            format!("{} there, {} sent", there.md5_of_parts, sent.md5_of_parts)
        });
        let verified = Answer::fact(Fact::Verified { mark: sent, there, etag, at: now.wall });
        match (self.state.etag_mode, differs) {
            (ETagMode::ReadBack, _) if sent.is_some() && sent == there => verified,
            (ETagMode::ReadBack, differs) => {
                let detail = differs.unwrap_or_else(|| "it was read back in other parts".into());
                let is_md5_seen = self.are_etags_md5s_of(there);
                Answer { is_md5_seen, ..self.replace_damaged(detail, now) }
            }
            (ETagMode::Md5, Some(detail)) if self.parts.len() == 1 => match memory.sends_whole {
                true => self.replace_damaged(detail, now),
                false => Answer::park(ParkReason::ContentDiffers, detail, now.wall),
            },
            (ETagMode::Md5, _) => Answer { strange_digest: strange(sent, there), ..verified },
            (ETagMode::Unknown | ETagMode::Opaque, _) => verified,
        }
    }

    /// Tells whether the ETags of the parts are the MD5s of what was read back, which is not what was sent.
    fn are_etags_md5s_of(&self, there: Option<ContentMark>) -> bool {
        let said = self.parts.iter().map(|part| Md5::parse(part.checkpoint()?.1.as_str()));
        let said: Option<Vec<_>> = said.collect();
        said.zip(there).is_some_and(|(said, there)| digest_of(&said) == there.md5_of_parts)
    }

    /// Begins again because what was put together is not what was sent; what stands there is ours, and
    /// is replaced. Parks when that has happened too often.
    fn replace_damaged(&mut self, detail: String, now: Now) -> Answer {
        if self.life.lost_count >= RESTART_MAX {
            return Answer::park(ParkReason::ContentDiffers, detail, now.wall);
        }
        let failure = Failure::new(FailureKind::PartRejected, format!("it is damaged: {detail}"));
        let failed = Fact::AttemptFailed {
            act: "verify",
            part: None,
            failure,
            sent: ByteCount(0),
            retry_at: None,
            at: now.wall,
        };
        let answer = self.start_over(Vec::new(), now);
        Answer { facts: [failed].into_iter().chain(answer.facts).collect(), ..answer }
    }
}

/// Says both digests of a file of many parts when they are not made by one rule.
fn strange(sent: Option<ContentMark>, there: Option<ContentMark>) -> Option<String> {
    let (sent, there) = sent.zip(there).filter(|(sent, there)| sent != there)?;
    Some(format!("{} there, {} sent", there.md5_of_parts, sent.md5_of_parts))
}

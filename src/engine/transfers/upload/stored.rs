//! What the storage's answers prove about its bytes: parts that arrived, were damaged, or must be
//! read back; and the whole file at the end.
//!
//! | the ETag is | and | then |
//! |---|---|---|
//! | the MD5 of what was read | | the part counts; a part that counted without this proof is sent again |
//! | no digest, as the storage states | | the part counts |
//! | another digest | the documentation promises MD5s, or one was seen, or it cannot be read back | it is damaged: sent again, parked after [`DAMAGE_MAX`] times |
//! | another digest | an earlier request for the part got the same one | the same |
//! | another digest | an earlier request for the part got yet another one | it counts, and the file is read back before it is verified |
//! | no digest, or another one | the bytes were already there, not sent by this request | nothing proves them: they are sent again and replace exactly that object |
//!
//! | at the end | then |
//! |---|---|
//! | the size differs | parked |
//! | it may not be looked up, or its size is not shown, and the answer to its complete has the digest of what was sent | verified |
//! | it was read back and differs | it is ours and damaged: begun again, and replaced |
//! | its digest differs, and a different one was reported fewer than [`SHOWN_MIN`] times | asked for again |
//! | one part, proved, and the file's digest differs | the same where a file can be replaced, else parked |
//! | many parts, each proved, and the file's digest differs | verified: the digest follows another rule, reported once for each destination |

use super::Upload;
use super::answer::{AnswerContext, Decision, Tried};
use super::failed::RESTART_MAX;
use crate::model::digest::Verdict;
use crate::model::remote::ContentMark;
use crate::model::{
    ByteCount, Describes, ETag, ETagEvidence, ETagLaw, ETagMode, Fact, Failure, FailureKind, Md5,
    Now, ParkReason, PartNumber, PartSize, PartState, RemoteFile, Stage, Stored, Whole,
};

/// How often a platform must report an unexpected digest of a file whose parts were proved: one
/// answer may be wrong. The digests may differ: some storages make another one for each answer.
const SHOWN_MIN: u32 = 3;
/// A damaged part is sent this often before the upload parks.
const DAMAGE_MAX: u32 = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Put {
    pub(super) stored: Stored,
    pub(super) md5: Md5,
    pub(super) sent: ByteCount,
}

impl Upload {
    /// Returns the digest over all parts, when each has one.
    pub(crate) fn content_mark(&self) -> Option<ContentMark> {
        let (part_size, digests) = self.sent_parts()?;
        Some(ContentMark { part_size, md5_of_parts: digest_of(&digests) })
    }

    /// Returns the part size and the digests of all parts, when each has one.
    pub(crate) fn sent_parts(&self) -> Option<(PartSize, Vec<Md5>)> {
        let remote = self.state.stage.remote()?;
        let digests: Option<Vec<Md5>> =
            self.parts.iter().map(|part| part.checkpoint().map(|(md5, _)| md5)).collect();
        let digests = digests.filter(|list| list.len() == remote.part_count as usize)?;
        Some((remote.part_size, digests))
    }

    /// A part that the platform has was read here: it counts when the digest agrees.
    pub(super) fn on_part_hashed(&mut self, part: PartNumber, md5: Md5, now: Now) -> Decision {
        let is_open = self.parts.get(part.index()) == Some(&PartState::Open);
        let Some(etag) = self.life.parts.take_unproved(part) else {
            return Decision::NONE;
        };
        if !is_open {
            return Decision::NONE;
        }
        if Md5::parse(etag.as_str()) != Some(md5) {
            self.note_damage(part, &etag, false);
            return Decision::NONE;
        }
        let put = Put { stored: etag.into(), md5, sent: ByteCount(0) };
        let mut answer = self.accept(part, put, Verdict::Equal, now);
        answer.facts.push(Fact::PartsReported { parts: vec![part] });
        answer
    }

    pub(super) fn on_part_put(
        &mut self,
        part: PartNumber,
        put: Put,
        context: AnswerContext<'_>,
    ) -> Decision {
        let now = context.now;
        let verdict = self.judge(part, &put, context);
        if is_unproved(verdict, &put) {
            let tried = Tried { act: "put part", part: Some(part), sent: put.sent };
            return self.on_unproved_found(&put, tried, context);
        }
        match verdict {
            Verdict::Differs => self.on_part_damaged(part, &put, now),
            verdict @ (Verdict::Equal | Verdict::Silent | Verdict::Unproved) => {
                self.life.parts.arrived(part, now.monotonic);
                self.life.waits.note_readable(true, now.monotonic);
                self.accept(part, put, verdict, now)
            }
        }
    }

    /// Without a destination an ETag counts as an MD5, as most are.
    fn judge(&self, part: PartNumber, put: &Put, context: AnswerContext<'_>) -> Verdict {
        let mostly = ETagLaw::Mostly { reads_back: false };
        let evidence = ETagEvidence {
            law: context.traits().map_or(mostly, |traits| traits.etags),
            mode: self.state.etag_mode,
            md5_seen: context.md5_seen || context.destination.is_none(),
            no_digests: context.no_digests,
            earlier: self.life.parts.damaged_as(part),
        };
        evidence.judge(&put.stored, put.md5)
    }

    /// A part counts, and may show what the ETags of the others prove.
    fn accept(&mut self, part: PartNumber, put: Put, verdict: Verdict, now: Now) -> Decision {
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
            self.life.parts.forget_damage(part);
        }
        let Put { stored: Stored { etag, note, .. }, md5, sent } = put;
        let accepted = Fact::PartAccepted { part, md5, etag, note, sent, at: now.wall };
        Decision {
            facts: reopened.into_iter().chain(learned).chain([accepted]).collect(),
            is_md5_seen: verdict == Verdict::Equal,
            ..Decision::NONE
        }
    }

    /// Reopens parts that counted although their ETags look like other digests: ETags are digests after all.
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

    /// Records the ETag of a damaged part; returns how often damage was counted.
    fn note_damage(&mut self, part: PartNumber, etag: &ETag, is_counted: bool) -> u32 {
        if self.parts.len() <= 1 {
            self.life.name.damaged(etag.clone());
        }
        self.life.parts.damaged(part, etag, is_counted)
    }

    fn on_part_damaged(&mut self, part: PartNumber, put: &Put, now: Now) -> Decision {
        let Put { stored, md5, sent } = put;
        let count = self.note_damage(part, &stored.etag, true);
        let etag = &stored.etag;
        let message =
            format!("part {part} is stored with the digest {etag}, and was read with {md5}");
        let failure = Failure::new(FailureKind::PartRejected, message.clone());
        let failed =
            Tried { act: "put part", part: Some(part), sent: *sent }.failed(failure, None, now);
        let parked = (count >= DAMAGE_MAX).then(|| {
            self.life.parts.forget_damage(part);
            let detail = format!("{message}: the {count}th time");
            Fact::Parked { reason: ParkReason::PartCorrupt, detail, at: now.wall }
        });
        Decision::of([failed].into_iter().chain(parked).collect())
    }

    /// An earlier request created the file, from a version of the source that may not be this one.
    fn on_unproved_found(
        &mut self,
        put: &Put,
        tried: Tried,
        context: AnswerContext<'_>,
    ) -> Decision {
        self.note_damage(PartNumber::from_index(0), &put.stored.etag, false);
        let message = format!(
            "an earlier request made the file, and its ETag {} does not prove the content: it is sent again",
            put.stored.etag
        );
        let failure = Failure::new(FailureKind::PartRejected, message);
        self.on_failed(failure, tried, context)
    }

    /// The storage accepted the file in one request: this stands for a begin, a part and a
    /// complete, and for an inspection where the answer proves that all of it is there.
    pub(super) fn on_whole_put(
        &mut self,
        whole: Whole,
        md5: Md5,
        sent: ByteCount,
        context: AnswerContext<'_>,
    ) -> Decision {
        let (Whole { remote, stored, file }, now) = (whole, context.now);
        self.be_sure();
        let put = Put { stored, md5, sent };
        let is_awaited = matches!(self.state.stage, Stage::Queued | Stage::Beginning { .. });
        if !is_awaited || !self.fits_in(&remote) {
            return Decision::NONE;
        }
        let part = PartNumber::from_index(0);
        let verdict = self.judge(part, &put, context);
        if is_unproved(verdict, &put) {
            let tried = Tried { sent, ..Tried::plain("put whole") };
            return self.on_unproved_found(&put, tried, context);
        }
        let md5_of_parts = digest_of(&[md5]);
        let mark = Some(ContentMark { part_size: remote.part_size, md5_of_parts });
        let is_intended = self.state.stage != Stage::Queued;
        let mut answer =
            self.on_part_put(part, put, context).after(Fact::Begun { remote, at: now.wall });
        if !is_intended {
            answer = answer.after(Fact::BeginIntended { part_size: None, at: now.wall });
        }
        if matches!(verdict, Verdict::Differs | Verdict::Unproved) {
            return answer;
        }
        let is_verified = verdict == Verdict::Equal
            && context
                .traits()
                .is_some_and(|traits| traits.describes != Describes::AfterCompletion);
        let verified = self.verified_as(&file, mark.filter(|_| is_verified), now);
        answer.facts.push(Fact::CompleteIntended { at: now.wall });
        answer.facts.push(Fact::Completed { file, at: now.wall });
        answer.facts.extend(verified);
        answer
    }

    /// Returns the fact that a file is verified, if the answer that made it gave the size and the
    /// digest of what was sent.
    fn verified_as(&self, file: &RemoteFile, mark: Option<ContentMark>, now: Now) -> Option<Fact> {
        let is_proved = mark.is_some() && file.mark == mark && file.size == Some(self.size());
        let etag = file.etag.clone();
        is_proved.then_some(Fact::Verified { mark, there: mark, etag, at: now.wall })
    }

    /// Verifies a file that may not be looked at, or whose size is not shown, by the answer to its complete.
    pub(super) fn verified_unseen(&self, now: Now) -> Option<Fact> {
        let Stage::Completed { file, .. } = &self.state.stage else { return None };
        let mark = self.content_mark().filter(|_| self.state.etag_mode == ETagMode::Md5);
        self.verified_as(file, mark, now)
    }

    /// The file was looked up by its id, or read back.
    pub(super) fn on_inspected(
        &mut self,
        found: Option<RemoteFile>,
        context: AnswerContext<'_>,
    ) -> Decision {
        let now = context.now;
        let missing = "the completed file is not there";
        match found {
            Some(file) if file.size == Some(self.size()) => self.on_content(file, context),
            Some(RemoteFile { size: Some(size), .. }) => {
                let detail = format!("{} bytes there, {} bytes here", size.0, self.size().0);
                Decision::park(ParkReason::SizeDiffers, detail, now.wall)
            }
            Some(RemoteFile { size: None, .. }) => {
                if let Some(verified) = self.verified_unseen(now) {
                    return Decision::fact(verified);
                }
                let failure = Failure::new(FailureKind::BadAnswer, "the answer names no size");
                self.on_failed(failure, Tried::plain("inspect"), context)
            }
            // Some storages show a file minutes after they completed it.
            None => {
                let failure = Failure::new(FailureKind::NotFound, missing);
                self.on_failed(failure, Tried::plain("inspect"), context)
            }
        }
    }

    /// The file is as long as the source, and has its content's digest, where one is known.
    fn on_content(
        &mut self,
        RemoteFile { mark: there, etag, .. }: RemoteFile,
        context: AnswerContext<'_>,
    ) -> Decision {
        let (sent, now) = (self.content_mark(), context.now);
        // Equal digests cover the same parts, also where the platform's part size is a guess.
        let there = sent.filter(|sent| is_same(*sent, there)).or(there);
        let differs = sent.zip(there).filter(|(sent, there)| {
            sent.part_size == there.part_size && sent.md5_of_parts != there.md5_of_parts
        });
        let differs = differs.map(|(sent, there)| {
            format!("{} there, {} sent", there.md5_of_parts, sent.md5_of_parts)
        });
        let verified = Decision::fact(Fact::Verified { mark: sent, there, etag, at: now.wall });
        match (self.state.etag_mode, differs) {
            (ETagMode::ReadBack, _) if sent.is_some() && sent == there => {
                Decision { no_digests: true, ..verified }
            }
            (ETagMode::ReadBack, differs) => {
                let detail = differs.unwrap_or_else(|| "it was read back in other parts".into());
                let is_md5_seen = self.are_etags_md5s_of(there);
                Decision { is_md5_seen, ..self.replace_damaged(detail, now) }
            }
            (ETagMode::Md5, _) if self.is_doubtful(sent, there, context) => {
                let detail = strange(sent, there).unwrap_or_default();
                let failure = Failure::new(FailureKind::BadAnswer, detail);
                self.on_failed(failure, Tried::plain("inspect"), context)
            }
            (ETagMode::Md5, Some(detail)) if self.parts.len() == 1 => {
                // A single request can be repeated to replace its file.
                match context.traits().is_some_and(|traits| traits.sends_whole) {
                    true => self.replace_damaged(detail, now),
                    false => Decision::park(ParkReason::ContentDiffers, detail, now.wall),
                }
            }
            (ETagMode::Md5, _) => Decision { strange_digest: strange(sent, there), ..verified },
            (ETagMode::Unknown | ETagMode::Opaque, _) => verified,
        }
    }

    /// Returns whether an unexpected digest of a file was not reported often enough to be believed.
    fn is_doubtful(
        &mut self,
        sent: Option<ContentMark>,
        there: Option<ContentMark>,
        context: AnswerContext<'_>,
    ) -> bool {
        let is_known = context.finals_differ && self.parts.len() > 1;
        !is_known && strange(sent, there).is_some() && self.life.note_shown() < SHOWN_MIN
    }

    /// Returns whether the ETags of the parts are the MD5s of the bytes read back, which are not what was sent.
    fn are_etags_md5s_of(&self, there: Option<ContentMark>) -> bool {
        let said = self.parts.iter().map(|part| Md5::parse(part.checkpoint()?.1.as_str()));
        let said: Option<Vec<_>> = said.collect();
        said.zip(there).is_some_and(|(said, there)| digest_of(&said) == there.md5_of_parts)
    }

    /// Begins again because the completed file is not what was sent; the file there is ours, and is
    /// replaced. Parks when that has happened too often.
    fn replace_damaged(&mut self, detail: String, now: Now) -> Decision {
        if self.life.counts.lost >= RESTART_MAX {
            return Decision::park(ParkReason::ContentDiffers, detail, now.wall);
        }
        let failure = Failure::new(FailureKind::PartRejected, format!("it is damaged: {detail}"));
        let failed = Tried::plain("verify").failed(failure, None, now);
        self.start_over(now).after(failed)
    }
}

/// Returns whether an earlier request stored the bytes, and their ETag does not prove them.
fn is_unproved(verdict: Verdict, put: &Put) -> bool {
    put.stored.is_found && verdict != Verdict::Equal
}

fn is_same(sent: ContentMark, there: Option<ContentMark>) -> bool {
    there.is_some_and(|there| there.md5_of_parts == sent.md5_of_parts)
}

/// Describes both digests of a file of many parts that follow different rules.
fn strange(sent: Option<ContentMark>, there: Option<ContentMark>) -> Option<String> {
    let (sent, there) = sent.zip(there).filter(|(sent, there)| sent != there)?;
    Some(format!("{} there, {} sent", there.md5_of_parts, sent.md5_of_parts))
}

fn digest_of(digests: &[Md5]) -> Md5 {
    use md5::{Digest, Md5 as Hasher};
    let mut hasher = Hasher::new();
    digests.iter().for_each(|digest| hasher.update(digest.0));
    Md5(hasher.finalize().into())
}

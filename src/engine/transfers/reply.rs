//! What comes back for one act of a destination, handed to the upload or the part of the destination that
//! it concerns.

use super::upload::{Answer, Doubt, ETagMemory, Put, Tried, Upload, WholePut, in_vain};
use super::width::{Flown, Landing};
use super::{StepDetail, TransferAct, TransferTurn, Transfers};
use crate::engine::dispatch::{Dispatch, ToIntake};
use crate::engine::event::{ActId, Outcome, Setback};
use crate::engine::settings::RetrySettings;
use crate::model::{
    ByteCount, Describes, DirectoryName, Fact, Failure, FailureKind, Learned, NamePolicy, Now,
    OpenCleanup, PartNumber, RemoteUploadId, Reply, Stage, UploadId, Whole,
};

impl Transfers {
    /// Receives the reply to one of its acts.
    pub(in crate::engine) fn on_reply(
        &mut self,
        act: ActId,
        what: TransferAct,
        reply: Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        let is_former = what.is_call() && self.is_at_former(act);
        if what.is_call() && what != TransferAct::Probe {
            self.note_reply(act, &reply, turn);
        }
        self.note_source(&what, &reply, turn);
        match what {
            TransferAct::Abort(remote) => {
                if let Some(gate) = &mut self.gate {
                    gate.cleaned(act, remote, reply, turn);
                }
            }
            TransferAct::Probe | TransferAct::FinishRun(_) if is_former => {}
            TransferAct::Probe => {
                if let Some(gate) = &mut self.gate {
                    gate.probed(reply, turn);
                }
            }
            TransferAct::FinishRun(key) => self.ends.finished(&self.name, key, &reply, turn),
            TransferAct::Export { call, uploads } => {
                self.exports_replied(act, call, &uploads, &reply, turn);
            }
            TransferAct::Part { upload, part, remote, drop, flown } => {
                self.land(flown, &drop, &reply, turn);
                if !is_former {
                    self.on_part(upload, (part, &remote), reply, turn);
                }
            }
            TransferAct::Whole { upload, drop, flown } => {
                self.land(flown, &drop, &reply, turn);
                let tried = Tried::plain("put whole");
                self.on_step(act, (upload, StepDetail::Call(Vec::new())), tried, reply, turn);
            }
            TransferAct::Step { upload, name, detail } => {
                if detail == StepDetail::Receipt {
                    turn.shared.permits.return_receipt();
                }
                self.on_step(act, (upload, detail), Tried::plain(name), reply, turn);
            }
        }
    }

    /// Counts a reply for or against the destination, unless its act was made at a former target.
    pub(in crate::engine) fn note_reply(
        &mut self,
        act: ActId,
        reply: &Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        let is_former = self.is_at_former(act);
        if let Some(gate) = self.gate.as_mut().filter(|_| !is_former) {
            gate.note_reply(reply, turn);
        }
    }

    /// Reports a drop directory whose storage failed at an act: whether it is away, a scan tells.
    fn note_source(
        &self,
        what: &TransferAct,
        reply: &Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        let is_away = |setback: &Setback| matches!(setback.failure.kind, FailureKind::SourceAway);
        let upload = what.upload().and_then(|id| self.uploads.get(&id));
        if let Some(upload) = upload.filter(|_| reply.as_ref().is_err_and(is_away)) {
            let drop = upload.admission.drop.clone();
            turn.say(Dispatch::Intake(drop, ToIntake::ScanNow));
        }
    }

    /// Gives a part's permit back, and tells the width how it came back.
    fn land(
        &mut self,
        flown: Flown,
        drop: &DirectoryName,
        reply: &Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        turn.shared.permits.return_part(&self.name, drop);
        let Some(gate) = &mut self.gate else { return };
        let landing = match reply {
            Ok(_) => Landing::Arrived,
            Err(setback) => Landing::of_failure(setback.failure.kind),
        };
        gate.width_mut().land(flown, landing, turn.now().monotonic);
    }

    /// Records what of an upload is in flight, where that is another number than it was.
    pub(in crate::engine) fn bytes_in_flight(
        &mut self,
        id: UploadId,
        bytes: ByteCount,
        turn: &mut TransferTurn<'_>,
    ) {
        let is_news =
            |upload: &Upload| !upload.state.stage.is_end() && upload.state.bytes_in_flight != bytes;
        if self.upload(id).is_some_and(is_news) {
            self.record(id, Fact::InFlight { bytes }, turn);
        }
    }

    fn on_part(
        &mut self,
        id: UploadId,
        part: (PartNumber, &RemoteUploadId),
        reply: Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        let (number, remote) = part;
        let (retry, now, closed) = (turn.retry(), turn.now(), self.is_closed());
        let etags = self.etag_memory(id, turn);
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let is_current =
            matches!(&upload.state.stage, Stage::Sending { remote: r } if r.id == *remote);
        if !is_current || !upload.life.flying.remove(&number) {
            let is_over = upload.state.stage.is_end();
            let answer = if is_over { Answer::default() } else { in_vain(sent_by(&reply)) };
            return self.settle_answer(id, answer, turn);
        }
        let answer = match reply {
            Ok(Outcome::Sent { reply: Reply::PartStored(stored), md5, sent }) => {
                upload.on_part_put(number, Put { stored, md5, sent }, etags, now)
            }
            Ok(other) => mismatched(upload, &other, retry, now),
            Err(Setback { failure, sent }) => {
                let tried = Tried { act: "put part", part: Some(number), sent, closed };
                upload.on_failed(failure, tried, retry, now)
            }
        };
        self.settle_answer(id, answer, turn);
    }

    fn on_step(
        &mut self,
        act: ActId,
        (id, detail): (UploadId, StepDetail),
        tried: Tried,
        reply: Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        let Some(upload) = self.uploads.get_mut(&id).filter(|u| u.life.control == Some(act)) else {
            if let Ok(Outcome::Replied(Reply::Begun(remote))) = reply {
                let target = self.gate.as_ref().map(|gate| gate.targets().at(act));
                let (destination, target) = (self.name.clone(), target.unwrap_or_default());
                self.clean_up(OpenCleanup { destination, target, remote: remote.id }, turn);
            }
            return;
        };
        upload.life.control = None;
        upload.life.is_whole_flying = false;
        let answer = match reply {
            Ok(outcome) => self.answer_step(id, &detail, outcome, turn),
            Err(Setback { failure, .. }) if is_digest_lost(&detail, failure.kind) => {
                Answer::fact(Fact::Digested { md5: None, sha256: None })
            }
            Err(Setback { failure, sent }) => {
                let closed = detail.is_call() && self.is_closed();
                let tried = Tried { closed, sent, ..tried };
                let Some(upload) = self.uploads.get_mut(&id) else { return };
                upload.on_failed(failure, tried, turn.retry(), turn.now())
            }
        };
        self.settle_answer(id, answer, turn);
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "an outcome of another act is one case")]
    fn answer_step(
        &mut self,
        id: UploadId,
        detail: &StepDetail,
        outcome: Outcome,
        turn: &TransferTurn<'_>,
    ) -> Answer {
        let now = turn.now();
        let settings = self.gate.as_ref().map(|gate| gate.settings());
        let named = settings.zip(self.upload(id));
        let policy = named.map_or(NamePolicy::Park, |(to, upload)| upload.name_policy(to));
        let is_told_all =
            settings.is_some_and(|to| to.traits.describes != Describes::AfterCompletion);
        let etags = match detail.is_call() {
            true => self.etag_memory(id, turn),
            false => ETagMemory::default(),
        };
        let Some(upload) = self.uploads.get_mut(&id) else { return Answer::default() };
        match (outcome, detail) {
            (Outcome::HolderFound(holder), _) => upload.on_holder_found(holder, policy, now),
            (Outcome::FileHashed { mark }, _) => upload.on_file_hashed(mark, policy, now),
            (Outcome::PartHashed { md5 }, StepDetail::HashPart(part)) => {
                upload.on_part_hashed(*part, md5, now)
            }
            (Outcome::FileDigested { md5, sha256 }, _) => {
                Answer::fact(Fact::Digested { md5, sha256 })
            }
            (Outcome::ReceiptWritten { sha256 }, _) => {
                Answer::fact(Fact::ReceiptWritten { sha256, at: now.wall })
            }
            (Outcome::Sent { reply: Reply::WholeStored(whole), md5, sent }, _) => {
                let Whole { remote, stored, file } = whole;
                let put = Put { stored, md5, sent };
                upload.on_whole_put(WholePut { remote, file, put, is_told_all }, etags, now)
            }
            (Outcome::Replied(reply), StepDetail::Call(reported)) => {
                let reports = self.gate.as_ref().is_some_and(|g| g.settings().traits.reports_parts);
                match reply {
                    Reply::Located(found) => upload.on_located(found, policy, now),
                    Reply::Begun(remote) => upload.on_begun(remote, Doubt::None, now),
                    Reply::BegunFound(found) => upload.on_found_begun(found, now),
                    Reply::PartsListed(parts) => upload.on_parts_listed(parts, reports),
                    Reply::PartsReported => upload.on_reported(reported.clone(), now),
                    Reply::Completed(file) => Answer::fact(Fact::Completed { file, at: now.wall }),
                    Reply::CompletionFound(found) => upload.on_completion_found(found, now),
                    Reply::Inspected(found) => upload.on_inspected(found, etags, turn.retry(), now),
                    Reply::Described => Answer::fact(Fact::Described),
                    other => mismatched(upload, &Outcome::Replied(other), turn.retry(), now),
                }
            }
            (other, _) => mismatched(upload, &other, turn.retry(), now),
        }
    }

    /// What is known of the ETags at an upload's target.
    fn etag_memory(&self, id: UploadId, turn: &TransferTurn<'_>) -> ETagMemory {
        let Some((upload, gate)) = self.uploads.get(&id).zip(self.gate.as_ref()) else {
            return ETagMemory::default();
        };
        let (target, traits) = (upload.admission.target_id, &gate.settings().traits);
        ETagMemory {
            law: traits.etags,
            md5_seen: turn.shared.targets.has_learned(target, Learned::ETagsAreMd5s),
            sends_whole: traits.sends_whole,
        }
    }
}

/// Returns how many bytes an act sent, whatever came of it.
fn sent_by(reply: &Result<Outcome, Setback>) -> ByteCount {
    if let Ok(Outcome::Sent { sent, .. }) | Err(Setback { sent, .. }) = reply {
        *sent
    } else {
        ByteCount(0)
    }
}

/// An outcome that does not belong to its act is a defect of the shell: tried again, never trusted.
fn mismatched(upload: &mut Upload, outcome: &Outcome, retry: RetrySettings, now: Now) -> Answer {
    debug_assert!(false, "an outcome of another act: {outcome:?}");
    upload.life.doubt = Doubt::Ask;
    let failure = Failure::new(FailureKind::LocalFault, "the answer belongs to another question");
    upload.on_failed(failure, Tried::plain("unknown"), retry, now)
}

/// A source that was removed after it arrived has no digest any more; that it arrived is proved.
fn is_digest_lost(detail: &StepDetail, failure: FailureKind) -> bool {
    *detail == StepDetail::Digest
        && matches!(failure, FailureKind::SourceGone | FailureKind::SourceChanged)
}

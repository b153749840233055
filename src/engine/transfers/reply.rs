//! The outcomes of a destination's acts, passed to the upload or the part of the destination that
//! they concern.

use std::time::Duration;

use super::circuit::{Gate, Purpose};
use super::upload::{AnswerContext, Decision, StepDetail, Upload, UploadStep};
use super::width::{Flown, Landing};
use super::{PartFlight, TransferAct, TransferTurn, Transfers};
use crate::engine::dispatch::{Dispatch, ToIntake};
use crate::engine::event::{ActId, Outcome, Setback};
use crate::model::{
    ByteCount, DirectoryName, Fact, FailureKind, Learned, OpenCleanup, Record, Reply, UploadId,
};

impl Transfers {
    pub(in crate::engine) fn on_reply(
        &mut self,
        act: ActId,
        what: TransferAct,
        reply: Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        let is_former = what.is_call() && self.is_at_former(act);
        if what.is_call() {
            self.note_answer(act, what.purpose(), &reply, turn);
        }
        self.note_source(&what, &reply, turn);
        match what {
            TransferAct::Abort(remote) => {
                if let Some(gate) = &mut self.gate {
                    gate.cleaned(act, remote, reply, turn);
                }
            }
            TransferAct::Probe => {}
            TransferAct::FinishRun(_) if is_former => {}
            TransferAct::FinishRun(key) => self.ends.finished(&self.name, key, &reply, turn),
            TransferAct::Export(flight) => self.exports_replied(act, &flight, &reply, turn),
            TransferAct::Part(flight) => {
                self.land(flight.flown, &flight.drop, &reply, turn);
                if !is_former {
                    self.on_part(&flight, reply, turn);
                }
            }
            TransferAct::Whole { upload, drop, flown } => {
                self.land(flown, &drop, &reply, turn);
                let detail = StepDetail::Call(Vec::new());
                let step = UploadStep { upload, name: "put whole", detail };
                self.on_step(act, &step, reply, turn);
            }
            TransferAct::Step(step) => {
                if step.detail == StepDetail::Receipt {
                    turn.shared.permits.return_receipt();
                }
                if let Some(gate) = self.gate.as_mut().filter(|_| step.detail.is_call()) {
                    gate.call_landed(reply.as_ref().err().map(|setback| setback.failure.kind));
                }
                self.on_step(act, &step, reply, turn);
            }
        }
    }

    /// Counts the reply to a question of a drop directory for or against the destination.
    pub(in crate::engine) fn note_reply(
        &mut self,
        act: ActId,
        reply: &Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        self.note_answer(act, Purpose::Beside, reply, turn);
    }

    /// Counts a reply for or against the destination, unless its act was made at a former target.
    fn note_answer(
        &mut self,
        act: ActId,
        purpose: Purpose,
        reply: &Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        let is_former = self.is_at_former(act);
        if let Some(gate) = self.gate.as_mut().filter(|_| !is_former) {
            gate.note_reply(act, purpose, reply, turn);
            let target = gate.targets().own();
            if purpose == Purpose::Upload
                && reply.is_ok()
                && turn.shared.targets.learn(target, Learned::Works)
            {
                let (destination, at) = (self.name.clone(), turn.now().wall);
                let (what, detail) = (Learned::Works, String::new());
                turn.record(Record::DestinationLearned { destination, target, what, detail, at });
            }
        }
    }

    /// Reports a failing or missing source file to its drop directory: a scan decides whether the
    /// directory is away or the file is gone.
    fn note_source(
        &self,
        what: &TransferAct,
        reply: &Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        let kind = reply.as_ref().err().map(|setback| setback.failure.kind);
        let Some(upload) = what.upload().and_then(|id| self.uploads.get(&id)) else { return };
        let file = &upload.admission().file;
        if kind == Some(FailureKind::SourceAway) {
            turn.say(Dispatch::Intake(file.drop.clone(), ToIntake::ScanNow));
        }
        if kind == Some(FailureKind::SourceGone) && !file.is_sentinel {
            let missed = ToIntake::Missed(file.path.clone());
            turn.say(Dispatch::Intake(file.drop.clone(), missed));
        }
    }

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

    /// Records the bytes in flight of an upload, when they have changed.
    pub(in crate::engine) fn bytes_in_flight(
        &mut self,
        id: UploadId,
        bytes: ByteCount,
        turn: &mut TransferTurn<'_>,
    ) {
        let is_news =
            |upload: &Upload| !upload.stage().is_end() && upload.state().wire.in_flight != bytes;
        if self.upload(id).is_some_and(is_news) {
            self.record(id, Fact::InFlight { bytes }, turn);
        }
    }

    fn on_part(
        &mut self,
        flight: &PartFlight,
        reply: Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        let PartFlight { upload: id, part, remote, .. } = flight;
        let Some(upload) = self.uploads.get_mut(id) else { return };
        let answer = if upload.land_part(*part, remote) {
            let context = context(upload, self.gate.as_ref(), turn);
            let is_closed = self.gate.as_ref().is_some_and(|gate| !gate.admits_parts());
            let context = AnswerContext { is_closed: context.is_closed && is_closed, ..context };
            upload.on_part(*part, reply, context)
        } else {
            let is_over = upload.stage().is_end();
            Decision::in_vain(if is_over { ByteCount(0) } else { sent_by(&reply) })
        };
        self.settle_answer(*id, answer, turn);
    }

    fn on_step(
        &mut self,
        act: ActId,
        step: &UploadStep,
        reply: Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        let upload = self.uploads.get_mut(&step.upload);
        let Some(upload) = upload.and_then(|upload| upload.end_act(act).then_some(upload)) else {
            if let Ok(Outcome::Replied(Reply::Begun(remote))) = reply {
                let target = self.gate.as_ref().map(|gate| gate.targets().at(act));
                let (destination, target) = (self.name.clone(), target.unwrap_or_default());
                let remote = remote.id;
                self.clean_up(OpenCleanup { destination, target, remote, after: None }, turn);
            }
            return;
        };
        let context = context(upload, self.gate.as_ref(), turn);
        let is_closed = context.is_closed && step.detail.is_call();
        let reply = without_given_up(reply, self.gate.as_ref());
        let answer = upload.on_step(step, reply, AnswerContext { is_closed, ..context });
        self.settle_answer(step.upload, answer, turn);
    }
}

/// Removes remote uploads that are queued for clean-up from those found: they are not adopted.
fn without_given_up(
    mut reply: Result<Outcome, Setback>,
    gate: Option<&Gate>,
) -> Result<Outcome, Setback> {
    if let (Ok(Outcome::Replied(Reply::BegunFound(found))), Some(gate)) = (&mut reply, gate) {
        found.retain(|remote| !gate.cleanups().has(&remote.id));
    }
    reply
}

/// Returns what an answer for an upload is judged by.
pub(super) fn context<'a>(
    upload: &Upload,
    gate: Option<&'a Gate>,
    turn: &TransferTurn<'_>,
) -> AnswerContext<'a> {
    let target = upload.admission().target_id;
    let intake = turn.intake(&upload.admission().file.drop);
    let has_learned = |what| turn.shared.targets.has_learned(target, what);
    AnswerContext {
        destination: gate.map(Gate::settings),
        md5_seen: has_learned(Learned::ETagsAreMd5s),
        no_digests: has_learned(Learned::ETagsAreNoDigests),
        finals_differ: has_learned(Learned::FinalDigestsDiffer),
        is_closed: gate.is_some_and(|gate| !gate.is_open()),
        retry: turn.retry(),
        is_scanned: !upload.admission().file.is_sentinel
            && intake.is_some_and(|intake| intake.settings().is_scanned),
        quiet_period: intake.map_or(Duration::ZERO, |intake| intake.settings().quiet_period),
        now: turn.now(),
    }
}

fn sent_by(reply: &Result<Outcome, Setback>) -> ByteCount {
    if let Ok(Outcome::Sent { sent, .. }) | Err(Setback { sent, .. }) = reply {
        *sent
    } else {
        ByteCount(0)
    }
}

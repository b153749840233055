//! Turns the next step of an upload into an act, with its intent recorded first where one is needed.

use super::circuit::Gate;
use super::upload::{Step, StepDetail, Upload, UploadStep};
use super::{TransferAct, TransferTurn, Transfers};
use crate::engine::event::Act;
use crate::engine::plan;
use crate::engine::settings::PartWish;
use crate::model::{BeginRequest, Call, Description, Fact, PartSize, RemoteFile, Stage, UploadId};

/// Returns whether a step may start. A local step proves nothing about a half-open destination.
fn may_step(step: &Step, gate: &Gate) -> bool {
    let is_asked = gate.is_open()
        || gate.settings().traits.has_places
        || !matches!(step, Step::Locate | Step::FindBegun);
    !step.is_call() || (is_asked && gate.has_call_room())
}

impl Transfers {
    pub(super) fn step_upload(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let (Some(upload), Some(gate)) = (self.uploads.get(&id), &self.gate) else { return };
        if turn.waits_for_directory(upload) {
            return;
        }
        let digest = turn.wanted_digest(upload.admission());
        let step = upload.step(gate.settings(), digest, turn.now().monotonic);
        if let Some(step) = step.filter(|step| may_step(step, gate)) {
            self.take_step(id, step, turn);
        }
    }

    fn take_step(&mut self, id: UploadId, step: Step, turn: &mut TransferTurn<'_>) {
        let at = turn.now().wall;
        let is_sending =
            self.upload(id).is_some_and(|upload| matches!(upload.stage(), Stage::Sending { .. }));
        let intent = if step == Step::Begin {
            Some(Fact::BeginIntended { part_size: self.part_size_to_begin(id), at })
        } else if matches!(step, Step::Complete(..)) && is_sending {
            Some(Fact::CompleteIntended { at })
        } else {
            None
        };
        if let Some(intent) = intent {
            self.record(id, intent, turn);
            self.uploads.get_mut(&id).into_iter().for_each(|upload| upload.be_sure());
        }
        let Some(upload) = self.uploads.get(&id) else { return };
        let Some((what, act)) = self.act_for(upload, step, turn) else { return };
        if what.detail == StepDetail::Receipt {
            turn.shared.permits.take_receipt();
        }
        let is_call = what.detail.is_call();
        let act = turn.start(&self.name, TransferAct::Step(what), act);
        if let Some(gate) = self.gate.as_mut().filter(|_| is_call) {
            gate.call_started();
            gate.let_through(act);
        }
        if let Some(upload) = self.uploads.get_mut(&id) {
            upload.start_act(act);
        }
    }

    /// Returns the part size to begin with: measured speed is better known at begin than at
    /// admission.
    fn part_size_to_begin(&self, id: UploadId) -> Option<PartSize> {
        let (upload, gate) = (self.uploads.get(&id)?, self.gate.as_ref()?);
        let is_auto = gate.settings().part_size == PartWish::Auto;
        let wish = gate.wish(upload.size());
        // The part size may be the reason why it begins again.
        let is_first = upload.state().restart_count == 0;
        let wish = if is_first { wish } else { upload.admission().part_size };
        let planned = gate.plan(wish, upload.size(), &upload.admission().target).ok();
        planned.filter(|planned| is_auto && *planned != upload.admission().part_size)
    }

    fn act_for(
        &self,
        upload: &Upload,
        step: Step,
        turn: &TransferTurn<'_>,
    ) -> Option<(UploadStep, Act)> {
        let id = upload.id();
        let local = |name, detail, act| Some((UploadStep { upload: id, name, detail }, act));
        let begin = || self.begin(upload, turn);
        let complete = |remote, parts| {
            let traits = &self.gate.as_ref()?.settings().traits;
            upload.complete(remote, parts, begin()?, traits)
        };
        let call = match step {
            Step::FindHolder => {
                let asked = self.find_holder(upload, turn)?;
                return local("find holder", StepDetail::Local, Act::FindHolder(Box::new(asked)));
            }
            Step::HashFile(mark) => {
                let act = Act::HashFile { upload: id, source: upload.source(), mark };
                return local("hash file", StepDetail::Local, act);
            }
            Step::ProveSource(settled) => {
                let (part_size, md5s) = upload.sent_parts()?;
                let source = upload.source();
                let act = Act::ProveSource { upload: id, source, part_size, md5s, settled };
                return local("prove source", StepDetail::Local, act);
            }
            Step::HashPart(part, range) => {
                let act = Act::HashPart { upload: id, part, source: upload.source(), range };
                return local("hash part", StepDetail::HashPart(part), act);
            }
            Step::DigestFile(digest) => {
                let act = Act::DigestFile { upload: id, source: upload.source(), digest };
                return local("digest file", StepDetail::Digest, act);
            }
            Step::WriteReceipt => {
                let act = Act::WriteReceipt { upload: id };
                return local("write receipt", StepDetail::Receipt, act);
            }
            Step::Locate => Call::Locate(upload.admission().target.clone()),
            Step::Begin => Call::Begin(begin()?),
            Step::FindBegun => Call::FindBegun { request: begin()?, since: upload.admission().at },
            Step::ListParts(remote) => Call::ListParts(remote),
            Step::Report(remote, parts) => Call::ReportParts { remote, parts },
            Step::Complete(remote, parts) => Call::Complete(complete(remote, parts)?),
            Step::FindCompleted(remote, parts) => Call::FindCompleted(complete(remote, parts)?),
            Step::Describe(file) => {
                let description = self.description(upload, &file, turn)?;
                Call::Describe { file: file.id, description }
            }
            Step::Rename(file, name) => Call::Rename { file, name },
            Step::Remove(file) => Call::Remove(file),
            Step::ReadBack(file, part_size) => Call::ReadBack { file: file.id, part_size },
            Step::Inspect(file) => Call::Inspect(file.id),
        };
        let parts = if let Call::ReportParts { parts, .. } = &call {
            parts.iter().map(|part| part.number).collect()
        } else {
            Vec::new()
        };
        let (name, detail) = (call.name(), StepDetail::Call(parts));
        let act =
            Act::Call { upload: Some(id), destination: self.name.clone(), call: Box::new(call) };
        Some((UploadStep { upload: id, name, detail }, act))
    }

    pub(super) fn begin(&self, upload: &Upload, turn: &TransferTurn<'_>) -> Option<BeginRequest> {
        let settings = self.gate.as_ref().map(Gate::settings)?;
        Some(BeginRequest {
            target: upload.target_to_begin(),
            size: upload.size(),
            part_size: upload.admission().part_size,
            overwrite: upload.replaces(settings),
            description: plan::description(settings, turn.words(upload.admission())?),
            token: upload.token(),
            replaces: upload.replaced_file().cloned(),
        })
    }

    fn description(
        &self,
        upload: &Upload,
        file: &RemoteFile,
        turn: &TransferTurn<'_>,
    ) -> Option<Description> {
        let settings = self.gate.as_ref().map(Gate::settings)?;
        let words = turn.words(upload.admission())?;
        let mark = upload.content_mark().or(file.mark);
        Some(Description { mark, ..plan::description(settings, words) })
    }
}

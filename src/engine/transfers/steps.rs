//! Turns what an upload wants into an act, with its intent recorded first where one is needed.

use super::circuit::Gate;
use super::upload::{Doubt, Step, Upload, Wants};
use super::{TransferAct, TransferTurn, Transfers};
use crate::engine::claims::Owner;
use crate::engine::event::{Act, ReadFrom, Sending};
use crate::engine::plan;
use crate::engine::settings::{DestinationSettings, PartWish};
use crate::engine::ticket::Ticket;
use crate::model::{
    BeginRequest, ByteRange, Call, CompleteRequest, Describes, Description, Fact, Monotonic,
    NamePolicy, PartNumber, PartRequest, PartSize, PutRequest, RemoteFile, RemotePart,
    RemoteUpload, Stage, UploadId, WholeRequest,
};

/// What the answer to a step is judged by, besides its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) enum StepDetail {
    /// A call; a report has the parts that it reports.
    Call(Vec<PartNumber>),
    /// It reads rows or the source.
    Local,
    /// This part is hashed.
    HashPart(PartNumber),
    /// The whole file is digested.
    Digest,
    Receipt,
}

impl StepDetail {
    pub(super) fn is_call(&self) -> bool {
        matches!(self, Self::Call(_))
    }
}

impl Transfers {
    /// Starts the next step of an upload, if it wants one.
    pub(super) fn step_upload(&mut self, id: UploadId, turn: &mut TransferTurn<'_>) {
        let (Some(upload), Some(gate)) = (self.uploads.get(&id), &self.gate) else { return };
        if turn.waits_for_directory(upload) {
            return;
        }
        let settings = gate.settings();
        // Our digest is left with a file where it will prove that a file met again is the same.
        let proves = settings.when_name_taken == NamePolicy::SkipIfSame;
        let has_words = proves || !settings.metadata.is_empty() || !settings.tags.is_empty();
        let wants = Wants {
            describes: has_words && settings.traits.describes == Describes::AfterCompletion,
            digest: turn.wanted_digest(&upload.admission),
            replaces: settings.traits.has_places && upload.replaces(settings),
        };
        if let Some(step) = upload.step(&settings.traits, wants, turn.now().monotonic) {
            self.take_step(id, step, turn);
        }
    }

    fn take_step(&mut self, id: UploadId, step: Step, turn: &mut TransferTurn<'_>) {
        let at = turn.now().wall;
        let is_sending = self.upload(id).is_some_and(Upload::is_sending);
        let intent = if step == Step::Begin {
            Some(Fact::BeginIntended { part_size: self.part_size_to_begin(id), at })
        } else if matches!(step, Step::Complete(..)) && is_sending {
            Some(Fact::CompleteIntended { at })
        } else {
            None
        };
        if let Some(intent) = intent {
            self.record(id, intent, turn);
            self.be_sure(id);
        }
        let Some(upload) = self.uploads.get(&id) else { return };
        let Some((what, act)) = self.act_for(upload, step, turn) else { return };
        if matches!(what, TransferAct::Step { detail: StepDetail::Receipt, .. }) {
            turn.shared.permits.take_receipt();
        }
        let act = turn.start(&self.name, what, act);
        if let Some(upload) = self.uploads.get_mut(&id) {
            upload.life.control = Some(act);
        }
    }

    /// Returns the part size to begin with: what is measured by then says more than what was known at
    /// admission.
    fn part_size_to_begin(&self, id: UploadId) -> Option<PartSize> {
        let (upload, gate) = (self.uploads.get(&id)?, self.gate.as_ref()?);
        let is_auto = gate.settings().part_size == PartWish::Auto;
        let (limits, wish) = (&gate.settings().traits.limits, gate.wish(upload.size()));
        // Smaller parts than an earlier upload of it had may be why it was begun again.
        let is_first = upload.state.restart_count == 0;
        let wish = if is_first { wish } else { wish.max(upload.admission.part_size) };
        let planned = plan::part_size(limits, wish, upload.size()).ok();
        planned.filter(|planned| is_auto && *planned != upload.admission.part_size)
    }

    fn act_for(
        &self,
        upload: &Upload,
        step: Step,
        turn: &TransferTurn<'_>,
    ) -> Option<(TransferAct, Act)> {
        let id = upload.id();
        let local = |name, detail, act| Some((TransferAct::Step { upload: id, name, detail }, act));
        let begin = || self.begin(upload, turn);
        let call = match step {
            Step::FindHolder => {
                let asked = self.find_holder(upload, turn)?;
                return local("find holder", StepDetail::Local, Act::FindHolder(Box::new(asked)));
            }
            Step::HashFile(mark) => {
                let act = Act::HashFile { upload: id, source: upload.source(), mark };
                return local("hash file", StepDetail::Local, act);
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
            Step::Locate => Call::Locate(upload.admission.target()),
            Step::Begin => Call::Begin(begin()?),
            Step::FindBegun => Call::FindBegun { request: begin()?, since: upload.admission.at },
            Step::ListParts(remote) => Call::ListParts(remote),
            Step::Report(remote, parts) => Call::ReportParts { remote, parts },
            Step::Complete(remote, parts) => {
                Call::Complete(upload.complete(remote, parts, begin()?)?)
            }
            Step::FindCompleted(remote, parts) => {
                Call::FindCompleted(upload.complete(remote, parts, begin()?)?)
            }
            Step::Describe(file) => {
                let description = self.description(upload, &file, turn)?;
                Call::Describe { file: file.id, description }
            }
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
        Some((TransferAct::Step { upload: id, name, detail }, act))
    }

    pub(super) fn begin(&self, upload: &Upload, turn: &TransferTurn<'_>) -> Option<BeginRequest> {
        let settings = self.gate.as_ref().map(Gate::settings)?;
        Some(BeginRequest {
            target: upload.admission.target(),
            size: upload.size(),
            part_size: upload.admission.part_size,
            overwrite: upload.replaces(settings),
            description: plan::description(settings, turn.words(&upload.admission)?),
            token: upload.token(),
            replaces: upload.life.replaces.clone(),
        })
    }

    fn description(
        &self,
        upload: &Upload,
        file: &RemoteFile,
        turn: &TransferTurn<'_>,
    ) -> Option<Description> {
        let settings = self.gate.as_ref().map(Gate::settings)?;
        let words = turn.words(&upload.admission)?;
        let mark = upload.content_mark().or(file.mark);
        Some(Description { mark, ..plan::description(settings, words) })
    }

    /// Marks an upload as sure of itself: its intent is being recorded in this very turn.
    pub(super) fn be_sure(&mut self, id: UploadId) {
        if let Some(upload) = self.uploads.get_mut(&id) {
            upload.life.doubt = Doubt::None;
        }
    }
}

impl Upload {
    fn is_sending(&self) -> bool {
        matches!(self.state.stage, Stage::Sending { .. })
    }

    fn complete(
        &self,
        remote: RemoteUpload,
        parts: Vec<RemotePart>,
        begun: BeginRequest,
    ) -> Option<CompleteRequest> {
        let since = match self.state.stage {
            Stage::Completing { since, .. } => since,
            Stage::Queued
            | Stage::Beginning { .. }
            | Stage::Sending { .. }
            | Stage::Completed { .. }
            | Stage::Verified { .. }
            | Stage::Receipted { .. }
            | Stage::Ended(_) => return None,
        };
        Some(CompleteRequest { remote, parts, begun, since })
    }

    /// A sentinel speaks of its run as it is: it takes the place of the one before.
    pub(super) fn name_policy(&self, settings: &DestinationSettings) -> NamePolicy {
        if self.admission.is_sentinel { NamePolicy::Overwrite } else { settings.when_name_taken }
    }

    /// Tells whether whatever stands under its name is replaced: never what belongs to another source of
    /// ours.
    pub(super) fn replaces(&self, settings: &DestinationSettings) -> bool {
        self.name_policy(settings) == NamePolicy::Overwrite
            && !matches!(self.life.owner, Owner::Ours(_))
    }

    /// Returns a text that no other upload carries: not of another database either.
    pub(in crate::engine) fn token(&self) -> String {
        let Ticket { id, at, path, .. } = &self.admission;
        format!("{:x}-{:x}-{}", id.0, at.0, path.digest())
    }

    fn source(&self) -> ReadFrom {
        ReadFrom {
            drop: self.admission.drop.clone(),
            path: self.admission.path.clone(),
            fingerprint: self.admission.fingerprint,
            is_receipt: self.admission.is_sentinel,
            provenance: self.admission.provenance.as_deref().copied(),
        }
    }

    fn sending(&self, request: PutRequest, range: ByteRange) -> Box<Sending> {
        let (upload, destination) = (self.id(), self.admission.destination.clone());
        Box::new(Sending { upload, destination, request, source: self.source(), range })
    }

    /// Returns what sends the whole file.
    pub(super) fn put_whole(&self, begun: BeginRequest, looks: bool) -> Box<Sending> {
        let range = ByteRange { offset: 0, length: begun.size.0 };
        self.sending(PutRequest::Whole(WholeRequest { begun, looks }), range)
    }

    /// Takes the next part to send, and counts it as in flight.
    pub(super) fn take_next_part(&mut self, now: Monotonic) -> Option<PartNumber> {
        let part = self.next_part(now)?;
        self.life.flying.insert(part);
        Some(part)
    }

    /// Returns what sends a part; with what was begun, where the upload has no other part.
    pub(super) fn put_part(
        &self,
        part: PartNumber,
        remote: RemoteUpload,
        begun: Option<BeginRequest>,
    ) -> Box<Sending> {
        let range = remote.part_size.range_of(part, self.size());
        self.sending(PutRequest::Part(PartRequest { remote, part, begun }), range)
    }
}

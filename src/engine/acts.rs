//! Turns what an upload wants into an act, with its intent recorded first where one is needed.

use super::claims::Owner;
use super::event::{Act, ReadFrom, Sending};
use super::plan;
use super::settings::{DestinationSettings, PartWish};
use super::ticket::Ticket;
use super::turn::Turn;
use super::upload::{Step, Upload};
use super::{Engine, Flight, FlightKind};
use crate::model::{
    BeginRequest, ByteRange, Call, CompleteRequest, Description, Fact, Monotonic, NamePolicy,
    PartNumber, PartRequest, PartSize, PutRequest, RemoteFile, RemotePart, RemoteUpload, Stage,
    UploadId, WholeRequest,
};

/// What the answer to a step is judged by, besides its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StepDetail {
    None,
    /// The parts that are reported, or the one that is hashed.
    Parts(Vec<PartNumber>),
    /// The whole file is digested.
    Digest,
    Receipt,
}

impl Engine {
    pub(super) fn take_step(&mut self, id: UploadId, step: Step, turn: &mut Turn) {
        let at = turn.now.wall;
        let intent = if step == Step::Begin {
            Some(Fact::BeginIntended { part_size: self.part_size_to_begin(id), at })
        } else if matches!(step, Step::Complete(..)) && self.is_sending(id) {
            Some(Fact::CompleteIntended { at })
        } else {
            None
        };
        if let Some(intent) = intent {
            self.record(id, intent, turn);
            self.be_sure(id);
        }
        let Some(upload) = self.uploads.get(&id) else { return };
        let Some((kind, act)) = self.act_for(upload, step) else { return };
        let is_receipt = matches!(kind, FlightKind::Step(_, StepDetail::Receipt));
        self.receipts_flying += usize::from(is_receipt);
        let is_call = matches!(act, Act::Call { .. });
        let destination = is_call.then(|| upload.admission.destination.clone());
        let flight = Flight { kind, upload: Some(id), destination };
        let act_id = self.start(flight, act, turn);
        if let Some(upload) = self.uploads.get_mut(&id) {
            upload.life.control = Some(act_id);
        }
    }

    /// What is measured by then says more than what was known at admission.
    fn part_size_to_begin(&self, id: UploadId) -> Option<PartSize> {
        let upload = self.uploads.get(&id)?;
        let gate = self.gates.get(&upload.admission.destination)?;
        let is_auto = gate.settings.part_size == PartWish::Auto;
        let (limits, wish) = (&gate.settings.traits.limits, gate.wish(upload.size()));
        // Smaller parts than an earlier upload of it had may be why it was begun again.
        let is_first = upload.state.restart_count == 0;
        let wish = if is_first { wish } else { wish.max(upload.admission.part_size) };
        let planned = plan::part_size(limits, wish, upload.size()).ok();
        planned.filter(|planned| is_auto && *planned != upload.admission.part_size)
    }

    fn is_sending(&self, id: UploadId) -> bool {
        self.uploads.get(&id).is_some_and(|u| matches!(u.state.stage, Stage::Sending { .. }))
    }

    fn act_for(&self, upload: &Upload, step: Step) -> Option<(FlightKind, Act)> {
        let (id, none) = (upload.id(), StepDetail::None);
        let local = |name, detail, act| Some((FlightKind::Step(name, detail), act));
        let call = match step {
            Step::FindHolder => {
                let asked = self.find_holder(upload)?;
                return local("find holder", none, Act::FindHolder(Box::new(asked)));
            }
            Step::HashFile(mark) => {
                let act = Act::HashFile { upload: id, source: upload.source(), mark };
                return local("hash file", none, act);
            }
            Step::HashPart(part, range) => {
                let act = Act::HashPart { upload: id, part, source: upload.source(), range };
                return local("hash part", StepDetail::Parts(vec![part]), act);
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
            Step::Begin => Call::Begin(self.begin(upload)?),
            Step::FindBegun => {
                Call::FindBegun { request: self.begin(upload)?, since: upload.admission.at }
            }
            Step::ListParts(remote) => Call::ListParts(remote),
            Step::Report(remote, parts) => Call::ReportParts { remote, parts },
            Step::Complete(remote, parts) => Call::Complete(self.complete(upload, remote, parts)?),
            Step::FindCompleted(remote, parts) => {
                Call::FindCompleted(self.complete(upload, remote, parts)?)
            }
            Step::Describe(file) => {
                let description = self.description(upload, &file)?;
                Call::Describe { file: file.id, description }
            }
            Step::ReadBack(file, part_size) => Call::ReadBack { file: file.id, part_size },
            Step::Inspect(file) => Call::Inspect(file.id),
        };
        let detail = if let Call::ReportParts { parts, .. } = &call {
            StepDetail::Parts(parts.iter().map(|part| part.number).collect())
        } else {
            none
        };
        let (name, destination) = (call.name(), upload.admission.destination.clone());
        let act = Act::Call { upload: Some(id), destination, call: Box::new(call) };
        Some((FlightKind::Step(name, detail), act))
    }

    pub(super) fn begin(&self, upload: &Upload) -> Option<BeginRequest> {
        let gate = self.gates.get(&upload.admission.destination)?;
        Some(BeginRequest {
            target: upload.admission.target(),
            size: upload.size(),
            part_size: upload.admission.part_size,
            overwrite: upload.replaces(&gate.settings),
            description: plan::description(&gate.settings, self.words(upload)?),
            token: upload.token(),
            replaces: upload.life.replaces.clone(),
        })
    }

    fn complete(
        &self,
        upload: &Upload,
        remote: RemoteUpload,
        parts: Vec<RemotePart>,
    ) -> Option<CompleteRequest> {
        let since = match upload.state.stage {
            Stage::Completing { since, .. } => since,
            Stage::Queued
            | Stage::Beginning { .. }
            | Stage::Sending { .. }
            | Stage::Completed { .. }
            | Stage::Verified { .. }
            | Stage::Receipted { .. }
            | Stage::Ended(_) => return None,
        };
        Some(CompleteRequest { remote, parts, begun: self.begin(upload)?, since })
    }

    pub(super) fn words<'a>(&'a self, upload: &'a Upload) -> Option<plan::Words<'a>> {
        let intake = self.intakes.get(&upload.admission.drop)?;
        let admission = &upload.admission;
        Some(plan::Words {
            drop: intake.settings(),
            path: &admission.path,
            run: &admission.run,
            reading: intake.runs().reading(&admission.run),
            at: admission.at,
        })
    }

    fn description(&self, upload: &Upload, file: &RemoteFile) -> Option<Description> {
        let gate = self.gates.get(&upload.admission.destination)?;
        let words = self.words(upload)?;
        let mark = upload.content_mark().or(file.mark);
        Some(Description { mark, ..plan::description(&gate.settings, words) })
    }
}

impl Upload {
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
    pub(super) fn token(&self) -> String {
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

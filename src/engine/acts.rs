//! Turns what an upload wants into an act, with its intent recorded first where one is needed.

use super::claims::Owner;
use super::event::{
    Act, Begin, Complete, Describe, FindBegun, Locate, PutPart, PutWhole, ReadBack, Remotely,
    Report, Source,
};
use super::plan;
use super::settings::{DestinationSettings, PartWish};
use super::ticket::Ticket;
use super::turn::Turn;
use super::upload::{Step, Upload};
use super::{Engine, Flight, FlightKind};
use crate::model::{
    Description, Fact, Monotonic, NamePolicy, PartNumber, PartSize, RemoteFile, RemotePart,
    RemoteUpload, Stage, UploadId,
};

/// The act that digests a whole file, as its failures name it.
pub(super) const DIGEST_FILE: &str = "digest file";

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
        self.receipts_flying += usize::from(matches!(kind, FlightKind::Receipt));
        let is_local = matches!(
            act,
            Act::HashPart { .. }
                | Act::HashFile { .. }
                | Act::DigestFile { .. }
                | Act::FindHolder(_)
                | Act::WriteReceipt { .. }
        );
        let destination = (!is_local).then(|| upload.admission.destination.clone());
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
        let control = FlightKind::Control;
        Some(match step {
            Step::Locate => {
                let target = upload.admission.target();
                (control("locate"), Act::Locate(upload.remotely(Locate { target })))
            }
            Step::FindHolder => self.find_holder(upload)?,
            Step::HashFile(mark) => {
                let source = upload.source();
                (control("hash file"), Act::HashFile { upload: upload.id(), source, mark })
            }
            Step::Begin => (control("begin"), Act::Begin(upload.remotely(self.begin(upload)?))),
            Step::FindBegun => {
                let what = FindBegun { begin: self.begin(upload)?, since: upload.admission.at };
                (control("find begun"), Act::FindBegun(upload.remotely(what)))
            }
            Step::ListParts(remote) => {
                (control("list parts"), Act::ListParts(upload.remotely(remote)))
            }
            Step::HashPart(part, range) => {
                let (upload, source) = (upload.id(), upload.source());
                (FlightKind::HashPart(part), Act::HashPart { upload, part, source, range })
            }
            Step::Report(remote, parts) => {
                let numbers = parts.iter().map(|part| part.number).collect();
                let act = Act::Report(upload.remotely(Report { remote, parts }));
                (FlightKind::Report(numbers), act)
            }
            Step::Complete(remote, parts) => {
                let what = self.complete(upload, remote, parts)?;
                (control("complete"), Act::Complete(upload.remotely(what)))
            }
            Step::FindCompleted(remote, parts) => {
                let what = self.complete(upload, remote, parts)?;
                (control("find completed"), Act::FindCompleted(upload.remotely(what)))
            }
            Step::Describe(file) => {
                let description = self.description(upload, &file)?;
                let what = Describe { file: file.id, description };
                (control("describe"), Act::Describe(upload.remotely(what)))
            }
            Step::ReadBack(file, part_size) => {
                let what = ReadBack { file: file.id, part_size };
                (control("read back"), Act::ReadBack(upload.remotely(what)))
            }
            Step::Inspect(file) => (control("inspect"), Act::Inspect(upload.remotely(file.id))),
            Step::DigestFile(digest) => {
                let source = upload.source();
                (control(DIGEST_FILE), Act::DigestFile { upload: upload.id(), source, digest })
            }
            Step::WriteReceipt => (FlightKind::Receipt, Act::WriteReceipt { upload: upload.id() }),
        })
    }

    pub(super) fn begin(&self, upload: &Upload) -> Option<Begin> {
        let gate = self.gates.get(&upload.admission.destination)?;
        Some(Begin {
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
    ) -> Option<Complete> {
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
        Some(Complete { remote, parts, begin: Box::new(self.begin(upload)?), since })
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
    fn remotely<T>(&self, what: T) -> Remotely<T> {
        Remotely { upload: self.id(), destination: self.admission.destination.clone(), what }
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
    pub(super) fn token(&self) -> String {
        let Ticket { id, at, path, .. } = &self.admission;
        format!("{:x}-{:x}-{}", id.0, at.0, path.digest())
    }

    fn source(&self) -> Source {
        Source {
            drop: self.admission.drop.clone(),
            path: self.admission.path.clone(),
            fingerprint: self.admission.fingerprint,
            is_receipt: self.admission.is_sentinel,
            provenance: self.admission.provenance.as_deref().copied(),
        }
    }

    /// Returns the act that sends the whole file, which is under way from here on as `act`.
    pub(super) fn put_whole(&self, begin: Box<Begin>, looks: bool) -> Remotely<PutWhole> {
        self.remotely(PutWhole { begin, source: self.source(), looks })
    }

    /// Takes the next part to send, and counts it as on its way.
    pub(super) fn put_next_part(
        &mut self,
        begin: Box<Begin>,
        now: Monotonic,
    ) -> Option<(PartNumber, Remotely<PutPart>)> {
        let part = self.next_part(now)?;
        let Stage::Sending { remote } = &self.state.stage else { return None };
        let range = remote.part_size.range_of(part, self.size());
        let source = self.source();
        let what = PutPart { remote: remote.clone(), part, source, range, begin };
        let act = self.remotely(what);
        self.life.flying.insert(part);
        Some((part, act))
    }
}

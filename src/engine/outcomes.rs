//! The engine's ear for the world: one outcome for each act, routed to whom it concerns.

use super::acts::StepDetail;
use super::answer::{Answer, ETagMemory, Put, Tried, WholePut, in_vain};
use super::event::{ActId, Outcome, Setback};
use super::gate::{Gate, GateState};
use super::retry::{self, Closing};
use super::turn::Turn;
use super::upload::{Doubt, Upload};
use super::width::{Flown, Landing};
use super::{Engine, Flight, FlightKind};
use crate::model::{
    ByteCount, Describes, DestinationName, DestinationState, Fact, Failure, FailureKind, Learned,
    Monotonic, NamePolicy, Now, OpenCleanup, PartNumber, Record, RemoteUpload, RemoteUploadId,
    Reply, Stage, UploadId, Whole,
};

impl Engine {
    pub(super) fn on_outcome(
        &mut self,
        act: ActId,
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let Some(flight) = self.flights.remove(act) else { return };
        let is_former = self.is_at_former(act, &flight);
        if !is_former {
            self.note_reply(&flight, &reply, turn);
        }
        self.note_source(&flight, &reply, turn);
        match flight.kind.clone() {
            FlightKind::Intake(drop, what) => {
                self.on_intake_reply(&drop, (act, &what), reply, turn);
            }
            FlightKind::Abort(remote) => self.on_aborted((act, &flight), &remote, reply, turn),
            FlightKind::Probe | FlightKind::Finish(_) if is_former => {}
            FlightKind::Probe => self.on_probed(&flight, reply, turn),
            FlightKind::Notify(id) => self.notices.answered(id, reply.err(), turn),
            FlightKind::ReadRows => self.on_rows_read(act, reply, turn),
            FlightKind::Survey => self.notices.surveyed(reply, turn.now),
            FlightKind::Finish(key) => self.on_drop_finished(&key, &reply, turn),
            FlightKind::Export(call, ids) => {
                self.on_exports((act, &flight), (call, &ids), reply, turn);
            }
            FlightKind::Part(part, remote, drop, flown) => {
                if let Some(name) = &flight.destination {
                    self.load.remove(name, &drop);
                    self.land(name, flown, &reply, turn);
                }
                if !is_former {
                    self.on_part(&flight, (part, &remote), reply, turn);
                }
            }
            FlightKind::Whole(drop, flown) => {
                if let Some(name) = &flight.destination {
                    self.load.remove(name, &drop);
                    self.land(name, flown, &reply, turn);
                }
                self.on_step((act, "put whole"), &flight, reply, turn);
            }
            FlightKind::Step(name, detail) => {
                self.receipts_flying -= usize::from(detail == StepDetail::Receipt);
                self.on_step((act, name), &flight, reply, turn);
            }
        }
    }

    fn land(
        &mut self,
        name: &DestinationName,
        part: Flown,
        reply: &Result<Outcome, Setback>,
        turn: &Turn,
    ) {
        let Some(gate) = self.gates.get_mut(name) else { return };
        let landing = match reply {
            Ok(_) => Landing::Arrived,
            Err(setback) => Landing::of_failure(setback.failure.kind),
        };
        gate.width.land(part, landing, turn.now.monotonic);
    }

    pub(super) fn on_sent(&mut self, sent: &[(DestinationName, ByteCount)], now: Monotonic) {
        for (name, bytes) in sent {
            if let Some(gate) = self.gates.get_mut(name) {
                gate.width.tick(bytes.0, now);
            }
        }
    }

    /// Records what is in flight, where that is another number than it was.
    pub(super) fn on_in_flight(&mut self, counts: Vec<(UploadId, ByteCount)>, turn: &mut Turn) {
        for (id, bytes) in counts {
            let is_news = self.uploads.get(&id).is_some_and(|upload| {
                !upload.state.stage.is_end() && upload.state.bytes_in_flight != bytes
            });
            if is_news {
                self.record(id, Fact::InFlight { bytes }, turn);
            }
        }
    }

    fn on_aborted(
        &mut self,
        (act, flight): (ActId, &Flight),
        remote: &RemoteUploadId,
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let Some(name) = &flight.destination else { return };
        let target = self.target_of(act, name);
        let what = OpenCleanup { destination: name.clone(), target, remote: remote.clone() };
        let (retry, Some(gate)) = (self.settings.retry, self.gates.get_mut(name)) else { return };
        let Some(cleanup) = gate.cleanups.get_mut(remote).filter(|c| c.act == Some(act)) else {
            if reply.is_ok() && self.cleanups_elsewhere.remove(&what) {
                turn.record(Record::CleanupDone { what });
            }
            return;
        };
        let what = OpenCleanup { target: cleanup.target, ..what };
        let Err(Setback { failure, .. }) = reply else {
            gate.cleanups.remove(remote);
            turn.record(Record::CleanupDone { what });
            return;
        };
        cleanup.act = None;
        cleanup.failure_count += 1;
        let delay = retry::delay(retry, cleanup.failure_count, cleanup.failure_count.into());
        cleanup.due = turn.now.monotonic.after(delay);
        let retry_at = turn.now.wall.after(delay);
        turn.record(Record::CleanupDelayed { what, retry_at, failure });
    }

    fn on_probed(&mut self, flight: &Flight, reply: Result<Outcome, Setback>, turn: &mut Turn) {
        let Some(name) = &flight.destination else { return };
        let Some(gate) = self.gates.get_mut(name) else { return };
        let failure = reply.err().map(|setback| setback.failure);
        let failed = failure.as_ref().map(|failure| {
            let unreachable = Closing { state: DestinationState::Unreachable, pause: None };
            (retry::closing(failure.kind).unwrap_or(unreachable), failure)
        });
        if !gate.on_probed(failed, self.settings.retry, turn.now.monotonic) {
            return;
        }
        if gate.is_open() {
            self.note_answering(name);
        }
        self.record_destination(name, turn);
    }

    /// Notes that a destination accepts calls.
    fn note_answering(&mut self, name: &DestinationName) {
        // An answer that was in flight when the destination was closed says nothing.
        if self.gates.get(name).is_some_and(Gate::is_open) {
            self.notices.destination_answered(name);
        }
    }

    pub(super) fn on_credential_changed(&mut self, name: &DestinationName, turn: &Turn) {
        if let Some(gate) = self.gates.get_mut(name)
            && let GateState::Closed { state: DestinationState::Halted, until } = &mut gate.state
        {
            *until = turn.now.monotonic;
        }
    }

    /// Counts a reply for or against its destination.
    fn note_reply(&mut self, flight: &Flight, reply: &Result<Outcome, Setback>, turn: &mut Turn) {
        let is_probe = matches!(flight.kind, FlightKind::Probe);
        let Some(name) = flight.destination.as_ref().filter(|_| !is_probe) else { return };
        let Some(gate) = self.gates.get_mut(name) else { return };
        match reply {
            Ok(_) => {
                gate.streak = 0;
                self.note_answering(name);
            }
            Err(Setback { failure, .. }) => {
                let Some(closing) = retry::closing(failure.kind) else { return };
                let (retry, now) = (self.settings.retry, turn.now.monotonic);
                if gate.fail(closing, failure, retry, now) {
                    self.record_destination(name, turn);
                }
            }
        }
    }

    /// Whether a failure is the destination's misfortune rather than the act's own.
    pub(super) fn is_closed(&self, flight: &Flight) -> bool {
        let gate = flight.destination.as_ref().and_then(|name| self.gates.get(name));
        gate.is_some_and(|gate| !gate.is_open())
    }

    fn on_part(
        &mut self,
        flight: &Flight,
        part: (PartNumber, &RemoteUploadId),
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let (number, remote) = part;
        let Some(id) = flight.upload else { return };
        let (retry, closed) = (self.settings.retry, self.is_closed(flight));
        let etags = self.etag_memory(flight);
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
                upload.on_part_put(number, Put { stored, md5, sent }, etags, turn.now)
            }
            Ok(other) => mismatched(upload, &other, retry, turn.now),
            Err(Setback { failure, sent }) => {
                let tried = Tried { act: "put part", part: Some(number), sent, closed };
                upload.on_failed(failure, tried, retry, turn.now)
            }
        };
        self.settle_answer(id, answer, turn);
    }

    fn on_step(
        &mut self,
        (act, name): (ActId, &'static str),
        flight: &Flight,
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        let Some(id) = flight.upload else { return };
        let is_expected = self.uploads.get(&id).is_some_and(|u| u.life.control == Some(act));
        if !is_expected {
            if let (Ok(Outcome::Replied(Reply::Begun(remote))), Some(name)) =
                (reply, &flight.destination)
            {
                let (destination, target) = (name.clone(), self.target_of(act, name));
                self.clean_up(OpenCleanup { destination, target, remote: remote.id }, turn);
            }
            return;
        }
        let (retry, closed) = (self.settings.retry, self.is_closed(flight));
        let answer = match reply {
            Ok(outcome) => self.answer_step(id, flight, outcome, turn.now),
            Err(Setback { failure, sent }) => {
                let tried = Tried { closed, sent, ..Tried::plain(name) };
                let Some(upload) = self.uploads.get_mut(&id) else { return };
                upload.life.control = None;
                upload.life.is_whole_flying = false;
                if is_digest_lost(&flight.kind, failure.kind) {
                    let lost = Fact::Digested { md5: None, sha256: None };
                    return self.settle_answer(id, Answer::fact(lost), turn);
                }
                upload.on_failed(failure, tried, retry, turn.now)
            }
        };
        self.settle_answer(id, answer, turn);
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "an outcome of another act is one case")]
    fn answer_step(&mut self, id: UploadId, flight: &Flight, outcome: Outcome, now: Now) -> Answer {
        let retry = self.settings.retry;
        let upload = self.uploads.get(&id);
        let gate = upload.and_then(|upload| self.gates.get(&upload.admission.destination));
        let policy = gate.zip(upload).map_or(NamePolicy::Park, |(g, u)| u.name_policy(&g.settings));
        let reports = gate.is_some_and(|gate| gate.settings.traits.reports_parts);
        let is_told_all =
            gate.is_some_and(|gate| gate.settings.traits.describes != Describes::AfterCompletion);
        let reply = match outcome {
            Outcome::Replied(Reply::BegunFound(found)) => {
                Outcome::Replied(Reply::BegunFound(self.not_in_use(id, found)))
            }
            other => other,
        };
        let etags = self.etag_memory(flight);
        let parts = if let FlightKind::Step(_, StepDetail::Parts(parts)) = &flight.kind {
            parts.clone()
        } else {
            Vec::new()
        };
        let Some(upload) = self.uploads.get_mut(&id) else { return Answer::default() };
        upload.life.control = None;
        upload.life.is_whole_flying = false;
        match reply {
            Outcome::HolderFound(holder) => upload.on_holder_found(holder, policy, now),
            Outcome::FileHashed { mark } => upload.on_file_hashed(mark, policy, now),
            Outcome::PartHashed { md5 } => {
                let part = parts.first();
                part.map_or_else(Answer::default, |part| upload.on_part_hashed(*part, md5, now))
            }
            Outcome::FileDigested { md5, sha256 } => Answer::fact(Fact::Digested { md5, sha256 }),
            Outcome::ReceiptWritten { sha256 } => {
                Answer::fact(Fact::ReceiptWritten { sha256, at: now.wall })
            }
            Outcome::Sent { reply: Reply::WholeStored(whole), md5, sent } => {
                let Whole { remote, stored, file } = whole;
                let put = Put { stored, md5, sent };
                upload.on_whole_put(WholePut { remote, file, put, is_told_all }, etags, now)
            }
            Outcome::Replied(reply) => match reply {
                Reply::Located(found) => upload.on_located(found, policy, now),
                Reply::Begun(remote) => upload.on_begun(remote, Doubt::None, now),
                Reply::BegunFound(found) => upload.on_found_begun(found, now),
                Reply::PartsListed(parts) => upload.on_parts_listed(parts, reports),
                Reply::PartsReported => upload.on_reported(parts, now),
                Reply::Completed(file) => Answer::fact(Fact::Completed { file, at: now.wall }),
                Reply::CompletionFound(completion) => upload.on_completion_found(completion, now),
                Reply::Inspected(found) => upload.on_inspected(found, etags, retry, now),
                Reply::Described => Answer::fact(Fact::Described),
                other => mismatched(upload, &Outcome::Replied(other), retry, now),
            },
            other => mismatched(upload, &other, retry, now),
        }
    }

    /// What is known of the ETags at an upload's target.
    fn etag_memory(&self, flight: &Flight) -> ETagMemory {
        let upload = flight.upload.and_then(|id| self.uploads.get(&id));
        let gate = flight.destination.as_ref().and_then(|name| self.gates.get(name));
        upload.zip(gate).map_or_else(ETagMemory::default, |(upload, gate)| ETagMemory {
            law: gate.settings.traits.etags,
            md5_seen: self.learned.contains(&(upload.admission.target_id, Learned::ETagsAreMd5s)),
            sends_whole: gate.settings.traits.sends_whole,
        })
    }

    /// Notes what an answer shows of a target, the first time.
    fn learn(&mut self, id: UploadId, answer: &Answer, turn: &mut Turn) {
        let Some(upload) = self.uploads.get(&id) else { return };
        let (destination, target) =
            (upload.admission.destination.clone(), upload.admission.target_id);
        let md5s = answer.is_md5_seen.then(|| (Learned::ETagsAreMd5s, String::new()));
        let strange = answer.strange_digest.clone();
        let strange = strange.map(|detail| (Learned::FinalDigestsDiffer, detail));
        for (what, detail) in md5s.into_iter().chain(strange) {
            if self.learned.insert((target, what)) {
                let (destination, at) = (destination.clone(), turn.now.wall);
                turn.record(Record::DestinationLearned { destination, target, what, detail, at });
            }
        }
    }

    /// Leaves out remote uploads that other uploads of ours are using: never adopted, never removed.
    fn not_in_use(&self, except: UploadId, found: Vec<RemoteUpload>) -> Vec<RemoteUpload> {
        let is_used = |remote: &RemoteUpload| {
            self.uploads.values().any(|upload| {
                upload.id() != except
                    && upload.state.stage.remote().is_some_and(|used| used.id == remote.id)
            })
        };
        found.into_iter().filter(|remote| !is_used(remote)).collect()
    }

    pub(super) fn settle_answer(&mut self, id: UploadId, answer: Answer, turn: &mut Turn) {
        self.learn(id, &answer, turn);
        for remote in answer.cleanups {
            let Some(upload) = self.uploads.get(&id) else { break };
            let destination = upload.admission.destination.clone();
            let target = upload.admission.target_id;
            self.clean_up(OpenCleanup { destination, target, remote }, turn);
        }
        for fact in answer.facts {
            self.record(id, fact, turn);
        }
        self.place(id, turn);
        self.park_if_out(id, turn);
        self.end_if_moved(id, turn);
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
fn mismatched(
    upload: &mut Upload,
    outcome: &Outcome,
    retry: super::settings::RetrySettings,
    now: Now,
) -> Answer {
    debug_assert!(false, "an outcome of another act: {outcome:?}");
    upload.life.doubt = Doubt::Ask;
    let failure = Failure::new(FailureKind::LocalFault, "the answer belongs to another question");
    upload.on_failed(failure, Tried::plain("unknown"), retry, now)
}

/// A source that was taken away after it arrived has no digest any more; that it arrived is proved.
fn is_digest_lost(kind: &FlightKind, failure: FailureKind) -> bool {
    let is_digest = matches!(kind, FlightKind::Step(_, StepDetail::Digest));
    is_digest && matches!(failure, FailureKind::SourceGone | FailureKind::SourceChanged)
}

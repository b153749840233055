//! The engine's ear for the world: one outcome for each act, routed to whom it concerns.

use super::answer::{Answer, Tried};
use super::event::{ActId, Outcome};
use super::files::{Closeness, Scan};
use super::gate::GateState;
use super::retry::{self, Verdict};
use super::sink::Sink;
use super::upload::{Doubt, Upload};
use super::{Engine, Flight, FlightKind};
use crate::model::{
    ByteCount, DestinationName, DropName, ETagMode, Fact, Failure, FailureKind, Now, PartNumber,
    Record, RemoteUploadId, SourcePath, UploadId,
};

impl Engine {
    pub(super) fn on_outcome(&mut self, act: ActId, outcome: Outcome, now: Now, sink: &mut Sink) {
        let Some(flight) = self.flights.remove(&act) else { return };
        match flight.kind.clone() {
            FlightKind::Scan(drop) => self.on_scanned(&drop, outcome, now, sink),
            FlightKind::Look(drop, paths) => self.on_looked(&drop, &paths, outcome, now, sink),
            FlightKind::Abort(remote) => self.on_aborted(&flight, &remote, outcome, now, sink),
            FlightKind::Probe => self.on_probed(&flight, outcome, now, sink),
            FlightKind::Part(part, remote, drop) => {
                self.on_part(&flight, (part, &remote, &drop), outcome, now, sink);
            }
            FlightKind::Control(_) | FlightKind::Report(_) | FlightKind::HashPart(_) => {
                self.on_control(act, &flight, outcome, now, sink);
            }
        }
    }

    fn on_scanned(&mut self, drop: &DropName, outcome: Outcome, now: Now, sink: &mut Sink) {
        let Some(files) = self.drops.get_mut(drop) else { return };
        let again = std::mem::take(&mut files.scan_again);
        files.scan = if again {
            Scan::Due(now.monotonic.after(std::time::Duration::from_secs(1)))
        } else {
            Scan::Due(now.monotonic.after(files.settings.scan_interval))
        };
        match outcome {
            Outcome::Scanned { .. } => {
                files.last_full_scan_at = Some(now.wall);
                files.scan_failure = None;
            }
            Outcome::Failed { failure, .. } if failure.kind != FailureKind::Cancelled => {
                files.scan_failure = Some(failure.message);
            }
            _ => {}
        }
        self.tell_drop(drop, sink);
    }

    fn on_looked(
        &mut self,
        drop: &DropName,
        paths: &[SourcePath],
        outcome: Outcome,
        now: Now,
        sink: &mut Sink,
    ) {
        if let Outcome::Looked { observations } = outcome {
            self.on_observed(drop, &observations, Closeness::Look, now, sink);
        } else if let Some(files) = self.drops.get_mut(drop) {
            paths.iter().for_each(|path| files.settle.retry(path, now.monotonic));
        }
        self.tell_drop(drop, sink);
    }

    fn on_aborted(
        &mut self,
        flight: &Flight,
        remote: &RemoteUploadId,
        outcome: Outcome,
        now: Now,
        sink: &mut Sink,
    ) {
        let Some(name) = &flight.destination else { return };
        let (retry, Some(gate)) = (self.settings.retry, self.gates.get_mut(name)) else { return };
        let Outcome::Failed { failure, .. } = outcome else {
            gate.cleanups.remove(remote);
            sink.record(Record::CleanupDone { destination: name.clone(), remote: remote.clone() });
            return;
        };
        let Some(cleanup) = gate.cleanups.get_mut(remote) else { return };
        cleanup.act = None;
        cleanup.failure_count += 1;
        let delay = retry::delay(retry, cleanup.failure_count, cleanup.failure_count.into());
        cleanup.due = now.monotonic.after(delay);
        let retry_at = now.wall.after(delay);
        let destination = name.clone();
        self.note_failure(name, &failure, now, sink);
        sink.record(Record::CleanupDelayed {
            destination,
            remote: remote.clone(),
            retry_at,
            failure,
        });
    }

    fn on_probed(&mut self, flight: &Flight, outcome: Outcome, now: Now, sink: &mut Sink) {
        let Some(name) = flight.destination.clone() else { return };
        let Some(gate) = self.gates.get_mut(&name) else { return };
        match outcome {
            Outcome::Failed { failure, .. } => {
                gate.streak = gate.streak.saturating_add(1);
                let closing = match retry::judge(failure.kind) {
                    Verdict::Close(closing) => closing,
                    _ => retry::Closing {
                        state: crate::model::DestinationState::Unreachable,
                        pause: None,
                    },
                };
                gate.close(closing, self.settings.retry, now.monotonic);
                self.tell_destination(&name, Some(failure.to_string()), now, sink);
            }
            _ => {
                gate.state = GateState::Open;
                self.tell_destination(&name, None, now, sink);
            }
        }
    }

    pub(super) fn on_credential_changed(&mut self, name: &DestinationName, now: Now) {
        if let Some(gate) = self.gates.get_mut(name)
            && let GateState::Closed { state, until } = &mut gate.state
            && *state == crate::model::DestinationState::Halted
        {
            *until = now.monotonic;
        }
    }

    /// Counts a failure against its destination; closes it when the kind or the streak says so.
    /// Returns whether the one before it was of the same sort.
    fn note_failure(
        &mut self,
        name: &DestinationName,
        failure: &Failure,
        now: Now,
        sink: &mut Sink,
    ) -> bool {
        let Some(gate) = self.gates.get_mut(name) else { return false };
        let Verdict::Close(closing) = retry::judge(failure.kind) else { return false };
        let again = gate.streak > 0;
        gate.streak = gate.streak.saturating_add(1);
        if (closing.pause.is_some() || again) && gate.is_open() {
            gate.close(closing, self.settings.retry, now.monotonic);
            self.tell_destination(name, Some(failure.to_string()), now, sink);
        }
        again
    }

    fn note_success(&mut self, name: &DestinationName) {
        if let Some(gate) = self.gates.get_mut(name) {
            gate.streak = 0;
        }
    }

    fn on_part(
        &mut self,
        flight: &Flight,
        part: (PartNumber, &RemoteUploadId, &DropName),
        outcome: Outcome,
        now: Now,
        sink: &mut Sink,
    ) {
        let (number, remote, drop) = part;
        let (Some(id), Some(name)) = (flight.upload, flight.destination.clone()) else { return };
        self.load.remove(&name, drop);
        let tried = |sent, again| Tried { act: "put part", part: Some(number), sent, again };
        let failed = match &outcome {
            Outcome::Failed { failure, .. } => Some(self.note_failure(&name, failure, now, sink)),
            _ => {
                self.note_success(&name);
                None
            }
        };
        let retry = self.settings.retry;
        let Some(upload) = self.uploads.get_mut(&id) else { return };
        let is_current = matches!(&upload.state.stage, crate::model::Stage::Sending { remote: r } if r.id == *remote);
        if !is_current || !upload.life.flying.remove(&number) {
            return;
        }
        let answer = match outcome {
            Outcome::PartPut { etag, md5, sent } => {
                upload.on_part_put(number, (etag, md5, sent), now)
            }
            Outcome::Failed { failure, sent } => {
                upload.on_failed(failure, tried(sent, failed.unwrap_or(false)), retry, now)
            }
            other => mismatched(upload, &other, retry, now),
        };
        let learned_md5 = answer.facts.contains(&Fact::ETagModeLearned { mode: ETagMode::Md5 });
        if learned_md5 && let Some(gate) = self.gates.get_mut(&name) {
            gate.md5_seen = true;
        }
        self.settle_answer(id, answer, now, sink);
    }

    fn on_control(
        &mut self,
        act: ActId,
        flight: &Flight,
        outcome: Outcome,
        now: Now,
        sink: &mut Sink,
    ) {
        let (Some(id), name) = (flight.upload, flight.destination.clone()) else { return };
        let mut again = false;
        if let Some(name) = &name {
            match &outcome {
                Outcome::Failed { failure, .. } => {
                    again = self.note_failure(name, failure, now, sink)
                }
                _ => self.note_success(name),
            }
        }
        let is_expected = self.uploads.get(&id).is_some_and(|u| u.life.control == Some(act));
        if !is_expected {
            if let (Outcome::Begun(remote), Some(name)) = (outcome, name) {
                self.clean_up(&name, remote.id, now, sink);
            }
            return;
        }
        let answer = self.answer_control(id, flight, outcome, again, now);
        self.settle_answer(id, answer, now, sink);
    }

    fn answer_control(
        &mut self,
        id: UploadId,
        flight: &Flight,
        outcome: Outcome,
        again: bool,
        now: Now,
    ) -> Answer {
        let retry = self.settings.retry;
        let gate = flight.destination.as_ref().and_then(|name| self.gates.get(name));
        let policy = gate.map_or(crate::model::NamePolicy::Park, |g| g.settings.when_name_taken);
        let owned = self.remote_ids_in_use(id);
        let Some(upload) = self.uploads.get_mut(&id) else { return Answer::default() };
        upload.life.control = None;
        match (outcome, &flight.kind) {
            (Outcome::Failed { failure, .. }, kind) => {
                let tried = Tried { again, ..Tried::plain(name_of(kind)) };
                upload.on_failed(failure, tried, retry, now)
            }
            (Outcome::Located(found), _) => upload.on_located(found, policy, now),
            (Outcome::FileHashed { mark }, _) => upload.on_file_hashed(mark, now),
            (Outcome::Begun(remote), _) => upload.on_begun(remote, now),
            (Outcome::FoundBegun(mut found), _) => {
                found.retain(|remote| !owned.contains(&remote.id));
                upload.on_found_begun(found, now)
            }
            (Outcome::PartsListed(parts), _) => upload.on_parts_listed(parts),
            (Outcome::PartHashed { md5 }, FlightKind::HashPart(part)) => {
                upload.on_part_hashed(*part, md5, now)
            }
            (Outcome::Reported, FlightKind::Report(parts)) => {
                upload.on_reported(parts.clone(), now)
            }
            (Outcome::Completed(file), _) => {
                Answer { facts: vec![Fact::Completed { file, at: now.wall }], ..Answer::default() }
            }
            (Outcome::Inspected(found), _) => upload.on_inspected(found, retry, now),
            (Outcome::Described, _) => Answer { facts: vec![Fact::Described], ..Answer::default() },
            (Outcome::ReceiptWritten { sha256 }, _) => Answer {
                facts: vec![Fact::ReceiptWritten { sha256, at: now.wall }],
                ..Answer::default()
            },
            (other, _) => mismatched(upload, &other, retry, now),
        }
    }

    /// Remote uploads that other uploads of ours are using: never adopted, never removed.
    fn remote_ids_in_use(&self, except: UploadId) -> std::collections::BTreeSet<RemoteUploadId> {
        let others = self.uploads.values().filter(|upload| upload.id() != except);
        others.filter_map(|upload| upload.state.stage.remote().map(|r| r.id.clone())).collect()
    }

    pub(super) fn settle_answer(
        &mut self,
        id: UploadId,
        answer: Answer,
        now: Now,
        sink: &mut Sink,
    ) {
        let destination = self.uploads.get(&id).map(|upload| upload.admission.destination.clone());
        if let Some(destination) = destination {
            for remote in answer.cleanups {
                self.clean_up(&destination, remote, now, sink);
            }
        }
        for fact in answer.facts {
            self.record(id, fact, now, sink);
        }
        self.place(id, now);
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
    let tried = Tried { act: "unknown", part: None, sent: ByteCount(0), again: false };
    upload.on_failed(failure, tried, retry, now)
}

fn name_of(kind: &FlightKind) -> &'static str {
    match kind {
        FlightKind::Control(name) => name,
        FlightKind::Report(_) => "report parts",
        FlightKind::HashPart(_) => "hash part",
        FlightKind::Part(..) => "put part",
        FlightKind::Scan(_) => "scan",
        FlightKind::Look(..) => "look",
        FlightKind::Abort(_) => "abort",
        FlightKind::Probe => "probe",
    }
}

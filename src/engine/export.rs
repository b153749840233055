//! Exports to an attached volume: from verified files to jobs, and from jobs to an end.
//!
//! Jobs are started and asked about for many files at once, for calls are rationed. So an upload whose
//! file is to be exported leaves its place in the schedule and waits here, at its destination, until
//! a call takes it along.
//!
//! | stored | in doubt | sure |
//! |---|---|---|
//! | nothing | a file that was found there: is there a job of ours? | records the intent, starts a job |
//! | intended | is there a job of ours? found: adopted | starts a job |
//! | started | – | asks how the job stands |
//! | failed | – | records the intent, starts a job, after the wait that the failure led to |
//! | done | – | has left: its receipt is written |
//!
//! A start has no key that would make it repeatable: after a lost answer the jobs of the volume are
//! asked for first, so that there are never two for one file.

use std::collections::BTreeSet;
use std::time::Duration;

use super::answer::{Answer, Tried};
use super::event::{Act, ActId, Outcome, Setback};
use super::gate::Gate;
use super::retry::{self, Verdict};
use super::settings::RetrySettings;
use super::turn::Turn;
use super::upload::{Doubt, Upload};
use super::{Engine, Flight, FlightKind, plan};
use crate::model::{
    Call, DestinationName, ExportId, ExportItem, ExportJob, ExportPlace, ExportState, ExportStep,
    Fact, Failure, FailureKind, Hold, Monotonic, ParkReason, RemoteFile, Reply, Stage, UploadId,
};

/// Files in one call: the most that Seven Bridges takes.
const BATCH_MAX: usize = 100;
/// A file that could be exported waits this many of the shortest retry delays for others: a minute
/// by default. Jobs are asked about as often.
const LINGER: u32 = 60;
/// After this many questions a job is asked about five times less often.
const POLLS_EAGER: u32 = 30;

/// The exports of one destination.
#[derive(Debug, Default)]
pub(crate) struct Exports {
    /// Uploads whose file is to be exported, or is.
    pub(crate) pending: BTreeSet<UploadId>,
    /// The call under way that starts or finds jobs.
    flight: Option<ActId>,
    /// The call under way that asks about jobs.
    poll: Option<ActId>,
    /// Since when a file waits for others.
    ready_since: Option<Monotonic>,
    /// When something is to be done by itself.
    pub(crate) due: Option<Monotonic>,
}

/// What a call about exports was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExportCall {
    /// Jobs are looked for.
    Find,
    Start,
    /// Jobs are asked about.
    Poll,
}

/// What an upload here waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Want {
    Find,
    Start,
    Poll(ExportId),
}

impl Upload {
    /// Tells whether its file is to be exported, or is being.
    pub(crate) fn wants_export(&self, gate: Option<&Gate>) -> bool {
        matches!(self.state.stage, Stage::Verified { .. })
            && match &self.state.export {
                Some(export) => export.step != ExportStep::Done,
                None => gate.is_some_and(|gate| gate.settings.export.is_some()),
            }
    }

    fn want(&self) -> Option<Want> {
        if self.life.control.is_some() || self.state.hold != Hold::None {
            return None;
        }
        let was_found = matches!(self.state.stage, Stage::Verified { remote: None, .. });
        let in_doubt = self.life.doubt == Doubt::Ask;
        match self.state.export.as_ref().map(|export| &export.step) {
            None if was_found && in_doubt => Some(Want::Find),
            None | Some(ExportStep::Failed) => Some(Want::Start),
            Some(ExportStep::Intended { .. }) if in_doubt => Some(Want::Find),
            Some(ExportStep::Intended { .. }) => Some(Want::Start),
            Some(ExportStep::Started { job }) => Some(Want::Poll(job.clone())),
            Some(ExportStep::Done) => None,
        }
    }

    fn verified_file(&self) -> Option<&RemoteFile> {
        match &self.state.stage {
            Stage::Verified { file, .. } => Some(file),
            Stage::Queued
            | Stage::Beginning { .. }
            | Stage::Sending { .. }
            | Stage::Completing { .. }
            | Stage::Completed { .. }
            | Stage::Receipted { .. }
            | Stage::Ended(_) => None,
        }
    }

    /// A job, or the refusal to make one, failed for this file alone.
    fn on_export_failed(
        &mut self,
        failure: Failure,
        settings: RetrySettings,
        turn: &Turn,
    ) -> Answer {
        let now = turn.now;
        let seed = u64::try_from(self.id().0).unwrap_or(0);
        let is_passing = matches!(retry::judge(failure.kind), Verdict::Again | Verdict::Close(_));
        let delay = retry::delay(settings, self.state.attempt_count + 1, seed);
        let detail = failure.to_string();
        let failed = Fact::ExportFailed { message: failure.message.clone() };
        let attempt = Fact::AttemptFailed {
            act: "export",
            part: None,
            failure,
            sent: crate::model::ByteCount(0),
            retry_at: is_passing.then(|| now.wall.after(delay)),
            at: now.wall,
        };
        let reason = ParkReason::ExportRefused;
        let parked = (!is_passing).then_some(Fact::Parked { reason, detail, at: now.wall });
        Answer { facts: [failed, attempt].into_iter().chain(parked).collect(), ..Answer::default() }
    }
}

impl Engine {
    /// Does what is due for the exports of one destination.
    pub(super) fn export(&mut self, name: &DestinationName, turn: &mut Turn) {
        let Some(gate) = self.gates.get(name).filter(|gate| !gate.exports.pending.is_empty())
        else {
            return;
        };
        let (mut finds, mut starts, mut polls) = (Vec::new(), Vec::new(), Vec::new());
        let mut next_poll: Option<Monotonic> = None;
        for id in &gate.exports.pending {
            let Some(upload) = self.uploads.get(id) else { continue };
            match upload.want() {
                Some(Want::Find) => finds.push(*id),
                Some(Want::Start) => starts.push(*id),
                Some(Want::Poll(_)) if upload.life.poll.0 <= turn.now.monotonic => polls.push(*id),
                Some(Want::Poll(_)) => {
                    let at = upload.life.poll.0;
                    next_poll = Some(next_poll.map_or(at, |next| next.min(at)));
                }
                None => {}
            }
        }
        let (calls_free, polls_free) = (gate.exports.flight.is_none(), gate.exports.poll.is_none());
        let linger_end = self.linger(name, starts.len(), turn.now.monotonic);
        if calls_free && !finds.is_empty() {
            self.find_exports(name, &finds, turn);
        } else if calls_free && linger_end.is_some_and(|end| end <= turn.now.monotonic) {
            self.start_exports(name, &starts, turn);
        }
        if polls_free && !polls.is_empty() {
            self.poll_exports(name, &polls, turn);
        }
        if let Some(gate) = self.gates.get_mut(name) {
            let linger_end = linger_end.filter(|end| *end > turn.now.monotonic);
            gate.exports.due = linger_end.into_iter().chain(next_poll).min();
        }
    }

    /// Returns until when files that could be exported wait for others.
    fn linger(
        &mut self,
        name: &DestinationName,
        ready: usize,
        now: Monotonic,
    ) -> Option<Monotonic> {
        let is_alone = !self.schedule.has_any(name);
        let linger = self.settings.retry.delay_min * LINGER;
        let exports = &mut self.gates.get_mut(name)?.exports;
        if ready == 0 {
            exports.ready_since = None;
            return None;
        }
        let since = *exports.ready_since.get_or_insert(now);
        Some(if ready >= BATCH_MAX || is_alone { since } else { since.after(linger) })
    }

    fn find_exports(&mut self, name: &DestinationName, ids: &[UploadId], turn: &mut Turn) {
        let (ids, items) = self.items(name, ids);
        let act = Act::call(name, Call::FindExports(items));
        self.fly_exports(name, (ExportCall::Find, ids), act, turn);
    }

    fn start_exports(&mut self, name: &DestinationName, ids: &[UploadId], turn: &mut Turn) {
        let Some(mode) = self.gates.get(name).and_then(|gate| gate.settings.export.as_ref()) else {
            return;
        };
        let mode = mode.mode;
        let (ids, items) = self.items(name, ids);
        for (id, item) in ids.iter().zip(&items) {
            let step = self.uploads.get(id).and_then(|upload| upload.state.export.as_ref());
            if !step.is_some_and(|export| matches!(export.step, ExportStep::Intended { .. })) {
                let (place, at) = (item.place.clone(), turn.now.wall);
                self.record(*id, Fact::ExportIntended { place, at }, turn);
            }
        }
        if let Some(gate) = self.gates.get_mut(name) {
            gate.exports.ready_since = None;
        }
        let act = Act::call(name, Call::StartExports { items, mode });
        self.fly_exports(name, (ExportCall::Start, ids), act, turn);
    }

    fn poll_exports(&mut self, name: &DestinationName, ids: &[UploadId], turn: &mut Turn) {
        let job = |id: &UploadId| match self.uploads.get(id)?.want()? {
            Want::Poll(job) => Some((*id, job)),
            Want::Find | Want::Start => None,
        };
        let (ids, jobs) = ids.iter().filter_map(job).take(BATCH_MAX).unzip();
        let act = Act::call(name, Call::PollExports(jobs));
        self.fly_exports(name, (ExportCall::Poll, ids), act, turn);
    }

    fn fly_exports(
        &mut self,
        name: &DestinationName,
        (call, ids): (ExportCall, Vec<UploadId>),
        act: Act,
        turn: &mut Turn,
    ) {
        let kind = FlightKind::Export(call, ids.clone());
        let flight = Flight { kind, upload: None, destination: Some(name.clone()) };
        let id = self.start(flight, act, turn);
        for upload in ids {
            if let Some(upload) = self.uploads.get_mut(&upload) {
                upload.life.control = Some(id);
            }
        }
        let Some(gate) = self.gates.get_mut(name) else { return };
        match call {
            ExportCall::Find | ExportCall::Start => gate.exports.flight = Some(id),
            ExportCall::Poll => gate.exports.poll = Some(id),
        }
    }

    /// Returns what is asked for, for the first of these uploads that one call takes.
    fn items(&self, name: &DestinationName, ids: &[UploadId]) -> (Vec<UploadId>, Vec<ExportItem>) {
        let item = |id: &UploadId| {
            let upload = self.uploads.get(id)?;
            let file = upload.verified_file()?.id.clone();
            Some((*id, ExportItem { file, place: self.export_place(name, upload)? }))
        };
        ids.iter().filter_map(item).take(BATCH_MAX).unzip()
    }

    /// Returns where a file is exported to: as it was frozen, else as configured.
    fn export_place(&self, name: &DestinationName, upload: &Upload) -> Option<ExportPlace> {
        if let Some(export) = &upload.state.export {
            return Some(export.place.clone());
        }
        let export = self.gates.get(name)?.settings.export.as_ref()?;
        let words = self.words(upload)?;
        let mut names = plan::folders(&export.prefix, words);
        names.push(upload.admission.target_name().to_owned());
        Some(ExportPlace { volume: export.volume.clone(), location: names.join("/") })
    }

    pub(super) fn on_exports(
        &mut self,
        (act, flight): (ActId, &Flight),
        (call, ids): (ExportCall, &[UploadId]),
        reply: Result<Outcome, Setback>,
        turn: &mut Turn,
    ) {
        if let Some(gate) = flight.destination.as_ref().and_then(|name| self.gates.get_mut(name)) {
            match call {
                ExportCall::Find | ExportCall::Start => gate.exports.flight = None,
                ExportCall::Poll => gate.exports.poll = None,
            }
        }
        let closed = self.is_closed(flight);
        for (index, id) in ids.iter().enumerate() {
            let is_ours = self.uploads.get(id).is_some_and(|u| u.life.control == Some(act));
            if !is_ours {
                continue;
            }
            let known = flight.destination.as_ref().zip(self.uploads.get(id));
            let place = known.and_then(|(name, upload)| self.export_place(name, upload));
            let Some(upload) = self.uploads.get_mut(id) else { continue };
            upload.life.control = None;
            let answer = match &reply {
                Ok(Outcome::Replied(Reply::ExportsFound(jobs))) => {
                    found(upload, jobs.get(index), place, turn)
                }
                Ok(Outcome::Replied(Reply::ExportsStarted(jobs))) => {
                    self.on_export_started(*id, jobs.get(index), turn)
                }
                Ok(Outcome::Replied(Reply::ExportsPolled(states))) => {
                    self.on_export_polled(*id, states.get(index), turn)
                }
                Ok(_) => Answer::default(),
                Err(setback) => self.on_exports_failed(*id, call, (&setback.failure, closed), turn),
            };
            self.settle_answer(*id, answer, turn);
        }
    }

    fn on_export_started(
        &mut self,
        id: UploadId,
        started: Option<&Result<ExportId, Failure>>,
        turn: &Turn,
    ) -> Answer {
        let settings = self.settings.retry;
        let Some(upload) = self.uploads.get_mut(&id) else { return Answer::default() };
        match started {
            Some(Ok(job)) => {
                upload.life.poll = (turn.now.monotonic.after(settings.delay_min * LINGER), 0);
                Answer::fact(Fact::ExportStarted { job: job.clone(), at: turn.now.wall })
            }
            Some(Err(failure)) => upload.on_export_failed(failure.clone(), settings, turn),
            None => {
                upload.life.doubt = Doubt::Ask;
                Answer::default()
            }
        }
    }

    fn on_export_polled(
        &mut self,
        id: UploadId,
        state: Option<&Result<ExportState, Failure>>,
        turn: &Turn,
    ) -> Answer {
        let settings = self.settings.retry;
        let Some(upload) = self.uploads.get_mut(&id) else { return Answer::default() };
        let ExportStep::Started { job } =
            upload.state.export.as_ref().map_or(&ExportStep::Failed, |export| &export.step).clone()
        else {
            return Answer::default();
        };
        match state {
            Some(Ok(ExportState::Completed)) => {
                Answer::fact(Fact::Exported { job, at: turn.now.wall })
            }
            Some(Ok(ExportState::Failed(failure))) => {
                upload.on_export_failed(failure.clone(), settings, turn)
            }
            // A job that is not known any more may have ended either way: it is looked for.
            Some(Err(failure)) if failure.kind == FailureKind::NotFound => upload.on_export_failed(
                Failure { kind: FailureKind::ServerFault, ..failure.clone() },
                settings,
                turn,
            ),
            Some(Ok(ExportState::Pending) | Err(_)) | None => {
                upload.ask_later(settings, turn.now.monotonic);
                Answer::default()
            }
        }
    }

    /// The call failed for all files in it: what is true is asked for before it is repeated.
    fn on_exports_failed(
        &mut self,
        id: UploadId,
        call: ExportCall,
        (failure, closed): (&Failure, bool),
        turn: &Turn,
    ) -> Answer {
        let settings = self.settings.retry;
        let Some(upload) = self.uploads.get_mut(&id) else { return Answer::default() };
        let is_passing = matches!(
            retry::judge(failure.kind),
            Verdict::Again | Verdict::Close(_) | Verdict::Nothing
        );
        match call {
            ExportCall::Poll => {
                upload.ask_later(settings, turn.now.monotonic);
                Answer::default()
            }
            ExportCall::Start if !is_passing => {
                upload.on_export_failed(failure.clone(), settings, turn)
            }
            ExportCall::Find | ExportCall::Start => {
                upload.life.doubt = Doubt::Ask;
                let tried = Tried { closed, ..Tried::plain("export") };
                upload.on_failed(failure.clone(), tried, settings, turn.now)
            }
        }
    }
}

impl Upload {
    fn ask_later(&mut self, settings: RetrySettings, now: Monotonic) {
        let count = self.life.poll.1 + 1;
        let slower = if count > POLLS_EAGER { 5 } else { 1 };
        let pause: Duration = settings.delay_min * LINGER * slower;
        self.life.poll = (now.after(pause), count);
    }
}

/// A job of ours was found, or none.
fn found(
    upload: &mut Upload,
    job: Option<&Option<ExportJob>>,
    place: Option<ExportPlace>,
    turn: &Turn,
) -> Answer {
    upload.life.doubt = Doubt::None;
    let (Some(Some(job)), Some(place)) = (job, place) else { return Answer::default() };
    let at = turn.now.wall;
    let intended = upload.state.export.is_none().then_some(Fact::ExportIntended { place, at });
    let id = job.id.clone();
    let what = match &job.state {
        ExportState::Pending => Fact::ExportStarted { job: id, at },
        ExportState::Completed => Fact::Exported { job: id, at },
        ExportState::Failed(_) => return Answer::default(),
    };
    Answer { facts: intended.into_iter().chain([what]).collect(), ..Answer::default() }
}

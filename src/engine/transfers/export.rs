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

use super::circuit::Gate;
use super::upload::{Answer, Tried};
use super::upload::{Doubt, Upload};
use super::{TransferAct, TransferTurn, Transfers};
use crate::engine::event::{Act, ActId, Outcome, Setback};
use crate::engine::plan;
use crate::engine::retry::{self, Verdict};
use crate::engine::settings::RetrySettings;
use crate::model::{
    ByteCount, Call, ExportId, ExportItem, ExportJob, ExportPlace, ExportState, ExportStep, Fact,
    Failure, FailureKind, Hold, Monotonic, Now, ParkReason, RemoteFile, Reply, Stage, UploadId,
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
pub(super) struct Exports {
    /// Uploads whose file is to be exported, or is.
    pending: BTreeSet<UploadId>,
    /// The call under way that starts or finds jobs.
    flight: Option<ActId>,
    /// The call under way that asks about jobs.
    poll: Option<ActId>,
    /// Since when a file waits for others.
    ready_since: Option<Monotonic>,
    /// When something is to be done by itself.
    due: Option<Monotonic>,
}

impl Exports {
    /// Notes whether the file of an upload is to be exported now, or is being.
    pub(super) fn set_pending(&mut self, id: UploadId, is_pending: bool) {
        let _was_pending = match is_pending {
            true => self.pending.insert(id),
            false => self.pending.remove(&id),
        };
    }

    pub(super) fn due(&self) -> Option<Monotonic> {
        self.due
    }

    /// Forgets everything: the destination has another target, or none.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    fn call_under_way(&mut self, call: ExportCall) -> &mut Option<ActId> {
        match call {
            ExportCall::Find | ExportCall::Start => &mut self.flight,
            ExportCall::Poll => &mut self.poll,
        }
    }
}

/// What a call about exports was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum ExportCall {
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
    pub(super) fn wants_export(&self, gate: Option<&Gate>) -> bool {
        matches!(self.state.stage, Stage::Verified { .. })
            && match &self.state.export {
                Some(export) => export.step != ExportStep::Done,
                None => gate.is_some_and(|gate| gate.settings().export.is_some()),
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
    fn on_export_failed(&mut self, failure: Failure, settings: RetrySettings, now: Now) -> Answer {
        let seed = u64::try_from(self.id().0).unwrap_or(0);
        let is_passing = matches!(retry::judge(failure.kind), Verdict::Again | Verdict::Close(_));
        let delay = retry::delay(settings, self.state.attempt_count + 1, seed);
        let detail = failure.to_string();
        let failed = Fact::ExportFailed { message: failure.message.clone() };
        let attempt = Fact::AttemptFailed {
            act: "export",
            part: None,
            failure,
            sent: ByteCount(0),
            retry_at: is_passing.then(|| now.wall.after(delay)),
            at: now.wall,
        };
        let reason = ParkReason::ExportRefused;
        let parked = (!is_passing).then_some(Fact::Parked { reason, detail, at: now.wall });
        Answer { facts: [failed, attempt].into_iter().chain(parked).collect(), ..Answer::default() }
    }
}

impl Transfers {
    /// Does what is due for the exports of the destination.
    pub(super) fn export(&mut self, turn: &mut TransferTurn<'_>) {
        if self.exports.pending.is_empty() {
            return;
        }
        let now = turn.now().monotonic;
        let (mut finds, mut starts, mut polls) = (Vec::new(), Vec::new(), Vec::new());
        let mut next_poll: Option<Monotonic> = None;
        for id in &self.exports.pending {
            let Some(upload) = self.uploads.get(id) else { continue };
            match upload.want() {
                Some(Want::Find) => finds.push(*id),
                Some(Want::Start) => starts.push(*id),
                Some(Want::Poll(_)) if upload.life.poll.0 <= now => polls.push(*id),
                Some(Want::Poll(_)) => {
                    let at = upload.life.poll.0;
                    next_poll = Some(next_poll.map_or(at, |next| next.min(at)));
                }
                None => {}
            }
        }
        let is_free = self.exports.flight.is_none();
        let linger_end = self.linger(starts.len(), turn);
        if is_free && !finds.is_empty() {
            let (ids, items) = self.items(&finds, turn);
            self.start_export(ExportCall::Find, ids, Call::FindExports(items), turn);
        } else if is_free && linger_end.is_some_and(|end| end <= now) {
            self.start_exports(&starts, turn);
        }
        if self.exports.poll.is_none() && !polls.is_empty() {
            self.poll_exports(&polls, turn);
        }
        let linger_end = linger_end.filter(|end| *end > now);
        self.exports.due = linger_end.into_iter().chain(next_poll).min();
    }

    /// Returns until when files that could be exported wait for others.
    fn linger(&mut self, ready: usize, turn: &TransferTurn<'_>) -> Option<Monotonic> {
        if ready == 0 {
            self.exports.ready_since = None;
            return None;
        }
        let since = *self.exports.ready_since.get_or_insert(turn.now().monotonic);
        let goes_now = ready >= BATCH_MAX || !self.queue.has_any();
        Some(if goes_now { since } else { since.after(turn.retry().delay_min * LINGER) })
    }

    fn start_exports(&mut self, ids: &[UploadId], turn: &mut TransferTurn<'_>) {
        let export = self.gate.as_ref().and_then(|gate| gate.settings().export.as_ref());
        let Some(mode) = export.map(|export| export.mode) else { return };
        let (ids, items) = self.items(ids, turn);
        for (id, item) in ids.iter().zip(&items) {
            let step = self.uploads.get(id).and_then(|upload| upload.state.export.as_ref());
            if !step.is_some_and(|export| matches!(export.step, ExportStep::Intended { .. })) {
                let (place, at) = (item.place.clone(), turn.now().wall);
                self.record(*id, Fact::ExportIntended { place, at }, turn);
            }
        }
        self.exports.ready_since = None;
        self.start_export(ExportCall::Start, ids, Call::StartExports { items, mode }, turn);
    }

    fn poll_exports(&mut self, ids: &[UploadId], turn: &mut TransferTurn<'_>) {
        let job = |id: &UploadId| match self.uploads.get(id)?.want()? {
            Want::Poll(job) => Some((*id, job)),
            Want::Find | Want::Start => None,
        };
        let (ids, jobs) = ids.iter().filter_map(job).take(BATCH_MAX).unzip();
        self.start_export(ExportCall::Poll, ids, Call::PollExports(jobs), turn);
    }

    fn start_export(
        &mut self,
        call: ExportCall,
        uploads: Vec<UploadId>,
        what: Call,
        turn: &mut TransferTurn<'_>,
    ) {
        let act = Act::call(&self.name, what);
        let kept = TransferAct::Export { call, uploads: uploads.clone() };
        let id = turn.start(&self.name, kept, act);
        for upload in uploads {
            if let Some(upload) = self.uploads.get_mut(&upload) {
                upload.life.control = Some(id);
            }
        }
        *self.exports.call_under_way(call) = Some(id);
    }

    /// Returns what is asked for, for the first of these uploads that one call takes.
    fn items(&self, ids: &[UploadId], turn: &TransferTurn<'_>) -> (Vec<UploadId>, Vec<ExportItem>) {
        let item = |id: &UploadId| {
            let upload = self.uploads.get(id)?;
            let file = upload.verified_file()?.id.clone();
            Some((*id, ExportItem { file, place: self.export_place(upload, turn)? }))
        };
        ids.iter().filter_map(item).take(BATCH_MAX).unzip()
    }

    /// Returns where a file is exported to: as it was frozen, else as configured.
    fn export_place(&self, upload: &Upload, turn: &TransferTurn<'_>) -> Option<ExportPlace> {
        if let Some(export) = &upload.state.export {
            return Some(export.place.clone());
        }
        let export = self.gate.as_ref()?.settings().export.as_ref()?;
        let mut names = plan::folders(&export.prefix, turn.words(&upload.admission)?);
        names.push(upload.admission.target_name().to_owned());
        Some(ExportPlace { volume: export.volume.clone(), location: names.join("/") })
    }

    /// Receives the reply to a call about exports.
    pub(super) fn exports_replied(
        &mut self,
        act: ActId,
        call: ExportCall,
        ids: &[UploadId],
        reply: &Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        *self.exports.call_under_way(call) = None;
        let (retry, now) = (turn.retry(), turn.now());
        let closed = self.gate.as_ref().is_some_and(|gate| !gate.is_open());
        for (index, id) in ids.iter().enumerate() {
            let Some(upload) = self.upload(*id).filter(|u| u.life.control == Some(act)) else {
                continue;
            };
            let place = self.export_place(upload, turn);
            let Some(upload) = self.uploads.get_mut(id) else { continue };
            upload.life.control = None;
            let answer = match reply {
                Ok(Outcome::Replied(Reply::ExportsFound(jobs))) => {
                    upload.on_export_found(jobs.get(index), place, now)
                }
                Ok(Outcome::Replied(Reply::ExportsStarted(jobs))) => {
                    upload.on_export_started(jobs.get(index), retry, now)
                }
                Ok(Outcome::Replied(Reply::ExportsPolled(states))) => {
                    upload.on_export_polled(states.get(index), retry, now)
                }
                Ok(_) => Answer::default(),
                Err(setback) => {
                    let tried = Tried { closed, ..Tried::plain("export") };
                    upload.on_exports_failed(call, &setback.failure, tried, (retry, now))
                }
            };
            self.settle_answer(*id, answer, turn);
        }
    }
}

impl Upload {
    /// A job of ours was found, or none.
    fn on_export_found(
        &mut self,
        job: Option<&Option<ExportJob>>,
        place: Option<ExportPlace>,
        now: Now,
    ) -> Answer {
        self.life.doubt = Doubt::None;
        let (Some(Some(job)), Some(place)) = (job, place) else { return Answer::default() };
        let at = now.wall;
        let intended = self.state.export.is_none().then_some(Fact::ExportIntended { place, at });
        let id = job.id.clone();
        let what = match &job.state {
            ExportState::Pending => Fact::ExportStarted { job: id, at },
            ExportState::Completed => Fact::Exported { job: id, at },
            ExportState::Failed(_) => return Answer::default(),
        };
        Answer { facts: intended.into_iter().chain([what]).collect(), ..Answer::default() }
    }

    fn on_export_started(
        &mut self,
        started: Option<&Result<ExportId, Failure>>,
        settings: RetrySettings,
        now: Now,
    ) -> Answer {
        match started {
            Some(Ok(job)) => {
                self.life.poll = (now.monotonic.after(settings.delay_min * LINGER), 0);
                Answer::fact(Fact::ExportStarted { job: job.clone(), at: now.wall })
            }
            Some(Err(failure)) => self.on_export_failed(failure.clone(), settings, now),
            None => {
                self.life.doubt = Doubt::Ask;
                Answer::default()
            }
        }
    }

    fn on_export_polled(
        &mut self,
        state: Option<&Result<ExportState, Failure>>,
        settings: RetrySettings,
        now: Now,
    ) -> Answer {
        let step = self.state.export.as_ref().map(|export| export.step.clone());
        let Some(ExportStep::Started { job }) = step else { return Answer::default() };
        match state {
            Some(Ok(ExportState::Completed)) => Answer::fact(Fact::Exported { job, at: now.wall }),
            Some(Ok(ExportState::Failed(failure))) => {
                self.on_export_failed(failure.clone(), settings, now)
            }
            // A job that is not known any more may have ended either way: it is looked for.
            Some(Err(failure)) if failure.kind == FailureKind::NotFound => self.on_export_failed(
                Failure { kind: FailureKind::ServerFault, ..failure.clone() },
                settings,
                now,
            ),
            Some(Ok(ExportState::Pending) | Err(_)) | None => {
                self.ask_later(settings, now.monotonic);
                Answer::default()
            }
        }
    }

    /// The call failed for all files in it: what is true is asked for before it is repeated.
    fn on_exports_failed(
        &mut self,
        call: ExportCall,
        failure: &Failure,
        tried: Tried,
        at: (RetrySettings, Now),
    ) -> Answer {
        let (settings, now) = at;
        let is_passing = matches!(
            retry::judge(failure.kind),
            Verdict::Again | Verdict::Close(_) | Verdict::Nothing
        );
        match call {
            ExportCall::Poll => {
                self.ask_later(settings, now.monotonic);
                Answer::default()
            }
            ExportCall::Start if !is_passing => {
                self.on_export_failed(failure.clone(), settings, now)
            }
            ExportCall::Find | ExportCall::Start => {
                self.life.doubt = Doubt::Ask;
                self.on_failed(failure.clone(), tried, settings, now)
            }
        }
    }

    fn ask_later(&mut self, settings: RetrySettings, now: Monotonic) {
        let count = self.life.poll.1 + 1;
        let slower = if count > POLLS_EAGER { 5 } else { 1 };
        let pause: Duration = settings.delay_min * LINGER * slower;
        self.life.poll = (now.after(pause), count);
    }
}

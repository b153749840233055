//! The export of an upload's file: its next call, and the answers about its job.

use std::time::Duration;

use super::Upload;
use super::answer::{AnswerContext, Decision, Tried};
use super::life::Doubt;
use crate::engine::failure::{Remedy, delay, judge};
use crate::model::{
    ExportId, ExportJob, ExportPlace, ExportState, ExportStep, Fact, Failure, FailureKind, Hold,
    Monotonic, Now, ParkReason, RemoteFile, Stage,
};

/// A file that could be exported waits this many minimum retry delays for others: a minute by
/// default. Jobs are polled at the same interval.
pub(crate) const LINGER: u32 = 60;
/// After this many polls a job is polled five times less often.
const POLLS_EAGER: u32 = 30;

/// A call about exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum ExportCall {
    /// Jobs are looked for.
    Find,
    Start,
    /// Jobs are asked about.
    Poll,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct JobPoll {
    due: Monotonic,
    count: u32,
}

impl JobPoll {
    pub(super) const fn new() -> Self {
        Self { due: Monotonic(Duration::ZERO), count: 0 }
    }

    fn after(count: u32, context: AnswerContext<'_>) -> Self {
        let slower = if count > POLLS_EAGER { 5 } else { 1 };
        let pause = context.retry.delay_min * LINGER * slower;
        Self { due: context.now.monotonic.after(pause), count }
    }
}

impl Upload {
    /// Returns whether its file is to be exported, where its destination does so, or is being exported.
    pub(crate) fn wants_export(&self, destination_exports: bool) -> bool {
        matches!(self.state.stage, Stage::Verified { .. })
            && !self.state.is_renaming()
            && match &self.state.export {
                Some(export) => export.step != ExportStep::Done,
                None => destination_exports,
            }
    }

    /// Returns the call that its export waits for, unless one is in flight.
    pub(crate) fn export_want(&self) -> Option<ExportCall> {
        if self.is_busy() || self.state.hold != Hold::None {
            return None;
        }
        let was_found = matches!(self.state.stage, Stage::Verified { remote: None, .. });
        let in_doubt = self.is_in_doubt();
        match self.state.export.as_ref().map(|export| &export.step) {
            None if was_found && in_doubt => Some(ExportCall::Find),
            None | Some(ExportStep::Failed) => Some(ExportCall::Start),
            Some(ExportStep::Intended { .. }) if in_doubt => Some(ExportCall::Find),
            Some(ExportStep::Intended { .. }) => Some(ExportCall::Start),
            Some(ExportStep::Started { .. }) => Some(ExportCall::Poll),
            Some(ExportStep::Done) => None,
        }
    }

    pub(crate) fn export_job(&self) -> Option<&ExportId> {
        let step = self.state.export.as_ref().map(|export| &export.step);
        if let Some(ExportStep::Started { job }) = step { Some(job) } else { None }
    }

    pub(crate) fn poll_due(&self) -> Monotonic {
        self.life.poll.due
    }

    pub(crate) fn verified_file(&self) -> Option<&RemoteFile> {
        if let Stage::Verified { file, .. } = &self.state.stage { Some(file) } else { None }
    }

    /// A job of ours was found, or none.
    pub(crate) fn on_export_found(
        &mut self,
        job: Option<&Option<ExportJob>>,
        place: Option<ExportPlace>,
        now: Now,
    ) -> Decision {
        self.life.doubt = Doubt::None;
        let (Some(Some(job)), Some(place)) = (job, place) else { return Decision::NONE };
        let at = now.wall;
        let intended = self.state.export.is_none().then_some(Fact::ExportIntended { place, at });
        let id = job.id.clone();
        let what = match &job.state {
            ExportState::Pending => Fact::ExportStarted { job: id, at },
            ExportState::Completed => Fact::Exported { job: id, at },
            ExportState::Failed(_) => return Decision::NONE,
        };
        Decision::of(intended.into_iter().chain([what]).collect())
    }

    pub(crate) fn on_export_started(
        &mut self,
        started: Option<&Result<ExportId, Failure>>,
        context: AnswerContext<'_>,
    ) -> Decision {
        match started {
            Some(Ok(job)) => {
                self.life.poll = JobPoll::after(0, context);
                let at = context.now.wall;
                Decision::fact(Fact::ExportStarted { job: job.clone(), at })
            }
            Some(Err(failure)) => self.on_export_failed(failure.clone(), context),
            None => {
                self.life.doubt = Doubt::Ask;
                Decision::NONE
            }
        }
    }

    pub(crate) fn on_export_polled(
        &mut self,
        state: Option<&Result<ExportState, Failure>>,
        context: AnswerContext<'_>,
    ) -> Decision {
        let Some(job) = self.export_job().cloned() else { return Decision::NONE };
        match state {
            Some(Ok(ExportState::Completed)) => {
                Decision::fact(Fact::Exported { job, at: context.now.wall })
            }
            Some(Ok(ExportState::Failed(failure))) => {
                self.on_export_failed(failure.clone(), context)
            }
            // A job that is not known any more may have ended either way: it is looked up.
            Some(Err(failure)) if failure.kind == FailureKind::NotFound => self.on_export_failed(
                Failure { kind: FailureKind::ServerFault, ..failure.clone() },
                context,
            ),
            Some(Ok(ExportState::Pending) | Err(_)) | None => self.poll_later(context),
        }
    }

    /// The call failed for all its files: the jobs are looked up before it is repeated.
    pub(crate) fn on_exports_failed(
        &mut self,
        call: ExportCall,
        failure: &Failure,
        context: AnswerContext<'_>,
    ) -> Decision {
        let is_passing =
            matches!(judge(failure.kind), Remedy::Again | Remedy::Wait | Remedy::Nothing);
        match call {
            ExportCall::Poll => self.poll_later(context),
            ExportCall::Start if !is_passing => self.on_export_failed(failure.clone(), context),
            ExportCall::Find | ExportCall::Start => {
                self.life.doubt = Doubt::Ask;
                self.on_failed(failure.clone(), Tried::plain("export"), context)
            }
        }
    }

    fn poll_later(&mut self, context: AnswerContext<'_>) -> Decision {
        self.life.poll = JobPoll::after(self.life.poll.count + 1, context);
        Decision::NONE
    }

    /// A job, or the request for one, failed for this file alone.
    fn on_export_failed(&mut self, failure: Failure, context: AnswerContext<'_>) -> Decision {
        let now = context.now;
        let is_passing = matches!(judge(failure.kind), Remedy::Again | Remedy::Wait);
        let wait = delay(context.retry, self.state.failed.count + 1, self.seed());
        let detail = failure.to_string();
        let failed = Fact::ExportFailed { message: failure.message.clone() };
        let retry_at = is_passing.then(|| now.wall.after(wait));
        let attempt = Tried::plain("export").failed(failure, retry_at, now);
        let reason = ParkReason::ExportRefused;
        let parked = (!is_passing).then_some(Fact::Parked { reason, detail, at: now.wall });
        Decision::of([failed, attempt].into_iter().chain(parked).collect())
    }
}

//! Exports to an attached volume: from verified files to jobs, and to their ends.
//!
//! Jobs are started and polled for many files at once, because calls are limited. So an upload
//! whose file is to be exported leaves the schedule and waits here until a call includes it.
//!
//! | stored | in doubt | sure |
//! |---|---|---|
//! | nothing | for a file that was already there: is there a job of ours? | records the intent, starts a job |
//! | intended | is there a job of ours? found: adopted | starts a job |
//! | started | – | asks for the state of the job |
//! | failed | – | records the intent, starts a job, after the delay of the failure |
//! | done | – | leaves: its receipt is written |
//!
//! A start has no key that would make it repeatable: after a lost answer the jobs of the volume are
//! listed first, so that there are never two for one file.

use std::collections::BTreeSet;

use super::reply::context;
use super::upload::{Decision, ExportCall, LINGER, Upload};
use super::{TransferAct, TransferTurn, Transfers};
use crate::engine::event::{Act, ActId, Outcome, Setback};
use crate::engine::plan;
use crate::model::{Call, ExportItem, ExportPlace, ExportStep, Fact, Monotonic, Reply, UploadId};

/// Limit of files in one call, set by Seven Bridges.
const BATCH_MAX: usize = 100;
#[derive(Debug, Default)]
pub(super) struct ExportQueue {
    pending: BTreeSet<UploadId>,
    /// The call in flight that starts or finds jobs.
    flight: Option<ActId>,
    /// The call in flight that polls jobs.
    poll: Option<ActId>,
    ready_since: Option<Monotonic>,
    due: Option<Monotonic>,
}

/// A call about exports in flight, with its uploads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::engine) struct ExportFlight {
    call: ExportCall,
    uploads: Vec<UploadId>,
}

impl ExportQueue {
    /// Sets whether the file of an upload is to be exported, or is being.
    pub(super) fn set_pending(&mut self, id: UploadId, is_pending: bool) {
        let _was_pending = match is_pending {
            true => self.pending.insert(id),
            false => self.pending.remove(&id),
        };
    }

    pub(super) fn due(&self) -> Option<Monotonic> {
        self.due
    }

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

impl Transfers {
    pub(super) fn export(&mut self, turn: &mut TransferTurn<'_>) {
        if self.exports.pending.is_empty() {
            return;
        }
        let now = turn.now().monotonic;
        let (mut finds, mut starts, mut polls) = (Vec::new(), Vec::new(), Vec::new());
        let mut next_poll: Option<Monotonic> = None;
        for id in &self.exports.pending {
            let Some(upload) = self.uploads.get(id) else { continue };
            match upload.export_want() {
                Some(ExportCall::Find) => finds.push(*id),
                Some(ExportCall::Start) => starts.push(*id),
                Some(ExportCall::Poll) if upload.poll_due() <= now => polls.push(*id),
                Some(ExportCall::Poll) => {
                    next_poll = next_poll.into_iter().chain([upload.poll_due()]).min();
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
            let step = self.uploads.get(id).and_then(|upload| upload.state().export.as_ref());
            if !step.is_some_and(|export| matches!(export.step, ExportStep::Intended { .. })) {
                let (place, at) = (item.place.clone(), turn.now().wall);
                self.record(*id, Fact::ExportIntended { place, at }, turn);
            }
        }
        self.exports.ready_since = None;
        self.start_export(ExportCall::Start, ids, Call::StartExports { items, mode }, turn);
    }

    fn poll_exports(&mut self, ids: &[UploadId], turn: &mut TransferTurn<'_>) {
        let job = |id: &UploadId| Some((*id, self.uploads.get(id)?.export_job()?.clone()));
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
        let kept = TransferAct::Export(ExportFlight { call, uploads: uploads.clone() });
        let id = turn.start(&self.name, kept, act);
        for upload in uploads {
            if let Some(upload) = self.uploads.get_mut(&upload) {
                upload.start_act(id);
            }
        }
        *self.exports.call_under_way(call) = Some(id);
    }

    /// Returns the items of one call, for the first of these uploads.
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
        if let Some(export) = &upload.state().export {
            return Some(export.place.clone());
        }
        let export = self.gate.as_ref()?.settings().export.as_ref()?;
        let mut names = plan::folders(&export.prefix, turn.words(upload.admission())?);
        names.push(upload.admission().target.name().to_owned());
        Some(ExportPlace { volume: export.volume.clone(), location: names.join("/") })
    }

    pub(super) fn exports_replied(
        &mut self,
        act: ActId,
        flight: &ExportFlight,
        reply: &Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        let ExportFlight { call, uploads } = flight;
        *self.exports.call_under_way(*call) = None;
        for (index, id) in uploads.iter().enumerate() {
            if !self.uploads.get_mut(id).is_some_and(|upload| upload.end_act(act)) {
                continue;
            }
            let place = self.upload(*id).and_then(|upload| self.export_place(upload, turn));
            let Some(upload) = self.uploads.get_mut(id) else { continue };
            let context = context(upload, self.gate.as_ref(), turn);
            let answer = match reply {
                Ok(Outcome::Replied(Reply::ExportsFound(jobs))) => {
                    upload.on_export_found(jobs.get(index), place, context.now)
                }
                Ok(Outcome::Replied(Reply::ExportsStarted(jobs))) => {
                    upload.on_export_started(jobs.get(index), context)
                }
                Ok(Outcome::Replied(Reply::ExportsPolled(states))) => {
                    upload.on_export_polled(states.get(index), context)
                }
                Ok(_) => Decision::NONE,
                Err(setback) => upload.on_exports_failed(*call, &setback.failure, context),
            };
            self.settle_answer(*id, answer, turn);
        }
    }
}

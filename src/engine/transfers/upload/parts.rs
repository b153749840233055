//! The state of an upload's parts that is in no row: which are in flight, wait, were damaged, or must be
//! read and compared. A crash that loses it costs questions and bytes sent again, nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::answer::{AnswerContext, Decision};
use super::life::{Doubt, SourceProof};
use super::{Step, Upload};
use crate::engine::transfers::recover;
use crate::model::{
    ETag, Fact, Fingerprint, Hold, Monotonic, Now, PartNumber, PartState, RemotePart, RemoteUpload,
    RemoteUploadId, Stage, Traits,
};

/// Longest wait of a report for more parts.
const REPORT_DELAY: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub(super) struct PartMemory {
    in_flight: BTreeSet<PartNumber>,
    failed: BTreeMap<PartNumber, PartFailures>,
    /// Parts that did not arrive as they were read.
    damage: BTreeMap<PartNumber, PartDamage>,
    /// Parts that the platform has and that have no checkpoint: to be read and compared.
    unproved: BTreeMap<PartNumber, ETag>,
    /// Since when accepted parts wait to be reported.
    unreported_since: Option<Monotonic>,
    /// No part before this one is open.
    cursor: usize,
}

/// How often a part failed.
#[derive(Debug, Clone, Copy)]
struct PartFailures {
    count: u32,
    retry_at: Monotonic,
}

/// How often a part did not arrive as it was read.
#[derive(Debug, Clone)]
struct PartDamage {
    count: u32,
    /// The ETag of the damaged part.
    etag: ETag,
}

impl PartMemory {
    pub(super) const fn new() -> Self {
        Self {
            in_flight: BTreeSet::new(),
            failed: BTreeMap::new(),
            damage: BTreeMap::new(),
            unproved: BTreeMap::new(),
            unreported_since: None,
            cursor: 0,
        }
    }

    /// Drops the parts of one remote upload, except the damage: the next upload may be damaged in the same way.
    pub(super) fn forget_layout(&mut self) {
        *self = Self { damage: std::mem::take(&mut self.damage), ..Self::new() };
    }

    pub(super) fn is_none_in_flight(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Returns the next open part that may be sent, and moves the cursor past closed parts.
    fn next(&mut self, states: &[PartState], now: Monotonic) -> Option<PartNumber> {
        let is_open = |part: &PartState| *part == PartState::Open;
        self.cursor += states[self.cursor..].iter().take_while(|part| !is_open(part)).count();
        let rest = states.iter().enumerate().skip(self.cursor).filter(|(_, part)| is_open(part));
        rest.map(|(index, _)| PartNumber::from_index(index)).find(|number| {
            !self.in_flight.contains(number)
                && !self.unproved.contains_key(number)
                && self.failed.get(number).is_none_or(|failed| failed.retry_at <= now)
        })
    }

    /// Returns until when the upload only waits for failed parts.
    pub(super) fn all_wait_until(
        &mut self,
        states: &[PartState],
        now: Monotonic,
    ) -> Option<Monotonic> {
        let is_idle = self.in_flight.is_empty()
            && self.unproved.is_empty()
            && self.report_deadline().is_none()
            && self.next(states, now).is_none();
        self.failed.values().map(|failed| failed.retry_at).min().filter(|_| is_idle)
    }

    pub(super) fn reopened(&mut self, index: usize) {
        self.cursor = self.cursor.min(index);
    }

    pub(super) fn failure_count(&self, part: PartNumber) -> u32 {
        self.failed.get(&part).map_or(0, |failed| failed.count)
    }

    /// Counts a failure of a part, which is retried at `retry_at`.
    pub(super) fn failed(&mut self, part: PartNumber, retry_at: Monotonic) {
        let count = self.failure_count(part) + 1;
        self.failed.insert(part, PartFailures { count, retry_at });
    }

    pub(super) fn hurry(&mut self) {
        self.failed.clear();
    }

    pub(super) fn arrived(&mut self, part: PartNumber, now: Monotonic) {
        self.failed.remove(&part);
        self.unreported_since.get_or_insert(now);
    }

    pub(super) fn reported(&mut self) {
        self.unreported_since = None;
    }

    fn report_deadline(&self) -> Option<Monotonic> {
        self.unreported_since.map(|since| since.after(REPORT_DELAY))
    }

    /// Returns when failed parts are retried, and when accepted ones are reported although they are few.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Monotonic> {
        self.failed.values().map(|failed| failed.retry_at).chain(self.report_deadline())
    }

    pub(super) fn damaged_as(&self, part: PartNumber) -> Option<&ETag> {
        self.damage.get(&part).map(|damage| &damage.etag)
    }

    /// Records the ETag of a damaged part; returns how often damage was counted.
    pub(super) fn damaged(&mut self, part: PartNumber, etag: &ETag, is_counted: bool) -> u32 {
        let damage = self.damage.entry(part);
        let damage = damage.or_insert_with(|| PartDamage { count: 0, etag: etag.clone() });
        damage.etag.clone_from(etag);
        damage.count += u32::from(is_counted);
        damage.count
    }

    pub(super) fn forget_damage(&mut self, part: PartNumber) {
        self.damage.remove(&part);
    }

    pub(super) fn take_unproved(&mut self, part: PartNumber) -> Option<ETag> {
        self.unproved.remove(&part)
    }
}

impl Upload {
    pub(crate) fn in_flight_count(&self) -> usize {
        self.life.parts.in_flight.len()
    }

    /// Counts the parts that have not arrived.
    pub(crate) fn left_count(&self) -> u32 {
        let planned = || self.admission.part_size.count_for(self.size()).unwrap_or(1);
        let count = self.state.stage.remote().map_or_else(planned, |remote| remote.part_count);
        count.saturating_sub(self.state.accepted_count)
    }

    /// Counts the parts that are in flight, or could be.
    pub(crate) fn sendable_count(&mut self, now: Monotonic) -> u32 {
        match &self.state.stage {
            Stage::Queued | Stage::Beginning { .. } => self.left_count(),
            Stage::Sending { remote } if remote.sequential => 1,
            // Parts that wait for a retry delay no other file.
            Stage::Sending { .. } => match self.next_part(now) {
                Some(_) => self.left_count(),
                None => u32::try_from(self.in_flight_count()).unwrap_or(u32::MAX),
            },
            Stage::Completing { .. }
            | Stage::Completed { .. }
            | Stage::Verified { .. }
            | Stage::Receipted { .. }
            | Stage::Ended(_) => 0,
        }
    }

    pub(crate) fn next_part(&mut self, now: Monotonic) -> Option<PartNumber> {
        let may_send = matches!(self.state.stage, Stage::Sending { .. })
            && self.state.hold == Hold::None
            && self.life.doubt == Doubt::None;
        if may_send { self.life.parts.next(&self.parts, now) } else { None }
    }

    /// Returns the next part to send, and counts it as in flight.
    pub(crate) fn take_next_part(&mut self, now: Monotonic) -> Option<PartNumber> {
        let part = self.next_part(now)?;
        self.life.parts.in_flight.insert(part);
        Some(part)
    }

    /// A part came back; returns whether it was in flight to the current remote upload.
    pub(crate) fn land_part(&mut self, part: PartNumber, remote: &RemoteUploadId) -> bool {
        let is_current = matches!(&self.state.stage, Stage::Sending { remote: current } if current.id == *remote);
        is_current && self.life.parts.in_flight.remove(&part)
    }

    /// Returns the next step of an upload that has a remote upload and is sure of its parts.
    pub(super) fn sending_step(
        &self,
        remote: &RemoteUpload,
        traits: &Traits,
        now: Monotonic,
    ) -> Option<Step> {
        let memory = &self.life.parts;
        if let Some(number) = memory.unproved.keys().next() {
            return Some(Step::HashPart(*number, remote.part_size.range_of(*number, self.size())));
        }
        let all_accepted =
            self.state.accepted_count == remote.part_count && memory.is_none_in_flight();
        // A part that was not reported can be sent again.
        match self.life.source {
            SourceProof::Unknown if all_accepted && !self.admission.file.is_sentinel => {
                return Some(Step::ProveSource(None));
            }
            SourceProof::Moving { seen, due } if all_accepted => {
                return (due <= now).then_some(Step::ProveSource(Some(seen)));
            }
            SourceProof::Unknown | SourceProof::Moving { .. } | SourceProof::Proved => {}
        }
        let pending = self.state.accepted_count - self.state.reported_count;
        let overdue = memory.report_deadline().is_some_and(|deadline| deadline <= now);
        // The call that completes the upload reports the last ones.
        let is_due = match all_accepted {
            true => pending > traits.report_max,
            false => pending >= traits.report_max || overdue,
        };
        if traits.reports_parts && pending > 0 && is_due {
            return Some(Step::Report(remote.clone(), self.unreported_parts(traits)));
        }
        all_accepted.then(|| Step::Complete(remote.clone(), self.all_parts()))
    }

    /// Returns the next parts to report, as many as one call takes.
    pub(super) fn unreported_parts(&self, traits: &Traits) -> Vec<RemotePart> {
        let limit = if traits.reports_parts { traits.report_max } else { 0 };
        let is_unreported = |part: &PartState| matches!(part, PartState::Accepted { .. });
        self.remote_parts(is_unreported, limit as usize)
    }

    /// The source was looked at, and read where it was touched. Changed parts are sent again; all
    /// of the file, if one of them was reported to the platform.
    pub(super) fn on_source_proved(
        &mut self,
        version: Fingerprint,
        differing: &[PartNumber],
    ) -> Decision {
        if !matches!(self.state.stage, Stage::Sending { .. }) {
            return Decision::NONE;
        }
        let mut answer = Decision::NONE;
        if !version.is_untouched(&self.admission.file.fingerprint) {
            answer.facts.push(Fact::Retouched { fingerprint: version });
        }
        if differing.is_empty() {
            self.life.source = SourceProof::Proved;
            return answer;
        }
        let state = |part: &PartNumber| self.parts.get(part.index());
        if differing.iter().any(|part| matches!(state(part), Some(PartState::Reported { .. }))) {
            self.life.doubt = Doubt::Ask;
            answer.cleanups = self.remote_id();
            answer.facts.push(Fact::RemoteGone);
            return answer;
        }
        let reopened = |part: &PartNumber| Fact::PartReopened { part: *part, was_reported: false };
        answer.facts.extend(differing.iter().map(reopened));
        answer
    }

    pub(super) fn all_parts(&self) -> Vec<RemotePart> {
        self.remote_parts(|_| true, usize::MAX)
    }

    fn remote_parts(&self, wanted: impl Fn(&PartState) -> bool, limit: usize) -> Vec<RemotePart> {
        let numbered = self.parts.iter().enumerate().filter(|(_, part)| wanted(part));
        let parts = numbered.filter_map(|(index, part)| {
            let (_, etag) = part.checkpoint()?;
            Some(RemotePart {
                number: PartNumber::from_index(index),
                etag: etag.clone(),
                note: part.note().cloned(),
            })
        });
        parts.take(limit).collect()
    }

    /// Compares the platform's parts with ours; parts with a checkpoint count where the platform
    /// cannot list them.
    pub(super) fn on_parts_listed(
        &mut self,
        listed: Option<Vec<RemotePart>>,
        context: AnswerContext<'_>,
    ) -> Decision {
        self.life.doubt = Doubt::None;
        let Some(listed) = listed else { return Decision::NONE };
        let reports = context.traits().is_some_and(|traits| traits.reports_parts);
        let compared = recover::compare(&self.parts, &listed, reports);
        self.life.parts.unproved = compared.unproved;
        Decision::of(compared.repairs)
    }

    pub(super) fn on_reported(&mut self, parts: &[PartNumber], now: Now) -> Decision {
        let still = |part: &PartNumber| {
            matches!(self.parts.get(part.index()), Some(PartState::Accepted { .. }))
        };
        let parts: Vec<_> = parts.iter().copied().filter(still).collect();
        let pending = self.state.accepted_count - self.state.reported_count;
        let is_left = pending as usize > parts.len();
        self.life.parts.unreported_since = is_left.then_some(now.monotonic);
        if parts.is_empty() {
            return Decision::NONE;
        }
        Decision::fact(Fact::PartsReported { parts })
    }
}

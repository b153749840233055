//! Collects what one call to the engine decided, and hands it out in the right order.
//!
//! All records of one call go into one transaction. Acts that change something at the far side, or
//! that follow from more than a checkpoint, wait for it; so do scans and looks, which compare what they
//! see with the rows. The others start at once.

use super::event::{Act, ActId, Effect};
use super::orders::{OrderAnswer, OrderId};
use crate::model::{Fact, Now, Record, UploadId};

/// What one call decided.
#[derive(Debug)]
pub(crate) struct Turn {
    now: Now,
    records: Vec<Record>,
    acts: Vec<(ActId, Act)>,
    free: Vec<(ActId, Act)>,
    answers: Vec<(OrderId, OrderAnswer)>,
    /// Something was recorded that every act of this call must wait for.
    is_weighty: bool,
}

impl Turn {
    /// Starts with nothing decided.
    pub(crate) fn new(now: Now) -> Self {
        Self {
            now,
            records: Vec::new(),
            acts: Vec::new(),
            free: Vec::new(),
            answers: Vec::new(),
            is_weighty: false,
        }
    }

    /// Returns when the call was made.
    pub(crate) fn now(&self) -> Now {
        self.now
    }

    /// Lines up a record that is not about an upload, or admits one.
    pub(crate) fn record(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Returns what is lined up so far.
    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    /// Lines up a fact about an upload.
    pub(crate) fn fact(&mut self, upload: UploadId, fact: Fact) {
        let is_light = matches!(
            fact,
            Fact::PartAccepted { .. }
                | Fact::PartsReported { .. }
                | Fact::AttemptFailed { .. }
                | Fact::ETagModeLearned { .. }
        );
        self.is_weighty |= !is_light;
        self.records.push(Record::Upload(upload, fact));
    }

    /// Lines up an act.
    pub(crate) fn act(&mut self, id: ActId, act: Act) {
        self.acts.push((id, act));
    }

    /// Lines up an act that needs nothing of this turn to be durable.
    pub(crate) fn free_act(&mut self, id: ActId, act: Act) {
        self.free.push((id, act));
    }

    /// Answers an order, once all of this turn is durable.
    pub(crate) fn answer(&mut self, id: OrderId, answer: OrderAnswer) {
        self.answers.push((id, answer));
    }

    /// Hands everything out; tells whether anything was to be committed.
    pub(crate) fn flush(self, out: &mut Vec<Effect>) -> bool {
        let weighty = self.is_weighty;
        let (then, at_once): (Vec<_>, Vec<_>) =
            self.acts.into_iter().partition(|(_, act)| weighty || must_wait(act));
        let commits = !self.records.is_empty() || !then.is_empty();
        if commits {
            out.push(Effect::Commit { records: self.records, then });
        }
        out.extend(self.answers.into_iter().map(|(id, answer)| Effect::Answer(id, answer)));
        let at_once = self.free.into_iter().chain(at_once);
        out.extend(at_once.map(|(id, act)| Effect::Start(id, act)));
        commits
    }
}

/// Whether an act must find everything before it durable: all but reads and questions.
///
/// Parts wait for the record that their upload was begun, and not for checkpoints: how many of them lack
/// one is bounded where they are sent. A file that is sent in one request waits for its admission, by
/// which it is known again, unless that is durable.
fn must_wait(act: &Act) -> bool {
    match act {
        Act::Call { call, .. } => call.changes(),
        Act::Put(_)
        | Act::CompareContent { .. }
        | Act::Scan { .. }
        | Act::Look { .. }
        | Act::FindHolder(_)
        | Act::ReadRows { .. }
        | Act::FindMoved { .. }
        | Act::WriteReceipt { .. }
        | Act::WriteRunReceipt { .. }
        | Act::Dispose { .. }
        | Act::Notify { .. } => true,
        Act::HashPart { .. }
        | Act::HashFile { .. }
        | Act::ProveSource { .. }
        | Act::DigestFile { .. }
        | Act::ReadRun { .. }
        | Act::CheckProofs(_)
        | Act::Survey(_) => false,
    }
}

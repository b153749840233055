//! Collects the decisions of one call to the engine, and emits them in the right order.
//!
//! All records of one call form one transaction. Acts that change something at a destination, or
//! that follow from more than a checkpoint, wait for it; so do scans and looks, which compare what
//! they see with the rows. The others start at once.

use super::event::{Act, ActId, Effect};
use super::orders::{OrderAnswer, OrderId};
use crate::model::{Fact, Now, Record, UploadId};

/// The decisions of one call.
#[derive(Debug)]
pub(crate) struct Turn {
    now: Now,
    records: Vec<Record>,
    acts: Vec<(ActId, Act)>,
    free: Vec<(ActId, Act)>,
    answers: Vec<(OrderId, OrderAnswer)>,
    /// A record was made that every act of this call must wait for.
    is_weighty: bool,
}

impl Turn {
    /// Starts without decisions.
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

    /// Returns the time of the call.
    pub(crate) fn now(&self) -> Now {
        self.now
    }

    /// Adds a record: an admission, or one that is not about an upload.
    pub(crate) fn record(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Returns the records so far.
    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    /// Adds a fact about an upload.
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

    /// Adds an act.
    pub(crate) fn act(&mut self, id: ActId, act: Act) {
        self.acts.push((id, act));
    }

    /// Adds an act that needs nothing of this turn to be durable.
    pub(crate) fn free_act(&mut self, id: ActId, act: Act) {
        self.free.push((id, act));
    }

    /// Answers an order, once everything in this turn is durable.
    pub(crate) fn answer(&mut self, id: OrderId, answer: OrderAnswer) {
        self.answers.push((id, answer));
    }

    /// Emits everything; returns whether anything is to be committed.
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

/// Returns whether an act needs everything before it to be durable: all but reads and questions.
///
/// Parts wait for the record that their upload was begun, and not for checkpoints: the number of
/// parts without one is limited where they are sent. A file that is sent in one request waits for
/// its admission, which identifies it later, unless that is durable.
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

//! The state of an upload that lasts as long as the process, and what it waits for.

use super::Upload;
use super::export::JobPoll;
use super::failed::UploadEnding;
use super::name::NameMemory;
use super::parts::PartMemory;
use crate::engine::event::ActId;
use crate::engine::failure::Standstill;
use crate::engine::sparse::AtStart;
use crate::model::{Fact, Fingerprint, Hold, Monotonic, ParkReason, Stage, UploadId};

/// The state of an upload that is not stored.
#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) doubt: Doubt,
    /// The act in flight, other than parts.
    act: Option<UploadAct>,
    pub(super) name: NameMemory,
    pub(super) parts: PartMemory,
    pub(super) waits: Waits,
    pub(super) poll: JobPoll,
    pub(super) source: SourceProof,
    /// How it will end, once what may have been begun for it is found and removed.
    pub(super) ending: Option<UploadEnding>,
    /// Failures since its last progress.
    pub(super) standstill: Standstill,
    pub(super) counts: AnswerCounts,
}

/// Counts of answers that are tolerated only a few times.
#[derive(Debug, Clone)]
pub(super) struct AnswerCounts {
    /// The platform refused to complete.
    pub(super) refused: u32,
    /// The platform did not have the upload any more.
    pub(super) lost: u32,
    /// The platform reported an unexpected digest of the whole file.
    strange: u32,
}

/// Whether an upload must ask before it acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    None,
    /// It asks the platform for the present state.
    Ask,
}

/// Whether the source is still what was read, part by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceProof {
    Unknown,
    /// It was written to or touched, and is read if it still has this version then.
    Moving {
        seen: Fingerprint,
        due: Monotonic,
    },
    Proved,
}

impl SourceProof {
    /// Returns whether the source must be checked again before the next complete.
    pub(super) fn ends_with(fact: &Fact) -> bool {
        matches!(
            fact,
            Fact::Begun { .. }
                | Fact::PartAccepted { .. }
                | Fact::PartReopened { .. }
                | Fact::CompleteIntended { .. }
        )
    }
}

#[derive(Debug, Clone)]
pub(super) struct Waits {
    /// The upload that holds its place.
    place: Option<UploadId>,
    /// The end of its hold, by the monotonic clock.
    hold_until: Option<Monotonic>,
    /// When the engine next checks it without an event.
    timer: Option<Monotonic>,
    /// Since when its existing file cannot be read.
    unreadable_since: Option<Monotonic>,
}

impl Waits {
    pub(super) const fn new() -> Self {
        Self { place: None, hold_until: None, timer: None, unreadable_since: None }
    }

    /// Returns what remains of them when the upload goes to another target.
    pub(super) fn at_other_target(&self) -> Self {
        Self { place: self.place, timer: self.timer, ..Self::new() }
    }

    /// Sets whether its file can be read; the first failure counts.
    pub(super) fn note_readable(&mut self, is_readable: bool, now: Monotonic) {
        self.unreadable_since = (!is_readable).then(|| self.unreadable_since.unwrap_or(now));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct UploadAct {
    id: ActId,
    is_whole: bool,
}

impl AtStart for Life {
    fn at_start() -> &'static Self {
        static AT_START: Life = Life::new();
        &AT_START
    }
}

impl Life {
    const fn new() -> Self {
        Self {
            doubt: Doubt::Ask,
            act: None,
            name: NameMemory::new(),
            parts: PartMemory::new(),
            waits: Waits::new(),
            poll: JobPoll::new(),
            source: SourceProof::Unknown,
            ending: None,
            standstill: Standstill::NONE,
            counts: AnswerCounts { refused: 0, lost: 0, strange: 0 },
        }
    }

    /// Counts an unexpected digest of the whole file; returns how often one was reported.
    pub(super) fn note_shown(&mut self) -> u32 {
        self.counts.strange += 1;
        self.counts.strange
    }

    /// The upload progressed.
    pub(super) fn went_on(&mut self) {
        (self.standstill, self.counts.strange) = (Standstill::NONE, 0);
    }

    /// Resets for another target: what was learned at the old one proves nothing there.
    pub(super) fn move_to_other_target(&mut self) {
        let waits = self.waits.at_other_target();
        *self = Self { waits, ..Self::new() };
    }
}

impl Upload {
    /// Returns whether it has an act in flight, other than parts.
    pub(crate) fn is_busy(&self) -> bool {
        self.life.act.is_some()
    }

    pub(crate) fn is_in_doubt(&self) -> bool {
        self.life.doubt == Doubt::Ask
    }

    pub(crate) fn be_sure(&mut self) {
        self.life.doubt = Doubt::None;
    }

    pub(crate) fn start_act(&mut self, id: ActId) {
        self.life.act = Some(UploadAct { id, is_whole: false });
    }

    /// Registers the act that sends all of it. The admission serves as the intent. A doubt ends with its
    /// success, because its look at the place may fail.
    pub(crate) fn start_whole(&mut self, id: ActId) {
        self.life.act = Some(UploadAct { id, is_whole: true });
    }

    /// Ends an act; returns whether it was the one in flight.
    pub(crate) fn end_act(&mut self, id: ActId) -> bool {
        self.life.act.is_some_and(|act| act.id == id) && self.life.act.take().is_some()
    }

    /// Drops the act in flight: its result is found by asking.
    pub(crate) fn doubt_act(&mut self) {
        (self.life.doubt, self.life.act) = (Doubt::Ask, None);
    }

    /// Returns whether a remote upload may exist that we do not know of.
    pub(super) fn may_have_begun(&self) -> bool {
        self.life.act.is_some_and(|act| act.is_whole)
            || matches!(self.state.stage, Stage::Beginning { .. })
                && (self.is_busy() || self.is_in_doubt())
    }

    pub(crate) fn awaited(&self) -> Option<UploadId> {
        self.life.waits.place
    }

    /// Sets the upload that holds its place; returns whether it changed.
    pub(crate) fn await_place(&mut self, holder: Option<UploadId>) -> bool {
        if self.awaited() == holder {
            return false;
        }
        self.life.waits.place = holder;
        true
    }

    /// Returns whether nothing was begun for it, and nothing will be until someone acts.
    pub(crate) fn rests(&self) -> bool {
        self.state.stage == Stage::Queued && matches!(self.state.hold, Hold::Parked { .. })
    }

    /// Returns the order of its claim among others: begun uploads claim first.
    pub(crate) fn claim_order(&self) -> u8 {
        match (self.state.stage == Stage::Queued, self.awaited()) {
            (false, _) => 0,
            (true, None) => 1,
            (true, Some(_)) => 2,
        }
    }

    pub(crate) fn hold_until(&mut self, until: impl FnOnce() -> Monotonic) {
        self.life.waits.hold_until.get_or_insert_with(until);
    }

    pub(crate) fn end_hold(&mut self) {
        if self.life.waits.hold_until.is_some() {
            self.life.waits.hold_until = None;
        }
    }

    pub(crate) fn is_hold_over(&self, now: Monotonic) -> bool {
        matches!(self.state.hold, Hold::Waiting { .. })
            && self.life.waits.hold_until.is_some_and(|until| until <= now)
    }

    /// Ends every wait: failed acts are retried at once.
    pub(crate) fn hurry(&mut self) {
        self.life.parts.hurry();
        self.life.waits.hold_until = None;
    }

    /// Returns the next time at which it needs a turn. Due parts and reports are handled at every
    /// turn of the engine; only its timer releases a hold, also one that had ended when it was
    /// loaded.
    pub(crate) fn next_deadline(&self, now: Monotonic) -> Option<Monotonic> {
        let quiet = match self.life.source {
            SourceProof::Moving { due, .. } => Some(due),
            SourceProof::Unknown | SourceProof::Proved => None,
        };
        let ahead = self.life.parts.deadlines().chain(quiet).filter(|at| *at > now);
        ahead.chain(self.life.waits.hold_until).min()
    }

    pub(crate) fn take_timer(&mut self) -> Option<Monotonic> {
        self.life.waits.timer?;
        self.life.waits.timer.take()
    }

    pub(crate) fn set_timer(&mut self, at: Monotonic) {
        self.life.waits.timer = Some(at);
    }

    pub(crate) fn unreadable_since(&self) -> Option<Monotonic> {
        self.life.waits.unreadable_since
    }

    pub(crate) fn waits_to_read(&self) -> bool {
        self.unreadable_since().is_some() && matches!(self.state.hold, Hold::Waiting { .. })
    }

    /// Returns whether it is parked for a reason that a look at the source can remove.
    pub(crate) fn waits_for_source(&self) -> bool {
        matches!(
            self.state.hold,
            Hold::Parked { reason: ParkReason::SourceMissing | ParkReason::SourceUnreadable }
        )
    }

    pub(crate) fn misses_source(&self) -> bool {
        self.state.hold == Hold::Parked { reason: ParkReason::SourceMissing }
    }
}

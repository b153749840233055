//! What a failure means for one upload: again, elsewhere, from the begin, parked, or the end; and
//! early ends.

use std::time::Duration;

use super::Upload;
use super::answer::{AnswerContext, Decision, Tried};
use super::life::Doubt;
use crate::engine::failure::{FailedTry, Remedy, Way, delay, is_of_destination, judge, long_delay};
use crate::model::{
    Fact, Failure, FailureKind, Hold, Now, ParkReason, PartSize, RemoteUploadId, Stage, WallTime,
};

/// The upload begins again after this many refused completes.
const REFUSAL_MAX: u32 = 3;
/// How often the platform may lose an upload in one life of the daemon. A kill also loses it where
/// its address was only in memory: that costs one in each life.
pub(super) const RESTART_MAX: u32 = 5;
/// After a complete without answer: the platform may still be working on it.
const COMPLETE_PAUSE: Duration = Duration::from_secs(10);
/// Factor for larger parts after some were too small: storages require 5 MiB, or some KiB.
const LARGER_PARTS: u64 = 4;
/// Limit of begins with larger parts, besides other begins.
const LARGER_MAX: u32 = 3;

/// How an upload ends early; an operator's order overrides the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum UploadEnding {
    SourceChanged,
    GivenUp,
}

impl Upload {
    pub(super) fn on_failed(
        &mut self,
        failure: Failure,
        tried: Tried,
        context: AnswerContext<'_>,
    ) -> Decision {
        let now = context.now;
        if self.state.stage.is_end() {
            return Decision::NONE;
        }
        if failure.kind == FailureKind::Cancelled {
            return Decision::in_vain(tried.sent);
        }
        if failure.kind == FailureKind::Forbidden
            && tried.act == "inspect"
            && let Some(verified) = self.verified_unseen(now)
        {
            return Decision::fact(verified);
        }
        self.doubt_lost_answer(failure.kind, tried);
        if context.is_closed && is_of_destination(failure.kind) {
            // It is repeated when the destination opens, which has its own delays.
            let is_over = self.is_ending() && !self.may_have_begun();
            let answer = if is_over { self.end_now(now) } else { Decision::NONE };
            let in_vain = Decision::in_vain(tried.sent).facts;
            return in_vain.into_iter().rev().fold(answer, Decision::after);
        }
        let remedy = self.remedy(failure.kind, tried, context);
        let retry_at = match remedy {
            Remedy::Again | Remedy::Refused(_) => self.wait(tried, context),
            Remedy::Wait => Some(self.wait_long(tried, context)),
            Remedy::Park(_)
            | Remedy::SourceChanged
            | Remedy::Gone
            | Remedy::CompleteRefused
            | Remedy::LargerParts
            | Remedy::SmallerParts
            | Remedy::Anew
            | Remedy::NameTaken
            | Remedy::Nothing => None,
        };
        let detail = failure.to_string();
        let failed = tried.failed(failure, retry_at, now);
        let mut answer = match self.is_ending() && !self.may_have_begun() {
            true => self.end_now(now),
            false => self.follow(remedy, detail, context),
        };
        let position = usize::from(answer.facts.contains(&Fact::RemoteGone));
        answer.facts.insert(position, failed);
        answer
    }

    /// Returns the consequence of a failure. A step that fails the same way again and again is tried in other
    /// ways; without any left, a failure that passes by itself waits for longer, and a refusal parks.
    fn remedy(&mut self, kind: FailureKind, tried: Tried, context: AnswerContext<'_>) -> Remedy {
        let now = context.now.monotonic;
        let remedy = match (judge(kind), kind) {
            (_, FailureKind::SourceFailing) => {
                self.life.waits.note_readable(false, now);
                return Remedy::Wait;
            }
            // Its run may have another name: a scan finds it, or it is gone.
            (_, FailureKind::SourceGone) if context.is_scanned => {
                self.life.waits.note_readable(false, now);
                return Remedy::Again;
            }
            // Storages may show a completed file some minutes later.
            (Remedy::Refused(_), _) if tried.act == "inspect" => return Remedy::Wait,
            (_, FailureKind::SourceAway | FailureKind::LocalFault) => return Remedy::Again,
            (remedy @ (Remedy::Again | Remedy::Refused(_)), _) => remedy,
            (other, _) => return other,
        };
        let (sent, file_size) = (tried.sent.0, self.size().0);
        let part_size = self.part_size().get();
        let failed = FailedTry { step: tried.act, kind, sent, part_size, file_size };
        match (self.life.standstill.add(failed, now), remedy) {
            (None | Some(Way::Same), remedy) => remedy,
            // An upload that was never begun has no question and no other way.
            (Some(Way::Asked), Remedy::Refused(reason)) if self.state.stage.remote().is_none() => {
                Remedy::Park(reason)
            }
            (Some(Way::Asked), remedy) => {
                self.life.doubt = Doubt::Ask;
                remedy
            }
            (Some(Way::Anew), _) if tried.part.is_some() && self.may_begin_anew(context) => {
                Remedy::Anew
            }
            (Some(Way::Anew | Way::Last), Remedy::Refused(reason)) => Remedy::Park(reason),
            (Some(Way::Anew | Way::Last), _) => Remedy::Wait,
        }
    }

    fn part_size(&self) -> PartSize {
        self.state.stage.remote().map_or(self.admission.part_size, |remote| remote.part_size)
    }

    /// Returns half of its part size, where the platform accepts such parts and half of the file
    /// has not arrived.
    fn smaller(&self, context: AnswerContext<'_>) -> Option<PartSize> {
        let limits = context.traits()?.limits;
        // A file that is sent in one request may be shorter than the wished parts.
        let half = PartSize::new(self.part_size().get().min(self.size().0) / 2)?;
        let fits = half.count_for(self.size()).is_some_and(|count| count <= limits.count_max);
        (self.is_little_there() && fits && half.get() >= limits.size_min.0).then_some(half)
    }

    fn is_little_there(&self) -> bool {
        let part_count = self.state.stage.remote().map_or(1, |remote| remote.part_count);
        self.state.accepted_count.saturating_mul(2) <= part_count
    }

    /// Returns whether the remote upload may be replaced by another one: with parts of the same
    /// size only once, and never when half of the file has arrived.
    fn may_begin_anew(&self, context: AnswerContext<'_>) -> bool {
        let is_first = self.state.restart_count == 0 && self.is_little_there();
        is_first || self.smaller(context).is_some()
    }

    /// Begins again with smaller parts, where the platform accepts such.
    fn on_part_too_large(&mut self, detail: String, context: AnswerContext<'_>) -> Decision {
        match self.smaller(context) {
            Some(half) => self.begin_anew(Some(half)),
            None => Decision::park(ParkReason::NoProgress, detail, context.now.wall),
        }
    }

    /// Begins again, with parts of another size where one is given. The former remote upload is removed after that.
    fn begin_anew(&mut self, part_size: Option<PartSize>) -> Decision {
        let gone = match &self.state.stage {
            Stage::Queued => None,
            Stage::Beginning { .. } | Stage::Sending { .. } => Some(Fact::RemoteGone),
            Stage::Completing { .. }
            | Stage::Completed { .. }
            | Stage::Verified { .. }
            | Stage::Receipted { .. }
            | Stage::Ended(_) => return Decision::NONE,
        };
        self.life.doubt = Doubt::Ask;
        let cleanups = self.remote_id();
        let size = part_size.map(|part_size| Fact::PartSizeChanged { part_size });
        Decision { cleanups, ..Decision::of(gone.into_iter().chain(size).collect()) }
    }

    /// After a begin, complete or whole file with a lost answer, the platform is asked first.
    fn doubt_lost_answer(&mut self, kind: FailureKind, tried: Tried) {
        // A gateway may refuse after the platform has acted, so only the platform's own refusal counts.
        let refused = matches!(
            kind,
            FailureKind::Forbidden
                | FailureKind::NotFound
                | FailureKind::UploadGone
                | FailureKind::AlreadyCompleted
                | FailureKind::CompleteRefused
                | FailureKind::PartsTooSmall
                | FailureKind::Quota
                | FailureKind::BadRequest
        );
        let is_lost =
            matches!(self.state.stage, Stage::Beginning { .. } | Stage::Completing { .. });
        let may_have_arrived = tried.act == "put whole"
            && matches!(
                kind,
                FailureKind::Broken
                    | FailureKind::TimedOut
                    | FailureKind::ServerFault
                    | FailureKind::BadAnswer
            );
        if (is_lost && !refused) || may_have_arrived {
            self.life.doubt = Doubt::Ask;
        }
    }

    /// Delays the retry of a failed act. Returns until when, unless other parts continue.
    fn wait(&mut self, tried: Tried, context: AnswerContext<'_>) -> Option<WallTime> {
        let (retry, now) = (context.retry, context.now);
        if let Some(part) = tried.part {
            let seed = self.seed() ^ u64::from(part.get()) << 40;
            let wait = delay(retry, self.life.parts.failure_count(part) + 1, seed);
            self.life.parts.failed(part, now.monotonic.after(wait));
            let until = self.life.parts.all_wait_until(&self.parts, now.monotonic)?;
            return Some(now.wall.after(until.since(now.monotonic)));
        }
        let mut wait = delay(retry, self.state.failed.count + 1, self.seed());
        if tried.act == "complete" {
            wait = wait.max(COMPLETE_PAUSE.min(retry.delay_min * 10));
        }
        Some(now.wall.after(wait))
    }

    /// Delays the whole upload for a failure that passes by itself: longer each time, and each time
    /// one more part is tried.
    fn wait_long(&mut self, tried: Tried, context: AnswerContext<'_>) -> WallTime {
        let mut count = self.state.failed.count.saturating_add(1);
        let now = context.now;
        if let Some(part) = tried.part {
            self.life.parts.failed(part, now.monotonic);
            count = count.max(self.life.parts.failure_count(part));
        }
        now.wall.after(long_delay(context.retry, count, self.seed()))
    }

    fn follow(&mut self, remedy: Remedy, detail: String, context: AnswerContext<'_>) -> Decision {
        let now = context.now;
        match remedy {
            Remedy::Again | Remedy::Wait | Remedy::Refused(_) | Remedy::Nothing => Decision::NONE,
            Remedy::Park(reason) => Decision::park(reason, detail, now.wall),
            Remedy::SourceChanged => self.end_changed(now),
            Remedy::Gone => match self.state.stage {
                Stage::Completing { .. } => {
                    self.life.doubt = Doubt::Ask;
                    Decision::NONE
                }
                Stage::Beginning { .. } | Stage::Sending { .. } => self.remove_and_start_over(now),
                Stage::Queued
                | Stage::Completed { .. }
                | Stage::Verified { .. }
                | Stage::Receipted { .. }
                | Stage::Ended(_) => Decision::NONE,
            },
            Remedy::CompleteRefused => self.on_refused(now),
            Remedy::LargerParts => self.on_parts_too_small(detail, now),
            Remedy::SmallerParts => self.on_part_too_large(detail, context),
            Remedy::Anew => self.begin_anew(self.smaller(context)),
            Remedy::NameTaken => self.on_name_taken(now),
        }
    }

    fn on_refused(&mut self, now: Now) -> Decision {
        self.life.counts.refused += 1;
        self.life.doubt = Doubt::Ask;
        if !matches!(self.state.stage, Stage::Completing { .. }) {
            return Decision::NONE;
        }
        if self.life.counts.refused < REFUSAL_MAX {
            return Decision::fact(Fact::CompleteWithdrawn);
        }
        self.life.counts.refused = 0;
        if self.state.restart_count >= 1 {
            let detail = "complete was refused again and again";
            return Decision::park(ParkReason::CompleteRefused, detail, now.wall);
        }
        self.remove_and_start_over(now)
    }

    /// Begins again with larger parts, because the platform gave no size; with a limit, because all
    /// of the file is sent each time.
    fn on_parts_too_small(&mut self, detail: String, now: Now) -> Decision {
        let Stage::Completing { remote, .. } = &self.state.stage else {
            return Decision::NONE;
        };
        let larger = remote.part_size.get().checked_mul(LARGER_PARTS).and_then(PartSize::new);
        let Some(part_size) = larger.filter(|_| self.state.restart_count < LARGER_MAX) else {
            return Decision::park(ParkReason::CompleteRefused, detail, now.wall);
        };
        let mut answer = self.remove_and_start_over(now);
        if answer.facts.contains(&Fact::RemoteGone) {
            answer.facts.push(Fact::PartSizeChanged { part_size });
        }
        answer
    }

    pub(super) fn remove_and_start_over(&mut self, now: Now) -> Decision {
        let cleanups = self.remote_id();
        let decision = self.start_over(now);
        if decision.facts.contains(&Fact::RemoteGone) {
            Decision { cleanups, ..decision }
        } else {
            decision
        }
    }

    /// Begins again from nothing, unless that has happened too often.
    pub(super) fn start_over(&mut self, now: Now) -> Decision {
        self.life.doubt = Doubt::Ask;
        self.life.counts.lost += 1;
        if self.life.counts.lost > RESTART_MAX {
            let detail = format!("the platform lost the upload {RESTART_MAX} times");
            return Decision::park(ParkReason::RestartedTooOften, detail, now.wall);
        }
        Decision::fact(Fact::RemoteGone)
    }

    /// Returns whether it ends once it is known what was begun for it.
    pub(crate) fn is_ending(&self) -> bool {
        match self.life.ending {
            // A file that was sent in one request had arrived before the change was known.
            Some(UploadEnding::SourceChanged) => self.state.stage.is_before_completed(),
            Some(UploadEnding::GivenUp) => true,
            None => false,
        }
    }

    pub(crate) fn end_changed(&mut self, now: Now) -> Decision {
        self.end(UploadEnding::SourceChanged, now)
    }

    pub(crate) fn give_up(&mut self, can_ask: bool, now: Now) -> Decision {
        match self.state.stage {
            Stage::Queued | Stage::Sending { .. } => self.end(UploadEnding::GivenUp, now),
            Stage::Beginning { .. } if can_ask => {
                let mut answer = self.end(UploadEnding::GivenUp, now);
                // Its own wait must not hold it up: it only has a question left.
                if answer.facts.is_empty() && self.state.hold != Hold::None {
                    answer.facts.push(Fact::Released);
                }
                answer
            }
            Stage::Beginning { .. }
            | Stage::Completing { .. }
            | Stage::Completed { .. }
            | Stage::Verified { .. } => self.end_as(UploadEnding::GivenUp, now),
            Stage::Receipted { .. } | Stage::Ended(_) => Decision::NONE,
        }
    }

    /// Ends the upload, but only when it is known what was begun for it, which would otherwise remain for ever.
    fn end(&mut self, ending: UploadEnding, now: Now) -> Decision {
        match self.state.stage {
            Stage::Queued | Stage::Beginning { .. } if self.may_have_begun() => {
                let is_news = !self.is_ending();
                self.life.ending = self.life.ending.max(Some(ending));
                let may_ask = is_news && self.waits_for_source();
                Decision::of(may_ask.then_some(Fact::Released).into_iter().collect())
            }
            Stage::Queued | Stage::Beginning { .. } | Stage::Sending { .. } => {
                self.end_as(ending.max(self.life.ending.unwrap_or(ending)), now)
            }
            // The remote file is the old version, complete: every part was proved when it was read.
            Stage::Completing { .. }
            | Stage::Completed { .. }
            | Stage::Verified { .. }
            | Stage::Receipted { .. }
            | Stage::Ended(_) => Decision::NONE,
        }
    }

    pub(crate) fn end_now(&self, now: Now) -> Decision {
        self.end_as(self.life.ending.unwrap_or(UploadEnding::SourceChanged), now)
    }

    fn end_as(&self, ending: UploadEnding, now: Now) -> Decision {
        let at = now.wall;
        let end = match ending {
            UploadEnding::SourceChanged => Fact::SourceChanged { at },
            UploadEnding::GivenUp => Fact::Abandoned { at },
        };
        Decision { cleanups: self.remote_id(), ..Decision::fact(end) }
    }

    pub(super) fn remote_id(&self) -> Vec<RemoteUploadId> {
        self.state.stage.remote().map(|remote| remote.id.clone()).into_iter().collect()
    }

    pub(crate) fn unfinished_remote(&self) -> Option<RemoteUploadId> {
        let is_unfinished =
            matches!(self.state.stage, Stage::Sending { .. } | Stage::Completing { .. });
        self.state.stage.remote().filter(|_| is_unfinished).map(|remote| remote.id.clone())
    }
}

//! What a failure means for one upload: again, elsewhere, from the begin, parked, or the end; and how it
//! ends before it is through.

use std::time::Duration;

use super::Upload;
use super::answer::{AnswerContext, Decision, Tried};
use super::life::Doubt;
use crate::engine::retry::{self, Remedy};
use crate::model::{
    Fact, Failure, FailureKind, Hold, Now, ParkReason, PartSize, RemoteUploadId, Stage, WallTime,
};

/// A complete is refused this often before the upload starts over.
const REFUSAL_MAX: u32 = 3;
/// The platform may lose an upload this often in one life of the daemon. What a kill loses, an address
/// that was in memory alone, is not the platform's doing: it costs one in each life.
pub(super) const RESTART_MAX: u32 = 5;
/// After a complete without answer: the platform may still be at it.
const COMPLETE_PAUSE: Duration = Duration::from_secs(10);
/// How much larger parts are that follow some that were too small: storages want 5 MiB, or some KiB.
const LARGER_PARTS: u64 = 4;
/// An upload is begun again for larger parts this often, whatever else it was begun again for.
const LARGER_MAX: u32 = 3;

/// How an upload ends before it is through; an operator's word is the last.
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
        self.doubt_lost_answer(failure.kind);
        let remedy = retry::judge(failure.kind);
        let own_misfortune =
            remedy == Remedy::Again || (matches!(remedy, Remedy::Close(_)) && !context.is_closed);
        let retry_at = match failure.kind == FailureKind::SourceFailing {
            true => Some(self.wait_for_source(tried, context)),
            false => own_misfortune.then(|| self.wait(tried, context)).flatten(),
        };
        let detail = failure.to_string();
        let failed = tried.failed(failure, retry_at, now);
        let mut answer = match self.is_ending() && !self.may_have_begun() {
            true => self.end_now(now),
            false => self.follow(remedy, detail, now),
        };
        let position = usize::from(answer.facts.contains(&Fact::RemoteGone));
        answer.facts.insert(position, failed);
        answer
    }

    /// After a begin or complete whose answer was lost, the platform is asked first.
    fn doubt_lost_answer(&mut self, kind: FailureKind) {
        // A gateway may refuse after the platform has acted, so only the platform's own word counts.
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
        if is_lost && !refused {
            self.life.doubt = Doubt::Ask;
        }
    }

    /// Has what was tried wait before it is tried again. Returns when, unless a part alone waits.
    fn wait(&mut self, tried: Tried, context: AnswerContext<'_>) -> Option<WallTime> {
        let (retry, now) = (context.retry, context.now);
        if let Some(part) = tried.part {
            let seed = self.seed() ^ u64::from(part.get()) << 40;
            let delay = retry::delay(retry, self.life.parts.failure_count(part) + 1, seed);
            self.life.parts.failed(part, now.monotonic.after(delay));
            return None;
        }
        let mut delay = retry::delay(retry, self.state.attempt_count + 1, self.seed());
        if tried.act == "complete" {
            delay = delay.max(COMPLETE_PAUSE.min(retry.delay_min * 10));
        }
        Some(now.wall.after(delay))
    }

    /// Has the whole upload wait when its file cannot be read for the moment: longer each time, and each
    /// time one part more that can be read has been sent.
    fn wait_for_source(&mut self, tried: Tried, context: AnswerContext<'_>) -> WallTime {
        let mut count = self.state.attempt_count.saturating_add(1);
        let now = context.now;
        if let Some(part) = tried.part {
            self.life.parts.failed(part, now.monotonic);
            count = count.max(self.life.parts.failure_count(part));
        }
        self.life.waits.note_readable(false, now.monotonic);
        now.wall.after(retry::source_delay(context.retry, count, self.seed()))
    }

    fn follow(&mut self, remedy: Remedy, detail: String, now: Now) -> Decision {
        match remedy {
            // Whether the destination is closed is decided where all its replies are seen.
            Remedy::Again | Remedy::Close(_) | Remedy::Nothing => Decision::NONE,
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
            Remedy::Refused => self.on_refused(now),
            Remedy::LargerParts => self.on_parts_too_small(detail, now),
            Remedy::NameTaken => self.on_name_taken(now),
        }
    }

    fn on_refused(&mut self, now: Now) -> Decision {
        self.life.refusal_count += 1;
        self.life.doubt = Doubt::Ask;
        if !matches!(self.state.stage, Stage::Completing { .. }) {
            return Decision::NONE;
        }
        if self.life.refusal_count < REFUSAL_MAX {
            return Decision::fact(Fact::CompleteWithdrawn);
        }
        self.life.refusal_count = 0;
        if self.state.restart_count >= 1 {
            let detail = "complete was refused again and again";
            return Decision::park(ParkReason::CompleteRefused, detail, now.wall);
        }
        self.remove_and_start_over(now)
    }

    /// Begins again with larger parts, for the platform named no size; not without end, for all of the
    /// file is sent each time.
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
            answer.facts.push(Fact::PartSizeRaised { part_size });
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
        self.life.lost_count += 1;
        if self.life.lost_count > RESTART_MAX {
            let detail = format!("the platform lost the upload {RESTART_MAX} times");
            return Decision::park(ParkReason::RestartedTooOften, detail, now.wall);
        }
        Decision::fact(Fact::RemoteGone)
    }

    /// Returns whether it ends once it is known what was begun for it.
    pub(crate) fn is_ending(&self) -> bool {
        self.life.ending.is_some()
    }

    pub(crate) fn end_changed(&mut self, now: Now) -> Decision {
        self.end(UploadEnding::SourceChanged, now)
    }

    pub(crate) fn give_up(&mut self, can_ask: bool, now: Now) -> Decision {
        match self.state.stage {
            Stage::Queued | Stage::Sending { .. } => self.end(UploadEnding::GivenUp, now),
            Stage::Beginning { .. } if can_ask => {
                let mut answer = self.end(UploadEnding::GivenUp, now);
                // It may not be held up by what it waits for: it has only a question left.
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

    /// Ends the upload, but not before it is known what was begun for it, which would stay behind for ever.
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
            // What is being completed is the old version, whole: every part was proved when it was read.
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

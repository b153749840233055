//! What a failure means for one upload: again, elsewhere, from the begin, parked, or the end.

use super::super::{Doubt, Upload};
use super::{Answer, COMPLETE_PAUSE, REFUSAL_MAX, RESTART_MAX, Tried};
use crate::engine::retry::{self, Verdict};
use crate::engine::settings::RetrySettings;
use crate::model::{
    ByteCount, Fact, Failure, FailureKind, Hold, Now, ParkReason, PartSize, RemoteUploadId, Stage,
    WallTime,
};

/// How much larger parts are that follow some that were too small: storages want 5 MiB, or some KiB.
const LARGER_PARTS: u64 = 4;
/// An upload is begun again for larger parts this often, whatever else it was begun again for.
const LARGER_MAX: u32 = 3;

/// Counts what was sent in vain where nothing else says so.
pub(crate) fn in_vain(bytes: ByteCount) -> Answer {
    let facts = (bytes.0 > 0).then_some(Fact::SentInVain { bytes });
    Answer { facts: facts.into_iter().collect(), ..Answer::default() }
}

impl Upload {
    /// Judges a failure by the one policy.
    pub(crate) fn on_failed(
        &mut self,
        failure: Failure,
        tried: Tried,
        settings: RetrySettings,
        now: Now,
    ) -> Answer {
        if self.state.stage.is_end() {
            return Answer::default();
        }
        if failure.kind == FailureKind::Cancelled {
            return in_vain(tried.sent);
        }
        self.doubt_lost_answer(failure.kind);
        let verdict = retry::judge(failure.kind);
        let own_misfortune =
            verdict == Verdict::Again || (matches!(verdict, Verdict::Close(_)) && !tried.closed);
        let retry_at = match failure.kind == FailureKind::SourceFailing {
            true => Some(self.wait_for_source(tried, settings, now)),
            false => own_misfortune.then(|| self.wait(tried, settings, now)).flatten(),
        };
        let detail = failure.to_string();
        let failed = Fact::AttemptFailed {
            act: tried.act,
            part: tried.part,
            failure,
            sent: tried.sent,
            retry_at,
            at: now.wall,
        };
        let is_refused = self.life.is_superseded && !self.may_have_begun();
        let mut answer = match is_refused {
            true => self.superseded(now),
            false => self.follow(verdict, detail, now),
        };
        let position =
            if answer.facts.iter().any(|f| matches!(f, Fact::RemoteGone)) { 1 } else { 0 };
        answer.facts.insert(position.min(answer.facts.len()), failed);
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
        if !refused
            && matches!(self.state.stage, Stage::Beginning { .. } | Stage::Completing { .. })
        {
            self.life.doubt = Doubt::Ask;
        }
    }

    fn wait(&mut self, tried: Tried, settings: RetrySettings, now: Now) -> Option<WallTime> {
        let seed = u64::try_from(self.id().0).unwrap_or(0);
        if let Some(part) = tried.part {
            let (_, count) = self.life.part_waits.get(&part).copied().unwrap_or((now.monotonic, 0));
            let seed = seed ^ u64::from(part.get()) << 40;
            let delay = retry::delay(settings, count + 1, seed);
            self.life.part_waits.insert(part, (now.monotonic.after(delay), count + 1));
            return None;
        }
        let mut delay = retry::delay(settings, self.state.attempt_count + 1, seed);
        if tried.act == "complete" {
            delay = delay.max(COMPLETE_PAUSE.min(settings.delay_min * 10));
        }
        Some(now.wall.after(delay))
    }

    /// Has the whole upload wait when its file cannot be read for the moment: longer each time, and each
    /// time one part more that can be read has been sent.
    fn wait_for_source(&mut self, tried: Tried, settings: RetrySettings, now: Now) -> WallTime {
        let mut count = self.state.attempt_count.saturating_add(1);
        if let Some(part) = tried.part {
            let waits = self.life.part_waits.get(&part).map_or(1, |(_, count)| count + 1);
            count = count.max(waits);
            self.life.part_waits.insert(part, (now.monotonic, waits));
        }
        let seed = u64::try_from(self.id().0).unwrap_or(0);
        let delay = retry::source_delay(settings, count, seed);
        self.life.failing_since.get_or_insert(now.monotonic);
        now.wall.after(delay)
    }

    fn follow(&mut self, verdict: Verdict, detail: String, now: Now) -> Answer {
        match verdict {
            // Whether the destination is closed is decided where all its replies are seen.
            Verdict::Again | Verdict::Close(_) | Verdict::Nothing => Answer::default(),
            Verdict::Park(reason) => Answer::park(reason, detail, now.wall),
            Verdict::SourceChanged => self.end_changed(now),
            Verdict::Gone => match self.state.stage {
                Stage::Completing { .. } => {
                    self.life.doubt = Doubt::Ask;
                    Answer::default()
                }
                Stage::Queued | Stage::Completed { .. } | Stage::Verified { .. } => {
                    Answer::default()
                }
                Stage::Beginning { .. } | Stage::Sending { .. } => {
                    let remote = self.remote_id();
                    self.start_over(remote, now)
                }
                Stage::Receipted { .. } | Stage::Ended(_) => Answer::default(),
            },
            Verdict::Refused => self.on_refused(now),
            Verdict::LargerParts => self.on_parts_too_small(detail, now),
            Verdict::NameTaken => self.on_name_taken(now),
        }
    }

    fn on_refused(&mut self, now: Now) -> Answer {
        self.life.refusal_count += 1;
        self.life.doubt = Doubt::Ask;
        if !matches!(self.state.stage, Stage::Completing { .. }) {
            return Answer::default();
        }
        if self.life.refusal_count < REFUSAL_MAX {
            return Answer::fact(Fact::CompleteWithdrawn);
        }
        self.life.refusal_count = 0;
        if self.state.restart_count >= 1 {
            return Answer::park(
                ParkReason::CompleteRefused,
                "complete was refused again and again",
                now.wall,
            );
        }
        let remote = self.remote_id();
        self.start_over(remote, now)
    }

    /// Begins again with larger parts, for the platform named no size; not without end, for all of the
    /// file is sent each time.
    fn on_parts_too_small(&mut self, detail: String, now: Now) -> Answer {
        let Stage::Completing { remote, .. } = &self.state.stage else { return Answer::default() };
        let larger = remote.part_size.get().checked_mul(LARGER_PARTS).and_then(PartSize::new);
        let Some(part_size) = larger.filter(|_| self.state.restart_count < LARGER_MAX) else {
            return Answer::park(ParkReason::CompleteRefused, detail, now.wall);
        };
        let remote = self.remote_id();
        let mut answer = self.start_over(remote, now);
        if answer.facts.contains(&Fact::RemoteGone) {
            answer.facts.push(Fact::PartSizeRaised { part_size });
        }
        answer
    }

    fn on_name_taken(&mut self, now: Now) -> Answer {
        self.life.name_met = true;
        self.life.replaces = None;
        if self.state.stage == Stage::Queued {
            self.life.doubt = Doubt::Ask;
            return Answer::default();
        }
        match self.state.stage {
            Stage::Sending { .. } | Stage::Completing { .. } => {
                let remote = self.remote_id();
                self.start_over(remote, now)
            }
            Stage::Queued | Stage::Beginning { .. } => {
                self.life.name_taken = true;
                Answer::default()
            }
            Stage::Completed { .. }
            | Stage::Verified { .. }
            | Stage::Receipted { .. }
            | Stage::Ended(_) => Answer::default(),
        }
    }

    fn remote_id(&self) -> Vec<RemoteUploadId> {
        self.state.stage.remote().map(|remote| remote.id.clone()).into_iter().collect()
    }

    /// Begins again from nothing, unless that has happened too often.
    pub(super) fn start_over(&mut self, cleanups: Vec<RemoteUploadId>, now: Now) -> Answer {
        self.life.doubt = Doubt::Ask;
        self.life.lost_count += 1;
        if self.life.lost_count > RESTART_MAX {
            let detail = format!("the platform lost the upload {RESTART_MAX} times");
            return Answer::park(ParkReason::RestartedTooOften, detail, now.wall);
        }
        Answer { facts: vec![Fact::RemoteGone], cleanups, ..Answer::default() }
    }

    /// Ends the upload because its source is another version; not before it is known what was begun
    /// for it, which would stay behind for ever.
    pub(crate) fn end_changed(&mut self, now: Now) -> Answer {
        match self.state.stage {
            Stage::Queued | Stage::Beginning { .. } if self.may_have_begun() => {
                let is_news = !std::mem::replace(&mut self.life.is_superseded, true);
                let may_ask = is_news && self.waits_for_source();
                Answer {
                    facts: may_ask.then_some(Fact::Released).into_iter().collect(),
                    ..Answer::default()
                }
            }
            Stage::Queued | Stage::Beginning { .. } | Stage::Sending { .. } => self.superseded(now),
            // What is being completed is the old version, whole: every part was proved when it was read.
            Stage::Completing { .. }
            | Stage::Completed { .. }
            | Stage::Verified { .. }
            | Stage::Receipted { .. }
            | Stage::Ended(_) => Answer::default(),
        }
    }

    /// Ends the upload for good; not before it is known what was begun for it.
    pub(crate) fn give_up(&mut self, can_ask: bool, now: Now) -> Answer {
        use crate::model::Stage::{
            Beginning, Completed, Completing, Ended, Queued, Receipted, Sending, Verified,
        };
        self.life.is_given_up = true;
        match self.state.stage {
            Queued | Sending { .. } => self.end_changed(now),
            Beginning { .. } if can_ask => {
                let mut answer = self.end_changed(now);
                // It may not be held up by what it waits for: it has only a question left.
                if answer.facts.is_empty() && self.state.hold != Hold::None {
                    answer.facts.push(Fact::Released);
                }
                answer
            }
            Beginning { .. } | Completing { .. } | Completed { .. } | Verified { .. } => {
                self.superseded(now)
            }
            Receipted { .. } | Ended(_) => Answer::default(),
        }
    }

    pub(crate) fn superseded(&self, now: Now) -> Answer {
        let at = now.wall;
        let end =
            if self.life.is_given_up { Fact::Abandoned { at } } else { Fact::SourceChanged { at } };
        let facts = vec![end];
        Answer { cleanups: self.remote_id(), facts, ..Answer::default() }
    }
}

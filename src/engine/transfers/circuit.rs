//! One destination as the engine sees it: whether it takes acts now, and what is under way there.
//!
//! A destination that is unreachable, throttled or halted takes nothing; the uploads for it keep
//! their state and hold no worker. While it is closed one probe at a time asks whether it is back,
//! so an outage costs one small call per delay, however many uploads wait.
//!
//! A pause that the far side asks for closes it at once; of other failures the first one is the
//! request's own, and the second in a row closes it. A shorter pause never ends a longer one. An
//! operator's `retry` and a reload end every pause ([`Gate::lift`]).

use std::collections::BTreeMap;
use std::time::Duration;

use super::target::Targets;
use super::width::Width;
use super::{TransferAct, TransferTurn};
use crate::engine::dispatch::{Dispatch, ToNotices};
use crate::engine::event::{Act, ActId, Outcome, Setback};
use crate::engine::plan;
use crate::engine::retry::{self, Closing, SOURCE_DELAY_MAX};
use crate::engine::settings::{DestinationSettings, RetrySettings};
use crate::model::{
    ByteCount, Call, DestinationName, DestinationState, Failure, Monotonic, Now, OpenCleanup,
    ParkReason, PartSize, Record, RemoteUploadId, TargetId, WallTime,
};

const CLEANUP_MAX: usize = 2;
/// One broken connection is a request's own misfortune; a second in a row is the destination's.
const STREAK_MAX: u32 = 2;
/// Answers that were in flight when it closed name about the same end: less than this is the same.
const SAME_END: Duration = Duration::from_secs(1);

/// A wait shorter than this is over when its end is read: a try is then under way.
const SHORT_WAIT: Duration = Duration::from_secs(2);

/// What a destination's row says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HealthRow {
    platform: String,
    state: DestinationState,
    reason: Option<String>,
    next_try: Option<Monotonic>,
}

/// A configured destination, and whether it takes acts.
#[derive(Debug)]
pub(super) struct Gate {
    settings: DestinationSettings,
    targets: Targets,
    state: GateState,
    /// Why it takes none, for people.
    reason: Option<String>,
    row: Option<HealthRow>,
    /// Failures in a row that closed it or might; what was in flight when it closed is not counted.
    streak: u32,
    width: Width,
    /// Remote uploads to remove: when to try again, how often it failed, the act under way.
    cleanups: BTreeMap<RemoteUploadId, Cleanup>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum GateState {
    Open,
    /// It does not, until a probe at `until` finds otherwise.
    Closed {
        state: DestinationState,
        until: Monotonic,
    },
    Probing {
        state: DestinationState,
    },
}

#[derive(Debug, Clone, Copy)]
struct Cleanup {
    target: TargetId,
    due: Monotonic,
    failure_count: u32,
    act: Option<ActId>,
}

impl Gate {
    pub(super) fn new(settings: DestinationSettings) -> Self {
        Self {
            settings,
            targets: Targets::default(),
            state: GateState::Open,
            reason: None,
            row: None,
            streak: 0,
            width: Width::new(),
            cleanups: BTreeMap::new(),
        }
    }

    pub(super) fn settings(&self) -> &DestinationSettings {
        &self.settings
    }

    pub(super) fn targets(&self) -> &Targets {
        &self.targets
    }

    pub(super) fn targets_mut(&mut self) -> &mut Targets {
        &mut self.targets
    }

    pub(super) fn width(&self) -> &Width {
        &self.width
    }

    pub(super) fn width_mut(&mut self) -> &mut Width {
        &mut self.width
    }

    /// Adopts other settings. What made it wait may be what was changed.
    pub(super) fn configure(&mut self, settings: DestinationSettings, now: Monotonic) {
        self.lift(now);
        self.settings = settings;
    }

    pub(super) fn exports(&self) -> bool {
        self.settings.export.is_some()
    }

    /// Forgets what it learned of its former target; what is in flight there still counts for its width.
    pub(super) fn move_to_other_target(&mut self) {
        self.open();
        self.streak = 0;
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == GateState::Open
    }

    pub(super) fn wish(&self, size: ByteCount) -> PartSize {
        plan::wish(self.settings.part_size, size, self.width.speed())
    }

    /// Returns the part size for a file where that size is wished for.
    pub(super) fn plan(&self, wish: PartSize, size: ByteCount) -> Result<PartSize, ParkReason> {
        plan::part_size(&self.settings.traits.limits, wish, size)
    }

    /// Tells whether it refuses us, rather than failing.
    pub(super) fn is_halted(&self) -> bool {
        matches!(
            self.state,
            GateState::Closed { state: DestinationState::Halted, .. }
                | GateState::Probing { state: DestinationState::Halted }
        )
    }

    /// Counts a failure that may close it, and tells whether it did, or made it stay closed for longer.
    fn fail(
        &mut self,
        closing: Closing,
        why: &Failure,
        retry: RetrySettings,
        now: Monotonic,
    ) -> bool {
        let is_asked = closing.pause.is_some();
        let closes = match self.state {
            GateState::Open => {
                self.streak = self.streak.saturating_add(1);
                is_asked || self.streak >= STREAK_MAX
            }
            GateState::Closed { until, .. } => {
                is_asked && self.end(closing, retry, now) > until.after(SAME_END)
            }
            // The probe asked before: what it is answered does not end this pause.
            GateState::Probing { .. } => is_asked,
        };
        if closes {
            self.close(closing, why, retry, now);
        }
        closes
    }

    /// Takes the answer to a probe, and tells whether that changed anything.
    fn on_probed(
        &mut self,
        failed: Option<(Closing, &Failure)>,
        retry: RetrySettings,
        now: Monotonic,
    ) -> bool {
        let is_awaited = matches!(self.state, GateState::Probing { .. });
        match failed {
            _ if !is_awaited => return false,
            None => self.open(),
            Some((closing, why)) => {
                self.streak = self.streak.saturating_add(1);
                self.close(closing, why, retry, now);
            }
        }
        true
    }

    fn open(&mut self) {
        (self.state, self.reason) = (GateState::Open, None);
    }

    /// Tells whether it is closed, and waits.
    pub(super) fn waits(&self) -> bool {
        matches!(self.state, GateState::Closed { .. })
    }

    /// Ends the wait of a closed one, whatever it waits for.
    pub(super) fn lift(&mut self, now: Monotonic) {
        if let GateState::Closed { until, .. } = &mut self.state {
            *until = now;
        }
    }

    /// Returns when it takes acts again, or is asked whether it does, while it is closed.
    fn next_try(&self) -> Option<Monotonic> {
        match self.state {
            GateState::Closed { until, .. } => Some(until),
            GateState::Open | GateState::Probing { .. } => None,
        }
    }

    fn close(&mut self, closing: Closing, why: &Failure, retry: RetrySettings, now: Monotonic) {
        let until = self.end(closing, retry, now);
        self.state = GateState::Closed { state: closing.state, until };
        self.reason = Some(why.to_string());
    }

    /// Returns when a pause that begins now ends. One of no length would have us call in a busy loop.
    fn end(&self, closing: Closing, retry: RetrySettings, now: Monotonic) -> Monotonic {
        let fold = |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte));
        let seed = u64::from(self.settings.name.as_str().bytes().fold(7, fold));
        let asked = closing.pause.map(|pause| pause.max(retry.delay_min));
        now.after(asked.unwrap_or_else(|| retry::delay(retry, self.streak.max(1), seed)))
    }
}

/// Converts a stored wall-clock deadline to our clock: clamped, so that a clock that was set back
/// parks nothing for a year.
pub(in crate::engine) fn clamp(until: WallTime, retry: RetrySettings, now: Now) -> Monotonic {
    let longest = retry.delay_max.max(retry.delay_min * 10).max(SOURCE_DELAY_MAX);
    now.monotonic.after(now.wall.until(until).min(longest))
}

impl Gate {
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        match self.state {
            GateState::Closed { until, .. } => Some(until),
            GateState::Probing { .. } => None,
            GateState::Open => {
                let waiting = self.cleanups.values().filter(|cleanup| cleanup.act.is_none());
                self.cleanup_room().and_then(|_| waiting.map(|cleanup| cleanup.due).min())
            }
        }
    }

    /// Opens a throttled destination whose pause is over; has another one probed.
    pub(super) fn advance(&mut self, turn: &mut TransferTurn<'_>) {
        let GateState::Closed { state, until } = self.state else { return };
        if until > turn.now().monotonic {
            return;
        }
        if state == DestinationState::Throttled {
            self.open();
            return self.write_health(turn);
        }
        self.state = GateState::Probing { state };
        let act = Act::call(&self.settings.name, Call::CheckAccess);
        turn.start(&self.settings.name, TransferAct::Probe, act);
    }

    pub(super) fn probed(&mut self, reply: Result<Outcome, Setback>, turn: &mut TransferTurn<'_>) {
        let failure = reply.err().map(|setback| setback.failure);
        let unreachable = Closing { state: DestinationState::Unreachable, pause: None };
        let closing = |failure: &Failure| retry::closing(failure.kind).unwrap_or(unreachable);
        let failed = failure.as_ref().map(|failure| (closing(failure), failure));
        if self.on_probed(failed, turn.retry(), turn.now().monotonic) {
            if self.is_open() {
                turn.say(answered(&self.settings.name));
            }
            self.write_health(turn);
        }
    }

    /// Counts a reply for or against the destination.
    pub(super) fn note_reply(
        &mut self,
        reply: &Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        match reply {
            Ok(_) => {
                self.streak = 0;
                // An answer that was in flight when the destination was closed says nothing.
                if self.is_open() {
                    turn.say(answered(&self.settings.name));
                }
            }
            Err(Setback { failure, .. }) => {
                let Some(closing) = retry::closing(failure.kind) else { return };
                if self.fail(closing, failure, turn.retry(), turn.now().monotonic) {
                    self.write_health(turn);
                }
            }
        }
    }

    /// Writes how it is doing, when that differs from what was last written.
    pub(super) fn write_health(&mut self, turn: &mut TransferTurn<'_>) {
        let state = match &self.state {
            GateState::Open => DestinationState::Ok,
            GateState::Closed { state, .. } | GateState::Probing { state } => *state,
        };
        let now = turn.now();
        let row = HealthRow {
            platform: self.settings.platform.clone(),
            state,
            reason: self.reason.clone(),
            next_try: self.next_try().filter(|at| *at >= now.monotonic.after(SHORT_WAIT)),
        };
        if self.row.as_ref() != Some(&row) {
            let HealthRow { platform, state, reason, next_try } = row.clone();
            let next_try_at = next_try.map(|at| now.wall.after(at.since(now.monotonic)));
            let (destination, at) = (self.settings.name.clone(), now.wall);
            let health =
                Record::DestinationHealth { destination, platform, state, reason, next_try_at, at };
            turn.record(health);
            self.row = Some(row);
        }
    }

    /// Returns how many clean-ups may start, unless none may.
    fn cleanup_room(&self) -> Option<usize> {
        let count = self.cleanups.values().filter(|cleanup| cleanup.act.is_some()).count();
        CLEANUP_MAX.checked_sub(count).filter(|room| *room > 0)
    }

    pub(super) fn is_clean(&self) -> bool {
        self.cleanups.is_empty()
    }

    pub(super) fn clean_up(&mut self, remote: RemoteUploadId, target: TargetId, due: Monotonic) {
        let cleanup = Cleanup { target, due, failure_count: 0, act: None };
        self.cleanups.entry(remote).or_insert(cleanup);
    }

    /// Returns what was queued for removal, and forgets it.
    pub(super) fn take_cleanups(&mut self) -> Vec<OpenCleanup> {
        let destination = &self.settings.name;
        let what = |(remote, cleanup): (_, Cleanup)| OpenCleanup {
            destination: destination.clone(),
            target: cleanup.target,
            remote,
        };
        std::mem::take(&mut self.cleanups).into_iter().map(what).collect()
    }

    pub(super) fn clean(&mut self, turn: &mut TransferTurn<'_>) {
        let Some(room) = self.cleanup_room() else { return };
        let (name, now) = (&self.settings.name, turn.now().monotonic);
        let due = self.cleanups.iter_mut().filter(|(_, c)| c.act.is_none() && c.due <= now);
        for (remote, cleanup) in due.take(room) {
            let act = Act::call(name, Call::Abort(remote.clone()));
            cleanup.act = Some(turn.start(name, TransferAct::Abort(remote.clone()), act));
        }
    }

    pub(super) fn cleaned(
        &mut self,
        act: ActId,
        remote: RemoteUploadId,
        reply: Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        let destination = self.settings.name.clone();
        let what = OpenCleanup { destination, target: self.targets.at(act), remote };
        let cleanup = self.cleanups.get_mut(&what.remote).filter(|c| c.act == Some(act));
        let Some(cleanup) = cleanup else {
            if reply.is_ok() && turn.shared.targets.cleanup_done(&what) {
                turn.record(Record::CleanupDone { what });
            }
            return;
        };
        let what = OpenCleanup { target: cleanup.target, ..what };
        let Err(Setback { failure, .. }) = reply else {
            self.cleanups.remove(&what.remote);
            return turn.record(Record::CleanupDone { what });
        };
        cleanup.act = None;
        cleanup.failure_count += 1;
        let count = cleanup.failure_count;
        let delay = retry::delay(turn.retry(), count, count.into());
        cleanup.due = turn.now().monotonic.after(delay);
        let retry_at = turn.now().wall.after(delay);
        turn.record(Record::CleanupDelayed { what, retry_at, failure });
    }
}

/// Says that a destination accepts calls.
fn answered(name: &DestinationName) -> Dispatch {
    Dispatch::Notices(ToNotices::DestinationAnswered(name.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::settings::PartWish;
    use crate::model::{
        Describes, DestinationName, FailureKind, NamePolicy, PartLimits, TargetAddress, Traits,
    };

    const RETRY: RetrySettings =
        RetrySettings { delay_min: Duration::from_secs(1), delay_max: Duration::from_mins(5) };

    fn gate() -> Gate {
        let all = ByteCount(u64::MAX);
        Gate::new(DestinationSettings {
            name: DestinationName::new("far"),
            platform: "s3".into(),
            address: TargetAddress {
                platform: "s3".into(),
                base_url: "https://s3.example".into(),
                container: "lab".into(),
            },
            same_as: Vec::new(),
            traits: Traits {
                limits: PartLimits { size_min: all, size_max: all, count_max: 1, file_max: all },
                reports_parts: false,
                report_max: 1,
                describes: Describes::Never,
                finishes_drops: false,
                has_places: true,
                wants_md5_first: false,
                sends_whole: false,
                can_inspect: true,
                etags: crate::model::ETagLaw::Md5s,
            },
            part_size: PartWish::Auto,
            folder: String::new(),
            when_name_taken: NamePolicy::Park,
            metadata: Vec::new(),
            tags: Vec::new(),
            export: None,
        })
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    fn throttled(seconds: Option<u64>) -> FailureKind {
        FailureKind::Throttled { after: seconds.map(Duration::from_secs) }
    }

    /// Has the gate take a failure, and tells whether that changed anything.
    fn fail(gate: &mut Gate, kind: FailureKind, now: u64) -> bool {
        let why = Failure::new(kind, "no");
        let closing = retry::closing(kind);
        closing.is_some_and(|closing| gate.fail(closing, &why, RETRY, at(now)))
    }

    /// Until when the gate is closed, and what status calls that.
    fn closed(gate: &Gate) -> Option<(DestinationState, u64)> {
        let GateState::Closed { state, until } = gate.state else { return None };
        Some((state, until.0.as_secs()))
    }

    #[test]
    fn a_pause_that_is_asked_for_closes_at_once_and_for_an_hour_at_most() {
        for (asked, kept) in [(0, 1), (7, 7), (3600, 3600), (31_536_000, 3600), (u64::MAX, 3600)] {
            let mut gate = gate();
            assert!(fail(&mut gate, throttled(Some(asked)), 10), "{asked}");
            assert_eq!(closed(&gate), Some((DestinationState::Throttled, 10 + kept)), "{asked}");
            assert_eq!(gate.reason.as_deref(), Some("no (throttled)"));
        }
    }

    #[test]
    fn one_refusal_without_a_pause_and_any_time_out_is_the_requests_own() {
        for kind in [throttled(None), FailureKind::Unreachable] {
            let mut gate = gate();
            assert!(!fail(&mut gate, kind, 0) && gate.is_open(), "{kind:?}");
            assert!(fail(&mut gate, kind, 0), "{kind:?}: the second in a row");
            let (_, until) = closed(&gate).expect("closed");
            assert!(until <= 2, "by the delays of [retry]: {until} s");
        }
        for kind in [FailureKind::TimedOut, FailureKind::ServerFault, FailureKind::BadRequest] {
            let mut gate = gate();
            (0..9).for_each(|now| assert!(!fail(&mut gate, kind, now), "{kind:?}"));
        }
    }

    #[test]
    fn what_was_in_flight_when_it_closed_makes_no_pause_longer() {
        let mut gate = gate();
        let changed = (0..33).filter(|_| fail(&mut gate, throttled(None), 0)).count();
        assert_eq!(changed, 1);
        let (_, until) = closed(&gate).expect("closed");
        assert!(until <= 2, "{until} s");
    }

    #[test]
    fn a_shorter_pause_never_ends_a_longer_one() {
        let mut gate = gate();
        fail(&mut gate, throttled(Some(300)), 0);
        for kind in [throttled(Some(1)), throttled(None), FailureKind::Unreachable] {
            assert!(!fail(&mut gate, kind, 10), "{kind:?}");
        }
        assert_eq!(closed(&gate), Some((DestinationState::Throttled, 300)));
        assert!(fail(&mut gate, throttled(Some(600)), 10), "a longer one holds");
        assert_eq!(closed(&gate), Some((DestinationState::Throttled, 610)));
        assert!(!fail(&mut gate, throttled(Some(600)), 10), "and is told once");
    }

    #[test]
    fn a_probe_that_was_on_its_way_ends_no_pause() {
        let mut gate = gate();
        gate.state = GateState::Probing { state: DestinationState::Unreachable };
        assert!(fail(&mut gate, throttled(Some(60)), 5));
        assert!(!gate.on_probed(None, RETRY, at(6)));
        assert_eq!(closed(&gate), Some((DestinationState::Throttled, 65)));
        gate.state = GateState::Probing { state: DestinationState::Unreachable };
        assert!(gate.on_probed(None, RETRY, at(70)) && gate.is_open() && gate.reason.is_none());
    }

    #[test]
    fn any_wait_is_lifted() {
        for kind in [throttled(Some(3600)), FailureKind::Unauthorized, FailureKind::Maintenance] {
            let mut gate = gate();
            assert!(!gate.waits(), "an open one has no wait");
            fail(&mut gate, kind, 0);
            assert!(gate.waits());
            gate.lift(at(9));
            assert_eq!(closed(&gate).map(|(_, until)| until), Some(9), "{kind:?}");
        }
    }
}

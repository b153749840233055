//! The circuit of one destination: whether it accepts acts, and its acts in flight.
//!
//! A destination that is unreachable, throttled or halted gets no acts; its uploads keep their
//! state and hold no worker. Evidence about the destination closes it ([`failure::evidence`]),
//! never the failure of one request. When the wait ends, one request is let through, that of an
//! upload if one has any (half-open): its answer opens the destination, or closes it for longer. So
//! an outage costs one request per delay, however many uploads wait.
//!
//! At a start a destination is half open, and shown as unknown: it is asked before anything else.
//! One that is open when its settings change is asked while acts continue.
//!
//! The refusal of one object proves nothing about the destination: a control request decides. A shorter
//! pause never ends a longer one. An operator's `retry` and a reload end every pause ([`Gate::lift`]).

use std::time::Duration;

use super::cleanup::Cleanups;
use super::ease::Ease;
use super::target::Targets;
use super::width::Width;
use super::{TransferAct, TransferTurn};
use crate::engine::dispatch::{Dispatch, ToNotices};
use crate::engine::event::{Act, ActId, Outcome, Setback};
use crate::engine::failure::{self, CONTROL_HOLDS, Evidence, Failures, LONG_DELAY_MAX, SEVERAL};
use crate::engine::plan;
use crate::engine::settings::{DestinationSettings, RetrySettings};
use crate::model::{
    ByteCount, Call, DestinationName, DestinationState, Failure, FailureKind, Monotonic, Now,
    OpenCleanup, ParkReason, PartSize, Record, RemoteUploadId, Target, WallTime,
};

/// Ends of a pause that differ by less are the same, as answers in flight give slightly different ones.
const SAME_END: Duration = Duration::from_secs(1);

/// The content of a destination's health row.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HealthRow {
    platform: String,
    state: DestinationState,
    reason: Option<String>,
    next_try: Option<Monotonic>,
}

/// A configured destination, and whether it accepts acts.
#[derive(Debug)]
pub(super) struct Gate {
    settings: DestinationSettings,
    targets: Targets,
    state: GateState,
    /// It accepts acts, and is asked meanwhile whether it still does.
    is_to_ask: bool,
    /// Why it accepts none, for people.
    reason: Option<String>,
    row: Option<HealthRow>,
    /// Since it last accepted a call.
    failures: Failures,
    control: ControlCall,
    /// Calls in flight for its uploads, and their limit.
    call_count: u32,
    calls: Ease,
    width: Width,
    cleanups: Cleanups,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum GateState {
    Open,
    /// It accepts none until then.
    Closed {
        state: DestinationState,
        until: Monotonic,
        /// The platform asked for this pause: it opens at the end.
        is_pause: bool,
    },
    /// It accepts one request, whose answer decides.
    HalfOpen {
        state: DestinationState,
        act: Option<ActId>,
    },
}

/// The request that decides whether the refusal of one object is that of the destination.
#[derive(Debug, Default)]
struct ControlCall {
    act: Option<ActId>,
    passed_at: Option<Monotonic>,
    /// Refused objects since the last success.
    refused_count: u32,
}

/// The purpose of a call, which decides what its refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An upload needs it to continue.
    Upload,
    /// It looks up, describes or exports.
    Beside,
    Cleanup,
    /// A probe or a control request.
    Probe,
}

#[derive(Debug, Clone, Copy)]
struct CallAnswer<'a> {
    act: ActId,
    purpose: Purpose,
    /// The failure; `None` where the call succeeded.
    failure: Option<&'a Failure>,
}

impl Gate {
    pub(super) fn new(settings: DestinationSettings) -> Self {
        Self {
            settings,
            targets: Targets::default(),
            state: GateState::HalfOpen { state: DestinationState::Unknown, act: None },
            is_to_ask: false,
            reason: None,
            row: None,
            failures: Failures::default(),
            control: ControlCall::default(),
            call_count: 0,
            calls: Ease::default(),
            width: Width::new(),
            cleanups: Cleanups::default(),
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

    /// Replaces the settings. They may remove the reason why it waited.
    pub(super) fn configure(&mut self, settings: DestinationSettings, now: Monotonic) {
        self.lift(now);
        self.is_to_ask = self.is_open();
        self.settings = settings;
    }

    pub(super) fn exports(&self) -> bool {
        self.settings.export.is_some()
    }

    /// Drops what it learned of its former target; parts in flight there still count for its width.
    pub(super) fn move_to_other_target(&mut self) {
        self.open();
        (self.failures, self.control) = (Failures::default(), ControlCall::default());
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == GateState::Open
    }

    pub(super) fn wish(&self, size: ByteCount) -> PartSize {
        plan::wish(self.settings.part_size, size, self.width.speed())
    }

    /// Returns the part size for a file, given the wished size.
    pub(super) fn plan(
        &self,
        wish: PartSize,
        size: ByteCount,
        target: &Target,
    ) -> Result<PartSize, ParkReason> {
        plan::fit(&self.settings.traits.limits, wish, size, target)
    }

    /// Returns whether it refuses us, rather than fails.
    pub(super) fn is_halted(&self) -> bool {
        self.closed_as() == Some(DestinationState::Halted)
    }

    fn closed_as(&self) -> Option<DestinationState> {
        match self.state {
            GateState::Open => None,
            GateState::Closed { state, .. } | GateState::HalfOpen { state, .. } => Some(state),
        }
    }

    /// Returns whether it accepts a request: any, or the one that decides.
    pub(super) fn admits(&self) -> bool {
        matches!(self.state, GateState::Open | GateState::HalfOpen { act: None, .. })
    }

    /// Returns whether it accepts parts: also during a pause of the account, where they need no call of it.
    pub(super) fn admits_parts(&self) -> bool {
        let is_of_account = matches!(
            self.state,
            GateState::Closed { state: DestinationState::Throttled, is_pause: true, .. }
        );
        self.admits() || (is_of_account && !self.settings.traits.parts_need_account)
    }

    /// Registers a request; if it is the one that was let through, its answer decides.
    pub(super) fn let_through(&mut self, request: ActId) {
        if let GateState::HalfOpen { act, .. } = &mut self.state {
            act.get_or_insert(request);
        }
    }

    /// Returns whether it was not called since the start.
    pub(super) fn is_unknown(&self) -> bool {
        self.closed_as() == Some(DestinationState::Unknown)
    }

    /// Asks an open one whether it still accepts acts, after its settings changed.
    pub(super) fn ask_again(&mut self, turn: &mut TransferTurn<'_>) {
        if std::mem::take(&mut self.is_to_ask) && self.is_open() && self.control.act.is_none() {
            self.control.act = Some(self.ask(turn));
        }
    }

    /// Asks whether it can be reached; the answer decides.
    pub(super) fn probe(&mut self, turn: &mut TransferTurn<'_>) {
        let act = self.ask(turn);
        self.let_through(act);
    }

    fn ask(&self, turn: &mut TransferTurn<'_>) -> ActId {
        let name = &self.settings.name;
        turn.start(name, TransferAct::Probe, Act::call(name, Call::CheckAccess))
    }

    /// Returns whether one more call for an upload may be made.
    pub(super) fn has_call_room(&self) -> bool {
        self.call_count < self.calls.most()
    }

    pub(super) fn call_started(&mut self) {
        self.call_count += 1;
    }

    /// Counts the end of a call for an upload.
    pub(super) fn call_landed(&mut self, failed: Option<FailureKind>) {
        self.calls.landed(failed, self.call_count);
        self.call_count = self.call_count.saturating_sub(1);
    }

    /// Applies the evidence of an answer. Returns whether a control request must be made.
    fn take(&mut self, answer: CallAnswer<'_>, retry: RetrySettings, now: Monotonic) -> bool {
        let CallAnswer { act, purpose, failure: why } = answer;
        let found = why.map_or(Evidence::Answers, |why| failure::evidence(why.kind));
        let is_probe =
            matches!(self.state, GateState::HalfOpen { act: Some(probe), .. } if probe == act);
        let is_control = self.control.act == Some(act) && self.control.act.take().is_some();
        let decides = is_probe || self.is_open();
        let Some(why) = why.filter(|_| found != Evidence::Answers) else {
            self.failures = Failures::default();
            self.control.refused_count = 0;
            if is_control || (is_probe && purpose == Purpose::Probe) {
                self.control.passed_at = Some(now);
            }
            if is_probe {
                self.open();
            }
            return false;
        };
        // A failed removal closes nothing.
        if purpose == Purpose::Cleanup && found != Evidence::Nobody {
            return false;
        }
        match found {
            Evidence::Nothing if is_probe => {
                self.state = GateState::HalfOpen { state: self.shown(), act: None };
            }
            Evidence::Request(state) => {
                let is_window = self.failures.add(false, now);
                if is_probe || (is_window && self.is_open()) {
                    self.close(state, why, retry, now);
                }
            }
            Evidence::Nobody => {
                let is_window = self.failures.add(true, now);
                if is_probe || (is_window && self.is_open()) {
                    self.close(DestinationState::Unreachable, why, retry, now);
                }
            }
            Evidence::Pause(state, pause) => {
                self.pause(state, now.after(pause.max(retry.delay_min)), why);
            }
            Evidence::CredentialRefused if decides => {
                self.close(DestinationState::Halted, why, retry, now);
            }
            Evidence::Doubt if decides && purpose == Purpose::Probe => {
                self.close(DestinationState::Halted, why, retry, now);
            }
            Evidence::Doubt if is_probe => return true,
            Evidence::Doubt => {
                let control = &mut self.control;
                control.refused_count = control.refused_count.saturating_add(1);
                let is_new = control.passed_at.is_some_and(|at| now.since(at) < CONTROL_HOLDS);
                let holds = is_new && control.refused_count < SEVERAL;
                let is_asked = holds || control.act.is_some();
                return decides && purpose == Purpose::Upload && !is_asked;
            }
            Evidence::Answers | Evidence::Nothing | Evidence::CredentialRefused => {}
        }
        false
    }

    fn shown(&self) -> DestinationState {
        self.closed_as().unwrap_or(DestinationState::Ok)
    }

    fn open(&mut self) {
        (self.state, self.reason) = (GateState::Open, None);
    }

    /// Returns whether it is closed, and waits.
    pub(super) fn waits(&self) -> bool {
        matches!(self.state, GateState::Closed { .. })
    }

    /// Ends the wait of a closed one, whatever its reason.
    pub(super) fn lift(&mut self, now: Monotonic) {
        if let GateState::Closed { until, .. } = &mut self.state {
            *until = now;
        }
    }

    /// Returns when a closed gate opens or is tried; during the trial, when the trial began.
    fn next_try(&self) -> Option<Monotonic> {
        match self.state {
            GateState::Closed { until, .. } => Some(until),
            GateState::HalfOpen { .. } => self.row.as_ref().and_then(|row| row.next_try),
            GateState::Open => None,
        }
    }

    fn close(
        &mut self,
        state: DestinationState,
        why: &Failure,
        retry: RetrySettings,
        now: Monotonic,
    ) {
        let fold = |sum: u32, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte));
        let seed = u64::from(self.settings.name.as_str().bytes().fold(7, fold));
        let delay = self.failures.close(state == DestinationState::Halted, retry, seed);
        self.state = GateState::Closed { state, until: now.after(delay), is_pause: false };
        self.reason = Some(why.to_string());
    }

    /// Closes it for a requested pause, unless it is closed for as long.
    fn pause(&mut self, state: DestinationState, until: Monotonic, why: &Failure) {
        if let GateState::Closed { until: known, .. } = self.state
            && until <= known.after(SAME_END)
        {
            return;
        }
        self.state = GateState::Closed { state, until, is_pause: true };
        self.reason = Some(why.to_string());
    }
}

/// Converts a stored wall-clock deadline to the monotonic clock, clamped, so that a clock that was
/// set back stops nothing for a year.
pub(in crate::engine) fn clamp(until: WallTime, retry: RetrySettings, now: Now) -> Monotonic {
    let longest = retry.delay_max.max(retry.delay_min * 10).max(LONG_DELAY_MAX);
    now.monotonic.after(now.wall.until(until).min(longest))
}

impl Gate {
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        match self.state {
            GateState::Closed { until, .. } => Some(until),
            GateState::HalfOpen { .. } => None,
            GateState::Open => self.cleanups.next_deadline(),
        }
    }

    /// Applies ended waits: a requested pause opens it, any other lets one request through.
    pub(super) fn advance(&mut self, turn: &mut TransferTurn<'_>) {
        let GateState::Closed { state, until, is_pause } = self.state else { return };
        if until > turn.now().monotonic {
            return;
        }
        if is_pause && state == DestinationState::Throttled {
            self.open();
            return self.write_health(turn);
        }
        self.state = GateState::HalfOpen { state, act: None };
    }

    /// Counts a reply for or against the destination.
    pub(super) fn note_reply(
        &mut self,
        act: ActId,
        purpose: Purpose,
        reply: &Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        let before = self.state.clone();
        let failure = reply.as_ref().err().map(|setback| &setback.failure);
        let answer = CallAnswer { act, purpose, failure };
        if self.take(answer, turn.retry(), turn.now().monotonic) {
            let asked = self.ask(turn);
            match &mut self.state {
                GateState::HalfOpen { act, .. } => *act = Some(asked),
                GateState::Open | GateState::Closed { .. } => self.control.act = Some(asked),
            }
        }
        // An answer that was in flight when the destination was closed proves nothing.
        if failure.is_none() && self.is_open() {
            turn.say(answered(&self.settings.name));
        }
        if self.state != before {
            self.write_health(turn);
        }
    }

    /// Writes its health, when that differs from what was last written.
    pub(super) fn write_health(&mut self, turn: &mut TransferTurn<'_>) {
        let state = self.shown();
        let now = turn.now();
        let row = HealthRow {
            platform: self.settings.platform.clone(),
            state,
            reason: self.reason.clone(),
            next_try: self.next_try(),
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

    pub(super) fn cleanups(&self) -> &Cleanups {
        &self.cleanups
    }

    pub(super) fn cleanups_mut(&mut self) -> &mut Cleanups {
        &mut self.cleanups
    }

    /// Removes and returns its clean-ups.
    pub(super) fn take_cleanups(&mut self) -> Vec<OpenCleanup> {
        self.cleanups.take(&self.settings.name)
    }

    pub(super) fn clean(&mut self, turn: &mut TransferTurn<'_>) {
        self.cleanups.start(&self.settings.name, turn);
    }

    pub(super) fn cleaned(
        &mut self,
        act: ActId,
        remote: RemoteUploadId,
        reply: Result<Outcome, Setback>,
        turn: &mut TransferTurn<'_>,
    ) {
        let destination = self.settings.name.clone();
        let target = self.targets.at(act);
        let what = OpenCleanup { destination, target, remote, after: None };
        self.cleanups.ended(act, what, reply, turn);
    }
}

/// Reports that a destination accepts calls.
fn answered(name: &DestinationName) -> Dispatch {
    Dispatch::Notices(ToNotices::DestinationAnswered(name.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::settings::PartWish;
    use crate::model::{
        ChangePolicy, Describes, NamePolicies, NamePolicy, PartLimits, Replaces, TargetAddress,
        Traits,
    };

    const RETRY: RetrySettings =
        RetrySettings { delay_min: Duration::from_secs(1), delay_max: Duration::from_mins(5) };

    fn gate() -> Gate {
        let all = ByteCount(u64::MAX);
        let mut gate = Gate::new(DestinationSettings {
            name: DestinationName::new("far"),
            platform: "s3".into(),
            address: TargetAddress {
                platform: "s3".into(),
                base_url: "https://s3.example".into(),
                container: "lab".into(),
            },
            same_as: Vec::new(),
            traits: Traits {
                limits: PartLimits {
                    size_min: all,
                    size_max: all,
                    count_max: 1,
                    file_max: all,
                    path_max: all,
                },
                reports_parts: false,
                report_max: 1,
                describes: Describes::Never,
                finishes_runs: false,
                has_places: true,
                wants_md5_first: false,
                sends_whole: false,
                can_inspect: true,
                replaces: Replaces::ByETag,
                parts_need_account: true,
                etags: crate::model::ETagLaw::Md5s,
            },
            part_size: PartWish::Auto,
            folder: String::new(),
            policies: NamePolicies { taken: NamePolicy::Park, changed: ChangePolicy::Park },
            metadata: Vec::new(),
            tags: Vec::new(),
            export: None,
        });
        gate.open();
        gate
    }

    fn at(seconds: u64) -> Monotonic {
        Monotonic(Duration::from_secs(seconds))
    }

    fn throttled(seconds: Option<u64>) -> FailureKind {
        FailureKind::Throttled { after: seconds.map(Duration::from_secs) }
    }

    /// Applies an answer for an upload; returns whether a control request must be made.
    fn answer(gate: &mut Gate, act: u64, kind: Option<FailureKind>, now: u64) -> bool {
        answer_to(gate, Purpose::Upload, ActId(act), kind, now)
    }

    fn answer_to(
        gate: &mut Gate,
        purpose: Purpose,
        act: ActId,
        kind: Option<FailureKind>,
        now: u64,
    ) -> bool {
        let why = kind.map(|kind| Failure::new(kind, "no"));
        gate.take(CallAnswer { act, purpose, failure: why.as_ref() }, RETRY, at(now))
    }

    /// Returns until when the gate is closed, and its state in `status`.
    fn closed(gate: &Gate) -> Option<(DestinationState, u64)> {
        let GateState::Closed { state, until, .. } = gate.state else { return None };
        Some((state, until.0.as_secs()))
    }

    /// A gate whose wait has ended, with the request that was let through.
    fn half_open(state: DestinationState) -> Gate {
        let mut gate = gate();
        gate.state = GateState::HalfOpen { state, act: None };
        assert!(gate.admits());
        gate.let_through(ActId(7));
        assert!(!gate.admits(), "one request and no more");
        gate
    }

    const PASSING: [FailureKind; 5] = [
        FailureKind::Throttled { after: None },
        FailureKind::TimedOut,
        FailureKind::ServerFault,
        FailureKind::Broken,
        FailureKind::BadAnswer,
    ];

    #[test]
    fn a_pause_that_is_asked_for_closes_at_once_and_for_an_hour_at_most() {
        for (asked, kept) in [(0, 1), (7, 7), (3600, 3600), (31_536_000, 3600), (u64::MAX, 3600)] {
            let mut gate = gate();
            answer(&mut gate, 1, Some(throttled(Some(asked))), 10);
            assert_eq!(closed(&gate), Some((DestinationState::Throttled, 10 + kept)), "{asked}");
            assert_eq!(gate.reason.as_deref(), Some("no (throttled)"));
        }
    }

    #[test]
    fn one_request_in_a_hundred_or_in_two_that_fails_closes_nothing() {
        for every in [2, 20, 100] {
            for kind in PASSING {
                let mut gate = gate();
                for number in 0..1000 {
                    let failed = (number % every == 0).then_some(kind);
                    answer(&mut gate, number, failed, number);
                    assert!(gate.is_open(), "{kind:?}, one in {every}");
                }
            }
        }
    }

    #[test]
    fn every_request_of_a_window_closes_it() {
        for kind in PASSING {
            let mut gate = gate();
            for number in 0..500 {
                answer(&mut gate, number, Some(kind), 9);
            }
            assert!(gate.is_open(), "{kind:?}: a burst");
            answer(&mut gate, 500, Some(kind), 39);
            assert!(closed(&gate).is_some_and(|(_, until)| until <= 41), "{kind:?}: by [retry]");
        }
    }

    #[test]
    fn few_requests_that_all_fail_close_it_after_a_minute() {
        let mut gate = gate();
        for second in [0, 1, 3, 7, 15, 31] {
            answer(&mut gate, second, Some(FailureKind::TimedOut), second);
            assert!(gate.is_open());
        }
        answer(&mut gate, 63, Some(FailureKind::TimedOut), 63);
        assert_eq!(gate.shown(), DestinationState::Unreachable);
    }

    #[test]
    fn nobody_three_times_in_a_row_closes_it_at_once() {
        let mut gate = gate();
        answer(&mut gate, 1, Some(FailureKind::Unreachable), 0);
        answer(&mut gate, 2, Some(FailureKind::Unreachable), 0);
        assert!(gate.is_open());
        answer(&mut gate, 3, Some(FailureKind::Unreachable), 0);
        assert!(!gate.is_open());
    }

    #[test]
    fn a_refused_credential_is_tried_after_a_second_and_never_less_often_than_every_five_minutes() {
        let mut gate = gate();
        let (mut now, mut waits) = (0, Vec::new());
        for _ in 0..20 {
            answer(&mut gate, 1, Some(FailureKind::Unauthorized), now);
            let (state, until) = closed(&gate).expect("closed");
            assert_eq!(state, DestinationState::Halted);
            waits.push(until - now);
            now = until;
            gate.state = GateState::HalfOpen { state, act: Some(ActId(1)) };
        }
        assert!(waits[0] <= 1 && waits.iter().all(|wait| *wait <= 300), "{waits:?}");
        assert!(waits.iter().max() > Some(&60), "{waits:?}");
    }

    #[test]
    fn a_refused_object_is_decided_by_one_control_request() {
        for kind in [FailureKind::Forbidden, FailureKind::NotFound] {
            let mut gate = gate();
            assert!(answer(&mut gate, 1, Some(kind), 0) && gate.is_open(), "{kind:?}");
            gate.control.act = Some(ActId(2));
            assert!(!answer(&mut gate, 3, Some(kind), 0), "one is under way");
            answer_to(&mut gate, Purpose::Probe, ActId(2), None, 1);
            assert!(!answer(&mut gate, 4, Some(kind), 2) && gate.is_open(), "it passed");
            assert!(answer(&mut gate, 5, Some(kind), 40), "it is asked again later");
            gate.control.act = Some(ActId(6));
            answer_to(&mut gate, Purpose::Probe, ActId(6), Some(kind), 41);
            assert_eq!(gate.shown(), DestinationState::Halted, "{kind:?}: it refuses all");
        }
    }

    #[test]
    fn rights_that_end_just_after_a_control_request_passed_are_noticed_after_three_refusals() {
        let mut gate = half_open(DestinationState::Unknown);
        answer_to(&mut gate, Purpose::Probe, ActId(7), None, 0);
        let refused = Some(FailureKind::Forbidden);
        assert!(!answer(&mut gate, 8, refused, 1) && !answer(&mut gate, 9, refused, 1));
        answer(&mut gate, 10, None, 1);
        assert!(!answer(&mut gate, 11, refused, 1) && !answer(&mut gate, 12, refused, 1));
        assert!(answer(&mut gate, 13, refused, 1), "nothing passed between them");
        gate.control.act = Some(ActId(14));
        answer_to(&mut gate, Purpose::Probe, ActId(14), refused, 2);
        assert_eq!(gate.shown(), DestinationState::Halted);
    }

    #[test]
    fn what_is_beside_uploads_is_refused_without_a_word_about_the_destination() {
        for kind in [FailureKind::Forbidden, FailureKind::NotFound] {
            let mut gate = gate();
            assert!(!answer_to(&mut gate, Purpose::Beside, ActId(1), Some(kind), 0));
            assert!(gate.is_open());
        }
        for kind in PASSING.into_iter().chain([FailureKind::Unauthorized, throttled(Some(9))]) {
            let mut gate = gate();
            for number in 0..100 {
                answer_to(&mut gate, Purpose::Cleanup, ActId(number), Some(kind), number);
            }
            assert!(gate.is_open(), "{kind:?}: a clean-up");
        }
    }

    #[test]
    fn the_request_that_is_let_through_decides() {
        let mut gate = half_open(DestinationState::Halted);
        answer(&mut gate, 6, None, 1);
        assert!(!gate.is_open(), "it was in flight before");
        answer(&mut gate, 7, Some(FailureKind::ServerFault), 1);
        assert_eq!(gate.shown(), DestinationState::Unreachable);
        let mut gate = half_open(DestinationState::Halted);
        answer(&mut gate, 7, None, 1);
        assert!(gate.is_open() && gate.reason.is_none());
        let mut gate = half_open(DestinationState::Halted);
        assert!(answer(&mut gate, 7, Some(FailureKind::Forbidden), 1), "a control request decides");
        let mut gate = half_open(DestinationState::Unreachable);
        answer(&mut gate, 7, Some(FailureKind::SourceChanged), 1);
        assert!(gate.admits(), "another one is let through");
    }

    #[test]
    fn a_shorter_pause_never_ends_a_longer_one() {
        let mut gate = gate();
        answer(&mut gate, 1, Some(throttled(Some(300))), 0);
        for kind in [throttled(Some(1)), throttled(None), FailureKind::Unauthorized] {
            for now in 10..60 {
                answer(&mut gate, 2, Some(kind), now);
            }
        }
        assert_eq!(closed(&gate), Some((DestinationState::Throttled, 300)));
        answer(&mut gate, 3, Some(throttled(Some(600))), 10);
        assert_eq!(closed(&gate), Some((DestinationState::Throttled, 610)), "a longer one holds");
    }

    #[test]
    fn any_wait_is_lifted() {
        for kind in [throttled(Some(3600)), FailureKind::Unauthorized, FailureKind::Maintenance] {
            let mut gate = gate();
            assert!(!gate.waits(), "an open one has no wait");
            answer(&mut gate, 1, Some(kind), 0);
            assert!(gate.waits());
            gate.lift(at(9));
            assert_eq!(closed(&gate).map(|(_, until)| until), Some(9), "{kind:?}");
        }
    }
}

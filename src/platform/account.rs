//! State that all destinations of one account share: the call budget and the platform's clock; and
//! a client's link to its platform.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::answer::parse_date;
use super::credential::Credential;
use super::http::{Http, Response, TimeSource};
use crate::limiter::{Announcement, CallBudget};
use crate::model::{Failure, FailureKind, LivePause, Now, WallTime};

/// An exhausted budget is checked again at this interval, because the platform may have announced more calls.
const BUDGET_NAP_MAX: Duration = Duration::from_secs(30);
/// The rest of a pause is waited for up to this long. A longer one is a failure, so that it is
/// shown with its end and delays nothing else.
const PAUSE_WAITED_MAX: Duration = Duration::from_secs(5);
/// Machines of one account resume after a pause this far apart, beyond one second.
const JITTER_MAX_MS: i64 = 4000;

/// A larger difference between a platform's clock and ours is not accepted at once.
const SKEW_MAX: Duration = Duration::from_hours(24);
/// Dates that a platform's clock may show: 2020 to 2100.
const YEARS: std::ops::Range<WallTime> =
    WallTime(1_577_836_800_000_000_000)..WallTime(4_102_444_800_000_000_000);

/// Tolerance for a platform's clock when something is judged to be newer than an intent.
pub(super) const CLOCK_SLACK: Duration = Duration::from_mins(5);

/// A client's connection to its platform. Copies share it.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(super) http: Http,
    pub(super) credential: Arc<Credential>,
    pub(super) account: Account,
    pub(super) time: TimeSource,
}

impl Link {
    /// Builds it from the connections and the account's credential.
    pub(crate) fn new(
        http: Http,
        credential: Arc<Credential>,
        account: Account,
        time: impl Into<TimeSource>,
    ) -> Self {
        let time = time.into();
        Self { http: http.with_time(time.clone()), credential, account, time }
    }
}

/// Budget and clock difference of one account. Copies share them.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    shared: Arc<Mutex<AccountState>>,
    time: TimeSource,
}

#[derive(Debug)]
struct AccountState {
    budget: CallBudget,
    /// Calls that wait for their turn.
    waiting_count: u32,
    /// The platform's clock minus ours in nanoseconds, from its answers.
    clock_offset_ns: i64,
    /// Offset of the time in signatures from our clock, set when a signature was refused for its
    /// time.
    signing_offset_ns: i64,
    /// An offset in an answer that is not yet believed.
    doubted_offset_ns: Option<i64>,
}

impl Account {
    /// Starts with a fixed rate, or with Seven Bridges' documented limit until another one is announced.
    pub(crate) fn new(calls_per_second: Option<f64>, time: impl Into<TimeSource>) -> Self {
        let time = time.into();
        let budget = CallBudget::new(calls_per_second, time.now().monotonic);
        let shared = AccountState {
            budget,
            waiting_count: 0,
            clock_offset_ns: 0,
            signing_offset_ns: 0,
            doubted_offset_ns: None,
        };
        Self { shared: Arc::new(Mutex::new(shared)), time }
    }

    fn with<T>(&self, act: impl FnOnce(&mut AccountState) -> T) -> T {
        act(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    #[cfg(test)]
    pub(super) fn paused_until(
        &self,
        now: crate::model::Monotonic,
    ) -> Option<crate::model::Monotonic> {
        self.with(|shared| shared.budget.paused_until(now))
    }

    /// Waits until a call may be made, and counts it.
    ///
    /// # Errors
    /// `Throttled` when the platform paused the account's calls, also through another destination.
    pub(super) async fn wait_for_budget(&self) -> Result<(), Failure> {
        loop {
            let now = self.time.now().monotonic;
            let Err(until) = self.with(|shared| shared.budget.take(now)) else { return Ok(()) };
            let wait = until.since(now);
            if wait > PAUSE_WAITED_MAX && self.with(|shared| shared.budget.is_paused(now)) {
                let kind = FailureKind::Throttled { after: Some(wait) };
                return Err(Failure::new(kind, "the platform paused the calls of this account"));
            }
            let _waiting = WaitingCall::new(self);
            tokio::time::sleep(wait.min(BUDGET_NAP_MAX)).await;
        }
    }

    /// Returns why calls wait, and until when one may be made; `None` while none waits.
    pub(super) fn paced(&self, now: Now) -> Option<LivePause> {
        self.with(|shared| {
            let free_at = shared.budget.free_at(now.monotonic);
            (shared.waiting_count > 0).then(|| LivePause {
                reason: match shared.budget.is_paused(now.monotonic) {
                    true => "the platform paused the calls of this account".to_owned(),
                    false => format!(
                        "keeps to the {} calls that the account may make in 5 min",
                        shared.budget.calls_in_window()
                    ),
                },
                until: Some(now.wall.after(free_at.since(now.monotonic))),
            })
        })
    }

    /// Ends a pause that the platform requested, on an operator's order.
    pub(crate) fn lift_pause(&self) {
        let now = self.time.now().monotonic;
        self.with(|shared| shared.budget.lift(now));
    }

    /// Learns the platform's clock difference from an answer.
    ///
    /// Up to a day of difference may be a time zone or a flat battery, and is accepted. A larger
    /// jump counts only when two answers in a row agree, and a date outside of [`YEARS`] never: a
    /// portal or one broken server must not shift signatures.
    pub(super) fn learn_clock(&self, response: &Response) {
        let Some(date) = response.header("date").and_then(parse_date) else { return };
        if !YEARS.contains(&date) {
            return;
        }
        let offset = date.0.saturating_sub(self.time.now().wall.0);
        let is_near =
            |known: i64, limit: Duration| u128::from(known.abs_diff(offset)) <= limit.as_nanos();
        self.with(|shared| {
            let is_agreed = shared.doubted_offset_ns.is_some_and(|o| is_near(o, CLOCK_SLACK));
            let is_plain = is_near(0, SKEW_MAX) || is_near(shared.clock_offset_ns, SKEW_MAX);
            match is_plain || is_agreed {
                true => (shared.clock_offset_ns, shared.doubted_offset_ns) = (offset, None),
                false => shared.doubted_offset_ns = Some(offset),
            }
        });
    }

    /// Returns the platform's clock minus ours in nanoseconds, from its answers.
    pub(super) fn clock_behind_ns(&self) -> i64 {
        self.with(|shared| shared.clock_offset_ns)
    }

    /// Signs with the platform's time from here on: a request was refused whose signature had the
    /// offset `signed` from our clock. Returns the correction; `None` if it is within the tolerance
    /// of signatures.
    pub(super) fn correct_signing(&self, signed: i64) -> Option<i64> {
        self.with(|shared| {
            let by = shared.clock_offset_ns.saturating_sub(signed);
            let is_off = u128::from(by.unsigned_abs()) > CLOCK_SLACK.as_nanos();
            is_off.then(|| {
                shared.signing_offset_ns = shared.clock_offset_ns;
                by
            })
        })
    }

    /// Returns the offset of the time in signatures, after a refusal has shown that our clock is
    /// wrong.
    pub(super) fn signing_offset(&self) -> i64 {
        self.with(|shared| shared.signing_offset_ns)
    }

    /// Applies a platform's announcement of its limits.
    pub(super) fn announced(&self, said: Announcement) {
        let now = self.time.now().monotonic;
        self.with(|shared| shared.budget.announced(said, now));
    }

    /// Pauses all calls: the platform refused one and requested that.
    pub(super) fn refused(&self, pause: Duration) {
        let now = self.time.now();
        let jitter = 1000 + (now.wall.0 / 1000).rem_euclid(JITTER_MAX_MS);
        let jitter = Duration::from_millis(jitter.unsigned_abs());
        self.with(|shared| shared.budget.refused(pause, jitter, now.monotonic));
    }

    /// Returns the platform's time, as far as it is known.
    pub(super) fn platform_time(&self) -> WallTime {
        self.to_platform_time(self.time.now().wall)
    }

    /// Returns whether a time by the platform's clock is not before a time by ours, with the
    /// tolerance for a platform that is behind its reported time.
    pub(super) fn is_since(&self, theirs: WallTime, ours: WallTime) -> bool {
        theirs.after(CLOCK_SLACK) >= self.to_platform_time(ours)
    }

    /// Returns the platform's time for a time by our clock.
    pub(super) fn to_platform_time(&self, ours: WallTime) -> WallTime {
        WallTime(ours.0.saturating_add(self.clock_behind_ns()))
    }
}

/// A call that waits for its turn.
struct WaitingCall<'a>(&'a Account);

impl<'a> WaitingCall<'a> {
    fn new(account: &'a Account) -> Self {
        account.with(|shared| shared.waiting_count += 1);
        Self(account)
    }
}

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.0.with(|shared| shared.waiting_count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::bench::frozen;

    const DAY_NS: i64 = 86_400_000_000_000;
    /// 2026-11-21T00:00:00Z
    const NOW: WallTime = WallTime(1_795_219_200_000_000_000);

    fn dated(text: &str) -> Response {
        let headers = [("date", text)].into_iter();
        let headers = super::super::http::header_map(headers).expect("a header");
        Response { status: 200, headers, body: bytes::Bytes::new() }
    }

    #[test]
    fn a_clock_that_is_off_is_learned_and_an_absurd_date_is_not() {
        let account = Account::new(None, frozen(NOW));
        let ahead = |date: &str| {
            account.learn_clock(&dated(date));
            account.platform_time().0 - NOW.0
        };
        assert_eq!(ahead("Sat, 21 Nov 2026 05:00:00 GMT"), DAY_NS / 24 * 5);
        for absurd in
            ["Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "yesterday"]
        {
            assert_eq!(ahead(absurd), DAY_NS / 24 * 5, "{absurd}");
            assert_eq!(ahead(absurd), DAY_NS / 24 * 5, "{absurd}, twice");
        }
        let year_ahead = "Sun, 21 Nov 2027 00:00:00 GMT";
        assert_eq!(ahead(year_ahead), DAY_NS / 24 * 5, "one answer alone");
        assert_eq!(ahead("Sat, 21 Nov 2026 00:00:00 GMT"), 0);
        assert_eq!(ahead(year_ahead), 0, "it was contradicted");
        assert_eq!(ahead("Sun, 21 Nov 2027 00:00:09 GMT"), 365 * DAY_NS + 9_000_000_000);
        assert_eq!(ahead("Sun, 21 Nov 2027 01:00:00 GMT"), 365 * DAY_NS + DAY_NS / 24);
        assert_eq!(ahead("Sat, 21 Nov 2026 00:00:00 GMT"), 0, "a clock that was set right");
    }

    #[test]
    fn signatures_are_dated_by_our_clock_until_one_is_refused() {
        let account = Account::new(None, frozen(NOW));
        assert_eq!(account.correct_signing(0), None, "nothing is known");
        account.learn_clock(&dated("Sat, 21 Nov 2026 02:00:00 GMT"));
        assert_eq!(account.signing_offset(), 0, "an answer alone shifts nothing");
        assert_eq!(account.correct_signing(0), Some(DAY_NS / 12));
        assert_eq!(account.signing_offset(), DAY_NS / 12);
        assert_eq!(account.correct_signing(account.signing_offset()), None, "once");
        assert_eq!(
            account.correct_signing(0),
            Some(DAY_NS / 12),
            "one that was in flight meanwhile"
        );
        account.learn_clock(&dated("Sat, 21 Nov 2026 02:04:00 GMT"));
        let offset = account.signing_offset();
        assert_eq!(account.correct_signing(offset), None, "a signature may be off by that");
    }
}

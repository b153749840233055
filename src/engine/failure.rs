//! The one policy of failures: what an answer shows, what follows for the upload that got it, and
//! when a failed act is retried.
//!
//! No other module decides whether something is retried: no client, no worker, no call site. The
//! tables use [`FailureKind`] alone; text is for people. An answer acts on no more than it proves:
//!
//! | evidence ([`evidence`]) | acts on |
//! |---|---|
//! | one request failed: 429, 503, 5xx, a reset, a time-out, an answer that cannot be read | that request, which is tried again; the destination only when every request of a window failed ([`Failures`]) |
//! | no connection can be made | the destination, after [`SEVERAL`] such requests in a row |
//! | a pause is asked for, maintenance | the destination, until its end; a pause of an account does not stop parts that go to a storage without it ([`Traits::parts_need_account`](crate::model::Traits::parts_need_account)) |
//! | the credential is refused | the destination, tried again after one second up to five minutes |
//! | one object is refused: 403, 404 | a control request decides: if it is refused too, the destination; else that upload alone |
//! | anything else | the upload that asked |
//!
//! Delays are exponential with full jitter between a tenth of the ceiling and the ceiling, from a seed
//! made of upload, part and attempt: a simulation repeats, and many uploads do not retry at once.
//! Failures that pass by themselves have no last attempt: an outage is retried for as long as it lasts.

use std::time::Duration;

use super::settings::RetrySettings;
use crate::model::failure::PAUSE_MAX;
use crate::model::{DestinationState, FailureKind, Monotonic, ParkReason};

/// The consequence of a failure for the upload whose act it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// The same act again, after a delay from [`delay`].
    Again,
    /// It passes by itself: the same act again, after a delay from [`long_delay`]. Never parked.
    Wait,
    /// It may pass: the same act again, after a delay from [`delay`]; parked if it persists
    /// ([`Standstill`]).
    Refused(ParkReason),
    /// The upload stops until someone or something acts.
    Park(ParkReason),
    /// The source is another version: this upload ends.
    SourceChanged,
    /// The platform does not know the remote upload.
    Gone,
    /// The platform could not put the parts together.
    CompleteRefused,
    /// The platform accepts only larger parts.
    LargerParts,
    /// The part is too large for the storage or a proxy.
    SmallerParts,
    /// The remote upload is replaced by a new one.
    Anew,
    /// The name is taken: the name policy decides.
    NameTaken,
    /// Nothing: the daemon stops.
    Nothing,
}

/// What an answer shows about the destination that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// It accepts our calls, whatever it said about this one.
    Answers,
    /// One request failed.
    Request(DestinationState),
    /// No connection could be made.
    Nobody,
    /// It asks for a pause.
    Pause(DestinationState, Duration),
    /// It refuses the credential.
    CredentialRefused,
    /// It refuses this one object, or everything.
    Doubt,
    /// Nothing: the failure is local.
    Nothing,
}

/// A window covers this time and [`WINDOW_ANSWERS`] answers: refusals of a storage that is
/// overloaded for seconds are no outage.
const WINDOW: Duration = Duration::from_secs(30);
/// A destination that refuses one request in two refuses this many in a row once in a million times.
const WINDOW_ANSWERS: u32 = 20;
/// One or two uploads that back off make no [`WINDOW_ANSWERS`] requests in that time: then
/// [`SEVERAL`] failures suffice.
const WINDOW_MAX: Duration = Duration::from_mins(1);
/// One failure may concern one request only, and a load balancer with one dead server shows two in a row.
pub(crate) const SEVERAL: u32 = 3;
/// This many equal refusals of the same step, over [`REFUSALS_TIME`] at least, do not pass by themselves.
const REFUSALS_MAX: u32 = 5;
/// New permissions and new keys take some minutes to be known everywhere.
const REFUSALS_TIME: Duration = Duration::from_mins(10);
/// Maintenance takes minutes at least.
const MAINTENANCE_PAUSE: Duration = Duration::from_mins(5);
/// A refused credential is tried again after a second, because some storages refuse a good one now and
/// then; and at most every five minutes while that persists, because accounts are locked for it.
const CREDENTIAL_RETRY: RetrySettings =
    RetrySettings { delay_min: Duration::from_secs(1), delay_max: Duration::from_mins(5) };
/// A failing step is tried another way after this many parts, or the whole file's bytes, were sent without effect.
const VAIN_PARTS: u64 = 4;
/// After a control request succeeded, refusals of objects concern only these objects for that long,
/// unless [`SEVERAL`] come without a success between them.
pub(crate) const CONTROL_HOLDS: Duration = Duration::from_secs(30);
/// Begun uploads that wait for a retry leave their places to others, up to this number: each may
/// have parts at the destination that cost money, and takes memory.
pub(crate) const WAITING_MAX: usize = 1000;
/// A failure that passes by itself is retried at least this often: it may end at any time, and each
/// attempt on a failing disk may take seconds.
pub(crate) const LONG_DELAY_MAX: Duration = Duration::from_hours(1);

/// Returns what follows from a failure for its upload.
pub(crate) fn judge(kind: FailureKind) -> Remedy {
    match kind {
        FailureKind::Unreachable
        | FailureKind::Broken
        | FailureKind::Throttled { .. }
        | FailureKind::Maintenance
        | FailureKind::Unauthorized
        | FailureKind::TimedOut
        | FailureKind::ServerFault
        | FailureKind::BadAnswer
        | FailureKind::SourceAway
        | FailureKind::SourceFailing
        | FailureKind::LocalFault => Remedy::Again,
        FailureKind::NotFound | FailureKind::Quota => Remedy::Wait,
        FailureKind::Forbidden => Remedy::Refused(ParkReason::Forbidden),
        FailureKind::PartRejected => Remedy::Refused(ParkReason::NoProgress),
        FailureKind::PartTooLarge => Remedy::SmallerParts,
        FailureKind::Damaged => Remedy::Park(ParkReason::PartCorrupt),
        FailureKind::BadRequest => Remedy::Park(ParkReason::BadRequest),
        FailureKind::SourceGone => Remedy::Park(ParkReason::SourceMissing),
        FailureKind::SourceUnreadable => Remedy::Park(ParkReason::SourceUnreadable),
        FailureKind::SourceChanged => Remedy::SourceChanged,
        FailureKind::UploadGone | FailureKind::AlreadyCompleted => Remedy::Gone,
        FailureKind::CompleteRefused => Remedy::CompleteRefused,
        FailureKind::PartsTooSmall => Remedy::LargerParts,
        FailureKind::NameTaken => Remedy::NameTaken,
        FailureKind::Cancelled => Remedy::Nothing,
    }
}

/// Returns what a failure shows about its destination.
pub(crate) fn evidence(kind: FailureKind) -> Evidence {
    use DestinationState::{Halted, Throttled, Unreachable};
    match kind {
        FailureKind::Unreachable => Evidence::Nobody,
        FailureKind::Throttled { after: Some(pause) } => {
            Evidence::Pause(Throttled, pause.min(PAUSE_MAX))
        }
        FailureKind::Throttled { after: None } => Evidence::Request(Throttled),
        FailureKind::Maintenance => Evidence::Pause(Halted, MAINTENANCE_PAUSE),
        FailureKind::Unauthorized => Evidence::CredentialRefused,
        FailureKind::Broken
        | FailureKind::TimedOut
        | FailureKind::ServerFault
        | FailureKind::BadAnswer => Evidence::Request(Unreachable),
        FailureKind::Forbidden | FailureKind::NotFound => Evidence::Doubt,
        FailureKind::PartRejected
        | FailureKind::Damaged
        | FailureKind::Quota
        | FailureKind::BadRequest
        | FailureKind::UploadGone
        | FailureKind::AlreadyCompleted
        | FailureKind::CompleteRefused
        | FailureKind::PartsTooSmall
        | FailureKind::PartTooLarge
        | FailureKind::NameTaken => Evidence::Answers,
        FailureKind::SourceGone
        | FailureKind::SourceUnreadable
        | FailureKind::SourceChanged
        | FailureKind::SourceAway
        | FailureKind::SourceFailing
        | FailureKind::LocalFault
        | FailureKind::Cancelled => Evidence::Nothing,
    }
}

/// Returns whether a failure concerns the destination, so that the act is repeated when the
/// destination opens.
pub(crate) fn is_of_destination(kind: FailureKind) -> bool {
    match evidence(kind) {
        Evidence::Request(_)
        | Evidence::Nobody
        | Evidence::Pause(..)
        | Evidence::CredentialRefused => true,
        Evidence::Answers | Evidence::Doubt | Evidence::Nothing => false,
    }
}

/// The failures of a destination since it last accepted a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    since: Option<Monotonic>,
    count: u32,
    /// How many of the last ones could not connect.
    nobody_count: u32,
    /// How often it was closed.
    closed_count: u32,
}

impl Failures {
    /// Counts a failure; returns whether every request of a window failed.
    pub(crate) fn add(&mut self, is_nobody: bool, now: Monotonic) -> bool {
        let lasted = now.since(*self.since.get_or_insert(now));
        self.count = self.count.saturating_add(1);
        self.nobody_count = if is_nobody { self.nobody_count.saturating_add(1) } else { 0 };
        let is_window = lasted >= WINDOW && self.count >= WINDOW_ANSWERS;
        let is_long = lasted >= WINDOW_MAX && self.count >= SEVERAL;
        is_window || is_long || self.nobody_count >= SEVERAL
    }

    /// Closes the destination; returns for how long, where no pause is asked for.
    pub(crate) fn close(
        &mut self,
        is_credential: bool,
        retry: RetrySettings,
        seed: u64,
    ) -> Duration {
        self.closed_count = self.closed_count.saturating_add(1);
        delay(if is_credential { CREDENTIAL_RETRY } else { retry }, self.closed_count, seed)
    }
}

/// The failed attempts of one upload since its last progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standstill {
    what: Option<(&'static str, FailureKind)>,
    since: Monotonic,
    count: u32,
    in_vain: u64,
    way: Way,
}

/// How to try a step that fails the same way again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Same,
    /// After the platform was asked what it has.
    Asked,
    /// In a new remote upload, with parts of half the size where the platform accepts such.
    Anew,
    /// No other way is left.
    Last,
}

/// A failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FailedTry {
    pub(super) step: &'static str,
    pub(super) kind: FailureKind,
    pub(super) sent: u64,
    pub(super) part_size: u64,
    pub(super) file_size: u64,
}

impl Standstill {
    /// No failure.
    pub(crate) const NONE: Self =
        Self { what: None, since: Monotonic(Duration::ZERO), count: 0, in_vain: 0, way: Way::Same };

    /// Counts an attempt; returns the way for the next ones, where it changes.
    pub(crate) fn add(&mut self, tried: FailedTry, now: Monotonic) -> Option<Way> {
        let what = Some((tried.step, tried.kind));
        if self.what != what {
            (self.what, self.since, self.count) = (what, now, 0);
        }
        self.count = self.count.saturating_add(1);
        self.in_vain = self.in_vain.saturating_add(tried.sent);
        let few = tried.part_size.saturating_mul(VAIN_PARTS);
        let bound = if self.way == Way::Same { few.max(tried.file_size) } else { few };
        let is_long = self.count >= REFUSALS_MAX && now.since(self.since) >= REFUSALS_TIME;
        if !is_long && self.in_vain < bound && self.way != Way::Last {
            return None;
        }
        let way = match self.way {
            Way::Same => Way::Asked,
            Way::Asked => Way::Anew,
            Way::Anew | Way::Last => Way::Last,
        };
        *self = Self { what, since: now, way, ..Self::NONE };
        Some(way)
    }
}

/// Returns how long to wait before attempt `attempt` (the first retry is 1).
pub(crate) fn delay(settings: RetrySettings, attempt: u32, seed: u64) -> Duration {
    let doubled = settings.delay_min.saturating_mul(1 << attempt.saturating_sub(1).min(20));
    let ceiling = doubled.min(settings.delay_max);
    let floor = ceiling / 10;
    let span = u64::try_from((ceiling - floor).as_nanos()).unwrap_or(u64::MAX);
    floor + Duration::from_nanos(if span == 0 { 0 } else { mix(seed, attempt) % span })
}

/// Returns the delay for failures that pass by themselves: a file whose storage fails, a bucket
/// that does not exist yet, a quota.
pub(crate) fn long_delay(settings: RetrySettings, attempt: u32, seed: u64) -> Duration {
    delay(RetrySettings { delay_max: LONG_DELAY_MAX, ..settings }, attempt, seed)
}

/// Scatters a seed: the finaliser of splitmix64.
fn mix(seed: u64, attempt: u32) -> u64 {
    let mut z = seed.wrapping_add(u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: RetrySettings =
        RetrySettings { delay_min: Duration::from_secs(1), delay_max: Duration::from_mins(5) };

    #[test]
    fn delays_grow_up_to_the_ceiling_and_never_vanish() {
        for attempt in 1..100 {
            let ceiling = SETTINGS.delay_min * 2_u32.pow((attempt - 1).min(9));
            let ceiling = ceiling.min(SETTINGS.delay_max);
            for seed in 0..50 {
                let delay = delay(SETTINGS, attempt, seed);
                assert!(delay <= ceiling, "attempt {attempt}: {delay:?} over {ceiling:?}");
                assert!(delay >= ceiling / 10, "attempt {attempt}: {delay:?} is a busy loop");
            }
        }
    }

    #[test]
    fn delays_differ_between_uploads_and_repeat_for_one() {
        let of = |seed| delay(SETTINGS, 8, seed);
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn zero_delays_do_not_divide_by_zero() {
        let none = RetrySettings { delay_min: Duration::ZERO, delay_max: Duration::ZERO };
        assert_eq!(delay(none, 3, 9), Duration::ZERO);
    }

    fn refused(sent: u64) -> FailedTry {
        let (step, kind) = ("put part", FailureKind::PartRejected);
        FailedTry { step, kind, sent, part_size: 10, file_size: 100 }
    }

    /// Fails every `every` seconds; returns when each other way was chosen.
    fn ways(sent: u64, every: u64) -> Vec<(Way, u64)> {
        let mut standstill = Standstill::NONE;
        let seconds = (0..10_000).map(|count| count * every);
        let ways = seconds.filter_map(|second| {
            let way = standstill.add(refused(sent), Monotonic(Duration::from_secs(second)))?;
            Some((way, second))
        });
        ways.take(3).collect()
    }

    #[test]
    fn the_same_refusal_for_ten_minutes_is_tried_in_other_ways_and_then_no_more() {
        let minutes = [(Way::Asked, 600), (Way::Anew, 1200), (Way::Last, 1800)];
        assert_eq!(ways(0, 1), minutes);
        assert_eq!(ways(0, 300)[0], (Way::Asked, 1200), "five times at least");
    }

    #[test]
    fn no_more_is_sent_in_vain_than_the_file_and_a_few_parts() {
        let ways = ways(10, 1);
        assert_eq!(ways, [(Way::Asked, 9), (Way::Anew, 13), (Way::Last, 17)]);
    }

    #[test]
    fn other_refusals_in_turn_are_none_that_lasts() {
        let mut standstill = Standstill::NONE;
        for second in 0..5000 {
            let step = if second % 2 == 0 { "begin" } else { "complete" };
            let tried = FailedTry { step, ..refused(0) };
            assert_eq!(standstill.add(tried, Monotonic(Duration::from_secs(second))), None);
        }
    }

    #[test]
    fn every_kind_of_failure_says_one_thing_of_its_upload_and_of_its_destination() {
        for kind in [FailureKind::Forbidden, FailureKind::NotFound] {
            assert_eq!(evidence(kind), Evidence::Doubt, "{kind:?}");
        }
        for kind in [FailureKind::NotFound, FailureKind::Quota] {
            assert_eq!(judge(kind), Remedy::Wait, "{kind:?} passes by itself");
        }
        let busy = [
            FailureKind::Throttled { after: None },
            FailureKind::Broken,
            FailureKind::TimedOut,
            FailureKind::ServerFault,
        ];
        for kind in busy {
            assert!(matches!(evidence(kind), Evidence::Request(_)), "{kind:?}");
            assert_eq!(judge(kind), Remedy::Again, "{kind:?}");
        }
    }
}

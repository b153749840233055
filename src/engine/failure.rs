//! The one policy of failures: what an answer is evidence of, what follows for the upload that got it,
//! and when what failed is tried again.
//!
//! Nobody else decides whether something is tried again: no client, no worker, no call site. The
//! tables are by [`FailureKind`] alone; text is for people. An answer acts on no more than it proves:
//!
//! | evidence ([`evidence`]) | acts on |
//! |---|---|
//! | one request failed: 429, 503, 5xx, a reset, a time-out, an answer that cannot be read | that request, which is tried again; the destination only when every request of a window failed ([`Failures`]) |
//! | no connection can be made | the destination, when [`SEVERAL`] requests in a row met that |
//! | a pause is asked for, maintenance | the destination, until its end; a pause of an account holds no parts that go to a storage without it ([`Traits::parts_need_account`](crate::model::Traits::parts_need_account)) |
//! | the credential is refused | the destination, tried again from a second to five minutes |
//! | one object is refused: 403, 404 | a control request decides: refused too, it is the destination; else that upload alone |
//! | anything else | the upload that asked |
//!
//! Delays are exponential with full jitter between a tenth of the ceiling and the ceiling, from a seed
//! made of upload, part and attempt, so that a simulation repeats and a herd does not march in step.
//! There is no last attempt of what passes by itself: an outage is retried for as long as it lasts.

use std::time::Duration;

use super::settings::RetrySettings;
use crate::model::failure::PAUSE_MAX;
use crate::model::{DestinationState, FailureKind, Monotonic, ParkReason};

/// What a failure leads to for the upload whose act it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// The same act again, after a delay from [`delay`].
    Again,
    /// It passes by itself: the same act again, after a delay from [`long_delay`]. Never parked.
    Wait,
    /// It may pass: the same act again, after a delay from [`delay`]; parked where it goes on
    /// ([`Standstill`]).
    Refused(ParkReason),
    /// The upload stops until someone or something acts.
    Park(ParkReason),
    /// The source is another version: this upload ends.
    SourceChanged,
    /// The platform does not know the remote upload.
    Gone,
    /// The platform would not put the parts together.
    CompleteRefused,
    /// The platform would put larger parts together.
    LargerParts,
    /// The part is too large for something on the way.
    SmallerParts,
    /// What was begun is given up for another one.
    Anew,
    /// The name is taken: the policy for names decides.
    NameTaken,
    /// Nothing: the daemon stops.
    Nothing,
}

/// What an answer says of the destination that gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// It takes our calls, whatever it said of this one.
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
    /// Nothing: the failure is ours.
    Nothing,
}

/// A window has the answers of so long, and [`WINDOW_ANSWERS`] of them: what a storage that is overloaded
/// for seconds refuses is no outage.
const WINDOW: Duration = Duration::from_secs(30);
/// Of a destination that refuses one request in two, so many in a row are refused once in a million times.
const WINDOW_ANSWERS: u32 = 20;
/// One or two uploads that back off make no [`WINDOW_ANSWERS`] in that time: [`SEVERAL`] failures are
/// enough then.
const WINDOW_MAX: Duration = Duration::from_mins(1);
/// One failure is a request's own misfortune, and a balancer with one dead server shows two in a row.
pub(crate) const SEVERAL: u32 = 3;
/// The same refusal of the same step so often, over [`REFUSALS_TIME`] at least, does not pass by itself.
const REFUSALS_MAX: u32 = 5;
/// Rights that were just given, and keys that were just made, take some minutes to be known everywhere.
const REFUSALS_TIME: Duration = Duration::from_mins(10);
/// Maintenance takes minutes at least.
const MAINTENANCE_PAUSE: Duration = Duration::from_mins(5);
/// A credential that is refused is tried again after a second, for some storages refuse a good one now
/// and then; and no more often than every five minutes where it goes on, for accounts are locked for that.
const CREDENTIAL_RETRY: RetrySettings =
    RetrySettings { delay_min: Duration::from_secs(1), delay_max: Duration::from_mins(5) };
/// So many parts are sent in vain, or as much as the file has, before a step that fails is tried another way.
const VAIN_PARTS: u64 = 4;
/// After a control request that passed, the next refusals of objects are theirs alone for that long, unless
/// [`SEVERAL`] come with nothing that passes between them.
pub(crate) const CONTROL_HOLDS: Duration = Duration::from_secs(30);
/// Uploads that were begun and wait to be tried again leave their places to others, up to so many: each
/// may have parts at the far side that cost money, and is held in memory.
pub(crate) const WAITING_MAX: usize = 1000;
/// What passes by itself is tried at least this often: it may be mended at any time, and each try of a
/// failing disk may take it seconds.
pub(crate) const LONG_DELAY_MAX: Duration = Duration::from_hours(1);

/// Turns a failure into what follows from it for its upload.
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

/// Turns a failure into what it says of its destination.
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

/// Returns whether a failure is one that a closed destination waits out: what was tried goes again when
/// it opens.
pub(crate) fn is_of_destination(kind: FailureKind) -> bool {
    match evidence(kind) {
        Evidence::Request(_)
        | Evidence::Nobody
        | Evidence::Pause(..)
        | Evidence::CredentialRefused => true,
        Evidence::Answers | Evidence::Doubt | Evidence::Nothing => false,
    }
}

/// The failures of a destination since it last took a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    since: Option<Monotonic>,
    count: u32,
    /// How many of the last ones found nobody there.
    nobody_count: u32,
    /// How often it was closed.
    closed_count: u32,
}

impl Failures {
    /// Counts a failure; tells whether they are every request of a window.
    pub(crate) fn add(&mut self, is_nobody: bool, now: Monotonic) -> bool {
        let lasted = now.since(*self.since.get_or_insert(now));
        self.count = self.count.saturating_add(1);
        self.nobody_count = if is_nobody { self.nobody_count.saturating_add(1) } else { 0 };
        let is_window = lasted >= WINDOW && self.count >= WINDOW_ANSWERS;
        let is_long = lasted >= WINDOW_MAX && self.count >= SEVERAL;
        is_window || is_long || self.nobody_count >= SEVERAL
    }

    /// Notes that the destination is closed; returns for how long, where no pause is asked for.
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

/// The failed tries of one upload since it last went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standstill {
    what: Option<(&'static str, FailureKind)>,
    since: Monotonic,
    count: u32,
    in_vain: u64,
    way: Way,
}

/// How a step is tried that fails the same way again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Same,
    /// After the platform was asked what it has.
    Asked,
    /// In an upload that is begun anew, with parts of half the size where the platform takes such.
    Anew,
    /// There is no other way left.
    Last,
}

/// A try that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FailedTry {
    pub(super) step: &'static str,
    pub(super) kind: FailureKind,
    pub(super) sent: u64,
    pub(super) part_size: u64,
    pub(super) file_size: u64,
}

impl Standstill {
    /// Nothing failed.
    pub(crate) const NONE: Self =
        Self { what: None, since: Monotonic(Duration::ZERO), count: 0, in_vain: 0, way: Way::Same };

    /// Counts a try; returns the way in which the step is tried from here on, where that is another one.
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

/// Returns how long to wait for what passes by itself: a file whose storage fails, a bucket that is not
/// there yet, a quota.
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

    /// Fails every so many seconds; returns when each other way was turned to.
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

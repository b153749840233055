//! The one policy of retries: a failure and what has been tried before, in; what to do, out.
//!
//! Nobody else decides whether something is tried again: no client, no worker, no call site. The
//! table is by [`FailureKind`] alone; text is for people. Delays are exponential with full jitter
//! between a tenth of the ceiling and the ceiling, from a seed made of upload, part and attempt, so
//! that a simulation repeats and a herd does not march in step. There is no last attempt: an outage
//! is retried for as long as it lasts.

use std::time::Duration;

use super::settings::RetrySettings;
use crate::model::failure::PAUSE_MAX;
use crate::model::{DestinationState, FailureKind, ParkReason};

/// What a failure leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// The same act again, after a delay from [`delay`].
    Again,
    /// The destination takes nothing for a while; the act is tried again when it does.
    Close(Closing),
    /// The upload stops until someone or something acts.
    Park(ParkReason),
    /// The source is another version: this upload ends.
    SourceChanged,
    /// The platform does not know the remote upload.
    Gone,
    /// The platform would not put the parts together.
    Refused,
    /// The platform would put larger parts together.
    LargerParts,
    /// The name is taken: the policy for names decides.
    NameTaken,
    /// Nothing: the daemon stops.
    Nothing,
}

/// Why and how long a destination takes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closing {
    /// What `status` calls it.
    pub(super) state: DestinationState,
    /// How long, where the kind of failure says so. Else the failure may be the request's alone: it closes
    /// the destination only when the one before it failed as well, and for an exponential delay.
    pub(super) pause: Option<Duration>,
}

/// How often a refused credential or a platform under maintenance is tried again.
const HALT_PAUSE: Duration = Duration::from_mins(5);

/// A file whose storage fails is read again at least this often: it may be mended at any time, and each
/// try of a failing disk may take it seconds.
pub(crate) const SOURCE_DELAY_MAX: Duration = Duration::from_hours(1);

/// Turns a failure into what follows from it.
pub(crate) fn judge(kind: FailureKind) -> Remedy {
    use DestinationState::{Halted, Throttled, Unreachable};
    let close = |state, pause| Remedy::Close(Closing { state, pause });
    match kind {
        FailureKind::Unreachable => close(Unreachable, None),
        FailureKind::Throttled { after } => {
            close(Throttled, after.map(|pause| pause.min(PAUSE_MAX)))
        }
        FailureKind::Maintenance | FailureKind::Unauthorized => close(Halted, Some(HALT_PAUSE)),
        FailureKind::TimedOut
        | FailureKind::ServerFault
        | FailureKind::BadAnswer
        | FailureKind::PartRejected
        | FailureKind::SourceAway
        | FailureKind::SourceFailing
        | FailureKind::LocalFault => Remedy::Again,
        FailureKind::Forbidden => Remedy::Park(ParkReason::Forbidden),
        FailureKind::NotFound => Remedy::Park(ParkReason::TargetMissing),
        FailureKind::Damaged => Remedy::Park(ParkReason::PartCorrupt),
        FailureKind::Quota => Remedy::Park(ParkReason::Quota),
        FailureKind::BadRequest => Remedy::Park(ParkReason::BadRequest),
        FailureKind::SourceGone => Remedy::Park(ParkReason::SourceMissing),
        FailureKind::SourceUnreadable => Remedy::Park(ParkReason::SourceUnreadable),
        FailureKind::SourceChanged => Remedy::SourceChanged,
        FailureKind::UploadGone | FailureKind::AlreadyCompleted => Remedy::Gone,
        FailureKind::CompleteRefused => Remedy::Refused,
        FailureKind::PartsTooSmall => Remedy::LargerParts,
        FailureKind::NameTaken => Remedy::NameTaken,
        FailureKind::Cancelled => Remedy::Nothing,
    }
}

/// Returns why a failure of this kind closes its destination, when it does.
pub(crate) fn closing(kind: FailureKind) -> Option<Closing> {
    if let Remedy::Close(closing) = judge(kind) { Some(closing) } else { None }
}

/// Returns how long to wait before attempt `attempt` (the first retry is 1).
pub(crate) fn delay(settings: RetrySettings, attempt: u32, seed: u64) -> Duration {
    let doubled = settings.delay_min.saturating_mul(1 << attempt.saturating_sub(1).min(20));
    let ceiling = doubled.min(settings.delay_max);
    let floor = ceiling / 10;
    let span = u64::try_from((ceiling - floor).as_nanos()).unwrap_or(u64::MAX);
    floor + Duration::from_nanos(if span == 0 { 0 } else { mix(seed, attempt) % span })
}

/// Returns how long to wait before a file whose storage fails is read again.
pub(crate) fn source_delay(settings: RetrySettings, attempt: u32, seed: u64) -> Duration {
    delay(RetrySettings { delay_max: SOURCE_DELAY_MAX, ..settings }, attempt, seed)
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
}

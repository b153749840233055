//! The cures for a destination that refuses us.

use crate::model::{Code, FailureKind, ParkReason};

/// Returns the cure for a destination that refuses us; `file` has its credential.
pub(super) fn of_access(kind: FailureKind, host: &str, file: &str) -> String {
    match kind {
        FailureKind::Unauthorized => format!(
            "write a valid credential into {file} (chmod 600); the daemon takes it up by itself"
        ),
        FailureKind::Forbidden => of_parked(ParkReason::Forbidden),
        FailureKind::NotFound => of_parked(ParkReason::TargetMissing),
        FailureKind::BadAnswer => format!(
            "somebody else answers for {host}, such as a portal or a filter: have {host} let through, \
             or correct base_url"
        ),
        FailureKind::Quota => of_parked(ParkReason::Quota),
        FailureKind::Throttled { .. } | FailureKind::Maintenance | FailureKind::ServerFault => {
            "wait: the daemon tries again by itself".into()
        }
        FailureKind::Unreachable | FailureKind::Broken | FailureKind::TimedOut => {
            format!("let this machine reach {host}: a firewall, a proxy or a cable is in the way")
        }
        FailureKind::Damaged => "remove the damaged file there, and retry".into(),
        FailureKind::UploadGone
        | FailureKind::AlreadyCompleted
        | FailureKind::NameTaken
        | FailureKind::PartRejected
        | FailureKind::CompleteRefused
        | FailureKind::PartsTooSmall
        | FailureKind::PartTooLarge
        | FailureKind::BadRequest
        | FailureKind::SourceChanged
        | FailureKind::SourceGone
        | FailureKind::SourceUnreadable
        | FailureKind::SourceAway
        | FailureKind::SourceFailing
        | FailureKind::LocalFault
        | FailureKind::Cancelled => "correct what the message names in [destinations.NAME]".into(),
    }
}

/// Returns the cure for a problem that would park an upload there.
fn of_parked(reason: ParkReason) -> String {
    Code::Parked(reason).cure().unwrap_or_default().to_owned()
}

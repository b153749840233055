//! What to do about what stopped.

use crate::model::{FailureKind, ParkReason};

/// Returns the cure of a parked upload.
pub(super) fn of_parked(reason: ParkReason) -> &'static str {
    match reason {
        ParkReason::NameTaken => {
            "look at the file there; take it away, or set when_name_taken = \"rename\" or \"overwrite\""
        }
        ParkReason::PlaceTakenByOurs => {
            "tell the drop directories apart with {drop} in folder or prefix, or set \
             when_name_taken = \"rename\"; then: dropferry retry ID"
        }
        ParkReason::SourceMissing => "put the file back, or give the upload up",
        ParkReason::SourceUnreadable => "let the daemon's user read the file",
        ParkReason::Forbidden => {
            "give the credential's owner the right to write there, or use another credential"
        }
        ParkReason::TargetMissing => {
            "make the project, folder or bucket, or correct it in [destinations.NAME]"
        }
        ParkReason::BadRequest => "read the message: dropferry show ID; it names what is refused",
        ParkReason::TooLarge => "split the file, or send it to a platform that takes such sizes",
        ParkReason::NameNotAllowed => "rename the file",
        ParkReason::PartCorrupt => {
            "read the message: dropferry show ID. Something on the way or there changes bytes: look at \
             network cards, proxies, memory and the storage, then retry"
        }
        ParkReason::CompleteRefused => {
            "read the message: dropferry show ID; ask the platform's support with its request id"
        }
        ParkReason::SizeDiffers | ParkReason::ContentDiffers => {
            "do not use the file there: take it away, so that it can be sent again"
        }
        ParkReason::CompletionUnknown => {
            "look whether the file is there, whole; if it is not, the upload may be retried"
        }
        ParkReason::ExportRefused => {
            "look at the job: dropferry exports; correct the volume's credentials or the prefix"
        }
        ParkReason::Quota => "make room there, or have the quota raised or the bill paid",
        ParkReason::RestartedTooOften => {
            "ask the platform's support why it loses uploads: dropferry show ID has the request ids"
        }
        ParkReason::NotConfigured => {
            "put the drop or the destination back into the configuration, or give the upload up"
        }
        ParkReason::CannotBeStored => {
            "dropferry show ID names the value; correct the file or the platform it comes from, then retry"
        }
        ParkReason::Bug => "please report it with the log",
    }
}

/// Returns the cure of a destination that does not let us in; `file` holds its credential.
pub(super) fn of_access(kind: FailureKind, host: &str, file: &str) -> String {
    match kind {
        FailureKind::Unauthorized => format!(
            "write a valid credential into {file} (chmod 600); the daemon takes it up by itself"
        ),
        FailureKind::Forbidden => {
            "give the credential's owner the right to write there, or use another credential".into()
        }
        FailureKind::NotFound => {
            "make the project, folder or bucket, or correct it in [destinations.NAME]".into()
        }
        FailureKind::BadAnswer => format!(
            "somebody else answers for {host}, such as a portal or a filter: have {host} let through, \
             or correct base_url"
        ),
        FailureKind::Quota => "make room there, or have the quota raised or the bill paid".into(),
        FailureKind::Throttled { .. } | FailureKind::Maintenance | FailureKind::ServerFault => {
            "wait: the daemon tries again by itself".into()
        }
        FailureKind::Unreachable | FailureKind::TimedOut => {
            format!("let this machine reach {host}: a firewall, a proxy or a cable is in the way")
        }
        FailureKind::Damaged => "remove the damaged file there, and retry".into(),
        FailureKind::UploadGone
        | FailureKind::AlreadyCompleted
        | FailureKind::NameTaken
        | FailureKind::PartRejected
        | FailureKind::CompleteRefused
        | FailureKind::PartsTooSmall
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

//! The meaning of an S3 storage's answers: pure functions, one table.
//!
//! The error's `<Code>` decides, then the HTTP status. A complete is judged by its body alone,
//! because its status is sent before its outcome is known.

use super::wire;
use crate::model::{Failure, FailureKind, WallTime};
use crate::platform::answer::{answered, clip, page, patience, retry_after};
use crate::platform::http::Response;

/// The call of an answer, as far as the answer's meaning depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum S3Call {
    Create,
    /// Anything about one upload in progress, except the list of its parts.
    Upload,
    Parts,
    Complete,
    /// Sending a file of one part.
    PutObject,
    /// A HEAD of an object: its answers have no body.
    Head,
    /// A GET of an object: the body of a success is its content.
    Get,
    General,
}

impl S3Call {
    /// Returns whether the call may carry a condition.
    pub(super) fn is_conditional(self) -> bool {
        matches!(self, Self::Complete | Self::PutObject)
    }

    /// Returns whether the call sends bytes of a file.
    fn has_bytes(self) -> bool {
        matches!(self, Self::Upload | Self::PutObject)
    }

    /// Returns its name for people, with the permission it needs.
    fn noun(self) -> &'static str {
        match self {
            Self::Create => "to begin an upload (s3:PutObject)",
            Self::Upload => "a call about the upload",
            Self::Parts => "to list the parts (s3:ListMultipartUploadParts)",
            Self::Complete => "to complete the upload",
            Self::PutObject => "the object (s3:PutObject)",
            Self::Head | Self::Get => "to show the object (s3:GetObject)",
            Self::General => "the call (s3:ListBucketMultipartUploads)",
        }
    }
}

/// Returns the failure of an answer; `None` when it is a success.
pub(super) fn refusal(call: S3Call, response: &Response, now: WallTime) -> Option<Failure> {
    if call == S3Call::Get && (200..300).contains(&response.status) {
        return None;
    }
    let error = wire::error(&response.body);
    if (200..300).contains(&response.status) && error.is_none() {
        return is_html(&response.body).then(|| page(response));
    }
    let kind = kind_of(call, response, error.as_ref(), now);
    let message = message(call, response, error.as_ref());
    Some(answered(response, kind, message))
}

/// Returns whether the storage may refuse something unsupported in the request.
pub(super) fn is_of_the_unknown(response: &Response) -> bool {
    let code = || wire::error(&response.body).map_or_else(String::new, |error| error.code);
    let general = ["", "NotImplemented", "InvalidArgument", "InvalidRequest", "BadRequest"];
    match response.status {
        501 => true,
        400 => general.contains(&code().as_str()),
        _ => false,
    }
}

fn is_html(body: &[u8]) -> bool {
    let start: Vec<u8> =
        body.trim_ascii_start().iter().take(9).map(u8::to_ascii_lowercase).collect();
    start.starts_with(b"<html") || start.starts_with(b"<!doctype")
}

fn message(call: S3Call, response: &Response, error: Option<&wire::Error>) -> String {
    let region = response.header("x-amz-bucket-region");
    let region = region.or_else(|| error.and_then(|error| error.region.as_deref()));
    if let (301 | 307 | 400, Some(region)) = (response.status, region) {
        return format!("the bucket is in region {}: set region and base_url", clip(region));
    }
    match (error, response.status) {
        (_, 300..=399) => {
            "the storage's address leads elsewhere: base_url or region is wrong".to_owned()
        }
        (_, 407) => "the proxy asks for credentials".to_owned(),
        (Some(error), _) => {
            let said = clip(&error.message);
            format!("the storage refused {}: {} {said}", call.noun(), clip(&error.code))
        }
        (None, _) => format!("the storage refused {}", call.noun()),
    }
}

fn kind_of(
    call: S3Call,
    response: &Response,
    error: Option<&wire::Error>,
    now: WallTime,
) -> FailureKind {
    let code = error.map_or("", |error| error.code.as_str());
    let is_foreign = error.is_none() && !response.body.trim_ascii().is_empty();
    let is_expired = error.is_some_and(|error| error.message.contains("expired"));
    let after = retry_after(response, now);
    let slower = || FailureKind::Throttled { after };
    match (response.status, code) {
        (_, "SlowDown" | "ServiceUnavailable" | "TooManyRequests" | "RequestLimitExceeded") => {
            slower()
        }
        (_, code) if code.contains("Throttling") => slower(),
        // Its answer has no body that could say so.
        (503, _) if call == S3Call::Head => slower(),
        (status, _) if let Some(kind) = patience(status, after) => kind,
        (_, "NoSuchUpload") => FailureKind::UploadGone,
        (_, "InvalidPart" | "InvalidPartOrder") => FailureKind::CompleteRefused,
        (413, _) | (_, "EntityTooLarge") if call.has_bytes() => FailureKind::PartTooLarge,
        (_, "EntityTooSmall") if call == S3Call::Complete => FailureKind::PartsTooSmall,
        (_, "PreconditionFailed") | (412, _) => FailureKind::NameTaken,
        (_, "ConditionalRequestConflict") if call == S3Call::Complete => FailureKind::NameTaken,
        (_, "NoSuchBucket") => FailureKind::NotFound,
        // The object to be replaced does not exist.
        (404, "NoSuchKey") if call.is_conditional() => FailureKind::NameTaken,
        (_, "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody") => {
            FailureKind::PartRejected
        }
        (403, "AccessDenied") if is_expired => FailureKind::ServerFault,
        // This very answer corrects the time; a signature is never used twice.
        (_, "RequestTimeTooSkewed" | "RequestTimeout" | "OperationAborted" | "InternalError")
        | (409, "ConditionalRequestConflict") => FailureKind::ServerFault,
        (_, "QuotaExceeded" | "EntityTooLarge" | "TooManyParts") | (507, _) => match code {
            "EntityTooLarge" | "TooManyParts" => FailureKind::BadRequest,
            _ => FailureKind::Quota,
        },
        (407, _) => FailureKind::Unreachable,
        (501, _) => FailureKind::BadRequest,
        (500..=599, _) => FailureKind::ServerFault,
        (400..=499, _) if is_foreign => FailureKind::BadAnswer,
        (400 | 401 | 403, code) if is_of_credential(code) => FailureKind::Unauthorized,
        (301 | 401, _)
        | (400, "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            FailureKind::Unauthorized
        }
        // A new bucket redirects until its name is known everywhere.
        (307, _) => FailureKind::ServerFault,
        (403, _) => FailureKind::Forbidden,
        (404, _) if call == S3Call::Upload || call == S3Call::Complete => FailureKind::UploadGone,
        (404, _) => FailureKind::NotFound,
        (400..=499, _) => FailureKind::BadRequest,
        _ => FailureKind::BadAnswer,
    }
}

/// Returns whether a code concerns the credential, and not the requested object.
fn is_of_credential(code: &str) -> bool {
    matches!(
        code,
        "ExpiredToken"
            | "TokenRefreshRequired"
            | "InvalidToken"
            | "InvalidAccessKeyId"
            | "InvalidClientTokenId"
            | "InvalidSecurity"
            | "UnrecognizedClientException"
            | "AccountProblem"
            | "AllAccessDisabled"
            | "NotSignedUp"
            | "UserSuspended"
    )
}

//! Signature Version 4, in the query and in a header, as the storage checks it.

use axum::http::HeaderMap;
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::REGION;
use crate::sandbox::digits::hex;

/// A request with a larger time difference is refused.
const SKEW_MAX_S: i64 = 15 * 60;

/// The signed parts of a request.
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    /// As received, escaped.
    pub(super) path: &'a str,
    /// As received, without the question mark.
    pub(super) query: &'a str,
    pub(super) headers: &'a HeaderMap,
}

/// Why a request is refused: code and message.
pub(super) type Refusal = (&'static str, &'static str);

/// Checks a request's signature against the one access key.
pub(super) fn check(
    request: &Signed<'_>,
    access_key: &str,
    secret: &str,
    now: i64,
) -> Result<(), Refusal> {
    let pairs = pairs(request.query);
    let of = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    if of("X-Amz-Algorithm").is_some() {
        if request.headers.contains_key("authorization") {
            return Err(("InvalidArgument", "Only one auth mechanism allowed"));
        }
        let credential = of("X-Amz-Credential").unwrap_or_default();
        let date = of("X-Amz-Date").unwrap_or_default();
        let life: i64 = of("X-Amz-Expires").and_then(|text| text.parse().ok()).unwrap_or(0);
        let names = of("X-Amz-SignedHeaders").unwrap_or_default();
        let given = of("X-Amz-Signature").unwrap_or_default();
        let at = seconds(&date).ok_or(("AccessDenied", "Invalid date"))?;
        if now > at + life {
            return Err(("AccessDenied", "Request has expired"));
        }
        if at > now + SKEW_MAX_S {
            return Err(("AccessDenied", "Request is not valid yet"));
        }
        refuse_unsigned(request.headers, &names)?;
        let scope = Scope { credential: &credential, date: &date, names: &names, given: &given };
        return verify(request, &pairs, "UNSIGNED-PAYLOAD", &scope, (access_key, secret));
    }
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let authorization = header("authorization").ok_or(("AccessDenied", "Access Denied"))?;
    let field = |name: &str| {
        let (_, rest) = authorization.split_once(&format!("{name}="))?;
        rest.split([',', ' ']).next()
    };
    let date = header("x-amz-date").unwrap_or_default();
    let at = seconds(date).ok_or(("AccessDenied", "Invalid date"))?;
    if (now - at).abs() > SKEW_MAX_S {
        return Err(("RequestTimeTooSkewed", "The difference between the clocks is too large"));
    }
    let scope = Scope {
        credential: field("Credential").unwrap_or_default(),
        date,
        names: field("SignedHeaders").unwrap_or_default(),
        given: field("Signature").unwrap_or_default(),
    };
    let payload = header("x-amz-content-sha256").unwrap_or("UNSIGNED-PAYLOAD");
    verify(request, &pairs, payload, &scope, (access_key, secret))
}

/// A request's own statement about its signature.
struct Scope<'a> {
    credential: &'a str,
    date: &'a str,
    names: &'a str,
    given: &'a str,
}

fn refuse_unsigned(headers: &HeaderMap, names: &str) -> Result<(), Refusal> {
    let signed: Vec<_> = names.split(';').collect();
    let unsigned = headers
        .keys()
        .any(|name| name.as_str().starts_with("x-amz-") && !signed.contains(&name.as_str()));
    match unsigned {
        true => Err(("AccessDenied", "There were headers present which were not signed")),
        false => Ok(()),
    }
}

fn verify(
    request: &Signed<'_>,
    pairs: &[(String, String)],
    payload: &str,
    scope: &Scope<'_>,
    (access_key, secret): (&str, &str),
) -> Result<(), Refusal> {
    let parts: Vec<_> = scope.credential.split('/').collect();
    let [key, day, region, "s3", "aws4_request"] = parts[..] else {
        return Err(("AuthorizationQueryParametersError", "Malformed credential"));
    };
    if key != access_key {
        return Err(("InvalidAccessKeyId", "The access key does not exist"));
    }
    if region != REGION {
        return Err(("AuthorizationHeaderMalformed", "The region is wrong"));
    }
    let mut query: Vec<_> = pairs.iter().filter(|(name, _)| name != "X-Amz-Signature").collect();
    query.sort();
    let query: Vec<_> =
        query.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    let mut canonical = format!("{}\n{}\n{}\n", request.method, request.path, query.join("&"));
    for name in scope.names.split(';') {
        let values: Vec<_> = request.headers.get_all(name).iter().collect();
        let values: Vec<_> = values.iter().filter_map(|value| value.to_str().ok()).collect();
        let value = values.join(",").split_whitespace().collect::<Vec<_>>().join(" ");
        canonical.push_str(&format!("{name}:{value}\n"));
    }
    canonical.push_str(&format!("\n{}\n{payload}", scope.names));
    let digest = hex(&Sha256::digest(canonical));
    let text =
        format!("AWS4-HMAC-SHA256\n{}\n{day}/{region}/s3/aws4_request\n{digest}", scope.date);
    let mut signing_key = format!("AWS4{secret}").into_bytes();
    for step in [day, region, "s3", "aws4_request"] {
        signing_key = hmac(&signing_key, step);
    }
    match hex(&hmac(&signing_key, &text)) == scope.given {
        true => Ok(()),
        false => Err(("SignatureDoesNotMatch", "The signature does not match")),
    }
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Parses a time such as `20261121T070000Z` to seconds since 1970.
fn seconds(text: &str) -> Option<i64> {
    let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(civil.to_zoned_datetime(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// Returns the pairs of a query; a plus sign is literal, as at AWS.
pub(super) fn pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unescape(name), unescape(value))
    });
    pairs.collect()
}

/// Decodes `%XX`.
pub(super) fn unescape(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Characters that are not escaped for signing.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(super) fn escape(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

//! Addresses and header lines from a platform or the operator: which are accepted.
//!
//! *Promises*: bytes of a file are sent without TLS only to this machine, and only if the destination itself is on
//! it, or to a storage for which the operator allows plain HTTP; an address contains no user, which would be sent
//! as an authorisation; a platform sets no header line that authenticates or that concerns the connection.

use reqwest::Url;
use reqwest::header::HeaderMap;

use super::{HEADER_BYTES_MAX, HEADER_COUNT_MAX, header_map};
use crate::model::{ByteCount, Failure, FailureKind};

/// Names, in lower case, of lines that a platform may not set. Nor may it set any that begins with
/// `proxy-`.
const OURS: [&str; 10] = [
    "authorization",
    "connection",
    "cookie",
    "cookie2",
    "expect",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Signed addresses with a token in them have a few kilobytes.
const ADDRESS_MAX: usize = 16 * 1024;

fn bad(why: impl Into<String>) -> Failure {
    Failure::new(FailureKind::BadAnswer, why)
}

/// Parses an address from a platform or the operator.
///
/// # Errors
/// `BadAnswer` when it is invalid, or neither `https` nor on this machine.
pub(crate) fn parse_url(text: &str) -> Result<Url, Failure> {
    let bad = |why| Failure::new(FailureKind::BadAnswer, why);
    let url = Url::parse(text).map_err(|_| bad("the address is not a URL"))?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(bad("the address is neither https nor on this machine")),
    }
}

/// Returns the canonical form of an address; an invalid one unchanged.
pub(crate) fn canonical_url(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else { return text.to_owned() };
    url.set_query(None);
    url.set_fragment(None);
    url.as_str().trim_end_matches('/').to_owned()
}

/// Returns whether an address is on this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

/// Parses the configured address of a platform or a storage.
///
/// # Errors
/// As [`parse_url`], except for plain HTTP to another machine where the operator allows it; and
/// when it contains a user.
pub(crate) fn base_url(text: &str, allows_plain_http: bool) -> Result<Url, Failure> {
    // The parser drops line breaks silently, and clients limit the length of an address.
    if text.len() > ADDRESS_MAX || text.trim().contains(|c: char| c.is_control() || c == ' ') {
        return Err(bad("the address is not a URL"));
    }
    let plain = Url::parse(text).ok().filter(|url| allows_plain_http && url.scheme() == "http");
    let url = plain.map_or_else(|| parse_url(text), Ok)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(bad("the address holds a user name or a password"));
    }
    Ok(url)
}

/// Parses the address of a part, from the platform at `base`.
///
/// # Errors
/// As [`base_url`]; and when it leads from `https` to plain HTTP, or from another machine to this one.
pub(crate) fn part_url(text: &str, base: &Url) -> Result<Url, Failure> {
    let url = base_url(text, false)?;
    match (is_loopback(&url), is_loopback(base)) {
        (true, false) => Err(bad("the platform leads the part to this machine, where it is not")),
        _ if url.scheme() == "http" && base.scheme() != "http" => {
            Err(bad("the platform leads the part from https to plain http"))
        }
        _ => Ok(url),
    }
}

/// Builds the header lines that a platform requires for `length` bytes to `url`. Those that the
/// request has anyway are left out.
///
/// # Errors
/// `BadAnswer` when they are too many, name another host or length, authenticate, or concern the
/// connection. Values are not repeated, because they may be secret.
pub(crate) fn prescribed_headers<'a>(
    lines: impl Iterator<Item = (&'a str, &'a str)>,
    url: &Url,
    length: ByteCount,
) -> Result<HeaderMap, Failure> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    for (name, value) in lines {
        bytes += name.len() + value.len();
        if taken.len() == HEADER_COUNT_MAX || bytes > HEADER_BYTES_MAX {
            return Err(bad("the platform prescribes more header lines than any part needs"));
        }
        let lower = name.trim().to_ascii_lowercase();
        let is_said_anyway = match lower.as_str() {
            "host" => Some(is_host(value.trim(), url)),
            "content-length" => Some(value.trim() == length.0.to_string()),
            name if OURS.contains(&name) || name.starts_with("proxy-") => Some(false),
            _ => None,
        };
        match is_said_anyway {
            None => taken.push((name, value)),
            Some(true) => {}
            Some(false) => {
                return Err(bad(format!("the platform prescribes a header that is ours: {lower}")));
            }
        }
    }
    header_map(taken.into_iter())
}

fn is_host(value: &str, url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    value.eq_ignore_ascii_case(&format!("{host}:{port}"))
        || (url.port().is_none() && value.eq_ignore_ascii_case(host))
}

/// Returns whether header lines are within the limits of any server.
pub(super) fn is_bounded(headers: &HeaderMap) -> bool {
    let bytes = headers.iter().map(|(name, value)| name.as_str().len() + value.len());
    headers.len() <= HEADER_COUNT_MAX && bytes.sum::<usize>() <= HEADER_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect("a URL")
    }

    #[test]
    fn a_part_leads_to_this_machine_or_into_the_clear_only_where_the_platform_is_so_itself() {
        let (far, near) = (url("https://far.example/v2"), url("http://127.0.0.1:8080/v2"));
        let secure_near = url("https://localhost:8443/v2");
        for (text, far_takes, near_takes, secure_takes) in [
            ("https://storage.example/x?sig=1", true, true, true),
            ("http://127.0.0.1:9/x", false, true, false),
            ("http://[::1]:9/x", false, true, false),
            ("https://localhost:9/x", false, true, true),
            ("http://storage.example/x", false, false, false),
            ("https://us:er@storage.example/x", false, false, false),
            ("https://us@storage.example/x", false, false, false),
            ("http://:p@127.0.0.1/x", false, false, false),
            ("file:///x", false, false, false),
            ("https://storage.example/a\r\nX-Evil: 1", false, false, false),
            (&format!("https://storage.example/{}", "x".repeat(20_000)), false, false, false),
        ] {
            assert_eq!(part_url(text, &far).is_ok(), far_takes, "{text}");
            assert_eq!(part_url(text, &near).is_ok(), near_takes, "{text}");
            assert_eq!(part_url(text, &secure_near).is_ok(), secure_takes, "{text}");
        }
        assert!(base_url("https://user:planted@far.example", true).is_err());
        for (text, allowed) in [
            ("http://minio.lab:9000", true),
            ("http://10.0.0.5:9000/x", true),
            ("ftp://minio.lab", false),
            ("http://user:planted@minio.lab", false),
        ] {
            assert!(base_url(text, false).is_err(), "{text}");
            assert_eq!(base_url(text, true).is_ok(), allowed, "{text}");
        }
    }

    #[test]
    fn a_platform_prescribes_no_line_that_is_ours() {
        let to = url("https://storage.example/x");
        let headers = |name: &str, value: &str| {
            prescribed_headers([(name, value)].into_iter(), &to, ByteCount(5))
        };
        for (name, value) in [
            ("Host", "metadata.internal"),
            ("host", "storage.example:444"),
            ("Authorization", "planted"),
            ("Cookie", "planted"),
            ("Connection", "close"),
            ("Keep-Alive", "1"),
            ("Proxy-Authorization", "planted"),
            ("PROXY-Connection", "x"),
            ("Transfer-Encoding", "chunked"),
            ("TE", "trailers"),
            ("Upgrade", "h2c"),
            ("Expect", "100-continue"),
            ("Content-Length", "6"),
            ("Content-Length", "x"),
            ("bad name", "x"),
            ("x", "line\r\nbreak"),
        ] {
            let failure = headers(name, value).expect_err(name);
            assert_eq!(failure.kind, FailureKind::BadAnswer, "{name}");
            assert!(!failure.message.contains("planted"), "{failure}");
        }
        for (name, value) in
            [("Host", "Storage.Example"), ("host", "storage.example:443"), ("Content-Length", "5")]
        {
            assert!(headers(name, value).expect(name).is_empty(), "{name}");
        }
        assert_eq!(headers("x-amz-acl", "a b").expect("taken")["x-amz-acl"], "a b");
    }

    #[test]
    fn a_flood_of_prescribed_lines_is_refused() {
        let to = url("https://storage.example/x");
        let lines = |count: usize, length: usize| {
            let lines: Vec<_> = (0..count).map(|n| (format!("X{n}"), "v".repeat(length))).collect();
            let lines = lines.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            prescribed_headers(lines, &to, ByteCount(5)).map(|headers| headers.len())
        };
        assert_eq!(lines(64, 10), Ok(64));
        for (count, length) in [(65, 1), (33_000, 0), (1, 70_000), (64, 2000)] {
            let failure = lines(count, length).expect_err("a flood");
            assert_eq!(failure.kind, FailureKind::BadAnswer);
        }
    }
}

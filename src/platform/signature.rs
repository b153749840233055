//! AWS Signature Version 4, in header lines.
//!
//! Pure. Header lines, and not the query: policies may forbid a signature in an address
//! (`s3:authType`), and proxies log addresses. A request is signed just before it is sent, with the
//! keys and the time of that moment.

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, Url};
use sha2::{Digest, Sha256};

use super::credential::Keys;
use crate::model::{Hex, WallTime};

/// Replaces the digest of a body that is not part of the signature: TLS and the MD5 in a signed
/// header line protect it.
pub(super) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// The inputs of a signature.
#[derive(Debug)]
pub(super) struct Signing<'a> {
    /// As in its host name: `s3`, `sts`.
    pub(super) service: &'a str,
    pub(super) region: &'a str,
    pub(super) keys: &'a Keys,
    /// The server's time.
    pub(super) at: WallTime,
}

impl Signing<'_> {
    /// Returns the header lines of a request together with the signature's. Names are in lower
    /// case; the path and the query of the address are those of [`escaped`] and [`query`].
    pub(super) fn lines(
        &self,
        method: &Method,
        url: &Url,
        mut lines: Vec<(String, String)>,
        body_digest: &str,
    ) -> Vec<(String, String)> {
        let at = jiff::Timestamp::from_nanosecond(i128::from(self.at.0)).unwrap_or_default();
        let at = at.strftime("%Y%m%dT%H%M%SZ").to_string();
        let mut add = |name: &str, value: &str| lines.push((name.to_owned(), value.to_owned()));
        add("x-amz-date", &at);
        add("x-amz-content-sha256", body_digest);
        if let Some(session) = self.keys.session() {
            add("x-amz-security-token", session);
        }
        // The client writes it; here it is signed.
        add("host", &host(url));
        lines.sort();
        let names: Vec<_> = lines.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        let mut canonical =
            format!("{method}\n{}\n{}\n", url.path(), url.query().unwrap_or_default());
        for (name, value) in &lines {
            let value = value.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
            canonical.push_str(&format!("{name}:{value}\n"));
        }
        canonical.push_str(&format!("\n{names}\n{body_digest}"));
        let day = &at[..8];
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let digest = sha256(canonical.as_bytes());
        let text = format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{digest}");
        let mut key = format!("AWS4{}", self.keys.secret()).into_bytes();
        for step in [day, self.region, self.service, "aws4_request"] {
            key = hmac(&key, step);
        }
        let signature = hmac(&key, &text);
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            self.keys.access_key(),
            Hex(&signature)
        );
        lines.retain(|(name, _)| name != "host");
        lines.push(("authorization".to_owned(), authorization));
        lines
    }
}

/// Returns a digest in the form for signing.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Hex(&Sha256::digest(bytes)).to_string()
}

/// Characters that are not escaped for signing.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Escapes every byte with a meaning in an address.
pub(super) fn escaped(text: &str, keeps_slashes: bool) -> String {
    const PATH: &AsciiSet = &PLAIN.remove(b'/');
    utf8_percent_encode(text, if keeps_slashes { PATH } else { PLAIN }).to_string()
}

/// Writes a query, sorted by name.
pub(super) fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pair = |(name, value)| format!("{}={}", escaped(name, false), escaped(value, false));
    let mut pairs: Vec<_> = pairs.into_iter().map(pair).collect();
    pairs.sort();
    pairs.join("&")
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is a key");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documentation's example of a `GET` signed in its headers.
    #[test]
    fn a_request_is_signed_as_the_vendor_shows() {
        let keys = Keys::new(
            "AKIAIOSFODNN7EXAMPLE".into(),
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            None,
        );
        // 2013-05-24T00:00:00Z
        let at = WallTime(1_369_353_600_000_000_000);
        let signing = Signing { service: "s3", region: "us-east-1", keys: &keys, at };
        let url = Url::parse("https://examplebucket.s3.amazonaws.com/test.txt").expect("a URL");
        let range = vec![("range".to_owned(), "bytes=0-9".to_owned())];
        let lines = signing.lines(&Method::GET, &url, range, &sha256(b""));
        let (_, authorization) = lines.last().expect("lines");
        assert_eq!(
            authorization,
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        assert!(lines.iter().all(|(name, _)| name != "host"), "it is the client's to write");
    }

    #[test]
    fn a_query_is_sorted_and_escaped() {
        assert_eq!(
            query([("uploads", ""), ("prefix", "a b/+ü")]),
            "prefix=a%20b%2F%2B%C3%BC&uploads="
        );
        assert_eq!(escaped("a b/c", true), "a%20b/c");
    }
}

//! A request's head, as far as a storage looks at it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What came before the body.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without its first slash, decoded.
    pub(super) bucket: String,
    /// What follows the bucket, decoded; `None` for the bucket itself.
    pub(super) key: Option<String>,
    query: Vec<(String, String)>,
    /// Names in lower case.
    headers: Vec<(String, String)>,
}

impl Request {
    pub(super) fn parse(head: &str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = decoded(path.strip_prefix('/')?);
        let (bucket, key) = path.split_once('/').unwrap_or((&path, ""));
        let key = Some(key.to_owned()).filter(|key| !key.is_empty());
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        Some(Self {
            method,
            bucket: bucket.to_owned(),
            key,
            query: query.collect(),
            headers: lines.filter_map(header).collect(),
        })
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// What the client wants to find again at the object.
    pub(super) fn metadata(&self) -> Vec<(String, String)> {
        let is_meta = |(name, _): &&(String, String)| name.starts_with("x-amz-meta-");
        self.headers.iter().filter(is_meta).cloned().collect()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.parse().ok()
    }

    pub(super) fn content_length(&self) -> u64 {
        self.number("content-length").unwrap_or(0)
    }

    /// The body is in HTTP's own chunks.
    pub(super) fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|found| found.contains("chunked"))
    }

    /// The body is in chunks of the signature within HTTP's length.
    pub(super) fn is_aws_chunked(&self) -> bool {
        self.header("x-amz-decoded-content-length").is_some()
            && (self.header("content-encoding").is_some_and(|found| found.contains("aws-chunked"))
                || self
                    .header("x-amz-content-sha256")
                    .is_some_and(|found| found.starts_with("STREAMING-")))
    }

    pub(super) fn expects_continue(&self) -> bool {
        self.header("expect").is_some_and(|found| found.eq_ignore_ascii_case("100-continue"))
    }

    pub(super) fn closes(&self) -> bool {
        self.header("connection").is_some_and(|found| found.eq_ignore_ascii_case("close"))
    }

    pub(super) fn forbids_overwriting(&self) -> bool {
        self.header("if-none-match") == Some("*")
    }

    /// The MD5 that the client announces.
    pub(super) fn content_md5(&self) -> Option<[u8; 16]> {
        STANDARD.decode(self.header("content-md5")?).ok()?.try_into().ok()
    }
}

/// Takes `%41` for `A`, and leaves what is none as it is.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = (first == b'%').then(|| after.get(..2)).flatten();
        let byte = hex
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

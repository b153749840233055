//! What the server knows: objects by their keys, and uploads that are not complete.

use std::collections::BTreeMap;
use std::fmt::Write;

use md5::{Digest, Md5};

use super::body::Received;
use super::wire::Request;

/// The ETag of what was neither digested nor announced: no client takes it for an MD5.
const UNKNOWN: &str = "discarded-1";
/// Keys that one page of a list shows.
const PAGE: usize = 1000;

/// What is said to a request.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: &'static str,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Answer {
    fn ok(body: String) -> Self {
        Self { status: "200 OK", headers: Vec::new(), body }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    fn xml(name: &str, body: &str) -> Self {
        let text = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <{name} xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{body}</{name}>"
        );
        Self::ok(text).with("Content-Type", "application/xml")
    }

    fn error(status: &'static str, code: &str) -> Self {
        let body = format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>");
        Self { status, headers: Vec::new(), body }.with("Content-Type", "application/xml")
    }

    pub(super) fn json(value: &serde_json::Value) -> Self {
        Self::ok(value.to_string()).with("Content-Type", "application/json")
    }

    /// Says that bytes have come.
    pub(super) fn stored(etag: &str) -> Self {
        Self::ok(String::new()).with("ETag", format!("\"{etag}\""))
    }

    /// Tells whether the length is that of the body, and not a header of its own.
    pub(super) fn length_of_body(&self) -> bool {
        !self.headers.iter().any(|(name, _)| name == "Content-Length")
    }
}

#[derive(Debug)]
struct Object {
    size: u64,
    etag: String,
    modified: jiff::Timestamp,
    metadata: Vec<(String, String)>,
}

#[derive(Debug)]
struct Upload {
    key: String,
    begun: jiff::Timestamp,
    metadata: Vec<(String, String)>,
    /// Size and ETag by number.
    parts: BTreeMap<u32, (u64, String)>,
}

/// One bucket of any name.
#[derive(Debug, Default)]
pub(super) struct Objects {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, Upload>,
    upload_count: u64,
}

impl Objects {
    /// Returns how many objects there are, and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        let bytes = self.objects.values().map(|object| object.size).sum();
        (self.objects.len() as u64, bytes)
    }

    pub(super) fn answer(&mut self, request: &Request, received: &Received) -> Answer {
        let upload = request.query("uploadId");
        match (request.method.as_str(), request.key.as_deref(), upload) {
            ("PUT", Some(_), Some(upload)) => self.put_part(request, upload, received),
            ("PUT", Some(key), None) => self.put(request, key, received),
            ("POST", Some(key), None) if request.query("uploads").is_some() => {
                self.create(request, key)
            }
            ("POST", Some(_), Some(upload)) => self.complete(request, upload, &received.text),
            ("HEAD", Some(key), None) => self.look(key),
            ("GET", Some(key), None) if !self.objects.contains_key(key) => missing(),
            ("GET", Some(_), Some(upload)) => self.list_parts(upload),
            ("DELETE", Some(_), Some(upload)) => {
                self.uploads.remove(upload);
                Answer { status: "204 No Content", ..Answer::default() }
            }
            ("DELETE", Some(key), None) => {
                self.objects.remove(key);
                Answer { status: "204 No Content", ..Answer::default() }
            }
            ("GET", None, _) => self.about_bucket(request),
            ("HEAD" | "PUT", None, _) => Answer::ok(String::new()),
            _ => Answer::error("501 Not Implemented", "NotImplemented"),
        }
    }

    fn put(&mut self, request: &Request, key: &str, received: &Received) -> Answer {
        if request.forbids_overwriting() && self.objects.contains_key(key) {
            return Answer::error("412 Precondition Failed", "PreconditionFailed");
        }
        let Some(etag) = etag_of(request, received) else { return bad_digest() };
        let object = Object {
            size: received.length,
            etag: etag.clone(),
            modified: jiff::Timestamp::now(),
            metadata: request.metadata(),
        };
        self.objects.insert(key.to_owned(), object);
        Answer::stored(&etag)
    }

    fn create(&mut self, request: &Request, key: &str) -> Answer {
        self.upload_count += 1;
        let id = format!("upload-{}", self.upload_count);
        let upload = Upload {
            key: key.to_owned(),
            begun: jiff::Timestamp::now(),
            metadata: request.metadata(),
            parts: BTreeMap::new(),
        };
        self.uploads.insert(id.clone(), upload);
        let body = format!(
            "<Bucket>{}</Bucket><Key>{}</Key><UploadId>{id}</UploadId>",
            request.bucket,
            escaped(key)
        );
        Answer::xml("InitiateMultipartUploadResult", &body)
    }

    fn put_part(&mut self, request: &Request, upload: &str, received: &Received) -> Answer {
        let Some(etag) = etag_of(request, received) else { return bad_digest() };
        let number = request.query("partNumber").and_then(|text| text.parse().ok());
        let Some((upload, number)) = self.uploads.get_mut(upload).zip(number) else {
            return Answer::error("404 Not Found", "NoSuchUpload");
        };
        upload.parts.insert(number, (received.length, etag.clone()));
        Answer::stored(&etag)
    }

    fn complete(&mut self, request: &Request, id: &str, list: &str) -> Answer {
        let Some(upload) = self.uploads.get(id) else {
            return Answer::error("404 Not Found", "NoSuchUpload");
        };
        if request.forbids_overwriting() && self.objects.contains_key(&upload.key) {
            return Answer::error("412 Precondition Failed", "PreconditionFailed");
        }
        let named = list.matches("<PartNumber>").count();
        let is_named = |(_, etag): &(u64, String)| list.contains(etag.as_str());
        if named != upload.parts.len() || !upload.parts.values().all(is_named) {
            return Answer::error("400 Bad Request", "InvalidPart");
        }
        let Some(upload) = self.uploads.remove(id) else { return bad_digest() };
        let etag = etag_of_parts(upload.parts.values().map(|(_, etag)| etag.as_str()));
        let body = format!(
            "<Bucket>{}</Bucket><Key>{}</Key><ETag>&quot;{etag}&quot;</ETag>",
            request.bucket,
            escaped(&upload.key)
        );
        let object = Object {
            size: upload.parts.values().map(|(size, _)| size).sum(),
            etag,
            modified: jiff::Timestamp::now(),
            metadata: upload.metadata,
        };
        self.objects.insert(upload.key, object);
        Answer::xml("CompleteMultipartUploadResult", &body)
    }

    /// Says what is known of an object. Its bytes cannot be had, for none was kept.
    fn look(&self, key: &str) -> Answer {
        let Some(object) = self.objects.get(key) else {
            return missing();
        };
        let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
        let modified = printer.timestamp_to_rfc9110_string(&object.modified).unwrap_or_default();
        let mut answer = Answer::ok(String::new())
            .with("Content-Length", object.size.to_string())
            .with("Content-Type", "application/octet-stream")
            .with("ETag", format!("\"{}\"", object.etag))
            .with("Last-Modified", modified);
        answer.headers.extend(object.metadata.iter().cloned());
        answer
    }

    fn about_bucket(&self, request: &Request) -> Answer {
        if request.query("location").is_some() {
            return Answer::xml("LocationConstraint", "us-east-1");
        }
        if request.bucket.is_empty() {
            return Answer::xml("ListAllMyBucketsResult", "<Buckets></Buckets>");
        }
        if request.query("uploads").is_some() {
            return self.list_uploads(request.query("prefix").unwrap_or(""));
        }
        self.list(request)
    }

    fn list_uploads(&self, prefix: &str) -> Answer {
        let mut body = "<IsTruncated>false</IsTruncated>".to_owned();
        let found = self.uploads.iter().filter(|(_, upload)| upload.key.starts_with(prefix));
        for (id, upload) in found {
            write!(
                body,
                "<Upload><Key>{}</Key><UploadId>{id}</UploadId><Initiated>{:.3}</Initiated></Upload>",
                escaped(&upload.key),
                upload.begun
            )
            .ok();
        }
        Answer::xml("ListMultipartUploadsResult", &body)
    }

    fn list_parts(&self, id: &str) -> Answer {
        let Some(upload) = self.uploads.get(id) else {
            return Answer::error("404 Not Found", "NoSuchUpload");
        };
        let mut body = "<IsTruncated>false</IsTruncated>".to_owned();
        for (number, (size, etag)) in &upload.parts {
            write!(
                body,
                "<Part><PartNumber>{number}</PartNumber><ETag>&quot;{etag}&quot;</ETag>\
                 <Size>{size}</Size></Part>"
            )
            .ok();
        }
        Answer::xml("ListPartsResult", &body)
    }

    /// Lists one page of keys, and the directories among them where a delimiter is given.
    fn list(&self, request: &Request) -> Answer {
        let prefix = request.query("prefix").unwrap_or("");
        let delimiter = request.query("delimiter").unwrap_or("");
        let after = ["continuation-token", "start-after", "marker"];
        let after = after.iter().find_map(|name| request.query(name)).unwrap_or("");
        let (mut body, mut count, mut last, mut more) = (String::new(), 0, String::new(), false);
        let from = self.objects.range(prefix.to_owned()..);
        for (key, object) in from.take_while(|(key, _)| key.starts_with(prefix)) {
            let rest = &key[prefix.len()..];
            let end = rest.find(delimiter).filter(|_| !delimiter.is_empty());
            let entry = end.map_or(key.as_str(), |at| &key[..prefix.len() + at + delimiter.len()]);
            if entry <= after || entry == last {
                continue;
            }
            if count == PAGE {
                more = true;
                break;
            }
            (count, last) = (count + 1, entry.to_owned());
            let entry = escaped(entry);
            if end.is_some() {
                write!(body, "<CommonPrefixes><Prefix>{entry}</Prefix></CommonPrefixes>").ok();
                continue;
            }
            write!(
                body,
                "<Contents><Key>{entry}</Key><LastModified>{:.3}</LastModified><Size>{}</Size>\
                 <ETag>&quot;{}&quot;</ETag><StorageClass>STANDARD</StorageClass></Contents>",
                object.modified, object.size, object.etag
            )
            .ok();
        }
        let name = format!("<Name>{}</Name><Prefix>{}</Prefix>", request.bucket, escaped(prefix));
        let marker = escaped(&last);
        let next = format!(
            "<NextContinuationToken>{marker}</NextContinuationToken><NextMarker>{marker}</NextMarker>"
        );
        let next = if more { next } else { String::new() };
        let page = format!("<KeyCount>{count}</KeyCount><IsTruncated>{more}</IsTruncated>{next}");
        Answer::xml("ListBucketResult", &format!("{name}{page}{body}"))
    }
}

fn missing() -> Answer {
    Answer::error("404 Not Found", "NoSuchKey")
}

pub(super) fn bad_digest() -> Answer {
    Answer::error("400 Bad Request", "BadDigest")
}

/// Returns the ETag of what came; `None` when it is not what was announced.
pub(super) fn etag_of(request: &Request, received: &Received) -> Option<String> {
    let announced = request.content_md5();
    if received.md5.is_some() && announced.is_some() && received.md5 != announced {
        return None;
    }
    Some(received.md5.or(announced).map_or_else(|| UNKNOWN.to_owned(), |md5| hex(&md5)))
}

/// Returns the MD5 of the parts' MD5s, as S3 does, where those are known.
fn etag_of_parts<'a>(etags: impl Iterator<Item = &'a str>) -> String {
    let (mut md5, mut count) = (Md5::new(), 0);
    for etag in etags {
        count += 1;
        let pairs = (0..16).map(|at| etag.get(at * 2..at * 2 + 2));
        let bytes = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok());
        match bytes.collect::<Option<Vec<u8>>>() {
            Some(bytes) => md5.update(&bytes),
            None => return UNKNOWN.to_owned(),
        }
    }
    format!("{}-{count}", hex(&md5.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

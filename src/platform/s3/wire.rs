//! S3's XML: written, and parsed leniently by local names, because servers differ.

use percent_encoding::percent_decode_str;
use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::Event;

use crate::model::{ContentMark, ETag, Md5, PartNumber, PartSize, RemotePart, WallTime};
use crate::platform::answer::parse_time;

/// Deeper than any answer of S3.
const DEPTH_MAX: usize = 16;
/// A page of a thousand objects has fewer elements, with everything that servers say about each.
const ELEMENTS_MAX: usize = 16 * 1024;
/// Longer than any name of S3.
const NAME_MAX: usize = 64;

/// An element with its text and children.
#[derive(Debug, Default)]
struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.trim())
    }

    /// Returns a name below a child of this list, to the letter: encoded where the list says so. It may begin or
    /// end with white space.
    fn name_in(&self, child: &Self, name: &str) -> Option<String> {
        let text = &child.child(name)?.text;
        match self.text_of("EncodingType") {
            Some("url") => {
                let text = text.replace('+', " ");
                Some(percent_decode_str(&text).decode_utf8().ok()?.into_owned())
            }
            Some(_) | None => Some(text.clone()),
        }
    }

    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }
}

/// Parses a document with any root element; white space may precede it. `None` for one that is no
/// XML, or deeper or with more elements than any answer of S3.
fn parse(body: &[u8]) -> Option<Element> {
    let text = std::str::from_utf8(body.trim_ascii()).ok()?;
    let mut reader = Reader::from_str(text);
    let mut open = vec![Element::default()];
    let mut count = 0;
    let mut named = |name: &str| {
        count += 1;
        let is_bounded = count <= ELEMENTS_MAX && name.len() <= NAME_MAX;
        is_bounded.then(|| Element { name: name.to_owned(), ..Element::default() })
    };
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) if open.len() < DEPTH_MAX => {
                open.push(named(start.local_name().as_ref())?);
            }
            Event::Start(_) => return None,
            Event::Empty(empty) => {
                let element = named(empty.local_name().as_ref())?;
                open.last_mut()?.children.push(element);
            }
            Event::Text(text) => open.last_mut()?.text.push_str(&text),
            Event::CData(data) => open.last_mut()?.text.push_str(&data),
            Event::GeneralRef(reference) => {
                let character = match reference.resolve_char_ref().ok()? {
                    Some(character) => character.to_string(),
                    None => quick_xml::escape::resolve_predefined_entity(&reference)?.to_owned(),
                };
                open.last_mut()?.text.push_str(&character);
            }
            Event::End(_) => {
                let done = open.pop()?;
                open.last_mut()?.children.push(done);
            }
            Event::Eof => break,
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    (open.len() == 1).then(|| open.pop()).flatten()?.children.pop()
}

/// Returns the text of the first element with a name, at any depth.
pub(in crate::platform) fn text_in(body: &[u8], name: &str) -> Option<String> {
    fn find<'a>(element: &'a Element, name: &str) -> Option<&'a str> {
        let below = || element.children.iter().find_map(|child| find(child, name));
        element.text_of(name).or_else(below)
    }
    find(&parse(body)?, name).map(str::to_owned)
}

/// A storage's refusal.
#[derive(Debug)]
pub(super) struct Error {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) region: Option<String>,
}

/// Parses an error; `None` when the body is something else.
pub(super) fn error(body: &[u8]) -> Option<Error> {
    let root = parse(body).filter(|root| root.name == "Error")?;
    Some(Error {
        code: root.text_of("Code").unwrap_or_default().to_owned(),
        message: root.text_of("Message").unwrap_or_default().to_owned(),
        region: root.text_of("Region").map(str::to_owned),
    })
}

/// Parses the id of a created upload.
pub(super) fn created(body: &[u8]) -> Option<String> {
    let id = parse(body)?.text_of("UploadId")?.to_owned();
    let is_usable = !id.is_empty() && id.len() <= 1024 && !id.contains(['?', '&', '#', ' ']);
    is_usable.then_some(id)
}

/// One page of the parts of an upload.
#[derive(Debug)]
pub(super) struct Parts {
    /// `None` where the storage lists a part without its ETag, or does not say where the list continues.
    pub(super) parts: Option<Vec<RemotePart>>,
    /// Start of the next page.
    pub(super) next: Option<u32>,
}

/// Parses a page of parts.
pub(super) fn parts(body: &[u8]) -> Option<Parts> {
    let root = parse(body)?;
    let part = |element: &Element| {
        let number = PartNumber::new(element.text_of("PartNumber")?.parse().ok()?)?;
        Some(RemotePart { number, etag: ETag::from_header(element.text_of("ETag")?), note: None })
    };
    let is_truncated = root.text_of("IsTruncated") == Some("true");
    let marker = root.text_of("NextPartNumberMarker").and_then(|text| text.parse().ok());
    let is_whole = !is_truncated || marker.is_some();
    Some(Parts {
        parts: root.all("Part").map(part).collect::<Option<_>>().filter(|_| is_whole),
        next: marker.filter(|_| is_truncated),
    })
}

/// An upload in progress, from a list.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) key: String,
    pub(super) id: String,
    pub(super) initiated_at: Option<WallTime>,
}

/// One page of the uploads of a bucket.
#[derive(Debug)]
pub(super) struct Uploads {
    pub(super) uploads: Vec<Listed>,
    /// Key and id from which the next page continues.
    pub(super) next: Option<(String, String)>,
}

/// Parses a page of uploads.
pub(super) fn uploads(body: &[u8]) -> Option<Uploads> {
    let root = parse(body)?;
    let upload = |element: &Element| {
        Some(Listed {
            key: root.name_in(element, "Key")?,
            id: element.text_of("UploadId")?.to_owned(),
            initiated_at: element.text_of("Initiated").and_then(parse_time),
        })
    };
    let is_truncated = root.text_of("IsTruncated") == Some("true");
    let id = || root.text_of("NextUploadIdMarker").map(str::to_owned);
    let next = root.name_in(&root, "NextKeyMarker").zip(id());
    Some(Uploads {
        uploads: root.all("Upload").filter_map(upload).collect(),
        next: next.filter(|_| is_truncated),
    })
}

/// One page of the names in a folder.
#[derive(Debug)]
pub(super) struct ListedNames {
    pub(super) names: Vec<String>,
    /// The token for the next page.
    pub(super) next: Option<String>,
}

/// Parses a page of objects; `None` when it is invalid, or its continuation cannot be requested.
pub(super) fn names(body: &[u8]) -> Option<ListedNames> {
    let root = parse(body).filter(|root| root.name == "ListBucketResult")?;
    let is_truncated = root.text_of("IsTruncated")? == "true";
    let next = root.text_of("NextContinuationToken").map(str::to_owned).filter(|_| is_truncated);
    if is_truncated && next.is_none() {
        return None;
    }
    let names = root.all("Contents").map(|element| root.name_in(element, "Key"));
    Some(ListedNames { names: names.collect::<Option<_>>()?, next })
}

/// Returns the size of an object from a list that begins with its key.
pub(super) fn size_of(body: &[u8], key: &str) -> Option<u64> {
    let root = parse(body)?;
    let is_it = |object: &&Element| root.name_in(object, "Key").as_deref() == Some(key);
    let object = root.all("Contents").find(is_it)?;
    object.text_of("Size")?.parse().ok()
}

/// Reads the ETag of an object that was put together.
pub(super) fn completed(body: &[u8]) -> Option<ETag> {
    let root = parse(body).filter(|root| root.name != "Error")?;
    root.text_of("ETag").map(ETag::from_header)
}

/// Writes the list of parts of a complete.
pub(super) fn complete_body(parts: &[RemotePart]) -> String {
    let mut body =
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">".to_owned();
    for part in parts {
        let etag = format!("\"{}\"", part.etag);
        body.push_str(&format!(
            "<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>",
            part.number,
            escape(&etag)
        ));
    }
    body + "</CompleteMultipartUpload>"
}

/// Returns the digest in the ETags of parts, when all of them are MD5s.
pub(super) fn mark_of_parts(parts: &[RemotePart], part_size: PartSize) -> Option<ContentMark> {
    use md5::{Digest, Md5 as Hasher};
    let mut hasher = Hasher::new();
    for part in parts {
        hasher.update(Md5::parse(part.etag.as_str())?.0);
    }
    Some(ContentMark { part_size, md5_of_parts: Md5(hasher.finalize().into()) })
}

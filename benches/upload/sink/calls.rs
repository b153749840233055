//! A platform with calls of its own: an upload is created, an address is fetched for each part, the part
//! is reported, and the upload is completed. It speaks the words of Seven Bridges, has one project, and
//! keeps no byte.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::body::Received;
use super::objects::{Answer, bad_digest, etag_of};
use super::wire::Request;

/// The first part of the path of every call.
pub(super) const CALLS: &str = "v2";
/// The first part of the path of every signed address.
pub(super) const PARTS: &str = "parts";

#[derive(Debug)]
struct File {
    name: String,
    size: u64,
    metadata: Value,
}

impl File {
    fn shown(&self, id: usize) -> Value {
        let (name, size, metadata) = (&self.name, self.size, &self.metadata);
        json!({ "id": format!("file-{id}"), "name": name, "size": size, "metadata": metadata })
    }
}

/// One project. Ids of uploads and files are positions.
#[derive(Debug, Default)]
pub(super) struct Calls {
    /// What was created: name, size, and how much came.
    uploads: Vec<(String, u64, u64)>,
    files: Vec<File>,
    ids: BTreeMap<String, usize>,
}

impl Calls {
    /// Returns how many files there are, and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.files.len() as u64, self.files.iter().map(|file| file.size).sum())
    }

    /// Answers a call.
    pub(super) fn answer(&mut self, request: &Request, received: &Received) -> Answer {
        let path: Vec<&str> = request.key.as_deref().unwrap_or("").split('/').collect();
        let answer = match (request.method.as_str(), path.as_slice()) {
            ("GET", ["user"]) => Some(json!({ "username": "bench" })),
            ("GET", ["projects", ..]) => Some(json!({ "permissions": { "write": true } })),
            ("GET", ["files"]) => Some(self.named(request.query("name").unwrap_or(""))),
            ("GET", ["files", id]) => at(id).and_then(|id| Some(self.files.get(id)?.shown(id))),
            ("PATCH", ["files", id, "metadata"]) => self.describe(id, received),
            ("POST", ["bulk", "files", _]) => self.many(received),
            ("POST", ["files"]) => folder(received),
            ("POST", ["upload", "multipart"]) => self.create(received),
            ("GET", ["upload", "multipart", id, "part", _]) => Some(address(request, id)),
            ("POST", ["upload", "multipart", id]) => at(id).map(|_| json!({})),
            ("POST", ["upload", "multipart", id, "complete"]) => self.complete(id),
            _ => None,
        };
        match answer {
            Some(answer) => Answer::json(&answer),
            None => Answer { status: "404 Not Found", ..Answer::json(&json!({})) },
        }
    }

    /// Takes the bytes of a part.
    pub(super) fn put(&mut self, request: &Request, received: &Received) -> Answer {
        let upload = request.key.as_deref().and_then(at).and_then(|id| self.uploads.get_mut(id));
        let Some((_, _, came)) = upload else {
            return Answer { status: "404 Not Found", ..Answer::default() };
        };
        *came += received.length;
        etag_of(request, received).map_or_else(bad_digest, |etag| Answer::stored(&etag))
    }

    fn named(&self, name: &str) -> Value {
        let found = self.ids.get(name).map(|id| self.files[*id].shown(*id));
        json!({ "items": found.into_iter().collect::<Vec<_>>() })
    }

    fn create(&mut self, received: &Received) -> Option<Value> {
        let asked: Value = serde_json::from_str(&received.text).ok()?;
        let (name, size) = (asked["name"].as_str()?, asked["size"].as_u64()?);
        self.uploads.push((name.to_owned(), size, 0));
        let id = format!("upload-{}", self.uploads.len() - 1);
        Some(json!({ "upload_id": id, "part_size": asked["part_size"], "parallel_uploads": true }))
    }

    fn complete(&mut self, id: &str) -> Option<Value> {
        let (name, size, came) = self.uploads.get(at(id)?)?;
        let (name, size) = (name.clone(), *size);
        if *came != size {
            return None;
        }
        self.ids.insert(name.clone(), self.files.len());
        self.files.push(File { name, size, metadata: json!({}) });
        let id = self.files.len() - 1;
        Some(self.files[id].shown(id))
    }

    fn describe(&mut self, id: &str, received: &Received) -> Option<Value> {
        let file = self.files.get_mut(at(id)?)?;
        file.metadata = serde_json::from_str(&received.text).ok()?;
        Some(file.metadata.clone())
    }

    /// Shows files by their ids, or sets their metadata.
    fn many(&mut self, received: &Received) -> Option<Value> {
        let asked: Value = serde_json::from_str(&received.text).ok()?;
        let items = asked.get("file_ids").or_else(|| asked.get("items"))?.as_array()?;
        let mut answer = |item: &Value| {
            let id = at(item.as_str().or_else(|| item["id"].as_str())?)?;
            let file = self.files.get_mut(id)?;
            if let Some(metadata) = item.get("metadata") {
                file.metadata = metadata.clone();
            }
            Some(json!({ "resource": file.shown(id) }))
        };
        Some(json!({ "items": items.iter().filter_map(&mut answer).collect::<Vec<_>>() }))
    }
}

/// Makes a folder; there is only one, whatever it is called.
fn folder(received: &Received) -> Option<Value> {
    let asked: Value = serde_json::from_str(&received.text).ok()?;
    Some(json!({ "id": "folder-0", "name": asked["name"], "type": "folder" }))
}

/// Returns the position that an id stands for.
fn at(id: &str) -> Option<usize> {
    id.rsplit_once('-')?.1.parse().ok()
}

fn address(request: &Request, id: &str) -> Value {
    let host = request.header("host").unwrap_or("localhost");
    json!({
        "method": "PUT",
        "url": format!("http://{host}/{PARTS}/{id}"),
        "expires": "2100-01-01T00:00:00Z",
        "success_codes": [200],
        "report": { "headers": ["ETag"] },
    })
}

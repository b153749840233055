//! Tests of the stand-in over a real connection.

use std::fmt::Write;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{EtagForm, PROJECT};
use crate::sandbox::{RemoteFile, Sandbox, Settings, Vendor, faults};

struct Desk {
    sandbox: Sandbox,
    token: String,
    _directory: tempfile::TempDir,
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        let body: Value = serde_json::from_str(&self.body).expect("an envelope");
        assert_eq!(body["statusCode"], self.status);
        for field in ["success", "errors", "messages", "result", "resultInfo"] {
            assert!(body.get(field).is_some(), "{field} is missing: {body}");
        }
        body
    }

    fn result(&self) -> Value {
        let body = self.json();
        assert_eq!((self.status, &body["success"]), (200, &json!(true)), "{body}");
        body["result"].clone()
    }

    fn etag(&self) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix("etag: "));
        line.expect("an ETag").trim_matches('"')
    }
}

impl Desk {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = Settings { part_size_min: 4, ..Settings::new(directory.path().into()) };
        let token = settings.token.clone();
        let sandbox = Sandbox::start(settings).await.expect("start");
        Self { sandbox, token, _directory: directory }
    }

    fn switch(&self, change: impl FnOnce(&mut faults::Switches)) {
        let mut switches = faults::Switches::default();
        change(&mut switches);
        self.sandbox.switch(Vendor::GjirafaVp, switches);
    }

    fn breaches(&self) -> Vec<String> {
        self.sandbox.ledger(Vendor::GjirafaVp).breaches
    }

    fn files(&self) -> Vec<RemoteFile> {
        self.sandbox.files(Vendor::GjirafaVp)
    }

    async fn send(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let address = self.sandbox.address();
        let mut stream = TcpStream::connect(address).await.expect("connect");
        let mut head = format!("{line} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").expect("a text takes all");
        }
        head += "\r\n";
        stream.write_all(head.as_bytes()).await.expect("send");
        // A refusal may come, and the connection end, before the body is read.
        stream.write_all(body).await.ok();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.ok();
        let text = String::from_utf8(bytes).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Reply { status: status.expect("a status"), head: head.to_owned(), body: body.to_owned() }
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> Reply {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let length = body.len().to_string();
        let headers = [
            ("authorization", self.token.as_str()),
            ("content-type", "application/json"),
            ("content-length", &length),
        ];
        let line = format!("{method} /gjirafa/api/projects/{PROJECT}/uploads/{path}");
        self.send(&line, &headers, body.as_bytes()).await
    }

    async fn start(&self, parts: u32) -> Value {
        let body = json!({"partsNumber": parts, "fileName": "run.mp4", "contentLength": "12",
            "mimeType": "video/mp4", "presignedUrlExpiryTimeHours": 24});
        self.call("POST", "multipart", body).await.result()
    }

    async fn put(&self, url: &str, more: &[(&str, &str)], bytes: &[u8]) -> Reply {
        let host = format!("http://{}", self.sandbox.address());
        let path = url.strip_prefix(&host).expect("an address on this machine");
        let length = bytes.len().to_string();
        let headers = [&[("content-length", length.as_str())], more].concat();
        self.send(&format!("PUT {path}"), &headers, bytes).await
    }

    async fn list(&self, upload: &Value) -> Reply {
        let key = upload["requestKey"].as_str().expect("a key");
        self.call("GET", &format!("url/multipart/{key}/parts"), Value::Null).await
    }

    async fn complete(&self, upload: &Value, parts: Value) -> Reply {
        let body = json!({"requestKey": upload["requestKey"], "allowPartialComplete": false,
            "parts": parts});
        self.call("PUT", "multipart-complete", body).await
    }
}

fn url(upload: &Value, number: u32) -> &str {
    let addresses = upload["presignedUrl"].as_array().expect("addresses");
    let found = addresses.iter().find(|address| address["partNumber"] == number);
    found.and_then(|address| address["presignedUrl"].as_str()).expect("an address")
}

fn content(file: &RemoteFile) -> Vec<u8> {
    file.parts.iter().flat_map(|path| std::fs::read(path).expect("a part")).collect()
}

#[tokio::test]
async fn parts_become_a_file() {
    let desk = Desk::new().await;
    let upload = desk.start(2).await;
    assert_eq!(desk.list(&upload).await.result(), json!([]));
    for (number, bytes) in [(2, &b"world"[..]), (1, b"hello, ")] {
        let reply = desk.put(url(&upload, number), &[], bytes).await;
        assert_eq!((reply.status, reply.etag().len()), (200, 32));
    }
    let listed = desk.list(&upload).await.result();
    assert_eq!((&listed[0]["partNumber"], &listed[0]["size"]), (&json!(1), &json!(7)));
    assert_eq!(desk.complete(&upload, listed.clone()).await.result(), json!(true));
    assert_eq!(desk.complete(&upload, listed).await.result(), json!(true));

    let files = desk.files();
    assert_eq!((files[0].name.as_str(), content(&files[0])), ("run.mp4", b"hello, world".into()));
    assert_eq!(desk.list(&upload).await.status, 404);
    let late = desk.put(url(&upload, 1), &[], b"late").await;
    assert_eq!((late.status, late.body.contains("NoSuchUpload")), (404, true));
    let key = upload["requestKey"].as_str().expect("a key");
    let success = desk.call("POST", &format!("success/{key}"), Value::Null).await.result();
    assert_eq!(success["contentType"], "video/mp4");
    let ledger = desk.sandbox.ledger(Vendor::GjirafaVp);
    assert_eq!((ledger.breaches, ledger.begun_count), (vec![], 1));
    assert_eq!((ledger.calls["put"], ledger.parts[key][&2].kept_count), (3, 1));
}

#[tokio::test]
async fn a_missing_part_leaves_the_upload_open() {
    let desk = Desk::new().await;
    let upload = desk.start(3).await;
    for number in [1, 3] {
        desk.put(url(&upload, number), &[], b"piece").await;
    }
    let listed = desk.list(&upload).await.result();
    let refused = desk.complete(&upload, listed.clone()).await;
    assert_eq!((refused.status, &refused.json()["success"]), (400, &json!(false)));
    assert_eq!(desk.sandbox.ledger(Vendor::GjirafaVp).open_uploads.len(), 1);
    assert_eq!((desk.breaches(), desk.files().len()), (vec![], 0));

    let body = json!({"requestKey": upload["requestKey"], "parts": listed});
    assert_eq!(desk.call("PUT", "multipart-complete", body).await.result(), json!(true));
    assert_eq!(content(&desk.files()[0]), b"piecepiece");
    assert_eq!(desk.breaches().last().map(String::as_str), Some("complete: partial"));
    assert_eq!(desk.sandbox.ledger(Vendor::GjirafaVp).calls["partial-complete"], 1);
}

#[tokio::test]
async fn a_revoked_key_is_refused_and_addresses_stay_good() {
    let desk = Desk::new().await;
    let upload = desk.start(1).await;
    desk.switch(|switches| switches.token_revoked = true);
    let refused = desk.list(&upload).await;
    assert_eq!((refused.status, &refused.json()["result"]), (401, &Value::Null));
    assert_eq!(desk.put(url(&upload, 1), &[], b"piece").await.status, 200);
    desk.switch(|switches| switches.gjirafa_vp.auth_prefix = "Bearer ".into());
    assert_eq!(desk.list(&upload).await.status, 401);
    desk.switch(|switches| switches.maintenance = true);
    let page = desk.list(&upload).await;
    assert_eq!((page.status, page.body.starts_with("<html>")), (503, true));
    desk.switch(|_| ());
    let line = "PUT /gjirafa/api/projects/strangers/uploads/multipart-abort";
    let headers = [("authorization", desk.token.as_str()), ("content-length", "0")];
    assert_eq!(desk.send(line, &headers, b"").await.status, 403);
    assert_eq!(desk.call("GET", "multipart", Value::Null).await.status, 404);
    assert_eq!(
        desk.breaches(),
        [format!("GET api/projects/{PROJECT}/uploads/multipart is no call")]
    );
}

#[tokio::test]
async fn an_address_expires_and_a_resume_renews_it() {
    let desk = Desk::new().await;
    desk.switch(|switches| switches.url_life = 0);
    let upload = desk.start(1).await;
    let refused = desk.put(url(&upload, 1), &[], b"piece").await;
    assert_eq!((refused.status, refused.body.contains("AccessDenied")), (403, true));
    desk.switch(|switches| switches.gjirafa_vp.revoke_old_urls = true);
    let key = json!({"requestKey": upload["requestKey"]});
    let resume = async || desk.call("POST", "multipart-resume", key.clone()).await.result();
    let (first, second) = (resume().await, resume().await);
    assert_eq!(first["uploadId"], upload["uploadId"]);
    assert_eq!(desk.put(url(&first, 1), &[], b"piece").await.status, 403);
    assert_eq!(desk.put(url(&second, 1), &[], b"piece").await.status, 200);
    desk.switch(|switches| switches.gjirafa_vp.resume_urls_missing_only = true);
    assert_eq!(resume().await["presignedUrl"], json!([]));
    desk.switch(|switches| switches.gjirafa_vp.resume_new_id = true);
    assert_ne!(resume().await["uploadId"], upload["uploadId"]);
    assert_eq!(desk.list(&upload).await.result(), json!([]));
    assert_eq!(desk.put(url(&second, 1), &[], b"piece").await.status, 404);
    assert_eq!(desk.breaches(), Vec::<String>::new());
}

#[tokio::test]
async fn the_storage_takes_nothing_that_was_not_signed() {
    let desk = Desk::new().await;
    let upload = desk.start(1).await;
    let address = url(&upload, 1);
    let refused = [
        (("authorization", desk.token.as_str()), 400),
        (("content-type", "video/mp4"), 403),
        (("content-md5", "XUFAKrxLKna5cZ2REBfFkg=="), 403),
        (("x-amz-acl", "private"), 403),
    ];
    for (header, status) in refused {
        assert_eq!(desk.put(address, &[header], b"piece").await.status, status, "{header:?}");
    }
    let changed = address.replace("%2F", "/");
    assert_eq!(desk.put(&changed, &[], b"piece").await.status, 403);
    let path = address.split_once("/gjirafa-storage").expect("the storage").1;
    let line = format!("PUT /gjirafa-storage{path}");
    assert_eq!(
        desk.send(&line, &[("transfer-encoding", "chunked")], b"0\r\n\r\n").await.status,
        411
    );
    assert_eq!(desk.breaches().len(), 6);
    assert_eq!(desk.list(&upload).await.result(), json!([]));
}

#[tokio::test]
async fn complete_is_strict_about_its_parts() {
    let desk = Desk::new().await;
    let upload = desk.start(2).await;
    desk.switch(|switches| switches.gjirafa_vp.lose_part = Some(2));
    desk.put(url(&upload, 1), &[], b"one").await;
    for listed in [1, 2] {
        assert_eq!(desk.put(url(&upload, 2), &[], b"two").await.status, 200);
        assert_eq!(desk.list(&upload).await.result().as_array().map(Vec::len), Some(listed));
    }
    let small = desk.list(&upload).await.result();
    assert_eq!(desk.complete(&upload, small).await.status, 400);
    desk.put(url(&upload, 1), &[], b"more than").await;
    let listed = desk.list(&upload).await.result();
    for wrong in [json!([]), json!([listed[1], listed[0]]), json!([listed[0], listed[0]])] {
        assert_eq!(desk.complete(&upload, wrong).await.status, 400);
    }
    let other = json!({"partNumber": 1, "eTag": "0".repeat(32)});
    assert_eq!(desk.complete(&upload, json!([other, listed[1]])).await.status, 400);
    desk.switch(|switches| switches.gjirafa_vp.soft_fail = true);
    let soft = desk.complete(&upload, listed.clone()).await;
    assert_eq!((soft.status, &soft.json()["success"]), (200, &json!(false)));
    desk.switch(|switches| switches.gjirafa_vp.etag_form = EtagForm::Quoted);
    assert_eq!(desk.complete(&upload, listed).await.status, 400);
    let quoted = desk.list(&upload).await.result();
    assert_eq!(desk.complete(&upload, quoted).await.result(), json!(true));
    assert_eq!(content(&desk.files()[0]), b"more thantwo");
    assert_eq!(desk.breaches().len(), 6);
}

#[tokio::test]
async fn an_abort_ends_an_open_upload_alone() {
    let desk = Desk::new().await;
    let upload = desk.start(1).await;
    desk.put(url(&upload, 1), &[], b"piece").await;
    let key = json!({"requestKey": upload["requestKey"]});
    assert_eq!(desk.call("PUT", "multipart-abort", key.clone()).await.result(), json!(true));
    assert_eq!(desk.call("PUT", "multipart-abort", key.clone()).await.status, 404);
    assert_eq!(desk.call("POST", "multipart-resume", key).await.status, 400);
    assert_eq!(desk.list(&upload).await.status, 404);
    assert_eq!(desk.put(url(&upload, 1), &[], b"piece").await.status, 404);
    assert_eq!(desk.breaches(), Vec::<String>::new());

    let upload = desk.start(1).await;
    desk.put(url(&upload, 1), &[], b"piece").await;
    let listed = desk.list(&upload).await.result();
    desk.complete(&upload, listed).await.result();
    let key = json!({"requestKey": upload["requestKey"]});
    assert_eq!(desk.call("PUT", "multipart-abort", key.clone()).await.status, 400);
    desk.switch(|switches| switches.gjirafa_vp.abort_deletes = true);
    desk.call("PUT", "multipart-abort", key).await.result();
    assert_eq!((desk.files().len(), desk.breaches().len()), (0, 2));

    let upload = desk.start(1).await;
    desk.sandbox.shared.stand(Vendor::GjirafaVp).vanish(None);
    assert_eq!(desk.list(&upload).await.status, 404);
}

#[tokio::test]
async fn a_start_is_checked() {
    let desk = Desk::new().await;
    let wrong = [
        json!({"partsNumber": 0, "fileName": "a"}),
        json!({"partsNumber": 10_001, "fileName": "a"}),
        json!({"partsNumber": 1, "fileName": "a/b"}),
        json!({"partsNumber": 1, "fileName": ""}),
        json!({"partsNumber": 1, "fileName": "a".repeat(256)}),
        json!({"partsNumber": 1, "fileName": "a", "presignedUrlExpiryTimeHours": 169}),
    ];
    let count = wrong.len();
    for body in wrong {
        assert_eq!(desk.call("POST", "multipart", body.clone()).await.status, 400, "{body}");
    }
    assert_eq!(desk.breaches().len(), count);
    let number = json!({"partsNumber": 1, "fileName": "a", "contentLength": 12});
    desk.call("POST", "multipart", number.clone()).await.result();
    desk.switch(|switches| switches.gjirafa_vp.strict_length = true);
    assert_eq!(desk.call("POST", "multipart", number).await.status, 400);
}

#[tokio::test]
async fn a_single_upload_ends_with_success() {
    let desk = Desk::new().await;
    let body = json!({"fileName": "a.mp4", "contentType": "video/mp4", "contentLength": 5});
    let single = desk.call("POST", "url", body.clone()).await.result();
    let path = format!("success/{}", single["requestKey"].as_str().expect("a key"));
    assert_eq!(desk.call("POST", &path, Value::Null).await.status, 404);
    let address = single["url"].as_str().expect("an address");
    let put = desk.put(address, &[("content-type", "video/mp4")], b"piece").await;
    assert_eq!((put.status, desk.files().len()), (200, 0));
    desk.call("POST", &path, Value::Null).await.result();
    assert_eq!(content(&desk.files()[0]), b"piece");
    desk.switch(|switches| switches.gjirafa_vp.single_refused = true);
    assert_eq!(desk.call("POST", "url", body).await.status, 400);
    assert_eq!(desk.breaches(), Vec::<String>::new());
}

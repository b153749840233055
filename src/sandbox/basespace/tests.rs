use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{APP_RESULT, MultipartEtag, Switches, wire};
use crate::sandbox::digits::{hex, unhex};
use crate::sandbox::faults::{self, Action, Rule, When};
use crate::sandbox::{Sandbox, Settings, Vendor};
use md5::{Digest, Md5};

/// A sandbox with small parts, and a minimal client.
struct Bench {
    sandbox: Sandbox,
    token: String,
    _directory: TempDir,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    fn response(&self) -> Value {
        self.json()["Response"].clone()
    }

    fn code(&self) -> Value {
        self.json()["ResponseStatus"]["ErrorCode"].clone()
    }
}

fn md5_of(bytes: &[u8]) -> Vec<u8> {
    Md5::digest(bytes).to_vec()
}

/// Decodes chunked encoding.
fn unwrap_chunks(mut text: &str) -> String {
    let mut body = String::new();
    while let Some((length, rest)) = text.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).expect("a length");
        body += &rest[..length];
        if length == 0 {
            break;
        }
        text = &rest[length + 2..];
    }
    body
}

impl Bench {
    async fn start() -> Self {
        let directory = TempDir::new().expect("a directory");
        let mut settings = Settings::new(directory.path().join("sandbox"));
        settings.part_size_min = 4;
        let token = settings.token.clone();
        let sandbox = Sandbox::start(settings).await.expect("it starts");
        Self { sandbox, token, _directory: directory }
    }

    /// Sends a call with these header lines besides the token and the length.
    async fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let token = format!("Authorization: Bearer {}\r\n", self.token);
        let length = format!("Content-Length: {}\r\n", body.len());
        self.send_bare(method, path, &format!("{token}{length}{headers}"), body).await
    }

    async fn send_bare(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.sandbox.address()).await.expect("connects");
        let head = format!(
            "{method} /basespace/v1pre3/{path} HTTP/1.1\r\nHost: sandbox\r\n\
             Connection: close\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("writes");
        stream.write_all(body).await.expect("writes");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.expect("reads");
        let text = String::from_utf8(bytes).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head[9..12].parse().expect("a status");
        let head = head.to_ascii_lowercase();
        let is_chunked = head.contains("transfer-encoding: chunked");
        let body = if is_chunked { unwrap_chunks(body) } else { body.to_owned() };
        Answer { status, head, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", b"").await
    }

    async fn post(&self, path: &str) -> Answer {
        self.send("POST", path, "", b"").await
    }

    async fn put(&self, file: &str, part: u32, bytes: &[u8]) -> Answer {
        let md5 = format!("Content-MD5: {}\r\n", BASE64_STANDARD.encode(md5_of(bytes)));
        self.send("PUT", &format!("files/{file}/parts/{part}"), &md5, bytes).await
    }

    async fn initiate(&self, query: &str) -> String {
        let path = format!("appresults/{APP_RESULT}/files?{query}&multipart=true");
        let begun = self.post(&path).await;
        assert_eq!(begun.status, 200, "{}", begun.body);
        begun.response()["Id"].as_str().expect("an id").to_owned()
    }

    async fn complete(&self, file: &str) -> Answer {
        self.post(&format!("files/{file}?uploadstatus=complete")).await
    }

    fn switch(&self, basespace: Switches) {
        let switches = faults::Switches { basespace, ..faults::Switches::default() };
        self.sandbox.switch(Vendor::BaseSpace, switches);
    }

    fn breaches(&self) -> Vec<String> {
        self.sandbox.ledger(Vendor::BaseSpace).breaches
    }
}

#[tokio::test]
async fn parts_become_a_file() {
    let bench = Bench::start().await;
    let id = bench.initiate("name=a+b.txt&Directory=%2FData%2Fone+two%2F").await;
    assert_eq!(id, "11900000001");
    let pending = bench.get(&format!("files/{id}")).await.response();
    assert_eq!(pending["UploadStatus"], "pending");
    assert_eq!(pending["Path"], "Data/one two/a b.txt");
    assert_eq!(pending["Size"], 0);
    let put = bench.put(&id, 2, b"two").await;
    assert_eq!(put.status, 200);
    assert!(!put.body.contains(' '), "compact: {}", put.body);
    assert!(put.head.contains("x-request-id: 20") && put.head.contains("chunked"), "{}", put.head);
    let etag = hex(&md5_of(b"two"));
    assert_eq!(put.response(), json!({"Number": 2, "ETag": etag, "Size": 3}));
    bench.put(&id, 1, b"gone").await;
    bench.put(&id, 1, b"once").await;
    let parts = bench.get(&format!("files/{id}/parts")).await.response();
    assert_eq!((&parts["TotalCount"], &parts["Items"][0]["Number"]), (&json!(2), &json!(1)));
    let ledger = bench.sandbox.ledger(Vendor::BaseSpace);
    assert_eq!(ledger.open_uploads, std::slice::from_ref(&id));
    assert_eq!((ledger.bytes_received, ledger.bytes_received_again), (11, 4));
    let done = bench.complete(&id).await;
    assert_eq!((done.status, &done.response()["Size"]), (201, &json!(7)));
    assert_eq!(bench.complete(&id).await.response(), done.response());
    let joined = [md5_of(b"once"), md5_of(b"two")].concat();
    let file = bench.get(&format!("files/{id}")).await.response();
    assert_eq!(file["ETag"], format!("{}-2", hex(&md5_of(&joined))));
    assert_eq!(bench.put(&id, 3, b"late").await.status, 409);
    assert_eq!(bench.post(&format!("files/{id}?uploadstatus=aborted")).await.status, 409);
    let files = bench.sandbox.files(Vendor::BaseSpace);
    assert_eq!((files[0].project.as_str(), files[0].folder.as_str()), ("demo", "Data/one two"));
    let bytes: Vec<_> =
        files[0].parts.iter().flat_map(|path| std::fs::read(path).expect("read")).collect();
    assert_eq!(bytes, b"oncetwo");
    assert_eq!(bench.breaches(), [""; 0]);
}

#[tokio::test]
async fn a_damaged_part_is_not_kept() {
    let bench = Bench::start().await;
    let id = bench.initiate("name=a").await;
    let wrong = format!("Content-MD5: {}\r\n", BASE64_STANDARD.encode(md5_of(b"other")));
    let path = format!("files/{id}/parts/1");
    let put = bench.send("PUT", &path, &wrong, b"bytes").await;
    assert_eq!((put.status, put.code()), (400, json!("BadRequest")));
    assert_eq!(bench.complete(&id).await.status, 400, "there is no part");
    assert_eq!(bench.send("PUT", &path, "", b"bytes").await.status, 200);
    let breaches = bench.breaches();
    assert_eq!(breaches, ["complete: no part", "put: sent without Content-MD5"]);
    assert_eq!(bench.sandbox.ledger(Vendor::BaseSpace).bytes_received_again, 5);
}

#[tokio::test]
async fn limits_of_parts_are_kept() {
    let bench = Bench::start().await;
    let id = bench.initiate("name=a").await;
    for part in [0, 10_001] {
        assert_eq!(bench.put(&id, part, b"part").await.status, 400);
    }
    assert_eq!(bench.put(&id, 1, &vec![0; 26_214_401]).await.status, 413);
    assert_eq!(bench.put(&id, 1, &vec![0; 26_214_400]).await.status, 200);
    assert_eq!(bench.put("11900000099", 1, b"part").await.status, 403);
    bench.put(&id, 2, b"abc").await;
    bench.put(&id, 3, b"abc").await;
    assert_eq!(bench.complete(&id).await.status, 400, "part 2 is small");
    bench.put(&id, 2, b"abcd").await;
    assert_eq!(bench.complete(&id).await.status, 201);
}

#[tokio::test]
async fn the_token_is_taken_three_ways_until_it_is_revoked() {
    let bench = Bench::start().await;
    let header = format!("X-Access-Token: {}\r\n", bench.token);
    assert_eq!(bench.get("users/current/").await.response()["Name"], "Core Lab");
    assert_eq!(bench.send_bare("GET", "users/current", &header, b"").await.status, 200);
    let path = format!("users/current?access_token={}", bench.token);
    assert_eq!(bench.send_bare("GET", &path, "", b"").await.status, 200);
    assert_eq!(bench.breaches(), ["user: the token is in the query"]);
    assert_eq!(bench.send_bare("GET", "users/current", "", b"").await.status, 401);
    let switches = faults::Switches { token_revoked: true, ..faults::Switches::default() };
    bench.sandbox.switch(Vendor::BaseSpace, switches);
    let refused = bench.get("users/current").await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.code(), "BASESPACE.COMMON.AUTHENTICATION_FAILURE");
    assert!(refused.json().get("Response").is_none());
}

#[tokio::test]
async fn small_files_come_in_one_call() {
    let bench = Bench::start().await;
    let path = format!("appresults/{APP_RESULT}/files?name=a.bin&directory=d");
    let made = bench.send("POST", &path, "Content-Type: text/x\r\n", b"{\"name\":1}").await;
    assert_eq!(made.status, 201);
    let file = made.response();
    assert_eq!((&file["UploadStatus"], &file["Size"]), (&json!("complete"), &json!(10)));
    assert_eq!((&file["ContentType"], &file["Path"]), (&json!("text/x"), &json!("d/a.bin")));
    assert_eq!(file["ETag"], hex(&md5_of(b"{\"name\":1}")));
    let twin = bench.post(&path).await;
    assert_eq!((twin.status, &twin.response()["Size"]), (201, &json!(0)));
    bench.initiate("name=pending").await;
    let list = bench.get(&format!("appresults/{APP_RESULT}/files?Limit=1&Offset=1")).await;
    let list = list.response();
    assert_eq!((&list["TotalCount"], &list["DisplayedCount"]), (&json!(2), &json!(1)));
    assert!(list["Items"][0].get("UploadStatus").is_none());
    assert_eq!(bench.sandbox.ledger(Vendor::BaseSpace).begun_count, 3);
    bench.switch(Switches { zero_byte_refused: true, ..Switches::default() });
    assert_eq!(bench.post(&path).await.status, 400);
    bench.switch(Switches { duplicate_path_refused: true, ..Switches::default() });
    assert_eq!(bench.post(&path).await.status, 409);
}

#[tokio::test]
async fn an_ended_session_takes_no_files() {
    let bench = Bench::start().await;
    let made = bench.send("POST", "projects/", "", b"{\"Name\": \"run\"}").await;
    assert_eq!(made.status, 201);
    assert_eq!(bench.post("projects?name=run").await.status, 200);
    let project = made.response()["Id"].as_str().expect("an id").to_owned();
    let path = format!("projects/{project}/appresults");
    let made = bench.send("POST", &path, "", b"Name=first&Description=d").await.response();
    assert_eq!((&made["Status"], &made["Name"]), (&json!("Running"), &json!("first")));
    let (id, session) = (&made["Id"], made["AppSession"]["Id"].as_str().expect("an id"));
    assert_eq!(id, "710000002");
    let file = bench.post("appresults/710000002/files?name=a&multipart=true").await.response();
    let file = file["Id"].as_str().expect("an id");
    bench.put(file, 1, b"bytes").await;
    let session = format!("appsessions/{session}");
    let body = b"{\"status\": \"complete\", \"statussummary\": \"done\"}";
    assert_eq!(bench.send("POST", &session, "", body).await.response()["Status"], "Complete");
    assert_eq!(bench.post(&format!("{session}?status=running")).await.status, 403);
    let refused = bench.complete(file).await;
    assert_eq!((refused.status, refused.code()), (403, json!("Forbidden")));
    assert_eq!(bench.post("appresults/710000002/files?name=b").await.status, 403);
    let running = bench.get(&format!("{path}?Statuses=running,aborted")).await;
    assert_eq!(running.response()["TotalCount"], 0);
    let all = bench.get(&path).await.response();
    assert_eq!((&all["TotalCount"], &all["Limit"]), (&json!(1), &json!(10)));
}

#[tokio::test]
async fn open_questions_are_answered_by_switches() {
    let bench = Bench::start().await;
    let id = bench.initiate("name=a").await;
    bench.put(&id, 1, b"part").await;
    bench.put(&id, 3, b"part").await;
    bench.switch(Switches { gap_refused: true, parts_listed: false, ..Switches::default() });
    assert_eq!(bench.complete(&id).await.status, 400);
    assert_eq!(bench.get(&format!("files/{id}/parts")).await.status, 404);
    bench.switch(Switches {
        replica_lag_reads: 1,
        notification: true,
        multipart_etag: MultipartEtag::None,
        ..Switches::default()
    });
    let done = bench.complete(&id).await;
    assert_eq!((done.status, &done.response()["Size"]), (201, &json!(8)));
    assert_eq!(done.json()["Notifications"][0]["Item"]["Title"], "Planned downtime");
    assert!(done.response().get("ETag").is_none());
    for status in ["pending", "complete"] {
        let file = bench.get(&format!("files/{id}")).await.response();
        assert_eq!(file["UploadStatus"], status);
    }
    assert_eq!(bench.breaches(), ["complete: part 2 is missing"; 2]);
}

#[tokio::test]
async fn what_is_not_there_is_not_told_apart() {
    let bench = Bench::start().await;
    let id = bench.initiate("name=a").await;
    bench.sandbox.shared.stand(Vendor::BaseSpace).vanish(Some(&id));
    for path in [&format!("files/{id}"), "appresults/1", "projects/x", "appsessions/1"] {
        let refused = bench.get(path).await;
        assert_eq!(refused.status, 403, "{path}");
        assert_eq!(refused.code(), "BASESPACE.COMMON.INSUFFICIENT_RESOURCE_PERMISSIONS");
    }
    assert_eq!(bench.breaches(), [""; 0]);
    let lost = bench.get("nowhere").await;
    assert_eq!((lost.status, lost.code()), (404, Value::Null));
    assert_eq!(bench.breaches().len(), 1);
}

#[tokio::test]
async fn a_wrong_etag_stands_where_the_vendor_has_it() {
    let bench = Bench::start().await;
    let id = bench.initiate("name=a").await;
    let rule = Rule {
        key: String::new(),
        operation: "put".into(),
        nth: 1,
        times: 1,
        every: 1,
        chance: None,
        when: When::After,
        action: Action::WrongEtag,
    };
    bench.sandbox.set_rules(Vendor::BaseSpace, vec![rule]);
    let put = bench.put(&id, 1, b"part").await;
    assert_eq!(put.response()["ETag"], "00000000000000000000000000000bad");
    let put = bench.put(&id, 1, b"part").await;
    assert_eq!(put.response()["ETag"], hex(&md5_of(b"part")));
}

#[test]
fn the_vendors_sample_sums_up() {
    let md5 = md5_of(&vec![0; 20_971_520]);
    assert_eq!(BASE64_STANDARD.encode(&md5), "j04z89w+QU/5Tl+2kFy6jA==");
    assert_eq!(unhex(&hex(&md5)), md5);
    let time = std::time::Duration::new(1_772_360_430, 1_234_567);
    assert_eq!(wire::date(time), "2026-03-01T10:20:30.0012345Z");
}

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;
use crate::model::{ContentMark, FailureKind, Md5, Monotonic, PartSize};
use crate::platform::bench::{self, body, frozen, target};
use crate::platform::http::stub::{Reply, Seen, Stub, traced};

/// By the clock of this machine: an hour before the platform's.
const NOW_WALL: WallTime = WallTime(1_739_261_000_000_000_000);
/// The platform's clock: 2025-02-11T09:03:20Z.
const DATE: &str = "Tue, 11 Feb 2025 09:03:20 GMT";

type Bench = bench::Bench<SevenBridges>;

/// Starts a platform that answers by `handler`, and a client of it.
fn bench(handler: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Bench {
    let stub = Stub::start(move |seen| handler(seen).with("Date", DATE));
    let settings = Settings { base_url: stub.url("/v2/"), project: "lab/runs 1".into() };
    let (platform, file) = client(&settings);
    Bench { stub, platform: platform.expect("a client"), file }
}

fn client(settings: &Settings) -> (Result<SevenBridges, Failure>, tempfile::NamedTempFile) {
    // The clock stands still: what is rationed never comes back.
    let (link, file) = bench::link("planted-token\n", Some(1e6), frozen(NOW_WALL));
    (SevenBridges::new(settings, link), file)
}

/// Answers by a table of `METHOD path-without-base` (query included); anything else is a 404.
fn table(answers: Vec<(&'static str, u16, serde_json::Value)>) -> impl Fn(&Seen) -> Reply {
    let answers: HashMap<_, _> = answers
        .into_iter()
        .map(|(line, status, body)| (line, (status, body.to_string())))
        .collect();
    move |seen| match answers.get(&*seen.line().replace("/v2/", "")) {
        Some((status, body)) => Reply::new(*status, body.clone()),
        None => Reply::new(404, json!({"code": 90003, "message": "no such route"}).to_string()),
    }
}

fn request(folders: &[&str]) -> BeginRequest {
    bench::request(target(folders, "a b.gz"), 100, 10)
}

fn completing(id: &str) -> CompleteRequest {
    bench::completing(request(&[]), id, Vec::new(), WallTime(0))
}

fn sending(id: &str, number: u32) -> PartRequest {
    bench::sending(request(&[]), id, number)
}

fn remote(id: &str) -> RemoteUpload {
    bench::remote(&request(&[]), id)
}

fn refusal(code: u16) -> serde_json::Value {
    json!({"code": code, "message": "refused"})
}

const FIND_A: &str = "GET files?project=lab%2Fruns%201&name=a&fields=_all";
const FIND_B: &str = "GET files?parent=fa&name=b%20c&fields=_all";
const NONE: fn() -> serde_json::Value = || json!({"items": []});

#[tokio::test]
async fn begin_makes_folders_level_by_level_and_takes_the_platforms_part_size() {
    let bench = bench(|seen| match &*seen.line().replace("/v2/", "") {
        FIND_A => Reply::new(200, r#"{"items":[{"id":"fa","name":"a","type":"FOLDER"}]}"#),
        FIND_B => Reply::new(200, r#"{"items":[{"id":"x","name":"B C","type":"folder"}]}"#),
        "POST files" => Reply::new(201, r#"{"id":"fb","name":"b c","type":"folder"}"#),
        "POST upload/multipart" => Reply::new(200, r#"{"upload_id":"u1","part_size":40}"#),
        other => panic!("{other}"),
    });
    for _ in 0..2 {
        let begun = bench.platform.begin(&request(&["a", "b c"])).await.expect("begun");
        assert_eq!(begun.id, RemoteUploadId::new("u1"));
        assert_eq!((begun.part_size.get(), begun.part_count, begun.sequential), (40, 3, false));
    }
    let begin = "POST upload/multipart";
    assert_eq!(bench.lines("/v2/"), [FIND_A, FIND_B, "POST files", begin, begin], "remembered");
    let seen = bench.stub.seen();
    assert_eq!(seen[2].json(), json!({"parent": "fa", "name": "b c", "type": "folder"}));
    assert_eq!(
        seen[3].json(),
        json!({"parent": "fb", "name": "a b.gz", "size": 100, "part_size": 10})
    );
    for seen in seen {
        assert_eq!(seen.header("x-sbg-auth-token"), Some("planted-token"));
        assert_eq!(seen.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn two_machines_may_make_one_folder_at_once() {
    let asked = AtomicUsize::new(0);
    let bench = bench(move |seen| match &*seen.line().replace("/v2/", "") {
        FIND_A if asked.fetch_add(1, Ordering::Relaxed) == 0 => Reply::new(200, NONE().to_string()),
        FIND_A => Reply::new(200, r#"{"items":[{"id":"fa","name":"a","type":"folder"}]}"#),
        "POST files" => Reply::new(409, refusal(5030).to_string()),
        "POST upload/multipart" => Reply::new(201, r#"{"upload_id":"u1"}"#),
        other => panic!("{other}"),
    });
    bench.platform.begin(&request(&["a"])).await.expect("begun");
    assert_eq!(bench.stub.seen()[3].json()["parent"], "fa");
}

#[tokio::test]
async fn a_remembered_folder_that_is_gone_is_made_again_once() {
    let begun = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&begun);
    let bench = bench(move |seen| match &*seen.line().replace("/v2/", "") {
        FIND_A => Reply::new(200, NONE().to_string()),
        "POST files" => Reply::new(201, r#"{"id":"fa","name":"a","type":"folder"}"#),
        "POST upload/multipart" => match counter.fetch_add(1, Ordering::Relaxed) {
            0 | 2 => Reply::new(201, r#"{"upload_id":"u1"}"#),
            _ => Reply::new(404, refusal(5026).to_string()),
        },
        other => panic!("{other}"),
    });
    bench.platform.begin(&request(&["a"])).await.expect("begun");
    bench.platform.begin(&request(&["a"])).await.expect("begun in a folder made again");
    let failure = bench.platform.begin(&request(&["a"])).await.expect_err("gone again and again");
    assert_eq!(failure.kind, FailureKind::NotFound);
    assert_eq!(begun.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn a_file_in_a_folders_place_is_refused() {
    let file = json!({"items": [{"id": "x", "name": "a", "type": "file"}]});
    let bench = bench(table(vec![(FIND_A, 200, file)]));
    let failure = bench.platform.begin(&request(&["a"])).await.expect_err("a file");
    assert_eq!(failure.kind, FailureKind::BadRequest);
    assert_eq!(failure.message, "a file is where folder \"a\" is wanted");
}

#[tokio::test]
async fn too_many_parts_are_asked_for_in_larger_ones() {
    let size = 1 << 40;
    let bench = bench(move |seen| match &*seen.line().replace("/v2/", "") {
        "POST upload/multipart?overwrite=true" => {
            let wish = seen.json()["part_size"].as_u64().expect("a wish");
            let settled = if wish == 10 { 5 * MIB } else { wish };
            Reply::new(
                200,
                json!({"upload_id": format!("u{wish}"), "part_size": settled}).to_string(),
            )
        }
        "DELETE upload/multipart/u10" => Reply::new(204, ""),
        other => panic!("{other}"),
    });
    let asked = BeginRequest { size: ByteCount(size), overwrite: true, ..request(&[]) };
    let begun = bench.platform.begin(&asked).await.expect("begun");
    assert_eq!(begun.part_size.get(), 117 * MIB);
    assert!(begun.part_count <= 10_000, "{}", begun.part_count);
}

#[tokio::test]
async fn a_platform_that_insists_on_too_many_parts_is_refused_and_left_clean() {
    let bench = bench(|seen| match seen.method.as_str() {
        "POST" => Reply::new(200, r#"{"upload_id":"u","part_size":1}"#),
        _ => Reply::new(204, ""),
    });
    let asked = BeginRequest { size: ByteCount(20_000), ..request(&[]) };
    let failure = bench.platform.begin(&asked).await.expect_err("too many");
    assert_eq!(failure.kind, FailureKind::BadRequest);
    let aborts = bench.lines("/v2/");
    assert_eq!(aborts.iter().filter(|line| line.starts_with("DELETE")).count(), 2);
}

#[tokio::test]
async fn a_missing_project_is_named() {
    let bench = bench(table(vec![
        ("GET user", 200, json!({"username": "ann"})),
        ("GET projects/lab/runs%201", 404, refusal(3002)),
    ]));
    let failure = bench.platform.check_access().await.expect_err("not there");
    assert_eq!(failure.kind, FailureKind::NotFound);
    assert!(failure.message.starts_with("project lab/runs 1 is not there"), "{failure}");
}

#[tokio::test]
async fn access_is_refused_when_the_project_says_so() {
    for (permissions, is_good) in [
        (json!({"write": true}), true),
        (json!({"write": false}), false),
        (json!({}), true),
        (json!(null), true),
    ] {
        let bench = bench(table(vec![
            ("GET user", 200, json!({"username": "ann"})),
            ("GET projects/lab/runs%201", 200, json!({"permissions": permissions})),
        ]));
        let checked = bench.platform.check_access().await;
        assert_eq!(checked.is_ok(), is_good, "{permissions}");
        if let Err(failure) = checked {
            assert_eq!(failure.message, "ann may not write to project lab/runs 1");
        }
    }
}

#[tokio::test]
async fn uploads_begun_before_are_found_by_place_name_and_time() {
    const LIST: &str = "GET upload/multipart?offset=0&limit=100";
    let at = |id: &str, parent: Option<&str>, time: &str| json!({"upload_id": id, "name": "a b.gz", "project": "lab/runs 1", "parent": parent, "initiated": time});
    let items = json!({"items": [
        at("old", None, "2025-02-11T08:50:00Z"),
        at("first", None, "2025-02-11T08:59:00Z"),
        at("second", Some("root"), "2025-02-11T09:01:00Z"),
        at("elsewhere", Some("other"), "2025-02-11T09:01:00Z"),
        at("gone", None, "2025-02-11T09:02:00Z"),
        {"upload_id": "foreign", "name": "a b.gz", "project": "them/x", "initiated": "2025-02-11T09:01:00Z"},
        {"upload_id": "named", "name": "z", "project": "lab/runs 1", "initiated": "2025-02-11T09:01:00Z"},
        {"upload_id": "ageless", "name": "a b.gz", "project": "lab/runs 1"},
    ]});
    let details = |id: &str| json!({"upload_id": id, "part_size": 30});
    let bench = bench(table(vec![
        (LIST, 200, items),
        ("GET projects/lab/runs%201", 200, json!({"root_folder": "root"})),
        ("GET upload/multipart/first?list_parts=false", 200, details("first")),
        ("GET upload/multipart/second?list_parts=false", 200, details("second")),
        ("GET upload/multipart/elsewhere?list_parts=false", 200, details("elsewhere")),
        ("GET upload/multipart/foreign?list_parts=false", 200, details("foreign")),
        ("GET upload/multipart/gone?list_parts=false", 404, refusal(8003)),
    ]));
    // By our clock; the platform's is an hour and twenty seconds ahead: 09:03:20.
    let found = bench.platform.find_begun(&request(&[]), NOW_WALL).await.expect("found");
    let seen: Vec<_> =
        found.iter().map(|u| (u.id.as_str(), u.part_size.get(), u.part_count)).collect();
    assert_eq!(seen, [("second", 30, 4), ("first", 30, 4)]);
    assert!(!bench.lines("/v2/").iter().any(|line| line.contains("multipart/old")));
}

#[tokio::test]
async fn lists_are_read_to_their_end() {
    let bench = bench(|seen| {
        let offset: usize = seen
            .path
            .split("offset=")
            .nth(1)
            .and_then(|t| t.split('&').next())
            .expect("paged")
            .parse()
            .expect("a number");
        let items: Vec<_> = (offset..(offset + 50).min(120))
            .map(|n| json!({"upload_id": format!("u{n}"), "name": "z"}))
            .collect();
        Reply::new(200, json!({"items": items}).to_string()).with("X-Total-Matching-Query", "120")
    });
    assert_eq!(bench.platform.uploads_in_progress().await.expect("listed").len(), 120);
    assert_eq!(bench.lines("/v2/").len(), 3);
}

#[tokio::test]
async fn locating_makes_nothing() {
    let bench = bench(table(vec![(FIND_A, 200, NONE())]));
    assert_eq!(bench.platform.locate(&target(&["a", "b c"], "f")).await, Ok(None));
    assert_eq!(bench.lines("/v2/"), [FIND_A]);
}

#[tokio::test]
async fn a_located_file_is_the_one_that_was_asked_for() {
    const FIND: &str = "GET files?project=lab%2Fruns%201&name=f%2B1&fields=_all";
    let file = |id: &str, name: &str| {
        json!({"id": id, "name": name, "type": "FILE", "size": 7, "created_on": "2025-02-11T09:02:11Z",
            "metadata": {"dropferry_digest": "64:09090909090909090909090909090909"}})
    };
    let locate = async |items: serde_json::Value| {
        let bench = bench(table(vec![(FIND, 200, json!({"items": items}))]));
        bench.platform.locate(&target(&[], "f+1")).await
    };
    let found =
        locate(json!([file("x", "F+1"), file("y", "f+1")])).await.expect("found").expect("one");
    assert_eq!((found.id.as_str(), found.size), ("y", Some(ByteCount(7))));
    let part_size = PartSize::new(64).expect("not zero");
    assert_eq!(found.mark, Some(ContentMark { part_size, md5_of_parts: Md5([9; 16]) }));
    let twice = locate(json!([file("x", "f+1"), file("y", "f+1")])).await.expect_err("two");
    assert_eq!(twice.kind, FailureKind::BadAnswer);
    assert_eq!(locate(json!([file("x", "other")])).await, Ok(None));
}

/// Signs parts with the addition `signed`, and accepts them as `storage` answers.
fn storage_bench(signed: serde_json::Value, storage: fn(&Seen) -> Reply) -> Bench {
    bench(move |seen| {
        if seen.path.starts_with("/bucket") {
            return storage(seen);
        }
        let host = seen.header("host").expect("a host");
        let mut answer =
            json!({"method": "PUT", "url": format!("http://{host}/bucket?sig=planted-url")});
        let extra = signed.as_object().expect("an object").clone();
        answer.as_object_mut().expect("an object").extend(extra);
        Reply::new(200, answer.to_string())
    })
}

#[tokio::test]
async fn a_part_goes_to_the_storage_without_our_token() {
    let signed = json!({"headers": {"x-amz-acl": "private"}, "expires": "2025-02-11T09:05:00Z"});
    let bench = storage_bench(signed, |_| Reply::new(200, "").with("ETag", "\"abc\""));
    let etag = bench.platform.put_part(&sending("u", 3), body(b"bytes")).await.expect("taken");
    assert_eq!(etag.etag.as_str(), "abc");
    assert_eq!(
        bench.lines("/v2/"),
        ["GET upload/multipart/u/part/3", "PUT /bucket?sig=planted-url"]
    );
    let seen = bench.stub.seen().pop().expect("a part");
    assert_eq!((&seen.body[..], seen.header("content-length")), (&b"bytes"[..], Some("5")));
    assert_eq!(seen.header("x-amz-acl"), Some("private"));
    for name in ["x-sbg-auth-token", "authorization", "content-type", "transfer-encoding"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn every_header_that_is_asked_for_is_collected_and_reported() {
    fn storage(_: &Seen) -> Reply {
        let reply = Reply::new(200, "").with("ETag", "\"abc\"");
        reply.with("x-amz-version-id", "v 7").with("X-Extra", "\"q\"").with("x-other", "no")
    }
    for (asked, reported) in [
        (json!(null), json!({"ETag": "abc"})),
        (json!([]), json!({"ETag": "abc"})),
        (json!(["ETag"]), json!({"ETag": "abc"})),
        (json!(["etag", "ETag"]), json!({"ETag": "abc"})),
        (json!(["ETag", "x-amz-version-id"]), json!({"ETag": "abc", "x-amz-version-id": "v 7"})),
        (json!(["etag", "x-extra"]), json!({"etag": "abc", "x-extra": "\"q\""})),
        (json!(["x-extra"]), json!({"x-extra": "\"q\""})),
        (json!(["x-goog-hash", "ETag"]), json!({"ETag": "abc"})),
        (json!(["x-goog-hash"]), json!({})),
    ] {
        let bench = storage_bench(json!({"report": {"headers": asked}}), storage);
        let stored = bench.platform.put_part(&sending("u", 3), body(b"b")).await.expect("taken");
        let (number, etag, note) = (bench::part(3, "").number, stored.etag, stored.note);
        let part = RemotePart { number, etag, note };
        let told = serde_json::to_value(super::wire::ReportedPart::report(&part)).expect("JSON");
        let expected = json!({"part_number": 3, "response": {"headers": reported}});
        assert_eq!(told, expected, "{asked}");
    }
}

#[tokio::test]
async fn a_report_is_bounded() {
    fn long(_: &Seen) -> Reply {
        Reply::new(200, "").with("ETag", "abc").with("x-long", "x".repeat(5000))
    }
    let many: Vec<_> = (0..100).map(|number| format!("x-{number}")).collect();
    for asked in [json!(["ETag", "x-long"]), json!(many)] {
        let bench = storage_bench(json!({"report": {"headers": asked}}), long);
        let put = bench.platform.put_part(&sending("u", 3), body(b"b")).await;
        assert_eq!(put.expect_err("too much").kind, FailureKind::BadAnswer);
    }
}

#[tokio::test]
async fn an_address_that_was_just_given_is_used_whatever_it_says_of_its_end() {
    for expires in ["2025-02-11T09:03:24Z", "2025-02-11T09:00:00Z", "soon"] {
        let taken = |_: &Seen| Reply::new(200, "").with("ETag", "\"abc\"");
        let bench = storage_bench(json!({"expires": expires}), taken);
        bench.platform.put_part(&sending("u", 3), body(b"bytes")).await.expect("taken");
        assert_eq!(bench.stub.seen().len(), 2, "{expires}");
    }
}

#[tokio::test]
async fn an_answer_of_nothing_counts_only_with_the_marks_that_others_have() {
    let count = AtomicUsize::new(0);
    let bench = bench(move |seen| match count.fetch_add(1, Ordering::Relaxed) {
        // A platform without marks is trusted; one with marks is recognised by them.
        0 | 3 => Reply::new(200, ""),
        1 | 4 => Reply::new(200, "").with("X-Request-Id", "1"),
        2 => Reply::new(200, "").with("X-RateLimit-Limit", "1000"),
        _ => panic!("{}", seen.line()),
    });
    let parts = [bench::part(1, "e1")];
    let mut answers = Vec::new();
    for _ in 0..5 {
        let told = bench.platform.report_parts(&remote("u"), &parts).await;
        answers.push(told.err().map(|failure| failure.kind));
    }
    assert_eq!(answers, [None, None, None, Some(FailureKind::BadAnswer), None]);
}

#[tokio::test]
async fn what_the_storage_says_decides() {
    fn taken(_: &Seen) -> Reply {
        Reply::new(200, "").with("ETag", "\"abc\"")
    }
    fn quiet(_: &Seen) -> Reply {
        Reply::new(200, "")
    }
    fn odd(_: &Seen) -> Reply {
        Reply::new(201, "").with("ETag", "abc")
    }
    fn denied(_: &Seen) -> Reply {
        Reply::new(403, "<Error><Code>AccessDenied</Code></Error>")
    }
    fn gone(_: &Seen) -> Reply {
        Reply::new(404, "<Error><Code>NoSuchUpload</Code></Error>")
    }
    type Storage = fn(&Seen) -> Reply;
    for (signed, storage, expected) in [
        (json!({}), taken as Storage, Ok("abc")),
        (json!({"report": {"headers": ["ETag"]}}), quiet, Err(FailureKind::PartRejected)),
        (json!({}), quiet, Err(FailureKind::PartRejected)),
        (json!({"report": {"headers": []}}), quiet, Ok("")),
        (json!({}), odd, Err(FailureKind::BadAnswer)),
        (json!({"success_codes": [200, 201]}), odd, Ok("abc")),
        (json!({"report": {"success_codes": [201]}}), odd, Ok("abc")),
        (json!({}), denied, Err(FailureKind::PartRejected)),
        (json!({}), gone, Err(FailureKind::UploadGone)),
        (json!({"method": "DELETE"}), taken, Err(FailureKind::BadAnswer)),
        (json!({"url": "http://example.org/x"}), taken, Err(FailureKind::BadAnswer)),
        (json!({"headers": {"a b": "c"}}), taken, Err(FailureKind::BadAnswer)),
    ] {
        let bench = storage_bench(signed.clone(), storage);
        let put = bench.platform.put_part(&sending("u", 1), body(b"x")).await;
        let put = put.as_ref().map(|stored| stored.etag.as_str()).map_err(|failure| failure.kind);
        assert_eq!(put, expected, "{signed}");
    }
}

#[tokio::test]
async fn parts_are_reported_together_and_listed_back() {
    let listed = json!({"upload_id": "u", "part_size": 10,
        "parts": [{"part_number": 2, "response": {"headers": {"ETag": "e2"}}}]});
    let bench = bench(table(vec![
        ("POST upload/multipart/u", 200, json!(null)),
        ("GET upload/multipart/u?list_parts=true", 200, listed),
    ]));
    let parts = [bench::part(1, "e1"), bench::part(2, "e2")];
    bench.platform.report_parts(&remote("u"), &[]).await.expect("nothing to tell");
    bench.platform.report_parts(&remote("u"), &parts).await.expect("told");
    let told =
        |n: u32| json!({"part_number": n, "response": {"headers": {"ETag": format!("e{n}")}}});
    assert_eq!(bench.stub.seen().len(), 1);
    assert_eq!(bench.stub.seen()[0].json(), json!({"parts": [told(1), told(2)]}));
    assert_eq!(
        bench.platform.list_parts(&remote("u")).await.expect("listed").expect("told"),
        parts[1..]
    );
    let other = RemoteUpload { part_size: PartSize::new(11).expect("not zero"), ..remote("u") };
    let failure = bench.platform.list_parts(&other).await.expect_err("another layout");
    assert_eq!(failure.kind, FailureKind::UploadGone);
    let gone = bench.platform.list_parts(&remote("v")).await.expect_err("gone");
    assert_eq!(gone.kind, FailureKind::UploadGone);
}

#[tokio::test]
async fn only_a_file_with_an_id_means_completed() {
    let file = r#"{"id":"f1","name":"_1_a","size":100,"type":"file"}"#;
    for (status, answer, expected) in [
        (201, file, Ok("_1_a")),
        (200, file, Ok("_1_a")),
        (201, &file[..30], Err(FailureKind::BadAnswer)),
        (201, "{}", Err(FailureKind::BadAnswer)),
        (200, "<html>log in</html>", Err(FailureKind::BadAnswer)),
        (204, "", Err(FailureKind::BadAnswer)),
        (302, "", Err(FailureKind::BadAnswer)),
        (500, r#"{"code":8007}"#, Err(FailureKind::CompleteRefused)),
        (404, r#"{"code":8003}"#, Err(FailureKind::UploadGone)),
        (404, "<html>", Err(FailureKind::BadAnswer)),
        (409, r#"{"code":8005}"#, Err(FailureKind::NameTaken)),
        (504, "<html>", Err(FailureKind::ServerFault)),
    ] {
        let bench = bench(move |_| Reply::new(status, answer));
        let done = bench.platform.complete(&completing("u")).await;
        let done = done.as_ref().map(|file| file.name.as_str()).map_err(|failure| failure.kind);
        assert_eq!(done, expected, "{status} {answer}");
        assert_eq!(bench.lines("/v2/"), ["POST upload/multipart/u/complete"]);
    }
}

#[tokio::test]
async fn parts_that_were_not_reported_are_reported_by_the_call_that_completes_the_upload() {
    let file = r#"{"id":"f1","name":"a","size":100,"type":"file"}"#;
    let complete = "POST upload/multipart/u/complete";
    for (status, code) in [(201, 0), (500, 8007), (400, 8014)] {
        let bench = bench(move |seen| {
            let names_parts =
                seen.json()["parts"].as_array().is_some_and(|parts| !parts.is_empty());
            let is_refused = status != 201 && names_parts && seen.path.ends_with("/complete");
            match is_refused {
                true => Reply::new(status, json!({"code": code, "message": "no"}).to_string()),
                false => Reply::new(201, file),
            }
        });
        let parts = (1..=3).map(|number| bench::part(number, "e")).collect();
        let unreported = vec![bench::part(3, "e")];
        let request = CompleteRequest { parts, unreported, ..completing("u") };
        for _ in 0..2 {
            bench.platform.complete(&request).await.expect("completed");
        }
        let report = "POST upload/multipart/u";
        let expected = match status {
            201 => vec![complete, complete],
            _ => vec![complete, report, complete, report, complete],
        };
        assert_eq!(bench.lines("/v2/"), expected, "{status}");
        let seen = bench.stub.seen();
        assert_eq!(seen[0].json()["parts"].as_array().map(Vec::len), Some(1), "of three");
    }
}

/// Asks about 150 files at once, of which `f7` is not there, and returns how many calls that took.
async fn calls_about_many_files(bulk: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> usize {
    let shown = |id: &str| json!({"id": id, "name": id, "size": 1, "type": "file"});
    let bench = bench(move |seen| match &*seen.line().replace("/v2/", "") {
        "POST bulk/files/get?fields=_all" => bulk(seen),
        "GET files/f7?fields=_all" => Reply::new(404, refusal(5002).to_string()),
        line => {
            let id =
                line.strip_prefix("GET files/").and_then(|rest| rest.strip_suffix("?fields=_all"));
            Reply::new(200, shown(id.expect("asked about one file")).to_string())
        }
    });
    let ids: Vec<_> = (0..150).map(|number| RemoteFileId::new(format!("f{number}"))).collect();
    let inspected = ids.iter().map(|id| bench.platform.inspect(id));
    let found = futures_util::future::join_all(inspected).await;
    for (id, found) in ids.iter().zip(found) {
        let found = found.unwrap_or_else(|failure| panic!("{id}: {failure}"));
        let is_there = id.as_str() != "f7";
        assert_eq!(found.map(|file| file.id), is_there.then(|| id.clone()));
    }
    bench.stub.seen().len()
}

fn found_in(seen: &Seen, has: impl Fn(&str) -> bool) -> Reply {
    let asked = seen.json();
    let item = |id: &serde_json::Value| match id.as_str().filter(|id| has(id)) {
        Some(id) => json!({"resource": {"id": id, "name": id, "size": 1, "type": "file"}}),
        None => json!({"error": {"status": 404, "code": 5002, "message": "no such file"}}),
    };
    let items: Vec<_> = asked["file_ids"].as_array().expect("a list").iter().map(item).collect();
    assert!(items.len() <= 100, "the vendor's bound");
    Reply::new(200, json!({"items": items}).to_string())
}

#[tokio::test]
async fn questions_about_many_files_are_few_calls() {
    let calls = calls_about_many_files(|seen| found_in(seen, |id| id != "f7")).await;
    assert_eq!(calls, 4, "the first alone, two for a hundred each, and the one that is missing");
}

#[tokio::test]
async fn a_file_that_a_bulk_call_leaves_out_is_asked_about_alone() {
    let calls = calls_about_many_files(|seen| found_in(seen, |id| id.ends_with('1'))).await;
    assert_eq!(calls, 1 + 2 + 149 - 15);
    let calls = calls_about_many_files(|_| Reply::new(200, r#"{"items":[]}"#)).await;
    assert_eq!(calls, 1 + 2 + 149);
}

#[tokio::test]
async fn a_platform_without_bulk_calls_is_asked_for_one_once() {
    let refused = json!({"code": 90003, "message": "Resource not found."}).to_string();
    let calls = calls_about_many_files(move |_| Reply::new(404, refused.clone())).await;
    assert_eq!(calls, 151, "one that is refused, and one for each file");
}

#[tokio::test]
async fn a_bulk_call_that_fails_for_the_moment_fails_one_file() {
    let asked = AtomicUsize::new(0);
    let bench = bench(move |seen| match &*seen.line().replace("/v2/", "") {
        "POST bulk/files/get?fields=_all" if asked.fetch_add(1, Ordering::Relaxed) == 0 => {
            Reply::new(502, "<html>")
        }
        "POST bulk/files/get?fields=_all" => found_in(seen, |_| true),
        line => {
            let id =
                line.strip_prefix("GET files/").and_then(|rest| rest.strip_suffix("?fields=_all"));
            Reply::new(200, json!({"id": id, "name": id, "size": 1}).to_string())
        }
    });
    let ids: Vec<_> = (0..20).map(|number| RemoteFileId::new(format!("f{number}"))).collect();
    let inspected = ids.iter().map(|id| bench.platform.inspect(id));
    let found = futures_util::future::join_all(inspected).await;
    let failed = found.iter().filter(|found| found.is_err()).count();
    assert_eq!(
        (failed, bench.stub.seen().len()),
        (1, 1 + 1 + 18),
        "the others are asked about alone"
    );
}

#[tokio::test]
async fn a_complete_without_answer_is_judged_by_upload_and_file() {
    let file = |size: u64| json!({"id": "f", "name": "a b.gz", "size": size, "type": "file"});
    let there = (200, json!({"upload_id": "u"}));
    let gone = (404, json!({"code": 8003}));
    for (upload, found, expected) in [
        (there, json!([]), "pending"),
        (gone.clone(), json!([]), "gone"),
        (gone.clone(), json!([file(99)]), "gone"),
        (gone, json!([file(100)]), "done"),
    ] {
        let files = "GET files?project=lab%2Fruns%201&name=a%20b.gz&fields=_all";
        let bench = bench(table(vec![
            ("GET upload/multipart/u?list_parts=false", upload.0, upload.1),
            (files, 200, json!({"items": found.clone()})),
        ]));
        let word = match bench.platform.find_completed(&completing("u")).await.expect("told") {
            Completion::Done(file) => {
                assert_eq!(file.id.as_str(), "f");
                "done"
            }
            Completion::Pending => "pending",
            Completion::Gone => "gone",
            Completion::Unknown(_) => "unknown",
        };
        assert_eq!(word, expected, "{found}");
    }
}

#[tokio::test]
async fn an_upload_that_is_not_there_is_aborted() {
    const ABORT: &str = "DELETE upload/multipart/u";
    const LOOK: &str = "GET upload/multipart/u?list_parts=false";
    let there = || json!({"upload_id": "u"});
    for (answers, is_good) in [
        (vec![(ABORT, 204, json!(null))], true),
        (vec![(ABORT, 404, refusal(8003))], true),
        (vec![(ABORT, 500, refusal(8009)), (LOOK, 404, refusal(8003))], true),
        (vec![(ABORT, 500, refusal(8009)), (LOOK, 200, there())], false),
        (vec![(ABORT, 403, refusal(8001))], false),
    ] {
        let said = format!("{answers:?}");
        let bench = bench(table(answers));
        assert_eq!(
            bench.platform.abort(&RemoteUploadId::new("u")).await.is_ok(),
            is_good,
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_file_is_described_by_merging() {
    let bench = bench(|_| Reply::new(200, "{}"));
    let said = Description {
        metadata: vec![("run".into(), "1".into())],
        tags: vec!["x".into()],
        mark: None,
    };
    let file = RemoteFileId::new("f1");
    bench.platform.describe(&file, &said).await.expect("described");
    bench.platform.describe(&file, &Description::default()).await.expect("nothing to say");
    assert_eq!(bench.lines("/v2/"), ["PATCH files/f1/metadata", "PUT files/f1/tags"]);
    assert_eq!(bench.stub.seen()[0].json(), json!({"run": "1"}));
    assert_eq!(bench.stub.seen()[1].json(), json!(["x"]));
}

#[tokio::test]
async fn a_file_that_is_not_there_is_none_only_when_the_platform_says_so() {
    for (status, answer, expected) in [
        (200, r#"{"id":"f1","name":"n"}"#, Ok(true)),
        (404, r#"{"code":5002}"#, Ok(false)),
        (404, "<html>", Err(FailureKind::BadAnswer)),
        (403, r#"{"code":5001}"#, Err(FailureKind::Forbidden)),
    ] {
        let bench = bench(move |_| Reply::new(status, answer));
        let found = bench.platform.inspect(&RemoteFileId::new("f1")).await;
        assert_eq!(found.map(|f| f.is_some()).map_err(|f| f.kind), expected, "{status} {answer}");
    }
}

#[tokio::test]
async fn a_refused_call_stops_the_account() {
    let bench = bench(|_| Reply::new(429, "{}").with("X-RateLimit-Reset", "1739264660"));
    let failure = bench.platform.check_access().await.expect_err("refused");
    let after = Some(Duration::from_secs(60));
    assert_eq!(failure.kind, FailureKind::Throttled { after });
    let zero = Monotonic(Duration::ZERO);
    let until = bench.platform.api.link.account.paused_until(zero);
    let pause = until.expect("paused").since(zero);
    assert!((61..=65).contains(&pause.as_secs()), "{pause:?}");
    let next = bench.platform.check_access().await.expect_err("the next call is not made");
    assert_eq!(next.kind, FailureKind::Throttled { after: Some(pause) });
    assert_eq!(bench.stub.lines().len(), 1);
}

#[tokio::test]
async fn a_refused_token_is_read_again() {
    let bench = bench(|seen| match seen.header("x-sbg-auth-token") {
        Some("better") => Reply::new(200, r#"{"username":"ann"}"#),
        _ => Reply::new(401, refusal(7).to_string()),
    });
    let failure = bench.platform.check_access().await.expect_err("refused");
    assert_eq!(failure.kind, FailureKind::Unauthorized);
    std::fs::write(bench.file.path(), "better").expect("written");
    bench.platform.check_access().await.expect("accepted");
    std::fs::write(bench.file.path(), "be\ttter").expect("written");
    let failure = bench.platform.check_access().await.expect_err("unusable");
    assert!(failure.message.contains(&bench.file.path().display().to_string()), "{failure}");
    assert!(!failure.message.contains("tter"), "{failure}");
}

#[tokio::test]
async fn no_secret_is_logged_or_told() {
    let act = async {
        let mut told = String::new();
        for storage in
            [(|_: &Seen| Reply::new(200, "").with("ETag", "e")) as fn(&Seen) -> Reply, |seen| {
                Reply::new(403, format!("<Code>AccessDenied</Code>{}", seen.path))
            }]
        {
            let bench = storage_bench(json!({"headers": {"x-secret": "planted-header"}}), storage);
            let put = bench.platform.put_part(&sending("u", 1), body(b"x")).await;
            let access = bench.platform.check_access().await;
            told += &format!("{put:?} {access:?} {:?}", bench.platform);
        }
        let nonsense = bench(|_| Reply::new(200, r#"{"url":7,"x":"planted-nonsense"}"#));
        let put = nonsense.platform.put_part(&sending("u", 1), body(b"x")).await;
        told + &format!("{put:?}")
    };
    let (told, logged) = traced(act).await;
    assert!(logged.contains("/v2/upload/multipart/u/part/1"), "{logged}");
    assert!(!told.contains("planted"), "{told}");
    assert!(!logged.contains("planted"), "{logged}");
}

#[test]
fn a_base_url_is_checked_at_the_door() {
    let platform = |base_url: &str| {
        let settings = Settings { base_url: base_url.into(), project: "a/b".into() };
        client(&settings).0
    };
    for base in ["https://api.example/v2", "https://api.example/v2/", "https://api.example/v2?x#y"]
    {
        let platform = platform(base).expect(base);
        let url = platform.url("files/a?b#c d/../e", &[("name", "a+b c&d=é")]).expect("a URL");
        assert_eq!(
            url.as_str(),
            "https://api.example/v2/files/a%3Fb%23c%20d/e?name=a%2Bb%20c%26d%3D%C3%A9"
        );
    }
    let bare = platform("https://api.example").expect("a client");
    assert_eq!(bare.traits().limits.size_min, ByteCount(5 * MIB));
    assert_eq!(bare.url("user", &[]).expect("a URL").as_str(), "https://api.example/user");
    for base in ["http://api.example/v2", "api.example", "ftp://localhost", ""] {
        assert!(platform(base).is_err(), "{base}");
    }
}

#[test]
fn one_answer_costs_little_memory_whatever_it_holds() {
    use crate::platform::answer::{parse, parse_list};
    use crate::platform::http::ANSWER_MAX;
    let name = "platform::sevenbridges::tests::one_answer_costs_little_memory_whatever_it_holds";
    let peak = bench::peak_mib(name, || {
        for flood in bench::floods(ANSWER_MAX) {
            for key in ["items", "parts", "metadata", "message"] {
                let mut body = String::with_capacity(flood.len() + 30);
                body.push_str(&format!("{{\"{key}\":"));
                body.push_str(&flood);
                body.push('}');
                let answer = bench::answer(body);
                drop(parse::<wire::SevenBridgesFile>(&answer).map(wire::SevenBridgesFile::remote));
                drop(parse::<wire::SevenBridgesPage<wire::SevenBridgesFile>>(&answer));
                drop(parse::<wire::SevenBridgesPage<wire::SevenBridgesUpload>>(&answer));
                drop(
                    parse_list::<wire::SevenBridgesUpload>(&answer)
                        .map(|upload| upload.listed_parts()),
                );
                drop(parse::<wire::SignedPart>(&answer));
                drop(parse::<wire::SevenBridgesProject>(&answer));
                answers::classify(answers::SevenBridgesCall::General, &answer, WallTime(0));
            }
        }
    });
    // The flood itself is in memory beside the answer.
    assert!(peak.is_none_or(|mib| mib <= 16 + 3), "{peak:?} MiB");
}

#[test]
fn ten_thousand_parts_with_header_lines_are_listed() {
    let part = |number: usize| {
        format!(
            "{{\"part_number\":{number},\"response\":{{\"headers\":{{\"ETag\":\"\\\"{number:032x}\\\"\",\"x-amz-id-2\":\"{0}\",\"Date\":\"{1}\"}}}}}}",
            "i".repeat(76),
            "Tue, 11 Feb 2025 20:30:00 GMT"
        )
    };
    let parts: Vec<_> = (1..=10_000).map(part).collect();
    let body = format!("{{\"upload_id\":\"u\",\"parts\":[{}]}}", parts.join(","));
    assert!(body.len() <= crate::platform::http::ANSWER_MAX, "{}", body.len());
    let upload: wire::SevenBridgesUpload =
        crate::platform::answer::parse_list(&bench::answer(body)).expect("read");
    let listed = upload.listed_parts().expect("listed");
    assert_eq!(listed.len(), 10_000);
    assert_eq!(listed[9_999].etag.as_str(), format!("{:032x}", 10_000));
}

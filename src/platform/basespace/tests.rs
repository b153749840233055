use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::*;
use crate::model::FailureKind;
use crate::platform::bench::{self, frozen};
use crate::platform::http::stub::{Reply, Seen, Stub};

/// 2026-03-01T10:20:30Z, here and there.
const NOW: WallTime = WallTime(1_772_360_430_000_000_000);
const DATE: &str = "Sun, 01 Mar 2026 10:20:30 GMT";
/// MD5 of `0123456789`, in both of its forms.
const DIGITS_MD5: &str = "781e5e245d69b566979b86e28d23f2c7";
const DIGITS_BASE64: &str = "eB5eJF1ptWaXm4bijSPyxw==";
const LIST: &str = "GET appresults/71/files?SortBy=DateCreated&SortDir=Asc&Offset=0&Limit=1000";
const LIST_NEWEST: &str =
    "GET appresults/71/files?SortBy=DateCreated&SortDir=Desc&Offset=0&Limit=1000";
const SINGLE: &str = "POST appresults/71/files?name=a%20b%2B.gz&directory=runs%2Fr1";

type Bench = bench::Bench<BaseSpace>;

fn short(seen: &Seen) -> String {
    seen.line().replace("/v1pre3/", "")
}

/// Starts a platform that answers by `handler`, and a client of it.
fn bench(
    place: BaseSpacePlace,
    handler: impl Fn(&str, &Seen) -> Reply + Send + Sync + 'static,
) -> Bench {
    let stub = Stub::start(move |seen| handler(&short(seen), seen).with("Date", DATE));
    let settings = Settings { base_url: stub.url("/v1pre3"), place };
    let (link, file) = bench::link("planted-token\n", Some(10_000.0), frozen(NOW));
    let platform = BaseSpace::new(&settings, link).expect("a client");
    Bench { stub, platform, file }
}

fn given() -> BaseSpacePlace {
    BaseSpacePlace::AppResult("71".into())
}

fn project(name: &str) -> BaseSpacePlace {
    BaseSpacePlace::Project(name.into())
}

fn ok(status: u16, response: Value) -> Reply {
    let body = json!({"Response": response, "ResponseStatus": {}, "Notifications": []});
    Reply::new(status, body.to_string())
}

fn refused(status: u16, code: &str) -> Reply {
    let body = json!({"ResponseStatus": {"ErrorCode": code, "Message": "no"}});
    Reply::new(status, body.to_string()).with("X-Request-ID", "2026.03.01.x")
}

fn denied() -> Reply {
    refused(403, "BASESPACE.COMMON.INSUFFICIENT_RESOURCE_PERMISSIONS")
}

fn list(items: Value) -> Reply {
    let count = items.as_array().map_or(0, Vec::len);
    ok(200, json!({"Items": items, "DisplayedCount": count, "TotalCount": count}))
}

fn app_result(id: &str, name: &str, status: &str) -> Value {
    json!({"Id": id, "Name": name, "Status": status})
}

fn running() -> Reply {
    ok(200, app_result("71", "given", "Running"))
}

fn user() -> Reply {
    ok(200, json!({"Id": "900100", "Name": "Core Lab"}))
}

fn file(id: &str, size: u64, status: &str) -> Value {
    json!({
        "Id": id, "Name": "a b+.gz", "Path": "runs/r1/a b+.gz", "Size": size,
        "UploadStatus": status, "DateCreated": "2026-03-01T10:20:29.0000000Z",
        "ETag": DIGITS_MD5,
    })
}

fn target() -> Target {
    bench::target(&["runs", "r1"], "a b+.gz")
}

fn request(size: u64, part_size: u64) -> BeginRequest {
    bench::request(target(), size, part_size)
}

fn remote(id: &str, begun: &BeginRequest) -> RemoteUpload {
    bench::remote(begun, id)
}

fn sending(id: &str, begun: BeginRequest) -> PartRequest {
    bench::sending(begun, id, 1)
}

fn completing(id: &str, begun: BeginRequest) -> CompleteRequest {
    bench::completing(begun, id, vec![bench::part(1, DIGITS_MD5)], NOW)
}

fn digits() -> PartBody {
    bench::body(b"0123456789")
}

#[tokio::test]
async fn a_file_of_parts_is_begun_sent_and_completed() {
    let bench = bench(given(), |line, _| match line {
        "GET appresults/71" => running(),
        "POST appresults/71/files?name=a%20b%2B.gz&directory=runs%2Fr1&multipart=true" => {
            ok(200, file("119", 0, "pending"))
        }
        "PUT files/119/parts/1" => ok(200, json!({"Number": 1, "ETag": DIGITS_MD5, "Size": 10})),
        "GET files/119" => ok(200, file("119", 0, "pending")),
        "GET files/119/parts?Offset=0&Limit=1000" => {
            list(json!([{"Number": 1, "ETag": DIGITS_MD5, "Size": 10}]))
        }
        "POST files/119?uploadstatus=complete" => ok(201, file("119", 20, "complete")),
        other => panic!("{other}"),
    });
    let begun = bench.platform.begin(&request(20, 10)).await.expect("begun");
    assert_eq!((begun.id.as_str(), begun.part_count), ("119", 2));
    let etag = bench.platform.put_part(&sending("119", request(20, 10)), digits()).await;
    assert_eq!(etag.expect("taken").etag.as_str(), DIGITS_MD5);
    let listed = bench.platform.list_parts(&begun).await.expect("listed").expect("told");
    assert_eq!(listed.len(), 1);
    let done = bench.platform.complete(&completing("119", request(20, 10))).await.expect("done");
    assert_eq!((done.id.as_str(), done.size), ("119", Some(ByteCount(20))));
    let seen = bench.stub.seen();
    for seen in &seen {
        assert_eq!(seen.header("x-access-token"), Some("planted-token"));
    }
    assert_eq!(seen[1].header("content-type"), Some(CONTENT_TYPE));
    assert_eq!(seen[1].header("content-length"), Some("0"));
    assert_eq!(seen[2].header("content-md5"), Some(DIGITS_BASE64));
    assert_eq!(seen[2].body, b"0123456789");
}

#[tokio::test]
async fn a_part_that_was_damaged_is_rejected() {
    for (reply, kind) in [
        (refused(400, "BadRequest"), FailureKind::PartRejected),
        (ok(200, json!({"Number": 1, "ETag": DIGITS_MD5, "Size": 9})), FailureKind::PartRejected),
        (ok(200, json!({"Number": 2, "ETag": DIGITS_MD5, "Size": 10})), FailureKind::BadAnswer),
        (ok(200, json!({})), FailureKind::BadAnswer),
        (refused(413, "RequestEntityTooLarge"), FailureKind::ServerFault),
        (Reply::new(500, "<html>"), FailureKind::ServerFault),
        (Reply::new(403, "<html>"), FailureKind::BadAnswer),
        (refused(401, "BASESPACE.COMMON.AUTHENTICATION_FAILURE"), FailureKind::Unauthorized),
        (refused(200, "BASESPACE.COMMON.AUTHENTICATION_FAILURE"), FailureKind::Unauthorized),
        (refused(200, "SOMETHING.ELSE"), FailureKind::ServerFault),
        (
            refused(429, "TooMany").with("Retry-After", "7"),
            FailureKind::Throttled { after: Some(Duration::from_secs(7)) },
        ),
    ] {
        let bench = bench(given(), move |line, _| match line {
            "PUT files/119/parts/1" => reply.clone(),
            // The gateway's refusal is not the platform's: the file is not looked up.
            other => panic!("{other}"),
        });
        let put = bench.platform.put_part(&sending("119", request(20, 10)), digits()).await;
        assert_eq!(put.expect_err("damaged").kind, kind);
    }
}

#[tokio::test]
async fn a_refused_part_is_judged_by_a_look_at_its_file_and_the_token() {
    for (shown, user, kind) in [
        (denied(), user(), FailureKind::UploadGone),
        (denied(), refused(401, "Unauthorized"), FailureKind::Unauthorized),
        (ok(200, file("119", 0, "pending")), user(), FailureKind::Forbidden),
        (ok(200, file("119", 0, "aborted")), user(), FailureKind::UploadGone),
        (ok(200, file("119", 20, "complete")), user(), FailureKind::AlreadyCompleted),
        (refused(410, "BASESPACE.COMMON.RESOURCE_REMOVED"), user(), FailureKind::UploadGone),
    ] {
        let bench = bench(given(), move |line, _| match line {
            "PUT files/119/parts/1" => denied(),
            "GET files/119" => shown.clone(),
            "GET users/current" => user.clone(),
            other => panic!("{other}"),
        });
        let put = bench.platform.put_part(&sending("119", request(20, 10)), digits()).await;
        let failure = put.expect_err("refused");
        assert_eq!(failure.kind, kind, "{failure}");
    }
}

#[tokio::test]
async fn parts_that_cannot_be_listed_are_not_told() {
    for reply in [refused(404, ""), Reply::new(200, "[]"), list(json!([{"Number": 1}]))] {
        let bench = bench(given(), move |line, _| match line {
            "GET files/119" => ok(200, file("119", 0, "pending")),
            _ => reply.clone(),
        });
        let asked = remote("119", &request(20, 10));
        assert_eq!(bench.platform.list_parts(&asked).await.expect("asked"), None);
    }
    let bench = bench(given(), |_, _| ok(200, file("119", 20, "complete")));
    let asked = remote("119", &request(20, 10));
    let failure = bench.platform.list_parts(&asked).await.expect_err("ended");
    assert_eq!(failure.kind, FailureKind::UploadGone);
}

#[tokio::test]
async fn what_became_of_a_complete_is_told_by_the_file() {
    for (reply, expected) in [
        (ok(200, file("119", 20, "complete")), "done"),
        (ok(200, file("119", 10, "complete")), "gone"),
        (ok(200, file("119", 0, "pending")), "pending"),
        (ok(200, file("119", 0, "aborted")), "gone"),
        (denied(), "gone"),
        (refused(410, "BASESPACE.COMMON.RESOURCE_REMOVED"), "gone"),
        (ok(200, file("119", 0, "undefined")), "server-fault"),
        (Reply::new(502, "<html>"), "server-fault"),
    ] {
        let bench = bench(given(), move |line, _| match line {
            "GET files/119" => reply.clone(),
            "GET users/current" => user(),
            other => panic!("{other}"),
        });
        let asked = completing("119", request(20, 10));
        let told = match bench.platform.find_completed(&asked).await {
            Ok(Completion::Done(file)) => {
                assert_eq!(file.size, Some(ByteCount(20)));
                "done"
            }
            Ok(Completion::Pending) => "pending",
            Ok(Completion::Gone) => "gone",
            Ok(Completion::Unknown(why)) => panic!("{why}"),
            Err(failure) => failure.kind.as_str(),
        };
        assert_eq!(told, expected);
    }
}

#[tokio::test]
async fn a_complete_that_had_its_effect_before_is_one() {
    for (answer, shown, expected) in [
        (ok(201, file("119", 20, "complete")), "", Ok("119")),
        (ok(201, file("119", 19, "complete")), "", Err(FailureKind::CompleteRefused)),
        (ok(200, file("119", 0, "pending")), "", Err(FailureKind::ServerFault)),
        (refused(400, "BadRequest"), "", Err(FailureKind::CompleteRefused)),
        (refused(409, "Conflict"), "complete", Ok("119")),
        (refused(409, "Conflict"), "aborted", Err(FailureKind::UploadGone)),
        (refused(409, "Conflict"), "pending", Err(FailureKind::ServerFault)),
        (refused(403, "Forbidden"), "pending", Err(FailureKind::Forbidden)),
    ] {
        let bench = bench(given(), move |line, _| match line {
            "POST files/119?uploadstatus=complete" => answer.clone(),
            "GET files/119" => ok(200, file("119", 20, shown)),
            "GET appresults/71" => running(),
            LIST => list(json!([])),
            other => panic!("{other}"),
        });
        let done = bench.platform.complete(&completing("119", request(20, 10))).await;
        let done = done.as_ref().map(|file| file.id.as_str()).map_err(|failure| failure.kind);
        assert_eq!(done, expected);
    }
}

#[tokio::test]
async fn a_small_file_goes_in_one_call_and_its_answer_completes_it() {
    let bench = bench(given(), |line, _| match line {
        "GET appresults/71" => running(),
        SINGLE => ok(201, file("119", 10, "complete")),
        other => panic!("{other}"),
    });
    let begun = bench.platform.begin(&request(10, 5 << 20)).await.expect("begun");
    assert_eq!((begun.id.as_str(), begun.part_size.get()), ("single:71", 10));
    assert_eq!(bench.platform.list_parts(&begun).await.expect("asked"), None);
    let asked = sending("single:71", request(10, 5 << 20));
    let etag = bench.platform.put_part(&asked, digits()).await.expect("taken").etag;
    assert_eq!(etag.as_str(), DIGITS_MD5);
    let asked = completing("single:71", request(10, 5 << 20));
    let done = bench.platform.complete(&asked).await.expect("done");
    assert_eq!(done.id.as_str(), "119");
    assert_eq!(done.mark.expect("proved").part_size, begun.part_size);
    bench.platform.abort(&begun.id).await.expect("nothing to abort");
    assert_eq!(bench.lines("/v1pre3/"), ["GET appresults/71", SINGLE]);
    let seen = bench.stub.seen();
    assert_eq!(seen[1].header("content-md5"), Some(DIGITS_BASE64));
    assert_eq!(seen[1].header("content-type"), Some(CONTENT_TYPE));
}

#[tokio::test]
async fn a_post_without_a_clear_answer_is_looked_for_before_it_is_repeated() {
    let elsewhere = json!({"Id": "1", "Name": "a b+.gz", "Path": "a b+.gz", "Size": 10});
    let mut changed = file("119", 10, "complete");
    changed["ETag"] = json!("0".repeat(32));
    for (listed, expected) in [
        (json!([elsewhere.clone(), file("119", 10, "complete")]), Ok(1)),
        (json!([elsewhere, file("119", 10, "pending")]), Ok(2)),
        (json!([changed]), Err(FailureKind::NameTaken)),
        (json!([file("119", 11, "complete")]), Err(FailureKind::NameTaken)),
    ] {
        let posts = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&posts);
        let bench = bench(given(), move |line, _| match line {
            "GET appresults/71" => running(),
            SINGLE => match counter.fetch_add(1, Ordering::Relaxed) {
                0 => Reply::new(502, "<html>"),
                _ => ok(201, file("120", 10, "complete")),
            },
            LIST => list(listed.clone()),
            other => panic!("{other}"),
        });
        bench.platform.begin(&request(10, 5 << 20)).await.expect("begun");
        let asked = sending("single:71", request(10, 5 << 20));
        bench.platform.put_part(&asked, digits()).await.expect_err("the answer is lost");
        let again = bench.platform.put_part(&asked, digits()).await;
        let again = again.map(|stored| assert_eq!(stored.etag.as_str(), DIGITS_MD5));
        let count = posts.load(Ordering::Relaxed);
        assert_eq!(again.map(|()| count).map_err(|failure| failure.kind), expected);
    }
}

#[tokio::test]
async fn a_post_of_an_earlier_process_is_looked_for_first() {
    let bench = bench(given(), |line, _| match line {
        LIST | LIST_NEWEST => list(json!([file("119", 10, "complete")])),
        other => panic!("{other}"),
    });
    let asked = sending("single:71", request(10, 5 << 20));
    for _ in 0..2 {
        let etag = bench.platform.put_part(&asked, digits()).await.expect("there").etag;
        assert_eq!(etag.as_str(), DIGITS_MD5);
    }
    let done = bench.platform.find_completed(&completing("single:71", request(10, 5 << 20))).await;
    assert!(matches!(done, Ok(Completion::Done(_))), "{done:?}");
    assert_eq!(bench.lines("/v1pre3/"), [LIST, LIST_NEWEST], "whole once, then what is new");
}

#[tokio::test]
async fn a_post_into_an_app_result_that_ended_begins_anew() {
    let bench = bench(given(), |line, _| match line {
        "GET appresults/71" => ok(200, app_result("71", "given", "Complete")),
        SINGLE => refused(403, "Forbidden"),
        LIST => list(json!([])),
        other => panic!("{other}"),
    });
    let asked = sending("single:71", request(10, 5 << 20));
    let failure = bench.platform.put_part(&asked, digits()).await.expect_err("ended");
    assert_eq!(failure.kind, FailureKind::UploadGone);
    let failure = bench.platform.begin(&request(10, 5 << 20)).await.expect_err("ended");
    assert_eq!(failure.kind, FailureKind::Forbidden);
    assert!(failure.message.contains("\"Complete\""), "{failure}");
}

#[tokio::test]
async fn a_file_is_located_by_its_path_over_all_pages_and_looked_at() {
    let page = |from: usize, count: usize| {
        let other =
            |id: usize| json!({"Id": id, "Name": "b", "Path": format!("x/{id}"), "Size": 1});
        let items: Vec<_> = (from..from + count).map(other).collect();
        json!({"Items": items, "DisplayedCount": count, "TotalCount": 1001})
    };
    let bench = bench(given(), move |line, _| match line {
        "GET appresults/71" => running(),
        LIST => ok(200, page(0, 1000)),
        "GET appresults/71/files?SortBy=DateCreated&SortDir=Asc&Offset=1000&Limit=1000" => {
            let mut shown = file("119", 10, "complete");
            shown["UploadStatus"] = Value::Null;
            ok(200, json!({"Items": [shown], "DisplayedCount": 1, "TotalCount": 1001}))
        }
        "GET files/119" => ok(200, file("119", 10, "complete")),
        other => panic!("{other}"),
    });
    let found = bench.platform.locate(&target()).await.expect("asked").expect("there");
    assert_eq!(found.id.as_str(), "119");
    assert!(found.mark.is_some());
    let other = target().with_name("c");
    assert_eq!(bench.platform.locate(&other).await.expect("asked"), None);
    assert_eq!(
        bench.lines("/v1pre3/").len(),
        4,
        "the list is remembered: {:?}",
        bench.lines("/v1pre3/")
    );
    let overwriting = BeginRequest { overwrite: true, ..request(20, 10) };
    let failure = bench.platform.begin(&overwriting).await.expect_err("never replaced");
    assert_eq!(failure.kind, FailureKind::BadRequest);
}

#[tokio::test]
async fn a_project_and_an_app_result_are_made_when_missing() {
    let bench = bench(project("run archive"), |line, seen| match line {
        "GET users/current/projects?Name=run%20archive&SortBy=Id&SortDir=Asc&Offset=0&Limit=200" => {
            list(json!([{"Id": "40", "Name": "run archive 2"}]))
        }
        "POST projects" => {
            assert_eq!(seen.json(), json!({"Name": "run archive"}));
            ok(201, json!({"Id": "41", "Name": "run archive"}))
        }
        "GET projects/41/appresults?SortBy=DateCreated&SortDir=Desc&Offset=0&Limit=200" => {
            list(json!([app_result("70", "runs", "Complete"), app_result("69", "Runs", "Running")]))
        }
        "POST projects/41/appresults" => {
            assert_eq!(seen.json()["Name"], "runs");
            ok(201, app_result("71", "runs", "Running"))
        }
        "POST appresults/71/files?name=a%20b%2B.gz&directory=r1&multipart=true" => {
            ok(200, file("119", 0, "pending"))
        }
        other => panic!("{other}"),
    });
    assert_eq!(bench.platform.locate(&target()).await.expect("asked"), None, "nothing is made");
    assert_eq!(bench.lines("/v1pre3/").len(), 1);
    for _ in 0..2 {
        bench.platform.begin(&request(20, 10)).await.expect("begun");
    }
    assert_eq!(bench.lines("/v1pre3/").len(), 7, "remembered: {:?}", bench.lines("/v1pre3/"));
    bench.platform.check_access().await.expect_err("no users/current here");
}

#[tokio::test]
async fn an_app_result_whose_making_had_no_answer_is_adopted() {
    let lists = AtomicUsize::new(0);
    let bench = bench(project("41"), move |line, _| match line {
        "GET projects/41" => ok(200, json!({"Id": "41", "Name": "x"})),
        "GET projects/41/appresults?SortBy=DateCreated&SortDir=Desc&Offset=0&Limit=200" => {
            match lists.fetch_add(1, Ordering::Relaxed) {
                0 => list(json!([])),
                _ => list(json!([app_result("71", "runs", "Running")])),
            }
        }
        "POST projects/41/appresults" => Reply::new(504, ""),
        other => panic!("{other}"),
    });
    let single = request(10, 5 << 20);
    let failure = bench.platform.begin(&single).await.expect_err("the answer is lost");
    assert_eq!(failure.kind, FailureKind::ServerFault);
    let begun = bench.platform.begin(&single).await.expect("adopted");
    assert_eq!(begun.id.as_str(), "single:71");
}

#[tokio::test]
async fn a_remembered_app_result_that_ended_is_replaced_once() {
    let lists = AtomicUsize::new(0);
    let bench = bench(project("41"), move |line, _| match line {
        "GET projects/41" => ok(200, json!({"Id": "41", "Name": "x"})),
        "GET projects/41/appresults?SortBy=DateCreated&SortDir=Desc&Offset=0&Limit=200" => {
            match lists.fetch_add(1, Ordering::Relaxed) {
                0 => list(json!([app_result("71", "runs", "Running")])),
                _ => list(json!([app_result("71", "runs", "Complete")])),
            }
        }
        "POST projects/41/appresults" => ok(201, app_result("72", "runs", "Running")),
        line if line.starts_with("POST appresults/71") => refused(403, "Forbidden"),
        line if line.starts_with("POST appresults/72") => ok(200, file("119", 0, "pending")),
        other => panic!("{other}"),
    });
    bench.platform.begin(&request(10, 5 << 20)).await.expect("known from here on");
    let begun = bench.platform.begin(&request(20, 10)).await.expect("begun in another");
    assert_eq!(begun.id.as_str(), "119");
}

#[tokio::test]
async fn pending_files_of_ours_are_found_where_lists_show_them() {
    let mut old = file("118", 0, "pending");
    old["DateCreated"] = json!("2026-03-01T10:10:00.0000000Z");
    let listed = json!([file("121", 20, "complete"), file("120", 0, "pending"), old]);
    let bench = bench(given(), move |line, _| match line {
        "GET appresults/71" => running(),
        LIST_NEWEST => list(listed.clone()),
        other => panic!("{other}"),
    });
    let found = bench.platform.find_begun(&request(20, 10), NOW).await.expect("asked");
    let ids: Vec<_> = found.iter().map(|remote| remote.id.as_str()).collect();
    assert_eq!(ids, ["120"]);
    let none = bench.platform.find_begun(&request(10, 5 << 20), NOW).await.expect("asked");
    assert!(none.is_empty());
}

#[tokio::test]
async fn access_is_checked_and_refusals_say_what_to_do() {
    let bench = bench(given(), |line, _| match line {
        "GET users/current" => user(),
        _ => ok(200, app_result("71", "given", "NeedsAttention")),
    });
    let failure = bench.platform.check_access().await.expect_err("not running");
    assert_eq!(failure.kind, FailureKind::Forbidden);
    let unauthorized = refused(401, "BASESPACE.COMMON.AUTHENTICATION_FAILURE");
    let bench = self::bench(given(), move |_, _| unauthorized.clone());
    let failure = bench.platform.check_access().await.expect_err("a bad token");
    assert!(failure.message.contains("region"), "{failure}");
    assert_eq!(failure.request_id.as_deref(), Some("2026.03.01.x"));
    for name in ["", "a/b"] {
        let named = BeginRequest { target: target().with_name(name), ..request(20, 10) };
        let failure = bench.platform.begin(&named).await.expect_err("no name");
        assert_eq!(failure.kind, FailureKind::BadRequest);
    }
}

#[tokio::test]
async fn aborting_what_is_not_there_is_done() {
    for (reply, is_done) in [
        (ok(200, file("119", 0, "aborted")), true),
        (denied(), true),
        (refused(404, ""), true),
        (refused(409, "Conflict"), true),
        (refused(410, "BASESPACE.COMMON.RESOURCE_REMOVED"), true),
        (Reply::new(503, ""), false),
    ] {
        let bench = bench(given(), move |line, _| match line {
            "POST files/119?uploadstatus=aborted" => reply.clone(),
            other => panic!("{other}"),
        });
        let done = bench.platform.abort(&RemoteUploadId::new("119")).await;
        assert_eq!(done.is_ok(), is_done, "{done:?}");
    }
}

#[test]
fn one_answer_costs_little_memory_whatever_it_holds() {
    use crate::platform::http::ANSWER_MAX;
    let name = "platform::basespace::tests::one_answer_costs_little_memory_whatever_it_holds";
    let peak = bench::peak_mib(name, || {
        for flood in bench::floods(ANSWER_MAX) {
            for around in
                ["{\"Response\":{\"Items\":@}}", "{\"Response\":{\"Id\":@}}", "{\"Message\":@}"]
            {
                let (before, after) = around.split_once('@').expect("a place");
                let mut body = String::with_capacity(flood.len() + 30);
                [before, &flood, after].iter().for_each(|piece| body.push_str(piece));
                let answer = bench::answer(body);
                drop(wire::response::<wire::BaseSpacePage<wire::BaseSpaceFile>>(&answer));
                drop(wire::response::<wire::BaseSpacePage<wire::BaseSpacePart>>(&answer));
                drop(wire::response::<wire::BaseSpaceFile>(&answer));
                drop(wire::response::<wire::AppResult>(&answer));
                drop(wire::said(&answer.body));
            }
        }
    });
    // The flood itself is in memory beside the answer.
    assert!(peak.is_none_or(|mib| mib <= 16 + 3), "{peak:?} MiB");
}

#[tokio::test]
async fn a_refusal_without_marks_is_weather_and_one_in_the_vendors_form_is_its_word() {
    for (status, body, expected) in [
        (403, "{}", FailureKind::BadAnswer),
        (410, "", FailureKind::BadAnswer),
        (403, "{\"ResponseStatus\": {\"Message\": \"no\"}}", FailureKind::Forbidden),
    ] {
        let bench = bench(given(), move |call, _| match call {
            "GET users/current" => ok(200, json!({"Id": "9"})).with("X-Request-ID", "7"),
            _ => Reply::new(status, body),
        });
        bench.platform.check_token().await.expect("taken");
        let refused = bench.platform.check().await.expect_err("refused");
        assert_eq!(refused.kind, expected, "{status} {body}: {refused}");
    }
}

use serde_json::json;

use reqwest::Url;

use super::*;
use crate::model::{ETag, FailureKind as K, RemoteUpload, RemoteUploadId, WallTime};
use crate::platform::bench::{self, Bench, body, frozen, part};
use crate::platform::contract::{BeginRequest, CompleteRequest, Platform};
use crate::platform::http::Response;
use crate::platform::http::stub::{Reply, Seen, Stub};

const KEY: &str = "planted-key";
const ROOT: &str = "/pre/api/projects/p%201/uploads/";

/// A platform that answers by `handler`, which gets the call without the common prefix.
fn bench(handler: impl Fn(&str, &Seen) -> Reply + Send + Sync + 'static) -> Bench<GjirafaVp> {
    let stub = Stub::start(move |seen| handler(&seen.line().replace(ROOT, ""), seen));
    let settings = Settings {
        base_url: stub.url("/pre/"),
        project: "p 1".into(),
        auth_header: "x-api-key".into(),
        auth_prefix: "Bearer ".into(),
    };
    let (link, file) = bench::link(KEY, Some(10_000.0), frozen(WallTime(1_739_261_000 << 30)));
    let platform = GjirafaVp::new(&settings, link).expect("a client");
    Bench { stub, platform, file }
}

/// An answer, which is a success when its status is one.
fn told(status: u16, result: Value) -> Reply {
    let body = json!({"success": status == 200, "statusCode": status, "result": result});
    Reply::new(status, body.to_string())
}

/// The address of a part at the requesting host.
fn address(seen: &Seen, part: u32) -> String {
    format!("http://{}/s/{part}?a=%2F+b", seen.header("host").unwrap_or_default())
}

fn begun(seen: &Seen, parts: &[u32]) -> Reply {
    let signed = |part: &u32| json!({"partNumber": part, "presignedUrl": address(seen, *part)});
    let addresses: Vec<_> = parts.iter().map(signed).collect();
    told(200, json!({"requestKey": "r/1", "uploadId": "u", "presignedUrl": addresses}))
}

fn request(size: u64) -> BeginRequest {
    let name = format!("a/\u{7}{}", "é".repeat(200));
    bench::request(bench::target(&["lost"], &name), size, 10)
}

fn remote(id: &str) -> RemoteUpload {
    bench::remote(&request(15), id)
}

fn completing(id: &str) -> CompleteRequest {
    bench::completing(request(15), id, vec![part(1, "e1"), part(2, "e2")], WallTime(0))
}

async fn send(bench: &Bench<GjirafaVp>, id: &str, part: u32) -> Result<ETag, K> {
    let asked = bench::sending(request(15), id, part);
    let put = bench.platform.put_part(&asked, body(b"12345")).await;
    put.map(|stored| stored.etag).map_err(|failure| failure.kind)
}

const LIST: &str = "GET url/multipart/r%2F1/parts";
const RESUME: &str = "POST multipart-resume";
const COMPLETE: &str = "PUT multipart-complete";
const SUCCESS: &str = "POST success/r%2F1";

/// A platform that answers with these statuses to list, resume, complete and success, and lists
/// parts of these lengths: unordered, some with quotes.
fn answering(statuses: [u16; 4], sizes: [u64; 2]) -> Bench<GjirafaVp> {
    bench(move |line, seen| {
        let known = [LIST, RESUME, COMPLETE, SUCCESS].into_iter().position(|call| call == line);
        match (line, known.map_or(404, |call| statuses[call])) {
            (RESUME, 200) => begun(seen, &[1, 2]),
            (LIST, 200) => told(
                200,
                json!([
                    {"partNumber": 2, "size": sizes[1], "eTag": "\"e2\"", "lastModified": "?"},
                    {"partNumber": 1, "size": sizes[0], "eTag": "\"e1\""},
                ]),
            ),
            (COMPLETE, 200) => told(200, true.into()),
            (_, status) => told(status, json!({"downloadPath": "d"})),
        }
    })
}

#[tokio::test]
async fn begin_says_everything_and_parts_go_without_the_key() {
    let bench = bench(|line, seen| match line {
        "POST multipart" => begun(seen, &[2, 1]),
        RESUME => begun(seen, &[1, 2]),
        "PUT /s/2?a=%2F+b" => Reply::new(200, "").with("ETag", "\"e2\""),
        _ => Reply::new(403, "<Error><Code>AccessDenied</Code></Error>"),
    });
    let begun = bench.platform.begin(&request(15)).await.expect("begun");
    assert_eq!((begun.id.as_str(), begun.part_count), ("r/1", 2));
    assert_eq!(send(&bench, "r/1", 2).await, Ok(ETag::from_header("e2")));
    for _ in 0..3 {
        assert_eq!(send(&bench, "r/1", 1).await, Err(K::PartRejected));
    }
    let first = "PUT /s/1?a=%2F+b";
    let wanted = ["POST multipart", "PUT /s/2?a=%2F+b", first, RESUME, first, first];
    assert_eq!(bench.lines(ROOT), wanted, "fresh addresses are not renewed at once");
    let seen = bench.stub.seen();
    let body = json!({"partsNumber": 2, "fileName": format!("a__{}", "é".repeat(126)),
        "contentLength": "15", "mimeType": "application/octet-stream",
        "enableDuplicateCheck": false, "presignedUrlExpiryTimeHours": 48});
    assert_eq!(seen[0].json(), body);
    for call in seen {
        let is_storage = call.path.starts_with("/s/");
        assert_eq!(call.header("x-api-key"), (!is_storage).then_some("Bearer planted-key"));
        assert_eq!(call.header("content-type").is_some(), !is_storage);
        assert!(!is_storage || !format!("{call:?}").contains(KEY));
        assert!(!is_storage || call.header("content-length") == Some("5"));
    }
}

#[tokio::test]
async fn addresses_that_are_not_as_asked_for_are_refused_and_the_upload_aborted() {
    let (bad, odd) = (K::BadAnswer, K::BadRequest);
    for (parts, kind) in [(&[1][..], bad), (&[1, 2, 3], bad), (&[1, 1], bad), (&[0, 1], odd)] {
        let bench = bench(move |line, seen| match line {
            "POST multipart" => begun(seen, parts),
            _ => told(404, Value::Null),
        });
        let failure = bench.platform.begin(&request(15)).await.expect_err("refused");
        assert_eq!(failure.kind, kind, "{parts:?}");
        assert_eq!(bench.lines(ROOT), ["POST multipart", "PUT multipart-abort"]);
    }
    for (url, end) in [
        ("http://far.example/1", None),
        ("https://me:pw@far.example/1", None),
        ("1", None),
        ("https://far.example/1?X-Amz-Date=19700101T000100Z&X-Amz-Expires=30", Some(90)),
        ("https://far.example/1?a=b", Some(48 * 3600)),
    ] {
        let address = addresses::Address { part_number: 1, presigned_url: url.into() };
        let base = Url::parse("https://far.example").expect("a URL");
        let signed = addresses::Signed::take(Some(vec![address]), None, &base, WallTime(0)).ok();
        let seconds = signed.and_then(|signed| signed.expires_at).map(|at| at.0 / 1_000_000_000);
        assert_eq!(seconds, end, "{url}");
    }
}

#[tokio::test]
async fn an_answer_is_a_success_only_when_everything_says_so() {
    let (begin, complete) = (GjirafaCall::Begin, GjirafaCall::Complete);
    let soft = r#"{"success":false,"errors":["no"],"statusCode":200}"#;
    for (call, status, body, kind) in [
        (begin, 201, r#"{"success":true,"result":1}"#, None),
        (begin, 200, r#"{"success":true,"statusCode":400}"#, Some(K::BadAnswer)),
        (begin, 200, r#"{"result":true}"#, Some(K::BadAnswer)),
        (begin, 200, r#"{"success":"yes"}"#, Some(K::BadAnswer)),
        (begin, 200, "<html>", Some(K::BadAnswer)),
        (begin, 200, "", Some(K::BadAnswer)),
        (begin, 302, "", Some(K::BadAnswer)),
        (begin, 200, soft, Some(K::BadRequest)),
        (complete, 200, soft, Some(K::CompleteRefused)),
        (complete, 200, r#"{"success":false,"statusCode":500}"#, Some(K::ServerFault)),
        (complete, 400, r#"{"errors":{"parts":["x"]}}"#, Some(K::CompleteRefused)),
        (complete, 404, "", Some(K::UploadGone)),
        (complete, 404, "<html>", Some(K::BadAnswer)),
        (begin, 404, "{}", Some(K::NotFound)),
        (begin, 422, "{}", Some(K::BadRequest)),
        (begin, 403, "<html>", Some(K::BadAnswer)),
        (begin, 403, "{}", Some(K::Forbidden)),
        (begin, 503, "<html>", Some(K::ServerFault)),
        (begin, 429, "", Some(K::Throttled { after: None })),
    ] {
        let response = Response { status, headers: Default::default(), body: body.into() };
        let answer = wire::judge::<Value>(call, &response, WallTime(0));
        assert_eq!(answer.err().map(|failure| failure.kind), kind, "{call:?} {response:?}");
    }
}

#[tokio::test]
async fn complete_needs_every_part_listed_and_never_allows_a_partial_one() {
    for sizes in [[10, 4], [9, 6]] {
        let bench = answering([200; 4], sizes);
        let failure = bench.platform.complete(&completing("r/1")).await.expect_err("a hole");
        assert_eq!((failure.kind, bench.lines(ROOT)), (K::CompleteRefused, vec![LIST.to_owned()]));
    }
    let bench = answering([200; 4], [10, 5]);
    let file = bench.platform.complete(&completing("r/1")).await.expect("completed");
    assert_eq!((file.id.as_str(), file.size), ("r/1:15", Some(ByteCount(15))));
    let inspected = bench.platform.inspect(&file.id).await.expect("answered");
    assert_eq!(inspected.and_then(|file| file.size), Some(ByteCount(15)));
    let parts = json!([{"partNumber": 1, "eTag": "\"e1\""}, {"partNumber": 2, "eTag": "\"e2\""}]);
    let body = json!({"requestKey": "r/1", "allowPartialComplete": false, "parts": parts});
    assert_eq!(bench.stub.seen()[1].json(), body);
}

#[tokio::test]
async fn what_became_of_a_complete_is_asked_in_order_and_never_guessed() {
    for (statuses, wanted) in [
        ([200, 200, 500, 500], "Ok(Pending"),
        ([200, 400, 200, 500], "Ok(Done"),
        ([404, 500, 200, 500], "Ok(Done"),
        ([404, 500, 400, 200], "Ok(Done"),
        ([404, 200, 404, 404], "Ok(Pending"),
        ([404, 400, 404, 404], "Ok(Unknown"),
        ([200, 404, 400, 404], "Ok(Unknown"),
        ([404, 400, 503, 404], "Err"),
        ([401, 400, 400, 400], "Err"),
    ] {
        let bench = answering(statuses, [10, 5]);
        let found = bench.platform.find_completed(&completing("r/1")).await;
        assert!(format!("{found:?}").starts_with(wanted), "{found:?} for {statuses:?}");
        assert!(bench.lines(ROOT).iter().filter(|line| *line == COMPLETE).count() <= 1);
    }
}

#[tokio::test]
async fn an_empty_file_goes_by_one_request_that_cannot_be_resumed() {
    let bench = bench(|line, seen| match line {
        "POST url" => told(200, json!({"requestKey": "r/1", "url": address(seen, 1)})),
        SUCCESS => told(200, json!({"downloadPath": "d"})),
        _ => Reply::new(200, "").with("ETag", "e"),
    });
    let begun = bench.platform.begin(&request(0)).await.expect("begun");
    assert_eq!(begun.id.as_str(), "single:r/1");
    assert_eq!(bench.stub.seen()[0].json()["contentLength"], 0);
    assert!(send(&bench, "single:r/1", 1).await.is_ok());
    assert_eq!(bench.platform.list_parts(&begun).await, Ok(None));
    bench.platform.complete(&completing("single:r/1")).await.expect("completed");
    assert_eq!(send(&bench, "single:r/1", 1).await, Err(K::UploadGone));
    bench.platform.abort(&begun.id).await.expect("nothing to do");
}

#[tokio::test]
async fn what_is_not_listed_is_there_when_it_can_be_resumed() {
    for (resume, listed) in [(200, Some(vec![])), (400, None)] {
        let bench = answering([404, resume, 404, 404], [0, 0]);
        assert_eq!(bench.platform.list_parts(&remote("r/1")).await.ok(), listed.map(Some));
        assert_eq!(bench.lines(ROOT), [LIST, RESUME]);
        bench.platform.check_access().await.expect("accepted");
        bench.platform.abort(&RemoteUploadId::new("r/1")).await.expect("gone");
    }
    let listed = answering([200; 4], [10, 11]).platform.list_parts(&remote("r/1")).await;
    assert_eq!(listed, Ok(Some(vec![part(1, "e1")])), "another length is sent again");
}

#[test]
fn one_answer_costs_little_memory_whatever_it_holds() {
    use crate::platform::http::ANSWER_MAX;
    let name = "platform::gjirafa_vp::tests::one_answer_costs_little_memory_whatever_it_holds";
    let list = |answer: &Response| {
        drop(wire::judge::<Vec<wire::GjirafaPart>>(GjirafaCall::List("k"), answer, WallTime(0)));
        drop(wire::judge::<Value>(GjirafaCall::Success("k"), answer, WallTime(0)));
    };
    let flooded = |bytes_max: usize, read: &dyn Fn(&Response)| {
        for flood in bench::floods(bytes_max) {
            for around in ["\"result\":@", "\"errors\":@", "\"result\":{\"presignedUrl\":@}"] {
                for success in ["{\"success\":true,", "{\"success\":false,"] {
                    let (before, after) = around.split_once('@').expect("a place");
                    let mut body = String::with_capacity(flood.len() + 60);
                    let pieces = [success, before, &flood, after, "}"];
                    pieces.iter().for_each(|piece| body.push_str(piece));
                    read(&bench::answer(body));
                }
            }
        }
    };
    let peak = bench::peak_mib(name, || flooded(ANSWER_MAX, &list));
    // The flood itself is in memory beside the answer.
    assert!(peak.is_none_or(|mib| mib <= 16 + 3), "{peak:?} MiB");
}

#[test]
fn a_thousand_long_addresses_are_read_in_bounded_memory() {
    let name = "platform::gjirafa_vp::tests::a_thousand_long_addresses_are_read_in_bounded_memory";
    let peak = bench::peak_mib(name, || {
        let address = |part: usize| {
            let sign = "s".repeat(5_500);
            format!(
                "{{\"partNumber\":{part},\"presignedUrl\":\"https://s.example/{part}?sig={sign}\"}}"
            )
        };
        let mut body = String::with_capacity(super::ADDRESSES_MAX);
        body.push_str("{\"success\":true,\"result\":{\"requestKey\":\"k\",\"presignedUrl\":[");
        for part in 1..=1000 {
            body.push_str(if part == 1 { "" } else { "," });
            body.push_str(&address(part));
        }
        body.push_str("]}}");
        assert!(body.len() <= super::ADDRESSES_MAX, "{}", body.len());
        let begun: wire::Begun =
            wire::judge(GjirafaCall::Begin, &bench::answer(body), WallTime(0)).expect("read");
        let base = Url::parse("https://far.example").expect("a URL");
        let signed = addresses::Signed::take(begun.presigned_url, Some(1000), &base, WallTime(0));
        assert_eq!(signed.expect("taken").urls.len(), 1000);
    });
    assert!(peak.is_none_or(|mib| mib <= 32), "{peak:?} MiB");
}

#[tokio::test]
async fn a_refusal_without_marks_is_weather_and_one_in_the_platforms_form_is_its_word() {
    for (body, expected) in [
        (String::new(), K::BadAnswer),
        ("{}".to_owned(), K::BadAnswer),
        (json!({"success": false, "statusCode": 404}).to_string(), K::UploadGone),
    ] {
        let bench = bench(move |call, seen| match call {
            "POST multipart" => begun(seen, &[1, 2]).with("x-request-id", "7"),
            _ => Reply::new(404, body.clone()),
        });
        bench.platform.begin(&request(15)).await.expect("begun");
        let listed = bench.platform.list_parts(&remote("r/1")).await.expect_err("refused");
        assert_eq!(listed.kind, expected, "{listed}");
    }
}

use bytes::Bytes;
use reqwest::header::HeaderMap;

use super::super::wire::{SevenBridgesFile, SevenBridgesPage, SevenBridgesUpload};
use super::*;
use crate::platform::answer::{STORAGE_BODY_MAX, classify_storage, not_a_page, parse};

const NOW: WallTime = WallTime(1_739_264_600_000_000_000);

fn response(status: u16, body: &str) -> Response {
    let body = Bytes::copy_from_slice(body.as_bytes());
    Response { status, headers: HeaderMap::new(), body }
}

fn with(mut response: Response, name: &'static str, value: &str) -> Response {
    response.headers.insert(name, value.parse().expect("a value"));
    response
}

fn kind(call: SevenBridgesCall, status: u16, body: &str) -> FailureKind {
    classify(call, &response(status, body), NOW).kind
}

/// Statuses and codes from the vendor's list, with their calls and meanings.
#[test]
fn every_documented_refusal_has_its_kind() {
    use FailureKind as K;
    use SevenBridgesCall::{Begin, Complete, General, Upload};
    let throttled = K::Throttled { after: None };
    for (calls, status, codes, expected) in [
        (&[General, Begin, Upload, Complete][..], 503, &[0][..], K::Maintenance),
        (&[General, Upload], 429, &[1000], throttled),
        (&[General, Upload], 503, &[1000], throttled),
        (&[General], 503, &[2000, 3000, 4000, 5000, 5010, 90005], K::ServerFault),
        (&[Begin, Upload, Complete], 503, &[8000], K::ServerFault),
        (&[General, Begin], 403, &[2001, 3001, 5001, 5008, 5009, 5011, 8001, 8002], K::Forbidden),
        (&[Upload, Complete], 403, &[8001, 8002, 90002], K::Forbidden),
        (&[General, Begin], 404, &[2002, 3002, 5002, 5026, 8004, 8005, 90003], K::NotFound),
        (&[Upload, Complete], 404, &[2002, 3002, 5002, 5026], K::NotFound),
        (&[Upload, Complete], 404, &[8003, 90003], K::UploadGone),
        (&[General], 404, &[8003], K::UploadGone),
        (&[General], 409, &[3003, 5003, 5030, 90007], K::NameTaken),
        (&[Begin, Complete], 409, &[5003, 8004, 8005, 90007], K::NameTaken),
        (&[Begin], 409, &[8006], K::ServerFault),
        (&[Upload], 409, &[90007], K::BadRequest),
        (&[General], 400, &[3006, 3012, 5004, 5005, 5006, 5012, 5022, 5024], K::BadRequest),
        (&[General, Begin], 400, &[5029, 5031, 5033, 8010, 8013, 90000, 90009], K::BadRequest),
        (&[Upload], 400, &[8011, 8012, 8014, 8015], K::BadRequest),
        (&[Complete], 400, &[8007], K::CompleteRefused),
        (&[Complete], 500, &[8007], K::CompleteRefused),
        (&[Upload], 500, &[8008, 8009], K::ServerFault),
        (&[Upload], 503, &[8008], K::ServerFault),
        (&[Upload], 400, &[8008], K::ServerFault),
        (&[General], 502, &[9000, 9100], K::ServerFault),
        (&[General, Begin], 409, &[13004], K::ServerFault),
        (&[General], 503, &[13004], K::ServerFault),
        (&[General, Begin, Upload, Complete], 401, &[90001, 0, 7], K::Unauthorized),
        (&[General], 400, &[90001], K::Unauthorized),
        (&[General], 500, &[90004], K::ServerFault),
        (&[General], 405, &[90006], K::BadRequest),
        (&[General], 415, &[90008], K::BadRequest),
        (&[General, Begin], 402, &[4001], K::Quota),
    ] {
        for (call, code) in calls.iter().flat_map(|call| codes.iter().map(move |code| (call, code)))
        {
            let body = format!(r#"{{"status":{status},"code":{code},"message":"m"}}"#);
            assert_eq!(kind(*call, status, &body), expected, "{call:?} {status} {code}");
        }
    }
}

#[test]
fn without_a_code_the_status_decides() {
    use FailureKind as K;
    for body in ["", " \n", "{}", r#"{"message":null,"code":null}"#, r#"{"code":{}}"#] {
        for (status, expected) in [
            (401, K::Unauthorized),
            (403, K::Forbidden),
            // An empty body is a balancer's.
            (404, if body.trim().is_empty() { K::BadAnswer } else { K::NotFound }),
            (407, K::Unreachable),
            (408, K::TimedOut),
            (409, K::NameTaken),
            (410, K::NotFound),
            (413, K::Quota),
            (418, K::BadRequest),
            (425, K::TimedOut),
            (429, K::Throttled { after: None }),
            (500, K::ServerFault),
            (503, K::ServerFault),
            (504, K::ServerFault),
            (507, K::Quota),
            (599, K::ServerFault),
            (302, K::BadAnswer),
            (205, K::BadAnswer),
            (101, K::BadAnswer),
            (999, K::BadAnswer),
        ] {
            assert_eq!(
                kind(SevenBridgesCall::General, status, body),
                expected,
                "{status} {body:?}"
            );
        }
        let gone = if body.trim().is_empty() { K::BadAnswer } else { K::UploadGone };
        assert_eq!(kind(SevenBridgesCall::Upload, 404, body), gone);
    }
}

#[test]
fn what_the_platform_did_not_write_is_not_believed() {
    let page = "<html><body>blocked by the filter</body></html>";
    for body in [page, "Not Found", "{\"code\":", "\"text\"", "[1]", "null", "\u{0}\u{1}"] {
        for call in [
            SevenBridgesCall::General,
            SevenBridgesCall::Begin,
            SevenBridgesCall::Upload,
            SevenBridgesCall::Complete,
        ] {
            for status in [400, 403, 404, 409, 410, 413] {
                assert_eq!(kind(call, status, body), FailureKind::BadAnswer, "{status} {body}");
            }
            for status in [500, 502, 503, 504] {
                assert_eq!(kind(call, status, body), FailureKind::ServerFault, "{status} {body}");
            }
        }
        assert_eq!(kind(SevenBridgesCall::General, 401, body), FailureKind::Unauthorized);
        assert_eq!(
            kind(SevenBridgesCall::General, 429, body),
            FailureKind::Throttled { after: None }
        );
    }
}

#[test]
fn hostile_bodies_are_survived_and_their_text_is_cut() {
    let text = format!(r#"{{"code":5024,"message":"{}"}}"#, "x\\n\\u001b[2J".repeat(1_000_000));
    let failure = classify(SevenBridgesCall::General, &response(400, &text), NOW);
    assert_eq!(failure.kind, FailureKind::BadRequest);
    assert!(failure.message.len() < 400, "{}", failure.message.len());
    assert!(!failure.message.contains(char::is_control));
    for code in ["99999999999999999999999", "1e999", "-1", "\"x\"", "[[[[]]]]", "true"] {
        let body = format!(r#"{{"code":{code},"message":[1]}}"#);
        let failure = classify(SevenBridgesCall::General, &response(500, &body), NOW);
        assert_eq!(failure.kind, FailureKind::ServerFault, "{code}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(kind(SevenBridgesCall::General, 502, &deep), FailureKind::ServerFault);
    assert_eq!(kind(SevenBridgesCall::Upload, 404, r#"{"code":"8003"}"#), FailureKind::UploadGone);
}

#[test]
fn a_failure_says_what_the_platform_said() {
    let body = r#"{"status":403,"code":5001,"message":"Insufficient privileges to access the requested file.","more_info":"u"}"#;
    let answer = with(response(403, body), "x-request-id", "req-1");
    let failure = classify(SevenBridgesCall::General, &answer, NOW);
    assert_eq!(
        failure.to_string(),
        "the platform refused the call: Insufficient privileges to access the requested file. \
         (code 5001) (forbidden, status 403, request req-1)"
    );
    let page = classify(SevenBridgesCall::Begin, &response(502, "<html>"), NOW);
    assert_eq!(page.message, "the platform refused to begin the upload with a web page");
    let elsewhere = with(response(302, ""), "location", "https://portal.example/?s=planted");
    let failure = classify(SevenBridgesCall::General, &elsewhere, NOW);
    assert!(failure.message.contains("leads elsewhere, to portal.example:"), "{failure}");
    assert!(!failure.message.contains("planted"), "{failure}");
}

#[test]
fn a_success_must_have_the_shape_of_its_call() {
    for (body, said) in [
        ("<html>log in</html>", "no JSON"),
        ("", "nothing"),
        (r#"{"items":[{"id":"f","na"#, "half of an answer"),
        (r#"{"items":7}"#, "an answer of another shape"),
        ("{}", "an answer of another shape"),
        ("planted", "no JSON"),
    ] {
        let failure =
            parse::<SevenBridgesPage<SevenBridgesFile>>(&response(200, body)).expect_err(body);
        assert_eq!(failure.kind, FailureKind::BadAnswer);
        assert_eq!(failure.message, format!("the platform answered with {said}"));
    }
    assert!(not_a_page(&response(200, " \n<html>log in")).is_err());
    for body in ["", "{}", "null"] {
        assert!(not_a_page(&response(200, body)).is_ok(), "{body}");
    }
    let long = format!(r#"{{"upload_id":"u","name":"{}"}}"#, "x".repeat(10_000_000));
    assert!(parse::<SevenBridgesUpload>(&response(200, &long)).is_ok());
}

#[test]
fn a_pause_is_read_from_either_header() {
    let reset = |value| with(response(429, "{}"), "x-ratelimit-reset", value);
    assert_eq!(announced_pause(&reset("1739264700"), NOW), Some(Duration::from_secs(100)));
    let both = with(reset("1739264700"), "retry-after", "7");
    assert_eq!(announced_pause(&both, NOW), Some(Duration::from_secs(7)));
    let date = with(response(429, ""), "retry-after", "Tue, 11 Feb 2025 09:05:00 GMT");
    assert_eq!(announced_pause(&date, NOW), Some(Duration::from_secs(100)));
    for odd in ["1739264000", "soon", "", "99999999999999999999", "9223372036854775807"] {
        assert_eq!(announced_pause(&reset(odd), NOW), None, "{odd}");
    }
    let failure = classify(SevenBridgesCall::General, &both, NOW);
    let after = Some(Duration::from_secs(7));
    assert_eq!(failure.kind, FailureKind::Throttled { after });
    let hour = Some(Duration::from_hours(1));
    assert_eq!(announced_pause(&reset("1839264600"), NOW), hour, "three years");
    let busy = with(response(503, ""), "x-ratelimit-reset", "1739264700");
    assert_eq!(classify(SevenBridgesCall::General, &busy, NOW).kind, FailureKind::ServerFault);
    let busy = with(busy, "retry-after", "7");
    assert_eq!(
        classify(SevenBridgesCall::General, &busy, NOW).kind,
        FailureKind::Throttled { after }
    );
}

#[test]
fn a_storages_refusal_shows_its_code_and_no_address() {
    let xml =
        |code: &str| format!("<Error><Code>{code}</Code><Url>https://b/?sig=planted</Url></Error>");
    for (status, code, kind) in [
        (403, "AccessDenied", FailureKind::PartRejected),
        (403, "SignatureDoesNotMatch", FailureKind::PartRejected),
        (404, "NoSuchUpload", FailureKind::UploadGone),
        (404, "NoSuchBucket", FailureKind::PartRejected),
        (400, "RequestTimeout", FailureKind::PartRejected),
        (400, "BadDigest", FailureKind::PartRejected),
        (400, "EntityTooLarge", FailureKind::PartTooLarge),
        (413, "Any", FailureKind::PartTooLarge),
        (400, "EntityTooSmall", FailureKind::BadRequest),
        (412, "PreconditionFailed", FailureKind::PartRejected),
        (500, "InternalError", FailureKind::ServerFault),
        (503, "SlowDown", FailureKind::ServerFault),
        (429, "TooManyRequests", FailureKind::ServerFault),
        (301, "PermanentRedirect", FailureKind::BadAnswer),
        (204, "Odd", FailureKind::BadAnswer),
    ] {
        let answer = with(response(status, &xml(code)), "x-amz-request-id", "amz");
        let failure = classify_storage(&answer);
        assert_eq!(failure.kind, kind, "{status} {code}");
        assert!(failure.message.ends_with(&format!(": {code}")), "{failure}");
        assert!(!failure.message.contains("planted"), "{failure}");
        assert_eq!(failure.request_id.as_deref(), Some("amz"));
    }
    for body in ["", "<Code>", "<Code></Code", "<Code>a b</Code>", &xml(&"x".repeat(99))] {
        let failure = classify_storage(&response(403, body));
        assert_eq!(failure.message.trim_end_matches(": "), "the storage refused the part");
    }
    let far = format!("{}<Code>NoSuchUpload</Code>", " ".repeat(STORAGE_BODY_MAX));
    assert_eq!(classify_storage(&response(404, &far)).kind, FailureKind::PartRejected);
}

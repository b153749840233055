//! Failures have a scope: an answer holds up what it is evidence about, and nothing more. Each refusal
//! is met by one request, by every request of one upload, by all requests of a destination, by an
//! account and by a run; `status` says what waits and for what, and everything else continues.

use serde_json::{Value, json};

use super::super::stage::{Options, Stage, noise, until};
use super::{calm, slow, stage_at, upload_of};

/// The number of files that meet no refusal.
const OTHERS: u64 = 20;
/// A file that is too large for one request: it goes in two parts.
const TOO_LARGE: &str = "413";

/// Refusals by the names of the files that meet them, and the kind of failure that `status` shows
/// for an upload that waits and meets nothing else.
fn refusals() -> Vec<(&'static str, Value, &'static str)> {
    let answer = |status: u16, code: &str| {
        let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
        json!({"answer": {"status": status, "body": body}})
    };
    vec![
        ("403", answer(403, "AccessDenied"), "forbidden"),
        ("404", answer(404, "NoSuchBucket"), "not-found"),
        ("404-bare", json!({"answer": {"status": 404, "body": null}}), "bad-answer"),
        ("408", answer(408, "RequestTimeout"), "timed-out"),
        ("429", answer(429, "TooManyRequests"), "throttled"),
        ("500", answer(500, "InternalError"), "server-fault"),
        ("503", answer(503, "SlowDown"), "throttled"),
        ("507", answer(507, "QuotaExceeded"), "quota"),
        ("html", json!({"html": 502}), "server-fault"),
        ("reset", json!("reset"), "broken"),
        ("silence", json!({"stall": 600_000}), "timed-out"),
    ]
}

/// A stage at S3 with files that are refused, `times` times each, and others.
fn refusing(times: u64) -> Stage {
    let mut stage = stage_at("s3", calm());
    let too_large = json!({"answer": {"status": 413, "body": null}});
    let refused = refusals().into_iter().map(|(name, action, _)| (name, action));
    let refused: Vec<_> = refused.chain([(TOO_LARGE, too_large)]).collect();
    for (name, _) in &refused {
        stage.write(&format!("run/{name}"), &noise(3000, 1));
    }
    let rules = refused.iter().map(|(name, action)| {
        json!({"operation": "put-object", "key": name, "times": times, "action": action})
    });
    stage.tell("faults", &json!(rules.collect::<Vec<_>>()).to_string());
    for index in 0..OTHERS {
        stage.write(&format!("run/other {index}"), &noise(3000, index));
    }
    stage.start();
    stage
}

/// The destination was never reported as anything but in order.
fn assert_destination_in_order(stage: &Stage) {
    assert_eq!(stage.status()["destinations"][0]["state"], "ok");
    for word in ["throttled", "unreachable", "halted"] {
        let said = format!("destination to-s3 is {word}");
        assert!(!stage.log().contains(&said), "{said}: {}", stage.log());
    }
}

#[test]
fn a_request_that_is_refused_once_is_made_again_and_holds_nothing_up() {
    let stage = refusing(1);
    let refused = u64::try_from(refusals().len()).expect("few");
    stage.until_count("completed", OTHERS + refused + 1);
    assert_destination_in_order(&stage);
    assert_eq!(upload_of(&stage, "run/413")["part_count"], 2);
    stage.assert_all_there();
}

#[test]
fn an_upload_that_is_refused_for_ever_says_why_and_the_others_go_on() {
    let stage = refusing(0);
    stage.until_count("completed", OTHERS + 1);
    for (name, _, kind) in refusals() {
        let upload = until(&format!("{name} says what it waits for"), || {
            let upload = upload_of(&stage, &format!("run/{name}"));
            (upload["state"] == "waiting").then_some(upload)
        });
        let text = upload["reason"]["text"].as_str().unwrap_or_default();
        assert!(text.contains(kind), "{name}: {upload}");
        assert!(!upload["retry_at"].is_null(), "{name}: {upload}");
    }
    stage.write("run/later", b"later");
    stage.until_count("completed", OTHERS + 2);
    assert_destination_in_order(&stage);
    assert_eq!(stage.count("parked"), 0);
    stage.tell("faults", "[]");
    assert!(stage.output("retry", &["--all"]).status.success());
    stage.until_count("completed", OTHERS + 2 + u64::try_from(refusals().len()).expect("few"));
    stage.assert_all_there();
}

/// A stage at two platforms, of which the first gives every request this answer.
fn closed(platforms: &'static [&'static str], action: &Value) -> Stage {
    let mut stage = Stage::new(Options { platforms, ..calm() });
    let rule = json!([{"operation": "any", "times": 0, "action": action}]);
    stage.tell("faults", &rule.to_string());
    for index in 0..3 {
        stage.write(&format!("run/{index}"), &noise(3000, index));
    }
    stage.start();
    stage
}

/// The first destination is closed and reported so; its files wait for it; those of the second have arrived.
fn assert_closed(stage: &Stage, first: &str, state: &str) -> Value {
    stage.until_count("completed", 3);
    let of = |is_first: bool| {
        let all = stage.status()["destinations"].as_array().expect("a list").clone();
        all.into_iter().find(|to| (to["name"] == format!("to-{first}")) == is_first)
    };
    let shown = until("the first destination is closed", || {
        of(true).filter(|shown| shown["state"] == state)
    });
    assert!(shown["next_try_at"].is_string(), "{shown}");
    let status = stage.status();
    let uploads = status["uploads"].as_array().expect("a list").iter();
    for upload in uploads.filter(|upload| upload["state"] == "waiting") {
        assert!(upload["reason"].is_object() && upload["retry_at"].is_string(), "{upload}");
    }
    assert_eq!(of(false).expect("a second one")["state"], "ok");
    assert_eq!(stage.count("parked"), 0, "no person is asked for: {}", stage.status());
    shown
}

#[test]
fn a_destination_that_refuses_everything_is_closed_and_the_others_go_on() {
    let body = |code: &str| format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
    let cases = [
        (json!({"answer": {"status": 403, "body": body("InvalidAccessKeyId")}}), "halted"),
        (json!({"answer": {"status": 403, "body": body("AccessDenied")}}), "halted"),
        (json!({"answer": {"status": 429, "body": body("TooManyRequests")}}), "throttled"),
        (json!({"answer": {"status": 503, "body": body("SlowDown")}}), "throttled"),
        (json!({"answer": {"status": 500, "body": body("InternalError")}}), "unreachable"),
        (json!("reset"), "unreachable"),
        (json!({"stall": 3000}), "unreachable"),
    ];
    for (action, state) in cases {
        let stage = closed(&["s3", "sevenbridges"], &action);
        assert_closed(&stage, "s3", state);
        stage.tell("faults", "[]");
        stage.until_count("completed", 6);
        stage.assert_all_there();
    }
}

#[test]
fn a_pause_of_an_account_is_shown_with_its_end_and_holds_up_no_other_account() {
    for platform in ["sevenbridges", "basespace", "gjirafa-vp"] {
        let platforms: &[&str] = match platform {
            "sevenbridges" => &["sevenbridges", "s3"],
            "basespace" => &["basespace", "s3"],
            _ => &["gjirafa-vp", "s3"],
        };
        let pause = json!({"answer": {"status": 429, "headers": {"retry-after": "600"}}});
        let stage = closed(platforms, &pause);
        let shown = assert_closed(&stage, platform, "throttled");
        let end: jiff::Timestamp =
            shown["next_try_at"].as_str().expect("an end").parse().expect("a time");
        let left = end.duration_since(jiff::Timestamp::now()).as_secs();
        assert!((500..=600).contains(&left), "{platform}: {shown}");
        stage.tell("faults", "[]");
        assert!(stage.output("retry", &[&format!("to-{platform}")]).status.success());
        stage.until_count("completed", 6);
        stage.assert_all_there();
    }
}

#[test]
fn a_run_whose_app_session_was_ended_by_others_waits_and_the_other_runs_go_on() {
    let options = Options { basespace_project: Some("410000001"), orphans_allowed: 6, ..slow() };
    let mut stage = stage_at("basespace", options);
    stage.write("one/large", &noise(2 << 20, 1));
    stage.write("two/large", &noise(2 << 20, 2));
    stage.start();
    let url = "/basespace/v1pre3/projects/410000001/appresults?Limit=100";
    let session = until("a session of the first run", || {
        let listed = stage.get(url);
        let items = listed["Response"]["Items"].as_array()?.clone();
        let one = items.into_iter().find(|item| item["Name"] == "one")?;
        let path = format!("/basespace/v1pre3/appresults/{}", one["Id"].as_str()?);
        stage.get(&path)["Response"]["AppSession"]["Id"].as_str().map(str::to_owned)
    });
    until("both are being sent", || (stage.count("sending") == 2).then_some(()));
    stage.post(&format!("/basespace/v1pre3/appsessions/{session}?status=complete"), "");
    stage.until_count("completed", 1);
    let upload = until("the first run says what it waits for", || {
        let upload = upload_of(&stage, "one/large");
        (upload["state"] == "waiting").then_some(upload)
    });
    let text = upload["reason"]["text"].as_str().unwrap_or_default();
    assert!(text.contains("its AppSession is Complete"), "{upload}");
    stage.write("one/late", b"late");
    stage.write("two/late", b"later");
    stage.until_count("completed", 3);
    assert_eq!(stage.status()["destinations"][0]["state"], "ok");
    assert_eq!(stage.count("parked"), 0);
}

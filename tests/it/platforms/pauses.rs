//! Pauses that a platform asks for: how long they are believed, how they are shown, how they end.

use std::time::Duration;

use dropferry::testing::clock::Clock;
use serde_json::{Value, json};

use super::super::stage::{Options, Stage, noise, until};
use super::{at_each_platform, calm, stage_at};

at_each_platform! {
    a_pause_of_a_year_is_shown_with_its_end_and_lifted_by_retry
    a_pause_of_a_year_is_lifted_by_a_reload
    a_refusal_or_time_out_without_a_pause_is_one_requests_own
}

mod sevenbridges {
    use super::super::super::stage::Options;

    #[test]
    fn a_pause_of_a_year_is_shown_with_its_end_and_lifted_by_retry() {
        super::a_pause_of_a_year_is_shown_with_its_end_and_lifted_by_retry("sevenbridges");
    }

    #[test]
    fn a_pause_of_a_year_is_lifted_by_a_reload() {
        super::a_pause_of_a_year_is_lifted_by_a_reload("sevenbridges");
    }

    #[test]
    fn a_refusal_or_time_out_without_a_pause_is_one_requests_own() {
        super::a_refusal_or_time_out_without_a_pause_is_one_requests_own("sevenbridges");
    }

    /// The options that the other platforms' tests start from.
    pub(super) fn options(options: Options) -> Options {
        Options { platforms: &["sevenbridges"], ..options }
    }
}

fn stage(platform: &str) -> Stage {
    match platform {
        "sevenbridges" => Stage::new(sevenbridges::options(calm())),
        other => stage_at(other, Options { ..calm() }),
    }
}

/// A stage whose first call is refused with a pause, and whose every other call is answered.
fn paused(platform: &str, retry_after: &str) -> Stage {
    let mut stage = stage(platform);
    let headers = json!({"retry-after": retry_after});
    let rule =
        json!([{"operation": "any", "action": {"answer": {"status": 429, "headers": headers}}}]);
    stage.tell("faults", &rule.to_string());
    stage.write("run/file", b"content");
    stage.start();
    until("it is throttled", || (destination(&stage)["state"] == "throttled").then_some(()));
    stage
}

fn destination(stage: &Stage) -> Value {
    stage.status()["destinations"][0].clone()
}

fn a_pause_of_a_year_is_shown_with_its_end_and_lifted_by_retry(platform: &str) {
    let stage = paused(platform, "31536000");
    let shown = destination(&stage);
    let end: jiff::Timestamp =
        shown["next_try_at"].as_str().expect("an end").parse().expect("a time");
    let left = end.duration_since(jiff::Timestamp::now());
    assert!(left.as_secs() <= 3600 && left.as_secs() > 3500, "{shown}");
    assert!(shown["reason"]["text"].as_str().is_some_and(|why| !why.is_empty()), "{shown}");
    let upload = until("it says what it waits for", || {
        let upload = stage.status()["uploads"][0].clone();
        (upload["state"] == "waiting").then_some(upload)
    });
    assert_eq!(upload["reason"], shown["reason"]);
    assert_eq!(upload["retry_at"], shown["next_try_at"]);
    assert_eq!(stage.status()["counts"]["waiting"], 1);
    let output = stage.output("retry", &[&format!("to-{platform}")]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 upload"), "{said}");
    stage.until_count("completed", 1);
    assert_eq!(destination(&stage)["next_try_at"], Value::Null);
    stage.assert_all_there();
}

fn a_pause_of_a_year_is_lifted_by_a_reload(platform: &str) {
    let stage = paused(platform, "Fri, 01 Jan 2100 00:00:00 GMT");
    stage.signal(rustix::process::Signal::HUP);
    stage.until_count("completed", 1);
    stage.assert_all_there();
}

/// Calls of every kind are refused, each without a pause.
fn a_refusal_or_time_out_without_a_pause_is_one_requests_own(platform: &str) {
    for status in [408, 429] {
        let mut stage = stage(platform);
        let answer = json!({"answer": {"status": status, "body": {}}});
        let rule = json!([{"operation": "any", "every": 4, "times": 5, "action": answer}]);
        stage.tell("faults", &rule.to_string());
        stage.write("run/file", b"content");
        let begun = Clock::real();
        stage.start();
        stage.until_count("completed", 1);
        assert!(
            begun.now().monotonic.0 < Duration::from_secs(60),
            "{status}: by [retry], not by minutes"
        );
        stage.assert_all_there();
    }
}

#[test]
fn a_pause_of_an_account_holds_no_part_that_goes_to_a_storage_without_it() {
    let transfer = "parts_in_flight = 2\nbandwidth = \"2 MB/s\"\npart_size = \"512 KiB\"";
    let mut stage = stage_at("gjirafa-vp", Options { transfer, ..Options::default() });
    let pause = json!({"answer": {"status": 429, "headers": {"retry-after": "600"}}});
    let rule = json!([{"operation": "start", "nth": 2, "action": pause}]);
    stage.tell("faults", &rule.to_string());
    stage.write("run/large", &noise(4 << 20, 1));
    stage.start();
    let received = || stage.ledger()["bytes_received"].as_u64();
    until("it is being sent", || (received() > Some(0)).then_some(()));
    stage.write("run/other", &noise(600 << 10, 2));
    until("it is throttled", || (destination(&stage)["state"] == "throttled").then_some(()));
    assert!(received() < Some(4 << 20), "the pause begins in the middle of the first file");
    until("all parts of the first file are there", || (received() == Some(4 << 20)).then_some(()));
    assert_eq!(destination(&stage)["state"], "throttled", "calls of the account wait");
    assert_eq!(stage.count("completed"), 0);
    assert!(stage.output("retry", &["to-gjirafa-vp"]).status.success());
    stage.until_count("completed", 2);
    stage.assert_all_there();
}

//! A storage that answers one request in ten at random: in a form of its own, in that of somebody else, or
//! not at all. Everything arrives, nobody is asked for, and little is sent again.
//!
//! By default for a minute or so; `DROPFERRY_WEATHER_FILES` says with how many files.

#![expect(clippy::print_stdout, reason = "what was sent again, shown by --nocapture")]

use serde_json::{Value, json};

use super::super::stage::{Options, Stage, noise};
use super::stage_at;

#[test]
fn an_s3_that_answers_at_random_gets_everything_once() {
    what_answers_at_random_gets_everything_once("s3");
}

#[test]
fn a_gjirafa_vp_that_answers_at_random_gets_everything_once() {
    what_answers_at_random_gets_everything_once("gjirafa-vp");
}

/// Twelve faults; each hits one call in so many, by primes, so that they come in any order: one call in
/// ten in all.
fn weather(platform: &str) -> Vec<Value> {
    let answer = |status: u16| match platform {
        "s3" => {
            let code = match status {
                503 => "SlowDown",
                429 => "TooManyRequests",
                403 => "AccessDenied",
                _ => "InternalError",
            };
            let body = format!("<Error><Code>{code}</Code><Message>once</Message></Error>");
            json!({"answer": {"status": status, "body": body}})
        }
        _ => json!({"answer": {"status": status, "body": {"message": "once"}}}),
    };
    let bare = |status: u16| json!({"answer": {"status": status, "body": null}});
    let before = [
        (97, answer(500)),
        (101, json!({"html": 502})),
        (103, answer(503)),
        (107, answer(429)),
        (109, answer(403)),
        (113, bare(404)),
        (127, json!("reset")),
        (131, bare(200)),
        (137, json!({"stall": 2500})),
        (139, json!({"stall": 300})),
    ];
    let after = [(149, json!("reset")), (151, json!("truncate")), (157, json!("wrong_etag"))];
    let rule = |every: u64, when: &str, action: &Value| json!({"operation": "any", "nth": every, "every": every, "times": 0, "when": when, "action": action});
    let before = before.iter().map(|(every, action)| rule(*every, "before", action));
    before.chain(after.iter().map(|(every, action)| rule(*every, "after", action))).collect()
}

fn file_count() -> u64 {
    let asked = std::env::var("DROPFERRY_WEATHER_FILES").ok();
    asked.map_or(150, |count| count.parse().expect("a number"))
}

fn what_answers_at_random_gets_everything_once(platform: &str) {
    let count = file_count();
    let orphans_allowed = usize::try_from(count).expect("few");
    let transfer = "parts_in_flight = 8\npart_size = \"1 MiB\"";
    let mut stage = stage_at(platform, Options { transfer, orphans_allowed, ..Options::default() });
    stage.tell("faults", &json!(weather(platform)).to_string());
    let mut length = 0;
    for index in 0..count {
        let bytes = noise(length_of(index), index);
        length += bytes.len();
        stage.write(&format!("run/{index}"), &bytes);
    }
    stage.start();
    stage.until_count("completed", count);
    stage.tell("faults", "[]");
    stage.assert_all_there();
    assert_eq!(stage.count("parked"), 0, "{platform}: nobody is asked for");
    assert_little_again(&stage, platform, length);
}

/// Mostly small files, some of a few parts, some empty.
fn length_of(index: u64) -> usize {
    match index % 15 {
        0 => 5 << 20,
        1 | 2 => (2 << 20) + 17,
        3 => 0,
        _ => 4000,
    }
}

fn assert_little_again(stage: &Stage, platform: &str, length: usize) {
    let ledger = stage.ledger();
    let received = ledger["bytes_received"].as_u64().expect("a count");
    let length = u64::try_from(length).expect("few");
    let again = received.saturating_sub(length);
    let orphans = ledger["open_uploads"].as_array().map_or(0, Vec::len);
    println!("{platform}: {again} of {length} bytes sent again, {orphans} uploads without a name");
    assert!(again * 5 < length, "{platform}: {again} of {length} bytes again is a fifth or more");
}

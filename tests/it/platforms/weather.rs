//! A storage that answers one request in ten wrongly, at random: with an error in its own form, with one in a
//! foreign form, or not at all. Everything arrives, no operator is asked for, and little is sent again.
//!
//! The faults are drawn from a seed, `DROPFERRY_WEATHER_SEED`. By default a few files are sent;
//! `DROPFERRY_WEATHER_SECONDS` adds more for that long, and `DROPFERRY_WEATHER_FILES` until there
//! are that many; then the test waits for all of them.

#![expect(clippy::print_stdout, reason = "what was sent again, shown by --nocapture")]

use std::time::Duration;

use dropferry::testing::clock::Clock;
use serde_json::{Value, json};

use super::super::stage::{Options, Stage, noise, until};
use super::{at_each_platform, stage_at};

at_each_platform! {
    what_answers_at_random_gets_everything_once
}

mod sevenbridges {
    #[test]
    fn what_answers_at_random_gets_everything_once() {
        super::what_answers_at_random_gets_everything_once("sevenbridges");
    }
}

/// Files that are added at a time.
const ROUND: u64 = 30;
/// Each of the faults hits this many calls of a thousand: one call in ten in all.
const PER_MILLE: u64 = 8;

/// A number from the environment.
fn asked(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |asked| asked.parse().expect("a number"))
}

fn weather(platform: &str, seed: u64) -> Vec<Value> {
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
        answer(500),
        json!({"html": 502}),
        answer(503),
        answer(429),
        answer(403),
        bare(404),
        json!("reset"),
        bare(200),
        json!({"stall": 2500}),
        json!({"stall": 300}),
    ];
    let after = [json!("reset"), json!("truncate"), json!("wrong_etag")];
    let sides = before.iter().map(|action| ("before", action));
    let sides = sides.chain(after.iter().map(|action| ("after", action)));
    let rules = sides.zip(seed..).map(|((when, action), seed)| {
        let chance = json!({"per_mille": PER_MILLE, "seed": seed});
        json!({"operation": "any", "times": 0, "chance": chance, "when": when, "action": action})
    });
    rules.collect()
}

fn what_answers_at_random_gets_everything_once(platform: &str) {
    let seed = asked("DROPFERRY_WEATHER_SEED", 7);
    let seconds = asked("DROPFERRY_WEATHER_SECONDS", 0);
    let file_count = asked("DROPFERRY_WEATHER_FILES", ROUND);
    let transfer = "parts_in_flight = 8\npart_size = \"1 MiB\"";
    let orphans_allowed = 10_000;
    let mut stage = stage_at(platform, Options { transfer, orphans_allowed, ..Options::default() });
    stage.tell("faults", &json!(weather(platform, seed)).to_string());
    stage.start();
    let clock = Clock::real();
    let begun = clock.now().monotonic;
    let end = begun.after(Duration::from_secs(seconds));
    let (mut count, mut length) = (0, 0);
    while count < file_count || clock.now().monotonic < end {
        for index in count..count + ROUND {
            let bytes = noise(length_of(index), index);
            length += bytes.len();
            stage.write(&format!("run/{index}"), &bytes);
        }
        count += ROUND;
        stage.until_count("completed", count);
    }
    stage.tell("faults", "[]");
    if platform == "s3" || platform == "sevenbridges" {
        // Uploads that were begun and abandoned are known to the daemon, and removed.
        until("clean-ups that failed are done", || {
            stage.ledger()["open_uploads"].as_array().is_some_and(Vec::is_empty).then_some(())
        });
    }
    stage.assert_all_there();
    assert_eq!(stage.count("parked"), 0, "{platform}, seed {seed}: nobody is asked for");
    println!(
        "{platform}, seed {seed}: {count} files in {:.0?}",
        clock.now().monotonic.since(begun)
    );
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

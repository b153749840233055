//! The five-second test: the first five lines of `status` say what it is and what to do. Each scene is made with
//! the real binary.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use regex::Regex;
use serde_json::{Value, json};

use super::stage::{Options, Stage, noise, until};
use super::watch::filtered;

/// A daemon that has sent one file, and no run is open.
fn well(options: Options) -> Stage {
    let mut stage = Stage::new(options);
    stage.write("run/a", b"small");
    stage.give_away();
    stage.start();
    until("the run is there", || (stage.status()["runs"][0]["state"] == "completed").then_some(()));
    stage
}

fn until_state(stage: &Stage, state: &str) {
    until(state, || (stage.status()["destinations"][0]["state"] == state).then_some(()));
}

/// The first five lines at 80 columns, once they are settled: twice the same.
fn first_lines(stage: &Stage, name: &str, is_settled: impl Fn(&str) -> bool) -> String {
    let read = || {
        let output = stage.command("status").env("COLUMNS", "80").output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: Vec<_> = text.lines().take(5).collect();
        assert!(lines.iter().all(|line| line.len() <= 80), "{text}");
        let text = filtered(&lines.join("\n"));
        // What was sent a moment ago has a rate yet.
        let text =
            Regex::new(": [0-9]+ B/s\n").expect("a pattern").replace(&text, "\n").into_owned();
        Regex::new("request [0-9]+").expect("a pattern").replace(&text, "request N").into_owned()
    };
    let lines = until(name, || {
        let lines = read();
        (is_settled(&lines) && lines == read()).then_some(lines)
    });
    format!("== {name}\n{lines}\n")
}

fn answer(status: u16, headers: &Value) -> String {
    let action = json!({"answer": {"status": status, "headers": headers, "body": {}}});
    json!([{"operation": "any", "times": 0, "action": action}]).to_string()
}

#[test]
fn the_first_five_lines_of_what_happens_say_what_it_is_and_what_to_do() {
    let plain = || well(Options::default());
    let mut all = String::new();
    let mut note = |stage: &Stage, name: &str, word: &str| {
        all.push_str(&first_lines(stage, name, |lines| lines.contains(word)));
    };
    let mut stage = plain();
    note(&stage, "all well", "all well: nothing to send");
    stage.kill();
    note(&stage, "daemon down", "is not running");

    let stage = plain();
    stage.write("run2/unreadable", b"small");
    let unreadable = fs::Permissions::from_mode(0o000);
    fs::set_permissions(stage.drop().join("run2/unreadable"), unreadable).expect("set");
    stage.until_count("parked", 1);
    note(&stage, "parked", "1 thing needs someone");

    let stage = plain();
    stage.tell("switches", "{\"token_revoked\": true}");
    stage.write("run2/b", b"small");
    until_state(&stage, "halted");
    note(&stage, "halted", "1 thing needs someone");

    let stage = plain();
    stage.tell("faults", &answer(429, &json!({"Retry-After": "3000"})));
    stage.write("run2/b", b"small");
    until_state(&stage, "throttled");
    note(&stage, "throttled", "throttled");

    let mut stage = plain();
    stage.revive("{\"down\": true}");
    stage.write("run2/b", b"small");
    until_state(&stage, "unreachable");
    note(&stage, "unreachable", "unreachable");

    let stage = plain();
    fs::rename(stage.drop(), stage.path("elsewhere")).expect("renamed");
    note(&stage, "deaf", "1 thing needs someone");

    let mut stage = Stage::new(Options {
        drop: "profile = \"illumina\"\nquiet_period = \"50ms\"\nscan_interval = \"300ms\"",
        ..Options::default()
    });
    stage.write("251128_A00123_0042_AHXXXXDSX7/RunInfo.xml", b"<RunInfo/>");
    stage.start();
    stage.until_count("completed", 1);
    note(&stage, "a run is open and waits for its marker", "is open");

    let mut stage =
        Stage::new(Options { network: "inactivity_timeout = \"300s\"", ..Options::default() });
    stage.write("run/a", &noise(2 << 20, 1));
    let stall = json!([{"operation": "put", "times": 0, "action": {"stall": 300_000}}]);
    stage.tell("faults", &stall.to_string());
    stage.start();
    note(&stage, "stalled", "stalled");
    // Which of the two it is depends on how far the request was.
    let all =
        ["Connection reset by peer (os error 104)", "connection closed before message completed"]
            .into_iter()
            .fold(all, |all, said| all.replace(said, "REASON"));
    insta::assert_snapshot!(all);
}

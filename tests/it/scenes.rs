//! The five-second test: the first five lines of `status` at 80 columns, and the top of the page on a phone, say
//! what it is and what to do. Each scene is made with the real binary, once for both.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use regex::Regex;
use serde_json::{Value, json};

use super::doctor::configure_more;
use super::page::browser::Browser;
use super::page::{address, assert_fair, crooked, top};
use super::run_states::until_run;
use super::stage::{Options, Stage, noise, until};
use super::watch::filtered;

/// What may happen, made with a daemon that has a page.
struct Scene {
    name: &'static str,
    make: fn() -> Stage,
    /// What happens while somebody looks at the page.
    then: fn(&mut Stage),
    /// Words of `status` and of the page by which it is known that both have noticed.
    said: [&'static str; 2],
}

const SCENES: [Scene; 10] = [
    Scene { name: "all well", make: well, then: |_| {}, said: ["all well", "All well"] },
    Scene {
        name: "daemon down",
        make: well,
        then: Stage::kill,
        said: ["is not running", "No answer"],
    },
    Scene {
        name: "parked",
        make: unreadable,
        then: |_| {},
        said: ["1 thing needs someone", "1 thing needs someone"],
    },
    Scene {
        name: "halted",
        make: well,
        then: |stage| {
            stage.tell("switches", "{\"token_revoked\": true}");
            stage.write("run2/b", b"small");
        },
        said: ["1 thing needs someone", "1 thing needs someone"],
    },
    Scene {
        name: "throttled",
        make: well,
        then: |stage| {
            stage.tell("faults", &answer(429, &json!({"Retry-After": "3000"})));
            stage.write("run2/b", b"small");
        },
        said: ["throttled", "slowed down"],
    },
    Scene {
        name: "unreachable",
        make: well,
        then: |stage| {
            stage.revive("{\"down\": true}");
            stage.write("run2/b", b"small");
        },
        said: ["unreachable", "cannot be reached"],
    },
    Scene {
        name: "deaf",
        make: well,
        then: |stage| fs::rename(stage.path("drop"), stage.path("elsewhere")).expect("renamed"),
        said: ["1 thing needs someone", "1 thing needs someone"],
    },
    Scene {
        name: "disk full",
        make: without_space,
        then: |_| {},
        said: ["little free space", "little free space"],
    },
    Scene {
        name: "a run is open and waits for its marker",
        make: open_run,
        then: |_| {},
        said: ["is open", "more may come"],
    },
    Scene { name: "stalled", make: stalled, then: |_| {}, said: ["stalled", "nothing moves to"] },
];

fn options() -> Options {
    Options { web: "127.0.0.1:0", ..Options::default() }
}

/// A daemon that has sent one file, and no run is open.
fn well() -> Stage {
    started(Stage::new(options()))
}

fn started(mut stage: Stage) -> Stage {
    stage.write("run/a", b"small");
    stage.start();
    until_run(&stage, "run", "completed");
    stage
}

fn unreadable() -> Stage {
    let mut stage = Stage::new(options());
    stage.write("run/a", b"small");
    stage.write("run2/unreadable", b"small");
    // Root reads everything, so a stage that root has set is given to another user.
    stage.give_away();
    let unreadable = fs::Permissions::from_mode(0o000);
    fs::set_permissions(stage.drop().join("run2/unreadable"), unreadable).expect("set");
    stage.start();
    until_run(&stage, "run", "completed");
    stage.until_count("parked", 1);
    stage
}

/// No disk has so much room.
fn without_space() -> Stage {
    let stage = Stage::new(options());
    configure_more(&stage, "[notify]\ndisk_free_min = \"100000 TB\"\n");
    started(stage)
}

fn open_run() -> Stage {
    let mut stage = Stage::new(Options {
        drop: "profile = \"illumina\"\nquiet_period = \"50ms\"\nscan_interval = \"300ms\"",
        ..options()
    });
    stage.write("251128_A00123_0042_AHXXXXDSX7/RunInfo.xml", b"<RunInfo/>");
    stage.start();
    stage.until_count("completed", 1);
    stage
}

fn stalled() -> Stage {
    let mut stage = Stage::new(Options { network: "inactivity_timeout = \"300s\"", ..options() });
    stage.write("run/a", &noise(2 << 20, 1));
    let stall = json!([{"operation": "put", "times": 0, "action": {"stall": 300_000}}]);
    stage.tell("faults", &stall.to_string());
    stage.start();
    stage
}

fn answer(status: u16, headers: &Value) -> String {
    let action = json!({"answer": {"status": status, "headers": headers, "body": {}}});
    json!([{"operation": "any", "times": 0, "action": action}]).to_string()
}

/// What is the same in each trial.
fn plain(text: &str) -> String {
    let mut text = filtered(text);
    for (what, name) in [
        // The rate of what was sent a moment ago is still shown.
        (r"( ·|:)? [0-9]+ B/s", ""),
        ("request [0-9]+", "request N"),
        (r"space:\s+[0-9.]+ .iB\s+of\s+[0-9.]+ .iB\s+are\s+free", "space: SPACE"),
        (r"/[^ \n]*/\s*state(?-u:\b)", "STATE"),
        (r"\(broken\)[,;]\s+(tried\s+again\s+in\s+TIME|being\s+tried\s+again)", "(broken)"),
        // Which of the two it is depends on how far the request was.
        (r"Connection reset by peer \(os error 104\)", "REASON"),
        ("connection closed before message completed", "REASON"),
    ] {
        text = Regex::new(what).expect("a pattern").replace_all(&text, name).into_owned();
    }
    text
}

/// Reads lines until they have a word and are twice the same.
fn settled(word: &str, read: impl Fn() -> String) -> String {
    let lines = until(word, || {
        let lines = read();
        (lines.contains(word) && lines == read()).then_some(lines)
    });
    plain(&lines)
}

fn status_lines(stage: &Stage) -> String {
    let output = stage.command("status").env("COLUMNS", "80").output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.lines().take(5).all(|line| line.len() <= 80), "{text}");
    plain(&text).lines().take(5).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_happens_is_said_first_with_what_to_do_by_status_and_by_the_page() {
    let browser = Browser::start();
    let (mut by_status, mut by_page) = (String::new(), String::new());
    for Scene { name, make, then, said } in SCENES {
        let mut stage = make();
        if let Some(browser) = &browser {
            browser.size(390, 844);
            browser.open(&address(&stage));
        }
        then(&mut stage);
        by_status += &format!("== {name}\n{}\n", settled(said[0], || status_lines(&stage)));
        let Some(browser) = &browser else { continue };
        let lines = settled(said[1], || plain(&top(browser, 5)));
        by_page += &format!("== {name}\n{lines}\n\n");
        assert_fair(browser, name);
        browser.picture(&format!("{}-phone", name.replace(' ', "-")));
        browser.size(1400, 900);
        assert_eq!(crooked(browser), json!([]), "{name}");
        browser.picture(&format!("{}-wide", name.replace(' ', "-")));
    }
    insta::assert_snapshot!("status", by_status);
    if browser.is_some() {
        insta::assert_snapshot!("page", by_page);
    }
}

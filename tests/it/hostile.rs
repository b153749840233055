//! Names and answers that are made to mislead whoever reads them: every command is asked, and what it
//! prints is looked at.

use std::os::unix::ffi::OsStrExt;

use dropferry::model::misleads;

use super::between::{Answered, stand};
use super::stage::{Options, Stage, until};

/// Sets a title, clears the screen, turns the direction of writing, begins a line.
const ODD: &str =
    "=x\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}\u{2066}\u{200b}\u{2028}\r\nFORGED\t";

/// Returns the name as JSON has it in a text.
fn in_json(text: &str) -> String {
    serde_json::Value::from(text).to_string().trim_matches('"').to_owned()
}

/// Runs a command, and returns all it printed.
fn printed(stage: &Stage, arguments: &[&str]) -> String {
    let output = stage.output(arguments[0], &arguments[1..]);
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8(all).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

fn assert_plain(text: &str, whose: &str) {
    let odd = text.chars().find(|c| misleads(*c) && *c != '\n');
    assert_eq!(odd, None, "{whose}: {text:?}");
    assert!(!text.lines().any(|line| line.starts_with("FORGED")), "{whose}: {text}");
}

/// Every command that says something of files and destinations.
const COMMANDS: &[&[&str]] = &[
    &["status"],
    &["status", "--json", "--all"],
    &["status", "--check"],
    &["show", "1"],
    &["show", "2"],
    &["show", "1", "--json"],
    &["show", "2", "--json"],
    &["show", ODD],
    &["plan"],
    &["plan", "--json"],
    &["receipts"],
    &["receipts", "--format", "csv"],
    &["receipts", "--format", "json"],
    &["receipts", "--print"],
    &["receipts", ODD],
    &["verify", "lab"],
    &["verify", "lab", "--json"],
    &["verify", "lab", "--content"],
    &["verify", ODD],
    &["exports", "--all"],
    &["doctor"],
    &["doctor", "--json"],
    &["check-config", "--online"],
    &["check-config", "--online", "--json"],
    &["pause", ODD],
    &["pause", "--drop", ODD],
    &["resume", "--destination", ODD],
    &["retry", "2"],
    &["upload", ODD, "--to", "to-sevenbridges"],
    &["bandwidth", ODD],
    &["abandon", "2"],
];

#[test]
fn no_command_does_to_a_terminal_what_a_name_or_an_answer_wants() {
    let mut stage = Stage::new(Options { level: "debug", ..Options::default() });
    let (name, said) = (in_json(ODD), in_json(&format!("no, {ODD}")));
    stand(&stage, move |asked, sandbox| {
        let is_refused = String::from_utf8_lossy(&asked.body).contains("refused");
        if is_refused && asked.line.starts_with("POST /v2/upload/multipart") {
            return Answered::new(400, &format!("{{\"code\":7000,\"message\":\"{said}\"}}"));
        }
        let mut answer = asked.forward(sandbox);
        if asked.line.ends_with("/complete") {
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            answer.body = body.replace("FORGED", &name).into_bytes();
        }
        answer
    });
    // Below a directory of a like name; the bytes of the last are no text.
    stage.write(&format!("{ODD}/{ODD}FORGED"), b"one");
    stage.write("refused", b"two");
    let broken = std::ffi::OsStr::from_bytes(b"ignored\x1b[2J\xff\x9b");
    std::os::unix::fs::symlink("/nowhere", stage.drop().join(broken)).expect("made");
    stage.start();
    stage.until_count("completed", 1);
    stage.until_count("parked", 1);
    until("the link is ignored", || Some(()).filter(|()| stage.count("ignored") == 1));
    for arguments in COMMANDS {
        assert_plain(&printed(&stage, arguments), &arguments.join(" "));
    }
    let csv = printed(&stage, &["receipts", "--format", "csv"]);
    assert!(csv.contains(",'=x\\u{1b}]0;owned"), "a cell is no formula: {csv}");
    let json = printed(&stage, &["show", "1", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(shown["remote_name"].as_str().expect("a name").contains(ODD), "it is exact: {json}");
    assert_plain(&stage.log(), "the log");
    assert!(stage.log().contains("FORGED"), "it is said, escaped");
}

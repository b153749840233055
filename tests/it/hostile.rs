//! Names and answers that try to mislead the reader, or to have a secret printed: every command is
//! called, and its output is checked.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dropferry::testing::model::misleads;

use super::between::{Answered, stand};
use super::stage::{Options, Stage, TOKEN, until};

/// Sets a title, clears the screen, reverses the direction of writing, begins a line.
const ODD: &str =
    "=x\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}\u{2066}\u{200b}\u{2028}\r\nFORGED\t";

/// Returns the name as it is written in a JSON string.
fn in_json(text: &str) -> String {
    serde_json::Value::from(text).to_string().trim_matches('"').to_owned()
}

/// Runs a command, and returns everything that it printed.
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

/// Every command that prints something about files and destinations.
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
    // Below a directory with a similar name; the bytes of the last one are not valid text.
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

/// The forms of a secret in an answer that repeats it.
fn echoes() -> Vec<String> {
    let percent = TOKEN.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    vec![
        TOKEN.to_owned(),
        TOKEN.to_uppercase(),
        percent,
        STANDARD.encode(TOKEN),
        STANDARD.encode(format!("user:{TOKEN}")),
        format!("https://user:{TOKEN}@proxy.example/"),
    ]
}

#[test]
fn no_command_prints_a_credential_that_an_answer_repeats() {
    for platform in ["sevenbridges", "basespace", "gjirafa-vp", "s3"] {
        let platforms: &'static [&'static str] = match platform {
            "sevenbridges" => &["sevenbridges"],
            "basespace" => &["basespace"],
            "gjirafa-vp" => &["gjirafa-vp"],
            _ => &["s3"],
        };
        let mut stage = Stage::new(Options { platforms, level: "trace", ..Options::default() });
        let is_hostile = Arc::new(AtomicBool::new(false));
        let hostile = Arc::clone(&is_hostile);
        stand(&stage, move |asked, sandbox| {
            if !hostile.load(Ordering::Relaxed) {
                return asked.forward(sandbox);
            }
            let said = format!("no rights for token {}", echoes().join(" or "));
            let body = match platform {
                "sevenbridges" => format!("{{\"code\":5001,\"message\":\"{said}\"}}"),
                "basespace" => {
                    format!("{{\"ResponseStatus\":{{\"ErrorCode\":\"X\",\"Message\":\"{said}\"}}}}")
                }
                "gjirafa-vp" => format!("{{\"success\":false,\"errors\":[\"{said}\"]}}"),
                _ => format!("<Error><Code>AccessDenied</Code><Message>{said}</Message></Error>"),
            };
            let mut answer = Answered::new(403, &body);
            answer.headers.push_str(&format!("x-request-id: {TOKEN}\r\n"));
            answer
        });
        stage.write("a", b"one");
        stage.start();
        stage.until_count("completed", 1);
        is_hostile.store(true, Ordering::Relaxed);
        stage.write("b", b"two");
        until("it is refused", || {
            Some(()).filter(|()| {
                stage.log().contains("no rights for token") || stage.count("parked") == 1
            })
        });
        let to = format!("to-{platform}");
        let mut texts = vec![("the log".to_owned(), stage.log())];
        for arguments in [
            &["doctor"][..],
            &["doctor", "--json"],
            &["check-config", "--online"],
            &["check-config", "--online", "--json"],
            &["verify", "lab"],
            &["verify", "lab", "--json"],
            &["verify", "1"],
            &["show", "1"],
            &["show", "2"],
            &["show", "2", "--json"],
            &["status"],
            &["status", "--json", "--all"],
            &["retry", "--destination", &to],
        ] {
            texts.push((arguments.join(" "), printed(&stage, arguments)));
        }
        let database = fs::read(stage.path("state/dropferry.db-wal")).unwrap_or_default();
        texts.push(("the rows".to_owned(), String::from_utf8_lossy(&database).into_owned()));
        for (whose, text) in texts {
            let lower = text.to_lowercase();
            for echo in echoes() {
                assert!(
                    !lower.contains(&echo.to_lowercase()),
                    "{platform}, {whose}: {echo}\n{text}"
                );
            }
        }
    }
}

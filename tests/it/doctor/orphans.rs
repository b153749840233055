//! Unfinished uploads without an owner: ours are removed on demand, all others are left alone.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use super::super::stage::{Options, Stage, TOKEN, noise, until};
use super::{Found, doctor};

/// Twelve parts, each so small that it is taken whole before it is refused.
const LENGTH: usize = 12 * 64 * 1024;

fn open_uploads(stage: &Stage) -> Vec<String> {
    let ledger = stage.ledger();
    let open = ledger["open_uploads"].as_array().expect("a list").clone();
    open.iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
}

/// Lets two parts through; answers a removal as if the upload were gone, and it is not.
fn hold(stage: &Stage, put: &str, gone: &Value) {
    let refuse = json!({"answer": {"status": 500, "body": {}}});
    let rules = json!([
        {"operation": put, "nth": 3, "times": 0, "action": refuse},
        {"operation": "abort", "times": 0, "action": {"answer": gone}},
    ]);
    stage.tell("faults", &rules.to_string());
}

/// Next to a foreign upload, leaves one upload of ours that the platform only claimed to have
/// removed, and one of ours that is still being sent; the daemon is down. Returns both.
fn leave_two(stage: &mut Stage, foreign: &str, (put, gone): (&str, &Value)) -> (String, String) {
    hold(stage, put, gone);
    stage.write("run/a", &noise(LENGTH, 1));
    stage.start();
    let other_than =
        |known: &[&str]| open_uploads(stage).into_iter().find(|id| !known.contains(&id.as_str()));
    let first = until("an upload is begun", || other_than(&[foreign]));
    until("two parts are there", || {
        let status = stage.status();
        (status["uploads"][0]["accepted_part_count"].as_u64() >= Some(1)).then_some(())
    });
    // A file of the same length would be read again, and its upload continued.
    stage.write("run/a", &noise(LENGTH - 1, 2));
    stage.until_count("abandoned", 1);
    until("it was removed, as they say", || {
        (stage.ledger()["calls"]["abort"].as_u64() >= Some(1)).then_some(())
    });
    let second = until("the next is begun", || other_than(&[foreign, &first]));
    until("a row has it", || {
        let status = stage.status();
        let uploads = status["uploads"].as_array()?.clone();
        let is_going = |upload: &&Value| upload["state"] != "abandoned";
        let id = uploads.iter().find(is_going)?["id"].to_string();
        let shown = stage.output("show", &[&id, "--json"]);
        let shown: Value = serde_json::from_slice(&shown.stdout).ok()?;
        shown["remote_upload_id"].as_str()?.contains(&second).then_some(())
    });
    stage.kill();
    stage.tell("faults", "[]");
    (first, second)
}

/// Our uploads are listed, and removed only if they are old enough and the operator agreed.
fn assert_removes_one(stage: &Stage, ours: &str, others: &[&str]) {
    let found = doctor(stage, &[]);
    found.assert_code(0);
    found.assert_says(("orphans", "ok"), &format!("{ours} of "), "");
    found.assert_says(("orphans", "ok"), "ours, and too young to be removed", "");
    found.assert_says(("orphans", "ok"), "not provably ours, left alone", "");
    let found = doctor(stage, &["--older-than", "0s"]);
    found.assert_says(("orphans", "warn"), "ours, and nothing needs it", "--abort-orphans");
    found.assert_says(("orphans", "warn"), "not provably ours", "the platform's own tools");
    doctor(stage, &["--abort-orphans", "--yes"]);
    refuse_to_agree(stage);
    assert_eq!(open_uploads(stage).len(), others.len() + 1, "none was removed");
    let found = doctor(stage, &["--abort-orphans", "--yes", "--older-than", "0s"]);
    found.assert_code(0);
    found.assert_says(("orphans", "ok"), "ours, removed", "");
    let mut left = open_uploads(stage);
    let mut others: Vec<_> = others.iter().map(|id| (*id).to_owned()).collect();
    left.sort();
    others.sort();
    assert_eq!(left, others, "{found}");
    let found = doctor(stage, &["--abort-orphans", "--yes", "--older-than", "0s"]);
    found.assert_says(("orphans", "ok"), "there is nothing to remove", "");
}

/// Without `--yes` it asks, and takes every answer but a yes for a no.
fn refuse_to_agree(stage: &Stage) {
    let mut asks = stage.command("doctor");
    asks.args(["--abort-orphans", "--older-than", "0s"]);
    asks.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut asks = asks.spawn().expect("it starts");
    asks.stdin.take().expect("piped").write_all(b"what?\n").expect("answered");
    let output = asks.wait_with_output().expect("it ends");
    let asked = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(asked.contains("remove these 1 unfinished uploads? [y/N]"), "{asked}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("1 unfinished uploads are left as they are"), "{said}");
}

#[test]
fn at_seven_bridges_ours_is_removed_and_a_foreign_and_an_owned_one_are_left_alone() {
    let switches = "{\"part_size\": 65536}";
    let mut stage = Stage::new(Options { switches, ..Options::default() });
    let body = json!({"project": "lab/demo", "name": "theirs.bam", "size": 5, "part_size": 5});
    stage.post("/v2/upload/multipart", &body.to_string());
    let foreign = open_uploads(&stage).pop().expect("begun by somebody");
    let gone = json!({"status": 404, "body": {"code": 8003, "message": "no such upload"}});
    let (ours, owned) = leave_two(&mut stage, &foreign, ("put", &gone));
    assert_removes_one(&stage, &ours, &[&foreign, &owned]);
}

#[test]
fn at_s3_ours_is_removed_and_a_foreign_and_an_owned_one_are_left_alone() {
    let mut stage = Stage::new(Options {
        platforms: &["s3"],
        transfer: "parts_in_flight = 4\npart_size = \"64 KiB\"",
        ..Options::default()
    });
    stage.post(&signed_create("runs/theirs.bam"), "");
    let foreign = open_uploads(&stage).pop().expect("begun by somebody");
    let gone = json!({"status": 404, "body": "<Error><Code>NoSuchUpload</Code></Error>"});
    let (ours, owned) = leave_two(&mut stage, &foreign, ("upload-part", &gone));
    assert_removes_one(&stage, &ours, &[&foreign, &owned]);
}

fn signed_create(key: &str) -> String {
    let url = reqwest::Url::parse(&format!("http://sandbox/lab-demo/{key}")).expect("a URL");
    let url = rusty_s3::signing::sign(
        &jiff_02::Timestamp::now(),
        rusty_s3::Method::Post,
        url,
        "SANDBOX",
        TOKEN,
        None,
        "us-east-1",
        600,
        [("uploads", "")].into_iter(),
        std::iter::empty::<(&str, &str)>(),
    );
    format!("{}?{}", url.path(), url.query().unwrap_or_default())
}

#[test]
fn platforms_without_a_list_of_uploads_say_so() {
    let platforms = &["basespace", "gjirafa-vp"];
    let stage = Stage::new(Options { platforms, ..Options::default() });
    let found: Found = doctor(&stage, &[]);
    let lines = found.of("orphans", "ok");
    assert_eq!(lines.len(), 2, "{found}");
    found.assert_says(("orphans", "ok"), "the platform lists no unfinished uploads", "");
}

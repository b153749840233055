//! Tokens that are revoked, uploads that are lost, sources that change, databases that are lost.

use std::fs;

use serde_json::json;

use super::super::stage::{Options, Stage, TOKEN, noise, until};
use super::{at_each_platform, calm, slow, stage_at, upload_of};

at_each_platform! {
    a_revoked_token_halts_and_a_replaced_file_is_picked_up
    a_destination_that_never_took_anything_needs_a_person_at_once
    an_upload_that_the_platform_lost_begins_again
    a_file_that_changes_while_it_is_sent_is_never_a_mix
    what_is_taken_and_never_confirmed_is_sent_so_often_and_then_a_person_is_asked
}

fn until_bytes(stage: &Stage, count: u64) {
    until("bytes were received", || {
        (stage.ledger()["bytes_received"].as_u64() > Some(count)).then_some(())
    });
}

fn a_revoked_token_halts_and_a_replaced_file_is_picked_up(platform: &str) {
    let mut stage = stage_at(platform, slow());
    stage.write("run/large", &noise(4 << 20, 5));
    stage.start();
    until_bytes(&stage, 1 << 20);
    stage.write_token("00000000000000000000000000000000");
    until("the destination is halted", || {
        (stage.status()["destinations"][0]["state"] == "halted").then_some(())
    });
    assert_eq!(stage.count("parked"), 0, "the destination halts, never the upload");
    stage.write_token(TOKEN);
    stage.until_count("completed", 1);
    stage.assert_all_there();
    let sent_to = stage.ledger()["parts"].as_object().map(serde_json::Map::len);
    assert_eq!(sent_to, Some(1), "it went on where it was");
}

fn a_destination_that_never_took_anything_needs_a_person_at_once(platform: &str) {
    let mut stage = stage_at(platform, calm());
    stage.write_token("00000000000000000000000000000000");
    stage.write("run/small", b"small");
    stage.start();
    let check = |stage: &Stage| stage.output("status", &["--check"]).status.code();
    let attention = until("it needs a person", || {
        let attention = stage.status()["attention"].clone();
        (attention != json!([])).then_some(attention)
    });
    assert_eq!(check(&stage), Some(6));
    assert_eq!(attention[0]["code"], "destination-halted", "{attention}");
    let text = attention[0]["text"].as_str().unwrap_or_default();
    assert!(text.contains("it has never taken anything"), "{text}");
    stage.write_token(TOKEN);
    stage.until_count("completed", 1);
    assert_eq!((check(&stage), &stage.status()["attention"]), (Some(0), &json!([])));
    stage.write_token("00000000000000000000000000000000");
    stage.write("run/other", b"other");
    until("it is halted", || {
        (stage.status()["destinations"][0]["state"] == "halted").then_some(())
    });
    let attention = stage.status()["attention"].clone();
    assert!(!attention.to_string().contains("never taken anything"), "it has: {attention}");
}

fn an_upload_that_the_platform_lost_begins_again(platform: &str) {
    let mut stage = stage_at(platform, slow());
    stage.write("run/large", &noise(4 << 20, 6));
    stage.start();
    until_bytes(&stage, 1 << 20);
    stage.tell("vanish", "{}");
    stage.until_count("completed", 1);
    stage.assert_all_there();
    assert_eq!(stage.ledger()["begun_count"], 2);
}

fn a_file_that_changes_while_it_is_sent_is_never_a_mix(platform: &str) {
    let mut stage = stage_at(platform, slow());
    stage.write("run/large", &noise(4 << 20, 7));
    stage.start();
    until_bytes(&stage, 1 << 20);
    stage.write("run/large", &noise(3 << 20, 8));
    stage.until_count("completed", 1);
    until("the old upload is removed", || {
        (stage.ledger()["open_uploads"] == json!([])).then_some(())
    });
    stage.assert_all_there();
    assert_eq!(stage.count("abandoned"), 1);
    let log = stage.log();
    assert!(log.contains("the source changed"), "{log}");
}

/// Sends three files, loses the database, and lets a new one find them.
fn lose_the_database(platform: &str, switches: &'static str) -> Stage {
    let mut stage = stage_at(platform, Options { switches, ..calm() });
    stage.write("run/large", &noise((3 << 20) + 5, 9));
    stage.write("run/small", b"small");
    stage.write("run/empty", b"");
    stage.start();
    stage.until_count("completed", 3);
    stage.kill();
    fs::remove_dir_all(stage.path("state")).expect("lost");
    let before = stage.ledger();
    stage.start();
    stage.until_count("completed", 3);
    stage.assert_all_there();
    let after = stage.ledger();
    assert_eq!(after["bytes_received"], before["bytes_received"]);
    assert_eq!(after["begun_count"], before["begun_count"]);
    stage
}

/// Loses it again, with other contents of equal size in the files.
fn change_and_lose_the_database(mut stage: Stage) {
    stage.kill();
    fs::remove_dir_all(stage.path("state")).expect("lost");
    stage.write("run/large", &noise((3 << 20) + 5, 10));
    stage.write("run/small", b"other");
    let before = stage.ledger()["bytes_received"].clone();
    stage.start();
    stage.until_count("parked", 2);
    stage.until_count("completed", 1);
    for path in ["run/large", "run/small"] {
        let upload = upload_of(&stage, path);
        let reason = upload["reason"]["text"].as_str().unwrap_or_default();
        assert!(reason.contains("not proved the same"), "{path}: {reason}");
    }
    assert_eq!(stage.ledger()["bytes_received"], before, "nothing is sent over what is there");
}

#[test]
fn a_lost_database_sends_nothing_twice_to_basespace() {
    change_and_lose_the_database(lose_the_database("basespace", "{}"));
}

#[test]
fn a_lost_database_sends_nothing_twice_to_s3() {
    change_and_lose_the_database(lose_the_database("s3", "{}"));
}

#[test]
fn an_s3_without_conditions_keeps_what_is_there_when_the_database_is_lost() {
    let switches = "{\"s3\": {\"ignores_conditions\": true}}";
    change_and_lose_the_database(lose_the_database("s3", switches));
}

#[test]
fn a_part_that_is_refused_for_ever_goes_into_an_upload_begun_anew_before_the_file_parks() {
    let mut stage = stage_at("s3", Options { part_size_min: "1 MiB", ..calm() });
    let body = "<Error><Code>BadDigest</Code><Message>no</Message></Error>";
    let rules = json!([
        {"operation": "upload-part", "times": 0, "action": {"answer": {"status": 400, "body": body}}},
        {"operation": "create", "nth": 2, "action": {"stall": 1500}},
    ]);
    stage.tell("faults", &rules.to_string());
    stage.write("run/large", &noise(3 << 20, 12));
    stage.start();
    let calls = |operation: &str| stage.ledger()["calls"][operation].as_u64().unwrap_or(0);
    until("it is begun anew", || (calls("create") == 2).then_some(()));
    assert_eq!(calls("abort"), 0, "the first one is kept until the second one is begun");
    stage.until_count("parked", 1);
    until("the first one is removed", || (calls("abort") == 1).then_some(()));
    assert_eq!(calls("create"), 2, "once");
    assert!(calls("list-parts") >= 1, "it was asked before");
    let reason = upload_of(&stage, "run/large")["reason"].clone();
    assert_eq!(reason["code"], "no-progress");
    let text = reason["text"].as_str().unwrap_or_default();
    assert!(text.contains("BadDigest"), "{reason}");
    let received = stage.ledger()["bytes_received"].as_u64();
    assert!(received <= Some(20 << 20), "{received:?}: the bound of what is sent in vain");
    stage.tell("faults", "[]");
    assert!(stage.output("retry", &["--all"]).status.success());
    stage.until_count("completed", 1);
    stage.assert_all_there();
}

/// The storage takes parts and answers them with nothing at all. They may be found in a list of parts, else
/// there is a bound, and a word.
#[expect(clippy::print_stdout, reason = "what it came to, shown by --nocapture")]
fn what_is_taken_and_never_confirmed_is_sent_so_often_and_then_a_person_is_asked(platform: &str) {
    const MIB: u64 = 1 << 20;
    let network = "inactivity_timeout = \"2s\"\n[notify]\nstuck_after = \"1s\"";
    let switches = "{\"basespace\": {\"parts_listed\": false}}";
    let options = Options { network, switches, orphans_allowed: 10, ..calm() };
    let mut stage = stage_at(platform, options);
    let nothing = json!({"answer": {"status": 200, "body": null, "headers": {}}});
    let rules = ["put", "upload-part"].map(
        |operation| json!({"operation": operation, "times": 0, "when": "after", "action": nothing}),
    );
    stage.tell("faults", &json!(rules).to_string());
    stage.write("run/large", &noise(7 << 20, 30));
    stage.start();
    let retry_in = |upload: &serde_json::Value| {
        let at: Option<jiff::Timestamp> = upload["retry_at"].as_str()?.parse().ok();
        Some(at?.duration_since(jiff::Timestamp::now()).as_secs())
    };
    let upload = until("it rests", || {
        let upload = upload_of(&stage, "run/large");
        let rests = upload["state"] == "parked"
            || upload["state"] == "completed"
            || upload["state"] == "waiting" && retry_in(&upload) >= Some(3);
        rests.then_some(upload)
    });
    let received = stage.ledger()["bytes_received"].as_u64().expect("a count");
    println!("{platform}: {} after {received} bytes: {}", upload["state"], upload["reason"]);
    // The file once, four parts after it was asked for, four in an upload begun anew; and what flew beside.
    assert!(received <= (7 + 4 + 4 + 8) * MIB, "{platform}: {received} bytes");
    if upload["state"] == "completed" {
        assert!(["s3", "gjirafa-vp"].contains(&platform), "{platform}: it lists no parts");
        return stage.assert_all_there();
    }
    assert_eq!(upload["accepted_part_count"], 0, "{upload}");
    assert!(upload["reason"]["text"].as_str().is_some_and(|why| !why.is_empty()), "{upload}");
    let matter = stage.status()["attention"][0].clone();
    let is_said = matter["cure"].as_str().is_some_and(|cure| !cure.is_empty());
    assert!(is_said && matter["code"].is_string(), "{matter}");
    assert_eq!(stage.output("status", &["--check"]).status.code(), Some(6));
    stage.tell("faults", "[]");
    assert!(stage.output("retry", &["--all"]).status.success());
    stage.until_count("completed", 1);
    stage.assert_all_there();
}

mod sevenbridges {
    #[test]
    fn what_is_taken_and_never_confirmed_is_sent_so_often_and_then_a_person_is_asked() {
        super::what_is_taken_and_never_confirmed_is_sent_so_often_and_then_a_person_is_asked(
            "sevenbridges",
        );
    }
}

/// Kills it in the middle of two uploads of many parts, after the second one was begun.
fn kill_in_the_middle(stage: &mut Stage, names: [&str; 2]) {
    let count = |stage: &Stage| {
        let ledger = stage.ledger();
        (ledger["begun_count"].as_u64(), ledger["bytes_received"].as_u64())
    };
    let (begun, received) = count(stage);
    for (name, seed) in names.into_iter().zip(20..) {
        stage.write(name, &noise(4 << 20, seed));
    }
    stage.start();
    until("both are being sent", || {
        let now = count(stage);
        let are_begun = now.0 == begun.map(|begun| begun + 2);
        (are_begun && now.1 > received.map(|received| received + (2 << 20))).then_some(())
    });
    stage.kill();
}

#[test]
fn an_s3_that_does_not_show_the_parts_of_an_upload_has_our_own_record_of_them_believed() {
    for (status, code) in [(403, "AccessDenied"), (404, "NoSuchKey"), (501, "NotImplemented")] {
        let transfer = "parts_in_flight = 4\nbandwidth = \"4 MB/s\"\npart_size = \"512 KiB\"";
        let mut stage = stage_at("s3", Options { transfer, ..Options::default() });
        let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
        let answer = json!({"answer": {"status": status, "body": body}});
        let rules = json!([
            {"operation": "list-parts", "times": 0, "action": answer},
            {"operation": "complete", "when": "after", "action": "reset"},
        ]);
        stage.tell("faults", &rules.to_string());
        kill_in_the_middle(&mut stage, ["run/one", "run/two"]);
        stage.start();
        stage.until_count("completed", 2);
        let lists = || stage.ledger()["calls"]["list-parts"].as_u64();
        let before = lists();
        let again = stage.ledger()["bytes_received_again"].as_u64();
        assert!(again <= Some(8 * (512 << 10)), "{code}: {again:?} bytes again, of parts recorded");
        let shown = stage.output("show", &["1", "--json"]);
        let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
        let learned = shown["destination_learned"].as_array().expect("a list");
        assert!(learned.contains(&json!("no-part-lists")), "{code}: {shown}");
        stage.kill();
        kill_in_the_middle(&mut stage, ["run/three", "run/four"]);
        stage.start();
        stage.until_count("completed", 4);
        stage.assert_all_there();
        assert_eq!(stage.ledger()["calls"]["list-parts"].as_u64(), before, "{code}: it is known");
        assert_eq!(stage.ledger()["begun_count"], 4, "{code}: nothing is begun anew");
    }
}

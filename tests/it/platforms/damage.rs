//! Bytes that are stored damaged, and ETags that are no digests: a receipt is written only for what was sent.

use serde_json::{Value, json};

use super::super::stage::{Options, Stage, noise, until};
use super::{calm, stage_at, upload_of};

const LARGE: &str = "run/large";
const SMALL: &str = "run/small";

/// A stage where calls of an operation store damaged bytes: `times` calls from the `nth` on.
fn damaging(platform: &str, operation: &str, (nth, times): (u64, u64)) -> Stage {
    let stage = stage_at(platform, calm());
    let rule = json!([{"operation": operation, "nth": nth, "times": times, "action": "corrupt"}]);
    stage.tell("faults", &rule.to_string());
    stage
}

fn with_etags(platform: &str, switches: &'static str) -> Stage {
    stage_at(platform, Options { switches, ..calm() })
}

fn arrives(mut stage: Stage, name: &str, bytes: &[u8]) -> Stage {
    stage.write(name, bytes);
    stage.start();
    stage.until_count("completed", 1);
    stage.assert_all_there();
    stage
}

/// Asserts that the upload parks, with a reason that names the fault, and without a receipt.
fn parks(mut stage: Stage, name: &str, bytes: &[u8]) -> Stage {
    stage.write(name, bytes);
    stage.start();
    stage.until_count("parked", 1);
    let upload = upload_of(&stage, name);
    let reason = upload["reason"]["text"].as_str().unwrap_or_default();
    assert!(reason.contains("damaged"), "{upload}");
    assert_eq!(receipts(&stage), Vec::<Value>::new());
    stage
}

fn receipts(stage: &Stage) -> Vec<Value> {
    let said = stage.output("receipts", &["--format", "json"]).stdout;
    let listed: Value = serde_json::from_slice(&said).unwrap_or_default();
    listed.as_array().cloned().unwrap_or_default()
}

/// The receipt of the only upload.
fn receipt(stage: &Stage) -> Value {
    let said = stage.output("receipts", &["1", "--print"]).stdout;
    serde_json::from_slice(&said).expect("JSON")
}

fn calls(stage: &Stage, operation: &str) -> u64 {
    stage.ledger()["calls"][operation].as_u64().unwrap_or(0)
}

fn proves_by_md5(stage: &Stage) {
    let receipt = receipt(stage);
    assert_eq!(receipt["etag_mode"], "md5", "{receipt}");
    for part in receipt["parts"].as_array().expect("a list") {
        assert_eq!(part["md5"], part["etag"], "{receipt}");
    }
}

#[test]
fn a_damaged_object_of_one_part_is_replaced_by_its_own_upload() {
    for ignores in ["{}", "{\"s3\": {\"ignores_conditions\": true}}"] {
        for size in [5, 200 << 10] {
            for times in [1, 3] {
                let stage = with_etags("s3", ignores);
                let rule =
                    json!([{"operation": "put-object", "times": times, "action": "corrupt"}]);
                stage.tell("faults", &rule.to_string());
                let stage = arrives(stage, SMALL, &noise(size, 1));
                proves_by_md5(&stage);
                assert_eq!(calls(&stage, "put-object"), times + 1);
            }
        }
    }
}

/// A file of that size is stored, its answer is held back, and the daemon is killed; the next one completes it.
fn is_killed_once_it_is_stored(stage: &mut Stage, size: usize) {
    stage.write(SMALL, &noise(size, 1));
    stage.start();
    until("it is stored", || (stage.files().len() == 1).then_some(()));
    stage.kill();
    stage.tell("faults", "[]");
    stage.start();
    stage.until_count("completed", 1);
    stage.assert_all_there();
}

#[test]
fn a_damaged_object_is_replaced_after_a_kill_between_its_storing_and_its_record() {
    for size in [5, 200 << 10] {
        let mut stage = stage_at("s3", calm());
        let rules = json!([
            {"operation": "put-object", "action": "corrupt"},
            {"operation": "put-object", "when": "after", "action": {"stall": 600_000}},
        ]);
        stage.tell("faults", &rules.to_string());
        is_killed_once_it_is_stored(&mut stage, size);
        proves_by_md5(&stage);
    }
}

#[test]
fn a_file_that_arrived_just_before_a_kill_ends_proved_whatever_its_etag_is() {
    let sizes = [5, 200 << 10, 3 << 20];
    for (etags, sent) in [("md5", 1), ("kms", 2), ("unlike", 2)] {
        for size in sizes {
            let switches = json!({"storage_etag": etags}).to_string();
            let transfer = "part_size = \"4 MiB\"";
            let mut stage = stage_at("s3", Options { transfer, ..Options::default() });
            stage.tell("switches", &switches);
            let rule =
                json!([{"operation": "put-object", "when": "after", "action": {"stall": 600_000}}]);
            stage.tell("faults", &rule.to_string());
            is_killed_once_it_is_stored(&mut stage, size);
            assert_eq!(calls(&stage, "put-object"), sent, "{etags}, {size} bytes");
        }
    }
}

#[test]
fn what_is_stored_damaged_again_and_again_parks_and_has_no_receipt() {
    // Where the file can be read back, that is done once: two different ETags might not have been digests.
    for (platform, operation, name, size, sent) in [
        ("s3", "put-object", SMALL, 5, 6..=6),
        ("s3", "upload-part", LARGE, 3 << 20, 6..=20),
        ("basespace", "put", LARGE, 6 << 20, 5..=5),
        ("basespace", "single", SMALL, 5, 1..=1),
        ("gjirafa-vp", "put", LARGE, 3 << 20, 5..=5),
    ] {
        let stage = parks(damaging(platform, operation, (1, 0)), name, &noise(size, 1));
        let calls = calls(&stage, operation);
        assert!(sent.contains(&calls), "{platform}: {operation}: {calls}");
    }
}

#[test]
fn a_first_part_that_is_damaged_twice_is_sent_until_it_is_right() {
    for (platform, operation, size) in [
        ("s3", "upload-part", 3 << 20),
        ("basespace", "put", 6 << 20),
        ("gjirafa-vp", "put", 3 << 20),
    ] {
        for times in [1, 2, 4] {
            let stage = damaging(platform, operation, (1, times));
            let stage = arrives(stage, LARGE, &noise(size, 1));
            proves_by_md5(&stage);
        }
    }
}

#[test]
fn a_match_refutes_for_good_that_etags_are_no_digests() {
    let stage = stage_at("s3", calm());
    let mut stage = arrives(stage, SMALL, b"proved by its MD5");
    stage.kill();
    stage.tell("switches", "{\"storage_etag\": \"unlike\"}");
    stage.write("run/other", b"stored well, and not proved");
    stage.start();
    stage.until_count("parked", 1);
    assert_eq!(receipts(&stage).len(), 1);
}

#[test]
fn etags_that_a_storage_calls_no_digests_are_believed_at_once() {
    for platform in ["s3", "gjirafa-vp"] {
        for (name, size) in [(SMALL, 5), (LARGE, 3 << 20)] {
            let stage = with_etags(platform, "{\"storage_etag\": \"kms\"}");
            let stage = arrives(stage, name, &noise(size, 1));
            let receipt = receipt(&stage);
            assert_eq!(receipt["etag_mode"], "opaque", "{platform}: {receipt}");
            assert_eq!(receipt["bytes_sent_again"], 0, "{platform}: {receipt}");
        }
    }
}

#[test]
fn the_same_wrong_etag_twice_is_damage() {
    for platform in ["s3", "gjirafa-vp"] {
        for (name, size) in [(SMALL, 5), (LARGE, 3 << 20)] {
            let stage = with_etags(platform, "{\"storage_etag\": \"salted\"}");
            parks(stage, name, &noise(size, 1));
        }
    }
}

#[test]
fn other_etags_each_time_are_believed_when_the_bytes_are_read_back() {
    for (name, size) in [(SMALL, 5), (SMALL, 200 << 10), (LARGE, 3 << 20)] {
        let stage = with_etags("s3", "{\"storage_etag\": \"unlike\"}");
        let stage = arrives(stage, name, &noise(size, 1));
        let receipt = receipt(&stage);
        assert_eq!(receipt["etag_mode"], "read-back", "{receipt}");
        let verified = stage.output("verify", &["1"]);
        let said = String::from_utf8_lossy(&verified.stdout).into_owned();
        assert!(said.contains("read back") && verified.status.success(), "{said}");
    }
}

#[test]
fn etags_that_are_no_digests_are_learned_once_and_later_files_are_sent_once() {
    let mut stage = arrives(with_etags("s3", "{\"storage_etag\": \"unlike\"}"), SMALL, b"first");
    assert_eq!(calls(&stage, "put-object"), 2);
    stage.kill();
    stage.write("run/second", b"second");
    stage.write("run/third", &noise(200 << 10, 3));
    stage.start();
    stage.until_count("completed", 3);
    stage.assert_all_there();
    assert_eq!(calls(&stage, "put-object"), 4);
}

#[test]
fn damage_that_no_etag_shows_is_found_when_the_bytes_are_read_back() {
    for (operation, nth, name, size) in
        [("put-object", 2, SMALL, 5), ("upload-part", 3, LARGE, 3 << 20)]
    {
        let stage = with_etags("s3", "{\"storage_etag\": \"unlike\"}");
        let rule = json!([{"operation": operation, "nth": nth, "action": "corrupt"}]);
        stage.tell("faults", &rule.to_string());
        let stage = arrives(stage, name, &noise(size, 1));
        assert_eq!(receipt(&stage)["etag_mode"], "read-back");
    }
}

#[test]
fn a_final_digest_by_another_rule_is_told_once_and_kept() {
    let stage = with_strange_finals("strange_object_etag");
    assert!(stage.output("verify", &["lab"]).status.success());
}

#[test]
fn equal_digests_of_a_file_are_equal_though_basespace_does_not_show_the_size_of_its_parts() {
    let transfer = "parts_in_flight = 4\npart_size = \"2500000 B\"";
    let stage = stage_at("basespace", Options { transfer, ..Options::default() });
    let stage = arrives(stage, LARGE, &noise(7_000_000, 1));
    let upload = upload_of(&stage, LARGE);
    assert_eq!(
        (&upload["part_count"], &upload["attempt_count"]),
        (&json!(3), &json!(0)),
        "{upload}"
    );
    assert!(!stage.log().contains("by a rule of its own"), "{}", stage.log());
    let said = String::from_utf8(stage.output("verify", &["1"]).stdout).expect("text");
    assert!(said.contains("size and digest"), "{said}");
}

#[test]
fn a_final_digest_that_is_another_one_each_time_is_told_once_and_kept() {
    let stage = with_strange_finals("changing_object_etag");
    let asked = || calls(&stage, "head");
    let before = asked();
    stage.write("run/three", &noise(3 << 20, 3));
    stage.until_count("completed", 3);
    assert!(asked() <= before + 3, "it is known: what is shown is believed at once");
}

#[test]
fn a_complete_whose_answer_is_lost_is_known_by_its_token_where_final_digests_are_strange() {
    for switch in ["strange_object_etag", "changing_object_etag"] {
        let mut stage = stage_at("s3", calm());
        stage.tell("switches", &json!({"s3": {switch: true}}).to_string());
        let lost = json!([{"operation": "complete", "when": "after", "action": "reset"}]);
        stage.tell("faults", &lost.to_string());
        stage.write(LARGE, &noise(3 << 20, 1));
        stage.start();
        stage.until_count("completed", 1);
        stage.assert_all_there();
        assert_eq!(calls(&stage, "create"), 1, "{switch}: nothing is begun again");
    }
}

/// Two files of three parts are sent, all proved, whose final digests are made by another rule.
fn with_strange_finals(switch: &str) -> Stage {
    let mut stage = stage_at("s3", calm());
    stage.tell("switches", &json!({"s3": {switch: true}}).to_string());
    stage.write("run/one", &noise(3 << 20, 1));
    stage.write("run/two", &noise(3 << 20, 2));
    stage.start();
    stage.until_count("completed", 2);
    stage.assert_all_there();
    let told = stage.log().matches("by a rule of its own").count();
    assert_eq!(told, 1, "told once: {}", stage.log());
    proves_by_md5(&stage);
    stage
}

#[test]
fn what_is_stored_without_an_etag_is_looked_up_and_not_sent_again() {
    let mut stage = with_etags("s3", "{\"storage_etag\": \"none\"}");
    stage.write(LARGE, &noise(6 << 20, 1));
    stage.write(SMALL, &noise(5, 2));
    stage.write("run/empty", b"");
    stage.start();
    stage.until_count("completed", 3);
    stage.assert_all_there();
    let sent = (calls(&stage, "upload-part"), calls(&stage, "put-object"));
    assert_eq!(sent, (6, 2), "each once");
    assert_eq!(calls(&stage, "list-parts"), 6, "one look for each part");
    assert_eq!(stage.log().matches("have no ETags").count(), 1, "{}", stage.log());
    let shown = stage.output("show", &["1", "--json"]).stdout;
    let shown: Value = serde_json::from_slice(&shown).expect("JSON");
    let learned = shown["destination_learned"].as_array().expect("a list");
    assert!(learned.contains(&json!("no-etags")), "{shown}");
}

/// A small file, of which these calls about its object fail; it is sent so often.
fn is_sent(times: u64, switches: &str, rules: &Value) {
    for size in [5, 200 << 10] {
        let mut stage = stage_at("s3", calm());
        stage.tell("switches", switches);
        stage.tell("faults", &rules.to_string());
        stage.write(SMALL, &noise(size, 1));
        stage.start();
        stage.until_count("completed", 1);
        stage.assert_all_there();
        assert_eq!(calls(&stage, "put-object"), times, "{size} bytes, {rules}");
    }
}

#[test]
fn a_look_that_fails_after_a_file_arrived_without_an_etag_is_made_again_and_nothing_is_sent_twice()
{
    for action in [json!({"answer": {"status": 500}}), json!("reset"), json!({"html": 502})] {
        let rules = json!([{"operation": "head", "key": SMALL, "times": 3, "action": action}]);
        is_sent(1, "{\"storage_etag\": \"none\"}", &rules);
    }
}

#[test]
fn a_file_whose_answer_is_lost_is_looked_for_until_that_succeeds_and_not_sent_twice() {
    for action in [json!({"answer": {"status": 500}}), json!("reset")] {
        let rules = json!([
            {"operation": "put-object", "when": "after", "action": action},
            {"operation": "head", "key": SMALL, "times": 3, "action": action},
        ]);
        is_sent(1, "{}", &rules);
    }
}

#[test]
fn a_storage_that_shows_no_object_gets_files_of_many_parts_proved_by_its_own_digest() {
    let body = "<Error><Code>AccessDenied</Code></Error>";
    let refused = json!({"answer": {"status": 403, "body": body}});
    let rule = json!([{"operation": "head", "times": 0, "action": refused}]);
    let stage = stage_at("s3", calm());
    stage.tell("faults", &rule.to_string());
    let stage = arrives(stage, LARGE, &noise(3 << 20, 1));
    proves_by_md5(&stage);
    stage.write(SMALL, b"small");
    stage.until_count("completed", 2);
    assert_eq!(stage.output("status", &["--check"]).status.code(), Some(0));
}

#[test]
fn a_file_that_arrived_without_an_etag_just_before_a_kill_is_sent_once_more_and_is_whole() {
    for size in [5, 200 << 10] {
        let mut stage = with_etags("s3", "{\"storage_etag\": \"none\"}");
        let rule =
            json!([{"operation": "put-object", "when": "after", "action": {"stall": 600_000}}]);
        stage.tell("faults", &rule.to_string());
        is_killed_once_it_is_stored(&mut stage, size);
        assert_eq!(calls(&stage, "put-object"), 2, "nothing proves what the first one stored");
    }
}

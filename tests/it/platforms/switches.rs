//! However a stand-in may differ from its documents, the outcome is the same.

use serde_json::json;

use super::super::stage::{Options, Stage, noise, until};
use super::{calm, nameless_begins, stage_at, upload_of};

/// A stand-in, and what it needs in the configuration.
type Row = (&'static str, &'static str);

/// Loses one answer to each call that begins or ends a file: the first, or a later one.
fn lose_answers(stage: &Stage, nth: u64) {
    let begins = ["create", "put-object", "initiate", "initialise", "start", "single"];
    let operations = begins.into_iter().chain(["complete", "success"]);
    let rules: Vec<_> = operations
        .map(|name| json!({"operation": name, "nth": nth, "when": "after", "action": "reset"}))
        .collect();
    stage.tell("faults", &json!(rules).to_string());
}

fn stage_with(platform: &str, (switches, destination): Row) -> Stage {
    let orphans_allowed = nameless_begins(platform);
    stage_at(platform, Options { switches, destination, orphans_allowed, ..calm() })
}

/// Files of each kind arrive: the first undisturbed, the second although the answer is lost.
#[expect(clippy::print_stdout, reason = "what fails is shown with its row")]
fn all_arrives(platform: &str, rows: &[Row]) {
    for row in rows {
        println!("{platform}: {row:?}");
        let mut stage = stage_with(platform, *row);
        lose_answers(&stage, 2);
        write_three(&stage, 1);
        write_three(&stage, 2);
        stage.start();
        stage.until_count("completed", 6);
        stage.assert_all_there();
    }
}

fn write_three(stage: &Stage, seed: u64) {
    stage.write(&format!("run/large {seed}"), &noise(3 << 20, seed));
    stage.write(&format!("run/small {seed}"), &noise(5, seed));
    stage.write(&format!("run/empty {seed}"), b"");
}

/// What cannot be sent parks with its reason; everything else arrives, and nothing of it is there
/// twice. `there` counts the files at the platform.
fn parks(platform: &str, row: Row, paths: &[&str], (why, there): (&str, usize)) {
    let mut stage = stage_with(platform, row);
    write_three(&stage, 1);
    stage.start();
    stage.until_count("parked", paths.len() as u64);
    stage.until_count("completed", 3 - paths.len() as u64);
    for path in paths {
        let upload = upload_of(&stage, path);
        assert_eq!(upload["state"], "parked", "{row:?}: {upload}");
        let reason = upload["reason"]["text"].as_str().unwrap_or_default();
        assert!(reason.contains(why), "{row:?}: {reason}");
    }
    assert_eq!(stage.files().len(), there, "{row:?}");
    assert_eq!(stage.ledger()["breaches"], json!([]), "{row:?}");
}

#[test]
fn every_switch_of_sevenbridges_leads_to_the_same_end() {
    all_arrives(
        "sevenbridges",
        &[
            ("{\"storage_etag\": \"kms\", \"part_size\": 1048576}", ""),
            ("{\"storage_etag\": \"none\", \"part_size\": 1048576}", ""),
            ("{\"sevenbridges\": {\"expires_format\": \"ms\"}}", ""),
            ("{\"sevenbridges\": {\"expires_format\": \"s\"}}", ""),
            ("{\"sevenbridges\": {\"expires_format\": \"missing\"}}", ""),
            (
                "{\"sevenbridges\": {\"success_codes_under_report\": true, \"sequential\": true}, \"part_size\": 1048576}",
                "",
            ),
            (
                "{\"sevenbridges\": {\"put_headers\": {\"x-amz-server-side-encryption\": \"AES256\"}}}",
                "",
            ),
            ("{\"sevenbridges\": {\"upper_case_types\": true, \"second_init_refused\": true}}", ""),
            ("{\"sevenbridges\": {\"clash_at_complete\": true, \"swap_8004_8005\": true}}", ""),
        ],
    );
}

#[test]
fn every_switch_of_s3_leads_to_the_same_end() {
    all_arrives(
        "s3",
        &[
            ("{\"storage_etag\": \"kms\"}", ""),
            ("{\"s3\": {\"ignores_conditions\": true}}", ""),
            ("{\"s3\": {\"complete_twice_is_gone\": true}}", ""),
            ("{\"s3\": {\"strange_object_etag\": true}}", ""),
            ("{\"s3\": {\"lists_no_etags\": true}}", ""),
            ("{\"s3\": {\"page\": 1}}", ""),
            ("{\"s3\": {\"other_roots\": true}}", ""),
        ],
    );
}

#[test]
fn every_switch_of_basespace_leads_to_the_same_end() {
    all_arrives(
        "basespace",
        &[
            ("{\"storage_etag\": \"none\"}", ""),
            ("{\"basespace\": {\"parts_listed\": false}}", ""),
            ("{\"basespace\": {\"gap_refused\": true}}", ""),
            ("{\"basespace\": {\"duplicate_path_refused\": true}}", ""),
            ("{\"basespace\": {\"replica_lag_reads\": 2}}", ""),
            ("{\"basespace\": {\"notification\": true}}", ""),
            ("{\"basespace\": {\"multipart_etag\": \"none\"}}", ""),
        ],
    );
}

#[test]
fn every_switch_of_gjirafa_vp_leads_to_the_same_end() {
    all_arrives(
        "gjirafa-vp",
        &[
            ("{\"storage_etag\": \"kms\"}", ""),
            ("{\"url_life\": 2}", ""),
            ("{\"gjirafa_vp\": {\"auth_header\": \"x-key\"}}", "auth_header = \"X-Key\""),
            ("{\"gjirafa_vp\": {\"auth_prefix\": \"Bearer \"}}", "auth_prefix = \"Bearer \""),
            ("{\"gjirafa_vp\": {\"strict_length\": true}}", ""),
            ("{\"url_life\": 60, \"gjirafa_vp\": {\"revoke_old_urls\": true}}", ""),
            ("{\"gjirafa_vp\": {\"shuffle\": true}}", ""),
            ("{\"gjirafa_vp\": {\"list_after_complete\": true}}", ""),
        ],
    );
}

#[test]
fn every_other_switch_of_gjirafa_vp_leads_to_the_same_end() {
    all_arrives(
        "gjirafa-vp",
        &[
            ("{\"url_life\": 60, \"gjirafa_vp\": {\"resume_urls_missing_only\": true}}", ""),
            ("{\"gjirafa_vp\": {\"resume_new_id\": true}}", ""),
            ("{\"gjirafa_vp\": {\"complete_twice\": 400}}", ""),
            ("{\"gjirafa_vp\": {\"complete_twice\": 404}}", ""),
            ("{\"gjirafa_vp\": {\"etag_form\": \"quoted\"}}", ""),
            ("{\"gjirafa_vp\": {\"etag_form\": \"bare\"}}", ""),
            ("{\"gjirafa_vp\": {\"check_length\": true}}", ""),
            ("{\"gjirafa_vp\": {\"abort_deletes\": true}}", ""),
            ("{\"gjirafa_vp\": {\"success_after_multipart\": false}}", ""),
            ("{\"gjirafa_vp\": {\"lose_part\": 2}}", ""),
        ],
    );
}

#[test]
fn an_s3_that_lists_no_uploads_is_left_with_one_that_was_begun_in_vain() {
    let mut stage =
        stage_at("s3", Options { switches: "{\"s3\": {\"lists_no_uploads\": true}}", ..calm() });
    stage.write("run/large", &noise(3 << 20, 3));
    lose_answers(&stage, 1);
    stage.start();
    stage.until_count("completed", 1);
    let ledger = stage.ledger();
    assert_eq!(ledger["open_uploads"].as_array().map(Vec::len), Some(1), "{ledger}");
    stage.tell("vanish", "{}");
    stage.assert_all_there();
}

#[test]
fn what_basespace_refuses_by_its_nature_parks_with_the_reason() {
    let row = ("{\"basespace\": {\"zero_byte_refused\": true}}", "");
    parks("basespace", row, &["run/empty 1"], ("A file must not be empty", 2));
}

#[test]
fn files_of_which_basespace_tells_another_digest_are_damaged_and_park() {
    let row = ("{\"storage_etag\": \"kms\"}", "");
    parks("basespace", row, &["run/small 1", "run/large 1"], ("is stored damaged", 2));
}

#[test]
fn what_gjirafa_vp_refuses_by_its_nature_parks_with_the_reason() {
    let refused = "the platform refused to put the parts together";
    let (empty, parts): (&[_], &[_]) = (&["run/empty 1"], &["run/large 1", "run/small 1"]);
    for (switches, paths, why) in [
        ("{\"gjirafa_vp\": {\"single_refused\": true}}", empty, "are not available"),
        ("{\"gjirafa_vp\": {\"list_cap\": 2}}", &parts[..1], refused),
        ("{\"gjirafa_vp\": {\"soft_fail\": true}}", parts, refused),
    ] {
        parks("gjirafa-vp", (switches, ""), paths, (why, 3 - paths.len()));
    }
}

#[test]
fn a_storage_behind_gjirafa_vp_that_gives_no_etag_is_never_taken_at_its_word() {
    let mut stage = stage_with("gjirafa-vp", ("{\"storage_etag\": \"none\"}", ""));
    stage.write("run/small", b"small");
    stage.start();
    until("it says why", || stage.log().contains("gave no ETag").then_some(()));
    assert_eq!(upload_of(&stage, "run/small")["accepted_part_count"], 0);
    assert_eq!(stage.files(), Vec::<serde_json::Value>::new());
}

#[test]
fn a_complete_of_which_gjirafa_vp_tells_nothing_parks_and_is_never_begun_anew() {
    let switches =
        "{\"gjirafa_vp\": {\"complete_twice\": 404, \"success_after_multipart\": false}}";
    let mut stage = stage_with("gjirafa-vp", (switches, ""));
    let rule = json!([{"operation": "complete", "when": "after", "action": "reset"}]);
    stage.tell("faults", &rule.to_string());
    stage.write("run/large", &noise(3 << 20, 4));
    stage.start();
    stage.until_count("parked", 1);
    let upload = upload_of(&stage, "run/large");
    let reason = upload["reason"]["text"].as_str().unwrap_or_default();
    assert!(reason.contains("look there before retrying"), "{reason}");
    assert_eq!(stage.files().len(), 1, "the file is there once");
    assert_eq!(stage.ledger()["begun_count"], 1);
}

//! Parts that a storage finds too small: a storage on this machine gets parts of the same least size as any other.

use serde_json::json;

use super::super::stage::{Options, Stage, noise};

fn stage(part_size_min: &'static str, sandbox_part_size_min: &'static str) -> Stage {
    Stage::new(Options {
        platforms: &["s3"],
        transfer: "parts_in_flight = 4\npart_size = \"1 MiB\"",
        part_size_min,
        sandbox_part_size_min,
        ..Options::default()
    })
}

#[test]
fn a_storage_on_this_machine_gets_parts_of_5_mib_like_any_other() {
    let mut stage = stage("5 MiB", "5242880");
    stage.write("run/large", &noise(11 << 20, 1));
    stage.start();
    stage.until_count("completed", 1);
    stage.assert_all_there();
    assert_eq!(stage.status()["uploads"][0]["part_size_bytes"], 5 << 20);
    assert_eq!(stage.ledger_of("s3")["begun_count"], 1, "at once");
}

#[test]
fn parts_that_were_too_small_are_sent_again_larger() {
    let mut stage = stage("1 MiB", "3000000");
    stage.write("run/large", &noise(9 << 20, 2));
    stage.start();
    stage.until_count("completed", 1);
    let status = stage.status();
    assert_eq!(status["uploads"][0]["part_size_bytes"], 4 << 20);
    assert_eq!(stage.files_of("s3")[0]["size"], 9 << 20);
    let ledger = stage.ledger_of("s3");
    assert_eq!(ledger["breaches"], json!(["complete: EntityTooSmall"]), "once");
    assert_eq!(ledger["begun_count"], 2);
    assert_eq!(ledger["open_uploads"], json!([]), "the first one was removed");
    assert!(status["bytes"]["sent_again"].as_u64() >= Some(9 << 20), "{}", status["bytes"]);
}

#[test]
fn a_storage_that_finds_any_parts_too_small_parks_the_upload() {
    let mut stage = stage("1 B", "1000000000000");
    stage.write("run/large", &noise(300 << 10, 3));
    let text = std::fs::read_to_string(stage.path("config.toml")).expect("read");
    let text = text.replace("part_size = \"1 MiB\"", "part_size = \"1 KiB\"");
    std::fs::write(stage.path("config.toml"), text).expect("written");
    stage.start();
    stage.until_count("parked", 1);
    let upload = stage.status()["uploads"][0].clone();
    let reason = upload["reason"]["text"].as_str().expect("a reason");
    assert!(reason.contains("EntityTooSmall"), "{reason}");
    assert_eq!(stage.ledger_of("s3")["begun_count"], 4, "and not without end");
}

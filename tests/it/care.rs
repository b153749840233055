//! The care for the database: copies that can be restored, kills and full disks while they are made,
//! checks, and the removal of what is no longer kept. The real binary, with intervals of a moment.

use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

use super::shares::start_apart;
use super::stage::{Options, Stage, noise, until, walk};

fn stage_with(state: &'static str) -> Stage {
    stage_at(Options::default().transfer, state)
}

fn stage_at(transfer: &'static str, state: &'static str) -> Stage {
    Stage::new(Options {
        transfer,
        state,
        destination: "when_name_taken = \"skip-if-same\"",
        switches: "{\"part_size\": 65536}",
        ..Options::default()
    })
}

/// Complete copies, by their names.
fn copies(stage: &Stage) -> Vec<PathBuf> {
    let mut copies = walk(&stage.path("state/backups"));
    copies.retain(|copy| copy.extension().is_some_and(|kind| kind == "db"));
    copies.sort();
    copies
}

fn database(stage: &Stage) -> Value {
    stage.status()["database"].clone()
}

fn show(stage: &Stage, id: &str) -> Value {
    let output = stage.output("show", &[id, "--json"]);
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn stop(stage: &mut Stage) {
    stage.signal(Signal::TERM);
    let status = stage.wait_for_end();
    assert!(status.success(), "{status}; the log:\n{}", stage.log());
}

fn is_sound(path: &Path) -> bool {
    let copy = Connection::open(path).expect("opened");
    let verdict: String =
        copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
    verdict == "ok"
}

/// Waits for a copy that begins after this call, and returns the newest.
fn until_copied(stage: &Stage) -> PathBuf {
    let last = |stage: &Stage| database(stage)["backup_at"].as_str().map(str::to_owned);
    // The one under way may have begun before.
    for _ in 0..2 {
        let before = last(stage);
        until(&format!("there is another copy; the log:\n{}", stage.log()), || {
            (last(stage) != before).then_some(())
        });
    }
    copies(stage).pop().expect("a copy")
}

/// Puts the copy that was set aside in the place of the database.
fn restore(stage: &Stage) {
    fs::copy(stage.path("yesterday.db"), stage.path("state/dropferry.db")).expect("restored");
    for beside in ["state/dropferry.db-wal", "state/dropferry.db-shm"] {
        fs::remove_file(stage.path(beside)).unwrap_or(());
    }
}

#[test]
fn a_restored_copy_sends_nothing_twice_and_loses_nothing() {
    let mut stage = stage_with("backup_interval = \"50ms\"\nbackups_kept = 3");
    stage.write("run/before", &noise(300_000, 1));
    stage.start();
    stage.until_count("completed", 1);
    let copy = until_copied(&stage);
    fs::copy(copy, stage.path("yesterday.db")).expect("copied");
    stage.write("run/after", &noise(300_000, 2));
    stage.write("other/after", &noise(200_000, 3));
    stage.until_count("completed", 3);
    stop(&mut stage);
    let received = stage.ledger()["bytes_received"].clone();
    assert_eq!(received, 800_000);
    restore(&stage);
    assert_eq!(stage.count("completed"), 1, "it is of yesterday");
    stage.write("run/today", &noise(100_000, 4));
    stage.start();
    stage.until_count("completed", 4);
    assert_eq!(stage.ledger()["bytes_received"], 900_000, "only what is of today was sent");
    let mut names: Vec<_> = stage.files().iter().map(|file| file["name"].to_string()).collect();
    names.sort();
    assert_eq!(names, ["\"after\"", "\"after\"", "\"before\"", "\"today\""]);
    let count = copies(&stage).len();
    assert!((1..=3).contains(&count), "{count} copies");
}

#[test]
fn an_upload_that_was_under_way_in_a_restored_copy_is_there_once() {
    let slow = "parts_in_flight = 2\nbandwidth = \"300 KiB/s\"";
    let mut stage = stage_at(slow, "backup_interval = \"50ms\"");
    stage.write("run/large", &noise(1 << 20, 1));
    stage.start();
    let accepted = |stage: &Stage| stage.status()["uploads"][0]["accepted_part_count"].as_u64();
    until("some parts are there", || accepted(&stage).filter(|count| *count >= 2));
    fs::copy(until_copied(&stage), stage.path("yesterday.db")).expect("copied");
    stage.until_count("completed", 1);
    stop(&mut stage);
    restore(&stage);
    assert_eq!(stage.count("sending"), 1, "it was under way");
    stage.start();
    stage.until_count("completed", 1);
    assert_eq!(stage.ledger()["bytes_received"], 1 << 20, "no part was sent twice");
    stage.assert_all_there();
}

#[test]
fn killed_while_it_copies_it_leaves_only_copies_that_are_whole() {
    let mut stage = stage_with("backup_interval = \"10ms\"\nbackups_kept = 2");
    stage.write("run/file", &noise(100_000, 1));
    stage.start();
    stage.until_count("completed", 1);
    stop(&mut stage);
    // Large enough that a copy takes a while.
    let padding = Connection::open(stage.path("state/dropferry.db")).expect("opened");
    padding
        .execute_batch(
            "CREATE TABLE padding (x BLOB); INSERT INTO padding VALUES (randomblob(30000000))",
        )
        .expect("filled");
    drop(padding);
    let partial = stage.path("state/backups/backup.partial");
    let mut torn_count = 0;
    for _ in 0..5 {
        stage.start();
        until("a copy is being made", || {
            fs::metadata(&partial).ok().filter(|found| found.len() > 1 << 20)
        });
        stage.kill();
        torn_count += u32::from(partial.exists());
        for copy in copies(&stage) {
            assert!(is_sound(&copy), "{}", copy.display());
        }
    }
    assert!(torn_count > 0, "no kill came in time");
    stage.start();
    assert!(is_sound(&until_copied(&stage)));
    stop(&mut stage);
    assert!(!partial.exists(), "a stop leaves nothing half made");
    assert_eq!(stage.count("completed"), 1);
}

#[test]
fn a_full_disk_costs_a_copy_and_nothing_else() {
    let mut stage = stage_with("backup_interval = \"100ms\"");
    let place = stage.path("state/backups");
    let prepare = format!(
        "mkdir -p {place}\nmount -t tmpfs -o size=1m tmpfs {place}",
        place = place.display()
    );
    if !start_apart(&mut stage, "-rm", &prepare) {
        return;
    }
    let failure = until("the failure is shown", || {
        let database = database(&stage);
        assert_eq!(database["backup_at"], Value::Null);
        database["backup_failure"].as_str().map(str::to_owned)
    });
    assert!(failure.contains("are free"), "{failure}");
    stage.write("run/file", &noise(300_000, 1));
    stage.until_count("completed", 1);
    let told = String::from_utf8_lossy(&stage.output("status", &[]).stdout).into_owned();
    assert!(told.contains("the database was not backed up: cannot copy the database to"), "{told}");
    let log = stage.log();
    let warned = log.matches("WARN the database is not backed up").count();
    assert!((1..=6).contains(&warned), "{log}");
    stop(&mut stage);
    stage.assert_all_there();
}

#[test]
fn parts_of_what_ended_long_ago_go_and_show_says_so() {
    let mut stage = stage_with("keep_parts = \"3s\"\ncheck_interval = \"100ms\"");
    stage.tell(
        "faults",
        "[{\"operation\": \"put\", \"nth\": 2, \"action\": {\"answer\": {\"status\": 503}}}]",
    );
    stage.write("run/large", &noise(300_000, 1));
    stage.start();
    stage.until_count("completed", 1);
    stage.write("run/small", b"small");
    stage.until_count("completed", 2);
    let sums =
        |stage: &Stage| stage.output("receipts", &["run/small", "--format", "md5sum"]).stdout;
    let before = sums(&stage);
    assert!(before.ends_with(b"  run/small\n"));
    for id in ["1", "2"] {
        until("it is pruned", || show(&stage, id)["pruned_at"].as_str().map(str::to_owned));
        let shown = show(&stage, id);
        assert_eq!(
            (&shown["parts"], &shown["attempts"]),
            (&Value::from([0; 0]), &Value::from([0; 0]))
        );
        assert_eq!(shown["state"], "completed");
    }
    let shown = show(&stage, "1");
    assert_eq!(shown["accepted_part_count"], 5);
    let ledger = fs::read_to_string(shown["receipt"].as_str().expect("a path")).expect("read");
    let line = usize::try_from(shown["receipt_line"].as_u64().expect("a number")).expect("small");
    let receipt: Value =
        serde_json::from_str(ledger.lines().nth(line - 1).expect("it is there")).expect("JSON");
    assert_eq!(receipt["parts"].as_array().map(Vec::len), Some(5));
    assert_eq!(receipt["attempt_count"], 1, "there was one to remove");
    let told = String::from_utf8_lossy(&stage.output("show", &["1"]).stdout).into_owned();
    assert!(told.contains("; the parts stand in the receipt"), "{told}");
    assert_eq!(sums(&stage), before, "the digest of a file in one part stays");
    until("it is checked", || database(&stage)["checked_at"].as_str().map(str::to_owned));
    assert_eq!(database(&stage)["is_sound"], true);
    let sizes = ["size_bytes", "wal_bytes"].map(|key| database(&stage)[key].as_u64());
    assert!(sizes.iter().all(|size| *size > Some(0)), "{sizes:?}");
    stage.assert_all_there();
}

#[test]
fn another_interval_is_taken_while_it_runs() {
    let mut stage = stage_with("backup_interval = \"never\"");
    stage.write("run/file", b"x");
    stage.start();
    stage.until_count("completed", 1);
    assert_eq!(database(&stage)["backup_at"], Value::Null);
    let text = fs::read_to_string(stage.path("config.toml")).expect("read");
    fs::write(stage.path("config.toml"), text.replace("\"never\"", "\"50ms\"")).expect("written");
    stage.signal(Signal::HUP);
    assert!(is_sound(&until_copied(&stage)));
}

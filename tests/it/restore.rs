//! `restore`: the database rebuilt from a copy, or from the receipts. The real binary, at every platform.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use rusqlite::Connection;

use super::stage::{Options, Stage, noise, until};

const ALL: [&str; 4] = ["sevenbridges", "basespace", "gjirafa-vp", "s3"];
const DATABASE: [&str; 3] = ["dropferry.db", "dropferry.db-wal", "dropferry.db-shm"];

fn stage() -> Stage {
    Stage::new(Options {
        platforms: &ALL,
        transfer: "parts_in_flight = 4\npart_size = \"256 KiB\"",
        switches: "{\"part_size\": 262144}",
        ..Options::default()
    })
}

fn stop(stage: &mut Stage) {
    stage.signal(rustix::process::Signal::TERM);
    assert!(stage.wait_for_end().success());
}

fn lose_database(stage: &Stage) {
    DATABASE.iter().for_each(|name| fs::remove_file(stage.path("state").join(name)).unwrap_or(()));
}

/// Runs a command that must end with this code, and returns its output.
fn said(stage: &Stage, command: &str, arguments: &[&str], code: i32) -> String {
    let output = stage.output(command, arguments);
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command}: {text}");
    text
}

/// Bytes that each platform has received.
fn received(stage: &Stage) -> BTreeMap<&'static str, u64> {
    let bytes = |to: &&'static str| {
        (*to, stage.ledger_of(to)["bytes_received"].as_u64().expect("a number"))
    };
    ALL.iter().map(bytes).collect()
}

/// Waits for two more complete scans: unknown files have settled by then.
fn until_scanned(stage: &Stage) {
    for _ in 0..2 {
        let at = || stage.status()["drops"][0]["last_full_scan_at"].clone();
        let before = at();
        until("a scan ends", || (at() != before).then_some(()));
    }
}

fn write_some(stage: &Stage) {
    stage.write("run-1/large.bin", &noise(700 << 10, 1));
    stage.write("run-1/small ~1%.txt", &noise(700, 2));
    stage.write("run-2/empty", b"");
    let odd = stage.drop().join(std::ffi::OsStr::from_bytes(b"run-2/odd\xff\n"));
    fs::create_dir_all(odd.parent().expect("below the drop directory")).expect("made");
    fs::write(odd, noise(9_000, 3)).expect("written");
}

/// The ids of the uploads in the lines of ledgers, each as often as it occurs.
fn ids(stage: &Stage) -> Vec<i64> {
    let lines = stage.lines_of("upload").into_iter().chain(stage.lines_of("found-again"));
    let mut ids: Vec<_> = lines.map(|line| line["id"].as_i64().expect("it has one")).collect();
    ids.sort_unstable();
    ids
}

/// Starts the daemon and proves that it sends nothing a second time, and that new files get new ids.
fn go_on(stage: &mut Stage, completed: u64) {
    let (bytes, known) = (received(stage), ids(stage));
    stage.start();
    until_scanned(stage);
    assert_eq!(stage.count("completed"), completed);
    assert_eq!(received(stage), bytes, "nothing is sent twice");
    stage.write("run-3/new", &noise(5_000, 9));
    stage.until_count("completed", completed + 4);
    let after = ids(stage);
    let (old, new): (Vec<_>, Vec<_>) = after.iter().partition(|id| known.contains(id));
    assert_eq!(old, known, "no line was added or removed");
    assert!(new.len() == 4 && new.iter().all(|id| known.iter().all(|known| known < id)), "{new:?}");
    stop(stage);
    said(stage, "receipts", &["--check"], 0);
    said(stage, "verify", &["to-s3"], 0);
}

#[test]
fn a_lost_database_is_rebuilt_from_receipts_and_nothing_is_sent_twice() {
    let mut stage = stage();
    write_some(&stage);
    stage.start();
    stage.until_count("completed", 16);
    stop(&mut stage);
    let receipts = stage.lines();
    lose_database(&stage);
    let text = said(&stage, "run", &[], 4);
    assert!(text.contains("restore --backup") && text.contains("restore --receipts"), "{text}");
    let text = said(&stage, "restore", &["--receipts"], 0);
    assert!(text.contains("16 uploads"), "{text}");
    assert_eq!(stage.lines(), receipts, "no ledger was touched");
    assert_eq!(stage.count("completed"), 16);
    go_on(&mut stage, 16);
    // A database that is there and sound is not rebuilt.
    let text = said(&stage, "restore", &["--receipts"], 4);
    assert!(text.contains("it is sound, and knows of 20 uploads"), "{text}");
}

#[test]
fn an_older_copy_is_brought_up_to_what_the_receipts_say() {
    let mut stage = stage();
    write_some(&stage);
    stage.start();
    stage.until_count("completed", 16);
    let completions = |stage: &Stage| {
        let runs = stage.status()["runs"].clone();
        let run = runs.as_array().expect("a list").iter().find(|run| run["name"] == "run-1");
        run.and_then(|run| run["wave_count"].as_u64())
    };
    until("a run is completed", || (completions(&stage) == Some(1)).then_some(()));
    // The copy contains uploads under way that have been completed since.
    stage.write("run-4/slow.bin", &noise(6 << 20, 4));
    until("it is sent", || (stage.count("completed") < 20).then_some(()));
    stage.kill();
    let copy = stage.path("copy.db");
    Connection::open(stage.path("state/dropferry.db"))
        .and_then(|state| state.execute("VACUUM INTO ?1", [copy.to_str().expect("plain")]))
        .expect("copied");
    stage.start();
    stage.until_count("completed", 20);
    stage.write("run-5/later", &noise(10, 5));
    stage.write("run-1/late", &noise(10, 7));
    stage.until_count("completed", 28);
    until("late files completed it again", || (completions(&stage) == Some(2)).then_some(()));
    let text = said(&stage, "restore", &["--backup", copy.to_str().expect("plain")], 4);
    assert!(text.contains("another daemon runs"), "{text}");
    stop(&mut stage);
    let damaged = stage.path("state/dropferry.db");
    fs::write(&damaged, noise(8_192, 6)).expect("damaged");
    let text = said(&stage, "run", &[], 4);
    assert!(text.contains("restore --backup"), "{text}");
    let text = said(&stage, "restore", &["--backup", copy.to_str().expect("plain")], 0);
    assert!(text.contains("what was there is kept in"), "{text}");
    assert!(copy.exists(), "the copy stays");
    assert_eq!(completions(&stage), Some(2), "the copy knew of one");
    go_on(&mut stage, 28);
    let completed = stage.lines_of("run-completed");
    let waves = completed.iter().filter(|line| line["run"] == "run-1").map(|line| &line["wave"]);
    assert_eq!(waves.collect::<Vec<_>>(), [1, 2], "each once");
}

#[test]
fn a_ledger_that_does_not_hold_gives_back_what_holds_and_is_said() {
    let mut stage = Stage::new(Options { platforms: &["s3"], ..Options::default() });
    for number in 0..4 {
        stage.write(&format!("run/{number}"), &noise(100, number));
    }
    stage.write("other/whole", b"whole");
    stage.start();
    stage.until_count("completed", 5);
    stop(&mut stage);
    lose_database(&stage);
    let ledger = stage.path("state/receipts/lab/run.jsonl");
    let text = fs::read_to_string(&ledger).expect("read");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    let third = lines[2].replace("\"size\":100", "\"size\":101");
    fs::write(&ledger, format!("{}\n{}\n{third}\n{}\n", lines[0], lines[1], lines[3]))
        .expect("written");
    let text = said(&stage, "restore", &["--receipts"], 1);
    assert!(text.contains("3 uploads") && text.contains("line 3: its sha256"), "{text}");
    stage.start();
    stage.until_count("completed", 5);
}

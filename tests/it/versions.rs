//! A file that is corrected after it was sent, at every platform and for every value of
//! `when_changed`, and one that is not yet completely written: the real binary.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use rustix::fs::FallocateFlags;
use serde_json::{Value, json};

use super::others::md5_of;
use super::stage::{Options, Stage, noise, until};

const PLATFORMS: [&str; 4] = ["sevenbridges", "s3", "basespace", "gjirafa-vp"];
const FIRST: &[u8] = b"sample,project\n";
const CORRECTED: &[u8] = b"sample,project\nS1,lab\n";

/// A stage whose sheet was sent to every platform, and then corrected.
fn corrected(destination: &'static str) -> Stage {
    let platforms = &PLATFORMS;
    let mut stage = Stage::new(Options { platforms, destination, ..Options::default() });
    stage.write("sheet.csv", FIRST);
    stage.start();
    stage.until_count("completed", 4);
    stage.write("sheet.csv", CORRECTED);
    stage
}

/// Names and sizes of the files at a platform.
fn there(stage: &Stage, platform: &str) -> Vec<(String, u64)> {
    let size = |file: &Value| file["size"].as_u64().expect("a size");
    let name = |file: &Value| {
        let name = file["name"].as_str().expect("a name");
        name.rsplit('/').next().unwrap_or(name).to_owned()
    };
    let files = stage.files_of(platform);
    let mut files: Vec<_> = files.iter().map(|file| (name(file), size(file))).collect();
    files.sort();
    files
}

fn files(of: &[(&str, &[u8])]) -> Vec<(String, u64)> {
    of.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.len() as u64)).collect()
}

/// The lines of the newer versions that name what they replaced, by destination.
fn superseding(stage: &Stage) -> Vec<String> {
    let lines = stage.receipts();
    let newer = lines.iter().filter(|line| {
        let replaced = lines.iter().find(|one| one["id"] == line["supersedes"]);
        replaced.is_some_and(|one| one["destination"]["name"] == line["destination"]["name"])
    });
    let name = |line: &Value| line["destination"]["name"].as_str().unwrap_or_default().to_owned();
    let mut names: Vec<_> = newer.map(name).collect();
    names.sort();
    names
}

#[test]
fn a_corrected_file_takes_the_place_of_the_first_where_files_can_be_replaced() {
    for destination in ["when_changed = \"replace\"", ""] {
        let stage = corrected(destination);
        stage.until_count("completed", 8);
        for platform in ["sevenbridges", "s3"] {
            assert_eq!(there(&stage, platform), files(&[("sheet.csv", CORRECTED)]), "{platform}");
        }
        let both = files(&[("sheet.csv", FIRST), ("sheet.v2.csv", CORRECTED)]);
        assert_eq!(there(&stage, "basespace"), both);
        let twice = files(&[("sheet.csv", FIRST), ("sheet.csv", CORRECTED)]);
        assert_eq!(there(&stage, "gjirafa-vp"), twice);
        assert_eq!(superseding(&stage), ["to-s3", "to-sevenbridges"]);
    }
}

#[test]
fn a_corrected_file_is_kept_beside_the_first_where_that_is_ordered() {
    let stage = corrected("when_changed = \"keep-both\"");
    stage.until_count("completed", 8);
    for platform in ["sevenbridges", "s3", "basespace"] {
        let both = files(&[("sheet.csv", FIRST), ("sheet.v2.csv", CORRECTED)]);
        assert_eq!(there(&stage, platform), both, "{platform}");
    }
    assert_eq!(superseding(&stage), Vec::<String>::new());
}

#[test]
fn a_corrected_file_waits_where_that_is_ordered_and_the_place_has_a_name() {
    let stage = corrected("when_changed = \"park\"");
    stage.until_count("parked", 3);
    stage.until_count("completed", 5);
    for platform in ["sevenbridges", "s3", "basespace"] {
        assert_eq!(there(&stage, platform), files(&[("sheet.csv", FIRST)]), "{platform}");
    }
}

/// A decision is only about names: an upload that is parked for another reason stays as it is.
#[test]
fn an_operator_decides_what_becomes_of_a_name_that_is_taken() {
    let replaced = files(&[("sheet.csv", CORRECTED)]);
    let both = files(&[("sheet.csv", FIRST), ("sheet.v2.csv", CORRECTED)]);
    for (option, expected) in [("--overwrite", replaced), ("--keep-both", both)] {
        let mut stage = corrected("when_changed = \"park\"");
        stage.until_count("parked", 3);
        let retry = |stage: &Stage| {
            let output = stage.output("retry", &["--all", option]);
            assert!(output.status.success(), "{output:?}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        assert!(retry(&stage).contains("3 uploads"), "{option}");
        // The decision is in the rows before it is answered.
        stage.kill();
        stage.start();
        stage.until_count("completed", 8);
        for platform in ["sevenbridges", "s3"] {
            assert_eq!(there(&stage, platform), expected, "{option} at {platform}");
        }
        assert!(retry(&stage).contains("nothing is parked because its name is taken"), "{option}");
    }
}

/// Killed again and again, with answers lost at the calls by which a new version takes over a name.
#[test]
fn kills_and_lost_answers_while_files_change_places_leave_the_corrected_one_alone() {
    let mut stage = Stage::new(Options::default());
    stage.write("sheet.csv", FIRST);
    stage.start();
    stage.until_count("completed", 1);
    let id = |stage: &Stage| stage.files()[0]["id"].clone();
    for (round, operation) in (2..).zip(["edit", "delete", "find", "complete"]) {
        let (before, content) = (id(&stage), vec![b'x'; usize::try_from(round).expect("small")]);
        let calls = || stage.ledger()["calls"][operation].as_u64();
        let earlier = calls();
        let rule =
            json!([{"operation": operation, "when": "after", "action": "reset", "times": 0}]);
        stage.tell("faults", &rule.to_string());
        stage.write("sheet.csv", &content);
        until("the call is made", || (calls() > earlier).then_some(()));
        stage.kill();
        stage.tell("faults", "[]");
        stage.start();
        stage.until_count("completed", round);
        assert_eq!(there(&stage, "sevenbridges"), files(&[("sheet.csv", &content)]), "{operation}");
        assert_ne!(id(&stage), before, "{operation}");
    }
    assert_eq!(stage.ledger()["breaches"], json!([]));
}

/// Gives a file its length before its content: with blocks of its own, or as one hole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Allocated {
    AsWritten,
    Blocks,
    Hole,
}

/// What was written before the daemon watched is open all the same. A length that is final from the first look on
/// says nothing.
#[test]
fn a_file_that_a_program_holds_open_on_a_local_disk_is_sent_once_it_is_closed() {
    use Allocated::{AsWritten, Blocks, Hole};
    for (is_watched, allocated) in [
        (true, AsWritten),
        (false, AsWritten),
        (true, Blocks),
        (false, Blocks),
        (true, Hole),
        (false, Hole),
    ] {
        let mut stage = Stage::new(Options::default());
        if is_watched {
            stage.start();
            let is_watched = |stage: &Stage| stage.status()["drops"][0]["watch"] == "events";
            until("it is watched", || is_watched(&stage).then_some(()));
        }
        let mut file = File::create(stage.drop().join("series.czi")).expect("made");
        let length = "first half, second half".len() as u64;
        match allocated {
            AsWritten => {}
            Blocks => {
                rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, length).expect("done")
            }
            Hole => file.set_len(length).expect("done"),
        }
        file.write_all(b"first half, ").expect("written");
        if !is_watched {
            stage.start();
        }
        assert_sent_once_closed(&stage, file);
    }
}

fn assert_sent_once_closed(stage: &Stage, mut file: File) {
    let reason = until("it is named", || {
        let status = stage.status();
        let reason = status["drops"][0]["reason"]["text"].as_str()?.to_owned();
        reason.contains("series.czi open to write").then_some(reason)
    });
    assert!(reason.contains("closed"), "{reason}");
    assert_eq!((stage.count("completed"), stage.count("settling")), (0, 1));
    file.write_all(b"second half").expect("written");
    drop(file);
    stage.until_count("completed", 1);
    assert_eq!(there(stage, "sevenbridges"), files(&[("series.czi", b"first half, second half")]));
    assert!(stage.status()["drops"][0]["reason"].is_null());
}

/// The writer is on another machine, so that nothing reveals it, and pauses for longer than the quiet period.
#[test]
fn a_file_that_grows_slowly_is_there_in_its_last_version_and_waits_longer_each_time() {
    let platforms = &PLATFORMS;
    let mut stage = Stage::new(Options { platforms, ..Options::default() });
    stage.start();
    let mut content = Vec::new();
    for round in 1..=3 {
        content.extend([round; 9]);
        stage.write("series.nd2", &content);
        stage.until_count("completed", 4 * u64::from(round));
    }
    let reason = until("it is named", || {
        let status = stage.status();
        let reason = status["drops"][0]["reason"]["text"].as_str()?.to_owned();
        reason.contains("series.nd2 changed 2 times").then_some(reason)
    });
    assert!(reason.contains("raise quiet_period"), "{reason}");
    for platform in ["sevenbridges", "s3"] {
        assert_eq!(there(&stage, platform), files(&[("series.nd2", &content)]), "{platform}");
    }
    for platform in ["basespace", "gjirafa-vp"] {
        let there = there(&stage, platform);
        let newest = there.iter().filter(|(_, size)| *size == content.len() as u64).count();
        assert_eq!((there.len(), newest), (3, 1), "{platform} keeps all: {there:?}");
    }
    assert_eq!(stage.count("parked"), 0);
}

/// It was read before it was overwritten, with the same length and time: what was sent is no longer a version of it.
/// A file of up to a MiB is sent from memory, a larger one is read again as it is sent.
#[test]
fn a_file_that_is_overwritten_while_it_is_sent_in_one_request_counts_once_with_what_is_there() {
    for platform in PLATFORMS {
        for size in [900_000, 3_000_000] {
            overwrite_while_sent(platform, size);
        }
    }
}

fn overwrite_while_sent(platform: &'static str, size: usize) {
    let mut stage = Stage::new(Options {
        platforms: Box::leak(Box::new([platform])),
        transfer: if size < 1_000_000 {
            "parts_in_flight = 4\nbandwidth = \"300 kB/s\""
        } else {
            "parts_in_flight = 4\nbandwidth = \"1 MB/s\""
        },
        ..Options::default()
    });
    stage.write("sheet.bin", &noise(size, 1));
    stage.start();
    until("it is being sent", || {
        let upload = stage.status()["uploads"][0].clone();
        (upload["in_flight_bytes"].as_u64()? > 0).then_some(())
    });
    let place = stage.drop().join("sheet.bin");
    let time = place.metadata().and_then(|seen| seen.modified()).expect("a time");
    std::fs::write(&place, noise(size, 2)).expect("written");
    let file = File::options().write(true).open(&place).expect("opened");
    file.set_modified(time).expect("set");
    drop(file);
    stage.until_count("completed", 1);
    if platform != "basespace" {
        return stage.assert_all_there();
    }
    // There a file is made by one request, and none is replaced.
    let receipts = stage.receipts();
    let names: Vec<_> = there(&stage, platform).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["sheet.bin", "sheet.v2.bin"], "{size}");
    assert_eq!((receipts.len(), &receipts[0]["remote_name"]), (1, &json!("sheet.v2.bin")));
    assert_eq!(receipts[0]["parts"][0]["md5"], md5_of(&place), "{size}");
}

/// Backups link and touch files while they are sent; two destinations each read them separately.
#[test]
fn fifteen_touches_while_a_file_is_sent_cost_one_more_read_for_each_destination() {
    const SIZE: usize = 8_000_000;
    let mut stage = Stage::new(Options {
        platforms: &["s3", "sevenbridges"],
        transfer: "parts_in_flight = 4\nbandwidth = \"1 MB/s\"",
        switches: "{\"part_size\": 262144}",
        ..Options::default()
    });
    stage.write("run/large", &noise(SIZE, 1));
    stage.start();
    let place = stage.drop().join("run/large");
    let accepted = |stage: &Stage| stage.status()["bytes"]["accepted"].as_u64().unwrap_or(0);
    let mut before = 0;
    for touch in 0..15 {
        before = until("more of it is there", || {
            Some(accepted(&stage)).filter(|accepted| *accepted > before)
        });
        std::fs::hard_link(&place, stage.path(&format!("link{touch}"))).expect("linked");
        let file = File::options().write(true).open(&place).expect("opened");
        let time = std::time::UNIX_EPOCH + Duration::from_secs(1_790_000_000 + touch);
        file.set_modified(time).expect("set");
    }
    assert!(before < 2 * SIZE as u64, "it was touched while it was sent");
    stage.until_count("completed", 2);
    stage.assert_all_there();
    for platform in ["s3", "sevenbridges"] {
        assert_eq!(stage.ledger_of(platform)["begun_count"], 1, "{platform}");
    }
    let io = std::fs::read_to_string(format!("/proc/{}/io", stage.pid())).expect("read");
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("a count");
    // Digested, sent and proved, twice each; the database and the log read little.
    let times = read.parse::<usize>().expect("a number") / SIZE;
    assert!(times < 9, "its bytes were read {times} times");
}

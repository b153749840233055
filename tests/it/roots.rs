//! The path of a drop directory, and what is in it, is replaced by links to elsewhere, before,
//! during and after the daemon reads it: nothing from outside is uploaded or removed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use super::skipped::skipped;
use super::stage::{Options, Stage, until, walk};
use super::witness::{objects, until_still};

const SECRET: &[u8] = b"nobody may see this outside of its directory";
const QUICK: &str = "quiet_period = \"50ms\"\nscan_interval = \"300ms\"";
const DELETING: &str = "unit = \"file\"\nquiet_period = \"50ms\"\nscan_interval = \"300ms\"\n\
    disposition = \"delete\"\ndisposition_grace = \"100ms\"";

/// A stage with a directory beside the drop directory that holds something secret.
fn stage_with(drop: &'static str) -> (Stage, PathBuf) {
    let stage = Stage::new(Options { drop, ..Options::default() });
    let outside = stage.path("outside");
    fs::create_dir(&outside).expect("made");
    for n in 0..10 {
        fs::write(outside.join(n.to_string()), SECRET).expect("written");
    }
    (stage, outside)
}

/// Neither a whole object nor a part of one contains the secret.
fn assert_kept(stage: &Stage) {
    let is_secret = |place: &PathBuf| {
        let bytes = fs::read(place).unwrap_or_default();
        bytes.windows(SECRET.len()).any(|window| window == SECRET)
    };
    let found: Vec<_> = walk(&stage.path("sandbox")).into_iter().filter(is_secret).collect();
    assert!(found.is_empty(), "{found:?}; the log:\n{}", stage.log());
}

fn reason(stage: &Stage) -> Option<String> {
    let drop = &stage.status()["drops"][0];
    let reason = drop["reason"]["text"].as_str().unwrap_or_default().to_owned();
    (drop["watch"] == "deaf").then_some(reason)
}

fn until_refused(stage: &Stage) {
    let is_it = |why: &String| why.contains("another directory is at");
    let said = until("another directory is refused", || reason(stage).filter(is_it));
    assert!(said.contains("dropferry resume lab --accept-root"), "{said}");
}

fn until_heard(stage: &Stage) {
    until("it is heard of again", || reason(stage).is_none().then_some(()));
}

fn swap_for_link(stage: &Stage, outside: &Path) {
    fs::rename(stage.drop(), stage.path("real")).expect("renamed");
    symlink(outside, stage.drop()).expect("linked");
}

fn swap_back(stage: &Stage) {
    fs::remove_file(stage.drop()).expect("removed");
    fs::rename(stage.path("real"), stage.drop()).expect("renamed");
}

fn stop(stage: &mut Stage) {
    stage.signal(Signal::TERM);
    assert!(stage.wait_for_end().success());
}

#[test]
fn a_link_in_the_place_of_the_drop_directory_is_refused_whatever_the_disposition() {
    for drop in [QUICK, DELETING] {
        let (mut stage, outside) = stage_with(drop);
        stage.write("first", b"one");
        stage.start();
        stage.until_count("completed", 1);
        swap_for_link(&stage, &outside);
        until_refused(&stage);
        let scanned_at = |stage: &Stage| stage.status()["drops"][0]["last_full_scan_at"].clone();
        let before = scanned_at(&stage);
        // Across a stop as well: the identity of the directory is in the database.
        stop(&mut stage);
        stage.start();
        until_refused(&stage);
        assert_eq!(scanned_at(&stage), before, "nothing was scanned");
        assert_eq!(walk(&outside).len(), 10, "nothing was removed");
        swap_back(&stage);
        until_heard(&stage);
        stage.write("second", b"two");
        stage.until_count("completed", 2);
        assert_kept(&stage);
    }
}

#[test]
fn a_link_that_came_while_the_daemon_was_stopped_is_refused_until_it_is_accepted() {
    let (mut stage, outside) = stage_with(QUICK);
    stage.write("first", b"one");
    stage.start();
    stage.until_count("completed", 1);
    let receipts = stage.receipts();
    let root = receipts[0]["root"].as_str().expect("a root");
    assert!(root.contains(&format!("{} ", stage.drop().file_name().expect("a name").display())));
    stop(&mut stage);
    swap_for_link(&stage, &outside);
    stage.start();
    until_refused(&stage);
    assert_kept(&stage);
    let accept = || stage.output("resume", &["lab", "--accept-root"]);
    assert!(accept().status.success());
    stage.until_count("completed", 11);
    until_heard(&stage);
    let output = accept();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && said.contains("no other directory"), "{said}");
}

#[test]
fn a_link_in_the_configured_path_that_was_there_at_the_start_is_followed() {
    let (mut stage, outside) = stage_with(QUICK);
    fs::rename(stage.drop(), stage.path("data")).expect("renamed");
    symlink("data", stage.drop()).expect("linked");
    stage.start();
    stage.write("first", b"one");
    stage.until_count("completed", 1);
    fs::remove_file(stage.drop()).expect("removed");
    symlink(&outside, stage.drop()).expect("linked");
    until_refused(&stage);
    assert_kept(&stage);
}

#[test]
fn an_empty_drop_directory_is_no_invitation_for_a_link() {
    let (mut stage, outside) = stage_with(QUICK);
    stage.start();
    until("it was scanned", || stage.status()["drops"][0]["last_full_scan_at"].as_str().map(drop));
    swap_for_link(&stage, &outside);
    until_refused(&stage);
    swap_back(&stage);
    until_heard(&stage);
    assert_kept(&stage);
}

#[test]
fn a_hard_link_to_a_file_of_somebody_else_is_ignored_with_a_reason() {
    if !rustix::process::geteuid().is_root() {
        skipped("only root makes files of others");
        return;
    }
    let (mut stage, outside) = stage_with(QUICK);
    let others = outside.join("0");
    std::os::unix::fs::chown(&others, Some(65534), None).expect("given away");
    fs::hard_link(&others, stage.drop().join("stolen")).expect("linked");
    stage.write("kept", b"one");
    // As a backup does.
    fs::hard_link(stage.drop().join("kept"), stage.path("backup")).expect("linked");
    stage.start();
    stage.until_count("completed", 1);
    stage.until_count("ignored", 1);
    until_still(&stage);
    assert_eq!(objects(&stage).len(), 1);
    assert_kept(&stage);
    let plan = stage.output("plan", &["--json"]);
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(plan.contains("hard link to a file of another owner"), "{plan}");
}

/// Swaps, and repeats its own work, until the test stops it; after an error it tries again.
fn race(stop: &AtomicBool, mut swap: impl FnMut(u32) -> std::io::Result<()>) -> u32 {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        swap(count).unwrap_or(());
        count += 1;
    }
    count
}

#[test]
fn races_of_links_against_looks_scans_and_reads_lead_nowhere() {
    const ROUNDS: u64 = 150;
    let (mut stage, outside) = stage_with(DELETING);
    stage.write("first", b"one");
    stage.start();
    stage.until_count("completed", 1);
    let (stop, drop, aside) = (AtomicBool::new(false), stage.drop(), stage.path("aside"));
    fs::create_dir(&aside).expect("made");
    std::thread::scope(|threads| {
        threads.spawn(|| {
            race(&stop, |n| {
                let beside = aside.join(format!("file{n}"));
                match n % 2 {
                    0 => fs::write(&beside, b"plain")?,
                    _ => symlink(outside.join("1"), &beside)?,
                }
                std::thread::sleep(Duration::from_millis(2));
                fs::rename(beside, drop.join(format!("file{}", n % 7)))
            })
        });
        threads.spawn(|| {
            race(&stop, |n| {
                let (place, old) = (drop.join("run"), aside.join(format!("old{n}")));
                fs::rename(&place, old).unwrap_or(());
                if n % 2 == 0 {
                    let made = aside.join(format!("new{n}"));
                    fs::create_dir(&made)?;
                    for n in 0..10 {
                        fs::write(made.join(n.to_string()), b"plain")?;
                    }
                    fs::rename(made, &place)?;
                } else {
                    symlink(&outside, &place)?;
                }
                std::thread::sleep(Duration::from_millis(30));
                Ok(())
            })
        });
        for n in 0..ROUNDS {
            fs::rename(&drop, stage.path("real")).expect("renamed");
            symlink(&outside, &drop).expect("linked");
            std::thread::sleep(Duration::from_millis(n % 20));
            fs::remove_file(&drop).expect("removed");
            fs::rename(stage.path("real"), &drop).expect("renamed");
            std::thread::sleep(Duration::from_millis(n * 7 % 40));
        }
        stop.store(true, Ordering::Relaxed);
    });
    for n in 0..10 {
        let bytes = fs::read(outside.join(n.to_string())).expect("it is still there");
        assert_eq!(bytes, SECRET, "it was not written to");
    }
    until_heard(&stage);
    stage.write("last", b"after all");
    until("what came after arrives", || {
        objects(&stage).iter().any(|(_, bytes)| bytes == b"after all").then_some(())
    });
    assert!(stage.is_running());
    assert_kept(&stage);
}

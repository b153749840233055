//! Files on a share whose reads fail or hang, beside files that can be read: the real binary.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use dropferry::testing::clock::Clock;
use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::Value;

use super::fuse::{Fuse, Mood, Sick};
use super::shares::start_apart;
use super::skipped::{skipped, skipped_by_machine};
use super::stage::{Options, Stage, noise, until};

const QUICK: &str = "quiet_period = \"50ms\"\nscan_interval = \"500ms\"";
/// As in docs/operating.md.
const DRAIN_LIMIT: Duration = Duration::from_secs(60);
/// Three parts.
const LENGTH: usize = 3 << 16;

/// A running stage whose drop directory contains a share with two files.
fn stage_with_share(platform: &'static [&'static str]) -> Option<(Stage, Fuse)> {
    // Another directory, without a share.
    let settings = format!(
        "{QUICK}\n[drops.disk]\ndirectory = \"disk\"\ndestinations = [\"to-{}\"]\n{QUICK}",
        platform[0]
    );
    let mut stage = Stage::new(Options {
        platforms: platform,
        transfer: "parts_in_flight = 8",
        switches: "{\"part_size\": 65536}",
        drop: Box::leak(settings.into_boxed_str()),
        ..Options::default()
    });
    fs::create_dir(stage.path("disk")).expect("made");
    fs::create_dir(stage.drop().join("share")).expect("made");
    if !rustix::process::geteuid().is_root() {
        skipped("only root mounts a share into a running daemon's namespace");
        return None;
    }
    if !start_apart(&mut stage, "-m", "true") {
        return None;
    }
    until("it runs", || stage.status()["drops"][1]["last_full_scan_at"].as_str().map(drop));
    let file = |name: &str, seed| (name.to_owned(), noise(LENGTH, seed));
    let files = BTreeMap::from([file("sick", 1), file("well", 2)]);
    // Sick before anything can have been read from it.
    match Fuse::mount(stage.pid(), &stage.drop().join("share"), BTreeMap::new()) {
        Ok(fuse) => Some((stage, with_files(fuse, files))),
        Err(why) => {
            skipped_by_machine(&format!("no FUSE here: {why}"));
            None
        }
    }
}

fn with_files(fuse: Fuse, files: BTreeMap<String, Vec<u8>>) -> Fuse {
    fuse.sicken("sick", 1 << 16, Sick::Hanging);
    files.iter().for_each(|(name, bytes)| fuse.write(name, bytes));
    fuse
}

fn sick(stage: &Stage) -> Option<Value> {
    let status = stage.status();
    let uploads = status["uploads"].as_array()?;
    uploads.iter().find(|upload| upload["path"] == "share/sick").cloned()
}

/// Files beside the one that hangs, on the share and on the disk, arrive.
fn assert_others_arrive(stage: &Stage) {
    for n in 0..20 {
        stage.write(&format!("run/{n}"), &noise(1_000, n));
    }
    stage.write("run/large", &noise(10 << 16, 77));
    stage.until_count("completed", 22);
}

#[test]
fn a_read_that_hangs_holds_up_neither_other_files_nor_the_end_of_the_daemon() {
    for platform in [&["s3"], &["sevenbridges"]] {
        let Some((mut stage, fuse)) = stage_with_share(platform) else { return };
        until("the sick one is sent", || {
            sick(&stage).filter(|upload| upload["state"] == "sending")
        });
        assert_others_arrive(&stage);
        stage.signal(Signal::TERM);
        // What is left of the process belongs to the kernel, until the share answers.
        until("the daemon has stopped", || {
            stage.log().contains("stopped; what is unfinished goes on").then_some(())
        });
        drop(fuse);
        assert!(stage.wait_for_end().success(), "{}", stage.log());
    }
}

#[test]
fn a_share_on_which_every_read_hangs_holds_up_the_disk_beside_it_for_seconds() {
    const MOST: Duration = Duration::from_secs(20);
    for platform in [&["s3"], &["sevenbridges"]] {
        let Some((stage, fuse)) = stage_with_share(platform) else { return };
        for n in 0..40 {
            fuse.sicken(&format!("sick {n}"), 0, Sick::Hanging);
            fuse.write(&format!("sick {n}"), &noise(1_000, n));
        }
        until("they are known", || (stage.count("queued") > 20).then_some(()));
        let started = Clock::real();
        stage.write("on disk", b"content");
        until("it arrives", || {
            let status = stage.status();
            let mut uploads = status["uploads"].as_array()?.iter();
            let is_there = |one: &&Value| one["path"] == "on disk" && one["state"] == "completed";
            uploads.find(is_there).map(drop)
        });
        let took = started.now().monotonic.0;
        assert!(took < MOST, "{platform:?}: {took:?}");
    }
}

#[test]
fn a_file_that_does_not_answer_waits_with_a_reason_and_goes_on_once_it_does() {
    for platform in [&["s3"], &["sevenbridges"]] {
        let Some((stage, fuse)) = stage_with_share(platform) else { return };
        assert_others_arrive(&stage);
        let upload = until("it waits", || sick(&stage).filter(|one| one["state"] == "waiting"));
        let reason = upload["reason"].to_string();
        assert!(reason.contains("cannot read share/sick: "), "{reason}");
        assert!(upload["retry_at"].is_string(), "{upload}");
        fuse.heal();
        stage.until_count("completed", 23);
    }
}

#[test]
fn a_file_that_fails_in_the_middle_waits_and_says_where() {
    for (platform, errno) in [(&["s3"], Errno::IO), (&["sevenbridges"], Errno::STALE)] {
        let Some((stage, fuse)) = stage_with_share(platform) else { return };
        fuse.sicken("sick", 1 << 16, Sick::Failing(errno));
        let upload = until("it waits", || sick(&stage).filter(|one| one["state"] == "waiting"));
        let reason = upload["reason"].to_string();
        assert!(reason.contains("at byte ") && reason.contains("share/sick"), "{reason}");
        assert_others_arrive(&stage);
        let drop = &stage.status()["drops"][1];
        assert_ne!(drop["watch"], "deaf", "{drop}");
        assert_eq!(stage.count("parked"), 0);
        fuse.heal();
        stage.until_count("completed", 23);
    }
}

/// Its server is stopped: no call of any kind is answered. Hanging reads give back their places,
/// and the daemon ends within the drain limit.
#[test]
fn a_share_that_answers_nothing_holds_up_neither_another_directory_nor_the_end_and_goes_on_after_it()
 {
    for platform in [&["s3"], &["sevenbridges"]] {
        let Some((mut stage, fuse)) = stage_with_share(platform) else { return };
        for n in 0..8 {
            fuse.write(&format!("more {n}"), &noise(LENGTH, n + 10));
        }
        until("some of it is being sent", || {
            sick(&stage).filter(|upload| upload["state"] == "sending")
        });
        fuse.become_(Mood::Hanging);
        fs::create_dir(stage.path("disk/run")).expect("made");
        let other = stage.path("disk/run/large");
        fs::write(&other, noise(10 << 16, 77)).expect("written");
        until("the other directory goes on", || {
            let status = stage.status();
            let mut runs = status["runs"].as_array()?.iter();
            let is_it = |run: &&Value| run["drop"] == "disk" && run["state"] == "completed";
            runs.find(is_it).map(drop)
        });
        let started = Clock::real();
        stage.signal(Signal::TERM);
        until("the daemon has stopped", || {
            stage.log().contains("stopped; what is unfinished goes on").then_some(())
        });
        let took = started.now().monotonic.0;
        assert!(took < DRAIN_LIMIT, "{platform:?}: {took:?}");
        drop(fuse);
        assert!(stage.wait_for_end().success(), "{}", stage.log());
    }
}

/// What a stopped share held up continues as soon as the share answers, without a restart.
#[test]
fn what_a_share_held_up_that_answered_nothing_is_tried_at_once_when_it_answers() {
    let Some((stage, fuse)) = stage_with_share(&["s3"]) else { return };
    for n in 0..4 {
        fuse.write(&format!("more {n}"), &noise(LENGTH, n + 10));
    }
    until("some of it is being sent", || {
        sick(&stage).filter(|upload| upload["state"] == "sending")
    });
    fuse.become_(Mood::Hanging);
    until("it is noticed", || (stage.status()["drops"][1]["watch"] == "deaf").then_some(()));
    until("the sick one waits", || sick(&stage).filter(|upload| upload["state"] == "waiting"));
    fuse.heal();
    fuse.become_(Mood::Well);
    stage.until_count("completed", 6);
    assert_eq!(stage.count("parked"), 0);
}

#[test]
fn a_drop_directory_takes_no_more_places_than_it_may_and_leaves_the_rest_to_others() {
    let disk = "[drops.disk]\ndirectory = \"disk\"\ndestinations = [\"to-s3\"]";
    let drop = format!("{QUICK}\nplaces_max = 2\n{disk}\n{QUICK}");
    let mut stage = Stage::new(Options {
        platforms: &["s3"],
        transfer: "parts_in_flight = 8\nbandwidth = \"400 kB/s\"",
        drop: Box::leak(drop.into_boxed_str()),
        ..Options::default()
    });
    fs::create_dir_all(stage.path("disk/other")).expect("made");
    for n in 0..12 {
        stage.write(&format!("run/{n}"), &noise(60_000, n));
        fs::write(stage.path(&format!("disk/other/{n}")), noise(60_000, n + 50)).expect("written");
    }
    stage.start();
    let mut most = BTreeMap::from([("lab".to_owned(), 0), ("disk".to_owned(), 0)]);
    // The rows are read a moment before what is in flight: one counts that is in flight at two looks.
    let mut before = BTreeSet::new();
    until("all of it is there", || {
        let status = stage.status();
        let uploads = status["uploads"].as_array().expect("a list").iter();
        let in_flight =
            |one: &&Value| one["in_flight_bytes"].as_u64() > Some(0) && one["state"] != "completed";
        let key = |one: &Value| (one["drop"].to_string(), one["id"].as_u64());
        let now: BTreeSet<_> = uploads.filter(in_flight).map(key).collect();
        for (drop, most) in &mut most {
            let is_of = |(of, _): &&(String, Option<u64>)| *of == format!("{drop:?}");
            *most = now.intersection(&before).filter(is_of).count().max(*most);
        }
        before = now;
        (status["counts"]["completed"] == 24).then_some(())
    });
    assert_eq!(most["lab"], 2, "{most:?}");
    assert!(most["disk"] > 2, "{most:?}");
}

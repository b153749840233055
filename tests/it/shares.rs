//! Drop directories that go away, come back, are replaced, refuse, fail or hang; watches that reach
//! limits and lose events: the real binary on real file systems.
//!
//! Mounts are made in the daemon's own namespace, so nobody else sees them. If namespaces are not
//! available, a test is skipped.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use rustix::io::Errno;
use rustix::process::Signal;
use serde_json::Value;

use super::fuse::{Fuse, Mood};
use super::skipped::{skipped, skipped_by_machine};
use super::stage::{Options, Stage, noise, until};

/// Scans never come by themselves: whatever is found was found by events or because events were lost.
const NO_SCANS: &str = "quiet_period = \"50ms\"\nscan_interval = \"1h\"";
/// So slow that a file of several parts takes seconds.
const SLOW: &str = "parts_in_flight = 2\nbandwidth = \"300 KiB/s\"";

/// Starts the daemon in namespaces of its own, after `prepare` ran there; returns false if that is not possible.
pub(crate) fn start_apart(stage: &mut Stage, flags: &str, prepare: &str) -> bool {
    let tried = Command::new("unshare").args([flags, "true"]).output();
    match tried {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            skipped_by_machine(&String::from_utf8_lossy(&output.stderr));
            return false;
        }
        Err(error) => {
            skipped(&format!("unshare: {error}"));
            return false;
        }
    }
    let run = stage.command("run");
    let mut apart = Command::new("unshare");
    let script = format!("set -e; {prepare}\nexec \"$0\" \"$@\"");
    apart.args([flags, "sh", "-c", &script]).arg(run.get_program()).args(run.get_args());
    stage.start_as(apart);
    true
}

/// Runs a script in the daemon's namespaces, with its drop directory as `$1`.
fn within(stage: &Stage, flags: &[&str], script: &str) {
    let output = Command::new("nsenter")
        .args(flags)
        .args(["-t", &stage.pid().to_string(), "sh", "-ec", script, "sh"])
        .arg(stage.drop())
        .output()
        .expect("nsenter runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

const USER: [&str; 3] = ["-U", "-m", "--preserve-credentials"];

fn drop_row(stage: &Stage) -> (String, String) {
    let status = stage.status();
    let row = &status["drops"][0];
    let text = |text: &Value| text.as_str().unwrap_or("").to_owned();
    (text(&row["watch"]), text(&row["reason"]["text"]))
}

/// Waits until the drop's row shows the reason, and returns it.
fn until_drop(stage: &Stage, watch: &str, reason: &str) -> String {
    let what = format!("the drop is {watch} because {reason:?}; the log:\n{}", stage.log());
    until(&what, || {
        let row = drop_row(stage);
        (row.0 == watch && row.1.contains(reason)).then_some(row.1)
    })
}

/// Waits until another directory is refused, and accepts it as an operator would.
fn accept_another(stage: &Stage) {
    until_drop(stage, "deaf", "another directory is at");
    let output = stage.output("resume", &["lab", "--accept-root"]);
    assert!(output.status.success(), "{output:?}");
}

fn check_code(stage: &Stage) -> Option<i32> {
    stage.output("status", &["--check"]).status.code()
}

fn options(transfer: &'static str, drop: &'static str) -> Options {
    Options {
        transfer,
        drop,
        switches: "{\"part_size\": 65536}",
        level: "debug",
        ..Options::default()
    }
}

/// A stage whose drop directory is the mount point of a share, with one file that takes seconds.
fn with_share(transfer: &'static str, drop: &'static str) -> Stage {
    let stage = Stage::new(options(transfer, drop));
    fs::create_dir_all(stage.path("share/run")).expect("made");
    fs::write(stage.path("share/run/large"), noise(1 << 20, 7)).expect("written");
    stage
}

fn mount_share(stage: &Stage) -> String {
    let (share, drop) = (stage.path("share"), stage.drop());
    format!("mount --bind {} {}", share.display(), drop.display())
}

/// Puts the share in the place of its mount point, where the stage looks for the expected files.
fn assert_share_arrived(stage: &Stage) {
    fs::remove_dir(stage.drop()).expect("empty");
    fs::rename(stage.path("share"), stage.drop()).expect("renamed");
    stage.assert_all_there();
}

#[test]
fn an_empty_mount_point_is_not_a_drop_directory_whose_files_were_deleted() {
    let mut stage = with_share(SLOW, Options::default().drop);
    let mount = mount_share(&stage);
    if !start_apart(&mut stage, "-rm", &mount) {
        return;
    }
    let accepted = |stage: &Stage| stage.status()["uploads"][0]["accepted_part_count"].as_u64();
    until("some parts are there", || accepted(&stage).filter(|count| *count > 1));
    within(&stage, &USER, "umount -l \"$1\"");
    let away = "is empty and not the directory it was: is its share mounted?";
    until_drop(&stage, "deaf", away);
    assert_eq!(check_code(&stage), Some(6));
    // A start without the share says the same: the identity of the directory is in the database.
    stage.kill();
    start_apart(&mut stage, "-rm", "true");
    until_drop(&stage, "deaf", away);
    let scans = || stage.log().matches("a scan ended at another directory").count();
    let before = scans();
    until("it was scanned again", || (scans() > before + 2).then_some(()));
    assert_eq!((stage.count("parked"), stage.count("abandoned")), (0, 0), "{}", stage.log());
    within(&stage, &USER, &mount);
    stage.until_count("completed", 1);
    until_drop(&stage, "events", "");
    assert_eq!(check_code(&stage), Some(0));
    assert_share_arrived(&stage);
}

#[test]
fn after_a_mount_the_watch_is_on_the_share_and_not_on_the_directory_below_it() {
    let mut stage = with_share("parts_in_flight = 4", NO_SCANS);
    let mount = mount_share(&stage);
    if !start_apart(&mut stage, "-rm", &mount) {
        return;
    }
    stage.until_count("completed", 1);
    within(&stage, &USER, "umount -l \"$1\"");
    until_drop(&stage, "deaf", "is its share mounted?");
    within(&stage, &USER, &mount);
    until_drop(&stage, "events", "");
    fs::write(stage.path("share/run/late"), noise(100, 8)).expect("written");
    stage.until_count("completed", 2);
    // A file system of its own reports by an event that it was unmounted.
    within(&stage, &USER, "umount \"$1\"; mount -t tmpfs share \"$1\"; echo one > \"$1/one\"");
    accept_another(&stage);
    stage.until_count("completed", 3);
    until_drop(&stage, "events", "");
    within(&stage, &USER, "umount \"$1\"; mount -t tmpfs share \"$1\"; echo two > \"$1/two\"");
    stage.until_count("completed", 4);
    until_drop(&stage, "events", "");
    within(&stage, &USER, "echo three > \"$1/three\"");
    stage.until_count("completed", 5);
}

#[test]
fn a_drop_directory_that_vanishes_or_is_replaced_is_heard_again_without_a_restart() {
    let mut stage = Stage::new(options("parts_in_flight = 4", NO_SCANS));
    stage.write("run/a", b"a");
    stage.start();
    stage.until_count("completed", 1);
    until_drop(&stage, "events", "");
    fs::rename(stage.drop(), stage.path("elsewhere")).expect("renamed");
    until_drop(&stage, "deaf", "No such file or directory");
    assert_eq!(check_code(&stage), Some(6));
    fs::rename(stage.path("elsewhere"), stage.drop()).expect("renamed");
    until_drop(&stage, "events", "");
    stage.write("run/b", b"b");
    stage.until_count("completed", 2);
    // Another directory of the same name.
    fs::create_dir(stage.path("another")).expect("made");
    fs::copy(stage.drop().join("run/a"), stage.path("another/c")).expect("copied");
    fs::rename(stage.drop(), stage.path("elsewhere")).expect("renamed");
    fs::rename(stage.path("another"), stage.drop()).expect("renamed");
    accept_another(&stage);
    stage.until_count("completed", 3);
    until_drop(&stage, "events", "");
    stage.write("d", b"d");
    stage.until_count("completed", 4);
    assert_eq!(stage.count("parked"), 0);
    assert!(stage.is_running());
}

#[test]
fn a_drop_directory_that_is_emptied_by_someone_is_not_away() {
    let mut stage = Stage::new(options(SLOW, Options::default().drop));
    stage.write("run/large", &noise(1 << 20, 9));
    stage.start();
    until("it is sent", || (stage.count("sending") == 1).then_some(()));
    fs::remove_dir_all(stage.drop().join("run")).expect("removed");
    stage.until_count("parked", 1);
    let upload = stage.status()["uploads"][0].clone();
    assert!(
        upload["reason"]["text"].as_str().is_some_and(|why| why.contains("not there")),
        "{upload}"
    );
    assert_ne!(drop_row(&stage).0, "deaf");
    stage.write("run/large", &noise(1 << 20, 9));
    until("the new one is on its way", || (stage.count("parked") == 0).then_some(()));
}

#[test]
fn permissions_that_are_lost_are_told_and_regained_ones_need_nobody() {
    let mut stage = Stage::new(options(SLOW, Options::default().drop));
    stage.write("run/large", &noise(1 << 20, 10));
    stage.write("run/closed/a", b"a");
    stage.give_away();
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
    };
    stage.start();
    until("it is sent", || (stage.count("sending") == 1).then_some(()));
    mode(&stage.drop(), 0o000);
    until_drop(&stage, "deaf", "ermission denied");
    assert_eq!(stage.count("parked"), 0);
    mode(&stage.drop(), 0o700);
    stage.until_count("completed", 2);
    until_drop(&stage, "events", "");
    // A part that cannot be read: no full scan, a row that names the part, and that goes away again.
    let closed = stage.drop().join("run/closed");
    mode(&closed, 0o000);
    let missed = "directory run/closed cannot be read";
    until_drop(&stage, "events", &format!("{missed}, for two scan intervals or longer"));
    let full = |stage: &Stage| stage.status()["drops"][0]["last_full_scan_at"].clone();
    let ignored = |stage: &Stage| stage.count("ignored");
    let (before, scans) = (full(&stage), stage.log().matches("a scan saw").count());
    until("more scans ended", || {
        (stage.log().matches("a scan saw").count() > scans + 1).then_some(())
    });
    assert_eq!((full(&stage), ignored(&stage)), (before.clone(), 1), "it is no full scan");
    mode(&closed, 0o755);
    until("a full scan ended", || (full(&stage) != before).then_some(()));
    assert_eq!((drop_row(&stage).1, ignored(&stage)), (String::new(), 0));
    assert_eq!(stage.count("parked"), 0);
}

#[test]
fn events_that_the_kernel_lost_lead_to_a_scan_and_nothing_is_missed() {
    const FILES: u64 = 1_000;
    let mut stage = Stage::new(options("parts_in_flight = 16", NO_SCANS));
    stage.start();
    until_drop(&stage, "events", "");
    until("the first scan is over", || {
        stage.status()["drops"][0]["last_full_scan_at"].as_str().map(drop)
    });
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("read");
    let limit: usize = limit.trim().parse().expect("a number");
    stage.signal(Signal::STOP);
    // More than the queue holds, from two files in turn, because equal consecutive events are merged.
    let noisy = ["noise-a", "noise-b"].map(|name| stage.drop().join(name));
    for n in 0..limit + 2 {
        fs::write(&noisy[n % 2], b"x").expect("written");
    }
    for n in 0..FILES {
        stage.write(&format!("run/{}/{n}", n / 100), n.to_string().as_bytes());
    }
    stage.signal(Signal::CONT);
    stage.until_count("completed", FILES + 2);
    let lost = stage.log().matches("events were lost").count();
    println!("events were lost {lost} times");
    assert!(lost >= 1, "the queue did not overflow: {}", stage.log());
    // Directories whose creation was not reported are watched nevertheless.
    until_drop(&stage, "events", "");
    stage.write("run/9/late", b"late");
    stage.until_count("completed", FILES + 3);
    stage.assert_all_there();
}

#[test]
fn a_limit_of_watches_is_named_with_its_cure_and_scans_find_everything_until_it_is_raised() {
    for (limit, cure) in [
        ("max_inotify_watches", "raise fs.inotify.max_user_watches"),
        ("max_inotify_instances", "raise fs.inotify.max_user_instances"),
    ] {
        let mut stage = Stage::new(options("parts_in_flight = 8", Options::default().drop));
        (0..20).for_each(|n| stage.write(&format!("run/{n}/file"), b"here"));
        let lower = format!("echo 1 > /proc/sys/user/{limit}");
        if !start_apart(&mut stage, "-rm", &lower) {
            return;
        }
        until_drop(&stage, "scanning", cure);
        stage.until_count("completed", 20);
        stage.write("run/late/file", b"late");
        stage.until_count("completed", 21);
        assert_eq!(check_code(&stage), Some(0), "scans hear everything");
        let text = String::from_utf8(stage.output("status", &[]).stdout).expect("text");
        assert!(text.contains("scanning") && text.contains(cure), "{text}");
        within(&stage, &USER, &format!("echo 50 > /proc/sys/user/{limit}"));
        until_drop(&stage, "events", "");
        stage.write("run/later/file", b"later");
        stage.until_count("completed", 22);
        if limit == "max_inotify_watches" {
            // A limit that is reached while the daemon watches.
            (0..60).for_each(|n| stage.write(&format!("more/{n}/file"), b"more"));
            until_drop(&stage, "scanning", cure);
            stage.until_count("completed", 82);
        }
        stage.assert_all_there();
    }
}

/// Starts a stage whose drop directory is a FUSE share with one file of several parts.
fn with_fuse(stage: &mut Stage) -> Option<Fuse> {
    if !rustix::process::geteuid().is_root() {
        skipped("only root mounts a share into a running daemon's namespace");
        return None;
    }
    if !start_apart(stage, "-m", "true") {
        return None;
    }
    until_drop(stage, "events", "");
    let files = BTreeMap::from([("large".to_owned(), noise(3 << 20, 11))]);
    match Fuse::mount(stage.pid(), &stage.path("drop"), files) {
        Ok(fuse) => Some(fuse),
        Err(why) => {
            skipped_by_machine(&format!("no FUSE here: {why}"));
            None
        }
    }
}

#[test]
fn a_share_without_events_is_scanned_and_one_that_fails_is_waited_for() {
    let mut stage = Stage::new(options(SLOW, Options::default().drop));
    let Some(fuse) = with_fuse(&mut stage) else { return };
    until_drop(&stage, "scanning", "it lies on FUSE, whose events do not tell");
    for errno in [Errno::STALE, Errno::IO, Errno::NOTCONN, Errno::ACCESS] {
        until("it is sent", || (stage.count("sending") == 1).then_some(()));
        fuse.become_(Mood::Failing(errno));
        let why = std::io::Error::from(errno).to_string();
        until_drop(&stage, "deaf", why.split(" (os").next().expect("words"));
        assert_eq!(check_code(&stage), Some(6));
        assert_eq!(stage.count("parked"), 0, "{errno}: {}", stage.log());
        fuse.become_(Mood::Well);
        until_drop(&stage, "scanning", "it lies on FUSE");
    }
    stage.until_count("completed", 1);
    fuse.write("late", b"late");
    stage.until_count("completed", 2);
    assert!(stage.is_running());
    // Its server dies: the mount stays, and no call is answered.
    drop(fuse);
    until_drop(&stage, "deaf", "ransport endpoint is not connected");
    assert_eq!((stage.count("parked"), stage.count("completed")), (0, 2));
}

#[test]
fn a_share_that_hangs_is_deaf_within_two_scan_intervals_and_recovers_by_itself() {
    let mut stage = Stage::new(options(
        "parts_in_flight = 2",
        "quiet_period = \"50ms\"\nscan_interval = \"2s\"",
    ));
    let Some(fuse) = with_fuse(&mut stage) else { return };
    stage.until_count("completed", 1);
    until_drop(&stage, "scanning", "FUSE");
    let full = || stage.status()["drops"][0]["last_full_scan_at"].clone();
    fuse.become_(Mood::Hanging);
    until_drop(&stage, "deaf", "does its file system answer?");
    assert_eq!(check_code(&stage), Some(6));
    // Nor does it hold up a reload of the configuration, which looks at the directory too.
    stage.signal(Signal::HUP);
    until("the configuration is read again while the share hangs", || {
        stage.log().contains("the configuration was read again").then_some(())
    });
    assert_doctor_names_it(&stage);
    let before = full();
    fuse.write("late", b"late");
    fuse.become_(Mood::Well);
    until_drop(&stage, "scanning", "FUSE");
    until("a full scan ended", || (full() != before).then_some(()));
    stage.until_count("completed", 2);
    assert_eq!(check_code(&stage), Some(0));
}

/// The report comes although the share never answers, and names the share.
fn assert_doctor_names_it(stage: &Stage) {
    let doctor = stage.command("doctor");
    let mut within = Command::new("nsenter");
    within.args(["-m", "-t", &stage.pid().to_string()]).arg(doctor.get_program());
    let output = within.args(doctor.get_args()).arg("--offline").output().expect("nsenter runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let line = format!("fail  drop lab: {} does not answer within 5 s", stage.drop().display());
    assert!(said.contains(&line), "{said}");
    assert!(said.contains("it is not checked, for a drop directory does not answer"), "{said}");
    assert!(said.contains("ok    daemon process: it runs"), "{said}");
}

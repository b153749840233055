//! Files that are handed in by `upload`, from outside the drop directories.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use dropferry::testing::control::{self, ControlRequest, Reply};
use rustix::fd::{AsFd, BorrowedFd};
use serde_json::{Value, json};

use super::stage::{Options, Stage, noise, until};

fn stage(transfer: &'static str) -> Stage {
    let mut stage = Stage::new(Options { transfer, ..Options::default() });
    fs::create_dir_all(stage.path("outside/run 7/deep")).expect("made");
    fs::write(stage.path("outside/run 7/a"), noise(300_000, 3)).expect("written");
    fs::write(stage.path("outside/run 7/deep/b.tmp"), b"also this").expect("written");
    fs::write(stage.path("outside/alone"), b"x").expect("written");
    stage.start();
    until("the daemon listens", || stage.path("state/control.sock").exists().then_some(()));
    stage
}

fn hand_in(stage: &Stage, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let mut command = stage.command("upload");
    command.current_dir(stage.path("outside")).args(["--to", "to-sevenbridges", "--json"]);
    let output = command.args(arguments).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_default(), said)
}

fn there(stage: &Stage) -> Vec<(String, String)> {
    let files = stage.files().into_iter();
    let text = |file: &Value, key: &str| file[key].as_str().expect("text").to_owned();
    let mut there: Vec<_> = files.map(|f| (text(&f, "folder"), text(&f, "name"))).collect();
    there.sort();
    there
}

#[test]
fn files_and_directories_are_handed_in_and_waited_for() {
    let stage = stage("parts_in_flight = 4\npart_size = \"64 KiB\"");
    let (code, told, said) = hand_in(&stage, &["run 7", "alone", "--wait"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(told["uploads"].as_array().map(Vec::len), Some(3));
    assert!(told["ended"].as_array().expect("a list").iter().all(|up| up["state"] == "completed"));
    let wanted = [("runs", "alone"), ("runs/run 7", "a"), ("runs/run 7/deep", "b.tmp")];
    let wanted: Vec<_> = wanted.map(|(folder, name)| (folder.to_owned(), name.to_owned())).into();
    assert_eq!(there(&stage), wanted);
    let (code, told, _) = hand_in(&stage, &["alone", "--wait"]);
    assert_eq!((code, &told["uploads"][0]["upload"]), (Some(0), &Value::Null), "not sent twice");
    fs::write(stage.path("outside/late"), b"y").expect("written");
    let (code, told, _) = hand_in(&stage, &["late", "--wait"]);
    assert_eq!((code, &told["ended"][0]["state"]), (Some(0), &json!("completed")));
    assert_eq!(there(&stage).len(), 4);
    let receipts = stage.receipts();
    assert!(receipts.iter().all(|line| line["drop"] == "handed-in"), "{receipts:?}");
    assert_eq!(receipts.len(), 4, "each has its receipt: {receipts:?}");
    assert_eq!(stage.status()["drops"].as_array().map(Vec::len), Some(1), "no drop directory");
}

#[test]
fn a_kill_in_the_middle_loses_nothing_that_was_handed_in() {
    let mut stage = stage("parts_in_flight = 4\npart_size = \"64 KiB\"\nbandwidth = \"0\"");
    let (code, _, said) = hand_in(&stage, &["run 7"]);
    assert_eq!(code, Some(0), "{said}");
    stage.kill();
    stage.start();
    until("it answers", || {
        stage.output("bandwidth", &["unlimited"]).status.success().then_some(())
    });
    stage.until_count("completed", 2);
    assert_eq!(there(&stage).len(), 2);
    // Everything is tried again; the daemon still knows that the whole file system is no drop directory.
    assert!(stage.output("retry", &["--all"]).status.success());
    stage.write("run/in the drop", b"z");
    stage.until_count("completed", 3);
}

#[test]
fn what_cannot_be_handed_in_is_refused_with_its_reason() {
    let stage = stage("parts_in_flight = 4");
    let (code, _, said) = hand_in(&stage, &["nothing"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("nothing cannot be handed in: No such file"), "{said}");
    let output = stage.output("upload", &["/etc/hostname", "--to", "nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no destination is named nowhere"));
    let fifo = stage.path("outside/pipe");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().expect("it runs");
    assert!(made.success());
    let (code, told, _) = hand_in(&stage, &["pipe"]);
    assert_eq!((code, &told["left_out"][0]["reason"]), (Some(1), &json!("named pipe, not a file")));
    let output = stage.output("upload", &["alone"]);
    assert_eq!(output.status.code(), Some(2), "a destination has to be named");
}

/// Asks the daemon to send `path`, with the file at `shown` as the proof.
fn offer(stage: &Stage, path: &Path, shown: &[&File]) -> Reply {
    let request = ControlRequest::Upload {
        paths: vec![path.as_os_str().as_bytes().to_vec()],
        below: None,
        to: "to-sevenbridges".into(),
    };
    let shown: Vec<BorrowedFd<'_>> = shown.iter().map(|file| file.as_fd()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let socket = stage.path("state/control.sock");
    let asked = control::ask(&socket, &request, &shown);
    runtime.expect("a runtime").block_on(asked).expect("it answers")
}

fn left_out(reply: &Reply) -> &str {
    let Reply::HandedIn { uploads, left_out } = reply else { panic!("not looked at: {reply:?}") };
    assert!(uploads.is_empty(), "taken: {uploads:?}");
    &left_out[0].1
}

#[test]
fn a_path_is_no_proof_that_it_may_be_read() {
    let stage = stage("parts_in_flight = 4");
    let (mine, secret) = (stage.path("outside/alone"), stage.path("outside/run 7/a"));
    let opened = File::open(&mine).expect("opened");
    assert!(matches!(offer(&stage, &secret, &[]), Reply::Refused(_)), "without a descriptor");
    assert!(matches!(offer(&stage, &mine, &[&opened, &opened]), Reply::Refused(_)), "with two");
    assert_eq!(
        left_out(&offer(&stage, &secret, &[&opened])),
        "the daemon finds another file at this path"
    );
    let Ok(shown) = rustix::fs::open(&secret, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())
    else {
        panic!("a path is opened without asking whether it may be read")
    };
    assert_eq!(
        left_out(&offer(&stage, &secret, &[&File::from(shown)])),
        "it was not opened for reading"
    );
    let Reply::HandedIn { uploads, .. } = offer(&stage, &mine, &[&opened]) else {
        panic!("it is proved")
    };
    assert_eq!(uploads.len(), 1);
    stage.until_count("completed", 1);
    assert_eq!(there(&stage).len(), 1, "nothing else was sent");
}

#[test]
fn what_is_the_daemons_own_is_never_taken_whatever_is_proved() {
    let stage = stage("parts_in_flight = 4");
    let mut own: Vec<PathBuf> =
        ["config.toml", "sandbox.token", "state/dropferry.db"].map(|name| stage.path(name)).into();
    fs::hard_link(stage.path("sandbox.token"), stage.path("outside/token")).expect("linked");
    fs::hard_link(stage.path("state/dropferry.db"), stage.path("outside/rows")).expect("linked");
    symlink(stage.path("state"), stage.path("outside/state")).expect("linked");
    own.extend(
        ["token", "rows", "state/dropferry.db"].map(|name| stage.path("outside").join(name)),
    );
    own.push(format!("/proc/{}/environ", stage.pid()).into());
    own.push("/proc/self/status".into());
    own.push("/sys/kernel/mm/transparent_hugepage/enabled".into());
    for path in own {
        let Ok(shown) = File::open(&path) else { continue };
        let reply = offer(&stage, &path, &[&shown]);
        let why = left_out(&reply);
        let is_said = why.contains("never handed in") || why.contains("/proc or /sys");
        // Here and there another process opens /proc/self.
        assert!(is_said || why.contains("another file"), "{}: {why}", path.display());
    }
    let (code, told, said) = hand_in(&stage, &["../sandbox.token", "../state"]);
    assert_eq!(code, Some(1), "{said}");
    assert_eq!(told["uploads"], json!([]));
    assert!(told["left_out"].as_array().is_some_and(|left_out| left_out.len() > 1), "{told}");
    assert_eq!((stage.count("completed"), stage.count("queued")), (0, 0));
}

#[test]
fn a_path_that_was_swapped_after_it_was_handed_in_is_not_followed() {
    let mut stage = stage("parts_in_flight = 4\npart_size = \"64 KiB\"\nbandwidth = \"0\"");
    let (code, _, said) = hand_in(&stage, &["run 7/a"]);
    assert_eq!(code, Some(0), "{said}");
    stage.kill();
    // The file keeps its inode and its times; a link leads to it now.
    fs::rename(stage.path("outside/run 7"), stage.path("elsewhere")).expect("renamed");
    symlink(stage.path("elsewhere"), stage.path("outside/run 7")).expect("linked");
    stage.start();
    until("it answers", || {
        stage.output("bandwidth", &["unlimited"]).status.success().then_some(())
    });
    until("its upload goes no further", || {
        let upload = &stage.status()["uploads"][0];
        matches!(upload["state"].as_str(), Some("parked" | "abandoned")).then_some(())
    });
    assert!(there(&stage).is_empty());
}

#[test]
fn more_files_than_one_message_holds_are_handed_in() {
    let stage = stage("parts_in_flight = 8");
    fs::create_dir(stage.path("outside/many")).expect("made");
    for number in 0..50 {
        fs::write(stage.path(&format!("outside/many/{number}")), b"x").expect("written");
    }
    symlink("1", stage.path("outside/many/link")).expect("linked");
    let (code, told, _) = hand_in(&stage, &["many", "--wait"]);
    assert_eq!((code, told["uploads"].as_array().map(Vec::len)), (Some(1), Some(50)));
    assert_eq!(told["left_out"][0]["reason"], "a symbolic link; hand in what it leads to");
    let there = there(&stage);
    assert!(
        there.len() == 50 && there.iter().all(|(folder, _)| folder == "runs/many"),
        "{there:?}"
    );
}

//! Files that are handed in by `upload`, from outside the drop directories.

use std::fs;

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
    let receipts = super::stage::walk(&stage.path("state/receipts/handed-in"));
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
    // Everything is tried again; that the whole file system is no drop directory is not forgotten.
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

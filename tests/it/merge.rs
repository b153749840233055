//! `status --merge`: what several machines said, as one view.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::stage::{Options, Stage, until};

fn hours_ago(hours: i64) -> Value {
    let at = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours);
    json!(at.to_string())
}

/// Answers of three machines: all well; with a file that is parked; silent for hours.
fn answers(stage: &Stage) {
    let write = |name: &str, status: &Value| {
        fs::write(stage.path(name), status.to_string()).expect("written");
    };
    let mut status = stage.status();
    status["host"] = json!("seq-07");
    write("seq-07.json", &status);
    let mut parked = status.clone();
    parked["host"] = json!("seq-08");
    parked["attention"] = json!([{
        "code": "parked", "text": "1 file parked for hub: the token may not write there",
        "cure": "dropferry retry 17", "count": 1, "what": "lab/run2",
    }]);
    parked["runs"][0]["state"] = json!("open");
    parked["runs"][0]["reason"] =
        json!({"code": "marker-missing", "text": "waits for RTAComplete.txt"});
    parked["runs"][0]["destinations"][0]["parked_count"] = json!(0);
    write("seq-08.json", &parked);
    status["host"] = json!("seq-09");
    status["at"] = hours_ago(3);
    write("seq-09.json", &status);
    // A collection that failed leaves an empty file.
    fs::write(stage.path("seq-10.json"), "").expect("written");
    write("other.json", &json!({"schema": 2, "host": "seq-11"}));
    fs::write(stage.path("words.json"), "ssh: connect to host seq-12").expect("written");
}

fn merge(stage: &Stage, files: &[&str], more: &[&str]) -> (Option<i32>, String, String) {
    let paths: Vec<_> = files.iter().map(|name| stage.path(name)).collect();
    let output = stage.command("status").args(more).arg("--merge").args(paths).output();
    let output = output.expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn several_machines_are_one_view_with_who_is_silent_since_when() {
    let mut stage = Stage::new(Options::default());
    stage.write("run1/a", b"a");
    stage.start();
    stage.until_count("completed", 1);
    answers(&stage);
    let well = merge(&stage, &["seq-07.json"], &["--check"]);
    assert_eq!(
        (well.0, well.1.lines().next()),
        (Some(0), Some("all well: 1 machine")),
        "{}",
        well.2
    );
    let two = ["seq-08.json", "seq-07.json"];
    assert_eq!(merge(&stage, &two, &["--check"]).0, Some(6));
    let all = ["seq-09.json", "seq-08.json", "seq-07.json"];
    let (code, text, said) = merge(&stage, &all, &["--check"]);
    assert_eq!((code, &*said), (Some(5), ""));
    for line in [
        "2 things need someone: 3 machines\n",
        "  ! seq-09: nothing was heard of the machine for 3 h 0 min\n",
        "    cure, on seq-09: see whether the machine is on",
        "  ! seq-08: lab/run2: 1 file parked for hub: the token may not write there\n",
        "    cure, on seq-08: dropferry retry 17\n",
        "  seq-07  running, ",
        "  seq-09  silent for 3 h 0 min; 100 % of 1 B there",
        "  seq-08: lab/run1 to to-sevenbridges\n",
        "    open: waits for RTAComplete.txt\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let (code, text, _) = merge(&stage, &all, &["--json"]);
    let merged: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (code, &merged["schema"], &merged["counts"]["completed"]),
        (Some(0), &json!(2), &json!(3))
    );
    assert_eq!((&merged["bytes"]["total"], &merged["bytes"]["accepted"]), (&json!(3), &json!(3)));
    let hosts = merged["hosts"].as_array().expect("a list");
    let silent: Vec<_> = hosts.iter().map(|host| host["silent_since"].is_string()).collect();
    assert_eq!((hosts.len(), silent), (3, vec![false, false, true]));
    assert_eq!(hosts[2]["silent_since"], hosts[2]["at"]);
    for list in ["runs", "uploads", "drops", "destinations"] {
        let names: Vec<_> = merged[list].as_array().expect("a list").iter().collect();
        assert_eq!(names.len(), 3, "{list}");
        assert!(names.iter().all(|one| one["host"].is_string()), "{list}");
    }
    assert_eq!(merged["attention"][0]["code"], "host-silent");
    assert_eq!(merged["attention"][1]["host"], "seq-08");
}

#[test]
fn a_file_that_is_no_status_is_named_and_hides_no_machine() {
    let mut stage = Stage::new(Options::default());
    stage.write("run1/a", b"a");
    stage.start();
    stage.until_count("completed", 1);
    answers(&stage);
    stage.kill();
    let mut stopped = stage.status();
    stopped["host"] = json!("seq-06");
    fs::write(stage.path("seq-06.json"), stopped.to_string()).expect("written");
    let files =
        ["seq-10.json", "other.json", "words.json", "absent.json", "seq-07.json", "seq-06.json"];
    let (code, text, _) = merge(&stage, &files, &[]);
    assert_eq!(code, Some(1));
    assert!(text.starts_with("5 things need someone: 2 machines\n"), "{text}");
    let text = text.replace("\n    ", " ");
    for line in [
        "seq-10.json is no answer of `dropferry status --json`: it is empty",
        "it lacks one of its lists: attention, drops, destinations, runs, uploads",
        "it is not JSON: expected value at line 1 column 1",
        "it cannot be read: No such file or directory",
        "! seq-06: dropferry does not run there",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let (_, text, _) = merge(&stage, &files[..2], &["--json"]);
    let merged: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(merged["unread"].as_array().map(Vec::len), Some(2));
    let (_, _, said) = merge(&stage, &["seq-07.json", "seq-07.json"], &[]);
    assert!(said.contains("is left out: seq-07 has a newer answer"), "{said}");
}

#[test]
fn two_machines_of_one_name_are_both_shown_and_two_answers_of_one_are_not() {
    let states = [(); 2].map(|()| {
        let mut stage = Stage::new(Options::default());
        stage.write("run1/a", b"a");
        stage.start();
        stage.until_count("completed", 1);
        stage
    });
    let [stage, other] = &states;
    let (first, second, mut later) = (stage.status(), other.status(), stage.status());
    assert_ne!(first["state_id"], second["state_id"]);
    later["counts"]["completed"] = json!(5);
    for (name, status) in [("a.json", &first), ("b.json", &second), ("c.json", &later)] {
        fs::write(stage.path(name), status.to_string()).expect("written");
    }
    let (_, text, said) = merge(stage, &["a.json", "b.json", "c.json"], &["--json"]);
    let merged: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(merged["counts"]["completed"], 6, "the later answer of the first, and the second");
    let hosts: Vec<_> = merged["hosts"].as_array().expect("a list").iter().collect();
    let named = |host: &Value, file: &str| {
        host["host"].as_str().is_some_and(|host| host.ends_with(&format!("{file})")))
    };
    assert!(hosts.len() == 2 && named(hosts[0], "b.json") && named(hosts[1], "c.json"), "{text}");
    assert!(said.contains("a.json is left out: "), "{said}");
    // Answers of an earlier version do not say of which state they are.
    let mut bare = [first, second];
    for (status, name) in bare.iter_mut().zip(["a.json", "b.json"]) {
        status["state_id"] = Value::Null;
        fs::write(stage.path(name), status.to_string()).expect("written");
    }
    let (_, text, said) = merge(stage, &["a.json", "b.json"], &[]);
    assert!(text.starts_with("all well: 2 machines\n"), "{text}{said}");
}

#[test]
fn an_old_answer_of_a_machine_whose_clock_is_ahead_is_of_a_silent_one() {
    let mut stage = Stage::new(Options::default());
    stage.start();
    until("it runs", || stage.status()["daemon"]["running"].as_bool().filter(|runs| *runs));
    let mut status = stage.status();
    status["at"] = hours_ago(-2);
    let place = stage.path("ahead.json");
    fs::write(&place, status.to_string()).expect("written");
    let (code, text, _) = merge(&stage, &["ahead.json"], &["--check"]);
    assert_eq!((code, text.lines().next()), (Some(0), Some("all well: 1 machine")), "{text}");
    assert!(text.replace("\n    ", " ").contains("its clock is 2 h 0 min ahead"), "{text}");
    let file = fs::File::options().write(true).open(&place).expect("opened");
    let seconds = jiff::Timestamp::now().as_second() - 3600;
    let then = Duration::from_secs(u64::try_from(seconds).expect("after 1970"));
    file.set_modified(SystemTime::UNIX_EPOCH + then).expect("set");
    let (code, text, _) = merge(&stage, &["ahead.json"], &["--check"]);
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("nothing was heard of the machine for 1 h 0 min"), "{text}");
}

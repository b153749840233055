//! The WHAT argument of commands: each form of it, in each command that takes one.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::stage::{Options, Stage, noise, until};

const ALL: &[&str] = &["run1/a", "run1/deep/b", "run2/a"];
const RUN1: &[&str] = &["run1/a", "run1/deep/b"];
const DEEP: &[&str] = &["run1/deep/b"];

/// Each form, and the files that it means.
const FORMS: &[(&str, &[&str])] = &[
    ("to-sevenbridges", ALL),
    ("lab", ALL),
    ("lab/", ALL),
    ("lab/run1", RUN1),
    ("lab/run1/deep", DEEP),
    ("lab/run1/deep/b", DEEP),
    ("run1", RUN1),
    ("run1/", RUN1),
    ("run1/deep", DEEP),
    ("deep/b", DEEP),
    ("b", DEEP),
    ("run[1]", RUN1),
    ("lab/run?", ALL),
    ("b*", DEEP),
    ("**/deep/*", DEEP),
];

/// A stage whose uploads begin, and send nothing until they are released.
fn stage() -> Stage {
    let transfer = "parts_in_flight = 4\npart_size = \"64 KiB\"\nbandwidth = \"0\"";
    let mut stage = Stage::new(Options { transfer, ..Options::default() });
    for (seed, path) in ALL.iter().enumerate() {
        stage.write(path, &noise(1000, seed as u64 + 3));
    }
    stage.start();
    until("uploads are begun", || {
        (stage.ledger()["open_uploads"].as_array()?.len() == ALL.len()).then_some(())
    });
    stage
}

fn paths(stage: &Stage, command: &[&str]) -> BTreeSet<String> {
    let output = stage.output(command[0], &command[1..]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let lists = ["files", "uploads"].map(|name| &json[name]);
    let files = lists.into_iter().find(|list| list.is_array()).unwrap_or(&json);
    let path = |file: &Value| file["path"].as_str().expect("a path").to_owned();
    match files.as_array() {
        Some(files) => files.iter().map(path).collect(),
        None => BTreeSet::from([path(files)]),
    }
}

#[test]
fn each_form_means_the_same_in_each_command() {
    let stage = stage();
    let assert_meant = |command: &[&str], meant: &[&str]| {
        let meant: BTreeSet<String> = meant.iter().map(ToString::to_string).collect();
        assert_eq!(paths(&stage, command), meant, "{command:?}");
    };
    for (word, meant) in FORMS {
        assert_meant(&["show", word, "--json"], meant);
        assert_meant(&["status", word, "--json"], meant);
    }
    let shown = stage.output("show", &["run2/a", "--json"]).stdout;
    let shown: Value = serde_json::from_slice(&shown).expect("JSON");
    let id = shown[0]["id"].as_i64().expect("a number").to_string();
    assert_meant(&["show", &id, "--json"], &["run2/a"]);
    assert_meant(&["status", &id, "--json"], &["run2/a"]);
    for (word, changed) in [
        (id.as_str(), format!("upload {id} is paused: 1 upload")),
        ("to-sevenbridges", "destination to-sevenbridges is paused: 3 uploads".to_owned()),
        ("lab", "drop lab is paused: 3 uploads".to_owned()),
        ("lab/run1", "lab/run1 is paused: 2 uploads".to_owned()),
        ("run2", "lab/run2 is paused: 1 upload".to_owned()),
        ("run?", "lab/run1 is paused: 2 uploads\nlab/run2 is paused: 1 upload".to_owned()),
    ] {
        let output = stage.output("pause", &[word]);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), changed, "{word}");
    }
    let paused = String::from_utf8_lossy(&stage.output("pause", &["deep/b"]).stdout).into_owned();
    assert!(paused.starts_with("upload ") && paused.contains("is paused: 1 upload"), "{paused}");
    for (command, word) in
        [("resume", "lab"), ("retry", "run2"), ("resume", "b"), ("abandon", "b*")]
    {
        assert!(stage.output(command, &[word]).status.success(), "{command} {word}");
    }
    assert!(stage.output("resume", &["--all"]).status.success());
    stage.output("bandwidth", &["unlimited"]);
    stage.until_count("completed", 2);
    for (word, meant) in FORMS.iter().filter(|(_, meant)| *meant != DEEP) {
        let meant: Vec<_> = meant.iter().copied().filter(|path| !DEEP.contains(path)).collect();
        assert_meant(&["receipts", word, "--format", "json"], &meant);
        assert_meant(&["verify", word, "--json"], &meant);
    }
    assert_meant(&["receipts", &id, "--format", "json"], &["run2/a"]);
    assert_meant(&["verify", &id, "--json"], &["run2/a"]);
}

#[test]
fn a_word_that_means_nothing_or_several_things_is_refused_with_names() {
    let stage = stage();
    for (word, why) in [
        ("a", "a may be lab/run1/a or lab/run2/a\nhint: write DROP/RUN"),
        (
            "rum1",
            "rum1 is no upload, destination, drop directory, run or file\nhint: did you mean run1 or run2?",
        ),
        ("lab/rum2", "hint: did you mean lab/run2 or lab/run1?"),
        ("to-sevenbridge", "hint: did you mean to-sevenbridges?"),
        ("x*", "x* is no upload"),
        ("99999", "99999 is no upload"),
    ] {
        for command in
            ["status", "show", "verify", "receipts", "pause", "resume", "retry", "abandon", "close"]
        {
            let output = stage.output(command, &[word]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{command} {word}: {said}");
            assert!(said.contains(why), "{command} {word}: {said}");
        }
    }
}

fn status_of(stage: &Stage, words: &[&str]) -> Value {
    let output = stage.output("status", &[words, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().filter_map(|item| item["name"].as_str()).collect()
}

#[test]
fn status_of_a_thing_lists_and_counts_what_belongs_to_it() {
    let stage = stage();
    let all = status_of(&stage, &[]);
    assert_eq!(names(&all["runs"]).len(), 2);
    for (words, runs, count) in [
        (vec!["lab"], vec!["run1", "run2"], 3),
        (vec!["to-sevenbridges"], vec!["run1", "run2"], 3),
        (vec!["run1"], vec!["run1"], 2),
        (vec!["lab/run2"], vec!["run2"], 1),
        (vec!["deep/b"], vec!["run1"], 1),
        (vec!["deep/b", "run2"], vec!["run1", "run2"], 2),
    ] {
        let status = status_of(&stage, &words);
        let mut shown = names(&status["runs"]);
        shown.sort_unstable();
        assert_eq!(shown, runs, "{words:?}");
        assert_eq!(names(&status["drops"]), ["lab"], "{words:?}");
        assert_eq!(names(&status["destinations"]), ["to-sevenbridges"], "{words:?}");
        let counts = &status["counts"];
        let open = ["queued", "sending", "waiting"].map(|state| counts[state].as_u64());
        assert_eq!(open.into_iter().flatten().sum::<u64>(), count, "{words:?}: {counts}");
        let total: u64 = status["bytes"]["total"].as_u64().expect("a number");
        assert_eq!(total, count * 1000, "{words:?}");
        assert_eq!(status["uploads_left_out"], 0, "{words:?}");
        assert!(status["bytes"]["rate_per_second"].is_null(), "{words:?}");
        assert_eq!(counts["settling"].is_null(), words != ["lab"], "{words:?}: {counts}");
    }
    assert!(stage.output("pause", &["lab/run1"]).status.success());
    assert_eq!(status_of(&stage, &["run1"])["orders"].as_array().map(Vec::len), Some(1));
    assert_eq!(status_of(&stage, &["run2"])["orders"].as_array().map(Vec::len), Some(0));
    let text = String::from_utf8_lossy(&stage.output("status", &["run2"]).stdout).into_owned();
    assert!(text.contains("lab/run2") && !text.contains("run1"), "{text}");
}

#[test]
fn status_check_of_a_thing_judges_that_thing_alone() {
    let mut stage = Stage::new(Options::default());
    stage.write("run/a", b"a");
    stage.write("alone", b"b");
    // Root reads everything, so a stage that belongs to root is given to another user.
    stage.give_away();
    let unreadable = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(stage.drop().join("run/a"), unreadable).expect("set");
    stage.start();
    stage.until_count("parked", 1);
    stage.until_count("completed", 1);
    let exit = |word| stage.output("status", &[word, "--check"]).status.code();
    assert_eq!((exit("alone"), exit("run"), exit("lab")), (Some(0), Some(6), Some(6)));
}

#[test]
fn a_name_of_a_drop_directory_and_of_a_destination_needs_its_sign() {
    let mut stage = Stage::new(Options::default());
    let path = stage.path("config.toml");
    let text = std::fs::read_to_string(&path).expect("read");
    std::fs::write(path, text.replace("to-sevenbridges", "lab")).expect("written");
    stage.start();
    until("both are known", || {
        let status = status_of(&stage, &[]);
        (names(&status["drops"]) == ["lab"] && names(&status["destinations"]) == ["lab"])
            .then_some(())
    });
    for command in ["status", "show", "pause"] {
        let output = stage.output(command, &["lab"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        let why = "lab may be destination lab or drop lab\nhint: write DROP/RUN, more of the path, \
            DROP/ for a drop directory, DESTINATION: for a destination, or ID: for an upload";
        assert!(said.contains(why), "{command}: {said}");
    }
    let changed = |word| {
        let output = stage.output("pause", &[word]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(changed("lab/").starts_with("drop lab is paused"));
    assert!(changed("lab:").starts_with("destination lab is paused"));
}

#[test]
fn a_run_that_is_named_like_something_else_is_listed_beside_it() {
    let mut stage = Stage::new(Options::default());
    for path in ["1/a", "to-sevenbridges/b", "lab/c", "run/1"] {
        stage.write(path, &noise(1000, 3));
    }
    stage.start();
    stage.until_count("completed", 4);
    for (word, listed) in [
        ("1", "1 may be lab/1 or upload 1\n"),
        ("to-sevenbridges", "may be destination to-sevenbridges or lab/to-sevenbridges\n"),
        ("lab", "lab may be drop lab or lab/lab\n"),
    ] {
        for command in ["status", "show", "wait", "verify", "retry"] {
            let output = stage.output(command, &[word]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{command} {word}: {said}");
            assert!(said.contains(listed), "{command} {word}: {said}");
        }
    }
    let count = |word| status_of(&stage, &[word])["counts"]["completed"].clone();
    for (word, meant) in
        [("1:", 1), ("lab/1", 1), ("to-sevenbridges:", 4), ("lab/to-sevenbridges", 1), ("lab/", 4)]
    {
        assert_eq!(count(word), meant, "{word}");
    }
}

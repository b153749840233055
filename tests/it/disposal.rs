//! Disposal with the real binary: what is checked before a source is removed, and what kills leave behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use serde_json::Value;

use super::stage::{Options, Stage, TOKEN, noise, until, walk};

/// Nothing is removed before the grace period is shortened.
const DROP: &str = "quiet_period = \"50ms\"\nscan_interval = \"300ms\"\n\
    disposition = \"delete\"\ndisposition_grace = \"1h\"";

fn stage(platforms: &'static [&'static str]) -> Stage {
    let mut stage = Stage::new(Options { platforms, drop: DROP, ..Options::default() });
    stage.write("run1/a", b"first");
    stage.write("run1/deep/b", b"second");
    stage.write("alone", b"third");
    stage.start();
    stage.until_count("completed", 3 * platforms.len() as u64);
    super::run_states::until_run(&stage, "run1", "completed");
    stage.kill();
    stage
}

/// Starts the daemon with less free space than is wanted, so that sources may be removed at once.
fn start_short_of_space(stage: &mut Stage) {
    let config = stage.path("config.toml");
    let text = fs::read_to_string(&config).expect("read");
    let line = "disposition_free_space = \"900 TB\"";
    if !text.contains(line) {
        let drop = format!("{line}\ndisposition = ");
        fs::write(config, text.replace("disposition = ", &drop)).expect("written");
    }
    stage.start();
}

/// Puts an object of somebody else below `runs/`, or removes what is there.
pub(crate) fn object(stage: &Stage, key: &str, content: Option<&str>) {
    let endpoint = Url::parse("http://sandbox").expect("a URL");
    let bucket = Bucket::new(endpoint, UrlStyle::Path, "lab-demo", "us-east-1").expect("a bucket");
    let keys = Credentials::new("SANDBOX", TOKEN);
    let (life, place) = (Duration::from_secs(600), format!("runs/{key}"));
    let (method, url) = match content {
        Some(_) => ("PUT", bucket.put_object(Some(&keys), &place).sign(life)),
        None => ("DELETE", bucket.delete_object(Some(&keys), &place).sign(life)),
    };
    let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
    stage.request(method, &path, content.unwrap_or(""));
}

/// Waits until `show` says why the source of a file stays.
fn until_stays(stage: &Stage, path: &str, why: &str) {
    until(&format!("{path} stays because of {why:?}; the log:\n{}", stage.log()), || {
        let shown = stage.output("show", &[path, "--json"]).stdout;
        let shown: Value = serde_json::from_slice(&shown).ok()?;
        let failure = shown[0]["disposal"]["failure"].as_str()?.to_owned();
        failure.contains(why).then_some(())
    });
}

fn until_gone(stage: &Stage) {
    until("all sources are gone, with their directories", || {
        let is_empty = fs::read_dir(stage.drop()).expect("read").next().is_none();
        is_empty.then_some(())
    });
}

#[test]
fn a_source_stays_while_its_file_is_not_at_the_destination_as_it_was_sent() {
    let mut stage = stage(&["s3"]);
    object(&stage, "run1/deep/b", None);
    object(&stage, "alone", Some("THIRD"));
    start_short_of_space(&mut stage);
    until_stays(&stage, "run1/a", "run1/deep/b");
    until_stays(&stage, "alone", "digest");
    assert_eq!(walk(&stage.drop()).len(), 3, "nothing of them goes");
    let text = stage.output("show", &["alone"]).stdout;
    assert!(String::from_utf8_lossy(&text).contains("stays: to-s3"), "people see it as well");
    stage.kill();
    object(&stage, "run1/deep/b", Some("second"));
    object(&stage, "alone", Some("third"));
    start_short_of_space(&mut stage);
    until_gone(&stage);
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_source_stays_while_a_receipt_is_damaged_and_every_command_says_so() {
    let mut stage = stage(&["sevenbridges"]);
    let of_run = stage.path("state/receipts/lab/run1.jsonl");
    let of_files = walk(&stage.path("state/receipts/lab"));
    let is_files = |path: &&PathBuf| path.to_string_lossy().contains("~files-");
    let changed = of_files.iter().find(is_files).expect("it has a ledger").clone();
    // The last line of a file is cut off, with everything behind it.
    let kept = fs::read_to_string(&of_run).expect("read");
    let from = kept.find("\"path\":\"run1/deep/b\"").expect("it has a line");
    let from = kept[..from].rfind('\n').map_or(0, |at| at + 1);
    fs::write(&of_run, &kept[..from]).expect("written");
    let whole = fs::read_to_string(&changed).expect("read");
    fs::write(&changed, whole.replacen("\"size\":5", "\"size\":6", 1)).expect("written");
    for (command, arguments) in
        [("verify", &["lab"][..]), ("receipts", &[]), ("receipts", &["--print"])]
    {
        let output = stage.output(command, arguments);
        assert_eq!(output.status.code(), Some(1), "{command}: {output:?}");
    }
    if kept[..from].contains("\"path\":\"run1/a\"") {
        let output = stage.output("verify", &["lab/run1/a"]);
        let (out, talk) = (said(&output.stdout), said(&output.stderr));
        assert!(out.starts_with("same  "), "its own line holds: {out}");
        assert!(talk.contains("the ledger lab/run1.jsonl does not hold"), "{talk}");
    }
    let doctor = stage.output("doctor", &["--offline"]);
    let said = said(&doctor.stdout);
    assert!(said.contains("fail  receipts"), "{said}");
    assert_eq!(doctor.status.code(), Some(6), "{said}");
    start_short_of_space(&mut stage);
    until_stays(&stage, "run1/a", "the receipt of run1");
    until_stays(&stage, "alone", "its sha256 is");
    assert_eq!(walk(&stage.drop()).len(), 3, "nothing of them goes");
    stage.kill();
    fs::write(of_run, kept).expect("written");
    fs::write(changed, whole).expect("written");
    assert!(stage.output("verify", &["lab"]).status.success(), "all hold again");
    start_short_of_space(&mut stage);
    until_gone(&stage);
}

#[test]
fn a_destination_that_cannot_be_asked_needs_a_word() {
    let stage =
        Stage::new(Options { platforms: &["gjirafa-vp"], drop: DROP, ..Options::default() });
    let refused = stage.output("check-config", &[]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("cannot be asked") && said.contains("dispose_unverified"), "{said}");
    let config = stage.path("config.toml");
    let text = fs::read_to_string(&config).expect("read");
    let said = "dispose_unverified = true\ndisposition = ";
    fs::write(&config, text.replace("disposition = ", said)).expect("written");
    assert!(stage.output("check-config", &[]).status.success(), "that is a word");
}

/// SIGKILL again and again while files are sent and disposed of: every file that is gone has its line.
#[test]
fn kills_leave_no_source_gone_without_its_line_on_any_platform() {
    for platforms in [&["sevenbridges"][..], &["basespace"], &["gjirafa-vp"], &["s3"]] {
        kill_until_gone(platforms);
    }
}

fn kill_until_gone(platforms: &'static [&'static str]) {
    const ROUNDS: usize = 8;
    const FILES: usize = 8;
    let drop = match platforms {
        ["gjirafa-vp"] => {
            "quiet_period = \"50ms\"\nscan_interval = \"200ms\"\ndispose_unverified = true\n\
             disposition = \"delete\"\ndisposition_grace = \"0s\""
        }
        _ => {
            "quiet_period = \"50ms\"\nscan_interval = \"200ms\"\n\
             disposition = \"delete\"\ndisposition_grace = \"0s\""
        }
    };
    let transfer = "parts_in_flight = 8";
    let mut stage = Stage::new(Options { platforms, drop, transfer, ..Options::default() });
    let left = |stage: &Stage| walk(&stage.drop()).len();
    let mut names = Vec::new();
    for round in 0..=ROUNDS {
        // In the last round everything is removed.
        let new = if round < ROUNDS { FILES } else { 0 };
        for number in 0..new {
            let name = format!("run{round}/f{number}");
            stage.write(&name, &noise(300 + names.len(), names.len() as u64));
            names.push(name);
        }
        let done = |stage: &Stage| stage.lines().len() + names.len() - left(stage);
        let before = done(&stage);
        stage.start();
        until("something happens", || {
            (left(&stage) == 0 || new > 0 && done(&stage) >= before + 4).then_some(())
        });
        stage.kill();
        let receipts = stage.receipts();
        for name in names.iter().filter(|name| !stage.drop().join(name).exists()) {
            let has_line = receipts.iter().any(|line| line["path"] == **name);
            assert!(has_line, "{platforms:?}: {name} is gone and has no line");
        }
        let ids: BTreeSet<_> = receipts.iter().map(|line| line["id"].as_i64()).collect();
        assert_eq!(ids.len(), receipts.len(), "{platforms:?}: one line for each upload");
    }
}

/// SIGKILL again and again while hundreds of files are removed: each is in one place and whole, and
/// nothing of ours is left behind.
#[test]
fn kills_in_the_middle_of_a_disposal_leave_no_file_in_two_states_and_no_directory() {
    for moves in [false, true] {
        let mut stage = Stage::new(Options { drop: DROP, ..Options::default() });
        let away = tempfile::tempdir_in("/dev/shm").expect("another file system");
        if moves {
            let config = stage.path("config.toml");
            let text = fs::read_to_string(&config).expect("read");
            let how = format!("\"move\"\nmove_to = \"{}\"", away.path().display());
            fs::write(config, text.replace("\"delete\"", &how)).expect("written");
        }
        let content = |number: usize| noise(200 + number, number as u64 + 1);
        let name = |number: usize| format!("run/d{}/f{number}", number % 5);
        (0..300).for_each(|number| stage.write(&name(number), &content(number)));
        stage.start();
        super::run_states::until_run(&stage, "run", "completed");
        stage.kill();
        let mut goal = 290;
        while goal > 0 && stage.drop().join("run").exists() {
            start_short_of_space(&mut stage);
            until("some of them have gone", || (walk(&stage.drop()).len() <= goal).then_some(()));
            stage.kill();
            goal = goal.saturating_sub(70);
        }
        start_short_of_space(&mut stage);
        until_gone(&stage);
        if moves {
            assert_eq!(walk(away.path()).len(), 300, "nothing but the files is there");
            for number in 0..300 {
                let moved = fs::read(away.path().join(name(number))).expect("it was moved");
                assert_eq!(moved, content(number), "{number}");
            }
        }
        let done = until("the row says so", || {
            let runs = stage.status()["runs"].as_array()?.clone();
            runs.into_iter().find(|run| run["disposal"]["done"] == true)
        });
        assert_eq!(done["name"], "run");
    }
}

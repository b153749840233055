//! Drops as runs, with the real binary: closed, completed, receipts, late files, disposal.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use super::stage::{Options, Stage, noise, until, walk};

fn with(drop: &'static str) -> Stage {
    Stage::new(Options { drop, ..Options::default() })
}

fn run(stage: &Stage, name: &str) -> Option<Value> {
    stage.status()["runs"].as_array()?.iter().find(|run| run["name"] == name).cloned()
}

pub(crate) fn until_run(stage: &Stage, name: &str, state: &str) -> Value {
    until(&format!("{name} is {state}"), || run(stage, name).filter(|run| run["state"] == state))
}

#[test]
fn a_directory_is_completed_with_a_receipt_of_all_its_files_and_again_with_late_ones() {
    let mut stage =
        with("quiet_period = \"50ms\"\nscan_interval = \"300ms\"\nsentinel = \"ALL.json\"");
    stage.write("run1/a.txt", b"hello");
    stage.write("run1/deep/b.bin", &noise(3 << 20, 1));
    stage.write("alone.txt", b"no run");
    stage.start();
    let done = until_run(&stage, "run1", "completed");
    assert_eq!((&done["file_count"], &done["late_file_count"]), (&2.into(), &0.into()));
    stage.until_count("completed", 4);
    let completed = stage.lines_of("run-completed");
    let line = &completed[0];
    assert_eq!((&line["file_count"], &line["run"]), (&2.into(), &"run1".into()));
    assert_eq!((&line["wave"], &line["bytes"]), (&1.into(), &((3 << 20) + 5).into()));
    let sent = stage.path("state/sentinels/lab/run1.drop-1.json");
    let sent: Value = serde_json::from_slice(&fs::read(sent).expect("read")).expect("JSON");
    assert_eq!((&sent["file_count"], &sent["name"]), (&2.into(), &"run1".into()));
    let of = |path: &str| sent["files"].as_array()?.iter().find(|file| file["path"] == path);
    let digest = of("run1/a.txt").map(|file| file["md5"].clone());
    assert_eq!(digest, Some("5d41402abc4b2a76b9719d911017c592".into()));
    assert_eq!(sent["ledger"]["sha256"], line["sha256"], "it names the head of the ledger");
    assert_eq!((&sent["ledger"]["count"], &line["seq"]), (&3.into(), &3.into()));
    let sentinel = stage.files().into_iter().find(|file| file["name"] == "ALL.json");
    assert!(sentinel.is_some_and(|file| file["size"].as_u64() > Some(100)), "the far side knows");

    stage.write("run1/late.txt", b"late");
    until("it is completed again", || run(&stage, "run1").filter(|run| run["wave_count"] == 2));
    let done = until_run(&stage, "run1", "completed");
    assert_eq!(done["late_file_count"], 1);
    stage.until_count("completed", 6);
    assert_eq!(stage.lines_of("run-completed").len(), 2, "one for each time it was completed");
    assert_eq!(stage.files().iter().filter(|file| file["name"] == "ALL.json").count(), 1);
}

/// A daemon that is paused, and a run that is closed.
fn closed_and_unsent() -> Stage {
    let mut stage = with("quiet_period = \"50ms\"\nscan_interval = \"300ms\"");
    stage.start();
    until("the daemon takes orders", || {
        stage.output("pause", &["lab"]).status.success().then_some(())
    });
    stage.write("run1/a.txt", b"hello");
    stage.write("run1/deep/b.bin", &noise(3 << 20, 1));
    until_run(&stage, "run1", "closed");
    stage
}

#[test]
fn a_closed_run_that_is_taken_away_before_it_was_sent_is_gone_and_never_completed() {
    let stage = closed_and_unsent();
    fs::rename(stage.path("drop/run1"), stage.path("aside")).expect("taken away");
    until_run(&stage, "run1", "gone");
    assert!(stage.output("resume", &["lab"]).status.success());
    stage.write("run2/c.txt", b"another");
    until_run(&stage, "run2", "completed");
    let completed = stage.lines_of("run-completed");
    assert_eq!(completed.iter().map(|line| &line["run"]).collect::<Vec<_>>(), ["run2"]);
    assert_eq!(run(&stage, "run1").expect("listed")["state"], "gone");
    // It comes back: it is the same run, and is sent.
    fs::rename(stage.path("aside"), stage.path("drop/run1")).expect("put back");
    until_run(&stage, "run1", "completed");
    stage.assert_all_there();
}

#[test]
fn a_completed_run_of_which_a_file_is_removed_is_not_said_to_be_completed_again() {
    let mut stage = with("quiet_period = \"50ms\"\nscan_interval = \"300ms\"");
    stage.write("run1/a.txt", b"hello");
    stage.write("run1/b.txt", b"again");
    stage.start();
    until_run(&stage, "run1", "completed");
    fs::remove_file(stage.path("drop/run1/b.txt")).expect("removed");
    until("that is seen", || run(&stage, "run1").filter(|run| run["file_count"] == 1));
    assert_eq!(stage.log().matches("run run1 of lab is completed").count(), 1, "{}", stage.log());
}

#[test]
fn a_run_that_is_moved_into_another_directory_while_it_is_sent_goes_on() {
    let stage = closed_and_unsent();
    fs::create_dir(stage.path("drop/sorted")).expect("made");
    fs::rename(stage.path("drop/run1"), stage.path("drop/sorted/run1")).expect("moved");
    until("its directory is known", || {
        run(&stage, "run1").filter(|run| run["name_now"] == "sorted/run1")
    });
    assert!(stage.output("resume", &["lab"]).status.success());
    until_run(&stage, "run1", "completed");
    let files = stage.files();
    let folders: Vec<_> = files.iter().map(|file| file["folder"].as_str()).collect();
    assert_eq!(folders.len(), 2, "{folders:?}");
    assert!(folders.iter().all(|folder| folder.is_some_and(|at| at.starts_with("runs/run1"))));
    assert_eq!(stage.lines_of("run-completed").len(), 1);
}

#[test]
fn a_run_that_is_renamed_while_it_is_sent_is_one_run_under_its_first_name() {
    let mut stage = closed_and_unsent();
    let name_now = |stage: &Stage, name: Option<&str>| {
        let is_it = |run: &Value| run["name_now"].as_str() == name;
        until("its directory is known", || run(stage, "run1").filter(is_it));
    };
    let rename = |from: &str, to: &str| {
        let at = |name: &str| stage.path(&format!("drop/{name}"));
        fs::rename(at(from), at(to)).expect("renamed");
    };
    rename("run1", "run1_projectX");
    name_now(&stage, Some("run1_projectX"));
    rename("run1_projectX", "run1");
    name_now(&stage, None);
    rename("run1", "run1_projectY");
    stage.kill();
    let planned = stage.output("plan", &[]).stdout;
    let planned = String::from_utf8_lossy(&planned);
    let line = "lab: run1/a.txt is queued at to-sevenbridges:runs/run1/a.txt: upload ";
    assert!(planned.contains(line) && !planned.contains('→'), "{planned}");
    stage.start();
    name_now(&stage, Some("run1_projectY"));
    stage.kill();
    stage.write("run1/other.txt", b"of another run");
    stage.start();
    stage.write("run1_projectY/late.txt", b"late");
    until("orders are taken", || stage.output("resume", &["lab"]).status.success().then_some(()));
    until("all of it is there", || {
        run(&stage, "run1").filter(|run| run["state"] == "completed" && run["file_count"] == 3)
    });
    let names: Vec<_> = stage.lines_of("upload").iter().map(|line| line["path"].clone()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let renamed = stage.lines_of("renamed");
    assert_eq!(
        (&renamed[0]["run"], &renamed[0]["run_now"]),
        (&"run1".into(), &"run1_projectY".into())
    );
    assert_eq!(renamed.len(), 1);
    let sums = stage.output("receipts", &["run1", "--format", "md5sum"]).stdout;
    fs::write(stage.path("sums"), sums).expect("written");
    let check =
        Command::new("md5sum").arg("-c").arg(stage.path("sums")).current_dir(stage.drop()).output();
    let check = String::from_utf8(check.expect("it runs").stdout).expect("text");
    assert_eq!(check.matches(": OK").count(), 3, "{check}");
    for word in ["run1_projectY", "lab/run1_projectY", "run1_project*", "run1_projectY/a.txt"] {
        for command in ["show", "receipts"] {
            let output = stage.output(command, &[word]);
            let said = String::from_utf8_lossy(&output.stdout);
            let is_run = command == "show" && !word.ends_with("/a.txt");
            let named =
                if is_run { "its directory is called run1_projectY now" } else { "run1/a.txt" };
            assert!(output.status.success() && said.contains(named), "{command} {word}: {said}");
        }
    }
    let planned = stage.output("plan", &[]).stdout;
    let planned = String::from_utf8_lossy(&planned);
    let line = "run1/a.txt is completed at to-sevenbridges:runs/run1/a.txt: upload ";
    assert!(planned.contains(line) && !planned.contains('→'), "{planned}");
    for word in ["run1_projectY", "run1_projectY/a.txt", "run1/a.txt"] {
        let output = stage.output("verify", &[word, "--content"]);
        let said = String::from_utf8_lossy(&output.stdout);
        let line = "lab: run1/a.txt  to-sevenbridges:runs/run1/a.txt  (";
        assert!(output.status.success() && said.contains(line), "{word}: {said}");
    }
    assert!(names.iter().all(|name| name.as_str().is_some_and(|name| name.starts_with("run1/"))));
    let runs = stage.status()["runs"].as_array().expect("a list").len();
    assert_eq!(runs, 1, "{:#}", stage.status()["runs"]);
    assert_eq!(stage.files().len(), 3, "each once");
    assert_eq!(stage.count("ignored"), 1, "the directory in the way");
}

#[test]
fn nothing_of_a_drop_is_sent_before_it_is_closed_where_that_is_wanted() {
    let mut stage =
        with("quiet_period = \"200ms\"\nscan_interval = \"300ms\"\nstart = \"when-run-closed\"");
    stage.write("run1/a.txt", b"hello");
    stage.start();
    until("the run is seen", || run(&stage, "run1"));
    let mut count = 0;
    while run(&stage, "run1").is_some_and(|run| run["state"] == "open") && count < 30 {
        assert_eq!(stage.files().len(), 0, "nothing is there while it is open");
        count += 1;
    }
    until_run(&stage, "run1", "completed");
    stage.assert_all_there();
}

#[test]
fn receipts_are_listed_and_written_as_lines_that_md5sum_accepts() {
    let mut stage =
        with("quiet_period = \"50ms\"\nscan_interval = \"300ms\"\nwhole_file_digest = \"md5\"");
    stage.write("run1/a b.txt", b"hello");
    stage.write("run1/back\\slash\nnew", b"odd");
    stage.write("run1/large", &noise(12 << 20, 4));
    stage.start();
    until_run(&stage, "run1", "completed");
    let lines = stage.output("receipts", &["--format", "md5sum", "run1"]).stdout;
    let mut check = Command::new("md5sum")
        .args(["-c", "--quiet", "-"])
        .current_dir(stage.drop())
        .stdin(Stdio::piped())
        .spawn()
        .expect("md5sum runs");
    std::io::Write::write_all(check.stdin.as_mut().expect("piped"), &lines).expect("written");
    assert!(check.wait().expect("ended").success(), "{}", String::from_utf8_lossy(&lines));
    assert_eq!(String::from_utf8_lossy(&lines).lines().count(), 3);
    let json = stage.output("receipts", &["--format", "json"]).stdout;
    let json: Value = serde_json::from_slice(&json).expect("JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(3));
    let csv =
        String::from_utf8(stage.output("receipts", &["--format", "csv"]).stdout).expect("text");
    assert!(csv.starts_with("drop,path,"), "{csv}");
}

#[test]
fn a_drop_that_is_all_there_is_deleted_as_a_whole_and_not_before() {
    let mut stage = with(
        "quiet_period = \"50ms\"\nscan_interval = \"300ms\"\ndisposition = \"delete\"\n\
         disposition_grace = \"0s\"\nexclude = [\"*.jpg\"]",
    );
    stage.write("run1/a.txt", b"hello");
    stage.write("run1/deep/b.bin", &noise(3 << 20, 1));
    stage.write("run2/kept.jpg", b"left out");
    stage.write("run2/c.txt", b"c");
    stage.write("alone.txt", b"alone");
    stage.start();
    until("all that arrived is gone, with its directories", || {
        (walk(&stage.drop()).len() == 1 && !stage.drop().join("run1").exists()).then_some(())
    });
    assert!(stage.drop().join("run2/kept.jpg").exists(), "what was left out stays");
    let done = until("the row says so", || {
        run(&stage, "run1").filter(|run| run["disposal"]["done"] == true)
    });
    assert_eq!(done["state"], "completed");
    assert_eq!(stage.count("completed"), 4);
    assert_eq!(stage.lines_of("run-completed").len(), 2);
}

#[test]
fn a_drop_is_moved_after_its_grace_also_when_the_daemon_died_meanwhile() {
    let mut stage = with(
        "quiet_period = \"50ms\"\nscan_interval = \"300ms\"\ndisposition = \"move\"\n\
         move_to = \"away\"\ndisposition_grace = \"3s\"",
    );
    fs::create_dir(stage.path("away")).expect("made");
    stage.write("run1/a.txt", b"hello");
    stage.start();
    let done = until_run(&stage, "run1", "completed");
    assert_eq!(done["disposal"]["done"], false, "the grace has not passed");
    assert!(stage.drop().join("run1/a.txt").exists());
    stage.signal(Signal::KILL);
    stage.wait_for_end();
    stage.start();
    until("it was moved", || (!stage.drop().join("run1").exists()).then_some(()));
    assert_eq!(fs::read(stage.path("away/run1/a.txt")).expect("read"), b"hello");
}

#[test]
fn a_drop_that_changed_since_is_never_disposed_of() {
    let mut stage = Stage::new(Options {
        drop: "quiet_period = \"50ms\"\nscan_interval = \"300ms\"\ndisposition = \"delete\"\n\
            disposition_grace = \"1s\"",
        destination: "when_changed = \"park\"",
        ..Options::default()
    });
    stage.write("run1/a.txt", b"hello");
    stage.write("run1/b.txt", b"b");
    stage.start();
    until_run(&stage, "run1", "completed");
    stage.write("run1/a.txt", b"another, which cannot take the name of the first");
    until("the new version stands in the way", || (stage.count("parked") == 1).then_some(()));
    until("its grace has passed", || run(&stage, "run1").filter(|run| run["disposal"].is_null()));
    assert!(stage.drop().join("run1/a.txt").exists() && stage.drop().join("run1/b.txt").exists());
}

#[test]
fn want_of_free_space_shortens_the_grace_only_where_that_is_allowed() {
    for (allowed, ends) in [("disposition_free_space = \"9000 TB\"", true), ("", false)] {
        let drop = format!(
            "quiet_period = \"50ms\"\nscan_interval = \"300ms\"\ndisposition = \"delete\"\n\
             disposition_grace = \"30d\"\n{allowed}"
        );
        let mut stage = with(Box::leak(drop.into_boxed_str()));
        stage.write("run1/a.txt", b"hello");
        stage.start();
        let done = until_run(&stage, "run1", "completed");
        if ends {
            until("it is disposed of", || (!stage.drop().join("run1").exists()).then_some(()));
        } else {
            assert_eq!(done["disposal"]["done"], false);
            assert!(stage.drop().join("run1/a.txt").exists());
        }
    }
}

#[test]
fn kills_while_sources_are_disposed_of_never_take_a_file_that_is_not_proved() {
    let mut stage = Stage::new(Options {
        drop: "quiet_period = \"50ms\"\nscan_interval = \"200ms\"\ndisposition = \"delete\"\n\
            disposition_grace = \"0s\"",
        transfer: "parts_in_flight = 8",
        destination: "when_name_taken = \"skip-if-same\"",
        ..Options::default()
    });
    let mut contents = std::collections::BTreeMap::new();
    for number in 0..160_u64 {
        let path = format!("run{}/d{}/f{number}", number % 8, number % 5);
        let bytes = noise(2000 + usize::try_from(number).expect("small"), number + 7);
        stage.write(&path, &bytes);
        contents.insert(format!("/runs/{path}"), bytes);
    }
    stage.start();
    let mut kills = 0;
    while !walk(&stage.drop()).is_empty() {
        // The next kill comes when some more files have gone or arrived since the last one.
        let here = || walk(&stage.drop()).len();
        let done = || stage.lines().len() + contents.len() - here();
        let before = done();
        until("something happens", || (done() >= before + 7 || here() == 0).then_some(()));
        stage.signal(Signal::KILL);
        stage.wait_for_end();
        kills += 1;
        assert_proved(&stage, &contents);
        stage.start();
    }
    println!("{kills} kills");
    assert!(kills > 10, "only {kills} kills");
    until("every run is done with", || {
        let runs = stage.status()["runs"].as_array().cloned().unwrap_or_default();
        let is_done = |run: &Value| run["disposal"]["done"] == true;
        (runs.len() == 8 && runs.iter().all(is_done)).then_some(())
    });
    assert_eq!(stage.ledger()["breaches"], serde_json::json!([]));
}

/// Whatever is no longer here is at the destination as it was, and has a receipt.
fn assert_proved(stage: &Stage, contents: &std::collections::BTreeMap<String, Vec<u8>>) {
    let (there, receipts) = (super::witness::objects(stage), stage.receipts());
    for (path, bytes) in contents {
        let name = path.strip_prefix("/runs/").expect("below");
        if stage.drop().join(name).exists() {
            continue;
        }
        let found = there.iter().filter(|(path, content)| path == name && content == bytes);
        assert_eq!(found.count(), 1, "{name} is gone here and not once there");
        let is_of = |line: &&Value| line["path"] == name;
        assert_eq!(
            receipts.iter().filter(is_of).count(),
            1,
            "{name} is gone here and has no receipt"
        );
    }
}

/// A directory that cannot be read holds up its own run, which reports so, and nothing else.
#[test]
fn a_directory_that_cannot_be_read_holds_up_its_own_run_alone() {
    use std::os::unix::fs::PermissionsExt;
    let mut stage = with("quiet_period = \"50ms\"\nscan_interval = \"300ms\"");
    for name in ["run/a", "held/a", "held/closed/b", "private/c"] {
        stage.write(name, name.as_bytes());
    }
    stage.give_away();
    let drop = stage.drop();
    let set = |mode| {
        for name in ["held/closed", "private"] {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(drop.join(name), mode).expect("set");
        }
    };
    set(0o000);
    stage.start();
    until_run(&stage, "run", "completed");
    let reason = until("what it waits for is said", || {
        let held = run(&stage, "held").filter(|run| run["state"] == "open")?;
        held["reason"]["text"]
            .as_str()
            .filter(|said| said.contains("cannot be read"))
            .map(str::to_owned)
    });
    assert!(reason.starts_with("held/closed"), "{reason}");
    set(0o755);
    until_run(&stage, "held", "completed");
    until_run(&stage, "private", "completed");
}

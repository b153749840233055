//! Notices, with the real binary: a program that fails, one that is slow, and a kill in between.

mod mail;
mod receiver;
mod webhook;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::run_states::until_run;
use super::stage::{Options, Stage, noise, until};

const DROP: &str = "quiet_period = \"50ms\"\nscan_interval = \"300ms\"";

/// A stage that runs a program for each notice: it keeps its input as `try.N`, then runs `then`;
/// what `then` does not reject is accepted.
fn stage(on: &str, then: &str) -> Stage {
    let destination = "when_changed = \"park\"";
    stage_with(Options { drop: DROP, destination, ..Options::default() }, on, then)
}

fn stage_with(options: Options, on: &str, then: &str) -> Stage {
    let stage = Stage::new(options);
    let (program, told) = (stage.path("program"), stage.path("told"));
    fs::create_dir(&told).expect("made");
    let script = format!(
        "#!/bin/sh\ncd '{}' || exit 9\ncat > now || exit 9\n\
         n=$(ls | grep -c '^try')\nmv now \"try.$(printf %04d \"$n\")\"\n{then}\n\
         cp \"try.$(printf %04d \"$n\")\" whole && mv whole \"accepted.$(printf %04d \"$n\")\"\n",
        told.display()
    );
    fs::write(&program, script).expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("set");
    let lines = format!("[notify.command]\nrun = [\"{}\"]\non = [{on}]\n", program.display());
    add(&stage, &lines);
    stage
}

/// Adds lines to the configuration.
fn add(stage: &Stage, lines: &str) {
    let mut config = fs::OpenOptions::new().append(true).open(stage.path("config.toml"));
    config.as_mut().expect("opened").write_all(lines.as_bytes()).expect("written");
}

/// Writes a file that only its owner may read, in one step.
fn write_secret(stage: &Stage, name: &str, secret: &str) {
    let beside = stage.path("new.secret");
    fs::write(&beside, format!("{secret}\n")).expect("written");
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o600)).expect("set");
    fs::rename(beside, stage.path(name)).expect("renamed");
}

/// Every message that was kept under a name, in order.
fn kept(stage: &Stage, name: &str) -> Vec<Value> {
    let mut files = super::stage::walk(&stage.path("told"));
    files.retain(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(name)));
    files.sort();
    let read = |path| serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON");
    files.into_iter().map(read).collect()
}

fn until_told(stage: &Stage) {
    until("no notice waits", || (stage.status()["notices"]["waiting"] == 0).then_some(()));
}

#[test]
fn each_completion_is_accepted_once_by_a_program_that_fails_twice_under_one_id() {
    let fails = "[ \"$n\" -ge 2 ] || { echo no mail host >&2; exit 7; }";
    let mut stage = stage("\"run-completed\"", fails);
    stage.write("run1/a.txt", b"hello");
    stage.start();
    let failure =
        until("it says why", || stage.status()["notices"]["failure"].as_str().map(str::to_owned));
    assert!(failure.contains("exit status: 7: no mail host"), "{failure}");
    until("it was accepted", || kept(&stage, "accepted").pop());
    until_told(&stage);
    let tries = kept(&stage, "try");
    assert_eq!(tries.len(), 3, "{tries:?}");
    assert!(tries.iter().all(|told| *told == tries[0]), "the same at each try: {tries:?}");
    let told = &tries[0];
    assert_eq!((&told["schema"], &told["kind"]), (&1.into(), &"run-completed".into()));
    assert_eq!((&told["drop"], &told["name"]), (&"lab".into(), &"run1".into()));
    assert_eq!((&told["file_count"], &told["late_file_count"]), (&1.into(), &0.into()));
    let sentence = "run1 of lab is all at to-sevenbridges: 1 file, 5 B";
    assert_eq!(told["text"], with_head(&stage, "run1", sentence));
    let line = &stage.lines_of("run-completed")[0];
    let head = &told["ledger"];
    assert_eq!((&head["sha256"], &head["count"]), (&line["sha256"], &line["seq"]));
    assert_eq!(head["name"], "lab/run1.jsonl");
    assert!(told["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{told}");

    stage.write("run1/late.txt", b"late");
    until("it was told of late files", || kept(&stage, "accepted").into_iter().nth(1));
    until_run(&stage, "run1", "completed");
    until_told(&stage);
    let accepted = kept(&stage, "accepted");
    assert_eq!(accepted.len(), 2, "one message for each fact: {accepted:?}");
    assert_eq!(accepted[1]["late_file_count"], 1);
    assert_ne!(accepted[0]["id"], accepted[1]["id"]);
}

#[test]
fn a_program_that_never_succeeds_holds_nothing_up_and_status_says_so() {
    let mut stage = stage("\"run-completed\", \"parked\"", "echo closed; exit 1");
    stage.write("run1/a.txt", b"hello");
    stage.start();
    until_run(&stage, "run1", "completed");
    until("it was tried", || kept(&stage, "try").pop());
    stage.write("run2/b.txt", b"world");
    until_run(&stage, "run2", "completed");
    stage.assert_all_there();
    until("both wait", || (stage.status()["notices"]["waiting"] == 2).then_some(()));
    let matter = stage.status()["attention"][0].clone();
    assert_eq!((&matter["code"], &matter["count"]), (&"notices-waiting".into(), &2.into()));
    let text = String::from_utf8(stage.output("status", &[]).stdout).expect("text");
    assert!(text.contains("! notices wait for a channel") && text.contains(": closed"), "{text}");
    assert_eq!(stage.output("status", &["--check"]).status.code(), Some(6));
    let tries = kept(&stage, "try");
    assert!(tries.iter().all(|told| told["name"] == "run1"), "in order: {tries:?}");
}

#[test]
fn forty_parked_files_are_one_message_at_once_and_one_that_waits_for_the_pause() {
    let mut stage = stage("\"parked\"", "");
    for number in 0..40 {
        stage.write(&format!("run1/{number}.txt"), b"first");
    }
    stage.start();
    stage.until_count("completed", 40);
    for number in 0..40 {
        stage.write(&format!("run1/{number}.txt"), b"another, which stands in its own way");
    }
    stage.until_count("parked", 40);
    let told = until("the first is sent", || kept(&stage, "accepted").pop());
    let first = told["count"].as_u64().expect("a count");
    assert_eq!(told["reason"], "name-taken");
    assert_eq!(told["paths"].as_array().map(Vec::len), usize::try_from(first).ok());
    let waiting = stage.status()["notices"]["waiting"].as_u64();
    assert_eq!(waiting, Some(u64::from(first < 40)), "all others are one message");
    assert_eq!(kept(&stage, "accepted").len(), 1, "which is not sent within the pause");
}

#[test]
fn a_notice_that_was_taken_and_not_marked_is_sent_again_with_its_id() {
    // The first run takes the message and does not end.
    let slow = "[ \"$n\" -ge 1 ] || { cp try.0000 whole; mv whole accepted.first; exec sleep 20; }";
    let mut stage = stage("\"run-completed\"", slow);
    stage.write("run1/a.txt", b"hello");
    stage.start();
    let first = until("it was taken", || kept(&stage, "accepted.first").pop());
    stage.signal(Signal::KILL);
    stage.wait_for_end();
    assert_eq!(stage.status()["notices"]["waiting"], 1, "it was not marked");
    stage.start();
    until_told(&stage);
    let tries = kept(&stage, "try");
    assert_eq!(tries, [first.clone(), first], "again, and the same");
}

/// A file at S3 in which a call is refused for ever is told of after `stuck_after` and needs a person,
/// and is still tried.
fn is_told_of_until_it_arrives(options: Options, bytes: &[u8], refused: &Value, said: &str) {
    let options = Options { platforms: &["s3"], drop: DROP, ..options };
    let mut stage = stage_with(options, "\"upload-stuck\"", "");
    add(&stage, "[notify]\nstuck_after = \"1s\"\n");
    stage.tell("faults", &json!([refused]).to_string());
    stage.write("run1/a.txt", bytes);
    stage.start();
    let told = until("it is told", || kept(&stage, "accepted").pop());
    assert_eq!((&told["kind"], &told["name"]), (&"upload-stuck".into(), &"run1/a.txt".into()));
    let attention = until("it needs a person", || {
        stage.status()["attention"].as_array().and_then(|matters| matters.first()).cloned()
    });
    assert_eq!((&attention["code"], &attention["what"]), (&"upload-stuck".into(), &"to-s3".into()));
    assert!(attention["text"].as_str().is_some_and(|text| text.contains(said)), "{attention}");
    assert!(attention["cure"].as_str().is_some_and(|cure| !cure.is_empty()), "{attention}");
    let check = || stage.output("status", &["--check"]).status.code();
    assert_eq!(check(), Some(6));
    assert_eq!(stage.count("parked"), 0, "it is still tried");
    assert!(!stage.status()["uploads"][0]["retry_at"].is_null(), "{}", stage.status());
    stage.tell("faults", "[]");
    assert!(stage.output("retry", &["--all"]).status.success());
    stage.until_count("completed", 1);
    assert_eq!((check(), &stage.status()["attention"]), (Some(0), &json!([])));
    assert_eq!(kept(&stage, "accepted").len(), 1, "once a day");
}

fn refusal(operation: &str, code: &str) -> Value {
    let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
    let action = json!({"answer": {"status": 403, "body": body}});
    json!({"operation": operation, "times": 0, "action": action})
}

#[test]
fn what_is_tried_in_vain_for_stuck_after_is_told_of_and_needs_a_person_until_it_arrives() {
    let full = refusal("put-object", "QuotaExceeded");
    is_told_of_until_it_arrives(Options::default(), b"hello", &full, "QuotaExceeded");
}

#[test]
fn what_is_there_and_may_not_be_looked_at_is_told_of_where_no_digest_proves_it() {
    let (transfer, switches) = ("part_size = \"1 MiB\"", "{\"storage_etag\": \"kms\"}");
    let options = Options { transfer, switches, ..Options::default() };
    let hidden = refusal("head", "AccessDenied");
    let said = "to show the object (s3:GetObject)";
    is_told_of_until_it_arrives(options, &noise(3 << 20, 1), &hidden, said);
}

/// The notice that a run is complete ends with the head of its ledger.
fn with_head(stage: &Stage, run: &str, sentence: &str) -> String {
    let lines = stage.lines_of("run-completed");
    let line = lines.iter().find(|line| line["run"] == run).expect("it is completed");
    let sha256 = line["sha256"].as_str().expect("a text");
    format!("{sentence}; head of its ledger: line {}, {sha256}", line["seq"])
}

#[test]
fn a_test_message_is_sent_on_request_and_what_was_answered_is_said() {
    let stage = stage("\"parked\"", ":");
    let receiver = receiver::Receiver::new(|_, _| receiver::Reply::Status(403));
    write_secret(&stage, "hook.url", &format!("http://127.0.0.1:{}/hook", receiver.port));
    add(&stage, "[notify.webhook]\nurl_file = \"hook.url\"\non = [\"parked\"]\n");
    let tried = |channel: &[&str]| {
        let output = stage.output("notify", &[&["--test"], channel].concat());
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let (code, said) = tried(&["command"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("command: accepted (") && said.contains("exit status: 0"), "{said}");
    let [message] = &kept(&stage, "accepted")[..] else { panic!("one message") };
    assert_eq!(message["kind"], "test");
    let (code, said) = tried(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("webhook: not accepted: the webhook refuses the notice"), "{said}");
    let (code, said) = tried(&["webhok"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("there is no channel webhok") && said.contains("\"webhook\"?"), "{said}");
}

/// A file that is written again and again keeps its run open, in a profile with markers and in one
/// without: the status names that file, and after `stale_after` so does a notice.
#[test]
fn a_file_that_never_rests_is_named_as_what_keeps_its_run_open() {
    let runs = [
        ("illumina", "260301_A00123_0001_AHXX", "Logs/run.log"),
        ("mgi", "V350012345", "L01/BioInfo.csv"),
        ("plain", "run1", "deep/series.csv"),
    ];
    for (profile, run, file) in runs {
        let drop = format!(
            "profile = \"{profile}\"\nquiet_period = \"1s\"\nscan_interval = \"300ms\"\nstale_after = \"6s\""
        );
        let options = Options { drop: Box::leak(drop.into_boxed_str()), ..Options::default() };
        let mut stage = stage_with(options, "\"run-stale\"", "");
        stage.write(&format!("{run}/RunInfo.xml"), b"<RunInfo><Run Id=\"x\"/></RunInfo>");
        for marker in ["RTAComplete.txt", "CopyComplete.txt"] {
            stage.write(&format!("{run}/{marker}"), b"");
        }
        stage.start();
        let mut content = Vec::new();
        let shown = |stage: &Stage| {
            content.push(b'x');
            let place = stage.drop().join(run).join(file);
            fs::create_dir_all(place.parent().expect("below")).expect("made");
            fs::write(place, &content).expect("written");
            stage.status()
        };
        let shown = std::cell::RefCell::new(shown);
        let wanted = format!("{file} still changes");
        let reason = until(&format!("{profile}: it is named"), || {
            let reason = shown.borrow_mut()(&stage)["runs"][0]["reason"].clone();
            reason["text"].as_str()?.starts_with(&wanted).then_some(reason)
        });
        assert_eq!(reason["code"], "still-changing");
        assert!(reason["cure"].as_str().is_some_and(|cure| cure.contains("exclude")), "{reason}");
        let matter = until(&format!("{profile}: it needs someone"), || {
            let status = shown.borrow_mut()(&stage);
            let matters = status["attention"].as_array()?.clone();
            matters.into_iter().find(|matter| matter["code"] == "run-stale")
        });
        assert_eq!(matter["what"], format!("lab/{run}"));
        assert!(matter["text"].as_str().is_some_and(|text| text.contains(&wanted)), "{matter}");
        assert_eq!(stage.output("status", &["--check"]).status.code(), Some(6));
        let notice = until(&format!("{profile}: people are notified"), || {
            shown.borrow_mut()(&stage);
            kept(&stage, "accepted").pop()
        });
        assert_eq!((&notice["kind"], &notice["name"]), (&"run-stale".into(), &run.into()));
        assert!(notice["reason"].as_str().is_some_and(|why| why.contains(&wanted)), "{notice}");
        until_run(&stage, run, "completed");
        assert_eq!(stage.status()["attention"], json!([]));
    }
}

/// At the moment of the rename its files are read under their first names, which are gone.
#[test]
fn a_run_that_is_renamed_while_its_parts_are_read_parks_nothing_and_notifies_of_its_end_alone() {
    let transfer = "parts_in_flight = 2\nbandwidth = \"4 MB/s\"";
    let options = Options { drop: DROP, transfer, platforms: &["s3"], ..Options::default() };
    let mut stage = stage_with(options, "\"run-completed\", \"parked\", \"upload-stuck\"", "");
    for number in 0..12 {
        stage.write(&format!("run1/{number}"), &super::stage::noise(1_000_000, number + 1));
    }
    stage.start();
    let at = |name: &str| stage.drop().join(name);
    for (from, to, done) in [("run1", "run1_X", 1), ("run1_X", "run1_Y", 4), ("run1_Y", "Z", 7)] {
        until("some of it is there", || (stage.count("completed") >= done).then_some(()));
        fs::rename(at(from), at(to)).expect("renamed");
    }
    until_run(&stage, "run1", "completed");
    until_told(&stage);
    let told = kept(&stage, "accepted");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((&told[0]["kind"], &told[0]["file_count"]), (&"run-completed".into(), &12.into()));
    assert_eq!(stage.files().len(), 12, "each once");
    assert_eq!(stage.ledger()["breaches"], json!([]));
}

/// Cells end one after the other; a file beside them belongs to none.
#[test]
fn a_pacbio_run_is_notified_of_once_all_of_its_cells_are_there_and_is_no_run_itself() {
    use super::sequencer::{Instrument, Phase, Player, Run, expected};
    let drop = "profile = \"pacbio\"\nquiet_period = \"50ms\"\nscan_interval = \"300ms\"";
    let options = Options { drop, ..Options::default() };
    let mut stage = stage_with(options, "\"run-completed\"", "");
    let run = Run::new(Instrument::Revio, 11);
    let cells: Vec<_> = expected(&run).units.into_iter().map(|unit| unit.name).collect();
    let (folder, _) = cells[0].split_once('/').expect("below the run");
    let root = stage.drop();
    let mut player = Player::new(&run, &root);
    player.until_phase(Phase::Late);
    stage.write(&format!("{folder}/run.metadata.xml"), b"<r/>");
    stage.start();
    until_run(&stage, &cells[0], "completed");
    until_told(&stage);
    let names = |stage: &Stage| -> Vec<_> {
        kept(stage, "accepted").iter().map(|told| told["name"].clone()).collect()
    };
    assert_eq!(names(&stage), [&*cells[0]], "the second cell is not there");
    player.finish();
    until_run(&stage, &cells[1], "completed");
    until("all three are told", || (names(&stage).len() == 3).then_some(()));
    assert_eq!(names(&stage), [&*cells[0], &*cells[1], folder]);
    let runs = stage.status()["runs"].as_array().expect("a list").clone();
    assert_eq!(runs.len(), 2, "{runs:#?}");
}

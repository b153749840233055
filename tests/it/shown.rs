//! Output that was wrong in the past: each situation is made with the real binary, and its output is read.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Output;

use serde_json::{Value, json};

use super::disposal::object;
use super::run_states::until_run;
use super::stage::{Options, Stage, noise, until};
use super::web::{address_of, get};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn uploads(status: &Value) -> &Vec<Value> {
    status["uploads"].as_array().expect("a list")
}

#[test]
fn of_large_files_on_a_slow_line_those_that_are_begun_are_finished_first() {
    let mut stage = Stage::new(Options {
        transfer: "parts_in_flight = 12\nbandwidth = \"1 MB/s\"\npart_size = \"64 KiB\"",
        switches: "{\"part_size\": 65536}",
        ..Options::default()
    });
    for number in 0..12 {
        stage.write(&format!("run/{number:02}"), &noise(300_000 + 20_000 * number, number as u64));
    }
    stage.start();
    let mut begun_max = 0;
    until("all are there", || {
        let status = stage.status();
        let is_begun = |upload: &&Value| {
            upload["state"] == "sending" && upload["accepted_bytes"] != upload["size_bytes"]
        };
        begun_max = begun_max.max(uploads(&status).iter().filter(is_begun).count());
        (status["counts"]["completed"] == 12).then_some(())
    });
    // The uploads that were begun have at most two parts for each of the twelve places in flight.
    assert!((1..=8).contains(&begun_max), "{begun_max} of 12 were begun at once");
    stage.assert_all_there();
}

#[test]
fn small_files_that_go_in_one_request_are_sending_while_they_go() {
    let mut stage = Stage::new(Options {
        platforms: &["s3"],
        network: "inactivity_timeout = \"300s\"",
        transfer: "parts_in_flight = 4",
        ..Options::default()
    });
    let stall = json!([{"operation": "put-object", "times": 0, "action": {"stall": 300_000}}]);
    stage.tell("faults", &stall.to_string());
    for number in 0..40 {
        stage.write(&format!("run/{number}"), &noise(5000, number));
    }
    stage.start();
    let status = until("four are in flight", || {
        let status = stage.status();
        (status["counts"]["sending"] == 4 && status["counts"]["queued"] == 36).then_some(status)
    });
    let sending = uploads(&status).iter().filter(|upload| upload["state"] == "sending");
    let in_flight: Vec<_> = sending.map(|upload| &upload["in_flight_bytes"]).collect();
    assert_eq!(in_flight, [&json!(5000); 4]);
    let said = text(&stage.output("status", &[]));
    assert!(said.contains("36 queued, 4 sending"), "{said}");
}

#[test]
fn a_name_is_asked_for_as_it_is_shown() {
    let mut stage = Stage::new(Options::default());
    let names: [&[u8]; 5] = [b"back\\slash", b"new\nline", b"\x1b[31m", b"\xff\xfe", b"it's"];
    fs::create_dir(stage.drop().join("run")).expect("made");
    for name in names {
        fs::write(stage.drop().join("run").join(OsStr::from_bytes(name)), name).expect("written");
    }
    stage.start();
    stage.until_count("completed", 5);
    for upload in uploads(&stage.status()) {
        let path = upload["path"].as_str().expect("a path");
        let shown = stage.output("show", &[&format!("lab/{path}"), "--json"]);
        let found: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
        assert_eq!(found[0]["id"], upload["id"], "{path}");
        let short = path.strip_prefix("run/").expect("below its run");
        assert!(stage.output("show", &[short]).status.success(), "{short}");
    }
    let nothing = stage.output("show", &["run/back\\\\slush"]);
    assert_eq!(nothing.status.code(), Some(1));
}

#[test]
fn a_run_is_asked_for_as_it_is_shown_by_every_command_and_has_a_page() {
    let mut stage = Stage::new(Options { web: "127.0.0.1:0", ..Options::default() });
    let names: [&[u8]; 6] =
        [b"back\\slash", b"new\nline", b"r\xff\xfe", b"a\xffb\\x01", b"r[1]", b"it's"];
    for name in names {
        let run = stage.drop().join(OsStr::from_bytes(name));
        fs::create_dir(&run).expect("made");
        fs::write(run.join("a"), name).expect("written");
    }
    stage.start();
    stage.until_count("completed", 6);
    let address = address_of(&stage);
    let status = stage.status();
    let runs = status["runs"].as_array().expect("a list");
    assert_eq!(runs.len(), 6, "{runs:#?}");
    for run in runs {
        let name = run["name"].as_str().expect("a name");
        for word in [name.to_owned(), format!("lab/{name}")] {
            for command in ["status", "show", "wait", "receipts", "retry"] {
                let output = stage.output(command, &[&word]);
                assert!(output.status.success(), "{command} {word}: {output:?}");
            }
        }
        let of: Value = serde_json::from_slice(&stage.output("status", &[name, "--json"]).stdout)
            .expect("JSON");
        assert_eq!(
            (&of["runs"][0]["name"], of["runs"].as_array().map(Vec::len)),
            (&json!(name), Some(1))
        );
        let path: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let (code, page) = get(&address, &format!("/api/runs/lab/{path}"));
        assert_eq!(code, 200, "{name}: {page}");
        assert!(page.contains(&json!(name).to_string()), "{name}: {page}");
    }
}

#[test]
fn a_file_that_was_removed_before_its_turn_is_said_to_be_gone() {
    let mut stage = Stage::new(Options::default());
    stage.start();
    until("it takes orders", || {
        stage.output("pause", &["to-sevenbridges"]).status.success().then_some(())
    });
    stage.write("run/a", &noise(70_000, 3));
    stage.until_count("waiting", 1);
    assert_eq!(uploads(&stage.status())[0]["reason"]["code"], "paused");
    fs::remove_file(stage.drop().join("run/a")).expect("removed");
    stage.until_count("abandoned", 1);
    let reason = uploads(&stage.status())[0]["reason"].clone();
    assert_eq!(reason["code"], "source-gone");
    assert_eq!(reason["text"], "the file was removed or moved before anything was sent");
}

#[test]
fn what_a_halted_destination_holds_up_waits_and_is_in_no_time_left() {
    let mut stage = Stage::new(Options {
        platforms: &["sevenbridges", "s3"],
        transfer: "parts_in_flight = 4\nbandwidth = \"300 kB/s\"",
        ..Options::default()
    });
    stage.start();
    stage.write("run/small", b"small");
    stage.until_count("completed", 2);
    stage.tell("switches", "{\"token_revoked\": true}");
    stage.write("run/large", &noise(6 << 20, 3));
    let status = until("one is halted, and one goes on", || {
        let status = stage.status();
        let rates = status["runs"][0]["destinations"].as_array().cloned().unwrap_or_default();
        let goes =
            rates.iter().any(|to| to["name"] == "to-s3" && to["seconds_left"].as_u64() > Some(0));
        (goes && status["counts"]["waiting"] == 1).then_some(status)
    });
    let held = uploads(&status).iter().find(|upload| upload["state"] == "waiting").expect("one");
    assert_eq!(
        (&held["destination"], &held["reason"]["code"]),
        (&json!("to-sevenbridges"), &json!("destination-halted"))
    );
    assert!(held["reason"]["cure"].is_string(), "{held}");
    let of = |name: &str| {
        let to = status["runs"][0]["destinations"].as_array().expect("a list").iter();
        to.clone().find(|to| to["name"] == name).expect("one").clone()
    };
    assert!(of("to-sevenbridges")["seconds_left"].is_null());
    assert!(status["bytes"]["seconds_left"].is_null(), "{}", status["bytes"]);
    let said = text(&stage.output("status", &[]));
    assert!(said.starts_with("1 thing needs someone"), "{said}");
    assert!(!said.lines().next().is_some_and(|line| line.contains("left")), "{said}");
}

#[test]
fn behind_a_portal_nothing_is_ok_and_uploads_wait_with_its_words() {
    let mut stage = Stage::new(Options::default());
    stage.start();
    stage.write("run/a", b"a");
    stage.until_count("completed", 1);
    let portal = json!([{"operation": "any", "times": 0, "action": {"html": 200}}]);
    stage.tell("faults", &portal.to_string());
    stage.write("run/b", &noise(70_000, 3));
    let status = until("it waits", || {
        let status = stage.status();
        (status["counts"]["waiting"] == 1).then_some(status)
    });
    let upload = uploads(&status).iter().find(|upload| upload["state"] == "waiting").expect("one");
    let reason = upload["reason"]["text"].as_str().expect("a text");
    assert!(reason.contains("web page"), "{reason}");
    assert_eq!(status["bytes"]["seconds_left"], Value::Null);
}

#[test]
fn an_outage_is_said_with_its_age_and_what_ends_it_at_once() {
    let mut stage = Stage::new(Options::default());
    stage.start();
    stage.write("run/a", b"a");
    stage.until_count("completed", 1);
    stage.revive("{\"down\": true}");
    stage.write("run/b", &noise(70_000, 3));
    let said = until("it is said", || {
        let said = text(&stage.output("status", &[]));
        let words = [" is unreachable for ", "at once: dropferry retry to-"];
        let said = said.replace("\n    ", " ");
        words.iter().all(|word| said.contains(word)).then_some(said)
    });
    assert!(said.starts_with("nothing needs someone; it waits, and goes on by itself"), "{said}");
    stage.revive("{}");
    assert!(stage.output("retry", &["to-sevenbridges"]).status.success());
    stage.until_count("completed", 2);
    let said = text(&stage.output("status", &[]));
    assert!(said.starts_with("all well"), "{said}");
}

#[test]
fn what_was_there_without_being_sent_has_all_its_parts() {
    let mut stage = Stage::new(Options {
        transfer: "parts_in_flight = 4",
        switches: "{\"part_size\": 65536}",
        ..Options::default()
    });
    stage.write("run/a", &noise(200_000, 3));
    stage.start();
    stage.until_count("completed", 1);
    stage.kill();
    fs::remove_dir_all(stage.path("state")).expect("removed");
    stage.start();
    stage.until_count("completed", 1);
    let upload = uploads(&stage.status())[0].clone();
    assert_eq!(upload["accepted_bytes"], 200_000);
    assert_eq!(upload["accepted_part_count"], upload["part_count"]);
    assert_eq!(stage.files().len(), 1, "it was not sent again");
}

#[test]
fn an_order_that_comes_while_the_daemon_starts_waits_for_it() {
    let mut stage = Stage::new(Options::default());
    for _ in 0..5 {
        stage.start();
        until("it is said to run", || (stage.status()["daemon"]["running"] == true).then_some(()));
        let paused = stage.output("pause", &["--all"]);
        assert!(paused.status.success(), "{}", String::from_utf8_lossy(&paused.stderr));
        stage.kill();
    }
}

#[test]
fn a_path_that_is_too_long_is_said_and_holds_up_nothing_else() {
    let mut stage = Stage::new(Options::default());
    let mut directory = fs::File::open(stage.drop()).expect("it opens");
    let name = "d".repeat(200);
    for _ in 0..25 {
        rustix::fs::mkdirat(&directory, &*name, rustix::fs::Mode::from(0o755)).expect("made");
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        let below = rustix::fs::openat(&directory, &*name, flags, rustix::fs::Mode::empty());
        directory = fs::File::from(below.expect("it opens"));
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    rustix::fs::openat(&directory, "deep", flags, rustix::fs::Mode::from(0o644)).expect("made");
    stage.write("run/a", b"a");
    stage.start();
    stage.until_count("completed", 1);
    let drop = until("it was scanned", || {
        let drop = stage.status()["drops"][0].clone();
        (!drop["reason"].is_null() || !drop["last_full_scan_at"].is_null()).then_some(drop)
    });
    let said = format!("{drop} {}", stage.status()["ignored"]);
    assert!(said.contains("too long"), "{said}");
}

#[test]
fn a_complete_answer_that_names_another_file_is_said_as_what_it_is() {
    for (is_known, state, code, text) in [
        (
            true,
            "parked",
            "size-differs",
            "the file at the destination has another size than the source",
        ),
        (false, "waiting", "retrying", "(not-found, status 404"),
    ] {
        let mut stage = Stage::new(Options::default());
        stage.write("run/first", b"first");
        stage.start();
        stage.until_count("completed", 1);
        let first = uploads(&stage.status())[0]["remote_id"].clone();
        let id = if is_known { first } else { json!("0123456789abcdef01234567") };
        let body = json!({"id": id, "name": "first", "size": 6, "project": "lab/demo"});
        let action = json!({"answer": {"status": 200, "headers": {}, "body": body}});
        let fault = json!([{"operation": "complete", "times": 0, "action": action}]);
        stage.tell("faults", &fault.to_string());
        stage.write("run/second", b"second");
        stage.until_count(state, 1);
        let status = stage.status();
        let upload = uploads(&status).iter().find(|upload| upload["state"] == state).expect("one");
        assert_eq!(
            (&upload["path"], &upload["reason"]["code"]),
            (&json!("run/second"), &json!(code))
        );
        assert!(
            upload["reason"]["text"].as_str().is_some_and(|said| said.contains(text)),
            "{upload}"
        );
        let said = text_of(&stage);
        assert!(said.contains(text) && !said.contains("project or folder"), "{said}");
    }
}

fn text_of(stage: &Stage) -> String {
    text(&stage.output("status", &[])).replace("\n      ", " ").replace("\n    ", " ")
}

#[test]
fn a_key_that_is_too_long_is_refused_by_this_program_and_said_so() {
    let mut stage = Stage::new(Options { platforms: &["s3"], ..Options::default() });
    let name = format!("run/{}f", format!("{}/", "d".repeat(200)).repeat(6));
    stage.write(&name, b"deep");
    stage.write("run/a", b"a");
    let planned = text(&stage.output("plan", &[]));
    let why = "the platform cannot carry this name: its path there is too long";
    assert!(planned.contains(&format!("f cannot go to to-s3: {why}")), "{planned}");
    stage.start();
    stage.until_count("completed", 1);
    stage.until_count("parked", 1);
    let status = stage.status();
    let upload = uploads(&status).iter().find(|upload| upload["state"] == "parked").expect("one");
    assert_eq!(upload["reason"]["code"], "name-not-allowed");
    let cure = "shorten the path of the file, or the folder or prefix in [destinations.NAME]";
    assert_eq!((&upload["reason"]["text"], &upload["reason"]["cure"]), (&json!(why), &json!(cure)));
    let said = text_of(&stage);
    assert!(said.contains(why) && said.contains("shorten the path"), "{said}");
    assert_eq!(stage.files().len(), 1);
}

#[test]
fn a_sentinel_takes_the_name_of_nobody_elses_object_and_says_so() {
    let mut stage = Stage::new(Options {
        platforms: &["s3"],
        drop: "quiet_period = \"50ms\"\nscan_interval = \"300ms\"\nsentinel = \"ALL.json\"",
        ..Options::default()
    });
    object(&stage, "run1/ALL.json", Some("of somebody else"));
    stage.write("run1/a", b"a");
    stage.start();
    until_run(&stage, "run1", "completed");
    stage.until_count("parked", 1);
    let status = stage.status();
    let sentinel = uploads(&status).iter().find(|upload| upload["state"] == "parked").expect("one");
    assert_eq!(sentinel["reason"]["code"], "name-taken", "{sentinel}");
    assert_eq!(status["attention"][0]["code"], "parked");
    let said = text_of(&stage);
    assert!(said.starts_with("1 thing needs someone") && said.contains("--overwrite"), "{said}");
    let files = stage.files();
    let there = files.iter().find(|file| file["name"] == "ALL.json").expect("it is there");
    assert_eq!(there["size"], 16, "{there}");
}

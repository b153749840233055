//! What is shown is true at the moment of asking: `status`, `show`, `wait` and the page's JSON.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use dropferry::testing::clock::Clock;
use serde_json::{Value, json};

use super::stage::{Options, Stage, noise, until};

/// The contract's example: every field with its name.
const CONTRACT: &str = r#"{"schema": 2, "host": "seq-07",
 "daemon": {"running": true, "version": "0.2.0", "pid": 4711, "started_at": "2026"},
 "drops": [{"name": "novaseq", "directory": "/data/novaseq", "watch": "events", "last_full_scan_at": "2026", "reason": null}],
 "destinations": [{"name": "cavatica", "platform": "sevenbridges", "state": "ok", "reason": null, "since": "2026", "next_try_at": null, "rate_per_second": 10, "parts_in_flight": 4}],
 "counts": {"settling": 0, "queued": 3, "sending": 2, "waiting": 0, "completed": 120, "parked": 0, "ignored": 4, "abandoned": 0},
 "bytes": {"total": 123, "accepted": 100, "in_flight": 5, "rate_per_second": 10, "seconds_left": null, "sent_again": 0},
 "runs": [{"drop": "novaseq", "name": "251128", "state": "open", "reason": null,
   "file_count": 15, "file_bytes": 140, "last_activity_at": "2026", "opened_at": "2026", "closed_at": null, "completed_at": null, "held_by": null,
   "stale": false, "wave_count": 0,
   "destinations": [{"name": "cavatica", "file_count": 15, "completed_count": 9, "parked_count": 0, "bytes": 140, "accepted_bytes": 100,
     "rate_per_second": 10, "seconds_left": null, "url": null}]}],
 "uploads": [{"id": 17, "drop": "novaseq", "run": "251128", "path": "run1/a.fastq.gz", "path_bytes": null, "destination": "cavatica", "state": "sending",
   "reason": {"code": "a", "text": "b", "cure": null}, "size_bytes": 123, "accepted_bytes": 100, "in_flight_bytes": 5, "part_size_bytes": 64, "part_count": 2,
   "accepted_part_count": 1, "attempt_count": 0, "sent_again_bytes": 0, "retry_at": null, "remote_id": null, "completed_at": null}],
 "attention": [{"code": "parked", "text": "b", "cure": null, "count": 3, "what": "novaseq/run1"}]}"#;

/// Lists the fields of the contract that a status lacks or has with another type. A field that is
/// null in the contract may have any type.
fn lacking(contract: &Value, status: &Value, at: &str, lacks: &mut Vec<String>) {
    match (contract, status) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (name, wanted) in wanted {
                match found.get(name) {
                    Some(found) => lacking(wanted, found, &format!("{at}.{name}"), lacks),
                    None => lacks.push(format!("{at}.{name}")),
                }
            }
        }
        (Value::Array(wanted), Value::Array(found)) => {
            found.iter().for_each(|found| lacking(&wanted[0], found, at, lacks));
        }
        (Value::Null, _) | (Value::Bool(_), Value::Bool(_)) => {}
        (Value::Number(_), Value::Number(_)) | (Value::String(_), Value::String(_)) => {}
        (wanted, found) => lacks.push(format!("{at}: {found} in place of {wanted}")),
    }
}

fn assert_fits_contract(status: &Value, absent: &[&str]) {
    let contract: Value = serde_json::from_str(CONTRACT).expect("JSON");
    let mut lacks = Vec::new();
    lacking(&contract, status, "", &mut lacks);
    lacks.retain(|lack| !absent.iter().any(|absent| lack.starts_with(absent)));
    assert!(lacks.is_empty(), "{lacks:#?} in {status:#}");
}

/// A stage with one file sent, one parked and one under way, which moves on slowly.
fn busy() -> Stage {
    let mut stage = Stage::new(Options {
        transfer: "parts_in_flight = 2\nbandwidth = \"300 kB/s\"",
        switches: "{\"part_size\": 1048576}",
        ..Options::default()
    });
    // Both from the start: the run is not complete before the large one is there.
    stage.write("run/small", b"small");
    stage.write("run/large", &noise(12 << 20, 3));
    stage.start();
    stage.until_count("completed", 1);
    stage
}

fn sending(stage: &Stage) -> Value {
    until("bytes are on their way", || {
        let status = stage.status();
        let rate = status["bytes"]["rate_per_second"].as_u64()?;
        let run = &status["runs"][0]["destinations"][0];
        (rate > 0 && run["in_flight_bytes"].as_u64()? > 0 && status["bytes"]["in_flight"] != 0)
            .then_some(status)
    })
}

#[test]
fn a_status_has_every_field_of_the_contract_whether_the_daemon_runs_or_not() {
    let mut stage = busy();
    let status = sending(&stage);
    // Reasons and attention are present only when there is something to report.
    let absent = [".uploads.reason:"];
    assert_fits_contract(&status, &absent);
    assert_eq!(status["schema"], 2);
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert_eq!(status["host"], json!(node));
    stage.kill();
    let stopped = stage.status();
    assert_fits_contract(&stopped, &[absent[0], ".daemon.pid"]);
    assert_eq!(
        (&stopped["daemon"]["running"], &stopped["daemon"]["pid"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(stopped["bytes"]["rate_per_second"], 0);
    assert_eq!(stopped["bytes"]["in_flight"], 0);
    assert!(stopped["bytes"]["sent_again"].as_u64() > Some(0), "what was in flight is sent again");
    assert!(stopped["bytes"]["seconds_left"].is_null());
    let check = stage.output("status", &["--check"]);
    assert_eq!(check.status.code(), Some(5), "a daemon that does not run");
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.starts_with("dropferry is not running: nothing is sent"), "{said}");
    assert_eq!(stage.output("wait", &["run"]).status.code(), Some(5));
}

#[test]
fn a_rate_and_a_time_left_are_of_this_moment_and_end_with_the_last_byte() {
    let stage = busy();
    let status = sending(&stage);
    let (bytes, run) = (&status["bytes"], &status["runs"][0]["destinations"][0]);
    let rate = bytes["rate_per_second"].as_u64().expect("a rate");
    assert!(rate < 4 << 20, "{rate} of 300 kB/s and what buffers take");
    assert_eq!(&status["destinations"][0]["rate_per_second"], &run["rate_per_second"]);
    assert!(status["destinations"][0]["parts_in_flight"].as_u64() >= Some(1), "{status}");
    assert!(bytes["seconds_left"].as_u64() > Some(0) && run["seconds_left"].is_u64(), "{status}");
    assert!(stage.output("bandwidth", &["unlimited"]).status.success());
    stage.until_count("completed", 2);
    let clock = Clock::real();
    let status = until("the rate is zero", || {
        let status = stage.status();
        (status["bytes"]["rate_per_second"] == 0).then_some(status)
    });
    let took = clock.now().monotonic.0;
    assert!(took < Duration::from_secs(6), "{took:?} after the last byte");
    assert_eq!(status["bytes"]["seconds_left"], 0);
    assert_eq!(status["runs"][0]["destinations"][0]["seconds_left"], 0);
    let text = String::from_utf8_lossy(&stage.output("status", &[]).stdout).into_owned();
    assert!(!text.contains("left") && !text.contains("/s"), "{text}");
    stage.assert_all_there();
}

#[test]
fn in_an_outage_uploads_wait_with_the_reason_and_nothing_moves() {
    let mut stage = busy();
    sending(&stage);
    stage.revive("{\"down\": true, \"part_size\": 1048576}");
    let status = until("the outage is known", || {
        let status = stage.status();
        (status["destinations"][0]["state"] == "unreachable").then_some(status)
    });
    let upload = &status["uploads"][0];
    assert_eq!((&upload["state"], &upload["path"]), (&json!("waiting"), &json!("run/large")));
    assert_eq!(upload["reason"]["code"], "destination-unreachable");
    assert!(upload["reason"]["text"].as_str() > Some("") && upload["reason"]["cure"].is_string());
    let counts = &status["counts"];
    assert_eq!((&counts["sending"], &counts["waiting"]), (&json!(0), &json!(1)));
    assert!(status["bytes"]["seconds_left"].is_null(), "{}", status["bytes"]);
    assert!(status["runs"][0]["destinations"][0]["seconds_left"].is_null());
    until("the rate is zero", || (stage.status()["bytes"]["rate_per_second"] == 0).then_some(()));
    let text = String::from_utf8_lossy(&stage.output("status", &[]).stdout).into_owned();
    assert!(text.starts_with("nothing needs someone; it waits, and goes on by itself\n"), "{text}");
    assert!(text.contains("at once: dropferry retry to-sevenbridges"), "{text}");
    assert_eq!(stage.output("status", &["--check"]).status.code(), Some(0), "it has worked before");
}

#[test]
fn a_destination_is_asked_at_once_and_after_a_reload_although_nothing_is_to_be_sent() {
    let mut stage = Stage::new(Options::default());
    stage.write_token("00000000000000000000000000000000");
    stage.start();
    let halted = || {
        let status = stage.status();
        (status["destinations"][0]["state"] == "halted").then_some(status)
    };
    let status = until("it is halted", halted);
    assert_eq!(status["destinations"][0]["reason"]["code"], "destination-halted");
    assert_eq!(status["attention"][0]["code"], "destination-halted");
    assert!(status["attention"][0]["cure"].is_string());
    assert_eq!(stage.output("status", &["--check"]).status.code(), Some(6));
    stage.write_token(super::stage::TOKEN);
    let ok = |stage: &Stage| {
        until("it is ok", || (stage.status()["destinations"][0]["state"] == "ok").then_some(()));
    };
    ok(&stage);
    assert_eq!(stage.output("status", &["--check"]).status.code(), Some(0));
    stage.tell("switches", "{\"token_revoked\": true}");
    stage.signal(rustix::process::Signal::HUP);
    until("it is halted after a reload", || {
        (stage.status()["destinations"][0]["state"] == "halted").then_some(())
    });
}

#[test]
fn a_destination_is_unknown_until_it_has_answered() {
    let mut stage =
        Stage::new(Options { network: "inactivity_timeout = \"60s\"", ..Options::default() });
    let stall = json!([{"operation": "any", "times": 1, "action": {"stall": 3000}}]);
    stage.tell("faults", &stall.to_string());
    stage.start();
    until("it is not asked yet", || {
        (stage.status()["destinations"][0]["state"] == "unknown").then_some(())
    });
    let text = String::from_utf8_lossy(&stage.output("status", &[]).stdout).into_owned();
    assert!(text.contains("not asked yet"), "{text}");
    until("it has answered", || (stage.status()["destinations"][0]["state"] == "ok").then_some(()));
}

#[test]
fn keeping_to_a_budget_of_calls_is_said_with_its_end() {
    let mut stage = Stage::new(Options { rate_limit: "60", ..Options::default() });
    for number in 0..30 {
        stage.write(&format!("run/{number}"), &noise(1000, number));
    }
    stage.start();
    let status = until("it is paced", || {
        let status = stage.status();
        let to = &status["destinations"][0];
        let is_waiting = status["counts"]["waiting"].as_u64() > Some(0);
        (to["state"] == "throttled" && is_waiting).then_some(status)
    });
    let to = &status["destinations"][0];
    let reason = to["reason"]["text"].as_str().expect("a text");
    assert_eq!(reason, "keeps to the 60 calls that the account may make in 5 min");
    assert!(to["next_try_at"].is_string(), "{to}");
    assert!(status["bytes"]["seconds_left"].is_null(), "{}", status["bytes"]);
    let uploads = status["uploads"].as_array().expect("a list");
    let waiting = uploads.iter().find(|one| one["state"] == "waiting").expect("one waits");
    assert_eq!(waiting["reason"]["code"], "destination-throttled");
}

#[test]
fn outside_the_timetable_uploads_wait_until_it_lets_them() {
    let transfer = "parts_in_flight = 2\n[[transfer.timetable]]\nfrom = \"00:00\"\nuntil = \"00:00\"\n\
        bandwidth = \"0\"";
    let mut stage = Stage::new(Options { transfer, ..Options::default() });
    stage.write("run/a", &noise(1 << 20, 1));
    stage.start();
    let upload = until("it waits", || {
        let upload = stage.status()["uploads"][0].clone();
        (upload["state"] == "waiting").then_some(upload)
    });
    assert_eq!(upload["reason"]["code"], "bandwidth-stopped");
    assert_eq!(upload["reason"]["text"], "the bandwidth is 0 by the timetable");
    assert!(upload["retry_at"].is_null(), "no period of the week lets it go");
    let text = String::from_utf8_lossy(&stage.output("status", &[]).stdout).into_owned();
    assert!(text.contains("nothing is sent: the bandwidth is 0 by the timetable"), "{text}");
    assert!(stage.output("bandwidth", &["unlimited"]).status.success());
    stage.until_count("completed", 1);
}

#[test]
fn uploads_of_a_drop_directory_that_is_away_wait_and_it_needs_someone() {
    let transfer = "parts_in_flight = 2\nbandwidth = \"0\"";
    let mut stage = Stage::new(Options { transfer, ..Options::default() });
    stage.write("run/a", &noise(1 << 20, 1));
    stage.start();
    until("it is begun", || (stage.count("waiting") == 1).then_some(()));
    fs::rename(stage.drop(), stage.path("elsewhere")).expect("moved");
    let status = until("the drop directory is away", || {
        let status = stage.status();
        (status["drops"][0]["watch"] == "deaf").then_some(status)
    });
    assert_eq!(status["drops"][0]["reason"]["code"], "deaf");
    let upload = &status["uploads"][0];
    assert_eq!((&upload["state"], &upload["reason"]["code"]), (&json!("waiting"), &json!("deaf")));
    assert_eq!(
        (&status["attention"][0]["code"], &status["attention"][0]["what"]),
        (&json!("deaf"), &json!("lab"))
    );
    assert_eq!(stage.output("status", &["--check"]).status.code(), Some(6));
}

#[test]
fn a_line_that_stalls_is_said_with_its_beginning() {
    let mut stage =
        Stage::new(Options { network: "inactivity_timeout = \"60s\"", ..Options::default() });
    stage.write("run/a", &noise(20 << 20, 1));
    let stall = json!([{"operation": "put", "times": 0, "action": {"stall": 40_000}}]);
    stage.tell("faults", &stall.to_string());
    stage.start();
    let status = until("it stalls", || {
        let status = stage.status();
        status["runs"][0]["destinations"][0]["stalled_since"].is_string().then_some(status)
    });
    assert_eq!(status["bytes"]["rate_per_second"], 0);
    assert!(status["bytes"]["seconds_left"].is_null());
    let text = String::from_utf8_lossy(&stage.output("status", &[]).stdout).into_owned();
    assert!(text.contains("stalled, no byte has gone for"), "{text}");
    stage.tell("faults", "[]");
}

#[test]
fn what_is_in_flight_of_a_small_file_is_in_its_run_and_in_the_sum() {
    let mut stage = Stage::new(Options {
        platforms: &["s3"],
        network: "inactivity_timeout = \"60s\"",
        ..Options::default()
    });
    let stall = json!([{"operation": "put-object", "times": 0, "action": {"stall": 40_000}}]);
    stage.tell("faults", &stall.to_string());
    for name in ["run/a", "run/b", "alone"] {
        stage.write(name, &noise(1000, 1));
    }
    stage.start();
    let in_flight = |upload: &Value| upload["in_flight_bytes"].as_u64().expect("a number");
    let status = until("all of them are in flight", || {
        let status = stage.status();
        let uploads = status["uploads"].as_array().expect("a list");
        (uploads.iter().map(in_flight).sum::<u64>() == 3000).then_some(status)
    });
    assert_eq!(status["bytes"]["in_flight"], 3000);
    assert_eq!(status["runs"][0]["destinations"][0]["in_flight_bytes"], 2000);
    let run = stage.output("status", &["run", "--json"]).stdout;
    let run: Value = serde_json::from_slice(&run).expect("JSON");
    assert_eq!(run["bytes"]["in_flight"], 2000);
    stage.tell("faults", "[]");
}

#[test]
fn a_run_is_waited_for_until_it_is_there_needs_someone_or_time_is_up() {
    let mut stage = Stage::new(Options::default());
    stage.write("run1/a", &noise(1 << 20, 1));
    stage.start();
    stage.until_count("completed", 1);
    let waited = stage.output("wait", &["lab/run1"]);
    let said = String::from_utf8_lossy(&waited.stdout).into_owned();
    assert_eq!(waited.status.code(), Some(0), "{said}");
    assert_eq!(said, "1 of 1 files, 1 MiB of 1 MiB are there\n");
    let nothing = stage.output("wait", &["rum1"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("did you mean run1?"));
    assert!(stage.output("bandwidth", &["0"]).status.success());
    stage.write("run2/b", &noise(1 << 20, 2));
    stage.until_count("waiting", 1);
    let late = stage.output("wait", &["run2", "--timeout", "1s"]);
    assert_eq!(late.status.code(), Some(7), "{}", String::from_utf8_lossy(&late.stderr));
    let said = String::from_utf8_lossy(&late.stderr).into_owned();
    assert!(said.contains("time is up: 0 of 1 files, 0 B of 1 MiB are there"), "{said}");
}

#[test]
fn a_wait_ends_when_something_of_the_run_needs_a_person() {
    let mut stage = Stage::new(Options::default());
    stage.write("run/a", b"a");
    // Root reads everything, so a stage that belongs to root is given to another user.
    stage.give_away();
    let unreadable = fs::Permissions::from_mode(0o000);
    fs::set_permissions(stage.drop().join("run/a"), unreadable).expect("set");
    stage.start();
    stage.until_count("parked", 1);
    let ended = stage.output("wait", &["lab/run"]);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(6), "{said}");
    assert!(said.contains("1 thing needs someone") && said.contains("dropferry retry 1"), "{said}");
    let matter = &stage.status()["attention"][0];
    assert_eq!((&matter["code"], &matter["what"]), (&json!("parked"), &json!("lab/run")));
    assert_eq!(matter["count"], 1);
    let upload = stage.status()["uploads"][0].clone();
    assert_eq!(upload["reason"]["code"], "source-unreadable");
    assert!(upload["reason"]["cure"].is_string());
}

#[test]
fn a_file_is_waited_for_alone_whatever_its_run_needs() {
    let mut stage = Stage::new(Options::default());
    for name in ["run/parked", "run/deep/there"] {
        stage.write(name, b"small");
    }
    stage.give_away();
    let unreadable = fs::Permissions::from_mode(0o000);
    fs::set_permissions(stage.drop().join("run/parked"), unreadable).expect("set");
    stage.start();
    stage.until_count("parked", 1);
    stage.until_count("completed", 1);
    for (word, code) in [
        ("there", 0),
        ("deep/there", 0),
        ("lab/run/deep", 0),
        ("run/parked", 6),
        ("run", 6),
        ("ru?", 6),
        ("to-sevenbridges", 6),
    ] {
        let ended = stage.output("wait", &[word, "--timeout", "30s"]);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(code), "{word}: {said}");
        assert_eq!(said.contains("1 thing needs someone"), code == 6, "{word}: {said}");
    }
}

#[test]
fn a_run_is_shown_with_its_state_in_words_its_bytes_and_what_is_missing() {
    let stage = busy();
    sending(&stage);
    let page = String::from_utf8_lossy(&stage.output("show", &["run"]).stdout).into_owned();
    for said in
        ["lab/run\n", "to to-sevenbridges", "1 of 2 files", "files that are not there", "run/large"]
    {
        assert!(page.contains(said), "{said}: {page}");
    }
    let shown = stage.output("show", &["lab/run", "--json"]).stdout;
    let shown: Value = serde_json::from_slice(&shown).expect("JSON");
    assert_eq!((&shown["name"], &shown["drop"]), (&json!("run"), &json!("lab")));
    assert_eq!(shown["destinations"][0]["completed_count"], 1);
    assert_eq!(shown["uploads"].as_array().map(Vec::len), Some(2));
    assert!(shown["last_activity_at"].is_string() && shown["receipt"].is_null(), "{shown}");
    let one = stage.output("show", &["run/large", "--json"]).stdout;
    let one: Value = serde_json::from_slice(&one).expect("JSON");
    assert_eq!(one[0]["run"], "run");
}

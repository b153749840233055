//! The real binary against the sandbox: faults, outages, odd files, limits, secrets.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirEntry};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::stage::{Options, Stage, TOKEN, noise, until, walk};

fn with_switches(switches: &'static str) -> Stage {
    Stage::new(Options { switches, ..Options::default() })
}

#[test]
fn files_arrive_with_receipts_and_the_daemon_drains() {
    let mut stage = Stage::new(Options {
        destination: "metadata = { run = \"{run}\" }\ntags = [\"{drop}\"]",
        ..Options::default()
    });
    stage.write("run1/a b%c+#&'\u{e9}.txt", b"hello");
    stage.write("run1/deep/er/empty", b"");
    stage.write("top.bin", &noise(11 << 20, 3));
    stage.start();
    stage.until_count("completed", 3);
    stage.assert_all_there();
    let told = String::from_utf8_lossy(&stage.output("status", &[]).stdout).into_owned();
    assert!(told.contains("lab/run1 to to-sevenbridges"), "{told}");
    assert!(told.contains("2 of 2 files\n"), "{told}");
    assert!(told.contains("lab: files at the top to to-sevenbridges"), "{told}");
    assert!(told.contains("1 of 1 files\n"), "{told}");
    let log = stage.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "a clean run warns of nothing: {log}");
    let files = stage.files();
    let file = files.iter().find(|file| file["size"] == 5).expect("it is there");
    assert_eq!(file["metadata"]["run"], "run1");
    assert_eq!(file["tags"], json!(["lab"]));
    let shown = stage.output("show", &["run1/deep/er/empty", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!(shown[0]["state"], "completed");
    assert_eq!(shown[0]["part_count"], 1, "an empty file is one empty part");
    let receipts = stage.receipts();
    let receipt = receipts.iter().find(|line| line["path"] == "top.bin").expect("it is there");
    assert_eq!((&receipt["kind"], &receipt["size"]), (&json!("upload"), &json!(11 << 20)));
    assert_eq!(receipt["bytes_sent_again"], 0);
    stage.signal(Signal::TERM);
    assert!(stage.wait_for_end().success());
    assert_eq!(stage.status()["daemon"]["running"], false);
    assert_eq!(stage.count("completed"), 3, "status works with the daemon down");
}

#[test]
fn faults_before_and_after_every_call_lose_nothing() {
    let operations =
        ["initialise", "part-url", "put", "complete", "find", "folder", "file", "bulk-files"];
    let actions = [
        json!("reset"),
        json!({"answer": {"status": 503, "body": {"code": 0, "message": "maintenance"}}}),
        json!({"html": 502}),
        json!({"stall": 3000}),
        json!("truncate"),
        json!("wrong_etag"),
        json!({"answer": {"status": 429, "headers": {"retry-after": "1"}}}),
    ];
    // A maintenance pause lasts five minutes: it has a test of its own in the simulation.
    for action in actions.iter().filter(|action| action["answer"]["status"] != 503) {
        let mut stage = with_switches("{\"part_size\": 1048576}");
        let rules: Vec<_> = operations
            .iter()
            .flat_map(|operation| {
                ["before", "after"].map(|when| {
                    let nth = if when == "before" { 1 } else { 3 };
                    json!({"operation": operation, "nth": nth, "when": when, "action": action})
                })
            })
            .collect();
        stage.tell("faults", &json!(rules).to_string());
        stage.write("run/large", &noise(4 << 20, 6));
        stage.write("run/small", b"x");
        stage.write("run/other", b"y");
        stage.start();
        stage.until_count("completed", 3);
        stage.assert_all_there();
        let begun = stage.ledger()["begun_count"].as_u64();
        assert_eq!(begun, Some(3), "{action}: no upload was begun twice");
    }
}

#[test]
fn lost_answers_make_no_second_file_and_send_no_part_more_than_once_more() {
    for (operation, again) in
        [("initialise", 0), ("put", 1 << 20), ("report-many", 0), ("complete", 0)]
    {
        let mut stage = with_switches("{\"part_size\": 1048576}");
        let rule = json!([{"operation": operation, "when": "after", "action": "reset"}]);
        stage.tell("faults", &rule.to_string());
        // Few parts are reported by the call that completes the upload.
        let part_count = if operation == "report-many" { 26 } else { 3 };
        stage.write("run/large", &noise(part_count << 20, 7));
        stage.start();
        stage.until_count("completed", 1);
        stage.assert_all_there();
        let ledger = stage.ledger();
        assert_eq!(ledger["begun_count"], 1, "{operation}");
        assert_eq!(ledger["bytes_received_again"], again, "{operation}");
    }
}

#[test]
fn an_upload_that_the_platform_lost_begins_again() {
    let mut stage = Stage::new(Options {
        transfer: "parts_in_flight = 2\nbandwidth = \"4 MB/s\"",
        switches: "{\"part_size\": 524288}",
        ..Options::default()
    });
    stage.write("run/large", &noise(4 << 20, 8));
    stage.start();
    until("parts are reported or on their way", || {
        (stage.ledger()["bytes_received"].as_u64() > Some(1 << 20)).then_some(())
    });
    stage.tell("vanish", "{}");
    stage.until_count("completed", 1);
    stage.assert_all_there();
}

/// The CPU time of each thread. The ticks of `/proc/PID/stat` are charged to whatever runs when a
/// timer fires, which is often a thread that the timer woke.
fn cpu_of_threads(pid: u32) -> BTreeMap<OsString, Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let time_of = |thread: DirEntry| {
        let stat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let time = stat.split_whitespace().next()?.parse().ok()?;
        Some((thread.file_name(), Duration::from_nanos(time)))
    };
    threads.filter_map(|thread| time_of(thread.expect("a thread"))).collect()
}

/// Lets the daemon live for a while and returns the CPU time that its threads used meanwhile.
fn cpu_over(stage: &Stage, time: Duration) -> Duration {
    let before = cpu_of_threads(stage.pid());
    std::thread::sleep(time);
    let used = cpu_of_threads(stage.pid()).into_iter();
    used.map(|(thread, time)| time - before.get(&thread).copied().unwrap_or_default()).sum()
}

#[test]
fn an_outage_needs_nobody_and_costs_no_cpu() {
    // The cost of scans is not the cost of an outage.
    let mut stage = Stage::new(Options {
        switches: "{\"down\": true}",
        drop: "quiet_period = \"50ms\"\nscan_interval = \"5s\"",
        ..Options::default()
    });
    stage.write("run/a", &noise(1 << 20, 9));
    stage.write("run/b", b"b");
    stage.start();
    until("the destination is unreachable", || {
        (stage.status()["destinations"][0]["state"] == "unreachable").then_some(())
    });
    let used = cpu_over(&stage, Duration::from_secs(10));
    println!("{used:?} of CPU in ten seconds of outage");
    assert!(
        used <= Duration::from_millis(100),
        "{used:?} in ten seconds is more than 1 % of a core"
    );
    let up =
        fs::read_to_string(stage.path("switches.json")).expect("read").replace("true", "false");
    fs::write(stage.path("switches.json"), &up).expect("written");
    stage.revive(&up);
    stage.until_count("completed", 2);
    stage.assert_all_there();
}

#[test]
fn a_revoked_token_halts_and_a_replaced_file_is_picked_up() {
    let mut stage = with_switches("{}");
    stage.write_token("00000000000000000000000000000000");
    stage.write("run/a", b"a");
    stage.start();
    until("the destination is halted", || {
        (stage.status()["destinations"][0]["state"] == "halted").then_some(())
    });
    assert_eq!(stage.count("parked"), 0, "the destination halts, never the upload");
    stage.write_token(TOKEN);
    stage.until_count("completed", 1);
    stage.assert_all_there();
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_never_a_mix() {
    let mut stage = Stage::new(Options {
        transfer: "parts_in_flight = 2\nbandwidth = \"2 MB/s\"",
        switches: "{\"part_size\": 524288}",
        ..Options::default()
    });
    stage.write("run/large", &noise(4 << 20, 10));
    stage.start();
    until("it is being sent", || {
        (stage.ledger()["bytes_received"].as_u64() > Some(1 << 20)).then_some(())
    });
    stage.write("run/large", &noise(3 << 20, 11));
    stage.until_count("completed", 1);
    until("the old upload is removed", || {
        (stage.ledger()["open_uploads"] == json!([])).then_some(())
    });
    stage.assert_all_there();
    assert_eq!(stage.count("abandoned"), 1);
    let log = stage.log();
    assert!(log.contains("the source changed"), "{log}");
}

#[test]
fn odd_files_are_taken_or_left_with_a_reason() {
    let mut stage = with_switches("{}");
    let drop = stage.drop();
    fs::create_dir_all(drop.join("run")).expect("made");
    let odd = |name: &[u8]| drop.join("run").join(std::ffi::OsStr::from_bytes(name));
    fs::write(odd(b"not \xff utf-8"), b"1").expect("written");
    fs::write(odd(b"line\nfeed"), b"2").expect("written");
    fs::write(odd(&[b'n'; 255]), b"3").expect("written");
    let outside = stage.path("secret");
    fs::write(&outside, b"not yours").expect("written");
    symlink(&outside, drop.join("run/out")).expect("linked");
    symlink("nowhere", drop.join("run/broken")).expect("linked");
    symlink("..", drop.join("run/loop")).expect("linked");
    let fifo = drop.join("run/fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .expect("made");
    let _socket = std::os::unix::net::UnixListener::bind(drop.join("run/socket")).expect("bound");
    stage.start();
    stage.until_count("completed", 3);
    stage.until_count("ignored", 5);
    let names: Vec<_> = stage.files().iter().map(|file| file["name"].clone()).collect();
    assert!(names.contains(&json!("not %FF utf-8")), "{names:?}");
    assert!(names.contains(&json!("line\nfeed")), "{names:?}");
    let plan = stage.output("plan", &[]);
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(plan.contains("run/out is left out: symbolic link that leads out"), "{plan}");
    assert!(plan.contains("run/fifo is left out: named pipe"), "{plan}");
}

#[test]
fn an_unreadable_file_parks_and_recovers_by_itself() {
    use std::os::unix::fs::PermissionsExt;
    let mut stage = with_switches("{}");
    stage.write("run/a", b"a");
    stage.write("run/b", b"b");
    let place = stage.drop().join("run/a");
    // Root reads everything, so a stage that belongs to root is given to another user.
    stage.give_away();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o000)).expect("set");
    stage.start();
    stage.until_count("parked", 1);
    stage.until_count("completed", 1);
    let check = stage.output("status", &["--check"]);
    assert_eq!(check.status.code(), Some(6), "something is parked");
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains("the source file may not be read"), "{said}");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o644)).expect("set");
    stage.until_count("completed", 2);
    assert_eq!(stage.output("status", &["--check"]).status.code(), Some(0));
}

#[test]
fn the_first_term_drains_and_the_second_aborts() {
    let mut stage = Stage::new(Options {
        transfer: "parts_in_flight = 2\nbandwidth = \"200 kB/s\"",
        ..Options::default()
    });
    stage.write("run/large", &noise(4 << 20, 20));
    stage.start();
    until("a part is on its way", || {
        (stage.ledger()["calls"]["put"].as_u64() >= Some(1)).then_some(())
    });
    stage.signal(Signal::TERM);
    until("it drains", || stage.log().contains("draining").then_some(()));
    assert!(stage.is_running(), "a part that is on its way may land");
    stage.signal(Signal::TERM);
    assert!(stage.wait_for_end().success());
    assert_eq!(
        stage.ledger()["open_uploads"].as_array().map(Vec::len),
        Some(1),
        "it goes on later"
    );
}

#[test]
fn a_second_daemon_is_refused_with_code_four() {
    let mut stage = with_switches("{}");
    stage.start();
    until("the first one runs", || (stage.status()["daemon"]["running"] == true).then_some(()));
    let second = stage.output("run", &[]);
    assert_eq!(second.status.code(), Some(4));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another daemon runs on this state"), "{said}");
    assert!(said.contains("hint: "), "{said}");
}

#[test]
fn damaged_and_newer_databases_are_refused_and_kept() {
    let stage = with_switches("{}");
    let state = stage.path("state");
    fs::create_dir_all(&state).expect("made");
    fs::write(state.join("dropferry.db"), noise(8192, 12)).expect("written");
    for command in ["run", "status"] {
        let output = stage.output(command, &[]);
        assert_eq!(output.status.code(), Some(4), "{command}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("hint: "), "{command}: {said}");
    }
    assert_eq!(fs::read(state.join("dropferry.db")).expect("kept"), noise(8192, 12));
}

#[test]
fn a_bad_configuration_is_refused_with_code_three_file_line_and_hint() {
    let stage = with_switches("{}");
    let good = fs::read_to_string(stage.path("config.toml")).expect("read");
    let bad = good.replace("quiet_period", "quiet_perod");
    fs::write(stage.path("config.toml"), bad).expect("written");
    for command in ["run", "check-config", "status", "plan"] {
        let output = stage.output(command, &[]);
        assert_eq!(output.status.code(), Some(3), "{command}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.contains("config.toml:") && said.contains("unknown key \"quiet_perod\""),
            "{said}"
        );
        assert!(said.contains("hint: did you mean \"quiet_period\"?"), "{said}");
    }
    fs::write(stage.path("config.toml"), good).expect("written");
    assert!(stage.output("check-config", &["--online"]).status.success());
    fs::remove_file(stage.path("sandbox.token")).expect("removed");
    assert_eq!(stage.output("check-config", &[]).status.code(), Some(3));
}

#[test]
fn reload_takes_a_good_configuration_and_refuses_a_bad_one() {
    let mut stage = with_switches("{}");
    stage.write("run/a", b"a");
    stage.start();
    stage.until_count("completed", 1);
    let good = fs::read_to_string(stage.path("config.toml")).expect("read");
    fs::write(stage.path("config.toml"), "nonsense = 1\n").expect("written");
    stage.signal(Signal::HUP);
    until("it is refused", || stage.log().contains("the old one stays").then_some(()));
    fs::create_dir(stage.path("drop2")).expect("made");
    fs::write(stage.path("drop2/b"), b"b").expect("written");
    let more = format!(
        "{good}\n[drops.two]\ndirectory = \"drop2\"\ndestinations = [\"to-sevenbridges\"]\nquiet_period = \"50ms\"\n"
    );
    fs::write(stage.path("config.toml"), more).expect("written");
    stage.signal(Signal::HUP);
    stage.until_count("completed", 2);
}

/// A stage that logs everything, and whose platform repeats the token in its answers.
pub(super) fn stage_with_secrets() -> Stage {
    let stage = Stage::new(Options {
        level: "trace",
        switches: "{\"part_size\": 1048576}",
        ..Options::default()
    });
    let rules = json!([
        {"operation": "put", "nth": 2, "action": {"answer": {"status": 403, "body": {"token": TOKEN}}}},
        {"operation": "initialise", "action": {"answer": {"status": 500, "body": {"message": TOKEN}}}},
    ]);
    stage.tell("faults", &rules.to_string());
    stage.write("run/large", &noise(3 << 20, 13));
    stage
}

#[test]
fn no_secret_is_in_log_status_receipt_database_or_command_line() {
    let mut stage = stage_with_secrets();
    stage.start();
    let command_line = fs::read(format!("/proc/{}/cmdline", stage.pid())).expect("read");
    stage.until_count("completed", 1);
    let status = stage.output("status", &["--json"]).stdout;
    let shown = stage.output("show", &["1", "--json"]).stdout;
    stage.kill();
    let mut places = vec![("command line", command_line), ("status", status), ("show", shown)];
    let files = walk(&stage.path("state")).into_iter().chain([stage.path("daemon.log")]);
    // The control socket is left behind by the kill.
    for file in files.filter(|place| place.is_file()) {
        places.push(("a file", fs::read(file).expect("read")));
    }
    assert!(places.iter().any(|(_, bytes)| bytes.len() > 100_000), "the trace log is there");
    for secret in [TOKEN, "signature="] {
        for (place, bytes) in &places {
            let text = String::from_utf8_lossy(bytes);
            let at =
                text.find(secret).filter(|at| !text[*at..].starts_with("signature=[redacted]"));
            assert_eq!(
                at.map(|at| text[at.saturating_sub(80)..].chars().take(160).collect()),
                None::<String>,
                "{place}"
            );
        }
    }
}

/// Resident memory at its highest, in KiB.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a count")
}

#[test]
fn a_sparse_file_of_64_gib_is_planned_and_its_part_count_uploaded_in_bounded_memory() {
    let stage = Stage::new(Options { transfer: "part_size = \"64 MiB\"", ..Options::default() });
    let sparse = |path: &Path, length: u64| {
        fs::File::create(path).and_then(|file| file.set_len(length)).expect("made");
    };
    sparse(&stage.drop().join("huge"), 64 << 30);
    let plan = stage.output("plan", &["--json"]);
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).expect("one line");
    assert_eq!((&plan["size_bytes"], &plan["part_count"]), (&json!(64_u64 << 30), &json!(1024)));
    drop(stage);
    // The same 1024 parts, of 64 KiB each, uploaded.
    let mut stage = Stage::new(Options {
        transfer: "parts_in_flight = 8\nmemory = \"16 MiB\"",
        switches: "{\"part_size\": 65536}",
        ..Options::default()
    });
    sparse(&stage.drop().join("huge"), 64 << 20);
    stage.start();
    stage.until_count("completed", 1);
    assert_eq!(stage.status()["uploads"][0]["part_count"], 1024);
    let peak = peak_memory(stage.pid());
    println!("peak memory {peak} KiB for 1024 parts with transfer.memory = 16 MiB");
    assert!(peak < (16 + 64) << 10, "{peak} KiB");
    stage.assert_all_there();
}

#[test]
fn a_part_larger_than_the_memory_is_streamed() {
    let mut stage = Stage::new(Options {
        transfer: "parts_in_flight = 4\nmemory = \"8 MiB\"\npart_size = \"256 MiB\"",
        ..Options::default()
    });
    let length = 256 << 20;
    fs::File::create(stage.drop().join("huge"))
        .and_then(|file| file.set_len(length))
        .expect("made");
    stage.start();
    stage.until_count("completed", 1);
    assert_eq!(stage.status()["uploads"][0]["part_count"], 1);
    let peak = peak_memory(stage.pid());
    println!("peak memory {peak} KiB for one part of 256 MiB with transfer.memory = 8 MiB");
    assert!(peak < (8 + 64) << 10, "{peak} KiB");
}

#[test]
fn an_idle_daemon_over_ten_thousand_settled_files_uses_no_cpu_between_scans() {
    const MOST: Duration = Duration::from_millis(10);
    let mut stage = Stage::new(Options {
        platforms: &["s3"],
        transfer: "parts_in_flight = 16",
        drop: "quiet_period = \"50ms\"\nscan_interval = \"1h\"",
        ..Options::default()
    });
    for number in 0..10_000 {
        let directory = stage.drop().join(format!("run/{}", number / 500));
        fs::create_dir_all(&directory).expect("made");
        fs::write(directory.join(number.to_string()), number.to_string()).expect("written");
    }
    stage.start();
    stage.until_count("completed", 10_000);
    let mut used = cpu_over(&stage, Duration::from_secs(10));
    if used > MOST {
        // The database is copied, checked and tidied once the daemon is idle, and then not again for hours.
        used = cpu_over(&stage, Duration::from_secs(10));
    }
    println!("{used:?} of CPU in ten idle seconds");
    assert!(used <= MOST, "{used:?} in ten idle seconds");
}

#[test]
fn a_lost_database_uploads_nothing_twice_and_another_content_is_never_taken_for_the_same() {
    let mut stage = with_switches("{}");
    stage.write("run/a", &noise(1 << 20, 30));
    stage.write("run/b", b"");
    stage.start();
    stage.until_count("completed", 2);
    stage.kill();
    fs::remove_dir_all(stage.path("state")).expect("lost");
    let before = stage.ledger()["bytes_received"].clone();
    stage.write("run/c", b"new");
    stage.start();
    stage.until_count("completed", 3);
    stage.assert_all_there();
    let after = stage.ledger()["bytes_received"].as_u64();
    assert_eq!(after, before.as_u64().map(|bytes| bytes + 3), "only the new file was sent");
    // Without rows and receipts, the daemon does not know its own earlier version.
    stage.kill();
    stage.write("run/c", b"old");
    fs::remove_dir_all(stage.path("state")).expect("lost");
    stage.start();
    stage.until_count("parked", 1);
    let said = String::from_utf8_lossy(&stage.output("status", &[]).stdout).into_owned();
    assert!(said.contains("not proved the same"), "{said}");
}

#[test]
fn headers_that_are_to_be_reported_outlive_a_kill() {
    let headers = "{\"x-amz-version-id\": \"v7\", \"x-extra\": \"a b\"}";
    for etag in ["md5", "none"] {
        let switches = format!(
            "{{\"part_size\": 1048576, \"storage_etag\": \"{etag}\", \"sevenbridges\": {{\"report_headers\": {headers}}}}}"
        );
        let mut stage = with_switches(Box::leak(switches.into_boxed_str()));
        let refused = json!([{"operation": "complete", "times": 0, "action": "reset"}]);
        stage.tell("faults", &refused.to_string());
        stage.write("run/large", &noise(3 << 20, 5));
        stage.start();
        until("all parts are there", || {
            (stage.status()["uploads"][0]["accepted_part_count"] == 3).then_some(())
        });
        stage.kill();
        stage.tell("faults", "[]");
        stage.start();
        stage.until_count("completed", 1);
        // The sandbox records every report that lacks a header as a breach.
        stage.assert_all_there();
    }
}

//! What an operator asks of the running daemon: pauses, retries, giving up, rates.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::stage::{Options, Stage, noise, until};

/// A stage whose uploads begin, and send nothing until they are released.
fn stopped() -> Stage {
    Stage::new(Options {
        transfer: "parts_in_flight = 4\npart_size = \"64 KiB\"\nbandwidth = \"0\"",
        ..Options::default()
    })
}

impl Stage {
    fn ask(&self, command: &str, arguments: &[&str]) -> String {
        let output = self.output(command, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command} {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn open_uploads(&self) -> usize {
        self.ledger()["open_uploads"].as_array().expect("a list").len()
    }

    fn until_begun(&self, count: usize) {
        until("uploads are begun", || (self.open_uploads() == count).then_some(()));
    }

    fn part_bytes(&self) -> u64 {
        let ledger = self.ledger();
        let parts = ledger["parts"].as_object().expect("uploads");
        let parts = parts.values().flat_map(|parts| parts.as_object().expect("parts").values());
        parts.map(|part| part["bytes"].as_u64().expect("a count")).sum()
    }
}

#[test]
fn a_pause_outlives_the_daemon_and_a_resume_goes_on() {
    let mut stage = stopped();
    stage.write("run/large", &noise(1 << 20, 3));
    stage.start();
    stage.until_begun(1);
    assert_eq!(
        stage.ask("pause", &["to-sevenbridges"]),
        "destination to-sevenbridges is paused: 1 upload"
    );
    assert_eq!(stage.ask("bandwidth", &["unlimited"]), "bandwidth is unlimited (ordered)");
    stage.write("run/more", &noise(1000, 5));
    until("it is admitted", || (stage.status()["uploads"][1]["id"] == 2).then_some(()));
    stage.kill();
    let status = stage.status();
    assert_eq!(status["orders"][0]["standing"], "paused");
    assert_eq!(status["orders"][0]["of"], "destination to-sevenbridges");
    assert_eq!(status["uploads"][0]["reason"]["code"], "paused");
    stage.start();
    // The daemon answers, so its rows are loaded; and the order is stored.
    let ordered = until("it answers", || {
        let output = stage.output("bandwidth", &["--json"]);
        serde_json::from_slice::<Value>(&output.stdout).ok()
    });
    assert_eq!(ordered, json!({"schema": 1, "bytes_per_second": null, "is_ordered": true}));
    let told = stage.ask("status", &[]);
    assert!(told.contains("to-sevenbridges (sevenbridges) is paused for"), "{told}");
    assert_eq!((stage.part_bytes(), stage.count("completed")), (0, 0));
    stage.ask("resume", &["--destination", "to-sevenbridges"]);
    stage.until_count("completed", 2);
    stage.assert_all_there();
    assert_eq!(stage.status()["orders"], json!([]));
}

#[test]
fn uploads_drops_and_runs_are_paused_each_by_itself() {
    let mut stage = stopped();
    stage.write("run1/a", &noise(1000, 3));
    stage.write("run2/b", &noise(1000, 5));
    stage.write("run3/c", &noise(1000, 7));
    stage.start();
    stage.until_begun(3);
    let id = stage.status()["uploads"].as_array().expect("a list").iter().find_map(|upload| {
        (upload["path"] == "run1/a").then(|| upload["id"].as_i64().expect("a number"))
    });
    let id = id.expect("it is listed").to_string();
    assert_eq!(stage.ask("pause", &[&id]), format!("upload {id} is paused: 1 upload"));
    assert_eq!(stage.ask("pause", &["lab/run2"]), "lab/run2 is paused: 1 upload");
    stage.ask("bandwidth", &["configured"]);
    stage.ask("bandwidth", &["unlimited"]);
    stage.until_count("completed", 1);
    assert_eq!(stage.ask("resume", &["run1/a"]), format!("upload {id} goes on: 1 upload"));
    stage.until_count("completed", 2);
    assert_eq!(stage.ask("resume", &["--all"]), "everything goes on: 1 upload");
    stage.until_count("completed", 3);
    stage.assert_all_there();
}

#[test]
fn what_is_given_up_is_removed_there_and_kept_here() {
    let mut stage = stopped();
    stage.write("run/wrong", &noise(1 << 20, 3));
    stage.write("run/right", &noise(1000, 5));
    stage.start();
    stage.until_begun(2);
    let changes = stage.ask("abandon", &["run/wrong", "--json"]);
    let changes: Value = serde_json::from_str(&changes).expect("JSON");
    assert_eq!(changes["changes"][0]["upload_count"], 1);
    until("what was begun is removed", || (stage.open_uploads() == 1).then_some(()));
    stage.ask("bandwidth", &["unlimited"]);
    stage.until_count("completed", 1);
    stage.kill();
    stage.start();
    until("it is scanned again", || {
        let output = stage.output("retry", &["lab"]);
        output.status.success().then_some(())
    });
    stage.write("run/last", &noise(1000, 7));
    stage.until_count("completed", 2);
    assert_eq!((stage.count("abandoned"), stage.files().len()), (1, 2));
    assert_eq!(fs::metadata(stage.drop().join("run/wrong")).expect("it stays").size(), 1 << 20);
    let shown = stage.ask("show", &["run/wrong"]);
    assert!(shown.contains("given up by the operator"), "{shown}");
}

#[test]
fn what_is_parked_is_tried_again_when_told() {
    let mut stage = stopped();
    stage.write("run/a", &noise(1000, 3));
    stage.start();
    stage.until_begun(1);
    let refusal = json!({"answer": {"status": 400, "body": {"message": "not allowed"}}});
    // Once with its part in the call, once after that is reported.
    let rule = json!([{"operation": "complete", "when": "before", "times": 2, "action": refusal}]);
    stage.tell("faults", &rule.to_string());
    stage.ask("bandwidth", &["unlimited"]);
    stage.until_count("parked", 1);
    let told = stage.ask("retry", &["run/a"]);
    assert_eq!(told, "upload 1 is tried again: 1 upload that waited or parked");
    stage.until_count("completed", 1);
    stage.assert_all_there();
}

/// An instrument that crashed never writes its marker; the files that it held back are sent after `close`.
#[test]
fn a_run_whose_marker_never_comes_is_closed_by_hand_and_says_so() {
    let mut stage = Stage::new(Options {
        drop: "profile = \"illumina\"\nquiet_period = \"50ms\"\nscan_interval = \"300ms\"",
        ..Options::default()
    });
    let name = "260301_A00123_0001_AHXX";
    stage.write(&format!("{name}/RunInfo.xml"), b"<RunInfo><Run Id=\"x\"/></RunInfo>");
    stage.write(&format!("{name}/InterOp/a.bin"), b"held");
    stage.write("alone.txt", b"a file");
    stage.start();
    stage.until_count("completed", 2);
    let run = |stage: &Stage| {
        let runs = stage.status()["runs"].as_array().expect("a list").clone();
        runs.into_iter().find(|run| run["name"] == name)
    };
    until("it says what it waits for", || {
        let said = run(&stage)?["reason"].to_string();
        said.contains("CopyComplete.txt").then_some(())
    });
    let refused = |word: &str, why: &str| {
        let output = stage.output("close", &[word]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{word}: {said}");
        assert!(said.contains(why), "{word}: {said}");
    };
    refused("alone.txt", "is no run of a directory");
    refused("lab", "is no run of a directory");
    let told = stage.ask("close", &[name]);
    let uid = format!("uid {}", rustix::process::getuid().as_raw());
    let closed = format!("closed by hand ({uid}) without CopyComplete.txt");
    assert!(told.starts_with(&format!("lab/{name} is {closed}")), "{told}");
    stage.until_count("completed", 3);
    until("it is completed", || run(&stage).filter(|run| run["state"] == "completed"));
    refused(name, "is completed already");
    let by_hand = json!({"by": uid, "missing": ["CopyComplete.txt"]});
    assert_eq!(run(&stage).expect("it is there")["closed_by_hand"], by_hand);
    let lines = stage.lines();
    let at = lines.iter().position(|line| line["kind"] == "closed-by-hand").expect("a line");
    let (by_hand, completed) = (&lines[at], &lines[at + 1]);
    assert_eq!((&by_hand["run"], &completed["kind"]), (&json!(name), &json!("run-completed")));
    assert_eq!((&by_hand["by"], &by_hand["missing"][0]), (&json!(uid), &json!("CopyComplete.txt")));
    assert_eq!(completed["forced_by"], json!(uid));
    let told = stage.ask("status", &[]);
    assert!(told.contains(&format!("closed by hand ({uid})")), "{told}");
}

#[test]
fn the_socket_is_for_its_group_and_nobody_listens_without_a_daemon() {
    let mut stage = stopped();
    for (command, arguments) in
        [("pause", &["--all"][..]), ("bandwidth", &[]), ("log-level", &["debug"])]
    {
        let output = stage.output(command, arguments);
        assert_eq!(output.status.code(), Some(5), "{command}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("no daemon listens at") && said.contains("hint: start it"), "{said}");
    }
    stage.start();
    let place = stage.path("state/control.sock");
    until("it listens", || place.exists().then_some(()));
    assert_eq!(fs::metadata(&place).expect("it is there").mode() & 0o777, 0o660);
    let output = stage.output("pause", &["--drop", "nothing"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said.trim(), "drop nothing: there is none that has not ended");
    assert_eq!(stage.output("pause", &[]).status.code(), Some(2));
    assert_eq!(stage.output("pause", &["run/nothing"]).status.code(), Some(1));
    fs::set_permissions(&place, fs::Permissions::from_mode(0o666)).expect("opened");
    if rustix::process::geteuid().is_root() {
        let mut stranger = stage.command("bandwidth");
        std::os::unix::process::CommandExt::uid(&mut stranger, 65534);
        // Another user may not even run the program or read the configuration; he gets no answer at all.
        let answered = stranger.output().is_ok_and(|output| output.status.success());
        assert!(!answered);
    } else {
        super::skipped::skipped("only root can ask as another user");
    }
    let broken = {
        use std::io::{BufRead, BufReader, Write};
        let mut peer = std::os::unix::net::UnixStream::connect(&place).expect("it listens");
        peer.write_all(b"{\"request\":\"dance\"}\n").expect("sent");
        let mut line = String::new();
        BufReader::new(peer).read_line(&mut line).expect("answered");
        line
    };
    assert!(broken.starts_with("{\"refused\":\"that is no request: "), "{broken}");
}

#[test]
fn the_level_of_the_log_changes_while_it_is_written() {
    let mut stage = stopped();
    stage.start();
    until("it answers", || stage.output("log-level", &[]).status.success().then_some(()));
    assert_eq!(stage.ask("log-level", &[]), "log level is info");
    assert!(!stage.log().contains("DEBUG"));
    assert_eq!(stage.ask("log-level", &["debug"]), "log level is debug");
    stage.write("run/a", &noise(1000, 3));
    until("more is logged", || stage.log().contains("DEBUG").then_some(()));
    assert_eq!(stage.output("log-level", &["loud"]).status.code(), Some(2));
}

#[test]
fn a_timetable_stops_and_a_reload_lets_go() {
    let always = "parts_in_flight = 4\n[[transfer.timetable]]\nfrom = \"00:00\"\nuntil = \"24:00\"\n\
        bandwidth = \"0\"";
    let mut stage = Stage::new(Options { transfer: always, ..Options::default() });
    stage.write("run/a", &noise(1000, 3));
    stage.start();
    stage.until_begun(1);
    assert_eq!(stage.ask("bandwidth", &[]), "bandwidth is 0: nothing is sent (configured)");
    let config = fs::read_to_string(stage.path("config.toml")).expect("read");
    fs::write(
        stage.path("config.toml"),
        config.replace("bandwidth = \"0\"", "bandwidth = \"1 GB/s\""),
    )
    .expect("written");
    stage.signal(rustix::process::Signal::HUP);
    stage.until_count("completed", 1);
    stage.assert_all_there();
    let now: Value = serde_json::from_str(&stage.ask("bandwidth", &["--json"])).expect("JSON");
    assert_eq!(now, json!({"schema": 1, "bytes_per_second": 1_000_000_000, "is_ordered": false}));
}

/// Two rates, changed while parts are being sent: each is kept within a tenth, as the destination counts.
#[test]
#[expect(clippy::disallowed_methods, reason = "a rate is bytes by the real clock")]
fn rates_are_kept_within_a_tenth_also_after_a_change() {
    const RATE: u64 = 2_000_000;
    let mut stage = Stage::new(Options {
        transfer: "parts_in_flight = 8\npart_size = \"64 KiB\"\nbandwidth = \"2 MB/s\"",
        ..Options::default()
    });
    for seed in 0..8 {
        stage.write(&format!("run/{seed}"), &noise(12 << 20, seed + 1));
    }
    stage.start();
    until("parts arrive", || (stage.part_bytes() > 0).then_some(()));
    for rate in [RATE, RATE * 3] {
        stage.ask("bandwidth", &[&format!("{} kB/s", rate / 1000)]);
        let (from, started) = (stage.part_bytes(), Instant::now());
        let mut sent = 0;
        until("ten seconds have passed", || {
            sent = stage.part_bytes() - from;
            (started.elapsed() >= Duration::from_secs(10)).then_some(())
        });
        let wished = rate as f64 * started.elapsed().as_secs_f64();
        // The destination counts whole parts: parts under way at the start and at the end are not told apart.
        let slack = (8 * (64 << 10)) as f64;
        let off = (sent as f64 - wished).abs();
        println!("asked for {rate} B/s: {:.1} % of it came", sent as f64 / wished * 100.0);
        assert!(off <= wished / 10.0 + slack, "{sent} bytes, {wished} wished");
    }
    stage.ask("bandwidth", &["unlimited"]);
    stage.until_count("completed", 8);
    stage.assert_all_there();
}

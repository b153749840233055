//! `doctor` with the real binary: each fault is found, with its cure; what is in order is reported so;
//! and of the unfinished uploads at a destination only those that are provably ours are removed.

mod network;
mod orphans;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::stage::{Options, Stage, noise, until};

/// Every line, and how the program ended.
pub(crate) struct Found {
    checks: Vec<Value>,
    code: Option<i32>,
}

pub(crate) fn doctor(stage: &Stage, arguments: &[&str]) -> Found {
    let mut command = stage.command("doctor");
    // The requests of the test go directly to their target.
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    let output = command.arg("--json").args(arguments).output().expect("it runs");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("doctor says no JSON ({error}): {}", String::from_utf8_lossy(&output.stderr))
    });
    assert_eq!(said["schema"], 1);
    let checks = said["checks"].as_array().expect("a list").clone();
    Found { checks, code: output.status.code() }
}

fn text<'a>(check: &'a Value, key: &str) -> &'a str {
    check[key].as_str().unwrap_or_default()
}

impl Found {
    pub(crate) fn of(&self, group: &str, state: &str) -> Vec<&Value> {
        let is_meant = |check: &&Value| check["group"] == group && check["state"] == state;
        self.checks.iter().filter(is_meant).collect()
    }

    /// Asserts that a line of that group and state contains `found`, and that its cure contains `cure`.
    pub(crate) fn assert_says(&self, (group, state): (&str, &str), found: &str, cure: &str) {
        let says = |check: &&Value| {
            text(check, "found").contains(found) && text(check, "cure").contains(cure)
        };
        let lines = self.of(group, state);
        assert!(lines.iter().any(says), "no {state} of {group} {found:?} {cure:?}: {self}");
    }

    pub(crate) fn assert_code(&self, code: i32) {
        assert_eq!(self.code, Some(code), "{self}");
    }
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.checks.iter().try_for_each(|check| writeln!(f, "{check}"))
    }
}

pub(crate) fn configure_more(stage: &Stage, lines: &str) {
    let config = fs::OpenOptions::new().append(true).open(stage.path("config.toml"));
    config.and_then(|mut config| config.write_all(lines.as_bytes())).expect("written");
}

#[test]
fn what_is_well_is_said_to_be_well_and_no_state_is_written() {
    let platforms = &["sevenbridges", "basespace", "gjirafa-vp", "s3"];
    let mut stage = Stage::new(Options { platforms, ..Options::default() });
    stage.write("run/a", b"hello");
    stage.start();
    stage.until_count("completed", 4);
    let found = doctor(&stage, &[]);
    found.assert_code(0);
    let states: Vec<_> = found.checks.iter().filter(|check| check["state"] != "ok").collect();
    assert!(states.is_empty(), "{found}");
    for group in [
        "configuration",
        "state",
        "database",
        "daemon",
        "clock",
        "drop",
        "watches",
        "attention",
        "credential",
        "destination",
        "orphans",
    ] {
        assert!(!found.of(group, "ok").is_empty(), "{group}: {found}");
    }
    for platform in platforms {
        let name = format!("to-{platform}");
        let lines = found.of("destination", "ok");
        let of = lines.iter().filter(|check| check["name"] == name.as_str());
        let said: Vec<_> = of.map(|check| text(check, "found")).collect();
        let access = match *platform {
            "basespace" | "gjirafa-vp" => "the credential is accepted",
            _ => "the credential is accepted and may write to ",
        };
        assert!(said.iter().any(|line| line.starts_with(access)), "{found}");
        assert!(said.iter().any(|line| line.starts_with("its clock and ours agree")), "{found}");
    }
    stage.signal(Signal::TERM);
    stage.wait_for_end();
    let before = fs::read(stage.path("state/dropferry.db")).expect("read");
    let found = doctor(&stage, &["--offline"]);
    found.assert_code(0);
    found.assert_says(("daemon", "warn"), "it does not run", "systemctl start dropferry");
    assert!(found.of("destination", "ok").is_empty(), "nothing was asked: {found}");
    assert_eq!(fs::read(stage.path("state/dropferry.db")).expect("read"), before);
}

#[test]
fn people_read_lines_with_cures_and_a_sum() {
    let stage = Stage::new(Options::default());
    let output = stage.output("doctor", &["--offline"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let line = "warn  daemon process: it does not run\n      \
        cure: systemctl start dropferry, or: dropferry run\n";
    assert!(said.contains(line), "{said}");
    assert!(said.contains("ok    configuration file: "), "{said}");
    assert!(said.contains("ok    state space: "), "that of the disk on which it will be: {said}");
    assert!(said.trim_end().ends_with(" 0 failed"), "{said}");
}

#[test]
fn a_configuration_that_cannot_be_read_leaves_the_other_checks() {
    let stage = Stage::new(Options::default());
    configure_more(&stage, "[dropss]\n");
    let found = doctor(&stage, &[]);
    found.assert_code(3);
    found.assert_says(("configuration", "fail"), "unknown table [dropss]", "did you mean [drops]?");
    assert!(!found.of("watches", "ok").is_empty(), "{found}");
    fs::remove_file(stage.path("config.toml")).expect("removed");
    let found = doctor(&stage, &[]);
    found.assert_code(3);
    found.assert_says(("configuration", "fail"), "cannot be read", "--config FILE");
}

#[test]
fn a_credential_is_refused_by_mode_by_owner_and_by_content() {
    let mut stage = Stage::new(Options::default());
    let token = stage.path("sandbox.token");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).expect("set");
    let found = doctor(&stage, &[]);
    found.assert_code(1);
    found.assert_says(("configuration", "fail"), "may be read by others (mode 644)", "chmod 600 ");
    assert!(!found.of("state", "warn").is_empty(), "the state is looked at all the same: {found}");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("set");
    fs::write(&token, "").expect("written");
    let found = doctor(&stage, &["--offline"]);
    found.assert_code(1);
    found.assert_says(("configuration", "fail"), "it is empty", "write a valid credential into ");
    // {"alg":"none"} . {"exp":1000000000}
    fs::write(&token, "eyJhbGciOiJub25lIn0.eyJleHAiOjEwMDAwMDAwMDB9.c2ln").expect("written");
    let found = doctor(&stage, &["--offline"]);
    found.assert_says(("credential", "fail"), " ended ", "fetch another");
    stage.write_token(super::stage::TOKEN);
    if !rustix::process::geteuid().is_root() {
        super::skipped::skipped("only root runs the daemon as another user");
        return;
    }
    stage.write("run/a", b"hello");
    stage.give_away();
    stage.start();
    stage.until_count("completed", 1);
    stage.kill();
    std::os::unix::fs::chown(&token, Some(0), Some(0)).expect("taken back");
    let output = super::stage::program()
        .args(["doctor", "--offline", "--config"])
        .arg(stage.path("config.toml"))
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains(
            "belongs to user root (0), and the daemon's user nobody (65534) may not read it"
        ),
        "{said}"
    );
    assert!(said.contains("cure: chown 65534 "), "{said}");
}

#[test]
fn drop_directories_are_looked_at_to_their_depth() {
    let drop = "quiet_period = \"50ms\"\nscan_interval = \"500ms\"\ndisposition = \"delete\"";
    let mut stage = Stage::new(Options { drop, ..Options::default() });
    stage.write("run/deep/a", b"hello");
    stage.write("run/shut/b", b"hello");
    stage.give_away();
    let mode = |name: &str, mode: u32| {
        fs::set_permissions(stage.drop().join(name), fs::Permissions::from_mode(mode))
            .expect("set");
    };
    mode("run/deep", 0o555);
    mode("run/shut", 0o000);
    let found = doctor(&stage, &["--offline"]);
    mode("run/shut", 0o755);
    found.assert_code(1);
    found.assert_says(
        ("drop", "fail"),
        "1 of its places may not be read, such as ",
        "setfacl -R -m",
    );
    found.assert_says(
        ("drop", "fail"),
        "disposition is \"delete\", and ",
        "disposition = \"keep\"",
    );
    fs::remove_dir_all(stage.drop()).expect("removed");
    let found = doctor(&stage, &["--offline"]);
    found.assert_code(1);
    found.assert_says(("configuration", "fail"), "is not there", "make it, or correct the path");
}

#[test]
fn a_state_directory_within_a_drop_directory_or_open_to_all_is_refused() {
    let stage = Stage::new(Options::default());
    let config = fs::read_to_string(stage.path("config.toml")).expect("read");
    let nested = config.replace("directory = \"state\"", "directory = \"drop/state\"");
    fs::write(stage.path("config.toml"), nested).expect("written");
    fs::create_dir(stage.drop().join("state")).expect("made");
    fs::set_permissions(stage.drop().join("state"), fs::Permissions::from_mode(0o777))
        .expect("set");
    let found = doctor(&stage, &["--offline"]);
    found.assert_code(1);
    let cure = "outside of every drop directory";
    found.assert_says(("configuration", "fail"), "overlap", cure);
    found.assert_says(("state", "fail"), "written to by others (mode 777)", "chmod go-w ");
}

#[test]
fn a_damaged_page_and_a_newer_database_are_told() {
    let mut stage = Stage::new(Options::default());
    for number in 0..40 {
        stage.write(&format!("run/file {number}"), &noise(10, number));
    }
    stage.start();
    stage.until_count("completed", 40);
    stage.signal(Signal::TERM);
    stage.wait_for_end();
    let path = stage.path("state/dropferry.db");
    let whole = fs::read(&path).expect("read");
    let found = doctor(&stage, &["--offline"]);
    found.assert_says(("database", "ok"), "all are whole", "");
    let mut damaged = whole.clone();
    let middle = whole.len() / 4096 / 2 * 4096;
    damaged[middle..middle + 4096].fill(0xA5);
    fs::write(&path, &damaged).expect("written");
    let found = doctor(&stage, &["--offline"]);
    found.assert_code(1);
    found.assert_says(("database", "fail"), "", "dropferry restore --backup FILE puts a copy back");
    assert_eq!(fs::read(&path).expect("read"), damaged, "nothing is repaired");
    fs::write(&path, &whole).expect("written");
    let rows = rusqlite::Connection::open(&path).expect("opens");
    rows.execute(
        "UPDATE uploads SET stage = 'sending', hold = 'none', remote_upload_id = 'x', \
        part_count = 1, accepted_count = 1, accepted_bytes = 10 WHERE id = 1",
        [],
    )
    .expect("doctored");
    rows.execute("DELETE FROM parts WHERE upload_id = 1", []).expect("doctored");
    let found = doctor(&stage, &["--offline"]);
    found.assert_code(1);
    found.assert_says(
        ("database", "fail"),
        "upload 1 breaks \"accepted parts are counted\"",
        "report",
    );
    rows.pragma_update(None, "user_version", 99).expect("doctored");
    drop(rows);
    let found = doctor(&stage, &["--offline"]);
    found.assert_code(1);
    found.assert_says(
        ("database", "fail"),
        "it has version 99",
        "install the version of dropferry",
    );
}

#[test]
fn another_version_a_watchdog_and_a_clock_that_was_set_are_told() {
    let mut stage = Stage::new(Options::default());
    stage.write("run/a", b"hello");
    let mut run = stage.command("run");
    run.env("WATCHDOG_USEC", "30000000");
    stage.start_as(run);
    stage.until_count("completed", 1);
    let found = doctor(&stage, &["--offline"]);
    found.assert_says(("clock", "ok"), "it was not set since the daemon started", "");
    found.assert_says(("daemon", "ok"), "its supervisor wants a word every 30 s", "");
    let rows = rusqlite::Connection::open(stage.path("state/dropferry.db")).expect("opens");
    let hours = |count: i64| {
        let sql = "UPDATE daemon SET version = '0.0.1', started_at_ns = started_at_ns + ?1";
        rows.execute(sql, [count * 3600 * 1_000_000_000]).expect("doctored");
        doctor(&stage, &["--offline"])
    };
    let found = hours(-2);
    found.assert_code(0);
    found.assert_says(("daemon", "warn"), "0.0.1 runs, and this program is ", "systemctl restart");
    found.assert_says(("clock", "warn"), "it was set forward by ", "timedatectl set-ntp true");
    let found = hours(5);
    found.assert_says(("clock", "warn"), "from now: the clock was set back", "timedatectl");
}

#[test]
fn what_waits_for_somebody_is_said_with_what_to_do() {
    let mut stage = Stage::new(Options::default());
    let action = json!({"answer": {"status": 400, "body": {"code": 1, "message": "no"}}});
    let rule = json!([{"operation": "initialise", "times": 0, "action": action}]);
    stage.tell("faults", &rule.to_string());
    stage.write("run/a", b"hello");
    stage.write("run/b", b"hello");
    stage.start();
    stage.until_count("parked", 2);
    let found = doctor(&stage, &["--offline"]);
    found.assert_code(6);
    found.assert_says(
        ("attention", "warn"),
        "2 uploads (1, 2): the platform calls the request wrong",
        "name or size that it names; then: dropferry retry 1 2",
    );
    stage.tell("switches", "{\"token_revoked\": true}");
    stage.write("run/c", b"hello");
    until("it is halted", || {
        (stage.status()["destinations"][0]["state"] == "halted").then_some(())
    });
    let found = doctor(&stage, &[]);
    found.assert_code(1);
    found.assert_says(
        ("attention", "warn"),
        "to-sevenbridges is halted for ",
        "see its lines below",
    );
    found.assert_says(("destination", "fail"), "unauthorized", "write a valid credential into ");
}

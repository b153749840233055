//! The state directory of the real binary: lost, removed, shared, locked, too small; and files
//! whose lengths add up to more than a number can hold.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use super::skipped::{skipped, skipped_by_machine};
use super::stage::{Options, Stage, until, walk};

const DATABASE: [&str; 3] = ["dropferry.db", "dropferry.db-wal", "dropferry.db-shm"];
/// A user that owns nothing here.
const STRANGER: u32 = 54_321;

fn stage() -> Stage {
    Stage::new(Options { destination: "when_name_taken = \"skip-if-same\"", ..Options::default() })
}

/// A stage that has sent one file, and whose daemon is stopped.
fn sent_and_stopped() -> Stage {
    let mut stage = stage();
    stage.write("run/a", b"first");
    stage.start();
    stage.until_count("completed", 1);
    stop(&mut stage);
    stage
}

fn stop(stage: &mut Stage) {
    stage.signal(rustix::process::Signal::TERM);
    assert!(stage.wait_for_end().success(), "{}", stage.log());
}

/// The output of a command, and how it ended; one that hangs is ended after a while.
fn said(stage: &Stage, command: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let plain = stage.command(command);
    let mut bounded = Command::new("timeout");
    bounded.args(["-s", "KILL", "30"]).arg(plain.get_program()).args(plain.get_args());
    let Output { status, stdout, stderr } = bounded.args(arguments).output().expect("it runs");
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn lose_database(stage: &Stage) {
    DATABASE.iter().for_each(|name| fs::remove_file(stage.path("state").join(name)).unwrap_or(()));
}

#[test]
fn a_new_state_starts_beside_receipts_where_that_is_asked_for() {
    let mut stage = sent_and_stopped();
    lose_database(&stage);
    let mut run = stage.command("run");
    run.arg("--new-state");
    stage.start_as(run);
    until("it has started", || (stage.log().matches("INFO started").count() == 2).then_some(()));
    stage.until_count("completed", 1);
    stage.assert_all_there();
    assert_eq!(stage.ledger()["bytes_received_again"], 0, "it is found there");
}

#[test]
fn a_lost_database_is_said_and_rebuilt_only_when_that_is_asked_for() {
    let mut stage = sent_and_stopped();
    let receipts = walk(&stage.path("state/receipts"));
    for is_empty in [false, true] {
        lose_database(&stage);
        if is_empty {
            fs::write(stage.path("state/dropferry.db"), "").expect("emptied");
        }
        for (command, arguments) in
            [("run", &[][..]), ("check-config", &[]), ("status", &[]), ("show", &["1"])]
        {
            let (code, text) = said(&stage, command, arguments);
            assert_eq!(code, Some(4), "{command}: {text}");
            for word in ["although an earlier one left receipts", "backup.md", "restore --receipts"]
            {
                assert!(text.contains(word), "{command} does not say {word:?}: {text}");
            }
        }
        let (code, text) = said(&stage, "doctor", &["--offline"]);
        assert!(code == Some(1) && text.contains("restore --receipts"), "{text}");
        assert_eq!(walk(&stage.path("state/receipts")), receipts, "nothing was touched");
    }
    assert_eq!(said(&stage, "restore", &["--receipts"]).0, Some(0));
    stage.start();
    until("it has started", || (stage.log().matches("INFO started").count() == 2).then_some(()));
    stage.until_count("completed", 1);
    stage.assert_all_there();
    assert_eq!(stage.ledger()["bytes_received_again"], 0, "it is known, and not sent");
    stop(&mut stage);
    stage.start();
    until("it runs on", || stage.status()["daemon"]["running"].as_bool().filter(|runs| *runs));
}

#[test]
fn a_database_that_is_removed_under_the_daemon_ends_it_loudly() {
    let mut stage = stage();
    stage.write("run/a", b"first");
    stage.start();
    stage.until_count("completed", 1);
    lose_database(&stage);
    let status = stage.wait_for_end();
    assert_eq!(status.code(), Some(4));
    let log = stage.log();
    assert!(
        log.contains("ERROR") && log.contains("removed or replaced while the daemon ran"),
        "{log}"
    );
}

#[test]
fn a_second_daemon_never_runs_beside_the_first_although_the_lock_was_removed() {
    let mut stage = stage();
    stage.write("run/a", b"first");
    stage.start();
    stage.until_count("completed", 1);
    let lock = stage.path("state/dropferry.lock");
    assert_eq!(fs::metadata(&lock).expect("there").mode() & 0o777, 0o600, "no reader may lock it");
    fs::remove_file(&lock).expect("removed");
    assert_eq!(stage.status()["daemon"]["running"], true, "its process is seen");
    let (code, text) = said(&stage, "run", &[]);
    assert!(code == Some(4) && text.contains("another daemon runs"), "{text}");
    assert!(stage.is_running());
    stage.write("run/b", b"second");
    stage.until_count("completed", 2);
    // A daemon that was killed holds nothing up, and neither does a process that only reads the lock.
    stage.kill();
    let reader = fs::File::open(stage.path("state/dropferry.lock")).expect("opened");
    let shared = rustix::fs::FlockOperation::NonBlockingLockShared;
    rustix::fs::flock(&reader, shared).expect("nobody else has it");
    stage.start();
    stage.write("run/c", b"third");
    stage.until_count("completed", 3);
    assert_eq!(stage.status()["daemon"]["running"], true);
    let (code, text) = said(&stage, "run", &[]);
    assert!(code == Some(4) && text.contains("another daemon runs"), "{text}");
}

#[test]
fn what_is_made_is_not_for_others_whatever_the_umask() {
    let mut stage = stage();
    stage.write("run/a", b"first");
    let run = stage.command("run");
    let mut loose = Command::new("sh");
    loose.args(["-c", "umask 0; exec \"$0\" \"$@\""]).arg(run.get_program()).args(run.get_args());
    stage.start_as(loose);
    stage.until_count("completed", 1);
    let state = stage.path("state");
    let found = walk(&state).into_iter().chain([state.clone(), state.join("receipts")]);
    let found = found.filter(|path| !path.ends_with("control.sock"));
    let loose: Vec<_> = found
        .map(|path| (path.clone(), fs::metadata(path).expect("there").mode() & 0o777))
        .filter(|(_, mode)| mode & 0o027 != 0)
        .collect();
    assert_eq!(loose, [], "modes that let others in, or the group write");
    stop(&mut stage);

    // The control socket is there too, and is checked first if everybody may write there.
    for (mode, codes) in [(0o777, [3, 4]), (0o770, [4, 4])] {
        fs::set_permissions(&state, fs::Permissions::from_mode(mode)).expect("set");
        for command in ["run", "check-config"] {
            let (code, text) = said(&stage, command, &[]);
            assert!(code.is_some_and(|code| codes.contains(&code)), "{command}: {text}");
            assert!(text.contains("may write to it") && text.contains("hint: "), "{text}");
        }
    }
    assert!(said(&stage, "run", &[]).1.contains("chmod go-w"));
}

#[test]
fn members_of_the_group_read_the_status_of_a_daemon_that_runs_stopped_or_was_killed() {
    if !rustix::process::geteuid().is_root() {
        return skipped("only root can ask as another user");
    }
    let mut stage = stage();
    fs::copy(env!("CARGO_BIN_EXE_dropferry"), stage.path("dropferry")).expect("copied");
    for place in ["", "drop"] {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(stage.path(place), mode).expect("set");
    }
    let ask = |stage: &Stage| {
        let mut program = Command::new(stage.path("dropferry"));
        std::os::unix::process::CommandExt::uid(&mut program, STRANGER);
        let config = stage.path("config.toml");
        let output = program.args(["status", "--json", "--config"]).arg(config).output();
        let output = output.expect("it runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let status: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no status: {text}"));
        (status["daemon"]["running"].clone(), status["counts"]["completed"].clone())
    };
    stage.write("run/a", b"first");
    stage.start();
    stage.until_count("completed", 1);
    assert_eq!(ask(&stage), (true.into(), 1.into()), "while it runs");
    stop(&mut stage);
    assert_eq!(ask(&stage), (false.into(), 1.into()), "stopped");
    stage.start();
    until("it runs", || stage.status()["daemon"]["running"].as_bool().filter(|runs| *runs));
    stage.kill();
    assert_eq!(ask(&stage), (false.into(), 1.into()), "killed");
}

#[test]
fn a_pipe_under_the_name_of_a_file_of_the_state_holds_nobody_up() {
    let stage = sent_and_stopped();
    for name in ["dropferry.db", "dropferry.lock"] {
        let (path, aside) = (stage.path("state").join(name), stage.path("aside"));
        fs::rename(&path, &aside).expect("moved");
        let made = Command::new("mkfifo").arg(&path).status().expect("it runs");
        assert!(made.success());
        for (command, arguments) in [
            ("status", &[][..]),
            ("show", &["1"]),
            ("receipts", &[]),
            ("doctor", &["--offline"]),
            ("check-config", &[]),
            ("run", &[]),
        ] {
            let (code, text) = said(&stage, command, arguments);
            assert!(code.is_some_and(|code| code != 0), "{name}: {command}: {code:?} {text}");
            assert!(text.contains("named pipe"), "{name}: {command}: {text}");
        }
        fs::remove_file(&path).expect("removed");
        fs::rename(&aside, &path).expect("put back");
    }
}

#[test]
fn a_limit_of_the_length_of_files_ends_the_daemon_with_words() {
    let mut stage = stage();
    stage.write("run/a", b"first");
    let run = stage.command("run");
    let mut limited = Command::new("sh");
    // 512-byte blocks: less than the database takes.
    limited.args(["-c", "ulimit -f 64; exec \"$0\" \"$@\""]);
    limited.arg(run.get_program()).args(run.get_args());
    stage.start_as(limited);
    let status = stage.wait_for_end();
    assert_eq!(status.code(), Some(4), "{status}: {}", stage.log());
}

const FILES: &str = "unit = \"file\"\nquiet_period = \"100ms\"\nscan_interval = \"300ms\"";

/// Files of the longest length that there is, which cost nothing on a file system in memory.
fn write_longest(drop: &Path, count: u32) -> bool {
    (0..count).all(|number| {
        let file = fs::File::create(drop.join(format!("huge-{number}"))).expect("created");
        file.set_len(i64::MAX.unsigned_abs()).is_ok()
    })
}

#[test]
fn files_of_any_length_park_and_stop_nothing() {
    let memory = Path::new("/dev/shm");
    let Ok(place) = tempfile::tempdir_in(memory) else {
        return skipped_by_machine("there is no file system in memory");
    };
    for run in ["file", "directory"] {
        let drop_directory = place.path().join(run);
        fs::create_dir_all(drop_directory.join("run")).expect("made");
        if !write_longest(&drop_directory.join("run"), 4) {
            return skipped_by_machine("the file system in memory takes no file of that length");
        }
        let mut stage = match run {
            "file" => Stage::new(Options { drop: FILES, ..Options::default() }),
            _ => Stage::new(Options::default()),
        };
        fs::remove_dir(stage.drop()).expect("it is empty");
        symlink(&drop_directory, stage.drop()).expect("linked");
        fs::write(drop_directory.join("run/a"), "first").expect("written");
        stage.start();
        stage.until_count("parked", 4);
        stage.until_count("completed", 1);
        stage.kill();
        stage.start();
        fs::write(drop_directory.join("run/b"), "second").expect("written");
        stage.until_count("completed", 2);
        assert_eq!(stage.count("parked"), 4, "{run}: they are admitted once");
        assert!(stage.status()["bytes"]["total"].as_u64() > Some(1 << 48), "{run}");
        assert_eq!(stage.output("status", &[]).status.code(), Some(0), "{run}");
        stop(&mut stage);
    }
}

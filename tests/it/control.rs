//! The control socket, and what may hold it up: silent peers, floods, and whatever is at its path.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dropferry::testing::clock::Clock;

use super::stage::{Options, Stage, until};

/// Sets a flag when it goes, also by a panic.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn stage() -> Stage {
    let mut stage = Stage::new(Options::default());
    stage.start();
    until("the daemon listens", || stage.output("log-level", &[]).status.success().then_some(()));
    stage
}

fn socket(stage: &Stage) -> PathBuf {
    stage.path("state/control.sock")
}

fn connect(stage: &Stage) -> UnixStream {
    let stream = UnixStream::connect(socket(stage)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    stream
}

fn ask(stage: &Stage, line: &str) -> String {
    let mut stream = connect(stage);
    stream.write_all(line.as_bytes()).expect("sent");
    stream.write_all(b"\n").expect("sent");
    stream.shutdown(std::net::Shutdown::Write).expect("said");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    answer
}

#[test]
fn silent_peers_keep_nobody_out_and_are_let_go() {
    let stage = stage();
    let mut held: Vec<_> = (0..40).map(|_| connect(&stage)).collect();
    // Some say half a line, some ask and do not read.
    for stream in &mut held[..10] {
        // The daemon may have closed the connection already.
        stream.write_all(b"{\"request\":").ok();
    }
    let started = Clock::real();
    assert!(stage.output("log-level", &[]).status.success());
    assert!(started.now().monotonic.0 < Duration::from_secs(20), "{:?}", started.now().monotonic.0);
    for mut stream in held {
        let mut rest = Vec::new();
        // Reset or ended: the daemon has closed the connection.
        drop(stream.read_to_end(&mut rest));
    }
    assert!(started.now().monotonic.0 < Duration::from_secs(60), "{:?}", started.now().monotonic.0);
}

#[test]
fn peers_that_do_not_read_keep_nobody_out() {
    let stage = stage();
    // Each answer is long, so that few of them are more than a peer may leave unread.
    let targets: Vec<_> = (0..900).map(|id| format!("{{\"upload\":{id}}}")).collect();
    let order =
        format!("{{\"request\":\"order\",\"verb\":\"retry\",\"of\":[{}]}}\n", targets.join(","));
    let held: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = connect(&stage);
            stream.set_write_timeout(Some(Duration::from_secs(1))).expect("set");
            // Until the daemon closes the connection, or nothing more fits.
            while stream.write_all(order.as_bytes()).is_ok() {}
            stream
        })
        .collect();
    assert!(stage.output("log-level", &[]).status.success());
    drop(held);
    assert!(stage.output("log-level", &[]).status.success());
}

#[test]
fn huge_orders_are_refused_and_what_is_named_twice_is_ordered_once() {
    let stage = stage();
    let all = |count: usize| {
        let of = vec!["\"all\""; count].join(",");
        ask(&stage, &format!("{{\"request\":\"order\",\"verb\":\"retry\",\"of\":[{of}]}}"))
    };
    for count in [1001, 100_000, 400_000] {
        let answer = all(count);
        assert!(answer.starts_with("{\"refused\":"), "{count}: {answer:.200}");
    }
    let answer = all(1000);
    assert_eq!(answer.matches("is_known").count(), 1, "{answer:.200}");
    let answer = ask(&stage, &"x".repeat(5 << 20));
    assert!(answer.starts_with("{\"refused\":\"a request has at most"), "{answer:.200}");
    let answer = ask(&stage, &"[".repeat(100_000));
    assert!(answer.starts_with("{\"refused\":\"that is no request"), "{answer:.200}");
}

#[test]
fn names_in_orders_make_no_lines_in_the_log() {
    let stage = stage();
    let drop = r#"{"drop":"x\n2026-01-01T00:00:00Z  INFO forged\u001b[31m"}"#;
    let unit = r#"{"run":["q\nforged",[112,10,102,111,114,103,101,100]]}"#;
    let other = r#"{"destination":"d\r\nforged\u202e"}"#;
    ask(
        &stage,
        &format!("{{\"request\":\"order\",\"verb\":\"pause\",\"of\":[{drop},{unit},{other}]}}"),
    );
    ask(&stage, r#"{"request":"upload","paths":[],"to":"y\nforged"}"#);
    until("the orders are logged", || (stage.log().matches("forged").count() >= 3).then_some(()));
    let log = stage.log();
    assert!(log.lines().all(|line| line.contains("  INFO ") || line.contains("  WARN ")), "{log}");
    assert!(!log.contains(['\u{1b}', '\r', '\u{202e}']), "{log}");
}

#[test]
fn a_socket_that_was_removed_is_missed_and_made_again() {
    let stage = stage();
    fs::remove_file(socket(&stage)).expect("removed");
    let output = stage.output("pause", &["--all"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("a daemon runs, but its control socket"), "{said}");
        assert!(!said.contains("start it"), "{said}");
    }
    let made = until("it is there again", || fs::symlink_metadata(socket(&stage)).ok());
    assert!(made.file_type().is_socket());
    until("it answers", || stage.output("log-level", &[]).status.success().then_some(()));
    assert!(stage.log().contains("was removed; it is made again"), "{}", stage.log());
}

#[test]
fn status_and_doctor_miss_the_socket() {
    let stage = stage();
    let (path, is_over) = (socket(&stage), AtomicBool::new(false));
    std::thread::scope(|scope| {
        // The daemon makes it again, and `status` waits for that as for a daemon that starts.
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                fs::remove_file(&path).ok();
                std::thread::yield_now();
            }
        });
        let _over = SetAtEnd(&is_over);
        until("the socket was missed", || {
            let check = stage.output("status", &["--check"]);
            let doctor = stage.output("doctor", &["--offline"]);
            let found = String::from_utf8_lossy(&doctor.stdout).into_owned();
            let is_missed = found.contains("control socket") && found.contains("is not there");
            (check.status.code() == Some(6) && is_missed).then_some(())
        });
    });
    until("it is there again", || socket(&stage).exists().then_some(()));
    until("all is well", || stage.output("status", &["--check"]).status.success().then_some(()));
}

#[test]
fn what_stands_at_the_path_of_the_socket_is_never_replaced() {
    let mut stage = Stage::new(Options::default());
    let config = fs::read_to_string(stage.path("config.toml")).expect("read");
    let config = format!("{config}\n[control]\nsocket = \"notes.txt\"\n");
    fs::write(stage.path("config.toml"), config).expect("written");
    fs::write(stage.path("notes.txt"), "precious").expect("written");
    let output = stage.output("check-config", &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("notes.txt: a regular file is there, and is not replaced"), "{said}");
    stage.start();
    assert_eq!(stage.wait_for_end().code(), Some(3));
    assert_eq!(fs::read_to_string(stage.path("notes.txt")).expect("there"), "precious");
    fs::remove_file(stage.path("notes.txt")).expect("removed");
    std::os::unix::fs::symlink("nowhere", stage.path("notes.txt")).expect("linked");
    stage.start();
    assert_eq!(stage.wait_for_end().code(), Some(3));
    assert!(stage.path("notes.txt").is_symlink() && !stage.path("nowhere").exists());
}

#[test]
fn every_order_without_a_daemon_ends_with_the_same_code() {
    let stage = Stage::new(Options::default());
    for order in [
        &["pause", "lab"][..],
        &["resume", "--all"],
        &["retry", "17"],
        &["abandon", "lab/run"],
        &["close", "lab/run"],
        &["upload", "config.toml", "--to", "to-sevenbridges"],
        &["bandwidth"],
        &["log-level"],
    ] {
        let output = stage.output(order[0], &order[1..]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(5), "{order:?}: {said}");
        assert!(said.contains("no daemon listens"), "{order:?}: {said}");
    }
}

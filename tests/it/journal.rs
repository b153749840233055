//! The log as journald receives it: the real binary, with a socket in the journal's place.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::daemon::stage_with_secrets;
use super::shares::start_apart;
use super::skipped::skipped_by_machine;
use super::stage::{Options, Stage, TOKEN};

/// Receives records until the test says that no more will come.
fn records(socket: &UnixDatagram, is_over: &AtomicBool) -> Vec<String> {
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("set");
    let (mut records, mut bytes) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        match socket.recv(&mut bytes) {
            Ok(count) => records.push(String::from_utf8_lossy(&bytes[..count]).into_owned()),
            Err(_) if is_over.load(Ordering::Relaxed) => return records,
            Err(_) => {}
        }
    }
}

#[test]
fn the_journal_gets_fields_and_no_secret() {
    let mut stage = stage_with_secrets();
    let place = stage.path("journal");
    fs::create_dir(&place).expect("made");
    let socket = UnixDatagram::bind(place.join("socket")).expect("bound");
    let is_over = AtomicBool::new(false);
    // Standard error is a file here: the parent process declares it to be the journal's stream.
    let prepare = format!(
        "mount -t tmpfs tmpfs /run\nmkdir -p /run/systemd/journal\n\
         mount --bind {} /run/systemd/journal\n\
         JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2)\nexport JOURNAL_STREAM",
        place.display()
    );
    let records = std::thread::scope(|scope| {
        let reading = scope.spawn(|| records(&socket, &is_over));
        if start_apart(&mut stage, "-rm", &prepare) {
            stage.until_count("completed", 1);
            stage.kill();
        }
        is_over.store(true, Ordering::Relaxed);
        reading.join().expect("read")
    });
    if records.is_empty() && stage.log().is_empty() {
        return;
    }
    assert_eq!(stage.log(), "", "nothing goes to standard error");
    let text = records.concat();
    assert!(text.contains("PRIORITY=7\n"), "the trace log is there");
    assert!(text.contains("[redacted]"), "there were secrets to leave out");
    assert!(!text.contains("had no room"), "every record was taken");
    let is_whole = |record: &&String| {
        ["PRIORITY=6\n", "SYSLOG_IDENTIFIER=dropferry\n", "DROPFERRY_DESTINATION=to-"]
            .into_iter()
            .chain(["CODE_MODULE=dropferry::daemon::receipts\n", "DROPFERRY_UPLOAD_ID=1\n"])
            .chain([" is at to-", ", verified\n"])
            .all(|field| record.contains(field))
    };
    assert_eq!(records.iter().filter(is_whole).count(), 1);
    assert!(!text.contains(TOKEN), "the secret is in the journal");
    for (at, _) in text.match_indices("signature=") {
        assert!(text[at..].starts_with("signature=[redacted]"), "{}", &text[at..at + 80]);
    }
}

#[test]
fn without_a_journal_lines_go_to_standard_error_as_text() {
    if Path::new("/run/systemd/journal/socket").exists() {
        skipped_by_machine("a journal listens here");
        return;
    }
    let mut stage = Stage::new(Options::default());
    stage.write("run/small", b"x");
    let mut run = stage.command("run");
    run.args(["--log-format", "journal"]);
    stage.start_as(run);
    stage.until_count("completed", 1);
    stage.kill();
    let log = stage.log();
    assert!(log.contains(" INFO run/small is at to-sevenbridges: 1 B, sent in "), "{log}");
    let lines = log.lines().filter(|line| line.contains("INFO") && line.contains("run/small"));
    assert_eq!(lines.count(), 1, "one line for a file: {log}");
}

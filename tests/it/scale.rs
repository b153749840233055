//! What thousands of files cost. `benches/scale.rs` measures hundreds of thousands.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};

use rusqlite::Connection;

use super::stage::{program, until};

const FILES: u64 = 5_000;
/// Memory for each queued upload that is more than enough, in bytes.
const BYTES_PER_FILE: u64 = 4_000;

/// A daemon with a drop directory, and a destination that nobody answers at.
struct Lonely {
    directory: tempfile::TempDir,
    daemon: Option<Child>,
    _port: TcpListener,
}

impl Lonely {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        // Somebody listens and never answers, so that nothing is decided about the destination.
        let port = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = port.local_addr().expect("bound");
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("drop")).expect("made");
        let keys = "[default]\naws_access_key_id = A\naws_secret_access_key = B\n";
        fs::write(at("keys"), keys).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(at("keys"), mode).expect("set");
        let text = format!(
            "[state]\ndirectory = \"state\"\n[web]\nlisten = \"off\"\n[destinations.far]\nplatform = \"s3\"\n\
             base_url = \"http://{address}\"\nbucket = \"lab\"\ncredential = {{ file = \"keys\" }}\n\
             [drops.lab]\ndirectory = \"drop\"\ndestinations = [\"far\"]\n\
             quiet_period = \"100ms\"\nscan_interval = \"1h\"\n"
        );
        fs::write(at("config.toml"), text).expect("written");
        let mut lonely = Self { directory, daemon: None, _port: port };
        lonely.start();
        lonely
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, name: &str) -> Command {
        let mut program = program();
        program.arg(name).arg("--config").arg(self.path("config.toml"));
        program
    }

    fn start(&mut self) {
        let log = fs::File::create(self.path("daemon.log")).expect("made");
        let mut command = self.command("run");
        let child = command.args(["--log-level", "warn"]).stderr(log).spawn();
        self.daemon = Some(child.expect("the daemon starts"));
    }

    fn ask(&self, sql: &str) -> Option<i64> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let place = self.path("state/dropferry.db");
        Connection::open_with_flags(place, flags).ok()?.query_row(sql, [], |row| row.get(0)).ok()
    }

    fn last_scan(&self) -> i64 {
        self.ask("SELECT max(last_full_scan_at_ns) FROM drop_health").unwrap_or(0)
    }

    /// Memory in bytes.
    fn memory(&self) -> u64 {
        let pid = self.daemon.as_ref().expect("it runs").id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Length of the database and its WAL.
    fn written(&self) -> u64 {
        let length = |name: &str| fs::metadata(self.path(name)).map_or(0, |found| found.len());
        length("state/dropferry.db") + length("state/dropferry.db-wal")
    }
}

impl Drop for Lonely {
    fn drop(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn fill(directory: &Path) {
    for index in 0..FILES {
        let place = directory.join(format!("run-{}/cycle-{}", index % 10, index / 100));
        fs::create_dir_all(&place).expect("made");
        fs::write(place.join(format!("tile-{index}.bcl")), index.to_string()).expect("written");
    }
}

#[test]
fn queued_files_take_little_memory_and_a_scan_of_the_unchanged_writes_one_row() {
    let lonely = Lonely::new();
    until("the empty directory is scanned", || Some(lonely.last_scan()).filter(|at| *at > 0));
    let before = lonely.memory();
    fill(&lonely.path("drop"));
    let admitted = || lonely.ask("SELECT sum(upload_count) FROM tallies");
    until("all is admitted", || admitted().filter(|count| *count == 5_000));
    let grown = lonely.memory().saturating_sub(before);
    assert!(grown < FILES * BYTES_PER_FILE, "{grown} bytes more for {FILES} files");

    let status = lonely.command("status").arg("--json").output().expect("it runs");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("JSON");
    assert_eq!(status["uploads"].as_array().map(Vec::len), Some(1_000));
    assert_eq!(status["uploads_left_out"], 4_000);

    let (uploads, scanned, written) = (admitted(), lonely.last_scan(), lonely.written());
    fs::create_dir(lonely.path("drop/new")).expect("made");
    until("it is scanned again", || Some(lonely.last_scan()).filter(|at| *at > scanned));
    assert_eq!(admitted(), uploads);
    let more = lonely.written().saturating_sub(written);
    assert!(more < 64 * 1024, "a scan of nothing new wrote {more} bytes");
}

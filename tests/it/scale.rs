//! What thousands of files cost. `benches/scale.rs` measures hundreds of thousands.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rusqlite::Connection;

use dropferry::testing::clock::Clock;

use super::page::browser::Browser;
use super::stage::{program, until};

const FILES: u64 = 5_000;
/// More memory for each queued upload than it needs, in bytes.
const BYTES_PER_FILE: u64 = 4_000;

/// A daemon with a drop directory, and a destination where no server answers.
struct Lonely {
    directory: tempfile::TempDir,
    daemon: Option<Child>,
    _port: TcpListener,
}

impl Lonely {
    /// Starts one that serves the status page at an address, or at none.
    fn new(web: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        // The port accepts connections and never answers, so that nothing is decided about the destination.
        let port = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = port.local_addr().expect("bound");
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("drop")).expect("made");
        let keys = "[default]\naws_access_key_id = A\naws_secret_access_key = B\n";
        fs::write(at("keys"), keys).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(at("keys"), mode).expect("set");
        let text = format!(
            "[state]\ndirectory = \"state\"\n[web]\nlisten = \"{web}\"\n[destinations.far]\nplatform = \"s3\"\n\
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

    /// The CPU time of its threads since it started, in seconds.
    fn processor_seconds(&self) -> f64 {
        let pid = self.daemon.as_ref().expect("it runs").id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let (_, fields) = stat.rsplit_once(") ").expect("fields behind the name");
        let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<f64>());
        ticks.map(|ticks| ticks.expect("a number")).sum::<f64>() / 100.0
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

fn fill(directory: &Path, count: u64) {
    for index in 0..count {
        let place = directory.join(format!("run-{}/cycle-{}", index % 10, index / 100));
        fs::create_dir_all(&place).expect("made");
        fs::write(place.join(format!("tile-{index}.bcl")), index.to_string()).expect("written");
    }
}

#[test]
fn queued_files_take_little_memory_and_a_scan_of_the_unchanged_writes_one_row() {
    let lonely = Lonely::new("off");
    until("the empty directory is scanned", || Some(lonely.last_scan()).filter(|at| *at > 0));
    let before = lonely.memory();
    fill(&lonely.path("drop"), FILES);
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

/// The time for which the cost of an open page is measured.
const LOOKED: Duration = Duration::from_secs(10);
/// More would be over 1 % of a core.
const SECONDS_MAX: f64 = 0.1;

#[test]
fn a_page_of_ten_thousand_uploads_paints_at_once_and_costs_a_hundredth_of_a_core() {
    let Some(browser) = Browser::start() else { return };
    let address = free_address();
    let lonely = Lonely::new(&address);
    fill(&lonely.path("drop"), 10_000);
    let admitted = || lonely.ask("SELECT sum(upload_count) FROM tallies");
    until("all is admitted", || admitted().filter(|count| *count == 10_000));

    let paint = "return performance.getEntriesByName('first-contentful-paint')[0]?.startTime";
    let paints: Vec<_> = (0..5)
        .map(|_| {
            browser.open(&format!("http://{address}/"));
            until("it is painted", || browser.run(paint).as_f64())
        })
        .collect();
    let first = paints.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(first <= 200.0, "painted after {paints:?} ms");

    // The cost of a start is not a cost of the page.
    browser.open("about:blank");
    until("the start is over", || {
        let (started, before) = (Clock::real(), lonely.processor_seconds());
        until("two seconds pass", || {
            (started.now().monotonic.0 >= Duration::from_secs(2)).then_some(())
        });
        (lonely.processor_seconds() - before <= 0.02).then_some(())
    });
    browser.open(&format!("http://{address}/"));

    // Files arrive meanwhile, so that there are changes to show.
    let watch = |name: &str| {
        let started = Clock::real();
        let before = lonely.processor_seconds();
        let mut count = 0;
        until("the time is over", || {
            let elapsed = started.now().monotonic.0;
            if elapsed.as_secs() >= count {
                fs::write(lonely.path(&format!("drop/{name}-{count}")), "x").expect("written");
                count += 1;
            }
            (elapsed >= LOOKED).then_some(())
        });
        lonely.processor_seconds() - before
    };
    let task = browser.task_seconds();
    let with = watch("with");
    let task = browser.task_seconds() - task;
    let shown = browser.run("return document.body.innerText");
    assert!(shown.as_str().is_some_and(|text| text.contains("queued")), "{shown}");
    browser.open("about:blank");
    let without = watch("without");
    let more = with - without;
    eprintln!("painted after {first} ms; 10 s of it: daemon {more:.2} s, page {task:.2} s");
    assert!(more <= SECONDS_MAX, "the daemon computed {with} s with a page, {without} s without");
    assert!(task <= SECONDS_MAX, "the page computed {task} s");
}

fn free_address() -> String {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port");
    port.local_addr().expect("bound").to_string()
}

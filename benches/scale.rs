//! How the daemon bears a big drop directory: 300 000 files in 20 000 directories, by default fewer.
//!
//! ```text
//! DROPFERRY_SCALE_FILES=300000 DROPFERRY_SCALE_DIRECTORIES=20000 cargo bench --bench scale
//! ```
//! | variable | default | what |
//! |---|---|---|
//! | `DROPFERRY_SCALE_FILES` | 20000 | files in the drop directory |
//! | `DROPFERRY_SCALE_DIRECTORIES` | files / 15 | directories they lie in, in 1 000 top-level ones at most |
//! | `DROPFERRY_SCALE_IDLE_MINUTES` | 10 | how long the idle daemon is watched; may be a fraction |
//! | `DROPFERRY_SCALE_PROGRAM` | the one built with the bench | another build to compare with |
//! | `DROPFERRY_SCALE_UNTIL` | `completed` | `admitted`: does not wait until everything is sent |
//!
//! Makes the tree in the temporary directory, starts the program's own sandbox and the daemon with
//! one S3 destination as processes of their own, in the environment of the service, and prints a
//! table. Exits with 1 when the daemon's memory was ever 300 MB or more. A step that makes no progress
//! for ten minutes fails the bench.

#![expect(clippy::print_stdout, reason = "a bench's result is its output")]
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]

mod program;
mod sandbox;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use self::program::program;
use self::sandbox::{number_after, start_sandbox};

/// The daemon's memory must stay below, in bytes.
const MEMORY_MAX: u64 = 300_000_000;
/// Longest time without any progress.
const PATIENCE: Duration = Duration::from_mins(10);
/// How often the database is asked; each question is a few rows.
const POLL: Duration = Duration::from_millis(50);
/// What `/proc` counts CPU time in; the same on every Linux.
const TICKS_PER_SECOND: u64 = 100;
const TOKEN: &str = "5ec2e7f00dfeedfacecafe0123456789";

fn main() -> ExitCode {
    let size = Size::from_environment();
    println!("{} files in {} directories", size.files, size.directories);
    let mut bench = Bench::new();
    bench.make_tree(&size);
    bench.start_sandbox();
    bench.configure();
    bench.measure_uploading(&size);
    if size.waits_for_completion {
        bench.measure_idle(size.idle);
    }
    bench.measure_restart();
    let peak = bench.peak;
    drop(bench);
    if peak < MEMORY_MAX {
        return ExitCode::SUCCESS;
    }
    println!(
        "the daemon took {} MB: it must stay below {}",
        peak / 1_000_000,
        MEMORY_MAX / 1_000_000
    );
    ExitCode::FAILURE
}

/// How big everything is.
struct Size {
    files: u64,
    directories: u64,
    idle: Duration,
    waits_for_completion: bool,
}

impl Size {
    fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(format!("DROPFERRY_SCALE_{name}")).ok();
        let count = |name: &str| variable(name).map(|text| text.parse().expect("a count"));
        let minutes = variable("IDLE_MINUTES").map(|text| text.parse().expect("a number"));
        let files = count("FILES").unwrap_or(20_000);
        Self {
            files,
            directories: count("DIRECTORIES").unwrap_or(files / 15).max(1),
            idle: Duration::from_secs_f64(minutes.unwrap_or(10.0) * 60.0),
            waits_for_completion: variable("UNTIL").is_none_or(|until| until != "admitted"),
        }
    }
}

struct Bench {
    directory: tempfile::TempDir,
    address: String,
    sandbox: Option<Child>,
    daemon: Option<Child>,
    /// Most memory that any daemon of this bench took, in bytes.
    peak: u64,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { directory, address: String::new(), sandbox: None, daemon: None, peak: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs with their cycles, and files of a line each, as a small sequencer leaves them.
    fn make_tree(&self, size: &Size) {
        let started = Instant::now();
        let runs = (size.directories / 20).clamp(1, 1_000);
        let mut left = size.files;
        for index in 0..size.directories {
            let (run, cycle) = (index % runs, index / runs);
            let place = self.path(&format!(
                "drop/20251121_M{run:05}_0001_000000000-KX{run:04}/Data/Intensities/BaseCalls/L001/C{cycle}.1"
            ));
            fs::create_dir_all(&place).expect("made");
            let count = left.div_ceil(size.directories - index);
            for file in 0..count {
                let name = format!("s_1_{}.bcl.gz", 1101 + file);
                fs::write(place.join(&name), format!("{index} {name}\n")).expect("written");
            }
            left -= count;
        }
        row("tree made", seconds(started.elapsed()));
    }

    fn start_sandbox(&mut self) {
        fs::write(self.path("token"), TOKEN).expect("written");
        let (child, address) = start_sandbox(own_program(), self.directory.path());
        (self.sandbox, self.address) = (Some(child), address);
    }

    fn configure(&self) {
        let keys =
            format!("[default]\naws_access_key_id = SANDBOX\naws_secret_access_key = {TOKEN}\n");
        fs::write(self.path("keys"), keys).expect("written");
        fs::set_permissions(self.path("keys"), fs::Permissions::from_mode(0o600)).expect("set");
        let text = format!(
            "[state]\ndirectory = \"state\"\n[web]\nlisten = \"off\"\n\
             [destinations.far]\nplatform = \"s3\"\nbase_url = \"{}\"\nbucket = \"lab-demo\"\n\
             prefix = \"runs/\"\ncredential = {{ file = \"keys\" }}\n\
             [drops.lab]\ndirectory = \"drop\"\ndestinations = [\"far\"]\nquiet_period = \"5s\"\n\
             scan_interval = \"1h\"\n",
            self.address
        );
        fs::write(self.path("config.toml"), text).expect("written");
    }

    fn start_daemon(&mut self) {
        let log = fs::File::create(self.path("daemon.log")).expect("made");
        let child = self.command("run").args(["--log-level", "warn"]).stderr(log).spawn();
        self.daemon = Some(child.expect("the daemon starts"));
    }

    fn command(&self, name: &str) -> Command {
        let mut program = own_program();
        program.arg(name).arg("--config").arg(self.path("config.toml"));
        program
    }

    fn measure_uploading(&mut self, size: &Size) {
        let started = Instant::now();
        self.start_daemon();
        let since = || seconds(started.elapsed());
        self.until("the first byte is sent", |counts| counts.bytes_sent > 0);
        row("first byte sent after", since());
        self.until("all is admitted", |counts| counts.uploads >= size.files);
        row("all admitted after", since());
        row("peak memory until then", megabytes(self.memory("VmHWM")));
        self.measure_status();
        if size.waits_for_completion {
            self.until("all is completed", |counts| counts.completed >= size.files);
            row("all completed after", since());
            row("peak memory until then", megabytes(self.memory("VmHWM")));
            row("CPU time until then", seconds(self.cpu()));
            self.wait("all runs are completed", || self.run_counts(), Units::are_completed);
            row(&format!("all {} runs completed after", self.run_counts().all), since());
        }
        self.note_peak("peak memory");
        let database = self.database_size();
        row("database", megabytes(database));
        row("database, for each file", format!("{} B", database / size.files.max(1)));
    }

    /// Asks three times, while uploads run, and shows the slowest answer.
    fn measure_status(&self) {
        for arguments in [&[] as &[&str], &["--json"]] {
            let times = (0..3).map(|_| {
                let started = Instant::now();
                let output = self.command("status").args(arguments).output().expect("it runs");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                started.elapsed()
            });
            let slowest = times.max().unwrap_or_default();
            row(&format!("status {}, while busy", arguments.join("")), milliseconds(slowest));
        }
    }

    fn measure_idle(&mut self, idle: Duration) {
        std::thread::sleep(Duration::from_secs(2));
        let (cpu, switches) = (self.cpu(), self.context_switches());
        std::thread::sleep(idle);
        row("idle for", seconds(idle));
        let watch = self.query::<String>("SELECT watch FROM drop_health");
        row("idle, changes are found by", watch.unwrap_or_default());
        row("idle, CPU time", milliseconds(self.cpu() - cpu));
        let more = self.context_switches().into_iter().map(|(thread, count)| {
            count.saturating_sub(switches.get(&thread).copied().unwrap_or(0))
        });
        row("idle, context switches", more.sum::<u64>().to_string());
        row("idle, memory", megabytes(self.memory("VmRSS")));
        self.note_peak("peak memory, all in all");
    }

    fn measure_restart(&mut self) {
        self.stop_daemon();
        let started = Instant::now();
        let before = self.started_at();
        self.start_daemon();
        self.wait("the daemon runs", || self.started_at(), |at| *at > before);
        row("running again after", milliseconds(started.elapsed()));
        row("CPU time until then", milliseconds(self.cpu()));
        row("memory then", megabytes(self.memory("VmHWM")));
        let (before, cpu, started) = (self.last_scan(), self.cpu(), Instant::now());
        self.wait("the first scan ends", || self.last_scan(), |at| *at > before);
        row("scan of the unchanged, wall time", milliseconds(started.elapsed()));
        row("scan of the unchanged, CPU time", milliseconds(self.cpu() - cpu));
        self.note_peak("peak memory after the restart");
        self.stop_daemon();
    }

    fn stop_daemon(&mut self) {
        let Some(mut child) = self.daemon.take() else { return };
        let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process"), rustix::process::Signal::TERM)
            .expect("sent");
        child.wait().expect("reaped");
    }

    fn note_peak(&mut self, name: &str) {
        let peak = self.memory("VmHWM");
        self.peak = self.peak.max(peak);
        row(name, megabytes(peak));
    }

    fn until(&self, what: &str, is_true: impl Fn(&Counts) -> bool) {
        self.wait(what, || self.counts(), |counts| is_true(counts));
    }

    /// Waits as long as what is asked for changes now and then.
    fn wait<T: PartialEq>(&self, what: &str, ask: impl Fn() -> T, is_true: impl Fn(&T) -> bool) {
        let (mut last, mut since) = (ask(), Instant::now());
        while !is_true(&last) {
            let log = || fs::read_to_string(self.path("daemon.log")).unwrap_or_default();
            assert!(since.elapsed() < PATIENCE, "waited in vain until {what}:\n{}", log());
            std::thread::sleep(POLL);
            let next = ask();
            if next != last {
                (last, since) = (next, Instant::now());
            }
        }
    }

    fn query<T: rusqlite::types::FromSql>(&self, sql: &str) -> Option<T> {
        let connection = Connection::open_with_flags(
            self.path("state/dropferry.db"),
            rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY,
        );
        connection.ok()?.query_row(sql, [], |row| row.get(0)).ok()
    }

    fn counts(&self) -> Counts {
        let sum = |what: &str| {
            let sum = self.query::<i64>(&format!("SELECT {what} FROM tallies"));
            sum.unwrap_or(0).cast_unsigned()
        };
        Counts {
            uploads: sum("sum(upload_count)"),
            completed: sum("sum(upload_count) FILTER (WHERE state = 'completed')"),
            bytes_sent: sum("sum(bytes_sent)"),
        }
    }

    fn run_counts(&self) -> Units {
        let count = |what: &str| {
            self.query::<i64>(&format!("SELECT count(*) FROM runs WHERE {what}")).unwrap_or(0)
        };
        Units { all: count("state <> 'gone'"), completed: count("state = 'completed'") }
    }

    fn last_scan(&self) -> i64 {
        self.query("SELECT max(last_full_scan_at_ns) FROM drop_health").unwrap_or(0)
    }

    fn started_at(&self) -> i64 {
        self.query("SELECT started_at_ns FROM daemon").unwrap_or(0)
    }

    fn database_size(&self) -> u64 {
        let length = |name: &str| fs::metadata(self.path(name)).map_or(0, |found| found.len());
        length("state/dropferry.db") + length("state/dropferry.db-wal")
    }

    fn proc(&self) -> PathBuf {
        let pid = self.daemon.as_ref().map_or(0, Child::id);
        Path::new("/proc").join(pid.to_string())
    }

    /// A line of the daemon's `/proc/PID/status` that counts kilobytes.
    fn memory(&self, line: &str) -> u64 {
        number_after(&fs::read_to_string(self.proc().join("status")).expect("it runs"), line) * 1024
    }

    /// By thread; those of a thread that ends are lost with it.
    fn context_switches(&self) -> BTreeMap<OsString, u64> {
        let tasks = self.proc().join("task").read_dir().expect("it runs").filter_map(Result::ok);
        let lines = ["\nvoluntary_ctxt_switches", "\nnonvoluntary_ctxt_switches"];
        let switches = |task: fs::DirEntry| {
            let text = fs::read_to_string(task.path().join("status")).ok()?;
            Some((task.file_name(), lines.map(|line| number_after(&text, line)).iter().sum()))
        };
        tasks.filter_map(switches).collect()
    }

    fn cpu(&self) -> Duration {
        let text = fs::read_to_string(self.proc().join("stat")).expect("it runs");
        let (_, rest) = text.rsplit_once(") ").expect("a name in brackets");
        let fields: Vec<_> = rest.split(' ').collect();
        let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap_or(0)).sum();
        Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for child in [&mut self.daemon, &mut self.sandbox].into_iter().flatten() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// What the database counts.
#[derive(Debug, PartialEq)]
struct Counts {
    uploads: u64,
    completed: u64,
    bytes_sent: u64,
}

/// Drops as runs: here, runs.
#[derive(Debug, PartialEq)]
struct Units {
    all: i64,
    completed: i64,
}

impl Units {
    fn are_completed(&self) -> bool {
        self.all > 0 && self.all == self.completed
    }
}

fn row(name: &str, value: String) {
    println!("{name:<40} {value:>12}");
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn milliseconds(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1_000.0)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1_000_000.0)
}

fn own_program() -> Command {
    program("DROPFERRY_SCALE_PROGRAM")
}

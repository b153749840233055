//! What a start and an idle hour cost with a million known files: the targets T10 to T16.
//!
//! ```text
//! cargo bench --bench start
//! ```
//! | variable | default | what |
//! |---|---|---|
//! | `DROPFERRY_START_KNOWN` | 1000000 | files that were sent, in a hundredth as many directories |
//! | `DROPFERRY_START_QUEUED` | 100000 | files that are queued when the daemon starts |
//! | `DROPFERRY_START_STORM` | 50000 | files that are made while the daemon stands still |
//! | `DROPFERRY_START_IDLE_SECONDS` | 60 | how long the idle daemon is watched |
//! | `DROPFERRY_START_PROGRAM` | the one built with the bench | another build to compare with |
//!
//! Makes the trees in the temporary directory and a database to go with them: the rows of one upload
//! that the store's own writer has taken through its life, copied for every file, and counted; it is as old as the bench, and cared for a moment ago, so that no care is due. Then starts the program's sandbox and the daemon as processes of their own, with a pipe between
//! the two that notes when the first part comes by. Prints each figure with its target.

#![expect(clippy::print_stdout, reason = "a bench's result is its output")]
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]

#[path = "parts/life.rs"]
mod life;
mod program;
#[path = "parts/raw.rs"]
mod raw;
mod sandbox;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use dropferry::testing::model::{DirectoryName, Record};
use dropferry::testing::store::{self, writer::Writer};
use life::{begun, life, now, part};
use rusqlite::Connection;
use rustix::process::Signal;

use self::program::program;
use self::sandbox::{number_after, start_sandbox};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_mins(10);
/// A daemon that took no more than a tick for so long has done what a start brings with it.
const STILL: Duration = Duration::from_secs(10);
const TICKS_PER_SECOND: f64 = 100.0;
/// The counts that the store's writer would have kept.
const COUNTED: &str = "
    UPDATE tallies SET (upload_count, size_bytes, accepted_bytes, bytes_sent) = (SELECT count(*),
        ifnull(sum(size_bytes), 0), ifnull(sum(accepted_bytes), 0), ifnull(sum(bytes_sent), 0)
        FROM uploads u WHERE u.state = tallies.state);
    DELETE FROM run_tallies;
    INSERT INTO run_tallies SELECT drop_name, ifnull(run, x''), destination, count(*),
        sum(state = 'completed'), sum(state = 'parked'), max(id), sum(size_bytes),
        sum(accepted_bytes), max(admitted_at_ns) FROM uploads GROUP BY 1, 2, 3;
    DELETE FROM target_tallies;
    INSERT INTO target_tallies SELECT destination, target_id, count(*) FROM uploads
        WHERE stage = 'receipted' GROUP BY 1, 2;";
const TOKEN: &str = "5ec2e7f00dfeedfacecafe0123456789";
/// Files in one directory, and directories in one run.
const TOGETHER: u64 = 100;
/// Uploads of which half is sent, and parts of each.
const OPEN_UPLOADS: i64 = 20;
const PARTS: u32 = 10_000;

fn main() {
    let count = |name: &str, default: u64| {
        let text = std::env::var(format!("DROPFERRY_START_{name}")).ok();
        text.map_or(default, |text| text.parse().expect("a count"))
    };
    let (known, queued) = (count("KNOWN", 1_000_000), count("QUEUED", 100_000));
    println!("{known} known files, {queued} queued");
    let mut bench = Bench::new();
    bench.make_tree("known", known, b"");
    bench.make_database();
    let raw = bench.measure_raw_scan();
    bench.measure_idle(
        (raw, known.div_ceil(TOGETHER)),
        Duration::from_secs(count("IDLE_SECONDS", 60)),
    );
    bench.measure_storm(count("STORM", 50_000));
    bench.stop_daemon(Signal::TERM);
    bench.make_tree("queued", queued, b"12345678");
    bench.line_up(queued);
    bench.measure_queue(queued);
    bench.measure_open_parts();
}

struct Bench {
    directory: tempfile::TempDir,
    sandbox: Child,
    daemon: Option<Child>,
    traffic: Arc<Mutex<Traffic>>,
}

/// What came by the pipe.
#[derive(Default)]
struct Traffic {
    /// When the first request of a life did.
    request: Option<Instant>,
    /// When the first part of a life did.
    first: Option<Instant>,
    /// What was sent, by its path.
    sent: BTreeSet<Vec<u8>>,
    /// Parts of which the path was sent before.
    again_count: usize,
    /// Parts that are on their way, and were at most.
    flying: usize,
    flying_most: usize,
}

impl Traffic {
    fn asked(&mut self, path: &[u8]) {
        self.first.get_or_insert_with(Instant::now);
        self.again_count += usize::from(!self.sent.insert(path.to_vec()));
        self.flying += 1;
        self.flying_most = self.flying_most.max(self.flying);
    }
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join("token"), TOKEN).expect("written");
        let (sandbox, address) = start_sandbox(own_program(), directory.path());
        let address = address.trim_start_matches("http://").to_owned();
        let traffic = Arc::default();
        let port = pipe(address, Arc::clone(&traffic));
        configure(directory.path(), port);
        Self { directory, sandbox, daemon: None, traffic }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn make_tree(&self, name: &str, files: u64, content: &[u8]) {
        for directory in 0..files.div_ceil(TOGETHER) {
            let place = format!("drop/{name}-{:04}/{directory:06}", directory / TOGETHER);
            let place = self.path(&place);
            fs::create_dir_all(&place).expect("made");
            for file in 0..TOGETHER.min(files - directory * TOGETHER) {
                fs::write(place.join(format!("s_1_{file:04}.bcl.gz")), content).expect("written");
            }
        }
    }

    fn connection(&self) -> Connection {
        let connection = Connection::open(self.path("state/dropferry.db")).expect("opens");
        connection.busy_timeout(Duration::from_secs(10)).expect("set");
        connection
    }

    /// Every known file as a row, and every directory at the top as a run that is complete.
    fn make_database(&self) {
        let settings = store::Settings { directory: self.path("state"), is_new: false };
        let (mut writer, _) = Writer::open(&settings).expect("opens");
        writer.apply(&[life(1, true), life(2, false)]).expect("written");
        writer.leave();
        drop(writer);
        let connection = self.connection();
        self.copy_rows(&connection, 1, "known");
        let cared = "UPDATE care SET backup_at_ns = ?1, checked_at_ns = ?1, is_sound = 1";
        connection.execute(cared, [now().0]).expect("written");
        let runs = "INSERT INTO runs (drop_name, run, state, file_count, size_bytes, \
            closed_file_count, generation, opened_at_ns, closed_at_ns, completed_at_ns, \
            receipt_sha256, ledger, ledger_seq, ledger_offset) SELECT drop_name, run, 'completed', count(*), sum(size_bytes), \
            count(*), 1, ?1, ?1, ?1, zeroblob(32), 'lab/run.jsonl', 1, 0 FROM uploads WHERE id > 10 GROUP BY 1, 2";
        connection.execute(runs, [now().0]).expect("written");
        fs::copy(self.path("state/dropferry.db"), self.path("known.db")).expect("copied");
    }

    /// The same with files that are queued.
    fn line_up(&self, queued: u64) {
        fs::remove_file(self.path("state/dropferry.db")).expect("removed");
        fs::copy(self.path("known.db"), self.path("state/dropferry.db")).expect("copied");
        let connection = self.connection();
        self.copy_rows(&connection, 2, "queued");
        let count = "SELECT upload_count FROM tallies WHERE state = 'queued'";
        let count: i64 = connection.query_row(count, [], |row| row.get(0)).expect("counted");
        assert_eq!(count.cast_unsigned(), queued + 1);
    }

    /// Copies the row of one upload for each file of a tree.
    fn copy_rows(&self, connection: &Connection, template: u32, tree: &str) {
        let quick = "PRAGMA synchronous = OFF; PRAGMA cache_size = -200000; BEGIN; \
            CREATE TEMP TABLE files (path BLOB, run BLOB, name TEXT, device INTEGER, \
                inode INTEGER, size_bytes INTEGER, mtime_ns INTEGER, ctime_ns INTEGER)";
        connection.execute_batch(quick).expect("begun");
        let mut insert = connection
            .prepare("INSERT INTO files VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")
            .expect("prepared");
        let mut write = |path: &Path, name: &str, found: &fs::Metadata| {
            let bytes = path.as_os_str().as_bytes();
            let run = bytes.split(|byte| *byte == b'/').next().expect("a directory");
            let nanos = |seconds: i64, nanos: i64| seconds * 1_000_000_000 + nanos;
            let times = (
                nanos(found.mtime(), found.mtime_nsec()),
                nanos(found.ctime(), found.ctime_nsec()),
            );
            let (device, inode) = (found.dev().cast_signed(), found.ino().cast_signed());
            let size = found.len().cast_signed();
            insert
                .execute((bytes, run, name, device, inode, size, times.0, times.1))
                .expect("written");
        };
        let drop = self.path("drop");
        let mut directories = vec![drop.clone()];
        while let Some(directory) = directories.pop() {
            for entry in directory.read_dir().expect("read") {
                let entry = entry.expect("read");
                let (path, found) = (entry.path(), entry.metadata().expect("read"));
                let below = path.strip_prefix(&drop).expect("below");
                if !below.as_os_str().as_bytes().starts_with(tree.as_bytes()) {
                    continue;
                }
                if found.is_dir() {
                    directories.push(path);
                } else {
                    // Each its own name: else all but the first would be there, and none be sent.
                    write(below, &below.to_string_lossy().replace('/', "-"), &found);
                }
            }
        }
        let columns = "SELECT name FROM pragma_table_xinfo('uploads') WHERE hidden = 0";
        let mut columns = connection.prepare(columns).expect("prepared");
        let columns = columns.query_map([], |row| row.get::<_, String>(0)).expect("read");
        let columns: Vec<_> = columns.map(|name| name.expect("read")).collect();
        let value = |name: &String| match name.as_str() {
            "id" => "f.rowid + (SELECT max(id) + 10 FROM uploads)".to_owned(),
            "path" | "run" | "device" | "inode" | "size_bytes" | "mtime_ns" | "ctime_ns" => {
                format!("f.{name}")
            }
            "target_name" => "f.name".to_owned(),
            "drop_name" => "'lab'".to_owned(),
            _ => format!("u.{name}"),
        };
        let values: Vec<_> = columns.iter().map(value).collect();
        let sql = format!(
            "INSERT INTO uploads ({}) SELECT {} FROM files f, uploads u WHERE u.id = {template} \
                ORDER BY f.rowid",
            columns.join(", "),
            values.join(", ")
        );
        connection.execute(&sql, []).expect("copied");
        connection.execute_batch(COUNTED).expect("counted");
        std::mem::drop(insert);
        let end = "DROP TABLE files; COMMIT; PRAGMA wal_checkpoint(TRUNCATE)";
        connection.execute_batch(end).expect("written");
    }

    /// The least that a walk with size and times can cost, warm.
    fn measure_raw_scan(&self) -> Duration {
        let times = (0..3).map(|_| {
            let started = Instant::now();
            raw::walk(&self.path("drop"));
            started.elapsed()
        });
        let best = times.min().unwrap_or_default();
        println!("{:<58} {:>10}", "raw walk, getdents and statx", milliseconds(best));
        best
    }

    fn start_daemon(&mut self) -> Instant {
        {
            let mut traffic = self.traffic();
            (traffic.request, traffic.first) = (None, None);
        }
        let log = fs::File::create(self.path("daemon.log")).expect("made");
        let mut command = self.command("run");
        command.args(["--log-format", "json", "--log-level", "debug"]).stderr(log);
        let started = Instant::now();
        self.daemon = Some(command.spawn().expect("the daemon starts"));
        started
    }

    fn command(&self, name: &str) -> Command {
        let mut command = own_program();
        command.arg(name).arg("--config").arg(self.path("config.toml"));
        command
    }

    fn stop_daemon(&mut self, signal: Signal) {
        self.signal(signal);
        if let Some(mut child) = self.daemon.take() {
            child.wait().expect("reaped");
        }
    }

    fn signal(&self, signal: Signal) {
        let id = self.daemon.as_ref().map_or(0, Child::id);
        let pid = i32::try_from(id).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process"), signal).expect("sent");
    }

    /// The start with known files alone, its scan, and then nothing.
    fn measure_idle(&mut self, (raw, directories): (Duration, u64), idle: Duration) {
        let started = self.start_daemon();
        self.wait("all is in memory", || self.logged("in memory"));
        row("all known files in memory after", milliseconds(started.elapsed()), None);
        self.wait("the first scan ends", || self.logged("a scan saw"));
        let scanned = started.elapsed();
        let scan = self.elapsed_ms("a scan saw");
        let ratio = scan.as_secs_f64() / raw.as_secs_f64();
        row("T12 first scan / raw walk", format!("{ratio:.2}"), Some(("1.25", ratio <= 1.25)));
        self.wait("it is watched", || {
            self.query("SELECT count(*) FROM drop_health WHERE watch = 'events'") == 1
        });
        let ready = started.elapsed();
        row("watched and scanned after", milliseconds(ready), None);
        let each = (ready - scanned).as_secs_f64() * 1e6 / directories as f64;
        let name = "T13 watched after the scan, for each directory";
        row(name, format!("{each:.1} us"), Some(("10 us", each <= 10.0)));
        self.signal(Signal::HUP);
        self.wait("it has read its configuration again", || self.logged("was read again"));
        self.wait("it is still", || {
            let before = self.cpu();
            std::thread::sleep(STILL);
            self.cpu() - before <= 1.0 / TICKS_PER_SECOND
        });
        let (cpu, switches) = (self.cpu(), self.switches());
        std::thread::sleep(idle);
        let share = (self.cpu() - cpu) / idle.as_secs_f64() * 100.0;
        let wakes = (self.switches() - switches) as f64 / idle.as_secs_f64();
        let memory = self.memory("VmRSS:");
        row("T15 idle, of a core", format!("{share:.2} %"), Some(("0.10 %", share <= 0.1)));
        row("T15 idle, wake-ups each second", format!("{wakes:.1}"), Some(("2", wakes <= 2.0)));
        let is_small = memory <= 40 << 20;
        row("T15 idle, memory", megabytes(memory), Some(("40 MiB", is_small)));
        row("peak memory", megabytes(self.memory("VmHWM:")), None);
        self.measure_status("idle");
    }

    fn measure_status(&self, when: &str) {
        let snapshot = store::snapshot::Snapshot::open(&self.path("state")).expect("opens");
        let mut times: Vec<_> = (0..200)
            .map(|_| {
                let started = Instant::now();
                let _status = snapshot.status(false, now()).expect("read");
                started.elapsed()
            })
            .collect();
        times.sort();
        let p99 = times[197];
        let is_met = p99 <= Duration::from_millis(5);
        let name = format!("T16 status, {when}, 99 of 100");
        row(&name, milliseconds(p99), Some(("5 ms", is_met)));
        row(&format!("status, {when}, median"), milliseconds(times[100]), None);
    }

    /// More events than the kernel keeps, while nobody reads them.
    fn measure_storm(&self, files: u64) {
        let scans = self.count_logged("a scan saw");
        let before = self.query("SELECT sum(upload_count) FROM tallies");
        self.signal(Signal::STOP);
        let place = self.path("drop/storm/all");
        fs::create_dir_all(&place).expect("made");
        for file in 0..files {
            fs::write(place.join(file.to_string()), "x").expect("written");
        }
        self.signal(Signal::CONT);
        let started = Instant::now();
        self.wait("it is scanned again", || self.count_logged("a scan saw") > scans);
        row("T14 storm, scanned after", milliseconds(started.elapsed()), None);
        let all = before + files.cast_signed();
        self.wait("all is admitted", || self.query("SELECT sum(upload_count) FROM tallies") >= all);
        let missed = all - self.query("SELECT sum(upload_count) FROM tallies");
        row("T14 storm, files missed", missed.to_string(), Some(("0", missed == 0)));
    }

    fn measure_queue(&mut self, queued: u64) {
        let before = self.query("SELECT sum(bytes_sent) FROM tallies");
        let started = self.start_daemon();
        self.wait("a part goes", || self.traffic().first.is_some());
        let first = self.traffic().first.expect("one came") - started;
        let is_met = first <= Duration::from_millis(300);
        let name = format!("T10 first part after the start, {queued} queued");
        row(&name, milliseconds(first), Some(("300 ms", is_met)));
        self.wait("all is in memory", || self.logged("in memory"));
        row("all in memory after", milliseconds(started.elapsed()), None);
        self.measure_status("busy");
        row("peak memory", megabytes(self.memory("VmHWM:")), None);
        self.wait("bytes are checkpointed", || {
            self.query("SELECT sum(bytes_sent) FROM tallies") > before
        });
        self.stop_daemon(Signal::KILL);
        let sent = self.traffic().sent.len();
        let log = fs::metadata(self.path("state/dropferry.db-wal")).map_or(0, |found| found.len());
        row("the database's log after kill -9", megabytes(log), None);
        let started = self.start_daemon();
        self.wait("a part goes", || self.traffic().first.is_some());
        // What arrived and was not recorded is asked for before anything else is sent.
        let request = self.traffic().request.expect("one came") - started;
        row("first request after kill -9", milliseconds(request), None);
        let first = self.traffic().first.expect("one came") - started;
        let is_met = first <= Duration::from_millis(300);
        row("T10 the same after kill -9", milliseconds(first), Some(("300 ms", is_met)));
        self.wait("all is in memory", || self.logged("in memory"));
        let loaded = Instant::now();
        self.wait("the first scan ends", || self.logged("a scan saw"));
        row("T10 queue reconciled by a scan", milliseconds(loaded.elapsed()), None);
        self.measure_sent_again(sent);
        self.stop_daemon(Signal::KILL);
    }

    /// Once all is completed that came by before the kill, nothing of it is sent any more.
    fn measure_sent_again(&self, sent: usize) {
        let completed = "SELECT count(*) FROM uploads WHERE path >= CAST('queued' AS BLOB) \
            AND path < CAST('queuee' AS BLOB) \
            AND state = 'completed'";
        let is_over = || self.query(completed).cast_unsigned() >= sent as u64;
        self.wait("what was sent is completed", is_over);
        let Traffic { again_count, flying_most, .. } = *self.traffic();
        let is_met = again_count <= 2 * flying_most;
        let name = format!("T11 parts sent again, {flying_most} on their way");
        row(&name, again_count.to_string(), Some(("2 for each", is_met)));
    }

    /// Large files of which half was sent, in place of the queue.
    fn measure_open_parts(&mut self) {
        for beside in ["wal", "shm"] {
            fs::remove_file(self.path(&format!("state/dropferry.db-{beside}"))).ok();
        }
        fs::copy(self.path("known.db"), self.path("state/dropferry.db")).expect("copied");
        let settings = store::Settings { directory: self.path("state"), is_new: false };
        let (mut writer, _) = Writer::open(&settings).expect("opens");
        let first = 2_000_000_000;
        for id in first..first + OPEN_UPLOADS {
            let mut records = begun(id, PARTS);
            if let Some(Record::Admit(admission)) = records.first_mut() {
                admission.file.drop = DirectoryName::new("lab");
            }
            records.extend((1..=PARTS / 2).map(|number| part(id, number)));
            let applied = writer.apply(&[records]).expect("written");
            assert!(applied.is_whole(), "all is written");
        }
        writer.leave();
        drop(writer);
        let open = OPEN_UPLOADS * i64::from(PARTS / 2);
        let started = self.start_daemon();
        self.wait("all is in memory", || self.logged("in memory"));
        row(
            &format!("all in memory with {open} open parts after"),
            milliseconds(started.elapsed()),
            None,
        );
        self.stop_daemon(Signal::KILL);
    }

    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().expect("whole")
    }

    fn wait(&self, what: &str, is_true: impl Fn() -> bool) {
        let started = Instant::now();
        while !is_true() {
            let log = || fs::read_to_string(self.path("daemon.log")).unwrap_or_default();
            let tail = || log().lines().rev().take(20).collect::<Vec<_>>().join("\n");
            assert!(started.elapsed() < PATIENCE, "waited in vain until {what}:\n{}", tail());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn logged(&self, words: &str) -> bool {
        self.count_logged(words) > 0
    }

    fn count_logged(&self, words: &str) -> usize {
        let log = fs::read_to_string(self.path("daemon.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(words)).count()
    }

    fn elapsed_ms(&self, words: &str) -> Duration {
        let log = fs::read_to_string(self.path("daemon.log")).expect("read");
        let line = log.lines().find(|line| line.contains(words)).expect("it is there");
        Duration::from_millis(number_after(line, "\"elapsed_ms\":"))
    }

    fn query(&self, sql: &str) -> i64 {
        self.connection().query_row(sql, [], |row| row.get(0)).unwrap_or(0)
    }

    fn proc(&self, file: &str) -> String {
        let pid = self.daemon.as_ref().map_or(0, Child::id);
        fs::read_to_string(format!("/proc/{pid}/{file}")).expect("it runs")
    }

    fn memory(&self, line: &str) -> u64 {
        number_after(&self.proc("status"), line) * 1024
    }

    fn cpu(&self) -> f64 {
        let text = self.proc("stat");
        let (_, rest) = text.rsplit_once(") ").expect("a name in brackets");
        let ticks = |field: &str| field.parse::<f64>().unwrap_or(0.0);
        rest.split(' ').skip(11).take(2).map(ticks).sum::<f64>() / TICKS_PER_SECOND
    }

    /// Times that any thread was woken.
    fn switches(&self) -> u64 {
        let pid = self.daemon.as_ref().map_or(0, Child::id);
        let tasks = Path::new("/proc").join(pid.to_string()).join("task").read_dir();
        let tasks = tasks.expect("it runs").filter_map(Result::ok);
        let status = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
        status.map(|text| number_after(&text, "\nvoluntary_ctxt_switches")).sum()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for child in self.daemon.iter_mut().chain([&mut self.sandbox]) {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn configure(place: &Path, port: u16) {
    let keys = format!("[default]\naws_access_key_id = SANDBOX\naws_secret_access_key = {TOKEN}\n");
    fs::write(place.join("keys"), keys).expect("written");
    fs::set_permissions(place.join("keys"), fs::Permissions::from_mode(0o600)).expect("set");
    let text = format!(
        "[state]\ndirectory = \"state\"\n[web]\nlisten = \"off\"\n\
         [destinations.far]\nplatform = \"s3\"\nbase_url = \"http://127.0.0.1:{port}\"\n\
         bucket = \"lab-demo\"\nprefix = \"runs/\"\ncredential = {{ file = \"keys\" }}\n\
         [drops.lab]\ndirectory = \"drop\"\ndestinations = [\"far\"]\nquiet_period = \"1s\"\n\
         scan_interval = \"1h\"\n"
    );
    fs::write(place.join("config.toml"), text).expect("written");
}

/// Passes everything on, and notes what comes by.
fn pipe(address: String, traffic: Arc<Mutex<Traffic>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = TcpStream::connect(&address).expect("the sandbox answers");
            let (near_too, far_too) = (near.try_clone().expect("c"), far.try_clone().expect("c"));
            let (traffic, answered) = (Arc::clone(&traffic), Arc::clone(&traffic));
            let asked = Arc::new(AtomicBool::new(false));
            let is_asked = Arc::clone(&asked);
            std::thread::spawn(move || {
                pass(near, far, |bytes| {
                    traffic.lock().expect("whole").request.get_or_insert_with(Instant::now);
                    if let Some(rest) = bytes.strip_prefix(b"PUT ") {
                        let path = rest.split(|byte| *byte == b' ').next().unwrap_or(rest);
                        asked.store(true, Ordering::Relaxed);
                        traffic.lock().expect("whole").asked(path);
                    }
                })
            });
            std::thread::spawn(move || {
                let end = || {
                    if is_asked.swap(false, Ordering::Relaxed) {
                        answered.lock().expect("whole").flying -= 1;
                    }
                };
                pass(far_too, near_too, |_| end());
                end();
            });
        }
    });
    port
}

fn pass(mut from: TcpStream, mut to: TcpStream, see: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = from.read(&mut buffer)
        && count > 0
    {
        see(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    to.shutdown(std::net::Shutdown::Write).ok();
}

fn row(name: &str, value: String, target: Option<(&str, bool)>) {
    let verdict = target.map_or(String::new(), |(limit, is_met)| {
        format!("   at most {limit}: {}", if is_met { "met" } else { "NOT MET" })
    });
    println!("{name:<58} {value:>10}{verdict}");
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1_000_000.0)
}

fn own_program() -> Command {
    program("DROPFERRY_START_PROGRAM")
}

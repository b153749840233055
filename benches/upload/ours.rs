//! dropferry itself: the daemon over a drop directory, until its database says that all is there.
//!
//! What is timed is the process from its start to the last upload that its database records as
//! complete, by the time that stands in the row; the notes tell when the first request came and when
//! the last receipt was durable. CPU and memory are those of the whole life of the process, its start
//! and its end included.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;
use wait4::Wait4;

use crate::files::Work;
use crate::measure::{Sample, sample};
use crate::program::program;

/// How often the database is asked.
const POLL: Duration = Duration::from_millis(25);
/// Longest time without any progress.
const PATIENCE: Duration = Duration::from_secs(60);
/// A limit on calls is for storages that mind; this one does not.
const CALLS_PER_SECOND: u32 = 1_000_000;

/// What differs from the defaults.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variant {
    /// Lines of `[transfer]`.
    pub(crate) transfer: String,
    /// Where the state is, instead of beside the files.
    pub(crate) state_in: Option<PathBuf>,
    /// To the platform with calls of its own, instead of S3.
    pub(crate) has_calls: bool,
}

/// Uploads the files to the address, and returns what it took.
pub(crate) fn run(
    work: &Work,
    base_url: &str,
    certificate: Option<&Path>,
    variant: &Variant,
) -> Result<Sample, String> {
    let parent = variant.state_in.clone().or_else(|| work.directory.parent().map(Path::to_owned));
    let place = tempfile::tempdir_in(parent.ok_or("no directory")?).map_err(|e| e.to_string())?;
    configure(place.path(), work, base_url, certificate, variant).map_err(|e| e.to_string())?;
    let log = fs::File::create(place.path().join("log")).map_err(|e| e.to_string())?;
    let began = SystemTime::now();
    let started = Instant::now();
    let child = program("DROPFERRY_BENCH_PROGRAM")
        .env("NO_PROXY", "127.0.0.1")
        .arg("run")
        .arg("--config")
        .arg(place.path().join("config.toml"))
        .args(["--log-level", "warn"])
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut daemon = Daemon { child: Some(child), place: place.path().to_owned() };
    daemon.wait(work.files.len())?;
    let times = daemon.times(began)?;
    let mut sample = daemon.end(started)?;
    if variant.state_in.is_none() {
        // Goes with the files: ext4 looks for long for an inode that was not freed a moment ago, and the
        // next round is not to pay for this one.
        let _kept = place.keep();
    }
    sample.wall = times.completed;
    sample.notes = vec![
        ("last upload completed after", times.completed),
        ("last upload verified after", times.verified),
        ("last receipt durable after", times.receipted),
    ];
    Ok(sample)
}

fn configure(
    place: &Path,
    work: &Work,
    base_url: &str,
    certificate: Option<&Path>,
    variant: &Variant,
) -> std::io::Result<()> {
    let (keys, platform) = if variant.has_calls {
        (
            "bench-token",
            format!("\"sevenbridges\"\nbase_url = \"{base_url}/v2\"\nproject = \"bench/all\""),
        )
    } else {
        let keys = "[default]\naws_access_key_id = bench\naws_secret_access_key = bench-secret\n";
        let bucket = "bucket = \"bench\"\npath_style = true";
        (keys, format!("\"s3\"\nbase_url = \"{base_url}\"\n{bucket}"))
    };
    fs::write(place.join("keys"), keys)?;
    fs::set_permissions(place.join("keys"), fs::Permissions::from_mode(0o600))?;
    let ca = certificate.map_or(String::new(), |path| format!("ca_file = {path:?}\n"));
    // Where files lie in directories, each of those is a drop, as a run is.
    let is_flat = work.files.iter().all(|(name, _)| name.components().count() == 1);
    let unit = if is_flat { "file" } else { "directory" };
    let text = format!(
        "[state]\ndirectory = \"state\"\n[web]\nlisten = \"off\"\n[network]\n{ca}\
         [transfer]\n{}\n[destinations.far]\nplatform = {platform}\n\
         credential = {{ file = \"keys\" }}\n\
         calls_per_second = {CALLS_PER_SECOND}\n[drops.lab]\ndirectory = {:?}\n\
         destinations = [\"far\"]\nunit = \"{unit}\"\nquiet_period = \"10ms\"\n",
        variant.transfer, work.directory
    );
    fs::write(place.join("config.toml"), text)
}

/// Seconds from the start.
struct Times {
    completed: f64,
    verified: f64,
    receipted: f64,
}

struct Daemon {
    child: Option<Child>,
    place: PathBuf,
}

impl Daemon {
    /// Waits until every file has its receipt.
    fn wait(&mut self, files: usize) -> Result<(), String> {
        let (mut last, mut since) = (None, Instant::now());
        loop {
            let counts = self.counts();
            if counts.is_some_and(|(completed, _, _)| completed >= files as u64) {
                return Ok(());
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok()).flatten();
            if let Some(status) = ended {
                self.child = None;
                return Err(format!("the daemon ended, {status}: {}", self.log()));
            }
            if counts.is_some_and(|(_, _, parked)| parked > 0) {
                return Err(format!("files are parked: {}", self.log()));
            }
            if counts != last {
                (last, since) = (counts, Instant::now());
            }
            if since.elapsed() > PATIENCE {
                return Err(format!("no progress beyond {last:?}: {}", self.log()));
            }
            std::thread::sleep(POLL);
        }
    }

    fn database(&self) -> Option<Connection> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        Connection::open_with_flags(self.place.join("state/dropferry.db"), flags).ok()
    }

    /// Returns how many uploads are completed, bytes that were sent, and how many are parked.
    fn counts(&self) -> Option<(u64, u64, u64)> {
        let sql = "SELECT sum(upload_count) FILTER (WHERE state = 'completed'), sum(bytes_sent), \
                   sum(upload_count) FILTER (WHERE state = 'parked') FROM tallies";
        let row = self.database()?.query_row(sql, [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        row.ok().map(|(a, b, c)| (a.unsigned_abs(), b.unsigned_abs(), c.unsigned_abs()))
    }

    fn times(&self, began: SystemTime) -> Result<Times, String> {
        let sql = "SELECT max(completed_at_ns), max(verified_at_ns), max(receipted_at_ns) \
                   FROM uploads";
        let database = self.database().ok_or("the database cannot be read")?;
        let row = database.query_row(sql, [], |row| {
            Ok([row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?])
        });
        let began = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let after = |ns: i64| ns as f64 / 1e9 - began.as_secs_f64();
        let [completed, verified, receipted] = row.map_err(|error| error.to_string())?.map(after);
        Ok(Times { completed, verified, receipted })
    }

    /// Lets the daemon end as a service manager does.
    fn end(&mut self, started: Instant) -> Result<Sample, String> {
        let child = self.child.take().ok_or("it ended by itself")?;
        let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or("no process")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(|error| error.to_string())?;
        let used = child.wait4().map_err(|error| error.to_string())?;
        Ok(sample(started.elapsed().as_secs_f64(), &used))
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.place.join("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(4).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

//! One client, one time: what it took, beside what the far side saw.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use wait4::{ResUse, Wait4};

use crate::sink::{Counts, Mode};

/// What `/proc/stat` counts in; the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// What one run of a client took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    /// From the start of the process until it had sent everything, in seconds.
    pub(crate) wall: f64,
    /// CPU time of the process and what it waited for, in seconds.
    pub(crate) user: f64,
    /// The kernel's share.
    pub(crate) system: f64,
    /// The most memory it ever took, in bytes.
    pub(crate) memory: u64,
    /// CPU time of the far side, in seconds.
    pub(crate) sink_cpu: f64,
    /// What the far side counted.
    pub(crate) counts: Counts,
    /// CPU that others took meanwhile, as a share of the machine.
    pub(crate) others: f64,
    /// What else is to be told, with its unit.
    pub(crate) notes: Vec<(&'static str, f64)>,
}

impl Sample {
    /// From the first request about an object until the last answer, in seconds; for a client that
    /// asks nobody, its wall time.
    pub(crate) fn sent(&self) -> f64 {
        let ns = self.counts.last_answer_ns.saturating_sub(self.counts.first_request_ns);
        if ns == 0 { self.wall } else { ns as f64 / 1e9 }
    }

    /// CPU time of the client.
    pub(crate) fn cpu(&self) -> f64 {
        self.user + self.system
    }
}

/// The far side, running.
pub(crate) struct Sink {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Where it listens, such as `127.0.0.1:4711`.
    pub(crate) address: String,
}

impl Sink {
    /// Starts one, with certificates in a directory.
    pub(crate) fn start(mode: Mode, directory: &Path) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("sink").arg(directory);
        command.args(mode.hashes.then_some("--hash")).args(mode.tls.then_some("--tls"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        let mut output = BufReader::new(output);
        let mut address = String::new();
        output.read_line(&mut address)?;
        Ok(Self { child, input, output, address: address.trim().to_owned() })
    }

    /// Ends it, and returns what it counted and the CPU time it took.
    pub(crate) fn finish(mut self) -> io::Result<(Counts, f64)> {
        drop(self.input.take());
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        let used = self.child.wait4()?.rusage;
        Ok((serde_json::from_str(&text)?, (used.utime + used.stime).as_secs_f64()))
    }
}

/// Pins this process to the last core that it may use, where there are several.
pub(crate) fn pin_to_last_core() -> io::Result<()> {
    let all = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
    if let Some(last) = cores.next_back().filter(|_| all.count() > 1) {
        let mut one = CpuSet::new();
        one.set(last);
        sched_setaffinity(None, &one)?;
    }
    Ok(())
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command, patience: Duration) -> Result<Sample, String> {
    let started = Instant::now();
    let name = command.get_program().display().to_string();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| format!("{name}: {error}"))?;
    let errors = child.stderr.take();
    let errors = std::thread::spawn(move || tail(errors));
    let used = until_ended(child, started + patience)?;
    let wall = started.elapsed().as_secs_f64();
    let errors = errors.join().unwrap_or_default();
    if !used.status.success() {
        return Err(format!("{}: {}", used.status, errors.trim()));
    }
    Ok(sample(wall, &used))
}

/// Turns what the kernel counted into a sample.
pub(crate) fn sample(wall: f64, used: &ResUse) -> Sample {
    Sample {
        wall,
        user: used.rusage.utime.as_secs_f64(),
        system: used.rusage.stime.as_secs_f64(),
        memory: used.rusage.maxrss,
        ..Sample::default()
    }
}

/// Waits for a process, and kills it when it takes too long. The end of a short one is seen within a
/// millisecond.
fn until_ended(mut child: Child, deadline: Instant) -> Result<ResUse, String> {
    loop {
        match child.try_wait4() {
            Ok(Some(used)) => return Ok(used),
            Ok(None) if Instant::now() > deadline => {
                child.kill().ok();
                child.wait4().ok();
                return Err("took too long".to_owned());
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Returns the end of what a process said.
fn tail(output: Option<impl Read>) -> String {
    let mut text = Vec::new();
    output.map(|mut output| output.read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().rev().take(4).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

/// The machine's CPU time so far, in seconds: of everybody.
pub(crate) fn machine_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> =
        line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    // User, nice, system, idle, iowait, irq, softirq, steal.
    [0, 1, 2, 5, 6, 7].iter().filter_map(|at| ticks.get(*at)).sum::<f64>() / TICKS_PER_SECOND
}

/// CPU time of this process so far, in seconds.
pub(crate) fn own_cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// How many cores the machine has.
pub(crate) fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64)
}

//! Real lines: a gigabit near and far, a slow one that loses packets, and one that is nothing but slow.
//!
//! The daemon and the sandbox are in network namespaces of their own, and `tests/servers/link.py`
//! carries packets between them: with a rate, a delay, a loss and a queue. Where namespaces are not
//! to be had a test says so and passes. `DROPFERRY_LINKS=all` compares every width on every line,
//! which takes a quarter of an hour, and prints a table.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::stage::{Options, Stage, noise};

const MIB: usize = 1 << 20;
/// Where the daemon is asked how it does, in its own namespace.
const WEB: &str = "127.0.0.1:8377";
const AUTO: &str = "\"auto\"";

/// What a line is like.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    /// Bytes a second.
    rate: u32,
    /// Seconds, there and back.
    round_trip: f64,
    loss: f64,
    mtu: u32,
    /// Bytes.
    queue: u32,
}

const NEAR: Kind = Kind {
    name: "1 Gbit/s, 1 ms",
    rate: 125_000_000,
    round_trip: 0.001,
    loss: 0.0,
    mtu: 65_000,
    queue: 8_000_000,
};
const MIDDLE: Kind = Kind { name: "1 Gbit/s, 50 ms", round_trip: 0.05, ..NEAR };
const FAR: Kind = Kind { name: "1 Gbit/s, 200 ms", round_trip: 0.2, queue: 25_000_000, ..NEAR };
const LOSSY: Kind = Kind {
    name: "20 Mbit/s, 300 ms, 2 % loss",
    rate: 2_500_000,
    round_trip: 0.3,
    loss: 0.02,
    mtu: 1500,
    queue: 750_000,
};
const SLOW: Kind =
    Kind { name: "1 Mbit/s", rate: 125_000, round_trip: 0.05, loss: 0.0, mtu: 1500, queue: 64_000 };

/// A line that is there for as long as a test.
struct Line {
    program: Child,
    /// The line ends with it.
    _input: ChildStdin,
    near: u32,
    far: u32,
    _directory: tempfile::TempDir,
}

impl Line {
    /// Draws a line; none where that is not possible.
    fn draw(kind: Kind) -> Option<Self> {
        let python = super::others::program("python3")?;
        let directory = tempfile::tempdir().expect("a directory");
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/link.py");
        let mut command = Command::new(python);
        command.arg(program).arg("--directory").arg(directory.path());
        for (flag, value) in [
            ("--rate", f64::from(kind.rate)),
            ("--delay", kind.round_trip / 2.0),
            ("--loss", kind.loss),
            ("--queue", f64::from(kind.queue)),
        ] {
            command.args([flag, &value.to_string()]);
        }
        command.args(["--mtu", &kind.mtu.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut program = command.spawn().expect("python runs");
        let mut line = String::new();
        let input = program.stdin.take().expect("piped");
        let mut said = BufReader::new(program.stdout.take().expect("piped"));
        said.read_line(&mut line).expect("text");
        let mut words = line.split_whitespace().skip(1).map(|word| word.parse().expect("a pid"));
        let (Some(near), Some(far)) = (words.next(), words.next()) else {
            program.wait().expect("reaped");
            super::skipped::skipped_by_machine(
                "network namespaces and TUN devices are not to be had here",
            );
            return None;
        };
        Some(Self { program, _input: input, near, far, _directory: directory })
    }

    fn near(&self, flags: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(flags).args(["-t", &self.near.to_string()]);
        command
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // A holder of namespaces that is left behind would keep them for ever.
        for pid in [self.near, self.far] {
            let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
            let kill = rustix::process::Signal::KILL;
            pid.map(|pid| rustix::process::kill_process(pid, kill).ok());
        }
        self.program.kill().ok();
        self.program.wait().ok();
    }
}

/// What one run showed.
#[derive(Debug, Clone, Copy)]
struct Shown {
    seconds: f64,
    bytes: usize,
    /// The width at the end, and the widest.
    width: (u64, u64),
    largest_part: u64,
}

impl Shown {
    fn rate(self) -> f64 {
        self.bytes as f64 / self.seconds
    }
}

/// Sends so many files of a size one line long, with a width.
#[expect(clippy::disallowed_methods, reason = "what is measured is real time")]
fn send(kind: Kind, width: &str, files: &[usize]) -> Option<Shown> {
    let line = Line::draw(kind)?;
    let transfer: &'static str = format!("parts_in_flight = {width}").leak();
    let mut stage = Stage::new(Options {
        platforms: &["s3"],
        far: Some(line.far),
        listen: "10.77.0.2:0",
        web: WEB,
        transfer,
        network: "inactivity_timeout = \"60s\"",
        destination: "path_style = true",
        ..Options::default()
    });
    let config = fs::read_to_string(stage.path("config.toml")).expect("read");
    // Near, that is a name of the far end.
    fs::write(stage.path("config.toml"), config.replace("//10.77.0.2:", "//localhost:"))
        .expect("written");
    for (index, size) in files.iter().enumerate() {
        stage.write(&format!("run/{index:03}"), &noise(*size, index as u64 + 1));
    }
    let mut run = line.near(&["-n", "-m"]);
    run.arg(env!("CARGO_BIN_EXE_dropferry")).arg("run").arg("--config");
    run.arg(stage.path("config.toml"));
    let started = Instant::now();
    stage.start_as(run);
    let (mut now, mut widest) = (0, 0);
    while stage.count("completed") < files.len() as u64 {
        assert!(started.elapsed() < Duration::from_mins(14), "too slow; {}", stage.log());
        std::thread::sleep(Duration::from_millis(500));
        now = width_of(&line).unwrap_or(now);
        widest = now.max(widest);
        if std::env::var_os("DROPFERRY_LINKS_TRACE").is_some() {
            say(&format!("{:?} {} {width}: {now}", started.elapsed(), kind.name));
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let status = stage.status();
    let parts = status["uploads"].as_array().expect("a list").iter();
    let largest_part = parts.filter_map(|upload| upload["part_size_bytes"].as_u64()).max();
    let bytes = files.iter().sum();
    let largest_part = largest_part.unwrap_or(0);
    Some(Shown { seconds, bytes, width: (now, widest), largest_part })
}

fn width_of(line: &Line) -> Option<u64> {
    let script = format!(
        "exec 3<>/dev/tcp/{}; printf 'GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3; cat <&3",
        WEB.replace(':', "/")
    );
    let output = line.near(&["-n"]).args(["bash", "-c", &script]).output().expect("nsenter runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("dropferry_destination_parts_max{"))?;
    line.split(' ').nth(1)?.parse().ok()
}

fn tell(kind: Kind, width: &str, shown: Shown) {
    let (rate, share) = (shown.rate() / 1e6, shown.rate() * 100.0 / f64::from(kind.rate));
    let (now, widest) = shown.width;
    say(&format!(
        "| {} | {width} | {:.0} MB | {:.1} s | {rate:.2} MB/s | {share:.0} % | {now}, {widest} | {} MiB |",
        kind.name,
        shown.bytes as f64 / 1e6,
        shown.seconds,
        shown.largest_part / MIB as u64,
    ));
}

#[expect(clippy::print_stdout, reason = "the table is what is wanted")]
fn say(line: &str) {
    println!("{line}");
}

#[test]
fn a_slow_line_is_given_few_parts_and_is_full() {
    let files = [MIB, MIB, MIB, MIB];
    let Some(shown) = send(SLOW, AUTO, &files) else { return };
    tell(SLOW, AUTO, shown);
    assert!(shown.rate() > f64::from(SLOW.rate) * 0.6, "{shown:?}");
    assert!(shown.width.1 <= 8, "{shown:?}");
}

#[test]
fn a_line_that_loses_packets_is_given_many_parts() {
    let Some(shown) = send(LOSSY, AUTO, &[MIB / 2; 32]) else { return };
    tell(LOSSY, AUTO, shown);
    assert!(shown.width.1 >= 8, "{shown:?}");
}

#[test]
fn auto_is_about_as_fast_as_the_best_width_on_slow_lines() {
    compare(&[(SLOW, vec![10 * MIB; 2]), (LOSSY, vec![MIB; 48])]);
}

#[test]
fn auto_is_about_as_fast_as_the_best_width_on_fast_lines() {
    let files = vec![256 * MIB; 4];
    compare(&[(NEAR, files.clone()), (MIDDLE, files.clone()), (FAR, files)]);
}

fn compare(amounts: &[(Kind, Vec<usize>)]) {
    if std::env::var_os("DROPFERRY_LINKS").is_none_or(|word| word != "all") {
        super::skipped::skipped_by_machine("DROPFERRY_LINKS=all compares all widths");
        return;
    }
    let mut behind = Vec::new();
    for (kind, files) in amounts {
        let all = run_all(*kind, files);
        let Some((_, auto)) = all.iter().find(|(width, _)| *width == AUTO) else { return };
        let fixed = || all.iter().filter(|(width, _)| *width != AUTO).map(|(_, run)| run.rate());
        let (best, worst) = (fixed().fold(0.0, f64::max), fixed().fold(f64::MAX, f64::min));
        let share = auto.rate() / best;
        say(&format!("{}: auto has {:.0} % of the best width", kind.name, share * 100.0));
        if share < 0.8 || auto.rate() < worst * 0.95 {
            behind.push(format!("{}: {all:?}", kind.name));
        }
    }
    assert!(behind.is_empty(), "{behind:#?}");
}

/// Sends with every width: one after the other where that takes the whole machine.
fn run_all(kind: Kind, files: &[usize]) -> Vec<(&'static str, Shown)> {
    let widths = ["1", "4", "8", "16", AUTO];
    let run = |width: &'static str| {
        // One part at a time has the same rate however many files there are.
        let count = if width == "1" { files.len().div_ceil(4) } else { files.len() };
        let shown = send(kind, width, &files[..count])?;
        tell(kind, width, shown);
        Some((width, shown))
    };
    if kind.rate == NEAR.rate {
        return widths.into_iter().filter_map(run).collect();
    }
    std::thread::scope(|scope| {
        let run = &run;
        let runs = widths.map(|width| scope.spawn(move || run(width)));
        runs.into_iter().filter_map(|run| run.join().expect("it did not panic")).collect()
    })
}

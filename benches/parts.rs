//! What the program's parts cost, each against the bare thing it is made of.
//!
//! ```text
//! cargo bench --bench parts -- digest
//! ```
//! Without a name all sections run. Each prints a table: medians of rounds, in which all cases take
//! turns, so that a machine that is busy for a while is so for all of them. Where others use the
//! machine as well, look at CPU seconds and ratios.

#![expect(clippy::print_stdout, reason = "a bench's result is its output")]
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]

#[path = "parts/digest.rs"]
mod digest;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A section's name, what it measures, and how.
type Section = (&'static str, &'static str, fn());

const SECTIONS: [Section; 1] =
    [("digest", "MD5 of many messages at once, against the md-5 crate", digest::measure)];
/// Odd, so that there is a median.
const ROUNDS: usize = 5;
/// How long a case runs in a round, at least.
const ROUND: Duration = Duration::from_millis(40);

fn main() -> ExitCode {
    let asked: Vec<_> = std::env::args().skip(1).filter(|name| !name.starts_with("--")).collect();
    let is_known = |name: &String| SECTIONS.iter().any(|(section, ..)| section == name);
    if let Some(strange) = asked.iter().find(|name| !is_known(name)) {
        println!("no section {strange}; there are:");
        SECTIONS.iter().for_each(|(name, what, _)| println!("{name:<12} {what}"));
        return ExitCode::FAILURE;
    }
    for (name, what, measure) in SECTIONS {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            println!("\n{name}: {what}");
            measure();
        }
    }
    ExitCode::SUCCESS
}

/// Cases that are compared with the first one.
struct Table<'a> {
    cases: Vec<Case<'a>>,
}

struct Case<'a> {
    name: String,
    /// Does it once, and tells how many bytes that were.
    act: Box<dyn FnMut() -> usize + 'a>,
    rounds: Vec<Cost>,
}

/// Seconds for each GB.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

impl<'a> Table<'a> {
    fn new() -> Self {
        Self { cases: Vec::new() }
    }

    fn case(&mut self, name: impl Into<String>, act: impl FnMut() -> usize + 'a) {
        self.cases.push(Case { name: name.into(), act: Box::new(act), rounds: Vec::new() });
    }

    fn print(mut self) {
        for case in &mut self.cases {
            black_box((case.act)());
        }
        for _ in 0..ROUNDS {
            self.cases.iter_mut().for_each(Case::run);
        }
        println!("{:<32} {:>8} {:>10} {:>8}", "", "GB/s", "CPU s/GB", "times");
        let first = self.cases.first().map_or(0.0, |case| case.median(|cost| cost.cpu));
        for case in &self.cases {
            let (wall, cpu) = (case.median(|cost| cost.wall), case.median(|cost| cost.cpu));
            println!("{:<32} {:>8.2} {cpu:>10.3} {:>8.1}", case.name, 1.0 / wall, first / cpu);
        }
    }
}

impl Case<'_> {
    fn run(&mut self) {
        let (started, cpu, mut bytes) = (Instant::now(), cpu_seconds(), 0);
        while started.elapsed() < ROUND {
            bytes += black_box((self.act)());
        }
        let per_gb = 1e9 / bytes as f64;
        let wall = started.elapsed().as_secs_f64() * per_gb;
        self.rounds.push(Cost { wall, cpu: (cpu_seconds() - cpu) * per_gb });
    }

    fn median(&self, of: impl Fn(&Cost) -> f64) -> f64 {
        let mut all: Vec<_> = self.rounds.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    }
}

/// Of all threads of this process.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

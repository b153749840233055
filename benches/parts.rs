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
#[path = "parts/ledger.rs"]
mod ledger;
#[path = "parts/life.rs"]
mod life;
#[path = "parts/planner.rs"]
mod planner;
mod program;
#[path = "parts/raw.rs"]
mod raw;
#[path = "parts/receipts.rs"]
mod receipts;
#[path = "parts/scan.rs"]
mod scan;
#[path = "parts/writer.rs"]
mod writer;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// A section's name, what it measures, and how.
type Section = (&'static str, &'static str, fn());

const SECTIONS: [Section; 6] = [
    ("digest", "MD5 of many messages at once, against the md-5 crate", digest::measure),
    ("planner", "the next part, with few and with many that are open", planner::measure),
    ("writer", "rows of parts and of small files, synced", writer::measure),
    ("receipts", "what the receipt of a small file costs by itself", receipts::measure),
    ("ledger", "a line, and the program on the ledger of a run of 300 000 files", ledger::measure),
    ("scan", "200 000 files in 10 000 directories, against getdents and statx", scan::measure),
];
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
    /// What is counted; bytes, when nothing else is said.
    item: Option<&'static str>,
    cases: Vec<Case<'a>>,
}

struct Case<'a> {
    name: String,
    /// Does it once, and tells how many bytes or items that were.
    act: Box<dyn FnMut() -> usize + 'a>,
    rounds: Vec<Cost>,
}

/// Seconds for each GB, or microseconds for each item.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
}

impl<'a> Table<'a> {
    fn new() -> Self {
        Self { item: None, cases: Vec::new() }
    }

    /// One that counts items and not bytes.
    fn of(item: &'static str) -> Self {
        Self { item: Some(item), cases: Vec::new() }
    }

    fn case(&mut self, name: impl Into<String>, act: impl FnMut() -> usize + 'a) {
        self.cases.push(Case { name: name.into(), act: Box::new(act), rounds: Vec::new() });
    }

    fn print(mut self) {
        for case in &mut self.cases {
            black_box((case.act)());
        }
        let scale = if self.item.is_some() { 1e6 } else { 1e9 };
        for _ in 0..ROUNDS {
            self.cases.iter_mut().for_each(|case| case.run(scale));
        }
        match self.item {
            Some(item) => self.print_items(item),
            None => self.print_bytes(),
        }
    }

    fn print_bytes(&self) {
        println!("{:<32} {:>8} {:>10} {:>8}", "", "GB/s", "CPU s/GB", "times");
        let first = self.cases.first().map_or(0.0, |case| case.median(|cost| cost.cpu));
        for case in &self.cases {
            let (wall, cpu) = (case.median(|cost| cost.wall), case.median(|cost| cost.cpu));
            println!("{:<32} {:>8.2} {cpu:>10.3} {:>8.1}", case.name, 1.0 / wall, first / cpu);
        }
    }

    fn print_items(&self, item: &str) {
        let (time, cpu) = (format!("us/{item}"), format!("CPU us/{item}"));
        println!("{:<36} {:>10} {time:>10} {cpu:>12} {:>10}", "", "a second", "of first");
        let first = self.cases.first().map_or(0.0, |case| case.median(|cost| cost.wall));
        for case in &self.cases {
            let (wall, cpu) = (case.median(|cost| cost.wall), case.median(|cost| cost.cpu));
            let rate = 1e6 / wall;
            println!(
                "{:<36} {rate:>10.0} {wall:>10.2} {cpu:>12.2} {:>10.2}",
                case.name,
                wall / first
            );
        }
    }
}

impl Case<'_> {
    fn run(&mut self, scale: f64) {
        let (started, cpu, mut count) = (Instant::now(), cpu_seconds(), 0);
        while started.elapsed() < ROUND {
            count += black_box((self.act)());
        }
        let factor = scale / count as f64;
        let wall = started.elapsed().as_secs_f64() * factor;
        self.rounds.push(Cost { wall, cpu: (cpu_seconds() - cpu) * factor });
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

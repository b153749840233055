//! Targets as ratios within one run, so that they hold on any machine: each as a row.
//!
//! Times are those of *sent*, which leaves out every program's start; what rclone does before its first
//! request, a digest of the whole file, is left out too, in its favour.

use crate::contest::{Case, Contest, NARROW, OURS, Standing, VOLATILE};
use crate::measure::Sample;
use crate::reference::Mode;
use crate::table::amount;

/// What `transfer.memory` says by default, and what else the program may take.
const BUDGET: f64 = 64.0 * 1024.0 * 1024.0;
const NARROW_BUDGET: f64 = 16.0 * 1024.0 * 1024.0;
const BESIDE: f64 = 24.0 * 1024.0 * 1024.0;

/// Returns the rows of a case, as text.
pub(crate) fn shown_by(contest: &Contest) -> Vec<String> {
    let rows = Rows { contest };
    let rows = match contest.case {
        Case::One => rows.one(),
        Case::Tls => rows.tls(),
        Case::Cold => rows.cold(),
        Case::Small => rows.small(),
        Case::Many | Case::Run => vec![rows.memory()],
    };
    rows.into_iter().flatten().collect()
}

/// A figure against its target; `None` when it was not measured.
type Row = Option<String>;

fn at_least(name: &str, what: &str, figure: f64, target: f64) -> Row {
    Some(row((name, what), figure, (">=", target), figure >= target))
}

fn at_most(name: &str, what: &str, figure: f64, target: f64) -> Row {
    Some(row((name, what), figure, ("<=", target), figure <= target))
}

fn row((name, what): (&str, &str), figure: f64, (sign, target): (&str, f64), met: bool) -> String {
    let verdict = if met { "met" } else { "NOT MET" };
    let digits = if target >= 100.0 { 0 } else { 2 };
    format!("{name:<3} {what:<58} {figure:>9.digits$}   {sign} {target:<9.digits$} {verdict}")
}

struct Rows<'a> {
    contest: &'a Contest,
}

impl Rows<'_> {
    fn of(&self, name: &str, what: fn(&Sample) -> f64) -> Option<f64> {
        self.contest.of(name)?.median(what)
    }

    fn ours(&self, what: fn(&Sample) -> f64) -> Option<f64> {
        self.of(OURS, what)
    }

    /// How many times as long, or as much, another takes.
    fn times(&self, name: &str, what: fn(&Sample) -> f64) -> Option<f64> {
        Some(self.of(name, what)? / self.ours(what)?)
    }

    fn faster(&self, name: &str, target: f64, label: &str) -> Row {
        let what = format!("throughput, as a multiple of {name}");
        at_least(label, &what, self.times(name, Sample::sent)?, target)
    }

    fn leaner(&self, standing: &Standing, target: f64) -> Row {
        let what = format!("CPU of {}, as a multiple of ours", standing.name);
        at_least("", &what, self.times(standing.name, Sample::cpu)?, target)
    }

    fn peers(&self) -> impl Iterator<Item = &Standing> {
        let is_peer = |standing: &&Standing| {
            let is_reference = Mode::ALL.iter().any(|mode| mode.name() == standing.name);
            !is_reference && !standing.name.starts_with(OURS)
        };
        self.contest.standings.iter().filter(is_peer)
    }

    fn one(&self) -> Vec<Row> {
        let mut rows = vec![
            self.faster(Mode::Bare.name(), 0.85, "T1"),
            self.faster(Mode::Floor.name(), 0.30, "T1"),
            self.faster("awscrt", 1.25, "T2"),
            self.faster("s5cmd", 1.7, "T2"),
            self.faster("rclone", 4.0, "T2"),
            self.faster("aws s3 cp", 8.0, "T2"),
        ];
        rows.extend(self.costs());
        rows.push(self.memory());
        rows.push(self.of(NARROW, |sample| sample.memory as f64).and_then(|memory| {
            let what = "peak memory with 16 MiB of buffers, MiB";
            at_most("T5", what, memory / 1048576.0, (BESIDE + NARROW_BUDGET) / 1048576.0)
        }));
        rows.extend(self.durable());
        for peer in self.peers() {
            let verifies = peer.digests.contains("MD5");
            rows.push(self.leaner(peer, if verifies { 2.0 } else { 1.0 }));
        }
        rows
    }

    fn cost(&self) -> Option<f64> {
        let (amount, unit) = amount(self.contest);
        Some(self.ours(Sample::cpu)? * unit / amount)
    }

    fn costs(&self) -> [Row; 2] {
        let both = self.cost().zip(self.contest.costs);
        let steps = both.and_then(|(cost, steps)| {
            let sum = steps.read + steps.digest + steps.write;
            at_most("T3", "CPU, as a multiple of read + MD5 of eight + write", cost / sum, 1.3)
        });
        let copy = both.and_then(|(cost, steps)| {
            at_most("T3", "CPU, as a multiple of memcpy", cost / steps.copy, 9.5)
        });
        [steps, copy]
    }

    fn memory(&self) -> Row {
        let memory = self.ours(|sample| sample.memory as f64)?;
        at_most("T5", "peak memory, MiB", memory / 1048576.0, (BESIDE + BUDGET) / 1048576.0)
    }

    /// Against a state on a file system that has nothing to make sure of.
    fn durable(&self) -> [Row; 2] {
        let ratio = |what| self.times(VOLATILE, what).map(|ratio| 1.0 / ratio);
        let time = ratio(Sample::sent).and_then(|ratio| {
            at_most("T9", "time with a durable state, as a multiple of one in memory", ratio, 1.02)
        });
        let cpu = ratio(Sample::cpu).and_then(|ratio| {
            at_most("T9", "CPU with a durable state, as a multiple of one in memory", ratio, 1.02)
        });
        [time, cpu]
    }

    fn tls(&self) -> Vec<Row> {
        let bare = self.times(Mode::Bare.name(), Sample::cpu).map(|ratio| 1.0 / ratio);
        let row = |ratio| at_most("T4", "CPU, as a multiple of the bare pipeline", ratio, 1.25);
        vec![bare.and_then(row), self.memory()]
    }

    fn cold(&self) -> Vec<Row> {
        let reads = [Mode::ReadInOrder, Mode::ReadAtFour].map(Mode::name);
        let best = reads.iter().filter_map(|name| self.of(name, |sample| sample.wall));
        let best = best.min_by(f64::total_cmp).zip(self.ours(Sample::sent));
        let row = best.and_then(|(read, sent)| {
            at_least("T6", "throughput, as a multiple of the best bare read", read / sent, 0.9)
        });
        vec![row, self.memory()]
    }

    fn small(&self) -> Vec<Row> {
        let files = self.contest.work.files.len() as f64;
        let rate = |sent: f64| at_least("T7", "files/s", files / sent, 10_000.0);
        let cpu = |cpu: f64| at_most("T7", "CPU us for each file", cpu * 1e6 / files, 100.0);
        let named = |peer: &&Standing| peer.name == "s5cmd" || peer.name.starts_with("rclone");
        let best = self.peers().filter(named).filter_map(|peer| peer.median(Sample::sent));
        let best = best.min_by(f64::total_cmp).zip(self.ours(Sample::sent));
        let best = best.and_then(|(theirs, ours)| {
            let what = "files/s, as a multiple of the best of s5cmd and rclone";
            at_least("T7", what, theirs / ours, 3.0)
        });
        vec![
            self.ours(Sample::sent).and_then(rate),
            best,
            self.ours(Sample::cpu).and_then(cpu),
            self.memory(),
        ]
    }
}

//! Targets as ratios within one run, so that they hold on any machine: each as a row.
//!
//! Times are those of *sent*, which leaves out every program's start; what rclone does before its first
//! request, a digest of the whole file, is left out too, in its favour. T10 to T16 are about what no
//! such upload shows: other benches have them.

use crate::contest::{Case, Contest, NARROW, OURS, Standing, VOLATILE};
use crate::measure::Sample;
use crate::reference::Mode;
use crate::table::amount;

const MIB: f64 = 1024.0 * 1024.0;
/// What `transfer.memory` says by default, and in one variant; what else the program may take. In MiB.
const BUDGET: f64 = 64.0;
const NARROW_BUDGET: f64 = 16.0;
const BESIDE: f64 = 24.0;

/// Returns the rows of a case, as text.
pub(crate) fn shown_by(contest: &Contest) -> Vec<String> {
    let rows = Rows { contest };
    match contest.case {
        Case::One => rows.one(),
        Case::Tls => rows.tls(),
        Case::Cold => rows.cold(),
        Case::Small => rows.small(),
        Case::Calls => rows.calls(),
        Case::Many | Case::Run => vec![rows.memory(OURS, BUDGET)],
    }
}

fn at_least(name: &str, what: &str, figure: Option<f64>, target: f64) -> String {
    row((name, what), figure, (">=", target), |figure| figure >= target)
}

fn at_most(name: &str, what: &str, figure: Option<f64>, target: f64) -> String {
    row((name, what), figure, ("<=", target), |figure| figure <= target)
}

fn row(
    (name, what): (&str, &str),
    figure: Option<f64>,
    (sign, target): (&str, f64),
    is_met: impl Fn(f64) -> bool,
) -> String {
    let digits = if target >= 100.0 { 0 } else { 2 };
    let (shown, verdict) = match figure {
        Some(figure) if is_met(figure) => (format!("{figure:.digits$}"), "met"),
        Some(figure) => (format!("{figure:.digits$}"), "NOT MET"),
        None => ("-".to_owned(), "not measured"),
    };
    format!("{name:<3} {what:<66} {shown:>9}   {sign} {target:<9.digits$} {verdict}")
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

    fn faster(&self, label: &str, name: &str, target: f64) -> String {
        let what = format!("throughput, as a multiple of {name}");
        at_least(label, &what, self.times(name, Sample::sent), target)
    }

    /// Half of what the best that verifies by MD5 takes; less than who does not.
    fn leaner(&self, standing: &Standing) -> String {
        let target = if standing.digests.contains("MD5") { 2.0 } else { 1.0 };
        let what = format!("CPU of {}, as a multiple of ours", standing.name);
        at_least("", &what, self.times(standing.name, Sample::cpu), target)
    }

    fn peers(&self) -> impl Iterator<Item = &Standing> {
        let is_peer = |standing: &&Standing| {
            let is_reference = Mode::ALL.iter().any(|mode| mode.name() == standing.name);
            !is_reference && !standing.name.starts_with(OURS)
        };
        self.contest.standings.iter().filter(is_peer)
    }

    fn one(&self) -> Vec<String> {
        let mut rows = vec![
            self.faster("T1", Mode::Bare.name(), 0.85),
            self.faster("T1", Mode::Floor.name(), 0.30),
            self.faster("T2", "awscrt", 1.25),
            self.faster("T2", "s5cmd", 1.7),
            self.faster("T2", "rclone", 4.0),
            self.faster("T2", "aws s3 cp", 8.0),
        ];
        rows.extend(self.costs());
        rows.push(self.memory(OURS, BUDGET));
        rows.push(self.memory(NARROW, NARROW_BUDGET));
        rows.extend(self.durable());
        rows.extend(self.peers().map(|peer| self.leaner(peer)));
        rows
    }

    fn costs(&self) -> [String; 2] {
        let (amount, unit) = amount(self.contest);
        let cost = self.ours(Sample::cpu).map(|cpu| cpu * unit / amount);
        let both = cost.zip(self.contest.costs);
        let steps = both.map(|(cost, steps)| cost / (steps.read + steps.digest + steps.write));
        let copy = both.map(|(cost, steps)| cost / steps.copy);
        [
            at_most("T3", "CPU, as a multiple of read + MD5 of eight + write", steps, 1.3),
            at_most("T3", "CPU, as a multiple of memcpy", copy, 9.5),
        ]
    }

    fn memory(&self, name: &str, budget: f64) -> String {
        let memory = self.of(name, |sample| sample.memory as f64).map(|bytes| bytes / MIB);
        let what = format!("peak memory with {budget} MiB of buffers, in MiB");
        at_most("T5", &what, memory, BESIDE + budget)
    }

    /// Against a state on a file system that has nothing to make sure of.
    fn durable(&self) -> [String; 2] {
        let times = |what| self.times(VOLATILE, what).map(|ratio| 1.0 / ratio);
        let text =
            |what: &str| format!("{what} with a durable state, as a multiple of one in memory");
        [
            at_most("T9", &text("time"), times(Sample::sent), 1.02),
            at_most("T9", &text("CPU"), times(Sample::cpu), 1.02),
        ]
    }

    fn tls(&self) -> Vec<String> {
        let bare = self.times(Mode::Bare.name(), Sample::cpu).map(|ratio| 1.0 / ratio);
        let what = "CPU over TLS, as a multiple of the bare pipeline";
        vec![at_most("T4", what, bare, 1.25), self.memory(OURS, BUDGET)]
    }

    fn cold(&self) -> Vec<String> {
        let reads = [Mode::ReadInOrder, Mode::ReadAtFour].map(Mode::name);
        let best = reads.iter().filter_map(|name| self.of(name, |sample| sample.wall));
        let best = best.min_by(f64::total_cmp).zip(self.ours(Sample::sent));
        let what = "throughput, as a multiple of the best bare read";
        vec![
            at_least("T6", what, best.map(|(read, sent)| read / sent), 0.9),
            self.memory(OURS, BUDGET),
        ]
    }

    fn calls(&self) -> Vec<String> {
        vec![
            at_least("T8", "files/s", self.files_per_second(), 2_500.0),
            at_least("T8", "files/s, as a multiple of dx upload", None, 8.0),
            self.memory(OURS, BUDGET),
        ]
    }

    fn files_per_second(&self) -> Option<f64> {
        let files = self.contest.work.files.len() as f64;
        self.ours(Sample::sent).map(|sent| files / sent)
    }

    fn small(&self) -> Vec<String> {
        let files = self.contest.work.files.len() as f64;
        let named = |peer: &&Standing| peer.name == "s5cmd" || peer.name.starts_with("rclone");
        let best = self.peers().filter(named).filter_map(|peer| peer.median(Sample::sent));
        let best = best.min_by(f64::total_cmp).zip(self.ours(Sample::sent));
        let cpu = self.ours(Sample::cpu).map(|cpu| cpu * 1e6 / files);
        let what = "files/s, as a multiple of the best of s5cmd and rclone";
        vec![
            at_least("T7", "files/s", self.files_per_second(), 10_000.0),
            at_least("T7", what, best.map(|(theirs, ours)| theirs / ours), 3.0),
            at_most("T7", "CPU us for each file", cpu, 100.0),
            self.memory(OURS, BUDGET),
        ]
    }
}

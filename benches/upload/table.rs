//! What is printed.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::Settings;
use crate::contest::{Contest, OURS, Standing};
use crate::measure::Sample;
use crate::targets;

/// Draws the table of a case, with notes and targets below.
pub(crate) fn text(contest: &Contest, settings: &Settings) -> String {
    let work = &contest.work;
    let mut text = format!(
        "\n{}: {} files, {:.3} GB; {}\n{}\n",
        contest.case.word(),
        work.files.len(),
        gigabytes(contest),
        if settings.hashes {
            "ETags are of the bytes that came"
        } else {
            "ETags repeat the digest that was announced"
        },
        head(contest)
    );
    for standing in &contest.standings {
        text += &row(contest, standing);
    }
    for standing in &contest.standings {
        if let Some(trouble) = &standing.trouble {
            writeln!(text, "  ! {}: {trouble}", standing.name).ok();
        }
    }
    text += &notes(contest);
    for target in targets::shown_by(contest) {
        writeln!(text, "  {target}").ok();
    }
    text
}

fn head(contest: &Contest) -> String {
    let counts_files = contest.case.counts_files();
    let rate = if counts_files { "files/s" } else { "GB/s" };
    let cost = if counts_files { "us/file" } else { "CPUs/GB" };
    format!(
        "{:<33} {:>7} {:>13} {:>7} {:>8} {rate:>8} {cost:>8} {:>6} {:>6} {:>8} {:>8} {:>8} {:>6}  {}",
        "",
        "wall s",
        "(min-max)",
        "sent s",
        "x time",
        "user",
        "kernel",
        "x CPU",
        "peak MB",
        "requests",
        "others",
        "digests"
    )
}

fn row(contest: &Contest, standing: &Standing) -> String {
    let of = |what: fn(&Sample) -> f64| standing.median(what);
    let Some(wall) = of(|sample| sample.wall) else {
        let why = if standing.is_absent { "not here" } else { "failed" };
        return format!("{:<33} {why:>7}\n", standing.name);
    };
    let walls = || standing.samples.iter().map(|sample| sample.wall);
    let range = format!(
        "({:.2}-{:.2})",
        walls().fold(f64::INFINITY, f64::min),
        walls().fold(0.0, f64::max)
    );
    let sent = of(Sample::sent).unwrap_or_default();
    let ours = contest.of(OURS);
    let ratio = |what: fn(&Sample) -> f64| {
        let (theirs, ours) = (of(what)?, ours?.median(what)?);
        Some(format!("{:.2}", theirs / ours))
    };
    let shown = |ratio: Option<String>| ratio.unwrap_or_default();
    let (amount, unit) = amount(contest);
    let digits = if contest.case.counts_files() { 0 } else { 2 };
    format!(
        "{:<33} {wall:>7.2} {range:>13} {sent:>7.2} {:>8} {:>8.digits$} {:>8.digits$} {:>6.digits$} \
         {:>6.digits$} {:>8} {:>8.0} {:>8.0} {:>5.0}%  {}\n",
        standing.name,
        shown(ratio(Sample::sent)),
        amount / sent,
        of(Sample::cpu).unwrap_or_default() * unit / amount,
        of(|sample| sample.user).unwrap_or_default() * unit / amount,
        of(|sample| sample.system).unwrap_or_default() * unit / amount,
        shown(ratio(Sample::cpu)),
        of(|sample| sample.memory as f64).unwrap_or_default() / 1e6,
        of(|sample| sample.counts.requests as f64).unwrap_or_default(),
        of(|sample| sample.others).unwrap_or_default() * 100.0,
        standing.digests,
    )
}

/// How much there was, and what CPU seconds for each of it are multiplied by.
pub(crate) fn amount(contest: &Contest) -> (f64, f64) {
    if contest.case.counts_files() {
        (contest.work.files.len() as f64, 1e6)
    } else {
        (gigabytes(contest), 1.0)
    }
}

fn gigabytes(contest: &Contest) -> f64 {
    contest.work.bytes() as f64 / 1e9
}

fn notes(contest: &Contest) -> String {
    let mut text = String::new();
    for standing in contest.standings.iter().filter(|standing| standing.name == OURS) {
        let Some(first) = standing.samples.first() else { continue };
        let mut words: Vec<_> = first
            .notes
            .iter()
            .enumerate()
            .map(|(at, (name, _))| {
                let value = standing.median(|sample| sample.notes[at].1);
                format!("{name} {:.2} s", value.unwrap_or_default())
            })
            .collect();
        let counts = &first.counts;
        words.push(format!(
            "{} connections, {} puts of which {} announced their MD5",
            counts.connections, counts.puts, counts.announced
        ));
        let far = standing.median(|sample| sample.sink_cpu).unwrap_or_default();
        words.push(format!("the far side took {far:.2} CPU s"));
        writeln!(text, "  {}: {}", standing.name, words.join(", ")).ok();
    }
    if let Some(costs) = contest.costs {
        writeln!(
            text,
            "  CPU s/GB of each step alone: memcpy {:.3}, read {:.3}, MD5 of eight {:.3}, write {:.3}",
            costs.copy, costs.read, costs.digest, costs.write
        )
        .ok();
    }
    text
}

/// The same for programs: medians and every sample.
pub(crate) fn json(contest: &Contest) -> Value {
    let sample = |sample: &Sample| {
        json!({
            "wall_s": sample.wall,
            "sent_s": sample.sent(),
            "user_s": sample.user,
            "system_s": sample.system,
            "memory_bytes": sample.memory,
            "sink_cpu_s": sample.sink_cpu,
            "others": sample.others,
            "counts": sample.counts,
            "notes": sample.notes.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
        })
    };
    let standing = |standing: &Standing| {
        json!({
            "name": standing.name,
            "digests": standing.digests,
            "is_absent": standing.is_absent,
            "trouble": standing.trouble,
            "wall_s": standing.median(|sample| sample.wall),
            "sent_s": standing.median(Sample::sent),
            "cpu_s": standing.median(Sample::cpu),
            "samples": standing.samples.iter().map(sample).collect::<Vec<_>>(),
        })
    };
    json!({
        "case": contest.case.word(),
        "file_count": contest.work.files.len(),
        "size_bytes": contest.work.bytes(),
        "step_costs": contest.costs,
        "standings": contest.standings.iter().map(standing).collect::<Vec<_>>(),
        "targets": targets::shown_by(contest),
    })
}

//! dropferry beside every other program found here that uploads to S3: the same far side, the same
//! files in the same order, in interleaved rounds.
//!
//! ```text
//! benches/upload/peers                       # installs the others, once
//! cargo bench --bench upload                 # everything; an hour
//! cargo bench --bench upload -- one small    # two cases
//! ```
//! | case | what is uploaded |
//! |---|---|
//! | `one` | one file of 2 GiB |
//! | `many` | 64 files of 64 MiB |
//! | `small` | 20 000 files of 8 KiB |
//! | `run` | a run folder: 5 500 files, the large ones a 32nd of their size, 3 GB |
//! | `tls` | the file of 2 GiB, over TLS |
//! | `cold` | the file of 2 GiB, which no page cache holds |
//! | `calls` | 20 000 files of 8 KiB, to a platform with calls of its own, as Seven Bridges has; nobody else of those here speaks it |
//!
//! | option | |
//! |---|---|
//! | `--json` | a line of JSON for each case, after its table |
//! | `--hash` | the far side digests what comes, so that each ETag proves the bytes; costs its core |
//!
//! | variable | default | what |
//! |---|---|---|
//! | `DROPFERRY_BENCH_ROUNDS` | 5 | how often each runs; medians are shown |
//! | `DROPFERRY_BENCH_SCALE` | 1 | factor to the sizes, or counts, of all cases |
//! | `DROPFERRY_BENCH_ONLY` | | words: only what has one of them in its name, and dropferry |
//! | `DROPFERRY_BENCH_PATIENCE` | 60 | what took more seconds than that is not run again |
//! | `DROPFERRY_BENCH_DIRECTORY` | the temporary one | where files and states are |
//! | `DROPFERRY_BENCH_PROGRAM` | the one built with the bench | another build to compare with; `target/dist/dropferry` is what ships, and what a figure is quoted from |
//! | `DROPFERRY_BENCH_TRANSFER` | | lines of `[transfer]`, parted by `;` |
//! | `DROPFERRY_BENCH_TOOLS` | | directories to look for the others in, before all else |
//!
//! The far side is pinned to the last core, everybody else runs where they like. Files lie in the page
//! cache, but for `cold`. Columns:
//!
//! - *wall*: from the start of the process to its end; for dropferry, to the last upload that its
//!   database records as complete. Starting, looking at files and waiting until they are quiet count.
//! - *sent*: from the first request about an object to the last answer, as the far side saw it. GB/s,
//!   files/s and the ratio `x time` are of it, so that no start of any program counts.
//! - *CPU*: user and kernel, of all threads and children from start to end.
//! - *peak*: the most memory at any time; what is below 10 MB is the bench's own at the start of it.
//! - *others*: what everybody else on the machine took meanwhile; distrust times where it is much.
//!
//! Below each table stand the targets that the case shows. One that is missed is no failure: the exit
//! code is 1 only when something broke.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench's result is its output")]
#![expect(clippy::disallowed_methods, reason = "a bench measures real time")]

mod contest;
mod files;
mod measure;
mod ours;
mod peers;
#[path = "../program.rs"]
mod program;
mod reference;
mod sink;
mod table;
mod targets;
mod tls;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use self::contest::{Case, Contest};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["sink", directory, options @ ..] => far_side(Path::new(directory), options),
        ["costs", address, directory] => costs(address, Path::new(directory)),
        ["reference", mode, address, directory, rest @ ..] => {
            bare((mode, address), Path::new(directory), rest.first().map(Path::new))
        }
        _ => bench(&words),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn far_side(directory: &Path, options: &[&str]) -> std::io::Result<bool> {
    measure::pin_to_last_core()?;
    let mode = sink::Mode { hashes: options.contains(&"--hash"), tls: options.contains(&"--tls") };
    sink::serve(mode, Some(&tls::Files::of(directory)))?;
    Ok(true)
}

fn bare(
    (mode, address): (&str, &str),
    directory: &Path,
    certificate: Option<&Path>,
) -> std::io::Result<bool> {
    let mode = reference::Mode::ALL.into_iter().find(|known| known.word() == mode);
    let mode = mode.ok_or_else(|| std::io::Error::other("no such reference"))?;
    reference::run(mode, address, &files::Work::of(directory)?, certificate)?;
    Ok(true)
}

fn costs(address: &str, directory: &Path) -> std::io::Result<bool> {
    let costs = reference::costs(&files::Work::of(directory)?, address)?;
    println!("{}", serde_json::to_string(&costs)?);
    Ok(true)
}

/// What holds for all cases.
struct Settings {
    rounds: usize,
    scale: f64,
    only: Vec<String>,
    patience: Duration,
    hashes: bool,
    transfer: String,
}

impl Settings {
    fn from_environment(hashes: bool) -> Self {
        let variable = |name: &str| std::env::var(format!("DROPFERRY_BENCH_{name}")).ok();
        let number = |name: &str| variable(name).map(|text| text.parse::<f64>().expect("a number"));
        let rounds = variable("ROUNDS").map(|text| text.parse().expect("a count"));
        let only = variable("ONLY").unwrap_or_default();
        Self {
            rounds: rounds.unwrap_or(5),
            scale: number("SCALE").unwrap_or(1.0),
            only: only.split_whitespace().map(str::to_owned).collect(),
            patience: Duration::from_secs_f64(number("PATIENCE").unwrap_or(60.0)),
            hashes,
            transfer: variable("TRANSFER").unwrap_or_default().replace(';', "\n"),
        }
    }
}

fn bench(words: &[&str]) -> std::io::Result<bool> {
    let (options, names): (Vec<&str>, Vec<&str>) =
        words.iter().partition(|word| word.starts_with("--"));
    if let Some(strange) = options.iter().find(|word| !["--json", "--hash"].contains(*word)) {
        return Err(std::io::Error::other(format!("{strange} is no option: --json, --hash")));
    }
    let case = |name: &&str| {
        let found = Case::ALL.into_iter().find(|case| case.word() == *name);
        let known = Case::ALL.map(Case::word).join(", ");
        found.ok_or_else(|| std::io::Error::other(format!("{name} is no case: {known}")))
    };
    let mut cases = names.iter().map(case).collect::<Result<Vec<_>, _>>()?;
    if cases.is_empty() {
        cases = Case::ALL.to_vec();
    }
    let settings = Settings::from_environment(options.contains(&"--hash"));
    let place = std::env::var_os("DROPFERRY_BENCH_DIRECTORY").map(PathBuf::from);
    let place = tempfile::tempdir_in(place.unwrap_or_else(std::env::temp_dir))?;
    tls::make(place.path())?;
    let mut all_is_well = true;
    for case in cases {
        let contest = Contest::hold(case, &settings, place.path())?;
        println!("{}", table::text(&contest, &settings));
        if options.contains(&"--json") {
            println!("{}", table::json(&contest));
        }
        all_is_well &= contest.is_well();
        std::fs::remove_dir_all(&contest.work.directory)?;
    }
    Ok(all_is_well)
}

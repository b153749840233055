//! A storage that refuses some requests because it is busy: each is repeated a little later, and the rest continues.
//!
//! The figures are ratios of one run: the time with refusals over the time without, at the same stand-in. By
//! default with fewer and smaller files than in a whole measurement, and with [`BESIDE`] allowed for other
//! tests that run at the same time; `DROPFERRY_REFUSALS=full` runs the whole measurement and allows nothing.

#![expect(clippy::print_stdout, reason = "the ratios, shown when a test fails or by --nocapture")]

use std::time::Duration;

use dropferry::testing::clock::Clock;
use serde_json::{Value, json};

use super::super::stage::{Options, Stage, noise};
use super::{at_each_platform, stage_at};

/// A destination that closes for one refusal takes ten seconds longer each time.
const BESIDE: Duration = Duration::from_secs(5);

at_each_platform! {
    small_files_are_hardly_slower_for_some_refusals
    a_large_file_is_hardly_slower_for_some_refusals
}

mod sevenbridges {
    #[test]
    fn small_files_are_hardly_slower_for_some_refusals() {
        super::small_files_are_hardly_slower_for_some_refusals("sevenbridges");
    }

    #[test]
    fn a_large_file_is_hardly_slower_for_some_refusals() {
        super::a_large_file_is_hardly_slower_for_some_refusals("sevenbridges");
    }
}

fn is_full() -> bool {
    std::env::var("DROPFERRY_REFUSALS").is_ok_and(|asked| asked == "full")
}

/// The answer of a busy storage, in its own form.
fn busy(platform: &str) -> Value {
    match platform {
        "s3" => json!({"answer": {"status": 503, "body":
            "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"}}),
        _ => json!({"answer": {"status": 503, "body": {"message": "busy"}}}),
    }
}

/// Has files of that length sent while one request in `every` is refused; returns the time from the
/// moment at which they were admitted.
fn time_of(platform: &str, files: (usize, usize), every: Option<u32>) -> Duration {
    let (count, length) = files;
    let drop = "quiet_period = \"50ms\"\nscan_interval = \"1s\"";
    let transfer = "part_size = \"5 MiB\"";
    let orphans_allowed = count;
    let mut stage =
        stage_at(platform, Options { drop, transfer, orphans_allowed, ..Options::default() });
    let rule = every.map(
        |every| json!({"operation": "any", "every": every, "times": 0, "action": busy(platform)}),
    );
    stage.tell("faults", &json!(rule.into_iter().collect::<Vec<_>>()).to_string());
    for index in 0..count {
        let name = format!("run/{index}");
        stage.write(&name, &noise(length, u64::try_from(index).expect("few")));
    }
    let clock = Clock::real();
    let begun = clock.now().monotonic;
    stage.start();
    stage.until_count("completed", u64::try_from(count).expect("few"));
    let lasted = clock.now().monotonic.since(begun);
    stage.tell("faults", "[]");
    assert_once(&stage, platform);
    lasted
}

fn assert_once(stage: &Stage, platform: &str) {
    stage.assert_all_there();
    assert_eq!(stage.count("parked"), 0, "{platform}: nobody is asked for");
}

fn assert_ratios(platform: &str, files: (usize, usize), bounds: &[(u32, f64)]) {
    // The time of a scan and of a start is not transfer time.
    let base = time_of(platform, files, None);
    for (every, bound) in bounds {
        let time = time_of(platform, files, Some(*every));
        let ratio = time.as_secs_f64() / base.as_secs_f64();
        println!(
            "{platform}: {files:?}, one in {every} refused: {time:.1?} of {base:.1?}, {ratio:.2}"
        );
        let beside = if is_full() { Duration::ZERO } else { BESIDE };
        let most = base.mul_f64(*bound) + beside;
        assert!(time <= most, "{platform}: one in {every}: {time:.1?} of at most {most:.1?}");
    }
}

fn small_files_are_hardly_slower_for_some_refusals(platform: &str) {
    let count = if is_full() { 1500 } else { 300 };
    assert_ratios(platform, (count, 4000), &[(100, 1.5), (20, 3.0)]);
}

fn a_large_file_is_hardly_slower_for_some_refusals(platform: &str) {
    let length = if is_full() { 600_000_000 } else { 60_000_000 };
    assert_ratios(platform, (1, length), &[(20, 1.5)]);
}

//! Files that are moved within the drop directory after they were uploaded: the same device, inode,
//! size and time, and the old path gone. They are at the far end already, so they are not sent a
//! second time, and the daemon says that they were moved.

use std::fs;

use super::run_states::until_run;
use super::stage::{Stage, noise, until};
use super::witness::{PART, objects, stage_with, until_it_runs, until_still};

const QUICK: &str = "quiet_period = \"50ms\"\nscan_interval = \"500ms\"";

fn sent(stage: &Stage) -> (Option<u64>, Option<u64>) {
    let ledger = stage.ledger();
    (ledger["begun_count"].as_u64(), ledger["bytes_received"].as_u64())
}

/// Waits until the daemon has dealt with these paths: it reports so, or it sends them.
fn until_told(stage: &Stage, paths: &[&str], before: (Option<u64>, Option<u64>)) {
    let shown = |path: &&str| {
        let shown = stage.output("show", &[*path]).stdout;
        String::from_utf8_lossy(&shown).contains("moved")
    };
    until("something came of the move", || {
        (sent(stage) != before || paths.iter().all(shown)).then_some(())
    });
    assert_eq!(sent(stage), before, "nothing was begun or sent for what had only been moved");
}

#[test]
fn a_file_that_is_moved_after_its_upload_is_not_sent_again() {
    let mut stage = stage_with(QUICK);
    stage.write("run/a", &noise(3 * PART, 1));
    stage.start();
    stage.until_count("completed", 1);
    until_it_runs(&stage);
    let (before, there) = (sent(&stage), objects(&stage));
    fs::create_dir(stage.drop().join("other")).expect("made");
    fs::rename(stage.drop().join("run/a"), stage.drop().join("other/b")).expect("moved");
    until_told(&stage, &["other/b"], before);
    until_still(&stage);
    assert_eq!(objects(&stage), there);
    assert_eq!(stage.count("parked"), 0);
    // Another file under the old name is another file.
    stage.write("run/a", &noise(PART, 2));
    until("it is there", || (objects(&stage).len() == 2).then_some(()));
}

#[test]
fn a_run_directory_that_is_renamed_after_its_upload_is_not_sent_again() {
    let mut stage = stage_with(QUICK);
    for (number, length) in [(1, 3 * PART), (2, 10), (3, 0)] {
        stage.write(&format!("run/Data/{number}"), &noise(length, number));
    }
    stage.start();
    stage.until_count("completed", 3);
    // While it is being sent it is one run under its first name.
    until("it is completed", || (stage.status()["runs"][0]["state"] == "completed").then_some(()));
    until_it_runs(&stage);
    // A run that is renamed before it is completed continues under its first name.
    until_run(&stage, "run", "completed");
    let (before, there) = (sent(&stage), objects(&stage));
    fs::rename(stage.drop().join("run"), stage.drop().join("run-renamed")).expect("renamed");
    until_told(&stage, &["run-renamed/Data/1", "run-renamed/Data/2", "run-renamed/Data/3"], before);
    until_still(&stage);
    assert_eq!(objects(&stage), there);
    assert_eq!(stage.count("parked"), 0);
    // Whatever is added to the renamed directory is sent under its new name.
    stage.write("run-renamed/Data/4", b"late");
    until("it is there", || (objects(&stage).len() == 4).then_some(()));
}

/// If the new file replaces the old name at the destination, the moved one is sent under its own
/// name: both contents are there, whichever comes first.
#[test]
fn a_moved_file_stays_at_the_far_side_when_another_takes_its_name() {
    let both = |first: &[u8], second: &[u8]| {
        let mut both = [first.to_vec(), second.to_vec()];
        both.sort();
        both
    };
    let there = |stage: &Stage| {
        let mut there: Vec<_> = objects(stage).into_iter().map(|(_, bytes)| bytes).collect();
        there.sort();
        there
    };
    for (is_run, is_stopped) in [(false, false), (false, true), (true, true)] {
        let mut stage = stage_with(QUICK);
        let (first, second) = (noise(1_000, 1), noise(1_000, 2));
        stage.write("run/a", &first);
        stage.start();
        until_run(&stage, "run", "completed");
        until_it_runs(&stage);
        if is_stopped {
            stage.kill();
        }
        let at = |name: &str| stage.drop().join(name);
        match is_run {
            true => fs::rename(at("run"), at("other")).expect("renamed"),
            false => fs::rename(at("run/a"), at("run/a_old")).expect("renamed"),
        }
        stage.write("run/a", &second);
        if is_stopped {
            stage.start();
        }
        until("both are there", || (there(&stage) == both(&first, &second)).then_some(()));
        until_still(&stage);
        assert_eq!(there(&stage), both(&first, &second), "run {is_run}, stopped {is_stopped}");
    }
}

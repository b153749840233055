//! Files that are not finished when the daemon first sees them: whatever a writer does, and whenever,
//! each completed object at the destination is a version that was on disk, and the last version arrives.
//!
//! Nothing here waits for time to pass: the destination refuses all parts but two until the test
//! lets them through, so that a file can be changed in the middle of its upload.

mod mapped;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::FallocateFlags;
use serde_json::json;

use super::skipped::skipped_by_machine;
use super::stage::{Stage, noise, until};
use super::witness::{
    PART, PATIENT, QUICK, Witness, begin_and_hold, change_after_upload, change_during_upload,
    objects, release, stage_with, until_it_runs, until_it_settles, until_still,
};

/// The quiet period of the stages that settle slowly.
const QUIET: Duration = Duration::from_secs(2);

fn append(place: &Path, bytes: &[u8]) {
    let file = OpenOptions::new().create(true).append(true).open(place);
    file.and_then(|mut file| file.write_all(bytes)).expect("appended");
}

/// Writes into a file, which stays the same file.
fn overwrite(place: &Path, at: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(place).expect("opened");
    file.write_all_at(bytes, at).expect("written");
}

fn begun(stage: &Stage) -> Option<u64> {
    stage.ledger()["begun_count"].as_u64()
}

/// The longest time between two changes, by the clock of the test: if the machine was suspended for
/// a quiet period, the file has settled rightly.
struct Gaps {
    last: Instant,
    longest: Duration,
}

impl Gaps {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test's own pauses are measured by the real clock"
    )]
    fn new() -> Self {
        Self { last: Instant::now(), longest: Duration::ZERO }
    }

    fn changed(&mut self) {
        let before = std::mem::replace(self, Self::new());
        self.longest = before.longest.max(self.last - before.last);
    }

    fn were_short(&self) -> bool {
        self.longest < QUIET / 2
    }
}

/// Changes a file again and again with pauses, and asks the daemon about it in each pause.
fn keep_changing(
    stage: &Stage,
    place: &Path,
    looks: usize,
    mut change: impl FnMut(u64),
) -> Witness {
    let (mut witness, mut gaps) = (Witness::default(), Gaps::new());
    for round in 0..12 {
        change(round);
        gaps.changed();
        witness.see(place);
        until_it_settles(stage);
        for _ in 0..looks {
            stage.status();
        }
    }
    if gaps.were_short() {
        assert_eq!(begun(stage), Some(0), "nothing is begun while it grows");
    } else {
        skipped_by_machine("the machine stood still for half a quiet period");
    }
    witness
}

fn grow(looks: usize) {
    let mut stage = stage_with(PATIENT);
    let place = stage.drop().join("growing");
    stage.start();
    let witness = keep_changing(&stage, &place, looks, |round| append(&place, &noise(9000, round)));
    witness.until_whole(&stage);
}

#[test]
fn a_file_that_grows_steadily_is_sent_once_it_has_grown() {
    grow(0);
}

#[test]
fn pauses_shorter_than_the_quiet_period_settle_nothing() {
    grow(12);
}

#[test]
fn a_file_that_grows_after_its_upload_is_sent_whole_once_more() {
    let write = |place: &Path| append(place, &noise(3 * PART, 1));
    let stage = change_after_upload(write, |place| append(place, &noise(PART, 2)));
    assert_eq!((begun(&stage), stage.count("completed")), (Some(2), 2));
}

#[test]
fn growing_during_upload_ends_it_and_the_longer_file_is_sent_whole() {
    change_during_upload(|_, place| append(place, &noise(PART, 2)));
}

#[test]
fn writing_in_place_during_upload_ends_it() {
    change_during_upload(|_, place| overwrite(place, 10, b"other bytes in a part that was sent"));
}

#[test]
fn truncation_during_upload_ends_it() {
    change_during_upload(|_, place| {
        let file = OpenOptions::new().write(true).open(place).expect("opened");
        file.set_len(3 * PART as u64 + 5).expect("cut");
    });
}

#[test]
fn truncation_and_growth_to_the_same_size_during_upload_ends_it() {
    change_during_upload(|_, place| fs::write(place, noise(6 * PART, 3)).expect("written"));
}

#[test]
fn replacement_by_rename_during_upload_ends_it_also_with_the_same_size_and_time() {
    change_during_upload(|stage, place| {
        let time = fs::metadata(place).and_then(|old| old.modified()).expect("a time");
        let beside = stage.path("beside");
        fs::write(&beside, noise(6 * PART, 4)).expect("written");
        fs::File::options()
            .write(true)
            .open(&beside)
            .and_then(|file| file.set_modified(time))
            .expect("set");
        fs::rename(&beside, place).expect("renamed");
    });
}

/// All parts are of one version by then, so that version is completed, and the other one follows.
#[test]
fn a_change_between_the_last_part_and_the_end_is_a_version_of_its_own() {
    let mut stage = stage_with(QUICK);
    let place = stage.drop().join("run/a");
    let mut witness = Witness::default();
    let refused = json!({"answer": {"status": 500, "body": {}}});
    let rule = json!([{"operation": "complete", "times": 0, "action": refused}]);
    stage.tell("faults", &rule.to_string());
    stage.write("run/a", &noise(6 * PART, 1));
    witness.see(&place);
    stage.start();
    until("it is to be completed", || {
        (stage.ledger()["calls"]["complete"].as_u64() >= Some(1)).then_some(())
    });
    overwrite(&place, 0, &noise(PART, 2));
    witness.see(&place);
    release(&stage);
    witness.until_whole(&stage);
    assert_eq!(stage.count("parked"), 0);
}

#[test]
fn a_file_rewritten_in_place_after_its_upload_is_sent_whole_once_more() {
    let write = |place: &Path| append(place, &noise(3 * PART, 1));
    change_after_upload(write, |place| overwrite(place, PART as u64, &noise(PART, 2)));
}

/// Zeros that are unchanged for a quiet period are a version like any other; only a mix of them
/// with later content is ruled out.
#[test]
fn a_preallocated_file_that_rests_is_sent_as_zeros_and_again_when_it_is_filled() {
    let make = |place: &Path| preallocate(place, 3 * PART as u64);
    change_after_upload(make, |place| overwrite(place, 0, &noise(3 * PART, 1)));
}

fn preallocate(place: &Path, length: u64) {
    let file = fs::File::create_new(place).expect("made");
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, length).expect("allocated");
}

/// Fills a preallocated file with pauses that are shorter than the quiet period.
fn fill_preallocated(after_each: impl Fn(&fs::File, SystemTime)) {
    let mut stage = stage_with(PATIENT);
    let place = stage.drop().join("preallocated");
    stage.start();
    preallocate(&place, 12 * 9000);
    let time = fs::metadata(&place).and_then(|seen| seen.modified()).expect("a time");
    let witness = keep_changing(&stage, &place, 0, |round| {
        let file = OpenOptions::new().write(true).open(&place).expect("opened");
        file.write_all_at(&noise(9000, round), round * 9000).expect("written");
        after_each(&file, time);
    });
    witness.until_whole(&stage);
}

#[test]
fn a_preallocated_file_that_is_filled_without_rest_is_sent_once() {
    fill_preallocated(|_, _| ());
}

/// As on a share that sets its times itself: the size is final, and the time never changes.
#[test]
fn a_preallocated_file_whose_time_is_set_back_after_each_write_is_sent_once() {
    fill_preallocated(|file, time| file.set_modified(time).expect("set"));
}

#[test]
fn a_file_that_is_renamed_into_place_is_sent_under_its_name_alone() {
    let mut stage =
        stage_with("quiet_period = \"50ms\"\nscan_interval = \"500ms\"\nexclude = [\"*.tmp\"]");
    let (aside, place) = (stage.drop().join("a.bam.tmp"), stage.drop().join("a.bam"));
    stage.start();
    append(&aside, &noise(PART, 1));
    stage.until_count("ignored", 1);
    append(&aside, &noise(PART, 2));
    fs::rename(&aside, &place).expect("renamed");
    let mut witness = Witness::default();
    witness.see(&place);
    witness.until_whole(&stage);
    let names: Vec<_> = objects(&stage).into_iter().map(|(path, _)| path).collect();
    assert_eq!((names, begun(&stage)), (vec!["a.bam".to_owned()], Some(1)));
}

#[test]
fn a_file_that_vanishes_before_it_settles_leaves_nothing() {
    let mut stage = stage_with(PATIENT);
    let place = stage.drop().join("short-lived");
    stage.start();
    until_it_runs(&stage);
    append(&place, b"here");
    until_it_settles(&stage);
    fs::remove_file(&place).expect("removed");
    if begun(&stage) != Some(0) {
        skipped_by_machine("the machine stood still for a quiet period");
        return;
    }
    until_still(&stage);
    assert_eq!(stage.status()["uploads"], json!([]));
    assert_eq!(begun(&stage), Some(0));
}

#[test]
fn a_file_that_vanishes_during_upload_parks_and_one_that_comes_in_its_place_is_sent() {
    let mut stage = stage_with(QUICK);
    let place = stage.drop().join("run/a");
    begin_and_hold(&mut stage, "run/a", &noise(6 * PART, 1));
    fs::remove_file(&place).expect("removed");
    stage.until_count("parked", 1);
    release(&stage);
    assert_eq!(objects(&stage), [], "nothing is completed from memory");
    stage.write("run/a", &noise(4 * PART, 2));
    let mut witness = Witness::default();
    witness.see(&place);
    witness.until_whole(&stage);
    assert_eq!((stage.count("parked"), stage.count("completed")), (0, 1));
}

#[test]
fn a_file_that_is_unreadable_for_a_while_goes_on_and_is_compared() {
    let mut stage = stage_with(QUICK);
    let place = stage.drop().join("run/a");
    let mode = |mode| fs::set_permissions(&place, fs::Permissions::from_mode(mode)).expect("set");
    stage.write("run/a", b"");
    // Root reads everything, so a stage that belongs to root is given to another user.
    stage.give_away();
    begin_and_hold(&mut stage, "run/a", &noise(6 * PART, 1));
    let mut witness = Witness::default();
    witness.see(&place);
    mode(0o000);
    stage.until_count("parked", 1);
    release(&stage);
    mode(0o644);
    // Whether only its mode was changed, or its content as well, is found by reading it.
    witness.until_whole(&stage);
    assert_eq!((begun(&stage), stage.count("completed")), (Some(1), 1));
    assert_eq!(objects(&stage).len(), 1);
}

//! Which file is which: moved, copied, linked, touched, replaced under the same inode; and how the
//! daemon treats files that it has sent when its state is older than they are, or gone.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::process::Signal;
use serde_json::json;

use super::skipped::skipped_by_machine;
use super::stage::{Options, Stage, noise, until, walk};
use super::witness::{
    PART, PATIENT, QUICK, Witness, begin_and_hold, change_after_upload, change_during_upload,
    objects, options, release, stage_with, until_it_runs, until_it_settles, until_still,
};

fn bytes_received(stage: &Stage) -> u64 {
    stage.ledger()["bytes_received"].as_u64().expect("a count")
}

fn names(stage: &Stage) -> Vec<String> {
    objects(stage).into_iter().map(|(path, _)| path).collect()
}

/// A stage that compares the file under a taken name, by digest.
fn comparing(platforms: &'static [&'static str]) -> Stage {
    Stage::new(Options {
        platforms,
        destination: "when_name_taken = \"skip-if-same\"",
        ..options(QUICK)
    })
}

fn set_time(place: &Path, time: SystemTime) {
    let file = fs::File::options().write(true).open(place).expect("opened");
    file.set_modified(time).expect("set");
}

fn time_of(place: &Path) -> SystemTime {
    fs::metadata(place).and_then(|seen| seen.modified()).expect("a time")
}

fn stop(stage: &mut Stage) {
    stage.signal(Signal::TERM);
    let status = stage.wait_for_end();
    assert!(status.success(), "{status}; the log:\n{}", stage.log());
}

#[test]
fn a_file_that_is_moved_before_its_upload_arrives_under_its_new_name_alone() {
    let mut stage = stage_with(PATIENT);
    stage.start();
    until_it_runs(&stage);
    stage.write("run/a", &noise(PART, 1));
    fs::create_dir(stage.drop().join("other")).expect("made");
    until_it_settles(&stage);
    fs::rename(stage.drop().join("run/a"), stage.drop().join("other/b")).expect("moved");
    if stage.ledger()["begun_count"] != 0 {
        skipped_by_machine("the machine stood still for a quiet period");
        return;
    }
    stage.until_count("completed", 1);
    until_still(&stage);
    assert_eq!(names(&stage), ["other/b"]);
    assert_eq!(stage.ledger()["begun_count"], 1);
    stage.assert_all_there();
}

#[test]
fn a_file_that_is_moved_during_its_upload_arrives_whole_under_its_new_name() {
    let mut stage = stage_with(QUICK);
    begin_and_hold(&mut stage, "run/a", &noise(6 * PART, 1));
    fs::rename(stage.drop().join("run/a"), stage.drop().join("run/b")).expect("moved");
    stage.until_count("abandoned", 1);
    release(&stage);
    stage.until_count("completed", 1);
    until_still(&stage);
    assert_eq!(stage.count("parked"), 0);
    let whole = fs::read(stage.drop().join("run/b")).expect("read");
    assert_eq!(objects(&stage), [("run/b".to_owned(), whole)], "nothing stands under the old name");
}

#[test]
fn a_copy_that_keeps_its_time_is_another_file() {
    let mut stage = stage_with(QUICK);
    stage.write("run/a", &noise(PART, 1));
    stage.start();
    stage.until_count("completed", 1);
    let (place, copy) = (stage.drop().join("run/a"), stage.drop().join("run/copy"));
    fs::copy(&place, &copy).expect("copied");
    set_time(&copy, time_of(&place));
    stage.until_count("completed", 2);
    until_still(&stage);
    stage.assert_all_there();
}

#[test]
fn a_file_with_an_old_time_is_sent_like_any_other() {
    let mut stage = stage_with(QUICK);
    stage.start();
    stage.write("run/a", b"from last year");
    set_time(&stage.drop().join("run/a"), SystemTime::UNIX_EPOCH);
    stage.until_count("completed", 1);
    until_still(&stage);
    stage.assert_all_there();
}

/// Removes a file and makes another one in its place, with the modification time of the first; if
/// the file system reuses the inode, only the change time tells them apart.
fn reuse_inode(place: &Path, bytes: &[u8]) {
    let (inode, time) = (fs::metadata(place).expect("seen").ino(), time_of(place));
    fs::remove_file(place).expect("removed");
    fs::write(place, bytes).expect("written");
    set_time(place, time);
    if fs::metadata(place).expect("seen").ino() != inode {
        skipped_by_machine("the file system gave another inode");
    }
}

/// Writes into a file, which stays the same file, and sets its time back.
fn overwrite_and_set_back(place: &Path, bytes: &[u8]) {
    let time = time_of(place);
    let file = fs::File::options().write(true).open(place).expect("opened");
    file.write_all_at(bytes, 0).expect("written");
    file.set_modified(time).expect("set");
}

/// The file on disk is sent, whether it is changed after its upload or in the middle of it.
fn hide_another_content(hide: impl Fn(&Path, &[u8])) {
    let write = |place: &Path| fs::write(place, noise(3 * PART, 1)).expect("written");
    change_after_upload(write, |place| hide(place, &noise(3 * PART, 2)));
    change_during_upload(|_, place| hide(place, &noise(6 * PART, 2)));
}

#[test]
fn another_file_of_the_same_inode_size_and_time_is_another_version() {
    hide_another_content(reuse_inode);
}

#[test]
fn another_content_of_the_same_inode_size_and_time_is_another_version() {
    hide_another_content(overwrite_and_set_back);
}

#[test]
fn another_content_that_came_while_the_daemon_was_down_is_another_version() {
    let mut stage = stage_with(QUICK);
    let place = stage.drop().join("run/a");
    let mut witness = Witness::default();
    stage.write("run/a", &noise(PART, 1));
    witness.see(&place);
    stage.start();
    witness.until_whole(&stage);
    stop(&mut stage);
    overwrite_and_set_back(&place, &noise(PART, 2));
    witness.see(&place);
    stage.start();
    witness.until_whole(&stage);
}

/// Waits until the row has the file's current change time.
fn until_proved(stage: &Stage, names: &[&str]) {
    let rows = rusqlite::Connection::open(stage.path("state/dropferry.db")).expect("opens");
    until("their rows know that they were touched", || {
        let is_known = |name: &&str| {
            let seen = fs::metadata(stage.drop().join(name)).expect("seen");
            let sql =
                "SELECT count(*) FROM uploads WHERE path = CAST(?1 AS BLOB) AND ctime_ns = ?2";
            let ctime = seen.ctime() * 1_000_000_000 + seen.ctime_nsec();
            let count = rows.query_row(sql, (name, ctime), |row| row.get::<_, u32>(0));
            count.is_ok_and(|count| count > 0)
        };
        names.iter().all(is_known).then_some(())
    });
}

#[test]
fn what_only_another_mode_or_link_was_given_is_read_and_not_sent() {
    let mut stage = stage_with(QUICK);
    let names = ["run/a", "run/b", "run/empty"];
    for (name, length) in names.iter().zip([3 * PART + 1, 10, 0]) {
        stage.write(name, &noise(length, length as u64));
    }
    stage.start();
    stage.until_count("completed", 3);
    until_still(&stage);
    let before = (stage.ledger()["begun_count"].clone(), bytes_received(&stage), objects(&stage));
    for name in names {
        fs::set_permissions(stage.drop().join(name), fs::Permissions::from_mode(0o600))
            .expect("set");
    }
    until_proved(&stage, &names);
    fs::hard_link(stage.drop().join("run/a"), stage.path("beside")).expect("linked");
    until_proved(&stage, &names);
    until_still(&stage);
    let after = (stage.ledger()["begun_count"].clone(), bytes_received(&stage), objects(&stage));
    assert_eq!(before, after, "nothing was begun or sent");
    let counts = &stage.status()["counts"];
    assert_eq!((&counts["completed"], &counts["abandoned"]), (&json!(3), &json!(0)));
}

#[test]
fn both_names_of_a_hard_link_arrive() {
    let mut stage = stage_with(QUICK);
    stage.write("run/a", &noise(PART, 1));
    fs::hard_link(stage.drop().join("run/a"), stage.drop().join("run/b")).expect("linked");
    stage.start();
    stage.until_count("completed", 2);
    fs::hard_link(stage.drop().join("run/a"), stage.drop().join("run/c")).expect("linked");
    stage.until_count("completed", 3);
    until_still(&stage);
    stage.assert_all_there();
}

#[test]
fn the_same_content_under_another_name_arrives_under_that_name_too() {
    let mut stage = comparing(&["sevenbridges", "s3"]);
    stage.write("run/a", &noise(3 * PART, 1));
    stage.start();
    stage.until_count("completed", 2);
    stage.write("run/b", &noise(3 * PART, 1));
    stage.until_count("completed", 4);
    until_still(&stage);
    stage.assert_all_there();
}

#[test]
fn a_touched_file_is_proved_the_same_and_not_sent_again() {
    let mut stage = comparing(&["sevenbridges", "s3"]);
    stage.write("run/a", &noise(3 * PART + 1, 1));
    stage.write("run/empty", b"");
    stage.start();
    stage.until_count("completed", 4);
    let before = (bytes_received(&stage), stage.ledger_of("s3")["bytes_received"].clone());
    let names = ["run/a", "run/empty"];
    for name in names {
        set_time(&stage.drop().join(name), SystemTime::UNIX_EPOCH);
    }
    until_proved(&stage, &names);
    until_still(&stage);
    assert_eq!(stage.count("completed"), 4, "no upload was made of it");
    let after = (bytes_received(&stage), stage.ledger_of("s3")["bytes_received"].clone());
    assert_eq!(before, after, "not a byte was sent");
    assert_eq!(stage.files().len(), 2);
    assert_eq!(stage.files_of("s3").len(), 2);
}

fn copy_directory(from: &Path, to: &Path) {
    for place in walk(from) {
        let copy = to.join(place.strip_prefix(from).expect("below"));
        fs::create_dir_all(copy.parent().expect("above")).expect("made");
        // The socket of a daemon is not part of the state.
        if fs::metadata(&place).is_ok_and(|found| found.is_file()) {
            fs::copy(&place, copy).expect("copied");
        }
    }
}

/// Sends more files, one of them half-way before the state is copied; then goes back to the copy.
#[test]
fn an_older_copy_of_the_state_loses_nothing_and_sends_nothing_twice() {
    let mut stage = comparing(&["sevenbridges", "s3"]);
    stage.write("run/old", &noise(3 * PART, 1));
    stage.start();
    stage.until_count("completed", 2);
    stop(&mut stage);
    begin_and_hold(&mut stage, "run/half", &noise(6 * PART, 2));
    stop(&mut stage);
    copy_directory(&stage.path("state"), &stage.path("copy"));
    release(&stage);
    stage.write("run/more", &noise(2 * PART, 3));
    stage.write("run/empty", b"");
    stage.start();
    stage.until_count("completed", 8);
    until_still(&stage);
    stop(&mut stage);
    let received = |stage: &Stage| {
        ["sevenbridges", "s3"].map(|to| stage.ledger_of(to)["bytes_received"].clone())
    };
    let before = received(&stage);
    fs::remove_dir_all(stage.path("state")).expect("removed");
    fs::rename(stage.path("copy"), stage.path("state")).expect("restored");
    stage.write("run/new", b"came while it was down");
    stage.start();
    stage.until_count("completed", 10);
    until_still(&stage);
    let grown = |bytes: &serde_json::Value| json!(bytes.as_u64().expect("a count") + 22);
    assert_eq!(received(&stage), before.map(|bytes| grown(&bytes)), "only the new file was sent");
    stage.assert_all_there();
}

#[test]
fn a_lost_state_sends_nothing_again_that_can_be_proved_the_same() {
    let mut stage = comparing(&["sevenbridges", "s3"]);
    for (number, length) in [(1, 5 * PART), (2, PART), (3, 17), (4, 0)] {
        stage.write(&format!("run/{number}"), &noise(length, number));
    }
    stage.start();
    stage.until_count("completed", 8);
    stop(&mut stage);
    fs::remove_dir_all(stage.path("state")).expect("lost");
    let received = |stage: &Stage| {
        ["sevenbridges", "s3"].map(|to| stage.ledger_of(to)["bytes_received"].clone())
    };
    let before = received(&stage);
    stage.start();
    stage.until_count("completed", 8);
    until_still(&stage);
    assert_eq!(received(&stage), before);
    stage.assert_all_there();
}

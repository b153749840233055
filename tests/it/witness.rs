//! Records which versions were on disk, and checks everything that was ever completed at a destination against them.
//!
//! The stages of these tests give a taken name another one, so that no completed object replaces
//! another: the objects at the destination are everything that was ever completed there.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::stage::{Options, Stage, noise, until};

/// Length of a part at the destination.
pub(crate) const PART: usize = 64 * 1024;
/// Settles at once.
pub(crate) const QUICK: &str = "quiet_period = \"50ms\"\nscan_interval = \"500ms\"";
/// Settles after some time in which a test can act.
pub(crate) const PATIENT: &str = "quiet_period = \"2s\"\nscan_interval = \"500ms\"";

/// Every version of a file that was ever on disk, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Witness(Vec<Vec<u8>>);

/// A stage whose parts are small and are sent one after the other.
pub(crate) fn stage_with(drop: &'static str) -> Stage {
    Stage::new(options(drop))
}

pub(crate) fn options(drop: &'static str) -> Options {
    Options {
        transfer: "parts_in_flight = 1",
        destination: "when_name_taken = \"rename\"",
        switches: "{\"part_size\": 65536}",
        drop,
        ..Options::default()
    }
}

/// Path and content of everything that was ever completed, below the folder of the destination.
pub(crate) fn objects(stage: &Stage) -> Vec<(String, Vec<u8>)> {
    let content = |file: &Value| -> Vec<u8> {
        let parts = file["parts"].as_array().expect("a list").iter();
        parts.flat_map(|part| fs::read(part.as_str().expect("a path")).expect("read")).collect()
    };
    let path = |file: &Value| {
        let text = |key: &str| file[key].as_str().expect("a text").to_owned();
        let whole = format!("{}/{}", text("folder"), text("name"));
        whole.strip_prefix("runs/").expect("below the folder").to_owned()
    };
    let mut objects: Vec<_> =
        stage.files().iter().map(|file| (path(file), content(file))).collect();
    objects.sort();
    objects
}

/// Lets this many parts through and refuses all others, until [`release`].
pub(crate) fn hold_after(stage: &Stage, parts: u64) {
    let action = json!({"answer": {"status": 500, "body": {}}});
    let rule = json!([{"operation": "put", "nth": parts + 1, "times": 0, "action": action}]);
    stage.tell("faults", &rule.to_string());
}

/// Lets everything through again.
pub(crate) fn release(stage: &Stage) {
    stage.tell("faults", "[]");
}

/// Writes a file of several parts, starts the daemon, and waits until it has sent two of them.
pub(crate) fn begin_and_hold(stage: &mut Stage, name: &str, bytes: &[u8]) {
    let before = stage.ledger()["calls"]["put"].as_u64().unwrap_or(0);
    hold_after(stage, 2);
    stage.write(name, bytes);
    stage.start();
    until("two parts are there and the third is refused", || {
        (stage.ledger()["calls"]["put"].as_u64() >= Some(before + 3)).then_some(())
    });
}

/// Has a file made and sent whole, changes it, and has it sent whole once more.
pub(crate) fn change_after_upload(make: impl FnOnce(&Path), change: impl FnOnce(&Path)) -> Stage {
    let mut stage = stage_with(QUICK);
    let place = stage.drop().join("run/a");
    fs::create_dir_all(stage.drop().join("run")).expect("made");
    let mut witness = Witness::default();
    make(&place);
    witness.see(&place);
    stage.start();
    witness.until_whole(&stage);
    change(&place);
    witness.see(&place);
    witness.until_whole(&stage);
    let newest = fs::read(&place).expect("read");
    assert_eq!(objects(&stage), [("run/a".to_owned(), newest)], "it took the place of the first");
    stage
}

/// Does something to a file in the middle of its upload: the final content is sent whole, whether
/// the upload continues with what differs or starts again.
pub(crate) fn change_during_upload(change: impl FnOnce(&Stage, &Path)) {
    let mut stage = stage_with(QUICK);
    let place = stage.drop().join("run/a");
    let mut witness = Witness::default();
    begin_and_hold(&mut stage, "run/a", &noise(6 * PART, 1));
    witness.see(&place);
    change(&stage, &place);
    witness.see(&place);
    release(&stage);
    witness.until_whole(&stage);
    let whole = fs::read(&place).expect("read");
    assert_eq!(objects(&stage), [("run/a".to_owned(), whole)], "the old version is nowhere");
    assert!(stage.ledger()["begun_count"].as_u64() <= Some(2));
    assert_eq!(stage.count("completed"), 1);
}

/// Waits until the daemon watches: later changes are reported by events.
pub(crate) fn until_it_runs(stage: &Stage) {
    until("it watches", || {
        let drop = &stage.status()["drops"][0];
        (drop["watch"] == "events" && drop["last_full_scan_at"].is_string()).then_some(())
    });
}

/// Waits until the daemon knows a file that has to settle; or has settled, if the machine was suspended meanwhile.
pub(crate) fn until_it_settles(stage: &Stage) {
    until("it settles", || {
        let is_begun = stage.ledger()["begun_count"].as_u64() > Some(0);
        (stage.status()["counts"]["settling"] == 1 || is_begun).then_some(())
    });
}

/// Waits until nothing is in flight any more.
pub(crate) fn until_still(stage: &Stage) {
    until("nothing moves any more", || {
        let counts = &stage.status()["counts"];
        let is_still = ["settling", "queued", "sending", "waiting"].iter().all(|s| counts[s] == 0);
        let is_clean = stage.ledger()["open_uploads"] == json!([]);
        (is_still && is_clean).then_some(())
    });
}

impl Witness {
    /// Records the file's present content.
    pub(crate) fn see(&mut self, place: &Path) {
        self.0.push(fs::read(place).expect("it stands there"));
    }

    /// Waits until the newest version is there and nothing is in progress; then everything that was
    /// ever completed must be a version that was on disk, and never a mix of two.
    pub(crate) fn until_whole(&self, stage: &Stage) {
        let newest = self.0.last().expect("a version");
        until(&format!("the newest version is there; the log:\n{}", stage.log()), || {
            objects(stage).iter().any(|(_, bytes)| bytes == newest).then_some(())
        });
        until_still(stage);
        self.assert_whole(stage);
        assert_eq!(stage.ledger()["breaches"], json!([]));
    }

    /// Everything that was ever completed is a version that was on disk.
    pub(crate) fn assert_whole(&self, stage: &Stage) {
        for (path, bytes) in objects(stage) {
            let is_one = self.0.contains(&bytes);
            assert!(is_one, "{path}: {} bytes that never stood on disk", bytes.len());
        }
    }
}

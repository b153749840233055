//! Drops as units, cut at every effect: completed with a receipt of all, disposed of only when proved.

use std::collections::BTreeSet;
use std::time::Duration;

use dropferry::engine::event::{Event, Outcome};
use dropferry::model::{
    Disposition, DropName, Failure, FailureKind, SourcePath, UnitState, WallTime,
};
use dropferry::receipt;
use dropferry::store::snapshot::{Snapshot, Upload};

use super::crashes::{each_crash, told};
use super::world::{Life, Step, World};

/// Longer than the closing time, the grace and every retry.
const STEPS_MAX: usize = 20_000;

impl World {
    /// Writes the unit's receipt as the daemon does. Every file that stands in the unit must have
    /// arrived and have its own receipt by then.
    pub(super) fn write_unit_receipt(&mut self, unit: &SourcePath, generation: u32) -> Outcome {
        self.assert_proved(unit);
        let snapshot = Snapshot::open(self.state()).expect("the state can be read");
        let drop = DropName::new("drop");
        let row = snapshot.unit(&drop, unit).expect("it can be read").expect("it is stored");
        assert_eq!(row.state, UnitState::Closed, "only what is closed is completed");
        let path = receipt::unit_path("drop", unit, generation);
        let files = |take: &mut dyn FnMut(dropferry::model::UnitFile) -> std::io::Result<()>| {
            snapshot.unit_files(&drop, unit, take)
        };
        let written = receipt::write_unit(self.state(), &path, (&row, generation), files);
        let (sha256, fingerprint) = written.expect("the disk takes it");
        Outcome::UnitReceiptWritten { path, fingerprint, sha256 }
    }

    /// Deletes the unit's files: each must be proved to be elsewhere.
    pub(super) fn dispose(&mut self, unit: &SourcePath) -> Result<Outcome, Failure> {
        let snapshot = Snapshot::open(self.state()).expect("the state can be read");
        let targets = self.settings.drops[0].destinations.clone();
        let is_file = self.files.contains_key(unit);
        let key = (&DropName::new("drop"), unit);
        let proved = snapshot.proved_files(key, is_file, &targets).expect("it can be read");
        let paths = self.paths_of(unit);
        for path in &paths {
            let is_proved = proved.get(path).is_some_and(|v| v.is_untouched(&self.files[path].0));
            if !is_proved {
                return Err(Failure::new(FailureKind::SourceChanged, "not all of it is proved"));
            }
        }
        self.assert_proved(unit);
        paths.iter().for_each(|path| drop(self.files.remove(path)));
        self.disposed.extend(paths);
        Ok(Outcome::Disposed)
    }

    fn paths_of(&self, unit: &SourcePath) -> Vec<SourcePath> {
        let below = [unit.as_bytes(), b"/"].concat();
        let is_of = |path: &&SourcePath| *path == unit || path.as_bytes().starts_with(&below);
        self.files.keys().filter(is_of).cloned().collect()
    }

    /// Every file of the unit is at the far end as it stands here, and has a durable receipt.
    fn assert_proved(&self, unit: &SourcePath) {
        let status = super::check::status(self);
        for path in self.paths_of(unit) {
            let (version, bytes) = &self.files[&path];
            let is_it = |u: &&Upload| {
                u.admission.path == path && u.admission.fingerprint.same_version(version)
            };
            let mut uploads = status.uploads.iter().filter(is_it).peekable();
            if uploads.peek().is_none() {
                // It came or changed behind the last scan: the next one makes the unit go on.
                continue;
            }
            let is_receipted = uploads.any(|upload| {
                upload.word() == "completed"
                    && self.receipts.durable_digest(upload.admission.id).is_some()
            });
            assert!(is_receipted, "{path} has no receipt");
            let far = self.fake.state();
            let is_there = far.files.values().any(|file| file.bytes == *bytes);
            assert!(is_there, "{path} is not there");
        }
    }
}

fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.settings.drops[0].disposition = Disposition::Delete;
    world.settings.drops[0].disposition_grace = Duration::from_mins(30);
    world.write("run/large", b"0123456789");
    world.write("run/empty", b"");
    world.write("alone", b"aa");
    world
}

/// Lets time pass until nothing is left here.
fn until_disposed(world: &mut World, life: &mut Life) {
    let mut count = 0;
    while !world.files.is_empty() {
        if world.step(life) == Step::Quiet {
            world.pass(Duration::from_secs(5));
            world.tell(life, Event::Timer);
        }
        count += 1;
        assert!(count < STEPS_MAX, "it is not disposed of: {:?}", world.files.keys());
    }
    world.settle(life);
}

fn assert_completed(world: &World) {
    let snapshot = Snapshot::open(world.state()).expect("the state can be read");
    let status = snapshot.status(true, WallTime(0)).expect("it can be read");
    let units: Vec<_> = status.units.iter().map(|unit| &unit.row).collect();
    assert_eq!(units.len(), 1, "a file on its own is no row");
    assert_eq!((units[0].state, units[0].generation), (UnitState::Completed, 1));
    let mut files = Vec::new();
    let unit = SourcePath::from_bytes(b"run");
    let taken = snapshot.unit_files(&DropName::new("drop"), &unit, &mut |file| {
        files.push(file.path);
        Ok(())
    });
    taken.expect("it can be read");
    assert_eq!(files.len(), 2, "each file once: {files:?}");
    let disposed: BTreeSet<_> = world.disposed.iter().collect();
    assert_eq!(disposed.len(), 3, "all of it was disposed of");
}

#[test]
fn every_crash_point_completes_and_disposes_of_units_and_never_before_they_are_proved() {
    let mut points = 0;
    for seed in 900..906 {
        let mut first = world(seed);
        let (count, mut life) = each_crash(&mut first, |at, mut world| {
            told(format!("seed {seed}, crash {at}"), || {
                let mut life = world.start();
                until_disposed(&mut world, &mut life);
                assert_completed(&world);
            });
        });
        points += count;
        let tail = each_crash_until_disposed(&mut first, &mut life, seed);
        assert_completed(&first);
        points += tail;
    }
    println!("{points} crash points");
    assert!(points > 250, "only {points} crash points were found");
}

/// Goes on until all is disposed of, and shows what a crash after each effect leads to.
fn each_crash_until_disposed(world: &mut World, life: &mut Life, seed: u64) -> u32 {
    let mut count = 0;
    while !world.files.is_empty() {
        match world.step(life) {
            Step::Quiet => {
                world.pass(Duration::from_secs(5));
                world.tell(life, Event::Timer);
            }
            Step::Waited | Step::Loaded => {}
            Step::Act("scan") => {}
            Step::Act(_) | Step::Committed => {
                count += 1;
                let mut crashed = world.crashed(life, true);
                told(format!("seed {seed}, late crash {count}"), || {
                    let mut life = crashed.start();
                    until_disposed(&mut crashed, &mut life);
                    assert_completed(&crashed);
                });
            }
        }
    }
    world.settle(life);
    count
}

#[test]
fn units_that_close_together_are_completed_and_disposed_of_a_few_at_a_time() {
    for seed in 940..945 {
        let mut world = World::new(seed);
        world.settings.drops[0].disposition = Disposition::Delete;
        (0..9).for_each(|run| world.write(&format!("run{run}/a"), format!("{run}").as_bytes()));
        let (mut life, mut most, mut count) = (world.start(), 0, 0);
        while !world.files.is_empty() {
            if world.step(&mut life) == Step::Quiet {
                world.pass(Duration::from_secs(5));
                world.tell(&mut life, Event::Timer);
            }
            most = most.max(life.unit_act_count());
            count += 1;
            assert!(count < STEPS_MAX, "they are not disposed of: {:?}", world.files.keys());
        }
        assert_eq!(most, 4, "acts of units at once, with seed {seed}");
    }
}

#[test]
fn a_unit_to_which_a_file_was_added_is_completed_again_before_it_is_disposed_of() {
    for seed in 920..930 {
        let mut world = world(seed);
        let mut life = world.run();
        for _ in 0..60 {
            world.step(&mut life);
            world.pass(Duration::from_secs(5));
            world.tell(&mut life, Event::Timer);
        }
        world.write("run/late", b"late");
        until_disposed(&mut world, &mut life);
        let far = world.fake.state();
        assert!(far.files.values().any(|file| file.bytes == b"late"), "the late file is there");
    }
}

#[test]
fn a_clock_that_is_set_ahead_does_not_shorten_the_grace() {
    let mut world = world(940);
    let mut life = world.run();
    for _ in 0..60 {
        world.step(&mut life);
        world.pass(Duration::from_secs(5));
        world.tell(&mut life, Event::Timer);
    }
    world.now.wall = world.now.wall.after(Duration::from_hours(24 * 30));
    for _ in 0..20 {
        world.step(&mut life);
        world.pass(Duration::from_secs(5));
        world.tell(&mut life, Event::Timer);
    }
    assert_eq!(world.files.len(), 3, "the grace is counted by a clock that does not jump");
    until_disposed(&mut world, &mut life);
}

#[test]
fn a_unit_at_rest_is_left_out_of_most_scans_and_what_is_added_to_it_is_found() {
    let mut world = world(950);
    world.settings.drops[0].disposition = Disposition::Keep;
    let mut life = world.run();
    let mut pass = |world: &mut World, hours: u32| {
        for _ in 0..hours * 60 {
            while world.step(&mut life) != Step::Quiet {}
            world.pass(Duration::from_mins(1));
            world.tell(&mut life, Event::Timer);
        }
    };
    pass(&mut world, 5);
    let lately = &world.skipped[world.skipped.len() - 24..];
    assert_eq!(lately.iter().filter(|count| **count == 0).count(), 2, "two of 24: {lately:?}");
    world.write("run/late", b"late");
    pass(&mut world, 2);
    assert!(world.fake.state().files.values().any(|file| file.bytes == b"late"), "it is found");
}

/// The file of a closed unit changes while it is sent, and the reader is the first to see it: the unit
/// is not complete before the new version is there.
#[test]
fn a_file_that_changes_while_its_closed_unit_is_sent_holds_the_unit_up() {
    let mut world = World::new(3);
    world.write("run/large", b"0123456789");
    let mut life = world.start();
    let is = |world: &World, state: UnitState| {
        let status = super::check::status(world);
        status.units.iter().any(|unit| unit.row.state == state)
    };
    // The unit closes while nothing can be sent.
    world.fake.state().is_down = true;
    let mut count = 0;
    while !is(&world, UnitState::Closed) {
        world.step(&mut life);
        count += 1;
        assert!(count < STEPS_MAX, "it is not closed");
    }
    world.write("run/large", b"another version");
    world.fake.state().is_down = false;
    while !is(&world, UnitState::Completed) {
        if world.step(&mut life) == Step::Quiet {
            world.pass(Duration::from_secs(5));
            world.tell(&mut life, Event::Timer);
        }
        count += 1;
        assert!(count < STEPS_MAX, "it is not completed");
    }
    let first = receipt::unit_path("drop", &SourcePath::from_bytes(b"run"), 1);
    let written = std::fs::read(receipt::directory(world.state()).join(first.as_path()));
    let written: serde_json::Value =
        serde_json::from_slice(&written.expect("it is there")).expect("JSON");
    assert_eq!(written["file_count"], 1, "{written}");
    assert_eq!(written["size_bytes"], 15, "{written}");
}

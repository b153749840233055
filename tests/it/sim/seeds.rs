//! Random runs: platforms of every kind, faults, outages, crashes, power cuts, stops, files that change,
//! orders, reloads, files that are handed in, exports, notices and disposal, all from a seed.
//!
//! `DROPFERRY_SIM_SEEDS=20000` runs more of them, `DROPFERRY_SIM_FIRST=1234` starts there. A script
//! that fails is shrunk, and `DROPFERRY_SIM_SAVE=NAME` writes the shrunk script to `scripts/`.

use std::collections::BTreeSet;

use dropferry::testing::engine::event::Event;
use dropferry::testing::model::{
    DestinationName, DirectoryName, EndReason, Hold, NamePolicy, ParkReason, Scope, SourcePath,
    Stage, Verb,
};
use dropferry::testing::store::snapshot::UploadShown;

use super::check;
use super::notices::messages;
use super::random::Random;
use super::script::{HANDED, Script, directory, happen};
use super::shrink::{self, holds};
use super::world::{Life, World};

const SEED_COUNT: u64 = 1000;
/// One seed in this many is also replayed as it runs: that costs as much again.
const REPLAYED: u64 = 10;
/// The number of tests that share the seeds, because they run side by side.
const TEST_COUNT: u64 = 4;
const PATHS: [&str; 4] = ["run/a", "run/b.txt", "other/c", "alone"];
const SCOPES: [&str; 6] = ["all", "far", "second", "drop", "run", "other"];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// Runs the seeds that belong to one test.
fn each_seed_of(test: u64) {
    let first = number("DROPFERRY_SIM_FIRST").unwrap_or(0);
    for seed in first..first + number("DROPFERRY_SIM_SEEDS").unwrap_or(SEED_COUNT) {
        if seed % TEST_COUNT == test {
            holds(&script_of(seed), run);
        }
    }
}

#[test]
fn no_order_fault_or_crash_loses_or_doubles_anything() {
    each_seed_of(0);
}

#[test]
fn no_order_fault_or_crash_loses_or_doubles_anything_either() {
    each_seed_of(1);
}

#[test]
fn no_order_fault_or_crash_loses_or_doubles_anything_as_well() {
    each_seed_of(2);
}

#[test]
fn no_order_fault_or_crash_loses_or_doubles_anything_at_last() {
    each_seed_of(3);
}

/// Scripts that once failed.
#[test]
fn every_script_that_was_kept_holds() {
    let files = std::fs::read_dir(directory()).expect("the scripts are there");
    let files: Vec<_> = files.map(|file| file.expect("an entry").path()).collect();
    assert!(!files.is_empty());
    for file in files {
        let text = std::fs::read_to_string(&file).expect("it can be read");
        holds(&Script::parse(&text), run);
    }
}

#[test]
fn a_script_is_its_text_and_shrinks_to_the_lines_that_it_takes() {
    let script = script_of(7);
    assert_eq!(Script::parse(&script.to_string()), script);
    let mut long = script_of(8);
    long.events = (0..20).map(|at| (at, format!("hint {at}"))).collect();
    long.events[11].1 = "crash".to_owned();
    long.events[3].1 = "down".to_owned();
    let small = shrink::shrunk(&long, |script| {
        let has = |wanted: &str| script.events.iter().any(|(_, line)| line == wanted);
        has("crash") && has("down")
    });
    let left: Vec<_> = small.events.iter().map(|(at, line)| (*at, line.as_str())).collect();
    assert_eq!(left, [(3, "down"), (11, "crash")]);
    assert_eq!(small.world, Vec::<String>::new());
}

/// Makes the script of a seed.
fn script_of(seed: u64) -> Script {
    let mut dice = Random(seed ^ 0x5eed);
    let mut world = Vec::new();
    // Files are rewritten under every policy but the last, which would only park them.
    world.push(format!("policy {}", dice.choose(&["skip", "overwrite", "rename", "park"])));
    for (line, per_mille) in [
        ("reports-no-parts", 500),
        ("lists-no-parts", 500),
        ("second-destination", 300),
        ("no-metadata", 300),
        ("slow-disk", 100),
        ("opaque", 200),
        ("silent", 200),
        ("exports", 200),
        ("notices", 300),
        ("delete", 200),
    ] {
        if dice.per_mille(per_mille) {
            world.push(line.to_owned());
        }
    }
    for (key, value) in [
        ("faults", dice.choose(&[0, 10, 60])),
        ("delays", dice.choose(&[0, 30])),
        ("part-size", dice.choose(&[0, 0, 3, 7])),
    ] {
        if value > 0 {
            world.push(format!("{key} {value}"));
        }
    }
    if seed.is_multiple_of(REPLAYED) {
        world.push("replayed".to_owned());
    }
    let mut events = Vec::new();
    for path in &PATHS[..dice.below(PATHS.len() + 1)] {
        events.push((0, format!("write {path} {}", dice.below(25))));
    }
    let steps = 20 + u32::try_from(dice.below(300)).expect("small");
    for at in 1..steps {
        if dice.per_mille(30) {
            events.push((at, event(&mut dice)));
        }
        if dice.per_mille(15) {
            events.push((at, format!("hint {}", dice.choose(&PATHS))));
        }
    }
    Script { seed, steps, world, events }
}

/// Chooses an event.
fn event(dice: &mut Random) -> String {
    let path = dice.choose(&PATHS);
    match dice.below(20) {
        0..=2 => "crash".to_owned(),
        3 => "power-cut".to_owned(),
        4 => "stop".to_owned(),
        5 | 6 => format!("write {path} {}", dice.below(25)),
        7 => format!("remove {path}"),
        8 => dice.choose(&["down", "up"]).to_owned(),
        9 => dice.choose(&["revoke", "renew"]).to_owned(),
        10 => "lose-upload".to_owned(),
        11 => format!("clock {}", dice.choose(&[-50, -20, 20, 50])),
        12 => format!("pass {}", dice.choose(&[1, 5, 40])),
        13 => "scan".to_owned(),
        14 => format!("hand-in home/{} {}", dice.choose(&["x", "y"]), dice.below(25)),
        15 => format!("take-out {}", dice.choose(&["drop", "destination", "directory"])),
        16 => "put-back".to_owned(),
        17 => format!("pause {}", dice.choose(&SCOPES)),
        18 => format!("{} {}", dice.choose(&["resume", "retry"]), dice.choose(&SCOPES)),
        _ => format!("{} {}", dice.choose(&["abandon", "retry"]), dice.choose(&SCOPES)),
    }
}

fn run(script: &Script, slot: &mut Option<World>) {
    let world = slot.insert(script.make_world());
    let whole = world.settings.clone();
    let mut life = world.start();
    let mut events = script.events.iter().peekable();
    for step in 0..script.steps {
        while let Some((_, line)) = events.next_if(|(at, _)| *at <= step) {
            life = happen(line, world, life, &whole);
        }
        world.step(&mut life);
    }
    if world.settings != whole {
        world.reconfigure(&mut life, whole, None);
    }
    come_to_rest(world, &mut life);
    verify(world, &life);
}

/// Ends every disturbance, and lets a fresh scan see the present files.
fn come_to_rest(world: &mut World, life: &mut Life) {
    (world.fault_rate, world.delay_rate) = (0, 0);
    let mut state = world.fake.state();
    (state.faults.is_down, state.faults.is_revoked) = (false, false);
    drop(state);
    let drop_name = DirectoryName::new("drop");
    let run = |name: &str| Scope::Run(drop_name.clone(), SourcePath::from_bytes(name.as_bytes()));
    let far = |name: &str| Scope::Destination(DestinationName::new(name));
    for scope in [Scope::All, far("far"), far("second"), Scope::Drop(drop_name.clone())] {
        world.order(life, Verb::Resume, scope);
    }
    for scope in [run("run"), run("other")] {
        world.order(life, Verb::Resume, scope);
    }
    life.has_scanned = false;
    world.tell(life, Event::ScanNow { drop: drop_name });
    world.settle(life);
}

fn verify(world: &World, life: &Life) {
    check::at_rest(world, life);
    messages(world);
    one_job_each(world);
    let uploads = check::status(world).uploads;
    for path in world.files.keys() {
        for destination in destinations_of(world, path) {
            assert_one_end(world, &uploads, (path, destination));
        }
    }
    let mut completed = 0;
    for upload in &uploads {
        let state = &upload.state;
        let is_end = match (&state.stage, state.hold) {
            (Stage::Receipted { .. }, Hold::None) => {
                completed += 1;
                true
            }
            (Stage::Ended(EndReason::SourceChanged | EndReason::Abandoned), Hold::None) => true,
            (_, Hold::Parked { reason: ParkReason::SourceMissing | ParkReason::NameTaken }) => true,
            (_, _) => false,
        };
        assert!(is_end, "upload {} ends as {state:?}", upload.admission.id);
        if let Stage::Receipted { file } = &state.stage {
            let inode = upload.admission.file.fingerprint.inode;
            let far = world.fake.state();
            if let Some(found) = far.files.get(file.id.as_str()) {
                assert_eq!(found.bytes, world.versions[&inode], "{}", upload.admission.file.path);
            }
        }
    }
    far_side_holds(world, &uploads, completed);
}

/// A file that was handed in is sent to one destination, and all others to each.
fn destinations_of<'a>(world: &'a World, path: &SourcePath) -> Vec<&'a DestinationName> {
    let all = world.settings.destinations.iter().map(|far| &far.name);
    all.take(if path.as_bytes().starts_with(HANDED) { 1 } else { usize::MAX }).collect()
}

/// The current version of the file has one upload that did not end without a file, unless it was given up.
fn assert_one_end(world: &World, uploads: &[UploadShown], key: (&SourcePath, &DestinationName)) {
    let version = world.files[key.0].0;
    let is_it = |u: &&UploadShown| {
        (&u.admission.file.path, &u.admission.destination) == key
            && u.admission.file.fingerprint == version
    };
    let (ended, live): (Vec<_>, Vec<_>) =
        uploads.iter().filter(is_it).partition(|u| matches!(u.state.stage, Stage::Ended(_)));
    let is_given_up = ended.iter().any(|u| u.state.stage == Stage::Ended(EndReason::Abandoned));
    match &live[..] {
        [] => assert!(is_given_up, "{key:?} has no upload"),
        [upload] => {
            let is_end = match upload.state.hold {
                Hold::Parked { reason } => reason == ParkReason::NameTaken,
                Hold::None | Hold::Waiting { .. } => {
                    matches!(upload.state.stage, Stage::Receipted { .. })
                }
            };
            assert!(is_end, "{key:?} ends as {:?}", upload.state);
        }
        several => panic!("{key:?} has {} uploads", several.len()),
    }
}

/// No file has two export jobs that did not fail.
fn one_job_each(world: &World) {
    let state = world.fake.state();
    let jobs: Vec<_> = state.jobs.iter().filter(|job| job.end.is_none()).collect();
    for (index, job) in jobs.iter().enumerate() {
        let is_again = jobs[..index].iter().any(|before| before.item == job.item);
        assert!(!is_again, "two jobs for {:?}", job.item);
    }
}

/// As many files as completed uploads, or as names where they replace each other.
fn far_side_holds(world: &World, uploads: &[UploadShown], completed: usize) {
    let far = world.fake.state();
    let names: BTreeSet<_> = far.files.values().map(|file| file.target.path()).collect();
    assert_eq!(names.len(), far.files.len(), "a name stands twice");
    if world.settings.destinations[0].policies.taken == NamePolicy::Overwrite {
        let is_given_up = |path: &SourcePath| {
            let mut of_path = uploads.iter().filter(|upload| upload.admission.file.path == *path);
            of_path.any(|upload| upload.state.stage == Stage::Ended(EndReason::Abandoned))
        };
        for (path, (_, bytes)) in world.files.iter().filter(|(path, _)| !is_given_up(path)) {
            let name = String::from_utf8_lossy(path.file_name()).into_owned();
            let named = far.files.values().filter(|file| file.target.name() == name).count();
            let count = destinations_of(world, path).len();
            assert_eq!(named, count, "{path} at the far end");
            // If the earlier version may not be replaced, the newer one has another name: `b.v2.txt`.
            let beside = format!("{}.v", name.split('.').next().unwrap_or_default());
            let newest = far.files.values().filter(|file| {
                let is_its = file.target.name() == name || file.target.name().starts_with(&beside);
                is_its && file.bytes == *bytes
            });
            assert!(newest.count() >= count, "{path} is not there in its newest version");
        }
    } else {
        // A file that is given up when it is already there stays there.
        let given_up = |u: &&UploadShown| u.state.stage == Stage::Ended(EndReason::Abandoned);
        let given_up = uploads.iter().filter(given_up).count();
        // A newer version of a file takes the place of the one that was sent before.
        let replaces = |u: &&UploadShown| {
            matches!(u.state.stage, Stage::Receipted { .. }) && u.state.supersedes.is_some()
        };
        let kept = completed - uploads.iter().filter(replaces).count();
        let expected = kept..=kept + given_up;
        assert!(expected.contains(&far.files.len()), "{} files there", far.files.len());
    }
}

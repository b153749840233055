//! Random runs: platforms of every kind, faults, outages, crashes, power cuts and files that change,
//! all by a seed. `DROPFERRY_SIM_SEEDS=20000` runs more of them, `DROPFERRY_SIM_FIRST=1234` from there.

use dropferry::testing::engine::event::Event;
use dropferry::testing::model::{
    DirectoryName, EndReason, Hold, NamePolicy, ParkReason, PartSize, SourcePath, Stage, Traits,
};

use super::check;
use super::crashes::told;
use super::random::Random;
use super::world::{Life, World, traits};

const SEED_COUNT: u64 = 1000;
/// One seed in so many is replayed as it goes: that costs as much again.
const REPLAYED: u64 = 10;
const PATHS: [&str; 3] = ["run/a", "run/b.txt", "other/c"];
/// Files are written anew under every policy but this one, where it only parks.
const POLICIES: [NamePolicy; 4] =
    [NamePolicy::SkipIfSame, NamePolicy::Overwrite, NamePolicy::Rename, NamePolicy::Park];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

#[test]
fn no_order_fault_or_crash_loses_or_doubles_anything() {
    let first = number("DROPFERRY_SIM_FIRST").unwrap_or(0);
    for seed in first..first + number("DROPFERRY_SIM_SEEDS").unwrap_or(SEED_COUNT) {
        let story = format!("DROPFERRY_SIM_FIRST={seed} DROPFERRY_SIM_SEEDS=1");
        told(story, || one_run(seed));
    }
}

fn one_run(seed: u64) {
    let mut dice = Random(seed ^ 0x5eed);
    let mut world = new_world(seed, &mut dice);
    let mut life = world.start();
    for _ in 0..20 + dice.below(300) {
        world.step(&mut life);
        if dice.per_mille(30) {
            life = mischief(&mut world, life, &mut dice);
        }
    }
    come_to_rest(&mut world, &mut life);
    verify(&world, &life);
}

fn new_world(seed: u64, dice: &mut Random) -> World {
    let (reports_parts, lists_no_parts) =
        dice.choose(&[(true, false), (true, true), (false, false), (false, true)]);
    let traits = Traits { reports_parts, ..traits() };
    let mut world = World::with(seed, dice.choose(&POLICIES), traits);
    world.fault_rate = dice.choose(&[0, 10, 60]);
    world.delay_rate = dice.choose(&[0, 30]);
    if dice.per_mille(300) {
        world.add_destination();
    }
    if dice.per_mille(300) {
        world.settings.destinations.iter_mut().for_each(|far| far.metadata.clear());
    }
    world.is_disk_slow = dice.per_mille(100);
    world.is_replayed = seed.is_multiple_of(REPLAYED);
    let mut state = world.fake.state();
    state.lists_no_parts = lists_no_parts;
    state.is_opaque = dice.per_mille(200);
    state.is_silent = dice.per_mille(200);
    state.part_size = dice.choose(&[None, None, PartSize::new(3), PartSize::new(7)]);
    drop(state);
    for path in &PATHS[..dice.below(PATHS.len() + 1)] {
        write(&mut world, path, dice);
    }
    world
}

fn write(world: &mut World, path: &str, dice: &mut Random) {
    let length = dice.below(25);
    world.write(path, &dice.content(length));
}

/// Lets something happen that nobody asked for.
fn mischief(world: &mut World, mut life: Life, dice: &mut Random) -> Life {
    let path = dice.choose(&PATHS);
    match dice.below(11) {
        0..=2 => {
            *world = world.crashed(&life, false);
            return world.start();
        }
        3 => {
            *world = world.crashed(&life, true);
            return world.start();
        }
        4 => write(world, path, dice),
        5 => {
            world.files.remove(&SourcePath::from_bytes(path.as_bytes()));
        }
        6 => {
            let mut state = world.fake.state();
            state.is_down = !state.is_down;
        }
        7 => {
            let mut state = world.fake.state();
            state.is_revoked = !state.is_revoked;
        }
        8 => {
            let mut state = world.fake.state();
            state.uploads.pop_first();
        }
        9 => world.now.wall.0 += 1_000_000_000 * dice.choose(&[-50, -20, 20, 50]),
        _ => world.tell(&mut life, Event::ScanNow { drop: DirectoryName::new("drop") }),
    }
    if dice.per_mille(500) {
        let paths = vec![SourcePath::from_bytes(path.as_bytes())];
        world.tell(&mut life, Event::Hint { drop: DirectoryName::new("drop"), paths });
    }
    life
}

/// Ends every disturbance, and lets a fresh scan see what there is.
fn come_to_rest(world: &mut World, life: &mut Life) {
    (world.fault_rate, world.delay_rate) = (0, 0);
    let mut state = world.fake.state();
    (state.is_down, state.is_revoked) = (false, false);
    drop(state);
    life.has_scanned = false;
    world.tell(life, Event::ScanNow { drop: DirectoryName::new("drop") });
    world.settle(life);
}

fn verify(world: &World, life: &Life) {
    check::at_rest(world, life);
    let uploads = check::status(world).uploads;
    for (path, (version, _)) in &world.files {
        let of_version = |u: &&dropferry::testing::store::snapshot::Upload| {
            u.admission.path == *path && u.admission.fingerprint == *version
        };
        let ends: Vec<_> = uploads.iter().filter(of_version).collect();
        assert_eq!(ends.len(), world.settings.destinations.len(), "uploads of {path} as it stands");
        for end in ends {
            let is_end = matches!(end.state.stage, Stage::Receipted { .. })
                || end.state.hold == Hold::Parked { reason: ParkReason::NameTaken };
            assert!(is_end, "{path} ends as {:?}", end.state);
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
            (Stage::Ended(EndReason::SourceChanged), Hold::None) => true,
            (_, Hold::Parked { reason: ParkReason::NameTaken | ParkReason::SourceMissing }) => true,
            (_, _) => false,
        };
        assert!(is_end, "upload {} ends as {state:?}", upload.admission.id);
        if let Stage::Receipted { file } = &state.stage {
            let inode = upload.admission.fingerprint.inode;
            let far = world.fake.state();
            if let Some(found) = far.files.get(file.id.as_str()) {
                assert_eq!(found.bytes, world.versions[&inode], "{}", upload.admission.path);
            }
        }
    }
    far_side_holds(world, completed);
}

/// As many files as completed uploads, or as names where they replace each other.
fn far_side_holds(world: &World, completed: usize) {
    let far = world.fake.state();
    let names: std::collections::BTreeSet<_> =
        far.files.values().map(|file| (&file.target.folders, &file.target.name)).collect();
    assert_eq!(names.len(), far.files.len(), "a name stands twice");
    if world.settings.destinations[0].when_name_taken == NamePolicy::Overwrite {
        for (path, (_, bytes)) in &world.files {
            let name = String::from_utf8_lossy(path.file_name()).into_owned();
            let found: Vec<_> = far.files.values().filter(|f| f.target.name == name).collect();
            assert_eq!(found.len(), world.settings.destinations.len(), "{path} at the far end");
            assert!(found.iter().all(|file| file.bytes == *bytes), "{path} has another content");
        }
    } else {
        assert_eq!(far.files.len(), completed, "files at the far end and completed uploads");
    }
}

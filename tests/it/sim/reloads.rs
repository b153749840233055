//! New configurations at any moment: things that are removed and put back, or pointed elsewhere.

use dropferry::testing::engine::orders::{Order, OrderAnswer};
use dropferry::testing::engine::settings::Settings;
use dropferry::testing::model::{
    DestinationName, DirectoryName, SourcePath, Stage, TargetId, UploadId, UploadState,
};
use dropferry::testing::platform::fake::Fake;
use dropferry::testing::store::snapshot::{Proving, RunRef};

use super::check;
use super::crashes::told;
use super::world::{Life, Step, World, address, traits};

fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.add_destination();
    world.write("run/a", b"0123456789");
    world.write("run/b", b"abc");
    world.write("c", b"");
    world
}

/// Configurations without something, by what is left out.
fn without(whole: &Settings) -> Vec<(&'static str, Settings)> {
    let mut no_drop = whole.clone();
    no_drop.drops.clear();
    let mut no_destination = whole.clone();
    no_destination.destinations.pop();
    no_destination.drops[0].destinations.pop();
    let mut elsewhere = whole.clone();
    elsewhere.drops[0].directory = "/other".into();
    vec![("drop", no_drop), ("destination", no_destination), ("directory", elsewhere)]
}

fn sent(world: &World) -> (u64, usize, Option<u64>) {
    let state = world.fake.state();
    (state.bytes_received, state.files.len(), state.calls.get("begin").copied())
}

#[test]
fn what_is_taken_out_and_put_back_sends_nothing_again() {
    for seed in 0..6 {
        let mut world = world(seed);
        let mut life = world.run();
        let whole = world.settings.clone();
        let before = (sent(&world), check::status(&world).uploads.len());
        for (what, out) in without(&whole) {
            for rests in [true, false] {
                told(format!("seed {seed}, {what} is out, comes to rest: {rests}"), || {
                    world.reconfigure(&mut life, out.clone(), None);
                    if rests {
                        world.settle(&mut life);
                    }
                    world.reconfigure(&mut life, whole.clone(), None);
                    world.settle(&mut life);
                    let after = (sent(&world), check::status(&world).uploads.len());
                    assert_eq!(after, before);
                    check::at_rest(&world, &life);
                });
            }
        }
        let restarted = world.crashed(&life, None).run();
        assert_eq!(restarted.engine.view().stored_uploads().len(), 0);
        assert_eq!(sent(&world), before.0);
    }
}

/// Takes some steps, unless the world is quiet before.
fn step(world: &mut World, life: &mut Life, count: u32) -> bool {
    (0..count).all(|_| world.step(life) != Step::Quiet)
}

#[test]
fn what_is_out_for_a_while_in_the_middle_arrives_once() {
    let mut points = 0;
    for steps in 0..160 {
        for index in 0..3 {
            let mut world = world(u64::from(steps));
            world.allowance = 1000;
            let mut life = world.start();
            let whole = world.settings.clone();
            if !step(&mut world, &mut life, steps) {
                continue;
            }
            points += 1;
            let (what, out) = without(&whole).swap_remove(index);
            told(format!("{what} is out after {steps} steps"), || {
                world.reconfigure(&mut life, out, None);
                step(&mut world, &mut life, steps % 7);
                world.reconfigure(&mut life, whole, None);
                world.settle(&mut life);
                let completed: Vec<_> = check::status(&world)
                    .uploads
                    .into_iter()
                    .filter(|upload| upload.word() == "completed")
                    .map(|upload| (upload.admission.file.path, upload.admission.destination))
                    .collect();
                let mut once = completed.clone();
                once.sort();
                once.dedup();
                assert_eq!(once.len(), completed.len(), "{completed:?}");
                assert_eq!(once.len(), 6, "{completed:?}");
                check::at_rest(&world, &life);
            });
        }
    }
    assert!(points > 100, "only {points} points");
}

fn repointed(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    settings.destinations.iter_mut().for_each(|far| far.address = address("other"));
    settings
}

fn ends(world: &World) -> Vec<(TargetId, UploadState)> {
    let uploads = check::status(world).uploads.into_iter();
    uploads.map(|upload| (upload.admission.target_id, upload.state)).collect()
}

#[test]
fn a_destination_that_is_pointed_elsewhere_begins_anew_there_and_leaves_the_rest_alone() {
    let mut points = 0;
    for steps in 0..140 {
        for restarts in [false, true] {
            let mut world = World::new(u64::from(steps));
            world.write("run/a", b"0123456789");
            world.write("run/b", b"abc");
            let mut life = world.start();
            if !step(&mut world, &mut life, steps) {
                continue;
            }
            points += 1;
            told(format!("pointed elsewhere after {steps} steps, restart: {restarts}"), || {
                point_elsewhere(&mut world, life, restarts);
            });
        }
    }
    assert!(points > 60, "only {points} points");
}

fn point_elsewhere(world: &mut World, mut life: Life, restarts: bool) {
    world.allowance = 1000;
    let old = (world.settings.clone(), world.fake.clone());
    let new = Fake::new(traits());
    new.state().now = old.1.state().now;
    if restarts {
        life.commit_all();
        *world = world.crashed(&life, None);
        let far = world.fake.clone();
        world.former.push(far.clone());
        (world.settings, world.fake) = (repointed(&old.0), new.clone());
        let _rested = world.run();
        assert_whole(world, (&far, &new));
        return;
    }
    world.reconfigure(&mut life, repointed(&old.0), Some(new.clone()));
    world.settle(&mut life);
    assert_whole(world, (&old.1, &new));
    // Back again: leftovers at the old target are removed, and nothing is sent there again.
    let before = old.1.state().bytes_received;
    world.reconfigure(&mut life, old.0, Some(old.1.clone()));
    world.settle(&mut life);
    assert!(old.1.state().uploads.is_empty(), "uploads left over at the old target");
    assert_eq!(old.1.state().bytes_received, before);
}

/// Each file is whole at one of the two, and every upload says at which.
fn assert_whole(world: &World, (old, new): (&Fake, &Fake)) {
    let uploads = ends(world);
    assert_eq!(uploads.len(), 2);
    for (target, state) in uploads {
        let Stage::Receipted { file } = &state.stage else { panic!("it ends as {state:?}") };
        let far = if target == TargetId(1) { old } else { new };
        let bytes = far.state().files.get(file.id.as_str()).map(|file| file.bytes.clone());
        let is_whole = world.files.values().any(|(_, content)| Some(content) == bytes.as_ref());
        assert!(is_whole, "{target}: {bytes:?}");
    }
    assert!(new.state().uploads.is_empty(), "uploads left over at the new target");
    let calls = new.state().calls.get("abort").copied();
    assert_eq!(calls, None, "nothing of the old target is removed at the new one");
}

#[test]
fn what_was_completed_elsewhere_proves_nothing_and_is_sent_again_by_order_alone() {
    let mut world = World::new(5);
    world.write("run/a", b"0123456789");
    world.write("run/b", b"abc");
    let mut life = world.run();
    let (whole, old) = (world.settings.clone(), world.fake.clone());
    let new = Fake::new(traits());
    new.state().now = old.state().now;
    world.reconfigure(&mut life, repointed(&whole), Some(new.clone()));
    world.settle(&mut life);
    assert_eq!(new.state().bytes_received, 0, "nothing is sent again by itself");
    let proved = |world: &World| {
        let (drop, run) = (DirectoryName::new("drop"), SourcePath::from_bytes(b"run"));
        let run = RunRef { drop: &drop, run: &run, is_file: false };
        let proving = Proving {
            run,
            destinations: &[DestinationName::new("far")],
            before: UploadId(i64::MAX),
            root: &world.root,
        };
        world.rows().proved_files(&proving).expect("read").len()
    };
    assert_eq!(proved(&world), 0);
    let former = check::status(&world).places.former_targets;
    assert_eq!(former.iter().map(|former| former.completed_count).collect::<Vec<_>>(), [2]);
    let resend = Order::Resend { to: DestinationName::new("far") };
    assert_eq!(world.give(&mut life, resend), OrderAnswer::Resending);
    life.has_scanned = false;
    // A crash in the middle does not lose the order.
    life.commit_all();
    let mut crashed = world.crashed(&life, None);
    let far_side = crashed.fake.clone();
    let life_again = crashed.run();
    let taken = |far: &Fake| {
        let state = far.state();
        (state.bytes_received, state.files.len())
    };
    assert_eq!(taken(&far_side), (13, 2));
    check::at_rest(&crashed, &life_again);
    world.settle(&mut life);
    assert_eq!(taken(&new), (13, 2));
    assert_eq!(proved(&world), 2);
    check::at_rest(&world, &life);
}

#[test]
fn an_alias_keeps_what_was_proved_and_what_was_begun() {
    for steps in [0, 20, 30, 40, 50, 60] {
        let mut world = World::new(steps);
        world.write("run/a", b"0123456789");
        let mut life = world.start();
        for _ in 0..steps {
            let _step = world.step(&mut life);
        }
        let mut moved = world.settings.clone();
        moved.destinations[0].same_as = vec![moved.destinations[0].address.clone()];
        moved.destinations[0].address.base_url = "http://new".into();
        world.reconfigure(&mut life, moved, None);
        world.settle(&mut life);
        check::all_arrived(&world, &life);
        assert_eq!(check::status(&world).places.former_targets, []);
    }
}

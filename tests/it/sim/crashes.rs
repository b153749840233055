//! Every crash point, and every pair of two, in the small world.

use dropferry::testing::engine::settings::PartsInFlight;
use dropferry::testing::model::{Describes, FailureKind, NamePolicy, Traits};

use super::acts::Fault;
use super::check;
use super::receipts::PowerCut;
use super::scenarios::put_there;
use super::world::{Life, PART, PARTS_IN_FLIGHT, Step, World, traits};

fn small_world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.write("run/large", b"0123456789");
    world.write("run/empty", b"");
    world
}

/// Runs a world until it is quiet, and visits what a crash would leave after every effect: without
/// a power cut and, where a receipt is not synced, with power cuts of each kind.
pub(super) fn each_crash(world: &mut World, mut visit: impl FnMut(u32, World)) -> (u32, Life) {
    let mut life = world.start();
    let mut count = 0;
    visit(count, world.crashed(&life, None));
    loop {
        let step = world.step(&mut life);
        match step {
            Step::Quiet => break,
            // A read changes nothing on disk: a crash then equals a crash before.
            Step::Waited | Step::Loaded => continue,
            Step::Act(_) | Step::Committed => {}
        }
        count += 1;
        visit(count, world.crashed(&life, None));
        if step == Step::Act("append receipt") {
            count += 1;
            let cut = PowerCut::ALL[usize::try_from(count % 4).expect("small")];
            visit(count, world.crashed(&life, Some(cut)));
        }
    }
    (count + 1, life)
}

/// Returns the seeds of a story: this many, or that many times `DROPFERRY_SIM_TIMES`.
pub(super) fn seeds_from(first: u64, count: u64) -> std::ops::Range<u64> {
    let times =
        std::env::var("DROPFERRY_SIM_TIMES").map_or(1, |text| text.parse().expect("a number"));
    first..first + count * times
}

/// Checks that everything arrives, wherever a crash comes, and without one.
fn each_crash_arrives(world: &mut World, story: &str) -> u32 {
    let (count, life) = each_crash(world, |at, mut world| {
        told(format!("{story}, crash {at}"), || {
            let life = world.run();
            check::all_arrived(&world, &life);
        });
    });
    check::all_arrived(world, &life);
    count
}

#[test]
fn a_clean_run_sends_every_byte_once() {
    let mut world = small_world(1);
    let life = world.run();
    check::all_arrived(&world, &life);
    assert_eq!(world.fake.state().bytes_received, 10);
}

#[test]
fn every_crash_point_loses_nothing() {
    let mut points = 0;
    for seed in seeds_from(0, 8) {
        points += each_crash_arrives(&mut small_world(seed), &format!("seed {seed}"));
    }
    println!("{points} crash points");
    assert!(points > 240, "only {points} crash points were found");
}

#[test]
fn every_crash_point_on_every_kind_of_platform_loses_nothing() {
    let mut points = 0;
    let kinds = [
        (true, true, false),
        (false, false, false),
        (false, true, false),
        (false, false, true),
        (false, true, true),
    ];
    for (reports_parts, lists_no_parts, sends_whole) in kinds {
        for seed in seeds_from(200, 4) {
            let describes = if lists_no_parts { Describes::Never } else { Describes::AtBegin };
            let traits = Traits { reports_parts, describes, sends_whole, ..traits() };
            let mut world = World::with(seed, NamePolicy::SkipIfSame, traits);
            world.fake.state().faults.lists_no_parts = lists_no_parts;
            world.write("run/large", b"0123456789");
            world.write("run/empty", b"");
            world.write("run/small", b"0123");
            let story = format!("{traits:?}, lists {}, seed {seed}", !lists_no_parts);
            points += each_crash_arrives(&mut world, &story);
        }
    }
    println!("{points} crash points on other kinds of platforms");
    assert!(points > 240, "only {points} crash points were found");
}

#[test]
fn every_crash_point_with_useless_etags_loses_nothing() {
    for seed in seeds_from(300, 3) {
        let mut world = small_world(seed);
        world.fake.state().faults.is_silent = true;
        each_crash_arrives(&mut world, &format!("without ETags, seed {seed}"));
        let mut world = small_world(seed);
        world.fake.state().faults.is_opaque = true;
        each_crash_arrives(&mut world, &format!("with opaque ETags, seed {seed}"));
        let mut world = small_world(seed);
        world.fake.state().faults.is_unlike = true;
        // One part is sent again to learn whether its ETag is a digest; and once more if that was not recorded.
        world.allowance = 3 * PART;
        each_crash_arrives(&mut world, &format!("with other ETags each time, seed {seed}"));
    }
}

#[test]
fn every_crash_point_with_damage_on_the_way_ends_with_what_was_sent() {
    let mut points = 0;
    for (sends_whole, is_unlike) in [(false, false), (true, false), (false, true), (true, true)] {
        for seed in seeds_from(700, 3) {
            let describes = Describes::AtBegin;
            let traits = Traits { reports_parts: false, describes, sends_whole, ..traits() };
            let mut world = World::with(seed, NamePolicy::SkipIfSame, traits);
            world.fake.state().faults.damages = 2;
            world.fake.state().faults.is_unlike = is_unlike;
            // Without digests, damage is found when the file is read back: then all of it is sent again.
            world.allowance = 12 * 14;
            world.write("run/large", b"0123456789");
            world.write("run/small", b"0123");
            let story = format!("damage, whole {sends_whole}, unlike {is_unlike}, seed {seed}");
            points += each_crash_arrives(&mut world, &story);
        }
    }
    println!("{points} crash points with damage");
    assert!(points > 240, "only {points} crash points were found");
}

/// Runs a world of one file until it is quiet. An abandoned remote upload must not be removed
/// before another upload is begun.
fn run_keeping(world: &mut World, life: &mut Life) {
    loop {
        match world.step(life) {
            Step::Quiet => return,
            Step::Act("abort") => {
                let uploads = check::status(world).uploads;
                let is_begun = uploads.iter().all(|upload| upload.state.stage.remote().is_some());
                assert!(is_begun, "removed before another one is begun: {uploads:?}");
            }
            Step::Act(_) | Step::Committed | Step::Loaded | Step::Waited => {}
        }
    }
}

#[test]
fn what_was_given_up_is_kept_until_another_upload_is_begun_wherever_it_is_cut() {
    let mut points = 0;
    for (lists_no_parts, seed) in seeds_from(950, 4).flat_map(|s| [(false, s), (true, s)]) {
        let traits = Traits { reports_parts: false, ..traits() };
        let mut world = World::with(seed, NamePolicy::SkipIfSame, traits);
        world.fake.state().faults.lists_no_parts = lists_no_parts;
        let kind = FailureKind::PartTooLarge;
        world.faults = vec![Fault { act: "put part", nth: 2, after: false, kind }];
        world.allowance = 4 * PART;
        world.write("run/large", b"0123456789abcdef");
        let (count, _) = each_crash(&mut world, |at, mut world| {
            told(format!("seed {seed}, crash {at}"), || {
                let mut life = world.start();
                run_keeping(&mut world, &mut life);
                check::all_arrived(&world, &life);
            });
        });
        points += count;
    }
    println!("{points} crash points of an upload that is begun again");
    assert!(points > 240, "only {points} crash points were found");
}

#[test]
fn every_crash_point_loses_nothing_where_the_width_is_found_by_trial() {
    // The width that parts which end at once may reach without any measurement.
    const WIDEST: u64 = 8;
    let mut points = 0;
    for seed in seeds_from(500, 4) {
        let mut world = World::new(seed);
        world.settings.parts_in_flight = PartsInFlight::Auto;
        world.is_disk_slow = seed % 2 == 0;
        world.allowance = 2 * (WIDEST - u64::from(PARTS_IN_FLIGHT)) * PART;
        for name in ["run/one", "run/two", "run/three"] {
            world.write(name, b"0123456789abcdefghijklmnopqrstuvwxyz");
        }
        points += each_crash_arrives(&mut world, &format!("auto, seed {seed}"));
    }
    println!("{points} crash points with widths found by trial");
    assert!(points > 240, "only {points} crash points were found");
}

#[test]
fn a_slow_disk_bounds_what_a_crash_costs_all_the_same() {
    for seed in seeds_from(400, 4) {
        let mut world = World::new(seed);
        world.is_disk_slow = true;
        world.write("run/large", b"0123456789abcdefghijklmnopqrstuvwxyz");
        world.write("run/other", b"0123456789abcdefghijklmnopqrstuvwxyz");
        each_crash_arrives(&mut world, &format!("slow disk, seed {seed}"));
    }
}

#[test]
fn every_crash_point_beside_a_file_of_that_name_keeps_to_the_policy() {
    for policy in [NamePolicy::Overwrite, NamePolicy::Rename, NamePolicy::Park] {
        for seed in seeds_from(500, 3) {
            let mut world = World::with(seed, policy, traits());
            put_there(&world, b"other", true);
            world.write("run/a", b"0123456789");
            let check = |world: &World, life: &Life| {
                let contents: Vec<_> =
                    world.fake.state().files.values().map(|f| f.bytes.clone()).collect();
                let (old, new) = (b"other".to_vec(), b"0123456789".to_vec());
                let wanted = match policy {
                    NamePolicy::Overwrite => vec![new],
                    NamePolicy::Rename => vec![old, new],
                    NamePolicy::Park | NamePolicy::SkipIfSame => vec![old],
                };
                assert_eq!(contents.len(), wanted.len(), "files at the far end");
                assert!(wanted.iter().all(|bytes| contents.contains(bytes)), "{contents:?}");
                check::at_rest(world, life);
            };
            let mut life = each_crash(&mut world, |at, mut world| {
                told(format!("{policy:?}, seed {seed}, crash {at}"), || {
                    let life = world.run();
                    check(&world, &life);
                });
            })
            .1;
            check(&world, &life);
            world.settle(&mut life);
        }
    }
}

#[test]
fn every_pair_of_crash_points_loses_nothing() {
    let mut pairs = 0;
    for seed in seeds_from(100, 1) {
        each_crash(&mut small_world(seed), |first, mut world| {
            let story = format!("seed {seed}, crash {first}, then");
            pairs += each_crash_arrives(&mut world, &story);
        });
    }
    println!("{pairs} pairs of crash points");
    assert!(pairs > 1_000, "only {pairs} pairs were found");
}

/// Runs something, and names the run if it fails.
pub(super) fn told<T>(story: String, run: impl FnOnce() -> T) -> T {
    struct Teller(String);
    impl Drop for Teller {
        #[expect(clippy::print_stdout, reason = "captured unless the test fails")]
        fn drop(&mut self) {
            if std::thread::panicking() {
                println!("it was {}", self.0);
            }
        }
    }
    let teller = Teller(story);
    let done = run();
    drop(teller);
    done
}

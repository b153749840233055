//! What people are told, cut at every effect: nothing twice under two ids, nothing not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dropferry::testing::engine::event::Event;
use dropferry::testing::engine::settings::{ChannelSettings, DigestSettings};
use dropferry::testing::model::{Channel, FailureKind, NamePolicy, NoticeKind, RunState, WallTime};
use serde_json::Value;

use super::acts::Fault;
use super::crashes::{each_crash, told};
use super::scenarios::put_there;
use super::world::{Life, Step, World, traits};

/// Longer than closing a run and every retry.
const STEPS_MAX: usize = 20_000;

impl World {
    fn tell_people(&mut self) {
        self.settings.channels = vec![ChannelSettings::plain(Channel::new("mail"))];
    }

    fn is_told(&self) -> bool {
        let snapshot = self.rows();
        let status = snapshot.status(true, WallTime(0)).expect("it can be read");
        let mut runs = status.runs.iter();
        runs.all(|run| run.row.state == RunState::Completed) && status.notices.waiting_count == 0
    }
}

fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.tell_people();
    world.write("run/large", b"0123456789");
    world.write("run/empty", b"");
    world
}

fn until_told(world: &mut World, life: &mut Life, mut visit: impl FnMut(&World, &Life)) {
    for _ in 0..STEPS_MAX {
        match world.step(life) {
            Step::Quiet if world.is_told() => return,
            Step::Quiet => {
                world.pass(Duration::from_secs(5));
                world.tell(life, Event::Timer);
            }
            Step::Waited | Step::Loaded | Step::Act("scan") => {}
            Step::Act(_) | Step::Committed => visit(world, life),
        }
    }
    panic!("people are not told: {:?}", world.told);
}

/// Every message, by its id: the same each time it was sent.
fn messages(world: &World) -> BTreeMap<String, Value> {
    let mut bodies = BTreeMap::new();
    for notice in &world.told {
        let body: Value = serde_json::from_str(&notice.body).expect("JSON");
        let id = body["id"].as_str().expect("a text").to_owned();
        let before = bodies.insert(id.clone(), body.clone());
        assert!(before.is_none_or(|before| before == body), "{id} was sent with two texts");
    }
    bodies
}

fn assert_one_completion(world: &World) {
    let messages = messages(world);
    let completed: Vec<_> =
        messages.values().filter(|message| message["kind"] == "run-completed").collect();
    assert_eq!(completed.len(), 1, "one fact has one message: {messages:?}");
    assert_eq!((&completed[0]["name"], &completed[0]["file_count"]), (&"run".into(), &2.into()));
}

#[test]
fn every_crash_point_tells_of_each_completed_drop_under_one_id() {
    let mut points = 0;
    for seed in 1100..1104 {
        let mut first = world(seed);
        let finish = |story: String, mut world: World| {
            told(story, || {
                let mut life = world.start();
                until_told(&mut world, &mut life, |_, _| {});
                assert_one_completion(&world);
            });
        };
        let (count, mut life) = each_crash(&mut first, |at, world| {
            finish(format!("seed {seed}, crash {at}"), world);
        });
        points += count;
        until_told(&mut first, &mut life, |world, life| {
            points += 1;
            finish(format!("seed {seed}, crash {points}"), world.crashed(life, true));
        });
        assert_one_completion(&first);
        assert_eq!(first.told.len(), 1, "without a crash it is told once");
    }
    println!("{points} crash points");
    assert!(points > 100, "only {points} crash points were found");
}

#[test]
fn every_crash_point_of_a_day_tells_of_each_drop_in_one_digest() {
    for seed in 1170..1172 {
        let mut first = world(seed);
        // The world begins at 08:00 UTC.
        let digest = DigestSettings { hour: 9, zone: jiff::tz::TimeZone::UTC };
        first.settings.channels[0].digest = Some(digest);
        let check = |world: &World| {
            let messages = messages(world);
            assert_eq!(messages.len(), 1, "one for the day: {messages:?}");
            let digest = messages.values().next().expect("one");
            assert_eq!(
                (&digest["kind"], &digest["name"]),
                (&"digest".into(), &"2027-01-15".into())
            );
            let names = digest["completed"].as_array().expect("a list").iter();
            let names: Vec<_> = names.map(|item| (&item["name"], &item["file_count"])).collect();
            assert_eq!(names, [(&"run".into(), &2.into())], "{digest}");
        };
        let finish = |story: String, mut world: World| {
            told(story, || {
                let mut life = world.start();
                until_told(&mut world, &mut life, |_, _| {});
                check(&world);
            });
        };
        let (mut points, mut life) = each_crash(&mut first, |at, world| {
            finish(format!("seed {seed}, crash {at}"), world);
        });
        until_told(&mut first, &mut life, |world, life| {
            points += 1;
            finish(format!("seed {seed}, crash {points}"), world.crashed(life, true));
        });
        check(&first);
    }
}

#[test]
fn every_crash_point_tells_of_each_parked_file() {
    for seed in 1110..1114 {
        let mut world = World::with(seed, NamePolicy::Park, traits());
        world.tell_people();
        put_there(&world, b"other", true);
        world.write("run/a", b"0123456789");
        let check = |world: &World| {
            let messages = messages(world);
            let parked: Vec<_> =
                messages.values().filter(|told| told["kind"] == "parked").collect();
            assert_eq!(parked.len(), 1, "{messages:?}");
            assert_eq!(parked[0]["paths"], serde_json::json!(["run/a"]));
        };
        each_crash(&mut world, |at, mut world| {
            told(format!("seed {seed}, crash {at}"), || {
                world.run();
                check(&world);
            });
        });
        check(&world);
    }
}

#[test]
fn a_channel_that_fails_is_tried_until_it_takes_the_notice_and_holds_nothing_up() {
    for (seed, after) in [(1120, false), (1121, true)] {
        let mut world = world(seed);
        let kind = FailureKind::LocalFault;
        world.faults = (1..=4).map(|nth| Fault { act: "notify", nth, after, kind }).collect();
        let mut life = world.start();
        until_told(&mut world, &mut life, |_, _| {});
        assert_one_completion(&world);
        assert_eq!(world.told.len(), if after { 5 } else { 1 });
    }
}

#[test]
fn a_destination_that_halts_is_told_once_and_once_that_it_is_back_also_by_the_next_life() {
    let mut world = World::new(1130);
    world.tell_people();
    world.write("run/a", b"0123456789");
    let kind = FailureKind::Unauthorized;
    let fault = |act, nth| Fault { act, nth, after: false, kind };
    world.faults = vec![fault("locate", 1), fault("check access", 1), fault("check access", 2)];
    let mut life = world.start();
    while !world.told.iter().any(|notice| notice.kind == NoticeKind::DestinationHalted) {
        world.step(&mut life);
    }
    while !life.is_durable() {
        world.step(&mut life);
    }
    let mut world = world.crashed(&life, false);
    world.faults.push(fault("locate", world.act_counts["locate"] + 1));
    let mut life = world.start();
    until_told(&mut world, &mut life, |_, _| {});
    let messages = messages(&world);
    let states: BTreeSet<_> = messages
        .values()
        .filter(|message| message["kind"] == "destination-halted")
        .map(|message| (message["at"].as_str(), message["state"].as_str()))
        .collect();
    let states: Vec<_> = states.into_iter().filter_map(|(_, state)| state).collect();
    assert_eq!(states, ["halted", "ok"]);
}

#[test]
fn every_crash_point_tells_of_files_that_are_drops_of_their_own_and_never_of_one_twice() {
    for seed in 1140..1144 {
        let mut world = World::new(seed);
        world.tell_people();
        world.write("a", b"0123456789");
        world.write("b", b"");
        let check = |world: &World| {
            let mut paths = Vec::new();
            for told in messages(world).values().filter(|told| told["kind"] == "run-completed") {
                let named = told["paths"].as_array().expect("a list").iter();
                paths.extend(named.map(|path| path.as_str().expect("a path").to_owned()));
                let count = told["paths"].as_array().map_or(0, Vec::len);
                assert_eq!(told["file_count"], count);
            }
            paths.sort();
            assert_eq!(paths, ["a", "b"]);
        };
        each_crash(&mut world, |at, mut world| {
            told(format!("seed {seed}, crash {at}"), || {
                world.run();
                check(&world);
            });
        });
        check(&world);
        assert_eq!(messages(&world).len(), 1, "without a crash they are one message");
    }
}

/// The states that were told of a kind, in order, each once for its message.
fn states(world: &World, kind: &str) -> Vec<String> {
    let messages = messages(world);
    let of_kind = messages.values().filter(|message| message["kind"] == kind);
    let states: BTreeSet<_> = of_kind
        .map(|message| (message["at"].as_str(), message["state"].as_str().map(str::to_owned)))
        .collect();
    states.into_iter().filter_map(|(_, state)| state).collect()
}

#[test]
fn an_outage_that_lasts_is_told_once_and_once_that_it_is_over_also_by_the_next_life() {
    let mut world = World::new(1150);
    world.tell_people();
    world.settings.notices.unreachable_after = Duration::from_secs(40);
    world.write("run/a", b"0123456789");
    let kind = FailureKind::Unreachable;
    let fault = |act, nth| Fault { act, nth, after: false, kind };
    world.faults = (1..=40).map(|nth| fault("check access", nth)).collect();
    world.faults.extend((1..=4).map(|nth| fault("locate", nth)));
    let mut life = world.start();
    let is_told = |world: &World| {
        world.told.iter().any(|notice| notice.kind == NoticeKind::DestinationUnreachable)
    };
    while !is_told(&world) {
        assert_ne!(world.step(&mut life), Step::Quiet, "it is told");
    }
    while !life.is_durable() {
        world.step(&mut life);
    }
    let mut world = world.crashed(&life, false);
    let mut life = world.start();
    until_told(&mut world, &mut life, |_, _| {});
    assert_eq!(states(&world, "destination-unreachable"), ["unreachable", "ok"]);
}

#[test]
fn little_room_and_a_credential_that_ends_are_told_once_and_that_they_are_over() {
    let mut world = World::new(1160);
    world.tell_people();
    world.write("run/a", b"0123456789");
    world.room = 4;
    world.expires_at = Some(world.now.wall.after(Duration::from_hours(30)));
    let mut life = world.start();
    until_told(&mut world, &mut life, |_, _| {});
    world.pass(Duration::from_hours(1));
    world.tell(&mut life, Event::Timer);
    until_told(&mut world, &mut life, |_, _| {});
    let mut world = world.crashed(&life, false);
    let mut life = world.start();
    until_told(&mut world, &mut life, |_, _| {});
    assert_eq!(states(&world, "disk-nearly-full"), ["short"], "once, in two lives");
    assert_eq!(states(&world, "credential-failing"), ["ending"]);
    world.room = 30;
    world.expires_at = None;
    world.pass(Duration::from_hours(1));
    world.tell(&mut life, Event::Timer);
    until_told(&mut world, &mut life, |_, _| {});
    assert_eq!(states(&world, "disk-nearly-full"), ["short", "ok"]);
    assert_eq!(states(&world, "credential-failing"), ["ending", "ok"]);
}

//! Notices, interrupted at every effect: none is sent under two ids, and none is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dropferry::testing::engine::event::{Event, ReportWanted};
use dropferry::testing::engine::settings::ChannelSettings;
use dropferry::testing::model::{
    Channel, FailureKind, NamePolicy, NoticeFacts, NoticeKind, ReportPeriod, RunState, WallTime,
};
use serde_json::Value;

use super::acts::Fault;
use super::crashes::{each_crash, told};
use super::receipts::PowerCut;
use super::scenarios::put_there;
use super::world::{Life, Step, World, traits};

/// More steps than the closing of a run and every retry take.
const STEPS_MAX: usize = 20_000;

impl World {
    pub(super) fn notify_by_mail(&mut self) {
        self.settings.channels = vec![ChannelSettings::plain(Channel::new("mail"))];
    }

    /// Summarises the day that ended last; days end at 09:00 UTC.
    pub(super) fn report(&self, wanted: ReportWanted) -> Option<NoticeFacts> {
        const DAY_NS: i64 = 86_400_000_000_000;
        const END_NS: i64 = 9 * 3_600_000_000_000;
        let until = WallTime((self.now.wall.0 - END_NS).div_euclid(DAY_NS) * DAY_NS + END_NS);
        if wanted.reported_until.is_some_and(|reported| reported >= until) {
            return None;
        }
        let snapshot = self.rows();
        Some(snapshot.report(WallTime(until.0 - DAY_NS), until).expect("it can be read"))
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
    world.notify_by_mail();
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
pub(super) fn messages(world: &World) -> BTreeMap<String, Value> {
    let mut bodies = BTreeMap::new();
    for notice in &world.told {
        let body = dropferry::testing::notify::body(notice);
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
            finish(
                format!("seed {seed}, crash {points}"),
                world.crashed(life, Some(PowerCut::Lost)),
            );
        });
        assert_one_completion(&first);
        assert_eq!(first.told.len(), 1, "without a crash it is told once");
    }
    println!("{points} crash points");
    assert!(points > 100, "only {points} crash points were found");
}

/// The reports that were sent, by the end of their period: the runs that each of them names.
fn reports(world: &World) -> BTreeMap<String, Vec<(Value, Value)>> {
    let messages = messages(world);
    let mut reports = BTreeMap::new();
    for report in messages.values().filter(|message| message["kind"] == "report") {
        let until = report["until"].as_str().expect("a time").to_owned();
        let runs = report["completed"].as_array().expect("a list").iter();
        let runs = runs.map(|run| (run["name"].clone(), run["file_count"].clone())).collect();
        assert!(reports.insert(until, runs).is_none(), "a period is reported once: {messages:?}");
    }
    reports
}

#[test]
fn every_crash_point_reports_each_period_once_with_what_was_completed_in_it() {
    for seed in 1170..1172 {
        let mut first = world(seed);
        first.settings.notices.report = Some(ReportPeriod::Day);
        // The world begins at 08:00 UTC, and its days end at 09:00: one has ended, one ends in an hour.
        let report_the_day = |world: &mut World, life: &mut Life| {
            until_told(world, life, |_, _| {});
            for minutes in [60, 11] {
                world.pass(Duration::from_mins(minutes));
                world.tell(life, Event::Timer);
                until_told(world, life, |_, _| {});
            }
            let reports = reports(world);
            assert_eq!(reports["2027-01-14T09:00:00Z"], []);
            assert_eq!(reports["2027-01-15T09:00:00Z"], [("run".into(), 2.into())]);
            assert_eq!(reports.len(), 2, "{reports:?}");
        };
        let finish = |story: String, mut world: World| {
            told(story, || {
                let mut life = world.start();
                report_the_day(&mut world, &mut life);
            });
        };
        let (mut points, mut life) = each_crash(&mut first, |at, world| {
            finish(format!("seed {seed}, crash {at}"), world);
        });
        until_told(&mut first, &mut life, |world, life| {
            points += 1;
            finish(
                format!("seed {seed}, crash {points}"),
                world.crashed(life, Some(PowerCut::Lost)),
            );
        });
        report_the_day(&mut first, &mut life);
    }
}

#[test]
fn every_crash_point_tells_of_each_parked_file() {
    for seed in 1110..1114 {
        let mut world = World::with(seed, NamePolicy::Park, traits());
        world.notify_by_mail();
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
    world.notify_by_mail();
    world.write("run/a", b"0123456789");
    let kind = FailureKind::Unauthorized;
    let fault = |act, nth| Fault { act, nth, after: false, kind };
    // Some minutes in which a credential is refused.
    world.faults = (1..=12).map(|nth| fault("locate", nth)).collect();
    let mut life = world.start();
    while !world.told.iter().any(|notice| notice.kind == NoticeKind::DestinationHalted) {
        world.step(&mut life);
    }
    while !life.is_durable() {
        world.step(&mut life);
    }
    let mut world = world.crashed(&life, None);
    let tried = world.act_counts["locate"];
    world.faults.extend((1..=2).map(|nth| fault("locate", tried + nth)));
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
fn every_crash_point_sends_one_message_for_each_file_that_is_a_run_of_its_own() {
    for seed in 1140..1144 {
        let mut world = World::new(seed);
        world.notify_by_mail();
        world.write("a", b"0123456789");
        world.write("b", b"");
        let check = |world: &World| {
            let mut names = Vec::new();
            for told in messages(world).values().filter(|told| told["kind"] == "run-completed") {
                names.push(told["name"].as_str().expect("a path").to_owned());
                assert_eq!(told["file_count"], 1);
            }
            names.sort();
            assert_eq!(names, ["a", "b"], "no completion is grouped, and none is sent twice");
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

/// The states that notices of a kind name, in order, each message once.
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
    world.notify_by_mail();
    world.settings.notices.unreachable_after = Duration::from_secs(40);
    world.write("run/a", b"0123456789");
    let kind = FailureKind::Unreachable;
    let fault = |act, nth| Fault { act, nth, after: false, kind };
    world.faults = (1..=40).map(|nth| fault("locate", nth)).collect();
    // The platform is also asked before there is a file.
    world.faults.extend((1..=40).map(|nth| fault("check access", nth)));
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
    let mut world = world.crashed(&life, None);
    let mut life = world.start();
    until_told(&mut world, &mut life, |_, _| {});
    assert_eq!(states(&world, "destination-unreachable"), ["unreachable", "ok"]);
}

#[test]
fn little_room_and_a_credential_that_ends_are_told_once_and_that_they_are_over() {
    let mut world = World::new(1160);
    world.notify_by_mail();
    world.write("run/a", b"0123456789");
    world.room = 4;
    world.expires_at = Some(world.now.wall.after(Duration::from_hours(30)));
    let mut life = world.start();
    until_told(&mut world, &mut life, |_, _| {});
    world.pass(Duration::from_hours(1));
    world.tell(&mut life, Event::Timer);
    until_told(&mut world, &mut life, |_, _| {});
    let mut world = world.crashed(&life, None);
    let mut life = world.start();
    until_told(&mut world, &mut life, |_, _| {});
    assert_eq!(states(&world, "disk-low"), ["short"], "once, in two lives");
    assert_eq!(states(&world, "credential-expiring"), ["ending"]);
    world.room = 30;
    world.expires_at = None;
    world.pass(Duration::from_hours(1));
    world.tell(&mut life, Event::Timer);
    until_told(&mut world, &mut life, |_, _| {});
    assert_eq!(states(&world, "disk-low"), ["short", "ok"]);
    assert_eq!(states(&world, "credential-expiring"), ["ending", "ok"]);
}

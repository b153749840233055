//! Drop directories that are away, emptied, silent, or read in part only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dropferry::testing::engine::Engine;
use dropferry::testing::engine::event::{Act, ActId, Effect, Event, Outcome, Walk};
use dropferry::testing::model::{
    Catalogued, DirectoryHealth, DirectoryName, FailureKind, Fingerprint, Hold, IgnoreReason, Now,
    Observation, ParkReason, Place, Record, RootIdentity, Scope, Seen, SourcePath, Stage,
    StoredState, Verb, WatchState,
};

use super::acts::Fault;
use super::check;
use super::receipts::PowerCut;
use super::world::{Life, Step, World};

const TEN: &[u8] = b"0123456789";
/// As the simulated drop is configured.
const SCAN_INTERVAL: Duration = Duration::from_mins(5);
/// The number of steps after which an awaited event is held not to come.
const STEPS_MAX: u32 = 10_000;

fn drop_name() -> DirectoryName {
    DirectoryName::new("drop")
}

fn until(world: &mut World, life: &mut Life, reached: impl Fn(&World, &Life) -> bool) {
    for _ in 0..STEPS_MAX {
        if reached(world, life) {
            return;
        }
        assert_ne!(world.step(life), Step::Quiet, "it ended before that was reached");
    }
    panic!("that was not reached");
}

fn is_sending(_: &World, life: &Life) -> bool {
    let is = |stage: &Stage| matches!(stage, Stage::Sending { .. });
    life.engine.view().stored_uploads().iter().any(|upload| is(&upload.state.stage))
}

fn watch(world: &World) -> (String, String) {
    let status = check::status(world);
    let drop = status.places.drops.first().expect("a drop");
    (drop.watch.clone(), drop.reason.clone().unwrap_or_default())
}

fn is_deaf(world: &World, _: &Life) -> bool {
    check::status(world).places.drops.first().is_some_and(|drop| drop.watch == "deaf")
}

fn is_parked(life: &Life) -> bool {
    let parked = |hold: &Hold| matches!(hold, Hold::Parked { .. });
    life.engine.view().stored_uploads().iter().any(|upload| parked(&upload.state.hold))
}

/// A share that is away.
struct Share {
    files: BTreeMap<SourcePath, (Fingerprint, Vec<u8>)>,
    root: RootIdentity,
}

/// Unmounts the share: an empty mount point is left, another directory.
fn unmount(world: &mut World) -> Share {
    let mount_point = RootIdentity::new("mount point");
    let root = std::mem::replace(&mut world.root, mount_point);
    Share { files: std::mem::take(&mut world.files), root }
}

fn mount(world: &mut World, share: Share) {
    world.files = share.files;
    world.root = share.root;
}

fn pass(world: &mut World, life: &mut Life, time: Duration) {
    let end = world.now.monotonic.after(time);
    while world.now.monotonic < end {
        assert_ne!(world.step(life), Step::Quiet);
    }
}

fn calls(world: &World, operation: &str) -> u64 {
    world.fake.state().calls.get(operation).copied().unwrap_or(0)
}

fn sending(seed: u64) -> (World, Life) {
    let mut world = World::new(seed);
    world.write("run/large", TEN);
    (0..20).for_each(|n| world.write(&format!("run/{n}"), TEN));
    let mut life = world.start();
    until(&mut world, &mut life, is_sending);
    (world, life)
}

#[test]
fn an_hour_without_the_share_parks_nothing_and_everything_goes_on_by_itself() {
    for seed in 0..10 {
        let (mut world, mut life) = sending(seed);
        let share = unmount(&mut world);
        until(&mut world, &mut life, is_deaf);
        let calls_before = calls(&world, "begin") + calls(&world, "put part");
        pass(&mut world, &mut life, Duration::from_hours(1));
        let (_, reason) = watch(&world);
        assert_eq!(reason, "it is empty");
        assert!(!is_parked(&life), "seed {seed}: parked because its share was away");
        let tried = calls(&world, "begin") + calls(&world, "put part") - calls_before;
        assert!(tried < 10, "seed {seed}: {tried} calls for files that cannot be read");
        mount(&mut world, share);
        let since = world.now.monotonic;
        world.settle(&mut life);
        assert!(world.now.monotonic.since(since) < Duration::from_mins(3), "seed {seed}: late");
        check::all_arrived(&world, &life);
        assert_ne!(watch(&world).0, "deaf");
    }
}

#[test]
fn which_directory_it_was_is_remembered_when_the_daemon_starts_without_the_share() {
    for seed in 0..10 {
        let (world, life) = sending(seed);
        let mut world = world.crashed(&life, Some(PowerCut::Lost));
        let share = unmount(&mut world);
        let mut life = world.start();
        until(&mut world, &mut life, is_deaf);
        pass(&mut world, &mut life, Duration::from_mins(10));
        assert_eq!(watch(&world).1, "it is empty", "seed {seed}");
        assert!(!is_parked(&life), "seed {seed}");
        mount(&mut world, share);
        world.settle(&mut life);
        check::all_arrived(&world, &life);
    }
}

#[test]
fn files_removed_from_the_same_directory_are_missing() {
    let (mut world, mut life) = sending(3);
    world.files.clear();
    world.settle(&mut life);
    assert_ne!(watch(&world).0, "deaf");
    let missing = Hold::Parked { reason: ParkReason::SourceMissing };
    let stored = life.engine.view().stored_uploads();
    assert!(!stored.is_empty() && stored.iter().all(|upload| upload.state.hold == missing));
    check::at_rest(&world, &life);
}

#[test]
fn another_directory_is_the_drop_directory_once_an_operator_accepts_it() {
    let (mut world, mut life) = sending(4);
    let accept = |world: &mut World, life: &mut Life| {
        world.order(life, Verb::AcceptRoot, Scope::Drop(drop_name())).remove(0).is_known
    };
    assert!(!accept(&mut world, &mut life), "there is no other");
    world.root = RootIdentity::new("another");
    until(&mut world, &mut life, is_deaf);
    let before = life.engine.view().stored_uploads().len();
    world.write("run/others", TEN);
    pass(&mut world, &mut life, Duration::from_hours(1));
    assert_eq!(life.engine.view().stored_uploads().len(), before, "nothing of another is admitted");
    assert!(!is_parked(&life));
    assert!(accept(&mut world, &mut life));
    world.settle(&mut life);
    check::all_arrived(&world, &life);
    world.tell(&mut life, Event::ScanNow { drop: drop_name() });
    let late = SourcePath::from_bytes(b"run/late");
    world.write("run/late", TEN);
    world.tell(&mut life, Event::Hint { drop: drop_name(), paths: vec![late] });
    until(&mut world, &mut life, is_sending);
    world.files.clear();
    world.settle(&mut life);
    assert_ne!(watch(&world).0, "deaf", "it is the same, and was emptied");
    assert!(is_parked(&life));
}

/// An engine without a world: its report about its drop, and the scan that it asked for last.
struct Alone {
    engine: Engine,
    now: Now,
    scan: Option<ActId>,
    health: Option<DirectoryHealth>,
}

impl Alone {
    fn new() -> Self {
        let world = World::new(1);
        let mut effects = Vec::new();
        let engine =
            Engine::load(world.settings.clone(), StoredState::default(), world.now, &mut effects);
        let mut alone = Self { engine, now: world.now, scan: None, health: None };
        alone.take(effects);
        alone.tell(Event::Timer);
        alone
    }

    fn tell(&mut self, event: Event) {
        let mut effects = Vec::new();
        self.engine.handle(self.now, event, &mut effects);
        self.take(effects);
    }

    fn observed(&mut self, observations: Vec<Observation>) {
        let (drop, known) = (drop_name(), Catalogued::default());
        self.tell(Event::Observed { drop, observations, known });
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let (records, acts) = match effect {
                Effect::Answer(..) => (Vec::new(), Vec::new()),
                Effect::Start(id, act) => (Vec::new(), vec![(id, act)]),
                Effect::Commit { records, then } => (records, then),
            };
            for record in records {
                if let Record::DirectoryHealth(health) = record {
                    self.health = Some(health);
                }
            }
            let scan = acts.into_iter().find(|(_, act)| matches!(act, Act::Scan { .. }));
            self.scan = scan.map(|(id, _)| id).or(self.scan);
        }
    }

    /// Lets time pass, in the steps that the engine asks for.
    fn pass(&mut self, time: Duration) {
        let end = self.now.monotonic.after(time);
        loop {
            let next = self.engine.next_deadline().filter(|at| *at <= end);
            let step = next.unwrap_or(end).since(self.now.monotonic);
            self.now.monotonic = self.now.monotonic.after(step);
            self.now.wall = self.now.wall.after(step);
            self.tell(Event::Timer);
            if next.is_none() {
                return;
            }
        }
    }

    fn scanned(&mut self, complete: bool) {
        let unseen = if complete {
            BTreeSet::new()
        } else {
            BTreeSet::from([SourcePath::from_bytes(b"run/closed")])
        };
        let root = RootIdentity::new("");
        let walk = Walk { complete: true, unseen, is_empty: false, root, space: None };
        let (elapsed, renamed) = (Duration::ZERO, Vec::new());
        let outcome = Outcome::Scanned { seen_count: 0, elapsed, walk, renamed };
        let act = self.scan.take().expect("a scan was asked for");
        self.tell(Event::Outcome { act, outcome: Ok(outcome) });
    }

    fn is_deaf(&self) -> bool {
        self.health.as_ref().is_some_and(|health| health.watch == WatchState::Deaf)
    }

    fn reason(&self) -> &str {
        self.health.as_ref().and_then(|health| health.reason.as_deref()).unwrap_or("")
    }
}

#[test]
fn a_scan_that_hangs_makes_the_drop_deaf_within_two_intervals_whatever_its_watch_says() {
    let mut alone = Alone::new();
    let (drop, watch, reason) = (drop_name(), WatchState::Events, None);
    alone.tell(Event::WatchChanged { drop, watch, reason });
    alone.pass(SCAN_INTERVAL * 2 - Duration::from_millis(1));
    assert!(!alone.is_deaf(), "too early");
    alone.pass(Duration::from_millis(1));
    assert!(alone.is_deaf());
    assert!(alone.reason().contains("does its file system answer?"), "{}", alone.reason());
    alone.pass(Duration::from_hours(1));
    assert_eq!(alone.health.as_ref().and_then(|health| health.last_full_scan_at), None);
    alone.scanned(true);
    assert!(!alone.is_deaf(), "a scan ended: {}", alone.reason());
    let row = alone.health.clone().expect("told");
    assert_eq!((row.watch, row.reason), (WatchState::Events, None));
    alone.pass(SCAN_INTERVAL);
    alone.scanned(true);
    alone.pass(SCAN_INTERVAL);
    assert!(alone.scan.is_some(), "scans go on");
    alone.pass(SCAN_INTERVAL);
    assert!(alone.is_deaf(), "the next one hangs, and is told of as well");
}

#[test]
fn a_slow_scan_that_shows_something_now_and_then_is_not_deaf() {
    let mut alone = Alone::new();
    for _ in 0..20 {
        alone.pass(SCAN_INTERVAL + SCAN_INTERVAL / 2);
        assert!(!alone.is_deaf());
        alone.observed(Vec::new());
    }
    alone.pass(SCAN_INTERVAL * 2);
    assert!(alone.is_deaf());
    alone.observed(Vec::new());
    assert!(!alone.is_deaf(), "it moves again");
}

#[test]
fn a_scan_of_a_part_is_no_full_scan_and_says_what_it_did_not_see() {
    let mut alone = Alone::new();
    alone.scanned(true);
    let full = alone.health.as_ref().and_then(|health| health.last_full_scan_at);
    assert!(full.is_some());
    let path = SourcePath::from_bytes(b"run/closed");
    let closed = Observation {
        place: Place::alone(&path),
        path,
        seen: Seen::Ignored(IgnoreReason::DirectoryUnreadable),
    };
    for round in 0..4 {
        alone.pass(SCAN_INTERVAL);
        alone.observed(vec![closed.clone()]);
        alone.scanned(false);
        let is_long = alone.reason().contains("for two scan intervals or longer");
        assert_eq!(is_long, round >= 2, "round {round}: {}", alone.reason());
        assert!(alone.reason().starts_with("directory run/closed cannot be read"));
        assert!(!alone.is_deaf());
        assert_eq!(alone.health.as_ref().and_then(|health| health.last_full_scan_at), full);
    }
    alone.pass(SCAN_INTERVAL);
    alone.scanned(true);
    assert_eq!(alone.reason(), "");
    assert!(alone.health.as_ref().and_then(|health| health.last_full_scan_at) > full);
}

#[test]
fn a_file_whose_storage_fails_is_looked_at_and_read_again() {
    let fault = |act, nth| Fault { act, nth, after: false, kind: FailureKind::SourceAway };
    for act in ["look", "put part", "scan"] {
        let mut world = World::new(7);
        world.write("run/large", TEN);
        world.faults = (1..4).map(|nth| fault(act, nth)).collect();
        let life = world.run();
        assert!(!is_parked(&life), "{act}");
        check::all_arrived(&world, &life);
    }
}

#[test]
fn a_file_that_cannot_be_read_for_hours_waits_longer_each_time_and_is_tried_all_the_same() {
    let mut world = World::new(11);
    world.write("run/bad", TEN);
    let fault =
        |nth| Fault { act: "put part", nth, after: false, kind: FailureKind::SourceFailing };
    world.faults = (1..1_000).map(fault).collect();
    let mut life = world.start();
    let waits = |_: &World, life: &Life| {
        let stored = life.engine.view().stored_uploads();
        stored.iter().any(|upload| matches!(upload.state.hold, Hold::Waiting { .. }))
    };
    until(&mut world, &mut life, waits);
    pass(&mut world, &mut life, Duration::from_hours(4));
    assert_ne!(watch(&world).0, "deaf", "one file says nothing about its drop directory");
    assert!(!is_parked(&life));
    let status = check::status(&world);
    let waiting: Vec<_> = status.uploads.iter().filter(|one| one.word() == "waiting").collect();
    assert_eq!(waiting.len(), 1, "it is said");
    assert!(waiting[0].last_error.as_ref().is_some_and(|last| last.kind == "source-failing"));
    let tried = calls(&world, "put part");
    pass(&mut world, &mut life, Duration::from_hours(3));
    let tries = world.act_counts.get("put part").copied().unwrap_or(0);
    assert!((4..150).contains(&tries), "{tries} tries, {tried} calls");
    world.faults.clear();
    world.settle(&mut life);
    check::all_arrived(&world, &life);
}

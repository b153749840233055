//! Whole stories: lost answers, outages, changes, clashes.

use std::time::Duration;

use dropferry::testing::engine::event::Event;
use dropferry::testing::model::{
    ContentMark, Description, DestinationName, DirectoryName, EndReason, FailureKind, Hold,
    NamePolicy, NoticeKind, ParkReason, Scope, Seen, SourcePath, Stage, Target, Verb,
};
use dropferry::testing::platform::contract::{
    BeginRequest, CompleteRequest, PartRequest, Platform,
};
use futures_util::FutureExt;

use super::acts::{Fault, PASSING, REFUSABLE, REFUSING, md5, now};
use super::check;
use super::world::{Life, Step, World, traits};

const TEN: &[u8] = b"0123456789";

fn lost(act: &'static str, nth: u32) -> Fault {
    Fault { act, nth, after: true, kind: FailureKind::Unreachable }
}

fn run_with(faults: Vec<Fault>) -> World {
    let mut world = World::new(11);
    world.write("run/large", TEN);
    world.faults = faults;
    let life = world.run();
    check::all_arrived(&world, &life);
    world
}

fn calls(world: &World, operation: &str) -> u64 {
    world.fake.state().calls.get(operation).copied().unwrap_or(0)
}

#[test]
fn a_lost_answer_makes_no_second_upload_and_sends_no_more_than_its_part_again() {
    // The lost answer, the total number of its calls, and the bytes that are sent again.
    let cases = [
        ("begin", vec![("begin", 1), ("find begun", 1)], 0),
        ("put part", vec![], 4),
        ("report parts", vec![], 0),
        ("complete", vec![("begin", 1), ("complete", 1)], 0),
    ];
    for (act, counts, again) in cases {
        let world = run_with(vec![lost(act, 1)]);
        for (operation, count) in counts {
            assert_eq!(calls(&world, operation), count, "{operation}, a lost answer to {act}");
        }
        assert_eq!(world.fake.state().bytes_received_again, again, "a lost answer to {act}");
    }
}

#[test]
fn every_act_may_fail_before_and_after_and_everything_arrives() {
    let acts = ["locate", "begin", "put part", "report parts", "complete", "describe", "inspect"];
    for act in acts {
        for kind in PASSING {
            for after in [false, true] {
                let fault = |nth| Fault { act, nth, after, kind };
                run_with(vec![fault(1), fault(2)]);
            }
        }
    }
    for act in REFUSABLE {
        for kind in REFUSING {
            run_with((1..=3).map(|nth| Fault { act, nth, after: false, kind }).collect());
        }
    }
}

#[test]
fn a_destination_that_refuses_one_name_for_ever_gets_every_other_file() {
    for kind in [FailureKind::Forbidden, FailureKind::NotFound, FailureKind::ServerFault] {
        let mut world = World::new(7);
        for name in ["run/bad", "run/b", "run/c", "run/d"] {
            world.write(name, TEN);
        }
        world.fake.state().faults.refused = Some(("bad", kind));
        let mut life = world.start();
        while world.fake.state().files.len() < 3 {
            assert_ne!(world.step(&mut life), Step::Quiet, "{kind:?}");
        }
        let waited = world.now.monotonic.0;
        assert!(waited < Duration::from_mins(5), "{kind:?}: the others waited for {waited:?}");
        world.fake.state().faults.refused = None;
        world.settle(&mut life);
        check::all_arrived(&world, &life);
    }
}

#[test]
fn a_week_without_network_costs_a_few_probes_and_nothing_else() {
    let mut world = World::new(5);
    world.write("run/large", TEN);
    world.fake.state().faults.is_down = true;
    let mut life = world.start();
    let week = world.now.monotonic.after(Duration::from_hours(7 * 24));
    while world.now.monotonic < week {
        assert_ne!(world.step(&mut life), Step::Quiet);
    }
    let probes = calls(&world, "check access") + calls(&world, "locate");
    println!("{probes} probes in a week");
    let five_minutes_each = 7 * 24 * 12;
    assert!((five_minutes_each / 2..five_minutes_each * 3).contains(&probes), "{probes} probes");
    assert_eq!(calls(&world, "begin"), 0, "one request at a time");
    world.fake.state().faults.is_down = false;
    world.settle(&mut life);
    check::all_arrived(&world, &life);
}

#[test]
fn a_revoked_token_halts_the_destination_and_a_new_one_lets_it_go_on_at_once() {
    let mut world = World::new(6);
    world.write("run/large", TEN);
    world.fake.state().faults.is_revoked = true;
    let mut life = world.start();
    while !life.engine.view().has_halted() {
        assert_ne!(world.step(&mut life), Step::Quiet);
    }
    assert!(
        life.engine.view().stored_uploads().iter().all(|upload| upload.state.hold == Hold::None)
    );
    world.fake.state().faults.is_revoked = false;
    let since = world.now.monotonic;
    let destination = DestinationName::new("far");
    world.tell(&mut life, Event::CredentialChanged { destination });
    world.settle(&mut life);
    assert!(world.now.monotonic.since(since) < Duration::from_mins(1), "it waited for a probe");
    check::all_arrived(&world, &life);
}

#[test]
fn what_is_refused_for_ever_parks_and_what_may_pass_is_tried_once_an_hour_and_told_once_a_day() {
    for (kind, parks) in [
        (FailureKind::Forbidden, true),
        (FailureKind::PartRejected, true),
        (FailureKind::NotFound, false),
        (FailureKind::Quota, false),
        (FailureKind::ServerFault, false),
    ] {
        let mut world = World::new(8);
        world.notify_by_mail();
        world.write("run/bad", TEN);
        world.fake.state().faults.refused = Some(("bad", kind));
        let mut life = world.start();
        let days = world.now.monotonic.after(Duration::from_hours(48));
        while world.now.monotonic < days && world.step(&mut life) != Step::Quiet {}
        let hold = life.engine.view().stored_uploads()[0].state.hold;
        assert_eq!(matches!(hold, Hold::Parked { .. }), parks, "{kind:?}: {hold:?}");
        let tries = calls(&world, "begin");
        assert!((5..150).contains(&tries), "{kind:?}: {tries} tries");
        let told = |kind| world.told.iter().filter(|notice| notice.kind == kind).count();
        assert_eq!(told(NoticeKind::Parked), usize::from(parks), "{kind:?}");
        assert_eq!(told(NoticeKind::UploadStuck) > 0, !parks, "{kind:?}");
        assert!(told(NoticeKind::UploadStuck) <= 3, "{kind:?}");
        let status = check::status(&world);
        let is_said = status.trouble.stuck.iter().any(|stuck| stuck.reason.is_some());
        let is_open = status.places.destinations.iter().all(|to| to.state == "ok");
        assert_eq!(is_said, !parks && is_open, "{kind:?}: {status:?}");
        world.fake.state().faults.refused = None;
        world.order(&mut life, Verb::Retry, Scope::All);
        world.settle(&mut life);
        check::all_arrived(&world, &life);
    }
}

#[test]
fn an_upload_that_is_refused_before_it_is_begun_parks_after_ten_minutes_and_some_tries() {
    let mut world = World::new(8);
    world.write("run/bad", TEN);
    world.fake.state().faults.refused = Some(("bad", FailureKind::Forbidden));
    let mut life = world.start();
    let is_parked = |life: &Life| {
        let uploads = life.engine.view().stored_uploads();
        uploads.iter().any(|upload| matches!(upload.state.hold, Hold::Parked { .. }))
    };
    while !is_parked(&life) {
        assert_ne!(world.step(&mut life), Step::Quiet);
    }
    let waited = world.now.monotonic.0;
    assert!((10 * 60..16 * 60).contains(&waited.as_secs()), "{waited:?}");
    let tries = calls(&world, "begin");
    assert!((5..20).contains(&tries), "{tries} tries");
    assert_eq!((calls(&world, "abort"), world.fake.state().bytes_received), (0, 0));
}

/// Lets the destination be taken out and put back, or the process be killed.
fn interrupt(world: World, mut life: Life, is_kill: bool) -> (World, Life) {
    if is_kill {
        let mut world = world.crashed(&life, None);
        let life = world.start();
        return (world, life);
    }
    let mut world = world;
    let whole = world.settings.clone();
    let mut out = whole.clone();
    out.destinations.clear();
    out.drops[0].destinations.clear();
    world.reconfigure(&mut life, out, None);
    world.reconfigure(&mut life, whole, None);
    (world, life)
}

#[test]
fn a_clean_up_waits_for_the_begin_beside_it_across_a_reload_and_a_kill() {
    for is_kill in [false, true] {
        let mut world = World::new(9);
        world.allowance = 1000;
        world.write("run/large", TEN);
        let kind = FailureKind::PartRejected;
        let refused = |nth| Fault { act: "put part", nth, after: false, kind };
        world.faults = (1..=500).map(refused).collect();
        let mut life = world.start();
        let restarts = |life: &Life| {
            let uploads = life.engine.view().stored_uploads();
            uploads.iter().map(|upload| upload.state.restart_count).sum::<u32>()
        };
        while restarts(&life) == 0 {
            assert_ne!(world.step(&mut life), Step::Quiet, "killed: {is_kill}");
        }
        let (mut world, mut life) = interrupt(world, life, is_kill);
        while calls(&world, "begin") < 2 {
            assert_eq!(calls(&world, "abort"), 0, "killed: {is_kill}: the first one is kept");
            assert_ne!(world.step(&mut life), Step::Quiet, "killed: {is_kill}");
        }
        world.faults.clear();
        world.settle(&mut life);
        check::all_arrived(&world, &life);
        assert_eq!(calls(&world, "abort"), 1, "killed: {is_kill}: and removed then");
    }
}

/// Steps until an upload is in a stage.
fn until_stage(world: &mut World, life: &mut Life, reached: impl Fn(&Stage) -> bool) {
    for _ in 0..10_000 {
        if life.engine.view().stored_uploads().iter().any(|upload| reached(&upload.state.stage)) {
            return;
        }
        assert_ne!(world.step(life), Step::Quiet, "the run ended before the stage was reached");
    }
    panic!("the stage was not reached");
}

fn is_sending(stage: &Stage) -> bool {
    matches!(stage, Stage::Sending { .. })
}

#[test]
fn a_file_that_changes_while_it_is_sent_becomes_a_new_upload_and_never_a_mix() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.write("run/large", TEN);
        let mut life = world.start();
        until_stage(&mut world, &mut life, is_sending);
        world.write("run/large", b"abcdefghijklm");
        let path = SourcePath::from_bytes(b"run/large");
        let hint = Event::Hint { drop: DirectoryName::new("drop"), paths: vec![path] };
        world.tell(&mut life, hint);
        world.settle(&mut life);
        let status = check::status(&world);
        let changed = Stage::Ended(EndReason::SourceChanged);
        let ended = status.uploads.iter().filter(|upload| upload.state.stage == changed);
        assert_eq!(ended.count(), 1, "seed {seed}");
        let state = world.fake.state();
        assert_eq!(state.files.len(), 1, "seed {seed}");
        assert_eq!(state.files.values().next().map(|f| &f.bytes[..]), Some(&b"abcdefghijklm"[..]));
        assert!(state.uploads.is_empty(), "seed {seed}: the old upload was left behind");
    }
}

#[test]
fn a_file_that_vanishes_parks_and_goes_on_when_it_is_back() {
    let mut world = World::new(8);
    world.write("run/large", TEN);
    let mut life = world.start();
    until_stage(&mut world, &mut life, is_sending);
    let kept = std::mem::take(&mut world.files);
    world.settle(&mut life);
    let parked = Hold::Parked { reason: ParkReason::SourceMissing };
    assert_eq!(life.engine.view().stored_uploads()[0].state.hold, parked);
    world.files = kept;
    world.tell(&mut life, Event::ScanNow { drop: DirectoryName::new("drop") });
    while life
        .engine
        .view()
        .stored_uploads()
        .first()
        .is_some_and(|upload| upload.state.hold == parked)
    {
        assert_ne!(world.step(&mut life), Step::Quiet);
    }
    world.settle(&mut life);
    check::all_arrived(&world, &life);
}

#[test]
fn an_upload_that_the_platform_loses_is_begun_again() {
    let mut world = World::new(9);
    world.write("run/large", TEN);
    world.allowance = 8;
    let mut life = world.start();
    until_stage(&mut world, &mut life, is_sending);
    world.fake.state().uploads.clear();
    world.settle(&mut life);
    check::all_arrived(&world, &life);
}

#[test]
fn etags_that_the_storage_calls_no_digests_cost_nothing() {
    let mut world = World::new(10);
    world.write("run/large", TEN);
    world.fake.state().faults.is_opaque = true;
    let life = world.run();
    assert_eq!(world.fake.state().bytes_received_again, 0);
    assert_eq!(world.fake.state().calls.get("read back"), None);
    check::all_arrived(&world, &life);
}

#[test]
fn etags_that_are_others_each_time_cost_one_part_and_reading_the_file_back() {
    let mut world = World::new(10);
    world.write("run/large", TEN);
    world.fake.state().faults.is_unlike = true;
    world.allowance = 4;
    let life = world.run();
    assert_eq!(world.fake.state().bytes_received_again, 4, "one part, once more");
    assert_eq!(world.fake.state().calls.get("read back"), Some(&1));
    check::all_arrived(&world, &life);
}

#[test]
fn a_drop_is_finished_when_all_of_it_is_there_and_again_when_it_goes_on() {
    for seed in super::crashes::seeds_from(600, 4) {
        let mut world = World::new(seed);
        for destination in &mut world.settings.destinations {
            destination.traits.finishes_runs = true;
            destination.folder = "{run}".into();
        }
        world.write("run1/a", TEN);
        world.write("run1/b", b"bb");
        world.write("run2/a", b"ccc");
        let (_, mut life) = super::crashes::each_crash(&mut world, |at, mut world| {
            super::crashes::told(format!("seed {seed}, crash {at}"), || {
                let mut life = world.run();
                finish(&mut world, &mut life);
            });
        });
        finish(&mut world, &mut life);
        let before = world.fake.state().finished.len();
        world.write("run1/late", b"late");
        world.tell(&mut life, Event::ScanNow { drop: DirectoryName::new("drop") });
        world.settle(&mut life);
        finish(&mut world, &mut life);
        let finished = world.fake.state().finished[before..].to_vec();
        assert_eq!(finished, [("run1".to_owned(), 4)], "seed {seed}");
    }
}

/// Lets the time pass after which runs are over, and checks the notices.
fn finish(world: &mut World, life: &mut Life) {
    for _ in 0..700 {
        world.step(life);
        world.pass(Duration::from_secs(1));
        world.tell(life, Event::Timer);
    }
    world.settle(life);
    let finished = world.fake.state().finished.clone();
    for name in ["run1", "run2"] {
        assert!(finished.iter().any(|(told, _)| told == name), "{name} in {finished:?}");
    }
    let few = finished.iter().find(|(name, count)| *count < if name == "run1" { 2 } else { 1 });
    assert_eq!(few, None, "finished before it was there: {finished:?}");
}

/// Puts a file at the destination under the name that `run/a` will have, with or without the digest
/// that dropferry leaves there.
pub(super) fn put_there(world: &World, bytes: &[u8], is_marked: bool) {
    let target = Target::new(["runs", "run"], "a");
    let part_size = dropferry::testing::model::PartSize::new(1 << 20).expect("not zero");
    let size = dropferry::testing::model::ByteCount(bytes.len() as u64);
    let request = BeginRequest {
        target,
        size,
        part_size,
        overwrite: false,
        description: Description::default(),
        token: String::new(),
        replaces: None,
    };
    let remote = world.fake.begin(&request).now_or_never().expect("at once").expect("begins");
    let chunks = futures_util::stream::once(std::future::ready(Ok(bytes.to_vec().into())));
    let body = dropferry::testing::platform::contract::PartBody {
        length: size,
        md5: None,
        chunks: Box::pin(chunks),
    };
    let part = dropferry::testing::model::PartNumber::new(1).expect("from 1");
    let asked = PartRequest { remote: remote.clone(), part, begun: None };
    let etag = now(world.fake.put_part(&asked, body)).expect("stores").etag;
    let parts = [dropferry::testing::model::RemotePart { number: part, etag, note: None }];
    world.fake.report_parts(&remote, &parts).now_or_never().expect("at once").expect("reports");
    let completing = CompleteRequest {
        remote,
        parts: parts.to_vec(),
        unreported: Vec::new(),
        begun: request,
        since: dropferry::testing::model::WallTime(0),
    };
    let file = now(world.fake.complete(&completing)).expect("completes");
    if is_marked {
        let md5_of_parts = md5(&md5(bytes).0);
        let mark = Some(ContentMark { part_size, md5_of_parts });
        let description = Description { mark, ..Description::default() };
        now(world.fake.describe(&file.id, &description)).expect("describes");
    }
    let mut state = world.fake.state();
    (state.bytes_received, state.bytes_received_again) = (0, 0);
}

fn clash(policy: NamePolicy, there: &[u8], is_marked: bool) -> (World, Life) {
    let mut world = World::with(3, policy, traits());
    put_there(&world, there, is_marked);
    world.write("run/a", TEN);
    let life = world.run();
    (world, life)
}

#[test]
fn a_taken_name_is_treated_by_policy() {
    let content = |world: &World| {
        let state = world.fake.state();
        let mut files: Vec<_> =
            state.files.values().map(|f| (f.target.name().to_owned(), f.bytes.clone())).collect();
        files.sort();
        files
    };
    let old = ("a".to_owned(), b"other".to_vec());
    let new = |name: &str| (name.to_owned(), TEN.to_vec());
    let (world, _) = clash(NamePolicy::SkipIfSame, TEN, true);
    assert_eq!((content(&world), world.fake.state().bytes_received), (vec![new("a")], 0));
    let (world, _) = clash(NamePolicy::Overwrite, b"other", true);
    assert_eq!(content(&world), [new("a")]);
    let (world, _) = clash(NamePolicy::Rename, b"other", true);
    assert_eq!(content(&world), [old.clone(), new("a.v2")]);
    for policy in [NamePolicy::SkipIfSame, NamePolicy::Park] {
        let (world, life) = clash(policy, b"other", true);
        assert_eq!(content(&world), std::slice::from_ref(&old));
        let parked = Hold::Parked { reason: ParkReason::NameTaken };
        assert_eq!(life.engine.view().stored_uploads()[0].state.hold, parked);
    }
}

#[test]
fn an_equal_length_is_no_proof_that_a_file_is_there() {
    for (there, is_marked) in
        [(b"9876543210", false), (b"9876543210", true), (b"0123456789", false)]
    {
        let (world, life) = clash(NamePolicy::SkipIfSame, there, is_marked);
        let parked = Hold::Parked { reason: ParkReason::NameTaken };
        assert_eq!(life.engine.view().stored_uploads()[0].state.hold, parked);
        assert_eq!(world.fake.state().files.len(), 1);
    }
}

#[test]
fn a_wait_that_ended_while_the_daemon_was_down_is_over_at_start() {
    let mut world = World::new(14);
    world.write("run/large", TEN);
    world.faults =
        vec![Fault { act: "begin", nth: 1, after: false, kind: FailureKind::ServerFault }];
    let mut life = world.start();
    while !life
        .engine
        .view()
        .stored_uploads()
        .iter()
        .any(|u| matches!(u.state.hold, Hold::Waiting { .. }))
        || !life.is_durable()
    {
        assert_ne!(world.step(&mut life), Step::Quiet);
    }
    let mut world = world.crashed(&life, None);
    world.pass(Duration::from_hours(1));
    let life = world.run();
    check::all_arrived(&world, &life);
}

#[test]
fn a_file_that_changes_or_vanishes_while_its_begin_is_unanswered_leaves_no_orphan() {
    for (seed, changes) in (0..40).flat_map(|seed| [(seed, true), (seed, false)]) {
        let mut world = World::new(seed);
        world.write("run/large", TEN);
        world.faults = vec![lost("begin", 1)];
        let mut life = world.start();
        until_stage(&mut world, &mut life, |stage| matches!(stage, Stage::Beginning { .. }));
        for _ in 0..seed % 3 {
            world.step(&mut life);
        }
        match changes {
            true => world.write("run/large", b"abcdefghijklm"),
            false => world.files.clear(),
        }
        let drop = DirectoryName::new("drop");
        let paths = vec![SourcePath::from_bytes(b"run/large")];
        world.tell(&mut life, Event::Hint { drop, paths });
        if seed % 2 == 0 {
            world = world.crashed(&life, None);
            life = world.start();
        }
        world.settle(&mut life);
        check::at_rest(&world, &life);
    }
}

#[test]
fn destinations_at_different_versions_are_not_sent_what_they_have() {
    let mut world = World::with(15, NamePolicy::Overwrite, traits());
    world.add_destination();
    world.write("run/large", TEN);
    drop(world.run());
    world.write("run/large", b"abcdefghijklm");
    let mut life = world.start();
    let is_first = |world: &World| {
        let uploads = check::status(world).uploads;
        uploads.iter().filter(|upload| upload.word() == "completed").count() == 3
    };
    while !is_first(&world) {
        assert_ne!(world.step(&mut life), Step::Quiet);
    }
    let mut world = world.crashed(&life, None);
    let life = world.run();
    assert_eq!(check::status(&world).uploads.len(), 4, "two versions at two destinations");
    check::at_rest(&world, &life);
}

#[test]
fn an_upload_begun_for_another_version_is_removed_and_not_adopted() {
    let mut world = World::new(16);
    world.write("run/a", TEN);
    let target = Target::new(["runs", "run"], "a");
    let part_size = dropferry::testing::model::PartSize::new(4).expect("not zero");
    let size = dropferry::testing::model::ByteCount(33);
    let request = BeginRequest {
        target,
        size,
        part_size,
        overwrite: false,
        description: Description::default(),
        token: String::new(),
        replaces: None,
    };
    world.pass(Duration::from_secs(60));
    now(world.fake.begin(&request)).expect("begins");
    world.faults = vec![Fault { act: "begin", nth: 1, after: false, kind: FailureKind::TimedOut }];
    let life = world.run();
    check::all_arrived(&world, &life);
}

#[test]
fn an_upload_that_is_lost_while_it_is_completed_is_begun_again() {
    for kind in [FailureKind::UploadGone, FailureKind::AlreadyCompleted] {
        let mut world = World::new(17);
        world.write("run/large", TEN);
        world.allowance = 16;
        let mut life = world.start();
        until_stage(&mut world, &mut life, |stage| matches!(stage, Stage::Completing { .. }));
        world.faults = vec![Fault { act: "complete", nth: 1, after: false, kind }];
        world.fake.state().uploads.clear();
        world.settle(&mut life);
        check::all_arrived(&world, &life);
    }
}

#[test]
fn a_refused_complete_checks_the_parts_and_completes() {
    let refused = |nth| {
        let kind = FailureKind::CompleteRefused;
        Fault { act: "complete", nth, after: false, kind }
    };
    let world = run_with(vec![refused(1), refused(2)]);
    assert_eq!(world.fake.state().bytes_received_again, 0);
}

#[test]
fn a_clock_that_is_set_back_parks_nothing() {
    let mut world = World::new(12);
    world.write("run/large", TEN);
    world.faults =
        vec![Fault { act: "begin", nth: 1, after: false, kind: FailureKind::ServerFault }];
    let mut life = world.start();
    while !life
        .engine
        .view()
        .stored_uploads()
        .iter()
        .any(|u| matches!(u.state.hold, Hold::Waiting { .. }))
    {
        assert_ne!(world.step(&mut life), Step::Quiet);
    }
    drop(life);
    world.now.wall.0 -= 365 * 86_400 * 1_000_000_000;
    let since = world.now.monotonic;
    let life = world.run();
    assert!(world.now.monotonic.since(since) < Duration::from_hours(1));
    check::all_arrived(&world, &life);
}

#[test]
fn ignored_and_unreadable_files_have_a_reason_and_recover() {
    let mut world = World::new(13);
    world.write("run/a", TEN);
    let mut life = world.start();
    // Until then, no file that is found is taken in.
    while !life.engine.view().is_loaded() {
        world.step(&mut life);
    }
    let path = SourcePath::from_bytes(b"run/pipe");
    let seen = Seen::Ignored(dropferry::testing::model::IgnoreReason::Fifo);
    let observations = vec![dropferry::testing::model::Observation {
        place: dropferry::testing::model::Place::alone(&path),
        path,
        seen,
    }];
    let (drop, known) =
        (DirectoryName::new("drop"), dropferry::testing::model::Catalogued::default());
    world.tell(&mut life, Event::Observed { drop, observations, known });
    world.settle(&mut life);
    assert_eq!(check::status(&world).counts.ignored.count, 1);
    check::all_arrived(&world, &life);
}

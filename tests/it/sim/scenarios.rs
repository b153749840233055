//! Whole stories: lost answers, outages, changes, clashes.

use std::time::Duration;

use dropferry::engine::event::Event;
use dropferry::model::{
    DropName, EndReason, FailureKind, Hold, NamePolicy, ParkReason, Seen, SourcePath, Stage, Target,
};
use dropferry::platform::contract::{BeginRequest, Platform};
use futures_util::FutureExt;

use super::check;
use super::world::{End, Fault, Life, World};

const TEN: &[u8] = b"0123456789";

fn lost(act: &'static str, nth: u32) -> Fault {
    Fault { act, nth, after: true, kind: FailureKind::Unreachable }
}

fn run_with(faults: Vec<Fault>) -> World {
    let mut world = World::new(11);
    world.write("run/large", TEN);
    world.faults = faults;
    let (life, end) = world.run(None);
    assert_eq!(end, End::Quiet);
    check::all_arrived(&world, life, "a run with faults");
    world
}

fn calls(world: &World, operation: &str) -> u64 {
    world.fake.state().calls.get(operation).copied().unwrap_or(0)
}

#[test]
fn a_lost_begin_answer_makes_no_second_upload() {
    let world = run_with(vec![lost("begin", 1)]);
    assert_eq!(calls(&world, "begin"), 1);
    assert_eq!(calls(&world, "find begun"), 1);
    assert_eq!(world.fake.state().bytes_received_again, 0);
}

#[test]
fn a_lost_put_answer_sends_that_part_once_more() {
    let world = run_with(vec![lost("put part", 1)]);
    assert_eq!(world.fake.state().bytes_received_again, 4);
}

#[test]
fn a_lost_report_answer_sends_nothing_again() {
    let world = run_with(vec![lost("report", 1)]);
    assert_eq!(world.fake.state().bytes_received_again, 0);
}

#[test]
fn a_lost_complete_answer_does_not_upload_again() {
    let world = run_with(vec![lost("complete", 1)]);
    assert_eq!(calls(&world, "begin"), 1);
    assert_eq!(calls(&world, "complete"), 1);
    assert_eq!(world.fake.state().bytes_received_again, 0);
}

#[test]
fn every_act_may_fail_before_and_after_and_everything_arrives() {
    let acts = ["locate", "begin", "put part", "report", "complete", "describe", "inspect"];
    let kinds = [
        FailureKind::Unreachable,
        FailureKind::TimedOut,
        FailureKind::ServerFault,
        FailureKind::BadAnswer,
        FailureKind::Throttled { after: Some(Duration::from_secs(7)) },
        FailureKind::Maintenance,
        FailureKind::Unauthorized,
    ];
    for act in acts {
        for kind in kinds {
            for after in [false, true] {
                let fault = |nth| Fault { act, nth, after, kind };
                run_with(vec![fault(1), fault(2)]);
            }
        }
    }
}

#[test]
fn a_week_without_network_costs_a_few_probes_and_nothing_else() {
    let mut world = World::new(5);
    world.write("run/large", TEN);
    world.fake.state().is_down = true;
    let (mut life, _) = world.start(None);
    let week = world.now.monotonic.after(Duration::from_hours(7 * 24));
    while world.now.monotonic < week {
        assert_eq!(world.step(&mut life, None), None);
    }
    let probes = calls(&world, "check access");
    println!("{probes} probes in a week");
    let five_minutes_each = 7 * 24 * 12;
    assert!((five_minutes_each / 2..five_minutes_each * 3).contains(&probes), "{probes} probes");
    assert!(calls(&world, "locate") + calls(&world, "begin") < 10, "uploads were tried meanwhile");
    world.fake.state().is_down = false;
    assert_eq!(world.go_on(&mut life, None), End::Quiet);
    check::all_arrived(&world, life, "after a week");
}

#[test]
fn a_revoked_token_halts_the_destination_and_a_new_one_lets_it_go_on_at_once() {
    let mut world = World::new(6);
    world.write("run/large", TEN);
    world.fake.state().is_revoked = true;
    let (mut life, _) = world.start(None);
    while !life.engine.has_halted() {
        assert_eq!(world.step(&mut life, None), None);
    }
    assert!(life.engine.stored_uploads().iter().all(|upload| upload.state.hold == Hold::None));
    world.fake.state().is_revoked = false;
    let since = world.now.monotonic;
    let destination = life.engine.stored_uploads()[0].admission.destination.clone();
    world.tell(&mut life, Event::CredentialChanged { destination }, None);
    assert_eq!(world.go_on(&mut life, None), End::Quiet);
    assert!(world.now.monotonic.since(since) < Duration::from_mins(1), "it waited for a probe");
    check::all_arrived(&world, life, "with the new token");
}

/// Steps until an upload is in a stage.
fn until_stage(world: &mut World, life: &mut Life, reached: impl Fn(&Stage) -> bool) {
    for _ in 0..10_000 {
        if life.engine.stored_uploads().iter().any(|upload| reached(&upload.state.stage)) {
            return;
        }
        assert_eq!(world.step(life, None), None, "the run ended before the stage was reached");
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
        let (mut life, _) = world.start(None);
        until_stage(&mut world, &mut life, is_sending);
        world.write("run/large", b"abcdefghijklm");
        let path = SourcePath::from_bytes(b"run/large");
        let hint = Event::Hint { drop: DropName::new("drop"), paths: vec![path] };
        world.tell(&mut life, hint, None);
        assert_eq!(world.go_on(&mut life, None), End::Quiet, "seed {seed}");
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
    let (mut life, _) = world.start(None);
    until_stage(&mut world, &mut life, is_sending);
    let kept = std::mem::take(&mut world.files);
    assert_eq!(world.go_on(&mut life, None), End::Quiet);
    let parked = Hold::Parked { reason: ParkReason::SourceMissing };
    assert_eq!(life.engine.stored_uploads()[0].state.hold, parked);
    world.files = kept;
    world.tell(&mut life, Event::ScanNow { drop: DropName::new("drop") }, None);
    while life.engine.stored_uploads().first().is_some_and(|upload| upload.state.hold == parked) {
        assert_eq!(world.step(&mut life, None), None);
    }
    assert_eq!(world.go_on(&mut life, None), End::Quiet);
    check::all_arrived(&world, life, "after it came back");
}

#[test]
fn an_upload_that_the_platform_loses_is_begun_again() {
    let mut world = World::new(9);
    world.write("run/large", TEN);
    world.crash_count = 1;
    let (mut life, _) = world.start(None);
    until_stage(&mut world, &mut life, is_sending);
    world.fake.state().uploads.clear();
    assert_eq!(world.go_on(&mut life, None), End::Quiet);
    check::all_arrived(&world, life, "after it was lost");
}

#[test]
fn etags_that_are_no_md5s_are_learned_after_one_part_more() {
    let mut world = World::new(10);
    world.write("run/large", TEN);
    world.fake.state().is_opaque = true;
    world.crash_count = 1;
    let (life, end) = world.run(None);
    assert_eq!(end, End::Quiet);
    assert_eq!(world.fake.state().bytes_received_again, 4, "one part, once more");
    check::all_arrived(&world, life, "with opaque ETags");
}

/// Puts a file at the far end under the name that `run/a` will have.
fn put_there(world: &World, bytes: &[u8]) {
    let target = Target { folders: vec!["runs".into(), "run".into()], name: "a".into() };
    let part_size = dropferry::model::PartSize::new(1 << 20).expect("not zero");
    let size = dropferry::model::ByteCount(bytes.len() as u64);
    let request = BeginRequest { target, size, part_size, overwrite: false };
    let remote = world.fake.begin(&request).now_or_never().expect("at once").expect("begins");
    let chunks = futures_util::stream::once(std::future::ready(Ok(bytes.to_vec().into())));
    let body = dropferry::platform::contract::PartBody {
        length: size,
        md5: None,
        chunks: Box::pin(chunks),
    };
    let part = dropferry::model::PartNumber::new(1).expect("from 1");
    let etag =
        world.fake.put_part(&remote, part, body).now_or_never().expect("at once").expect("stores");
    let parts = [dropferry::model::RemotePart { number: part, etag }];
    world.fake.report_parts(&remote, &parts).now_or_never().expect("at once").expect("reports");
    world.fake.complete(&remote, &parts).now_or_never().expect("at once").expect("completes");
    let mut state = world.fake.state();
    (state.bytes_received, state.bytes_received_again) = (0, 0);
}

fn clash(policy: NamePolicy, there: &[u8]) -> (World, Life) {
    let mut world = World::with_policy(3, policy);
    put_there(&world, there);
    world.write("run/a", TEN);
    let (life, end) = world.run(None);
    assert_eq!(end, End::Quiet);
    (world, life)
}

#[test]
fn a_taken_name_is_treated_by_policy() {
    let content = |world: &World| {
        let state = world.fake.state();
        let mut files: Vec<_> =
            state.files.values().map(|f| (f.target.name.clone(), f.bytes.clone())).collect();
        files.sort();
        files
    };
    let old = ("a".to_owned(), b"other".to_vec());
    let new = |name: &str| (name.to_owned(), TEN.to_vec());
    let (world, _) = clash(NamePolicy::SkipIfSame, TEN);
    assert_eq!((content(&world), world.fake.state().bytes_received), (vec![new("a")], 0));
    let (world, _) = clash(NamePolicy::Overwrite, b"other");
    assert_eq!(content(&world), [new("a")]);
    let (world, _) = clash(NamePolicy::Rename, b"other");
    assert_eq!(content(&world), [old.clone(), new("a.v2")]);
    for policy in [NamePolicy::SkipIfSame, NamePolicy::Park] {
        let (world, life) = clash(policy, b"other");
        assert_eq!(content(&world), std::slice::from_ref(&old));
        let parked = Hold::Parked { reason: ParkReason::NameTaken };
        assert_eq!(life.engine.stored_uploads()[0].state.hold, parked);
    }
}

#[test]
fn a_clock_that_is_set_back_parks_nothing() {
    let mut world = World::new(12);
    world.write("run/large", TEN);
    world.faults =
        vec![Fault { act: "begin", nth: 1, after: false, kind: FailureKind::ServerFault }];
    let (mut life, _) = world.start(None);
    while !life.engine.stored_uploads().iter().any(|u| matches!(u.state.hold, Hold::Waiting { .. }))
    {
        assert_eq!(world.step(&mut life, None), None);
    }
    drop(life);
    world.now.wall.0 -= 365 * 86_400 * 1_000_000_000;
    let since = world.now.monotonic;
    let (life, end) = world.run(None);
    assert_eq!(end, End::Quiet);
    assert!(world.now.monotonic.since(since) < Duration::from_hours(1));
    check::all_arrived(&world, life, "with the clock a year back");
}

#[test]
fn ignored_and_unreadable_files_have_a_reason_and_recover() {
    let mut world = World::new(13);
    world.write("run/a", TEN);
    let (mut life, _) = world.start(None);
    let path = SourcePath::from_bytes(b"run/pipe");
    let seen = Seen::Ignored(dropferry::model::IgnoreReason::Fifo);
    let observations = vec![dropferry::model::Observation { path, seen, rank: 0 }];
    world.tell(&mut life, Event::Observed { drop: DropName::new("drop"), observations }, None);
    assert_eq!(world.go_on(&mut life, None), End::Quiet);
    assert_eq!(check::status(&world).ignored_count, 1);
    check::all_arrived(&world, life, "beside a pipe");
}

#[test]
fn random_faults_and_crashes_lose_nothing() {
    let count = std::env::var("DROPFERRY_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    for seed in 0..count.unwrap_or(150) {
        let mut world = World::new(seed);
        for index in 0..(seed % 4) {
            world
                .write(&format!("run/{index}"), &TEN[..usize::try_from(seed % 11).expect("small")]);
        }
        world.write("run/large", b"0123456789abcdefghij");
        let acts = ["begin", "put part", "report", "complete", "inspect", "list parts"];
        world.faults = (0..6)
            .map(|index| Fault {
                act: acts[usize::try_from((seed + index) % 6).expect("small")],
                nth: u32::try_from(1 + (seed / 7 + index) % 5).expect("small"),
                after: (seed + index) % 2 == 0,
                kind: FailureKind::ServerFault,
            })
            .collect();
        let cuts = [7 + seed % 13, 11 + seed % 29, 17 + seed % 31];
        for (turn, gap) in cuts.into_iter().enumerate() {
            let at = world.effect_count + gap;
            let cut = if turn % 2 == 0 {
                super::world::Cut::AfterAct
            } else {
                super::world::Cut::AfterCommit
            };
            let (life, end) = world.run(Some((at, cut)));
            world.crash_count += u64::from(end == End::Cut);
            drop(life);
        }
        let (life, end) = world.run(None);
        assert_eq!(end, End::Quiet, "seed {seed}");
        check::all_arrived(&world, life, &format!("seed {seed}"));
    }
}

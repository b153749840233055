//! Drops as runs, interrupted at every effect: completed with a receipt of all files, disposed of only if proved.

use std::collections::BTreeSet;
use std::time::Duration;

use dropferry::testing::daemon::LineSubject;
use dropferry::testing::engine::event::{Event, Outcome, ProofCheck, ProofsChecked};
use dropferry::testing::model::{
    DirectoryName, DisposalDoubt, Disposition, Failure, FailureKind, NoticeKind, RemoteStanding,
    RootIdentity, RunState, SourcePath, Stage, UploadId, WallTime,
};
use dropferry::testing::platform::contract::Platform;
use dropferry::testing::store::snapshot::{Proving, RunRef, UploadShown};

use super::acts::{Fault, now};
use super::crashes::{each_crash, told};
use super::receipts::PowerCut;
use super::world::{Life, Step, World};

/// More steps than the closing time, the grace and every retry take.
const STEPS_MAX: usize = 20_000;

impl World {
    /// Writes the line that the run is complete, as the daemon does. By then every file in the run
    /// must have arrived and have its own receipt.
    pub(super) fn write_run_receipt(&mut self, run: &SourcePath, generation: u32) -> Outcome {
        self.assert_proved(run, false);
        let snapshot = self.rows();
        let drop = DirectoryName::new("drop");
        let row = snapshot.run(&drop, run).expect("it can be read").expect("it is stored");
        assert_eq!(row.state, RunState::Closed, "only what is closed is completed");
        let subject = LineSubject::Run { drop, run: run.clone(), generation };
        self.rows();
        let rows = self.rows.get().expect("it is open");
        let written = self.receipts.append(rows, self.now.wall, subject);
        let written = Box::new(written.expect("the disk takes it"));
        self.receipts.sync(&written);
        Outcome::RunReceiptWritten { written, sentinel: None }
    }

    /// Asks about two files of a run, where the daemon asks about many; receipts are looked for.
    pub(super) fn check_proofs(&mut self, check: &ProofCheck) -> Result<Outcome, Failure> {
        let snapshot = self.rows();
        let run = RunRef { drop: &check.drop, run: &check.run, is_file: check.is_file };
        let files = snapshot.arrived_files(&run, &check.destination, check.after, 2);
        let files = files.expect("it can be read");
        for file in &files {
            if !self.receipts.holds(file.receipt.as_ref()) {
                let why = format!("the receipt of {} is damaged", file.path);
                let doubt = DisposalDoubt::ReceiptDamaged(why);
                return Ok(Outcome::ProofsChecked(ProofsChecked::Doubted(doubt, None)));
            }
            let there = now(self.fake.inspect(&file.remote))?;
            let found = RemoteStanding::of(&file.sent, there.as_ref());
            if !found.lets_source_go(file.sent.etag_mode) {
                let doubt = DisposalDoubt::GoneAtDestination(format!("{}: {found}", file.path));
                return Ok(Outcome::ProofsChecked(ProofsChecked::Doubted(doubt, None)));
            }
        }
        let last = files.last().filter(|_| files.len() == 2);
        let checked = last.map_or(ProofsChecked::Complete, |last| ProofsChecked::UpTo(last.upload));
        Ok(Outcome::ProofsChecked(checked))
    }

    /// Deletes the run's files: each must be proved to be elsewhere.
    pub(super) fn dispose(
        &mut self,
        run: &SourcePath,
        how: &Disposition,
        before: UploadId,
    ) -> Result<Outcome, Failure> {
        if *how == Disposition::Keep {
            *self.act_counts.entry("put back").or_default() += 1;
            return Ok(Outcome::Disposed);
        }
        let snapshot = self.rows();
        let destinations = self.settings.drops[0].destinations.clone();
        let is_file = self.files.contains_key(run);
        let asked = RunRef { drop: &DirectoryName::new("drop"), run, is_file };
        let destinations = &destinations;
        let proving = Proving { run: asked, destinations, before, root: &self.root };
        let proved = snapshot.proved_files(&proving).expect("it can be read");
        let paths = self.paths_of(run);
        for path in &paths {
            let is_proved = proved.get(path).is_some_and(|v| v.is_untouched(&self.files[path].0));
            if !is_proved {
                return Err(Failure::new(FailureKind::SourceChanged, "not all of it is proved"));
            }
        }
        self.assert_proved(run, true);
        paths.iter().for_each(|path| drop(self.files.remove(path)));
        self.disposed.extend(paths);
        Ok(Outcome::Disposed)
    }

    fn paths_of(&self, run: &SourcePath) -> Vec<SourcePath> {
        let below = [run.as_bytes(), b"/"].concat();
        let is_of = |path: &&SourcePath| *path == run || path.as_bytes().starts_with(&below);
        self.files.keys().filter(is_of).cloned().collect()
    }

    /// Every file of the run is at the destination as it is here, and has a durable receipt; one
    /// that was given up may be missing there, unless the run is about to be removed.
    fn assert_proved(&self, run: &SourcePath, is_leaving: bool) {
        let status = super::check::status(self);
        for path in self.paths_of(run) {
            let (version, bytes) = &self.files[&path];
            let is_it = |u: &&UploadShown| {
                u.admission.file.path == path
                    && u.admission.file.fingerprint.same_version(version)
                    && (is_leaving || !matches!(u.state.stage, Stage::Ended(_)))
            };
            let mut uploads = status.uploads.iter().filter(is_it).peekable();
            if uploads.peek().is_none() {
                // It came or changed after the last scan: the next scan reopens the run.
                continue;
            }
            let is_receipted = uploads.any(|upload| {
                upload.word() == "completed" && self.receipts.proves(upload.admission.id)
            });
            assert!(is_receipted, "{path} has no receipt");
            let is_there = self
                .former
                .iter()
                .chain([&self.fake])
                .any(|far| far.state().files.values().any(|file| file.bytes == *bytes));
            assert!(is_there, "{path} is not there");
        }
    }
}

fn world(seed: u64) -> World {
    let mut world = World::new(seed);
    world.settings.drops[0].disposal.disposition = Disposition::Delete;
    world.settings.drops[0].disposal.grace = Duration::from_mins(30);
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
    let snapshot = world.rows();
    let status = snapshot.status(true, WallTime(0)).expect("it can be read");
    let runs: Vec<_> = status.runs.iter().map(|run| &run.row).collect();
    assert_eq!(runs.len(), 1, "a file on its own is no row");
    assert_eq!((runs[0].state, runs[0].completion.generation), (RunState::Completed, 1));
    let mut files = Vec::new();
    let taken = snapshot.receipted_files(|file| {
        files.extend(Some(file.path).filter(|path| path.as_bytes().starts_with(b"run/")));
    });
    taken.expect("it can be read");
    assert_eq!(files.len(), 2, "each file once: {files:?}");
    let disposed: BTreeSet<_> = world.disposed.iter().collect();
    assert_eq!(disposed.len(), 3, "all of it was disposed of");
}

#[test]
fn every_crash_point_completes_and_disposes_of_runs_and_never_before_they_are_proved() {
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

/// Continues until everything is disposed of, and checks the result of a crash after each effect.
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
                let mut crashed = world.crashed(life, Some(PowerCut::Lost));
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
fn runs_that_close_together_are_completed_and_disposed_of_a_few_at_a_time() {
    for seed in 940..945 {
        let mut world = World::new(seed);
        world.settings.drops[0].disposal.disposition = Disposition::Delete;
        (0..9).for_each(|run| world.write(&format!("run{run}/a"), format!("{run}").as_bytes()));
        let (mut life, mut most, mut count) = (world.start(), 0, 0);
        while !world.files.is_empty() {
            if world.step(&mut life) == Step::Quiet {
                world.pass(Duration::from_secs(5));
                world.tell(&mut life, Event::Timer);
            }
            most = most.max(life.run_act_count());
            count += 1;
            assert!(count < STEPS_MAX, "they are not disposed of: {:?}", world.files.keys());
        }
        assert_eq!(most, 4, "acts of runs at once, with seed {seed}");
    }
}

#[test]
fn a_run_to_which_a_file_was_added_is_completed_again_before_it_is_disposed_of() {
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
fn a_run_at_rest_is_left_out_of_most_scans_and_what_is_added_to_it_is_found() {
    let mut world = world(950);
    world.settings.drops[0].disposal.disposition = Disposition::Keep;
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

/// The file of a closed run changes while it is sent, and the reader is the first to see it: the
/// run is not complete before the new version is there.
#[test]
fn a_file_that_changes_while_its_closed_unit_is_sent_holds_the_run_up() {
    let mut world = World::new(3);
    world.write("run/large", b"0123456789");
    let mut life = world.start();
    let is = |world: &World, state: RunState| {
        let status = super::check::status(world);
        status.runs.iter().any(|run| run.row.state == state)
    };
    // The run closes while nothing can be sent.
    world.fake.state().faults.is_down = true;
    let mut count = 0;
    while !is(&world, RunState::Closed) {
        world.step(&mut life);
        count += 1;
        assert!(count < STEPS_MAX, "it is not closed");
    }
    world.write("run/large", b"another version");
    world.fake.state().faults.is_down = false;
    while !is(&world, RunState::Completed) {
        if world.step(&mut life) == Step::Quiet {
            world.pass(Duration::from_secs(5));
            world.tell(&mut life, Event::Timer);
        }
        count += 1;
        assert!(count < STEPS_MAX, "it is not completed");
    }
    let completed = world.receipts.completions();
    let [line] = &completed[..] else { panic!("one line: {completed:?}") };
    assert_eq!((line.wave, line.file_count, line.bytes), (1, 1, 15), "{line:?}");
}

/// Lets time pass, and returns whether a source was removed.
fn any_goes_within(world: &mut World, life: &mut Life, steps: u32) -> bool {
    let count = world.files.len();
    for _ in 0..steps {
        if world.step(life) == Step::Quiet {
            world.pass(Duration::from_secs(20));
            world.tell(life, Event::Timer);
        }
    }
    world.files.len() < count
}

fn until_completed(world: &mut World, life: &mut Life) {
    pass_until(world, life, |world| {
        let status = super::check::status(world);
        status.runs.iter().any(|run| run.row.state == RunState::Completed)
    });
}

fn pass_until(world: &mut World, life: &mut Life, is_so: impl Fn(&World) -> bool) {
    let mut count = 0;
    while !is_so(world) {
        if world.step(life) == Step::Quiet {
            world.pass(Duration::from_secs(5));
            world.tell(life, Event::Timer);
        }
        count += 1;
        assert!(count < STEPS_MAX, "it does not come to that");
    }
}

/// A late file, and another one while the wave of the first waits: one wave, wherever it is interrupted.
#[test]
fn late_files_are_one_wave_and_complete_their_run_once() {
    let mut world = World::new(980);
    world.write("run/a", b"0123456789");
    let mut life = world.run();
    until_completed(&mut world, &mut life);
    world.write("run/late", b"one");
    let is_sent =
        |world: &World| world.fake.state().files.values().any(|file| file.bytes == b"one");
    pass_until(&mut world, &mut life, is_sent);
    world.write("run/later", b"two");
    let is_over = |world: &World| {
        let status = super::check::status(world);
        status.runs.iter().all(|run| run.row.completion.generation == 2)
    };
    let assert_one_wave = |world: &World| {
        let lines = world.receipts.completions();
        let waves: Vec<_> = lines.iter().map(|line| (line.wave, line.file_count)).collect();
        assert_eq!(waves, [(1, 1), (2, 3)]);
    };
    let mut cuts = 0;
    while !is_over(&world) {
        let mut cut = world.crashed(&life, None);
        told(format!("cut {cuts}"), || {
            let mut life = cut.start();
            pass_until(&mut cut, &mut life, is_over);
            assert_one_wave(&cut);
        });
        cuts += 1;
        if world.step(&mut life) == Step::Quiet {
            world.pass(Duration::from_secs(5));
            world.tell(&mut life, Event::Timer);
        }
    }
    assert_one_wave(&world);
    assert!(cuts > 20, "only {cuts} cuts");
}

fn told_kinds(world: &World) -> Vec<(NoticeKind, bool)> {
    let is_doubt = |kind: NoticeKind| {
        matches!(kind, NoticeKind::GoneAtDestination | NoticeKind::ReceiptsDamaged)
    };
    let told = world.told.iter().filter(|notice| is_doubt(notice.kind));
    told.map(|notice| (notice.kind, notice.is_over)).collect()
}

/// A file that is written again and again holds its run open: after the usual time for runs of its
/// kind, a notice names the file, once, and another one when the run is closed.
#[test]
fn a_run_that_never_comes_to_rest_is_said_to_be_stale_with_the_file_that_holds_it_open() {
    let mut world = World::new(4);
    world.notify_by_mail();
    world.settings.drops[0].runs.closing.stale_after = Duration::from_hours(1);
    world.write("run/a", b"a");
    // It is there from the first scan on: without a file that settles, the world is quiet.
    world.write("run/log", b"0");
    let mut life = world.start();
    let mut written = world.now.monotonic;
    let end = written.after(Duration::from_hours(2));
    while world.now.monotonic < end {
        if world.now.monotonic.since(written) >= Duration::from_secs(1) {
            written = world.now.monotonic;
            world.write("run/log", &written.0.as_secs().to_le_bytes());
        }
        if world.step(&mut life) == Step::Quiet {
            world.pass(Duration::from_secs(1));
            world.tell(&mut life, Event::Timer);
        }
    }
    let [stale] = &super::check::status(&world).trouble.stale[..] else {
        panic!("one run is stale")
    };
    let reason = stale.reason.as_deref().expect("a reason");
    assert!(reason.starts_with("log still changes"), "{reason}");
    until_completed(&mut world, &mut life);
    world.settle(&mut life);
    let told = world.told.iter().filter(|notice| notice.kind == NoticeKind::RunStale);
    let told: Vec<_> = told.map(|notice| notice.is_over).collect();
    assert_eq!(told, [false, true]);
    assert!(super::check::status(&world).trouble.stale.is_empty());
}

fn channel() -> dropferry::testing::engine::settings::ChannelSettings {
    let channel = dropferry::testing::model::Channel::new("command");
    dropferry::testing::engine::settings::ChannelSettings::plain(channel)
}

/// A file that is removed, or replaced, at the destination after it arrived: nothing of its run is
/// removed, and one notice is sent. When the file is there again, the run is removed.
#[test]
fn nothing_of_a_run_goes_while_one_of_its_files_is_not_there_as_it_was_sent() {
    for (seed, replaces) in [(960, false), (961, true), (962, false)] {
        let mut world = World::new(seed);
        world.settings.drops[0].disposal.disposition = Disposition::Delete;
        world.settings.drops[0].disposal.grace = Duration::from_mins(30);
        world.settings.channels = vec![channel()];
        (0..5).for_each(|n| world.write(&format!("run/{n}"), format!("content {n}").as_bytes()));
        let mut life = world.run();
        until_completed(&mut world, &mut life);
        let (id, mut gone) = {
            let mut far = world.fake.state();
            let last = far.files.iter().find(|(_, file)| file.bytes == b"content 4");
            let id = last.expect("it has arrived").0.clone();
            let gone = far.files.remove(&id).expect("it is there");
            (id, gone)
        };
        let kept = gone.bytes.clone();
        if replaces {
            gone.bytes = b"another".to_vec();
            world.fake.state().files.insert(id.clone(), gone.clone());
        }
        assert!(!any_goes_within(&mut world, &mut life, 900), "seed {seed}");
        assert_eq!(told_kinds(&world), [(NoticeKind::GoneAtDestination, false)]);
        let snapshot = world.rows();
        let held = snapshot.held_disposals(9).expect("it can be read");
        assert_eq!(held.len(), 1, "the reason is there: {held:?}");
        gone.bytes = kept;
        world.fake.state().files.insert(id, gone);
        until_disposed(&mut world, &mut life);
        assert_eq!(told_kinds(&world).last(), Some(&(NoticeKind::GoneAtDestination, true)));
    }
}

/// A destination that does not answer holds the disposal up, and one that cannot be asked is
/// refused, unless the configuration allows it.
#[test]
fn a_destination_that_does_not_answer_keeps_the_source() {
    let mut world = world(970);
    let mut life = world.run();
    world.fake.state().faults.is_down = true;
    assert!(!any_goes_within(&mut world, &mut life, 900), "it is away");
    world.fake.state().faults.is_down = false;
    until_disposed(&mut world, &mut life);

    for (seed, unverified) in [(971, false), (972, true)] {
        let mut world = self::world(seed);
        world.settings.destinations[0].traits.can_inspect = false;
        world.settings.drops[0].disposal.unverified = unverified;
        let mut life = world.run();
        assert_eq!(any_goes_within(&mut world, &mut life, 900), unverified, "seed {seed}");
        assert_eq!(world.act_counts.contains_key("dispose"), unverified);
    }
}

/// A run that is no longer to be disposed of after a kill: what the act had set aside is put back.
#[test]
fn a_disposal_that_was_intended_and_is_not_wanted_any_more_puts_back_what_it_set_aside() {
    let mut world = world(980);
    let fails = |nth| Fault { act: "dispose", nth, after: false, kind: FailureKind::ServerFault };
    world.faults = (1..100).map(fails).collect();
    let mut life = world.run();
    until_completed(&mut world, &mut life);
    assert!(!any_goes_within(&mut world, &mut life, 900));
    assert!(world.act_counts.get("dispose").is_some_and(|count| *count > 2));
    let mut world = world.crashed(&life, Some(PowerCut::Lost));
    world.settings.drops[0].disposal.disposition = Disposition::Keep;
    world.faults.clear();
    let mut life = world.start();
    assert!(!any_goes_within(&mut world, &mut life, 300));
    assert_eq!(world.act_counts.get("put back"), Some(&2), "each of the two runs");
}

/// Rows that were read for another directory than the one to be emptied, or about other uploads,
/// prove nothing.
#[test]
fn rows_of_another_root_or_of_uploads_that_were_not_asked_about_let_nothing_go() {
    let mut world = world(990);
    let mut life = world.run();
    until_completed(&mut world, &mut life);
    let snapshot = world.rows();
    let (drop, run) = (DirectoryName::new("drop"), SourcePath::from_bytes(b"run"));
    let run = RunRef { drop: &drop, run: &run, is_file: false };
    let destinations = &world.settings.drops[0].destinations;
    let count = |before, root: &RootIdentity| {
        let proving = Proving { run, destinations, before: UploadId(before), root };
        snapshot.proved_files(&proving).expect("it can be read").len()
    };
    assert_eq!(count(i64::MAX, &world.root), 2);
    assert_eq!(count(i64::MAX, &RootIdentity::new("another")), 0);
    assert_eq!(count(1, &world.root), 0);
}

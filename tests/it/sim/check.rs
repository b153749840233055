//! What must hold after every run, however often it was interrupted.

use std::collections::{BTreeMap, BTreeSet};

use dropferry::testing::model::{EndReason, Stage, UploadId};
use dropferry::testing::store::snapshot::Status;

use super::receipts::PowerCut;
use super::world::{Life, World};

/// Every file is there once, whole, with a receipt; there is nothing else; rows and memory agree.
pub(super) fn all_arrived(world: &World, life: &Life) {
    for (path, (_, bytes)) in &world.files {
        let name = String::from_utf8_lossy(path.file_name()).into_owned();
        let state = world.fake.state();
        let there: Vec<_> =
            state.files.values().filter(|file| file.target.name() == name).collect();
        assert_eq!(there.len(), 1, "{path} is there {} times", there.len());
        assert_eq!(there[0].bytes, *bytes, "{path} has another content");
    }
    assert_eq!(world.fake.state().files.len(), world.files.len(), "files at the far end");
    let uploads = status(world).uploads;
    let ends: Vec<_> =
        uploads.iter().map(|upload| (upload.admission.id, upload.word(), &upload.state)).collect();
    assert_eq!(completed(world).len(), world.files.len(), "uploads completed: {ends:?}");
    at_rest(world, life);
}

/// What holds whenever the world is quiet, whatever arrived.
pub(super) fn at_rest(world: &World, life: &Life) {
    little_sent_again(world);
    receipts_prove_completion(world);
    no_orphans(world, life);
    rows_and_memory_agree(world, life);
}

/// Each completed upload has exactly one line, durable, where its row says, in a valid chain; and
/// no acknowledged line was ever lost. An upload that was given up after it was verified may have a
/// line: it was being written just then, and its statement is true.
fn receipts_prove_completion(world: &World) {
    world.receipts.assert_kept();
    let completed = completed(world);
    let mut lines = BTreeMap::new();
    for (id, line) in world.receipts.of_uploads() {
        let second = lines.insert(id, line);
        assert!(second.is_none(), "a second line of {id}: {second:?}");
    }
    let missing: Vec<_> = completed.iter().filter(|id| !lines.contains_key(id)).collect();
    assert!(missing.is_empty(), "completed without receipts: {missing:?}");
    for id in lines.keys().filter(|id| !completed.contains(id)) {
        let detail = world.rows().detail(*id).expect("it can be read").expect("it is stored");
        let stage = detail.upload.state.stage;
        let is_given_up = stage == Stage::Ended(EndReason::Abandoned);
        assert!(
            is_given_up && detail.times.verified_at.is_some(),
            "the receipt of {id}, {stage:?}"
        );
    }
    for id in completed {
        let detail = world.rows().detail(id).expect("it can be read").expect("it is stored");
        assert_eq!(lines.get(&id), detail.receipt.as_ref(), "the receipt of {id} and its row");
        assert!(world.receipts.holds(detail.receipt.as_ref()), "the receipt of {id} is durable");
    }
}

fn completed(world: &World) -> BTreeSet<UploadId> {
    let uploads = status(world).uploads.into_iter();
    uploads.filter(|upload| upload.word() == "completed").map(|u| u.admission.id).collect()
}

/// No remote upload without an owner.
fn no_orphans(world: &World, life: &Life) {
    let stored = life.engine.view().stored_uploads();
    let owned: Vec<_> = stored.iter().filter_map(|upload| upload.state.stage.remote()).collect();
    let state = world.fake.state();
    let is_owned = |id: &&String| owned.iter().any(|remote| remote.id.as_str() == id.as_str());
    let open: Vec<_> = state.uploads.keys().filter(|id| !is_owned(id)).collect();
    assert!(open.is_empty(), "orphans {open:?}");
}

/// No more was sent again than crashes and lost answers explain.
fn little_sent_again(world: &World) {
    // What was in flight, and as much again that was accepted and not recorded.
    let bound = world.crash_count * 2 * world.in_flight_max() + world.allowance;
    let state = world.fake.state();
    // Within one remote upload, and over all uploads that a file had.
    for again in [state.bytes_received_again, state.bytes_beyond_files()] {
        assert!(again <= bound, "{again} bytes again, bound {bound}");
    }
}

/// The state that is loaded from the rows equals the state in memory, and breaks no invariant.
fn rows_and_memory_agree(world: &World, life: &Life) {
    drop(world.crashed(life, Some(PowerCut::Lost)).start());
}

pub(super) fn status(world: &World) -> Status {
    world.rows().status(true, world.now.wall).expect("the state can be read")
}

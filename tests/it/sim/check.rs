//! What must hold after every run, however often it was cut.

use dropferry::engine::check;
use dropferry::model::WallTime;
use dropferry::store::snapshot::{Snapshot, Status};
use dropferry::store::writer::Writer;

use super::world::{Life, PART, PARTS_IN_FLIGHT, World, stored};

/// Every file is there once, whole, receipted; nothing else is; rows and memory agree.
pub(super) fn all_arrived(world: &World, life: Life, story: &str) {
    let status = status(world);
    for (path, (_, bytes)) in &world.files {
        let name = String::from_utf8_lossy(path.file_name()).into_owned();
        let state = world.fake.state();
        let there: Vec<_> = state.files.values().filter(|file| file.target.name == name).collect();
        assert_eq!(there.len(), 1, "{story}: {path} is there {} times", there.len());
        assert_eq!(there[0].bytes, *bytes, "{story}: {path} has another content");
    }
    let count = world.fake.state().files.len();
    assert_eq!(count, world.files.len(), "{story}: files at the far end");
    let completed = status.uploads.iter().filter(|upload| upload.word() == "completed");
    for upload in completed.clone() {
        let id = upload.admission.id.0;
        assert!(world.receipts.contains_key(&id), "{story}: upload {id} has no receipt");
    }
    assert_eq!(completed.count(), world.files.len(), "{story}: uploads completed");
    nothing_left_over(world, story);
    rows_and_memory_agree(world, life, story);
}

/// No remote upload without an owner, and no more sent again than crashes explain.
pub(super) fn nothing_left_over(world: &World, story: &str) {
    let state = world.fake.state();
    let open: Vec<_> = state.uploads.keys().collect();
    assert!(open.is_empty(), "{story}: orphans {open:?}");
    let bound = world.crash_count * u64::from(PARTS_IN_FLIGHT) * PART;
    let again = state.bytes_received_again;
    assert!(
        again <= bound || !world.faults.is_empty(),
        "{story}: {again} bytes again, bound {bound}"
    );
}

/// What is loaded from the rows is what lived on, and breaks no invariant.
pub(super) fn rows_and_memory_agree(world: &World, life: Life, story: &str) {
    let lived = life.engine.stored_uploads();
    drop(life);
    let (writer, loaded) = Writer::open(&world.store()).expect("the state opens");
    drop(writer);
    let loaded = stored(loaded).uploads;
    assert_eq!(lived.len(), loaded.len(), "{story}: uploads in rows and in memory");
    for (lived, loaded) in lived.iter().zip(&loaded) {
        assert_eq!(lived.state, loaded.state, "{story}: upload {}", lived.admission.id);
        assert_eq!(lived.parts, loaded.parts, "{story}: parts of {}", lived.admission.id);
        assert_eq!(check::check(loaded), [], "{story}");
    }
}

pub(super) fn status(world: &World) -> Status {
    let snapshot = Snapshot::open(&world.store().directory).expect("the state can be read");
    snapshot.status(true, WallTime(0)).expect("the state can be read")
}

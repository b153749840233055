//! The acts that read rows which are not in memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::context::World;
use super::workers::{ActReply, local, off_the_loop};
use crate::engine::event::{Event, FindHolder, Outcome};
use crate::model::{DirectoryName, Failure, FailureKind, KnownFile, StoredRows};
use crate::store;
use crate::store::rest::Again;
use crate::store::snapshot::Snapshot;

/// Files in one portion.
const ROWS: usize = 1_000;

/// Finds which other source of ours holds a place.
pub(super) async fn find_holder(world: Arc<World>, what: FindHolder) -> ActReply {
    let find = move || {
        let FindHolder { targets, place, source, .. } = what;
        let find = |snapshot: &Snapshot| snapshot.place_found(&targets, &place, &source);
        world.readers.lend(find).flatten().map(Outcome::HolderFound).map_err(local)
    };
    off_the_loop(find).await
}

/// Reads the rows of drop directories, and passes them on in portions.
pub(super) async fn read(world: Arc<World>, drops: Vec<(DirectoryName, bool)>) -> ActReply {
    let read = move || {
        let hand_over = |rows| world.events.blocking_send(Event::Stored(rows)).is_ok();
        let settings = store::Settings { directory: world.state.clone(), is_new: false };
        let again = Again::open(&settings).map_err(local)?;
        let new: BTreeSet<_> =
            drops.iter().filter(|(_, is_new)| *is_new).map(|(drop, _)| drop.clone()).collect();
        let mut is_wanted = true;
        if !new.is_empty() {
            let stored = again.drops(&new).map_err(local)?;
            is_wanted = hand_over(StoredRows::Directories(Box::new(stored)));
        }
        let all = drops.into_iter().map(|(drop, _)| drop).collect();
        let take = |files: Vec<KnownFile>| {
            is_wanted = is_wanted && hand_over(StoredRows::Known(files));
            is_wanted
        };
        again.known(&all, ROWS, take).map_err(local)?;
        match is_wanted {
            true => Ok(Outcome::RowsRead),
            false => Err(Failure::new(FailureKind::Cancelled, "nobody takes the rows")),
        }
    };
    off_the_loop(read).await
}

//! The acts that hold a file against the rows: is it still what was sent?

use std::sync::Arc;

use super::perform::{World, drop_of, off_the_loop};
use super::workers::Reply;
use crate::engine::event::Outcome;
use crate::model::{DropName, Failure, FailureKind, Fingerprint, SourcePath};
use crate::source::{self, SourceFile};
use crate::store::snapshot::Snapshot;

/// Reads a file once and compares it with what was last sent of it.
pub(super) async fn compare(
    world: Arc<World>,
    drop: DropName,
    path: SourcePath,
    fingerprint: Fingerprint,
) -> Reply {
    let local = |why: crate::store::Error| Failure::new(FailureKind::LocalFault, why.to_string());
    let compare = move || {
        let root = drop_of(&world, &drop)?.directory.clone();
        let snapshot = Snapshot::open(&world.state).map_err(local)?;
        let sent = snapshot.sent_mark((&drop, &path), &fingerprint).map_err(local)?;
        let file = SourceFile { root, path, fingerprint };
        let is_same = match sent {
            Some(mark) => source::hash_file(&file, mark.part_size, &world.drains)? == mark,
            // Of an empty file there is no digest, and nothing that could differ.
            None => fingerprint.size.0 == 0,
        };
        Ok(Outcome::Compared { is_same })
    };
    off_the_loop(compare).await
}

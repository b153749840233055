//! The acts that compare files with the rows: are they still what was sent, were they moved?

use std::sync::Arc;

use super::context::{World, drop_of};
use super::hung::{self, Watched, WatchedRead};
use super::workers::{ActReply, local, off_the_loop};
use crate::engine::event::{MovedFrom, Outcome};
use crate::model::{DirectoryName, Failure, Fingerprint, Seen, SourcePath, UploadId};
use crate::source::{self, SourceFile};
use crate::store::snapshot::{Sent, Snapshot};

/// Reads a file once and compares it with what was last sent of it, or by one upload.
pub(super) async fn compare(
    world: Arc<World>,
    drop: DirectoryName,
    path: SourcePath,
    fingerprint: Fingerprint,
    against: Option<UploadId>,
) -> ActReply {
    let what = WatchedRead {
        drop: Some(drop.clone()),
        path: path.clone(),
        device: fingerprint.device,
        may_wait: true,
    };
    let compare = move |world: &World, stop: &Watched<'_>| {
        let root = Arc::clone(&drop_of(world, &drop)?.root);
        let snapshot = Snapshot::open(&world.state).map_err(local)?;
        let sent = snapshot.sent_mark(&drop, &path, &fingerprint, against).map_err(local)?;
        let file = SourceFile { root, path, fingerprint, provenance: None };
        let is_same = match sent {
            Some(mark) => world.parts.hash_file(&file, mark.part_size, stop)? == mark,
            // An empty file has no digest, and nothing that could differ.
            None => fingerprint.size.0 == 0,
        };
        Ok(Outcome::Compared { is_same })
    };
    hung::read(&world, what, compare).await
}

/// Looks each file up by inode, size and time, and checks whether its old path is gone.
pub(super) async fn find_moved(
    world: Arc<World>,
    drop: DirectoryName,
    files: Vec<(SourcePath, Fingerprint)>,
) -> ActReply {
    let find = move || {
        let source = drop_of(&world, &drop)?;
        let targets = world.targets.get(&drop).map_or(&[][..], Vec::as_slice);
        let snapshot = Snapshot::open(&world.state).map_err(local)?;
        let mut found = Vec::with_capacity(files.len());
        for (path, version) in &files {
            let sent = snapshot.sent_elsewhere(&drop, path, version, targets).map_err(local)?;
            // Another file under the old path replaces what was sent, so this one is sent again.
            let is_gone = |sent: &Sent| {
                let looked = source::look(&source.root, &source.filter, vec![sent.path.clone()])?;
                Ok::<_, Failure>(looked.first().is_some_and(|one| one.seen == Seen::Gone))
            };
            let mut moved = None;
            for sent in sent {
                if is_gone(&sent)? {
                    let is_untouched =
                        sent.version.ctime_ns.is_some() && sent.version.is_untouched(version);
                    moved = Some(MovedFrom { upload: sent.upload, is_untouched });
                    break;
                }
            }
            found.push(moved);
        }
        Ok(Outcome::MovedFound(found))
    };
    off_the_loop(find).await
}

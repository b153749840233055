//! The acts of runs: reading a run's own files, the line that completes it, its disposal.

use std::sync::Arc;

use super::context::{World, drop_of};
use super::receipts::{self, LineSubject};
use super::workers::{ActReply, failed, local, off_the_loop};
use crate::engine::event::Outcome;
use crate::model::{DirectoryName, Disposition, Failure, FailureKind, SourcePath, UploadId};
use crate::receipt::place::LedgerName;
use crate::receipt::sentinel;
use crate::source;
use crate::store::snapshot::{Proving, RunRef, Snapshot};

/// Reads what a run's own files say.
pub(super) async fn read(world: Arc<World>, drop: DirectoryName, run: SourcePath) -> ActReply {
    let read = move || {
        let source = drop_of(&world, &drop)?;
        source::read_run(&source.root, &run, &source.filter).map_err(Failure::from)
    };
    off_the_loop(read).await.map(|reading| Outcome::RunRead(Box::new(reading)))
}

/// Writes the line that completes a run and makes it durable, with the sentinel if one is wanted.
pub(super) async fn write_receipt(
    world: &Arc<World>,
    subject: LineSubject,
    has_sentinel: bool,
) -> ActReply {
    let LineSubject::Run { drop, run, .. } = &subject else {
        return failed(local("an upload is no run"));
    };
    let (drop, run) = (drop.clone(), run.clone());
    let written = match receipts::write(world, subject).await {
        Ok(written) => Box::new(written),
        Err(failure) => return failed(failure),
    };
    if !has_sentinel {
        return Ok(Outcome::RunReceiptWritten { written, sentinel: None });
    }
    let world = Arc::clone(world);
    let write = move || {
        let row = world.readers.lend(|rows| rows.run(&drop, &run)).flatten().map_err(local)?;
        let first = row.map_or(1, |row| row.completion.ledgers.first);
        let ledger = LedgerName::of_run(drop.as_str(), &run).numbered(first);
        let sentinel = sentinel::write(&world.state, &run, &ledger, &written.line);
        let sentinel = sentinel
            .map_err(|error| local(format!("the sentinel of {run} cannot be written: {error}")))?;
        Ok(Outcome::RunReceiptWritten { written, sentinel: Some(sentinel) })
    };
    off_the_loop(write).await
}

pub(super) struct Disposing {
    pub(super) drop: DirectoryName,
    pub(super) run: SourcePath,
    pub(super) is_file: bool,
    pub(super) how: Disposition,
    /// Uploads with this id or a larger one were not asked about.
    pub(super) before: UploadId,
}

/// Disposes of a run's source, if every file of it has a receipt at every destination.
pub(super) async fn dispose(world: Arc<World>, what: Disposing) -> ActReply {
    let dispose = move || {
        let Disposing { drop, run, is_file, how, before } = &what;
        let source = drop_of(&world, drop)?;
        // In an empty mount point everything would seem to be disposed of already.
        let (root, mark) = source.root.check().map_err(Failure::from)?;
        if *source.seen.borrow() != Some(mark) {
            let why = "the drop directory is not the one that was scanned";
            return Err(Failure::new(FailureKind::SourceAway, why));
        }
        let destinations = world.targets.get(drop).cloned().unwrap_or_default();
        let asked = RunRef { drop, run, is_file: *is_file };
        let destinations = &destinations;
        let count = |snapshot: &Snapshot| snapshot.completed_at_former(&asked);
        let former_count = world.readers.lend(count).flatten().map_err(local)?;
        // Files that an interrupted act set aside are restored in any case.
        if former_count > 0 && *how != Disposition::Keep {
            let why = format!(
                "{former_count} files of it were completed at a former target of their destination, \
                 which proves nothing at its target"
            );
            return Err(Failure::new(FailureKind::NotFound, why));
        }
        let proving = Proving { run: asked, destinations, before: *before, root: &root };
        let prove = |snapshot: &Snapshot| snapshot.proved_files(&proving);
        let proved = world.readers.lend(prove).flatten().map_err(local)?;
        let what = source::Disposable { root: &source.root, run, is_file: *is_file };
        source::dispose(&what, &source.filter, &proved, how).map_err(Failure::from)?;
        Ok(Outcome::Disposed)
    };
    off_the_loop(dispose).await
}

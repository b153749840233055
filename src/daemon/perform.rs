//! One small function for each act: performs it, and returns its outcome. Decides nothing.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use super::context::{Source, World, drop_of, source_file, to};
use super::receipts::LineSubject;
use super::workers::{ActReply, cancelled, failed, local};
use super::{files, hung, notices, parts, proofs, receipts, renamed, rows, runs};
use crate::engine::event::{Act, Event, Outcome, ReadFrom, Walk};
use crate::model::{
    ByteRange, DirectoryName, Failure, FailureKind, Fingerprint, Md5, Observation, PartNumber,
    PartSize, RootIdentity, Seen, SourcePath,
};
use crate::source::{self, PartsProof, ScanSummary};
use crate::store::snapshot::Snapshot;
use crate::telemetry::scrub;

/// Performs one act. A failure's text is stored, so it must contain no secret, wherever it comes from.
pub(crate) async fn perform(world: Arc<World>, act: Act) -> ActReply {
    act_out(world, act).await.map_err(|mut setback| {
        setback.failure.message = scrub(&setback.failure.message).into_owned();
        setback
    })
}

async fn act_out(world: Arc<World>, act: Act) -> ActReply {
    match act {
        Act::Scan { drop, skip, root } => scan_drop(world, drop, skip, root).await,
        Act::ReadRun { drop, run } => runs::read(world, drop, run).await,
        Act::WriteRunReceipt { drop, run, generation, has_sentinel } => {
            runs::write_receipt(&world, LineSubject::Run { drop, run, generation }, has_sentinel)
                .await
        }
        Act::CheckProofs(check) => proofs::check(world, *check).await,
        Act::Dispose { drop, run, is_file, how, before } => {
            runs::dispose(world, runs::Disposing { drop, run, is_file, how, before }).await
        }
        Act::DigestFile { source: from, digest, .. } => {
            let (file, what) = (source_file(&world, from.clone()), reading(from));
            let read = move |world: &World, stop: &hung::Watched<'_>| {
                world.parts.digest_file(&file?, digest, stop)
            };
            let (md5, sha256) = hung::read(&world, what, read).await?;
            Ok(Outcome::FileDigested { md5, sha256 })
        }
        Act::Look { drop, paths } => look(world, drop, paths).await,
        Act::CompareContent { drop, path, fingerprint, against } => {
            files::compare(world, drop, path, fingerprint, against).await
        }
        Act::FindMoved { drop, files: asked } => files::find_moved(world, drop, asked).await,
        Act::Call { destination, call, .. } => {
            let destination = to(&world, &destination).or_else(failed)?;
            destination.call(&call).await.map(Outcome::Replied).or_else(failed)
        }
        Act::Put(sending) => parts::put(&world, *sending).await,
        Act::HashPart { source: from, range, .. } => hash_part(world, from, range).await,
        Act::HashFile { source: from, mark, .. } => {
            let (file, what) = (source_file(&world, from.clone()), reading(from));
            let hash = move |world: &World, stop: &hung::Watched<'_>| {
                world.parts.hash_file(&file?, mark.part_size, stop)
            };
            hung::read(&world, what, hash).await.map(|mark| Outcome::FileHashed { mark })
        }
        Act::ProveSource { source, part_size, md5s, settled, .. } => {
            prove_source(world, source, part_size, md5s, settled).await
        }
        Act::WriteReceipt { upload } => {
            let written = receipts::write(&world, LineSubject::Upload(upload)).await;
            written.map(|written| Outcome::ReceiptWritten(Box::new(written))).or_else(failed)
        }
        Act::Notify { notice } => notices::send(&world, &notice).await.or_else(failed),
        Act::Survey(wanted) => notices::survey(world, wanted).await,
        Act::FindHolder(asked) => rows::find_holder(world, *asked).await,
        Act::ReadRows { drops } => rows::read(world, drops).await,
    }
}

pub(super) fn reading(from: ReadFrom) -> hung::WatchedRead {
    let drop = (!from.is_sentinel).then_some(from.drop);
    let device = from.fingerprint.device;
    hung::WatchedRead { drop, path: from.path, device, may_wait: false }
}

/// Limit of batches of a walk that wait to be compared; then the walk waits.
const BATCHES_MAX: usize = 2;

async fn scan_drop(
    world: Arc<World>,
    drop: DirectoryName,
    skip: Arc<BTreeSet<SourcePath>>,
    root: Option<RootIdentity>,
) -> ActReply {
    let started = world.clock.now().monotonic;
    let away = Arc::clone(&world);
    let source = drop_of(&away, &drop).or_else(failed)?;
    let walk = move || {
        let source = drop_of(&world, &drop).or_else(failed)?;
        source.root.expect(root);
        source.see(source.root.mark().ok());
        let renamed = renamed::find(&world, &drop, source).or_else(failed)?;
        let (scanned, compared) = std::thread::scope(|scope| {
            let (batches, inbox) = sync_channel(BATCHES_MAX);
            let (reader, name) = (&world, &drop);
            let comparing = scope.spawn(move || compare(reader, name, inbox));
            let take = move |batch| match batches.send(batch) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            };
            let scanned = source::scan(&source.root, &source.filter, &skip, take);
            (scanned, comparing.join())
        });
        source.see(scanned.as_ref().ok().map(|summary| summary.mark));
        compared.unwrap_or(Ok(())).or_else(failed)?;
        let summary = match (scanned.map_err(Failure::from), source.root.refused()) {
            (Err(failure), Some(root)) => {
                return Ok(Outcome::OtherRoot { root, reason: failure.message });
            }
            (scanned, _) => scanned.or_else(failed)?,
        };
        let ScanSummary { seen_count, complete, unseen, is_empty, root, .. } = summary;
        if !is_empty {
            source.root.settle();
        }
        let space = source::space(source.root.path());
        source.note_space(space);
        let elapsed = world.clock.now().monotonic.since(started);
        let walk = Walk { complete, unseen, is_empty, root, space };
        Ok(Outcome::Scanned { seen_count, elapsed, walk, renamed })
    };
    source.walker.run(walk).await
}

/// Compares the observations of a walk with the rows, during the walk, and passes on those that
/// differ from what was sent.
fn compare(
    world: &World,
    drop: &DirectoryName,
    batches: Receiver<Vec<Observation>>,
) -> Result<(), Failure> {
    let destinations = world.targets.get(drop).map_or(&[][..], Vec::as_slice);
    for mut observations in batches {
        let read = |rows: &Snapshot| rows.differences(drop, destinations, &mut observations);
        let known = world.readers.lend(read).and_then(|known| known).map_err(local)?;
        let event = Event::Observed { drop: drop.clone(), observations, known };
        if world.events.blocking_send(event).is_err() {
            break;
        }
    }
    Ok(())
}

/// The device of a path that hangs is not known.
const UNKNOWN_DEVICE: u64 = 0;

/// Looks at paths; one that hangs is left out, as if its storage had failed.
async fn look(world: Arc<World>, drop: DirectoryName, mut paths: Vec<SourcePath>) -> ActReply {
    let source = drop_of(&world, &drop).or_else(failed)?;
    loop {
        paths.retain(|path| !source.hung.is(path));
        let done = Arc::new(AtomicUsize::new(0));
        let (reader, asked, count) = (Arc::clone(&world), paths.clone(), Arc::clone(&done));
        let name = drop.clone();
        let look = move || {
            let Source { root, filter, .. } = drop_of(&reader, &name)?;
            let seen = source::look_counting(root, filter, asked, &count);
            let observations = seen.map_err(Failure::from)?;
            if observations.iter().any(|one| matches!(one.seen, Seen::File(_))) {
                root.settle();
            }
            let known = reader.readers.lend(|rows| rows.catalogued(&name, &observations));
            let known = known.and_then(|known| known).map_err(local)?;
            let renamed = root.renamed();
            let writers = root.writers().all(root.path(), reader.clock.now().monotonic);
            let writers = writers.iter().map(|path| renamed.by_first_name(path).into_owned());
            let writers = writers.filter(|path| observations.iter().any(|one| one.path == *path));
            let writers = writers.collect();
            Ok(Outcome::Looked { observations, root: root.accepted(), known, writers })
        };
        let mut thread = tokio::task::spawn_blocking(look);
        let progress = || done.load(Ordering::Relaxed) as u64;
        match hung::unless_still(|| hung::LOOK_LIMIT, progress, &mut thread).await {
            Some(Ok(looked)) => return looked.or_else(failed),
            Some(Err(_)) => return cancelled(),
            None => {}
        }
        let at = done.load(Ordering::Relaxed);
        // Otherwise the drop directory itself does not answer.
        let Some(path) = paths.get(at).cloned() else {
            let message = format!("{} does not answer", source.root.path().display());
            return failed(Failure::new(FailureKind::SourceAway, message));
        };
        source.hung.check(&path, UNKNOWN_DEVICE).or_else(failed)?;
        source.hung.leave(path, UNKNOWN_DEVICE, Box::new(move || thread.is_finished()));
    }
}

async fn hash_part(world: Arc<World>, from: ReadFrom, range: ByteRange) -> ActReply {
    let (file, what) = (source_file(&world, from.clone()), reading(from));
    let hash =
        move |world: &World, stop: &hung::Watched<'_>| world.parts.hash_range(&file?, range, stop);
    hung::read(&world, what, hash).await.map(|md5| Outcome::PartHashed { md5 })
}

/// Checks whether a file is still what was read of it, part by part.
async fn prove_source(
    world: Arc<World>,
    from: ReadFrom,
    part_size: PartSize,
    md5s: Vec<Md5>,
    settled: Option<Fingerprint>,
) -> ActReply {
    let size = from.fingerprint.size;
    let range = |index| part_size.range_of(PartNumber::from_index(index), size);
    let numbered = md5s.into_iter().enumerate();
    let sent: Vec<_> = numbered.map(|(index, md5)| (range(index), md5)).collect();
    let (file, what) = (source_file(&world, from.clone()), reading(from));
    let prove = move |world: &World, stop: &hung::Watched<'_>| {
        world.parts.prove_parts(&file?, &sent, settled.as_ref(), stop)
    };
    hung::read(&world, what, prove).await.map(|proof| match proof {
        PartsProof::Read { version, differing } => Outcome::SourceProved { version, differing },
        PartsProof::Moved(version) => Outcome::SourceMoved { version },
    })
}

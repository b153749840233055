//! One small function for each act: does it, and returns its outcome. Decides nothing.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::mpsc;

use super::bandwidth::Bandwidth;
use super::digests::DigestPool;
use super::hung::{self, Hung};
use super::people::Courier;
use super::readers::Readers;
use super::receipts::Receipts;
use super::walker::Walker;
use super::workers::{Reply, cancelled};
use super::{files, parts, people, proofs, receipts, rows, runs};
use crate::clock::Clock;
use crate::engine::event::{Act, Event, Outcome, ReadFrom, Setback, Walk};
use crate::model::{
    ByteCount, ByteRange, Channel, DestinationName, DirectoryName, Failure, FailureKind,
    RootIdentity, Seen, SourcePath,
};
use crate::notify::Sender;
use crate::platform::Destination;
use crate::receipt;
use crate::source::{
    self, DirectoryRoot, Filter, PartReader, Profile, RootMark, ScanSummary, SourceFile,
};
use crate::telemetry::scrub;

/// Everything that acts need, and nothing that decides.
#[derive(Debug)]
pub(crate) struct World {
    /// Configured targets.
    pub(crate) destinations: std::collections::BTreeMap<DestinationName, Destination>,
    /// Each drop directory's destinations.
    pub(crate) targets: std::collections::BTreeMap<DirectoryName, Vec<DestinationName>>,
    /// Drop directories.
    pub(crate) sources: std::collections::BTreeMap<DirectoryName, Source>,
    /// How people are told.
    pub(crate) senders: std::collections::BTreeMap<Channel, Sender>,
    /// Makes the calls of channels.
    pub(crate) courier: Courier,
    /// Where the rows and the receipts are.
    pub(crate) state: PathBuf,
    /// Receipts that wait to be written.
    pub(crate) receipts: Receipts,
    /// Views of the rows.
    pub(crate) readers: Readers,
    /// Where observations go while a scan runs.
    pub(crate) events: mpsc::Sender<Event>,
    /// Reads parts.
    pub(crate) parts: PartReader,
    /// Bytes a second.
    pub(crate) bandwidth: Arc<Bandwidth>,
    /// Reading that nobody waits for any more stops.
    pub(crate) stop: AtomicBool,
    /// Reading that can as well be done after the next start stops.
    pub(crate) drains: AtomicBool,
    /// For how long things take.
    pub(crate) clock: Clock,
}

/// One drop directory, ready to be looked at.
#[derive(Debug)]
pub(crate) struct Source {
    /// The directory.
    pub(crate) root: Arc<DirectoryRoot>,
    /// Files in it are found; without, each is handed in.
    pub(crate) is_watched: bool,
    /// What of it is uploaded, and in which order.
    pub(crate) filter: Filter,
    /// What is known of the runs it holds.
    pub(crate) profile: Arc<Profile>,
    pub(crate) digests: DigestPool,
    /// Reads that do not come back.
    pub(crate) hung: Hung,
    /// The thread of its scans.
    pub(crate) walker: Walker,
    /// Which directory scans see at its path: its watch must be on that one.
    pub(crate) seen: tokio::sync::watch::Sender<Option<RootMark>>,
}

impl Source {
    /// Tells the watch which directory stands at the path, or that none can be seen.
    fn see(&self, mark: Option<RootMark>) {
        self.seen.send_if_modified(|seen| std::mem::replace(seen, mark) != mark);
    }
}

pub(super) fn failed<T>(failure: Failure) -> Result<T, Setback> {
    Err(Setback { failure, sent: ByteCount(0) })
}

/// Does one act. What a failure says is kept, so no secret may be in it, whoever said it.
pub(crate) async fn perform(world: Arc<World>, act: Act) -> Reply {
    act_out(world, act).await.map_err(|mut setback| {
        setback.failure.message = scrub(&setback.failure.message).into_owned();
        setback
    })
}

async fn act_out(world: Arc<World>, act: Act) -> Reply {
    match act {
        Act::Scan { drop, skip, root } => scan_drop(world, drop, skip, root).await,
        Act::ReadRun { drop, run } => runs::read(world, drop, run).await,
        Act::WriteRunReceipt { drop, run, generation } => {
            runs::write_receipt(world, (drop, run), generation).await
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
            files::compare(world, (drop, path), fingerprint, against).await
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
        Act::WriteReceipt { upload } => {
            let written = receipts::write(&world, upload).await.or_else(failed);
            written.map(|sha256| Outcome::ReceiptWritten { sha256 })
        }
        Act::Notify { notice } => people::tell(&world, &notice).await.or_else(failed),
        Act::Survey => people::survey(world).await,
        Act::FindHolder(asked) => rows::find_holder(world, *asked).await,
        Act::ReadRows { drops } => rows::read(world, drops).await,
    }
}

pub(super) fn to<'a>(world: &'a World, name: &DestinationName) -> Result<&'a Destination, Failure> {
    let missing = || Failure::new(FailureKind::LocalFault, format!("{name} is not configured"));
    world.destinations.get(name).ok_or_else(missing)
}

pub(super) fn drop_of<'a>(world: &'a World, name: &DirectoryName) -> Result<&'a Source, Failure> {
    let missing = || Failure::new(FailureKind::LocalFault, format!("{name} is not configured"));
    world.sources.get(name).ok_or_else(missing)
}

pub(super) fn source_file(world: &World, from: ReadFrom) -> Result<SourceFile, Failure> {
    let root = match from.is_receipt {
        true => Arc::new(DirectoryRoot::at(receipt::directory(&world.state))),
        false => Arc::clone(&drop_of(world, &from.drop)?.root),
    };
    let ReadFrom { path, fingerprint, provenance, .. } = from;
    if provenance.is_none() && !from.is_receipt && from.drop == DirectoryName::handed_in() {
        let why = format!("whose {path} was when it was handed in is not known");
        return Err(Failure::new(FailureKind::SourceChanged, why));
    }
    Ok(SourceFile { root, path, fingerprint, provenance })
}

fn reading(from: ReadFrom) -> hung::Reading {
    let drop = (!from.is_receipt).then_some(from.drop);
    let device = from.fingerprint.device;
    hung::Reading { drop, path: from.path, device, may_wait: false }
}

/// Runs what blocks on a thread of its own.
pub(super) async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Setback> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.or_else(failed),
        Err(_) => cancelled().and_then(|_| failed(Failure::new(FailureKind::Cancelled, "cut"))),
    }
}

async fn scan_drop(
    world: Arc<World>,
    drop: DirectoryName,
    skip: Arc<BTreeSet<SourcePath>>,
    root: Option<RootIdentity>,
) -> Reply {
    let started = world.clock.now().monotonic;
    let away = Arc::clone(&world);
    let source = drop_of(&away, &drop).or_else(failed)?;
    let walk = move || {
        let source = drop_of(&world, &drop).or_else(failed)?;
        let take = |observations| {
            let event = Event::Observed { drop: drop.clone(), observations };
            match world.events.blocking_send(event) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        };
        source.root.expect(root);
        source.see(source.root.mark().ok());
        let scanned = source::scan(&source.root, (&source.filter, &skip), take);
        source.see(scanned.as_ref().ok().map(|summary| summary.mark));
        let summary = match (scanned.map_err(Failure::from), source.root.refused()) {
            (Err(failure), Some(root)) => {
                return Ok(Outcome::OtherRoot { root, reason: failure.message });
            }
            (scanned, _) => scanned.or_else(failed)?,
        };
        let ScanSummary { seen_count, complete, is_empty, root, .. } = summary;
        if !is_empty {
            source.root.settle();
        }
        let space = source::space(source.root.path());
        let elapsed = world.clock.now().monotonic.since(started);
        Ok(Outcome::Scanned { seen_count, elapsed, walk: Walk { complete, is_empty, root, space } })
    };
    source.walker.run(walk).await
}

/// Of a path that hangs when it is looked at nothing is known.
const UNKNOWN_DEVICE: u64 = 0;

/// Looks at paths; one at which it hangs is left out, as if its storage had failed.
async fn look(world: Arc<World>, drop: DirectoryName, mut paths: Vec<SourcePath>) -> Reply {
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
            Ok(Outcome::Looked { observations, root: root.accepted() })
        };
        let mut thread = tokio::task::spawn_blocking(look);
        let progress = || done.load(Ordering::Relaxed) as u64;
        match hung::unless_still(|| hung::LOOK_LIMIT, progress, &mut thread).await {
            Some(Ok(looked)) => return looked.or_else(failed),
            Some(Err(_)) => return cancelled(),
            None => {}
        }
        let at = done.load(Ordering::Relaxed);
        // Else it is the drop directory itself that does not answer.
        let Some(path) = paths.get(at).cloned() else {
            let message = format!("{} does not answer", source.root.path().display());
            return failed(Failure::new(FailureKind::SourceAway, message));
        };
        source.hung.check(&path, UNKNOWN_DEVICE).or_else(failed)?;
        source.hung.leave(path, UNKNOWN_DEVICE, Box::new(move || thread.is_finished()));
    }
}

async fn hash_part(world: Arc<World>, from: ReadFrom, range: ByteRange) -> Reply {
    let (file, what) = (source_file(&world, from.clone()), reading(from));
    let hash =
        move |world: &World, stop: &hung::Watched<'_>| world.parts.hash_range(&file?, range, stop);
    hung::read(&world, what, hash).await.map(|md5| Outcome::PartHashed { md5 })
}

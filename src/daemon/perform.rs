//! One small function for each act: does it, and returns its outcome. Decides nothing.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::mpsc;

use super::bandwidth::Bandwidth;
use super::people::Courier;
use super::readers::Readers;
use super::walker::Walker;
use super::workers::{Reply, cancelled};
use super::{files, people, units};
use crate::clock::Clock;
use crate::engine::event::{
    Act, Begin, Complete, Event, Outcome, PutPart, Remotely, Setback, Source as Place, Walk,
};
use crate::model::{
    ByteCount, ByteRange, Channel, DestinationName, DropName, Failure, FailureKind, Md5,
    RootIdentity, SourcePath, UploadId,
};
use crate::notify::Sender;
use crate::platform::Destination;
use crate::platform::contract::{BeginRequest, CompleteRequest, PartBody, PartRequest};
use crate::receipt;
use crate::source::{self, Filter, Profile, ScanSummary, SourceFile};
use crate::telemetry::scrub;

/// Everything that acts need, and nothing that decides.
#[derive(Debug)]
pub(crate) struct World {
    /// Configured targets.
    pub(crate) destinations: std::collections::BTreeMap<DestinationName, Destination>,
    /// Each drop directory's destinations.
    pub(crate) targets: std::collections::BTreeMap<DropName, Vec<DestinationName>>,
    /// Drop directories.
    pub(crate) sources: std::collections::BTreeMap<DropName, Source>,
    /// How people are told.
    pub(crate) senders: std::collections::BTreeMap<Channel, Sender>,
    /// Makes the calls of channels.
    pub(crate) courier: Courier,
    /// Where the rows and the receipts are.
    pub(crate) state: PathBuf,
    /// Views of the rows.
    pub(crate) readers: Readers,
    /// Where observations go while a scan runs.
    pub(crate) events: mpsc::Sender<Event>,
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
    pub(crate) directory: PathBuf,
    /// Files in it are found; without, each is handed in.
    pub(crate) is_watched: bool,
    /// What of it is uploaded, and in which order.
    pub(crate) filter: Filter,
    /// What is known of the runs it holds.
    pub(crate) profile: Arc<Profile>,
    /// The thread of its scans.
    pub(crate) walker: Walker,
    /// Which directory scans see at its path: its watch must be on that one.
    pub(crate) seen: tokio::sync::watch::Sender<Option<RootIdentity>>,
}

impl Source {
    /// Tells the watch which directory stands at the path, or that none can be seen.
    fn see(&self, root: Option<RootIdentity>) {
        self.seen.send_if_modified(|seen| std::mem::replace(seen, root) != root);
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
        Act::Scan { drop, skip } => scan_drop(world, drop, skip).await,
        Act::ReadUnit { drop, unit } => units::read(world, drop, unit).await,
        Act::WriteUnitReceipt { drop, unit, generation } => {
            units::write_receipt(world, (drop, unit), generation).await
        }
        Act::Dispose { drop, unit, is_file, how } => {
            units::dispose(world, (drop, unit), is_file, how).await
        }
        Act::DigestFile { source: from, digest, .. } => {
            let file = source_file(&world, from);
            let read = move || source::digest_file(&file?, digest, &world.stop);
            let (md5, sha256) = off_the_loop(read).await?;
            Ok(Outcome::FileDigested { md5, sha256 })
        }
        Act::Look { drop, paths } => look(world, drop, paths).await,
        Act::CompareContent { drop, path, fingerprint, against } => {
            files::compare(world, (drop, path), fingerprint, against).await
        }
        Act::FindMoved { drop, files: asked } => files::find_moved(world, drop, asked).await,
        Act::PutPart(act) => put_part(&world, act).await,
        Act::HashPart { source: from, range, .. } => hash_part(world, from, range).await,
        Act::HashFile { source: from, mark, .. } => {
            let file = source_file(&world, from);
            let hash = move || source::hash_file(&file?, mark.part_size, &world.stop);
            off_the_loop(hash).await.map(|mark| Outcome::FileHashed { mark })
        }
        Act::WriteReceipt { upload } => {
            let write = move || write_receipt(&world, upload);
            off_the_loop(write).await.map(|sha256| Outcome::ReceiptWritten { sha256 })
        }
        Act::Notify { notice } => people::tell(&world, &notice).await.or_else(failed),
        Act::Survey => people::survey(world).await,
        Act::Locate(_)
        | Act::Begin(_)
        | Act::FindBegun(_)
        | Act::ListParts(_)
        | Act::Report(_)
        | Act::Complete(_)
        | Act::FindCompleted(_)
        | Act::Inspect(_)
        | Act::Describe(_)
        | Act::FindExports { .. }
        | Act::StartExports { .. }
        | Act::PollExports { .. }
        | Act::FinishDrop { .. }
        | Act::Abort { .. }
        | Act::Probe { .. } => call(&world, act).await.or_else(failed),
    }
}

/// Makes the one call of an act that is nothing but a call.
#[expect(clippy::wildcard_enum_match_arm, reason = "acts that read files are done elsewhere")]
async fn call(world: &World, act: Act) -> Result<Outcome, Failure> {
    match act {
        Act::Locate(act) => {
            to(world, &act.destination)?.locate(&act.what.target).await.map(Outcome::Located)
        }
        Act::Begin(act) => {
            to(world, &act.destination)?.begin(&act.what.into()).await.map(Outcome::Begun)
        }
        Act::FindBegun(act) => {
            let (request, since) = (act.what.begin.into(), act.what.since);
            let found = to(world, &act.destination)?.find_begun(&request, since).await;
            found.map(Outcome::FoundBegun)
        }
        Act::ListParts(act) => {
            to(world, &act.destination)?.list_parts(&act.what).await.map(Outcome::PartsListed)
        }
        Act::Report(act) => {
            let report = act.what;
            to(world, &act.destination)?.report_parts(&report.remote, &report.parts).await?;
            Ok(Outcome::Reported)
        }
        Act::Complete(act) => {
            let request = act.what.into();
            to(world, &act.destination)?.complete(&request).await.map(Outcome::Completed)
        }
        Act::FindCompleted(act) => {
            let request = act.what.into();
            let found = to(world, &act.destination)?.find_completed(&request).await;
            found.map(Outcome::CompletionFound)
        }
        Act::Inspect(act) => {
            to(world, &act.destination)?.inspect(&act.what).await.map(Outcome::Inspected)
        }
        Act::Describe(act) => {
            let what = act.what;
            to(world, &act.destination)?.describe(&what.file, &what.description).await?;
            Ok(Outcome::Described)
        }
        Act::FindExports { destination, items } => {
            to(world, &destination)?.find_exports(&items).await.map(Outcome::ExportsFound)
        }
        Act::StartExports { destination, items, mode } => {
            let started = to(world, &destination)?.start_exports(&items, mode).await;
            started.map(Outcome::ExportsStarted)
        }
        Act::PollExports { destination, jobs } => {
            to(world, &destination)?.poll_exports(&jobs).await.map(Outcome::ExportsPolled)
        }
        Act::FinishDrop { destination, name } => {
            to(world, &destination)?.finish_drop(&name).await?;
            Ok(Outcome::DropFinished)
        }
        Act::Abort { destination, remote } => {
            to(world, &destination)?.abort(&remote).await?;
            Ok(Outcome::Aborted)
        }
        Act::Probe { destination } => {
            to(world, &destination)?.check_access().await?;
            Ok(Outcome::Probed)
        }
        _ => Err(Failure::new(FailureKind::LocalFault, "this act is no call")),
    }
}

fn to<'a>(world: &'a World, name: &DestinationName) -> Result<&'a Destination, Failure> {
    let missing = || Failure::new(FailureKind::LocalFault, format!("{name} is not configured"));
    world.destinations.get(name).ok_or_else(missing)
}

pub(super) fn drop_of<'a>(world: &'a World, name: &DropName) -> Result<&'a Source, Failure> {
    let missing = || Failure::new(FailureKind::LocalFault, format!("{name} is not configured"));
    world.sources.get(name).ok_or_else(missing)
}

fn source_file(world: &World, from: Place) -> Result<SourceFile, Failure> {
    let root = match from.is_receipt {
        true => receipt::directory(&world.state),
        false => drop_of(world, &from.drop)?.directory.clone(),
    };
    Ok(SourceFile { root, path: from.path, fingerprint: from.fingerprint })
}

impl From<Begin> for BeginRequest {
    fn from(begin: Begin) -> Self {
        Self {
            target: begin.target,
            size: begin.size,
            part_size: begin.part_size,
            overwrite: begin.overwrite,
            description: begin.description,
        }
    }
}

impl From<Complete> for CompleteRequest {
    fn from(complete: Complete) -> Self {
        let Complete { remote, parts, begin, since } = complete;
        Self { remote, parts, begun: (*begin).into(), since }
    }
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

async fn scan_drop(world: Arc<World>, drop: DropName, skip: Arc<BTreeSet<SourcePath>>) -> Reply {
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
        source.see(source::identity(&source.directory).ok());
        let scanned = source::scan(&source.directory, (&source.filter, &skip), take);
        source.see(scanned.as_ref().ok().map(|summary| summary.root));
        let summary = scanned.map_err(Failure::from).or_else(failed)?;
        let ScanSummary { seen_count, complete, is_empty, root, .. } = summary;
        let space = source::space(&source.directory);
        let elapsed = world.clock.now().monotonic.since(started);
        Ok(Outcome::Scanned { seen_count, elapsed, walk: Walk { complete, is_empty, root, space } })
    };
    source.walker.run(walk).await
}

async fn look(world: Arc<World>, drop: DropName, paths: Vec<SourcePath>) -> Reply {
    let look = move || {
        let Source { directory, filter, .. } = drop_of(&world, &drop)?;
        source::look(directory, filter, paths).map_err(Failure::from)
    };
    off_the_loop(look).await.map(|observations| Outcome::Looked { observations })
}

async fn hash_part(world: Arc<World>, from: Place, range: ByteRange) -> Reply {
    let file = source_file(&world, from);
    let hash = move || source::hash_range(&file?, range, &world.stop);
    off_the_loop(hash).await.map(|read| Outcome::PartHashed { md5: read.md5 })
}

async fn put_part(world: &Arc<World>, act: Remotely<PutPart>) -> Reply {
    let PutPart { remote, part, source: from, range, begin } = act.what;
    let destination = to(world, &act.destination).or_else(failed)?;
    let file = source_file(world, from).or_else(failed)?;
    let md5 = match destination.traits().wants_md5_first {
        true => Some(digest_first(world, &file, range).await?),
        false => None,
    };
    let (pieces, verdict) = source::read_part(file, range);
    let sent = Arc::new(AtomicU64::new(0));
    let (counter, pacer) = (Arc::clone(&sent), Arc::clone(&world.bandwidth));
    let meter = pacer.meters.of(&act.destination);
    let end = Arc::clone(&meter);
    let slice = pacer.slice();
    let chunks = pieces.flat_map(move |piece| stream::iter(slices(piece, slice)));
    let chunks = chunks.then(move |piece| {
        let (counter, meter) = (Arc::clone(&counter), Arc::clone(&meter));
        let pacer = Arc::clone(&pacer);
        async move {
            if let Ok(bytes) = &piece {
                pacer.pace(bytes.len() as u64).await.map_err(std::io::Error::other)?;
                let before = counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                meter.count(before, bytes.len() as u64);
            }
            piece
        }
    });
    let body = PartBody { length: ByteCount(range.length), md5, chunks: chunks.boxed() };
    let asked = PartRequest { remote, part, begun: (*begin).into() };
    let put = destination.put_part(&asked, body).await;
    let sent = ByteCount(sent.load(Ordering::Relaxed));
    match (put, verdict.await) {
        (Ok(etag), Ok(Ok(read))) => {
            end.arrived(sent.0);
            Ok(Outcome::PartPut { etag, md5: read.md5, sent })
        }
        // What the reader says goes before what the network made of it, unless it was merely stopped.
        (_, Ok(Err(failure))) if failure.kind != FailureKind::Cancelled => {
            Err(Setback { failure, sent })
        }
        (Err(failure), _) => Err(Setback { failure, sent }),
        (Ok(_), _) => {
            let message = format!("the storage took part {part} before it was sent whole");
            Err(Setback { failure: Failure::new(FailureKind::PartRejected, message), sent })
        }
    }
}

/// Reads a part for its digest alone, for platforms that want to know it before the bytes.
async fn digest_first(
    world: &Arc<World>,
    file: &SourceFile,
    range: ByteRange,
) -> Result<Md5, Setback> {
    let (file, world) = (file.clone(), Arc::clone(world));
    off_the_loop(move || source::hash_range(&file, range, &world.stop)).await.map(|read| read.md5)
}

/// Cuts a piece into slices; an error stays one.
fn slices(piece: std::io::Result<Bytes>, length: usize) -> Vec<std::io::Result<Bytes>> {
    let Ok(mut rest) = piece else { return vec![piece] };
    let mut slices = Vec::with_capacity(rest.len().div_ceil(length).max(1));
    while rest.len() > length {
        slices.push(Ok(rest.split_to(length)));
    }
    slices.push(Ok(rest));
    slices
}

fn write_receipt(world: &World, upload: UploadId) -> Result<[u8; 32], Failure> {
    let local = |why: String| Failure::new(FailureKind::LocalFault, why);
    let detail = world.readers.lend(|snapshot| snapshot.detail(upload)).flatten();
    let detail = detail.map_err(|error| local(error.to_string()))?;
    let detail = detail.ok_or_else(|| local(format!("upload {upload} has no row")))?;
    let data = super::receipts::data_of(detail)
        .ok_or_else(|| local(format!("upload {upload} is not verified, and so has no receipt")))?;
    let place = receipt::path_for(&world.state, &data.drop, &data.path, upload);
    receipt::write(&place, &receipt::render(&data)).map_err(|error| {
        local(format!("the receipt {} cannot be written: {error}", place.display()))
    })
}

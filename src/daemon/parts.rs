//! The acts that send bytes: one part, or one whole file, digested, paced and sent.
//!
//! Every part is digested first, with the other wanted parts of its drop directory
//! ([`super::digests`]). A small file is sent from memory, if there is room for it; a larger one is
//! read again while it is sent.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use super::bandwidth::Bandwidth;
use super::context::{World, drop_of, source_file, to};
use super::digests::digest;
use super::flows::FlowMeter;
use super::hung::{self, TICK, given_up};
use super::meters::Meter;
use super::perform::reading;
use super::workers::{ActReply, failed};
use crate::clock::Clock;
use crate::engine::event::{Outcome, ReadFrom, Sending, Setback};
use crate::model::{
    ByteCount, DirectoryName, Failure, FailureKind, Md5, PartNumber, PutRequest, Replaces, Reply,
    SourcePath,
};
use crate::platform::contract::PartBody;
use crate::source::{PartBytes, PartsProof, Room, WantedRange};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};

/// Larger files are in the page cache when they are sent: reading them again costs less than the
/// memory would.
const KEPT_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a range of a file, sends it, and returns the number of bytes sent.
pub(super) async fn put(world: &Arc<World>, sending: Sending) -> ActReply {
    let destination = to(world, &sending.flow.destination).or_else(failed)?;
    let (length, upload) = (ByteCount(sending.range.length), sending.upload);
    let ReadFrom { drop, path, is_sentinel, .. } = sending.source.clone();
    let hung = drop_of(world, &drop).ok().filter(|_| !is_sentinel).map(|source| &source.hung);
    let device = sending.source.fingerprint.device;
    hung.map_or(Ok(()), |hung| hung.check(&path, device)).or_else(failed)?;
    let (md5, bytes) = prepare(world, &sending).await?;
    let ending = bytes.ending();
    let in_flight =
        world.bandwidth.meters.begin(upload, &sending.flow, world.clock.now().monotonic);
    in_flight.of_part(match &sending.request {
        PutRequest::Part(request) => request.part,
        PutRequest::Whole(_) => PartNumber::from_index(0),
    });
    let (sent, meter) = (&in_flight.sent, world.bandwidth.meters.of(destination.name()));
    let has_hung = Arc::new(AtomicBool::new(false));
    let chunks = Patient::new(
        bytes,
        world,
        OpenFile { drop, path: path.clone(), device },
        Arc::clone(&has_hung),
    );
    let counters = Counters {
        sent: Arc::clone(sent),
        meter: Arc::clone(&meter),
        flow: Arc::clone(&in_flight.flow),
        clock: world.clock.clone(),
    };
    let chunks = Paced::new(chunks, &world.bandwidth, counters);
    let header = destination.traits().wants_md5_first.then_some(md5);
    let body = PartBody { length, md5: header, chunks: chunks.boxed() };
    let done = destination.put(&sending.request, body).await;
    let sent = ByteCount(sent.load(Ordering::Relaxed));
    let fail = |failure| {
        in_flight.flow.take_off(sent.0);
        Err(Setback { failure, sent })
    };
    if has_hung.load(Ordering::Relaxed) {
        if let Some(hung) = hung {
            hung.leave(path.clone(), device, Box::new(move || ending.is_left()));
        }
        return fail(given_up(&path));
    }
    if may_be_overwritten(&done, &sending.request, destination.traits().replaces)
        && is_overwritten(world, &sending, md5).await
    {
        let message = format!("{path} was written to while it was sent");
        return fail(Failure::new(FailureKind::LocalFault, message));
    }
    match (done, ending.get()) {
        (Ok(reply), Some(Ok(cold))) => {
            meter.arrived(sent.0);
            if cold.is_some() {
                tokio::task::spawn_blocking(move || ending.forget_pages());
            }
            Ok(Outcome::Sent { reply, md5, sent })
        }
        // The reader's failure takes precedence over that of the network, unless it was only stopped.
        (_, Some(Err(failure))) if failure.kind != FailureKind::Cancelled => fail(failure.clone()),
        (Err(failure), _) => fail(failure),
        // Bytes that are already there are not read to the end.
        (Ok(reply), _) if reply.is_found() => Ok(Outcome::Sent { reply, md5, sent }),
        (Ok(_), _) => {
            let message = "the storage took a part before it was sent whole";
            fail(Failure::new(FailureKind::PartRejected, message))
        }
    }
}

/// Returns whether the content that arrived may not be a version of the file: it was sent whole, or
/// the storage has other bytes than were digested before they were read again for sending.
fn may_be_overwritten(
    done: &Result<Reply, Failure>,
    request: &PutRequest,
    replaces: Replaces,
) -> bool {
    match done {
        Ok(_) => matches!(request, PutRequest::Whole(_)) && replaces == Replaces::ByETag,
        Err(failure) => failure.kind == FailureKind::Damaged,
    }
}

/// Returns whether a file was overwritten while it was sent: then the next try replaces what was
/// sent, or uses another name if nothing can be replaced.
async fn is_overwritten(world: &Arc<World>, sending: &Sending, md5: Md5) -> bool {
    let (from, sent) = (sending.source.clone(), [(sending.range, md5)]);
    let (file, what) = (source_file(world, from.clone()), reading(from));
    let prove = move |world: &World, stop: &hung::Watched<'_>| {
        let file = file?;
        match world.parts.prove_parts(&file, &sent, None, stop)? {
            PartsProof::Moved(seen) => world.parts.prove_parts(&file, &sent, Some(&seen), stop),
            proof @ PartsProof::Read { .. } => Ok(proof),
        }
    };
    let proof = hung::read(world, what, prove).await;
    matches!(proof, Ok(PartsProof::Read { differing, .. }) if !differing.is_empty())
}

/// Digests a part, and returns its bytes: kept in memory, or to be read again.
async fn prepare(world: &Arc<World>, sending: &Sending) -> Result<(Md5, PartBytes), Setback> {
    let (range, drop) = (sending.range, sending.source.drop.clone());
    let file = source_file(world, sending.source.clone()).or_else(failed)?;
    let is_part = range.length < file.fingerprint.size.0;
    let room = if is_part { None } else { room_to_keep(world, range.length) };
    let wanted = WantedRange { file: file.clone(), range, room };
    let part_of = is_part.then_some(sending.upload);
    let digested = digest(world, &drop, part_of, wanted).await.or_else(failed)?;
    let bytes = match digested.kept {
        Some(kept) => PartBytes::kept(kept),
        None => {
            let room = world.parts.room_to_read_again().await;
            PartBytes::read_again(file, range, digested.is_cold, room)
        }
    };
    Ok((digested.md5, bytes))
}

/// Reserves memory for a small file, if there is any.
fn room_to_keep(world: &World, length: u64) -> Option<Room> {
    (length <= KEPT_BYTES_MAX).then(|| world.parts.try_room_for_whole(length)).flatten()
}

/// A file that is being read.
struct OpenFile {
    drop: DirectoryName,
    path: SourcePath,
    device: u64,
}

/// The bytes of a part, until their reader hangs.
struct Patient {
    chunks: PartBytes,
    world: Arc<World>,
    file: OpenFile,
    /// The next tick, while waiting for a chunk.
    tick: Pin<Box<tokio::time::Sleep>>,
    still: u32,
    has_hung: Arc<AtomicBool>,
}

impl Patient {
    fn new(
        chunks: PartBytes,
        world: &Arc<World>,
        file: OpenFile,
        has_hung: Arc<AtomicBool>,
    ) -> Self {
        let (world, tick) = (Arc::clone(world), Box::pin(tokio::time::sleep(TICK)));
        Self { chunks, world, file, tick, still: 0, has_hung }
    }

    fn limit(&self) -> u32 {
        match drop_of(&self.world, &self.file.drop) {
            Ok(source) => source.hung.limit(&self.world, self.file.device),
            Err(_) => hung::limit(&self.world),
        }
    }
}

impl Stream for Patient {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if let Poll::Ready(chunk) = this.chunks.poll_next_unpin(context) {
            this.still = 0;
            return Poll::Ready(chunk);
        }
        loop {
            ready!(this.tick.as_mut().poll(context));
            this.tick = Box::pin(tokio::time::sleep(TICK));
            this.still += 1;
            if this.still > this.limit() {
                this.has_hung.store(true, Ordering::Relaxed);
                let failure = given_up(&this.file.path);
                return Poll::Ready(Some(Err(io::Error::other(failure))));
            }
        }
    }
}

/// Passes the bytes on at the permitted rate, and counts them.
struct Paced {
    chunks: Patient,
    /// The rest of a chunk.
    rest: Bytes,
    /// A slice that waits for the permitted rate.
    waiting: Option<BoxFuture<'static, io::Result<Bytes>>>,
    slice: usize,
    pacer: Arc<Bandwidth>,
    counters: Counters,
}

/// The counters of a part's bytes.
struct Counters {
    sent: Arc<AtomicU64>,
    meter: Arc<Meter>,
    flow: Arc<FlowMeter>,
    clock: Clock,
}

impl Counters {
    fn note(&self, slice: &Bytes) {
        let length = slice.len() as u64;
        self.meter.count(self.sent.fetch_add(length, Ordering::Relaxed), length);
        self.flow.count(length, self.clock.now().monotonic);
    }
}

impl Paced {
    fn new(chunks: Patient, pacer: &Arc<Bandwidth>, counters: Counters) -> Self {
        let (pacer, slice) = (Arc::clone(pacer), pacer.slice());
        Self { chunks, rest: Bytes::new(), waiting: None, slice, pacer, counters }
    }
}

impl Stream for Paced {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.waiting.is_none() {
            if this.rest.is_empty() {
                match ready!(this.chunks.poll_next_unpin(context)) {
                    Some(Ok(chunk)) => this.rest = chunk,
                    ended => return Poll::Ready(ended),
                }
            }
            let slice = this.rest.split_to(this.rest.len().min(this.slice));
            if !this.pacer.is_limited() {
                this.counters.note(&slice);
                return Poll::Ready(Some(Ok(slice)));
            }
            let pacer = Arc::clone(&this.pacer);
            let wait = async move {
                pacer.pace(slice.len() as u64).await.map_err(io::Error::other)?;
                Ok(slice)
            };
            this.waiting = Some(wait.boxed());
        }
        let Some(waiting) = &mut this.waiting else { return Poll::Pending };
        let paced = ready!(waiting.poll_unpin(context));
        this.waiting = None;
        if let Ok(slice) = &paced {
            this.counters.note(slice);
        }
        Poll::Ready(Some(paced))
    }
}

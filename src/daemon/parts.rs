//! The acts that move bytes: one part, or one whole file, read, paced and sent.
//!
//! Where digests are wanted first, parts of one drop directory that come together are read together, on
//! one thread, and digested side by side: a lane costs no thread, and waking one takes longer than reading
//! a small file. A small file is sent from memory, where there is room for it; what is larger is read again
//! as it is sent, and of a file of many parts more are digested than are on their way
//! ([`super::digests`]).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Stream, StreamExt};
use tokio::sync::oneshot;

use super::bandwidth::Bandwidth;
use super::digests::Answer;
use super::hung::{self, TICK, given_up, unless_still};
use super::meters::Meter;
use super::perform::{World, drop_of, failed, source_file, to};
use super::servings;
use super::workers::Reply;
use crate::engine::event::{Outcome, PutPart, PutWhole, Remotely, Setback, Source};
use crate::model::{
    ByteCount, ByteRange, DirectoryName, Failure, FailureKind, SourcePath, UploadId,
};
use crate::platform::Destination;
use crate::platform::contract::{PartBody, PartRequest, Whole, WholeRequest};
use crate::source::{Digested, Known, PartRead, PartStream, Prepared, Room, SourceFile, Wanted};

/// Of larger files the page cache holds what is sent: reading it from there again costs less than the
/// memory would.
const HELD_BYTES_MAX: u64 = 1024 * 1024;

/// A range of a file that is to be sent.
struct Piece {
    upload: UploadId,
    source: Source,
    range: ByteRange,
}

/// Sends one part.
pub(super) async fn put(world: &Arc<World>, act: Remotely<PutPart>) -> Reply {
    let PutPart { remote, part, source, range, begin } = act.what;
    let destination = to(world, &act.destination).or_else(failed)?;
    let asked = PartRequest { remote, part, begun: (*begin).into() };
    let put = |body| destination.put_part(&asked, body);
    let piece = Piece { upload: act.upload, source, range };
    let (stored, read, sent) = send(world, destination, piece, put).await?;
    Ok(Outcome::PartPut { stored, md5: read.md5, sent })
}

/// Sends a file of one part in one request.
pub(super) async fn put_whole(world: &Arc<World>, act: Remotely<PutWhole>) -> Reply {
    let PutWhole { begin, source, looks } = act.what;
    let destination = to(world, &act.destination).or_else(failed)?;
    let range = ByteRange { offset: 0, length: begin.size.0 };
    let asked = WholeRequest { begun: (*begin).into(), looks };
    let put = |body| destination.put_whole(&asked, body);
    let piece = Piece { upload: act.upload, source, range };
    let (put, read, sent) = send(world, destination, piece, put).await?;
    let Whole { remote, stored, file } = put;
    Ok(Outcome::WholePut { remote, stored, file, md5: read.md5, sent })
}

/// Reads a range, sends it by a call, and says what came of both, and how many bytes went.
async fn send<T, F: Future<Output = Result<T, Failure>>>(
    world: &Arc<World>,
    destination: &Destination,
    piece: Piece,
    call: impl FnOnce(PartBody) -> F,
) -> Result<(T, PartRead, ByteCount), Setback> {
    let (length, upload) = (ByteCount(piece.range.length), piece.upload);
    let Source { drop, path, is_receipt, .. } = piece.source.clone();
    let hung = drop_of(world, &drop).ok().filter(|_| !is_receipt).map(|source| &source.hung);
    let device = piece.source.fingerprint.device;
    hung.map_or(Ok(()), |hung| hung.check(&path, device)).or_else(failed)?;
    let prepared = prepare(world, piece, destination.traits().wants_md5_first).await?;
    let Prepared { md5, chunks, mut ending } = prepared;
    let in_flight = world.bandwidth.meters.begin(upload);
    let (sent, meter) = (&in_flight.sent, world.bandwidth.meters.of(destination.name()));
    let has_hung = Arc::new(AtomicBool::new(false));
    let chunks = Patient::new(chunks, world, (drop, path.clone(), device), Arc::clone(&has_hung));
    let chunks = Paced::new(chunks, &world.bandwidth, (Arc::clone(sent), Arc::clone(&meter)));
    let done = call(PartBody { length, md5, chunks: chunks.boxed() }).await;
    let sent = ByteCount(sent.load(Ordering::Relaxed));
    let ended = match has_hung.load(Ordering::Relaxed) {
        true => None,
        false => unless_still(|| hung::limit(world), || 0, &mut ending).await,
    };
    let ended = ended.unwrap_or_else(|| {
        use oneshot::error::TryRecvError::Empty;
        let failure = given_up(&path);
        if let Some(hung) = hung {
            hung.leave(path, device, Box::new(move || ending.try_recv().err() != Some(Empty)));
        }
        Ok(Err(failure))
    });
    match (done, ended) {
        (Ok(done), Ok(Ok((read, cold)))) => {
            meter.arrived(sent.0);
            if let Some(pages) = cold {
                tokio::task::spawn_blocking(|| pages.forget());
            }
            Ok((done, read, sent))
        }
        // What the reader says goes before what the network made of it, unless it was merely stopped.
        (_, Ok(Err(failure))) if failure.kind != FailureKind::Cancelled => {
            Err(Setback { failure, sent })
        }
        (Err(failure), _) => Err(Setback { failure, sent }),
        (Ok(_), _) => {
            let message = "the storage took a part before it was sent whole";
            Err(Setback { failure: Failure::new(FailureKind::PartRejected, message), sent })
        }
    }
}

/// Makes a part ready: held or streamed, and digested before where the platform wants it.
async fn prepare(
    world: &Arc<World>,
    piece: Piece,
    wants_md5_first: bool,
) -> Result<Prepared, Setback> {
    let Piece { upload, source, range } = piece;
    let drop = source.drop.clone();
    let file = source_file(world, source).or_else(failed)?;
    if !wants_md5_first {
        let room = world.parts.room_for_stream().await;
        return Ok(world.parts.stream(file, range, room));
    }
    let known = if range.length < file.fingerprint.size.0 {
        known_part(world, drop, upload, (file, range)).await
    } else if let Some(room) = room_to_hold(world, range.length) {
        return held(world, drop, Wanted::new(file, range, Some(room))).await.or_else(failed);
    } else {
        known(world, drop, Wanted::new(file, range, None)).await
    };
    let known = known.or_else(failed)?;
    let room = world.parts.room_for_stream().await;
    Ok(world.parts.send_known(known, room))
}

/// Reserves room for a small file, where there is any.
fn room_to_hold(world: &World, length: u64) -> Option<Room> {
    (length <= HELD_BYTES_MAX).then(|| world.parts.try_room_for_whole(length)).flatten()
}

async fn held(
    world: &Arc<World>,
    drop: DirectoryName,
    wanted: Wanted,
) -> Result<Prepared, Failure> {
    let join = |answer| Ok(drop_of(world, &drop)?.digests.join(wanted, answer));
    match digest(world, &drop, join).await? {
        Digested::Held(prepared) => Ok(prepared),
        Digested::Read(_) => Err(Failure::new(FailureKind::LocalFault, "nothing is held")),
    }
}

async fn known(world: &Arc<World>, drop: DirectoryName, wanted: Wanted) -> Result<Known, Failure> {
    let join = |answer| Ok(drop_of(world, &drop)?.digests.join(wanted, answer));
    let_go(digest(world, &drop, join).await?)
}

/// Has a part of a larger file digested, and with it those that follow.
async fn known_part(
    world: &Arc<World>,
    drop: DirectoryName,
    upload: UploadId,
    of: (SourceFile, ByteRange),
) -> Result<Known, Failure> {
    let lanes = world.parts.lanes();
    let join = |answer| Ok(drop_of(world, &drop)?.digests.join_part(upload, of, answer, lanes));
    let_go(digest(world, &drop, join).await?)
}

fn let_go(digested: Digested) -> Result<Known, Failure> {
    match digested {
        Digested::Read(known) => Ok(known),
        Digested::Held(_) => Err(Failure::new(FailureKind::LocalFault, "it is held")),
    }
}

/// Takes a place in the line of digests, has it served where nobody does, and waits for the answer.
async fn digest(
    world: &Arc<World>,
    drop: &DirectoryName,
    join: impl FnOnce(Answer) -> Result<bool, Failure>,
) -> Result<Digested, Failure> {
    let (answer, mut answered) = oneshot::channel();
    let source = drop_of(world, drop)?;
    if join(answer)? {
        servings::start(world, drop, source);
    }
    loop {
        match tokio::time::timeout(TICK, &mut answered).await {
            Ok(Ok(digested)) => return digested,
            Ok(Err(_)) => return Err(Failure::new(FailureKind::Cancelled, "the daemon stops")),
            Err(_) => servings::watch_over(world, drop, source),
        }
    }
}

/// The bytes of a part, as long as their reader does not hang.
struct Patient {
    chunks: PartStream,
    world: Arc<World>,
    /// Its drop directory, the file, and the device it lies on.
    of: (DirectoryName, SourcePath, u64),
    /// The next tick, while a chunk is waited for.
    tick: Pin<Box<tokio::time::Sleep>>,
    still: u32,
    has_hung: Arc<AtomicBool>,
}

impl Patient {
    fn new(
        chunks: PartStream,
        world: &Arc<World>,
        of: (DirectoryName, SourcePath, u64),
        has_hung: Arc<AtomicBool>,
    ) -> Self {
        let (world, tick) = (Arc::clone(world), Box::pin(tokio::time::sleep(TICK)));
        Self { chunks, world, of, tick, still: 0, has_hung }
    }

    fn limit(&self) -> u32 {
        match drop_of(&self.world, &self.of.0) {
            Ok(source) => source.hung.limit(&self.world, self.of.2),
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
                let failure = given_up(&this.of.1);
                return Poll::Ready(Some(Err(io::Error::other(failure))));
            }
        }
    }
}

/// Lets the bytes go as fast as they may, and counts them.
struct Paced {
    chunks: Patient,
    /// What of a chunk has not gone.
    rest: Bytes,
    /// A slice that waits until it may go.
    waiting: Option<BoxFuture<'static, io::Result<Bytes>>>,
    slice: usize,
    pacer: Arc<Bandwidth>,
    counter: Arc<AtomicU64>,
    meter: Arc<Meter>,
}

impl Paced {
    fn new(
        chunks: Patient,
        pacer: &Arc<Bandwidth>,
        (counter, meter): (Arc<AtomicU64>, Arc<Meter>),
    ) -> Self {
        let (pacer, slice) = (Arc::clone(pacer), pacer.slice());
        Self { chunks, rest: Bytes::new(), waiting: None, slice, pacer, counter, meter }
    }

    fn note(&self, slice: &Bytes) {
        let length = slice.len() as u64;
        self.meter.count(self.counter.fetch_add(length, Ordering::Relaxed), length);
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
                this.note(&slice);
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
            this.note(slice);
        }
        Poll::Ready(Some(paced))
    }
}

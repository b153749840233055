//! The acts that move bytes: one part, or one whole file, read, paced and sent.
//!
//! Where digests are wanted first, parts of one drop directory that come together are read together, on
//! one thread, and digested side by side: a lane costs no thread, and waking one takes longer than reading
//! a small file.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::oneshot;

use super::bandwidth::Bandwidth;
use super::line::{Line, served};
use super::meters::Meter;
use super::perform::{World, drop_of, failed, source_file, to};
use super::workers::Reply;
use crate::engine::event::{Outcome, PutPart, PutWhole, Remotely, Setback, Source};
use crate::model::{ByteCount, ByteRange, DropName, Failure, FailureKind};
use crate::platform::Destination;
use crate::platform::contract::{PartBody, PartRequest, Whole, WholeRequest};
use crate::source::{Digested, PartRead, PartStream, Prepared, Wanted};

/// Parts of one drop directory whose digests are wanted.
pub(crate) type Digests = Line<(Wanted, oneshot::Sender<Result<Digested, Failure>>)>;

/// Sends one part.
pub(super) async fn put(world: &Arc<World>, act: Remotely<PutPart>) -> Reply {
    let PutPart { remote, part, source, range, begin } = act.what;
    let destination = to(world, &act.destination).or_else(failed)?;
    let asked = PartRequest { remote, part, begun: (*begin).into() };
    let put = |body| destination.put_part(&asked, body);
    let (etag, read, sent) = send(world, destination, (source, range), put).await?;
    Ok(Outcome::PartPut { etag, md5: read.md5, sent })
}

/// Sends a file of one part in one request.
pub(super) async fn put_whole(world: &Arc<World>, act: Remotely<PutWhole>) -> Reply {
    let PutWhole { begin, source, looks } = act.what;
    let destination = to(world, &act.destination).or_else(failed)?;
    let range = ByteRange { offset: 0, length: begin.size.0 };
    let asked = WholeRequest { begun: (*begin).into(), looks };
    let put = |body| destination.put_whole(&asked, body);
    let (put, read, sent) = send(world, destination, (source, range), put).await?;
    let Whole { remote, etag, file } = put;
    Ok(Outcome::WholePut { remote, etag, file, md5: read.md5, sent })
}

/// Reads a range, sends it by a call, and says what came of both, and how many bytes went.
async fn send<T, F: Future<Output = Result<T, Failure>>>(
    world: &Arc<World>,
    destination: &Destination,
    (source, range): (Source, ByteRange),
    call: impl FnOnce(PartBody) -> F,
) -> Result<(T, PartRead, ByteCount), Setback> {
    let prepared = prepare(world, source, range, destination.traits().wants_md5_first).await?;
    let Prepared { md5, chunks, ending } = prepared;
    let sent = Arc::new(AtomicU64::new(0));
    let meter = world.bandwidth.meters.of(destination.name());
    let chunks = paced(chunks, &world.bandwidth, (Arc::clone(&sent), Arc::clone(&meter)));
    let done = call(PartBody { length: ByteCount(range.length), md5, chunks }).await;
    let sent = ByteCount(sent.load(Ordering::Relaxed));
    match (done, ending.await) {
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
    source: Source,
    range: ByteRange,
    wants_md5_first: bool,
) -> Result<Prepared, Setback> {
    let drop = source.drop.clone();
    let file = source_file(world, source).or_else(failed)?;
    if !wants_md5_first {
        let room = world.parts.room_for_stream().await;
        return Ok(world.parts.stream(file, range, room, None));
    }
    if let Some(room) = world.parts.try_room_for_whole(range.length) {
        let wanted = Wanted { file, range, room: Some(room) };
        return match digest(world, drop, wanted).await.or_else(failed)? {
            Digested::Held(prepared) => Ok(prepared),
            Digested::Read(_) => failed(Failure::new(FailureKind::LocalFault, "nothing is held")),
        };
    }
    let room = world.parts.room_for_stream().await;
    let wanted = Wanted { file: file.clone(), range, room: None };
    let read = match digest(world, drop, wanted).await.or_else(failed)? {
        Digested::Read(read) => read,
        Digested::Held(_) => return failed(Failure::new(FailureKind::LocalFault, "it is held")),
    };
    Ok(world.parts.stream(file, range, room, Some(read.md5)))
}

/// Has a part digested, with others of its drop directory that are wanted meanwhile.
async fn digest(world: &Arc<World>, drop: DropName, wanted: Wanted) -> Result<Digested, Failure> {
    let (answer, answered) = oneshot::channel();
    if drop_of(world, &drop)?.digests.join((wanted, answer)) {
        let world = Arc::clone(world);
        tokio::task::spawn_blocking(move || serve(&world, &drop));
    }
    served(answered).await
}

fn serve(world: &World, drop: &DropName) {
    let Ok(source) = drop_of(world, drop) else { return };
    let more = |most, is_busy| source.digests.take(most, is_busy);
    // Whoever wanted it may be gone.
    let done = |answer: oneshot::Sender<_>, digested| {
        answer.send(digested).ok();
    };
    world.parts.digest_together(more, done, &world.stop);
}

/// Lets the bytes go as fast as they may, and counts them.
fn paced(
    chunks: PartStream,
    pacer: &Arc<Bandwidth>,
    (counter, meter): (Arc<AtomicU64>, Arc<Meter>),
) -> BoxStream<'static, io::Result<Bytes>> {
    let (pacer, slice) = (Arc::clone(pacer), pacer.slice());
    let pieces = chunks.flat_map(move |piece| stream::iter(slices(piece, slice)));
    let pieces = pieces.then(move |piece| {
        let (counter, meter) = (Arc::clone(&counter), Arc::clone(&meter));
        let pacer = Arc::clone(&pacer);
        async move {
            if let Ok(bytes) = &piece {
                pacer.pace(bytes.len() as u64).await.map_err(io::Error::other)?;
                let length = bytes.len() as u64;
                meter.count(counter.fetch_add(length, Ordering::Relaxed), length);
            }
            piece
        }
    });
    pieces.boxed()
}

/// Cuts a piece into slices; an error stays one.
fn slices(piece: io::Result<Bytes>, length: usize) -> Vec<io::Result<Bytes>> {
    let Ok(mut rest) = piece else { return vec![piece] };
    let mut slices = Vec::with_capacity(rest.len().div_ceil(length).max(1));
    while rest.len() > length {
        slices.push(Ok(rest.split_to(length)));
    }
    slices.push(Ok(rest));
    slices
}

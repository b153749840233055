//! The act that moves bytes: one part, read, paced and sent.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::bandwidth::Bandwidth;
use super::perform::{World, off_the_loop, source_file, to};
use super::workers::Reply;
use crate::engine::event::{Outcome, PutPart, Remotely, Setback};
use crate::model::{ByteCount, ByteRange, Failure, FailureKind};
use crate::platform::contract::{PartBody, PartRequest};
use crate::source::{PartStream, Prepared, SourceFile};

/// Sends one part.
pub(super) async fn put(world: &Arc<World>, act: Remotely<PutPart>) -> Reply {
    let PutPart { remote, part, source: from, range, begin } = act.what;
    let unsent = |failure| Setback { failure, sent: ByteCount(0) };
    let destination = to(world, &act.destination).map_err(unsent)?;
    let file = source_file(world, from).map_err(unsent)?;
    let prepared = prepare(world, file, range, destination.traits().wants_md5_first).await?;
    let Prepared { md5, chunks, ending } = prepared;
    let sent = Arc::new(AtomicU64::new(0));
    let chunks = paced(chunks, &world.bandwidth, Arc::clone(&sent));
    let body = PartBody { length: ByteCount(range.length), md5, chunks };
    let asked = PartRequest { remote, part, begun: (*begin).into() };
    let put = destination.put_part(&asked, body).await;
    let sent = ByteCount(sent.load(Ordering::Relaxed));
    match (put, ending.await) {
        (Ok(etag), Ok(Ok((read, cold)))) => {
            if let Some(pages) = cold {
                tokio::task::spawn_blocking(|| pages.forget());
            }
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

/// Makes a part ready: held or streamed, and hashed before where the platform wants it.
async fn prepare(
    world: &Arc<World>,
    file: SourceFile,
    range: ByteRange,
    wants_md5_first: bool,
) -> Result<Prepared, Setback> {
    if !wants_md5_first {
        let room = world.parts.room_for_stream().await;
        return Ok(world.parts.stream(file, range, room, None));
    }
    let reads = Arc::clone(world);
    if let Some(room) = world.parts.try_room_for_whole(range.length) {
        let hold = move || reads.parts.hold(&file, range, &room, &reads.stop);
        return off_the_loop(hold).await;
    }
    let room = world.parts.room_for_stream().await;
    let hash = {
        let file = file.clone();
        move || reads.parts.hash_range(&file, range, &reads.stop)
    };
    let read = off_the_loop(hash).await?;
    Ok(world.parts.stream(file, range, room, Some(read.md5)))
}

/// Lets the bytes go as fast as they may, and counts them.
fn paced(
    chunks: PartStream,
    pacer: &Arc<Bandwidth>,
    counter: Arc<AtomicU64>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let (pacer, slice) = (Arc::clone(pacer), pacer.slice());
    let pieces = chunks.flat_map(move |piece| stream::iter(slices(piece, slice)));
    let pieces = pieces.then(move |piece| {
        let (counter, pacer) = (Arc::clone(&counter), Arc::clone(&pacer));
        async move {
            if let Ok(bytes) = &piece {
                pacer.pace(bytes.len() as u64).await.map_err(io::Error::other)?;
                counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
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

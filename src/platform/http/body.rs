//! A part's body in flight: of the exact announced length, streamed, monitored.
//!
//! Owns the stream of one part while it is sent. Large pieces are passed on in slices, so that the
//! inactivity time-out sees a slow line move. The last piece is held back until the stream has
//! ended: a source that finds at its end that the file changed makes the request fail before the
//! storage could accept the part. A stream with too few or too many bytes does the same.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::BoxStream;
use http_body::{Frame, SizeHint};

use crate::model::{Failure, FailureKind};
use crate::platform::contract::PartBody;

/// One slice for the connection: small enough to show movement on a line of a few kB/s.
const SLICE_MAX: usize = 128 * 1024;

/// Counts movements. The monitor reads it at intervals, and is not woken for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress(Arc<ProgressCount>);

#[derive(Debug, Default)]
struct ProgressCount {
    count: AtomicU64,
    waits_for_source: AtomicBool,
    is_sent: AtomicBool,
}

impl Progress {
    /// Starts for a request without a body.
    pub(super) fn sent() -> Self {
        let progress = Self::default();
        progress.set_sent();
        progress
    }

    /// The whole request was passed to the connection.
    pub(super) fn set_sent(&self) {
        self.0.is_sent.store(true, Ordering::Relaxed);
    }

    /// Returns whether the server's answer is awaited.
    pub(super) fn is_sent(&self) -> bool {
        self.0.is_sent.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self) {
        self.0.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of movements.
    pub(super) fn count(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Returns whether the connection could accept more and the source gave nothing.
    pub(super) fn waits_for_source(&self) -> bool {
        self.0.waits_for_source.load(Ordering::Relaxed)
    }

    fn set_waits_for_source(&self, waits: bool) {
        self.0.waits_for_source.store(waits, Ordering::Relaxed);
    }
}

/// The body of a non-empty part.
pub(super) struct Streamed {
    /// Behind a lock only because a body must be `Sync`; never contended.
    chunks: Mutex<BoxStream<'static, io::Result<Bytes>>>,
    /// Received from the stream, not passed on yet.
    held: Bytes,
    /// Announced bytes that were not passed on yet.
    left: u64,
    has_ended: bool,
    progress: Progress,
}

impl Streamed {
    pub(super) fn new(body: PartBody, progress: Progress) -> Self {
        let chunks = Mutex::new(body.chunks);
        Self { chunks, held: Bytes::new(), left: body.length.0, has_ended: false, progress }
    }

    /// Returns the next slice to send.
    fn slice(&mut self) -> Option<Bytes> {
        let is_last = self.held.len() as u64 >= self.left;
        if self.held.is_empty() || (is_last && !self.has_ended) {
            return None;
        }
        let slice = self.held.split_to(self.held.len().min(SLICE_MAX));
        self.left = self.left.saturating_sub(slice.len() as u64);
        self.progress.note();
        if self.left == 0 {
            self.progress.set_sent();
        }
        Some(slice)
    }

    /// Polls the next chunk of the stream, or its end.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let chunks = self.chunks.get_mut().unwrap_or_else(PoisonError::into_inner);
        let polled = Pin::new(chunks).poll_next(context);
        self.progress.set_waits_for_source(polled.is_pending());
        match ready!(polled) {
            None if (self.held.len() as u64) < self.left => Poll::Ready(Err(odd("less"))),
            None => {
                self.has_ended = true;
                Poll::Ready(Ok(()))
            }
            Some(Err(error)) => Poll::Ready(Err(source_failure(&error))),
            Some(Ok(chunk)) if chunk.is_empty() => Poll::Ready(Ok(())),
            Some(Ok(chunk)) if !self.held.is_empty() || chunk.len() as u64 > self.left => {
                Poll::Ready(Err(odd("more")))
            }
            Some(Ok(chunk)) => {
                self.held = chunk;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        loop {
            if let Some(slice) = self.slice() {
                return Poll::Ready(Some(Ok(Frame::data(slice))));
            }
            if self.has_ended {
                return Poll::Ready(None);
            }
            if let Err(failure) = ready!(self.poll_chunk(context)) {
                return Poll::Ready(Some(Err(failure)));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Checks a chunk of a part that must be empty.
pub(super) fn expect_empty(chunk: io::Result<Bytes>) -> Result<(), Failure> {
    match chunk {
        Ok(chunk) if chunk.is_empty() => Ok(()),
        Ok(_) => Err(odd("more")),
        Err(error) => Err(source_failure(&error)),
    }
}

/// Returns the failure inside a stream's error, or makes one of it.
fn source_failure(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Failure>()) {
        Some(failure) => failure.clone(),
        None => {
            let message = format!("reading the part broke off: {error}");
            Failure::new(FailureKind::SourceUnreadable, message)
        }
    }
}

fn odd(much: &str) -> Failure {
    let message = format!("the source gave {much} bytes than the part has");
    Failure::new(FailureKind::SourceUnreadable, message)
}

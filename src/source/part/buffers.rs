//! Memory for the bytes of parts: reused page-aligned buffers, never more than the budget.
//!
//! Owns the budget of `transfer.memory`. A [`Room`] is a reserved share of it; its buffers are
//! returned when the last byte of the last one is released, and the share with them. So the bytes
//! held here and in flight in the connections never exceed the budget, whatever the sizes of parts.
//! Buffers are kept for the next part; all but a few unused ones are returned to the system once
//! nothing is reserved.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::ByteCount;

/// Bytes per read. Larger reads save nothing measurable; smaller ones cost system calls.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;

/// Buffers begin on a page: reading into the middle of one doubles the kernel's work on some
/// processors.
const PAGE_BYTES: usize = 4096;

/// One buffer's share of the budget.
pub(super) const BUFFER_BYTES: u64 = (CHUNK_BYTES + PAGE_BYTES) as u64;

/// Unused buffers that are kept while nothing is reserved: enough for a few small files.
const KEPT: usize = 8;

/// All buffers of the process.
#[derive(Debug, Clone)]
pub(super) struct Buffers(Arc<BufferPool>);

#[derive(Debug)]
struct BufferPool {
    room: Arc<Semaphore>,
    capacity: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// Creates a budget, which is at least large enough for a single stream.
    pub(super) fn new(memory: ByteCount, stream: u32) -> Self {
        let count = usize::try_from(memory.0 / BUFFER_BYTES).unwrap_or(Semaphore::MAX_PERMITS);
        let capacity = count.clamp(stream as usize, Semaphore::MAX_PERMITS);
        let room = Arc::new(Semaphore::new(capacity));
        Self(Arc::new(BufferPool { room, capacity, free: Mutex::default() }))
    }

    /// Reserves room for all of `length` bytes, if it is free; a quarter of the budget is left for
    /// parts that need little.
    pub(super) fn try_whole(&self, length: u64) -> Option<Room> {
        let count = u32::try_from(length.div_ceil(CHUNK_BYTES as u64).max(1)).ok()?;
        let left = self.0.room.available_permits().checked_sub(count as usize)?;
        if count > 1 && left < self.0.capacity / 4 {
            return None;
        }
        let permit = Arc::clone(&self.0.room).try_acquire_many_owned(count).ok()?;
        Some(self.room(Some(permit)))
    }

    pub(super) async fn some(&self, count: u32) -> Room {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.0.room).acquire_many_owned(count).await.ok();
        self.room(permit)
    }

    /// Returns room outside of the budget, for a caller that holds one buffer at a time.
    pub(super) fn aside(&self) -> Room {
        self.room(None)
    }

    fn room(&self, permit: Option<OwnedSemaphorePermit>) -> Room {
        Room(Arc::new(Share { permit, shared: Arc::clone(&self.0) }))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Room(Arc<Share>);

#[derive(Debug)]
struct Share {
    permit: Option<OwnedSemaphorePermit>,
    shared: Arc<BufferPool>,
}

impl Room {
    /// Returns a page-aligned chunk of at most `left` bytes. The caller must not exceed its reservation.
    pub(super) fn take(&self, left: u64) -> Chunk {
        let free = self.0.shared.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let memory = free.unwrap_or_else(|| vec![0; CHUNK_BYTES + PAGE_BYTES]);
        let start = memory.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
        let length = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        Chunk { memory, start, length, room: self.clone() }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        drop(self.permit.take());
        if self.shared.room.available_permits() == self.shared.capacity {
            let mut free = self.shared.free.lock().unwrap_or_else(PoisonError::into_inner);
            free.truncate(KEPT);
            free.shrink_to_fit();
        }
    }
}

/// A filled piece of a buffer, which is returned when dropped.
#[derive(Debug)]
pub(super) struct Chunk {
    memory: Vec<u8>,
    start: usize,
    length: usize,
    room: Room,
}

impl Chunk {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Removes the bytes beyond `length`.
    pub(super) fn cut(&mut self, length: usize) {
        self.length = self.length.min(length);
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl AsMut<[u8]> for Chunk {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let free = &self.room.0.shared.free;
        free.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Waker};

    use bytes::Bytes;

    use super::*;

    fn buffers(count: u64) -> Buffers {
        Buffers::new(ByteCount(count * BUFFER_BYTES), 1)
    }

    fn free(buffers: &Buffers) -> usize {
        buffers.0.free.lock().unwrap().len()
    }

    #[test]
    fn chunks_are_aligned_and_their_buffers_used_again() {
        let buffers = buffers(4);
        let room = buffers.try_whole(1).unwrap();
        let first = room.take(10 * CHUNK_BYTES as u64);
        assert_eq!((first.as_ref().len(), first.len()), (CHUNK_BYTES, CHUNK_BYTES));
        assert_eq!(first.as_ref().as_ptr().align_offset(PAGE_BYTES), 0);
        let address = first.as_ref().as_ptr();
        drop(Bytes::from_owner(first));
        let second = room.take(5);
        assert_eq!((second.as_ref().as_ptr(), second.as_ref().len()), (address, 5));
    }

    #[test]
    fn room_comes_back_with_the_last_byte() {
        let buffers = buffers(2);
        let room = buffers.try_whole(1).unwrap();
        let bytes = Bytes::from_owner(room.take(9));
        let piece = bytes.slice(3..4);
        drop((room, bytes));
        let other = buffers.try_whole(1).unwrap();
        assert!(buffers.try_whole(1).is_none(), "a byte of the first one is still held");
        drop(piece);
        assert!(buffers.try_whole(1).is_some());
        drop(other);
    }

    #[test]
    fn large_parts_leave_a_quarter_to_small_ones() {
        let buffers = buffers(8);
        let six = 6 * CHUNK_BYTES as u64;
        assert!(buffers.try_whole(six + 1).is_none());
        let _large = buffers.try_whole(six).unwrap();
        assert!(buffers.try_whole(2 * CHUNK_BYTES as u64).is_none());
        let _small = [buffers.try_whole(1).unwrap(), buffers.try_whole(0).unwrap()];
        assert!(buffers.try_whole(1).is_none());
        assert!(buffers.try_whole(u64::MAX).is_none());
    }

    #[tokio::test]
    async fn who_waits_is_served_when_room_is_there_and_few_buffers_stay() {
        let buffers = buffers(32);
        let all = buffers.some(32).await;
        let chunks: Vec<_> = (0..32).map(|_| all.take(1)).collect();
        let mut waiting = Box::pin(buffers.some(1));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        drop(chunks);
        assert_eq!(free(&buffers), 32);
        drop(all);
        drop(waiting.await);
        assert_eq!(free(&buffers), KEPT);
    }

    #[test]
    fn a_budget_below_one_stream_is_one_stream() {
        let buffers = Buffers::new(ByteCount(1), 6);
        assert_eq!(buffers.0.capacity, 6);
    }
}

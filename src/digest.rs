//! MD5 of many messages at once.
//!
//! Owns the arithmetic between read bytes and an [`Md5`]. MD5 cannot be split into pieces that are
//! hashed in parallel, but *different* messages can: a vector register holds the same word of 4, 8
//! or 16 of them, and one pass over it advances all. Parts of one file are different messages, and
//! so are small files, so an uploader always has several in progress.
//!
//! - [`Hasher`] is one message in progress: plain data, advanced alone or with others.
//! - [`advance`] and [`digest_many`] process the messages that the caller has.
//!
//! Promises: the result is that of MD5, whatever the width, the split and the other messages.
//! Nothing here reads a file, a clock or a setting; after a crash the bytes are read again.
//! `unsafe` is in the kernels below this module and nowhere else in the program.

mod kernel;
mod width;

pub use width::VectorWidth;

use std::fmt;

use crate::model::Md5;
use kernel::Job;

/// Bytes of one MD5 step.
const BLOCK: usize = 64;
/// The initial state (RFC 1321, 3.3).
const START: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];

/// The bytes of one step.
type Block = [u8; BLOCK];

#[derive(Clone)]
pub struct Hasher {
    state: [u32; 4],
    /// Bytes processed so far.
    length: u64,
    /// The last `length % BLOCK` bytes, an incomplete block.
    partial: Block,
}

impl Hasher {
    pub fn new() -> Self {
        Self { state: START, length: 0, partial: [0; BLOCK] }
    }

    /// Appends bytes, without other messages.
    pub fn update(&mut self, bytes: &[u8]) {
        let (blocks, rest) = self.lead(bytes);
        kernel::alone(&mut self.state, blocks);
        self.keep(rest);
    }

    pub fn finish(mut self) -> Md5 {
        let (end, count) = self.end();
        kernel::alone(&mut self.state, &end[..count]);
        self.digest()
    }

    /// Counts the bytes, completes an incomplete block, and returns the whole blocks and the rest.
    fn lead<'a>(&mut self, bytes: &'a [u8]) -> (&'a [Block], &'a [u8]) {
        let held = self.held();
        self.length = self.length.wrapping_add(bytes.len() as u64);
        if held == 0 {
            return bytes.as_chunks();
        }
        let (first, rest) = bytes.split_at(bytes.len().min(BLOCK - held));
        self.partial[held..held + first.len()].copy_from_slice(first);
        if held + first.len() < BLOCK {
            return (&[], &[]);
        }
        kernel::alone(&mut self.state, &[self.partial]);
        rest.as_chunks()
    }

    /// Keeps the rest after the last whole block; empty if the bytes ended within an incomplete
    /// block.
    fn keep(&mut self, rest: &[u8]) {
        self.partial[..rest.len()].copy_from_slice(rest);
    }

    /// Bytes in the incomplete block.
    fn held(&self) -> usize {
        usize::try_from(self.length % BLOCK as u64).unwrap_or(0)
    }

    /// Returns the message's last blocks, one or two, with padding and length.
    fn end(&self) -> ([Block; 2], usize) {
        let mut end = [[0; BLOCK]; 2];
        let held = self.held();
        let count = if held + 9 <= BLOCK { 1 } else { 2 };
        let bytes = end.as_flattened_mut();
        bytes[..held].copy_from_slice(&self.partial[..held]);
        bytes[held] = 0x80;
        let bits = self.length.wrapping_mul(8).to_le_bytes();
        bytes[count * BLOCK - bits.len()..count * BLOCK].copy_from_slice(&bits);
        (end, count)
    }

    /// Returns the state as a digest, after the last blocks.
    fn digest(&self) -> Md5 {
        let mut out = [0; 16];
        for (to, word) in out.chunks_exact_mut(4).zip(self.state) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        Md5(out)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("length", &self.length).finish_non_exhaustive()
    }
}

/// Appends its bytes to each message, in parallel.
///
/// Lengths may differ: where bytes end, the next job uses the lane.
pub fn advance(width: VectorWidth, jobs: &mut [(&mut Hasher, &[u8])]) {
    let jobs = jobs.iter_mut().map(|(hasher, bytes)| {
        let (blocks, rest) = hasher.lead(bytes);
        hasher.keep(rest);
        Job { state: &mut hasher.state, blocks }
    });
    run(width, jobs);
}

/// Returns the digests of whole messages, in their order.
pub fn digest_many(width: VectorWidth, messages: &[&[u8]]) -> Vec<Md5> {
    let mut hashers = vec![Hasher::new(); messages.len()];
    let mut jobs: Vec<_> = hashers.iter_mut().zip(messages.iter().copied()).collect();
    advance(width, &mut jobs);
    let ends: Vec<_> = hashers.iter().map(Hasher::end).collect();
    let last = hashers.iter_mut().zip(&ends);
    run(
        width,
        last.map(|(hasher, (end, count))| Job { state: &mut hasher.state, blocks: &end[..*count] }),
    );
    hashers.iter().map(Hasher::digest).collect()
}

/// Processes all blocks of all jobs.
fn run<'a>(width: VectorWidth, jobs: impl Iterator<Item = Job<'a>>) {
    let mut waiting = jobs.filter(|job| !job.blocks.is_empty());
    let mut active = Vec::with_capacity(width.room());
    loop {
        active.extend(waiting.by_ref().take(width.room() - active.len()));
        let Some(count) = active.iter().map(|job: &Job<'_>| job.blocks.len()).min() else { return };
        kernel::step(width, &mut active, count);
        active.retain(|job| !job.blocks.is_empty());
    }
}

#[cfg(test)]
mod tests;

//! Kernels. A few messages take the portable kernel whatever the width is, so each width
//! is shown from where its own begins.

use std::hint::black_box;

use bytes::Bytes;
use dropferry::testing::digest::{Hasher, VectorWidth, advance, digest_many};
use md5::Digest;

use crate::Table;

/// A part of a file, and a small file.
const SIZES: [(usize, &str); 2] = [(8 << 20, "8 MiB"), (8 << 10, "8 KiB")];
/// What a reader hands over at a time.
const CHUNK: usize = 256 << 10;
const MESSAGES_MAX: usize = 32;

pub(crate) fn measure() {
    let messages: Vec<_> = (0..MESSAGES_MAX).map(|seed| message(seed, SIZES[0].0)).collect();
    for (size, name) in SIZES {
        println!("\nmessages of {name}");
        kernels(&messages, size);
    }
    println!("\n256 KiB of each at a time");
    lockstep(&messages);
}

fn message(seed: usize, length: usize) -> Bytes {
    let byte = |at: usize| (at.wrapping_mul(31) ^ at >> 8 ^ seed).to_le_bytes()[0];
    (0..length).map(byte).collect()
}

fn kernels(messages: &[Bytes], size: usize) {
    let mut table = Table::new();
    let one = &messages[0][..size];
    table.case("md-5 crate", || md5::Md5::digest(black_box(one)).len().max(size));
    let mut copy = vec![0; size];
    table.case("memcpy", move || {
        copy.copy_from_slice(black_box(one));
        black_box(&copy).len()
    });
    table.case("Hasher::update", || {
        let mut hasher = Hasher::new();
        hasher.update(black_box(one));
        black_box(hasher.finish());
        size
    });
    for width in VectorWidth::all_here() {
        let counts: &[_] =
            if width == VectorWidth::Scalar { &[2, 3, 4] } else { &[5, 8, 16, 24, 32] };
        for count in counts {
            let some: Vec<_> = messages[..*count].iter().map(|bytes| &bytes[..size]).collect();
            table.case(format!("{width:?}, {count} at once"), move || {
                black_box(digest_many(width, black_box(&some)));
                count * size
            });
        }
    }
    table.print();
}

fn lockstep(messages: &[Bytes]) {
    let mut table = Table::new();
    table.case("md-5 crate", || md5::Md5::digest(&messages[0]).len().max(messages[0].len()));
    for lanes in [1, 2, 4, 8, 16] {
        let readers = &messages[..lanes];
        table.case(format!("{lanes} parts, one thread"), move || in_lockstep(readers));
    }
    table.print();
}

/// A chunk of each, side by side.
fn in_lockstep(readers: &[Bytes]) -> usize {
    let mut hashers = vec![Hasher::new(); readers.len()];
    for at in (0..readers[0].len()).step_by(CHUNK) {
        let chunks = readers.iter().map(|bytes| &bytes[at..at + CHUNK]);
        advance(VectorWidth::best(), &mut hashers.iter_mut().zip(chunks).collect::<Vec<_>>());
    }
    black_box(hashers);
    readers.iter().map(Bytes::len).sum()
}

//! The processor's own words: the portable kernel, and the fastest for up to four messages.

use super::{Block, Job, SINES, words};

type Vector = u32;

kernel!(1 lanes, 1 2 3 or 4 groups);

use pass as enter;

fn add(a: u32, b: u32) -> u32 {
    a.wrapping_add(b)
}

fn splat(word: u32) -> u32 {
    word
}

fn rotate<const BY: u32, const REST: u32>(word: u32) -> u32 {
    word.rotate_left(BY)
}

fn f(sum: u32, b: u32, c: u32, d: u32) -> u32 {
    add(sum, d ^ (b & (c ^ d)))
}

/// The halves have no common bits: adding them lets one be computed before `b`.
fn g(sum: u32, b: u32, c: u32, d: u32) -> u32 {
    add(add(sum, c & !d), b & d)
}

fn h(sum: u32, b: u32, c: u32, d: u32) -> u32 {
    add(sum, b ^ (c ^ d))
}

fn i(sum: u32, b: u32, c: u32, d: u32) -> u32 {
    add(sum, c ^ (b | !d))
}

fn vector([word]: [u32; 1]) -> u32 {
    word
}

fn lanes(word: u32) -> [u32; 1] {
    [word]
}

fn columns([input]: &[&[Block]; 1], index: usize) -> [u32; 16] {
    words(&input[index])
}

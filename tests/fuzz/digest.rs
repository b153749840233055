//! Lanes against the md-5 crate, over any messages in any pieces.
//!
//! ```text
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz digest -- -max_total_time=300
//! ```
//! The module is taken from its sources, for the program around it would take minutes to build.

#![no_main]

use libfuzzer_sys::fuzz_target;
use md5::Digest;

use model::Md5;
use program::digest::{Hasher, VectorWidth, advance, digest_many};

#[path = "../../src"]
mod program {
    #[allow(dead_code, unused_imports, reason = "the rest of the program is not here")]
    pub mod digest;
    #[allow(dead_code, unused_imports, reason = "the rest of the program is not here")]
    #[path = "model/digest.rs"]
    pub mod words;
}

/// Where the module looks for its vocabulary.
mod model {
    pub use crate::program::words::Md5;
}

/// Messages under way at once, more than any pass has room for.
const MESSAGES: usize = 40;

/// One piece for each of the first messages: its bytes are the input's, from a place on.
fn pieces<'a>(lengths: &[u8], input: &'a [u8]) -> Vec<&'a [u8]> {
    let piece = |(index, length): (usize, &u8)| {
        let from = (index * 7).min(input.len());
        // Up to four blocks by the byte, and some of many blocks.
        let length = usize::from(*length) * if index % 5 == 0 { 16 } else { 1 };
        &input[from..input.len().min(from + length)]
    };
    lengths.iter().take(MESSAGES).enumerate().map(piece).collect()
}

fuzz_target!(|input: &[u8]| {
    let Some((first, input)) = input.split_first() else { return };
    let here = VectorWidth::all_here();
    let width = here[usize::from(*first) % here.len()];
    let mut hashers = vec![Hasher::new(); MESSAGES];
    let mut wholes = vec![Vec::new(); MESSAGES];
    let per_round = 1 + usize::from(first >> 2);
    for lengths in input.chunks(per_round).take(6) {
        let pieces = pieces(lengths, input);
        let jobs = hashers.iter_mut().zip(pieces.iter().copied());
        advance(width, &mut jobs.collect::<Vec<_>>());
        wholes.iter_mut().zip(pieces).for_each(|(whole, piece)| whole.extend_from_slice(piece));
    }
    let expected: Vec<_> = wholes.iter().map(|whole| Md5(md5::Md5::digest(whole).into())).collect();
    let finished: Vec<_> = hashers.into_iter().map(Hasher::finish).collect();
    assert_eq!(finished, expected, "in pieces, {width:?}");
    let messages: Vec<_> = wholes.iter().map(Vec::as_slice).collect();
    assert_eq!(digest_many(width, &messages), expected, "whole, {width:?}");
});

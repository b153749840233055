use std::collections::BTreeSet;

use md5::Digest;
use proptest::prelude::*;

use super::*;

/// Around every edge of a block, of the padding, and of a few blocks.
const LENGTHS: [usize; 24] = [
    0, 1, 7, 8, 9, 55, 56, 57, 63, 64, 65, 111, 119, 120, 121, 127, 128, 129, 191, 192, 193, 256,
    1_000, 4_096,
];

fn reference(bytes: &[u8]) -> Md5 {
    Md5(md5::Md5::digest(bytes).into())
}

/// Bytes that differ between messages and positions.
fn message(seed: usize, length: usize) -> Vec<u8> {
    let mut word = 0x9e37_79b9_7f4a_7c15_u64 ^ seed as u64;
    let mut next = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word.to_le_bytes()[3]
    };
    std::iter::repeat_with(&mut next).take(length).collect()
}

fn views(messages: &[Vec<u8>]) -> Vec<&[u8]> {
    messages.iter().map(Vec::as_slice).collect()
}

#[test]
fn digests_are_those_of_the_standard() {
    let known = [
        ("", "d41d8cd98f00b204e9800998ecf8427e"),
        ("a", "0cc175b9c0f1b6a831c399e269772661"),
        ("abc", "900150983cd24fb0d6963f7d28e17f72"),
        ("message digest", "f96b697d7cb7938d525a2f31aaf161d0"),
        ("abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"),
    ];
    let texts = known.map(|(text, _)| text.as_bytes());
    let digests = known.map(|(_, digest)| Md5::parse(digest).expect("a digest"));
    for width in VectorWidth::all_here() {
        assert_eq!(digest_many(width, &texts), digests, "{width:?}");
    }
}

#[test]
fn every_lane_of_every_kernel_is_right_beside_others() {
    for width in VectorWidth::all_here() {
        for count in 1..=width.room() {
            advances(count, |jobs| kernel::pass(width, jobs, 2), &format!("{width:?}"));
        }
    }
    advances(1, |jobs| kernel::scalar::step(jobs, 2), "the portable kernel");
}

/// Compares each of that many messages of three blocks with its state after two.
fn advances(count: usize, step: impl Fn(&mut [Job<'_>]), name: &str) {
    let messages: Vec<_> = (0..count).map(|index| message(index, 3 * BLOCK)).collect();
    let mut states = vec![START; count];
    let jobs = states.iter_mut().zip(&messages);
    let jobs = jobs.map(|(state, bytes)| Job { state, blocks: bytes.as_chunks().0 });
    step(&mut jobs.collect::<Vec<_>>());
    for (index, (state, bytes)) in states.iter().zip(&messages).enumerate() {
        let mut alone = START;
        md5::block_api::compress(&mut alone, &bytes.as_chunks().0[..2]);
        assert_eq!(*state, alone, "{name}, {index} of {count}");
    }
}

#[test]
fn every_edge_of_a_block_is_right_in_every_split() {
    for length in LENGTHS.into_iter().filter(|length| *length < 200) {
        let bytes = message(length, length);
        for split in 0..=length {
            let mut hasher = Hasher::new();
            hasher.update(&bytes[..split]);
            hasher.update(&bytes[split..]);
            assert_eq!(hasher.finish(), reference(&bytes), "{length} bytes split at {split}");
        }
    }
}

#[test]
fn many_messages_of_all_lengths_share_lanes() {
    let messages: Vec<_> =
        (0..3).flat_map(|seed| LENGTHS.map(|length| message(seed, length))).collect();
    let expected: Vec<_> = messages.iter().map(|bytes| reference(bytes)).collect();
    for width in VectorWidth::all_here() {
        assert_eq!(digest_many(width, &views(&messages)), expected, "{width:?}");
        assert_eq!(digest_many(width, &[]), []);
    }
}

#[test]
fn the_best_width_is_here_and_no_pass_is_wider() {
    let here: BTreeSet<_> = VectorWidth::all_here().into_iter().collect();
    assert!(here.contains(&VectorWidth::Scalar));
    assert_eq!(here.last(), Some(&VectorWidth::best()));
    for count in 1..100 {
        assert!(here.contains(&VectorWidth::Avx512.fit(count)), "{count} messages");
    }
}

#[test]
fn a_length_beyond_32_bits_counts() {
    let mut hasher = Hasher { length: 1 << 40, ..Hasher::new() };
    hasher.update(b"abc");
    let (end, count) = hasher.end();
    assert_eq!((count, end[0][3]), (1, 0x80));
    assert_eq!(end[0][56..], (((1_u64 << 40) + 3) * 8).to_le_bytes());
}

/// A message's length, which often lies at an edge.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![proptest::sample::select(LENGTHS.to_vec()), 0..700_usize]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_messages_have_their_digests(lengths in proptest::collection::vec(length(), 0..70)) {
        let messages: Vec<_> =
            lengths.iter().enumerate().map(|(seed, length)| message(seed, *length)).collect();
        let expected: Vec<_> = messages.iter().map(|bytes| reference(bytes)).collect();
        for width in VectorWidth::all_here() {
            prop_assert_eq!(digest_many(width, &views(&messages)), expected.clone(), "{:?}", width);
        }
    }

    #[test]
    fn any_split_and_any_company_is_the_same(
        rounds in proptest::collection::vec(proptest::collection::vec(length(), 1..40), 1..5),
    ) {
        let count = rounds.iter().map(Vec::len).max().unwrap_or(0);
        for width in VectorWidth::all_here() {
            let mut hashers = vec![Hasher::new(); count];
            let mut wholes = vec![Vec::new(); count];
            for (round, lengths) in rounds.iter().enumerate() {
                let pieces: Vec<_> = lengths.iter().map(|length| message(round, *length)).collect();
                let mut jobs: Vec<_> =
                    hashers.iter_mut().zip(pieces.iter().map(Vec::as_slice)).collect();
                advance(width, &mut jobs);
                for (whole, piece) in wholes.iter_mut().zip(&pieces) {
                    whole.extend_from_slice(piece);
                }
            }
            for (hasher, whole) in hashers.into_iter().zip(&wholes) {
                prop_assert_eq!(hasher.finish(), reference(whole), "{:?}", width);
            }
        }
    }
}

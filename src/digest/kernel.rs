//! The 64 steps of MD5, written once for every kind of register, and the choice of kernel.
//!
//! A kernel advances as many messages as its registers have lanes, in lockstep, by whole blocks.
//! Each step of MD5 waits for the one before it, so a register leaves most of the machine idle:
//! with more messages than lanes, two to four *groups* of them run the same steps interleaved. That
//! applies to single words as well, so the portable kernel takes four messages.
//!
//! Each kind of register defines what differs: how to add, rotate and mix, and how to load blocks
//! into registers that hold one word of each.

use super::{Block, VectorWidth};

/// A message and its remaining blocks.
pub(super) struct Job<'a> {
    pub(super) state: &'a mut [u32; 4],
    /// Remaining blocks.
    pub(super) blocks: &'a [Block],
}

/// Advances each job by `count` of its blocks; each has that many.
pub(super) fn step(width: VectorWidth, jobs: &mut [Job<'_>], count: usize) {
    let width = width.fit(jobs.len());
    for jobs in jobs.chunks_mut(width.room()) {
        pass(width, jobs, count);
        for job in jobs {
            job.blocks = &job.blocks[count..];
        }
    }
}

/// Advances one message by all blocks.
///
/// A build without optimisation uses the md-5 crate, which is optimised there too; otherwise its
/// tests would be slow.
pub(super) fn alone(state: &mut [u32; 4], blocks: &[Block]) {
    if cfg!(debug_assertions) {
        md5::block_api::compress(state, blocks);
    } else {
        scalar::step(&mut [Job { state, blocks }], blocks.len());
    }
}

/// One pass over at most as many jobs as the width has room for.
pub(super) fn pass(width: VectorWidth, jobs: &mut [Job<'_>], count: usize) {
    match width {
        #[cfg(target_arch = "x86_64")]
        VectorWidth::Sse2 => x86::sse2::step(jobs, count),
        #[cfg(target_arch = "x86_64")]
        VectorWidth::Avx2 => x86::avx2::step(jobs, count),
        #[cfg(target_arch = "x86_64")]
        VectorWidth::Avx512 => x86::avx512::step(jobs, count),
        #[cfg(not(target_arch = "x86_64"))]
        VectorWidth::Sse2 | VectorWidth::Avx2 | VectorWidth::Avx512 => scalar::step(jobs, count),
        VectorWidth::Scalar => match jobs {
            [job] => alone(job.state, &job.blocks[..count]),
            _ => scalar::step(jobs, count),
        },
    }
}

/// The integer part of 2^32 |sin(i)|, for `i` from 1 on (RFC 1321, 3.4).
const SINES: [u32; 64] = [
    0xd76a_a478,
    0xe8c7_b756,
    0x2420_70db,
    0xc1bd_ceee,
    0xf57c_0faf,
    0x4787_c62a,
    0xa830_4613,
    0xfd46_9501,
    0x6980_98d8,
    0x8b44_f7af,
    0xffff_5bb1,
    0x895c_d7be,
    0x6b90_1122,
    0xfd98_7193,
    0xa679_438e,
    0x49b4_0821,
    0xf61e_2562,
    0xc040_b340,
    0x265e_5a51,
    0xe9b6_c7aa,
    0xd62f_105d,
    0x0244_1453,
    0xd8a1_e681,
    0xe7d3_fbc8,
    0x21e1_cde6,
    0xc337_07d6,
    0xf4d5_0d87,
    0x455a_14ed,
    0xa9e3_e905,
    0xfcef_a3f8,
    0x676f_02d9,
    0x8d2a_4c8a,
    0xfffa_3942,
    0x8771_f681,
    0x6d9d_6122,
    0xfde5_380c,
    0xa4be_ea44,
    0x4bde_cfa9,
    0xf6bb_4b60,
    0xbebf_bc70,
    0x289b_7ec6,
    0xeaa1_27fa,
    0xd4ef_3085,
    0x0488_1d05,
    0xd9d4_d039,
    0xe6db_99e5,
    0x1fa2_7cf8,
    0xc4ac_5665,
    0xf429_2244,
    0x432a_ff97,
    0xab94_23a7,
    0xfc93_a039,
    0x655b_59c3,
    0x8f0c_cc92,
    0xffef_f47d,
    0x8584_5dd1,
    0x6fa8_7e4f,
    0xfe2c_e6e0,
    0xa301_4314,
    0x4e08_11a1,
    0xf753_7e82,
    0xbd3a_f235,
    0x2ad7_d2bb,
    0xeb86_d391,
];

/// One step of each group. The word and the sine do not depend on the step before, so they come first.
macro_rules! one {
    ($words:ident $sines:ident $mix:ident $a:ident $b:ident $c:ident $d:ident
     $word:expr, $at:expr, $by:literal) => {
        for (group, words) in $words.iter().enumerate() {
            let (b, c, d) = ($b[group], $c[group], $d[group]);
            let known = add($a[group], add(words[const { $word % 16 }], splat($sines[$at])));
            $a[group] = add(rotate::<$by, { 32 - $by }>($mix(known, b, c, d)), b);
        }
    };
}

/// Four steps from the `$at`-th on, after which the state's words are in their places again. The
/// `i`-th step uses the block's word `$times * i + $plus`, modulo 16.
macro_rules! four {
    ($words:ident $sines:ident $a:ident $b:ident $c:ident $d:ident
     $mix:ident, $at:literal, $times:literal i + $plus:literal,
     $one:literal $two:literal $three:literal $four:literal) => {
        one!($words $sines $mix $a $b $c $d $times * $at + $plus, $at, $one);
        one!($words $sines $mix $d $a $b $c $times * ($at + 1) + $plus, $at + 1, $two);
        one!($words $sines $mix $c $d $a $b $times * ($at + 2) + $plus, $at + 2, $three);
        one!($words $sines $mix $b $c $d $a $times * ($at + 3) + $plus, $at + 3, $four);
    };
}

/// Defines `compress` over `Vector` from `add`, `splat`, `rotate`, `f`, `g`, `h` and `i` in scope.
/// Each of the last four adds a round's function of three words to a sum.
macro_rules! compress {
    ($($feature:literal)?) => {
        /// Processes one block of each lane of each group.
        #[inline]
        $(#[target_feature(enable = $feature)])?
        fn compress<const GROUPS: usize>(
            state: &mut [[Vector; GROUPS]; 4],
            words: &[[Vector; 16]; GROUPS],
            sines: &[u32; 64],
        ) {
            let [mut a, mut b, mut c, mut d] = *state;
            four!(words sines a b c d f, 0, 1 i + 0, 7 12 17 22);
            four!(words sines a b c d f, 4, 1 i + 0, 7 12 17 22);
            four!(words sines a b c d f, 8, 1 i + 0, 7 12 17 22);
            four!(words sines a b c d f, 12, 1 i + 0, 7 12 17 22);
            four!(words sines a b c d g, 16, 5 i + 1, 5 9 14 20);
            four!(words sines a b c d g, 20, 5 i + 1, 5 9 14 20);
            four!(words sines a b c d g, 24, 5 i + 1, 5 9 14 20);
            four!(words sines a b c d g, 28, 5 i + 1, 5 9 14 20);
            four!(words sines a b c d h, 32, 3 i + 5, 4 11 16 23);
            four!(words sines a b c d h, 36, 3 i + 5, 4 11 16 23);
            four!(words sines a b c d h, 40, 3 i + 5, 4 11 16 23);
            four!(words sines a b c d h, 44, 3 i + 5, 4 11 16 23);
            four!(words sines a b c d i, 48, 7 i + 0, 6 10 15 21);
            four!(words sines a b c d i, 52, 7 i + 0, 6 10 15 21);
            four!(words sines a b c d i, 56, 7 i + 0, 6 10 15 21);
            four!(words sines a b c d i, 60, 7 i + 0, 6 10 15 21);
            for (to, more) in state.iter_mut().zip([a, b, c, d]) {
                for (to, more) in to.iter_mut().zip(more) {
                    *to = add(*to, more);
                }
            }
        }
    };
}

/// Defines `step`, for groups of `$lanes` each up to `$most` groups, from `vector`, `lanes`,
/// `columns`, `enter` and the requirements of `compress!`.
macro_rules! kernel {
    ($lanes:literal lanes, $($fewer:literal)* or $most:literal groups $(, $feature:literal)?) => {
        const LANES: usize = $lanes;
        /// Messages in one pass.
        pub(crate) const ROOM: usize = $most * LANES;

        compress!($($feature)?);

        /// Processes `count` blocks of each lane; the states have a word in each row.
        $(#[target_feature(enable = $feature)])?
        fn pass<const GROUPS: usize>(
            states: &mut [[[u32; LANES]; GROUPS]; 4],
            inputs: &[[&[Block]; LANES]; GROUPS],
            count: usize,
        ) {
            let mut state = states.map(|row| row.map(vector));
            let mut words = [[splat(0); 16]; GROUPS];
            // As immediates they would be added by an instruction with three operands, and longer
            // code; more groups hide that, and lack the registers.
            let sines = if GROUPS == 1 { std::hint::black_box(&SINES) } else { &SINES };
            for index in 0..count {
                for (to, from) in words.iter_mut().zip(inputs) {
                    *to = columns(from, index);
                }
                compress(&mut state, &words, sines);
            }
            *states = state.map(|row| row.map(lanes));
        }

        /// Lanes without a job repeat the first one's, and their results are ignored.
        fn groups<const GROUPS: usize>(jobs: &mut [Job<'_>], count: usize) {
            let Some(first) = jobs.first() else { return };
            let mut inputs = [[&first.blocks[..count]; LANES]; GROUPS];
            let mut states = [[[0; LANES]; GROUPS]; 4];
            for (index, job) in jobs.iter().enumerate() {
                inputs.as_flattened_mut()[index] = &job.blocks[..count];
                for (row, word) in states.iter_mut().zip(*job.state) {
                    row.as_flattened_mut()[index] = word;
                }
            }
            enter(&mut states, &inputs, count);
            for (index, job) in jobs.iter_mut().enumerate() {
                *job.state = states.map(|row| row.as_flattened()[index]);
            }
        }

        /// Advances each job, of which there are at most `ROOM`, by `count` blocks.
        pub(crate) fn step(jobs: &mut [Job<'_>], count: usize) {
            match jobs.len().div_ceil(LANES) {
                0 => {}
                $($fewer => groups::<$fewer>(jobs, count),)*
                _ => groups::<$most>(jobs, count),
            }
        }
    };
}

pub(super) mod scalar;
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "vector registers are out of reach without")]
mod x86;

pub(super) use scalar::ROOM as SCALAR_ROOM;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{
    avx2::ROOM as AVX2_ROOM, avx512::ROOM as AVX512_ROOM, sse2::ROOM as SSE2_ROOM,
};

#[inline]
fn words(block: &Block) -> [u32; 16] {
    let (words, _) = block.as_chunks();
    let mut out = [0; 16];
    for (to, word) in out.iter_mut().zip(words) {
        *to = u32::from_le_bytes(*word);
    }
    out
}

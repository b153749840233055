//! SSE2, AVX2 and AVX-512.
//!
//! Equivalent intrinsics for registers of different widths have one name here, so that the code
//! over them is written once.

use super::{Block, Job, SINES, words};

/// Defines the requirements of `kernel!` that need `unsafe`: moving words between arrays and
/// registers, and calling code with the instructions.
macro_rules! register {
    ($feature:tt) => {
        /// A register of words, the first in the lowest lane.
        #[inline]
        fn vector(words: [u32; LANES]) -> Vector {
            // SAFETY: both are `LANES` plain words, and any bits are a value of either.
            unsafe { std::mem::transmute::<[u32; LANES], Vector>(words) }
        }

        /// The words of a register.
        #[inline]
        fn lanes(vector: Vector) -> [u32; LANES] {
            // SAFETY: both are `LANES` plain words, and any bits are a value of either.
            unsafe { std::mem::transmute::<Vector, [u32; LANES]>(vector) }
        }

        fn enter<const GROUPS: usize>(
            states: &mut [[[u32; LANES]; GROUPS]; 4],
            inputs: &[[&[Block]; LANES]; GROUPS],
            count: usize,
        ) {
            assert!(is_x86_feature_detected!($feature), "a width that is not here was narrowed");
            // SAFETY: the machine has the instructions.
            unsafe { pass(states, inputs, count) };
        }

        /// Transposes each 128-bit lane of four rows, a square of four by four words.
        #[inline]
        #[target_feature(enable = $feature)]
        fn squares(rows: [Vector; 4]) -> [Vector; 4] {
            let low = (low_words(rows[0], rows[1]), low_words(rows[2], rows[3]));
            let high = (high_words(rows[0], rows[1]), high_words(rows[2], rows[3]));
            [
                low_pairs(low.0, low.1),
                high_pairs(low.0, low.1),
                low_pairs(high.0, high.1),
                high_pairs(high.0, high.1),
            ]
        }
    };
}

/// Defines the requirements of `compress!` where there is neither a rotation nor a function of
/// three words.
macro_rules! two_operands {
    ($feature:literal) => {
        #[inline]
        #[target_feature(enable = $feature)]
        fn splat(word: u32) -> Vector {
            fill(word.cast_signed())
        }

        #[inline]
        #[target_feature(enable = $feature)]
        fn rotate<const BY: i32, const REST: i32>(word: Vector) -> Vector {
            or(left::<BY>(word), right::<REST>(word))
        }

        #[inline]
        #[target_feature(enable = $feature)]
        fn f(sum: Vector, b: Vector, c: Vector, d: Vector) -> Vector {
            add(sum, xor(d, and(b, xor(c, d))))
        }

        /// The halves have no common bits: adding them lets one be computed before `b`.
        #[inline]
        #[target_feature(enable = $feature)]
        fn g(sum: Vector, b: Vector, c: Vector, d: Vector) -> Vector {
            add(add(sum, and_not(d, c)), and(b, d))
        }

        #[inline]
        #[target_feature(enable = $feature)]
        fn h(sum: Vector, b: Vector, c: Vector, d: Vector) -> Vector {
            add(sum, xor(b, xor(c, d)))
        }

        #[inline]
        #[target_feature(enable = $feature)]
        fn i(sum: Vector, b: Vector, c: Vector, d: Vector) -> Vector {
            add(sum, xor(c, or(b, xor(d, splat(u32::MAX)))))
        }
    };
}

pub(super) mod sse2 {
    use std::arch::x86_64::{
        __m128i as Vector, _mm_add_epi32 as add, _mm_and_si128 as and, _mm_andnot_si128 as and_not,
        _mm_or_si128 as or, _mm_set1_epi32 as fill, _mm_slli_epi32 as left,
        _mm_srli_epi32 as right, _mm_unpackhi_epi32 as high_words,
        _mm_unpackhi_epi64 as high_pairs, _mm_unpacklo_epi32 as low_words,
        _mm_unpacklo_epi64 as low_pairs, _mm_xor_si128 as xor,
    };

    use super::{Block, Job, SINES, words};

    kernel!(4 lanes, 1 2 or 3 groups, "sse2");
    register!("sse2");
    two_operands!("sse2");

    /// Returns the 16 words of the next blocks, each of all lanes.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn columns(inputs: &[&[Block]; LANES], index: usize) -> [Vector; 16] {
        let rows = inputs.map(|input| quarters(words(&input[index])));
        let mut columns = [splat(0); 16];
        for (quarter, columns) in columns.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *columns = squares(rows.map(|row| row[quarter]));
        }
        columns
    }

    #[inline]
    fn quarters(words: [u32; 16]) -> [Vector; 4] {
        let (quarters, _) = words.as_chunks();
        [quarters[0], quarters[1], quarters[2], quarters[3]].map(vector)
    }
}

pub(super) mod avx2 {
    use std::arch::x86_64::{
        __m256i as Vector, _mm256_add_epi32 as add, _mm256_and_si256 as and,
        _mm256_andnot_si256 as and_not, _mm256_or_si256 as or, _mm256_permute2x128_si256 as halves,
        _mm256_set1_epi32 as fill, _mm256_slli_epi32 as left, _mm256_srli_epi32 as right,
        _mm256_unpackhi_epi32 as high_words, _mm256_unpackhi_epi64 as high_pairs,
        _mm256_unpacklo_epi32 as low_words, _mm256_unpacklo_epi64 as low_pairs,
        _mm256_xor_si256 as xor,
    };

    use super::{Block, Job, SINES, words};

    kernel!(8 lanes, 1 2 or 3 groups, "avx2");
    register!("avx2");
    two_operands!("avx2");

    /// Returns the 16 words of the next blocks, each of all lanes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn columns(inputs: &[&[Block]; LANES], index: usize) -> [Vector; 16] {
        let rows = inputs.map(|input| ends(words(&input[index])));
        let mut columns = [splat(0); 16];
        for (half, columns) in columns.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let row = |lane: usize| rows[lane][half];
            let above = squares([row(0), row(1), row(2), row(3)]);
            let below = squares([row(4), row(5), row(6), row(7)]);
            for at in 0..4 {
                columns[at] = halves::<0x20>(above[at], below[at]);
                columns[at + 4] = halves::<0x31>(above[at], below[at]);
            }
        }
        columns
    }

    #[inline]
    fn ends(words: [u32; 16]) -> [Vector; 2] {
        let (ends, _) = words.as_chunks();
        [ends[0], ends[1]].map(vector)
    }
}

pub(super) mod avx512 {
    use std::arch::x86_64::{
        __m512i as Vector, _mm512_add_epi32 as add, _mm512_rol_epi32, _mm512_set1_epi32,
        _mm512_shuffle_i32x4 as quarters, _mm512_ternarylogic_epi32 as look_up,
        _mm512_unpackhi_epi32 as high_words, _mm512_unpackhi_epi64 as high_pairs,
        _mm512_unpacklo_epi32 as low_words, _mm512_unpacklo_epi64 as low_pairs,
    };

    use super::{Block, Job, SINES, words};

    kernel!(16 lanes, 1 or 2 groups, "avx512f");
    register!("avx512f");

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn splat(word: u32) -> Vector {
        _mm512_set1_epi32(word.cast_signed())
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn rotate<const BY: i32, const REST: i32>(word: Vector) -> Vector {
        _mm512_rol_epi32::<BY>(word)
    }

    // The tables are the functions' values for `b`, `c`, `d` from 111 down to 000.

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn f(sum: Vector, b: Vector, c: Vector, d: Vector) -> Vector {
        add(sum, look_up::<0b1100_1010>(b, c, d))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn g(sum: Vector, b: Vector, c: Vector, d: Vector) -> Vector {
        add(sum, look_up::<0b1110_0100>(b, c, d))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn h(sum: Vector, b: Vector, c: Vector, d: Vector) -> Vector {
        add(sum, look_up::<0b1001_0110>(b, c, d))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn i(sum: Vector, b: Vector, c: Vector, d: Vector) -> Vector {
        add(sum, look_up::<0b0011_1001>(b, c, d))
    }

    /// Returns the 16 words of the next blocks, each of all lanes.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn columns(inputs: &[&[Block]; LANES], index: usize) -> [Vector; 16] {
        let row = |lane: usize| vector(words(&inputs[lane][index]));
        let rows = |from| squares([row(from), row(from + 1), row(from + 2), row(from + 3)]);
        let rows = [rows(0), rows(4), rows(8), rows(12)];
        let mut columns = [splat(0); 16];
        for at in 0..4 {
            let [first, second, third, fourth] = rows.map(|row| row[at]);
            let even = (quarters::<0x88>(first, second), quarters::<0x88>(third, fourth));
            let odd = (quarters::<0xdd>(first, second), quarters::<0xdd>(third, fourth));
            columns[at] = quarters::<0x88>(even.0, even.1);
            columns[at + 4] = quarters::<0x88>(odd.0, odd.1);
            columns[at + 8] = quarters::<0xdd>(even.0, even.1);
            columns[at + 12] = quarters::<0xdd>(odd.0, odd.1);
        }
        columns
    }
}

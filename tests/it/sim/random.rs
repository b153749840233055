//! Repeatable chance: splitmix64.

#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("below a usize")
    }

    /// Returns true `count` times in a thousand.
    pub(super) fn per_mille(&mut self, count: usize) -> bool {
        self.below(1000) < count
    }

    pub(super) fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Returns `length` bytes of content.
    pub(super) fn content(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| b'a' + u8::try_from(self.below(26)).expect("a letter")).collect()
    }
}

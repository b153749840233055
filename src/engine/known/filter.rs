//! A set of numbers that never misses a member, and takes one in a hundred others for a member.
//!
//! Layers of bits, each for twice as many numbers as the one before, so that it grows without a
//! known maximum.

/// Capacity of the first layer.
const FIRST: usize = 4096;
/// Bits for each number, and how many of them it sets: with these a full layer is wrong about one
/// number in three hundred.
const BITS: usize = 12;
const PROBES: u64 = 8;

#[derive(Debug, Default)]
pub(crate) struct BloomFilter {
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    words: Vec<u64>,
    room: usize,
}

impl BloomFilter {
    pub(crate) fn insert(&mut self, number: u64) {
        if self.contains(number) {
            return;
        }
        if self.layers.last().is_none_or(|layer| layer.room == 0) {
            let room = FIRST << self.layers.len();
            self.layers.push(Layer { words: vec![0; room * BITS / 64], room });
        }
        let Some(layer) = self.layers.last_mut() else { return };
        layer.room -= 1;
        for (index, bit) in layer.bits(number) {
            layer.words[index] |= bit;
        }
    }

    pub(crate) fn contains(&self, number: u64) -> bool {
        let is_in =
            |layer: &Layer| layer.bits(number).all(|(index, bit)| layer.words[index] & bit != 0);
        self.layers.iter().any(is_in)
    }
}

impl Layer {
    /// Returns the words and bits of a number.
    fn bits(&self, number: u64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let size = self.words.len() as u64 * 64;
        let (first, step) = (mixed(number), mixed(number ^ u64::MAX) | 1);
        (0..PROBES).map(move |probe| {
            let place = first.wrapping_add(step.wrapping_mul(probe)) % size;
            (usize::try_from(place / 64).unwrap_or(0), 1 << (place % 64))
        })
    }
}

/// Spreads a number over all bits, as `splitmix64` does.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_known_and_little_else() {
        let mut filter = BloomFilter::default();
        (0..50_000).for_each(|number| filter.insert(number));
        assert!((0..50_000).all(|number| filter.contains(number)));
        let wrong = (50_000..150_000).filter(|number| filter.contains(*number)).count();
        assert!(wrong < 2_000, "{wrong} of 100 000 are wrong");
        let bytes: usize = filter.layers.iter().map(|layer| layer.words.len() * 8).sum();
        assert!(bytes < 200_000, "{bytes} bytes");
    }
}

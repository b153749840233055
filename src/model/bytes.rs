//! Quantities of bytes, and the numbers of parts.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};

use serde::{Deserialize, Serialize};

/// A count of bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct ByteCount(pub u64);

impl ByteCount {
    /// The longest file that is accepted: 1 PiB. The sum of thousands of them still fits a database integer.
    pub const FILE_MAX: Self = Self(1 << 50);

    /// Returns the length of a file, unless it is longer than any file may be.
    pub fn of_file(bytes: u64) -> Option<Self> {
        Some(Self(bytes)).filter(|size| *size <= Self::FILE_MAX)
    }
}

impl fmt::Display for ByteCount {
    /// Writes the count in binary units with at most one decimal: `0 B`, `64 MiB`, `1.5 GiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut unit = 0;
        let mut size = u128::from(self.0) * 10 / 1024;
        while size >= 10_240 && unit + 1 < UNITS.len() {
            size /= 1024;
            unit += 1;
        }
        match size % 10 {
            0 => write!(f, "{} {}", size / 10, UNITS[unit]),
            tenth => write!(f, "{}.{tenth} {}", size / 10, UNITS[unit]),
        }
    }
}

/// A range of bytes inside a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    /// First byte, counted from the start of the file.
    pub offset: u64,
    pub length: u64,
}

/// The length of every part but the last, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartSize(NonZeroU64);

impl PartSize {
    /// The largest file of most platforms, 5 TiB, in one part.
    const MAX: u64 = 5 << 40;

    /// Returns a part size, unless `bytes` is zero or more than the largest part.
    pub fn new(bytes: u64) -> Option<Self> {
        NonZeroU64::new(bytes).filter(|bytes| bytes.get() <= Self::MAX).map(Self)
    }

    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// Returns how many parts a file of `size` has: at least one, because an empty file is one
    /// empty part. `None` when the count does not fit a part number.
    pub fn count_for(self, size: ByteCount) -> Option<u32> {
        u32::try_from(size.0.div_ceil(self.get()).max(1)).ok()
    }

    pub fn range_of(self, number: PartNumber, size: ByteCount) -> ByteRange {
        let offset = u64::from(number.get() - 1).saturating_mul(self.get()).min(size.0);
        ByteRange { offset, length: self.get().min(size.0 - offset) }
    }
}

/// The number of a part in its upload, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartNumber(NonZeroU32);

impl PartNumber {
    /// A hundred times as many as any platform accepts.
    const MAX: u32 = 1_000_000;

    /// Returns a part number, unless `number` is zero or above the limit.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).filter(|number| number.get() <= Self::MAX).map(Self)
    }

    /// Returns the number of the part at `index`, counted from 0.
    pub fn from_index(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("part counts are bounded by PartLimits::count_max, a u32"))
    }

    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// Returns the position in a list of all parts, counted from 0.
    pub fn index(self) -> usize {
        self.get() as usize - 1
    }
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The limits that a platform sets for part plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartLimits {
    /// Smallest part, the last excepted.
    pub size_min: ByteCount,
    pub size_max: ByteCount,
    /// The largest number of parts in one upload.
    pub count_max: u32,
    pub file_max: ByteCount,
    /// The longest path at the destination: its folders and its name.
    pub path_max: ByteCount,
}

/// Space on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Bytes that we may use.
    pub free: ByteCount,
    pub total: ByteCount,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_numbers_are_refused() {
        let five_tib = 5 * 1024 * 1024 * 1024 * 1024;
        for bytes in [1, five_tib] {
            assert_eq!(PartSize::new(bytes).map(PartSize::get), Some(bytes));
        }
        for bytes in [0, five_tib + 1, 1 << 62, 1 << 63, u64::MAX] {
            assert_eq!(PartSize::new(bytes), None, "{bytes}");
        }
        for (number, is_one) in [(0, false), (1, true), (10_000, true), (u32::MAX, false)] {
            assert_eq!(PartNumber::new(number).is_some(), is_one, "{number}");
        }
        assert_eq!(ByteCount::of_file(five_tib), Some(ByteCount(five_tib)));
        assert_eq!(ByteCount::of_file(1 << 63), None);
    }
}

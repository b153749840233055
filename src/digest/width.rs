//! How many messages one pass advances.

/// The instructions that a pass is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Width {
    /// One message; every machine has it.
    Scalar,
    /// Four messages.
    Sse2,
    /// Eight messages.
    Avx2,
    /// Sixteen messages.
    Avx512,
}

impl Width {
    /// Messages that one pass advances.
    pub const fn lanes(self) -> usize {
        match self {
            Self::Scalar => 1,
            Self::Sse2 => 4,
            Self::Avx2 => 8,
            Self::Avx512 => 16,
        }
    }

    /// The widest that this machine has.
    pub fn best() -> Self {
        Self::Scalar
    }

    /// All that this machine has, from narrow to wide.
    pub fn all_here() -> Vec<Self> {
        vec![Self::Scalar]
    }
}

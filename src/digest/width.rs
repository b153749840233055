//! The number of messages in one pass.

use super::kernel;

/// The instructions of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VectorWidth {
    /// One message; available on every machine.
    Scalar,
    Sse2,
    Avx2,
    Avx512,
}

impl VectorWidth {
    /// Messages that one pass advances.
    pub const fn lanes(self) -> usize {
        match self {
            Self::Scalar => 1,
            Self::Sse2 => 4,
            Self::Avx2 => 8,
            Self::Avx512 => 16,
        }
    }

    /// Most messages in one pass: as many lanes as keep the machine busy.
    pub(super) const fn room(self) -> usize {
        match self {
            Self::Scalar => kernel::SCALAR_ROOM,
            #[cfg(target_arch = "x86_64")]
            Self::Sse2 => kernel::SSE2_ROOM,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => kernel::AVX2_ROOM,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => kernel::AVX512_ROOM,
            #[cfg(not(target_arch = "x86_64"))]
            Self::Sse2 | Self::Avx2 | Self::Avx512 => kernel::SCALAR_ROOM,
        }
    }

    /// Returns the fastest width for that many messages that is available and not wider than this one.
    ///
    /// A step takes longer on a vector than on a word, so for a few messages words are faster.
    pub(super) fn fit(self, messages: usize) -> Self {
        if messages <= kernel::SCALAR_ROOM { Self::Scalar } else { self.min(Self::best()) }
    }

    /// Returns the widest one of this machine.
    pub fn best() -> Self {
        Self::all_here().pop().unwrap_or(Self::Scalar)
    }

    /// Returns all of this machine, from narrow to wide.
    pub fn all_here() -> Vec<Self> {
        let all = [Self::Scalar, Self::Sse2, Self::Avx2, Self::Avx512];
        all.into_iter().filter(|width| width.is_here()).collect()
    }

    #[cfg(target_arch = "x86_64")]
    fn is_here(self) -> bool {
        match self {
            Self::Scalar => true,
            Self::Sse2 => is_x86_feature_detected!("sse2"),
            Self::Avx2 => is_x86_feature_detected!("avx2"),
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn is_here(self) -> bool {
        self == Self::Scalar
    }
}

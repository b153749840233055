//! Values that take no memory before they are written to.
//!
//! A drop directory may hold hundreds of thousands of files, and almost all of their uploads are
//! queued. Such an upload is its admission; its other state is [`Sparse`] and takes memory only
//! once it differs from the initial state.

use std::ops::{Deref, DerefMut};

/// The initial state of a value.
pub(crate) trait AtStart: Clone + 'static {
    /// Returns it; one for all.
    fn at_start() -> &'static Self;
}

/// A value that takes memory only once it is written to; until then it reads as the initial state.
#[derive(Debug)]
pub(crate) struct Sparse<T>(Option<Box<T>>);

impl<T> Sparse<T> {
    /// Returns one that has the initial state.
    pub(crate) fn empty() -> Self {
        Self(None)
    }
}

impl<T: AtStart + PartialEq> From<T> for Sparse<T> {
    fn from(value: T) -> Self {
        Self((value != *T::at_start()).then(|| Box::new(value)))
    }
}

impl<T: AtStart> Deref for Sparse<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or_else(|| T::at_start())
    }
}

impl<T: AtStart> DerefMut for Sparse<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_with(|| Box::new(T::at_start().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queued_upload_is_small() {
        // Includes the admission, with provenance and target.
        assert_eq!(size_of::<crate::engine::transfers::Upload>(), 248);
    }

    #[derive(Debug, Clone, PartialEq)]
    struct Count(u32);

    impl AtStart for Count {
        fn at_start() -> &'static Self {
            &Self(1)
        }
    }

    #[test]
    fn what_is_sparse_takes_no_room_before_it_is_written_to() {
        let mut count = Sparse::from(Count(1));
        assert_eq!((&*count, count.0.is_none()), (&Count(1), true));
        count.deref_mut().0 += 1;
        assert_eq!((&*count, count.0.is_some()), (&Count(2), true));
        assert!(Sparse::from(Count(3)).0.is_some());
    }
}

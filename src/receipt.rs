//! receipt: being built.

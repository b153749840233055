//! fake: being built.

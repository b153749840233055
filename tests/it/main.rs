//! The integration tests: one binary, so that it is linked once.

mod kill;
mod sim;
mod stage;
mod tidy;

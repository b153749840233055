//! The integration tests: one binary, so that it is linked once.

mod daemon;
mod exports;
mod kill;
mod others;
mod sim;
mod stage;
mod tidy;

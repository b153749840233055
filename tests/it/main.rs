//! The integration tests: one binary, so that it is linked once.

mod conformance;
mod daemon;
mod destinations;
mod exports;
mod kill;
mod others;
mod platforms;
mod scale;
mod sim;
mod stage;
mod tidy;

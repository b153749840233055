//! The integration tests: one binary, so that it is linked once.

mod care;
mod conformance;
mod daemon;
mod destinations;
mod exports;
mod fuse;
mod halfway;
mod identity;
mod journal;
mod kill;
mod moved;
mod notify;
mod orders;
mod others;
mod platforms;
mod runs;
mod scale;
mod sequencer;
mod shares;
mod sim;
mod stage;
mod tidy;
mod units;
mod witness;

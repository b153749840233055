//! The integration tests: one binary, so that it is linked once.

mod conformance;
mod daemon;
mod destinations;
mod docs;
mod exports;
mod fuse;
mod halfway;
mod handed;
mod identity;
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
mod web;
mod witness;

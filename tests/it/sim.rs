//! The simulation: the engine and the real SQLite file against a platform and a drop directory in
//! memory, with a clock that only moves when the world says so.
//!
//! One thread; what happens next is chosen by a seed that is printed on failure: an act that is
//! pending, or the commit of what waits for the disk. Nothing the engine decided is durable before
//! its commit was chosen, so acts may overtake commits here as they do in the daemon.
//!
//! A crash is an image: a copy of what survives (the files, the far side, the database with its
//! log, receipts) and of nothing else, taken between two effects. What is decided in memory leaves
//! no trace, so a crash before an effect leaves what a crash after the one before it leaves, and an
//! image after each effect is every crash point. What must hold afterwards is in `check`.

mod acts;
mod again;
mod away;
mod batching;
mod check;
mod clock;
mod crashes;
mod exports;
mod loading;
mod notices;
mod orders;
mod places;
mod random;
mod receipts;
mod reloads;
mod runs;
mod scenarios;
mod script;
mod seeds;
mod shrink;
mod story;
mod touched;
mod twin;
mod unstored;
mod versions;
mod widths;
mod world;

//! The simulation: the engine and the real SQLite file against a platform and a drop directory in
//! memory, with a clock that only moves when the world moves it.
//!
//! There is one thread; a seed, which is printed on failure, chooses what happens next: a pending
//! act, or the commit of what waits for the disk. Nothing that the engine decided is durable before
//! its commit was chosen, so acts may overtake commits here as they do in the daemon.
//!
//! A crash is an image: a copy of what survives (the files, the platform, the database with its
//! log, receipts) and of nothing else, taken between two effects. Decisions in memory leave no
//! trace, so a crash before an effect leaves the same as a crash after the effect before it, and
//! the images after each effect cover every crash point. What must hold afterwards is in `check`.

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

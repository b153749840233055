//! The simulation: the engine and the real SQLite file against a platform and a drop directory in
//! memory, with a clock that only moves when nothing else can happen.
//!
//! One thread; the order of outcomes is chosen by a seed that is printed on failure. A crash drops
//! everything but the far side, the files and what was committed; then everything is opened again
//! and runs until it is quiet. What must hold afterwards is in `check`.

mod check;
mod crashes;
mod scenarios;
mod world;

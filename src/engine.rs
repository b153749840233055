//! The engine: decides what to do next, purely. (Being built.)
pub mod event;
pub mod settings;
